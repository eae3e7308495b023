package upstreamtest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file scripts Google's Gemini API. Its events follow the published format.

func geminiEvent(candidate, more string) string {
	return `{"candidates":[` + candidate + `],"usageMetadata":{"promptTokenCount":30,"cachedContentTokenCount":20,"candidatesTokenCount":2,"thoughtsTokenCount":5,"totalTokenCount":37},"modelVersion":"small","responseId":"r1"` + more + `}`
}

func geminiText(text, more string) string {
	return geminiEvent(`{"content":{"parts":[{"text":`+string(openai.AppendText(nil, text))+`}],"role":"model"},"index":0`+more+`}`, "")
}

// geminiTold is the usage that every event tells.
var geminiTold = openai.Usage{Known: true, Input: 30, CacheRead: 20, Output: 7, Reasoning: 5}

var geminiVendor = &vendor{
	path:  "/models/small:streamGenerateContent",
	start: sse(geminiText("", "")), hello: sse(geminiText("hello", "")), end: sse(geminiText("", `,"finishReason":"STOP"`)),
	last: geminiText("", `,"finishReason":"STOP"`),
	refusal: func(code, message string) string {
		return fmt.Sprintf(`{"error":{"code":400,"message":%q,"status":"INVALID_ARGUMENT"}}`, code+": "+message)
	},
	huge: `{"candidates":[{"content":{"parts":[{"text":"`,
}

// sse are events without names.
func sse(payloads ...string) string { return "data: " + strings.Join(payloads, "\n\ndata: ") + "\n\n" }

// RunGemini runs the suite with a vendor that speaks Google's dialect.
func RunGemini(t *testing.T, provider func(baseURL string) upstream.Provider) {
	runGemini(t, "X-Goog-Api-Key", Key, provider)
}

// runGemini runs it with a vendor that is told who calls by the value of a header.
func runGemini(t *testing.T, header, value string, provider func(baseURL string) upstream.Provider) {
	s := &suite{provider: provider, v: geminiVendor}
	t.Run("whole answer", func(t *testing.T) { s.wholeGemini(t, header, value) })
	t.Run("stream", s.geminiStream)
	t.Run("tool calls", s.geminiCalls)
	t.Run("finish reasons", s.geminiReasons)
	t.Run("error inside an answer", s.geminiInBand)
	s.common(t)
}

func (s *suite) wholeGemini(t *testing.T, header, value string) {
	var got http.Request
	var body []byte
	events, err := s.ask(t, false, func(w http.ResponseWriter, r *http.Request) {
		got = *r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_, _ = io.WriteString(w, geminiText("hello", `,"finishReason":"STOP"`))
	})
	if err != nil || len(events) != 1 {
		t.Fatalf("got %d events and %v, want 1 and no error", len(events), err)
	}
	if want := openai.HasContent | openai.HasUsage | openai.HasFinish | openai.IsDone; events[0].kind != want || events[0].usage != geminiTold {
		t.Errorf("kind %b, usage %+v, want %b and %+v", events[0].kind, events[0].usage, want, geminiTold)
	}
	proof := got.Header.Get("X-Goog-Api-Key") + got.Header.Get("Authorization") // one of the two
	if got.Header.Get(header) != value || proof != value || !strings.HasSuffix(got.URL.Path, "/models/small:generateContent") || got.URL.RawQuery != "" {
		t.Errorf("the server got %s with headers %v", got.URL, got.Header)
	}
	if want := `"contents":[{"role":"user","parts":[{"text":"hi"}]}]`; !strings.Contains(string(body), want) {
		t.Errorf("the server got %s, want %s", body, want)
	}
}

