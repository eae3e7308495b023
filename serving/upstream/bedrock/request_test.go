package bedrock

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// chat is a request with more members.
func chat(more string) []byte {
	return []byte(`{"model":"m","messages":[{"role":"user","content":"hi"}]` + more + `}`)
}

func messages(list string) []byte { return []byte(`{"model":"m","messages":[` + list + `]}`) }

const (
	tools   = `,"tools":[{"type":"function","function":{"name":"f","description":"d","strict":true},"cache_control":{"type":"ephemeral"}}]`
	history = `{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"functions.f:0","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"functions.f:0","content":"ok"}`
)

func TestSaid(t *testing.T) {
	const claude, older = "us.anthropic.claude-opus-4-8", "anthropic.claude-sonnet-4-5-20250929-v1:0"
	for name, test := range map[string]struct {
		model string
		body  []byte
		want  string
	}{
		"settings":        {claude, chat(`,"temperature":1,"top_p":0.5,"presence_penalty":0,"stop":"x","max_tokens":9`), `"inferenceConfig":{"maxTokens":9,"temperature":1,"topP":0.5,"stopSequences":["x"]}`},
		"adaptive":        {claude, chat(`,"reasoning_effort":"minimal"`), `"additionalModelRequestFields":{"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}}`},
		"budget":          {older, chat(`,"reasoning_effort":"high","max_tokens":10000`), `"additionalModelRequestFields":{"thinking":{"type":"enabled","budget_tokens":5000}}`},
		"own budget":      {older, chat(`,"reasoning":{"max_tokens":3000}`), `"budget_tokens":3000`},
		"nova":            {"amazon.nova-2-lite-v1:0", chat(`,"reasoning_effort":"medium"`), `"additionalModelRequestFields":{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"medium"}}`},
		"gpt-oss":         {"openai.gpt-oss-120b-1:0", chat(`,"reasoning_effort":"low"`), `"additionalModelRequestFields":{"reasoning_effort":"low"}`},
		"tools":           {claude, chat(tools), `"toolConfig":{"tools":[{"toolSpec":{"name":"f","description":"d","inputSchema":{"json":{"type":"object","properties":{}}},"strict":true}},{"cachePoint":{"type":"default"}}]}`},
		"this tool":       {claude, chat(tools + `,"tool_choice":{"type":"function","function":{"name":"f"}}`), `"toolChoice":{"tool":{"name":"f"}}`},
		"no tool":         {claude, chat(tools + `,"tool_choice":"none"`), `"inferenceConfig":{}}`},
		"schema":          {claude, chat(`,"response_format":{"type":"json_schema","json_schema":{"name":"x","description":"d","strict":true,"schema":{"type":"object"}}}`), `"outputConfig":{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"schema":"{\"type\":\"object\"}","name":"x","description":"d"}}}}`},
		"marks":           {claude, messages(`{"role":"system","content":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","ttl":"1h"}}]},{"role":"user","content":"a","cache_control":{"type":"ephemeral"}}`), `"system":[{"text":"s"},{"cachePoint":{"type":"default","ttl":"1h"}}],"messages":[{"role":"user","content":[{"text":"a"},{"cachePoint":{"type":"default"}}]}]`},
		"a result's mark": {claude, []byte(`{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"ok","cache_control":{"type":"ephemeral"}}]` + tools + `}`), `[{"toolResult":{"toolUseId":"a","content":[{"text":"ok"}]}},{"cachePoint":{"type":"default"}}]`},
		"plain thoughts":  {claude, messages(`{"role":"user","content":"a"},{"role":"assistant","reasoning_content":"hm","content":"b"}`), `{"role":"assistant","content":[{"text":"b"}]}`},
		"media": {claude, messages(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/jpg;base64,aGk="}},{"type":"input_audio","input_audio":{"format":"mp3","data":"aGk="}},` +
			`{"type":"file","file":{"filename":"../My report_1.pdf","file_data":"data:application/pdf;base64,aGk="}},{"type":"file","file":{"filename":"语","file_data":"data:text/csv;base64,aGk="}}]}`),
			`[{"image":{"format":"jpeg","source":{"bytes":"aGk="}}},{"audio":{"format":"mp3","source":{"bytes":"aGk="}}},{"document":{"format":"pdf","name":"My report 1 pdf","source":{"bytes":"aGk="}}},{"document":{"format":"csv","name":"(2)","source":{"bytes":"aGk="}}}]`},
	} {
		got, _, err := encode(test.body, test.model)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !json.Valid(got) || !strings.Contains(string(got), test.want) {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

// TestIDs: ids that Converse does not take become others, the same for the call and its result, and different for others.
func TestIDs(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"call_1", "functions.f:0", "functions.f:1", "语", strings.Repeat("x", 65), strings.Repeat("x", 64)} {
		quoted := string(openai.AppendText(nil, id))
		body, _, err := encode([]byte(`{"model":"m","messages":[`+strings.ReplaceAll(history, `"functions.f:0"`, quoted)+`]`+tools+`}`), "")
		if err != nil {
			t.Fatal(err)
		}
		var r request
		if err := json.Unmarshal(body, &r); err != nil {
			t.Fatal(err)
		}
		call, result := r.Messages[1].Content[0].ToolUse.ToolUseID, r.Messages[2].Content[0].ToolResult.ToolUseID
		if call != result || openai.PlainID(call) != call || openai.PlainID(id) != call || seen[call] != "" {
			t.Errorf("%s became %s for the call and %s for its result", id, call, result)
		}
		seen[call] = id
	}
}

// TestMarks: a model that keeps no cache refuses its points, and none of theirs lasts longer than it can.
func TestMarks(t *testing.T) {
	talk := messages(`{"role":"user","content":"hi","cache_control":{"type":"ephemeral","ttl":"1h"}}`)
	for model, want := range map[string]string{
		"us.anthropic.claude-sonnet-4-5-20250929-v1:0": `,{"cachePoint":{"type":"default","ttl":"1h"}}`, "anthropic.claude-3-5-haiku-20241022-v1:0": `,{"cachePoint":{"type":"default","ttl":"1h"}}`,
		"amazon.nova-2-lite-v1:0": `,{"cachePoint":{"type":"default"}}`, "meta.llama3-3-70b-instruct-v1:0": ``, "anthropic.claude-3-haiku-20240307-v1:0": ``,
	} {
		body, _, err := encode(talk, model)
		if want := `"content":[{"text":"hi"}` + want + `]`; err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %v: the request is %s, want %s in it", model, err, body, want)
		}
	}
}

// TestUnsaid: what Converse cannot be told is named, and never dropped.
func TestUnsaid(t *testing.T) {
	for _, test := range []struct {
		body  []byte
		param string
	}{
		{chat(`,"seed":0`), "seed"},
		{chat(`,"web_search_options":{}`), "web_search_options"},
		{chat(`,"top_k":5`), "top_k"},
		{chat(`,"presence_penalty":0.1`), "presence_penalty"},
		{chat(`,"temperature":1.5`), "temperature"},
		{chat(`,"n":2`), "n"},
		{chat(`,"logprobs":true`), "logprobs"},
		{chat(`,"response_format":{"type":"json_object"}`), "response_format"},
		{messages(history), "tools"},
		{[]byte(`{"model":"m","messages":[` + history + `],"tool_choice":"none"` + tools + `}`), "tool_choice"},
		{messages(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}`), "messages[0].content[0].image_url.url"},
		{messages(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/tiff;base64,aGk="}}]}`), "messages[0].content[0]"},
		{messages(`{"role":"user","content":[{"type":"file","file":{"file_data":"data:video/mp4;base64,aGk="}}]}`), "messages[0].content[0]"},
		{messages(`{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1y"}}]}`), "messages[0].content[0].cache_control.ttl"},
		{messages(`{"role":"system","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]},{"role":"user","content":"a"}`), "messages[0].content[0].type"},
	} {
		_, _, err := encode(test.body, "anthropic.claude-opus-4-8")
		if got := upstream.Lacking(err); got != test.param {
			t.Errorf("%s: lacks %q (%v), want %q", test.body, got, err, test.param)
		}
	}
}

