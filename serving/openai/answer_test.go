package openai

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

func chunkOf(t *testing.T, data string) *Chunk {
	t.Helper()
	c, err := ParseChunk([]byte(data))
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return &c
}

func TestChunkKinds(t *testing.T) {
	choice := func(delta, finish string) string {
		return `{"id":"c","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + finish + `}]}`
	}
	for data, want := range map[string]Kind{
		`[DONE]`: IsDone,
		`{}`:     0,
		choice(`{"role":"assistant","content":""}`, "null"):                        0,
		choice(`{"role":"assistant","content":null,"tool_calls":[]}`, "null"):      0,
		choice(`{"content":"x"}`, "null"):                                          HasContent,
		choice(`{"reasoning_content":"x"}`, "null"):                                HasContent,
		choice(`{"tool_calls":[{"index":0}]}`, "null"):                             HasContent,
		choice(`{"images":[{"x":1}]}`, "null"):                                     HasContent,
		choice(`{"content":"\"finish_reason\":\"stop\",\"usage\":{}"}`, "null"):    HasContent,
		choice(`{}`, `"stop"`):                                                     HasFinish,
		choice(`{}`, `"length"`):                                                   HasFinish | HasContent | IsEmpty,
		choice(`{}`, `"content_filter"`):                                           HasFinish | HasContent | IsEmpty,
		`{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}`:         HasUsage,
		`{"choices":[],"usage":null,"error":null}`:                                 0,
		`{"error":{"message":"x"}}`:                                                HasError,
		`{"error":"x"}`:                                                            HasError,
		`{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}`:         HasContent | HasFinish,
		`{"choices":[{"message":{"content":[ ]},"finish_reason":"tool_calls"}]}`:   HasFinish,
		`{"metadata":{"usage":{},"error":"x","choices":[{"delta":{"text":"x"}}]}}`: 0,
	} {
		if got := chunkOf(t, data).Kind; got != want {
			t.Errorf("%s: got %06b, want %06b", data, got, want)
		}
	}
	for _, bad := range []string{``, `[]`, `"x"`, `{`, `{"a":1}}`, `nonsense`, "{\"a\":\"\xff\"}"} {
		if _, err := ParseChunk([]byte(bad)); err == nil {
			t.Errorf("%q passed for a chunk", bad)
		}
	}
}

var cost = &Cost{Priced: true, Total: 155_000, Input: 5_000, Output: 150_000}

const costJSON = `"cost":0.000155,"cost_details":{"input":0.000005,"output":0.00015,"cache_read":0,"cache_write":0,"router":0,"currency":"USD"}`

func TestAppendAnswer(t *testing.T) {
	tests := []struct {
		name, in string
		f        Final
		want     string
	}{
		{"cost", `{"id":"x", "model" : "m", "choices":[{"message":{"content":"\u00e4","model":"m"}}],"usage":{"prompt_tokens":1,"completion_tokens":2,"cost":9,"x":[1]}}`,
			Final{Cost: cost},
			`{"id":"x","model":"a/b","choices":[{"message":{"content":"\u00e4","model":"m"}}],"usage":{"prompt_tokens":1,"completion_tokens":2,"x":[1],` + costJSON + `}}`},
		{"unpriced", `{"model":"m","usage":{"prompt_tokens":1,"completion_tokens":2}}`, Final{Cost: &Cost{}},
			`{"model":"a/b","usage":{"prompt_tokens":1,"completion_tokens":2,"cost":null,"cost_details":null}}`},
		{"estimated", `{"model":"m","choices":[]}`, Final{Cost: cost, Estimate: Usage{Known: true, Input: 3, Output: 4}},
			`{"model":"a/b","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"tradewind_estimated":true,` + costJSON + `}}`},
		{"zero is not missing", `{"model":"m","usage":{"prompt_tokens":0,"completion_tokens":0}}`, Final{Cost: cost, Estimate: Usage{Known: true, Input: 3}},
			`{"model":"a/b","usage":{"prompt_tokens":0,"completion_tokens":0,` + costJSON + `}}`},
		{"unknown", `{"model":"m"}`, Final{Cost: cost}, `{"model":"a/b","usage":null}`},
		{"explain", `{"choices":[],"tradewind":1}`, Final{Explain: []byte(`{"id":"rnd_1"}`)}, `{"choices":[],"model":"a/b","tradewind":{"id":"rnd_1"}}`},
	}
	for _, test := range tests {
		got, err := AppendAnswer(nil, chunkOf(t, test.in), "a/b", test.f)
		if err != nil || string(got) != test.want || !json.Valid(got) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", test.name, err, got, test.want)
		}
	}
}

