package trainer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/features"
)

// The places of prompts in a world: what the incumbent learned from, what was logged, what is judged on.
const (
	incumbentFrom = 1_000_000
	judgedFrom    = 2_000_000
	judged        = 10_000
)

// fitted is a working router of a table and its evidence.
func fitted(t testing.TB, table *datasets.Table, seen *evidence) (*classifier.Classifier, *OOF) {
	t.Helper()
	m, oof, err := Fit(context.Background(), table, FitOptions{Seed: 1, seen: seen})
	if err != nil {
		t.Fatal(err)
	}
	c, err := classifier.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return c, oof
}

// tableOf is a full outcome table of some prompts of a world.
func tableOf(w *simulate.World, from, n int64) *datasets.Table {
	table := datasets.NewTable(w.ArmIDs(), int(n))
	table.Name = "simulated"
	for i := range int(n) {
		task := w.Sample(from + int64(i))
		table.Prompts[i] = datasets.Prompt{ID: task.ID, Text: task.Text}
		for a := range w.Arms() {
			o, at := w.Outcome(&task, a), table.At(i, a)
			table.Score[at], table.Cost[at] = float32(o.Score), o.Cost
			table.Input[at], table.Output[at] = float32(o.InputTokens), float32(o.OutputTokens)
		}
	}
	return table
}

// estimator is a router as the world's incumbent: estimates in the order of the world's arms.
func estimator(c *classifier.Classifier) func(*policy.Estimates, string) {
	var x features.Context
	return func(dst *policy.Estimates, text string) {
		c.Extractor().Extract(&x, features.NewPrompt(text))
		c.Estimate(dst, &x)
	}
}

// logOf plays a log and seals it.
func logOf(t testing.TB, w *simulate.World, o simulate.RoundsOptions) *datasets.Log {
	t.Helper()
	return sealed(t, played(t, w, o))
}

// played is what a log holds.
func played(t testing.TB, w *simulate.World, o simulate.RoundsOptions) []simulate.Logged {
	t.Helper()
	logged, err := w.Rounds(o)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(logged)
}

func sealed(t testing.TB, logged []simulate.Logged) *datasets.Log {
	t.Helper()
	l, err := datasets.OpenLog(t.TempDir(), datasets.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var rounds []datasets.Round
	var feedback []datasets.Feedback
	for _, r := range logged {
		rounds = append(rounds, r.Round)
		if r.Feedback != nil {
			feedback = append(feedback, *r.Feedback)
		}
	}
	if _, err := l.Seal(rounds); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SealFeedback(feedback); err != nil {
		t.Fatal(err)
	}
	return l
}

func scored(t testing.TB, l *datasets.Log) *reward.Result {
	t.Helper()
	r, err := reward.Apply(context.Background(), l, reward.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// trueQuality is the mean true quality of what a router chooses at the best quality, on prompts nobody learned from. What
// no text shows of them is averaged out.
func trueQuality(w *simulate.World, c *classifier.Classifier) float64 {
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
			acc[0] += w.Expected(&task, place[string(c.Arms()[bench.Choose(e.Score, nil, 0)])])
		}
	})[0] / judged
}

// logCurve names the numbers of rounds to draw the curve at, logWorlds the seeds of the worlds.
const logCurve, logWorlds = "TRADEWIND_LOG_CURVE", "TRADEWIND_LOG_WORLDS"

// numbers reads a list of numbers from the environment.
func numbers(t *testing.T, name, otherwise string) (list []int64) {
	t.Helper()
	for s := range strings.SplitSeq(cmp.Or(os.Getenv(name), otherwise), ",") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		list = append(list, n)
	}
	return list
}

