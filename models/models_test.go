package models

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func small() map[string][]byte {
	return map[string][]byte{
		"arms.json":   []byte(`["sim/cheap","sim/strong"]`),
		"heads.bin":   {0, 1, 2, 250, 251, 252, 253, 254, 255},
		"golden.json": []byte("[]"),
		"empty":       {},
	}
}

var day = time.Date(2026, 11, 23, 12, 30, 0, 123456789, time.FixedZone("CET", 3600))

func provenance() Provenance {
	return Provenance{CreatedAt: day, Program: "tradewind test", Seed: 7,
		Sources: []Source{{Name: "made up <&> ✓", Rows: 10, Prompts: 5}}, Notices: []string{"none"}}
}

func write(t testing.TB, dir string, sections map[string][]byte) Digest {
	t.Helper()
	d, err := Write(dir, sections, provenance())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWriteThenOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "artifact")
	d := write(t, dir+"/", small())
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Digest(); got != d || !d.valid() {
		t.Errorf("Digest() = %q, Write returned %q", got, d)
	}
	for name, want := range small() {
		got, err := a.Section(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("Section(%q) = %q, %v, want %q", name, got, err, want)
		}
	}
	if _, err := a.Section("heads"); err == nil {
		t.Error("Section of a name that is not there gave no error")
	}
	m := a.Manifest()
	if !m.Provenance.CreatedAt.Equal(day) || !reflect.DeepEqual(m.Provenance.Sources, provenance().Sources) {
		t.Errorf("Provenance = %+v, want that of %+v", m.Provenance, provenance())
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*"))
	if len(left) != 0 {
		t.Errorf("temporary files left: %q", left)
	}
}

// The digest is a promise across versions: this one was computed with Python's hashlib from the
// sorted lines "name sha256 size".
func TestDigestIsOfSectionsOnly(t *testing.T) {
	d1 := write(t, filepath.Join(t.TempDir(), "x"), small())
	d2, err := Write(filepath.Join(t.TempDir(), "y"), small(), Provenance{Program: "other", CreatedAt: day.AddDate(1, 0, 0)})
	if err != nil || d1 != d2 {
		t.Errorf("digests of equal sections: %s and %s, %v", d1, d2, err)
	}
	const want = "tw1-77c82a99b461894606c5bdedddea1928"
	if d1 != want {
		t.Errorf("digest = %s, want %s", d1, want)
	}
	for name := range small() {
		other := small()
		other[name] = append(other[name], 'x')
		if d := write(t, filepath.Join(t.TempDir(), "z"), other); d == d1 {
			t.Errorf("digest does not depend on section %q", name)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, name := range []string{"", "manifest.json", ".hidden", "..", "a/b", `a\b`, "A", "a b", "ü", strings.Repeat("a", SectionNameMax+1)} {
		dir := filepath.Join(t.TempDir(), "x")
		if _, err := Write(dir, map[string][]byte{name: nil}, provenance()); err == nil {
			t.Errorf("section name %q was accepted", name)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("section name %q: a folder was left", name)
		}
	}
	many := map[string][]byte{}
	for i := range SectionsMax + 1 {
		many["s"+string(rune('a'+i%26))+string(rune('a'+i/26))] = nil
	}
	if _, err := Write(filepath.Join(t.TempDir(), "x"), many, provenance()); err == nil {
		t.Errorf("%d sections were accepted", len(many))
	}
	if _, err := Write(filepath.Join(t.TempDir(), "x"), nil, provenance()); err == nil {
		t.Error("an artifact of nothing was accepted")
	}
	if _, err := Write(t.TempDir(), small(), provenance()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("writing over a folder: %v, want %v", err, fs.ErrExist)
	}
}

// TestEveryBitAndEveryTruncation damages each file of an artifact in every place and expects every one to be refused.
func TestEveryBitAndEveryTruncation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	write(t, dir, small())
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != len(small())+1 {
		t.Fatalf("files = %q", files)
	}
	tried := 0
	refused := func(file, what string, at int, b []byte) {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		tried++
		if _, err := Open(dir); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
			t.Errorf("%s, %s %d: %v", filepath.Base(file), what, at, err)
		}
	}
	for _, file := range files {
		good, _ := os.ReadFile(file)
		for i := range len(good) * 8 {
			bad := slices.Clone(good)
			bad[i/8] ^= 1 << (i % 8)
			refused(file, "bit", i, bad)
		}
		for n := range len(good) {
			refused(file, "cut to", n, good[:n])
		}
		refused(file, "longer by", 1, append(slices.Clone(good), '\n'))
		os.Remove(file)
		tried++
		if _, err := Open(dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("without %s: %v", filepath.Base(file), err)
		}
		os.WriteFile(file, good, 0o644)
	}
	if _, err := Open(dir); err != nil {
		t.Fatalf("the undamaged artifact: %v", err)
	}
	t.Logf("%d damaged artifacts, all refused", tried)
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name   string
		damage func(dir string) error
	}{
		{"extra file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o644) }},
		{"hidden file", func(dir string) error { return os.WriteFile(filepath.Join(dir, ".x"), nil, 0o644) }},
		{"folder inside", func(dir string) error { return os.Mkdir(filepath.Join(dir, "sub"), 0o755) }},
		{"section is a folder", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "empty")), os.Mkdir(filepath.Join(dir, "empty"), 0o755))
		}},
		{"section is a link", func(dir string) error {
			away := filepath.Join(filepath.Dir(dir), "away")
			return errors.Join(os.Rename(filepath.Join(dir, "heads.bin"), away), os.Symlink(away, filepath.Join(dir, "heads.bin")))
		}},
		{"sections swapped", func(dir string) error {
			a, b, c := filepath.Join(dir, "heads.bin"), filepath.Join(dir, "golden.json"), filepath.Join(dir, "c")
			return errors.Join(os.Rename(a, c), os.Rename(b, a), os.Rename(c, b))
		}},
		{"huge manifest", func(dir string) error { return os.Truncate(filepath.Join(dir, manifestName), ManifestBytesMax+1) }},
		{"manifest of nothing", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, manifestName), []byte("null"), 0o644)
		}},
	}
	for _, tt := range tests {
		dir := filepath.Join(t.TempDir(), "x")
		write(t, dir, small())
		if err := tt.damage(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want %v", tt.name, err, ErrCorrupt)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestNewerFormatSaysSo(t *testing.T) {
	_, err := parseManifest([]byte(`{"format": 2, "digest": "tw1-x", "shape": "unheard of"}`))
	if !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("got %v, want %v that names the format", err, ErrNewerFormat)
	}
}

