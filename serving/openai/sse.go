package openai

import (
	"bytes"
	"errors"
	"io"
)

// EventMax is the default limit of one line and of one event of a stream.
const EventMax = 8 << 20

// ErrEventTooLarge says that a stream had a line or an event beyond the limit.
var ErrEventTooLarge = errors.New("openai: event of the stream is too large")

// Event is one server-sent event. Its slices are valid until the next call of Next.
type Event struct {
	// Name is the event's type, empty where the stream gave none.
	Name []byte
	// Data is the payload; several data lines are joined by line feeds.
	Data []byte
	// Unterminated says that the stream ended before the blank line that ends an event. Data may be cut.
	Unterminated bool
}

// Scanner reads server-sent events as the WHATWG standard parses them: lines end in LF, CRLF or CR, a byte order mark
// is dropped, comments and unknown fields are skipped. Its memory is bounded by the limit.
type Scanner struct {
	r          io.Reader
	max        int
	buf        []byte
	start, end int
	name, data []byte
	err        error
	begun      bool
	// skipLF says that the last line ended in CR, so a LF that follows belongs to it.
	skipLF bool
}

const firstBuffer = 4096

// NewScanner reads events from r. A limit of 0 means EventMax.
func NewScanner(r io.Reader, limit int) *Scanner {
	if limit <= 0 {
		limit = EventMax
	}
	return &Scanner{r: r, max: limit}
}

// Next returns the next event that has data. At the end of the stream it returns io.EOF; an event that the end cut off
// is returned first, marked as unterminated.
func (s *Scanner) Next() (Event, error) {
	s.name, s.data = s.name[:0], s.data[:0]
	hasData := false
	for {
		line, err := s.line()
		switch {
		case err == io.EOF && hasData:
			return Event{Name: s.name, Data: s.data, Unterminated: true}, nil
		case err != nil:
			return Event{}, err
		case len(line) == 0 && hasData:
			return Event{Name: s.name, Data: s.data}, nil
		case len(line) == 0: // an event without data is none
			s.name = s.name[:0]
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if len(s.data)+len(value)+1 > s.max {
				s.err = ErrEventTooLarge
				return Event{}, s.err
			}
			if hasData {
				s.data = append(s.data, '\n')
			}
			s.data, hasData = append(s.data, value...), true
		case "event":
			s.name = append(s.name[:0], value...)
		}
	}
}

// Buffered reports whether the next event is here, so that Next does not wait for it. Where it is not sure it says no. A
// comment that is here alone is no event.
func (s *Scanner) Buffered() bool {
	rest := s.buf[s.start:s.end]
	if !bytes.HasPrefix(rest, []byte("data:")) {
		i := bytes.Index(rest, []byte("\ndata:"))
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
	}
	return bytes.Contains(rest, []byte("\n\n")) || bytes.Contains(rest, []byte("\n\r\n"))
}

// line returns the next line without its end, valid until the next call. The last line may have no end.
func (s *Scanner) line() ([]byte, error) {
	for searched := 0; ; {
		if s.skipLF && s.start < s.end {
			if s.skipLF = false; s.buf[s.start] == '\n' {
				s.start++
			}
		}
		rest := s.buf[s.start:s.end]
		if i := lineEnd(rest, min(searched, len(rest))); i >= 0 {
			s.skipLF = rest[i] == '\r'
			s.start += i + 1
			return s.trimBOM(rest[:i]), nil
		}
		searched = len(rest)
		if s.err != nil {
			s.start = s.end
			if len(rest) > 0 && s.err == io.EOF {
				return s.trimBOM(rest), nil
			}
			return nil, s.err
		}
		s.fill()
	}
}

func lineEnd(b []byte, from int) int {
	i := bytes.IndexByte(b[from:], '\n')
	if i < 0 {
		i = bytes.IndexByte(b[from:], '\r')
	} else if j := bytes.IndexByte(b[from:from+i], '\r'); j >= 0 {
		i = j
	}
	if i < 0 {
		return -1
	}
	return from + i
}

func (s *Scanner) trimBOM(line []byte) []byte {
	if !s.begun {
		s.begun = true
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return line
}

// fill reads once, after making room.
func (s *Scanner) fill() {
	if s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	if s.end == len(s.buf) {
		if s.end >= s.max {
			s.err = ErrEventTooLarge
			return
		}
		grown := make([]byte, min(max(2*len(s.buf), firstBuffer), s.max))
		copy(grown, s.buf)
		s.buf = grown
	}
	for range 100 { // as bufio does, so that a reader that returns nothing cannot hold us for ever
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		if err != nil {
			s.err = err
			return
		}
		if n > 0 {
			return
		}
	}
	s.err = io.ErrNoProgress
}

// AppendEvent appends one event with a payload that holds no line ends, as JSON without indentation never does.
func AppendEvent(dst, data []byte) []byte {
	dst = append(dst, "data: "...)
	dst = append(dst, data...)
	return append(dst, "\n\n"...)
}

// AppendNamed appends one event that has a name.
func AppendNamed(dst []byte, name string, data []byte) []byte {
	return AppendEvent(append(append(append(dst, "event: "...), name...), '\n'), data)
}

// AppendDone appends the event that ends a stream.
func AppendDone(dst []byte) []byte { return append(dst, "data: [DONE]\n\n"...) }
