// Package columnar scans some columns of a Parquet file in bounded memory, batch by batch. It is the one place where
// Apache Arrow's Go library is imported, so that its successor can take its place by changing one import path.
//
// It is only for files whose bytes are known to be whole: the library panics on more than half of all damaged ones and
// reads some of them for ever, which no recover ends. Package datasets calls it for parts whose SHA-256 the manifest
// confirms, and reads all others without it. It does not write, and it does not read lists or groups.
package columnar

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
)

// BatchRowsMax is the number of rows in one batch.
const BatchRowsMax = 4096

// Column is one column of a batch. Exactly one of the value slices is set, by the column's type: Ints for INT32, INT64
// and timestamps (in the file's own unit), Floats for FLOAT and DOUBLE, Strings for BYTE_ARRAY.
type Column struct {
	Name string
	// Null says which rows are null (their value is zero); it is nil in a column that cannot be.
	Null    []bool
	Ints    []int64
	Floats  []float64
	Bools   []bool
	Strings []string
}

// Batch is some consecutive rows of the wanted columns, in the order in which they were asked for. It is reused: all
// but the strings is good only until the callback returns.
type Batch struct {
	Rows    int
	Columns []Column
}

// Scan reads the named columns of the file of the given size and passes them to fn. A panic of the reader is an error;
// one of fn is fn's own.
func Scan(ctx context.Context, r io.ReaderAt, size int64, columns []string, fn func(*Batch) error) error {
	s := scanner{names: columns}
	if err := guard(func() error { return s.open(r, size) }); err != nil {
		return fmt.Errorf("columnar: opening: %w", err)
	}
	for group := range s.file.NumRowGroups() {
		if err := guard(func() error { return s.openGroup(group) }); err != nil {
			return fmt.Errorf("columnar: row group %d: %w", group, err)
		}
		for s.left > 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := guard(s.next); err != nil {
				return fmt.Errorf("columnar: row group %d: %w", group, err)
			}
			if err := fn(&s.batch); err != nil {
				return err
			}
		}
	}
	return nil
}

func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged (%v)", p)
		}
	}()
	return f()
}

type scanner struct {
	names   []string
	indexes []int
	file    *file.Reader
	readers []*reader
	left    int64
	batch   Batch
}

func (s *scanner) open(r io.ReaderAt, size int64) (err error) {
	props := parquet.NewReaderProperties(nil)
	props.BufferedStreamEnabled = true
	if s.file, err = file.NewParquetReader(io.NewSectionReader(r, 0, size), file.WithReadProps(props)); err != nil {
		return err
	}
	schema := s.file.MetaData().Schema
	s.batch.Columns = make([]Column, len(s.names))
	for i, name := range s.names {
		c := schema.ColumnIndexByName(name)
		if c < 0 || schema.Column(c).MaxRepetitionLevel() > 0 {
			return fmt.Errorf("there is no flat column %q", name)
		}
		s.indexes = append(s.indexes, c)
		s.batch.Columns[i].Name = name
	}
	return nil
}

func (s *scanner) openGroup(i int) error {
	group := s.file.RowGroup(i)
	s.left = group.NumRows()
	s.readers = s.readers[:0]
	for _, c := range s.indexes {
		chunk, err := group.Column(c)
		if err != nil {
			return err
		}
		s.readers = append(s.readers, newReader(chunk))
	}
	return nil
}

func (s *scanner) next() error {
	n := int(min(s.left, BatchRowsMax))
	for i, r := range s.readers {
		if err := r.fill(&s.batch.Columns[i], n); err != nil {
			return fmt.Errorf("column %q: %w", s.names[i], err)
		}
	}
	s.batch.Rows = n
	s.left -= int64(n)
	return nil
}

// reader reads one column chunk. Values arrive without their nulls and are spread by the definition levels.
type reader struct {
	chunk  file.ColumnChunkReader
	levels []int16
	full   int16

	ints32  []int32
	ints64  []int64
	floats  []float32
	doubles []float64
	bools   []bool
	bytes   []parquet.ByteArray
	arena   []byte
	ends    []int
}

