package upstream

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestLatencyOfStreams: the estimates come near the quantiles of what they saw, and follow a change.
func TestLatencyOfStreams(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := newState()
	for _, median := range []float64{0.2, 1.0} {
		for range 500 {
			s.firstContent(time.Duration(median*math.Exp(0.5*rng.NormFloat64())*float64(time.Second)), 100)
		}
		p50, p90 := s.published.Load().First.At(100, 0)
		for _, q := range []struct {
			got  time.Duration
			want float64
		}{{p50, median}, {p90, median * math.Exp(0.5*1.2816)}} {
			if r := q.got.Seconds() / q.want; r < 0.75 || r > 1.33 {
				t.Errorf("median %v: got %v, want about %.3fs", median, q.got, q.want)
			}
		}
	}
}

// TestLatencyBySize: what an arm needs for a token of the prompt and one of the answer is told apart, so that an arm which
// starts late and speaks fast is preferred for long answers, and not for short ones.
func TestLatencyBySize(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	arms := map[string][3]float64{"late and fast": {2, 0.0001, 0.004}, "early and slow": {0.3, 0.0001, 0.02}, "slow with long prompts": {0.3, 0.001, 0.004}}
	for name, true := range arms {
		s := newState()
		for range 400 {
			in, out := math.Exp(rng.Float64()*6+3), math.Exp(rng.Float64()*4+3)
			took := (true[0] + true[1]*in + true[2]*out) * math.Exp(0.2*rng.NormFloat64())
			s.complete(time.Duration(took*float64(time.Second)), in, out, false)
		}
		for _, size := range [][2]float64{{50, 30}, {50, 900}, {6000, 30}, {6000, 900}} {
			want := true[0] + true[1]*size[0] + true[2]*size[1]
			if p50, _ := s.published.Load().Whole.At(size[0], size[1]); math.Abs(math.Log(p50.Seconds()/want)) > math.Log(1.3) {
				t.Errorf("%s: %v tokens take %v, want about %.2fs", name, size, p50, want)
			}
		}
	}
}

// TestFewAnswers: the first answer is believed at its own size at once, one outlier later changes little, and a nonsense
// never makes the forecast one.
func TestFewAnswers(t *testing.T) {
	s := newState()
	s.complete(3*time.Second, 500, 100, false)
	if p50, p90 := s.published.Load().Whole.At(500, 100); (p50-3*time.Second).Abs() > time.Millisecond || p90 < p50 {
		t.Errorf("after one answer of 3s: %v, %v", p50, p90)
	}
	for range 50 {
		s.complete(3*time.Second, 500, 100, false)
	}
	s.complete(time.Hour, 500, 100, false)
	if p50, _ := s.published.Load().Whole.At(500, 100); p50 < 2*time.Second || p50 > 4*time.Second {
		t.Errorf("after an outlier: %v", p50)
	}
	for _, d := range []time.Duration{0, -time.Second, math.MaxInt64, 1, 1 << 60} {
		for _, size := range []float64{0, 1, 1e9} {
			s.complete(d, size, size, true)
			for _, l := range []Latency{s.published.Load().Whole} {
				p50, p90 := l.At(500, 100)
				if p50 < 0 || p90 < p50 || l.p50 != l.p50 || !(l.seconds[0]+l.seconds[1]+l.seconds[2] > 0) {
					t.Fatalf("after %v for %v tokens: %+v", d, size, l)
				}
			}
		}
	}
}

// TestForgiveness: an arm that failed and is asked no more is as good as new in the end, and one that goes on failing is not.
func TestForgiveness(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := newState()
	for range 20 {
		s.failed(&Error{Class: Server}, now)
	}
	l := s.published.Load()
	if got := l.forgiven(now); got > 0.6 {
		t.Errorf("after 20 failures: availability %v", got)
	}
	if got := l.forgiven(now.Add(time.Hour)); got < 0.99 {
		t.Errorf("an hour later: availability %v", got)
	}
	for i := range 60 {
		s.failed(&Error{Class: Server}, now.Add(time.Duration(i)*time.Second))
	}
	if got := s.published.Load().forgiven(now.Add(time.Minute)); got > 0.35 {
		t.Errorf("after a minute of failures: availability %v", got)
	}
}

// BenchmarkLive is what the statistics cost an answer: its success and its latency.
func BenchmarkLive(b *testing.B) {
	now := time.Unix(1e9, 0)
	b.ReportAllocs()
	s := newState()
	for i := 0; b.Loop(); i++ {
		s.succeeded(now)
		s.complete(time.Second, float64(i%1000), float64(i%100), false)
	}
}
