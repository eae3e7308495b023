package serving

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// client counts what an outlet does.
type client struct {
	*httptest.ResponseRecorder
	flushes   int
	deadlines []time.Time
	err       error
}

func (c *client) FlushError() error { c.flushes++; return c.err }
func (c *client) SetWriteDeadline(t time.Time) error {
	c.deadlines = append(c.deadlines, t)
	return nil
}

// TestOutlet: what is held goes with one flush, nothing is flushed twice, and a client always has all but a second of its
// minute.
func TestOutlet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &client{ResponseRecorder: httptest.NewRecorder()}
		o := newOutlet(c)
		begun := time.Now()
		for range 30 {
			if !o.write([]byte("a")) || !o.write(nil) {
				t.Fatal("the client is there")
			}
			if left := c.deadlines[len(c.deadlines)-1].Sub(time.Now()); left > sendMax || left < sendMax-time.Second {
				t.Errorf("the client has %v", left)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(c.deadlines); n != 3 || !c.deadlines[0].Equal(begun.Add(sendMax)) {
			t.Errorf("%d deadlines in three seconds, the first %v", n, c.deadlines[0])
		}
		if !o.flush() || !o.flush() || c.flushes != 1 || c.Body.Len() != 30 {
			t.Errorf("%d flushes, %d bytes", c.flushes, c.Body.Len())
		}
		if c.err = errors.New("gone"); o.send([]byte("b")) {
			t.Error("a client that has gone takes it")
		}
		if c.err = http.ErrNotSupported; !o.send([]byte("b")) {
			t.Error("a recorder does not take it")
		}
	})
}

// TestKeepAlive: a stream that is silent for long gets a comment between its events, none before it has begun, none where it
// is not silent and none once it has ended.
func TestKeepAlive(t *testing.T) {
	const every = 15 * time.Second
	synctest.Test(t, func(t *testing.T) {
		c := &client{ResponseRecorder: httptest.NewRecorder()}
		o := newOutlet(c)
		said := func() string {
			o.mu.Lock()
			defer o.mu.Unlock()
			return c.Body.String()
		}
		end := o.keepAlive(every)
		time.Sleep(20 * every)
		for range 100 {
			o.send([]byte("e"))
			time.Sleep(every - time.Millisecond)
		}
		o.send([]byte("e"))
		if got, want := said(), strings.Repeat("e", 101); got != want {
			t.Fatalf("an early or talkative stream: %q", got)
		}
		time.Sleep(3*every + time.Second)
		o.write([]byte("f"))
		if got, want := said()[101:], strings.Repeat(": tradewind\n\n", 3)+"f"; got != want {
			t.Errorf("after three silences %q", got)
		}
		before := said()
		end()
		time.Sleep(5 * every)
		if said() != before {
			t.Error("a stream that has ended got a comment")
		}
		gone := newOutlet(&client{ResponseRecorder: httptest.NewRecorder(), err: errors.New("gone")})
		defer gone.keepAlive(every)()
		gone.send([]byte("e"))
		time.Sleep(5 * every)
		if gone.alive.Stop() {
			t.Error("a client that has gone is kept alive")
		}
		newOutlet(c).keepAlive(0)() // never
	})
}
