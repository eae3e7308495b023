package datasets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// batchRows is how many rows are decoded at a time.
const batchRows = 1024

// openParquet opens a file that nobody vouches for.
func openParquet(r io.ReaderAt, size int64) (file *parquet.File, err error) {
	if err := checkFooter(r, size); err != nil {
		return nil, err
	}
	err = guard(func() error {
		file, err = parquet.OpenFile(r, size, &parquet.FileConfig{
			SkipPageIndex: true, SkipBloomFilters: true, ReadMode: parquet.ReadModeSync, ReadBufferSize: 64 << 10,
		})
		if err != nil {
			return err
		}
		return checkChunks(file.Metadata(), r, size)
	})
	return file, err
}

// checkChunks refuses column chunks that are not what the footer says and codecs that are not safe: parquet-go's LZ4 doubles
// its buffer for as long as the bytes make no sense, until memory is gone, and no recover stops that.
func checkChunks(meta *format.FileMetaData, r io.ReaderAt, size int64) error {
	for _, group := range meta.RowGroups {
		for _, chunk := range group.Columns {
			m := &chunk.MetaData
			switch m.Codec {
			case format.Uncompressed, format.Snappy, format.Gzip, format.Zstd:
			default:
				return fmt.Errorf("compression %s is not read; use zstd, snappy or gzip", m.Codec)
			}
			start := m.DataPageOffset
			if m.DictionaryPageOffset != 0 {
				start = min(start, m.DictionaryPageOffset)
			}
			if start < 0 || m.TotalCompressedSize < 0 || start > size-m.TotalCompressedSize {
				return errors.New("a column lies outside the file")
			}
			if err := checkPages(r, start, start+m.TotalCompressedSize, m.NumValues); err != nil {
				return fmt.Errorf("column %q: %w", strings.Join(m.PathInSchema, "."), err)
			}
		}
	}
	return nil
}

// readParquet passes every row of an outcome table to take. It reads column by column on the calling goroutine.
func readParquet(ctx context.Context, r io.ReaderAt, size int64, name string, take sink, progress func(done int64)) error {
	file, err := openParquet(r, size)
	if err != nil {
		return fmt.Errorf("datasets: reading %s: %w", name, err)
	}
	var leaves [numColumns]int
	if err := guard(func() error { return matchColumns(file, &leaves) }); err != nil {
		return fmt.Errorf("datasets: reading %s: %w", name, err)
	}
	total, row := file.NumRows(), int64(0)
	for _, group := range file.RowGroups() {
		g, err := openGroup(group, &leaves)
		if err != nil {
			return fmt.Errorf("datasets: reading %s: row %d: %w", name, row+1, err)
		}
		for g.left > 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := g.next()
			if err != nil {
				return fmt.Errorf("datasets: reading %s: after row %d: %w", name, row, err)
			}
			for i := range n {
				row++
				if column, problem := take(g.record(i)); problem != "" {
					return &RowError{File: name, Row: row, Column: column, Problem: problem}
				}
			}
			progress(int64(float64(size) * float64(row) / float64(total)))
		}
	}
	if row != total {
		return fmt.Errorf("datasets: reading %s: the footer counts %d rows, the row groups %d", name, total, row)
	}
	return nil
}

// matchColumns finds each column's leaf (-1 where it is absent) and refuses what is unknown, missing or mistyped.
func matchColumns(file *parquet.File, leaves *[numColumns]int) error {
	for c := range leaves {
		leaves[c] = -1
	}
	round := roundColumns()
	for _, field := range file.Root().Columns() {
		name := field.Name()
		c := columnOf(name)
		if c < 0 {
			if !slices.Contains(round, name) {
				return fmt.Errorf("column %q is unknown", name)
			}
			continue
		}
		got := "group"
		if field.Leaf() {
			got = field.Type().String()
		}
		if field.Repeated() {
			got = "repeated " + got
		}
		if leaves[c] >= 0 {
			return fmt.Errorf("column %q stands there twice", name)
		}
		if !slices.Contains(parquetTypes(tableColumns[c].kind), got) {
			return fmt.Errorf("column %q: want %s, got %s", name, tableColumns[c].kind, got)
		}
		leaves[c] = field.Index()
	}
	for c, spec := range tableColumns {
		if spec.required && leaves[c] < 0 {
			return fmt.Errorf("column %q is missing", spec.name)
		}
	}
	return nil
}

// parquetTypes lists the types, as parquet-go prints them, that a column may be stored in.
func parquetTypes(k columnKind) []string {
	switch k {
	case kindDouble:
		return []string{"DOUBLE"}
	case kindInt32:
		return []string{"INT32", "INT(32,true)"}
	}
	return []string{"STRING", "BYTE_ARRAY", "ENUM", "JSON"}
}

// groupReader reads the columns of one row group in step.
type groupReader struct {
	columns []*columnReader
	left    int64
	rec     record
}

type columnReader struct {
	column int
	pages  parquet.Pages
	values parquet.ValueReader
	buf    []parquet.Value
}

func openGroup(group parquet.RowGroup, leaves *[numColumns]int) (g *groupReader, err error) {
	err = guard(func() error {
		g = &groupReader{left: group.NumRows()}
		if g.left < 0 || g.left > CellsMax {
			return fmt.Errorf("a row group claims %d rows", g.left)
		}
		chunks := group.ColumnChunks()
		for c, leaf := range leaves {
			if leaf < 0 {
				continue
			}
			if n := chunks[leaf].NumValues(); n != g.left {
				return fmt.Errorf("column %q holds %d values for %d rows", tableColumns[c].name, n, g.left)
			}
			g.columns = append(g.columns, &columnReader{column: c, pages: chunks[leaf].Pages(), buf: make([]parquet.Value, batchRows)})
		}
		return nil
	})
	return g, err
}

// next decodes the next rows. Pages are left to the garbage collector: a released page would take its strings along.
func (g *groupReader) next() (n int, err error) {
	n = int(min(g.left, batchRows))
	err = guard(func() error {
		for _, c := range g.columns {
			if err := c.fill(n); err != nil {
				return fmt.Errorf("column %q: %w", tableColumns[c.column].name, err)
			}
		}
		return nil
	})
	g.left -= int64(n)
	return n, err
}

func (c *columnReader) fill(n int) error {
	for have := 0; have < n; {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return noEOF(err)
			}
			c.values = page.Values()
		}
		k, err := c.values.ReadValues(c.buf[have:n])
		have += k
		switch {
		case errors.Is(err, io.EOF):
			c.values = nil
		case err != nil:
			return err
		case k == 0:
			return io.ErrNoProgress
		}
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// record is row i of the batch; it is good until the next call.
func (g *groupReader) record(i int) *record {
	for _, c := range g.columns {
		v := &c.buf[i]
		switch {
		case v.IsNull():
			if c.column < len(g.rec.text) {
				g.rec.text[c.column] = ""
			} else {
				g.rec.number[c.column] = number{}
			}
		case c.column < len(g.rec.text):
			b := v.ByteArray()
			g.rec.text[c.column] = unsafe.String(unsafe.SliceData(b), len(b))
		case tableColumns[c.column].kind == kindInt32:
			g.rec.number[c.column] = number{float64(v.Int32()), true}
		default:
			g.rec.number[c.column] = number{v.Double(), true}
		}
	}
	return &g.rec
}
