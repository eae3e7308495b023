package policy

import "math"

// Certify reports whether routing is shown, at confidence 1 − delta, to keep at least the share t of the fallback's
// mean quality on traffic exchangeable with these rows. safe[i] is the fallback's score on row i and routed[i] that of
// the arm that the configuration chose there, both in [0,1]. The rows must not have been used for fitting and must
// stand in random order. It is a statement about the mean and never about one request.
//
// The test bets against H0 "E[t·S − Q] ≥ 0", which is E[x] ≥ m0 for x = (t·S − Q + 1)/(1 + t): its capital
//
//	K_i = Π_{j≤i} (1 + g_j·(m0 − x_j)),  g_j = min(√(2·ln(1/δ)/(n·v_{j−1})), 0.75/(1 − m0))
//
// is a supermartingale under H0, so it ever reaches 1/δ with probability at most δ (Ville). The bets g use the running
// variance v of earlier rows only (Waudby-Smith and Ramdas 2023, "Estimating means of bounded random variables by
// betting"). Among several configurations, test from the safest and stop at the first that fails: no correction for
// multiplicity is then needed.
//
// Anything that is not a number in [0,1], t outside (0,1], delta outside (0,1) or slices of unequal length certify
// nothing.
func Certify(safe, routed []float64, t, delta float64) bool {
	if len(safe) != len(routed) || !(t > 0 && t <= 1) || !(delta > 0 && delta < 1) || !scores(safe) || !scores(routed) {
		return false
	}
	n := float64(len(safe))
	m0 := 1 / (1 + t)
	most := 0.75 / (1 - m0)
	scale := 2 * math.Log(1/delta) / n
	capital := 1.0
	sum, squares, v := 0.5, 0.25, 0.25
	for i := range safe {
		x := (t*safe[i] - routed[i] + 1) / (1 + t)
		capital *= 1 + min(math.Sqrt(scale/v), most)*(m0-x)
		if capital >= 1/delta {
			return true
		}
		seen := float64(i) + 2
		sum += x
		mean := sum / seen
		squares += (x - mean) * (x - mean)
		v = squares / seen
	}
	return false
}

func scores(xs []float64) bool {
	for _, x := range xs {
		if !(x >= 0 && x <= 1) {
			return false
		}
	}
	return true
}
