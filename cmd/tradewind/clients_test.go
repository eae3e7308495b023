package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Clients and tools that know nothing of Tradewind must work with it unmodified.

// clientReport is what both clients under testdata print.
type clientReport struct {
	Answer, Model, Finish      string
	PromptTokens, OutputTokens int
	Streamed                   string
	Chunks, StreamUsage        int
	StreamModel                string
	Models                     []string
	ErrorCode                  string
	ErrorStatus                int

	Response, ResponseStreamed, ResponseModel string
	ResponseTokens                            int
}

func (r *clientReport) check(t *testing.T) {
	t.Helper()
	for what, model := range map[string]string{"answer": r.Model, "stream": r.StreamModel} {
		if !strings.HasPrefix(model, "sim/") {
			t.Errorf("the %s names model %q, want provider/model", what, model)
		}
	}
	contains(t, "the answer", r.Answer, "This is a simulated answer from "+r.Model)
	contains(t, "the stream", r.Streamed, "This is a simulated answer from "+r.StreamModel)
	if r.Finish != "stop" {
		t.Errorf("finish reason %q, want stop", r.Finish)
	}
	if r.PromptTokens <= 0 || r.OutputTokens <= 0 || r.StreamUsage <= 0 {
		t.Errorf("usage is %d prompt, %d output, %d streamed tokens; want all above 0", r.PromptTokens, r.OutputTokens, r.StreamUsage)
	}
	if r.Chunks < 3 {
		t.Errorf("the stream came in %d chunks, want several", r.Chunks)
	}
	// One prompt and one arm make one simulated answer, so a stream that lost or doubled an event differs.
	if r.Model == r.StreamModel && r.Answer != r.Streamed {
		t.Errorf("the stream reassembles to %q, the whole answer is %q", r.Streamed, r.Answer)
	}
	contains(t, "the response", r.Response, "This is a simulated answer from sim/middle")
	if r.ResponseStreamed != r.Response || r.ResponseModel != "sim/middle" || r.ResponseTokens <= 0 {
		t.Errorf("Responses: streamed %q by %q with %d tokens, whole %q", r.ResponseStreamed, r.ResponseModel, r.ResponseTokens, r.Response)
	}
	for _, id := range []string{"auto", "auto:cost", "sim/cheap", "sim/middle", "sim/strong"} {
		if !slices.Contains(r.Models, id) {
			t.Errorf("the list of models %v lacks %s", r.Models, id)
		}
	}
	if r.ErrorStatus != 404 || r.ErrorCode != "model_not_found" {
		t.Errorf("an unknown model gives %d %q, want 404 model_not_found", r.ErrorStatus, r.ErrorCode)
	}
}

// client starts a program that knows the base URL and a key, and reads its report.
func client(t *testing.T, s *service, cmd *exec.Cmd) {
	t.Helper()
	cmd.Env = append(os.Environ(), "OPENAI_BASE_URL="+s.url("/v1"), "OPENAI_API_KEY=sk-any")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd.Path, err, out, &stderr)
	}
	var r clientReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%s printed %q: %v", cmd.Path, out, err)
	}
	r.check(t)
}

func TestOpenAIGo(t *testing.T) {
	program := goClient(t, "openai-go")
	_, artifact := shared(t)
	client(t, start(t, nil, "--artifact", artifact), exec.CommandContext(t.Context(), program))
}

// goClient builds the client of a folder of testdata, or skips where its modules are missing.
func goClient(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join("testdata", name)
	program := filepath.Join(t.TempDir(), "client")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOPROXY=off", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "GOPROXY=off") || strings.Contains(string(out), "executable file not found") {
			peer(t, name, "run `go mod download` in cmd/tradewind/testdata/"+name)
		}
		t.Fatalf("building the client: %v\n%s", err, out)
	}
	return program
}

// node returns a command for a script of testdata/node, or skips where Node or its modules are missing.
func node(t *testing.T, module, script string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		peer(t, "node", "install Node 20 or later and run `npm ci` in cmd/tradewind/testdata/node")
	}
	dir := filepath.Join("testdata", "node")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", module)); err != nil {
		peer(t, "node", "run `npm ci` in cmd/tradewind/testdata/node")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{script}, args...)...)
	cmd.Dir = dir
	return cmd
}

func TestOpenAINode(t *testing.T) {
	cmd := node(t, "openai", "client.mjs")
	_, artifact := shared(t)
	client(t, start(t, nil, "--artifact", artifact), cmd)
}

// TestDuckDB reads the sealed log with an engine that knows Parquet and nothing else of us.
func TestDuckDB(t *testing.T) {
	const sql = "select status, count(*)::int as rounds, cast(sum(cost_usd * 1e9) as bigint)::varchar as nano, min(propensity) > 0 as drawn from {parts} group by status order by status"
	parts := filepath.Join("rounds", "*", "*", "*.parquet")
	cmd := node(t, filepath.Join("@duckdb", "node-api"), "duckdb.mjs")
	_, artifact := shared(t)
	s := start(t, nil, "--artifact", artifact)
	spent := catalog.Nanodollars(0)
	for range 4 {
		r := s.call("POST", "/v1/chat/completions", "", ask("auto", "What is 17 times 23?", ""))
		r.want(t, 200, nil)
		cost, err := catalog.ParseDollars(r.header.Get("X-Tradewind-Cost-Usd"))
		if err != nil {
			t.Fatal(err)
		}
		spent += cost
	}
	s.stop()
	cmd.Args = append(cmd.Args, filepath.Join(s.data, "log", parts), sql)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("DuckDB: %v\n%s", err, out)
	}
	type row struct {
		Status string
		Rounds int
		Nano   string
		Drawn  bool
	}
	var got []row
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("DuckDB printed %q: %v", out, err)
	}
	if want := (row{"completed", 4, strconv.FormatInt(int64(spent), 10), true}); len(got) != 1 || got[0] != want {
		t.Errorf("DuckDB reads %+v, want %+v", got, want)
	}
}
