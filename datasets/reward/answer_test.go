package reward_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets/reward"
)

func TestPlainChecks(t *testing.T) {
	for name, tt := range map[string]struct {
		answer reward.Answer
		want   string // the checks that speak against it
	}{
		"good":      {reward.Answer{Text: "391", Finish: "stop"}, ""},
		"call":      {reward.Answer{Calls: []reward.Call{{Name: "f"}}, Finish: "tool_calls"}, ""},
		"blank":     {reward.Answer{Text: " \n", Finish: "stop"}, "empty"},
		"cut off":   {reward.Answer{Text: "3", Finish: "length"}, "truncated"},
		"refusal":   {reward.Answer{Refusal: "no", Finish: "stop"}, "empty refused"},
		"filter":    {reward.Answer{Text: "3", Finish: "content_filter"}, "refused"},
		"in prose":  {reward.Answer{Text: "I'm sorry, but I can't help with that.", Finish: "stop"}, ""},
		"no finish": {reward.Answer{Text: "391"}, ""},
	} {
		var got []string
		for _, c := range []struct{ name, why string }{{"empty", tt.answer.Empty()}, {"truncated", tt.answer.Truncated()}, {"refused", tt.answer.Refused()}} {
			if c.why != "" {
				got = append(got, c.name)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

const person = `{"type":"object","properties":{"name":{"type":"string","pattern":"^[A-Z]"},"age":{"type":"integer","minimum":0}},"required":["name"],"additionalProperties":false}`

func TestSchema(t *testing.T) {
	for name, tt := range map[string]struct {
		schema, text string
		why          string // a part of the reason, empty where it passes
		failed       bool   // nothing can be said
	}{
		"fits":                              {person, `{"name":"Ada","age":36}`, "", false},
		"with space around":                 {person, " {\"name\":\"Ada\"}\n", "", false},
		"missing":                           {person, `{"age":3}`, "required", false},
		"wrong type":                        {person, `{"name":"Ada","age":"36"}`, "/age breaks type", false},
		"pattern":                           {person, `{"name":"ada"}`, "/name breaks pattern", false},
		"additional":                        {person, `{"name":"Ada","x":1}`, "additionalProperties", false},
		"prose around":                      {person, `Here you are: {"name":"Ada"}`, "not one JSON value", false},
		"fenced":                            {person, "```json\n{\"name\":\"Ada\"}\n```", "not one JSON value", false},
		"two values":                        {person, `{"name":"Ada"}{"name":"Bob"}`, "not one JSON value", false},
		"cut":                               {person, `{"name":"Ada`, "not one JSON value", false},
		"empty":                             {person, ``, "not one JSON value", false},
		"any":                               {`true`, `[1,2]`, "", false},
		"none":                              {`false`, `1`, "breaks", false},
		"local reference":                   {`{"$ref":"#/$defs/a","$defs":{"a":{"type":"integer"}}}`, `3`, "", false},
		"recursion":                         {`{"properties":{"x":{"$ref":"#"}},"additionalProperties":false}`, `{"x":{"x":{"y":1}}}`, "/x/x breaks additionalProperties", false},
		"draft 7":                           {`{"$schema":"http://json-schema.org/draft-07/schema#","type":"integer"}`, `3.5`, "type", false},
		"exact decimals":                    {`{"multipleOf":0.1}`, `0.3`, "", false},
		"a number of a billion digits":      {`{"type":"integer"}`, `1e1000000000`, "", true},
		"a number of a thousand":            {`{"type":"integer"}`, strings.Repeat("9", 1000), "", true},
		"brackets without end":              {`true`, strings.Repeat("[", 1_000_000), "", true},
		"brackets in a string are no depth": {`true`, `"` + strings.Repeat("[", 1000) + `"`, "", false},
		"longer than is read":               {`true`, `"` + strings.Repeat("a", reward.AnswerBytesMax) + `"`, "", true},
	} {
		s, err := reward.CompileSchema([]byte(tt.schema))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		why, err := s.Check(tt.text)
		if (err != nil) != tt.failed || (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) {
			t.Errorf("%s: %q and %v, want %q, failed %v", name, why, err, tt.why, tt.failed)
		}
	}
}

// TestSchemaQuotesNothing: a reason is logged where prompts and answers may not be.
func TestSchemaQuotesNothing(t *testing.T) {
	s, err := reward.CompileSchema([]byte(`{"enum":["a","b"],"const":"a","maxLength":2,"pattern":"^a$"}`))
	if err != nil {
		t.Fatal(err)
	}
	if why, err := s.Check(`"a secret of the user"`); why == "" || strings.Contains(why, "secret") || err != nil {
		t.Errorf("%q, %v", why, err)
	}
}

func TestSchemaRefused(t *testing.T) {
	deep := strings.Repeat(`{"not":`, 70) + "true" + strings.Repeat("}", 70)
	for name, schema := range map[string]string{
		"not JSON":            `{`,
		"no schema":           `3`,
		"wrong keyword":       `{"type":"whole number"}`,
		"another document":    `{"$ref":"http://127.0.0.1/schema.json"}`,
		"a file":              `{"$ref":"file:///etc/passwd"}`,
		"a relative document": `{"$ref":"other.json"}`,
		"another dialect":     `{"$schema":"http://127.0.0.1/dialect.json"}`,
		"a bad pattern":       `{"pattern":"("}`,
		"a look-ahead":        `{"pattern":"(?=a)"}`,
		"a large pattern":     `{"pattern":"(((a{100}){100}){100})"}`,
		"a long pattern":      `{"pattern":"` + strings.Repeat("a", 1001) + `"}`,
		"an uncounted":        `{"properties":{"a":{"contains":{}}}}`,
		"another":             `{"dependentSchemas":{"a":{}}}`,
		"too deep":            deep,
		"too many nodes":      `{"enum":[` + strings.Repeat("[],", 2001) + `1]}`,
		"too long":            `{"title":"` + strings.Repeat("a", reward.SchemaBytesMax) + `"}`,
		"a huge number":       `{"minimum":1e1000000000}`,
	} {
		if _, err := reward.CompileSchema([]byte(schema)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// doubling is a schema of n levels each of which applies the next one twice: 2^n steps for a single value.
func doubling(n int, level string) string {
	var defs []string
	for i := range n {
		next := fmt.Sprintf(`{"$ref":"#/$defs/s%d"}`, i+1)
		defs = append(defs, fmt.Sprintf(`"s%d":%s`, i, strings.ReplaceAll(level, "NEXT", next)))
	}
	defs = append(defs, fmt.Sprintf(`"s%d":{"type":"null"}`, n))
	return `{"$ref":"#/$defs/s0","$defs":{` + strings.Join(defs, ",") + `}}`
}

// TestSchemaStepsAreBounded: schemas that would take longer than the universe has. The test ends, or it fails by its
// deadline.
func TestSchemaStepsAreBounded(t *testing.T) {
	nested := strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60)
	for name, tt := range map[string]struct{ schema, text string }{
		"allOf":   {doubling(60, `{"allOf":[NEXT,NEXT]}`), "1"},
		"anyOf":   {doubling(60, `{"anyOf":[NEXT,NEXT]}`), "1"},
		"oneOf":   {doubling(60, `{"oneOf":[NEXT,NEXT]}`), "1"},
		"not":     {doubling(60, `{"not":{"anyOf":[NEXT,NEXT]}}`), "1"},
		"if":      {doubling(60, `{"if":NEXT,"then":NEXT,"else":NEXT}`), "1"},
		"draft 7": {strings.Replace(doubling(60, `{"allOf":[NEXT,NEXT]}`), "{", `{"$schema":"http://json-schema.org/draft-07/schema#","allOf":[{"$ref":"#/$defs/s0"}],`, 1), "1"},
		"by depth of the value": {
			`{"$defs":{"s":{"allOf":[{"properties":{"a":{"$ref":"#/$defs/s"}}},{"properties":{"a":{"$ref":"#/$defs/s"}}}]}},"$ref":"#/$defs/s"}`, nested,
		},
		"patterns over patterns": {
			`{"$defs":{"s":{"type":"object","patternProperties":{"a":{"$ref":"#/$defs/s"},"^a":{"$ref":"#/$defs/s"},"a$":{"$ref":"#/$defs/s"}}}},"not":{"not":{"$ref":"#/$defs/s"}}}`, nested,
		},
		"a slow pattern": {
			`{"items":{"pattern":"` + strings.Repeat("(a?){90}", 10) + `b"}}`, `["` + strings.Repeat("a", 1<<20) + `"]`,
		},
	} {
		s, err := reward.CompileSchema([]byte(tt.schema))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if why, err := s.Check(tt.text); err == nil || !strings.Contains(err.Error(), "too many steps") {
			t.Errorf("%s: %q and %v, want that it takes too long", name, why, err)
		}
		if why, err := s.Check(`"` + "x" + `"`); err != nil && !strings.Contains(err.Error(), "too many steps") {
			t.Errorf("%s, used again: %q, %v", name, why, err)
		}
	}
}

// TestSchemaTogether: a schema is shared, and every check counts its own steps.
func TestSchemaTogether(t *testing.T) {
	s, err := reward.CompileSchema([]byte(person))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 200 {
				text, want := `{"name":"Ada"}`, ""
				if i%2 == 0 {
					text, want = `{"name":"ada"}`, "/name breaks pattern"
				}
				if why, err := s.Check(text); why != want || err != nil {
					t.Errorf("%q, %v, want %q", why, err, want)
				}
			}
		})
	}
	all.Wait()
}

func TestTools(t *testing.T) {
	const tools = `[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}},
		{"type":"function","function":{"name":"now"}},{"type":"function","function":{"name":"odd","parameters":{"$ref":"http://127.0.0.1/x"}}}]`
	call := func(name, arguments string) []reward.Call { return []reward.Call{{Name: name, Arguments: arguments}} }
	for name, tt := range map[string]struct {
		tools, choice string
		calls         []reward.Call
		why           string
		failed        bool
	}{
		"fits":              {tools, "", call("weather", `{"city":"Oslo"}`), "", false},
		"no call":           {tools, `"auto"`, nil, "", false},
		"none, demanded":    {tools, `"required"`, nil, "demands", false},
		"none, one named":   {tools, `{"type":"function","function":{"name":"now"}}`, nil, "demands", false},
		"undeclared":        {tools, "", call("weather2", `{}`), "not declared", false},
		"wrong arguments":   {tools, "", call("weather", `{"town":"Oslo"}`), `tool "weather": `, false},
		"not JSON":          {tools, "", call("weather", `{"city":"Oslo"`), "not one JSON value", false},
		"no parameters":     {tools, "", call("now", ``), "", false},
		"parameters, empty": {tools, "", call("weather", ``), "required", false},
		"no object":         {tools, "", call("now", `[1]`), "type", false},
		"second is wrong":   {tools, "", append(call("now", ``), call("weather", `{}`)...), "required", false},
		"unusable schema":   {tools, "", call("odd", `{}`), "", true},
		"older functions":   {`[{"name":"f","parameters":{"type":"object","maxProperties":0}}]`, "", call("f", `{"a":1}`), "maxProperties", false},
		"no tools":          {"", "", call("f", `{}`), "not declared", false},
	} {
		parsed, err := reward.ParseTools([]byte(tt.tools), []byte(tt.choice))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		why, err := parsed.Check(&reward.Answer{Calls: tt.calls})
		if (err != nil) != tt.failed || (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) {
			t.Errorf("%s: %q and %v, want %q, failed %v", name, why, err, tt.why, tt.failed)
		}
	}
	if _, err := reward.ParseTools([]byte(`{"a":1}`), nil); err == nil {
		t.Error("tools that are no list were taken")
	}
}

func TestResponseSchema(t *testing.T) {
	for format, want := range map[string]string{
		``: " false", `{"type":"text"}`: " false", `{"type":"json_object"}`: " true",
		`{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object"}}}`: `{"type":"object"} true`,
	} {
		schema, wanted, err := reward.ResponseSchema([]byte(format))
		if got := fmt.Sprintf("%s %v", schema, wanted); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", format, got, err, want)
		}
	}
	if _, _, err := reward.ResponseSchema([]byte(`[]`)); err == nil {
		t.Error("a list was taken for a response format")
	}
}

// FuzzSchema: whatever a client sends as a schema and a model as an answer, there is an end and no panic; and what passes
// is JSON.
func FuzzSchema(f *testing.F) {
	for _, seed := range []string{person, `true`, doubling(3, `{"anyOf":[NEXT,NEXT]}`), `{"$ref":"#"}`, `{"patternProperties":{"a":{}}}`, `{"unevaluatedProperties":false}`} {
		f.Add(seed, `{"name":"Ada"}`)
	}
	f.Fuzz(func(t *testing.T, schema, text string) {
		s, err := reward.CompileSchema([]byte(schema))
		if err != nil {
			return
		}
		if why, err := s.Check(text); why == "" && err == nil && !json.Valid([]byte(text)) {
			t.Errorf("%q passes %q and is not JSON", text, schema)
		}
	})
}

// FuzzTools: as FuzzSchema.
func FuzzTools(f *testing.F) {
	f.Add(`[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`, `"required"`, "f", `{}`)
	f.Fuzz(func(t *testing.T, tools, choice, name, arguments string) {
		if parsed, err := reward.ParseTools([]byte(tools), []byte(choice)); err == nil {
			_, _ = parsed.Check(&reward.Answer{Calls: []reward.Call{{Name: name, Arguments: arguments}}})
		}
		_, _, _ = reward.ResponseSchema([]byte(tools))
	})
}
