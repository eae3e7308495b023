package serving_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/rules"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// directArms are one embedding model at two providers and another one at a third, and a model for completions. All are
// cheaper than any of threeArms.
func directArms() []catalog.Arm {
	arm := func(id catalog.ArmID, mode catalog.Mode, in, out catalog.Picodollars) catalog.Arm {
		return catalog.Arm{ID: id, Mode: mode, ContextTokens: 20, Prices: catalog.Flat(in, out)}
	}
	return []catalog.Arm{
		arm("one/embed", catalog.ModeEmbedding, 20_000, 20_000), arm("two/embed", catalog.ModeEmbedding, 30_000, 30_000),
		arm("three/large", catalog.ModeEmbedding, 130_000, 130_000), arm("two/instruct", catalog.ModeCompletion, 15_000, 20_000),
	}
}

// directly is a world of chat arms and the others.
func directly(t testing.TB, s setup) *world {
	t.Helper()
	s.arms = append(threeArms(), directArms()...)
	return newWorld(t, s)
}

func (w *world) embed(body string, header ...string) *answer {
	w.Helper()
	return w.do("POST", "/v1/embeddings", body, header...)
}

func (w *world) complete(body string, header ...string) *answer {
	w.Helper()
	return w.do("POST", "/v1/completions", body, header...)
}

const (
	vectors    = `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.25,-1e-3]}],"model":"x","usage":{"prompt_tokens":8,"total_tokens":8}}`
	textWhole  = `{"id":"cmpl-1","object":"text_completion","created":5,"model":"x","choices":[{"text":"391","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}`
	textFinish = `{"id":"cmpl-1","object":"text_completion","created":5,"model":"x","choices":[{"text":"","index":0,"finish_reason":"stop"}]}`
	textUsage  = `{"id":"cmpl-1","object":"text_completion","created":5,"model":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}`
)

func text(s string) string {
	return `{"id":"cmpl-1","object":"text_completion","created":5,"model":"x","choices":[{"text":"` + s + `","index":0,"finish_reason":null}]}`
}

// TestEmbeddings: the vendor gets the client's words, the client the vendor's, and money is held, booked and told to the
// nanodollar. Inputs longer than the window together are no matter: each has one of its own.
func TestEmbeddings(t *testing.T) {
	w := directly(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Floor: .9, Log: governance.LogFull}}}})
	for _, tt := range []struct {
		input string
		hold  catalog.Nanodollars // 20 nanodollars a token, which is a byte or an id, and 4 more for each input
	}{
		{`"h\u00e9llo"`, (6 + 4) * 20}, {`["one","three"]`, (8 + 8) * 20}, {`[1, 20, 300]`, (3 + 4) * 20}, {`[[1,2],[3]]`, (3 + 8) * 20},
		{`"` + strings.Repeat("x", 100) + `"`, (100 + 4) * 20},
	} {
		w.vendor.play(nil)
		a := w.embed(`{"model":"one/embed","input":`+tt.input+`,"dimensions":2,"tradewind":{"tags":{"a":"b"}}}`, bearer(keyA)...).wantOK()
		if want := `{"model":"embed","input":` + tt.input + `,"dimensions":2}`; w.vendor.calls[0].body != want {
			t.Errorf("the vendor got %s, want %s", w.vendor.calls[0].body, want)
		}
		want := strings.NewReplacer(`"model":"x"`, `"model":"one/embed"`, `"total_tokens":8}`,
			`"total_tokens":8,"cost":0.00000016,"cost_details":{"input":0.00000016,"output":0,"cache_read":0,"cache_write":0,"router":0,"currency":"USD"}}`).Replace(vectors)
		if a.body != want || a.header.Get("X-Tradewind-Cost-Usd") != "0.00000016" || a.header.Get("X-Tradewind-Model") != "one/embed" || a.header.Get("X-Tradewind-Reason") != "pinned" {
			t.Errorf("headers %v, body %s", a.header, a.body)
		}
		d, o := w.outcome(a)
		if d.Hold != tt.hold || o.Cost != 160 || o.CostStatus != datasets.CostFinal || o.Status != datasets.Completed || d.Tags["a"] != "b" || d.Policy != "direct" || d.Propensity != 1 {
			t.Errorf("%.40s: hold %d, want %d; outcome %+v", tt.input, d.Hold, tt.hold, o)
		}
		if d.Prompt != "" || d.Features != nil || d.SpecDigest != "" || d.Conversation != "" || d.RouterVersion != "" {
			t.Errorf("there is nothing to learn from %+v", d)
		}
	}
	// A vendor that tells no usage: four bytes are a token, and a vector has none.
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{`{"data":[{"embedding":[1]}]}`}}, nil
	})
	a := w.embed(`{"model":"one/embed","input":"12345678"}`, bearer(keyA)...).wantOK()
	if _, o := w.outcome(a); o.Cost != 40 || o.CostStatus != datasets.CostEstimated || a.get("usage.tradewind_estimated") != true || a.get("usage.completion_tokens") != "0" {
		t.Errorf("outcome %+v, body %s", o, a.body)
	}
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{`{"object":"list","data":[]}`}}, nil
	})
	w.embed(`{"model":"one/embed","input":"x","tradewind":{"fallback":false}}`, bearer(keyA)...).wantError(502, openai.UpstreamFailed)
}