// TestLogCurve: what a log with a tenth of exploration teaches, against the router that wrote it and against what the
// full table of the same prompts teaches. By default it is one small point. TRADEWIND_LOG_CURVE=1000,5000,20000 with -v
// prints the curve, in some minutes a world; from 20,000 rounds on the log must come within 2 points of the table.
func TestLogCurve(t *testing.T) {
	for _, seed := range numbers(t, logWorlds, "21") {
		w := world(t, simulate.Options{Seed: seed})
		table := tableOf(w, incumbentFrom, 400)
		incumbent, _ := fitted(t, table, nil)
		start := trueQuality(w, incumbent)
		t.Logf("%6s  %6s  %9s  %9s  %9s  %9s", "world", "rounds", "incumbent", "log", "log+prior", "table")
		for _, n := range numbers(t, logCurve, "600") {
			r := scored(t, logOf(t, w, simulate.RoundsOptions{N: n, Epsilon: 0.1, Estimate: estimator(incumbent)}))
			if r.Counts.Scored != int(n) {
				t.Fatalf("got %+v, want every round scored", r.Counts)
			}
			var quality [2]float64
			for k, prior := range []*datasets.Table{nil, table} {
				mixed, seen, err := mix(r, prior)
				if err != nil {
					t.Fatal(err)
				}
				c, _ := fitted(t, mixed, seen)
				quality[k] = trueQuality(w, c)
			}
			full, _ := fitted(t, tableOf(w, 0, n), nil)
			want := trueQuality(w, full)
			t.Logf("%6d  %6d  %9.4f  %9.4f  %9.4f  %9.4f", seed, n, start, quality[0], quality[1], want)
			if n >= 20_000 && quality[0] < want-0.02 {
				t.Errorf("%d rounds: got quality %.4f, want within 2 points of the table's %.4f", n, quality[0], want)
			}
			if quality[0] < start-0.02 {
				t.Errorf("%d rounds: got quality %.4f, want no loss against the incumbent's %.4f", n, quality[0], start)
			}
			if quality[1] < start+0.005 {
				t.Errorf("%d rounds and the incumbent's own table: got quality %.4f, want a gain over the incumbent's %.4f", n, quality[1], start)
			}
		}
	}
}

