package reward

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// This file and schema.go are the pure checks of an answer: what can be said of it without asking anybody. The server runs
// them at an answer's end. Each gives the reason against the answer, empty where there is none, and an error where it
// could not tell: an answer that was not checked must not look like one that was.

// Answer is what a model said: one for each choice of a completion.
type Answer struct {
	Text    string
	Refusal string
	// Finish is why it ended, as the vendor says it: stop, length, tool_calls, content_filter.
	Finish string
	Calls  []Call
}

// Call is a call of a tool that the model asks for. Arguments are JSON as the model wrote it.
type Call struct{ Name, Arguments string }

// Empty is a reason against an answer that says nothing and calls nothing.
func (a *Answer) Empty() string {
	if strings.TrimSpace(a.Text) == "" && len(a.Calls) == 0 {
		return "the answer is empty"
	}
	return ""
}

// Truncated is a reason against an answer that the limit on its length cut off.
func (a *Answer) Truncated() string {
	if a.Finish == "length" {
		return "the answer was cut off at its limit of tokens"
	}
	return ""
}

// Refused is a reason against an answer whose vendor or model says on the wire that it refuses. A refusal in prose is
// prose: a regular expression finds it where somebody knows how their models put it.
func (a *Answer) Refused() string {
	switch {
	case a.Refusal != "":
		return "the model refused"
	case a.Finish == "content_filter":
		return "the provider's filter stopped the answer"
	}
	return ""
}

// Limits of what is parsed. Beyond them nothing can be said of an answer.
const (
	// AnswerBytesMax bounds a text or a call's arguments, ValueDepthMax how deep their JSON may nest.
	AnswerBytesMax = 4 << 20
	ValueDepthMax  = 64
	// numberBytesMax and exponentMax bound a number: an exponent of nine digits is a number of a billion.
	numberBytesMax = 400
	exponentMax    = 400
)

// errTooLarge says that something is beyond the limits above.
var errTooLarge = errors.New("reward: the JSON is larger, deeper or has longer numbers than what is checked")

// errNotJSON says that a text is not one JSON value.
var errNotJSON = errors.New("reward: not one JSON value")

// parseValue reads one JSON value with its numbers as they were written, and nothing behind it.
func parseValue(text []byte) (any, error) {
	if len(text) > AnswerBytesMax {
		return nil, errTooLarge
	}
	if tooDeep(text) {
		return nil, errTooLarge
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, errNotJSON
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errNotJSON
	}
	if !bounded(v) {
		return nil, errTooLarge
	}
	return v, nil
}

// tooDeep counts brackets outside of strings.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > ValueDepthMax {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// bounded reports whether all numbers can be computed with exactly: a checker turns them into fractions.
func bounded(v any) bool {
	switch v := v.(type) {
	case json.Number:
		s := string(v)
		at := strings.IndexAny(s, "eE")
		if at < 0 {
			return len(s) <= numberBytesMax
		}
		e, err := strconv.Atoi(s[at+1:])
		return err == nil && max(e, -e) <= exponentMax && at <= numberBytesMax
	case []any:
		return !slices.ContainsFunc(v, func(x any) bool { return !bounded(x) })
	case map[string]any:
		for _, x := range v {
			if !bounded(x) {
				return false
			}
		}
	}
	return true
}

// ToolsMax is the number of tools that are looked at.
const ToolsMax = 4096

// Tools are the tools that a request declares, for the check of the calls in its answer.
type Tools struct {
	schemas  map[string]json.RawMessage
	required bool
}

// ParseTools reads the values of tools (or of the older functions) and tool_choice of a chat request; either may be nil.
func ParseTools(tools, choice []byte) (*Tools, error) {
	t := &Tools{schemas: map[string]json.RawMessage{}}
	type function struct {
		Name       string          `json:"name"`
		Parameters json.RawMessage `json:"parameters"`
	}
	var list []struct {
		function
		Function *function `json:"function"`
	}
	if len(tools) > 0 {
		if err := json.Unmarshal(tools, &list); err != nil {
			return nil, fmt.Errorf("reward: the tools cannot be read: %w", err)
		}
	}
	if len(list) > ToolsMax {
		return nil, fmt.Errorf("reward: %d tools are more than %d", len(list), ToolsMax)
	}
	for _, l := range list {
		f := l.function
		if l.Function != nil {
			f = *l.Function
		}
		t.schemas[f.Name] = f.Parameters
	}
	c := strings.TrimSpace(string(choice))
	t.required = c == `"required"` || strings.HasPrefix(c, "{")
	return t, nil
}

// Check is a reason against an answer that calls a tool which was not declared, or with arguments that its schema does not
// allow, or that calls none where the request demands it.
func (t *Tools) Check(a *Answer) (why string, err error) {
	if len(a.Calls) == 0 && t.required {
		return "the request demands a tool call, and there is none", nil
	}
	for _, c := range a.Calls {
		raw, declared := t.schemas[c.Name]
		if !declared {
			return fmt.Sprintf("the tool %.64q was not declared", c.Name), nil
		}
		arguments := c.Arguments
		if strings.TrimSpace(arguments) == "" {
			arguments = "{}" // how some vendors write a call without any
		}
		if len(raw) == 0 || string(raw) == "null" {
			raw = json.RawMessage(`{"type":"object"}`)
		}
		s, err := CompileSchema(raw)
		if err != nil {
			return "", fmt.Errorf("the parameters of tool %.64q: %w", c.Name, err)
		}
		if why, err = s.Check(arguments); why != "" || err != nil {
			return prefixed(why, fmt.Sprintf("tool %.64q: ", c.Name)), err
		}
	}
	return "", nil
}

func prefixed(why, prefix string) string {
	if why == "" {
		return ""
	}
	return prefix + why
}

// ResponseSchema is the schema of a request's response_format, nil where it only asks for JSON, and whether it asks for
// JSON at all.
func ResponseSchema(format []byte) (schema json.RawMessage, wanted bool, err error) {
	if len(format) == 0 {
		return nil, false, nil
	}
	var f struct {
		Type   string `json:"type"`
		Schema struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	}
	if err := json.Unmarshal(format, &f); err != nil {
		return nil, false, fmt.Errorf("reward: the response format cannot be read: %w", err)
	}
	return f.Schema.Schema, f.Type == "json_schema" || f.Type == "json_object", nil
}
