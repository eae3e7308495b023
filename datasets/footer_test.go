package datasets

import (
	"bytes"
	"context"
	"encoding/binary"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// TestFooterBombs: what would make a reader ask for more memory than there is, is refused before it reads.
func TestFooterBombs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.parquet")
	if err := parquet.WriteFile(path, []plain{{"p", "t", "m", 1}}, parquet.Compression(&parquet.Lz4Raw)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTable(context.Background(), path, ReadOptions{}); err == nil || !strings.Contains(err.Error(), "use zstd, snappy or gzip") {
		t.Errorf("LZ4: got %v", err)
	}
	for name, footer := range map[string][]byte{
		"a list of 2^31-1 structures":    {0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00},
		"a string of 2^31-1 bytes":       {0x18, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00},
		"structures without end":         bytes.Repeat([]byte{0x1c}, 10_000),
		"lists without end":              bytes.Repeat([]byte{0x19}, 10_000),
		"no end":                         {0x15, 0x02},
		"a map of 2^31-1 pairs":          {0x1b, 0xff, 0xff, 0xff, 0xff, 0x07, 0x88},
		"a type that there is not (0xd)": {0x1d, 0x00},
	} {
		b := append([]byte("PAR1"), footer...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(footer)))
		b = append(b, "PAR1"...)
		if err := checkFooter(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "footer is damaged") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCheckPages(t *testing.T) {
	// type, uncompressed and compressed size, data page header {number of values}: fields 1, 2, 3 and 5.
	page := func(uncompressed, compressed, values int64, body int) []byte {
		b := []byte{0x15, 0x00, 0x15}
		b = binary.AppendVarint(b, uncompressed)
		b = append(b, 0x15)
		b = binary.AppendVarint(b, compressed)
		b = append(b, 0x2c, 0x15)
		b = binary.AppendVarint(b, values)
		b = append(b, 0x00, 0x00)
		return append(b, make([]byte, body)...)
	}
	for name, c := range map[string]struct {
		pages  []byte
		values int64
		want   string
	}{
		"two pages":       {append(page(10, 3, 4, 3), page(9, 5, 2, 5)...), 6, ""},
		"too many values": {append(page(10, 3, 4, 3), page(9, 5, 3, 5)...), 6, "claims 3 values"},
		"too few values":  {page(10, 3, 4, 3), 6, "2 values are missing"},
		"too long":        {page(10, 4, 6, 3), 6, "compressed 4"},
		"too large":       {page(PageBytesMax+1, 3, 6, 3), 6, "in 536870913 bytes"},
		"negative":        {page(10, 3, -1, 3), 6, "claims -1 values"},
		"cut":             {page(10, 3, 6, 0)[:6], 6, "header is damaged"},
	} {
		err := checkPages(bytes.NewReader(c.pages), 0, int64(len(c.pages)), c.values)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
