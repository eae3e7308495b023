package models

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// pointerName is the one file of a registry that is not an artifact: the promoted digest on its first line and, where
// there is one, the digest promoted before it on the second. One file, so that one rename swaps both.
const (
	pointerName     = "promoted"
	pointerBytesMax = 256
)

// Registry is a folder of artifacts named by digest, one of which is promoted: it is the one that serves. Safe for
// concurrent use. Several processes may promote at once; the pointer is always whole and the last one wins.
type Registry struct {
	dir  string
	disk disk
	mu   sync.Mutex
}

// Entry is one artifact of a registry, as its manifest describes it.
type Entry struct {
	Digest   Digest
	Dir      string
	Manifest Manifest
	// Promoted marks the one that serves, Previous the one that Rollback would bring back.
	Promoted bool
	Previous bool
	// Err says why the manifest cannot be used. The sections are verified only when an artifact is opened.
	Err error
}

// OpenRegistry opens the registry in dir and makes the folder where there is none.
func OpenRegistry(dir string) (*Registry, error) {
	if dir == "" {
		return nil, errors.New("models: opening registry: no folder named")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("models: opening registry: %w", err)
	}
	return &Registry{dir: filepath.Clean(dir)}, nil
}

// List returns the artifacts, oldest first. A damaged one is listed with its error, not hidden.
func (r *Registry) List() ([]Entry, error) {
	p, err := readPointer(r.dir)
	if err != nil && !errors.Is(err, ErrNotPromoted) {
		return nil, err
	}
	folder, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("models: listing registry: %w", err)
	}
	if len(folder) > EntriesMax {
		return nil, fmt.Errorf("models: listing registry %s: %d entries, at most %d", r.dir, len(folder), EntriesMax)
	}
	var list []Entry
	for _, f := range folder {
		d := Digest(f.Name())
		if !d.valid() {
			continue
		}
		e := Entry{Digest: d, Dir: r.path(d), Promoted: d == p.promoted, Previous: d == p.previous}
		if m, err := peek(e.Dir); err != nil {
			e.Err = err
		} else if e.Manifest = *m; m.Digest != d {
			e.Err = fmt.Errorf("%w: folder %s holds artifact %s", ErrCorrupt, d, m.Digest)
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int {
		at, bt := a.Manifest.Provenance.CreatedAt, b.Manifest.Provenance.CreatedAt
		return cmp.Or(at.Compare(bt), cmp.Compare(a.Digest, b.Digest))
	})
	return list, nil
}

func (r *Registry) path(d Digest) string { return filepath.Join(r.dir, string(d)) }

func peek(dir string) (*Manifest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readManifest(root)
}

// open verifies the registered artifact d.
func (r *Registry) open(d Digest) (*Artifact, error) {
	if !d.valid() {
		return nil, fmt.Errorf("models: %.80q is not the digest of an artifact", d)
	}
	a, err := Open(r.path(d))
	if err == nil && a.Digest() != d {
		return nil, fmt.Errorf("%w: folder %s holds artifact %s", ErrCorrupt, d, a.Digest())
	}
	return a, err
}

