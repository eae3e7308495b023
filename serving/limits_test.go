package serving_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// twoProviders are one model at two of them, and another at one. Where nothing is said of the name m, one/m serves.
func twoProviders() []catalog.Arm {
	arm := func(id catalog.ArmID, in catalog.Picodollars) catalog.Arm {
		return catalog.Arm{ID: id, Tier: catalog.TierLarge, Prices: catalog.Flat(in, 2*in)}
	}
	return []catalog.Arm{arm("one/m", 1_000_000), arm("two/m", 2_000_000), arm("two/n", 3_000_000)}
}

// limits gives arms limits of their models.
func limits(of map[catalog.ArmID]upstream.Limit) upstream.Options {
	o := upstream.Options{Limits: map[catalog.ArmID][]upstream.Limit{}}
	for arm, l := range of {
		l.Name = string(arm)
		o.Limits[arm] = []upstream.Limit{l}
	}
	return o
}

// served counts who was called since it was last asked.
func (w *world) served() map[catalog.ArmID]int {
	n := map[catalog.ArmID]int{}
	for _, arm := range w.vendor.called() {
		n[arm]++
	}
	w.vendor.play(nil)
	return n
}

// TestLimitOfAnArm: one of two providers may be sent ten requests a minute. It gets these and the other gets the rest, and no
// request fails, whether they come at once or one by one; the log has what could be drawn.
func TestLimitOfAnArm(t *testing.T) { synctest.Test(t, limitOfAnArm) }

func limitOfAnArm(t *testing.T) {
	for _, model := range []string{"m", "auto"} {
		w := newWorld(t, setup{arms: twoProviders(), pool: limits(map[catalog.ArmID]upstream.Limit{"one/m": {Requests: 10}}), options: serving.Options{Settings: serving.Settings{Epsilon: 0.1}}})
		for range 3 {
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() { w.chat(ask(model, "")).wantOK() })
			}
			all.Wait()
			if n := w.served(); n["one/m"] != 10 || n["one/m"]+n["two/m"]+n["two/n"] != 100 {
				t.Errorf("%s, at once: %v", model, n)
			}
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Minute)
		for range 10 {
			w.chat(ask(model, "")).wantOK()
		}
		w.served()
		for range 100 { // the minute after a full one
			time.Sleep(600 * time.Millisecond)
			a := w.chat(ask(model, "")).wantOK()
			d, o := w.outcome(a)
			sum := 0.0
			for i, c := range d.Case.Candidates {
				if sum += d.Propensities[i]; c.Filter != policy.Eligible && d.Propensities[i] != 0 {
					t.Errorf("%s (%s) is drawn with %v", c.Arm, c.Filter, d.Propensities[i])
				}
			}
			if first := d.Case.Candidates[0]; math.Abs(sum-1) > 1e-9 || o.Served != d.Action || (first.Filter == policy.RateLimited) == (o.Served == "one/m") {
				t.Errorf("%s of %s answered, drawn from %v with %q at the first", o.Served, d.Action, d.Propensities, first.Filter)
			}
		}
		if n := w.served(); n["one/m"] != 10 || n["two/m"]+n["two/n"] != 90 {
			t.Errorf("%s, one by one: %v", model, n)
		}
	}
}

// TestLimitsUsedUp: where nobody else may serve the request is refused with the shortest wait, and served after it; who is
// listed to stand in serves at once.
func TestLimitsUsedUp(t *testing.T) {
	for name, tt := range map[string]struct {
		body, retryAfter, then string
	}{
		"a named arm":                  {ask("one/m", ""), "6", "one/m"},
		"... that may not be replaced": {ask("one/m", `,"models":["n"],"tradewind":{"fallback":false}`), "6", "one/m"},
		"... with a stand-in":          {ask("one/m", `,"models":["n"]`), "", "two/n"},
		"... with one of two":          {ask("one/m", `,"models":["two/m","n"],"num_retries":1`), "", "two/n"},
		"... with one that is full":    {ask("one/m", `,"models":["two/m"]`), "3", "two/m"},
		"a model at two providers":     {ask("m", ""), "3", "two/m"},
		"... both, with a stand-in":    {ask("m", `,"models":["n"]`), "", "two/n"},
		"the router's choice of them":  {ask("auto", `,"models":["m"]`), "3", "two/m"},
		"all others ruled out":         {ask("auto", `,"tradewind":{"deny":["two/n"]}`), "3", "two/m"},
		"a stream":                     {ask("two/m", `,"stream":true`), "3", "two/m"},
		"a text":                       {`{"model":"one/m","prompt":"hi"}`, "6", "one/m"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup{arms: twoProviders(), pool: limits(map[catalog.ArmID]upstream.Limit{"one/m": {Requests: 10}, "two/m": {Requests: 20}})})
				for range 10 {
					w.chat(ask("one/m", "")).wantOK()
				}
				for range 20 {
					w.chat(ask("two/m", "")).wantOK()
				}
				path := "/v1/chat/completions"
				if strings.Contains(tt.body, `"prompt"`) {
					path = "/v1/completions"
				}
				w.served()
				a := w.do("POST", path, tt.body)
				if tt.retryAfter != "" {
					a.wantError(429, "upstream_rate_limited")
					if got := a.header.Get("Retry-After"); got != tt.retryAfter || len(w.served()) != 0 {
						t.Errorf("retry-after %q, want %q", got, tt.retryAfter)
					}
					time.Sleep(must(time.ParseDuration(tt.retryAfter + "s"))(t))
					a = w.do("POST", path, tt.body)
				}
				if got := a.wantOK().header.Get("X-Tradewind-Model"); got != tt.then {
					t.Errorf("%s answered, want %s", got, tt.then)
				}
				shown := w.do("GET", "/v1/decisions/"+string(a.round()), "").wantOK()
				if says := strings.Contains(shown.body, "it could not be asked at that moment, and two/n answered"); says != (tt.then == "two/n") {
					t.Errorf("the decision says %s", shown.body)
				}
			})
		})
	}
}

