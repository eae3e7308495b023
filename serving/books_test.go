package serving_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// bookkeeper writes rounds and keeps books of its own: what each account must have settled, by outcomes at their cost and
// by rounds without one at their hold. It shares no code with what it checks.
type bookkeeper struct {
	testing.TB
	dir     string
	now     time.Time
	journal *journal.Journal
	books   *ledger.Checkpoint
	sealer  *serving.Sealer
	spent   map[ledger.AccountID]catalog.Nanodollars
	open    map[datasets.RoundID]*datasets.Decision
	n       int
}

func (b *bookkeeper) start() {
	b.Helper()
	b.journal, b.books = openData(b, b.dir, b.now)
	if b.sealer != nil { // the process before
		must(b.sealer.Log, b.sealer.Log.Close())(b)
	}
	log := must(datasets.OpenLog(filepath.Join(b.dir, "log"), datasets.LogOptions{}))(b)
	b.sealer = &serving.Sealer{Journal: b.journal, Log: log, Books: b.books, Logger: slog.New(slog.DiscardHandler)}
	b.sealer.Sealed = func() { b.crash("between checkpoint and deletion") }
	for id, d := range b.open { // what was open is closed at its hold
		b.spend(d, d.Hold)
		delete(b.open, id)
	}
}

// openData opens journal and checkpoint of a folder in the order in which the program does.
func openData(t testing.TB, dir string, now time.Time) (*journal.Journal, *ledger.Checkpoint) {
	t.Helper()
	var books *ledger.Checkpoint
	j := must(journal.Open(filepath.Join(dir, "journal"), journal.Options{
		SegmentMaxBytes: 6000, Now: func() time.Time { return now },
		After: func() (after uint64, err error) {
			books = must(ledger.OpenCheckpoint(nil, filepath.Join(dir, "ledger.json")))(t)
			return books.Through(), nil
		},
	}))(t)
	return j, books
}

func (b *bookkeeper) spend(d *datasets.Decision, cost catalog.Nanodollars) {
	b.spent[ledger.AccountID("key:"+d.KeyID+"@total")] += cost
	b.spent["team:acme/"+ledger.AccountID(d.Team)+"@month"] += cost
	b.spent["org:acme@day"] += cost
}

func (b *bookkeeper) round() {
	b.Helper()
	b.n++
	d := &datasets.Decision{
		RoundID: datasets.RoundID(fmt.Sprintf("rnd_%d", b.n)), At: b.now, Org: "acme", Team: fmt.Sprint("team", b.n%2), KeyID: fmt.Sprint("key", b.n%3),
		Hold: catalog.Nanodollars(1000 + b.n), Features: make([]byte, 200),
	}
	if err := b.journal.AppendDecision(context.Background(), d); err != nil {
		b.Fatal(err)
	}
	b.open[d.RoundID] = d
	if rand.IntN(5) == 0 {
		return // a slow one
	}
	for id, d := range b.open { // any that is open
		cost := catalog.Nanodollars(rand.IntN(2000))
		if err := b.journal.AppendOutcome(context.Background(), &datasets.Outcome{RoundID: id, At: b.now, Status: datasets.Completed, Cost: cost}); err != nil {
			b.Fatal(err)
		}
		b.spend(d, cost)
		delete(b.open, id)
		break
	}
}

// crash copies the folder as it is at this moment, restarts from the copy, and compares. A process that was killed here
// would have left the same files.
func (b *bookkeeper) crash(when string) {
	b.Helper()
	dir := b.TempDir()
	if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
		b.Fatal(err)
	}
	want := maps.Clone(b.spent)
	real := b.spent
	b.spent = want
	for _, d := range b.open {
		b.spend(d, d.Hold)
	}
	b.spent = real
	j, books := openData(b, dir, b.now)
	b.compare(when, want, j, books)
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
}

func (b *bookkeeper) compare(when string, want map[ledger.AccountID]catalog.Nanodollars, j *journal.Journal, books *ledger.Checkpoint) {
	b.Helper()
	sums := must(serving.Opening(books, j))(b)
	for id, amount := range want {
		if got := sums.Of(id).Settled; got != amount {
			b.Errorf("%s, after %d rounds: %s has settled %s, want %s", when, b.n, id, got, amount)
		}
	}
}

