package upstream

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Live is what the pool has seen of an arm lately. Latencies are 0 until one was measured.
type Live struct {
	// Availability is the success rate in [0,1], recent attempts weighing more; 1 for an arm never tried.
	Availability float64
	// FirstP50 and FirstP90 estimate the time to the first content of streams, TotalP50 and TotalP90 the time of whole
	// answers that are not streamed.
	FirstP50, FirstP90 time.Duration
	TotalP50, TotalP90 time.Duration
	// FirstP95 and TotalP95 are how long is unusually long; 0 until enough was measured to say so.
	FirstP95, TotalP95 time.Duration
	// Ejected says that the arm now stands behind the healthy ones, State why.
	Ejected bool
	State   State
	// Attempts counts the attempts that ended in success or in a failure of the arm.
	Attempts int64
}

const (
	// availabilityStep is the weight of the newest attempt.
	availabilityStep = 0.1
	// quantileStep is the least step of a quantile in the logarithm: large enough to follow a vendor within some dozens
	// of calls, small enough to stay within about a tenth.
	quantileStep = 0.05
)

// quantile follows a quantile of durations by stochastic approximation (Robbins and Monro 1951) of their logarithm: up
// by step·p where the value is above, down by step·(1−p) where it is below. It keeps no samples and forgets by itself.
type quantile struct {
	p   float64
	log float64
	n   int
}

func (q *quantile) add(d time.Duration) {
	x := math.Log(max(d.Seconds(), 1e-6))
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

func (q *quantile) value() time.Duration {
	if q.n == 0 {
		return 0
	}
	return time.Duration(math.Exp(q.log) * float64(time.Second))
}

// spread is the median of durations, and what is long and unusually long among them.
type spread struct{ p50, p90, p95 quantile }

func newSpread() spread { return spread{quantile{p: 0.5}, quantile{p: 0.9}, quantile{p: 0.95}} }

// add counts a duration and returns the three; the last is 0 until enough were counted.
func (s *spread) add(d time.Duration) (p50, p90, p95 time.Duration) {
	s.p50.add(d)
	s.p90.add(d)
	s.p95.add(d)
	p50 = s.p50.value()
	p90 = max(s.p90.value(), p50)
	if s.p95.n >= paceMin {
		p95 = max(s.p95.value(), p90)
	}
	return p50, p90, p95
}

// state is the live state of one arm. It is written once an attempt, under its lock, and read without one.
type state struct {
	mu               sync.Mutex
	first, total     spread
	firstPace, whole pace
	published        atomic.Pointer[Live]
	health
}

func newState() *state {
	a := &state{first: newSpread(), total: newSpread()}
	a.published.Store(&Live{Availability: 1})
	return a
}

// update changes the published state under the lock.
func (a *state) update(fn func(l *Live)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := *a.published.Load()
	fn(&l)
	a.published.Store(&l)
}

// succeeded counts an answer that came to its end.
func (a *state) succeeded(now time.Time) {
	a.update(func(l *Live) {
		a.recovered(0)
		a.lately.add(now, false)
		l.Attempts++
		l.Availability += availabilityStep * (1 - l.Availability)
	})
}

// failed counts a failure of the arm; what the client did wrong is none. It reports whether the arm now fails so often that
// it may be degraded.
func (a *state) failed(e *Error, now time.Time) (degrade bool) {
	if !e.Class.Fault() && e.Class != RateLimited {
		return false
	}
	a.update(func(l *Live) {
		l.Attempts++
		l.Availability -= availabilityStep * l.Availability
		a.lately.add(now, true)
		a.hurt(e, now)
		degrade = 1-l.Availability > degradedShare
	})
	return degrade
}

// firstContent counts the wait for a stream's first content and reports whether the arm has become slow.
func (a *state) firstContent(d time.Duration) (slow bool) {
	a.update(func(l *Live) {
		l.FirstP50, l.FirstP90, l.FirstP95 = a.first.add(d)
		slow = a.firstPace.add(d)
	})
	return slow
}

// complete is firstContent for an answer that is not streamed.
func (a *state) complete(d time.Duration) (slow bool) {
	a.update(func(l *Live) {
		l.TotalP50, l.TotalP90, l.TotalP95 = a.total.add(d)
		slow = a.whole.add(d)
	})
	return slow
}

// live finds the state of an arm. There are as many as the catalog has arms.
func (p *Pool) live(id catalog.ArmID) *state {
	if a, ok := p.arms.Load(id); ok {
		return a.(*state)
	}
	a, _ := p.arms.LoadOrStore(id, newState())
	return a.(*state)
}

// Snapshot is what the pool has seen of an arm lately. It takes no lock.
func (p *Pool) Snapshot(id catalog.ArmID) Live {
	a, ok := p.arms.Load(id)
	if !ok {
		return Live{Availability: 1, State: Healthy}
	}
	s := a.(*state)
	l := *s.published.Load()
	l.State = s.state(p.o.Now())
	l.Ejected = l.State.behind() || l.State == HalfOpen && s.probing.Load()
	return l
}
