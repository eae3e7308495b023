package serving_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// demand is what a request or a key may ask, in the order from loose to strict.
type demand struct {
	MaxCost    float64         `json:"max_cost_usd,omitempty"`
	MaxLatency int             `json:"max_latency_ms,omitempty"`
	Floor      float64         `json:"quality_floor,omitempty"`
	Deny       []catalog.ArmID `json:"deny,omitempty"`
	Allow      []catalog.ArmID `json:"allow,omitempty"`
	Explore    bool            `json:"explore"`
}

func anyDemand(t *rapid.T, arms []catalog.Arm) (d demand) {
	d.MaxCost = rapid.SampledFrom([]float64{0, 0, 0.001, 0.01}).Draw(t, "max cost")
	d.MaxLatency = rapid.SampledFrom([]int{0, 0, 1, 1000}).Draw(t, "max latency")
	d.Floor = rapid.SampledFrom([]float64{0, 0, 0.4, 0.6}).Draw(t, "floor")
	for _, a := range arms {
		switch rapid.IntRange(0, 5).Draw(t, "arm") {
		case 0:
			d.Deny = append(d.Deny, a.ID)
		case 1:
			d.Allow = append(d.Allow, a.ID)
		}
	}
	return d
}

// stricter is a demand that asks for no less.
func (d demand) stricter(t *rapid.T, arms []catalog.Arm) demand {
	if rapid.Bool().Draw(t, "cheaper") {
		d.MaxCost = max(d.MaxCost, 0.004) / 2
	}
	if rapid.Bool().Draw(t, "faster") {
		d.MaxLatency = max(d.MaxLatency, 2) / 2
	}
	if d.Floor > 0 || rapid.Bool().Draw(t, "better") {
		d.Floor += 0.05
	}
	d.Deny = append(slices.Clone(d.Deny), rapid.SampledFrom(arms).Draw(t, "denied").ID)
	if len(d.Allow) > 1 {
		d.Allow = d.Allow[1:]
	}
	return d
}

// TestStricterRequestsAdmitNobody: whom a request or its key refuses, no stricter request of that key admits: the levels add up,
// and the strictest wins. Whom the floor refused may come back as its reference.
func TestStricterRequestsAdmitNobody(t *testing.T) {
	l := must(trained())(t)
	arms := l.world.Arms()
	w := newWorld(t, setup{
		arms: arms, router: must(serving.NewRouter(arms, l.classifier))(t),
		auth: governance.Options{Keys: []governance.KeyConfig{
			{Key: keyA}, {Key: keyB, MaxCostUSD: 0.006, Floor: 0.45, Deny: []string{string(arms[0].ID)}},
		}},
	})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		time.Sleep(3 * time.Millisecond)
		return &script{}, nil
	})
	for i := range 6 { // latencies are known, and longer than the shortest that can be asked for
		w.chat(ask(string(arms[i%3].ID), ""), bearer(keyA)...).wantOK()
	}
	refused := map[policy.Filter]int{}
	for f, bound := range map[policy.Filter]func(*demand){ // each clause is surely in some: what is drawn alone may leave one out
		policy.MaxCost:      func(d *demand) { d.MaxCost = 0.001 },
		policy.MaxLatency:   func(d *demand) { d.MaxLatency = 1 },
		policy.QualityFloor: func(d *demand) { d.Floor = 0.6 },
		policy.Denied:       func(d *demand) { d.Deny = append(d.Deny, arms[1].ID) },
		policy.NotAllowed:   func(d *demand) { d.Allow = []catalog.ArmID{arms[2].ID} },
	} {
		rapid.Check(t, func(t *rapid.T) {
			loose := anyDemand(t, arms)
			bound(&loose)
			stricterAdmitsNobody(t, w, l, loose, refused)
		})
		if refused[f] == 0 {
			t.Errorf("nobody was refused by %s: %v", f, refused)
		}
	}
}

// stricterAdmitsNobody holds a loose demand against a stricter one, and against both under a key that has its own.
func stricterAdmitsNobody(t *rapid.T, w *world, l learned, loose demand, refused map[policy.Filter]int) {
	arms := l.world.Arms()
	strict := loose.stricter(t, arms)
	text, _ := json.Marshal(l.world.Sample(int64(trainingRows + rapid.IntRange(0, 99).Draw(t, "prompt"))).Text)
	strategy := rapid.SampledFrom([]string{"cost", "balanced", "quality", "latency", "availability"}).Draw(t, "strategy")
	filters := func(key string, d demand) (of map[catalog.ArmID]policy.Filter, restored bool) {
		body, _ := json.Marshal(d)
		a := w.do("POST", "/v1/route", fmt.Sprintf(`{"model":"auto:%s","messages":[{"role":"user","content":%s}],"tradewind":%s}`, strategy, text, body), bearer(key)...)
		of = map[catalog.ArmID]policy.Filter{}
		var e struct {
			serving.Explanation
			Error struct {
				Tradewind struct{ Filtered []serving.Candidate }
			}
		}
		if err := json.Unmarshal([]byte(a.body), &e); err != nil {
			t.Fatal(err)
		}
		for _, c := range append(e.Candidates, e.Error.Tradewind.Filtered...) {
			of[c.Model] = c.Filter
		}
		if len(of) != len(arms) {
			t.Fatalf("%d arms in %s", len(of), a.body)
		}
		return of, e.Reason == "floor_reference"
	}
	for _, pair := range []struct {
		of, than string
		d        demand
	}{{keyA, keyA, strict}, {keyB, keyB, strict}, {keyB, keyA, loose}} {
		was, _ := filters(pair.than, loose)
		is, restored := filters(pair.of, pair.d)
		for id, f := range was {
			refused[f]++
			if f != policy.Eligible && f != policy.Guarded && is[id] == policy.Eligible && !restored {
				t.Fatalf("%s was refused by %s under %+v, and %+v admits it", id, f, loose, pair.d)
			}
		}
	}
}
