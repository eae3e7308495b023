package datasets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// FooterBytesMax is the size of the largest footer that is read.
const FooterBytesMax = 64 << 20

// checkFooter looks at the ends of a Parquet file and walks its footer before a reader is let loose on it. A reader
// allocates what a list's header promises, and no recover stops a program that asks for 400 GB: so every length must
// fit the bytes that are left. It also tells the plain cases (empty, not Parquet, cut off) in plain words.
func checkFooter(r io.ReaderAt, size int64) error {
	const magic = "PAR1"
	if size == 0 {
		return errors.New("the file is empty")
	}
	var head [4]byte
	if _, err := r.ReadAt(head[:], 0); err != nil || string(head[:]) != magic {
		return errors.New("it is not a Parquet file (no PAR1 at its start)")
	}
	var tail [8]byte
	if size < 12 {
		return errors.New("the Parquet file is cut off")
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil {
		return err
	}
	if string(tail[4:]) != magic {
		return errors.New("the Parquet file is cut off (no PAR1 at its end)")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4]))
	if n > size-12 || n > FooterBytesMax {
		return fmt.Errorf("the Parquet footer claims %d bytes", n)
	}
	footer := make([]byte, n)
	if _, err := r.ReadAt(footer, size-8-n); err != nil {
		return fmt.Errorf("reading the Parquet footer: %w", err)
	}
	w := thriftWalk{b: footer}
	w.structure(0, 0, 0)
	if w.bad {
		return errors.New("the Parquet footer is damaged")
	}
	return nil
}

// thriftWalk steps over one value of Thrift's compact protocol
// (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md) and checks its lengths.
type thriftWalk struct {
	b   []byte
	bad bool
	// field, where it is set, sees the integers of the outermost structure (parent 0) and of those within it.
	field func(parent, id, v int64)
}

const thriftDepthMax = 32

// The compact protocol's types.
const (
	thriftStop = iota
	thriftTrue
	thriftFalse
	thriftByte
	thriftI16
	thriftI32
	thriftI64
	thriftDouble
	thriftBinary
	thriftList
	thriftSet
	thriftMap
	thriftStruct
)

func (w *thriftWalk) skip(n uint64) {
	if n > uint64(len(w.b)) {
		w.bad, w.b = true, nil
		return
	}
	w.b = w.b[n:]
}

func (w *thriftWalk) byte() byte {
	if len(w.b) == 0 {
		w.bad = true
		return 0
	}
	c := w.b[0]
	w.b = w.b[1:]
	return c
}

func (w *thriftWalk) varint() uint64 {
	v, n := binary.Uvarint(w.b)
	if n <= 0 {
		w.bad, w.b = true, nil
		return 0
	}
	w.b = w.b[n:]
	return v
}

func (w *thriftWalk) zigzag() int64 {
	u := w.varint()
	return int64(u>>1) ^ -int64(u&1)
}

// structure steps over one structure, which is the field id of a structure that is the field parent.
func (w *thriftWalk) structure(depth int, parent, id int64) {
	if depth > thriftDepthMax {
		w.bad = true
	}
	own := id
	for id = 0; !w.bad; {
		header := w.byte()
		if header&0xf == thriftStop {
			return
		}
		if header>>4 == 0 {
			id = w.zigzag()
		} else {
			id += int64(header >> 4)
		}
		switch t := header & 0xf; {
		case t == thriftTrue || t == thriftFalse:
		case t == thriftI32 && w.field != nil && parent == 0 && depth < 2:
			w.field(own, id, w.zigzag())
		case t == thriftStruct:
			w.structure(depth+1, own, id)
		default:
			w.value(t, depth+1)
		}
	}
}

// value steps over one value; in a list a boolean takes a byte.
func (w *thriftWalk) value(t byte, depth int) {
	switch t {
	case thriftTrue, thriftFalse, thriftByte:
		w.byte()
	case thriftI16, thriftI32, thriftI64:
		w.varint()
	case thriftDouble:
		w.skip(8)
	case thriftBinary:
		w.skip(w.varint())
	case thriftList, thriftSet:
		header := w.byte()
		n := uint64(header >> 4)
		if n == 15 {
			n = w.varint()
		}
		w.repeat(n, depth, header&0xf)
	case thriftMap:
		n := w.varint()
		if n == 0 {
			return
		}
		kinds := w.byte()
		w.repeat(n, depth, kinds>>4, kinds&0xf)
	case thriftStruct:
		w.structure(depth, -1, -1)
	default:
		w.bad = true
	}
}

func (w *thriftWalk) repeat(n uint64, depth int, kinds ...byte) {
	if n > uint64(len(w.b)) || depth > thriftDepthMax {
		w.bad = true
	}
	for ; n > 0 && !w.bad; n-- {
		for _, t := range kinds {
			w.value(t, depth+1)
		}
	}
}

// The limits of one page of a Parquet file.
const (
	PageBytesMax = 512 << 20
	// pageHeaderMax is the length of a page's header with its statistics. Many writers put whole values into these.
	pageHeaderMax = 64 << 20
)

// checkPages walks the page headers of a column chunk, which lies in bytes [start, end) and says that it holds the
// given number of values: no page may claim more than the chunk can give. A reader would make room for it first.
func checkPages(r io.ReaderAt, start, end, values int64) error {
	buf := make([]byte, 512)
	for start < end {
		var uncompressed, compressed, inPage int64
		n := int(min(int64(len(buf)), end-start))
		if _, err := r.ReadAt(buf[:n], start); err != nil {
			return fmt.Errorf("reading a page's header: %w", noEOF(err))
		}
		w := thriftWalk{b: buf[:n], field: func(parent, id, v int64) {
			const dataPage, dataPageV2 = 5, 8
			switch {
			case parent == 0 && id == 2:
				uncompressed = v
			case parent == 0 && id == 3:
				compressed = v
			case (parent == dataPage || parent == dataPageV2) && id == 1:
				inPage = v
			}
		}}
		w.structure(0, 0, 0)
		if w.bad {
			if int64(n) == end-start || len(buf) >= pageHeaderMax {
				return errors.New("a page's header is damaged")
			}
			buf = make([]byte, min(4*int64(len(buf)), end-start))
			continue
		}
		start += int64(n - len(w.b))
		if compressed < 0 || compressed > end-start || uncompressed < 0 || uncompressed > PageBytesMax || inPage < 0 || inPage > values {
			return fmt.Errorf("a page claims %d values in %d bytes, compressed %d", inPage, uncompressed, compressed)
		}
		start, values = start+compressed, values-inPage
	}
	if values != 0 {
		return fmt.Errorf("%d values are missing", values)
	}
	return nil
}
