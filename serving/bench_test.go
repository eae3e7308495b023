package serving_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// sink is a client that reads nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Flush()                      {}

// instant answers every call with the same events.
type instant struct{}

func (instant) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	s := &script{ctx: ctx, stream: r.Stream, events: wholeEvents}
	if r.Stream {
		s.events = streamEvents
	}
	return s, nil
}

var (
	wholeEvents  = []string{whole("391", `{"prompt_tokens":7,"completion_tokens":3}`)}
	streamEvents = []string{delta("3"), delta("9"), delta("1"), finish, usageChunk, "[DONE]"}
)

// BenchmarkChat is one request from the handler down and back: ten arms of ten providers, a prompt of 0.7 kB, the
// journal on disk, a vendor that answers at once.
func BenchmarkChat(b *testing.B) {
	prompt := strings.Repeat("Explain how a sail drives a boat against the wind, and why. ", 11)
	for name, more := range map[string]string{"whole": "", "stream": `,"stream":true`} {
		b.Run(name, func(b *testing.B) {
			arms := peers(10)
			providers := map[string]upstream.Provider{}
			for i := range arms {
				arms[i].ID = catalog.ArmID(string(rune('a'+i)) + "/model")
				providers[arms[i].ID.Provider()] = instant{}
			}
			w := newWorld(b, setup{arms: arms, providers: providers, options: serving.Options{Epsilon: 0.05}, unaudited: true})
			body := `{"model":"auto","messages":[{"role":"user","content":"` + prompt + `"}]` + more + `}`
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				req := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(body))
				w.handler.ServeHTTP(&sink{http.Header{}}, req)
			}
		})
	}
}
