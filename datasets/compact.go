package datasets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"time"
)

const (
	// closedAfter is how long after its end an hour is taken for closed: late rounds have been sealed by then, or cost one
	// more merge.
	closedAfter = 30 * time.Minute
	// RetentionDaysMax is the longest time that can be asked for, a century.
	RetentionDaysMax = 36_525
)

// CompactOptions say what one pass of Compact does. The zero value merges the parts of closed hours and drops nothing.
type CompactOptions struct {
	// Now decides which hours are closed and which parts are too old; zero is the time of the call.
	Now time.Time
	// RetentionDays drops every part whose newest row is older than that; 0 keeps all.
	RetentionDays int
	// Gentle rests for as long as the merging works, so that it takes half of one core.
	Gentle bool
	// Merge does a MergeJob, as the job's own Do does, in another process; nil is in this one. Where it fails the job is done
	// here: that finds the reason, or gets by without it.
	Merge func(context.Context, MergeJob) (Prepared, error)
	// Progress is told how many rows of all that are to be merged have been; nil is nobody.
	Progress func(done, total int64)
}

// Validate reports a retention that makes no sense.
func (o *CompactOptions) Validate() error {
	if o.RetentionDays < 0 || o.RetentionDays > RetentionDaysMax {
		return fmt.Errorf("datasets: RetentionDays is %d, want 0 to %d", o.RetentionDays, RetentionDaysMax)
	}
	return nil
}

// Compaction is what a pass of Compact did.
type Compaction struct {
	// Parts is the number of live parts at its end.
	Parts int `json:"parts"`
	// Merged parts went into Into others.
	Merged     int   `json:"merged"`
	MergedRows int64 `json:"merged_rows"`
	Into       int   `json:"into"`
	// Dropped parts were too old.
	Dropped     int   `json:"dropped"`
	DroppedRows int64 `json:"dropped_rows"`
	// Removed counts the files of parts that the pass before had superseded.
	Removed int `json:"removed"`
}

// Compact makes one pass over the log. First it removes the files that the pass before superseded; then it drops the
// parts that are too old; then it merges the parts of each closed hour into as few as PartRowsMax allows without cutting
// one in two, hour by hour. Rows keep their order and their values, and every merged part is read back and compared with
// its sources before the manifest vouches for it.
//
// Sealing and reading go on meanwhile. A reader that opened the log before has until the next pass to finish; after that
// a part that it finds gone is ErrStale. What cannot be merged, because a part is damaged, is left as it is and named in the
// error, and the other hours are merged.
func (l *Log) Compact(ctx context.Context, o CompactOptions) (c Compaction, err error) {
	if err := o.Validate(); err != nil {
		return c, err
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	l.compacting.Lock()
	defer l.compacting.Unlock()
	l.mu.Lock()
	err = l.writable()
	l.mu.Unlock()
	if err == nil {
		c.Removed, err = l.settle()
	}
	if err == nil && o.RetentionDays > 0 {
		err = l.drop(o.Now.AddDate(0, 0, -o.RetentionDays), &c)
	}
	if err == nil {
		err = l.merge(ctx, &o, &c)
	}
	c.Parts = len(l.Parts())
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("datasets: compacting: %w", err)
	}
	return c, err
}

// drop supersedes the parts that end before a time by nothing.
func (l *Log) drop(before time.Time, c *Compaction) error {
	for _, kind := range []Kind{KindRounds, KindFeedback} {
		var old []Part
		for _, p := range l.Parts() {
			if p.Kind == kind && p.MaxAt.Before(before) {
				old = append(old, p)
			}
		}
		slices.SortFunc(old, func(a, b Part) int { return int(a.Seq - b.Seq) })
		for parts := range slices.Chunk(old, ReplacesMax) {
			if err := l.supersede(Part{Kind: kind}, parts); err != nil {
				return err
			}
			for i := range parts {
				c.Dropped++
				c.DroppedRows += parts[i].Rows
			}
		}
	}
	return nil
}

// supersede vouches for p instead of parts, and brings the files under their new names. The merged part comes first: a
// folder that is listed in between names files that are about to go, and whoever opens them is told so, where the other
// order would let him count too little and not know it.
func (l *Log) supersede(p Part, parts []Part) error {
	for i := range parts {
		p.Replaces = append(p.Replaces, parts[i].Seq)
	}
	l.mu.Lock()
	_, err := l.m.append(l.o.FS, filepath.Join(l.dir, manifestName), p)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	touched := map[string]bool{}
	if p.Path != "" {
		touched[path.Dir(p.Path)] = true
		err = l.o.FS.Rename(l.file(&p)+arriving, l.file(&p))
	}
	for i := range parts {
		touched[path.Dir(parts[i].Path)] = true
		if err == nil {
			err = l.o.FS.Rename(l.file(&parts[i]), l.file(&parts[i])+leaving)
		}
	}
	return errors.Join(err, l.tidy(touched))
}

// merge merges run after run until there is none, or none that can be.
func (l *Log) merge(ctx context.Context, o *CompactOptions, c *Compaction) error {
	p := pace{o: o, worked: time.Now()}
	failed := map[int64]bool{}
	var errs []error
	for {
		runs := runsOf(l.Parts(), o.Now.Add(-closedAfter), failed)
		if len(runs) == 0 {
			return errors.Join(errs...)
		}
		for _, run := range runs {
			for i := range run {
				p.total += run[i].Rows
			}
		}
		for _, run := range runs {
			if err := l.mergeRun(ctx, run, &p); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				failed[run[0].Seq] = true
				errs = append(errs, err)
				continue
			}
			c.Into++
			for i := range run {
				c.Merged++
				c.MergedRows += run[i].Rows
			}
		}
	}
}

