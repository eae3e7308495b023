package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestVendorsSpeakTheirOwn: a key in the environment makes the provider that speaks the vendor's protocol. Credentials of
// Amazon's that lie about for other purposes serve nothing unless Bedrock is named.
func TestVendorsSpeakTheirOwn(t *testing.T) {
	for _, test := range []struct {
		env    env
		name   string
		config config
		want   string
	}{
		{env{"GEMINI_API_KEY": "k"}, "google", config{}, "*google.Provider"},
		{env{"ANTHROPIC_API_KEY": "k"}, "anthropic", config{}, "*anthropic.Provider"},
		{env{"OPENAI_API_KEY": "k"}, "openai", config{}, "*openaicompat.Provider"},
		{env{"AWS_BEARER_TOKEN_BEDROCK": "k", "AWS_REGION": "eu-west-1"}, "amazon-bedrock", config{}, "*bedrock.Provider"},
		{env{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}, "amazon-bedrock", config{}, ""},
		{env{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "eu-west-1"}, "amazon-bedrock",
			config{Providers: []providerConfig{{Name: "amazon-bedrock"}}}, "*bedrock.Provider"},
	} {
		f, err := assemble(&test.config, test.env.get, time.Now(), nil)
		if err != nil {
			t.Errorf("%v: %v", test.env, err)
			continue
		}
		got := ""
		if p := f.providers[test.name]; p != nil {
			got = fmt.Sprintf("%T", p)
		}
		if got != test.want {
			t.Errorf("%v: got %q, want %q", test.env, got, test.want)
		}
	}
	_, err := assemble(&config{Providers: []providerConfig{{Name: "amazon-bedrock"}}}, env{}.get, time.Now(), nil)
	if err == nil || !strings.Contains(err.Error(), "amazon-bedrock") {
		t.Errorf("Bedrock without credentials: got %v, want an error that names it", err)
	}
}
