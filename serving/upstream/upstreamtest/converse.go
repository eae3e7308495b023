package upstreamtest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file scripts Amazon Bedrock's Converse API. Its events follow the published format, and its frames are made here
// and not by the SDK that reads them.

// amazonFrame is one message of an event stream: its length, that of its headers, the sum of both, the headers, the
// payload, and the sum of all.
func amazonFrame(payload string, headers ...string) string {
	var h []byte
	for i := 0; i < len(headers); i += 2 {
		h = append(append(h, byte(len(headers[i]))), headers[i]...)
		h = binary.BigEndian.AppendUint16(append(h, 7), uint16(len(headers[i+1]))) // 7 is a string
		h = append(h, headers[i+1]...)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(16+len(h)+len(payload)))
	out = binary.BigEndian.AppendUint32(out, uint32(len(h)))
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out))
	out = append(append(out, h...), payload...)
	return string(binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out)))
}

func converseEvent(name, payload string) string {
	return amazonFrame(payload, ":event-type", name, ":content-type", "application/json", ":message-type", "event")
}

const converseUsage = `{"inputTokens":10,"outputTokens":7,"totalTokens":42,"cacheReadInputTokens":20,"cacheWriteInputTokens":5,"cacheDetails":[{"ttl":"1h","inputTokens":3},{"ttl":"5m","inputTokens":2}]}`

// converseTold is what it comes to.
var converseTold = openai.Usage{Known: true, Input: 35, CacheRead: 20, CacheWrite: 5, CacheWrite1h: 3, Output: 7}

func converseEnd(reason string) string {
	return converseEvent("contentBlockStop", `{"contentBlockIndex":0,"p":"abc"}`) + converseEvent("messageStop", `{"stopReason":"`+reason+`","p":"ab"}`) +
		converseEvent("metadata", `{"usage":`+converseUsage+`,"metrics":{"latencyMs":12}}`)
}

func converseText(text string) string {
	return converseEvent("contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":`+string(openai.AppendText(nil, text))+`},"p":"abcd"}`)
}

var converseVendor = &vendor{
	path:  "/model/small/converse-stream",
	start: converseEvent("messageStart", `{"role":"assistant","p":"x"}`), hello: converseText("hello"), end: converseEnd("end_turn"),
	last: converseEvent("messageStop", `{"stopReason":"end_turn","p":"ab"}`),
	refusal: func(code, message string) string {
		return fmt.Sprintf(`{"message":%q}`, code+": "+message)
	},
	huge:    `{"contentBlockIndex":0,"delta":{"text":"`,
	frame:   func(payload string) string { return converseEvent("contentBlockDelta", payload) },
	content: "application/vnd.amazon.eventstream",
}

// RunConverse runs the suite with a vendor that speaks Converse.
func RunConverse(t *testing.T, provider func(baseURL string) upstream.Provider) {
	s := &suite{provider: provider, v: converseVendor}
	t.Run("whole answer", s.wholeConverse)
	t.Run("stream", s.converseStream)
	t.Run("tool calls", s.converseCalls)
	t.Run("stop reasons", s.converseReasons)
	t.Run("error inside an answer", s.converseInBand)
	t.Run("damaged frames", s.damagedFrames)
	s.common(t)
}

// said is all that was said, and the kinds and the last usage of the events that said it.
func said(events []seen) (all string, kinds openai.Kind, usage openai.Usage) {
	for _, ev := range events {
		all, kinds = all+ev.data, kinds|ev.kind
		if ev.kind.Has(openai.HasUsage) {
			usage = ev.usage
		}
	}
	return all, kinds, usage
}

func wantOnce(t *testing.T, all string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Count(all, part) != 1 {
			t.Errorf("want %s once in %s", part, all)
		}
	}
}

