package upstream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

func slow(d time.Duration) step {
	return step{wait: d, events: []string{textChunk, finishChunk, "[DONE]"}}
}

// late fails after a wait.
func late(d time.Duration, c Class) step {
	return step{wait: d, events: []string{fmt.Sprintf(`{"error":{"message":"no","code":%d}}`, map[Class]int{Server: 502, BadRequest: 400}[c])}}
}

// hedged is a plan that allows a hedge after a second, and counts how often leave was asked.
func (w *world) hedged(asked *int, leave bool) *Plan {
	plan := w.plan()
	plan.Hedge = &Hedge{After: time.Second, Leave: func(first, second *catalog.Arm) bool {
		*asked++
		return leave
	}}
	return plan
}

// told is what became of attempts, in short: the vendor, + where it was the hedge, and how it ended.
func told(attempts []Attempt) string {
	var s []string
	for _, a := range attempts {
		name := a.Arm.Provider()
		if a.Hedge {
			name += "+"
		}
		if name += " " + a.Outcome(); a.Billed {
			name += " billed"
		}
		s = append(s, name)
	}
	return strings.Join(s, ", ")
}

// TestHedge: which of two calls answers, what the other is told to be, and when no second is made.
func TestHedge(t *testing.T) {
	bad := []step{fails(Server)}
	for _, test := range []struct {
		name  string
		steps [][]step
		plan  func(*Plan)
		// took is when the first content came, calls what the vendors saw.
		took  time.Duration
		calls []int
		told  string
	}{
		{"quick", [][]step{{slow(900 * time.Millisecond)}, {good}}, nil, 900 * time.Millisecond, []int{1, 0}, "a ok"},
		{"the hedge is quicker", [][]step{{slow(9 * time.Second)}, {slow(2 * time.Second)}}, nil, 3 * time.Second, []int{1, 1}, "a cancelled billed, b+ ok"},
		{"the first is quicker", [][]step{{slow(3 * time.Second)}, {slow(9 * time.Second)}}, nil, 3 * time.Second, []int{1, 1}, "b+ cancelled billed, a ok"},
		{"one hedge and no more", [][]step{{slow(9 * time.Second)}, {slow(9 * time.Second)}, {good}}, nil, 9 * time.Second, []int{1, 1, 0}, "b+ cancelled billed, a ok"},
		{"it fails before", [][]step{bad, {slow(3 * time.Second)}, {good}}, nil, 3 * time.Second, []int{1, 1, 0}, "a failed, b ok"},
		{"it fails beside", [][]step{{late(2*time.Second, Server)}, {slow(2 * time.Second)}}, nil, 3 * time.Second, []int{1, 1}, "a failed, b+ ok"},
		{"the hedge fails", [][]step{{slow(3 * time.Second)}, bad, {good}}, nil, 3 * time.Second, []int{1, 1, 0}, "b+ failed, a ok"},
		{"both fail", [][]step{{late(2*time.Second, Server)}, {late(3*time.Second, Server)}, {good}}, nil, 4*time.Second + 2*time.Millisecond, []int{1, 1, 1}, "a failed, b+ failed, c ok"},
		{"its fault is the client's", [][]step{{late(2*time.Second, BadRequest)}, {slow(5 * time.Second)}}, nil, -1, []int{1, 1}, "b+ cancelled billed, a failed"},
		{"both hang", [][]step{{{hang: true}}, {{hang: true}}, {good}}, nil, 61*time.Second + 2*time.Millisecond, []int{1, 1, 1}, "a failed billed, b+ failed billed, c ok"},
		{"alone", [][]step{{slow(3 * time.Second)}}, nil, 3 * time.Second, []int{1}, "a ok"},
		{"fallback: false", [][]step{{slow(3 * time.Second)}, {good}}, func(p *Plan) { p.Single = true }, 3 * time.Second, []int{1, 0}, "a ok"},
		{"one attempt", [][]step{{slow(3 * time.Second)}, {good}}, func(p *Plan) { p.MaxAttempts = 1 }, 3 * time.Second, []int{1, 0}, "a ok"},
		{"not asked for", [][]step{{slow(3 * time.Second)}, {good}}, func(p *Plan) { p.Hedge = nil }, 3 * time.Second, []int{1, 0}, "a ok"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, asked := newWorld(t, Options{}, test.steps...), 0
				plan := w.hedged(&asked, true)
				if test.plan != nil {
					test.plan(plan)
				}
				start := time.Now()
				a, err := w.pool.Do(t.Context(), plan)
				took := time.Since(start)
				var attempts []Attempt
				if err == nil {
					_ = a.Close()
					attempts = a.Attempts()
				} else if f := (*Failure)(nil); test.took < 0 && errors.As(err, &f) && f.Last().Class == BadRequest {
					attempts, took = f.Attempts, test.took
				} else {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := told(attempts); took != test.took || got != test.told || !reflect.DeepEqual(w.calls(), test.calls) {
					t.Errorf("after %v and calls %v: %s; want %v, %v: %s", took, w.calls(), got, test.took, test.calls, test.told)
				}
				for i, v := range w.v {
					if v.open != 0 {
						t.Errorf("vendor %d has %d open streams", i, v.open)
					}
				}
			})
		})
	}
}

