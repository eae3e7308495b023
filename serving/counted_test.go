package serving_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// TestCutsAreBilled is P9a for a vendor that bills for what it has said and is told to stop: over 1,000 clients that leave
// anywhere in an answer, or vendors that break off, what is settled is within 1 % of the vendor's own figure, whatever the words
// are. Where a vendor packs several tokens into an event nobody can know how many; it is then within a third.
func TestCutsAreBilled(t *testing.T) {
	w := newWorld(t, setup{})
	words := []string{" the", " of", ",", ".", " photosynthesis", " a", " whale", "\\n", " swims", " mitochondr", "ial", " é", " \\u043c\\u043e\\u0440", " 1", "7"}
	random := rand.New(rand.NewPCG(1, 2))
	for pack, tolerance := range map[int]float64{1: 0.01, 6: 0.33} {
		var billed, settled int64
		for range 1000 {
			tokens := 1 + random.IntN(120)
			var events []string
			for said := 0; said < tokens; said += pack {
				piece := ""
				for range min(pack, tokens-said) {
					piece += words[random.IntN(len(words))]
				}
				events = append(events, delta(piece))
			}
			rec := &failingWriter{ResponseRecorder: httptest.NewRecorder(), left: 1 << 30}
			if random.IntN(2) == 0 { // the client leaves, and has had all events but the last that the vendor said
				rec.left = random.IntN(len(events))
				tokens = min(tokens, (rec.left+1)*pack)
			}
			w.vendor.play(func(int, *upstream.Request) (*script, error) {
				return &script{events: events, err: fails(upstream.Cut, 0)}, nil
			})
			w.handler.ServeHTTP(rec, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(ask("one/cheap", `,"stream":true`))))
			_, o := w.outcome(&answer{t, rec.Code, rec.Header(), rec.Body.String()})
			billed, settled = billed+int64(tokens), settled+o.Usage.Output
			if o.Status != datasets.Failed && o.Status != datasets.ClientGone {
				t.Fatalf("the round ended as %s", o.Status)
			}
		}
		t.Logf("%d tokens an event: %d billed, %d settled", pack, billed, settled)
		if off := math.Abs(float64(settled)/float64(billed) - 1); off > tolerance {
			t.Errorf("%d tokens an event: %d billed and %d settled, %.1f %% off", pack, billed, settled, 100*off)
		}
	}
}

// TestCountedStream: where a vendor tells no usage, an answer that was stopped at its cap counts as the tokens that came, on
// every surface, as does one that stopped by itself, and none counts as more than the cap.
func TestCountedStream(t *testing.T) {
	w := newWorld(t, setup{})
	chat := func(delta, finish string) string { // as llama.cpp's server for Python writes it
		return `{"id": "c1", "model": "m", "created": 5, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": ` + delta + `, "logprobs": null, "finish_reason": ` + finish + `}]}`
	}
	plain := func(text, finish string) string {
		return `{"id": "c1", "object": "text_completion", "created": 5, "model": "m", "choices": [{"text": "` + text + `", "index": 0, "logprobs": null, "finish_reason": ` + finish + `}]}`
	}
	said := []string{"The", " capital", " of", " France", " is"}
	for _, tt := range []struct{ path, body string }{
		{"/v1/chat/completions", ask("one/cheap", `,"stream":true,"stream_options":{"include_usage":true}`)},
		{"/v1/completions", `{"model":"one/cheap","prompt":"x","stream":true,"stream_options":{"include_usage":true}}`},
		{"/v1/messages", ask("one/cheap", `,"stream":true,"max_tokens":9`)},
		{"/v1/responses", `{"model":"one/cheap","input":"x","stream":true}`},
	} {
		for _, end := range []string{`"length"`, `"stop"`, `"content_filter"`} {
			for cut, want := range map[string]string{"": "5", `,"max_tokens":4}`: "4"} {
				events := []string{chat(`{"role": "assistant"}`, "null")}
				for _, text := range said {
					events = append(events, chat(`{"content": "`+text+`"}`, "null"))
				}
				events = append(events, chat(`{}`, end), "[DONE]")
				if tt.path == "/v1/completions" {
					events = events[:0]
					for _, text := range said {
						events = append(events, plain(text, "null"))
					}
					events = append(events, plain("", end), "[DONE]")
				}
				w.vendor.play(func(int, *upstream.Request) (*script, error) { return &script{events: events}, nil })
				body := tt.body
				if cut != "" {
					if body = strings.Replace(strings.TrimSuffix(body, "}"), `,"max_tokens":9`, "", 1) + cut; tt.path == "/v1/responses" {
						body = strings.Replace(body, "max_tokens", "max_output_tokens", 1)
					}
				}
				a := w.do("POST", tt.path, body).wantOK()
				_, o := w.outcome(a)
				if got := fmt.Sprint(o.Usage.Output); got != want {
					t.Errorf("%s ending with %s, %s: %s tokens of %d, want %s", tt.path, end, cut, got, len(said), want)
				}
				if !strings.Contains(a.body, `"tradewind_estimated":true`) {
					t.Errorf("%s: the usage is not marked", tt.path)
				}
			}
		}
	}
}
