package disktest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// tree is what stands below a folder, by name; folders end in a slash.
func tree(t rapid.TB, fsys disk.FS, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if e.IsDir() {
			out[e.Name()+"/"] = ""
			for below, text := range tree(t, fsys, name) {
				out[e.Name()+"/"+below] = text
			}
			continue
		}
		b, err := disk.ReadFile(fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// step is one operation of the property below on one file system, and whether it failed.
func step(fsys disk.FS, root string, kind int, name, other string, flag int, text []byte) error {
	name, other = filepath.Join(root, name), filepath.Join(root, other)
	switch kind {
	case 0:
		f, err := fsys.OpenFile(name, flag, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		return errors.Join(err, f.Sync(), f.Close())
	case 1:
		f, err := fsys.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.Seek(2, io.SeekEnd)
		if err == nil {
			_, err = f.Write(text)
		}
		return errors.Join(err, f.Truncate(int64(len(text)+3)), f.Close())
	case 2:
		return fsys.Rename(name, other)
	case 3:
		return fsys.Remove(name)
	case 4:
		return fsys.MkdirAll(name, 0o700)
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// TestLikeTheRealOne: whatever is done, files are as on the machine's file system, while there is power and after a kill.
func TestLikeTheRealOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "disktest")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(root)
		d := New()
		p := d.Process()
		if err := p.MkdirAll(root, 0o700); err != nil {
			t.Fatal(err)
		}
		names := rapid.SampledFrom([]string{"a", "b", "x/a", "x/b", "x/y/c"})
		folders := rapid.SampledFrom([]string{"x", "x/y", "z"})
		flags := rapid.SampledFrom([]int{os.O_CREATE | os.O_WRONLY, os.O_CREATE | os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_CREATE | os.O_EXCL | os.O_RDWR})
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			kind := rapid.IntRange(0, 5).Draw(t, "kind")
			name, other := names.Draw(t, "name"), names.Draw(t, "other")
			if kind == 4 {
				name = folders.Draw(t, "folder")
			}
			flag, text := flags.Draw(t, "flag"), rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "text")
			want, got := step(disk.OS{}, root, kind, name, other, flag, text), step(p, root, kind, name, other, flag, text)
			if (want == nil) != (got == nil) {
				t.Fatalf("step %d of %s: got %v, the machine says %v", kind, name, got, want)
			}
			if errors.Is(want, fs.ErrNotExist) != errors.Is(got, fs.ErrNotExist) || errors.Is(want, fs.ErrExist) != errors.Is(got, fs.ErrExist) {
				t.Fatalf("step %d of %s: got %v, the machine says %v", kind, name, got, want)
			}
		}
		p.Kill()
		if _, err := p.ReadDir(root); !errors.Is(err, ErrDead) {
			t.Fatalf("a dead process reads: %v", err)
		}
		got, want := tree(t, d.Process(), root), tree(t, disk.OS{}, root)
		if len(got) != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for name, text := range want {
			if kept, ok := got[name]; !ok || kept != text {
				t.Fatalf("%s holds %q, want %q", name, kept, text)
			}
		}
	})
}

// write puts text into a new file and syncs what is asked for.
func write(t *testing.T, fsys disk.FS, name, text string, sync, dir bool) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if dir {
		if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPowerLoss: what was synced is there whatever is lost; of the rest all combinations come about, and no others.
func TestPowerLoss(t *testing.T) {
	text := strings.Repeat("x", SectorBytes) + strings.Repeat("y", SectorBytes)
	states := map[string]map[string]bool{"both": {}, "bytes": {}, "name": {}, "none": {}}
	renamed := map[string]bool{}
	random := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		d := New()
		p := d.Process()
		write(t, p, "/both", text, true, true)
		write(t, p, "/name", text, false, true)
		write(t, p, "/bytes", text, true, false)
		write(t, p, "/none", text, false, false)
		if err := p.MkdirAll("/f", 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, p, "/f/old", text, true, true)
		if err := p.Rename("/f/old", "/new"); err != nil {
			t.Fatal(err)
		}
		d.PowerLoss(random, 0.5)
		left := tree(t, d.Process(), "/")
		for name, seen := range states {
			kept, ok := left[name]
			seen[map[bool]string{true: kept, false: "gone"}[ok]] = true
		}
		_, old := left["f/old"]
		_, made := left["new"]
		_, folder := left["f/"]
		renamed[map[bool]string{true: "o"}[old]+map[bool]string{true: "n"}[made]+map[bool]string{true: "f"}[folder]] = true
	}
	zeros := strings.Repeat("\x00", SectorBytes)
	torn := []string{"gone", "", text, text[:SectorBytes], zeros + text[SectorBytes:], text[:SectorBytes] + zeros, zeros + zeros}
	for name, want := range map[string][]string{"both": {text}, "name": torn[1:], "bytes": {"gone", text}, "none": torn} {
		var got []string
		for s := range states[name] {
			got = append(got, s)
		}
		slices.Sort(got)
		want = slices.Clone(want)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: after 300 losses %d states %q, want %d", name, len(got), got, len(want))
		}
	}
	for state, want := range map[string]bool{"of": true, "n": true, "nf": true, "onf": true, "f": false, "": true} {
		if renamed[state] != want {
			t.Errorf("a rename left %q (o old name, n new name, f folder): %v, want %v", state, renamed[state], want)
		}
	}
}

// TestDeath: a process dies where it was told to, half way through a write, and its locks go with it.
func TestDeath(t *testing.T) {
	d := New()
	p := d.Process()
	if _, err := p.Lock("/lock"); err != nil {
		t.Fatal(err)
	}
	f, err := p.OpenFile("/f", os.O_CREATE|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.DieAt(p.Ops() + 1)
	if n, err := f.Write([]byte("abcd")); n != 2 || !errors.Is(err, ErrDead) || !p.Dead() {
		t.Errorf("got %d, %v", n, err)
	}
	if err := f.Sync(); !errors.Is(err, ErrDead) {
		t.Errorf("got %v", err)
	}
	next := d.Process()
	if b, err := disk.ReadFile(next, "/f"); err != nil || !bytes.Equal(b, []byte("ab")) {
		t.Errorf("got %q, %v", b, err)
	}
	lock, err := next.Lock("/lock")
	if err != nil {
		t.Fatal(err)
	}
	var used *disk.InUseError
	if _, err := d.Process().Lock("/lock"); !errors.As(err, &used) {
		t.Errorf("got %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Process().Lock("/lock"); err != nil {
		t.Error(err)
	}
}

// TestUnsynced: a twin that leaves syncs out keeps nothing for certain.
func TestUnsynced(t *testing.T) {
	d := New()
	p := d.Process()
	p.Unsynced = true
	write(t, p, "/f", "text", true, true)
	d.PowerLoss(rand.New(rand.NewPCG(1, 1)), 0)
	if left := tree(t, d.Process(), "/"); len(left) != 0 {
		t.Errorf("got %v", left)
	}
}
