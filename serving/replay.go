package serving

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
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
	unknown := unknownDecision(id)
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

// replay makes a decision anew from its logged case, live values included. It calls nobody and tosses no coin: where nothing
// was changed the action is the one that was drawn, else the best.
func (g *Gateway) replay(c *gin.Context, p *governance.Principal) {
	d, _, err := g.find(c.Request.Context(), p, datasets.RoundID(c.Param("id")))
	var want Change
	if err == nil {
		want, err = g.readChange(c.Request)
	}
	var e *Explanation
	if err == nil {
		l := g.live.Load()
		e, err = (&Replayer{Router: l.Router, Policy: g.o.Policy, arms: l.Arms, rules: l.rules, principals: l.Auth.Principals()}).Replay(d, want)
	}
	if err != nil {
		g.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, e)
}

func (g *Gateway) readChange(req *http.Request) (want Change, err error) {
	fields, err := g.small(req, replayBodyMax, "policy", "router", "strategy", "weights")
	if err != nil {
		return want, err
	}
	strategy := ""
	for name, to := range map[string]*string{"policy": &want.Policy, "router": &want.Router, "strategy": &strategy} {
		if v := fields.Get(name); v != nil {
			if *to, err = v.Text(name); err != nil {
				return want, err
			}
		}
	}
	want.Strategy = openai.Strategy(strategy)
	if v := fields.Get("weights"); v != nil {
		want.Weights, err = parseWeights(v)
	}
	return want, err
}

func parseWeights(v openai.Value) (*Weights, error) {
	fields, err := v.Fields("weights")
	if err != nil {
		return nil, err
	}
	var w Weights
	to := map[string]*float64{"quality": &w.Quality, "cost": &w.Cost, "latency": &w.Latency, "availability": &w.Availability}
	if err := onlyKnown(fields, "weights.", slices.Sorted(maps.Keys(to))); err != nil {
		return nil, err
	}
	for _, f := range fields {
		if *to[f.Name], err = strconv.ParseFloat(string(f.Value), 64); err != nil {
			return nil, openai.BadParam("weights."+f.Name, "must be a number")
		}
	}
	return &w, nil
}
