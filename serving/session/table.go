package session

import (
	"container/list"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
)

const (
	// Idle is how long a session lives after its last use, where nothing else is configured.
	Idle = 30 * time.Minute
	// Max is the number of sessions that are remembered, where nothing else is configured: about 30 MB.
	Max = 1 << 17
	// shards share no lock. A request takes that of its session only.
	shards = 64
)

// Options of a Table. The zero value is Idle and Max.
type Options struct {
	Idle time.Duration
	Max  int
}

// Validate reports options that cannot be honoured.
func (o Options) Validate() error {
	if o.Idle < 0 || o.Max < 0 {
		return errors.New("session: neither the life of a session nor their number may be negative")
	}
	return nil
}

// Table holds the sessions of one process. Its methods may be called from any goroutine.
type Table struct {
	idle   time.Duration
	each   int // shard's share of Max
	seed   maphash.Seed
	shards [shards]shard
}

// shard is a part of the table. Most conversations have one request, so a session that was never followed makes room
// first: however many of these come, they do not drive out one that goes on.
type shard struct {
	mu               sync.Mutex
	at               map[ID]*list.Element
	opened, followed list.List // of *entry, the last used in front
	_                [64]byte  // neighbours do not share a cache line
}

type entry struct {
	id       ID
	state    State
	followed bool
}

// NewTable makes an empty table.
func NewTable(o Options) (*Table, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	t := &Table{idle: o.Idle, each: (o.Max + shards - 1) / shards, seed: maphash.MakeSeed()}
	if o.Idle == 0 {
		t.idle = Idle
	}
	if o.Max == 0 {
		t.each = Max / shards
	}
	for i := range t.shards {
		t.shards[i].at = map[ID]*list.Element{}
	}
	return t, nil
}

func (t *Table) shard(id ID) *shard { return &t.shards[id[0]%shards] }

// Get returns where a session stands, and whether there is one that has not expired. It is no use of the session.
func (t *Table) Get(id ID, now time.Time) (State, bool) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.at[id]
	if e == nil {
		return State{}, false
	}
	state := e.Value.(*entry).state
	if now.Sub(state.Used) > t.idle {
		s.remove(e)
		return State{}, false
	}
	return state, true
}

// Open sets where a session stands from now on, whatever was known of it: a draw has fixed its arm.
func (t *Table) Open(id ID, state State) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.put(s, id, state, false)
}

// Follow notes a request that the arm of a session has answered. It changes nothing where another draw has opened the
// session meanwhile. Of a session that followed is true for, more than one request is known.
func (t *Table) Follow(id ID, state State, followed bool) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.at[id]; e != nil && e.Value.(*entry).state.Draw != state.Draw {
		return
	}
	t.put(s, id, state, followed)
}

// Close forgets a session that a draw has opened and no arm has answered.
func (t *Table) Close(id ID, draw datasets.RoundID) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.at[id]; e != nil && e.Value.(*entry).state.Draw == draw {
		s.remove(e)
	}
}

// Len is the number of sessions that are remembered, expired ones among them.
func (t *Table) Len() (n int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.at)
		s.mu.Unlock()
	}
	return n
}

func (t *Table) put(s *shard, id ID, state State, followed bool) {
	if e := s.at[id]; e != nil {
		known := e.Value.(*entry)
		if known.state = state; known.followed || !followed {
			s.list(known).MoveToFront(e)
			return
		}
		s.remove(e)
	}
	for len(s.at) >= t.each {
		oldest := s.opened.Back()
		if oldest == nil {
			oldest = s.followed.Back()
		}
		s.remove(oldest)
	}
	e := &entry{id, state, followed}
	s.at[id] = s.list(e).PushFront(e)
}

func (s *shard) list(e *entry) *list.List {
	if e.followed {
		return &s.followed
	}
	return &s.opened
}

func (s *shard) remove(e *list.Element) {
	known := e.Value.(*entry)
	s.list(known).Remove(e)
	delete(s.at, known.id)
}
