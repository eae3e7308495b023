package ledger_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

func reopen(t rapid.TB, path string) *ledger.Checkpoint {
	t.Helper()
	c, err := ledger.OpenCheckpoint(nil, path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A ledger that is restarted from its checkpoint at any moment, whatever window that moment lies in, says what one that
// was never restarted says.
func TestRestartChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.json")
	rapid.Check(t, func(t *rapid.T) {
		_ = os.Remove(path)
		now := time.Date(2026, 2, 26, 22, 0, 0, 0, time.UTC)
		clock := func() time.Time { return now }
		lasting := opened(t, ledger.Options{Now: clock})
		through := uint64(0)
		for i := range rapid.IntRange(1, 8).Draw(t, "rounds") {
			now = now.Add(time.Duration(rapid.IntRange(-3, 30).Draw(t, "hours")) * time.Hour)
			amount := catalog.Nanodollars(rapid.Int64Range(0, 1e12).Draw(t, "amount"))
			id := ledger.HoldID(fmt.Sprint(i))
			if err := errors.Join(lasting.Hold(context.Background(), id, everyWindow, amount, now), lasting.Settle(context.Background(), id, amount)); err != nil {
				t.Fatal(err)
			}
			through += rapid.Uint64Range(1, 9).Draw(t, "frames")
			c := reopen(t, path)
			for range rapid.IntRange(1, 2).Draw(t, "handed in") { // a second time after a crash
				if err := c.Advance(through, func(s *ledger.Sums) { s.Settle("key", "a", now, amount) }); err != nil {
					t.Fatal(err)
				}
			}
			c = reopen(t, path)
			restarted := opened(t, ledger.Options{Now: clock, Opening: c.Sums()})
			for _, account := range everyWindow {
				got, want := balance(t, restarted, account), balance(t, lasting, account)
				if got != want || c.Through() != through {
					t.Fatalf("restarted: %s is %+v through %d, want %+v through %d", account, got, c.Through(), want, through)
				}
			}
		}
	})
}

var everyWindow = []ledger.AccountID{"key:a@day", "key:a@week", "key:a@month", "key:a@total"}

// opened is a ledger with an account of every window.
func opened(t rapid.TB, o ledger.Options) *ledger.Memory {
	t.Helper()
	m, err := ledger.NewMemory(o)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range []ledger.Window{ledger.Day, ledger.Week, ledger.Month, ledger.Total} {
		if err := m.SetLimit(context.Background(), everyWindow[i], ledger.Limit{Window: w}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func balance(t rapid.TB, m *ledger.Memory, id ledger.AccountID) ledger.Balance {
	t.Helper()
	b, err := m.Balance(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A checkpoint that is not as it was written is refused, whichever bit or byte of it is another.
func TestCheckpointDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.json")
	c := reopen(t, path)
	if err := c.Advance(7, func(s *ledger.Sums) { s.Settle("org", "acme", time.Unix(0, 0), 12_345_678_901) }); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	try := func(text []byte, what string) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		switch got, err := ledger.OpenCheckpoint(nil, path); {
		case errors.Is(err, ledger.ErrDamaged):
			refused++
		case err != nil:
			t.Errorf("%s: %v, want ErrDamaged", what, err)
		case got.Through() != 7 || settled(got, "org:acme@total") != settled(c, "org:acme@total"):
			t.Errorf("%s: read as through %d, %+v", what, got.Through(), got.Sums())
		}
	}
	for n := range len(whole) - 1 {
		try(whole[:n], fmt.Sprintf("cut at %d", n))
		for bit := range 8 {
			flipped := bytes.Clone(whole)
			flipped[n] ^= 1 << bit
			try(flipped, fmt.Sprintf("bit %d of byte %d flipped", bit, n))
		}
	}
	if least := 9 * (len(whole) - 1) * 95 / 100; refused < least {
		t.Errorf("%d damaged files refused, want at least %d", refused, least)
	}
	if err := os.Mkdir(path+"d", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.OpenCheckpoint(nil, path+"d"); err == nil || errors.Is(err, ledger.ErrDamaged) {
		t.Errorf("a folder in its place: %v", err)
	}
}

// A checkpoint that another version has written is whole: nobody is told that it is damaged, or to move it away.
func TestCheckpointOfAnotherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.json")
	books := `{"format":2,"through":"7","accounts":[]}`
	text := fmt.Sprintf(`{"sha256":"%x","books":%s}`, sha256.Sum256([]byte(books)), books)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ledger.OpenCheckpoint(nil, path)
	if err == nil || errors.Is(err, ledger.ErrDamaged) || !strings.Contains(err.Error(), "its format is 2") || !strings.Contains(err.Error(), "leave the file where it is") {
		t.Errorf("%v, want its format and that it is to be left alone", err)
	}
}

// A checkpoint that cannot be written changes nothing, and what was handed in is not taken as booked.
func TestCheckpointCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	c := reopen(t, filepath.Join(dir, "ledger.json"))
	spend := func(s *ledger.Sums) { s.Settle("key", "a", time.Unix(0, 0), 5) }
	if err := c.Advance(3, spend); err == nil || c.Through() != 0 || settled(c, "key:a@total").Settled != 0 {
		t.Errorf("wrote into a folder that is not there: %v, through %d", err, c.Through())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Advance(9, spend); err == nil || c.Through() != 0 {
		t.Errorf("a later stretch was booked over a hole: %v, through %d", err, c.Through())
	}
	if err := c.Advance(3, spend); err != nil || c.Through() != 3 || settled(c, "key:a@total").Settled != 5 {
		t.Errorf("the second attempt: %v, through %d", err, c.Through())
	}
	if err := c.Advance(9, spend); err != nil || c.Through() != 9 || settled(c, "key:a@total").Settled != 10 {
		t.Errorf("the later stretch: %v, through %d", err, c.Through())
	}
}

func settled(c *ledger.Checkpoint, id ledger.AccountID) ledger.Sum {
	sums := c.Sums()
	return sums.Of(id)
}
