package catalog

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNanodollarsString(t *testing.T) {
	for _, tt := range []struct {
		n    Nanodollars
		want string
	}{
		{0, "0"}, {1, "0.000000001"}, {-1, "-0.000000001"}, {155_000, "0.000155"}, {-1_500_000_000, "-1.5"},
		{20_000_000_000, "20"}, {math.MaxInt64, "9223372036.854775807"}, {math.MinInt64, "-9223372036.854775808"},
	} {
		if got := tt.n.String(); got != tt.want {
			t.Errorf("%d: %q, want %q", int64(tt.n), got, tt.want)
		}
	}
}

func TestMoneyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Nanodollars(rapid.Int64().Draw(t, "n"))
		if got, err := ParseDollars(n.String()); got != n || err != nil {
			t.Fatalf("ParseDollars(%s) = %d, %v, want %d", n, got, err, n)
		}
		b, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		var back Nanodollars
		if err := json.Unmarshal(b, &back); back != n || err != nil {
			t.Fatalf("%s in JSON came back as %d, %v", b, back, err)
		}
	})
}

func TestMoneyFromJSON(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Nanodollars
		ok   bool
	}{
		{"0.1", 100_000_000, true}, {"1e-3", 1_000_000, true}, {"-2.50", -2_500_000_000, true},
		{"0.0000000005", 0, true}, {"0.0000000015", 2, true}, {"9223372036.854775807", math.MaxInt64, true},
		{"9223372036.854775808", 0, false}, {"1e300", 0, false}, {"null", 0, false}, {`"1"`, 0, false}, {"true", 0, false},
	} {
		var got Nanodollars
		if err := got.UnmarshalJSON([]byte(tt.text)); got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%s: %d, %v, want %d, ok %v", tt.text, got, err, tt.want, tt.ok)
		}
	}
	for _, usd := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 9.3e9, -9.3e9} {
		if got, err := FromDollars(usd); !errors.Is(err, ErrOverflow) {
			t.Errorf("FromDollars(%v) = %d, %v", usd, got, err)
		}
	}
}

func TestParsePerMillion(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Picodollars
		ok   bool
	}{
		{"0.003625", 3625, true}, {"15", 15_000_000, true}, {"0", 0, true}, {"1000000", 1e12, true},
		{"1000000.000001", 0, false}, {"0.0000001", 0, false}, {"", 0, false}, {".5", 0, false}, {"5.", 0, false}, {"-1", 0, false},
		{"+1", 0, false}, {"1e3", 0, false}, {"1.2.3", 0, false}, {" 1", 0, false}, {"99999999999999999999", 0, false},
	} {
		if got, err := ParsePerMillion(tt.text); got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%q: %d, %v, want %d, ok %v", tt.text, got, err, tt.want, tt.ok)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.Int64Range(0, 1e12).Draw(t, "price")
		text := Nanodollars(p * 1000).String() // six decimals of a dollar are nine with three zeros
		if got, err := ParsePerMillion(text); int64(got) != p || err != nil {
			t.Fatalf("%s: %d, %v, want %d", text, got, err, p)
		}
	})
}

func anyRates(t *rapid.T) Rates {
	price := func(name string) Picodollars { return Picodollars(rapid.Int64Range(0, 1e12).Draw(t, name)) }
	return Rates{
		Input: price("in"), CacheRead: price("read"), CacheWrite: price("write"), CacheWrite1h: price("write 1h"), AudioInput: price("audio in"),
		ImageInput: price("image in"), Output: price("out"), Reasoning: price("reasoning"), AudioOutput: price("audio out"),
	}
}

func anyPrices(t *rapid.T) Prices {
	p := Prices{Known: true, Rates: anyRates(t), Request: Nanodollars(rapid.Int64Range(0, 1e9).Draw(t, "request"))}
	above := int64(0)
	for i := range rapid.IntRange(0, StepsMax).Draw(t, "steps") {
		above += rapid.Int64Range(1, 700).Draw(t, "above")
		p.Steps[i] = Step{above, anyRates(t)}
	}
	return p
}

func anyUsage(t *rapid.T, count *rapid.Generator[int64]) Usage {
	n := func(name string) int64 { return count.Draw(t, name) }
	return Usage{
		Input: n("input"), CacheRead: n("read"), CacheWrite: n("write"), CacheWrite1h: n("write 1h"), AudioInput: n("audio in"),
		ImageInput: n("image in"), Output: n("output"), Reasoning: n("reasoning"), AudioOutput: n("audio out"),
	}
}

