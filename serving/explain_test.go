package serving_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
)

// TestEveryReasonInWords: every reason is said in words, with what the next best would have cost, and what came of it.
func TestEveryReasonInWords(t *testing.T) {
	served := func(r datasets.Reason, arm catalog.ArmID) *datasets.Outcome {
		return &datasets.Outcome{Reason: r, Served: arm}
	}
	for _, tt := range []struct {
		name string
		set  func(d *datasets.Decision)
		o    *datasets.Outcome
		want string
	}{
		{"cost", func(d *datasets.Decision) { d.Case.Lambda = 10 }, nil,
			"chosen: p/b because it gives the most quality for its forecast cost; the next best was p/a, 0.004 dollars less for -0.100 quality."},
		{"certified", func(d *datasets.Decision) { d.Case.Lambda, d.Certified = 10, true }, nil, "certified to hold the quality of strategy balanced; the next best was p/a"},
		{"quality", func(d *datasets.Decision) {}, nil, "because it has the highest estimated quality; the next best was p/c, 0.025 dollars more for -0.050 quality."},
		{"guarded quality", func(d *datasets.Decision) { d.Case.Guard.On = true }, nil, "the highest estimated quality of the models that are proven good enough"},
		{"latency", func(d *datasets.Decision) {
			d.Case.LatencyFirst = true
			d.Case.Candidates[0].LatencyMS, d.Case.Candidates[1].LatencyMS = 900, 300
		}, nil, "because it is the fastest of the models that are good enough; the next best was p/a, 0.004 dollars less for -0.100 quality in 900 ms instead of 300."},
		{"latency unknown", func(d *datasets.Decision) { d.Case.LatencyFirst = true }, nil, "because no latency is known yet, and it has the highest estimated quality"},
		{"availability", func(d *datasets.Decision) {
			d.Case.AvailabilityFirst = true
			d.Case.Candidates[0].Availability, d.Case.Candidates[1].Availability, d.Case.Candidates[2].Availability = 0.97, 0.99, 0.9
		}, nil, "because none has answered more reliably of late; the next best was p/a, 0.004 dollars less for -0.100 quality, which has answered 97 % of late to 99."},
		{"pressed", func(d *datasets.Decision) {
			d.Case.Lambda, d.Case.Paces = 10, []policy.Pace{{Level: "org", Lambda: 3}, {Level: "team", Lambda: 10, Pressure: 0.5}}
		}, nil, "while the cost target of the team saves money; the next best was p/a"},
		{"pressed by all", func(d *datasets.Decision) {
			d.Case.Lambda, d.Case.Paces = 10, []policy.Pace{{Level: "all", Lambda: 10, Pressure: 0.5}}
		}, nil, "while the cost target of all requests saves money"},
		{"ruled", func(d *datasets.Decision) { d.Reason, d.Case.Pinned = datasets.Ruled, 1 }, nil, "because a rule names it"},
		{"sticky", func(d *datasets.Decision) { d.Reason, d.Case.Candidates[1].Sticky = datasets.Sticky, true }, nil, "because the conversation"},
		{"hedged", func(d *datasets.Decision) {}, served(datasets.Hedged, "p/c"), "; it was slow to begin, and p/c answered first."},
		{"pinned", func(d *datasets.Decision) { d.Reason, d.Case.Pinned = datasets.Pinned, 1 }, nil, "because the request names it"},
		{"explored", func(d *datasets.Decision) { d.Reason, d.Propensity = datasets.Explored, 0.0125 }, nil, "because this round explores (probability 0.0125)"},
		{"only candidate", func(d *datasets.Decision) {
			d.Reason = datasets.OnlyCandidate
			d.Case.Candidates[0].Filter, d.Case.Candidates[2].Filter = policy.Denied, policy.Unhealthy
		}, nil, "because every other model was filtered (denied 1, unhealthy 1)."},
		{"guarded", func(d *datasets.Decision) {
			d.Reason = datasets.OnlyCandidate
			d.Case.Candidates[0].Filter, d.Case.Candidates[2].Filter = policy.Guarded, policy.Guarded
		}, nil, "because every other model was filtered (guard 2; guard: nothing shows yet that they hold the quality of the fallback)."},
		{"floor", func(d *datasets.Decision) { d.Reason = datasets.FloorReference }, nil, "because no model clears the quality floor, so the reference serves"},
		{"unpriced", func(d *datasets.Decision) { d.Case.Candidates[2].Priced = false }, nil, "; the next best was p/c."},
		{"history", func(d *datasets.Decision) { d.Case.Candidates[1].History = -.0125 }, nil, "; the team's own outcomes have moved its quality by -0.013."},
		{"prior", func(d *datasets.Decision) { d.Case.Candidates[1].Prior = true }, nil, "nobody has scored it here"},
		{"fallback", func(d *datasets.Decision) {}, served(datasets.FellBack, "p/c"), "; it failed, and p/c answered."},
		{"escalated", func(d *datasets.Decision) {}, served(datasets.Escalated, "p/c"), "; its answer did not pass a gate, and that of p/c did."},
		{"gates", func(d *datasets.Decision) {}, served(datasets.GateFailed, "p/b"), "; no answer passed the gates."},
	} {
		d := &datasets.Decision{Action: "p/b", Reason: datasets.Predicted, Strategy: "balanced", Case: policy.Case{Pinned: -1, Reference: -1, Candidates: []policy.Candidate{
			{Arm: "p/a", Priced: true, CostUSD: 0.001, Quality: 0.7, Score: 0.7, Availability: 1},
			{Arm: "p/b", Priced: true, CostUSD: 0.005, Quality: 0.8, Score: 0.8, Availability: 1},
			{Arm: "p/c", Priced: true, CostUSD: 0.03, Quality: 0.75, Score: 0.75, Availability: 1},
		}}}
		tt.set(d)
		if got := serving.Explain(d, tt.o).Sentence; !strings.HasPrefix(got, "chosen: p/b because ") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q in it", tt.name, got, tt.want)
		}
	}
}

