package simulated

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
)

// This file makes up values for the schemas of clients, so that structured output and tools can be tried without a vendor.

// asked is what of a request says the form of its answer.
type asked struct {
	ResponseFormat struct {
		Type       string `json:"type"`
		JSONSchema struct {
			Schema any `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
	Tools []struct {
		Function struct {
			Name       string `json:"name"`
			Parameters any    `json:"parameters"`
		} `json:"function"`
	} `json:"tools"`
	ToolChoice any `json:"tool_choice"`
}

// form reads what a request asks for: a tool that must be called, or a schema; neither where it asks for text.
func form(body []byte) (tool string, schema any) {
	var a asked
	if json.Unmarshal(body, &a) != nil {
		return "", nil
	}
	name := ""
	switch c := a.ToolChoice.(type) {
	case string:
		if c == "required" && len(a.Tools) > 0 {
			name = a.Tools[0].Function.Name
		}
	case map[string]any:
		f, _ := c["function"].(map[string]any)
		name, _ = f["name"].(string)
	}
	for _, t := range a.Tools {
		if name != "" && t.Function.Name == name {
			return name, t.Function.Parameters
		}
	}
	if a.ResponseFormat.Type == "json_schema" {
		return "", a.ResponseFormat.JSONSchema.Schema
	}
	return "", nil
}

// Limits of a made-up value.
const (
	instanceDepthMax = 12
	instanceNodesMax = 500
	instanceItemsMax = 16
	instanceTextMax  = 4000
)

// maker makes a value for a schema: the least that its types, constants, bounds and required members ask for. Patterns and
// formats it does not read.
type maker struct {
	root  any
	nodes int
}

// instance is a value for a schema, as JSON.
func instance(schema any) string {
	body, err := json.Marshal((&maker{root: schema}).value(schema, 0))
	if err != nil { // cannot happen: it came from JSON
		return "null"
	}
	return string(body)
}

func (m *maker) value(schema any, depth int) any {
	s, ok := schema.(map[string]any)
	if m.nodes++; !ok || depth > instanceDepthMax || m.nodes > instanceNodesMax {
		return nil
	}
	if v, fixed := s["const"]; fixed {
		return v
	}
	if of, _ := s["enum"].([]any); len(of) > 0 {
		return of[0]
	}
	if ref, _ := s["$ref"].(string); ref != "" {
		return m.value(m.find(ref), depth+1)
	}
	for _, name := range [...]string{"anyOf", "oneOf", "allOf"} {
		if of, _ := s[name].([]any); len(of) > 0 {
			return m.value(of[0], depth+1)
		}
	}
	switch typeOf(s) {
	case "object":
		return m.object(s, depth)
	case "array":
		out := []any{}
		for range int(min(number(s, "minItems", 0), instanceItemsMax)) {
			out = append(out, m.value(s["items"], depth+1))
		}
		return out
	case "string":
		const text = "simulated"
		return text + strings.Repeat(".", max(0, int(min(number(s, "minLength", 0), instanceTextMax))-len(text)))
	case "integer":
		return math.Ceil(max(0, number(s, "minimum", number(s, "exclusiveMinimum", -1)+1)))
	case "number":
		return max(0, number(s, "minimum", number(s, "exclusiveMinimum", -1)+1))
	case "boolean":
		return true
	}
	return nil
}

// typeOf is the schema's type, the first of several, or what its keywords imply.
func typeOf(s map[string]any) string {
	switch t := s["type"].(type) {
	case string:
		return t
	case []any:
		if len(t) > 0 {
			name, _ := t[0].(string)
			return name
		}
	}
	if s["properties"] != nil {
		return "object"
	}
	return ""
}

// object has the members that are required.
func (m *maker) object(s map[string]any, depth int) any {
	out := map[string]any{}
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	for name, p := range properties {
		if slices.Contains(required, any(name)) {
			out[name] = m.value(p, depth+1)
		}
	}
	return out
}

// find follows a reference inside the schema.
func (m *maker) find(ref string) any {
	path, inside := strings.CutPrefix(ref, "#")
	if !inside {
		return nil
	}
	at := m.root
	for step := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if step == "" {
			continue
		}
		members, _ := at.(map[string]any)
		at = members[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
	}
	return at
}

func number(s map[string]any, name string, otherwise float64) float64 {
	if n, ok := s[name].(float64); ok {
		return n
	}
	return otherwise
}
