package trainer

import "github.com/tradewind-llm/tradewind/classifier"

// predictors of a score are stacked: tables, heads, lengths.
const predictors = 3

// apart builds the normal equations of "score − mean" for a log, as normal does for a table. One score of a prompt
// cannot be centred. So what the predictors say is taken apart, into how an arm differs from the others and what all
// arms have in common, each with weights of its own; the first are those that decide.
func (h *heldOut) apart(parts []classifier.Parts, _ bool) ([][]float64, []float64) {
	const p = 2 * predictors
	arms := len(h.f.table.Arms)
	acc := sum(len(h.rows), p*(p+1), func(acc []float64, from, to int) {
		deviation := make([][predictors]float64, arms)
		for k := from; k < to; k++ {
			mean, q := h.models[h.fold[k]].Tables.Mean.Data, &parts[k]
			var centre [predictors]float64
			for j := range arms {
				deviation[j] = [predictors]float64{q.Task[j] - mean[j], q.Head[j] - mean[j], q.Length[j] - mean[j]}
				for c, v := range deviation[j] {
					centre[c] += v / float64(arms)
				}
			}
			for j := range arms {
				score := float64(h.f.table.Score[h.rows[k]*arms+j])
				if score != score {
					continue
				}
				row := [p + 1]float64{p: score - mean[j]}
				for c, v := range deviation[j] {
					row[c], row[predictors+c] = v-centre[c], centre[c]
				}
				for a := range p {
					for b, v := range row {
						acc[a*(p+1)+b] += h.f.seen.weigh(h.rows[k], j) * row[a] * v
					}
				}
			}
		}
	})
	return h.halve(equations(acc, p))
}

// halved are the normal equations of a log with nothing taken apart.
func (h *heldOut) halved(parts []classifier.Parts, _ bool) ([][]float64, []float64) {
	return h.halve(h.normal(parts, false))
}

// halve draws every three weights to half the tables and half the heads, as PriorStrength scores that say so would:
// few scores say little of weights.
func (h *heldOut) halve(a [][]float64, b []float64) ([][]float64, []float64) {
	scores := 0.0
	for _, i := range h.rows {
		for j := range h.f.table.Arms {
			if h.f.table.Observed(i, j) {
				scores += h.f.seen.weigh(i, j)
			}
		}
	}
	for from := 0; from < len(b); from += predictors {
		trace := 0.0
		for r := from; r < from+predictors; r++ {
			trace += a[r][r]
		}
		strength := trace / predictors / max(1, scores) * PriorStrength
		for r := from; r < from+predictors; r++ {
			a[r][r] += strength
		}
		b[from] += strength / 2
		b[from+1] += strength / 2
	}
	return a, b
}
