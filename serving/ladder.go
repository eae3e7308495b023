package serving

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file is a round under gates. An answer is read to its end, paid for and judged before the client sees any of it;
// where it does not pass, the arm that policy.Escalate names is asked, with a hold of its own that is journaled first. The
// propensity stays that of the first draw: all that follows is part of the action.

// Limits of a ladder.
const (
	// ladderAttemptsMax is the most attempts of a round under gates, escalations included.
	ladderAttemptsMax = 5
	// ladderMax is the longest that all of them and the gates may take; holds live a minute longer.
	ladderMax = holdExpires - time.Minute
	// heldBackMax bounds the bytes of a stream that is held back.
	heldBackMax = 16 << 20
)

// planGates finds what the answer must pass: what the operator's policies say, and what the request adds by name.
func (r *round) planGates() (err error) {
	r.gates, err = r.live.Gates.For(r.principal, r.wire.Tradewind.Tags, r.wire.Tradewind.Gates)
	if unknown := (*gate.UnknownError)(nil); errors.As(err, &unknown) {
		e := openai.NewError(openai.UnsupportedRoutingField, "no gate %.64q is configured here", unknown.Name)
		e.Param = "tradewind.gates"
		return e
	}
	return err
}

// heldBack reports whether the answer is kept from the client until it has passed.
func (r *round) heldBack() bool { return r.gates != nil && (!r.wire.Stream || r.gates.Buffer) }

// held is an answer that came whole, is paid for, and was not served yet.
type held struct {
	arm    *catalog.Arm
	from   *upstream.Answer
	events replay
	usage  catalog.Usage
	heard  *heard
	own    catalog.Nanodollars
	final  openai.Final
}

// climb serves the first answer that passes, beginning with the one that has begun. Where none does it is the last that
// came, or nothing, as the plan says.
func (r *round) climb(a *upstream.Answer) error {
	var last *held
	var broken error
	var wrong, tried []int
	for step := 0; ; step++ {
		if a != nil {
			h, err := r.take(a)
			passed := err == nil && !r.gone() && r.judge(h)
			switch {
			case err == nil && r.gone(): // which is why no gate may have spoken
				r.outcome.Status = datasets.ClientGone
				return openai.NewError(openai.ClientGone, "the client has gone")
			case passed:
				return r.deliver(h, len(wrong) > 0)
			case err == nil:
				last = h
			case r.outcome.Status == datasets.ClientGone:
				return err
			default:
				broken = err
			}
			wrong = append(wrong, r.lookup(a.Served().ID))
		}
		if step == r.gates.Escalations {
			break
		}
		next := r.nextArm(wrong, tried)
		if next < 0 {
			break
		}
		tried = append(tried, next)
		var err error
		if a, err = r.escalate(&r.router.arms[next]); err != nil {
			if r.outcome.Status == datasets.ClientGone {
				return err
			}
			broken = err
		}
	}
	return r.exhausted(last, broken)
}

// take reads an answer to its end and books it.
func (r *round) take(a *upstream.Answer) (*held, error) {
	defer func() { _ = a.Close() }()
	if r.heard != nil {
		r.heard = &heard{}
	}
	h, meter, size, usage := &held{arm: a.Served(), from: a}, contentMeter{}, 0, openai.Usage{}
	seen := func() int {
		if r.wire.Stream {
			return meter.tokens()
		}
		return size / 4
	}
	for {
		event, err := r.next(a)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, r.broke(a, err, usage, seen())
		}
		if event.Kind.Has(openai.IsDone) && len(event.Data) <= len("[DONE]") {
			continue
		}
		size += len(event.Data)
		if u := event.Usage(); u.Known || !usage.Known {
			usage = u
		}
		meter.add(&event)
		event.Data = bytes.Clone(event.Data) // the next one may reuse it
		h.events = append(h.events, event)
		if r.wire.Stream && size > heldBackMax {
			return nil, r.broke(a, &upstream.Error{Class: upstream.BadAnswer, Message: "the answer is longer than what can be held back and checked"}, usage, seen())
		}
		if !r.wire.Stream && len(h.events) > 1 {
			return nil, r.broke(a, &upstream.Error{Class: upstream.BadAnswer, Message: "the provider sent more than one answer"}, usage, seen())
		}
	}
	h.final = r.charge(a, usage, seen())
	h.usage, h.heard, h.own = r.outcome.Usage, r.heard, r.outcome.Attempts[len(r.outcome.Attempts)-1].Cost
	return h, nil
}

// judge asks the gates about an answer that came whole and writes what they said beside its attempt.
func (r *round) judge(h *held) bool {
	var said gate.Collector
	for i := range h.events {
		said.Add(&h.events[i])
	}
	return r.ask(r.req.Context(), h.arm, &said)
}

// ask asks the gates in what is left of the request's time. The wait is the operator's gates', not our overhead.
func (r *round) ask(ctx context.Context, arm *catalog.Arm, said *gate.Collector) bool {
	begun := r.g.o.Now()
	s := gate.Subject{RoundID: r.id, Model: arm.ID, Request: r.wire}
	s.Answers, s.Err = said.Answers()
	ctx, cancel := context.WithTimeout(ctx, max(r.timeLeft(), 0))
	defer cancel()
	passed, verdicts := r.gates.Judge(ctx, &s)
	r.outcome.Attempts[len(r.outcome.Attempts)-1].Verdicts = verdicts
	for i := range verdicts {
		r.g.o.Metrics.Judged(verdicts[i].Gate, string(verdicts[i].Verdict))
	}
	r.waited += r.g.o.Now().Sub(begun)
	return passed
}

