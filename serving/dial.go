package serving

import (
	"sync"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// dial knows what requests of late would cost at each price of a dollar, of those that turn the dial between quality and cost:
// by that a setting means the same share of what can be saved whatever is served, and whatever it costs.
type dial struct {
	mu    sync.Mutex
	n     int
	curve []policy.CostPoint
}

const (
	// dialDecade is how many prices a decade the dial is made of.
	dialDecade = 9
	// dialMemory is how many requests the mean is of.
	dialMemory = 200
)

// add counts a request by what it would cost at each price.
func (d *dial) add(lambdas, costs []float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.curve == nil {
		d.curve = make([]policy.CostPoint, len(lambdas))
	}
	d.n = min(d.n+1, dialMemory)
	for j := range d.curve {
		d.curve[j].Lambda = lambdas[j]
		d.curve[j].CostUSD += (costs[j] - d.curve[j].CostUSD) / float64(d.n)
	}
}

// at is the price of a dollar at a setting.
func (d *dial) at(setting float64) float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return policy.Dial(d.curve, setting)
}

// dialed is the strategy of a request that turns the dial, and says nothing stronger: the price is its own.
func (r *round) dialed() openai.Strategy {
	if r.wire.Tradewind.Tradeoff == nil || !r.wire.Target.Auto {
		return openai.StrategyNone
	}
	return openai.StrategyBalanced
}

// turn sets the price of a dollar by the request's dial. The first request ever is measured by itself.
func (r *round) turn(c *policy.Case) {
	if r.dialed() == openai.StrategyNone || r.wire.Strategy() != openai.StrategyNone || c.Pinned >= 0 {
		return
	}
	lambdas := policy.Lambdas(dialDecade)
	r.turned = make([]float64, len(lambdas))
	policy.Spending(r.turned, c, 0, policy.Guard{}, lambdas, &r.weighed)
	d := &r.g.dial
	d.mu.Lock()
	empty := d.n == 0
	d.mu.Unlock()
	if empty {
		d = new(dial)
		d.add(lambdas, r.turned)
	}
	r.wanted = objective{lambda: millionths(d.at(*r.wire.Tradewind.Tradeoff)), guard: policy.Guard{}}
	c.Lambda, c.Guard, r.decision.Certified = r.wanted.lambda, r.wanted.guard, false
}
