package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/tradewind-llm/tradewind/evals/bench"
)

const (
	verdictResamples = 300
	// verdictPromptsMin is the least number of prompts that a verdict is given on.
	verdictPromptsMin = 100
)

// Verdict says whether routing is worth it on this table, by out-of-fold predictions: the router that is judged did not
// see the prompts that it is judged on.
type Verdict struct {
	// Routes is true where the lower bound of the gain is above 0: then routing is better than the best that constants
	// can do, and otherwise the advice is not to route.
	Routes bool `json:"routes"`
	// Measure names the gain: "AIQ" over cost-matched mixes of single arms where costs are known, else "score" over the
	// best single arm. On a log it is "SNIPS", the gain in quality at λ = 0 over what the logging policies preferred.
	Measure  string  `json:"measure,omitempty"`
	Gain     float64 `json:"gain"`
	GainLow  float64 `json:"gain_low"`
	GainHigh float64 `json:"gain_high"`
	Prompts  int     `json:"prompts"`
	// ScoreAtBest is the router's mean score at λ = 0.
	ScoreAtBest    float64 `json:"score_at_best"`
	ScoreOfBestArm float64 `json:"score_of_best_arm"`
	// ScoreOfIncumbent and ESS, the effective sample size, are those of a log, whose single arms nobody compared.
	ScoreOfIncumbent float64 `json:"score_of_incumbent,omitempty"`
	ESS              float64 `json:"ess,omitempty"`
	// Reason is why no verdict was possible, else empty.
	Reason string `json:"reason,omitempty"`
}

// judge compares the out-of-fold router with every constant.
func judge(ctx context.Context, o *OOF, seed int64) (Verdict, error) {
	if o.seen != nil {
		return judgeLog(o), nil
	}
	t := o.Table.Subset(o.Rows)
	one := make([]int, len(o.Rows))
	m, err := bench.NewMatrix(t, nil, one)
	if errors.Is(err, bench.ErrSparse) || err == nil && m.N() < verdictPromptsMin {
		return Verdict{Reason: "too few prompts were scored for every arm to compare routing with single arms"}, nil
	}
	if err != nil {
		return Verdict{}, fmt.Errorf("trainer: judging: %w", err)
	}
	aligned, err := m.Align(&bench.Predictions{Name: "router", Arms: t.Arms, Score: o.Score, CostUSD: o.CostUSD})
	if err != nil {
		return Verdict{}, fmt.Errorf("trainer: judging: %w", err)
	}
	trace, err := bench.NewTrace(m, aligned)
	if err != nil {
		return Verdict{}, fmt.Errorf("trainer: judging: %w", err)
	}
	samples, err := bench.Bootstrap(ctx, m, []bench.Contestant{{Trace: trace}}, bench.BootstrapOptions{Resamples: verdictResamples, Seed: uint64(seed)})
	if err != nil {
		return Verdict{}, fmt.Errorf("trainer: judging: %w", err)
	}
	constants := m.Constants(nil)
	v := Verdict{Measure: "AIQ", Prompts: m.N(), ScoreAtBest: trace.Curve(nil)[0].Score, ScoreOfBestArm: constants[bench.Best(constants)].Score}
	gain := samples.Estimate(0, bench.StatGain)
	if !m.Priced() || math.IsNaN(gain.Value) {
		v.Measure, gain = "score", samples.Estimate(0, bench.StatLead)
	}
	v.Gain, v.GainLow, v.GainHigh = gain.Value, gain.Low, gain.High
	v.Routes = gain.Low > 0
	return v, nil
}
