package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// world makes a table of n prompts in three tasks whose arms differ by task, with costs that differ by arm and prompt.
func world(seed uint64, n, arms int) *datasets.Table {
	rng := rand.New(rand.NewPCG(seed, 7))
	ids := make([]catalog.ArmID, arms)
	for j := range ids {
		ids[j] = catalog.ArmID(fmt.Sprintf("sim/arm%d", j))
	}
	t := datasets.NewTable(ids, n)
	t.Name = "world"
	for i := range n {
		task := i % 3
		t.Prompts[i] = datasets.Prompt{ID: fmt.Sprintf("p%d", i), Dataset: fmt.Sprintf("task%d", task), Text: string(make([]byte, 1+rng.IntN(400)))}
		for j := range arms {
			at := t.At(i, j)
			if rng.Float64() < 0.3+0.12*float64(j)+0.25*float64((j+task)%3) {
				t.Score[at] = 1
			} else {
				t.Score[at] = 0
			}
			t.Output[at] = float32(20 + rng.IntN(200))
			t.Cost[at] = catalog.Nanodollars((1 + rng.IntN(10)) * (1 + j*j) * 10_000)
		}
	}
	return t
}

func matrixOf(t testing.TB, tab *datasets.Table) *Matrix {
	t.Helper()
	m, err := NewMatrix(tab, nil, Folds(tab, 5))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func traceOf(t testing.TB, m *Matrix, p *Predictions) *Trace {
	t.Helper()
	tr, err := NewTrace(m, p)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func baselinesOf(t testing.TB, m *Matrix) *Baselines {
	t.Helper()
	b, err := NewBaselines(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWorkedChecks(t *testing.T) {
	h := NewHull([]Point{{1, .5}, {2, .7}, {3, .6}, {5, .8}})
	near(t, "AIQ", h.AIQ(1, 5), 0.7125, 1e-12)
	near(t, "H(3)", h.At(3), 0.7+0.1/3, 1e-12)
	near(t, "H before the first", h.At(.5), .5, 0)
	near(t, "H after the last", h.At(9), .8, 0)
	near(t, "cost of .75", h.CostOf(.75), 3.5, 1e-12)
	near(t, "cost below the first", h.CostOf(.1), 1, 0)
	if got := h.CostOf(.9); !math.IsNaN(got) {
		t.Errorf("cost of a score out of reach = %v, want NaN", got)
	}
	near(t, "arena", Arena(.75, .50), 0.7274, 5e-5)
	near(t, "first price above zero", Lambdas()[1], 1e-3, 1e-18)
	near(t, "last price", Lambdas()[90], 1e6, 1e-6)
}

func TestFoldOf(t *testing.T) {
	for _, c := range []struct {
		id          string
		five, seven int
	}{{"p1", 3, 1}, {"gsm8k/42", 0, 2}, {"", 0, 1}} {
		if got := FoldOf(c.id, 5); got != c.five {
			t.Errorf("FoldOf(%q, 5) = %d, want %d", c.id, got, c.five)
		}
		if got := FoldOf(c.id, 7); got != c.seven {
			t.Errorf("FoldOf(%q, 7) = %d, want %d", c.id, got, c.seven)
		}
	}
	fold, tasks := TaskFolds(world(1, 7, 2))
	if want := []int{0, 1, 2, 0, 1, 2, 0}; !slices.Equal(fold, want) || len(tasks) != 3 {
		t.Errorf("TaskFolds = %v of %v, want %v", fold, tasks, want)
	}
	log := &datasets.Table{Prompts: []datasets.Prompt{{ID: "p1", Group: "p1"}, {ID: "gsm8k/42"}, {ID: "gsm8k/42", Group: "p1"}}}
	if got, want := Folds(log, 5), []int{3, 0, 3}; !slices.Equal(got, want) {
		t.Errorf("Folds = %v, want %v: the rounds of a draw stay together", got, want)
	}
}

func TestChoose(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name        string
		score, cost []float64
		lambda      float64
		want        int
	}{
		{"best score", []float64{.2, .9, .5}, []float64{1, 9, 5}, 0, 1},
		{"price of a dollar", []float64{.2, .9, .5}, []float64{1, 9, 5}, .2, 0},
		{"tie to the cheaper", []float64{.5, .5, .5}, []float64{3, 1, 2}, 0, 1},
		{"tie to the first", []float64{.5, .5}, []float64{1, 1}, 0, 0},
		{"not predicted", []float64{nan, .1}, []float64{1, 2}, 1, 1},
		{"unknown cost serves quality only", []float64{.9, .1}, []float64{nan, 2}, 0, 0},
		{"unknown cost is not cheap", []float64{.9, .1}, []float64{nan, 2}, .01, 1},
		{"no costs", []float64{.1, .2}, nil, 5, 1},
		{"nothing", []float64{nan}, nil, 0, -1},
	} {
		if got := Choose(c.score, c.cost, c.lambda); got != c.want {
			t.Errorf("%s: got arm %d, want %d", c.name, got, c.want)
		}
	}
}

func points(min int) *rapid.Generator[[]Point] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Point {
		return Point{float64(rapid.IntRange(1, 50).Draw(t, "cost")), float64(rapid.IntRange(0, 20).Draw(t, "score")) / 20}
	}), min, 12)
}

func TestHullProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some, more := points(1).Draw(t, "some"), points(0).Draw(t, "more")
		h := NewHull(some)
		for k := 1; k < len(h); k++ {
			if h[k].Cost <= h[k-1].Cost || h[k].Score <= h[k-1].Score {
				t.Fatalf("hull %v does not increase", h)
			}
			if k > 1 && !steeper(h[k-2], h[k-1], h[k]) {
				t.Fatalf("hull %v is not concave", h)
			}
		}
		for _, p := range some {
			if h.At(p.Cost) < p.Score-1e-12 {
				t.Fatalf("point %v is above the hull %v", p, h)
			}
		}
		from, to := float64(rapid.IntRange(1, 30).Draw(t, "from")), float64(rapid.IntRange(31, 60).Draw(t, "to"))
		from, to = max(from, h[0].Cost), max(to, h[0].Cost) // left of the first point nothing is defined but a constant
		wide := NewHull(some, more)
		if wide.AIQ(from, to) < h.AIQ(from, to)-1e-12 {
			t.Fatalf("AIQ of a superset fell from %v to %v", h.AIQ(from, to), wide.AIQ(from, to))
		}
	})
}

// A router that mixes two neighbouring constants at random lies on the zero router's hull, any other mix below it.
func TestRandomMixLiesOnZeroHull(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		constants := points(2).Draw(t, "constants")
		share := rapid.Float64Range(0, 1).Draw(t, "share")
		mix := func(a, b Point) Point {
			return Point{share*a.Cost + (1-share)*b.Cost, share*a.Score + (1-share)*b.Score}
		}
		h := NewHull(constants)
		if len(h) > 1 {
			if p := mix(h[0], h[1]); math.Abs(h.At(p.Cost)-p.Score) > 1e-9 {
				t.Fatalf("mix %v is not on the hull %v", p, h)
			}
		}
		if p := mix(constants[0], constants[1]); h.At(p.Cost) < p.Score-1e-9 {
			t.Fatalf("mix %v beats the hull %v", p, h)
		}
	})
}

func TestTraceIsChoose(t *testing.T) {
	m := matrixOf(t, world(3, 120, 4))
	b := baselinesOf(t, m)
	for _, p := range b.All() {
		tr := traceOf(t, m, p)
		curve := tr.Curve(nil)
		for k, lambda := range Lambdas() {
			choice := make([]int, m.N())
			for i := range choice {
				choice[i] = Choose(p.Score[i*4:i*4+4], p.CostUSD[i*4:i*4+4], lambda)
				if got := tr.Choice(i, k); got != choice[i] {
					t.Fatalf("%s: prompt %d at step %d: got arm %d, want %d", p.Name, i, k, got, choice[i])
				}
			}
			want := m.Mean(choice, nil)
			near(t, p.Name+" score", curve[k].Score, want.Score, 1e-12)
			near(t, p.Name+" cost", curve[k].Cost, want.Cost, 1e-12)
		}
	}
}

// At every price of a dollar nobody has a higher score − λ·cost than the oracle.
func TestOracleBeatsAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := world(rapid.Uint64().Draw(t, "seed"), 60, 3)
		m, err := NewMatrix(tab, nil, Folds(tab, 3))
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewBaselines(m)
		if err != nil {
			t.Fatal(err)
		}
		oracle, _ := NewTrace(m, b.Oracle)
		best := oracle.Curve(nil)
		for _, p := range b.All() {
			tr, _ := NewTrace(m, p)
			for k, at := range tr.Curve(nil) {
				lambda := Lambdas()[k]
				if mine, its := at.Score-lambda*at.Cost, best[k].Score-lambda*best[k].Cost; mine > its+1e-9*(1+lambda) {
					t.Fatalf("%s has %v at λ = %v, the oracle %v", p.Name, mine, lambda, its)
				}
			}
		}
	})
}

