package trainer

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/features"
)

// society is a log of several teams: of one the arm sim/strong is worse in every family than of the others.
type society struct {
	common, odd *simulate.World
	incumbent   *classifier.Classifier
}

func newSociety(t testing.TB, seed int64) *society {
	s := &society{common: world(t, simulate.Options{Seed: seed, Arms: 4}), odd: world(t, simulate.Options{Seed: seed, Arms: 4, DriftFrom: 1})}
	s.incumbent, _ = fitted(t, tableOf(s.common, incumbentFrom, 400), nil)
	return s
}

// play has n prompts of a team, from a number on.
func (s *society) play(t testing.TB, w *simulate.World, team string, from, n int64) []simulate.Logged {
	logged := played(t, w, simulate.RoundsOptions{From: from, N: n, Epsilon: .1, Estimate: estimator(s.incumbent)})
	for i := range logged {
		logged[i].Round.Decision.Team = team
	}
	return logged
}

// served is the mean true quality of what a router chooses for a team at the best quality, on prompts nobody learned from.
func served(w *simulate.World, c *classifier.Classifier, team classifier.Team) float64 {
	const judged = 4000
	place := map[string]int{}
	for a, id := range w.ArmIDs() {
		place[string(id)] = a
	}
	return sum(judged, 1, func(acc []float64, from, to int) {
		var x features.Context
		var e policy.Estimates
		for i := from; i < to; i++ {
			task := w.Sample(judgedFrom + int64(i))
			c.Extractor().Extract(&x, features.NewPrompt(task.Text))
			c.Estimate(&e, &x)
			c.Recall(&e, team)
			acc[0] += w.Expected(&task, place[string(c.Arms()[bench.Choose(e.Score, nil, 0)])])
		}
	})[0] / judged
}

// TestHistory: a team for which an arm is worse than for all others is served better by 2,000 own scores, the others lose
// nothing, and a team of five scores is where everybody is. TRADEWIND_LOG_WORLDS=21,22,31 with -v prints DESIGN.md's table.
func TestHistory(t *testing.T) {
	many, odd, few := classifier.TeamOf("sim", "many"), classifier.TeamOf("sim", "odd"), classifier.TeamOf("sim", "few")
	for _, seed := range numbers(t, logWorlds, "21") {
		s := newSociety(t, seed)
		log := append(s.play(t, s.common, "many", 0, 2000), s.play(t, s.odd, "odd", 2000, 2000)...)
		log = append(log, s.play(t, s.odd, "few", 4000, 5)...)
		table, seen, err := mix(scored(t, sealed(t, log)), nil)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := fitted(t, table, seen)
		for _, tt := range []struct {
			name  string
			w     *simulate.World
			team  classifier.Team
			least float64
		}{{"odd", s.odd, odd, .005}, {"many", s.common, many, 0}, {"few", s.odd, few, -.002}} {
			without, with := served(tt.w, c, 0), served(tt.w, c, tt.team)
			t.Logf("world %d, %-4s: quality %.4f without history, %.4f with", seed, tt.name, without, with)
			if with < without+tt.least {
				t.Errorf("world %d: team %s is served at %.4f with its history and at %.4f without, want at least %+.3f", seed, tt.name, with, without, tt.least)
			}
		}
		var e policy.Estimates
		e.Resize(len(c.Arms()))
		for _, d := range c.Recall(&e, few) {
			if math.Abs(d) > .02 {
				t.Errorf("world %d: five scores move a team by %v", seed, d)
			}
		}
		t.Logf("world %d: history of odd %.3f, of many %.3f, of few %.3f", seed, c.Recall(&e, odd), c.Recall(&e, many), c.Recall(&e, few))
	}
}

// TestHistoryOfAlikes: teams that do not differ have no history, and their router is the one that knows no teams, to the last
// byte.
func TestHistoryOfAlikes(t *testing.T) {
	s := newSociety(t, 22)
	var models [2]map[string][]byte
	for k, teams := range [][]string{{"a", "b", "c"}, {""}} {
		log := s.play(t, s.common, "", 0, 300)
		for i := range log {
			d := &log[i].Round.Decision
			if d.Team = teams[i%len(teams)]; d.Team == "" {
				d.Org = ""
			}
		}
		table, seen, err := mix(scored(t, sealed(t, log)), nil)
		if err != nil {
			t.Fatal(err)
		}
		c, oof := fitted(t, table, seen)
		if models[k], err = withGolden(c.Model(), oof); err != nil {
			t.Fatal(err)
		}
		if c.Remembers() {
			t.Errorf("%v: got a history of %d teams", teams, len(c.Model().Router.Teams))
		}
	}
	for name, want := range models[0] {
		if !bytes.Equal(models[1][name], want) {
			t.Errorf("section %s differs", name)
		}
	}
}

// TestPseudoCounts: the moments find the spread between teams that the draws were made with, and none where there is none.
func TestPseudoCounts(t *testing.T) {
	const teams, draws = 250, 150
	rng := rand.New(rand.NewPCG(3, 4))
	spreads := []float64{0, .01, .02, .035, .1}
	cells := make([]departed, teams*len(spreads))
	for at := range cells {
		mean := spreads[at%len(spreads)] * rng.NormFloat64()
		for range 1 + rng.IntN(2*draws) {
			v, c := mean+.4*rng.NormFloat64(), &cells[at]
			c.n, c.sum, c.square = c.n+1, c.sum+v, c.square+v*v
		}
	}
	variance := scatter(cells)
	if math.Abs(variance-.16) > .01 {
		t.Errorf("got variance %v, want .16", variance)
	}
	for j, spread := range spreads {
		prior, differ := pseudoCounts(cells, j, len(spreads), variance)
		if differ != (spread > .01) { // by which 250 teams of 150 draws cannot be told apart
			t.Errorf("spread %v: got %v, %v", spread, prior, differ)
		}
		if want := max(historyPriorMin, .16/spread/spread); differ && (prior < want/1.4 || prior > want*1.4) {
			t.Errorf("spread %v: got %v pseudo-counts, want about %v", spread, prior, want)
		}
	}
	if _, differ := pseudoCounts(cells[:len(spreads)], 4, len(spreads), variance); differ {
		t.Error("a team differs from itself")
	}
}
