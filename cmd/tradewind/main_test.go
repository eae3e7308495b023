package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tests of this package use the program from outside: arguments, environment, HTTP and files.

// childEnv makes the test binary the program itself, for tests that need a process to kill.
const childEnv = "TRADEWIND_TEST_MAIN"

// tableArms and tablePrompts are the size of the simulated table that most tests learn from.
const (
	tableArms    = "3"
	tablePrompts = "400"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" || len(os.Args) > 1 && (os.Args[1] == asideCommand || os.Args[1] == benchPartCommand) { // serve starts itself
		main()
	}
	code := m.Run()
	if fixture.dir != "" {
		_ = os.RemoveAll(fixture.dir)
	}
	os.Exit(code)
}

// fixture is the table and the artifact that tests share: training takes most of a second.
var fixture struct {
	once            sync.Once
	dir             string
	table, artifact string
	trained         string // what train printed
}

func shared(t *testing.T) (table, artifact string) {
	t.Helper()
	fixture.once.Do(func() {
		dir, err := os.MkdirTemp("", "tradewind-test-")
		if err != nil {
			t.Fatal(err)
		}
		fixture.dir, fixture.table = dir, filepath.Join(dir, "world.parquet")
		run(t, "data", "simulate", "--out", fixture.table, "--prompts", tablePrompts, "--arms", tableArms)
		artifact := filepath.Join(dir, "artifact")
		fixture.trained = run(t, "train", "--data", fixture.table, "--out", artifact, "--seed", "1")
		fixture.artifact = artifact
	})
	if fixture.artifact == "" {
		t.Fatal("the shared artifact could not be trained")
	}
	return fixture.table, fixture.artifact
}

// unseen is a table of prompts that the shared artifact was not trained on.
func unseen(t *testing.T) string {
	t.Helper()
	table := filepath.Join(t.TempDir(), "unseen.parquet")
	run(t, "data", "simulate", "--out", table, "--prompts", tablePrompts, "--arms", tableArms, "--seed", "1")
	return table
}

// env is an environment without the machine's own, so that a real provider key is never used.
type env map[string]string

func (e env) get(name string) string { return e[name] }

// command runs the program and returns what it printed and its exit code.
func command(t *testing.T, e env, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	m := Main{Args: args, Getenv: e.get, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs}
	code = m.Run(t.Context())
	return out.String(), errs.String(), code
}

// run is command for what must work.
func run(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := command(t, nil, "", args...)
	if code != 0 {
		t.Fatalf("tradewind %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// service is a running `tradewind serve`.
type service struct {
	t      *testing.T
	addr   string // host:port
	data   string
	cancel context.CancelFunc
	code   chan int
	stdout *syncBuffer
	stderr *syncBuffer
	ended  bool
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start serves on a free port of the loopback with a data directory of its own, and stops when the test ends.
func start(t *testing.T, e env, args ...string) *service {
	t.Helper()
	return startMain(t, Main{Getenv: e.get}, args...)
}

// startMain is start with more of Main than its environment.
func startMain(t *testing.T, m Main, args ...string) *service {
	t.Helper()
	s := &service{t: t, data: filepath.Join(t.TempDir(), "data"), code: make(chan int, 1), stdout: &syncBuffer{}, stderr: &syncBuffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	ready := make(chan string, 1)
	m.Args = append([]string{"serve", "--listen", "127.0.0.1:0", "--data-dir", s.data}, args...)
	m.Stdin, m.Stdout, m.Stderr, m.Ready = strings.NewReader(""), s.stdout, s.stderr, func(addr string) { ready <- addr }
	go func() { s.code <- m.Run(ctx) }()
	t.Cleanup(s.stop)
	select {
	case s.addr = <-ready:
	case code := <-s.code:
		s.ended = true
		t.Fatalf("serve ended with %d before it was ready\n%s%s", code, s.stdout, s.stderr)
	case <-time.After(2 * time.Minute):
		t.Fatalf("serve was not ready after two minutes\n%s%s", s.stdout, s.stderr)
	}
	return s
}

// stop ends the server as SIGTERM would and waits until its log is sealed.
func (s *service) stop() {
	s.t.Helper()
	if s.ended {
		return
	}
	s.ended = true
	s.cancel()
	select {
	case code := <-s.code:
		if code != 0 {
			s.t.Errorf("serve ended with exit code %d\n%s", code, s.stderr)
		}
	case <-time.After(time.Minute):
		s.t.Error("serve did not end within a minute of being told to")
	}
}

func (s *service) url(path string) string { return "http://" + s.addr + path }

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// call sends one request; a key is sent where it is not empty.
func (s *service) call(method, path, key, body string) reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url(path), strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header, text}
}

// want decodes an answer that must have a status.
func (r reply) want(t *testing.T, status int, into any) {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(r.body, into); err != nil {
		t.Fatalf("the answer is not what was expected: %v\n%s", err, r.body)
	}
}

// completion is what the tests read of a chat answer, whole or a chunk.
type completion struct {
	Model     string
	Simulated bool
	Choices   []struct {
		Message, Delta struct{ Content string }
		FinishReason   string `json:"finish_reason"`
	}
	Usage *struct {
		PromptTokens     int      `json:"prompt_tokens"`
		CompletionTokens int      `json:"completion_tokens"`
		Cost             *float64 `json:"cost"`
	}
}

// wireError is the error object of the wire.
type wireError struct {
	Error struct {
		Message, Type, Code, Param string
		Tradewind                  struct {
			Reason, Scope string
			LimitUSD      float64 `json:"limit_usd"`
			SpentUSD      float64 `json:"spent_usd"`
		}
	}
}

// ask is a chat body with one user turn; more is spliced in as it is.
func ask(model, prompt, more string) string {
	quoted, _ := json.Marshal(prompt)
	return `{"model":` + strconv.Quote(model) + `,"messages":[{"role":"user","content":` + string(quoted) + `}]` + more + `}`
}

// contains fails where text lacks one of the parts.
func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q:\n%s", what, p, text)
		}
	}
}

// write makes a file in a folder of the test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// peer ends a test whose peer (another program) is not here. Where TRADEWIND_TEST_REQUIRE names the peer, as CI does,
// that is a failure: nothing may pass by being skipped.
func peer(t *testing.T, name, reason string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("TRADEWIND_TEST_REQUIRE"), ","), name) {
		t.Fatalf("%s is required: %s", name, reason)
	}
	t.Skipf("skipped: needs %s: %s", name, reason)
}

// scaled is n at TRADEWIND_TEST_SCALE=1; the default scale is 0.01. It is never less than least.
func scaled(t *testing.T, n, least int) int {
	t.Helper()
	text := os.Getenv("TRADEWIND_TEST_SCALE")
	if text == "" {
		text = "0.01"
	}
	scale, err := strconv.ParseFloat(text, 64)
	if err != nil || scale <= 0 {
		t.Fatalf("TRADEWIND_TEST_SCALE is %q, want a number above 0", text)
	}
	return max(least, int(float64(n)*scale))
}
