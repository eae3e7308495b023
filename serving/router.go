package serving

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Router is a trained router joined with the arms that are served. It is immutable; a new artifact is a new Router.
// Without an artifact, and for an arm that the artifact never saw, the estimates are what the default router expects of
// an arm of the declared tier: they promise nothing, and are marked by their error.
type Router struct {
	arms []catalog.Arm
	// place[i] is where arms[i] stands among all that are served.
	place      []int
	index      map[catalog.ArmID]int
	classifier *classifier.Classifier
	extractor  *features.Extractor
	version    string
	spec       string
	// prioritized says that the operator orders the providers of some model, weighted that some have weights.
	prioritized, weighted bool
	// at[i] is the artifact's index of arms[i], or -1.
	at       []int
	fallback int
	// standard is the default router, nil where every arm was measured, and tier[i] its index of the tier of arms[i].
	standard *classifier.Classifier
	tier     []int
}

const (
	// priorErr is the standard error of what is expected of a tier, wide enough that a floor or a guard in force holds it back.
	priorErr = .15
	// priorTokens is the length of an answer of an arm that was never seen answering.
	priorTokens = 400
	// freshLambda is the price of a dollar on a fresh install: high, so that among arms which the guard takes for equals
	// the cheapest serves.
	freshLambda = 1000
)

// NewRouter joins an artifact (nil on a fresh install) with the arms that are served. Those that are not for chat are left
// out.
func NewRouter(arms []catalog.Arm, c *classifier.Classifier) (*Router, error) {
	r := directory(arms, catalog.ModeChat)
	if len(r.arms) == 0 {
		return nil, fmt.Errorf("serving: no arm for chat to route to")
	}
	r.classifier, r.at, r.tier = c, make([]int, len(r.arms)), make([]int, len(r.arms))
	for i := range r.arms {
		r.at[i] = -1
		if c != nil {
			r.at[i] = artifactIndex(c.Arms(), r.arms[i].ID)
			if r.at[i] == c.Fallback() {
				r.fallback = i
			}
		}
	}
	if len(r.Unmeasured()) > 0 {
		if err := r.expect(); err != nil {
			return nil, err
		}
	}
	if r.fallback < 0 {
		r.fallback = r.bestPrior()
	}
	if c == nil {
		c = r.standard
	}
	r.extractor, r.version = c.Extractor(), string(c.Digest())
	r.spec = r.extractor.Spec().Digest()
	return r, nil
}

// expect opens the default router for the arms that nobody measured. An arm without a tier is taken for a small one.
func (r *Router) expect() (err error) {
	if r.standard, err = classifier.Default(); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	for i := range r.arms {
		tier := cmp.Or(r.arms[i].Tier, catalog.TierSmall)
		if r.tier[i] = slices.Index(r.standard.Arms(), tier.Arm()); r.tier[i] < 0 {
			return fmt.Errorf("serving: the default router expects nothing of tier %s of %s", tier, r.arms[i].ID)
		}
	}
	return nil
}

// artifactIndex finds an arm by its whole id, else by the provider's name of the model: public tables know no providers.
func artifactIndex(names []catalog.ArmID, id catalog.ArmID) int {
	if i := slices.Index(names, id); i >= 0 {
		return i
	}
	return slices.Index(names, catalog.ArmID(id.Model()))
}

// bestPrior is the measured arm, else any, with a price, else any, of the highest tier; the cheaper of equals. What has no price
// may not serve where cost counts, and others would be held against nothing.
func (r *Router) bestPrior() int {
	best := 0
	for i := range r.arms {
		a, b := &r.arms[i], &r.arms[best]
		order := cmp.Or(
			-cmp.Compare(min(r.at[i], 0), min(r.at[best], 0)),
			cmp.Compare(unpriced(a), unpriced(b)),
			-cmp.Compare(slices.Index(catalog.Tiers(), a.Tier), slices.Index(catalog.Tiers(), b.Tier)),
			cmp.Compare(typicalCost(&a.Prices), typicalCost(&b.Prices)),
		)
		if order < 0 {
			best = i
		}
	}
	return best
}

