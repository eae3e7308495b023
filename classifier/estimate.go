package classifier

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/features"
)

// fixedPoint is the unit of a count's value in the integer sums: 2^−16.
const fixedPoint = 1 << 16

// lanes selects the lowest byte of each half of a word.
const lanes = 0x000000ff_000000ff

// logTable is the size of the table of 1 + ln n.
const logTable = 64

// denseLimit clips standardized inputs.
const denseLimit = 4

// Parts are the predictions of one prompt before they are combined, one element an arm but for Logits and Posterior
// (one a task). Trainer reads them to learn the combination.
type Parts struct {
	Logits    []float64
	Posterior []float64
	// Task, Head and Length are the three predictions of the score; TokenTask and TokenHead those of the logarithm of
	// output tokens.
	Task, Head, Length   []float64
	TokenTask, TokenHead []float64
}

// scratch is the memory of one estimate.
type scratch struct {
	Parts
	values []float64 // of the kept counts, words first
	fixed  []uint64
	rows   []int
	dense  [NumDense]float64
	out    []float64
	log    [logTable]float64
}

func newScratch(m *Model) *scratch {
	arms, tasks := len(m.Router.Arms), len(m.Router.Tasks)
	s := &scratch{out: make([]float64, 8*((m.Outputs()+7)/8))}
	s.Logits = s.out[:tasks]
	s.Posterior = make([]float64, tasks)
	s.Head = s.out[tasks : tasks+arms]
	s.TokenHead = s.out[tasks+arms : tasks+2*arms]
	s.Task, s.TokenTask = make([]float64, arms), make([]float64, arms)
	for n := range s.log {
		s.log[n] = 1 + math.Log(float64(max(n, 1)))
	}
	return s
}

// Estimate overwrites dst with the estimates of every arm for x. It allocates nothing once dst has its size, and
// neither reads nor writes anything that other goroutines could change.
func (c *Classifier) Estimate(dst *policy.Estimates, x *features.Context) {
	s := c.scratch.Get().(*scratch)
	c.parts(s, x)
	dst.Resize(c.arms)
	c.scores(dst, s)
	c.shifted(dst, s)
	c.errors(dst, s)
	c.tokens(dst, s)
	dst.Task = floats.MaxIdx(s.Posterior)
	dst.Novelty = c.novelty(s.Posterior, dst.Task)
	c.scratch.Put(s)
}

// Parts overwrites dst with the predictions that Estimate combines.
func (c *Classifier) Parts(dst *Parts, x *features.Context) {
	s := c.scratch.Get().(*scratch)
	c.parts(s, x)
	dst.Logits, dst.Posterior = append(dst.Logits[:0], s.Logits...), append(dst.Posterior[:0], s.Posterior...)
	dst.Task, dst.Head, dst.Length = append(dst.Task[:0], s.Task...), append(dst.Head[:0], s.Head...), append(dst.Length[:0], s.Length...)
	dst.TokenTask, dst.TokenHead = append(dst.TokenTask[:0], s.TokenTask...), append(dst.TokenHead[:0], s.TokenHead...)
	c.scratch.Put(s)
}

func (c *Classifier) parts(s *scratch, x *features.Context) {
	c.weigh(s, x)
	c.gather(s)
	c.addDense(s, x)
	t := &c.model.Tables
	Softmax(s.Posterior, s.Logits, c.model.Router.Temperature)
	clear(s.Task)
	clear(s.TokenTask)
	for k, p := range s.Posterior {
		floats.AddScaled(s.Task, p, t.Task.Row(k))
		floats.AddScaled(s.TokenTask, p, t.TokenTask.Row(k))
	}
	c.addSlopes(s)
	for j, z := range s.Head {
		s.Head[j] = sigmoid(z)
	}
	s.Length = t.Length.Row(LengthBin(t.Edges.Data, x.PromptBytes))
}

// slopeShare is the least share of the posterior that a task needs for its slopes to count, where not even the likeliest
// one has it, that one alone. Most prompts have one or two such tasks, and leaving out the others saves much time.
const slopeShare = 0.15

// addSlopes adds to the mean length in a task what the dense inputs say within it.
func (c *Classifier) addSlopes(s *scratch) {
	slopes := &c.model.Tables.TokenSlope
	if slopes.Rows == 0 {
		return
	}
	least, kept := min(slopeShare, floats.Max(s.Posterior)), 0.0
	for _, p := range s.Posterior {
		if p >= least {
			kept += p
		}
	}
	for k, p := range s.Posterior {
		if p < least {
			continue
		}
		for _, i := range c.active {
			floats.AddScaled(s.TokenTask, p/kept*s.dense[i], slopes.Row(k*NumDense+i))
		}
	}
}

