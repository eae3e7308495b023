package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/rules"
)

// vendor is an OpenAI-compatible upstream that says what it was asked. Its usage is 10 and 20 tokens.
type vendor struct {
	*httptest.Server
	calls chan vendorCall
	// refuse, where set, answers instead.
	refuse http.HandlerFunc
}

type vendorCall struct {
	key  string
	body map[string]any
}

const vendorAnswer = `{"id":"c1","object":"chat.completion","created":1,"model":"whatever","choices":[{"index":0,"message":{"role":"assistant","content":"391"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`

func newVendor(t *testing.T) *vendor {
	t.Helper()
	v := &vendor{calls: make(chan vendorCall, 64)}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := vendorCall{key: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &c.body) != nil {
			t.Errorf("the vendor was sent %q (%v), want JSON", body, err)
		}
		v.calls <- c
		if v.refuse != nil {
			v.refuse(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, vendorAnswer)
	}))
	t.Cleanup(v.Close)
	return v
}

// provider is the configuration of the vendor: what a newcomer writes for any OpenAI-compatible endpoint.
func (v *vendor) provider() string {
	return fmt.Sprintf(`
providers:
  - name: lab
    type: openai
    base_url: %s/v1
    api_key: ${LAB_KEY}
    models: [{name: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]
`, v.URL)
}

func TestConfigGood(t *testing.T) {
	v := newVendor(t)
	file := write(t, "tradewind.yaml", "# Ours.\n---\nrouting: {strategy: \"${S:-cost}\"}"+v.provider())
	s := start(t, env{"LAB_KEY": "sk-lab-0123456789", "TRADEWIND_CONFIG": file})
	if text := s.stdout.String(); strings.Contains(text, "simulated") {
		t.Errorf("a provider is configured, and yet: %s", text)
	}
	r := s.call("POST", "/v1/chat/completions", "", ask("auto", "What is 17 times 23?", `,"x_unknown":{"kept":[1.50]}`))
	var c completion
	r.want(t, 200, &c)
	if c.Model != "lab/small" || c.Choices[0].Message.Content != "391" || c.Simulated {
		t.Errorf("answered %s, want 391 by lab/small", r.body)
	}
	// 10 tokens at 1 dollar and 20 at 10 dollars per million.
	if got, want := r.header.Get("X-Tradewind-Cost-Usd"), "0.00021"; got != want {
		t.Errorf("cost %s, want %s", got, want)
	}
	if got := r.header.Get("X-Tradewind-Strategy"); got != "cost" {
		t.Errorf("strategy %q, want the default of the substitution, cost", got)
	}
	call := <-v.calls
	if call.key != "sk-lab-0123456789" || call.body["model"] != "small" || fmt.Sprint(call.body["x_unknown"]) != "map[kept:[1.5]]" {
		t.Errorf("the vendor saw key %q and %v", call.key, call.body)
	}
}

// A model is also what it is with each of its efforts: of the same price, and asked under its own name.
func TestEfforts(t *testing.T) {
	v := newVendor(t)
	file := write(t, "tradewind.yaml", `
providers:
  - name: lab
    base_url: `+v.URL+`/v1
    api_key: sk-lab-0123456789
    allow_private: true
    models: [{name: small, supports: [reasoning], efforts: [low, high], input_usd_per_mtok: 1, output_usd_per_mtok: 10}]
aliases: {thinker: "lab/small#high"}
`)
	s := start(t, nil, "--config", file)
	for model, want := range map[string]string{"small": "small <nil>", "thinker": "small high", "lab/small#low": "small low"} {
		r := s.call("POST", "/v1/chat/completions", "", ask(model, "hi", ""))
		r.want(t, 200, nil)
		call := <-v.calls
		if got := fmt.Sprint(call.body["model"], " ", call.body["reasoning_effort"]); got != want || r.header.Get("X-Tradewind-Cost-Usd") != "0.00021" {
			t.Errorf("%s: the vendor was asked for %s, want %s, at %s", model, got, want, r.header.Get("X-Tradewind-Cost-Usd"))
		}
	}
}

