package evals

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

func TestAvailability(t *testing.T) {
	attempt := func(arm catalog.ArmID, class string) datasets.Attempt {
		a := datasets.Attempt{Arm: arm, Outcome: "ok"}
		if class != "" {
			a.Outcome, a.ErrorClass = "failed", class
		}
		return a
	}
	gone := attempt("a/x", "")
	gone.Outcome = "cancelled"
	outcomes := []struct {
		status   datasets.Status
		attempts []datasets.Attempt
	}{
		{datasets.Completed, []datasets.Attempt{attempt("a/x", "")}},
		{datasets.Completed, []datasets.Attempt{attempt("a/x", "")}},
		{datasets.Completed, []datasets.Attempt{attempt("a/x", "server"), attempt("b/y", "")}},
		{datasets.Failed, []datasets.Attempt{attempt("a/x", "timeout"), attempt("a/z", "server")}},
		{datasets.Failed, []datasets.Attempt{attempt("a/x", "bad_request")}},
		{datasets.Completed, []datasets.Attempt{gone, attempt("a/x", "")}}, // outrun by the call beside it, which is no failure
		{datasets.Failed, []datasets.Attempt{attempt("a/x", "unsayable")}},
		{datasets.ClientGone, []datasets.Attempt{gone}},
		{datasets.Unknown, nil},
	}
	l, err := datasets.OpenLog(t.TempDir(), datasets.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var rounds []datasets.Round
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for i, o := range outcomes {
		id := datasets.RoundID("rnd_" + string(rune('a'+i)))
		for k := range o.attempts {
			o.attempts[k].StartedAt = at
		}
		rounds = append(rounds, datasets.Round{
			Decision: datasets.Decision{RoundID: id, DrawID: id, At: at, Action: "a/x", Propensity: 1, Case: policy.Case{Candidates: []policy.Candidate{{Arm: "a/x"}}}, Propensities: []float64{1}},
			Outcome:  datasets.Outcome{RoundID: id, At: at, Status: o.status, Attempts: o.attempts},
		})
	}
	if _, err := l.Seal(rounds); err != nil {
		t.Fatal(err)
	}
	a, err := MeasureAvailability(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	if a.First != 3 || a.Rescued != 1 || a.Failed != 1 || a.Censored != 4 || a.Answered.Value != 0.8 || a.Alone.Value != 0.6 {
		t.Errorf("got %+v", a)
	}
	if len(a.Arms) != 3 || a.Arms[0].Name != "a/x" || a.Arms[0].Attempts != 5 || a.Arms[0].OK != 3 || a.Arms[0].Failures["timeout"] != 1 {
		t.Errorf("arms %+v", a.Arms)
	}
	if len(a.Providers) != 2 || a.Providers[0].Name != "a" || a.Providers[0].Attempts != 6 || a.Providers[1].OK != 1 {
		t.Errorf("providers %+v", a.Providers)
	}
	var b strings.Builder
	if err := a.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"80.000 % of 5 requests were answered", "short of the goal", "Without a second attempt it would be 60.000 %", "1 server, 1 timeout"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, &b)
		}
	}
}

// A share below the goal is not told as within it: where the interval holds the goal nobody knows.
func TestAvailabilityVerdict(t *testing.T) {
	for verdict, a := range map[string]Availability{
		"short of the goal":             {First: 990, Failed: 10, Answered: wilson(990, 1000)},
		"too few to tell from the goal": {First: 998, Failed: 2, Answered: wilson(998, 1000)},
		"above the goal":                {First: 10000, Answered: wilson(10000, 10000)},
	} {
		var b strings.Builder
		if err := a.WriteText(&b); err != nil || !strings.Contains(b.String(), verdict) {
			t.Errorf("%q is not in %q, %v", verdict, &b, err)
		}
	}
}

// TestWilson compares with Brown, Cai and DasGupta 2001: the interval keeps to [0,1] and is not empty at the ends.
func TestWilson(t *testing.T) {
	for _, test := range []struct {
		k, n      int
		low, high float64
	}{{0, 10, 0, 0.2775}, {10, 10, 0.7225, 1}, {5, 10, 0.2366, 0.7634}} {
		if got := wilson(test.k, test.n); math.Abs(float64(got.Low)-test.low) > 1e-3 || math.Abs(float64(got.High)-test.high) > 1e-3 {
			t.Errorf("%d of %d: got %v, want [%v, %v]", test.k, test.n, got, test.low, test.high)
		}
	}
	if got := wilson(0, 0); got.Value == got.Value {
		t.Errorf("of nothing: got %v", got)
	}
}
