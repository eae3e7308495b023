package evals

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/evals/bench"
)

// CascadesMax is the number of checkers that one report may price.
const CascadesMax = 64

// CascadeRow is a router whose answers are checked and, where they are rejected, asked again of the next arm that pays, as
// the server does under gates; the row without a checker is the router that guesses.
type CascadeRow struct {
	Router  string         `json:"router"`
	Checker *bench.Checker `json:"checker"`
	// Own and Gain are as in Row. OverGuess is Own minus that of the same router without a checker, paired.
	Own       Interval `json:"aiq_own"`
	Gain      Interval `json:"own_minus_zero"`
	OverGuess Interval `json:"over_guess"`
	// Matched is the score at the best constant's cost and CostToMatch the cost that reaches its score, both read off the
	// curve in hindsight; RelScore and RelCost are the point that was set on the other folds to match it.
	Matched     Num      `json:"matched_score"`
	CostToMatch Num      `json:"cost_to_match"`
	RelScore    Interval `json:"t100_relative_score"`
	RelCost     Interval `json:"t100_relative_cost"`
}

// ParseChecker reads "fp,fr" or "fp,fr,usd": the share of wrong answers that pass, that of right ones that do not, and what
// a check costs.
func ParseChecker(text string) (bench.Checker, error) {
	parts := strings.Split(text, ",")
	if len(parts) != 2 && len(parts) != 3 {
		return bench.Checker{}, fmt.Errorf("evals: a checker is written fp,fr or fp,fr,usd, not %.64q", text)
	}
	var v [3]float64
	for k, part := range parts {
		var err error
		if v[k], err = strconv.ParseFloat(strings.TrimSpace(part), 64); err != nil {
			return bench.Checker{}, fmt.Errorf("evals: checker %.64q: %.64q is not a number", text, part)
		}
	}
	c := bench.Checker{FalsePass: v[0], FalseReject: v[1], CostUSD: v[2]}
	return c, c.Validate()
}

// cascades prices every checker with every router judged.
func (s *study) cascades(ctx context.Context) ([]CascadeRow, error) {
	if len(s.o.Cascades) == 0 {
		return nil, nil
	}
	if !s.m.Priced() {
		return nil, errors.New("evals: costs are unknown, so no cascade can be priced")
	}
	var out []CascadeRow
	for _, k := range s.judged() {
		who := []bench.Contestant{s.who[k].Contestant}
		for _, c := range s.o.Cascades {
			t, err := bench.NewCascade(s.m, s.who[k].Trace.Predictions, c)
			if err != nil {
				return nil, err
			}
			who = append(who, bench.Contestant{Trace: t, T100: t.Operate(1)})
		}
		samples, err := bench.Bootstrap(ctx, s.m, who, s.o.bootstrap())
		if err != nil {
			return nil, err
		}
		for j := range who {
			measures := bench.Measure(s.m.Constants(nil), who[j].Trace.Curve(nil))
			of := func(stat bench.Statistic) Interval { return interval(samples.Estimate(j, stat)) }
			row := CascadeRow{
				Router: who[j].Trace.Name, Own: of(bench.StatOwn), Gain: of(bench.StatGain), OverGuess: Interval{nan(), nan(), nan()},
				Matched: Num(measures.Matched[len(measures.Matched)-1]), CostToMatch: Num(measures.CostToMatch),
				RelScore: of(bench.StatRelScore100), RelCost: of(bench.StatRelCost100),
			}
			if j > 0 {
				row.Checker, row.OverGuess = &s.o.Cascades[j-1], interval(samples.Difference(j, 0, bench.StatOwn))
			}
			out = append(out, row)
		}
	}
	return out, nil
}

func (r *Report) cascadeTable() section {
	s := section{Title: "Checking beside guessing", Lines: []string{
		"Every answer is checked, and one that is rejected is asked again of the next arm that pays by estimate, twice at most; the last is served whatever the check says. fp: share of wrong answers that pass; " +
			"fr: share of right ones that do not. over guessing: area under the curve minus that of the same router without a check, paired; where it is below 0 the checks cost more than they find. " +
			"t100: the cheapest setting that matches the best constant on the other folds, and what it then achieves.",
	}}
	g := grid{Left: 2, Head: []string{"router", "check (fp, fr)", "AIQ-own", "own − zero", "over guessing", "at best's cost", "cost to match", "t100 score %", "t100 cost %"}}
	for _, w := range r.Cascades {
		check := "none"
		if c := w.Checker; c != nil {
			check = fmt.Sprintf("%g, %g", c.FalsePass, c.FalseReject)
			if c.CostUSD > 0 {
				check += fmt.Sprintf(" at %g USD", c.CostUSD)
			}
		}
		g.Rows = append(g.Rows, []string{
			w.Router, check, decimal(w.Own.Value), signedInterval(w.Gain), signedInterval(w.OverGuess), decimal(w.Matched), percentOf(w.CostToMatch),
			percentInterval(w.RelScore), percentInterval(w.RelCost),
		})
	}
	s.Tables = []grid{g}
	return s
}
