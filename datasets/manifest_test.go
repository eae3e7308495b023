package datasets

import (
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"
)

// TestManifestInAnyPieces: wherever a reading of the manifest pauses, at the end of a line too, it says the same. A file beside
// its writer is read line by line, and a long one buffer by buffer.
func TestManifestInAnyPieces(t *testing.T) {
	const lines = 50
	m, at := newManifest(), time.Unix(1.7e9, 0).UTC()
	var text []byte
	var ends []int
	for i := range lines {
		p := Part{
			Seq: m.lines + 1, Prev: m.head, Kind: KindRounds, Path: fmt.Sprintf("rounds/dt=2023-11-14/hour=22/%02d.parquet", i),
			SHA256: sumHex(nil), Bytes: 1, Rows: 1, MinAt: at, MaxAt: at,
		}
		line, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		line = append(line, '\n')
		m.add(p, line)
		text, ends = append(text, line...), append(ends, len(text)+len(line))
	}
	for _, each := range []int{1, 100, ends[0], len(text)} {
		got, err := readManifest(&pieces{text: text, each: each})
		if err != nil || got.lines != lines || got.head != m.head {
			t.Errorf("in pieces of %d bytes: %d lines, %v", each, got.lines, err)
		}
	}
	got, err := readManifest(&pieces{text: text, ends: ends})
	if err != nil || got.head != m.head {
		t.Errorf("line by line: %d lines, %v", got.lines, err)
	}
}

// pieces reads a text in pieces of a length, or up to the next of some ends.
type pieces struct {
	text []byte
	each int
	ends []int
	read int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.read == len(p.text) {
		return 0, io.EOF
	}
	to := p.read + p.each
	for _, end := range p.ends {
		if end > p.read {
			to = end
			break
		}
	}
	n := copy(b, p.text[p.read:min(to, len(p.text))])
	p.read += n
	return n, nil
}
