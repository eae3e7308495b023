package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

const litellmExample = `
model_list:
  - model_name: smart
    litellm_params: {model: openai/gpt-5, api_key: os.environ/OPENAI_API_KEY, rpm: 100, tpm: 200_000, order: 2, timeout: 45, weight: 3}
    model_info: {supports_vision: false, max_input_tokens: 1000}
  - model_name: smart
    litellm_params: {model: azure/my-gpt-5, api_base: os.environ/AZURE_API_BASE, api_key: os.environ/AZURE_API_KEY, api_version: "2024-02-01", order: 1, rpm: 0, timeout: 0}
    model_info: {input_cost_per_token: 1.25e-06, output_cost_per_token: 1e-05, cache_read_input_token_cost: 1.25e-07}
  - model_name: gpt-5-mini
    litellm_params: {model: gpt-5-mini, api_key: os.environ/OPENAI_API_KEY, drop_params: false}
  - model_name: small
    litellm_params: {model: gpt-5-mini, api_key: os.environ/OPENAI_API_KEY, rpm: 7}
  - model_name: second-key
    litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/OPENAI_API_KEY_B}
  - model_name: local
    litellm_params: {model: ollama/llama3:8b, api_base: "http://localhost:11434"}
    model_info: {input_cost_per_token: 0, output_cost_per_token: 0, supports_function_calling: true}
  - model_name: house
    litellm_params: {model: openai/ours, api_base: "http://10.0.0.7:8000/v1", api_key: none}
  - model_name: "mistral/*"
    litellm_params: {model: "mistral/*", api_key: os.environ/MISTRAL_API_KEY, tpm: 5000, order: 1}
  - model_name: bed
    litellm_params: {model: vertex_ai/claude-sonnet-5@default, vertex_project: p, vertex_location: eu}
  - model_name: vertex
    litellm_params: {model: vertex_ai/gemini-2.5-pro, vertex_project: p, vertex_location: eu, vertex_credentials: os.environ/VERTEX_FILE}
  - model_name: vertex
    litellm_params: {model: vertex_ai_beta/gemini-2.5-flash, vertex_project: p, vertex_location: us-central1, vertex_credentials: os.environ/VERTEX_FILE}
  - model_name: claude
    litellm_params: {model: anthropic/claude-haiku-4-5, api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: claude
    litellm_params: {model: anthropic/claude-haiku-4-5, api_key: os.environ/ANTHROPIC_API_KEY_B}
  - model_name: ear
    litellm_params: {model: openai/whisper-1}
    model_info: {mode: audio_transcription}
  - model_name: index
    litellm_params: {model: openai/text-embedding-3-small, api_key: os.environ/OPENAI_API_KEY}
  - model_name: ours
    litellm_params: {model: openai/embed, api_base: "http://10.0.0.7:8000/v1", api_key: none}
    model_info: {mode: embedding, input_cost_per_token: 1e-08, output_cost_per_token: 0}
  - model_name: theirs
    litellm_params: {model: gemini/gemini-embedding-001, api_key: os.environ/GEMINI_API_KEY}
    model_info: {mode: embedding}
  - model_name: based
    litellm_params: {model: azure/deployed, api_base: os.environ/AZURE_API_BASE, api_key: os.environ/AZURE_API_KEY}
    model_info: {base_model: azure/gpt-4o, supports_vision: false}
  - model_name: nobody
    litellm_params: {model: no-such-model}
router_settings:
  routing_strategy: simple-shuffle
  num_retries: 5
  timeout: 120
  fallbacks: [{smart: [gpt-5-mini, bed]}, {bed: [smart]}, {index: [ours]}]
  context_window_fallbacks: [{gpt-5-mini: [smart]}]
  model_group_alias: {clever: smart, gone: bed}
  allowed_fails: 3
litellm_settings:
  drop_params: true
  callbacks: [prometheus]
  max_budget: 100.5
  budget_duration: 30d
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: postgres://x
environment_variables: {FOO: bar}
`

