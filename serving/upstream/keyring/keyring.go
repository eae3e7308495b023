// Package keyring makes one Provider of several keys of a vendor, each of which is a Provider of its own.
//
// To the pool it is one vendor: a key that is rate-limited or refused is nothing that an arm did, so another key is asked
// at once, and the arm has failed only where no key is left. No vendor bills such a refusal. It knows no protocol and sees no
// secret: keys are numbers here, counted from 1.
package keyring

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// KeysMax is how many keys a vendor may have.
const KeysMax = 64

const (
	// badFor is how long a key that was refused is left alone; then one request tries it.
	badFor = 10 * time.Minute
	// limitedMin and limitedMax bound how long a key is set aside for an arm that it was rate-limited at.
	limitedMin = time.Second
	limitedMax = time.Minute
)

// Options configure a Ring. Keys is required.
type Options struct {
	// Keys is the vendor once for each key.
	Keys []upstream.Provider
	// Now is the clock (time.Now).
	Now func() time.Time
}

// Validate refuses a ring without keys, and one with too many.
func (o *Options) Validate() error {
	if len(o.Keys) == 0 || len(o.Keys) > KeysMax {
		return errors.New("keyring: a ring has 1 to 64 keys")
	}
	return nil
}

// Event is something that an operator wants to know of a key.
type Event struct {
	// Key is its number, Of how many there are.
	Key, Of int
	// Class is how it failed; empty says that a key that was bad works again.
	Class upstream.Class
	// Status is the vendor's.
	Status int
	// Bad says that the key is not used any more, Switched that the request went on with another key.
	Bad, Switched bool
}

// Ring is a vendor with several keys. It is safe for concurrent use.
type Ring struct {
	keys   []*key
	now    func() time.Time
	turn   atomic.Uint32
	notify atomic.Pointer[func(Event)]
}

// key is one of them.
type key struct {
	upstream.Provider
	running atomic.Int64
	// bad is until when the key is left alone, in Unix nanoseconds; 0 is a good key.
	bad atomic.Int64
	// arms has what is known of the key at each arm, an *allowance by catalog.ArmID: vendors limit models apart.
	arms sync.Map
}

// New makes a ring.
func New(o Options) (*Ring, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &Ring{now: o.Now}
	if r.now == nil {
		r.now = time.Now
	}
	for _, p := range o.Keys {
		r.keys = append(r.keys, &key{Provider: p})
	}
	return r, nil
}

// Notify has fn told of events, from the requests that met them.
func (r *Ring) Notify(fn func(Event)) { r.notify.Store(&fn) }

func (r *Ring) tell(e Event) {
	e.Of = len(r.keys)
	if fn := r.notify.Load(); fn != nil {
		(*fn)(e)
	}
}

// Forgive has keys tried again that were refused: the operator says that something has changed.
func (r *Ring) Forgive() {
	for _, k := range r.keys {
		k.bad.Store(0)
		k.arms.Clear()
	}
}

// Bad counts the keys that the vendor refuses.
func (r *Ring) Bad() (n int) {
	for _, k := range r.keys {
		if k.bad.Load() != 0 {
			n++
		}
	}
	return n
}

// Speaks reports whether the vendor can be asked in d.
func (r *Ring) Speaks(d openai.Dialect) bool {
	l, ok := r.keys[0].Provider.(upstream.Linguist)
	return ok && l.Speaks(d)
}

// Lacks names what of a chat request cannot be said to the vendor.
func (r *Ring) Lacks(chat []byte) string {
	if l, ok := r.keys[0].Provider.(upstream.Linguist); ok {
		return l.Lacks(chat)
	}
	return ""
}

// Stream makes a call with the key that has the most room, and with others where the vendor will not have that one.
func (r *Ring) Stream(ctx context.Context, req *upstream.Request) (upstream.Stream, error) {
	s := &stream{ring: r, ctx: ctx, req: req}
	if err := s.open(nil); err != nil {
		return nil, err
	}
	return s, nil
}

// The classes of a key for a request: with room, said to be used up, and not to be used.
const (
	roomy = iota
	spent
	aside
)

