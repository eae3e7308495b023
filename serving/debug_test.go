package serving_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/keyring"
	"github.com/tradewind-llm/tradewind/serving/upstream/openaicompat"
)

// limiting is a vendor that says one text, and that so many requests are left, among much else.
func limiting(t *testing.T, text, left string) upstream.Provider {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for name, value := range map[string]string{
			"X-Ratelimit-Remaining-Requests": left, "X-Ratelimit-Reset-Requests": strings.Repeat("1", 65), "X-Ratelimit-Limit-Tokens": "of sk-secret",
			"Anthropic-Ratelimit-Requests-Remaining": left, "X-Ratelimit-Other": "1", "X-Request-Id": "theirs", "Set-Cookie": "a=b", "Openai-Organization": "acme",
		} {
			w.Header().Set(name, value)
		}
		if !strings.Contains(string(body), `"stream":true`) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, whole(text, `{"prompt_tokens":7,"completion_tokens":3}`))
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: "+strings.Join([]string{delta(text), finish, usageChunk, "[DONE]"}, "\n\ndata: ")+"\n\n")
	}))
	t.Cleanup(server.Close)
	p := must(openaicompat.New(openaicompat.Options{BaseURL: server.URL}))(t)
	t.Cleanup(func() { _ = p.Close() })
	return must(keyring.New(keyring.Options{Keys: []upstream.Provider{p}}))(t)
}

// TestDebugHeaders: of a vendor's headers those about rate limits are handed on, where the operator wants it, and those of the
// arm that answered: also where gates have rejected another's answer before.
func TestDebugHeaders(t *testing.T) {
	for _, on := range []bool{false, true} {
		for _, streams := range []string{"", `,"stream":true`} {
			s := setup{
				providers: map[string]upstream.Provider{"one": limiting(t, "bad", "1"), "two": limiting(t, "good 2", "2"), "three": limiting(t, "good 3", "3")},
				options: serving.Options{
					Settings: serving.Settings{DebugHeaders: on}, Redact: func(s string) string { return strings.ReplaceAll(s, "sk-secret", "[redacted]") },
				},
			}
			for w, left := range map[*world]string{newWorld(t, s): "1", gated(t, gate.PolicyConfig{Streams: "buffer"}, s): "3"} {
				a := w.chat(ask("auto", streams)).wantOK()
				got := map[string]string{}
				for name := range a.header {
					if strings.HasPrefix(name, "X-Upstream-") || name == "Set-Cookie" || name == "Openai-Organization" {
						got[name] = a.header.Get(name)
					}
				}
				want := 0
				if on {
					want = 3
				}
				if len(got) != want || on && (got["X-Upstream-X-Ratelimit-Remaining-Requests"] != left || got["X-Upstream-Anthropic-Ratelimit-Requests-Remaining"] != left ||
					got["X-Upstream-X-Ratelimit-Limit-Tokens"] != "of [redacted]") || a.header.Get("X-Request-Id") == "theirs" {
					t.Errorf("debug headers %v%s: %v, want %d, with %s left", on, streams, got, want, left)
				}
			}
		}
	}
}
