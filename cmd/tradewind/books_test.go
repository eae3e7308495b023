package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// A ledger.json that is not the log's own, as from an older backup, looks whole: doctor finds what it leaves out, beside a
// server too, and a start without one says so.
func TestBooksBesideTheLog(t *testing.T) {
	s := start(t, nil)
	spend := func(s *service) string {
		r := s.call(http.MethodPost, "/v1/chat/completions", "", ask("sim/cheap", "What is 17 times 23?", ""))
		if r.status != http.StatusOK {
			t.Fatalf("%d %s", r.status, r.body)
		}
		return r.header.Get("X-Tradewind-Cost-Usd")
	}
	first := spend(s)
	s.stop()
	checkpoint := filepath.Join(s.data, "ledger.json")
	old, err := os.ReadFile(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	again := start(t, nil, "--data-dir", s.data)
	spend(again)
	if by, code := examined(t, nil, "--data-dir", s.data); code != 0 || !strings.Contains(by["ledger"], "ok: it knows what the 1 rounds of the log did cost: "+first+" USD") {
		t.Errorf("beside a server: exit code %d, %s", code, by["ledger"])
	}
	again.stop()
	if by, code := examined(t, nil, "--data-dir", s.data); code != 0 || !strings.Contains(by["ledger"], "ok: it knows what the 2 rounds") {
		t.Errorf("its own: exit code %d, %s", code, by["ledger"])
	}
	put := func(text string) {
		if err := os.WriteFile(checkpoint, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(string(old))
	by, code := examined(t, nil, "--data-dir", s.data)
	if contains(t, "an older one", by["ledger"], "fail: ledger.json knows less than the log of what 1 keys have spent: local ("+first+" of "); code != 1 {
		t.Errorf("exit code %d", code)
	}
	books := `{"format":2}`
	put(fmt.Sprintf(`{"sha256":"%x","books":%s}`, sha256.Sum256([]byte(books)), books))
	by, code = examined(t, nil, "--data-dir", s.data)
	if contains(t, "a later form", by["ledger"], "fail: ", "its format is 2"); code != 1 {
		t.Errorf("exit code %d", code)
	}
	put(string(old))
	parts, err := filepath.Glob(filepath.Join(s.data, "log", "rounds", "*", "*", "*.parquet"))
	if err != nil || len(parts) != 2 {
		t.Fatal(parts, err)
	}
	if err := os.Rename(parts[0], parts[0]+".away"); err != nil {
		t.Fatal(err)
	}
	by, _ = examined(t, nil, "--data-dir", s.data)
	contains(t, "a part that is gone", by["ledger"], "warn: the log cannot be held against the ledger", filepath.Base(parts[0]))
	if err := errors.Join(os.Rename(parts[0]+".away", parts[0]), os.Remove(checkpoint)); err != nil {
		t.Fatal(err)
	}
	by, _ = examined(t, nil, "--data-dir", s.data)
	contains(t, "none", by["ledger"], "fail: ledger.json knows less than the log of what 1 keys have spent: local (0 of ")
	none := start(t, nil, "--data-dir", s.data)
	contains(t, "the start", none.stdout.String(), checkpoint+" is missing, and the log holds rounds")
	if text := again.stdout.String(); strings.Contains(text, "is missing") {
		t.Errorf("a start with its own: %s", text)
	}
}

// A data directory that cannot be used says so with what to do, whatever the journal's own words are.
func TestUnusable(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "open", Path: "d/journal/lock", Err: syscall.EROFS}, "--data-dir"},
		{&fs.PathError{Op: "open", Path: "d/journal/lock", Err: syscall.EACCES}, "let this user read and write there"},
		{&journal.LockedError{Dir: "d/journal", PID: 7}, "in use by process 7; stop it"},
		{ledger.ErrDamaged, ledger.ErrDamaged.Error()},
	} {
		if got := unusable("d", fmt.Errorf("journal: locking: %w", c.err)); !strings.Contains(got.Error(), c.want) || strings.Contains(got.Error(), "--data-dir") == errors.Is(c.err, ledger.ErrDamaged) {
			t.Errorf("%v: %v, want %q", c.err, got, c.want)
		}
	}
}
