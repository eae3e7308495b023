package trainer

import (
	"context"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/features"
)

// The recipe's constants, see DESIGN.md for where they come from.
const (
	taskLambda   = 0.25 // ridge of the task classifier
	headLambda   = 1    // of a score head
	tokenLambda  = 1    // of a token head
	tablePrior   = 10   // pseudo-counts of a task's table toward the arm's mean
	lengthPrior  = 20   // of the length table
	lengthBins   = 20
	tokenPrior   = 3
	blockOutputs = 64 // outputs that share a pass; more would not fit the caches
)

// fitter holds what all fits of one table share: none of it depends on which rows a fit may see, but for the
// standardization, the document frequencies and the clusters, which use no outcome.
type fitter struct {
	table    *datasets.Table
	seen     *evidence
	belief   *belief // nil without a log
	design   *design
	tasks    *taskSet
	young    []bool
	fallback int
	anchor   int // the best single arm, whatever it costs; see classifier.Shift
	edges    []float64
	logs     []float32 // ln of output tokens, NaN where unknown
}

// parts fits every predictor on the given prompts: a model whose stack is not set yet.
func (f *fitter) parts(ctx context.Context, rows []int) (*classifier.Model, error) {
	t := f.table
	m := &classifier.Model{Router: classifier.Router{
		Format: classifier.FormatVersion, SpecDigest: features.DefaultSpec().Digest(), Arms: t.Arms, Fallback: t.Arms[f.fallback], Reference: t.Arms,
		Shift: classifier.Shift{Anchor: t.Arms[f.anchor]}, Tasks: f.tasks.names, Clusters: f.tasks.clusters, Temperature: f.tasks.temperature, Spread: spread,
	}}
	f.tables(m, rows)
	b := f.block(m, rows)
	weights, err := f.solve(ctx, rows, b)
	if err != nil {
		return nil, err
	}
	if f.belief != nil {
		f.follow(m, rows, weights)
	}
	if f.tasks.clusters {
		f.tasks.place(weights, len(b.kinds))
	}
	f.store(m, b, weights)
	for j, young := range f.young {
		if young {
			f.borrow(m, j, rows)
		}
	}
	return m, nil
}

// solve returns the weights of a block of any width, columns × outputs.
func (f *fitter) solve(ctx context.Context, rows []int, b *block) ([]float32, error) {
	weights := make([]float32, f.design.cols*len(b.kinds))
	for _, at := range split(b) {
		if at[1] <= b.placed {
			continue // nothing to learn: these are the centroids, which place writes
		}
		part, err := solve(ctx, f.design, rows, b.slice(at[0], at[1], len(rows)))
		if err != nil {
			return nil, err
		}
		width := len(part) / f.design.cols
		for c := range f.design.cols {
			copy(weights[c*len(b.kinds)+at[0]:c*len(b.kinds)+at[1]], part[c*width:])
		}
	}
	return weights, nil
}

// narrow is the first column that serves token heads alone.
func (f *fitter) narrow() int { return f.design.text() + features.NumFlags }

// block sets up the outputs of a model: task logits, score heads, token heads.
func (f *fitter) block(m *classifier.Model, rows []int) *block {
	tasks, arms := len(m.Router.Tasks), len(m.Router.Arms)
	b := &block{narrow: f.narrow(), class: make([]int32, len(rows)), shared: f.belief != nil}
	if f.tasks.clusters {
		b.placed = tasks
	}
	share := f.tasks.share(rows)
	for k := range tasks {
		b.add(multinomial, f.tasks.intercept(k, share[k]), share[k]*(1-share[k]), taskLambda)
	}
	lambda := float64(headLambda)
	if f.belief != nil {
		lambda *= doubt
	}
	for _, mean := range m.Tables.Mean.Data {
		b.add(logistic, classifier.Logit(mean), max(0.01, mean*(1-mean)), lambda)
	}
	for _, mean := range m.Tables.TokenMean.Data {
		b.add(linear, mean, 1, tokenLambda)
	}
	width := len(b.kinds)
	b.target = make([]float32, len(rows)*width)
	if f.belief != nil {
		b.weight, b.base = make([]float32, len(b.target)), make([]float32, len(b.target))
	}
	for i, r := range rows {
		if f.belief != nil {
			for j := range arms {
				w := float32(f.seen.weigh(r, j))
				b.weight[i*width+tasks+j], b.weight[i*width+tasks+arms+j] = w, w
			}
			copy(b.base[i*width+tasks:], f.belief.logit[r*arms:(r+1)*arms])
		}
		b.class[i] = f.tasks.class[r]
		row := b.target[i*width : (i+1)*width]
		copy(row[tasks:], f.table.Score[r*arms:(r+1)*arms])
		copy(row[tasks+arms:], f.logs[r*arms:(r+1)*arms])
	}
	return b
}

