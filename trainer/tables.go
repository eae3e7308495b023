package trainer

import (
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
)

// moments are the sums of a value over prompts, by group (a task or a length bin) and arm.
type moments struct {
	groups, arms   int
	n, sum, square []float64
}

// measure sums value(i, j), NaN where unknown, over the given prompts; weigh calls add with the groups of a prompt.
func (f *fitter) measure(rows []int, groups int, value func(i, j int) float64, weigh func(i int, add func(group int, w float64))) *moments {
	arms := len(f.table.Arms)
	s := &moments{groups: groups, arms: arms}
	cells := groups * arms
	acc := sum(len(rows), 3*cells, func(acc []float64, from, to int) {
		for _, i := range rows[from:to] {
			weigh(i, func(g int, w float64) {
				for j := range arms {
					if v := value(i, j); v == v {
						at, w := g*arms+j, w*f.seen.weigh(i, j)
						acc[at] += w
						acc[cells+at] += w * v
						acc[2*cells+at] += w * v * v
					}
				}
			})
		}
	})
	s.n, s.sum, s.square = acc[:cells], acc[cells:2*cells], acc[2*cells:]
	return s
}

// total is the mean and the variance of arm j over all groups.
func (s *moments) total(j int) (mean, variance, n float64) {
	sum, square := 0.0, 0.0
	for g := range s.groups {
		at := g*s.arms + j
		n, sum, square = n+s.n[at], sum+s.sum[at], square+s.square[at]
	}
	if n == 0 {
		return 0, 0, 0
	}
	mean = sum / n
	return mean, max(0, square/n-mean*mean), n
}

// shrunk is every group's mean, drawn toward the arm's by prior pseudo-counts, and its sampling variance.
func (s *moments) shrunk(prior float64) (mean, variance classifier.Table) {
	mean, variance = classifier.NewTable(s.groups, s.arms), classifier.NewTable(s.groups, s.arms)
	for j := range s.arms {
		all, spread, _ := s.total(j)
		for g := range s.groups {
			at := g*s.arms + j
			n, m := s.n[at], all
			inside := prior * spread
			if n > 0 {
				m = s.sum[at] / n
				inside += max(0, s.square[at]-n*m*m)
			}
			mean.Data[at] = (s.sum[at] + prior*all) / (n + prior)
			variance.Data[at] = inside / (n + prior) / (n + prior)
		}
	}
	return mean, variance
}

// means is the mean of every arm.
func (s *moments) means() classifier.Table {
	out := classifier.NewTable(1, s.arms)
	for j := range out.Data {
		out.Data[j], _, _ = s.total(j)
	}
	return out
}

// scores fills the tables of scores; expected is what they depart from, nil without a log.
func (f *fitter) scores(out *classifier.Tables, rows []int, expected func(i, j int) float64) {
	t, arms, tasks := f.table, len(f.table.Arms), len(f.tasks.names)
	score := func(i, j int) float64 { return float64(t.Score[i*arms+j]) }
	gap := func(i, j int) float64 { return score(i, j) - score(i, f.fallback) }
	bin := func(i int, add func(int, float64)) { add(classifier.LengthBin(f.edges, int(f.design.bytes[i])), 1) }
	all := func(_ int, add func(int, float64)) { add(0, 1) }
	if expected != nil {
		out.Mean, _ = f.departure(rows, 1, all, doubt*tablePrior, expected)
		out.Task, out.TaskVar = f.departure(rows, tasks, f.tasks.weigh, doubt*tablePrior, expected)
		out.Length, _ = f.departure(rows, len(f.edges)+1, bin, doubt*lengthPrior, expected)
		f.unpaired(out)
		return
	}
	out.Mean = f.measure(rows, 1, score, all).means()
	out.Task, out.TaskVar = f.measure(rows, tasks, score, f.tasks.weigh).shrunk(tablePrior)
	out.Gap, out.GapVar = f.measure(rows, tasks, gap, f.tasks.weigh).shrunk(tablePrior)
	out.Length, _ = f.measure(rows, len(f.edges)+1, score, bin).shrunk(lengthPrior)
}

// tables fills everything in a model that is a table of means. The tables of a log's scores need heads (see follow); till
// then there is the mean that heads begin at.
func (f *fitter) tables(m *classifier.Model, rows []int) {
	arms, tasks := len(f.table.Arms), len(f.tasks.names)
	out := &m.Tables
	length := func(i, j int) float64 { return float64(f.logs[i*arms+j]) }
	if f.belief != nil {
		out.Mean = rowOf(f.belief.mean)
	} else {
		f.scores(out, rows, nil)
	}
	out.Edges = rowOf(f.edges)
	tokens := f.measure(rows, 1, length, func(_ int, add func(int, float64)) { add(0, 1) })
	out.TokenMean = tokens.means()
	out.TokenTask, _ = f.measure(rows, tasks, length, f.tasks.weigh).shrunk(tokenPrior)
	out.TokenSlope = f.slopes(rows, &out.TokenTask)
	out.TokenLow, out.TokenHigh = classifier.NewTable(1, arms), classifier.NewTable(1, arms)
	out.Smear, out.Upper = classifier.NewTable(1, arms), classifier.NewTable(1, arms)
	out.PlattA, out.PlattB = classifier.NewTable(1, arms), classifier.NewTable(1, arms)
	for j := range arms {
		out.PlattA.Data[j] = 1
		if tokens.n[j] == 0 {
			continue
		}
		low, high := math.Inf(1), math.Inf(-1)
		for _, i := range rows {
			if v := length(i, j); v == v {
				low, high = min(low, v), max(high, v)
			}
		}
		out.TokenLow.Data[j], out.TokenHigh.Data[j], out.Smear.Data[j], out.Upper.Data[j] = low, high, 1, 1
	}
}

// unpaired sets the gaps to differences of means: a log shows one arm a prompt, so there are no pairs. The two means
// are of different prompts, and their variances add.
func (f *fitter) unpaired(out *classifier.Tables) {
	arms := len(f.table.Arms)
	out.Gap, out.GapVar = classifier.NewTable(out.Task.Rows, arms), classifier.NewTable(out.Task.Rows, arms)
	for at := range out.Gap.Data {
		j, safe := at%arms, at/arms*arms+f.fallback
		out.Gap.Data[at], out.GapVar.Data[at] = out.Task.Data[at]-out.Task.Data[safe], out.TaskVar.Data[at]+out.TaskVar.Data[safe]
		if j == f.fallback {
			out.GapVar.Data[at] = 0
		}
	}
}

// lengthEdges cuts prompts into equally full bins of length in bytes.
func lengthEdges(bytes []int32) (edges []float64) {
	sorted := slices.Clone(bytes)
	slices.Sort(sorted)
	for k := 1; k < lengthBins; k++ {
		edges = append(edges, float64(sorted[k*len(sorted)/lengthBins]))
	}
	return slices.Compact(edges)
}
