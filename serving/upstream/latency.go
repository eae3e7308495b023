package upstream

import (
	"math"
	"time"
)

// Latency forecasts how long an arm takes from the tokens of prompt and answer. The zero value knows nothing.
type Latency struct {
	// seconds are those of an answer of no length to a prompt of no length, of a token of the prompt, and of one of the answer.
	seconds [3]float64
	// p50 and p90 are quantiles of what was measured as a share of that.
	p50, p90 float64
}

// At is the median and the 0.9 quantile for a prompt and an answer of so many tokens; both are 0 where nothing was measured.
func (l *Latency) At(input, output float64) (p50, p90 time.Duration) {
	expected := l.seconds[0] + l.seconds[1]*input + l.seconds[2]*output
	return time.Duration(expected * l.p50 * float64(time.Second)), time.Duration(expected * max(l.p90, l.p50) * float64(time.Second))
}

const (
	// timingStep is the weight of the newest answer, once there are as many as its inverse.
	timingStep = 0.01
	// timingPrior is the weight of what is taken for usual beside one answer. It falls with the square of their number, to that
	// beside timingMany, which keeps the fit of answers of one size from falling apart.
	timingPrior = 0.2
	timingMany  = 1000
	// timingTimes bounds how far one answer may be from the forecast and still be believed.
	timingTimes = 8
)

// usualSeconds is the shape of a latency before it was measured: its level is always the arm's own.
func usualSeconds() [3]float64 { return [3]float64{0.3, 0.05e-3, 10e-3} }

// timing learns a Latency. The seconds are a least-squares fit of relative errors, with weights that decay, so that an arm
// whose answers are all of one length is not believed to take as long for others. Quantiles of what the fit leaves follow.
type timing struct {
	// gram and moment are the normal equations of 1 = seconds·x, where x is (1, input, output)/time.
	gram     [3][3]float64
	moment   [3]float64
	n        int
	p50, p90 quantile
	now      Latency
	// typical is the mean length of an answer.
	typical float64
}

// unknownTokens is the length of an answer that did not come to its end.
const unknownTokens = -1

func newTiming() timing {
	return timing{p50: quantile{p: 0.5}, p90: quantile{p: 0.9}, now: Latency{seconds: usualSeconds()}}
}

// add counts an answer.
func (t *timing) add(d time.Duration, input, output float64) {
	took := max(d.Seconds(), 1e-6)
	if output == unknownTokens {
		output = t.typical
	}
	if t.n++; t.n > 1 {
		expected, _ := t.now.At(input, output)
		took = min(max(took, expected.Seconds()/timingTimes), expected.Seconds()*timingTimes)
	}
	keep := 1 - max(timingStep, 1/float64(t.n+1))
	x := [3]float64{1 / took, input / took, output / took}
	for i := range x {
		for j := range x {
			t.gram[i][j] = keep*t.gram[i][j] + (1-keep)*x[i]*x[j]
		}
		t.moment[i] = keep*t.moment[i] + (1-keep)*x[i]
	}
	t.typical += (output - t.typical) * max(timingStep, 1/float64(t.n))
	t.now.seconds = t.solve()
	residual := took / (t.now.seconds[0] + t.now.seconds[1]*input + t.now.seconds[2]*output)
	t.p50.add(residual)
	t.p90.add(residual)
	t.now.p50, t.now.p90 = t.p50.value(), t.p90.value()
}

// solve is the least-squares fit with no part below zero: a part that would be is left out, and the others fitted anew.
func (t *timing) solve() (seconds [3]float64) {
	usual := usualSeconds()
	many := float64(min(t.n, timingMany))
	prior := timingPrior / (many * many)
	out := [3]bool{}
	for {
		a, b := t.gram, t.moment
		for i := range a { // a ridge towards the usual, in units of the usual
			weight := prior / (usual[i] * usual[i])
			a[i][i] += weight
			b[i] += weight * usual[i]
		}
		seconds = eliminate(a, b, out)
		worst := -1
		for i := range seconds {
			if seconds[i] < 0 && (worst < 0 || seconds[i]/usual[i] < seconds[worst]/usual[worst]) {
				worst = i
			}
		}
		if worst < 0 {
			break
		}
		out[worst] = true
	}
	if seconds[0]+seconds[1]+seconds[2] > 0 {
		return seconds
	}
	return usual
}

// eliminate solves a·x = b over the unknowns that are not left out. a is positive definite.
func eliminate(a [3][3]float64, b [3]float64, out [3]bool) (x [3]float64) {
	for i := range a {
		for k := i + 1; k < len(a) && !out[i]; k++ {
			f := a[k][i] / a[i][i]
			for j := i; j < len(a); j++ {
				a[k][j] -= f * a[i][j]
			}
			b[k] -= f * b[i]
		}
	}
	for i := len(a) - 1; i >= 0; i-- {
		if out[i] {
			continue
		}
		x[i] = b[i]
		for j := i + 1; j < len(a); j++ {
			x[i] -= a[i][j] * x[j]
		}
		x[i] /= a[i][i]
	}
	return x
}

// quantile follows a quantile of ratios by stochastic approximation (Robbins and Monro 1951) of their logarithm: up by
// step·p where the value is above, down by step·(1−p) where it is below. It keeps no samples and forgets by itself.
type quantile struct {
	p   float64
	log float64
	n   int
}

// quantileStep is the least step of a quantile in the logarithm: large enough to follow a vendor within some dozens of
// calls, small enough to stay within about a tenth.
const quantileStep = 0.05

func (q *quantile) add(ratio float64) {
	x := math.Log(ratio)
	if q.n++; q.n == 1 {
		q.log = x
		return
	}
	step := max(1/float64(q.n), quantileStep)
	if x > q.log {
		q.log += step * q.p
	} else if x < q.log {
		q.log -= step * (1 - q.p)
	}
}

func (q *quantile) value() float64 { return math.Exp(q.log) }

// late counts a duration and returns the quantile in seconds, 0 until enough were counted.
func (q *quantile) late(d time.Duration) time.Duration {
	q.add(max(d.Seconds(), 1e-6))
	if q.n < paceMin {
		return 0
	}
	return time.Duration(q.value() * float64(time.Second))
}
