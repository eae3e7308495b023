package serving

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
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

// replay makes a decision anew from its logged case, live values included. It calls nobody and tosses no coin: where nothing
// was changed the action is the one that was drawn, else the best.
func (g *Gateway) replay(c *gin.Context, p *governance.Principal) {
	d, _, err := g.find(c.Request.Context(), p, datasets.RoundID(c.Param("id")))
	var want Change
	if err == nil {
		want, err = readChange(c.Request.Body)
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

func readChange(body io.Reader) (want Change, err error) {
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
	return want, nil
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
