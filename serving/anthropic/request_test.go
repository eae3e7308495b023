package anthropic

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

func said(t *testing.T, body string) *openai.Spoken {
	t.Helper()
	s, err := Decode([]byte(body), openai.DecodeOptions{})
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if !json.Valid(s.Chat) {
		t.Fatalf("%s: not JSON: %s", body, s.Chat)
	}
	return s
}

// TestDecode: what each thing is in chat, and what has no words there.
func TestDecode(t *testing.T) {
	const head, turn = `{"model":"m","max_tokens":9,`, `"messages":[{"role":"user","content":"hi"}]`
	block := func(role, b string) string {
		return head + `"messages":[{"role":"` + role + `","content":[` + b + `]}]}`
	}
	for name, tt := range map[string]struct{ in, chat, native, foreign string }{
		"plain":        {head + turn + `}`, `"messages":[{"role":"user","content":"hi"}]`, "", ""},
		"system":       {head + turn + `,"system":"short"}`, `[{"role":"system","content":"short"},{"role":"user","content":"hi"}]`, "", ""},
		"system parts": {head + `"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":"b"}],` + turn + `}`, `{"role":"system","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":"b"}]}`, "", ""},
		"image":        {block("user", `{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}`), `[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]`, "", ""},
		"image url":    {block("user", `{"type":"image","source":{"type":"url","url":"https://x/y.png"}}`), `{"url":"https://x/y.png"}`, "", ""},
		"image file":   {block("user", `{"type":"image","source":{"type":"file","file_id":"f"}}`), `"anthropic"`, "messages[0].content[0]", ""},
		"pdf":          {block("user", `{"type":"document","title":"t.pdf","context":"why","source":{"type":"base64","media_type":"application/pdf","data":"AAAA"}}`), `[{"type":"text","text":"why"},{"type":"file","file":{"filename":"t.pdf","file_data":"data:application/pdf;base64,AAAA"}}]`, "", ""},
		"text file":    {block("user", `{"type":"document","title":"t","source":{"type":"text","media_type":"text/plain","data":"long"}}`), `[{"type":"text","text":"t"},{"type":"text","text":"long"}]`, "", ""},
		"citations":    {block("user", `{"type":"document","citations":{"enabled":true},"source":{"type":"text","media_type":"text/plain","data":"long"}}`), `"long"`, "messages[0].content[0].citations", ""},
		"tool use": {block("assistant", `{"type":"text","text":"so"},{"type":"tool_use","id":"t1","name":"f","input":{"a": [1]}},{"type":"tool_use","id":"t2","name":"g","input":{}}`),
			`{"role":"assistant","content":"so","tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\": [1]}"}},{"id":"t2","type":"function","function":{"name":"g","arguments":"{}"}}]}`, "", ""},
		"only calls":      {block("assistant", `{"type":"tool_use","id":"t1","name":"f","input":{},"caller":{"type":"direct"}}`), `"content":null,"tool_calls"`, "", ""},
		"text after call": {block("assistant", `{"type":"tool_use","id":"t1","name":"f","input":{}},{"type":"text","text":"so"}`), `"so"`, "messages[0].content[1]", ""},
		"tool results": {block("user", `{"type":"tool_result","tool_use_id":"t1","content":"1"},{"type":"tool_result","tool_use_id":"t2","is_error":true,"content":[{"type":"text","text":"no"}]},{"type":"text","text":"go on"}`),
			`[{"role":"tool","tool_call_id":"t1","content":"1"},{"role":"tool","tool_call_id":"t2","content":"Error: no"},{"role":"user","content":"go on"}]`, "", ""},
		"image of a tool":   {block("user", `{"type":"tool_result","tool_use_id":"t1","content":[{"type":"image","source":{"type":"url","url":"u"}}]}`), `{"role":"tool","tool_call_id":"t1","content":[{"type":"image_url","image_url":{"url":"u"}}]}`, "", ""},
		"empty result":      {block("user", `{"type":"tool_result","tool_use_id":"t1"}`), `{"role":"tool","tool_call_id":"t1","content":""}`, "", ""},
		"signed thinking":   {block("assistant", `{"type":"thinking","thinking":"x","signature":"s"}`), `"anthropic"`, "messages[0].content[0]", ""},
		"redacted thinking": {block("assistant", `{"type":"redacted_thinking","data":"x"}`), `"anthropic"`, "messages[0].content[0]", ""},
		"unsigned thinking": {block("assistant", `{"type":"thinking","thinking":"x","signature":""},{"type":"text","text":"y"}`), `{"role":"assistant","content":"y","reasoning_content":"x"}`, "", "messages[0].content[0]"},
		"search result":     {block("user", `{"type":"search_result","source":"s","title":"t","content":[]}`), `"anthropic"`, "messages[0].content[0]", ""},
		"tools": {head + turn + `,"tools":[{"name":"f","description":"d","input_schema":{"type":"object"},"strict":true,"cache_control":{"type":"ephemeral"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true}}`,
			`"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":true},"cache_control":{"type":"ephemeral"}}],"tool_choice":"required","parallel_tool_calls":false`, "", ""},
		"a tool":         {head + turn + `,"tool_choice":{"type":"tool","name":"f"}}`, `"tool_choice":{"type":"function","function":{"name":"f"}}`, "", ""},
		"client tool":    {head + turn + `,"tools":[{"type":"text_editor_20250728","name":"e"}]}`, `"text_editor_20250728"`, "tools[0].type", ""},
		"examples":       {head + turn + `,"tools":[{"name":"f","input_schema":{},"input_examples":[{}]}]}`, `"f"`, "tools[0].input_examples", ""},
		"stop":           {head + turn + `,"stop_sequences":["a","b"]}`, `"stop":["a","b"]`, "", ""},
		"thinking":       {head + turn + `,"thinking":{"type":"enabled","budget_tokens":2000}}`, `"reasoning_effort":"low"`, "", ""},
		"much thinking":  {head + turn + `,"thinking":{"type":"enabled","budget_tokens":32000}}`, `"reasoning_effort":"high"`, "", ""},
		"effort":         {head + turn + `,"thinking":{"type":"adaptive"},"output_config":{"effort":"max"}}`, `"reasoning_effort":"high"`, "", ""},
		"no thinking":    {head + turn + `,"thinking":{"type":"disabled"}}`, `"max_tokens":9`, "", ""},
		"schema":         {head + turn + `,"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}}`, `"response_format":{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":{"type":"object"}}}`, "", ""},
		"user":           {head + turn + `,"metadata":{"user_id":"u"}}`, `"user":"u"`, "", ""},
		"tier":           {head + turn + `,"service_tier":"standard_only"}`, `"service_tier":"default"`, "", ""},
		"top_k":          {head + turn + `,"top_k":3}`, `"max_tokens":9`, "top_k", ""},
		"unknown":        {head + turn + `,"n":3}`, `"anthropic.n":3`, "n", ""},
		"hints":          {head + turn + `,"cache_control":{"type":"ephemeral"},"context_management":{"edits":[]},"top_k":null}`, `"max_tokens":9`, "", ""},
		"routing fields": {head + turn + `,"tradewind":{"strategy":"cost"},"models":["a"]}`, `"tradewind":{"strategy":"cost"},"models":["a"]`, "", ""},
	} {
		s := said(t, tt.in)
		wider := map[string]string{"image of a tool": "messages[0].content[0].content[0]"}[name]
		if !strings.Contains(string(s.Chat), tt.chat) || s.NativeOnly != tt.native || s.ForeignOnly != tt.foreign || s.WiderOnly != wider {
			t.Errorf("%s: only native %q, only foreign %q, only wider %q, chat\n%s, want %q, %q, %q,\n%s", name, s.NativeOnly, s.ForeignOnly, s.WiderOnly, s.Chat, tt.native, tt.foreign, wider, tt.chat)
		}
		if _, err := openai.Decode(s.Chat, openai.DecodeOptions{}); err != nil {
			t.Errorf("%s: chat does not take it: %v in %s", name, err, s.Chat)
		}
	}
}

