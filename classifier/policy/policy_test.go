package policy

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// three is a case of a cheap, a middle and a strong arm, the strong one being the fallback.
func three() *Case {
	return &Case{Fallback: 2, Reference: -1, Pinned: -1, Candidates: []Candidate{
		{Arm: "p/cheap", Quality: 0.6, QualityErr: 0.05, Score: 0.6, Gap: -0.3, GapErr: 0.02, CostUSD: 0.01, CostUpperUSD: 0.05, Priced: true, LatencyMS: 100, LatencyP90MS: 300},
		{Arm: "p/middle", Quality: 0.8, QualityErr: 0.05, Score: 0.8, Gap: -0.1, GapErr: 0.02, CostUSD: 0.05, CostUpperUSD: 0.25, Priced: true},
		{Arm: "p/strong", Quality: 0.9, QualityErr: 0.05, Score: 0.9, CostUSD: 0.2, CostUpperUSD: 1, Priced: true, LatencyMS: 800, LatencyP90MS: 2000},
	}}
}

func filters(c *Case) []Filter {
	var out []Filter
	for _, a := range c.Candidates {
		out = append(out, a.Filter)
	}
	return out
}

func TestConstrain(t *testing.T) {
	const ok = Eligible
	nan := math.NaN()
	tests := []struct {
		name     string
		set      func(c *Case)
		want     []Filter
		restored bool
	}{
		{"nothing asked", func(c *Case) {}, []Filter{ok, ok, ok}, false},
		{"unpriced, cost does not count", func(c *Case) { c.Candidates[0].Priced = false }, []Filter{ok, ok, ok}, false},
		{"unpriced under λ", func(c *Case) { c.Candidates[0].Priced = false; c.Lambda = 1 }, []Filter{Unpriced, ok, ok}, false},
		{"none priced under λ", func(c *Case) {
			c.Candidates[0].Priced, c.Candidates[1].Priced, c.Candidates[2].Priced, c.Lambda = false, false, false, 1
		}, []Filter{ok, ok, ok}, false},
		{"those that have a price cannot serve", func(c *Case) {
			c.Candidates[0].Priced, c.Candidates[1].Filter, c.Candidates[2].Filter, c.Lambda = false, NoTools, Budget, 1
		}, []Filter{ok, NoTools, Budget}, false},
		{"those that have a price are too slow", func(c *Case) { c.Candidates[1].Priced, c.Lambda, c.MaxLatencyMS = false, 1, 200 }, []Filter{MaxLatency, Unpriced, MaxLatency}, false},
		{"unpriced under a cap", func(c *Case) { c.Candidates[0].Priced = false; c.MaxCostUSD = 9 }, []Filter{Unpriced, ok, ok}, false},
		{"cost cap is on the worst case", func(c *Case) { c.MaxCostUSD = 0.25 }, []Filter{ok, ok, MaxCost}, false},
		{"latency cap lets the unknown pass", func(c *Case) { c.MaxLatencyMS = 200 }, []Filter{MaxLatency, ok, MaxLatency}, false},
		{"floor is on the lower bound", func(c *Case) { c.QualityFloor = 0.75 }, []Filter{QualityFloor, ok, ok}, false},
		{"floor above all", func(c *Case) { c.QualityFloor = 0.99 }, []Filter{QualityFloor, QualityFloor, ok}, true},
		{"floor above all, fallback unable", func(c *Case) { c.QualityFloor = 0.99; c.Candidates[2].Filter = NoTools }, []Filter{QualityFloor, QualityFloor, NoTools}, false},
		{"relative floor", func(c *Case) { c.Reference, c.ReferenceGap = 2, 0.15 }, []Filter{QualityFloor, ok, ok}, false},
		{"relative floor spares its reference", func(c *Case) { c.Reference = 2 }, []Filter{QualityFloor, QualityFloor, ok}, false},
		{"floor above all serves the reference", func(c *Case) { c.QualityFloor, c.Reference = 0.99, 1 }, []Filter{QualityFloor, ok, QualityFloor}, true},
		{"guard", func(c *Case) { c.Guard = Guard{On: true, Z: 1, Tolerance: 0.125} }, []Filter{Guarded, ok, ok}, false},
		{"guard, at its edge", func(c *Case) { c.Guard.On, c.Candidates[0].Gap, c.Guard.Tolerance = true, -0.13, -c.Candidates[1].Gap }, []Filter{Guarded, ok, ok}, false},
		{"guard without tolerance", func(c *Case) { c.Guard = Guard{On: true, Z: 1} }, []Filter{Guarded, Guarded, ok}, false},
		{"guard, cheap fallback: dearer must be better", func(c *Case) {
			c.Fallback, c.Guard = 0, Guard{On: true, Z: 1, Tolerance: 0.5}
			c.Candidates[1].Gap, c.Candidates[2].Gap, c.Candidates[2].GapErr = 0.02, 0.3, 0.1
		}, []Filter{ok, Guarded, ok}, false},
		{"guard, equal cost has the tolerance", func(c *Case) {
			c.Guard = Guard{On: true, Z: 1, Tolerance: 0.125}
			c.Candidates[1].CostUSD = 0.2
		}, []Filter{Guarded, ok, ok}, false},
		{"guard, unknown price counts as dearer", func(c *Case) {
			c.Guard = Guard{On: true, Z: 1, Tolerance: 0.125}
			c.Candidates[1].Priced = false
		}, []Filter{Guarded, Guarded, ok}, false},
		{"guard off", func(c *Case) { c.Guard = Guard{Z: 1} }, []Filter{ok, ok, ok}, false},
		{"guard without a fallback", func(c *Case) { c.Guard, c.Fallback = Guard{On: true, Z: 1}, -1 }, []Filter{ok, ok, ok}, false},
		{"guard, fallback unhealthy", func(c *Case) { c.Guard = Guard{On: true, Z: 1}; c.Candidates[2].Filter = Unhealthy }, []Filter{ok, ok, Unhealthy}, false},
		{"guard, fallback above the cap", func(c *Case) { c.Guard, c.MaxCostUSD = Guard{On: true, Z: 1}, 0.25 }, []Filter{ok, ok, MaxCost}, false},
		{"what stands there stays", func(c *Case) { c.Candidates[0].Filter = Denied; c.QualityFloor = 0.8 }, []Filter{Denied, QualityFloor, ok}, false},
		{"pin passes forecasts", func(c *Case) {
			c.Pinned, c.QualityFloor, c.MaxLatencyMS, c.Guard, c.Lambda = 0, 0.99, 1, Guard{On: true, Z: 1}, 9
			c.Candidates[0].Priced = false
		}, []Filter{ok, NotAllowed, NotAllowed}, false},
		{"pin does not pass the cost cap", func(c *Case) { c.Pinned, c.MaxCostUSD = 2, 0.5 }, []Filter{NotAllowed, NotAllowed, MaxCost}, false},
		{"pin on an unpriced arm under a cost cap", func(c *Case) { c.Pinned, c.MaxCostUSD, c.Candidates[2].Priced = 2, 9, false }, []Filter{NotAllowed, NotAllowed, Unpriced}, false},
		{"pin on a filtered arm", func(c *Case) { c.Pinned = 0; c.Candidates[0].Filter = Unhealthy }, []Filter{Unhealthy, NotAllowed, NotAllowed}, false},
		{"NaN passes no test", func(c *Case) {
			c.Candidates[0].Quality, c.Candidates[1].CostUpperUSD = nan, nan
			c.QualityFloor, c.MaxCostUSD = 0.1, 2
		}, []Filter{QualityFloor, MaxCost, ok}, false},
		{"NaN gap", func(c *Case) { c.Guard = Guard{On: true, Tolerance: 1}; c.Candidates[0].Gap = nan }, []Filter{Guarded, ok, ok}, false},
	}
	for _, tt := range tests {
		c := three()
		tt.set(c)
		Constrain(c)
		if got := filters(c); !slices.Equal(got, tt.want) || c.FloorReference != tt.restored {
			t.Errorf("%s: filters %q, restored %v; want %q, %v", tt.name, got, c.FloorReference, tt.want, tt.restored)
		}
	}
}

