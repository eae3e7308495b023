package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Canaries have characters that URL escaping changes.
const (
	providerCanary = "sk-lab+canary/7dQx9ZpW3mKvB8rT"
	gatewayCanary  = "sk-tw-canary+4HnYc2LsGf6JtVa1"
)

// disguises are the forms in which a secret is looked for: itself, its first half, hex, escaped for a URL, and base64 at each of
// the three positions that it can have inside a longer text ("Bearer …" among them).
func disguises(secret string) [][]byte {
	all := []string{
		secret, secret[len("sk-lab+"):][:10], hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		url.QueryEscape(secret), url.PathEscape(secret),
	}
	for shift := range 3 {
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			s := enc.EncodeToString(append(make([]byte, shift), secret...))
			all = append(all, s[[]int{0, 2, 3}[shift]:len(s)-2]) // without the characters that depend on the neighbours
		}
	}
	var out [][]byte
	for _, s := range all {
		out = append(out, []byte(s))
	}
	return out
}

func noSecrets(t *testing.T, where string, text []byte) {
	t.Helper()
	for _, secret := range []string{providerCanary, gatewayCanary} {
		for _, form := range disguises(secret) {
			if i := bytes.Index(text, form); i >= 0 {
				t.Errorf("%s shows a secret as %q: …%q…", where, form, text[max(0, i-60):min(len(text), i+len(form)+60)])
				return
			}
		}
	}
}

// The search must find what it is for.
func TestDisguisesAreFound(t *testing.T) {
	for _, text := range []string{
		providerCanary, hex.EncodeToString([]byte(providerCanary)), url.QueryEscape("k=" + providerCanary),
		base64.StdEncoding.EncodeToString([]byte("Bearer " + providerCanary + "!")), base64.URLEncoding.EncodeToString([]byte("a:" + providerCanary)),
		base64.StdEncoding.EncodeToString([]byte("abc" + providerCanary + "xyz")),
	} {
		found := false
		for _, form := range disguises(providerCanary) {
			found = found || bytes.Contains([]byte(text), form)
		}
		if !found {
			t.Errorf("%q is not found out", text)
		}
	}
}

// P13 from outside: at debug level, with a vendor that echoes the key in every way it can, no secret is in anything
// that the program writes or answers.
func TestSecretsAppearNowhere(t *testing.T) {
	v := newVendor(t)
	n := 0
	v.refuse = func(w http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization")
		if auth != "Bearer "+providerCanary {
			t.Errorf("the vendor was sent %q", auth)
		}
		echo := fmt.Sprintf(`{"error":{"message":"Incorrect API key provided: %s (%x)","type":"invalid_request_error","code":"bad_%s","param":"%s"}}`, providerCanary, providerCanary, providerCanary, providerCanary)
		w.Header().Set("X-Echo", auth)
		switch n++; n % 6 {
		case 1:
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, echo)
		case 2:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, echo)
		case 3:
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "<html>"+auth)
		case 4:
			w.Header().Set("Content-Type", "text/event-stream; key="+providerCanary)
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: "+echo+"\n\n")
		case 5:
			w.Header().Set("Content-Type", "text/plain; "+providerCanary)
			_, _ = io.WriteString(w, auth)
		default:
			http.Redirect(w, r, "/?key="+url.QueryEscape(providerCanary), http.StatusFound)
		}
	}
	file := write(t, "tradewind.yaml", v.provider()+"keys:\n  - {name: ann, key: \"${GATEWAY}\", log: full}\n")
	s := start(t, env{"LAB_KEY": providerCanary, "GATEWAY": gatewayCanary, "TRADEWIND_LOG_LEVEL": "debug"}, "--config", file)
	answered := 0
	for i := range 18 {
		more := ""
		if i%2 == 1 {
			more = `,"stream":true,"tradewind":{"explain":true}`
		}
		r := s.call("POST", "/v1/chat/completions", gatewayCanary, ask("lab/small", "hi", more))
		noSecrets(t, "an answer", r.body)
		noSecrets(t, "the headers of an answer", []byte(fmt.Sprint(r.header)))
		if r.status == 200 {
			answered++
		}
		d := s.call("GET", "/v1/decisions/"+r.header.Get("X-Tradewind-Decision-Id"), gatewayCanary, "")
		d.want(t, 200, nil)
		noSecrets(t, "a decision", d.body)
	}
	if answered == 18 || n < 18 {
		t.Fatalf("%d of 18 were answered and the vendor was called %d times: the faults did not happen", answered, n)
	}
	noSecrets(t, "a refusal", s.call("POST", "/v1/chat/completions", gatewayCanary+"x", ask("auto", "hi", "")).body)
	noSecrets(t, "the metrics", s.call("GET", "/metrics", "", "").body)
	noSecretsInFiles(t, s.data) // the journal, before it is sealed
	s.stop()
	noSecretsInFiles(t, s.data)
	noSecrets(t, "standard output", []byte(s.stdout.String()))
	noSecrets(t, "standard error", []byte(s.stderr.String()))
	sealed := rounds(t, s.data)
	if len(sealed) != 18 {
		t.Errorf("%d rounds are sealed, want 18", len(sealed))
	}
	text, err := json.Marshal(sealed) // the parts are compressed
	if err != nil {
		t.Fatal(err)
	}
	noSecrets(t, "the sealed log", text)
}

func noSecretsInFiles(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		noSecrets(t, path, text)
		files++
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files of %s were searched: %v", files, dir, err)
	}
}
