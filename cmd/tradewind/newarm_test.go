package main

import (
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/trainer"
)

// TestWriteNewcomers: shares are of arms that are worth something alone, and what the others cost is told.
func TestWriteNewcomers(t *testing.T) {
	var b strings.Builder
	err := writeNewcomers(&b, []trainer.Newcomer{
		{Arm: "a/none", Full: 0.001, Gains: []float64{-0.003, 0.001}},
		{Arm: "a/half", Full: 0.010, Gains: []float64{0.004, 0.006}},
		{Arm: "a/most", Full: 0.020, Gains: []float64{0.020, 0.010}},
	}, 50)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 arms add at least 0.005: they get 62 % of it on average, the least of them 50 %.", "The others cost 0.0010 at most"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing:\n%s", want, b.String())
		}
	}
	if first, second := strings.Index(b.String(), "a/most"), strings.Index(b.String(), "a/half"); first > second {
		t.Errorf("the arm that adds most does not stand first:\n%s", b.String())
	}
}

func TestNewArmStandsAlone(t *testing.T) {
	for _, e := range []*evalCmd{{NewArm: 50, Folds: 3}, {NewArm: 50, LeaveTaskOut: true}, {NewArm: 50, Out: "x"}} {
		if err := e.newArms(t.Context(), &Main{}, nil, nil); err == nil {
			t.Errorf("%+v: no error", e)
		}
	}
}
