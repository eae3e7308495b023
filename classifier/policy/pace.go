package policy

import (
	"cmp"
	"slices"
)

// CostPoint is what a prompt is forecast to cost on average when a dollar has the price Lambda.
type CostPoint struct {
	Lambda  float64 `json:"lambda"`
	CostUSD float64 `json:"cost_usd"`
}

// PaceReserve is the share of a budget that a pacer does not plan to spend: about what one long answer of a dear arm can
// cost at the end of a window, when nothing follows that could make up for it.
const PaceReserve = 0.02

// Pacer keeps a window of requests to a budget. Before each request it asks what is left for each of those that are still
// to come, and sets the price of a dollar to that at which a prompt is forecast to cost as much: dearer as money runs
// ahead of plan, cheaper again as it falls behind. So an error of the forecast is corrected by the requests that follow it
// within the window, and only that of the last few is left, for which PaceReserve is kept back. It is no hard stop: that
// is the ledger.
type Pacer struct {
	// Curve holds rising Lambdas with falling costs. It is made of forecasts, at the prices of the day.
	Curve []CostPoint
	// BudgetUSD is for Requests requests.
	BudgetUSD float64
	Requests  int
}

// Lambda is the price of a dollar for the next request, after done requests that cost spent dollars. Between two points of
// the curve it is the dearer one's: a little money is left rather than a little missing. Where nothing is left, or more
// was served than planned, it is the highest price there is.
func (p *Pacer) Lambda(spent float64, done int) float64 {
	if len(p.Curve) == 0 {
		return 0
	}
	last := p.Curve[len(p.Curve)-1].Lambda
	if done >= p.Requests {
		return last
	}
	share := ((1-PaceReserve)*p.BudgetUSD - spent) / float64(p.Requests-done)
	k, _ := slices.BinarySearchFunc(p.Curve, share, func(c CostPoint, share float64) int { return cmp.Compare(share, c.CostUSD) })
	if k == len(p.Curve) {
		return last
	}
	return p.Curve[k].Lambda
}
