package models

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// Artifact is an opened artifact. Every byte of it was read and verified once, and is what Section returns: a file
// that changes later changes nothing here.
type Artifact struct {
	manifest Manifest
	sections map[string][]byte
}

// Digest returns the artifact's name.
func (a *Artifact) Digest() Digest { return a.manifest.Digest }

// Manifest returns what the artifact says of itself. The caller may keep it and must not change its slices.
func (a *Artifact) Manifest() Manifest { return a.manifest }

// Section returns the verified bytes of a section. They are shared: the caller must not change them.
func (a *Artifact) Section(name string) ([]byte, error) {
	b, ok := a.sections[name]
	if !ok {
		return nil, fmt.Errorf("models: artifact %s has no section %q", a.Digest(), name)
	}
	return b, nil
}

// Write makes the folder dir an artifact of the given sections and returns its name. The folder must not exist, and
// it appears whole or not at all: a crash leaves at most a hidden temporary folder beside it.
func Write(dir string, sections map[string][]byte, p Provenance) (Digest, error) {
	return disk{}.write(dir, sections, p)
}

func (d disk) write(dir string, sections map[string][]byte, p Provenance) (Digest, error) {
	dir = filepath.Clean(dir)
	m, err := newManifest(sections, p)
	if err != nil {
		return "", fmt.Errorf("models: writing %s: %w", dir, err)
	}
	encoded, err := m.encode()
	if err != nil {
		return "", fmt.Errorf("models: writing %s: %w", dir, err)
	}
	if _, err := parseManifest(encoded); err != nil {
		return "", fmt.Errorf("models: writing %s: the provenance cannot be read back: %w", dir, err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("models: writing %s: %w", dir, errors.Join(fs.ErrExist, err))
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("models: writing %s: %w", dir, err)
	}
	temp, err := os.MkdirTemp(parent, tempPrefix+"*")
	if err != nil {
		return "", fmt.Errorf("models: writing %s: %w", dir, err)
	}
	if err = d.fill(temp, sections, encoded); err == nil {
		err = d.rename(temp, dir)
	}
	if err != nil {
		return "", fmt.Errorf("models: writing %s: %w", dir, errors.Join(err, os.RemoveAll(temp)))
	}
	return m.Digest, nil
}

// fill writes an artifact's files into a folder that exists and makes them durable.
func (d disk) fill(temp string, sections map[string][]byte, manifest []byte) error {
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		if err := d.writeFile(filepath.Join(temp, name), sections[name]); err != nil {
			return err
		}
	}
	if err := d.writeFile(filepath.Join(temp, manifestName), manifest); err != nil {
		return err
	}
	return d.sync(temp)
}

// bundled is the default router, an artifact as any other (see trainer/DESIGN.md for the command that made it).
//
//go:embed standard
var bundled embed.FS

// Default returns the artifact that the program carries: what may be expected of arms that nobody has scored, by their
// tiers.
func Default() (*Artifact, error) {
	b, err := bundled.ReadFile(path.Join("standard", manifestName))
	if err != nil {
		return nil, fmt.Errorf("models: the bundled artifact: %w", err)
	}
	m, err := parseManifest(b)
	if err != nil {
		return nil, fmt.Errorf("models: the bundled artifact: %w", err)
	}
	a := &Artifact{manifest: *m, sections: make(map[string][]byte, len(m.Sections))}
	for _, s := range m.Sections {
		b, err := bundled.ReadFile(path.Join("standard", s.Name))
		if err == nil && sectionOf(s.Name, b) != s {
			err = fmt.Errorf("%w: section %q does not match its SHA-256", ErrCorrupt, s.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("models: the bundled artifact: %w", err)
		}
		a.sections[s.Name] = b
	}
	return a, nil
}

// Open reads and verifies the artifact in dir. Damage of any kind is ErrCorrupt, an artifact from the future
// ErrNewerFormat.
func Open(dir string) (*Artifact, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("models: opening artifact: %w", err)
	}
	defer root.Close()
	m, err := readManifest(root)
	if err != nil {
		return nil, fmt.Errorf("models: opening artifact %s: %w", dir, err)
	}
	a := &Artifact{manifest: *m, sections: make(map[string][]byte, len(m.Sections))}
	if err := noStrangers(root, m); err != nil {
		return nil, fmt.Errorf("models: opening artifact %s: %w", dir, err)
	}
	for _, s := range m.Sections {
		b, err := readFile(root, s.Name, s.Bytes)
		if err == nil && sectionOf(s.Name, b) != s {
			err = fmt.Errorf("%w: section %q does not match its SHA-256", ErrCorrupt, s.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("models: opening artifact %s: %w", dir, err)
		}
		a.sections[s.Name] = b
	}
	return a, nil
}

func readManifest(root *os.Root) (*Manifest, error) {
	b, err := readFile(root, manifestName, -1)
	if err != nil {
		return nil, err
	}
	return parseManifest(b)
}

// noStrangers refuses files that the manifest does not name. Nobody vouches for them, and code might read them.
func noStrangers(root *os.Root, m *Manifest) error {
	folder, err := root.Open(".")
	if err != nil {
		return err
	}
	defer folder.Close()
	// Two more than a whole artifact may have: enough to see that there is one too many.
	names, err := folder.Readdirnames(SectionsMax + 2)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, name := range names {
		known := name == manifestName || slices.ContainsFunc(m.Sections, func(s Section) bool { return s.Name == name })
		if !known {
			return fmt.Errorf("%w: file %.80q is not in the manifest", ErrCorrupt, name)
		}
	}
	return nil
}

// readFile reads a regular file of exactly want bytes, or, where want is negative, one of at most ManifestBytesMax.
func readFile(root *os.Root, name string, want int64) ([]byte, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: file %q is missing", ErrCorrupt, name)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %q is not a regular file", ErrCorrupt, name)
	case want >= 0 && info.Size() != want:
		return nil, fmt.Errorf("%w: section %q has %d bytes, the manifest says %d", ErrCorrupt, name, info.Size(), want)
	case want < 0 && info.Size() > ManifestBytesMax:
		return nil, fmt.Errorf("%w: manifest is larger than %d bytes", ErrCorrupt, ManifestBytesMax)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("%w: reading %q: %v", ErrCorrupt, name, err)
	}
	return b, nil
}
