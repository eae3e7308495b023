package serving_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/anthropic"
	"github.com/tradewind-llm/tradewind/serving/upstream/bedrock"
)

// message is a request in Messages, with further members such as `,"stream":true`.
func message(model, more string) string {
	return `{"model":"` + model + `","max_tokens":100,` + question + more + `}`
}

func (w *world) messages(body string, header ...string) *answer {
	w.Helper()
	return w.do("POST", "/v1/messages", body, header...)
}

// wantAnthropicError checks status, type and the exact shape of an error in Messages.
func (a *answer) wantAnthropicError(status int, kind string) {
	a.Helper()
	var e struct {
		Type  string `json:"type"`
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
		RequestID string `json:"request_id"`
	}
	dec := json.NewDecoder(strings.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		a.Fatalf("%v in %d %.400s", err, a.status, a.body)
	}
	if a.status != status || e.Type != "error" || e.Error.Type != kind || e.Error.Message == "" || e.RequestID == "" || e.RequestID != a.header.Get("X-Request-Id") {
		a.Errorf("got %d %s, want %d %s", a.status, a.body, status, kind)
	}
}

// named are the names and payloads of a stream in Messages.
func (a *answer) named() (names, payloads []string) {
	a.Helper()
	for e := range strings.SplitSeq(strings.TrimSuffix(a.body, "\n\n"), "\n\n") {
		head, data, ok := strings.Cut(e, "\ndata: ")
		name, ok2 := strings.CutPrefix(head, "event: ")
		if !ok || !ok2 || dig(a, data, "type") != name {
			a.Fatalf("not a named event: %q", e)
		}
		names, payloads = append(names, name), append(payloads, data)
	}
	return names, payloads
}

// claude is a server that speaks Messages, at prices at which each kind of token shows, beside an arm that speaks chat.
func claude(t *testing.T, script http.HandlerFunc) *world {
	t.Helper()
	server := httptest.NewServer(script)
	t.Cleanup(server.Close)
	p := must(anthropic.New(anthropic.Options{BaseURL: server.URL + "/v1", Key: "sk-ant-0123456789"}))(t)
	t.Cleanup(func() { _ = p.Close() })
	arms := []catalog.Arm{threeArms()[0], {
		ID: "anthropic/claude", Tier: catalog.TierLarge, ContextTokens: 8000, MaxOutputTokens: 1000, Capabilities: catalog.Tools | catalog.Reasoning | catalog.Vision | catalog.PDF,
		Prices: catalog.Prices{Known: true, Rates: catalog.Rates{Input: 3_000_000, CacheRead: 300_000, CacheWrite: 3_750_000, CacheWrite1h: 6_000_000, Output: 15_000_000, Reasoning: 15_000_000}},
	}}
	w := newWorld(t, setup{arms: arms, providers: map[string]upstream.Provider{"one": &vendor{}, "anthropic": p}})
	return w
}

const (
	claudeWhole = `{"id":"msg_01","type":"message","role":"assistant","model":"claude","content":[{"type":"text","text":"391"}],"stop_reason":"end_turn","stop_sequence":null,` +
		`"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":20,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":3},"output_tokens":7,"service_tier":"standard"}}`
	// 10 × 3 + 20 × 0.3 + 2 × 3.75 + 3 × 6 + 7 × 15 dollars a million.
	claudeCost = "0.0001665"
)

var claudeEvents = []string{
	`{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude","content":[],"stop_reason":null,"stop_sequence":null,` +
		`"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":20,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":3},"output_tokens":1}}}`,
	`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
	`{"type":"ping"}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"17·23"}}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}`,
	`{"type":"content_block_stop","index":0}`,
	`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
	`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"391"}}`,
	`{"type":"content_block_stop","index":1}`,
	`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":7}}`,
	`{"type":"message_stop"}`,
}

func sse(events ...string) string {
	var out strings.Builder
	for _, e := range events {
		_, rest, _ := strings.Cut(e, `"type":"`)
		name, _, _ := strings.Cut(rest, `"`)
		fmt.Fprintf(&out, "event: %s\ndata: %s\n\n", name, e)
	}
	return out.String()
}

