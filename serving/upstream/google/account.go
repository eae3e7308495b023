package google

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"
	"golang.org/x/sync/singleflight"

	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// This file reads who calls Vertex AI, and gets the tokens that prove it.

// Account is a service account, as the file of its key has it. Two of the same file are equal.
type Account struct {
	Email, KeyID string
	// Project is the one that the account belongs to.
	Project string
	// TokenURL is where its tokens are got.
	TokenURL string
	// Key is its private key in PEM.
	Key telemetry.Secret
}

// accountBytesMax bounds the file of a key; Google's have 2,400 bytes.
const accountBytesMax = 64 << 10

// ParseAccount reads the file of a service account's key. No error quotes it.
func ParseAccount(text []byte) (Account, error) {
	if len(text) > accountBytesMax {
		return Account{}, fmt.Errorf("google: it has more than %d bytes", accountBytesMax)
	}
	var file struct {
		Type     string `json:"type"`
		Project  string `json:"project_id"`
		KeyID    string `json:"private_key_id"`
		Key      string `json:"private_key"`
		Email    string `json:"client_email"`
		TokenURL string `json:"token_uri"`
		Universe string `json:"universe_domain"`
	}
	if json.Unmarshal(text, &file) != nil {
		return Account{}, errors.New("google: it is not the JSON of a service account's key")
	}
	switch {
	case file.Type != "service_account":
		return Account{}, fmt.Errorf("google: it has credentials of type %.40q; only those of a service_account are taken", file.Type)
	case file.Universe != "" && file.Universe != "googleapis.com":
		return Account{}, fmt.Errorf("google: its universe_domain is %.40q; only googleapis.com is called", file.Universe)
	case file.Email == "" || !isRSA(file.Key):
		return Account{}, errors.New("google: it has no client_email, or its private_key is no RSA key in PEM")
	}
	if file.TokenURL == "" {
		file.TokenURL = "https://oauth2.googleapis.com/token"
	}
	return Account{Email: file.Email, KeyID: file.KeyID, Project: file.Project, TokenURL: file.TokenURL, Key: telemetry.Secret(file.Key)}, nil
}

// isRSA reports whether text is a key that the library can sign with: it looks only when it signs.
func isRSA(text string) bool {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return false
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		_, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		return err == nil
	}
	_, ok := key.(*rsa.PrivateKey)
	return ok
}

// Secrets are what of the account must not be told: its key without the first line, which every key has, as it is and as JSON
// writes it.
func (a *Account) Secrets() []telemetry.Secret {
	_, key, _ := strings.Cut(strings.TrimSpace(a.Key.Reveal()), "\n")
	return []telemetry.Secret{telemetry.Secret(key), telemetry.Secret(strings.ReplaceAll(key, "\n", `\n`))}
}

// validate refuses an account whose tokens would be got elsewhere than at Google, or at the host that was configured to
// stand in for it: a file of credentials must not say where we connect.
func (a *Account) validate(configured string) error {
	if a.Email == "" || a.Key == "" {
		return errors.New("google: Vertex AI needs the key of a service account")
	}
	u, err := url.Parse(a.TokenURL)
	if err != nil || u.Hostname() == "" {
		return errors.New("google: the token_uri of the service account cannot be parsed")
	}
	host := u.Hostname()
	ofGoogle := u.Scheme == "https" && u.Port() == "" && (host == "accounts.google.com" || strings.HasSuffix(host, ".googleapis.com"))
	if !ofGoogle && host != configured {
		return fmt.Errorf("google: the token_uri of the service account is at %.100q, which is neither Google's nor the host of base_url", host)
	}
	return nil
}

const (
	// scope is what tokens are asked for.
	scope = "https://www.googleapis.com/auth/cloud-platform"
	// tokenTimeout bounds the way to a token, and refreshAhead is how long before its end the next one is got.
	tokenTimeout = 10 * time.Second
	refreshAhead = 5 * time.Minute
)

