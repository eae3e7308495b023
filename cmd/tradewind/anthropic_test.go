package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Anthropic's own clients, whole and streamed, with tools and with their retries, at arms that speak Messages and at arms
// that speak chat.

// messagesReport is what the clients under testdata print.
type messagesReport struct {
	Answer, Model, Stop       string
	InputTokens, OutputTokens int
	Streamed, StreamModel     string
	Events, StreamUsage       int
	Counted                   int
	ErrorType                 string
	ErrorStatus               int
	Tools                     map[string]struct{ Name, Input, Said, SaidStreamed, Ran string }
}

func (r *messagesReport) check(t *testing.T, tools ...string) {
	t.Helper()
	contains(t, "the answer", r.Answer, "391")
	if r.Answer != r.Streamed {
		t.Errorf("the stream reassembles to %q, the whole answer is %q", r.Streamed, r.Answer)
	}
	if !strings.Contains(r.Model, "/") || !strings.Contains(r.StreamModel, "/") || r.Stop != "end_turn" {
		t.Errorf("answered by %q and %q with stop reason %q", r.Model, r.StreamModel, r.Stop)
	}
	if r.InputTokens <= 0 || r.OutputTokens <= 0 || r.StreamUsage != r.OutputTokens || r.Counted <= 0 || r.Events < 5 {
		t.Errorf("usage and events: %+v", r)
	}
	if r.ErrorStatus != 404 || r.ErrorType != "not_found_error" {
		t.Errorf("an unknown model gives %d %q, want 404 not_found_error", r.ErrorStatus, r.ErrorType)
	}
	for _, model := range tools {
		if got := r.Tools[model]; got.Name != "multiply" || got.Input != `{"a":17,"b":23}` || got.Said != "It is 391." || got.SaidStreamed != "It is 391." {
			t.Errorf("%s with a tool: %+v", model, got)
		}
	}
}

// bilingual is a vendor that speaks Messages and chat. It multiplies with the tool that it is offered. Every third call
// fails, so that clients and the gateway must try again.
type bilingual struct {
	*httptest.Server
	calls, failed atomic.Int64
}

