package evals

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/evals/bench"
)

// A section is a heading with sentences and tables: what the text, Markdown and HTML forms have in common.
type section struct {
	Title  string
	Lines  []string
	Tables []grid
}

// grid is a table of strings; the first Left columns are names, the others numbers. The columns in Wrap hold sentences.
type grid struct {
	Caption string
	Left    int
	Wrap    []int
	Head    []string
	Rows    [][]string
}

func (r *Report) sections() []section {
	out := []section{r.about(), r.routers()}
	if r.Header.Priced {
		out = append(out, r.matched(), r.points())
	}
	if len(r.Cascades) > 0 {
		out = append(out, r.cascadeTable())
	}
	if len(r.Pairs) > 0 {
		out = append(out, r.pairTable())
	}
	if len(r.Unseen) > 0 {
		out = append(out, r.unseenTable())
	}
	if len(r.Guarantees) > 0 {
		out = append(out, r.evidence())
	}
	if len(r.Bill) > 0 {
		out = append(out, r.billTable())
	}
	if len(r.Examples) > 0 {
		out = append(out, r.exampleTable())
	}
	return append(out, r.taskTables(), r.calibrationTables(), r.constantTable())
}

func (r *Report) about() section {
	h := &r.Header
	s := section{Title: "What was measured"}
	add := func(name, value string) {
		if value != "" {
			s.Lines = append(s.Lines, name+": "+value)
		}
	}
	add("table", h.Table)
	add("SHA-256", h.SHA256)
	add("prompts", fmt.Sprintf("%d in %d tasks (%d in the table)", h.Prompts, h.Tasks, h.Left.Prompts))
	add("pool", strings.TrimSpace(fmt.Sprintf("%s %d arms", h.Pool, len(h.Arms))))
	add("prices", h.Prices)
	add("unknown costs", fmt.Sprintf("%d of %d cells (%s)", h.Left.UnknownCosts, h.Left.Cells, percentOf(h.UnknownCosts)))
	rule := "by SHA-256 of the prompt id, or as the predictions say"
	if h.LeaveTaskOut {
		rule = "one task each"
	}
	add("folds", fmt.Sprintf("%d, %s", h.Folds, rule))
	add("intervals", fmt.Sprintf("95 %%, bootstrap over prompts, %d resamples, seed %d", h.Resamples, h.Seed))
	for _, a := range h.Artifacts {
		add("artifact", a)
	}
	add("command", h.Command)
	return s
}

func (r *Report) routers() section {
	s := section{Title: "Routers", Lines: []string{
		"score: mean score where quality alone counts (λ = 0), in parentheses its mean over tasks; lead: score minus that of the best constant, paired, ± standard error. " +
			"own − zero: area under the router's own cost–quality curve minus that of cost-matched random mixes of constants; below 0 it is worse than no router. " +
			"AIQ may lean on the constants. over length, over label: AIQ-own minus that of the baseline. Baselines are fitted on the other folds.",
	}}
	g := grid{Left: 1, Head: []string{"router", "score", "lead ± s.e.", "AIQ", "AIQ-own", "own − zero", "over length", "over label", "within tasks"}}
	if !r.Header.Priced {
		s.Lines = []string{"score: mean score, in parentheses its mean over tasks; lead: score minus that of the best constant, paired, with its interval and standard error. Costs are unknown, so there is nothing else to compare."}
		g.Head = []string{"router", "score", "lead", "s.e.", "over length", "over label"}
	}
	for i := range r.Routers {
		w := &r.Routers[i]
		row := []string{w.Name, decimal(w.Score.Value) + " (" + decimal(w.Macro) + ")"}
		if r.Header.Priced {
			row = append(row, plusMinus(w.Lead.Value, w.LeadSE), decimal(w.AIQ.Value), decimal(w.Own.Value), signedInterval(w.Gain))
			row = append(row, signedInterval(w.OverLength), signedInterval(w.OverLabel), signed(w.Within))
		} else {
			row = append(row, signedInterval(w.Lead), decimal(w.LeadSE), signedInterval(w.OverLength), signedInterval(w.OverLabel))
		}
		g.Rows = append(g.Rows, row)
	}
	s.Tables = []grid{g}
	return s
}

