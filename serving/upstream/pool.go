package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/quota"
)

// Options configure a Pool. Zero values take the defaults named with each field.
type Options struct {
	// Providers by the part of an arm's id before the first slash.
	Providers map[string]Provider
	// FirstTokenTimeout bounds the wait for the first content of a stream (60 s), ChunkTimeout that for each further
	// event (60 s). AnswerTimeout bounds an answer that is not streamed while another arm could still be tried (300 s).
	FirstTokenTimeout time.Duration
	ChunkTimeout      time.Duration
	AnswerTimeout     time.Duration
	// Patience is that for arms which differ: some think for minutes before their first word.
	Patience map[catalog.ArmID]Patience
	// Limits are those within which arms are kept, each of which may have several.
	Limits map[catalog.ArmID][]Limit
	// RequestTimeout bounds all attempts together, answer included (600 s).
	RequestTimeout time.Duration
	// MaxAttempts bounds the attempts of one request (3).
	MaxAttempts int
	// FailoverOnPolicy lets another arm try what one refused for its content.
	FailoverOnPolicy bool
	// Seed makes the jitter of retries repeatable.
	Seed uint64
	// Now is the clock (time.Now).
	Now func() time.Time
	// Notify, if not nil, is told when an arm is set behind the healthy ones and when it answers again. It must not call
	// the pool.
	Notify func(Change)
}

// Change is a change of an arm's place. Healthy as State says that it answers again.
type Change struct {
	Arm   catalog.ArmID
	State State
	// For is how long it stands behind the others, Cause the failure that brought it there; nil where it became slow.
	For   time.Duration
	Cause *Error
}

// Validate refuses negative limits.
func (o *Options) Validate() error {
	if o.FirstTokenTimeout < 0 || o.ChunkTimeout < 0 || o.AnswerTimeout < 0 || o.RequestTimeout < 0 || o.MaxAttempts < 0 {
		return errors.New("upstream: timeouts and attempts must not be negative")
	}
	for arm, p := range o.Patience {
		if err := p.Validate(); err != nil {
			return fmt.Errorf("%w: %s", err, arm)
		}
	}
	for arm, limits := range o.Limits {
		for _, l := range limits {
			if err := l.Validate(); err != nil {
				return fmt.Errorf("%w: %s", err, arm)
			}
		}
	}
	for name, p := range o.Providers {
		if p == nil {
			return fmt.Errorf("upstream: provider %q is nil", name)
		}
	}
	return nil
}

// Pool makes attempts at arms and remembers how they fare. It is safe for concurrent use.
type Pool struct {
	o    Options
	arms *sync.Map // catalog.ArmID → *state

	retries *retries
	quota   *quota.Quota

	// mu guards rng, and that no two arms are degraded at once. It is taken before that of an arm.
	mu  sync.Mutex
	rng *rand.Rand
}

// New makes a pool.
func New(o Options) (*Pool, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&o.FirstTokenTimeout, time.Minute}, {&o.ChunkTimeout, time.Minute},
		{&o.AnswerTimeout, 5 * time.Minute}, {&o.RequestTimeout, 10 * time.Minute},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = 3
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	counts, err := quota.New(quota.Options{Now: o.Now})
	p := &Pool{o: o, arms: &sync.Map{}, retries: &retries{}, quota: counts, rng: rand.New(rand.NewPCG(o.Seed, 0))}
	p.retries.fifths.Store(5 * retriesAtFirst)
	return p, err
}

// Renew makes a pool with other options that knows all that this one has seen and goes on to learn with it. Requests
// that have begun end in the pool that they began in.
func (p *Pool) Renew(o Options) (*Pool, error) {
	n, err := New(o)
	if err == nil {
		n.arms, n.retries, n.quota = p.arms, p.retries, p.quota
	}
	return n, err
}

