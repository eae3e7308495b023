package simulated

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// fault is what goes wrong with a call.
type fault int

const (
	none fault = iota
	failing
	stalling
)

// faults draws what goes wrong, call by call.
type faults struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (f *faults) next(o Options) fault {
	if o.ErrorRate == 0 && o.StallRate == 0 {
		return none
	}
	f.mu.Lock()
	u := f.rng.Float64()
	f.mu.Unlock()
	switch {
	case u < o.ErrorRate:
		return failing
	case u < o.ErrorRate+o.StallRate:
		return stalling
	}
	return none
}

// stream plays the events with their waits: wait before the first, pace before each further one.
type stream struct {
	ctx      context.Context
	events   [][]byte
	wait     time.Duration
	pace     time.Duration
	streamed bool
	stalls   bool
}

// Next waits as long as a vendor would and returns the next event.
func (s *stream) Next() (upstream.Event, error) {
	if s.stalls {
		<-s.ctx.Done()
	}
	if err := s.sleep(); err != nil {
		return upstream.Event{}, &upstream.Error{Class: upstream.Cut, Message: "the simulated call was cancelled", Err: err}
	}
	if len(s.events) == 0 {
		return upstream.Event{}, io.EOF
	}
	data := s.events[0]
	s.events = s.events[1:]
	ev, err := openai.ParseChunk(data)
	if err != nil {
		return upstream.Event{}, &upstream.Error{Class: upstream.BadAnswer, Message: "the simulated answer is broken", Err: err}
	}
	if !s.streamed {
		ev.Kind |= openai.IsDone
	}
	return ev, nil
}

func (s *stream) sleep() error {
	d := s.wait
	s.wait = s.pace
	if len(s.events) <= 1 && s.streamed { // what follows the last piece comes with it
		d = 0
	}
	if d <= 0 {
		return s.ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// Close ends the answer.
func (s *stream) Close() error {
	s.events = nil
	return nil
}
