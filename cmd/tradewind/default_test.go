package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
)

// tiered serves arms of three tiers that nobody has scored.
const tiered = `providers:
  - name: lab
    type: openai
    base_url: http://127.0.0.1:1/v1
    api_key: sk-lab-0123456789
    allow_private: true
    models:
      - {name: little, tier: small, context_tokens: 100000, input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.4}
      - {name: middle, tier: medium, context_tokens: 100000, input_usd_per_mtok: 0.5, output_usd_per_mtok: 2}
      - {name: best, tier: frontier, context_tokens: 100000, input_usd_per_mtok: 3, output_usd_per_mtok: 15}
`

// TestFreshInstall: with keys and nothing trained, easy prompts go to cheaper arms where cost counts, hard ones and quality
// to the best tier, and the decision says that nothing is certified.
func TestFreshInstall(t *testing.T) {
	s := start(t, nil, "--config", write(t, "config.yaml", tiered))
	contains(t, "the start-up text", s.stdout.String(), "no router is trained yet", "certifies nothing", "fallback lab/best")
	easy := "Tom has 3 apples and buys 4 more. How many apples does he have?"
	hard := "Let f be a continuous function on [0,1] with f(0)=f(1). Determine all real c such that there is x with f(x)=f(x+c)."
	complexity := map[string]float64{}
	for _, c := range []struct {
		strategy, prompt string
		want             catalog.ArmID
	}{
		{"cost", easy, "lab/middle"}, {"balanced", easy, "lab/middle"}, {"quality", easy, "lab/best"},
		{"cost", hard, "lab/best"}, {"balanced", hard, "lab/best"}, {"quality", hard, "lab/best"},
	} {
		var e serving.Explanation
		s.call("POST", "/v1/route", "", ask("auto:"+c.strategy, c.prompt, `,"tradewind":{"explore":false}`)).want(t, 200, &e)
		if e.Action != c.want || e.Certified {
			t.Errorf("%s, %q: %s, certified %v; want %s and nothing certified", c.strategy, c.prompt, e.Action, e.Certified, c.want)
		}
		contains(t, "the sentence", e.Sentence, string(c.want), "nothing is certified")
		for _, a := range e.Candidates {
			if !a.Prior || a.QualityLower >= a.Quality-0.1 {
				t.Errorf("%s is shown as if it had been measured: %+v", a.Model, a)
			}
		}
		complexity[c.prompt] = e.Complexity
	}
	if !(complexity[easy] < complexity[hard]) {
		t.Errorf("complexity %v of the easy prompt, %v of the hard one", complexity[easy], complexity[hard])
	}
	// A floor that no expectation clears, for want of proof, leaves the fallback.
	var e serving.Explanation
	s.call("POST", "/v1/route", "", ask("auto:cost", easy, `,"tradewind":{"quality_floor":0.9,"explore":false}`)).want(t, 200, &e)
	i := slices.IndexFunc(e.Candidates, func(c serving.Candidate) bool { return c.Model == "lab/middle" })
	if e.Action != "lab/best" || e.Candidates[i].Filter != policy.QualityFloor {
		t.Errorf("under a floor of 0.9 %s serves and lab/middle is %q", e.Action, e.Candidates[i].Filter)
	}
}

// defaultBytesMax is what the program may carry of a router.
const defaultBytesMax = 8 << 20

// TestDefaultArtifact: the program says what its own router was made of, and by whose leave.
func TestDefaultArtifact(t *testing.T) {
	contains(t, "models show default", run(t, "models", "show", "default"),
		"arms      4: tier/small, tier/medium, tier/large, tier/frontier", "mmlu-pro.parquet, SHA-256 6059615f", "uiuc-llmrouter.parquet, SHA-256 4f6e234d",
		"api-mix.parquet, SHA-256 a2c897aa", "cruxeval_o, gsm8k_test, math_level5", "notice    MMLU-Pro", "notice    LLMRouter", "notice    ZeroEval",
		"Apache-2.0", "MIT", "novelty   no reference", "made by   tradewind train --data '[amu]*.parquet'")
	contains(t, "models verify default", run(t, "models", "verify", "default"), "golden rows replay")
	var shown struct{ Manifest models.Manifest }
	if err := json.Unmarshal([]byte(run(t, "models", "show", "--json", "default")), &shown); err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, s := range shown.Manifest.Sections {
		total += s.Bytes
	}
	if total == 0 || total > defaultBytesMax {
		t.Errorf("the default router has %d bytes, want at most %d", total, defaultBytesMax)
	}
	for _, s := range shown.Manifest.Provenance.Sources {
		if s.Filter == "" || len(s.Files) != 3 {
			t.Errorf("source %+v, want three files and the filter", s)
		}
	}
}

// TestTierRouter: a router of tiers is trained on arms of known tiers and judges arms that it never saw.
func TestTierRouter(t *testing.T) {
	table, _ := shared(t)
	dir := filepath.Join(t.TempDir(), "tiers")
	text := run(t, "train", "--data", table, "--tiers", "sim/cheap=small;sim/strong=frontier;*=medium", "--notice", "of our own making, free", "--out", dir)
	contains(t, "train", text, "tier/frontier", "No verdict", "an expectation")
	contains(t, "show", run(t, "models", "show", dir), "novelty   no reference", "notice    of our own making, free", "--tiers 'sim/cheap=small;sim/strong=frontier;*=medium'")
	contains(t, "eval", run(t, "eval", "--artifact", dir, "--data", unseen(t), "--resamples", "20", "--draws", "20"), "own − zero", "sim/strong")
	for _, flag := range []string{"*=best", "[=small"} {
		if _, stderr, code := command(t, nil, "", "train", "--data", table, "--tiers", flag, "--out", dir+"2"); code != 1 {
			t.Errorf("--tiers %s: exit code %d: %s", flag, code, stderr)
		}
	}
}
