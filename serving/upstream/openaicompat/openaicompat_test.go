package openaicompat

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	upstreamtest.Run(t, func(baseURL string) upstream.Provider {
		p, err := New(Options{BaseURL: baseURL + "/v1/", Key: upstreamtest.Key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	})
}

func TestResponses(t *testing.T) {
	upstreamtest.RunResponses(t, func(baseURL string) upstream.Provider {
		p, err := New(Options{BaseURL: baseURL + "/v1", Key: upstreamtest.Key, Responses: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	})
}

func TestConnectError(t *testing.T) {
	p, err := New(Options{BaseURL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Stream(context.Background(), &upstream.Request{Arm: &catalog.Arm{ID: "a/b"}, Body: []byte("{}")})
	var e *upstream.Error
	if !errors.As(err, &e) || e.Class != upstream.Connect || strings.Contains(e.Message, "127") {
		t.Errorf("got %v, want class connect with a message that names no host", err)
	}
}

func TestValidate(t *testing.T) {
	for _, base := range []string{"", "ftp://x", "http://", "https://user:pw@x/v1", "https://x/v1?key=secret", "://", "https://x/\x7f"} {
		_, err := New(Options{BaseURL: base})
		if err == nil {
			t.Errorf("%q: accepted", base)
		} else if strings.Contains(err.Error(), "pw") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells it: %v", base, err)
		}
	}
}

// TestAzure: the key in a header of its own, and for the dated API the model in the path; a first event that holds only
// what a filter made of the prompt is no answer.
func TestAzure(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}`+"\n\n"+
			`data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null,"content_filter_results":{}}]}`+"\n\n"+
			`data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\ndata: [DONE]\n\n")
	}))
	defer server.Close()
	for _, test := range []struct{ base, version, want string }{
		{"/openai/v1", "", "/openai/v1/chat/completions"},
		{"/openai", "2024-10-21", "/openai/deployments/my%20gpt%2F5/chat/completions?api-version=2024-10-21"},
	} {
		p, err := New(Options{BaseURL: server.URL + test.base, Key: "z", Azure: true, APIVersion: test.version})
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.Stream(t.Context(), &upstream.Request{Arm: &catalog.Arm{ID: "azure/my gpt/5"}, Body: []byte(`{}`), Stream: true, Header: http.Header{"Authorization": {"forged"}}})
		if err != nil {
			t.Fatal(err)
		}
		if got.RequestURI != test.want || got.Header.Get("Api-Key") != "z" || got.Header.Get("Authorization") != "" {
			t.Errorf("the server got %s with headers %v, want %s", got.RequestURI, got.Header, test.want)
		}
		for i, want := range []openai.Kind{0, openai.HasContent, openai.HasFinish, openai.IsDone} {
			if ev, err := s.Next(); err != nil || ev.Kind != want {
				t.Errorf("event %d: kind %b, error %v, want %b", i, ev.Kind, err, want)
			}
		}
		s.Close()
		p.Close()
	}
}
