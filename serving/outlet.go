package serving

import (
	"errors"
	"net/http"
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
}

func newOutlet(w http.ResponseWriter) *outlet {
	return &outlet{w: w, control: http.NewResponseController(w)}
}

// write takes a piece and reports whether the client is still there.
func (o *outlet) write(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if now := time.Now(); o.deadline.Sub(now) < sendMax-time.Second { // setting it for each piece would cost as much as the piece
		o.deadline = now.Add(sendMax)
		_ = o.control.SetWriteDeadline(o.deadline) // what has no deadlines (a test's recorder) never blocks either
	}
	_, err := o.w.Write(b)
	o.held = true
	return err == nil
}

// flush sends what is held and reports whether the client takes it.
func (o *outlet) flush() bool {
	if !o.held {
		return true
	}
	o.held = false
	err := o.control.Flush()
	return err == nil || errors.Is(err, http.ErrNotSupported)
}

// send sends a piece at once.
func (o *outlet) send(b []byte) bool { return o.write(b) && o.flush() }
