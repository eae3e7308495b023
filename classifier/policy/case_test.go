package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"pgregory.net/rapid"
)

// anyCase draws a case with everything in it that a request may bring.
func anyCase() *rapid.Generator[*Case] {
	return rapid.Custom(func(t *rapid.T) *Case {
		k := rapid.IntRange(1, 12).Draw(t, "candidates")
		index := rapid.IntRange(-1, k-1)
		unit, usd := rapid.Float64Range(0, 1), rapid.Float64Range(0, 0.2)
		c := &Case{
			Candidates: make([]Candidate, k),
			Fallback:   index.Draw(t, "fallback"), Reference: -1, Pinned: -1,
			Lambda:        rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0, 100)).Draw(t, "lambda"),
			LatencyFirst:  rapid.Bool().Draw(t, "latency first"),
			MeasuredFirst: rapid.Bool().Draw(t, "measured first"),
			Guard:         Guard{On: rapid.Bool().Draw(t, "guard"), Z: rapid.Float64Range(0, 3).Draw(t, "z"), Tolerance: rapid.Float64Range(0, 0.1).Draw(t, "tolerance")},
			Explore:       rapid.Bool().Draw(t, "explore"), Epsilon: rapid.OneOf(rapid.Just(0.05), unit).Draw(t, "epsilon"),
		}
		c.AvailabilityFirst = !c.LatencyFirst && rapid.Bool().Draw(t, "availability first")
		switch rapid.IntRange(0, 7).Draw(t, "constraint") {
		case 0:
			c.QualityFloor = unit.Draw(t, "floor")
		case 1:
			c.Reference, c.ReferenceGap = index.Draw(t, "reference"), rapid.Float64Range(0, 0.2).Draw(t, "gap")
		case 2:
			c.MaxCostUSD = usd.Draw(t, "max cost")
		case 3:
			c.MaxLatencyMS = rapid.Float64Range(1, 5000).Draw(t, "max latency")
		case 4:
			c.Pinned = index.Draw(t, "pin")
		}
		for range rapid.IntRange(0, 2).Draw(t, "paces") {
			c.Paces = append(c.Paces, Pace{Level: "key", Lambda: rapid.Float64Range(0, 200).Draw(t, "paced λ"), Pressure: unit.Draw(t, "pressure")})
		}
		sticky := rapid.OneOf(rapid.Just(-1), index).Draw(t, "sticky")
		if sticky >= 0 {
			c.Session = Session{SwitchUSD: usd.Draw(t, "switch"), Lambda: rapid.Float64Range(0, 10).Draw(t, "switch λ"), Margin: rapid.Float64Range(0, 0.1).Draw(t, "margin")}
		}
		for i := range c.Candidates {
			c.Candidates[i] = Candidate{
				Sticky:  i == sticky,
				Arm:     catalog.ArmID(fmt.Sprintf("p/arm%d", i)),
				Filter:  rapid.SampledFrom([]Filter{Eligible, Eligible, Eligible, Unhealthy, ContextTooSmall}).Draw(t, "filter"),
				Quality: unit.Draw(t, "quality"), QualityErr: rapid.Float64Range(0, 0.2).Draw(t, "quality err"),
				Score: unit.Draw(t, "score"), Gap: rapid.Float64Range(-0.3, 0.3).Draw(t, "gap"), GapErr: rapid.Float64Range(0, 0.1).Draw(t, "gap err"),
				CostUSD: usd.Draw(t, "cost"), Priced: rapid.IntRange(0, 9).Draw(t, "priced") > 0,
				LatencyMS:    rapid.SampledFrom([]float64{0, 120, 120, 900}).Draw(t, "latency"),
				Availability: rapid.SampledFrom([]float64{1, 1, 0.97, 0.5}).Draw(t, "availability"), Prior: rapid.IntRange(0, 5).Draw(t, "prior") == 0,
			}
			a := &c.Candidates[i]
			a.CostUpperUSD, a.LatencyP90MS = 3*a.CostUSD, 2*a.LatencyMS
		}
		return c
	})
}

func (c *Case) clone() *Case {
	d := *c
	d.Candidates = slices.Clone(c.Candidates)
	return &d
}

func policies() map[string]Policy {
	return map[string]Policy{"Router": Router{}, "InverseGap": InverseGap{Gamma: 40}}
}