// answering answers as the API does, and keeps what it was sent.
func answering(bodies *[]string, headers *[]http.Header) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*bodies, *headers = append(*bodies, string(body)), append(*headers, r.Header)
		if strings.Contains(string(body), `"stream":true`) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			_, _ = io.WriteString(w, sse(claudeEvents...))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, claudeWhole)
	}
}

// TestMessagesNative: a client of Messages at an arm that speaks it. The body and the events are passed on as they are,
// but for the model and the cost, and every kind of token is charged at its own price.
func TestMessagesNative(t *testing.T) {
	var bodies []string
	var headers []http.Header
	w := claude(t, answering(&bodies, &headers))
	const odd = `,"top_k":5,"system":[{"type":"text","text":"short","cache_control":{"type":"ephemeral","ttl":"1h"}}],"x_new":{"kept":[1.50,"\u00e4"]}`
	a := w.messages(message("anthropic/claude", odd+`,"tradewind":{"tags":{"a":"b"}}`), "Anthropic-Version", "2023-06-01", "Anthropic-Beta", "b-1,b-2").wantOK()
	if want := `{"model":"claude","max_tokens":100,` + question + odd + `}`; bodies[0] != want {
		t.Errorf("the vendor got %s, want %s", bodies[0], want)
	}
	if h := headers[0]; h.Get("X-Api-Key") != "sk-ant-0123456789" || h.Get("Anthropic-Version") != "2023-06-01" || h.Get("Anthropic-Beta") != "b-1,b-2" {
		t.Errorf("the vendor got headers %v", h)
	}
	want := strings.Replace(claudeWhole, `"model":"claude"`, `"model":"anthropic/claude"`, 1)
	if got := a.body[:strings.Index(a.body, `,"cost"`)]; got != want[:len(want)-2] || a.get("usage.cost") != claudeCost || a.header.Get("X-Tradewind-Cost-Usd") != claudeCost {
		t.Errorf("headers %v, body %s", a.header, a.body)
	}
	d, o := w.outcome(a)
	if o.Cost.String() != claudeCost || o.CostStatus != datasets.CostFinal || o.Usage.CacheWrite1h != 3 || d.Hold < o.Cost || d.Tags["a"] != "b" {
		t.Errorf("decision %+v, outcome %+v", d, o)
	}
	a = w.messages(message("anthropic/claude", `,"stream":true`)).wantOK()
	_, payloads := a.named()
	for i, e := range claudeEvents {
		switch i {
		case 0:
			e = strings.Replace(e, `"model":"claude"`, `"model":"anthropic/claude"`, 1)
		case len(claudeEvents) - 2:
			e = strings.Replace(e, `"output_tokens":7}}`, `"output_tokens":7,"cost":`+claudeCost, 1)
			payloads[i] = payloads[i][:min(len(e), len(payloads[i]))]
		}
		if payloads[i] != e {
			t.Errorf("event %d: got %s, want %s", i, payloads[i], e)
		}
	}
	whole := w.messages(message("anthropic/claude", ""), "X-Request-Id", "mine").wantOK()
	if id := whole.header.Get("Request-Id"); id != "mine" || a.header.Get("Request-Id") != a.header.Get("X-Request-Id") {
		t.Errorf("Anthropic's SDKs find the request id %q and %q", id, a.header.Get("Request-Id"))
	}
	if _, o := w.outcome(a); o.Cost.String() != claudeCost || o.CostStatus != datasets.CostFinal || len(payloads) != len(claudeEvents) {
		t.Errorf("%d events, outcome %+v", len(payloads), o)
	}
}

