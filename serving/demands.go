package serving

import (
	"slices"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/rules"
)

// demand finds out what the operator asks of the request, and at which model it is aimed.
func (r *round) demand() error {
	w := r.wire
	if name := w.Tradewind.Policy; name != "" {
		switch param := "tradewind.policy"; {
		case !r.principal.Can(governance.PolicyOverride):
			e := openai.NewError(openai.Forbidden, "this key may not name the policy that decides")
			e.Param = param
			return e
		case !r.live.rules.Has(name):
			e := openai.NewError(openai.UnsupportedRoutingField, "no policy %.64q is configured here", name)
			e.Param = param
			return e
		}
	}
	r.live.rules.For(&r.demands, &rules.Request{
		Principal: r.principal, Tags: w.Tradewind.Tags, Header: r.req.Header, Policy: w.Tradewind.Policy, Conversation: r.talk.id,
	})
	r.pacers = append(r.pacers[:0], r.live.paced[r.principal]...)
	for _, t := range r.demands.Paced {
		r.pacers = append(r.pacers, r.live.pacers[t])
	}
	// An effort is said in chat, and only where that says all of the request.
	if r.effort = ""; w.Target.Auto && w.Effort == "" && r.surface.direct == nil && (r.spoken == nil || r.spoken.NativeOnly == "") {
		r.effort = r.demands.Effort
	}
	r.aim, r.pinned = w.Target, false
	// Who names a model, a group or a list has chosen, and is not overruled.
	if t := w.Target; t.Auto && t.Group == "" && len(w.Tradewind.Models) == 0 && r.demands.Pin != "" {
		r.aim, r.pinned = openai.Target{Name: r.demands.Pin}, true
	}
	return nil
}

// barred reports whether the key, or what the operator asks of the request, keeps a served arm from it.
func (r *round) barred(id catalog.ArmID) bool {
	ok, _ := r.principal.Arm(id)
	return !ok || r.demands.Barred(slices.IndexFunc(r.live.Arms, func(a catalog.Arm) bool { return a.ID == id }))
}

// unpin gives the choice back to the router where a rule has pinned a model that cannot serve this request.
func (r *round) unpin(c *policy.Case) bool {
	if !r.pinned || c.Candidates[c.Pinned].Filter == policy.Eligible {
		return false
	}
	r.aim, r.pinned, c.Pinned = r.wire.Target, false, -1
	return true
}

// narrow leaves the router those models of which a rule's name stands for several, where one of them can serve. That is a
// choice like any other.
func (r *round) narrow(c *policy.Case, matches []int) {
	r.pinned = false
	if slices.ContainsFunc(matches, func(i int) bool { return c.Candidates[i].Filter == policy.Eligible }) {
		keepOnly(c, matches)
	} else {
		r.aim = r.wire.Target
	}
}

// ruled are the rules of the settings, joined with what they may name.
func (s *Settings) ruled() (*rules.Set, error) {
	return rules.New(rules.Options{
		Policies: s.Policies, Rules: s.Rules, Arms: s.Arms, Principals: s.Auth.Principals(),
		Default: governance.Level{Place: []any{"routing"}, Strategy: string(s.Strategy), Policy: s.DefaultPolicy, Quality: s.Target.Quality},
		Serves:  s.chats,
	})
}
