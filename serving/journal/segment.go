package journal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
)

const (
	suffix = ".journal"
	// magic begins a segment.
	magic = "TWJRNL1\n"
	// kinds is how many kinds of frames there are.
	kinds = KindFeedback
)

// The kinds of frames. Each payload is the JSON of the datasets type of that name.
const (
	KindDecision frame.Kind = 1
	KindOutcome  frame.Kind = 2
	KindFeedback frame.Kind = 3
)

// segment is one file. It is open while it is written to, and for as long as recent rounds are read from it, also when its name is
// gone. However many wait to be sealed, they take disk and no descriptors.
type segment struct {
	first uint64
	path  string
	f     disk.File
	size  int64
	// broken says that the end of the file may not be what size says, or that an fsync failed.
	broken atomic.Bool
	// sealable says that it holds an outcome or a feedback; refs counts recent rounds and readers; retired that nothing is
	// written to it any more. All three belong to Journal.mu.
	sealable bool
	refs     int
	retired  bool
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
		return nil, fmt.Errorf("journal: reading %s at %d: %w", l.seg.path, l.off, err)
	}
	f, ok := frame.Parse(b)
	if !ok {
		return nil, fmt.Errorf("journal: %s is damaged at %d", l.seg.path, l.off)
	}
	return f.Payload, nil
}

// createSegment makes a new segment and puts the first bytes into it.
func (j *Journal) createSegment(first uint64, carried []byte) (*segment, error) {
	path := frame.Path(j.dir, first, suffix)
	f, err := j.o.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	seg := &segment{first: first, path: path, f: f}
	err = seg.append(append([]byte(magic), carried...), true)
	if err == nil {
		err = j.o.FS.SyncDir(j.dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), j.o.FS.Remove(path))
	}
	return seg, nil
}

// append writes b to the end, or nothing: what a failed write left is cut off again.
func (s *segment) append(b []byte, sync bool) error {
	_, err := s.f.Write(b)
	if err == nil && sync {
		if err = s.f.Sync(); err != nil {
			s.broken.Store(true)
		}
	}
	if err != nil {
		if cut := s.f.Truncate(s.size); cut != nil {
			s.broken.Store(true)
			err = errors.Join(err, cut)
		}
		return err
	}
	s.size += int64(len(b))
	return nil
}

// rotate closes the active segment and begins the next. The decisions of open rounds are carried over first, so that
// every outcome stands in the same segment as its decision: each segment can be sealed and deleted by itself. It
// needs io.
func (j *Journal) rotate() error {
	if !j.active.broken.Load() {
		if err := j.active.f.Sync(); err != nil {
			j.active.broken.Store(true)
		}
	}
	type carry struct {
		*round
		record
		to location
	}
	var carried []carry
	j.mu.Lock()
	for id, r := range j.open {
		if r.decision.seg != nil {
			carried = append(carried, carry{round: r, record: record{kind: KindDecision, id: id}, to: r.decision})
		}
	}
	j.mu.Unlock()
	slices.SortFunc(carried, func(a, b carry) int { return cmp.Compare(a.to.off, b.to.off) })

	first := j.next
	if first == j.active.first { // nothing could be written to it, and its name is taken
		first++
	}
	var buf []byte
	for i := range carried {
		payload, err := carried[i].to.read()
		if err != nil {
			return err
		}
		carried[i].to = location{off: int64(len(magic) + len(buf)), n: int32(frame.HeaderSize + len(payload))}
		buf = frame.Append(buf, KindDecision, first+uint64(i), payload, frame.Sum(payload))
	}
	seg, err := j.createSegment(first, buf)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range carried {
		c.to.seg = seg
		c.round.decision = c.to
	}
	j.sealing = append(j.sealing, j.active)
	j.active.retire()
	j.active, j.next = seg, first+uint64(len(carried))
	if j.o.Closed != nil {
		j.o.Closed()
	}
	return nil
}

// contents reads a whole segment. It is at most SegmentMaxBytes long, or as long as one batch and what was carried over.
func (s *segment) contents(fsys disk.FS) ([]byte, error) {
	b, err := disk.ReadFile(fsys, s.path)
	if err != nil {
		return nil, fmt.Errorf("journal: reading %s: %w", s.path, err)
	}
	if ofAnotherVersion(b, s.first) {
		return nil, fmt.Errorf("journal: %s was written by another version of the program (%q, not %q): start and stop that one, which seals what is in it", s.path, b[:len(magic)-1], magic[:len(magic)-1])
	}
	return b, nil
}

// ofAnotherVersion reports whether a segment has the magic of another version and no frame of this one. Taken for damage it
// would be cut off. With a frame in it the magic is what is damaged.
func ofAnotherVersion(segment []byte, first uint64) bool {
	const digit = len(magic) - 2
	if len(segment) <= len(magic) || string(segment[:digit]) != magic[:digit] || segment[digit] == magic[digit] || segment[digit+1] != magic[digit+1] {
		return false
	}
	_, ours := frame.NewScanner(segment, magic, kinds, first).Next()
	return !ours
}
