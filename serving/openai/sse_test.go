package openai

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll reads a stream to its end.
func readAll(r io.Reader, limit int) (events []Event, err error) {
	s := NewScanner(r, limit)
	for {
		ev, err := s.Next()
		if err != nil {
			return events, err
		}
		events = append(events, Event{bytes.Clone(ev.Name), bytes.Clone(ev.Data), ev.Unterminated})
	}
}

// reference parses a whole stream the slow and obvious way.
func reference(stream string) []Event {
	stream = strings.TrimPrefix(stream, "\xef\xbb\xbf")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	var out []Event
	var name string
	var data []string
	lines := strings.Split(stream, "\n")
	for i, line := range lines {
		if line == "" && i < len(lines)-1 {
			if data != nil {
				out = append(out, Event{[]byte(name), []byte(strings.Join(data, "\n")), false})
			}
			name, data = "", nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			data = append(data, value)
		case "event":
			name = value
		}
	}
	if data != nil {
		out = append(out, Event{[]byte(name), []byte(strings.Join(data, "\n")), true})
	}
	return out
}

// String shows an event in a failed test.
func (e Event) String() string { return fmt.Sprintf("%q:%q(%v)", e.Name, e.Data, e.Unterminated) }

func equalEvents(a, b []Event) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i].Name, b[i].Name) || !bytes.Equal(a[i].Data, b[i].Data) || a[i].Unterminated != b[i].Unterminated {
			return false
		}
	}
	return true
}

var streams = []string{
	"data: a\n\ndata: b\n\n", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\rdata: b\r\r", "\xef\xbb\xbfdata: a\n\n", "data: a\ndata: b\ndata\n\n",
	": comment\n\nevent: x\n\ndata: a\n\n", "event: x\ndata: a\n\n", "data:a\n\ndata:  b\n\n", "data: a", "data: a\n", "data: [DONE]\n\n", "\n\n\n", "",
	"id: 1\nretry: 3\nfoo\ndata: a\n\n", "data: a\n\r\ndata: b\r\n\n", "data: \n\n", "data\n\n",
}

func TestScanner(t *testing.T) {
	for _, in := range streams {
		want := reference(in)
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(in), "byte by byte": iotest.OneByteReader(strings.NewReader(in)), "end with data": iotest.DataErrReader(strings.NewReader(in)),
		} {
			got, err := readAll(r, 0)
			if err != io.EOF || !equalEvents(got, want) {
				t.Errorf("%q %s: got %s and %v, want %s and EOF", in, name, got, err, want)
			}
		}
	}
}

// What is here is known before it is asked for; what is not, or is no event, is not taken for one.
func TestScannerBuffered(t *testing.T) {
	for in, want := range map[string]bool{
		"data: b\n\n": true, "event: x\ndata: b\n\n": true, "data: b\r\n\r\n": true, ": ping\n\ndata: b\n\n": true,
		"": false, "data: b\n": false, ": ping\n\n": false, "event: x\n\n": false, "event: data:\n\n": false, "data: b\n\r": false,
	} {
		s := NewScanner(strings.NewReader("data: a\n\n"+in), 0)
		if _, err := s.Next(); err != nil {
			t.Fatal(err)
		}
		if got := s.Buffered(); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestScannerLimits(t *testing.T) {
	for name, in := range map[string]string{
		"line":            "data: " + strings.Repeat("x", 100),
		"event":           strings.Repeat("data: xxxxxxxx\n", 10) + "\n",
		"comment":         ": " + strings.Repeat("x", 100),
		"endless newline": "data: a\n\n" + strings.Repeat("y", 100),
	} {
		if _, err := readAll(strings.NewReader(in), 64); !errors.Is(err, ErrEventTooLarge) {
			t.Errorf("%s: got %v, want ErrEventTooLarge", name, err)
		}
	}
	exact := "data: " + strings.Repeat("x", 57) + "\n\n" // the line and its end are 64 bytes
	if got, err := readAll(strings.NewReader(exact), 64); err != io.EOF || len(got) != 1 {
		t.Errorf("a line at the limit: got %d events and %v, want 1 and EOF", len(got), err)
	}
	broken := errors.New("reset")
	if _, err := readAll(io.MultiReader(strings.NewReader("data: a\n"), iotest.ErrReader(broken)), 0); !errors.Is(err, broken) {
		t.Errorf("a broken connection: got %v, want its error", err)
	}
}

func FuzzScanner(f *testing.F) {
	for _, s := range streams {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		const limit = 256
		r := &steps{b: in, n: max(1, step&63)}
		s := NewScanner(r, limit)
		var got []Event
		var err error
		for {
			var ev Event
			buffered, reads := s.Buffered(), r.reads
			if ev, err = s.Next(); buffered && r.reads > reads {
				t.Fatalf("an event is said to be here, and %d reads were needed", r.reads-reads)
			}
			if err != nil {
				break
			}
			got = append(got, Event{bytes.Clone(ev.Name), bytes.Clone(ev.Data), ev.Unterminated})
			if cap(s.buf) > limit || cap(s.data) > 2*limit+16 || cap(s.name) > 2*limit+16 {
				t.Fatalf("memory: buffer %d, data %d, name %d with a limit of %d", cap(s.buf), cap(s.data), cap(s.name), limit)
			}
		}
		want := reference(string(in))
		switch {
		case err == io.EOF && !equalEvents(got, want):
			t.Fatalf("got %s, want %s", got, want)
		case err == ErrEventTooLarge && (len(got) > len(want) || !equalEvents(got, want[:len(got)])):
			t.Fatalf("before the large event: got %s, want the start of %s", got, want)
		case err != io.EOF && err != ErrEventTooLarge:
			t.Fatalf("got error %v", err)
		case err == ErrEventTooLarge && len(in) < limit:
			t.Fatalf("%d bytes are refused under a limit of %d", len(in), limit)
		}
	})
}

// steps reads n bytes at a time.
type steps struct {
	b        []byte
	n, reads int
}

func (s *steps) Read(p []byte) (int, error) {
	s.reads++
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b[:min(s.n, len(s.b))])
	s.b = s.b[n:]
	return n, nil
}

const benchChunk = `{"id":"chatcmpl-abc123","object":"chat.completion.chunk","created":1700000000,"model":"gpt-5-mini-2025-08-07","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" world"},"logprobs":null,"finish_reason":null}],"usage":null}`

func BenchmarkStream(b *testing.B) {
	stream := []byte(strings.Repeat("data: "+benchChunk+"\n\n", 100))
	out := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() { // 100 chunks a round
		s, w := NewScanner(bytes.NewReader(stream), 0), Rewriter{Served: "openai/gpt-5-mini"}
		for {
			ev, err := s.Next()
			if err != nil {
				break
			}
			c, err := ParseChunk(ev.Data)
			if err != nil {
				b.Fatal(err)
			}
			out = AppendEvent(out[:0], w.AppendChunk(out[512:512], &c))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(100*b.N), "ns/chunk")
}
