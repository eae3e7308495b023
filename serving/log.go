package serving

import (
	"cmp"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// promptMax bounds the text of a prompt that is kept.
const promptMax = 64 << 10

// journalDecision writes the decision, with as much of the request as key and request allow to be kept. Only once it is
// written may a vendor hear of the request.
func (r *round) journalDecision() error {
	d := &r.decision
	level := r.principal.LogLevel
	if l := r.wire.Tradewind.Log; l != "" {
		level = level.Strictest(governance.LogLevel(l))
	}
	if r.surface.direct != nil { // nothing is learned from it, so nothing of it is kept
		level = governance.LogNone
	}
	if level != governance.LogNone {
		r.features = r.context.AppendBinary(r.features[:0])
		d.Features, d.SpecDigest = r.features, r.router.spec
		d.Conversation = r.talk.id.String() // of a text, so it is kept where features are
		d.EndUser = strings.ToValidUTF8(cmp.Or(r.wire.Tradewind.EndUser, r.wire.User), "")
	}
	if level == governance.LogFull {
		text := r.router.extractor.Ask(&r.wire.Prompt)
		d.Prompt = strings.ToValidUTF8(text[:min(len(text), promptMax)], "") // the cut may go through a character
	}
	err := r.g.o.Journal.AppendDecision(r.req.Context(), d)
	d.Features = nil // the buffer is reused
	if err == nil {
		if r.g.unwritten.Load() != 0 {
			r.g.unwritten.Store(0)
		}
		r.recorded = true
		r.stay()
		reference, i := int64(0), d.Case.Fallback
		if i < 0 { // there is no other that it could have been
			i = r.lookup(d.Action)
		}
		if n, err := catalog.FromDollars(d.Case.Candidates[i].CostUSD); err == nil {
			reference = int64(n)
		}
		r.g.o.Metrics.Decided(r.decided, reference)
		r.countDraw()
		return nil
	}
	e := openai.NewError(openai.StoreUnavailable, "the decision cannot be written; nothing was sent and nothing spent")
	if errors.Is(err, journal.ErrBusy) {
		e = openai.NewError(openai.Overloaded, "too many requests are open")
	} else if !r.gone() {
		r.g.unwritten.Store(r.g.o.Now().UnixNano())
	}
	e.RetryAfter = time.Second
	if !r.gone() {
		r.g.complain("a decision was not journaled", "round", r.id, "error", err)
	}
	return e
}

// journalHold writes the decision again with the hold that has grown. Without it a vendor is not asked again.
func (r *round) journalHold() error {
	d := &r.decision
	if d.SpecDigest != "" {
		d.Features = r.features
	}
	err := r.g.o.Journal.RaiseHold(r.req.Context(), d)
	d.Features = nil
	if err == nil {
		return nil
	}
	r.g.o.Log.Error("a second hold was not journaled", "round", r.id, "error", err)
	e := openai.NewError(openai.StoreUnavailable, "the first attempt failed, and a second one cannot be written down")
	e.RetryAfter = time.Second
	return e
}

// arm finds a served arm by its id, nil where there is none.
func (r *round) arm(id catalog.ArmID) *catalog.Arm {
	if i := r.lookup(id); i >= 0 {
		return &r.router.arms[i]
	}
	return nil
}

// candidate finds an arm's candidate in the case.
func (r *round) candidate(id catalog.ArmID) *policy.Candidate {
	return &r.decision.Case.Candidates[r.lookup(id)]
}

// complain logs what a broken disk brings on with every request: once a second. The metrics count them all.
func (g *Gateway) complain(msg string, args ...any) {
	if g.seldom(&g.complained) {
		g.o.Log.Error(msg, args...)
	}
}

// seldom is true once a second.
func (g *Gateway) seldom(last *atomic.Int64) bool {
	now, before := g.o.Now().Unix(), last.Load()
	return before != now && last.CompareAndSwap(before, now)
}

// exceeded tells of a call that cost more than was held for it, which is how a budget is passed: a vendor bills what is not in
// the request, or tells a usage that is not true.
func (r *round) exceeded(over catalog.Nanodollars) {
	if r.g.seldom(&r.g.overspent) {
		r.g.o.Log.Warn("a request cost more than was held for it", "round", r.id, "model", r.outcome.Served, "cost", r.outcome.Cost, "over", over)
	}
}
