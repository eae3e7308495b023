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
	// Ejected says that the arm now stands behind the healthy ones.
	Ejected bool
	// Attempts counts the attempts that ended in success or in a failure of the arm.
	Attempts int64
}

const (
	// availabilityStep is the weight of the newest attempt.
	availabilityStep = 0.1
	// quantileStep is the least step of a quantile in the logarithm: large enough to follow a vendor within some dozens
	// of calls, small enough to stay within about a tenth.
	quantileStep = 0.05
	// ejectAfter hard failures in a row put an arm behind the healthy ones for ejectFor.
	ejectAfter = 5
	ejectFor   = 30 * time.Second
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

// state is the live state of one arm. It is written once an attempt, under its lock, and read without one.
type state struct {
	mu                 sync.Mutex
	first50, first90   quantile
	total50, total90   quantile
	consecutive        int
	published          atomic.Pointer[Live]
	ejectedUntilUnixNS atomic.Int64
}

func newState() *state {
	a := &state{first50: quantile{p: 0.5}, first90: quantile{p: 0.9}, total50: quantile{p: 0.5}, total90: quantile{p: 0.9}}
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

func (a *state) succeeded() {
	a.update(func(l *Live) {
		a.consecutive = 0
		a.ejectedUntilUnixNS.Store(0)
		l.Attempts++
		l.Availability += availabilityStep * (1 - l.Availability)
	})
}

// failed counts a failure of the arm; what the client did wrong is none. A rate limit makes the arm less available but
// does not eject it, since it passes by itself. After ejectAfter in a row every further one ejects it anew, so that an arm that
// comes back is on probation until it succeeds once.
func (a *state) failed(c Class, now time.Time) {
	if !c.Fault() && c != RateLimited {
		return
	}
	a.update(func(l *Live) {
		l.Attempts++
		l.Availability -= availabilityStep * l.Availability
		if !c.Fault() {
			return
		}
		if a.consecutive++; a.consecutive >= ejectAfter {
			a.ejectedUntilUnixNS.Store(now.Add(ejectFor).UnixNano())
		}
	})
}

func (a *state) firstContent(d time.Duration) {
	a.update(func(l *Live) {
		a.first50.add(d)
		a.first90.add(d)
		l.FirstP50 = a.first50.value()
		l.FirstP90 = max(a.first90.value(), l.FirstP50)
	})
}

func (a *state) whole(d time.Duration) {
	a.update(func(l *Live) {
		a.total50.add(d)
		a.total90.add(d)
		l.TotalP50 = a.total50.value()
		l.TotalP90 = max(a.total90.value(), l.TotalP50)
	})
}

func (a *state) ejected(now time.Time) bool { return now.UnixNano() < a.ejectedUntilUnixNS.Load() }

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
		return Live{Availability: 1}
	}
	l := *a.(*state).published.Load()
	l.Ejected = a.(*state).ejected(p.o.Now())
	return l
}
