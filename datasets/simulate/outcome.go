package simulate

import (
	"math"
	"math/rand/v2"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

const (
	// hiddenSpread is the standard deviation of the difficulty that no text shows, where levels span 0 to 1.
	hiddenSpread = 0.35
	// taskSpread and armSpread are the standard deviations of the log of an answer's length: what the arms share on
	// a task, and what each draws for itself. rateSpread is that of the speed.
	taskSpread, armSpread, rateSpread = 0.25, 0.3, 0.2
	// tokenBytes and wrapTokens make input tokens of bytes.
	tokenBytes, wrapTokens = 4, 7
)

// Outcome is what one arm made of one task.
type Outcome struct {
	// Score lies in [0,1]; its expectation is Quality.
	Score        float64
	InputTokens  int32
	OutputTokens int32
	Cost         catalog.Nanodollars
	// LatencyMS is the time to the last token, in tenths of a millisecond.
	LatencyMS float64
}

// Quality is the true expected score of an arm on a task, hidden difficulty included.
func (w *World) Quality(t *Task, arm int) float64 {
	return w.profile(t, arm).quality(t.family, t.Difficulty)
}

// Expected is the expected score of an arm on a task given what the text shows, family and level: what a perfect
// estimator of quality would say.
func (w *World) Expected(t *Task, arm int) float64 {
	return w.profile(t, arm).expected[t.family][t.Level]
}

// ExpectedTokens is the expected number of output tokens given what the text shows, but for rounding.
func (w *World) ExpectedTokens(t *Task, arm int) float64 {
	const mean = (taskSpread*taskSpread + armSpread*armSpread) / 2
	return w.profile(t, arm).tokens(t) * math.Exp(mean)
}

// Best is the arm of the highest Expected, the first of equals: the best that a policy on features can choose.
func (w *World) Best(t *Task) int {
	best := 0
	for a := range w.arms {
		if w.Expected(t, a) > w.Expected(t, best) {
			best = a
		}
	}
	return best
}

// Outcome draws what an arm makes of a task: the same for the same seed, task and arm.
func (w *World) Outcome(t *Task, arm int) Outcome {
	r := source(uint64(w.options.Seed), uint64(t.Index), uint64(arm)+1)
	p := w.profile(t, arm)
	o := Outcome{Score: score(r, families[t.family].parts, p.quality(t.family, t.Difficulty))}
	o.InputTokens = int32((len(t.Text)+tokenBytes-1)/tokenBytes + wrapTokens)
	tokens := math.Round(p.tokens(t) * math.Exp(taskSpread*t.talkable+armSpread*r.NormFloat64()))
	o.OutputTokens = int32(min(max(tokens, 1), float64(w.arms[arm].MaxOutputTokens)))
	speed := p.rate * math.Exp(rateSpread*r.NormFloat64())
	o.LatencyMS = math.Round(10*(p.first+1000*float64(o.OutputTokens)/speed)) / 10
	cost, err := w.arms[arm].Prices.Cost(catalog.Usage{Input: int64(o.InputTokens), Output: int64(o.OutputTokens)})
	if err != nil {
		panic(err) // tokens and prices of a world are far from any limit
	}
	o.Cost = cost
	return o
}

// score draws how many of the parts came out right, as a share.
func score(r *rand.Rand, parts int, quality float64) float64 {
	right := 0
	for range parts {
		if r.Float64() < quality {
			right++
		}
	}
	return float64(right) / float64(parts)
}

// profile is the truth about an arm at the time of a task.
func (w *World) profile(t *Task, arm int) *profile {
	if arm == 2 && w.options.DriftFrom > 0 && t.Index >= w.options.DriftFrom {
		arm = len(w.arms)
	}
	return &w.profiles[arm]
}

func (p *profile) quality(family int, difficulty float64) float64 {
	return sigmoid(p.skill[family] - p.steep*(difficulty-0.5))
}

// tokens is the median length of an answer, given what the text shows.
func (p *profile) tokens(t *Task) float64 {
	return families[t.family].tokens * p.verbosity * (0.6 + 0.8*visible(t.Level))
}

// average fills expected: the mean over the normal distribution of the hidden difficulty, by the trapezoidal rule
// over ±5 standard deviations, which is exact to far more digits than any test here needs.
func (p *profile) average() {
	const half, step = 20, 0.25
	for f := range families {
		for level := range Levels {
			var sum, weight float64
			for k := -half; k <= half; k++ {
				z := float64(k) * step
				density := math.Exp(-z * z / 2)
				sum += density * p.quality(f, visible(level)+hiddenSpread*z)
				weight += density
			}
			p.expected[f][level] = sum / weight
		}
	}
}