// TestCompletions: whole and streamed, with the API's own cap where the client sets none.
func TestCompletions(t *testing.T) {
	w := directly(t, setup{})
	a := w.complete(`{"model":"one/cheap","prompt":"17 times 23 is","echo":false}`).wantOK()
	if want := `{"model":"cheap","prompt":"17 times 23 is","echo":false,"max_tokens":16}`; w.vendor.calls[0].body != want {
		t.Errorf("the vendor got %s, want %s", w.vendor.calls[0].body, want)
	}
	const cost = "0.000013" // 7 × 1 + 3 × 2 dollars a million
	if a.get("object") != "text_completion" || a.get("model") != "one/cheap" || a.get("usage.cost") != cost || a.header.Get("X-Tradewind-Cost-Usd") != cost {
		t.Errorf("headers %v, body %s", a.header, a.body)
	}
	if d, o := w.outcome(a); d.Hold != (14+4)*1000+16*2000 || o.Cost.String() != cost || o.Usage.Output != 3 {
		t.Errorf("hold %d, outcome %+v", d.Hold, o)
	}
	// Two prompts, of each the best of five answers of 10 tokens, at 15 and 20 nanodollars a token.
	a = w.complete(`{"model":"instruct","prompt":[[1,2,3],[4]],"n":2,"best_of":5,"max_tokens":10}`).wantOK()
	if d, o := w.outcome(a); d.Hold != (4+8)*15+2*5*10*20 || o.Cost != 7*15+3*20 || a.header.Get("X-Tradewind-Model") != "two/instruct" {
		t.Errorf("hold %d, outcome %+v", d.Hold, o)
	}
	for _, usage := range []bool{true, false} {
		w.vendor.play(nil)
		a = w.complete(fmt.Sprintf(`{"model":"one/cheap","prompt":"hi","stream":true,"stream_options":{"include_usage":%v},"tradewind":{"explain":true}}`, usage)).wantOK()
		events := a.events()
		last := events[len(events)-2]
		want := strings.Replace(text("91"), `"model":"x"`, `"model":"one/cheap"`, 1)
		if usage {
			want = strings.TrimSuffix(want, "}") + `,"usage":null}`
		}
		if events[1] != want || !strings.Contains(w.vendor.calls[0].body, `"include_usage":true`) {
			t.Errorf("event %s, want %s", events[1], want)
		}
		if dig(t, last, "object") != "text_completion" || dig(t, last, "id") != "cmpl-1" || (dig(t, last, "usage.cost") == cost) != usage || dig(t, last, "tradewind.action") != "one/cheap" || events[len(events)-1] != "[DONE]" {
			t.Errorf("last %s", last)
		}
		if a.header.Get("Content-Type") != "text/event-stream; charset=utf-8" || a.header.Get("X-Tradewind-Cost-Estimate-Usd") != "0.000033000" { // 1 token in, 16 out
			t.Errorf("headers %v", a.header)
		}
		if _, o := w.outcome(a); o.Cost.String() != cost || o.CostStatus != datasets.CostFinal {
			t.Errorf("outcome %+v", o)
		}
	}
	// A vendor that breaks off: the client hears it in its own form, and what was streamed is paid for.
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{text("a"), text("b")}, err: fails(upstream.Cut, 0)}, nil
	})
	a = w.complete(`{"model":"one/cheap","prompt":"hi","stream":true}`).wantOK()
	events := a.events()
	if last := events[len(events)-2]; len(events) != 4 || !strings.HasSuffix(last, `"choices":[{"index":0,"text":"","finish_reason":"error"}]}`) || dig(t, last, "error.code") != "upstream_failed" {
		t.Errorf("events %q", events)
	}
	if _, o := w.outcome(a); o.Status != datasets.Failed || o.Usage.Output != 2 || o.Cost != 1*1000+2*2000 {
		t.Errorf("outcome %+v", o)
	}
}

