package bedrock

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

// block and request are the vendor's side of the wire, as its documentation has it.
type block struct {
	Text  *string
	Image *struct {
		Format string
		Source struct{ Bytes string }
	}
	ToolUse *struct {
		ToolUseID string `json:"toolUseId"`
		Name      string
		Input     json.RawMessage
	} `json:"toolUse"`
	ToolResult *struct {
		ToolUseID string `json:"toolUseId"`
		Content   []block
	} `json:"toolResult"`
	ReasoningContent json.RawMessage `json:"reasoningContent"`
	CachePoint       json.RawMessage `json:"cachePoint"`
}

type request struct {
	System   []block
	Messages []struct {
		Role    string
		Content []block
	}
	InferenceConfig struct {
		MaxTokens     int      `json:"maxTokens"`
		StopSequences []string `json:"stopSequences"`
	} `json:"inferenceConfig"`
	ToolConfig struct {
		Tools []struct {
			ToolSpec struct {
				Name, Description string
				InputSchema       struct{ JSON json.RawMessage } `json:"inputSchema"`
			} `json:"toolSpec"`
		}
		ToolChoice struct {
			Auto, Any *struct{}
			Tool      *struct{ Name string }
		} `json:"toolChoice"`
	} `json:"toolConfig"`
	OutputConfig struct {
		TextFormat struct {
			Structure struct {
				JSONSchema struct{ Schema string } `json:"jsonSchema"`
			}
		} `json:"textFormat"`
	} `json:"outputConfig"`
}

// said is what the vendor understands.
func (r *request) said() *upstreamtest.Said {
	s := &upstreamtest.Said{MaxTokens: r.InferenceConfig.MaxTokens, Stop: r.InferenceConfig.StopSequences, Schema: r.OutputConfig.TextFormat.Structure.JSONSchema.Schema}
	for _, b := range r.System {
		s.System = append(s.System, *b.Text)
	}
	names := map[string]string{}
	for _, c := range r.Messages {
		m := upstreamtest.SaidMessage{Assistant: c.Role == "assistant"}
		for _, b := range c.Content {
			switch {
			case b.Text != nil:
				m.Texts = append(m.Texts, *b.Text)
			case b.Image != nil && b.Image.Format == "png":
				m.Images = append(m.Images, b.Image.Source.Bytes)
			case b.ToolUse != nil:
				names[b.ToolUse.ToolUseID] = b.ToolUse.Name
				m.Calls = append(m.Calls, upstreamtest.SaidCall{ID: b.ToolUse.ToolUseID, Name: b.ToolUse.Name, Arguments: string(b.ToolUse.Input)})
			case b.ToolResult != nil:
				id := b.ToolResult.ToolUseID
				m.Results = append(m.Results, upstreamtest.SaidCall{ID: id, Name: names[id], Output: *b.ToolResult.Content[0].Text})
			}
		}
		s.Messages = append(s.Messages, m)
	}
	for _, t := range r.ToolConfig.Tools {
		s.Tools = append(s.Tools, upstreamtest.SaidTool{Name: t.ToolSpec.Name, Description: t.ToolSpec.Description, Schema: string(t.ToolSpec.InputSchema.JSON)})
	}
	switch how := r.ToolConfig.ToolChoice; {
	case how.Auto != nil:
		s.Choice = "auto"
	case how.Any != nil:
		s.Choice = "required"
	case how.Tool != nil:
		s.Choice = how.Tool.Name
	}
	return s
}

// TestRequestsArrive: what every dialect can say is understood by the vendor as it was meant.
func TestRequestsArrive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := upstreamtest.DrawSaid(t)
		body, _, err := encode(want.Chat(), "anthropic.claude-sonnet-4-6")
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

type event struct {
	name, payload string
}

type obj = map[string]any

