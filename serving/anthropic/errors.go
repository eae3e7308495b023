package anthropic

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// statusOverloaded is what the API answers, instead of 503, where it is overloaded.
const statusOverloaded = 529

// errorTypes are Anthropic's names for our codes; where a vendor's own code is passed on, the status decides.
var errorTypes = map[openai.Code]string{
	openai.RequestTooLarge: "request_too_large", openai.Timeout: "timeout_error", openai.InternalError: "api_error",
	openai.UpstreamFailed: "api_error", openai.Overloaded: "overloaded_error", openai.StoreUnavailable: "overloaded_error",
	openai.NoHealthyUpstream: "overloaded_error", openai.InvalidAPIKey: "authentication_error", openai.KeyExpired: "authentication_error",
	openai.ModelNotAllowed: "permission_error", openai.Forbidden: "permission_error", openai.ModelNotFound: "not_found_error",
	openai.NotFound: "not_found_error", openai.RateLimitExceeded: "rate_limit_error", openai.InsufficientQuota: "rate_limit_error",
	openai.UpstreamRateLimited: "rate_limit_error",
}

// threadRefused is Anthropic's own code for a conversation that is not kept. Its SDKs, whose tool runners ask for one by
// themselves, go on without when they read it.
const threadRefused = "thread_unsupported_request"

func errorType(e *openai.Error) string {
	if e.Status == http.StatusPaymentRequired {
		return "billing_error"
	}
	if kind, known := errorTypes[e.Code]; known {
		return kind
	}
	if e.Status == http.StatusRequestEntityTooLarge {
		return "request_too_large"
	}
	if e.Status >= http.StatusInternalServerError {
		return "api_error"
	}
	return "invalid_request_error"
}

// Status is the HTTP status of an error in this dialect.
func Status(e *openai.Error) int {
	if e.Status == http.StatusServiceUnavailable {
		return statusOverloaded
	}
	return e.Status
}

// AppendError appends an error's body in the exact shape of Anthropic's API.
func AppendError(dst []byte, e *openai.Error, requestID string) []byte {
	type details struct {
		Code string `json:"error_code"`
	}
	type inner struct {
		Type    string   `json:"type"`
		Message string   `json:"message"`
		Details *details `json:"details,omitempty"`
	}
	said := inner{Type: errorType(e), Message: e.Message}
	if e.Reason == threadRefused {
		said.Details = &details{e.Reason}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Type      string `json:"type"`
		Error     inner  `json:"error"`
		RequestID string `json:"request_id,omitempty"`
	}{"error", said, requestID})
	if err != nil { // cannot happen: strings always marshal
		return append(dst, `{"type":"error","error":{"type":"api_error","message":"internal error"}}`...)
	}
	return append(dst, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}

// WriteError writes the whole answer of a failed request. Nothing must have been written before.
func WriteError(w http.ResponseWriter, e *openai.Error, requestID, decisionID string) {
	h := w.Header()
	openai.ErrorHead(h, e, requestID, decisionID)
	if requestID != "" {
		h.Set("Request-Id", requestID) // where Anthropic's SDKs look for it
	}
	w.WriteHeader(Status(e))
	_, _ = w.Write(AppendError(nil, e, requestID)) // a client that is gone needs no answer
}
