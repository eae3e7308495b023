package serving_test

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/anthropic"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/responses"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// manyProviders are one model at four providers of which different things are declared, one of them with a price step and one
// without a price, and another model at two of them. Where nothing is asked for, one/m serves.
func manyProviders() []catalog.Arm {
	arm := func(id catalog.ArmID, in, out catalog.Picodollars, quantization string, data catalog.DataPolicy) catalog.Arm {
		return catalog.Arm{ID: id, Tier: catalog.TierLarge, Prices: catalog.Flat(in, out), Quantization: quantization, Data: data}
	}
	stepped := arm("one/m", 1_000_000, 2_000_000, "fp8", catalog.NoCollection)
	dear := catalog.Flat(6_000_000, 7_000_000)
	stepped.Prices.Steps[0] = catalog.Step{Above: 4000, Rates: dear.Rates}
	fee := arm("three/m", 3_000_000, 9_000_000, "", 0)
	fee.Prices.Request = 1000
	unpriced := arm("four/m", 0, 0, "bf16", catalog.ZeroRetention)
	unpriced.Prices, unpriced.Tier = catalog.Prices{}, catalog.TierMedium
	return []catalog.Arm{
		stepped, arm("two/m", 2_000_000, 4_000_000, "bf16", catalog.ZeroRetention), fee, unpriced,
		arm("two/n", 4_000_000, 12_000_000, "bf16", catalog.ZeroRetention), arm("three/n", 5_000_000, 12_000_000, "fp8", 0),
	}
}

// filtersOf are the filters of a decision object, by arm.
func filtersOf(e *serving.Explanation) map[catalog.ArmID]policy.Filter {
	all := map[catalog.ArmID]policy.Filter{}
	for _, c := range e.Candidates {
		all[c.Model] = c.Filter
	}
	return all
}

// shownAlike checks that the logged case has the filters that are wanted and the probabilities of those that are left, and that
// a dry run, the decision and its replay say the same.
func (w *world) shownAlike(a *answer, body string, want map[catalog.ArmID]policy.Filter) {
	w.Helper()
	d, _ := w.outcome(a)
	sum, logged := 0.0, map[catalog.ArmID]policy.Filter{}
	for i, c := range d.Case.Candidates {
		logged[c.Arm] = c.Filter
		if sum += d.Propensities[i]; (d.Propensities[i] > 0) != (c.Filter == policy.Eligible) && d.Case.Explore {
			w.Errorf("%s: %s (%q) is drawn with %v", body, c.Arm, c.Filter, d.Propensities[i])
		}
	}
	if math.Abs(sum-1) > 1e-9 {
		w.Errorf("%s: the probabilities sum to %v", body, sum)
	}
	for arm, filter := range want {
		if logged[arm] != filter {
			w.Errorf("%s: %s is filtered by %q, want %q", body, arm, logged[arm], filter)
		}
	}
	made := "/v1/decisions/" + string(d.RoundID)
	for _, shown := range []*answer{w.do("POST", "/v1/route", body), w.do("GET", made, ""), w.do("POST", made+"/replay", "{}")} {
		var e serving.Explanation
		unmarshal(w, shown.wantOK().body, &e)
		got := map[catalog.ArmID]policy.Filter{}
		for _, c := range e.Candidates {
			got[c.Model] = c.Filter
		}
		if !maps.Equal(got, logged) || e.ID == d.RoundID && e.Action != d.Action {
			w.Errorf("%s: %v of %s is shown, and %v of %s logged", body, got, e.Action, logged, d.Action)
		}
	}
}

