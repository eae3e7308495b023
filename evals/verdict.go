package evals

import (
	"fmt"
	"math"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/tradewind-llm/tradewind/evals/bench"
)

// verdict says in one sentence whether to route. A router routes where its whole curve beats every mix of constants
// (lower bound of own − zero above 0) or where quality alone does (lower bound of the paired lead over the best constant
// above 0). A negative verdict is as good an answer as a positive one.
func verdict(r *Report) Verdict {
	best := r.Arms[0].Arm
	v := Verdict{Notes: notes(r)}
	row := champion(r)
	if row == nil {
		v.Text = "no router was judged: these are the baselines that one has to beat"
		return v
	}
	byCurve, byScore := row.Gain.Low > 0, row.Lead.Low > 0
	v.Routes = byCurve || byScore
	if tasks := worthwhile(r, row.Name); !v.Routes && len(tasks) > 0 {
		v.Router, v.Tasks = row.Name, tasks
		v.Text = fmt.Sprintf("route only these tasks: %s; on them %s scores higher than the best constant, over all prompts it does not pay (%s)",
			strings.Join(tasks, ", "), row.Name, signedInterval(row.Lead))
		return v
	}
	if !v.Routes {
		v.Text = fmt.Sprintf("do not route: no router beats the constant %s here", best)
		if row.Gain.Value.Known() {
			v.Text += fmt.Sprintf(" (%s: AIQ-own minus zero router %s)", row.Name, signedInterval(row.Gain))
		} else {
			v.Text += fmt.Sprintf(" (%s: score minus that of the constant %s)", row.Name, signedInterval(row.Lead))
		}
		return v
	}
	v.Router = row.Name
	switch {
	case byCurve:
		v.Text = fmt.Sprintf("routes: %s beats every mix of constants (AIQ-own minus zero router %s)", row.Name, signedInterval(row.Gain))
	default:
		v.Text = fmt.Sprintf("routes: %s scores higher than the constant %s (difference %s)", row.Name, best, signedInterval(row.Lead))
	}
	if p := row.T100; p != nil && p.RelCost.Value.Known() {
		v.Text += fmt.Sprintf("; set to match %s on other prompts, it achieves %s %% of its score at %s %% of its cost",
			best, percentInterval(p.RelScore), percentInterval(p.RelCost))
	}
	if row.OverLength.Value.Known() && !(row.OverLength.Low > 0) {
		v.Notes = append([]string{fmt.Sprintf("%s is not clearly better than prompt length alone (difference %s)", row.Name, signedInterval(row.OverLength))}, v.Notes...)
	}
	return v
}

// worthwhile are the tasks on which a router's score, at λ = 0, is above that of the fallback that its training rows would
// have named: by a one-sided test at 2.5 % over all tasks together (Bonferroni), so that many tasks do not find one by luck.
func worthwhile(r *Report, router string) (tasks []string) {
	tested := 0
	for _, t := range r.Tasks {
		if t.Router == router && t.Prompts >= bench.TaskMin {
			tested++
		}
	}
	if tested == 0 {
		return nil
	}
	z := distuv.UnitNormal.Quantile(1 - 0.025/float64(tested))
	for _, t := range r.Tasks {
		if t.Router == router && t.Prompts >= bench.TaskMin && float64(t.Lead)-z*float64(t.LeadSE) > 0 {
			tasks = append(tasks, t.Task)
		}
	}
	return tasks
}

// clearly is how much higher a later router's bound must be: settings of one router differ by less, and the first is the
// default.
const clearly = 0.001

// champion is the router with the highest lower bound: of the gain where costs are known, of the lead where they are not.
func champion(r *Report) *Row {
	var best *Row
	bound := func(row *Row) float64 {
		for _, low := range []Num{row.Gain.Low, row.Lead.Low} {
			if low.Known() {
				return float64(low)
			}
		}
		return math.Inf(-1)
	}
	for i := range r.Routers {
		if row := &r.Routers[i]; row.Kind == KindRouter && (best == nil || bound(row) > bound(best)+clearly) {
			best = row
		}
	}
	return best
}

// notes are the reservations that hold for every row of the report.
func notes(r *Report) []string {
	var out []string
	h := &r.Header
	if h.Left.Unscored > 0 {
		out = append(out, fmt.Sprintf("%d of %d prompts were left out: not every arm was scored on them", h.Left.Unscored, h.Left.Prompts))
	}
	if h.Left.Unpriced > 0 {
		out = append(out, fmt.Sprintf("%d prompts were left out: the cost of an arm is unknown on them", h.Left.Unpriced))
	}
	if !h.Priced {
		out = append(out, fmt.Sprintf("costs are unknown (%d of %d cells): there is no curve, only the best-quality choice is judged", h.Left.UnknownCosts, h.Left.Cells))
	}
	if h.LeaveTaskOut {
		out = append(out, "every task was held out as a whole: this is traffic unlike the training data")
	}
	return out
}