func (r *Report) matched() section {
	s := section{Title: "Score at the cost of the best constant", Lines: []string{
		"The score on the hull of the router and all constants at a share of the best constant's cost; then the cost, as a share, that reaches its score or 95 % of it. " +
			"best gain and cost saved look at the router's own configurations. All of this is read off the curve in hindsight: the next table is not.",
	}}
	g := grid{Left: 1, Head: []string{"router"}}
	for _, share := range bench.MatchShares {
		g.Head = append(g.Head, "at "+percentOf(Num(share)))
	}
	g.Head = append(g.Head, "cost to match", "cost to 95 %", "best gain", "cost saved")
	for i := range r.Routers {
		w := &r.Routers[i]
		if w.Matched == nil {
			continue
		}
		row := []string{w.Name}
		for _, v := range w.Matched {
			row = append(row, decimal(v))
		}
		saved := percentOf(w.CostSave)
		if w.Kind != KindZero && !w.CostSave.Known() {
			saved = "never"
		}
		g.Rows = append(g.Rows, append(row, percentOf(w.CostToMatch), percentOf(w.CostTo95), percentOf(w.PerfGain), saved))
	}
	s.Tables = []grid{g}
	return s
}

func (r *Report) points() section {
	s := section{Title: "Operating points chosen on other folds", Lines: []string{
		"t100 and t95 are the cheapest settings that reach 100 % and 95 % of the best single arm on the rows of the other folds; score and cost are what they then achieve, as shares of the best constant. " +
			"Arena is the RouterArena score of the point.",
	}}
	points := grid{Left: 2, Head: []string{"router", "point", "score %", "cost %", "lead ± s.e.", "score", "by task", "USD / 1,000", "Arena"}}
	shares := grid{Caption: "Share of each arm at t100", Left: 1, Head: []string{"router"}}
	for i := range r.Routers {
		w := &r.Routers[i]
		for _, p := range []*PointRow{w.T100, w.T95} {
			if p == nil {
				continue
			}
			points.Rows = append(points.Rows, []string{
				w.Name, "t" + strconv.Itoa(int(100*p.Target+.5)), percentInterval(p.RelScore), percentInterval(p.RelCost),
				plusMinus(p.Lead.Value, p.LeadSE), decimal(p.Score), decimal(p.Macro), dollars(1000 * p.Cost), decimal(p.Arena),
			})
		}
		if w.T100 == nil {
			continue
		}
		row := []string{w.Name}
		for j, share := range w.T100.Shares {
			if len(shares.Rows) == 0 {
				shares.Head = append(shares.Head, r.Header.Arms[j].Model())
			}
			row = append(row, percentOf(share.Share))
		}
		shares.Rows = append(shares.Rows, row)
	}
	s.Tables = []grid{points, shares}
	return s
}

func (r *Report) pairTable() section {
	s := section{Title: "Two arms", Lines: []string{
		"APGR: area under the share of the gap that is recovered as prompts move to the strong arm, most gain first (random 0.5). CPT: share of prompts that must move to recover 50 or 80 % of the gap. Never compare across pairs.",
	}}
	g := grid{Left: 3, Head: []string{"router", "strong", "weak", "APGR", "CPT50", "CPT80"}}
	for _, p := range r.Pairs {
		g.Rows = append(g.Rows, []string{p.Router, string(p.Strong), string(p.Weak), decimal(p.APGR), percentOf(p.CPT50), percentOf(p.CPT80)})
	}
	s.Tables = []grid{g}
	return s
}