// TestTokensOfAnArm: a prompt counts by its estimate until the vendor has said what was used; a debt is waited out.
func TestTokensOfAnArm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{arms: twoProviders(), pool: limits(map[catalog.ArmID]upstream.Limit{"one/m": {Tokens: 600}})})
		said := func(usage string) func(int, *upstream.Request) (*script, error) {
			return func(int, *upstream.Request) (*script, error) {
				return &script{events: []string{whole("x", usage)}}, nil
			}
		}
		w.vendor.play(said(`{"prompt_tokens":400,"completion_tokens":800}`))
		w.chat(ask("one/m", "")).wantOK()
		a := w.chat(ask("one/m", ""))
		if a.wantError(429, "upstream_rate_limited"); a.header.Get("Retry-After") != "61" && a.header.Get("Retry-After") != "62" { // 600 owed, and the prompt
			t.Errorf("retry-after %s", a.header.Get("Retry-After"))
		}
		if got := w.chat(ask("m", "")).wantOK().header.Get("X-Tradewind-Model"); got != "two/m" {
			t.Errorf("%s answered, and one/m has no tokens left", got)
		}
		time.Sleep(62 * time.Second)
		w.chat(ask("one/m", "")).wantOK() // 1,200 more
		time.Sleep(3 * time.Minute)
		w.vendor.play(said(`{"prompt_tokens":100,"completion_tokens":80}`))
		for range 3 {
			w.chat(ask("m", "")).wantOK()
		}
		long := strings.Replace(ask("m", ""), "What is", strings.Repeat("What is ", 200), 1)
		for body, want := range map[string]string{long: "two/m", ask("m", ""): "one/m"} { // 60 are left
			var e serving.Explanation
			if unmarshal(t, w.do("POST", "/v1/route", body).wantOK().body, &e); string(e.Action) != want {
				t.Errorf("%s would answer %.100s, want %s", e.Action, body, want)
			}
		}
	})
}

// TestFailoverCounts: each attempt counts, also one that fails, which uses no tokens, and one that stands in for it; the limits of a provider are for all its models together.
func TestFailoverCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := limits(map[catalog.ArmID]upstream.Limit{"one/m": {Requests: 2, Tokens: 20}})
		for _, arm := range []catalog.ArmID{"two/m", "two/n"} {
			o.Limits[arm] = []upstream.Limit{{Name: "two", Requests: 4}}
		}
		w := newWorld(t, setup{arms: twoProviders(), pool: o})
		w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
			if r.Arm.ID == "one/m" {
				return nil, fails(upstream.Server, 503)
			}
			return &script{}, nil
		})
		first := ask("m", `,"provider":{"order":["one"]}`)
		for range 2 {
			if _, o := w.outcome(w.chat(first).wantOK()); len(o.Attempts) != 2 || o.Served != "two/m" || o.Reason != datasets.FellBack {
				t.Errorf("%+v", o)
			}
		}
		for range 2 {
			if _, o := w.outcome(w.chat(first).wantOK()); len(o.Attempts) != 1 || o.Served != "two/m" {
				t.Errorf("one/m has had two, and is tried: %+v", o.Attempts)
			}
		}
		a := w.chat(ask("auto", ""))
		if a.wantError(429, "upstream_rate_limited"); a.header.Get("Retry-After") != "15" {
			t.Errorf("retry-after %s, want that of four a minute", a.header.Get("Retry-After"))
		}
		w.chat(ask("two/n", "")).wantError(429, "upstream_rate_limited")
	})
}

// TestReloadKeepsTheCounts: what was sent counts under the limits of another configuration.
func TestReloadKeepsTheCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{arms: twoProviders()})
		s := w.settings(twoProviders(), governance.Options{})
		reload := func(rpm int) {
			o := limits(map[catalog.ArmID]upstream.Limit{"one/m": {Requests: rpm}})
			o.Providers = map[string]upstream.Provider{"one": w.vendor, "two": w.vendor}
			s.Pool = must(s.Pool.Renew(o))(t)
			if err := w.Reload(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		reload(10)
		for range 10 {
			w.chat(ask("one/m", "")).wantOK()
		}
		for _, tt := range []struct{ rpm, more int }{{10, 0}, {12, 2}, {6, 0}, {0, 20}} {
			reload(tt.rpm)
			served := 0
			for range 20 {
				if a := w.chat(ask("one/m", "")); a.status == 200 {
					served++
				}
			}
			if served != tt.more {
				t.Errorf("a limit of %d after 10 were sent lets %d more through, want %d", tt.rpm, served, tt.more)
			}
		}
	})
}

