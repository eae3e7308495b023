package serving_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

func dollars(v float64) *float64 { return &v }

// TestRoutes is the golden table of P16: a path that is not listed here fails, and so does one that lost its key.
func TestRoutes(t *testing.T) {
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA}}}, options: serving.Options{MetricsOpen: true}})
	golden := map[string][2]bool{ // key, metered
		"POST /v1/chat/completions":      {true, true},
		"POST /v1/messages":              {true, true},
		"POST /v1/responses":             {true, true},
		"POST /v1/completions":           {true, true},
		"POST /v1/embeddings":            {true, true},
		"POST /v1/messages/count_tokens": {true, false},
		"POST /v1/route":                 {true, false},
		"POST /v1/feedback":              {true, false},
		"GET /v1/decisions/:id":          {true, false},
		"POST /v1/decisions/:id/replay":  {true, false},
		"GET /v1/usage":                  {true, false},
		"GET /v1/models":                 {true, false},
		"GET /v1/models/*id":             {true, false},
		"GET /healthz":                   {},
		"GET /readyz":                    {},
		"GET /health/liveliness":         {},
		"GET /health/readiness":          {},
		"GET /metrics":                   {},
	}
	for _, r := range w.Routes() {
		name := r.Method + " " + r.Path
		want, listed := golden[name]
		if delete(golden, name); !listed || r.Key != want[0] || r.Metered != want[1] {
			t.Errorf("%s: key %v, metered %v; want %v, listed %v", name, r.Key, r.Metered, want, listed)
		}
		path := strings.NewReplacer(":id", "x", "*id", "x").Replace(r.Path)
		for name, header := range map[string][]string{"no key": nil, "a wrong key": bearer(keyB)} {
			a := w.do(r.Method, path, ask("auto", ""), header...)
			if r.Key && strings.HasPrefix(r.Path, "/v1/messages") {
				a.wantAnthropicError(http.StatusUnauthorized, "authentication_error")
			} else if r.Key {
				a.wantError(http.StatusUnauthorized, openai.InvalidAPIKey)
			} else if a.status != http.StatusOK {
				t.Errorf("%s with %s: %d", r.Path, name, a.status)
			}
		}
	}
	for name := range golden {
		t.Errorf("%s is not served", name)
	}
	if n := len(w.vendor.called()); n != 0 {
		t.Errorf("%d calls without a key", n)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	w := newWorld(t, setup{})
	for _, tt := range []struct {
		method, path string
		status       int
		code         openai.Code
		hint, allow  string
	}{
		{"POST", "/v1/v1/chat/completions", 404, openai.NotFound, "end in /v1 once", ""},
		{"POST", "/chat/completions", 404, openai.NotFound, "should end in /v1", ""},
		{"POST", "/v1/chat/completions/", 404, openai.NotFound, "did you mean /v1/chat/completions?", ""},
		{"POST", "/v1/chat/completion", 404, openai.NotFound, "did you mean /v1/chat/completions?", ""},
		{"POST", "/openai/v1/embeddings", 404, openai.NotFound, "did you mean /v1/embeddings?", ""},
		{"POST", "/responses", 404, openai.NotFound, "did you mean /v1/responses?", ""},
		{"POST", "/v1/images/generations", 404, openai.NotFound, `nothing at POST \"/v1/images/generations\""`, ""},
		{"GET", "/" + strings.Repeat("x", 60_000), 404, openai.NotFound, "nothing at", ""},
		{"GET", "/v1/nothing", 404, openai.NotFound, "nothing at", ""},
		{"GET", "/v1/chat/completions", 405, openai.MethodNotAllowed, "GET", "POST"},
		{"OPTIONS", "/v1/chat/completions", 405, openai.MethodNotAllowed, "OPTIONS", "POST"},
		{"HEAD", "/v1/feedback", 405, openai.MethodNotAllowed, "HEAD", "POST"},
		{"PUT", "/v1/models", 405, openai.MethodNotAllowed, "PUT", "GET, HEAD"},
		{"GET", "/v1/models/one/cheep", 404, openai.ModelNotFound, "did you mean \\\"one/cheap\\\"?", ""},
		{"POST", "/v1/route?format=antropic", 400, openai.InvalidRequest, "did you mean \\\"anthropic\\\"?", ""},
		{"DELETE", "/v1/feedback", 405, openai.MethodNotAllowed, "DELETE", "POST"},
		{"GET", "/v1/models/gpt-9", 404, openai.ModelNotFound, "gpt-9", ""},
		{"GET", "/v1/decisions/rnd_x", 404, openai.NotFound, "no decision", ""},
	} {
		a := w.do(tt.method, tt.path, ask("auto", ""))
		a.wantError(tt.status, tt.code)
		if !strings.Contains(a.body, tt.hint) || a.header.Get("Allow") != tt.allow {
			t.Errorf("%s %s: Allow %q, %s", tt.method, tt.path, a.header.Get("Allow"), a.body)
		}
	}
}