func (s *suite) geminiStream(t *testing.T) {
	thought := geminiEvent(`{"content":{"parts":[{"text":"hm","thought":true}],"role":"model"},"index":0}`, "")
	text := sse(thought, geminiText("hel", ""), geminiText("lo", `,"finishReason":"STOP"`), `{"usageMetadata":{"promptTokenCount":30,"cachedContentTokenCount":20,"candidatesTokenCount":2,"thoughtsTokenCount":5,"totalTokenCount":37}}`)
	for name, text := range map[string]string{"plain": text, "CRLF": strings.ReplaceAll(text, "\n", "\r\n")} {
		var query string
		events, err := s.ask(t, true, func(w http.ResponseWriter, r *http.Request) {
			query = r.URL.Path + "?" + r.URL.RawQuery
			raw("text/event-stream", text)(w, r)
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all, usages := "", 0
		for _, ev := range events {
			all += ev.data
			if ev.kind.Has(openai.HasUsage) {
				usages++
				if ev.usage != geminiTold {
					t.Errorf("%s: usage %+v, want %+v", name, ev.usage, geminiTold)
				}
			}
		}
		for _, part := range []string{`{"role":"assistant","content":""}`, `"reasoning_content":"hm"`, `"content":"hel"`, `"content":"lo"`, `"finish_reason":"stop"`, `[DONE]`} {
			if strings.Count(all, part) != 1 {
				t.Errorf("%s: want %s once in %s", name, part, all)
			}
		}
		if usages != 1 || !events[len(events)-1].kind.Has(openai.IsDone) || !strings.HasSuffix(query, s.v.path+"?alt=sse") {
			t.Errorf("%s: usage is told %d times, the address was %s", name, usages, query)
		}
	}
}

func (s *suite) geminiCalls(t *testing.T) {
	calls := `{"content":{"parts":[{"functionCall":{"id":"c1","name":"f","args":{"a":[1,"x"]}},"thoughtSignature":"c2ln"},{"functionCall":{"name":"g"}}],"role":"model"},"index":0,"finishReason":"STOP"}`
	want := []string{`{"a":[1,"x"]}`, "{}"}
	single := *s
	single.body = oneCallBody
	for _, stream := range []bool{true, false} {
		script := raw("text/event-stream", sse(geminiEvent(calls, "")))
		if !stream {
			script = raw("application/json", geminiEvent(calls, ""))
		}
		events, err := s.ask(t, stream, script)
		if err != nil {
			t.Fatal(err)
		}
		all := ""
		for _, ev := range events {
			all += ev.data
		}
		if events, err = single.ask(t, stream, script); err != nil {
			t.Fatal(err)
		}
		one, _, _ := said(events)
		if wantOnce(t, one, `"name":"f"`, `"finish_reason":"tool_calls"`, `"thought_signature":"c2ln"`); strings.Contains(one, `"name":"g"`) {
			t.Errorf("stream %v: one call at a time was wanted: %s", stream, one)
		}
		for _, part := range append([]string{
			`"id":"c1","type":"function","function":{"name":"f"`, `"name":"g"`, `"finish_reason":"tool_calls"`, `"extra_content":{"google":{"thought_signature":"c2ln"}}`, `"id":"call_r1_0_1"`,
		}, string(openai.AppendText(nil, want[0])), string(openai.AppendText(nil, want[1]))) {
			if strings.Count(all, part) != 1 {
				t.Errorf("stream %v: want %s once in %s", stream, part, all)
			}
		}
	}
}

func (s *suite) geminiReasons(t *testing.T) {
	for reason, want := range map[string]string{
		"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "RECITATION": "content_filter", "PROHIBITED_CONTENT": "content_filter",
		"SPII": "content_filter", "BLOCKLIST": "content_filter", "LANGUAGE": "content_filter", "A_NEW_ONE": "stop",
		"MALFORMED_FUNCTION_CALL": "", "UNEXPECTED_TOOL_CALL": "", "OTHER": "", "FINISH_REASON_UNSPECIFIED": "",
	} {
		for _, text := range []string{sse(geminiText("hello", ""), geminiText("", `,"finishReason":"`+reason+`"`)), sse(geminiEvent(`{"finishReason":"`+reason+`"}`, ""))} {
			events, err := s.ask(t, true, raw("text/event-stream", text))
			if want == "" {
				if err == nil {
					t.Errorf("%s passed for a complete answer", reason)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v", reason, err)
			}
			all := ""
			for _, ev := range events {
				all += ev.data
			}
			if !strings.Contains(all, `"finish_reason":"`+want+`"`) {
				t.Errorf("%s: events %s, want %s", reason, all, want)
			}
		}
	}
	blocked := `{"promptFeedback":{"blockReason":"SAFETY","safetyRatings":[]},"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4},"modelVersion":"small"}`
	_, err := s.ask(t, true, raw("text/event-stream", sse(blocked)))
	wantClass(t, err, upstream.ContentPolicy)
	_, err = s.ask(t, false, raw("application/json", blocked))
	wantClass(t, err, upstream.ContentPolicy)
}

func (s *suite) geminiInBand(t *testing.T) {
	object := func(code int, status, details string) string {
		return fmt.Sprintf(`{"error":{"code":%d,"message":"It went wrong for %s","status":%q,"details":[%s]}}`, code, Key, status, details)
	}
	retry := `{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}`
	for _, test := range []struct {
		body string
		want upstream.Class
		wait time.Duration
	}{
		{object(503, "UNAVAILABLE", ""), upstream.Server, 0},
		{object(500, "INTERNAL", ""), upstream.Server, 0},
		{object(504, "DEADLINE_EXCEEDED", ""), upstream.Server, 0},
		{object(429, "RESOURCE_EXHAUSTED", `{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[]},`+retry), upstream.RateLimited, 1500 * time.Millisecond},
		{object(403, "PERMISSION_DENIED", ""), upstream.Auth, 0},
		{object(404, "NOT_FOUND", ""), upstream.ModelGone, 0},
		{object(400, "INVALID_ARGUMENT", `{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}`), upstream.Auth, 0},
		{object(400, "FAILED_PRECONDITION", ""), upstream.Auth, 0},
		{object(400, "INVALID_ARGUMENT", ""), upstream.BadRequest, 0},
		{strings.Replace(object(400, "INVALID_ARGUMENT", ""), "It went wrong", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)", 1), upstream.ContextLength, 0},
		{strings.Replace(object(400, "INVALID_ARGUMENT", ""), "It went wrong", "Function calling with a response mime type is unsupported", 1), upstream.Unsayable, 0},
	} {
		scripts := []struct {
			stream bool
			script http.HandlerFunc
		}{
			{true, raw("text/event-stream", sse(test.body))}, {true, raw("text/event-stream", s.v.start+s.v.hello+sse(test.body))}, {false, raw("application/json", test.body)},
			{true, func(w http.ResponseWriter, r *http.Request) {
				var status int
				_, _ = fmt.Sscanf(test.body, `{"error":{"code":%d`, &status)
				w.WriteHeader(status)
				_, _ = io.WriteString(w, test.body)
			}},
		}
		for _, try := range scripts {
			_, err := s.ask(t, try.stream, try.script)
			if e := wantClass(t, err, test.want); e.RetryAfter != test.wait {
				t.Errorf("%s: wait %v, want %v", test.body, e.RetryAfter, test.wait)
			}
		}
	}
}
