package serving

import (
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file holds the filters that do not rest on an estimate.

// needs are the capabilities that filter, with the name of each filter.
var needs = [...]struct {
	capability catalog.Capability
	filter     policy.Filter
}{
	{catalog.Tools, policy.NoTools}, {catalog.Vision, policy.NoVision}, {catalog.JSONSchema, policy.NoJSONSchema},
	{catalog.AudioInput, policy.NoAudio}, {catalog.PDF, policy.NoPDF}, {catalog.Reasoning, policy.NoReasoning},
}

// filter is the first hard reason against an arm: the key and its owners, the request, what the arm can do, its window. Somebody who
// names an arm knows what it can do better than a catalog, so capabilities filter only where the router chooses.
func (r *round) filter(i int) policy.Filter {
	a := &r.router.arms[i]
	if ok, _ := r.principal.Arm(a.ID); !ok || r.demands.Barred(r.router.place[i]) {
		return policy.NotAllowed
	}
	if !r.wire.Tradewind.Allowed(a.ID) {
		return policy.Denied
	}
	if f := r.declared(a); f != policy.Eligible {
		return f
	}
	if f, _ := r.unsaid(a); f != policy.Eligible {
		return f
	}
	if r.wire.Target.Auto {
		for _, n := range needs {
			if r.wire.Needs.Has(n.capability) && !a.Capabilities.Has(n.capability) {
				return n.filter
			}
		}
	}
	if !r.fits(a) {
		return policy.ContextTooSmall
	}
	return policy.Eligible
}

// fits reports whether the estimated prompt and the answer asked for fit the arm's window. The margin is a tenth: the
// count is another tokenizer's.
func (r *round) fits(a *catalog.Arm) bool {
	if r.surface.direct != nil { // each of its texts has a window of its own, and the vendor knows its tokens
		return true
	}
	input := r.context.Tokens + r.context.Tokens/10
	if a.MaxInputTokens > 0 && input > a.MaxInputTokens {
		return false
	}
	output := r.wire.MaxTokens
	if a.MaxOutputTokens > 0 {
		output = min(output, a.MaxOutputTokens)
	}
	return a.ContextTokens == 0 || input+output <= a.ContextTokens
}

// setBack is the filter of an arm that stands behind the others for a while.
func setBack(l *upstream.Live) policy.Filter {
	switch {
	case l.Gone:
		return policy.Retired
	case l.State == upstream.Limited:
		return policy.RateLimited
	}
	return policy.Unhealthy
}

// full reports whether limits of our own leave an arm no room for the request now.
func (r *round) full(i int) bool {
	return r.live.Pool.Wait(r.router.arms[i].ID, r.context.Tokens) > 0
}

// passing reports whether an arm is filtered for how it does, which is no reason against the last one.
func passing(f policy.Filter) bool {
	return f == policy.Unhealthy || f == policy.RateLimited || f == policy.Retired
}