// pick chooses among the keys that were not tried: of those with the most room the one with the fewest calls for its share,
// in turn. Where all are set aside it is the one that is so for the shortest time, if it is the first that is tried:
// somebody has to find out, and one call a request is enough for that.
func (r *Ring) pick(arm catalog.ArmID, tokens int64, tried uint64) int {
	now, best, bestClass, bestLoad := r.now(), -1, 0, 0.0
	turn := int(r.turn.Add(1))
	for n := range r.keys {
		i := (turn + n) % len(r.keys)
		if tried>>i&1 == 1 {
			continue
		}
		class, load := r.keys[i].room(arm, tokens, now)
		if class == aside && tried != 0 {
			continue
		}
		if best < 0 || class < bestClass || class == bestClass && load < bestLoad {
			best, bestClass, bestLoad = i, class, load
		}
	}
	return best
}

// room says how much room a key has for a call: its class, and in it a figure of which less is better.
func (k *key) room(arm catalog.ArmID, tokens int64, now time.Time) (class int, load float64) {
	a := k.at(arm)
	if until := max(a.aside.Load(), k.bad.Load()); until > now.UnixNano() {
		return aside, float64(until)
	}
	share, fits := a.share(tokens, now)
	load = float64(k.running.Load()+1) / max(share, minShare)
	if !fits {
		return spent, load
	}
	return roomy, load
}

// minShare keeps a key that is nearly used up comparable.
const minShare = 1e-3

func (k *key) at(arm catalog.ArmID) *allowance {
	if a, ok := k.arms.Load(arm); ok {
		return a.(*allowance)
	}
	a, _ := k.arms.LoadOrStore(arm, &allowance{})
	return a.(*allowance)
}

// begin takes the key for a call and reports whether it is bad. The request that comes once a bad
// key's rest is over tries it, and those after it see another rest begin.
func (k *key) begin(now time.Time) bool {
	k.running.Add(1)
	bad := k.bad.Load()
	if bad != 0 && bad <= now.UnixNano() {
		k.bad.CompareAndSwap(bad, now.Add(badFor).UnixNano())
	}
	return bad != 0
}

// refused books what a vendor said of the key and reports whether another key may do better. A refusal of the key itself
// (401, or 402 where its account has no money) is one for every arm, a rate limit and 403 for this one.
func (r *Ring) refused(i int, arm catalog.ArmID, err error, now time.Time) (*upstream.Error, bool) {
	var e *upstream.Error
	if !errors.As(err, &e) {
		return nil, false
	}
	k := r.keys[i]
	switch {
	case e.Class == upstream.RateLimited:
		k.at(arm).set(now.Add(min(max(e.RetryAfter, limitedMin), limitedMax)))
	case e.Class == upstream.Auth && e.Status == 403:
		k.at(arm).set(now.Add(badFor))
		r.tell(Event{Key: i + 1, Class: e.Class, Status: e.Status, Bad: true})
	case e.Class == upstream.Auth:
		if k.bad.Swap(now.Add(badFor).UnixNano()) == 0 {
			r.tell(Event{Key: i + 1, Class: e.Class, Status: e.Status, Bad: true})
		}
	default:
		return nil, false
	}
	return e, true
}

// worked notes that the vendor takes a key that was bad.
func (r *Ring) worked(i int) {
	if r.keys[i].bad.Swap(0) != 0 {
		r.tell(Event{Key: i + 1})
	}
}

// exhausted is the error of a request that no key was taken for. A rate limit passes by itself, so where there was one it is
// that, until the first key is free again; otherwise it is the last refusal.
func (r *Ring) exhausted(arm catalog.ArmID, tried uint64, last, limited *upstream.Error, now time.Time) error {
	if limited == nil {
		return last
	}
	e := *limited
	for i, k := range r.keys {
		until := time.Unix(0, max(k.at(arm).aside.Load(), k.bad.Load()))
		if tried>>i&1 == 0 && until.Before(now.Add(e.RetryAfter)) {
			e.RetryAfter = max(until.Sub(now), 0)
		}
	}
	return &e
}