// Plan is one request: the arms that may answer it, in order.
type Plan struct {
	// Candidates in order of preference. With one there is no failover, only the retry of a transient failure.
	Candidates []*catalog.Arm
	// Dialect is the client's; empty is chat. An arm whose provider does not speak it is asked in chat.
	Dialect openai.Dialect
	// Body makes the body for an arm in a dialect. It is called once an attempt.
	Body   func(arm *catalog.Arm, d openai.Dialect) []byte
	Stream bool
	// Single allows one attempt and no more (fallback: false).
	Single bool
	// InputTokens are about those of the prompt: latencies are learned by them.
	InputTokens int
	// Header goes to arms that are asked in the client's dialect.
	Header http.Header
	// MaxAttempts can only lower the pool's own; 0 leaves it.
	MaxAttempts int
	// Timeout is the client's own deadline for the whole request; it can only shorten the pool's.
	Timeout time.Duration
	// OnAttempt is asked before each attempt and may refuse it, for example because no further hold can be taken. The
	// failed attempts so far are given; Billed tells which may cost money. The error ends the request. It may be nil.
	OnAttempt func(arm *catalog.Arm, failed []Attempt) error
	// Beyond gives the context of a call at an arm that does not end with the request's, for example because the vendor bills
	// to the end whoever listens; nil for one that does. The request's deadline ends it all the same, and once the request's
	// context has ended no other call is begun. It may be nil.
	Beyond func(arm *catalog.Arm) context.Context
	// Hedge is leave for a second call beside a first one that is slow to begin; nil is none.
	Hedge *Hedge
}

// Attempt is one call to one arm.
type Attempt struct {
	Arm       catalog.ArmID
	StartedAt time.Time
	// Err is nil for the attempt that answered. It may still be running then, and later break off.
	Err *Error
	// FirstContent is 0 where no content arrived. Total is set when the attempt ends.
	FirstContent time.Duration
	Total        time.Duration
	// Billed says that the vendor may have begun to bill although the attempt failed.
	Billed bool
	// Hedge says that it was made beside another, Cancelled that the other one answered first, which is nobody's failure.
	Hedge, Cancelled bool

	arm *catalog.Arm
}

// The two ways in which a wait ends that is nobody's cancellation.
var (
	errStalled  = errors.New("upstream: the vendor sent nothing in time")
	errDeadline = errors.New("upstream: the request's deadline passed")
)

// Do makes attempts until the first content arrives and returns the answer that it begins. Failures before it go on to
// the next candidate by their class; after it there is no switching. The error is a *Failure, or what OnAttempt or the
// client's own context said.
func (p *Pool) Do(ctx context.Context, plan *Plan) (*Answer, error) {
	p.retries.earn()
	limit := p.o.RequestTimeout
	if plan.Timeout > 0 {
		limit = min(limit, plan.Timeout)
	}
	ctx, stop := context.WithTimeoutCause(ctx, limit, errDeadline)
	run := &run{pool: p, plan: plan, queue: p.order(plan.Candidates)}
	var a *Answer
	defer func() {
		if a == nil { // a panic on the way included
			stop()
		}
	}()
	a, err := run.attempts(ctx)
	if err != nil {
		return nil, err
	}
	a.stop = stop
	return a, nil
}

// order puts arms that are unwell behind the others and keeps the order otherwise. A half-open one stands in its place for
// the request that may probe it.
func (p *Pool) order(arms []*catalog.Arm) []*catalog.Arm {
	queue := make([]*catalog.Arm, 0, len(arms))
	for _, behind := range [...]bool{false, true} {
		for _, a := range arms {
			if p.Snapshot(a.ID).Ejected == behind {
				queue = append(queue, a)
			}
		}
	}
	return queue
}

// Speaks reports whether an arm can be asked in a dialect. Every arm can be asked in chat.
func (p *Pool) Speaks(id catalog.ArmID, d openai.Dialect) bool {
	if d == openai.Chat || d == "" {
		return true
	}
	l, ok := p.o.Providers[id.Provider()].(Linguist)
	return ok && l.Speaks(d)
}

// Retells reports whether a provider says a chat request in its vendor's own dialect, which may have places for what vendors
// of chat do not take.
func (p *Pool) Retells(provider string) bool {
	l, ok := p.o.Providers[provider].(Linguist)
	return ok && !l.Speaks(openai.Chat)
}

