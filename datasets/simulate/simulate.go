// Package simulate is a made-up world in which the truth is known: task families with prompts of their own, arms with
// known skills, prices and speeds, and outcomes drawn from them. Every estimator, trainer and policy can be tested
// against it.
//
// A prompt shows its family and its level only in what it says; part of its difficulty is hidden, so that no
// policy can be right always. The world is not a benchmark: what a router gains here says that its code works and
// nothing about real LLMs.
package simulate

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

const (
	// ArmsDefault is the number of arms of the zero Options: the three simulated arms and three specialists.
	ArmsDefault = 6
	// ArmsMin is the fewest arms a world has: those that are served where no provider key is set.
	ArmsMin = 3
	// ArmsMax is the most arms a world has.
	ArmsMax = 200
	// Levels is the number of levels of difficulty that a prompt shows, from 0 (easy) to Levels−1.
	Levels = 6
)

// Options choose a world. Two worlds of equal options are equal in every bit.
type Options struct {
	// Seed fixes the prompts, the outcomes and the arms after the sixth; the first six are the same in every world.
	Seed int64
	// Arms is how many arms there are, ArmsDefault where zero. Worlds that differ only here agree on the arms they share.
	Arms int
	// Unlabelled leaves the dataset column empty, as in a table whose tasks nobody named.
	Unlabelled bool
	// DriftFrom is the number of the first prompt on which sim/strong is silently worse than before, in every family
	// and at the old price; zero is never.
	DriftFrom int64
}

// Validate reports an option that no world has.
func (o *Options) Validate() error {
	if o.Arms != 0 && (o.Arms < ArmsMin || o.Arms > ArmsMax) {
		return fmt.Errorf("simulate: %d arms: want %d to %d, or 0 for %d", o.Arms, ArmsMin, ArmsMax, ArmsDefault)
	}
	if o.DriftFrom < 0 {
		return fmt.Errorf("simulate: drift from prompt %d: want 0 or more", o.DriftFrom)
	}
	return nil
}

// World is one seeded world. It never changes after New, so any number of goroutines may use it.
type World struct {
	options  Options
	arms     []catalog.Arm
	profiles []profile
	grammar  *grammar
	prefix   string
}

// Task is one prompt and the truth about it. Only Sample makes one.
type Task struct {
	// Index is the number of the task in its world, ID its name, unique also among worlds of different seeds.
	Index int64
	ID    string
	Text  string
	// Family and Level are what the text shows to one who reads it well.
	Family string
	Level  int
	// Difficulty is the true one: about 0 to 1 by level, plus what cannot be seen.
	Difficulty float64

	family   int
	talkable float64 // how much more than usual there is to say, in standard deviations
}

// New makes a world.
func New(o Options) (*World, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Arms == 0 {
		o.Arms = ArmsDefault
	}
	g, err := compile(grammarText)
	if err != nil {
		return nil, fmt.Errorf("simulate: compiling the grammar: %w", err)
	}
	for _, f := range families {
		if _, found := g.names[f.name]; !found {
			return nil, fmt.Errorf("simulate: the grammar has no rule for family %s", f.name)
		}
	}
	w := &World{options: o, grammar: g, prefix: "sim" + strconv.FormatInt(o.Seed, 10) + "-"}
	w.arms, w.profiles = makeArms(uint64(o.Seed), o.Arms)
	return w, nil
}

// Arms lists the arms; an arm's number is its place here.
func (w *World) Arms() []catalog.Arm { return slices.Clone(w.arms) }

// ArmIDs lists the ids of Arms.
func (w *World) ArmIDs() []catalog.ArmID {
	ids := make([]catalog.ArmID, len(w.arms))
	for i := range w.arms {
		ids[i] = w.arms[i].ID
	}
	return ids
}

// Families lists the names of the task families.
func Families() []string {
	names := make([]string, len(families))
	for i := range families {
		names[i] = families[i].name
	}
	return names
}

// Sample makes task i, for any i ≥ 0 in any order.
func (w *World) Sample(i int64) Task {
	r := source(uint64(w.options.Seed), uint64(i), 0)
	f := pickFamily(r.Float64())
	level := r.IntN(Levels)
	t := Task{
		Index: i, ID: w.prefix + strconv.FormatInt(i, 10), Family: families[f].name, family: f, Level: level,
		Difficulty: visible(level) + hiddenSpread*r.NormFloat64(), talkable: r.NormFloat64(),
	}
	t.Text = w.grammar.write(r, families[f].name, level)
	return t
}

// visible is the difficulty that a level shows.
func visible(level int) float64 { return float64(level) / (Levels - 1) }

// source is the random stream of one purpose. Seeds of neighbours are hashed first, since PCG streams of neighbouring
// seeds begin alike.
func source(seed, i, purpose uint64) *rand.Rand {
	a := mix(seed ^ 0x5851f42d4c957f2d)
	b := mix(a ^ mix(i))
	return rand.New(rand.NewPCG(b, mix(b^mix(purpose))))
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Rows yields the outcome table of prompts from to from+n−1: the prompt's number and its rows, one an arm. The slices
// are the caller's to keep.
func (w *World) Rows(from, n int64) iter.Seq2[int, []datasets.Row] {
	return func(yield func(int, []datasets.Row) bool) {
		for i := from; i < from+n; i++ {
			t := w.Sample(i)
			if !yield(int(i), w.rows(&t)) {
				return
			}
		}
	}
}

func (w *World) rows(t *Task) []datasets.Row {
	// Rows point at their numbers; one block a prompt keeps that to two allocations.
	type numbers struct {
		cost, latency float64
		input, output int32
	}
	rows, cells := make([]datasets.Row, len(w.arms)), make([]numbers, len(w.arms))
	for a := range rows {
		o, c := w.Outcome(t, a), &cells[a]
		*c = numbers{cost: o.Cost.Dollars(), latency: o.LatencyMS, input: o.InputTokens, output: o.OutputTokens}
		rows[a] = datasets.Row{
			PromptID: t.ID, Dataset: w.label(t), Prompt: t.Text, Model: string(w.arms[a].ID), Score: o.Score,
			CostUSD: &c.cost, InputTokens: &c.input, OutputTokens: &c.output, LatencyMS: &c.latency,
		}
	}
	return rows
}

func (w *World) label(t *Task) string {
	if w.options.Unlabelled {
		return ""
	}
	return t.Family
}

// Table is the outcome table of the first n prompts, in memory.
func (w *World) Table(n int) *datasets.Table {
	table := datasets.NewTable(w.ArmIDs(), n)
	table.Name = "simulated"
	for i := range n {
		t := w.Sample(int64(i))
		table.Prompts[i] = datasets.Prompt{ID: t.ID, Dataset: w.label(&t), Text: t.Text}
		for a := range w.arms {
			o, k := w.Outcome(&t, a), table.At(i, a)
			table.Score[k], table.Cost[k], table.Latency[k] = float32(o.Score), o.Cost, float32(o.LatencyMS)
			table.Input[k], table.Output[k] = float32(o.InputTokens), float32(o.OutputTokens)
		}
	}
	return table
}
