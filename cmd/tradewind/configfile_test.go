package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// Every key that nobody reads is told at once, by its line and with the nearest that is read.
func TestUnknownKeys(t *testing.T) {
	const text = `lissen: 127.0.0.1:0
routing:
  stratgy: cost
  epsilon: 0.1
providers:
  - name: lab
    base_urll: http://127.0.0.1:1/v1
    models:
      - {name: m, input_usd_per_mtok: 1, ouput_usd_per_mtok: 2, tiers: [{above: 5}]}
keys:
  - &k {name: ann, budget_usd: {daily: 1}}
something_else_entirely: 1
`
	err := parseConfig(&config{}, []byte(text), env{}.get)
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`line 1: unknown key "lissen"; did you mean listen?`, `line 3: unknown key "stratgy"; did you mean strategy?`,
		`line 7: unknown key "base_urll"; did you mean base_url?`, `line 9: unknown key "ouput_usd_per_mtok"; did you mean output_usd_per_mtok?`,
		`line 9: unknown key "above"`, `line 11: unknown key "daily"; did you mean day?`, `line 12: unknown key "something_else_entirely"`,
	}
	got := strings.Split(err.Error(), "\n  ")
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSubstitution(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("sk-from-a-file-0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := env{"KEY": "sk-tw-0123456789abcdef", "DAY": "2.5", "RPM": "60", "EXPLORE": "false", "EVIL": "x\nmetrics: {public: true}", "HOST": "127.0.0.1", "UNTIL": "2030-01-02"}
	text := `
listen: ${HOST}:${PORT:-8080}
data_dir: ${EVIL}
providers: [{name: lab, base_url: "http://${HOST}:1/v1", api_key: "file:` + secret + `", models: [{name: m, context_tokens: "${WINDOW:-9000}"}]}]
keys:
  - {key: os.environ/KEY, budget_usd: {day: "${DAY}"}, rpm: "${RPM}", explore: "${EXPLORE}", expires_at: "${UNTIL}"}
  - {key: env.KEY, tpm: "${TPM:-7}"}
`
	c := &config{}
	if err := parseConfig(c, []byte(text), e.get); err != nil {
		t.Fatal(err)
	}
	k := c.Keys[0]
	if c.Listen != "127.0.0.1:8080" || c.DataDir != e["EVIL"] || c.Metrics.Public || c.Providers[0].APIKey.Reveal() != "sk-from-a-file-0123" ||
		c.Providers[0].Models[0].ContextTokens != 9000 || k.Key.Reveal() != e["KEY"] || *k.Budget.DayUSD != 2.5 || k.RequestsPerMinute != 60 || k.ExpiresAt.Year() != 2030 ||
		k.Explore == nil || *k.Explore || c.Keys[1].Key.Reveal() != e["KEY"] || c.Keys[1].TokensPerMinute != 7 {
		t.Errorf("%+v", c)
	}
	if !slices.Contains(c.files, secret) {
		t.Errorf("the file of the secret is not among %q, so that a change of it would not be seen", c.files)
	}
	for text, want := range map[string]string{
		"listen: ${A}${B}":              "line 1: the variable A is not set; set it or write ${A:-default}\n  line 1: the variable B is not set; set it or write ${B:-default}",
		"\nlisten: os.environ/A":        "line 2: the variable A is not set",
		"listen: env.A":                 "line 1: the variable A is not set",
		"listen: file:/no/such/file":    "line 1: open /no/such/file: no such file or directory",
		"keys: [{explore: \"${KEY}\"}]": "true or false is wanted",
		"keys: [{rpm: \"${KEY}\"}]":     "line 1, column",
	} {
		if err := parseConfig(&config{}, []byte(text), e.get); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), e["KEY"]) {
			t.Errorf("%q: %v, want %q and no key", text, err, want)
		}
	}
}

// A file that the library would take minutes for, or panic at, is an error at once.
func TestStrangeFiles(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("[", 1<<20), strings.Repeat("{a: ", 1<<18), strings.Repeat("- ", 1<<18), strings.Repeat("? ", 1<<18), strings.Repeat(" ", 1<<16) + "a: b",
		"providers:\n  !00000 00000", "listen: !!binary aGk=", "a: &a [*a]\n",
	} {
		if err := parseConfig(&config{}, []byte(text), env{}.get); err == nil {
			t.Errorf("%.40q is a configuration", text)
		}
	}
}

var update = flag.Bool("update", false, "write the files that tests compare with")

