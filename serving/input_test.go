package serving_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// TestBadInput: each gets its error, nothing is called, held or journaled, and the next request is served. The dry run
// answers the same.
func TestBadInput(t *testing.T) {
	arms := threeArms()
	for i := range arms {
		arms[i].ContextTokens = 500
	}
	w := newWorld(t, setup{arms: arms, options: serving.Options{BodyMax: 64 << 10}})
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for name, tt := range map[string]struct {
		body   string
		status int
		code   openai.Code
		holds  string // what the answer must tell
	}{
		"empty":                   {"", 400, openai.InvalidRequest, "the body is empty"},
		"no object":               {"[]", 400, openai.InvalidRequest, "object"},
		"null":                    {"null", 400, openai.InvalidRequest, ""},
		"truncated":               {ask("auto", "")[:40], 400, openai.InvalidRequest, ""},
		"text after it":           {ask("auto", "") + "{}", 400, openai.InvalidRequest, ""},
		"byte order mark":         {"\ufeff" + ask("auto", ""), 400, openai.InvalidRequest, "byte order mark"},
		"not UTF-8":               {ask("au\xffto", ""), 400, openai.InvalidRequest, "UTF-8"},
		"deeply nested":           {ask("auto", `,"x":`+deep), 400, openai.InvalidRequest, "nesting"},
		"duplicate key":           {ask("auto", `,"model":"one/cheap"`), 400, openai.InvalidRequest, "duplicate"},
		"duplicate, escaped":      {ask("auto", `,"\u006dodel":"one/cheap"`), 400, openai.InvalidRequest, "duplicate"},
		"wrong case":              {ask("auto", `,"Model":"one/cheap"`), 400, openai.InvalidRequest, "lower case"},
		"model is a number":       {`{"model":5,` + question + `}`, 400, openai.InvalidRequest, `"param":"model"`},
		"no model":                {`{` + question + `}`, 400, openai.InvalidRequest, `"param":"model"`},
		"no messages":             {`{"model":"auto"}`, 400, openai.InvalidRequest, `"param":"messages"`},
		"model, misspelled":       {`{"modle":"auto",` + question + `}`, 400, openai.InvalidRequest, `was \"modle\" meant to be it?`},
		"tradewind, misspelled":   {ask("auto", `,"tradwind":{"max_cost_usd":1}`), 400, openai.InvalidTradewindField, `did you mean \"tradewind\"?`},
		"provider, misspelled":    {ask("auto", `,"provider":{"ony":["one"]}`), 400, openai.UnsupportedRoutingField, `did you mean \"only\"?`},
		"empty messages":          {`{"model":"auto","messages":[]}`, 400, openai.InvalidRequest, `"param":"messages"`},
		"stream is a string":      {ask("auto", `,"stream":"yes"`), 400, openai.InvalidRequest, `"param":"stream"`},
		"n is negative":           {ask("auto", `,"n":-1`), 400, openai.InvalidRequest, `"param":"n"`},
		"huge number":             {ask("auto", `,"max_tokens":1e999`), 400, openai.InvalidRequest, `"param":"max_tokens"`},
		"oversized":               {ask("auto", `,"x":"`+strings.Repeat("x", 64<<10)+`"`), 413, openai.RequestTooLarge, "65536"},
		"unknown model":           {ask("one/cheep", ""), 404, openai.ModelNotFound, "one/cheap"},
		"unknown strategy":        {ask("auto:cheapest", ""), 404, openai.ModelNotFound, "auto:cheapest"},
		"strategy, misspelled":    {ask("auto:balaced", ""), 404, openai.ModelNotFound, "the nearest are auto:balanced"},
		"unknown group":           {ask("auto/mine", ""), 404, openai.ModelNotFound, "mine"},
		"unknown stand-in":        {ask("one/cheap", `,"models":["nope"]`), 404, openai.ModelNotFound, `"param":"models"`},
		"unknown reference":       {ask("auto", `,"tradewind":{"quality_floor":{"reference":"nope"}}`), 404, openai.ModelNotFound, "reference"},
		"typo in tradewind":       {ask("auto", `,"tradewind":{"max_cost":1}`), 400, openai.InvalidTradewindField, "max_cost_usd"},
		"gates":                   {ask("auto", `,"tradewind":{"gates":["x"]}`), 400, openai.UnsupportedRoutingField, "gates"},
		"policy":                  {ask("auto", `,"tradewind":{"policy":"x"}`), 400, openai.UnsupportedRoutingField, "policy"},
		"plugin":                  {ask("auto", `,"plugins":[{"id":"web"}]`), 400, openai.UnsupportedRoutingField, "plugins"},
		"too long for all":        {ask("auto", `,"max_tokens":499`), 400, openai.ContextLengthExceeded, "500"},
		"too long, named":         {ask("one/cheap", `,"max_tokens":499`), 400, openai.ContextLengthExceeded, "500"},
		"too long, others denied": {ask("auto", `,"max_tokens":499,"tradewind":{"deny":["one/*"]}`), 400, openai.ContextLengthExceeded, "500"},
		"needs vision":            {`{"model":"auto","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`, 400, openai.NoCandidate, "(no_vision 3)"},
		"all denied":              {ask("auto", `,"tradewind":{"deny":["*"]}`), 400, openai.NoCandidate, "denied"},
		"named and denied":        {ask("one/cheap", `,"tradewind":{"deny":["one/*"]}`), 400, openai.NoCandidate, "denied"},
		"cap too low":             {ask("auto", `,"tradewind":{"max_cost_usd":0.000000001}`), 400, openai.NoCandidate, "max_cost"},
	} {
		for _, path := range []string{"/v1/chat/completions", "/v1/route"} {
			a := w.do("POST", path, tt.body)
			a.TB = named(t, name+" "+path)
			a.wantError(tt.status, tt.code)
			if !strings.Contains(a.body, tt.holds) || a.header.Get("X-Tradewind-Decision-Id") == "" || a.header.Get("X-Tradewind-Overhead-Ms") == "" {
				t.Errorf("%s %s: headers %v, body %s", name, path, a.header, a.body)
			}
		}
	}
	if n, m := len(w.vendor.called()), len(w.rounds()); n+m > 0 {
		t.Errorf("%d calls and %d rounds of requests that were refused", n, m)
	}
	w.chat(ask("auto", "")).wantOK()
}

