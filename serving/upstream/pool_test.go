package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// script is a vendor in memory: what it does with each call, the last one repeated.
type script struct {
	mu    sync.Mutex
	steps []step
	calls int
	// open counts streams that were not closed.
	open int
}

type step struct {
	// err ends the call at once; wait is the time to the first event and between events; hang waits for ever after them.
	err    *Error
	wait   time.Duration
	hang   bool
	cut    bool
	events []string
}

func (s *script) Stream(ctx context.Context, r *Request) (Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.steps[min(s.calls, len(s.steps)-1)]
	s.calls++
	if st.err != nil {
		return nil, st.err
	}
	s.open++
	return &played{ctx: ctx, s: s, step: st}, nil
}

type played struct {
	ctx    context.Context
	s      *script
	step   step
	closed bool
}

func (p *played) Next() (Event, error) {
	wait := p.step.wait
	if len(p.step.events) == 0 && p.step.hang {
		wait = 1000 * time.Hour
	}
	select {
	case <-p.ctx.Done():
		return Event{}, p.ctx.Err()
	case <-time.After(wait):
	}
	if len(p.step.events) == 0 {
		if p.step.cut {
			return Event{}, &Error{Class: Cut, Message: "broke off"}
		}
		return Event{}, io.EOF
	}
	data := p.step.events[0]
	p.step.events = p.step.events[1:]
	ev, err := openai.ParseChunk([]byte(data))
	if err != nil {
		return ev, &Error{Class: BadAnswer, Message: "garbage"}
	}
	return ev, nil
}

func (p *played) Close() error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if !p.closed {
		p.s.open--
	}
	p.closed = true
	return nil
}

const (
	roleChunk   = `{"choices":[{"delta":{"role":"assistant","content":""}}]}`
	textChunk   = `{"choices":[{"delta":{"content":"hello"}}]}`
	finishChunk = `{"choices":[{"delta":{},"finish_reason":"stop"}]}`
	errorChunk  = `{"error":{"message":"oops","code":502}}`
)

var good = step{wait: time.Millisecond, events: []string{roleChunk, textChunk, finishChunk, "[DONE]"}}

func fails(c Class) step { return step{err: &Error{Class: c, Message: "no"}} }

// world is a pool over scripted vendors a, b, c, … with one arm each.
type world struct {
	pool *Pool
	arms []*catalog.Arm
	v    []*script
}

func newWorld(t *testing.T, o Options, steps ...[]step) *world {
	t.Helper()
	w := &world{}
	o.Providers = map[string]Provider{}
	for i, s := range steps {
		name := string(rune('a' + i))
		v := &script{steps: s}
		o.Providers[name] = v
		w.v = append(w.v, v)
		w.arms = append(w.arms, &catalog.Arm{ID: catalog.ArmID(name + "/m"), ContextTokens: 1000 * (i + 1)})
	}
	var err error
	if w.pool, err = New(o); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) plan() *Plan {
	return &Plan{Candidates: w.arms, Stream: true, Body: func(*catalog.Arm, openai.Dialect) []byte { return []byte("{}") }}
}

// ask runs a plan to its end and checks that nothing is left open.
func (w *world) ask(t *testing.T, ctx context.Context, plan *Plan) (*Answer, []string, error) {
	t.Helper()
	a, err := w.pool.Do(ctx, plan)
	var got []string
	if err == nil {
		for {
			ev, e := a.Next()
			if e != nil {
				if e != io.EOF {
					err = e
				}
				break
			}
			got = append(got, string(ev.Data))
		}
		if e := a.Close(); e != nil {
			t.Error(e)
		}
	}
	if plan.Hedge != nil {
		synctest.Wait() // the call that lost is closed at once, but nobody waits for it
	}
	for i, v := range w.v {
		v.mu.Lock()
		if v.open != 0 {
			t.Errorf("vendor %d has %d open streams, want 0", i, v.open)
		}
		v.mu.Unlock()
	}
	return a, got, err
}

