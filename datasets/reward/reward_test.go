package reward

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// round is a completed round of key k1 in team t, drawn from two arms.
func round(id string, spoil func(*datasets.Round)) datasets.Round {
	r := datasets.Round{
		Decision: datasets.Decision{
			RoundID: datasets.RoundID(id), DrawID: datasets.RoundID(id), At: begin, Org: "o", Team: "t", KeyID: "k1", Prompt: "what is " + id,
			Case:         policy.Case{Candidates: []policy.Candidate{{Arm: "a", Quality: 0.5}, {Arm: "b", Quality: 0.7}, {Arm: "c", Filter: policy.Denied}}},
			Propensities: []float64{0.25, 0.75, 0}, Action: "b", Propensity: 0.75,
		},
		Outcome: datasets.Outcome{
			RoundID: datasets.RoundID(id), At: begin.Add(time.Second), Status: datasets.Completed, Served: "b", Cost: 7, CostStatus: datasets.CostFinal,
			Usage: catalog.Usage{Input: 3, CacheRead: 2, Output: 9}, LatencyMS: 11,
		},
	}
	if spoil != nil {
		spoil(&r)
	}
	return r
}

// apply seals a log and scores it.
func apply(t *testing.T, o Options, rounds []datasets.Round, feedback []datasets.Feedback) *Result {
	t.Helper()
	l, err := datasets.OpenLog(t.TempDir(), datasets.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Seal(rounds); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SealFeedback(feedback); err != nil {
		t.Fatal(err)
	}
	r, err := Apply(context.Background(), l, o)
	if err != nil {
		t.Fatal(err)
	}
	dropped, unused := 0, 0
	for _, n := range r.Counts.Dropped {
		dropped += n
	}
	for _, n := range r.Counts.FeedbackDropped {
		unused += n
	}
	if c := r.Counts; c.Rounds != len(rounds) || c.Scored+dropped != c.Rounds || c.Feedback != len(feedback) || c.FeedbackUsed+unused != c.Feedback {
		t.Errorf("%d rounds and %d feedback are not all accounted for: %+v", len(rounds), len(feedback), c)
	}
	return r
}

// say is a feedback of the round's own key, an hour after it.
func say(id, source string, score float64) datasets.Feedback {
	return datasets.Feedback{RoundID: datasets.RoundID(id), Source: source, Score: score, KeyID: "k1", At: begin.Add(time.Hour)}
}

func TestEveryRoundIsScoredOrCounted(t *testing.T) {
	var x features.Context
	extractor, err := features.New(features.DefaultSpec(), nil)
	if err != nil {
		t.Fatal(err)
	}
	extractor.Extract(&x, features.NewPrompt("logged"))
	logged := x.AppendBinary(nil)
	cases := map[Reason][]func(*datasets.Round){
		Refused:    {func(r *datasets.Round) { r.Outcome.Status = datasets.Refused }},
		Failed:     {func(r *datasets.Round) { r.Outcome.Status = datasets.Failed }},
		ClientGone: {func(r *datasets.Round) { r.Outcome.Status = datasets.ClientGone }},
		Unknown:    {func(r *datasets.Round) { r.Outcome.Status = datasets.Unknown }},
		NoPropensity: {
			func(r *datasets.Round) { r.Decision.Propensities = nil },
			func(r *datasets.Round) { r.Decision.Propensities = []float64{0.25, 0.7, 0} },
			func(r *datasets.Round) { r.Decision.Propensity = 0.5 },
			func(r *datasets.Round) { r.Decision.Action, r.Outcome.Served = "c", "c" },
			func(r *datasets.Round) { r.Decision.DrawID = "rnd_elsewhere" },
		},
		Fallback:  {func(r *datasets.Round) { r.Outcome.Served = "a" }},
		NoContent: {func(r *datasets.Round) { r.Decision.Prompt = "" }},
		OtherSpec: {func(r *datasets.Round) {
			r.Decision.Prompt, r.Decision.Features, r.Decision.SpecDigest = "", logged, "old"
		}},
		BadFeatures: {func(r *datasets.Round) {
			r.Decision.Features, r.Decision.SpecDigest = []byte("?"), features.DefaultSpec().Digest()
		}},
		"": {
			nil,
			func(r *datasets.Round) { r.Decision.Features, r.Decision.SpecDigest = logged, "old" }, // its text is there
			func(r *datasets.Round) {
				r.Decision.Prompt, r.Decision.Features, r.Decision.SpecDigest = "", logged, features.DefaultSpec().Digest()
			},
		},
	}
	var rounds []datasets.Round
	var feedback []datasets.Feedback
	want := map[Reason]int{NoFeedback: 1}
	for reason, all := range cases {
		for _, spoil := range all {
			id := fmt.Sprintf("rnd_%02d", len(rounds))
			rounds, feedback = append(rounds, round(id, spoil)), append(feedback, say(id, "user", 1))
			if reason != "" {
				want[reason]++
			}
		}
	}
	rounds = append(rounds, round("rnd_silent", nil))
	r := apply(t, Options{}, rounds, feedback)
	if !reflect.DeepEqual(r.Counts.Dropped, want) {
		t.Errorf("got dropped %v, want %v", r.Counts.Dropped, want)
	}
	if r.Counts.Scored != len(cases[""]) || r.Counts.Kept != r.Counts.Scored {
		t.Errorf("got %+v, want %d scored", r.Counts, len(cases[""]))
	}
	for _, p := range r.Table.Prompts {
		if (p.Text == "") != (p.Features != "") || p.Features != "" && p.Features != string(logged) {
			t.Errorf("got prompt %+v", p)
		}
	}
	if text := r.Counts.String(); !strings.Contains(text, "client_gone 1") || !strings.Contains(text, "no_propensity 5") {
		t.Errorf("got %s", text)
	}
}

func TestScoredRow(t *testing.T) {
	r := apply(t, Options{}, []datasets.Round{round("rnd_1", nil), round("rnd_2", func(r *datasets.Round) {
		r.Decision.Action, r.Decision.Propensity, r.Outcome.Served = "a", 0.25, "a"
		r.Outcome.CostStatus, r.Outcome.Usage = datasets.CostUnpriced, catalog.Usage{}
	})}, []datasets.Feedback{say("rnd_1", "user", 1), say("rnd_1", "judge", 0.25), say("rnd_2", "check", 0)})
	if want := []catalog.ArmID{"a", "b"}; !reflect.DeepEqual(r.Table.Arms, want) {
		t.Fatalf("got arms %v, want %v: arm c never served", r.Table.Arms, want)
	}
	if want := []float64{0.25, 0.75, 0.25, 0.75}; !reflect.DeepEqual(r.Propensity, want) {
		t.Errorf("got propensities %v, want %v", r.Propensity, want)
	}
	if want := []float64{0.5, 0.7, 0.5, 0.7}; !reflect.DeepEqual(r.Estimate, want) {
		t.Errorf("got estimates %v, want %v", r.Estimate, want)
	}
	if want := []Team{{"o", "t"}, {"o", "t"}}; !reflect.DeepEqual(r.Team, want) {
		t.Errorf("got teams %v, want %v", r.Team, want)
	}
	table := r.Table
	if got := table.Score[1]; got != 0.75 { // (1·1 + 0.5·0.25) / 1.5
		t.Errorf("got score %v, want 0.75", got)
	}
	if table.Cost[1] != 7 || table.Input[1] != 5 || table.Output[1] != 9 || table.Latency[1] != 11 {
		t.Errorf("got cost %v, input %v, output %v, latency %v", table.Cost[1], table.Input[1], table.Output[1], table.Latency[1])
	}
	if table.Observed(0, 0) || table.Observed(1, 1) || table.Score[2] != 0 || table.Cost[2] != datasets.Unpriced || !math.IsNaN(float64(table.Input[2])) {
		t.Errorf("got scores %v, costs %v, input %v", table.Score, table.Cost, table.Input)
	}
}

func TestLastWordOfThoseWhoMaySpeak(t *testing.T) {
	later := func(f datasets.Feedback, key string, after time.Duration) datasets.Feedback {
		f.KeyID, f.At = key, f.At.Add(after)
		return f
	}
	rounds := []datasets.Round{
		round("rnd_1", nil),
		round("rnd_2", func(r *datasets.Round) { r.Decision.KeyID = "k2" }),
		round("rnd_3", func(r *datasets.Round) { r.Decision.KeyID, r.Decision.Team = "k3", "other" }),
		round("rnd_4", func(r *datasets.Round) { r.Decision.KeyID, r.Decision.Org = "k4", "else" }),
	}
	r := apply(t, Options{}, rounds, []datasets.Feedback{
		later(say("rnd_1", "user", 0.5), "k2", time.Hour), // the same team
		say("rnd_1", "user", 0.125),                       // earlier, though it was sealed later
		later(say("rnd_1", "user", 1), "k3", 2*time.Hour), // another team
		later(say("rnd_1", "user", 1), "k4", 2*time.Hour), // a team of that name elsewhere
		later(say("rnd_1", "user", 1), "k9", 2*time.Hour), // never seen
		later(say("rnd_1", "user", 1), "k1", 31*24*time.Hour),
		later(say("rnd_1", "user", 1), "k1", -2*time.Hour),
		later(say("rnd_2", "system", 0.25), "", 0),
		say("rnd_2", "gossip", 1), say("rnd_2", "user", 1.5), say("rnd_9", "user", 1),
	})
	want := map[Reason]int{Superseded: 1, Forbidden: 3, OutOfTime: 2, OtherSource: 1, OutOfRange: 1, NoRound: 1}
	if !reflect.DeepEqual(r.Counts.FeedbackDropped, want) || r.Counts.FeedbackUsed != 2 {
		t.Errorf("got %v and %d used, want %v and 2", r.Counts.FeedbackDropped, r.Counts.FeedbackUsed, want)
	}
	if len(r.Table.Prompts) != 2 || r.Table.Score[0] != 0.5 || r.Table.Score[1] != 0.25 {
		t.Errorf("got scores %v, want 0.5 and 0.25", r.Table.Score)
	}
}

// TestStickyRoundsHaveTheirDraw: the arm of a session was fixed by the draw that opened it.
func TestStickyRoundsHaveTheirDraw(t *testing.T) {
	follow := func(arm catalog.ArmID) func(*datasets.Round) {
		return func(r *datasets.Round) {
			d := &r.Decision
			d.DrawID, d.At, d.Reason = "rnd_1", begin.Add(time.Minute), datasets.Sticky
			d.Case.Candidates = []policy.Candidate{{Arm: arm, Quality: 0.5}}
			d.Propensities, d.Propensity, d.Action, r.Outcome.Served = []float64{1}, 1, arm, arm
		}
	}
	rounds := []datasets.Round{
		round("rnd_1", func(r *datasets.Round) { r.Outcome.Status = datasets.ClientGone }), // it drew, whatever came of it
		round("rnd_2", follow("b")), round("rnd_3", follow("a")),
	}
	r := apply(t, Options{}, rounds, []datasets.Feedback{say("rnd_2", "user", 1), say("rnd_3", "user", 1)})
	if want := map[Reason]int{ClientGone: 1, Fallback: 1}; !reflect.DeepEqual(r.Counts.Dropped, want) || r.Counts.Scored != 1 {
		t.Fatalf("got %+v, want one scored and %v", r.Counts, want)
	}
	if p := r.Table.Prompts[0]; p.ID != "rnd_2" || p.Group != "rnd_1" || r.Propensity[0] != 0.75 {
		t.Errorf("got %+v with propensity %v, want the draw's", p, r.Propensity)
	}
}

func TestSpec(t *testing.T) {
	spec := DefaultSpec()
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	other := DefaultSpec()
	other.Sources[0].Weight = 2
	if spec.Digest() == other.Digest() || len(spec.Digest()) != 64 {
		t.Errorf("got digest %s for both of two specs", spec.Digest())
	}
	for name, s := range map[string]Spec{
		"version":   {Version: 2, Within: 1, Sources: spec.Sources},
		"within":    {Version: 1, Sources: spec.Sources},
		"nobody":    {Version: 1, Within: 1},
		"twice":     {Version: 1, Within: 1, Sources: []Source{{"a", 1}, {"a", 1}}},
		"no weight": {Version: 1, Within: 1, Sources: []Source{{"a", 0}}},
		"NaN":       {Version: 1, Within: 1, Sources: []Source{{"a", math.NaN()}}},
	} {
		if err := (&Options{Spec: s}).Validate(); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// TestPriorsAreNotBelieved: what a tier stands for was measured by nobody, so it is no evidence to learn from.
func TestPriorsAreNotBelieved(t *testing.T) {
	d := &datasets.Decision{}
	d.Case.Candidates = []policy.Candidate{{Arm: "a/x", Quality: 0.84, Prior: true}, {Arm: "a/y", Quality: 0.7}}
	j := newJoin(DefaultSpec(), 1)
	if got, want := j.believed(d), []belief{{"a/y", 0.7}}; !reflect.DeepEqual(got, want) {
		t.Errorf("believed %v, want %v", got, want)
	}
	d.Case.Candidates[1].History = 0.1 // what was known of the team is not what was expected of the prompt
	if got, want := j.believed(d), []belief{{"a/y", 0.6}}; math.Abs(got[0].quality-want[0].quality) > 1e-12 {
		t.Errorf("with a history: believed %v, want %v", got, want)
	}
	d.Case.Candidates = d.Case.Candidates[:1]
	if got := j.believed(d); got != nil {
		t.Errorf("of priors alone: believed %v, want nothing", got)
	}
}

// TestRejectedByAGate: an answer that a gate rejected scores 0 for the arm that was drawn, at its own cost, where somebody
// spoke of the round; what they said was of another arm's answer. A gate that could not tell, and a vendor that failed,
// leave the round a fallback.
func TestRejectedByAGate(t *testing.T) {
	escalated := func(verdict datasets.Verdict) func(*datasets.Round) {
		return func(r *datasets.Round) {
			o := &r.Outcome
			o.Served, o.Reason, o.Cost = "a", datasets.Escalated, 9
			o.Attempts = []datasets.Attempt{{Arm: "b", StartedAt: begin, Outcome: "ok", Cost: 2, TotalMS: 5}, {Arm: "a", StartedAt: begin, Outcome: "ok", Cost: 7}}
			if verdict != "" {
				o.Attempts[0].Verdicts = []datasets.GateVerdict{{Gate: "g", Verdict: verdict}}
			}
		}
	}
	rounds := []datasets.Round{
		round("rejected", escalated(datasets.Rejected)), round("silent", escalated(datasets.Rejected)), round("unjudged", escalated(datasets.Unjudged)),
		round("fallback", escalated("")), round("passed", nil),
	}
	r := apply(t, Options{}, rounds, []datasets.Feedback{say("rejected", "user", 1), say("unjudged", "user", 1), say("fallback", "user", 1), say("passed", "user", 1)})
	if c := r.Counts; c.Scored != 2 || c.Dropped[Fallback] != 2 || c.Dropped[NoFeedback] != 1 {
		t.Fatalf("%+v", c)
	}
	for i, want := range []struct {
		id    string
		score float32
		cost  catalog.Nanodollars
		ms    float32
	}{{"rejected", 0, 2, 5}, {"passed", 1, 7, 11}} {
		at := r.Table.At(i, 0)
		if r.Table.Prompts[i].ID != want.id || r.Table.Arms[0] != "b" || r.Table.Score[at] != want.score || r.Table.Cost[at] != want.cost || r.Table.Latency[at] != want.ms || r.Propensity[at] != 0.75 {
			t.Errorf("%s: score %v, cost %v, %v ms, propensity %v; want %+v", r.Table.Prompts[i].ID, r.Table.Score[at], r.Table.Cost[at], r.Table.Latency[at], r.Propensity[at], want)
		}
	}
}
