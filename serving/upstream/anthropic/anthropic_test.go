package anthropic

import (
	"errors"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	upstreamtest.RunMessages(t, func(baseURL string) upstream.Provider {
		p, err := New(Options{BaseURL: baseURL + "/v1/", Key: upstreamtest.Key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	})
}

// TestUnable: what one model cannot be told does not keep the next one from being asked.
func TestUnable(t *testing.T) {
	p, err := New(Options{BaseURL: "http://127.0.0.1:1/v1", AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for more, param := range map[string]string{`"model":"claude-sonnet-4-5","reasoning_effort":"low","max_tokens":1000`: "reasoning_effort", `"model":"claude-opus-4-7","reasoning":{"max_tokens":2000}`: "reasoning.max_tokens"} {
		body := []byte(`{"messages":[{"role":"user","content":"hi"}],` + more + `}`)
		_, err := p.Stream(t.Context(), &upstream.Request{Body: body, Dialect: openai.Chat})
		var e *upstream.Error
		if !errors.As(err, &e) || e.Class != upstream.Unsayable || e.Param != param {
			t.Errorf("%s: got %v, want the class %s for %s", more, err, upstream.Unsayable, param)
		}
		if field := p.Lacks(body); field != "" {
			t.Errorf("%s: all models lack %s", more, field)
		}
	}
}
