package features

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// MaxEncodedBytes bounds the compact form of a Context. Counts that do not fit are left out from the end: those of the
// character block, and since buckets are hashes, an even sample of them.
const MaxEncodedBytes = 8 << 10

// encodingVersion is the first byte of the compact form, degradedBit the flag beside it.
const (
	encodingVersion = 1
	degradedBit     = 0x80
	fixedBytes      = 1 + 4*NumFlags
	sizeMax         = 1 << 48
)

// ErrEncoding says that bytes are not the compact form of a Context.
var ErrEncoding = errors.New("features: invalid encoding")

// AppendBinary appends the compact form of c, at most MaxEncodedBytes:
//
//	version | degraded bit     1 byte
//	flags                      NumFlags × float32, little endian
//	Bytes, PromptBytes, Tokens uvarint each
//	counts, until the end      uvarint of 2·(buckets skipped) + 1 if N > 1, then where N > 1 uvarint of N − 2
func (c *Context) AppendBinary(b []byte) []byte {
	start := len(b)
	version := byte(encodingVersion)
	if c.Degraded {
		version |= degradedBit
	}
	b = append(b, version)
	for _, f := range c.Flags {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	for _, n := range [3]int{c.Bytes, c.PromptBytes, c.Tokens} {
		b = binary.AppendUvarint(b, uint64(min(max(n, 0), sizeMax)))
	}
	next := 0
	for _, k := range c.Counts {
		fits := len(b)
		key := uint64(int(k.Bucket)-next) << 1
		next = int(k.Bucket) + 1
		if k.N > 1 {
			b = binary.AppendUvarint(b, key|1)
			b = binary.AppendUvarint(b, uint64(k.N-2))
		} else {
			b = binary.AppendUvarint(b, key)
		}
		if len(b)-start > MaxEncodedBytes {
			return b[:fits]
		}
	}
	return b
}

// Parse overwrites c with the Context of a compact form. It accepts exactly what AppendBinary writes; every error
// wraps ErrEncoding and leaves c in no particular state.
func (c *Context) Parse(b []byte) error {
	if len(b) < fixedBytes || len(b) > MaxEncodedBytes {
		return fmt.Errorf("%w: %d bytes, want %d to %d", ErrEncoding, len(b), fixedBytes, MaxEncodedBytes)
	}
	if b[0]&^degradedBit != encodingVersion {
		return fmt.Errorf("%w: version %d, want %d", ErrEncoding, b[0]&^degradedBit, encodingVersion)
	}
	c.Degraded = b[0]&degradedBit != 0
	for i := range c.Flags {
		f := math.Float32frombits(binary.LittleEndian.Uint32(b[1+4*i:]))
		if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
			return fmt.Errorf("%w: flag %d is not finite", ErrEncoding, i)
		}
		c.Flags[i] = f
	}
	r := reader{b: b[fixedBytes:]}
	c.Bytes, c.PromptBytes, c.Tokens = r.next(sizeMax), r.next(sizeMax), r.next(sizeMax)
	c.Counts = c.Counts[:0]
	for next := 0; len(r.b) > 0 && !r.bad; {
		key := r.next(1<<17 - 1)
		next += key >> 1
		count := Count{Bucket: uint16(next), N: 1}
		if key&1 != 0 {
			count.N = uint16(r.next(math.MaxUint16-2) + 2)
		}
		if next > math.MaxUint16 {
			return fmt.Errorf("%w: bucket %d, at most %d", ErrEncoding, next, math.MaxUint16)
		}
		c.Counts = append(c.Counts, count)
		next++
	}
	if r.bad {
		return fmt.Errorf("%w: bad number %d bytes before the end", ErrEncoding, len(r.b))
	}
	return nil
}

// reader takes numbers off a slice; bad stays set after the first that is cut off, too large or not in its shortest form.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) next(limit uint64) int {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > limit || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}
