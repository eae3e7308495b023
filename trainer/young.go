package trainer

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
)

// What makes an arm young, and how it is estimated; see DESIGN.md.
const (
	// youngScoresMax is the number of scores up to which an arm is young, where another has youngRatio times as many.
	youngScoresMax = 300
	youngRatio     = 4
	// youngTaskPrior are the pseudo-counts that draw what a task shows beyond the siblings toward nothing.
	youngTaskPrior = 8
	// youngCaution is how many standard errors of its mean a young arm is held back.
	youngCaution = 1
)

// findYoung marks the arms that are young: few scores, while others have many. A log has arms of few scores and its own
// ways with them.
func findYoung(t *datasets.Table, seen *evidence) []bool {
	scores := make([]int, len(t.Arms))
	for at, s := range t.Score {
		if s == s && seen == nil {
			scores[at%len(scores)]++
		}
	}
	most := slices.Max(scores)
	young := make([]bool, len(scores))
	for j, n := range scores {
		young[j] = n <= youngScoresMax && youngRatio*n < most
	}
	return young
}

// borrow estimates young arm j of a fitted model from its few scores on the given prompts and from its siblings, the arms
// that are not young. It is taken to follow the siblings' mean, prompt by prompt, up to an offset and what its tasks show
// beyond that, which is shrunk; and it is held back by its uncertainty, so that a newcomer of unknown worth starts
// low and rises with its scores.
func (f *fitter) borrow(m *classifier.Model, j int, labels []int) {
	f.borrowScores(m, j, labels)
	f.borrowLengths(m, j, labels)
}

func (f *fitter) borrowScores(m *classifier.Model, j int, labels []int) {
	b := f.newBorrower(m, j, f.table.Score)
	s := b.follow(labels, m.Tables.Mean.Data, youngTaskPrior)
	if len(b.siblings) == 0 || s.n == 0 {
		return
	}
	mean := max(0, min(1, s.mean-youngCaution*s.err))
	for bin := range m.Tables.Length.Rows {
		row := m.Tables.Length.Row(bin)
		row[j] = mean + b.deviation(row, m.Tables.Mean.Data)
	}
	b.write(&m.Tables.Mean, &m.Tables.Task, mean, s)
	b.head(len(f.tasks.names), classifier.Logit(mean))
}

func (f *fitter) borrowLengths(m *classifier.Model, j int, labels []int) {
	b, t := f.newBorrower(m, j, f.logs), &m.Tables
	s := b.follow(labels, t.TokenMean.Data, tokenPrior)
	if len(b.siblings) == 0 || s.n == 0 {
		return
	}
	for r := range t.TokenSlope.Rows {
		row := t.TokenSlope.Row(r)
		row[j] = b.average(row)
	}
	t.TokenLow.Data[j] = s.mean + b.deviation(t.TokenLow.Data, t.TokenMean.Data)
	t.TokenHigh.Data[j] = s.mean + b.deviation(t.TokenHigh.Data, t.TokenMean.Data)
	b.write(&t.TokenMean, &t.TokenTask, s.mean, s)
	b.head(len(f.tasks.names)+b.arms, s.mean)
}

// borrower is one young arm of a model beside its siblings, with what was observed of all: prompts x arms.
type borrower struct {
	f        *fitter
	m        *classifier.Model
	value    []float32
	j, arms  int
	siblings []int
}

// newBorrower takes as siblings the arms that are not young and of which a value was observed.
func (f *fitter) newBorrower(m *classifier.Model, j int, value []float32) *borrower {
	b := &borrower{f: f, m: m, value: value, j: j, arms: len(f.table.Arms)}
	for k := range b.arms {
		if k == j || f.young[k] {
			continue
		}
		for at := k; at < len(value); at += b.arms {
			if value[at] == value[at] {
				b.siblings = append(b.siblings, k)
				break
			}
		}
	}
	return b
}

// lend gives a young arm the siblings' mean of what is learned out of fold, for which it has too few scores.
func (f *fitter) lend(j int, plattA, plattB, smear, upper []float64) {
	if b := f.newBorrower(nil, j, f.table.Score); len(b.siblings) > 0 {
		plattA[j], plattB[j] = b.average(plattA), b.average(plattB)
	}
	if b := f.newBorrower(nil, j, f.logs); len(b.siblings) > 0 && smear[j] > 0 {
		smear[j], upper[j] = b.average(smear), b.average(upper)
	}
}

// average is the siblings' mean of a row.
func (b *borrower) average(row []float64) float64 {
	sum := 0.0
	for _, k := range b.siblings {
		sum += row[k]
	}
	return sum / float64(len(b.siblings))
}

// deviation is the siblings' mean of a row's distance from their own means.
func (b *borrower) deviation(row, mean []float64) float64 { return b.average(row) - b.average(mean) }

// following is what few values say of an arm: its mean with a standard error, and what each task adds.
type following struct {
	n, mean, err float64
	task         []float64
}

// follow compares the young arm's values with the siblings' mean deviation on the same prompts. That takes out how easy
// the few prompts happened to be.
func (b *borrower) follow(labels []int, mean []float64, taskPrior float64) following {
	var beyond []float64 // value less the siblings' deviation
	var rows []int
	s := following{task: make([]float64, len(b.f.tasks.names))}
	for _, i := range labels {
		row := b.value[i*b.arms : (i+1)*b.arms]
		v := float64(row[b.j])
		if v != v {
			continue
		}
		sum, n := 0.0, 0.0
		for _, k := range b.siblings {
			if s := float64(row[k]); s == s {
				sum, n = sum+s-mean[k], n+1
			}
		}
		beyond, rows = append(beyond, v-sum/max(n, 1)), append(rows, i)
	}
	if s.n = float64(len(beyond)); s.n == 0 {
		return s
	}
	s.mean = floats.Sum(beyond) / s.n
	square, count := 0.25, make([]float64, len(s.task)) // a quarter is the variance of a coin: two equal scores prove nothing
	for k, i := range rows {
		r := beyond[k] - s.mean
		square += r * r
		b.f.tasks.weigh(i, func(task int, w float64) {
			s.task[task] += w * r
			count[task] += w
		})
	}
	s.err = math.Sqrt(square / (s.n + 1) / s.n)
	for k, n := range count {
		s.task[k] /= n + taskPrior
	}
	return s
}

// write sets the arm's mean and its table of tasks.
func (b *borrower) write(means, tasks *classifier.Table, mean float64, s following) {
	for k := range tasks.Rows {
		row := tasks.Row(k)
		row[b.j] = mean + b.deviation(row, means.Data) + s.task[k]
	}
	means.Data[b.j] = mean
}

// head sets the arm's linear output among those that begin at first to the siblings' mean weights.
func (b *borrower) head(first int, bias float64) {
	t, outputs := &b.m.Tables, b.m.Outputs()
	cells := b.m.Weights.Cells
	weights := make([]float64, len(b.m.Weights.Buckets))
	unit := 0.0
	for r := range weights {
		for _, k := range b.siblings {
			weights[r] += float64(cells[r*outputs+first+k]) * t.Scale.Data[first+k]
		}
		weights[r] /= float64(len(b.siblings))
		unit = max(unit, math.Abs(weights[r])/127)
	}
	own := first + b.j
	t.Bias.Data[own], t.Scale.Data[own] = bias, unit
	for r, w := range weights {
		cells[r*outputs+own] = 0
		if unit > 0 {
			cells[r*outputs+own] = int8(math.Round(w / unit))
		}
	}
	for r := range t.Dense.Rows {
		row := t.Dense.Row(r)
		row[own] = b.average(row[first : first+b.arms])
	}
}
