package serving

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
)

// Explanation is the decision object: one form in /v1/route, /v1/decisions/{id}, `explain: true` and the command line.
type Explanation struct {
	ID        datasets.RoundID `json:"id"`
	CreatedAt time.Time        `json:"created_at"`
	RequestID string           `json:"request_id,omitempty"`
	DryRun    bool             `json:"dry_run"`
	// Sentence says in words why this arm was chosen.
	Sentence string `json:"sentence"`

	Requested      string          `json:"requested"`
	Action         catalog.ArmID   `json:"action"`
	Complexity     float64         `json:"complexity"`
	Served         *catalog.ArmID  `json:"served"`
	Reason         datasets.Reason `json:"reason"`
	Strategy       string          `json:"strategy"`
	Policy         string          `json:"policy"`
	RouterVersion  string          `json:"router_version,omitempty"`
	CatalogVersion string          `json:"catalog_version,omitempty"`
	Propensity     float64         `json:"propensity"`
	Explored       bool            `json:"explored"`
	Certified      bool            `json:"certified"`
	Weights        Weights         `json:"weights"`
	// BudgetPressure is how much of all that could be saved the cost target of a level makes the round save, 0 to 1, for the
	// levels that have changed the weights.
	BudgetPressure map[string]float64 `json:"budget_pressure,omitempty"`
	Needs          Needs              `json:"needs"`
	// Gates are what the answer must pass; what they said stands with the attempts.
	Gates      []string    `json:"gates,omitempty"`
	Candidates []Candidate `json:"candidates"`
	Session    *Session    `json:"session,omitempty"`

	Attempts   []datasets.Attempt   `json:"attempts,omitempty"`
	Usage      *catalog.Usage       `json:"usage,omitempty"`
	Cost       *catalog.Nanodollars `json:"cost_usd"`
	CostStatus datasets.CostStatus  `json:"cost_status"`
	Status     datasets.Status      `json:"status,omitempty"`
}

// Weights are what the objective multiplies: quality by one, a dollar by Cost.
type Weights struct {
	Quality      float64 `json:"quality"`
	Cost         float64 `json:"cost"`
	Latency      float64 `json:"latency"`
	Availability float64 `json:"availability"`
}

// Needs is what the request asks of an arm.
type Needs struct {
	InputTokens  int      `json:"input_tokens"`
	Capabilities []string `json:"capabilities,omitempty"`
}

// Candidate is one arm of a decision. What is unknown is null.
type Candidate struct {
	Model  catalog.ArmID `json:"model"`
	Status string        `json:"status"`
	Filter policy.Filter `json:"filter,omitempty"`
	// Prior says that nothing measured stands behind the estimates: they are what is expected of an arm of its tier.
	Prior        bool    `json:"prior,omitempty"`
	Quality      float64 `json:"quality"`
	QualityLower float64 `json:"quality_lower"`
	// History is what of Quality, and of Score, the team's own outcomes have added; absent where they taught nothing.
	History      float64  `json:"history,omitempty"`
	CostUSD      *float64 `json:"cost_usd"`
	CostUpperUSD *float64 `json:"cost_upper_usd"`
	LatencyMS    *float64 `json:"latency_ms"`
	Availability float64  `json:"availability"`
	Score        float64  `json:"score"`
	Propensity   float64  `json:"propensity"`
}

