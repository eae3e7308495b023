package datasets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/tradewind-llm/tradewind/datasets/columnar"
	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// Find looks for the sealed round of an id that was decided from one instant to before another. Of the parts of that time it
// reads one column, and of those rows that may be the round all; so the narrower the time, the less it reads. The second
// result is false where there is none.
func (l *Log) Find(ctx context.Context, id RoundID, from, to time.Time) (found Round, ok bool, err error) {
	for _, p := range l.Parts() {
		if p.Kind != KindRounds || p.MaxAt.Before(from) || !p.MinAt.Before(to) {
			continue
		}
		f, err := l.open(&p)
		if errors.Is(err, ErrStale) {
			return Round{}, false, fmt.Errorf("datasets: reading %s: %w", p.Path, err)
		}
		if err == nil {
			found, ok, err = findIn(ctx, &p, f, id, from, to)
			f.Close()
		}
		if err != nil {
			return Round{}, false, &VerifyError{Path: p.Path, Line: p.Seq, Err: err}
		}
		if ok {
			return found, true, nil
		}
	}
	return Round{}, false, nil
}

func findIn(ctx context.Context, p *Part, f disk.File, id RoundID, from, to time.Time) (found Round, ok bool, err error) {
	var rows []int64
	row := int64(0)
	err = columnar.Scan(ctx, f, p.Bytes, []string{"at"}, func(b *columnar.Batch) error {
		for _, at := range b.Columns[0].Ints {
			if at >= from.UnixMicro() && at < to.UnixMicro() {
				rows = append(rows, row)
			}
			row++
		}
		return nil
	})
	if err != nil || len(rows) == 0 {
		return found, false, err
	}
	in, err := openRows[partRow](f, p.Bytes)
	if err != nil {
		return found, false, err
	}
	defer in.close()
	for _, row := range rows {
		one, err := in.at(row)
		if err != nil {
			return found, false, err
		}
		if RoundID(one.RoundID) == id {
			found, err = one.round()
			return found, err == nil, err
		}
	}
	return found, false, nil
}

// at reads one row by its number.
func (r *rowReader[Row]) at(row int64) (one Row, err error) {
	err = guard(func() error {
		for _, group := range r.groups {
			if row >= group.NumRows() {
				row -= group.NumRows()
				continue
			}
			in := parquet.NewGenericRowGroupReader[Row](group)
			defer func() { _ = in.Close() }()
			if err := in.SeekToRow(row); err != nil {
				return err
			}
			rows := make([]Row, 1)
			n, err := in.Read(rows)
			if n == 0 {
				return noEOF(cmp.Or(err, io.ErrNoProgress))
			}
			one = rows[0]
			return nil
		}
		return io.ErrUnexpectedEOF
	})
	return one, err
}

// Latest reads back the rounds that were decided last, at most n and the newest last. It reads whole parts, the
// newest first, and those only that may hold one.
func (l *Log) Latest(ctx context.Context, n int) (rounds []Round, err error) {
	parts := l.Parts()
	slices.SortStableFunc(parts, func(a, b Part) int { return b.MaxAt.Compare(a.MaxAt) })
	for _, p := range parts {
		if p.Kind != KindRounds || len(rounds) >= n && !p.MaxAt.After(rounds[0].Decision.At) {
			continue
		}
		f, err := l.open(&p)
		if err != nil {
			return nil, fmt.Errorf("datasets: reading %s: %w", p.Path, err)
		}
		err = partRows(ctx, &p, f, (*partRow).round, func(batch []Round) error {
			rounds = append(rounds, batch...)
			if len(rounds) > 2*n+batchRows {
				rounds = newest(rounds, n)
			}
			return nil
		})
		f.Close()
		if err != nil {
			return nil, err
		}
		rounds = newest(rounds, n)
	}
	return rounds, nil
}

func newest(rounds []Round, n int) []Round {
	slices.SortStableFunc(rounds, func(a, b Round) int { return a.Decision.At.Compare(b.Decision.At) })
	return slices.Delete(rounds, 0, max(0, len(rounds)-n))
}
