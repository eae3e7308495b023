package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// TestServeHelpNamesTheVariables: whoever has a key finds where to put it, and a key of which no model is known is no riddle.
func TestServeHelpNamesTheVariables(t *testing.T) {
	help := run(t, "serve", "--help")
	for _, v := range catalog.Providers() {
		contains(t, "the help", help, append(v.KeyVars, v.Name)...)
	}
	contains(t, "the help", help, "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_VERTEX_LOCATION", "GOOGLE_VERTEX_PROJECT", "PERPLEXITY_API_KEY (its models have to be named")
	for variable, name := range map[string]string{"AZURE_API_KEY": "azure", "OLLAMA_BASE_URL": "ollama"} {
		by, _ := examined(t, env{variable: "http://127.0.0.1:1"}, "--offline", "--data-dir", t.TempDir())
		contains(t, "doctor", by["config"], name+" is not served: nobody knows which models it has")
	}
	_, stderr, code := command(t, env{"PERPLEXITY_API_KEY": "p"}, "", "serve", "--data-dir", t.TempDir())
	if contains(t, "the error", stderr, "no model to serve", "perplexity"); code == 0 {
		t.Error("it served")
	}
}

// What stands in the environment decides who is served, and no more than what it says.
func TestEnvironmentServesClouds(t *testing.T) {
	for _, test := range []struct {
		env  env
		want string
	}{
		{env{}, ""},
		{env{"GEMINI_API_KEY": "g"}, "google google https://generativelanguage.googleapis.com/v1beta g"},
		{env{"GOOGLE_API_KEY": "h"}, "google google https://generativelanguage.googleapis.com/v1beta h"},
		{env{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t", "AWS_REGION": "us-east-1"}, ""}, // they lie about for other purposes
		{env{"AWS_BEARER_TOKEN_BEDROCK": "b", "AWS_REGION": "us-east-1"}, "amazon-bedrock bedrock  b us-east-1"},
		{env{"AZURE_API_KEY": "z", "AZURE_API_BASE": "https://x.openai.azure.com"}, ""}, // nobody knows which models
		{env{"GOOGLE_APPLICATION_CREDENTIALS": "f"}, ""},                                // it lies about for other purposes
		{env{"GOOGLE_VERTEX_LOCATION": "eu"}, ""},
		{env{"GOOGLE_APPLICATION_CREDENTIALS": "f", "GOOGLE_VERTEX_LOCATION": "eu"}, "google-vertex google-vertex"},
		{env{"ANTHROPIC_API_KEY": "c"}, "anthropic anthropic https://api.anthropic.com/v1 c"},
		{env{"OLLAMA_BASE_URL": "http://127.0.0.1:1"}, ""}, // nobody knows which models
	} {
		got := ""
		for _, p := range withVendors(nil, test.env.get) {
			got += strings.TrimRight(fmt.Sprintf("%s %s %s %s %s %s %s %s", p.Name, p.Type, p.BaseURL, p.APIKey.Reveal(), p.Region, p.AccessKeyID, p.SecretAccessKey.Reveal(), p.SessionToken.Reveal()), " ")
		}
		if got != test.want {
			t.Errorf("%v: %q, want %q", test.env, got, test.want)
		}
	}
	for said, want := range map[string]string{"": "http://127.0.0.1:11434/v1", "http://h:1": "http://h:1/v1", "http://h:1/v1/": "http://h:1/v1"} {
		if got := withVendors([]providerConfig{{Name: "ollama"}}, env{"OLLAMA_BASE_URL": said}.get)[0]; got.BaseURL != want || got.Type != catalog.ProtocolOpenAI {
			t.Errorf("OLLAMA_BASE_URL=%s: %s at %s, want %s", said, got.Type, got.BaseURL, want)
		}
	}
	e := env{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t", "AWS_DEFAULT_REGION": "eu-west-1"}
	for _, test := range []struct{ config, want providerConfig }{
		{providerConfig{}, providerConfig{Region: "eu-west-1", AccessKeyID: "a", SecretAccessKey: "s", SessionToken: "t"}},
		{providerConfig{Region: "us-east-1"}, providerConfig{Region: "us-east-1", AccessKeyID: "a", SecretAccessKey: "s", SessionToken: "t"}},
		{providerConfig{AccessKeyID: "b", SecretAccessKey: "c"}, providerConfig{Region: "eu-west-1", AccessKeyID: "b", SecretAccessKey: "c"}}, // never half of each
		{providerConfig{APIKey: "k"}, providerConfig{Region: "eu-west-1", APIKey: "k"}},
	} {
		test.config.Name, test.want.Name, test.want.Type = "amazon-bedrock", "amazon-bedrock", catalog.ProtocolBedrock
		if got := withVendors([]providerConfig{test.config}, e.get)[0]; !slices.Equal(got.options(), test.want.options()) {
			t.Errorf("%+v became %+v, want %+v", test.config, got, test.want)
		}
	}
	for _, test := range []struct {
		config providerConfig
		env    env
		want   string
	}{
		{providerConfig{}, env{"AZURE_API_KEY": "z", "AZURE_API_BASE": "https://x.openai.azure.com/"}, "https://x.openai.azure.com/openai/v1 "},
		{providerConfig{}, env{"AZURE_API_KEY": "z", "AZURE_API_BASE": "https://x.openai.azure.com", "AZURE_API_VERSION": "2024-10-21"}, "https://x.openai.azure.com/openai 2024-10-21"},
		{providerConfig{BaseURL: "https://y/openai/v1"}, env{"AZURE_API_KEY": "z", "AZURE_API_BASE": "https://x", "AZURE_API_VERSION": "2024-10-21"}, "https://y/openai/v1 "},
		{providerConfig{}, env{"AZURE_API_KEY": "z", "AZURE_API_BASE": "https://openai-prod.openai.azure.com"}, "https://openai-prod.openai.azure.com/openai/v1 "},
		{providerConfig{}, env{"AZURE_API_KEY": "z", "AZURE_API_BASE": "https://x/openai/v1/"}, "https://x/openai/v1 "},
		// As Azure's pages show an address; whatever else has a path is taken as it is.
		{providerConfig{BaseURL: "https://openai-prod.openai.azure.com/"}, env{"AZURE_API_KEY": "z"}, "https://openai-prod.openai.azure.com/openai/v1 "},
		{providerConfig{BaseURL: "https://x.openai.azure.com", APIVersion: "2024-10-21"}, env{"AZURE_API_KEY": "z"}, "https://x.openai.azure.com/openai 2024-10-21"},
		{providerConfig{BaseURL: "https://apim.example/azure"}, env{"AZURE_API_KEY": "z"}, "https://apim.example/azure "},
		{providerConfig{APIVersion: "2025-01-01"}, env{"AZURE_API_KEY": "z", "AZURE_API_BASE": "https://x/openai", "AZURE_API_VERSION": "2024-10-21"}, "https://x/openai 2025-01-01"},
	} {
		test.config.Name = "azure"
		p := withVendors([]providerConfig{test.config}, test.env.get)[0]
		if got := p.BaseURL + " " + p.APIVersion; got != test.want || p.Type != catalog.ProtocolAzure || p.APIKey != "z" {
			t.Errorf("%v: %q of type %s, want %q", test.env, got, p.Type, test.want)
		}
	}
}

// Every protocol that a provider may have makes one, and every vendor of the environment has arms.
func TestFleetOfClouds(t *testing.T) {
	e := env{"GEMINI_API_KEY": "g", "AWS_BEARER_TOKEN_BEDROCK": "b", "AWS_REGION": "us-east-1", "PERPLEXITY_API_KEY": "p"}
	f, err := assemble(&config{Providers: []providerConfig{{Name: "azure", BaseURL: "https://x/openai/v1", APIKey: "z", Models: []modelConfig{{Name: "gpt-5"}}}}}, e.get, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, a := range f.arms {
		count[a.ID.Provider()]++
	}
	if len(f.providers) != 3 || count["google"] < 10 || count["amazon-bedrock"] < 10 || count["azure"] != 1 {
		t.Errorf("%d providers with %v arms", len(f.providers), count)
	}
	again, err := assemble(&config{}, e.get, time.Now(), f)
	if err != nil || again.providers["google"] != f.providers["google"] || again.providers["amazon-bedrock"] != f.providers["amazon-bedrock"] {
		t.Errorf("unchanged providers do not keep their connections: %v", err)
	}
}

const geminiAnswer = `{"candidates":[{"content":{"parts":[{"text":"391"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":20,"thoughtsTokenCount":5,"totalTokenCount":35},"modelVersion":"x","responseId":"r"}`

// A client of chat is served by Gemini, pays for its thoughts, and is told what Gemini cannot be told.
func TestGemini(t *testing.T) {
	paths := make(chan string, 64)
	v := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		paths <- r.URL.Path + " " + r.Header.Get("X-Goog-Api-Key")
		if strings.HasSuffix(r.URL.Path, ":streamGenerateContent") {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: "+geminiAnswer+"\n\n")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, geminiAnswer)
	}))
	t.Cleanup(v.Close)
	s := start(t, env{"GEMINI_API_KEY": "the-key-0123456789"}, "--config", write(t, "tradewind.yaml", `
providers:
  - name: google
    base_url: `+v.URL+`/v1beta
    models:
      - {name: gemini-2.5-flash, input_usd_per_mtok: 1, output_usd_per_mtok: 10}
      - {name: gemini-2.5-pro, input_usd_per_mtok: 1, output_usd_per_mtok: 10}
`))
	var c completion
	r := s.call("POST", "/v1/chat/completions", "", ask("google/gemini-2.5-flash", "What is 17 times 23?", ""))
	r.want(t, 200, &c)
	if c.Model != "google/gemini-2.5-flash" || c.Choices[0].Message.Content != "391" {
		t.Errorf("answered %s", r.body)
	}
	// 10 tokens at 1 dollar, and 20 and 5 thoughts at 10 dollars per million.
	if got, want := r.header.Get("X-Tradewind-Cost-Usd"), "0.00026"; got != want {
		t.Errorf("cost %s, want %s", got, want)
	}
	if got, want := <-paths, "/v1beta/models/gemini-2.5-flash:generateContent the-key-0123456789"; got != want {
		t.Errorf("the vendor saw %s, want %s", got, want)
	}
	r = s.call("POST", "/v1/chat/completions", "", ask("google/gemini-2.5-flash", "What is 17 times 23?", `,"stream":true,"stream_options":{"include_usage":true}`))
	r.want(t, 200, nil)
	contains(t, "the stream", string(r.body), `"content":"391"`, `"finish_reason":"stop"`, `"reasoning_tokens":5`, `"cost":0.00026`, "data: [DONE]")
	r = s.call("POST", "/v1/chat/completions", "", ask("auto", "What is 17 times 23?", `,"logprobs":true`))
	contains(t, "the refusal", string(r.body), "logprobs", "param_unsupported")
	if len(paths) != 1 {
		t.Errorf("the vendor saw %d more requests, want the streamed one", len(paths))
	}
	// One of the models cannot do without thinking; the next one is asked.
	r = s.call("POST", "/v1/chat/completions", "", ask("google/gemini-2.5-pro", "What is 17 times 23?", `,"reasoning_effort":"none","models":["google/gemini-2.5-flash"]`))
	r.want(t, 200, &c)
	if c.Model != "google/gemini-2.5-flash" || r.header.Get("X-Tradewind-Fallback-From") != "google/gemini-2.5-pro" {
		t.Errorf("answered by %s after %s", c.Model, r.header.Get("X-Tradewind-Fallback-From"))
	}
	r = s.call("POST", "/v1/chat/completions", "", ask("google/gemini-2.5-pro", "What is 17 times 23?", `,"reasoning_effort":"none"`))
	var refusal struct{ Error struct{ Param, Code string } }
	if err := json.Unmarshal([]byte(r.body), &refusal); err != nil || r.status != 400 || refusal.Error.Param != "reasoning_effort" {
		t.Errorf("%d %s, want a refusal that names reasoning_effort", r.status, r.body)
	}
}
