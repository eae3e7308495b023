package policy

import "math"

// Objective is what arm i is worth in this case: its score less what its expected cost would buy elsewhere, in units
// of quality, and with what the conversation would lose by leaving. An arm without a price is worth its score; Constrain
// lets it compete only where cost does not count.
func Objective(c *Case, i int) float64 {
	a := &c.Candidates[i]
	worth := a.Score
	if a.Priced {
		// The conversion forbids a fused multiply-add: a logged case must give the same bits wherever it is replayed.
		worth -= float64(c.Lambda * a.CostUSD)
	}
	if a.Sticky { // a bonus and not the others' loss: taken from all of them it would round their differences away
		worth += c.Session.Margin + float64(max(c.Lambda, c.Session.Lambda)*c.Session.SwitchUSD)
	}
	return worth
}

// Router is the policy that serves: the best objective, mixed with a uniform choice where the round may explore. A
// conversation that stays with its arm does not explore: the draw that opened it was its exploration.
type Router struct{}

// Propose gives the best eligible candidate 1 − ε + ε/K and each of the other K − 1 ε/K. With nothing to explore
// (Explore off, ε = 0, one arm left, a pin, a session that stays) the best has 1. What the best has beyond ε/K is shared out
// among the candidates of its choice where these have weights.
func (Router) Propose(dst *Distribution, c *Case) {
	k := dst.reset(c)
	if k == 0 {
		return
	}
	epsilon := dst.exploration(c, k)
	share := epsilon / float64(k)
	for i := range dst.P {
		if c.Candidates[i].Filter == Eligible {
			dst.P[i] = share
		}
	}
	if !dst.shareOut(c, 1-epsilon) {
		dst.P[dst.Best] = 1 - epsilon + share
	}
}

// shareOut gives what is the best candidate's to all of its choice, by their weights, and reports whether any has one: to
// whoever asks they are one, and the operator says how much of it each is to get. A conversation stays where it is.
func (d *Distribution) shareOut(c *Case, mass float64) bool {
	best := &c.Candidates[d.Best]
	if best.Choice == 0 || best.Sticky {
		return false
	}
	total, most := 0.0, d.Best
	for i := range c.Candidates {
		if w := c.weight(i, best.Choice); w > 0 {
			total += w
			if w > c.weight(most, best.Choice) {
				most = i
			}
		}
	}
	if total == 0 {
		return false
	}
	for i := range c.Candidates {
		// The conversion forbids a fused multiply-add, as in Objective.
		d.P[i] += float64(mass * (c.weight(i, best.Choice) / total))
	}
	d.Best = most
	return true
}

// weight is that of a candidate which may be drawn for a choice, else 0.
func (c *Case) weight(i, choice int) float64 {
	if a := &c.Candidates[i]; a.Filter == Eligible && a.Choice == choice {
		return a.Weight
	}
	return 0
}

// Explores reports whether to draw candidate i is to explore: it is neither the best nor drawn in its place for its weight.
func (d *Distribution) Explores(c *Case, i int) bool {
	choice := c.Candidates[d.Best].Choice
	return i != d.Best && !(choice != 0 && c.weight(i, choice) > 0)
}

// InverseGap is the policy of SquareCB (Foster and Rakhlin 2020, "Beyond UCB"): where the round may explore, an arm
// is drawn the more often the closer its objective is to the best one, 1/(K + Gamma·gap), mixed with ε uniform.
type InverseGap struct {
	// Gamma grows as the square root of the rounds learned from; 0 explores uniformly.
	Gamma float64
}

// Propose implements Policy.
func (p InverseGap) Propose(dst *Distribution, c *Case) {
	k := dst.reset(c)
	if k == 0 {
		return
	}
	epsilon := dst.exploration(c, k)
	if epsilon == 0 {
		dst.P[dst.Best] = 1
		return
	}
	best, rest := Objective(c, dst.Best), 1.0
	for i := range dst.P {
		if i == dst.Best || c.Candidates[i].Filter != Eligible {
			continue
		}
		gap := max(0, best-Objective(c, i)) // below 0 only where latency, not the objective, chose the best
		dst.P[i] = float64((1-epsilon)/(float64(k)+float64(max(0, p.Gamma)*gap))) + epsilon/float64(k)
		rest -= dst.P[i]
	}
	dst.P[dst.Best] = rest
}

// exploration returns the ε in force among k eligible arms.
func (d *Distribution) exploration(c *Case, k int) float64 {
	if !c.Explore || k < 2 || c.Pinned >= 0 || c.Candidates[d.Best].Sticky || !(c.Epsilon > 0) {
		return 0
	}
	return min(c.Epsilon, 1)
}

// reset sizes d for the case, clears it, finds the best candidate and counts the eligible ones.
func (d *Distribution) reset(c *Case) (eligible int) {
	if cap(d.P) < len(c.Candidates) {
		d.P = make([]float64, len(c.Candidates))
	}
	d.P = d.P[:len(c.Candidates)]
	clear(d.P)
	d.Best = -1
	for i := range c.Candidates {
		if c.Candidates[i].Filter != Eligible {
			continue
		}
		eligible++
		if d.Best < 0 || Better(c, i, d.Best) {
			d.Best = i
		}
	}
	return eligible
}

// Better reports whether candidate i is preferred to candidate j, which comes first in catalog order: by latency or live
// success rate where the case puts that first, then by the objective.
func Better(c *Case, i, j int) bool {
	sticky := c.Candidates[i].Sticky
	if stays := sticky || c.Candidates[j].Sticky; stays && (c.LatencyFirst || c.AvailabilityFirst) {
		return sticky // neither is measured with the cache that leaving would lose, so no gain can be told
	}
	if c.LatencyFirst {
		a, b := latency(&c.Candidates[i]), latency(&c.Candidates[j])
		if a != b {
			return a < b
		}
	}
	if c.AvailabilityFirst && c.Candidates[i].Availability != c.Candidates[j].Availability {
		return c.Candidates[i].Availability > c.Candidates[j].Availability
	}
	a, b := Objective(c, i), Objective(c, j)
	if a != b {
		return a > b || math.IsNaN(b)
	}
	if sticky || c.Candidates[j].Sticky {
		return sticky
	}
	return cost(&c.Candidates[i]) < cost(&c.Candidates[j])
}

// latency puts the unknown last.
func latency(a *Candidate) float64 {
	if a.LatencyMS > 0 {
		return a.LatencyMS
	}
	return math.Inf(1)
}

// cost puts the unknown last.
func cost(a *Candidate) float64 {
	if a.Priced {
		return a.CostUSD
	}
	return math.Inf(1)
}

// Draw returns the candidate that u in [0,1) falls on: i where u is at least the sum of the probabilities before it
// and less than that sum with its own. It never returns a candidate of probability 0, and -1 only where all are. Where
// rounding left the sum below u, the last candidate with a probability takes the rest.
func Draw(d *Distribution, u float64) (index int) {
	index = -1
	sum := 0.0
	for i, p := range d.P {
		if !(p > 0) {
			continue
		}
		index = i
		if sum += p; u < sum {
			return i
		}
	}
	return index
}
