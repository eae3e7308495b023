package quota

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// Bounds of a process where nothing else is configured.
const (
	capacityRequests  = 4096
	capacityBodyBytes = 256 << 20
)

const (
	// freeTimes is how many times of what is free one owner may have: nine tenths of the whole where it is alone, and always
	// less than all, so that whoever comes next finds room (the dynamic thresholds of Choudhury and Hahne, 1998).
	freeTimes = 9
	// bodyStep is how much of the bound a body takes at a time where its length is not told beforehand.
	bodyStep = 256 << 10
)

// CapacityOptions bound what one process does at once. The zero value takes the defaults named with each field.
type CapacityOptions struct {
	// Requests are those that are being answered (4,096), BodyBytes all of their bodies (256 MiB).
	Requests  int
	BodyBytes int64
}

// Validate reports a negative bound.
func (o CapacityOptions) Validate() error {
	if o.Requests < 0 || o.BodyBytes < 0 {
		return errors.New("quota: a bound of the process's capacity is negative")
	}
	return nil
}

// Capacity bounds the requests of a process and their bodies, and shares the room fairly among their owners: each may have so
// many times of what is free. It takes no lock, and nobody waits: a process that is full gains nothing by a queue, and
// what is refused at once can go elsewhere. Its methods may be called from any goroutine.
type Capacity struct {
	requests, bytes room
	owners          sync.Map // owner → *[2]atomic.Int64
}

// NewCapacity makes the capacity of an idle process.
func NewCapacity(o CapacityOptions) (*Capacity, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &Capacity{requests: room{limit: capacityRequests}, bytes: room{limit: capacityBodyBytes}}
	if o.Requests > 0 {
		c.requests.limit = int64(o.Requests)
	}
	if o.BodyBytes > 0 {
		c.bytes.limit = o.BodyBytes
	}
	return c, nil
}

// room is one of the bounds.
type room struct {
	limit int64
	used  atomic.Int64
}

// take takes n for an owner who has mine, or nothing. Whoever has none yet may have all that is free.
func (r *room) take(mine *atomic.Int64, n int64) bool {
	used, own := r.used.Add(n), mine.Add(n)
	if used <= r.limit && (own == n || own <= freeTimes*(r.limit-used)) {
		return true
	}
	r.give(mine, n)
	return false
}

func (r *room) give(mine *atomic.Int64, n int64) {
	mine.Add(-n)
	r.used.Add(-n)
}

// Place is a request's part of the capacity. It is for one goroutine, and the zero Place is none.
type Place struct {
	c    *Capacity
	mine *[2]atomic.Int64
	body int64
}

// The refusals: the process has no room, or the owner has all of it that is due to it.
var (
	ErrFull       = errors.New("quota: too many requests are being answered")
	ErrFullBodies = errors.New("quota: the bodies of the requests that are being answered fill the memory that is set aside for them")
)

// Enter takes a place for a request of an owner whose body has so many bytes, -1 where nobody knows. Owners come from the
// configuration, never from a client.
func (c *Capacity) Enter(owner string, bytes int64) (Place, error) {
	v, ok := c.owners.Load(owner)
	if !ok {
		v, _ = c.owners.LoadOrStore(owner, new([2]atomic.Int64))
	}
	p := Place{c: c, mine: v.(*[2]atomic.Int64)}
	if !c.requests.take(&p.mine[0], 1) {
		return Place{}, ErrFull
	}
	if !p.grow(max(bytes, 0)) {
		p.Leave()
		return Place{}, ErrFullBodies
	}
	return p, nil
}

func (p *Place) grow(n int64) bool {
	if n > 0 && !p.c.bytes.take(&p.mine[1], n) {
		return false
	}
	p.body += n
	return true
}

// Body is the request's body. Reading more of it than its place was taken for takes more, or fails with ErrFullBodies.
func (p *Place) Body(body io.Reader) io.Reader { return &measured{body, p, p.body} }

// measured is a body that is read.
type measured struct {
	io.Reader
	place *Place
	// left is what may be read before more is taken.
	left int64
}

// Read reads from the body.
func (m *measured) Read(b []byte) (int, error) {
	n, err := m.Reader.Read(b)
	for m.left -= int64(n); m.left < 0; m.left += bodyStep {
		if !m.place.grow(bodyStep) {
			return n, ErrFullBodies
		}
	}
	return n, err
}

// Leave gives the place back. A second call does nothing.
func (p *Place) Leave() {
	if p.c == nil {
		return
	}
	p.c.requests.give(&p.mine[0], 1)
	p.c.bytes.give(&p.mine[1], p.body)
	p.c = nil
}

// Requests is the bound of requests that are answered at once.
func (c *Capacity) Requests() int64 { return c.requests.limit }

// BodyBytes is the bound of all bodies together.
func (c *Capacity) BodyBytes() int64 { return c.bytes.limit }

// Open is how many requests have a place, and how many bytes their bodies have.
func (c *Capacity) Open() (requests, bytes int64) { return c.requests.used.Load(), c.bytes.used.Load() }
