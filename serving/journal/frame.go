package journal

import (
	"encoding/binary"
	"hash/crc32"
)

// The format of a segment; DESIGN.md draws it. All integers are little endian.
const (
	magic      = "TWJRNL1\n"
	headerSize = 4 + 1 + 8 + 4
	// PayloadMax is the longest payload of a frame. A length beyond it is damage, whatever the file's size.
	PayloadMax = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Kind says what a frame holds.
type Kind uint8

// The kinds of frames. Each payload is the JSON of the datasets type of that name.
const (
	KindDecision Kind = 1
	KindOutcome  Kind = 2
	KindFeedback Kind = 3
)

// Frame is one record of a segment.
type Frame struct {
	Kind Kind
	// Sequence numbers frames in the order in which they were written, without a gap inside a segment.
	Sequence uint64
	// Offset is where the frame begins, Payload a part of the scanned bytes.
	Offset  int
	Payload []byte
}

// end is the offset after the frame.
func (f Frame) end() int { return f.Offset + headerSize + len(f.Payload) }

// payloadSum is the part of a frame's checksum that does not depend on its sequence, so that it can be computed before
// a writer has its turn.
func payloadSum(payload []byte) uint32 { return crc32.Checksum(payload, castagnoli) }

// appendFrame appends header and payload to b.
func appendFrame(b []byte, kind Kind, sequence uint64, payload []byte, sum uint32) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, byte(kind))
	b = binary.LittleEndian.AppendUint64(b, sequence)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(sum, castagnoli, b[start:]))
	return append(b, payload...)
}

// Scanner reads the frames of one segment. It returns only frames whose checksum holds; what cannot be read it steps
// over, because one flipped bit must not cost the frames behind it.
type Scanner struct {
	data []byte
	off  int
	next uint64

	// Damaged counts the bytes that were stepped over to a later frame, Torn the bytes at the end that no frame follows:
	// the rest of a write that a crash cut off. Both are final once Next has returned false.
	Damaged int
	Torn    int
}

// NewScanner reads a segment that is wholly in memory. First is the sequence of its first frame, from the file's name.
func NewScanner(segment []byte, first uint64) *Scanner {
	s := &Scanner{data: segment, off: len(magic), next: first}
	switch {
	case len(segment) < len(magic):
		s.off, s.Torn = len(segment), len(segment)
	case string(segment[:len(magic)]) != magic:
		s.Damaged = len(magic)
	}
	return s
}

// Next returns the next whole frame, and false at the end.
func (s *Scanner) Next() (Frame, bool) {
	start := s.off
	for ; s.off < len(s.data); s.off++ {
		// Every frame that was lost took at least a header's bytes, so what lies behind a gap cannot be numbered further
		// ahead than the gap is long. That leaves chance bytes no room to pass for a frame.
		latest := s.next + uint64((s.off-start)/headerSize)
		f, ok := parse(s.data, s.off, s.next, latest)
		if !ok {
			continue
		}
		s.Damaged += s.off - start
		s.off, s.next = f.end(), f.Sequence+1
		return f, true
	}
	s.Torn += len(s.data) - start
	s.off = len(s.data)
	return Frame{}, false
}

// parse reads the frame at an offset if it is whole and its sequence lies in [lowest, highest].
func parse(data []byte, off int, lowest, highest uint64) (Frame, bool) {
	if len(data)-off < headerSize {
		return Frame{}, false
	}
	header := data[off : off+headerSize]
	length := int(binary.LittleEndian.Uint32(header))
	kind, sequence := Kind(header[4]), binary.LittleEndian.Uint64(header[5:])
	if length > PayloadMax || length > len(data)-off-headerSize || kind < KindDecision || kind > KindFeedback ||
		sequence < lowest || sequence > highest {
		return Frame{}, false
	}
	f := Frame{Kind: kind, Sequence: sequence, Offset: off, Payload: data[off+headerSize : off+headerSize+length]}
	if crc32.Update(payloadSum(f.Payload), castagnoli, header[:13]) != binary.LittleEndian.Uint32(header[13:]) {
		return Frame{}, false
	}
	return f, true
}
