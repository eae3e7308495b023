package openai

import (
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

func TestUsage(t *testing.T) {
	for raw, want := range map[string]Usage{
		`{"prompt_tokens":0,"completion_tokens":0}`: {Known: true},
		`{}`:                  {},
		`{"prompt_tokens":1}`: {},
		`{"prompt_tokens":-1,"completion_tokens":1}`:   {},
		`{"prompt_tokens":8,"total_tokens":8}`:         {Known: true, Input: 8}, // of embeddings
		`{"prompt_tokens":8,"total_tokens":9}`:         {},
		`{"total_tokens":8}`:                           {},
		`{"prompt_tokens":1.5,"completion_tokens":1}`:  {},
		`{"prompt_tokens":null,"completion_tokens":1}`: {},
		`{"prompt_tokens":1e99,"completion_tokens":1}`: {},
	} {
		if got := ParseUsage([]byte(raw)); got != want {
			t.Errorf("%s: got %+v, want %+v", raw, got, want)
		}
	}
	got := Usage{Known: true, Input: 9, CacheRead: 4, CacheWrite: 20, CacheWrite1h: 30, AudioInput: 1, Output: 2, Reasoning: 5, AudioOutput: 1}.Catalog()
	if want := (catalog.Usage{CacheRead: 4, CacheWrite1h: 5, Reasoning: 2}); got != want {
		t.Errorf("counts that contradict each other: got %+v, want %+v", got, want)
	}
}

// vendorUsages are the ways in which vendors report what a call used. Pains 12 (BerriAI/litellm#37992), 15
// (QuantumNous/new-api#4168, #5287) and 23 (BerriAI/litellm#33772, #26807): cached tokens are no plain input, an explicit
// zero is a value, nothing is counted twice.
var vendorUsages = map[string]struct {
	raw  string
	want catalog.Usage
}{
	"OpenAI": {`{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":192,"audio_tokens":0,"accepted_prediction_tokens":0}}`,
		catalog.Usage{Input: 86, CacheRead: 1920, Output: 108, Reasoning: 192}},
	"OpenAI, explicit zeros": {`{"prompt_tokens":10,"completion_tokens":0,"total_tokens":10,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}`,
		catalog.Usage{Input: 10}},
	"OpenAI, audio": {`{"prompt_tokens":60,"completion_tokens":90,"total_tokens":150,"prompt_tokens_details":{"text_tokens":10,"audio_tokens":50},"completion_tokens_details":{"text_tokens":20,"audio_tokens":70}}`,
		catalog.Usage{Input: 10, AudioInput: 50, Output: 20, AudioOutput: 70}},
	"OpenAI, images and writes": {`{"prompt_tokens":100,"completion_tokens":1,"total_tokens":101,"prompt_tokens_details":{"image_tokens":85,"cache_write_tokens":5}}`,
		catalog.Usage{Input: 10, ImageInput: 85, CacheWrite: 5, Output: 1}},
	"DeepSeek": {`{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":30}}`,
		catalog.Usage{Input: 36, CacheRead: 64, Output: 20, Reasoning: 30}},
	"Moonshot": {`{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"cached_tokens":60}`,
		catalog.Usage{Input: 40, CacheRead: 60, Output: 50}},
	"xAI leaves reasoning out": {`{"prompt_tokens":9,"completion_tokens":5,"total_tokens":17,"completion_tokens_details":{"reasoning_tokens":3}}`,
		catalog.Usage{Input: 9, Output: 5, Reasoning: 3}},
	"reasoning within": {`{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"completion_tokens_details":{"reasoning_tokens":3}}`,
		catalog.Usage{Input: 9, Output: 2, Reasoning: 3}},
	"Google does not name thoughts": {`{"prompt_tokens":12,"completion_tokens":40,"total_tokens":352}`,
		catalog.Usage{Input: 12, Output: 40, Reasoning: 300}},
	"Anthropic behind OpenAI's form": {`{"prompt_tokens":1000,"completion_tokens":10,"total_tokens":1010,"cache_read_input_tokens":600,"cache_creation_input_tokens":300,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200}}`,
		catalog.Usage{Input: 100, CacheRead: 600, CacheWrite: 100, CacheWrite1h: 200, Output: 10}},
	"a copy that leaves the cache out": {`{"prompt_tokens":100,"completion_tokens":10,"total_tokens":1010,"cache_read_input_tokens":600,"cache_creation_input_tokens":300}`,
		catalog.Usage{Input: 100, CacheRead: 600, CacheWrite: 300, Output: 10}},
	"OpenRouter": {`{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,"cost":0.5,"prompt_tokens_details":{"cached_tokens":40,"cache_write_tokens":20,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":4,"image_tokens":0}}`,
		catalog.Usage{Input: 40, CacheRead: 40, CacheWrite: 20, Output: 6, Reasoning: 4}},
	"Alibaba": {`{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,"prompt_tokens_details":{"cached_tokens":30,"cache_creation_input_tokens":50,"cache_type":"ephemeral"}}`,
		catalog.Usage{Input: 20, CacheRead: 30, CacheWrite: 50, Output: 10}},
	"Mistral, plain": {`{"prompt_tokens":5,"completion_tokens":6,"total_tokens":11}`, catalog.Usage{Input: 5, Output: 6}},
	"Groq": {`{"queue_time":0.1,"prompt_tokens":50,"prompt_time":0.001,"completion_tokens":20,"completion_time":0.1,"total_tokens":70,"total_time":0.2,"prompt_tokens_details":{"cached_tokens":32},"completion_tokens_details":null}`,
		catalog.Usage{Input: 18, CacheRead: 32, Output: 20}},
}

func TestUsageByVendor(t *testing.T) {
	for name, tt := range vendorUsages {
		u := ParseUsage([]byte(tt.raw))
		if got := u.Catalog(); !u.Known || got != tt.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
		if c := u.Catalog(); c.InputTokens() != u.Input || c.OutputTokens() != u.Output {
			t.Errorf("%s: %+v does not add up to %+v", name, c, u)
		}
	}
}

// FuzzUsage looks for counts that are negative, or that do not add up.
func FuzzUsage(f *testing.F) {
	for _, tt := range vendorUsages {
		f.Add([]byte(tt.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		u := ParseUsage(raw)
		if told := appendUsage(nil, raw, Final{Cost: &Cost{}}); u.Known && ParseUsage(told) != u {
			t.Errorf("%s is told as %s", raw, told)
		}
		c := u.Catalog()
		if c.InputTokens() != u.Input || c.OutputTokens() != u.Output {
			t.Errorf("%s: %+v does not add up to %+v", raw, c, u)
		}
		for _, n := range []int64{c.Input, c.CacheRead, c.CacheWrite, c.CacheWrite1h, c.AudioInput, c.ImageInput, c.Output, c.Reasoning, c.AudioOutput} {
			if n < 0 {
				t.Errorf("%s: %+v", raw, c)
			}
		}
	})
}
