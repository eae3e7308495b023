package datasets

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// The columns of an outcome table, in the order of tableColumns.
const (
	colPromptID = iota
	colDataset
	colSplit
	colPrompt
	colModel
	colScore
	colCost
	colInput
	colOutput
	colLatency
	numColumns
)

type columnKind uint8

const (
	kindString columnKind = iota
	kindDouble
	kindInt32
)

func (k columnKind) String() string { return [...]string{"string", "double", "int32"}[k] }

var tableColumns = [numColumns]struct {
	name     string
	kind     columnKind
	required bool
}{
	{"prompt_id", kindString, true},
	{"dataset", kindString, false},
	{"split", kindString, false},
	{"prompt", kindString, true},
	{"model", kindString, true},
	{"score", kindDouble, true},
	{"cost_usd", kindDouble, false},
	{"input_tokens", kindInt32, false},
	{"output_tokens", kindInt32, false},
	{"latency_ms", kindDouble, false},
}

// columnOf is the index of a column of the outcome table, or -1.
func columnOf(name string) int {
	for i, c := range tableColumns {
		if c.name == name {
			return i
		}
	}
	return -1
}

// number is a value that may be null. An int32 fits its float exactly.
type number struct {
	v  float64
	ok bool
}

// record is one row on its way into a table. Its strings may point into a reader's memory: they are good until the
// next row and must be cloned to be kept.
type record struct {
	text   [colModel + 1]string
	number [numColumns]number
}

// sink takes one record; where it refuses, it names the column and the problem.
type sink func(*record) (column, problem string)

// check finds the first thing wrong with a record.
func (r *record) check() (column, problem string) {
	for c := range r.text {
		limit := NameBytesMax
		if c == colPrompt {
			limit = PromptBytesMax
		}
		switch n := len(r.text[c]); {
		case n > limit:
			return tableColumns[c].name, fmt.Sprintf("%d bytes are more than %d", n, limit)
		case n == 0 && (c == colPromptID || c == colModel):
			return tableColumns[c].name, "it is empty"
		}
	}
	score := r.number[colScore]
	if !score.ok {
		return "score", "it is null"
	}
	if !(score.v >= 0 && score.v <= 1) {
		return "score", fmt.Sprintf("%v is not in [0,1]", score.v)
	}
	for c := colCost; c < numColumns; c++ {
		n := r.number[c]
		if !n.ok {
			continue
		}
		if !(n.v >= 0) || math.IsInf(n.v, 0) {
			return tableColumns[c].name, fmt.Sprintf("%v is not a number from 0 on", n.v)
		}
		if c == colCost && n.v > maxCostUSD {
			return "cost_usd", fmt.Sprintf("%v is more than %v", n.v, float64(maxCostUSD))
		}
	}
	return "", ""
}

// maxCostUSD is the most one call may cost. Below it a double still tells every nanodollar from the next.
const maxCostUSD = 1_000_000

// nanodollars is the record's cost, rounded half to even, or Unpriced.
func (r *record) nanodollars() catalog.Nanodollars {
	c := r.number[colCost]
	if !c.ok {
		return Unpriced
	}
	return catalog.Nanodollars(math.RoundToEven(c.v * 1e9))
}

// setText fills one column from a text file; an empty number is null.
func (r *record) setText(c int, s string) (problem string) {
	if tableColumns[c].kind == kindString {
		r.text[c] = s
		return ""
	}
	r.number[c] = number{}
	if s == "" {
		return ""
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Sprintf("%.40q is not a number", s)
	}
	if tableColumns[c].kind == kindInt32 && (v != math.Trunc(v) || math.Abs(v) > math.MaxInt32) {
		return fmt.Sprintf("%.40q is not an int32", s)
	}
	r.number[c] = number{v, true}
	return ""
}

// fromRow fills the record with a Row.
func (r *record) fromRow(row *Row) {
	r.text = [...]string{row.PromptID, row.Dataset, row.Split, row.Prompt, row.Model}
	r.number = [numColumns]number{}
	r.number[colScore] = number{row.Score, true}
	r.number[colCost], r.number[colLatency] = numberOf(row.CostUSD), numberOf(row.LatencyMS)
	r.number[colInput], r.number[colOutput] = numberOf(row.InputTokens), numberOf(row.OutputTokens)
}

func numberOf[T int32 | float64](p *T) number {
	if p == nil {
		return number{}
	}
	return number{float64(*p), true}
}

// row is the record as a Row; its strings are the record's own.
func (r *record) row() Row {
	out := Row{
		PromptID: r.text[colPromptID], Dataset: r.text[colDataset], Split: r.text[colSplit],
		Prompt: r.text[colPrompt], Model: r.text[colModel], Score: r.number[colScore].v,
	}
	if n := r.number[colCost]; n.ok {
		out.CostUSD = &n.v
	}
	if n := r.number[colLatency]; n.ok {
		out.LatencyMS = &n.v
	}
	if n := r.number[colInput]; n.ok {
		v := int32(n.v)
		out.InputTokens = &v
	}
	if n := r.number[colOutput]; n.ok {
		v := int32(n.v)
		out.OutputTokens = &v
	}
	return out
}

// validName reports whether a name can stand in JSON and on a screen unchanged.
func validName(s string) bool { return utf8.ValidString(s) }
