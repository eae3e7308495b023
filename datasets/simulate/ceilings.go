package simulate

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

const (
	// lengthBins is the number of equally full bins of the length rule.
	lengthBins = 20
	// CeilingsMin is the fewest prompts that Ceilings takes: fifty a bin in the half that the rule is chosen on.
	CeilingsMin = 2000
)

// Ceiling is how far a policy gets: its mean true quality and its mean cost a prompt.
type Ceiling struct {
	Quality float64             `json:"quality"`
	Cost    catalog.Nanodollars `json:"cost_usd"`
}

// Ceilings says what can be won in a world. All of it is measured on the second half of the prompts.
type Ceilings struct {
	// Prompts is how many were measured.
	Prompts int `json:"prompts"`
	// Arms is each arm by itself; Best is the number of the best, and Single what it reaches.
	Arms   []Ceiling `json:"arms"`
	Best   int       `json:"best"`
	Single Ceiling   `json:"single"`
	// Length is the best arm for each of twenty bins of prompt length, chosen on the first half.
	Length Ceiling `json:"length"`
	// Features is the arm of the highest quality given family and level, which is all that a text shows.
	Features Ceiling `json:"features"`
	// Hidden knows the true difficulty too. Oracle knows every draw and takes the best, the cheapest among equals.
	Hidden Ceiling `json:"hidden"`
	Oracle Ceiling `json:"oracle"`
}

// Ceilings measures the first n prompts. Choices are made on true qualities and not on draws, which is the best that
// each rule could learn from any amount of data.
func (w *World) Ceilings(n int) (Ceilings, error) {
	if n < CeilingsMin {
		return Ceilings{}, fmt.Errorf("simulate: ceilings of %d prompts: want at least %d", n, CeilingsMin)
	}
	rule := w.lengthRule(n / 2)
	c := Ceilings{Prompts: n - n/2, Arms: make([]Ceiling, len(w.arms))}
	outcomes, quality := make([]Outcome, len(w.arms)), make([]float64, len(w.arms))
	for i := n / 2; i < n; i++ {
		t := w.Sample(int64(i))
		hidden, oracle := 0, 0
		for a := range w.arms {
			outcomes[a], quality[a] = w.Outcome(&t, a), w.Quality(&t, a)
			c.Arms[a].add(quality[a], outcomes[a].Cost)
			if quality[a] > quality[hidden] {
				hidden = a
			}
			if o, best := &outcomes[a], &outcomes[oracle]; o.Score > best.Score || o.Score == best.Score && o.Cost < best.Cost {
				oracle = a
			}
		}
		length, features := rule.arm(len(t.Text)), w.Best(&t)
		c.Length.add(quality[length], outcomes[length].Cost)
		c.Features.add(quality[features], outcomes[features].Cost)
		c.Hidden.add(quality[hidden], outcomes[hidden].Cost)
		c.Oracle.add(outcomes[oracle].Score, outcomes[oracle].Cost)
	}
	for _, p := range []*Ceiling{&c.Length, &c.Features, &c.Hidden, &c.Oracle} {
		p.divide(c.Prompts)
	}
	for a := range c.Arms {
		c.Arms[a].divide(c.Prompts)
		if c.Arms[a].Quality > c.Arms[c.Best].Quality {
			c.Best = a
		}
	}
	c.Single = c.Arms[c.Best]
	return c, nil
}

func (c *Ceiling) add(quality float64, cost catalog.Nanodollars) {
	c.Quality += quality
	c.Cost += cost
}

func (c *Ceiling) divide(n int) {
	c.Quality /= float64(n)
	c.Cost /= catalog.Nanodollars(n)
}

// lengthRule is an arm for each bin of length; bin k ends below edges[k], the last has no end.
type lengthRule struct {
	edges [lengthBins - 1]int
	arms  [lengthBins]int
}

func (l *lengthRule) bin(bytes int) int {
	k, found := slices.BinarySearch(l.edges[:], bytes)
	if found {
		k++
	}
	return k
}

func (l *lengthRule) arm(bytes int) int { return l.arms[l.bin(bytes)] }

func (w *World) lengthRule(n int) *lengthRule {
	tasks := make([]Task, n)
	for i := range tasks {
		tasks[i] = w.Sample(int64(i))
	}
	slices.SortFunc(tasks, func(a, b Task) int { return cmp.Compare(len(a.Text), len(b.Text)) })
	var l lengthRule
	for k := range l.edges {
		l.edges[k] = len(tasks[(k+1)*n/lengthBins].Text)
	}
	sums := make([]float64, lengthBins*len(w.arms))
	for i := range tasks {
		k := l.bin(len(tasks[i].Text))
		for a := range w.arms {
			sums[k*len(w.arms)+a] += w.Quality(&tasks[i], a)
		}
	}
	for k := range l.arms {
		row := sums[k*len(w.arms) : (k+1)*len(w.arms)]
		l.arms[k] = slices.Index(row, slices.Max(row))
	}
	return &l
}
