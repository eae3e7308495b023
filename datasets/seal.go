package datasets

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// partTemp is a part on its way. There is one at a time, and what a crash leaves of it is removed by the next.
const partTemp = ".tradewind-part.tmp"

// Seal writes rounds as Parquet, one part for each hour of their decisions (UTC; two where an hour exceeds
// PartRowsMax), and returns those parts. Each part is durable, read back and compared before the manifest vouches for
// it. Rounds keep their order within an hour.
//
// Sealing the same rounds again gives the same bytes, and a part that the manifest holds, or held before it was compacted
// or dropped, is returned and not added twice: a journal that cannot know whether its last seal succeeded simply seals
// again.
func (l *Log) Seal(rounds []Round) ([]Part, error) {
	keep := make([]Round, len(rounds))
	rows := make([]partRow, len(rounds))
	var scratch []byte
	for i := range rounds {
		var err error
		if keep[i], err = sealable(&rounds[i]); err == nil {
			rows[i], err = flatten(&keep[i], &scratch)
		}
		if err != nil {
			return nil, fmt.Errorf("datasets: sealing: %w", err)
		}
	}
	return sealRows(l, KindRounds, rows, keep, func(r *partRow) int64 { return r.At }, (*partRow).says)
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
	return sealRows(l, KindFeedback, rows, keep, func(r *feedbackRow) int64 { return r.At }, (*feedbackRow).says)
}

// saying reports whether a row is the one that was written and says what was wanted, by decoding all of it where it is
// asked to.
type saying[Row, Value any] func(got, wrote *Row, want *Value, decoded bool) bool

// sealRows cuts rows into hours and seals each. want[i] is what row i must say when it is read back.
func sealRows[Row, Value any](l *Log, kind Kind, rows []Row, want []Value, at func(*Row) int64, says saying[Row, Value]) ([]Part, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return nil, fmt.Errorf("datasets: sealing: %w", err)
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
		part, err := sealPart(l, kind, pick, expect, at, says)
		if err != nil {
			return parts, fmt.Errorf("datasets: sealing %s of %s: %w", kind, hour(order[start]).Format("2006-01-02 15h"), err)
		}
		parts = append(parts, part)
		start = end
	}
	return parts, nil
}

func sealPart[Row, Value any](l *Log, kind Kind, rows []Row, want []Value, at func(*Row) int64, says saying[Row, Value]) (Part, error) {
	first, last := at(&rows[0]), at(&rows[0])
	for i := range rows {
		first, last = min(first, at(&rows[i])), max(last, at(&rows[i]))
	}
	minAt := fromMicros(first)
	if err := disk.MakeFolder(l.o.FS, l.dir, filepath.Join(l.dir, filepath.FromSlash(folderOf(kind, minAt)))); err != nil {
		return Part{}, err
	}
	w, err := createPart[Row](l, partTemp, &l.sealing)
	if err != nil {
		return Part{}, err
	}
	p := Part{Kind: kind, Rows: int64(len(rows)), MinAt: minAt, MaxAt: fromMicros(last)}
	if err = w.write(rows); err == nil {
		err = w.close(&p)
	}
	if err != nil {
		w.file.abort()
		return Part{}, err
	}
	if seq, ok := l.m.holds(&p); ok {
		w.file.abort()
		if live := l.m.live[seq]; live != nil {
			return *live, nil
		}
		p.Seq = seq
		return p, nil
	}
	w.file.path = l.file(&p)
	if err := w.file.commit(); err != nil {
		return Part{}, err
	}
	if err := readBack(l, &p, rows, want, says); err != nil {
		return Part{}, fmt.Errorf("reading back %s: %w", p.Path, err)
	}
	if p, err = l.m.append(l.o.FS, filepath.Join(l.dir, manifestName), p); err != nil {
		return Part{}, fmt.Errorf("adding %s to the manifest: %w", p.Path, err)
	}
	return p, nil
}

// folderOf is the folder of the parts of an hour.
func folderOf(kind Kind, at time.Time) string {
	return path.Join(string(kind), at.Format("dt=2006-01-02"), at.Format("hour=15"))
}

// decodeEvery is how often a row that is read back is decoded as a reader would. What flatten forgets is missing in all
// rows.
const decodeEvery = 64

// readBack compares a new part with what went into it: the digest shows a bad disk, the values a bad encoder.
func readBack[Row, Value any](l *Log, p *Part, rows []Row, want []Value, says saying[Row, Value]) error {
	f, err := l.open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	n := 0
	err = eachBatch(f, p.Bytes, func(*rowReader[Row]) error { return nil }, func(batch []Row) error {
		for i := range batch {
			if n == len(want) || !says(&batch[i], &rows[n], &want[n], n%decodeEvery == 0) {
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
