package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
)

// patient is a vendor that answers at once, unless it is to hold an answer back until it is let go.
type patient struct {
	*httptest.Server
	mu   sync.Mutex
	asks []string
	// held is told of every call that waits for gate.
	held chan struct{}
	gate chan struct{}
}

func newPatient(t *testing.T) *patient {
	p := &patient{held: make(chan struct{}, 8), gate: make(chan struct{})}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.asks = append(p.asks, string(body))
		p.mu.Unlock()
		if strings.Contains(string(body), "held") {
			p.held <- struct{}{}
			select {
			case <-p.gate:
			case <-r.Context().Done():
				return
			}
		}
		if !strings.Contains(string(body), `"stream":true`) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, vendorAnswer)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"391"},"finish_reason":"stop"}]}`+"\n\n"+
			`data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`+"\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(p.Close)
	return p
}

// asked counts the calls whose body holds a text.
func (p *patient) asked(text string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.asks {
		if strings.Contains(a, text) {
			n++
		}
	}
	return n
}

// under sends a request under an idempotency key; the status is 0 where there was no answer.
func under(t *testing.T, addr, key, body string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/v1/chat/completions", io.NopCloser(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+killKey)
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}
	}
	return reply{resp.StatusCode, resp.Header, text}
}

// TestKillUnderKey kills the real program between two requests under one key, and in the midst of one: what was answered is
// answered alike, what may have been charged is said to be, and nothing is charged twice.
func TestKillUnderKey(t *testing.T) {
	p := newPatient(t)
	config, data := write(t, "tradewind.yaml", (&vendor{Server: p.Server}).provider()+killBooks), filepath.Join(t.TempDir(), "data")
	first := launch(t, data, config)
	bodies := map[string]string{
		"whole": ask("lab/small", "whole", ""), "stream": ask("lab/small", "streamed", `,"stream":true`), "held": ask("lab/small", "held", ""),
	}
	answers := map[string]reply{}
	for _, key := range []string{"whole", "stream"} {
		if answers[key] = under(t, first.addr, key, bodies[key]); answers[key].status != 200 {
			t.Fatalf("%d %s", answers[key].status, answers[key].body)
		}
	}
	var cut sync.WaitGroup
	cut.Go(func() {
		if r := under(t, first.addr, "held", bodies["held"]); r.status != 0 {
			t.Errorf("a killed process answered %d %s", r.status, r.body)
		}
	})
	<-p.held
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait() // killed, as it should be
	cut.Wait()

	second := launch(t, data, config)
	for key, was := range answers {
		r := under(t, second.addr, key, bodies[key])
		if r.status != 200 || string(r.body) != string(was.body) || r.header.Get("X-Tradewind-Idempotent-Replay") != "true" ||
			r.header.Get("X-Tradewind-Decision-Id") != was.header.Get("X-Tradewind-Decision-Id") || r.header.Get("Content-Type") != was.header.Get("Content-Type") {
			t.Errorf("%s: first %v %s, after the kill %d %v %s", key, was.header, was.body, r.status, r.header, r.body)
		}
		if r := under(t, second.addr, key, bodies[key]+" "); r.status != 409 || !strings.Contains(string(r.body), "idempotency_mismatch") {
			t.Errorf("%s with another body: %d %s", key, r.status, r.body)
		}
	}
	r := under(t, second.addr, "held", bodies["held"])
	var refusal struct {
		Error struct {
			Code      string
			Tradewind struct {
				Reason string
				First  datasets.RoundID `json:"first_decision_id"`
			}
		}
	}
	r.want(t, 409, &refusal)
	if e := refusal.Error; e.Code != "answer_not_kept" || e.Tradewind.Reason != "answer_interrupted" || r.header.Get("X-Should-Retry") != "false" {
		t.Errorf("%v %s", r.header, r.body)
	}
	if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.cmd.Wait(); err != nil {
		t.Fatalf("the second process: %v", err)
	}
	log := rounds(t, data)
	if len(log) != 3 || p.asked("") != 3 {
		t.Errorf("%d rounds and %d calls for three keys", len(log), p.asked(""))
	}
	for i := range log {
		o := &log[i].Outcome
		if unknown := o.RoundID == refusal.Error.Tradewind.First; unknown != (o.Status == datasets.Unknown) || unknown != (o.Cost == log[i].Decision.Hold) {
			t.Errorf("round %+v", log[i])
		}
	}
}

// answerEither is a vendor's answer, whole or streamed, as it is asked for.
func answerEither(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Accept") != "text/event-stream" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, vendorAnswer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"391"},"finish_reason":"stop"}]}`+"\n\n"+
		`data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`+"\n\ndata: [DONE]\n\n")
}

// TestOpenAIGoRetries: a connection breaks under an unmodified client while the vendor works. The client's own retries, with
// the header that it was told to send, find the answer of the first attempt.
func TestOpenAIGoRetries(t *testing.T) {
	program := goClient(t, "openai-go")
	v := newVendor(t)
	gate := make(chan struct{}, 4)
	v.refuse = func(w http.ResponseWriter, r *http.Request) {
		<-gate
		answerEither(w, r)
	}
	s := start(t, env{"LAB_KEY": "sk-lab-0123456789"}, "--config", write(t, "tradewind.yaml", v.provider()))
	target, err := url.Parse(s.url(""))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	statuses := map[string][]int{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		key := r.Request.Header.Get("Idempotency-Key")
		mu.Lock()
		statuses[key] = append(statuses[key], r.StatusCode)
		mu.Unlock()
		if r.StatusCode == http.StatusConflict {
			gate <- struct{}{} // the vendor is done before the next retry
		}
		return nil
	}
	tried := map[string]bool{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("Idempotency-Key")
		mu.Lock()
		first := !tried[key]
		tried[key] = true
		mu.Unlock()
		if first { // breaks once the vendor has been asked
			ctx, cut := context.WithCancel(r.Context())
			go func() { <-v.calls; cut() }()
			r = r.WithContext(ctx)
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	cmd := exec.CommandContext(t.Context(), program, "retry")
	cmd.Env = append(os.Environ(), "OPENAI_BASE_URL="+front.URL+"/v1", "OPENAI_API_KEY=sk-any")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var report struct {
		Answers []string
		Replay  string
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if !slices.Equal(report.Answers, []string{"391", "391"}) || report.Replay != "true" {
		t.Errorf("the client has %+v", report)
	}
	for key, got := range statuses {
		if !slices.Equal(got, []int{409, 200}) {
			t.Errorf("%s: after the break %v, want 409 and 200", key, got)
		}
	}
	s.stop()
	if log := rounds(t, s.data); len(log) != 2 || len(v.calls) != 0 {
		t.Errorf("%d rounds and %d more calls for two keys", len(log), len(v.calls))
	}
}
