package trainer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// NewcomersOptions say how to measure what arms are worth that are added with few scores.
type NewcomersOptions struct {
	Fit FitOptions
	// Labels is the number of scores that the arm is added with, drawn from all tasks alike; Draws how often they are drawn.
	Labels, Draws int
}

// Limits of NewcomersOptions.
const (
	newcomerLabelsMax = youngScoresMax
	newcomerDrawsMax  = 1000
)

// Validate reports options that cannot be honoured.
func (o *NewcomersOptions) Validate() error {
	if o.Labels < 2 || o.Labels > newcomerLabelsMax || o.Draws < 1 || o.Draws > newcomerDrawsMax {
		return fmt.Errorf("trainer: %d labels in %d draws, want 2 to %d and 1 to %d", o.Labels, o.Draws, newcomerLabelsMax, newcomerDrawsMax)
	}
	return nil
}

// Newcomer is what one arm adds to a router of the others. AIQ is that of the router's points and the other arms as
// constants, over the range of costs of the whole pool, so that the arm counts only where the router chooses it.
type Newcomer struct {
	Arm catalog.ArmID `json:"arm"`
	// Full is the gain in AIQ where the arm is fitted on all its scores; Gains are those of the draws.
	Full  float64   `json:"full_gain"`
	Gains []float64 `json:"gains"`
}

// Mean is the mean gain over the draws.
func (n *Newcomer) Mean() float64 {
	sum := 0.0
	for _, g := range n.Gains {
		sum += g
	}
	return sum / float64(len(n.Gains))
}

// Newcomers takes every arm out of the pool in turn and adds it again with a few of its scores, in cross-validation: the
// labels are drawn from the training folds. The other arms' estimates do not depend on the newcomer, so one fit a fold
// serves all draws; the stack's three weights, which are pooled over arms, have seen the newcomer's scores.
func Newcomers(ctx context.Context, t *datasets.Table, o NewcomersOptions) ([]Newcomer, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	fold := bench.Folds(t, FoldsDefault)
	m, err := bench.NewMatrix(t, nil, fold)
	if err != nil {
		return nil, fmt.Errorf("trainer: newcomers: %w", err)
	}
	if !m.Priced() || len(t.Arms) < 3 {
		return nil, fmt.Errorf("trainer: newcomers need three arms with known costs to be compared by")
	}
	p := newPredicted(t.Arms, len(t.Prompts))
	p.Fold, p.Fallback = fold, make([]int, FoldsDefault)
	trial := newTrial(t, o)
	for n := range FoldsDefault {
		o.Fit.progress("folds", n, FoldsDefault)
		if err := trial.fold(ctx, p, n); err != nil {
			return nil, fmt.Errorf("trainer: newcomers: fold %d of %d: %w", n+1, FoldsDefault, err)
		}
	}
	o.Fit.progress("folds", FoldsDefault, FoldsDefault)
	return trial.judge(m, p)
}

// trial gathers what the draws predict: for each arm and draw one column of scores and one of costs over all prompts.
type trial struct {
	t           *datasets.Table
	o           NewcomersOptions
	score, cost [][]float64
}

func newTrial(t *datasets.Table, o NewcomersOptions) *trial {
	r := &trial{t: t, o: o, score: make([][]float64, len(t.Arms)*o.Draws), cost: make([][]float64, len(t.Arms)*o.Draws)}
	for k := range r.score {
		r.score[k], r.cost[k] = make([]float64, len(t.Prompts)), make([]float64, len(t.Prompts))
	}
	return r
}

// fold trains without fold n, predicts it with all arms, and then with each arm made young again, draw by draw.
func (r *trial) fold(ctx context.Context, p *predicted, n int) error {
	var train, test []int
	for i, f := range p.Fold {
		if f == n {
			test = append(test, i)
		} else {
			train = append(train, i)
		}
	}
	o := r.o.Fit
	o.Progress = nil
	seen := r.t.Subset(train)
	f, m, _, err := fit(ctx, seen, o)
	if err != nil {
		return err
	}
	if !slices.Equal(m.Router.Arms, r.t.Arms) {
		return fmt.Errorf("%w: an arm has no score", ErrTooSmall)
	}
	c, err := classifier.New(m)
	if err != nil {
		return err
	}
	p.Fallback[n] = c.Fallback()
	costs := newPrices(seen)
	contexts := make([]features.Context, len(test))
	for k, i := range test {
		if err := read(&contexts[k], c.Extractor(), &r.t.Prompts[i]); err != nil {
			return err
		}
	}
	fill(ctx, p, r.t, test, c, all(len(r.t.Arms)), costs)
	for j := range r.t.Arms {
		for d := range r.o.Draws {
			if err := ctx.Err(); err != nil {
				return err
			}
			c, err := f.rejuvenate(m, j, r.draw(f, n, j, d))
			if err != nil {
				return err
			}
			r.predict(j*r.o.Draws+d, j, test, contexts, c, costs)
		}
	}
	return nil
}

