package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// PredictionLineMax is the longest line of prediction rows that is read, in bytes.
const PredictionLineMax = 64 << 10

// PredictionRow is what a router predicts of one arm on one prompt, as anyone may recompute a report from. A nil pointer
// is unknown.
type PredictionRow struct {
	PromptID string   `json:"prompt_id" parquet:"prompt_id,dict"`
	Model    string   `json:"model" parquet:"model,dict"`
	Quality  *float64 `json:"quality,omitempty" parquet:"quality,optional"`
	CostUSD  *float64 `json:"cost_usd,omitempty" parquet:"cost_usd,optional"`
	// Score is what decisions compare, where it is not Quality itself.
	Score        *float64 `json:"score,omitempty" parquet:"score,optional"`
	OutputTokens *float64 `json:"output_tokens,omitempty" parquet:"output_tokens,optional"`
	// Fold is the fold that the prompt was held out in.
	Fold *int32 `json:"fold,omitempty" parquet:"fold,optional"`
}

// Format is a file format of prediction rows.
type Format string

// The formats: one JSON object a line, or Parquet.
const (
	JSONL   Format = "jsonl"
	Parquet Format = "parquet"
)

// WritePredictions writes one row for every prompt of the table and arm that was predicted for it.
func WritePredictions(w io.Writer, f Format, t *datasets.Table, p *Predictions) error {
	if err := p.Validate(len(t.Prompts)); err != nil {
		return err
	}
	var write func([]PredictionRow) error
	var closer func() error
	switch f {
	case JSONL:
		buf := bufio.NewWriter(w)
		enc := json.NewEncoder(buf)
		write = func(rows []PredictionRow) error {
			for i := range rows {
				if err := enc.Encode(&rows[i]); err != nil {
					return err
				}
			}
			return nil
		}
		closer = buf.Flush
	case Parquet:
		pw := parquet.NewGenericWriter[PredictionRow](w, parquet.Compression(&parquet.Zstd))
		write = func(rows []PredictionRow) error { _, err := pw.Write(rows); return err }
		closer = pw.Close
	default:
		return fmt.Errorf("bench: unknown format %q of prediction rows", f)
	}
	for i := range t.Prompts {
		if err := write(p.rows(t.Prompts[i].ID, i)); err != nil {
			return fmt.Errorf("bench: writing predictions: %w", err)
		}
	}
	if err := closer(); err != nil {
		return fmt.Errorf("bench: writing predictions: %w", err)
	}
	return nil
}

// rows are the rows of one prompt. An arm that was not predicted for it has none.
func (p *Predictions) rows(id string, i int) []PredictionRow {
	known := func(cells []float64, at int) *float64 {
		if cells == nil || math.IsNaN(cells[at]) {
			return nil
		}
		v := cells[at]
		return &v
	}
	out := make([]PredictionRow, 0, len(p.Arms))
	for j, arm := range p.Arms {
		at := i*len(p.Arms) + j
		row := PredictionRow{
			PromptID: id, Model: string(arm), Quality: known(p.Quality, at), CostUSD: known(p.CostUSD, at),
			Score: known(p.Score, at), OutputTokens: known(p.Tokens, at),
		}
		if row.Score == nil && row.Quality == nil {
			continue
		}
		if p.Fold != nil {
			fold := int32(p.Fold[i])
			row.Fold = &fold
		}
		out = append(out, row)
	}
	return out
}

// ReadPredictions reads rows as WritePredictions writes them in JSONL, for the prompts and arms of t. Rows may come in
// any order and need not be complete: a cell without a row is NaN. It is an error to name an unknown prompt or arm, to
// give a cell twice, or to give a prompt two folds.
func ReadPredictions(r io.Reader, t *datasets.Table, name string) (*Predictions, error) {
	in := newRowReader(t, name)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, PredictionLineMax)
	n := 0
	for lines.Scan() {
		n++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var row PredictionRow
		dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&row); err != nil {
			return nil, fmt.Errorf("bench: predictions line %d: %w", n, err)
		}
		if dec.More() {
			return nil, fmt.Errorf("bench: predictions line %d: more than one object", n)
		}
		if err := in.add(&row); err != nil {
			return nil, fmt.Errorf("bench: predictions line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("bench: predictions line %d (lines may have %d bytes): %w", n+1, PredictionLineMax, err)
	}
	return in.finish()
}

// rowReader collects rows into a table of all arms of t.
type rowReader struct {
	p       *Predictions
	prompt  map[string]int
	arm     map[string]int
	seen    []bool
	used    []bool
	folded  int
	hasCost bool
	hasTok  bool
	hasQual bool
}

