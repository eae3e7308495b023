package bedrock

import (
	"testing"

	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	for name, o := range map[string]Options{
		"bearer": {Region: "us-east-1", Token: upstreamtest.Key},
		"signed": {Region: "us-east-1", AccessKey: "AKIDEXAMPLE", SecretKey: upstreamtest.Key, SessionToken: "token"},
	} {
		t.Run(name, func(t *testing.T) {
			upstreamtest.RunConverse(t, func(baseURL string) upstream.Provider {
				o.BaseURL = baseURL
				p, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { p.Close() })
				return p
			})
		})
	}
}
