package classifier

import (
	"fmt"
	"math"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/features"
)

// goldenTolerance is the largest difference that a golden row may show, relative to values above 1.
const goldenTolerance = 1e-12

// Golden is one row that an artifact must reproduce before it serves: a prompt and what was estimated for it when it
// was trained. The prompt is Text where it may be shown, else its features alone.
type Golden struct {
	Text string `json:"text,omitempty"`
	// Features are the compact form of the prompt's features.Context; with Text they must be what Text yields.
	Features []byte           `json:"features"`
	Want     policy.Estimates `json:"want"`
}

// probes are prompts of our own that every artifact carries, so that a change of the text's path is seen too.
var probes = [...]string{
	"What is 17 * 24? Answer with the number only.",
	"Write a Go function that reverses a linked list, and explain its running time.\n\n```go\ntype Node struct {\n\tNext *Node\n}\n```",
	"Übersetze ins Englische: „Der Wind dreht am Nachmittag auf Südwest.“",
	"Which of these is a prime number?\n(A) 21\n(B) 27\n(C) 31\n(D) 39",
	`Extract the city as JSON {"type": "string"}: Ann moved from Oslo to Lima in May.`,
	"Let $f(x) = \\frac{x^2}{2}$. Prove that $f$ is convex.",
	"hi",
	"請用一句話解釋潮汐。",
}

// NewGolden makes golden rows of our own probes and of the given contexts.
func (c *Classifier) NewGolden(contexts []features.Context) []Golden {
	var rows []Golden
	add := func(text string, x *features.Context) {
		g := Golden{Text: text, Features: x.AppendBinary(nil)}
		var kept features.Context
		if kept.Parse(g.Features) != nil { // only finite flags and sorted counts come out of Extract
			return
		}
		c.Estimate(&g.Want, &kept)
		rows = append(rows, g)
	}
	var x features.Context
	for _, text := range probes {
		c.extractor.Extract(&x, features.NewPrompt(text))
		add(text, &x)
	}
	for i := range contexts {
		add("", &contexts[i])
	}
	return rows
}

// Replay estimates the golden rows again and reports the first difference.
func (c *Classifier) Replay() error {
	if len(c.model.Golden) == 0 {
		return fmt.Errorf("%w: it has no golden rows", ErrInvalid)
	}
	for i := range c.model.Golden {
		g := &c.model.Golden[i]
		var x features.Context
		if err := x.Parse(g.Features); err != nil {
			return fmt.Errorf("%w: golden row %d: %w", ErrInvalid, i, err)
		}
		if g.Text != "" {
			var again features.Context
			c.extractor.Extract(&again, features.NewPrompt(g.Text))
			if string(again.AppendBinary(nil)) != string(g.Features) {
				return fmt.Errorf("%w: golden row %d: its text now has other features", ErrInvalid, i)
			}
		}
		var got policy.Estimates
		c.Estimate(&got, &x)
		if err := compare(&got, &g.Want); err != nil {
			return fmt.Errorf("%w: golden row %d: %w", ErrInvalid, i, err)
		}
	}
	return nil
}

func compare(got, want *policy.Estimates) error {
	for _, p := range []struct {
		name      string
		got, want []float64
	}{
		{"quality", got.Quality, want.Quality}, {"its error", got.QualityErr, want.QualityErr},
		{"score", got.Score, want.Score}, {"score under shift", got.Shifted, want.Shifted}, {"gap", got.Gap, want.Gap}, {"its error", got.GapErr, want.GapErr},
		{"output tokens", got.OutputTokens, want.OutputTokens}, {"their 0.9 quantile", got.OutputTokens90, want.OutputTokens90},
		{"complexity", []float64{got.Complexity}, []float64{want.Complexity}}, {"novelty", []float64{got.Novelty}, []float64{want.Novelty}},
	} {
		if len(p.got) != len(p.want) {
			return fmt.Errorf("%d estimates of %s, want %d", len(p.got), p.name, len(p.want))
		}
		for j, w := range p.want {
			if !(math.Abs(p.got[j]-w) <= goldenTolerance*max(1, math.Abs(w))) {
				return fmt.Errorf("%s of arm %d is %v, want %v", p.name, j, p.got[j], w)
			}
		}
	}
	return nil
}
