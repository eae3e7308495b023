package policy

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSession: a conversation stays where it is until the gain is worth its prompt cache, and does not explore while it
// stays. It leaves an arm that is filtered, and whoever leaves draws anew.
func TestSession(t *testing.T) {
	stay, leave := []float64{0, 1, 0}, []float64{0.125, 0.125, 0.75}
	for _, tt := range []struct {
		name string
		set  func(c *Case)
		p    []float64
	}{
		{"nothing to lose, and better is better", func(c *Case) {}, leave},
		{"less than noise", func(c *Case) { c.Session.Margin = 0.125 }, stay},
		{"a cache that is worth more than the gain", func(c *Case) { c.Lambda, c.Session.SwitchUSD = 0.25, 1 }, stay},
		{"a cache that is worth less", func(c *Case) { c.Lambda, c.Session.SwitchUSD = 0.25, 0.125 }, leave},
		{"a cache has a price where quality is all that counts", func(c *Case) { c.Session.SwitchUSD, c.Session.Lambda = 1, 0.25 }, stay},
		{"a tie", func(c *Case) { c.Candidates[1].Score = 0.9; c.Candidates[2].CostUSD = 0.01 }, stay},
		{"the fastest is elsewhere", func(c *Case) { c.LatencyFirst = true }, stay},
		{"the most reliable is elsewhere", func(c *Case) { c.AvailabilityFirst, c.Candidates[2].Availability = true, 1 }, stay},
		{"it is filtered", func(c *Case) { c.Session.SwitchUSD, c.Lambda, c.Candidates[1].Filter = 9, 0.25, Unhealthy }, []float64{0.1875, 0, 0.8125}},
		{"another is pinned", func(c *Case) { c.Session.Margin, c.Pinned = 9, 0 }, []float64{1, 0, 0}},
	} {
		c := three()
		c.Explore, c.Epsilon, c.Candidates[1].Sticky = true, 0.375, true
		tt.set(c)
		Constrain(c)
		var d Distribution
		Router{}.Propose(&d, c)
		if !slices.Equal(d.P, tt.p) {
			t.Errorf("%s: P %v, want %v", tt.name, d.P, tt.p)
		}
	}
}

// TestSessionLeavesForAGain: where the sticky arm may serve and another is drawn, its objective without the session is
// better by more than what leaving costs. Without a session nothing of this changes a choice.
func TestSessionLeavesForAGain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCase().Draw(t, "case")
		Constrain(c)
		sticky := slices.IndexFunc(c.Candidates, func(a Candidate) bool { return a.Sticky })
		var d, alone Distribution
		Router{}.Propose(&d, c)
		free := c.clone()
		free.Session = Session{}
		if sticky >= 0 {
			free.Candidates[sticky].Sticky = false
		}
		Router{}.Propose(&alone, free)
		if sticky < 0 || c.Candidates[sticky].Filter != Eligible {
			if d.Best != alone.Best {
				t.Fatalf("best %d, without the session %d, which may not go on", d.Best, alone.Best)
			}
			return
		}
		if d.Best == sticky {
			if d.P[sticky] != 1 {
				t.Fatalf("stays with probability %v", d.P[sticky])
			}
			return
		}
		gain := Objective(free, d.Best) - Objective(free, sticky)
		if cost := c.Session.Margin + max(c.Lambda, c.Session.Lambda)*c.Session.SwitchUSD; gain < cost-1e-12 {
			t.Fatalf("left for a gain of %v that costs %v", gain, cost)
		}
	})
}
