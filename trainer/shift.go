package trainer

import (
	"math"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/evals/bench"
)

// shiftTasksMin is the least number of tasks that unseen ones can be simulated with.
const shiftTasksMin = 3

// unseen says what the task mix would gain on tasks that it does not know, in score at λ = 0 over the best single arm of the
// tasks that it knows. It is simulated on held-out prompts: each is estimated as if its own task were unknown, from the
// posterior over the other tasks and their tables alone. The error treats each task as one observation, since what an
// unseen task is like does not average out over its prompts. Without named tasks nothing can be left out, and ok is false.
func (h *heldOut) unseen(temperature, weight float64, parts []classifier.Parts) (gain, err float64, ok bool) {
	tasks, arms := h.f.tasks, len(h.f.table.Arms)
	if tasks.clusters || len(tasks.names) < shiftTasksMin {
		return 0, 0, false
	}
	others := h.others()
	n, sum := make([]float64, len(tasks.names)), make([]float64, len(tasks.names))
	logits, posterior, score := make([]float64, len(tasks.names)), make([]float64, len(tasks.names)), make([]float64, arms)
	for k, i := range h.rows {
		class := tasks.class[i]
		if class < 0 {
			continue
		}
		copy(logits, parts[k].Logits)
		logits[class] = math.Inf(-1)
		classifier.Softmax(posterior, logits, temperature)
		mean, table := others[h.fold[k]][class], &h.models[h.fold[k]].Tables.Task
		for j := range score {
			mix := 0.0
			for c, p := range posterior {
				mix += p * table.Row(c)[j]
			}
			score[j] = mean[j] + weight*(mix-mean[j])
		}
		from, to := bench.Choose(mean, nil, 0), bench.Choose(score, nil, 0)
		if from < 0 || to < 0 {
			continue
		}
		if d := float64(h.f.table.Score[i*arms+to] - h.f.table.Score[i*arms+from]); d == d {
			n[class], sum[class] = n[class]+1, sum[class]+d
		}
	}
	return clustered(n, sum)
}

// clustered is the mean over prompts of sums by task, with the error that comes from the differences between tasks.
func clustered(n, sum []float64) (mean, err float64, ok bool) {
	total, groups, square := 0.0, 0.0, 0.0
	for k := range n {
		mean, total = mean+sum[k], total+n[k]
		if n[k] > 0 {
			groups++
		}
	}
	if groups < shiftTasksMin {
		return 0, 0, false
	}
	mean /= total
	for k := range n {
		d := sum[k] - mean*n[k]
		square += d * d
	}
	return mean, math.Sqrt(square*groups/(groups-1)) / total, true
}

// others is, for each inner fold and each task, the arms' mean scores over the other tasks.
func (h *heldOut) others() [][][]float64 {
	share := h.f.tasks.share(h.rows)
	out := make([][][]float64, len(h.models))
	for n, m := range h.models {
		for left := range share {
			mean := make([]float64, len(h.f.table.Arms))
			for k, w := range share {
				for j := range mean {
					if k != left {
						mean[j] += w / (1 - share[left]) * m.Tables.Task.Row(k)[j]
					}
				}
			}
			out[n] = append(out[n], mean)
		}
	}
	return out
}