// TestMarks: the marks of a cache go to those who are asked out of the chat form and know them, each where it stood. Vendors of
// chat are asked as if there were none.
func TestMarks(t *testing.T) {
	const mark = `,"cache_control":{"type":"ephemeral","ttl":"1h"}`
	body := func(mark string) string {
		return `{"model":"m","max_tokens":9,"system":[{"type":"text","text":"a"` + mark + `},{"type":"text","text":"b"}],"messages":[{"role":"user","content":[{"type":"text","text":"q"` + mark + `}]},` +
			`{"role":"assistant","content":[{"type":"text","text":"so"` + mark + `},{"type":"tool_use","id":"t1","name":"f","input":{}},{"type":"tool_use","id":"t2","name":"f","input":{}}]},` +
			`{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"1"},{"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"2"},{"type":"text","text":"3"}]` + mark + `},` +
			`{"type":"text","text":"c"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}` + mark + `}]}],` +
			`"tools":[{"name":"f","input_schema":{"type":"object","properties":{"a":1,"cache_control":{"type":"string"}}}},{"name":"g","input_schema":{"type":"object"}` + mark + `}]}`
	}
	chat := func(body string, marks bool) string {
		r, err := said(t, body).Decode(openai.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(r.AppendUpstream(nil, openai.Upstream{Model: "m", Marks: marks}))
	}
	if got, want := chat(body(mark), false), chat(body(""), false); got != want {
		t.Errorf("vendors of chat are asked\n%s, want\n%s", got, want)
	}
	back, err := FromChat([]byte(chat(body(mark), true)), 9)
	if want := parsed(t, []byte(body(mark))); err != nil || !reflect.DeepEqual(parsed(t, back), want) {
		t.Errorf("%v: others are asked\n%s, want\n%s", err, back, body(mark))
	}
}

func TestDecodeRefuses(t *testing.T) {
	const turn = `"messages":[{"role":"user","content":"hi"}]`
	for body, param := range map[string]string{
		`[]`: "the body", `{"max_tokens":1,` + turn + `}`: "model", `{"model":"m","max_tokens":1}`: "messages", `{"model":"m",` + turn + `}`: "max_tokens",
		`{"model":"m","max_tokens":0,` + turn + `}`: "max_tokens", `{"model":"m","max_tokens":1,"messages":[]}`: "messages", `{"model":"m","max_tokens":1,"Messages":[],` + turn + `}`: "messages",
		`{"model":"m","max_tokens":1,"messages":[{"role":"robot","content":"x"}]}`:                                                 "messages[0].role",
		`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":7}]}`:                                                    "messages[0].content",
		`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text"}]}]}`:                                    "messages[0].content[0].text",
		`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_use","id":"a","name":"b","input":{}}]}]}`: "messages[0].content[0]",
		`{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_result","tool_use_id":"a"}]}]}`:      "messages[0].content[0]",
		`{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"b"}]}]}`:       "messages[0].content[0].input",
		`{"model":"m","max_tokens":1,"tools":[{"name":"f"}],` + turn + `}`:                                                         "tools[0].input_schema",
		`{"model":"m","max_tokens":1,"tools":[{"type":"code_execution_20250825","name":"f"}],` + turn + `}`:                        "tools[0].type",
		`{"model":"m","max_tokens":1,"container":"c",` + turn + `}`:                                                                "container",
		`{"model":"m","max_tokens":1,"stop_sequences":"x",` + turn + `}`:                                                           "stop_sequences",
		`{"model":"m","max_tokens":1,"thinking":{"type":"enabled"},` + turn + `}`:                                                  "thinking.budget_tokens",
		`{"model":"m","max_tokens":1,"speed":"fast",` + turn + `}`:                                                                 "speed",
		`{"model":"m","max_tokens":1,"metadata":{"user_id":7},` + turn + `}`:                                                       "metadata.user_id",
	} {
		_, err := Decode([]byte(body), openai.DecodeOptions{})
		var e *openai.Error
		if !errors.As(err, &e) || e.Status != 400 || e.Param != param && !strings.Contains(e.Message, param) {
			t.Errorf("%s: got %v, want %s to be refused", body, err, param)
		}
	}
	for _, body := range []string{`{`, "\xff", `{"model":"m","model":"n"}`, `{"model":"m","max_tokens":1,"messages":[{"role":"user","role":"user","content":"x"}]}`} {
		if _, err := Decode([]byte(body), openai.DecodeOptions{}); err == nil {
			t.Errorf("%q was accepted", body)
		}
	}
}

// TestFromChatRefuses names what Messages has no place for.
func TestFromChatRefuses(t *testing.T) {
	for more, param := range map[string]string{
		`,"n":2`: "n", `,"seed":0.5`: "seed", `,"seed":0`: "seed", `,"web_search_options":{}`: "web_search_options", `,"reasoning":{"max_tokens":2000}`: "reasoning.max_tokens", `,"reasoning":{"effort":"huge"}`: "reasoning.effort", `,"logprobs":true`: "logprobs", `,"temperature":1.5`: "temperature", `,"response_format":{"type":"json_object"}`: "response_format",
		`,"presence_penalty":1`: "presence_penalty", `,"tools":[{"type":"custom"}]`: "tools[0].type", `,"service_tier":"flex"`: "service_tier", `,"x_new":1`: "x_new",
		`,"modalities":["text","audio"]`: "modalities", `,"reasoning_effort":"huge"`: "reasoning_effort", `,"functions":[{}]`: "functions",
	} {
		body := `{"model":"m","messages":[{"role":"user","content":"hi"}]` + more + `}`
		if _, err := FromChat([]byte(body), 9); openai.AsError(err).Param != param {
			t.Errorf("%s: got %v, want %s to be refused", more, err, param)
		}
	}
	for message, param := range map[string]string{
		`{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}`:                                         "messages[1].content[0].type",
		`{"role":"user","name":"bob","content":"x"}`:                                                                  "messages[1].name",
		`{"role":"system","content":"x"}`:                                                                             "messages[1]",
		`{"role":"user","content":"x","reasoning_content":"y"}`:                                                       "messages[1].reasoning_content",
		`{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"nope"}}]}`: "messages[1].tool_calls[0].function.arguments",
		`{"role":"user","content":[{"type":"image_url","image_url":{"url":"x","detail":"low"}}]}`:                     "messages[1].content[0].image_url.detail",
		`{"role":"user","content":[{"type":"file","file":{"file_id":"x"}}]}`:                                          "messages[1].content[0].file",
		`{"role":"robot","content":"x"}`:                                                                              "messages[1].role",
	} {
		body := `{"model":"m","messages":[{"role":"user","content":"hi"},` + message + `]}`
		if _, err := FromChat([]byte(body), 9); openai.AsError(err).Param != param {
			t.Errorf("%s: got %v, want %s to be refused", message, err, param)
		}
	}
	// Fields at their default, and those that say nothing to a model, are no reason.
	body := `{"model":"claude-opus-4-1","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":""},{"role":"user","content":"x"}],"n":1,"logprobs":false,"presence_penalty":0,"logit_bias":{},"stream_options":{"include_usage":true},"store":true,"seed":null,"modalities":["text"],"reasoning_effort":"medium","max_completion_tokens":5000}`
	out, err := FromChat([]byte(body), 9)
	const want = `{"model":"claude-opus-4-1","messages":[{"role":"user","content":"hi"},{"role":"user","content":"x"}],"thinking":{"type":"enabled","budget_tokens":2500},"max_tokens":5000}`
	if err != nil || string(out) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, out, want)
	}
}

