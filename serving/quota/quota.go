// Package quota admits requests at the rate and in the number that a key may send them, a vendor may be sent them and the
// process can answer, or says when to come again.
//
// Rates are token buckets that hold one minute's worth and refill evenly, so a full minute may come at once and then
// the rate holds. It counts requests and tokens, never money: that is the ledger's.
package quota

import (
	"errors"
	"math"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/serving/governance"
)

// concurrencyRetry is what a client is told to wait when too many of its requests run: nobody knows when one ends.
const concurrencyRetry = time.Second

// Options of a Quota. The zero value works.
type Options struct {
	// KeysMax bounds the keys that are counted; 0 is 100,000. Keys come from the configuration, never from a client.
	KeysMax int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Validate reports a negative limit.
func (o Options) Validate() error {
	if o.KeysMax < 0 {
		return errors.New("quota: KeysMax is negative")
	}
	return nil
}

// Quota counts what each key has sent. Its methods may be called from any goroutine.
type Quota struct {
	now func() time.Time
	max int

	mu   sync.RWMutex
	keys map[string]*usage
}

// New makes a quota in which nobody has sent anything.
func New(o Options) (*Quota, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	q := &Quota{now: o.Now, max: o.KeysMax, keys: make(map[string]*usage)}
	if q.now == nil {
		q.now = time.Now
	}
	if q.max == 0 {
		q.max = 100_000
	}
	return q, nil
}

// Meter is the state of one rate, as the x-ratelimit headers show it. A zero Limit is none.
type Meter struct {
	Limit     int
	Remaining int
	// Reset is the time until the bucket is full again.
	Reset time.Duration
}

// Kind says which limit refused.
type Kind string

// The limits.
const (
	Requests   Kind = "requests"
	Tokens     Kind = "tokens"
	Concurrent Kind = "concurrent"
	// Keys says that KeysMax keys are counted already.
	Keys Kind = "keys"
)

// Refusal says what was refused and when to come again.
type Refusal struct {
	Kind       Kind
	Limit      int
	Remaining  int
	RetryAfter time.Duration
	Requests   Meter
	Tokens     Meter
}

// Grant is an admitted request. Release it when the request ends.
type Grant struct {
	Requests Meter
	Tokens   Meter

	u      *usage
	tokens int
}

// usage is one key's.
type usage struct {
	mu       sync.Mutex
	running  int
	requests bucket
	tokens   bucket
}

// Admit counts a request of a key that will use the given number of tokens, at an estimate. It takes from all limits
// or from none. A request larger than a whole minute's tokens passes a full bucket and leaves it in debt; otherwise it
// could never be sent. A key without limits is not counted.
func (q *Quota) Admit(key string, l governance.Limits, tokens int) (Grant, *Refusal) {
	if l == (governance.Limits{}) {
		return Grant{}, nil
	}
	u := q.usage(key)
	if u == nil {
		return Grant{}, &Refusal{Kind: Keys, Limit: q.max, RetryAfter: concurrencyRetry}
	}
	tokens = max(tokens, 0)
	u.mu.Lock()
	defer u.mu.Unlock()
	now := q.now() // under the lock, so that it steps back only where the clock does
	u.refill(l, now)
	if wait := u.requests.wait(l.RequestsPerMinute, 1); wait > 0 {
		return Grant{}, u.refuse(Requests, l, wait)
	}
	if wait := u.tokens.wait(l.TokensPerMinute, tokens); wait > 0 {
		return Grant{}, u.refuse(Tokens, l, wait)
	}
	if l.Concurrent > 0 && u.running >= l.Concurrent {
		r := u.refuse(Concurrent, l, concurrencyRetry)
		r.Limit, r.Remaining = l.Concurrent, 0
		return Grant{}, r
	}
	u.running++
	u.requests.take(1)
	u.tokens.take(tokens)
	return Grant{
		Requests: u.requests.meter(l.RequestsPerMinute), Tokens: u.tokens.meter(l.TokensPerMinute),
		u: u, tokens: tokens,
	}, nil
}

// Wait is how long the rates of a key would have a request wait, zero where it would be admitted now. It takes nothing.
func (q *Quota) Wait(key string, l governance.Limits, tokens int) time.Duration {
	q.mu.RLock()
	u := q.keys[key]
	q.mu.RUnlock()
	if u == nil {
		return 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refill(l, q.now())
	return max(u.requests.wait(l.RequestsPerMinute, 1), u.tokens.wait(l.TokensPerMinute, max(tokens, 0)))
}

// Correct replaces the estimate by the tokens that were used. The bucket may fall into debt, which later requests wait
// out.
func (g *Grant) Correct(used int) {
	if g.u == nil {
		return
	}
	g.u.mu.Lock()
	defer g.u.mu.Unlock()
	g.u.tokens.take(used - g.tokens)
	g.tokens = used
}

// Cancel takes back a request that is not made after all. Like Release it ends the grant.
func (g *Grant) Cancel() {
	if g.u == nil {
		return
	}
	g.u.mu.Lock()
	defer g.u.mu.Unlock()
	g.u.requests.take(-1)
	g.u.tokens.take(-g.tokens)
	g.u.running--
	g.u = nil
}

// Release ends the request. A second call does nothing.
func (g *Grant) Release() {
	if g.u == nil {
		return
	}
	g.u.mu.Lock()
	defer g.u.mu.Unlock()
	g.u.running--
	g.u = nil
}

func (q *Quota) usage(key string) *usage {
	q.mu.RLock()
	u := q.keys[key]
	q.mu.RUnlock()
	if u != nil {
		return u
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if u = q.keys[key]; u == nil && len(q.keys) < q.max {
		u = &usage{}
		q.keys[key] = u
	}
	return u
}

func (u *usage) refill(l governance.Limits, now time.Time) {
	u.requests.refill(l.RequestsPerMinute, now)
	u.tokens.refill(l.TokensPerMinute, now)
}

func (u *usage) refuse(kind Kind, l governance.Limits, wait time.Duration) *Refusal {
	r := &Refusal{
		Kind: kind, RetryAfter: wait,
		Requests: u.requests.meter(l.RequestsPerMinute), Tokens: u.tokens.meter(l.TokensPerMinute),
	}
	m := r.Requests
	if kind == Tokens {
		m = r.Tokens
	}
	r.Limit, r.Remaining = m.Limit, m.Remaining
	return r
}

// bucket holds what is left of a minute. The limit comes with every call, so a changed configuration is in force at
// once.
type bucket struct {
	level float64
	limit int
	at    time.Time
}

// refill adds what time has brought. A clock that steps back brings nothing and takes nothing, and time goes on from there.
func (b *bucket) refill(limit int, now time.Time) {
	if b.limit != limit {
		b.level += float64(limit - b.limit) // a new bucket is full; a changed one keeps what was used
		b.limit = limit
	}
	if passed := now.Sub(b.at); passed > 0 && !b.at.IsZero() {
		b.level = min(float64(limit), b.level+passed.Minutes()*float64(limit))
	}
	b.at = now
}

// take takes n, or gives it back where n is negative. Without a limit nothing is counted: one that is set later begins full.
func (b *bucket) take(n int) {
	if b.limit > 0 {
		b.level = min(b.level-float64(n), float64(b.limit))
	}
}

// wait is how long n must wait, zero where it fits.
func (b *bucket) wait(limit, n int) time.Duration {
	// Less than a millionth of a token short is rounding, not a lack.
	short := float64(min(n, limit)) - b.level - 1e-6
	if limit == 0 || short <= 0 {
		return 0
	}
	return max(time.Millisecond, b.time(short))
}

// time is how long the bucket takes to gain n, rounded up to a millisecond.
func (b *bucket) time(n float64) time.Duration {
	ms := math.Ceil(n / float64(b.limit) * 60_000)
	return time.Duration(min(ms, math.MaxInt32)) * time.Millisecond
}

func (b *bucket) meter(limit int) Meter {
	if limit == 0 {
		return Meter{}
	}
	return Meter{Limit: limit, Remaining: int(max(0, b.level+1e-6)), Reset: b.time(max(0, float64(limit)-b.level))}
}
