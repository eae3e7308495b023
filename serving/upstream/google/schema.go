package google

import (
	"slices"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream/chatform"
)

// This file says the schema of an answer. Gemini takes JSON Schema and keeps to a part of it; what else a schema
// demands would be ignored without a word, so a schema that demands more is refused by the place where it does.

// Keywords that Gemini keeps to, by what they hold.
var (
	plainKeywords  = []string{"$id", "$ref", "$anchor", "type", "format", "title", "description", "minItems", "maxItems", "minimum", "maximum", "required", "propertyOrdering"}
	schemaKeywords = []string{"items", "additionalProperties"}
	listKeywords   = []string{"prefixItems", "anyOf", "oneOf"}
	namedKeywords  = []string{"$defs", "properties"}
	// silentKeywords demand nothing.
	silentKeywords = []string{"$schema", "$comment", "default", "example", "examples", "deprecated", "readOnly", "writeOnly"}
)

// schema appends a schema as Gemini is told it.
type schema struct {
	r   *chatform.Request
	out []byte
}

// append appends one schema. Nesting is bounded by the body's.
func (s *schema) append(param string, v openai.Value) error {
	if string(v) == "true" || string(v) == "false" { // what additionalProperties may be
		s.out = append(s.out, v...)
		return nil
	}
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	s.out = append(s.out, '{')
	start := len(s.out)
	for _, f := range fields {
		if fields.Get("$ref") != nil && f.Name[:min(1, len(f.Name))] != "$" {
			return s.r.Unsayable(param+"."+f.Name, "nothing may stand beside a $ref")
		}
		if err := s.keyword(param+"."+f.Name, f); err != nil {
			return err
		}
	}
	if len(s.out) > start {
		s.out[len(s.out)-1] = '}'
	} else {
		s.out = append(s.out, '}')
	}
	return nil
}

// keyword appends a keyword and a comma.
func (s *schema) keyword(param string, f openai.Field) (err error) {
	name := f.Name
	if name == "const" {
		name = "enum"
	}
	s.out = append(openai.AppendText(s.out, name), ':')
	switch {
	case f.Name == "const":
		err = s.literals(param, append(append(openai.Value{'['}, f.Value...), ']'))
	case name == "enum":
		err = s.literals(param, f.Value)
	case slices.Contains(plainKeywords, name), slices.Contains(silentKeywords, name):
		s.out = append(s.out, f.Value...)
	case slices.Contains(schemaKeywords, name):
		err = s.append(param, f.Value)
	case slices.Contains(listKeywords, name):
		s.out = append(s.out, '[')
		err = f.Value.Elements(param, func(i int, v openai.Value) error {
			if i > 0 {
				s.out = append(s.out, ',')
			}
			return s.append(openai.Path(param, i, ""), v)
		})
		s.out = append(s.out, ']')
	case slices.Contains(namedKeywords, name):
		err = s.named(param, f.Value)
	default:
		err = s.r.Unsayable(param, "its answers do not keep to this keyword")
	}
	s.out = append(s.out, ',')
	return err
}

// named appends schemas by name.
func (s *schema) named(param string, v openai.Value) error {
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	s.out = append(s.out, '{')
	for i, f := range fields {
		if i > 0 {
			s.out = append(s.out, ',')
		}
		s.out = append(openai.AppendText(s.out, f.Name), ':')
		if err := s.append(param+"."+f.Name, f.Value); err != nil {
			return err
		}
	}
	s.out = append(s.out, '}')
	return nil
}

// literals appends the values of an enum, which must be texts or numbers.
func (s *schema) literals(param string, v openai.Value) error {
	s.out = append(s.out, v...)
	return v.Elements(param, func(i int, v openai.Value) error {
		if !v.IsText() && (len(v) == 0 || v[0] != '-' && (v[0] < '0' || v[0] > '9')) {
			return s.r.Unsayable(param, "it knows enums of texts and numbers only")
		}
		return nil
	})
}
