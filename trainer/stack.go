package trainer

import (
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
)

const (
	stackRidge = 0.02 // relative to the mean diagonal
	plattPrior = 10   // pseudo-observations for "already calibrated"
)

// stack is what is learned from out-of-fold predictions and applied to a model fitted on all rows.
type stack struct {
	temperature    float64
	score, quality classifier.Stack
	shift          classifier.Shift // without anchor and targets
	tokens         classifier.TokenStack
	plattA, plattB []float64
	smear, upper   []float64
	novelty        []classifier.TaskEntropy
	prices         *prices
}

func (s *stack) apply(m *classifier.Model) {
	m.Router.Novelty = s.novelty
	m.Router.Temperature, m.Router.Score, m.Router.Quality, m.Router.Tokens = s.temperature, s.score, s.quality, s.tokens
	r := &m.Router.Shift
	r.Task, r.Follow, r.Gain, r.GainErr = s.shift.Task, s.shift.Follow, s.shift.Gain, s.shift.GainErr
	m.Tables.PlattA, m.Tables.PlattB = rowOf(s.plattA), rowOf(s.plattB)
	m.Tables.Smear, m.Tables.Upper = rowOf(s.smear), rowOf(s.upper)
}

// learn fits the temperature, then everything that combines the parts.
func (h *heldOut) learn() (*stack, error) {
	s := &stack{temperature: h.f.tasks.temperature}
	parts, err := h.predict()
	if err != nil {
		return nil, err
	}
	if !h.f.tasks.clusters {
		s.temperature = h.temperature(parts)
		for _, m := range h.models {
			m.Router.Temperature = s.temperature
		}
		if parts, err = h.predict(); err != nil {
			return nil, err
		}
	}
	s.novelty = entropies(parts, len(h.f.tasks.names))
	decisive, raw := h.normal, h.normal
	if h.f.seen != nil {
		decisive, raw = h.apart, h.halved
	}
	w := nonNegative(decisive(parts, true))
	s.score = classifier.Stack{Task: w[0], Head: w[1], Length: w[2]}
	s.shift.Task = min(1, w[0]+w[1]+w[2])
	if gain, err, ok := h.unseen(s.temperature, spread*s.shift.Task, parts); ok {
		s.shift.Gain, s.shift.GainErr, s.shift.Follow = gain, err, gain > err
	}
	w = nonNegative(raw(parts, false))
	s.quality = classifier.Stack{Task: w[0], Head: w[1], Length: w[2]}
	h.platt(s, parts)
	h.lengths(s, parts)
	for j, young := range h.f.young {
		if young {
			h.f.lend(j, s.plattA, s.plattB, s.smear, s.upper)
		}
	}
	s.prices = newPrices(h.f.table)
	return s, nil
}

func (h *heldOut) predict() ([]classifier.Parts, error) {
	parts := make([]classifier.Parts, len(h.rows))
	err := h.each(func(k int, c *classifier.Classifier) { c.Parts(&parts[k], &h.contexts[h.rows[k]]) })
	return parts, err
}

// temperature minimizes the log loss of the task posterior, by golden-section search in its logarithm.
func (h *heldOut) temperature(parts []classifier.Parts) float64 {
	loss := func(logT float64) float64 {
		t := math.Exp(logT)
		return sum(len(h.rows), 1, func(acc []float64, from, to int) {
			for k := from; k < to; k++ {
				if class := h.f.tasks.class[h.rows[k]]; class >= 0 {
					z := parts[k].Logits
					top, total := slices.Max(z), 0.0
					for _, v := range z {
						total += math.Exp((v - top) / t)
					}
					acc[0] += math.Log(total) - (z[class]-top)/t
				}
			}
		})[0]
	}
	const phi = 0.6180339887498949
	low, high := math.Log(0.2), math.Log(5)
	a, b := high-phi*(high-low), low+phi*(high-low)
	la, lb := loss(a), loss(b)
	for range 20 {
		if la < lb {
			high, b, lb = b, a, la
			a = high - phi*(high-low)
			la = loss(a)
		} else {
			low, a, la = a, b, lb
			b = low + phi*(high-low)
			lb = loss(b)
		}
	}
	return math.Exp((low + high) / 2)
}

// normal builds the normal equations of "score − mean" on the three predictors' deviations from the mean, pooled over
// arms. Centred, each prompt's mean over its observed arms is taken away first: a shift of all arms decides nothing.
// Where one arm was observed there is no shift to be told apart, and the deviation counts as it is.
func (h *heldOut) normal(parts []classifier.Parts, centred bool) ([][]float64, []float64) {
	const p = 3
	arms := len(h.f.table.Arms)
	acc := sum(len(h.rows), p*(p+1), func(acc []float64, from, to int) {
		for k := from; k < to; k++ {
			mean := h.models[h.fold[k]].Tables.Mean.Data
			var rows [][p + 1]float64
			var weight []float64
			var centre [p + 1]float64
			for j := range arms {
				score := float64(h.f.table.Score[h.rows[k]*arms+j])
				if score != score {
					continue
				}
				q := &parts[k]
				rows = append(rows, [p + 1]float64{q.Task[j] - mean[j], q.Head[j] - mean[j], q.Length[j] - mean[j], score - mean[j]})
				weight = append(weight, h.f.seen.weigh(h.rows[k], j))
				for c, v := range rows[len(rows)-1] {
					centre[c] += v
				}
			}
			for n, r := range rows {
				for c := range r {
					if centred && len(rows) > 1 {
						r[c] -= centre[c] / float64(len(rows))
					}
				}
				for a := range p {
					for b := range p + 1 {
						acc[a*(p+1)+b] += weight[n] * r[a] * r[b]
					}
				}
			}
		}
	})
	return equations(acc, p)
}

