package models

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// accept loads an artifact as a server would.
func accept(dir string) error { _, err := Open(dir); return err }

// registry makes one that holds n artifacts.
func registry(t testing.TB, n int) (*Registry, []Digest) {
	t.Helper()
	r, err := OpenRegistry(filepath.Join(t.TempDir(), "registry"))
	if err != nil {
		t.Fatal(err)
	}
	var ds []Digest
	for i := range n {
		src := filepath.Join(t.TempDir(), "src")
		want := write(t, src, map[string][]byte{"number": {byte(i)}})
		d, err := r.Add(src)
		if err != nil || d != want {
			t.Fatalf("Add = %s, %v, want %s", d, err, want)
		}
		ds = append(ds, d)
	}
	return r, ds
}

func wantPromoted(t testing.TB, r *Registry, want Digest) {
	t.Helper()
	if got, err := r.Promoted(); got != want || err != nil {
		t.Errorf("Promoted() = %s, %v, want %s", got, err, want)
	}
	dir, err := Resolve(r.dir)
	if err != nil || filepath.Base(dir) != string(want) {
		t.Errorf("Resolve(registry) = %q, %v, want %s", dir, err, want)
	}
}

func TestPromoteAndRollback(t *testing.T) {
	r, ds := registry(t, 3)
	if _, err := r.Promoted(); !errors.Is(err, ErrNotPromoted) {
		t.Errorf("Promoted() of a new registry: %v", err)
	}
	if err := r.Rollback(accept); !errors.Is(err, ErrNotPromoted) {
		t.Errorf("Rollback of a new registry: %v", err)
	}
	for _, d := range []Digest{ds[0], ds[1], ds[1], ds[2]} {
		var loaded string
		if err := r.Promote(d, func(dir string) error { loaded = dir; return accept(dir) }); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(loaded) != string(d) {
			t.Errorf("loaded %q before promoting %s", loaded, d)
		}
		wantPromoted(t, r, d)
	}
	if err := r.Rollback(accept); err != nil {
		t.Fatal(err)
	}
	wantPromoted(t, r, ds[1])
	if err := r.Rollback(accept); !errors.Is(err, ErrNoPrevious) {
		t.Errorf("second Rollback: %v, want %v", err, ErrNoPrevious)
	}
	if err := r.Promote(ds[0], accept); err != nil {
		t.Fatal(err)
	}
	list, err := r.List()
	if err != nil || len(list) != 3 {
		t.Fatalf("List() = %v, %v", list, err)
	}
	for _, e := range list {
		if e.Err != nil || e.Promoted != (e.Digest == ds[0]) || e.Previous != (e.Digest == ds[1]) || e.Manifest.Digest != e.Digest {
			t.Errorf("entry %+v", e)
		}
	}
}

func TestPromoteRefuses(t *testing.T) {
	r, ds := registry(t, 3)
	if err := r.Promote(ds[0], accept); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("golden rows differ")
	if err := r.Promote(ds[1], func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("load refuses: %v", err)
	}
	if err := r.Promote(ds[1], nil); err == nil {
		t.Error("promoted without loading")
	}
	never := func(dir string) error { t.Errorf("loaded %s", dir); return nil }
	for _, d := range []Digest{"", "..", "tw1-00000000000000000000000000000000", Digest("../registry/" + ds[1])} {
		if err := r.Promote(d, never); err == nil {
			t.Errorf("promoted %q", d)
		}
	}
	if err := os.Truncate(filepath.Join(r.path(ds[1]), "number"), 0); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(ds[1], never); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	if err := os.RemoveAll(r.path(ds[1])); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(r.path(ds[1]), os.DirFS(r.path(ds[2]))); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(ds[1], never); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another artifact under its name: %v", err)
	}
	list, _ := r.List()
	if i := slices.IndexFunc(list, func(e Entry) bool { return e.Digest == ds[1] }); i < 0 || list[i].Err == nil {
		t.Errorf("List() hides the impostor: %+v", list)
	}
	wantPromoted(t, r, ds[0])
	if list, _ := filepath.Glob(filepath.Join(r.dir, ".*")); len(list) != 0 {
		t.Errorf("temporary files left: %q", list)
	}
}

func TestAdd(t *testing.T) {
	r, ds := registry(t, 1)
	src := filepath.Join(t.TempDir(), "again")
	write(t, src, map[string][]byte{"number": {0}})
	if d, err := r.Add(src); d != ds[0] || err != nil {
		t.Errorf("Add of what is there = %s, %v", d, err)
	}
	if err := os.Truncate(filepath.Join(r.path(ds[0]), "number"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(src); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Add over a damaged artifact: %v", err)
	}
	if _, err := r.Add(r.path(ds[0])); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Add of a damaged artifact: %v", err)
	}
}

