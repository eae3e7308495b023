package idempotency

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// Recorder is the client of a request under a key: it passes on what is written, for as long as the client is there, and
// keeps it within Options.AnswerMax. One goroutine uses it.
type Recorder struct {
	s      *Store
	client http.ResponseWriter
	// goesOn is asked whether to go on without the client; once it says no, writes fail as they would without a recorder.
	goesOn func() bool
	gone   bool

	answer   Answer
	reserved int64
}

// NewRecorder makes a recorder. GoesOn is called where the client takes nothing more.
func (s *Store) NewRecorder(client http.ResponseWriter, goesOn func() bool) *Recorder {
	return &Recorder{s: s, client: client, goesOn: goesOn}
}

// Header is the client's.
func (r *Recorder) Header() http.Header { return r.client.Header() }

// WriteHeader keeps the status and those headers that are true of the answer whenever it is given.
func (r *Recorder) WriteHeader(status int) {
	if r.answer.Status != 0 {
		return
	}
	r.answer.Status, r.answer.Header = status, http.Header{}
	for name, values := range r.client.Header() {
		if lasting(name) {
			r.answer.Header[name] = values
		}
	}
	r.client.WriteHeader(status)
}

// lasting reports whether a header belongs to the answer, and not to the moment or the request.
func lasting(name string) bool {
	switch name {
	case "Content-Type", "Cache-Control", "X-Accel-Buffering":
		return true
	case "X-Tradewind-Overhead-Ms", "X-Tradewind-Budget-Remaining-Usd":
		return false
	}
	return strings.HasPrefix(name, "X-Tradewind-")
}

// Write keeps b and passes it on.
func (r *Recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.keep(b)
	if !r.gone {
		if _, err := r.client.Write(b); err != nil {
			return r.without(len(b), err)
		}
		return len(b), nil
	}
	return r.without(len(b), http.ErrHandlerTimeout)
}

// without is what a write comes to that did not reach the client.
func (r *Recorder) without(n int, err error) (int, error) {
	r.gone = true
	if !r.goesOn() {
		return 0, err
	}
	return n, nil
}

// keep keeps b where there is room.
func (r *Recorder) keep(b []byte) {
	if r.answer.Lost != "" {
		return
	}
	n := int64(len(b))
	if r.reserved += n; r.s.recording.Add(n) > r.s.o.OpenBytesMax || len(r.answer.Body)+len(b) > r.s.o.AnswerMax {
		r.answer.Lost, r.answer.Body = TooLarge, nil
		r.Release()
		return
	}
	r.answer.Body = append(r.answer.Body, b...)
}

// FlushError sends what was written.
func (r *Recorder) FlushError() error {
	if r.gone {
		return nil // Write has said what there is to say
	}
	err := http.NewResponseController(r.client).Flush()
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		_, err = r.without(0, err)
	}
	return err
}

// SetWriteDeadline is the client's.
func (r *Recorder) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(r.client).SetWriteDeadline(t)
}

// Answer is what was written so far.
func (r *Recorder) Answer() *Answer { return &r.answer }

// Release gives the room back that the answer takes.
func (r *Recorder) Release() {
	r.s.recording.Add(-r.reserved)
	r.reserved = 0
}