func newBilingual(t *testing.T) *bilingual {
	t.Helper()
	b := &bilingual{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if n := b.calls.Add(1); n <= 2 { // the gateway tries twice, so the client must too
			b.failed.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		b.answer(w, r.URL.Path, string(body))
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *bilingual) answer(w http.ResponseWriter, path, body string) {
	text := "It is 391."
	calls := strings.Contains(body, `"tools"`) && !strings.Contains(body, "tool_result") && !strings.Contains(body, `"role":"tool"`)
	streamed := strings.Contains(body, `"stream":true`)
	w.Header().Set("Content-Type", "application/json")
	if streamed {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	event := func(payload string) {
		var e struct{ Type string }
		if json.Unmarshal([]byte(payload), &e) == nil && e.Type != "" {
			fmt.Fprintf(w, "event: %s\n", e.Type)
		}
		fmt.Fprintf(w, "data: %s\n\n", payload)
	}
	switch {
	case path == "/v1/messages" && streamed:
		event(`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":1}}}`)
		event(`{"type":"ping"}`)
		stop := "end_turn"
		if calls {
			stop = "tool_use"
			event(`{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"multiply","input":{}}}`)
			event(`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\":17,"}}`)
			event(`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"\"b\":23}"}}`)
		} else {
			event(`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
			event(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"` + text + `"}}`)
		}
		event(`{"type":"content_block_stop","index":0}`)
		event(`{"type":"message_delta","delta":{"stop_reason":"` + stop + `","stop_sequence":null},"usage":{"output_tokens":20}}`)
		event(`{"type":"message_stop"}`)
	case path == "/v1/messages":
		block, stop := `{"type":"text","text":"`+text+`"}`, "end_turn"
		if calls {
			block, stop = `{"type":"tool_use","id":"toolu_1","name":"multiply","input":{"a":17,"b":23}}`, "tool_use"
		}
		fmt.Fprintf(w, `{"id":"msg_1","type":"message","role":"assistant","model":"x","content":[%s],"stop_reason":%q,"stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":20}}`, block, stop)
	case streamed:
		delta, stop := `{"role":"assistant","content":"`+text+`"}`, "stop"
		if calls {
			delta, stop = `{"role":"assistant","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"multiply","arguments":"{\"a\":17,\"b\":23}"}}]}`, "tool_calls"
		}
		event(`{"id":"c1","object":"chat.completion.chunk","created":1,"model":"x","choices":[{"index":0,"delta":` + delta + `,"finish_reason":null}]}`)
		event(`{"id":"c1","object":"chat.completion.chunk","created":1,"model":"x","choices":[{"index":0,"delta":{},"finish_reason":"` + stop + `"}]}`)
		event(`{"id":"c1","object":"chat.completion.chunk","created":1,"model":"x","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`)
		event("[DONE]")
	default:
		m, stop := `"content":"`+text+`"`, "stop"
		if calls {
			m, stop = `"content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"multiply","arguments":"{\"a\":17,\"b\":23}"}}]`, "tool_calls"
		}
		fmt.Fprintf(w, `{"id":"c1","object":"chat.completion","created":1,"model":"x","choices":[{"index":0,"message":{"role":"assistant",%s},"finish_reason":%q}],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`, m, stop)
	}
}

// providers is the configuration of the vendor under both of its tongues.
func (b *bilingual) providers() string {
	return fmt.Sprintf(`
providers:
  - name: claude
    type: anthropic
    base_url: %[1]s/v1
    api_key: sk-ant-0123456789
    models: [{name: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10, cache_read_usd_per_mtok: 0.1, supports: [tools]}]
  - name: lab
    type: openai
    base_url: %[1]s/v1
    api_key: sk-lab-0123456789
    models: [{name: small, input_usd_per_mtok: 2, output_usd_per_mtok: 20, cache_read_usd_per_mtok: 0.2, supports: [tools]}]
`, b.URL)
}

// messagesClient runs a client that speaks Messages.
func messagesClient(t *testing.T, cmd *exec.Cmd) *messagesReport {
	t.Helper()
	b := newBilingual(t)
	s := start(t, env{}, "--config", write(t, "tradewind.yaml", b.providers()))
	models := []string{"claude/small", "lab/small"}
	cmd.Args = append(cmd.Args, models...)
	cmd.Env = append(os.Environ(), "ANTHROPIC_BASE_URL="+s.url(""), "ANTHROPIC_API_KEY=sk-any")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd.Path, err, out, &stderr)
	}
	var r messagesReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%s printed %q: %v", cmd.Path, out, err)
	}
	r.check(t, models...)
	if b.failed.Load() == 0 {
		t.Error("nothing failed, so nothing was tried again")
	}
	return &r
}

func TestAnthropicGo(t *testing.T) {
	messagesClient(t, exec.CommandContext(t.Context(), goClient(t, "anthropic-go")))
}

func TestAnthropicNode(t *testing.T) {
	messagesClient(t, node(t, filepath.Join("@anthropic-ai", "sdk"), "anthropic.mjs"))
}

func TestAnthropicPython(t *testing.T) {
	r := messagesClient(t, python(t, "anthropic", "anthropic_client.py"))
	for model, tools := range r.Tools { // the tool runner asks for a thread, and goes on without one
		if tools.Ran != "It is 391." {
			t.Errorf("%s with a tool runner: %+v", model, tools)
		}
	}
}

// python returns a command for a script of testdata/python, or skips where Python or the module is missing.
func python(t *testing.T, module, script string) *exec.Cmd {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", "python"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ".venv", "bin", "python")
	if exec.CommandContext(t.Context(), path, "-c", "import "+module).Run() != nil {
		peer(t, "python", "run `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in cmd/tradewind/testdata/python")
	}
	cmd := exec.CommandContext(t.Context(), path, script)
	cmd.Dir = dir
	return cmd
}