func TestHealthAndDrain(t *testing.T) {
	w := newWorld(t, setup{})
	for _, path := range []string{"/healthz", "/health/liveliness", "/readyz", "/health/readiness"} {
		w.do("GET", path, "").wantOK()
		w.do("HEAD", path, "").wantOK()
	}
	w.Drain()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/health/readiness": 503} {
		if a := w.do("GET", path, ""); a.status != want {
			t.Errorf("%s while draining: %d, want %d", path, a.status, want)
		}
	}
	w.chat(ask("auto", "")).wantOK()
	w.metrics.SetBuild("test")
	if a := w.do("GET", "/metrics", ""); a.status != 404 {
		t.Errorf("/metrics on a listener that others reach: %d", a.status)
	}
}

func TestModels(t *testing.T) {
	arms := append(threeArms(), catalog.Arm{ID: "hub/meta/llama-3", Tier: catalog.TierSmall})
	s := setup{arms: arms, auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Deny: []string{"three/*"}}}}}
	s.options.Aliases = map[string][]string{"mine": {"two/middle", "three/dear", "cheap"}, "theirs": {"three/dear"}, "one/cheap": {"two/middle"}}
	w := newWorld(t, s)
	list := w.do("GET", "/v1/models", "", bearer(keyA)...).wantOK()
	for id, want := range map[string]bool{
		"auto": true, "auto:cost": true, "one/cheap": true, "three/dear": false, "hub/meta/llama-3": true, "mine": true, "theirs": false,
	} {
		if got := strings.Contains(list.body, `"id":"`+id+`"`); got != want {
			t.Errorf("%s is listed: %v, want %v", id, got, want)
		}
		a := w.do("GET", "/v1/models/"+id, "", bearer(keyA)...)
		if want && (a.status != 200 || a.get("id") != id) || !want && a.status != 404 {
			t.Errorf("GET /v1/models/%s: %d %s", id, a.status, a.body)
		}
	}
	if models := `"tradewind":{"models":["one/cheap","two/middle"]}`; !strings.Contains(list.body, models) || strings.Count(list.body, `"id":"one/cheap"`) != 1 {
		t.Errorf("an alias is not listed with the models that the key may use, or takes a model's place: %s", list.body)
	}
	if w.do("GET", "/v1/models/hub%2Fmeta%2Fllama-3", "", bearer(keyA)...).status != 200 {
		t.Error("a model's id with its slashes escaped is not found")
	}
	if list.header.Get("X-Request-Id") == "" {
		t.Error("no request id")
	}
}

// TestForeignPages: where no key is configured a page of another machine, whose requests a browser here sends, spends nothing.
func TestForeignPages(t *testing.T) {
	w := newWorld(t, setup{})
	for _, path := range []string{"/v1/chat/completions", "/v1/embeddings", "/v1/route", "/v1/feedback"} {
		w.do("POST", path, ask("auto", ""), "Origin", "https://evil.example", "Content-Type", "text/plain").wantError(403, openai.Forbidden)
	}
	if n := len(w.vendor.called()); n > 0 {
		t.Errorf("a page of another machine had %d answers", n)
	}
	w.chat(ask("auto", ""), "Origin", "http://localhost:3000").wantOK()
}

