package upstreamtest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file scripts a vendor that speaks Responses. Its events follow the published format.

const (
	responsesBody   = `{"model":"small","input":"hi"}`
	responseCreated = `{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","model":"small","output":[]}}`
	responseDelta   = `{"type":"response.output_text.delta","sequence_number":1,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"hello","logprobs":[]}`
	responseWhole   = `{"id":"resp_1","object":"response","status":"completed","model":"small","output":[{"type":"message","content":[{"type":"output_text","text":"hello"}]}],` +
		`"usage":{"input_tokens":35,"input_tokens_details":{"cached_tokens":20},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":42}}`
	responseDone = `{"type":"response.completed","sequence_number":2,"response":` + responseWhole + `}`
)

var responsesTold = openai.Usage{Known: true, Input: 35, CacheRead: 20, Output: 7, Reasoning: 2}

var responsesVendor = &vendor{
	path: "/responses", start: named(responseCreated), hello: named(responseDelta), end: named(responseDone), last: responseDone,
	refusal: chatVendor.refusal, huge: `{"type":"response.output_text.delta","delta":"`,
}

// RunResponses runs the suite with a vendor that speaks Responses beside chat, and is asked in Responses.
func RunResponses(t *testing.T, provider func(baseURL string) upstream.Provider) {
	s := &suite{provider: provider, v: responsesVendor, asked: openai.Responses}
	t.Run("whole answer", func(t *testing.T) {
		events, err := s.ask(t, false, raw("application/json", responseWhole))
		want := openai.HasContent | openai.HasUsage | openai.HasFinish | openai.IsDone
		if err != nil || len(events) != 1 || events[0].data != responseWhole || events[0].kind != want || events[0].usage != responsesTold {
			t.Errorf("got %+v and %v", events, err)
		}
	})
	t.Run("stream", func(t *testing.T) {
		incomplete := strings.ReplaceAll(responseDone, "completed", "incomplete")
		for name, tt := range map[string]struct {
			text string
			want []string
		}{
			"plain":      {s.v.start + s.v.hello + s.v.end, []string{responseCreated, responseDelta, responseDone}},
			"incomplete": {s.v.start + named(incomplete), []string{responseCreated, incomplete}},
			"new events": {s.v.start + named(`{"type":"response.something","x":1}`) + s.v.hello + s.v.end, []string{responseCreated, `{"type":"response.something","x":1}`, responseDelta, responseDone}},
		} {
			events, err := s.ask(t, true, raw("text/event-stream", tt.text))
			if err != nil || len(events) != len(tt.want) {
				t.Fatalf("%s: %d events, %v", name, len(events), err)
			}
			for i, ev := range events {
				if ev.data != tt.want[i] || ev.kind.Has(openai.IsDone) != (i == len(events)-1) {
					t.Errorf("%s: event %d: %s (%b)", name, i, ev.data, ev.kind)
				}
			}
			if last := events[len(events)-1]; last.usage != responsesTold || !last.kind.Has(openai.HasFinish|openai.HasUsage) {
				t.Errorf("%s: last event %+v", name, last)
			}
		}
	})
	t.Run("error inside an answer", func(t *testing.T) {
		for code, want := range map[string]upstream.Class{"rate_limit_exceeded": upstream.RateLimited, "server_error": upstream.Server} {
			failed := fmt.Sprintf(`{"type":"response.failed","response":{"status":"failed","error":{"code":%q,"message":"oops %s"}}}`, code, Key)
			event := fmt.Sprintf(`{"type":"error","code":%q,"message":"oops %s","param":null}`, code, Key)
			for _, payload := range []string{failed, event} {
				for _, before := range []string{s.v.start, s.v.start + s.v.hello} {
					_, err := s.ask(t, true, raw("text/event-stream", before+named(payload)))
					wantClass(t, err, want)
				}
			}
		}
		_, err := s.ask(t, false, raw("application/json", `{"object":"response","status":"failed","error":{"code":"server_error","message":"oops"}}`))
		wantClass(t, err, upstream.Server)
	})
	s.common(t)
}
