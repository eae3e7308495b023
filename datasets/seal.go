package datasets

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"
)

// Seal writes rounds as Parquet, one part for each hour of their decisions (UTC; two where an hour exceeds
// PartRowsMax), and returns those parts. Each part is durable, read back and compared before the manifest vouches for
// it. Rounds keep their order within an hour.
//
// Sealing the same rounds again gives the same bytes, and a part that the manifest holds, or held before it was compacted
// or dropped, is returned and not added twice: a journal that cannot know whether its last seal succeeded simply seals
// again.
func (l *Log) Seal(rounds []Round) ([]Part, error) {
	return l.seal(func(name string) ([]Prepared, error) { return l.prepareRounds(name, rounds) })
}

// SealFeedback is Seal for feedback, by the hour in which it was given.
func (l *Log) SealFeedback(feedback []Feedback) ([]Part, error) {
	return l.seal(func(name string) ([]Prepared, error) { return l.prepareFeedback(name, feedback) })
}

func (l *Log) seal(prepare func(name string) ([]Prepared, error)) ([]Part, error) {
	l.mu.Lock()
	err := l.writable()
	l.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("datasets: sealing: %w", err)
	}
	parts, err := prepare(TempName())
	if err != nil {
		return nil, err
	}
	return l.Adopt(parts)
}

func (l *Log) prepareRounds(name string, rounds []Round) ([]Prepared, error) {
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
	return prepareRows(l, name, KindRounds, rows, keep, func(r *partRow) int64 { return r.At }, (*partRow).says)
}

func (l *Log) prepareFeedback(name string, feedback []Feedback) ([]Prepared, error) {
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
	return prepareRows(l, name, KindFeedback, rows, keep, func(r *feedbackRow) int64 { return r.At }, (*feedbackRow).says)
}

// saying reports whether a row is the one that was written and says what was wanted, by decoding all of it where it is
// asked to.
type saying[Row, Value any] func(got, wrote *Row, want *Value, decoded bool) bool

// prepareRows cuts rows into hours and makes a part of each. want[i] is what row i must say when it is read back.
func prepareRows[Row, Value any](l *Log, name string, kind Kind, rows []Row, want []Value, at func(*Row) int64, says saying[Row, Value]) ([]Prepared, error) {
	hour := func(i int) time.Time { return fromMicros(at(&rows[i])).Truncate(time.Hour) }
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return hour(a).Compare(hour(b)) })
	var parts []Prepared
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
		temp := fmt.Sprintf("%s-%s-%d%s", name, kind, len(parts), tempSuffix)
		part, err := preparePart(l, temp, kind, pick, expect, at, says)
		if err != nil {
			l.discard(parts)
			return nil, fmt.Errorf("datasets: sealing %s of %s: %w", kind, hour(order[start]).Format("2006-01-02 15h"), err)
		}
		parts = append(parts, part)
		start = end
	}
	return parts, nil
}

func preparePart[Row, Value any](l *Log, temp string, kind Kind, rows []Row, want []Value, at func(*Row) int64, says saying[Row, Value]) (Prepared, error) {
	first, last := at(&rows[0]), at(&rows[0])
	for i := range rows {
		first, last = min(first, at(&rows[i])), max(last, at(&rows[i]))
	}
	w, err := createPart[Row](l, temp, &l.sealing)
	if err != nil {
		return Prepared{}, err
	}
	p := Part{Kind: kind, Rows: int64(len(rows)), MinAt: fromMicros(first), MaxAt: fromMicros(last)}
	if err := w.write(rows); err != nil {
		w.file.abort()
		return Prepared{}, err
	}
	if err = w.close(&p); err == nil {
		err = readBack(l, temp, &p, rows, want, says)
	}
	if err != nil {
		return Prepared{}, errors.Join(err, l.o.FS.Remove(l.at(temp)))
	}
	return Prepared{Temp: temp, Part: p}, nil
}

// folderOf is the folder of the parts of an hour.
func folderOf(kind Kind, at time.Time) string {
	return path.Join(string(kind), at.Format("dt=2006-01-02"), at.Format("hour=15"))
}

// decodeEvery is how often a row that is read back is decoded as a reader would. What flatten forgets is missing in all
// rows.
const decodeEvery = 64

// readBack compares a new part with what went into it: the digest shows a bad disk, the values a bad encoder.
func readBack[Row, Value any](l *Log, temp string, p *Part, rows []Row, want []Value, says saying[Row, Value]) error {
	f, err := l.openTemp(temp, p)
	if err != nil {
		return fmt.Errorf("reading back: %w", err)
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
	if err != nil {
		err = fmt.Errorf("reading back: %w", err)
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
