package serving

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/rules"
)

// This file looks at decisions that were made: it finds them again, and makes them anew from what was logged.

const (
	// findMax is how many decisions are looked for in the sealed log at once; others wait.
	findMax = 2
	// replayBodyMax bounds the body of a replay.
	replayBodyMax = 4 << 10
)

// find looks for a decision in the journal and then in the sealed log, and finds none that the principal may not see.
func (g *Gateway) find(ctx context.Context, p *governance.Principal, id datasets.RoundID) (*datasets.Decision, *datasets.Outcome, error) {
	unknown := openai.NewError(openai.NotFound, "no decision %.64q is known", id)
	d, o, found := g.o.Journal.Recent(id)
	if !found && g.o.Sealed != nil {
		made, err := roundTime(id)
		if err != nil {
			return nil, nil, unknown
		}
		select {
		case g.finding <- struct{}{}:
			defer func() { <-g.finding }()
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		r, ok, err := g.o.Sealed.Find(ctx, id, made, made.Add(time.Millisecond))
		if err != nil {
			g.complain("a decision was not found in the log", "round", id, "error", err)
			return nil, nil, openai.NewError(openai.StoreUnavailable, "the log cannot be read now")
		}
		d, o, found = &r.Decision, &r.Outcome, ok
	}
	if !found || !mayRead(p, d) {
		return nil, nil, unknown
	}
	return d, o, nil
}

// decision shows a round to those who may see it. A foreign id looks like one that never was.
func (g *Gateway) decision(c *gin.Context, p *governance.Principal) {
	d, o, err := g.find(c.Request.Context(), p, datasets.RoundID(c.Param("id")))
	if err != nil {
		g.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, Explain(d, o))
}

// change is what a replay is to do differently; nothing where it is empty.
type change struct {
	Policy   string          `json:"policy"`
	Strategy openai.Strategy `json:"strategy"`
	Weights  *Weights        `json:"weights"`
}

// replay makes a decision anew from its logged case, live values included. It calls nobody and tosses no coin: where nothing
// was changed the action is the one that was drawn, else the best.
func (g *Gateway) replay(c *gin.Context, p *governance.Principal) {
	d, _, err := g.find(c.Request.Context(), p, datasets.RoundID(c.Param("id")))
	var want change
	if err == nil {
		want, err = readChange(c.Request.Body)
	}
	if err == nil {
		err = g.redecide(p, d, &want)
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	e := Explain(d, nil)
	e.DryRun = true
	c.JSON(http.StatusOK, e)
}

func readChange(body io.Reader) (want change, err error) {
	raw, err := io.ReadAll(io.LimitReader(body, replayBodyMax+1))
	switch {
	case err != nil:
		return want, openai.NewError(openai.InvalidRequest, "the body could not be read to its end")
	case len(raw) > replayBodyMax:
		return want, openai.NewError(openai.RequestTooLarge, "the body has more than %d bytes", replayBodyMax)
	case len(raw) == 0:
		return want, nil
	}
	if err := strictJSON(raw, &want); err != nil {
		return want, openai.NewError(openai.InvalidRequest, "the body is not a replay: %v", err)
	}
	if want.Strategy != "" && !want.Strategy.Known() {
		e := openai.NewError(openai.InvalidRequest, "strategy must be one of cost, latency, balanced, availability, quality")
		e.Param = "strategy"
		return want, e
	}
	if want.Weights != nil && !want.Weights.valid() {
		e := openai.NewError(openai.InvalidRequest, "weights are those of quality (more than 0) and cost, or that of latency or availability alone")
		e.Param = "weights"
		return want, e
	}
	if want.Weights != nil && want.Strategy != "" {
		return want, openai.NewError(openai.InvalidRequest, "a strategy sets the weights: give one of the two")
	}
	return want, nil
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

// redecide replaces a decision by what it would be with the change.
func (g *Gateway) redecide(p *governance.Principal, d *datasets.Decision, want *change) error {
	if len(d.Features) == 0 {
		return openai.NewError(openai.NotReplayable, "nothing of the request was kept but its costs")
	}
	if want.Policy != "" && want.Policy != d.Policy && want.Policy != d.RouterVersion {
		e := openai.NewError(openai.UnsupportedRoutingField, "a decision is replayed under its own policy and router, %q and %q", d.Policy, d.RouterVersion)
		e.Param = "policy"
		return e
	}
	c, logged, reason := &d.Case, d.Action, d.Reason
	if err := g.alter(p, d, want); err != nil {
		return err
	}
	for i := range c.Candidates {
		switch a := &c.Candidates[i]; a.Filter {
		case policy.MaxCost, policy.MaxLatency, policy.QualityFloor, policy.Guarded:
			a.Filter = policy.Eligible // and is found again
		}
	}
	policy.Constrain(c)
	r := &round{decision: *d}
	g.o.Policy.Propose(&r.proposed, c)
	i := r.proposed.Best
	if i < 0 {
		return openai.NewError(openai.NoCandidate, "no model could have served this request: every one was filtered")
	}
	if *want == (change{Policy: want.Policy}) {
		i = slices.IndexFunc(c.Candidates, func(a policy.Candidate) bool { return a.Arm == logged })
		if i < 0 {
			return openai.NewError(openai.NotReplayable, "the case does not hold the model that was chosen")
		}
	}
	r.choose(i)
	*d = r.decision
	if *want == (change{Policy: want.Policy}) || c.Pinned >= 0 {
		d.Reason = reason // some say more than a case does
	}
	return nil
}

// alter writes the change into the case.
func (g *Gateway) alter(p *governance.Principal, d *datasets.Decision, want *change) error {
	c := &d.Case
	if w := want.Weights; w != nil {
		d.Certified, c.Paces = false, nil
		c.LatencyFirst, c.AvailabilityFirst = w.Latency > 0, w.Availability > 0
		if w.Quality > 0 {
			c.Lambda = w.Cost / w.Quality
		}
		return nil
	}
	if want.Strategy == "" {
		return nil
	}
	l := g.live.Load()
	if d.RouterVersion != l.Router.version {
		return openai.NewError(openai.NotReplayable, "the router %s is not in service any more, and only it knows what the strategy asked", d.RouterVersion)
	}
	traffic := policy.KnownMix
	if d.Policy == policyName(policy.Shifting) {
		traffic = policy.Shifting
	}
	var asked rules.Demands
	request := rules.Request{Principal: p, Tags: d.Tags}
	if l.rules.Has(d.Policy) {
		request.Policy = d.Policy
	}
	l.rules.For(&asked, &request)
	o := l.Router.objective(want.Strategy, traffic, asked.Quality)
	c.Lambda, c.Guard, c.LatencyFirst = o.lambda, o.guard, o.latencyFirst
	c.AvailabilityFirst = want.Strategy == openai.StrategyAvailability
	c.Explore = c.Explore && !c.AvailabilityFirst
	d.Strategy, d.Certified = string(want.Strategy), o.certified && c.Pinned < 0
	if c.Pinned < 0 && c.Hurry() {
		d.Certified = false
	}
	return nil
}

// strictJSON reads one JSON object, and nothing that it does not know.
func strictJSON(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the object")
	}
	return nil
}