// TestProvidersAskedFor: what a request says of providers is seen in the dry run, in who answers, in the logged case and in a
// replay, each the same; and the probabilities are of those alone that may be drawn.
func TestProvidersAskedFor(t *testing.T) {
	type filters map[catalog.ArmID]policy.Filter
	w := newWorld(t, setup{arms: manyProviders(), options: serving.Options{Settings: serving.Settings{Epsilon: 0.2}}})
	long := strings.Repeat("word ", 900)
	for _, tt := range []struct {
		model, more string
		serves      catalog.ArmID // none where the request is refused
		filtered    filters       // of those that are asked about
	}{
		{"m", `"provider":{"data_collection":"deny","sort":"price"}`, "one/m", filters{"two/m": "guard", "three/m": "data_policy", "four/m": "unpriced"}},
		{"m", `"provider":{"zdr":true,"sort":"price"}`, "two/m", filters{"one/m": "data_policy", "three/m": "data_policy", "three/n": "data_policy"}},
		{"m", `"provider":{"quantizations":["fp8","int4"]}`, "one/m", filters{"two/m": "quantization", "three/m": "quantization", "four/m": "quantization"}},
		{"m", `"provider":{"max_price":{"prompt":1.5}}`, "one/m", filters{"two/m": "max_cost", "three/m": "max_cost", "four/m": "unpriced"}},
		{"m", `"provider":{"max_price":{"completion":"4"},"ignore":["one"]}`, "two/m", filters{"one/m": "denied", "two/m": "", "three/m": "max_cost"}},
		{"m", `"provider":{"max_price":{"request":0},"sort":"price"}`, "one/m", filters{"two/m": "guard", "three/m": "max_cost"}},
		{"m", `"provider":{"max_price":{"prompt":2}},"user":"` + long + `"`, "", filters{}},
		{"m", `"provider":{"zdr":true,"max_price":{"prompt":1}}`, "", filters{}},
		{"two/m", `"provider":{"quantizations":["fp8"]}`, "", filters{}},
		{"two/m", `"provider":{"order":["one"]}`, "two/m", filters{}},
		{"m", `"provider":{"order":["three","two"]}`, "three/m", filters{"one/m": "order", "two/m": "order", "three/n": "not_allowed"}},
		{"m", `"provider":{"order":["three","two"],"max_price":{"prompt":2}}`, "two/m", filters{"one/m": "order", "three/m": "max_cost"}},
		{"m", `"provider":{"order":["five","two"],"allow_fallbacks":false}`, "two/m", filters{"one/m": "denied", "three/m": "denied"}},
		{"m", `"provider":{"order":["five"],"allow_fallbacks":false}`, "", filters{}},
		{"two/m", `"provider":{"order":["three"],"allow_fallbacks":false}`, "", filters{}},
		{"m", `"provider":{"only":["five"]}`, "", filters{}},
		{"auto", `"tradewind":{"allow":["five/m"]}`, "", filters{}},
		{"m", `"providerOptions":{"gateway":{"order":["two"],"only":["one","two"]}}`, "two/m", filters{"one/m": "order", "three/m": "denied"}},
		{"m", `"providerOptions":{"gateway":{"sort":"cost"}}`, "one/m", filters{"two/m": "guard"}},
		// The router's choice among models stays its own: an order is one among the providers of each.
		{"auto", `"provider":{"order":["three","two"]},"tradewind":{"explore":false}`, "three/m",
			filters{"one/m": "order", "two/m": "order", "two/n": "order", "three/n": "guard"}},
		{"auto:quality", `"provider":{"order":["two"]}`, "two/m", filters{"one/m": "order", "three/m": "order", "three/n": "order"}},
	} {
		body := ask(tt.model, ","+tt.more)
		if strings.Contains(tt.more, long) { // the input may pass the step
			body = strings.Replace(ask(tt.model, `,"provider":{"max_price":{"prompt":2},"only":["one"]}`), "What is", long, 1)
		}
		a := w.chat(body)
		if tt.serves == "" {
			if unheard := strings.Contains(a.body, "nothing that this request may use is called"); unheard != strings.Contains(tt.more, "five") {
				t.Errorf("%s: %s", tt.more, a.body)
			}
			if a.wantError(400, "no_candidate"); w.do("POST", "/v1/route", body).status != 400 {
				t.Errorf("%s: a dry run finds somebody", tt.more)
			}
			continue
		}
		if got := a.wantOK().header.Get("X-Tradewind-Model"); got != string(tt.serves) {
			t.Errorf("%s %s: %s answers, want %s", tt.model, tt.more, got, tt.serves)
		}
		w.shownAlike(a, body, tt.filtered)
		if call := w.vendor.calls[len(w.vendor.calls)-1]; strings.Contains(call.body, "provider") {
			t.Errorf("the vendor saw %s", call.body)
		}
	}
}

