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

// TestBuffered: of two events that come together the second is known to be here, and of one that comes later it is not.
func TestBuffered(t *testing.T) {
	const chunk = `data: {"choices":[{"index":0,"delta":{"content":"a"}}]}` + "\n\n"
	more := make(chan struct{})
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, chunk+chunk)
		w.(http.Flusher).Flush()
		<-more
		_, _ = io.WriteString(w, chunk+"data: [DONE]\n\n")
	}))
	defer vendor.Close()
	p, err := New(Options{BaseURL: vendor.URL})
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Stream(t.Context(), &upstream.Request{Arm: &catalog.Arm{ID: "a/b"}, Body: []byte("{}"), Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, want := range []bool{true, false, true, true} { // after the end nothing is waited for
		if i == 2 {
			close(more)
		}
		if _, err := s.Next(); err != nil {
			t.Fatal(err)
		}
		if got := s.(upstream.Buffered).Buffered(); got != want {
			t.Errorf("after event %d: %v, want %v", i, got, want)
		}
	}
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

// TestPassedThrough: completions and embeddings have their own paths, and their answers are content. A model that is for chat
// alone is none the worse for being asked to complete a text.
func TestPassedThrough(t *testing.T) {
	const (
		said    = `{"id":"c","object":"text_completion","choices":[{"index":0,"text":"x","finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`
		vectors = `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}`
	)
	var path string
	status, body := 200, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.RequestURI
		if strings.HasPrefix(body, "data: ") {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	p, err := New(Options{BaseURL: server.URL + "/v1", AnswerMax: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, tt := range []struct {
		d      openai.Dialect
		stream bool
		body   string
		path   string
		kinds  openai.Kind
		used   openai.Usage
	}{
		{openai.Completions, false, said, "/v1/completions", openai.HasContent | openai.HasUsage | openai.HasFinish | openai.IsDone, openai.Usage{Known: true, Input: 1, Output: 1}},
		{openai.Completions, true, "data: " + said + "\n\ndata: [DONE]\n\n", "/v1/completions", openai.HasContent | openai.HasUsage | openai.HasFinish | openai.IsDone, openai.Usage{Known: true, Input: 1, Output: 1}},
		{openai.Embeddings, false, vectors + strings.Repeat(" ", 200), "/v1/embeddings", openai.HasContent | openai.HasUsage | openai.IsDone, openai.Usage{Known: true, Input: 8}},
		{openai.Embeddings, false, `{"object":"list","data":[]}`, "/v1/embeddings", openai.IsDone, openai.Usage{}}, // which the pool takes for no answer
	} {
		body = tt.body
		kinds, used, err := heard(t, p, tt.d, tt.stream)
		if !p.Speaks(tt.d) || err != nil || path != tt.path || kinds != tt.kinds || used != tt.used {
			t.Errorf("%s, stream %v: %s, kinds %b, usage %+v, %v", tt.d, tt.stream, path, kinds, used, err)
		}
	}
	body = said + strings.Repeat(" ", 200)
	var e *upstream.Error
	if _, _, err := heard(t, p, openai.Completions, false); !errors.As(err, &e) || e.Class != upstream.BadAnswer {
		t.Errorf("only vectors may be longer than the limit: %v", err)
	}
	status, body = 404, `{"error":{"message":"This is a chat model and not supported in the v1/completions endpoint.","code":"model_not_found"}}`
	for d, want := range map[openai.Dialect]upstream.Class{openai.Completions: upstream.Unsayable, openai.Embeddings: upstream.ModelGone, openai.Chat: upstream.ModelGone} {
		if _, _, err := heard(t, p, d, false); !errors.As(err, &e) || e.Class != want || e.Status != 404 || !strings.HasPrefix(e.Message, "This is") {
			t.Errorf("%s: %v, want class %s", d, err, want)
		}
	}
}

// heard asks in a dialect and tells all that the events carried.
func heard(t *testing.T, p *Provider, d openai.Dialect, stream bool) (kinds openai.Kind, used openai.Usage, err error) {
	t.Helper()
	s, err := p.Stream(t.Context(), &upstream.Request{Arm: &catalog.Arm{ID: "a/b"}, Dialect: d, Body: []byte(`{}`), Stream: stream})
	if err != nil {
		return 0, used, err
	}
	defer s.Close()
	for {
		ev, err := s.Next()
		if err == io.EOF {
			return kinds, used, nil
		} else if err != nil {
			return kinds, used, err
		}
		kinds |= ev.Kind
		if ev.Kind.Has(openai.HasUsage) {
			used = ev.Usage()
		}
	}
}

// TestNoCompletions: that a vendor has no completions speaks for nothing about the chat of the same arm, so it must not count
// against the arm: else a client could have it ejected by asking for them. Pain 22 (BerriAI/litellm#38610).
func TestNoCompletions(t *testing.T) {
	status := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"error":{"message":"not here"}}`)
	}))
	defer server.Close()
	p, err := New(Options{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, tt := range []struct {
		dialect openai.Dialect
		status  int
		want    upstream.Class
	}{
		{openai.Completions, 404, upstream.Unsayable}, {openai.Completions, 501, upstream.Unsayable},
		{openai.Completions, 500, upstream.Server}, {openai.Completions, 503, upstream.Server},
		{openai.Chat, 404, upstream.ModelGone}, {openai.Chat, 501, upstream.Server}, {openai.Embeddings, 501, upstream.Server},
	} {
		status = tt.status
		_, err := p.Stream(t.Context(), &upstream.Request{Arm: &catalog.Arm{ID: "a/b"}, Body: []byte(`{}`), Dialect: tt.dialect})
		var e *upstream.Error
		if !errors.As(err, &e) || e.Class != tt.want || e.Class.Fault() == (tt.want == upstream.Unsayable) || e.Message != "not here" {
			t.Errorf("%s %d: %v, want class %s", tt.dialect, tt.status, err, tt.want)
		}
	}
}
