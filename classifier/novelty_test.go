package classifier

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/features"
)

// fill adds values and returns the mean of the one window that they fill.
func fill(t interface{ Fatalf(string, ...any) }, values []float64) (mean float64) {
	var w Window
	windows := 0
	for _, v := range values {
		if m, full := w.Add(v); full {
			mean, windows = m, windows+1
		}
	}
	if windows != 1 || w.word.Load() != 0 {
		t.Fatalf("%d prompts fill %d windows and leave %d behind", len(values), windows, w.word.Load())
	}
	return mean
}

// TestWindowForgetsOrder: the mean of a window is that of its prompts, to the last bit in whatever order they came.
func TestWindowForgetsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(-1.5*noveltyLimit, 1.5*noveltyLimit), NoveltyWindow, NoveltyWindow).Draw(t, "values")
		want := 0.0
		for _, v := range values {
			want += max(-noveltyLimit, min(noveltyLimit, v)) / NoveltyWindow
		}
		first := fill(t, values)
		if math.Abs(first-want) > 1e-9 {
			t.Fatalf("got mean %v, want %v", first, want)
		}
		rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		if again := fill(t, values); again != first {
			t.Fatalf("in another order the mean is %v and not %v", again, first)
		}
	})
}

// TestWindowFilledFromManySides: every prompt counts in one window, whoever adds it.
func TestWindowFilledFromManySides(t *testing.T) {
	const sides, windows = 8, 40
	var w Window
	var group sync.WaitGroup
	means := make(chan float64, 2*windows)
	for side := range sides {
		group.Go(func() {
			for i := side; i < windows*NoveltyWindow; i += sides {
				if mean, full := w.Add(float64(i%3 - 1)); full {
					means <- mean
				}
			}
		})
	}
	group.Wait()
	close(means)
	count, got, want := 0, 0.0, 0.0
	for i := range windows * NoveltyWindow {
		want += float64(i%3-1) / NoveltyWindow
	}
	for mean := range means {
		count, got = count+1, got+mean
	}
	if count != windows || math.Abs(got-want) > 1e-6 || w.word.Load() != 0 {
		t.Errorf("%d windows of sum %v, want %d of %v; %d left behind", count, got, windows, want, w.word.Load())
	}
}

// TestNovelty: it is the entropy over what is usual in the likeliest task; without a reference there is none, and a
// reference of other tasks is refused.
func TestNovelty(t *testing.T) {
	m := madeUp(3, 4, 200)
	var x features.Context
	var e policy.Estimates
	plain := ready(t, m)
	plain.Extractor().Extract(&x, features.NewPrompt(question))
	if plain.Estimate(&e, &x); e.Novelty != 0 || plain.NoveltySamples() != 0 {
		t.Errorf("without a reference the novelty is %v, of %d samples", e.Novelty, plain.NoveltySamples())
	}
	for k := range m.Router.Tasks {
		m.Router.Novelty = append(m.Router.Novelty, TaskEntropy{Mean: 0.1, Variance: 0.04, Count: 10 + k})
	}
	c := ready(t, m)
	var p Parts
	c.Parts(&p, &x)
	c.Estimate(&e, &x)
	if want := (Entropy(p.Posterior) - 0.1) / 0.2; math.Abs(e.Novelty-want) > 1e-12 || c.NoveltySamples() != 46 {
		t.Errorf("got %v of %d samples, want %v of 46", e.Novelty, c.NoveltySamples(), want)
	}
	var w Window
	if n := testing.AllocsPerRun(100, func() { w.Add(c.novelty(p.Posterior, 0)) }); n != 0 {
		t.Errorf("a prompt allocates %v times", n)
	}
	for name, spoil := range map[string]func(r []TaskEntropy) []TaskEntropy{
		"a task too few": func(r []TaskEntropy) []TaskEntropy { return r[1:] },
		"no number":      func(r []TaskEntropy) []TaskEntropy { r[0].Mean = math.NaN(); return r },
		"no variance":    func(r []TaskEntropy) []TaskEntropy { r[0].Variance = -1; return r },
		"no count":       func(r []TaskEntropy) []TaskEntropy { r[0].Count = -1; return r },
	} {
		bad := *m
		bad.Router.Novelty = spoil(append([]TaskEntropy(nil), m.Router.Novelty...))
		if bad.Validate() == nil {
			t.Errorf("%s: a model with this reference is taken", name)
		}
	}
}

// TestDrift: it is the index by its formula, nothing for the mix of training, and a mix that was compared begins anew.
func TestDrift(t *testing.T) {
	m := madeUp(3, 4, 200)
	for k := range m.Router.Tasks {
		m.Router.Novelty = append(m.Router.Novelty, TaskEntropy{Mean: 0.1, Variance: 0.04, Count: 10 + 10*k})
	}
	c := ready(t, m)
	mix := c.NewMix()
	for k, task := range m.Router.Novelty {
		for range 2 * task.Count {
			mix.Add(k)
		}
	}
	if psi := c.Drift(mix); psi < 0 || psi > 1e-4 {
		t.Errorf("the mix of training has drifted by %v", psi)
	}
	for range 100 {
		mix.Add(0)
	}
	want := 0.0
	for k := range m.Router.Tasks {
		p, q := 0.5/102, (10.5+10*float64(k))/102
		if k == 0 {
			p = 100.5 / 102
		}
		want += p*math.Log(p/q) + q*math.Log(q/p)
	}
	if psi := c.Drift(mix); math.Abs(psi-want) > 1e-12 {
		t.Errorf("one task alone has drifted by %v, want %v", psi, want)
	}
}
