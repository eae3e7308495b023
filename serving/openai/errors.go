package openai

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Code is the machine-readable name of an error, the "code" of its body.
type Code string

// The codes. Their HTTP status and OpenAI type stand in one table below.
const (
	InvalidRequest          Code = "invalid_request"
	InvalidTradewindField   Code = "invalid_tradewind_field"
	UnsupportedRoutingField Code = "unsupported_routing_field"
	ContextLengthExceeded   Code = "context_length_exceeded"
	NoCandidate             Code = "no_candidate"
	ContentFilter           Code = "content_filter"
	InvalidAPIKey           Code = "invalid_api_key"
	KeyExpired              Code = "key_expired"
	ModelNotAllowed         Code = "model_not_allowed"
	Forbidden               Code = "forbidden"
	ModelNotFound           Code = "model_not_found"
	NotFound                Code = "not_found"
	MethodNotAllowed        Code = "method_not_allowed"
	InProgress              Code = "in_progress"
	IdempotencyMismatch     Code = "idempotency_mismatch"
	AnswerNotKept           Code = "answer_not_kept"
	DecisionExpired         Code = "decision_expired"
	NotReplayable           Code = "not_replayable"
	RequestTooLarge         Code = "request_too_large"
	RateLimitExceeded       Code = "rate_limit_exceeded"
	InsufficientQuota       Code = "insufficient_quota"
	UpstreamRateLimited     Code = "upstream_rate_limited"
	InternalError           Code = "internal_error"
	UpstreamFailed          Code = "upstream_failed"
	GateFailed              Code = "gate_failed"
	Overloaded              Code = "overloaded"
	StoreUnavailable        Code = "store_unavailable"
	NoHealthyUpstream       Code = "no_healthy_upstream"
	Timeout                 Code = "timeout"
	// ClientGone is seen by nobody but metrics and the log; 499 is the status that proxies have agreed on for it.
	ClientGone Code = "client_gone"
)

// Types of errors, as OpenAI's SDKs know them.
const (
	typeRequest    = "invalid_request_error"
	typeAuth       = "authentication_error"
	typePermission = "permission_error"
	typeRate       = "rate_limit_error"
	typeServer     = "server_error"
)

type codeRow struct {
	status int
	kind   string
	retry  Choice
}

var codeTable = map[Code]codeRow{
	InvalidRequest:          {400, typeRequest, No},
	InvalidTradewindField:   {400, typeRequest, No},
	UnsupportedRoutingField: {400, typeRequest, No},
	ContextLengthExceeded:   {400, typeRequest, Unset},
	NoCandidate:             {400, typeRequest, Unset},
	ContentFilter:           {400, typeRequest, Unset},
	InvalidAPIKey:           {401, typeAuth, Unset},
	KeyExpired:              {401, typeAuth, Unset},
	ModelNotAllowed:         {403, typePermission, Unset},
	Forbidden:               {403, typePermission, Unset},
	ModelNotFound:           {404, typeRequest, Unset},
	NotFound:                {404, typeRequest, Unset},
	MethodNotAllowed:        {405, typeRequest, Unset},
	InProgress:              {409, typeRequest, Yes},
	IdempotencyMismatch:     {409, typeRequest, No},
	AnswerNotKept:           {409, typeRequest, No},
	DecisionExpired:         {410, typeRequest, Unset},
	NotReplayable:           {410, typeRequest, Unset},
	RequestTooLarge:         {413, typeRequest, Unset},
	RateLimitExceeded:       {429, typeRate, Yes},
	InsufficientQuota:       {429, "insufficient_quota", No},
	UpstreamRateLimited:     {429, typeRate, Unset},
	InternalError:           {500, typeServer, Unset},
	UpstreamFailed:          {502, typeServer, Unset},
	GateFailed:              {502, typeServer, No}, // the arms worth asking were asked; a client's retry pays for all of them again
	Overloaded:              {503, typeServer, Unset},
	StoreUnavailable:        {503, typeServer, Unset},
	NoHealthyUpstream:       {503, typeServer, Unset},
	Timeout:                 {504, typeServer, Unset},
	ClientGone:              {499, typeRequest, No},
}

// Known reports whether c is one of the codes above; a vendor's own codes, which are passed on, are not.
func (c Code) Known() bool {
	_, known := codeTable[c]
	return known
}

