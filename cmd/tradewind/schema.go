package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

type configCmd struct {
	Schema configSchemaCmd `cmd:"" help:"Print the JSON Schema of the configuration file, for editors."`
	Import configImportCmd `cmd:"" help:"Turn another gateway's configuration into one for Tradewind, on standard output."`
}

type configSchemaCmd struct{}

// Run prints the schema.
func (*configSchemaCmd) Run(m *Main) error {
	_, err := fmt.Fprintf(m.Stdout, "%s\n", configSchema())
	return err
}

// schema is a JSON Schema, as far as a configuration needs it.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Ref         string             `json:"$ref,omitempty"`
	Type        string             `json:"type,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Above       *int               `json:"exclusiveMinimum,omitempty"`
	AnyOf       []*schema          `json:"anyOf,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	// Additional is false, or what every further property is.
	Additional any                `json:"additionalProperties,omitempty"`
	Defs       map[string]*schema `json:"$defs,omitempty"`
}

// configSchema is the schema of the configuration, made of the structs that it is decoded into.
func configSchema() []byte {
	s := schemaOf(reflect.TypeFor[config]())
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", "tradewind.yaml"
	s.Defs = map[string]*schema{"variable": {Type: "string", Pattern: `^(\$\{[^}]+\}|env\.\w+|os\.environ/\w+|file:/.+)$`}}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // a schema is maps and strings
	}
	return b
}

func schemaOf(t reflect.Type) *schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[time.Time]():
		return &schema{Type: "string"}
	case reflect.TypeFor[catalog.PerMTok](), reflect.TypeFor[catalog.Nanodollars]():
		return orVariable("number")
	case reflect.TypeFor[nameList]():
		return &schema{AnyOf: []*schema{{Type: "string"}, {Type: "array", Items: &schema{Type: "string"}}}}
	case reflect.TypeFor[supportsConfig]():
		names := &schema{Type: "string", Enum: catalog.AllCapabilities.Names()}
		object := &schema{Type: "object", Properties: map[string]*schema{}, Additional: false}
		for _, name := range names.Enum {
			object.Properties[name] = orVariable("boolean")
		}
		return &schema{Description: "What it can; what is not named stays as the catalog has it.", AnyOf: []*schema{{Type: "array", Items: names}, object}}
	case reflect.TypeFor[modelConfig]():
		return &schema{AnyOf: []*schema{{Type: "string"}, objectSchema(t)}}
	}
	switch t.Kind() {
	case reflect.Interface: // a JSON Schema
		return &schema{Type: "object"}
	case reflect.Struct:
		return objectSchema(t)
	case reflect.Slice:
		return &schema{Type: "array", Items: schemaOf(t.Elem())}
	case reflect.Map:
		return &schema{Type: "object", Additional: schemaOf(t.Elem())}
	case reflect.Bool:
		return orVariable("boolean")
	case reflect.Int, reflect.Int64:
		return orVariable("integer")
	case reflect.Float64:
		return orVariable("number")
	}
	return &schema{Type: "string"}
}

// orVariable is a type, or a variable that holds it.
func orVariable(t string) *schema {
	return &schema{AnyOf: []*schema{{Type: t}, {Ref: "#/$defs/variable"}}}
}

func objectSchema(t reflect.Type) *schema {
	s := &schema{Type: "object", Properties: map[string]*schema{}, Additional: false}
	for _, f := range configFields(t) {
		p := schemaOf(f.typ)
		if f.doc != "" {
			p.Description = f.doc
		}
		if f.enum != "" {
			*p = schema{Description: p.Description, AnyOf: []*schema{{Type: "string", Enum: strings.Split(f.enum, ",")}, {Ref: "#/$defs/variable"}}}
		}
		if f.nonzero {
			p.AnyOf[0].Above = new(int)
		}
		s.Properties[f.name] = p
	}
	return s
}
