package upstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// scaled is n at TRADEWIND_TEST_SCALE=1; the default scale is 0.01.
func scaled(t *testing.T, n int) int {
	t.Helper()
	scale := 0.01
	if s := os.Getenv("TRADEWIND_TEST_SCALE"); s != "" {
		var err error
		if scale, err = strconv.ParseFloat(s, 64); err != nil {
			t.Fatal(err)
		}
	}
	return max(int(float64(n)*scale), 1)
}

// load sends n requests from so many callers and returns the errors.
func (w *world) load(t *testing.T, n, callers int) (failures []error) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for c := range callers {
		wg.Go(func() {
			for i := c; i < n; i += callers {
				a, err := w.pool.Do(t.Context(), w.plan())
				for err == nil {
					_, err = a.Next()
				}
				if a != nil {
					_ = a.Close()
				}
				if a == nil {
					mu.Lock()
					failures = append(failures, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return failures
}

// TestOneHealthyArmIsEnough is P5 before the first byte: with all arms but one failing in every way there is, no request
// fails, and a dead arm is left alone.
func TestOneHealthyArmIsEnough(t *testing.T) {
	const callers = 256
	kinds := map[string]step{
		"garbage": {events: []string{"{garbage"}}, "empty": {}, "cut": {events: []string{roleChunk}, cut: true}, "stall": {hang: true},
		"error in the stream": {events: []string{roleChunk, errorChunk}},
	}
	for _, c := range []Class{Connect, Server, TimedOut, RateLimited, Auth, ModelGone} {
		kinds[string(c)] = fails(c)
	}
	for name, dead := range kinds {
		for _, k := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s of %d", name, k), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := max(scaled(t, 10_000), 4*callers)
					steps := [][]step{{dead}, {dead}, {dead}}[:k]
					steps[k-1] = []step{good}
					w := newWorld(t, Options{}, steps...)
					start := time.Now()
					if failures := w.load(t, n, callers); len(failures) > 0 {
						t.Fatalf("%d of %d requests failed, the first with %v", len(failures), n, failures[0])
					}
					probes := int(time.Since(start)/limitedMin) + 1
					for i := range k - 1 {
						if got := w.v[i].calls; got > callers+ejectAfter+probes*callers/10 {
							t.Errorf("dead arm %d was called %d times", i, got)
						}
					}
				})
			})
		}
	}
}

// TestNoRetryStorm is P6: everything fails for ten minutes at a thousand requests a second.
func TestNoRetryStorm(t *testing.T) {
	for name, bad := range map[string]step{"at once": fails(Server), "after a second": {wait: time.Second, cut: true}, "rate limits": fails(RateLimited)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Options{}, []step{bad}, []step{bad}, []step{bad})
				n := scaled(t, 600_000)
				var wg sync.WaitGroup
				for range n {
					wg.Go(func() {
						a, err := w.pool.Do(t.Context(), w.plan())
						var f *Failure
						if a != nil || !errors.As(err, &f) || len(f.Attempts) > 3 {
							t.Errorf("got %v, want a failure after 3 attempts at most", err)
						} else if e := f.Wire(); len(f.Attempts) == 0 && (e.Code != openai.NoHealthyUpstream || e.RetryAfter <= 0) {
							t.Errorf("without an attempt: got %+v, want 503 and when to come again", e)
						}
					})
					time.Sleep(time.Millisecond)
				}
				wg.Wait()
				calls := 0
				for _, c := range w.calls() {
					calls += c
				}
				// Before anybody can know, requests under way fail over for nothing: those of the first answer's time.
				unknowing := 2 * (int(bad.wait/time.Millisecond) + 3*ejectAfter)
				if most := n + n/5 + retriesAtFirst + unknowing; calls > most {
					t.Errorf("%d attempts for %d requests, want at most %d", calls, n, most)
				}
				t.Logf("%d attempts for %d requests", calls, n)
			})
		})
	}
}