func (w *world) calls() []int {
	var n []int
	for _, v := range w.v {
		n = append(n, v.calls)
	}
	return n
}

// TestFailover: what each class of failure leads to, with another arm and without.
func TestFailover(t *testing.T) {
	tests := []struct {
		name  string
		first step
		// calls at each vendor with a healthy second one; alone, the calls at the only vendor
		calls []int
		alone int
	}{
		{"healthy", good, []int{1, 0}, 1},
		{"connect", fails(Connect), []int{1, 1}, 2},
		{"server", fails(Server), []int{1, 1}, 2},
		{"timeout", fails(TimedOut), []int{1, 1}, 1},
		{"rate limit", fails(RateLimited), []int{1, 1}, 1},
		{"rate limit, short wait", step{err: &Error{Class: RateLimited, RetryAfter: time.Second}}, []int{1, 1}, 2},
		{"rate limit, long wait", step{err: &Error{Class: RateLimited, RetryAfter: 3 * time.Second}}, []int{1, 1}, 1},
		{"auth", fails(Auth), []int{1, 1}, 1},
		{"model gone", fails(ModelGone), []int{1, 1}, 1},
		{"context length", fails(ContextLength), []int{1, 1}, 1},
		{"content policy", fails(ContentPolicy), []int{1, 0}, 1},
		{"bad request", fails(BadRequest), []int{1, 0}, 1},
		{"unsayable", fails(Unsayable), []int{1, 1}, 1},
		{"bad answer", fails(BadAnswer), []int{1, 1}, 2},
		{"empty", step{events: nil}, []int{1, 1}, 2},
		{"role only", step{events: []string{roleChunk, finishChunk, "[DONE]"}}, []int{1, 1}, 2},
		{"garbage", step{events: []string{"garbage"}}, []int{1, 1}, 2},
		{"error in the stream", step{events: []string{roleChunk, errorChunk}}, []int{1, 1}, 2},
		{"cut before content", step{events: []string{roleChunk}, cut: true}, []int{1, 1}, 2},
		{"stall", step{hang: true}, []int{1, 1}, 1},
		{"stall after the role", step{events: []string{roleChunk}, hang: true}, []int{1, 1}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Options{}, []step{test.first}, []step{good})
				start := time.Now()
				a, got, err := w.ask(t, t.Context(), w.plan())
				if !reflect.DeepEqual(w.calls(), test.calls) {
					t.Errorf("calls: got %v, want %v", w.calls(), test.calls)
				}
				if test.calls[1] == 1 || test.name == "healthy" {
					if want := good.events; err != nil || !reflect.DeepEqual(got, want) {
						t.Errorf("answer: got %q and %v, want %q", got, err, want)
					} else if n := len(a.Attempts()); n != test.calls[0]+test.calls[1] {
						t.Errorf("attempts: got %d, want %d", n, test.calls[0]+test.calls[1])
					}
				} else if err == nil {
					t.Error("answered, want an error")
				}
				limit := 10 * time.Millisecond
				if test.first.hang {
					limit += time.Minute
				}
				if d := time.Since(start); d > limit {
					t.Errorf("took %v with another arm ready, want at most %v", d, limit)
				}
				alone := newWorld(t, Options{}, []step{test.first})
				_, _, err = alone.ask(t, t.Context(), alone.plan())
				if alone.v[0].calls != test.alone || (err == nil) != (test.name == "healthy") {
					t.Errorf("alone: %d calls and %v, want %d calls", alone.v[0].calls, err, test.alone)
				}
			})
		})
	}
}

func TestRetryRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{}, []step{fails(Server), good})
		start := time.Now()
		a, _, err := w.ask(t, t.Context(), w.plan())
		if err != nil || len(a.Attempts()) != 2 {
			t.Fatalf("got %v, want an answer on the second attempt", err)
		}
		if d := time.Since(start); d < 250*time.Millisecond || d > 1010*time.Millisecond {
			t.Errorf("waited %v, want from 250ms to 1s", d)
		}
	})
}

func TestAttemptsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := []step{fails(Server)}
		w := newWorld(t, Options{}, bad, bad, bad, bad, bad)
		_, _, err := w.ask(t, t.Context(), w.plan())
		var f *Failure
		if !errors.As(err, &f) || len(f.Attempts) != 3 || !reflect.DeepEqual(w.calls(), []int{1, 1, 1, 0, 0}) {
			t.Fatalf("got %v after calls %v, want a failure after three", err, w.calls())
		}
		if e := f.Wire(); e.Code != openai.UpstreamFailed || e.ShouldRetry != openai.No || len(e.Extra["attempts"].([]WireAttempt)) != 3 {
			t.Errorf("on the wire: got %+v", e)
		}
		single := w.plan()
		single.Single = true
		w = newWorld(t, Options{}, bad, []step{good})
		single.Candidates = w.arms
		if _, _, err := w.ask(t, t.Context(), single); err == nil || !reflect.DeepEqual(w.calls(), []int{1, 0}) {
			t.Errorf("fallback false: got %v after calls %v, want one call", err, w.calls())
		}
	})
}

func TestContextLengthGoesToLargerWindowsOnly(t *testing.T) {
	w := newWorld(t, Options{}, []step{good}, []step{fails(ContextLength)}, []step{good})
	plan := w.plan()
	plan.Candidates = []*catalog.Arm{w.arms[1], w.arms[0], w.arms[2]}
	if _, _, err := w.ask(t, t.Context(), plan); err != nil || !reflect.DeepEqual(w.calls(), []int{0, 1, 1}) {
		t.Errorf("got %v after calls %v, want the larger window only", err, w.calls())
	}
}

// TestNoSwitchAfterContent cuts, stalls or fails an answer after its content: the error is told, no other arm is asked.
func TestNoSwitchAfterContent(t *testing.T) {
	for name, test := range map[string]struct {
		step step
		want Class
	}{
		"cut":   {step{events: []string{roleChunk, textChunk}, cut: true}, Cut},
		"stall": {step{events: []string{textChunk}, hang: true}, TimedOut},
		"error": {step{events: []string{textChunk, errorChunk, textChunk}}, Server},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Options{}, []step{test.step}, []step{good})
				a, got, err := w.ask(t, t.Context(), w.plan())
				var e *Error
				if !errors.As(err, &e) || e.Class != test.want || w.v[1].calls != 0 {
					t.Fatalf("got %v and %d calls at the other vendor, want class %s and none", err, w.v[1].calls, test.want)
				}
				if got[len(got)-1] != textChunk {
					t.Errorf("events: got %q, want them to end with the content", got)
				}
				if at := a.Attempts(); len(at) != 1 || at[0].Err == nil || !at[0].Billed {
					t.Errorf("attempts: got %+v, want one that failed and may be billed", at)
				}
				if _, err := a.Next(); err != io.EOF {
					t.Errorf("after the error: got %v, want EOF", err)
				}
			})
		})
	}
}

func TestClientGone(t *testing.T) {
	cases := map[string]step{"before the first byte": {hang: true}, "mid-stream": {events: []string{textChunk}, hang: true}, "in back-off": fails(Server)}
	for name, st := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Options{}, []step{st})
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
				start := time.Now()
				_, _, err := w.ask(t, ctx, w.plan())
				if !errors.Is(err, context.Canceled) || time.Since(start) != 100*time.Millisecond {
					t.Errorf("got %v after %v, want context.Canceled at once", err, time.Since(start))
				}
				if l := w.pool.Snapshot("a/m"); name != "in back-off" && (l.Availability != 1 || l.Attempts != 0) {
					t.Errorf("the arm was blamed for the client: %+v", l)
				}
			})
		})
	}
}

