package serving

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// dispatch calls the arms of the plan in order until one begins to answer.
func (r *round) dispatch() (*upstream.Answer, error) {
	answer, err := r.call(r.plan, r.wire.Tradewind.Timeout, r.wire.Tradewind.Attempts, r.hedge())
	r.hedged = false // what gates ask for is held apart
	if err == nil && answer.Hedged() {
		r.outcome.Reason = datasets.Hedged
	}
	return answer, err
}

// call calls arms in order until one begins to answer, in the time and with the attempts that are left; 0 is the pool's.
func (r *round) call(arms []*catalog.Arm, timeout time.Duration, attempts int, hedge *upstream.Hedge) (*upstream.Answer, error) {
	sent := r.g.o.Now()
	plan := &upstream.Plan{
		Candidates: arms, Body: r.bodyFor, Stream: r.wire.Stream, InputTokens: r.context.Tokens, Timeout: timeout, MaxAttempts: attempts,
		Single: !r.wire.Tradewind.Fallback.Or(true), OnAttempt: r.againHold, Hedge: hedge,
		Dialect: r.dialect(), Header: r.surface.forwarded(r.req.Header),
	}
	if len(r.live.ReadOn) > 0 && r.keyed == nil { // which goes on as a whole
		plan.Beyond = r.beyond
	}
	answer, err := r.live.Pool.Do(r.req.Context(), plan)
	r.waited += r.g.o.Now().Sub(sent)
	if err == nil {
		return answer, nil
	}
	var failure *upstream.Failure
	if !errors.As(err, &failure) {
		return nil, err
	}
	switch r.outcome.Status = datasets.Failed; {
	case r.gone():
		r.outcome.Status = datasets.ClientGone
	case r.drained():
		r.outcome.Status = datasets.Unknown
	}
	r.attempts(failure.Attempts, "")
	if r.drained() {
		return nil, drainedError()
	}
	return nil, failure.Wire()
}

// events are those of the answer in the client's dialect.
func (r *round) events(a *upstream.Answer) source {
	var events source = a
	if r.gates != nil {
		events = listening{a, r}
	}
	if a.Dialect() == r.surface.dialect {
		return events
	}
	return r.surface.translate(r, events)
}

// relayWhole passes on an answer that is not streamed, with the model that answered and its cost.
func (r *round) relayWhole(a *upstream.Answer) error {
	defer func() { _ = a.Close() }()
	event, err := r.next(r.events(a))
	if err != nil {
		return r.broke(a, err, event.Usage(), 0)
	}
	event.Data = bytes.Clone(event.Data) // next may reuse it
	said := r.guessTokens(len(event.Data))
	if _, err := r.next(a); err == nil {
		return r.broke(a, &upstream.Error{Class: upstream.BadAnswer, Message: "the provider sent more than one answer"}, event.Usage(), said)
	} else if err != io.EOF || r.forNobody(a) {
		return r.broke(a, err, event.Usage(), said)
	}
	r.debugHead(a)
	return r.writeWhole(a.Served(), &event, r.conclude(a, event.Usage(), said))
}

// writeWhole sends an answer that is paid for.
func (r *round) writeWhole(arm *catalog.Arm, event *upstream.Event, final openai.Final) error {
	body, err := r.surface.writer(r, arm.ID).AppendWhole(make([]byte, 0, len(event.Data)+512+len(final.Explain)), event, final)
	if err != nil {
		return err
	}
	r.head()
	r.set("Content-Type", "application/json")
	r.answerHead(arm, r.outcome.Attempts)
	r.set("X-Tradewind-Cost-Usd", costText(final.Cost))
	r.wrote = true
	taking := r.g.o.Now()
	_, _ = r.w.Write(body) // the answer is paid for; whether the client took it changes nothing
	r.waited += r.g.o.Now().Sub(taking)
	return nil
}

// next waits for the vendor's next event; the wait is not our overhead.
func (r *round) next(s source) (upstream.Event, error) { return r.nextSince(r.g.o.Now(), s) }

// nextSince is next for those who have been waiting already.
func (r *round) nextSince(waiting time.Time, s source) (upstream.Event, error) {
	event, err := s.Next()
	r.waited += r.g.o.Now().Sub(waiting)
	if r.heard != nil && err == nil {
		r.heard.hear(&event)
	}
	return event, err
}