// TestTrickle is P6 where requests are too few for an arm to count as failing: each fails at first and would be well again.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		w := newWorld(t, Options{}, []step{fails(Server), good})
		got := 0
		for range n {
			w.v[0].calls = 0
			w.load(t, 1, 1)
			got += w.v[0].calls
			time.Sleep(degradedFor)
		}
		if got > n+n/5+retriesAtFirst || got < n+n/5 {
			t.Errorf("%d attempts for %d requests, want a fifth more and %d", got, n, retriesAtFirst)
		}
	})
}

// TestRenewedPoolKeepsTheBudget: a new configuration brings no new retries.
func TestRenewedPoolKeepsTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{}, []step{fails(Server)})
		w.pool.retries.fifths.Store(0)
		var err error
		if w.pool, err = w.pool.Renew(w.pool.o); err != nil {
			t.Fatal(err)
		}
		if w.load(t, 1, 1); w.v[0].calls != 1 {
			t.Errorf("%d calls, want no retry", w.v[0].calls)
		}
	})
}

// TestProbes: of an arm that is alone and was ejected, just now or so long ago that it may be back, one request at a time
// finds out whether it is; the others learn at once when to come again (pains 19 and 20).
func TestProbes(t *testing.T) {
	for state, later := range map[State]time.Duration{Ejected: 0, HalfOpen: ejectFor} {
		synctest.Test(t, func(t *testing.T) {
			bad := fails(Server)
			w := newWorld(t, Options{}, []step{bad, bad, bad, bad, bad, bad, {wait: time.Second, cut: true}, {wait: time.Second, cut: true}, good})
			for w.pool.Snapshot("a/m").State != Ejected {
				w.load(t, 1, 1)
			}
			time.Sleep(later)
			if got := w.pool.Snapshot("a/m").State; got != state {
				t.Fatalf("state %v, want %v", got, state)
			}
			before := w.v[0].calls
			failures := w.load(t, 100, 100)
			if got := w.v[0].calls - before; got > 2 || len(failures) != 100 {
				t.Errorf("a hundred at once: %d calls and %d failures, want one call and perhaps its retry", got, len(failures))
			}
			unready := 0
			for _, err := range failures {
				var f *Failure
				if errors.As(err, &f) && len(f.Attempts) == 0 && f.Wire().Code == openai.NoHealthyUpstream {
					unready++
				}
			}
			if unready != 99 {
				t.Errorf("%d were told to come again, want 99", unready)
			}
			if failures := w.load(t, 1, 1); len(failures) > 0 || w.pool.Snapshot("a/m").State != Healthy {
				t.Errorf("the arm is back: got %v in state %v", failures, w.pool.Snapshot("a/m").State)
			}
		})
	}
}

// TestProbation: an arm that has only begun to answer since its ejection is not well yet.
func TestProbation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{}, []step{fails(Auth), {events: []string{roleChunk, textChunk}, hang: true}, good})
		w.load(t, 1, 1)
		time.Sleep(ejectFor)
		if w.load(t, 1, 1); w.v[0].calls != 2 || w.pool.Snapshot("a/m").State != Ejected {
			t.Errorf("after a probe that broke off: %v, want it ejected anew", w.pool.Snapshot("a/m").State)
		}
	})
}

// TestRightsGoBack: who may probe an arm, and then has no room or no retry left for it, leaves both to the next.
func TestRightsGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := map[catalog.ArmID][]Limit{"a/m": {{Name: "a", Requests: 2}}}
		w := newWorld(t, Options{Limits: limits}, []step{fails(Auth), fails(Auth), good}, []step{fails(Server)})
		alone, second := w.plan(), w.plan()
		alone.Candidates = w.arms[:1]
		second.Candidates = []*catalog.Arm{w.arms[1], w.arms[0]}
		try := func(plan *Plan) error {
			a, err := w.pool.Do(t.Context(), plan)
			if a != nil {
				_ = a.Close()
			}
			return err
		}
		_ = try(alone)
		w.pool.retries.fifths.Store(0)
		if _ = try(second); w.v[0].calls != 1 {
			t.Fatalf("%d calls, want none without a retry to spend", w.v[0].calls)
		}
		if _ = try(alone); w.v[0].calls != 2 {
			t.Fatal("after a request without a retry nobody may try the arm, or it has no room")
		}
		if _ = try(alone); w.v[0].calls != 2 {
			t.Fatalf("%d calls, want none without room", w.v[0].calls)
		}
		time.Sleep(time.Minute)
		if err := try(alone); err != nil {
			t.Errorf("after a request without room: %v, want that the arm is tried", err)
		}
	})
}

