package policy

import (
	"errors"
	"fmt"
	"math"
)

// Validate finds what would break a case on its way: an index out of range, or a number that JSON cannot hold. A case
// that passes is journaled and read back to the last bit.
func (c *Case) Validate() error {
	for _, index := range [...]int{c.Fallback, c.Reference, c.Pinned} {
		if index < -1 || index >= len(c.Candidates) {
			return fmt.Errorf("policy: index %d in a case of %d candidates", index, len(c.Candidates))
		}
	}
	own := [...]float64{c.Lambda, c.Guard.Z, c.Guard.Tolerance, c.QualityFloor, c.ReferenceGap, c.MaxCostUSD, c.MaxLatencyMS, c.Epsilon,
		c.Session.SwitchUSD, c.Session.Lambda, c.Session.Margin}
	if !finite(own[:]) {
		return errors.New("policy: a setting of the case is not a finite number")
	}
	for _, p := range c.Paces {
		if pace := [...]float64{p.Lambda, p.Pressure}; !finite(pace[:]) {
			return fmt.Errorf("policy: the pace of %s is not a finite number", p.Level)
		}
	}
	for i := range c.Candidates {
		a := &c.Candidates[i]
		numbers := [...]float64{a.Quality, a.QualityErr, a.Score, a.Gap, a.GapErr, a.History, a.OutputTokens,
			a.CostUSD, a.CostUpperUSD, a.LatencyMS, a.LatencyP90MS, a.Availability}
		if !finite(numbers[:]) {
			return fmt.Errorf("policy: a number of candidate %s is not finite", a.Arm)
		}
	}
	return nil
}

