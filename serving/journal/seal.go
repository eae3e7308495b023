package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
)

// Batch is what one closed segment hands to the sealer.
type Batch struct {
	// ID is the segment's.
	ID string
	// Through is the sequence of the last frame that could be read. Segments come in the order of their sequences.
	Through  uint64
	Rounds   []datasets.Round
	Feedback []datasets.Feedback
	// Orphans counts outcomes whose decision is lost, Damaged the bytes that could not be read.
	Orphans int
	Damaged int
}

// Rotate closes the active segment, if it holds anything to seal, and begins the next.
func (j *Journal) Rotate() error {
	j.io.Lock()
	defer j.io.Unlock()
	j.mu.Lock()
	skip, closed := !j.active.sealable, j.closed
	j.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if skip {
		return nil
	}
	if err := j.rotate(); err != nil {
		return fmt.Errorf("journal: rotating: %w", unavailable(err))
	}
	return nil
}

// Closed is a segment that nothing is written to any more.
type Closed struct {
	// ID names the segment: the same bytes come under the same ID, also after a crash between sealing and deleting.
	ID string
	// Path is its file, for ReadClosed in another process.
	Path string
	// Behind is how many more were closed and wait.
	Behind int
	seg    *segment
	fsys   disk.FS
}

// Read returns what the segment hands to the sealer. Its error is ErrUnreadable.
func (c Closed) Read() (Batch, error) {
	b, err := c.seg.batch(c.fsys)
	if err != nil {
		err = fmt.Errorf("%w: %s: %w", ErrUnreadable, c.Path, err)
	}
	return b, err
}

// ReadClosed reads a closed segment where no journal is open, such as in a process that seals for another. Of the segment that
// another process writes it reads what is written.
func ReadClosed(path string) (Batch, error) {
	first, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), suffix), 10, 64)
	if err != nil {
		return Batch{}, fmt.Errorf("%w: %s is not the name of a segment", ErrUnreadable, path)
	}
	return Closed{Path: path, seg: &segment{first: first, path: path}, fsys: disk.OS{}}.Read()
}

// Seal hands every closed segment to seal, the oldest first, and deletes it once seal has returned nil: by then the
// rounds must be on the disk elsewhere. A segment that seal refuses is kept for the next call and does not hold up the
// others, unless the error is ErrUnreadable: what is summed up over segments needs their order. One that seal found damaged is
// kept under a name that ends in ".damaged".
func (j *Journal) Seal(ctx context.Context, seal func(context.Context, Closed) (damaged bool, err error)) error {
	j.sealer.Lock()
	defer j.sealer.Unlock()
	j.mu.Lock()
	todo := append([]*segment(nil), j.sealing...)
	closed := j.closed
	j.mu.Unlock()
	if closed {
		return ErrClosed
	}
	var failed error
	for i, seg := range todo {
		if err := ctx.Err(); err != nil {
			return errors.Join(failed, fmt.Errorf("journal: sealing: %w", err))
		}
		damaged, err := seal(ctx, Closed{ID: seg.id(), Path: seg.path, Behind: len(todo) - 1 - i, seg: seg, fsys: j.o.FS})
		if err == nil {
			err = j.done(seg, damaged)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("journal: sealing %s: %w", seg.path, err))
		}
		if errors.Is(err, ErrUnreadable) {
			return failed
		}
	}
	return failed
}

// Waiting counts the closed segments that are not sealed yet.
func (j *Journal) Waiting() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.sealing)
}

// Replay hands out what the folder holds, the oldest first and the active segment last, a batch for each segment. Called
// after Open and before the first append it tells every round that has ended and was not deleted: those that a crash
// cut off have their outcome by then.
func (j *Journal) Replay(replay func(Batch) error) error {
	j.sealer.Lock()
	defer j.sealer.Unlock()
	j.io.Lock()
	defer j.io.Unlock()
	for _, seg := range append(j.sealing[:len(j.sealing):len(j.sealing)], j.active) {
		b, err := seg.batch(j.o.FS)
		if err == nil {
			err = replay(b)
		}
		if err != nil {
			return fmt.Errorf("journal: replaying %s: %w", seg.path, err)
		}
	}
	return nil
}

// Peek hands out what a folder holds, the oldest first, as Replay does, where another process may have the journal open. A folder
// that is missing holds nothing; a segment that is deleted meanwhile is fs.ErrNotExist.
func Peek(dir string, replay func(Batch) error) error {
	firsts, err := frame.List(disk.OS{}, dir, suffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("journal: %w", err)
	}
	for _, first := range firsts {
		b, err := ReadClosed(frame.Path(dir, first, suffix))
		if err == nil {
			err = replay(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// done lets a sealed segment go.
func (j *Journal) done(seg *segment, damaged bool) (err error) {
	if damaged {
		err = j.o.FS.Rename(seg.path, seg.path+".damaged")
	} else {
		err = j.o.FS.Remove(seg.path)
	}
	if err != nil {
		return err
	}
	if err := j.o.FS.SyncDir(j.dir); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, other := range j.sealing {
		if other == seg {
			j.sealing = append(j.sealing[:i:i], j.sealing[i+1:]...)
			break
		}
	}
	return nil
}

func (s *segment) id() string { return strings.TrimSuffix(filepath.Base(s.path), suffix) }

// batch reads a segment and joins its outcomes with their decisions. Decisions without an outcome here were carried
// over to a later segment.
func (s *segment) batch(fsys disk.FS) (Batch, error) {
	data, err := s.contents(fsys)
	if err != nil {
		return Batch{}, err
	}
	b := Batch{ID: s.id()}
	decisions := make(map[datasets.RoundID][]byte)
	scan := frame.NewScanner(data, magic, kinds, s.first)
	for f, ok := scan.Next(); ok; f, ok = scan.Next() {
		if err := b.add(f, decisions); err != nil {
			return Batch{}, fmt.Errorf("frame %d: %w", f.Sequence, err)
		}
		b.Through = f.Sequence
	}
	b.Damaged = scan.Damaged + scan.Torn
	return b, nil
}

func (b *Batch) add(f frame.Frame, decisions map[datasets.RoundID][]byte) error {
	switch f.Kind {
	case KindDecision:
		id, err := roundID(f.Payload)
		decisions[id] = f.Payload
		return err
	case KindOutcome:
		var r datasets.Round
		if err := r.Outcome.ParseJSON(f.Payload); err != nil {
			return err
		}
		decision, found := decisions[r.Outcome.RoundID]
		if !found {
			b.Orphans++
			return nil
		}
		delete(decisions, r.Outcome.RoundID)
		if err := r.Decision.ParseJSON(decision); err != nil {
			return err
		}
		b.Rounds = append(b.Rounds, r)
	case KindFeedback:
		var fb datasets.Feedback
		if err := json.Unmarshal(f.Payload, &fb); err != nil {
			return err
		}
		b.Feedback = append(b.Feedback, fb)
	}
	return nil
}
