package serving

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/rules"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// bodyKeepMax is the largest body buffer that is kept for the next request.
const bodyKeepMax = 1 << 20

// round is one request on its way. Its memory is reused; everything that outlives it is copied when it is journaled.
type round struct {
	g       *Gateway
	surface *served
	w       http.ResponseWriter
	req     *http.Request
	started time.Time
	id      datasets.RoundID
	// requestID is the client's own, or made from the round's.
	requestID string

	principal *governance.Principal
	body      bytes.Buffer
	// wire is the request in chat, spoken what the client said where it speaks another dialect.
	wire   *openai.Request
	spoken *openai.Spoken
	// lacks remembers what cannot be said to a provider.
	lacks   []lack
	place   quota.Place
	grant   quota.Grant
	granted bool

	live      *live
	router    *Router
	traffic   policy.Traffic // the setting in force when it began
	context   features.Context
	estimates estimates
	decision  datasets.Decision
	strategy  openai.Strategy
	proposed  policy.Distribution
	// wanted is what the strategy asks before any cost target, weighed room to weigh those.
	wanted   objective
	weighed  policy.Case
	promised promised
	// pacers keep the cost targets that the request is under, and effort is the reasoning effort that the operator asks for.
	pacers []*pacer
	effort string
	// turned is what the request would cost at each price of the dial, nil where it does not turn it.
	turned   []float64
	plan     []*catalog.Arm
	features []byte
	// nobody says that no candidate was left.
	nobody bool
	// demands are what the operator asks of the request, aim is the model that it is for: the request's own, or, where pinned is
	// set, a rule's.
	demands rules.Demands
	aim     openai.Target
	pinned  bool
	// others says that a model is named and others that have room are listed to stand in for it.
	others bool
	// talk is the conversation, scratch memory for its name.
	talk    conversation
	scratch []byte
	decided time.Duration
	// deciding is when that began.
	deciding time.Duration

	// gates are what the answer must pass, nil where there are none; said is what a stream says that is judged afterwards,
	// and asking the arm of an escalation whose cost is not booked yet.
	gates  *gate.Plan
	said   *gate.Collector
	asking *catalog.Arm
	// used are the tokens of all answers so far.
	used int

	// holds are in order; hedged says that two calls of the round have run beside each other.
	holds  []hold
	hedged bool
	// tightest is the budget that carries least, as it was when the case was made; left is what it carries.
	tightest ledger.InsufficientError
	left     catalog.Nanodollars
	recorded bool
	// guessed says that the usage of some answer is an estimate.
	guessed bool
	// heard is what the vendor said of its answer, nil without tracing.
	heard *heard
	// waited is the time spent waiting for vendors, and for the client to send its body and to take a stream, which is not our
	// overhead.
	waited  time.Duration
	outcome datasets.Outcome
	keyed   *keyed // nil without an idempotency key
	// parted is what a call has that is read on without the client, nil where none is.
	parted *parted
	// values are those of the answer's headers.
	values []string
	wrote  bool
	status int
	err    error
}

// begin takes a round from the pool and names it.
func (g *Gateway) begin(s *served, w http.ResponseWriter, req *http.Request) *round {
	r := g.rounds.Get().(*round)
	r.g, r.surface, r.w, r.req, r.started = g, s, w, req, g.o.Now()
	r.live = g.live.Load()
	r.router, r.traffic = r.live.routers[s.dialect], r.live.traffic.inForce()
	r.id = newRoundID(r.started)
	r.requestID = requestID(req.Header.Get("X-Request-Id"), r.id)
	r.status = http.StatusOK
	if g.o.Tracing != nil {
		r.heard = &heard{}
	}
	return r
}

// newRoundID is "rnd_" and a ULID: sorted by time, unique by 80 random bits.
func newRoundID(now time.Time) datasets.RoundID {
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(now)) // fails in the year 10889
	binary.BigEndian.PutUint16(id[6:], uint16(rand.Uint32()))
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	return datasets.RoundID("rnd_" + id.String())
}

