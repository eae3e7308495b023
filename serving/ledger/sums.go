package ledger

import (
	"iter"
	"maps"
	"math"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Sum is what one account has settled in one window.
type Sum struct {
	Settled catalog.Nanodollars `json:"settled_usd"`
	// Until is the end of the window; zero where it never ends.
	Until time.Time `json:"until,omitzero"`
}

// Sums is what every account has settled, added up from the log of rounds. The zero value is an empty one. It knows no
// limits: every owner is counted in every window, so that a budget that is configured tomorrow starts with what was
// spent today. It grows with the owners that were ever configured and not with time.
type Sums struct {
	accounts map[AccountID]Sum
}

// Settle books what a round of an owner did cost at its end. Windows only move forward, as those of Memory do: an amount
// from before the window that runs is counted in the one that runs.
func (s *Sums) Settle(scope, owner string, at time.Time, amount catalog.Nanodollars) {
	if s.accounts == nil {
		s.accounts = map[AccountID]Sum{}
	}
	for _, w := range [...]Window{Day, Week, Month, Total} {
		id := Account(scope, owner, w)
		sum := s.accounts[id]
		if _, until := w.Bounds(at); until.After(sum.Until) {
			sum = Sum{Until: until}
		}
		sum.Settled += min(max(0, amount), math.MaxInt64-sum.Settled) // as in Memory: a full account is shut
		s.accounts[id] = sum
	}
}

// Of returns what an account has settled in the window of its last settlement.
func (s *Sums) Of(id AccountID) Sum { return s.accounts[id] }

// In returns what an account has settled in the window that runs at an instant.
func (s *Sums) In(id AccountID, at time.Time) catalog.Nanodollars {
	sum := s.accounts[id]
	if !sum.Until.IsZero() && !at.Before(sum.Until) {
		return 0
	}
	return sum.Settled
}

// All are the accounts that were ever booked, in no order.
func (s *Sums) All() iter.Seq2[AccountID, Sum] { return maps.All(s.accounts) }

// Clone returns a copy that can be changed by itself.
func (s *Sums) Clone() Sums { return Sums{maps.Clone(s.accounts)} }