// Lacks names what of a chat request cannot be said to a provider, "" where all of it can.
func (p *Pool) Lacks(provider string, chat []byte) string {
	if l, ok := p.o.Providers[provider].(Linguist); ok {
		return l.Lacks(chat)
	}
	return ""
}

// run is the state of one request before its first content.
type run struct {
	pool   *Pool
	plan   *Plan
	queue  []*catalog.Arm
	failed []Attempt
	// again says that the one retry of the same arm is used up.
	again bool
	// busy are the arms that were passed over because another request is probing them, limited is the shortest wait of those
	// that have no room under their limits.
	busy    []*state
	limited time.Duration
}

func (r *run) attempts(ctx context.Context) (*Answer, error) {
	most := r.pool.o.MaxAttempts
	if r.plan.MaxAttempts > 0 {
		most = min(most, r.plan.MaxAttempts)
	}
	if r.plan.Single {
		most = 1
	}
	for len(r.queue) > 0 {
		arm := r.queue[0]
		r.queue = r.queue[1:]
		turn, ok := r.enter(arm)
		if !ok {
			continue
		}
		a, failed, err := r.attempt(ctx, turn, most)
		if a != nil || err != nil {
			return a, err
		}
		r.failed = append(r.failed, *failed)
		if ctx.Err() != nil {
			break
		}
		if len(r.failed) >= most || !failed.Err.Class.failover(r.pool.o.FailoverOnPolicy) {
			break
		}
		if wait, retry := r.next(failed.arm, failed.Err); retry {
			r.again = true
			r.queue = append(r.queue, failed.arm)
			if !sleep(ctx, wait) {
				break
			}
		}
	}
	return nil, r.failure(ctx)
}

// attempt makes one attempt, if the plan lets it. A probe's right goes back whatever happens, a panic of the plan's included:
// else nobody would ever try the arm again.
func (r *run) attempt(ctx context.Context, t turn, most int) (*Answer, *Attempt, error) {
	defer t.live.leave(t.probe)
	if r.plan.OnAttempt != nil {
		if err := r.plan.OnAttempt(t.arm, r.failed); err != nil {
			t.cancel()
			return nil, nil, err
		}
	}
	a, failed := r.race(ctx, t, most)
	if a != nil {
		a.failed = r.failed
	}
	return a, failed, nil
}

// next removes the candidates that the failure rules out and decides, where none is left, whether the same arm is worth
// another attempt and after what wait.
func (r *run) next(tried *catalog.Arm, e *Error) (time.Duration, bool) {
	if e.Class == ContextLength {
		larger := r.queue[:0]
		for _, a := range r.queue {
			if a.ContextTokens > tried.ContextTokens {
				larger = append(larger, a)
			}
		}
		r.queue = larger
	}
	if len(r.queue) > 0 || r.again {
		return 0, false
	}
	if e.Class == RateLimited {
		return e.RetryAfter, e.RetryAfter > 0 && e.RetryAfter <= retryWaitMax
	}
	return r.pool.jitter(), e.Class.again()
}

// retryWaitMax is the longest Retry-After that a request waits for.
const retryWaitMax = 2 * time.Second

// jitter is a wait of 0.25 to 1 s.
func (p *Pool) jitter() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 250*time.Millisecond + time.Duration(p.rng.Int64N(int64(750*time.Millisecond)))
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// failure is the error of a request that nobody answered.
func (r *run) failure(ctx context.Context) error {
	cause := context.Cause(ctx)
	if cause != nil && cause != errDeadline && !errors.Is(cause, context.DeadlineExceeded) {
		return &Failure{Attempts: r.failed, Cause: context.Canceled}
	}
	f := &Failure{Attempts: r.failed, Cause: cause}
	if len(r.busy) == 0 {
		f.Limited, f.RetryAfter = r.limited > 0, r.limited
	} else if len(r.failed) == 0 {
		f.RetryAfter = r.pool.cooldown(r.busy)
	}
	return f
}