func TestConfigBad(t *testing.T) {
	const key = "sk-tw-CANARY-0123456789abcdef"
	for name, c := range map[string]struct {
		text, want string
	}{
		"unknown key":        {"listen: 127.0.0.1:0\nkeys:\n  - key: " + key + "\n    budgets: {day: 1}\n", `line 4: unknown key "budgets"; did you mean budget_usd?`},
		"wrong type":         {"keys:\n  - key: " + key + "\n    budget_usd: {day: much}\n", "line 3: day: a number is wanted"},
		"key in a wrong way": {"keys: " + key + "\n", "line 1: keys: a list is wanted"},
		"key twice":          {"keys:\n  - key: " + key + "\n    key: " + key + "\n", "line 3, column 5"},
		"syntax":             {"keys:\n  - key: " + key + "\n  foo: \"" + key + "\n", "line 3, column 8"},
		"expiry":             {"keys:\n  - key: " + key + "\n    expires_at: tomorrow\n", "line 3: expires_at: a time is wanted, such as 2026-12-31"},
		"second document":    {"routing: {strategy: cost}\n---\nkeys:\n  - key: " + key + "\n", "a second document begins"},
		"missing variable":   {"providers:\n  - name: lab\n    base_url: http://127.0.0.1:1/v1\n    api_key: ${LAB_KEY}\n    models: [m]\n", "line 4: the variable LAB_KEY is not set"},
		"empty secret file":  {"providers:\n  - name: lab\n    base_url: http://127.0.0.1:1/v1\n    api_key: file:" + write(t, "empty", "\n") + "\n    models: [m]\n", "empty is empty"},
		"no brace":           {"listen: ${PORT\n", "line 1: a ${ has no closing brace"},
		"target":             {"routing: {target: {cost_usd: {amount: 1, per: week}}}\n", `line 1: per "week" is none of request, day, month`},
		"strategy":           {"routing: {strategy: cheapest}\n", `line 1: strategy "cheapest" is none of cost, latency, balanced`},
		"strategy of a key":  {"keys:\n  - {key: " + key + ", strategy: best}\n", `line 2: strategy "best" is none of`},
		"traffic":            {"routing: {traffic: calm}\n", `line 1: traffic "calm" is none of known, shifting, auto`},
		"epsilon":            {"routing: {epsilon: 1.5}\n", "between 0 and 1"},
		"attempts":           {"routing: {attempts: 4}\n", "1 to 3"},
		"timeout":            {"routing: {timeout_seconds: -1}\n", "at most 3600"},
		"keep alive":         {"streams: {keep_alive_seconds: .5}\n", "0 (never) or 1 to 3600"},
		"patience":           {"routing: {chunk_seconds: -1}\n", "routing: chunk_seconds is -1"},
		"patience of one":    {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [{name: m, first_token_seconds: 4000}]}\n", "model m: first_token_seconds is 4000"},
		"budget status":      {"budget_http_status: 418\n", "want 429 or 402"},
		"alias":              {"aliases: {x: none}\n", `"x" stands for "none", which is not served`},
		"catalog":            {"catalog: /no/such\n", "catalog: open /no/such"},
		"model twice":        {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [m, m]}\n", `"lab/m": is there twice`},
		"price of 0":         {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [{name: m, input_usd_per_mtok: 1, output_usd_per_mtok: 0}]}\n", "price of 0"},
		"price in words":     {"providers:\n  - name: lab\n    models: [{name: m, input_usd_per_mtok: cheap}]\n", `line 3: input_usd_per_mtok: catalog: "cheap" is not a decimal number`},
		"sync":               {"journal: {sync: maybe}\n", `line 1: sync "maybe" is none of write, always`},
		"retention":          {"log: {retention_days: -1}\n", "log.retention_days is -1, want 0 (keep all) to 36525"},
		"sessions":           {"sessions: {idle_seconds: 90000}\n", "config: sessions: idle_seconds 90000 and max 0, want 0 (the default) to 86400"},
		"unit of retention":  {"log: {retention_weeks: 4}\n", "retention_weeks"},
		"provider type":      {"providers:\n  - {name: lab, type: soap}\n", `line 2: type "soap" is none of openai`},
		"quantization":       {"providers:\n  - name: lab\n    models: [{name: m, quantization: unknown}]\n", `line 3: quantization "unknown" is none of int4`},
		"data policy":        {"providers:\n  - {name: lab, data_collection: none}\n", `line 2: data_collection "none" is none of allow, deny`},
		"two data policies":  {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", data_collection: allow, zdr: true, models: [m]}\n", "provider lab: it has zdr"},
		"params":             {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [{name: m, unsupported_params: [messages]}]}\n", `provider lab: model m: unsupported_params has "messages"`},
		"params of all":      {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", unsupported_params: [models], models: [m]}\n", `provider lab: unsupported_params has "models"`},
		"no models":          {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\"}\n", "list some under `models:`"},
		"half a price":       {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [{name: m, input_usd_per_mtok: 1}]}\n", "output_usd_per_mtok"},
		"supports":           {"providers:\n  - {name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [{name: m, supports: [tool]}]}\n", "none of tools"},
		"key in the address": {"providers:\n  - {name: lab, base_url: \"http://u:" + key + "@127.0.0.1:1/v1\", models: [m]}\n", "its own field"},
		"short key":          {"keys:\n  - {name: ann, key: sk-short}\n", `"ann"`},
		"not there":          {"", "no such file"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.text, c.want, key) })
	}
}