// runsOf cuts the parts of each closed hour into runs that fit one part, and leaves out what needs no merging. A run that
// begins with a part in failed is not tried again.
func runsOf(parts []Part, closed time.Time, failed map[int64]bool) (runs [][]Part) {
	for len(parts) > 0 {
		n, rows := 1, parts[0].Rows
		for n < len(parts) && n < ReplacesMax && parts[n].hour() == parts[0].hour() && rows+parts[n].Rows <= PartRowsMax {
			rows += parts[n].Rows
			n++
		}
		if end := parts[0].MinAt.Truncate(time.Hour).Add(time.Hour); n > 1 && !end.After(closed) && !failed[parts[0].Seq] {
			runs = append(runs, parts[:n:n])
		}
		parts = parts[n:]
	}
	return runs
}

func (l *Log) mergeRun(ctx context.Context, run []Part, p *pace) error {
	merged, err := l.prepareMerge(ctx, MergeJob{Log: l.dir, Name: TempName(), Run: run, Gentle: p.o.Gentle}, p)
	if err == nil {
		err = l.arrive(merged)
	}
	if err == nil {
		err = l.supersede(merged.Part, run)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path.Dir(run[0].Path), err)
	}
	return nil
}

func (l *Log) prepareMerge(ctx context.Context, j MergeJob, p *pace) (Prepared, error) {
	if p.o.Merge != nil {
		merged, err := p.o.Merge(ctx, j)
		if err == nil || ctx.Err() != nil {
			p.tell(merged.Part.Rows)
			return merged, err
		}
		l.Discard(j.Name)
	}
	if j.Run[0].Kind == KindFeedback {
		return mergeRows[feedbackRow](ctx, l, j, p)
	}
	return mergeRows[partRow](ctx, l, j, p)
}

// mergeRows writes the rows of a run into one file, which is durable and compared with its sources.
func mergeRows[Row any](ctx context.Context, l *Log, j MergeJob, p *pace) (Prepared, error) {
	run, temp := j.Run, j.Name+tempSuffix
	w, err := createPart[Row](l, temp, &l.merging)
	if err != nil {
		return Prepared{}, err
	}
	merged := Part{Kind: run[0].Kind, MinAt: run[0].MinAt, MaxAt: run[0].MaxAt}
	for i := range run {
		merged.Rows += run[i].Rows
		merged.MinAt, merged.MaxAt = earlier(merged.MinAt, run[i].MinAt), later(merged.MaxAt, run[i].MaxAt)
	}
	err = sourceRows(l, run, func(rows []Row) error {
		if err := w.write(rows); err != nil {
			return err
		}
		return p.rest(ctx, int64(len(rows)))
	})
	if err != nil {
		w.file.abort()
		return Prepared{}, err
	}
	if err = w.close(&merged); err == nil {
		err = compareRows[Row](ctx, l, temp, &merged, run, p)
	}
	if err != nil {
		return Prepared{}, errors.Join(err, l.o.FS.Remove(l.at(temp)))
	}
	return Prepared{Temp: temp, Part: merged}, nil
}

// sourceRows passes on the rows of parts, batch by batch, each part after its digest was found to be right.
func sourceRows[Row any](l *Log, parts []Part, fn func([]Row) error) error {
	for i := range parts {
		var stop error
		f, err := l.open(&parts[i])
		if err == nil {
			err = eachBatch(f, parts[i].Bytes, func(r *rowReader[Row]) error { return r.ours() }, func(rows []Row) error {
				stop = fn(rows)
				return stop
			})
			f.Close()
		}
		if err != nil && stop == nil {
			err = &VerifyError{Path: parts[i].Path, Line: parts[i].Seq, Err: err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compareRows reads a merged part back, beside the parts that went into it.
func compareRows[Row any](ctx context.Context, l *Log, temp string, merged *Part, run []Part, p *pace) error {
	f, err := l.openTemp(temp, merged)
	if err != nil {
		return fmt.Errorf("reading back %s: %w", merged.Path, err)
	}
	defer f.Close()
	got, err := openRows[Row](f, merged.Bytes)
	if err != nil {
		return fmt.Errorf("reading back %s: %w", merged.Path, err)
	}
	defer got.close()
	n := int64(0)
	err = sourceRows(l, run, func(want []Row) error {
		for len(want) > 0 {
			rows, err := got.next(len(want))
			if err != nil {
				return fmt.Errorf("reading back %s: after row %d: %w", merged.Path, n, noEOF(err))
			}
			for i := range rows {
				if n++; !reflect.DeepEqual(rows[i], want[i]) {
					return fmt.Errorf("reading back %s: row %d differs from its source", merged.Path, n)
				}
			}
			want = want[len(rows):]
		}
		return p.rest(ctx, 0)
	})
	if err == nil && n != merged.Rows {
		err = fmt.Errorf("reading back %s: %d rows of %d", merged.Path, n, merged.Rows)
	}
	if _, end := got.next(1); err == nil && !errors.Is(end, io.EOF) {
		err = fmt.Errorf("reading back %s: it holds more rows than its sources", merged.Path)
	}
	return err
}

// pace reports progress and rests.
type pace struct {
	o           *CompactOptions
	done, total int64
	worked      time.Time
}

func (p *pace) tell(rows int64) {
	p.done += rows
	if p.o.Progress != nil && rows > 0 {
		p.o.Progress(p.done, p.total)
	}
}

func (p *pace) rest(ctx context.Context, rows int64) error {
	p.tell(rows)
	if !p.o.Gentle {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Since(p.worked)):
	}
	p.worked = time.Now()
	return ctx.Err()
}
