package openai

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// This file takes apart what a chat model says, for those who say it in another dialect.

// Piece is a kind of what a message or delta holds.
type Piece string

// The kinds of pieces.
const (
	Reasoning Piece = "reasoning"
	Text      Piece = "text"
	Refusal   Piece = "refusal"
)

// ClaudesThought reports whether an entry of reasoning_details is one of Claude's. The list is OpenRouter's, where those of
// several makers stand, and where no format is named it is Claude's.
func ClaudesThought(detail Fields) bool {
	format := detail.Get("format")
	return format.Empty() || string(format) == `"anthropic-claude-v1"`
}

// Details is a message's list of thoughts, nil where it has none. LiteLLM gives its callers, and sends back, what it does not know
// of an answer under a name of its own.
func Details(message Fields) Value {
	if v := message.Get("reasoning_details"); v != nil {
		return v
	}
	kept, err := message.Get("provider_specific_fields").Fields("")
	if err != nil {
		return nil
	}
	return kept.Get("reasoning_details")
}

// Unsayable is the failure of an answer that has what another dialect cannot say.
func Unsayable(format string, args ...any) error {
	return NewError(UpstreamFailed, "the provider's answer cannot be said in this dialect: %s", fmt.Sprintf(format, args...))
}

// Pieces hands out the reasoning and texts of a message or delta, in the order in which a model says them.
func Pieces(m Fields, fn func(kind Piece, text string)) error {
	for _, name := range [...]string{"reasoning_content", "reasoning", "content", "refusal"} {
		v := m.Get(name)
		if name == "reasoning" && m.Get("reasoning_content") != nil {
			continue // some vendors say it under both names
		}
		switch {
		case v.IsText():
			text, err := v.Text(name)
			if err != nil {
				return Unsayable("%s", name)
			}
			switch name {
			case "content":
				fn(Text, text)
			case "refusal":
				fn(Refusal, text)
			default:
				fn(Reasoning, text)
			}
		case v.IsArray() && name == "content":
			if err := contentParts(v, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// FirstChoice is what the one choice of an answer or event says, whole or as a piece, and why it ended; nil where it says
// nothing.
func FirstChoice(answer Fields) (said Fields, stop string, err error) {
	choices := answer.Get("choices")
	if !choices.IsArray() {
		return nil, "", nil
	}
	err = choices.Elements("choices", func(i int, v Value) error {
		choice, err := v.Fields("choice")
		if err != nil || i > 0 {
			return nil // one answer was asked for
		}
		if reason := choice.Get("finish_reason"); reason.IsText() && !reason.Empty() {
			stop, _ = reason.Text("finish_reason") // it is a string
		}
		for _, name := range [...]string{"delta", "message"} {
			if v := choice.Get(name); v != nil && said == nil {
				said, _ = v.Fields(name) // what is no object says nothing
			}
		}
		return nil
	})
	return said, stop, err
}

// AppendUsage copies a dialect's usage object with the cost, or with counts of the estimate where the vendor told nothing.
func AppendUsage(dst []byte, raw Value, f Final, counts func([]byte, Usage) []byte) []byte {
	fields, err := raw.Fields("usage")
	if err != nil || f.Estimate.Known {
		fields = nil
	}
	dst = append(dst, '{')
	for _, m := range fields {
		if m.Name != "cost" && m.Name != "cost_details" {
			dst = append(append(append(AppendText(dst, m.Name), ':'), m.Value...), ',')
		}
	}
	if f.Estimate.Known {
		dst = append(counts(dst, f.Estimate), `,"tradewind_estimated":true,`...)
	}
	if f.Cost != nil {
		dst = append(f.Cost.Append(dst), ',')
	}
	if dst[len(dst)-1] == '{' {
		return append(dst, '}')
	}
	dst[len(dst)-1] = '}'
	return dst
}

// contentParts reads a content that is a list, as Mistral's reasoning models send it.
func contentParts(v Value, fn func(kind Piece, text string)) error {
	return v.Elements("content", func(i int, v Value) error {
		part, err := v.Fields("content")
		if err != nil {
			return Unsayable("its content has something that is no part")
		}
		switch kind := string(part.Get("type")); {
		case kind == `"thinking"` && part.Get("thinking").IsArray():
			return contentParts(part.Get("thinking"), func(_ Piece, text string) { fn(Reasoning, text) })
		case kind == `"text"` || kind == `"thinking"`:
			name := strings.Trim(kind, `"`)
			text, err := part.Get(name).Text(name)
			if err != nil {
				return Unsayable("its content has a part without a text")
			}
			if name == "thinking" {
				fn(Reasoning, text)
			} else {
				fn(Text, text)
			}
			return nil
		}
		return Unsayable("its content has a part of type %.64s", part.Get("type"))
	})
}

// CallsMax bounds the calls of tools in one answer.
const CallsMax = 1024

// Call is a call of a function, or a piece of one.
type Call struct {
	Index int
	// ID and Name are empty in the later pieces of a call.
	ID, Name  string
	Arguments string
}

// Calls hands out the calls of a message or delta. Calls of anything but functions are left out: none were offered.
func Calls(m Fields, fn func(c Call) error) error {
	v := m.Get("tool_calls")
	if v.Empty() {
		return nil
	}
	return v.Elements("tool_calls", func(i int, v Value) error {
		call, err := v.Fields("tool_calls")
		if err != nil {
			return Unsayable("a call is not an object")
		}
		c := Call{Index: i}
		if index := call.Get("index"); index != nil {
			if c.Index, err = index.Integer("index", 0, CallsMax); err != nil {
				return Unsayable("a call has the number %.20s", index)
			}
		}
		f, err := call.Get("function").Fields("function")
		if err != nil {
			return nil
		}
		// What is not there stays empty: a call without a name is the model's mistake, and stays one.
		c.ID, _ = call.Get("id").Text("id")
		c.Name, _ = f.Get("name").Text("name")
		c.Arguments, _ = f.Get("arguments").Text("arguments")
		return fn(c)
	})
}

// idMax is the longest id of a call that every vendor takes.
const idMax = 64

// PlainID is the id of a call in the characters that Anthropic and Bedrock take. Other vendors' ids that have more, such as
// colons and points, become a digest of themselves, the same for the call and its result.
func PlainID(id string) string {
	plain := id != "" && len(id) <= idMax
	for i := range len(id) {
		c := id[i]
		plain = plain && (c == '_' || c == '-' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z')
	}
	if plain {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "call_" + hex.EncodeToString(sum[:16])
}

// CallOrder tells which pieces begin a call. Other dialects know one open call at a time.
type CallOrder struct {
	index int
	id    string
	seen  map[int]bool
}

// Began reports whether any call has begun.
func (o *CallOrder) Began() bool { return len(o.seen) > 0 }

// Begins reports whether a piece begins a call; open says that the last call is still open. Vendors number their calls,
// or give each an id, or both.
func (o *CallOrder) Begins(c *Call, open bool) (bool, error) {
	if open && o.index == c.Index && (c.ID == "" || c.ID == o.id) {
		return false, nil
	}
	if o.seen[c.Index] && (c.ID == "" || o.index == c.Index && c.ID == o.id) {
		return false, Unsayable("a call goes on after something else began")
	}
	if len(o.seen) >= CallsMax {
		return false, Unsayable("more than %d calls", CallsMax)
	}
	if o.seen == nil {
		o.seen = map[int]bool{}
	}
	o.index, o.id, o.seen[c.Index] = c.Index, c.ID, true
	return true, nil
}
