package trainer

import (
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/tradewind-llm/tradewind/classifier"
)

// The ridges of token slopes, in units of scores: the part that all tasks share, then what a task adds to it.
const (
	slopeLambda     = 100
	taskSlopeLambda = 60
)

// slopes fits what a task's mean leaves of the logarithm of answers' lengths to the dense inputs: one line for all tasks
// together, and then for every task one on what that leaves. A table of tasks x inputs by arms; without named tasks there
// is none, because the clusters of a prompt are many and the token head knows the shared part.
func (f *fitter) slopes(rows []int, mean *classifier.Table) classifier.Table {
	const width = classifier.NumDense
	tasks, arms := len(f.tasks.names), len(f.table.Arms)
	if f.tasks.clusters {
		return classifier.NewTable(0, arms)
	}
	out := classifier.NewTable(tasks*width, arms)
	parallel(arms, func(j int) {
		task := make([]normal, tasks)
		for k := range task {
			task[k] = newNormal(width)
		}
		x := make([]float64, width)
		for _, i := range rows {
			k, y := f.tasks.class[i], float64(f.logs[i*arms+j])
			if k < 0 || y != y {
				continue
			}
			for c, v := range f.design.val[f.design.start[i+1]-width : f.design.start[i+1]] {
				x[c] = float64(v)
			}
			task[k].add(x, y-mean.Row(int(k))[j], f.seen.weigh(i, j))
		}
		all := newNormal(width)
		for k := range task {
			all.a.AddSym(all.a, task[k].a)
			all.b.AddVec(all.b, task[k].b)
		}
		const unit = classifier.DenseWeight * classifier.DenseWeight // inputs are standardized to DenseWeight
		shared := all.solve(slopeLambda * unit)
		for k := range task {
			var told mat.VecDense
			told.MulVec(task[k].a, shared)
			task[k].b.SubVec(task[k].b, &told)
			own := task[k].solve(taskSlopeLambda * unit)
			for c := range width {
				out.Row(k*width + c)[j] = shared.AtVec(c) + own.AtVec(c)
			}
		}
	})
	return out
}

// normal are the normal equations of a least-squares fit.
type normal struct {
	a *mat.SymDense
	b *mat.VecDense
}

func newNormal(width int) normal {
	return normal{mat.NewSymDense(width, nil), mat.NewVecDense(width, nil)}
}

func (n normal) add(x []float64, y, weight float64) {
	v := mat.NewVecDense(len(x), x)
	n.a.SymRankOne(n.a, weight, v)
	n.b.AddScaledVec(n.b, weight*y, v)
}

// solve is the solution with a ridge, which must be positive.
func (n normal) solve(ridge float64) *mat.VecDense {
	width := n.b.Len()
	a := mat.NewSymDense(width, nil)
	a.CopySym(n.a)
	for c := range width {
		a.SetSym(c, c, a.At(c, c)+ridge)
	}
	w := mat.NewVecDense(width, nil)
	var factor mat.Cholesky
	if !factor.Factorize(a) || factor.SolveVecTo(w, n.b) != nil {
		w.Zero() // an input so large that rounding ate the ridge has no slope
	}
	for c := range width {
		if v := w.AtVec(c); math.IsNaN(v) || math.IsInf(v, 0) {
			w.Zero()
		}
	}
	return w
}
