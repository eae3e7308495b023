package trainer

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// ArmSummary is what a table says of one arm. MeanCostUSD is nil where no cost is known. Where a log was learned from
// Score is the mean that the router estimates, since the prompts that an arm was seen on are not a fair sample; the cost
// is that of the prompts it was seen on.
type ArmSummary struct {
	Arm         catalog.ArmID `json:"arm"`
	Score       float64       `json:"score"`
	MeanCostUSD *float64      `json:"mean_cost_usd"`
}

// Summary is what a training run has to say.
type Summary struct {
	Out    string        `json:"out"`
	Digest models.Digest `json:"digest"`
	// Prompts and Rows (scored cells) are those of the table, Estimated where nobody counted the prompts (see
	// datasets.Origin). Fitted and FittedRows are those that weights were fitted on, and Held is the number of prompts
	// that the stack, the targets and the verdict rest on.
	Prompts    int  `json:"prompts"`
	Estimated  bool `json:"prompts_estimated,omitempty"`
	Rows       int  `json:"rows"`
	Fitted     int  `json:"fitted_prompts"`
	FittedRows int  `json:"fitted_rows"`
	Held       int  `json:"held_out_prompts"`
	Tasks      int  `json:"tasks"`
	Clusters   bool `json:"clusters"`
	// Arms are in the order of the mean score, the best first.
	Arms     []ArmSummary        `json:"arms"`
	Fallback catalog.ArmID       `json:"fallback"`
	Targets  []classifier.Target `json:"targets"`
	// Shift is the setting for traffic unlike the training rows.
	Shift classifier.Shift `json:"shift"`
	// Log accounts for the rounds and the feedback of the log, nil without one; Prior is the prompts of the prior table.
	Log   *reward.Counts `json:"log,omitempty"`
	Prior int            `json:"prior_prompts,omitempty"`
	// History is the number of teams whose own outcomes move the estimates.
	History int     `json:"teams_with_history,omitempty"`
	Verdict Verdict `json:"verdict"`
	// Took is the whole run, Fit the part up to the fitted model. RowsPerSecond is FittedRows over Took.
	Took          time.Duration `json:"took_ns"`
	Fit           time.Duration `json:"fit_ns"`
	RowsPerSecond float64       `json:"rows_per_second"`
}

func summarize(o *Options, data *datasets.Table, m *classifier.Model, oof *OOF, v Verdict, digest models.Digest, fit, took time.Duration) *Summary {
	read := data.Source()
	s := &Summary{
		Out: o.Out, Digest: digest, Prompts: read.Prompts, Estimated: read.Estimated, Rows: read.Rows,
		Fitted: m.Router.Train.Prompts, FittedRows: m.Router.Train.Cells, Held: len(oof.Rows),
		Tasks: len(m.Router.Tasks), Clusters: m.Router.Clusters, Fallback: m.Router.Fallback, Targets: m.Router.Targets, Shift: m.Router.Shift,
		History: len(m.Router.Teams), Verdict: v, Took: took, Fit: fit,
	}
	s.RowsPerSecond = float64(s.FittedRows) / took.Seconds()
	score, cost := means(oof.Table)
	if o.Log != nil {
		s.Log, score = &o.Log.Counts, oof.meanQuality()
		if o.Prior != nil {
			s.Prior = o.Prior.Source().Prompts
		}
	}
	for j, a := range oof.Table.Arms {
		arm := ArmSummary{Arm: a, Score: score[j]}
		if cost[j] == cost[j] {
			arm.MeanCostUSD = &cost[j]
		}
		s.Arms = append(s.Arms, arm)
	}
	slices.SortStableFunc(s.Arms, func(a, b ArmSummary) int {
		if a.Score == b.Score && a.MeanCostUSD != nil && b.MeanCostUSD != nil {
			return cmp.Compare(*a.MeanCostUSD, *b.MeanCostUSD)
		}
		return cmp.Compare(b.Score, a.Score)
	})
	return s
}

// armsShown bounds the arms that WriteText lists.
const armsShown = 10

