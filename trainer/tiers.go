package trainer

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// The scale of tiers. Abilities and difficulties are logits.
const (
	tierSteps = 60
	// tierVariance is how far an arm may be from its tier.
	tierVariance = 0.25
	// linkSteps bring the sources of a table onto one scale, of which each step closes a share of what is left.
	linkSteps = 200
	// stepMax bounds a Newton step.
	stepMax = 1
)

// ErrTiers says that a table cannot be read as outcomes of tiers.
var ErrTiers = errors.New("trainer: the table says nothing of tiers")

// Tiers turns outcomes of single arms into what an arm of each tier is expected to make of the same prompts: a table for a
// router of arms that nobody has scored. tier names the tier of an arm; TierUnknown is refused.
//
// The model is Rasch's: an arm of ability a solves a prompt of difficulty d with the probability 1/(1+exp(d−a)). An arm's
// ability is drawn to its tier's, a prompt's difficulty to its task's. Sources that share no arm are linked by their tiers.
// Every cell is the mean of that probability over what is not known of the difficulty. Answers are as long as those of the
// arms that gave one, whatever the tier.
func Tiers(t *datasets.Table, tier func(catalog.ArmID) catalog.Tier) (*datasets.Table, error) {
	s, err := newScale(t, tier)
	if err != nil {
		return nil, err
	}
	for range tierSteps {
		s.fitPrompts()
		s.fitArms()
		s.link()
	}
	if err := s.complete(); err != nil {
		return nil, err
	}
	arms := make([]catalog.ArmID, len(catalog.Tiers()))
	for g, v := range catalog.Tiers() {
		arms[g] = v.Arm()
	}
	out := datasets.NewTable(arms, len(t.Prompts))
	out.Name, out.SHA256, out.Files, out.SampledFrom, out.Prompts = t.Name, t.SHA256, t.Files, t.SampledFrom, t.Prompts
	lengths := s.lengths()
	for i := range t.Prompts {
		for g := range arms {
			at := out.At(i, g)
			out.Score[at], out.Output[at] = float32(s.chance(s.level[g], i)), lengths[i]
		}
	}
	return out, nil
}

// scale is a Rasch scale: what arms can do and how hard prompts are.
type scale struct {
	t *datasets.Table
	// tier and source are those of an arm; a source is a set of arms that prompts connect. task is that of a prompt.
	tier, source, task []int
	ability, level     []float64 // of an arm, of a tier
	hard, variance     []float64 // of a prompt: its difficulty and how little is known of it
	usual              []float64 // difficulty in a task
	around             float64   // variance of difficulties in a task
}

func newScale(t *datasets.Table, tier func(catalog.ArmID) catalog.Tier) (*scale, error) {
	s := &scale{
		t: t, ability: make([]float64, len(t.Arms)), level: make([]float64, len(catalog.Tiers())), around: 1,
		hard: make([]float64, len(t.Prompts)), variance: make([]float64, len(t.Prompts)),
	}
	for j, a := range t.Arms {
		g := slices.Index(catalog.Tiers(), tier(a))
		if g < 0 {
			return nil, fmt.Errorf("%w: nobody names the tier of %s, and no cost implies it", ErrTiers, a)
		}
		s.tier, s.source = append(s.tier, g), append(s.source, j)
	}
	number := map[string]int{}
	for i := range t.Prompts {
		name := t.Prompts[i].Dataset
		if _, seen := number[name]; !seen {
			number[name] = len(number)
		}
		s.task = append(s.task, number[name])
		s.join(i)
	}
	s.usual = make([]float64, len(number))
	return s, nil
}

// join makes one source of all arms that answered prompt i.
func (s *scale) join(i int) {
	first := -1
	for j := range s.t.Arms {
		switch {
		case !s.t.Observed(i, j):
		case first < 0:
			first = s.source[j]
		case s.source[j] != first:
			old := s.source[j]
			for k := range s.source {
				if s.source[k] == old {
					s.source[k] = first
				}
			}
		}
	}
}

// chance is the probability that an arm of some ability solves prompt i, over what is not known of it (the usual
// approximation of a logistic by a normal curve).
func (s *scale) chance(ability float64, i int) float64 {
	return 1 / (1 + math.Exp((s.hard[i]-ability)*s.blur(i)))
}

func (s *scale) blur(i int) float64 { return 1 / math.Sqrt(1+math.Pi/8*s.variance[i]) }

