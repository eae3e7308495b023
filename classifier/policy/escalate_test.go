package policy

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestLift(t *testing.T) {
	for _, tt := range []struct{ failed, next, want float64 }{
		{0, .8, .8},   // nothing was known of the one that failed: its wrong answer says nothing
		{.6, .8, .65}, // (0.8 + 0.2/0.4)/2
		{.8, .6, .3},  // the worse arm may know what the better does not
		{.8, .8, .4},  // and so may an equal
		{1, .9, .45},  // certainty that was wrong
		{-.1, 1.2, 1}, // scores are centred and may leave [0,1]
		{.5, 0, 0},
	} {
		if got := Lift(tt.failed, tt.next); math.Abs(got-tt.want) > 1e-12 {
			t.Errorf("Lift(%v, %v) = %v, want %v", tt.failed, tt.next, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.Float64Range(0, 1)
		a, b, c := unit.Draw(t, "failed"), unit.Draw(t, "next"), unit.Draw(t, "better")
		lift := Lift(a, b)
		if lift < 0 || lift > b+1e-12 {
			t.Fatalf("Lift(%v, %v) = %v is above the arm's own score", a, b, lift)
		}
		if c >= b && Lift(a, c) < lift-1e-12 {
			t.Fatalf("a better arm lifts less: %v", []float64{a, b, c})
		}
		if c >= a && Lift(c, b) > lift+1e-12 {
			t.Fatalf("the same arm lifts more after a better one failed: %v", []float64{a, b, c})
		}
	})
}

// TestEscalateIsTheBestThatPays by its definition, and costs less where a dollar is dearer.
func TestEscalateIsTheBestThatPays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "arms")
		score, cost, ok := make([]float64, n), make([]float64, n), make([]bool, n)
		for i := range n {
			score[i], cost[i] = rapid.Float64Range(0, 1).Draw(t, "score"), rapid.Float64Range(0, 0.1).Draw(t, "cost")
			ok[i] = rapid.IntRange(0, 4).Draw(t, "ok") > 0
		}
		arm := func(i int) (float64, float64, bool) { return score[i], cost[i], ok[i] }
		asked := rapid.Permutation(indices(n)).Draw(t, "asked")[:rapid.IntRange(1, n).Draw(t, "how many")]
		lambda := rapid.Float64Range(0, 50).Draw(t, "lambda")
		failed := 0.0
		for _, i := range asked {
			failed = max(failed, score[i])
		}
		worth := func(i int) float64 { return Lift(failed, score[i]) - float64(lambda*cost[i]) }
		got := Escalate(n, asked, lambda, arm)
		for i := range n {
			if !ok[i] || slices.Contains(asked, i) {
				continue
			}
			if got < 0 && worth(i) > 0 || got >= 0 && worth(i) > worth(got) {
				t.Fatalf("asked %d next, and %d is worth more", got, i)
			}
		}
		if got >= 0 && (!ok[got] || slices.Contains(asked, got) || worth(got) <= 0) {
			t.Fatalf("asked %d next, which may not be asked or does not pay", got)
		}
		if dearer := Escalate(n, asked, 2*lambda, arm); got < 0 && dearer >= 0 {
			t.Fatalf("%d pays where a dollar is twice as dear, and nobody does now", dearer)
		}
	})
}

// TestEscalateCase: the guard's own may be asked, the other filters' may not, and a guess is not compared with what was
// measured.
func TestEscalateCase(t *testing.T) {
	all := func(int) bool { return true }
	c := &Case{Candidates: []Candidate{
		{Score: .5, CostUSD: .001, Priced: true}, {Score: .9, CostUSD: .01, Priced: true, Filter: Guarded},
		{Score: .95, CostUSD: .01, Priced: true, Filter: Denied}, {Score: .97, Priced: false}, {Score: .99, CostUSD: .001, Priced: true, Prior: true},
	}}
	for _, tt := range []struct {
		lambda float64
		may    func(int) bool
		want   int
	}{
		{1, all, 1}, {0, all, 3}, {100, all, -1}, {1, func(i int) bool { return i != 1 }, -1},
	} {
		if got := c.Escalate([]int{0}, tt.lambda, tt.may); got != tt.want {
			t.Errorf("λ = %v: %d, want %d", tt.lambda, got, tt.want)
		}
	}
}
