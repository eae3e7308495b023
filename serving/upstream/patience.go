package upstream

import (
	"cmp"
	"errors"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Patience is how long an arm is waited for. What is 0 is as for all others.
type Patience struct {
	// FirstToken bounds the wait for the first content of a stream, Chunk that for each further event, Answer an answer that
	// is not streamed while another arm could still be tried.
	FirstToken, Chunk, Answer time.Duration
}

// Validate refuses a negative wait.
func (p Patience) Validate() error {
	if p.FirstToken < 0 || p.Chunk < 0 || p.Answer < 0 {
		return errors.New("upstream: a wait must not be negative")
	}
	return nil
}

// patience is how long an arm is waited for here.
func (p *Pool) patience(arm catalog.ArmID) Patience {
	own := p.o.Patience[arm]
	return Patience{
		FirstToken: cmp.Or(own.FirstToken, p.o.FirstTokenTimeout), Chunk: cmp.Or(own.Chunk, p.o.ChunkTimeout), Answer: cmp.Or(own.Answer, p.o.AnswerTimeout),
	}
}
