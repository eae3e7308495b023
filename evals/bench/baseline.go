package bench

import (
	"errors"
	"math"
	"slices"
	"sort"
)

// Baselines stand beside every result. Each is fitted on the training rows of a fold, with the fold's mean cost of each
// arm as decision cost, and is in the matrix's order.
type Baselines struct {
	// Constants scores an arm with its training mean: its λ = 0 choice is the best constant as a fold sees it, its curve
	// the constants of the zero router's hull.
	Constants *Predictions
	// Cheapest always takes the arm of the lowest training mean cost.
	Cheapest *Predictions
	// Length knows the length of the prompt and nothing else; Label knows its task and nothing else.
	Length *Predictions
	Label  *Predictions
	// Oracle knows what every arm will score and cost. No router can know it.
	Oracle *Predictions
}

// All are the baselines in the order in which they are printed, the oracle last.
func (b *Baselines) All() []*Predictions {
	return []*Predictions{b.Constants, b.Cheapest, b.Length, b.Label, b.Oracle}
}

const (
	lengthBins   = 20
	lengthPseudo = 20
)

// NewBaselines fits the baselines. It needs at least two folds.
func NewBaselines(m *Matrix) (*Baselines, error) {
	if m.Folds < 2 {
		return nil, errors.New("bench: baselines need at least two folds that hold prompts")
	}
	make1 := func(name string) *Predictions {
		p := NewPredictions(name, m.Arms, m.N())
		p.Fold, p.Fallback = m.Fold, make([]int, m.Folds)
		p.Quality = p.Score
		return p
	}
	b := &Baselines{
		Constants: make1("best constant"), Cheapest: make1("cheapest constant"), Length: make1("length"),
		Label: make1("task label"), Oracle: make1("oracle"),
	}
	b.Oracle.Score, b.Oracle.CostUSD, b.Oracle.Quality, b.Oracle.Tokens = m.Score, m.Cost, nil, nil
	b.Cheapest.Quality, b.Cheapest.Tokens = nil, nil
	logTokens := make([]float64, len(m.Tokens))
	for k, v := range m.Tokens {
		logTokens[k] = math.Log(max(v, 1))
	}
	tasks := m.TaskNames()
	task := make([]int, m.N())
	for i, name := range m.Tasks {
		task[i], _ = slices.BinarySearch(tasks, name)
	}
	one := make([]int, m.N())
	for f := range m.Folds {
		length := m.lengthGroups(f)
		cost := m.Cost
		if cost == nil {
			cost = make([]float64, len(m.Score))
		}
		for _, g := range []struct {
			p      *Predictions
			group  []int
			pseudo float64
		}{{b.Constants, one, 0}, {b.Length, length, lengthPseudo}, {b.Label, task, 0}} {
			m.table(f, g.group, g.pseudo, m.Score, g.p.Score)
			m.table(f, g.group, g.pseudo, logTokens, g.p.Tokens)
			m.table(f, one, 0, cost, g.p.CostUSD)
		}
		m.table(f, one, 0, cost, b.Cheapest.CostUSD)
		b.pick(m, f)
	}
	for _, p := range []*Predictions{b.Constants, b.Length, b.Label} {
		for k, v := range p.Tokens {
			p.Tokens[k] = math.Exp(v)
		}
	}
	return b, nil
}

// pick fills what follows from the constants of fold f: the fallbacks and the cheapest arm.
func (b *Baselines) pick(m *Matrix, f int) {
	i := slices.Index(m.Fold, f)
	width := len(m.Arms)
	points := make([]Point, width)
	for j := range points {
		points[j] = Point{b.Constants.CostUSD[i*width+j], b.Constants.Score[i*width+j]}
	}
	for _, p := range b.All() {
		p.Fallback[f] = Best(points)
	}
	least := Cheapest(points)
	for i, g := range m.Fold {
		if g == f {
			b.Cheapest.Score[i*width+least] = 1
			b.Cheapest.CostUSD[i*width+least] = 0 // so that no price of a dollar changes the choice
		}
	}
}

// lengthGroups puts every prompt into one of 20 bins of log byte length, equal in count on the training rows of fold f.
func (m *Matrix) lengthGroups(f int) []int {
	x := make([]float64, m.N())
	var train []float64
	for i, b := range m.Bytes {
		x[i] = math.Log(float64(max(b, 1)))
		if m.Fold[i] != f {
			train = append(train, x[i])
		}
	}
	slices.Sort(train)
	edges := make([]float64, lengthBins-1)
	for k := range edges {
		edges[k] = quantile(train, float64(k+1)/lengthBins)
	}
	group := make([]int, m.N())
	for i, v := range x {
		group[i] = sort.Search(len(edges), func(k int) bool { return edges[k] > v })
	}
	return group
}

// quantile interpolates between the order statistics of a sorted slice.
func quantile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := p * float64(len(sorted)-1)
	k := int(at)
	if k+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[k] + (at-float64(k))*(sorted[k+1]-sorted[k])
}

// table fits y by its mean per group and arm on the training rows of fold f, shrunk by pseudo counts toward the arm's
// mean, and writes it into the rows of fold f. A group without training rows gets the arm's mean.
func (m *Matrix) table(f int, group []int, pseudo float64, y, out []float64) {
	width := len(m.Arms)
	cells := (slices.Max(group) + 1) * width
	sum, count := make([]float64, cells), make([]float64, cells)
	all, rows := make([]float64, width), make([]float64, width)
	for i := range m.IDs {
		if m.Fold[i] == f {
			continue
		}
		for j := range width {
			v := y[i*width+j]
			if math.IsNaN(v) {
				continue
			}
			g := group[i]*width + j
			sum[g], count[g] = sum[g]+v, count[g]+1
			all[j], rows[j] = all[j]+v, rows[j]+1
		}
	}
	for i := range m.IDs {
		if m.Fold[i] != f {
			continue
		}
		for j := range width {
			g, mean := group[i]*width+j, all[j]/rows[j]
			out[i*width+j] = mean
			if n := count[g] + pseudo; n > 0 {
				out[i*width+j] = (sum[g] + pseudo*mean) / n
			}
		}
	}
}