// Values that no key may have, by their line.
func TestConfigBadValues(t *testing.T) {
	const key = "sk-tw-CANARY-0123456789abcdef"
	for name, c := range map[string]struct {
		text, want string
	}{
		"no number":        {"routing: {epsilon: .nan}\n", "line 1: epsilon: a number is wanted"},
		"half a whole":     {"log:\n  retention_days: 1.5\n", "line 2: retention_days: a whole number is wanted"},
		"nothing a minute": {"keys:\n  - {key: " + key + ", rpm: 0}\n", "line 2: rpm is 0: leave it out, or name more"},
		"rate":             {"keys: [{key: " + key + ", tpm: -1}]\n", "tpm is -1, want more than 0"},
		"floor":            {"keys: [{key: " + key + ", quality_floor: 2}]\n", "quality_floor is 2, want 0 to 1"},
		"hedge":            {"keys: [{key: " + key + ", hedge: {max_share: 2}}]\n", "hedge.max_share is 2, want more than 0 and at most 1"},
		"cap of a policy":  {"policies:\n  p:\n    max_latency_ms: -5\n", "line 3: policies.p.max_latency_ms: -5 is no limit"},
		"segments":         {"journal: {segment_bytes: -1}\n", "journal.segment_bytes is -1"},
		"truth":            {"\ndebug_headers: maybe\n", "line 2: debug_headers: true or false is wanted"},
		"list":             {"providers:\n  name: " + key + "\n", "line 2: providers: a list is wanted"},
		"all at once":      {"listen: []\nrouting: {attempts: two, strategy: cheapest}\nkeys: [{rpm: [1]}]\n", "line 1: listen: one value is wanted\n  line 2: attempts: a whole number is wanted\n  line 2: strategy \"cheapest\" is none of cost, latency, balanced, availability, quality\n  line 3: rpm: a whole number is wanted"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.text, c.want, key) })
	}
}

// What is no address is told as such, and not as one that others reach.
func TestListen(t *testing.T) {
	for listen, want := range map[string]string{
		"8080": "want an address and a port", "localhost": "want an address and a port", ":8080": "without a key", "0.0.0.0:8080": "without a key", "localhost:8080": "",
	} {
		_, err := loadConfig("", env{"TRADEWIND_LISTEN": listen}.get, func(*config) {})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", listen, err, want)
		}
	}
}

// refused serves a file that must not be served; "" is one that is not there. What stands in it is secret.
func refused(t *testing.T, text, want, secret string) {
	file := "missing.yaml"
	if text != "" {
		file = write(t, "tradewind.yaml", text)
	}
	_, artifact := shared(t)
	stdout, stderr, code := command(t, nil, "", "serve", "--config", file, "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--artifact", artifact)
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	contains(t, "the error", stderr, want)
	if strings.Contains(stdout+stderr, secret) || strings.Contains(stderr, "sk-short") {
		t.Errorf("a key is shown: %s%s", stdout, stderr)
	}
}

