package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// family is a kind of task. Its prompts are the rule of its name in grammar.txt.
type family struct {
	name string
	// weight is its share of the prompts, in relation to the others.
	weight float64
	// parts is the number of equal parts a score is made of; 1 is right or wrong.
	parts int
	// tokens is the median length of an answer of middle level.
	tokens float64
	// skill is what the first six arms reach at middle difficulty, in percent: cheap, middle, strong, coder,
	// polyglot, mathlete. That strong is not the best everywhere has its like in every public benchmark: it says
	// too much where a form was asked for.
	skill [6]float64
}

var families = [...]family{
	{"arithmetic", 7, 1, 60, [6]float64{36, 66, 58, 50, 28, 90}},
	{"counting", 8, 1, 170, [6]float64{38, 62, 80, 54, 34, 84}},
	{"logic", 7, 1, 260, [6]float64{30, 52, 80, 50, 34, 74}},
	{"coding", 9, 1, 380, [6]float64{28, 50, 74, 84, 22, 44}},
	{"tracing", 6, 1, 150, [6]float64{34, 56, 66, 81, 28, 60}},
	{"extraction", 7, 4, 70, [6]float64{60, 85, 68, 66, 70, 50}},
	{"structured", 7, 1, 130, [6]float64{58, 86, 62, 85, 48, 55}},
	{"classification", 7, 1, 12, [6]float64{80, 76, 68, 58, 72, 52}},
	{"translation", 8, 5, 120, [6]float64{52, 76, 66, 30, 88, 24}},
	{"rewriting", 6, 1, 130, [6]float64{60, 82, 64, 34, 80, 32}},
	{"summary", 7, 5, 110, [6]float64{64, 80, 68, 40, 81, 38}},
	{"planning", 6, 1, 420, [6]float64{32, 62, 78, 46, 48, 60}},
	{"facts", 8, 1, 50, [6]float64{38, 58, 82, 38, 54, 40}},
	{"chat", 7, 1, 55, [6]float64{84, 80, 70, 44, 79, 40}},
}

// pickFamily turns a uniform draw into the number of a family.
func pickFamily(u float64) int {
	var total float64
	for i := range families {
		total += families[i].weight
	}
	u *= total
	for i := range families {
		if u -= families[i].weight; u < 0 {
			return i
		}
	}
	return len(families) - 1
}

// profile is the truth about an arm.
type profile struct {
	// skill is the log-odds of success at middle difficulty, a family; steep what a unit of difficulty takes of it.
	skill [len(families)]float64
	steep float64
	// verbosity scales the length of answers; first is the time to the first token in ms, rate its tokens a second.
	verbosity, first, rate float64
	// expected is the chance of success by family and level, the hidden part of the difficulty averaged out.
	expected [len(families)][Levels]float64
}

// named are the profiles of the first six arms, but for their skills.
var named = [6]profile{
	{steep: 3.6, verbosity: 0.8, first: 250, rate: 140},
	{steep: 2.8, verbosity: 1.0, first: 450, rate: 90},
	{steep: 1.8, verbosity: 1.5, first: 900, rate: 55},
	{steep: 2.4, verbosity: 1.1, first: 500, rate: 80},
	{steep: 2.6, verbosity: 0.9, first: 400, rate: 100},
	{steep: 2.4, verbosity: 1.8, first: 700, rate: 75},
}

// specialists are arms four to six: good in a few families, priced between middle and strong.
var specialists = [...]struct {
	name          string
	input, output catalog.Picodollars
}{{"coder", 1_200_000, 6_000_000}, {"polyglot", 1_000_000, 5_000_000}, {"mathlete", 1_500_000, 8_000_000}}

// driftLogits is what sim/strong loses in log-odds from Options.DriftFrom on: from 80 to 47 percent, say.
const driftLogits = 1.5

// makeArms returns n arms and n+1 profiles; the last is sim/strong after the drift.
func makeArms(seed uint64, n int) ([]catalog.Arm, []profile) {
	arms := catalog.Simulated()
	for _, s := range specialists {
		arms = append(arms, makeArm(s.name, catalog.TierMedium, s.input, s.output))
	}
	profiles := slices.Clone(named[:])
	for a := range profiles {
		for f := range families {
			profiles[a].skill[f] = logit(families[f].skill[a] / 100)
		}
	}
	for i := len(arms); i < n; i++ {
		arm, p := generate(source(seed, uint64(i), 1<<32), i+1)
		arms, profiles = append(arms, arm), append(profiles, p)
	}
	arms, profiles = arms[:n], profiles[:n]
	worse := profiles[2]
	for f := range worse.skill {
		worse.skill[f] -= driftLogits
	}
	profiles = append(profiles, worse)
	for a := range profiles {
		profiles[a].average()
	}
	return arms, profiles
}

func makeArm(name string, tier catalog.Tier, input, output catalog.Picodollars) catalog.Arm {
	arm := catalog.Simulated()[0]
	arm.ID, arm.Tier = catalog.ArmID("sim/"+name), tier
	arm.BaseModel = string(arm.ID)
	arm.Prices = catalog.Flat(input, output)
	return arm
}

// generate makes arm number k, counted from one: a general ability that its price roughly follows, and likes and
// dislikes of its own.
func generate(r *rand.Rand, k int) (catalog.Arm, profile) {
	ability := -1.4 + 1.7*r.Float64()
	p := profile{
		steep: 2 + 2*r.Float64(), verbosity: math.Exp(0.3 * r.NormFloat64()),
		first: 200 + 600*r.Float64(), rate: 40 + 120*r.Float64(),
	}
	for f := range families {
		var typical float64
		for _, percent := range families[f].skill[:3] {
			typical += logit(percent/100) / 3
		}
		p.skill[f] = typical + ability + 0.5*r.NormFloat64()
	}
	input := catalog.Picodollars(math.Round(1e6*math.Exp(1.3*ability+0.5*r.NormFloat64()))/1e4) * 1e4
	name := strconv.Itoa(k)
	if k < 10 {
		name = "0" + name
	}
	tier := catalog.TierSmall
	if ability > -0.6 {
		tier = catalog.TierMedium
	}
	input = max(input, 1e4)
	return makeArm("gen-"+name, tier, input, 4*input), p
}

func logit(p float64) float64 { return math.Log(p / (1 - p)) }

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