// LengthBin is the number of edges, which ascend strictly, at or below a length in bytes.
func LengthBin(edges []float64, bytes int) int {
	bin, found := slices.BinarySearch(edges, float64(bytes))
	if found {
		bin++
	}
	return bin
}

// weigh turns counts into (1 + ln n)·idf, of length √½ in each block, and finds their rows.
func (c *Classifier) weigh(s *scratch, x *features.Context) {
	s.values, s.fixed, s.rows = s.values[:0], s.fixed[:0], s.rows[:0]
	rowOf, idf, words := c.packed.rowOf, c.model.Weights.IDF, c.packed.words
	begin, square := 0, 0.0
	boundary := uint16(len(rowOf) / 2)
	for _, k := range x.Counts {
		if int(k.Bucket) >= len(rowOf) || rowOf[k.Bucket] == 0 {
			continue
		}
		if k.Bucket >= boundary && begin == 0 {
			s.fix(0, square)
			begin, square = len(s.values), 0
			boundary = math.MaxUint16 // reached once
		}
		row := int(rowOf[k.Bucket]) - 1
		v := s.tf(k.N) * float64(idf[row])
		square += v * v
		s.values, s.rows = append(s.values, v), append(s.rows, row*words)
	}
	s.fix(begin, square)
}

func (s *scratch) tf(n uint16) float64 {
	if n < logTable {
		return s.log[n]
	}
	return 1 + math.Log(float64(n))
}

// fix appends the values from begin on in fixed point, scaled to length √½.
func (s *scratch) fix(begin int, square float64) {
	if square == 0 {
		return
	}
	scale := fixedPoint * math.Sqrt(0.5/square)
	for _, v := range s.values[begin:] {
		s.fixed = append(s.fixed, uint64(v*scale+0.5))
	}
}

// gather sets out to the weighted sums of the rows' weights. The sums are of integers, hence exact and the same on
// every machine: each half of a word accumulates one output, value × (weight + 128). It cannot overflow 32 bits: the
// squares of n values sum to at most 1, so the values to at most √n ≤ √32768, times 2^16 × 255 less than 2^32.
func (c *Classifier) gather(s *scratch) {
	cells, fixed := c.packed.cells, s.fixed
	rows := s.rows[:len(fixed)]
	total := uint64(0)
	for _, v := range fixed {
		total += v
	}
	offset := float64(bias * total)
	for t := range c.packed.words {
		var a, b, e, f uint64
		for i, v := range fixed {
			w := cells[rows[i]+t]
			a += v * (w & lanes)
			b += v * (w >> 8 & lanes)
			e += v * (w >> 16 & lanes)
			f += v * (w >> 24 & lanes)
		}
		out := s.out[8*t : 8*t+8]
		for k, sum := range [4]uint64{a, b, e, f} {
			out[k] = (float64(uint32(sum)) - offset) / fixedPoint
			out[k+4] = (float64(sum>>32) - offset) / fixedPoint
		}
	}
}

// addDense scales the sums and adds the intercepts and the flags.
func (c *Classifier) addDense(s *scratch, x *features.Context) {
	t := &c.model.Tables
	out := s.out[:len(t.Bias.Data)]
	floats.Mul(out, t.Scale.Data)
	floats.Add(out, t.Bias.Data)
	Standardize(&s.dense, x, t.DenseMean.Data, t.DenseScale.Data)
	for _, i := range c.active {
		floats.AddScaled(out, s.dense[i], t.Dense.Row(i))
	}
}

// DenseWeight is the weight of a standardized dense input beside a text vector of length 1. A DenseScale is
// DenseWeight over the input's standard deviation.
const DenseWeight = 0.07

// Standardize sets dst to the dense inputs of x: the flags, (flag − mean)·scale, clipped at four deviations, then the
// squares of the clipped deviations likewise.
func Standardize(dst *[NumDense]float64, x *features.Context, mean, scale []float64) {
	for i, f := range x.Flags {
		k := features.NumFlags + i
		dst[i] = clipped(float64(f), mean[i], scale[i])
		dst[k] = clipped(SquareInput(f, mean[i], scale[i]), mean[k], scale[k])
	}
}

// SquareInput is the square of a flag in standard deviations from its mean, itself not yet standardized.
func SquareInput(flag float32, mean, scale float64) float64 {
	z := clipped(float64(flag), mean, scale) / DenseWeight
	return z * z
}