// fitPrompts takes a Newton step on every difficulty, and sets what is usual in a task.
func (s *scale) fitPrompts() {
	sum, n, square := make([]float64, len(s.usual)), make([]float64, len(s.usual)), 0.0
	for i, k := range s.task {
		slope, curvature := (s.hard[i]-s.usual[k])/s.around, 1/s.around
		for j, ability := range s.ability {
			if y := float64(s.t.Score[s.t.At(i, j)]); y == y {
				p := 1 / (1 + math.Exp(s.hard[i]-ability))
				slope, curvature = slope+y-p, curvature+p*(1-p)
			}
		}
		s.hard[i] -= max(-stepMax, min(stepMax, slope/curvature))
		s.variance[i] = 1 / curvature
		off := s.hard[i] - s.usual[k]
		sum[k], n[k], square = sum[k]+s.hard[i], n[k]+1, square+off*off+s.variance[i]
	}
	for k := range s.usual {
		s.usual[k] = sum[k] / n[k]
	}
	s.around = square / float64(len(s.task))
}

// fitArms takes a Newton step on every ability.
func (s *scale) fitArms() {
	for j := range s.ability {
		slope, curvature := (s.ability[j]-s.level[s.tier[j]])/tierVariance, 1/tierVariance
		for i := range s.task {
			if y := float64(s.t.Score[s.t.At(i, j)]); y == y {
				p, blur := s.chance(s.ability[j], i), s.blur(i)
				slope, curvature = slope+(p-y)*blur, curvature+p*(1-p)*blur*blur
			}
		}
		s.ability[j] -= max(-stepMax, min(stepMax, slope/curvature))
	}
}

// link moves each source as a whole to where its arms agree best with the tiers, which are the means of their arms. Nothing
// else fixes where a source stands.
func (s *scale) link() {
	shift := make([]float64, len(s.t.Arms))
	for range linkSteps {
		s.level = s.means(s.tier, len(s.level), func(j int) float64 { return s.ability[j] - shift[s.source[j]] })
		shift = s.means(s.source, len(shift), func(j int) float64 { return s.ability[j] - s.level[s.tier[j]] })
	}
	moved := make([]float64, len(s.usual))
	for i, k := range s.task {
		for j := range s.t.Arms {
			if s.t.Observed(i, j) {
				moved[k] = shift[s.source[j]]
				s.hard[i] -= moved[k]
				break
			}
		}
	}
	for k := range s.usual {
		s.usual[k] -= moved[k]
	}
	for j := range s.ability {
		s.ability[j] -= shift[s.source[j]]
	}
}

// means are those of the arms' values in every group, 0 where it is empty.
func (s *scale) means(group []int, groups int, value func(j int) float64) []float64 {
	sum, n := make([]float64, groups), make([]float64, groups)
	for j, g := range group {
		sum[g], n[g] = sum[g]+value(j), n[g]+1
	}
	for g := range sum {
		sum[g] /= max(1, n[g])
	}
	return sum
}

// complete sets the ability of tiers that no arm is of, on a line through the lowest and the highest that there are.
func (s *scale) complete() error {
	low, high := slices.Min(s.tier), slices.Max(s.tier)
	step := (s.level[high] - s.level[low]) / float64(max(1, high-low))
	if step <= 0 {
		return fmt.Errorf("%w: its arms of tier %s do no better than those of tier %s, or all are of one", ErrTiers, catalog.Tiers()[high], catalog.Tiers()[low])
	}
	for g := range s.level {
		if !slices.Contains(s.tier, g) {
			s.level[g] = s.level[low] + step*float64(g-low)
		}
	}
	return nil
}

// lengthSteps separate how long the answers to a prompt are from how long an arm's answers are.
const lengthSteps = 20

// lengths are the output tokens to expect of an arm of ordinary verbosity, NaN where nobody counted.
func (s *scale) lengths() []float32 {
	t := s.t
	logs, verbose := make([]float64, len(t.Prompts)), make([]float64, len(t.Arms))
	for range lengthSteps {
		sum, n := make([]float64, len(t.Arms)), make([]float64, len(t.Arms))
		for i := range t.Prompts {
			total, seen := 0.0, 0.0
			for j := range t.Arms {
				if v := math.Log(max(1, float64(t.Output[t.At(i, j)]))); v == v {
					total, seen = total+v-verbose[j], seen+1
				}
			}
			logs[i] = total / seen
			for j := range t.Arms {
				if v := math.Log(max(1, float64(t.Output[t.At(i, j)]))); v == v {
					sum[j], n[j] = sum[j]+v-logs[i], n[j]+1
				}
			}
		}
		for j := range verbose {
			verbose[j] = sum[j] / max(1, n[j])
		}
	}
	out := make([]float32, len(logs))
	for i, v := range logs {
		out[i] = float32(math.Exp(v))
	}
	return out
}
