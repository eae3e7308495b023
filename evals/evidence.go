package evals

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/tradewind-llm/tradewind/evals/bench"
)

// GuaranteeRow is what came of promising one quality target after seeing a number of rows. Shares are of prompts, costs of
// the best constant.
type GuaranteeRow struct {
	Router string `json:"router"`
	Target Num    `json:"target"`
	Rows   int    `json:"calibration_rows"`
	Draws  int    `json:"draws"`
	Left   Num    `json:"share_routed"`
	Cost   Num    `json:"relative_cost"`
	Broken Num    `json:"broken"`
	PlugIn Num    `json:"broken_without_certificate"`
	Score  Num    `json:"score"`
	// Shares are the mean shares of the arms.
	Shares []Share `json:"shares"`
	// Hindsight is the share that could have been routed, had one known the whole table.
	Hindsight Num `json:"share_in_hindsight"`
}

// PacingRow is what came of holding windows of requests to a budget, as a share of the best constant's cost.
type PacingRow struct {
	Router    string `json:"router"`
	Budget    Num    `json:"relative_budget"`
	Lambda    Num    `json:"lambda"`
	Over      Num    `json:"over_by_forecast"`
	PacedOver Num    `json:"over_paced"`
	Spent     Num    `json:"spent_of_budget"`
	Score     Num    `json:"score"`
	Lost      Num    `json:"score_lost"`
	// Infeasible says that not even the cheapest arm alone costs so little; nothing is measured then.
	Infeasible bool `json:"infeasible,omitempty"`
}

// budgets are the shares of the best constant's cost that windows are held to.
var budgets = [...]float64{0.75, 0.5, 0.25, 0.1}

// guarantees measures the quality targets of every router judged.
func (s *study) guarantees(ctx context.Context) ([]GuaranteeRow, error) {
	var out []GuaranteeRow
	for _, k := range s.judged() {
		o := bench.GuaranteeOptions{Seed: s.o.Seed, Draws: s.o.Draws}
		all, err := bench.Guarantees(ctx, s.m, s.who[k].Trace.Predictions, o)
		if err != nil {
			return nil, err
		}
		for _, g := range all {
			row := GuaranteeRow{
				Router: s.who[k].Trace.Name, Target: Num(g.Target), Rows: g.Rows, Draws: g.Draws, Left: Num(g.Left), Cost: Num(g.Cost),
				Broken: Num(g.Broken), PlugIn: Num(g.PlugIn), Hindsight: Num(g.Hindsight), Score: Num(g.Score),
			}
			for j, share := range g.Shares {
				row.Shares = append(row.Shares, Share{s.m.Arms[j], Num(share)})
			}
			out = append(out, row)
		}
	}
	return out, nil
}

// pacing measures the cost targets of every router judged, where costs are known.
func (s *study) pacing() ([]PacingRow, error) {
	var out []PacingRow
	if !s.m.Priced() {
		return nil, nil
	}
	constants := s.m.Constants(nil)
	best, least := constants[bench.Best(constants)].Cost, math.Inf(1)
	for _, c := range constants {
		least = min(least, c.Cost)
	}
	for _, k := range s.judged() {
		t := s.who[k].Trace
		if t.Predictions.CostUSD == nil {
			continue
		}
		forecasts := t.Forecasts()
		for _, share := range budgets {
			at := slices.IndexFunc(forecasts, func(c bench.CostPoint) bool { return c.CostUSD <= share*best })
			if at < 0 || forecasts[at].CostUSD <= least {
				out = append(out, PacingRow{
					Router: t.Name, Budget: Num(share), Lambda: nan(), Over: nan(), PacedOver: nan(), Spent: nan(), Score: nan(), Lost: nan(), Infeasible: true,
				})
				continue
			}
			p, err := t.Pace(forecasts[at].Lambda, bench.PacingOptions{Seed: s.o.Seed})
			if err != nil {
				return nil, err
			}
			out = append(out, PacingRow{
				Router: t.Name, Budget: Num(p.BudgetUSD / float64(p.Requests) / best), Lambda: Num(p.Lambda), Over: Num(p.Over),
				PacedOver: Num(p.PacedOver), Spent: Num(p.Spent), Score: Num(p.Score), Lost: Num(p.Lost),
			})
		}
	}
	return out, nil
}

func (r *Report) evidence() section {
	s := section{Title: "What can be promised", Lines: []string{
		"Quality targets: a router is certified on calibration rows, drawn with replacement, and judged on the whole table. routed: share of prompts that leave the best constant; " +
			"broken: share of draws in which the mean score then falls short of the target (5 % are allowed); believed: the same for a router that takes the calibration mean at its word; in hindsight: what could have been routed.",
	}}
	g := grid{Caption: "Quality targets", Left: 1, Head: []string{"router", "target", "rows", "draws", "routed", "cost %", "broken", "believed", "in hindsight"}}
	for _, v := range r.Guarantees {
		g.Rows = append(g.Rows, []string{
			v.Router, percentOf(v.Target), strconv.Itoa(v.Rows), strconv.Itoa(v.Draws), percentOf(v.Left), percentOf(v.Cost),
			percentOf(v.Broken), percentOf(v.PlugIn), percentOf(v.Hindsight),
		})
	}
	s.Tables = []grid{g}
	if len(r.Pacing) > 0 {
		s.Lines = append(s.Lines, fmt.Sprintf("Cost targets: windows of 200 requests, drawn at random, that are to cost a share of the best constant. over: share of windows that exceed the budget by more than %s, "+
			"with the price of a dollar fixed by the forecast and with a pacer that moves it; spent: what paced windows cost, as a share of the budget; lost: score below the curve at the same cost. A budget is infeasible that not even the cheapest constant keeps.", percentOf(bench.Slack)))
		p := grid{Caption: "Cost targets", Left: 1, Head: []string{"router", "budget %", "λ", "over, by forecast", "over, paced", "spent", "score", "lost"}}
		for _, v := range r.Pacing {
			budget := percentOf(v.Budget)
			if v.Infeasible {
				budget += " (infeasible)"
			}
			p.Rows = append(p.Rows, []string{
				v.Router, budget, dollars(v.Lambda), percentOf(v.Over), percentOf(v.PacedOver), percentOf(v.Spent), decimal(v.Score), signed(v.Lost),
			})
		}
		s.Tables = append(s.Tables, p)
	}
	return s
}
