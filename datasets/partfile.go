package datasets

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// partGroupRows is the number of rows in a row group of a sealed part; its rows are wider than a table's.
const partGroupRows = 10_000

// partWriter writes one part under a temporary name.
type partWriter[Row any] struct {
	file *atomicFile
	w    *parquet.GenericWriter[Row]
}

func createPart[Row any](l *Log, temp string, codec *zstd.Codec) (*partWriter[Row], error) {
	file, err := createAtomic(l.o.FS, filepath.Join(l.dir, temp), "", 0o600)
	if err != nil {
		return nil, err
	}
	w := parquet.NewGenericWriter[Row](file, writerOptions(codec, partGroupRows)...)
	return &partWriter[Row]{file, w}, nil
}

func (w *partWriter[Row]) write(rows []Row) error {
	_, err := w.w.Write(rows)
	return err
}

// close ends the file, makes its bytes durable and says in p what they are. Whatever the error, the file is closed.
func (w *partWriter[Row]) close(p *Part) error {
	err := w.w.Close()
	if err == nil {
		err = w.file.f.Sync()
	}
	p.SHA256, p.Bytes = w.file.sum(), w.file.n
	p.Path = p.place()
	return errors.Join(err, w.file.f.Close())
}

// place is the path of a part: it sorts by time and holds part of the digest, so that equal rows get an equal name, others
// never the same.
func (p *Part) place() string {
	name := fmt.Sprintf("%s-%.16s.parquet", p.MinAt.Format("0405.000000"), p.SHA256)
	return path.Join(folderOf(p.Kind, p.MinAt), name)
}

// rowReader reads the rows of a part on the calling goroutine. It never asks for more rows than a row group has left: at
// the end of one parquet-go spends 30 MB to say so.
type rowReader[Row any] struct {
	file   *parquet.File
	groups []parquet.RowGroup
	in     *parquet.GenericReader[Row]
	left   int64
}

func openRows[Row any](r io.ReaderAt, size int64) (*rowReader[Row], error) {
	file, err := openParquet(r, size)
	if err != nil {
		return nil, err
	}
	return &rowReader[Row]{file: file, groups: file.RowGroups()}, nil
}

// ours refuses a part that has more columns than this program would write.
func (r *rowReader[Row]) ours() error {
	known := map[string]bool{}
	for _, leaf := range parquet.SchemaOf(*new(Row)).Columns() {
		known[strings.Join(leaf, ".")] = true
	}
	for _, leaf := range r.file.Schema().Columns() {
		if name := strings.Join(leaf, "."); !known[name] {
			return fmt.Errorf("a newer program wrote it: column %s is unknown", name)
		}
	}
	return nil
}

// next reads at least one row and at most n; at the end it is io.EOF.
func (r *rowReader[Row]) next(n int) (rows []Row, err error) {
	err = guard(func() error {
		for r.left == 0 {
			r.close()
			if len(r.groups) == 0 {
				return io.EOF
			}
			r.in, r.left, r.groups = parquet.NewGenericRowGroupReader[Row](r.groups[0]), r.groups[0].NumRows(), r.groups[1:]
		}
		rows = make([]Row, min(r.left, int64(n)))
		got, err := r.in.Read(rows)
		if got == 0 {
			return noEOF(cmp.Or(err, io.ErrNoProgress))
		}
		rows = rows[:got]
		r.left -= int64(got)
		return nil
	})
	return rows, err
}

// close lets go of the buffers of a row group, which are megabytes: a reader that is left to the garbage collector keeps
// them for ever.
func (r *rowReader[Row]) close() {
	if r.in != nil {
		_ = r.in.Close()
		r.in = nil
	}
}

// eachBatch passes on a part's rows, once accept has seen the reader. fn runs outside the guard.
func eachBatch[Row any](r io.ReaderAt, size int64, accept func(*rowReader[Row]) error, fn func([]Row) error) error {
	in, err := openRows[Row](r, size)
	if err != nil {
		return err
	}
	defer in.close()
	if err := accept(in); err != nil {
		return err
	}
	for {
		rows, err := in.next(batchRows)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(rows); err != nil {
			return err
		}
	}
}

// readRows decodes a part's rows and passes them on in batches.
func readRows[Row, Value any](r io.ReaderAt, size int64, decode func(*Row) (Value, error), fn func([]Value) error) error {
	total := 0
	return eachBatch(r, size, func(*rowReader[Row]) error { return nil }, func(rows []Row) error {
		batch := make([]Value, len(rows))
		for i := range rows {
			var err error
			if batch[i], err = decode(&rows[i]); err != nil {
				return fmt.Errorf("row %d: %w", total+i+1, err)
			}
		}
		total += len(rows)
		return fn(batch)
	})
}
