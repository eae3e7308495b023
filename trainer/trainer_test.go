package trainer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// nan marks a cell that was not observed.
var nan = float32(math.NaN())

func world(t testing.TB, o simulate.Options) *simulate.World {
	t.Helper()
	w, err := simulate.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func run(t testing.TB, table *datasets.Table) (*Summary, *classifier.Classifier) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "artifact")
	s, err := Run(context.Background(), Options{Data: table, Out: out, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	c, err := classifier.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestDigestDoesNotDependOnProcessors(t *testing.T) {
	for _, unlabelled := range []bool{false, true} {
		table := world(t, simulate.Options{Seed: 3, Arms: 3, Unlabelled: unlabelled}).Table(530) // two chunks of rows
		digests := map[models.Digest]int{}
		before := runtime.GOMAXPROCS(0)
		for _, n := range []int{1, 4, 16} {
			runtime.GOMAXPROCS(n)
			s, _ := run(t, table)
			digests[s.Digest]++
		}
		runtime.GOMAXPROCS(before)
		if len(digests) != 1 {
			t.Errorf("unlabelled %v: got %d digests from equal runs, want 1: %v", unlabelled, len(digests), digests)
		}
	}
}

// TestKnownWorld holds one router to the truth on prompts that it never saw.
func TestKnownWorld(t *testing.T) {
	const train, test = 1500, 1000
	w := world(t, simulate.Options{Seed: 5})
	table := w.Table(train)
	s, c := run(t, table)
	arms := len(c.Arms())
	estimates, truth := make([]policy.Estimates, test), make([]float64, test*arms)
	var x features.Context
	for i := range estimates {
		task := w.Sample(int64(train + i))
		c.Extractor().Extract(&x, features.NewPrompt(task.Text))
		c.Estimate(&estimates[i], &x)
		for j := range arms {
			truth[i*arms+j] = w.Quality(&task, j)
		}
	}
	t.Run("gain", func(t *testing.T) {
		ceilings, err := w.Ceilings(2 * simulate.CeilingsMin)
		if err != nil {
			t.Fatal(err)
		}
		got := 0.0
		for i, e := range estimates {
			got += truth[i*arms+bench.Choose(e.Score, nil, 0)] / test
		}
		want := (ceilings.Single.Quality + ceilings.Features.Quality) / 2
		t.Logf("router %.4f, best single arm %.4f, best by features %.4f", got, ceilings.Single.Quality, ceilings.Features.Quality)
		if got < want {
			t.Errorf("got quality %.4f, want at least half of the attainable gain, %.4f", got, want)
		}
		if !s.Verdict.Routes {
			t.Errorf("got verdict %v, want one to route", s.Verdict)
		}
	})
	t.Run("calibration", func(t *testing.T) { checkCalibration(t, estimates, truth, arms) })
	t.Run("targets", func(t *testing.T) { checkTargets(t, w, c, estimates, truth) })
	t.Run("prices", func(t *testing.T) {
		p := newPrices(table)
		for j, a := range w.Arms() {
			for _, c := range []struct{ got, want float64 }{{p.input[j], float64(a.Prices.Input) / 1e12}, {p.output[j], float64(a.Prices.Output) / 1e12}} {
				if math.Abs(c.got/c.want-1) > 0.02 {
					t.Errorf("%s: got price %v, want %v", a.ID, c.got, c.want)
				}
			}
		}
	})
	t.Run("summary", func(t *testing.T) {
		var b bytes.Buffer
		if err := s.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"best single arm", "Routing beats single arms", string(s.Digest), string(s.Arms[0].Arm), "certified", "For shifting traffic: ", "left-out tasks, simulated"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("summary lacks %q:\n%s", want, &b)
			}
		}
	})
}

// checkTargets holds certified targets to what they promise, on prompts that were not trained on.
func checkTargets(t *testing.T, w *simulate.World, c *classifier.Classifier, estimates []policy.Estimates, truth []float64) {
	arms := len(c.Arms())
	safe := 0.0
	for i := range estimates {
		safe += truth[i*arms+c.Fallback()]
	}
	last := -1.0
	for _, target := range c.Targets(policy.KnownMix) {
		score := 0.0
		for i, e := range estimates {
			score += truth[i*arms+bench.Choose(e.Score, forecast(w, &e), target.Lambda)]
		}
		if target.Lambda < last {
			t.Errorf("%s: lambda %v is below that of the strategy before", target.Strategy, target.Lambda)
		}
		if last = target.Lambda; target.Certified && score < target.Target*safe {
			t.Errorf("%s: certified to keep %v, got %v", target.Strategy, target.Target, score/safe)
		}
	}
	if cost, _ := c.Target("cost", policy.KnownMix); !cost.Certified || cost.Lambda == 0 {
		t.Errorf("got %+v, want a certified price: the world has cheap arms", cost)
	}
}

