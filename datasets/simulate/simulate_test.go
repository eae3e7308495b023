package simulate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

func newWorld(t testing.TB, o Options) *World {
	t.Helper()
	w, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestOptionsThatNoWorldHas(t *testing.T) {
	for _, o := range []Options{{Arms: -1}, {Arms: 2}, {Arms: ArmsMax + 1}, {DriftFrom: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v): got no error", o)
		}
	}
}

// digest is the SHA-256 of rows as JSON lines.
func digest(t *testing.T, w *World, prompts int64) string {
	t.Helper()
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, rows := range w.Rows(0, prompts) {
		for i := range rows {
			if err := enc.Encode(&rows[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestGolden holds the first 1,000 rows of a world with ten arms. A change of the grammar, the skills or the draws
// changes the digest; it is then replaced by the one that the test prints, and the change named in the CHANGELOG.
func TestGolden(t *testing.T) {
	const want = "3711654b01ba5c6580c98167b56f8233b90aba9f9b00290ed98ce842ac2c3cda"
	if got := digest(t, newWorld(t, Options{Seed: 1, Arms: 10}), 100); got != want {
		t.Errorf("digest of 1,000 rows: got %s, want %s", got, want)
	}
}

func TestSeeds(t *testing.T) {
	one, again, two := newWorld(t, Options{Seed: 1}), newWorld(t, Options{Seed: 1}), newWorld(t, Options{Seed: 2})
	if digest(t, one, 50) != digest(t, again, 50) {
		t.Error("two worlds of one seed differ")
	}
	if one.Sample(0).Text == two.Sample(0).Text {
		t.Error("worlds of two seeds have one prompt")
	}
	if one.Sample(0).ID == two.Sample(0).ID {
		t.Error("worlds of two seeds have one id")
	}
}

// TestSampleAnyOrder samples backwards and from many goroutines.
func TestSampleAnyOrder(t *testing.T) {
	const n = 400
	w := newWorld(t, Options{Seed: 3})
	want := make([]Task, n)
	for i := range want {
		want[i] = w.Sample(int64(i))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := n - 1; i >= 0; i-- {
				got := w.Sample(int64(i))
				if got != want[i] || w.Outcome(&got, 1) != w.Outcome(&want[i], 1) {
					t.Errorf("task %d differs on the way back", i)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestArms(t *testing.T) {
	three, many := newWorld(t, Options{Seed: 7, Arms: 3}), newWorld(t, Options{Seed: 7, Arms: ArmsMax})
	for i, want := range catalog.Simulated() {
		if got := three.Arms()[i]; got != want {
			t.Errorf("arm %d: got %+v, want %+v", i, got, want)
		}
	}
	seen := map[catalog.ArmID]bool{}
	for i, arm := range many.Arms() {
		if seen[arm.ID] || arm.ID.Provider() != "sim" || !arm.Simulated {
			t.Errorf("arm %d: %+v is double, not of sim or not marked as simulated", i, arm)
		}
		if seen[arm.ID] = true; !arm.Prices.Known || arm.Prices.Input <= 0 || arm.Prices.Output <= 0 {
			t.Errorf("%s: prices %+v", arm.ID, arm.Prices)
		}
	}
	if got, want := many.ArmIDs()[6], catalog.ArmID("sim/gen-07"); got != want {
		t.Errorf("seventh arm: got %s, want %s", got, want)
	}
	for i := range int64(100) {
		a, b := three.Sample(i), many.Sample(i)
		if a != b || three.Outcome(&a, 2) != many.Outcome(&b, 2) {
			t.Fatalf("task %d depends on the number of arms", i)
		}
	}
}

// TestOutcome holds what every outcome must keep to, whatever the world.
func TestOutcome(t *testing.T) {
	worlds := []*World{newWorld(t, Options{Seed: -5, Arms: 3}), newWorld(t, Options{Seed: 1 << 60, Arms: 40, DriftFrom: 10})}
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SampledFrom(worlds).Draw(t, "world")
		task := w.Sample(rapid.Int64Range(0, math.MaxInt64).Draw(t, "i"))
		arm := rapid.IntRange(0, len(w.arms)-1).Draw(t, "arm")
		o := w.Outcome(&task, arm)
		want, err := w.Arms()[arm].Prices.Cost(catalog.Usage{Input: int64(o.InputTokens), Output: int64(o.OutputTokens)})
		if err != nil || o.Cost != want {
			t.Errorf("cost: got %v, want %v (%v)", o.Cost, want, err)
		}
		parts := o.Score * float64(families[task.family].parts)
		if o.Score < 0 || o.Score > 1 || math.Abs(parts-math.Round(parts)) > 1e-9 {
			t.Errorf("score %v of a task in %d parts", o.Score, families[task.family].parts)
		}
		if o.InputTokens < 1 || o.OutputTokens < 1 || int(o.OutputTokens) > w.arms[arm].MaxOutputTokens || o.LatencyMS <= 0 {
			t.Errorf("outcome %+v", o)
		}
		if q := w.Quality(&task, arm); q <= 0 || q >= 1 {
			t.Errorf("quality %v", q)
		}
	})
}

// TestTruth compares the draws with the truth they claim to come from: scores with Quality and with Expected, tokens
// with ExpectedTokens, each within 4.5 standard errors.
func TestTruth(t *testing.T) {
	const n = 20_000
	w := newWorld(t, Options{Seed: 11})
	for a := range w.arms {
		var quality, expected, tokens moments
		for i := range int64(n) {
			task := w.Sample(i)
			o := w.Outcome(&task, a)
			quality.add(o.Score - w.Quality(&task, a))
			expected.add(o.Score - w.Expected(&task, a))
			tokens.add(float64(o.OutputTokens)/w.ExpectedTokens(&task, a) - 1)
		}
		for name, m := range map[string]*moments{"quality": &quality, "expected": &expected, "tokens": &tokens} {
			if z := m.z(); math.Abs(z) > 4.5 {
				t.Errorf("%s, %s: the mean of the draws is %.1f standard errors off the truth", w.arms[a].ID, name, z)
			}
		}
	}
}

type moments struct{ n, sum, squares float64 }

func (m *moments) add(x float64) { m.n, m.sum, m.squares = m.n+1, m.sum+x, m.squares+x*x }

func (m *moments) z() float64 {
	mean := m.sum / m.n
	return mean / math.Sqrt((m.squares/m.n-mean*mean)/m.n)
}

// TestHardness asks of every world what makes it worth testing a router on. With three arms a gain of 4 points would
// do; the worlds give more.
func TestHardness(t *testing.T) {
	for seed := int64(1); seed <= 5; seed++ {
		for arms, gain := range map[int]float64{3: 0.04, 6: 0.05, 10: 0.05} {
			w := newWorld(t, Options{Seed: seed, Arms: arms})
			c, err := w.Ceilings(12_000)
			if err != nil {
				t.Fatal(err)
			}
			features, length := c.Features.Quality-c.Single.Quality, c.Length.Quality-c.Single.Quality
			t.Logf("seed %d, %d arms: single %.4f (%s), length %+.4f, features %+.4f, hidden %.4f, oracle %.4f",
				seed, arms, c.Single.Quality, w.arms[c.Best].ID, length, features, c.Hidden.Quality, c.Oracle.Quality)
			if features < gain {
				t.Errorf("seed %d, %d arms: routing gains %.4f, want at least %.2f", seed, arms, features, gain)
			}
			if length >= features/2 {
				t.Errorf("seed %d, %d arms: length alone gains %.4f of %.4f", seed, arms, length, features)
			}
			if c.Features.Cost >= c.Single.Cost {
				t.Errorf("seed %d, %d arms: the best policy costs %v, the best arm %v", seed, arms, c.Features.Cost, c.Single.Cost)
			}
		}
	}
}

// TestServedArms holds what the three served arms are for: cheap is as good as strong on easy families, and middle
// beats strong somewhere.
func TestServedArms(t *testing.T) {
	w := newWorld(t, Options{Arms: ArmsMin})
	const cheap, middle, strong = 0, 1, 2
	var enough, beaten, best int
	for f := range families {
		task := Task{family: f, Level: 1}
		q := func(arm int) float64 { return w.Expected(&task, arm) }
		switch {
		case q(cheap) >= q(strong)-0.01:
			enough++
		case q(middle) > q(strong)+0.03:
			beaten++
		case q(strong) > q(middle)+0.03:
			best++
		}
	}
	if enough < 2 || beaten < 2 || best < 4 {
		t.Errorf("of %d families cheap suffices in %d, middle wins in %d, strong in %d", len(families), enough, beaten, best)
	}
	if _, err := w.Ceilings(CeilingsMin - 1); err == nil {
		t.Error("ceilings of too few prompts: got no error")
	}
}

func TestDrift(t *testing.T) {
	before, after := newWorld(t, Options{Seed: 4}), newWorld(t, Options{Seed: 4, DriftFrom: 500})
	for i := range int64(1000) {
		task := after.Sample(i)
		for a := range after.arms {
			worse := after.Quality(&task, a) < before.Quality(&task, a) && after.Expected(&task, a) < before.Expected(&task, a)
			if want := a == 2 && i >= 500; worse != want {
				t.Fatalf("task %d, arm %d: worse is %v, want %v", i, a, worse, want)
			}
		}
	}
}

func TestTableIsRows(t *testing.T) {
	const n = 200
	w := newWorld(t, Options{Seed: 5, Unlabelled: true})
	table, prompts := w.Table(n), 0
	for i, rows := range w.Rows(0, n) {
		prompts++
		for a, row := range rows {
			k := table.At(i, a)
			cost, err := catalog.FromDollars(*row.CostUSD)
			if err != nil || table.Cost[k] != cost {
				t.Fatalf("cost of cell %d: got %v, want %v (%v)", k, table.Cost[k], cost, err)
			}
			got := []float32{table.Score[k], table.Input[k], table.Output[k], table.Latency[k]}
			want := []float32{float32(row.Score), float32(*row.InputTokens), float32(*row.OutputTokens), float32(*row.LatencyMS)}
			for x := range got {
				if got[x] != want[x] {
					t.Fatalf("cell %d: got %v, want %v", k, got, want)
				}
			}
			if p := (datasets.Prompt{ID: row.PromptID, Text: row.Prompt}); table.Prompts[i] != p || row.Model != string(table.Arms[a]) {
				t.Fatalf("prompt %d: got %+v of %s, want %+v", i, table.Prompts[i], table.Arms[a], row)
			}
		}
	}
	if prompts != n {
		t.Errorf("prompts: got %d, want %d", prompts, n)
	}
	for i, rows := range newWorld(t, Options{Seed: 5}).Rows(7, 1) {
		if i != 7 || rows[0].Dataset == "" || strings.TrimSpace(rows[0].Prompt) == "" {
			t.Errorf("labelled row %d: %+v", i, rows[0])
		}
	}
}

func BenchmarkRows(b *testing.B) {
	w := newWorld(b, Options{Arms: 10})
	var bytes int
	b.ReportAllocs()
	for _, rows := range w.Rows(0, int64(b.N)) {
		bytes += len(rows[0].Prompt)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "prompts/s")
	b.ReportMetric(float64(bytes)/float64(b.N), "bytes/prompt")
}
