package bench_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// cascadeWorld is a table of three arms, rising in score and cost, and a router that knows half of it.
func cascadeWorld(n int, seed uint64) (*bench.Matrix, *bench.Predictions) {
	random := rand.New(rand.NewPCG(seed, 0))
	arms := []catalog.ArmID{"a", "b", "c"}
	m := &bench.Matrix{Arms: arms, Folds: 2}
	p := bench.NewPredictions("router", arms, n)
	p.Fallback = []int{0, 0}
	for i := range n {
		m.IDs, m.Tasks, m.Fold = append(m.IDs, string(rune('a'+i%26))+string(rune('a'+i/26%26))), append(m.Tasks, "t"), append(m.Fold, i%2)
		for j, q := range []float64{.5, .7, .9} {
			q := min(max(q+.3*(random.Float64()-.5), 0), 1)
			right := 0.0
			if random.Float64() < q {
				right = 1
			}
			cost := .001 * math.Pow(5, float64(j)) * (1 + random.Float64())
			m.Score, m.Cost = append(m.Score, right), append(m.Cost, cost)
			p.Score[i*3+j], p.CostUSD[i*3+j] = q, .0015*math.Pow(5, float64(j))
		}
	}
	p.Fold = m.Fold
	return m, p
}

func cascade(t *testing.T, m *bench.Matrix, p *bench.Predictions, c bench.Checker) *bench.Trace {
	t.Helper()
	trace, err := bench.NewCascade(m, p, c)
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

// TestCascadeOfABlindChecker: one that passes everything is the router itself, at every price, in every measure.
func TestCascadeOfABlindChecker(t *testing.T) {
	m, p := cascadeWorld(300, 1)
	plain, err := bench.NewTrace(m, p)
	if err != nil {
		t.Fatal(err)
	}
	blind := cascade(t, m, p, bench.Checker{FalsePass: 1})
	for k, want := range plain.Curve(nil) {
		if got := blind.Curve(nil)[k]; math.Abs(got.Score-want.Score) > 1e-9 || math.Abs(got.Cost-want.Cost) > 1e-9 {
			t.Fatalf("point %d: %+v, want %+v", k, got, want)
		}
	}
	a, b := plain.Operate(1), blind.Operate(1)
	if math.Abs(a.RelScore-b.RelScore) > 1e-9 || math.Abs(a.RelCost-b.RelCost) > 1e-9 {
		t.Errorf("operating point %+v, want %+v", b, a)
	}
	s, err := bench.Bootstrap(context.Background(), m, []bench.Contestant{{Trace: plain, T100: a}, {Trace: blind, T100: b}}, bench.BootstrapOptions{Resamples: 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range []bench.Statistic{bench.StatOwn, bench.StatRelScore100, bench.StatRelCost100} {
		if d := s.Difference(1, 0, stat); math.Abs(d.Low)+math.Abs(d.High) > 1e-9 {
			t.Errorf("statistic %d differs by %+v", stat, d)
		}
	}
}

// TestCascadeIsAnExpectation: the exact numbers are the mean of checks that are drawn by chance.
func TestCascadeIsAnExpectation(t *testing.T) {
	m, p := cascadeWorld(200, 2)
	c := bench.Checker{FalsePass: .2, FalseReject: .15, CostUSD: .0002}
	got := cascade(t, m, p, c).Curve(nil)[0] // quality alone counts: the ladder is the arms by their scores, best first
	random := rand.New(rand.NewPCG(3, 0))
	const draws = 3000
	sum, cost := 0.0, 0.0
	for range draws {
		for i := range m.IDs {
			left := []int{0, 1, 2}
			for step := range 3 {
				best := 0
				for k := range left { // after a failure every other arm's lift grows with its score
					if p.Score[i*3+left[k]] > p.Score[i*3+left[best]] {
						best = k
					}
				}
				j := left[best]
				left = append(left[:best:best], left[best+1:]...)
				right := m.Score[i*3+j] == 1
				cost += m.Cost[i*3+j] + c.CostUSD
				passes := random.Float64() < c.FalsePass
				if right {
					passes = random.Float64() >= c.FalseReject
				}
				if passes || step == 2 {
					if right {
						sum++
					}
					break
				}
			}
		}
	}
	total := float64(draws * m.N())
	if math.Abs(got.Score-sum/total) > .003 || math.Abs(got.Cost/(cost/total)-1) > .01 {
		t.Errorf("got %+v, drawn %v at %v", got, sum/total, cost/total)
	}
}

// TestCascadeOfAPerfectChecker serves a right answer wherever one of the arms that it may ask has one.
func TestCascadeOfAPerfectChecker(t *testing.T) {
	m, p := cascadeWorld(300, 4)
	got := cascade(t, m, p, bench.Checker{}).Curve(nil)[0]
	any := 0.0
	for i := range m.IDs {
		any += max(m.Score[i*3], m.Score[i*3+1], m.Score[i*3+2]) / float64(m.N())
	}
	if math.Abs(got.Score-any) > 1e-9 {
		t.Errorf("score %v, want %v", got.Score, any)
	}
	worse := cascade(t, m, p, bench.Checker{FalseReject: .3}).Curve(nil)[0]
	if worse.Score >= got.Score || worse.Cost <= got.Cost {
		t.Errorf("rejecting right answers gives %+v, not rejecting them %+v", worse, got)
	}
}

func TestCascadeRefuses(t *testing.T) {
	m, p := cascadeWorld(10, 5)
	for _, c := range []bench.Checker{{FalsePass: -.1}, {FalseReject: 1.1}, {FalsePass: math.NaN()}, {CostUSD: -1}, {CostUSD: math.Inf(1)}} {
		if _, err := bench.NewCascade(m, p, c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	m.Cost = nil
	if _, err := bench.NewCascade(m, p, bench.Checker{}); err == nil {
		t.Error("a table without costs was taken")
	}
}
