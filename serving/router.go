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
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Router is a trained router joined with the arms that are served. It is immutable; a new artifact is a new Router.
// Without an artifact, and for an arm that the artifact never saw, the estimates are the declared tier's: the same for
// every prompt, and marked as unproven by their error.
type Router struct {
	arms       []catalog.Arm
	index      map[catalog.ArmID]int
	classifier *classifier.Classifier
	extractor  *features.Extractor
	version    string
	spec       string
	// at[i] is the artifact's index of arms[i], or -1.
	at       []int
	fallback int
}

// priors are what a tier stands for until something was measured. They order arms; they promise nothing.
var priors = map[catalog.Tier]float64{
	catalog.TierUnknown: .55, catalog.TierSmall: .60, catalog.TierMedium: .70, catalog.TierLarge: .78, catalog.TierFrontier: .84,
}

const (
	// priorErr is the standard error of a prior, wide enough that a floor or a guard in force holds it back.
	priorErr = .15
	// priorTokens is the length of an answer of an arm that was never seen answering.
	priorTokens = 400
	// freshLambda is the price of a dollar on a fresh install: high, so that among arms which the guard takes for equals
	// the cheapest serves.
	freshLambda = 1000
)

// NewRouter joins an artifact (nil on a fresh install) with the arms that are served.
func NewRouter(arms []catalog.Arm, c *classifier.Classifier) (*Router, error) {
	if len(arms) == 0 {
		return nil, fmt.Errorf("serving: no arm to route to")
	}
	r := &Router{arms: arms, classifier: c, index: make(map[catalog.ArmID]int, len(arms)), at: make([]int, len(arms)), fallback: -1}
	for i := range arms {
		r.index[arms[i].ID] = i
		r.at[i] = -1
		if c != nil {
			r.at[i] = artifactIndex(c.Arms(), arms[i].ID)
			if r.at[i] == c.Fallback() {
				r.fallback = i
			}
		}
	}
	if r.fallback < 0 {
		r.fallback = r.bestPrior()
	}
	if c != nil {
		r.extractor, r.version = c.Extractor(), string(c.Digest())
	} else {
		var err error
		if r.extractor, err = features.New(features.DefaultSpec(), nil); err != nil {
			return nil, err
		}
	}
	r.spec = r.extractor.Spec().Digest()
	return r, nil
}

// artifactIndex finds an arm by its whole id, else by the provider's name of the model: public tables know no providers.
func artifactIndex(names []catalog.ArmID, id catalog.ArmID) int {
	if i := slices.Index(names, id); i >= 0 {
		return i
	}
	return slices.Index(names, catalog.ArmID(id.Model()))
}

// bestPrior is the measured arm, else any, of the highest tier; the cheaper of equals.
func (r *Router) bestPrior() int {
	best := 0
	for i := range r.arms {
		a, b := &r.arms[i], &r.arms[best]
		order := cmp.Or(
			-cmp.Compare(min(r.at[i], 0), min(r.at[best], 0)),
			-cmp.Compare(priors[a.Tier], priors[b.Tier]),
			cmp.Compare(typicalCost(&a.Prices), typicalCost(&b.Prices)),
		)
		if order < 0 {
			best = i
		}
	}
	return best
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

// Version is the digest of the artifact, empty on a fresh install.
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

// Fallback is the arm that serves where nothing better is proven.
func (r *Router) Fallback() catalog.ArmID { return r.arms[r.fallback].ID }

// estimate fills the candidates' estimates from the features and returns the prompt's complexity. What decides is the
// score for the traffic that is expected.
func (r *Router) estimate(e *policy.Estimates, x *features.Context, traffic policy.Traffic, candidates []policy.Candidate) (complexity float64) {
	measured := r.classifier != nil && r.at[r.fallback] >= 0
	if r.classifier != nil {
		r.classifier.Estimate(e, x)
		complexity = e.Complexity
	}
	score := e.ScoreFor(traffic)
	reference := priors[r.arms[r.fallback].Tier]
	for i := range candidates {
		c, prior := &candidates[i], priors[r.arms[i].Tier]
		j := r.at[i]
		c.Prior = j < 0
		switch {
		case j >= 0 && measured:
			c.Quality, c.QualityErr, c.Score, c.Gap, c.GapErr = e.Quality[j], e.QualityErr[j], score[j], e.Gap[j], e.GapErr[j]
		case j >= 0: // measured, but not against the arm that is the fallback here
			c.Quality, c.QualityErr, c.Score, c.Gap, c.GapErr = e.Quality[j], e.QualityErr[j], score[j], e.Quality[j]-reference, priorErr
		default:
			c.Quality, c.QualityErr, c.Score, c.Gap, c.GapErr = prior, priorErr, prior, prior-reference, 0
			if r.classifier != nil {
				c.Gap, c.GapErr = min(prior-reference, 0), priorErr
			}
		}
		c.OutputTokens = priorTokens
		if j >= 0 && r.classifier.KnowsTokens(j) {
			c.OutputTokens = e.OutputTokens[j]
		}
		for _, x := range [...]*float64{&c.Quality, &c.QualityErr, &c.Score, &c.Gap, &c.GapErr, &c.OutputTokens} {
			*x = millionths(*x)
		}
	}
	if r.classifier == nil {
		complexity = 1 - reference
	}
	return millionths(complexity)
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

// objective translates a strategy. A certified λ needs no guard: the certificate covers all that it does. Elsewhere an
// arm serves only where the guard admits it, and that is everywhere under shifting traffic, which no certificate is for.
func (r *Router) objective(s openai.Strategy, traffic policy.Traffic) objective {
	o := objective{guard: policy.Guard{On: true, Z: .5, Tolerance: tolerances[s]}, latencyFirst: s == openai.StrategyLatency}
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
	if t, ok := r.classifier.Target(string(s), traffic); ok {
		o.lambda, o.certified = t.Lambda, t.Certified && traffic != policy.Shifting
		o.guard.On = !o.certified
	}
	return o
}
