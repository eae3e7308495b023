package trainer

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// chatAPI is the pool of mmlu-pro that reference numbers exist for: its chat models and the three sold by API.
var chatAPI = []catalog.ArmID{
	"gemini-1.5-pro-002", "gemini-1.5-flash-002", "jamba-1.5-large", "Meta-Llama-3_1-70B-Instruct", "Meta-Llama-3_1-8B-Instruct",
	"mathstral-7B", "Qwen1.5-72B-Chat", "Qwen1.5-7B-Chat", "Mixtral-8x7B-Instruct-v0.1", "Phi-3-mini-4k-instruct",
	"c4ai-command-r-v01", "Mistral-7B-Instruct-v0.2", "Yi-6b-Chat",
}

// benchTable reads a public table from the folder that TRADEWIND_DATA names, or skips.
func benchTable(t *testing.T, name string, pool []catalog.ArmID) *datasets.Table {
	t.Helper()
	dir := os.Getenv("TRADEWIND_DATA")
	if dir == "" {
		t.Skip("TRADEWIND_DATA names no folder of outcome tables")
	}
	table, err := datasets.ReadTable(context.Background(), filepath.Join(dir, name, "train.parquet"), datasets.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if pool == nil {
		return table
	}
	for i := range table.Prompts {
		for j, a := range table.Arms {
			if !slices.Contains(pool, a) {
				table.Score[table.At(i, j)] = nan // an arm that was never scored is left out
			}
		}
	}
	table, _, err = usable(table, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Arms) != len(pool) {
		t.Fatalf("got %d arms of the pool, want %d", len(table.Arms), len(pool))
	}
	return table
}

// TestBenchTables cross-validates on public tables. Each figure may not fall below the best router without neighbours
// that was known when the recipe was made: AIQ where costs are known, else the mean score at λ = 0.
func TestBenchTables(t *testing.T) {
	for _, c := range []struct {
		name  string
		pool  []catalog.ArmID
		least float64
	}{{"api-mix", nil, 0.8595}, {"routerbench-subset", nil, 0.845}, {"mmlu-pro", chatAPI, 0.690}, {"uiuc-llmrouter", nil, 0.65}} {
		t.Run(c.name, func(t *testing.T) {
			table := benchTable(t, c.name, c.pool)
			begin := time.Now()
			p, err := CrossValidate(context.Background(), table, CrossValidateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begin)
			m, err := bench.NewMatrix(table, nil, p[0].Fold)
			if err != nil {
				t.Fatal(err)
			}
			aligned, err := m.Align(&p[0])
			if err != nil {
				t.Fatal(err)
			}
			trace, err := bench.NewTrace(m, aligned)
			if err != nil {
				t.Fatal(err)
			}
			curve, constants := trace.Curve(nil), m.Constants(nil)
			measures := bench.Measure(constants, curve)
			t.Logf("AIQ %.4f, own − zero router %+.4f, score at λ = 0 %.4f, best single arm %.4f, %v for 5 folds",
				measures.AIQ, measures.Gain, curve[0].Score, constants[bench.Best(constants)].Score, took.Round(time.Second))
			got := measures.AIQ
			if !m.Priced() {
				got = curve[0].Score
			}
			if got < c.least {
				t.Errorf("got %.4f, want at least %.4f", got, c.least)
			}
		})
	}
}
