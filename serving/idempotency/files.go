package idempotency

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
)

const (
	magic  = "TWIDEM1\n"
	suffix = ".answers"
	// syncAfter is how soon what was written is on the disk where nobody waits for it.
	syncAfter = 5 * time.Millisecond
	// sweepEvery is how often what has expired is looked for, and segmentAgeMax how old a file may be before the next one is
	// begun, so that it can go.
	sweepEvery    = time.Minute
	segmentAgeMax = time.Hour
)

// ErrClosed says that the store was closed.
var ErrClosed = errors.New("idempotency: closed")

// segment is one file. Its fields belong to Store.mu but what says otherwise.
type segment struct {
	first uint64
	path  string
	f     disk.File
	size  int64
	live  int64 // of the frames that stand for a record
	begun time.Time
	// broken says that its end may not be what size says, or that an fsync failed.
	broken atomic.Bool

	syncing sync.Mutex
	synced  int64 // needs syncing
}

// location is where a frame stands.
type location struct {
	seg *segment
	off int64
	n   int32
}

// read returns the payload of the frame.
func (l location) read() ([]byte, error) {
	b := make([]byte, l.n)
	if _, err := l.seg.f.ReadAt(b, l.off); err != nil {
		return nil, err
	}
	f, ok := frame.Parse(b)
	if !ok {
		return nil, errNotWhole
	}
	return f.Payload, nil
}

// active is the file that is written; nil where there is none.
func (s *Store) active() *segment {
	if len(s.segments) == 0 {
		return nil
	}
	return s.segments[len(s.segments)-1]
}

// append writes a frame. It needs mu.
func (s *Store) append(kind frame.Kind, payload []byte) (location, error) {
	if s.closed {
		return location{}, ErrClosed
	}
	if len(payload) > frame.PayloadMax {
		return location{}, fmt.Errorf("idempotency: a record has %d bytes", len(payload))
	}
	if a := s.active(); a == nil || a.broken.Load() || a.size >= s.o.SegmentMaxBytes {
		if err := s.rotate(); err != nil {
			return location{}, err
		}
	}
	a := s.active()
	s.buf = frame.Append(s.buf[:0], kind, s.next, payload, frame.Sum(payload))
	on := location{seg: a, off: a.size, n: int32(len(s.buf))}
	if err := a.append(s.buf); err != nil {
		return location{}, err
	}
	s.size += int64(len(s.buf))
	s.next++
	if cap(s.buf) > 1<<20 {
		s.buf = nil
	}
	s.syncSoon()
	return on, nil
}

// append writes b to the end, or nothing: what a failed write left is cut off again.
func (g *segment) append(b []byte) error {
	if _, err := g.f.Write(b); err != nil {
		if cut := g.f.Truncate(g.size); cut != nil {
			g.broken.Store(true)
			err = errors.Join(err, cut)
		}
		return err
	}
	g.size += int64(len(b))
	return nil
}

// rotate begins a new file. It needs mu.
func (s *Store) rotate() error {
	if a := s.active(); a != nil {
		_ = s.written().sync() // what fails has marked it as broken
		if a.size == int64(len(magic)) {
			s.next++ // nothing could be written to it, and its name is taken
		}
	}
	path := frame.Path(s.dir, s.next, suffix)
	f, err := s.o.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	g := &segment{first: s.next, path: path, f: f, begun: s.o.Now()}
	err = g.append([]byte(magic))
	if err == nil {
		err = s.o.FS.SyncDir(s.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), s.o.FS.Remove(path))
	}
	s.segments, s.size = append(s.segments, g), s.size+g.size
	return nil
}

// point is an end of what was written.
type point struct {
	seg  *segment
	size int64
}

// written is the end of what is written now. It needs mu.
func (s *Store) written() point {
	a := s.active()
	if a == nil {
		return point{}
	}
	return point{a, a.size}
}

