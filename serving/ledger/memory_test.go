package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/ledger/ledgertest"
)

func TestMemory(t *testing.T) {
	ledgertest.Run(t, func(t rapid.TB, now func() time.Time) ledgertest.Ledger {
		m, err := ledger.NewMemory(ledger.Options{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}

func TestMemoryLimitsItself(t *testing.T) {
	ctx, later := context.Background(), time.Now().Add(time.Hour)
	m, err := ledger.NewMemory(ledger.Options{HoldsMax: 2, AccountsMax: 2, ClosedMax: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, nil, ledger.ErrFull} {
		if err := m.SetLimit(ctx, ledger.Account("key", fmt.Sprint(i), ledger.Day), ledger.Limit{}); !errors.Is(err, want) {
			t.Errorf("account %d: %v, want %v", i, err, want)
		}
		if err := m.Hold(ctx, ledger.HoldID(fmt.Sprint(i)), []ledger.AccountID{"key:0@day"}, 1, later); !errors.Is(err, want) {
			t.Errorf("hold %d: %v, want %v", i, err, want)
		}
	}
	if got := m.Open(); got["key"] != 2 || len(got) != 1 {
		t.Errorf("Open = %v, want 2 of key", got)
	}
	if err := m.Release(ctx, "0"); err != nil {
		t.Fatal(err)
	}
	if err := m.Hold(ctx, "0", nil, 1, later); !errors.Is(err, ledger.ErrDuplicate) {
		t.Errorf("the last closed id: %v, want ErrDuplicate", err)
	}
	if err := m.Hold(ctx, "2", nil, 1, later); err != nil {
		t.Errorf("a hold after a release: %v", err)
	}
	if err := m.Release(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	if err := m.Hold(ctx, "0", nil, 1, later); err != nil {
		t.Errorf("a closed id past ClosedMax is forgotten: %v", err)
	}
	chain := make([]ledger.AccountID, ledger.ChainMax+1)
	if err := m.Hold(ctx, "long", chain, 1, later); !errors.Is(err, ledger.ErrInvalid) {
		t.Errorf("a chain of %d: %v, want ErrInvalid", len(chain), err)
	}
	if _, err := ledger.NewMemory(ledger.Options{HoldsMax: -1}); err == nil {
		t.Error("a negative limit was accepted")
	}
}

// TestLastIDsAreKnown: of the holds that have ended it is always the last that are remembered.
func TestLastIDsAreKnown(t *testing.T) {
	const remembered = 3
	ctx, later := t.Context(), time.Now().Add(time.Hour)
	m, err := ledger.NewMemory(ledger.Options{ClosedMax: remembered})
	if err != nil {
		t.Fatal(err)
	}
	name := func(i int) ledger.HoldID { return ledger.HoldID(fmt.Sprint(i)) }
	for i := range 3 * remembered {
		if err := errors.Join(m.Hold(ctx, name(i), nil, 1, later), m.Release(ctx, name(i))); err != nil {
			t.Fatal(err)
		}
		for old := max(0, i+1-remembered); old <= i; old++ {
			if err := m.Hold(ctx, name(old), nil, 1, later); !errors.Is(err, ledger.ErrDuplicate) {
				t.Errorf("%d after %d: %v, want ErrDuplicate", old, i, err)
			}
		}
	}
}

func TestExpireManyAndStop(t *testing.T) {
	ctx := context.Background()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m, _ := ledger.NewMemory(ledger.Options{Now: func() time.Time { return now }})
	id := ledger.Account("org", "o", ledger.Total)
	if err := m.SetLimit(ctx, id, ledger.Limit{}); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := m.Hold(ctx, ledger.HoldID(fmt.Sprint(i)), []ledger.AccountID{id}, 1, now.Add(time.Duration(i*7919%1000)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if n, err := m.Expire(gone, now.Add(time.Hour)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("Expire with a cancelled context = %d, %v", n, err)
	}
	if n, err := m.Expire(ctx, now.Add(499*time.Second)); n != 500 || err != nil {
		t.Errorf("Expire = %d, %v, want 500", n, err)
	}
	if b, _ := m.Balance(ctx, id); b.Settled != 500 || b.Held != 500 {
		t.Errorf("balance = %+v, want 500 settled and 500 held", b)
	}
}

func TestSettlementsNeverWrap(t *testing.T) {
	ctx := context.Background()
	m, _ := ledger.NewMemory(ledger.Options{})
	id := ledger.Account("org", "o", ledger.Total)
	if err := m.SetLimit(ctx, id, ledger.Limit{}); err != nil {
		t.Fatal(err)
	}
	for _, h := range []ledger.HoldID{"a", "b", "c"} {
		if err := m.Hold(ctx, h, []ledger.AccountID{id}, 5, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range []ledger.HoldID{"a", "b"} {
		if err := m.Settle(ctx, h, math.MaxInt64); err != nil {
			t.Fatal(err)
		}
	}
	if b, _ := m.Balance(ctx, id); b.Settled < math.MaxInt64-15 || b.Excess < 0 {
		t.Errorf("balance = %+v, want all that fits", b)
	}
	if err := m.Hold(ctx, "d", []ledger.AccountID{id}, 100, time.Time{}); !errors.Is(err, catalog.ErrOverflow) {
		t.Errorf("a hold on a full account: %v, want ErrOverflow", err)
	}
}

func TestAccountID(t *testing.T) {
	id := ledger.Account("key", "a:b@c", ledger.Month)
	if id != "key:a:b@c@month" || id.Scope() != "key" || id.Owner() != "a:b@c" {
		t.Errorf("%s: scope %q, owner %q", id, id.Scope(), id.Owner())
	}
}

// BenchmarkHold64 is performance.md's: 64 callers, every account of the chain shared, each holding and settling. It
// reports the latency of Hold alone.
func BenchmarkHold64(b *testing.B) {
	const callers = 64
	ctx := context.Background()
	m, _ := ledger.NewMemory(ledger.Options{})
	var chain []ledger.AccountID
	for _, scope := range []string{"key", "team", "org"} {
		for _, w := range []ledger.Window{ledger.Day, ledger.Month} {
			id := ledger.Account(scope, "0123456789abcdef", w)
			chain = append(chain, id)
			if err := m.SetLimit(ctx, id, ledger.Limit{Set: true, Amount: math.MaxInt64 / 2, Window: w}); err != nil {
				b.Fatal(err)
			}
		}
	}
	took := make([][]time.Duration, callers)
	ids := make([][]ledger.HoldID, callers)
	for w := range callers {
		for i := range b.N/callers + 1 {
			ids[w] = append(ids[w], ledger.HoldID(fmt.Sprintf("rnd_%02d%026d", w, i)))
		}
		took[w] = make([]time.Duration, len(ids[w]))
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			for i, id := range ids[w] {
				start := time.Now()
				err := m.Hold(ctx, id, chain, 1000, start.Add(time.Minute))
				took[w][i] = time.Since(start)
				if err != nil {
					b.Error(err)
				}
				if err := m.Settle(ctx, id, 900); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds()), "p99-ns")
}

// Holds are counted by scope while they are open, and those that nobody ended for ever.
func TestHoldsAreCounted(t *testing.T) {
	m, err := ledger.NewMemory(ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, now := context.Background(), time.Now()
	chain := []ledger.AccountID{ledger.Account("key", "a", ledger.Total), ledger.Account("org", "b", ledger.Month)}
	for _, id := range chain {
		if err := m.SetLimit(ctx, id, ledger.Limit{Window: ledger.Total}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []ledger.HoldID{"ended", "forgotten", "open"} {
		expires := now.Add(time.Hour)
		if id == "forgotten" {
			expires = now
		}
		if err := m.Hold(ctx, id, chain, 5, expires); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Settle(ctx, "ended", 5); err != nil {
		t.Fatal(err)
	}
	if n, err := m.Expire(ctx, now.Add(time.Minute)); n != 1 || err != nil {
		t.Fatalf("%d expired, %v", n, err)
	}
	for _, scope := range []string{"key", "org"} {
		if got, want := m.Holds()[scope], (ledger.ScopeHolds{Open: 1, Leaked: 1}); got != want {
			t.Errorf("%s: %+v, want %+v", scope, got, want)
		}
	}
}
