package google

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/chatform"
)

// chat is a request with more members.
func chat(more string) []byte {
	return []byte(`{"model":"m","messages":[{"role":"user","content":"hi"}]` + more + `}`)
}

func messages(list string) []byte { return []byte(`{"model":"m","messages":[` + list + `]}`) }

const tools = `,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}]`

func schemaOf(s string) []byte {
	return chat(`,"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":` + s + `}}`)
}

func TestSaid(t *testing.T) {
	for name, test := range map[string]struct {
		model string
		body  []byte
		want  string
	}{
		"settings":        {"gemini-2.5-flash", chat(`,"temperature":2,"top_p":0.5,"top_k":3,"seed":0,"presence_penalty":0,"frequency_penalty":-1,"n":2`), `"temperature":2,"topP":0.5,"topK":3,"seed":0,"presencePenalty":0,"frequencyPenalty":-1,"candidateCount":2`},
		"larger cap":      {"gemini-2.5-flash", chat(`,"max_tokens":5,"max_completion_tokens":7`), `"maxOutputTokens":7`},
		"one stop":        {"gemini-2.5-flash", chat(`,"stop":"\n"`), `"stopSequences":["\n"]`},
		"json":            {"gemini-2.5-flash", chat(`,"response_format":{"type":"json_object"}`), `"responseMimeType":"application/json"}`},
		"effort, budget":  {"gemini-2.5-flash", chat(`,"reasoning_effort":"medium"`), `"thinkingConfig":{"thinkingBudget":8192,"includeThoughts":true}`},
		"half of the cap": {"gemini-2.5-flash", chat(`,"reasoning_effort":"high","max_tokens":4000`), `"thinkingBudget":2000`},
		"no thinking":     {"gemini-2.5-flash", chat(`,"reasoning_effort":"none"`), `"thinkingConfig":{"thinkingBudget":0}`},
		"effort, level":   {"gemini-3-flash-preview", chat(`,"reasoning_effort":"minimal"`), `"thinkingConfig":{"thinkingLevel":"minimal","includeThoughts":true}`},
		"level of pro":    {"gemini-3-pro-preview", chat(`,"reasoning_effort":"medium"`), `"thinkingLevel":"high"`},
		"budget, hidden":  {"gemini-3-flash-preview", chat(`,"reasoning":{"max_tokens":900,"exclude":true}`), `"thinkingConfig":{"thinkingBudget":900}`},
		"just thinking":   {"gemini-3-flash-preview", chat(`,"reasoning":{"enabled":true}`), `"thinkingLevel":"medium"`},
		"strict tools":    {"gemini-2.5-flash", chat(tools), `"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"type":"object"}}]}],"toolConfig":{"functionCallingConfig":{"mode":"VALIDATED"}}`},
		"no tool":         {"gemini-2.5-flash", chat(tools + `,"tool_choice":"none"`), `"mode":"NONE"`},
		"this tool":       {"gemini-2.5-flash", chat(tools + `,"tool_choice":{"type":"function","function":{"name":"f"}}`), `"mode":"ANY","allowedFunctionNames":["f"]`},
		"media": {"gemini-2.5-flash", messages(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}},{"type":"input_audio","input_audio":{"format":"wav","data":"aGk="}},` +
			`{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,aGk="}}]}`),
			`[{"inlineData":{"mimeType":"image/png","data":"aGk="}},{"inlineData":{"mimeType":"audio/wav","data":"aGk="}},{"inlineData":{"mimeType":"application/pdf","data":"aGk=","displayName":"a.pdf"}}]`},
		"a picture of a tool": {"gemini-3-flash-preview", messages(`{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},` +
			`{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]},{"role":"user","content":"and?"}`),
			`{"role":"user","parts":[{"functionResponse":{"id":"c","name":"f","response":{"output":"see"},"parts":[{"inlineData":{"mimeType":"image/png","data":"aGk="}}]}}]},{"role":"user","parts":[{"text":"and?"}]}`},
		"thoughts":    {"gemini-2.5-flash", messages(`{"role":"user","content":"hi"},{"role":"assistant","reasoning_content":"hm","content":"ho"},{"role":"user","content":"hi"}`), `{"role":"model","parts":[{"text":"hm","thought":true},{"text":"ho"}]}`},
		"one turn":    {"gemini-2.5-flash", messages(`{"role":"user","content":"a"},{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":"b"}]}`), `"contents":[{"role":"user","parts":[{"text":"a"},{"text":"b"}]}]`},
		"marks":       {"gemini-2.5-flash", messages(`{"role":"system","content":"s","cache_control":{"type":"ephemeral"}},{"role":"user","content":"a"}`), `"systemInstruction":{"parts":[{"text":"s"}]}`},
		"schema":      {"gemini-2.5-flash", schemaOf(`{"$schema":"x","type":"object","properties":{"kind":{"const":"a"},"n":{"type":["integer","null"],"minimum":0},"r":{"$ref":"#/$defs/r"}},"$defs":{"r":{"type":"array","items":{"enum":["x",1]}}},"additionalProperties":false}`), `"responseJsonSchema":{"$schema":"x","type":"object","properties":{"kind":{"enum":["a"]},"n":{"type":["integer","null"],"minimum":0},"r":{"$ref":"#/$defs/r"}},"$defs":{"r":{"type":"array","items":{"enum":["x",1]}}},"additionalProperties":false}`},
		"saying none": {"gemini-2.5-flash", chat(`,"logit_bias":{},"logprobs":false,"store":true,"user":"me","metadata":{"a":"b"},"stream_options":{"include_usage":true},"service_tier":"auto","parallel_tool_calls":true,"modalities":["text"],"tradewind":{"explain":true}`), `"generationConfig":{}`},
	} {
		got, _, err := encode(test.body, test.model, true)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !json.Valid(got) || !strings.Contains(string(got), test.want) {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

// TestUnsaid: what Gemini cannot be told is named, and never dropped.
func TestUnsaid(t *testing.T) {
	for _, test := range []struct {
		body  []byte
		param string
	}{
		{chat(`,"logprobs":true`), "logprobs"},
		{chat(`,"logit_bias":{"50256":-100}`), "logit_bias"},
		{chat(`,"n":9`), "n"},
		{chat(`,"stop":["a","b","c","d","e","f"]`), "stop"},
		{chat(`,"service_tier":"flex"`), "service_tier"},
		{chat(`,"modalities":["text","audio"]`), "modalities"},
		{chat(`,"reasoning_effort":"enormous"`), "reasoning_effort"},
		{chat(`,"something_new":1`), "something_new"},
		{chat(tools + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{}}`), "tool_choice"},
		{chat(`,"tools":[{"type":"custom","custom":{"name":"x"}}]`), "tools[0].type"},
		{chat(`,"functions":[{"name":"f"}]`), "functions"},
		{chat(`,"response_format":{"type":"grammar"}`), "response_format.type"},
		{schemaOf(`{"type":"object","properties":{"a":{"type":"string","pattern":"^x"}}}`), "response_format.json_schema.schema.properties.a.pattern"},
		{schemaOf(`{"anyOf":[{"type":"string","minLength":1}]}`), "response_format.json_schema.schema.anyOf[0].minLength"},
		{schemaOf(`{"enum":[true]}`), "response_format.json_schema.schema.enum"},
		{schemaOf(`{"const":null}`), "response_format.json_schema.schema.const"},
		{schemaOf(`{"properties":{"a":{"$ref":"#/$defs/a","description":"x"}}}`), "response_format.json_schema.schema.properties.a.description"},
		{messages(`{"role":"user","content":"a"},{"role":"system","content":"b"}`), "messages[1]"},
		{messages(`{"role":"system","content":"b"}`), "messages"},
		{messages(`{"role":"user","name":"bob","content":"a"}`), "messages[0].name"},
		{messages(`{"role":"moderator","content":"a"}`), "messages[0].role"},
		{messages(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}`), "messages[0].content[0].image_url.url"},
		{messages(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png,hi"}}]}`), "messages[0].content[0].image_url.url"},
		{messages(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk=","detail":"high"}}]}`), "messages[0].content[0].image_url.detail"},
		{messages(`{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}`), "messages[0].content[0].file"},
		{messages(`{"role":"user","content":[{"type":"video_url","video_url":{"url":"x"}}]}`), "messages[0].content[0].type"},
		{messages(`{"role":"user","content":"a"},{"role":"tool","tool_call_id":"x","content":"b"}`), "messages[1].tool_call_id"},
		{messages(`{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":"[1]"}}]}`), "messages[1].tool_calls[0].function.arguments"},
		{messages(`{"role":"user","content":"a"},{"role":"assistant","content":"b","audio":{"id":"x"}}`), "messages[1].audio"},
	} {
		_, _, err := encode(test.body, "gemini-2.5-flash", true)
		if got := upstream.Lacking(err); got != test.param {
			t.Errorf("%s: lacks %q (%v), want %q", test.body, got, err, test.param)
		}
	}
}

// TestUnable: what only some models cannot be told is no reason to leave them all out, and another may be tried.
func TestUnable(t *testing.T) {
	p := &Provider{}
	for _, model := range []string{"gemini-2.5-pro", "gemini-3-flash-preview"} {
		_, _, err := encode(chat(`,"reasoning_effort":"none"`), model, true)
		var e *upstream.Error
		if !errors.As(err, &e) || e.Class != upstream.Unsayable || e.Param != "reasoning_effort" {
			t.Errorf("%s: got %v, want the class %s", model, err, upstream.Unsayable)
		}
	}
	if field := p.Lacks(chat(`,"reasoning_effort":"none"`)); field != "" {
		t.Errorf("all models lack %s", field)
	}
	if field := p.Lacks([]byte(`{"model":`)); field == "" {
		t.Error("a broken body can be said")
	}
}

// TestImageOfATool: models before Gemini 3 read only the text of what a tool answered.
func TestImageOfATool(t *testing.T) {
	talk := messages(`{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]}`)
	for model, able := range map[string]bool{"": true, "gemini-2.5-flash": false, "gemini-3-flash-preview": true} {
		_, _, err := encode(talk, model, true)
		var e *upstream.Error
		if able != (err == nil) || err != nil && (!errors.As(err, &e) || e.Class != upstream.Unsayable || e.Param != "messages[2].content") {
			t.Errorf("%q: got %v", model, err)
		}
	}
}

func TestRetryDelay(t *testing.T) {
	for s, want := range map[string]time.Duration{"34.5s": 34500 * time.Millisecond, "0s": 0, "-1s": 0, "x": 0, "99999999s": time.Hour, "": 0} {
		if got := retryDelay(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// Several answers to one question are told apart.
func TestChoices(t *testing.T) {
	var r reader
	to := streamed{w: &r.w}
	for _, ev := range []string{
		`{"candidates":[{"index":1,"content":{"parts":[{"text":"b"}]}},{"content":{"parts":[{"text":"a"}]}}]}`,
		`{"candidates":[{"index":1,"finishReason":"STOP"}]}`,
	} {
		if err := r.event([]byte(ev), &to); err != nil {
			t.Fatal(err)
		}
	}
	if r.complete() {
		t.Error("an answer of which one choice has not ended passes for complete")
	}
	if err := r.event([]byte(`{"candidates":[{"index":0,"finishReason":"STOP"}]}`), &to); err != nil || !r.complete() {
		t.Errorf("not complete: %v", err)
	}
	for _, ev := range []string{`{"candidates":[{"index":8}]}`, `{"candidates":"x"}`, `{"candidates":[{"content":{"parts":[{"executableCode":{}}]}}]}`, `{"candidates":[{"content":{"parts":{}}}]}`, `{"candidates":[1]}`} {
		if err := (&reader{}).event([]byte(ev), &streamed{w: &chatform.Writer{}}); err == nil {
			t.Errorf("%s was accepted", ev)
		}
	}
}

func TestUsage(t *testing.T) {
	for raw, want := range map[string]openai.Usage{
		`{"promptTokenCount":10,"candidatesTokenCount":3,"totalTokenCount":13}`:                                                                                                      {Known: true, Input: 10, Output: 3},
		`{"promptTokenCount":10,"totalTokenCount":10}`:                                                                                                                               {Known: true, Input: 10},
		`{"promptTokenCount":10,"thoughtsTokenCount":4,"totalTokenCount":14}`:                                                                                                        {Known: true, Input: 10, Output: 4, Reasoning: 4},
		`{"promptTokenCount":10,"toolUsePromptTokenCount":5,"candidatesTokenCount":1,"totalTokenCount":16}`:                                                                          {Known: true, Input: 15, Output: 1},
		`{"promptTokenCount":10,"cachedContentTokenCount":6,"candidatesTokenCount":1,"totalTokenCount":11}`:                                                                          {Known: true, Input: 10, CacheRead: 6, Output: 1},
		`{"promptTokenCount":10,"promptTokensDetails":[{"modality":"TEXT","tokenCount":2},{"modality":"AUDIO","tokenCount":8}]}`:                                                     {Known: true, Input: 10, AudioInput: 8},
		`{"promptTokenCount":10,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":8}],"cacheTokensDetails":[{"modality":"AUDIO","tokenCount":5}],"cachedContentTokenCount":5}`: {Known: true, Input: 10, CacheRead: 5, AudioInput: 3},
		`{}`:                      {},
		`{"promptTokenCount":-1}`: {Known: true},
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
	f.Add(schemaOf(`{"type":"object","properties":{"a":{"const":"x"}},"anyOf":[{"$ref":"#"}]}`))
	f.Add(messages(`{"role":"system","content":"s"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]},{"role":"assistant","reasoning":"r","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"{\"a\":1}"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		out, _, err := encode(body, "gemini-3-pro-preview", true)
		if err == nil && !json.Valid(out) {
			t.Fatalf("%s became %s", body, out)
		}
		if err == nil && len(out) > 4*len(body)+1024 {
			t.Fatalf("%d bytes became %d", len(body), len(out))
		}
	})
}

// FuzzAnswer: whatever a vendor sends, chat gets JSON that says nothing of its own, or there is an error.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"candidates":[{"content":{"parts":[{"text":"a","thought":true},{"functionCall":{"name":"f"},"thoughtSignature":"x"}]},"finishReason":"STOP","index":1}],"usageMetadata":{"promptTokenCount":1},"responseId":"r"}`))
	f.Add([]byte(`{"promptFeedback":{"blockReason":"SAFETY"}}`))
	f.Add([]byte(`{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3s"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r, whole reader
		to := streamed{w: &r.w}
		var all gathered
		err, err2 := r.event(data, &to), whole.event(data, &all)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("streamed %v, whole %v", err, err2)
		}
		events := append(r.w.End(to.queue, r.usage), all.whole.Answer(&whole.w, whole.usage))
		size := 0
		for _, ev := range events {
			if size += len(ev.Data); string(ev.Data) != "[DONE]" && !json.Valid(ev.Data) {
				t.Fatalf("%s became %s", data, ev.Data)
			}
		}
		if size > 300*(len(data)+8)+4096 {
			t.Fatalf("%d bytes became %d", len(data), size)
		}
	})
}

// BenchmarkLacks is what a request costs that might be Gemini's, wherever it goes: an agent's, with 30 tools and 40 messages.
// Decode is what reading the same request costs.
func BenchmarkLacks(b *testing.B) {
	var body strings.Builder
	body.WriteString(`{"model":"auto","messages":[{"role":"system","content":"` + strings.Repeat("Be careful. ", 1000) + `"}`)
	for range 20 {
		body.WriteString(`,{"role":"user","content":"` + strings.Repeat("What is this? ", 100) + `"},{"role":"assistant","content":"` + strings.Repeat("Something. ", 100) + `"}`)
	}
	body.WriteString(`,{"role":"user","content":"go on"}],"tools":[`)
	for i := range 30 {
		if i > 0 {
			body.WriteByte(',')
		}
		body.WriteString(`{"type":"function","function":{"name":"f","description":"` + strings.Repeat("It does it. ", 40) + `","parameters":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"array","items":{"type":"integer"}}}}}}`)
	}
	body.WriteString(`]}`)
	chat, p := []byte(body.String()), &Provider{}
	b.Run("Lacks", func(b *testing.B) {
		b.SetBytes(int64(len(chat)))
		b.ReportAllocs()
		for b.Loop() {
			if field := p.Lacks(chat); field != "" {
				b.Fatal(field)
			}
		}
	})
	b.Run("Decode", func(b *testing.B) {
		b.SetBytes(int64(len(chat)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := openai.Decode(chat, openai.DecodeOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
