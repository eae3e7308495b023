package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// P1 from outside: the real program as a process, 64 clients, SIGKILL at random times. The auditor keeps its own books
// (what the vendor was asked, what a client was answered, each by the text of its prompt) and shares no code with the
// journal.

const (
	killClients = 64
	// killAnswer is the cost of one answer of the vendor below: 10 tokens at 1 and 20 at 10 dollars per million.
	killAnswer = catalog.Nanodollars(210_000)
	killKey    = "sk-tw-kill-0123456789abcdef"
	// killBudget is the key's, in whole dollars; the team and the organization have more.
	killBudget = 100_000
	killBooks  = `journal: {segment_bytes: 200000}
keys: [{name: kill, key: ` + killKey + `, org: o, team: t, log: full, budget_usd: {total: 100000, month: 200000}}]
teams: [{name: t, org: o, budget_usd: {total: 300000}}]
orgs: [{name: o, budget_usd: {total: 400000}}]
`
)

// auditor remembers prompts.
type auditor struct {
	mu       sync.Mutex
	seen     map[string]int // by the vendor, and how often
	answered map[string]bool
	// remaining is what the last answer said is left of the budget.
	remaining string
}

func (a *auditor) see(prompt string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen[prompt]++
}

// asked is how many prompts the vendor has seen.
func (a *auditor) asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

func (a *auditor) answer(prompt string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answered[prompt] = true
}

// vendor answers after a few milliseconds, whole or as a stream.
func (a *auditor) vendor(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Stream   bool
		Messages []struct{ Content string }
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || len(body.Messages) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a.see(body.Messages[0].Content)
	time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
	if !body.Stream {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, vendorAnswer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, chunk := range []string{
		`{"choices":[{"index":0,"delta":{"content":"39"},"finish_reason":null}]}`,
		`{"choices":[{"index":0,"delta":{"content":"1"},"finish_reason":"stop"}]}`,
		`{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`, `[DONE]`,
	} {
		_, _ = io.WriteString(w, "data: "+chunk+"\n\n")
		w.(http.Flusher).Flush()
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
	}
}

// process is the program as a process of its own.
type process struct {
	cmd  *exec.Cmd
	addr string
}

func launch(t *testing.T, data, config string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--config", config)}
	p.cmd.Env = []string{childEnv + "=1", "PATH=" + os.Getenv("PATH"), "LAB_KEY=sk-lab-0123456789"}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "listening on http://"); ok {
			p.addr, _, _ = strings.Cut(rest, "/")
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return p
		}
	}
	t.Fatalf("the process did not listen: %v", p.cmd.Wait())
	return nil
}

// load is 64 clients that ask until the context ends. Each prompt is sent once and never again.
func (a *auditor) load(ctx context.Context, p *process, n int) {
	transport := &http.Transport{MaxIdleConnsPerHost: killClients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	for c := range killClients {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				prompt := fmt.Sprintf("kill %d client %d request %d", n, c, i)
				if a.request(ctx, client, p.addr, prompt, i%2 == 1) {
					a.answer(prompt)
				}
			}
		})
	}
	wg.Wait()
}

// request reports whether the client had its whole answer.
func (a *auditor) request(ctx context.Context, client *http.Client, addr, prompt string, stream bool) bool {
	// No retry of the client's own may send a prompt twice: a body that cannot be read again forbids it.
	body := io.NopCloser(strings.NewReader(ask("lab/small", prompt, `,"stream":`+strconv.FormatBool(stream))))
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+addr+"/v1/chat/completions", body)
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+killKey)
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	a.left(resp.Header.Get("X-Tradewind-Budget-Remaining-Usd"))
	text, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && (!stream || strings.HasSuffix(string(text), "data: [DONE]\n\n"))
}