func newRowReader(t *datasets.Table, name string) *rowReader {
	in := &rowReader{
		p: NewPredictions(name, t.Arms, len(t.Prompts)), prompt: make(map[string]int, len(t.Prompts)),
		arm: make(map[string]int, len(t.Arms)), seen: make([]bool, len(t.Prompts)*len(t.Arms)), used: make([]bool, len(t.Arms)),
	}
	for i := range t.Prompts {
		in.prompt[t.Prompts[i].ID] = i
	}
	for j, a := range t.Arms {
		in.arm[string(a)] = j
	}
	for _, cells := range [][]float64{in.p.Score, in.p.Quality, in.p.CostUSD, in.p.Tokens} {
		for k := range cells {
			cells[k] = math.NaN()
		}
	}
	in.p.Fold = make([]int, len(t.Prompts))
	for i := range in.p.Fold {
		in.p.Fold[i] = -1
	}
	return in
}

func (in *rowReader) add(row *PredictionRow) error {
	i, ok := in.prompt[row.PromptID]
	if !ok {
		return fmt.Errorf("prompt %q is not in the table", clip(row.PromptID))
	}
	j, ok := in.arm[row.Model]
	if !ok {
		return fmt.Errorf("model %q is not in the table", clip(row.Model))
	}
	at := i*len(in.p.Arms) + j
	if in.seen[at] {
		return fmt.Errorf("prompt %q has two rows for model %q", clip(row.PromptID), clip(row.Model))
	}
	if row.Quality == nil && row.Score == nil {
		return errors.New("a row needs a quality or a score")
	}
	if q := row.Quality; q != nil && (*q < 0 || *q > 1) {
		return fmt.Errorf("quality %v is not in [0,1]", *q)
	}
	if c := row.CostUSD; c != nil && *c < 0 {
		return fmt.Errorf("cost_usd %v is negative", *c)
	}
	if n := row.OutputTokens; n != nil && *n < 0 {
		return fmt.Errorf("output_tokens %v is negative", *n)
	}
	in.seen[at], in.used[j] = true, true
	set := func(cells []float64, v *float64, has *bool) {
		if v != nil {
			cells[at], *has = *v, true
		}
	}
	set(in.p.Quality, row.Quality, &in.hasQual)
	set(in.p.CostUSD, row.CostUSD, &in.hasCost)
	set(in.p.Tokens, row.OutputTokens, &in.hasTok)
	var any bool
	set(in.p.Score, row.Quality, &any)
	set(in.p.Score, row.Score, &any)
	return in.fold(i, row)
}

func (in *rowReader) fold(i int, row *PredictionRow) error {
	if row.Fold == nil {
		return nil
	}
	f := int(*row.Fold)
	if f < 0 || f >= len(in.p.Fold) {
		return fmt.Errorf("fold %d is out of range", f)
	}
	if was := in.p.Fold[i]; was >= 0 && was != f {
		return fmt.Errorf("prompt %q is in folds %d and %d", clip(row.PromptID), was, f)
	}
	if in.p.Fold[i] < 0 {
		in.folded++
	}
	in.p.Fold[i] = f
	return nil
}

// finish drops what no row gave.
func (in *rowReader) finish() (*Predictions, error) {
	p := in.p
	switch in.folded {
	case 0:
		p.Fold = nil
	case len(p.Fold):
	default:
		return nil, fmt.Errorf("bench: predictions give a fold for %d of %d prompts: give all or none", in.folded, len(p.Fold))
	}
	for _, o := range []struct {
		cells *[]float64
		has   bool
	}{{&p.Quality, in.hasQual}, {&p.CostUSD, in.hasCost}, {&p.Tokens, in.hasTok}} {
		if !o.has {
			*o.cells = nil
		}
	}
	return p.columns(in.used)
}

// columns keeps the arms that are used.
func (p *Predictions) columns(used []bool) (*Predictions, error) {
	var arms []catalog.ArmID
	for j, a := range p.Arms {
		if used[j] {
			arms = append(arms, a)
		}
	}
	if arms == nil {
		return nil, errors.New("bench: predictions hold no rows")
	}
	for _, cells := range []*[]float64{&p.Score, &p.Quality, &p.CostUSD, &p.Tokens} {
		kept := (*cells)[:0]
		for at, v := range *cells {
			if used[at%len(p.Arms)] {
				kept = append(kept, v)
			}
		}
		if *cells != nil {
			*cells = kept
		}
	}
	p.Arms = arms
	return p, nil
}

// clip keeps error messages short, whatever the input holds.
func clip(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