// TestChatAtClaude: a client of chat at an arm that speaks Messages.
func TestChatAtClaude(t *testing.T) {
	var bodies []string
	var headers []http.Header
	w := claude(t, answering(&bodies, &headers))
	a := w.chat(ask("anthropic/claude", `,"max_tokens":50,"stop":"x"`), "Anthropic-Beta", "not for chat").wantOK()
	if want := `{"model":"claude","messages":[{"role":"user","content":"What is 17 times 23?"}],"stop_sequences":["x"],"max_tokens":50}`; bodies[0] != want || headers[0].Get("Anthropic-Beta") != "" {
		t.Errorf("the vendor got %s", bodies[0])
	}
	choice := a.get("choices").([]any)[0].(map[string]any)
	if fmt.Sprint(choice["message"]) != "map[content:391 role:assistant]" || choice["finish_reason"] != "stop" || a.get("usage.prompt_tokens") != "35" || a.get("usage.cost") != claudeCost {
		t.Errorf("body %s", a.body)
	}
	a = w.chat(ask("anthropic/claude", `,"stream":true,"stream_options":{"include_usage":true}`)).wantOK()
	events := a.events()
	if a.text() != "391" || !strings.Contains(a.body, `"reasoning_content":"17·23"`) || dig(t, events[len(events)-2], "usage.cost") != claudeCost || events[len(events)-1] != "[DONE]" {
		t.Errorf("events %q", events)
	}
	if !strings.Contains(bodies[1], `"max_tokens":1000`) {
		t.Errorf("the default cap was not sent: %s", bodies[1])
	}
	// What the API has no place for filters the arm, or is named where the arm was.
	w.chat(ask("anthropic/claude", `,"seed":1`)).wantError(400, "no_candidate")
	if a := w.chat(ask("anthropic/claude", `,"seed":1`)); a.get("error.param") != "seed" || !strings.Contains(a.body, "param_unsupported") {
		t.Errorf("body %s", a.body)
	}
	if a := w.chat(ask("auto", `,"seed":1,"tradewind":{"quality_floor":{"reference":"one/cheap"}}`)).wantOK(); a.header.Get("X-Tradewind-Model") != "one/cheap" {
		t.Errorf("headers %v", a.header)
	}
}

// TestMessagesTranslated: a client of Messages at an arm that speaks chat.
func TestMessagesTranslated(t *testing.T) {
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Budget: governance.BudgetConfig{DayUSD: dollars(1)}}}}})
	a := w.messages(message("auto", `,"system":"Be short."`), "X-Api-Key", keyA).wantOK()
	if want := `{"model":"cheap","max_tokens":100,"messages":[{"role":"system","content":"Be short."},{"role":"user","content":"What is 17 times 23?"}]}`; w.vendor.calls[0].body != want {
		t.Errorf("the vendor got %s, want %s", w.vendor.calls[0].body, want)
	}
	const want = `{"id":"msg_answer-1","type":"message","role":"assistant","model":"one/cheap","content":[{"type":"text","text":"391"}],"stop_reason":"end_turn","stop_sequence":null,` +
		`"usage":{"input_tokens":7,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3,"cost":0.000013,`
	if !strings.HasPrefix(a.body, want) || a.header.Get("X-Tradewind-Model") != "one/cheap" || a.header.Get("X-Tradewind-Budget-Remaining-Usd") != "0.999987" {
		t.Errorf("headers %v, body %s", a.header, a.body)
	}
	a = w.messages(message("auto", `,"stream":true,"tradewind":{"explain":true}`), "X-Api-Key", keyA).wantOK()
	names, payloads := a.named()
	last := payloads[len(payloads)-2]
	if got := strings.Join(names, " "); got != "message_start content_block_start content_block_delta content_block_delta content_block_delta content_block_stop message_delta message_stop" {
		t.Errorf("events %s", got)
	}
	if dig(t, payloads[0], "message.model") != "one/cheap" || dig(t, last, "usage.cost") != "0.000013" || dig(t, last, "usage.input_tokens") != "7" || dig(t, last, "tradewind.action") != "one/cheap" {
		t.Errorf("first %s, last %s", payloads[0], last)
	}
	if a.header.Get("Content-Type") != "text/event-stream; charset=utf-8" || a.round() == "" {
		t.Errorf("headers %v", a.header)
	}
	// A vendor that tells no usage: it is counted, and marked.
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{delta("a"), delta("b"), finish}}, nil
	})
	_, payloads = w.messages(message("auto", `,"stream":true`), "X-Api-Key", keyA).wantOK().named()
	if last := payloads[len(payloads)-2]; dig(t, last, "usage.tradewind_estimated") != true || dig(t, last, "usage.output_tokens") == "0" {
		t.Errorf("usage %s", last)
	}
}