// TestManifestRoundTrip: whatever Write accepts reads back the same, byte for byte.
func TestManifestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sections := rapid.MapOfN(rapid.StringMatching(`[a-z0-9_-][a-z0-9._-]{0,20}`),
			rapid.SliceOfN(rapid.Byte(), 0, 20), 1, 5).Filter(func(m map[string][]byte) bool { _, bad := m[manifestName]; return !bad }).Draw(t, "sections")
		p := Provenance{CreatedAt: time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "at"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")),
			Program: rapid.String().Draw(t, "program"), Seed: rapid.Int64().Draw(t, "seed"),
			Notices: rapid.SliceOf(rapid.String()).Draw(t, "notices")}
		m, err := newManifest(sections, p)
		if err != nil {
			t.Fatal(err)
		}
		first, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseManifest(first)
		if err != nil {
			t.Fatalf("%v\n%s", err, first)
		}
		again, err := back.encode()
		if err != nil || !bytes.Equal(first, again) {
			t.Fatalf("encoded twice: %v\n%s\n%s", err, first, again)
		}
	})
}

func FuzzManifest(f *testing.F) {
	m, _ := newManifest(small(), provenance())
	good, _ := m.encode()
	f.Add(good)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("accepted %q, which it would write as %q, %v", b, again, err)
		}
	})
}

func FuzzPointer(f *testing.F) {
	f.Add("tw1-0123456789abcdef0123456789abcdef\n")
	f.Add("tw1-0123456789abcdef0123456789abcdef\ntw1-00000000000000000000000000000000\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePointer(text)
		if err == nil && (string(p.text()) != text || strings.Contains(string(p.promoted), "/")) {
			t.Errorf("accepted %q as %+v", text, p)
		}
	})
}
