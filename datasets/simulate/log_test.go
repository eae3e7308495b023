package simulate

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
)

// flat likes the arms in their order, by a hair.
func flat(w *World) func(*policy.Estimates, string) {
	return func(dst *policy.Estimates, _ string) {
		dst.Resize(len(w.arms))
		for a := range w.arms {
			dst.Quality[a], dst.Score[a], dst.OutputTokens[a] = 0.5, -float64(a)/100, 100
		}
	}
}

func rounds(t *testing.T, w *World, o RoundsOptions) (all []Logged) {
	t.Helper()
	seq, err := w.Rounds(o)
	if err != nil {
		t.Fatal(err)
	}
	for r := range seq {
		all = append(all, r)
	}
	return all
}

func TestRoundsAreWhatWasDrawn(t *testing.T) {
	const n, epsilon, share = 4000, 0.3, 0.5
	w := newWorld(t, Options{Seed: 4})
	o := RoundsOptions{From: 100, N: n, Epsilon: epsilon, Feedback: share, Estimate: flat(w)}
	all := rounds(t, w, o)
	first, scored, late := 0, 0, time.Duration(0)
	for i, r := range all {
		d, task := r.Round.Decision, w.Sample(o.From+int64(i))
		arm := 0
		for a := range w.arms {
			if w.arms[a].ID == d.Action {
				arm = a
			}
		}
		if d.Propensity != d.Propensities[arm] || d.Case.Candidates[arm].Arm != d.Action || d.Prompt != task.Text {
			t.Fatalf("round %d: got %+v", i, d)
		}
		var again policy.Distribution
		policy.Router{}.Propose(&again, &d.Case)
		if !reflect.DeepEqual(again.P, d.Propensities) {
			t.Fatalf("round %d: its case gives %v, logged were %v", i, again.P, d.Propensities)
		}
		made := w.Outcome(&task, arm)
		if r.Round.Outcome.Cost != made.Cost || r.Round.Outcome.Served != d.Action {
			t.Fatalf("round %d: got outcome %+v, want %+v", i, r.Round.Outcome, made)
		}
		if arm == 0 {
			first++
		}
		if f := r.Feedback; f != nil {
			scored++
			late = max(late, f.At.Sub(d.At))
			if f.Score != made.Score || f.RoundID != d.RoundID || f.At.Before(d.At) {
				t.Fatalf("round %d: got feedback %+v, want %v", i, f, made.Score)
			}
		}
	}
	for _, c := range []struct {
		what      string
		got, want float64
	}{{"share of the first arm", float64(first) / n, 1 - epsilon + epsilon/6}, {"share of feedback", float64(scored) / n, share}} {
		if math.Abs(c.got-c.want) > 4*math.Sqrt(c.want*(1-c.want)/n) {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
	if len(all) != n || late < 20*24*time.Hour || late > 30*24*time.Hour {
		t.Errorf("got %d rounds, the latest feedback after %v", len(all), late)
	}
	if !reflect.DeepEqual(rounds(t, w, o)[:50], all[:50]) {
		t.Error("equal options gave other rounds")
	}
	o.Features, o.SpecDigest = func(string) []byte { return []byte{1} }, "spec"
	if d := rounds(t, w, o)[0].Round.Decision; d.Prompt != "" || len(d.Features) != 1 || d.SpecDigest != "spec" {
		t.Errorf("got %+v, want features and no text", d)
	}
}

func TestRoundsThatNobodyCouldHaveLogged(t *testing.T) {
	w := newWorld(t, Options{})
	for _, o := range []RoundsOptions{{}, {N: -1, Estimate: flat(w)}, {From: -1, Estimate: flat(w)}, {Epsilon: 2, Estimate: flat(w)}, {Feedback: -1, Estimate: flat(w)}} {
		if _, err := w.Rounds(o); err == nil {
			t.Errorf("%+v: got no error", o)
		}
	}
}