func encoded(t *rapid.T, v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func stopOf(a *upstreamtest.Answered) string {
	return map[string]string{"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "content_filter": "content_filtered"}[a.Finish]
}

func usageOf(a *upstreamtest.Answered) obj {
	return obj{"inputTokens": a.Usage.Input - a.Usage.CacheRead, "cacheReadInputTokens": a.Usage.CacheRead, "outputTokens": a.Usage.Output, "totalTokens": a.Usage.Input + a.Usage.Output}
}

// say is an answer in the vendor's dialect, cut into events.
func say(t *rapid.T, a *upstreamtest.Answered) []event {
	events := []event{{"messageStart", `{"role":"assistant"}`}}
	add := func(name string, v obj) { events = append(events, event{name, encoded(t, v)}) }
	for _, p := range pieces(t, a.Thought) {
		add("contentBlockDelta", obj{"delta": obj{"reasoningContent": obj{"text": p}}})
	}
	add("contentBlockStop", obj{})
	for _, p := range pieces(t, a.Text) {
		add("contentBlockDelta", obj{"delta": obj{"text": p}})
	}
	add("contentBlockStop", obj{})
	for _, c := range a.Calls {
		add("contentBlockStart", obj{"start": obj{"toolUse": obj{"toolUseId": c.ID, "name": c.Name}}})
		for _, p := range pieces(t, c.Arguments) {
			add("contentBlockDelta", obj{"delta": obj{"toolUse": obj{"input": p}}})
		}
		add("contentBlockStop", obj{})
	}
	add("messageStop", obj{"stopReason": stopOf(a)})
	add("metadata", obj{"usage": usageOf(a)})
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
		var r, whole reader
		var events []openai.Chunk
		for _, ev := range say(rt, want) {
			said, err := r.event(ev.name, []byte(ev.payload))
			if err != nil {
				rt.Fatalf("%s: %v", ev, err)
			}
			events = append(events, said...)
		}
		if got := upstreamtest.Heard(t, r.w.End(events, r.usage)); !r.ended || !equal(got, want) {
			rt.Errorf("heard %+v, want %+v", got, want)
		}
		content := []obj{{"reasoningContent": obj{"reasoningText": obj{"text": want.Thought}}}, {"text": want.Text}}
		for _, c := range want.Calls {
			content = append(content, obj{"toolUse": obj{"toolUseId": c.ID, "name": c.Name, "input": json.RawMessage(c.Arguments)}})
		}
		c, err := whole.whole([]byte(encoded(rt, obj{"output": obj{"message": obj{"role": "assistant", "content": content}}, "stopReason": stopOf(want), "usage": usageOf(want)})))
		if err != nil {
			rt.Fatal(err)
		}
		if got := upstreamtest.Heard(t, []openai.Chunk{c}); !equal(got, want) {
			rt.Errorf("heard %+v at once, want %+v", got, want)
		}
	})
}

// TestThoughtsReturn: what a client gets of a signed thought, it can hand back, and the model gets it again as it was.
func TestThoughtsReturn(t *testing.T) {
	var r reader
	var events []openai.Chunk
	for _, ev := range []event{
		{"contentBlockDelta", `{"delta":{"reasoningContent":{"text":"h"}}}`}, {"contentBlockDelta", `{"delta":{"reasoningContent":{"text":"m\n"}}}`},
		{"contentBlockDelta", `{"delta":{"reasoningContent":{"signature":"c2ln"}}}`}, {"contentBlockStop", `{}`},
		{"contentBlockDelta", `{"delta":{"reasoningContent":{"redactedContent":"c2VjcmV0"}}}`}, {"contentBlockStop", `{}`},
	} {
		said, err := r.event(ev.name, []byte(ev.payload))
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, said...)
	}
	var details []json.RawMessage
	for _, ev := range events {
		var c struct {
			Choices []struct {
				Delta struct {
					Details []json.RawMessage `json:"reasoning_details"`
				}
			}
		}
		if err := json.Unmarshal(ev.Data, &c); err != nil {
			t.Fatal(err)
		}
		details = append(details, c.Choices[0].Delta.Details...)
	}
	if len(details) != 2 {
		t.Fatalf("%d details, want 2", len(details))
	}
	body, _, err := encode(messages(`{"role":"user","content":"hi"},{"role":"assistant","reasoning_content":"hm","reasoning_details":[`+string(details[0])+`,`+string(details[1])+`],"content":"ho"},{"role":"user","content":"so?"}`), "anthropic.claude-sonnet-4-6")
	if err != nil {
		t.Fatal(err)
	}
	if want := `[{"reasoningContent":{"reasoningText":{"text":"hm\n","signature":"c2ln"}}},{"reasoningContent":{"redactedContent":"c2VjcmV0"}},{"text":"ho"}]`; !strings.Contains(string(body), want) {
		t.Errorf("the request is %s, want %s in it", body, want)
	}
}

// TestForeignThoughtsStay: what another maker encrypted Claude would refuse, and what Claude signed the others would.
func TestForeignThoughtsStay(t *testing.T) {
	const claudes, others = `{"type":"reasoning.text","text":"hm","signature":"c2ln","format":"anthropic-claude-v1"}`, `{"type":"reasoning.encrypted","data":"c2VjcmV0","format":"openai-responses-v1"}`
	for _, test := range []struct {
		model, detail string
		said          bool
	}{{"anthropic.claude-sonnet-4-6", claudes, true}, {"anthropic.claude-sonnet-4-6", others, false}, {"amazon.nova-2-lite-v1:0", claudes, false}} {
		details := `"reasoning_details":[` + test.detail + `]`
		for _, said := range []string{details, `"provider_specific_fields":{` + details + `}`} { // LiteLLM sends it so
			body, _, err := encode(messages(`{"role":"user","content":"hi"},{"role":"assistant",`+said+`,"content":"ho"},{"role":"user","content":"so?"}`), test.model)
			if err != nil || strings.Contains(string(body), "reasoningContent") != test.said {
				t.Errorf("%s with %s: %s, %v", test.model, said, body, err)
			}
		}
	}
}
