package simulated

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

func body(prompt, more string) []byte {
	return fmt.Appendf(nil, `{"model":"cheap","messages":[{"role":"user","content":%q}]%s}`, prompt, more)
}

func provider(t *testing.T, o Options) *Provider {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask returns the text, the usage and the payloads of an answer.
func ask(t *testing.T, p *Provider, arm *catalog.Arm, body []byte, stream bool) (text string, u openai.Usage, events []string) {
	t.Helper()
	s, err := p.Stream(t.Context(), &upstream.Request{Arm: arm, Body: body, Stream: stream})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		ev, err := s.Next()
		if err == io.EOF {
			return text, u, events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, string(ev.Data))
		if ev.Kind.Has(openai.HasUsage) {
			u = ev.Usage()
		}
		var c completion
		if ev.Kind == openai.IsDone {
			continue
		}
		if err := json.Unmarshal(ev.Data, &c); err != nil || !c.Simulated || c.SystemFingerprint != fingerprint {
			t.Fatalf("event is not marked as simulated: %s", ev.Data)
		}
		for _, ch := range c.Choices {
			if ch.Index == 0 && ch.Delta != nil {
				text += ch.Delta.Content
			} else if ch.Index == 0 {
				text += ch.Message.Content
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	p := provider(t, Options{Seed: 1, Instant: true})
	texts := map[string]bool{}
	for _, arm := range catalog.Simulated() {
		text, u, _ := ask(t, p, &arm, body("hi", ""), false)
		if !strings.Contains(text, string(arm.ID)) || !strings.Contains(text, "no real model was asked") {
			t.Errorf("%s does not say what it is: %s", arm.ID, text)
		}
		if !u.Known || u.Input == 0 || u.Output == 0 {
			t.Errorf("%s: usage %+v, want tokens of both kinds", arm.ID, u)
		}
		streamed, us, events := ask(t, p, &arm, body("hi", `,"stream":true,"stream_options":{"include_usage":true}`), true)
		if streamed != text || us != u || events[len(events)-1] != "[DONE]" {
			t.Errorf("%s: the stream says %q (%+v), the whole answer %q (%+v)", arm.ID, streamed, us, text, u)
		}
		again, _, _ := ask(t, provider(t, Options{Seed: 1, Instant: true}), &arm, body("hi", ""), false)
		other, _, _ := ask(t, provider(t, Options{Seed: 2, Instant: true}), &arm, body("hi", ""), false)
		if again != text || other == text {
			t.Errorf("%s: the same seed must repeat the answer and another must not", arm.ID)
		}
		texts[text] = true
	}
	if len(texts) != 3 {
		t.Errorf("got %d different answers of 3 arms", len(texts))
	}
}

func TestLimitsAreKept(t *testing.T) {
	p := provider(t, Options{Instant: true})
	arm := &catalog.Simulated()[2]
	_, u, events := ask(t, p, arm, body("hi", `,"max_tokens":5,"n":2`), false)
	if u.Output != 10 || !strings.Contains(events[0], `"finish_reason":"length"`) || strings.Count(events[0], `"index"`) != 2 {
		t.Errorf("max_tokens 5, n 2: usage %+v in %s", u, events[0])
	}
	text, _, _ := ask(t, p, arm, body("hi", `,"response_format":{"type":"json_object"}`), false)
	if !json.Valid([]byte(text)) || !strings.Contains(text, `"simulated":true`) {
		t.Errorf("JSON was asked for, got %s", text)
	}
	if _, u, _ := ask(t, p, arm, body("hi", `,"stream":true`), true); u.Known {
		t.Errorf("usage %+v in a stream that did not ask for it", u)
	}
}

// TestPace: the strong arm is slower than the cheap one, and every wait ends with the context.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := provider(t, Options{})
		mean := func(arm *catalog.Arm) time.Duration {
			start := time.Now()
			for i := range 20 {
				ask(t, p, arm, body(fmt.Sprint("question ", i), ""), false)
			}
			return time.Since(start) / 20
		}
		arms := catalog.Simulated()
		cheap, strong := mean(&arms[0]), mean(&arms[2])
		if cheap < 50*time.Millisecond || strong < 2*cheap || strong > 10*time.Second {
			t.Errorf("mean latency: cheap %v, strong %v; want from 50ms, twice that and more, up to 10s", cheap, strong)
		}
	})
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := provider(t, Options{Seed: 3, ErrorRate: 0.3, StallRate: 0.2, Instant: true})
		failed, stalled := 0, 0
		for range 1000 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			s, err := p.Stream(ctx, &upstream.Request{Arm: &catalog.Simulated()[0], Body: body("hi", ""), Stream: true})
			var e *upstream.Error
			if errors.As(err, &e) && e.Class == upstream.Server {
				failed++
			} else if _, err := s.Next(); err != nil {
				stalled++
			}
			cancel()
		}
		if failed < 250 || failed > 350 || stalled < 150 || stalled > 250 {
			t.Errorf("of 1000 calls %d failed and %d stalled, want about 300 and 200", failed, stalled)
		}
	})
	if _, err := New(Options{ErrorRate: 0.7, StallRate: 0.7}); err == nil {
		t.Error("rates that add up to more than 1 were accepted")
	}
}

func TestBadBody(t *testing.T) {
	p := provider(t, Options{Instant: true})
	_, err := p.Stream(t.Context(), &upstream.Request{Arm: &catalog.Simulated()[0], Body: []byte("{}")})
	var e *upstream.Error
	if !errors.As(err, &e) || e.Class != upstream.BadRequest {
		t.Errorf("got %v, want a bad request", err)
	}
}