// namedTB puts the case in front of what it reports.
type namedTB struct {
	testing.TB
	name string
}

func named(t testing.TB, name string) testing.TB { return &namedTB{t, name} }

func (n *namedTB) Errorf(format string, args ...any) {
	n.TB.Helper()
	n.TB.Errorf("%s: "+format, append([]any{n.name}, args...)...)
}

// TestHugePrompt is longer than every window although nothing else is wrong with it.
func TestHugePrompt(t *testing.T) {
	w := newWorld(t, setup{})
	a := w.chat(`{"model":"auto","messages":[{"role":"user","content":"` + strings.Repeat("many words ", 20_000) + `"}]}`)
	a.wantError(400, openai.ContextLengthExceeded)
	if !strings.Contains(a.body, "largest window has 8000") {
		t.Error(a.body)
	}
}

// TestLengthOfBody: a body that is not as long as it says, or longer than allowed without saying so.
func TestLengthOfBody(t *testing.T) {
	w := newWorld(t, setup{options: serving.Options{BodyMax: 1000}})
	server := httptest.NewServer(w.handler)
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	post := func(body io.Reader) *answer {
		t.Helper()
		resp, err := http.Post(server.URL+"/v1/chat/completions", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return &answer{t, resp.StatusCode, resp.Header, string(text)}
	}
	long := strings.Repeat(" ", 2000)
	post(strings.NewReader(ask("auto", "")+long)).wantError(413, openai.RequestTooLarge)
	post(io.MultiReader(strings.NewReader(ask("auto", "")+long))).wantError(413, openai.RequestTooLarge) // chunked: no length
	exact := ask("auto", "")
	post(strings.NewReader(exact + strings.Repeat(" ", 1000-len(exact)))).wantOK()
	post(strings.NewReader(exact+strings.Repeat(" ", 1001-len(exact)))).wantError(413, openai.RequestTooLarge)
	a := w.doReader(context.Background(), "POST", "/v1/chat/completions", io.MultiReader(strings.NewReader(exact[:20]), brokenReader{}))
	a.wantError(400, openai.InvalidRequest)
}

// TestCompressedBody: every path that reads a body says that it reads no compressed one, in its own dialect.
func TestCompressedBody(t *testing.T) {
	w := newWorld(t, setup{})
	id := string(w.chat(ask("auto", "")).round())
	for _, path := range []string{
		"/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings", "/v1/route", "/v1/feedback", "/v1/decisions/" + id + "/replay",
		"/v1/messages", "/v1/messages/count_tokens",
	} {
		a := w.do("POST", path, "\x1f\x8b\x08", "Content-Encoding", "gzip")
		if strings.HasPrefix(path, "/v1/messages") {
			a.wantAnthropicError(400, "invalid_request_error")
		} else if a.wantError(400, openai.InvalidRequest); a.get("error.param") != "content-encoding" {
			t.Errorf("%s: %s", path, a.body)
		}
		if !strings.Contains(a.body, "uncompressed") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	w.chat(ask("auto", ""), "Content-Encoding", "identity").wantOK()
}

// TestSmallBodies: our own bodies are read strictly, and what is wrong is named.
func TestSmallBodies(t *testing.T) {
	w := newWorld(t, setup{})
	id := string(w.chat(ask("auto", "")).round())
	for _, tt := range []struct{ path, body, param, holds string }{
		{"/v1/feedback", `{"decison_id":"x","score":1}`, "decison_id", `did you mean \"decision_id\"?`},
		{"/v1/feedback", `{"decision_id":5,"score":1}`, "decision_id", "must be a string, not a number"},
		{"/v1/feedback", `{"decision_id":"x","score":"good"}`, "score", "from 0 to 1"},
		{"/v1/feedback", `{"decision_id":"x","score":1,"source":"usr"}`, "source", `did you mean \"user\"?`},
		{"/v1/feedback", `{"decision_id":"x","score":1,"metrics":{"a":"b"}}`, "metrics", `\"a\"`},
		{"/v1/feedback", `{"decision_id":"x","score":1,"metrics":{"a":1e999}}`, "metrics", `\"a\"`},
		{"/v1/feedback", ``, "decision_id", "is missing"},
		{"/v1/feedback", `[]`, "", "must be a JSON object"},
		{"/v1/decisions/" + id + "/replay", `{"strateg":"cost"}`, "strateg", `did you mean \"strategy\"?`},
		{"/v1/decisions/" + id + "/replay", `{"strategy":true}`, "strategy", "must be a string, not a boolean"},
		{"/v1/decisions/" + id + "/replay", `{"policy":{}}`, "policy", "must be a string, not an object"},
		{"/v1/decisions/" + id + "/replay", `{"weights":{"quality":1,"cst":1}}`, "weights.cst", `did you mean \"cost\"?`},
		{"/v1/decisions/" + id + "/replay", `{"weights":{"quality":null}}`, "weights.quality", "must be a number"},
		{"/v1/decisions/" + id + "/replay", `{"weights":[]}`, "weights", "must be an object, not an array"},
	} {
		a := w.do("POST", tt.path, tt.body)
		a.TB = named(t, tt.body)
		a.wantError(400, openai.InvalidRequest)
		if param, _ := a.get("error.param").(string); param != tt.param || !strings.Contains(a.body, tt.holds) {
			t.Errorf("%s: param %q, %s", tt.body, param, a.body)
		}
	}
}

// TestMisspelledElsewhere: on the other surfaces too a field that is missing is sought among those that nobody reads, a
// misspelled tradewind is refused, and a field that no model here can be told is compared with those that exist.
func TestMisspelledElsewhere(t *testing.T) {
	w := newWorld(t, setup{})
	for _, tt := range []struct{ path, body, holds string }{
		{"/v1/messages", `{"modl":"auto","max_tokens":5,` + question + `}`, `model is missing; was \"modl\" meant to be it?`},
		{"/v1/messages", ask("auto", `,"max_tokns":5`), `max_tokens is missing; was \"max_tokns\" meant to be it?`},
		{"/v1/messages", ask("auto", `,"max_tokens":5,"tradewnid":{"deny":["*"]}`), `did you mean \"tradewind\"?`},
		{"/v1/messages", ask("auto", `,"max_tokens":5,"metadata":{"tags":[1]}`), `metadata.tags cannot be said to any model that may serve this request"}`},
		{"/v1/messages", ask("auto", `,"max_tokens":5,"sytem":"x"`), `sytem cannot be said to any model that may serve this request; did you mean \"system\"?`},
		{"/v1/messages", ask("auto", `,"max_tokens":5,"output_config":{"effort":"low"}`), "every one was filtered (no_reasoning 3)"},
		{"/v1/responses", `{"model":"auto","inptu":"hi"}`, `input is missing; was \"inptu\" meant to be it?`},
		{"/v1/responses", `{"model":"auto","input":"hi","Tradewind":{}}`, `did you mean \"tradewind\"?`},
		{"/v1/responses", `{"model":"auto","input":[{"type":"item_reference","id":"msg_1"}]}`, `input[0] cannot be said to any model that may serve this request"`},
		{"/v1/responses", `{"model":"auto","input":"hi","instrutions":"x"}`, `did you mean \"instructions\"?`},
		{"/v1/embeddings", `{"model":"one/cheap","inptu":"hi"}`, `input is missing; was \"inptu\" meant to be it?`},
		{"/v1/completions", `{"model":"one/cheap","promt":"hi"}`, `prompt is missing; was \"promt\" meant to be it?`},
		{"/v1/completions", `{"model":"one/cheap","prompt":"hi","tradewinds":{}}`, `did you mean \"tradewind\"?`},
	} {
		if a := w.do("POST", tt.path, tt.body); a.status != 400 || !strings.Contains(a.body, tt.holds) {
			t.Errorf("%s %s: %d %s", tt.path, tt.body, a.status, a.body)
		}
	}
	w.chat(ask("auto", `,"trade":1,"upwind":2,"tradewind_of_mine":3`)).wantOK() // other names are a vendor's
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestNearestNames: three of them, and none that the key may not use.
func TestNearestNames(t *testing.T) {
	w := newWorld(t, setup{
		arms: append(threeArms(), catalog.Arm{ID: "two/cheaper"}),
		auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA}, {Key: keyB, Deny: []string{"one/*"}}}},
	})
	for key, want := range map[string]string{keyA: "one/cheap", keyB: "two/cheaper"} {
		a := w.chat(ask("cheep", ""), bearer(key)...)
		a.wantError(404, openai.ModelNotFound)
		near, _ := a.get("error.tradewind.nearest").([]any)
		if len(near) != 3 || near[0] != want || key == keyB && strings.Contains(a.body, "one/cheap") {
			t.Errorf("nearest %v, want %s first of three: %s", near, want, a.body)
		}
	}
	a := w.chat(ask("one/cheap", ""), bearer(keyB)...)
	a.wantError(403, openai.ModelNotAllowed)
	if a := w.chat(ask("auto", `,"tradewind":{"explain":true}`), bearer(keyB)...).wantOK(); a.header.Get("X-Tradewind-Model") == "one/cheap" {
		t.Error("a denied arm served")
	}
}