// TestCostIsExact compares with integers of any size: rounded up, once, and an error exactly where it does not fit.
// Pain 23 (BerriAI/litellm#11364, #33772): every kind of token has a price of its own.
func TestCostIsExact(t *testing.T) {
	count := rapid.OneOf(rapid.Int64Range(0, 2000), rapid.Int64Range(0, math.MaxInt64))
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrices(t)
		u := anyUsage(t, count)
		inputs := new(big.Int)
		for _, n := range []int64{u.Input, u.CacheRead, u.CacheWrite, u.CacheWrite1h, u.AudioInput, u.ImageInput} {
			inputs.Add(inputs, big.NewInt(n))
		}
		at := p.Rates
		for _, s := range p.Steps {
			if s.Above > 0 && inputs.Cmp(big.NewInt(s.Above)) > 0 {
				at = s.Rates
			}
		}
		pico := new(big.Int)
		for _, part := range []struct {
			n int64
			p Picodollars
		}{
			{u.Input, at.Input}, {u.CacheRead, at.CacheRead}, {u.CacheWrite, at.CacheWrite}, {u.CacheWrite1h, at.CacheWrite1h},
			{u.AudioInput, at.AudioInput}, {u.ImageInput, at.ImageInput}, {u.Output, at.Output}, {u.Reasoning, at.Reasoning}, {u.AudioOutput, at.AudioOutput},
		} {
			pico.Add(pico, new(big.Int).Mul(big.NewInt(part.n), big.NewInt(int64(part.p))))
		}
		want := new(big.Int).Add(pico, big.NewInt(999))
		want.Add(want.Quo(want, big.NewInt(1000)), big.NewInt(int64(p.Request)))
		got, err := p.Cost(u)
		if !want.IsInt64() {
			if !errors.Is(err, ErrOverflow) {
				t.Fatalf("Cost = %d, %v, want %v for %v", got, err, ErrOverflow, want)
			}
			return
		}
		if err != nil || int64(got) != want.Int64() {
			t.Fatalf("Cost = %d, %v, want %v", got, err, want)
		}
	})
}

// Pain 24 (BerriAI/litellm#16377, #40090): a step applies to the whole request, from one token above its bound on.
func TestStepsHoldForTheWholeRequest(t *testing.T) {
	p := Flat(1_000_000, 2_000_000)
	p.Steps[0] = Step{1000, Flat(2_000_000, 3_000_000).Rates}
	p.Steps[1] = Step{2000, Flat(4_000_000, 5_000_000).Rates}
	for _, tt := range []struct {
		usage Usage
		want  Nanodollars
	}{
		{Usage{Input: 1000, Output: 10}, 1000*1000 + 10*2000},
		{Usage{Input: 1001, Output: 10}, 1001*2000 + 10*3000},
		{Usage{Input: 1, CacheRead: 500, CacheWrite1h: 500, Output: 10}, 1001*2000 + 10*3000},
		{Usage{Input: 2000, Output: 10}, 2000*2000 + 10*3000},
		{Usage{Input: 1000, AudioInput: 500, ImageInput: 501, Output: 10}, 2001*4000 + 10*5000},
	} {
		if got, err := p.Cost(tt.usage); err != nil || got != tt.want {
			t.Errorf("%+v costs %s, %v, want %s", tt.usage, got, err, tt.want)
		}
	}
}

func TestBoundCoversEveryUsageWithinIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrices(t)
		m := Most{
			Inputs: rapid.Int64Range(0, 2000).Draw(t, "inputs"), Outputs: rapid.Int64Range(0, 2000).Draw(t, "outputs"),
			N: rapid.Int64Range(1, 4).Draw(t, "n"), Audio: rapid.Bool().Draw(t, "audio"),
		}
		bound, err := p.Bound(m)
		if err != nil {
			t.Fatal(err)
		}
		var u Usage
		left := m.Inputs
		for _, kind := range []*int64{&u.Input, &u.CacheRead, &u.CacheWrite, &u.CacheWrite1h, &u.ImageInput, &u.AudioInput} {
			if kind != &u.AudioInput || m.Audio {
				*kind = rapid.Int64Range(0, left).Draw(t, "part")
				left -= *kind
			}
		}
		left = m.Outputs * m.N
		for _, kind := range []*int64{&u.Output, &u.Reasoning, &u.AudioOutput} {
			*kind = rapid.Int64Range(0, left).Draw(t, "part")
			left -= *kind
		}
		if cost, err := p.Cost(u); err != nil || cost > bound {
			t.Fatalf("%+v costs %d, %v, above the bound %d", u, cost, err, bound)
		}
	})
}