// relayStream passes a stream on, event by event, and never switches to another arm.
func (r *round) relayStream(a *upstream.Answer) error {
	defer func() { _ = a.Close() }()
	events, w := r.events(a), r.surface.writer(r, a.Served().ID)
	var tried []datasets.Attempt
	for _, t := range a.Attempts() {
		tried = append(tried, datasets.Attempt{Arm: t.Arm, Outcome: t.Outcome()})
	}
	r.debugHead(a)
	r.streamHead(a.Served(), tried)
	r.wrote = true
	out, seen := make([]byte, 0, 1024), contentMeter{}
	to, plain := newOutlet(r.w), a.Dialect() == r.surface.dialect // a translator may ask for several events before it gives one
	to.alone = r.alone(a)
	defer to.keepAlive(r.live.KeepAlive)()
	var event upstream.Event // one for all of them: the writer's interface takes it to the heap
	for {
		waiting := r.g.o.Now() // for a client that takes its time, then for the vendor
		if !(plain && a.Buffered()) && !to.flush() {
			return r.broke(a, context.Canceled, seen.usage, seen.tokens())
		}
		var err error
		if event, err = r.nextSince(waiting, events); err != nil {
			return r.endStream(a, w, err, &seen, to)
		}
		seen.add(&event)
		if out = w.AppendEvent(out[:0], &event); !to.write(out) {
			return r.broke(a, context.Canceled, seen.usage, seen.tokens())
		}
	}
}

// endStream ends a stream in one of three ways: complete, cut by the vendor, or left by the client.
func (r *round) endStream(a *upstream.Answer, w writer, err error, seen *contentMeter, to *outlet) error {
	var final openai.Final
	var failure *openai.Error
	if err == io.EOF && !r.forNobody(a) {
		final, err = r.conclude(a, seen.usage, seen.tokens()), nil
	} else {
		err = r.broke(a, err, seen.usage, seen.tokens())
		failure = r.g.hush(err)
	}
	if !r.gone() {
		taking := r.g.o.Now()
		to.send(w.AppendEnd(nil, final, failure))
		r.waited += r.g.o.Now().Sub(taking)
	}
	if err == nil && r.gates != nil {
		r.judgeAfter(a.Served())
	}
	return err
}

// contentMeter keeps the usage that came, and counts what was streamed for the bill of an answer whose usage never did.
// Vendors send a token an event, or pack several into one. A token of text has five bytes, or less, so that what was said
// divided by five is more than the events only where they are packed. What ends an answer has a form of its own and says
// nothing that was not said.
type contentMeter struct {
	events, said int
	// mute are the events that are not plainly text, such as pieces of tool calls; the shortest has one byte of content.
	mute, bytes, shortest int
	usage                 openai.Usage
}

// tokenBytes is how long a token of text is.
const tokenBytes = 5

func (m *contentMeter) add(c *openai.Chunk) {
	if u := c.Usage(); u.Known || !m.usage.Known && u.Input > 0 {
		m.usage = u
	}
	if !c.Kind.Has(openai.HasContent) || c.Kind.Has(openai.IsEmpty) || c.Kind.Has(openai.HasFinish) && c.Name != "" {
		return
	}
	m.events++
	if m.said += c.Said; c.Said > 0 {
		return
	}
	m.mute++
	m.bytes += len(c.Data)
	if m.shortest == 0 || len(c.Data) < m.shortest {
		m.shortest = len(c.Data)
	}
}

func (m *contentMeter) tokens() int {
	return max(m.events, (m.said+m.bytes-m.mute*(m.shortest-1))/tokenBytes)
}

// conclude ends the round well: usage, cost, outcome. Where gates judge what the client has already, the outcome waits for
// their verdict.
func (r *round) conclude(a *upstream.Answer, u openai.Usage, seen int) openai.Final {
	final := r.charge(a, u, seen)
	r.complete(&final)
	if r.gates == nil {
		r.finish()
	}
	return final
}

// charge books an answer that came whole. Where the vendor told no usage it is estimated and marked so.
func (r *round) charge(a *upstream.Answer, u openai.Usage, seen int) openai.Final {
	final := openai.Final{}
	if !u.Known {
		u = openai.Usage{Input: int64(r.context.Tokens), Output: r.capped(a.Served(), seen)}
		final.Estimate = u
		final.Estimate.Known = true
	}
	cost := r.served(a, u)
	final.Cost = &cost
	return final
}

// capped is an estimate of an answer's tokens that is no more than the vendor was told to stop at.
func (r *round) capped(arm *catalog.Arm, seen int) int64 {
	return int64(min(seen, r.outputMax(arm)*r.wire.N))
}

// complete says that the round ended well.
func (r *round) complete(final *openai.Final) {
	r.outcome.Status = datasets.Completed
	if r.wire.Tradewind.Explain == openai.Yes {
		final.Explain = r.explainNow()
	}
}

