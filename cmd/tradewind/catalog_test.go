package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCatalog(t *testing.T) {
	contains(t, "list", run(t, "catalog", "list", "gpt-5-mini"), "MODEL", "openai/gpt-5-mini ", "PRICE AGE", "arms of")
	contains(t, "list", run(t, "catalog", "list", "--json", "sim/"), `"sim/cheap"`, `"sim/strong"`)
	contains(t, "show", run(t, "catalog", "show", "openai/gpt-5-mini"), "openai/gpt-5-mini", "cache_read 0.025", "days")
	contains(t, "show", run(t, "catalog", "show", "google/gemini-3.6-flash"), "from 2027-01-01: in 1.5, out 7.5", "disputed   input is 1.5 by litellm")
	contains(t, "show", run(t, "catalog", "show", "--json", "sim/cheap"), `"sim/cheap"`, `"age_days": null`)
	_, stderr, code := command(t, nil, "", "catalog", "show", "openai/gpt-5-mni")
	if code != 1 || !strings.Contains(stderr, "openai/gpt-5-mini") {
		t.Errorf("an unknown arm: exit code %d, %q, want the nearest names", code, stderr)
	}
}

// listed are the arms that catalog list shows with the flags.
func listed(t *testing.T, args ...string) map[string]armView {
	t.Helper()
	var views []armView
	if err := json.Unmarshal([]byte(run(t, append([]string{"catalog", "list", "--json"}, args...)...)), &views); err != nil {
		t.Fatal(err)
	}
	all := map[string]armView{}
	for _, v := range views {
		all[v.ID] = v
	}
	return all
}

func TestCatalogListFilters(t *testing.T) {
	const file = `{"format":2,"arms":[
{"id":"p/a","in":"1","out":"2","cache_read":"0.1","context":1000,"can":["tools"],"as_of":"2020-01-01","disputed":{"in":{"x":"1","y":"2"}}},
{"id":"p/b","in":"3","out":"4","context":100000,"can":["tools","vision"],"as_of":"2999-01-01"},
{"id":"q/c","can":["vision"]},
{"id":"q/d","in":"1","out":"2","ends":"2021-01-01","as_of":"2020-01-01"}]}`
	path := write(t, "facts.json", file)
	for _, tt := range []struct {
		flags, want string
	}{
		{"--provider p,q", "p/a p/b q/c"}, {"--provider p,q --deprecated", "p/a p/b q/c q/d"}, {"--provider p,q --can tools", "p/a p/b"},
		{"--provider p,q --can tools,vision", "p/b"}, {"--provider p,q --min-context 1001", "p/b"}, {"--provider p,q --max-input 2.5", "p/a"},
		{"--provider p,q --max-output 4", "p/a p/b"}, {"--provider p,q --max-age 60", "p/b"}, {"--provider p,q --stale", "p/a q/c"},
		{"--provider p,q --disputed", "p/a"}, {"--provider p,q --unpriced", "q/c"}, {"--provider p,q --no-cache-price", "p/b"}, {"p/*", "p/a p/b"},
	} {
		got := listed(t, append(strings.Fields(tt.flags), "--file", path)...)
		want := strings.Fields(tt.want)
		if len(got) != len(want) {
			t.Errorf("%s: %d arms, want %s", tt.flags, len(got), tt.want)
		}
		for _, id := range want {
			if _, ok := got[id]; !ok {
				t.Errorf("%s: no %s", tt.flags, id)
			}
		}
	}
	if v := listed(t, "--provider", "q", "--file", path)["q/c"]; !v.Unpriced || v.AgeDays != nil || len(v.Unknown) != 5 {
		t.Errorf("%+v: what nobody told must be unknown", v)
	}
	for _, flags := range [][]string{{"--can", "fly"}, {"--max-input", "cheap"}, {"--file", "missing"}} {
		if _, stderr, code := command(t, nil, "", append([]string{"catalog", "list"}, flags...)...); code != 1 || stderr == "" {
			t.Errorf("%v: exit code %d, %q", flags, code, stderr)
		}
	}
}

