// Package disk is the handful of file operations that everything durable is made of, behind one interface: so that a
// test can lose the power at any of them, and see what is left (see disktest).
//
// It is no virtual file system. What nobody promises to keep is read and written through package os.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// FS is a file system. Names are those of package os. Nothing is durable until it was synced: bytes by File.Sync, and
// names (of what was made, renamed or removed) by SyncDir of the folder that they stand in.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	MkdirAll(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(name string) error
	// Lock takes a file for this process, making it where it is missing. The lock goes with the process, however it ends,
	// so a crash leaves none behind. Where another holds it the error is an *InUseError.
	Lock(name string) (io.Closer, error)
}

// File is an open file of an FS.
type File interface {
	io.ReadWriteCloser
	io.ReaderAt
	io.Seeker
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

// InUseError says that another process holds a lock.
type InUseError struct {
	Name string
	// PID is the other process; 0 where it could not be read.
	PID int
}

// Error names the other process.
func (e *InUseError) Error() string {
	return fmt.Sprintf("disk: %s is in use by process %d", e.Name, e.PID)
}

// OS is the machine's file system.
type OS struct{}

// OpenFile is os.OpenFile.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not a File that holds a nil *os.File
	}
	return f, nil
}

// Stat is os.Stat.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// ReadDir is os.ReadDir.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// MkdirAll is os.MkdirAll.
func (OS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }

// Rename is os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir makes a folder's names durable. Windows has no such call.
func (OS) SyncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A lock that is held is asked for every lockPause until lockPatience is over. The lock of a process that was killed while it started
// another is held until that one has come from fork(2) to exec(2): its successor may be here first.
const (
	lockPatience = 2 * time.Second
	lockPause    = 10 * time.Millisecond
)

// Lock is flock(2); the file holds the process's number, for people and for InUseError.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for until := time.Now().Add(lockPatience); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(until); {
		time.Sleep(lockPause)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		text := make([]byte, 32)
		n, _ := f.ReadAt(text, 0)
		_ = f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("disk: locking %s: %w", name, err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
		return nil, &InUseError{Name: name, PID: pid}
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// MakeFolder makes a folder durable, with the names of all its parents up to those in top, which is one of them. That a
// folder is there already is no reason to skip that: a process that was killed may have made it and not come to syncing
// it. Above a parent that may not be read nothing is ours to sync.
func MakeFolder(fsys FS, top, dir string) error {
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	top = filepath.Clean(top)
	for d := filepath.Clean(dir); d != top && d != filepath.Dir(d); {
		d = filepath.Dir(d)
		if err := fsys.SyncDir(d); errors.Is(err, fs.ErrPermission) {
			break
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Create makes a file that nothing else can be: what stands under its name, the rest of a crash, is removed and never
// written over, because after a crash in a rename it may be the very file that was renamed.
func Create(fsys FS, name string, perm fs.FileMode) (File, error) {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
}

// ReadFile returns the whole of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}
