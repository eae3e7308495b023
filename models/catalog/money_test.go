package catalog

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
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

func anyPrices(t *rapid.T) Prices {
	price := rapid.Custom(func(t *rapid.T) Picodollars { return Picodollars(rapid.Int64Range(0, 1e12).Draw(t, "price")) })
	p := Prices{Known: true, Input: price.Draw(t, "in"), Output: price.Draw(t, "out"), CacheRead: price.Draw(t, "read"), CacheWrite: price.Draw(t, "write")}
	if rapid.Bool().Draw(t, "stepped") {
		p.Step = Step{Above: rapid.Int64Range(1, 1000).Draw(t, "above"), Input: price.Draw(t, "in"), Output: price.Draw(t, "out"),
			CacheRead: price.Draw(t, "read"), CacheWrite: price.Draw(t, "write")}
	}
	return p
}

// TestCostIsExact compares with integers of any size: rounded up, once, and an error exactly where it does not fit.
func TestCostIsExact(t *testing.T) {
	count := rapid.OneOf(rapid.Int64Range(0, 2000), rapid.Int64Range(0, math.MaxInt64))
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrices(t)
		u := Usage{Input: count.Draw(t, "input"), CacheRead: count.Draw(t, "read"), CacheWrite: count.Draw(t, "write"), Output: count.Draw(t, "output")}
		in, read, write, out := p.Input, p.CacheRead, p.CacheWrite, p.Output
		inputs := new(big.Int)
		for _, n := range []int64{u.Input, u.CacheRead, u.CacheWrite} {
			inputs.Add(inputs, big.NewInt(n))
		}
		if p.Step.Above > 0 && inputs.Cmp(big.NewInt(p.Step.Above)) > 0 {
			in, read, write, out = p.Step.Input, p.Step.CacheRead, p.Step.CacheWrite, p.Step.Output
		}
		pico := new(big.Int)
		for _, part := range []struct {
			n int64
			p Picodollars
		}{{u.Input, in}, {u.CacheRead, read}, {u.CacheWrite, write}, {u.Output, out}} {
			pico.Add(pico, new(big.Int).Mul(big.NewInt(part.n), big.NewInt(int64(part.p))))
		}
		want := new(big.Int).Add(pico, big.NewInt(999))
		want.Quo(want, big.NewInt(1000))
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

func TestBoundCoversEveryUsageWithinIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrices(t)
		inputs := rapid.Int64Range(0, 2000).Draw(t, "inputs")
		outputs, n := rapid.Int64Range(0, 2000).Draw(t, "outputs"), rapid.Int64Range(1, 4).Draw(t, "n")
		bound, err := p.Bound(inputs, outputs, n)
		if err != nil {
			t.Fatal(err)
		}
		a := rapid.Int64Range(0, inputs).Draw(t, "input")
		b := rapid.Int64Range(0, inputs-a).Draw(t, "read")
		u := Usage{Input: a, CacheRead: b, CacheWrite: rapid.Int64Range(0, inputs-a-b).Draw(t, "write"), Output: rapid.Int64Range(0, outputs*n).Draw(t, "output")}
		if cost, err := p.Cost(u); err != nil || cost > bound {
			t.Fatalf("%+v costs %d, %v, above the bound %d", u, cost, err, bound)
		}
	})
}

func TestCostRefuses(t *testing.T) {
	var unknown Prices
	if _, err := unknown.Cost(Usage{}); !errors.Is(err, ErrUnpriced) {
		t.Errorf("unpriced: %v", err)
	}
	if _, err := unknown.Bound(1, 1, 1); !errors.Is(err, ErrUnpriced) {
		t.Errorf("bound of unpriced: %v", err)
	}
	p := Prices{Known: true, Input: 1, Output: 1}
	for _, u := range []Usage{{Input: -1}, {CacheRead: -1}, {CacheWrite: -1}, {Output: -1}} {
		if _, err := p.Cost(u); !errors.Is(err, ErrOverflow) {
			t.Errorf("%+v: %v", u, err)
		}
	}
	if _, err := p.Bound(1, math.MaxInt64, 3); !errors.Is(err, ErrOverflow) {
		t.Error("a bound that overflows was given")
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
