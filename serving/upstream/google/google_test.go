package google

import (
	"testing"

	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	upstreamtest.RunGemini(t, func(baseURL string) upstream.Provider {
		p, err := New(Options{BaseURL: baseURL + "/v1beta/", Key: upstreamtest.Key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	})
}
