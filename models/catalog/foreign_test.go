package catalog

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two lists in the public forms; their facts are made up.
const (
	facts = `[
{"provider":"p","id":"big","mode":"chat","input_usd_per_mtok":3,"output_usd_per_mtok":15,"cache_read_usd_per_mtok":0.3,"cache_write_usd_per_mtok":3.75,
 "cache_write_1h_usd_per_mtok":6,"audio_input_usd_per_mtok":null,"audio_output_usd_per_mtok":null,
 "tiers":[{"above_input_tokens":200000,"input_usd_per_mtok":6,"output_usd_per_mtok":22.5,"cache_read_usd_per_mtok":0.6}],
 "price_schedule":[{"from":"2027-01-01","input_usd_per_mtok":2e0,"output_usd_per_mtok":10}],
 "context_tokens":1000000,"max_input_tokens":null,"max_output_tokens":64000,
 "supports":{"vision":true,"tools":true,"json_schema":null,"reasoning":true,"prompt_caching":true,"audio_in":false,"pdf":true},
 "base_model":"p/big","open_weights":false,"release_date":"2026-02","deprecated":false,"deprecated_on":"2027-06-30","as_of":"2026-07-01",
 "sources":["a","b"],"disputed":{"input_usd_per_mtok":{"a":3,"b":"2.5"},"tiers":{"a":"none"}}},
{"provider":"p","id":"ear","mode":"audio_transcription"},
{"provider":"p","id":"unpriced","mode":"chat","supports":{}}]`
	priceMap = `{
"sample_spec":{"mode":"one of: chat","max_input_tokens":"the most"},
"gemini/g-pro":{"litellm_provider":"gemini","mode":"chat","input_cost_per_token":1.25e-06,"output_cost_per_token":1e-05,"cache_read_input_token_cost":1.25e-07,
 "input_cost_per_token_above_200k_tokens":2.5e-06,"output_cost_per_token_above_200k_tokens":1.5e-05,"input_cost_per_audio_token":7e-07,
 "max_input_tokens":1048576,"max_output_tokens":65535,"supports_function_calling":true,"supports_vision":true,"supports_pdf_input":false},
"claude-x":{"litellm_provider":"anthropic","mode":"chat","input_cost_per_token":3e-06,"output_cost_per_token":1.5e-05,"cache_creation_input_token_cost":3.75e-06,
 "cache_creation_input_token_cost_above_1hr":6e-06,"cache_read_input_token_cost":3e-07,"supports_response_schema":true,"deprecation_date":"2026-10-01"},
"deepseek/d":{"litellm_provider":"deepseek","mode":"chat","input_cost_per_token":2.8e-07,"input_cost_per_token_cache_hit":2.8e-08,"output_cost_per_token":4.2e-07},
"groq/free":{"litellm_provider":"groq","mode":"chat","input_cost_per_token":0,"output_cost_per_token":0},
"sonar":{"litellm_provider":"perplexity","mode":"chat","input_cost_per_token":1e-06,"output_cost_per_token":1e-06,"input_cost_per_request":0.005,"output_cost_per_reasoning_token":3e-06},
"text-embedding-3":{"litellm_provider":"openai","mode":"embedding","input_cost_per_token":2e-08,"output_cost_per_token":0,"max_output_tokens":1536},
"openai/two-steps":{"litellm_provider":"openai","mode":"chat","input_cost_per_token":1e-06,"output_cost_per_token":2e-06,"cache_read_input_token_cost":1e-07,
 "input_cost_per_token_above_128k_tokens":3e-06,"cache_read_input_token_cost_above_128k_tokens":3e-07,"output_cost_per_token_above_256k_tokens":5e-06},
"half":{"litellm_provider":"openai","mode":"chat","input_cost_per_token":1e-06}}`
)

func TestReadFacts(t *testing.T) {
	c, skipped, err := Read(strings.NewReader(facts))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Skipped{{"p/ear", "is for audio_transcription, not chat or embeddings"}}; !slices.Equal(skipped, want) {
		t.Errorf("skipped %v, want %v", skipped, want)
	}
	a, _ := c.Lookup("p/big")
	want := Prices{Known: true, Rates: Rates{
		Input: 3_000_000, CacheRead: 300_000, CacheWrite: 3_750_000, CacheWrite1h: 6_000_000, AudioInput: 3_000_000, ImageInput: 3_000_000,
		Output: 15_000_000, Reasoning: 15_000_000, AudioOutput: 15_000_000, Guessed: KindAudioInput | KindAudioOutput,
	}}
	step := Flat(6_000_000, 22_500_000).Rates
	step.CacheRead, step.Guessed = 600_000, step.Guessed&^KindCacheRead
	want.Steps[0] = Step{200_000, step}
	if a.Prices != want {
		t.Errorf("prices %+v\nwant   %+v", a.Prices, want)
	}
	v := c.Evidence("p/big")
	if a.Capabilities != Vision|Tools|Reasoning|PDF || v.Cannot != AudioInput || a.ContextTokens != 1_000_000 || a.MaxInputTokens != 0 {
		t.Errorf("%+v, cannot %s: what is null must be unknown", a, v.Cannot)
	}
	if v.Released != "2026-02" || v.Ends != "2027-06-30" || !a.Disputed || v.Disputed["input"]["b"] != "2.5" || v.Disputed["tiers"]["a"] != "none" {
		t.Errorf("evidence %+v", v)
	}
	if u, _ := c.Lookup("p/unpriced"); u.Prices.Known || u.Capabilities != 0 || c.Evidence("p/unpriced").Cannot != 0 {
		t.Errorf("%+v", u)
	}
	comesBack(t, c)
}

