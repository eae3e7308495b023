package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// TestWhoSpent: who has spent what, while a server is at work, after it has sealed its journal, and once a key has gone.
func TestWhoSpent(t *testing.T) {
	const first, second = "sk-tw-first-0123456789abcdef", "sk-tw-second-0123456789abcdef"
	text := `keys:
  - {key: ` + first + `, name: nightly, org: acme, team: a, budget_usd: {day: 5, total: 7}}
  - {key: ` + second + `, org: acme}
orgs:
  - {name: acme, budget_usd: {month: 0.01}}
`
	file := write(t, "tradewind.yaml", text)
	if out := run(t, "usage", "--config", write(t, "empty.yaml", "data_dir: "+t.TempDir())); !strings.Contains(out, "nothing was spent") {
		t.Errorf("of an empty folder: %s", out)
	}
	contains(t, "usage", run(t, "usage", "--config", file, "--data-dir", t.TempDir()), "(nightly)") // who has spent nothing has a name too
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if _, stderr, code := command(t, nil, "", "usage", "--config", file, "--data-dir", elsewhere); code != 0 || !strings.Contains(stderr, "no server has used the data directory "+elsewhere) {
		t.Errorf("of a folder that is not there: %d, %q", code, stderr)
	}
	s := start(t, nil, "--config", file)
	spend := map[string]catalog.Nanodollars{}
	for _, key := range []string{first, second, first} {
		r := s.call(http.MethodPost, "/v1/chat/completions", key, ask("sim/cheap", "What is 17 times 23?", ""))
		cost, err := catalog.ParseDollars(r.header.Get("X-Tradewind-Cost-Usd"))
		if err != nil || cost == 0 {
			t.Fatalf("%d, cost %v, %v", r.status, cost, err)
		}
		spend[key] += cost
	}
	check := func(when string, all map[string]catalog.Nanodollars) {
		t.Helper()
		var got spent
		if err := json.Unmarshal([]byte(run(t, "usage", "--data-dir", s.data, "--config", file, "--json")), &got); err != nil {
			t.Fatal(err)
		}
		both := spend[first] + spend[second]
		for _, b := range got.Budgets {
			want := spend[first]
			if b.Scope == "org" {
				want = both
			}
			if b.Spent != want || b.Remaining != b.Limit-want || (b.ResetsAt == nil) != (b.Window == "total") {
				t.Errorf("%s: %+v, want %v spent", when, b, want)
			}
		}
		if len(got.Budgets) == 0 || got.Budgets[0].Scope != "org" || len(got.Keys) != len(spend) {
			t.Errorf("%s: %+v, want the organization's budget first and two keys", when, got)
		}
		for _, k := range got.Keys {
			if want, ok := all[k.Name+k.Org]; !ok || k.Today != want || k.Month != want || k.Spent != want || k.Configured != (k.Org != "") {
				t.Errorf("%s: %+v, want %v", when, k, want)
			}
		}
	}
	named := map[string]catalog.Nanodollars{"nightlyacme": spend[first], "acme": spend[second]}
	check("at work", named)
	s.sameWords(t, first, run(t, "usage", "--data-dir", s.data, "--config", file, "--json"))
	if _, stderr, _ := command(t, nil, "", "usage", "--data-dir", s.data, "--config", file); stderr != "" {
		t.Errorf("beside a server: %q", stderr)
	}
	s.stop()
	check("sealed", named)
	contains(t, "usage", run(t, "usage", "--data-dir", s.data, "--config", file), "org acme", "acme/a (nightly)", "STARTS AGAIN", spend[second].String())
	file = write(t, "tradewind.yaml", strings.Replace(text, second, "sk-tw-third-0123456789abcdef", 1))
	check("rolled", map[string]catalog.Nanodollars{"nightlyacme": spend[first], "": spend[second]})
	contains(t, "usage", run(t, "usage", "--data-dir", s.data, "--config", file), "no longer configured")
}

// sameWords: what the command says of a key and its budgets, GET /v1/usage says with the same names and values.
func (s *service) sameWords(t *testing.T, key, printed string) {
	t.Helper()
	type object = map[string]any
	var command struct{ Budgets, Keys []object }
	var wire object
	if err := json.Unmarshal([]byte(printed), &command); err != nil {
		t.Fatal(err)
	}
	s.call(http.MethodGet, "/v1/usage", key, "").want(t, 200, &wire)
	same := func(of string, ours, theirs object, ownWords ...string) {
		for name, got := range ours {
			if want, there := theirs[name]; !slices.Contains(ownWords, name) && (!there || got != want) {
				t.Errorf("%s: %s is %v, on the wire %v (%v)", of, name, got, want, there)
			}
		}
	}
	found := 0
	for _, ours := range command.Budgets {
		for _, b := range wire["budgets"].([]any) {
			if theirs := b.(object); theirs["scope"] == ours["scope"] && theirs["window"] == ours["window"] {
				same("a budget", ours, theirs, "name")
				found++
			}
		}
	}
	for _, ours := range command.Keys {
		if ours["key_id"] == wire["key_id"] {
			same("a key", ours, wire, "name", "configured", "today_usd", "month_usd")
			found++
		}
	}
	if found != 4 {
		t.Errorf("%d of 4 rows are in both\n%s\n%v", found, printed, wire)
	}
}