// TestHedgeKeepsToItsLeave: what refuses a hedge, and who is not worth one.
func TestHedgeKeepsToItsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, asked := newWorld(t, Options{}, []step{slow(3 * time.Second)}, []step{good}), 0
		if _, _, err := w.ask(t, t.Context(), w.hedged(&asked, false)); err != nil || asked != 1 || w.v[1].calls != 0 {
			t.Errorf("without leave: %v, asked %d times, %d calls", err, asked, w.v[1].calls)
		}
		for range ejectAfter {
			w.pool.live("b/m").failed(&Error{Class: Server}, time.Now())
		}
		if _, _, err := w.ask(t, t.Context(), w.hedged(&asked, true)); err != nil || asked != 1 || w.v[1].calls != 0 {
			t.Errorf("at an arm that is ejected: %v, asked %d times, %d calls", err, asked, w.v[1].calls)
		}
	})
}

// TestHedgeByHabit: without a delay of its own a hedge waits for what is unusual of the arm, and for as long as nobody knows
// that, for ever. Cutting slow answers short does not make the arm look fast.
func TestHedgeByHabit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps := make([]step, 0, 4000)
		for i := range cap(steps) {
			d := time.Duration(100+i%19) * time.Millisecond
			if i%20 == 19 {
				d = 20 * time.Second // one in twenty
			}
			steps = append(steps, slow(d))
		}
		w, asked := newWorld(t, Options{}, steps, []step{good}), 0
		for i := range steps {
			plan := w.hedged(&asked, true)
			plan.Hedge.After = 0
			a, err := w.pool.Do(t.Context(), plan)
			if err != nil {
				t.Fatal(err)
			}
			_ = a.Close()
			if i == paceMin-2 && asked > 0 {
				t.Fatalf("hedged after %d answers, when nothing is usual yet", i)
			}
			w.pool.live("a/m").until.Store(0) // it is slow at times, and stays in its place here
		}
		if share := float64(asked) / float64(len(steps)); share < 0.03 || share > 0.12 {
			t.Errorf("hedged %.3f of requests at p95 where one in twenty is slow", share)
		}
	})
}

func TestHedgeAndTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, asked := newWorld(t, Options{}, []step{{hang: true}}, []step{{hang: true}}), 0
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		start := time.Now()
		_, _, err := w.ask(t, ctx, w.hedged(&asked, true))
		var f *Failure
		if !errors.As(err, &f) || !errors.Is(err, context.Canceled) || time.Since(start) != 2*time.Second || len(f.Attempts) != 2 || !f.Attempts[0].Cancelled || !f.Attempts[0].Billed {
			t.Errorf("a client that leaves two calls: %v after %v, %s", err, time.Since(start), told(f.Attempts))
		}
		for _, id := range []catalog.ArmID{"a/m", "b/m"} {
			if l := w.pool.Snapshot(id); l.Availability != 1 {
				t.Errorf("%s was blamed for the client: %+v", id, l)
			}
		}
	})
}

// panicking is a vendor whose code has a bug.
type panicking struct{}

func (panicking) Stream(context.Context, *Request) (Stream, error) { panic("a bug") }

// TestHedgePanics: a panic beside a request is that request's, and the other call ends.
func TestHedgePanics(t *testing.T) {
	for _, first := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w, asked := newWorld(t, Options{}, []step{{hang: true}}, []step{{hang: true}}), 0
			w.pool.o.Providers[map[bool]string{true: "a", false: "b"}[first]] = panicking{}
			plan := w.hedged(&asked, true)
			defer func() {
				synctest.Wait()
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "a bug") || w.v[0].open+w.v[1].open != 0 {
					t.Errorf("got %v with %d streams open, want the panic of the vendor's code and none", p, w.v[0].open+w.v[1].open)
				}
			}()
			_, _ = w.pool.Do(t.Context(), plan)
		})
	}
}
