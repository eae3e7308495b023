package serving

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file is the leave for a hedge: a second call beside a first one that is slow to begin. A request asks for it, its key
// must allow it (else it is refused, as every constraint is that cannot be kept), and each single call is made only within
// the key's share, its cap, the request's cap and the budgets. Without leave for the call the request goes on without it.

// hedgesSavedMax is how many hedges a key may save up, so that a quiet hour does not end in a burst.
const hedgesSavedMax = 10

// hedgeShares is what the requests of each key have earned in hedges, in millionths. Keys come from the configuration.
type hedgeShares struct{ keys sync.Map }

func (s *hedgeShares) of(key string) *atomic.Int64 {
	if n, ok := s.keys.Load(key); ok {
		return n.(*atomic.Int64)
	}
	n, _ := s.keys.LoadOrStore(key, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// earn counts a request that asks for a hedge.
func (s *hedgeShares) earn(key string, share float64) {
	if n := s.of(key); n.Load() < hedgesSavedMax*1e6 {
		n.Add(int64(share * 1e6))
	}
}

// take spends one hedge, if that much was earned.
func (s *hedgeShares) take(key string) bool {
	n := s.of(key)
	for {
		v := n.Load()
		if v < 1e6 {
			return false
		}
		if n.CompareAndSwap(v, v-1e6) {
			return true
		}
	}
}

// hedge is the leave for the round, nil where it does not ask for one.
func (r *round) hedge() *upstream.Hedge {
	h := r.principal.Hedge
	if h == nil || r.wire.Tradewind.Hedge != openai.Yes {
		return nil
	}
	r.g.hedges.earn(r.principal.KeyID, h.MaxShare)
	return &upstream.Hedge{After: h.After, Leave: r.mayHedge}
}

// mayHedge decides on one second call, and holds what the two can cost together before it is made.
func (r *round) mayHedge(first, second *catalog.Arm) bool {
	h, limit := r.principal.Hedge, r.decision.Case.MaxCostUSD
	one, err := r.upper(first)
	other, err2 := r.upper(second)
	both := one + other
	switch {
	case err != nil, err2 != nil, both < one:
		return false
	case h.MaxCost > 0 && (!second.Prices.Known || other > h.MaxCost):
		return false
	case limit > 0 && (!first.Prices.Known || !second.Prices.Known || both.Dollars() > limit):
		return false
	case !r.g.hedges.take(r.principal.KeyID):
		return false
	}
	return r.hedgeHold(both - r.holds[0].amount)
}

// hedgeHold holds what the round's hold lacks of both calls.
func (r *round) hedgeHold(lacking catalog.Nanodollars) bool {
	r.hedged = true
	if lacking <= 0 {
		return true
	}
	if r.addHold(ledger.HoldID(fmt.Sprintf("%s/%d", r.id, len(r.holds)+1)), lacking) != nil {
		return false
	}
	r.decision.Hold += lacking
	return r.journalHold() == nil
}

// countHedge counts how a hedge ended: it answered, the first call did or neither, or the client left.
func (r *round) countHedge(a *upstream.Attempt, answered, gone bool) {
	result := telemetry.HedgeLost
	switch {
	case answered:
		result = telemetry.HedgeWon
	case gone:
		result = telemetry.HedgeCancelled
	}
	r.g.o.Metrics.Hedged(a.Arm.Provider(), result)
}
