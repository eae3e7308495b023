package bench

import (
	"fmt"
	"math"
)

// Lambdas are the prices of a dollar on a curve: 0, then 10^(−3+9j/89) for j = 0..89, in units of score per US dollar.
func Lambdas() []float64 {
	l := make([]float64, 1, 91)
	for j := range 90 {
		l = append(l, math.Pow(10, -3+9*float64(j)/89))
	}
	return l
}

// Choose is the arm with the highest score − λ·cost; ties go to the lower cost, then to the first. An arm whose score is
// NaN is passed over, and so is one of unknown cost (NaN) where λ > 0. It is −1 where no arm is left. A nil cost is zero.
func Choose(score, cost []float64, lambda float64) int {
	best, value, price := -1, 0.0, 0.0
	for j, v := range score {
		c := 0.0
		if cost != nil {
			c = cost[j]
		}
		if lambda > 0 {
			v -= lambda * c
		}
		if math.IsNaN(v) {
			continue
		}
		if best < 0 || v > value || v == value && c < price {
			best, value, price = j, v, c
		}
	}
	return best
}

// Trace is what a router chooses for every prompt along the whole curve. A prompt changes its arm only a few times
// between the best and the cheapest, so only the changes are kept: that makes a bootstrap resample one pass over them.
type Trace struct {
	Name string
	// Predictions are the router's own, in the matrix's order.
	Predictions *Predictions
	m           *Matrix
	lambdas     []float64
	// The changes of prompt i are start[i]..start[i+1]: from λ number step on, arm is chosen. dScore and dCost are the
	// differences to what was chosen before.
	start         []int32
	step          []uint8
	arm           []int32
	dScore, dCost []float64
	// expected says that scores and costs are those of a cascade, and not those of the arm chosen.
	expected bool
}

// NewTrace follows a router's choices over the curve's prices. The predictions must be in the matrix's order (see
// Matrix.Align). Where the router predicted no arm its fallback serves, and it is an error to have none.
func NewTrace(m *Matrix, p *Predictions) (*Trace, error) {
	t := &Trace{Name: p.Name, Predictions: p, m: m, lambdas: Lambdas(), start: make([]int32, 1, m.N()+1)}
	if !m.Priced() {
		t.lambdas = t.lambdas[:1]
	}
	width := len(m.Arms)
	if len(p.Score) != m.N()*width {
		return nil, fmt.Errorf("bench: predictions %q are not in the table's order", p.Name)
	}
	for i := range m.IDs {
		row := p.Score[i*width : (i+1)*width]
		var cost []float64
		if p.CostUSD != nil {
			cost = p.CostUSD[i*width : (i+1)*width]
		}
		last := -1
		for k, lambda := range t.lambdas {
			arm := Choose(row, cost, lambda)
			if arm < 0 && p.Fallback != nil {
				arm = p.Fallback[m.Fold[i]]
			}
			if arm < 0 {
				return nil, fmt.Errorf("bench: predictions %q: no arm can be chosen for prompt %q and there is no fallback", p.Name, m.IDs[i])
			}
			if arm != last {
				t.change(i, k, last, arm)
				last = arm
			}
		}
		t.start = append(t.start, int32(len(t.step)))
	}
	return t, nil
}

func (t *Trace) change(i, k, from, to int) {
	row := i * len(t.m.Arms)
	score, cost := t.m.Score[row+to], t.m.cost(i, to)
	if from >= 0 {
		score, cost = score-t.m.Score[row+from], cost-t.m.cost(i, from)
	}
	t.step, t.arm = append(t.step, uint8(k)), append(t.arm, int32(to))
	t.dScore, t.dCost = append(t.dScore, score), append(t.dCost, cost)
}

// Choice is the arm that the router chooses for prompt i at the k-th of the curve's prices.
func (t *Trace) Choice(i, k int) int {
	arm := t.arm[t.start[i]]
	for at := t.start[i] + 1; at < t.start[i+1] && int(t.step[at]) <= k; at++ {
		arm = t.arm[at]
	}
	return int(arm)
}

// at is what prompt i scores and costs at the k-th price.
func (t *Trace) at(i, k int) Point {
	if !t.expected {
		arm := t.Choice(i, k)
		return Point{t.m.cost(i, arm), t.m.Score[i*len(t.m.Arms)+arm]}
	}
	var p Point
	for at := t.start[i]; at < t.start[i+1] && int(t.step[at]) <= k; at++ {
		p.Score, p.Cost = p.Score+t.dScore[at], p.Cost+t.dCost[at]
	}
	return p
}

// Choices is Choice for every prompt.
func (t *Trace) Choices(k int) []int {
	out := make([]int, t.m.N())
	for i := range out {
		out[i] = t.Choice(i, k)
	}
	return out
}

// Curve is one point a price: actual mean cost (NaN where costs are unknown) and mean score. weight counts each prompt
// and nil counts each once.
func (t *Trace) Curve(weight []float64) []Point {
	return t.curve(weight, make([]Point, len(t.lambdas)))
}

func (t *Trace) curve(weight []float64, out []Point) []Point {
	clear(out)
	total := 0.0
	for i := range t.m.IDs {
		w := 1.0
		if weight != nil {
			w = weight[i]
		}
		if w == 0 {
			continue
		}
		total += w
		for at := t.start[i]; at < t.start[i+1]; at++ {
			p := &out[t.step[at]]
			p.Score += w * t.dScore[at]
			p.Cost += w * t.dCost[at]
		}
	}
	sum := Point{}
	for k := range out {
		sum.Cost, sum.Score = sum.Cost+out[k].Cost, sum.Score+out[k].Score
		out[k] = Point{sum.Cost / total, sum.Score / total}
	}
	return out
}

// cost is the actual cost of arm j on prompt i, NaN where costs are unknown.
func (m *Matrix) cost(i, j int) float64 {
	if m.Cost == nil {
		return math.NaN()
	}
	return m.Cost[i*len(m.Arms)+j]
}

// Constants is one point an arm: what always choosing it costs and achieves. weight is as in Trace.Curve.
func (m *Matrix) Constants(weight []float64) []Point {
	return m.constants(weight, make([]Point, len(m.Arms)))
}

func (m *Matrix) constants(weight []float64, out []Point) []Point {
	clear(out)
	total, width := 0.0, len(m.Arms)
	for i := range m.IDs {
		w := 1.0
		if weight != nil {
			w = weight[i]
		}
		if w == 0 {
			continue
		}
		total += w
		for j, s := range m.Score[i*width : (i+1)*width] {
			out[j].Score += w * s
		}
		if m.Cost == nil {
			continue
		}
		for j, c := range m.Cost[i*width : (i+1)*width] {
			out[j].Cost += w * c
		}
	}
	for j := range out {
		out[j].Score /= total
		out[j].Cost /= total
		if m.Cost == nil {
			out[j].Cost = math.NaN()
		}
	}
	return out
}

// Mean is the mean score and cost of one choice a prompt. weight is as in Trace.Curve.
func (m *Matrix) Mean(choice []int, weight []float64) Point {
	var p Point
	total := 0.0
	for i, j := range choice {
		w := 1.0
		if weight != nil {
			w = weight[i]
		}
		total += w
		p.Score += w * m.Score[i*len(m.Arms)+j]
		p.Cost += w * m.cost(i, j)
	}
	return Point{p.Cost / total, p.Score / total}
}
