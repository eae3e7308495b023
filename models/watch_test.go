package models

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// watcher runs Watch in a bubble of synctest and records what it says.
type watcher struct {
	*Registry
	mu   sync.Mutex
	said []string
	load func(a *Artifact) error
}

func (w *watcher) say(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

// loadWith changes how artifacts are tried.
func (w *watcher) loadWith(load func(a *Artifact) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.load = load
}

func (w *watcher) try(a *Artifact) error {
	w.mu.Lock()
	load := w.load
	w.mu.Unlock()
	return load(a)
}

func watching(t *testing.T, r *Registry, serving Digest, load func(a *Artifact) error) *watcher {
	t.Helper()
	w := &watcher{Registry: r, load: load}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- r.Watch(ctx, WatchOptions{
			Serving: serving, Load: w.try,
			Taken:   func(d Digest) { w.say("taken " + string(d)) },
			Refused: func(d Digest, err error) { w.say("refused " + string(d)) },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch ended with %v", err)
		}
	})
	synctest.Wait() // for the first look
	return w
}

func takeAll(*Artifact) error { return nil }

// after lets d pass and compares what was said since the last call.
func (w *watcher) after(t *testing.T, d time.Duration, want ...string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.said, want) {
		t.Errorf("the watcher said %q, want %q", w.said, want)
	}
	w.said = nil
}

func promote(t *testing.T, r *Registry, d Digest) {
	t.Helper()
	if err := r.Promote(d, accept); err != nil {
		t.Fatal(err)
	}
}

func TestWatchTakesWhatIsPromoted(t *testing.T) {
	r, ds := registry(t, 2)
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, r, "", takeAll)
		w.after(t, time.Hour) // nothing is promoted, which is no trouble
		promote(t, r, ds[0])
		w.after(t, time.Second, "taken "+string(ds[0]))
		promote(t, r, ds[1])
		w.after(t, time.Second, "taken "+string(ds[1]))
		if err := r.Rollback(accept); err != nil {
			t.Fatal(err)
		}
		w.after(t, time.Second, "taken "+string(ds[0]))
		w.after(t, time.Hour)
	})
}

// TestWatchKeepsWhatServes spoils the promoted artifact and the pointer in several ways: each is told of once, and the
// next good pointer is taken.
func TestWatchKeepsWhatServes(t *testing.T) {
	for name, spoil := range map[string]func(w *watcher, d Digest) error{
		"damaged": func(w *watcher, d Digest) error { return os.Truncate(filepath.Join(w.path(d), "number"), 0) },
		"gone":    func(w *watcher, d Digest) error { return os.RemoveAll(w.path(d)) },
		"another's": func(w *watcher, d Digest) error {
			away := filepath.Join(t.TempDir(), "away")
			_, err := Write(away, map[string][]byte{"number": {99}}, provenance())
			return errors.Join(err, os.RemoveAll(w.path(d)), os.CopyFS(w.path(d), os.DirFS(away)))
		},
		"not loaded": func(w *watcher, d Digest) error {
			w.loadWith(func(a *Artifact) error {
				if a.Digest() == d {
					return errors.New("golden rows differ")
				}
				return nil
			})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, ds := registry(t, 3)
			promote(t, r, ds[0])
			synctest.Test(t, func(t *testing.T) {
				w := watching(t, r, ds[0], takeAll)
				w.after(t, time.Second)
				promote(t, r, ds[1])
				if err := spoil(w, ds[1]); err != nil {
					t.Fatal(err)
				}
				w.after(t, time.Hour, "refused "+string(ds[1]))
				promote(t, r, ds[0]) // it serves still, so there is nothing to take
				w.after(t, time.Hour)
				promote(t, r, ds[2])
				w.after(t, time.Second, "taken "+string(ds[2]))
			})
		})
	}
}

func TestWatchSurvivesAPointerThatIsDamagedOrGone(t *testing.T) {
	r, ds := registry(t, 2)
	promote(t, r, ds[0])
	pointer := filepath.Join(r.dir, pointerName)
	synctest.Test(t, func(t *testing.T) {
		w := watching(t, r, ds[0], takeAll)
		if err := os.WriteFile(pointer, []byte("../../etc\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.after(t, time.Hour, "refused ")
		if err := os.Remove(pointer); err != nil {
			t.Fatal(err)
		}
		w.after(t, time.Hour, "refused ")
		promote(t, r, ds[1])
		w.after(t, time.Second, "taken "+string(ds[1]))
	})
}

// TestWatchTriesAgain: what was refused for a passing reason is taken without another promotion, and trying costs
// little meanwhile.
func TestWatchTriesAgain(t *testing.T) {
	r, ds := registry(t, 1)
	promote(t, r, ds[0])
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		w := watching(t, r, "", func(*Artifact) error { tries++; return errors.New("too many open files") })
		w.after(t, time.Hour, "refused "+string(ds[0]))
		if tries < 60 || tries > 70 {
			t.Errorf("%d tries in an hour, want about one a minute", tries)
		}
		w.loadWith(takeAll)
		w.after(t, retryMax, "taken "+string(ds[0]))
	})
}

func TestWatchOptions(t *testing.T) {
	r, _ := registry(t, 0)
	for _, o := range []WatchOptions{{}, {Load: takeAll, Every: -1}} {
		if err := r.Watch(t.Context(), o); err == nil {
			t.Errorf("Watch accepted %+v", o)
		}
	}
}