// TestModesKeepApart: nobody is routed to an arm that is not for chat, and whoever names one in the wrong place is told the
// right one.
func TestModesKeepApart(t *testing.T) {
	aliases := map[string][]string{"vec": {"one/embed", "two/embed"}, "mixed": {"one/embed", "three/large"}, "all": {"one/cheap", "one/embed"}}
	s := setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA}, {Key: keyB, Deny: []string{"*/embed"}}}}}
	s.options.Aliases, s.options.Epsilon = aliases, 1
	w := directly(t, s)
	for _, tt := range []struct {
		path, model, more string
		status            int
		code              openai.Code
		param, says       string
	}{
		{"embeddings", "auto", "", 400, openai.InvalidRequest, "model", "vectors of one model mean nothing to another"},
		{"embeddings", "auto:cost", "", 400, openai.InvalidRequest, "model", "/v1/embeddings"},
		{"embeddings", "auto/vec", "", 400, openai.InvalidRequest, "model", "leaves the choice to the router"},
		{"completions", "auto", "", 400, openai.InvalidRequest, "model", "ask /v1/chat/completions"},
		{"embeddings", "one/cheap", "", 400, openai.InvalidRequest, "model", "names one/cheap, which is for chat: ask /v1/chat/completions"},
		{"embeddings", "instruct", "", 400, openai.InvalidRequest, "model", "names two/instruct, which is for completions of a text: ask /v1/completions"},
		{"completions", "embed", "", 400, openai.InvalidRequest, "model", "names one/embed, which is for embeddings: ask /v1/embeddings"},
		{"chat/completions", "one/embed", "", 400, openai.InvalidRequest, "model", "ask /v1/embeddings"},
		{"chat/completions", "vec", "", 400, openai.InvalidRequest, "model", "ask /v1/embeddings"},
		{"chat/completions", "one/cheap", `,"models":["large"]`, 400, openai.InvalidRequest, "models", "three/large"},
		{"chat/completions", "two/instruct", "", 400, openai.InvalidRequest, "model", "ask /v1/completions"},
		{"responses", "one/embed", "", 400, openai.InvalidRequest, "model", "ask /v1/embeddings"},
		{"chat/completions", "auto/vec", "", 400, openai.NoCandidate, "", "filtered"},
		{"embeddings", "mixed", "", 400, openai.InvalidRequest, "model", "stands for one/embed and three/large"},
		{"embeddings", "embet", "", 404, openai.ModelNotFound, "model", "the nearest are one/embed"},
		{"embeddings", "one/embed", `,"models":["three/large"]`, 400, openai.UnsupportedRoutingField, "models", "has no meaning"},
		{"embeddings", "one/embed", `,"tradewind":{"quality_floor":0.5}`, 400, openai.UnsupportedRoutingField, "tradewind.quality_floor", "has no meaning"},
		{"completions", "one/cheap", `,"tradewind":{"gates":["good"]}`, 400, openai.UnsupportedRoutingField, "tradewind.gates", "has no meaning"},
		{"embeddings", "one/embed", `,"tradewind":{"deny":["one/*"]}`, 400, openai.NoCandidate, "", "denied"},
	} {
		body := `{"model":"` + tt.model + `","input":"x","prompt":"x",` + question + tt.more + `}`
		a := w.do("POST", "/v1/"+tt.path, body, bearer(keyA)...)
		a.wantError(tt.status, tt.code)
		if param, _ := a.get("error.param").(string); param != tt.param || !strings.Contains(a.body, tt.says) {
			t.Errorf("%s %s: %s, want %q", tt.path, tt.model, a.body, tt.says)
		}
	}
	if n := len(w.vendor.called()); n != 0 {
		t.Errorf("%d calls", n)
	}
	w.embed(`{"model":"one/embed","input":"x"}`, bearer(keyB)...).wantError(403, openai.ModelNotAllowed)
	if a := w.chat(ask("one/embed", ""), bearer(keyB)...); strings.Contains(a.body, "is for embeddings") { // what the key may not use is not told
		t.Errorf("got %s", a.body)
	}
	a := w.do("POST", "/v1/messages", `{"model":"one/embed","max_tokens":9,"messages":[{"role":"user","content":"x"}]}`, bearer(keyA)...)
	a.wantAnthropicError(400, "invalid_request_error")

	for range 30 { // all of it explores
		w.chat(ask("auto", ""), bearer(keyA)...).wantOK()
		w.chat(ask("all", ""), bearer(keyA)...).wantOK()
	}
	for _, arm := range w.vendor.called() {
		if arm.Model() == "embed" || arm.Model() == "large" || arm.Model() == "instruct" {
			t.Fatalf("%s was asked in chat", arm)
		}
	}
	d := w.do("POST", "/v1/route", ask("auto", ""), bearer(keyA)...).wantOK()
	list := w.do("GET", "/v1/models", "", bearer(keyA)...).wantOK()
	if strings.Contains(d.body, "embed") || !strings.Contains(list.body, `"mode":"embedding"`) {
		t.Errorf("decision %s\nmodels %s", d.body, list.body)
	}
}

