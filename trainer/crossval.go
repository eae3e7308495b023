package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// FoldsDefault is the number of folds of the zero CrossValidateOptions.
const FoldsDefault = 5

// CrossValidateOptions say how to cross-validate. The zero value is FoldsDefault folds.
type CrossValidateOptions struct {
	Fit FitOptions
	// Folds is the number of folds by the hash of the prompt's id (bench.FoldOf).
	Folds int
	// LeaveTaskOut makes one fold of every task instead: what a router does on tasks it never saw.
	LeaveTaskOut bool
}

// Validate reports options that cannot be honoured.
func (o *CrossValidateOptions) Validate() error {
	if o.Folds != 0 && (o.Folds < 2 || o.Folds > 1000) {
		return fmt.Errorf("trainer: %d folds, want 2 to 1000 or 0 for %d", o.Folds, FoldsDefault)
	}
	if o.Folds != 0 && o.LeaveTaskOut {
		return errors.New("trainer: folds and leave-task-out exclude each other")
	}
	return nil
}

// CrossValidate predicts every prompt of a table with a router that was trained on the other folds alone: vocabulary,
// document frequencies, stack, prices and fallback included. It runs the code of Fit and of serving. It returns one
// element a setting of the policy, for a known mix and for shifting traffic, which differ in the score alone.
func CrossValidate(ctx context.Context, t *datasets.Table, o CrossValidateOptions) ([]bench.Predictions, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	fold, folds := bench.Folds(t, FoldsDefault), FoldsDefault
	switch {
	case o.LeaveTaskOut:
		var tasks []string
		if fold, tasks = bench.TaskFolds(t); len(tasks) < 2 {
			return nil, fmt.Errorf("trainer: leaving tasks out: the table names %d task", len(tasks))
		}
		folds = len(tasks)
	case o.Folds != 0:
		fold, folds = bench.Folds(t, o.Folds), o.Folds
	}
	p := newPredicted(t.Arms, len(t.Prompts))
	p.Fold, p.Fallback = fold, make([]int, folds)
	priced := false
	inside := o.Fit
	inside.Progress = nil
	for n := range folds {
		o.Fit.progress("folds", n, folds)
		known, err := predictFold(ctx, t, p, n, inside)
		if err != nil {
			return nil, fmt.Errorf("trainer: fold %d of %d: %w", n+1, folds, err)
		}
		priced = priced || known
	}
	o.Fit.progress("folds", folds, folds)
	return p.settings(priced), nil
}

// predicted are predictions with the scores of both settings.
type predicted struct {
	bench.Predictions
	shifted []float64
}

// newPredicted starts with nothing known.
func newPredicted(arms []catalog.ArmID, n int) *predicted {
	p := &predicted{Predictions: *bench.NewPredictions("router", arms, n), shifted: make([]float64, n*len(arms))}
	for at := range p.Score {
		p.Score[at], p.shifted[at], p.Quality[at], p.CostUSD[at], p.Tokens[at] = math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()
	}
	return p
}

// settings is one element a setting of the policy.
func (p *predicted) settings(priced bool) []bench.Predictions {
	if !priced {
		p.CostUSD = nil
	}
	out := []bench.Predictions{p.Predictions, p.Predictions}
	out[1].Name, out[1].Score = p.Name+", shifting", p.shifted
	return out
}

// predictFold trains without fold n and predicts it. It reports whether costs are known.
func predictFold(ctx context.Context, t *datasets.Table, p *predicted, n int, o FitOptions) (priced bool, err error) {
	var train, test []int
	for i, f := range p.Fold {
		if f == n {
			test = append(test, i)
		} else {
			train = append(train, i)
		}
	}
	p.Fallback[n] = -1
	if len(test) == 0 {
		return false, nil
	}
	seen := t.Subset(train)
	m, _, err := Fit(ctx, seen, o)
	if err != nil {
		return false, err
	}
	c, err := classifier.New(m)
	if err != nil {
		return false, err
	}
	p.Fallback[n] = slices.Index(t.Arms, c.Arms()[c.Fallback()])
	costs := newPrices(seen)
	own := make([]int, len(t.Arms))
	for j, a := range t.Arms {
		own[j] = slices.Index(c.Arms(), a)
	}
	fill(ctx, p, t, test, c, own, costs)
	return costs.priced, ctx.Err()
}

// Predict says what a trained router thinks of every prompt of a table. An arm of the table that it does not know is taken
// for one of its tier, where tier is set and the router knows tiers, else left out. Prices are those that the table's own costs imply: an artifact knows tokens and never prices. What it returns is as
// from CrossValidate.
func Predict(ctx context.Context, t *datasets.Table, c *classifier.Classifier, tier func(catalog.ArmID) catalog.Tier) ([]bench.Predictions, error) {
	var arms []catalog.ArmID
	var own []int
	for _, a := range t.Arms {
		j := slices.Index(c.Arms(), a)
		if j < 0 && tier != nil {
			j = slices.Index(c.Arms(), tier(a).Arm())
		}
		if j >= 0 {
			arms, own = append(arms, a), append(own, j)
		}
	}
	p := newPredicted(arms, len(t.Prompts))
	if c.Digest() != "" {
		p.Name = string(c.Digest())
	}
	p.Fallback = []int{slices.Index(own, c.Fallback())}
	costs := newPrices(t)
	fill(ctx, p, t, all(len(t.Prompts)), c, own, costs)
	return p.settings(costs.priced), ctx.Err()
}

// fill writes a router's predictions of some prompts of t into p, whose arms are among the table's; own are their places
// in the router, -1 where it does not know them.
func fill(ctx context.Context, p *predicted, t *datasets.Table, prompts []int, c *classifier.Classifier, own []int, costs *prices) {
	var arms []struct{ own, table, out int }
	for out, a := range p.Arms {
		if own[out] >= 0 {
			arms = append(arms, struct{ own, table, out int }{own[out], slices.Index(t.Arms, a), out})
		}
	}
	each(len(prompts), func(from, to int) {
		var x features.Context
		var e policy.Estimates
		tokens, cost := make([]float64, len(t.Arms)), make([]float64, len(t.Arms))
		for _, i := range prompts[from:to] {
			if ctx.Err() != nil {
				return
			}
			if read(&x, c.Extractor(), &t.Prompts[i]) != nil {
				continue // a table that was read from a file has no logged features
			}
			c.Estimate(&e, &x)
			for _, a := range arms {
				tokens[a.table] = e.OutputTokens[a.own]
			}
			costs.forecast(cost, t, i, x.Tokens, tokens)
			for _, a := range arms {
				at := i*len(p.Arms) + a.out
				p.Score[at], p.shifted[at], p.Quality[at], p.CostUSD[at] = e.Score[a.own], e.Shifted[a.own], e.Quality[a.own], cost[a.table]
				if c.KnowsTokens(a.own) {
					p.Tokens[at] = e.OutputTokens[a.own] / c.Model().Tables.Smear.Data[a.own]
				}
			}
		}
	})
}