// TestKill is P1: 1,000 kills and a million requests at TRADEWIND_TEST_SCALE=1. Each process serves a random number of
// requests before its end, on average a thousand, and 150 where the scale is small.
func TestKill(t *testing.T) {
	kills := scaled(t, 1000, 25)
	requests := scaled(t, 2000, 300)
	a := &auditor{seen: map[string]int{}, answered: map[string]bool{}}
	upstream := httptest.NewServer(http.HandlerFunc(a.vendor))
	defer upstream.Close()
	v := &vendor{Server: upstream}
	config := write(t, "tradewind.yaml", v.provider()+killBooks)
	data := filepath.Join(t.TempDir(), "data")
	for n := range kills {
		p := launch(t, data, config)
		ctx, cancel := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		clients.Go(func() { a.load(ctx, p, n) })
		for until, deadline := a.asked()+rand.IntN(requests), time.Now().Add(30*time.Second); a.asked() < until && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait() // killed, as it should be
		cancel()
		clients.Wait()
	}
	last := launch(t, data, config) // recovers, answers one request, seals, and ends as it should
	if !a.request(t.Context(), http.DefaultClient, last.addr, "the last request", false) {
		t.Error("the last request was not answered")
	}
	a.answer("the last request")
	if err := last.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := last.cmd.Wait(); err != nil {
		t.Fatalf("the last process: %v", err)
	}
	run(t, "data", "verify", filepath.Join(data, "log"))
	log := rounds(t, data)
	a.audit(t, kills, log)
	a.money(t, data, log)
}

// left remembers the last answer's remaining budget.
func (a *auditor) left(usd string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remaining = usd
}

// money compares the ledger, which was rebuilt after every kill, with the sum over the whole log: in the last process's
// own answer, and in the file that it left.
func (a *auditor) money(t *testing.T, data string, log []datasets.Round) {
	t.Helper()
	var spent catalog.Nanodollars
	for i := range log {
		spent += log[i].Outcome.Cost
	}
	if want := killBudget*1_000_000_000 - spent; a.remaining != want.String() {
		t.Errorf("the last process has %s USD left, want %s: %s spent of %d", a.remaining, want, spent, killBudget)
	}
	var file struct {
		Books struct {
			Accounts map[string]struct {
				Settled json.Number `json:"settled_usd"`
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(data, "ledger.json"))
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"key:" + log[0].Decision.KeyID + "@total", "team:o/t@total", "org:o@total"} {
		if got := file.Books.Accounts[account].Settled.String(); got != spent.String() {
			t.Errorf("%s has settled %s USD, the log says %s", account, got, spent)
		}
	}
	t.Logf("the log says %s USD, and so does the ledger", spent)
}

// audit compares the books: every round that the vendor saw is in the log with exactly one outcome, every answer that a
// client had is completed at its price, and nothing is there twice.
func (a *auditor) audit(t *testing.T, kills int, log []datasets.Round) {
	t.Helper()
	byPrompt, ids := map[string]*datasets.Round{}, map[datasets.RoundID]bool{}
	status := map[datasets.Status]int{}
	for i := range log {
		r := &log[i]
		if byPrompt[r.Decision.Prompt] != nil || ids[r.Decision.RoundID] {
			t.Errorf("round %s of %q stands twice", r.Decision.RoundID, r.Decision.Prompt)
		}
		byPrompt[r.Decision.Prompt], ids[r.Decision.RoundID] = r, true
		status[r.Outcome.Status]++
		if r.Outcome.Status == datasets.Unknown && (a.answered[r.Decision.Prompt] || r.Outcome.Cost != r.Decision.Hold) {
			t.Errorf("round of %q is unknown at a cost of %s: it was answered, or is not settled at its hold %s", r.Decision.Prompt, r.Outcome.Cost, r.Decision.Hold)
		}
		if r.Outcome.RoundID != r.Decision.RoundID || r.Outcome.Status == "" || r.Outcome.Status == datasets.Refused {
			t.Errorf("round %s has the outcome %+v", r.Decision.RoundID, r.Outcome)
		}
	}
	for prompt, times := range a.seen {
		if byPrompt[prompt] == nil {
			t.Errorf("the vendor was asked %q, and the log has no round of it", prompt)
		}
		if times != 1 {
			t.Errorf("the vendor was asked %q %d times", prompt, times)
		}
	}
	for prompt := range a.answered {
		if r := byPrompt[prompt]; r == nil || r.Outcome.Status != datasets.Completed || r.Outcome.Cost != killAnswer {
			t.Errorf("%q was answered, and its round is %+v", prompt, r)
		}
	}
	if len(a.seen) < kills*10 || len(a.answered) < kills || status[datasets.Unknown] == 0 {
		t.Errorf("%d asked, %d answered, %d unknown: the kills met no traffic", len(a.seen), len(a.answered), status[datasets.Unknown])
	}
	t.Logf("%d kills: the vendor was asked %d times, %d answers arrived, %d rounds in the log: %v", kills, len(a.seen), len(a.answered), len(log), status)
}
