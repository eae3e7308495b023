package trainer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// TestSlopes: in one task an answer is as long as its prompt, in the other it is always the same length. The forecast
// within a task must follow that, from the task's mean and its slopes alone; an arm without token counts has no slope.
func TestSlopes(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	table := datasets.NewTable([]catalog.ArmID{"sim/counted", "sim/uncounted"}, 600)
	for i := range table.Prompts {
		words := 5 + rng.IntN(200)
		p := datasets.Prompt{ID: fmt.Sprintf("p%d", i), Dataset: "copy", Text: "Repeat: " + strings.Repeat("lorem ", words)}
		tokens := float64(words)
		if i%2 == 0 {
			p.Dataset, p.Text, tokens = "judge", "True or false? "+strings.Repeat("ipsum ", words), 3
		}
		table.Prompts[i] = p
		table.Score[table.At(i, 0)], table.Score[table.At(i, 1)] = float32(rng.IntN(2)), float32(rng.IntN(2))
		table.Output[table.At(i, 0)] = float32(tokens)
	}
	m, _, err := Fit(context.Background(), table, FitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := classifier.New(m)
	if err != nil {
		t.Fatal(err)
	}
	var x features.Context
	var q classifier.Parts
	for _, words := range []int{10, 50, 150} {
		for text, want := range map[string]float64{"Repeat: " + strings.Repeat("lorem ", words): float64(words), "True or false? " + strings.Repeat("ipsum ", words): 3} {
			c.Extractor().Extract(&x, features.NewPrompt(text))
			c.Parts(&q, &x)
			if got := math.Exp(q.TokenTask[0]); math.Abs(math.Log(got/want)) > 0.25 {
				t.Errorf("%.20s… of %d words: got %.1f tokens, want about %.0f", text, words, got, want)
			}
		}
	}
	for at, w := range m.Tables.TokenSlope.Data {
		if at%2 == 1 && w != 0 {
			t.Fatalf("the arm without counts has the slope %v", w)
		}
	}
}