// TestRunOnLog trains on a log that keeps features and no text, half of it scored, with a prior that knows an arm more.
func TestRunOnLog(t *testing.T) {
	w := world(t, simulate.Options{Seed: 22, Arms: 4})
	table := tableOf(w, incumbentFrom, 200)
	incumbent, _ := fitted(t, table, nil)
	var x features.Context
	log := scored(t, logOf(t, w, simulate.RoundsOptions{
		N: 900, Epsilon: 0.5, Feedback: 0.5, Estimate: estimator(incumbent), SpecDigest: features.DefaultSpec().Digest(),
		Features: func(text string) []byte {
			incumbent.Extractor().Extract(&x, features.NewPrompt(text))
			return x.AppendBinary(nil)
		},
	}))
	digests := map[string]bool{}
	for _, prior := range []*datasets.Table{nil, table, table} {
		out := filepath.Join(t.TempDir(), "artifact")
		s, err := Run(context.Background(), Options{Log: log, Prior: prior, Out: out, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := classifier.Open(out); err != nil {
			t.Fatal(err)
		}
		digests[string(s.Digest)] = true
		if s.Log.Rounds != 900 || s.Log.Scored+s.Log.Dropped[reward.NoFeedback] != 900 || s.Verdict.Measure != "SNIPS" || s.Verdict.ESS < essMin {
			t.Errorf("got %+v", s)
		}
		for _, target := range s.Targets {
			if target.Certified {
				t.Errorf("got %+v certified: a log shows no pairs", target)
			}
		}
		var b strings.Builder
		if err := s.WriteText(&b); err != nil || !strings.Contains(b.String(), "no_feedback") || !strings.Contains(b.String(), "effective sample size") ||
			strings.Contains(b.String(), "prior table") != (prior != nil) {
			t.Errorf("got %v\n%s", err, &b)
		}
	}
	if len(digests) != 2 {
		t.Errorf("got %d digests of equal and unequal runs, want 2", len(digests))
	}
	for name, o := range map[string]Options{
		"nothing": {Out: "x"}, "both": {Out: "x", Data: table, Log: log}, "a prior alone": {Out: "x", Data: table, Prior: table},
		"nothing scored": {Out: "x", Log: &reward.Result{Table: datasets.NewTable(nil, 0)}},
	} {
		if err := o.Validate(); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// TestValueOfLog: without a choice there is no value, with one it is the truth within its interval.
func TestValueOfLog(t *testing.T) {
	w := world(t, simulate.Options{Seed: 23, Arms: 3})
	const n = 4000
	o := &OOF{Table: datasets.NewTable(w.ArmIDs(), n), Rows: all(n), Score: make([]float64, 3*n), seen: &evidence{propensity: make([]float64, 3*n), own: make([]bool, n)}}
	rng := rand.New(rand.NewPCG(1, 2))
	truth := [2]float64{}
	for i := range n {
		task := w.Sample(int64(i))
		p := []float64{0.2, 0.2, 0.6} // the incumbent prefers the strong arm, the candidate knows the best
		drawn := policy.Draw(&policy.Distribution{P: p}, rng.Float64())
		copy(o.seen.propensity[3*i:], p)
		o.seen.own[i] = true
		o.Table.Prompts[i].ID = task.ID
		o.Table.Score[3*i+drawn] = float32(w.Outcome(&task, drawn).Score)
		o.Score[3*i+w.Best(&task)] = 1
		truth[0] += w.Quality(&task, w.Best(&task)) / n
		truth[1] += w.Quality(&task, 2) / n
	}
	v := judgeLog(o)
	gain := truth[0] - truth[1]
	if v.Reason != "" || v.GainLow > gain || v.GainHigh < gain || v.GainHigh-v.GainLow > 0.2 || math.Abs(v.ScoreAtBest-truth[0]) > 0.05 {
		t.Errorf("got %+v, the true gain is %v", v, gain)
	}
	for at := range o.seen.propensity { // now every draw was certain
		o.seen.propensity[at] = 0
		if o.Table.Score[at] == o.Table.Score[at] {
			o.seen.propensity[at] = 1
		}
	}
	if v := judgeLog(o); v.Reason == "" || v.ScoreAtBest != 0 || v.Gain != 0 || v.Routes {
		t.Errorf("got %+v from a log without a choice, want no verdict and no number", v)
	}
}

// TestSessionsAreOneObservation (pain 42: headroomlabs-ai/headroom PR#3460): ten rounds of each session narrow no interval, because
// one draw fixed the arm of all ten; and sessions that are too few are told as such, whatever their rounds.
func TestSessionsAreOneObservation(t *testing.T) {
	w := world(t, simulate.Options{Seed: 23, Arms: 3})
	judged := func(sessions, rounds int) Verdict {
		n := sessions * rounds
		o := &OOF{Table: datasets.NewTable(w.ArmIDs(), n), Rows: all(n), Score: make([]float64, 3*n), seen: &evidence{propensity: make([]float64, 3*n), own: make([]bool, n)}}
		rng := rand.New(rand.NewPCG(1, 2))
		for k := range sessions {
			task := w.Sample(int64(k))
			p := []float64{0.2, 0.2, 0.6}
			drawn := policy.Draw(&policy.Distribution{P: p}, rng.Float64())
			score := float32(w.Outcome(&task, drawn).Score)
			for r := range rounds {
				i := k*rounds + r
				copy(o.seen.propensity[3*i:], p)
				o.seen.own[i] = true
				o.Table.Prompts[i].ID, o.Table.Prompts[i].Group = fmt.Sprint(task.ID, r), fmt.Sprint(task.ID, 0)
				o.Table.Score[3*i+drawn] = score
				o.Score[3*i+w.Best(&task)] = 1
			}
		}
		return judgeLog(o)
	}
	once, ten := judged(1000, 1), judged(1000, 10)
	if once.Reason != "" || once.GainLow >= once.GainHigh {
		t.Fatalf("got %+v", once)
	}
	if math.Abs(once.GainLow-ten.GainLow) > 1e-9 || math.Abs(once.GainHigh-ten.GainHigh) > 1e-9 || once.ESS != ten.ESS || ten.Prompts != 1000 {
		t.Errorf("one round a session %+v, ten of the same %+v", once, ten)
	}
	if v := judged(20, 100); !strings.Contains(v.Reason, "effective sample size of 20 draws") || v.Gain != 0 || v.GainHigh != 0 {
		t.Errorf("20 sessions of 100 rounds: got %+v, want no number", v)
	}
}

// TestMix holds the formulas of DESIGN.md, and what is carried over of a log and of a prior that knows an arm more.
func TestMix(t *testing.T) {
	arms := world(t, simulate.Options{Arms: 3}).ArmIDs()
	log := &reward.Result{Table: datasets.NewTable(arms[:2], 4)}
	log.Propensity = []float64{0.5, 0.5, 0.99, 0.01, 0.5, 0.5, 0, 1}
	log.Estimate = []float64{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, math.NaN(), 0.8}
	for i, j := range []int{0, 1, 0, 1} {
		log.Table.Prompts[i].ID = strconv.Itoa(i)
		log.Table.Score[log.Table.At(i, j)] = 1
	}
	prior := datasets.NewTable(arms, 1)
	prior.Score[0], prior.Score[2] = 0, 1
	table, seen, err := mix(log, prior)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		i, j int
		want float64
	}{{0, 0, 1}, {1, 1, 1}, {4, 0, 1 / (1 + 2.0/PriorStrength)}, {4, 2, 1}} {
		if got := seen.weigh(c.i, c.j); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("prompt %d, arm %d: got weight %v, want %v", c.i, c.j, got, c.want)
		}
	}
	e, p := seen.expected, seen.propensity
	if e[table.At(0, 0)] != 0.1 || e[table.At(2, 1)] != 0.6 || e[table.At(3, 0)] == e[table.At(3, 0)] || e[table.At(4, 0)] == e[table.At(4, 0)] {
		t.Errorf("got expectations %v", e)
	}
	if p[table.At(1, 1)] != 0.01 || p[table.At(3, 0)] != 0 || p[table.At(4, 1)] == p[table.At(4, 1)] {
		t.Errorf("got propensities %v", p)
	}
}
