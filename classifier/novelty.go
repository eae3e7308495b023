package classifier

import (
	"fmt"
	"math"
	"sync/atomic"
)

const (
	// NoveltyWindow is the number of prompts that novelty is judged on at a time: of one prompt it says next to nothing.
	NoveltyWindow = 500
	// NoveltyAlarm is the z of a window above which its prompts are taken to be unlike those of training.
	NoveltyAlarm = 3

	// noveltyLimit clips the residual of one prompt, so that a few odd ones do not decide for five hundred.
	noveltyLimit = 64
	// noveltyErrMin is the least standard deviation that an entropy is divided by.
	noveltyErrMin = 0.01
	// noveltyUnit is one in the integer sums of a Window, and countShift where its count of prompts begins.
	noveltyUnit = 1 << 32
	countShift  = 48
)

// TaskEntropy says how unclear the task of held-out prompts was in training: of those whose likeliest task was this one,
// the mean and the variance of the entropy of the posterior over tasks, in nats.
type TaskEntropy struct {
	Mean     float64 `json:"mean"`
	Variance float64 `json:"variance"`
	Count    int     `json:"count"`
}

// Entropy is that of a distribution, in nats.
func Entropy(p []float64) float64 {
	h := 0.0
	for _, x := range p {
		if x > 0 {
			h -= x * math.Log(x)
		}
	}
	return h
}

// novelty is how many standard deviations less clear a prompt's task is than those of its likeliest task were in training;
// 0 where training kept no reference.
func (c *Classifier) novelty(posterior []float64, likeliest int) float64 {
	reference := c.model.Router.Novelty
	if len(reference) == 0 {
		return 0
	}
	task := &reference[likeliest]
	z := (Entropy(posterior) - task.Mean) / max(math.Sqrt(task.Variance), noveltyErrMin)
	return max(-noveltyLimit, min(noveltyLimit, z))
}

// NoveltySamples is the number of held-out prompts that Estimates.Novelty is measured against; 0 where training kept no
// reference, and it says nothing.
func (c *Classifier) NoveltySamples() (n int) {
	for _, t := range c.model.Router.Novelty {
		n += t.Count
	}
	return n
}

func (r *Router) validateNovelty() error {
	if n := len(r.Novelty); n != 0 && n != len(r.Tasks) {
		return fmt.Errorf("the entropies of %d tasks, want %d or none", n, len(r.Tasks))
	}
	for k, t := range r.Novelty {
		if !inside([]float64{t.Mean, t.Variance}, 0, 1e3) || t.Count < 0 || t.Count > 1e9 {
			return fmt.Errorf("the entropy of task %d is out of range", k)
		}
	}
	return nil
}

// Window sums the novelty of NoveltyWindow prompts. Its zero value is ready and its methods may be called from any
// goroutine: count and sum share one word, so that no lock is needed and every prompt counts in one window. The sums are
// of integers, hence the same in any order.
type Window struct{ word atomic.Uint64 }

// Add counts one prompt. It returns true for the one that fills the window, with the mean of it, and begins the next.
func (w *Window) Add(novelty float64) (mean float64, full bool) {
	lifted := uint64((max(-noveltyLimit, min(noveltyLimit, novelty)) + noveltyLimit) * noveltyUnit) // never below 0
	for {
		before := w.word.Load()
		after := before + 1<<countShift + lifted
		full = after>>countShift == NoveltyWindow
		if full {
			mean = float64(after&(1<<countShift-1))/(NoveltyWindow*noveltyUnit) - noveltyLimit
			after = 0
		}
		if w.word.CompareAndSwap(before, after) {
			return mean, full
		}
	}
}

// NoveltyZ is the mean novelty of a window in standard errors. The reference is a sample too.
func NoveltyZ(mean float64, samples int) float64 {
	return mean / math.Sqrt(1.0/NoveltyWindow+1/float64(max(samples, 1)))
}

// Mix counts prompts by their likeliest task. Its methods may be called from any goroutine.
type Mix struct{ counts []atomic.Uint32 }

// NewMix makes one of the classifier's tasks.
func (c *Classifier) NewMix() *Mix {
	return &Mix{counts: make([]atomic.Uint32, len(c.model.Router.Tasks))}
}

// Add counts a prompt whose estimates said that its likeliest task is this one.
func (m *Mix) Add(task int) { m.counts[task].Add(1) }

// Drift compares the prompts counted in a mix with the held-out ones of training, and empties it. It is the population
// stability index, the sum of (p − q)·ln(p/q) over the tasks, with half a prompt added to each: by the usual reading the mixes
// are alike below 0.1, and different from 0.25 on. Chance alone makes about (tasks − 1)·(1/prompts + 1/NoveltySamples) of it.
func (c *Classifier) Drift(m *Mix) (psi float64) {
	live := make([]float64, len(m.counts))
	total := 0.0
	for k := range m.counts {
		live[k] = float64(m.counts[k].Swap(0)) + 0.5
		total += live[k]
	}
	trained := float64(c.NoveltySamples()) + 0.5*float64(len(live))
	for k, n := range live {
		p, q := n/total, (float64(c.model.Router.Novelty[k].Count)+0.5)/trained
		psi += (p - q) * math.Log(p/q)
	}
	return psi
}