// TestMessagesSayWhatCannotBeSaid: what chat has no words for reaches only arms that speak Messages, and where there are
// none the field is named.
func TestMessagesSayWhatCannotBeSaid(t *testing.T) {
	var bodies []string
	var headers []http.Header
	w := claude(t, answering(&bodies, &headers))
	signed := `{"model":"%s","max_tokens":100,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"%s"},{"type":"text","text":"b"}]},{"role":"user","content":"c"}]}`
	for body, field := range map[string]string{
		message("%s", `,"top_k":5`):                                        "top_k",
		fmt.Sprintf(signed, "%s", "c2lnbmVk"):                              "messages[1].content[0]",
		message("%s", `,"x_new":{"a":true}`):                               "x_new",
		message("%s", `,"tools":[{"type":"bash_20250124","name":"bash"}]`): "tools[0].type",
	} {
		if a := w.messages(fmt.Sprintf(body, "auto")).wantOK(); a.header.Get("X-Tradewind-Model") != "anthropic/claude" {
			t.Errorf("%s: answered by %s", field, a.header.Get("X-Tradewind-Model"))
		}
		a := w.messages(fmt.Sprintf(body, "one/cheap"))
		a.wantAnthropicError(400, "invalid_request_error")
		if !strings.Contains(a.body, field+" cannot be said") {
			t.Errorf("%s is not named: %s", field, a.body)
		}
		if d := w.do("POST", "/v1/route?format=anthropic", fmt.Sprintf(body, "auto")).wantOK(); !strings.Contains(d.body, `"filter":"dialect"`) {
			t.Errorf("%s: the decision names no filter: %s", field, d.body)
		}
	}
	// What another model thought is not Claude's.
	a := w.messages(fmt.Sprintf(signed, "anthropic/claude", ""))
	a.wantAnthropicError(400, "invalid_request_error")
	if a := w.messages(fmt.Sprintf(signed, "auto", "")).wantOK(); a.header.Get("X-Tradewind-Model") != "one/cheap" {
		t.Errorf("answered by %s", a.header.Get("X-Tradewind-Model"))
	}
	for more, field := range map[string]string{
		`,"tools":[{"type":"web_search_20250305","name":"web_search"}]`: "tools[0].type", `,"mcp_servers":[{"url":"x"}]`: "mcp_servers",
		`,"speed":"fast"`: "speed", `,"inference_geo":"us"`: "inference_geo",
	} {
		a := w.messages(message("anthropic/claude", more))
		a.wantAnthropicError(400, "invalid_request_error")
		if !strings.Contains(a.body, field) {
			t.Errorf("%s is not named: %s", field, a.body)
		}
	}
	// The tool runners of Anthropic's SDKs ask for a thread by themselves, and go on without where they read this code.
	for _, thread := range []string{`{"type":"create"}`, `{"type":"continue","previous_message_id":"msg_01"}`} {
		for _, model := range []string{"auto", "anthropic/claude", "one/cheap"} {
			a := w.messages(message(model, `,"thread":`+thread))
			if a.status != 400 || dig(t, a.body, "error.details.error_code") != "thread_unsupported_request" || dig(t, a.body, "error.type") != "invalid_request_error" {
				t.Errorf("a thread %s at %s: %d %s", thread, model, a.status, a.body)
			}
		}
	}
	w.messages(message("auto", `,"thread":null`)).wantOK()
}