// sync returns once the disk has all up to the point. Those who come while one waits share the next fsync.
func (p point) sync() error {
	g := p.seg
	if g == nil {
		return nil
	}
	g.syncing.Lock()
	defer g.syncing.Unlock()
	if g.synced >= p.size {
		return nil
	}
	info, err := g.f.Stat() // what others have written by now is synced too
	if err == nil {
		err = g.f.Sync()
	}
	if err != nil {
		g.broken.Store(true) // nobody knows which pages are on the disk
		return err
	}
	g.synced = info.Size()
	return nil
}

// syncSoon sees to it that what was written comes to the disk, whether anybody waits or not. It needs mu.
func (s *Store) syncSoon() {
	if s.due {
		return
	}
	s.due = true
	s.coming.Add(1)
	time.AfterFunc(syncAfter, func() {
		defer s.coming.Done()
		s.mu.Lock()
		s.due = false
		p := s.written()
		s.mu.Unlock()
		_ = p.sync() // what fails has marked the file as broken, and the next frame begins another
	})
}

// clean lets the oldest file go where nothing in it stands for a record, or where the files are much larger than what does:
// what still stands is copied to the end first. Only ever the oldest: a frame that takes an older one back must not go
// before it. It needs mu. What fails is tried again with the next frame.
func (s *Store) clean() {
	if len(s.segments) < 2 {
		return
	}
	oldest := s.segments[0]
	if oldest.live > 0 && s.size <= 2*s.live+2*s.o.SegmentMaxBytes {
		return
	}
	if oldest.live > 0 {
		if s.rescue(oldest) != nil || s.written().sync() != nil {
			return
		}
	}
	if s.o.FS.Remove(oldest.path) != nil {
		return
	}
	_ = oldest.f.Close() // it was only read
	s.segments, s.size = s.segments[1:], s.size-oldest.size
}

// rescue copies what still stands in a file to the end.
func (s *Store) rescue(g *segment) error {
	data, err := io.ReadAll(io.NewSectionReader(g.f, 0, g.size))
	if err != nil {
		data = nil
	}
	scan := frame.NewScanner(data, magic, kinds, g.first)
	for f, ok := scan.Next(); ok; f, ok = scan.Next() {
		e, err := parse(f.Payload)
		if err != nil {
			continue
		}
		r := s.names[e.Name]
		if r == nil || r.on.seg != g || r.on.off != int64(f.Offset) {
			continue
		}
		on, err := s.append(f.Kind, f.Payload)
		if err != nil {
			return err
		}
		s.stand(r, f.Kind, on)
	}
	if g.live == 0 {
		return nil
	}
	for _, r := range s.names { // the disk has lost these, and we have not
		if r.on.seg != g {
			continue
		}
		kind, answer := kindBegun, (*Answer)(nil)
		switch r.state {
		case answered:
			kind, answer, r.reason = kindLost, &Answer{Lost: Damaged}, Damaged
		case lost:
			kind, answer = kindLost, &Answer{Lost: r.reason}
		}
		on, err := s.append(kind, entryOf(r, answer).append(nil))
		if err != nil {
			return err
		}
		s.stand(r, kind, on)
	}
	return nil
}

// Run forgets what has expired until the context ends.
func (s *Store) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.sweep()
		}
	}
}

// sweep forgets what has expired.
func (s *Store) sweep() {
	now := s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owners {
		s.expire(o, now)
	}
	if a := s.active(); a != nil && a.size > int64(len(magic)) && now.Sub(a.begun) > segmentAgeMax {
		_ = s.rotate() // the next frame tries again
	}
	for n := len(s.segments); n > 0; n-- {
		s.clean()
	}
}

// Close syncs the files and lets them go. Requests that are under way are not remembered any further.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	p := s.written()
	s.mu.Unlock()
	err := p.sync()
	s.coming.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		err = errors.Join(err, g.f.Close())
	}
	if err != nil {
		return fmt.Errorf("idempotency: closing: %w", err)
	}
	return nil
}
