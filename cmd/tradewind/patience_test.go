package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestPatienceIsConfigured: how long one model is waited for, and whether another is asked what it refused, is in the file.
func TestPatienceIsConfigured(t *testing.T) {
	v := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Model string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		w.Header().Set("Content-Type", "application/json")
		switch body.Model {
		case "silent":
			<-r.Context().Done()
		case "prude":
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"message":"no","code":"content_filter"}}`)
		default:
			_, _ = io.WriteString(w, vendorAnswer)
		}
	}))
	t.Cleanup(v.Close)
	config := func(more string) string {
		return `providers: [{name: lab, type: openai, base_url: "` + v.URL + `/v1", models: [{name: silent, answer_seconds: 0.01}, prude, small]}]
` + more
	}
	s := start(t, nil, "--config", write(t, "tradewind.yaml", config("")))
	if r := s.call("POST", "/v1/chat/completions", "", ask("lab/silent", "hi", `,"models":["lab/small"]`)); r.header.Get("X-Tradewind-Model") != "lab/small" {
		t.Errorf("a model that is not waited for: %d %s", r.status, r.body)
	}
	s.call("POST", "/v1/chat/completions", "", ask("lab/prude", "hi", `,"models":["lab/small"]`)).want(t, 400, nil)
	s.stop()
	s = start(t, nil, "--config", write(t, "tradewind.yaml", config("routing: {failover_on_policy: true}")))
	if r := s.call("POST", "/v1/chat/completions", "", ask("lab/prude", "hi", `,"models":["lab/small"]`)); r.header.Get("X-Tradewind-Model") != "lab/small" {
		t.Errorf("a model that refuses: %d %s", r.status, r.body)
	}
}