// TestFromChatSays: what has a place of another form in Messages.
func TestFromChatSays(t *testing.T) {
	for more, want := range map[string]string{
		`"model":"claude-sonnet-4-5","max_tokens":5000,"reasoning":{"max_tokens":2000}`:             `{"model":"claude-sonnet-4-5","thinking":{"type":"enabled","budget_tokens":2000},"messages":[{"role":"user","content":"hi"}],"max_tokens":5000}`,
		`"model":"claude-sonnet-4-5","max_tokens":5000,"reasoning":{"effort":"low","exclude":true}`: `{"model":"claude-sonnet-4-5","thinking":{"type":"enabled","budget_tokens":2048,"display":"omitted"},"messages":[{"role":"user","content":"hi"}],"max_tokens":5000}`,
		`"model":"claude-opus-4-7","max_tokens":5000,"reasoning":{"effort":"low","exclude":true}`:   `{"model":"claude-opus-4-7","thinking":{"type":"adaptive","display":"omitted"},"messages":[{"role":"user","content":"hi"}],"output_config":{"effort":"low"},"max_tokens":5000}`,
		`"model":"claude-opus-4-7","max_tokens":5000,"reasoning":{"effort":"low","exclude":false}`:  `{"model":"claude-opus-4-7","thinking":{"type":"adaptive"},"messages":[{"role":"user","content":"hi"}],"output_config":{"effort":"low"},"max_tokens":5000}`,
	} {
		out, err := FromChat([]byte(`{`+more+`,"messages":[{"role":"user","content":"hi"}]}`), 9)
		if err != nil || !reflect.DeepEqual(parsed(t, out), parsed(t, []byte(want))) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", more, err, out, want)
		}
	}
	const call = `{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},`
	const called = `{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},`
	digest := `"` + openai.PlainID("functions.f:0") + `"`
	const mark = `"cache_control":{"type":"ephemeral"}`
	for said, want := range map[string]string{
		strings.ReplaceAll(call, `"id":"a"`, `"id":"functions.f:0"`) + `{"role":"tool","tool_call_id":"functions.f:0","content":"x"}`:        strings.ReplaceAll(called, `"a"`, digest) + `{"role":"user","content":[{"type":"tool_result","tool_use_id":` + digest + `,"content":"x"}]}`,
		call + `{"role":"tool","tool_call_id":"a","name":"f","content":"x"}`:                                                                 called + `{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"x"}]}`,
		`{"role":"user",` + mark + `,"content":"hi"}`:                                                                                        `{"role":"user","content":[{"type":"text","text":"hi",` + mark + `}]}`,
		`{"role":"user","content":"hi"},{"role":"assistant",` + mark + `,"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`: `{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"text","text":"b",` + mark + `}]}`,
		`{"role":"user",` + mark + `,"content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}}]}`:                `{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}}]}`,
	} {
		out, err := FromChat([]byte(`{"model":"m","messages":[`+said+`]}`), 9)
		if whole := `{"model":"m","messages":[` + want + `],"max_tokens":9}`; err != nil || string(out) != whole {
			t.Errorf("%s: %v\ngot  %s\nwant %s", said, err, out, whole)
		}
	}
}

