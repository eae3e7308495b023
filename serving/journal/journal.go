// Package journal is the log of rounds as it is written: an append-only file of checksummed frames that holds every
// decision before a vendor hears of it and every outcome after. A killed process loses nothing of it.
//
// It is not the log that people query or train on: that is sealed from it, a whole segment at a time, by package
// datasets. Nor does it know balances; it is what a ledger can be rebuilt from. DESIGN.md draws the format and argues
// the choices.
package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
)

// Sync says when an append returns.
type Sync string

// The two promises. After Write the operating system has the frame, which outlives the process; a background fsync
// follows within Options.SyncEvery. After Always the disk has it, which outlives a power loss.
const (
	Write  Sync = "write"
	Always Sync = "always"
)

// Options of a journal. The zero value works.
type Options struct {
	// Sync is Write where it is empty.
	Sync Sync
	// SyncEvery is the least time between two background fsyncs under Write; 0 is 5 ms.
	SyncEvery time.Duration
	// SegmentMaxBytes is the size beyond which a new segment is begun; 0 is 8 MiB.
	SegmentMaxBytes int64
	// RecentMax is how many rounds Recent can find; 0 is 10,000.
	RecentMax int
	// OpenMax bounds the rounds that have a decision and no outcome yet; 0 is 100,000.
	OpenMax int
	// After is asked once the folder is locked: new frames are numbered behind it. Books that cover the journal up to a
	// sequence say so here, so that they stay right where the folder was emptied; nil is 0.
	After func() (uint64, error)
	// Now is the clock that recovery dates its outcomes with; nil is time.Now.
	Now func() time.Time
	// Closed is told of every segment that was closed and can be sealed. It must not wait and not call the journal.
	Closed func()
	// FS is where the folder stands; nil is the machine's file system.
	FS disk.FS
}

// Validate reports an unknown mode or a negative limit.
func (o Options) Validate() error {
	if o.Sync != "" && o.Sync != Write && o.Sync != Always {
		return fmt.Errorf("journal: sync %q is neither write nor always", o.Sync)
	}
	if o.SyncEvery < 0 || o.SegmentMaxBytes < 0 || o.RecentMax < 0 || o.OpenMax < 0 {
		return errors.New("journal: a limit is negative")
	}
	return nil
}

// The errors a caller branches on. ErrUnavailable wraps whatever the disk said (ENOSPC among it): the frame was not
// written, nothing is torn, and a later append may succeed. ErrBusy says that OpenMax rounds are open. ErrState says
// that a decision came twice, or an outcome without an open round: each round has exactly one of both. ErrUnreadable
// is about a whole segment; damage inside one is stepped over.
var (
	ErrUnavailable = errors.New("journal: cannot write")
	ErrBusy        = errors.New("journal: too many open rounds")
	ErrState       = errors.New("journal: round is not in that state")
	ErrClosed      = errors.New("journal: closed")
	ErrTooLarge    = errors.New("journal: record is larger than a frame's payload may be")
	ErrUnreadable  = errors.New("journal: cannot read a segment")
)

// Journal appends frames to the segments of one folder. Its methods may be called from any goroutine.
//
// Two locks, taken in the order io, mu. The first into a batch leads it: it waits for io while others join, then
// writes for all. So there is no timer and no writing goroutine, and a lone append waits for nobody.
type Journal struct {
	o    Options
	dir  string
	lock io.Closer

	// io is held by the goroutine that writes; it guards the fields below it.
	io     sync.Mutex
	active *segment
	next   uint64
	buf    []byte
	places []location
	owed   []record

	mu      sync.Mutex
	pending *batch
	open    map[datasets.RoundID]*round
	recent  recent
	sealing []*segment
	closed  bool
	// writers counts the appends under way; none begins once closed is set.
	writers sync.WaitGroup

	buffers   sync.Pool
	sealer    sync.Mutex
	dirty     chan struct{}
	synced    chan struct{}
	recovered Recovery
}

// round is an open one: where its decision stands (nowhere while it is being written), whether its outcome is on its way,
// and, in recovery, where an outcome was found that lost the decision beside it.
type round struct {
	decision location
	ending   bool
	stray    location
}

// record is a frame before it has a sequence. Again marks a decision that replaces the one of an open round.
type record struct {
	kind    frame.Kind
	again   bool
	id      datasets.RoundID
	payload []byte
	sum     uint32
}