func TestResolve(t *testing.T) {
	r, ds := registry(t, 1)
	if dir, err := Resolve(r.path(ds[0])); dir != r.path(ds[0]) || err != nil {
		t.Errorf("Resolve(artifact) = %q, %v", dir, err)
	}
	if _, err := Resolve(r.dir); !errors.Is(err, ErrNotPromoted) {
		t.Errorf("Resolve of a registry without promotion: %v", err)
	}
	if _, err := Resolve(filepath.Join(r.dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Resolve of nothing: %v", err)
	}
	for _, text := range []string{"", "../../etc\n", string(ds[0]), string(ds[0]) + "\n\n", string(ds[0]) + "\nx\n"} {
		if err := os.WriteFile(filepath.Join(r.dir, pointerName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if dir, err := Resolve(r.dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("pointer %q: Resolve = %q, %v", text, dir, err)
		}
	}
}

// cut runs f on a disk that loses power before its n-th step. What a crash may do to files that were written and not
// yet synced, it does: their second half is gone. It reports whether f came to its end.
func cut(n int, f func(d disk) error) (ended bool, err error) {
	type powerLoss struct{}
	unsynced := map[string]bool{}
	d := disk{before: func(step, path string) {
		if n--; n < 0 {
			for file := range unsynced {
				if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
					os.Truncate(file, info.Size()/2)
				}
			}
			panic(powerLoss{})
		}
		switch step {
		case "write":
			unsynced[path] = true
		case "sync":
			delete(unsynced, path)
		}
	}}
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(powerLoss); !ok {
				panic(p)
			}
			ended = false
		}
	}()
	return true, f(d)
}

func TestPowerLossWhileWriting(t *testing.T) {
	for n := 0; ; n++ {
		dir := filepath.Join(t.TempDir(), "x")
		ended, err := cut(n, func(d disk) error { _, err := d.write(dir, small(), provenance()); return err })
		if err != nil {
			t.Fatal(err)
		}
		_, openErr := Open(dir)
		if openErr != nil && (ended || !errors.Is(openErr, os.ErrNotExist)) {
			t.Errorf("crash before step %d: ended %v, Open: %v", n, ended, openErr)
		}
		if openErr != nil {
			write(t, dir, small()) // what a crash leaves behind must not be in the way
		}
		if ended {
			if n < 3*(len(small())+1) {
				t.Errorf("only %d steps: the hook misses some", n)
			}
			return
		}
	}
}

// Without the folder synced before and its parent after, a crash could leave a name without its files.
func TestFoldersAreSyncedAroundRename(t *testing.T) {
	parent := t.TempDir()
	var steps, paths []string
	d := disk{before: func(step, path string) { steps, paths = append(steps, step), append(paths, path) }}
	if _, err := d.write(filepath.Join(parent, "x"), small(), provenance()); err != nil {
		t.Fatal(err)
	}
	n := len(steps)
	if got, want := steps[n-3:], []string{"sync", "rename", "sync"}; !slices.Equal(got, want) {
		t.Fatalf("last steps %q, want %q", got, want)
	}
	if temp := paths[n-3]; filepath.Dir(temp) != parent || temp != filepath.Dir(paths[0]) || paths[n-1] != parent {
		t.Errorf("synced %q and %q around the rename", temp, paths[n-1])
	}
}

func TestPowerLossWhilePromoting(t *testing.T) {
	for n := 0; ; n++ {
		r, ds := registry(t, 3)
		for _, d := range ds[:2] {
			if err := r.Promote(d, accept); err != nil {
				t.Fatal(err)
			}
		}
		ended, err := cut(n, func(d disk) error {
			return (&Registry{dir: r.dir, disk: d}).Promote(ds[2], accept)
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Promoted()
		before := ds[0] // what Rollback must bring back
		if got == ds[2] {
			before = ds[1]
		}
		if err != nil || (got != ds[1] && got != ds[2]) || (ended && got != ds[2]) {
			t.Fatalf("crash before step %d: promoted %s, %v", n, got, err)
		}
		if list, err := r.List(); err != nil || len(list) != 3 {
			t.Errorf("crash before step %d: List() = %v, %v", n, list, err)
		}
		if err := r.Rollback(accept); err != nil {
			t.Errorf("crash before step %d: %v", n, err)
		}
		wantPromoted(t, r, before)
		if ended {
			return
		}
	}
}
