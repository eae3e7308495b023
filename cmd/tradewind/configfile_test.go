package main

import (
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
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
		"keys: [{explore: \"${KEY}\"}]": "line 1: explore: true or false is wanted",
		"keys: [{rpm: \"${KEY}\"}]":     "line 1: rpm: a whole number is wanted",
	} {
		if err := parseConfig(&config{}, []byte(text), e.get); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), e["KEY"]) {
			t.Errorf("%q: %v, want %q and no key", text, err, want)
		}
	}
}

// Values are read however YAML writes them, and a file may begin as some editors begin it.
func TestSpellings(t *testing.T) {
	const text = "\ufeffdebug_headers: True\nmetrics: {public: FALSE}\nsessions: {max: 1e3, idle_seconds: \"60\"}\ncapacity: {requests: 1_000}\nrouting:\n"
	c := &config{}
	if err := parseConfig(c, []byte(text), env{}.get); err != nil {
		t.Fatal(err)
	}
	if !c.DebugHeaders || c.Metrics.Public || c.Sessions.Max != 1000 || c.Sessions.Idle != 60 || c.Capacity.Requests != 1000 {
		t.Errorf("%+v", c)
	}
}

// Whatever key has a value of the wrong kind, the line and the key are told, and no word of Go's.
func TestWrongKinds(t *testing.T) {
	wrong := map[reflect.Kind][]string{
		reflect.Struct: {"5", "[5]", "word"}, reflect.Map: {"5", "[5]", "word"}, reflect.Slice: {"5", "{a: 5}"}, reflect.String: {"[a]", "{a: 5}"},
		reflect.Bool: {"5", "[true]", "word"}, reflect.Int: {"1.5", ".nan", ".inf", "word", "[5]", "1e30"}, reflect.Float64: {".nan", "-.inf", "word", "{a: 5}", "\"inf\""},
	}
	wrong[reflect.Int64] = wrong[reflect.Int]
	keys := 0
	var walk func(ty reflect.Type, before, after string)
	walk = func(ty reflect.Type, before, after string) {
		for ty.Kind() == reflect.Pointer {
			ty = ty.Elem()
		}
		switch ty.Kind() {
		case reflect.Slice:
			walk(ty.Elem(), before+"[", "]"+after)
		case reflect.Map:
			walk(ty.Elem(), before+"{some: ", "}"+after)
		case reflect.Struct:
			for _, f := range configFields(ty) {
				if f.typ == reflect.TypeFor[nameList]() || f.typ == reflect.TypeFor[supportsConfig]() {
					continue // they take several kinds
				}
				keys++
				ft := f.typ
				for ft.Kind() == reflect.Pointer {
					ft = ft.Elem()
				}
				values := wrong[ft.Kind()]
				if _, price := reflect.New(ft).Interface().(encoding.TextUnmarshaler); price && ft.Kind() == reflect.Int64 {
					values = wrong[reflect.Float64]
				}
				for _, value := range values {
					text := "\n" + before + "{" + f.name + ": " + value + "}" + after + "\n"
					err := parseConfig(&config{}, []byte(text), env{}.get)
					if err == nil || !strings.HasPrefix(err.Error(), "line 2: "+f.name) || strings.Contains(err.Error(), "Go struct") {
						t.Errorf("%s: %v, want line 2 and %s", text, err, f.name)
					}
				}
				walk(f.typ, before+"{"+f.name+": ", "}"+after)
			}
		}
	}
	walk(reflect.TypeFor[config](), "", "")
	if keys < 150 {
		t.Errorf("%d keys were tried: nobody walks the configuration", keys)
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
	cases := map[string]bool{
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
		"keys: [{rpm: 0}]\n":            false,
		"keys: [{max_cost_usd: 0.0}]\n": false,
		"keys: [{quality_floor: 0, budget_usd: {day: 0}, hedge: {max_share: 0.5}}]\n": true,
		"gates: [{name: g, schema: \"{}\"}]\n":                                        false,
		"gates: [{name: g, check: no_check}]\n":                                       false,
		"gate_policies: [{gates: [g], on_error: maybe}]\n":                            false,
	}
	examples := strings.Split(string(readme), "```yaml\n")[1:]
	for _, example := range examples {
		example, _, _ = strings.Cut(example, "```")
		cases[example] = true
	}
	if len(examples) < 3 {
		t.Errorf("the README has %d examples", len(examples))
	}
	for text, good := range cases {
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		var s map[string]any
		if err := json.Unmarshal(configSchema(), &s); err != nil {
			t.Fatal(err)
		}
		mistake := violates(s, s, value, "")
		err := parseConfig(&config{}, []byte(text), env{"TEAM_A_KEY": "sk-tw-0123456789abcdef", "JUDGE_TOKEN": "judge-0123456789"}.get)
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
	if above, ok := s["exclusiveMinimum"].(float64); ok {
		if v, err := strconv.ParseFloat(fmt.Sprint(v), 64); err != nil || v <= above {
			return at + " is not above " + fmt.Sprint(above)
		}
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
	properties, closed := s["properties"].(map[string]any)
	if !closed && s["additionalProperties"] == nil {
		return "" // it may hold anything
	}
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
