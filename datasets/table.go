// Package datasets is the log and every other table that a router learns from: decisions, outcomes and rounds, the
// outcome tables of benchmarks, their Parquet parts and the manifest that vouches for them.
//
// It reads and writes rows and never judges them: what a good answer is stands in datasets/reward, what a fit is in
// trainer.
package datasets

import (
	"math"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Row is one row of an outcome table: what one arm made of one prompt. A nil pointer is unknown, never zero.
type Row struct {
	PromptID     string   `parquet:"prompt_id,dict"`
	Dataset      string   `parquet:"dataset,dict"`
	Split        string   `parquet:"split,dict"`
	Prompt       string   `parquet:"prompt,dict"`
	Model        string   `parquet:"model,dict"`
	Score        float64  `parquet:"score"`
	CostUSD      *float64 `parquet:"cost_usd,optional"`
	InputTokens  *int32   `parquet:"input_tokens,optional"`
	OutputTokens *int32   `parquet:"output_tokens,optional"`
	LatencyMS    *float64 `parquet:"latency_ms,optional"`
}

// Prompt is one prompt of a table, with everything that its arms have in common.
type Prompt struct {
	ID      string
	Dataset string
	Split   string
	Text    string
	// Group names what must not be split between folds, such as the draw of a sticky session; empty is the prompt alone.
	Group string
	// Features are the compact form of the features.Context that was extracted when the prompt was served, of the Spec
	// that this program implements; empty where only Text is known. They see the whole request, which Text does not.
	Features string
}

// SourceFile is one of the files that a table was read from.
type SourceFile struct {
	Name   string
	SHA256 string
}

// Unpriced is the cost of a cell whose cost nobody knows.
const Unpriced = catalog.Nanodollars(math.MinInt64)

// Table is an outcome table in memory, one cell a (prompt, arm). Cells are stored row by row: cell(i, j) is at
// i·len(Arms)+j. What was not observed is NaN (Score, Input, Output, Latency) or Unpriced (Cost).
type Table struct {
	// Name is for people: the file's name or "simulated".
	Name string
	// SHA256 is the digest of the file that the table was read from, in hex; empty where there is none.
	SHA256 string
	// Files are those that it was read from, where they are several.
	Files []SourceFile
	// SampledFrom is what the file held where the table is a sample of it (see ReadOptions), else nil.
	SampledFrom *Origin
	Arms        []catalog.ArmID
	Prompts     []Prompt
	Score       []float32
	Cost        []catalog.Nanodollars
	Input       []float32
	Output      []float32
	Latency     []float32
}

// At is the index of the cell of prompt i and arm j.
func (t *Table) At(i, j int) int { return i*len(t.Arms) + j }

// Observed reports whether arm j was scored on prompt i.
func (t *Table) Observed(i, j int) bool {
	s := t.Score[t.At(i, j)]
	return s == s
}

// Subset is the table of the given prompts, in their order; cells are copied.
func (t *Table) Subset(prompts []int) *Table {
	m := len(t.Arms)
	out := NewTable(t.Arms, len(prompts))
	out.Name, out.SHA256 = t.Name, t.SHA256
	for k, i := range prompts {
		out.Prompts[k] = t.Prompts[i]
		copy(out.Score[k*m:], t.Score[i*m:(i+1)*m])
		copy(out.Cost[k*m:], t.Cost[i*m:(i+1)*m])
		copy(out.Input[k*m:], t.Input[i*m:(i+1)*m])
		copy(out.Output[k*m:], t.Output[i*m:(i+1)*m])
		copy(out.Latency[k*m:], t.Latency[i*m:(i+1)*m])
	}
	return out
}

// NewTable makes a table of n empty prompts in which nothing is observed.
func NewTable(arms []catalog.ArmID, n int) *Table {
	t := &Table{Arms: arms, Prompts: make([]Prompt, n)}
	t.grow(n)
	return t
}

// grow lays out the cells of n prompts, none observed.
func (t *Table) grow(n int) {
	cells := n * len(t.Arms)
	t.Cost = make([]catalog.Nanodollars, cells)
	t.Score, t.Input = make([]float32, cells), make([]float32, cells)
	t.Output, t.Latency = make([]float32, cells), make([]float32, cells)
	nan := float32(math.NaN())
	for k := range cells {
		t.Score[k], t.Input[k], t.Output[k], t.Latency[k], t.Cost[k] = nan, nan, nan, nan, Unpriced
	}
}
