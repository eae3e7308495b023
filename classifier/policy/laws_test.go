package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// This file holds what is true of every choice, whatever is asked. Each law is also tried on a decider that breaks it in a way
// in which routers do: a law that no twin can break says nothing.

// decider constrains a case and proposes a distribution.
type decider func(d *Distribution, c *Case)

func decide(d *Distribution, c *Case) {
	Constrain(c)
	Router{}.Propose(d, c)
}

// law looks for a violation at a case, with further choices of its own.
type law func(decide decider, c *Case, rng *rand.Rand) error

// TestLaws holds the real decider to every law, and shows for each that its broken twin is caught.
func TestLaws(t *testing.T) {
	for name, l := range map[string]struct {
		law  law
		twin decider
	}{
		"a stricter constraint admits nobody":               {stricterAdmitsNobody, floorOfTheRest},
		"a dearer dollar costs no more":                     {dearerDollar, weighsTheBound},
		"an arm that was not chosen changes nothing":        {bystander, normalizes},
		"a dominated arm is not chosen":                     {dominated, goodEnough},
		"probabilities are one and are those of the record": {recorded, forgetsItsShare},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				c := anyCase().Draw(t, "case")
				if err := l.law(decide, c, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "more"), 1))); err != nil {
					t.Fatal(err)
				}
			})
			const tries = 5000
			for seed := range tries {
				if l.law(l.twin, anyCase().Example(seed), rand.New(rand.NewPCG(uint64(seed), 1))) != nil {
					return
				}
			}
			t.Errorf("the twin keeps the law in %d cases: it cannot fail", tries)
		})
	}
}

// stricterAdmitsNobody: whom a cap or the floor has refused, a lower cap, a higher floor or a tighter guard refuses too. What was
// refused by the floor may come back as its reference alone, what was refused for want of a price where every arm with one is denied,
// and a guard that gets tighter may let a more available arm pass where availability comes first.
func stricterAdmitsNobody(decide decider, c *Case, rng *rand.Rand) error {
	loose, strict := c.clone(), c.clone()
	for _, limit := range []*float64{&strict.MaxCostUSD, &strict.MaxLatencyMS} { // 0 is none
		if most := cmp.Or(*limit, 1000); rng.IntN(2) == 0 {
			*limit = max(most*rng.Float64(), math.SmallestNonzeroFloat64)
		}
	}
	if rng.IntN(2) == 0 {
		strict.QualityFloor += (1 - strict.QualityFloor) * rng.Float64()
	}
	strict.ReferenceGap *= rng.Float64()
	for i := range strict.Candidates {
		if rng.IntN(6) == 0 && strict.Candidates[i].Filter == Eligible {
			strict.Candidates[i].Filter = Denied
		}
	}
	comparable := slices.ContainsFunc(strict.Candidates, func(a Candidate) bool { return a.Filter == Eligible && a.Priced })
	var d Distribution
	decide(&d, loose)
	decide(&d, strict)
	for i := range c.Candidates {
		switch was := loose.Candidates[i].Filter; {
		case was == Eligible, was == Guarded, was == Unpriced && !comparable:
		default:
			if strict.Candidates[i].Filter == Eligible && !strict.FloorReference {
				return fmt.Errorf("arm %d was refused by %s, and a stricter case admits it", i, was)
			}
		}
	}
	return tighterGuard(decide, c, rng)
}

func tighterGuard(decide decider, c *Case, rng *rand.Rand) error {
	if c.AvailabilityFirst || c.MeasuredFirst {
		return nil
	}
	loose, strict := c.clone(), c.clone()
	strict.Guard.On = true
	strict.Guard.Tolerance *= rng.Float64()
	strict.Guard.Z += rng.Float64()
	var d Distribution
	decide(&d, loose)
	decide(&d, strict)
	for i := range c.Candidates {
		if loose.Candidates[i].Filter == Guarded && strict.Candidates[i].Filter == Eligible {
			return fmt.Errorf("arm %d was held back by a guard, and a tighter one admits it", i)
		}
	}
	return nil
}