func (r *Report) taskTables() section {
	s := section{Title: "Tasks", Lines: []string{
		"fallback: the best constant as the training rows of each fold see it; lead: the router's score at λ = 0 minus that, paired. best arm: in hindsight, within the task. " +
			"within: AIQ-own minus the zero router's AIQ inside the task, for tasks of at least " + strconv.Itoa(bench.TaskMin) + " prompts.",
	}}
	for _, t := range r.Tasks {
		if k := len(s.Tables) - 1; k < 0 || s.Tables[k].Caption != t.Router {
			s.Tables = append(s.Tables, grid{Caption: t.Router, Left: 1, Head: []string{
				"task", "prompts", "best arm", "its score", "fallback", "λ = 0", "lead ± s.e.", "t100", "t100 cost %", "within"}})
		}
		g := &s.Tables[len(s.Tables)-1]
		g.Rows = append(g.Rows, []string{
			t.Task, strconv.Itoa(t.Prompts), t.Best.Model(), decimal(t.BestScore), decimal(t.Fallback), decimal(t.Score),
			plusMinus(t.Lead, t.LeadSE), decimal(t.T100), percentOf(t.RelCost), signed(t.Gain),
		})
	}
	return s
}

func (r *Report) calibrationTables() section {
	s := section{Title: "Calibration and tokens", Lines: []string{
		"ECE: expected calibration error over 15 equal-count bins; chance: what a perfectly calibrated predictor would show here; excess: the difference, the number to look at. " +
			"log-token error: root mean squared error of the natural logarithm of output tokens, beside length bins and the arm's mean.",
	}}
	g := grid{Left: 2, Head: []string{"router", "arm", "ECE", "chance", "excess", "Brier"}}
	for _, c := range r.Calibration {
		g.Rows = append(g.Rows, []string{c.Router, string(c.Arm), decimal(c.ECE), decimal(c.Chance), signed(c.Excess), decimal(c.Brier)})
	}
	k := grid{Left: 2, Head: []string{"router", "arm", "log-token error", "length", "mean", "prompts"}}
	for _, t := range r.Tokens {
		k.Rows = append(k.Rows, []string{t.Router, string(t.Arm), decimal(t.RMSE), decimal(t.Length), decimal(t.Mean), strconv.Itoa(t.Prompts)})
	}
	for _, w := range r.Routers {
		if w.ECEExcess.Known() {
			g.Rows = append(g.Rows, []string{w.Name, "mean over arms", unknown, unknown, signed(w.ECEExcess), unknown})
		}
		if w.TokensRMSE.Known() {
			k.Rows = append(k.Rows, []string{w.Name, "mean over arms", decimal(w.TokensRMSE), unknown, unknown, unknown})
		}
	}
	for _, t := range []grid{g, k} {
		if len(t.Rows) > 0 {
			s.Tables = append(s.Tables, t)
		}
	}
	if len(s.Tables) == 0 {
		s.Lines = []string{"The predictions hold neither calibrated qualities nor output tokens."}
	}
	return s
}

func (r *Report) constantTable() section {
	g := grid{Left: 1, Head: []string{"arm", "score", "USD / 1,000"}}
	for _, a := range r.Arms {
		g.Rows = append(g.Rows, []string{string(a.Arm), decimal(a.Score), dollars(1000 * a.Cost)})
	}
	return section{Title: "Arms", Lines: []string{"Always choosing one arm."}, Tables: []grid{g}}
}

// unknown stands for a number that is not there.
const unknown = "–"

func decimal(n Num) string { return format(n, "%.4f", 1) }

// signed saves the zero before the point: differences are small and stand three to a cell.
func signed(n Num) string { return strings.Replace(format(n, "%+.4f", 1), "0.", ".", 1) }

func plusMinus(n, se Num) string { return signed(n) + " ± " + strings.TrimPrefix(decimal(se), "0") }

func percentOf(n Num) string {
	if v := 100 * float64(n); v > -9.95 && v < 9.95 {
		return format(n, "%.1f %%", 100)
	}
	return format(n, "%.0f %%", 100)
}

func dollars(n Num) string { return format(n, "%.4g", 1) }

func format(n Num, verb string, scale float64) string {
	if !n.Known() {
		return unknown
	}
	return fmt.Sprintf(verb, scale*float64(n))
}

func signedInterval(v Interval) string {
	if !v.Value.Known() {
		return unknown
	}
	return signed(v.Value) + " [" + signed(v.Low) + ", " + signed(v.High) + "]"
}

func percentInterval(v Interval) string {
	if !v.Value.Known() {
		return unknown
	}
	return fmt.Sprintf("%.1f [%.1f, %.1f]", 100*v.Value, 100*v.Low, 100*v.High)
}
