package main

import (
	"path/filepath"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
)

// TestTrainOnLog trains on a sealed log, alone and beside the table that its router came from.
func TestTrainOnLog(t *testing.T) {
	table, _ := shared(t)
	dir := t.TempDir()
	sealed := filepath.Join(dir, "log")
	l, err := datasets.OpenLog(sealed, datasets.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := simulate.New(simulate.Options{Seed: 9, Arms: 3})
	if err != nil {
		t.Fatal(err)
	}
	logged, err := w.Rounds(simulate.RoundsOptions{N: 300, Epsilon: 0.9, Feedback: 0.5, Estimate: func(dst *policy.Estimates, _ string) {
		dst.Resize(3)
		for j := range 3 {
			dst.Quality[j], dst.Score[j] = 0.5, float64(j)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	var rounds []datasets.Round
	var feedback []datasets.Feedback
	for r := range logged {
		if len(rounds) == 0 {
			r.Round.Outcome.Status = datasets.ClientGone
		}
		rounds = append(rounds, r.Round)
		if r.Feedback != nil {
			feedback = append(feedback, *r.Feedback)
		}
	}
	if _, err := l.Seal(rounds); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SealFeedback(feedback); err != nil {
		t.Fatal(err)
	}
	text := run(t, "train", "--data", sealed, "--out", filepath.Join(dir, "a"))
	contains(t, "train", text, "Log: 300 rounds", "client_gone 1", "no_feedback", "No verdict", "effective sample size", "not certified")
	text = run(t, "train", "--data", sealed, "--prior", table, "--out", filepath.Join(dir, "b"))
	contains(t, "train", text, "prior table of "+tablePrompts+" prompts fades")
	for _, args := range [][]string{{"--data", table, "--prior", table}, {"--data", sealed, "--arms", "sim/*"}} {
		if _, _, code := command(t, nil, "", append([]string{"train", "--out", filepath.Join(dir, "c")}, args...)...); code == 0 {
			t.Errorf("train %v: got no error", args)
		}
	}
}
