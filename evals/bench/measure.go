package bench

import (
	"cmp"
	"math"
	"slices"
)

// MatchShares are the shares of the best constant's cost at which a matched score is taken.
var MatchShares = [5]float64{0.05, 0.10, 0.25, 0.50, 1}

// Measures are the numbers of one curve beside its constants. All are NaN where costs are unknown, but for PerfGain.
type Measures struct {
	// AIQ is of the hull of the router's points and all constants, Own of the router's points and the cheapest constant
	// alone, Zero of the constants alone; Gain = Own − Zero.
	AIQ, Own, Zero, Gain float64
	// Matched are the scores at MatchShares of the best constant's cost.
	Matched [5]float64
	// CostToMatch and CostTo95 are the least cost that reaches the best constant's score, or 95 % of it, as a share of
	// its cost.
	CostToMatch, CostTo95 float64
	// PerfGain and CostSave look at the router's own configurations: the best of them against the best constant, and what
	// the cheapest one that is as good as it saves (NaN: never).
	PerfGain, CostSave float64
}

// Best is the index of the best constant: the highest score, at a tie the lower cost, then the first.
func Best(constants []Point) int {
	best := 0
	for j, p := range constants {
		if b := constants[best]; p.Score > b.Score || p.Score == b.Score && p.Cost < b.Cost {
			best = j
		}
	}
	return best
}

// Cheapest is the index of the cheapest constant: at a tie the higher score, then the first.
func Cheapest(constants []Point) int {
	least := 0
	for j, p := range constants {
		if b := constants[least]; p.Cost < b.Cost || p.Cost == b.Cost && p.Score > b.Score {
			least = j
		}
	}
	return least
}

// Measure compares a curve with the constants on the same prompts.
func Measure(constants, curve []Point) Measures {
	var s scratch
	return s.measure(constants, curve, zeroAIQ(constants))
}

func zeroAIQ(constants []Point) float64 {
	if math.IsNaN(constants[0].Cost) {
		return math.NaN()
	}
	from, to := CostRange(constants)
	return NewHull(constants).AIQ(from, to)
}

// CostRange is the least and the largest cost of constants: where AIQ is taken.
func CostRange(constants []Point) (from, to float64) {
	byCost := func(a, b Point) int { return cmp.Compare(a.Cost, b.Cost) }
	return slices.MinFunc(constants, byCost).Cost, slices.MaxFunc(constants, byCost).Cost
}

// scratch is memory that a bootstrap worker reuses.
type scratch struct{ hull, own []Point }

func (s *scratch) measure(constants, curve []Point, zero float64) Measures {
	best := constants[Best(constants)]
	m := Measures{Zero: zero, CostSave: math.NaN(), PerfGain: math.Inf(-1)}
	save := math.Inf(1)
	for _, p := range curve {
		m.PerfGain = max(m.PerfGain, p.Score/best.Score-1)
		if reaches(p.Score, best.Score) {
			save = min(save, p.Cost/best.Cost)
		}
	}
	if math.IsNaN(best.Cost) {
		nan := math.NaN()
		m.AIQ, m.Own, m.Gain, m.CostToMatch, m.CostTo95 = nan, nan, nan, nan, nan
		m.Matched = [5]float64{nan, nan, nan, nan, nan}
		return m
	}
	if !math.IsInf(save, 1) {
		m.CostSave = 1 - save
	}
	from, to := CostRange(constants)
	s.hull = appendHull(s.hull, curve, constants)
	all := Hull(s.hull)
	m.AIQ = all.AIQ(from, to)
	for k, share := range MatchShares {
		m.Matched[k] = all.At(share * best.Cost)
	}
	m.CostToMatch = all.CostOf(best.Score) / best.Cost
	m.CostTo95 = all.CostOf(0.95*best.Score) / best.Cost
	cheapest := Cheapest(constants)
	s.own = appendHull(s.own, curve, constants[cheapest:cheapest+1])
	m.Own = Hull(s.own).AIQ(from, to)
	m.Gain = m.Own - zero
	return m
}

// reaches compares mean scores that were summed in different orders.
func reaches(score, target float64) bool { return score >= target*(1-1e-12) }

// TaskMin is the least number of prompts of a task that counts in the within-task gain.
const TaskMin = 100

// WithinTaskGain is Σ (n_t/n)·(AIQ-own − zero-router AIQ on task t) over the tasks of at least 100 prompts: what the
// router gains beyond knowing the task. It is NaN where costs are unknown or no task is large enough.
func (t *Trace) WithinTaskGain() float64 {
	sum, any := 0.0, false
	for _, task := range t.m.TaskNames() {
		weight, n := t.m.TaskWeight(task)
		if n < TaskMin {
			continue
		}
		any = true
		sum += float64(n) / float64(t.m.N()) * Measure(t.m.Constants(weight), t.Curve(weight)).Gain
	}
	if !any {
		return math.NaN()
	}
	return sum
}

// TaskWeight is 1 for the prompts of a task and 0 for all others, with their number.
func (m *Matrix) TaskWeight(task string) (weight []float64, n int) {
	weight = make([]float64, m.N())
	for i, name := range m.Tasks {
		if name == task {
			weight[i] = 1
			n++
		}
	}
	return weight, n
}

// MacroMean is the mean over tasks of the mean score and cost of a choice.
func (m *Matrix) MacroMean(choice []int) Point {
	var sum Point
	tasks := m.TaskNames()
	for _, task := range tasks {
		weight, _ := m.TaskWeight(task)
		p := m.Mean(choice, weight)
		sum.Cost, sum.Score = sum.Cost+p.Cost, sum.Score+p.Score
	}
	return Point{sum.Cost / float64(len(tasks)), sum.Score / float64(len(tasks))}
}

// arenaBeta weighs cost against accuracy in the Arena score.
const arenaBeta = 0.1

// Arena is the RouterArena score of an accuracy in [0,1] at a cost in US dollars per 1,000 requests: 200 dollars are
// worth 0 and 0.0044 dollars 1. It is NaN where the cost is not positive.
func Arena(accuracy, usdPer1000 float64) float64 {
	if !(usdPer1000 > 0) {
		return math.NaN()
	}
	l := (math.Log2(200) - math.Log2(usdPer1000)) / (math.Log2(200) - math.Log2(0.0044))
	return (1 + arenaBeta) * accuracy * l / (arenaBeta*accuracy + l)
}