// broke ends a round whose answer broke off, or whose client left: what was streamed is settled.
func (r *round) broke(a *upstream.Answer, err error, told openai.Usage, seen int) error {
	if err == io.EOF && r.forNobody(a) {
		return r.chargeAlone(a, told, seen)
	}
	r.outcome.Status = datasets.Failed
	var e *upstream.Error
	switch {
	case r.drained():
		_ = a.Close()
		r.outcome.Status, err = datasets.Unknown, drainedError()
	case r.gone() || errors.Is(err, context.Canceled) && !errors.As(err, &e):
		_ = a.Close() // at once: the vendor bills for what it goes on to say
		r.outcome.Status, err = datasets.ClientGone, openai.NewError(openai.ClientGone, "the client has gone")
	case errors.As(err, &e):
		err = e.Wire()
	}
	u := openai.Usage{Input: int64(r.context.Tokens), Output: r.capped(a.Served(), seen)}
	if told.Input > 0 { // some vendors tell it at the start
		told.Known, told.Output = false, max(told.Output, u.Output)
		u = told
	}
	if seen == 0 && r.outcome.Status != datasets.Failed {
		u.Output = int64(r.candidate(a.Served().ID).OutputTokens)
	}
	r.served(a, u)
	return err
}

// served writes into the outcome who answered and what it cost. The cost that it returns, and that the client is told,
// is the whole request's: attempts that failed and may have been billed stand in it as the cost of routing.
func (r *round) served(a *upstream.Answer, u openai.Usage) openai.Cost {
	o, arm := &r.outcome, a.Served()
	cost, status := costOf(arm, u)
	o.Served, o.Usage = arm.ID, u.Catalog()
	r.attempts(a.Attempts(), arm.ID)
	o.Attempts[len(o.Attempts)-1].Cost = cost.Total
	own := cost.Total
	cost.Router = o.Cost
	cost.Total += o.Cost
	o.Cost = cost.Total
	if o.CostStatus == "" || status != datasets.CostFinal {
		o.CostStatus = status
	}
	r.correct(a, int(u.Input+u.Output))
	r.asking = nil
	if arm.ID != r.decision.Action && o.Reason != datasets.Hedged {
		o.Reason = datasets.FellBack
	}
	if t := a.TTFT(); t > 0 {
		ms := milliseconds(t)
		o.TTFTMS = &ms
	}
	meter := r.live.meters[arm.ID]
	meter.Charged(int64(own), status == datasets.CostEstimated, r.tenant())
	if status == datasets.CostUnpriced {
		meter.Unpriced()
	}
	meter.Used(tokensOf(o.Usage), r.tenant())
	r.countUsage(meter, &o.Attempts[len(o.Attempts)-1], u)
	return cost
}

// attempts copies the pool's attempts into the outcome and charges those that failed but may have been billed at their
// forecast. The one that a client's leaving cut off is among these.
func (r *round) attempts(all []upstream.Attempt, served catalog.ArmID) {
	o := &r.outcome
	for i := range all {
		a := &all[i]
		out := datasets.Attempt{Arm: a.Arm, StartedAt: datasets.Instant(a.StartedAt), Outcome: a.Outcome(), TotalMS: milliseconds(a.Total), HTTPStatus: http.StatusOK}
		if a.FirstContent > 0 {
			ms := milliseconds(a.FirstContent)
			out.FirstTokenMS = &ms
		}
		if a.Err != nil {
			out.HTTPStatus, out.ErrorClass = a.Err.Status, string(a.Err.Class)
		}
		last := i == len(all)-1
		answered := last && served != ""
		if a.Cancelled {
			out.HTTPStatus = 0
		}
		if a.Hedge {
			r.countHedge(a, answered, served == "" && o.Status == datasets.ClientGone)
		}
		cut := last && (o.Status == datasets.ClientGone || r.drained()) && (answered || errors.Is(a.Err, context.Canceled) || errors.Is(a.Err, ErrDrained))
		if cut {
			out.Outcome, out.HTTPStatus, out.ErrorClass = "cancelled", 0, ""
		}
		if arm := r.arm(a.Arm); !answered && (a.Billed || cut) && arm != nil {
			out.Cost = r.forecast(arm)
			o.Cost += out.Cost
			o.CostStatus = datasets.CostEstimated
			r.live.meters[a.Arm].Charged(int64(out.Cost), true, r.tenant())
			r.live.meters[a.Arm].Estimated(telemetry.FailedAttempt)
		}
		if a.Err != nil && !last {
			r.countFailure(a, all[i+1].Arm)
		}
		first := a.FirstContent
		if !r.wire.Stream { // it is the time of the whole
			first = 0
		}
		r.live.meters[a.Arm].Attempted(out.Outcome, a.Total, first)
		o.Attempts = append(o.Attempts, out)
	}
}

// set sets a header by its canonical name. The values of a request share their memory, which belongs to the answer and not
// to the round: it is sent when the round is over.
func (r *round) set(name, value string) {
	if r.values == nil {
		r.values = make([]string, 0, 24)
	}
	n := len(r.values)
	r.values = append(r.values, value)
	r.w.Header()[name] = r.values[n : n+1 : n+1]
}

