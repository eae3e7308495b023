package classifier

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// The names of an artifact's sections. DESIGN.md draws their bytes.
const (
	SectionRouter    = "router.json"
	SectionWeights   = "weights.bin"
	SectionTables    = "tables.bin"
	SectionTokenizer = "tokenizer.json"
	SectionGolden    = "golden.json"
)

const (
	weightsMagic = "TWWB"
	tablesMagic  = "TWTB"
)

// Sections encodes a valid model. Equal models give equal bytes.
func (m *Model) Sections() (map[string][]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	router, err := json.MarshalIndent(&m.Router, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("classifier: encoding %s: %w", SectionRouter, err)
	}
	golden, err := json.Marshal(m.Golden)
	if err != nil {
		return nil, fmt.Errorf("classifier: encoding %s: %w", SectionGolden, err)
	}
	return map[string][]byte{
		SectionRouter: append(router, '\n'), SectionGolden: golden, SectionTokenizer: m.Tokenizer,
		SectionWeights: m.Weights.encode(m.Outputs()), SectionTables: m.encodeTables(),
	}, nil
}

// Parse decodes and validates the sections of a model. It never panics, whatever the bytes.
func Parse(sections map[string][]byte) (*Model, error) {
	for _, name := range []string{SectionRouter, SectionWeights, SectionTables, SectionTokenizer, SectionGolden} {
		if _, ok := sections[name]; !ok {
			return nil, fmt.Errorf("%w: section %q is missing", ErrInvalid, name)
		}
	}
	m := &Model{Tokenizer: sections[SectionTokenizer]}
	if err := decodeJSON(SectionRouter, sections[SectionRouter], &m.Router); err != nil {
		return nil, err
	}
	if err := m.Router.validate(); err != nil { // the shapes below follow from it
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := decodeJSON(SectionGolden, sections[SectionGolden], &m.Golden); err != nil {
		return nil, err
	}
	r := reader{b: sections[SectionWeights]}
	if m.Weights.decode(&r, m.Outputs()); r.err != nil || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: section %q is damaged", ErrInvalid, SectionWeights)
	}
	r = reader{b: sections[SectionTables]}
	if m.decodeTables(&r); r.err != nil || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: section %q is damaged", ErrInvalid, SectionTables)
	}
	return m, m.Validate()
}

func decodeJSON(name string, b []byte, dst any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(dst); err != nil {
		return fmt.Errorf("%w: section %q: %w", ErrInvalid, name, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: section %q goes on after its end", ErrInvalid, name)
	}
	return nil
}

func (w *Weights) encode(outputs int) []byte {
	b := make([]byte, 0, 16+6*len(w.Buckets)+len(w.Cells))
	b = append(b, weightsMagic...)
	b = binary.LittleEndian.AppendUint32(b, FormatVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(w.Buckets)))
	b = binary.LittleEndian.AppendUint32(b, uint32(outputs))
	for _, bucket := range w.Buckets {
		b = binary.LittleEndian.AppendUint16(b, bucket)
	}
	for _, idf := range w.IDF {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(idf))
	}
	for _, c := range w.Cells {
		b = append(b, byte(c))
	}
	return b
}

func (w *Weights) decode(r *reader, outputs int) {
	r.magic(weightsMagic)
	rows := int(r.uint32())
	if r.uint32() != uint32(outputs) || rows > 1<<16 {
		r.fail()
	}
	buckets, idf, cells := r.take(2*rows), r.take(4*rows), r.take(rows*outputs)
	if r.err != nil {
		return
	}
	w.Buckets, w.IDF, w.Cells = make([]uint16, rows), make([]float32, rows), make([]int8, len(cells))
	for i := range rows {
		w.Buckets[i] = binary.LittleEndian.Uint16(buckets[2*i:])
		w.IDF[i] = math.Float32frombits(binary.LittleEndian.Uint32(idf[4*i:]))
	}
	for i, c := range cells {
		w.Cells[i] = int8(c)
	}
}

func (m *Model) encodeTables() []byte {
	list := m.list()
	b := append([]byte(nil), tablesMagic...)
	b = binary.LittleEndian.AppendUint32(b, FormatVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(list)))
	for _, n := range list {
		b = append(append(b, byte(len(n.name))), n.name...)
		b = binary.LittleEndian.AppendUint32(b, uint32(n.rows))
		b = binary.LittleEndian.AppendUint32(b, uint32(n.cols))
		for _, v := range n.table.Data {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	return b
}

func (m *Model) decodeTables(r *reader) {
	r.magic(tablesMagic)
	list := m.list()
	if r.uint32() != uint32(len(list)) {
		r.fail()
	}
	for _, n := range list {
		if size := r.take(1); r.err != nil || int(size[0]) != len(n.name) || string(r.take(len(n.name))) != n.name {
			r.fail()
			return
		}
		rows, cols := int(r.uint32()), int(r.uint32())
		if cols > tableCellMax || rows > tableCellMax/max(cols, 1) {
			r.fail()
		}
		cells := r.take(8 * rows * cols)
		if r.err != nil {
			return
		}
		*n.table = NewTable(rows, cols)
		for i := range n.table.Data {
			n.table.Data[i] = math.Float64frombits(binary.LittleEndian.Uint64(cells[8*i:]))
		}
	}
}

// reader takes bytes off a section. After the first failure it yields nothing.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() { r.err = ErrInvalid }

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
	}
	if r.err != nil {
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) magic(want string) {
	if string(r.take(len(want))) != want || r.uint32() != FormatVersion {
		r.fail()
	}
}
