package trainer

import (
	"cmp"
	"context"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// leftOut is a router that never saw one task, with the novelty of prompts that it was not trained on: those of the task,
// and of every task that it knows those that were kept back.
type leftOut struct {
	samples int
	new     []float64
	known   map[string][]float64
	all     []float64
}

// leaveOut trains without a task and without a fifth of the others' prompts.
func leaveOut(t *testing.T, table *datasets.Table, task string) *leftOut {
	t.Helper()
	var train, rest []int
	for i := range table.Prompts {
		h := fnv.New32a()
		h.Write([]byte(cmp.Or(table.Prompts[i].Group, table.Prompts[i].ID)))
		if table.Prompts[i].Dataset == task || h.Sum32()%5 == 0 {
			rest = append(rest, i)
		} else {
			train = append(train, i)
		}
	}
	m, _, err := Fit(context.Background(), table.Subset(train), FitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := classifier.New(m)
	if err != nil {
		t.Fatal(err)
	}
	out := &leftOut{samples: c.NoveltySamples(), known: map[string][]float64{}}
	var x features.Context
	var e policy.Estimates
	for _, i := range rest {
		c.Extractor().Extract(&x, features.NewPrompt(table.Prompts[i].Text))
		c.Estimate(&e, &x)
		if name := table.Prompts[i].Dataset; name == task {
			out.new = append(out.new, e.Novelty)
		} else {
			out.known[name], out.all = append(out.known[name], e.Novelty), append(out.all, e.Novelty)
		}
	}
	return out
}

// alarms is the share of 200 windows that raise one, whose prompts are drawn with replacement.
func (l *leftOut) alarms(seed uint64, window func(rng *rand.Rand) func() float64) float64 {
	const windows = 200
	rng, count := rand.New(rand.NewPCG(seed, 1)), 0.0
	for range windows {
		var w classifier.Window
		prompt := window(rng)
		for {
			if mean, full := w.Add(prompt()); full {
				if classifier.NoveltyZ(mean, l.samples) > classifier.NoveltyAlarm {
					count++
				}
				break
			}
		}
	}
	return count / windows
}

func pick(rng *rand.Rand, from []float64) float64 { return from[rng.IntN(len(from))] }

// mixed draws a share of prompts of the new task among those of the own mix.
func (l *leftOut) mixed(share float64) func(*rand.Rand) func() float64 {
	return func(rng *rand.Rand) func() float64 {
		return func() float64 {
			if rng.Float64() < share {
				return pick(rng, l.new)
			}
			return pick(rng, l.all)
		}
	}
}

// otherMix weighs the known tasks anew for every window, all weights being equally likely.
func (l *leftOut) otherMix(rng *rand.Rand) func() float64 {
	names, weights, total := l.names(), []float64{}, 0.0
	for range names {
		w := rng.ExpFloat64()
		weights, total = append(weights, w), total+w
	}
	return func() float64 {
		u, k := rng.Float64()*total, 0
		for u -= weights[0]; u > 0 && k < len(names)-1; u -= weights[k] {
			k++
		}
		return pick(rng, l.known[names[k]])
	}
}

// alone draws every window from one known task.
func (l *leftOut) alone(rng *rand.Rand) func() float64 {
	names := l.names()
	task := l.known[names[rng.IntN(len(names))]]
	return func() float64 { return pick(rng, task) }
}

// names are the tasks of which enough prompts were kept back to draw from.
func (l *leftOut) names() (names []string) {
	for name, prompts := range l.known {
		if len(prompts) >= 30 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestNoveltySimulated: windows of the mix that a router was trained on raise no alarm, windows with a task that it never
// saw do.
func TestNoveltySimulated(t *testing.T) {
	table := world(t, simulate.Options{Seed: 5, Arms: 3}).Table(1500)
	for _, task := range []string{"coding", "translation"} {
		l := leaveOut(t, table, task)
		own, half, whole := l.alarms(1, l.mixed(0)), l.alarms(2, l.mixed(0.5)), l.alarms(3, l.mixed(1))
		t.Logf("%s: own mix %.2f, half of it new %.2f, all of it new %.2f", task, own, half, whole)
		if own > 0 || half < 1 || whole < 1 {
			t.Errorf("%s: alarms in %.3f of the windows of the own mix, %.3f of half new and %.3f of new ones; want 0, 1, 1", task, own, half, whole)
		}
	}
}

// TestNoveltyReference: the reference counts every held-out prompt once, and by it novelty is 0 ± 1 in the mean.
func TestNoveltyReference(t *testing.T) {
	parts := make([]classifier.Parts, 100)
	for k := range parts {
		p := 0.5 + float64(k)/250
		parts[k].Posterior = []float64{p, 1 - p, 0}
	}
	parts[3].Posterior = []float64{0.1, 0.9, 0} // alone in its task
	got := entropies(parts, 3)
	if got[0].Count != 99 || got[1].Count != 1 || got[2].Count != 0 || got[1].Mean != got[2].Mean || got[1].Variance != got[2].Variance {
		t.Fatalf("got %+v", got)
	}
	mean, square := 0.0, 0.0
	for k := range parts {
		if k != 3 {
			z := (classifier.Entropy(parts[k].Posterior) - got[0].Mean) / math.Sqrt(got[0].Variance)
			mean, square = mean+z/99, square+z*z/99
		}
	}
	if math.Abs(mean) > 1e-9 || math.Abs(square-1) > 1e-9 {
		t.Errorf("residuals have mean %v and variance %v, want 0 and 1", mean, square)
	}
}

// TestBenchNovelty prints how often windows raise an alarm on public tables, with their largest tasks left out in turn.
func TestBenchNovelty(t *testing.T) {
	const tasks = 5
	for _, c := range []struct {
		name string
		pool []catalog.ArmID
	}{{"api-mix", nil}, {"mmlu-pro", chatAPI[:2]}, {"uiuc-llmrouter", nil}} {
		t.Run(c.name, func(t *testing.T) {
			table := benchTable(t, c.name, c.pool)
			size := map[string]int{}
			for i := range table.Prompts {
				size[table.Prompts[i].Dataset]++
			}
			names := []string{}
			for name := range size {
				names = append(names, name)
			}
			slices.SortFunc(names, func(a, b string) int { return cmp.Or(size[b]-size[a], cmp.Compare(a, b)) })
			for k, task := range names[:min(tasks, len(names))] {
				l, seed := leaveOut(t, table, task), uint64(k)
				own, some, half, whole := l.alarms(seed, l.mixed(0)), l.alarms(seed, l.mixed(0.2)), l.alarms(seed, l.mixed(0.5)), l.alarms(seed, l.mixed(1))
				t.Logf("%-28s own %3.0f %% (z %+.1f), 20 %% new %3.0f %%, 50 %% new %3.0f %%, new %3.0f %%, other mix %3.0f %%, one task %3.0f %%",
					task, 100*own, classifier.NoveltyZ(stat.Mean(l.all, nil), l.samples), 100*some, 100*half, 100*whole, 100*l.alarms(seed, l.otherMix), 100*l.alarms(seed, l.alone))
				if own > 0.01 {
					t.Errorf("%s: the own mix raises alarms", task)
				}
			}
		})
	}
}