// TestOneDecisionObject: what /v1/route says of a request, what its answer carries, and what is shown of it later are one
// object, but for what only one of them can know.
func TestOneDecisionObject(t *testing.T) {
	const tool = `,"tools":[{"type":"function","function":{"name":"f"}}]`
	arms := threeArms()
	for i := range arms {
		arms[i].Capabilities |= catalog.Tools
	}
	w := newWorld(t, setup{arms: arms})
	if a := w.do("POST", "/v1/route", ask("auto", tool)).wantOK(); !strings.Contains(a.body, `"capabilities":["tools"]`) {
		t.Errorf("what the request needs is not told: %s", a.body)
	}
	for _, model := range []string{"auto", "auto:cost", "auto:quality", "auto:latency", "auto:availability", "two/middle"} {
		for _, stream := range []string{"", `,"stream":true`} {
			body := ask(model, tool+stream+`,"tradewind":{"explain":true,"explore":false}`)
			route := w.do("POST", "/v1/route", body).wantOK()
			a := w.chat(body).wantOK()
			carried := a.body
			if stream != "" {
				events := a.events()
				carried = events[len(events)-2]
			}
			var inside struct{ Tradewind map[string]any }
			var dry, later map[string]any
			unmarshal(t, carried, &inside)
			unmarshal(t, route.body, &dry)
			unmarshal(t, w.do("GET", "/v1/decisions/"+string(a.round()), "").wantOK().body, &later)
			ran := []string{"attempts", "usage", "cost_usd", "cost_status", "status", "served"}
			compare(t, model+" shown later", later, inside.Tradewind)
			compare(t, model+" routed", dry, inside.Tradewind, append(ran, "id", "created_at", "request_id", "dry_run")...)
		}
	}
}

// compare wants two objects to be equal but for some members.
func compare(t testing.TB, what string, a, b map[string]any, but ...string) {
	t.Helper()
	a, b = maps.Clone(a), maps.Clone(b)
	for _, name := range but {
		delete(a, name)
		delete(b, name)
	}
	if !reflect.DeepEqual(a, b) {
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		t.Errorf("%s:\n%s\nthe answer carried\n%s", what, x, y)
	}
}
