package trainer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/features/tokenizer"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Limits of one fit.
const (
	// PromptsMax is the most prompts that weights are fitted on; of more, a sample by the hash of their ids is taken. Who
	// reads a table for a fit alone need not read more (see datasets.ReadOptions).
	PromptsMax = 100_000
	// StackPromptsMax is the most prompts that the stack, the calibration and the targets are learned on.
	StackPromptsMax = 20_000
	// PromptsMin is the least that anything can be learned from.
	PromptsMin = 20
	innerFolds = 4
	spread     = 0.85 // of the decision score, by the recipe
)

// ErrTooSmall says that a table has too few prompts or no arm with scores.
var ErrTooSmall = errors.New("trainer: the table is too small to learn from")

// FitOptions say how to fit. The zero value works.
type FitOptions struct {
	// Seed fixes everything that is random (the start of the clusters).
	Seed int64
	// Progress, where set, is told of every stage; total is 0 where the end is not known. It may be called from any
	// goroutine, but from one at a time.
	Progress func(stage string, done, total int)

	seen *evidence
}

func (o *FitOptions) progress(stage string, done, total int) {
	if o.Progress != nil {
		o.Progress(stage, done, total)
	}
}

// OOF are out-of-fold estimates: what routers that did not see a prompt think of it. Cells are row-major over Rows and
// the model's arms.
type OOF struct {
	// Table holds the prompts that were fitted on and the model's arms; Rows are the prompts that estimates exist for.
	Table *datasets.Table
	Rows  []int
	// Score, Shifted, Quality and Tokens are as in policy.Estimates. CostUSD is the expected cost, NaN where the arm's is unknown
	// and nil where the table has no costs.
	Score, Shifted, Quality, Tokens, CostUSD []float64

	seen *evidence
}

// Fit learns a model from an outcome table. The targets and golden rows are not set yet (see Run). Arms that were never
// scored are left out of the model.
func Fit(ctx context.Context, t *datasets.Table, o FitOptions) (*classifier.Model, *OOF, error) {
	_, m, oof, err := fit(ctx, t, o)
	return m, oof, err
}

// fit is Fit, and returns what the fit was made with.
func fit(ctx context.Context, t *datasets.Table, o FitOptions) (*fitter, *classifier.Model, *OOF, error) {
	t, seen, err := usable(t, o.seen)
	if err != nil {
		return nil, nil, nil, err
	}
	o.seen = seen
	tok, contexts, err := extract(ctx, t, &o)
	if err != nil {
		return nil, nil, nil, err
	}
	f, err := newFitter(ctx, t, contexts, &o)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("trainer: learning what the log's routers expected: %w", err)
	}
	sample := t.InHashOrder(StackPromptsMax)
	keepOnly(contexts, sample)
	oof, stack, err := f.crossFit(ctx, contexts, sample, &o)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("trainer: fitting inner folds: %w", err)
	}
	clear(contexts) // the memory is better used by the last fit
	o.progress("fit", 0, 1)
	m, err := f.parts(ctx, all(len(t.Prompts)))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("trainer: fitting: %w", err)
	}
	stack.apply(m)
	if seen != nil {
		remember(m, oof)
	}
	m.Tokenizer = tok
	m.Router.Train = classifier.TrainingSize{Prompts: len(t.Prompts), Cells: cells(t), Folds: innerFolds, Seed: o.Seed}
	o.progress("fit", 1, 1)
	return f, m, oof, m.Validate()
}

