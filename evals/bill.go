package evals

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Price is what a million tokens of an arm cost, in dollars.
type Price struct{ Input, Output float64 }

// Volume is a month's traffic: a number of tokens, of which a share are prompts.
type Volume struct {
	Tokens     float64 `json:"tokens"`
	InputShare float64 `json:"input_share"`
}

// volumeDefault is a billion tokens, a quarter of them prompts.
var volumeDefault = Volume{Tokens: 1e9, InputShare: 0.25}

// BillRow is what a month costs with one arm, or with a router at a certified target: dollars beside quality.
type BillRow struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// Target is the share of the best constant's score that the router was certified to keep; unknown for a constant.
	Target Num `json:"target"`
	// USD is the month's bill. A router's is that of its arms by their shares of the prompts.
	USD Num `json:"usd_a_month"`
	// Score is the mean score, Relative its ratio to the best constant's.
	Score    Num `json:"score"`
	Relative Num `json:"relative_score"`
}

// bill prices a month for every constant and, at the targets that were certified on most rows, every router judged. An arm
// without a price leaves what needs it unknown.
func (s *study) bill(r *Report) []BillRow {
	if s.o.Price == nil || len(r.Arms) == 0 {
		return nil
	}
	v := cmp.Or(s.o.Volume, volumeDefault)
	dollars := make([]float64, len(s.m.Arms))
	for j, arm := range s.m.Arms {
		dollars[j] = float64(nan())
		if p, ok := s.o.Price(arm); ok {
			dollars[j] = v.Tokens / 1e6 * (v.InputShare*p.Input + (1-v.InputShare)*p.Output)
		}
	}
	best := float64(r.Arms[0].Score)
	var out []BillRow
	for _, a := range r.Arms {
		usd := dollars[slices.Index(s.m.Arms, a.Arm)]
		out = append(out, BillRow{Name: string(a.Arm), Kind: KindConstant, Target: nan(), USD: Num(usd), Score: a.Score, Relative: Num(float64(a.Score) / best)})
	}
	rows := 0
	for _, g := range r.Guarantees {
		rows = max(rows, g.Rows)
	}
	for _, g := range r.Guarantees {
		if g.Rows != rows {
			continue
		}
		usd := 0.0
		for j, share := range g.Shares {
			if share.Share > 0 {
				usd += float64(share.Share) * dollars[j]
			}
		}
		out = append(out, BillRow{Name: g.Router, Kind: KindRouter, Target: g.Target, USD: Num(usd), Score: g.Score, Relative: Num(float64(g.Score) / best)})
	}
	return out
}

func (r *Report) billTable() section {
	v := cmp.Or(r.Header.Volume, volumeDefault)
	s := section{Title: "The bill", Lines: []string{fmt.Sprintf(
		"What a month of %s tokens costs, %s of them prompts, if all arms answer at equal length. target: the share of the best constant's score that the router was certified to keep; its dollars follow from the shares of its arms.",
		thousands(v.Tokens), percentOf(Num(v.InputShare)))}}
	g := grid{Left: 1, Head: []string{"what serves", "target", "USD a month", "score", "of the best"}}
	for _, b := range r.Bill {
		usd := unknown
		if b.USD.Known() {
			usd = thousands(float64(b.USD))
		}
		g.Rows = append(g.Rows, []string{b.Name, percentOf(b.Target), usd, decimal(b.Score), percentOf(b.Relative)})
	}
	s.Tables = []grid{g}
	return s
}

// thousands groups the digits of a whole number.
func thousands(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// PriceOf is the price of an arm in a catalog, at its first step.
func PriceOf(c *catalog.Catalog, arm catalog.ArmID) (Price, bool) {
	a, ok := c.Lookup(arm)
	if !ok || !a.Prices.Known {
		return Price{}, false
	}
	const perMillion = 1e-6 // picodollars a token are microdollars a million
	return Price{Input: float64(a.Prices.Input) * perMillion, Output: float64(a.Prices.Output) * perMillion}, true
}