// Error is a refusal or failure as the client sees it.
type Error struct {
	Status  int
	Type    string
	Code    Code
	Param   string
	Message string
	// Reason says which rule refused; empty means the code itself.
	Reason string
	// Extra are further members of error.tradewind, such as filtered, attempts or the numbers of a budget.
	Extra map[string]any
	// RetryAfter becomes retry-after (whole seconds, rounded up) and retry-after-ms; 0 sends neither.
	RetryAfter time.Duration
	// ShouldRetry becomes x-should-retry where it is set; it overrides what SDKs do on the status alone.
	ShouldRetry Choice
	// Allow is the Allow header of a 405.
	Allow string
}

// NewError makes an error with the status, type and retry advice that belong to its code. An unknown code is an
// internal error.
func NewError(code Code, format string, args ...any) *Error {
	row, known := codeTable[code]
	if !known {
		row = codeTable[InternalError]
	}
	return &Error{Status: row.status, Type: row.kind, Code: code, ShouldRetry: row.retry, Message: fmt.Sprintf(format, args...)}
}

// Error is the code and the message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

func badParam(param, format string, args ...any) *Error {
	e := NewError(InvalidRequest, "%s "+format, append([]any{param}, args...)...)
	e.Param = param
	return e
}

// Missing is the refusal of a body without a field that it must have. Of the fields that nobody reads it names the one that
// may have been meant to be it.
func Missing(name string, unread []string) *Error {
	e := badParam(name, "is missing")
	if near := Nearest(name, unread, 1); len(near) > 0 {
		e.Message += fmt.Sprintf("; was %q meant to be it?", near[0])
	}
	return e
}

// AsError returns the *Error in err's chain, or an internal error that tells the client nothing of err.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return NewError(InternalError, "internal error")
}

// AppendError appends the error's body in the exact shape of OpenAI's API, with our own part under error.tradewind.
func AppendError(dst []byte, e *Error, requestID, decisionID string) []byte {
	more := make(map[string]any, len(e.Extra)+3)
	for k, v := range e.Extra {
		more[k] = v
	}
	more["reason"] = e.Reason
	if e.Reason == "" {
		more["reason"] = string(e.Code)
	}
	if requestID != "" {
		more["request_id"] = requestID
	}
	if decisionID != "" {
		more["decision_id"] = decisionID
	}
	type inner struct {
		Message   string         `json:"message"`
		Type      string         `json:"type"`
		Param     *string        `json:"param"`
		Code      Code           `json:"code"`
		Tradewind map[string]any `json:"tradewind"`
	}
	body := struct {
		Error inner `json:"error"`
	}{inner{Message: e.Message, Type: e.Type, Code: e.Code, Tradewind: more}}
	if e.Param != "" {
		body.Error.Param = &e.Param
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil { // an Extra that cannot be encoded must not hide the error itself
		return AppendError(dst, &Error{Type: e.Type, Code: e.Code, Param: e.Param, Message: e.Message, Reason: e.Reason}, requestID, decisionID)
	}
	return append(dst, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}

// WriteError writes the whole answer of a failed request. Nothing must have been written before.
func WriteError(w http.ResponseWriter, e *Error, requestID, decisionID string) {
	ErrorHead(w.Header(), e, requestID, decisionID)
	w.WriteHeader(e.Status)
	_, _ = w.Write(AppendError(nil, e, requestID, decisionID)) // a client that is gone needs no answer
}

// ErrorHead sets the headers of an error, which are the same in every dialect. X-Tradewind-Error is the rule that refused: the
// bodies of some dialects have no place for it.
func ErrorHead(h http.Header, e *Error, requestID, decisionID string) {
	h.Set("Content-Type", "application/json")
	if requestID != "" {
		h.Set("X-Request-Id", requestID)
	}
	if decisionID != "" {
		h.Set("X-Tradewind-Decision-Id", decisionID)
	}
	if _, own := codeTable[e.Code]; own { // a vendor's may be anything
		h.Set("X-Tradewind-Error", cmp.Or(e.Reason, string(e.Code)))
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatFloat(math.Ceil(e.RetryAfter.Seconds()), 'f', 0, 64))
		h.Set("Retry-After-Ms", strconv.FormatInt(max(e.RetryAfter.Milliseconds(), 1), 10))
	}
	if e.ShouldRetry != Unset {
		h.Set("X-Should-Retry", strconv.FormatBool(e.ShouldRetry == Yes))
	}
	if e.Allow != "" {
		h.Set("Allow", e.Allow)
	}
}
