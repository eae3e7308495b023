package datasets

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// partTemp is a part on its way. There is one at a time, and what a crash leaves of it is removed by the next.
const partTemp = ".tradewind-part.tmp"

// partGroupRows is the number of rows in a row group of a sealed part; its rows are wider than a table's.
const partGroupRows = 10_000

// Seal writes rounds as Parquet, one part for each hour of their decisions (UTC; two where an hour exceeds
// PartRowsMax), and returns those parts. Each part is durable, read back and compared before the manifest vouches for
// it. Rounds keep their order within an hour.
//
// Sealing the same rounds again gives the same bytes, and a part that the manifest already holds is returned and not
// added twice: a journal that cannot know whether its last seal succeeded simply seals again.
func (l *Log) Seal(rounds []Round) ([]Part, error) {
	keep := make([]Round, len(rounds))
	rows := make([]partRow, len(rounds))
	for i := range rounds {
		var err error
		if keep[i], err = sealable(&rounds[i]); err == nil {
			rows[i], err = flatten(&keep[i])
		}
		if err != nil {
			return nil, fmt.Errorf("datasets: sealing: %w", err)
		}
	}
	return sealRows(l, KindRounds, rows, keep, func(r *partRow) int64 { return r.At }, (*partRow).round)
}

// SealFeedback is Seal for feedback, by the hour in which it was given.
func (l *Log) SealFeedback(feedback []Feedback) ([]Part, error) {
	keep := make([]Feedback, len(feedback))
	rows := make([]feedbackRow, len(feedback))
	for i := range feedback {
		var err error
		if keep[i], err = sealableFeedback(feedback[i]); err == nil {
			rows[i], err = flattenFeedback(&keep[i])
		}
		if err != nil {
			return nil, fmt.Errorf("datasets: sealing: %w", err)
		}
	}
	return sealRows(l, KindFeedback, rows, keep, func(r *feedbackRow) int64 { return r.At }, (*feedbackRow).feedback)
}

// sealRows cuts rows into hours and seals each. want[i] is what row i must say when it is read back.
func sealRows[Row, Value any](l *Log, kind Kind, rows []Row, want []Value, at func(*Row) int64, decode func(*Row) (Value, error)) ([]Part, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.o.ReadOnly {
		return nil, errors.New("datasets: sealing: the log was opened read-only")
	}
	hour := func(i int) time.Time { return fromMicros(at(&rows[i])).Truncate(time.Hour) }
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return hour(a).Compare(hour(b)) })
	var parts []Part
	for start := 0; start < len(order); {
		end := start + 1
		for end < len(order) && end-start < PartRowsMax && hour(order[end]).Equal(hour(order[start])) {
			end++
		}
		pick := make([]Row, 0, end-start)
		expect := make([]Value, 0, end-start)
		for _, i := range order[start:end] {
			pick, expect = append(pick, rows[i]), append(expect, want[i])
		}
		part, err := sealPart(l, kind, pick, expect, at, decode)
		if err != nil {
			return parts, fmt.Errorf("datasets: sealing %s of %s: %w", kind, hour(order[start]).Format("2006-01-02 15h"), err)
		}
		parts = append(parts, part)
		start = end
	}
	return parts, nil
}

