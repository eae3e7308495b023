package serving

import (
	"cmp"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file is what a request says of providers beside their names: what they must promise and list, which are filters, and
// in which order those of one model are tried, which is part of the case, so that a decision can be made anew.

// declared is the filter of an arm of which nobody has declared what the request asks for, or that lists a higher price.
func (r *round) declared(a *catalog.Arm) policy.Filter {
	p := r.wire.Tradewind.Provider
	switch {
	case p == nil:
		return policy.Eligible
	case !a.Data.Has(p.Data):
		return policy.DataPolicy
	case len(p.Quantizations) > 0 && !slices.Contains(p.Quantizations, a.Quantization):
		return policy.Quantized
	case !p.MaxPrice.Any():
		return policy.Eligible
	case !a.Prices.Known:
		return policy.Unpriced
	}
	input, output := a.Prices.Listed(r.inputs(a))
	if a.Mode == catalog.ModeEmbedding { // it has none
		output = 0
	}
	m := &p.MaxPrice
	if m.Prompt != nil && input > catalog.Picodollars(*m.Prompt) || m.Completion != nil && output > catalog.Picodollars(*m.Completion) ||
		m.Request != nil && a.Prices.Request > *m.Request {
		return policy.MaxCost
	}
	return policy.Eligible
}

// line puts the providers of each choice in the request's order, behind their equals those that are slower than it prefers,
// and those that are equal then in the operator's order. To a client that names a model its name is one choice, whatever it
// stands for; where the router chooses, each model is one. A single arm that is named has no others.
func (r *round) line(c *policy.Case) {
	p := r.wire.Tradewind.Provider
	if c.Pinned >= 0 {
		return
	}
	ordered := p != nil && (len(p.Order) > 0 || p.MaxLatency != (openai.Preferred{}) || p.MinThroughput != (openai.Preferred{}))
	prioritized, weighted := r.prioritized(), r.weighted()
	if !ordered && !prioritized && !weighted {
		return
	}
	for i := range c.Candidates {
		a, arm := &c.Candidates[i], &r.router.arms[i]
		if a.Turn = 1 + r.rankAmong(arm, prioritized); ordered && r.slow(p, arm) {
			a.Turn += catalog.PriorityMax + 1
		}
		if weighted {
			a.Weight = arm.Weight
		}
		if a.Choice = 1; !r.wire.Target.Auto {
			continue
		}
		if j := slices.IndexFunc(r.router.arms[:i], func(b catalog.Arm) bool { return sameModel(arm, &b) && arm.Effort == b.Effort }); j >= 0 {
			a.Choice = c.Candidates[j].Choice
		} else {
			a.Choice = i + 1
		}
	}
}

// prioritized reports whether the operator's order of providers counts: a request that says what it goes by has its own.
func (r *round) prioritized() bool {
	return r.router.prioritized && r.wire.Strategy() == openai.StrategyNone
}

// weighted reports whether the operator's weights count, which is where the request does not say what it goes by.
func (r *round) weighted() bool {
	return r.router.weighted && r.wire.Strategy() == openai.StrategyNone
}

// rankAmong is an arm's rank among the providers of its choice: by the request's order, and among equals by the operator's.
// Between two ranks of the request there is room for the arms that are slow.
func (r *round) rankAmong(a *catalog.Arm, prioritized bool) int {
	rank := 2 * (catalog.PriorityMax + 1) * r.rank(a)
	if prioritized {
		rank += cmp.Or(a.Priority, catalog.PriorityMax+1) - 1
	}
	return rank
}

// rank is an arm's place in the request's order of providers. Those that are not in it come after all that are.
func (r *round) rank(a *catalog.Arm) int {
	p := r.wire.Tradewind.Provider
	if p == nil {
		return 0
	}
	if i := slices.Index(p.Order, a.ID.Provider()); i >= 0 {
		return i
	}
	return len(p.Order)
}

// throughputTokens is the length of the answers by whose time arms are told apart where tokens per second are asked for: of
// one length, so that an arm of many words is not taken for a slow one.
const throughputTokens = 1000

// slow reports whether an arm is known to be slower than the request prefers.
func (r *round) slow(p *openai.Preferences, a *catalog.Arm) bool {
	first, first90 := r.live.Pool.Forecast(a.ID, true, float64(r.context.Tokens), 0)
	whole, whole90 := r.live.Pool.Forecast(a.ID, false, float64(r.context.Tokens), throughputTokens)
	late := func(most float64, took time.Duration) bool { return most > 0 && took.Seconds() > most }
	few := func(least float64, took time.Duration) bool {
		return least > 0 && took.Seconds()*least > throughputTokens
	}
	return late(p.MaxLatency.P50, first) || late(p.MaxLatency.P90, first90) || few(p.MinThroughput.P50, whole) || few(p.MinThroughput.P90, whole90)
}

// sameModel reports whether two arms are the same weights, as far as anybody has said.
func sameModel(a, b *catalog.Arm) bool {
	return a.Model() == b.Model() || a.BaseModel != "" && a.BaseModel == b.BaseModel
}

// attemptsOf is what the request allows of the most attempts that are made.
func (r *round) attemptsOf(most int) int {
	if n := r.wire.Tradewind.Attempts; n > 0 {
		return min(n, most)
	}
	return most
}
