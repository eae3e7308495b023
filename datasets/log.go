package datasets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/tradewind-llm/tradewind/datasets/columnar"
	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// FeedbackMax is the number of feedback rows that LastFeedback holds in memory.
const FeedbackMax = 20_000_000

// ErrStale says that a part is gone because another process compacted the log, or dropped old parts, twice since this
// log was opened. Nothing is damaged: open it again.
var ErrStale = errors.New("the log was compacted since it was opened: open it again")

// LogOptions say how a log is used. The zero value reads and seals, makes the folder where it is missing, and stops at
// the first damaged part.
type LogOptions struct {
	// ReadOnly opens a log that another process may be sealing: it sees the parts of the moment and changes nothing.
	ReadOnly bool
	// FS is where the log stands; nil is the machine's file system.
	FS disk.FS
	// Damaged is asked about each part that is not as it was sealed: nil skips the part, an error ends the reading.
	Damaged func(*VerifyError) error
}

// Validate has nothing to refuse.
func (o *LogOptions) Validate() error { return nil }

// Log is a folder of sealed parts and the manifest that vouches for them; DESIGN.md has the format. One process seals
// and compacts; any number read. Its methods may be called from several goroutines.
//
//	rounds/dt=2026-01-02/hour=15/0407.123456-0123456789abcdef.parquet
//	feedback/dt=…/hour=…/….parquet
//	manifest.jsonl
//	lock
type Log struct {
	dir string
	o   LogOptions
	// lock keeps other processes from writing; nil where the log is read-only or closed.
	lock io.Closer
	// compacting is held by the one pass of Compact, mu for a manifest's moment and while a part is sealed.
	compacting sync.Mutex
	mu         sync.Mutex
	m          manifest
	// A part that was just sealed is merged within hours, so it is compressed in haste.
	sealing, merging zstd.Codec
}

// lockName is the file that one writing process holds.
const lockName = "lock"

// IsLog reports whether a folder holds a manifest.
func IsLog(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, manifestName))
	return err == nil && info.Mode().IsRegular()
}

// OpenLog opens the log in dir. A last line of the manifest that a crash cut off is dropped (its part becomes an
// orphan, see Orphans); a manifest that was altered is a *VerifyError. Opened for writing, a log that another process
// writes is a *disk.InUseError, what a crash left of a compaction is finished, and Close must follow.
func OpenLog(dir string, o LogOptions) (*Log, error) {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	l := &Log{dir: filepath.Clean(dir), o: o, sealing: zstd.Codec{Level: zstd.SpeedFastest}}
	open := l.openForWriting
	if o.ReadOnly {
		open = l.readManifest
	}
	if err := open(); err != nil {
		return nil, fmt.Errorf("datasets: opening log %s: %w", dir, errors.Join(err, l.Close()))
	}
	return l, nil
}

// Close lets another process write the log. What was opened read-only needs none.
func (l *Log) Close() error {
	l.compacting.Lock()
	defer l.compacting.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return nil
	}
	lock := l.lock
	l.lock = nil
	return lock.Close()
}

// writable says why nothing may be written; the caller holds mu.
func (l *Log) writable() error {
	switch {
	case l.o.ReadOnly:
		return errors.New("the log was opened read-only")
	case l.lock == nil:
		return errors.New("the log is closed")
	}
	return nil
}

func (l *Log) openForWriting() (err error) {
	if err := disk.MakeFolder(l.o.FS, "/", l.dir); err != nil {
		return err
	}
	if l.lock, err = l.o.FS.Lock(filepath.Join(l.dir, lockName)); err != nil {
		return err
	}
	name := filepath.Join(l.dir, manifestName)
	if err := l.create(name); err != nil {
		return err
	}
	if err := l.readManifest(); err != nil {
		return err
	}
	if l.m.torn > 0 {
		if err := l.truncate(name, l.m.size); err != nil {
			return fmt.Errorf("cutting the torn last line of %s: %w", manifestName, err)
		}
	}
	l.sweep(tempPrefix) // what processes that were killed had not finished
	_, err = l.settle()
	return err
}

func (l *Log) readManifest() error {
	f, err := l.o.FS.OpenFile(filepath.Join(l.dir, manifestName), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	l.m, err = readManifest(f)
	return err
}

func (l *Log) create(name string) error {
	f, err := l.o.FS.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// What stands there already may come from a process that was killed before it had synced it.
	return errors.Join(f.Sync(), f.Close(), l.o.FS.SyncDir(l.dir))
}

func (l *Log) truncate(name string, size int64) error {
	f, err := l.o.FS.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// Dir is the log's folder.
func (l *Log) Dir() string { return l.dir }

// Parts lists the live parts: hour by hour, rounds before feedback, and within an hour in the order of their sealing.
// Neither compacting nor the time at which a part was sealed changes where a row stands in that order.
func (l *Log) Parts() []Part {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m.parts()
}

// Superseded is the number of parts that were compacted into others or dropped.
func (l *Log) Superseded() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.m.known) - len(l.m.live))
}