// TestOrderOfAttempts: who stands in comes in the request's order too, and the other providers of a model before another model.
func TestOrderOfAttempts(t *testing.T) {
	w := newWorld(t, setup{arms: manyProviders(), unaudited: true})
	for _, tt := range []struct {
		model, more string
		want        string
	}{
		{"m", `"provider":{"order":["three","two"]}`, "three/m two/m one/m"},
		{"m", `"provider":{"order":["two"],"sort":"price"}`, "two/m one/m three/m"},
		{"m", `"provider":{"order":["three","two"],"allow_fallbacks":false}`, "three/m"},
		{"m", `"provider":{"order":["three","two"],"allow_fallbacks":false,"zdr":true}`, "two/m"},
		{"auto", `"provider":{"order":["three","two"]}`, "three/m two/m one/m"},
		{"auto", `"provider":{"order":["three","two"],"ignore":["one"]}`, "three/m two/m three/n"},
		{"three/m", `"models":["n"],"provider":{"order":["three"]}`, "three/m three/n two/n"},
		{"three/m", `"models":["n"]`, "three/m two/n three/n"},
		{"m", `"provider":{"order":["two"]},"num_retries":0`, "two/m"},
		{"m", `"provider":{"order":["two","one"]},"num_retries":1`, "two/m one/m"},
		{"m", `"provider":{"order":["two","one"]},"num_retries":7`, "two/m one/m three/m"},
		{"two/m", `"num_retries":0`, "two/m"},
	} {
		// A world that remembers failures would put arms behind that it has given up.
		w := newWorld(t, setup{arms: manyProviders(), unaudited: true})
		w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.Server, 500) })
		w.chat(ask(tt.model, ","+tt.more)).wantError(http.StatusBadGateway, "upstream_failed")
		var tried []string
		for _, arm := range w.vendor.called() {
			tried = append(tried, string(arm))
		}
		if got := strings.Join(tried, " "); got != tt.want {
			t.Errorf("%s %s: tried %s, want %s", tt.model, tt.more, got, tt.want)
		}
	}
	w.vendor.play(func(call int, _ *upstream.Request) (*script, error) {
		if call == 1 {
			return nil, fails(upstream.Server, 500)
		}
		return &script{}, nil
	})
	a := w.chat(ask("m", `,"provider":{"order":["three","two"]},"tradewind":{"explain":true}`)).wantOK()
	if d, o := w.outcome(a); d.Action != "three/m" || d.Propensity != 1 || o.Served != "two/m" {
		t.Errorf("%s with %v, answered by %s", d.Action, d.Propensity, o.Served)
	}
	if got := fmt.Sprint(a.get("tradewind.sentence")); !strings.Contains(got, "comes first in the order of providers") || !strings.HasSuffix(got, "it failed, and two/m answered.") {
		t.Errorf("the sentence is %q", got)
	}
}

// TestThroughput: one provider begins early and speaks slowly, the other begins late and speaks fast. Whoever asks for tokens
// per second gets the other than whoever asks for latency, and a preference puts the slower one behind without ruling it out.
func TestThroughput(t *testing.T) { synctest.Test(t, throughput) }

func throughput(t *testing.T) {
	price := catalog.Flat(1_000_000, 2_000_000)
	w := newWorld(t, setup{arms: []catalog.Arm{{ID: "early/m", Tier: catalog.TierLarge, Prices: price}, {ID: "fast/m", Tier: catalog.TierLarge, Prices: price}}})
	w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
		return &script{before: func(i int) {
			switch early := r.Arm.ID == "early/m"; {
			case early && i == 1:
				time.Sleep(200 * time.Millisecond)
			case early && i == 2:
				time.Sleep(3 * time.Second)
			case i == 1:
				time.Sleep(time.Second)
			}
		}}, nil
	})
	for range 3 {
		w.chat(ask("early/m", `,"stream":true`)).wantOK()
		w.chat(ask("fast/m", `,"stream":true`)).wantOK()
	}
	for more, want := range map[string]struct {
		first  catalog.ArmID
		behind policy.Filter
	}{
		`,"provider":{"sort":"latency"}`:                                           {"early/m", ""},
		`,"provider":{"sort":"throughput"}`:                                        {"fast/m", ""},
		`,"providerOptions":{"gateway":{"sort":"tps"}}`:                            {"fast/m", ""},
		`,"provider":{"sort":"throughput"},"tradewind":{"strategy":"latency"}`:     {"early/m", ""},
		`,"provider":{"preferred_max_latency":0.5,"sort":"throughput"}`:            {"early/m", policy.Ordered},
		`,"provider":{"preferred_max_latency":{"p90":0.5}}`:                        {"early/m", policy.Ordered},
		`,"provider":{"preferred_min_throughput":20,"sort":"latency"}`:             {"fast/m", policy.Ordered},
		`,"provider":{"preferred_max_latency":0.01,"sort":"latency"}`:              {"early/m", ""}, // of none
		`,"provider":{"preferred_max_latency":0.5,"order":["fast"]}`:               {"fast/m", policy.Ordered},
		`,"provider":{"preferred_max_latency":0.5,"only":["fast"],"sort":"price"}`: {"fast/m", policy.Denied},
	} {
		var e serving.Explanation
		unmarshal(t, w.do("POST", "/v1/route", ask("m", `,"stream":true`+more)).wantOK().body, &e)
		other := catalog.ArmID("early/m")
		if want.first == other {
			other = "fast/m"
		}
		if got := filtersOf(&e); e.Action != want.first || got[other] != want.behind {
			t.Errorf("%s: %s, and %v; want %+v", more, e.Action, got, want)
		}
	}
	for model, want := range map[string]catalog.ArmID{"m:nitro": "fast/m", "auto:nitro": "fast/m", "auto:latency": "early/m"} {
		var e serving.Explanation
		if unmarshal(t, w.do("POST", "/v1/route", ask(model, `,"stream":true`)).wantOK().body, &e); e.Action != want {
			t.Errorf("%s: %s, want %s", model, e.Action, want)
		}
	}
}

