package anthropic

import (
	"testing"

	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	upstreamtest.RunMessages(t, func(baseURL string) upstream.Provider {
		p, err := New(Options{BaseURL: baseURL + "/v1/", Key: upstreamtest.Key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		return p
	})
}