// head sets the headers that every answer has.
func (r *round) head() {
	r.set("X-Request-Id", r.requestID)
	if r.surface.dialect == openai.Messages {
		r.set("Request-Id", r.requestID) // where Anthropic's SDKs look for it
	}
	r.set("X-Tradewind-Decision-Id", string(r.id))
	if r.wire != nil {
		r.set("X-Tradewind-Requested-Model", headerValue(r.wire.Model))
	}
	if d := &r.decision; d.Action != "" {
		r.set("X-Tradewind-Strategy", d.Strategy)
		r.set("X-Tradewind-Reason", string(r.reason()))
		if d.RouterVersion != "" {
			r.set("X-Tradewind-Router-Version", d.RouterVersion)
		}
	}
	if n := len(r.outcome.Attempts); n > 0 {
		r.set("X-Tradewind-Attempts", strconv.Itoa(n))
	}
	if r.principal != nil && r.limited() && r.remaining() == nil {
		r.set("X-Tradewind-Budget-Remaining-Usd", r.left.String())
	}
	overhead := r.since() - r.waited
	r.set("X-Tradewind-Overhead-Ms", strconv.FormatFloat(milliseconds(overhead), 'f', 3, 64))
}

// reason is the outcome's where it replaces the decision's.
func (r *round) reason() datasets.Reason {
	if r.outcome.Reason != "" {
		return r.outcome.Reason
	}
	return r.decision.Reason
}

// tried are the arms of all attempts that are in the outcome.
func (r *round) tried() []catalog.ArmID {
	arms := make([]catalog.ArmID, len(r.outcome.Attempts))
	for i := range arms {
		arms[i] = r.outcome.Attempts[i].Arm
	}
	return arms
}

// answerHead sets the headers that name who answered, and who was tried.
func (r *round) answerHead(served *catalog.Arm, tried []datasets.Attempt) {
	r.set("X-Tradewind-Model", string(served.ID))
	r.set("X-Tradewind-Provider", served.ID.Provider())
	r.set("X-Tradewind-Attempts", strconv.Itoa(len(tried)))
	if left := r.dropped(served); len(left) > 0 {
		r.set("X-Tradewind-Dropped-Params", strings.Join(left, ","))
	}
	var failed []string
	for i := range tried { // a retry of the same arm is no fallback, and a call that was outrun has not failed
		if arm := tried[i].Arm; arm != served.ID && tried[i].Outcome != "cancelled" && !slices.Contains(failed, string(arm)) {
			failed = append(failed, string(arm))
		}
	}
	if len(failed) > 0 {
		r.set("X-Tradewind-Fallback-From", strings.Join(failed, ","))
	}
	if served.ID != r.decision.Action && r.outcome.Reason == "" {
		r.set("X-Tradewind-Reason", string(datasets.FellBack))
	}
}

// streamHead sends the headers of a stream.
func (r *round) streamHead(served *catalog.Arm, tried []datasets.Attempt) {
	r.head()
	r.answerHead(served, tried)
	r.set("Content-Type", "text/event-stream; charset=utf-8")
	r.set("Cache-Control", "no-cache")
	r.set("X-Accel-Buffering", "no")
	if c := r.candidate(served.ID); c.Priced {
		r.set("X-Tradewind-Cost-Estimate-Usd", strconv.FormatFloat(c.CostUSD, 'f', 9, 64))
	}
	r.w.WriteHeader(http.StatusOK)
}

func costText(c *openai.Cost) string {
	if c == nil || !c.Priced {
		return "unpriced"
	}
	return c.Total.String()
}

// headerValue keeps what a client sent from breaking a header.
func headerValue(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
}

// finish journals the outcome and settles the money, once.
func (r *round) finish() {
	if r.outcome.RoundID != "" {
		return
	}
	o := &r.outcome
	now := r.g.o.Now()
	o.RoundID, o.At = r.id, datasets.Instant(now)
	if o.Status == "" {
		o.Status = datasets.Failed
	}
	if o.CostStatus == "" {
		o.CostStatus = datasets.CostFinal
	}
	if r.err != nil {
		o.Error = string(r.g.hush(r.err).Code)
	}
	total := now.Sub(r.started)
	o.LatencyMS, o.OverheadMS = milliseconds(total), milliseconds(total-r.waited)
	r.settle(o.Cost)
	r.remember()
	if err := r.g.o.Journal.AppendOutcome(r.req.Context(), o); err != nil {
		r.g.complain("an outcome was not journaled yet", "round", r.id, "error", err)
	}
	r.countAnswer()
	r.countCost()
}