// TestDirectFailover: another provider of the same model stands in, and no other model does.
func TestDirectFailover(t *testing.T) {
	s := setup{}
	s.options.Aliases = map[string][]string{"vec": {"two/embed", "one/embed"}}
	for class, status := range map[upstream.Class]int{upstream.Server: 503, upstream.TimedOut: 408, upstream.RateLimited: 429, upstream.Auth: 401, upstream.ModelGone: 404} {
		for _, model := range []string{"embed", "vec", "embed:floor"} {
			w := directly(t, s)
			w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
				if call == 1 {
					return nil, fails(class, status)
				}
				return &script{}, nil
			})
			a := w.embed(`{"model":"` + model + `","input":"x"}`).wantOK()
			d, o := w.outcome(a)
			if got, want := w.vendor.called(), []catalog.ArmID{"one/embed", "two/embed"}; !slices.Equal(got, want) || o.Served != "two/embed" || d.Action != "one/embed" {
				t.Errorf("%s, %s: asked %v", class, model, got)
			}
			if a.header.Get("X-Tradewind-Fallback-From") != "one/embed" || a.header.Get("X-Tradewind-Reason") != "fallback" || a.header.Get("X-Tradewind-Attempts") != "2" {
				t.Errorf("%s, %s: hold %d, headers %v", class, model, d.Hold, a.header)
			}
			hold, cost := catalog.Nanodollars(5*30), catalog.Nanodollars(8*30)
			if class == upstream.TimedOut { // it may be billed, so there is a second hold, and a token at the price of the first
				hold, cost = 2*hold, cost+20
			}
			if d.Hold != hold || o.Cost != cost {
				t.Errorf("%s, %s: hold %d, want %d; outcome %+v", class, model, d.Hold, hold, o)
			}
			w.vendor.play(func(call int, r *upstream.Request) (*script, error) { return nil, fails(class, status) })
			if w.embed(`{"model":"` + model + `","input":"x","tradewind":{"fallback":false}}`); len(w.vendor.called()) != 1 {
				t.Errorf("%s, without fallback: asked %v", class, w.vendor.called())
			}
		}
	}
}

// TestDirectTwins: the same weights under two names are one model.
func TestDirectTwins(t *testing.T) {
	s := setup{arms: append(threeArms(), directArms()...)}
	s.arms[3].BaseModel, s.arms[5].BaseModel = "lab/embed", "lab/embed"
	s.options.Aliases = map[string][]string{"vec": {"one/embed", "three/large"}}
	w := newWorld(t, s)
	w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
		if r.Arm.ID == "one/embed" {
			return nil, fails(upstream.Server, 503)
		}
		return &script{}, nil
	})
	if a := w.embed(`{"model":"vec","input":"x"}`).wantOK(); a.header.Get("X-Tradewind-Model") != "three/large" {
		t.Errorf("headers %v", a.header)
	}
}

