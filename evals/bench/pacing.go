package bench

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/tradewind-llm/tradewind/classifier/policy"
)

// Pacing is the evidence for a cost target: windows of requests that are to cost what is forecast at one price of a
// dollar, with and without a pacer.
type Pacing struct {
	// Lambda is the price that the budget was made from, BudgetUSD the budget of a window of Requests.
	Lambda    float64
	BudgetUSD float64
	Requests  int
	// Over is the share of windows that cost more than Slack above the budget: with the price left as it is, and paced.
	Over, PacedOver float64
	// Spent is what the paced windows cost as a share of the budget, Score their mean score, Lost how far that is below the
	// unconstrained curve at the same cost.
	Spent, Score, Lost float64
}

// PacingOptions say how to measure. The zero value is 2,000 windows of 200 requests, seed 0.
type PacingOptions struct {
	Windows, Requests int
	Seed              uint64
}

// Slack is the share above its budget that a window may cost; the limits bound PacingOptions.
const (
	Slack             = 0.02
	PacingWindowsMax  = 100_000
	PacingRequestsMax = 100_000
)

// Validate checks the options.
func (o *PacingOptions) Validate() error {
	if o.Windows < 0 || o.Windows > PacingWindowsMax || o.Requests < 0 || o.Requests > PacingRequestsMax {
		return fmt.Errorf("bench: %d windows of %d requests cannot be", o.Windows, o.Requests)
	}
	return nil
}

// Pace measures one budget: what the router's choices at the curve's price nearest to lambda are forecast to cost. Windows
// are prompts drawn at random, with what they really cost.
func (t *Trace) Pace(lambda float64, o PacingOptions) (*Pacing, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if !t.m.Priced() || t.Predictions.CostUSD == nil {
		return nil, fmt.Errorf("bench: %q forecasts no costs", t.Name)
	}
	if o.Windows == 0 {
		o.Windows = 2000
	}
	if o.Requests == 0 {
		o.Requests = 200
	}
	pacer := policy.Pacer{Curve: t.Forecasts(), Requests: o.Requests}
	base := 0
	for k, l := range t.lambdas {
		if math.Abs(l-lambda) < math.Abs(t.lambdas[base]-lambda) {
			base = k
		}
	}
	out := &Pacing{Lambda: t.lambdas[base], Requests: o.Requests}
	for _, c := range pacer.Curve {
		if c.Lambda <= out.Lambda {
			pacer.BudgetUSD = c.CostUSD * float64(o.Requests)
		}
	}
	out.BudgetUSD = pacer.BudgetUSD
	number := map[float64]int{}
	for k, l := range t.lambdas {
		number[l] = k
	}
	random := rand.New(rand.NewPCG(o.Seed, math.Float64bits(lambda)))
	total := Point{}
	for range o.Windows {
		plain, paced := 0.0, 0.0
		for done := range o.Requests {
			i := random.IntN(t.m.N())
			plain += t.m.cost(i, t.Choice(i, base))
			arm := t.Choice(i, number[pacer.Lambda(paced, done)])
			paced += t.m.cost(i, arm)
			total.Score += t.m.Score[i*len(t.m.Arms)+arm]
		}
		total.Cost += paced
		out.Over += over(plain, pacer.BudgetUSD) / float64(o.Windows)
		out.PacedOver += over(paced, pacer.BudgetUSD) / float64(o.Windows)
	}
	n := float64(o.Windows * o.Requests)
	out.Score, out.Spent = total.Score/n, total.Cost/pacer.BudgetUSD/float64(o.Windows)
	out.Lost = NewHull(t.Curve(nil)).At(total.Cost/n) - out.Score
	return out, nil
}

func over(spent, budget float64) float64 {
	if spent > (1+Slack)*budget {
		return 1
	}
	return 0
}

// CostPoint is the pacer's.
type CostPoint = policy.CostPoint

// Forecasts is the forecast cost of the router's choices at each price of the curve. An arm whose cost is not forecast
// counts at what it really cost on average.
func (t *Trace) Forecasts() []CostPoint {
	constants := t.m.Constants(nil)
	out := make([]CostPoint, 0, len(t.lambdas))
	for k, l := range t.lambdas {
		sum, square := 0.0, 0.0
		for i := range t.m.IDs {
			arm := t.Choice(i, k)
			c := t.Predictions.CostUSD[i*len(t.m.Arms)+arm]
			if math.IsNaN(c) {
				c = constants[arm].Cost
			}
			sum, square = sum+c, square+c*c
		}
		n := float64(t.m.N())
		mean := sum / n
		spread := math.Sqrt(max(0, square/n-mean*mean))
		if k > 0 {
			mean = min(mean, out[k-1].CostUSD)
		}
		out = append(out, CostPoint{Lambda: l, CostUSD: mean, SpreadUSD: spread})
	}
	return out
}