// TestSayable: what only some models cannot be told is no reason to leave them all out.
func TestSayable(t *testing.T) {
	for _, more := range []string{`,"reasoning":{"max_tokens":2000}`, `,"reasoning_effort":"low","max_tokens":1000`} {
		for _, model := range []string{"auto", "claude-opus-4-7", "claude-sonnet-4-5"} {
			if err := Sayable([]byte(`{"model":"` + model + `","messages":[{"role":"user","content":"hi"}]` + more + `}`)); err != nil {
				t.Errorf("%s%s: %v", model, more, err)
			}
		}
	}
	if err := Sayable([]byte(`{"model":"auto","messages":[{"role":"user","content":"hi"}],"n":2}`)); openai.AsError(err).Param != "n" {
		t.Errorf("got %v, want n to be refused", err)
	}
}

// TestFromChatLeavesForeignThoughtsOut: what another vendor's arm thought is no reason to keep Claude from the conversation.
func TestFromChatLeavesForeignThoughtsOut(t *testing.T) {
	const call = `,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]`
	for message, want := range map[string]string{
		`"content":"x","reasoning_content":"y"`: `{"role":"assistant","content":"x"},`,
		`"content":"x","reasoning":"y"`:         `{"role":"assistant","content":"x"},`,
		`"content":"x","reasoning_details":[{"type":"reasoning.text","text":"y"},{"type":"reasoning.encrypted","data":"z","format":"openai-responses-v1"},{"type":"reasoning.text","text":"y","signature":"z","format":"google-gemini-v1"},{"type":"reasoning.summary","summary":"s"}]`: `{"role":"assistant","content":"x"},`,
		`"content":null,"reasoning_content":"y"` + call: `{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},`,
		`"content":"","reasoning_content":"y"`:          ``, // it said nothing aloud
		// LiteLLM sends Claude's own back so.
		`"content":"x","reasoning_content":"y","provider_specific_fields":{"reasoning_details":[{"type":"reasoning.text","text":"y","signature":"z"}]}`: `{"role":"assistant","content":[{"type":"thinking","thinking":"y","signature":"z"},{"type":"text","text":"x"}]},`,
		`"content":"x","provider_specific_fields":{"refusal":null}`:                                                                                     `{"role":"assistant","content":"x"},`,
	} {
		out, err := FromChat([]byte(`{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant",`+message+`},{"role":"user","content":"on"}]}`), 9)
		if whole := `{"model":"m","messages":[{"role":"user","content":"hi"},` + want + `{"role":"user","content":"on"}],"max_tokens":9}`; err != nil || string(out) != whole {
			t.Errorf("%s: %v\ngot  %s\nwant %s", message, err, out, whole)
		}
	}
}

