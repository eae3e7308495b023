package governance

import (
	"math"
	"testing"
	"time"
)

func TestHedge(t *testing.T) {
	share := func(x float64) *float64 { return &x }
	for name, test := range map[string]struct {
		config *HedgeConfig
		want   *Hedge
		bad    bool
	}{
		"none":              {nil, nil, false},
		"defaults":          {&HedgeConfig{}, &Hedge{MaxShare: hedgeShare}, false},
		"all":               {&HedgeConfig{AfterMS: 1.5, MaxShare: share(1), MaxCostUSD: .25}, &Hedge{1500 * time.Microsecond, 1, 250_000_000}, false},
		"no share":          {&HedgeConfig{MaxShare: share(0)}, nil, true},
		"more than all":     {&HedgeConfig{MaxShare: share(1.01)}, nil, true},
		"no number":         {&HedgeConfig{MaxShare: share(math.NaN())}, nil, true},
		"before it began":   {&HedgeConfig{AfterMS: -1}, nil, true},
		"after its end":     {&HedgeConfig{AfterMS: 600_001}, nil, true},
		"for ever":          {&HedgeConfig{AfterMS: math.Inf(1)}, nil, true},
		"less than nothing": {&HedgeConfig{MaxCostUSD: -1}, nil, true},
	} {
		a, err := New(Options{Keys: []KeyConfig{{Key: keyA, Hedge: test.config}}})
		if (err != nil) != test.bad {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if got := a.Principals()[0].Hedge; (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}