// TestDirectFailsAlone: a model that is named alone has no other to stand in; a client's own mistake is told as it is.
func TestDirectFailsAlone(t *testing.T) {
	s := setup{}
	s.options.Fallbacks = map[string][]string{"one/cheap": {"two/middle"}} // which are for chat
	w := directly(t, s)
	for path, body := range map[string]string{"embeddings": `{"model":"large","input":"x"}`, "completions": `{"model":"one/cheap","prompt":"x"}`} {
		w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.ModelGone, 404) })
		w.do("POST", "/v1/"+path, body).wantError(502, openai.UpstreamFailed)
		if n := len(w.vendor.called()); n != 1 {
			t.Errorf("%s: %d attempts at %v", path, n, w.vendor.called())
		}
		w.vendor.play(func(int, *upstream.Request) (*script, error) {
			return nil, &upstream.Error{Class: upstream.BadRequest, Status: 400, Message: "dimensions must be positive", Param: "dimensions"}
		})
		a := w.do("POST", "/v1/"+path, body)
		a.wantError(400, openai.InvalidRequest)
		if _, o := w.outcome(a); a.get("error.message") != "dimensions must be positive" || a.get("error.param") != "dimensions" || o.Cost != 0 {
			t.Errorf("%s: %s, outcome %+v", path, a.body, o)
		}
	}
	// A chat model whose vendor cannot complete a text with it says so in its own words, and stays well for chat.
	for range 10 {
		w.vendor.play(func(int, *upstream.Request) (*script, error) {
			return nil, &upstream.Error{Class: upstream.Unsayable, Status: 404, Message: "This is a chat model"}
		})
		if a := w.complete(`{"model":"three/dear","prompt":"x"}`); a.status != 404 || a.get("error.message") != "This is a chat model" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	w.vendor.play(nil)
	w.chat(ask("three/dear", "")).wantOK()
}

// TestDirectMoney: no path goes past the budget. Pain 5 (maximhq/bifrost#2873).
func TestDirectMoney(t *testing.T) {
	arms := append(directArms(), threeArms()...)
	arms[2].Prices = catalog.Prices{}
	for path, body := range map[string]string{"embeddings": `{"model":"one/embed","input":"12345678901"}`, "completions": `{"model":"two/instruct","prompt":"1234567"}`} {
		need := map[string]catalog.Nanodollars{"embeddings": (11 + 4) * 20, "completions": (7+4)*15 + 16*20}[path]
		for short := range catalog.Nanodollars(2) {
			w := newWorld(t, setup{arms: arms, auth: budget((need - short).Dollars())})
			a := w.do("POST", "/v1/"+path, body, bearer(keyA)...)
			if short == 0 {
				a.wantOK()
				continue
			}
			a.wantError(429, openai.InsufficientQuota)
			if a.get("error.tradewind.needed_usd") != need.String() || len(w.vendor.called()) != 0 || a.header.Get("X-Should-Retry") != "false" {
				t.Errorf("%s: %s after %v", path, a.body, w.vendor.called())
			}
		}
	}
	w := newWorld(t, setup{arms: arms, auth: budget(1)})
	a := w.embed(`{"model":"large","input":"x"}`, bearer(keyA)...)
	a.wantError(429, openai.InsufficientQuota)
	if a.get("error.tradewind.reason") != "budget_unpriced" {
		t.Errorf("got %s", a.body)
	}
}