// P23: propensities are a distribution over exactly the eligible candidates.
func TestPropensities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCase().Draw(t, "case")
		Constrain(c)
		for name, p := range policies() {
			var d Distribution
			p.Propose(&d, c)
			sum, eligible := 0.0, 0
			for i, a := range c.Candidates {
				sum += d.P[i]
				if a.Filter == Eligible {
					eligible++
				}
				if a.Filter != Eligible && d.P[i] != 0 {
					t.Fatalf("%s: P[%d] = %v of an arm filtered by %s", name, i, d.P[i], a.Filter)
				}
				explores := c.Explore && c.Pinned < 0 && c.Epsilon > 0 && !(d.Best >= 0 && c.Candidates[d.Best].Sticky)
				if a.Filter == Eligible && explores && !(d.P[i] > 0) {
					t.Fatalf("%s: P[%d] = %v of an eligible arm on a round that explores", name, i, d.P[i])
				}
				if !explores && i != d.Best && d.P[i] != 0 {
					t.Fatalf("%s: P[%d] = %v on a round that may not explore", name, i, d.P[i])
				}
			}
			if eligible == 0 {
				if d.Best != -1 || sum != 0 || Draw(&d, 0.5) != -1 {
					t.Fatalf("%s: %+v with nothing eligible", name, d)
				}
				continue
			}
			if math.Abs(sum-1) > 1e-12 || d.Best < 0 || c.Candidates[d.Best].Filter != Eligible {
				t.Fatalf("%s: sum %v, best %d", name, sum, d.Best)
			}
			if slices.Max(d.P) > d.P[d.Best]+1e-12 {
				t.Fatalf("%s: best arm %d is not the likeliest of %v", name, d.Best, d.P)
			}
		}
	})
}

// P23: the logged case gives back the logged propensities, to the last bit.
func TestReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCase().Draw(t, "case")
		Constrain(c)
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		back := new(Case)
		if err := json.Unmarshal(text, back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(c, back) {
			t.Fatalf("case after JSON\n%+v\nwant\n%+v", back, c)
		}
		Constrain(back)
		if !reflect.DeepEqual(c, back) {
			t.Fatalf("constrained again\n%+v\nwant\n%+v", back, c)
		}
		for name, p := range policies() {
			var logged Distribution
			replayed := Distribution{P: []float64{9, 9, 9}, Best: 7}
			p.Propose(&logged, c)
			p.Propose(&replayed, back)
			if logged.Best != replayed.Best || !slices.Equal(logged.P, replayed.P) {
				t.Fatalf("%s: replayed %+v, logged %+v", name, replayed, logged)
			}
		}
	})
}

func TestOrderOfCandidatesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCase().Draw(t, "case")
		order := rapid.Permutation(indices(len(c.Candidates))).Draw(t, "order")
		moved := c.clone()
		place := func(i int) int { return slices.Index(order, i) }
		for to, from := range order {
			moved.Candidates[to] = c.Candidates[from]
		}
		moved.Fallback, moved.Reference, moved.Pinned = place(c.Fallback), place(c.Reference), place(c.Pinned)
		Constrain(c)
		Constrain(moved)
		var a, b Distribution
		Router{}.Propose(&a, c)
		Router{}.Propose(&b, moved)
		for to, from := range order {
			if got, want := moved.Candidates[to].Filter, c.Candidates[from].Filter; got != want {
				t.Fatalf("filter of %s: %q, in another order %q", c.Candidates[from].Arm, want, got)
			}
		}
		if a.Best < 0 {
			return
		}
		x, y := c.Candidates[a.Best], moved.Candidates[b.Best]
		tie := Objective(c, a.Best) == Objective(moved, b.Best) && cost(&x) == cost(&y)
		if x.Arm != y.Arm && !tie {
			t.Fatalf("best %s, in another order %s", x.Arm, y.Arm)
		}
	})
}

