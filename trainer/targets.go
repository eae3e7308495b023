package trainer

import (
	"cmp"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/evals/bench"
)

const (
	// delta is 1 − the confidence of a certified target.
	delta = 0.05
	// ladderSteps is the number of configurations that are tested, from the safest on.
	ladderSteps = 20
	// unseenMax is the share of prompts whose routed arm may be unscored before nothing is certified: in a sparse table
	// the scored ones may not be a fair sample.
	unseenMax = 0.1
)

// routed is what one price of a dollar would have done on the out-of-fold prompts.
type routed struct {
	lambda, forecast float64 // forecast is the expected cost a prompt
	// safe and score are the fallback's scores and the routed ones, on the prompts where both were seen; unseen is the
	// share of the others.
	safe, score []float64
	unseen      float64
}

// route chooses by the out-of-fold score at one price.
func (o *OOF) route(score []float64, lambda float64, fallback int) routed {
	r := routed{lambda: lambda}
	arms := len(o.Table.Arms)
	for k, i := range o.Rows {
		at := k * arms
		var cost []float64
		if o.CostUSD != nil {
			cost = o.CostUSD[at : at+arms]
		}
		j := bench.Choose(score[at:at+arms], cost, lambda)
		if j < 0 {
			j = fallback
		}
		if cost != nil && cost[j] == cost[j] {
			r.forecast += cost[j]
		}
		if o.seen != nil {
			if o.seen.own[i] { // estimates: nobody saw what the one arm and the other made of the same prompt
				r.score, r.safe = append(r.score, o.Quality[at+j]), append(r.safe, o.Quality[at+fallback])
			}
		} else if o.Table.Observed(i, j) && o.Table.Observed(i, fallback) {
			r.score = append(r.score, float64(o.Table.Score[o.Table.At(i, j)]))
			r.safe = append(r.safe, float64(o.Table.Score[o.Table.At(i, fallback)]))
		}
	}
	r.forecast /= float64(len(o.Rows))
	r.unseen = 1 - float64(len(r.score))/float64(len(o.Rows))
	if o.seen != nil {
		r.unseen = 1
	}
	return r
}

// shares are the further shares of the fallback's score for which a price is fitted: an operator may ask for any, and gets
// that of the next one up.
func shares() []float64 {
	return []float64{0.995, 0.98, 0.97, 0.96, 0.94, 0.93, 0.92, 0.91, 0.9, 0.85, 0.8}
}

// keeps reports whether the mean score is at least the share t of the fallback's.
func (r *routed) keeps(t float64) bool {
	safe, score := 0.0, 0.0
	for k := range r.safe {
		safe, score = safe+r.safe[k], score+r.score[k]
	}
	return score >= t*safe
}

// targets finds a price of a dollar for every strategy, on one of the two scores. "quality" asks for the best, whatever it costs. "balanced" and
// "cost" take the last rung of the ladder that is certified to keep 99 and 95 % of the fallback's score; where not even
// the first is, the last that kept it on these prompts, without a certificate. The ladder is made of forecasts alone,
// so climbing it rung by rung until one fails needs no correction for the number of rungs.
func targets(o *OOF, score []float64, fallback int) []classifier.Target {
	ladder := o.ladder(score, fallback)
	out := []classifier.Target{{Strategy: "quality", Target: 1, Certified: certified(&ladder[0], 1)}}
	wanted := []classifier.Target{{Strategy: "balanced", Target: 0.99}, {Strategy: "cost", Target: 0.95}}
	for _, share := range shares() {
		wanted = append(wanted, classifier.Target{Target: share})
	}
	slices.SortFunc(wanted, func(a, b classifier.Target) int { return cmp.Compare(b.Target, a.Target) })
	for _, t := range wanted {
		guess := t
		open, kept := true, true
		for k := range ladder {
			r := &ladder[k]
			if open = open && certified(r, t.Target); open {
				t.Lambda, t.Certified = r.lambda, true
			}
			if kept = kept && r.keeps(t.Target); kept {
				guess.Lambda = r.lambda
			}
		}
		if !t.Certified {
			t = guess
		}
		out = append(out, t)
	}
	return out
}

func certified(r *routed, t float64) bool {
	return r.unseen <= unseenMax && policy.Certify(r.safe, r.score, t, delta)
}

// ladder is λ = 0 and then the prices that lower the forecast cost a prompt in about equal steps to the least.
func (o *OOF) ladder(score []float64, fallback int) []routed {
	steps := []routed{o.route(score, 0, fallback)}
	if o.CostUSD == nil {
		return steps
	}
	lambdas := bench.Lambdas()
	curve := make([]routed, len(lambdas))
	parallel(len(lambdas), func(k int) { curve[k] = o.route(score, lambdas[k], fallback) })
	from, to := curve[0].forecast, curve[len(curve)-1].forecast
	for n := 1; n <= ladderSteps; n++ {
		limit := from - (from-to)*float64(n)/ladderSteps
		k := slices.IndexFunc(curve, func(r routed) bool { return r.forecast <= limit*(1+1e-9) })
		if k >= 0 && curve[k].lambda > steps[len(steps)-1].lambda && !math.IsNaN(limit) {
			steps = append(steps, curve[k])
		}
	}
	return steps
}