// requestID takes the client's id where it is at most 128 visible ASCII characters.
func requestID(sent string, id datasets.RoundID) string {
	valid := sent != "" && len(sent) <= 128
	for i := 0; valid && i < len(sent); i++ {
		valid = sent[i] > ' ' && sent[i] < 0x7f
	}
	if valid {
		return sent
	}
	return "req_" + strings.TrimPrefix(string(id), "rnd_")
}

// end ends whatever serve began: it contains a panic, settles or releases the money, journals the outcome, and answers
// the client where nothing was answered.
func (r *round) end() {
	if p := recover(); p != nil {
		r.panicked(p)
	} else if r.err != nil && r.gone() && !errors.Is(r.err, os.ErrDeadlineExceeded) { // a body that did not come ends the connection too
		r.err = openai.NewError(openai.ClientGone, "the client has gone")
	}
	if r.granted {
		r.grant.Release()
	}
	place := r.place // the round's own is another's once it is recycled
	defer place.Leave()
	defer r.keyed.finish()
	defer r.parted.finish()
	if r.recorded {
		r.finish()
	} else {
		r.settle(0) // no vendor has heard of it
	}
	if r.nobody {
		r.countFiltered()
	}
	code := ""
	if r.err != nil {
		e := r.g.hush(r.err)
		code = codeLabel(e.Code)
		if e.Code == openai.InsufficientQuota && e.Reason != "" { // not a vendor's word
			r.g.o.Metrics.BudgetRejected(e.Reason)
		}
		if e.Code == openai.InternalError {
			r.g.o.Log.Error("request failed", "round", r.id, "error", r.err)
		}
		if !r.wrote {
			r.status = e.Status
			r.head()
			if r.recorded { // attempts that failed may have been billed
				r.set("X-Tradewind-Cost-Usd", costText(&openai.Cost{Priced: r.outcome.CostStatus != datasets.CostUnpriced, Total: r.outcome.Cost}))
			}
			r.surface.fail(r.w, e, r.requestID, string(r.id))
		}
	}
	r.keepAnswer()
	total := r.since()
	r.surface.meter.End(telemetry.Done{
		Status: r.status, Code: code, Strategy: string(r.strategy), Stream: r.wire != nil && r.wire.Stream,
		Duration: total, Overhead: total - r.waited, By: r.tenant(),
	})
	if r.g.o.Tracing != nil {
		r.tell(total)
	}
	r.recycle()
}

// hush is an error as a client may hear it and the journal keep it: a vendor's words, and what the client itself has written,
// may hold a secret.
func (g *Gateway) hush(err error) *openai.Error {
	e := *openai.AsError(err)
	e.Message, e.Code, e.Param = g.o.Redact(e.Message), openai.Code(g.o.Redact(string(e.Code))), g.o.Redact(e.Param)
	return &e
}

