package serving_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/rules"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// aimed is the simulated world under targets: of team a/t, and of everybody in the settings.
func aimed(t *testing.T, l learned, team governance.TargetConfig, all serving.Settings) (*world, func(i int, model, key string) *answer) {
	arms := l.world.Arms()
	v := &inhabited{world: l.world, arms: arms, rng: rand.New(rand.NewPCG(5, 6))}
	w := newWorld(t, setup{
		arms: arms, router: must(serving.NewRouter(arms, l.classifier))(t), providers: map[string]upstream.Provider{arms[0].ID.Provider(): v},
		auth: governance.Options{
			Teams: []governance.OwnerConfig{{Name: "t", Org: "a", Target: team}},
			Keys:  []governance.KeyConfig{{Key: keyA, Org: "a", Team: "t", Log: governance.LogFull}, {Key: keyB, Org: "a"}},
		},
		options: serving.Options{Settings: all},
	})
	return w, func(i int, model, key string) *answer {
		task := l.world.Sample(int64(trainingRows + i))
		v.task = &task
		text := must(json.Marshal(task.Text))(t)
		return w.chat(fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%s}],"tradewind":{"explain":true}}`, model, text), bearer(key)...).wantOK()
	}
}

// TestCostTarget: a team's money for the day lasts for the day, whoever of it asks, and what it changed stands in the decision.
// Others are not touched, and a new day begins anew.
func TestCostTarget(t *testing.T) {
	l := must(trained())(t)
	synctest.Test(t, func(t *testing.T) {
		const requests = 200 // in a day, evenly
		midnight := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
		_, ask := aimed(t, l, governance.TargetConfig{}, serving.Settings{})
		free := 0.0
		for i := range requests {
			free += number(ask(i, "auto:quality", keyA), "usage.cost")
		}
		for _, share := range []float64{0.5, 0.2} {
			budget := share * free
			w, ask := aimed(t, l, governance.TargetConfig{Cost: governance.CostConfig{Amount: budget, Per: governance.PerDay}}, serving.Settings{})
			account := ledger.Account("team", "a/t", ledger.Day)
			for day := range 2 {
				spent, pressed := 0.0, 0
				for i := range requests {
					time.Sleep(time.Until(midnight.Add(time.Duration(i) * 24 * time.Hour / requests)))
					a := ask(i, "auto:quality", keyA)
					spent += number(a, "usage.cost")
					d, _ := w.outcome(a)
					checkReplay(t, d)
					pressure, weight := a.get("tradewind.budget_pressure.team"), number(a, "tradewind.weights.cost")
					if (pressure != nil) != (d.Case.Lambda > 0) || weight != d.Case.Lambda || pressure != nil && (d.Certified || d.Case.Guard.On) {
						t.Fatalf("pressure %v at weight %v, the case has %+v", pressure, weight, d.Case)
					}
					if pressure != nil {
						pressed++
					}
					if i%50 == 0 && ask(i, "auto:quality", keyB).get("tradewind.budget_pressure") != nil {
						t.Error("the target of a team presses who is not of it")
					}
				}
				if booked := must(w.books.Balance(context.Background(), account))(t).Settled.Dollars(); booked-spent > 1e-9 || spent-booked > 1e-9 {
					t.Errorf("the ledger has booked %v on %s, answers did cost %v", booked, account, spent)
				}
				if spent > 1.02*budget || spent < 0.7*budget || pressed == 0 {
					t.Errorf("share %v, day %d: %.6f spent of %.6f, %d of %d requests pressed", share, day, spent, budget, pressed, requests)
				}
				midnight = midnight.AddDate(0, 0, 1)
			}
		}
	})
}

func number(a *answer, path string) float64 {
	text, _ := a.get(path).(string)
	return must(strconv.ParseFloat(text, 64))(a)
}

// TestTargetOfAll: everybody's target holds for all keys together, outlives a reload that leaves it alone, and presses the less
// where the strategy saves already.
func TestTargetOfAll(t *testing.T) {
	l := must(trained())(t)
	synctest.Test(t, func(t *testing.T) {
		w, ask := aimed(t, l, governance.TargetConfig{}, serving.Settings{Target: averaging(0.0008)})
		spent, n := 0.0, 0
		for i := range 400 {
			a := ask(i, "auto:quality", []string{keyA, keyB}[i%2])
			spent += number(a, "usage.cost")
			n++
		}
		if mean := spent / float64(n); mean > 0.0008*1.02 || mean < 0.0008*0.7 {
			t.Errorf("a request did cost %v on average", mean)
		}
		same := w.settings(l.world.Arms(), governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Org: "a", Team: "t", Log: governance.LogFull}, {Key: keyB, Org: "a"}}})
		same.Router = must(serving.NewRouter(l.world.Arms(), l.classifier))(t)
		same.Target = averaging(0.0008)
		if err := w.Reload(t.Context(), same); err != nil {
			t.Fatal(err)
		}
		route := w.do("POST", "/v1/route", ask0(l), bearer(keyA)...).wantOK()
		if route.get("budget_pressure.all") == nil {
			t.Errorf("a reload has forgotten what was learned, or a dry run does not show it: %s", route.body)
		}
		same.Target.Cost.Per = "fortnight"
		if err := w.Reload(t.Context(), same); err == nil {
			t.Error("a target per fortnight is taken")
		}
	})
}

func averaging(usd float64) governance.TargetConfig {
	return governance.TargetConfig{Cost: governance.CostConfig{Amount: usd, Per: governance.PerRequest}}
}

func ask0(l learned) string {
	text, _ := json.Marshal(l.world.Sample(trainingRows).Text)
	return fmt.Sprintf(`{"model":"auto:quality","messages":[{"role":"user","content":%s}]}`, text)
}

// TestQualityTarget: the nearest level's share takes the place of the strategy's own figure, never looser than it asks; strategy
// quality has none to replace.
func TestQualityTarget(t *testing.T) {
	l := must(trained())(t)
	lambda := func(share float64) float64 {
		least, ok := l.classifier.Keeping(share, policy.KnownMix)
		if !ok || least.Target < share {
			t.Fatalf("a share of %v: %+v, %v", share, least, ok)
		}
		return least.Lambda
	}
	if a, b := lambda(0.97), lambda(0.8); !(a < b) {
		t.Fatalf("prices %v for 97 %% and %v for 80 %%: the world cannot show a difference", a, b)
	}
	synctest.Test(t, func(t *testing.T) {
		w, ask := aimed(t, l, governance.TargetConfig{Quality: 0.8}, serving.Settings{Target: governance.TargetConfig{Quality: 0.97}})
		for _, tt := range []struct {
			key, model string
			want       float64
		}{
			{keyA, "auto", lambda(0.8)}, {keyA, "auto:cost", lambda(0.8)}, {keyA, "auto:availability", lambda(0.8)}, {keyA, "auto:quality", 0},
			{keyB, "auto", lambda(0.97)}, {keyB, "auto:latency", 0},
		} {
			d, _ := w.outcome(ask(1, tt.model, tt.key))
			checkReplay(t, d)
			if d.Case.Lambda != tt.want || tt.model == "auto:latency" && math.Abs(d.Case.Guard.Tolerance-0.03) > 1e-9 {
				t.Errorf("%s of %s: λ %v, guard %+v, want %v", tt.model, tt.key, d.Case.Lambda, d.Case.Guard, tt.want)
			}
		}
	})
	if slices.ContainsFunc([]float64{0.5, 0.99}, func(s float64) bool { _, ok := l.classifier.Keeping(s, policy.KnownMix); return !ok }) {
		t.Error("a share that training covers is not known")
	}
}

// TestTargetOfAPolicy: a policy paces those that are under it, together and nobody else; its share of quality goes before that of
// levels further out, and what a level says itself before that of its policy. A replay under another strategy keeps the share.
func TestTargetOfAPolicy(t *testing.T) {
	l := must(trained())(t)
	settings := serving.Settings{
		Target:   governance.TargetConfig{Quality: 0.97},
		Policies: map[string]rules.PolicyConfig{"thrift": {Target: averaging(0.0008)}, "kept": {Target: governance.TargetConfig{Quality: 0.8}}},
		Rules:    []rules.Config{{Policy: "thrift", Teams: []string{"a/t"}}},
	}
	synctest.Test(t, func(t *testing.T) {
		w, ask := aimed(t, l, governance.TargetConfig{}, settings)
		spent := 0.0
		for i := range 300 {
			a := ask(i, "auto:quality", keyA)
			spent += number(a, "usage.cost")
			d, _ := w.outcome(a)
			checkReplay(t, d)
			if pressure := a.get("tradewind.budget_pressure.policy"); (pressure != nil) != (d.Case.Lambda > 0) || d.Policy != "thrift" {
				t.Fatalf("pressure %v at weight %v under policy %s", pressure, d.Case.Lambda, d.Policy)
			}
			if i%50 == 0 && ask(i, "auto:quality", keyB).get("tradewind.budget_pressure") != nil {
				t.Error("the target of a policy presses who is not under it")
			}
		}
		if mean := spent / 300; mean > 0.0008*1.02 || mean < 0.0008*0.7 {
			t.Errorf("a request did cost %v on average", mean)
		}
	})
	lambda := func(share float64) float64 {
		target, _ := l.classifier.Keeping(share, policy.KnownMix)
		return target.Lambda
	}
	settings.Rules = []rules.Config{{Policy: "kept", Tags: map[string]string{"task": "bulk"}}}
	synctest.Test(t, func(t *testing.T) {
		w, ask := aimed(t, l, governance.TargetConfig{Quality: 0.95}, settings)
		decide := func(key, more string) *datasets.Decision {
			d, _ := w.outcome(w.chat(strings.TrimSuffix(ask0(l), "}")+more+"}", bearer(key)...).wantOK())
			return d
		}
		ask(0, "auto", keyA)
		const bulk, cheap = `,"tradewind":{"tags":{"task":"bulk"},"strategy":"cost"}`, `,"tradewind":{"strategy":"cost"}`
		for _, tt := range []struct {
			key, more string
			want      float64
		}{{keyA, cheap, lambda(0.95)}, {keyB, cheap, lambda(0.97)}, {keyA, bulk, lambda(0.8)}, {keyB, bulk, lambda(0.8)}} {
			d := decide(tt.key, tt.more)
			if checkReplay(t, d); d.Case.Lambda != tt.want {
				t.Errorf("%s: λ %v, want %v", tt.more, d.Case.Lambda, tt.want)
			}
			var again serving.Explanation
			unmarshal(t, w.do("POST", "/v1/decisions/"+string(d.RoundID)+"/replay", `{"strategy":"balanced"}`, bearer(tt.key)...).wantOK().body, &again)
			if again.Weights.Cost != tt.want {
				t.Errorf("%s: replayed as balanced at %v, want %v", tt.more, again.Weights.Cost, tt.want)
			}
		}
	})
}
