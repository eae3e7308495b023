package policy

// CostPoint is what a prompt is forecast to cost when a dollar has the price Lambda: the mean over prompts and the standard
// deviation.
type CostPoint struct {
	Lambda    float64 `json:"lambda"`
	CostUSD   float64 `json:"cost_usd"`
	SpreadUSD float64 `json:"spread_usd"`
}

// What a pacer keeps back at the end of a window, when nothing follows that could make up for an answer that cost more than
// forecast.
const (
	// PaceReserve is the share of a budget that covers what forecasts do not see.
	PaceReserve = 0.02
	// PaceSpreads is how many standard deviations of one prompt's cost are kept back beside it: some answers of a dear arm.
	// Where a budget is near the cost of the cheapest arm these are a large part of it, and elsewhere a small one.
	PaceSpreads = 12
)

// Pacer keeps a window of requests to a budget. Before each request it asks what is left for those that are still to come,
// and sets the price of a dollar to that at which they are forecast to cost as much: dearer as money runs ahead of plan,
// cheaper again as it falls behind. So an error of the forecast is corrected by the requests that follow it within the
// window, and only that of the last few is left, for which there is a reserve. It is no hard stop: that is the ledger.
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
	if left, open := (1-PaceReserve)*p.BudgetUSD-spent, p.Requests-done; open > 0 {
		for _, c := range p.Curve {
			if float64(open)*c.CostUSD+PaceSpreads*c.SpreadUSD <= left {
				return c.Lambda
			}
		}
	}
	return p.Curve[len(p.Curve)-1].Lambda
}

// Pace is what the cost target of one level asks of a round.
type Pace struct {
	// Level is whose target it is, "key", "team", "org" or "all".
	Level string `json:"level"`
	// Lambda is the price of a dollar at which its money lasts.
	Lambda float64 `json:"lambda"`
	// Pressure is the share of all that could be saved which that price saves, 0 to 1.
	Pressure float64 `json:"pressure"`
}

// Hurry raises the price of a dollar to what the case's paces ask, and reports whether that is more than its own. A price
// beyond a strategy's is not what anybody certified, and a guard would hold back the arms that are to save the money. Where
// latency comes first a price decides nothing.
func (c *Case) Hurry() bool {
	most := 0.0
	for _, p := range c.Paces {
		most = max(most, p.Lambda)
	}
	if !(most > c.Lambda) || c.LatencyFirst {
		return false
	}
	c.Lambda, c.Guard.On = most, false
	return true
}

// Spending fills costs with what the choice of the case is forecast to cost if a dollar had at least each of the prices, in
// dollars, exploration included. The case is one that Constrain has seen; lambda and guard are what its strategy asks
// before any pace. scratch keeps memory between calls.
func Spending(costs []float64, c *Case, lambda float64, guard Guard, lambdas []float64, scratch *Case) {
	candidates := append(scratch.Candidates[:0], c.Candidates...)
	*scratch = *c
	scratch.Candidates, scratch.Lambda, scratch.Guard = candidates, lambda, guard
	own := scratch.choiceCost()
	for j, l := range lambdas {
		if l <= lambda || c.LatencyFirst {
			costs[j] = own
			continue
		}
		scratch.Lambda, scratch.Guard.On = l, false
		costs[j] = scratch.choiceCost()
	}
}

// unguard takes back what the guard has filtered, and lets the case's own guard and its priors filter anew.
func (c *Case) unguard() {
	for i := range c.Candidates {
		if a := &c.Candidates[i]; a.Filter == Guarded {
			a.Filter = Eligible
		}
	}
	if c.Pinned < 0 {
		c.guard()
		c.holdBackPriors()
	}
}

// best is the priced candidate that is preferred, -1 where there is none.
func (c *Case) best() int {
	best := -1
	for i := range c.Candidates {
		if a := &c.Candidates[i]; a.Filter == Eligible && a.Priced && (best < 0 || Better(c, i, best)) {
			best = i
		}
	}
	return best
}

// choiceCost is the forecast cost of the choice that the case's own price and guard lead to.
func (c *Case) choiceCost() float64 {
	c.unguard()
	best, sum, k := c.best(), 0.0, 0
	if best < 0 {
		return 0
	}
	for i := range c.Candidates {
		if a := &c.Candidates[i]; a.Filter == Eligible && a.Priced {
			sum, k = sum+a.CostUSD, k+1
		}
	}
	d := Distribution{Best: best}
	epsilon := d.exploration(c, k)
	return (1-epsilon)*c.Candidates[best].CostUSD + epsilon*sum/float64(k)
}
