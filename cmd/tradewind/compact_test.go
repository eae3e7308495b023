package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
)

// oldLog seals n rounds of one hour long ago, a part each, and one round of today.
func oldLog(t *testing.T, dir string, n int) {
	t.Helper()
	l, err := datasets.OpenLog(dir, datasets.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n + 1 {
		at := time.Date(2026, 1, 2, 15, i, 0, 0, time.UTC)
		if i == n {
			at = time.Now()
		}
		id := datasets.RoundID(fmt.Sprintf("rnd_%d", i))
		r := datasets.Round{Decision: datasets.Decision{RoundID: id, At: at}, Outcome: datasets.Outcome{RoundID: id, At: at, Status: datasets.Completed}}
		if _, err := l.Seal([]datasets.Round{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDataCompact(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	oldLog(t, dir, 3)
	var c datasets.Compaction
	if err := json.Unmarshal([]byte(run(t, "data", "compact", dir, "--json")), &c); err != nil {
		t.Fatal(err)
	}
	if want := (datasets.Compaction{Parts: 2, Merged: 3, MergedRows: 3, Into: 1}); c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
	contains(t, "verify", run(t, "data", "verify", dir), "2 parts, 4 rows, all as they were sealed; 3 superseded; head ", "leftover: rounds/dt=2026-01-02/hour=15/0000.000000-", ".parquet.old (superseded")
	contains(t, "inspect", run(t, "data", "inspect", dir), "superseded     3\n", "leftover       rounds/", "rounds         4\n")
	var in datasets.Inspection
	if err := json.Unmarshal([]byte(run(t, "data", "inspect", dir, "--json")), &in); err != nil {
		t.Fatal(err)
	}
	if len(in.Files) != 2 || in.Superseded != 3 || len(in.Leftovers) != 3 {
		t.Errorf("inspect lists %v, %d superseded, leftovers %v", in.Files, in.Superseded, in.Leftovers)
	}
	contains(t, "compact", run(t, "data", "compact", dir, "--retention-days", "30"), "1 parts; 0 were merged into 0, 1 dropped (3 rows); 0 files")
	empty := t.TempDir()
	_, stderr, code := command(t, nil, "", "data", "compact", empty)
	if left, _ := os.ReadDir(empty); code != 1 || !strings.Contains(stderr, "is no log") || len(left) != 0 {
		t.Errorf("a folder that is no log: exit code %d, %q, now with %v", code, stderr, left)
	}
}

// TestServeCompacts: a server compacts its log after its start and drops what is too old, and no one else may meanwhile.
func TestServeCompacts(t *testing.T) {
	_, artifact := shared(t)
	data := t.TempDir()
	dir := filepath.Join(data, "log")
	oldLog(t, dir, 3)
	live := func() int {
		l, err := datasets.OpenLog(dir, datasets.LogOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		return len(l.Parts())
	}
	compacted := func(want int) {
		t.Helper()
		for range 6000 { // a minute
			if live() == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("the server has left %d parts, want %d", live(), want)
	}
	s := start(t, nil, "--artifact", artifact, "--data-dir", data)
	compacted(2)
	_, stderr, code := command(t, nil, "", "data", "compact", dir)
	if code != 1 || !strings.Contains(stderr, fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("compacting the log of a running server: exit code %d, %q", code, stderr)
	}
	s.stop()
	run(t, "data", "compact", dir) // nobody holds it now
	start(t, nil, "--artifact", artifact, "--data-dir", data, "--config", write(t, "tradewind.yaml", "log: {retention_days: 30}"))
	compacted(1)
}
