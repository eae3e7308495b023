package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// TestLoggedPropensitiesAreTrue is P23 at its count: 20 policies, a million rounds at TRADEWIND_TEST_SCALE=1. Each round has
// a case of its own, is logged as JSON and recomputed from it; and the draws are what the propensities say. That is seen by
// placing each draw at random inside the interval of [0,1) that its arm had: if the propensities are true the places are
// uniform, whatever the distributions were.
func TestLoggedPropensitiesAreTrue(t *testing.T) {
	const policyCount, bins = 20, 20
	rounds := 1_000_000 / policyCount / 100
	if s, err := strconv.ParseFloat(os.Getenv("TRADEWIND_TEST_SCALE"), 64); err == nil {
		rounds = int(s * 1_000_000 / policyCount)
	}
	limit := distuv.ChiSquared{K: bins - 1}.Quantile(1 - 1e-4)
	for n := range policyCount {
		var p Policy = Router{}
		if n%2 == 1 {
			p = InverseGap{Gamma: float64(n * n)}
		}
		places := make([]float64, bins)
		random := rand.New(rand.NewPCG(uint64(n), 23))
		for range rounds {
			c := randomCase(random, n)
			place, err := logAndDraw(p, c, random)
			if err != nil {
				t.Fatalf("policy %d: %v", n, err)
			}
			places[int(place*bins)]++
		}
		if chi2 := uniform(places, float64(rounds)); chi2 > limit {
			t.Errorf("policy %d: χ² = %.1f of %d draws, at most %.1f is likely", n, chi2, rounds, limit)
		}
	}
}

// TestUntruePropensitiesAreSeen: a log whose propensities are a tenth off is caught by the same statistic.
func TestUntruePropensitiesAreSeen(t *testing.T) {
	const bins, rounds = 20, 20_000
	random := rand.New(rand.NewPCG(1, 23))
	places := make([]float64, bins)
	for range rounds {
		drawn, logged := []float64{0.35, 0.65}, []float64{0.25, 0.75}
		place := placeOf(logged, Draw(&Distribution{P: drawn}, random.Float64()), random)
		places[int(place*bins)]++
	}
	if chi2 := uniform(places, rounds); chi2 < 100 {
		t.Errorf("χ² = %.1f of untrue propensities", chi2)
	}
}

func uniform(places []float64, n float64) (chi2 float64) {
	want := n / float64(len(places))
	for _, got := range places {
		chi2 += (got - want) * (got - want) / want
	}
	return chi2
}

// randomCase is a case of 2 to 9 candidates; the policy's number sets how much it explores and what a dollar costs.
func randomCase(random *rand.Rand, n int) *Case {
	k := 2 + random.IntN(8)
	c := &Case{
		Candidates: make([]Candidate, k), Fallback: random.IntN(k), Reference: -1, Pinned: -1,
		Explore: random.IntN(10) > 0, Epsilon: float64(n+1) / 40, Lambda: float64(n%5) * random.Float64() * 20,
		Guard: Guard{On: n%3 == 0, Z: 0.5, Tolerance: 0.03}, LatencyFirst: n%7 == 6,
	}
	for i := range c.Candidates {
		c.Candidates[i] = Candidate{
			Arm: "a/b", Quality: round(random.Float64()), Score: round(random.Float64()), Gap: round(random.Float64() - 0.7), GapErr: 0.05,
			CostUSD: round(random.Float64() / 50), CostUpperUSD: 0.1, Priced: i == 0 || random.IntN(20) > 0, LatencyMS: round(900 * random.Float64()), Availability: 1,
		}
	}
	Constrain(c)
	return c
}

func round(v float64) float64 { return math.Round(v*1e6) / 1e6 }

// logAndDraw proposes, checks the distribution, recomputes it from the logged case, draws, and places the draw.
func logAndDraw(p Policy, c *Case, random *rand.Rand) (float64, error) {
	var d, again Distribution
	p.Propose(&d, c)
	sum := 0.0
	for i, v := range d.P {
		if sum += v; v == 0 && c.Candidates[i].Filter == Eligible && c.Explore {
			return 0, fmt.Errorf("an eligible arm has no chance: %+v of %+v", d, c)
		}
	}
	logged, err := json.Marshal(c)
	var back Case
	if err == nil {
		err = json.Unmarshal(logged, &back)
	}
	p.Propose(&again, &back)
	if err != nil || math.Abs(sum-1) > 1e-12 || !slices.Equal(d.P, again.P) {
		return 0, fmt.Errorf("sum %v, %v, recomputed %v from %v", sum, err, again.P, d.P)
	}
	return placeOf(d.P, Draw(&d, random.Float64()), random), nil
}

// placeOf is a random place in the interval of [0,1) that an arm's propensity takes.
func placeOf(p []float64, drawn int, random *rand.Rand) float64 {
	place := p[drawn] * random.Float64()
	for _, v := range p[:drawn] {
		place += v
	}
	return min(place, math.Nextafter(1, 0))
}
