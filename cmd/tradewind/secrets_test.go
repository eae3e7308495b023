package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

// Canaries have characters that URL escaping changes, within the first eight and behind them. One for each kind of secret.
const (
	providerCanary = "sk-lab+canary/7dQx9ZpW3mKvB8rT"
	gatewayCanary  = "sk-tw-canary+4HnYc2LsGf6JtVa1"
	secondCanary   = "2ndQ/key+Rj5TbN8wXcE1yUoP"
	claudeCanary   = "cl4uD+e/mT6zKq9RwJx3VnBh"
	googleCanary   = "AIz/9+gQw7LpYt2RkMnVsXdF"
	amazonCanary   = "wJa/rX+8UtnFEMIK7MDENGbPxRfiCYzEXAMPLEKQ"
	sessionCanary  = "FwoG+Z/XIvYXdzEJr4nQpLmT"
	hookCanary     = "hQ7/k+Zb3VxNc9MwRtYpLs2D"
	addressCanary  = "adR+8/sEcKq4WmZnTbYv7HjL"
	fileCanary     = "fiL3/Key+Wq8NzXvBtRm5PcJ"
	traceCanary    = "tRc/9+Hd4KpWmXzQvNb7LsYj"
	tokenCanary    = "ya29.c+/tK8wQx5RmVzLnB2pJ"
)

func canaries() []string {
	return []string{
		providerCanary, gatewayCanary, secondCanary, claudeCanary, googleCanary, amazonCanary, sessionCanary, hookCanary, addressCanary,
		fileCanary, traceCanary, tokenCanary,
	}
}

// echoes are the forms in which a vendor can say a secret: all of them must be found, and none of them told.
func echoes(secret string) []string {
	h := hex.EncodeToString([]byte(secret))
	out := []string{secret, secret[:12] + "******", h, strings.ToUpper(h), url.QueryEscape(secret), url.PathEscape(secret), lowered(url.QueryEscape(secret))}
	for _, before := range []string{"", "Bearer ", "a:", "abc"} {
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			out = append(out, enc.EncodeToString([]byte(before+secret+"!")))
		}
	}
	return out
}

// lowered has the escapes of an escaped text in lower case.
func lowered(escaped string) string {
	b := []byte(escaped)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

// disguises are the beginnings by which a secret is found in every form: its first eight bytes as they are, in hex, escaped for
// a URL, and in base64 at each of the three positions that they can have in a longer text ("Bearer …" among them).
func disguises(secret string) (out [][]byte) {
	begin := []byte(secret[:8])
	h := hex.EncodeToString(begin)
	all := []string{secret[:8], h, strings.ToUpper(h), url.QueryEscape(secret[:8]), lowered(url.QueryEscape(secret[:8])), url.PathEscape(secret[:8])}
	for shift := range 3 {
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			s := enc.EncodeToString(append(make([]byte, shift), begin...))
			whole := (shift + len(begin)) * 8 / 6 // the last character may depend on what follows
			all = append(all, s[[]int{0, 2, 3}[shift]:whole])
		}
	}
	for _, s := range all {
		out = append(out, []byte(s))
	}
	return out
}

// hits are what text tells of secrets, each with its surroundings.
func hits(text []byte) (found []string) {
	for _, secret := range canaries() {
		for _, form := range disguises(secret) {
			if i := bytes.Index(text, form); i >= 0 {
				found = append(found, fmt.Sprintf("%q: …%q…", form, text[max(0, i-60):min(len(text), i+len(form)+60)]))
			}
		}
	}
	return found
}

func noSecrets(t *testing.T, where string, text []byte) {
	t.Helper()
	for _, hit := range hits(text) {
		t.Errorf("%s shows a secret as %s", where, hit)
	}
}

// The search must find what it is for.
func TestDisguisesAreFound(t *testing.T) {
	for _, secret := range canaries() {
		for _, text := range echoes(secret) {
			if len(hits([]byte("x"+text+"y"))) == 0 {
				t.Errorf("%q is not found out", text)
			}
		}
		if len(hits([]byte(secret[:7]))) > 0 || len(hits([]byte(secret[:8]))) == 0 {
			t.Errorf("of %q seven bytes count, or eight do not", secret)
		}
	}
}

// parrot is a vendor of every protocol that says back whatever secret it was sent or could know of, in ways that differ from
// call to call.
type parrot struct {
	*httptest.Server
	mu    sync.Mutex
	calls int
	sent  map[string]bool
}