// TestImageOfATool: vendors of chat let tools answer in text alone. Claude reads images of them too, whoever asks.
func TestImageOfATool(t *testing.T) {
	var bodies []string
	var headers []http.Header
	w := claude(t, answering(&bodies, &headers))
	const body = `{"model":"%s","input":[{"role":"user","content":"a"},{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":[{"type":"input_image","image_url":"https://a.example/b.png"}]}],"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]}`
	if a := w.do("POST", "/v1/responses", fmt.Sprintf(body, "auto")).wantOK(); a.header.Get("X-Tradewind-Model") != "anthropic/claude" {
		t.Errorf("answered by %s", a.header.Get("X-Tradewind-Model"))
	}
	if want := `{"type":"tool_result","tool_use_id":"c1","content":[{"type":"image","source":{"type":"url","url":"https://a.example/b.png"}}]}`; len(bodies) != 1 || !strings.Contains(bodies[0], want) {
		t.Errorf("Claude was asked %s, want %s in it", bodies, want)
	}
	if a := w.do("POST", "/v1/responses", fmt.Sprintf(body, "one/cheap")); a.status != 400 || !strings.Contains(a.body, "input[2].output cannot be said") {
		t.Errorf("got %d %s, want input[2].output to be refused", a.status, a.body)
	}
}