func TestImportLiteLLM(t *testing.T) {
	stdout, stderr, code := command(t, nil, "", "config", "import", "--from", "litellm", write(t, "litellm.yaml", litellmExample))
	if code != 0 {
		t.Fatal(stderr)
	}
	e := env{"OPENAI_API_KEY": "sk-openai-0123456789", "OPENAI_API_KEY_B": "sk-openai-b-0123456789", "AZURE_API_BASE": "https://x.openai.azure.com",
		"AZURE_API_KEY": "azure-0123456789", "MISTRAL_API_KEY": "mistral-0123456789", "LITELLM_MASTER_KEY": "sk-master-0123456789",
		"ANTHROPIC_API_KEY": "anthropic-0123456789", "ANTHROPIC_API_KEY_B": "anthropic-b-0123456789", "VERTEX_FILE": vertexFile(t)}
	file := write(t, "tradewind.yaml", stdout)
	c, err := loadConfig(file, e.get, func(*config) {})
	if err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if by, code := examined(t, e, "--config", file, "--offline", "--data-dir", t.TempDir()); code != 0 {
		t.Errorf("doctor: %v\n%s", by, stdout)
	}
	contains(t, "the configuration", stdout, "name: openai\n", "name: azure\n", "base_url: ${AZURE_API_BASE}/openai/v1", "name: openai-2\n",
		"base_url: https://api.openai.com/v1", "name: localhost-11434", "http://localhost:11434/v1", "llama3:8b", "name: 10.0.0.7-8000", "name: mistral\n",
		"input_usd_per_mtok: 1.25\n", "cache_read_usd_per_mtok: 0.125\n", "vision: false", "mode: embedding\n", "input_usd_per_mtok: 0.01\n", "context_tokens: 1000", "free: true",
		"attempts: 3", "timeout_seconds: 120", "limits:\n      rpm: 100\n      tpm: 200000\n", "priority: 2\n", "weight: 3", "answer_seconds: 45", "priority: 1\n", "limits:\n    tpm: 5000\n", "strategy: availability", "month: 100.5", "key: os.environ/LITELLM_MASTER_KEY")
	f, err := assemble(c, e.get, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range f.arms {
		if a.DropParams == (a.ID == "openai/gpt-5-mini") {
			t.Errorf("%s: drop_params is %v", a.ID, a.DropParams)
		}
	}
	for name, want := range map[string]string{"smart": "openai/gpt-5 azure/my-gpt-5", "vertex": "google-vertex/gemini-2.5-pro google-vertex-2/gemini-2.5-flash", "clever": "openai/gpt-5 azure/my-gpt-5", "second-key": "openai-2/gpt-5-mini", "index": "openai/text-embedding-3-small", "ours": "10.0.0.7-8000/embed", "local": "localhost-11434/llama3:8b", "house": "10.0.0.7-8000/ours"} {
		if got := strings.Join(c.Aliases[name], " "); got != want {
			t.Errorf("alias %s stands for %q, want %q", name, got, want)
		}
	}
	if got := strings.Join(c.Fallbacks["smart"], " ") + ", " + strings.Join(c.Fallbacks["gpt-5-mini"], " "); got != "gpt-5-mini, smart" {
		t.Errorf("fallbacks %s", got)
	}
	// LiteLLM prices a deployment by its model's name, wherever it stands: an alias would lose it without a price.
	known, err := catalog.Default()
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]catalog.ArmID{"openai-2/gpt-5-mini": "openai/gpt-5-mini", "azure/deployed": "azure/gpt-4o"} {
		want, _ := known.Lookup(from)
		provider, model, _ := strings.Cut(name, "/")
		for _, p := range c.Providers {
			for _, m := range p.Models {
				if p.Name == provider && m.Name == model && (m.ContextTokens != want.ContextTokens || m.BaseModel != want.BaseModel ||
					catalog.Picodollars(*m.Rates.InputUSD) != want.Prices.Input || catalog.Picodollars(*m.Rates.OutputUSD) != want.Prices.Output || m.AsOf != want.AsOf) {
					t.Errorf("%s is %+v, want what the catalog says of %s", name, m, from)
				}
			}
		}
	}
	if c.Providers[0].APIKey.Reveal() != e["OPENAI_API_KEY"] || *c.Orgs[0].Budget.MonthUSD != 100.5 || c.Keys[0].Org != c.Orgs[0].Name {
		t.Errorf("%+v", c)
	}
	contains(t, "the configuration", stdout, "name: deployed\n", "name: anthropic-2\n  type: anthropic\n",
		"name: google-vertex\n  project: p\n  location: eu\n  credentials_file: os.environ/VERTEX_FILE\n", "name: google-vertex-2\n  type: google-vertex\n  project: p\n  location: us-central1\n")
	for _, left := range []string{
		"model smart: rpm 0: it must be 1 to", "model smart: timeout 0: it must be above 0", "model small: what it may be sent and when: openai/gpt-5-mini stands in the list before", "model mistral/*: priority of all models", "model second-key: it has no price of its own, and that of openai/gpt-5-mini in the catalog stands in for it",
		"model based: it has no price of its own, and that of azure/gpt-4o in the catalog", "line 7: api_version", "model bed (vertex_ai/claude-sonnet-5@default): it is another publisher's", "model ear: it is for audio_transcription",
		`model nobody: nobody knows the provider of "no-such-model"`, "routing_strategy simple-shuffle: availability", "num_retries 5",
		"model theirs: its provider is asked for chat alone", "fallback ours of index: only models for chat", "fallback bed of smart", "fallbacks of bed", "alias gone: bed", "allowed_fails", "drop_params for what changes the answer", "callbacks", "budget_duration 30d", "database_url", "environment_variables",
	} {
		if !strings.Contains(stderr, left) {
			t.Errorf("nobody is told of %q:\n%s", left, stderr)
		}
	}
}

