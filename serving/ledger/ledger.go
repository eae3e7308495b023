// Package ledger keeps the money: budgets, what is spent and what is held, in two phases. A request holds the most it
// can cost on every account it touches before it is dispatched, and settles what it did cost after.
//
// It knows accounts and amounts. What a call may cost is the catalog's affair, who asks is governance's, and the log
// of rounds is the journal's. DESIGN.md argues why a budget is held and never checked.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// HoldID names a hold. It is the RoundID of the request; further holds of one round add a suffix of their own.
type HoldID string

// Window is the time after which an account's spending starts again at zero. Windows begin at midnight UTC, weeks on
// Monday.
type Window string

// The windows. Total never ends, and an account without a window never ends either.
const (
	Day   Window = "day"
	Week  Window = "week"
	Month Window = "month"
	Total Window = "total"
)

// Bounds returns the start of the window that holds t, and its end; both are zero for a window that never ends.
func (w Window) Bounds(t time.Time) (start, end time.Time) {
	y, m, d := t.UTC().Date()
	switch w {
	case Day:
		start = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 0, 1)
	case Week:
		sinceMonday := (int(t.UTC().Weekday()) + 6) % 7
		start = time.Date(y, m, d-sinceMonday, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 0, 7)
	case Month:
		start = time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 1, 0)
	}
	return time.Time{}, time.Time{}
}

// Valid reports whether w is one of the windows.
func (w Window) Valid() bool { return w == Day || w == Week || w == Month || w == Total }

// AccountID names an account: "scope:owner@window", such as "key:1f2e3d4c@month". One owner has an account for each
// window in which it is limited, and a hold takes all of them.
type AccountID string

// Account builds the id of an owner's account.
func Account(scope, owner string, w Window) AccountID {
	return AccountID(scope + ":" + owner + "@" + string(w))
}

// Scope returns the kind of owner: "org", "team", "key", "user", "session", "pool" or "provider".
func (a AccountID) Scope() string {
	scope, _, _ := strings.Cut(string(a), ":")
	return scope
}

// Owner returns whose account it is.
func (a AccountID) Owner() string {
	_, owner, _ := strings.Cut(string(a), ":")
	if i := strings.LastIndexByte(owner, '@'); i >= 0 {
		owner = owner[:i]
	}
	return owner
}

// Limit is an account's cap. The zero Limit is none: spending is counted and never refused.
type Limit struct {
	// Set tells a cap of zero, which refuses everything that costs, from no cap.
	Set    bool
	Amount catalog.Nanodollars
	Window Window
}

// Validate reports a negative amount or an unknown window.
func (l Limit) Validate() error {
	if l.Amount < 0 {
		return fmt.Errorf("ledger: limit of %s USD is negative", l.Amount)
	}
	if l.Window != "" && !l.Window.Valid() {
		return fmt.Errorf("ledger: window %q is none of day, week, month, total", l.Window)
	}
	return nil
}

// Balance is an account at one moment. Settled and Excess belong to the window that runs; Held does not end with it,
// because an open hold may still become spending.
type Balance struct {
	Limit   Limit
	Settled catalog.Nanodollars
	Held    catalog.Nanodollars
	// Excess is the part of Settled that went beyond its hold: the only way past a cap, and zero where holds are bounds.
	Excess catalog.Nanodollars
	// ResetsAt is the end of the window; zero where it never ends.
	ResetsAt time.Time
}

// Remaining is what a hold may still take, never below zero. It is the largest amount where there is no cap.
func (b Balance) Remaining() catalog.Nanodollars {
	if !b.Limit.Set {
		return math.MaxInt64
	}
	return max(0, b.Limit.Amount-b.Settled-b.Held)
}

// The errors a caller branches on. ErrNoHold says that there is no such open hold: it never was, or it was settled,
// released or expired before; nothing has been changed. ErrDuplicate says that the id was used before. ErrFull says
// that a limit on the ledger's own size is reached, which is overload and not a lack of money. ErrNoAccount says that
// nobody opened an account of the chain: a limit that was lost on its way here must not become no limit.
var (
	ErrNoHold    = errors.New("ledger: no such open hold")
	ErrNoAccount = errors.New("ledger: no such account")
	ErrDuplicate = errors.New("ledger: hold id was used before")
	ErrFull      = errors.New("ledger: too many accounts or open holds")
	ErrInvalid   = errors.New("ledger: invalid amount, id or chain")
)

// InsufficientError refuses a hold. It names the first account of the chain that cannot carry it, with all numbers:
// Spent + Held + Needed is more than Limit.
type InsufficientError struct {
	Scope     string
	AccountID AccountID
	Limit     catalog.Nanodollars
	Spent     catalog.Nanodollars
	Held      catalog.Nanodollars
	Needed    catalog.Nanodollars
	ResetsAt  time.Time
}

// Error tells all four numbers.
func (e *InsufficientError) Error() string {
	return fmt.Sprintf("ledger: budget of %s: %s USD needed, %s spent and %s held of %s",
		e.AccountID, e.Needed, e.Spent, e.Held, e.Limit)
}

// Store keeps balances. Every method is atomic across all replicas.
type Store interface {
	// Hold sets amount aside on the whole chain of accounts (session, user, key, team, pool, org, provider) or on none of
	// them. It refuses with an *InsufficientError exactly where settled + held + amount would pass a cap. Every account
	// must have been opened with SetLimit; a chain may be empty.
	Hold(ctx context.Context, id HoldID, chain []AccountID, amount catalog.Nanodollars, expires time.Time) error
	// Settle ends a hold and books what the call did cost. More than was held is booked too: the money is spent.
	Settle(ctx context.Context, id HoldID, actual catalog.Nanodollars) error
	// Release ends a hold of a call that cost nothing.
	Release(ctx context.Context, id HoldID) error
}

// Books is the other side of a store: limits go in, balances come out, and forgotten holds end.
type Books interface {
	// SetLimit opens an account and caps it. It takes effect with the next hold; a changed window starts with nothing
	// settled.
	SetLimit(ctx context.Context, id AccountID, l Limit) error
	// Balance returns an account as it is now, or ErrNoAccount.
	Balance(ctx context.Context, id AccountID) (Balance, error)
	// Expire settles every hold that has expired by now at its amount, because the vendor may have billed it, and says
	// how many there were.
	Expire(ctx context.Context, now time.Time) (int, error)
}
