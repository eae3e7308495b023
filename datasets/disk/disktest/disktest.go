// Package disktest is a disk in memory that can lose its power: of all that was written and not synced since, any part
// may be gone afterwards, down to single sectors.
//
// It knows as little of what is written as a disk does. What must be left after a crash is for the test to say.
package disktest

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// SectorBytes is what a disk writes whole or not at all.
const SectorBytes = 512

// ErrDead is the error of every operation of a process that was killed.
var ErrDead = errors.New("disktest: the process is dead")

// Disk is the hardware: it outlives processes, and what was synced outlives PowerLoss.
type Disk struct {
	mu        sync.Mutex
	root      *node
	locks     map[string]*Process
	processes []*Process
	// links are the changes of names that no folder's sync has made durable yet, in their order.
	links []*link
}

// New is an empty disk.
func New() *Disk {
	return &Disk{root: newFolder(), locks: map[string]*Process{}}
}

// node is a file or a folder: as programs see it, as it would be after losing all that is pending, and the changes
// between the two in their order.
type node struct {
	folder bool

	data, durable []byte
	pending       []change

	names, kept map[string]*node
}

// change is a write at an offset, or a truncation where bytes is nil.
type change struct {
	at    int64
	bytes []byte
}

// link is one change of a folder's names. A rename is two: the new name, and the end of the old one, whose made is the
// former. A crash may leave both names and never none.
type link struct {
	folder *node
	name   string
	node   *node // nil removes
	made   *link
	done   bool
}

func newFolder() *node {
	return &node{folder: true, names: map[string]*node{}, kept: map[string]*node{}}
}

// PowerLoss takes the power from the disk and every process on it. Of each pending change, a share of about keep is on the
// disk afterwards: 0 is the least that was promised, 1 all, as after a mere kill. All processes are dead.
func (d *Disk) PowerLoss(random *rand.Rand, keep float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.processes {
		p.dead = true
	}
	d.processes = nil
	clear(d.locks)
	keeps := func() bool { return random.Float64() < keep }
	for _, l := range d.links {
		if keeps() {
			l.commit()
		}
	}
	d.links = nil
	d.root.lose(keeps, map[*node]bool{})
}

// lose makes what is left of a node its only state.
func (n *node) lose(keeps func() bool, seen map[*node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if !n.folder {
		n.loseBytes(keeps)
		return
	}
	n.names = map[string]*node{}
	for _, name := range sortedNames(n.kept) {
		n.names[name] = n.kept[name]
		n.kept[name].lose(keeps, seen)
	}
}

// loseBytes keeps some sectors of each pending write. The file's length is what the last kept byte asks for, or, as on file
// systems that know the length before the bytes, all of it with zeros.
func (n *node) loseBytes(keeps func() bool) {
	b := n.durable
	for _, c := range n.pending {
		if c.bytes == nil {
			if keeps() {
				b = resize(b, c.at)
			}
			continue
		}
		if keeps() {
			b = resize(b, max(int64(len(b)), c.at+int64(len(c.bytes))))
		}
		for from := int64(0); from < int64(len(c.bytes)); {
			to := min(int64(len(c.bytes)), from+SectorBytes-(c.at+from)%SectorBytes)
			if keeps() {
				b = resize(b, max(int64(len(b)), c.at+to))
				copy(b[c.at+from:], c.bytes[from:to])
			}
			from = to
		}
	}
	n.durable, n.pending = b, nil
	n.data = slices.Clone(b)
}

// resize returns a copy of b with a length.
func resize(b []byte, size int64) []byte {
	out := make([]byte, size)
	copy(out, b)
	return out
}

// commit makes a change of names durable; the end of an old name brings the new one with it.
func (l *link) commit() {
	if l.done {
		return
	}
	l.done = true
	if l.made != nil {
		l.made.commit()
	}
	if l.node == nil {
		delete(l.folder.kept, l.name)
	} else {
		l.folder.kept[l.name] = l.node
	}
}

func sortedNames(m map[string]*node) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Process is the disk as one process sees it, until it dies. It implements disk.FS.
type Process struct {
	// Unsynced makes every sync a lie: the broken twin of a program that leaves them out.
	Unsynced bool

	d     *Disk
	dead  bool
	died  time.Time
	ops   int
	dieAt int
}

// Process starts one.
func (d *Disk) Process() *Process {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := &Process{d: d}
	d.processes = append(d.processes, p)
	return p
}

// Ops is how many operations the process has asked for that change the disk.
func (p *Process) Ops() int {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return p.ops
}

// DieAt makes the process die in its nth operation that changes the disk: a write is then half written, anything else
// not done.
func (p *Process) DieAt(n int) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.dieAt = n
}

// Kill ends the process as SIGKILL does: what it wrote is still there, its locks are not.
func (p *Process) Kill() {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.dead = true
	for name, owner := range p.d.locks {
		if owner == p {
			delete(p.d.locks, name)
		}
	}
}

// Dead reports whether the process has died.
func (p *Process) Dead() bool {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return p.dead
}

// DiedAt is when the process died in the operation that DieAt names; zero where it did not.
func (p *Process) DiedAt() time.Time {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return p.died
}

// step is the start of an operation that changes the disk. It needs the lock.
func (p *Process) step() error {
	if p.dead {
		return ErrDead
	}
	p.ops++
	if p.ops == p.dieAt {
		p.dead, p.died = true, time.Now()
		return ErrDead
	}
	return nil
}