// The schema that is published is the one that the structs make.
func TestSchemaIsPublished(t *testing.T) {
	got := append(configSchema(), '\n')
	const name = "tradewind.schema.json"
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || string(want) != string(got) {
		t.Errorf("%s (%v) is not what the configuration's structs make of it; go test ./cmd/tradewind -run Schema -update", name, err)
	}
	if stdout := run(t, "config", "schema"); stdout != string(got) {
		t.Error("config schema prints another one")
	}
}

// The schema and the program agree on every configuration here: the good ones, and those with a mistake that a schema can see.
func TestSchemaAgrees(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(readme), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	for text, good := range map[string]bool{
		example: true,
		"providers: [{name: p, models: [a, {name: b, supports: [tools], tier: large}, {name: c, supports: {vision: false}}]}]\naliases: {x: p/a, y: [p/a, p/b]}\n":                             true,
		"providers: [{name: p, models: [{name: b, input_usd_per_mtok: 0.25, output_usd_per_mtok: 2, free: false, price_schedule: [{from: 2027-01-01, tiers: [{above_input_tokens: 5}]}]}]}]\n": true,
		"routing: {epsilon: \"${E:-0.1}\", strategy: \"${S:-cost}\"}\n":                                                                                                       true,
		"keys: [{rpm: \"${R:-5}\", explore: \"${X:-true}\"}]\n":                                                                                                               true,
		"providers: [{name: p, data_collection: deny, zdr: \"${Z:-false}\", models: [{name: a, quantization: fp8}]}]\n":                                                       true,
		"providers: [{name: p, drop_params: \"${D:-true}\", unsupported_params: [user], models: [{name: a, drop_params: false, unsupported_params: [temperature, stop]}]}]\n": true,
		"providers: [{name: p, drop_params: [seed]}]\n":                                                                                                                       false,
		"providers: [{name: p, zdr: certainly}]\n":                                                                                                                            false,
		"lissen: x\n":                                  false,
		"routing: {stratgy: cost}\n":                   false,
		"routing: [cost]\n":                            false,
		"keys: [{rpm: many}]\n":                        false,
		"providers: [{name: p, models: [{nam: b}]}]\n": false,
		"keys: {name: ann}\n":                          false,
		"providers: [{name: p, models: [{name: b, price_schedule: [{form: 2027-01-01}]}]}]\n": false,
	} {
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		var s map[string]any
		if err := json.Unmarshal(configSchema(), &s); err != nil {
			t.Fatal(err)
		}
		mistake := violates(s, s, value, "")
		err := parseConfig(&config{}, []byte(text), env{"TEAM_A_KEY": "sk-tw-0123456789abcdef"}.get)
		if (mistake == "") != good || (err == nil) != good {
			t.Errorf("good %v, but the schema says %q and the program %v:\n%s", good, mistake, err, text)
		}
	}
}

// violates checks a value by a schema, as far as ours goes, and returns the first mistake.
func violates(root, s map[string]any, v any, at string) string {
	if ref, ok := s["$ref"].(string); ok {
		s = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	if choices, ok := s["anyOf"].([]any); ok {
		var all []string
		for _, one := range choices {
			m := violates(root, one.(map[string]any), v, at)
			if m == "" {
				return ""
			}
			all = append(all, m)
		}
		return strings.Join(all, " and ")
	}
	text, isText := v.(string)
	kind := map[reflect.Kind]string{reflect.Map: "object", reflect.Slice: "array", reflect.String: "string", reflect.Bool: "boolean",
		reflect.Float64: "number", reflect.Uint64: "integer", reflect.Int64: "integer", reflect.Int: "integer"}[reflect.ValueOf(v).Kind()]
	if want := s["type"]; want != nil && kind != want && !(want == "number" && kind == "integer") {
		return fmt.Sprintf("%s is %s, not %s", at, kind, want)
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Sprintf("%s is none of %v", at, enum)
	}
	if pattern, ok := s["pattern"].(string); ok && isText && !regexp.MustCompile(pattern).MatchString(text) {
		return fmt.Sprintf("%s is not like %s", at, pattern)
	}
	if items, ok := s["items"].(map[string]any); ok {
		for i, x := range v.([]any) {
			if m := violates(root, items, x, fmt.Sprintf("%s[%d]", at, i)); m != "" {
				return m
			}
		}
	}
	object, ok := v.(map[string]any)
	if !ok {
		return ""
	}
	properties, _ := s["properties"].(map[string]any)
	for name, x := range object {
		p, ok := properties[name].(map[string]any)
		if !ok {
			if p, ok = s["additionalProperties"].(map[string]any); !ok {
				return at + "." + name + " is unknown"
			}
		}
		if m := violates(root, p, x, at+"."+name); m != "" {
			return m
		}
	}
	return ""
}
