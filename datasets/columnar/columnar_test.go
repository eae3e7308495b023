package columnar

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"
)

type row struct {
	Dict   string   `parquet:"dict,dict"`
	Text   string   `parquet:"text"`
	Maybe  *string  `parquet:"maybe,optional"`
	Double *float64 `parquet:"double,optional"`
	Float  float32  `parquet:"float"`
	I32    *int32   `parquet:"i32,optional"`
	I64    int64    `parquet:"i64,timestamp(microsecond)"`
	Bool   bool     `parquet:"bool"`
	List   []string `parquet:"list,list"`
}

func ptr[T any](v T) *T { return &v }

func write(t testing.TB, rows []row, o ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[row](&b, o...)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func rowsOf(seed uint64, n int) []row {
	rng := rand.New(rand.NewPCG(seed, 1))
	rows := make([]row, n)
	for i := range rows {
		r := row{Dict: strings.Repeat("d", rng.IntN(5)), Text: strings.Repeat("text", rng.IntN(40)), Float: rng.Float32(), I64: rng.Int64(), Bool: rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			r.Maybe, r.I32 = ptr(strings.Repeat("m", rng.IntN(9))), ptr(rng.Int32())
		}
		if rng.IntN(3) == 0 {
			r.Double, r.List = ptr(rng.Float64()), []string{"a", "b"}
		}
		rows[i] = r
	}
	return rows
}

// scan puts the rows together again, in an order of columns that is not the file's.
func scan(ctx context.Context, data []byte, keep *[]row) error {
	columns := []string{"bool", "i64", "i32", "float", "double", "maybe", "text", "dict"}
	return Scan(ctx, bytes.NewReader(data), int64(len(data)), columns, func(b *Batch) error {
		c := b.Columns
		for i := range b.Rows {
			r := row{Bool: c[0].Bools[i], I64: c[1].Ints[i], Float: float32(c[3].Floats[i]), Text: c[6].Strings[i], Dict: c[7].Strings[i]}
			if !c[2].Null[i] {
				r.I32 = ptr(int32(c[2].Ints[i]))
			}
			if !c[4].Null[i] {
				r.Double = ptr(c[4].Floats[i])
			}
			if !c[5].Null[i] {
				r.Maybe = ptr(c[5].Strings[i])
			}
			*keep = append(*keep, r)
		}
		return nil
	})
}

func TestScanIsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := rowsOf(rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(0, 3*BatchRowsMax).Draw(rt, "rows"))
		data := write(t, want, parquet.MaxRowsPerRowGroup(rapid.Int64Range(500, 2*BatchRowsMax).Draw(rt, "group")),
			parquet.PageBufferSize(rapid.IntRange(64, 1<<16).Draw(rt, "page")), parquet.DataPageVersion(rapid.IntRange(1, 2).Draw(rt, "version")))
		var got []row
		if err := scan(context.Background(), data, &got); err != nil {
			rt.Fatal(err)
		}
		if len(got) != len(want) {
			rt.Fatalf("got %d rows, want %d", len(got), len(want))
		}
		for i := range want {
			want[i].List = nil
			if !reflect.DeepEqual(got[i], want[i]) {
				rt.Fatalf("row %d: got %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

func TestScanRefuses(t *testing.T) {
	data := write(t, rowsOf(1, 10))
	r, size := bytes.NewReader(data), int64(len(data))
	ctx, none := context.Background(), func(*Batch) error { return nil }
	for _, name := range []string{"absent", "list", "list.list.element"} {
		if err := Scan(ctx, r, size, []string{name}, none); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := Scan(ctx, r, 20, []string{"text"}, none); err == nil {
		t.Error("a cut file was scanned")
	}
	stop := errors.New("stop")
	if err := Scan(ctx, r, size, []string{"text"}, func(*Batch) error { return stop }); err != stop {
		t.Errorf("got %v, want the callback's own error", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := Scan(canceled, r, size, []string{"text"}, none); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("the callback's panic was swallowed")
			}
		}()
		Scan(ctx, r, size, []string{"text"}, func(*Batch) error { panic("mine") })
	}()
}

// panicking is a source that fails in the worst way.
type panicking struct {
	*bytes.Reader
	after int
}

func (p *panicking) ReadAt(b []byte, off int64) (int, error) {
	if p.after--; p.after < 0 {
		panic("out of range")
	}
	return p.Reader.ReadAt(b, off)
}

// TestScanContains: a cut file and a panic are errors. Flipped bits are not tried: arrow v17 may read such a file for
// ever, which no recover ends, and so the caller must have verified every byte.
func TestScanContains(t *testing.T) {
	data := write(t, rowsOf(1, 50))
	for n := 0; n < len(data); n += 7 {
		var got []row
		if err := scan(context.Background(), data[:n], &got); err == nil {
			t.Errorf("cut to %d bytes it was scanned", n)
		}
	}
	panics := 0
	for after := range 20 {
		r := &panicking{bytes.NewReader(data), after}
		err := Scan(context.Background(), r, int64(len(data)), []string{"text", "double"}, func(*Batch) error { return nil })
		if err != nil && strings.Contains(err.Error(), "out of range") {
			panics++
		}
	}
	if panics == 0 {
		t.Error("no panic became an error")
	}
}