func (s *suite) wholeConverse(t *testing.T) {
	var got http.Request
	var body []byte
	events, err := s.ask(t, false, func(w http.ResponseWriter, r *http.Request) {
		got = *r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"metrics":{"latencyMs":12},"output":{"message":{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"hm","signature":"c2ln"}}},`+
			`{"text":"hello"},{"toolUse":{"toolUseId":"t1","name":"f","input":{"a":1}}}]}},"stopReason":"tool_use","usage":`+converseUsage+`}`)
	})
	if err != nil || len(events) != 1 {
		t.Fatalf("got %d events and %v, want 1 and no error", len(events), err)
	}
	all, kinds, usage := said(events)
	if want := openai.HasContent | openai.HasUsage | openai.HasFinish | openai.IsDone; kinds != want || usage != converseTold {
		t.Errorf("kind %b, usage %+v, want %b and %+v", kinds, usage, want, converseTold)
	}
	wantOnce(t, all, `"content":"hello"`, `"reasoning_content":"hm"`, `"reasoning_details":[{"type":"reasoning.text","text":"hm","signature":"c2ln"}]`,
		`{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}`, `"finish_reason":"tool_calls"`)
	if !strings.HasSuffix(got.URL.Path, "/model/small/converse") || got.Header.Get("Authorization") == "" {
		t.Errorf("the server got %s with headers %v", got.URL, got.Header)
	}
	wantOnce(t, string(body), `"messages":[{"role":"user","content":[{"text":"hi"}]}]`)
}

func (s *suite) converseStream(t *testing.T) {
	thought := func(union string) string {
		return converseEvent("contentBlockDelta", `{"contentBlockIndex":0,"delta":{"reasoningContent":`+union+`}}`)
	}
	text := s.v.start + thought(`{"text":"h"}`) + thought(`{"text":"m"}`) + thought(`{"signature":"c2ln"}`) + converseEvent("contentBlockStop", `{"contentBlockIndex":0}`) +
		thought(`{"redactedContent":"c2VjcmV0"}`) + converseEvent("contentBlockStop", `{"contentBlockIndex":1}`) +
		converseText("hel") + converseEvent("somethingNew", `{"x":[1]}`) + converseText("lo") + s.v.end
	events, err := s.ask(t, true, raw(s.v.content, text))
	if err != nil {
		t.Fatal(err)
	}
	all, kinds, usage := said(events)
	if want := openai.HasContent | openai.HasUsage | openai.HasFinish | openai.IsDone; kinds != want || usage != converseTold {
		t.Errorf("kinds %b, usage %+v", kinds, usage)
	}
	wantOnce(t, all, `{"role":"assistant","content":""}`, `"reasoning_content":"h"`, `"reasoning_content":"m"`, `{"type":"reasoning.text","text":"hm","signature":"c2ln"}`,
		`{"type":"reasoning.encrypted","data":"c2VjcmV0"}`, `"content":"hel"`, `"content":"lo"`, `"finish_reason":"stop"`, `[DONE]`)
}

func (s *suite) converseCalls(t *testing.T) {
	begin := func(id, name string) string {
		return converseEvent("contentBlockStart", `{"contentBlockIndex":1,"start":{"toolUse":{"toolUseId":"`+id+`","name":"`+name+`"}}}`)
	}
	input := func(part string) string {
		return converseEvent("contentBlockDelta", `{"contentBlockIndex":1,"delta":{"toolUse":{"input":`+string(openai.AppendText(nil, part))+`}}}`)
	}
	stop := converseEvent("contentBlockStop", `{"contentBlockIndex":1}`)
	two := raw(s.v.content, s.v.start+begin("t1", "f")+input("")+input(`{"a"`)+input(`:1}`)+stop+begin("t2", "g")+input("")+stop+converseEnd("tool_use"))
	single := *s
	single.body = oneCallBody
	whole := raw("application/json", `{"output":{"message":{"role":"assistant","content":[{"toolUse":{"toolUseId":"t1","name":"f","input":{"a":1}}},{"toolUse":{"toolUseId":"t2","name":"g","input":{}}}]}},"stopReason":"tool_use","usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2}}`)
	for _, stream := range []bool{true, false} {
		events, err := single.ask(t, stream, map[bool]http.HandlerFunc{true: two, false: whole}[stream])
		if err != nil {
			t.Fatal(err)
		}
		one, _, _ := said(events)
		if wantOnce(t, one, `"name":"f"`, `"finish_reason":"tool_calls"`); strings.Contains(one, `"g"`) || strings.Contains(one, `"index":1`) {
			t.Errorf("stream %v: one call at a time was wanted: %s", stream, one)
		}
	}
	events, err := s.ask(t, true, two)
	if err != nil {
		t.Fatal(err)
	}
	all, _, _ := said(events)
	wantOnce(t, all, `{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":""}}`, `{"index":0,"function":{"arguments":"{\"a\""}}`, `{"index":0,"function":{"arguments":":1}"}}`,
		`{"index":1,"id":"t2","type":"function","function":{"name":"g","arguments":""}}`, `{"index":1,"function":{"arguments":"{}"}}`, `"finish_reason":"tool_calls"`)
	_, err = s.ask(t, true, raw(s.v.content, s.v.start+input("{}")+s.v.end))
	wantClass(t, err, upstream.BadAnswer) // arguments of no call
}

