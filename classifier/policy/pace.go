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
