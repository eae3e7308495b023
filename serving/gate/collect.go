package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// callsMax bounds the tool calls of one choice.
const callsMax = 256

// Collector gathers what an answer says from its events, or from the one event of an answer that is not streamed. What it
// cannot read it remembers: an answer that nobody could read was not checked.
type Collector struct {
	choices []*collected // behind pointers: a builder must not be copied
	size    int
	err     error
}

type collected struct {
	text, refusal strings.Builder
	finish        string
	calls         []*collectedCall
}

type collectedCall struct {
	name      string
	arguments strings.Builder
}

// said is a message or a piece of one.
type said struct {
	Content   json.RawMessage `json:"content"`
	Refusal   *string         `json:"refusal"`
	ToolCalls []struct {
		Index    *int     `json:"index"`
		Function function `json:"function"`
	} `json:"tool_calls"`
	FunctionCall *function `json:"function_call"`
}

type function struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// errUnread says that an event was not of the form that is known.
var errUnread = errors.New("the answer is not of a form that can be checked")

// Add takes the next event.
func (c *Collector) Add(event *openai.Chunk) {
	if c.err != nil || len(event.Data) == 0 || event.Data[0] != '{' {
		return
	}
	var in struct {
		Choices []struct {
			Index   int    `json:"index"`
			Delta   *said  `json:"delta"`
			Message *said  `json:"message"`
			Text    string `json:"text"`
			Finish  string `json:"finish_reason"`
		} `json:"choices"`
	}
	if json.Unmarshal(event.Data, &in) != nil {
		c.err = errUnread
		return
	}
	for i := range in.Choices {
		from := &in.Choices[i]
		if from.Index < 0 || from.Index >= openai.AnswersMax {
			c.err = errUnread
			return
		}
		for len(c.choices) <= from.Index {
			c.choices = append(c.choices, &collected{})
		}
		to := c.choices[from.Index]
		c.write(&to.text, from.Text)
		for _, m := range []*said{from.Delta, from.Message} {
			if m != nil {
				c.take(to, m)
			}
		}
		if from.Finish != "" {
			to.finish = from.Finish
		}
	}
}

func (c *Collector) take(to *collected, m *said) {
	if len(m.Content) > 0 {
		text, err := contentText(m.Content)
		if err != nil {
			c.err = err
		}
		c.write(&to.text, text)
	}
	if m.Refusal != nil {
		c.write(&to.refusal, *m.Refusal)
	}
	for i := range m.ToolCalls {
		at := i
		if index := m.ToolCalls[i].Index; index != nil {
			at = *index
		}
		c.call(to, at, &m.ToolCalls[i].Function)
	}
	if m.FunctionCall != nil {
		c.call(to, 0, m.FunctionCall)
	}
}

func (c *Collector) call(to *collected, at int, f *function) {
	if at < 0 || at >= callsMax {
		c.err = errUnread
		return
	}
	for len(to.calls) <= at {
		to.calls = append(to.calls, &collectedCall{})
	}
	to.calls[at].name += f.Name
	c.size += len(f.Name)
	c.write(&to.calls[at].arguments, f.Arguments)
}

func (c *Collector) write(to *strings.Builder, s string) {
	if c.size += len(s); c.size > reward.AnswerBytesMax {
		c.err = errTooLarge
		return
	}
	to.WriteString(s)
}

// contentText is the text of a message's content: a string, null, or parts.
func contentText(raw json.RawMessage) (string, error) {
	var text *string
	if json.Unmarshal(raw, &text) == nil {
		if text == nil {
			return "", nil
		}
		return *text, nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return "", errUnread
	}
	all := make([]string, len(parts))
	for i := range parts {
		all[i] = parts[i].Text
	}
	return strings.Join(all, ""), nil
}

// Answers are what was gathered, one a choice. An answer without a choice is an error.
func (c *Collector) Answers() ([]reward.Answer, error) {
	if c.err != nil {
		return nil, c.err
	}
	if len(c.choices) == 0 {
		return nil, fmt.Errorf("%w: it has no choice", errUnread)
	}
	out := make([]reward.Answer, len(c.choices))
	for i := range c.choices {
		from := c.choices[i]
		out[i] = reward.Answer{Text: from.text.String(), Refusal: from.refusal.String(), Finish: from.finish}
		for _, call := range from.calls {
			out[i].Calls = append(out[i].Calls, reward.Call{Name: call.name, Arguments: call.arguments.String()})
		}
	}
	return out, nil
}