func indices(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// A dearer dollar never buys a dearer arm. Scores and costs are on a grid, so that products and sums are exact and the
// argument holds without slack.
func TestCostFallsWithLambda(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grid := rapid.Map(rapid.IntRange(0, 64), func(n int) float64 { return float64(n) / 64 })
		c := &Case{Fallback: -1, Reference: -1, Pinned: -1}
		for range rapid.IntRange(1, 10).Draw(t, "candidates") {
			c.Candidates = append(c.Candidates, Candidate{Priced: true, Score: grid.Draw(t, "score"), CostUSD: grid.Draw(t, "cost")})
		}
		last := math.Inf(1)
		for step := range 40 {
			c.Lambda = float64(step) / 8
			var d Distribution
			Router{}.Propose(&d, c)
			now := c.Candidates[d.Best].CostUSD
			if now > last {
				t.Fatalf("λ = %v costs %v, the step before %v", c.Lambda, now, last)
			}
			last = now
		}
	})
}

func TestValidate(t *testing.T) {
	good := Case{Candidates: make([]Candidate, 2), Fallback: 1, Reference: -1, Pinned: -1}
	if err := good.Validate(); err != nil {
		t.Errorf("a good case: %v", err)
	}
	for name, damage := range map[string]func(*Case){
		"fallback":  func(c *Case) { c.Fallback = 2 },
		"reference": func(c *Case) { c.Reference = -2 },
		"pinned":    func(c *Case) { c.Pinned = 9 },
		"lambda":    func(c *Case) { c.Lambda = math.NaN() },
		"switch":    func(c *Case) { c.Session.SwitchUSD = math.Inf(1) },
		"score":     func(c *Case) { c.Candidates[1].Score = math.Inf(-1) },
	} {
		c := good.clone()
		if damage(c); c.Validate() == nil {
			t.Errorf("%s: a bad case passed", name)
		}
	}
}

func benchCase(n int) *Case {
	c := &Case{Fallback: 0, Reference: -1, Pinned: -1, Lambda: 3, Guard: Guard{On: true, Z: 1}, QualityFloor: 0.2,
		MaxCostUSD: 1, Explore: true, Epsilon: 0.05}
	for i := range n {
		x := float64(i) / float64(n)
		c.Candidates = append(c.Candidates, Candidate{Priced: true, Quality: 0.4 + x/2, Score: 0.4 + x/2, Gap: x, GapErr: 0.01,
			CostUSD: 0.01 * (1 + x), CostUpperUSD: 0.1, LatencyMS: 100})
	}
	return c
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{10, 200} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			c, d := benchCase(n), Distribution{}
			b.ReportAllocs()
			for b.Loop() {
				for i := range c.Candidates {
					c.Candidates[i].Filter = Eligible
				}
				Constrain(c)
				Router{}.Propose(&d, c)
				if Draw(&d, 0.9) < 0 {
					b.Fatal("nothing drawn")
				}
			}
		})
	}
}

func TestChooseDoesNotAllocate(t *testing.T) {
	c, d := benchCase(200), Distribution{P: make([]float64, 200)}
	for name, p := range policies() {
		if n := testing.AllocsPerRun(100, func() { Constrain(c); p.Propose(&d, c); Draw(&d, 0.5) }); n != 0 {
			t.Errorf("%s: %v allocations a choice, want 0", name, n)
		}
	}
}

// TestMeasuredFirst: an arm that nobody measured waits while one that was may serve, and serves where none is left.
func TestMeasuredFirst(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Case)
		want   []Filter
	}{
		{"asked for", func(c *Case) { c.Candidates[1].Prior = true }, []Filter{Eligible, Guarded, Eligible}},
		{"not asked for", func(c *Case) { c.Candidates[1].Prior, c.MeasuredFirst = true, false }, []Filter{Eligible, Eligible, Eligible}},
		{"nothing was measured", func(c *Case) {
			for i := range c.Candidates {
				c.Candidates[i].Prior = true
			}
		}, []Filter{Eligible, Eligible, Eligible}},
		{"no other is left", func(c *Case) {
			c.Candidates[1].Prior, c.Candidates[0].Filter, c.Candidates[2].Filter = true, Denied, Unhealthy
		}, []Filter{Denied, Eligible, Unhealthy}},
	} {
		c := three()
		c.MeasuredFirst = true
		tt.change(c)
		for range 2 { // twice changes nothing
			Constrain(c)
			if got := filters(c); !slices.Equal(got, tt.want) {
				t.Errorf("%s: filters %q, want %q", tt.name, got, tt.want)
			}
		}
	}
}
