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
	// First is the time to the first content of streams, Whole that to the end of an answer.
	First, Whole Latency
	// FirstP95 and WholeP95 are how long is unusually long, of answers of every size, whole ones those that are not streamed; 0
	// until enough was measured to say so.
	FirstP95, WholeP95 time.Duration
	// Ejected says that the arm now stands behind the healthy ones, State why, and Gone that its vendor does not know the model.
	Ejected bool
	State   State
	Gone    bool
	// Attempts counts the attempts that ended in success or in a failure of the arm.
	Attempts int64
	// recently is the success rate of the last handful, and last when the last attempt ended.
	recently float64
	last     time.Time
}

// ended counts an attempt.
func (l *Live) ended(well float64, now time.Time) {
	l.Availability = l.forgiven(now)
	l.Attempts++
	l.recently += recentRateStep * (well - l.recently)
	l.Availability += max(availabilityStep, 1/float64(l.Attempts+availabilityPrior)) * (well - l.Availability)
	l.last = now
}

// forgiven is the availability at an instant.
func (l *Live) forgiven(now time.Time) float64 {
	if l.Availability == 1 {
		return 1
	}
	return 1 - (1-l.Availability)*math.Exp(-max(0, now.Sub(l.last).Seconds())/forgetAfter.Seconds())
}

const (
	// recentRateStep is the weight of the newest attempt in the rate by which an arm is degraded, and availabilityStep its
	// least in the one by which arms are compared: that has to tell 99 % from 97 %.
	recentRateStep   = 0.1
	availabilityStep = 0.02
	// availabilityPrior is how many successes an arm that was never tried is taken for.
	availabilityPrior = 10
	// forgetAfter is the time in which failures lose two thirds of their weight where nothing follows them: who is not asked
	// any more cannot show that it is well again.
	forgetAfter = 10 * time.Minute
)

// state is the live state of one arm. It is written once an attempt, under its lock, and read without one.
type state struct {
	mu                   sync.Mutex
	first, whole         timing
	firstLate, wholeLate quantile
	firstPace, wholePace pace
	published            atomic.Pointer[Live]
	health
}

func newState() *state {
	a := &state{first: newTiming(), whole: newTiming(), firstLate: quantile{p: 0.95}, wholeLate: quantile{p: 0.95}}
	a.published.Store(&Live{Availability: 1, recently: 1})
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
		l.ended(1, now)
	})
}

// failed counts a failure of the arm; what the client did wrong is none. It reports whether the arm now fails so often that
// it may be degraded.
func (a *state) failed(e *Error, now time.Time) (degrade bool) {
	if !e.Class.Fault() && e.Class != RateLimited {
		return false
	}
	a.update(func(l *Live) {
		l.ended(0, now)
		a.lately.add(now, true)
		a.hurt(e, now)
		degrade = 1-l.recently > degradedShare
	})
	return degrade
}

// firstContent counts the wait for a stream's first content and reports whether the arm has become slow.
func (a *state) firstContent(d time.Duration, input float64) (slow bool) {
	a.update(func(l *Live) {
		a.first.add(d, input, 0)
		l.First, l.FirstP95 = a.first.now, a.firstLate.late(d)
		slow = a.firstPace.add(d)
	})
	return slow
}

// complete counts the time of a whole answer. It reports whether the arm has become slow, of answers that are not streamed:
// of those that are, the wait for the first content tells.
func (a *state) complete(d time.Duration, input, output float64, streamed bool) (slow bool) {
	a.update(func(l *Live) {
		a.whole.add(d, input, output)
		l.Whole = a.whole.now
		if !streamed {
			l.WholeP95, slow = a.wholeLate.late(d), a.wholePace.add(d)
		}
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
	l, now := *s.published.Load(), p.o.Now()
	l.State, l.Availability = s.state(now), l.forgiven(now)
	l.Ejected = l.State.behind() || l.State == HalfOpen && s.probing.Load()
	l.Gone = l.Ejected && s.gone.Load()
	return l
}

// Forecast is how long an arm is expected to take, in the median and at the 0.9 quantile: to the first content of a stream,
// to the end of any other answer. Both are 0 where none was measured. It takes no lock.
func (p *Pool) Forecast(id catalog.ArmID, stream bool, input, output float64) (p50, p90 time.Duration) {
	a, ok := p.arms.Load(id)
	if !ok {
		return 0, 0
	}
	l := a.(*state).published.Load()
	if stream {
		return l.First.At(input, 0)
	}
	return l.Whole.At(input, output)
}
