package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// checkpointFormat is the version of the file. One that is not known is refused and not guessed at.
const checkpointFormat = 1

// ErrDamaged says that a checkpoint is not as it was written. What was spent is then not known, and a ledger that does
// not know it must not start at nothing by itself.
var ErrDamaged = errors.New("ledger: the checkpoint is damaged")

// Checkpoint is a file with the sums of all rounds up to a sequence of the journal, and what they would be with the
// segments behind it. One goroutine uses it.
type Checkpoint struct {
	fs      disk.FS
	path    string
	through uint64
	sums    Sums
	// owed is the end of the stretch that could not be written; it comes before any later one.
	owed uint64
}

// checkpointFile is the file: what it says, and the SHA-256 of those bytes.
type checkpointFile struct {
	SHA256 string          `json:"sha256"`
	Books  json.RawMessage `json:"books"`
}

type checkpointBooks struct {
	Format   int               `json:"format"`
	Through  uint64            `json:"through"`
	Accounts map[AccountID]Sum `json:"accounts"`
}

// OpenCheckpoint reads a checkpoint of a file system, nil for the machine's. A file that is missing is an empty one; one that does not verify is ErrDamaged.
func OpenCheckpoint(fsys disk.FS, path string) (*Checkpoint, error) {
	if fsys == nil {
		fsys = disk.OS{}
	}
	c := &Checkpoint{fs: fsys, path: path}
	text, err := disk.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: reading the checkpoint: %w", err)
	}
	err = c.parse(text)
	if other := formatError(0); errors.As(err, &other) {
		return nil, fmt.Errorf("ledger: %s: %w; start a program that does, and leave the file where it is: it is whole, and says what was spent", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w; restore it from a backup, or move it away to begin with what the journal still holds",
			ErrDamaged, path, err)
	}
	return c, nil
}

// formatError says that a file is as it was written, by a program of another version. It is not damaged: whoever moved it away
// would lose what it says.
type formatError int

func (e formatError) Error() string {
	return fmt.Sprintf("its format is %d, and this program knows %d", int(e), checkpointFormat)
}

func (c *Checkpoint) parse(text []byte) error {
	var file checkpointFile
	if err := json.Unmarshal(text, &file); err != nil {
		return err
	}
	if got := digest(file.Books); got != file.SHA256 {
		return fmt.Errorf("its SHA-256 is %s, it was written with %q", got, file.SHA256)
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(file.Books, &version); err != nil {
		return err
	}
	if version.Format != checkpointFormat { // before the rest is read, which may be of another form
		return formatError(version.Format)
	}
	var books checkpointBooks
	if err := json.Unmarshal(file.Books, &books); err != nil {
		return err
	}
	for id, sum := range books.Accounts {
		if sum.Settled < 0 {
			return fmt.Errorf("account %s has settled %s USD", id, sum.Settled)
		}
	}
	c.through, c.sums.accounts = books.Through, books.Accounts
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Through is the last sequence of the journal that the sums cover.
func (c *Checkpoint) Through() uint64 { return c.through }

// Sums returns a copy of what is settled.
func (c *Checkpoint) Sums() Sums { return c.sums.Clone() }

// Advance adds what book books, and has written it to the disk when it returns nil: what the sums were made from may
// then be deleted. A stretch of the journal that is covered already is left out, so that handing it in twice, as after a
// crash, books it once. Stretches come in the order of the journal. On an error nothing is changed, and later stretches are
// refused until that one has been booked: a sum with a hole in it looks like any other.
func (c *Checkpoint) Advance(through uint64, book func(*Sums)) error {
	if through <= c.through {
		return nil
	}
	if c.owed != 0 && through > c.owed {
		return fmt.Errorf("ledger: the journal through %d is not booked yet", c.owed)
	}
	next := Checkpoint{fs: c.fs, path: c.path, through: through, sums: c.sums.Clone()}
	book(&next.sums)
	if err := next.write(); err != nil {
		c.owed = through
		return fmt.Errorf("ledger: writing the checkpoint: %w", err)
	}
	*c = next
	return nil
}

// write replaces the file: written aside, synced, renamed, and the name synced. A crash leaves the old one or the new.
func (c *Checkpoint) write() error {
	var file checkpointFile
	var err error
	file.Books, err = json.Marshal(checkpointBooks{Format: checkpointFormat, Through: c.through, Accounts: c.sums.accounts})
	if err != nil {
		return err
	}
	file.SHA256 = digest(file.Books)
	text, err := json.Marshal(file)
	if err != nil {
		return err
	}
	aside := c.path + ".new"
	f, err := disk.Create(c.fs, aside, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, c.fs.Remove(aside))
	}
	if err := c.fs.Rename(aside, c.path); err != nil {
		return err
	}
	return c.fs.SyncDir(filepath.Dir(c.path))
}
