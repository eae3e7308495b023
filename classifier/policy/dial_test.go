package policy

import (
	"math"
	"math/rand/v2"
	"testing"
)

// world draws cases of arms of which what is dearer is better, by more on some prompts than on others.
func world(rng *rand.Rand, n int) []Case {
	cases := make([]Case, n)
	for i := range cases {
		tokens, difficulty := math.Exp(5.5+0.9*rng.NormFloat64()), rng.Float64()
		c := Case{Fallback: -1, Reference: -1, Pinned: -1}
		for j, price := range [...]float64{0.4e-6, 2e-6, 6e-6, 20e-6} {
			score := 0.9 - difficulty*[...]float64{0.6, 0.35, 0.25, 0.15}[j] + 0.05*rng.NormFloat64()
			c.Candidates = append(c.Candidates, Candidate{Score: score, Quality: score, Priced: true, CostUSD: tokens * price, Availability: 1})
		}
		cases[i] = c
	}
	return cases
}

// TestDialHasNoDeadZone (pain 41): every step of the dial changes what is chosen for more than a hundredth of the prompts, and
// saves about a tenth of what can be saved; a dial that is linear in the price of a dollar, as others have it, does nothing over
// most of its range.
func TestDialHasNoDeadZone(t *testing.T) {
	cases := world(rand.New(rand.NewPCG(1, 2)), 2000)
	var costs [DialMax + 1]float64
	var curve []CostPoint
	for _, l := range Lambdas(dialDecade) {
		curve = append(curve, CostPoint{Lambda: l})
	}
	at := func(lambda float64) (sum float64, choices []int) {
		for i := range cases {
			cases[i].Lambda = lambda
			best := cases[i].best()
			sum, choices = sum+cases[i].Candidates[best].CostUSD, append(choices, best)
		}
		return sum, choices
	}
	for j := range curve {
		curve[j].CostUSD, _ = at(curve[j].Lambda)
	}
	dead := 0
	_, linear := at(0)
	for step := range DialMax + 1 {
		costs[step], _ = at(Dial(curve, float64(step)))
		if share := (costs[0] - costs[step]) / (costs[0] - curve[len(curve)-1].CostUSD); math.Abs(share-float64(step)/DialMax) > 0.04 {
			t.Errorf("at %d the choices save %.3f of what they could", step, share)
		}
		_, choices := at(float64(step) / DialMax * curve[len(curve)-1].Lambda)
		different := 0
		for i := range choices {
			if choices[i] != linear[i] {
				different++
			}
		}
		if linear = choices; step > 0 && 100*different < len(cases) {
			dead++
		}
	}
	if dead < DialMax/2 {
		t.Errorf("a dial that is linear in the price is dead over %d of its steps: the world shows nothing", dead)
	}
	changed, n := Sweep(append(world(rand.New(rand.NewPCG(1, 2)), 2000), Case{Pinned: 0}, Case{Pinned: -1, LatencyFirst: true}, Case{Pinned: -1, AvailabilityFirst: true}))
	if n != 2000 {
		t.Errorf("%d cases swept", n)
	}
	for step, share := range changed {
		if share < 0.01 {
			t.Errorf("from %d to %d the dial changes %.4f of the choices", step, step+1, share)
		}
	}
}

func TestDialAtItsEnds(t *testing.T) {
	curve := []CostPoint{{Lambda: 0, CostUSD: 8}, {Lambda: 2, CostUSD: 8}, {Lambda: 4, CostUSD: 4}, {Lambda: 16, CostUSD: 0}}
	for _, c := range []struct {
		curve         []CostPoint
		setting, want float64
	}{
		{nil, 5, 0}, {curve, 0, 0}, {curve, -1, 0}, {curve, math.NaN(), 0}, {curve, 10, 16}, {curve, 11, 16}, {curve, math.Inf(1), 16},
		{curve, 5, 4}, {curve, 7.5, 8}, {curve, 2.5, 2 * math.Sqrt2}, {[]CostPoint{{0, 1, 0}, {3, 1, 0}}, 5, 3}, {[]CostPoint{{0, 4, 0}, {3, 0, 0}}, 5, 1.5},
	} {
		if got := Dial(c.curve, c.setting); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("at %v: λ = %v, want %v", c.setting, got, c.want)
		}
	}
	if changed, n := Sweep(nil); n != 0 || changed != [DialMax]float64{} {
		t.Errorf("of nothing: %v, %d", changed, n)
	}
}
