// Package upstreamtest is the conformance suite of upstream.Provider: what every vendor's protocol must do with the
// good, the odd and the broken answers of a server that speaks it.
//
// It talks to a scripted server on loopback. It tests one attempt at a time; what a Pool makes of the results is tested
// with the Pool.
package upstreamtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// Key is the key that providers under test must be configured with; no error may tell it.
const Key = "sk-test-0123456789abcdefghijklmnop"

// Run runs the suite with a vendor that speaks chat. provider makes the provider under test for a server's base URL, with
// Key as its key.
func Run(t *testing.T, provider func(baseURL string) upstream.Provider) {
	s := &suite{provider: provider, v: chatVendor}
	t.Run("whole answer", s.whole)
	t.Run("stream", s.stream)
	t.Run("tool calls", s.toolCalls)
	t.Run("usage", s.usage)
	t.Run("error inside an answer", s.inBand)
	s.common(t)
}

// common is what does not depend on the dialect.
func (s *suite) common(t *testing.T) {
	t.Run("errors", s.errors)
	t.Run("retry after", s.retryAfter)
	t.Run("garbage", s.garbage)
	t.Run("cuts", s.cuts)
	t.Run("stall", s.stall)
	t.Run("cancel", s.cancel)
	t.Run("redirect", s.redirect)
	t.Run("connections are used again", s.reuse)
	t.Run("plain requests", s.plain)
}

type suite struct {
	provider func(baseURL string) upstream.Provider
	v        *vendor
	// asked is the dialect that the provider is asked in; empty is chat.
	asked openai.Dialect
	// body is a request in chat; empty is a short one.
	body string
}

// vendor is what a scripted server says in its dialect.
type vendor struct {
	path string
	// start, hello and end are the events of a short answer, end those from the reason it ended with on; last is the
	// payload of the event after which nothing more is missing.
	start, hello, end, last string
	// refusal is the body of a refusal.
	refusal func(code, message string) string
	// huge is the beginning of an answer without end, HTML what a proxy says.
	huge string
	// frame makes one event of a payload where events are no server-sent ones, and content is the type of a stream then.
	frame   func(payload string) string
	content string
}

// streamed is the type of the content of a stream.
func (v *vendor) streamed() string { return cmp.Or(v.content, "text/event-stream") }

// event is one event.
func (v *vendor) event(payload string) string {
	if v.frame != nil {
		return v.frame(payload)
	}
	return "data: " + payload + "\n\n"
}

var chatVendor = &vendor{
	path:  "/chat/completions",
	start: "data: " + chunk(role) + "\n\n", hello: "data: " + chunk(`{"content":"hello"}`) + "\n\n", end: "data: " + finish + "\n\ndata: [DONE]\n\n", last: finish,
	refusal: func(code, message string) string {
		return fmt.Sprintf(`{"error":{"message":%q,"type":"some_error","code":%q,"param":"messages"}}`, message, code)
	},
	huge: `{"choices":[{"delta":{"content":"`,
}

var arm = &catalog.Arm{ID: "test/small"}

const (
	requestBody = `{"model":"small","messages":[{"role":"user","content":"hi"}]}`
	// oneCallBody asks for one call at a time.
	oneCallBody = `{"model":"small","messages":[{"role":"user","content":"hi"}],"parallel_tool_calls":false,"tools":[{"type":"function","function":{"name":"f","parameters":{}}},{"type":"function","function":{"name":"g","parameters":{}}}]}`
)

// seen is one event, copied.
type seen struct {
	data  string
	kind  openai.Kind
	usage openai.Usage
}

// ask starts a server with the script, makes one call and reads it to its end.
func (s *suite) ask(t *testing.T, stream bool, script http.HandlerFunc) ([]seen, error) {
	t.Helper()
	server := httptest.NewServer(script)
	defer server.Close()
	return s.read(t.Context(), s.provider(server.URL), stream)
}

func (s *suite) request(stream bool) *upstream.Request {
	r := &upstream.Request{Arm: arm, Body: []byte(cmp.Or(s.body, requestBody)), Stream: stream, Dialect: s.asked}
	switch s.asked {
	case openai.Messages:
		r.Body = []byte(messagesBody)
	case openai.Responses:
		r.Body = []byte(responsesBody)
	}
	return r
}