func (s *suite) converseReasons(t *testing.T) {
	for reason, want := range map[string]string{
		"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length", "guardrail_intervened": "content_filter",
		"content_filtered": "content_filter", "tool_use": "stop", "a_new_one": "stop", "malformed_model_output": "", "malformed_tool_use": "",
	} {
		events, err := s.ask(t, true, raw(s.v.content, s.v.start+s.v.hello+converseEnd(reason)))
		if want == "" {
			wantClass(t, err, upstream.BadAnswer)
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", reason, err)
		}
		all, _, _ := said(events)
		wantOnce(t, all, `"finish_reason":"`+want+`"`)
	}
}

func (s *suite) converseInBand(t *testing.T) {
	exception := func(name, message string) string {
		return amazonFrame(fmt.Sprintf(`{"message":%q}`, message), ":exception-type", name, ":content-type", "application/json", ":message-type", "exception")
	}
	for _, test := range []struct {
		frame string
		want  upstream.Class
	}{
		{exception("throttlingException", "Too many requests for "+Key), upstream.RateLimited},
		{exception("internalServerException", "oops "+Key), upstream.Server},
		{exception("serviceUnavailableException", "oops"), upstream.Server},
		{exception("modelStreamErrorException", "oops"), upstream.Server},
		{exception("modelTimeoutException", "oops"), upstream.TimedOut},
		{exception("validationException", "Input is too long for requested model."), upstream.ContextLength},
		{exception("validationException", "This model doesn't support tool use."), upstream.Unsayable},
		{exception("validationException", "This model doesn’t support tool use."), upstream.Unsayable},
		{exception("somethingNew", "oops"), upstream.Server},
		{amazonFrame("", ":message-type", "error", ":error-code", "InternalError", ":error-message", "oops "+Key), upstream.Server},
	} {
		for _, text := range []string{test.frame, s.v.start + test.frame, s.v.start + s.v.hello + test.frame} {
			_, err := s.ask(t, true, raw(s.v.content, text))
			wantClass(t, err, test.want)
		}
	}
	for _, test := range []struct {
		status        int
		name, message string
		want          upstream.Class
	}{
		{424, "ModelErrorException", "The model failed", upstream.Server},
		{429, "ModelNotReadyException", "The model is not ready", upstream.RateLimited},
		{400, "ServiceQuotaExceededException", "Too much", upstream.RateLimited},
		{400, "ValidationException", "The provided model identifier is invalid.", upstream.ModelGone},
		{400, "ValidationException", "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", upstream.ContextLength},
		{403, "InvalidSignatureException", "The request signature we calculated does not match. The Canonical String for this request should have been 'POST x-amz-security-token:" + Key + "'", upstream.Auth},
	} {
		_, err := s.ask(t, true, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amzn-Errortype", test.name+":http://internal.amazon.com/coral/")
			w.WriteHeader(test.status)
			_, _ = fmt.Fprintf(w, `{"message":%q}`, test.message)
		})
		if e := wantClass(t, err, test.want); e.Code != test.name || strings.Contains(e.Message, "ecurity-token") {
			t.Errorf("%s: code %s, message %s", test.name, e.Code, e.Message)
		}
	}
}

// damagedFrames flips bits of a stream, one at a time: none may pass for the answer that it was.
func (s *suite) damagedFrames(t *testing.T) {
	text := s.v.start + s.v.hello + s.v.end
	var damaged atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", s.v.content)
		_, _ = w.Write(damaged.Load().([]byte))
	}))
	defer server.Close()
	p := s.provider(server.URL)
	for bit := 0; bit < 8*len(text); bit += 3 {
		flipped := []byte(text)
		flipped[bit/8] ^= 1 << (bit % 8)
		damaged.Store(flipped)
		if _, err := s.read(t.Context(), p, true); err == nil {
			t.Fatalf("bit %d of %d was flipped and nobody saw it", bit, 8*len(text))
		}
	}
}
