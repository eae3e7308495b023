package aside_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/aside"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// TestMain is also the child: the real one, and some that are not as they should be.
func TestMain(m *testing.M) {
	if len(os.Args) != 2 || !strings.HasPrefix(os.Args[1], "child-") {
		os.Exit(m.Run())
	}
	var out io.Writer = os.Stdout
	switch os.Args[1] {
	case "child-killed": // once its files are written and before it says so
		out = writer(func([]byte) (int, error) {
			p, err := os.FindProcess(os.Getpid())
			return 0, errors.Join(err, p.Kill())
		})
	case "child-lies":
		out = writer(func(p []byte) (int, error) {
			at := bytes.Index(p, []byte(`"sha256":"`)) + len(`"sha256":"`)
			copy(p[at:], "00000000")
			return os.Stdout.Write(p)
		})
	case "child-raves":
		for {
			if _, err := os.Stdout.Write(make([]byte, 1<<20)); err != nil {
				os.Exit(1)
			}
		}
	case "child-hangs":
		time.Sleep(time.Hour)
	}
	if err := aside.Child(context.Background(), os.Stdin, out, func() { os.Exit(1) }); err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func child(t *testing.T, kind string, log io.Writer) *aside.Parent {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &aside.Parent{Path: self, Args: []string{self, kind}, Logger: slog.New(slog.NewTextHandler(log, nil))}
}

// plant is a data directory.
type plant struct {
	journal *journal.Journal
	log     *datasets.Log
	books   *ledger.Checkpoint
	n       int
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	dir := t.TempDir()
	var p plant
	var err error
	if p.journal, err = journal.Open(filepath.Join(dir, "journal"), journal.Options{}); err != nil {
		t.Fatal(err)
	}
	if p.log, err = datasets.OpenLog(filepath.Join(dir, "log"), datasets.LogOptions{}); err != nil {
		t.Fatal(err)
	}
	if p.books, err = ledger.OpenCheckpoint(nil, filepath.Join(dir, "ledger.json")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.journal.Close(), p.log.Close()); err != nil {
			t.Error(err)
		}
	})
	return &p
}

// fill ends ten rounds at a cost of 7 each, and scores one.
func (p *plant) fill(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	at := time.Date(2026, 1, 2, 15, 4, 0, 0, time.UTC)
	for range 10 {
		p.n++
		id := datasets.RoundID("rnd_" + strconv.Itoa(p.n))
		at = at.Add(6 * time.Minute)
		err := errors.Join(
			p.journal.AppendDecision(ctx, &datasets.Decision{RoundID: id, At: at, KeyID: "k", Action: "a/b", Propensity: 1}),
			p.journal.AppendOutcome(ctx, &datasets.Outcome{RoundID: id, At: at, Status: datasets.Completed, Cost: 7, CostStatus: datasets.CostFinal}))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := p.journal.AppendFeedback(ctx, &datasets.Feedback{RoundID: "rnd_1", Source: "user", Score: 1, At: at}); err != nil {
		t.Fatal(err)
	}
}

// check looks for all rounds, once each, for what they cost, and for nothing else.
func (p *plant) check(t *testing.T) {
	t.Helper()
	n := 0
	if err := p.log.Rounds(t.Context(), func(rounds []datasets.Round) error { n += len(rounds); return nil }); err != nil {
		t.Fatal(err)
	}
	sums := p.books.Sums()
	if spent := sums.Of(ledger.Account("key", "k", ledger.Total)).Settled; n != p.n || int64(spent) != int64(7*p.n) {
		t.Errorf("%d rounds at %d nano-dollars in the books, want %d at %d", n, int64(spent), p.n, 7*p.n)
	}
	orphans, err := p.log.Orphans()
	if err = errors.Join(err, p.log.Verify(t.Context())); err != nil || len(orphans) > 0 {
		t.Errorf("orphans %v, %v", orphans, err)
	}
	if left, err := filepath.Glob(filepath.Join(p.log.Dir(), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestSeal: whatever becomes of the child, each round is in the log once and in the books, and nothing is left behind. One
// that fails is done without, and told of once; one that lies is refused.
func TestSeal(t *testing.T) {
	for kind, want := range map[string]struct {
		refused bool
		warned  int
	}{
		"child-real": {}, "child-killed": {warned: 1}, "child-raves": {warned: 1}, "child-lies": {refused: true},
	} {
		t.Run(kind, func(t *testing.T) {
			var log bytes.Buffer
			p := newPlant(t)
			s := &serving.Sealer{Journal: p.journal, Log: p.log, Books: p.books, Logger: slog.New(slog.DiscardHandler), Prepare: child(t, kind, &log).Seal}
			for range 2 {
				p.fill(t)
				if err := s.Finish(t.Context()); (err != nil) != want.refused {
					t.Errorf("Finish = %v", err)
				}
			}
			if s.Prepare = nil; want.refused {
				if len(p.log.Parts()) > 0 {
					t.Errorf("the log has %v", p.log.Parts())
				}
				if err := s.Finish(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			p.check(t)
			if n := strings.Count(log.String(), "level=WARN"); n != want.warned {
				t.Errorf("warned %d times, want %d: %s", n, want.warned, &log)
			}
		})
	}
}

// TestMerge: a child merges the parts of an hour.
func TestMerge(t *testing.T) {
	var log bytes.Buffer
	p := newPlant(t)
	s := &serving.Sealer{Journal: p.journal, Log: p.log, Books: p.books, Logger: slog.New(slog.DiscardHandler)}
	for range 3 {
		p.fill(t)
		if err := s.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c, err := p.log.Compact(t.Context(), datasets.CompactOptions{Gentle: true, Merge: child(t, "child-real", &log).Merge})
	if err != nil || c.Merged != 6 || c.Into != 2 || log.Len() > 0 { // three parts in each of two hours
		t.Errorf("%+v, %v; %s", c, err, &log)
	}
	p.check(t)
}

// TestContext: a child goes with the context of its parent, and that is no failure.
func TestContext(t *testing.T) {
	var log bytes.Buffer
	p := newPlant(t)
	p.fill(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := &serving.Sealer{Journal: p.journal, Log: p.log, Books: p.books, Logger: slog.New(slog.DiscardHandler)}
	hanging := child(t, "child-hangs", &log)
	s.Prepare = func(ctx context.Context, j serving.SealJob) (serving.Prepared, error) {
		cancel()
		return hanging.Seal(ctx, j)
	}
	if err := s.Finish(ctx); !errors.Is(err, context.Canceled) || log.Len() > 0 {
		t.Errorf("Finish = %v; %s", err, &log)
	}
	s.Prepare = nil
	if err := s.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.check(t)
}

// TestOrphan: a child whose parent is gone ends, and so does one that is asked what it does not know.
func TestOrphan(t *testing.T) {
	gone := make(chan struct{})
	ask := `{"format":1,"seal":{"segment":"/absent","log":"/absent","name":"x","urgent":false}}` + "\n"
	var out bytes.Buffer
	if err := aside.Child(t.Context(), strings.NewReader(ask), &out, func() { close(gone) }); err != nil || !strings.Contains(out.String(), "error") {
		t.Errorf("%v: %s", err, &out)
	}
	<-gone
	for _, ask := range []string{"", "{}\n", `{"format":2,"seal":{}}` + "\n", `{"format":1}` + "\n", `{"format":1,"seal":{},"more":1}` + "\n", strings.Repeat(" ", aside.RequestMax) + "\n"} {
		if err := aside.Child(t.Context(), strings.NewReader(ask), &out, nil); err == nil {
			t.Errorf("%.40q was understood", ask)
		}
	}
}