func TestRouter(t *testing.T) {
	tests := []struct {
		name string
		set  func(c *Case)
		best int
		p    []float64
	}{
		{"best score", func(c *Case) {}, 2, []float64{0, 0, 1}},
		{"price of a dollar", func(c *Case) { c.Lambda = 2 }, 1, []float64{0, 1, 0}},
		{"dear dollar", func(c *Case) { c.Lambda = 50 }, 0, []float64{1, 0, 0}},
		{"fastest", func(c *Case) { c.LatencyFirst = true }, 0, []float64{1, 0, 0}},
		{"fastest known", func(c *Case) { c.LatencyFirst = true; c.Candidates[0].Filter = Denied }, 2, []float64{0, 0, 1}},
		{"all latencies unknown", func(c *Case) {
			c.LatencyFirst, c.Candidates[0].LatencyMS, c.Candidates[2].LatencyMS = true, 0, 0
		}, 2, []float64{0, 0, 1}},
		{"tie goes to the cheaper", func(c *Case) { c.Candidates[1].Score = 0.9 }, 1, []float64{0, 1, 0}},
		{"tie with the unpriced", func(c *Case) { c.Candidates[1].Score, c.Candidates[1].Priced = 0.9, false }, 2, []float64{0, 0, 1}},
		{"tie in all goes to the first", func(c *Case) { c.Candidates[1] = c.Candidates[2] }, 1, []float64{0, 1, 0}},
		{"explore", func(c *Case) { c.Explore, c.Epsilon = true, 0.375 }, 2, []float64{0.125, 0.125, 0.75}},
		{"explore two", func(c *Case) { c.Explore, c.Epsilon, c.Candidates[0].Filter = true, 0.5, Denied }, 2, []float64{0, 0.25, 0.75}},
		{"explore one", func(c *Case) {
			c.Explore, c.Epsilon, c.Candidates[0].Filter, c.Candidates[1].Filter = true, 0.5, Denied, Denied
		}, 2, []float64{0, 0, 1}},
		{"may not explore", func(c *Case) { c.Epsilon = 0.5 }, 2, []float64{0, 0, 1}},
		{"pinned", func(c *Case) { c.Explore, c.Epsilon, c.Pinned = true, 0.5, 1 }, 1, []float64{0, 1, 0}},
		{"absurd ε", func(c *Case) { c.Explore, c.Epsilon, c.Candidates[0].Filter = true, 7, Denied }, 2, []float64{0, 0.5, 0.5}},
		{"NaN ε", func(c *Case) { c.Explore, c.Epsilon = true, math.NaN() }, 2, []float64{0, 0, 1}},
		{"NaN score is the worst", func(c *Case) { c.Candidates[0].Score, c.Candidates[2].Score = math.NaN(), math.NaN() }, 1, []float64{0, 1, 0}},
	}
	for _, tt := range tests {
		c := three()
		tt.set(c)
		Constrain(c)
		var d Distribution
		Router{}.Propose(&d, c)
		if d.Best != tt.best || !slices.Equal(d.P, tt.p) {
			t.Errorf("%s: best %d, P %v; want %d, %v", tt.name, d.Best, d.P, tt.best, tt.p)
		}
	}
}