// Explain builds the decision object from what is journaled. The outcome is nil while the round is open and for a dry
// run.
func Explain(d *datasets.Decision, o *datasets.Outcome) *Explanation {
	e := &Explanation{
		ID: d.RoundID, CreatedAt: d.At, RequestID: d.RequestID, Requested: d.Requested, Action: d.Action,
		Complexity: d.Complexity, Reason: d.Reason, Strategy: d.Strategy, Policy: d.Policy, RouterVersion: d.RouterVersion,
		CatalogVersion: d.CatalogVersion, Propensity: d.Propensity, Explored: d.Explored, Certified: d.Certified,
		Weights: Weights{Quality: 1, Cost: d.Case.Lambda}, Needs: Needs{InputTokens: d.InputTokens, Capabilities: d.Needs}, Gates: d.Gates, CostStatus: datasets.CostPending,
	}
	if d.Case.LatencyFirst {
		e.Weights = Weights{Latency: 1}
	} else if d.Case.AvailabilityFirst {
		e.Weights = Weights{Availability: 1}
	}
	for _, p := range d.Case.Paces {
		if !d.Case.LatencyFirst && p.Lambda == d.Case.Lambda {
			if e.BudgetPressure == nil {
				e.BudgetPressure = map[string]float64{}
			}
			e.BudgetPressure[p.Level] = p.Pressure
		}
	}
	for i := range d.Case.Candidates {
		e.Candidates = append(e.Candidates, explainCandidate(d, i))
	}
	e.Sentence, e.Session = sentence(d, o), explainSession(d)
	if o == nil {
		return e
	}
	e.Attempts, e.CostStatus, e.Status = o.Attempts, o.CostStatus, o.Status
	if o.Reason != "" {
		e.Reason = o.Reason
	}
	if o.Served != "" {
		e.Served = &o.Served
		e.Usage = &o.Usage
	}
	if o.CostStatus != datasets.CostUnpriced {
		e.Cost = &o.Cost
	}
	return e
}

func explainCandidate(d *datasets.Decision, i int) Candidate {
	a := &d.Case.Candidates[i]
	c := Candidate{
		Model: a.Arm, Status: "eligible", Filter: a.Filter, Prior: a.Prior, Quality: a.Quality, QualityLower: max(a.Quality-a.QualityErr, 0), History: a.History,
		Availability: a.Availability, Score: policy.Objective(&d.Case, i),
	}
	if a.Filter != policy.Eligible {
		c.Status = "filtered"
	}
	if i < len(d.Propensities) {
		c.Propensity = d.Propensities[i]
	}
	if a.Priced {
		c.CostUSD, c.CostUpperUSD = &a.CostUSD, &a.CostUpperUSD
	}
	if a.LatencyMS > 0 {
		c.LatencyMS = &a.LatencyMS
	}
	return c
}

// sentence tells a person why.
func sentence(d *datasets.Decision, o *datasets.Outcome) string {
	chosen, next := -1, -1
	for i := range d.Case.Candidates {
		switch {
		case d.Case.Candidates[i].Arm == d.Action:
			chosen = i
		case d.Case.Candidates[i].Filter == policy.Eligible && (next < 0 || policy.Better(&d.Case, i, next)):
			next = i
		}
	}
	if chosen < 0 {
		return ""
	}
	a := &d.Case.Candidates[chosen]
	var s strings.Builder
	fmt.Fprintf(&s, "chosen: %s because %s", a.Arm, because(d))
	if next >= 0 {
		b := &d.Case.Candidates[next]
		fmt.Fprintf(&s, "; the next best was %s", b.Arm)
		if a.Priced && b.Priced {
			fmt.Fprintf(&s, ", %s for %+.3f quality", moreOrLess(b.CostUSD-a.CostUSD), b.Quality-a.Quality)
		}
		switch {
		case d.Case.LatencyFirst && a.LatencyMS > 0 && b.LatencyMS > 0:
			fmt.Fprintf(&s, " in %.0f ms instead of %.0f", b.LatencyMS, a.LatencyMS)
		case d.Case.AvailabilityFirst && a.Availability != b.Availability:
			fmt.Fprintf(&s, ", which has answered %.0f %% of late to %.0f", 100*b.Availability, 100*a.Availability)
		}
	}
	if a.History != 0 {
		fmt.Fprintf(&s, "; the team's own outcomes have moved its quality by %+.3f", a.History)
	}
	if a.Prior && d.Case.Pinned < 0 && d.Policy != directPolicy {
		s.WriteString("; nobody has scored it here, so these are expectations of its tier and nothing is certified")
	}
	switch {
	case o == nil:
	case o.Reason == datasets.Escalated:
		fmt.Fprintf(&s, "; its answer did not pass a gate, and that of %s did", o.Served)
	case o.Reason == datasets.GateFailed:
		s.WriteString("; no answer passed the gates")
	case o.Reason == datasets.Hedged:
		fmt.Fprintf(&s, "; it was slow to begin, and %s answered first", o.Served)
	case o.Served != "" && len(o.Attempts) > 0 && !slices.ContainsFunc(o.Attempts, func(a datasets.Attempt) bool { return a.Arm == d.Action }):
		fmt.Fprintf(&s, "; it could not be asked at that moment, and %s answered", o.Served)
	case o.Served != "" && o.Served != d.Action:
		fmt.Fprintf(&s, "; it failed, and %s answered", o.Served)
	}
	return s.String() + "."
}