func newParrot(t *testing.T) *parrot {
	p := &parrot{sent: map[string]bool{}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

// ServeHTTP refuses in one of several ways, and now and then answers.
func (p *parrot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := fmt.Sprint(r.Header, r.URL)
	p.mu.Lock()
	p.calls++
	n := p.calls
	var mine []string
	for _, secret := range canaries() {
		if strings.Contains(head, secret) || strings.Contains(head, url.PathEscape(secret)) || strings.Contains(head, url.QueryEscape(secret)) {
			p.sent[secret] = true
			mine = append(mine, secret)
		}
	}
	p.mu.Unlock()
	if r.URL.Path == "/token" {
		_, _ = io.WriteString(w, upstreamtest.Token(tokenCanary, 3600))
		return
	}
	var all []string
	for _, secret := range mine {
		all = append(all, echoes(secret)...)
	}
	said := strings.Join(all, " ")
	object, _ := json.Marshal(map[string]any{"error": map[string]any{"message": "bad key: " + said, "type": "invalid_request_error", "code": said[:min(len(said), 90)], "param": said}})
	w.Header().Set("X-Echo", said)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/hook":
		reason, _ := json.Marshal(said)
		_, _ = fmt.Fprintf(w, `{"pass":false,"reason":%s}`, reason)
		return
	case strings.HasSuffix(r.URL.Path, "/v1/chat/completions") && n%2 == 0:
		_, _ = io.WriteString(w, vendorAnswer)
		return
	}
	switch n % 7 {
	case 0:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write(object)
	case 1, 2:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(object)
	case 3:
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "<html>"+said)
	case 4:
		w.Header().Set("Content-Type", "text/event-stream; key="+said)
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: "+string(object)+"\n\n")
	case 5:
		w.Header().Set("Content-Type", "text/plain; "+said)
		_, _ = io.WriteString(w, said)
	default:
		http.Redirect(w, r, "/?key="+url.QueryEscape(said), http.StatusFound)
	}
}

// bomb is a provider whose code has a bug that names every secret.
type bomb struct{}

// Stream implements upstream.Provider.
func (bomb) Stream(context.Context, *upstream.Request) (upstream.Stream, error) {
	var all []string
	for _, secret := range canaries() {
		if secret == tokenCanary { // the log knows it by its look: as it is, whole or cut
			all = append(all, echoes(secret)[:2]...)
			continue
		}
		all = append(all, echoes(secret)...)
	}
	panic(strings.Join(all, " "))
}

// secretConfig has a secret of every kind, in every way in which one gets into a configuration.
const secretConfig = `
providers:
  - {name: lab, base_url: VENDOR/v1, api_keys: ["${LAB_KEY}", "${LAB_KEY_2}"], models: [{name: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
  - {name: claude, type: anthropic, base_url: VENDOR, api_key: os.environ/CLAUDE_KEY, models: [{name: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
  - {name: gem, type: google, base_url: VENDOR, api_key: env.GEM_KEY, models: [{name: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
  - {name: cloud, type: bedrock, base_url: VENDOR, region: us-east-1, access_key_id: AKIDEXAMPLE, secret_access_key: "${AWS_SECRET}", session_token: "${AWS_SESSION}", models: [{name: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
  - {name: vertex, type: google-vertex, base_url: VENDOR/v1, location: eu, credentials_file: "ACCOUNT", models: [{name: gemini-small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
  - {name: path, base_url: "VENDOR/${ADDRESS_TOKEN}/v1", api_key: "file:FILE", models: [{name: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
  - {name: closed, base_url: "http://127.0.0.1:1/${ADDRESS_TOKEN}", api_key: "${LAB_KEY}", models: [{name: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
  - {name: boom, base_url: VENDOR, api_key: "${LAB_KEY}", models: [{name: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
routing: {attempts: 1}
keys: [{name: ann, key: "${GATEWAY}", log: full}]
gates: [{name: hook, webhook: {url: "VENDOR/hook", bearer: "${HOOK}"}}]
gate_policies: [{gates: [hook], keys: [ann], on_error: open, exhausted: serve}]
`

// place is something that could tell a secret.
type place struct {
	name string
	text []byte
}

