package serving_test

import (
	"context"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// paced is a vendor that takes its time before it begins, and knows who else is calling.
type paced struct {
	vendor
	mu sync.Mutex
	// wait is the time to the first event of a call, and fail its error.
	wait func(arm catalog.ArmID) time.Duration
	fail func(arm catalog.ArmID) error
	// begun is told of every call, and what it gives of its end.
	begun func(ctx context.Context, arm catalog.ArmID) (ended func())
}

func (p *paced) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	arm, ended := r.Arm.ID, func() {}
	if p.begun != nil {
		ended = p.begun(ctx, arm)
	}
	s, err := p.vendor.Stream(ctx, r)
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(p.wait(arm)):
		if p.fail != nil && err == nil {
			err = p.fail(arm)
		}
	}
	if err != nil {
		ended()
		return nil, err
	}
	return &pacedStream{s, sync.OnceFunc(ended)}, nil
}

type pacedStream struct {
	upstream.Stream
	over func()
}

// Next ends the call with its last event: the books are closed before the stream is.
func (s *pacedStream) Next() (upstream.Event, error) {
	e, err := s.Stream.Next()
	if err != nil {
		s.over()
	}
	return e, err
}

func (s *pacedStream) Close() error {
	s.over()
	return s.Stream.Close()
}

// hedging is a world whose vendors are paced and whose key may hedge.
func hedging(t testing.TB, p *paced, h *governance.HedgeConfig, budgetUSD *float64) *world {
	s := setup{options: serving.Options{MetricsOpen: true}, providers: map[string]upstream.Provider{}, auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Hedge: h, Budget: governance.BudgetConfig{TotalUSD: budgetUSD}}}}}
	for _, a := range threeArms() {
		s.providers[a.ID.Provider()] = p
	}
	return newWorld(t, s)
}

const wantsHedge = `,"max_tokens":100,"tradewind":{"hedge":true}`

// TestHedgeShows: what a client, the decision and the metrics are told of a hedge, and that the choice is none of its.
func TestHedgeShows(t *testing.T) {
	for _, stream := range []string{"", `,"stream":true`} {
		synctest.Test(t, func(t *testing.T) {
			delays := map[catalog.ArmID]time.Duration{}
			w := hedging(t, &paced{wait: func(a catalog.ArmID) time.Duration { return delays[a] }}, &governance.HedgeConfig{AfterMS: 500, MaxShare: new(1.0)}, nil)
			plain := w.chat(ask("auto", stream+`,"max_tokens":100`), bearer(keyA)...).wantOK()
			before, _ := w.outcome(plain)
			delays["one/cheap"] = 10 * time.Second
			start := time.Now()
			a := w.chat(ask("auto", stream+wantsHedge), bearer(keyA)...).wantOK()
			if took := time.Since(start); took != 500*time.Millisecond {
				t.Errorf("took %v, want the half second before the hedge", took)
			}
			d, o := w.outcome(a)
			if d.Action != before.Action || d.Propensity != before.Propensity || !reflect.DeepEqual(d.Propensities, before.Propensities) || d.Reason != before.Reason {
				t.Errorf("a hedge changed the choice: %+v, want %+v", d, before)
			}
			if o.Served != "two/middle" || o.Reason != datasets.Hedged || len(o.Attempts) != 2 || o.Attempts[0].Outcome != "cancelled" || o.Attempts[0].TotalMS != 500 ||
				o.Attempts[0].Cost == 0 || o.CostStatus != datasets.CostEstimated || o.Cost != o.Attempts[0].Cost+o.Attempts[1].Cost {
				t.Errorf("outcome %+v", o)
			}
			for name, want := range map[string]string{"X-Tradewind-Model": "two/middle", "X-Tradewind-Attempts": "2", "X-Tradewind-Fallback-From": "", "X-Tradewind-Reason": "hedged"} {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s %q, want %q", name, got, want)
				}
			}
			text := w.do("GET", "/v1/decisions/"+string(a.round()), "", bearer(keyA)...).wantOK()
			if s, _ := text.get("sentence").(string); !strings.Contains(s, "it was slow to begin, and two/middle answered first") {
				t.Errorf("the sentence: %s", s)
			}
			synctest.Wait() // the call that was outrun has ended
			delays["two/middle"], delays["one/cheap"] = 10*time.Second, time.Second
			if a = w.chat(ask("auto", stream+wantsHedge), bearer(keyA)...).wantOK(); a.header.Get("X-Tradewind-Model") != "one/cheap" || a.header.Get("X-Tradewind-Reason") != string(before.Reason) {
				t.Errorf("the first was quicker: %v", a.header)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
			defer cancel()
			_ = w.doReader(ctx, "POST", "/v1/chat/completions", strings.NewReader(ask("auto", stream+wantsHedge)), bearer(keyA)...)
			metrics := w.do("GET", "/metrics", "").wantOK()
			for _, want := range []string{
				`tradewind_hedges_total{provider="two",result="won"} 1`, `tradewind_hedges_total{provider="two",result="lost"} 1`,
				`tradewind_hedges_total{provider="two",result="cancelled"} 1`, `tradewind_answers_total{how="first_try"} 3`,
			} {
				if !strings.Contains(metrics.body, want) {
					t.Errorf("the metrics lack %s", want)
				}
			}
		})
	}
}