// TestRewriter: however usage is reported, the client gets it once and last, with null in every chunk before, or not at all.
func TestRewriter(t *testing.T) {
	const u = `{"prompt_tokens":1,"completion_tokens":2}`
	hello := `{"id":"c1","created":7,"model":"m","choices":[{"delta":{"content":"hello"}}],"usage":null}`
	finish := func(usage string) string {
		return `{"id":"c1","created":7,` + usage + `"model":"m","choices":[{"delta":{},"finish_reason":"stop"}]}`
	}
	extra := `{"id":"c1","created":7,"model":"m","choices":[],"usage":` + u + `}`
	served := func(s string) string { return strings.Replace(s, `"model":"m"`, `"model":"a/b"`, 1) }
	last := `{"id":"c1","object":"chat.completion.chunk","created":7,"model":"a/b","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,` + costJSON + `}}`
	variants := map[string][]string{
		"extra chunk": {hello, finish(""), extra},
		"last delta":  {hello, finish(`"usage":` + u + `,`)},
		"both":        {hello, finish(`"usage":` + u + `,`), extra},
	}
	for name, in := range variants {
		for _, include := range []bool{true, false} {
			w := Rewriter{Served: "a/b", IncludeUsage: include}
			var got []string
			for _, data := range in {
				if out := w.AppendChunk(nil, chunkOf(t, data)); len(out) > 0 {
					got = append(got, string(out))
				}
			}
			if out := w.AppendLast(nil, Final{Cost: cost}); len(out) > 0 {
				got = append(got, string(out))
			}
			want := []string{served(hello), served(finish(""))}
			if name != "extra chunk" {
				want[1] = served(finish(`"usage":null,`))
			}
			if include {
				if name == "extra chunk" {
					want[1] = strings.TrimSuffix(want[1], "}") + `,"usage":null}`
				}
				want = append(want, last)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, asked %v:\ngot  %s\nwant %s", name, include, got, want)
			}
			if want := (Usage{Known: true, Input: 1, Output: 2}); w.Usage() != want {
				t.Errorf("%s: usage %+v, want %+v", name, w.Usage(), want)
			}
		}
	}
}

func TestRewriterEnds(t *testing.T) {
	w := Rewriter{Served: "a/b"}
	w.AppendChunk(nil, chunkOf(t, `{"id":"c1","created":7,"model":"m","choices":[{"delta":{"content":"x"}}]}`))
	if got, want := string(w.AppendLast(nil, Final{Explain: []byte(`{"id":"r"}`)})), `{"id":"c1","object":"chat.completion.chunk","created":7,"model":"a/b","choices":[],"tradewind":{"id":"r"}}`; got != want {
		t.Errorf("explain: got %s, want %s", got, want)
	}
	want := `{"id":"c1","object":"chat.completion.chunk","created":7,"model":"a/b","error":{"message":"broke","type":"server_error","code":"upstream_failed"},"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}`
	if got := string(w.AppendFailure(nil, NewError(UpstreamFailed, "broke"))); got != want {
		t.Errorf("failure: got %s, want %s", got, want)
	}
	if got, want := string(w.AppendChunk(nil, chunkOf(t, ` {"choices":[{"delta":{"content":"x"}}]}`))), ` {"model":"a/b","choices":[{"delta":{"content":"x"}}]}`; got != want {
		t.Errorf("a chunk without a model: got %s, want %s", got, want)
	}
	w = Rewriter{Served: "a/b", IncludeUsage: true}
	if got, want := string(w.AppendChunk(nil, chunkOf(t, `{"note":1}`))), `{"note":1}`; got != want {
		t.Errorf("what is no chunk of an answer: got %s, want %s", got, want)
	}
	got := string(w.AppendLast(nil, Final{Cost: cost, Estimate: Usage{Known: true, Input: 3, Output: 4}}))
	if !strings.Contains(got, `"tradewind_estimated":true`) || !json.Valid([]byte(got)) {
		t.Errorf("no usage and no id from the vendor: got %s", got)
	}
}

