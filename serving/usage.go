package serving

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// spending is the answer of GET /v1/usage: what the calling key has spent and may still spend.
type spending struct {
	KeyID string `json:"key_id"`
	Org   string `json:"org,omitempty"`
	Team  string `json:"team,omitempty"`
	// Spent and Held are the key's own, since its first request.
	Spent catalog.Nanodollars `json:"spent_usd"`
	Held  catalog.Nanodollars `json:"held_usd"`
	// Budgets are all that apply to the key, from its own up; Remaining is what the tightest still carries, null where
	// there is none.
	Budgets   []budgetState        `json:"budgets"`
	Remaining *catalog.Nanodollars `json:"remaining_usd"`
	Limits    rateLimits           `json:"limits"`
}

// budgetState is one budget as it is now. ResetsAt is null where its window never ends.
type budgetState struct {
	Scope     string              `json:"scope"`
	ScopeID   string              `json:"scope_id"`
	Window    string              `json:"window"`
	Limit     catalog.Nanodollars `json:"limit_usd"`
	Spent     catalog.Nanodollars `json:"spent_usd"`
	Held      catalog.Nanodollars `json:"held_usd"`
	Remaining catalog.Nanodollars `json:"remaining_usd"`
	ResetsAt  *time.Time          `json:"resets_at"`
}

// rateLimits are null where there is no limit.
type rateLimits struct {
	Requests   *int `json:"requests_per_minute"`
	Tokens     *int `json:"tokens_per_minute"`
	Concurrent *int `json:"concurrent"`
}

// usage shows a key its own numbers: no other key's, and of its team and organization only what bounds it.
func (g *Gateway) usage(c *gin.Context, p *governance.Principal) {
	own, err := g.o.Books.Balance(c.Request.Context(), ledger.Account("key", p.KeyID, ledger.Total))
	if err != nil {
		g.fail(c, storeError(err))
		return
	}
	s := spending{
		KeyID: p.KeyID, Org: p.Org, Team: p.Team, Spent: own.Settled, Held: own.Held, Budgets: []budgetState{},
		Limits: rateLimits{limit(p.Limits.RequestsPerMinute), limit(p.Limits.TokensPerMinute), limit(p.Limits.Concurrent)},
	}
	for _, b := range p.Budgets {
		balance, err := g.o.Books.Balance(c.Request.Context(), account(b))
		if err != nil {
			g.fail(c, storeError(err))
			return
		}
		state := budgetState{
			Scope: b.Scope, ScopeID: b.Owner, Window: b.Window, Limit: balance.Limit.Amount, Spent: balance.Settled, Held: balance.Held,
			Remaining: balance.Remaining(),
		}
		if !balance.ResetsAt.IsZero() {
			state.ResetsAt = &balance.ResetsAt
		}
		s.Budgets = append(s.Budgets, state)
		if s.Remaining == nil || state.Remaining < *s.Remaining {
			s.Remaining = &state.Remaining
		}
	}
	c.JSON(http.StatusOK, s)
}

func limit(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}
