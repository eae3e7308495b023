package trainer

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

func TestFindYoung(t *testing.T) {
	for _, c := range []struct {
		scores []int
		want   []bool
	}{
		{[]int{1000, 50, 1000}, []bool{false, true, false}},
		{[]int{50, 50, 60}, []bool{false, false, false}},       // a small table is no newcomer
		{[]int{100_000, 301, 300}, []bool{false, false, true}}, // enough to stand on its own
		{[]int{400, 100, 99}, []bool{false, false, true}},      // a quarter of the most is not few
	} {
		table := datasets.NewTable(make([]catalog.ArmID, len(c.scores)), slices.Max(c.scores))
		for at := range table.Score {
			if at/len(c.scores) < c.scores[at%len(c.scores)] {
				table.Score[at] = 1
			}
		}
		if got := findYoung(table, nil); !slices.Equal(got, c.want) {
			t.Errorf("%v scores: got %v, want %v", c.scores, got, c.want)
		}
	}
}

// TestYoungArm gives an arm 40 scores on prompts that were easy for the others, on which it looks better than it is. Its
// estimate must see through that, and its lengths must follow the tasks; it is neither fallback nor anchor.
func TestYoungArm(t *testing.T) {
	table := world(t, simulate.Options{Seed: 5, Arms: 4}).Table(1200)
	arms := len(table.Arms)
	young := 0 // the best arm
	score, _ := means(table)
	for j := range score {
		if score[j] > score[young] {
			young = j
		}
	}
	tokens := slices.Clone(table.Output)
	left, sum := 40, 0.0
	for i := range table.Prompts {
		others := float32(0)
		for j := range arms {
			if j != young {
				others += table.Score[table.At(i, j)] / float32(arms-1)
			}
		}
		if at := table.At(i, young); others > 0.6 && left > 0 {
			left--
			sum += float64(table.Score[at]) / 40
		} else {
			table.Score[at], table.Output[at] = nan, nan
		}
	}
	m, _, err := Fit(context.Background(), table, FitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Router.Fallback == table.Arms[young] || m.Router.Shift.Anchor == table.Arms[young] {
		t.Errorf("an arm of 40 scores became fallback %s or anchor %s", m.Router.Fallback, m.Router.Shift.Anchor)
	}
	got := m.Tables.Mean.Data[young]
	t.Logf("plain mean of 40 easy prompts %.3f, estimated %.3f, true %.3f", sum, got, score[young])
	if !(math.Abs(got-score[young]) < math.Abs(sum-score[young])) || got >= sum {
		t.Errorf("got the mean %.3f, the easy prompts say %.3f, true is %.3f", got, sum, score[young])
	}
	for k, name := range m.Router.Tasks {
		n, sum := 0.0, 0.0
		for i := range table.Prompts {
			if table.Prompts[i].Dataset == name {
				n, sum = n+1, sum+math.Log(float64(tokens[table.At(i, young)]))
			}
		}
		if off := m.Tables.TokenTask.Row(k)[young] - sum/n; n >= 20 && math.Abs(off) > 0.7 {
			t.Errorf("task %s: expected log tokens are off by %.2f", name, off)
		}
	}
	if _, err := classifier.New(m); err != nil {
		t.Error(err)
	}
}

// TestNewcomers: an arm that is worth a lot must be found by few scores.
func TestNewcomers(t *testing.T) {
	table := world(t, simulate.Options{Seed: 5, Arms: 4}).Table(400)
	got, err := Newcomers(context.Background(), table, NewcomersOptions{Labels: 40, Draws: 3})
	if err != nil {
		t.Fatal(err)
	}
	best := &got[0]
	for j := range got {
		n := &got[j]
		t.Logf("%s: %+.4f with all scores, %+.4f with 40", n.Arm, n.Full, n.Gains)
		if len(n.Gains) != 3 || n.Gains[0] == n.Gains[1] && n.Gains[1] == n.Gains[2] {
			t.Errorf("%s: three draws gained %v", n.Arm, n.Gains)
		}
		if n.Full > best.Full {
			best = n
		}
	}
	if best.Full < 0.01 || best.Mean() < best.Full/4 || best.Mean() > best.Full+0.02 {
		t.Errorf("%s adds %.4f with all scores and %.4f with 40", best.Arm, best.Full, best.Mean())
	}
	for name, o := range map[string]NewcomersOptions{"no labels": {Draws: 1}, "too many": {Labels: youngScoresMax + 1, Draws: 1}, "no draws": {Labels: 50}} {
		if _, err := Newcomers(context.Background(), table, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for at := range table.Cost {
		table.Cost[at] = datasets.Unpriced
	}
	if _, err := Newcomers(context.Background(), table, NewcomersOptions{Labels: 40, Draws: 1}); err == nil {
		t.Error("without costs: no error")
	}
}