// What is not chat looks like itself to the end.
func TestRewriterOfCompletions(t *testing.T) {
	w := Rewriter{Served: "a/b", Completions: true, IncludeUsage: true}
	c := chunkOf(t, `{"id":"c1","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":"x","finish_reason":null}]}`)
	if got, want := string(w.AppendChunk(nil, c)), `{"id":"c1","object":"text_completion","created":7,"model":"a/b","choices":[{"index":0,"text":"x","finish_reason":null}],"usage":null}`; got != want || !c.Kind.Has(HasContent) {
		t.Errorf("chunk: got %s, want %s", got, want)
	}
	const head = `{"id":"c1","object":"text_completion","created":7,"model":"a/b",`
	if got, want := string(w.AppendLast(nil, Final{})), head+`"choices":[],"usage":null}`; got != want {
		t.Errorf("last: got %s, want %s", got, want)
	}
	want := head + `"error":{"message":"broke","type":"server_error","code":"upstream_failed"},"choices":[{"index":0,"text":"","finish_reason":"error"}]}`
	if got := string(w.AppendFailure(nil, NewError(UpstreamFailed, "broke"))); got != want {
		t.Errorf("failure: got %s, want %s", got, want)
	}
}

func TestPrice(t *testing.T) {
	p := catalog.Prices{Known: true, Rates: catalog.Rates{Input: 1_000_000, Output: 2_000_001, CacheRead: 100_000, CacheWrite: 1_250_000}}
	c, err := Price(&p, catalog.Usage{Input: 10, CacheRead: 5, CacheWrite: 1, Output: 3})
	// 10·1000 + 5·100 + 1250 + 6000.003 nanodollars, rounded up once
	if want := (Cost{Priced: true, Total: 17751, Input: 10000, Output: 6001, CacheRead: 500, CacheWrite: 1250}); err != nil || c != want {
		t.Errorf("got %+v (%v), want %+v", c, err, want)
	}
	if c, err := Price(&catalog.Prices{}, catalog.Usage{Input: 1}); err != nil || c.Priced {
		t.Errorf("no price: got %+v (%v), want unpriced", c, err)
	}
}

