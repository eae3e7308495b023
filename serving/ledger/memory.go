package ledger

import (
	"container/heap"
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Sizes that nothing outside needs to choose.
const (
	// ChainMax is the longest chain: seven levels, each with up to two windows.
	ChainMax = 16
	// expireBatch is how many holds Expire ends before it lets others have the lock.
	expireBatch = 64
)

// Options of a Memory ledger. The zero value works.
type Options struct {
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// HoldsMax bounds the open holds and AccountsMax the accounts; 0 is 100,000 each.
	HoldsMax    int
	AccountsMax int
	// ClosedMax is how many ids of ended holds are remembered, so that a repeated message is not charged again; 0 is 16,384.
	ClosedMax int
	// Opening is what accounts have settled before this process began. It is booked where they are opened.
	Opening Sums
}

// Validate reports a negative limit.
func (o Options) Validate() error {
	if o.HoldsMax < 0 || o.AccountsMax < 0 || o.ClosedMax < 0 {
		return fmt.Errorf("ledger: a limit in %+v is negative", struct{ HoldsMax, AccountsMax, ClosedMax int }{o.HoldsMax, o.AccountsMax, o.ClosedMax})
	}
	return nil
}

// Memory is the ledger of one node. All balances live behind one short lock: a hold looks up its accounts and adds
// some integers, which is less work than any finer locking would cost.
type Memory struct {
	now         func() time.Time
	opening     Sums
	holdsMax    int
	accountsMax int

	mu       sync.Mutex
	accounts map[AccountID]*account
	holds    map[HoldID]*hold
	expiring expiryHeap
	closed   closedRing
	free     *hold
	scopes   map[string]*ScopeHolds
}

// ScopeHolds counts the holds on accounts of one scope.
type ScopeHolds struct {
	Open int
	// Leaked have expired since the start.
	Leaked int
}

// account is one account's books. Its window only ever moves forward, so a clock that steps back resets nothing twice.
type account struct {
	id       AccountID
	limit    Limit
	settled  catalog.Nanodollars
	held     catalog.Nanodollars
	excess   catalog.Nanodollars
	resetsAt time.Time
	// holds counts those of all accounts of the scope.
	holds *ScopeHolds
}

type hold struct {
	id      HoldID
	amount  catalog.Nanodollars
	expires time.Time
	chain   [ChainMax]*account
	n       int
	// index is the hold's place in the heap, next the free list.
	index int
	next  *hold
}

// NewMemory makes an empty ledger.
func NewMemory(o Options) (*Memory, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	m := &Memory{
		now: o.Now, opening: o.Opening, holdsMax: or(o.HoldsMax, 100_000), accountsMax: or(o.AccountsMax, 100_000),
		accounts: make(map[AccountID]*account), holds: make(map[HoldID]*hold), scopes: make(map[string]*ScopeHolds),
		closed: closedRing{max: or(o.ClosedMax, 16_384), ids: make(map[HoldID]struct{})},
	}
	if m.now == nil {
		m.now = time.Now
	}
	return m, nil
}

func or(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Hold implements Store.
func (m *Memory) Hold(ctx context.Context, id HoldID, chain []AccountID, amount catalog.Nanodollars, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ledger: hold %s: %w", id, err)
	}
	if id == "" || amount < 0 || len(chain) > ChainMax {
		return fmt.Errorf("ledger: hold %q of %s USD on %d accounts: %w", id, amount, len(chain), ErrInvalid)
	}
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holds[id] != nil || m.closed.has(id) {
		return fmt.Errorf("ledger: hold %s: %w", id, ErrDuplicate)
	}
	if len(m.holds) >= m.holdsMax {
		return fmt.Errorf("ledger: hold %s: %w", id, ErrFull)
	}
	h := m.take()
	if err := m.gather(h, chain, amount, now); err != nil {
		m.put(h)
		return fmt.Errorf("ledger: hold %s: %w", id, err)
	}
	for _, a := range h.chain[:h.n] {
		a.held += amount
		a.holds.Open++
	}
	h.id, h.amount, h.expires = id, amount, expires
	m.holds[id] = h
	heap.Push(&m.expiring, h)
	return nil
}

// gather fills h's chain and says whether every account can carry amount. It changes no balance.
func (m *Memory) gather(h *hold, chain []AccountID, amount catalog.Nanodollars, now time.Time) error {
	for i, id := range chain {
		for _, other := range chain[:i] {
			if id == other {
				return fmt.Errorf("account %s stands twice in the chain: %w", id, ErrInvalid)
			}
		}
		a := m.accounts[id]
		if a == nil {
			return fmt.Errorf("account %s: %w", id, ErrNoAccount)
		}
		a.roll(now)
		if amount > math.MaxInt64-a.held-a.settled {
			return fmt.Errorf("account %s: %w", id, catalog.ErrOverflow)
		}
		if a.limit.Set && a.settled+a.held+amount > a.limit.Amount {
			return &InsufficientError{
				Scope: id.Scope(), AccountID: id, Limit: a.limit.Amount,
				Spent: a.settled, Held: a.held, Needed: amount, ResetsAt: a.resetsAt,
			}
		}
		h.chain[i], h.n = a, i+1
	}
	return nil
}

// roll starts the account's next window where now lies beyond the one that runs.
func (a *account) roll(now time.Time) {
	if a.resetsAt.IsZero() || now.Before(a.resetsAt) {
		return
	}
	_, a.resetsAt = a.limit.Window.Bounds(now)
	a.settled, a.excess = 0, 0
}

// Settle implements Store.
func (m *Memory) Settle(_ context.Context, id HoldID, actual catalog.Nanodollars) error {
	if actual < 0 {
		return fmt.Errorf("ledger: settle %s at %s USD: %w", id, actual, ErrInvalid)
	}
	return m.end("settle", id, actual)
}

// Release implements Store.
func (m *Memory) Release(_ context.Context, id HoldID) error { return m.end("release", id, 0) }

// end closes an open hold at an amount. It takes no context: money that is spent is booked, whoever has left.
func (m *Memory) end(verb string, id HoldID, actual catalog.Nanodollars) error {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.holds[id]
	if h == nil {
		return fmt.Errorf("ledger: %s %s: %w", verb, id, ErrNoHold)
	}
	m.close(h, actual, now)
	return nil
}

func (m *Memory) close(h *hold, actual catalog.Nanodollars, now time.Time) {
	for _, a := range h.chain[:h.n] {
		a.roll(now)
		a.held -= h.amount
		a.holds.Open--
		// A sum that does not fit stays at the largest amount: the account is shut, and nothing wraps around.
		a.settled += min(actual, math.MaxInt64-a.settled-a.held)
		a.excess += min(max(0, actual-h.amount), math.MaxInt64-a.excess)
	}
	delete(m.holds, h.id)
	heap.Remove(&m.expiring, h.index)
	m.closed.add(h.id)
	m.put(h)
}

// SetLimit implements Books.
func (m *Memory) SetLimit(_ context.Context, id AccountID, l Limit) error {
	if err := l.Validate(); err != nil {
		return err
	}
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[id]
	fresh := a == nil
	if fresh {
		if id == "" {
			return fmt.Errorf("ledger: limiting an account without a name: %w", ErrInvalid)
		}
		if len(m.accounts) >= m.accountsMax {
			return fmt.Errorf("ledger: limiting %s: %w", id, ErrFull)
		}
		a = &account{id: id, holds: m.scope(id.Scope())}
		m.accounts[id] = a
	}
	a.roll(now)
	if l.Window != a.limit.Window {
		a.settled, a.excess = 0, 0
		_, a.resetsAt = l.Window.Bounds(now)
	}
	a.limit = l
	if sum := m.opening.Of(id); fresh && !sum.Until.Before(a.resetsAt) { // else it was settled in a window that is over
		a.settled, a.resetsAt = sum.Settled, sum.Until
	}
	return nil
}

// Balance implements Books.
func (m *Memory) Balance(_ context.Context, id AccountID) (Balance, error) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[id]
	if a == nil {
		return Balance{}, fmt.Errorf("ledger: balance of %s: %w", id, ErrNoAccount)
	}
	a.roll(now)
	return Balance{Limit: a.limit, Settled: a.settled, Held: a.held, Excess: a.excess, ResetsAt: a.resetsAt}, nil
}

