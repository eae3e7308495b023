package serving

import (
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/rules"
)

// Change is what a replay is to do differently; nothing where it is zero.
type Change struct {
	// Policy is a named policy. It may also be the version of a router, as Router is.
	Policy string `json:"policy"`
	// Router is the version of the router that estimates, the replayer's own or the one that decided.
	Router   string          `json:"router"`
	Strategy openai.Strategy `json:"strategy"`
	Weights  *Weights        `json:"weights"`
}

func (c *Change) validate() error {
	switch {
	case c.Strategy != "" && !c.Strategy.Known():
		return openai.BadParam("strategy", "must be one of cost, latency, balanced, availability, quality")
	case c.Weights != nil && !c.Weights.valid():
		return openai.BadParam("weights", "are those of quality (more than 0) and cost, or that of latency or availability alone")
	case c.Weights != nil && c.Strategy != "":
		return openai.NewError(openai.InvalidRequest, "a strategy sets the weights: give one of the two")
	}
	return nil
}

// valid reports whether the weights are such as a decision has.
func (w *Weights) valid() bool {
	for _, x := range [...]float64{w.Quality, w.Cost, w.Latency, w.Availability, w.Cost / max(w.Quality, 1e-300)} {
		if !(x >= 0) || math.IsInf(x, 1) {
			return false
		}
	}
	switch alone := w.Quality == 0 && w.Cost == 0; {
	case w.Latency > 0:
		return alone && w.Availability == 0
	case w.Availability > 0:
		return alone
	}
	return w.Quality > 0
}

// Replayer makes logged decisions anew. It asks nobody who may see them. It is safe for concurrent use.
type Replayer struct {
	// Router estimates where a Change asks for it, and knows what its strategies ask.
	Router *Router
	Policy policy.Policy

	arms       []catalog.Arm
	rules      *rules.Set
	principals []*governance.Principal
}

// NewReplayer makes decisions anew with the router, the policies and the rules of settings.
func NewReplayer(s *Settings) (*Replayer, error) {
	r := &Replayer{Router: s.Router, Policy: policy.Router{}, arms: s.Arms, principals: s.Auth.Principals()}
	var err error
	r.rules, err = s.ruled()
	return r, err
}

// Replay is what a decision would have been with a change: the case of the day, live values included, with nobody called and
// no coin tossed. Where nothing is changed the action is the one that was drawn, else the best. What was asked of the round
// then still holds; a policy adds to it. Another router estimates from the features that were kept. The forecasts of length
// and so of cost stay those of the day, because what capped the answer was not logged; a price of a dollar that the request
// had turned its dial to gives way to the strategy's.
func (r *Replayer) Replay(logged *datasets.Decision, want Change) (*Explanation, error) {
	if err := want.validate(); err != nil {
		return nil, err
	}
	d := *logged
	d.Case.Candidates = slices.Clone(d.Case.Candidates)
	if len(d.Features) == 0 {
		return nil, openai.NewError(openai.NotReplayable, "nothing of the request was kept but its costs")
	}
	if err := r.resolve(&d, &want); err != nil {
		return nil, err
	}
	c, same := &d.Case, want == Change{}
	for i := range c.Candidates {
		switch a := &c.Candidates[i]; a.Filter {
		case policy.MaxLatency, policy.QualityFloor, policy.Guarded, policy.Ordered:
			a.Filter = policy.Eligible // and is found again; what cost too much costs no less, whatever is changed
		}
	}
	if !same {
		if err := r.alter(&d, &want); err != nil {
			return nil, err
		}
	}
	policy.Constrain(c)
	made := &round{decision: d}
	r.Policy.Propose(&made.proposed, c)
	i := made.proposed.Best
	if i < 0 {
		return nil, openai.NewError(openai.NoCandidate, "no model could have served this request: every one was filtered (%s)", tally(filters(c)))
	}
	if same {
		i = slices.IndexFunc(c.Candidates, func(a policy.Candidate) bool { return a.Arm == logged.Action })
		if i < 0 {
			return nil, openai.NewError(openai.NotReplayable, "the case does not hold the model that was chosen")
		}
	}
	made.choose(i)
	if same || c.Pinned >= 0 {
		made.decision.Reason = logged.Reason // some say more than a case does
	}
	e := Explain(&made.decision, nil)
	e.DryRun = true
	return e, nil
}

// resolve takes out of a change what is none, and refuses what nobody knows.
func (r *Replayer) resolve(d *datasets.Decision, want *Change) error {
	refuse := func(param, format string, args ...any) error {
		e := openai.NewError(openai.UnsupportedRoutingField, format, args...)
		e.Param = param
		return e
	}
	switch want.Policy {
	case "", d.Policy:
		want.Policy = ""
	case d.RouterVersion, r.Router.version:
		want.Router, want.Policy = want.Policy, ""
	default:
		if !r.rules.Has(want.Policy) {
			known := []string{strconv.Quote(d.RouterVersion)}
			if r.Router.version != d.RouterVersion {
				known = append(known, strconv.Quote(r.Router.version))
			}
			return refuse("policy", "no policy %.64q is configured here; of routers, %s can decide", want.Policy, strings.Join(known, " or "))
		}
	}
	if want.Router == d.RouterVersion {
		want.Router = ""
	}
	if want.Router != "" && want.Router != r.Router.version {
		return refuse("router", "the router %.128q is not in service; %q decided, and %q is", want.Router, d.RouterVersion, r.Router.version)
	}
	return nil
}