func unpriced(a *catalog.Arm) int {
	if a.Prices.Known {
		return 0
	}
	return 1
}

// typicalCost orders prices where no request is at hand: a thousand tokens in, an answer of ordinary length out.
func typicalCost(p *catalog.Prices) catalog.Picodollars {
	return catalog.Picodollars(p.Request)*1000 + 1000*p.Input + priorTokens*p.Output
}

// matching finds the arms of a name: provider/model, or the model at any provider.
func (r *Router) matching(name string) []int {
	if i, served := r.index[catalog.ArmID(name)]; served {
		return []int{i}
	}
	var found []int
	for i := range r.arms {
		if r.arms[i].ID.Model() == name {
			found = append(found, i)
		}
	}
	return found
}

func (r *Router) matchingAll(names []string) (found []int) {
	for _, name := range names {
		for _, i := range r.matching(name) {
			if !slices.Contains(found, i) {
				found = append(found, i)
			}
		}
	}
	return found
}

// Version is the digest of the artifact, the default router's on a fresh install.
func (r *Router) Version() string { return r.version }

// Unmeasured lists the served arms that the artifact never saw.
func (r *Router) Unmeasured() []catalog.ArmID {
	var ids []catalog.ArmID
	for i, at := range r.at {
		if at < 0 {
			ids = append(ids, r.arms[i].ID)
		}
	}
	return ids
}

// KnowsNone reports whether the artifact never saw any of the served arms.
func (r *Router) KnowsNone() bool { return len(r.Unmeasured()) == len(r.arms) }

// Fallback is the arm that serves where nothing better is proven.
func (r *Router) Fallback() catalog.ArmID { return r.arms[r.fallback].ID }

// estimates are those of one request, kept for their memory: by the artifact and by the default router.
type estimates struct{ own, standard policy.Estimates }

// estimate fills the candidates' estimates from the features and the history of whoever asks, and returns the prompt's
// complexity. What decides is the score for the traffic that is expected.
func (r *Router) estimate(e *estimates, x *features.Context, p *governance.Principal, traffic policy.Traffic, candidates []policy.Candidate) float64 {
	if r.extractor == nil { // a directory
		return 0
	}
	var history []float64
	if r.classifier != nil {
		if r.classifier.Estimate(&e.own, x); r.classifier.Remembers() {
			history = r.classifier.Recall(&e.own, classifier.TeamOf(p.Org, p.Team))
		}
	}
	if r.standard != nil {
		r.standard.Estimate(&e.standard, x)
	}
	for i := range candidates {
		c := &candidates[i]
		if c.Prior = r.at[i] < 0; c.Prior {
			r.expected(c, &e.standard, i)
		} else {
			r.measured(c, &e.own, traffic, r.at[i])
		}
		if !c.Prior && history != nil {
			c.History = history[r.at[i]]
		}
		for _, x := range [...]*float64{&c.Quality, &c.QualityErr, &c.Score, &c.Gap, &c.GapErr, &c.History, &c.OutputTokens} {
			*x = millionths(*x)
		}
	}
	if r.classifier == nil {
		return millionths(e.standard.Complexity)
	}
	return millionths(e.own.Complexity)
}

// measured sets what the artifact estimates of its arm j.
func (r *Router) measured(c *policy.Candidate, e *policy.Estimates, traffic policy.Traffic, j int) {
	c.Quality, c.QualityErr, c.Score, c.Gap, c.GapErr = e.Quality[j], e.QualityErr[j], e.ScoreFor(traffic)[j], e.Gap[j], e.GapErr[j]
	if r.at[r.fallback] != r.classifier.Fallback() { // it was not measured against the arm that is the fallback here
		c.Gap, c.GapErr = e.Quality[j]-e.Quality[r.at[r.fallback]], priorErr
	}
	if c.OutputTokens = priorTokens; r.classifier.KnowsTokens(j) {
		c.OutputTokens = e.OutputTokens[j]
	}
}

