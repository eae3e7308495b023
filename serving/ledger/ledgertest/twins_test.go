package ledgertest

import (
	"context"
	"flag"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// A suite that nothing fails proves nothing. Each twin is the memory ledger with one of the mistakes that other
// gateways shipped, and the named check must catch it.
func TestSuiteCatchesBrokenTwins(t *testing.T) {
	// Many cases, because a twin may be right in most; the first in which it is not ends them.
	for name, value := range map[string]string{"rapid.checks": "1000", "rapid.nofailfile": "true", "rapid.shrinktime": "1ms"} {
		old := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		defer flag.Set(name, old)
	}
	for _, twin := range []struct {
		name   string
		wrap   func(Ledger) Ledger
		caught string
	}{
		{"checks, then acts", func(l Ledger) Ledger { return &checkThenAct{Ledger: l} }, "Parallel"},
		{"checks, then acts, over chains", func(l Ledger) Ledger { return &checkThenAct{Ledger: l} }, "ParallelChains"},
		{"holds account by account", func(l Ledger) Ledger { return &piecemeal{l} }, "Sequences"},
		{"refuses at the cap", func(l Ledger) Ledger { return &stingy{l} }, "Sequences"},
		{"releases what expires", func(l Ledger) Ledger { return &forgetful{Ledger: l} }, "Windows"},
		{"settles at most the hold", func(l Ledger) Ledger { return &generous{Ledger: l} }, "Edges"},
		{"releases what it should settle", func(l Ledger) Ledger { return &unbilled{l} }, "ParallelChains"},
	} {
		t.Run(twin.name, func(t *testing.T) {
			for _, c := range checks() {
				if c.name != twin.caught {
					continue
				}
				if !failed(func(tb rapid.TB) {
					c.run(tb, func(tb rapid.TB, now func() time.Time) Ledger { return twin.wrap(openMemory(tb, now)) })
				}) {
					t.Errorf("check %s let the twin through", c.name)
				}
			}
		})
	}
}

func openMemory(t rapid.TB, now func() time.Time) Ledger {
	m, err := ledger.NewMemory(ledger.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// recorder is a test that may fail without anyone minding.
type recorder struct {
	testing.TB
	mu  sync.Mutex
	bad bool
}

func failed(run func(rapid.TB)) bool {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(r)
	}()
	<-done
	return r.Failed()
}

func (r *recorder) Fail() { r.mu.Lock(); r.bad = true; r.mu.Unlock() }
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bad
}
func (r *recorder) FailNow()              { r.Fail(); runtime.Goexit() }
func (r *recorder) Helper()               {}
func (r *recorder) Name() string          { return "twin" }
func (r *recorder) Log(...any)            {}
func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Error(...any)          { r.Fail() }
func (r *recorder) Errorf(string, ...any) { r.Fail() }
func (r *recorder) Fatal(...any)          { r.FailNow() }
func (r *recorder) Fatalf(string, ...any) { r.FailNow() }

// checkThenAct asks for the balance and then holds without a cap in the way.
type checkThenAct struct {
	Ledger
	limits sync.Map
}

func (c *checkThenAct) SetLimit(ctx context.Context, id ledger.AccountID, l ledger.Limit) error {
	c.limits.Store(id, l)
	return c.Ledger.SetLimit(ctx, id, ledger.Limit{Window: l.Window})
}

func (c *checkThenAct) Hold(ctx context.Context, id ledger.HoldID, chain []ledger.AccountID, amount catalog.Nanodollars, expires time.Time) error {
	for _, account := range chain {
		limit, _ := c.limits.Load(account)
		b, err := c.Balance(ctx, account)
		if err != nil {
			return err
		}
		if l := limit.(ledger.Limit); l.Set && b.Settled+b.Held+amount > l.Amount {
			return &ledger.InsufficientError{AccountID: account}
		}
	}
	time.Sleep(time.Millisecond)
	return c.Ledger.Hold(ctx, id, chain, amount, expires)
}

// piecemeal holds on one account after the other and forgets the first ones when a later one refuses.
type piecemeal struct{ Ledger }

func (p *piecemeal) Hold(ctx context.Context, id ledger.HoldID, chain []ledger.AccountID, amount catalog.Nanodollars, expires time.Time) error {
	for _, account := range chain {
		if err := p.Ledger.Hold(ctx, id+ledger.HoldID(account), []ledger.AccountID{account}, amount, expires); err != nil {
			return err
		}
	}
	return nil
}

// stingy refuses a hold that would use the last of a budget.
type stingy struct{ Ledger }

func (s *stingy) Hold(ctx context.Context, id ledger.HoldID, chain []ledger.AccountID, amount catalog.Nanodollars, expires time.Time) error {
	for _, account := range chain {
		if b, err := s.Balance(ctx, account); err == nil && amount > 0 && amount == b.Remaining() {
			return &ledger.InsufficientError{AccountID: account, Needed: amount}
		}
	}
	return s.Ledger.Hold(ctx, id, chain, amount, expires)
}

// forgetful frees expired holds although the vendor may have billed them.
type forgetful struct {
	Ledger
	last ledger.HoldID
}

func (f *forgetful) Hold(ctx context.Context, id ledger.HoldID, chain []ledger.AccountID, amount catalog.Nanodollars, expires time.Time) error {
	f.last = id
	return f.Ledger.Hold(ctx, id, chain, amount, expires)
}

func (f *forgetful) Expire(ctx context.Context, _ time.Time) (int, error) {
	return 1, f.Release(ctx, f.last)
}

// generous never books more than was held.
type generous struct {
	Ledger
	amounts sync.Map
}

func (g *generous) Hold(ctx context.Context, id ledger.HoldID, chain []ledger.AccountID, amount catalog.Nanodollars, expires time.Time) error {
	g.amounts.Store(id, amount)
	return g.Ledger.Hold(ctx, id, chain, amount, expires)
}

func (g *generous) Settle(ctx context.Context, id ledger.HoldID, actual catalog.Nanodollars) error {
	if held, found := g.amounts.Load(id); found {
		actual = min(actual, held.(catalog.Nanodollars))
	}
	return g.Ledger.Settle(ctx, id, actual)
}

// unbilled releases where it should settle.
type unbilled struct{ Ledger }

func (u *unbilled) Settle(ctx context.Context, id ledger.HoldID, _ catalog.Nanodollars) error {
	return u.Release(ctx, id)
}
