package policy

import (
	"math"
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

// TestWeights: what the best would get is shared out among its choice by weights, an arm without one gets its share of the
// exploration alone, and a conversation that stays is not shared out.
func TestWeights(t *testing.T) {
	arm := func(choice int, score, weight float64) Candidate {
		return Candidate{Choice: choice, Turn: 1, Score: score, Weight: weight, Priced: true}
	}
	sticky := func(a Candidate) Candidate { a.Sticky = true; return a }
	filtered := func(a Candidate) Candidate { a.Filter = Unhealthy; return a }
	for name, tt := range map[string]struct {
		epsilon  float64
		arms     []Candidate
		want     []float64
		best     int
		explores []bool
	}{
		"one to three":       {0, []Candidate{arm(1, .9, 1), arm(1, .8, 3), arm(2, .5, 9)}, []float64{.25, .75, 0}, 1, []bool{false, false, true}},
		"with exploration":   {.3, []Candidate{arm(1, .9, 1), arm(1, .8, 3), arm(2, .5, 9)}, []float64{.275, .625, .1}, 1, []bool{false, false, true}},
		"no weight":          {0, []Candidate{arm(1, .9, 0), arm(1, .8, 0)}, []float64{1, 0}, 0, []bool{false, true}},
		"the best has none":  {.5, []Candidate{arm(1, .9, 0), arm(1, .8, 2)}, []float64{.25, .75}, 1, []bool{true, false}},
		"one cannot serve":   {0, []Candidate{filtered(arm(1, .9, 3)), arm(1, .8, 1), arm(1, .7, 1)}, []float64{0, .5, .5}, 1, []bool{true, false, false}},
		"another choice":     {0, []Candidate{arm(1, .9, 0), arm(2, .8, 5)}, []float64{1, 0}, 0, []bool{false, true}},
		"no choice":          {0, []Candidate{arm(0, .9, 1), arm(0, .8, 5)}, []float64{1, 0}, 0, []bool{false, true}},
		"a conversation":     {.5, []Candidate{sticky(arm(1, .9, 1)), arm(1, .8, 3)}, []float64{1, 0}, 0, []bool{false, false}},
		"one that may leave": {0, []Candidate{arm(1, .9, 1), sticky(arm(1, .1, 3))}, []float64{.25, .75}, 1, []bool{false, false}},
	} {
		c := &Case{Candidates: tt.arms, Fallback: -1, Reference: -1, Pinned: -1, Explore: true, Epsilon: tt.epsilon}
		var d Distribution
		if (Router{}).Propose(&d, c); d.Best != tt.best {
			t.Errorf("%s: the best is %d, want %d", name, d.Best, tt.best)
		}
		for i, want := range tt.want {
			if math.Abs(d.P[i]-want) > 1e-15 || d.Explores(c, i) != tt.explores[i] {
				t.Errorf("%s: candidate %d has %v and explores %v, want %v and %v", name, i, d.P[i], d.Explores(c, i), want, tt.explores[i])
			}
		}
	}
}

// TestWeightsMoveNothingElse: they move mass within the choice of the best and nowhere else, and what they leave is a distribution.
func TestWeightsMoveNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCase().Draw(t, "case")
		for i := range c.Candidates {
			c.Candidates[i].Choice, c.Candidates[i].Turn = rapid.IntRange(0, 3).Draw(t, "choice"), 1
		}
		Constrain(c)
		var plain, d Distribution
		Router{}.Propose(&plain, c)
		for i := range c.Candidates {
			c.Candidates[i].Weight = rapid.SampledFrom([]float64{0, 0, 1, 2.5, 1e6}).Draw(t, "weight")
		}
		if (Router{}).Propose(&d, c); plain.Best < 0 {
			return
		}
		sum, choice := 0.0, c.Candidates[plain.Best].Choice
		for i, p := range d.P {
			if sum += p; p != plain.P[i] && (choice == 0 || c.Candidates[i].Choice != choice) {
				t.Fatalf("candidate %d of another choice has %v, and %v without weights", i, p, plain.P[i])
			}
			if p < 0 || c.Candidates[i].Filter != Eligible && p != 0 {
				t.Fatalf("candidate %d (%q) has %v", i, c.Candidates[i].Filter, p)
			}
		}
		if math.Abs(sum-1) > 1e-12 || c.Candidates[d.Best].Choice != choice || !(d.P[d.Best] > 0) {
			t.Fatalf("the sum is %v, the best %d has %v", sum, d.Best, d.P[d.Best])
		}
	})
}
