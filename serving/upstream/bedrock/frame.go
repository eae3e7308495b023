package bedrock

import (
	"bufio"
	"errors"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// This file reads Amazon's event stream, which is framed in binary. The SDK's decoder checks the sums; the limit is ours,
// because a frame that gives a wrong length would make it read on without end.

// frames reads one answer's frames.
type frames struct {
	r       *bufio.Reader
	decoder *eventstream.Decoder
	buf     []byte
	// max is the limit of a frame, left what of it is not read yet, and err what the connection ended with.
	max, left int
	err       error
}

func newFrames(r io.Reader, limit int) *frames {
	return &frames{r: bufio.NewReader(r), decoder: eventstream.NewDecoder(), max: limit}
}

var errFrameTooLarge = errors.New("bedrock: a frame is too large")

// Read implements io.Reader for the decoder: one frame's bytes, up to the limit.
func (f *frames) Read(p []byte) (int, error) {
	if f.left <= 0 {
		f.err = errFrameTooLarge
		return 0, f.err
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	if err != nil {
		f.err = err
	}
	return n, err
}

// frame is one message of the stream. Its payload is valid until the next is read.
type frame struct {
	// kind is event, exception or error, and name what of that it is.
	kind, name string
	message    string
	payload    []byte
}

// next reads a frame. It returns io.EOF where the connection ended between two frames, and otherwise an *upstream.Error.
func (f *frames) next() (frame, error) {
	f.left, f.err = f.max, nil
	m, err := f.decoder.Decode(f, f.buf[:0])
	switch {
	case err == nil:
	case f.err == io.EOF && f.left == f.max:
		return frame{}, io.EOF
	case f.err == errFrameTooLarge:
		return frame{}, httpclient.BadAnswer("an event has more than %d bytes", f.max)
	case f.err == io.EOF:
		return frame{}, httpclient.Broken(io.ErrUnexpectedEOF)
	case f.err != nil:
		return frame{}, httpclient.Broken(f.err)
	default:
		return frame{}, httpclient.BadAnswer("an event is not one of Amazon's event streams")
	}
	f.buf = m.Payload
	out := frame{kind: header(&m, ":message-type"), payload: m.Payload}
	switch out.kind {
	case "event":
		out.name = header(&m, ":event-type")
	case "exception":
		out.name = header(&m, ":exception-type")
	case "error":
		out.name, out.message = header(&m, ":error-code"), header(&m, ":error-message")
	}
	return out, nil
}

func header(m *eventstream.Message, name string) string {
	if v, ok := m.Headers.Get(name).(eventstream.StringValue); ok {
		return string(v)
	}
	return ""
}