func parsed(t interface {
	Helper()
	Fatalf(string, ...any)
}, text []byte) any {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("not JSON: %v in %s", err, text)
	}
	return v
}

// drawn makes requests of all that both dialects can say.
type drawn struct {
	*rapid.T
	ids int
}

var anyText = rapid.StringMatching(`[a-z ä"\\\n<]{1,12}`)

func (d *drawn) text() string { return anyText.Draw(d.T, "text") }

func (d *drawn) maybe(label string) bool { return rapid.Bool().Draw(d.T, label) }

type obj = map[string]any

// parts are a chat content: a text, or several parts.
func (d *drawn) parts() any {
	if d.maybe("plain") {
		return d.text()
	}
	parts := []any{obj{"type": "text", "text": d.text()}} // a list of one text is the text in the other dialect
	for range rapid.IntRange(1, 3).Draw(d.T, "parts") {
		switch rapid.IntRange(0, 3).Draw(d.T, "kind") {
		case 0:
			parts = append(parts, obj{"type": "text", "text": d.text()})
		case 1:
			parts = append(parts, obj{"type": "image_url", "image_url": obj{"url": "data:image/png;base64,QUJD"}})
		case 2:
			parts = append(parts, obj{"type": "image_url", "image_url": obj{"url": "https://x/" + d.text()}})
		default:
			parts = append(parts, obj{"type": "file", "file": obj{"filename": d.text(), "file_data": "data:application/pdf;base64,QUJD"}})
		}
	}
	return parts
}