// TestBeyondItsClient: a call that has a context of its own is not the client's to end: what it comes to is learned of the arm.
// The request's deadline ends it, and when it fails nobody else is asked.
func TestBeyondItsClient(t *testing.T) {
	for name, tt := range map[string]struct {
		step  step
		after time.Duration
		ok    bool
	}{
		"it answers": {slow(time.Second), 4 * time.Second, true}, "it fails": {late(time.Second, Server), time.Second, false},
		"deadline": {step{hang: true}, 20 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Options{}, []step{tt.step}, []step{good})
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
				plan, start := w.plan(), time.Now()
				plan.Timeout = 20 * time.Second
				plan.Beyond = func(*catalog.Arm) context.Context { return t.Context() }
				_, _, err := w.ask(t, ctx, plan)
				if took := time.Since(start); (err == nil) != tt.ok || took.Truncate(time.Second) != tt.after || !reflect.DeepEqual(w.calls(), []int{1, 0}) {
					t.Errorf("got %v after %v and calls %v, want the end after %v", err, took, w.calls(), tt.after)
				}
				if l := w.pool.Snapshot("a/m"); (l.Attempts == 1) != (name != "deadline") || (l.Availability == 1) != (name != "it fails") {
					t.Errorf("the arm is known as %+v", l)
				}
			})
		})
	}
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{}, []step{{hang: true}}, []step{{hang: true}})
		plan := w.plan()
		plan.Timeout = 90 * time.Second
		start := time.Now()
		_, _, err := w.ask(t, t.Context(), plan)
		var f *Failure
		if !errors.As(err, &f) || f.Wire().Code != openai.Timeout || time.Since(start) != 90*time.Second || len(f.Attempts) != 2 {
			t.Errorf("got %v after %v, want a timeout after 90s and two attempts", err, time.Since(start))
		}
		whole := newWorld(t, Options{}, []step{{hang: true}}, []step{good})
		plan = whole.plan()
		plan.Stream = false
		start = time.Now()
		if _, _, err := whole.ask(t, t.Context(), plan); err != nil || time.Since(start).Round(time.Second) != 5*time.Minute {
			t.Errorf("a whole answer that never comes: got %v after %v, want the other arm after 5m", err, time.Since(start))
		}
	})
}

func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{}, []step{fails(Server), fails(Server), fails(Server), fails(Server), fails(Server), fails(Server), good}, []step{good})
		for w.pool.Snapshot("a/m").State != Ejected {
			if _, _, err := w.ask(t, t.Context(), w.plan()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // degraded after a few
		}
		for range 10 {
			if _, _, err := w.ask(t, t.Context(), w.plan()); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.v[0].calls; got != ejectAfter {
			t.Fatalf("calls: got %v, want the bad arm left alone after 5", got)
		}
		time.Sleep(ejectFor)
		for range 3 { // one more failure on probation, then ejected anew
			if _, _, err := w.ask(t, t.Context(), w.plan()); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.v[0].calls; got != 6 {
			t.Errorf("on probation: got %d calls, want 6", got)
		}
		time.Sleep(ejectFor)
		if a, _, err := w.ask(t, t.Context(), w.plan()); err != nil || a.Served() != w.arms[0] || w.pool.Snapshot("a/m").Ejected {
			t.Errorf("after its recovery: got %v, want the arm back in service", err)
		}
		alone := newWorld(t, Options{}, []step{fails(Auth)})
		for range 8 {
			if _, _, err := alone.ask(t, t.Context(), alone.plan()); err == nil {
				t.Fatal("answered, want an error")
			}
		}
		if alone.v[0].calls != 8 {
			t.Errorf("an arm that is alone: got %d calls, want 8: it is never removed", alone.v[0].calls)
		}
	})
}

// TestBadRequestsBlameNobody: a client cannot open a breaker (pain 22).
func TestBadRequestsBlameNobody(t *testing.T) {
	for _, class := range []Class{BadRequest, Unsayable} {
		w := newWorld(t, Options{}, []step{fails(class)})
		for range 20 {
			_, _, err := w.ask(t, t.Context(), w.plan())
			var f *Failure
			if !errors.As(err, &f) || f.Wire().Status != 400 {
				t.Fatalf("%s: got %v, want the vendor's 400", class, err)
			}
		}
		if l := w.pool.Snapshot("a/m"); l.Ejected || l.Availability != 1 {
			t.Errorf("%s: got %+v, want a healthy arm", class, l)
		}
	}
}

