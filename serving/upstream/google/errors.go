package google

import (
	"net/http"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file reads Google's errors: a status, a message, and details that may say how long to wait.

// refused is the error of a refusal.
func (p *Provider) refused(status int, h http.Header, body []byte) *upstream.Error {
	e := upstream.Classify(status, h, body, time.Now(), p.client.Redact)
	if v, err := openai.ParseValue(body, openai.DecodeOptions{BodyMax: max(len(body), 1)}); err == nil {
		if fields, err := v.Fields(""); err == nil {
			reclass(e, fields.Get("error"))
		}
	}
	return e
}

// inBand is the error of an answer that is one.
func (p *Provider) inBand(object openai.Value) error {
	e := upstream.ClassifyObject(object, p.client.Redact)
	reclass(e, object)
	return e
}

// reclass corrects what the status alone does not tell.
func reclass(e *upstream.Error, object openai.Value) {
	fields, err := object.Fields("")
	if err != nil {
		return
	}
	if status, err := fields.Get("status").Text(""); err == nil {
		e.Code = clip(status)
	}
	reasons := ""
	if details := fields.Get("details"); details.IsArray() {
		_ = details.Elements("", func(_ int, v openai.Value) error { // what cannot be read says nothing
			detail, err := v.Fields("")
			if err != nil {
				return err
			}
			kind, _ := detail.Get("@type").Text("")
			if reason, err := detail.Get("reason").Text(""); err == nil {
				reasons += " " + reason
			}
			if delay, err := detail.Get("retryDelay").Text(""); err == nil && strings.HasSuffix(kind, "google.rpc.RetryInfo") && e.RetryAfter == 0 {
				e.RetryAfter = retryDelay(delay)
			}
			return nil
		})
	}
	if e.Class != upstream.BadRequest {
		return
	}
	switch text := strings.ToLower(e.Message); {
	case strings.Contains(reasons, "API_KEY_INVALID"), strings.Contains(text, "api key not valid"), e.Code == "FAILED_PRECONDITION":
		e.Class = upstream.Auth // the key, or where and for whom it is good, is the operator's matter
	case strings.Contains(text, "exceeds the maximum number of tokens"):
		e.Class = upstream.ContextLength
	case strings.Contains(text, "is not supported"), strings.Contains(text, "is unsupported"), strings.Contains(text, "not enabled for"):
		e.Class = upstream.Unsayable // by this model; another may
	}
}

// retryDelayMax bounds what is believed of a vendor's wish.
const retryDelayMax = time.Hour

// retryDelay reads a duration in protobuf's JSON form, such as 34.074824224s.
func retryDelay(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0
	}
	return min(d, retryDelayMax)
}
