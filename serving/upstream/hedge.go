package upstream

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Hedge is leave for one call beside the first attempt of a request, at the next healthy candidate, where the first has
// sent no content for unusually long. Whichever sends content first answers, and the other is cancelled: it may have been
// billed.
type Hedge struct {
	// After is how long the first is waited for; 0 is 95 % of the arm's own waits, and no hedge while those are not known.
	After time.Duration
	// Leave is asked before the second call is made. It refuses where no money is left for both, for example.
	Leave func(first, second *catalog.Arm) bool
}

// race makes an attempt, and under a hedge perhaps one beside it. Without an answer it returns the failure of the last of
// them; that of the other is in r.failed then.
func (r *run) race(ctx context.Context, t turn, most int) (*Answer, *Attempt) {
	arm := t.arm
	first := r.pool.prepare(ctx, r.plan, arm, len(r.queue) == 0 || len(r.failed)+1 >= most)
	first.counted = t.counted
	after := r.patience(arm, most)
	if after <= 0 {
		return first.arrived(first.call())
	}
	c := &contest{run: r, ctx: ctx, calls: []*pending{first.dispatch()}}
	defer c.abandon() // whoever is still running when it is over, also by a panic
	timer := time.NewTimer(after)
	defer timer.Stop()
	select {
	case got := <-c.calls[0].done:
		return c.settle(c.calls[0], got)
	case <-timer.C:
	}
	if ctx.Err() != nil { // the call goes beyond its client, for whom no other is begun
		return c.first(nil)
	}
	var second *pending
	if next, taken := r.beside(arm); next != nil {
		a := r.pool.prepare(ctx, r.plan, next, len(r.queue) == 0 || len(r.failed)+2 >= most)
		a.attempt.Hedge, a.counted = true, taken
		second = a.dispatch()
		c.calls = append(c.calls, second)
	}
	return c.first(second)
}

// patience is how long the attempt is waited for before another is made beside it; 0 is for ever.
func (r *run) patience(arm *catalog.Arm, most int) time.Duration {
	h := r.plan.Hedge
	if h == nil || len(r.failed) > 0 || len(r.queue) == 0 || most < 2 {
		return 0
	}
	if h.After > 0 {
		return h.After
	}
	if l := r.pool.Snapshot(arm.ID); r.plan.Stream {
		return l.FirstP95
	} else {
		return l.WholeP95
	}
}

// beside takes from the queue the first healthy arm that has room, if there is leave for it.
func (r *run) beside(first *catalog.Arm) (*catalog.Arm, counted) {
	for i, arm := range r.queue {
		if !r.pool.live(arm.ID).well(r.pool.o.Now()) {
			continue
		}
		taken, wait := r.pool.admit(arm.ID, r.plan.InputTokens)
		if wait > 0 {
			continue
		}
		if !r.plan.Hedge.Leave(first, arm) {
			taken.cancel()
			return nil, nil
		}
		r.queue = append(r.queue[:i:i], r.queue[i+1:]...)
		return arm, taken
	}
	return nil, nil
}

// pending is a call under way. done gets what it came to, once.
type pending struct {
	*Answer
	done chan arrival
}

type arrival struct {
	err error
	// panicked is what the vendor's code panicked with, and where; it belongs to the request.
	panicked string
}

// dispatch makes the call beside what else goes on.
func (a *Answer) dispatch() *pending {
	p := &pending{a, make(chan arrival, 1)}
	go func() {
		var got arrival
		defer func() {
			if p := recover(); p != nil {
				got.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
			p.done <- got
		}()
		got.err = a.call()
	}()
	return p
}

// contest is the calls of a request that run beside each other.
type contest struct {
	run   *run
	ctx   context.Context
	calls []*pending
}

// first waits for the first content of two calls; second may be nil.
func (c *contest) first(second *pending) (*Answer, *Attempt) {
	var other chan arrival
	if second != nil {
		other = second.done
	}
	one := c.calls[0]
	for {
		var a *Answer
		var failed *Attempt
		select {
		case got := <-one.done:
			a, failed = c.settle(one, got)
		case got := <-other:
			a, failed = c.settle(second, got)
		}
		if a != nil || len(c.calls) == 0 || c.ctx.Err() == nil && !failed.Err.Class.failover(c.run.pool.o.FailoverOnPolicy) {
			c.abandon()
			return a, failed
		}
		if cause := context.Cause(c.ctx); cause != nil && cause != errDeadline { // the client's leaving has ended both
			failed.Err, failed.Billed, failed.Cancelled = nil, true, true
		}
		c.run.failed = append(c.run.failed, *failed)
	}
}

// settle takes a call that has ended out of the contest.
func (c *contest) settle(p *pending, got arrival) (*Answer, *Attempt) {
	for i, other := range c.calls {
		if other == p {
			c.calls = append(c.calls[:i:i], c.calls[i+1:]...)
		}
	}
	if got.panicked != "" {
		panic(got.panicked)
	}
	return p.arrived(got.err)
}

// abandon cancels the calls that still run. They may have been billed. How long the first had been waited for is the least
// that its content would have taken, and it counts as that: an arm must not look fast because its slow answers are cut.
func (c *contest) abandon() {
	for _, p := range c.calls {
		at := &p.attempt
		at.Cancelled, at.Billed, at.Total = true, true, time.Since(p.started)
		p.cancel(errOutrun)
		c.run.failed = append(c.run.failed, *at)
		if !at.Hedge && p.plan.Stream && p.live.firstContent(at.Total, p.input()) || !at.Hedge && !p.plan.Stream && p.live.complete(at.Total, p.input(), unknownTokens, false) {
			p.pool.degrade(p.live, p.plan.Candidates, false)
		}
		go func() { // it ends at once, but nobody waits for it
			<-p.done
			p.release()
		}()
	}
	c.calls = nil
}

// errOutrun is the cause with which a call is cancelled whose sibling was quicker.
var errOutrun = errors.New("upstream: another call was quicker")
