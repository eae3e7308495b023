package datasets

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
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
	// PartsMax is the number of lines of one log's manifest.
	PartsMax = 1 << 20
	// PartRowsMax is the number of rows of one part.
	PartRowsMax = 100_000
	// ReplacesMax is the number of lines that one line may supersede; it keeps a line short.
	ReplacesMax = 256
	// manifestLineMax is the length of one line of the manifest.
	manifestLineMax = 4096
)

const manifestName = "manifest.jsonl"

// Part is one line of the manifest: it vouches for one file. Prev is the SHA-256 of the line before (its newline left
// out), empty in the first, so that no line can be changed without changing all that follow.
type Part struct {
	Seq    int64     `json:"seq"`
	Kind   Kind      `json:"kind"`
	Path   string    `json:"path,omitempty"`
	SHA256 string    `json:"sha256,omitempty"`
	Bytes  int64     `json:"bytes,omitempty"`
	Rows   int64     `json:"rows,omitempty"`
	MinAt  time.Time `json:"min_at,omitzero"`
	MaxAt  time.Time `json:"max_at,omitzero"`
	// Replaces are the lines whose rows this part holds now, in the order of their rows. A line that replaces others and
	// has no file drops them.
	Replaces []int64 `json:"replaces,omitempty"`
	Prev     string  `json:"prev"`
}

// hour is where a part belongs.
func (p *Part) hour() hourOf { return hourOf{p.Kind, p.MinAt.Truncate(time.Hour).Unix()} }

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

// manifest is what manifest.jsonl says. Of a line that was superseded it keeps what tells its file when that is seen
// again, and no more.
type manifest struct {
	lines int64
	live  map[int64]*Part
	// hours holds the live lines of each hour in the order of their rows.
	hours map[hourOf][]int64
	known map[string]vouched
	// size counts the bytes of whole lines, torn those of a last line that a crash cut off.
	size, torn int64
	// head is the SHA-256 of the last line.
	head string
	// doubt says that a line could not be appended, and that nobody knows whether the disk has it all the same. A line that
	// is appended in its place ends it; until then no file may go that the line would have made the only one of its rows.
	doubt bool
}

// hourOf is a kind and an hour, in seconds since 1970.
type hourOf struct {
	kind  Kind
	start int64
}

// vouched is what is kept of every path.
type vouched struct {
	seq    int64
	sha256 [sha256.Size]byte
}

func newManifest() manifest {
	return manifest{live: map[int64]*Part{}, hours: map[hourOf][]int64{}, known: map[string]vouched{}}
}

func readManifest(r io.Reader) (manifest, error) {
	m := newManifest()
	in := bufio.NewReaderSize(r, manifestLineMax+1)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			m.torn = int64(len(line))
			return m, nil
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			err = fmt.Errorf("it is longer than %d bytes", manifestLineMax)
		} else if err == nil && m.lines == PartsMax {
			err = fmt.Errorf("there are more than %d lines", PartsMax)
		}
		var p Part
		if err == nil {
			p, err = m.parse(line[:len(line)-1])
		}
		if err != nil {
			holes := bytes.IndexByte(line, 0) >= 0 // before Peek, which may read over the line
			if _, more := in.Peek(1); holes && errors.Is(more, io.EOF) {
				// A power loss kept the end of the line and not its beginning: we never write a zero byte, a disk does.
				m.torn = int64(len(line))
				return m, nil
			}
			return m, &VerifyError{Path: manifestName, Line: m.lines + 1, Err: err}
		}
		m.add(p, line)
	}
}

func sumHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// parse reads the next line of the manifest. It must be exactly what we would write: JSON has many ways to say the same
// thing, and this one has one.
func (m *manifest) parse(line []byte) (Part, error) {
	var p Part
	if err := json.Unmarshal(line, &p); err != nil {
		return p, err
	}
	canonical, err := json.Marshal(p)
	switch {
	case err != nil:
		return p, err
	case !bytes.Equal(line, canonical):
		return p, errors.New("it is not in canonical form")
	case p.Seq != m.lines+1:
		return p, fmt.Errorf("its number is %d, want %d", p.Seq, m.lines+1)
	case p.Prev != m.head:
		return p, errors.New("it does not continue the line before: one of them was altered")
	}
	return p, m.check(&p)
}

// check holds what a line says against itself and the lines before it.
func (m *manifest) check(p *Part) error {
	if p.Kind != KindRounds && p.Kind != KindFeedback {
		return fmt.Errorf("kind %q is unknown", p.Kind)
	}
	if len(p.Replaces) > ReplacesMax {
		return fmt.Errorf("it replaces %d lines, at most %d can be", len(p.Replaces), ReplacesMax)
	}
	for _, seq := range p.Replaces {
		switch old := m.live[seq]; {
		case seq < 1 || seq > m.lines:
			return fmt.Errorf("it replaces line %d, which is not there", seq)
		case old == nil:
			return fmt.Errorf("it replaces line %d, which stands for no file any more", seq)
		case old.Kind != p.Kind:
			return fmt.Errorf("it replaces line %d, which is of kind %s", seq, old.Kind)
		}
	}
	if p.Path == "" {
		return p.checkDrop()
	}
	sum, err := hex.DecodeString(p.SHA256)
	switch {
	case !strings.HasPrefix(p.Path, string(p.Kind)+"/") || path.Clean(p.Path) != p.Path || !filepath.IsLocal(filepath.FromSlash(p.Path)):
		return fmt.Errorf("path %q is not one of its kind", p.Path)
	case err != nil || len(sum) != sha256.Size:
		return fmt.Errorf("%q is not a SHA-256", p.SHA256)
	case p.Bytes <= 0 || p.Rows <= 0 || p.Rows > PartRowsMax || p.MaxAt.Before(p.MinAt):
		return errors.New("its bytes, rows or times make no sense")
	case m.known[p.Path].seq != 0:
		return fmt.Errorf("line %d has vouched for %s before", m.known[p.Path].seq, p.Path)
	case len(p.Replaces) > 0:
		return m.checkMerged(p)
	}
	return nil
}

