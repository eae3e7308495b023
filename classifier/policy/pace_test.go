package policy

import "testing"

func TestPacer(t *testing.T) {
	const dear = 10.0 / PaceSpreads // of which the reserve makes 10
	p := Pacer{Curve: []CostPoint{{0, 10, dear}, {1, 8, dear}, {2, 8, dear}, {4, 3, 0}, {8, 1, 0}}, BudgetUSD: 810 / (1 - PaceReserve), Requests: 100}
	for _, c := range []struct {
		name  string
		spent float64
		done  int
		want  float64
	}{
		{"as planned", 0, 0, 1}, {"as planned, later", 400, 50, 1}, {"a little ahead", 401, 50, 4}, {"behind", 200, 50, 0},
		{"far ahead", 750, 50, 8}, {"near the end, enough for a dear answer", 792, 99, 1}, {"near the end, not enough", 793, 99, 4}, {"all spent", 810, 50, 8}, {"more than all", 900, 50, 8}, {"behind the end", 10, 100, 8},
	} {
		if got := p.Lambda(c.spent, c.done); got != c.want {
			t.Errorf("%s: got λ = %v, want %v", c.name, got, c.want)
		}
	}
	if got := new(Pacer).Lambda(0, 0); got != 0 {
		t.Errorf("without a curve: λ = %v", got)
	}
}