// TestAnswer follows one whole answer through headers, body, ledger, journal and the decision object.
func TestAnswer(t *testing.T) {
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Org: "acme", Team: "ml", Budget: governance.BudgetConfig{DayUSD: dollars(1)}}}}})
	a := w.chat(ask("auto", `,"tradewind":{"tags":{"a":"b"}}`), append(bearer(keyA), "X-Request-Id", "mine-1")...).wantOK()
	const cost = "0.000013" // 7 × 1 + 3 × 2 dollars a million
	for name, want := range map[string]string{
		"X-Request-Id": "mine-1", "X-Tradewind-Model": "one/cheap", "X-Tradewind-Provider": "one", "X-Tradewind-Requested-Model": "auto",
		"X-Tradewind-Strategy": "balanced", "X-Tradewind-Reason": "only_candidate", "X-Tradewind-Attempts": "1", "X-Tradewind-Cost-Usd": cost,
		"X-Tradewind-Budget-Remaining-Usd": "0.999987", "X-Tradewind-Fallback-From": "", "Content-Type": "application/json",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if !strings.HasPrefix(string(a.round()), "rnd_") || a.header.Get("X-Tradewind-Overhead-Ms") == "" {
		t.Errorf("headers %v", a.header)
	}
	if a.get("model") != "one/cheap" || a.get("usage.cost") != cost || a.get("usage.cost_details.currency") != "USD" || a.get("tradewind") != nil {
		t.Errorf("body %s", a.body)
	}
	d, o := w.outcome(a)
	if o.Cost.String() != cost || o.CostStatus != "final" || o.Served != "one/cheap" || o.Status != "completed" || d.Tags["a"] != "b" || d.Hold < o.Cost {
		t.Errorf("decision %+v\noutcome %+v", d, o)
	}
	shown := w.do("GET", "/v1/decisions/"+string(a.round()), "", bearer(keyA)...).wantOK()
	if shown.get("cost_usd") != cost || shown.get("cost_status") != "final" || shown.get("served") != "one/cheap" || shown.get("request_id") != "mine-1" {
		t.Errorf("decision object %s", shown.body)
	}
	if b := w.chat(ask("auto", ""), append(bearer(keyA), "X-Request-Id", "has space")...); !strings.HasPrefix(b.header.Get("X-Request-Id"), "req_") {
		t.Errorf("a bad request id was taken: %q", b.header.Get("X-Request-Id"))
	}
}

// TestDecisionObject compares the names with section 9.2 one by one, in all three places where the object is shown.
func TestDecisionObject(t *testing.T) {
	w := newWorld(t, setup{options: serving.Options{Settings: serving.Settings{Epsilon: 0.1}}})
	dry := w.do("POST", "/v1/route", ask("auto", `,"tools":[{"type":"function","function":{"name":"f"}}]`)).wantOK()
	if dry.get("dry_run") != true || dry.get("served") != nil || len(w.vendor.called()) != 0 || len(w.rounds()) != 0 {
		t.Errorf("dry run %s", dry.body)
	}
	if got := fmt.Sprint(dry.get("needs.capabilities")); got != "[tools]" {
		t.Errorf("needs %s", got)
	}
	whole := w.chat(ask("auto", `,"tradewind":{"explain":true}`)).wantOK()
	stream := w.chat(ask("auto", `,"stream":true,"tradewind":{"explain":true}`)).wantOK()
	events := stream.events()
	last := events[len(events)-2]
	if events[len(events)-1] != "[DONE]" || fmt.Sprint(dig(t, last, "choices")) != "[]" || dig(t, last, "usage") != nil {
		t.Errorf("last chunk %s", last)
	}
	stored := w.do("GET", "/v1/decisions/"+string(whole.round()), "").wantOK()
	for name, text := range map[string]string{"dry": dry.body, "whole": object(t, whole.body), "stream": object(t, last), "stored": stored.body} {
		for _, field := range strings.Fields("id created_at request_id dry_run action complexity reason strategy policy propensity explored certified " +
			"weights.quality weights.cost weights.latency weights.availability needs.input_tokens candidates cost_status") {
			if dig(t, text, field) == nil {
				t.Errorf("%s: no %s", name, field)
			}
		}
		if name != "dry" && (dig(t, text, "served") == nil || dig(t, text, "attempts") == nil || dig(t, text, "usage.output") != "3" || dig(t, text, "cost_usd") != "0.000013") {
			t.Errorf("%s: %s", name, text)
		}
		checkCandidates(t, name, dig(t, text, "candidates"))
	}
}

func object(t *testing.T, body string) string {
	t.Helper()
	_, text, found := strings.Cut(body, `"tradewind":`)
	if !found {
		t.Fatalf("no decision in %s", body)
	}
	return strings.TrimSuffix(text, "}")
}