// TestUnable: what only some models cannot be told is no reason to leave them all out, and another may be tried.
func TestUnable(t *testing.T) {
	p := &Provider{}
	for _, test := range []struct{ model, more string }{
		{"meta.llama3-3-70b-instruct-v1:0", `,"reasoning_effort":"high"`}, {"deepseek.r1-v1:0", `,"reasoning_effort":"none"`}, {"openai.gpt-oss-20b-1:0", `,"reasoning_effort":"none"`},
		{"anthropic.claude-opus-4-8", `,"reasoning":{"max_tokens":2000}`}, {"anthropic.claude-sonnet-4-5-20250929-v1:0", `,"reasoning_effort":"low","max_tokens":1000`},
	} {
		_, _, err := encode(chat(test.more), test.model)
		var e *upstream.Error
		if !errors.As(err, &e) || e.Class != upstream.Unsayable || !strings.HasPrefix(e.Param, "reasoning") {
			t.Errorf("%s%s: got %v, want the class %s", test.model, test.more, err, upstream.Unsayable)
		}
		if field := p.Lacks(chat(test.more)); field != "" {
			t.Errorf("all models lack %s", field)
		}
	}
}

func TestUsage(t *testing.T) {
	for raw, want := range map[string]openai.Usage{
		`{"inputTokens":10,"outputTokens":3,"totalTokens":13}`:                                                                                 {Known: true, Input: 10, Output: 3},
		`{"inputTokens":10,"outputTokens":0,"cacheReadInputTokens":5,"cacheWriteInputTokens":2,"cacheDetails":[{"ttl":"5m","inputTokens":2}]}`: {Known: true, Input: 17, CacheRead: 5, CacheWrite: 2},
		`{"inputTokens":10}`: {}, `null`: {},
	} {
		r := reader{}
		if r.count(openai.Value(raw)); r.usage != want {
			t.Errorf("%s: %+v, want %+v", raw, r.usage, want)
		}
	}
}

