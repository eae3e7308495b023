package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// WebhookConfig is an address that judges answers. It gets the question and the answer as JSON by POST, and must say
// {"pass": true} or {"pass": false, "reason": "…"} with status 200. Anything else is no verdict.
type WebhookConfig struct {
	URL string `yaml:"url" json:"url"`
	// Bearer is sent as a bearer token.
	Bearer telemetry.Secret `yaml:"bearer" json:"bearer,omitempty" doc:"It is sent as a bearer token."`
	// TimeoutSeconds bounds the whole call; zero is TimeoutDefault.
	TimeoutSeconds float64 `yaml:"timeout_seconds" json:"timeout_seconds,omitempty" nonzero:"" doc:"The longest wait, at most 60; 5 by default."`
	// AllowPrivate lets the host's name resolve to a private address. An address or localhost in the URL needs no leave.
	AllowPrivate bool `yaml:"allow_private" json:"allow_private,omitempty" doc:"Its name may resolve to a private address."`
}

// Limits of a webhook's answer and its connections.
const (
	verdictMax     = 64 << 10
	headersMax     = 64 << 10
	idleConnsMax   = 64
	connectTimeout = 5 * time.Second
)

type webhook struct {
	name      string
	url       *url.URL
	bearer    telemetry.Secret
	timeout   time.Duration
	transport *http.Transport
}

func newWebhook(name string, c *WebhookConfig) (check, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("the webhook's url must be http(s)://host/… without a user; a token goes into bearer")
	}
	timeout, err := seconds(c.TimeoutSeconds)
	if err != nil {
		return nil, err
	}
	w := &webhook{name: name, url: u, bearer: c.Bearer, timeout: timeout, transport: &http.Transport{
		DialContext:            httpclient.Dialer(u.Hostname(), c.AllowPrivate, connectTimeout).DialContext,
		TLSHandshakeTimeout:    connectTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           idleConnsMax,
		MaxIdleConnsPerHost:    idleConnsMax,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: headersMax,
	}}
	return w.check, nil
}

// seconds is a timeout as the configuration has it.
func seconds(s float64) (time.Duration, error) {
	if s == 0 {
		return TimeoutDefault, nil
	}
	if !(s > 0 && s <= TimeoutMax.Seconds()) {
		return 0, fmt.Errorf("timeout_seconds is %v, want more than 0 and at most %v", s, TimeoutMax.Seconds())
	}
	return time.Duration(s * float64(time.Second)), nil
}

// check asks once. There is no second try: a gate that needs one makes everybody wait for both.
func (w *webhook) check(ctx context.Context, s *Subject) (string, error) {
	body, err := s.payload(w.name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.String(), bytes.NewReader(body))
	if err != nil {
		return "", errors.New("the webhook cannot be called")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "tradewind")
	if key := w.bearer.Reveal(); key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := w.transport.RoundTrip(req) // and not Client.Do: a redirect is no verdict, and nothing follows it
	switch {
	case ctx.Err() != nil:
		return "", errors.New("the webhook did not answer in time")
	case err != nil:
		return "", errors.New("the webhook could not be reached") // the cause names hosts
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, verdictMax+1))
	switch {
	case ctx.Err() != nil:
		return "", errors.New("the webhook did not answer in time")
	case err != nil:
		return "", errors.New("the webhook's answer broke off")
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("the webhook answered with status %d", resp.StatusCode)
	case len(answer) > verdictMax:
		return "", errors.New("the webhook's answer is too long")
	}
	why, err := parseVerdict(answer)
	return telemetry.NewRedactor(w.bearer).Redact(why), err // it goes to the log, and it may say back what it was sent
}

// parseVerdict reads what a webhook says. A verdict is a boolean and nothing that looks like one.
func parseVerdict(answer []byte) (why string, err error) {
	var v struct {
		Pass   *bool   `json:"pass"`
		Reason *string `json:"reason"`
	}
	if json.Unmarshal(answer, &v) != nil || v.Pass == nil {
		return "", errors.New("it is no verdict")
	}
	switch {
	case *v.Pass:
		return "", nil
	case v.Reason == nil || clip(*v.Reason) == "":
		return "it is rejected", nil
	}
	return *v.Reason, nil
}