func TestWriteError(t *testing.T) {
	w := httptest.NewRecorder()
	e := NewError(InsufficientQuota, "the budget of key <k> is used up")
	e.Reason, e.Extra = "budget_exceeded_key", map[string]any{"limit_usd": catalog.Nanodollars(5_000_000)}
	e.RetryAfter = 1200 * time.Millisecond
	WriteError(w, e, "req_1", "rnd_1")
	want := `{"error":{"message":"the budget of key <k> is used up","type":"insufficient_quota","param":null,"code":"insufficient_quota","tradewind":{"decision_id":"rnd_1","limit_usd":0.005,"reason":"budget_exceeded_key","request_id":"req_1"}}}`
	if w.Code != 429 || w.Body.String() != want {
		t.Errorf("got %d %s\nwant 429 %s", w.Code, w.Body, want)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "X-Should-Retry": "false", "Retry-After": "2", "Retry-After-Ms": "1200",
		"X-Request-Id": "req_1", "X-Tradewind-Decision-Id": "rnd_1", "X-Tradewind-Error": "budget_exceeded_key"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	e.Extra["bad"] = func() {}
	if got := AppendError(nil, e, "", ""); !json.Valid(got) || !strings.Contains(string(got), "budget_exceeded_key") {
		t.Errorf("an extra that cannot be encoded: got %s", got)
	}
	if e := AsError(errors.New("json: secret")); e.Status != 500 || strings.Contains(e.Message, "secret") {
		t.Errorf("a foreign error: got %d %q, want 500 that tells nothing", e.Status, e.Message)
	}
}

// TestCodes: statuses and types of the table in the conventions, section 10.
func TestCodes(t *testing.T) {
	for code, want := range map[Code]string{
		InvalidRequest: "400 invalid_request_error", ContextLengthExceeded: "400 invalid_request_error", NoCandidate: "400 invalid_request_error",
		InvalidAPIKey: "401 authentication_error", ModelNotAllowed: "403 permission_error", ModelNotFound: "404 invalid_request_error",
		MethodNotAllowed: "405 invalid_request_error", InProgress: "409 invalid_request_error", DecisionExpired: "410 invalid_request_error",
		RequestTooLarge: "413 invalid_request_error", RateLimitExceeded: "429 rate_limit_error", InsufficientQuota: "429 insufficient_quota",
		InternalError: "500 server_error", UpstreamFailed: "502 server_error", Overloaded: "503 server_error", Timeout: "504 server_error",
		Code("made_up"): "500 server_error",
	} {
		e := NewError(code, "x")
		if got := strings.Join([]string{jsonOf(t, e.Status), e.Type}, " "); got != want {
			t.Errorf("%s: got %s, want %s", code, got, want)
		}
	}
	if e := NewError(IdempotencyMismatch, "x"); e.ShouldRetry != No {
		t.Error("another body under the same key must not be retried")
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestModelList(t *testing.T) {
	arms := append(catalog.Simulated()[:1], catalog.Arm{ID: "x/y"})
	l := NewModelList(arms, time.Unix(1000, 0))
	if len(l.Data) != 8 || l.Data[0].ID != "auto" || l.Data[1].ID != "auto:cost" {
		t.Fatalf("got %s", jsonOf(t, l))
	}
	want := `{"id":"sim/cheap","object":"model","created":1000,"owned_by":"sim","tradewind":{"base_model":"sim/cheap","context_tokens":128000,"max_output_tokens":8192,"tier":"small",` +
		`"prices":{"input":0.15,"output":0.6,"cache_read":null,"cache_write":null},"supports":["tools","json_schema"],"simulated":true}}`
	if got := jsonOf(t, l.Data[6]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := jsonOf(t, l.Data[7]), `{"id":"x/y","object":"model","created":1000,"owned_by":"x","tradewind":{}}`; got != want {
		t.Errorf("what is unknown is absent: got %s, want %s", got, want)
	}
}

func TestParseModel(t *testing.T) {
	for in, want := range map[string]Target{
		"auto":                {Auto: true},
		"auto:cost":           {Auto: true, Strategy: StrategyCost},
		"auto:floor":          {Auto: true, Strategy: StrategyCost},
		"auto:nitro":          {Auto: true, Strategy: StrategyLatency, Throughput: true},
		"auto:best":           {Name: "auto:best"},
		"auto:":               {Name: "auto:"},
		"auto/code":           {Auto: true, Group: "code"},
		"auto/code:quality":   {Auto: true, Group: "code", Strategy: StrategyQuality},
		"auto/":               {Name: "auto/"},
		"automatic":           {Name: "automatic"},
		"openai/gpt-5":        {Name: "openai/gpt-5"},
		"gpt-5":               {Name: "gpt-5"},
		"llama3:8b":           {Name: "llama3:8b"},
		"llama3:8b:floor":     {Name: "llama3:8b:floor", Base: "llama3:8b", Strategy: StrategyCost},
		"a/b:nitro":           {Name: "a/b:nitro", Base: "a/b", Strategy: StrategyLatency, Throughput: true},
		"bedrock/claude-v1:0": {Name: "bedrock/claude-v1:0"},
		":floor":              {Name: ":floor"},
		"openrouter/auto":     {Name: "openrouter/auto"},
	} {
		if got := ParseModel(in); got != want {
			t.Errorf("%s: got %+v, want %+v", in, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	got := Nearest("openai/gpt5-mni", []string{"x", "openai/gpt-5-mini", "anthropic/claude", "openai/gpt-5"}, 3)
	if want := []string{"openai/gpt-5-mini", "openai/gpt-5"}; !reflect.DeepEqual(got, want) {
		t.Errorf("nearest: got %q, want %q", got, want)
	}
}

// FuzzChunk: what passes for a chunk is JSON, and stays JSON when it is rewritten.
func FuzzChunk(f *testing.F) {
	f.Add([]byte(benchChunk))
	f.Add([]byte(`{"usage":{"prompt_tokens":1,"completion_tokens":2},"model":"m","choices":[{"usage":{"a":1},"delta":{"content":"x"}}]}`))
	f.Add([]byte(`{"choices":[],"usage":{"cost":1},"id":null,"created":1e5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseChunk(data)
		if err != nil || c.Kind == IsDone {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted what is no JSON: %s", data)
		}
		w := Rewriter{Served: "a/b", IncludeUsage: true}
		if out := w.AppendChunk(nil, &c); len(out) > 0 && !json.Valid(out) {
			t.Fatalf("chunk: no JSON: %s", out)
		}
		f := Final{Cost: cost, Explain: []byte(`{}`)}
		if out := w.AppendLast(nil, f); !json.Valid(out) {
			t.Fatalf("last chunk: no JSON: %s", out)
		}
		if out, err := AppendAnswer(nil, &c, "a/b", f); err != nil || !json.Valid(out) {
			t.Fatalf("answer: %v: %s", err, out)
		}
	})
}