func finite(xs []float64) bool {
	for _, x := range xs {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}

// Constrain filters the candidates that are still eligible, in this order: price, caps, floor, turns, priors, guard. It keeps the
// filters that stand there already. Running it twice changes nothing. An arm without a price is not compared by cost with one
// that has it: where cost counts, it serves only if there was no such other before caps, floor and guard. To look at those that
// are left after them would let in by a stricter constraint what a looser one refuses.
//
// A pin overrides forecasts, not money: the pinned arm passes the latency cap, the floor and the guard, which are
// guesses about an arm that somebody named, but not the cost cap, which is a bound. Everything else is NotAllowed.
//
// Comparisons are written so that a NaN never lets an arm through.
func Constrain(c *Case) {
	c.FloorReference = false
	comparable := false
	for i := range c.Candidates {
		switch a := &c.Candidates[i]; a.Filter {
		case Eligible, MaxCost, MaxLatency, QualityFloor, Ordered, Guarded: // Constrain may have run before
			comparable = comparable || a.Priced
		}
	}
	for i := range c.Candidates {
		if a := &c.Candidates[i]; a.Filter == Eligible {
			a.Filter = c.hardFilter(i, comparable)
		}
	}
	if c.Pinned >= 0 {
		return
	}
	for i := range c.Candidates {
		if a := &c.Candidates[i]; a.Filter == Eligible && c.belowFloor(i) {
			a.Filter = QualityFloor
		}
	}
	c.takeTurns()
	c.holdBackPriors()
	c.guard()
	c.restoreReference()
}

// takeTurns leaves of each choice the arms whose turn comes first. It comes before the guard, so that an order among
// providers of one model is kept whatever they ask, and after what may rule a provider out, so that the next one comes forward.
// Where priors are held back, a provider that nobody measured comes after those of the choice that somebody has.
func (c *Case) takeTurns() {
	for i := range c.Candidates {
		a := &c.Candidates[i]
		if a.Choice == 0 || a.Filter != Eligible {
			continue
		}
		for j := range c.Candidates {
			if b := &c.Candidates[j]; b.Choice == a.Choice && b.Filter == Eligible && c.before(b, a) {
				a.Filter = Ordered
				break
			}
		}
	}
}

// before reports whether the turn of a comes before that of b.
func (c *Case) before(a, b *Candidate) bool {
	if c.MeasuredFirst && a.Prior != b.Prior {
		return b.Prior
	}
	return a.Turn < b.Turn
}

// front is the candidate that takes its turn in the place of candidate i: i itself unless that stands behind another.
func (c *Case) front(i int) int {
	for j := range c.Candidates {
		if c.Candidates[i].Filter == Ordered && c.Candidates[j].Filter == Eligible && c.Candidates[j].Choice == c.Candidates[i].Choice {
			return j
		}
	}
	return i
}

// hardFilter applies what does not rest on an estimate of quality. Comparable says that there are arms which cost can compare.
func (c *Case) hardFilter(i int, comparable bool) Filter {
	a := &c.Candidates[i]
	pinned := c.Pinned == i
	switch {
	case c.Pinned >= 0 && !pinned:
		return NotAllowed
	case !a.Priced && (c.MaxCostUSD > 0 || (c.Lambda > 0 && !pinned && comparable)):
		return Unpriced
	case c.MaxCostUSD > 0 && !(a.CostUpperUSD <= c.MaxCostUSD):
		return MaxCost
	case c.MaxLatencyMS > 0 && a.LatencyP90MS > c.MaxLatencyMS && !pinned:
		return MaxLatency
	}
	return Eligible
}

// belowFloor reports whether the lower bound on an arm's quality is below the floor, or more than ReferenceGap below
// the reference, which itself always passes that second test.
func (c *Case) belowFloor(i int) bool {
	a := &c.Candidates[i]
	lower := a.Quality - a.QualityErr
	if c.QualityFloor > 0 && !(lower >= c.QualityFloor) {
		return true
	}
	return c.Reference >= 0 && i != c.Reference && !(lower >= c.Candidates[c.Reference].Quality-c.ReferenceGap)
}

// holdBackPriors filters the arms that nobody measured, where the case asks for it and another may serve. It comes before the
// guard, which would else compare others with arms that are not to serve.
func (c *Case) holdBackPriors() {
	proven := false
	for i := range c.Candidates {
		proven = proven || c.Candidates[i].Filter == Eligible && !c.Candidates[i].Prior
	}
	for i := range c.Candidates {
		if a := &c.Candidates[i]; c.MeasuredFirst && proven && a.Prior && a.Filter == Eligible {
			a.Filter = Guarded
		}
	}
}

// guard filters the arms whose gap to the fallback is not proven well enough. It stands aside where the fallback may
// not serve: there is nothing safer to send the request to, and an outage is not a guarantee. Where another
// provider of the fallback is put before it, that one is what the others are held against. Where availability comes first it holds an
// arm back only for one that is as available.
func (c *Case) guard() {
	if !c.Guard.On || c.Fallback < 0 {
		return
	}
	safe := c.front(c.Fallback)
	if c.Candidates[safe].Filter != Eligible {
		return
	}
	most := c.Candidates[safe].Availability
	for i := range c.Candidates {
		if a := &c.Candidates[i]; a.Filter == Eligible && c.admitted(i, safe) {
			most = max(most, a.Availability)
		}
	}
	for i := range c.Candidates {
		a := &c.Candidates[i]
		if a.Filter == Eligible && !c.admitted(i, safe) && !(c.AvailabilityFirst && a.Availability > most) {
			a.Filter = Guarded
		}
	}
}

// admitted reports whether the guard lets an arm serve beside the safe one, the fallback. Another provider of it that stands
// in its place has the same gap to it as itself, which is none. What the operator wants its choice shared out with is as good.
func (c *Case) admitted(i, safe int) bool {
	a, fallback := &c.Candidates[i], &c.Candidates[safe]
	if i == safe || a.Weight > 0 && a.Choice != 0 && a.Choice == fallback.Choice {
		return true
	}
	// The conversion keeps the compiler from fusing the two steps, which would round differently elsewhere.
	lower := a.Gap - float64(c.Guard.Z*a.GapErr)
	// An unknown price counts as dearer. A dearer arm has to be better, or faster where time is what is asked for.
	if c.LatencyFirst || a.Priced && fallback.Priced && a.CostUSD <= fallback.CostUSD {
		return lower >= -c.Guard.Tolerance
	}
	return lower > 0
}

// restoreReference lets the reference arm (for a plain floor the fallback) serve where the floor left nothing.
func (c *Case) restoreReference() {
	for i := range c.Candidates {
		if c.Candidates[i].Filter == Eligible {
			return
		}
	}
	i := c.Reference
	if i < 0 {
		i = c.Fallback
	}
	if i >= 0 && c.Candidates[i].Filter == QualityFloor {
		c.Candidates[i].Filter = Eligible
		c.FloorReference = true
	}
}