// FuzzEncode: what is said of any chat request is JSON, or it is refused.
func FuzzEncode(f *testing.F) {
	f.Add(chat(tools + `,"tool_choice":"required","reasoning_effort":"low","stop":["x"]`))
	f.Add([]byte(`{"model":"m","messages":[` + history + `]` + tools + `}`))
	f.Add(messages(`{"role":"system","content":"s"},{"role":"user","content":[{"type":"file","file":{"filename":"a","file_data":"data:application/pdf;base64,aGk="}}]},{"role":"assistant","reasoning_details":[{"text":"a","signature":"b"},{"data":"c"}],"content":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		out, _, err := encode(body, "anthropic.claude-sonnet-4-5")
		if err == nil && !json.Valid(out) {
			t.Fatalf("%s became %s", body, out)
		}
		if err == nil && len(out) > 8*len(body)+1024 {
			t.Fatalf("%d bytes became %d", len(body), len(out))
		}
	})
}

// FuzzAnswer: whatever frames a vendor sends, chat gets JSON, or there is an error; and no frame holds more than its limit.
func FuzzAnswer(f *testing.F) {
	for _, ev := range []event{
		{"messageStart", `{"role":"assistant"}`}, {"contentBlockStart", `{"start":{"toolUse":{"toolUseId":"a","name":"f"}}}`}, {"contentBlockDelta", `{"delta":{"toolUse":{"input":"{}"}}}`},
		{"contentBlockDelta", `{"delta":{"reasoningContent":{"text":"a","signature":"b"}}}`}, {"contentBlockStop", `{}`}, {"messageStop", `{"stopReason":"tool_use"}`}, {"metadata", `{"usage":{"inputTokens":1,"outputTokens":1}}`},
	} {
		var out bytes.Buffer
		m := eventstream.Message{Payload: []byte(ev.payload)}
		m.Headers.Set(":message-type", eventstream.StringValue("event"))
		m.Headers.Set(":event-type", eventstream.StringValue(ev.name))
		if err := eventstream.NewEncoder().Encode(&out, m); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes(), ev.name, []byte(ev.payload))
	}
	f.Fuzz(func(t *testing.T, stream []byte, name string, payload []byte) {
		const limit = 1 << 10
		frames, r := newFrames(bytes.NewReader(stream), limit), reader{}
		for {
			fr, err := frames.next()
			if err != nil {
				var e *upstream.Error
				if err != io.EOF && !errors.As(err, &e) {
					t.Fatalf("the stream ended with %v", err)
				}
				break
			}
			if len(fr.payload) > limit {
				t.Fatalf("a payload of %d bytes", len(fr.payload))
			}
		}
		events, err := r.event(name, payload)
		if err == nil {
			events = append(events, r.blockStop()...)
		}
		if c, err := (&reader{}).whole(payload); err == nil {
			events = append(events, c)
		}
		for _, ev := range events {
			if !json.Valid(ev.Data) {
				t.Fatalf("%s %s became %s", name, payload, ev.Data)
			}
		}
	})
}
