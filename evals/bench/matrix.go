package bench

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// ErrSparse says that a table has no prompt on which every arm was scored, so that nothing can be compared on it.
var ErrSparse = errors.New("bench: no prompt was scored for every arm")

// pricedShareMin is the share of fully scored prompts that must have all their costs known for costs to be used at all.
const pricedShareMin = 0.5

// Left counts what a full-information evaluation had to leave out of a table.
type Left struct {
	// Prompts is the size of the table, Unscored the prompts on which an arm was not scored, Unpriced the fully scored
	// prompts that were left out because a cost is unknown.
	Prompts  int `json:"prompts"`
	Unscored int `json:"unscored"`
	Unpriced int `json:"unpriced"`
	// UnknownCosts counts the cells of fully scored prompts whose cost nobody knows, Cells all of them.
	UnknownCosts int `json:"unknown_costs"`
	Cells        int `json:"cells"`
}

// Matrix is a full-information table: every arm was scored on every prompt, and every cost is known or none is used.
// Cells are row-major, (i, j) at i·len(Arms)+j.
type Matrix struct {
	Arms []catalog.ArmID
	// IDs and Tasks name the prompts; Bytes are the lengths of their texts; Rows are their places in the source table.
	IDs   []string
	Tasks []string
	Bytes []int
	Rows  []int
	// Score is in [0,1]. Cost is in dollars, nil where costs are unknown. Tokens are the actual output tokens, NaN where
	// unknown.
	Score  []float64
	Cost   []float64
	Tokens []float64
	Left   Left
	// Fold is the fold of each prompt and Folds their number: training rows of a prompt are those of the other folds.
	Fold  []int
	Folds int
}

// NewMatrix takes from t the given arms (all where arms is nil) and the prompts on which all of them were scored. fold
// is the fold of each prompt of t; folds without a prompt left are dropped and the others renumbered.
func NewMatrix(t *datasets.Table, arms []catalog.ArmID, fold []int) (*Matrix, error) {
	if arms == nil {
		arms = t.Arms
	}
	cols := make([]int, len(arms))
	for j, a := range arms {
		if cols[j] = slices.Index(t.Arms, a); cols[j] < 0 {
			return nil, fmt.Errorf("bench: table %q has no arm %q", t.Name, a)
		}
	}
	if len(fold) != len(t.Prompts) {
		return nil, fmt.Errorf("bench: %d folds for the %d prompts of table %q", len(fold), len(t.Prompts), t.Name)
	}
	m := &Matrix{Arms: arms, Left: Left{Prompts: len(t.Prompts)}}
	scored, priced := m.full(t, cols)
	if len(scored) == 0 || len(arms) == 0 {
		return nil, fmt.Errorf("%w: table %q, %d prompts, %d arms", ErrSparse, t.Name, len(t.Prompts), len(arms))
	}
	rows := scored
	if usesCosts := float64(len(priced)) >= pricedShareMin*float64(len(scored)); usesCosts {
		rows, m.Left.Unpriced = priced, len(scored)-len(priced)
		m.Cost = make([]float64, 0, len(rows)*len(arms))
	}
	m.fill(t, rows, cols, fold)
	return m, nil
}

// full finds the prompts whose cells are all scored, and of these the ones whose costs are all known.
func (m *Matrix) full(t *datasets.Table, cols []int) (scored, priced []int) {
	for i := range t.Prompts {
		unknown, complete := 0, true
		for _, j := range cols {
			complete = complete && t.Observed(i, j)
			if t.Cost[t.At(i, j)] == datasets.Unpriced {
				unknown++
			}
		}
		if !complete {
			m.Left.Unscored++
			continue
		}
		scored = append(scored, i)
		m.Left.Cells += len(cols)
		m.Left.UnknownCosts += unknown
		if unknown == 0 {
			priced = append(priced, i)
		}
	}
	return scored, priced
}

func (m *Matrix) fill(t *datasets.Table, rows, cols, fold []int) {
	number := map[int]int{}
	for _, i := range rows {
		p := &t.Prompts[i]
		m.IDs, m.Tasks = append(m.IDs, p.ID), append(m.Tasks, p.Dataset)
		m.Bytes, m.Rows = append(m.Bytes, len(p.Text)), append(m.Rows, i)
		if _, seen := number[fold[i]]; !seen {
			number[fold[i]] = len(number)
		}
		m.Fold = append(m.Fold, number[fold[i]])
		for _, j := range cols {
			at := t.At(i, j)
			m.Score = append(m.Score, float64(t.Score[at]))
			m.Tokens = append(m.Tokens, float64(t.Output[at]))
			if m.Cost != nil {
				m.Cost = append(m.Cost, t.Cost[at].Dollars())
			}
		}
	}
	m.Folds = len(number)
}

// N is the number of prompts.
func (m *Matrix) N() int { return len(m.IDs) }

// Priced reports whether costs are known; without them only the best-quality choice (λ = 0) can be judged.
func (m *Matrix) Priced() bool { return m.Cost != nil }

// TaskNames are the tasks in alphabetical order.
func (m *Matrix) TaskNames() []string {
	names := slices.Clone(m.Tasks)
	slices.Sort(names)
	return slices.Compact(names)
}

// Align brings predictions made for the source table into the matrix's order of prompts and arms. An arm that they do
// not hold is NaN: it is never chosen. Each of their folds must lie inside one fold of the matrix, or the rows that an
// operating point is chosen on would not be held out.
func (m *Matrix) Align(p *Predictions) (*Predictions, error) {
	if err := p.Validate(m.Left.Prompts); err != nil {
		return nil, err
	}
	out := NewPredictions(p.Name, m.Arms, m.N())
	out.Fold, out.Fallback = m.Fold, make([]int, m.Folds)
	for f := range out.Fallback {
		out.Fallback[f] = -1
	}
	folds := map[int]int{}
	for k, i := range m.Rows {
		if p.Fold != nil {
			if f, seen := folds[p.Fold[i]]; seen && f != m.Fold[k] {
				return nil, fmt.Errorf("bench: predictions %q were made on other folds than the report's", p.Name)
			}
			folds[p.Fold[i]] = m.Fold[k]
		}
		if p.Fallback != nil {
			out.Fallback[m.Fold[k]] = m.fallback(p, i)
		}
	}
	column := make([]int, len(m.Arms))
	for j, a := range m.Arms {
		column[j] = slices.Index(p.Arms, a)
	}
	out.Score = m.take(p.Score, column, len(p.Arms))
	out.Quality = m.take(p.Quality, column, len(p.Arms))
	out.CostUSD = m.take(p.CostUSD, column, len(p.Arms))
	out.Tokens = m.take(p.Tokens, column, len(p.Arms))
	return out, nil
}

func (m *Matrix) fallback(p *Predictions, i int) int {
	f := 0
	if p.Fold != nil {
		f = p.Fold[i]
	}
	if f >= len(p.Fallback) || p.Fallback[f] < 0 {
		return -1
	}
	return slices.Index(m.Arms, p.Arms[p.Fallback[f]])
}

func (m *Matrix) take(from []float64, column []int, width int) []float64 {
	if from == nil {
		return nil
	}
	out := make([]float64, 0, m.N()*len(m.Arms))
	for _, i := range m.Rows {
		for _, j := range column {
			v := math.NaN()
			if j >= 0 {
				v = from[i*width+j]
			}
			out = append(out, v)
		}
	}
	return out
}
