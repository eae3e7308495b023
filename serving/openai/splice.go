package openai

import (
	"slices"
	"strconv"
)

// Upstream says what a vendor's body differs in from the client's.
type Upstream struct {
	// Model is the vendor's own name of the arm.
	Model string
	// Effort is the reasoning effort to ask with, in place of whatever the client said; empty leaves that as it is.
	Effort string
	// MaxOutput is the cap on output tokens that the hold was computed with. It is sent where the client gave none or a
	// larger one; 0 leaves the client's as it is.
	MaxOutput int
	// MaxTokensField is the name that the vendor gives the cap, "max_tokens" or "max_completion_tokens". Empty keeps the
	// client's own, and means "max_tokens" where the client gave none.
	MaxTokensField string
	// ForceUsage asks a stream for its usage, whatever the client asked for.
	ForceUsage bool
	// Drop are dispensable fields that are left out, for arms that do not take them.
	Drop []string
	// Marks says that the arm is sent the marks of a cache that a client of another dialect has set.
	Marks bool
}

// AppendUpstream appends the body for a vendor: the client's bytes with the model replaced, the fields about routing
// removed, the cap on output set and usage asked for. Every other value is copied byte for byte.
func (r *Request) AppendUpstream(dst []byte, u Upstream) []byte {
	dst = append(dst, '{')
	limit := u.limit(r.MaxTokens)
	capped, usage := false, !r.Stream || !u.ForceUsage
	for _, m := range r.members {
		switch {
		case m.field >= fTradewind, u.Effort != "" && (m.field == fReasoningEffort || m.field == fReasoning):
		case slices.ContainsFunc(u.Drop, func(name string) bool { return r.named(m, name) }):
		case m.field == fMetadata && r.metadataTags != nil:
			dst = appendMetadata(dst, m.value.of(r.body))
		case m.field == fModel:
			dst = append(dst, `"model":`...)
			dst = append(appendText(dst, u.Model), ',')
		case (m.field == fMaxTokens || m.field == fMaxCompletionTokens) && !m.value.isNull(r.body):
			if !capped || u.MaxTokensField == "" {
				dst = appendCap(dst, firstOf(u.MaxTokensField, fieldNames[m.field]), u.limit(r.capOf(m, u)))
			}
			capped = true
		case m.field == fMaxTokens || m.field == fMaxCompletionTokens: // null: ours takes its place, or the default does
		case m.field == fStreamOptions && !usage:
			dst, usage = r.appendStreamOptions(dst, m.value), true
		default:
			dst = append(r.appendMember(dst, m, u.Marks), ',')
		}
	}
	if !capped && limit > 0 {
		dst = appendCap(dst, firstOf(u.MaxTokensField, "max_tokens"), limit)
	}
	if u.Effort != "" {
		dst = append(appendText(append(dst, `"reasoning_effort":`...), u.Effort), ',')
	}
	if !usage {
		dst = append(dst, `"stream_options":{"include_usage":true},`...)
	}
	dst[len(dst)-1] = '}' // the model is always there, so there is always a comma to replace
	return dst
}

// appendMember copies a member, with the marks in it or without.
func (r *Request) appendMember(dst []byte, m member, marked bool) []byte {
	from := m.key.from
	for _, mark := range r.marks {
		if !marked && mark.from > from && mark.to < m.value.to {
			dst, from = append(dst, r.body[from:mark.from]...), mark.to
		}
	}
	return append(dst, r.body[from:m.value.to]...)
}

// limit is the smaller of the client's cap and ours, 0 being none.
func (u *Upstream) limit(client int) int {
	if client == 0 || u.MaxOutput > 0 && u.MaxOutput < client {
		return u.MaxOutput
	}
	return client
}

// capOf is the client's own cap in this member. Where both were sent and become one, it is the larger, as in the hold.
func (r *Request) capOf(m member, u Upstream) int {
	if u.MaxTokensField != "" {
		return r.MaxTokens
	}
	n, err := strconv.Atoi(string(m.value.of(r.body)))
	if err != nil { // Decode has checked that it is an integer
		return r.MaxTokens
	}
	return n
}

func appendCap(dst []byte, name string, n int) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return append(strconv.AppendInt(dst, int64(n), 10), ',')
}

// appendStreamOptions copies the client's stream options with include_usage set.
func (r *Request) appendStreamOptions(dst []byte, v span) []byte {
	dst = append(dst, `"stream_options":`...)
	switch {
	case !v.isObject(r.body):
		dst = append(dst, `{"include_usage":true}`...)
	case r.includeUsage.there():
		dst = append(dst, r.body[v.from:r.includeUsage.from]...)
		dst = append(dst, "true"...)
		dst = append(dst, r.body[r.includeUsage.to:v.to]...)
	default:
		dst = append(dst, `{"include_usage":true`...)
		if nonEmpty(r.body, v) {
			dst = append(dst, ',')
		}
		dst = append(dst, r.body[v.from+1:v.to]...)
	}
	return append(dst, ',')
}
