package evals

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// exampleTextMax is how much of a prompt an example shows, in runes.
const exampleTextMax = 160

// Example is one decision of a router at its t100 point (λ = 0 where there is none), beside the best constant on the same
// prompt, with what both really achieved.
type Example struct {
	Router string `json:"router"`
	// What says why it is shown: a saving, a gain, a loss, or a prompt that stays with the best constant.
	What   string        `json:"what"`
	Task   string        `json:"task"`
	Prompt string        `json:"prompt"`
	Arm    catalog.ArmID `json:"arm"`
	Best   catalog.ArmID `json:"best_constant"`
	// Reason is the decision in words, Outcome what came of it.
	Reason  string `json:"reason"`
	Outcome string `json:"outcome"`
}

// kindsOfExample are shown in this order, two of each where there are two, from different tasks where there are.
var kindsOfExample = [...]string{"saves", "gains", "loses", "stays"}

const examplesOfKind = 2

// examples picks decisions of the first router judged: the clearest of each kind, good and bad alike.
func (s *study) examples(t *datasets.Table) []Example {
	k := s.judged()[0]
	c := &s.who[k]
	choice := c.Trace.Choices(0)
	if c.T100 != nil {
		choice = c.T100.Choice
	}
	best := bench.Best(s.m.Constants(nil))
	found := map[string][]int{}
	weight := make([]float64, s.m.N())
	for i, j := range choice {
		kind, by := s.kindOfExample(c, i, j, best)
		found[kind], weight[i] = append(found[kind], i), by
	}
	var out []Example
	for _, kind := range kindsOfExample {
		slices.SortStableFunc(found[kind], func(a, b int) int { return cmp.Compare(weight[b], weight[a]) })
		for _, i := range s.ofDifferentTasks(found[kind]) {
			out = append(out, s.example(t, c, kind, i, choice[i], best))
		}
	}
	return out
}

// ofDifferentTasks is the first prompts of an order, each of another task as long as there are any.
func (s *study) ofDifferentTasks(order []int) (picked []int) {
	tasks := map[string]bool{}
	for _, fresh := range []bool{true, false} {
		for _, i := range order {
			if len(picked) < examplesOfKind && tasks[s.m.Tasks[i]] != fresh && !slices.Contains(picked, i) {
				tasks[s.m.Tasks[i]] = true
				picked = append(picked, i)
			}
		}
	}
	return picked
}

// kindOfExample says what a decision was worth, and how clear a case it is.
func (s *study) kindOfExample(c *contender, i, j, best int) (string, float64) {
	row := i * len(s.m.Arms)
	score := s.m.Score[row+j] - s.m.Score[row+best]
	p := c.Trace.Predictions
	lead := p.Score[row+j] - p.Score[row+best]
	switch {
	case j == best:
		others := slices.Clone(p.Score[row : row+len(s.m.Arms)])
		others[best] = -1
		return "stays", p.Score[row+best] - slices.Max(others)
	case score > 0:
		return "gains", lead
	case score < 0:
		return "loses", lead
	case s.m.Priced() && s.m.Score[row+j] > 0:
		return "saves", s.m.Cost[row+best] - s.m.Cost[row+j]
	}
	return "", 0
}

func (s *study) example(t *datasets.Table, c *contender, kind string, i, j, best int) Example {
	row, p := i*len(s.m.Arms), c.Trace.Predictions
	e := Example{Router: c.Trace.Name, What: kind, Task: s.m.Tasks[i], Arm: s.m.Arms[j], Best: s.m.Arms[best], Prompt: oneLine(t.Prompts[s.m.Rows[i]].Text)}
	e.Reason = fmt.Sprintf("score %s against %s", decimal(Num(p.Score[row+j])), decimal(Num(p.Score[row+best])))
	e.Outcome = fmt.Sprintf("%s against %s", decimal(Num(s.m.Score[row+j])), decimal(Num(s.m.Score[row+best])))
	if s.m.Priced() && p.CostUSD != nil {
		e.Reason += fmt.Sprintf(", forecast %s against %s dollars", dollars(Num(p.CostUSD[row+j])), dollars(Num(p.CostUSD[row+best])))
		e.Outcome += fmt.Sprintf(", for %s against %s dollars", dollars(Num(s.m.Cost[row+j])), dollars(Num(s.m.Cost[row+best])))
	}
	return e
}

// oneLine is the end of a prompt, where most ask what they ask, on one line.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if runes := []rune(text); len(runes) > exampleTextMax {
		return "…" + string(runes[len(runes)-exampleTextMax:])
	}
	return text
}

func (r *Report) exampleTable() section {
	s := section{Title: "Decisions", Lines: []string{
		"Some decisions of " + r.Examples[0].Router + " beside the best constant, " + string(r.Examples[0].Best) + ": what it expected, and what both then achieved. The clearest of each kind, good and bad alike.",
	}}
	g := grid{Left: 6, Wrap: []int{2, 4, 5}, Head: []string{"", "task", "prompt", "chosen", "expected", "came of it"}}
	for _, e := range r.Examples {
		g.Rows = append(g.Rows, []string{e.What, e.Task, e.Prompt, string(e.Arm), e.Reason, e.Outcome})
	}
	s.Tables = []grid{g}
	return s
}
