package trainer

import (
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// PriorStrength is how many own scores of an arm halve the weight of the prior table's.
const PriorStrength = 500

// evidence says how the cells of a table came to be seen; nil is a table of which everybody chose the rows, not a policy.
type evidence struct {
	// own marks the prompts that were logged.
	own []bool
	// fade is what a score of the prior table counts, by arm; a logged score counts 1.
	fade []float64
	// propensity has the table's cells: the probability of an arm in the case of a logged round, NaN in rows of a prior.
	propensity []float64
	// expected has the table's cells: the quality that the router of the day expected, NaN where it expected nothing.
	expected []float32
	// team is whose a logged prompt was, 0 in rows of a prior.
	team []classifier.Team
}

// weigh is what a score of prompt i for arm j counts in a fit.
func (e *evidence) weigh(i, j int) float64 {
	if e == nil || e.own[i] {
		return 1
	}
	return e.fade[j]
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
	e := &evidence{own: make([]bool, n), team: make([]classifier.Team, n), propensity: make([]float64, len(out.Score)), expected: slices.Clone(out.Score)}
	for i, t := range log.Team {
		e.team[i] = classifier.TeamOf(t.Org, t.Team)
	}
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
				if s == 0 {
					e.propensity[at], e.expected[at] = log.Propensity[from], float32(log.Estimate[from])
				}
			}
		}
		first += len(t.Prompts)
	}
	for at := len(log.Table.Prompts) * len(arms); at < len(e.propensity); at++ {
		e.propensity[at] = math.NaN()
	}
	for j := range arms {
		scores := 0.0
		for i := range log.Table.Prompts {
			if out.Observed(i, j) {
				scores++
			}
		}
		e.fade = append(e.fade, 1/(1+scores/PriorStrength))
	}
	return out, e, nil
}

func columnsOf(all, some []catalog.ArmID) []int {
	to := make([]int, len(some))
	for j, a := range some {
		to[j] = slices.Index(all, a)
	}
	return to
}

// pick is the evidence of some prompts of a table of m arms, and of some of the arms.
func (e *evidence) pick(prompts, arms []int, m int) *evidence {
	if e == nil {
		return nil
	}
	out := &evidence{}
	for _, j := range arms {
		out.fade = append(out.fade, e.fade[j])
	}
	for _, i := range prompts {
		out.own, out.team = append(out.own, e.own[i]), append(out.team, e.team[i])
		for _, j := range arms {
			out.propensity, out.expected = append(out.propensity, e.propensity[i*m+j]), append(out.expected, e.expected[i*m+j])
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
	expected := func(i, j int) float64 { return f.belief.expect(i, j, 0) }
	mean, variance := f.departure(rows, len(f.tasks.names), f.tasks.weigh, doubt*tablePrior, expected)
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