// WriteText writes the summary for people.
func (s *Summary) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Trained on %d prompts, %d scores, %d arms in %.1f s (%.0f scores/s).\n", s.Fitted, s.FittedRows, len(s.Arms), s.Took.Seconds(), s.RowsPerSecond)
	if s.Log != nil {
		fmt.Fprintf(&b, "%s\n", s.Log)
	}
	if s.Prior > 0 {
		fmt.Fprintf(&b, "A prior table of %d prompts fades as scores of the log come in.\n", s.Prior)
	}
	if s.Fitted < s.Prompts {
		about := ""
		if s.Estimated {
			about = "about "
		}
		fmt.Fprintf(&b, "They are a sample, by the hash of their ids, of %s%d prompts and %d scores.\n", about, s.Prompts, s.Rows)
	}
	kind := "tasks named by the table"
	if s.Clusters {
		kind = "clusters of similar prompts (the table names no tasks)"
	}
	fmt.Fprintf(&b, "It tells %d %s apart.\n\n", s.Tasks, kind)
	for k, a := range s.Arms[:min(armsShown, len(s.Arms))] {
		mark := ""
		if k == 0 {
			mark += "  best single arm"
			if s.Log != nil {
				mark += ", as estimated"
			}
		}
		if a.Arm == s.Fallback {
			mark += "  fallback"
		}
		fmt.Fprintf(&b, "  %-40s score %.4f  %s%s\n", a.Arm, a.Score, dollars(a.MeanCostUSD), mark)
	}
	if more := len(s.Arms) - armsShown; more > 0 {
		fmt.Fprintf(&b, "  and %d more\n", more)
	}
	fmt.Fprintf(&b, "\n%s\n", s.Verdict.String())
	for _, t := range s.Targets {
		if t.Strategy == "" {
			continue // prices for targets that somebody may set
		}
		claim := "a guess, not certified"
		if t.Certified {
			claim = "certified at 95 % confidence"
		}
		fmt.Fprintf(&b, "  %-9s lambda %-10.4g keeps %.0f %% of the fallback's score: %s\n", t.Strategy, t.Lambda, 100*t.Target, claim)
	}
	fmt.Fprintf(&b, "%s\n", shiftText(&s.Shift))
	if s.History > 0 {
		fmt.Fprintf(&b, "Teams differ: the estimates of %d teams are moved by what their own outcomes say.\n", s.History)
	}
	fmt.Fprintf(&b, "\nArtifact %s\n  in %s\n", s.Digest, s.Out)
	_, err := io.WriteString(w, b.String())
	return err
}

// shiftText says what the setting for shifting traffic does, and why.
func shiftText(s *classifier.Shift) string {
	what := fmt.Sprintf("%s serves unless another arm is cheaper", s.Anchor)
	if s.Follow {
		what = "similar tasks decide"
	}
	why := "tasks are too few or have no names to leave one out"
	if s.GainErr > 0 {
		why = fmt.Sprintf("left-out tasks, simulated: score %+.4f ± %.4f against the best single arm", s.Gain, s.GainErr)
	}
	return fmt.Sprintf("For shifting traffic: %s (%s).", what, why)
}

// String is the verdict in words.
func (v Verdict) String() string {
	if v.Reason != "" {
		return "No verdict: " + v.Reason + "."
	}
	if v.Measure == "SNIPS" {
		return v.onLog()
	}
	figures := fmt.Sprintf("%s gain %+.4f, 95 %% interval %+.4f to %+.4f, on %d held-out prompts; best single arm %.4f, router at best quality %.4f",
		v.Measure, v.Gain, v.GainLow, v.GainHigh, v.Prompts, v.ScoreOfBestArm, v.ScoreAtBest)
	if v.Routes {
		return "Routing beats single arms here: " + figures + "."
	}
	return "Do not route: nothing shows that routing beats single arms here. " + figures + "."
}

// onLog is the verdict in words where a log was judged.
func (v Verdict) onLog() string {
	figures := fmt.Sprintf("quality %+.4f, 95 %% interval %+.4f to %+.4f (SNIPS at best quality %.4f against %.4f, effective sample size %.0f of %d draws with feedback)",
		v.Gain, v.GainLow, v.GainHigh, v.ScoreAtBest, v.ScoreOfIncumbent, v.ESS, v.Prompts)
	if v.Routes {
		return "The new router beats what the log's routers preferred: " + figures + "."
	}
	return "Do not promote on this evidence: nothing shows that the new router beats what the log's routers preferred. " + figures + "."
}

func dollars(usd *float64) string {
	if usd == nil {
		return "cost unknown"
	}
	return fmt.Sprintf("$%.6f a prompt", *usd)
}