func newReader(chunk file.ColumnChunkReader) *reader {
	return &reader{chunk: chunk, levels: make([]int16, BatchRowsMax), full: chunk.Descriptor().MaxDefinitionLevel()}
}

// fill reads exactly n rows into c.
func (r *reader) fill(c *Column, n int) error {
	c.Null, c.Ints, c.Floats, c.Bools = c.Null[:0], c.Ints[:0], c.Floats[:0], c.Bools[:0]
	r.arena, r.ends = r.arena[:0], r.ends[:0]
	for have := 0; have < n; {
		k, err := r.read(c, n-have)
		if err != nil {
			return err
		}
		if k == 0 {
			return io.ErrUnexpectedEOF
		}
		have += k
	}
	if _, isText := r.chunk.(*file.ByteArrayColumnChunkReader); isText {
		c.Strings = slices.Grow(c.Strings[:0], n)
		all, start := string(r.arena), 0
		for _, end := range r.ends {
			c.Strings = append(c.Strings, all[start:end])
			start = end
		}
	}
	return nil
}

// read takes what the next page has, at most n rows.
func (r *reader) read(c *Column, n int) (rows int, err error) {
	var total int64
	levels := r.levels[:n]
	switch chunk := r.chunk.(type) {
	case *file.Int32ColumnChunkReader:
		r.ints32 = slices.Grow(r.ints32[:0], n)[:n]
		total, _, err = chunk.ReadBatch(int64(n), r.ints32, levels, nil)
		c.Ints = spread(r, c, int(total), c.Ints, r.ints32, func(v int32) int64 { return int64(v) })
	case *file.Int64ColumnChunkReader:
		r.ints64 = slices.Grow(r.ints64[:0], n)[:n]
		total, _, err = chunk.ReadBatch(int64(n), r.ints64, levels, nil)
		c.Ints = spread(r, c, int(total), c.Ints, r.ints64, func(v int64) int64 { return v })
	case *file.Float32ColumnChunkReader:
		r.floats = slices.Grow(r.floats[:0], n)[:n]
		total, _, err = chunk.ReadBatch(int64(n), r.floats, levels, nil)
		c.Floats = spread(r, c, int(total), c.Floats, r.floats, func(v float32) float64 { return float64(v) })
	case *file.Float64ColumnChunkReader:
		r.doubles = slices.Grow(r.doubles[:0], n)[:n]
		total, _, err = chunk.ReadBatch(int64(n), r.doubles, levels, nil)
		c.Floats = spread(r, c, int(total), c.Floats, r.doubles, func(v float64) float64 { return v })
	case *file.BooleanColumnChunkReader:
		r.bools = slices.Grow(r.bools[:0], n)[:n]
		total, _, err = chunk.ReadBatch(int64(n), r.bools, levels, nil)
		c.Bools = spread(r, c, int(total), c.Bools, r.bools, func(v bool) bool { return v })
	case *file.ByteArrayColumnChunkReader:
		r.bytes = slices.Grow(r.bytes[:0], n)[:n]
		total, _, err = chunk.ReadBatch(int64(n), r.bytes, levels, nil)
		// Bytes belong to the page, which the next read may overwrite: they move to the arena.
		r.ends = spread(r, c, int(total), r.ends, r.bytes, func(v parquet.ByteArray) int {
			r.arena = append(r.arena, v...)
			return len(r.arena)
		})
		for i := range r.ends {
			if i > 0 {
				r.ends[i] = max(r.ends[i], r.ends[i-1])
			}
		}
	default:
		return 0, fmt.Errorf("type %s is not supported", r.chunk.Type())
	}
	return int(total), err
}

// spread appends the values of n rows to dst, zero where a row is null.
func spread[From, To any](r *reader, c *Column, n int, dst []To, values []From, convert func(From) To) []To {
	next := 0
	for i := range n {
		null := r.full > 0 && r.levels[i] < r.full
		if r.full > 0 {
			c.Null = append(c.Null, null)
		}
		var v To
		if !null {
			v = convert(values[next])
			next++
		}
		dst = append(dst, v)
	}
	return dst
}