func sealPart[Row, Value any](l *Log, kind Kind, rows []Row, want []Value, at func(*Row) int64, decode func(*Row) (Value, error)) (Part, error) {
	first, last := at(&rows[0]), at(&rows[0])
	for i := range rows {
		first, last = min(first, at(&rows[i])), max(last, at(&rows[i]))
	}
	minAt := fromMicros(first)
	folder := path.Join(string(kind), minAt.Format("dt=2006-01-02"), minAt.Format("hour=15"))
	if err := disk.MakeFolder(l.o.FS, l.dir, filepath.Join(l.dir, filepath.FromSlash(folder))); err != nil {
		return Part{}, err
	}
	file, err := createAtomic(l.o.FS, filepath.Join(l.dir, partTemp), "", 0o600)
	if err != nil {
		return Part{}, err
	}
	w := parquet.NewGenericWriter[Row](file, parquet.Compression(&zstd.Codec{}), parquet.MaxRowsPerRowGroup(partGroupRows))
	_, err = w.Write(rows)
	if err = errors.Join(err, w.Close()); err != nil {
		file.abort()
		return Part{}, err
	}
	// The name sorts by time and holds part of the digest: equal rows get an equal name, others never the same.
	name := fmt.Sprintf("%s-%.16s.parquet", minAt.Format("0405.000000"), file.sum())
	p := Part{Kind: kind, Path: path.Join(folder, name), SHA256: file.sum(), Bytes: file.n, Rows: int64(len(rows)), MinAt: minAt, MaxAt: fromMicros(last)}
	if k := slices.IndexFunc(l.m.parts, func(q Part) bool { return q.Path == p.Path && q.SHA256 == p.SHA256 }); k >= 0 {
		file.abort()
		return l.m.parts[k], nil
	}
	file.path = l.file(&p)
	if err := file.commit(); err != nil {
		return Part{}, err
	}
	if err := readBack(l, &p, want, decode); err != nil {
		return Part{}, fmt.Errorf("reading back %s: %w", p.Path, err)
	}
	if err := l.m.append(l.o.FS, filepath.Join(l.dir, manifestName), p); err != nil {
		return Part{}, fmt.Errorf("adding %s to the manifest: %w", p.Path, err)
	}
	return l.m.parts[len(l.m.parts)-1], nil
}

// readBack compares a new part with what went into it: the digest shows a bad disk, the values a bad encoder.
func readBack[Row, Value any](l *Log, p *Part, want []Value, decode func(*Row) (Value, error)) error {
	f, err := l.open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	n := 0
	err = readRows(f, p.Bytes, decode, func(batch []Value) error {
		for i := range batch {
			if n == len(want) || !reflect.DeepEqual(batch[i], want[n]) {
				return fmt.Errorf("row %d differs from what was written", n+1)
			}
			n++
		}
		return nil
	})
	if err == nil && n != len(want) {
		err = fmt.Errorf("%d rows of %d", n, len(want))
	}
	return err
}

// lastFeedback keeps the last value of each source.
func lastFeedback(all []Feedback) []Feedback {
	slices.SortStableFunc(all, func(a, b Feedback) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), a.At.Compare(b.At))
	})
	kept := all[:0]
	for i, f := range all {
		if i+1 == len(all) || all[i+1].Source != f.Source {
			kept = append(kept, f)
		}
	}
	return kept
}

// readRows decodes a part's rows and passes them on in batches. fn runs outside the guard. It never asks for more rows
// than a row group has left: at the end of one parquet-go spends 30 MB to say so.
func readRows[Row, Value any](r io.ReaderAt, size int64, decode func(*Row) (Value, error), fn func([]Value) error) error {
	file, err := openParquet(r, size)
	if err != nil {
		return err
	}
	total := 0
	for _, group := range file.RowGroups() {
		var in *parquet.GenericReader[Row]
		if err := guard(func() error { in = parquet.NewGenericRowGroupReader[Row](group); return nil }); err != nil {
			return err
		}
		for left := group.NumRows(); left > 0; {
			var batch []Value
			err := guard(func() error {
				rows := make([]Row, min(left, batchRows))
				n, err := in.Read(rows)
				if n == 0 {
					return noEOF(cmp.Or(err, io.ErrNoProgress))
				}
				for i := range rows[:n] {
					v, err := decode(&rows[i])
					if err != nil {
						return fmt.Errorf("row %d: %w", total+i+1, err)
					}
					batch = append(batch, v)
				}
				return nil
			})
			if err != nil {
				return err
			}
			total += len(batch)
			left -= int64(len(batch))
			if err := fn(batch); err != nil {
				return err
			}
		}
	}
	return nil
}
