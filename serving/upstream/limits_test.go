package upstream

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// limited are options under which the model of a may be sent so much, and a and b together so much.
func limited(own, both Limit) Options {
	own.Name, both.Name = "a", "both"
	return Options{Limits: map[catalog.ArmID][]Limit{"a/m": {own, both}, "b/m": {both}}}
}

// TestLimitsAreHard: an arm without room is passed over, also as the last, and the failure says when there will be some.
func TestLimitsAreHard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limited(Limit{Requests: 2}, Limit{Requests: 6}), []step{good}, []step{good})
		for i, want := range []catalog.ArmID{"a/m", "a/m", "b/m", "b/m", "b/m", "b/m"} {
			if a, _, err := w.ask(t, t.Context(), w.plan()); err != nil || a.Served().ID != want || len(a.Attempts()) != 1 {
				t.Fatalf("request %d: %v, want %s", i, err, want)
			}
		}
		wait := 0 * time.Second
		for _, retryAfter := range []time.Duration{10 * time.Second, 10 * time.Second} { // less what the answers took
			time.Sleep(wait)
			_, _, err := w.ask(t, t.Context(), w.plan())
			var f *Failure
			if !errors.As(err, &f) || !f.Limited || len(f.Attempts) != 0 || f.RetryAfter > retryAfter || f.RetryAfter < retryAfter-time.Second {
				t.Fatalf("%+v", err)
			}
			if e := f.Wire(); e.Code != openai.UpstreamRateLimited || e.Status != 429 || e.RetryAfter != f.RetryAfter {
				t.Errorf("%+v", e)
			}
			time.Sleep(f.RetryAfter)
			if a, _, err := w.ask(t, t.Context(), w.plan()); err != nil || a.Served().ID != "b/m" {
				t.Fatalf("after the wait: %v", err)
			}
		}
		if got := w.v[0].calls + w.v[1].calls; got != 8 {
			t.Errorf("%d calls, want 8", got)
		}
	})
}

// TestVendorsLimitAndOurs: where one vendor refuses for its limit and the other has no room under ours, the shortest wait is told.
func TestVendorsLimitAndOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuses := step{err: &Error{Class: RateLimited, Message: "no", RetryAfter: 20 * time.Second}}
		w := newWorld(t, Options{Limits: map[catalog.ArmID][]Limit{"b/m": {{Name: "b", Requests: 4}}}}, []step{refuses}, []step{good})
		only := w.plan()
		only.Candidates = w.arms[1:]
		for range 4 {
			_, _, _ = w.ask(t, t.Context(), only)
		}
		_, _, err := w.ask(t, t.Context(), w.plan())
		var f *Failure
		if !errors.As(err, &f) || f.Wire().Code != openai.UpstreamRateLimited || f.Wire().RetryAfter > 15*time.Second {
			t.Errorf("%+v", err)
		}
	})
}

// TestWhatIsCounted: an attempt that is refused before it is made is not counted, one that fails is, and its tokens are not.
func TestWhatIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limited(Limit{Requests: 100, Tokens: 600}, Limit{Requests: 100, Tokens: 6000}), []step{fails(BadRequest), good}, []step{good})
		plan := w.plan()
		plan.InputTokens = 500
		refused := errors.New("no money")
		plan.OnAttempt = func(*catalog.Arm, []Attempt) error { return refused }
		if _, _, err := w.ask(t, t.Context(), plan); err != refused {
			t.Fatal(err)
		}
		plan.OnAttempt = nil
		if _, _, err := w.ask(t, t.Context(), plan); err == nil || w.pool.Wait("a/m", 600) != 0 {
			t.Errorf("%v; a request that was wrong used tokens: %v", err, w.pool.Wait("a/m", 600))
		}
		a, _, err := w.ask(t, t.Context(), plan)
		if err != nil || w.pool.Wait("a/m", 200) == 0 {
			t.Fatalf("%v; 500 of 600 tokens were sent, and 200 fit", err)
		}
		if a.Used(450); w.pool.Wait("a/m", 140) != 0 || w.pool.Wait("a/m", 160) == 0 || w.pool.Wait("b/m", 5540) != 0 || w.pool.Wait("b/m", 5560) == 0 {
			t.Error("450 of 600, and of 6,000, were used, and 140 are not left, or 160")
		}
	})
}

// TestHedgeNeedsRoom: no second call is made where it has no room, and one that there is no leave for is not counted.
func TestHedgeNeedsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{Limits: map[catalog.ArmID][]Limit{"b/m": {{Name: "b", Requests: 1}}}}, []step{{wait: time.Second, events: good.events}}, []step{good})
		plan, leave := w.plan(), false
		plan.Hedge = &Hedge{After: 100 * time.Millisecond, Leave: func(_, _ *catalog.Arm) bool { return leave }}
		for _, tt := range []struct {
			leave bool
			want  catalog.ArmID
		}{{false, "a/m"}, {true, "b/m"}, {true, "a/m"}} {
			leave = tt.leave
			if a, _, err := w.ask(t, t.Context(), plan); err != nil || a.Served().ID != tt.want {
				t.Errorf("%v, want %s to answer with leave %v", err, tt.want, tt.leave)
			}
		}
	})
}

// TestLimitsAtOnce: however many ask at once, no limit is passed, and what one limit refuses is not taken of the other.
func TestLimitsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, limited(Limit{Requests: 50}, Limit{Requests: 40}), []step{good}, []step{good})
		var served [2]atomic.Int64
		var all sync.WaitGroup
		for i := range 400 {
			all.Go(func() {
				for range 2 {
					if taken, wait := w.pool.admit(w.arms[i%2].ID, 0); wait == 0 && len(taken) == 2-i%2 {
						served[i%2].Add(1)
					}
				}
			})
		}
		all.Wait()
		a, b := served[0].Load(), served[1].Load()
		for ; w.pool.Wait("b/m", 0) == 0; b++ { // what was taken back for a moment may have refused somebody
			w.pool.admit("b/m", 0)
		}
		left := int64(0)
		for ; w.pool.quota.Wait("a", Limit{Requests: 50}.rates(), 0) == 0; left++ {
			w.pool.quota.Admit("a", Limit{Requests: 50}.rates(), 0)
		}
		if a+b != 40 || a+left != 50 {
			t.Errorf("%d and %d attempts, and %d more at a; want 40 together, and 50 at a", a, b, left)
		}
	})
}

func TestLimitsAreValidated(t *testing.T) {
	for _, l := range []Limit{{Requests: 1}, {Name: "a", Requests: -1}, {Name: "a", Tokens: -1}} {
		o := Options{Limits: map[catalog.ArmID][]Limit{"a/m": {l}}}
		if o.Validate() == nil {
			t.Errorf("%+v is accepted", l)
		}
	}
}