func (d *drawn) turns() []any {
	var messages []any
	if d.maybe("system") {
		messages = append(messages, obj{"role": "system", "content": d.text()})
	}
	messages = append(messages, obj{"role": "user", "content": d.parts()})
	for range rapid.IntRange(0, 3).Draw(d.T, "turns") {
		m := obj{"role": "assistant", "content": d.text()}
		var results []any
		if d.maybe("calls") {
			var calls []any
			for range rapid.IntRange(1, 3).Draw(d.T, "calls") {
				d.ids++
				id := fmt.Sprintf("call_%d", d.ids)
				arguments, _ := json.Marshal(obj{"a": d.text(), "b": []any{1.5, nil}})
				calls = append(calls, obj{"id": id, "type": "function", "function": obj{"name": "f", "arguments": string(arguments)}})
				results = append(results, obj{"role": "tool", "tool_call_id": id, "content": d.text()})
			}
			if m["tool_calls"] = calls; d.maybe("no text") {
				m["content"] = nil
			}
		}
		messages = append(append(messages, m), results...)
		if results == nil || d.maybe("user after results") {
			messages = append(messages, obj{"role": "user", "content": d.parts()})
		}
	}
	return messages
}

func (d *drawn) request() obj {
	r := obj{"model": "claude-opus-4-8", "max_tokens": 5000, "messages": d.turns()}
	for name, value := range map[string]any{
		"stream": true, "temperature": 0.5, "top_p": 0.25, "stop": []any{d.text(), "b"}, "user": d.text(), "service_tier": "default",
		"response_format":  obj{"type": "json_schema", "json_schema": obj{"name": "answer", "strict": true, "schema": obj{"type": "object"}}},
		"reasoning_effort": rapid.SampledFrom([]string{"low", "medium", "high"}).Draw(d.T, "effort"),
	} {
		if d.maybe(name) {
			r[name] = value
		}
	}
	if d.maybe("tools") {
		r["tools"] = []any{obj{"type": "function", "function": obj{"name": "f", "description": d.text(), "strict": true, "parameters": obj{"type": "object", "properties": obj{}}}}}
		r["tool_choice"] = rapid.SampledFrom([]any{"auto", "required", obj{"type": "function", "function": obj{"name": "f"}}}).Draw(d.T, "choice")
		if d.maybe("parallel") {
			r["parallel_tool_calls"] = false
		}
	}
	return r
}