// batch is what one write carries. Most are of one record and nobody waits for them: done is made by the first who joins.
type batch struct {
	records []record
	one     [1]record
	done    chan struct{}
	err     error
}

// AppendDecision writes a decision and opens its round. When it returns nil, the decision is as safe as Options.Sync
// says; on any error no vendor may be called.
func (j *Journal) AppendDecision(ctx context.Context, d *datasets.Decision) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("journal: decision %s: %w", d.RoundID, err)
	}
	return j.encoded(record{kind: KindDecision, id: d.RoundID}, d.AppendJSON)
}

// RaiseHold writes the decision of an open round again, because its hold has grown: an attempt may have been billed, and
// before another is made the journal must know what a crash would then cost. Of several decisions of a round the last counts.
// On an error the one before does.
func (j *Journal) RaiseHold(ctx context.Context, d *datasets.Decision) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("journal: decision %s: %w", d.RoundID, err)
	}
	return j.encoded(record{kind: KindDecision, again: true, id: d.RoundID}, d.AppendJSON)
}

// AppendOutcome writes an outcome and closes its round. It takes the context for its values only: what happened is
// written whoever has left. Where the disk refuses it, the outcome is kept and written before the next frame that goes
// through, and the error is returned all the same.
func (j *Journal) AppendOutcome(_ context.Context, o *datasets.Outcome) error {
	return j.encoded(record{kind: KindOutcome, id: o.RoundID}, o.AppendJSON)
}

// AppendFeedback writes a feedback. Its round may be long sealed; the journal does not look.
func (j *Journal) AppendFeedback(ctx context.Context, f *datasets.Feedback) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("journal: feedback on %s: %w", f.RoundID, err)
	}
	return j.encoded(record{kind: KindFeedback, id: f.RoundID}, func(b []byte) ([]byte, error) {
		text, err := json.Marshal(f)
		return append(b, text...), err
	})
}

// bufferKeepMax is the largest buffer that goes back to the pool.
const bufferKeepMax = 256 << 10

// encoded does all that can be done outside the locks, and then appends.
func (j *Journal) encoded(r record, appendJSON func([]byte) ([]byte, error)) error {
	buf, ok := j.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	payload, err := appendJSON((*buf)[:0])
	defer func() {
		if cap(payload) <= bufferKeepMax {
			*buf = payload
			j.buffers.Put(buf)
		}
	}()
	if err != nil {
		return fmt.Errorf("journal: encoding %s: %w", r.id, err)
	}
	if len(payload) > frame.PayloadMax {
		return fmt.Errorf("journal: %s has %d bytes: %w", r.id, len(payload), ErrTooLarge)
	}
	r.payload, r.sum = payload, frame.Sum(payload)
	if err := j.append(r); err != nil {
		return fmt.Errorf("journal: appending %s: %w", r.id, err)
	}
	return nil
}

// append joins the batch that waits, or leads a new one.
func (j *Journal) append(r record) error {
	j.mu.Lock()
	if err := j.admit(r); err != nil {
		j.mu.Unlock()
		return err
	}
	b := j.pending
	leads := b == nil
	if leads {
		b = &batch{}
		b.records = b.one[:0]
		j.pending = b
	} else if b.done == nil {
		b.done = make(chan struct{})
	}
	b.records = append(b.records, r)
	done := b.done
	j.writers.Add(1)
	j.mu.Unlock()
	defer j.writers.Done()

	if !leads {
		<-done
		return b.err
	}
	runtime.Gosched() // whoever is about to append joins: a write costs more than to wait for it
	j.io.Lock()
	j.mu.Lock()
	j.pending = nil // nobody joins any more
	j.mu.Unlock()
	b.err = j.commit(b.records)
	j.io.Unlock()
	if b.done != nil {
		close(b.done)
	}
	return b.err
}

// admit checks a record against the state of its round and reserves the next state. It needs mu.
func (j *Journal) admit(r record) error {
	if j.closed {
		return ErrClosed
	}
	open := j.open[r.id]
	switch r.kind {
	case KindDecision:
		if r.again {
			if open == nil || open.ending {
				return ErrState
			}
			return nil
		}
		if open != nil || r.id == "" {
			return ErrState
		}
		if len(j.open) >= j.o.OpenMax {
			return ErrBusy
		}
		j.open[r.id] = &round{}
	case KindOutcome:
		if open == nil || open.ending {
			return ErrState
		}
		open.ending = true
	}
	return nil
}