// draw picks the labels: one prompt of each task in turn, in random order.
func (r *trial) draw(f *fitter, fold, arm, draw int) []int {
	rng := rand.New(rand.NewPCG(uint64(r.o.Fit.Seed), uint64(fold)<<40|uint64(arm)<<20|uint64(draw)))
	task := make([][]int, len(f.tasks.names)+1)
	for _, i := range rng.Perm(len(f.table.Prompts)) {
		if f.table.Observed(i, arm) {
			task[f.tasks.class[i]+1] = append(task[f.tasks.class[i]+1], i)
		}
	}
	var labels []int
	for round := 0; ; round++ {
		before := len(labels)
		for _, prompts := range task {
			if round < len(prompts) && len(labels) < r.o.Labels {
				labels = append(labels, prompts[round])
			}
		}
		if len(labels) == before {
			return labels
		}
	}
}

// rejuvenate is the classifier of a model that knows arm j from the given labels alone.
func (f *fitter) rejuvenate(m *classifier.Model, j int, labels []int) (*classifier.Classifier, error) {
	young := *f
	young.young = make([]bool, len(f.young))
	young.young[j] = true
	clone := m.Clone()
	young.borrow(clone, j, labels)
	t := &clone.Tables
	young.lend(j, t.PlattA.Data, t.PlattB.Data, t.Smear.Data, t.Upper.Data)
	return classifier.New(clone)
}

func (r *trial) predict(column, j int, test []int, contexts []features.Context, c *classifier.Classifier, costs *prices) {
	each(len(test), func(from, to int) {
		var e policy.Estimates
		cost := make([]float64, len(r.t.Arms))
		for k := from; k < to; k++ {
			c.Estimate(&e, &contexts[k])
			costs.forecast(cost, r.t, test[k], contexts[k].Tokens, e.OutputTokens)
			r.score[column][test[k]], r.cost[column][test[k]] = e.Score[j], cost[j]
		}
	})
}

// judge compares the curves of routers without an arm, with all its scores, and with few.
func (r *trial) judge(m *bench.Matrix, p *predicted) ([]Newcomer, error) {
	constants := m.Constants(nil)
	from, to := bench.CostRange(constants)
	arms := len(r.t.Arms)
	out := make([]Newcomer, arms)
	for j := range out {
		others := slices.Delete(slices.Clone(constants), j, j+1)
		aiq := func(score, cost []float64) (float64, error) {
			q := p.Predictions
			q.Score, q.CostUSD = slices.Clone(p.Score), slices.Clone(p.CostUSD)
			for i := range r.t.Prompts {
				q.Score[i*arms+j], q.CostUSD[i*arms+j] = score[i], cost[i]
			}
			aligned, err := m.Align(&q)
			if err != nil {
				return 0, err
			}
			trace, err := bench.NewTrace(m, aligned)
			if err != nil {
				return 0, err
			}
			return bench.NewHull(trace.Curve(nil), others).AIQ(from, to), nil
		}
		column := func(cells []float64) []float64 {
			v := make([]float64, len(r.t.Prompts))
			for i := range v {
				v[i] = cells[i*arms+j]
			}
			return v
		}
		full, err := aiq(column(p.Score), column(p.CostUSD))
		if err != nil {
			return nil, err
		}
		base, err := aiq(nothing(len(r.t.Prompts)), column(p.CostUSD))
		if err != nil {
			return nil, err
		}
		out[j] = Newcomer{Arm: r.t.Arms[j], Full: full - base}
		for d := range r.o.Draws {
			got, err := aiq(r.score[j*r.o.Draws+d], r.cost[j*r.o.Draws+d])
			if err != nil {
				return nil, err
			}
			out[j].Gains = append(out[j].Gains, got-base)
		}
	}
	return out, nil
}

// nothing is a column of n unknowns.
func nothing(n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = math.NaN()
	}
	return v
}
