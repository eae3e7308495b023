package main

import (
	"fmt"
	"time"

	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// patienceConfig is how long models are waited for.
type patienceConfig struct {
	FirstToken float64 `yaml:"first_token_seconds" nonzero:"" doc:"The longest wait for the first content of a stream; 60 by default. Models that think in silence need more."`
	Chunk      float64 `yaml:"chunk_seconds" nonzero:"" doc:"The longest wait between two events of a stream; 60 by default."`
	Answer     float64 `yaml:"answer_seconds" nonzero:"" doc:"The longest wait for an answer that is not streamed, while another model could still be asked; 300 by default."`
}

// patienceMax is the longest that a request may take.
const patienceMax = 3600

func (p *patienceConfig) validate(where string) error {
	for _, wait := range [...]struct {
		name    string
		seconds float64
	}{{"first_token_seconds", p.FirstToken}, {"chunk_seconds", p.Chunk}, {"answer_seconds", p.Answer}} {
		if !(wait.seconds >= 0 && wait.seconds <= patienceMax) {
			return fmt.Errorf("config: %s: %s is %v, want more than 0 and at most %d", where, wait.name, wait.seconds, patienceMax)
		}
	}
	return nil
}

func (p *patienceConfig) patience() upstream.Patience {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return upstream.Patience{FirstToken: seconds(p.FirstToken), Chunk: seconds(p.Chunk), Answer: seconds(p.Answer)}
}