func checkCandidates(t *testing.T, name string, list any) {
	t.Helper()
	candidates, _ := list.([]any)
	sum := 0.0
	for _, c := range candidates {
		m := c.(map[string]any)
		for _, field := range strings.Fields("model status quality quality_lower cost_usd cost_upper_usd latency_ms availability score propensity") {
			if _, there := m[field]; !there {
				t.Errorf("%s: a candidate without %s: %v", name, field, m)
			}
		}
		var p float64
		if _, err := fmt.Sscan(fmt.Sprint(m["propensity"]), &p); err != nil {
			t.Fatal(err)
		}
		sum += p
	}
	if len(candidates) != 3 || sum < 1-1e-9 || sum > 1+1e-9 {
		t.Errorf("%s: %d candidates, propensities sum to %v", name, len(candidates), sum)
	}
}

func TestDecisionsBelongToTheirTeam(t *testing.T) {
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{
		{Key: keyA, Org: "acme", Team: "ml"}, {Key: keyMate, Org: "acme", Team: "ml"}, {Key: keyB, Org: "other", Team: "ml"},
	}}})
	a := w.chat(ask("auto", ""), bearer(keyA)...).wantOK()
	path, score := "/v1/decisions/"+string(a.round()), `{"decision_id":"`+string(a.round())+`","score":1}`
	for key, want := range map[string]int{keyA: 200, keyMate: 200, keyB: 404} {
		if got := w.do("GET", path, "", bearer(key)...); got.status != want {
			t.Errorf("GET with %s: %d, want %d", key, got.status, want)
		}
		if want == 200 {
			want = 202
		}
		if got := w.do("POST", "/v1/feedback", score, bearer(key)...); got.status != want {
			t.Errorf("feedback with %s: %d, want %d", key, got.status, want)
		}
	}
}

func TestFeedback(t *testing.T) {
	w := newWorld(t, setup{})
	id := string(w.chat(ask("auto", "")).round())
	for body, want := range map[string]int{
		`{"decision_id":"%s","score":0.5}`: 202,
		`{"decision_id":"%s","score":true,"source":"check","label":"x","metrics":{"bleu":0.3}}`: 202,
		`{"decision_id":"%s","score":0}`:                                                 202,
		`{"decision_id":"%s","score":1.01}`:                                              400,
		`{"decision_id":"%s","score":-0.1}`:                                              400,
		`{"decision_id":"%s","score":null}`:                                              400,
		`{"decision_id":"%s"}`:                                                           400,
		`{"decision_id":"%s","score":"1"}`:                                               400,
		`{"decision_id":"%s","score":1e400}`:                                             400,
		`{"decision_id":"%s","score":1,"source":"me"}`:                                   400,
		`{"decision_id":"%s","score":1} {}`:                                              400,
		`{"decision_id":"%s","score":1,"usage":{}}`:                                      400,
		`{"decision_id":"%s","score":1,"score":0}`:                                       400,
		`{"decision_id":"%s","score":1,"label":null}`:                                    202,
		`{"decision_id":"%s","score":1,"comment":"` + "\xff" + `"}`:                      400,
		`{"decision_id":"%s","score":1,"comment":"` + strings.Repeat("é", 2000) + `"}`:   202,
		`{"decision_id":"%s","score":1,"comment":"` + strings.Repeat("é", 2001) + `"}`:   400,
		`{"decision_id":"%s","score":1,"comment":"` + strings.Repeat("x", 64<<10) + `"}`: 413,
		`{"score":1}`: 400,
		`{"decision_id":"rnd_nonsense","score":1}`:                   404,
		`{"decision_id":"rnd_7ZZZZZZZZZZZZZZZZZZZZZZZZZ","score":1}`: 404, // from the far future
		`{"decision_id":"rnd_01ARZ3NDEKTSV4RRFFQ69G5FAV","score":1}`: 410, // from 2016
		`not json`: 400,
		`[]`:       400,
	} {
		if strings.Contains(body, "%s") {
			body = fmt.Sprintf(body, id)
		}
		if a := w.do("POST", "/v1/feedback", body); a.status != want {
			t.Errorf("%.100s: %d %s, want %d", body, a.status, a.body, want)
		} else if want == 202 && a.get("accepted") != true {
			t.Errorf("%.100s: %s", body, a.body)
		} else if want >= 400 && a.get("error.code") == nil {
			t.Errorf("%.100s: no error in %s", body, a.body)
		}
	}
}

