package governance

import (
	"slices"
	"strings"
	"testing"
)

// TestTargets: a key has the cost targets of its chain, its own first, and each level its share of quality; nonsense is refused with the name of whose it is.
func TestTargets(t *testing.T) {
	const key = "sk-tw-aaaaaaaaaaaaaaaaaaaa"
	day := TargetConfig{Cost: CostConfig{Amount: 2.5, Per: PerDay}}
	a, err := New(Options{
		Orgs:  []OwnerConfig{{Name: "o", Target: TargetConfig{Quality: 0.9}}, {Name: "other", Target: day}},
		Teams: []OwnerConfig{{Name: "t", Org: "o", Target: day}},
		Keys:  []KeyConfig{{Key: key, Org: "o", Team: "t", Target: TargetConfig{Cost: CostConfig{Amount: 0.001, Per: PerRequest}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := a.Principals()[0]
	want := []Target{{Scope: "key", Owner: p.KeyID, Amount: 1_000_000, Per: PerRequest}, {Scope: "team", Owner: "o/t", Amount: 2_500_000_000, Per: PerDay}}
	if !slices.Equal(p.Targets, want) {
		t.Errorf("got cost targets %+v, want %+v", p.Targets, want)
	}
	if key, team, org := p.Levels[0].Quality, p.Levels[1].Quality, p.Levels[2].Quality; key != 0 || team != 0 || org != 0.9 {
		t.Errorf("got shares of quality %v, %v, %v, want that of the organization alone", key, team, org)
	}
	for _, c := range []struct {
		target  TargetConfig
		message string
	}{
		{TargetConfig{Quality: 0.9, Cost: CostConfig{Amount: 1, Per: PerDay}}, "of quality or of cost"},
		{TargetConfig{Quality: 1.1}, "quality is 1.1"},
		{TargetConfig{Quality: -0.1}, "quality is -0.1"},
		{TargetConfig{Cost: CostConfig{Amount: 1}}, `per ""`},
		{TargetConfig{Cost: CostConfig{Amount: 1, Per: "week"}}, `per "week"`},
		{TargetConfig{Cost: CostConfig{Per: PerDay}}, "amount of 0"},
		{TargetConfig{Cost: CostConfig{Amount: -1, Per: PerDay}}, "amount of -1"},
		{TargetConfig{Cost: CostConfig{Amount: 1e300, Per: PerDay}}, "amount of 1e+300"},
	} {
		for _, o := range []Options{
			{Keys: []KeyConfig{{Key: key, Name: "named", Target: c.target}}}, {Teams: []OwnerConfig{{Name: "named", Target: c.target}}}, {Orgs: []OwnerConfig{{Name: "named", Target: c.target}}},
		} {
			if _, err := New(o); err == nil || !strings.Contains(err.Error(), c.message) || !strings.Contains(err.Error(), `"named"`) || strings.Contains(err.Error(), key) {
				t.Errorf("%+v: %v", c.target, err)
			}
		}
	}
}
