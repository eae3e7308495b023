package datasets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/tradewind-llm/tradewind/datasets/columnar"
	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// FeedbackMax is the number of feedback rows that LastFeedback holds in memory.
const FeedbackMax = 20_000_000

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

// Log is a folder of sealed parts and the manifest that vouches for them. One process seals; any number read. Its
// methods may be called from several goroutines.
//
//	rounds/dt=2026-01-02/hour=15/0407.123456-0123456789abcdef.parquet
//	feedback/dt=…/hour=…/….parquet
//	manifest.jsonl
type Log struct {
	dir string
	o   LogOptions
	mu  sync.Mutex
	m   manifest
}

// isLog reports whether a folder holds a manifest.
func isLog(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, manifestName))
	return err == nil && info.Mode().IsRegular()
}

// OpenLog opens the log in dir. A last line of the manifest that a crash cut off is dropped (its part becomes an
// orphan, see Orphans); a manifest that was altered is a *VerifyError.
func OpenLog(dir string, o LogOptions) (*Log, error) {
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	l := &Log{dir: filepath.Clean(dir), o: o}
	name := filepath.Join(l.dir, manifestName)
	if !o.ReadOnly {
		if err := l.create(name); err != nil {
			return nil, fmt.Errorf("datasets: opening log %s: %w", dir, err)
		}
	}
	f, err := o.FS.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("datasets: opening log %s: %w", dir, err)
	}
	defer f.Close()
	if l.m, err = readManifest(f); err != nil {
		return nil, fmt.Errorf("datasets: opening log %s: %w", dir, err)
	}
	if l.m.torn > 0 && !o.ReadOnly {
		if err := l.truncate(name, l.m.size); err != nil {
			return nil, fmt.Errorf("datasets: cutting the torn last line of %s: %w", name, err)
		}
	}
	return l, nil
}

func (l *Log) create(name string) error {
	if err := disk.MakeFolder(l.o.FS, "/", l.dir); err != nil {
		return err
	}
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

// Parts lists the parts in the order of their sealing.
func (l *Log) Parts() []Part {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.m.parts)
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

// Orphans lists the Parquet files in the log's folders that no line of the manifest vouches for: a crash between the
// rename and the line leaves one, and its rows are sealed again. No method reads them.
func (l *Log) Orphans() ([]string, error) {
	known := map[string]bool{}
	for _, p := range l.Parts() {
		known[p.Path] = true
	}
	var orphans []string
	for _, kind := range []Kind{KindRounds, KindFeedback} {
		err := l.walk(string(kind), func(name string) {
			if strings.HasSuffix(name, parquetFile) && !known[name] {
				orphans = append(orphans, name)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("datasets: listing log %s: %w", l.dir, err)
		}
	}
	return orphans, nil
}

// walk visits the files below a folder of the log, in order. Names are as in the manifest.
func (l *Log) walk(folder string, visit func(name string)) error {
	entries, err := l.o.FS.ReadDir(filepath.Join(l.dir, filepath.FromSlash(folder)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if name := path.Join(folder, e.Name()); !e.IsDir() {
			visit(name)
		} else if err := l.walk(name, visit); err != nil {
			return err
		}
	}
	return err
}

func (l *Log) file(p *Part) string { return filepath.Join(l.dir, filepath.FromSlash(p.Path)) }

// open returns the part's file after its length and SHA-256 have been found to be those of the manifest.
func (l *Log) open(p *Part) (disk.File, error) {
	f, err := l.o.FS.OpenFile(l.file(p), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	sum, size, err := hashFile(context.Background(), f)
	if err == nil && (size != p.Bytes || sum != p.SHA256) {
		err = fmt.Errorf("it was altered: %d bytes with SHA-256 %s, sealed were %d with %s", size, sum, p.Bytes, p.SHA256)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

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

// Rounds passes every sealed round to fn, batch by batch in the order of sealing. The batch is fn's to keep.
func (l *Log) Rounds(ctx context.Context, fn func(batch []Round) error) error {
	return l.each(ctx, KindRounds, func(p *Part, f disk.File) error {
		return partRows(ctx, p, f, (*partRow).round, fn)
	})
}

// Feedback passes every sealed feedback to fn, batch by batch in the order of sealing.
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

// Verify reads the log through: every part's bytes against the manifest, and the manifest's rows and times against the
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
		if err != nil && ctx.Err() == nil {
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
