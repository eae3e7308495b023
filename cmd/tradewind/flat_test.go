package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	flatClients = 32
	// What a process may hold more after the run than before it: the heap of its bounded memories (recent rounds, ended holds,
	// sessions) as they fill, what the runtime keeps of it, and the files of recent segments.
	flatHeap       = 32 << 20
	flatResident   = 96 << 20
	flatGoroutines = 4
	flatFiles      = 8
)

// footprint is what a process holds.
type footprint struct{ heap, resident, goroutines, files float64 }

// hold measures a process that has come to rest: whoever is connected to it has gone, so what is left is its own. The least heap
// of many looks is about what is alive, because looking makes garbage too.
func hold(t *testing.T, addr string, v *httptest.Server, before *footprint) (f footprint) {
	t.Helper()
	for range 100 {
		http.DefaultClient.CloseIdleConnections()
		v.CloseClientConnections()
		look := flatLook(t, addr)
		if f.heap == 0 {
			f = look
		}
		look.heap = min(look.heap, f.heap)
		f = look
		if before != nil && f.within(before) == "" {
			return f
		}
		time.Sleep(50 * time.Millisecond)
	}
	return f
}

// within says what is held beyond what may be, "" for nothing.
func (f *footprint) within(before *footprint) string {
	for _, row := range []struct {
		name           string
		now, then, may float64
	}{
		{"bytes of heap", f.heap, before.heap, flatHeap}, {"bytes of memory", f.resident, before.resident, flatResident},
		{"goroutines", f.goroutines, before.goroutines, flatGoroutines}, {"open files", f.files, before.files, flatFiles},
	} {
		if row.now > row.then+row.may {
			return fmt.Sprintf("%.0f %s, and %.0f before", row.now, row.name, row.then)
		}
	}
	return ""
}

func flatLook(t *testing.T, addr string) (f footprint) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		v, _ := strconv.ParseFloat(text, 64)
		switch name {
		case "go_memstats_heap_alloc_bytes":
			f.heap = v
		case "process_resident_memory_bytes":
			f.resident = v
		case "go_goroutines":
			f.goroutines = v
		case "process_open_fds":
			f.files = v
		}
	}
	if f.heap == 0 || f.resident == 0 || f.goroutines == 0 || f.files == 0 {
		t.Fatalf("/metrics does not tell %+v", f)
	}
	return f
}

// flatVendor streams ten events, most of them at once and some after a moment.
func flatVendor(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if !strings.Contains(string(body), `"stream":true`) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, vendorAnswer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for range 10 {
		if rand.IntN(4) == 0 {
			w.(http.Flusher).Flush()
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
		}
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}`+"\n\n")
	}
	_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n"+
		`data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`+"\n\ndata: [DONE]\n\n")
}

// flatLoad makes n requests: a third whole, a third streamed, and a third cut somewhere, before the answer or within it.
func flatLoad(ctx context.Context, addr string, n int) (answered, cut int64) {
	var wg sync.WaitGroup
	var left, whole, parted atomic.Int64
	left.Store(int64(n))
	transport := &http.Transport{MaxIdleConnsPerHost: flatClients}
	defer transport.CloseIdleConnections()
	for c := range flatClients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), uint64(n)))
			for i := left.Add(-1); i >= 0; i = left.Add(-1) {
				if flatRequest(ctx, transport, addr, int(i), rng) {
					whole.Add(1)
				} else {
					parted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return whole.Load(), parted.Load()
}

func flatRequest(ctx context.Context, transport http.RoundTripper, addr string, i int, rng *rand.Rand) bool {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	body := ask("lab/small", fmt.Sprintf("request %d of many", i), `,"stream":`+strconv.FormatBool(i%3 > 0))
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+addr+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+killKey)
	if i%6 == 2 { // before the answer, perhaps
		time.AfterFunc(time.Duration(rng.IntN(3000))*time.Microsecond, leave)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if i%6 == 5 {
		_, _ = io.CopyN(io.Discard, resp.Body, int64(rng.IntN(1500)))
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// TestMemoryIsFlat: a million requests at TRADEWIND_TEST_SCALE=1, a third of them cut at random, leave nothing behind: memory,
// goroutines and open files are what they were after the first.
func TestMemoryIsFlat(t *testing.T) {
	n := scaled(t, 1_000_000, 6000)
	v := httptest.NewServer(http.HandlerFunc(flatVendor))
	defer v.Close()
	_, books, _ := strings.Cut(killBooks, "\n") // segments of the usual size: those of recent rounds stay open
	config := write(t, "tradewind.yaml", (&vendor{Server: v}).provider()+books)
	p := launch(t, filepath.Join(t.TempDir(), "data"), config)
	defer func() { _ = p.cmd.Wait() }()
	defer func() { _ = p.cmd.Process.Kill() }()
	warm := min(n/3, 20_000)
	flatLoad(t.Context(), p.addr, warm)
	before := hold(t, p.addr, v, nil)
	answered, cut := flatLoad(t.Context(), p.addr, n-warm)
	if answered < int64(n-warm)/2 || cut < int64(n-warm)/8 {
		t.Fatalf("%d requests were answered and %d cut of %d: the load was not what it should be", answered, cut, n-warm)
	}
	after := hold(t, p.addr, v, &before)
	if why := after.within(&before); why != "" {
		t.Errorf("after %d requests the process holds %s", n, why)
	}
	t.Logf("%d requests, %d cut: %+v before, %+v after", n, cut, before, after)
}