// TestRetryAfterIsKept: an arm that asks for patience stands behind the others for as long as it says, within bounds.
func TestRetryAfterIsKept(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{0: limitedMin, 20 * time.Second: 20 * time.Second, time.Hour: limitedMax} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Options{}, []step{{err: &Error{Class: RateLimited, Message: "no", RetryAfter: asked}}, good}, []step{good})
			start := time.Now()
			w.load(t, 1, 1)
			for w.pool.Snapshot("a/m").State == Limited {
				time.Sleep(100 * time.Millisecond)
			}
			if got := time.Since(start).Round(time.Second); got != want {
				t.Errorf("asked to wait %v it stood behind for %v, want %v", asked, got, want)
			}
		})
	}
}

// TestAtMostHalfIsDegraded: all arms of a pool become slow; what they share is not theirs.
func TestAtMostHalfIsDegraded(t *testing.T) {
	for k := 1; k <= 20; k++ {
		w := newWorld(t, Options{}, make([][]step, k)...)
		down := 0
		for _, arm := range w.arms {
			w.pool.degrade(w.pool.live(arm.ID), w.arms, false)
		}
		for _, arm := range w.arms {
			if w.pool.Snapshot(arm.ID).State == Degraded {
				down++
			}
		}
		if down != k/2 {
			t.Errorf("%d of %d arms are degraded, want half", down, k)
		}
	}
}

// TestNotify: who asked is told once when an arm falls behind, why and for how long, and once when it answers again.
func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []Change
		bad := fails(Server)
		w := newWorld(t, Options{Notify: func(c Change) { got = append(got, c) }}, []step{bad, bad, bad, bad, bad, bad, good})
		for w.v[0].calls < 6 {
			w.load(t, 1, 1)
			time.Sleep(ejectFor / 4)
		}
		if len(got) != 1 || got[0].State != Ejected || got[0].For <= 0 || got[0].For > ejectFor || got[0].Cause == nil || got[0].Cause.Class != Server {
			t.Fatalf("after six failures got %+v, want one ejection", got)
		}
		time.Sleep(ejectFor)
		w.load(t, 2, 1)
		if len(got) != 2 || got[1] != (Change{Arm: "a/m", State: Healthy}) {
			t.Errorf("after an answer got %+v, want that the arm is back", got[1:])
		}
	})
}

// TestProbeSurvivesAPanic: a panic in a request that probes an arm leaves the arm to be probed by the next.
func TestProbeSurvivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{}, []step{fails(Auth), fails(Auth), good})
		w.load(t, 1, 1)
		if got := w.pool.Snapshot("a/m").State; got != Ejected {
			t.Fatalf("state %v, want it ejected", got)
		}
		plan := w.plan()
		plan.OnAttempt = func(*catalog.Arm, []Attempt) error { panic("in a request") }
		func() {
			defer func() { _ = recover() }()
			_, _ = w.pool.Do(t.Context(), plan)
		}()
		var f *Failure
		if failures := w.load(t, 1, 1); len(failures) == 1 && errors.As(failures[0], &f) && len(f.Attempts) == 0 {
			t.Error("nobody may try the arm any more")
		}
	})
}