// floorOfTheRest takes the floor as a share of the best arm that is left: an arm that is refused may pass once a better one is
// refused too.
func floorOfTheRest(d *Distribution, c *Case) {
	floor := c.QualityFloor
	c.QualityFloor = 0
	Constrain(c)
	best := 0.0
	for _, a := range c.Candidates {
		if a.Filter == Eligible {
			best = max(best, a.Quality)
		}
	}
	for i := range c.Candidates {
		if a := &c.Candidates[i]; a.Filter == Eligible && a.Quality < floor*best {
			a.Filter = QualityFloor
		}
	}
	Router{}.Propose(d, c)
}

// dearerDollar: a higher price of a dollar never raises the expected cost. Scores and costs are put on a grid, so that sums are
// exact. A conversation counts what leaving would cost, and its price of a dollar has a floor; where it might leave, the round
// does not explore, because one that stays does not.
func dearerDollar(decide decider, c *Case, rng *rand.Rand) error {
	grid := func(x float64) float64 { return math.Round(x*64) / 64 }
	c.LatencyFirst, c.AvailabilityFirst = false, false
	session := false
	for i := range c.Candidates {
		a := &c.Candidates[i]
		a.Priced, a.Score, a.CostUSD, a.CostUpperUSD = true, grid(a.Score), grid(a.CostUSD*5), grid(a.CostUpperUSD*float64(rng.IntN(9)))
		session = session || a.Sticky
	}
	c.Session.SwitchUSD, c.Session.Lambda, c.Session.Margin = grid(c.Session.SwitchUSD), 0, grid(c.Session.Margin)
	c.Explore = c.Explore && !session
	last := math.Inf(1)
	for step := range 30 {
		now := c.clone()
		now.Lambda = float64(step) / 4
		var d Distribution
		decide(&d, now)
		if d.Best < 0 {
			return nil
		}
		expected := 0.0
		for i, p := range d.P {
			cost := now.Candidates[i].CostUSD
			if session && !now.Candidates[i].Sticky {
				cost += now.Session.SwitchUSD
			}
			expected += p * cost
		}
		if expected > last+1e-12 {
			return fmt.Errorf("λ = %v is expected to cost %v, the step before %v", now.Lambda, expected, last)
		}
		last = expected
	}
	return nil
}

// weighsTheBound takes the worst case for the forecast.
func weighsTheBound(d *Distribution, c *Case) {
	true := c.clone()
	for i := range c.Candidates {
		c.Candidates[i].CostUSD = c.Candidates[i].CostUpperUSD
	}
	decide(d, c)
	for i := range c.Candidates {
		c.Candidates[i].CostUSD = true.Candidates[i].CostUSD
	}
}

// bystander: without an arm that was not chosen the choice is the same, where the round does not explore. The fallback and the
// reference are no bystanders: others are measured by them.
func bystander(decide decider, c *Case, rng *rand.Rand) error {
	c.Explore = false
	with := c.clone()
	var d Distribution
	decide(&d, with)
	gone := rng.IntN(len(c.Candidates))
	if d.Best < 0 || gone == d.Best || gone == c.Fallback || gone == c.Reference || gone == c.Pinned {
		return nil
	}
	without := c.clone()
	without.Candidates = slices.Delete(without.Candidates, gone, gone+1)
	for _, index := range []*int{&without.Fallback, &without.Reference, &without.Pinned} {
		if *index > gone {
			*index--
		}
	}
	chosen := with.Candidates[d.Best].Arm
	decide(&d, without)
	if d.Best < 0 || without.Candidates[d.Best].Arm != chosen {
		return fmt.Errorf("%s is chosen, and another without %s", chosen, c.Candidates[gone].Arm)
	}
	return nil
}

