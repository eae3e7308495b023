package trainer

import (
	"math"

	"github.com/tradewind-llm/tradewind/datasets"
)

// means are every arm's mean score and mean cost in dollars (NaN where unknown).
func means(t *datasets.Table) (score, cost []float64) {
	score, cost = make([]float64, len(t.Arms)), make([]float64, len(t.Arms))
	for j := range t.Arms {
		n, priced := 0.0, 0.0
		for i := range t.Prompts {
			at := t.At(i, j)
			if s := float64(t.Score[at]); s == s {
				score[j], n = score[j]+s, n+1
			}
			if c := t.Cost[at]; c != datasets.Unpriced {
				cost[j], priced = cost[j]+c.Dollars(), priced+1
			}
		}
		score[j], cost[j] = score[j]/n, cost[j]/priced
	}
	return score, cost
}

// best is the arm with the highest mean score; a tie goes to the cheaper.
func best(score, cost []float64) int {
	b := 0
	for j := range score {
		if score[j] > score[b] || score[j] == score[b] && cost[j] < cost[b] {
			b = j
		}
	}
	return b
}

// fallback is the best single arm, or the cheapest of those that are within one standard error of it on the prompts
// that both answered. The anchor is the best one, whatever it costs. A young arm is neither: its mean is luck as yet.
func fallback(t *datasets.Table, young []bool) (fallback, anchor int) {
	score, cost := means(t)
	for j := range score {
		if young[j] {
			score[j] = -1
		}
	}
	b := best(score, cost)
	f := b
	for j := range t.Arms {
		if young[j] {
			continue
		}
		n, sum, square := 0.0, 0.0, 0.0
		for i := range t.Prompts {
			if d := float64(t.Score[t.At(i, b)]) - float64(t.Score[t.At(i, j)]); d == d {
				n, sum, square = n+1, sum+d, square+d*d
			}
		}
		if n < PromptsMin {
			continue
		}
		mean := sum / n
		if cost[j] < cost[f] && mean <= math.Sqrt(max(0, square/n-mean*mean)/n) {
			f = j
		}
	}
	return f, b
}