// TestModelValues: what the model field may say and who then serves.
func TestModelValues(t *testing.T) {
	arms := append(threeArms(), catalog.Arm{ID: "two/cheap", Tier: catalog.TierLarge, Prices: threeArms()[1].Prices}, catalog.Arm{ID: "hub/llama:8b", Tier: catalog.TierSmall, Prices: threeArms()[0].Prices})
	w := newWorld(t, setup{arms: arms})
	for _, tt := range []struct{ body, served, strategy, reason string }{
		{ask("auto", ""), "one/cheap", "balanced", "only_candidate"},
		{ask("auto:cost", ""), "one/cheap", "cost", "only_candidate"},
		{ask("auto:quality", ""), "one/cheap", "quality", "only_candidate"},
		{ask("auto:floor", ""), "one/cheap", "cost", "only_candidate"},
		{ask("three/dear", ""), "three/dear", "balanced", "pinned"},
		{ask("three/dear:nitro", ""), "three/dear", "latency", "pinned"},
		{ask("dear", ""), "three/dear", "balanced", "pinned"},
		{ask("cheap", ""), "one/cheap", "availability", "only_candidate"},
		{ask("cheap:floor", ""), "one/cheap", "cost", "only_candidate"},
		{ask("llama:8b", ""), "hub/llama:8b", "balanced", "pinned"},
		{ask("auto", `,"models":["three/dear","two/middle"]`), "two/middle", "balanced", "predicted"},
		{ask("auto", `,"tradewind":{"models":["dear"]}`), "three/dear", "balanced", "only_candidate"},
		{ask("three/dear", `,"models":["one/cheap"]`), "three/dear", "balanced", "pinned"},
		{ask("auto", `,"tradewind":{"deny":["one/*","two/*","hub/*"]}`), "three/dear", "balanced", "only_candidate"},
		{ask("auto", `,"provider":{"only":["two"]}`), "two/middle", "balanced", "predicted"},
		{ask("auto", `,"tradewind":{"quality_floor":0.999}`), "one/cheap", "balanced", "floor_reference"},
		{ask("auto", `,"tradewind":{"quality_floor":{"reference":"three/dear","epsilon":0}}`), "three/dear", "balanced", "only_candidate"},
	} {
		a := w.chat(tt.body).wantOK()
		if got := a.header.Get("X-Tradewind-Model"); got != tt.served || a.header.Get("X-Tradewind-Strategy") != tt.strategy || a.header.Get("X-Tradewind-Reason") != tt.reason {
			t.Errorf("%.60s: %s, strategy %s, reason %s; want %v", tt.body, got, a.header.Get("X-Tradewind-Strategy"), a.header.Get("X-Tradewind-Reason"), tt)
		}
		if sent := w.vendor.calls[len(w.vendor.calls)-1].body; strings.Contains(sent, "tradewind") || strings.Contains(sent, `"models"`) {
			t.Errorf("the vendor was sent %s", sent)
		}
	}
}

// TestFallbackOrder: a list of models beside a concrete name gives the stand-ins in that order, and nobody else does.
func TestFallbackOrder(t *testing.T) {
	for name, tt := range map[string]struct {
		body  string
		want  string
		calls int
	}{
		"listed":              {ask("two/middle", `,"models":["three/dear","one/cheap"]`), "[two/middle three/dear one/cheap]", 3},
		"pinned, alone":       {ask("two/middle", ""), "[two/middle two/middle]", 2}, // the one retry of the same arm
		"fallback off":        {ask("two/middle", `,"models":["one/cheap"],"tradewind":{"fallback":false}`), "[two/middle]", 1},
		"auto, fallback off":  {ask("auto", `,"tradewind":{"fallback":false}`), "[one/cheap]", 1},
		"stream, off":         {ask("auto", `,"stream":true,"disable_fallbacks":true`), "[one/cheap]", 1},
		"auto":                {ask("auto", ""), "[one/cheap two/middle three/dear]", 3},
		"cap binds stand-ins": {ask("one/cheap", `,"max_tokens":100,"models":["three/dear"],"tradewind":{"max_cost_usd":0.0005}`), "[one/cheap one/cheap]", 2},
	} {
		w := newWorld(t, setup{})
		w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.Server, 500) })
		a := w.chat(tt.body)
		a.wantError(http.StatusBadGateway, openai.UpstreamFailed)
		if got := fmt.Sprint(w.vendor.called()); got != tt.want || a.header.Get("X-Tradewind-Attempts") != fmt.Sprint(tt.calls) {
			t.Errorf("%s: called %s, header %q, want %s", name, got, a.header.Get("X-Tradewind-Attempts"), tt.want)
		}
		if n := len(a.get("error.tradewind.attempts").([]any)); n != tt.calls {
			t.Errorf("%s: %d attempts are listed, want %d", name, n, tt.calls)
		}
	}
}