// normalizes weighs scores and costs by their range among the arms at hand.
func normalizes(d *Distribution, c *Case) {
	Constrain(c)
	low, high, dear := math.Inf(1), math.Inf(-1), 1e-9
	for _, a := range c.Candidates {
		if a.Filter == Eligible {
			low, high, dear = min(low, a.Score), max(high, a.Score), max(dear, a.CostUSD)
		}
	}
	mine := c.clone()
	mine.Lambda, mine.LatencyFirst, mine.AvailabilityFirst = 0, false, false
	for i := range mine.Candidates {
		a := &mine.Candidates[i]
		a.Score = (a.Score-low)/(high-low+1e-9) - a.CostUSD/dear
	}
	Router{}.Propose(d, mine)
}

// dominated: an arm is drawn by exploration alone where another that may serve is better in everything that is known of it.
func dominated(decide decider, c *Case, rng *rand.Rand) error {
	i, j := rng.IntN(len(c.Candidates)), rng.IntN(len(c.Candidates))
	if i == j {
		return nil
	}
	better, worse := &c.Candidates[i], &c.Candidates[j]
	*worse = *better
	worse.Arm, worse.Sticky = "p/worse", false
	worse.Quality, worse.Score, worse.Gap = better.Quality-0.001, better.Score-0.001, better.Gap-0.001
	worse.CostUSD, worse.CostUpperUSD = better.CostUSD+0.001, better.CostUpperUSD+0.001
	worse.LatencyMS, worse.LatencyP90MS, worse.Availability = better.LatencyMS+1, better.LatencyP90MS+1, better.Availability-0.1
	if better.LatencyMS == 0 {
		worse.LatencyMS = 0 // of neither is known anything
	}
	if c.Pinned == j || c.Reference == j || c.Fallback == j || c.Reference == i || c.Fallback == i {
		return nil // somebody names it, or holds others up to it
	}
	c.Explore = c.Explore && rng.IntN(2) == 0
	var d Distribution
	decide(&d, c)
	if c.Candidates[i].Filter != Eligible {
		return nil
	}
	if d.Best == j || !c.Explore && d.P[j] != 0 {
		return fmt.Errorf("arm %d has probability %v and is worse than arm %d in everything", j, d.P[j], i)
	}
	return nil
}

// goodEnough takes the first arm that is within a tenth of the best.
func goodEnough(d *Distribution, c *Case) {
	decide(d, c)
	for i := range c.Candidates {
		if d.Best >= 0 && c.Candidates[i].Filter == Eligible && Objective(c, i) > Objective(c, d.Best)-0.1 {
			clear(d.P)
			d.Best, d.P[i] = i, 1
			return
		}
	}
}

// recorded (P23): the probabilities add up to one, none is of an arm that may not serve, and the case as it is logged gives them
// again to the last bit, whatever session or target it is under.
func recorded(decide decider, c *Case, _ *rand.Rand) error {
	c.Hurry()
	var logged, again Distribution
	decide(&logged, c)
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	back := new(Case)
	if err := json.Unmarshal(text, back); err != nil {
		return err
	}
	if back.Hurry() {
		return fmt.Errorf("paced twice, λ rises to %v", back.Lambda)
	}
	decide(&again, back)
	if logged.Best != again.Best || !slices.Equal(logged.P, again.P) {
		return fmt.Errorf("logged %+v, decided again %+v", logged, again)
	}
	sum := 0.0
	for i, p := range logged.P {
		if sum += p; p != 0 && c.Candidates[i].Filter != Eligible {
			return fmt.Errorf("arm %d was filtered by %s and has probability %v", i, c.Candidates[i].Filter, p)
		}
	}
	if logged.Best >= 0 && math.Abs(sum-1) > 1e-12 {
		return fmt.Errorf("the probabilities add up to %v", sum)
	}
	return nil
}

// forgetsItsShare gives the best arm what exploration leaves, and not its own share of exploration.
func forgetsItsShare(d *Distribution, c *Case) {
	decide(d, c)
	if d.Best >= 0 && d.P[d.Best] < 1 {
		d.P[d.Best] = 1 - d.exploration(c, 2)
	}
}