// find walks to a node and the folder that it stands in; either may be nil.
func (p *Process) find(name string) (parent, n *node, base string) {
	n = p.d.root
	for part := range strings.SplitSeq(strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		if n == nil || !n.folder {
			return nil, nil, part
		}
		parent, base = n, part
		n = n.names[part]
	}
	return parent, n, base
}

func failure(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// OpenFile implements disk.FS.
func (p *Process) OpenFile(name string, flag int, _ fs.FileMode) (disk.File, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.dead {
		return nil, failure("open", name, ErrDead)
	}
	parent, n, base := p.find(name)
	switch {
	case n != nil && n.folder:
		return nil, failure("open", name, errors.New("it is a folder"))
	case n != nil && flag&os.O_EXCL != 0:
		return nil, failure("open", name, fs.ErrExist)
	case n == nil && (flag&os.O_CREATE == 0 || parent == nil):
		return nil, failure("open", name, fs.ErrNotExist)
	case n == nil:
		if err := p.step(); err != nil {
			return nil, failure("open", name, err)
		}
		n = &node{}
		p.d.relink(parent, &link{name: base, node: n})
	}
	f := &file{p: p, n: n, name: name, append: flag&os.O_APPEND != 0}
	if flag&os.O_TRUNC != 0 && len(n.data) > 0 {
		if err := f.resize(0); err != nil {
			return nil, failure("open", name, err)
		}
	}
	return f, nil
}

// relink changes a folder's names, for now in memory alone.
func (d *Disk) relink(n *node, l *link) {
	l.folder = n
	if l.node == nil {
		delete(n.names, l.name)
	} else {
		n.names[l.name] = l.node
	}
	d.links = append(d.links, l)
}

// Stat implements disk.FS.
func (p *Process) Stat(name string) (fs.FileInfo, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.dead {
		return nil, failure("stat", name, ErrDead)
	}
	_, n, base := p.find(name)
	if n == nil {
		return nil, failure("stat", name, fs.ErrNotExist)
	}
	return info{base, n.folder, int64(len(n.data))}, nil
}

// ReadDir implements disk.FS.
func (p *Process) ReadDir(name string) ([]fs.DirEntry, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.dead {
		return nil, failure("open", name, ErrDead)
	}
	_, n, _ := p.find(name)
	if n == nil || !n.folder {
		return nil, failure("open", name, fs.ErrNotExist)
	}
	var entries []fs.DirEntry
	for _, name := range sortedNames(n.names) {
		c := n.names[name]
		entries = append(entries, fs.FileInfoToDirEntry(info{name, c.folder, int64(len(c.data))}))
	}
	return entries, nil
}

// MkdirAll implements disk.FS.
func (p *Process) MkdirAll(name string, _ fs.FileMode) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.dead {
		return failure("mkdir", name, ErrDead)
	}
	n := p.d.root
	for part := range strings.SplitSeq(strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/"), "/") {
		if part == "." || part == "" {
			continue
		}
		next := n.names[part]
		if next == nil {
			if err := p.step(); err != nil {
				return failure("mkdir", name, err)
			}
			next = newFolder()
			p.d.relink(n, &link{name: part, node: next})
		}
		if !next.folder {
			return failure("mkdir", name, errors.New("it is a file"))
		}
		n = next
	}
	return nil
}

// Rename implements disk.FS.
func (p *Process) Rename(from, to string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	source, n, base := p.find(from)
	target, _, name := p.find(to)
	if n == nil || target == nil {
		return failure("rename", from, fs.ErrNotExist)
	}
	if err := p.step(); err != nil {
		return failure("rename", from, err)
	}
	if target.names[name] == n {
		return nil // it is its name already
	}
	made := &link{name: name, node: n}
	p.d.relink(target, made)
	p.d.relink(source, &link{name: base, made: made})
	return nil
}

// Remove implements disk.FS.
func (p *Process) Remove(name string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	parent, n, base := p.find(name)
	if n == nil {
		return failure("remove", name, fs.ErrNotExist)
	}
	if n.folder && len(n.names) > 0 {
		return failure("remove", name, errors.New("the folder is not empty"))
	}
	if err := p.step(); err != nil {
		return failure("remove", name, err)
	}
	p.d.relink(parent, &link{name: base})
	return nil
}

// SyncDir implements disk.FS.
func (p *Process) SyncDir(name string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	_, n, _ := p.find(name)
	if n == nil || !n.folder {
		return failure("sync", name, fs.ErrNotExist)
	}
	if err := p.step(); err != nil {
		return failure("sync", name, err)
	}
	if p.Unsynced {
		return nil
	}
	for _, l := range p.d.links {
		if l.folder == n {
			l.commit()
		}
	}
	p.d.links = slices.DeleteFunc(p.d.links, func(l *link) bool { return l.done })
	return nil
}

// Lock implements disk.FS.
func (p *Process) Lock(name string) (io.Closer, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.dead {
		return nil, failure("lock", name, ErrDead)
	}
	if owner := p.d.locks[name]; owner != nil && !owner.dead {
		return nil, &disk.InUseError{Name: name}
	}
	p.d.locks[name] = p
	return unlock{p, name}, nil
}

type unlock struct {
	p    *Process
	name string
}

func (u unlock) Close() error {
	u.p.d.mu.Lock()
	defer u.p.d.mu.Unlock()
	if u.p.d.locks[u.name] == u.p {
		delete(u.p.d.locks, u.name)
	}
	return nil
}

// info describes a node. Nothing here depends on times or modes.
type info struct {
	name   string
	folder bool
	size   int64
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.folder }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	if i.folder {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
