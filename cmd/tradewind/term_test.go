package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
)

// termVendor streams a word every 20 ms: twenty of them, or for ever where the prompt says endless.
func termVendor(a *auditor, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	_, prompt, _ := strings.Cut(string(body), `"content":"`)
	prompt, _, _ = strings.Cut(prompt, `"`)
	a.see(prompt)
	w.Header().Set("Content-Type", "text/event-stream")
	for i := 0; i < 20 || strings.Contains(prompt, "endless"); i++ {
		if _, err := io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}`+"\n\n"); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n"+
		`data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`+"\n\ndata: [DONE]\n\n")
}

// stream asks for a stream, says when its first piece is there, and returns all of it.
func (a *auditor) stream(ctx context.Context, p *process, prompt string, begun func()) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+p.addr+"/v1/chat/completions", io.NopCloser(strings.NewReader(ask("lab/small", prompt, `,"stream":true`))))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+killKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		return "", err
	}
	begun()
	rest, err := io.ReadAll(resp.Body)
	return string(first) + string(rest), err
}

// TestTerm is P21: SIGTERM while streams are open. Readiness goes first, streams that end in time are whole, the others
// end with an error event, and the log has every round as its client knows it. 1,000 restarts with 500 streams each at TRADEWIND_TEST_SCALE=1.
func TestTerm(t *testing.T) {
	restarts, streams := scaled(t, 1000, 3), scaled(t, 500, 40)
	a := &auditor{seen: map[string]int{}, answered: map[string]bool{}}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { termVendor(a, w, r) }))
	defer upstream.Close()
	config := write(t, "tradewind.yaml", (&vendor{Server: upstream}).provider()+killBooks+"shutdown: {notice_seconds: 0.1, drain_seconds: 1}\n")
	data := filepath.Join(t.TempDir(), "data")
	var whole, told atomic.Int64
	var heard sync.Map // prompt → the status that its client's stream ended with
	for n := range restarts {
		p := launch(t, data, config)
		var clients, begun sync.WaitGroup
		begun.Add(streams)
		for c := range streams {
			clients.Go(func() {
				kind := [...]string{"short", "endless"}[c%2]
				prompt := fmt.Sprintf("%s %d of restart %d", kind, c, n)
				text, err := a.stream(t.Context(), p, prompt, begun.Done)
				switch end := strings.HasSuffix(text, "data: [DONE]\n\n"); {
				case err != nil || !end:
					t.Errorf("%s: %v after %q", kind, err, text[max(0, len(text)-200):])
				case kind == "short" && strings.Contains(text, `"finish_reason":"stop"`):
					heard.Store(prompt, datasets.Completed)
					whole.Add(1)
				case strings.Contains(text, `"no_healthy_upstream"`): // a short one too, where the machine has no time for it
					heard.Store(prompt, datasets.Unknown)
					told.Add(1)
				default:
					t.Errorf("%s ended with %q", kind, text[max(0, len(text)-300):])
				}
			})
		}
		begun.Wait()
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			waitUnready(t, p)
		}
		clients.Wait()
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("the process: %v", err)
		}
	}
	a.auditTerm(t, data, restarts*streams, &heard)
	if whole.Load() == 0 {
		t.Error("no stream that could end in time was whole")
	}
	t.Logf("%d restarts: %d streams were whole, %d were told", restarts, whole.Load(), told.Load())
}

// A second SIGTERM, later than a wrapper's copy of the first, ends the wait for open streams. Their clients are told all the same.
func TestTermTwice(t *testing.T) {
	a := &auditor{seen: map[string]int{}, answered: map[string]bool{}}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { termVendor(a, w, r) }))
	defer upstream.Close()
	p := launch(t, filepath.Join(t.TempDir(), "data"), write(t, "tradewind.yaml", (&vendor{Server: upstream}).provider()+killBooks+"shutdown: {notice_seconds: 3600, drain_seconds: 3600}\n"))
	begun, ended := make(chan struct{}), make(chan string, 1)
	go func() {
		text, err := a.stream(t.Context(), p, "endless", func() { close(begun) })
		ended <- fmt.Sprint(text, err)
	}()
	<-begun
	exited := make(chan error, 1)
	go func() { exited <- p.cmd.Wait() }()
	for giveUp := time.After(time.Minute); ; {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-exited:
			if text := <-ended; err != nil || !strings.Contains(text, `"no_healthy_upstream"`) {
				t.Errorf("%v, the stream ended with %q", err, text[max(0, len(text)-300):])
			}
			return
		case <-giveUp:
			_ = p.cmd.Process.Kill()
			t.Fatal("it still waits after a minute")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// waitUnready wants /readyz to say no while the server still answers.
func waitUnready(t *testing.T, p *process) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		resp, err := http.Get("http://" + p.addr + "/readyz")
		if err != nil {
			t.Errorf("the listener went before readiness did: %v", err)
			return
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			return
		}
		if time.Now().After(deadline) {
			t.Error("ready all the time")
			return
		}
	}
}

// auditTerm wants every round that the vendor saw in the log, once, with the outcome that its client knows.
func (a *auditor) auditTerm(t *testing.T, data string, want int, heard *sync.Map) {
	t.Helper()
	log := rounds(t, data)
	byPrompt := map[string]datasets.Status{}
	for i := range log {
		r := &log[i]
		if _, twice := byPrompt[r.Decision.Prompt]; twice {
			t.Errorf("%q stands twice in the log", r.Decision.Prompt)
		}
		byPrompt[r.Decision.Prompt] = r.Outcome.Status
		if r.Outcome.Cost <= 0 || r.Outcome.Cost > r.Decision.Hold {
			t.Errorf("%q cost %s, its hold was %s", r.Decision.Prompt, r.Outcome.Cost, r.Decision.Hold)
		}
	}
	for prompt := range a.seen {
		should, _ := heard.Load(prompt)
		if got := byPrompt[prompt]; got != should {
			t.Errorf("%q has status %q in the log, want %s", prompt, got, should)
		}
	}
	if len(log) != want || len(a.seen) != want {
		t.Errorf("%d rounds in the log and %d at the vendor, want %d", len(log), len(a.seen), want)
	}
}