// usable drops arms that were never scored, samples too many prompts, and refuses what nothing can be learned from.
func usable(t *datasets.Table, seen *evidence) (*datasets.Table, *evidence, error) {
	var arms []int
	for j := range t.Arms {
		for i := range t.Prompts {
			if t.Observed(i, j) {
				arms = append(arms, j)
				break
			}
		}
	}
	if len(arms) == 0 || len(t.Prompts) < PromptsMin {
		return nil, nil, fmt.Errorf("%w: %d prompts, %d arms with scores", ErrTooSmall, len(t.Prompts), len(arms))
	}
	if len(t.Prompts) > PromptsMax {
		kept := t.InHashOrder(PromptsMax)
		t, seen = t.Subset(kept), seen.pick(kept, all(len(t.Arms)), len(t.Arms))
	}
	if len(arms) == len(t.Arms) {
		return t, seen, nil
	}
	names := make([]catalog.ArmID, len(arms))
	for k, j := range arms {
		names[k] = t.Arms[j]
	}
	out := datasets.NewTable(names, len(t.Prompts))
	out.Name, out.SHA256, out.Prompts = t.Name, t.SHA256, t.Prompts
	for i := range t.Prompts {
		for k, j := range arms {
			to, from := out.At(i, k), t.At(i, j)
			out.Score[to], out.Cost[to], out.Latency[to] = t.Score[from], t.Cost[from], t.Latency[from]
			out.Input[to], out.Output[to] = t.Input[from], t.Output[from]
		}
	}
	return out, seen.pick(all(len(t.Prompts)), arms, len(t.Arms)), nil
}

// extract learns the vocabulary and extracts the features of every prompt.
func extract(ctx context.Context, t *datasets.Table, o *FitOptions) ([]byte, []features.Context, error) {
	o.progress("vocabulary", 0, 1)
	encoded, tok, err := vocabulary(t)
	if err != nil {
		return nil, nil, err
	}
	x, err := features.New(features.DefaultSpec(), tok)
	if err != nil {
		return nil, nil, fmt.Errorf("trainer: %w", err)
	}
	o.progress("features", 0, len(t.Prompts))
	contexts := make([]features.Context, len(t.Prompts))
	var bad atomic.Pointer[error]
	each(len(contexts), func(from, to int) {
		var dst features.Context
		for i := from; i < to && ctx.Err() == nil; i++ {
			if failed := read(&dst, x, &t.Prompts[i]); failed != nil {
				bad.Store(&failed)
			}
			contexts[i] = dst
			contexts[i].Counts = slices.Clone(dst.Counts)
		}
	})
	o.progress("features", len(t.Prompts), len(t.Prompts))
	if failed := bad.Load(); failed != nil {
		return nil, nil, *failed
	}
	return encoded, contexts, ctx.Err()
}

// vocabulary learns one from the texts of a table. Where hardly any were kept there is none, and tokens are estimated
// from bytes.
func vocabulary(t *datasets.Table) ([]byte, *tokenizer.Tokenizer, error) {
	texts := 0
	encoded, err := tokenizer.Learn(func(yield func(string) bool) {
		for _, i := range t.InHashOrder(StackPromptsMax) {
			if text := t.Prompts[i].Text; text != "" {
				if texts++; !yield(text) {
					return
				}
			}
		}
	}, tokenizer.LearnOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("trainer: learning a vocabulary: %w", err)
	}
	if texts < PromptsMin {
		return nil, nil, nil
	}
	tok, err := tokenizer.New(encoded)
	if err != nil {
		return nil, nil, fmt.Errorf("trainer: reading the vocabulary back: %w", err)
	}
	return encoded, tok, nil
}

// read sets dst to the features of a prompt: the logged ones, which saw the whole request, else those of its text.
func read(dst *features.Context, x *features.Extractor, p *datasets.Prompt) error {
	if p.Features == "" {
		x.Extract(dst, features.NewPrompt(p.Text))
		return nil
	}
	if err := dst.Parse([]byte(p.Features)); err != nil {
		return fmt.Errorf("trainer: prompt %s: %w", p.ID, err)
	}
	return nil
}

func newFitter(ctx context.Context, t *datasets.Table, contexts []features.Context, o *FitOptions) (*fitter, error) {
	f := &fitter{table: t, seen: o.seen, design: newDesign(contexts), logs: make([]float32, len(t.Output))}
	for at, v := range t.Output {
		f.logs[at] = float32(math.Log(max(1, float64(v)))) // max keeps NaN
	}
	f.edges = lengthEdges(f.design.bytes)
	f.young = findYoung(t, f.seen)
	if f.seen == nil {
		f.tasks = newTasks(t, f.design, o.Seed, clustersMax)
		f.fallback, f.anchor = fallback(t, f.young)
		return f, nil
	}
	f.tasks = newTasks(t, f.design, o.Seed, taughtMax)
	if err := f.tasks.teach(ctx, f.design); err != nil {
		return nil, err
	}
	return f, f.believe(ctx)
}

