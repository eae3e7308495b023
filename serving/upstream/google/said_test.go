package google

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream/chatform"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

// part, content and request are the vendor's side of the wire, as its documentation has it.
type part struct {
	Text       *string `json:"text"`
	InlineData *struct {
		MimeType, Data string
	} `json:"inlineData"`
	FunctionCall *struct {
		ID, Name string
		Args     json.RawMessage
	} `json:"functionCall"`
	FunctionResponse *struct {
		ID, Name string
		Response struct{ Output string }
	} `json:"functionResponse"`
	ThoughtSignature string `json:"thoughtSignature"`
}

type content struct {
	Role  string
	Parts []part
}

type request struct {
	SystemInstruction content `json:"systemInstruction"`
	Contents          []content
	Tools             []struct {
		FunctionDeclarations []struct {
			Name, Description    string
			ParametersJSONSchema json.RawMessage `json:"parametersJsonSchema"`
		} `json:"functionDeclarations"`
	}
	ToolConfig struct {
		FunctionCallingConfig struct {
			Mode                 string
			AllowedFunctionNames []string `json:"allowedFunctionNames"`
		} `json:"functionCallingConfig"`
	} `json:"toolConfig"`
	GenerationConfig struct {
		MaxOutputTokens    int             `json:"maxOutputTokens"`
		StopSequences      []string        `json:"stopSequences"`
		ResponseMimeType   string          `json:"responseMimeType"`
		ResponseJSONSchema json.RawMessage `json:"responseJsonSchema"`
	} `json:"generationConfig"`
}

// said is what the vendor understands.
func (r *request) said() *upstreamtest.Said {
	s := &upstreamtest.Said{MaxTokens: r.GenerationConfig.MaxOutputTokens, Stop: r.GenerationConfig.StopSequences, Schema: string(r.GenerationConfig.ResponseJSONSchema)}
	for _, p := range r.SystemInstruction.Parts {
		s.System = append(s.System, *p.Text)
	}
	for _, c := range r.Contents {
		if n := len(s.Messages); n == 0 || s.Messages[n-1].Assistant != (c.Role == "model") {
			s.Messages = append(s.Messages, upstreamtest.SaidMessage{Assistant: c.Role == "model"})
		}
		m := &s.Messages[len(s.Messages)-1]
		for _, p := range c.Parts {
			switch {
			case p.Text != nil:
				m.Texts = append(m.Texts, *p.Text)
			case p.InlineData != nil && p.InlineData.MimeType == "image/png":
				m.Images = append(m.Images, p.InlineData.Data)
			case p.FunctionCall != nil:
				m.Calls = append(m.Calls, upstreamtest.SaidCall{ID: p.FunctionCall.ID, Name: p.FunctionCall.Name, Arguments: string(p.FunctionCall.Args)})
			case p.FunctionResponse != nil:
				m.Results = append(m.Results, upstreamtest.SaidCall{ID: p.FunctionResponse.ID, Name: p.FunctionResponse.Name, Output: p.FunctionResponse.Response.Output})
			}
		}
	}
	for _, t := range r.Tools {
		for _, f := range t.FunctionDeclarations {
			s.Tools = append(s.Tools, upstreamtest.SaidTool{Name: f.Name, Description: f.Description, Schema: string(f.ParametersJSONSchema)})
		}
	}
	how := r.ToolConfig.FunctionCallingConfig
	switch s.Choice = map[string]string{"AUTO": "auto", "ANY": "required"}[how.Mode]; len(how.AllowedFunctionNames) {
	case 1:
		s.Choice = how.AllowedFunctionNames[0]
	}
	return s
}

// TestRequestsArrive: what every dialect can say is understood by the vendor as it was meant.
func TestRequestsArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := upstreamtest.DrawSaid(t)
		body, _, err := encode(want.Chat(), "gemini-3-pro-preview", true)
		if err != nil {
			t.Fatalf("%s: %v", want.Chat(), err)
		}
		var r request
		if err := json.Unmarshal(body, &r); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if got := r.said(); !equal(got, want) {
			t.Errorf("chat %s\nis %s\nwhich is %+v\nwant %+v", want.Chat(), body, got, want)
		}
	})
}

// equal compares what was said; a list that is empty says nothing.
func equal(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	plain := func(b []byte) string { return strings.ReplaceAll(string(b), "[]", "null") }
	return err == nil && err2 == nil && plain(x) == plain(y)
}