// secretRun serves the configuration to clients, at debug level, and returns everything that the program has shown. Change
// breaks the program on purpose.
func secretRun(t *testing.T, change func(*fleet)) (shown []place) {
	t.Helper()
	v, told := newParrot(t), newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", told.URL) // the SDK reads the process's own
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization="+url.PathEscape(traceCanary))
	e := env{
		"LAB_KEY": providerCanary, "LAB_KEY_2": secondCanary, "CLAUDE_KEY": claudeCanary, "GEM_KEY": googleCanary, "AWS_SECRET": amazonCanary,
		"AWS_SESSION": sessionCanary, "ADDRESS_TOKEN": addressCanary, "GATEWAY": gatewayCanary, "HOOK": hookCanary, "TRADEWIND_LOG_LEVEL": "debug",
		"OTEL_EXPORTER_OTLP_ENDPOINT": told.URL, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=" + url.PathEscape(traceCanary),
	}
	account := strings.Replace(vertexAccount(t), "https://oauth2.googleapis.com", v.URL, 1)
	text := strings.NewReplacer("VENDOR", v.URL, "ACCOUNT", write(t, "account.json", account), "FILE", write(t, "key", fileCanary+"\n")).Replace(secretConfig)
	s := startWith(t, e, write(t, "tradewind.yaml", text), change)
	show := func(name string, r reply) {
		shown = append(shown, place{name, r.body}, place{name + ", headers", []byte(fmt.Sprint(r.header))})
	}
	failed := 0
	for _, arm := range []string{"lab/small", "claude/small", "gem/small", "cloud/small", "vertex/gemini-small", "path/small", "closed/small", "boom/small"} {
		for i := range 14 {
			more := ""
			if i%2 == 1 {
				more = `,"stream":true,"tradewind":{"explain":true}`
			}
			r := s.call("POST", "/v1/chat/completions", gatewayCanary, ask(arm, "hi", more))
			show(arm, r)
			if r.status != 200 {
				failed++
			}
			show("a decision", s.call("GET", "/v1/decisions/"+r.header.Get("X-Tradewind-Decision-Id"), gatewayCanary, ""))
		}
	}
	show("a refusal", s.call("POST", "/v1/chat/completions", gatewayCanary+"x", ask("auto", "hi", "")))
	show("a key in a URL", s.call("GET", "/v1/nothing?key="+url.QueryEscape(gatewayCanary), gatewayCanary, ""))
	show("a key for a field", s.call("POST", "/v1/chat/completions", gatewayCanary, ask("auto", "hi", `,"tradewind":{"`+gatewayCanary+`":1}`)))
	show("the models", s.call("GET", "/v1/models", gatewayCanary, ""))
	show("the usage", s.call("GET", "/v1/usage", gatewayCanary, ""))
	show("the metrics", s.call("GET", "/metrics", "", ""))
	shown = append(shown, filesOf(t, s.data)...) // the journal, before it is sealed
	s.stop()
	shown = append(append(shown, filesOf(t, s.data)...), place{"standard output", []byte(s.stdout.String())}, place{"standard error", []byte(s.stderr.String())})
	sealed, err := json.Marshal(rounds(t, s.data)) // the parts are compressed
	if err != nil {
		t.Fatal(err)
	}
	told.mu.Lock()
	defer told.mu.Unlock()
	shown = append(shown, place{"the sealed log", sealed}, place{"the traces", told.raw})
	if told.header.Get("Authorization") != traceCanary {
		t.Errorf("the collector was sent %q", told.header)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if failed < 56 || v.calls < 70 || len(told.spans) == 0 || len(rounds(t, s.data)) != 8*14 {
		t.Errorf("%d requests failed, the vendor was called %d times, %d spans: the faults did not happen", failed, v.calls, len(told.spans))
	}
	for _, secret := range canaries() {
		if secret != gatewayCanary && secret != amazonCanary && secret != traceCanary && !v.sent[secret] { // a client's, one that only signs, the collector's
			t.Errorf("the vendor was never sent %q", secret)
		}
	}
	return shown
}

// startWith is start for a configuration whose fleet is changed: a provider that panics is in it, and what change does.
func startWith(t *testing.T, e env, file string, change func(*fleet)) *service {
	t.Helper()
	s := &service{t: t, data: filepath.Join(t.TempDir(), "data"), code: make(chan int, 1), stdout: &syncBuffer{}, stderr: &syncBuffer{}}
	m := &Main{Getenv: e.get, Stdout: s.stdout, Stderr: s.stderr}
	cmd := &serveCmd{Config: file, Listen: "127.0.0.1:0", DataDir: s.data}
	c, err := cmd.config(m)
	if err != nil {
		t.Fatal(err)
	}
	f, err := assemble(c, m.Getenv, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.providers["boom"] = bomb{}
	if change != nil {
		change(f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	srv, intro, err := build(ctx, m, c, f)
	if err != nil {
		t.Fatal(err)
	}
	srv.current.load = func() (*config, error) { return cmd.config(m) }
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	greet(m.Stdout, s.addr, intro, true)
	go func() {
		code := 0
		if err := srv.run(ctx, l); err != nil {
			fmt.Fprintln(m.Stderr, err)
			code = 1
		}
		if err := srv.stores.Close(); err != nil {
			code = 1
		}
		s.code <- code
	}()
	t.Cleanup(s.stop)
	return s
}

// P13: at debug level, with vendors that echo keys in every way they can, with panics that do, and with keys in addresses, no
// secret is in anything that the program writes, answers or exports.
func TestSecretsAppearNowhere(t *testing.T) {
	for _, p := range secretRun(t, nil) {
		noSecrets(t, p.name, p.text)
	}
}

// A broken twin, whose logger knows no secret, is caught.
func TestALoggerThatTellsIsCaught(t *testing.T) {
	told := secretRun(t, func(f *fleet) { f.secrets = nil })
	i := slices.IndexFunc(told, func(p place) bool { return p.name == "standard error" })
	if found := hits(told[i].text); len(found) == 0 {
		t.Error("a logger without redaction is not found out")
	}
}

func filesOf(t *testing.T, dir string) (all []place) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, place{path, text})
		return err
	})
	if err != nil || len(all) == 0 {
		t.Errorf("%d files of %s were read: %v", len(all), dir, err)
	}
	return all
}

func noSecretsInFiles(t *testing.T, dir string) {
	t.Helper()
	for _, p := range filesOf(t, dir) {
		noSecrets(t, p.name, p.text)
	}
}
