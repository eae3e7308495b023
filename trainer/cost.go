package trainer

import (
	"math"

	"github.com/tradewind-llm/tradewind/datasets"
)

// prices are what a table's costs say of its arms. A table shows what was paid and not always the price list, so the
// price of an input and of an output token is fitted to it: non-negative least squares without an intercept.
type prices struct {
	input, output, mean []float64 // dollars a token, a token, a prompt; mean is NaN where no cost is known
	priced              bool
	arms                int
}

func newPrices(t *datasets.Table) *prices {
	arms := len(t.Arms)
	p := &prices{input: make([]float64, arms), output: make([]float64, arms), mean: make([]float64, arms), arms: arms}
	for j := range arms {
		acc, total, n := make([]float64, 6), 0.0, 0.0
		for i := range t.Prompts {
			at := t.At(i, j)
			if t.Cost[at] == datasets.Unpriced {
				continue
			}
			cost := t.Cost[at].Dollars()
			total, n = total+cost, n+1
			r := [3]float64{float64(t.Input[at]), float64(t.Output[at]), cost}
			if !math.IsNaN(r[0] + r[1]) {
				for a := range 2 {
					for b := range 3 {
						acc[a*3+b] += r[a] * r[b]
					}
				}
			}
		}
		w := nonNegative([][]float64{acc[0:2], acc[3:5]}, []float64{acc[2], acc[5]})
		p.input[j], p.output[j], p.mean[j] = w[0], w[1], total/n
		p.priced = p.priced || n > 0
	}
	return p
}

// table is memory for the forecasts of n prompts, nil where no cost is known.
func (p *prices) table(n int) []float64 {
	if !p.priced {
		return nil
	}
	return make([]float64, n*p.arms)
}

// forecast sets dst to the expected cost of every arm on prompt i of t: input tokens as the table counts them, else as
// estimated, and the expected output tokens. An arm whose tokens are unknown costs its mean.
func (p *prices) forecast(dst []float64, t *datasets.Table, i, estimated int, tokens []float64) {
	for j := range dst {
		input := float64(estimated)
		if v := t.Input[t.At(i, j)]; v == v {
			input = float64(v)
		}
		dst[j] = p.mean[j]
		if tokens[j] > 0 && p.input[j]+p.output[j] > 0 {
			dst[j] = input*p.input[j] + tokens[j]*p.output[j]
		}
	}
}

// ImpliedPrices are the prices of an input and an output token, in dollars a million, that a table's costs imply for each
// of its arms; NaN where it has no costs.
func ImpliedPrices(t *datasets.Table) (input, output []float64) {
	p := newPrices(t)
	for j := range p.input {
		if p.input[j], p.output[j] = 1e6*p.input[j], 1e6*p.output[j]; !(p.mean[j] >= 0) || p.input[j]+p.output[j] == 0 {
			p.input[j], p.output[j] = math.NaN(), math.NaN()
		}
	}
	return p.input, p.output
}
