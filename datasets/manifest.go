package datasets

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// Kind says what the rows of a sealed part are.
type Kind string

// The kinds of part; each has a folder of its name.
const (
	KindRounds   Kind = "rounds"
	KindFeedback Kind = "feedback"
)

// The limits of a log.
const (
	// PartsMax is the number of parts of one log.
	PartsMax = 1 << 20
	// PartRowsMax is the number of rows of one part.
	PartRowsMax = 100_000
	// manifestLineMax is the length of one line of the manifest.
	manifestLineMax = 4096
)

const manifestName = "manifest.jsonl"

// Part is one line of the manifest: it vouches for one file. Prev is the SHA-256 of the line before (its newline left
// out), empty in the first, so that no line can be changed without changing all that follow.
type Part struct {
	Seq    int64     `json:"seq"`
	Kind   Kind      `json:"kind"`
	Path   string    `json:"path"`
	SHA256 string    `json:"sha256"`
	Bytes  int64     `json:"bytes"`
	Rows   int64     `json:"rows"`
	MinAt  time.Time `json:"min_at"`
	MaxAt  time.Time `json:"max_at"`
	Prev   string    `json:"prev"`
}

// VerifyError names the first thing in a log that is not as it was sealed.
type VerifyError struct {
	// Path is the part's path within the log, or "manifest.jsonl".
	Path string
	// Line is the part's line in the manifest, from 1.
	Line int64
	Err  error
}

// Error names the part and its line.
func (e *VerifyError) Error() string {
	return fmt.Sprintf("datasets: log: %s (manifest line %d): %v", e.Path, e.Line, e.Err)
}

// Unwrap returns the reason.
func (e *VerifyError) Unwrap() error { return e.Err }

// manifest is what manifest.jsonl says.
type manifest struct {
	parts []Part
	// size counts the bytes of whole lines, torn those of a last line that a crash cut off.
	size, torn int64
	// head is the SHA-256 of the last line.
	head string
}

func readManifest(r io.Reader) (manifest, error) {
	var m manifest
	in := bufio.NewReaderSize(r, manifestLineMax+1)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			m.torn = int64(len(line))
			return m, nil
		}
		seq := int64(len(m.parts)) + 1
		if errors.Is(err, bufio.ErrBufferFull) {
			err = fmt.Errorf("it is longer than %d bytes", manifestLineMax)
		} else if err == nil && seq > PartsMax {
			err = fmt.Errorf("there are more than %d parts", PartsMax)
		}
		var p Part
		if err == nil {
			p, err = parsePart(line[:len(line)-1], seq, m.head)
		}
		if err != nil {
			return m, &VerifyError{Path: manifestName, Line: seq, Err: err}
		}
		m.parts = append(m.parts, p)
		m.size += int64(len(line))
		m.head = sumHex(line[:len(line)-1])
	}
}

func sumHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// parsePart reads one line of the manifest. The line must be exactly what we would write: JSON has many ways to say
// the same thing, and this one has one.
func parsePart(line []byte, seq int64, prev string) (Part, error) {
	var p Part
	if err := json.Unmarshal(line, &p); err != nil {
		return p, err
	}
	canonical, err := json.Marshal(p)
	if err != nil {
		return p, err
	}
	sum, err := hex.DecodeString(p.SHA256)
	switch {
	case !bytes.Equal(line, canonical):
		return p, errors.New("it is not in canonical form")
	case p.Seq != seq:
		return p, fmt.Errorf("its number is %d, want %d", p.Seq, seq)
	case p.Prev != prev:
		return p, errors.New("it does not continue the line before: one of them was altered")
	case p.Kind != KindRounds && p.Kind != KindFeedback:
		return p, fmt.Errorf("kind %q is unknown", p.Kind)
	case !strings.HasPrefix(p.Path, string(p.Kind)+"/") || path.Clean(p.Path) != p.Path || !filepath.IsLocal(filepath.FromSlash(p.Path)):
		return p, fmt.Errorf("path %q is not one of its kind", p.Path)
	case err != nil || len(sum) != sha256.Size:
		return p, fmt.Errorf("%q is not a SHA-256", p.SHA256)
	case p.Bytes <= 0 || p.Rows <= 0 || p.Rows > PartRowsMax || p.MaxAt.Before(p.MinAt):
		return p, errors.New("its bytes, rows or times make no sense")
	}
	return p, nil
}

// append adds p to the manifest file and makes it durable. The file must end where m does: another writer is an error.
func (m *manifest) append(fsys disk.FS, name string, p Part) error {
	p.Seq, p.Prev = int64(len(m.parts))+1, m.head
	line, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if len(line) >= manifestLineMax || p.Seq > PartsMax {
		return errors.New("the manifest is full")
	}
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != m.size {
		return fmt.Errorf("%s was changed by another process", manifestName)
	}
	_, err = f.Write(append(line, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(m.size))
	}
	m.parts = append(m.parts, p)
	m.size += int64(len(line)) + 1
	m.head = sumHex(line)
	return nil
}