// forecast is the expected cost of output tokens, which is nearly all of the cost in the simulated world.
func forecast(w *simulate.World, e *policy.Estimates) []float64 {
	out := make([]float64, len(e.OutputTokens))
	for j, a := range w.Arms() {
		out[j] = e.OutputTokens[j] * float64(a.Prices.Output) / 1e12
	}
	return out
}

// checkCalibration compares mean estimates with mean truths over ten bins of the estimate.
func checkCalibration(t *testing.T, estimates []policy.Estimates, truth []float64, arms int) {
	for j := range arms {
		order := all(len(estimates))
		slices.SortFunc(order, func(a, b int) int {
			if estimates[a].Quality[j] < estimates[b].Quality[j] {
				return -1
			}
			return 1
		})
		ece := 0.0
		for bin := range slices.Chunk(order, len(order)/10) {
			got, want := 0.0, 0.0
			for _, i := range bin {
				got, want = got+estimates[i].Quality[j], want+truth[i*arms+j]
			}
			ece += math.Abs(got-want) / float64(len(order))
		}
		if ece > 0.06 {
			t.Errorf("arm %d: expected calibration error %.3f, want at most 0.06", j, ece)
		}
	}
}

// TestAwkwardTables trains on tables that lack something. Every estimate must be a number.
func TestAwkwardTables(t *testing.T) {
	cells := func(f func(t *datasets.Table, rng *rand.Rand, i, j, at int)) func(*datasets.Table) {
		return func(t *datasets.Table) {
			rng := rand.New(rand.NewPCG(1, 1))
			for i := range t.Prompts {
				for j := range t.Arms {
					f(t, rng, i, j, t.At(i, j))
				}
			}
		}
	}
	for name, spoil := range map[string]func(*datasets.Table){
		"one arm a prompt": cells(func(t *datasets.Table, _ *rand.Rand, i, j, at int) {
			if i%len(t.Arms) != j {
				t.Score[at], t.Output[at], t.Cost[at] = nan, nan, datasets.Unpriced
			}
		}),
		"half of the cells": cells(func(t *datasets.Table, rng *rand.Rand, _, _, at int) {
			if rng.IntN(2) == 0 {
				t.Score[at] = nan
			}
		}),
		"no costs":    cells(func(t *datasets.Table, _ *rand.Rand, _, _, at int) { t.Cost[at] = datasets.Unpriced }),
		"no tokens":   cells(func(t *datasets.Table, _ *rand.Rand, _, _, at int) { t.Output[at], t.Input[at] = nan, nan }),
		"no labels":   func(t *datasets.Table) { clearLabels(t, 1) },
		"some labels": func(t *datasets.Table) { clearLabels(t, 3) },
		"an arm never scored": cells(func(t *datasets.Table, _ *rand.Rand, _, j, at int) {
			if j == 1 {
				t.Score[at] = nan
			}
		}),
		"an arm scored once": cells(func(t *datasets.Table, _ *rand.Rand, i, j, at int) {
			if j == 1 && i != 7 {
				t.Score[at], t.Output[at], t.Cost[at] = nan, nan, datasets.Unpriced
			}
		}),
		"all right":    cells(func(t *datasets.Table, _ *rand.Rand, _, _, at int) { t.Score[at] = 1 }),
		"equal texts":  func(t *datasets.Table) { setTexts(t, "the same") },
		"empty texts":  func(t *datasets.Table) { setTexts(t, "") },
		"two prompts?": func(t *datasets.Table) { *t = *t.Subset(all(PromptsMin)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := world(t, simulate.Options{Seed: 9, Arms: 3}).Table(130)
			spoil(table)
			_, c := run(t, table)
			var x features.Context
			var e policy.Estimates
			for _, text := range []string{"", "What is 2 + 2?", table.Prompts[3].Text} {
				c.Extractor().Extract(&x, features.NewPrompt(text))
				c.Estimate(&e, &x)
				for j := range e.Score {
					if v := e.Score[j] + e.Quality[j] + e.QualityErr[j] + e.Gap[j] + e.GapErr[j] + e.OutputTokens90[j]; math.IsNaN(v) || math.IsInf(v, 0) {
						t.Errorf("%q: arm %d is estimated as %+v", text, j, e)
					}
				}
			}
			if name == "no tokens" && e.OutputTokens[0] != 0 {
				t.Errorf("got %v output tokens, want 0 for unknown", e.OutputTokens[0])
			}
		})
	}
}

