package servingtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// forever is longer than any request may take.
const forever = time.Hour

// request is what a client asked and got.
type request struct {
	nonce  int
	key    int
	stream bool
	single bool // fallback: false
	// ends is when the client goes, after it asked.
	ends time.Duration
	// last says that it was asked when all was well again.
	last    bool
	gateway *gateway

	from, to time.Time
	status   int
	round    string
	model    string
	code     string
	text     string
	// whole says that the answer came to its end, broken that it told of an error behind its beginning.
	whole, broken bool
	err           error
}

// client asks so many questions, with pauses between them.
func (w *world) client(ctx context.Context, random *rand.Rand, c, first, n int) {
	for i := range n {
		if w.kind != budget { // there all come at once
			time.Sleep(time.Duration(random.IntN(int(day) / n)))
		}
		r := &request{
			nonce: first + i, key: c % len(w.keys), gateway: w.gateways[(c+i)%len(w.gateways)],
			stream: random.IntN(2) == 0, single: random.IntN(8) == 0, ends: forever,
		}
		if random.IntN(5) == 0 {
			r.ends = time.Duration(random.IntN(3000)) * time.Millisecond
		}
		w.ask(ctx, r)
	}
}

// ask sends a request and reads its answer.
func (w *world) ask(ctx context.Context, r *request) {
	w.mu.Lock()
	w.requests = append(w.requests, r)
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.ends)
	defer cancel()
	r.from = time.Now()
	defer func() { r.to = time.Now() }()
	body := fmt.Sprintf(`{"model":"auto","stream":%v,"max_tokens":%d,"tradewind":{"fallback":%v},"messages":[{"role":"user","content":"%s%d%s"}]}`,
		r.stream, outputTokens, !r.single, nonceMark, r.nonce, endMark)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gateway/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		r.err = err
		return
	}
	req.Header.Set("Authorization", "Bearer "+w.keys[r.key].secret)
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.gateway.transport().RoundTrip(req)
	if err != nil {
		r.err = err
		return
	}
	defer resp.Body.Close()
	r.status, r.round, r.model = resp.StatusCode, resp.Header.Get("X-Tradewind-Decision-Id"), resp.Header.Get("X-Tradewind-Model")
	r.err = r.read(resp.Body)
}

// read takes an answer apart: one chunk a line of a stream, or one whole.
func (r *request) read(body io.Reader) error {
	if !r.stream || r.status != http.StatusOK {
		text, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		r.whole = true
		return r.take(text)
	}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case !ok && lines.Text() == "", strings.HasPrefix(lines.Text(), ":"):
		case !ok:
			return fmt.Errorf("not an event: %q", lines.Text())
		case data == "[DONE]":
			r.whole = true
		case r.whole:
			return fmt.Errorf("after the end: %q", data)
		default:
			if err := r.take([]byte(data)); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// take reads one JSON object of an answer.
func (r *request) take(data []byte) error {
	var a struct {
		Error   *struct{ Code string }
		Choices []struct {
			Message, Delta struct{ Content string }
		}
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return fmt.Errorf("%w in %.100q", err, data)
	}
	if a.Error != nil {
		r.code, r.broken = a.Error.Code, r.status == http.StatusOK
	}
	for _, c := range a.Choices {
		r.text += c.Message.Content + c.Delta.Content
	}
	return nil
}

// well reports whether the client got a whole answer.
func (r *request) well() bool {
	return r.status == http.StatusOK && r.whole && !r.broken && r.err == nil
}

// left reports whether the client went before its answer had ended.
func (r *request) left() bool { return r.err != nil && r.to.Sub(r.from) >= r.ends }