// identity gets an account's tokens and keeps the one in use. The library signs and asks. Its cache would let every request wait
// for one fetch, and none could give up; so this one is asked for ahead, and whoever has to wait waits as long as he likes.
type identity struct {
	config  jwt.Config
	client  *httpclient.Client
	learn   func(token, before telemetry.Secret) // is told of a token before it is sent
	held    atomic.Pointer[oauth2.Token]
	fetches singleflight.Group
}

func newIdentity(a *Account, o httpclient.Options, learn func(token, before telemetry.Secret)) (*identity, error) {
	client, err := httpclient.New(o)
	if err != nil {
		return nil, err
	}
	return &identity{client: client, learn: learn, config: jwt.Config{
		Email: a.Email, PrivateKey: []byte(a.Key.Reveal()), PrivateKeyID: a.KeyID, Scopes: []string{scope}, TokenURL: a.TokenURL,
	}}, nil
}

// get is a token that is good for now, and is not the one that was refused.
func (i *identity) get(ctx context.Context, refused string) (string, error) {
	if held := i.held.Load(); held.Valid() && held.AccessToken != refused {
		if !held.Expiry.IsZero() && time.Until(held.Expiry) < refreshAhead {
			i.fetches.DoChan("", i.fetch) // nobody waits for it: if it fails, there is still time
		}
		return held.AccessToken, nil
	}
	select {
	case fetched := <-i.fetches.DoChan("", i.fetch):
		if fetched.Err != nil {
			return "", fetched.Err
		}
		return fetched.Val.(string), nil
	case <-ctx.Done():
		return "", &upstream.Error{Class: upstream.Connect, Message: "the request ended before Google gave a token", Err: ctx.Err()}
	}
}

// fetch gets the next token, for everybody who waits for it.
func (i *identity) fetch() (any, error) {
	token, err := i.config.TokenSource(context.WithValue(context.Background(), oauth2.HTTPClient, i.client.HTTP(tokenTimeout))).Token()
	var refusal *oauth2.RetrieveError
	switch {
	case errors.As(err, &refusal):
		return nil, i.refused(refusal)
	case err != nil:
		return nil, &upstream.Error{Class: upstream.Connect, Message: "Google's token service gave no answer", Err: errors.New(i.client.Redact(err.Error()))}
	case token.AccessToken == "":
		return nil, httpclient.BadAnswer("Google's token service answered without a token")
	}
	before := ""
	if held := i.held.Load(); held != nil {
		before = held.AccessToken
	}
	i.learn(telemetry.Secret(token.AccessToken), telemetry.Secret(before))
	i.held.Store(token)
	return token.AccessToken, nil
}

// refused is the error of a token that is not given. Of what is said no word is told that could be what was signed.
func (i *identity) refused(refusal *oauth2.RetrieveError) *upstream.Error {
	e := upstream.Classify(refusal.Response.StatusCode, refusal.Response.Header, nil, time.Now(), i.client.Redact)
	if e.Class != upstream.Server && e.Class != upstream.RateLimited {
		e.Class = upstream.Auth
	}
	e.Message = "Google gives the gateway no token"
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(refusal.Body, &body) == nil && body.Error != "" {
		if why := body.Error + ": " + body.Description; plain(why) {
			e.Message += " (" + i.client.Redact(why) + ")"
		}
	}
	return e
}

// plain reports whether a text is short and has no word that is longer than words are.
func plain(s string) bool {
	const most, word = 300, 30
	for _, w := range strings.Fields(s) {
		if len(w) > word {
			return false
		}
	}
	return len(s) <= most
}

// authorized makes a call with a token, and once more with the next one where the vendor refuses it: tokens can be
// revoked before they end.
func (i *identity) authorized(ctx context.Context, call func(token string) (*httpclient.Answer, error)) (*httpclient.Answer, error) {
	token, err := i.get(ctx, "")
	if err != nil {
		return nil, err
	}
	a, err := call(token)
	var refusal *upstream.Error
	if !errors.As(err, &refusal) || refusal.Status != http.StatusUnauthorized {
		return a, err
	}
	next, fetchErr := i.get(ctx, token)
	if fetchErr != nil {
		return nil, fetchErr
	}
	return call(next)
}

// Close frees idle connections.
func (i *identity) Close() error { return i.client.Close() }
