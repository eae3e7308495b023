package idempotency

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestStats: what is kept, and what every request came to.
func TestStats(t *testing.T) {
	b := newBench(t, Options{KeysMax: 3, AnswerMax: 100})
	first := b.begin("o", "a", "x")
	ask := func(key, body string) { _, _, _ = b.Begin("o", key, DigestOf("/path", []byte(body)), "rnd_again") }
	ask("a", "x") // runs
	if err := first.End(&Answer{Status: http.StatusOK, Body: []byte("391")}); err != nil {
		t.Fatal(err)
	}
	ask("a", "x") // replayed
	ask("a", "y") // another body
	if err := b.begin("o", "b", "x").End(&Answer{Lost: Interrupted}); err != nil {
		t.Fatal(err)
	}
	ask("b", "x")
	s := b.Stats()
	if s.Keys != 2 || s.Bytes <= 0 {
		t.Errorf("%d keys with %d bytes are kept", s.Keys, s.Bytes)
	}
	for i := range 3 { // the two that have ended make room, and then nobody does
		b.begin("o", fmt.Sprint("running", i), "x")
	}
	ask("late", "x")
	want := map[string]int64{"first": 5, "replayed": 1, "overloaded": 1, "in_progress": 1, "idempotency_mismatch": 1, "answer_interrupted": 1}
	got := b.Stats()
	maps.DeleteFunc(got.Results, func(_ string, n int64) bool { return n == 0 })
	if got.Keys != 3 || got.Bytes != 0 || !maps.Equal(got.Results, want) {
		t.Errorf("%+v, want 3 keys and %v", got, want)
	}
	if n := len(b.Stats().Results); n != len(results) {
		t.Errorf("%d results, want all %d, also those that never were", n, len(results))
	}
}

// BenchmarkOpen is the start of a process whose last one left so many answers of a kilobyte, on a real disk.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			s, err := Open(dir, Options{})
			if err != nil {
				b.Fatal(err)
			}
			body := make([]byte, 1024)
			for i := range n {
				for k := range body {
					body[k] = "0123456789abcdefghijklmnopqrstuv"[(i*31+k*k)%32]
				}
				c, _, err := s.Begin(fmt.Sprint("owner", i%10), fmt.Sprint(i), DigestOf("/path", body), "rnd_01ARZ3NDEKTSV4RRFFQ69G5FAV")
				if err != nil {
					b.Fatal(err)
				}
				if err := c.Commit(); err != nil {
					b.Fatal(err)
				}
				if err := c.End(&Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			size := int64(0)
			files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
			if err != nil {
				b.Fatal(err)
			}
			for _, f := range files {
				info, err := os.Stat(f)
				if err != nil {
					b.Fatal(err)
				}
				size += info.Size()
			}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				s, err := Open(dir, Options{})
				if err != nil {
					b.Fatal(err)
				}
				if got := s.Stats().Keys; got != n {
					b.Fatalf("%d keys, want %d", got, n)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
