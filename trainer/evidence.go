package trainer

import (
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

const (
	// WeightMax is the largest importance weight 1/p that a logged score gets: a rarer draw counts as if it were not.
	WeightMax = 3
	// PriorStrength is how many own scores of an arm halve the weight of the prior table's.
	PriorStrength = 500
	// BeliefStrength is how many scores of an arm the estimates of the routers that wrote the log are worth.
	BeliefStrength = 1000
)

// evidence says how the cells of a table came to be seen; nil is a table of which everybody chose the rows, not a policy.
type evidence struct {
	// weight has the table's cells: what a score counts in a fit.
	weight []float32
	// propensity has the table's cells: the probability of an arm in the case of a logged round, NaN in rows of a prior.
	propensity []float64
	// own marks the prompts that were logged.
	own []bool
	// score has the table's cells: what fits learn, NaN for nothing. It is the table's score, and where an arm was not
	// seen what the router of that day expected of it.
	score []float32
}

// weigh is the weight of a cell.
func (e *evidence) weigh(at int) float64 {
	if e == nil {
		return 1
	}
	return float64(e.weight[at])
}

// mix puts a log and a prior table (nil for none) under one roof, with the union of their arms. The names of the
// prior's tasks are left out: a log names none, and a table of tasks that own rounds cannot enter would never fade.
func mix(log *reward.Result, prior *datasets.Table) (*datasets.Table, *evidence, error) {
	arms := slices.Clone(log.Table.Arms)
	sources := []*datasets.Table{log.Table}
	if prior != nil {
		sources = append(sources, prior)
		for _, a := range prior.Arms {
			if !slices.Contains(arms, a) {
				arms = append(arms, a)
			}
		}
	}
	if len(arms) > datasets.ArmsMax {
		return nil, nil, fmt.Errorf("trainer: log and prior have %d arms, more than %d", len(arms), datasets.ArmsMax)
	}
	n := 0
	for _, t := range sources {
		n += len(t.Prompts)
	}
	out := datasets.NewTable(arms, n)
	out.Name, out.SHA256 = log.Table.Name, log.Table.SHA256
	e := &evidence{score: slices.Clone(out.Score), weight: make([]float32, len(out.Score)), propensity: make([]float64, len(out.Score)), own: make([]bool, n)}
	first := 0
	for s, t := range sources {
		to := columnsOf(arms, t.Arms)
		for i := range t.Prompts {
			row := first + i
			out.Prompts[row], e.own[row] = t.Prompts[i], s == 0
			out.Prompts[row].Dataset = ""
			for j, k := range to {
				at, from := out.At(row, k), t.At(i, j)
				out.Score[at], out.Cost[at], out.Latency[at] = t.Score[from], t.Cost[from], t.Latency[from]
				out.Input[at], out.Output[at] = t.Input[from], t.Output[from]
				e.score[at] = t.Score[from]
				if s == 0 && !out.Observed(row, k) {
					e.score[at] = float32(log.Estimate[from])
				}
				if s == 0 {
					e.propensity[at] = log.Propensity[from]
				}
			}
		}
		first += len(t.Prompts)
	}
	for at := len(log.Table.Prompts) * len(arms); at < len(e.propensity); at++ {
		e.propensity[at] = math.NaN()
	}
	e.set(out)
	return out, e, nil
}

func columnsOf(all, some []catalog.ArmID) []int {
	to := make([]int, len(some))
	for j, a := range some {
		to[j] = slices.Index(all, a)
	}
	return to
}

// set computes the weights, arm by arm. Logged scores count min(1/p, WeightMax), scaled so that they sum to their
// effective number n = (Σw)²/Σw²: ridges and pseudo-counts are in units of scores. What the router of the day expected
// of an arm that was not seen counts as BeliefStrength scores, all prompts together. A score of the prior table counts
// 1/(1 + n/PriorStrength): all where the log never saw the arm, half at PriorStrength own scores. Both are worth a
// bounded number of scores however long the log grows, and so they fade.
func (e *evidence) set(t *datasets.Table) {
	for j := range t.Arms {
		total, square, believed := 0.0, 0.0, 0.0
		for i := range t.Prompts {
			switch at := t.At(i, j); {
			case !e.own[i]:
			case t.Observed(i, j):
				w := min(1/e.propensity[at], WeightMax)
				e.weight[at] = float32(w)
				total, square = total+w, square+w*w
			case e.score[at] == e.score[at]:
				believed++
			}
		}
		effective, scale := 0.0, 0.0
		if total > 0 {
			effective, scale = total*total/square, total/square
		}
		for i := range t.Prompts {
			switch at := t.At(i, j); {
			case !e.own[i]:
				e.weight[at] = float32(1 / (1 + effective/PriorStrength))
			case t.Observed(i, j):
				e.weight[at] *= float32(scale)
			default:
				e.weight[at] = float32(min(1, BeliefStrength/max(1, believed)))
			}
		}
	}
}

// pick is the evidence of some prompts of a table of m arms, and of some of the arms.
func (e *evidence) pick(prompts, arms []int, m int) *evidence {
	if e == nil {
		return nil
	}
	out := &evidence{}
	for _, i := range prompts {
		out.own = append(out.own, e.own[i])
		for _, j := range arms {
			at := i*m + j
			out.weight, out.propensity = append(out.weight, e.weight[at]), append(out.propensity, e.propensity[at])
			out.score = append(out.score, e.score[at])
		}
	}
	return out
}

// logged are the places in rows of prompts that a log showed; all of them without a log.
func (e *evidence) logged(rows []int) []int {
	var places []int
	for k, i := range rows {
		if e == nil || e.own[i] {
			places = append(places, k)
		}
	}
	return places
}

// balanced is the arm with the highest mean score over the groups of a model, the cheaper of two within a standard
// error: where a policy chose who is seen, the mean of what was seen compares nothing, and the mean of the groups'
// means does.
func (f *fitter) balanced() int {
	rows := all(len(f.table.Prompts))
	arms := len(f.table.Arms)
	score := func(i, j int) float64 { return float64(f.score[i*arms+j]) }
	mean, variance := f.measure(rows, len(f.tasks.names), score, f.tasks.weigh).shrunk(tablePrior)
	share := f.tasks.share(rows)
	value, noise := make([]float64, arms), make([]float64, arms)
	for k, w := range share {
		for j := range arms {
			value[j] += w * mean.Data[k*arms+j]
			noise[j] += w * w * variance.Data[k*arms+j]
		}
	}
	_, cost := means(f.table)
	b := best(value, cost)
	out := b
	for j := range arms {
		if cost[j] < cost[out] && value[b]-value[j] <= math.Sqrt(noise[b]+noise[j]) {
			out = j
		}
	}
	return out
}

// meanQuality is what the router expects of every arm over the logged prompts that it did not see.
func (o *OOF) meanQuality() []float64 {
	arms := len(o.Table.Arms)
	mean := make([]float64, arms)
	rows := o.seen.logged(o.Rows)
	for _, k := range rows {
		for j := range mean {
			mean[j] += o.Quality[k*arms+j] / float64(len(rows))
		}
	}
	return mean
}
