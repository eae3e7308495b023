package trainer

import (
	"math"
	"slices"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
)

// TestDeparture: where nobody scored, what was expected stands; where somebody did, scores move it by their number.
func TestDeparture(t *testing.T) {
	table := datasets.NewTable(world(t, simulate.Options{Arms: 3}).ArmIDs()[:2], 60)
	for i := range 20 {
		table.Score[table.At(i, 0)] = 0.2
	}
	f := &fitter{table: table}
	half := func(i int, add func(int, float64)) { add(i/30, 1) }
	mean, _ := f.departure(all(60), 3, half, 20, func(i, j int) float64 { return []float64{0.6, 0.3}[j] + 0.1*float64(i/30) })
	for at, want := range []float64{0.6 - 0.4*20/(20+20), 0.3, 0.7, 0.4, 0.65, 0.35} { // nobody is in the third group
		if got := mean.Data[at]; math.Abs(got-want) > 1e-6 {
			t.Errorf("group %d, arm %d: got %v, want %v", at/2, at%2, got, want)
		}
	}
}

// TestExpectations: the noise of one cluster's prompts is averaged out, what nobody expected is taken from others there,
// and of an arm that nobody knows nothing is expected.
func TestExpectations(t *testing.T) {
	table := datasets.NewTable(world(t, simulate.Options{Arms: 3}).ArmIDs(), 40)
	f := &fitter{table: table, seen: &evidence{own: make([]bool, 40)}, tasks: &taskSet{names: []string{"a", "b"}, class: make([]int32, 40)}}
	for i := range 40 {
		f.seen.own[i] = true
		f.tasks.class[i] = int32(i / 20)
		noise := 0.1 * float32(i%2*2-1)
		f.seen.expected = append(f.seen.expected, 0.3+noise+0.2*float32(i/20), nan, nan)
		if i < 10 {
			f.seen.expected[3*i+1] = 0.6 + noise
		}
	}
	out := f.expectations(all(40))
	for i := range 40 {
		for j, want := range []float64{0.3 + 0.2*float64(i/20), []float64{0.6, math.NaN()}[i/20], math.NaN()} {
			if got := float64(out[3*i+j]); math.Abs(got-want) > 1e-6 || (got != got) != (want != want) {
				t.Fatalf("prompt %d, arm %d: got %v, want %v", i, j, got, want)
			}
		}
	}
}

// TestFitWithoutExpectations learns from rounds whose routers expected nothing, of one arm or of all.
func TestFitWithoutExpectations(t *testing.T) {
	w := world(t, simulate.Options{Seed: 24, Arms: 3})
	incumbent, _ := fitted(t, tableOf(w, incumbentFrom, 100), nil)
	r := scored(t, logOf(t, w, simulate.RoundsOptions{N: 300, Epsilon: 0.5, Estimate: estimator(incumbent)}))
	for unknown := 1; unknown <= 3; unknown += 2 {
		for at := range r.Estimate {
			if at%3 < unknown {
				r.Estimate[at] = math.NaN()
			}
		}
		table, seen, err := mix(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, oof := fitted(t, table, seen); slices.ContainsFunc(append(oof.Score, oof.Quality...), func(v float64) bool { return math.IsNaN(v) || v < -1 || v > 2 }) {
			t.Errorf("%d arms without expectations: got estimates that are none", unknown)
		}
	}
}

// TestSplit: task logits are one model and heads that share are one; the rest is cut for the cache.
func TestSplit(t *testing.T) {
	for _, shared := range []bool{false, true} {
		b := &block{shared: shared}
		for k := range 2*blockOutputs + 200 {
			b.add([]kind{multinomial, logistic, linear}[min(k/(blockOutputs+6), 2)], 0, 1, 1)
		}
		to := 0
		for _, r := range split(b) {
			if r[0] != to || r[1] <= r[0] {
				t.Fatalf("got ranges %v with a gap", split(b))
			}
			to = r[1]
			if to < len(b.kinds) && b.kinds[to] == b.kinds[to-1] && (b.kinds[to] == multinomial || shared && b.kinds[to] == logistic) {
				t.Errorf("shared %v: the cut at %d parts outputs of kind %d", shared, to, b.kinds[to])
			}
		}
		if to != len(b.kinds) {
			t.Errorf("got ranges %v of %d outputs", split(b), len(b.kinds))
		}
	}
}