func clipped(v, mean, scale float64) float64 {
	const limit = denseLimit * DenseWeight
	return max(-limit, min(limit, (v-mean)*scale))
}

// scores combines the parts into the decision score and the calibrated quality.
func (c *Classifier) scores(dst *policy.Estimates, s *scratch) {
	r, t := &c.model.Router, &c.model.Tables
	for j, mean := range t.Mean.Data {
		task, head, length := s.Task[j]-mean, s.Head[j]-mean, s.Length[j]-mean
		dst.Score[j] = mean + r.Spread*(r.Score.Task*task+r.Score.Head*head+r.Score.Length*length)
		q := mean + r.Quality.Task*task + r.Quality.Head*head + r.Quality.Length*length
		dst.Quality[j] = sigmoid(t.PlattA.Data[j]*Logit(q) + t.PlattB.Data[j])
	}
	sum := 0.0
	for _, j := range c.reference {
		sum += dst.Quality[j]
	}
	dst.Complexity = 1 - sum/float64(len(c.reference))
}

// below is how far under the anchor's score a capped arm stands: less than anything that is measured.
const below = 1e-5

// shifted sets the score for shifting traffic. The task mix is what survives on tasks nobody trained on: it cannot leave
// the range of what was measured, where heads and lengths extrapolate. Where training could not show that even the mix
// helps there, it may only say which arms are worse than the best single one.
func (c *Classifier) shifted(dst *policy.Estimates, s *scratch) {
	r := &c.model.Router
	for j, mean := range c.model.Tables.Mean.Data {
		dst.Shifted[j] = mean + r.Spread*r.Shift.Task*(s.Task[j]-mean)
	}
	if r.Shift.Follow {
		return
	}
	ceiling := dst.Shifted[c.anchor] - below
	for j := range dst.Shifted {
		if j != c.anchor {
			dst.Shifted[j] = min(dst.Shifted[j], ceiling)
		}
	}
}

// errors sets the standard errors and the gaps: what is not known of the task adds to what is not known of its mean.
func (c *Classifier) errors(dst *policy.Estimates, s *scratch) {
	t := &c.model.Tables
	mean, meanErr, gap, gapErr := dst.OutputTokens, dst.QualityErr, dst.Gap, dst.GapErr // mean is borrowed
	for _, d := range [][]float64{mean, meanErr, gap, gapErr} {
		clear(d)
	}
	for k, p := range s.Posterior {
		if p < 1e-6 {
			continue
		}
		task, taskVar, g, gVar := t.Task.Row(k), t.TaskVar.Row(k), t.Gap.Row(k), t.GapVar.Row(k)
		for j := range mean {
			mean[j] += p * task[j]
			meanErr[j] += p * (task[j]*task[j] + taskVar[j])
			gap[j] += p * g[j]
			gapErr[j] += p * (g[j]*g[j] + gVar[j])
		}
	}
	for j := range mean {
		meanErr[j] = math.Sqrt(max(0, meanErr[j]-mean[j]*mean[j]))
		gapErr[j] = math.Sqrt(max(0, gapErr[j]-gap[j]*gap[j]))
	}
	gap[c.fallback], gapErr[c.fallback] = 0, 0
}

// tokens forecasts the length of the answers.
func (c *Classifier) tokens(dst *policy.Estimates, s *scratch) {
	w, t := c.model.Router.Tokens, &c.model.Tables
	for j, mean := range t.TokenMean.Data {
		if t.Smear.Data[j] == 0 {
			dst.OutputTokens[j], dst.OutputTokens90[j] = 0, 0
			continue
		}
		log := mean + w.Task*(s.TokenTask[j]-mean) + w.Head*(s.TokenHead[j]-mean)
		typical := math.Exp(max(t.TokenLow.Data[j], min(t.TokenHigh.Data[j], log)))
		dst.OutputTokens[j], dst.OutputTokens90[j] = t.Smear.Data[j]*typical, t.Upper.Data[j]*typical
	}
}

// Logit is ln(q/(1−q)) of a probability, which is kept a thousandth away from 0 and 1.
func Logit(q float64) float64 {
	q = max(1e-3, min(1-1e-3, q))
	return math.Log(q / (1 - q))
}

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

// Softmax sets dst to the normalized exponentials of logits/temperature.
func Softmax(dst, logits []float64, temperature float64) {
	top, sum := floats.Max(logits), 0.0
	for k, z := range logits {
		dst[k] = math.Exp((z - top) / temperature)
		sum += dst[k]
	}
	floats.Scale(1/sum, dst)
}
