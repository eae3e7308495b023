package bedrock

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file signs requests and reads Amazon's errors: a type in a header or a frame, and a message.

// sign proves who sends a request.
func (p *Provider) sign(req *http.Request, body []byte) error {
	credentials, err := p.credentials.Retrieve(req.Context())
	if err != nil {
		return &upstream.Error{Class: upstream.Auth, Message: "the gateway has no credentials for Amazon", Err: err}
	}
	sum := sha256.Sum256(body)
	if err := p.signer.SignHTTP(req.Context(), credentials, req, hex.EncodeToString(sum[:]), "bedrock", p.o.Region, time.Now()); err != nil {
		return &upstream.Error{Class: upstream.Auth, Message: "the request cannot be signed", Err: err}
	}
	return nil
}

// statuses are those of the types of error, as they come inside of a stream.
var statuses = map[string]int{
	"validationException": 400, "accessDeniedException": 403, "resourceNotFoundException": 404, "modelTimeoutException": 408,
	"throttlingException": 429, "internalServerException": 500, "modelStreamErrorException": 502, "serviceUnavailableException": 503,
}

// refused is the error of a refusal.
func (p *Provider) refused(status int, h http.Header, body []byte) *upstream.Error {
	e := upstream.Classify(status, h, body, time.Now(), p.client.Redact)
	name, _, _ := strings.Cut(h.Get("X-Amzn-Errortype"), ":")
	if name != "" {
		e.Code = p.client.Redact(name[:min(len(name), 100)])
	}
	return reclass(e, status)
}

// inBand is the error that comes inside of a stream.
func (p *Provider) inBand(f *frame) *upstream.Error {
	status, known := statuses[f.name]
	if !known {
		status = http.StatusBadGateway
	}
	payload := f.payload
	if f.kind == "error" {
		payload = append(openai.AppendText([]byte(`{"message":`), f.message), '}')
	}
	e := upstream.Classify(status, nil, payload, time.Now(), p.client.Redact)
	e.Code = p.client.Redact(f.name[:min(len(f.name), 100)])
	return reclass(e, status)
}

// reclass corrects what the status alone does not tell.
func reclass(e *upstream.Error, status int) *upstream.Error {
	text := strings.ToLower(strings.ReplaceAll(e.Message, "’", "'")) // Amazon writes both
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case status == http.StatusForbidden && has("canonical string"):
		e.Message = "the signature of the request was not accepted" // the rest quotes the request, its session token too
	case status == http.StatusFailedDependency:
		e.Class = upstream.Server // ModelErrorException: the model failed, not the request
	case e.Code == "ServiceQuotaExceededException":
		e.Class = upstream.RateLimited
	case e.Class != upstream.BadRequest:
	case has("model identifier is invalid", "on-demand throughput", "reached the end of its life"):
		e.Class = upstream.ModelGone
	case has("exceed context limit", "input tokens exceeded", "exceeds the maximum number of tokens", "exceeds maximum length"):
		e.Class = upstream.ContextLength
	case has("isn't supported", "is not supported", "doesn't support", "does not support", "not supported by"):
		e.Class = upstream.Unsayable // by this model; another may
	}
	return e
}

// wantsProfile reports whether a model is served through inference profiles only.
func wantsProfile(err error) bool {
	var e *upstream.Error
	return errors.As(err, &e) && e.Class == upstream.ModelGone && strings.Contains(e.Message, "on-demand throughput")
}