// Head is the SHA-256 of the manifest's last line, which fixes all before it. Whoever keeps it elsewhere can also
// tell that the newest lines were cut off; nothing inside the log can.
func (l *Log) Head() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m.head
}

// Torn is the length of the manifest's last line where a crash had cut it off when the log was opened.
func (l *Log) Torn() int64 { return l.m.torn }

// each calls read with every verified part of a kind, and asks Damaged about the others. A part whose reading fails
// inside although its digest is right was sealed by a newer program or a broken one.
func (l *Log) each(ctx context.Context, kind Kind, read func(p *Part, f disk.File) error) error {
	for _, p := range l.Parts() {
		if p.Kind != kind {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := l.open(&p)
		if errors.Is(err, ErrStale) {
			return fmt.Errorf("datasets: reading %s: %w", p.Path, err)
		}
		if err != nil {
			damage := &VerifyError{Path: p.Path, Line: p.Seq, Err: err}
			if l.o.Damaged == nil {
				return damage
			}
			if err := l.o.Damaged(damage); err != nil {
				return err
			}
			continue
		}
		err = read(&p, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Rounds passes every sealed round to fn, batch by batch in the order of Parts. The batch is fn's to keep.
func (l *Log) Rounds(ctx context.Context, fn func(batch []Round) error) error {
	return l.each(ctx, KindRounds, func(p *Part, f disk.File) error {
		return partRows(ctx, p, f, (*partRow).round, fn)
	})
}

// Feedback passes every sealed feedback to fn, batch by batch in the order of Parts.
func (l *Log) Feedback(ctx context.Context, fn func(batch []Feedback) error) error {
	return l.each(ctx, KindFeedback, func(p *Part, f disk.File) error {
		return partRows(ctx, p, f, (*feedbackRow).feedback, fn)
	})
}

func partRows[Row, Value any](ctx context.Context, p *Part, f disk.File, decode func(*Row) (Value, error), fn func([]Value) error) error {
	var stop error
	err := readRows(f, p.Bytes, decode, func(batch []Value) error {
		if stop = ctx.Err(); stop == nil {
			stop = fn(batch)
		}
		return stop
	})
	if err != nil && stop == nil {
		return &VerifyError{Path: p.Path, Line: p.Seq, Err: err}
	}
	return err
}

// LastFeedback reads all feedback and keeps, for each round, the last value of each source: the latest At, and of two
// at one instant the one sealed later. A round's values are in the order of their sources. Whether a row's key may see
// the round is for the caller to say, who has the round.
func (l *Log) LastFeedback(ctx context.Context) (map[RoundID][]Feedback, error) {
	byRound := map[RoundID][]Feedback{}
	n := 0
	err := l.Feedback(ctx, func(batch []Feedback) error {
		if n += len(batch); n > FeedbackMax {
			return fmt.Errorf("datasets: the log holds more than %d rows of feedback", FeedbackMax)
		}
		for _, f := range batch {
			byRound[f.RoundID] = append(byRound[f.RoundID], f)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for id, all := range byRound {
		byRound[id] = lastFeedback(all)
	}
	return byRound, nil
}

// Columns scans some columns of all rounds and nothing else of them, in bounded memory. Columns must be flat: strings,
// numbers, booleans and timestamps, not lists. The batch is good until fn returns.
func (l *Log) Columns(ctx context.Context, columns []string, fn func(*columnar.Batch) error) error {
	return l.each(ctx, KindRounds, func(p *Part, f disk.File) error {
		var stop error
		err := columnar.Scan(ctx, f, p.Bytes, columns, func(b *columnar.Batch) error {
			stop = fn(b)
			return stop
		})
		if err != nil && stop == nil {
			return &VerifyError{Path: p.Path, Line: p.Seq, Err: err}
		}
		return err
	})
}

// Verify reads the log through: every live part's bytes against the manifest, and the manifest's rows and times against the
// part. It returns a *VerifyError that names the first part that is not as it was sealed. OpenLog has checked the
// chain of the manifest itself.
func (l *Log) Verify(ctx context.Context) error {
	for _, p := range l.Parts() {
		err := ctx.Err()
		if err != nil {
			return err
		}
		f, err := l.open(&p)
		if err == nil {
			err = verifyContent(ctx, &p, f)
			f.Close()
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrStale) {
			err = &VerifyError{Path: p.Path, Line: p.Seq, Err: err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func verifyContent(ctx context.Context, p *Part, f io.ReaderAt) error {
	rows, first, last := int64(0), int64(0), int64(0)
	err := columnar.Scan(ctx, f, p.Bytes, []string{"at"}, func(b *columnar.Batch) error {
		for _, at := range b.Columns[0].Ints {
			if rows == 0 {
				first, last = at, at
			}
			first, last = min(first, at), max(last, at)
			rows++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if rows != p.Rows || !p.MinAt.Equal(fromMicros(first)) || !p.MaxAt.Equal(fromMicros(last)) {
		return fmt.Errorf("it holds %d rows from %v to %v, the manifest says %d from %v to %v",
			rows, fromMicros(first), fromMicros(last), p.Rows, p.MinAt, p.MaxAt)
	}
	return nil
}
