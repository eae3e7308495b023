package bedrock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// endless gives zeros for ever, and counts them.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.n += len(p)
	return len(p), nil
}

// TestFrameLimit: a frame that names a length of its own choosing, with a valid sum, is not read to its end.
func TestFrameLimit(t *testing.T) {
	for _, length := range []uint32{0, 5, 15, 17, 1 << 20, 1<<32 - 1} {
		for _, headers := range []uint32{0, 1, 1 << 30} {
			prelude := binary.BigEndian.AppendUint32(nil, length)
			prelude = binary.BigEndian.AppendUint32(prelude, headers)
			prelude = binary.BigEndian.AppendUint32(prelude, crc32.ChecksumIEEE(prelude))
			rest := &endless{}
			_, err := newFrames(io.MultiReader(bytes.NewReader(prelude), rest), 1<<10).next()
			var e *upstream.Error
			if !errors.As(err, &e) || e.Class != upstream.BadAnswer {
				t.Errorf("length %d with headers of %d: got %v, want the class %s", length, headers, err, upstream.BadAnswer)
			}
			if rest.n > 64<<10 {
				t.Errorf("length %d with headers of %d: %d bytes were read", length, headers, rest.n)
			}
		}
	}
}