// TestPriority: the providers of a model are asked in the operator's order, the next where one fails or is full, unless the
// request has an order of its own. The router's choice among models stays its own.
func TestPriority(t *testing.T) {
	arms := manyProviders()
	for i, p := range []int{0, 2, 1, 3, 2, 1} { // one, two, three, four of m; two and three of n
		arms[i].Priority = p
	}
	down := func(broken ...catalog.ArmID) func(int, *upstream.Request) (*script, error) {
		return func(_ int, r *upstream.Request) (*script, error) {
			for _, arm := range broken {
				if arm == r.Arm.ID {
					return nil, fails(upstream.Server, 503)
				}
			}
			return &script{}, nil
		}
	}
	for _, tt := range []struct {
		model, more string
		down        []catalog.ArmID
		want        string
	}{
		{"m", "", nil, "three/m"},
		{"m", "", []catalog.ArmID{"three/m"}, "three/m two/m"},
		{"m", "", []catalog.ArmID{"three/m", "two/m"}, "three/m two/m one/m"},
		{"n", "", nil, "three/n"},
		{"m", `,"provider":{"order":["one"]}`, []catalog.ArmID{"one/m"}, "one/m three/m"},
		{"m", `,"provider":{"order":["one","two"]}`, []catalog.ArmID{"one/m", "two/m"}, "one/m two/m three/m"},
		{"m", `,"provider":{"ignore":["three"]}`, nil, "two/m"},
		{"m", `,"provider":{"sort":"price"}`, nil, "one/m"},
		{"m:floor", "", nil, "one/m"},
		{"one/m", "", nil, "one/m"},
		{"one/m", `,"models":["n"]`, []catalog.ArmID{"one/m"}, "one/m three/n"},
		{"auto", "", []catalog.ArmID{"three/m"}, "three/m two/m"},
		{"auto:cost", "", nil, "one/m"},
	} {
		w := newWorld(t, setup{arms: arms, unaudited: true})
		w.vendor.play(down(tt.down...))
		body := ask(tt.model, tt.more)
		a := w.chat(body).wantOK()
		tried := armList(w.vendor.called())
		if tried != tt.want {
			t.Errorf("%s: tried %s, want %s", body, tried, tt.want)
		}
		if w.vendor.play(nil); len(tt.down) == 0 {
			w.shownAlike(a, body, nil)
		}
	}
	o := limits(map[catalog.ArmID]upstream.Limit{"three/m": {Requests: 1}})
	w := newWorld(t, setup{arms: arms, pool: o})
	for _, want := range []string{"three/m", "two/m"} {
		if got := w.chat(ask("m", "")).wantOK().header.Get("X-Tradewind-Model"); got != want {
			t.Errorf("%s answers, want %s", got, want)
		}
	}
}

// TestWeights: the providers of a model get what their weights say, in conversation with nobody, unless the request says what it
// goes by or one fails; and the log holds the probabilities.
func TestWeights(t *testing.T) {
	arms := manyProviders()
	arms[0].Weight, arms[1].Weight = 1, 3 // one and two of m; three and four have none
	rng := rand.New(rand.NewPCG(7, 7))
	w := newWorld(t, setup{arms: arms, options: serving.Options{Uniform: rng.Float64, Settings: serving.Settings{Epsilon: .1}}})
	for _, tt := range []struct {
		model, more string
		one, two    float64
	}{{"m", "", .25, .75}, {"m", `,"provider":{"sort":"price"}`, 1, 0}, {"m", `,"provider":{"ignore":["two"]}`, 1, 0}} {
		got := map[catalog.ArmID]float64{}
		const n = 400
		for range n {
			d, _ := w.outcome(w.chat(ask(tt.model, tt.more)).wantOK())
			checkReplay(t, d)
			if got[d.Action]++; d.Explored {
				t.Fatalf("%s explores: %+v", tt.model, d)
			}
		}
		for arm, want := range map[catalog.ArmID]float64{"one/m": tt.one, "two/m": tt.two} {
			if share := got[arm] / n; math.Abs(share-want) > 4*math.Sqrt(want*(1-want)/n) {
				t.Errorf("%s%s: %s gets %v, want %v", tt.model, tt.more, arm, share, want)
			}
		}
	}
	a := w.chat(ask("m", `,"tradewind":{"explain":true}`)).wantOK()
	if !strings.Contains(a.body, "its weight among the providers of the model drew it") {
		t.Errorf("the decision does not say so: %s", a.body)
	}
}

func armList(arms []catalog.ArmID) string {
	var all []string
	for _, a := range arms {
		all = append(all, string(a))
	}
	return strings.Join(all, " ")
}
