package upstream

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Class says what kind of failure an attempt met; it decides what may follow.
type Class string

// The classes. Cut is an answer that broke off after it began; before the first content it is treated like Server.
// Unsayable is a request that this arm cannot be told, which another may well understand.
const (
	Connect       Class = "connect"
	Server        Class = "server"
	TimedOut      Class = "timeout"
	RateLimited   Class = "rate_limited"
	Auth          Class = "auth"
	ModelGone     Class = "model_gone"
	ContextLength Class = "context_length"
	ContentPolicy Class = "content_policy"
	BadRequest    Class = "bad_request"
	Unsayable     Class = "unsayable"
	BadAnswer     Class = "bad_answer"
	Cut           Class = "cut"
)

// Fault reports whether a failure of this class speaks against the arm. A client's bad request never does, and neither
// does a rate limit, which passes by itself.
func (c Class) Fault() bool {
	switch c {
	case RateLimited, ContextLength, ContentPolicy, BadRequest, Unsayable:
		return false
	}
	return true
}

// failover reports whether another arm may be tried.
func (c Class) failover(onPolicy bool) bool {
	return c != BadRequest && (c != ContentPolicy || onPolicy)
}

// again reports whether the same arm may be tried once more.
func (c Class) again() bool {
	return c == Connect || c == Server || c == BadAnswer || c == Cut
}

// Error is a failed attempt. Its message is free of secrets.
type Error struct {
	Class Class
	// Status is the vendor's HTTP status, 0 where there was none.
	Status  int
	Message string
	// Code and Param are the vendor's own, if any.
	Code  string
	Param string
	// RetryAfter is how long the vendor asks to wait, 0 where it does not say.
	RetryAfter time.Duration
	// Err is the cause on our side of the wire, if any. It may name hosts and is not for clients.
	Err error
}

// Error is the class and the message.
func (e *Error) Error() string {
	s := "upstream: " + string(e.Class)
	if e.Status != 0 {
		s += " (HTTP " + strconv.Itoa(e.Status) + ")"
	}
	return s + ": " + e.Message
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Limits of what is kept of a vendor's refusal.
const (
	messageMax    = 2000
	retryAfterMax = time.Hour
)

// Classify makes the error of an answer with a status of 300 or more, from what vendors of the OpenAI dialect send.
// redact removes secrets from the message; now is for a Retry-After that is a date.
func Classify(status int, h http.Header, body []byte, now time.Time, redact func(string) string) *Error {
	e := parseErrorBody(body)
	e.Status = status
	e.RetryAfter = retryAfter(h, now)
	e.Class = classOf(status, strings.ToLower(e.Code+" "+e.Message))
	finish(e, redact)
	return e
}

// ClassifyObject makes the error of an error object inside an answer with status 200. Its own code tells the status
// where it is a number, as OpenRouter's is; otherwise it counts as the vendor's failure.
func ClassifyObject(object []byte, redact func(string) string) *Error {
	e := parseErrorObject(object)
	status, err := strconv.Atoi(e.Code)
	if err != nil || status < 400 || status > 599 {
		status = http.StatusBadGateway
		text := strings.ToLower(e.Code + " " + e.Message)
		switch {
		case strings.Contains(text, "rate_limit") || strings.Contains(text, "rate limit"):
			status = http.StatusTooManyRequests
		case classOf(http.StatusBadRequest, text) != BadRequest:
			status = http.StatusBadRequest
		}
	}
	e.Status = status
	e.Class = classOf(status, strings.ToLower(e.Code+" "+e.Message))
	finish(e, redact)
	return e
}

func finish(e *Error, redact func(string) string) {
	if e.Message == "" {
		e.Message = strings.ToLower(http.StatusText(e.Status))
	}
	if redact != nil {
		e.Message, e.Code, e.Param = redact(e.Message), redact(e.Code), redact(e.Param)
	}
	if len(e.Message) > messageMax {
		e.Message = strings.ToValidUTF8(e.Message[:messageMax], "") + "…"
	}
}

func classOf(status int, text string) Class {
	switch {
	case status == 401, status == 402: // an account without money is the operator's matter, like a bad key
		return Auth
	case status == 403:
		if policyText(text) {
			return ContentPolicy
		}
		return Auth
	case status == 404:
		return ModelGone
	case status == 408:
		return TimedOut
	case status == 429:
		return RateLimited
	case status == 409, status >= 500: // a conflict of the vendor's own making, which OpenAI's SDKs ask again for
		return Server
	case status >= 400:
		if containsAny(text, "context_length", "context length", "context window", "maximum context", "prompt is too long", "too many tokens", "input is too long") {
			return ContextLength
		}
		if policyText(text) {
			return ContentPolicy
		}
		if containsAny(text, "model_not_found", "model_not_exist", "model not found", "model does not exist") {
			return ModelGone
		}
		return BadRequest
	}
	return BadAnswer // redirects are never followed
}

func policyText(text string) bool {
	return containsAny(text, "content_filter", "content_policy", "content policy", "content management policy", "responsibleai", "moderation", "safety system")
}

func containsAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// parseErrorBody finds the error in {"error": {…}}, {"error": "…"}, {"message": "…"}, {"detail": "…"} and plain text.
func parseErrorBody(body []byte) *Error {
	var outer struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	if err := json.Unmarshal(body, &outer); err != nil {
		return &Error{} // HTML of some proxy: nothing that a client could use
	}
	if len(outer.Error) > 0 {
		return parseErrorObject(outer.Error)
	}
	if outer.Message == "" && len(outer.Detail) > 0 {
		outer.Message = strings.Trim(string(outer.Detail), `"`)
	}
	return &Error{Message: outer.Message}
}

func parseErrorObject(object []byte) *Error {
	var text string
	if json.Unmarshal(object, &text) == nil {
		return &Error{Message: text}
	}
	var inner struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"`
		Param   json.RawMessage `json:"param"`
	}
	if err := json.Unmarshal(object, &inner); err != nil {
		return &Error{}
	}
	plain := func(raw json.RawMessage) string {
		if s := strings.Trim(string(raw), `"`); s != "null" && len(s) <= 100 {
			return s
		}
		return ""
	}
	e := &Error{Message: inner.Message, Code: plain(inner.Code), Param: plain(inner.Param)}
	if e.Code == "" && len(inner.Type) <= 100 {
		e.Code = inner.Type
	}
	return e
}

func retryAfter(h http.Header, now time.Time) time.Duration {
	var d time.Duration
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 && ms < 1e9 {
		d = time.Duration(ms * float64(time.Millisecond))
	} else if s, err := strconv.ParseFloat(h.Get("Retry-After"), 64); err == nil && s > 0 && s < 1e6 {
		d = time.Duration(s * float64(time.Second))
	} else if at, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), retryAfterMax)
}

// Lacking is the field that a refusal to say a request in a vendor's dialect is about, "" where there is none.
func Lacking(err error) string {
	var e *openai.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e) && e.Param != "":
		return e.Param
	}
	return "the body"
}
