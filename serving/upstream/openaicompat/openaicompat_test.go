package openaicompat

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
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
