package trainer

import (
	"gonum.org/v1/gonum/floats"

	"github.com/tradewind-llm/tradewind/classifier"
)

// noveltyPromptsMin is the least number of held-out prompts that say what entropy is usual in a task. Tasks of fewer are
// taken to be like all prompts together.
const noveltyPromptsMin = 20

// entropies says how unclear the task of held-out prompts is, by the likeliest one. That is what live prompts are compared
// with: where theirs is less clear than this, they are none of these tasks.
func entropies(parts []classifier.Parts, tasks int) []classifier.TaskEntropy {
	out := make([]classifier.TaskEntropy, tasks)
	var pooled classifier.TaskEntropy
	visit := func(add func(t *classifier.TaskEntropy, h float64)) {
		for k := range parts {
			h := classifier.Entropy(parts[k].Posterior)
			add(&out[floats.MaxIdx(parts[k].Posterior)], h)
			add(&pooled, h)
		}
	}
	visit(func(t *classifier.TaskEntropy, h float64) { t.Count, t.Mean = t.Count+1, t.Mean+h })
	for k := range out {
		out[k].Mean /= float64(max(out[k].Count, 1))
	}
	pooled.Mean /= float64(max(pooled.Count, 1))
	visit(func(t *classifier.TaskEntropy, h float64) {
		t.Variance += (h - t.Mean) * (h - t.Mean) / float64(t.Count)
	})
	for k := range out {
		if out[k].Count < noveltyPromptsMin {
			out[k].Mean, out[k].Variance = pooled.Mean, pooled.Variance
		}
	}
	return out
}
