package policy

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTurns: the first turn that can be taken is taken, by whoever else may not, and the guard goes on to hold arms back for
// the model that is its fallback, whichever provider of it is asked.
func TestTurns(t *testing.T) {
	arm := func(choice, turn int, gap, cost float64) Candidate {
		return Candidate{Choice: choice, Turn: turn, Gap: gap, CostUSD: cost, CostUpperUSD: cost, Priced: true, LatencyP90MS: 10, Quality: .8, Availability: 1}
	}
	guard := Guard{On: true, Tolerance: .01}
	for name, tt := range map[string]struct {
		c    Case
		want []Filter
	}{
		"the first of an order":      {Case{Candidates: []Candidate{arm(1, 3, 0, 1), arm(1, 1, 0, 3), arm(1, 2, 0, 2)}}, []Filter{Ordered, Eligible, Ordered}},
		"equals stay":                {Case{Candidates: []Candidate{arm(1, 2, 0, 1), arm(1, 1, 0, 3), arm(1, 1, 0, 2)}}, []Filter{Ordered, Eligible, Eligible}},
		"no order between choices":   {Case{Candidates: []Candidate{arm(1, 2, 0, 1), arm(2, 1, 0, 3), arm(0, 0, 0, 2)}}, []Filter{Eligible, Eligible, Eligible}},
		"the first is too dear":      {Case{MaxCostUSD: 2, Candidates: []Candidate{arm(1, 3, 0, 1), arm(1, 1, 0, 3), arm(1, 2, 0, 2)}}, []Filter{Ordered, MaxCost, Eligible}},
		"the fallback's place":       {Case{Guard: guard, Candidates: []Candidate{arm(1, 2, 0, 2), arm(1, 1, 0, 4), arm(2, 1, -.2, 1)}}, []Filter{Ordered, Eligible, Guarded}},
		"what nobody measured waits": {Case{MeasuredFirst: true, Candidates: []Candidate{{Choice: 1, Turn: 1, Prior: true}, {Choice: 1, Turn: 2}}}, []Filter{Ordered, Eligible}},
	} {
		c := &tt.c
		c.Pinned, c.Reference = -1, -1
		for range 2 { // twice changes nothing
			Constrain(c)
			if got := filters(c); !slices.Equal(got, tt.want) {
				t.Errorf("%s: %v, want %v", name, got, tt.want)
			}
		}
	}
}

// TestTurnsAreKept: whatever else is asked, no arm may be drawn while another of its choice whose turn comes before may be, and
// some arm of the choice may where one was left for want of a turn alone.
func TestTurnsAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCase().Draw(t, "case")
		for i := range c.Candidates {
			a := &c.Candidates[i]
			if a.Choice = rapid.IntRange(0, 3).Draw(t, "choice"); a.Choice > 0 {
				a.Turn = rapid.IntRange(1, 3).Draw(t, "turn")
			}
		}
		Constrain(c)
		once := filters(c)
		if Constrain(c); !slices.Equal(once, filters(c)) {
			t.Fatalf("a second time %v becomes %v", once, filters(c))
		}
		for i := range c.Candidates {
			a, passed := &c.Candidates[i], false
			for j := range c.Candidates {
				b := &c.Candidates[j]
				same := a.Choice != 0 && a.Choice == b.Choice && !(c.MeasuredFirst && a.Prior != b.Prior)
				if same && a.Filter == Eligible && b.Filter == Eligible && b.Turn < a.Turn && !c.FloorReference {
					t.Fatalf("candidate %d may be drawn before %d, whose turn it is", i, j)
				}
				passed = passed || a.Choice == b.Choice && c.before(b, a) && (b.Filter == Eligible || b.Filter == Guarded)
			}
			if a.Filter == Ordered && !passed {
				t.Fatalf("candidate %d waits for nobody", i)
			}
		}
	})
}