func TestOnAttempt(t *testing.T) {
	stop := errors.New("no more money")
	w := newWorld(t, Options{}, []step{fails(BadAnswer)}, []step{good})
	plan := w.plan()
	plan.OnAttempt = func(arm *catalog.Arm, failed []Attempt) error {
		if len(failed) == 1 && failed[0].Billed && arm.ID == "b/m" {
			return stop
		}
		return nil
	}
	if _, _, err := w.ask(t, t.Context(), plan); !errors.Is(err, stop) || w.v[1].calls != 0 {
		t.Errorf("got %v and %d calls, want the hook's error and no second call", err, w.v[1].calls)
	}
}

func TestWire(t *testing.T) {
	limited := func(d time.Duration) Attempt {
		return Attempt{Arm: "a/m", Err: &Error{Class: RateLimited, RetryAfter: d}}
	}
	tests := []struct {
		f      Failure
		status int
		code   openai.Code
	}{
		{Failure{}, 503, openai.NoHealthyUpstream},
		{Failure{Attempts: []Attempt{limited(9 * time.Second), limited(4 * time.Second)}}, 429, openai.UpstreamRateLimited},
		{Failure{Attempts: []Attempt{{Err: &Error{Class: BadRequest, Status: 422, Code: "odd", Message: "m"}}}}, 422, "odd"},
		{Failure{Attempts: []Attempt{{Err: &Error{Class: ContextLength, Status: 413}}}}, 400, openai.ContextLengthExceeded},
		{Failure{Attempts: []Attempt{{Err: &Error{Class: Unsayable, Status: 400}}}}, 400, openai.InvalidRequest},
		{Failure{Attempts: []Attempt{{Err: &Error{Class: Server, Status: 503}}, {Err: &Error{Class: Unsayable, Status: 400}}}}, 502, openai.UpstreamFailed},
		{Failure{Attempts: []Attempt{{Err: &Error{Class: ContentPolicy}}}}, 400, openai.ContentFilter},
		{Failure{Attempts: []Attempt{{Err: &Error{Class: Auth, Status: 401, Message: "key"}}}}, 502, openai.UpstreamFailed},
		{Failure{Cause: errDeadline}, 504, openai.Timeout},
	}
	for _, test := range tests {
		if e := test.f.Wire(); e.Status != test.status || e.Code != test.code {
			t.Errorf("%v: got %d %s, want %d %s", &test.f, e.Status, e.Code, test.status, test.code)
		}
	}
	if got := tests[1].f.Wire().RetryAfter; got != 4*time.Second {
		t.Errorf("retry after: got %v, want the shortest wait", got)
	}
	if e := ClassifyObject([]byte(`{"code":"content_policy_violation","message":"no"}`), nil); e.Class != ContentPolicy || e.Status != http.StatusBadRequest {
		t.Errorf("policy inside a stream: got %v", e)
	}
}

func TestConcurrent(t *testing.T) {
	w := newWorld(t, Options{}, []step{fails(Server)}, []step{{events: good.events}})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 20 {
				a, err := w.pool.Do(t.Context(), w.plan())
				if err != nil {
					t.Error(err)
					return
				}
				for err == nil {
					_, err = a.Next()
				}
				_ = a.Close()
				w.pool.Snapshot("a/m")
			}
		})
	}
	wg.Wait()
	if l := w.pool.Snapshot("b/m"); l.Attempts != 64*20 || l.Availability != 1 {
		t.Errorf("got %+v, want %d successes", l, 64*20)
	}
	if n := w.v[0].calls; n > 64+ejectAfter {
		t.Errorf("the dead arm was called %d times, want at most %d", n, 64+ejectAfter)
	}
}
