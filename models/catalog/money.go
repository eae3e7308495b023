package catalog

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Nanodollars is an amount of money in units of 1e-9 US dollars. Money is never a float.
type Nanodollars int64

// Picodollars is a price of one token in units of 1e-12 US dollars. One dollar per million tokens is 1,000,000 of them.
type Picodollars int64

// ErrOverflow says that an amount does not fit its type. It is an error and never wraps around.
var ErrOverflow = errors.New("catalog: amount of money out of range")

// ErrUnpriced says that nobody told a price. An arm without one is never free.
var ErrUnpriced = errors.New("catalog: arm has no price")

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

// UnmarshalJSON reads a JSON number in dollars. What String writes comes back exactly; a number with an exponent or
// with more than nine decimals is rounded half to even.
func (n *Nanodollars) UnmarshalJSON(b []byte) error {
	v, err := ParseDollars(string(b))
	if err != nil && !errors.Is(err, ErrOverflow) {
		usd, floatErr := strconv.ParseFloat(string(b), 64)
		if floatErr != nil {
			return fmt.Errorf("catalog: %.40q is not an amount in dollars", b)
		}
		v, err = FromDollars(usd)
	}
	if err != nil {
		return err
	}
	*n = v
	return nil
}

// UnmarshalText reads an amount in dollars as ParseDollars does.
func (n *Nanodollars) UnmarshalText(b []byte) error {
	v, err := ParseDollars(string(b))
	*n = v
	return err
}

// ParseDollars reads an amount in dollars, such as -1.5, exactly: digits with at most nine decimals.
func ParseDollars(s string) (Nanodollars, error) {
	digits, negative := strings.CutPrefix(s, "-")
	u, err := parseDecimal(digits, 9)
	switch {
	case err != nil:
		return 0, err
	case negative && u <= 1<<63:
		return Nanodollars(-u), nil
	case u > math.MaxInt64:
		return 0, ErrOverflow
	}
	return Nanodollars(u), nil
}

// ParsePerMillion reads a list price in US dollars per million tokens, such as 0.075, exactly: digits with at most six
// decimals, and no more than 1e6 USD.
func ParsePerMillion(s string) (Picodollars, error) {
	u, err := parseDecimal(s, 6)
	if err == nil && u > 1e12 {
		err = fmt.Errorf("catalog: price of %.40s USD per million tokens is out of range", s)
	}
	if err != nil {
		return 0, err
	}
	return Picodollars(u), nil
}

// parseDecimal reads digits, with a point among them or not, in units of 10^-decimals.
func parseDecimal(s string, decimals int) (uint64, error) {
	whole, frac, point := strings.Cut(s, ".")
	if whole == "" || (point && frac == "") || len(frac) > decimals || strings.Trim(whole+frac, "0123456789") != "" {
		return 0, fmt.Errorf("catalog: %.40q is not a decimal number with at most %d decimals", s, decimals)
	}
	u, err := strconv.ParseUint(whole+frac+"000000000"[:decimals-len(frac)], 10, 64)
	if err != nil {
		return 0, ErrOverflow
	}
	return u, nil
}
