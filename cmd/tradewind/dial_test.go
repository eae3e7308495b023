package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// routed seals rounds between two arms of which the dear one is better by gap(i).
func routed(t *testing.T, n int, gap func(i int) float64) (dir string) {
	dir = t.TempDir()
	log, err := datasets.OpenLog(filepath.Join(dir, "log"), datasets.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	rounds := make([]datasets.Round, n)
	for i := range rounds {
		r := &rounds[i]
		id, at := datasets.RoundID(fmt.Sprintf("rnd_%d", i)), time.Date(2026, 1, 1, 0, 0, 0, i*1000, time.UTC)
		arm := func(id catalog.ArmID, score, cost float64) policy.Candidate {
			return policy.Candidate{Arm: id, Quality: score, Score: score, Priced: true, CostUSD: cost, Availability: 1}
		}
		r.Decision = datasets.Decision{RoundID: id, At: at, Action: "p/cheap", Propensity: 1, Propensities: []float64{1, 0}, Case: policy.Case{
			Fallback: 1, Reference: -1, Pinned: -1, Candidates: []policy.Candidate{arm("p/cheap", 0.5, 0.001), arm("p/dear", 0.5+gap(i), 0.01)},
		}}
		r.Outcome = datasets.Outcome{RoundID: id, At: at, Status: datasets.Completed, CostStatus: datasets.CostFinal}
	}
	if _, err := log.Seal(rounds); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestDoctorTurnsTheDial (pain 41): it says where the dial does nothing over the rounds that were served, and is silent where
// none were.
func TestDoctorTurnsTheDial(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		n    int
		gap  func(int) float64
		want []string
	}{
		{400, func(int) float64 { return 0.3 * rng.Float64() }, []string{"ok: turning the dial from quality to cost changes", "of the last 400 rounds with each of its 10 steps"}},
		{400, func(i int) float64 { return 0.1 }, []string{"warn: turning the dial", "fewer than 1 % of the choices of the last 400 rounds from 0 to 1 (0.0 %)", "9 to 10 (0.0 %)"}},
		{50, func(int) float64 { return 0.1 }, []string{"ok: 50 sealed rounds were the router's to choose"}},
	} {
		by, code := examined(t, nil, "--offline", "--data-dir", routed(t, tt.n, tt.gap))
		if contains(t, "dial", by["dial"], tt.want...); code != 0 {
			t.Errorf("exit code %d: %v", code, by)
		}
	}
	if by, _ := examined(t, nil, "--offline", "--data-dir", t.TempDir()); by["dial"] != "" {
		t.Errorf("without a log: %s", by["dial"])
	}
}