// TestHedgeNeedsLeave: a hedge that the key may not have is refused, and one that its limits do not carry is not made.
func TestHedgeNeedsLeave(t *testing.T) {
	slow := func() *paced { return &paced{wait: func(catalog.ArmID) time.Duration { return 2 * time.Second }} }
	w := hedging(t, slow(), nil, nil)
	w.chat(ask("auto", wantsHedge), bearer(keyA)...).wantError(400, openai.UnsupportedRoutingField)
	w.chat(ask("auto", ""), append(bearer(keyA), "X-Tradewind-Hedge", "true")...).wantError(400, openai.UnsupportedRoutingField)
	if a := newWorld(t, setup{}).chat(ask("auto", wantsHedge)); a.status != 400 || a.get("error.param") != "tradewind.hedge" {
		t.Errorf("without keys: %d %s", a.status, a.body)
	}
	one, two := boundOf(t, "one/cheap"), boundOf(t, "two/middle")
	enough := (one + two).Dollars()
	short := (one + two - 1).Dollars()
	for name, test := range map[string]struct {
		config governance.HedgeConfig
		budget *float64
		more   string
		calls  int
	}{
		"allowed":             {governance.HedgeConfig{}, nil, wantsHedge, 2},
		"not asked for":       {governance.HedgeConfig{}, nil, `,"max_tokens":100`, 1},
		"hedge: false":        {governance.HedgeConfig{}, nil, `,"max_tokens":100,"tradewind":{"hedge":false}`, 1},
		"no fallback":         {governance.HedgeConfig{}, nil, `,"max_tokens":100,"tradewind":{"hedge":true,"fallback":false}`, 1},
		"share not yet there": {governance.HedgeConfig{MaxShare: new(0.5)}, nil, wantsHedge, 1},
		"its cap":             {governance.HedgeConfig{MaxCostUSD: (two - 1).Dollars()}, nil, wantsHedge, 1},
		"within its cap":      {governance.HedgeConfig{MaxCostUSD: two.Dollars()}, nil, wantsHedge, 2},
		"the request's cap":   {governance.HedgeConfig{}, nil, `,"max_tokens":100,"tradewind":{"hedge":true,"max_cost_usd":` + (one + two - 1).String() + `}`, 1},
		"a budget for one":    {governance.HedgeConfig{}, &short, wantsHedge, 1},
		"a budget for both":   {governance.HedgeConfig{}, &enough, wantsHedge, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if test.config.AfterMS = 500; test.config.MaxShare == nil {
					test.config.MaxShare = new(1.0)
				}
				p := slow()
				w := hedging(t, p, &test.config, test.budget)
				w.chat(ask("auto", test.more), bearer(keyA)...).wantOK()
				if got := p.called(); len(got) != test.calls || len(got) > 1 && got[1] != "two/middle" {
					t.Errorf("called %v, want %d", got, test.calls)
				}
			})
		})
	}
}

