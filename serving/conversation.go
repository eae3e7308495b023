package serving

import (
	"cmp"
	"fmt"
	"math"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/session"
)

// This file is how a request finds the arm of its conversation, and how the conversation remembers it.
//
// A client that names its session is taken at its word. Of the others the conversation is known by how it begins, and
// that is weak: a question that is asked again, or the same instructions before another question, begin alike and are
// conversations of their own. Taken for one they would all follow the first draw, and a service with one template would
// never explore again. So without a name only a request that goes on where the last one ended is of its session; one that
// begins anew is a draw of its own, and opens the session anew. A prompt_cache_key is no name either: vendors ask for one
// key wherever a prefix is shared, which may be a whole service.

// noise is the share of an estimate's standard error below which a gain over the session's arm is none.
const noise = .5

// conversation is what a round knows of the session that it belongs to.
type conversation struct {
	// id goes to the log, place is where the table has it: of each set of arms that one can ask for there is one session.
	id, place session.ID
	named     bool
	state     session.State
}

// converse names the request's conversation. What is passed through belongs to none.
func (r *round) converse() {
	if r.surface.direct != nil {
		return
	}
	o, v := &r.wire.Tradewind, &r.talk
	if v.named = o.Session != "" && !o.SessionShared; v.named {
		v.id = session.Named(r.principal.KeyID, o.Session)
	} else {
		v.id, r.scratch = session.Begun(r.scratch, r.principal.KeyID, o.Session, r.wire.Prompt.Turns)
	}
}

// recall marks the arm that the conversation is with. Which arm a concrete name gets is no choice, and so neither follows a
// session nor moves it.
func (r *round) recall(c *policy.Case) {
	if !r.sits() {
		return
	}
	t, v := &r.aim, &r.talk
	v.place = v.id.Within(cmp.Or(t.Group, t.Base, t.Name))
	state, found := r.g.sessions.Get(v.place, r.started)
	if !found || !v.named && !r.g.sessions.Continues(&state, r.wire.Prompt.Turns) {
		return
	}
	i := r.lookup(state.Arm)
	if i < 0 { // it is served no longer
		return
	}
	v.state = state
	c.Candidates[i].Sticky = true
	c.Session = policy.Session{
		SwitchUSD: switchCost(&r.router.arms[i], min(state.CachedAt(r.started), r.context.Tokens), r.context.Tokens),
		Lambda:    r.router.objective(openai.StrategyBalanced, r.traffic, 0).lambda,
		Margin:    millionths(noise * c.Candidates[i].QualityErr),
	}
}

// switchCost is what a request pays for leaving an arm that has so many of its tokens in the cache: read there they are
// cheaper than what every forecast says, and what was asked for writing them is asked again elsewhere.
func switchCost(a *catalog.Arm, cached, tokens int) float64 {
	if !a.Prices.Known {
		return 0
	}
	at := a.Prices.At(catalog.Usage{Input: int64(tokens)})
	picodollars := float64(cached) * float64(max(at.Input, at.CacheWrite)-at.CacheRead)
	return math.RoundToEven(max(0, picodollars)/1e3) / 1e9
}

// sits reports whether the round's arm was chosen at all, so that a session may be with it.
func (r *round) sits() bool { return r.decision.Case.Pinned < 0 && r.surface.direct == nil }

// stay notes, once the decision is written, that its draw has fixed the arm of the conversation.
func (r *round) stay() {
	d, t := &r.decision, r.g.sessions
	if !r.sits() || d.Reason == datasets.Sticky {
		return
	}
	s := session.State{Arm: d.Action, Draw: r.id, Used: r.started}
	t.Mark(&s, r.wire.Prompt.Turns)
	t.Open(r.talk.place, s)
}

// remember notes who answered and what is in that arm's cache now. A session follows whoever stood in. An arm that was
// asked because an answer did not pass a gate is part of the action, and its session begins with the same arm again.
func (r *round) remember() {
	d, o, t := &r.decision, &r.outcome, r.g.sessions
	if !r.sits() {
		return
	}
	if o.Served == "" {
		t.Close(r.talk.place, r.id)
		return
	}
	s := session.State{Arm: o.Served, Draw: d.DrawID, Used: r.g.o.Now()}
	if o.Reason == datasets.Escalated || o.Reason == datasets.GateFailed {
		s.Arm = d.Action
	}
	if arm := r.arm(s.Arm); arm != nil {
		s.Cached = session.Cached(&arm.Prices, o.Usage)
	}
	t.Mark(&s, r.wire.Prompt.Turns)
	t.Follow(r.talk.place, s, d.Reason == datasets.Sticky)
}

// Session is what a decision says of the conversation.
type Session struct {
	// Sticky says that the request stayed with PreviousModel, SwitchCostUSD what leaving it would have cost, or did.
	Sticky        bool          `json:"sticky"`
	PreviousModel catalog.ArmID `json:"previous_model"`
	SwitchCostUSD float64       `json:"switch_cost_usd"`
}

// explainSession is nil where the request followed no other.
func explainSession(d *datasets.Decision) *Session {
	for i := range d.Case.Candidates {
		if a := &d.Case.Candidates[i]; a.Sticky {
			return &Session{d.Reason == datasets.Sticky, a.Arm, d.Case.Session.SwitchUSD}
		}
	}
	return nil
}

// stays tells why a conversation is still with its arm.
func stays(d *datasets.Decision) string {
	if usd := d.Case.Session.SwitchUSD; usd > 0 {
		return fmt.Sprintf("the conversation is with it, and no other is worth the prompt cache of %.3g dollars that it has there", usd)
	}
	return "the conversation is with it, and no other is better by more than noise"
}
