package trainer

import (
	"context"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
)

const (
	// beliefLambda is the ridge under which expectations are learned: small, since they have no noise.
	beliefLambda = 0.1
	// doubt is how much stronger a departure is drawn to nothing than what a table says is drawn to the mean. A head
	// departs in two parts, and twice the ridge on each is the old ridge on their sum.
	doubt = 2
)

// belief is what the routers that wrote a log expected of every arm, as a linear function of the prompt. What the scores
// of the log teach is learned as a departure from it. It is nil for a table.
type belief struct {
	mean    []float64 // of an arm; its logit is the offset
	weights []float32 // columns × arms
	logit   []float32 // prompts × arms: x·weights
}

// expect is the expected score of arm j on prompt i, moved by some logits.
func (b *belief) expect(i, j int, moved float64) float64 {
	at := i*len(b.mean) + j
	return 1 / (1 + math.Exp(-classifier.Logit(b.mean[j])-float64(b.logit[at])-moved))
}

// believe learns the belief, and from it the fallback.
func (f *fitter) believe(ctx context.Context) error {
	arms := len(f.table.Arms)
	rows := f.table.InHashOrder(StackPromptsMax)
	slices.Sort(rows)
	b := &block{narrow: f.narrow(), class: make([]int32, len(rows)), target: f.expectations(rows)}
	f.belief = &belief{}
	f.belief.mean, _ = means(f.table) // of an arm that nobody expected anything of
	for j := range arms {
		n, sum := 0.0, 0.0
		for at := j; at < len(b.target); at += arms {
			if v := float64(b.target[at]); v == v {
				n, sum = n+1, sum+v
			}
		}
		if n > 0 {
			f.belief.mean[j] = sum / n
		}
		mean := f.belief.mean[j]
		b.add(logistic, classifier.Logit(mean), max(0.01, mean*(1-mean)), beliefLambda)
	}
	var err error
	if f.belief.weights, err = f.solve(ctx, rows, b); err != nil {
		return err
	}
	f.belief.logit = f.design.product(f.belief.weights, arms)
	f.fallback = f.balanced()
	f.anchor = f.fallback
	return nil
}

// expectations are what was expected of every arm on prompts of the same clusters, NaN where nothing was. What a router of
// few scores says of a single prompt is mostly its own noise.
func (f *fitter) expectations(rows []int) []float32 {
	arms := len(f.table.Arms)
	expected := func(i, j int) float64 { return float64(f.seen.expected[i*arms+j]) }
	of := f.measure(rows, len(f.tasks.names), expected, f.tasks.weigh)
	out := make([]float32, len(rows)*arms)
	each(len(rows), func(from, to int) {
		for k := from; k < to; k++ {
			for j := range arms {
				n, sum := 0.0, 0.0
				f.tasks.weigh(rows[k], func(g int, w float64) {
					if at := g*arms + j; of.n[at] > 0 {
						n, sum = n+w, sum+w*of.sum[at]/of.n[at]
					}
				})
				out[k*arms+j] = float32(sum / n)
			}
		}
	})
	return out
}

// follow adds the belief to heads that departed from it, and sets the tables of scores. These depart from the belief and
// from what all heads have in common: a score of any arm says how hard its prompt is for the others.
func (f *fitter) follow(m *classifier.Model, rows []int, weights []float32) {
	tasks, arms := len(m.Router.Tasks), len(m.Router.Arms)
	outputs := len(weights) / f.design.cols
	shared := make([]float32, f.design.cols)
	for c := range shared {
		heads := weights[c*outputs+tasks : c*outputs+tasks+arms]
		sum := 0.0
		for j := range heads {
			sum += float64(heads[j])
			heads[j] += f.belief.weights[c*arms+j]
		}
		shared[c] = float32(common(sum, arms))
	}
	ease := f.design.product(shared, 1)
	f.scores(&m.Tables, rows, func(i, j int) float64 { return f.belief.expect(i, j, float64(ease[i])) })
}

// departure is the mean score of every group and arm with its sampling variance: what was expected, and beyond it what
// the scores say, drawn to nothing by prior pseudo-counts.
func (f *fitter) departure(rows []int, groups int, weigh func(i int, add func(int, float64)), prior float64, expected func(i, j int) float64) (mean, variance classifier.Table) {
	arms := len(f.table.Arms)
	level := f.measure(rows, groups, expected, weigh)
	beyond := f.measure(rows, groups, func(i, j int) float64 { return float64(f.table.Score[i*arms+j]) - expected(i, j) }, weigh)
	mean, variance = beyond.shrunk(prior)
	for at := range mean.Data {
		base, _, _ := level.total(at % arms) // for a group that nobody is in
		if level.n[at] > 0 {
			base = level.sum[at] / level.n[at]
		}
		mean.Data[at] = base + beyond.sum[at]/(beyond.n[at]+prior)
	}
	return mean, variance
}

// product is x·weights of every prompt, for n outputs.
func (d *design) product(weights []float32, n int) []float32 {
	out := make([]float32, d.rows()*n)
	each(d.rows(), func(from, to int) {
		for i := from; i < to; i++ {
			for k := d.start[i]; k < d.start[i+1]; k++ {
				c := int(d.col[k])
				axpy(d.val[k], weights[c*n:(c+1)*n], out[i*n:(i+1)*n])
			}
		}
	})
	return out
}