// prepare makes an attempt ready to be called.
func (p *Pool) prepare(ctx context.Context, plan *Plan, c *catalog.Arm, last bool) *Answer {
	a := &Answer{pool: p, plan: plan, arm: c, live: p.live(c.ID), started: time.Now()}
	a.attempt = Attempt{Arm: c.ID, StartedAt: p.o.Now(), arm: c}
	if plan.Beyond != nil {
		if beyond := plan.Beyond(c); beyond != nil {
			deadline, _ := ctx.Deadline()
			ctx, a.expire = context.WithDeadlineCause(beyond, deadline, errDeadline)
		}
	}
	ctx, a.cancel = context.WithCancelCause(ctx)
	patience := p.patience(c.ID)
	a.pause = patience.Chunk
	wait := p.o.RequestTimeout
	if plan.Stream {
		wait = patience.FirstToken
	} else if !last {
		wait = patience.Answer
	}
	a.ctx, a.timer = ctx, time.AfterFunc(wait, func() { a.cancel(errStalled) })
	a.req = &Request{Arm: c, Stream: plan.Stream, Dialect: openai.Chat}
	if c.Effort == "" && p.Speaks(c.ID, plan.Dialect) { // an effort is said in chat
		a.req.Dialect, a.req.Header = plan.Dialect, plan.Header
	}
	a.dialect, a.req.Body = a.req.Dialect, plan.Body(c, a.req.Dialect)
	return a
}

// call makes the attempt's call and waits for its first content. It is the one part of an attempt that may run beside another.
// A panic of the vendor's code leaves nothing of it open.
func (a *Answer) call() (err error) {
	returned := false
	defer func() {
		if !returned {
			a.release()
		}
	}()
	var s Stream
	if provider := a.pool.o.Providers[a.arm.ID.Provider()]; provider == nil {
		err = errNoProvider
	} else if s, err = provider.Stream(a.ctx, a.req); err == nil {
		a.source = s
		err = a.begin()
	}
	returned = true
	return err
}

var errNoProvider = errors.New("upstream: no provider is configured for the arm")

// arrived books what a call came to. One of the results is nil.
func (a *Answer) arrived(err error) (*Answer, *Attempt) {
	p, at := a.pool, &a.attempt
	a.req = nil // the body may be large, and the answer long
	if err == nil {
		a.timer.Stop()
		a.ttft = time.Since(a.started)
		at.FirstContent = a.ttft
		a.live.began()
		if a.plan.Stream && a.live.firstContent(a.ttft, a.input()) {
			p.degrade(a.live, a.plan.Candidates, false)
		}
		return a, nil
	}
	if err == errNoProvider {
		at.Err = &Error{Class: ModelGone, Message: fmt.Sprintf("no provider is configured for %s", a.arm.ID)}
		a.release()
		return nil, at
	}
	at.Err = a.explain(err)
	at.Total = time.Since(a.started)
	if at.Billed = billed(at.Err); !at.Billed {
		a.counted.correct(0)
	}
	a.blame(at.Err)
	a.release()
	return nil, at
}

// billed reports whether a vendor may charge for the failed attempt: it accepted the request, or may have.
func billed(e *Error) bool {
	switch e.Class {
	case TimedOut, Cut, BadAnswer:
		return true
	}
	return false
}

// begin reads up to the first content and keeps what came before it.
func (a *Answer) begin() error {
	for size := 0; ; {
		ev, err := a.source.Next()
		if err == io.EOF {
			return &Error{Class: BadAnswer, Status: http.StatusOK, Message: "the answer was empty"}
		}
		if err != nil {
			return err
		}
		if ev.Kind.Has(openai.HasError) {
			return ClassifyObject(ev.ErrorObject(), nil)
		}
		if ev.Kind.Has(openai.HasContent) {
			a.first, a.hasFirst = ev, true
			return nil
		}
		if size += len(ev.Data); size > preludeMax || len(a.prelude) >= preludeEventsMax {
			return &Error{Class: BadAnswer, Status: http.StatusOK, Message: "too much came before the first content"}
		}
		ev.Data = append([]byte(nil), ev.Data...)
		a.prelude = append(a.prelude, ev)
	}
}

// Limits of what is kept before the first content.
const (
	preludeMax       = 1 << 20
	preludeEventsMax = 256
)
