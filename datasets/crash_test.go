package datasets

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

var (
	errKilled = errors.New("the process was killed")
	errDoubt  = errors.New("the disk will not say")
)

// mortal is the disk of a process that is killed at its n-th operation from now: that one is done in part or not at all, and
// nothing after it. The machine goes on, so nothing needs to be synced; locks go with the process, so they stay real.
type mortal struct {
	disk.OS
	left int
	dead bool
}

func (m *mortal) op() error {
	if m.left--; m.left < 0 {
		m.dead = true
	}
	if m.dead {
		return errKilled
	}
	return nil
}

func (m *mortal) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if err := m.op(); err != nil {
		return nil, err
	}
	f, err := m.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &mortalFile{f, m}, nil
}

func (m *mortal) MkdirAll(name string, perm fs.FileMode) error {
	if err := m.op(); err != nil {
		return err
	}
	return m.OS.MkdirAll(name, perm)
}

func (m *mortal) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := m.op(); err != nil {
		return nil, err
	}
	return m.OS.ReadDir(name)
}

func (m *mortal) Rename(from, to string) error {
	if err := m.op(); err != nil {
		return err
	}
	return m.OS.Rename(from, to)
}

func (m *mortal) Remove(name string) error {
	if err := m.op(); err != nil {
		return err
	}
	return m.OS.Remove(name)
}

func (m *mortal) SyncDir(string) error { return m.op() }

type mortalFile struct {
	disk.File
	m *mortal
}

func (f *mortalFile) Write(p []byte) (int, error) {
	if err := f.m.op(); err != nil {
		if f.m.left == -1 { // the write that it died in
			_, _ = f.File.Write(p[:len(p)/2])
		}
		return 0, err
	}
	return f.File.Write(p)
}

func (f *mortalFile) Sync() error { return f.m.op() }

func (f *mortalFile) Truncate(size int64) error {
	if err := f.m.op(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// doubtful is a disk that takes a line of the manifest, says that it could not, and cannot take it back.
type doubtful struct {
	disk.OS
	on bool
}

func (d *doubtful) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := d.OS.OpenFile(name, flag, perm)
	if err != nil || filepath.Base(name) != manifestName {
		return f, err
	}
	return &doubtfulFile{f, d}, nil
}

type doubtfulFile struct {
	disk.File
	d *doubtful
}

func (f *doubtfulFile) Sync() error {
	if f.d.on {
		return errDoubt
	}
	return f.File.Sync()
}

func (f *doubtfulFile) Truncate(size int64) error {
	if f.d.on {
		return errDoubt
	}
	return f.File.Truncate(size)
}

// flipping is a disk that flips a bit of every Parquet file on its way in.
type flipping struct {
	disk.OS
	on bool
}

func (d *flipping) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := d.OS.OpenFile(name, flag, perm)
	if err != nil || !d.on || flag&os.O_CREATE == 0 {
		return f, err
	}
	return &flippingFile{File: f}, nil
}

type flippingFile struct {
	disk.File
	n int64
}

// Write flips a bit of the file's hundredth byte; the writer never knows.
func (f *flippingFile) Write(p []byte) (int, error) {
	const at = 100
	kept := append([]byte(nil), p...)
	if f.n <= at && at < f.n+int64(len(p)) {
		kept[at-f.n] ^= 4
	}
	f.n += int64(len(p))
	return f.File.Write(kept)
}

var (
	_ disk.FS   = (*mortal)(nil)
	_ disk.FS   = (*flipping)(nil)
	_ io.Closer = (*mortalFile)(nil)
)
