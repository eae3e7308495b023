package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/speed"
)

// TestBench runs it for a second. What it measures then says nothing; that every figure is there and no answer is lost
// is.
func TestBench(t *testing.T) {
	var out bytes.Buffer
	errs := &syncBuffer{} // the children write to it, too
	dir := t.TempDir()
	m := Main{
		Args: []string{"bench", "--seconds", "1", "--json", "--dir", dir}, Getenv: env{}.get,
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: errs, Self: os.Args[0],
	}
	if code := m.Run(t.Context()); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, &out, errs)
	}
	var r speed.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Lost != 0 || r.Answers == 0 || r.Rounds != 1 || r.Example != "" {
		t.Errorf("%d answers, %d lost, %d rounds, %q", r.Answers, r.Lost, r.Rounds, r.Example)
	}
	for _, f := range r.Figures {
		switch {
		case f.Name == "answers lost or short":
			if f.Bare != 0 || f.Gateway != 0 || f.Verdict != speed.Met {
				t.Errorf("%+v", f)
			}
		case strings.HasPrefix(f.Name, "memory"), strings.HasPrefix(f.Name, "start"): // the others may see nothing in a moment
			if f.Bare <= 0 || f.Gateway <= 0 || f.Ratio <= 0 {
				t.Errorf("no figure: %+v", f)
			}
		}
	}
	if len(r.Figures) != 10 {
		t.Errorf("%d figures", len(r.Figures))
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
	if lines := strings.Split(strings.TrimSpace(errs.String()), "\n"); !strings.HasPrefix(lines[0], "1/14 bare: start") || !slices.Contains(lines, "14/14 gateway: streams without pause") {
		t.Errorf("progress:\n%s", errs)
	}
	var table bytes.Buffer
	if err := r.WriteText(&table); err != nil {
		t.Fatal(err)
	}
	contains(t, "table", table.String(), "bare proxy", "tradewind", "CPU a request, 16 KB prompt", "≤ 1.6", "≥ 0.6", "0 lost or short")
}

// TestBenchRefuses: what cannot be run is refused before anything starts.
func TestBenchRefuses(t *testing.T) {
	for _, args := range [][]string{{"--seconds", "0.5"}, {"--seconds", "4000"}, {"--dir", "/nonexistent"}} {
		m := Main{Args: append([]string{"bench"}, args...), Getenv: env{}.get, Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Self: os.Args[0]}
		if code := m.Run(t.Context()); code == 0 {
			t.Errorf("%v is accepted", args)
		}
	}
}