func TestRateLimits(t *testing.T) {
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, RequestsPerMinute: 2, TokensPerMinute: 10_000}}}})
	a := w.chat(ask("auto", ""), bearer(keyA)...).wantOK()
	if a.header.Get("X-Ratelimit-Limit-Requests") != "2" || a.header.Get("X-Ratelimit-Remaining-Requests") != "1" || a.header.Get("X-Ratelimit-Reset-Tokens") == "" {
		t.Errorf("headers %v", a.header)
	}
	w.do("POST", "/v1/route", ask("auto", ""), bearer(keyA)...).wantOK() // counts as one request
	a = w.chat(ask("auto", ""), bearer(keyA)...)
	a.wantError(http.StatusTooManyRequests, openai.RateLimitExceeded)
	if a.header.Get("Retry-After") == "" || a.header.Get("Retry-After-Ms") == "" || a.header.Get("X-Should-Retry") != "true" || a.header.Get("X-Ratelimit-Remaining-Requests") != "0" {
		t.Errorf("headers %v", a.header)
	}
	if got := a.get("error.tradewind.reason"); got != "rate_limited_requests" {
		t.Errorf("reason %v", got)
	}
}

// TestConcurrency: a key has so many requests at once, and each gives its place back however it ends.
func TestConcurrency(t *testing.T) {
	w := newWorld(t, setup{panics: true, auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Concurrent: 1}}}})
	w.vendor.play(func(n int, _ *upstream.Request) (*script, error) {
		switch n {
		case 1:
			return &script{before: func(int) {
				a := w.chat(ask("auto", ""), bearer(keyA)...)
				a.wantError(http.StatusTooManyRequests, openai.RateLimitExceeded)
				if got := a.get("error.tradewind.reason"); got != "rate_limited_concurrent" || a.header.Get("Retry-After") == "" {
					t.Errorf("reason %v, headers %v", got, a.header)
				}
			}}, nil
		case 2:
			return nil, fails(upstream.BadRequest, 400)
		case 3:
			return &script{panicAt: 1}, nil
		}
		return &script{}, nil
	})
	for i, want := range []int{200, 400, 500, 200} {
		if a := w.chat(ask("auto", `,"stream":true`), bearer(keyA)...); a.status != want {
			t.Errorf("request %d: got %d %.300s, want %d", i+1, a.status, a.body, want)
		}
		if a := w.do("POST", "/v1/route", ask("auto", ""), bearer(keyA)...); a.status != 200 {
			t.Errorf("a dry run behind it: got %d %.300s", a.status, a.body)
		}
	}
}

func TestOptions(t *testing.T) {
	if _, err := serving.New(serving.Options{}); err == nil || !strings.Contains(err.Error(), "is required") {
		t.Errorf("empty options: %v", err)
	}
	now := time.Unix(1e9, 0)
	w := newWorld(t, setup{options: serving.Options{Now: func() time.Time { return now }}})
	if a := w.chat(ask("auto", "")).wantOK(); a.header.Get("X-Tradewind-Overhead-Ms") != "0.000" {
		t.Errorf("the clock is not the given one: %v", a.header)
	}
}

// TestMetadataTags: they are the round's tags on every surface, and no vendor's of any dialect.
func TestMetadataTags(t *testing.T) {
	w := newWorld(t, setup{})
	for path, body := range map[string]string{
		"/v1/chat/completions": ask("auto", `,"metadata":{"tags":["job:nightly"]}`),
		"/v1/messages":         message("auto", `,"metadata":{"user_id":"u","tags":["job:nightly"]}`),
		"/v1/responses":        `{"model":"auto","input":"hi","metadata":{"tags":["job:nightly"]}}`,
	} {
		w.vendor.play(nil)
		d, _ := w.outcome(w.do("POST", path, body).wantOK())
		if sent := w.vendor.calls[0].body; d.Tags["job"] != "nightly" || strings.Contains(sent, "nightly") {
			t.Errorf("%s: tags %v, sent %s", path, d.Tags, sent)
		}
	}
}