// TestHedgeThenAnother: both calls fail, the first so that it may have been billed. The third has money of its own.
func TestHedgeThenAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &paced{
			wait: func(arm catalog.ArmID) time.Duration {
				return map[catalog.ArmID]time.Duration{"one/cheap": 2 * time.Second, "two/middle": 3 * time.Second}[arm]
			},
			fail: func(arm catalog.ArmID) error {
				return map[catalog.ArmID]error{"one/cheap": fails(upstream.TimedOut, 0), "two/middle": fails(upstream.Server, 500)}[arm]
			},
		}
		w := hedging(t, p, &governance.HedgeConfig{AfterMS: 500, MaxShare: new(1.0)}, nil)
		d, o := w.outcome(w.chat(ask("auto", wantsHedge), bearer(keyA)...).wantOK())
		if least := boundOf(t, "one/cheap") + boundOf(t, "three/dear"); d.Hold < least || o.Served != "three/dear" || o.Reason != datasets.FellBack || len(o.Attempts) != 3 {
			t.Errorf("held %s, want at least %s; %+v", d.Hold, least, o)
		}
	})
}

// chance is a source of chance for several goroutines.
type chance struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (c *chance) draw() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.Float64()
}

// unreliable is a vendor that is slow three times in ten, and fails one time in seven. watch checks at each call that what is held
// covers all calls that are under way.
func unreliable(c *chance) *paced {
	return &paced{
		wait: func(catalog.ArmID) time.Duration {
			if c.draw() < 0.3 {
				return time.Duration(1+9*c.draw()) * time.Second
			}
			return time.Duration(1+200*c.draw()) * time.Millisecond
		},
		fail: func(catalog.ArmID) error {
			if x := c.draw(); x < 0.03 {
				return fails(upstream.Server, 500)
			} else if x < 0.15 {
				return fails(upstream.TimedOut, 0)
			}
			return nil
		},
	}
}

type call struct {
	ctx context.Context
	arm catalog.ArmID
}

func (p *paced) watch(t *testing.T, held func() catalog.Nanodollars) {
	bounds, running := map[catalog.ArmID]catalog.Nanodollars{}, map[*call]bool{}
	for _, a := range threeArms() {
		bounds[a.ID] = boundOf(t, string(a.ID))
	}
	p.begun = func(ctx context.Context, arm catalog.ArmID) func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		c := &call{ctx, arm}
		running[c] = true
		h := held()
		var most catalog.Nanodollars
		for c := range running {
			if c.ctx.Err() == nil { // one that was cancelled is over, whether its goroutine has run since or not
				most += bounds[c.arm]
			}
		}
		if h < most {
			t.Errorf("%s are held while calls for %s are under way", h, most)
		}
		return func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(running, c)
		}
	}
}

// TestHedgeMoney: clients with hedges at vendors that are slow, fail and hang, under a budget that runs out. At every call
// what is held covers all calls under way, hedges keep to their share, and the ledger is the log (world.audit).
func TestHedgeMoney(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chance{rng: rand.New(rand.NewPCG(7, 7))}
		p, usd := unreliable(c), 0.15
		w := hedging(t, p, &governance.HedgeConfig{AfterMS: 300, MaxShare: new(0.08)}, &usd)
		p.watch(t, func() catalog.Nanodollars {
			id := ledger.Account("key", governance.KeyID(governance.Digest(keyA)), ledger.Total)
			return must(w.books.Balance(context.Background(), id))(t).Held
		})
		var all sync.WaitGroup
		const clients, each = 16, 60
		for range clients {
			all.Go(func() {
				for range each {
					more := wantsHedge
					if c.draw() < 0.5 {
						more += `,"stream":true`
					}
					ctx, cancel := context.WithCancel(t.Context())
					if c.draw() < 0.1 {
						time.AfterFunc(time.Duration(500*c.draw())*time.Millisecond, cancel)
					}
					_ = w.doReader(ctx, "POST", "/v1/chat/completions", strings.NewReader(ask("auto", more)), bearer(keyA)...)
					cancel()
				}
			})
		}
		all.Wait()
		synctest.Wait()
		hedges, won := 0, 0
		for _, r := range w.rounds() {
			if len(r.Outcome.Attempts) > 1 && slices.ContainsFunc(r.Outcome.Attempts, func(a datasets.Attempt) bool { return a.Outcome == "cancelled" }) {
				hedges++
			}
			if r.Outcome.Reason == datasets.Hedged {
				won++
			}
			if r.Outcome.Cost > r.Decision.Hold {
				t.Errorf("round %s cost %s and held %s", r.Decision.RoundID, r.Outcome.Cost, r.Decision.Hold)
			}
		}
		if limit := clients * each * 8 / 100; hedges > limit || won < limit/4 {
			t.Errorf("%d hedges of which %d answered, want at most %d of %d, and some", hedges, won, limit, clients*each)
		}
	})
}
