package trainer

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// twoSources is a Rasch world in which two sources share neither an arm nor a prompt: only tiers link them. The second has
// prompts a whole logit harder.
func twoSources(prompts int) (t *datasets.Table, hard []float64, tier func(catalog.ArmID) catalog.Tier) {
	tiers := []catalog.Tier{catalog.TierSmall, catalog.TierMedium, catalog.TierFrontier}
	ability := []float64{-1, 0, 2}
	var arms []catalog.ArmID
	of := map[catalog.ArmID]int{}
	for k := range 12 {
		id := catalog.ArmID(fmt.Sprintf("arm-%d", k))
		of[id] = k % len(tiers)
		arms = append(arms, id)
	}
	rng := rand.New(rand.NewPCG(5, 1))
	t = datasets.NewTable(arms, prompts)
	for i := range prompts {
		source := i % 2
		t.Prompts[i] = datasets.Prompt{ID: fmt.Sprint(i), Dataset: fmt.Sprintf("task-%d", i%6)}
		hard = append(hard, float64(source)+rng.NormFloat64())
		for k := 6 * source; k < 6*source+6; k++ {
			at := t.At(i, k)
			if t.Score[at] = 0; rng.Float64() < 1/(1+math.Exp(hard[i]-ability[of[arms[k]]])) {
				t.Score[at] = 1
			}
			t.Output[at] = float32(100 * (i%3 + 1) * (of[arms[k]] + 1)) // dear arms talk more
		}
	}
	return t, hard, func(a catalog.ArmID) catalog.Tier { return tiers[of[a]] }
}

func TestTiers(t *testing.T) {
	table, hard, tier := twoSources(3000)
	got, err := Tiers(table, tier)
	if err != nil {
		t.Fatal(err)
	}
	if want := "[tier/small tier/medium tier/large tier/frontier]"; fmt.Sprint(got.Arms) != want {
		t.Fatalf("arms %v, want %s", got.Arms, want)
	}
	// Nobody is of tier large: it lies on the line through the ends.
	truth, mean, want := []float64{-1, 0, 1, 2}, [4][2]float64{}, [4][2]float64{}
	for i := range table.Prompts {
		for g := range truth {
			mean[g][i%2] += 2 * float64(got.Score[got.At(i, g)]) / float64(len(hard))
			want[g][i%2] += 2 / (1 + math.Exp(hard[i]-truth[g])) / float64(len(hard))
			if g > 0 && got.Score[got.At(i, g)] <= got.Score[got.At(i, g-1)] {
				t.Fatalf("prompt %d: tier %d is not better than the one below: %v", i, g, got.Score[got.At(i, 0):got.At(i, 4)])
			}
		}
		if a, b := got.Output[got.At(i, 0)], got.Output[got.At(i%3, 0)]; math.Abs(float64(a/b)-1) > 0.01 || a != got.Output[got.At(i, 3)] {
			t.Fatalf("prompt %d: answers of %v tokens, want %v for every tier", i, a, b)
		}
	}
	for g := range mean {
		for source, m := range mean[g] {
			if math.Abs(m-want[g][source]) > 0.06 {
				t.Errorf("tier %d is expected to score %.3f on source %d, in truth it is %.3f", g, m, source, want[g][source])
			}
		}
	}
}

func TestTiersRefuses(t *testing.T) {
	table, _, tier := twoSources(200)
	for name, f := range map[string]func(catalog.ArmID) catalog.Tier{
		"an arm without a tier": func(a catalog.ArmID) catalog.Tier {
			if a == "arm-3" {
				return catalog.TierUnknown
			}
			return tier(a)
		},
		"one tier": func(catalog.ArmID) catalog.Tier { return catalog.TierLarge },
		"tiers upside down": func(a catalog.ArmID) catalog.Tier {
			return map[catalog.Tier]catalog.Tier{catalog.TierSmall: catalog.TierFrontier, catalog.TierMedium: catalog.TierMedium, catalog.TierFrontier: catalog.TierSmall}[tier(a)]
		},
	} {
		if _, err := Tiers(table, f); !errors.Is(err, ErrTiers) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
