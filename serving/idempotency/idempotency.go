// Package idempotency remembers what was answered under a client's idempotency key, for a day: a request that comes twice
// is charged once, and answered alike.
//
// It is no cache: another key with the same body is another request. Nor does it know money or vendors; it is told when a
// request is about to be dispatched, and what became of it. DESIGN.md argues what a retry is told where the answer is lost.
package idempotency

import (
	"container/list"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
)

// KeyMax is the longest key, in visible ASCII characters.
const KeyMax = 255

// ValidKey reports whether a client's key may be one.
func ValidKey(key string) bool {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return key != "" && len(key) <= KeyMax
}

// Options of a store. The zero value works.
type Options struct {
	// AgeMax is how long a key is remembered, from its first request; 0 is 24 hours.
	AgeMax time.Duration
	// KeysMax bounds the keys that are remembered; 0 is 200,000. Beyond it, whoever has most of them loses the oldest.
	KeysMax int
	// BytesMax bounds the answers that are kept, as they stand on the disk; 0 is 256 MiB, and the folder takes about twice
	// that. Beyond it, whoever has most bytes loses the oldest answer, and its key is remembered without.
	BytesMax int64
	// AnswerMax bounds one answer, as the client gets it; 0 is 4 MiB.
	AnswerMax int
	// OpenBytesMax bounds the answers that are being written down at once; 0 is 128 MiB.
	OpenBytesMax int64
	// RunMax is the longest that a request can take. One that was not ended then never will be; 0 is 15 minutes.
	RunMax time.Duration
	// SegmentMaxBytes is the size beyond which a new file is begun; 0 is 8 MiB.
	SegmentMaxBytes int64
	// Sync makes Commit return only once the disk has the key, which outlives a power loss. Without it the operating system
	// has it, which outlives the process, and the disk soon after.
	Sync bool
	// FS is where the folder stands; nil is the machine's file system.
	FS disk.FS
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Validate reports a negative limit.
func (o Options) Validate() error {
	if o.AgeMax < 0 || o.KeysMax < 0 || o.BytesMax < 0 || o.AnswerMax < 0 || o.OpenBytesMax < 0 || o.RunMax < 0 || o.SegmentMaxBytes < 0 {
		return errors.New("idempotency: a limit is negative")
	}
	return nil
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.AgeMax, 24 * time.Hour}, {&o.RunMax, 15 * time.Minute}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *int64
		def int64
	}{{&o.BytesMax, 256 << 20}, {&o.OpenBytesMax, 128 << 20}, {&o.SegmentMaxBytes, 8 << 20}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.KeysMax == 0 {
		o.KeysMax = 200_000
	}
	if o.AnswerMax == 0 {
		o.AnswerMax = 4 << 20
	}
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Digest names a request: SHA-256 over its path and body.
type Digest [sha256.Size]byte

// DigestOf is the digest of a request.
func DigestOf(path string, body []byte) (d Digest) {
	h := sha256.New()
	h.Write([]byte(path))
	h.Write([]byte{0})
	h.Write(body)
	h.Sum(d[:0])
	return d
}

// Reason says why a request under a key that is known is not answered.
type Reason string

// The reasons. All behind Mismatch say that the request was charged, as far as is known, and its answer cannot be had.
const (
	InProgress  Reason = "in_progress"
	Mismatch    Reason = "idempotency_mismatch"
	Interrupted Reason = "answer_interrupted" // the process or the call ended before the answer did
	TooLarge    Reason = "answer_too_large"
	Dropped     Reason = "answer_dropped"   // newer ones needed the room
	Unwritten   Reason = "answer_unwritten" // the disk refused it
	Damaged     Reason = "answer_damaged"   // the disk has lost it
)

// ConflictError says that a key is known and why there is no answer.
type ConflictError struct {
	Reason Reason
	// Round is the first request's.
	Round string
}

// Error names the reason and the first round.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("idempotency: %s: round %s", e.Reason, e.Round)
}

// ErrFull says that KeysMax requests with keys are under way.
var ErrFull = errors.New("idempotency: too many requests with keys are under way")

// Answer is what a client got.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	// Lost says that the body cannot be given again, and why.
	Lost Reason
}

// state is how far a key has come.
type state uint8

const (
	running state = iota // in this process
	answered
	lost
)

// record is a key that is remembered.
type record struct {
	name   Digest
	digest Digest
	owner  *owner
	place  *list.Element // in owner.records
	round  string
	at     time.Time
	state  state
	reason Reason // why it is lost
	on     location
}

// owner is an API key with its records, the oldest first, and what their answers take on the disk.
type owner struct {
	id      string
	records list.List
	bytes   int64
}

// Store remembers keys. Its methods may be called from any goroutine.
type Store struct {
	o         Options
	dir       string
	deflaters sync.Pool
	// recording are the bytes of answers that are being written down.
	recording atomic.Int64
	results   [len(results)]atomic.Int64

	mu     sync.Mutex
	names  map[Digest]*record
	owners map[string]*owner
	bytes  int64 // of the answers that are kept

	// The files, the oldest first; DESIGN.md says what becomes of them. The last is the one that is written, and none is
	// where nothing was yet.
	segments []*segment
	next     uint64 // sequence
	size     int64  // of all files
	live     int64  // of the frames that stand for a record
	buf      []byte
	closed   bool
	// due says that an fsync is coming, and coming counts those.
	due    bool
	coming sync.WaitGroup
}