// TestNeverAllAway is P7: whatever fails, each request finds an arm to try, at most half of a pool is degraded, and a hard
// case has one request at a time.
func TestNeverAllAway(t *testing.T) {
	for seed := range scaled(t, 5000) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 7))
			k := 1 + rng.IntN(20)
			common, vendors := rng.Float64(), make([][]step, k)
			for i := range vendors {
				own := rng.Float64()
				for range 200 {
					st := step{wait: time.Duration(rng.ExpFloat64() * float64(100*time.Millisecond)), events: good.events}
					if rng.Float64() < common*own {
						st = fails([]Class{Server, TimedOut, RateLimited, Auth, ModelGone, Cut}[rng.IntN(6)])
					}
					vendors[i] = append(vendors[i], st)
				}
			}
			w := newWorld(t, Options{Seed: uint64(seed)}, vendors...)
			for range 200 {
				a, err := w.pool.Do(t.Context(), w.plan())
				var f *Failure
				if errors.As(err, &f) && len(f.Attempts) == 0 {
					t.Fatalf("seed %d: a request found no arm to try", seed)
				}
				for err == nil {
					_, err = a.Next()
				}
				if a != nil {
					_ = a.Close()
				}
				down := 0
				for _, arm := range w.arms {
					if w.pool.Snapshot(arm.ID).State == Degraded {
						down++
					}
				}
				if 2*down > k {
					t.Fatalf("seed %d: %d of %d arms are degraded", seed, down, k)
				}
				time.Sleep(time.Duration(rng.ExpFloat64() * float64(time.Second)))
			}
		})
	}
}

// changing is a vendor whose median wait and share of failures can be changed while it runs.
type changing struct {
	wait  atomic.Int64
	fails atomic.Int64 // in percent
	calls atomic.Int64
	mu    sync.Mutex
	rng   *rand.Rand
}

func (c *changing) Stream(ctx context.Context, r *Request) (Stream, error) {
	c.mu.Lock()
	spread, coin := math.Exp(0.6*c.rng.NormFloat64()), c.rng.Int64N(100)
	c.mu.Unlock()
	c.calls.Add(1)
	if coin < c.fails.Load() {
		return nil, &Error{Class: Server, Message: "no"}
	}
	st := step{wait: time.Duration(float64(c.wait.Load()) * spread / 4), events: good.events}
	return (&script{steps: []step{st}}).Stream(ctx, r)
}

// TestDegradation: an arm that turns slow or error-prone loses its place within 20 requests and regains it. One that only
// varies keeps it.
func TestDegradation(t *testing.T) {
	for name, turn := range map[string]func(*changing){
		"slow":   func(c *changing) { c.wait.Store(int64(10 * time.Second)) },
		"errors": func(c *changing) { c.fails.Store(60) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Options{}, []step{good}, []step{good}, []step{good})
				a := &changing{rng: rand.New(rand.NewPCG(3, 4))}
				a.wait.Store(int64(time.Second))
				w.pool.o.Providers["a"] = a
				away := 0
				for range 500 {
					w.load(t, 1, 1)
					if w.pool.Snapshot("a/m").Ejected {
						away++
					}
				}
				if away > 10 {
					t.Errorf("an arm that only varies was away %d times of 500", away)
				}
				for w.pool.Snapshot("a/m").Ejected {
					time.Sleep(time.Second)
				}
				turn(a)
				before := a.calls.Load()
				for i := 0; !w.pool.Snapshot("a/m").Ejected; i++ {
					if w.load(t, 1, 1); i > 20 {
						t.Fatal("it kept its place for more than 20 requests")
					}
				}
				calls := a.calls.Load()
				w.load(t, 50, 1)
				if got := a.calls.Load() - calls; got > 5 {
					t.Errorf("%d of 50 requests went to an arm behind others", got)
				}
				a.wait.Store(int64(time.Second))
				a.fails.Store(0)
				time.Sleep(2 * ejectFor)
				calls = a.calls.Load()
				w.load(t, 50, 1)
				if got := a.calls.Load() - calls; got < 45 {
					t.Errorf("%d of 50 requests went to it when it was well again (%d calls until it lost its place)", got, calls-before)
				}
			})
		})
	}
}
