package datasets

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// ImportOptions say how a text file becomes an outcome table. The zero value takes the names as they are.
type ImportOptions struct {
	// Rename maps the file's column names to those of the outcome table.
	Rename map[string]string
	// Overwrite replaces a file that stands at the target; otherwise that is an error.
	Overwrite bool
	// Progress is told how many bytes are done; nil is silent.
	Progress func(done, total int64)
}

// Validate refuses names that are not columns of an outcome table.
func (o *ImportOptions) Validate() error {
	to := map[string]string{}
	for from, name := range o.Rename {
		if columnOf(name) < 0 {
			return fmt.Errorf("datasets: cannot rename %q to %q: an outcome table has no such column", from, name)
		}
		if other, twice := to[name]; twice {
			return fmt.Errorf("datasets: both %q and %q are renamed to %q", min(from, other), max(from, other), name)
		}
		to[name] = from
	}
	return nil
}

// ImportSummary is what an import found.
type ImportSummary struct {
	Rows    int64 `json:"rows"`
	Prompts int   `json:"prompts"`
	Arms    int   `json:"arms"`
	// UnknownCosts counts the rows without a cost.
	UnknownCosts int64 `json:"unknown_costs"`
}

// Import writes the CSV or JSONL file from (or a folder or glob of them) as an outcome table in Parquet. It checks all
// that ReadTable would check; after an error nothing stands at the target.
func Import(ctx context.Context, from, to string, o ImportOptions) (ImportSummary, error) {
	var sum ImportSummary
	if err := o.Validate(); err != nil {
		return sum, err
	}
	if _, err := os.Lstat(to); err == nil && !o.Overwrite {
		return sum, fmt.Errorf("datasets: importing to %s: %w", to, os.ErrExist)
	}
	if fileKind(to) != parquetFile {
		return sum, fmt.Errorf("datasets: importing to %s: the name must end in .parquet", to)
	}
	files, total, err := resolve(from)
	if err != nil {
		return sum, err
	}
	w, err := CreateTable(to)
	if err != nil {
		return sum, err
	}
	defer w.Abort()
	b := newBuilder(nil, nil)
	done := int64(0)
	for _, f := range files {
		progress := func(n int64) {
			if o.Progress != nil {
				o.Progress(done+n, total)
			}
		}
		if err := importFile(ctx, f.path, w, b, &sum, o.Rename, progress); err != nil {
			return sum, err
		}
		done += f.size
	}
	if _, err := b.table(); err != nil {
		return sum, inFile(err, from)
	}
	sum.Rows, sum.Prompts, sum.Arms = b.rows, len(b.prompts), len(b.arms)
	return sum, w.Close()
}

func importFile(ctx context.Context, name string, w *TableWriter, b *builder, sum *ImportSummary, rename map[string]string, progress func(int64)) error {
	kind := fileKind(name)
	if kind == parquetFile {
		return fmt.Errorf("datasets: importing %s: it is Parquet already", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("datasets: %w", err)
	}
	defer f.Close()
	b.startFile(name, true)
	rows := make([]Row, 1)
	var failed error
	err = readText(ctx, &counting{r: f, progress: progress}, &textSource{name: name, lineMax: LineBytesMax, rename: rename, take: func(r *record, line int64) (string, string) {
		if column, problem := b.add(r, line); problem != "" {
			return column, problem
		}
		if !r.number[colCost].ok {
			sum.UnknownCosts++
		}
		rows[0] = r.row()
		if failed = w.Write(rows); failed != nil {
			return "", failed.Error()
		}
		return "", ""
	}}, kind)
	if failed != nil && !errors.As(failed, new(*RowError)) {
		return failed
	}
	return err
}
