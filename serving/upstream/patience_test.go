package upstream

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// TestPatience: an arm with waits of its own is given up after these, and all others after the pool's.
func TestPatience(t *testing.T) {
	text := step{events: []string{textChunk}, hang: true}
	for name, tt := range map[string]struct {
		own    Patience
		first  step
		stream bool
		want   time.Duration
	}{
		"first token, as all":     {Patience{Chunk: time.Second, Answer: time.Second}, step{hang: true}, true, time.Minute},
		"first token, its own":    {Patience{FirstToken: 3 * time.Minute}, step{hang: true}, true, 3 * time.Minute},
		"between events, as all":  {Patience{FirstToken: time.Second}, text, true, time.Minute},
		"between events, its own": {Patience{Chunk: 2 * time.Second}, text, true, 2 * time.Second},
		"a whole answer, as all":  {Patience{FirstToken: time.Second}, step{hang: true}, false, 5 * time.Minute},
		"a whole answer, its own": {Patience{Answer: 7 * time.Second}, step{hang: true}, false, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Options{Patience: map[catalog.ArmID]Patience{"a/m": tt.own}}, []step{tt.first}, []step{good})
				plan := w.plan()
				plan.Stream = tt.stream
				start := time.Now()
				_, _, _ = w.ask(t, t.Context(), plan)
				if got := time.Since(start).Round(time.Second); got != tt.want {
					t.Errorf("it was waited for %v, want %v", got, tt.want)
				}
			})
		})
	}
	o := Options{Patience: map[catalog.ArmID]Patience{"a/m": {Chunk: -1}}}
	if o.Validate() == nil {
		t.Error("a negative wait was accepted")
	}
}