func TestOrderOfPromptsDoesNotMatter(t *testing.T) {
	tab := world(5, 400, 4)
	perm := rand.New(rand.NewPCG(1, 2)).Perm(400)
	a, b := matrixOf(t, tab), matrixOf(t, tab.Subset(perm))
	for k, p := range baselinesOf(t, a).All() {
		ta, tb := traceOf(t, a, p), traceOf(t, b, baselinesOf(t, b).All()[k])
		ma, mb := Measure(a.Constants(nil), ta.Curve(nil)), Measure(b.Constants(nil), tb.Curve(nil))
		near(t, p.Name+" AIQ", mb.AIQ, ma.AIQ, 1e-9)
		near(t, p.Name+" own", mb.Own, ma.Own, 1e-9)
		near(t, p.Name+" cost to match", mb.CostToMatch, ma.CostToMatch, 1e-9)
		near(t, p.Name+" t95 score", tb.Operate(.95).Score, ta.Operate(.95).Score, 1e-9)
		if p.Quality != nil {
			ca, cb := Calibrate(a, p, 1, 1), Calibrate(b, baselinesOf(t, b).All()[k], 1, 1)
			near(t, p.Name+" ECE", cb.ECE, ca.ECE, 1e-9)
		}
	}
}

// What happens on a fold's own rows must not move its operating point.
func TestOperatingPointDoesNotSeeItsFold(t *testing.T) {
	tab := world(8, 600, 4)
	m := matrixOf(t, tab)
	p := baselinesOf(t, m).Label
	before := traceOf(t, m, p).Operate(.95)
	for i, f := range m.Fold {
		if f == 2 {
			for j := range m.Arms {
				m.Score[i*len(m.Arms)+j] = 1 - m.Score[i*len(m.Arms)+j]
			}
		}
	}
	after := traceOf(t, m, p).Operate(.95)
	if before.Lambda[2] != after.Lambda[2] {
		t.Errorf("λ of fold 2 moved from %v to %v with its own scores", before.Lambda[2], after.Lambda[2])
	}
	if slices.Equal(before.Lambda, after.Lambda) {
		t.Errorf("λ of no other fold moved: the test proves nothing")
	}
}

func TestSparseAndUnpriced(t *testing.T) {
	tab := world(9, 100, 3)
	tab.Score[tab.At(4, 1)] = float32(math.NaN())
	tab.Cost[tab.At(7, 2)] = datasets.Unpriced
	m := matrixOf(t, tab)
	if want := (Left{Prompts: 100, Unscored: 1, Unpriced: 1, UnknownCosts: 1, Cells: 297}); m.Left != want {
		t.Errorf("left out %+v, want %+v", m.Left, want)
	}
	if slices.Contains(m.IDs, "p4") || slices.Contains(m.IDs, "p7") || m.N() != 98 || !m.Priced() {
		t.Errorf("kept %d prompts, priced %v", m.N(), m.Priced())
	}
	for i := range tab.Prompts {
		tab.Cost[tab.At(i, 0)] = datasets.Unpriced
	}
	m = matrixOf(t, tab)
	if m.Priced() || m.N() != 99 {
		t.Errorf("an arm without costs: priced %v with %d prompts, want false with 99", m.Priced(), m.N())
	}
	got := Measure(m.Constants(nil), traceOf(t, m, baselinesOf(t, m).Label).Curve(nil))
	if !math.IsNaN(got.AIQ) || math.IsNaN(got.PerfGain) {
		t.Errorf("without costs AIQ = %v and PerfGain = %v, want NaN and a number", got.AIQ, got.PerfGain)
	}
	for i := range tab.Prompts {
		tab.Score[tab.At(i, i%3)] = float32(math.NaN())
	}
	if _, err := NewMatrix(tab, nil, Folds(tab, 5)); !errors.Is(err, ErrSparse) {
		t.Errorf("error = %v, want ErrSparse", err)
	}
}