func (s *suite) read(ctx context.Context, p upstream.Provider, stream bool) ([]seen, error) {
	answer, err := p.Stream(ctx, s.request(stream))
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	var events []seen
	for {
		ev, err := answer.Next()
		if err == io.EOF {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		events = append(events, seen{string(ev.Data), ev.Kind, ev.Usage()})
	}
}

// send answers with status 200 and the payloads as events.
func send(payloads ...string) http.HandlerFunc {
	return raw("text/event-stream", "data: "+strings.Join(payloads, "\n\ndata: ")+"\n\n")
}

func raw(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	}
}

func chunk(delta string) string {
	return `{"id":"c1","object":"chat.completion.chunk","created":1,"model":"small","choices":[{"index":0,"delta":` + delta + `,"finish_reason":null}]}`
}

const (
	role   = `{"role":"assistant","content":""}`
	finish = `{"id":"c1","object":"chat.completion.chunk","created":1,"model":"small","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	done   = `[DONE]`
)

func wantClass(t *testing.T, err error, want upstream.Class) *upstream.Error {
	t.Helper()
	var e *upstream.Error
	if !errors.As(err, &e) {
		t.Fatalf("error: got %v, want an *upstream.Error of class %s", err, want)
	}
	if e.Class != want {
		t.Errorf("class: got %s (%v), want %s", e.Class, e, want)
	}
	if strings.Contains(e.Error(), Key[:12]) {
		t.Errorf("the error tells the key: %v", e)
	}
	return e
}

func (s *suite) whole(t *testing.T) {
	const body = `{"id":"c1","model":"small","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":0,"prompt_tokens_details":{"cached_tokens":3}}}`
	var got http.Request
	var gotBody []byte
	events, err := s.ask(t, false, func(w http.ResponseWriter, r *http.Request) {
		got = *r
		gotBody, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	})
	if err != nil || len(events) != 1 {
		t.Fatalf("got %d events and %v, want 1 and no error", len(events), err)
	}
	if events[0].data != body {
		t.Errorf("body: got %s, want it byte for byte", events[0].data)
	}
	if want := openai.HasContent | openai.HasUsage | openai.HasFinish | openai.IsDone; events[0].kind != want {
		t.Errorf("kind: got %b, want %b", events[0].kind, want)
	}
	if want := (openai.Usage{Known: true, Input: 7, CacheRead: 3}); events[0].usage != want {
		t.Errorf("usage: got %+v, want %+v", events[0].usage, want)
	}
	if string(gotBody) != requestBody || got.Header.Get("Authorization") != "Bearer "+Key || got.Method != http.MethodPost {
		t.Errorf("the server got %s %s with authorization %q", got.Method, gotBody, got.Header.Get("Authorization"))
	}
	if !strings.HasSuffix(got.URL.Path, "/chat/completions") {
		t.Errorf("path: got %s", got.URL.Path)
	}
}

func (s *suite) stream(t *testing.T) {
	tests := map[string]string{
		"plain":            "data: %s\n\ndata: %s\n\ndata: %s\n\ndata: [DONE]\n\n",
		"CRLF":             "data: %s\r\n\r\ndata: %s\r\n\r\ndata: %s\r\n\r\ndata: [DONE]\r\n\r\n",
		"no space":         "data:%s\n\ndata:%s\n\ndata:%s\n\ndata:[DONE]\n\n",
		"comments and ids": ": hello\n\nid: 1\nevent: message\ndata: %s\n\n: ping\n\ndata: %s\nretry: 5\n\ndata: %s\n\ndata: [DONE]\n\n",
		"byte order mark":  "\xef\xbb\xbfdata: %s\n\ndata: %s\n\ndata: %s\n\ndata: [DONE]\n\n",
		"no last newline":  "data: %s\n\ndata: %s\n\ndata: %s\n\ndata: [DONE]",
		"no [DONE]":        "data: %s\n\ndata: %s\n\ndata: %s\n\n",
	}
	for name, form := range tests {
		t.Run(name, func(t *testing.T) {
			want := []string{chunk(role), chunk(`{"content":"hello"}`), finish}
			events, err := s.ask(t, true, raw("text/event-stream; charset=utf-8", fmt.Sprintf(form, want[0], want[1], want[2])))
			if err != nil {
				t.Fatal(err)
			}
			if name != "no [DONE]" {
				want = append(want, done)
			}
			if len(events) != len(want) {
				t.Fatalf("got %d events, want %d", len(events), len(want))
			}
			kinds := []openai.Kind{0, openai.HasContent, openai.HasFinish, openai.IsDone}
			for i, ev := range events {
				if ev.data != want[i] || ev.kind != kinds[i] {
					t.Errorf("event %d: got %s (%b), want %s (%b)", i, ev.data, ev.kind, want[i], kinds[i])
				}
			}
		})
	}
}

func (s *suite) toolCalls(t *testing.T) {
	first := chunk(`{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}`)
	second := chunk(`{"tool_calls":[{"index":0,"function":{"arguments":"{\"usage\":1,\"finish_reason\":\"x\"}"}}]}`)
	events, err := s.ask(t, true, send(chunk(`{"role":"assistant","content":null}`), first, second, finish, done))
	if err != nil || len(events) != 5 {
		t.Fatalf("got %d events and %v, want 5 and no error", len(events), err)
	}
	for i, want := range []openai.Kind{0, openai.HasContent, openai.HasContent, openai.HasFinish, openai.IsDone} {
		if events[i].kind != want {
			t.Errorf("event %d: kind %b, want %b", i, events[i].kind, want)
		}
	}
	if events[1].data != first || events[2].data != second {
		t.Error("the tool call's pieces were changed")
	}
}

func (s *suite) usage(t *testing.T) {
	const u = `{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}`
	lastDelta := strings.Replace(finish, `}]}`, `}],"usage":`+u+`}`, 1)
	inChoice := strings.Replace(finish, `"finish_reason":"stop"`, `"finish_reason":"stop","usage":`+u, 1)
	extra := func(u string) string { return `{"id":"c1","model":"small","choices":[],"usage":` + u + `}` }
	told := openai.Usage{Known: true, Input: 5, Output: 2}
	tests := map[string]struct {
		payloads []string
		want     openai.Usage
	}{
		"on the last delta": {[]string{lastDelta}, told},
		"in the choice":     {[]string{inChoice}, told},
		"in an extra chunk": {[]string{finish, extra(u)}, told},
		"in both":           {[]string{lastDelta, extra(u)}, told},
		"in none":           {[]string{finish}, openai.Usage{}},
		"null":              {[]string{finish, extra("null")}, openai.Usage{}},
		"explicit zero":     {[]string{finish, extra(`{"prompt_tokens":0,"completion_tokens":0}`)}, openai.Usage{Known: true}},
		"reasoning apart":   {[]string{finish, extra(`{"prompt_tokens":5,"completion_tokens":2,"total_tokens":17,"completion_tokens_details":{"reasoning_tokens":10}}`)}, openai.Usage{Known: true, Input: 5, Output: 12, Reasoning: 10}},
		"cached":            {[]string{finish, extra(`{"prompt_tokens":5,"completion_tokens":2,"prompt_cache_hit_tokens":4}`)}, openai.Usage{Known: true, Input: 5, Output: 2, CacheRead: 4}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			payloads := append([]string{chunk(`{"content":"hello"}`)}, test.payloads...)
			events, err := s.ask(t, true, send(append(payloads, done)...))
			if err != nil {
				t.Fatal(err)
			}
			var got openai.Usage
			for _, ev := range events {
				if ev.kind.Has(openai.HasUsage) {
					got = ev.usage
				}
			}
			if got != test.want {
				t.Errorf("usage: got %+v, want %+v", got, test.want)
			}
		})
	}
}

func (s *suite) errors(t *testing.T) {
	object := s.v.refusal
	tests := []struct {
		status int
		body   string
		want   upstream.Class
	}{
		{400, object("invalid_value", "temperature must be positive"), upstream.BadRequest},
		{400, object("context_length_exceeded", "This model's maximum context length is 8192 tokens"), upstream.ContextLength},
		{400, object("content_policy_violation", "Your request was rejected"), upstream.ContentPolicy},
		{413, object("", "prompt is too long: 9000 tokens"), upstream.ContextLength},
		{422, `{"detail":"bad field"}`, upstream.BadRequest},
		{401, object("invalid_api_key", "Incorrect API key provided: "+Key), upstream.Auth},
		{402, object("", "Insufficient balance"), upstream.Auth},
		{403, `{"message":"forbidden for ` + Key[:20] + `"}`, upstream.Auth},
		{404, object("model_not_found", "no such model"), upstream.ModelGone},
		{408, "", upstream.TimedOut},
		{409, object("", "lock timeout"), upstream.Server},
		{429, object("rate_limit_exceeded", "slow down"), upstream.RateLimited},
		{500, "<html>oops</html>", upstream.Server},
		{502, "", upstream.Server},
		{503, object("", "overloaded"), upstream.Server},
		{504, "", upstream.Server},
		{529, `{"error":"overloaded"}`, upstream.Server},
	}
	for _, test := range tests {
		for _, stream := range []bool{false, true} {
			_, err := s.ask(t, stream, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			e := wantClass(t, err, test.want)
			if e.Status != test.status || e.Message == "" {
				t.Errorf("HTTP %d: got status %d and message %q", test.status, e.Status, e.Message)
			}
			if test.want == upstream.BadRequest && !strings.Contains(test.body, e.Message) {
				t.Errorf("HTTP %d: the client's own mistake must be told in the vendor's words, got %q", test.status, e.Message)
			}
		}
	}
}

func (s *suite) retryAfter(t *testing.T) {
	tests := []struct {
		name, value string
		least, most time.Duration
	}{
		{"Retry-After", "2", 2 * time.Second, 2 * time.Second},
		{"Retry-After", "0.5", 500 * time.Millisecond, 500 * time.Millisecond},
		{"Retry-After-Ms", "150", 150 * time.Millisecond, 150 * time.Millisecond},
		{"Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat), 50 * time.Second, time.Minute},
		{"Retry-After", "-3", 0, 0},
		{"Retry-After", "soon", 0, 0},
		{"Retry-After", "999999999999", 0, time.Hour},
	}
	for _, test := range tests {
		_, err := s.ask(t, true, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(test.name, test.value)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		if got := wantClass(t, err, upstream.RateLimited).RetryAfter; got < test.least || got > test.most {
			t.Errorf("%s: %s: got %v, want from %v to %v", test.name, test.value, got, test.least, test.most)
		}
	}
}

func (s *suite) inBand(t *testing.T) {
	tests := []struct {
		object string
		want   upstream.Class
	}{
		{`{"message":"Provider returned error ` + Key + `","code":502}`, upstream.Server},
		{`{"message":"slow down","code":429}`, upstream.RateLimited},
		{`{"message":"slow down","type":"rate_limit_error"}`, upstream.RateLimited},
		{`{"message":"oops","type":"server_error"}`, upstream.Server},
		{`"oops"`, upstream.Server},
	}
	for _, test := range tests {
		_, err := s.ask(t, true, send(chunk(role), `{"error":`+test.object+`}`, done))
		wantClass(t, err, test.want)
		_, err = s.ask(t, true, send(chunk(`{"content":"x"}`), `{"id":"c1","error":`+test.object+`,"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}`, done))
		wantClass(t, err, test.want)
		_, err = s.ask(t, false, raw("application/json", `{"error":`+test.object+`}`))
		wantClass(t, err, test.want)
	}
}

