package keyring

import (
	"context"
	"sync"

	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// stream is one answer, with the key that it comes by.
type stream struct {
	ring  *Ring
	ctx   context.Context
	req   *upstream.Request
	tried uint64
	// began says that an event was handed on, after which no other key is asked; wasBad that the key was bad when it was asked.
	began, wasBad bool

	// mu guards the rest against a Close from elsewhere. running says that the key is counted as busy with this call.
	mu      sync.Mutex
	inner   upstream.Stream
	key     int
	running bool
	closed  bool
}

// tokens guesses what the vendor's meter will show for a request.
func tokens(req *upstream.Request) int64 { return int64(len(req.Body)/4) + 1 }

// open asks key after key until the vendor takes one. last is how the one before failed, nil for the first.
func (s *stream) open(last *upstream.Error) error {
	r, arm := s.ring, s.req.Arm.ID
	var limited *upstream.Error
	for {
		if last != nil && last.Class == upstream.RateLimited && (limited == nil || last.RetryAfter < limited.RetryAfter) {
			limited = last
		}
		i := r.pick(arm, tokens(s.req), s.tried)
		if i < 0 {
			return r.exhausted(arm, s.tried, last, limited, r.now())
		}
		if last != nil {
			r.tell(Event{Key: i + 1, Class: last.Class, Status: last.Status, Switched: true})
		}
		err := s.call(i)
		if err == nil {
			return nil
		}
		e, other := r.refused(i, arm, err, r.now())
		if !other {
			return err
		}
		last = e
	}
}

// call makes one call with a key.
func (s *stream) call(i int) error {
	k := s.ring.keys[i]
	a := k.at(s.req.Arm.ID)
	s.tried |= 1 << i
	s.wasBad = k.begin(s.ring.now())
	m := a.begin(tokens(s.req))
	s.mu.Lock()
	s.key, s.running = i, true
	s.mu.Unlock()
	answered := false
	defer func() {
		if !answered { // also where the vendor's code panics
			s.let()
		}
	}()
	inner, err := k.Stream(s.ctx, s.req)
	if err != nil {
		return err
	}
	a.heard(inner, m, s.ring.now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inner = inner
	if s.closed { // nobody waits for it
		_ = inner.Close()
		return context.Canceled
	}
	answered = true
	return nil
}

// Next returns the next event. A vendor that refuses the key only inside its answer has refused it all the same.
func (s *stream) Next() (upstream.Event, error) {
	for {
		ev, err := s.inner.Next()
		if err == nil {
			if !s.began && s.wasBad {
				s.ring.worked(s.key)
			}
			s.began = true
			return ev, nil
		}
		e, other := s.ring.refused(s.key, s.req.Arm.ID, err, s.ring.now())
		if !other || s.began {
			return ev, err
		}
		_ = s.inner.Close() // it has failed; what its connection says now changes nothing
		s.let()
		if err := s.open(e); err != nil {
			return ev, err
		}
	}
}

// Buffered reports whether the next event is here.
func (s *stream) Buffered() bool {
	b, ok := s.inner.(upstream.Buffered)
	return ok && b.Buffered()
}

// Header is a header of the answer.
func (s *stream) Header(name string) string {
	if h, ok := s.inner.(upstream.Headed); ok {
		return h.Header(name)
	}
	return ""
}

// let gives the key back, once.
func (s *stream) let() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		s.running = false
		s.ring.keys[s.key].running.Add(-1)
	}
}

// Close ends the call.
func (s *stream) Close() error {
	s.mu.Lock()
	inner := s.inner
	s.closed = true
	s.mu.Unlock()
	s.let()
	return inner.Close()
}