// say is an answer in the vendor's dialect, cut into events.
func say(t *rapid.T, a *upstreamtest.Answered) []string {
	reason := map[string]string{"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}[a.Finish]
	var parts []map[string]any
	for _, p := range pieces(t, a.Thought) {
		parts = append(parts, map[string]any{"text": p, "thought": true})
	}
	for _, p := range pieces(t, a.Text) {
		parts = append(parts, map[string]any{"text": p})
	}
	for _, c := range a.Calls {
		parts = append(parts, map[string]any{"functionCall": map[string]any{"id": c.ID, "name": c.Name, "args": json.RawMessage(c.Arguments)}})
	}
	var events []string
	event := func(candidate map[string]any) {
		reasoning := min(a.Usage.Output, 3)
		data, err := json.Marshal(map[string]any{"candidates": []any{candidate}, "responseId": "r", "usageMetadata": map[string]any{
			"promptTokenCount": a.Usage.Input, "cachedContentTokenCount": a.Usage.CacheRead, "thoughtsTokenCount": reasoning,
			"candidatesTokenCount": a.Usage.Output - reasoning, "totalTokenCount": a.Usage.Input + a.Usage.Output,
		}})
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, string(data))
	}
	for len(parts) > 0 {
		n := rapid.IntRange(1, len(parts)).Draw(t, "parts")
		event(map[string]any{"content": map[string]any{"role": "model", "parts": parts[:n]}})
		parts = parts[n:]
	}
	event(map[string]any{"finishReason": reason})
	return events
}

// pieces cuts a text between its characters.
func pieces(t *rapid.T, s string) []string {
	var out []string
	for r := []rune(s); len(r) > 0; {
		n := rapid.IntRange(1, len(r)).Draw(t, "cut")
		out, r = append(out, string(r[:n])), r[n:]
	}
	return out
}

// TestAnswersArrive: an answer is heard as it was said, however it is cut, and whole as it is streamed.
func TestAnswersArrive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := upstreamtest.DrawAnswered(rt)
		want.Usage.Reasoning = min(want.Usage.Output, 3)
		var r reader
		to := streamed{w: &r.w}
		for _, ev := range say(rt, want) {
			if err := r.event([]byte(ev), &to); err != nil {
				rt.Fatalf("%s: %v", ev, err)
			}
		}
		if got := upstreamtest.Heard(t, r.w.End(to.queue, r.usage)); !r.complete() || !equal(got, want) {
			rt.Errorf("heard %+v, want %+v", got, want)
		}
		var whole reader
		var all gathered
		for _, ev := range say(rt, want) {
			if err := whole.event([]byte(ev), &all); err != nil {
				rt.Fatalf("%s: %v", ev, err)
			}
		}
		if got := upstreamtest.Heard(t, []openai.Chunk{all.whole.Answer(&chatform.Writer{}, whole.usage)}); !equal(got, want) {
			rt.Errorf("heard %+v at once, want %+v", got, want)
		}
	})
}

// TestSignaturesReturn: what a client gets beside a call, it can hand back, and Gemini gets its own signature again.
func TestSignaturesReturn(t *testing.T) {
	var r reader
	to := streamed{w: &r.w}
	if err := r.event([]byte(`{"candidates":[{"content":{"parts":[{"functionCall":{"id":"c","name":"f","args":{}},"thoughtSignature":"c2ln"}]},"finishReason":"STOP"}]}`), &to); err != nil {
		t.Fatal(err)
	}
	var chunk struct {
		Choices []struct {
			Delta struct {
				ToolCalls []json.RawMessage `json:"tool_calls"`
			}
		}
	}
	if err := json.Unmarshal(to.queue[1].Data, &chunk); err != nil {
		t.Fatal(err)
	}
	history := func(call string) string {
		return `{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[` + call + `]},{"role":"tool","tool_call_id":"c","content":"{\"x\":1}"}]}`
	}
	for _, test := range []struct{ call, model, want string }{
		{string(chunk.Choices[0].Delta.ToolCalls[0]), "gemini-3-pro-preview", "c2ln"},
		{string(chunk.Choices[0].Delta.ToolCalls[0]), "gemini-2.5-pro", "c2ln"},
		{`{"id":"c","type":"function","function":{"name":"f","arguments":""}}`, "gemini-3-pro-preview", "skip_thought_signature_validator"},
		{`{"id":"c","type":"function","function":{"name":"f","arguments":""}}`, "gemini-2.5-pro", ""},
	} {
		body, _, err := encode([]byte(history(test.call)), test.model, true)
		if err != nil {
			t.Fatal(err)
		}
		var got request
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if s := got.Contents[1].Parts[0].ThoughtSignature; s != test.want {
			t.Errorf("%s: signature %q, want %q", test.model, s, test.want)
		}
		if !strings.Contains(string(body), `"response":{"x":1}`) || !reflect.DeepEqual([]string{got.Contents[0].Role, got.Contents[1].Role, got.Contents[2].Role}, []string{"user", "model", "user"}) {
			t.Errorf("the request is %s", body)
		}
	}
}
