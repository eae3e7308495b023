package trainer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// families is a table of eight tasks in two families of similar texts, where sure[k] is the arm that is good at task k.
func families(sure [8]int) *datasets.Table {
	rng := rand.New(rand.NewPCG(11, 3))
	t := datasets.NewTable([]catalog.ArmID{"sim/a", "sim/b"}, 800)
	for i := range t.Prompts {
		k := rng.IntN(8)
		words := []string{"sort the ledger of invoices by date", "translate this poem about the sea"}[k%2]
		t.Prompts[i] = datasets.Prompt{
			ID: fmt.Sprintf("p%d", i), Dataset: fmt.Sprintf("task %d", k),
			Text: fmt.Sprintf("%s. Variant %s%d.", words, strings.Repeat("x", k+1), rng.IntN(50)),
		}
		for j := range 2 {
			t.Score[t.At(i, j)] = 0
			if right := rng.Float64(); right < 0.3 || j == sure[k] && right < 0.9 {
				t.Score[t.At(i, j)] = 1
			}
		}
	}
	return t
}

// TestFollowOnlyWhatTransfers: the task mix is followed on unseen tasks where similar tasks have similar best arms, and
// not where what is similar says nothing.
func TestFollowOnlyWhatTransfers(t *testing.T) {
	for _, c := range []struct {
		name   string
		sure   [8]int
		follow bool
	}{
		{"similar tasks, the same arm", [8]int{0, 1, 0, 1, 0, 1, 0, 1}, true},
		{"similar tasks, another arm", [8]int{0, 1, 1, 1, 0, 1, 1, 1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, oof, err := Fit(context.Background(), families(c.sure), FitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			s := &m.Router.Shift
			if s.Follow != c.follow || s.GainErr <= 0 || s.Task <= 0 || s.Task > 1 {
				t.Errorf("got %+v, want follow %v", s, c.follow)
			}
			anchor := 0
			if m.Router.Arms[1] == s.Anchor {
				anchor = 1
			}
			above := 0
			for k := range oof.Rows {
				if oof.Shifted[2*k+1-anchor] > oof.Shifted[2*k+anchor] {
					above++
				}
			}
			if (above > 0) != c.follow {
				t.Errorf("%d of %d prompts leave the anchor", above, len(oof.Rows))
			}
		})
	}
}

func TestClustered(t *testing.T) {
	// Means of 0.1, 0.2 and 0.6 over tasks of 10, 10 and 20 prompts.
	mean, err, ok := clustered([]float64{10, 0, 10, 20}, []float64{1, 0, 2, 12})
	if want := math.Sqrt((2.75*2.75+1.75*1.75+4.5*4.5)*3/2) / 40; !ok || math.Abs(mean-0.375) > 1e-12 || math.Abs(err-want) > 1e-12 {
		t.Errorf("got %v ± %v, %v; want 0.375 ± %v", mean, err, ok, want)
	}
	if _, _, ok := clustered([]float64{10, 0, 10}, []float64{1, 0, 1}); ok {
		t.Error("two tasks are said to be enough")
	}
}
