// Package frame is the form of files that are only ever appended to: numbered, checksummed frames behind a magic, read again
// over whatever a crash or a bad disk has left of them.
//
// It knows neither what the frames hold nor the file: package journal says how segments are written, and argues the form.
package frame

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// The form of a file, which the journal's DESIGN.md draws. All integers are little endian.
const (
	// MagicSize is the length of the magic that a file begins with.
	MagicSize = 8
	// HeaderSize is the length of a frame's header.
	HeaderSize = 4 + 1 + 8 + 4
	// PayloadMax is the longest payload of a frame. A length beyond it is damage, whatever the file's size.
	PayloadMax = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Kind says what a frame holds. The kinds of a file are counted from 1.
type Kind uint8

// Frame is one record of a file.
type Frame struct {
	Kind Kind
	// Sequence numbers frames in the order in which they were written, without a gap inside a file.
	Sequence uint64
	// Offset is where the frame begins, Payload a part of the scanned bytes.
	Offset  int
	Payload []byte
}

// End is the offset after the frame.
func (f Frame) End() int { return f.Offset + HeaderSize + len(f.Payload) }

// Sum is the part of a frame's checksum that does not depend on its sequence, so that it can be computed before
// a writer has its turn.
func Sum(payload []byte) uint32 { return crc32.Checksum(payload, castagnoli) }

// Append appends header and payload to b.
func Append(b []byte, kind Kind, sequence uint64, payload []byte, sum uint32) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, byte(kind))
	b = binary.LittleEndian.AppendUint64(b, sequence)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(sum, castagnoli, b[start:]))
	return append(b, payload...)
}

// Scanner reads the frames of one file. It returns only frames whose checksum holds; what cannot be read it steps
// over, because one flipped bit must not cost the frames behind it.
type Scanner struct {
	data  []byte
	off   int
	next  uint64
	kinds Kind

	// Damaged counts the bytes that were stepped over to a later frame, Torn the bytes at the end that no frame follows:
	// the rest of a write that a crash cut off. Both are final once Next has returned false.
	Damaged int
	Torn    int
}

// NewScanner reads a file that is wholly in memory: its magic, and frames of so many kinds. First is the sequence of its
// first frame, which its name tells.
func NewScanner(file []byte, magic string, kinds Kind, first uint64) *Scanner {
	s := &Scanner{data: file, off: MagicSize, next: first, kinds: kinds}
	switch {
	case len(file) < MagicSize:
		s.off, s.Torn = len(file), len(file)
	case string(file[:MagicSize]) != magic:
		s.Damaged = MagicSize
	}
	return s
}

// Next returns the next whole frame, and false at the end.
func (s *Scanner) Next() (Frame, bool) {
	start := s.off
	for ; s.off < len(s.data); s.off++ {
		// Every frame that was lost took at least a header's bytes, so what lies behind a gap cannot be numbered further
		// ahead than the gap is long. That leaves chance bytes no room to pass for a frame.
		latest := s.next + uint64((s.off-start)/HeaderSize)
		f, ok := parse(s.data, s.off, s.next, latest, s.kinds)
		if !ok {
			continue
		}
		s.Damaged += s.off - start
		s.off, s.next = f.End(), f.Sequence+1
		return f, true
	}
	s.Torn += len(s.data) - start
	s.off = len(s.data)
	return Frame{}, false
}

// Parse reads one frame of whatever sequence, if it is whole.
func Parse(data []byte) (Frame, bool) { return parse(data, 0, 0, ^uint64(0), ^Kind(0)) }

// parse reads the frame at an offset if it is whole, of a known kind, and its sequence lies in [lowest, highest].
func parse(data []byte, off int, lowest, highest uint64, kinds Kind) (Frame, bool) {
	if len(data)-off < HeaderSize {
		return Frame{}, false
	}
	header := data[off : off+HeaderSize]
	length := int(binary.LittleEndian.Uint32(header))
	kind, sequence := Kind(header[4]), binary.LittleEndian.Uint64(header[5:])
	if length > PayloadMax || length > len(data)-off-HeaderSize || kind == 0 || kind > kinds ||
		sequence < lowest || sequence > highest {
		return Frame{}, false
	}
	f := Frame{Kind: kind, Sequence: sequence, Offset: off, Payload: data[off+HeaderSize : off+HeaderSize+length]}
	if crc32.Update(Sum(f.Payload), castagnoli, header[:13]) != binary.LittleEndian.Uint32(header[13:]) {
		return Frame{}, false
	}
	return f, true
}

// Path names a file of a folder after its first sequence, so that names sort in the order of writing.
func Path(dir string, first uint64, suffix string) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", first, suffix))
}

// List returns the first sequences of a folder's files in order. What is not named like one is not one.
func List(fs disk.FS, dir, suffix string) ([]uint64, error) {
	entries, err := fs.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, e := range entries {
		name, found := strings.CutSuffix(e.Name(), suffix)
		if first, err := strconv.ParseUint(name, 10, 64); found && err == nil && len(name) == 20 {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}