// Add verifies the artifact in srcDir and copies it into the registry. One that is there already is left as it is.
func (r *Registry) Add(srcDir string) (Digest, error) {
	a, err := Open(srcDir)
	if err != nil {
		return "", fmt.Errorf("models: adding to the registry: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d := a.Digest()
	if _, err := os.Lstat(r.path(d)); err == nil {
		if _, err := r.open(d); err != nil {
			return "", fmt.Errorf("models: adding to the registry: it holds a damaged %s, remove that first: %w", d, err)
		}
		return d, nil
	}
	if _, err := r.disk.write(r.path(d), a.sections, a.manifest.Provenance); err != nil {
		return "", fmt.Errorf("models: adding to the registry: %w", err)
	}
	return d, nil
}

// Promote makes d the artifact that serves. Before the pointer moves, d is verified and load must accept it (that is
// where the golden rows are replayed); where either fails, what served keeps serving.
func (r *Registry) Promote(d Digest, load func(dir string) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := readPointer(r.dir)
	if err != nil && !errors.Is(err, ErrNotPromoted) {
		return err
	}
	if d != p.promoted {
		p = pointer{promoted: d, previous: p.promoted}
	}
	if err := r.point(p, load); err != nil {
		return fmt.Errorf("models: promoting %.80s: %w", d, err)
	}
	return nil
}

// Rollback promotes the artifact that served before the last Promote. It goes one step back and never forward: the
// artifact rolled back from must be promoted by name to serve again.
func (r *Registry) Rollback(load func(dir string) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := readPointer(r.dir)
	if err != nil {
		return err
	}
	if p.previous == "" {
		return ErrNoPrevious
	}
	if err := r.point(pointer{promoted: p.previous}, load); err != nil {
		return fmt.Errorf("models: rolling back to %s: %w", p.previous, err)
	}
	return nil
}

// Promoted returns the artifact that serves, or ErrNotPromoted.
func (r *Registry) Promoted() (Digest, error) {
	p, err := readPointer(r.dir)
	return p.promoted, err
}

// OpenPromoted reads and verifies the artifact that serves.
func (r *Registry) OpenPromoted() (*Artifact, error) {
	d, err := r.Promoted()
	if err != nil {
		return nil, err
	}
	return r.open(d)
}

// point verifies and loads the artifact that p promotes, then swaps the pointer.
func (r *Registry) point(p pointer, load func(dir string) error) error {
	if load == nil {
		return errors.New("no load function: an artifact must be tried before it serves")
	}
	if _, err := r.open(p.promoted); err != nil {
		return err
	}
	if err := load(r.path(p.promoted)); err != nil {
		return fmt.Errorf("loading it: %w", err)
	}
	temp, err := os.MkdirTemp(r.dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	file := filepath.Join(temp, pointerName)
	if err = r.disk.writeFile(file, p.text()); err == nil {
		err = r.disk.rename(file, filepath.Join(r.dir, pointerName))
	}
	return errors.Join(err, os.RemoveAll(temp))
}

// pointer is the content of a registry's pointer file.
type pointer struct{ promoted, previous Digest }

func (p pointer) text() []byte {
	text := string(p.promoted) + "\n"
	if p.previous != "" {
		text += string(p.previous) + "\n"
	}
	return []byte(text)
}

func readPointer(dir string) (pointer, error) {
	path := filepath.Join(dir, pointerName)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return pointer{}, ErrNotPromoted
	}
	if err != nil {
		return pointer{}, fmt.Errorf("models: reading the promoted pointer: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > pointerBytesMax {
		return pointer{}, fmt.Errorf("%w: %s is not a pointer file", ErrCorrupt, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return pointer{}, fmt.Errorf("models: reading the promoted pointer: %w", err)
	}
	return parsePointer(string(b))
}

func parsePointer(text string) (pointer, error) {
	var p pointer
	promoted, previous, _ := strings.Cut(text, "\n")
	p.promoted = Digest(promoted)
	p.previous = Digest(strings.TrimSuffix(previous, "\n"))
	if !p.promoted.valid() || (p.previous != "" && !p.previous.valid()) || string(p.text()) != text {
		return pointer{}, fmt.Errorf("%w: the promoted pointer holds %.80q", ErrCorrupt, text)
	}
	return p, nil
}

// Resolve returns the folder of the artifact that path means: path itself, or, where path is a registry, the promoted
// one. It looks at names only; Open verifies.
func Resolve(path string) (artifactDir string, err error) {
	if _, err := os.Stat(filepath.Join(path, manifestName)); err == nil {
		return filepath.Clean(path), nil
	}
	p, err := readPointer(path)
	if err == nil {
		return filepath.Join(path, string(p.promoted)), nil
	}
	if !errors.Is(err, ErrNotPromoted) {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("models: finding an artifact: %w", err)
	}
	return "", fmt.Errorf("models: %s is neither an artifact (no %s) nor a registry: %w", path, manifestName, err)
}
