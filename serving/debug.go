package serving

// This file copies what a vendor says of its rate limits, for operators who want to see it.

// limitHeaders are the headers in which vendors say what is left of a key's limits, in OpenAI's form and in Anthropic's.
var limitHeaders = [...]string{
	"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests",
	"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens",
	"Anthropic-Ratelimit-Requests-Limit", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset",
	"Anthropic-Ratelimit-Tokens-Limit", "Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset",
	"Anthropic-Ratelimit-Input-Tokens-Limit", "Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Input-Tokens-Reset",
	"Anthropic-Ratelimit-Output-Tokens-Limit", "Anthropic-Ratelimit-Output-Tokens-Remaining", "Anthropic-Ratelimit-Output-Tokens-Reset",
}

// limitHeaderMax bounds the value of such a header: an instant or a duration is far shorter.
const limitHeaderMax = 64

// debugHead sets, where the configuration asks for it, what the vendor that answered has said of its rate limits. Nothing else
// of a vendor's headers is handed on.
func (r *round) debugHead(answer interface{ Header(name string) string }) {
	if !r.live.DebugHeaders {
		return
	}
	for _, name := range limitHeaders {
		if v := answer.Header(name); v != "" && len(v) <= limitHeaderMax {
			r.set("X-Upstream-"+name, r.g.o.Redact(headerValue(v)))
		}
	}
}
