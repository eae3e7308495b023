package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

// vertexAccount is what stands in the file of a service account's key.
func vertexAccount(t *testing.T) string {
	t.Helper()
	h := upstreamtest.NewTokenHost(t, func(int) (int, string) { return http.StatusOK, upstreamtest.Token("unused", 3600) })
	return strings.Replace(string(h.Account()), h.URL+"/token", "https://oauth2.googleapis.com/token", 1)
}

// vertexFile is such a file.
func vertexFile(t *testing.T) string { return write(t, "account.json", vertexAccount(t)) }

// newVertex is Vertex AI, which tells what it is asked.
func newVertex(t *testing.T) (url string, asked chan string) {
	asked = make(chan string, 64)
	v := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- r.URL.Path + " " + r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, geminiAnswer)
	}))
	t.Cleanup(v.Close)
	return v.URL, asked
}

// Vertex AI is served from an entry of the configuration and by what the environment says of it; Gemini alone, at the prices of
// the catalog, and with the tokens of another account once the file has another.
func TestVertex(t *testing.T) {
	url, asked := newVertex(t)
	host := func(token string) *upstreamtest.TokenHost {
		return upstreamtest.NewTokenHost(t, func(n int) (int, string) { return http.StatusOK, upstreamtest.Token(fmt.Sprint(token, n), 3600) })
	}
	account := write(t, "account.json", string(host("first-").Account()))
	e := env{"GOOGLE_APPLICATION_CREDENTIALS": account, "GOOGLE_VERTEX_LOCATION": "us-central1", "GOOGLE_VERTEX_PROJECT": "of-the-environment"}
	s := startReloadingWith(t, e, `providers: [{name: google-vertex, base_url: "`+url+`/v1", location: eu, credentials_file: "`+account+`"}]`, 5*time.Millisecond)
	var c completion
	r := s.call("POST", "/v1/chat/completions", "", ask("google-vertex/gemini-2.5-flash", "What is 17 times 23?", ""))
	r.want(t, 200, &c)
	// 10 tokens at 0.30 dollars and 25 at 2.50 dollars per million: what the catalog has.
	if got := r.header.Get("X-Tradewind-Cost-Usd"); c.Model != "google-vertex/gemini-2.5-flash" || got != "0.0000655" {
		t.Errorf("%s answered for %s", c.Model, got)
	}
	const path = "/v1/projects/of-the-environment/locations/eu/publishers/google/models/gemini-2.5-flash:generateContent Bearer "
	if got := <-asked; got != path+"first-1" {
		t.Errorf("the vendor saw %s", got)
	}
	if all := s.models(t, ""); !strings.Contains(all, "gemini-2.5-pro") || strings.Contains(all, "claude") || strings.Contains(all, "deepseek") {
		t.Errorf("it serves %s", all)
	}
	if err := os.WriteFile(account, host("second-").Account(), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s.call("POST", "/v1/chat/completions", "", ask("google-vertex/gemini-2.5-flash", "What is 17 times 23?", "")).want(t, 200, nil)
		got := <-asked
		if got == path+"second-1" {
			break
		}
		if got != path+"first-1" || time.Now().After(end) {
			t.Fatalf("the vendor saw %s", got)
		}
	}
	s.stop()
	if text := s.stderr.String() + s.stdout.String(); strings.Contains(text, "first-1") || strings.Contains(text, "MIIE") || strings.Contains(text, "PRIVATE KEY") {
		t.Errorf("a secret is shown: %s", text)
	}
}

// Whatever is wrong with the credentials is told at once, by the name of their file and without what stands in it.
func TestVertexRefuses(t *testing.T) {
	text := vertexAccount(t)
	good := write(t, "account.json", text)
	bad := write(t, "bad.json", `{"type":"authorized_user","refresh_token":"r3fr3sh-0123456789"}`)
	evil := write(t, "evil.json", strings.Replace(text, "oauth2.googleapis.com", "tokens.example", 1))
	entry := func(more string) string {
		return `providers: [{name: google-vertex, location: eu, credentials_file: "` + good + `"` + more + `}]`
	}
	for _, test := range []struct {
		e    env
		text string
		want []string
	}{
		{env{"GOOGLE_APPLICATION_CREDENTIALS": "/no/such/file.json", "GOOGLE_VERTEX_LOCATION": "eu"}, "", []string{"google-vertex", "/no/such/file.json"}},
		{env{"GOOGLE_APPLICATION_CREDENTIALS": bad, "GOOGLE_VERTEX_LOCATION": "eu"}, "", []string{bad, `"authorized_user"`}},
		{env{"GOOGLE_APPLICATION_CREDENTIALS": evil, "GOOGLE_VERTEX_LOCATION": "eu"}, "", []string{`"tokens.example"`}},
		{env{"GOOGLE_APPLICATION_CREDENTIALS": `{"type":"service_account","private_key":"r3fr3sh-0123456789"}`, "GOOGLE_VERTEX_LOCATION": "eu"}, "", []string{"is the name of a file"}},
		{env{"GOOGLE_APPLICATION_CREDENTIALS": good, "GOOGLE_VERTEX_PROJECT": "p"}, "", []string{"GOOGLE_VERTEX_LOCATION"}},
		{env{}, "providers: [{name: google-vertex, location: eu}]", []string{"GOOGLE_APPLICATION_CREDENTIALS"}},
		{env{}, entry(`, api_key: r3fr3sh-0123456789`), []string{"takes no api_key"}},
		{env{}, entry(`, models: ["claude-sonnet-5@default"]`), []string{"claude-sonnet-5@default", "another publisher's"}},
		{env{}, entry(`, models: ["meta/llama-3.3-70b-instruct-maas"]`), []string{"meta/llama-3.3-70b-instruct-maas", "another publisher's"}},
	} {
		args := []string{"serve", "--data-dir", t.TempDir()}
		if test.text != "" {
			args = append(args, "--config", write(t, "tradewind.yaml", test.text))
		}
		stdout, stderr, code := command(t, test.e, "", args...)
		contains(t, "the error", stderr, test.want...)
		if code == 0 || strings.Contains(stdout+stderr, "r3fr3sh") || strings.Contains(stdout+stderr, "MIIE") {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	}
}

// The doctor asks for a token.
func TestVertexDoctor(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		want   string
		code   int
	}{
		{200, upstreamtest.Token("t0ken-0123456789", 3600), "ok: Google gives gateway@our-project.iam.gserviceaccount.com a token for google-vertex", 0},
		{400, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`, "(invalid_grant: Invalid JWT Signature.)", 1},
	} {
		h := upstreamtest.NewTokenHost(t, func(int) (int, string) { return test.status, test.body })
		file := write(t, "tradewind.yaml", `providers: [{name: google-vertex, base_url: "http://127.0.0.1:1/v1", location: eu, credentials_file: "`+write(t, "account.json", string(h.Account()))+`"}]`)
		by, code := examined(t, env{}, "--config", file, "--data-dir", t.TempDir())
		if contains(t, "providers", by["providers"], test.want); code != test.code || strings.Contains(fmt.Sprint(by), "t0ken") {
			t.Errorf("exit code %d: %v", code, by)
		}
	}
}