// TestMarksOfACache: a client of Messages at a vendor that keeps a cache on demand says what is to be kept. Vendors of chat
// do not hear of it.
func TestMarksOfACache(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = string(body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"output":{"message":{"role":"assistant","content":[{"text":"391"}]}},"stopReason":"end_turn","usage":{"inputTokens":1,"outputTokens":2,"totalTokens":3}}`)
	}))
	t.Cleanup(server.Close)
	p := must(bedrock.New(bedrock.Options{BaseURL: server.URL, Region: "us-east-1", Token: "bk-0123456789"}))(t)
	t.Cleanup(func() { _ = p.Close() })
	arm := threeArms()[0]
	arm.ID = "rock/anthropic.claude-sonnet-4-6"
	v := &vendor{}
	w := newWorld(t, setup{arms: []catalog.Arm{threeArms()[0], arm}, providers: map[string]upstream.Provider{"one": v, "rock": p}})
	const system = `,"system":[{"type":"text","text":"long","cache_control":{"type":"ephemeral"}}]`
	w.messages(message(string(arm.ID), system)).wantOK()
	if want := `"system":[{"text":"long"},{"cachePoint":{"type":"default"}}]`; !strings.Contains(asked, want) {
		t.Errorf("Bedrock was asked %s, want %s in it", asked, want)
	}
	w.messages(message("one/cheap", system)).wantOK()
	if len(v.calls) != 1 || strings.Contains(v.calls[0].body, "cache_control") || !strings.Contains(v.calls[0].body, `{"role":"system","content":"long"}`) {
		t.Errorf("a vendor of chat was asked %+v", v.calls)
	}
}

// TestMessagesCut cuts a stream before every event, native and translated to chat: what came is passed on, then an error
// event, and what was streamed is settled with the input that was told.
func TestMessagesCut(t *testing.T) {
	cut := 0
	w := claude(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, sse(claudeEvents[:cut]...))
	})
	for ; cut < len(claudeEvents)-1; cut++ {
		for _, native := range []bool{true, false} {
			more := `,"stream":true,"tradewind":{"fallback":false}`
			var a *answer
			if native {
				a = w.messages(message("anthropic/claude", more))
			} else {
				a = w.chat(ask("anthropic/claude", more))
			}
			if cut <= 3 { // nothing was said yet
				if a.status != 502 {
					t.Errorf("cut %d: got %d %s", cut, a.status, a.body)
				}
				continue
			}
			_, o := w.outcome(a)
			if o.Status != datasets.Failed || o.CostStatus != datasets.CostEstimated || o.Usage.CacheRead != 20 || o.Usage.CacheWrite1h != 3 || o.Cost == 0 {
				t.Errorf("cut %d, native %v: outcome %+v", cut, native, o)
			}
			if native {
				names, payloads := a.named()
				if n := len(names); names[n-1] != "error" || dig(t, payloads[n-1], "error.type") != "api_error" || n != cut+1 {
					t.Errorf("cut %d: events %v", cut, names)
				}
			} else if !strings.HasSuffix(a.body, "data: [DONE]\n\n") || !strings.Contains(a.body, `"finish_reason":"error"`) {
				t.Errorf("cut %d: body %s", cut, a.body)
			}
		}
	}
}

// TestMessagesErrors: the table of section 10, in Anthropic's shape.
func TestMessagesErrors(t *testing.T) {
	w := newWorld(t, setup{
		auth:    governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Deny: []string{"three/*"}}, {Key: keyB, Budget: governance.BudgetConfig{DayUSD: dollars(0)}}, {Key: keyMate, RequestsPerMinute: 1}}},
		options: serving.Options{BodyMax: 4 << 10},
	})
	w.messages(message("auto", ""), "X-Api-Key", keyMate).wantOK()
	for name, tt := range map[string]struct {
		body, key string
		class     upstream.Class
		status    int
		kind      string
	}{
		"malformed":       {`{`, keyA, "", 400, "invalid_request_error"},
		"no max_tokens":   {`{"model":"auto",` + question + `}`, keyA, "", 400, "invalid_request_error"},
		"no key":          {message("auto", ""), "", "", 401, "authentication_error"},
		"wrong key":       {message("auto", ""), keyA + "x", "", 401, "authentication_error"},
		"not allowed":     {message("three/dear", ""), keyA, "", 403, "permission_error"},
		"unknown model":   {message("nope", ""), keyA, "", 404, "not_found_error"},
		"too large":       {message("auto", `,"x":"`+strings.Repeat("x", 4<<10)+`"`), keyA, "", 413, "request_too_large"},
		"rate limit":      {message("auto", ""), keyMate, "", 429, "rate_limit_error"},
		"budget":          {message("auto", ""), keyB, "", 429, "rate_limit_error"},
		"upstream failed": {message("auto", ""), keyA, upstream.Server, 502, "api_error"},
		"upstream limits": {message("auto", ""), keyA, upstream.RateLimited, 429, "rate_limit_error"},
		"user's error":    {message("auto", ""), keyA, upstream.BadRequest, 400, "invalid_request_error"},
	} {
		w.vendor.play(nil)
		if tt.class != "" {
			w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(tt.class, 0) })
		}
		header := []string{"X-Api-Key", tt.key}
		if tt.key == "" {
			header = nil
		}
		a := w.messages(tt.body, header...)
		a.TB = named(t, name)
		a.wantAnthropicError(tt.status, tt.kind)
		if want := map[string]string{"budget": "false", "rate limit": "true", "malformed": "false"}[name]; want != "" && a.header.Get("X-Should-Retry") != want {
			t.Errorf("%s: headers %v", name, a.header)
		}
		// The body has no place for the rule that refused.
		if want := map[string]string{"budget": "budget_exceeded_key", "wrong key": "invalid_api_key", "unknown model": "model_not_found"}[name]; want != "" && a.header.Get("X-Tradewind-Error") != want {
			t.Errorf("%s: headers %v", name, a.header)
		}
	}
	w.do("GET", "/v1/messages", "").wantAnthropicError(405, "invalid_request_error")
	w.do("POST", "/v1/messages/batches", "{}").wantAnthropicError(404, "not_found_error")
	a := w.do("POST", "/v1/v1/messages", "{}")
	if a.wantAnthropicError(404, "not_found_error"); !strings.Contains(a.body, "ends before /v1") {
		t.Errorf("no hint: %s", a.body)
	}
	if a := w.do("POST", "/v1/messages/count_tokens", `{"model":"x"}`, "X-Api-Key", keyA); a.status != 400 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestCountTokens(t *testing.T) {
	w := newWorld(t, setup{})
	a := w.do("POST", "/v1/messages/count_tokens", `{"model":"claude-anything","system":"Be short.",`+question+`}`).wantOK()
	if n := a.get("input_tokens"); a.header.Get("X-Tradewind-Estimated") != "true" || n == nil || n == "0" {
		t.Errorf("headers %v, body %s", a.header, a.body)
	}
	if len(w.vendor.called()) != 0 || len(w.rounds()) != 0 {
		t.Error("a count is no round")
	}
}
