package trainer

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/evals/bench"
)

const (
	// essMin is the effective sample size under which no value of a policy is told.
	essMin = 100
	// noLoggedValue begins every reason that a log gives for not judging.
	noLoggedValue = "a log shows one arm a prompt, and "
)

// draw is one draw of the logging policy on held-out prompts, as two policies that choose on the same prompt see it.
type draw struct {
	reward               float64
	candidate, incumbent float64 // importance weights: 1/p where the policy would have chosen the arm that was drawn, else 0
	rounds               float64 // of the draw's session that were scored
}

// judgeLog compares the router, out of fold and at λ = 0, with what the logging policies preferred, on the logged draws
// that could have gone another way. Both are valued by SNIPS with the exact propensities, which asks nothing of any
// model of rewards; the interval of the difference is by linearization. The mean of logged rewards is nobody's value
// and is not told.
func judgeLog(o *OOF) Verdict {
	draws := o.draws()
	n := float64(len(draws))
	candidate, incumbent := snips(draws, func(d *draw) float64 { return d.candidate }), snips(draws, func(d *draw) float64 { return d.incumbent })
	v := Verdict{Measure: "SNIPS", Prompts: len(draws), ESS: min(candidate.ess, incumbent.ess)}
	if v.ESS < essMin {
		v.Reason = fmt.Sprintf(noLoggedValue+"the effective sample size of %d draws with a choice is %.0f, less than %d: explore more or wait",
			len(draws), v.ESS, essMin)
		return v
	}
	square := 0.0
	for i := range draws {
		d := &draws[i]
		square += math.Pow(d.candidate*(d.reward-candidate.value)/candidate.weight-d.incumbent*(d.reward-incumbent.value)/incumbent.weight, 2)
	}
	half := 1.96 * math.Sqrt(square) / n
	v.ScoreAtBest, v.ScoreOfIncumbent = candidate.value, incumbent.value
	v.Gain = candidate.value - incumbent.value
	v.GainLow, v.GainHigh = v.Gain-half, v.Gain+half
	v.Routes = v.GainLow > 0
	return v
}

// valued is a policy's estimated value, the mean weight that it rests on, and its effective sample size.
type valued struct{ value, weight, ess float64 }

// snips is the self-normalized importance-weighted mean (Swaminathan and Joachims 2015).
func snips(draws []draw, weight func(*draw) float64) valued {
	total, square, reward := 0.0, 0.0, 0.0
	for i := range draws {
		w := weight(&draws[i])
		total, square, reward = total+w, square+w*w, reward+w*draws[i].reward
	}
	if total == 0 {
		return valued{}
	}
	return valued{reward / total, total / float64(len(draws)), total * total / square}
}

// draws gathers the held-out logged rounds by the draw that fixed their arm: the rounds of a sticky session are one
// observation, with the mean of their rewards. A draw whose arm was certain (pinned, not to explore) compares nothing
// and is left out, and so is one whose opening round was not scored: the choice was made on that one's features.
func (o *OOF) draws() []draw {
	arms := len(o.Table.Arms)
	place := map[string]int{}
	var out []draw
	rows := o.seen.logged(o.Rows)
	for _, k := range rows {
		i := o.Rows[k]
		p := o.seen.propensity[i*arms : (i+1)*arms]
		id := o.Table.Prompts[i].ID
		drawn := o.observed(i)
		if cmp.Or(o.Table.Prompts[i].Group, id) != id || drawn < 0 || p[drawn] == 1 {
			continue
		}
		d := draw{}
		score := slices.Clone(o.Score[k*arms : (k+1)*arms])
		for j := range score {
			if p[j] == 0 {
				score[j] = math.Inf(-1)
			}
		}
		if bench.Choose(score, nil, 0) == drawn {
			d.candidate = 1 / p[drawn]
		}
		if p[drawn] == slices.Max(p) {
			d.incumbent = 1 / p[drawn]
		}
		place[id] = len(out)
		out = append(out, d)
	}
	for _, k := range rows {
		i := o.Rows[k]
		prompt := &o.Table.Prompts[i]
		if at, known := place[cmp.Or(prompt.Group, prompt.ID)]; known {
			d := &out[at]
			d.rounds++
			d.reward += (float64(o.Table.Score[i*arms+o.observed(i)]) - d.reward) / d.rounds
		}
	}
	return out
}

// observed is the first arm that was scored on a prompt, or −1.
func (o *OOF) observed(i int) int {
	for j := range o.Table.Arms {
		if o.Table.Observed(i, j) {
			return j
		}
	}
	return -1
}
