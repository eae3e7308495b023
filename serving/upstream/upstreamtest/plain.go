package upstreamtest

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// plain draws requests of every kind that may be plain: one that is said to be can be told to the vendor, which is why
// the gateway does not ask.
func (s *suite) plain(t *testing.T) {
	p := s.provider("http://127.0.0.1:1").(upstream.Linguist)
	count := 0
	rapid.Check(t, func(t *rapid.T) {
		body, err := json.Marshal(drawPlain(t))
		if err != nil {
			t.Fatal(err)
		}
		r, err := openai.Decode(body, openai.DecodeOptions{})
		if err != nil || !r.Plain() {
			return
		}
		count++
		if field := p.Lacks(body); field != "" {
			t.Fatalf("plain, and yet %s cannot be said: %s", field, body)
		}
	})
	if count == 0 {
		t.Error("no request that was drawn is plain, which tests nothing")
	}
}

// drawPlain draws a request that is plain, or where it is odd may not be.
func drawPlain(t *rapid.T) object {
	odd := rapid.Bool().Draw(t, "odd")
	pick := func(what string, usual int, of ...any) any {
		if !odd {
			of = of[:usual]
		}
		return rapid.SampledFrom(of).Draw(t, what)
	}
	messages := []object{}
	for range rapid.IntRange(1, 4).Draw(t, "messages") {
		messages = append(messages, object{
			"role":    pick("role", 1, "user", "assistant", "system", "developer", "tool"),
			"content": pick("content", 1, "hello", " ", "", nil, []object{{"type": "text", "text": "hello"}}),
		})
	}
	body := object{"model": "m", "messages": messages}
	for range rapid.IntRange(0, 3).Draw(t, "settings") {
		name := pick("name", 7, "temperature", "top_p", "max_tokens", "max_completion_tokens", "stream", "user", "stream_options",
			"n", "stop", "metadata", "seed", "logprobs", "top_k", "service_tier").(string)
		body[name] = map[string]func() any{
			"temperature": func() any { return pick(name, 3, 0, 0.5, 1, 1.5, 2, -1, "1", nil) }, "top_p": func() any { return pick(name, 3, 0, 0.5, 1, "1", nil) },
			"max_tokens": func() any { return 1 << 20 }, "max_completion_tokens": func() any { return 7 }, "stream": func() any { return true },
			"user":           func() any { return pick(name, 2, "someone", "") },
			"stream_options": func() any { return pick(name, 1, object{"include_usage": true}, object{"include_obfuscation": false}) },
			"n":              func() any { return pick(name, 2, 1, 2) }, "stop": func() any { return "x" }, "metadata": func() any { return object{"a": "b"} },
			"seed": func() any { return 1 }, "logprobs": func() any { return true }, "top_k": func() any { return 3 }, "service_tier": func() any { return "auto" },
		}[name]()
	}
	return body
}
