package serving_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// TestEjectionKeepsTheLastOfAName is P7 for what a client narrows down: where all arms that may serve the request are ejected, they
// are tried, however well the others do that may not.
func TestEjectionKeepsTheLastOfAName(t *testing.T) {
	twin := catalog.Arm{ID: "two/cheap", Tier: catalog.TierLarge, ContextTokens: 8000, MaxOutputTokens: 1000, Prices: catalog.Flat(1_000_000, 2_000_000)}
	for name, body := range map[string]string{
		"a model at two providers":     ask("cheap", ""),
		"... and a list of both":       ask("auto", `,"models":["one/cheap","two/cheap"]`),
		"all others denied":            ask("auto", `,"tradewind":{"deny":["three/*","two/middle"]}`),
		"all others too dear":          ask("auto", `,"tradewind":{"max_cost_usd":0.0021}`),
		"all others too dear, a group": ask("auto/all", `,"tradewind":{"max_cost_usd":0.0021}`),
	} {
		w := newWorld(t, setup{arms: append(threeArms(), twin)})
		s := w.settings(append(threeArms(), twin), governance.Options{})
		s.Aliases = map[string][]string{"all": {"cheap", "middle", "dear"}}
		if err := w.Reload(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
			if r.Arm.ID.Model() == "cheap" {
				return nil, fails(upstream.TimedOut, 504)
			}
			return &script{}, nil
		})
		for range 8 {
			w.chat(ask("one/cheap", `,"tradewind":{"fallback":false}`))
			w.chat(ask("two/cheap", `,"tradewind":{"fallback":false}`))
		}
		w.vendor.play(nil)
		a := w.chat(body)
		a.TB = named(t, name)
		if a.wantOK(); len(w.vendor.called()) != 1 || w.vendor.called()[0].Model() != "cheap" {
			t.Errorf("%s: called %v, %s", name, w.vendor.called(), a.body)
		}
	}
	w := newWorld(t, setup{})
	w.vendor.play(func(_ int, r *upstream.Request) (*script, error) { return nil, fails(upstream.TimedOut, 504) })
	for range 8 {
		w.chat(ask("one/cheap", `,"tradewind":{"fallback":false}`))
	}
	w.vendor.play(nil)
	if a := w.chat(ask("auto", "")).wantOK(); a.header.Get("X-Tradewind-Model") == "one/cheap" {
		t.Error("an ejected arm was chosen although others may serve")
	}
}

// TestFilterSaysWhyAnArmIsBehind: a decision tells an arm that fails from one that is rate-limited and from one that its vendor
// does not know any more; each of them serves where it is named.
func TestFilterSaysWhyAnArmIsBehind(t *testing.T) {
	for class, want := range map[upstream.Class]policy.Filter{
		upstream.Auth: policy.Unhealthy, upstream.RateLimited: policy.RateLimited, upstream.ModelGone: policy.Retired,
	} {
		w := newWorld(t, setup{})
		w.vendor.play(func(_ int, r *upstream.Request) (*script, error) { return nil, fails(class, 400) })
		w.chat(ask("one/cheap", `,"tradewind":{"fallback":false}`))
		w.vendor.play(nil)
		a := w.do("POST", "/v1/route", ask("auto", "")).wantOK()
		var d serving.Explanation
		if err := json.Unmarshal([]byte(a.body), &d); err != nil {
			t.Fatal(err)
		}
		if got := d.Candidates[slices.IndexFunc(d.Candidates, func(c serving.Candidate) bool { return c.Model == "one/cheap" })].Filter; got != want {
			t.Errorf("after a failure of class %s the filter is %q, want %q", class, got, want)
		}
		if a := w.chat(ask("one/cheap", "")).wantOK(); a.header.Get("X-Tradewind-Model") != "one/cheap" {
			t.Errorf("%s: it was named, and %s answered", class, a.header.Get("X-Tradewind-Model"))
		}
	}
}

// TestUserErrorsAreNoOutage: of what clients ask wrongly no provider is to blame, and the availability report does not count it.
func TestUserErrorsAreNoOutage(t *testing.T) {
	for class, failed := range map[upstream.Class]string{
		upstream.BadRequest: "0", upstream.ContentPolicy: "0", upstream.ContextLength: "0", upstream.Unsayable: "0",
		upstream.RateLimited: "1", upstream.Auth: "1", upstream.TimedOut: "1",
	} {
		w := newWorld(t, setup{options: serving.Options{MetricsOpen: true}})
		w.vendor.play(func(_ int, r *upstream.Request) (*script, error) { return nil, fails(class, 400) })
		if a := w.chat(ask("one/cheap", "")); a.status < 400 {
			t.Fatalf("%s: status %d", class, a.status)
		}
		if text := w.do("GET", "/metrics", "").body; !strings.Contains(text, `tradewind_answers_total{how="failed"} `+failed+"\n") {
			t.Errorf("after a failure of class %s the metrics lack failed %s", class, failed)
		}
	}
}

// TestUnknownGroup: a group that is no alias is named, with those that may have been meant.
func TestUnknownGroup(t *testing.T) {
	w := newWorld(t, setup{})
	s := w.settings(threeArms(), governance.Options{})
	s.Aliases = map[string][]string{"small": {"cheap"}, "large": {"dear"}}
	if err := w.Reload(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	a := w.chat(ask("auto/smal", ""))
	a.wantError(404, openai.ModelNotFound)
	if near, _ := a.get("error.tradewind.nearest").([]any); a.get("error.param") != "model" || !slices.Equal(near, []any{"auto/small"}) {
		t.Errorf("%s", a.body)
	}
}
