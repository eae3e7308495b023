package upstreamtest

import (
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file makes conversations and answers that every dialect can say, for properties: what goes there comes back.

// Said is a request that every dialect can say.
type Said struct {
	System   []string
	Messages []SaidMessage
	Tools    []SaidTool
	// Choice is empty, auto, required, or the name of a tool.
	Choice    string
	MaxTokens int
	Stop      []string
	Schema    string
}

// SaidMessage is what one side says before the other does.
type SaidMessage struct {
	Assistant bool
	Texts     []string
	Images    []string
	Calls     []SaidCall
	Results   []SaidCall
}

// SaidCall is a call of a tool, or with its Output the result.
type SaidCall struct{ ID, Name, Arguments, Output string }

// SaidTool is a tool.
type SaidTool struct{ Name, Description, Schema string }

// DrawSaid draws a request. Its results answer the calls before them, and sides take turns.
func DrawSaid(t *rapid.T) *Said {
	text := rapid.StringMatching(`[ -~äß語\n"\\]{0,9}[a-z]`)
	s := &Said{
		System: rapid.SliceOfN(text, 0, 2).Draw(t, "system"), MaxTokens: rapid.IntRange(1, 1<<20).Draw(t, "max tokens"),
		Stop: rapid.SliceOfN(text, 0, 4).Draw(t, "stop"), Schema: rapid.SampledFrom([]string{"", `{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`}).Draw(t, "schema"),
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "tools") {
		s.Tools = append(s.Tools, SaidTool{fmt.Sprintf("tool_%d", i), text.Draw(t, "description"), fmt.Sprintf(`{"type":"object","properties":{"p%d":{"type":"integer","minimum":1}}}`, i)})
	}
	if len(s.Tools) > 0 {
		s.Choice = rapid.SampledFrom([]string{"", "auto", "required", s.Tools[0].Name}).Draw(t, "choice")
	}
	var open []SaidCall
	for i := range rapid.IntRange(1, 6).Draw(t, "messages") {
		m := SaidMessage{Assistant: i%2 == 1, Texts: rapid.SliceOfN(text, 1, 2).Draw(t, "texts")}
		if m.Assistant {
			if open = nil; len(s.Tools) > 0 {
				for j := range rapid.IntRange(0, 3).Draw(t, "calls") {
					open = append(open, SaidCall{ID: fmt.Sprintf("call_%d_%d", i, j), Name: rapid.SampledFrom(s.Tools).Draw(t, "tool").Name, Arguments: rapid.SampledFrom([]string{`{}`, `{"a":[1,{"b":null}]}`}).Draw(t, "arguments")})
				}
			}
			m.Calls = open
		} else {
			for _, c := range open {
				m.Results = append(m.Results, SaidCall{ID: c.ID, Name: c.Name, Output: text.Draw(t, "output")})
			}
			m.Images = rapid.SliceOfN(rapid.SampledFrom([]string{"aGVsbG8=", "d29ybGQ="}), 0, 2).Draw(t, "images")
		}
		s.Messages = append(s.Messages, m)
	}
	return s
}

type object = map[string]any

// Chat is the request in chat.
func (s *Said) Chat() []byte {
	var messages []object
	for _, text := range s.System {
		messages = append(messages, object{"role": "system", "content": text})
	}
	for _, m := range s.Messages {
		var parts, calls []object
		for _, r := range m.Results {
			messages = append(messages, object{"role": "tool", "tool_call_id": r.ID, "content": r.Output})
		}
		for _, text := range m.Texts {
			parts = append(parts, object{"type": "text", "text": text})
		}
		for _, data := range m.Images {
			parts = append(parts, object{"type": "image_url", "image_url": object{"url": "data:image/png;base64," + data}})
		}
		message := object{"role": "user", "content": parts}
		if m.Assistant {
			message["role"] = "assistant"
			for _, c := range m.Calls {
				calls = append(calls, object{"id": c.ID, "type": "function", "function": object{"name": c.Name, "arguments": c.Arguments}})
			}
			message["tool_calls"] = calls
		}
		messages = append(messages, message)
	}
	body := object{"model": "auto", "messages": messages, "max_tokens": s.MaxTokens, "stop": s.Stop}
	var tools []object
	for _, tool := range s.Tools {
		tools = append(tools, object{"type": "function", "function": object{"name": tool.Name, "description": tool.Description, "parameters": json.RawMessage(tool.Schema)}})
	}
	body["tools"] = tools
	switch s.Choice {
	case "":
	case "auto", "required":
		body["tool_choice"] = s.Choice
	default:
		body["tool_choice"] = object{"type": "function", "function": object{"name": s.Choice}}
	}
	if s.Schema != "" {
		body["response_format"] = object{"type": "json_schema", "json_schema": object{"name": "answer", "schema": json.RawMessage(s.Schema)}}
	}
	out, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return out
}

// Answered is an answer that every dialect can say.
type Answered struct {
	Thought, Text string
	Calls         []SaidCall
	Finish        string
	Usage         openai.Usage
}

// DrawAnswered draws an answer.
func DrawAnswered(t *rapid.T) *Answered {
	text := rapid.StringMatching(`[ -~äß語\n"\\]{0,30}`)
	count := rapid.Int64Range(1, 1<<30)
	a := &Answered{Thought: text.Draw(t, "thought"), Text: text.Draw(t, "text"), Finish: rapid.SampledFrom([]string{"stop", "length", "content_filter"}).Draw(t, "finish")}
	for i := range rapid.IntRange(0, 3).Draw(t, "calls") {
		a.Calls = append(a.Calls, SaidCall{ID: fmt.Sprintf("call_%d", i), Name: fmt.Sprintf("tool_%d", i), Arguments: rapid.SampledFrom([]string{`{}`, `{"a":[1,{"b":null}]}`}).Draw(t, "arguments")})
		a.Finish = "tool_calls"
	}
	a.Usage = openai.Usage{Known: true, Input: count.Draw(t, "input"), Output: count.Draw(t, "output")}
	a.Usage.CacheRead = rapid.Int64Range(0, a.Usage.Input).Draw(t, "cached")
	return a
}

// Heard puts together what the events of an answer in chat say. It reads them as clients do.
func Heard(t testing.TB, events []openai.Chunk) *Answered {
	t.Helper()
	type call struct {
		Index    int
		ID       string
		Function struct{ Name, Arguments string }
	}
	type message struct {
		Content   string
		Thought   string `json:"reasoning_content"`
		ToolCalls []call `json:"tool_calls"`
	}
	a := &Answered{}
	for _, ev := range events {
		if u := ev.Usage(); u.Known {
			a.Usage = u
		}
		if string(ev.Data) == "[DONE]" {
			continue
		}
		var c struct {
			Choices []struct {
				Delta, Message message
				FinishReason   string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal(ev.Data, &c); err != nil {
			t.Fatalf("%s: %v", ev.Data, err)
		}
		for _, choice := range c.Choices {
			a.Finish += choice.FinishReason
			for _, m := range []message{choice.Delta, choice.Message} {
				a.Text, a.Thought = a.Text+m.Content, a.Thought+m.Thought
				for i, c := range m.ToolCalls {
					if c.ID != "" {
						a.Calls = append(a.Calls, SaidCall{ID: c.ID, Name: c.Function.Name})
					}
					a.Calls[max(c.Index, i)].Arguments += c.Function.Arguments
				}
			}
		}
	}
	return a
}
