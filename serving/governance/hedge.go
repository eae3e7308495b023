package governance

import (
	"fmt"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// HedgeConfig lets a key's requests ask for a second call beside one that is slow to begin. What is not set has the default
// named with it.
type HedgeConfig struct {
	AfterMS    float64  `yaml:"after_ms" json:"after_ms,omitempty" nonzero:"" doc:"How long the first call is waited for; without it, longer than 95 % of the calls of its model take."`
	MaxShare   *float64 `yaml:"max_share" json:"max_share,omitempty" nonzero:"" doc:"The most that may be hedged of the requests that ask for it, 0 to 1; 0.05 by default."`
	MaxCostUSD float64  `yaml:"max_cost_usd" json:"max_cost_usd,omitempty" nonzero:"" doc:"The most that a second call may cost."`
}

const (
	// hedgeShare is the share of hedges where none is configured.
	hedgeShare = 0.05
	// hedgeAfterMaxMS is the longest that a first call may be waited for: no request lives longer.
	hedgeAfterMaxMS = 10 * 60 * 1000
)

// Hedge is leave for a second call beside one that is slow to begin.
type Hedge struct {
	// After is how long the first is waited for; 0 is what 95 % of the calls at its arm take.
	After time.Duration
	// MaxShare is the most that may be hedged of the requests that ask for it.
	MaxShare float64
	// MaxCost is the most that a second call may cost; 0 is no cap of its own.
	MaxCost catalog.Nanodollars
}

// hedge is nil where the key may not hedge.
func (c *HedgeConfig) hedge() (*Hedge, error) {
	if c == nil {
		return nil, nil
	}
	h := &Hedge{After: time.Duration(c.AfterMS * float64(time.Millisecond)), MaxShare: hedgeShare}
	if c.MaxShare != nil {
		h.MaxShare = *c.MaxShare
	}
	var err error
	h.MaxCost, err = catalog.FromDollars(c.MaxCostUSD)
	switch {
	case err != nil || h.MaxCost < 0:
		return nil, fmt.Errorf("hedge.max_cost_usd is %v, which is out of range", c.MaxCostUSD)
	case !(h.MaxShare > 0 && h.MaxShare <= 1):
		return nil, fmt.Errorf("hedge.max_share is %v, want more than 0 and at most 1", h.MaxShare)
	case !(c.AfterMS >= 0 && c.AfterMS <= hedgeAfterMaxMS):
		return nil, fmt.Errorf("hedge.after_ms is %v, want more than 0 and at most %d", c.AfterMS, hedgeAfterMaxMS)
	}
	return h, nil
}