// Pain 26 (BerriAI/litellm PR#33796): a dated change is in force from its day on, and an end takes an arm out.
func TestOn(t *testing.T) {
	c, _, err := Read(strings.NewReader(facts))
	if err != nil {
		t.Fatal(err)
	}
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, tt := range []struct {
		at         time.Time
		input      Picodollars
		deprecated bool
		next       string
	}{
		{day("2026-12-31").Add(24*time.Hour - time.Nanosecond), 3_000_000, false, "2027-01-01"},
		{day("2027-01-01"), 2_000_000, false, "2027-06-30"},
		{day("2027-01-01").In(time.FixedZone("west", -8*3600)), 2_000_000, false, "2027-06-30"},
		{day("2027-06-30"), 2_000_000, true, ""},
	} {
		on, next := c.On(tt.at), c.NextChange(tt.at, c.Arms())
		a, _ := on.Lookup("p/big")
		if a.Prices.Input != tt.input || a.Deprecated != tt.deprecated || (next.IsZero() != (tt.next == "")) || !next.IsZero() && next != day(tt.next) {
			t.Errorf("on %s: input %d, deprecated %v, next %s; want %+v", tt.at, a.Prices.Input, a.Deprecated, next, tt)
		}
		if again := on.On(tt.at); again.Version() != on.Version() {
			t.Errorf("on %s: asking twice changes the catalog", tt.at)
		}
	}
}

func TestReadPriceMap(t *testing.T) {
	c, skipped, err := Read(strings.NewReader(priceMap))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, s := range skipped {
		left = append(left, s.ID)
	}
	if want := []string{"half", "sample_spec"}; !slices.Equal(left, want) {
		t.Errorf("skipped %v, want %v", skipped, want)
	}
	for _, tt := range []struct {
		id   ArmID
		u    Usage
		want Nanodollars
	}{
		{"google/g-pro", Usage{Input: 100, CacheRead: 100, AudioInput: 100, Output: 10}, 125_000 + 12_500 + 70_000 + 100_000},
		{"google/g-pro", Usage{Input: 200_001}, 200_001 * 2500},
		{"openai/two-steps", Usage{Input: 128_000, Output: 1}, 128_000*1000 + 2000},
		{"openai/two-steps", Usage{Input: 128_001, Output: 1}, 128_001*3000 + 2000},
		{"openai/two-steps", Usage{Input: 256_001, CacheRead: 10, Output: 1}, 256_001*3000 + 10*300 + 5000},
		{"anthropic/claude-x", Usage{CacheWrite: 100, CacheWrite1h: 100}, 375_000 + 600_000},
		{"deepseek/d", Usage{CacheRead: 1000}, 28_000},
		{"perplexity/sonar", Usage{Input: 1, Reasoning: 1}, 1000 + 3000 + 5_000_000},
	} {
		a, ok := c.Lookup(tt.id)
		if !ok {
			t.Errorf("%s is not there", tt.id)
			continue
		}
		if got, err := a.Prices.Cost(tt.u); err != nil || got != tt.want || a.Prices.Guesses(tt.u) {
			t.Errorf("%s: %+v costs %s, %v, guessed %v; want %s", tt.id, tt.u, got, err, a.Prices.Guesses(tt.u), tt.want)
		}
	}
	if a, _ := c.Lookup("openai/text-embedding-3"); a.Mode != ModeEmbedding || a.MaxOutputTokens != 0 {
		t.Errorf("%+v", a)
	}
	if a, _ := c.Lookup("groq/free"); a.Prices.Known {
		t.Error("a price of 0 in a public map counts as a price")
	}
	if a, _ := c.Lookup("google/g-pro"); a.Capabilities != Tools|Vision || c.Evidence(a.ID).Cannot != PDF || a.ContextTokens != 1_048_576 {
		t.Errorf("%+v", a)
	}
	if a, _ := c.On(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)).Lookup("anthropic/claude-x"); !a.Deprecated {
		t.Error("what has ended is still served")
	}
	comesBack(t, c)
}

func TestReadRefuses(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{``, "not JSON"}, {`{}`, "neither"}, {`{"a":{"mode":"chat"}}`, "neither"}, {`[1]`, "entry 1"},
		{`[{"provider":"p","id":"m","mode":"chat","prize":1}]`, "prize"},
		{`[{"provider":"p","id":"m","mode":"chat","input_usd_per_mtok":0,"output_usd_per_mtok":0}]`, `"free":true`},
		{`[{"provider":"p","id":"m","mode":"chat"},{"provider":"p","id":"m","mode":"chat"}]`, "twice"},
		{`[` + strings.Repeat("{},", ArmsMax) + `{}]`, "at most"},
	} {
		if _, _, err := Read(strings.NewReader(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60s: %v, want an error with %q", tt.file, err, tt.want)
		}
	}
	if c, _, err := Read(strings.NewReader(`[{"provider":"p","id":"m","mode":"chat","input_usd_per_mtok":0,"output_usd_per_mtok":0,"free":true}]`)); err != nil || !c.Arms()[0].Prices.Known {
		t.Errorf("a free arm: %v", err)
	}
}

// A public list itself, where somebody has one: catalog/prices.json in the folder of tables.
func TestReadPublicFacts(t *testing.T) {
	dir := os.Getenv("TRADEWIND_DATA")
	if dir == "" {
		t.Skip("skipped: needs the public lists: set TRADEWIND_DATA to a folder with catalog/prices.json")
	}
	f, err := os.Open(filepath.Join(dir, "catalog", "prices.json"))
	if err != nil {
		t.Skip("skipped: needs the public lists: ", err)
	}
	defer f.Close()
	c, skipped, err := Read(f)
	if err != nil || len(c.Arms()) < 250 || len(skipped) == 0 {
		t.Fatalf("%v", err)
	}
	comesBack(t, c)
}
