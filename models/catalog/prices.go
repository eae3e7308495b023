package catalog

import (
	"math"
	"math/bits"
)

// Usage counts the tokens of one call by the price that applies to them. The counts do not overlap: Input holds only
// what was neither read from nor written to the prompt cache.
type Usage struct {
	Input      int64 `json:"input"`
	CacheRead  int64 `json:"cache_read"`
	CacheWrite int64 `json:"cache_write"`
	Output     int64 `json:"output"`
}

// Prices are what a provider asks for a token. Known is false where nobody told: such an arm is unpriced, which is
// never the same as free.
type Prices struct {
	Known      bool
	Input      Picodollars
	Output     Picodollars
	CacheRead  Picodollars
	CacheWrite Picodollars
	// Step replaces all of these for a call whose input is long.
	Step Step
}

// Step is a price step: a call with more than Above input tokens, cached ones included, is charged at these prices
// from its first token on. Above is 0 where there is none.
type Step struct {
	Above      int64
	Input      Picodollars
	Output     Picodollars
	CacheRead  Picodollars
	CacheWrite Picodollars
}

// At returns the prices in force for a call of this usage: those of the step where its input is above it. The result
// has no step, so that the parts of a call can be priced one by one.
func (p *Prices) At(u Usage) Prices {
	at := *p
	at.Step = Step{}
	if s := &p.Step; s.Above > 0 && above(u, s.Above) {
		at.Input, at.Output, at.CacheRead, at.CacheWrite = s.Input, s.Output, s.CacheRead, s.CacheWrite
	}
	return at
}

// above reports whether the input tokens are more than bound, without a sum that could overflow.
func above(u Usage, bound int64) bool {
	for _, n := range [...]int64{u.Input, u.CacheRead, u.CacheWrite} {
		if n > bound {
			return true
		}
		bound -= max(n, 0)
	}
	return false
}

// Cost sums a call in picodollars and rounds up once. An unknown cache price has been replaced by the input price
// when the catalog was read. It is ErrUnpriced where no price is known and ErrOverflow where the sum does not fit.
func (p *Prices) Cost(u Usage) (Nanodollars, error) {
	if !p.Known {
		return 0, ErrUnpriced
	}
	at := p.At(u)
	var hi, lo uint64
	for _, t := range [...]struct {
		n int64
		p Picodollars
	}{{u.Input, at.Input}, {u.CacheRead, at.CacheRead}, {u.CacheWrite, at.CacheWrite}, {u.Output, at.Output}} {
		if t.n < 0 || t.p < 0 {
			return 0, ErrOverflow
		}
		h, l := bits.Mul64(uint64(t.n), uint64(t.p))
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		hi, carry = bits.Add64(hi, h, carry)
		if carry != 0 {
			return 0, ErrOverflow
		}
	}
	if hi >= 1000 {
		return 0, ErrOverflow
	}
	quo, rem := bits.Div64(hi, lo, 1000)
	if rem > 0 {
		quo++
	}
	if quo > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return Nanodollars(quo), nil
}

// Bound is the most that a call can cost: inputs tokens at the dearest input price that may apply and n answers of at
// most outputs tokens each.
func (p *Prices) Bound(inputs, outputs, n int64) (Nanodollars, error) {
	input, output := max(p.Input, p.CacheRead, p.CacheWrite), p.Output
	if s := &p.Step; s.Above > 0 && inputs > s.Above {
		input, output = max(input, s.Input, s.CacheRead, s.CacheWrite), max(output, s.Output)
	}
	h, total := bits.Mul64(uint64(max(outputs, 0)), uint64(max(n, 1)))
	if h != 0 || total > math.MaxInt64 {
		return 0, ErrOverflow
	}
	dearest := Prices{Known: p.Known, Input: input, Output: output}
	return dearest.Cost(Usage{Input: inputs, Output: int64(total)})
}