// crossFit fits the parts on the other folds of every sampled prompt, learns the stack on what they predict, and
// returns what the stacked folds estimate. Everything is predicted by the code that serves.
func (f *fitter) crossFit(ctx context.Context, contexts []features.Context, sample []int, o *FitOptions) (*OOF, *stack, error) {
	fold := make([]int, len(sample))
	for k, i := range sample {
		p := &f.table.Prompts[i]
		h := sha256.Sum256([]byte(cmp.Or(p.Group, p.ID)))
		fold[k] = int(binary.BigEndian.Uint32(h[4:8]) % innerFolds) // other bytes than those of the outer folds
	}
	parts := make([]*classifier.Model, innerFolds)
	o.progress("inner folds", 0, innerFolds)
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for n := range parts {
		var rows []int
		for k, i := range sample {
			if fold[k] != n {
				rows = append(rows, i)
			}
		}
		slices.Sort(rows)
		g.Go(func() (err error) {
			parts[n], err = f.parts(inner, rows)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	h := &heldOut{f: f, contexts: contexts, rows: sample, fold: fold, models: parts}
	s, err := h.learn()
	if err != nil {
		return nil, nil, err
	}
	oof, err := h.estimate(s)
	o.progress("inner folds", innerFolds, innerFolds)
	return oof, s, err
}

// heldOut are prompts with the models that did not see them.
type heldOut struct {
	f        *fitter
	contexts []features.Context
	rows     []int
	fold     []int
	models   []*classifier.Model
}

// each calls visit for every held-out prompt with its fold's classifier; k counts the prompts.
func (h *heldOut) each(visit func(k int, c *classifier.Classifier)) error {
	cs := make([]*classifier.Classifier, len(h.models))
	for n, m := range h.models {
		c, err := classifier.New(m)
		if err != nil {
			return err
		}
		cs[n] = c
	}
	each(len(h.rows), func(from, to int) {
		for k := from; k < to; k++ {
			visit(k, cs[h.fold[k]])
		}
	})
	return nil
}

// estimate applies the stack to the folds' models and collects what they estimate.
func (h *heldOut) estimate(s *stack) (*OOF, error) {
	for _, m := range h.models {
		s.apply(m)
	}
	arms := len(h.f.table.Arms)
	n := len(h.rows) * arms
	out := &OOF{Table: h.f.table, Rows: h.rows, seen: h.f.seen}
	out.Score, out.Shifted, out.Quality, out.Tokens = make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
	out.CostUSD = s.prices.table(len(h.rows))
	err := h.each(func(k int, c *classifier.Classifier) {
		var e policy.Estimates
		x := &h.contexts[h.rows[k]]
		c.Estimate(&e, x)
		copy(out.Score[k*arms:], e.Score)
		copy(out.Shifted[k*arms:], e.Shifted)
		copy(out.Quality[k*arms:], e.Quality)
		copy(out.Tokens[k*arms:], e.OutputTokens)
		if out.CostUSD != nil {
			s.prices.forecast(out.CostUSD[k*arms:(k+1)*arms], h.f.table, h.rows[k], x.Tokens, e.OutputTokens)
		}
	})
	return out, err
}

// keepOnly drops the contexts of all prompts but the given ones: the design holds what the last fit needs. The kept ones
// are copied, since one in five of them would hold the memory between them too.
func keepOnly(contexts []features.Context, prompts []int) {
	if len(prompts) == len(contexts) {
		return
	}
	kept := make([]features.Context, len(prompts))
	for k, i := range prompts {
		kept[k] = contexts[i]
		kept[k].Counts = slices.Clone(kept[k].Counts)
	}
	clear(contexts)
	for k, i := range prompts {
		contexts[i] = kept[k]
	}
	debug.FreeOSMemory() // between what is left the blocks of a solver find no room, and the heap would grow beside it
}

func all(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func cells(t *datasets.Table) (n int) {
	for _, s := range t.Score {
		if s == s {
			n++
		}
	}
	return n
}
