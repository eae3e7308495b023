package upstreamtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file scripts what Vertex AI has beside the Gemini API: a service that gives tokens to service accounts.

// RunVertex runs the suite with a vendor that speaks Google's dialect and takes tokens, of which every one is Key.
func RunVertex(t *testing.T, provider func(baseURL string, account []byte) upstream.Provider) {
	h := NewTokenHost(t, func(int) (int, string) { return http.StatusOK, Token(Key, 3600) })
	runGemini(t, "Authorization", "Bearer "+Key, func(baseURL string) upstream.Provider { return provider(baseURL, h.Account()) })
}

// Token is the answer that gives a token.
func Token(token string, seconds int) string {
	return fmt.Sprintf(`{"access_token":%q,"expires_in":%d,"token_type":"Bearer"}`, token, seconds)
}

// TokenHost stands in for Google's token service. It has one account, and refuses whoever cannot sign with its key.
type TokenHost struct {
	*httptest.Server
	t      testing.TB
	key    *rsa.PrivateKey
	answer func(n int) (status int, body string)
	mu     sync.Mutex
	asked  int
}

// NewTokenHost starts one that answers the nth question, counted from 1, as the script says.
func NewTokenHost(t testing.TB, answer func(n int) (status int, body string)) *TokenHost {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	h := &TokenHost{t: t, key: key, answer: answer}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

// accountEmail is who the account is.
const accountEmail = "gateway@our-project.iam.gserviceaccount.com"

// Account is the file of the account's key, as Google writes it.
func (h *TokenHost) Account() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(h.key)
	if err != nil {
		h.t.Fatal(err)
	}
	file, err := json.MarshalIndent(map[string]string{
		"type": "service_account", "project_id": "our-project", "private_key_id": "k1", "client_email": accountEmail, "token_uri": h.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}, "", "  ")
	if err != nil {
		h.t.Fatal(err)
	}
	return file
}

// Asked is how often it was asked.
func (h *TokenHost) Asked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

// ServeHTTP answers one question.
func (h *TokenHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked++
	n := h.asked
	h.mu.Unlock()
	if err := h.signed(r); err != nil {
		h.t.Errorf("token request %d: %v", n, err)
	}
	status, body := h.answer(n)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// signed checks that a question is what Google documents: a claim, signed with the account's key.
func (h *TokenHost) signed(r *http.Request) error {
	if r.Method != http.MethodPost || r.URL.Path != "/token" || r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return fmt.Errorf("%s %s of %v", r.Method, r.URL, r.Form)
	}
	assertion := r.FormValue("assertion")
	text, signature, _ := strings.Cut(assertion, ".")
	claim, signature, _ := strings.Cut(signature, ".")
	sum := sha256.Sum256([]byte(text + "." + claim))
	sig, err := base64.RawURLEncoding.DecodeString(signature)
	if err == nil {
		err = rsa.VerifyPKCS1v15(&h.key.PublicKey, crypto.SHA256, sum[:], sig)
	}
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	var claims struct{ Iss, Scope, Aud string }
	if text, err := base64.RawURLEncoding.DecodeString(claim); err != nil || json.Unmarshal(text, &claims) != nil {
		return fmt.Errorf("claims %q", claim)
	}
	if claims.Iss != accountEmail || claims.Aud != h.URL+"/token" || claims.Scope != "https://www.googleapis.com/auth/cloud-platform" {
		return fmt.Errorf("claims %+v", claims)
	}
	return nil
}