// Expire implements Books.
func (m *Memory) Expire(ctx context.Context, now time.Time) (int, error) {
	total := 0
	for {
		if err := ctx.Err(); err != nil {
			return total, fmt.Errorf("ledger: expiring holds: %w", err)
		}
		n := m.expireSome(now)
		total += n
		if n < expireBatch {
			return total, nil
		}
	}
}

func (m *Memory) expireSome(now time.Time) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n := range expireBatch {
		if len(m.expiring) == 0 || m.expiring[0].expires.After(now) {
			return n
		}
		h := m.expiring[0]
		for _, a := range h.chain[:h.n] {
			a.holds.Leaked++
		}
		m.close(h, h.amount, now)
	}
	return expireBatch
}

// scope finds the count of a scope; there are seven.
func (m *Memory) scope(name string) *ScopeHolds {
	if m.scopes[name] == nil {
		m.scopes[name] = &ScopeHolds{}
	}
	return m.scopes[name]
}

// Holds counts the holds on each scope, for the metrics.
func (m *Memory) Holds() map[string]ScopeHolds {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string]ScopeHolds, len(m.scopes))
	for scope, n := range m.scopes {
		all[scope] = *n
	}
	return all
}

// Open counts the open holds on each scope.
func (m *Memory) Open() map[string]int {
	open := make(map[string]int)
	for scope, n := range m.Holds() {
		open[scope] = n.Open
	}
	return open
}