// A public list becomes a file of our own form, what has no place in it is named, and what was made is read again.
func TestCatalogImport(t *testing.T) {
	prices := write(t, "prices.json", `{
"openai/x":{"litellm_provider":"openai","mode":"chat","input_cost_per_token":1e-06,"output_cost_per_token":2e-06},
"openai/y":{"litellm_provider":"openai","mode":"chat","input_cost_per_token":1e-06,"output_cost_per_token":2e-06},
"openai/ear":{"litellm_provider":"openai","mode":"audio_transcription"}}`)
	stdout, stderr, code := command(t, nil, "", "catalog", "import", prices, "--skip", "*/y", "--notice", "Ours, and theirs.")
	if code != 0 {
		t.Fatal(stderr)
	}
	contains(t, "import", stderr, "left out: openai/ear", "left out: openai/y is named by --skip", "1 arms, 2 left out")
	contains(t, "the file", stdout, "Ours, and theirs.", `{"id":"openai/x","in":"1","out":"2"}`)
	path := filepath.Join(t.TempDir(), "ours.json")
	if err := os.WriteFile(path, []byte(stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, "show", run(t, "catalog", "show", "openai/x", "--file", path), "in 1, out 2", "guessed: cache_read")
}

// Every fact may be overridden, and what is not stays as the catalog has it.
func TestConfigOverridesFacts(t *testing.T) {
	const file = `
providers:
  - name: openai
    api_key: sk-0123456789abcdef
    models:
      - gpt-5
      - {name: gpt-5-mini, cache_read_usd_per_mtok: 0.05, tier: small, supports: {vision: false}, max_output_tokens: 1000, context_tokens: 2000,
         max_input_tokens: 1500, base_model: mine, quantization: fp8, deprecated: true, as_of: 2026-11-01}
      - {name: gpt-5-nano, input_usd_per_mtok: 7, output_usd_per_mtok: 8, request_usd: 0.005,
         tiers: [{above_input_tokens: 1000, input_usd_per_mtok: 9, output_usd_per_mtok: 10}],
         price_schedule: [{from: 2999-01-01, input_usd_per_mtok: 11, output_usd_per_mtok: 12}]}
      - {name: brand-new, free: true, supports: [tools]}
`
	path := write(t, "tradewind.yaml", file)
	bundled, got := listed(t, "openai/gpt-5", "--deprecated"), listed(t, "--provider", "openai", "--deprecated", "--config", path)
	if same, a := bundled["openai/gpt-5"], got["openai/gpt-5"]; *a.In != *same.In || *a.CacheRead != *same.CacheRead {
		t.Errorf("a plain name changed %+v", a.Entry)
	}
	mini, was := got["openai/gpt-5-mini"], bundled["openai/gpt-5-mini"]
	if mini.CacheRead.String() != "0.05" || *mini.In != *was.In || mini.Tier != "small" || *mini.Context != 2000 || *mini.MaxInput != 1500 ||
		*mini.MaxOutput != 1000 || mini.Base != "mine" || mini.Quantization != "fp8" || !mini.Deprecated || mini.AsOf != "2026-11-01" || strings.Join(mini.Cannot, ",") != "vision,audio_input" ||
		strings.Contains(strings.Join(mini.Can, ","), "vision") || !strings.Contains(strings.Join(mini.Can, ","), "tools") {
		t.Errorf("%+v", mini.Entry)
	}
	nano := got["openai/gpt-5-nano"]
	if nano.In.String() != "7" || nano.CacheRead != nil || nano.Request.String() != "0.005" || nano.Steps[0].In.String() != "9" || nano.Changes[0].In.String() != "11" {
		t.Errorf("%+v", nano.Entry)
	}
	if free := got["openai/brand-new"]; !free.Free || free.Unpriced || strings.Join(free.Can, ",") != "tools" {
		t.Errorf("%+v", free.Entry)
	}
}