func (s *suite) garbage(t *testing.T) {
	huge := s.v.huge + strings.Repeat("x", 33<<20)
	tests := map[string]struct {
		stream      bool
		contentType string
		body        string
	}{
		"empty stream":         {true, s.v.streamed(), ""},
		"only comments":        {true, s.v.streamed(), ": hi\n\n: ho\n\n"},
		"HTML":                 {true, "text/html", "<html>"},
		"text in the stream":   {true, s.v.streamed(), s.v.event("hello")},
		"half a chunk":         {true, s.v.streamed(), s.v.event(`{"choices":[`)},
		"an array":             {true, s.v.streamed(), s.v.event("[]")},
		"not UTF-8":            {true, s.v.streamed(), s.v.event("{\"id\":\"\xff\"}")},
		"an event too large":   {true, s.v.streamed(), s.v.event(huge)},
		"empty body":           {false, "application/json", ""},
		"body of HTML":         {false, "application/json", "<html>"},
		"half a body":          {false, "application/json", `{"choices":[`},
		"a stream instead":     {false, s.v.streamed(), s.v.event("{}")},
		"two values":           {false, "application/json", `{}{}`},
		"body that is no JSON": {false, "application/json", `[DONE]`},
		"a body too large":     {false, "application/json", huge},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := s.ask(t, test.stream, raw(test.contentType, test.body))
			wantClass(t, err, upstream.BadAnswer)
		})
	}
}
