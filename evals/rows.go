package evals

import (
	"math"

	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Row is one router in the report. Shares are of the best constant: 1 is its score or its cost.
type Row struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// AIQ, Own and Gain (own minus zero router) are bench.Measures; so are the four below.
	AIQ         Interval `json:"aiq"`
	Own         Interval `json:"aiq_own"`
	Gain        Interval `json:"own_minus_zero"`
	Matched     []Num    `json:"matched_scores"`
	CostToMatch Num      `json:"cost_to_match"`
	CostTo95    Num      `json:"cost_to_95"`
	PerfGain    Num      `json:"perf_gain"`
	CostSave    Num      `json:"cost_save"`
	// Score is the mean score when quality alone counts (λ = 0), Macro its mean over tasks, Cost what it costs. Lead is
	// Score minus the best constant's, paired, and LeadSE its standard error.
	Score  Interval `json:"score"`
	Macro  Num      `json:"score_macro"`
	Cost   Num      `json:"cost_usd"`
	Lead   Interval `json:"lead"`
	LeadSE Num      `json:"lead_se"`
	// T100 and T95 are the points chosen on the other folds.
	T100 *PointRow `json:"t100,omitempty"`
	T95  *PointRow `json:"t95,omitempty"`
	// Within is the within-task gain. OverLength and OverLabel are the differences in AIQ-own to those baselines, in score
	// where costs are unknown.
	Within     Num      `json:"within_task_gain"`
	OverLength Interval `json:"over_length"`
	OverLabel  Interval `json:"over_label"`
	// ECEExcess and TokensRMSE are the means over arms of CalibrationRow.Excess and TokensRow.RMSE.
	ECEExcess  Num `json:"ece_excess"`
	TokensRMSE Num `json:"log_tokens_rmse"`
}

// PointRow is an operating point that was chosen on other folds' rows.
type PointRow struct {
	Target   Num      `json:"target"`
	Lambda   []Num    `json:"lambda"`
	Score    Num      `json:"score"`
	Macro    Num      `json:"score_macro"`
	Cost     Num      `json:"cost_usd"`
	RelScore Interval `json:"relative_score"`
	RelCost  Interval `json:"relative_cost"`
	Lead     Interval `json:"lead"`
	LeadSE   Num      `json:"lead_se"`
	Arena    Num      `json:"arena"`
	Shares   []Share  `json:"shares"`
}

// Share is the share of prompts that an arm gets.
type Share struct {
	Arm   catalog.ArmID `json:"arm"`
	Share Num           `json:"share"`
}

func (s *study) rows() []Row {
	rows := make([]Row, len(s.who))
	for k := range s.who {
		rows[k] = s.row(k)
	}
	return rows
}

func (s *study) row(k int) Row {
	c := &s.who[k]
	curve := c.Trace.Curve(nil)
	if c.kind == KindZero {
		curve = s.m.Constants(nil)
	}
	measures := bench.Measure(s.m.Constants(nil), curve)
	choice := c.Trace.Choices(0)
	r := Row{
		Name: c.Trace.Name, Kind: c.kind,
		CostToMatch: Num(measures.CostToMatch), CostTo95: Num(measures.CostTo95), PerfGain: Num(measures.PerfGain), CostSave: Num(measures.CostSave),
		AIQ: s.of(k, bench.StatAIQ), Own: s.of(k, bench.StatOwn), Gain: s.of(k, bench.StatGain),
		Score: s.of(k, bench.StatScore), Macro: Num(s.m.MacroMean(choice).Score), Cost: Num(s.m.Mean(choice, nil).Cost),
		Lead: s.of(k, bench.StatLead), LeadSE: Num(s.samples.StandardError(k, bench.StatLead)),
		T100: s.point(k, c.T100, 100), T95: s.point(k, c.T95, 95), Within: Num(c.within),
		OverLength: s.over(k, s.length), OverLabel: s.over(k, s.label),
	}
	for _, v := range measures.Matched {
		r.Matched = append(r.Matched, Num(v))
	}
	switch c.kind {
	case KindZero:
		r.zero(measures)
	case KindConstant:
		r.blank()
	}
	return r
}

