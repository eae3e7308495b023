package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Pair is how a router fares between two arms, a strong and a weak one: RouteLLM's measures.
type Pair struct {
	// PGR[j] is the share of the gap between the arms that is recovered when the j tenths of the prompts with the highest
	// predicted gain go to the strong arm.
	PGR [11]float64
	// APGR is the area under PGR (random 0.5; an oracle may exceed 1). CPT50 and CPT80 are the shares of prompts sent to
	// the strong arm that recover 50 and 80 % of the gap.
	APGR, CPT50, CPT80 float64
}

// NewPair ranks the prompts by the predicted gain of arm strong over arm weak, ties by prompt id. It is an error if the
// strong arm is not the better one. p must be in the matrix's order.
func NewPair(m *Matrix, p *Predictions, strong, weak int) (*Pair, error) {
	n, width := m.N(), len(m.Arms)
	gain := func(of []float64, i int) float64 { return of[i*width+strong] - of[i*width+weak] }
	order := make([]int, n)
	total := 0.0
	for i := range order {
		order[i] = i
		total += gain(m.Score, i)
	}
	if !(total > 0) {
		return nil, fmt.Errorf("bench: %s is not better than %s on these prompts", m.Arms[strong], m.Arms[weak])
	}
	slices.SortFunc(order, func(a, b int) int {
		if by := cmp.Compare(gain(p.Score, b), gain(p.Score, a)); by != 0 {
			return by
		}
		return cmp.Compare(m.IDs[a], m.IDs[b])
	})
	out := &Pair{}
	sum, done := 0.0, 0
	for j := 1; j <= 10; j++ {
		for to := int(math.RoundToEven(float64(j) * float64(n) / 10)); done < to; done++ {
			sum += gain(m.Score, order[done])
		}
		out.PGR[j] = sum / total
		out.APGR += 0.1 * (out.PGR[j-1] + out.PGR[j]) / 2
	}
	out.CPT50, out.CPT80 = out.cpt(0.5), out.cpt(0.8)
	return out, nil
}

// cpt is the smallest share of prompts whose PGR reaches x, linear between the eleven points.
func (p *Pair) cpt(x float64) float64 {
	for j := 1; j < len(p.PGR); j++ {
		if a, b := p.PGR[j-1], p.PGR[j]; b >= x {
			return (float64(j-1) + (x-a)/(b-a)) / 10
		}
	}
	return math.NaN()
}
