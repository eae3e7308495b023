package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tradewind-llm/tradewind/datasets"
)

// TestFullDisk is P12 with a real disk of 16 MiB: what cannot be journaled is refused and never reaches a vendor, and once
// there is space again the same process serves on. Nothing in the log is torn.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("a small disk cannot be mounted here (it takes root): %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	a := &auditor{seen: map[string]int{}, answered: map[string]bool{}}
	upstream := httptest.NewServer(http.HandlerFunc(a.vendor))
	defer upstream.Close()
	config := write(t, "tradewind.yaml", (&vendor{Server: upstream}).provider()+killBooks)
	data, filler := filepath.Join(dir, "data"), filepath.Join(dir, "filler")
	p := launch(t, data, config)
	if err := fill(filler, 12<<20); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 50_000)
	n := 0
	ask := func() int {
		n++
		status := a.status(t, p, fmt.Sprintf("request %d %s", n, long))
		if status == http.StatusOK {
			a.answer(fmt.Sprintf("request %d %s", n, long))
		}
		return status
	}
	for ask() == http.StatusOK && n < 1000 {
	}
	before := a.asked()
	for range 20 { // sealing may free a little now and then
		if status := ask(); status != http.StatusServiceUnavailable && status != http.StatusOK {
			t.Errorf("on a full disk: status %d, want 503", status)
		}
	}
	if n >= 1000 || a.asked()-before > 10 {
		t.Errorf("%d requests, %d of the last 20 reached the vendor: the disk was never full", n, a.asked()-before)
	}
	for ask() != http.StatusServiceUnavailable {
	}
	if p.ready(t) {
		t.Error("on a full disk it says that it is ready")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ask() != http.StatusOK; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("there is space again and it still refuses")
		}
	}
	if !p.ready(t) {
		t.Error("it serves and says that it is not ready")
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("the process: %v", err)
	}
	run(t, "data", "verify", filepath.Join(data, "log"))
	a.judge(t, rounds(t, data))
	t.Logf("%d requests, %d reached the vendor", n, len(a.seen))
}

// judge compares the log with what the vendor saw.
func (a *auditor) judge(t *testing.T, log []datasets.Round) {
	t.Helper()
	if len(log) != len(a.seen) || len(a.answered) == 0 {
		t.Errorf("%d rounds in the log, %d requests at the vendor, %d answered", len(log), len(a.seen), len(a.answered))
	}
	for i := range log {
		if r := &log[i]; a.seen[r.Decision.Prompt] != 1 || a.answered[r.Decision.Prompt] && r.Outcome.Cost != killAnswer {
			t.Errorf("a round of %d requests at the vendor, at %s", a.seen[r.Decision.Prompt], r.Outcome.Cost)
		}
	}
}

// ready is what the process says of itself.
func (p *process) ready(t *testing.T) bool {
	t.Helper()
	resp, err := http.Get("http://" + p.addr + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// fill writes a file of that size.
func fill(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, zeros{}, size)
	return errors.Join(err, f.Close())
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// status asks once and returns the status; a refusal must say when to come again.
func (a *auditor) status(t *testing.T, p *process, prompt string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+p.addr+"/v1/chat/completions", strings.NewReader(ask("lab/small", prompt, "")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+killKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		t.Errorf("a refusal does not say when to come again: %s", text)
	}
	return resp.StatusCode
}
