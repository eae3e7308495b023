package serving

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/rules"
)

// propose builds the case from the estimates, the request, the key and the live state, and asks the policy.
func (r *round) propose() error {
	d := &r.decision
	*d = datasets.Decision{Case: policy.Case{Candidates: d.Case.Candidates, Pinned: -1, Reference: -1}}
	d.RoundID, d.DrawID, d.RequestID, d.At = r.id, r.id, r.requestID, datasets.Instant(r.started)
	d.Org, d.Team, d.KeyID = r.principal.Org, r.principal.Team, r.principal.KeyID
	if r.gates != nil {
		d.Gates = r.gates.Names()
	}
	d.Requested, d.RouterVersion, d.CatalogVersion = r.wire.Model, r.router.version, r.live.CatalogVersion
	r.converse()
	if err := r.demand(); err != nil {
		return err
	}
	d.Policy, d.Tags, d.Stream, d.InputTokens = cmp.Or(r.demands.Policy, policyName(r.traffic)), r.wire.Tradewind.Tags, r.wire.Stream, r.context.Tokens
	d.Needs = openai.CapabilityNames(r.wire.Needs)

	if r.surface.direct != nil {
		d.Policy = directPolicy
	}
	r.strategy = cmp.Or(r.wire.Strategy(), r.dialed(), r.demands.Strategy, openai.StrategyBalanced)
	d.Strategy = string(r.strategy)
	c := &d.Case
	r.candidates(c)
	if err := r.target(c); err != nil {
		return err
	}
	r.revive(c) // among those of the name that the client gave
	r.line(c)
	d.Complexity = r.router.estimate(&r.estimates, &r.context, r.principal, r.traffic, c.Candidates)
	r.price(c)
	r.time(c)
	if err := r.constraints(c); err != nil {
		return err
	}
	r.turn(c)
	r.recall(c)
	if err := r.pace(c); err != nil {
		return err
	}
	if policy.Constrain(c); r.revive(c) { // the healthy ones were too dear, or too slow
		if err := r.constraints(c); err != nil {
			return err
		}
		policy.Constrain(c)
	}
	if err := c.Validate(); err != nil {
		return err
	}
	r.g.o.Policy.Propose(&r.proposed, c)
	r.decided += r.since()
	if r.proposed.Best < 0 {
		r.nobody = true
		return r.noCandidate()
	}
	return nil
}

// policyName is what a decision is logged under: by it one sees which setting for the traffic was in force.
func policyName(t policy.Traffic) string {
	if t == policy.Shifting {
		return "router, shifting traffic"
	}
	return "router"
}

// candidates lists every arm with its live state and the filters that do not rest on an estimate.
func (r *round) candidates(c *policy.Case) {
	arms := r.router.arms
	c.Candidates = slices.Grow(c.Candidates[:0], len(arms))[:len(arms)]
	c.Fallback = r.router.fallback
	for i := range arms {
		live := r.live.Pool.Snapshot(arms[i].ID)
		c.Candidates[i] = policy.Candidate{
			Arm: arms[i].ID, Priced: arms[i].Prices.Known, Availability: math.Round(live.Availability*100) / 100, Filter: r.filter(i),
		}
		switch f := &c.Candidates[i].Filter; {
		case *f != policy.Eligible:
		case r.full(i):
			*f = policy.RateLimited
		case live.Ejected:
			*f = setBack(&live)
		}
	}
	r.revive(c)
}

