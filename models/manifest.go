package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	manifestName = "manifest.json"
	digestPrefix = "tw1-"
	digestHex    = 32
)

// valid reports whether d has the form of a digest. It stands between a name from outside and a path.
func (d Digest) valid() bool {
	rest, ok := strings.CutPrefix(string(d), digestPrefix)
	return ok && len(rest) == digestHex && isHex(rest)
}

func isHex(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

// digestOf hashes the list of sections, which must be sorted by name.
func digestOf(sections []Section) Digest {
	h := sha256.New()
	for _, s := range sections {
		fmt.Fprintf(h, "%s %s %d\n", s.Name, s.SHA256, s.Bytes)
	}
	return Digest(digestPrefix + hex.EncodeToString(h.Sum(nil))[:digestHex])
}

// sectionName reports whether a section may be called name: [a-z0-9._-], no leading dot, not the manifest's own.
func sectionName(name string) bool {
	if name == "" || len(name) > SectionNameMax || name[0] == '.' || name == manifestName {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	})
}

// sectionOf describes the bytes of a section.
func sectionOf(name string, b []byte) Section {
	sum := sha256.Sum256(b)
	return Section{Name: name, SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(b))}
}

// encode writes the only form that parseManifest accepts, with the checksum filled in.
func (m *Manifest) encode() ([]byte, error) {
	m.Checksum = ""
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	m.Checksum = hex.EncodeToString(sum[:])
	if b, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// parseManifest reads a manifest and refuses everything that encode would not have written: another order or case of
// keys, spaces, a key twice. So no bit of the file can change unseen.
func parseManifest(b []byte) (*Manifest, error) {
	if len(b) > ManifestBytesMax {
		return nil, fmt.Errorf("%w: manifest is larger than %d bytes", ErrCorrupt, ManifestBytesMax)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%w: manifest is not JSON: %v", ErrCorrupt, err)
	}
	if head.Format > Format {
		return nil, fmt.Errorf("%w: format %d, this program knows %d", ErrNewerFormat, head.Format, Format)
	}
	m := new(Manifest)
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %v", ErrCorrupt, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: manifest goes on after its end", ErrCorrupt)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: manifest: %v", ErrCorrupt, err)
	}
	same := *m
	if again, err := same.encode(); err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: manifest does not match its checksum", ErrCorrupt)
	}
	return m, nil
}

// check holds a manifest against the limits and its digest.
func (m *Manifest) check() error {
	if m.Format != Format {
		return fmt.Errorf("format %d is not %d", m.Format, Format)
	}
	if len(m.Sections) == 0 || len(m.Sections) > SectionsMax {
		return fmt.Errorf("%d sections, want 1 to %d", len(m.Sections), SectionsMax)
	}
	var total int64
	for i, s := range m.Sections {
		switch {
		case !sectionName(s.Name):
			return fmt.Errorf("section name %.80q", s.Name)
		case i > 0 && m.Sections[i-1].Name >= s.Name:
			return fmt.Errorf("section %q is out of order", s.Name)
		case len(s.SHA256) != 2*sha256.Size || !isHex(s.SHA256):
			return fmt.Errorf("section %q has no SHA-256", s.Name)
		case s.Bytes < 0 || s.Bytes > SectionBytesMax:
			return fmt.Errorf("section %q of %d bytes, at most %d", s.Name, s.Bytes, SectionBytesMax)
		}
		total += s.Bytes
	}
	if total > ArtifactBytesMax {
		return fmt.Errorf("%d bytes, at most %d", total, ArtifactBytesMax)
	}
	if want := digestOf(m.Sections); m.Digest != want {
		return fmt.Errorf("digest %.80q, its sections make %s", m.Digest, want)
	}
	return nil
}

// newManifest describes sections. The time loses its zone and monotonic part, so that it reads back as written.
func newManifest(sections map[string][]byte, p Provenance) (*Manifest, error) {
	m := &Manifest{Format: Format, Provenance: p}
	m.Provenance.CreatedAt = p.CreatedAt.UTC().Round(0)
	for name, b := range sections {
		m.Sections = append(m.Sections, sectionOf(name, b))
	}
	slices.SortFunc(m.Sections, func(a, b Section) int { return strings.Compare(a.Name, b.Name) })
	m.Digest = digestOf(m.Sections)
	return m, m.check()
}
