package bench

import "math"

// Operating is a point of use, chosen without looking at the rows it is judged on.
type Operating struct {
	// Target is the share of the best constant's score that was asked for.
	Target float64
	// Choice is the arm of each prompt.
	Choice []int
	// Lambda is the chosen price of a dollar, by fold; NaN where no price reached the target and the best constant of the
	// other folds serves.
	Lambda []float64
	// Point is what the choices cost and achieve; RelScore and RelCost are its ratios to the best constant of all prompts.
	Point
	RelScore, RelCost float64
	// Share is the share of prompts that each arm gets.
	Share []float64
	// at is what every prompt scores and costs.
	at []Point
}

// mean is the mean of all prompts; weight is as in Trace.Curve.
func (o *Operating) mean(weight []float64) Point {
	var p Point
	total := 0.0
	for i, at := range o.at {
		w := 1.0
		if weight != nil {
			w = weight[i]
		}
		total += w
		p.Score, p.Cost = p.Score+w*at.Score, p.Cost+w*at.Cost
	}
	return Point{p.Cost / total, p.Score / total}
}

// Operate chooses, for each fold, the cheapest price of a dollar that reaches target × the best constant's score on the
// rows of the other folds, and applies it to the fold's own rows. Where none does, the best constant of those rows
// serves. It needs two folds and returns nil where there is one.
func (t *Trace) Operate(target float64) *Operating {
	m := t.m
	if m.Folds < 2 {
		return nil
	}
	o := &Operating{Target: target, Choice: make([]int, m.N()), Lambda: make([]float64, m.Folds), Share: make([]float64, len(m.Arms)), at: make([]Point, m.N())}
	weight := make([]float64, m.N())
	for f := range m.Folds {
		for i, g := range m.Fold {
			weight[i] = 0
			if g != f {
				weight[i] = 1
			}
		}
		constants, curve := m.Constants(weight), t.Curve(weight)
		best := Best(constants)
		at := -1
		for k, p := range curve {
			if reaches(p.Score, target*constants[best].Score) && (at < 0 || p.Cost < curve[at].Cost) {
				at = k
			}
		}
		o.Lambda[f] = math.NaN()
		if at >= 0 {
			o.Lambda[f] = t.lambdas[at]
		}
		for i, g := range m.Fold {
			if g != f {
				continue
			}
			o.Choice[i], o.at[i] = best, Point{m.cost(i, best), m.Score[i*len(m.Arms)+best]}
			if at >= 0 {
				o.Choice[i], o.at[i] = t.Choice(i, at), t.at(i, at)
			}
		}
	}
	for _, j := range o.Choice {
		o.Share[j] += 1 / float64(m.N())
	}
	o.Point = o.mean(nil)
	constants := m.Constants(nil)
	best := constants[Best(constants)]
	o.RelScore, o.RelCost = o.Score/best.Score, o.Cost/best.Cost
	return o
}

// PairedSE is the standard error of the mean difference in score between two choices, over the prompts that count.
func (m *Matrix) PairedSE(a, b []int, weight []float64) float64 {
	var n, sum, squares float64
	for i := range a {
		w := 1.0
		if weight != nil {
			w = weight[i]
		}
		d := m.Score[i*len(m.Arms)+a[i]] - m.Score[i*len(m.Arms)+b[i]]
		n, sum, squares = n+w, sum+w*d, squares+w*d*d
	}
	return math.Sqrt(max(0, squares-sum*sum/n) / (n - 1) / n)
}
