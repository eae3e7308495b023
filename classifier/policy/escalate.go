package policy

import "slices"

// Lift is the chance that an arm of score next is right where one of score failed was found wrong, as far as two scores
// tell: it lies between their chances if nothing bound the two (next itself) and if everything did, so that whatever the
// worse arm can do the better can too ((next − failed)/(1 − failed), and 0 below). It is the middle of both: arms fail on
// the same prompts more often than chance has it, and less often than their order.
func Lift(failed, next float64) float64 {
	failed, next = min(max(failed, 0), 1), min(max(next, 0), 1)
	bound := 0.0
	if next > failed {
		bound = (next - failed) / (1 - failed)
	}
	return (next + bound) / 2
}

// Escalate is the arm to ask once the answers of those in asked were found wrong: the one whose lift over the best of them
// is worth most beyond its cost at the price lambda of a dollar. It is -1 where no arm's lift is worth its cost. What was
// spent before is spent: it counts against caps, not here. arm gives the i-th of n arms, ok where it may be asked.
func Escalate(n int, asked []int, lambda float64, arm func(i int) (score, costUSD float64, ok bool)) int {
	failed := 0.0
	for _, i := range asked {
		score, _, _ := arm(i)
		failed = max(failed, score)
	}
	best, most := -1, 0.0
	for i := range n {
		score, cost, ok := arm(i)
		if !ok || slices.Contains(asked, i) {
			continue
		}
		if worth := Lift(failed, score) - float64(lambda*cost); worth > most {
			best, most = i, worth
		}
	}
	return best
}

// Escalate is the candidate of the case to ask next, of those that may be asked; see the function Escalate. Beside the
// eligible arms those are that the guard held back, for it vouches for a first answer and that was wrong, and those that
// an order put behind the first. An arm of which nothing was measured is not compared with one of which something was.
func (c *Case) Escalate(asked []int, lambda float64, may func(i int) bool) int {
	return Escalate(len(c.Candidates), asked, lambda, func(i int) (float64, float64, bool) {
		a := &c.Candidates[i]
		ok := (a.Filter == Eligible || a.Filter == Guarded || a.Filter == Ordered) && (a.Priced || lambda == 0) && a.Prior == c.Candidates[asked[0]].Prior
		return a.Score, a.CostUSD, ok && may(i)
	})
}