// TestUnpricedOnly: a newcomer's own model without a price is chosen where there is no other, and a cap that it cannot keep to is
// no riddle.
func TestUnpricedOnly(t *testing.T) {
	w := newWorld(t, setup{arms: []catalog.Arm{{ID: "local/llama"}}})
	for _, model := range []string{"auto", "auto:cost", "local/llama"} {
		if a := w.chat(ask(model, "")).wantOK(); a.get("usage.cost") != nil {
			t.Errorf("%s: %s", model, a.body)
		}
	}
	a := w.chat(ask("auto", `,"tradewind":{"max_cost_usd":1}`))
	a.wantError(400, openai.NoCandidate)
	if !strings.Contains(a.body, "(unpriced 1): nobody knows") || !strings.Contains(a.body, "input_usd_per_mtok") {
		t.Error(a.body)
	}
}

// TestHeadersAreChecked like the body's fields.
func TestHeadersAreChecked(t *testing.T) {
	w := newWorld(t, setup{})
	for header, want := range map[string]int{
		"X-Tradewind-Strategy=cost": 200, "X-Tradewind-Strategy=cheap": 400, "X-Tradewind-Stratgy=cost": 400,
		"X-Tradewind-Max-Cost-Usd=0": 400, "X-Tradewind-Fallback=no": 400, "X-Tradewind-Timeout-Ms=-5": 400,
	} {
		name, value, _ := strings.Cut(header, "=")
		if a := w.chat(ask("auto", ""), name, value); a.status != want {
			t.Errorf("%s: %d %s, want %d", header, a.status, a.body, want)
		}
	}
	a := w.chat(fmt.Sprintf(`{"model":%q,%s}`, "gibt’s nicht", question))
	a.wantError(404, openai.ModelNotFound)
	if got := a.header.Get("X-Tradewind-Requested-Model"); got != "gibt?s nicht" {
		t.Errorf("requested model %q", got)
	}
}