// A key's budget: what it may spend is spent, and then it is refused as OpenAI refuses.
func TestBudget(t *testing.T) {
	const ann, bob = "sk-tw-ann-0123456789abcdef", "sk-tw-bob-0123456789abcdef"
	v := newVendor(t)
	file := write(t, "tradewind.yaml", v.provider()+`
keys:
  - {name: ann, key: `+ann+`, org: o, team: t, budget_usd: {total: 0.0005}}
  - {name: bob, key: `+bob+`, org: o, team: t}
`)
	s := start(t, env{"LAB_KEY": "sk-lab-0123456789"}, "--config", file)
	body := ask("auto", "hi", `,"max_tokens":20`)
	s.call("POST", "/v1/chat/completions", "", body).want(t, 401, nil)
	s.call("POST", "/v1/chat/completions", ann+"x", body).want(t, 401, nil)
	served := 0
	var r reply
	for served < 10 {
		if r = s.call("POST", "/v1/chat/completions", ann, body); r.status != 200 {
			break
		}
		served++
	}
	var e wireError
	r.want(t, 429, &e)
	// Each costs 0.00021 of the 0.0005: two fit, the third could not.
	if served != 2 || len(v.calls) != 2 {
		t.Errorf("%d served and %d sent to the vendor, want 2", served, len(v.calls))
	}
	if e.Error.Code != "insufficient_quota" || e.Error.Type != "insufficient_quota" || r.header.Get("X-Should-Retry") != "false" {
		t.Errorf("refused with %s and x-should-retry %q", r.body, r.header.Get("X-Should-Retry"))
	}
	if d := e.Error.Tradewind; d.Reason != "budget_exceeded_key" || d.LimitUSD != 0.0005 || d.SpentUSD != 0.00042 {
		t.Errorf("the refusal explains %+v, want the key's limit 0.0005 and 0.00042 spent", d)
	}
	s.call("POST", "/v1/chat/completions", bob, body).want(t, 200, nil)
	s.stop()
	for _, round := range rounds(t, s.data) {
		if round.Outcome.Status != datasets.Completed || round.Decision.KeyID == "" || round.Decision.Prompt != "" {
			t.Errorf("round %+v: want completed, under a key's id, without its text, which this key does not allow to be kept", round)
		}
	}
}

// A client that leaves takes its upstream call with it (P9).
func TestClientGone(t *testing.T) {
	v := newVendor(t)
	left := make(chan struct{})
	v.refuse = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}`+"\n\n")
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			close(left)
		case <-time.After(time.Minute):
		}
	}
	s := start(t, env{"LAB_KEY": "sk-lab-0123456789", "TRADEWIND_CONFIG": write(t, "tradewind.yaml", v.provider())})
	resp, err := http.Post(s.url("/v1/chat/completions"), "application/json", strings.NewReader(ask("auto", "hi", `,"stream":true`)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	select {
	case <-left: // how soon is for the benchmark to say
	case <-time.After(30 * time.Second):
		t.Fatal("the vendor's call outlived its client")
	}
	s.stop()
	all := rounds(t, s.data)
	if len(all) != 1 || all[0].Outcome.Status != datasets.ClientGone || all[0].Outcome.Cost <= 0 {
		t.Errorf("the log holds %+v, want one round whose client left and whose token is paid", all)
	}
}

// FuzzConfig looks for panics, and for a value of the environment that reaches the structure.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		"listen: 127.0.0.1:0\nkeys: [{key: \"${KEY}\", budget_usd: {day: 5}}]\n", "---\nrouting: {epsilon: 0.1, strategy: \"${S:-cost}\"}\n",
		"providers:\n  - name: a\n    models: [b, {name: c, input_usd_per_mtok: 1, output_usd_per_mtok: 2}]\n", "a: &a [*a]\n", "<<: {listen: x}\n", "? [a]\n: b\n",
		"policies: {p: {split: [{policy: q, percent: 1}]}, q: {deny: [none]}}\nrules:\n  - &r {pin: a, tags: {t: \"*\"}}\n  - *r\n  - keys: [x]\n", "rules: [<<: {pin: x}]\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<16 || bytes.Contains(text, []byte("file:")) { // no file of this machine is any fuzzer's business
			return
		}
		c := &config{}
		if parseConfig(c, text, func(string) string { return "}]\nmetrics: {public: true}\n" }) != nil {
			return
		}
		if c.Metrics.Public && !bytes.Contains(text, []byte("public")) {
			t.Errorf("%q made the metrics public", text)
		}
		_ = c.validate()
		_, err := rules.New(rules.Options{Policies: c.Policies, Rules: c.Rules})
		var told problems
		if errors.As(c.located(err), &told) {
			for _, p := range told {
				if p.Line < 0 || p.Line > 1+bytes.Count(text, []byte("\n"))+bytes.Count(text, []byte("\r")) {
					t.Errorf("%q: %s is on line %d", text, p.Text, p.Line)
				}
			}
		}
	})
}
