package upstream

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// This file decides where an arm stands in the order of a request. Nothing here ever removes one: what is unwell stands
// behind what is well, and where all are unwell they are tried all the same, those that fail hard one request at a time.

// State is the health of an arm.
type State int32

// The states. Degraded arms answer, but slowly or seldom; Limited ones asked us to wait; Ejected ones failed ejectAfter
// times in a row, or refused our key, or do not know the model; HalfOpen ones were, and the next request tries whether they
// still are.
const (
	Healthy State = iota
	Degraded
	Limited
	Ejected
	HalfOpen
)

// String is the state's name in metrics and messages.
func (s State) String() string {
	return [...]string{"healthy", "degraded", "rate_limited", "ejected", "half_open"}[s]
}

func (s State) behind() bool { return s == Degraded || s == Limited || s == Ejected }

const (
	// ejectAfter hard failures in a row eject an arm for ejectFor.
	ejectAfter = 5
	ejectFor   = 30 * time.Second
	// goneFor is how long an arm stands behind whose vendor does not know the model.
	goneFor = 10 * time.Minute
	// degradedFor is how long an arm stands behind that has become slow or fails often.
	degradedFor = 10 * time.Second
	// degradedShare is the recent share of failures from which an arm may be degraded; it must also be degradedTimes the
	// median of its group.
	degradedShare = 0.2
	degradedTimes = 3
	// limitedMin and limitedMax bound how long an arm stands behind that was rate-limited.
	limitedMin = time.Second
	limitedMax = time.Minute
)

// health is what of an arm's state decides on its place. Its atomic fields are read without a lock.
type health struct {
	consecutive int
	lately      lately
	// until is when the arm's ejection, degradation or limit ends, in Unix nanoseconds; 0 is none. kind says which.
	until atomic.Int64
	kind  atomic.Int32
	// gone says that it was ejected because its vendor does not know the model.
	gone atomic.Bool
	// told is the state that was last told of, Healthy at first.
	told atomic.Int32
	// probing is held by the one request that may try a hard case.
	probing atomic.Bool
}

// state is the arm's at an instant. It reads no lock, so a change under way may be seen half: as one state or the other.
func (h *health) state(now time.Time) State {
	until, kind := h.until.Load(), State(h.kind.Load())
	switch {
	case until == 0:
		return Healthy
	case now.UnixNano() < until:
		return kind
	case kind == Ejected:
		return HalfOpen
	}
	return Healthy
}

// hard reports whether the arm was ejected and has not answered since.
func (h *health) hard() bool { return h.until.Load() != 0 && State(h.kind.Load()) == Ejected }

// setBack puts the arm behind the others. A harder case is not softened by a softer one. It needs the arm's lock.
func (h *health) setBack(kind State, until time.Time) {
	if kind != Ejected && h.hard() {
		return
	}
	h.gone.Store(false)
	h.kind.Store(int32(kind))
	h.until.Store(until.UnixNano())
}

// hurt counts a failure. It needs the arm's lock.
func (h *health) hurt(e *Error, now time.Time) {
	switch e.Class {
	case RateLimited: // passes by itself
		h.setBack(Limited, now.Add(min(max(e.RetryAfter, limitedMin), limitedMax)))
		return
	case ModelGone:
		h.consecutive = max(h.consecutive, ejectAfter)
		h.setBack(Ejected, now.Add(goneFor))
		h.gone.Store(true)
		return
	case Auth:
		h.consecutive = max(h.consecutive, ejectAfter)
	}
	if h.consecutive++; h.consecutive >= ejectAfter {
		h.setBack(Ejected, now.Add(ejectFor))
	}
}

// recovered takes an ejection back and leaves so many failures counted: an arm whose probe has only begun to answer is on
// probation, and one more failure ejects it anew. It needs the arm's lock.
func (h *health) recovered(count int) {
	h.consecutive = min(h.consecutive, count)
	if h.hard() {
		h.until.Store(0)
	}
}

// began notes that an arm begins to answer.
func (a *state) began() {
	if !a.hard() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recovered(ejectAfter - 1)
}

