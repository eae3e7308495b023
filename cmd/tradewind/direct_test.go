package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
)

// directVendor speaks OpenAI's completions and embeddings, and nothing else. A vector is the length of its text and a third.
func directVendor(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var ask struct {
		Model          string
		Input          []string
		EncodingFormat string `json:"encoding_format"`
		Stream         bool
	}
	if json.Unmarshal(body, &ask) != nil || ask.Model != "vec" && ask.Model != "say" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch {
	case r.URL.Path == "/v1/embeddings":
		var data []string
		for i, text := range ask.Input {
			vector := fmt.Sprintf("[%d,0.25]", len(text))
			if ask.EncodingFormat == "base64" {
				raw := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(len(text))))
				vector = `"` + base64.StdEncoding.EncodeToString(binary.LittleEndian.AppendUint32(raw, math.Float32bits(0.25))) + `"`
			}
			data = append(data, fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":%s}`, i, vector))
		}
		fmt.Fprintf(w, `{"object":"list","data":[%s],"model":"vec","usage":{"prompt_tokens":7,"total_tokens":7}}`, strings.Join(data, ","))
	case r.URL.Path != "/v1/completions":
		w.WriteHeader(http.StatusNotFound)
	case ask.Stream:
		w.Header().Set("Content-Type", "text/event-stream")
		for _, choices := range []string{`[{"index":0,"text":"39","finish_reason":null}]`, `[{"index":0,"text":"1","finish_reason":"stop"}]`} {
			fmt.Fprintf(w, "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"say\",\"choices\":%s}\n\n", choices)
		}
		fmt.Fprint(w, "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"say\",\"choices\":[],\"usage\":{\"prompt_tokens\":6,\"completion_tokens\":2,\"total_tokens\":8}}\n\ndata: [DONE]\n\n")
	default:
		fmt.Fprint(w, `{"id":"cmpl-1","object":"text_completion","created":1,"model":"say","choices":[{"index":0,"text":"391","finish_reason":"stop"}],"usage":{"prompt_tokens":6,"completion_tokens":2,"total_tokens":8}}`)
	}
}

// directConfig is a configuration in which a vendor has a model of each mode.
func directConfig(t *testing.T, vendor string) string {
	t.Helper()
	return write(t, "tradewind.yaml", `providers:
  - name: lab
    type: openai
    base_url: `+vendor+`/v1
    api_key: sk-lab-0123456789
    models:
      - {name: vec, mode: embedding, input_usd_per_mtok: 0.02, context_tokens: 8191, as_of: 2026-11-01}
      - {name: say, mode: completion, input_usd_per_mtok: 1.5, output_usd_per_mtok: 2, as_of: 2026-11-01}
      - {name: talk, input_usd_per_mtok: 1, output_usd_per_mtok: 2, cache_read_usd_per_mtok: 0.1, as_of: 2026-11-01}
aliases: {index: lab/vec}
`)
}

// What both clients under testdata print of what is passed through.
type directReport struct {
	Vectors                        [][]float64
	EmbeddingModel, CompletionUsed string
	Tokens, CompletionTokens       int
	Text, Streamed                 string
	StreamUsage                    int
	ErrorCode, ErrorParam          string
}

func directClient(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	vendor := httptest.NewServer(http.HandlerFunc(directVendor))
	defer vendor.Close()
	s := start(t, nil, "--config", directConfig(t, vendor.URL))
	cmd.Args = append(cmd.Args, "index", "lab/say")
	cmd.Env = append(os.Environ(), "OPENAI_BASE_URL="+s.url("/v1"), "OPENAI_API_KEY=sk-any")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd.Path, err, out, &stderr)
	}
	var got directReport
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%s printed %q: %v", cmd.Path, out, err)
	}
	want := directReport{
		Vectors: [][]float64{{3, 0.25}, {5, 0.25}}, EmbeddingModel: "lab/vec", Tokens: 7, Text: "391", CompletionUsed: "lab/say", CompletionTokens: 2,
		Streamed: "391", StreamUsage: 2, ErrorCode: "invalid_request", ErrorParam: "model",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the client saw %+v\nwant %+v", got, want)
	}
	// 7 tokens at 20 nanodollars, and twice 6 at 1,500 and 2 at 2,000.
	r := s.call("GET", "/v1/usage", "", "")
	r.want(t, 200, nil)
	contains(t, "the usage", string(r.body), "0.00002614")
}

func TestOpenAIGoDirect(t *testing.T) {
	directClient(t, exec.CommandContext(t.Context(), goClient(t, "openai-go")))
}

func TestOpenAINodeDirect(t *testing.T) {
	directClient(t, node(t, "openai", "direct.mjs"))
}

// TestModesInConfiguration: a mode is declared where the model is, and checked where it cannot be.
func TestModesInConfiguration(t *testing.T) {
	file := directConfig(t, "http://127.0.0.1:1")
	by, code := examined(t, nil, "--config", file, "--offline", "--data-dir", t.TempDir())
	contains(t, "doctor", by["config"], "3 models of 1 providers", "2 of them serve only who names them, on /v1/embeddings or /v1/completions: lab/say (completion), lab/vec (embedding)")
	if code != 0 || strings.Contains(by["catalog"], "lab/vec") {
		t.Errorf("exit code %d, %v", code, by)
	}
	contains(t, "catalog show", run(t, "catalog", "show", "lab/vec", "--config", file), "in 0.02 USD per million tokens", "embedding")
	contains(t, "catalog list", run(t, "catalog", "list", "lab/vec", "--config", file), "embedding")
	shown := run(t, "catalog", "show", "openai/text-embedding-3-small")
	if strings.Contains(shown, "out ") {
		t.Errorf("vectors have no output, and no price of one: %s", shown)
	}
	model := func(provider, model string) string {
		return `providers: [{` + provider + `, models: [{` + model + `}, {name: talk}]}]`
	}
	const lab = `name: lab, base_url: "http://127.0.0.1:1/v1"`
	for text, want := range map[string]string{
		model(lab, `name: vec, mode: embeddings`):                                                   "mode \"embeddings\" is none of chat, completion, embedding",
		model(lab, `name: vec, mode: embedding, output_usd_per_mtok: 1`):                            "a price needs",
		model(lab, `name: say, mode: completion, input_usd_per_mtok: 1`):                            "a price needs",
		model(lab, `name: vec, mode: embedding, input_usd_per_mtok: 0`):                             "a price needs",
		model(lab, `name: vec, mode: embedding, supports: [reasoning], efforts: [low]`):             "has no efforts",
		model(`name: google, api_key: x-0123456789`, `name: gemini-embedding-001, mode: embedding`): "model gemini-embedding-001 is for mode embedding, which google's protocol does not have here",
		model(lab, `name: vec, mode: embedding`) + "\nfallbacks: {lab/talk: lab/vec}":               "not served in chat",
		`providers: [{` + lab + `, models: [{name: vec, mode: embedding, free: true}]}]`:            "no arm for chat",
	} {
		by, code := examined(t, nil, "--config", write(t, "tradewind.yaml", text), "--offline", "--data-dir", t.TempDir())
		if contains(t, text, by["config"], want); code != 1 {
			t.Errorf("%s: exit code %d", text, code)
		}
	}
	for _, good := range []string{`name: vec, mode: embedding, free: true`, `name: vec, mode: embedding`, `name: vec, mode: chat`, `name: text-embedding-3-small`} {
		if by, code := examined(t, nil, "--config", write(t, "tradewind.yaml", model(lab, good)), "--offline", "--data-dir", t.TempDir()); code != 0 {
			t.Errorf("%s: %v", good, by)
		}
	}
}
