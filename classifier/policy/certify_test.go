package policy

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// byDefinition computes the same test with every sum taken anew, straight from the formulas.
func byDefinition(safe, routed []float64, t, delta float64) bool {
	n := len(safe)
	x := make([]float64, n)
	for i := range x {
		x[i] = (t*safe[i] - routed[i] + 1) / (1 + t)
	}
	mean := func(j int) float64 {
		sum := 0.5
		for i := 1; i <= j; i++ {
			sum += x[i-1]
		}
		return sum / float64(j+1)
	}
	v := func(j int) float64 {
		sum := 0.25
		for i := 1; i <= j; i++ {
			sum += math.Pow(x[i-1]-mean(i), 2)
		}
		return sum / float64(j+1)
	}
	m0, k, best := 1/(1+t), 1.0, 1.0
	for j := 1; j <= n; j++ {
		g := min(math.Sqrt(2*math.Log(1/delta)/(float64(n)*v(j-1))), 0.75/(1-m0))
		k *= 1 + g*(m0-x[j-1])
		best = max(best, k)
	}
	return best >= 1/delta
}

func TestCertifyFollowsItsDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	certified := 0
	for range 300 {
		n := 1 + rng.IntN(120)
		keep, target := 0.8+0.2*rng.Float64(), 0.7+0.3*rng.Float64()
		safe, routed := make([]float64, n), make([]float64, n)
		for i := range safe {
			safe[i] = rng.Float64()
			routed[i] = safe[i]
			if rng.Float64() > keep {
				routed[i] = rng.Float64()
			}
		}
		got, want := Certify(safe, routed, target, 0.05), byDefinition(safe, routed, target, 0.05)
		if got != want {
			t.Fatalf("n %d, target %v: %v, by definition %v", n, target, got, want)
		}
		if got {
			certified++
		}
	}
	if certified < 30 || certified > 270 {
		t.Errorf("%d of 300 certified: the comparison says nothing", certified)
	}
}

// Two arms that are always right: how many rows does it take to certify a share of quality? The counts come from a
// computation of the formulas in Python with 50 digits.
func TestCertifyNeedsKnownNumberOfRows(t *testing.T) {
	for _, tt := range []struct {
		t, delta float64
		rows     int
	}{{0.9, 0.05, 39}, {0.95, 0.05, 80}, {0.99, 0.05, 410}, {0.95, 0.01, 122}} {
		ones := slices.Repeat([]float64{1}, tt.rows)
		if !Certify(ones, ones, tt.t, tt.delta) {
			t.Errorf("t %v, δ %v: %d rows do not certify", tt.t, tt.delta, tt.rows)
		}
		if less := ones[1:]; Certify(less, less, tt.t, tt.delta) {
			t.Errorf("t %v, δ %v: %d rows certify already", tt.t, tt.delta, len(less))
		}
	}
}

// TestCertifyUnderH0 draws calibration sets whose routed arm has exactly t times the fallback's quality, the hardest
// null, and expects no more wrong certificates than δ allows (plus three standard errors of the count).
func TestCertifyUnderH0(t *testing.T) {
	const trials, n, delta, target = 2000, 300, 0.05, 0.95
	for _, skill := range []float64{0.5, 0.9} {
		rng := rand.New(rand.NewPCG(5, uint64(skill*100)))
		safe, routed := make([]float64, n), make([]float64, n)
		wrong, right := 0, 0
		draw := func(keep float64) bool {
			for i := range safe {
				safe[i], routed[i] = 0, 0
				if rng.Float64() < skill {
					safe[i] = 1
				}
				if rng.Float64() < skill*keep {
					routed[i] = 1
				}
			}
			return Certify(safe, routed, target, delta)
		}
		for range trials {
			if draw(target) {
				wrong++
			}
		}
		for range 200 {
			if draw(1.1) {
				right++
			}
		}
		if limit := trials*delta + 3*math.Sqrt(trials*delta*(1-delta)); float64(wrong) > limit {
			t.Errorf("skill %v: %d of %d wrong certificates, at most %.0f", skill, wrong, trials, limit)
		}
		t.Logf("skill %v: %d of %d under H0, %d of 200 at 1.1 times the fallback's quality", skill, wrong, trials, right)
		if skill == 0.9 && right < 100 {
			t.Errorf("skill %v: only %d of 200 true certificates", skill, right)
		}
	}
}

func TestCertifyRefusesNonsense(t *testing.T) {
	ones := slices.Repeat([]float64{1}, 1000)
	if !Certify(ones, ones, 0.9, 0.05) {
		t.Fatal("the good case does not certify")
	}
	with := func(x float64) []float64 { return append(slices.Clone(ones[1:]), x) }
	for name, got := range map[string]bool{
		"no rows":        Certify(nil, nil, 0.9, 0.05),
		"unequal length": Certify(ones, ones[1:], 0.9, 0.05),
		"NaN":            Certify(ones, with(math.NaN()), 0.9, 0.05),
		"below 0":        Certify(with(-0.1), ones, 0.9, 0.05),
		"above 1":        Certify(ones, with(1.1), 0.9, 0.05),
		"t of 0":         Certify(ones, ones, 0, 0.05),
		"t above 1":      Certify(ones, ones, 1.01, 0.05),
		"t NaN":          Certify(ones, ones, math.NaN(), 0.05),
		"delta 0":        Certify(ones, ones, 0.9, 0),
		"delta 1":        Certify(ones, ones, 0.9, 1),
	} {
		if got {
			t.Errorf("%s: certified", name)
		}
	}
}
