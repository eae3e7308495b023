package upstreamtest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file scripts a vendor that speaks Messages. Its events follow the published format.

const messagesBody = `{"model":"small","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}`

// named is one event with its name, which is its payload's type.
func named(payload string) string {
	_, rest, _ := strings.Cut(payload, `"type":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return "event: " + name + "\ndata: " + payload + "\n\n"
}

func namedAll(payloads ...string) string {
	var out strings.Builder
	for _, p := range payloads {
		out.WriteString(named(p))
	}
	return out.String()
}

const (
	messageStart = `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"small","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":20,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":3},"output_tokens":1}}}`
	pingEvent    = `{"type":"ping"}`
	textStart    = `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`
	textDelta    = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hello"}}`
	blockStop    = `{"type":"content_block_stop","index":0}`
	messageStop  = `{"type":"message_stop"}`
)

func messageDelta(reason string) string {
	return `{"type":"message_delta","delta":{"stop_reason":"` + reason + `","stop_sequence":null},"usage":{"output_tokens":7}}`
}

// usageTold is what messageStart and messageDelta come to together.
var usageTold = openai.Usage{Known: true, Input: 35, CacheRead: 20, CacheWrite: 5, CacheWrite1h: 3, Output: 7}

var messagesVendor = &vendor{
	path:  "/messages",
	start: namedAll(messageStart, pingEvent, textStart), hello: named(textDelta), end: namedAll(blockStop, messageDelta("end_turn"), messageStop),
	last: messageDelta("end_turn"),
	refusal: func(code, message string) string {
		return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q},"request_id":"req_1"}`, code, message)
	},
	huge: `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`,
}

// RunMessages runs the suite with a vendor that speaks Messages, which is asked in Messages and in chat.
func RunMessages(t *testing.T, provider func(baseURL string) upstream.Provider) {
	for _, asked := range []openai.Dialect{openai.Messages, openai.Chat} {
		s := &suite{provider: provider, v: messagesVendor, asked: asked}
		t.Run("asked in "+string(asked), func(t *testing.T) {
			t.Run("whole answer", s.wholeMessage)
			t.Run("stream", s.messageStream)
			t.Run("tool calls", s.toolUse)
			t.Run("stop reasons", s.stopReasons)
			t.Run("error inside an answer", s.messagesInBand)
			s.common(t)
		})
	}
}

func (s *suite) wholeMessage(t *testing.T) {
	const body = `{"id":"msg_1","type":"message","role":"assistant","model":"small","content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn","stop_sequence":null,` +
		`"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":20,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":3},"output_tokens":7}}`
	var got http.Request
	events, err := s.ask(t, false, func(w http.ResponseWriter, r *http.Request) {
		got = *r
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	})
	if err != nil || len(events) != 1 {
		t.Fatalf("got %d events and %v, want 1 and no error", len(events), err)
	}
	ev := events[0]
	if s.native() && ev.data != body {
		t.Errorf("body: got %s, want it byte for byte", ev.data)
	}
	if want := openai.HasContent | openai.HasUsage | openai.HasFinish | openai.IsDone; ev.kind != want || ev.usage != usageTold {
		t.Errorf("kind %b, usage %+v, want %b and %+v", ev.kind, ev.usage, want, usageTold)
	}
	if got.Header.Get("X-Api-Key") != Key || got.Header.Get("Authorization") != "" || got.Header.Get("Anthropic-Version") == "" || !strings.HasSuffix(got.URL.Path, s.v.path) {
		t.Errorf("the server got %s with headers %v", got.URL.Path, got.Header)
	}
}

func (s *suite) messageStream(t *testing.T) {
	payloads := []string{messageStart, pingEvent, textStart, textDelta, blockStop, `{"type":"something_new","x":[1]}`, messageDelta("end_turn"), messageStop}
	text := namedAll(payloads...)
	for name, text := range map[string]string{
		"plain": text, "CRLF": strings.ReplaceAll(text, "\n", "\r\n"), "no message_stop": strings.TrimSuffix(text, named(messageStop)),
		"no names": "data: " + strings.Join(payloads, "\n\ndata: ") + "\n\n",
	} {
		events, err := s.ask(t, true, raw("text/event-stream; charset=utf-8", text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var kinds openai.Kind
		var usage openai.Usage
		said := ""
		for i, ev := range events {
			kinds |= ev.kind
			if ev.kind.Has(openai.HasUsage) {
				usage = ev.usage
			}
			if ev.kind.Has(openai.HasContent) {
				said += ev.data
			}
			if s.native() && ev.data != payloads[i] {
				t.Errorf("%s: event %d: got %s, want %s", name, i, ev.data, payloads[i])
			}
		}
		if want := openai.HasContent | openai.HasFinish | openai.HasUsage | openai.IsDone; kinds != want || usage != usageTold || !strings.Contains(said, "hello") {
			t.Errorf("%s: kinds %b, usage %+v, said %s", name, kinds, usage, said)
		}
	}
}

func (s *suite) toolUse(t *testing.T) {
	events, err := s.ask(t, true, raw("text/event-stream", namedAll(messageStart,
		`{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":":1}"}}`, blockStop,
		`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_2","name":"g","input":{}}}`, `{"type":"content_block_stop","index":1}`,
		messageDelta("tool_use"), messageStop)))
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, ev := range events {
		all += ev.data
	}
	want := []string{"toolu_1", "toolu_2", `{\"a\"`, `:1}`}
	if !s.native() {
		want = append(want, `"finish_reason":"tool_calls"`, `"index":1,"function":{"arguments":"{}"}`)
	}
	for _, part := range want {
		if !strings.Contains(all, part) {
			t.Errorf("the events lack %s: %s", part, all)
		}
	}
}

func (s *suite) stopReasons(t *testing.T) {
	for reason, want := range map[string]string{
		"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter",
		"model_context_window_exceeded": "length", "pause_turn": "stop", "a_new_one": "stop",
	} {
		for name, text := range map[string]string{
			"with text": s.v.start + s.v.hello + namedAll(blockStop, messageDelta(reason), messageStop), "empty": namedAll(messageStart, messageDelta(reason), messageStop),
		} {
			events, err := s.ask(t, true, raw("text/event-stream", text))
			if err != nil {
				t.Fatalf("%s, %s: %v", reason, name, err)
			}
			all, kinds := "", openai.Kind(0)
			for _, ev := range events {
				all, kinds = all+ev.data, kinds|ev.kind
			}
			if s.native() {
				want = reason
			}
			if !strings.Contains(all, `"`+want+`"`) || !kinds.Has(openai.HasFinish|openai.HasContent) {
				t.Errorf("%s, %s: kinds %b, events %s, want %s", reason, name, kinds, all, want)
			}
		}
	}
}

func (s *suite) messagesInBand(t *testing.T) {
	for kind, want := range map[string]upstream.Class{
		"overloaded_error": upstream.Server, "api_error": upstream.Server, "rate_limit_error": upstream.RateLimited, "authentication_error": upstream.Auth,
		"timeout_error": upstream.Server, "not_found_error": upstream.ModelGone, "something_new": upstream.Server,
	} {
		failure := s.v.refusal(kind, "Overloaded "+Key)
		for _, text := range []string{named(failure), s.v.start + named(failure), s.v.start + s.v.hello + named(failure)} {
			_, err := s.ask(t, true, raw("text/event-stream", text))
			wantClass(t, err, want)
		}
		_, err := s.ask(t, false, raw("application/json", failure))
		wantClass(t, err, want)
	}
	_, err := s.ask(t, true, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, s.v.refusal("invalid_request_error", "Your credit balance is too low to access the Anthropic API."))
	})
	wantClass(t, err, upstream.Auth)
}
