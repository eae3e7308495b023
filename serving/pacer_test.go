package serving

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// prompt is one request of a made-up world of four arms: what is forecast of it at each, and what it would really cost. What
// is dearer is better, by more on some prompts than on others, and forecasts are wrong by a factor that is often large.
func prompt(rng *rand.Rand) (c *policy.Case, actual [4]float64) {
	c = &policy.Case{Fallback: 3, Reference: -1, Pinned: -1, Guard: policy.Guard{On: true, Z: 0.5, Tolerance: 0.01}, Explore: true, Epsilon: 0.02}
	tokens, difficulty := math.Exp(5.5+0.9*rng.NormFloat64()), rng.Float64()
	for j, price := range [...]float64{0.4e-6, 2e-6, 6e-6, 20e-6} {
		score := 0.9 - difficulty*[...]float64{0.6, 0.35, 0.25, 0.15}[j] + 0.05*rng.NormFloat64()
		c.Candidates = append(c.Candidates, policy.Candidate{
			Arm: catalog.ArmID([]byte{'p', '/', byte('a' + j)}), Score: score, Quality: score, Priced: true, CostUSD: tokens * price, Availability: 1,
		})
		actual[j] = tokens * price * math.Exp(0.5*rng.NormFloat64())
	}
	for j := range c.Candidates {
		c.Candidates[j].Gap = c.Candidates[j].Score - c.Candidates[3].Score
	}
	return c, actual
}

// request decides one prompt under a pacer and returns what it did cost, and its quality.
func request(rng *rand.Rand, p *pacer, now time.Time, b *ledger.Balance) (cost, quality float64) {
	c, actual := prompt(rng)
	var costs [paceLen]float64
	lambda, guard := c.Lambda, c.Guard
	if pace := p.ask(now, b); pace.Lambda > 0 {
		c.Paces = append(c.Paces, pace)
	}
	c.Hurry()
	policy.Constrain(c)
	var d policy.Distribution
	policy.Router{}.Propose(&d, c)
	i := policy.Draw(&d, rng.Float64())
	policy.Spending(costs[:], c, lambda, guard, p.lambdas[:], new(policy.Case))
	p.began(now, &costs, c.Candidates[i].CostUSD)
	p.ended(c.Candidates[i].CostUSD, actual[i])
	return actual[i], c.Candidates[i].Quality
}

// free is what a request costs where nothing paces it.
func free(rng *rand.Rand) (mean float64) {
	p := newPacer(governance.Target{Amount: math.MaxInt64 / 1000, Per: governance.PerRequest}, time.Time{})
	for range 2000 {
		cost, _ := request(rng, p, time.Time{}, nil)
		mean += cost / 2000
	}
	return mean
}

// slack is what a window may cost beyond its amount, and rarely the share of windows that may cost more.
const slack, rarely = 0.02, 0.05

// TestPaceOfRequests: windows of requests keep to what they may cost on average, and use it.
func TestPaceOfRequests(t *testing.T) {
	if testing.Short() {
		t.Skip("one after the other: nothing for the race detector")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	dear := free(rng)
	for _, share := range []float64{0.7, 0.4, 0.15} {
		amount, _ := catalog.FromDollars(share * dear)
		p := newPacer(governance.Target{Amount: amount, Per: governance.PerRequest}, time.Time{})
		over, used := 0, 0.0
		const windows = 400
		for range windows {
			spent := 0.0
			for range paceRequests {
				cost, _ := request(rng, p, time.Time{}, nil)
				spent += cost
			}
			if spent > (1+slack)*share*dear*paceRequests {
				over++
			}
			used += spent / (share * dear * paceRequests) / windows
		}
		t.Logf("%.0f %% of what it would cost: %.1f %% of windows over, %.1f %% of the money used", 100*share, 100*float64(over)/windows, 100*used)
		if float64(over) > rarely*windows || used < 0.85 {
			t.Errorf("share %v: %d of %d windows over, %.3f used", share, over, windows, used)
		}
	}
}

// TestPaceOfDays: days keep to their money, with a night and a noon, and days that are busier than the one before by half.
func TestPaceOfDays(t *testing.T) {
	if testing.Short() {
		t.Skip("one after the other: nothing for the race detector")
	}
	rng := rand.New(rand.NewPCG(3, 4))
	dear := free(rng)
	const days, perDay = 250, 400
	for _, share := range []float64{0.7, 0.4, 0.15} {
		budget := share * dear * perDay
		amount, _ := catalog.FromDollars(budget)
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		p := newPacer(governance.Target{Scope: "key", Owner: "k", Amount: amount, Per: governance.PerDay}, start)
		over, used, quality, served := 0, 0.0, 0.0, 0.0
		for day := range days {
			end := start.AddDate(0, 0, day+1)
			spent, busy := 0.0, math.Exp(0.3*rng.NormFloat64())
			for now := end.AddDate(0, 0, -1); now.Before(end); {
				rate := busy * perDay / (24 * 3600) * (1 - 0.8*math.Cos(2*math.Pi*float64(now.Hour())/24)) // requests a second
				settled, _ := catalog.FromDollars(spent)
				cost, q := request(rng, p, now, &ledger.Balance{Settled: settled, ResetsAt: end})
				spent += cost
				quality, served = quality+q, served+1
				now = now.Add(time.Duration(rng.ExpFloat64() / rate * float64(time.Second)))
			}
			if spent > (1+slack)*budget {
				over++
			}
			used += spent / budget / days
		}
		t.Logf("%.0f %% of what it would cost: %.1f %% of days over, %.1f %% of the money used, quality %.4f", 100*share, 100*float64(over)/days, 100*used, quality/served)
		if float64(over) > rarely*days || used < 0.75 {
			t.Errorf("share %v: %d of %d days over, %.3f used", share, over, days, used)
		}
	}
}

// TestWithoutPaceWindowsOverspend: the two tests above can fail. A price that was right on average, and that nobody corrects,
// goes beyond the money in far more windows than may.
func TestWithoutPaceWindowsOverspend(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	dear, over := free(rng), 0
	const windows = 200
	for range windows {
		spent := 0.0
		for range paceRequests {
			p := newPacer(governance.Target{Amount: math.MaxInt64 / 1000, Per: governance.PerRequest}, time.Time{})
			cost, _ := request(rng, p, time.Time{}, nil)
			spent += cost
		}
		if spent > (1+slack)*dear*paceRequests {
			over++
		}
	}
	if float64(over) < 4*rarely*windows {
		t.Errorf("only %d of %d windows are over: the world is too tame to show anything", over, windows)
	}
}