// TestListed: what is listed is a price that the call may have, and never less than the one that it has.
func TestListed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrices(t)
		most := rapid.Int64Range(0, 2000).Draw(t, "inputs")
		input, output := p.Listed(most)
		at := p.At(Usage{Input: rapid.Int64Range(0, most).Draw(t, "sent")})
		if input < at.Input || output < at.Output || output < at.Reasoning {
			t.Fatalf("listed at %d and %d, and asked %+v", input, output, at)
		}
		reached := []*Rates{&p.Rates}
		for i := range p.Steps {
			if s := &p.Steps[i]; s.Above > 0 && s.Above < most {
				reached = append(reached, &s.Rates)
			}
		}
		if !slices.ContainsFunc(reached, func(r *Rates) bool { return r.Input == input }) ||
			!slices.ContainsFunc(reached, func(r *Rates) bool { return max(r.Output, r.Reasoning) == output }) {
			t.Fatalf("listed at %d and %d, which no step within %d tokens asks", input, output, most)
		}
	})
}

func TestCostRefuses(t *testing.T) {
	var unknown Prices
	if _, err := unknown.Cost(Usage{}); !errors.Is(err, ErrUnpriced) {
		t.Errorf("unpriced: %v", err)
	}
	if _, err := unknown.Bound(Most{Inputs: 1, Outputs: 1}); !errors.Is(err, ErrUnpriced) {
		t.Errorf("bound of unpriced: %v", err)
	}
	p := Flat(1, 1)
	for _, u := range []Usage{{Input: -1}, {CacheRead: -1}, {CacheWrite: -1}, {Output: -1}, {AudioInput: -1}, {Reasoning: -1}} {
		if _, err := p.Cost(u); !errors.Is(err, ErrOverflow) {
			t.Errorf("%+v: %v", u, err)
		}
	}
	if _, err := p.Bound(Most{Inputs: 1, Outputs: math.MaxInt64, N: 3}); !errors.Is(err, ErrOverflow) {
		t.Error("a bound that overflows was given")
	}
	p.Request = math.MaxInt64
	if _, err := p.Cost(Usage{Input: 1000}); !errors.Is(err, ErrOverflow) {
		t.Error("a fee that overflows was added")
	}
}

// Pain 25 (headroomlabs-ai/headroom#3032): what nobody told is guessed, never less than the full price, and says so.
func TestUnknownPricesAreGuessed(t *testing.T) {
	p := Flat(1_000_000, 2_000_000)
	for _, tt := range []struct {
		usage   Usage
		want    Nanodollars
		guesses bool
	}{
		{Usage{Input: 1, Output: 1, Reasoning: 1, ImageInput: 1}, 6000, false},
		{Usage{CacheRead: 1}, 1000, true}, {Usage{CacheWrite: 1}, 1000, true}, {Usage{CacheWrite1h: 1}, 1000, true},
		{Usage{AudioInput: 1}, 1000, true}, {Usage{AudioOutput: 1}, 2000, true},
	} {
		if got, err := p.Cost(tt.usage); err != nil || got != tt.want || p.Guesses(tt.usage) != tt.guesses {
			t.Errorf("%+v costs %s, %v, guessed %v; want %s, guessed %v", tt.usage, got, err, p.Guesses(tt.usage), tt.want, tt.guesses)
		}
	}
	if told, err := parse(`{"id":"p/x","in":"1","out":"2","cache_write":"1.25"}`); err != nil || told.Arms()[0].Prices.CacheWrite1h != 1_250_000 {
		t.Errorf("an hour in the cache costs less than five minutes: %+v, %v", told, err)
	}
}

func FuzzParseDollars(f *testing.F) {
	for _, s := range []string{"0.1", "-9223372036.854775808", "1.", "00.10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseDollars(s)
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(s)
		if got := new(big.Rat).SetFrac(big.NewInt(int64(n)), big.NewInt(1e9)); !ok || got.Cmp(want) != 0 {
			t.Errorf("ParseDollars(%q) = %s", s, n)
		}
		if strings.ContainsAny(s, "eE_+x") {
			t.Errorf("%q was accepted", s)
		}
	})
}