// What LiteLLM takes in the configuration itself is not written to another.
func TestImportLiteLLMVertexKey(t *testing.T) {
	const text = `model_list: [{model_name: a, litellm_params: {model: vertex_ai/gemini-2.5-pro, vertex_credentials: '{"private_key": "0123456789"}'}}]`
	stdout, stderr, code := command(t, nil, "", "config", "import", "--from", "litellm", write(t, "litellm.yaml", text+"\n"))
	contains(t, "what is left", stderr, "model a: vertex_credentials", "model a: a location of its own")
	if code != 0 || strings.Contains(stdout+stderr, "0123456789") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
}

// The forms that LiteLLM's own documentation shows: capital truths, aliases that are objects, all models of a vendor beside
// some of which more is said, accounts of Amazon's, and two of Google's houses.
func TestImportLiteLLMForms(t *testing.T) {
	const text = `
model_list:
  - model_name: "*"
    litellm_params: {model: "openai/*", api_key: os.environ/OPENAI_API_KEY, rpm: 70}
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, weight: 3, rpm: 50}
  - model_name: tuned
    litellm_params: {model: "openai/ft:gpt-4o:ours", api_key: os.environ/OPENAI_API_KEY}
  - model_name: house/*
    litellm_params: {model: hosted_vllm/*, api_base: "http://10.0.0.7:8000/v1"}
  - model_name: mine/*
    litellm_params: {model: mistral/*, api_key: sk-mistral-0123}
  - model_name: vertex
    litellm_params: {model: vertex_ai/gemini-2.5-pro, vertex_project: p, vertex_location: eu, vertex_credentials: os.environ/VERTEX_FILE}
  - model_name: gemini
    litellm_params: {model: gemini/gemini-2.5-flash, api_key: os.environ/GEMINI_API_KEY}
  - model_name: nova
    litellm_params: {model: bedrock/converse/us.amazon.nova-pro-v1:0, aws_region_name: us-west-2, aws_access_key_id: os.environ/AWS_A, aws_secret_access_key: os.environ/AWS_B}
  - model_name: nova
    litellm_params: {model: bedrock/us.amazon.nova-pro-v1:0, aws_region_name: eu-west-1, aws_access_key_id: os.environ/AWS_A, aws_secret_access_key: os.environ/AWS_B}
  - model_name: invoked
    litellm_params: {model: bedrock/invoke/us.amazon.nova-pro-v1:0}
  - model_name: index
    litellm_params: {model: openai/text-embedding-3-small, api_key: os.environ/OPENAI_API_KEY_B}
litellm_settings: {drop_params: True, num_retries: 3, request_timeout: 600, max_budget: 10, budget_duration: 1d, fallbacks: [{gpt-4o: [index]}]}
router_settings: {num_retries: 1, timeout: 30, model_group_alias: {secret: {model: gpt-4o, hidden: True}}}
general_settings: {master_key: sk-1234}
`
	stdout, stderr, code := command(t, nil, "", "config", "import", "--from", "litellm", write(t, "litellm.yaml", text))
	if code != 0 {
		t.Fatal(stderr)
	}
	e := env{"OPENAI_API_KEY": "sk-openai-0123456789", "OPENAI_API_KEY_B": "sk-openai-b-0123456789", "GEMINI_API_KEY": "gemini-0123456789", "AWS_A": "AKIA0123456789", "AWS_B": "aws-0123456789", "VERTEX_FILE": vertexFile(t)}
	c, err := loadConfig(write(t, "tradewind.yaml", stdout), e.get, func(*config) {})
	if err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	f, err := assemble(c, e.get, time.Now(), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	served := catalog.New(f.arms)
	for _, id := range []catalog.ArmID{"openai/gpt-4o", "openai/ft:gpt-4o:ours", "openai/gpt-5-mini", "mistral/mistral-large-latest", "google/gemini-2.5-flash",
		"google-vertex/gemini-2.5-pro", "amazon-bedrock/us.amazon.nova-pro-v1:0", "amazon-bedrock-2/us.amazon.nova-pro-v1:0"} {
		if _, ok := served.Lookup(id); !ok {
			t.Errorf("%s is not served", id)
		}
	}
	if a, _ := served.Lookup("openai/gpt-4o"); a.Weight != 3 || len(f.limits[a.ID]) != 2 || len(f.limits["openai/gpt-5-mini"]) != 1 {
		t.Errorf("openai/gpt-4o has weight %v and limits %v; others have %v", a.Weight, f.limits["openai/gpt-4o"], f.limits["openai/gpt-5-mini"])
	}
	for name, region := range map[string]string{"amazon-bedrock": "us-west-2", "amazon-bedrock-2": "eu-west-1"} {
		if !slices.ContainsFunc(c.Providers, func(p providerConfig) bool {
			return p.Name == name && p.Region == region && p.AccessKeyID == e["AWS_A"] && p.SecretAccessKey.Reveal() == e["AWS_B"]
		}) {
			t.Errorf("%s is not Amazon's account in %s", name, region)
		}
	}
	if !slices.Equal(c.Aliases["secret"], []string{"openai/gpt-4o"}) {
		t.Errorf("the alias stands for %q", c.Aliases["secret"])
	}
	contains(t, "what is left", stderr, "models of openai to come", "model house/* (hosted_vllm/*): all models of 10.0.0.7-8000", "model mine/*: the name; the models of mistral keep their own",
		"model invoked (bedrock/invoke/us.amazon.nova-pro-v1:0): invoke/ is no way to it here", "alias secret: hidden", "litellm_settings.num_retries 3", "litellm_settings.request_timeout 600",
		"general_settings.master_key: it is shorter", "litellm_settings.max_budget: a budget needs a key", "fallback index of gpt-4o: only models for chat")
}

func TestImportLiteLLMRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"": "is empty", "model_list: []": "no model", "model_list: 5": "line 1", "a: [": "line 1", "model_list: [{model_name: x, litellm_params: {model: nope}}]": "nobody knows the provider",
	} {
		_, stderr, code := command(t, nil, "", "config", "import", "--from", "litellm", write(t, "litellm.yaml", text+"\n"))
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %q, want %q", text, code, stderr, want)
		}
	}
}