func (b *block) add(k kind, offset, curvature, lambda float64) {
	b.kinds = append(b.kinds, k)
	b.offset, b.curvature, b.lambda = append(b.offset, offset), append(b.curvature, curvature), append(b.lambda, lambda)
}

// split cuts the outputs into ranges of about blockOutputs; the task logits stay together, and so do heads that share.
func split(b *block) (ranges [][2]int) {
	n := len(b.kinds)
	from := 0
	for from < n {
		to := min(n, from+blockOutputs)
		for to < n && b.kinds[to] == b.kinds[to-1] && (b.kinds[to] == multinomial || b.kinds[to] == logistic && b.shared) {
			to++
		}
		ranges = append(ranges, [2]int{from, to})
		from = to
	}
	return ranges
}

// aligned outputs fill a vector register; rows of other widths take twice the time.
const aligned = 4

// slice is the part of a block that holds the outputs from..to of its rows, filled up with outputs that observe nothing.
func (b *block) slice(from, to, rows int) *block {
	out := &block{
		kinds: slices.Clone(b.kinds[from:to]), offset: slices.Clone(b.offset[from:to]), curvature: slices.Clone(b.curvature[from:to]),
		lambda: slices.Clone(b.lambda[from:to]), class: b.class, narrow: b.narrow, shared: b.shared,
	}
	for len(out.kinds)%aligned != 0 {
		out.add(linear, 0, 1, 1)
	}
	width := len(out.kinds)
	out.target = make([]float32, rows*width)
	cut := func(v []float32) []float32 {
		if v == nil {
			return nil
		}
		part := make([]float32, rows*width)
		for i := range rows {
			copy(part[i*width:(i+1)*width], v[i*len(b.kinds)+from:i*len(b.kinds)+to])
		}
		return part
	}
	out.weight, out.base = cut(b.weight), cut(b.base)
	for i := range rows {
		row := out.target[i*width : (i+1)*width]
		for k := copy(row, b.target[i*len(b.kinds)+from:i*len(b.kinds)+to]); k < width; k++ {
			row[k] = float32(math.NaN())
		}
	}
	return out
}

// store rounds the text's weights to 8 bits, one unit an output, and copies the rest.
func (f *fitter) store(m *classifier.Model, b *block, weights []float32) {
	d, o := f.design, len(b.kinds)
	t := &m.Tables
	t.DenseMean, t.DenseScale = rowOf(d.mean[:]), rowOf(d.scale[:])
	t.Bias, t.Scale, t.Dense = rowOf(b.offset), classifier.NewTable(1, o), classifier.NewTable(classifier.NumDense, o)
	text := weights[:d.text()*o]
	for at, w := range text {
		t.Scale.Data[at%o] = max(t.Scale.Data[at%o], math.Abs(float64(w))/127)
	}
	m.Weights = classifier.Weights{Buckets: d.buckets, IDF: d.idf, Cells: make([]int8, len(text))}
	for at, w := range text {
		if unit := t.Scale.Data[at%o]; unit > 0 {
			m.Weights.Cells[at] = int8(math.Round(float64(w) / unit))
		}
	}
	for at, w := range weights[len(text):] {
		t.Dense.Data[at] = float64(w)
	}
}

func rowOf(v []float64) classifier.Table {
	return classifier.Table{Rows: 1, Cols: len(v), Data: slices.Clone(v)}
}
