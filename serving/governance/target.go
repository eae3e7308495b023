package governance

import (
	"errors"
	"fmt"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// TargetConfig is what a level asks of the router, one of the two.
type TargetConfig struct {
	// Quality is the share of the fallback's mean quality to keep. It takes the place of a strategy's own figure.
	Quality float64 `yaml:"quality" json:"quality,omitempty" nonzero:"" doc:"The share of the fallback's mean quality to keep, such as 0.97, in place of the strategy's own figure."`
	// Cost is what its requests may cost; it is paced, and no hard stop.
	Cost CostConfig `yaml:"cost_usd" json:"cost_usd,omitzero"`
}

// CostConfig is an amount of US dollars for a request on average, or for all requests of a day or a month.
type CostConfig struct {
	Amount float64 `yaml:"amount" json:"amount" nonzero:"" doc:"US dollars. The router keeps to it by choosing cheaper models; a budget_usd refuses what would go beyond."`
	Per    Per     `yaml:"per" json:"per" enum:"request,day,month"`
}

// Per is what the amount of a cost target is for.
type Per string

// What it may be for.
const (
	PerRequest Per = "request"
	PerDay     Per = "day"
	PerMonth   Per = "month"
)

// Target is a level's, with whose it is: scope "key", "team", "org" or "policy", or All.
type Target struct {
	Scope, Owner string
	Quality      float64
	// Amount is zero where it is no cost target.
	Amount catalog.Nanodollars
	Per    Per
}

// All is the scope and the owner of what everybody spends together.
const All = "all"

// Target checks the configuration of a level; the second result is false where it sets none.
func (c TargetConfig) Target(scope, owner string) (Target, bool, error) {
	t := Target{Scope: scope, Owner: owner, Quality: c.Quality, Per: c.Cost.Per}
	if c == (TargetConfig{}) {
		return t, false, nil
	}
	if c.Quality != 0 && c.Cost != (CostConfig{}) {
		return t, false, errors.New("target: it is of quality or of cost; the other belongs to another level")
	}
	if c.Quality != 0 {
		if !(c.Quality > 0 && c.Quality <= 1) {
			return t, false, fmt.Errorf("target: quality is %v, want a share of more than 0 and at most 1", c.Quality)
		}
		return t, true, nil
	}
	if p := c.Cost.Per; p != PerRequest && p != PerDay && p != PerMonth {
		return t, false, fmt.Errorf("target: cost_usd is per %q, want request, day or month", p)
	}
	amount, err := catalog.FromDollars(c.Cost.Amount)
	if err != nil || amount <= 0 {
		return t, false, fmt.Errorf("target: cost_usd has an amount of %v, want more than 0", c.Cost.Amount)
	}
	t.Amount = amount
	return t, true, nil
}

// aim gives every principal the cost targets of its chain, its own first. Those of quality stand in its levels.
func (a *Authenticator) aim(o Options) error {
	owned := map[string]Target{}
	keep := func(c TargetConfig, scope, owner, name string) error {
		t, set, err := c.Target(scope, owner)
		if err != nil {
			return fmt.Errorf("governance: %s %q: %w", scope, name, err)
		}
		if set && t.Amount > 0 {
			owned[scope+":"+owner] = t
		}
		return nil
	}
	for _, c := range o.Orgs {
		if err := keep(c.Target, "org", c.Name, c.Name); err != nil {
			return err
		}
	}
	for _, c := range o.Teams {
		if err := keep(c.Target, "team", TeamOwner(c.Org, c.Name), c.Name); err != nil {
			return err
		}
	}
	for i := range o.Keys {
		c := &o.Keys[i]
		digest, err := c.digest()
		if err == nil {
			err = keep(c.Target, "key", KeyID(digest), c.Name)
		}
		if err != nil {
			return err
		}
		p := &a.keys[digest].principal
		for _, level := range [...]string{"key:" + p.KeyID, "team:" + TeamOwner(c.Org, c.Team), "org:" + c.Org} {
			if t, ok := owned[level]; ok {
				p.Targets = append(p.Targets, t)
			}
		}
	}
	return nil
}