// FuzzImportLiteLLM looks for panics, and for a result that our own parser refuses.
func FuzzImportLiteLLM(f *testing.F) {
	f.Add([]byte(litellmExample))
	f.Add([]byte("model_list: [{model_name: a, litellm_params: {model: azure/x, api_base: 'http://h'}, model_info: {base_model: gpt-4o}}]\n"))
	f.Add([]byte("model_list: [{model_name: a, litellm_params: {model: openai/x, rpm: -1, tpm: 5, order: 0, weight: 1, timeout: 1e9}}, {model_name: a, litellm_params: {model: openai/x, order: 3}}]\n"))
	f.Add([]byte("model_list: [{model_name: a, litellm_params: {model: openai/x}}]\nrouter_settings: {fallbacks: [{a: [a]}]}\n"))
	f.Add([]byte("model_list: [{model_name: a, litellm_params: {model: openai/x, drop_params: true}}]\nlitellm_settings: {drop_params: \"true\"}\n"))
	f.Add([]byte("model_list: [{model_name: b, litellm_params: {model: openai/x, weight: 1}}, {model_name: b, litellm_params: {model: openai/*}}]\nrouter_settings: {model_group_alias: {c: {model: b, hidden: True}}}\n"))
	f.Add([]byte("model_list: [{model_name: \"*\", litellm_params: {model: \"openai/*\"}}]\nlitellm_settings: {max_budget: -1}\ngeneral_settings: {master_key: sk-0123456789abcdef}\n"))
	known, err := catalog.Default()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<16 {
			return
		}
		out, _, err := importLiteLLM(text, known)
		if err != nil || bytes.Contains(text, []byte("file:")) || bytes.Contains(text, []byte("${")) {
			return
		}
		if err := parseConfig(&config{}, out, func(string) string { return "0123456789abcdef" }); err != nil {
			t.Errorf("%q became a configuration that is refused: %v\n%s", text, err, out)
		}
	})
}
