package serving_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/openaicompat"
)

func (w *world) responses(body string, header ...string) *answer {
	w.Helper()
	return w.do("POST", "/v1/responses", body, header...)
}

func asked(model, more string) string {
	return `{"model":"` + model + `","input":"What is 17 times 23?"` + more + `}`
}

// TestResponsesTranslated: a client of Responses at an arm that speaks chat.
func TestResponsesTranslated(t *testing.T) {
	w := newWorld(t, setup{})
	a := w.responses(asked("auto", `,"instructions":"Be short.","max_output_tokens":50,"metadata":{"k":"v"}`)).wantOK()
	if want := `{"model":"cheap","max_tokens":50,"messages":[{"role":"system","content":"Be short."},{"role":"user","content":"What is 17 times 23?"}]}`; w.vendor.calls[0].body != want {
		t.Errorf("the vendor got %s, want %s", w.vendor.calls[0].body, want)
	}
	item := a.get("output").([]any)[0].(map[string]any)
	if a.get("object") != "response" || a.get("status") != "completed" || a.get("model") != "one/cheap" || item["content"].([]any)[0].(map[string]any)["text"] != "391" {
		t.Errorf("body %s", a.body)
	}
	if a.get("usage.cost") != "0.000013" || a.get("usage.input_tokens") != "7" || a.get("metadata.k") != "v" || a.get("instructions") != "Be short." || a.header.Get("X-Tradewind-Cost-Usd") != "0.000013" {
		t.Errorf("headers %v, body %s", a.header, a.body)
	}
	a = w.responses(asked("auto", `,"stream":true,"tradewind":{"explain":true}`)).wantOK()
	names, payloads := a.named()
	last := payloads[len(payloads)-1]
	if names[0] != "response.created" || names[len(names)-1] != "response.completed" || dig(t, payloads[0], "response.model") != "one/cheap" || strings.Contains(a.body, "[DONE]") {
		t.Errorf("events %v", names)
	}
	if dig(t, last, "response.usage.cost") != "0.000013" || dig(t, last, "response.tradewind.action") != "one/cheap" || dig(t, last, "response.model") != "one/cheap" {
		t.Errorf("last %s", last)
	}
	// A vendor that breaks off: an error, then the failed answer, and what was streamed is settled.
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{delta("a"), delta("b")}, err: fails(upstream.Cut, 0)}, nil
	})
	a = w.responses(asked("auto", `,"stream":true`)).wantOK()
	names, payloads = a.named()
	n := len(names)
	if names[n-2] != "error" || names[n-1] != "response.failed" || dig(t, payloads[n-1], "response.error.code") != "upstream_failed" || dig(t, payloads[n-1], "response.status") != "failed" {
		t.Errorf("events %v, last %s", names, payloads[n-1])
	}
	if _, o := w.outcome(a); o.Status != datasets.Failed || o.Usage.Output == 0 || o.Cost == 0 {
		t.Errorf("outcome %+v", o)
	}
	w.responses(`{"model":"auto"}`).wantError(400, openai.InvalidRequest)
}

// TestResponsesAreNotKept: what was said in Responses out of a chat vendor's answer is known by its ids, and a request that builds
// on them is told what to send instead, whichever models may serve it.
func TestResponsesAreNotKept(t *testing.T) {
	w := newWorld(t, setup{})
	a := w.responses(asked("one/cheap", "")).wantOK()
	said := a.get("output").([]any)[0].(map[string]any)["id"].(string)
	for _, model := range []string{"auto", "one/cheap"} {
		for body, param := range map[string]string{
			asked(model, `,"previous_response_id":"`+a.get("id").(string)+`"`):                                                "previous_response_id",
			`{"model":"` + model + `","input":[{"role":"user","content":"q"},{"type":"item_reference","id":"` + said + `"}]}`: "input[1]",
		} {
			b := w.responses(body)
			b.wantError(400, openai.InvalidRequest)
			if b.get("error.param") != param || !strings.Contains(b.body, "nobody keeps; send the") {
				t.Errorf("%s: %s", body, b.body)
			}
		}
	}
}

const responseWhole = `{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"middle","output":[{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"391","annotations":[]}]}],` +
	`"usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":2},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":10}}`

// TestResponsesNative: at a vendor that speaks Responses, body and events are passed on as they are; what only such a
// vendor can do reaches no other.
func TestResponsesNative(t *testing.T) {
	var path, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		path, body = r.URL.Path, string(text)
		if strings.Contains(body, `"stream":true`) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, sse(`{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","model":"middle","status":"in_progress","output":[]}}`,
				`{"type":"response.output_text.delta","sequence_number":1,"delta":"391"}`, `{"type":"response.completed","sequence_number":2,"response":`+responseWhole+`}`))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, responseWhole)
	}))
	t.Cleanup(server.Close)
	p := must(openaicompat.New(openaicompat.Options{BaseURL: server.URL + "/v1", Responses: true}))(t)
	t.Cleanup(func() { _ = p.Close() })
	plain := &vendor{}
	w := newWorld(t, setup{providers: map[string]upstream.Provider{"one": plain, "two": p, "three": plain}})
	const odd = `,"previous_response_id":"resp_0","x_new":{"kept":[1.50]}`
	a := w.responses(asked("auto", odd+`,"max_output_tokens":90`)).wantOK()
	if want := `{"model":"middle","input":"What is 17 times 23?"` + odd + `,"max_output_tokens":90}`; path != "/v1/responses" || body != want {
		t.Errorf("%s got %s, want %s", path, body, want)
	}
	const cost = "0.0000224" // 5 × 2 + 2 × 0.2 + 3 × 4 dollars a million
	d, o := w.outcome(a)
	if a.get("usage.cost") != cost || a.get("model") != "two/middle" || o.Cost.String() != cost || o.CostStatus != datasets.CostFinal {
		t.Errorf("body %s, outcome %+v", a.body, o)
	}
	// Nothing tells how long the state is, so the hold covers the window: 8,000 tokens at 2 dollars and 90 at 4 a million.
	if d.Hold.String() != "0.01636" {
		t.Errorf("hold %s", d.Hold)
	}
	a = w.responses(asked("two/middle", `,"stream":true`)).wantOK()
	names, payloads := a.named()
	if len(names) != 3 || payloads[1] != `{"type":"response.output_text.delta","sequence_number":1,"delta":"391"}` || dig(t, payloads[2], "response.usage.cost") != cost {
		t.Errorf("events %q", payloads)
	}
	for more, field := range map[string]string{`,"previous_response_id":"resp_0"`: "previous_response_id", `,"store":true`: "store", `,"conversation":"c"`: "conversation"} {
		a := w.responses(asked("one/cheap", more))
		a.wantError(400, openai.NoCandidate)
		if a.get("error.param") != field || !strings.Contains(a.body, `"filter":"dialect"`) {
			t.Errorf("%s: %s", field, a.body)
		}
	}
	a = w.responses(asked("auto", `,"background":true`)) // nobody keeps an answer for later
	a.wantError(400, openai.NoCandidate)
	if a.get("error.param") != "background" {
		t.Errorf("body %s", a.body)
	}
	for _, format := range []string{"", "?format=responses"} {
		if d := w.do("POST", "/v1/route"+format, asked("auto", `,"store":true`)).wantOK(); d.get("action") != "two/middle" || !strings.Contains(d.body, `"filter":"dialect"`) {
			t.Errorf("dry run %s", d.body)
		}
	}
}