// TestRequestsThereAndBack (pain 33: BerriAI/litellm#13373, #26224): what both dialects can say comes back as it was, from chat to Messages and back, and from
// Messages to chat and back.
func TestRequestsThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &drawn{T: t}
		chat, err := json.Marshal(d.request())
		if err != nil {
			t.Fatal(err)
		}
		there, err := FromChat(chat, 9)
		if err != nil {
			t.Fatalf("%s: %v", chat, err)
		}
		s, err := Decode(there, openai.DecodeOptions{})
		if err != nil || s.NativeOnly != "" || s.ForeignOnly != "" {
			t.Fatalf("%s: %v, only native %q, only foreign %q", there, err, s.NativeOnly, s.ForeignOnly)
		}
		if got, want := parsed(t, s.Chat), parsed(t, chat); !reflect.DeepEqual(got, want) {
			t.Fatalf("chat, there and back:\ngot  %s\nwant %s\nby   %s", s.Chat, chat, there)
		}
		back, err := FromChat(s.Chat, 9)
		if err != nil || !reflect.DeepEqual(parsed(t, back), parsed(t, there)) {
			t.Fatalf("Messages, there and back: %v\ngot  %s\nwant %s", err, back, there)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"model":"m","max_tokens":9,"system":[{"type":"text","text":"a"}],"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"A"}}]},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"a":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","is_error":true,"content":[{"type":"text","text":"x"}]}]}],"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"any"},"thinking":{"type":"enabled","budget_tokens":2000}}`))
	f.Add([]byte(`{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":""},{"type":"document","title":"t","source":{"type":"text","media_type":"text/plain","data":"d"}}]}],"top_k":1,"tradewind":{}}`))
	f.Add([]byte(`{"model":"m","max_tokens":1,"system":[{"type":"text","text":""}],"messages":[{"role":"user","content":"a"}]}`))
	f.Add([]byte(`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"f.0:1"}]}]}`))
	f.Add([]byte(`{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","is_error":true}]}]}`))
	f.Add([]byte(`{"model":"m","max_tokens":1,"system":[{"type":"text","text":""},{"type":"text","text":""}],"messages":[{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":"a"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := Decode(body, openai.DecodeOptions{})
		if err != nil {
			if openai.AsError(err).Status >= 500 {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if !json.Valid(s.Chat) || len(s.Chat) > 8*len(body)+1024 {
			t.Fatalf("%q: %d bytes of chat: %s", body, len(s.Chat), s.Chat)
		}
		native := s.AppendUpstream(nil, openai.Upstream{Model: "x", MaxOutput: 5})
		fields, err := openai.ParseFields(native, openai.DecodeOptions{})
		if err != nil {
			t.Fatalf("%q: for a vendor of the dialect: %s", body, native)
		}
		for _, f := range s.Fields { // byte for byte, but for the model, the cap and what is about routing
			if f.Name != "model" && f.Name != s.CapField && !openai.IsRouting(f.Name) && string(fields.Get(f.Name)) != string(s.Fields.Get(f.Name)) {
				t.Fatalf("%q: %s is %s for a vendor of the dialect", body, f.Name, fields.Get(f.Name))
			}
		}
		if _, err := openai.Decode(s.Chat, openai.DecodeOptions{BodyMax: 1 << 30, DepthMax: 128}); err != nil && openai.AsError(err).Status >= 500 {
			t.Fatalf("%q: %v", body, err)
		}
		// What both dialects can say: every word comes back, and what is normalized on the way is normal from then on.
		back, err := FromChat(s.Chat, 9)
		if err != nil || s.NativeOnly != "" || s.ForeignOnly != "" {
			return
		}
		once := thereAndBack(t, s.Chat, back)
		var was, is struct{ Messages any }
		if json.Unmarshal(s.Chat, &was) != nil || json.Unmarshal(once, &is) != nil {
			t.Fatalf("%q is %s and %s", body, s.Chat, once)
		}
		if plainIDs(was.Messages); !reflect.DeepEqual(was, is) {
			t.Fatalf("%q\nis in chat %s\nand there and back %s\nby %s", body, s.Chat, once, back)
		}
		if back, err = FromChat(once, 9); err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice := thereAndBack(t, once, back); !reflect.DeepEqual(parsed(t, twice), parsed(t, once)) {
			t.Fatalf("%q\nis there and back %s\nand twice %s", body, once, twice)
		}
	})
}

// plainIDs puts the ids of calls, anywhere in a value, into the form in which Anthropic takes them.
func plainIDs(v any) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			plainIDs(v[i])
		}
	case map[string]any:
		for name, value := range v {
			if id, ok := value.(string); ok && (name == "id" || name == "tool_call_id") {
				v[name] = openai.PlainID(id)
			}
			plainIDs(value)
		}
	}
}

// thereAndBack is in chat what was said of a chat request in Messages.
func thereAndBack(t *testing.T, chat, messages []byte) []byte {
	t.Helper()
	s, err := Decode(messages, openai.DecodeOptions{BodyMax: 1 << 30, DepthMax: 128})
	if err != nil || s.NativeOnly != "" || s.ForeignOnly != "" {
		t.Fatalf("%s\nwent to %s: %v, only native %q, only foreign %q", chat, messages, err, s.NativeOnly, s.ForeignOnly)
	}
	return s.Chat
}

func FuzzFromChat(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"a","cache_control":{}},{"type":"image_url","image_url":{"url":"data:image/png;base64,A"}}]},{"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"t","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"stop":"x","reasoning":{"effort":"low"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		out, err := FromChat(body, 9)
		if err != nil {
			if openai.AsError(err).Status >= 500 {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q: not JSON: %s", body, out)
		}
		s, err := Decode(out, openai.DecodeOptions{BodyMax: 1 << 30, DepthMax: 128})
		if err != nil || s.NativeOnly != "" || s.ForeignOnly != "" {
			return // it asked for what Messages would refuse, and will be told so
		}
		back, err := FromChat(s.Chat, 9)
		if err != nil {
			t.Fatalf("%q\nis in Messages %s\nand again in chat %s: %v", body, out, s.Chat, err)
		}
		if again := thereAndBack(t, s.Chat, back); !reflect.DeepEqual(parsed(t, again), parsed(t, s.Chat)) {
			t.Fatalf("%q\nis in Messages %s\nand again in chat %s\nand then %s", body, out, s.Chat, again)
		}
	})
}
