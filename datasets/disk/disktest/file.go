package disktest

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
)

// file is an open file of a process.
type file struct {
	p      *Process
	n      *node
	name   string
	append bool
	off    int64
	closed bool
}

// enter takes the disk's lock for an operation; the returned function gives it back.
func (f *file) enter(op string) (func(), error) {
	f.p.d.mu.Lock()
	leave := f.p.d.mu.Unlock
	switch {
	case f.closed:
		return leave, failure(op, f.name, fs.ErrClosed)
	case f.p.dead:
		return leave, failure(op, f.name, ErrDead)
	}
	return leave, nil
}

// Read implements disk.File.
func (f *file) Read(b []byte) (int, error) {
	leave, err := f.enter("read")
	defer leave()
	if err != nil {
		return 0, err
	}
	n, err := f.readAt(b, f.off)
	f.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt implements disk.File.
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	leave, err := f.enter("read")
	defer leave()
	if err != nil {
		return 0, err
	}
	return f.readAt(b, off)
}

func (f *file) readAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements disk.File. A process that dies in it has written half.
func (f *file) Write(b []byte) (int, error) {
	leave, err := f.enter("write")
	defer leave()
	if err != nil || len(b) == 0 {
		return 0, err
	}
	err = f.p.step()
	if err != nil {
		b = b[:len(b)/2]
		err = failure("write", f.name, err)
	}
	if f.append {
		f.off = int64(len(f.n.data))
	}
	if end := f.off + int64(len(b)); end > int64(len(f.n.data)) {
		f.n.data = slices.Grow(f.n.data, int(end)-len(f.n.data))[:end]
	}
	copy(f.n.data[f.off:], b)
	f.n.pending = append(f.n.pending, change{f.off, slices.Clone(b)})
	f.off += int64(len(b))
	return len(b), err
}

// Seek implements disk.File.
func (f *file) Seek(off int64, whence int) (int64, error) {
	leave, err := f.enter("seek")
	defer leave()
	if err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekCurrent:
		off += f.off
	case io.SeekEnd:
		off += int64(len(f.n.data))
	}
	if off < 0 {
		return 0, failure("seek", f.name, errors.New("before the start"))
	}
	f.off = off
	return off, nil
}

// Stat implements disk.File.
func (f *file) Stat() (fs.FileInfo, error) {
	leave, err := f.enter("stat")
	defer leave()
	return info{filepath.Base(f.name), false, int64(len(f.n.data))}, err
}

// Truncate implements disk.File.
func (f *file) Truncate(size int64) error {
	leave, err := f.enter("truncate")
	defer leave()
	if err != nil {
		return err
	}
	return f.resize(size)
}

func (f *file) resize(size int64) error {
	if err := f.p.step(); err != nil {
		return failure("truncate", f.name, err)
	}
	f.n.data = resize(f.n.data, size)
	f.n.pending = append(f.n.pending, change{at: size})
	return nil
}

// Sync implements disk.File.
func (f *file) Sync() error {
	leave, err := f.enter("sync")
	defer leave()
	if err != nil {
		return err
	}
	if err := f.p.step(); err != nil {
		return failure("sync", f.name, err)
	}
	if !f.p.Unsynced {
		f.n.durable, f.n.pending = slices.Clone(f.n.data), nil
	}
	return nil
}

// Close implements disk.File.
func (f *file) Close() error {
	leave, err := f.enter("close")
	defer leave()
	f.closed = true
	return err
}