// TestProvidersOnEverySurface: the other surfaces take the same fields, and hand none of them on.
func TestProvidersOnEverySurface(t *testing.T) {
	embed := func(id catalog.ArmID, data catalog.DataPolicy) catalog.Arm {
		return catalog.Arm{ID: id, Mode: catalog.ModeEmbedding, Prices: catalog.Flat(20_000, 20_000), Data: data}
	}
	arms := append(manyProviders(), embed("one/e", 0), embed("two/e", catalog.ZeroRetention), embed("three/e", 0))
	w := newWorld(t, setup{arms: arms})
	const routing = `"providerOptions":{"gateway":{"only":["one","two","three"]}},"num_retries":1,`
	for _, tt := range []struct{ path, body, want string }{
		{"/v1/embeddings", `{` + routing + `"provider":{"order":["three"],"max_price":{"prompt":1,"completion":0}},"model":"e","input":"hi"}`, "three/e"},
		{"/v1/embeddings", `{` + routing + `"provider":{"zdr":true},"model":"e","input":"hi"}`, "two/e"},
		{"/v1/completions", `{` + routing + `"provider":{"order":["two"]},"model":"m","prompt":"hi"}`, "two/m"},
		{"/v1/messages", `{` + routing + `"provider":{"quantizations":["bf16"]},"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`, "two/m"},
		{"/v1/responses", `{` + routing + `"provider":{"order":["three"]},"model":"m","input":"hi"}`, "three/m"},
	} {
		a := w.do("POST", tt.path, tt.body).wantOK()
		if got := a.header.Get("X-Tradewind-Model"); got != tt.want {
			t.Errorf("%s: %s answers, want %s", tt.path, got, tt.want)
		}
		call := w.vendor.calls[len(w.vendor.calls)-1]
		if strings.Contains(call.body, "provider") || strings.Contains(call.body, "retries") {
			t.Errorf("%s: the vendor saw %s", tt.path, call.body)
		}
	}
	for name, decode := range map[string]func([]byte, openai.DecodeOptions) (*openai.Spoken, error){"messages": anthropic.Decode, "responses": responses.Decode} {
		said, err := decode([]byte(`{`+routing+`"provider":{"order":["two"]},"model":"m","max_tokens":9,"max_output_tokens":9,"messages":[{"role":"user","content":"hi"}],"input":"hi"}`), openai.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if sent := string(said.AppendUpstream(nil, openai.Upstream{Model: "m"})); strings.Contains(sent, "provider") || strings.Contains(sent, "retries") {
			t.Errorf("%s at a vendor that speaks it: %s", name, sent)
		}
	}
}

// TestRetriesUnderGates: escalations count as the attempts that a request has left.
func TestRetriesUnderGates(t *testing.T) {
	for retries, want := range map[string]int{"": 3, `,"num_retries":0`: 1, `,"num_retries":1`: 2, `,"num_retries":9`: 3} {
		w := gated(t, gate.PolicyConfig{Escalations: new(2)}, setup{})
		w.vendor.play(func(int, *upstream.Request) (*script, error) {
			return &script{events: []string{whole("bad", `{"prompt_tokens":7,"completion_tokens":3}`)}}, nil
		})
		a := w.chat(ask("auto", retries))
		if _, o := w.outcome(a); len(w.vendor.called()) != want || o.Reason != datasets.GateFailed {
			t.Errorf("%s: %v were asked, and it ended as %s", retries, w.vendor.called(), o.Reason)
		}
	}
}
