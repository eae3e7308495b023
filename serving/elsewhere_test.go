package serving_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/openaicompat"
)

// redirecting are names under which other gateways take an address from their clients, and headers that proxies believe.
var (
	redirecting = []string{
		"api_base", "base_url", "baseURL", "api_url", "url", "endpoint", "host", "proxy", "proxies", "azure_endpoint", "custom_llm_provider", "callback_url",
		"webhook", "redirect_uri", "custom_host", "target", "extra_body", "litellm_params", "metadata", "provider_options", "image_url", "file_url", "server_url", "x",
	}
	redirectingHeaders = []string{
		"X-Forwarded-Host", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "X-Original-Url", "X-Rewrite-Url", "X-Portkey-Custom-Host", "X-Api-Base",
		"Api-Base", "X-Target-Url", "Proxy", "Referer", "Origin", "X-Tradewind-Base-Url", "Openai-Base-Url", "X-Http-Host-Override",
	}
)

// TestNobodyChoosesWhereWeConnect is P14: an attacker's address anywhere in a body, a header, the query or the Host is at most
// handed on as text to the vendor that is configured. Nobody connects to the attacker, the vendor is asked under its own name
// and path, and its redirects are not followed.
func TestNobodyChoosesWhereWeConnect(t *testing.T) {
	var stolen atomic.Int64
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	defer attacker.Close()
	var mu sync.Mutex
	var asked []*http.Request
	var lead atomic.Bool // the vendor's answer leads elsewhere
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Clone(context.Background()))
		mu.Unlock()
		if lead.Load() {
			http.Redirect(w, r, attacker.URL+"/v1/chat/completions", http.StatusTemporaryRedirect)
			return
		}
		_, _ = w.Write([]byte(whole("391", `{"prompt_tokens":7,"completion_tokens":3}`)))
	}))
	defer vendor.Close()
	p := must(openaicompat.New(openaicompat.Options{BaseURL: vendor.URL + "/v1", Key: "sk-vendor-0123456789", AllowPrivate: true}))(t)
	defer func() { _ = p.Close() }()
	w := newWorld(t, setup{arms: append(threeArms()[:1], directArms()...), providers: map[string]upstream.Provider{"one": p, directArms()[0].ID.Provider(): p}})
	host := strings.TrimPrefix(vendor.URL, "http://")
	paths := []string{"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
	served := 0
	rapid.Check(t, func(rt *rapid.T) {
		req, text := ledAstray(rt, attacker.URL, paths)
		if lead.Store(rapid.IntRange(0, 3).Draw(rt, "redirect") == 0); lead.Load() {
			req.Header.Set("X-Tradewind-Fallback", "false") // a second attempt would wait
		}
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, req)
		if rec.Code == http.StatusOK {
			served++
		}
		if n := stolen.Load(); n != 0 {
			rt.Fatalf("the attacker was called %d times, by %s with %v", n, text, req.Header)
		}
	})
	if served == 0 || len(asked) == 0 {
		t.Fatalf("%d of the requests were served, the vendor was asked %d times: nothing was tried", served, len(asked))
	}
	for _, r := range asked {
		if r.Host != host || !slices.Contains(paths, r.URL.Path) || r.URL.RawQuery != "" || r.Header.Get("Authorization") != "Bearer sk-vendor-0123456789" {
			t.Fatalf("the vendor was asked as %s%s, with %v", r.Host, r.URL, r.Header)
		}
		for _, name := range redirectingHeaders {
			if r.Header.Get(name) != "" {
				t.Fatalf("the vendor was handed %s", name)
			}
		}
	}
}

// ledAstray draws a request that names the attacker's address wherever it can, and its body.
func ledAstray(rt *rapid.T, attacker string, paths []string) (*http.Request, []byte) {
	address := rapid.SampledFrom([]string{attacker, attacker + "/v1", strings.TrimPrefix(attacker, "http://"), "http://169.254.169.254/latest"}).Draw(rt, "address")
	body := map[string]any{"model": "one/cheap", "messages": []any{map[string]any{"role": "user", "content": "hi"}}, "max_tokens": 5, "prompt": "hi", "input": "hi"}
	for range rapid.IntRange(0, 3).Draw(rt, "fields") {
		var v any = address
		for range rapid.IntRange(0, 4).Draw(rt, "depth") {
			if rapid.Bool().Draw(rt, "list") {
				v = []any{v}
			} else {
				v = map[string]any{rapid.SampledFrom(redirecting).Draw(rt, "inner"): v}
			}
		}
		at := body
		switch rapid.IntRange(0, 3).Draw(rt, "where") {
		case 1:
			at = body["messages"].([]any)[0].(map[string]any)
		case 2:
			at = map[string]any{}
			body[rapid.SampledFrom([]string{"metadata", "tradewind", "provider", "stream_options", "response_format"}).Draw(rt, "object")] = at
		}
		at[rapid.SampledFrom(redirecting).Draw(rt, "name")] = v
	}
	if rapid.IntRange(0, 9).Draw(rt, "model") == 0 {
		body["model"] = rapid.SampledFrom([]string{address, "one/" + address, address + "/cheap", "openai/" + address}).Draw(rt, "model")
	}
	text, err := json.Marshal(body)
	if err != nil {
		rt.Fatal(err)
	}
	path := rapid.SampledFrom(paths).Draw(rt, "path")
	req := httptest.NewRequest("POST", path+"?"+rapid.SampledFrom(redirecting).Draw(rt, "query")+"="+address, strings.NewReader(string(text)))
	for range rapid.IntRange(0, 3).Draw(rt, "headers") {
		req.Header.Set(rapid.SampledFrom(redirectingHeaders).Draw(rt, "header"), address)
	}
	if rapid.Bool().Draw(rt, "host") {
		req.Host = strings.TrimPrefix(address, "http://")
	}
	return req, text
}

// BenchmarkClientGone is how soon a vendor learns that a client has gone, mid-stream and after large bodies, over real sockets: P9
// promises 50 ms at the 99.9th percentile of an idle machine.
func BenchmarkClientGone(b *testing.B) {
	w := newWorld(b, setup{arms: roomy(), unaudited: true})
	for name, more := range map[string]string{"mid-stream": `,"stream":true`, "before the first byte": "", "after 1 MB": `,"x":"` + strings.Repeat("x", 1<<20) + `"`} {
		b.Run(name, func(b *testing.B) {
			server := httptest.NewServer(w.handler)
			defer server.Close()
			var waits []time.Duration
			for b.Loop() {
				waits = append(waits, leaves(b, w, server, ask("one/cheap", more), more == `,"stream":true`))
			}
			slices.Sort(waits)
			for _, q := range []float64{0.5, 0.99, 0.999} {
				b.ReportMetric(float64(waits[int(q*float64(len(waits)-1))].Microseconds()), fmt.Sprintf("p%v-µs", 100*q))
			}
		})
	}
}

// leaves is how long it takes from a client's leaving to its vendor's knowing.
func leaves(b *testing.B, w *world, server *httptest.Server, body string, stream bool) time.Duration {
	b.Helper()
	waiting, cancelled := make(chan struct{}), make(chan struct{})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		s := &script{stallAt: 1, cancelled: cancelled}
		if stream {
			s.events, s.stallAt = []string{delta("a"), delta("b")}, 3
		}
		s.before = func(i int) {
			if i == s.stallAt {
				close(waiting)
			}
		}
		return s, nil
	})
	ctx, cancel := context.WithCancel(b.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-waiting
	begun := time.Now()
	cancel()
	<-cancelled
	took := time.Since(begun)
	<-done
	return took
}
