package serving_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// TestDial (pain 41): OpenRouter's cost_quality_tradeoff saves more with every step, about as much as it says, and every step
// changes choices, whatever the key's own strategy is. A strategy of the request is stronger.
func TestDial(t *testing.T) {
	l := must(trained())(t)
	arms := l.world.Arms()
	w := newWorld(t, setup{
		arms: arms, router: must(serving.NewRouter(arms, l.classifier))(t), providers: map[string]upstream.Provider{arms[0].ID.Provider(): instant{}},
		auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Strategy: "latency", Log: governance.LogFull}}},
	})
	const prompts = 250
	ask := func(i int, plugin, more string) (choice int, cost float64, c *policy.Case) {
		text := must(json.Marshal(l.world.Sample(int64(trainingRows + i)).Text))(t)
		a := w.chat(fmt.Sprintf(`{"model":"auto","messages":[{"role":"user","content":%s}],"plugins":[{"id":"auto-router"%s}]%s}`, text, plugin, more), bearer(keyA)...).wantOK()
		d, _ := w.outcome(a)
		checkReplay(t, d)
		choice = slices.IndexFunc(arms, func(a catalog.Arm) bool { return a.ID == d.Action })
		if strings.Contains(plugin, "tradeoff") && more == "" && (d.Certified || d.Strategy != "balanced" || d.Case.Guard.On) {
			t.Fatalf("a dialed decision: %+v", d)
		}
		return choice, d.Case.Candidates[choice].CostUSD, &d.Case
	}
	for i := range 200 { // of which the dial learns what the prompts cost
		ask(prompts+i, `,"cost_quality_tradeoff":5`, "")
	}
	var costs [policy.DialMax + 1]float64
	before := make([]int, prompts)
	for setting := range costs {
		changed := 0
		for i := range prompts {
			choice, cost, _ := ask(i, fmt.Sprintf(`,"cost_quality_tradeoff":%d`, setting), "")
			if costs[setting] += cost; choice != before[i] {
				changed++
			}
			before[i] = choice
		}
		if setting == 0 {
			continue
		}
		if costs[setting] >= costs[setting-1] || 100*changed < prompts {
			t.Errorf("from %d to %d: %d of %d choices changed, the cost from %v to %v", setting-1, setting, changed, prompts, costs[setting-1], costs[setting])
		}
	}
	if share := (costs[0] - costs[5]) / (costs[0] - costs[10]); share < 0.4 || share > 0.6 {
		t.Errorf("in the middle the dial saves %.2f of what it can", share)
	}
	if _, _, c := ask(0, `,"cost_quality_tradeoff":10`, `,"tradewind":{"strategy":"quality"}`); c.Lambda != 0 {
		t.Errorf("the dial is stronger than the request's strategy: λ = %v", c.Lambda)
	}
	if _, _, c := ask(0, "", ""); !c.LatencyFirst {
		t.Errorf("without a setting the key's strategy is not in force: %+v", c)
	}
	if choice, _, _ := ask(0, `,"cost_quality_tradeoff":0,"allowed_models":["`+string(arms[0].ID)+`"]`, ""); choice != 0 {
		t.Errorf("allowed_models lets arm %d serve", choice)
	}
}
