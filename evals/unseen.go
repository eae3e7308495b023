package evals

import (
	"fmt"
	"strings"

	"github.com/tradewind-llm/tradewind/evals/bench"
)

// UnseenRow is what a router does at λ = 0 on tasks that it never saw, against the best single arm of the tasks that it
// did see: the choice of somebody without a router.
type UnseenRow struct {
	Router string `json:"router"`
	// Lead is the difference in score to that arm, paired; Deviates the share of prompts that go to another one.
	Lead     Interval `json:"lead"`
	Deviates Num      `json:"deviates"`
	// Worse are the tasks of at least bench.TaskMin prompts whose difference is below 0 with its whole 95 % interval.
	Worse []string `json:"worse,omitempty"`
}

// unseen has a row for every router judged where the folds are tasks.
func (s *study) unseen(tasks []TaskRow) []UnseenRow {
	if !s.o.LeaveTaskOut {
		return nil
	}
	var out []UnseenRow
	constant := s.who[0].Trace.Choices(0)
	for _, k := range s.judged() {
		r := UnseenRow{Router: s.who[k].Trace.Name, Lead: interval(s.samples.Difference(k, 0, bench.StatScore))}
		for i, j := range s.who[k].Trace.Choices(0) {
			if j != constant[i] {
				r.Deviates += 1 / Num(len(constant))
			}
		}
		for _, t := range tasks {
			if t.Router == r.Router && t.Prompts >= bench.TaskMin && t.Lead+1.96*t.LeadSE < 0 {
				r.Worse = append(r.Worse, t.Task)
			}
		}
		out = append(out, r)
	}
	return out
}

func (r *Report) unseenTable() section {
	s := section{Title: "Unseen tasks", Lines: []string{fmt.Sprintf(
		"lead: the score at λ = 0 minus that of the best single arm of the tasks that were seen, paired, over all prompts. deviates: prompts that go to another arm. "+
			"worse: tasks of at least %d prompts whose lead is below 0 with its whole 95 %% interval.", bench.TaskMin)}}
	g := grid{Left: 1, Head: []string{"router", "lead", "deviates", "worse"}}
	for _, u := range r.Unseen {
		worse := "none"
		if len(u.Worse) > 0 {
			worse = strings.Join(u.Worse, ", ")
		}
		g.Rows = append(g.Rows, []string{u.Router, signedInterval(u.Lead), percentOf(u.Deviates), worse})
	}
	s.Tables = []grid{g}
	return s
}
