package speed

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// askMax bounds one request, so that what is never answered counts as lost and does not keep a run.
const askMax = 30 * time.Second

// load is what clients do: each connection asks as fast as it is answered, or they share a fixed rate.
type load struct {
	prompt int // bytes
	conns  int
	rate   float64 // requests a second; 0 is as fast as answers come
	stream bool
	rush   bool // streams without pauses
}

// sample is what came of driving one target in one way for a while. Times are those of answers that ended in the measured
// time, or were due in it where there is a rate.
type sample struct {
	whole, first, chunk []time.Duration
	answers, chunks     int
	elapsed, cpu        time.Duration
	// sent and lost count all requests, those before the measured time too. Lost are those without an answer, and those whose
	// answer is not what the vendor said.
	sent, lost int
	err        error // of the first that was lost
}

// request renders one keep-alive request. Each connection has a prompt of its own.
func (l *load) request(addr, header string, conn int) []byte {
	prompt := fmt.Sprintf("Client %d asks: ", conn)
	if l.rush {
		prompt += rushWord + ", "
	}
	const words = "explain how a sail drives a boat against the wind, and why. "
	if n := l.prompt - len(prompt); n > 0 {
		prompt += strings.Repeat(words, n/len(words)+1)[:n]
	}
	body := fmt.Sprintf(`{"model":"auto","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":%q}],"temperature":0.7,"max_tokens":256,"stream":%v}`, prompt, l.stream)
	if header != "" {
		header += "\r\n"
	}
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", addr, header, len(body), body)
}

// client is one connection. It does little beside the calls of its socket, so that the proxies are what is busy.
type client struct {
	request []byte
	addr    string
	stream  bool
	conn    net.Conn
	in      *bufio.Reader
	lines   *bufio.Reader
	text    []byte
	buf     bytes.Buffer
}

// seen is one answer as its chunks arrive.
type seen struct {
	first  time.Time
	chunks []time.Duration // the ways of all chunks but the first
	count  int
	done   bool
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close() // it is only ever asked for again
		c.conn = nil
	}
}

// ask sends the request and reads the answer to its end. An answer that is not what the vendor said is an error.
func (c *client) ask(s *seen) (err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.addr, askMax); err != nil {
			return err
		}
		c.in = bufio.NewReaderSize(c.conn, 16<<10)
	}
	if err := c.conn.SetDeadline(time.Now().Add(askMax)); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if c.stream && resp.StatusCode == http.StatusOK {
		err = c.readStream(resp.Body, s)
	} else {
		c.buf.Reset()
		_, err = c.buf.ReadFrom(resp.Body)
	}
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d: %.200s", resp.StatusCode, c.buf.Bytes())
	case c.stream && (!s.done || s.count != streamChunks):
		return fmt.Errorf("a stream has %d of %d chunks, its end: %v", s.count, streamChunks, s.done)
	case !c.stream && !bytes.Contains(c.buf.Bytes(), c.text):
		return fmt.Errorf("an answer is not what the vendor said: %.200s", c.buf.Bytes())
	case resp.Close:
		c.close()
	}
	return nil
}

func (c *client) readStream(body io.Reader, s *seen) error {
	c.lines.Reset(body)
	for {
		line, err := c.lines.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte("data: [DONE]")) {
			s.done = true
			continue
		}
		_, rest, ok := bytes.Cut(line, []byte(stamp))
		if !ok || len(rest) < stampDigits {
			continue
		}
		sent, err := strconv.ParseInt(string(rest[:stampDigits]), 10, 64)
		if err != nil {
			return err
		}
		now := time.Now()
		if s.count++; s.count == 1 {
			s.first = now
		} else {
			s.chunks = append(s.chunks, now.Sub(time.Unix(0, sent)))
		}
	}
}

func (r *run) client(p *process, l *load, i int) *client {
	return &client{
		addr: p.addr, request: l.request(p.addr, r.o.Header, i), stream: l.stream,
		text: []byte(answerText()), lines: bufio.NewReaderSize(nil, 4<<10),
	}
}

// once asks one question.
func (r *run) once(p *process, l *load) error {
	c := r.client(p, l, 0)
	defer c.close()
	return c.ask(&seen{})
}

// drive drives one target in one way: first without counting, then for the window.
func (r *run) drive(ctx context.Context, p *process, l *load) (all sample, err error) {
	start := time.Now()
	from := start.Add(r.window / warmShare)
	until := from.Add(r.window)
	var due chan time.Time
	if l.rate > 0 { // it has room for all of them, so that a target that stalls is charged for those that wait
		due = make(chan time.Time, int(l.rate*until.Sub(start).Seconds())+1)
		go dispatch(due, l.rate, start, until)
	}
	samples := make([]sample, l.conns)
	var wg sync.WaitGroup
	for i := range samples {
		c := r.client(p, l, i)
		wg.Go(func() {
			defer c.close()
			samples[i].clientLoop(ctx, c, due, from, until)
		})
	}
	time.Sleep(time.Until(from))
	before, err := p.used()
	began := time.Now()
	if err == nil {
		time.Sleep(time.Until(until))
		var after usage
		after, err = p.used()
		all.cpu, all.elapsed = after.CPU-before.CPU, time.Since(began)
	}
	wg.Wait()
	for i := range samples {
		all.add(&samples[i])
	}
	for _, times := range [][]time.Duration{all.whole, all.first, all.chunk} {
		slices.Sort(times)
	}
	return all, err
}

// dispatch says when the next request is due. What it is late itself the target is not charged for.
func dispatch(due chan<- time.Time, rate float64, start, until time.Time) {
	defer close(due)
	for i := 0; ; i++ {
		at := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if !at.Before(until) || len(due) == cap(due) {
			return
		}
		time.Sleep(time.Until(at))
		due <- time.Now()
	}
}

// clientLoop asks until the time is up, as fast as answers come or whenever one is due.
func (s *sample) clientLoop(ctx context.Context, c *client, due <-chan time.Time, from, until time.Time) {
	var a seen
	one := func(at time.Time) {
		a = seen{chunks: a.chunks[:0]}
		err := c.ask(&a)
		end := time.Now()
		s.sent++
		if err != nil {
			s.lost++
			if s.err == nil {
				s.err = err
			}
			return
		}
		if due == nil && (end.Before(from) || end.After(until)) || due != nil && at.Before(from) {
			return
		}
		s.answers++
		s.chunks += a.count
		s.whole = append(s.whole, end.Sub(at))
		if a.count > 0 {
			s.first = append(s.first, a.first.Sub(at))
			s.chunk = append(s.chunk, a.chunks...)
		}
	}
	if due != nil {
		for at := range due {
			if ctx.Err() == nil {
				one(at)
			}
		}
		return
	}
	for one(time.Now()); time.Now().Before(until) && ctx.Err() == nil && s.lost < lostMax; {
		one(time.Now())
	}
}

// lostMax is how many answers a connection may lose before it gives up: what refuses at once would be asked without end.
const lostMax = 100

func (s *sample) add(o *sample) {
	s.whole, s.first, s.chunk = append(s.whole, o.whole...), append(s.first, o.first...), append(s.chunk, o.chunk...)
	s.answers, s.chunks = s.answers+o.answers, s.chunks+o.chunks
	s.sent, s.lost = s.sent+o.sent, s.lost+o.lost
	if s.err == nil {
		s.err = o.err
	}
}

// median of what is sorted; 0 of nothing.
func median(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)/2]
}