func TestInverseGap(t *testing.T) {
	c := three()
	c.Explore, c.Epsilon = true, 0.1
	var d Distribution
	InverseGap{Gamma: 10}.Propose(&d, c)
	cheap, middle := 0.9/(3+10*0.3)+0.1/3, 0.9/(3+10*0.1)+0.1/3
	for i, want := range []float64{cheap, middle, 1 - cheap - middle} {
		if math.Abs(d.P[i]-want) > 1e-12 {
			t.Errorf("P[%d] = %v, want %v", i, d.P[i], want)
		}
	}
}

func TestDrawAtTheEdges(t *testing.T) {
	d := &Distribution{P: []float64{0, 0.25, 0, 0.75, 0}}
	for _, tt := range []struct {
		u    float64
		want int
	}{{0, 1}, {math.Nextafter(0.25, 0), 1}, {0.25, 3}, {math.Nextafter(1, 0), 3}} {
		if got := Draw(d, tt.u); got != tt.want {
			t.Errorf("Draw(%v) = %d, want %d", tt.u, got, tt.want)
		}
	}
	short := &Distribution{P: []float64{0.1, 0.2, 0}} // as if rounding had lost the rest
	if got := Draw(short, 0.999); got != 1 {
		t.Errorf("Draw above the sum = %d, want 1", got)
	}
	if got := Draw(&Distribution{P: []float64{0, 0}}, 0); got != -1 {
		t.Errorf("Draw from nothing = %d, want -1", got)
	}
}

// TestDrawsFollowPropensities compares 200,000 draws with their distribution. The bound is the 0.9999 quantile of χ²
// with 4 degrees of freedom.
func TestDrawsFollowPropensities(t *testing.T) {
	c := &Case{Fallback: -1, Reference: -1, Pinned: -1, Explore: true, Epsilon: 0.3}
	for _, s := range []float64{0.2, 0.9, 0.4, 0.85, 0.6} {
		c.Candidates = append(c.Candidates, Candidate{Score: s})
	}
	for name, p := range policies() {
		var d Distribution
		p.Propose(&d, c)
		const n = 200_000
		counts := make([]float64, len(d.P))
		rng := rand.New(rand.NewPCG(1, 2))
		for range n {
			counts[Draw(&d, rng.Float64())]++
		}
		chi2 := 0.0
		for i, p := range d.P {
			chi2 += (counts[i] - n*p) * (counts[i] - n*p) / (n * p)
		}
		if chi2 > 23.51 {
			t.Errorf("%s: χ² = %v of counts %v against %v", name, chi2, counts, d.P)
		}
	}
}

