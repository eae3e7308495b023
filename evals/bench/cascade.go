package bench

import (
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier/policy"
)

// Checker is how well answers can be checked, and at what price.
type Checker struct {
	// FalsePass is the share of wrong answers that pass, FalseReject that of right ones that do not.
	FalsePass   float64 `json:"false_pass"`
	FalseReject float64 `json:"false_reject"`
	// CostUSD is what one check costs.
	CostUSD float64 `json:"cost_usd"`
}

// Validate refuses rates that are none.
func (c Checker) Validate() error {
	if !(c.FalsePass >= 0 && c.FalsePass <= 1 && c.FalseReject >= 0 && c.FalseReject <= 1) {
		return fmt.Errorf("bench: a checker passes a share %v of wrong answers and rejects a share %v of right ones: want 0 to 1", c.FalsePass, c.FalseReject)
	}
	if !(c.CostUSD >= 0) || math.IsInf(c.CostUSD, 0) {
		return fmt.Errorf("bench: a check costs %v dollars: want 0 or more", c.CostUSD)
	}
	return nil
}

// EscalationsMax is the number of further arms that a cascade asks, as the server does.
const EscalationsMax = 2

// NewCascade follows a router whose answers are checked along the curve's prices: it begins with the arm that the router
// chooses, and an answer that the checker rejects is followed by the arm that policy.Escalate names, twice at most; the
// last one is served whatever the checker says of it. Score and cost are exact expectations over the checker's errors,
// which fall independently on every answer; a score between 0 and 1 is the chance that the answer is right.
//
// Of its arms the trace knows the first alone: Choice is where a cascade begins.
func NewCascade(m *Matrix, p *Predictions, c Checker) (*Trace, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if !m.Priced() || p.CostUSD == nil {
		return nil, fmt.Errorf("bench: %q forecasts no costs, and without them no arm is worth asking again or not", p.Name)
	}
	plain, err := NewTrace(m, p)
	if err != nil {
		return nil, err
	}
	t := &Trace{Name: p.Name, Predictions: p, m: m, lambdas: plain.lambdas, start: make([]int32, 1, m.N()+1), expected: true}
	width := len(m.Arms)
	for i := range m.IDs {
		row := i * width
		arm := func(j int) (float64, float64, bool) {
			score, cost := p.Score[row+j], p.CostUSD[row+j]
			return score, cost, score == score && cost == cost // NaN is an arm that was not predicted
		}
		last, before := []int(nil), Point{}
		for k, lambda := range t.lambdas {
			ladder := []int{plain.Choice(i, k)}
			for len(ladder) <= EscalationsMax {
				next := policy.Escalate(width, ladder, lambda, arm)
				if next < 0 {
					break
				}
				ladder = append(ladder, next)
			}
			if slices.Equal(ladder, last) {
				continue
			}
			at := m.expect(row, ladder, c)
			t.step, t.arm = append(t.step, uint8(k)), append(t.arm, int32(ladder[0]))
			t.dScore, t.dCost = append(t.dScore, at.Score-before.Score), append(t.dCost, at.Cost-before.Cost)
			last, before = ladder, at
		}
		t.start = append(t.start, int32(len(t.step)))
	}
	return t, nil
}

// expect is the expected score and cost of a ladder of arms on one prompt. Its last answer is checked too, or nobody would
// know that it failed, and served.
func (m *Matrix) expect(row int, ladder []int, c Checker) Point {
	out, reached := Point{}, 1.0
	for step, j := range ladder {
		right := m.Score[row+j]
		out.Cost += reached * (m.Cost[row+j] + c.CostUSD)
		if step == len(ladder)-1 {
			out.Score += reached * right
			break
		}
		out.Score += reached * right * (1 - c.FalseReject)
		reached *= right*c.FalseReject + (1-right)*(1-c.FalsePass)
	}
	return out
}