func TestAlign(t *testing.T) {
	tab := world(10, 50, 3)
	tab.Score[tab.At(0, 0)] = float32(math.NaN())
	m := matrixOf(t, tab)
	p := NewPredictions("two arms", []catalog.ArmID{"sim/arm2", "sim/arm0"}, 50)
	p.Fallback = []int{1}
	for i := range 50 {
		p.Score[2*i] = float64(i)
		p.Score[2*i+1] = math.NaN()
	}
	a, err := m.Align(p)
	if err != nil {
		t.Fatal(err)
	}
	if a.Score[2] != 1 || !math.IsNaN(a.Score[1]) || !math.IsNaN(a.Score[0]) {
		t.Errorf("first row is %v, want NaN NaN 1", a.Score[:3])
	}
	if a.Fallback[0] != 0 {
		t.Errorf("fallback is arm %d, want 0", a.Fallback[0])
	}
	p.Fold, p.Fallback = make([]int, 50), nil
	if _, err := m.Align(p); err == nil {
		t.Error("predictions of one fold were taken for a report of five")
	}
}

func TestBootstrap(t *testing.T) {
	m := matrixOf(t, world(11, 300, 3))
	b := baselinesOf(t, m)
	var who []Contestant
	for _, p := range []*Predictions{b.Length, b.Label} {
		tr := traceOf(t, m, p)
		who = append(who, Contestant{tr, tr.Operate(1), tr.Operate(.95)})
	}
	run := func(workers int, seed uint64) *Samples {
		s, err := Bootstrap(context.Background(), m, who, BootstrapOptions{Resamples: 100, Seed: seed, Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, three := run(1, 1), run(3, 1)
	for stat := range statCount {
		if one.Estimate(1, stat) != three.Estimate(1, stat) {
			t.Errorf("statistic %d depends on the number of workers", stat)
		}
		if e := one.Estimate(0, stat); !(e.Low <= e.High) {
			t.Errorf("statistic %d has interval %v", stat, e)
		}
	}
	if one.Estimate(1, StatAIQ) == run(1, 2).Estimate(1, StatAIQ) {
		t.Error("the seed changes nothing")
	}
	want := Measure(m.Constants(nil), who[1].Trace.Curve(nil))
	near(t, "AIQ of the bootstrap", one.Estimate(1, StatAIQ).Value, want.AIQ, 1e-12)
	d := one.Difference(1, 0, StatOwn)
	near(t, "difference", d.Value, one.Estimate(1, StatOwn).Value-one.Estimate(0, StatOwn).Value, 1e-12)
	se := m.PairedSE(who[1].T100.Choice, constantChoice(m, Best(m.Constants(nil))), nil)
	near(t, "bootstrap standard error over the closed form", one.StandardError(1, StatLead100)/se, 1, .25)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Bootstrap(ctx, m, who, BootstrapOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
}

func constantChoice(m *Matrix, arm int) []int {
	out := make([]int, m.N())
	for i := range out {
		out[i] = arm
	}
	return out
}

// The interval of a mean that is known in advance covers it about 95 % of the time: 80 worlds, so ± 2.4 % by chance.
func TestBootstrapCovers(t *testing.T) {
	covered := 0
	const worlds = 80
	for seed := range uint64(worlds) {
		m := matrixOf(t, world(100+seed, 240, 2))
		p := NewPredictions("always arm 1", m.Arms, m.N())
		for i := range m.N() {
			p.Score[2*i+1] = 1
		}
		s, err := Bootstrap(context.Background(), m, []Contestant{{Trace: traceOf(t, m, p)}}, BootstrapOptions{Resamples: 200, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		const truth = 0.3 + 0.12 + 0.25 // arm 1 in the world above, mean over the three tasks
		if e := s.Estimate(0, StatScore); e.Low <= truth && truth <= e.High {
			covered++
		}
	}
	if share := float64(covered) / worlds; share < .87 {
		t.Errorf("%d of %d intervals cover the truth", covered, worlds)
	}
}

func BenchmarkBootstrapResample(b *testing.B) {
	m := matrixOf(b, world(1, 8000, 13))
	base := baselinesOf(b, m)
	var who []Contestant
	for _, p := range []*Predictions{base.Constants, base.Length, base.Label, base.Oracle} {
		who = append(who, Contestant{Trace: traceOf(b, m, p)})
	}
	s := newSampler(m, who, 0)
	weight := make([]float64, m.N())
	for b.Loop() {
		clear(weight)
		for range weight {
			weight[rand.IntN(len(weight))]++
		}
		s.statistics(weight)
	}
}