// over is how far a router is above a baseline, which is not compared with itself.
func (s *study) over(k, baseline int) Interval {
	stat := bench.StatOwn
	if !s.m.Priced() {
		stat = bench.StatScore
	}
	if k == baseline {
		return Interval{nan(), nan(), nan()}
	}
	return interval(s.samples.Difference(k, baseline, stat))
}

func (s *study) of(k int, stat bench.Statistic) Interval {
	return interval(s.samples.Estimate(k, stat))
}

func (s *study) point(k int, o *bench.Operating, target int) *PointRow {
	if o == nil {
		return nil
	}
	score, cost, lead := bench.StatRelScore100, bench.StatRelCost100, bench.StatLead100
	if target == 95 {
		score, cost, lead = bench.StatRelScore95, bench.StatRelCost95, bench.StatLead95
	}
	p := &PointRow{
		Target: Num(o.Target), Score: Num(o.Score), Macro: Num(s.m.MacroMean(o.Choice).Score), Cost: Num(o.Cost),
		RelScore: s.of(k, score), RelCost: s.of(k, cost), Lead: s.of(k, lead),
		LeadSE: Num(s.samples.StandardError(k, lead)), Arena: Num(bench.Arena(o.Score, 1000*o.Cost)),
	}
	for _, l := range o.Lambda {
		p.Lambda = append(p.Lambda, Num(l))
	}
	for j, share := range o.Share {
		p.Shares = append(p.Shares, Share{s.m.Arms[j], Num(share)})
	}
	return p
}

// zero leaves what a mix of constants has: its own hull is the bar, so it has no gain and no lead over itself.
func (r *Row) zero(m bench.Measures) {
	none := Interval{nan(), nan(), nan()}
	r.AIQ, r.Own, r.Gain = Interval{Num(m.Zero), nan(), nan()}, none, none
	r.OverLength, r.OverLabel, r.Within, r.PerfGain, r.CostSave = none, none, nan(), nan(), nan()
}

// blank removes the measures of a curve from a row that is a single point.
func (r *Row) blank() {
	none := Interval{nan(), nan(), nan()}
	r.AIQ, r.Own, r.Gain, r.OverLength, r.OverLabel = none, none, none, none, none
	r.Matched, r.CostToMatch, r.CostTo95, r.PerfGain, r.CostSave, r.Within = nil, nan(), nan(), nan(), nan(), nan()
	r.T100, r.T95 = nil, nil
}

// TaskRow is one task and what one router makes of it.
type TaskRow struct {
	Task    string `json:"task"`
	Prompts int    `json:"prompts"`
	// Best is the best arm of the task in hindsight.
	Best      catalog.ArmID `json:"best_arm"`
	BestScore Num           `json:"best_score"`
	// Fallback is the mean score of the best constant as the training rows of each fold see it.
	Fallback Num    `json:"fallback_score"`
	Router   string `json:"router"`
	// Score is the router's at λ = 0, Lead its paired difference to the fallback with its standard error. T100 is its score
	// at the t100 point, RelCost what that costs as a share of the table's best constant on the same prompts.
	Score   Num `json:"score"`
	Lead    Num `json:"lead"`
	LeadSE  Num `json:"lead_se"`
	T100    Num `json:"t100_score"`
	RelCost Num `json:"t100_relative_cost"`
	// Gain is AIQ-own minus the zero router's AIQ within the task; unknown for small tasks.
	Gain Num `json:"within_gain"`
}

// tasks has a row for every router judged and every task; without routers the length baseline stands in.
func (s *study) tasks() []TaskRow {
	var out []TaskRow
	for _, k := range s.judged() {
		for _, task := range s.m.TaskNames() {
			out = append(out, s.task(k, task))
		}
	}
	return out
}

// judged are the routers' indexes, or the length baseline's where there is no router.
func (s *study) judged() []int {
	var out []int
	for k, c := range s.who {
		if c.kind == KindRouter {
			out = append(out, k)
		}
	}
	if out == nil {
		out = []int{s.length}
	}
	return out
}

