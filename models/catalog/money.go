package catalog

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
)

// Nanodollars is an amount of money in units of 1e-9 US dollars. Money is never a float.
type Nanodollars int64

// Picodollars is a price of one token in units of 1e-12 US dollars. One dollar per million tokens is 1,000,000 of them.
type Picodollars int64

// ErrOverflow says that an amount does not fit its type. It is an error and never wraps around.
var ErrOverflow = errors.New("catalog: amount of money out of range")

// FromDollars converts dollars to nanodollars, rounding half to even. NaN, infinities and amounts beyond ±9.2e9 USD
// are ErrOverflow.
func FromDollars(usd float64) (Nanodollars, error) {
	n := math.RoundToEven(usd * 1e9)
	if math.IsNaN(n) || n >= math.MaxInt64 || n <= math.MinInt64 {
		return 0, ErrOverflow
	}
	return Nanodollars(n), nil
}

// PerMillion converts a list price in US dollars per million tokens to the price of a token. It rounds half to even
// and refuses negative and absurd (over 1e6 USD) prices.
func PerMillion(usd float64) (Picodollars, error) {
	if math.IsNaN(usd) || usd < 0 || usd > 1e6 {
		return 0, fmt.Errorf("catalog: price of %v USD per million tokens is out of range", usd)
	}
	return Picodollars(math.RoundToEven(usd * 1e6)), nil
}

// Dollars returns the amount as a float, for estimates and plots; never for books.
func (n Nanodollars) Dollars() float64 { return float64(n) / 1e9 }

// String writes the amount in dollars, exactly, with no trailing zeros: 0.000155, -1.5, 0.
func (n Nanodollars) String() string { return string(n.AppendText(nil)) }

// AppendText appends the exact decimal form to b.
func (n Nanodollars) AppendText(b []byte) []byte {
	u := uint64(n)
	if n < 0 {
		b, u = append(b, '-'), -u
	}
	b = strconv.AppendUint(b, u/1e9, 10)
	frac := u % 1e9
	if frac == 0 {
		return b
	}
	b = append(b, '.')
	for scale := uint64(1e8); frac > 0; scale /= 10 {
		b = append(b, byte('0'+frac/scale))
		frac %= scale
	}
	return b
}

// MarshalJSON writes a JSON number in dollars with at most nine decimals, the form of every amount on the wire.
func (n Nanodollars) MarshalJSON() ([]byte, error) { return n.AppendText(nil), nil }

// UnmarshalJSON reads a JSON number in dollars.
func (n *Nanodollars) UnmarshalJSON(b []byte) error {
	usd, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("catalog: %q is not an amount in dollars", b)
	}
	v, err := FromDollars(usd)
	if err != nil {
		return err
	}
	*n = v
	return nil
}

// Usage counts the tokens of one call by the price that applies to them. The counts do not overlap: Input holds only
// what was neither read from nor written to the prompt cache.
type Usage struct {
	Input      int64
	CacheRead  int64
	CacheWrite int64
	Output     int64
}

// Prices are what a provider asks for a token. Known is false where nobody told: such an arm is unpriced, which is
// never the same as free.
type Prices struct {
	Known      bool
	Input      Picodollars
	Output     Picodollars
	CacheRead  Picodollars
	CacheWrite Picodollars
}

// Cost sums a call in picodollars and rounds up once. An unknown cache price has been replaced by the input price
// when the catalog was read.
func (p *Prices) Cost(u Usage) (Nanodollars, error) {
	var hi, lo uint64
	for _, t := range [...]struct {
		n int64
		p Picodollars
	}{{u.Input, p.Input}, {u.CacheRead, p.CacheRead}, {u.CacheWrite, p.CacheWrite}, {u.Output, p.Output}} {
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
	dearest := Prices{Known: p.Known, Input: max(p.Input, p.CacheRead, p.CacheWrite), Output: p.Output}
	h, total := bits.Mul64(uint64(max(outputs, 0)), uint64(max(n, 1)))
	if h != 0 || total > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return dearest.Cost(Usage{Input: inputs, Output: int64(total)})
}
