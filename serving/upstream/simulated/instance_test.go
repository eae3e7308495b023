package simulated

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// TestInstance: what is made up for a schema is valid by it.
func TestInstance(t *testing.T) {
	for _, schema := range []string{
		`{"type":"object","properties":{"answer":{"type":"string"},"n":{"type":"integer","minimum":3}},"required":["answer","n"],"additionalProperties":false}`,
		`{"type":"object","properties":{"steps":{"type":"array","minItems":2,"items":{"$ref":"#/$defs/step"}}},"required":["steps"],"$defs":{"step":{"type":"object","properties":{"text":{"type":["string","null"],"minLength":20}},"required":["text"]}}}`,
		`{"anyOf":[{"enum":["a","b"]},{"type":"null"}]}`,
		`{"properties":{"x":{"const":7},"y":{"type":"number","exclusiveMinimum":2},"z":{"type":"boolean"}},"required":["x","y","z"]}`,
		`{"type":"array","items":{}}`, `{"type":"null"}`, `true`,
	} {
		var parsed any
		if err := json.Unmarshal([]byte(schema), &parsed); err != nil {
			t.Fatal(err)
		}
		c := jsonschema.NewCompiler()
		if err := c.AddResource("schema:///s", parsed); err != nil {
			t.Fatal(err)
		}
		var value any
		text := instance(parsed)
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Errorf("%s: %q: %v", schema, text, err)
			continue
		}
		if err := c.MustCompile("schema:///s").Validate(value); err != nil {
			t.Errorf("%s: %s: %v", schema, text, err)
		}
	}
}

// TestShape: a schema is kept to, and a tool that must be called is called, whole and in a stream.
func TestShape(t *testing.T) {
	const (
		tool   = `,"tools":[{"type":"function","function":{"name":"other"}},{"type":"function","function":{"name":"add","parameters":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}}}]`
		format = `,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"answer":{"type":"string"}},"required":["answer"]}}}`
	)
	arm := &catalog.Simulated()[0]
	p := provider(t, Options{Instant: true})
	for name, tt := range map[string]struct{ more, text, call string }{
		"schema":          {format, `{"answer":"simulated"}`, ""},
		"schema, tools":   {format + tool, `{"answer":"simulated"}`, ""},
		"tool by name":    {tool + `,"tool_choice":{"type":"function","function":{"name":"add"}}`, "", `add{"a":0}`},
		"any tool":        {strings.Replace(tool, `{"type":"function","function":{"name":"other"}},`, "", 1) + `,"tool_choice":"required"`, "", `add{"a":0}`},
		"no tool need be": {tool, "This is a simulated", ""},
	} {
		for _, stream := range []bool{false, true} {
			text, call, finish := "", "", ""
			_, _, events := ask(t, p, arm, body("hello", tt.more), stream)
			for _, e := range events {
				var c completion
				if e == "[DONE]" || json.Unmarshal([]byte(e), &c) != nil {
					continue
				}
				for _, ch := range c.Choices {
					m := ch.Delta
					if m == nil {
						m = ch.Message
					}
					text += m.Content
					for _, x := range m.Calls {
						call += x.Function.Name + x.Function.Arguments
					}
					if ch.FinishReason != nil {
						finish = *ch.FinishReason
					}
				}
			}
			if !strings.HasPrefix(text, tt.text) || call != tt.call || (finish == "tool_calls") != (tt.call != "") {
				t.Errorf("%s, stream %v: text %q, call %q, finish %q", name, stream, text, call, finish)
			}
		}
	}
}

func FuzzInstance(f *testing.F) {
	f.Add([]byte(`{"tools":[{"function":{"name":"a","parameters":{"$ref":"#"}}}],"tool_choice":"required"}`))
	f.Add([]byte(`{"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"array","minItems":9e9,"items":{"$ref":"#"}}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, schema := form(body); schema != nil && !json.Valid([]byte(instance(schema))) {
			t.Error("not JSON")
		}
	})
}