// commit writes the records, those that are owed first, in one write, and makes them known. It needs io.
func (j *Journal) commit(records []record) error {
	all := records
	if len(j.owed) > 0 {
		all = append(slices.Clip(j.owed), records...)
	}
	locations, err := j.write(all)
	if err != nil {
		j.failed(records)
		return err
	}
	j.owed = nil
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, r := range all {
		j.learn(r.kind, r.id, locations[i])
	}
	return nil
}

// learn updates what is known of a round after its frame was written. It needs mu.
func (j *Journal) learn(kind frame.Kind, id datasets.RoundID, at location) {
	switch kind {
	case KindDecision:
		if open := j.open[id]; open != nil {
			open.decision = at
		} else {
			j.open[id] = &round{decision: at}
		}
		j.recent.decided(id, at)
	case KindOutcome:
		open := j.open[id]
		if open != nil && open.decision.seg != at.seg {
			open.stray = at // recovery alone sees this: rotation carries decisions along
			break
		}
		delete(j.open, id)
		j.recent.ended(id, at)
	}
	if kind != KindDecision {
		at.seg.sealable = true
	}
}

// failed takes reservations back. An outcome cannot be taken back, because it happened: it is kept until it can be
// written. No more can be owed than rounds were open.
func (j *Journal) failed(records []record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range records {
		switch r.kind {
		case KindDecision:
			if !r.again {
				delete(j.open, r.id)
			}
		case KindOutcome:
			r.payload = bytes.Clone(r.payload)
			j.owed = append(j.owed, r)
		}
	}
}

// write numbers the records and writes their frames to the active segment, or to a new one where that is full or no
// longer to be trusted. It needs io, and so does what it returns.
func (j *Journal) write(records []record) ([]location, error) {
	size := 0
	for _, r := range records {
		size += frame.HeaderSize + len(r.payload)
	}
	full := j.active.size+int64(size) > j.o.SegmentMaxBytes && j.active.size > int64(len(magic))
	if full || j.active.broken.Load() {
		if err := j.rotate(); err != nil {
			return nil, unavailable(err)
		}
	}
	j.buf = j.buf[:0]
	j.places = j.places[:0]
	for i, r := range records {
		j.places = append(j.places, location{seg: j.active, off: j.active.size + int64(len(j.buf)), n: int32(frame.HeaderSize + len(r.payload))})
		j.buf = frame.Append(j.buf, r.kind, j.next+uint64(i), r.payload, r.sum)
	}
	if err := j.active.append(j.buf, j.o.Sync == Always); err != nil {
		return nil, unavailable(err)
	}
	if cap(j.buf) > 4<<20 {
		j.buf = nil
	}
	j.next += uint64(len(records))
	if j.o.Sync == Write {
		select {
		case j.dirty <- struct{}{}:
		default: // an fsync is due anyway, and it will find these frames too
		}
	}
	return j.places, nil
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// syncLoop is the background fsync of mode Write.
func (j *Journal) syncLoop() {
	defer close(j.synced)
	for range j.dirty {
		j.io.Lock()
		seg := j.active // what was active before it was synced when it was closed
		j.io.Unlock()
		if err := seg.f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
			// After a failed fsync nobody knows which pages are on the disk. The next append leaves the segment alone.
			seg.broken.Store(true)
		}
		time.Sleep(j.o.SyncEvery)
	}
}

// Close writes what is owed, syncs and lets the folder go. Rounds that are still open get their outcome from the next
// Open. Segments that were not sealed stay for it too.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()

	j.writers.Wait()
	j.io.Lock()
	var err error
	if len(j.owed) > 0 {
		err = j.commit(nil)
	}
	j.io.Unlock()
	close(j.dirty)
	<-j.synced
	j.io.Lock()
	defer j.io.Unlock()
	err = errors.Join(err, j.active.f.Sync())
	j.mu.Lock()
	j.recent.close()
	for _, seg := range append(j.sealing, j.active) {
		_ = seg.f.Close()
	}
	j.mu.Unlock()
	if e := j.lock.Close(); e != nil {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("journal: closing: %w", err)
	}
	return nil
}
