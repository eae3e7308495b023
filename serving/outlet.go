package serving

import (
	"errors"
	"net/http"
	"sync"
	"time"
)

// sendMax is how long a client may leave a piece of a stream lying before it counts as gone, to a second.
const sendMax = time.Minute

// outlet is a stream on its way to the client. It holds what is written until it is flushed, so that events that come
// together go together.
type outlet struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	deadline time.Time
	held     bool
	// alone says whether the stream goes on without a client that takes no more of it; nil is no.
	alone *parted

	// mu guards all above where the stream is kept alive: what does that writes between two events.
	mu    sync.Mutex
	alive *time.Timer
	wrote time.Time
	ended bool
}

func newOutlet(w http.ResponseWriter) *outlet {
	return &outlet{w: w, control: http.NewResponseController(w)}
}

// comment is a line of a stream that no client reads.
const comment = ": tradewind\n\n"

// keepAlive lets a client, and whatever stands between, hear something whenever a stream that has begun is silent for so
// long, until what it returns is called. No piece has to set the timer anew: it looks when the last one was.
func (o *outlet) keepAlive(every time.Duration) (end func()) {
	if every <= 0 {
		return func() {}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alive = time.AfterFunc(every, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.ended {
			return
		}
		wait := every
		switch silent := time.Since(o.wrote); {
		case o.wrote.IsZero(): // it has not begun
		case silent < every:
			wait -= silent
		case !o.put([]byte(comment)) || !o.push() || o.alone.hasLeft():
			return
		}
		o.alive.Reset(wait)
	})
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.ended = true
		o.alive.Stop()
	}
}

// write takes a piece and reports whether the stream goes on: the client is still there, or it goes on alone.
func (o *outlet) write(b []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.put(b)
}

func (o *outlet) put(b []byte) bool {
	if len(b) == 0 || o.alone.hasLeft() {
		return true
	}
	now := time.Now()
	if o.wrote = now; o.deadline.Sub(now) < sendMax-time.Second { // setting it for each piece would cost as much as the piece
		o.deadline = now.Add(sendMax)
		_ = o.control.SetWriteDeadline(o.deadline) // what has no deadlines (a test's recorder) never blocks either
	}
	_, err := o.w.Write(b)
	o.held = true
	return err == nil || o.alone.goesOn()
}

// flush sends what is held and reports whether the stream goes on.
func (o *outlet) flush() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.push()
}

func (o *outlet) push() bool {
	if !o.held {
		return true
	}
	o.held = false
	err := o.control.Flush()
	return err == nil || errors.Is(err, http.ErrNotSupported) || o.alone.goesOn()
}

// send sends a piece at once.
func (o *outlet) send(b []byte) bool { return o.write(b) && o.flush() }
