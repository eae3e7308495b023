package trainer

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
)

// TestApart shows one arm of every prompt. The heads know how hard a prompt is and nothing of which arm is better on it,
// the tables know that alone: they must get the weight that decides. On the score as it is the heads get one, too.
func TestApart(t *testing.T) {
	const n, arms = 8000, 4
	rng := rand.New(rand.NewPCG(5, 5))
	table := datasets.NewTable(world(t, simulate.Options{Arms: arms}).ArmIDs(), n)
	mean := []float64{0.3, 0.4, 0.5, 0.6}
	h := &heldOut{f: &fitter{table: table, seen: &evidence{own: make([]bool, n)}}, rows: all(n), fold: make([]int, n), models: []*classifier.Model{{}}}
	h.models[0].Tables.Mean = rowOf(mean)
	parts := make([]classifier.Parts, n)
	for i := range parts {
		h.f.seen.own[i] = true
		hard, seen := 0.1*rng.NormFloat64(), rng.IntN(arms)
		q := classifier.Parts{Length: slices.Clone(mean)}
		for j := range arms {
			better := 0.1 * rng.NormFloat64()
			q.Task, q.Head = append(q.Task, mean[j]+better), append(q.Head, mean[j]+hard+0.1*rng.NormFloat64())
			if j == seen {
				table.Score[table.At(i, j)] = float32(mean[j] + better + hard + 0.2*rng.NormFloat64())
			}
		}
		parts[i] = q
	}
	w := nonNegative(h.apart(parts, true))
	if w[0] < 0.85 || w[0] > 1.1 || w[1] > 0.1 {
		t.Errorf("got weights %.2f that decide, want about 1 on the tables alone", w[:predictors])
	}
	if raw := nonNegative(h.halved(parts, false)); raw[1] < 0.4 {
		t.Errorf("got weights %.2f of the score as it is, want the heads among them", raw)
	}
}