// degrade puts an arm behind the others of its group that has become slow (failing is false) or fails often, for a while:
// unless its failures are what the whole group suffers, or half of the group is degraded already. Then it is not the arm.
func (p *Pool) degrade(a *state, group []*catalog.Arm, failing bool) {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	shares := make([]float64, len(group))
	down := 0
	for i, arm := range group {
		s := p.live(arm.ID)
		shares[i] = 1 - s.published.Load().recently
		if s != a && s.state(now) == Degraded {
			down++
		}
	}
	slices.Sort(shares)
	median := shares[(len(shares)-1)/2]
	if 2*(down+1) > len(shares) || failing && 1-a.published.Load().recently <= degradedTimes*median {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.setBack(Degraded, now.Add(degradedFor))
	a.firstPace.forgive()
	a.wholePace.forgive()
}

// tell tells of a change of the arm's place since it was last told of. e is what happened, nil where nothing failed.
func (p *Pool) tell(arm catalog.ArmID, a *state, e *Error) {
	if p.o.Notify == nil || a.until.Load() == 0 && State(a.told.Load()) == Healthy { // as nearly always
		return
	}
	now := p.o.Now()
	s := a.state(now)
	if s == HalfOpen || State(a.told.Load()) == s || State(a.told.Swap(int32(s))) == s {
		return
	}
	c := Change{Arm: arm, State: s, Cause: e}
	if s != Healthy {
		c.For = time.Unix(0, a.until.Load()).Sub(now)
	}
	p.o.Notify(c)
}

// pace notices that an arm has become slow: compared with itself, because arms that think are slow by nature. Both means
// are of logarithms; recent weighs the last handful of answers, usual the last hundred.
type pace struct {
	recent, usual float64
	n             int
}

const (
	recentStep = 0.2
	usualStep  = 0.01
	// paceMin is how many answers make something usual, slowTimes how much slower than that is slow.
	paceMin   = 20
	slowTimes = 3
)

// add counts an answer and reports whether the arm has become slow.
func (p *pace) add(d time.Duration) bool {
	x := math.Log(max(d.Seconds(), 1e-3))
	if p.n++; p.n == 1 {
		p.recent, p.usual = x, x
	}
	p.recent += recentStep * (x - p.recent)
	p.usual += max(1/float64(p.n), usualStep) * (x - p.usual)
	return p.n > paceMin && p.recent-p.usual > math.Log(slowTimes)
}

// forgive begins anew from what is usual.
func (p *pace) forgive() { p.recent = p.usual }

// lately counts attempts of the last ten seconds, a bucket a second.
type lately struct {
	buckets [10]struct {
		second     int64
		ended, bad int
	}
}

func (l *lately) add(now time.Time, bad bool) {
	second := now.Unix()
	b := &l.buckets[uint64(second)%uint64(len(l.buckets))]
	if b.second != second {
		b.second, b.ended, b.bad = second, 0, 0
	}
	b.ended++
	if bad {
		b.bad++
	}
}

// failing reports whether a fifth of the attempts failed lately. A few say nothing.
func (l *lately) failing(now time.Time) bool {
	ended, bad := 0, 0
	for _, b := range l.buckets {
		if age := now.Unix() - b.second; age >= 0 && age < int64(len(l.buckets)) {
			ended, bad = ended+b.ended, bad+b.bad
		}
	}
	return ended >= ejectAfter && 5*bad >= ended
}

// well reports whether a first attempt at the arm is a failover, which is free, and not a retry.
func (a *state) well(now time.Time) bool {
	if a.state(now) != Healthy {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.lately.failing(now)
}

// enter asks for the right to try the arm. A hard case takes one request at a time; leave gives the right back.
func (a *state) enter(now time.Time) (probe, ok bool) {
	switch a.state(now) {
	case Ejected, HalfOpen:
		ok = a.probing.CompareAndSwap(false, true)
		return ok, ok
	}
	return false, true
}

// leave gives the right of a probe back.
func (a *state) leave(probe bool) {
	if probe {
		a.probing.Store(false)
	}
}

// turn is the right to one attempt at an arm.
type turn struct {
	arm   *catalog.Arm
	live  *state
	probe bool
	counted
}

// enter asks whether an attempt at an arm may be made now.
func (r *run) enter(arm *catalog.Arm) (t turn, ok bool) {
	now := r.pool.o.Now()
	t.arm, t.live = arm, r.pool.live(arm.ID)
	if t.probe, ok = t.live.enter(now); !ok {
		r.busy = append(r.busy, t.live)
		return t, false
	}
	if t.counted, ok = r.room(arm); !ok {
		t.live.leave(t.probe)
		return t, false
	}
	if len(r.failed) > 0 && (r.again || !t.live.well(now)) && !r.pool.retries.take() {
		t.cancel() // a storm of retries would keep down what is down
		t.live.leave(t.probe)
		return t, false
	}
	return t, true
}

// retries is what requests have earned in retries: a fifth of one each, so that attempts stay within 1.2 times the
// requests whatever fails and however fast. A count over the requests of the moment, as others have it, does not bound
// failures that are quick.
type retries struct{ fifths atomic.Int64 }

const (
	retriesAtFirst = 3
	retriesMax     = 100
)

func (r *retries) earn() {
	if r.fifths.Load() < 5*retriesMax {
		r.fifths.Add(1)
	}
}

func (r *retries) take() bool {
	for {
		v := r.fifths.Load()
		if v < 5 {
			return false
		}
		if r.fifths.CompareAndSwap(v, v-5) {
			return true
		}
	}
}

// cooldown is how long until the first of the arms is worth another try.
func (p *Pool) cooldown(states []*state) time.Duration {
	now := p.o.Now()
	first := slices.MinFunc(states, func(a, b *state) int { return cmp.Compare(a.until.Load(), b.until.Load()) })
	return max(time.Unix(0, first.until.Load()).Sub(now), time.Second)
}