// TestBooksSurvive: whenever a process is killed, stopped, or its journal sealed, the next one starts with exactly what
// all rounds before it did cost.
func TestBooksSurvive(t *testing.T) {
	b := &bookkeeper{
		TB: t, dir: t.TempDir(), now: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC),
		spent: map[ledger.AccountID]catalog.Nanodollars{}, open: map[datasets.RoundID]*datasets.Decision{},
	}
	b.start()
	for i := range 70 {
		b.round()
		switch {
		case i%20 == 3:
			b.crash("killed")
		case i%30 == 7:
			if err := b.sealer.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.crash("after sealing")
		case i%40 == 31: // a clean restart, with rounds that were still open
			if err := errors.Join(b.sealer.Finish(t.Context()), b.journal.Close()); err != nil {
				t.Fatal(err)
			}
			b.start()
		case i == 54: // somebody empties the journal: what is booked stays booked, and what comes is booked behind it
			if err := errors.Join(b.sealer.Finish(t.Context()), b.journal.Close(), os.RemoveAll(filepath.Join(b.dir, "journal"))); err != nil {
				t.Fatal(err)
			}
			clear(b.open)
			b.start()
		}
	}
	if err := b.sealer.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, want := range b.spent {
		sums := b.books.Sums()
		if got := sums.Of(id).Settled; len(b.open) == 0 && got != want {
			t.Errorf("%s has settled %s, want %s", id, got, want)
		}
	}
	if err := b.journal.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNothingUnbookedIsDeleted: without a checkpoint on the disk no segment goes, and once it can be written nothing is
// missing from it.
func TestNothingUnbookedIsDeleted(t *testing.T) {
	b := &bookkeeper{
		TB: t, dir: t.TempDir(), now: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC),
		spent: map[ledger.AccountID]catalog.Nanodollars{}, open: map[datasets.RoundID]*datasets.Decision{},
	}
	b.start()
	blocked := filepath.Join(b.dir, "ledger.json.new")
	if err := os.MkdirAll(filepath.Join(blocked, "full"), 0o700); err != nil { // the file is written under this name first
		t.Fatal(err)
	}
	for range 40 {
		b.round()
	}
	if err := b.sealer.Finish(t.Context()); err == nil {
		t.Error("sealed without a checkpoint")
	}
	b.crash("without a checkpoint")
	if err := os.RemoveAll(blocked); err != nil {
		t.Fatal(err)
	}
	if err := b.sealer.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.crash("once it could be written")
	if b.books.Through() == 0 {
		t.Error("nothing was booked")
	}
	if err := b.journal.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOpeningLimits: a budget that is configured after the spending counts it, for every level of the chain.
func TestOpeningLimits(t *testing.T) {
	var sums ledger.Sums
	a := must(governance.New(governance.Options{
		Orgs:  []governance.OwnerConfig{{Name: "acme", Budget: governance.BudgetConfig{DayUSD: new(5.0)}}},
		Teams: []governance.OwnerConfig{{Name: "ml", Org: "acme", Budget: governance.BudgetConfig{MonthUSD: new(4.0)}}},
		Keys:  []governance.KeyConfig{{Key: keyA, Org: "acme", Team: "ml", Budget: governance.BudgetConfig{TotalUSD: new(3.0)}}},
	}))(t)
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Org: "acme", Team: "ml"}}}})
	w.chat(ask("auto", ""), bearer(keyA)...).wantOK()
	c := must(ledger.OpenCheckpoint(nil, filepath.Join(t.TempDir(), "ledger.json")))(t)
	sums = must(serving.Opening(c, w.journal))(t)
	cost := w.rounds()[0].Outcome.Cost
	budgets := a.Principals()[0].Budgets
	if len(budgets) != 3 || cost == 0 {
		t.Fatalf("budgets %+v, cost %s", budgets, cost)
	}
	for _, b := range budgets {
		if got := sums.Of(ledger.Account(b.Scope, b.Owner, ledger.Window(b.Window))).Settled; got != cost {
			t.Errorf("%s %s starts with %s settled, want %s", b.Scope, b.Owner, got, cost)
		}
	}
}
