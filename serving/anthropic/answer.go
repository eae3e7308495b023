package anthropic

import (
	"strconv"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Writer writes one answer, whose events are of this dialect, for a client: the model that answered, what it cost, and
// the decision where it was asked for. The zero value needs Served.
type Writer struct {
	// Served is the arm that answers; it replaces the model.
	Served catalog.ArmID
	// RequestID stands in an error at the end.
	RequestID string

	// last is the message_delta that is held back until the cost is known.
	last openai.Value
}

// AppendWhole appends the body of an answer that is not streamed.
func (w *Writer) AppendWhole(dst []byte, c *openai.Chunk, f openai.Final) ([]byte, error) {
	fields, err := object(c.Data)
	if err != nil {
		return nil, err
	}
	v, err := openai.ParseValue(c.Data, openai.DecodeOptions{BodyMax: len(c.Data)})
	if err != nil {
		return nil, err
	}
	body := openai.AppendReplaced(nil, v, "model", openai.AppendText(nil, string(w.Served)))
	body = openai.AppendReplaced(nil, body, "usage", openai.AppendUsage(nil, fields.Get("usage"), f, appendCounts))
	if f.Explain != nil {
		body = openai.AppendReplaced(nil, body, "tradewind", f.Explain)
	}
	return append(dst, body...), nil
}

// AppendEvent appends what the client gets for one event, nothing where it must wait for the end.
func (w *Writer) AppendEvent(dst []byte, c *openai.Chunk) []byte {
	switch c.Name {
	case "message_start":
		fields, err := object(c.Data)
		if err != nil {
			return dst
		}
		message := openai.AppendReplaced(nil, fields.Get("message"), "model", openai.AppendText(nil, string(w.Served)))
		return openai.AppendNamed(dst, c.Name, openai.AppendReplaced(nil, c.Data, "message", message))
	case "message_delta":
		if w.last != nil {
			dst = openai.AppendNamed(dst, c.Name, w.last)
		}
		w.last = append(openai.Value(nil), c.Data...)
		return dst
	case "message_stop":
		return dst
	}
	return openai.AppendNamed(dst, c.Name, c.Data)
}

// AppendEnd appends the end of a stream: its usage with the cost, or the error that it broke off with.
func (w *Writer) AppendEnd(dst []byte, f openai.Final, e *openai.Error) []byte {
	if e != nil {
		return openai.AppendNamed(dst, "error", AppendError(nil, e, w.RequestID))
	}
	last := w.last
	if last == nil {
		last = openai.Value(`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null}}`)
	}
	if fields, err := object(last); err == nil {
		last = openai.AppendReplaced(nil, last, "usage", openai.AppendUsage(nil, fields.Get("usage"), f, appendCounts))
	}
	if f.Explain != nil {
		last = openai.AppendReplaced(nil, last, "tradewind", f.Explain)
	}
	return openai.AppendNamed(openai.AppendNamed(dst, "message_delta", last), "message_stop", []byte(`{"type":"message_stop"}`))
}

// appendCounts appends the members of a usage object, without braces.
func appendCounts(dst []byte, u openai.Usage) []byte {
	c := u.Catalog()
	write := c.CacheWrite + c.CacheWrite1h
	dst = strconv.AppendInt(append(dst, `"input_tokens":`...), c.InputTokens()-c.CacheRead-write, 10)
	dst = strconv.AppendInt(append(dst, `,"cache_creation_input_tokens":`...), write, 10)
	if c.CacheWrite1h > 0 {
		dst = strconv.AppendInt(append(dst, `,"cache_creation":{"ephemeral_5m_input_tokens":`...), c.CacheWrite, 10)
		dst = append(strconv.AppendInt(append(dst, `,"ephemeral_1h_input_tokens":`...), c.CacheWrite1h, 10), '}')
	}
	dst = strconv.AppendInt(append(dst, `,"cache_read_input_tokens":`...), c.CacheRead, 10)
	dst = strconv.AppendInt(append(dst, `,"output_tokens":`...), c.OutputTokens(), 10)
	if c.Reasoning > 0 {
		dst = append(strconv.AppendInt(append(dst, `,"output_tokens_details":{"thinking_tokens":`...), c.Reasoning, 10), '}')
	}
	return dst
}