// nameOf keeps the keys of one owner apart from another's, and out of the file.
func nameOf(owner, key string) Digest { return DigestOf(owner, []byte(key)) }

// Begin takes a key for a request, or returns what was answered under it, or a *ConflictError. A claim must be ended.
func (s *Store) Begin(owner, key string, digest Digest, round string) (*Claim, *Answer, error) {
	c, a, err := s.begin(owner, key, digest, round)
	s.count(a, err)
	return c, a, err
}

func (s *Store) begin(owner, key string, digest Digest, round string) (*Claim, *Answer, error) {
	name, now := nameOf(owner, key), s.o.Now().UTC()
	s.mu.Lock()
	s.expire(s.owners[owner], now)
	r := s.names[name]
	if r == nil {
		defer s.mu.Unlock()
		if len(s.names) >= s.o.KeysMax && !s.forgetOne() {
			return nil, nil, ErrFull
		}
		r = &record{name: name, digest: digest, round: round, at: now}
		s.insert(owner, r)
		return &Claim{s: s, r: r}, nil, nil
	}
	round = r.round
	payload, reason := s.known(r, digest, now)
	s.mu.Unlock()
	if reason == "" {
		if a, err := answerIn(payload, s.o.AnswerMax); err == nil {
			return nil, a, nil
		}
		reason = Damaged
	}
	return nil, nil, &ConflictError{Reason: reason, Round: round}
}

// known is what a request under a known key is told: the answer, as it was written, or why there is none.
func (s *Store) known(r *record, digest Digest, now time.Time) ([]byte, Reason) {
	switch {
	case r.digest != digest:
		return nil, Mismatch
	case r.state == running && now.Sub(r.at) <= s.o.RunMax:
		return nil, InProgress
	case r.state == running: // its end was lost, as by a panic
		return nil, Interrupted
	case r.state == lost:
		return nil, r.reason
	}
	payload, err := r.on.read()
	if err != nil {
		return nil, Damaged
	}
	return payload, ""
}

// insert remembers a record as its owner's newest.
func (s *Store) insert(id string, r *record) {
	o := s.owners[id]
	if o == nil {
		o = &owner{id: id}
		s.owners[id] = o
	}
	r.owner, r.place = o, o.records.PushBack(r)
	s.names[r.name] = r
}

// remove forgets a record.
func (s *Store) remove(r *record) {
	s.release(r)
	delete(s.names, r.name)
	if r.owner.records.Remove(r.place); r.owner.records.Len() == 0 {
		delete(s.owners, r.owner.id)
	}
}

// release says that what stands of a record on the disk counts no longer.
func (s *Store) release(r *record) {
	if r.on.seg == nil {
		return
	}
	r.on.seg.live -= int64(r.on.n)
	s.live -= int64(r.on.n)
	if r.state == answered {
		s.bytes -= int64(r.on.n)
		r.owner.bytes -= int64(r.on.n)
	}
	r.on = location{}
}

// expire forgets what an owner's oldest records are too old for.
func (s *Store) expire(o *owner, now time.Time) {
	for o != nil && o.records.Len() > 0 {
		r := o.records.Front().Value.(*record)
		if now.Sub(r.at) < s.o.AgeMax {
			return
		}
		s.remove(r)
	}
}

// forgetOne makes room for a key: whoever has most loses the oldest that is not under way.
func (s *Store) forgetOne() bool {
	var most *owner
	for _, o := range s.owners {
		if most == nil || o.records.Len() > most.records.Len() {
			most = o
		}
	}
	if most == nil {
		return false
	}
	for e := most.records.Front(); e != nil; e = e.Next() {
		if r := e.Value.(*record); r.state != running {
			s.remove(r)
			return true
		}
	}
	return false
}

// makeRoom drops answers until n more bytes fit: whoever has most loses the oldest. The keys stay.
func (s *Store) makeRoom(n int64) error {
	for s.bytes+n > s.o.BytesMax && s.bytes > 0 {
		var most *owner
		for _, o := range s.owners {
			if most == nil || o.bytes > most.bytes {
				most = o
			}
		}
		for e := most.records.Front(); e != nil; e = e.Next() {
			r := e.Value.(*record)
			if r.state != answered {
				continue
			}
			if err := s.put(r, kindLost, entryOf(r, &Answer{Lost: Dropped}).append(nil)); err != nil {
				return err
			}
			r.reason = Dropped
			break
		}
	}
	return nil
}

// put writes a frame of a record, which is then what it stands for.
func (s *Store) put(r *record, kind frame.Kind, payload []byte) error {
	on, err := s.append(kind, payload)
	if err != nil {
		return err
	}
	s.stand(r, kind, on)
	s.clean()
	return nil
}

// stand makes a frame what stands of a record.
func (s *Store) stand(r *record, kind frame.Kind, on location) {
	s.release(r)
	r.on = on
	on.seg.live += int64(on.n)
	s.live += int64(on.n)
	switch kind {
	case kindAnswered:
		r.state = answered
		s.bytes += int64(on.n)
		r.owner.bytes += int64(on.n)
	case kindLost:
		r.state = lost
	}
}