// panicked makes an internal error of a panic. Where the decision was written a vendor may have been called, so its
// forecast is booked unless the true cost is known already.
func (r *round) panicked(p any) {
	r.g.o.Log.Error("panic in a request", "round", r.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	e := openai.NewError(openai.InternalError, "internal error")
	r.err = e
	if r.recorded && r.outcome.CostStatus == "" {
		r.outcome.Cost, r.outcome.CostStatus = r.forecast(r.plan[0]), datasets.CostEstimated
	} else if r.asking != nil {
		r.outcome.Cost, r.outcome.CostStatus = r.outcome.Cost+r.forecast(r.asking), datasets.CostEstimated
	}
	if r.wrote && r.wire.Stream { // the client must not take what it has for all
		_, _ = r.w.Write(r.surface.writer(r, r.plan[0].ID).AppendEnd(nil, openai.Final{}, e))
	}
}

// gone reports whether the client has closed its connection, or takes nothing more.
func (r *round) gone() bool {
	return (r.req.Context().Err() != nil || r.parted.hasLeft()) && !r.drained()
}

// drained reports whether the end of a drain has ended the request.
func (r *round) drained() bool { return context.Cause(r.req.Context()) == ErrDrained }

// drainedError is what its client hears.
func drainedError() *openai.Error {
	e := openai.NewError(openai.NoHealthyUpstream, "the server is shutting down")
	e.RetryAfter, e.ShouldRetry = time.Second, openai.Yes
	return e
}

// codeLabel is an error's code as a label. A vendor's own codes are without number, so they share one.
func codeLabel(c openai.Code) string {
	if c.Known() {
		return string(c)
	}
	return "upstream_code"
}

// recycle clears what must not be seen by the next request and keeps the memory.
func (r *round) recycle() {
	if r.body.Cap() > bodyKeepMax {
		r.body = bytes.Buffer{}
	}
	r.body.Reset()
	g, candidates := r.g, r.decision.Case.Candidates
	clear(candidates)
	clear(r.plan)
	*r = round{
		lacks: r.lacks[:0],
		body:  r.body, context: features.Context{Counts: r.context.Counts[:0]}, estimates: r.estimates,
		proposed: r.proposed, plan: r.plan[:0], features: r.features[:0], scratch: r.scratch[:0], demands: r.demands, pacers: r.pacers[:0], holds: r.holds[:0],
		weighed: policy.Case{Candidates: r.weighed.Candidates[:0]},
	}
	r.decision.Case.Candidates = candidates[:0]
	g.rounds.Put(r)
}

// authenticate finds out who asks.
func (r *round) authenticate() error {
	p, err := r.live.Auth.Authenticate(r.req.Header)
	if err != nil {
		return authError(err)
	}
	r.principal = p
	return nil
}

// authError is the wire's error of a key that was refused.
func authError(err error) error {
	switch {
	case errors.Is(err, governance.ErrNoKey):
		return openai.NewError(openai.InvalidAPIKey, "no API key was sent; send it as Authorization: Bearer <key>")
	case errors.Is(err, governance.ErrExpired):
		return openai.NewError(openai.KeyExpired, "the API key is expired or disabled")
	case errors.Is(err, governance.ErrForeignPage):
		return openai.NewError(openai.Forbidden, "without keys only this machine is served, and the origin of this request is a page of another: configure keys")
	}
	return openai.NewError(openai.InvalidAPIKey, "the API key is not known here")
}

// enter takes the request's place among those that the process answers at once.
func (r *round) enter() (err error) {
	r.place, err = r.g.enter(r.principal, r.req)
	return err
}

// enter takes a place for a request. Organizations share the room fairly; a key without one is its own.
func (g *Gateway) enter(p *governance.Principal, req *http.Request) (quota.Place, error) {
	if req.ContentLength > int64(g.o.BodyMax) { // however much room there is
		return quota.Place{}, openai.NewError(openai.RequestTooLarge, "the body has %d bytes; at most %d are read", req.ContentLength, g.o.BodyMax)
	}
	place, err := g.o.Capacity.Enter(cmp.Or(p.Org, p.KeyID), req.ContentLength)
	if err != nil {
		return place, g.overloaded(err)
	}
	return place, nil
}

// overloaded is the wire's error of a request that there is no room for.
func (g *Gateway) overloaded(err error) error {
	requests, bytes := g.o.Capacity.Open()
	limit, used, bound := "capacity.requests", requests, g.o.Capacity.Requests()
	if errors.Is(err, quota.ErrFullBodies) {
		limit, used, bound = "capacity.body_mib", bytes>>20, g.o.Capacity.BodyBytes()>>20
	}
	g.complain("requests are refused for want of room: all of it is taken, or all that one organization may have", "limit", limit, "used", used, "of", bound)
	e := openai.NewError(openai.Overloaded, "too many requests are being answered")
	e.RetryAfter, e.Reason = time.Second, "overloaded_requests"
	if errors.Is(err, quota.ErrFullBodies) {
		e.Reason = "overloaded_bodies"
	}
	return e
}

// decode reads the body to its end and takes from it what routing needs.
func (r *round) decode() error {
	r.body.Grow(int(min(max(r.req.ContentLength, 0), bodyKeepMax)) + bytes.MinRead)
	waiting := r.g.o.Now()
	err := r.g.readBody(&r.body, r.req, r.place.Body(r.req.Body), r.g.o.BodyMax)
	r.waited += r.g.o.Now().Sub(waiting)
	if err != nil {
		return err
	}
	if r.wire, r.spoken, err = r.surface.decode(r.body.Bytes(), openai.DecodeOptions{BodyMax: r.g.o.BodyMax}); err != nil {
		return err
	}
	if err := openai.ApplyHeaders(r.wire, r.req.Header); err != nil {
		return err
	}
	if err := r.unsupported(); err != nil {
		return err
	}
	if err := r.undirected(); err != nil {
		return err
	}
	if err := r.planGates(); err != nil {
		return err
	}
	return r.ungated()
}

// unsupported refuses what was asked for and cannot be done yet: a constraint must not be silently ignored.
func (r *round) unsupported() error {
	o := &r.wire.Tradewind
	for _, f := range [...]struct {
		name string
		set  bool
	}{
		{"tradewind.hedge", o.Hedge == openai.Yes && r.principal.Hedge == nil},
	} {
		if f.set {
			e := openai.NewError(openai.UnsupportedRoutingField, "%s is not configured here", f.name)
			e.Param = f.name
			return e
		}
	}
	return nil
}

// admit takes a place under the key's rates and concurrency.
func (r *round) admit() error {
	grant, refusal := r.g.o.Quota.Admit(r.principal.KeyID, r.principal.Limits, int(r.wire.InputBound()/4)+1)
	if refusal != nil {
		return rateError(r.set, refusal)
	}
	r.grant, r.granted = grant, true
	rateHead(r.set, grant.Requests, grant.Tokens)
	return nil
}

// correct puts the tokens that an answer used in the place of their estimates, under the limits of its arm and of the key.
func (r *round) correct(a *upstream.Answer, tokens int) {
	a.Used(tokens)
	r.used += tokens
	r.grant.Correct(r.used)
}

// rateError is the wire's error of a limit that is reached.
func rateError(set func(name, value string), refusal *quota.Refusal) error {
	rateHead(set, refusal.Requests, refusal.Tokens)
	e := openai.NewError(openai.RateLimitExceeded, "the key's limit of %d %s is reached", refusal.Limit, refusal.Kind)
	e.RetryAfter, e.Reason = refusal.RetryAfter, "rate_limited_"+string(refusal.Kind)
	return e
}

// rateHead sets the headers of the limits that are set, in OpenAI's form.
func rateHead(set func(name, value string), requests, tokens quota.Meter) {
	if requests.Limit != 0 {
		set("X-Ratelimit-Limit-Requests", strconv.Itoa(requests.Limit))
		set("X-Ratelimit-Remaining-Requests", strconv.Itoa(requests.Remaining))
		set("X-Ratelimit-Reset-Requests", requests.Reset.String())
	}
	if tokens.Limit != 0 {
		set("X-Ratelimit-Limit-Tokens", strconv.Itoa(tokens.Limit))
		set("X-Ratelimit-Remaining-Tokens", strconv.Itoa(tokens.Remaining))
		set("X-Ratelimit-Reset-Tokens", tokens.Reset.String())
	}
}

// extract computes the features.
func (r *round) extract() {
	r.deciding = r.since()
	r.decided = -r.deciding
	if r.surface.direct != nil { // nobody looks at the text
		r.context.Tokens = r.wire.InputEstimate()
		return
	}
	r.router.extractor.Extract(&r.context, &r.wire.Prompt)
}

// since is the time since the request began.
func (r *round) since() time.Duration { return r.g.o.Now().Sub(r.started) }