// TestDirectDialect: a provider that speaks neither is never asked in chat instead.
func TestDirectDialect(t *testing.T) {
	w := directly(t, setup{})
	mute := struct{ upstream.Provider }{w.vendor} // no Linguist
	w = directly(t, setup{providers: map[string]upstream.Provider{"one": mute, "two": w.vendor, "three": mute}})
	for path, body := range map[string]string{"embeddings": `{"model":"one/embed","input":"x"}`, "completions": `{"model":"one/cheap","prompt":"x"}`} {
		a := w.do("POST", "/v1/"+path, body)
		a.wantError(400, openai.NoCandidate)
		if !strings.Contains(a.body, `"filter":"dialect"`) || !strings.Contains(a.body, "a request to /v1/"+path+" cannot be said") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	if a := w.embed(`{"model":"embed","input":"x"}`).wantOK(); a.header.Get("X-Tradewind-Model") != "two/embed" {
		t.Errorf("headers %v", a.header)
	}
}

// TestDirectGates: nobody's text goes past gates that would have read it; a vector has none.
func TestDirectGates(t *testing.T) {
	w := gated(t, gate.PolicyConfig{}, setup{arms: append(threeArms(), directArms()...)})
	w.complete(`{"model":"one/cheap","prompt":"x"}`).wantError(http.StatusForbidden, openai.Forbidden)
	if n := len(w.vendor.called()); n != 0 {
		t.Errorf("%d calls", n)
	}
	w.embed(`{"model":"one/embed","input":"x"}`).wantOK()
}

// What is not served by anybody must not be named, and what is served by name alone may be.
func TestDirectSettings(t *testing.T) {
	arms := append(threeArms(), directArms()...)
	settings := serving.Settings{Arms: arms, Router: must(serving.NewRouter(arms, nil))(t), Pool: must(upstream.New(upstream.Options{}))(t), Auth: must(governance.New(governance.Options{}))(t)}
	for name, tt := range map[string]struct {
		aliases, fallbacks map[string][]string
		ok                 bool
	}{
		"an alias of embeddings":          {map[string][]string{"vec": {"embed"}}, nil, true},
		"an alias of nothing":             {map[string][]string{"vec": {"embet"}}, nil, false},
		"a fallback to embeddings":        {nil, map[string][]string{"one/cheap": {"one/embed"}}, false},
		"a fallback to such an alias":     {map[string][]string{"vec": {"embed"}}, map[string][]string{"one/cheap": {"vec"}}, false},
		"a fallback to an alias for chat": {map[string][]string{"good": {"dear"}}, map[string][]string{"one/cheap": {"good"}}, true},
	} {
		s := settings
		if s.Aliases, s.Fallbacks = tt.aliases, tt.fallbacks; (s.Validate() == nil) != tt.ok {
			t.Errorf("%s: %v", name, s.Validate())
		}
	}
	if _, err := serving.NewRouter(directArms(), nil); err == nil {
		t.Error("a router over no chat arm")
	}
}

// TestDirectRules: what an operator forbids is forbidden on every path, whatever stands before it among the arms; what a rule
// says of choosing is for choices.
func TestDirectRules(t *testing.T) {
	s := setup{arms: append(directArms(), threeArms()...)}
	s.options.Policies = map[string]rules.PolicyConfig{"good": {Floor: .99}}
	s.options.Rules = []rules.Config{{Deny: []string{"two/embed", "one/cheap"}, Pin: "three/dear", Policy: "good"}}
	w := newWorld(t, s)
	for _, tt := range []struct{ path, body, want string }{
		{"embeddings", `{"model":"embed","input":"x"}`, "one/embed"},
		{"embeddings", `{"model":"two/embed","input":"x"}`, ""},
		{"embeddings", `{"model":"large","input":"x"}`, "three/large"},
		{"completions", `{"model":"instruct","prompt":"x"}`, "two/instruct"},
		{"completions", `{"model":"one/cheap","prompt":"x"}`, ""},
		{"chat/completions", ask("one/cheap", ""), ""},
		{"chat/completions", ask("two/middle", ""), "two/middle"},
		{"chat/completions", ask("auto", ""), "three/dear"},
	} {
		a := w.do("POST", "/v1/"+tt.path, tt.body)
		if got := a.header.Get("X-Tradewind-Model"); got != tt.want || tt.want == "" && a.status != http.StatusForbidden {
			t.Errorf("%s %s: %d by %q, want %q", tt.path, tt.body, a.status, got, tt.want)
		}
	}
	for name, told := range map[string]bool{"one/embed": true, "two/embed": false} {
		if a := w.chat(ask(name, "")); strings.Contains(a.body, "is for embeddings") != told {
			t.Errorf("%s", a.body)
		}
	}
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.ModelGone, 404) })
	w.embed(`{"model":"embed","input":"x"}`).wantError(502, openai.UpstreamFailed)
	if got := w.vendor.called(); !slices.Equal(got, []catalog.ArmID{"one/embed"}) {
		t.Errorf("asked %v", got)
	}
}