func (s *study) task(k int, task string) TaskRow {
	m, c := s.m, &s.who[k]
	weight, n := m.TaskWeight(task)
	constants := m.Constants(weight)
	best := bench.Best(constants)
	fallback, choice := s.who[0].Trace.Choices(0), c.Trace.Choices(0)
	r := TaskRow{
		Task: task, Prompts: n, Best: m.Arms[best], BestScore: Num(constants[best].Score), Router: c.Trace.Name,
		Fallback: Num(m.Mean(fallback, weight).Score), Score: Num(m.Mean(choice, weight).Score), T100: nan(), RelCost: nan(), Gain: nan(),
	}
	r.Lead, r.LeadSE = r.Score-r.Fallback, Num(m.PairedSE(choice, fallback, weight))
	if c.T100 != nil {
		p := m.Mean(c.T100.Choice, weight)
		r.T100, r.RelCost = Num(p.Score), Num(p.Cost/constants[bench.Best(m.Constants(nil))].Cost)
	}
	if n >= bench.TaskMin {
		r.Gain = Num(bench.Measure(constants, c.Trace.Curve(weight)).Gain)
	}
	return r
}

// CalibrationRow says whether a router's predicted qualities of one arm mean what they say.
type CalibrationRow struct {
	Router string        `json:"router"`
	Arm    catalog.ArmID `json:"arm"`
	ECE    Num           `json:"ece"`
	Chance Num           `json:"ece_chance"`
	Excess Num           `json:"ece_excess"`
	Brier  Num           `json:"brier"`
	Bins   []bench.Bin   `json:"bins"`
}

func (s *study) calibration() []CalibrationRow {
	var out []CalibrationRow
	for _, k := range s.judged() {
		p := s.who[k].Trace.Predictions
		for j, arm := range s.m.Arms {
			if c := bench.Calibrate(s.m, p, j, s.o.Seed); c != nil {
				out = append(out, CalibrationRow{p.Name, arm, Num(c.ECE), Num(c.Chance), Num(c.Excess), Num(c.Brier), c.Bins})
			}
		}
	}
	return out
}

// TokensRow is the error of a forecast of output tokens: the root mean squared error of its natural logarithm.
type TokensRow struct {
	Router  string        `json:"router"`
	Arm     catalog.ArmID `json:"arm"`
	RMSE    Num           `json:"log_rmse"`
	Length  Num           `json:"log_rmse_length"`
	Mean    Num           `json:"log_rmse_mean"`
	Prompts int           `json:"prompts"`
}

func (s *study) tokens() []TokensRow {
	var out []TokensRow
	for _, k := range s.judged() {
		p := s.who[k].Trace.Predictions
		for j, arm := range s.m.Arms {
			rmse, n := bench.TokensRMSE(s.m, p, j)
			if n == 0 {
				continue
			}
			length, _ := bench.TokensRMSE(s.m, s.who[s.length].Trace.Predictions, j)
			mean, _ := bench.TokensRMSE(s.m, s.who[0].Trace.Predictions, j)
			out = append(out, TokensRow{p.Name, arm, Num(rmse), Num(length), Num(mean), n})
		}
	}
	return out
}

// summarize sets the means over arms of what calibration and tokens say arm by arm.
func (r *Report) summarize() {
	mean := func(router string, n int, at func(k int) (string, Num)) Num {
		sum, count := Num(0), Num(0)
		for k := range n {
			if name, v := at(k); name == router {
				sum, count = sum+v, count+1
			}
		}
		return sum / count // NaN where there is none
	}
	for i := range r.Routers {
		w := &r.Routers[i]
		w.ECEExcess = mean(w.Name, len(r.Calibration), func(k int) (string, Num) { return r.Calibration[k].Router, r.Calibration[k].Excess })
		w.TokensRMSE = mean(w.Name, len(r.Tokens), func(k int) (string, Num) { return r.Tokens[k].Router, r.Tokens[k].RMSE })
	}
}

// nan is the number that is not known.
func nan() Num { return Num(math.NaN()) }
