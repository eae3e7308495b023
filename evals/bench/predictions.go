package bench

import (
	"fmt"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Predictions is what one router thinks of every prompt of a table: row-major, cell (i, j) at i·len(Arms)+j, prompts in
// the table's order. It holds held-out predictions only: what stands in row i comes from a router that did not see
// prompt i, nor any other prompt of its fold.
type Predictions struct {
	// Name is for people: "router", "incumbent", an artifact's digest.
	Name string
	// Arms are the columns, a subset of the table's arms in any order.
	Arms []catalog.ArmID
	// Score is what decisions compare. NaN says that the arm was not predicted for this prompt; it is then not chosen.
	Score []float64
	// Quality is the calibrated estimate in [0,1], for the calibration section only; nil where there is none.
	Quality []float64
	// CostUSD is the cost that decisions use, in dollars; nil or all zero where costs are unknown.
	CostUSD []float64
	// Tokens is the typical number of output tokens, exp of the expected logarithm, which is less than the expected number;
	// nil where it is not predicted, NaN where it is not for one cell.
	Tokens []float64
	// Fold is the fold of each prompt, 0 ≤ Fold[i] < len(Fallback), or nil where the router was trained on another table.
	Fold []int
	// Fallback is, for each fold (for the whole table where Fold is nil), the index in Arms of the router's fallback
	// arm: the best single arm of its training rows. It is nil or −1 where there is none.
	Fallback []int
}

// NewPredictions makes predictions of n prompts for the given arms, all zero, with every optional table present.
func NewPredictions(name string, arms []catalog.ArmID, n int) *Predictions {
	cells := n * len(arms)
	return &Predictions{
		Name: name, Arms: arms,
		Score: make([]float64, cells), Quality: make([]float64, cells), CostUSD: make([]float64, cells), Tokens: make([]float64, cells),
	}
}

// Validate checks the shapes against a table of n prompts.
func (p *Predictions) Validate(n int) error {
	cells := n * len(p.Arms)
	if len(p.Arms) == 0 {
		return fmt.Errorf("bench: predictions %q have no arms", p.Name)
	}
	if len(p.Score) != cells {
		return fmt.Errorf("bench: predictions %q hold %d scores, not %d prompts x %d arms", p.Name, len(p.Score), n, len(p.Arms))
	}
	for _, o := range []struct {
		name  string
		cells []float64
	}{{"qualities", p.Quality}, {"costs", p.CostUSD}, {"token counts", p.Tokens}} {
		if o.cells != nil && len(o.cells) != cells {
			return fmt.Errorf("bench: predictions %q hold %d %s, not %d", p.Name, len(o.cells), o.name, cells)
		}
	}
	if p.Fold != nil && len(p.Fold) != n {
		return fmt.Errorf("bench: predictions %q hold %d folds, not %d", p.Name, len(p.Fold), n)
	}
	for i, f := range p.Fold {
		if f < 0 || p.Fallback != nil && f >= len(p.Fallback) {
			return fmt.Errorf("bench: predictions %q: fold %d of prompt %d is out of range", p.Name, f, i)
		}
	}
	for _, a := range p.Fallback {
		if a < -1 || a >= len(p.Arms) {
			return fmt.Errorf("bench: predictions %q: fallback arm %d is out of range", p.Name, a)
		}
	}
	return nil
}