// TestConstraintsAreRespected says in the words of the contract what may be eligible after Constrain.
func TestConstraintsAreRespected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := anyCase().Draw(t, "case")
		c := before.clone()
		Constrain(c)
		restored := c.Reference
		if restored < 0 {
			restored = c.Fallback
		}
		for i, a := range c.Candidates {
			if was := before.Candidates[i].Filter; was != Eligible && a.Filter != was {
				t.Fatalf("filter %q became %q", was, a.Filter)
			}
			if a.Filter != Eligible {
				continue
			}
			if c.MaxCostUSD > 0 && (!a.Priced || a.CostUpperUSD > c.MaxCostUSD) {
				t.Fatalf("%s may cost %v, the cap is %v", a.Arm, a.CostUpperUSD, c.MaxCostUSD)
			}
			if c.Pinned >= 0 {
				if i != c.Pinned {
					t.Fatalf("%s is eligible beside a pin", a.Arm)
				}
				continue
			}
			if c.MaxLatencyMS > 0 && a.LatencyP90MS > c.MaxLatencyMS {
				t.Fatalf("%s is too slow", a.Arm)
			}
			for k, b := range before.Candidates {
				if c.Lambda > 0 && !a.Priced && b.Priced && b.Filter == Eligible {
					t.Fatalf("%s has no price, and %d has", a.Arm, k)
				}
			}
			if c.FloorReference && i != restored {
				t.Fatalf("%s is eligible beside the restored reference %d", a.Arm, restored)
			}
			if !c.FloorReference && c.QualityFloor > 0 && a.Quality-a.QualityErr < c.QualityFloor {
				t.Fatalf("%s is below the floor", a.Arm)
			}
			if c.Reference >= 0 && i != c.Reference && a.Quality-a.QualityErr < c.Candidates[c.Reference].Quality-c.ReferenceGap {
				t.Fatalf("%s is below the reference", a.Arm)
			}
		}
	})
}

// TestGuardOfWhatIsAskedFor: where time is asked for a dearer arm may be a little worse, and where availability is, nothing is
// proven that would keep a request with an arm that fails.
func TestGuardOfWhatIsAskedFor(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(c *Case)
		want []Filter
	}{
		{"quality", func(c *Case) {}, []Filter{Eligible, Guarded, Guarded}},
		{"latency", func(c *Case) { c.LatencyFirst = true }, []Filter{Eligible, Eligible, Guarded}},
		{"availability of equals", func(c *Case) { c.AvailabilityFirst = true }, []Filter{Eligible, Guarded, Guarded}},
		{"availability", func(c *Case) { c.AvailabilityFirst, c.Candidates[2].Availability = true, 0.99 }, []Filter{Eligible, Guarded, Eligible}},
		{"availability of one that is admitted", func(c *Case) {
			c.AvailabilityFirst, c.Candidates[2].Availability = true, 0.99
			c.Candidates[1].Gap, c.Candidates[1].Availability = 0.1, 1
		}, []Filter{Eligible, Eligible, Guarded}},
		{"availability of one that is held back", func(c *Case) {
			c.AvailabilityFirst, c.MeasuredFirst, c.Candidates[2].Availability = true, true, 0.99
			c.Candidates[1].Gap, c.Candidates[1].Availability, c.Candidates[1].Prior = 0.1, 1, true
		}, []Filter{Eligible, Guarded, Eligible}},
		{"an arm that is less available", func(c *Case) { c.AvailabilityFirst, c.Candidates[1].Availability = true, 0.5 }, []Filter{Eligible, Guarded, Guarded}},
	} {
		c := &Case{Fallback: 0, Reference: -1, Pinned: -1, Guard: Guard{On: true, Z: 1, Tolerance: 0.05}, Candidates: []Candidate{
			{Arm: "a/fallback", Priced: true, CostUSD: 1, Availability: 0.9},
			{Arm: "a/dearer", Priced: true, CostUSD: 2, Availability: 0.9, Gap: -0.04},
			{Arm: "a/worse", Priced: true, CostUSD: 0.5, Availability: 0.9, Gap: -0.2},
		}}
		tt.set(c)
		for range 2 { // twice changes nothing
			Constrain(c)
			if got := filters(c); !slices.Equal(got, tt.want) {
				t.Errorf("%s: filters %q, want %q", tt.name, got, tt.want)
			}
		}
	}
}
