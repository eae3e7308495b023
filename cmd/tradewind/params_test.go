package main

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

// A model's own word on its parameters counts before its provider's, and what either does not take adds up.
func TestConfiguredParams(t *testing.T) {
	v := newVendor(t)
	file := write(t, "tradewind.yaml", fmt.Sprintf(`providers:
  - name: lab
    base_url: "%s/v1"
    api_key: sk-lab-0123456789
    allow_private: true
    drop_params: true
    unsupported_params: [user]
    models:
      - {name: easy, free: true, unsupported_params: [temperature, user]}
      - {name: strict, free: true, drop_params: false}
      - {name: plain, free: true}
`, v.URL))
	by, _ := examined(t, nil, "--offline", "--config", file)
	contains(t, "doctor", by["config"], "asked without the parameters that they do not take: lab/easy, lab/plain")
	s := start(t, nil, "--config", file)
	for _, tt := range []struct{ model, more, dropped string }{
		{"lab/easy", `,"temperature":0.5,"user":"u","seed":1`, "temperature,user"},
		{"lab/plain", `,"temperature":0.5,"user":"u"`, "user"},
		{"lab/strict", `,"temperature":0.5`, ""},
		{"lab/strict", `,"user":"u"`, "400"},
	} {
		r := s.call("POST", "/v1/chat/completions", "", ask(tt.model, "hi", tt.more))
		if tt.dropped == "400" {
			r.want(t, 400, nil)
			contains(t, tt.more, string(r.body), "user cannot be said")
			continue
		}
		r.want(t, 200, nil)
		if got := r.header.Get("X-Tradewind-Dropped-Params"); got != tt.dropped {
			t.Errorf("%s%s: dropped %q, want %q", tt.model, tt.more, got, tt.dropped)
		}
		if call := <-v.calls; (call.body["temperature"] == nil) != (tt.model == "lab/easy") || call.body["user"] != nil {
			t.Errorf("%s was asked %v", tt.model, call.body)
		}
	}
}

// What the vendor says of its rate limits is handed on where the file asks for it.
func TestConfiguredDebugHeaders(t *testing.T) {
	v := newVendor(t)
	v.refuse = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Ratelimit-Remaining-Requests", "7")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, vendorAnswer)
	}
	for more, want := range map[string]string{"": "", "debug_headers: true\n": "7"} {
		s := start(t, env{"LAB_KEY": "sk-lab-0123456789"}, "--config", write(t, "tradewind.yaml", more+v.provider()))
		r := s.call("POST", "/v1/chat/completions", "", ask("auto", "hi", ""))
		if r.want(t, 200, nil); r.header.Get("X-Upstream-X-Ratelimit-Remaining-Requests") != want {
			t.Errorf("%q: headers %v, want %q left", more, r.header, want)
		}
	}
}