// listen keeps what a stream says that is judged after the client has it.
func (r *round) listen(event *upstream.Event) {
	if r.said == nil {
		r.said = &gate.Collector{}
	}
	r.said.Add(event)
}

// judgeAfter judges what the client has already; the verdict is for the log. The client may be gone by now.
func (r *round) judgeAfter(arm *catalog.Arm) {
	if r.said == nil {
		r.said = &gate.Collector{}
	}
	if !r.ask(context.WithoutCancel(r.req.Context()), arm, r.said) {
		r.outcome.Reason = datasets.GateFailed
	}
}

// timeLeft is what is left for the whole ladder.
func (r *round) timeLeft() time.Duration {
	limit := ladderMax
	if t := r.wire.Tradewind.Timeout; t > 0 {
		limit = min(limit, t)
	}
	return limit - r.since()
}

// nextArm is the arm to ask after those whose answers were wrong, -1 where none is worth it or none may be asked: for a
// name of a single arm the request's own list decides, in its order.
func (r *round) nextArm(wrong, tried []int) int {
	c := &r.decision.Case
	if !r.wire.Tradewind.Fallback.Or(true) || len(r.outcome.Attempts) >= r.attemptsOf(ladderAttemptsMax) || r.timeLeft() <= 0 || r.gone() || r.drained() {
		return -1
	}
	asked := r.tried()
	may := func(i int) bool {
		return !slices.Contains(tried, i) && !slices.Contains(asked, c.Candidates[i].Arm) && r.payable(i)
	}
	if c.Pinned >= 0 {
		listed, _ := r.listed() // every name was found when the case was made
		at := slices.IndexFunc(listed, func(i int) bool { return may(i) && r.filter(i) == "" })
		if at < 0 {
			return -1
		}
		return listed[at]
	}
	lambda := c.Lambda
	if r.router.classifier == nil {
		lambda = 0 // on a fresh install it puts equals in order and is nobody's price of a dollar
	}
	return c.Escalate(wrong, lambda, may)
}

// payable reports whether what was spent and the most that the arm can cost stay within the request's cap.
func (r *round) payable(i int) bool {
	limit := r.decision.Case.MaxCostUSD
	if limit == 0 {
		return true
	}
	a := &r.decision.Case.Candidates[i]
	return a.Priced && r.outcome.Cost.Dollars()+a.CostUpperUSD <= limit
}

// escalate asks one arm, once more money is held for it.
func (r *round) escalate(arm *catalog.Arm) (*upstream.Answer, error) {
	amount, err := r.upper(arm)
	if err == nil {
		err = r.furtherHold(amount)
	}
	if err != nil {
		return nil, err
	}
	r.asking = arm
	answer, err := r.call([]*catalog.Arm{arm}, r.timeLeft(), r.attemptsOf(ladderAttemptsMax)-len(r.outcome.Attempts), nil)
	if err != nil {
		r.asking = nil
	}
	return answer, err
}

// deliver serves an answer that passed.
func (r *round) deliver(h *held, escalated bool) error {
	if escalated {
		r.outcome.Reason = datasets.Escalated
	}
	return r.serveHeld(h)
}

// exhausted ends a round none of whose answers passed: with the last that came, or with an error where the plan refuses it
// or none came at all.
func (r *round) exhausted(h *held, broken error) error {
	switch {
	case h == nil:
		return broken
	case r.gates.Refuse:
		r.outcome.Status, r.outcome.Reason, r.outcome.Served = datasets.Failed, datasets.GateFailed, ""
		e := openai.NewError(openai.GateFailed, "no answer passed the gates that are configured for this request")
		e.Extra = map[string]any{"attempts": r.outcome.Attempts}
		return e
	}
	r.outcome.Reason = datasets.GateFailed
	return r.serveHeld(h)
}

// serveHeld sends what was held back. What the client is told it cost is the whole ladder.
func (r *round) serveHeld(h *held) error {
	o := &r.outcome
	o.Served, o.Usage, r.heard = h.arm.ID, h.usage, h.heard
	h.final.Cost.Router, h.final.Cost.Total = o.Cost-h.own, o.Cost
	r.complete(&h.final)
	r.finish()
	var events source = &h.events
	if r.surface.dialect != openai.Chat {
		events = r.surface.translate(r, events)
	}
	r.debugHead(h.from)
	if !r.wire.Stream {
		event, err := events.Next()
		if err != nil {
			return err
		}
		return r.writeWhole(h.arm, &event, h.final)
	}
	w := r.surface.writer(r, h.arm.ID)
	var out []byte
	for event, err := events.Next(); err != io.EOF; event, err = events.Next() {
		if err != nil {
			return err
		}
		out = w.AppendEvent(out, &event)
	}
	r.streamHead(h.arm, r.outcome.Attempts)
	r.wrote = true
	newOutlet(r.w).send(w.AppendEnd(out, h.final, nil))
	return nil
}

// replay is an answer that was read before.
type replay []upstream.Event

// Next gives the next event.
func (p *replay) Next() (upstream.Event, error) {
	if len(*p) == 0 {
		return upstream.Event{}, io.EOF
	}
	event := (*p)[0]
	*p = (*p)[1:]
	return event, nil
}

// listening keeps what a stream says on its way to the client. Gates know chat, so under gates every arm is asked in chat
// and what the client gets is said in its own dialect afterwards.
type listening struct {
	source
	r *round
}

// Next passes an event on.
func (l listening) Next() (upstream.Event, error) {
	event, err := l.source.Next()
	if err == nil {
		l.r.listen(&event)
	}
	return event, err
}

// dialect is the one in which arms may be asked beside chat.
func (r *round) dialect() openai.Dialect {
	if r.gates != nil || r.effort != "" {
		return openai.Chat
	}
	return r.surface.dialect
}
