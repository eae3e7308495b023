package serving

import (
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file says what an arm is told: the body that it is sent, the fields of a request that it cannot be told, and those of them
// that are left out at its operator's wish.

// bodyFor splices the body for an arm out of the client's.
func (r *round) bodyFor(arm *catalog.Arm, d openai.Dialect) []byte {
	body := make([]byte, 0, r.body.Len()+256) // not pooled: a transport may still read it when the attempt is over
	u := openai.Upstream{Model: arm.Model(), Effort: r.effortOf(arm), MaxOutput: r.outputMax(arm), MaxTokensField: arm.OutputCap, ForceUsage: true, Drop: r.dropped(arm)}
	if r.surface.direct != nil {
		u.MaxTokensField = "" // vendors that have another name for it in chat have none here
	}
	if d == openai.Chat || r.spoken == nil {
		u.Marks = r.live.Pool.Retells(arm.ID.Provider())
		return r.wire.AppendUpstream(body, u)
	}
	return r.spoken.AppendUpstream(body, u)
}

// effortOf is the reasoning effort to ask an arm with in place of the client's word: its own, or what the operator asks of
// those that reason.
func (r *round) effortOf(arm *catalog.Arm) string {
	if arm.Effort == "" && arm.Capabilities.Has(catalog.Reasoning) {
		return r.effort
	}
	return arm.Effort
}

// lack is what of the request in chat cannot be said to a provider: field is the first that keeps its arms from the request, ""
// where none does, and dropped are those that are left out at arms whose operator wants that.
type lack struct {
	provider string
	drop     bool
	field    string
	dropped  []string
}

// lackOf asks the arm's provider once, and once more for its arms that may have fields left out: there each field that is in
// the way is taken out and the rest is tried again.
func (r *round) lackOf(a *catalog.Arm) lack {
	l := lack{provider: a.ID.Provider(), drop: r.drops(a)}
	for _, known := range r.lacks {
		if known.provider == l.provider && known.drop == l.drop {
			return known
		}
	}
	l.field = r.live.Pool.Lacks(l.provider, r.wire.Body())
	for l.drop && openai.Dispensable(l.field) && !slices.Contains(l.dropped, l.field) { // or a vendor could name one for ever
		l.dropped = append(l.dropped, l.field)
		l.field = r.live.Pool.Lacks(l.provider, r.wire.Without(l.dropped))
	}
	r.lacks = append(r.lacks, l)
	return l
}

// says reports whether the request has a field in the form in which an arm is asked.
func (r *round) says(a *catalog.Arm, field string) bool {
	if r.native(a) {
		return r.spoken.Fields.Get(field) != nil
	}
	return r.wire.Says(field)
}

// drops reports whether an arm is asked without what it cannot be told: its operator wants that, and the request does not forbid it.
func (r *round) drops(a *catalog.Arm) bool {
	p := r.wire.Tradewind.Provider
	return a.DropParams && (p == nil || !p.Whole)
}

// refused is a field of the request that the arm is declared not to take and that must not be left out, "" where there is none.
func (r *round) refused(a *catalog.Arm) string {
	if a.Refuses == "" {
		return ""
	}
	for field := range strings.SplitSeq(a.Refuses, ",") {
		if r.says(a, field) && !(r.drops(a) && openai.Dispensable(field)) {
			return field
		}
	}
	return ""
}

// dropped are the fields that are left out of what an arm is asked, because it cannot be told them.
func (r *round) dropped(a *catalog.Arm) (fields []string) {
	if !r.drops(a) || r.surface.direct != nil {
		return nil
	}
	for field := range strings.SplitSeq(a.Refuses, ",") {
		if openai.Dispensable(field) && r.says(a, field) {
			fields = append(fields, field)
		}
	}
	if r.native(a) {
		return fields
	}
	if r.spoken != nil {
		fields = append(fields, r.spoken.Loose...)
	}
	if !r.wire.Plain() {
		for _, field := range r.lackOf(a).dropped {
			if !slices.Contains(fields, field) {
				fields = append(fields, field)
			}
		}
	}
	return fields
}