// alter writes the change into the case.
func (r *Replayer) alter(d *datasets.Decision, want *Change) error {
	if want.Router != "" {
		if err := r.estimate(d); err != nil {
			return err
		}
	}
	c, asked := &d.Case, r.asked(d, want)
	if want.Policy != "" {
		r.apply(d, asked)
		if want.Strategy == "" {
			want.Strategy = asked.Strategy
		}
	}
	if w := want.Weights; w != nil {
		d.Certified, c.Paces = false, nil
		c.LatencyFirst, c.AvailabilityFirst = w.Latency > 0, w.Availability > 0
		if w.Quality > 0 {
			c.Lambda = w.Cost / w.Quality
		}
		return nil
	}
	if d.RouterVersion != r.Router.version {
		return openai.NewError(openai.NotReplayable, "the router %s is not in service any more, and only it knows what the strategy asked", d.RouterVersion)
	}
	if want.Strategy != "" {
		d.Strategy = string(want.Strategy)
	}
	s := openai.Strategy(d.Strategy)
	o := r.Router.objective(s, trafficOf(d), asked.Quality)
	c.Lambda, c.Guard, c.LatencyFirst = o.lambda, o.guard, o.latencyFirst
	c.AvailabilityFirst = s == openai.StrategyAvailability
	c.Explore = c.Explore && !c.AvailabilityFirst
	d.Certified = o.certified && c.Pinned < 0
	if c.Pinned < 0 && c.Hurry() {
		d.Certified = false
	}
	return nil
}

// trafficOf is the setting that a decision was made under.
func trafficOf(d *datasets.Decision) policy.Traffic {
	if d.Policy == policyName(policy.Shifting) {
		return policy.Shifting
	}
	return policy.KnownMix
}

// asked is what the levels of the key that asked say, as they are configured now. Headers were not logged, so no rule that
// looks at one matches.
func (r *Replayer) asked(d *datasets.Decision, want *Change) *rules.Demands {
	request := rules.Request{Principal: &governance.Principal{Org: d.Org, Team: d.Team, KeyID: d.KeyID}, Tags: d.Tags, Policy: want.Policy}
	if i := slices.IndexFunc(r.principals, func(p *governance.Principal) bool { return p.KeyID == d.KeyID }); i >= 0 {
		request.Principal = r.principals[i]
	}
	if request.Policy == "" && r.rules.Has(d.Policy) {
		request.Policy = d.Policy
	}
	if id, err := hex.DecodeString(d.Conversation); err == nil { // a split is of conversations
		copy(request.Conversation[:], id)
	}
	var asked rules.Demands
	r.rules.For(&asked, &request)
	return &asked
}

// apply writes what a policy asks into the case. Its target of cost is left out: what its pacer would have said is not known.
func (r *Replayer) apply(d *datasets.Decision, asked *rules.Demands) {
	c := &d.Case
	d.Policy = asked.Policy
	c.QualityFloor = max(c.QualityFloor, asked.Floor)
	c.MaxCostUSD, c.MaxLatencyMS = rules.Strictest(c.MaxCostUSD, asked.MaxCostUSD), rules.Strictest(c.MaxLatencyMS, asked.MaxLatencyMS)
	if c.Explore = c.Explore && asked.Explore; asked.Epsilon != nil {
		c.Epsilon = *asked.Epsilon
	}
	for i := range c.Candidates {
		a := &c.Candidates[i]
		at := slices.IndexFunc(r.arms, func(arm catalog.Arm) bool { return arm.ID == a.Arm })
		if a.Filter == policy.Eligible && at >= 0 && c.Pinned != i && asked.Barred(at) {
			a.Filter = policy.NotAllowed
		}
	}
}

// estimate replaces the estimates of a case by those of the replayer's router.
func (r *Replayer) estimate(d *datasets.Decision) error {
	if d.SpecDigest != r.Router.spec {
		return openai.NewError(openai.NotReplayable, "what was kept of the request are features of version %s, and the router %s reads those of version %s", d.SpecDigest, r.Router.version, r.Router.spec)
	}
	var x features.Context
	if err := x.Parse(d.Features); err != nil {
		return openai.NewError(openai.NotReplayable, "the features that were kept cannot be read: %v", err)
	}
	c := &d.Case
	arms := make([]catalog.Arm, len(c.Candidates))
	for i := range arms {
		arms[i] = catalog.Arm{ID: c.Candidates[i].Arm}
		if at := slices.IndexFunc(r.arms, func(a catalog.Arm) bool { return a.ID == arms[i].ID }); at >= 0 {
			arms[i] = r.arms[at]
		}
		arms[i].Mode = catalog.ModeChat // or it would not be in the case
	}
	router, err := NewRouter(arms, r.Router.classifier)
	if err != nil {
		return err
	}
	fresh := make([]policy.Candidate, len(arms))
	d.Complexity = router.estimate(new(estimates), &x, &governance.Principal{Org: d.Org, Team: d.Team}, trafficOf(d), fresh)
	for i := range fresh {
		a, f := &c.Candidates[i], &fresh[i]
		a.Prior, a.Quality, a.QualityErr, a.Score, a.Gap, a.GapErr, a.History = f.Prior, f.Quality, f.QualityErr, f.Score, f.Gap, f.GapErr, f.History
	}
	c.Fallback, d.RouterVersion = router.fallback, router.version
	return nil
}