func clearLabels(t *datasets.Table, every int) {
	for i := 0; i < len(t.Prompts); i += every {
		t.Prompts[i].Dataset = ""
	}
}

func setTexts(t *datasets.Table, text string) {
	for i := range t.Prompts {
		t.Prompts[i].Text = text
	}
}

func TestRunRefuses(t *testing.T) {
	table := world(t, simulate.Options{Seed: 2, Arms: 3}).Table(60)
	if _, err := Run(context.Background(), Options{Data: table.Subset(all(5)), Out: filepath.Join(t.TempDir(), "a")}); !errors.Is(err, ErrTooSmall) {
		t.Errorf("five prompts: got error %v, want ErrTooSmall", err)
	}
	if _, err := Run(context.Background(), Options{Data: datasets.NewTable([]catalog.ArmID{"a/b"}, 100), Out: filepath.Join(t.TempDir(), "a")}); !errors.Is(err, ErrTooSmall) {
		t.Errorf("no scores: got error %v, want ErrTooSmall", err)
	}
	if _, err := Run(context.Background(), Options{Data: table, Out: t.TempDir()}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an existing folder: got error %v, want fs.ErrExist", err)
	}
	if _, err := Run(context.Background(), Options{Data: table}); err == nil {
		t.Error("no folder: got no error")
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(done, Options{Data: table, Out: filepath.Join(t.TempDir(), "a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run: got error %v, want context.Canceled", err)
	}
}

// TestNoLeak changes every outcome of one fold: what is predicted for that fold must not move.
func TestNoLeak(t *testing.T) {
	table := world(t, simulate.Options{Seed: 6, Arms: 3}).Table(200)
	cv := func() []bench.Predictions {
		p, err := CrossValidate(context.Background(), table, CrossValidateOptions{Folds: 2})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	before := cv()
	fold := before[0].Fold
	for i, f := range fold {
		for j := range table.Arms {
			if f == 0 {
				at := table.At(i, j)
				table.Score[at], table.Output[at], table.Cost[at] = 1-table.Score[at], 10*table.Output[at], 5*table.Cost[at]
			}
		}
	}
	after := cv()
	for s := range before {
		b, a, moved := &before[s], &after[s], false
		for i, f := range fold {
			for j := range table.Arms {
				at := table.At(i, j)
				same := b.Score[at] == a.Score[at] && b.Quality[at] == a.Quality[at] && b.Tokens[at] == a.Tokens[at] && b.CostUSD[at] == a.CostUSD[at]
				if f == 0 && !same {
					t.Fatalf("%s, prompt %d: its own fold's outcomes moved its prediction", b.Name, i)
				}
				moved = moved || f == 1 && b.Score[at] != a.Score[at]
			}
		}
		if !moved {
			t.Errorf("%s: the other fold's predictions did not move: nothing was learned", b.Name)
		}
	}
}

func TestLeaveTaskOut(t *testing.T) {
	table := world(t, simulate.Options{Seed: 8, Arms: 3}).Table(150)
	for i := range table.Prompts { // three tasks are enough
		table.Prompts[i].Dataset = string('a' + rune(i%3))
	}
	settings, err := CrossValidate(context.Background(), table, CrossValidateOptions{LeaveTaskOut: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range settings {
		if err := p.Validate(len(table.Prompts)); err != nil {
			t.Fatal(err)
		}
		if got := slices.Max(p.Fold); got != 2 || slices.ContainsFunc(p.Score, math.IsNaN) {
			t.Errorf("%s: got folds up to %d and scores %v", p.Name, got, p.Score[:3])
		}
	}
	clearLabels(table, 1)
	if _, err := CrossValidate(context.Background(), table, CrossValidateOptions{LeaveTaskOut: true}); err == nil {
		t.Error("a table without tasks: got no error")
	}
}

// TestDoNotRoute trains where no prompt says anything about the arms and costs are unknown (known ones could be routed
// by: a long answer is cheaper at a cheap arm). The advice must be not to route.
func TestDoNotRoute(t *testing.T) {
	table := world(t, simulate.Options{Seed: 10, Arms: 3}).Table(400)
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range table.Prompts {
		for j := range table.Arms {
			table.Score[table.At(i, j)], table.Cost[table.At(i, j)] = 0, datasets.Unpriced
			if rng.Float64() < 0.4+0.2*float64(j) {
				table.Score[table.At(i, j)] = 1
			}
		}
	}
	s, _ := run(t, table)
	if s.Verdict.Routes || !strings.Contains(s.Verdict.String(), "Do not route") {
		t.Errorf("got verdict %v", s.Verdict)
	}
}
