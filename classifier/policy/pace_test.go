package policy

import "testing"

func TestPacer(t *testing.T) {
	p := Pacer{Curve: []CostPoint{{0, 10}, {1, 8}, {2, 8}, {4, 3}, {8, 1}}, BudgetUSD: 800 / (1 - PaceReserve), Requests: 100}
	for _, c := range []struct {
		name  string
		spent float64
		done  int
		want  float64
	}{
		{"as planned", 0, 0, 1}, {"as planned, later", 400, 50, 1}, {"a little ahead", 401, 50, 4}, {"behind", 200, 50, 0},
		{"far ahead", 750, 50, 8}, {"all spent", 800, 50, 8}, {"more than all", 900, 50, 8}, {"behind the end", 10, 100, 8},
	} {
		if got := p.Lambda(c.spent, c.done); got != c.want {
			t.Errorf("%s: got λ = %v, want %v", c.name, got, c.want)
		}
	}
	if got := new(Pacer).Lambda(0, 0); got != 0 {
		t.Errorf("without a curve: λ = %v", got)
	}
}
