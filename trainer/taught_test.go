package trainer

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
)

// purity is the share of prompts that are of the commonest family in their likeliest cluster.
func purity(s *taskSet, families []string) float64 {
	count := map[int]map[string]int{}
	k := len(s.names)
	for i, family := range families {
		row := s.posterior[i*k : (i+1)*k]
		c := slices.Index(row, slices.Max(row))
		if count[c] == nil {
			count[c] = map[string]int{}
		}
		count[c][family]++
	}
	pure := 0
	for _, families := range count {
		most := 0
		for _, n := range families {
			most = max(most, n)
		}
		pure += most
	}
	return float64(pure) / float64(len(families))
}

// TestTeach: taught clusters are purer than those of k-means that they began as, and what serves tells them apart as
// training did.
func TestTeach(t *testing.T) {
	const n = 2000
	w := world(t, simulate.Options{Seed: 21})
	table := tableOf(w, 0, n)
	families := make([]string, n)
	for i := range families {
		families[i] = w.Sample(int64(i)).Family
	}
	o := &FitOptions{Seed: 1}
	_, contexts, err := extract(context.Background(), table, o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFitter(context.Background(), table, contexts, o)
	if err != nil {
		t.Fatal(err)
	}
	f.tasks = newTasks(table, f.design, o.Seed, taughtMax)
	before := purity(f.tasks, families)
	if err := f.tasks.teach(context.Background(), f.design); err != nil {
		t.Fatal(err)
	}
	after := purity(f.tasks, families)
	t.Logf("k-means %.3f, taught %.3f", before, after)
	if after < before+0.05 {
		t.Errorf("got purity %.3f, want more than k-means' %.3f", after, before)
	}
	m, err := f.parts(context.Background(), all(n))
	if err != nil {
		t.Fatal(err)
	}
	c, err := classifier.New(m)
	if err != nil {
		t.Fatal(err)
	}
	var p classifier.Parts
	for i := range 100 {
		c.Parts(&p, &contexts[i])
		for k, v := range f.tasks.posterior[i*len(p.Posterior) : (i+1)*len(p.Posterior)] {
			if math.Abs(float64(v)-p.Posterior[k]) > 0.1 {
				t.Fatalf("prompt %d, cluster %d: training says %v, serving %v", i, k, v, p.Posterior[k])
			}
		}
	}
}
