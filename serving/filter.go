package serving

import (
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
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

// filter is the first hard reason against an arm: the key, the request, what the arm can do, its window. Somebody who
// names an arm knows what it can do better than a catalog, so capabilities filter only where the router chooses.
func (r *round) filter(a *catalog.Arm) policy.Filter {
	if ok, _ := r.principal.Arm(a.ID); !ok {
		return policy.NotAllowed
	}
	if !r.wire.Tradewind.Allowed(a.ID) {
		return policy.Denied
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

// unsaid is the filter of an arm that cannot be told all of the request, and the field that is to blame.
func (r *round) unsaid(a *catalog.Arm) (policy.Filter, string) {
	if s := r.spoken; s != nil {
		switch native := r.live.Pool.Speaks(a.ID, s.Dialect); {
		case s.Nowhere, !native && s.NativeOnly != "":
			return policy.Dialect, s.NativeOnly
		case native && s.ForeignOnly != "":
			return policy.Dialect, s.ForeignOnly
		case native:
			return policy.Eligible, ""
		}
	}
	if field := r.lackOf(a.ID.Provider()); field != "" {
		return policy.ParamUnsupported, field
	}
	return policy.Eligible, ""
}

// lack is what of the request in chat cannot be said to a provider, "" where all of it can.
type lack struct{ provider, field string }

// lackOf asks each provider once.
func (r *round) lackOf(provider string) string {
	for _, l := range r.lacks {
		if l.provider == provider {
			return l.field
		}
	}
	field := r.live.Pool.Lacks(provider, r.wire.Body())
	r.lacks = append(r.lacks, lack{provider, field})
	return field
}

// fits reports whether the estimated prompt and the answer asked for fit the arm's window. The margin is a tenth: the
// count is another tokenizer's.
func (r *round) fits(a *catalog.Arm) bool {
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