// expected sets what the default router expects of arm i. Beside arms that were measured it never looks better than their
// fallback: the two are not on one scale.
func (r *Router) expected(c *policy.Candidate, e *policy.Estimates, i int) {
	j := r.tier[i]
	c.Quality, c.QualityErr, c.Score, c.OutputTokens = e.Quality[j], priorErr, e.Quality[j], e.OutputTokens[j]
	if c.Gap, c.GapErr = e.Quality[j]-e.Quality[r.tier[r.fallback]], 0; r.classifier != nil {
		c.Gap, c.GapErr = min(c.Gap, 0), priorErr
	}
}

// millionths rounds an estimate before anything is decided by it. What lies below is noise, and every digit of every arm
// is journaled with each request.
func millionths(x float64) float64 { return math.RoundToEven(x*1e6)/1e6 + 0 }

// objective is what a strategy asks of the policy.
type objective struct {
	lambda       float64
	guard        policy.Guard
	latencyFirst bool
	certified    bool
}

// tolerances are the quality, as a share of the fallback's, that a strategy may give up where nothing was certified.
var tolerances = map[openai.Strategy]float64{
	openai.StrategyQuality: 0, openai.StrategyBalanced: .01, openai.StrategyCost: .05, openai.StrategyLatency: .05, openai.StrategyAvailability: .01,
}

// expectedTolerances take their place where every arm goes by its tier: what may be given up on one prompt, as expected.
// On four pools of public tables whose tiers prices told, 0.08 kept at least 99 % of the best tier's score and 0.10 at least
// 94 % (see trainer/DESIGN.md).
var expectedTolerances = map[openai.Strategy]float64{
	openai.StrategyQuality: 0, openai.StrategyBalanced: .08, openai.StrategyCost: .10, openai.StrategyLatency: .10, openai.StrategyAvailability: .08,
}

// objective translates a strategy. A certified λ needs no guard: the certificate covers all that it does. Elsewhere an
// arm serves only where the guard admits it, and that is everywhere under shifting traffic, which no certificate is for.
// share, where it is set, is the quality to keep in place of the strategy's own figure; strategy quality has none.
func (r *Router) objective(s openai.Strategy, traffic policy.Traffic, share float64) objective {
	o := objective{guard: policy.Guard{On: true, Z: .5, Tolerance: tolerances[s]}, latencyFirst: s == openai.StrategyLatency}
	if r.classifier == nil {
		o.guard.Tolerance = expectedTolerances[s]
	}
	if s == openai.StrategyQuality {
		share = 0
	}
	if share > 0 {
		o.guard.Tolerance = r.tolerance(share)
	}
	switch {
	case s == openai.StrategyLatency:
		return o
	case r.classifier == nil:
		if s != openai.StrategyQuality {
			o.lambda, o.guard.Z = freshLambda, 0
		}
		return o
	case s == openai.StrategyAvailability:
		s = openai.StrategyBalanced
	}
	t, ok := r.classifier.Target(string(s), traffic)
	if share > 0 {
		t, ok = r.classifier.Keeping(share, traffic)
	}
	if ok {
		o.lambda, o.certified = t.Lambda, t.Certified && traffic != policy.Shifting
		o.guard.On = !o.certified
	}
	return o
}

// tolerance is what may be given up on one prompt to keep a share of the quality. Where every arm goes by its tier it is
// between what was measured for 99 and for 95 %, and never beyond.
func (r *Router) tolerance(share float64) float64 {
	if r.classifier != nil {
		return 1 - share
	}
	first, last := expectedTolerances[openai.StrategyBalanced], expectedTolerances[openai.StrategyCost]
	if share >= .99 {
		return first * (1 - share) / .01
	}
	return min(first+(last-first)*(.99-share)/.04, last)
}
