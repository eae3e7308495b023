package evals

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Kind says what a row of the report is.
type Kind string

// The kinds of rows.
const (
	KindConstant Kind = "constant"
	KindZero     Kind = "zero router"
	KindBaseline Kind = "baseline"
	KindRouter   Kind = "router"
	KindOracle   Kind = "oracle"
)

// contender is one row in the making.
type contender struct {
	bench.Contestant
	kind   Kind
	within float64
}

// study holds what all sections of a report are made from.
type study struct {
	o       *Options
	m       *bench.Matrix
	who     []contender
	length  int // index of the length router in who
	label   int
	samples *bench.Samples
}

func newStudy(t *datasets.Table, preds []bench.Predictions, o *Options) (*study, error) {
	for i := range preds {
		if err := preds[i].Validate(len(t.Prompts)); err != nil {
			return nil, err
		}
	}
	m, err := bench.NewMatrix(t, pool(t, preds, o), folds(t, preds, o))
	if err != nil {
		return nil, err
	}
	base, err := bench.NewBaselines(m)
	if err != nil {
		return nil, err
	}
	s := &study{o: o, m: m}
	add := func(kind Kind, p *bench.Predictions) error {
		trace, err := bench.NewTrace(m, p)
		if err != nil {
			return err
		}
		c := contender{kind: kind, within: math.NaN()}
		if c.Trace = trace; kind != KindOracle {
			c.T100, c.T95 = trace.Operate(1), trace.Operate(0.95)
			c.within = trace.WithinTaskGain()
		}
		s.who = append(s.who, c)
		return nil
	}
	zero := *base.Constants
	zero.Name = "zero router"
	for _, b := range []struct {
		kind Kind
		p    *bench.Predictions
	}{{KindConstant, base.Constants}, {KindConstant, base.Cheapest}, {KindZero, &zero}, {KindBaseline, base.Length}, {KindBaseline, base.Label}} {
		if b.kind != KindBaseline && b.p != base.Constants && !m.Priced() {
			continue // nothing is cheaper where nothing has a cost
		}
		if err := add(b.kind, b.p); err != nil {
			return nil, err
		}
	}
	s.length, s.label = len(s.who)-2, len(s.who)-1
	for i := range preds {
		aligned, err := m.Align(&preds[i])
		if err != nil {
			return nil, err
		}
		if err := add(KindRouter, aligned); err != nil {
			return nil, err
		}
	}
	return s, add(KindOracle, base.Oracle)
}

// pool is the arms to compare: those asked for, else the table's that some router predicts, else all.
func pool(t *datasets.Table, preds []bench.Predictions, o *Options) []catalog.ArmID {
	if o.Arms != nil || len(preds) == 0 {
		return o.Arms
	}
	var arms []catalog.ArmID
	for _, a := range t.Arms {
		if slices.ContainsFunc(preds, func(p bench.Predictions) bool { return slices.Contains(p.Arms, a) }) {
			arms = append(arms, a)
		}
	}
	return arms
}

// folds are those of the first predictions that bring any.
func folds(t *datasets.Table, preds []bench.Predictions, o *Options) []int {
	for i := range preds {
		if preds[i].Fold != nil {
			return preds[i].Fold
		}
	}
	if o.LeaveTaskOut {
		fold, _ := bench.TaskFolds(t)
		return fold
	}
	return bench.Folds(t, cmp.Or(o.Folds, foldsDefault))
}

func (s *study) bootstrap(ctx context.Context) error {
	who := make([]bench.Contestant, len(s.who))
	for k, c := range s.who {
		who[k] = c.Contestant
	}
	var err error
	s.samples, err = bench.Bootstrap(ctx, s.m, who, s.o.bootstrap())
	return err
}

func (s *study) header(t *datasets.Table) Header {
	m := s.m
	h := Header{
		Table: t.Name, SHA256: t.SHA256, Prompts: m.N(), Tasks: len(m.TaskNames()), Pool: s.o.Pool, Arms: m.Arms, Left: m.Left,
		UnknownCosts: Num(float64(m.Left.UnknownCosts) / float64(m.Left.Cells)), Priced: m.Priced(), Folds: m.Folds,
		LeaveTaskOut: s.o.LeaveTaskOut, Seed: s.o.Seed, Resamples: s.samples.Len(), Prices: s.o.Prices, Volume: s.o.Volume,
		Artifacts: s.o.Artifacts, Command: s.o.Command,
	}
	return h
}

// ArmRow is one constant: what always choosing an arm costs and achieves.
type ArmRow struct {
	Arm   catalog.ArmID `json:"arm"`
	Score Num           `json:"score"`
	Cost  Num           `json:"cost_usd"`
}

func (s *study) arms() []ArmRow {
	var out []ArmRow
	for j, p := range s.m.Constants(nil) {
		out = append(out, ArmRow{s.m.Arms[j], Num(p.Score), Num(p.Cost)})
	}
	slices.SortStableFunc(out, func(a, b ArmRow) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Cost, b.Cost))
	})
	return out
}

// curves are the lines of the picture; there is none without costs.
func (s *study) curves() []Curve {
	if !s.m.Priced() {
		return nil
	}
	var out []Curve
	for _, c := range s.who {
		points := c.Trace.Curve(nil)
		switch c.kind {
		case KindConstant:
			continue
		case KindZero:
			points = s.m.Constants(nil)
		}
		out = append(out, Curve{c.Trace.Name, c.kind, points})
	}
	return out
}

// PairRow is a router between two arms.
type PairRow struct {
	Router string        `json:"router"`
	Strong catalog.ArmID `json:"strong"`
	Weak   catalog.ArmID `json:"weak"`
	APGR   Num           `json:"apgr"`
	CPT50  Num           `json:"cpt50"`
	CPT80  Num           `json:"cpt80"`
}

func (s *study) pairs() ([]PairRow, error) {
	pairs := s.o.Pairs
	if arms := s.arms(); len(pairs) == 0 && len(arms) == 2 && arms[0].Score > arms[1].Score {
		pairs = [][2]catalog.ArmID{{arms[0].Arm, arms[1].Arm}}
	}
	var out []PairRow
	for _, pair := range pairs {
		strong, weak := slices.Index(s.m.Arms, pair[0]), slices.Index(s.m.Arms, pair[1])
		if strong < 0 || weak < 0 {
			return nil, fmt.Errorf("evals: pair %s / %s is not in the pool", pair[0], pair[1])
		}
		for _, c := range s.who {
			if c.kind == KindConstant || c.kind == KindZero {
				continue
			}
			p, err := bench.NewPair(s.m, c.Trace.Predictions, strong, weak)
			if err != nil {
				return nil, fmt.Errorf("evals: pair: %w", err)
			}
			out = append(out, PairRow{c.Trace.Name, pair[0], pair[1], Num(p.APGR), Num(p.CPT50), Num(p.CPT80)})
		}
	}
	return out, nil
}
