package serving_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// Pain 9 (maximhq/bifrost#6482): an ordinary key sees what it has spent, what is held, what bounds it and until when, and
// nothing of another key.
func TestUsage(t *testing.T) {
	usd := func(x float64) *float64 { return &x }
	w := newWorld(t, setup{auth: governance.Options{
		Keys: []governance.KeyConfig{
			{Key: keyA, Org: "o", Team: "t", Budget: governance.BudgetConfig{TotalUSD: usd(1)}, RequestsPerMinute: 60},
			{Key: keyMate, Org: "o", Team: "t"}, {Key: keyB},
		},
		Teams: []governance.OwnerConfig{{Name: "t", Org: "o", Budget: governance.BudgetConfig{DayUSD: usd(0.5)}}},
	}})
	w.chat(ask("one/cheap", ""), bearer(keyA)...).wantOK()
	w.chat(ask("one/cheap", ""), bearer(keyMate)...).wantOK()
	during := make(chan *answer, 1)
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		during <- w.do("GET", "/v1/usage", "", bearer(keyA)...)
		return &script{}, nil
	})
	w.chat(ask("one/cheap", ""), bearer(keyA)...).wantOK()
	// Each call costs 7 tokens at 1 and 3 at 2 dollars per million.
	a := (<-during).wantOK()
	held := fmt.Sprint(a.get("held_usd"))
	if a.get("spent_usd") != "0.000013" || held == "0" {
		t.Errorf("while a request runs: %s", a.body)
	}
	own, team := budgetOf(t, a, 0), budgetOf(t, a, 1)
	if own["scope"] != "key" || own["limit_usd"] != "1" || own["spent_usd"] != "0.000013" || own["held_usd"] != held || own["resets_at"] != "<nil>" {
		t.Errorf("the key's budget %v", own)
	}
	if team["scope"] != "team" || team["scope_id"] != "o/t" || team["window"] != "day" || team["spent_usd"] != "0.000026" || team["held_usd"] != held {
		t.Errorf("the team's budget %v, which two keys spend from", team)
	}
	if at, err := time.Parse(time.RFC3339, team["resets_at"]); err != nil || time.Until(at) <= 0 || time.Until(at) > 24*time.Hour {
		t.Errorf("a day ends at %s", team["resets_at"])
	}
	if a.get("remaining_usd") != team["remaining_usd"] || a.get("limits.requests_per_minute") != "60" || a.get("limits.tokens_per_minute") != nil {
		t.Errorf("%s", a.body)
	}
	b := w.do("GET", "/v1/usage", "", bearer(keyB)...).wantOK()
	if b.get("spent_usd") != "0" || b.get("remaining_usd") != nil || len(b.get("budgets").([]any)) != 0 || b.get("key_id") == a.get("key_id") {
		t.Errorf("another key sees %s", b.body)
	}
}

// budgetOf is one of the budgets of an answer, its values as text.
func budgetOf(t *testing.T, a *answer, i int) map[string]string {
	t.Helper()
	all := a.get("budgets").([]any)
	out := map[string]string{}
	for name, v := range all[i].(map[string]any) {
		out[name] = fmt.Sprint(v)
	}
	return out
}
