package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/trainer"
)

// tierFlags name the tiers of arms.
type tierFlags struct {
	Tiers map[string]string `help:"Tiers of arms by globs: small, medium, large, frontier, or price for the one that their price implies. train then learns what to expect of an arm of each tier, for arms that nobody has scored." placeholder:"GLOB=TIER;..."`
}

// byPrice stands for the tier that a price implies.
const byPrice = "price"

// of is the tier of every arm of a table: that of the longest glob that matches, else that of its implied price.
func (f *tierFlags) of(t *datasets.Table) (func(catalog.ArmID) catalog.Tier, error) {
	globs := slices.SortedFunc(maps.Keys(f.Tiers), func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	for _, g := range globs {
		if _, err := path.Match(g, ""); err != nil {
			return nil, fmt.Errorf("--tiers: glob %q: %w", g, err)
		}
		if tier := f.Tiers[g]; tier != byPrice && !slices.Contains(catalog.Tiers(), catalog.Tier(tier)) {
			return nil, fmt.Errorf("--tiers: %q is none of small, medium, large, frontier, price", tier)
		}
	}
	_, output := trainer.ImpliedPrices(t)
	return func(a catalog.ArmID) catalog.Tier {
		for _, g := range globs {
			if ok, _ := path.Match(g, string(a)); ok && f.Tiers[g] != byPrice {
				return catalog.Tier(f.Tiers[g])
			} else if ok {
				break
			}
		}
		j := slices.Index(t.Arms, a)
		if output[j] != output[j] {
			return catalog.TierUnknown
		}
		price, err := catalog.PerMillion(math.Round(100*output[j]) / 100) // a price list has cents
		if err != nil {
			return catalog.TierUnknown
		}
		return catalog.DefaultTier(&catalog.Prices{Known: true, Rates: catalog.Rates{Output: price}})
	}, nil
}
