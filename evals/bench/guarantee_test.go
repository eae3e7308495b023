package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// twoArms is a table of a strong and a weak arm, and a router that knows something of when the weak one will do. Costs are
// forecast too low by the given factor, with noise.
func twoArms(t *testing.T, n int, bias float64) (*Matrix, *Predictions) {
	t.Helper()
	random := rand.New(rand.NewPCG(7, 7))
	table := datasets.NewTable([]catalog.ArmID{"a/strong", "a/weak"}, n)
	p := NewPredictions("router", table.Arms, n)
	for i := range n {
		table.Prompts[i].ID = fmt.Sprint(i)
		hard := random.Float64()
		for j, q := range []float64{0.9 - 0.2*hard, 0.9 - 0.6*hard} {
			at := table.At(i, j)
			table.Score[at] = 0
			if random.Float64() < q {
				table.Score[at] = 1
			}
			p.Score[at] = q + 0.1*random.NormFloat64()
			dollars := []float64{0.01, 0.001}[j] * math.Exp(0.5*random.NormFloat64())
			table.Cost[at], _ = catalog.FromDollars(dollars)
			p.CostUSD[at] = []float64{0.01, 0.001}[j] * bias
		}
	}
	m, err := NewMatrix(table, nil, make([]int, n))
	if err != nil {
		t.Fatal(err)
	}
	p.Fold, p.Fallback = m.Fold, []int{0}
	return m, p
}

// TestLadder: rungs climb from nearly nobody to nearly everybody in steps of about a twentieth; among more than two arms
// by a margin until nothing looks better, and then by price.
func TestLadder(t *testing.T) {
	m, p := twoArms(t, 2000, 1)
	ladder := Ladder(m, p, 0, 20)
	before := 0.0
	for k, r := range ladder {
		left := float64(r.left(m, p, 0)) / float64(m.N())
		if left < before || math.Abs(left-0.05*float64(k+1)) > 0.002 {
			t.Errorf("rung %d (%+v): %.3f leave the fallback after %.3f", k, r, left, before)
		}
		before = left
	}
	if len(ladder) != 20 || ladder[0].Margin <= 0 || ladder[19].Margin >= 0 || ladder[19].Lambda != 0 {
		t.Errorf("%d rungs from %+v to %+v", len(ladder), ladder[0], ladder[len(ladder)-1])
	}
}

// TestLadderOfMany: see above.
func TestLadderOfMany(t *testing.T) {
	m := matrixOf(t, world(3, 900, 4))
	p := NewPredictions("router", m.Arms, m.N())
	random := rand.New(rand.NewPCG(1, 1))
	for at := range p.Score {
		p.Score[at], p.CostUSD[at] = m.Score[at]*0.3+random.Float64(), m.Cost[at]
	}
	for _, priced := range []bool{true, false} {
		if !priced {
			p.CostUSD = nil // then only margins are left
		}
		ladder := Ladder(m, p, 0, 20)
		before, margins := 0.0, 0
		for k, r := range ladder {
			left := float64(r.left(m, p, 0)) / float64(m.N())
			if left < before && r.Lambda == 0 || r.Margin < 0 || r.Margin > 0 && r.Lambda > 0 || !priced && r.Lambda > 0 {
				t.Errorf("priced %v, rung %d (%+v): %.3f leave the fallback after %.3f", priced, k, r, left, before)
			}
			if before = left; r.Margin > 0 {
				margins++
			}
		}
		if margins < 5 || priced && margins == len(ladder) {
			t.Errorf("priced %v: %d of %d rungs have a margin", priced, margins, len(ladder))
		}
	}
}

// TestGuarantees: what is certified is kept, what is believed is not, and more rows certify more.
func TestGuarantees(t *testing.T) {
	m, p := twoArms(t, 3000, 1)
	got, err := Guarantees(context.Background(), m, p, GuaranteeOptions{Targets: []float64{0.95}, Rows: []int{200, 2000}, Draws: 200})
	if err != nil || len(got) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	few, many := got[0], got[1]
	if few.Broken > 0.08 || many.Broken > 0.08 || few.PlugIn < 0.2 || many.PlugIn < 0.2 {
		t.Errorf("broken %v and %v, want at most 5 %% but for luck; believed %v and %v, want about half", few.Broken, many.Broken, few.PlugIn, many.PlugIn)
	}
	if !(few.Left < many.Left && many.Left < many.Hindsight && many.Cost < few.Cost && few.Cost < 1) {
		t.Errorf("got %+v, then %+v: more rows must certify more", few, many)
	}
	for _, o := range []GuaranteeOptions{{Draws: -1}, {Delta: 1}, {Rows: []int{0}}, {Targets: []float64{1.1}}} {
		if _, err := Guarantees(context.Background(), m, p, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// TestPace: a forecast that is a tenth too low bursts most budgets, and a pacer holds them.
func TestPace(t *testing.T) {
	m, p := twoArms(t, 3000, 0.9*math.Exp(0.125))
	trace, err := NewTrace(m, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, lambda := range []float64{5, 20} {
		got, err := trace.Pace(lambda, PacingOptions{Windows: 300})
		if err != nil {
			t.Fatal(err)
		}
		if got.Over < 0.5 || got.PacedOver > 0.05 || got.Lost > 0.01 || got.Spent < 0.9 || got.Spent > 1.02 {
			t.Errorf("λ = %v: got %+v", lambda, got)
		}
	}
	p.CostUSD = nil
	if trace, err = NewTrace(m, p); err != nil {
		t.Fatal(err)
	}
	if _, err := trace.Pace(5, PacingOptions{}); err == nil {
		t.Error("paced without forecasts")
	}
	if _, err := trace.Pace(5, PacingOptions{Windows: -1}); err == nil {
		t.Error("paced a negative number of windows")
	}
}