// equations splits p × (p+1) sums into a matrix with a ridge and a right-hand side.
func equations(acc []float64, p int) (a [][]float64, b []float64) {
	trace := 0.0
	for r := range p {
		a, b = append(a, acc[r*(p+1):r*(p+1)+p]), append(b, acc[r*(p+1)+p])
		trace += a[r][r]
	}
	for r := range p {
		a[r][r] += stackRidge * trace / float64(p)
	}
	return a, b
}

// nonNegative minimizes ½wᵀAw − bᵀw over w ≥ 0 by coordinate descent; A is small, symmetric and positive.
func nonNegative(a [][]float64, b []float64) []float64 {
	w := make([]float64, len(b))
	for range 1000 {
		for r := range w {
			v := b[r] + a[r][r]*w[r]
			for c := range w {
				v -= a[r][c] * w[c]
			}
			if a[r][r] > 0 {
				w[r] = max(0, v/a[r][r])
			}
		}
	}
	return w
}

// platt fits every arm's calibration on the logit of the combined quality: Newton's method on the cross entropy with a
// prior for slope 1 and intercept 0.
func (h *heldOut) platt(s *stack, parts []classifier.Parts) {
	arms := len(h.f.table.Arms)
	s.plattA, s.plattB = make([]float64, arms), make([]float64, arms)
	parallel(arms, func(j int) {
		a, b := 1.0, 0.0
		for range 12 {
			ga, gb, haa, hab, hbb := plattPrior*(a-1), plattPrior*b, float64(plattPrior), 0.0, float64(plattPrior)
			for k, i := range h.rows {
				score := float64(h.f.table.Score[i*arms+j])
				if score != score {
					continue
				}
				mean := h.models[h.fold[k]].Tables.Mean.Data[j]
				q := &parts[k]
				x := classifier.Logit(mean + s.quality.Task*(q.Task[j]-mean) + s.quality.Head*(q.Head[j]-mean) + s.quality.Length*(q.Length[j]-mean))
				p := 1 / (1 + math.Exp(-a*x-b))
				weight := h.f.seen.weigh(i, j)
				g, w := weight*(p-score), weight*p*(1-p)
				ga, gb = ga+g*x, gb+g
				haa, hab, hbb = haa+w*x*x, hab+w*x, hbb+w
			}
			det := haa*hbb - hab*hab
			a, b = a-(hbb*ga-hab*gb)/det, b-(haa*gb-hab*ga)/det
		}
		s.plattA[j], s.plattB[j] = max(0.05, min(5, a)), max(-5, min(5, b))
	})
}

// lengths fits the token stack, then for every arm the factor from exp(forecast) to the mean and to the 0.9 quantile.
func (h *heldOut) lengths(s *stack, parts []classifier.Parts) {
	arms, logs := len(h.f.table.Arms), h.f.logs
	acc := sum(len(h.rows), 6, func(acc []float64, from, to int) {
		for k := from; k < to; k++ {
			mean := h.models[h.fold[k]].Tables.TokenMean.Data
			for j, v := range logs[h.rows[k]*arms : (h.rows[k]+1)*arms] {
				if v != v {
					continue
				}
				r := [3]float64{parts[k].TokenTask[j] - mean[j], parts[k].TokenHead[j] - mean[j], float64(v) - mean[j]}
				for a := range 2 {
					for b := range 3 {
						acc[a*3+b] += r[a] * r[b]
					}
				}
			}
		}
	})
	w := nonNegative(equations(acc, 2))
	s.tokens = classifier.TokenStack{Task: w[0], Head: w[1]}
	s.smear, s.upper = make([]float64, arms), make([]float64, arms)
	parallel(arms, func(j int) {
		tokens, typical := 0.0, 0.0
		var ratio []float64
		for k, i := range h.rows {
			v := float64(logs[i*arms+j])
			if v != v {
				continue
			}
			t := &h.models[h.fold[k]].Tables
			mean := t.TokenMean.Data[j]
			log := mean + w[0]*(parts[k].TokenTask[j]-mean) + w[1]*(parts[k].TokenHead[j]-mean)
			log = max(t.TokenLow.Data[j], min(t.TokenHigh.Data[j], log))
			tokens, typical = tokens+math.Exp(v), typical+math.Exp(log)
			ratio = append(ratio, math.Exp(v-log))
		}
		if len(ratio) > 0 {
			slices.Sort(ratio)
			s.smear[j], s.upper[j] = tokens/typical, ratio[len(ratio)*9/10]
		}
	})
}
