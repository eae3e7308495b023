package bedrock

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

const answer = `{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2}}`

// signature computes what the signature of a request must be, as AWS documents Signature Version 4. It shares no code
// with the signer.
func signature(r *http.Request, body []byte, secret string) string {
	auth := r.Header.Get("Authorization")
	field := func(name string) string {
		_, rest, _ := strings.Cut(auth, name+"=")
		value, _, _ := strings.Cut(rest, ",")
		return value
	}
	names := strings.Split(field("SignedHeaders"), ";")
	var headers strings.Builder
	for _, name := range names {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(value))
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	var escaped strings.Builder // every service but S3 has the path escaped once more
	for i := range len(path) {
		if c := path[i]; c == '/' || c == '-' || c == '_' || c == '.' || c == '~' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
			escaped.WriteByte(c)
		} else {
			fmt.Fprintf(&escaped, "%%%02X", c)
		}
	}
	hash := func(b []byte) string { sum := sha256.Sum256(b); return hex.EncodeToString(sum[:]) }
	canonical := strings.Join([]string{r.Method, escaped.String(), query, headers.String(), strings.Join(names, ";"), hash(body)}, "\n")
	scope := strings.SplitN(field("Credential"), "/", 2)[1]
	key := []byte("AWS4" + secret)
	mac := func(key []byte, s string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(s))
		return m.Sum(nil)
	}
	for _, part := range strings.Split(scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hash([]byte(canonical))}, "\n")))
}

// ask makes one call that is not streamed.
func ask(t *testing.T, p *Provider, model string) error {
	t.Helper()
	s, err := p.Stream(t.Context(), &upstream.Request{
		Arm: &catalog.Arm{ID: catalog.ArmID("amazon-bedrock/" + model)}, Body: chat(""), Header: http.Header{"X-Custom": {"a"}, "X-Amz-Security-Token": {"forged"}, "Authorization": {"forged"}},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Next()
	return err
}

func TestSignature(t *testing.T) {
	const model = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-8-v1:0"
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	for _, token := range []telemetry.Secret{"", "a session"} {
		p, err := New(Options{Region: "eu-central-1", AccessKey: "AKIDEXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG", SessionToken: token, BaseURL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		if err := ask(t, p, model); err != nil {
			t.Fatal(err)
		}
		auth := got.Header.Get("Authorization")
		if want := signature(got, body, "wJalrXUtnFEMI/K7MDENG"); !strings.HasSuffix(auth, "Signature="+want) {
			t.Errorf("authorization %s, want the signature %s", auth, want)
		}
		if !strings.Contains(auth, "Credential=AKIDEXAMPLE/") || !strings.Contains(auth, "/eu-central-1/bedrock/aws4_request") || got.Header.Get("X-Amz-Security-Token") != token.Reveal() {
			t.Errorf("authorization %s, token %q", auth, got.Header.Get("X-Amz-Security-Token"))
		}
		if want := "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude-opus-4-8-v1%3A0/converse"; got.RequestURI != want {
			t.Errorf("path %s, want %s", got.RequestURI, want)
		}
		p.Close()
	}
	p, err := New(Options{Region: "us-east-1", Token: "a-bedrock-key", BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := ask(t, p, "m"); err != nil || got.Header.Get("Authorization") != "Bearer a-bedrock-key" || got.Header.Get("X-Amz-Date") != "" {
		t.Errorf("error %v, headers %v", err, got.Header)
	}
}

// TestIdentity: without keys of its own the provider is whom Amazon's SDK finds.
func TestIdentity(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	t.Setenv("AWS_CONFIG_FILE", write("config", "[default]\n"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write("none", ""))
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("no region: %v", err)
	}
	p, err := New(Options{Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	var e *upstream.Error
	if err := ask(t, p, "m"); !errors.As(err, &e) || e.Class != upstream.Auth {
		t.Errorf("no credentials: %v", err)
	}
	t.Setenv("AWS_CONFIG_FILE", write("config", "[default]\nregion = eu-west-1\n"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write("credentials", "[default]\naws_access_key_id = AKIDSHARED\naws_secret_access_key = s\n"))
	if p, err = New(Options{}); err != nil {
		t.Fatal(err)
	}
	found, err := p.credentials.Retrieve(t.Context())
	if err != nil || found.AccessKeyID != "AKIDSHARED" || p.o.BaseURL != "https://bedrock-runtime.eu-west-1.amazonaws.com" {
		t.Errorf("credentials of %s at %s: %v", found.AccessKeyID, p.o.BaseURL, err)
	}
	for _, o := range []Options{{AccessKey: "a"}, {SecretKey: "a"}, {Region: "evil.example.com/x"}, {Region: "US-east-1"}, {Region: "us-east-1", Token: "x", BaseURL: "ftp://x"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// TestProfiles: a model that is served through inference profiles only is called by that of the region's part of the
// world, from then on at once.
func TestProfiles(t *testing.T) {
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		paths = append(paths, strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/model/"), "/converse"))
		if !strings.HasPrefix(r.URL.Path, "/model/eu.") {
			w.Header().Set("X-Amzn-Errortype", "ValidationException")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"message":"Invocation of model ID x with on-demand throughput isn’t supported. Retry your request with the ID or ARN of an inference profile that contains this model."}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	at := func(region string) *Provider {
		p, err := New(Options{Region: region, Token: "k", BaseURL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	}
	p := at("eu-central-1")
	for range 2 {
		if err := ask(t, p, "a.b-v1:0"); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"a.b-v1:0", "eu.a.b-v1:0", "eu.a.b-v1:0"}; !slices.Equal(paths, want) {
		t.Errorf("called %v, want %v", paths, want)
	}
	for _, region := range []string{"sa-east-1", "us-west-2"} {
		var e *upstream.Error
		if err := ask(t, at(region), "a.b-v1:0"); !errors.As(err, &e) || e.Class != upstream.ModelGone {
			t.Errorf("%s: got %v, want the class %s", region, err, upstream.ModelGone)
		}
	}
	for _, test := range []struct{ region, model, want string }{
		{"us-east-1", "m", "us.m"}, {"us-gov-west-1", "m", "us-gov.m"}, {"ap-northeast-1", "m", "jp.m"}, {"ap-southeast-2", "m", "au.m"}, {"ap-south-1", "m", "apac.m"},
		{"ca-central-1", "m", ""}, {"us-east-1", "eu.m", ""}, {"us-east-1", "us.m", ""}, {"us-east-1", "global.m", ""}, {"us-east-1", "arn:aws:bedrock:x", ""},
	} {
		if got := profileOf(test.region, test.model); got != test.want {
			t.Errorf("%s in %s: %q, want %q", test.model, test.region, got, test.want)
		}
	}
}

// TestHidden: thoughts that the client does not want stay out of the answer, and can still be handed back.
func TestHidden(t *testing.T) {
	r := reader{hidden: true}
	events, err := r.event("contentBlockDelta", []byte(`{"delta":{"reasoningContent":{"text":"hm"}}}`))
	if err != nil || len(events) != 0 {
		t.Errorf("events %v, error %v, want none", events, err)
	}
	c, err := r.whole([]byte(strings.Replace(answer, `{"text":"hi"}`, `{"reasoningContent":{"reasoningText":{"text":"hm","signature":"c2ln"}}},{"text":"hi"}`, 1)))
	if err != nil || strings.Contains(string(c.Data), "reasoning_content") || !strings.Contains(string(c.Data), "c2ln") {
		t.Errorf("answer %s, error %v", c.Data, err)
	}
}