func moreOrLess(usd float64) string {
	if usd < 0 {
		return strconv.FormatFloat(-usd, 'g', 3, 64) + " dollars less"
	}
	return strconv.FormatFloat(usd, 'g', 3, 64) + " dollars more"
}

// why counts the filters of the models that were not to serve, and says in words the one that no client or operator has set.
func why(all []policy.Candidate) string {
	count := map[policy.Filter]int{}
	for i := range all {
		if f := all[i].Filter; f != policy.Eligible {
			count[f]++
		}
	}
	switch {
	case len(count) == 0:
		return ""
	case count[policy.Guarded] > 0:
		return " (" + tally(count) + "; guard: nothing shows yet that they hold the quality of the fallback)"
	}
	return " (" + tally(count) + ")"
}

func because(d *datasets.Decision) string {
	switch d.Reason {
	case datasets.Pinned:
		return "the request names it"
	case datasets.Explored:
		return fmt.Sprintf("this round explores (probability %.4f)", d.Propensity)
	case datasets.Ruled:
		return "a rule names it"
	case datasets.Sticky:
		return stays(d)
	case datasets.OnlyCandidate:
		if slices.ContainsFunc(d.Case.Candidates, func(a policy.Candidate) bool { return a.Filter == policy.Ordered }) {
			return "it comes first in the order of providers"
		}
		return "every other model was filtered" + why(d.Case.Candidates)
	case datasets.FloorReference:
		return "no model clears the quality floor, so the reference serves"
	}
	c := &d.Case
	switch {
	case weighed(d):
		return fmt.Sprintf("its weight among the providers of the model drew it (probability %.4f)", d.Propensity)
	case c.LatencyFirst && !timed(c):
		return "no latency is known yet, and it has the highest estimated quality"
	case c.LatencyFirst:
		return "it is the fastest of the models that are good enough"
	case c.AvailabilityFirst:
		return "none has answered more reliably of late"
	case pressed(c) != "":
		return "it gives the most quality for its forecast cost while the cost target of " + pressed(c) + " saves money"
	case c.Lambda == 0 && c.Guard.On:
		return "it has the highest estimated quality of the models that are proven good enough"
	case c.Lambda == 0:
		return "it has the highest estimated quality"
	case d.Certified:
		return "it gives the most quality for its forecast cost, at a trade-off certified to hold the quality of strategy " + d.Strategy
	}
	return "it gives the most quality for its forecast cost"
}

// weighed reports whether the action was drawn by its weight among others that have one.
func weighed(d *datasets.Decision) bool {
	c := d.Case.Candidates
	i := slices.IndexFunc(c, func(a policy.Candidate) bool { return a.Arm == d.Action })
	return i >= 0 && c[i].Choice != 0 && c[i].Weight > 0 && slices.ContainsFunc(c, func(a policy.Candidate) bool {
		return a.Arm != d.Action && a.Choice == c[i].Choice && a.Weight > 0 && a.Filter == policy.Eligible
	})
}

// timed reports whether the latency of any model is known that could have been chosen.
func timed(c *policy.Case) bool {
	return slices.ContainsFunc(c.Candidates, func(a policy.Candidate) bool { return a.Filter == policy.Eligible && a.LatencyMS > 0 })
}

// pressed is the level whose cost target has set the price of a dollar, "" where none has.
func pressed(c *policy.Case) string {
	for _, p := range c.Paces {
		if !c.LatencyFirst && p.Lambda == c.Lambda {
			return map[bool]string{true: "all requests", false: "the " + p.Level}[p.Level == governance.All]
		}
	}
	return ""
}

// explainNow is the decision object of the round as it stands, for an answer that carries it.
func (r *round) explainNow() []byte {
	o := r.outcome
	if o.CostStatus == "" {
		o.CostStatus = datasets.CostFinal
	}
	b, err := json.Marshal(Explain(&r.decision, &o))
	if err != nil {
		r.g.o.Log.Error("a decision could not be shown", "round", r.id, "error", err)
		return nil
	}
	return b
}