// checkDrop: a line without a file says nothing of one. Its numbers rise, so that there is one way to write it.
func (p *Part) checkDrop() error {
	if p.SHA256 != "" || p.Bytes != 0 || p.Rows != 0 || !p.MinAt.IsZero() || !p.MaxAt.IsZero() || len(p.Replaces) == 0 {
		return errors.New("it has neither a file nor lines to drop")
	}
	for i, seq := range p.Replaces[1:] {
		if seq <= p.Replaces[i] {
			return errors.New("the lines that it drops are not in order")
		}
	}
	return nil
}

// checkMerged: what replaces parts stands where they stood and holds neither less nor more.
func (m *manifest) checkMerged(p *Part) error {
	all := m.hours[p.hour()]
	i := slices.Index(all, p.Replaces[0])
	if i < 0 || len(p.Replaces) > len(all)-i || !slices.Equal(all[i:i+len(p.Replaces)], p.Replaces) {
		return fmt.Errorf("lines %v do not follow each other in its hour", p.Replaces)
	}
	first := m.live[p.Replaces[0]]
	rows, minAt, maxAt := int64(0), first.MinAt, first.MaxAt
	for _, seq := range p.Replaces {
		old := m.live[seq]
		rows += old.Rows
		minAt, maxAt = earlier(minAt, old.MinAt), later(maxAt, old.MaxAt)
	}
	if rows != p.Rows || !minAt.Equal(p.MinAt) || !maxAt.Equal(p.MaxAt) {
		return fmt.Errorf("it holds %d rows from %v to %v, the parts that it replaces %d from %v to %v", p.Rows, p.MinAt, p.MaxAt, rows, minAt, maxAt)
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// add takes over a line that was checked. line ends with its newline.
func (m *manifest) add(p Part, line []byte) {
	m.lines++
	m.size += int64(len(line))
	m.head = sumHex(line[:len(line)-1])
	at := -1
	for _, seq := range p.Replaces {
		key := m.live[seq].hour()
		at = slices.Index(m.hours[key], seq)
		if m.hours[key] = slices.Delete(m.hours[key], at, at+1); len(m.hours[key]) == 0 {
			delete(m.hours, key)
		}
		delete(m.live, seq)
	}
	if p.Path == "" {
		return
	}
	v := vouched{seq: p.Seq}
	_, _ = hex.Decode(v.sha256[:], []byte(p.SHA256)) // check has
	m.known[p.Path] = v
	m.live[p.Seq] = &p
	if at < 0 {
		at = len(m.hours[p.hour()])
	}
	m.hours[p.hour()] = slices.Insert(m.hours[p.hour()], at, p.Seq)
}

// parts lists the live lines: hour by hour, rounds before feedback, and within an hour in the order of their rows.
func (m *manifest) parts() []Part {
	hours := slices.SortedFunc(maps.Keys(m.hours), func(a, b hourOf) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.kind, a.kind))
	})
	all := make([]Part, 0, len(m.live))
	for _, h := range hours {
		for _, seq := range m.hours[h] {
			all = append(all, *m.live[seq])
		}
	}
	return all
}

// holds reports whether the manifest vouches for p's file or ever did, and in which line.
func (m *manifest) holds(p *Part) (seq int64, ok bool) {
	v, ok := m.known[p.Path]
	return v.seq, ok && hex.EncodeToString(v.sha256[:]) == p.SHA256
}

// append adds p to the manifest file, makes it durable and returns it as it stands there. The file must end where m
// does: another writer is an error.
func (m *manifest) append(fsys disk.FS, name string, p Part) (Part, error) {
	p.Seq, p.Prev = m.lines+1, m.head
	line, err := json.Marshal(p)
	if err != nil {
		return p, err
	}
	line = append(line, '\n')
	if len(line) > manifestLineMax || p.Seq > PartsMax {
		return p, errors.New("the manifest is full")
	}
	if err := m.check(&p); err != nil { // what it would not take when it is opened again
		return p, err
	}
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return p, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return p, err
	}
	if info.Size() != m.size {
		return p, fmt.Errorf("%s was changed by another process", manifestName)
	}
	m.doubt = true
	_, err = f.Write(line)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return p, errors.Join(err, f.Truncate(m.size))
	}
	m.doubt = false
	m.add(p, line)
	return p, nil
}