// revive makes the ejected arms eligible where no other is, and reports whether it did. An arm that fails is better than none:
// ejection never removes the last of those that may serve the request. A limit of our own does, unless somebody is listed to
// stand in: then the decision is made, and the attempts go past the arms that have no room.
func (r *round) revive(c *policy.Case) (revived bool) {
	eligible := func(a policy.Candidate) bool { return a.Filter == policy.Eligible }
	if c.Pinned >= 0 || slices.ContainsFunc(c.Candidates, eligible) {
		return false
	}
	for i := range c.Candidates {
		if a := &c.Candidates[i]; passing(a.Filter) && (r.others || !r.full(i)) {
			a.Filter, revived = policy.Eligible, true
		}
	}
	return revived
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// price fills in what the request would cost at each arm: the forecast, and the bound that a hold must cover.
func (r *round) price(c *policy.Case) {
	for i := range c.Candidates {
		a, arm := &c.Candidates[i], &r.router.arms[i]
		if r.surface.direct != nil { // nobody knows how long it will be: as long as it may
			a.Prior, a.OutputTokens = true, float64(r.outputMax(arm))
		}
		if !a.Priced {
			continue
		}
		at := arm.Prices.At(catalog.Usage{Input: int64(r.context.Tokens)})
		output := min(a.OutputTokens, float64(r.outputMax(arm))) * float64(r.wire.N)
		picodollars := float64(arm.Prices.Request)*1e3 + float64(r.context.Tokens)*float64(at.Input) + output*float64(at.Output)
		a.CostUSD = math.RoundToEven(picodollars/1e3) / 1e9 // as exact as a charge can be
		bound, err := r.bound(arm)
		if err != nil { // absurdly large: no budget holds it
			a.CostUpperUSD = math.MaxInt64 / 1e9
			continue
		}
		a.CostUpperUSD = bound.Dollars()
	}
}

// time fills in how long the request would take at each arm, by the size of its prompt and the forecast one of its answer.
// Where tokens per second are asked for, arms are compared by the time of an answer of one length.
func (r *round) time(c *policy.Case) {
	for i := range c.Candidates {
		a := &c.Candidates[i]
		output := min(a.OutputTokens, float64(r.outputMax(&r.router.arms[i])))
		p50, p90 := r.live.Pool.Forecast(a.Arm, r.wire.Stream, float64(r.context.Tokens), output)
		if r.wire.Throughput() {
			p50, _ = r.live.Pool.Forecast(a.Arm, false, float64(r.context.Tokens), throughputTokens)
		}
		a.LatencyMS, a.LatencyP90MS = milliseconds(p50.Round(time.Microsecond)), milliseconds(p90.Round(time.Microsecond))
	}
}

// outputMax is the cap on one answer's tokens: the arm's, the request's, and where that says nothing the default. It is
// sent upstream too, otherwise it would bound nothing.
func (r *round) outputMax(arm *catalog.Arm) int {
	if arm.Mode == catalog.ModeEmbedding {
		return 0
	}
	limit := r.wire.MaxTokens
	if limit == 0 {
		limit = r.g.o.OutputTokensMax
	}
	if arm.MaxOutputTokens > 0 {
		limit = min(limit, arm.MaxOutputTokens)
	}
	return limit
}

// inputs is the most tokens that an arm can be sent.
func (r *round) inputs(arm *catalog.Arm) int64 {
	most := r.wire.InputBound()
	if r.spoken != nil && r.spoken.Stateful { // what the vendor keeps can fill the window
		most = max(most, int64(arm.ContextTokens))
	}
	return most
}

// bound is the most that the request can cost at an arm.
func (r *round) bound(arm *catalog.Arm) (catalog.Nanodollars, error) {
	return arm.Prices.Bound(catalog.Most{
		Inputs: r.inputs(arm), Outputs: int64(r.outputMax(arm)), N: int64(r.wire.N), Audio: r.wire.Needs.Has(catalog.AudioInput),
	})
}

// constraints copies into the case what request and key demand. Every level's constraint holds and the strictest wins.
func (r *round) constraints(c *policy.Case) error {
	o, p, q := &r.wire.Tradewind, r.principal, &r.demands
	want := r.router.objective(r.strategy, r.traffic, q.Quality)
	r.wanted = want
	c.Lambda, c.Guard, c.LatencyFirst = want.lambda, want.guard, want.latencyFirst
	c.AvailabilityFirst = r.strategy == openai.StrategyAvailability
	r.decision.Certified = want.certified && c.Pinned < 0
	c.MeasuredFirst = r.wire.Target.Auto
	if r.surface.direct == nil { // elsewhere there is no choice that a floor could bound
		c.QualityFloor = max(o.QualityFloor, p.Floor, q.Floor)
	}
	if o.Reference != "" {
		i := r.lookup(catalog.ArmID(o.Reference))
		if i < 0 {
			return r.unknownModel("tradewind.quality_floor.reference", o.Reference)
		}
		c.Reference, c.ReferenceGap = i, o.Epsilon
	}
	c.MaxCostUSD = rules.Strictest(o.MaxCost.Dollars(), rules.Strictest(p.Caps.MaxCostUSD, q.MaxCostUSD))
	c.MaxLatencyMS = rules.Strictest(milliseconds(o.MaxLatency), rules.Strictest(p.Caps.MaxLatencyMS, q.MaxLatencyMS))
	if c.Epsilon = r.live.Epsilon; q.Epsilon != nil {
		c.Epsilon = *q.Epsilon
	}
	c.Explore = o.Explore.Or(true) && q.Explore && (p.Explore == nil || *p.Explore) && r.sits() && !c.AvailabilityFirst
	if err := r.remaining(); err != nil || !r.limited() {
		return err
	}
	for i := range c.Candidates {
		a := &c.Candidates[i]
		switch {
		case a.Filter != policy.Eligible:
		case !a.Priced:
			a.Filter = policy.Unpriced
		case a.CostUpperUSD > r.left.Dollars():
			a.Filter = policy.Budget
		}
	}
	return nil
}

// target applies the model value: a concrete name pins its arm; a list of models narrows the choice of an auto name and
// holds the stand-ins of a concrete one.
func (r *round) target(c *policy.Case) error {
	t := r.aim
	listed, err := r.listed()
	if err != nil {
		return err
	}
	if t.Group != "" {
		group := r.live.Aliases[t.Group]
		if group == nil {
			return r.unknownGroup(t.Group)
		}
		keepOnly(c, r.router.matchingAll(group))
	}
	if t.Auto {
		if len(listed) > 0 {
			keepOnly(c, listed)
		}
		return nil
	}
	r.others = r.wire.Tradewind.Fallback.Or(true) && slices.ContainsFunc(listed, func(i int) bool { return !r.full(i) })
	name := t.Name
	matches := r.matching(name)
	if len(matches) == 0 && t.Base != "" {
		name = t.Base
		matches = r.matching(name)
	}
	switch len(matches) {
	case 0:
		return r.unknownModel("model", t.Name)
	case 1:
		c.Pinned = matches[0]
		if err := r.pinnable(c); !r.unpin(c) {
			return err
		}
		return nil
	}
	if r.pinned {
		r.narrow(c, matches)
		return nil
	}
	if err := r.oneModel(t.Name, matches); err != nil {
		return err
	}
	// The same model at several providers: any of them, ordered by availability unless the request says otherwise.
	if r.wire.Strategy() == openai.StrategyNone {
		r.strategy = openai.StrategyAvailability
		r.decision.Strategy = string(r.strategy)
	}
	keepOnly(c, matches)
	return nil
}

// pinnable says at once, and in words, why the arm that somebody named cannot serve.
func (r *round) pinnable(c *policy.Case) error {
	a := &c.Candidates[c.Pinned]
	switch {
	case a.Filter == policy.NotAllowed:
		return openai.NewError(openai.ModelNotAllowed, "this key may not use %s", a.Arm)
	case passing(a.Filter) && (r.others || !r.full(c.Pinned)): // it was named: it is tried
		a.Filter = policy.Eligible
	}
	return nil
}

// listed are the arms of the request's list of models, in its order; of a named model without a list, the fallbacks
// that are configured.
func (r *round) listed() (arms []int, err error) {
	if r.surface.direct != nil {
		return nil, nil
	}
	models := r.wire.Tradewind.Models
	if t := r.aim; len(models) == 0 && !t.Auto {
		models = r.live.Fallbacks[t.Name]
	}
	for _, m := range models {
		found := r.matching(m)
		if len(found) == 0 {
			return nil, r.unknownModel("models", m)
		}
		if len(found) > 1 {
			prioritized := r.prioritized()
			slices.SortStableFunc(found, func(a, b int) int {
				return cmp.Compare(r.rankAmong(&r.router.arms[a], prioritized), r.rankAmong(&r.router.arms[b], prioritized))
			})
		}
		arms = append(arms, found...)
	}
	return arms, nil
}

func keepOnly(c *policy.Case, keep []int) {
	for i := range c.Candidates {
		if f := c.Candidates[i].Filter; (f == policy.Eligible || passing(f)) && !slices.Contains(keep, i) {
			c.Candidates[i].Filter = policy.NotAllowed
		}
	}
}

// matching finds the arms of a name: provider/model, an alias, or the model at any provider.
func (r *round) matching(name string) []int {
	if i := r.lookup(catalog.ArmID(name)); i >= 0 {
		return []int{i}
	}
	if models := r.live.Aliases[name]; models != nil {
		return r.router.matchingAll(models)
	}
	return r.router.matching(name)
}

// lookup finds an arm by its whole id; -1 where it is not served.
func (r *round) lookup(id catalog.ArmID) int {
	if i, served := r.router.index[id]; served {
		return i
	}
	return -1
}

// draw counts the prompt, tosses the coin and lists who stands in where the action fails.
func (r *round) draw() {
	r.follow()
	i := policy.Draw(&r.proposed, r.g.o.Uniform())
	r.choose(i)
	r.spend(i)
	if r.turned != nil {
		r.g.dial.add(policy.Lambdas(dialDecade), r.turned)
	}
	r.standIns(i)
}

// choose writes candidate i into the decision as the action, with its propensity and the reason.
func (r *round) choose(i int) {
	d := &r.decision
	d.Action, d.Propensity, d.Propensities = d.Case.Candidates[i].Arm, r.proposed.P[i], r.proposed.P
	d.Explored = r.proposed.Explores(&d.Case, i)
	eligible := 0
	for k := range d.Case.Candidates {
		if d.Case.Candidates[k].Filter == policy.Eligible {
			eligible++
		}
	}
	switch {
	case r.pinned:
		d.Reason = datasets.Ruled
	case d.Case.Pinned >= 0:
		d.Reason = datasets.Pinned
	case d.Explored:
		d.Reason = datasets.Explored
	case d.Case.FloorReference:
		d.Reason = datasets.FloorReference
	case d.Case.Candidates[i].Sticky: // the draw that opened the session fixed it, and no certificate is about what follows
		d.Reason, d.DrawID, d.Certified = datasets.Sticky, r.talk.state.Draw, false
	case eligible == 1:
		d.Reason = datasets.OnlyCandidate
	default:
		d.Reason = datasets.Predicted
	}
}

// attemptsMax is the most arms that one request may try.
const attemptsMax = 3

// standIns fills the plan: the action first, then who may answer where it fails.
func (r *round) standIns(action int) {
	c := &r.decision.Case
	r.plan = append(r.plan[:0], &r.router.arms[action])
	if !r.wire.Tradewind.Fallback.Or(true) {
		return
	}
	// Another provider of the same choice comes before another model.
	choice := c.Candidates[action].Choice
	r.inOrder(c, func(a *policy.Candidate) bool {
		return choice != 0 && a.Choice == choice && (a.Filter == policy.Eligible || a.Filter == policy.Ordered)
	})
	r.inOrder(c, func(a *policy.Candidate) bool { return a.Filter == policy.Eligible })
	// Availability before thrift: an arm that the guard held back may still answer where all others have failed.
	for i := range c.Candidates {
		if c.Candidates[i].Filter == policy.Guarded && !r.full(i) {
			r.standIn(i)
		}
	}
	if r.aim.Auto {
		return
	}
	// A named model is served by that model, or by those that the request lists.
	listed, _ := r.listed() // every name was found when the case was made
	for _, i := range listed {
		if r.filter(i) == policy.Eligible && affordable(c, i) && !r.full(i) {
			r.standIn(i)
		}
	}
}

// inOrder adds the arms to the plan that may stand in, in the order of the request, and else in that of the strategy.
func (r *round) inOrder(c *policy.Case, may func(a *policy.Candidate) bool) {
	for len(r.plan) < r.attemptsOf(attemptsMax) {
		next := -1
		for i := range c.Candidates {
			a := &c.Candidates[i]
			if !may(a) || slices.Contains(r.plan, &r.router.arms[i]) || r.full(i) {
				continue
			}
			if next < 0 || before(c, i, next) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		r.standIn(next)
	}
}

// before reports whether candidate i is to be asked before candidate j.
func before(c *policy.Case, i, j int) bool {
	a, b := &c.Candidates[i], &c.Candidates[j]
	if a.Choice == b.Choice && a.Turn != b.Turn {
		return a.Turn < b.Turn
	}
	return policy.Better(c, i, j)
}

// affordable applies the cap on cost to an arm that the policy did not weigh.
func affordable(c *policy.Case, i int) bool {
	a := &c.Candidates[i]
	return c.MaxCostUSD == 0 || a.Priced && a.CostUpperUSD <= c.MaxCostUSD
}

func (r *round) standIn(i int) {
	arm := &r.router.arms[i]
	if len(r.plan) < r.attemptsOf(attemptsMax) && !slices.Contains(r.plan, arm) {
		r.plan = append(r.plan, arm)
	}
}
