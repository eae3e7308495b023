package serving

import (
	"encoding/hex"
	"encoding/json"
	"net"
	"strconv"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/session"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file is what OpenTelemetry is told of a round, once it has ended: until then nothing is kept for it but what a vendor
// says of its answer. The client's trace is continued and ends here: a vendor is sent neither its ids nor ours, because they
// tell strangers which requests belong together.

// heard is what a vendor said of its answer, or of the last of several. It is nil where nobody wants to know.
type heard struct {
	id     string
	finish []string
}

// hear looks for the answer's id and for how it ended, in whichever dialect it is.
func (h *heard) hear(event *upstream.Event) {
	if h.id != "" && !event.Kind.Has(openai.HasFinish) {
		return
	}
	var said struct {
		ID         string
		Status     string
		StopReason string `json:"stop_reason"`
		Choices    []struct {
			FinishReason string `json:"finish_reason"`
		}
		Message  struct{ ID string }
		Response struct{ ID, Status string }
		Delta    struct {
			StopReason string `json:"stop_reason"`
		}
	}
	if json.Unmarshal(event.Data, &said) != nil {
		return
	}
	for _, id := range [...]string{said.ID, said.Message.ID, said.Response.ID} {
		if h.id == "" {
			h.id = id
		}
	}
	if !event.Kind.Has(openai.HasFinish) {
		return
	}
	ends := []string{said.StopReason, said.Delta.StopReason, said.Response.Status, said.Status}
	for _, c := range said.Choices {
		ends = append(ends, c.FinishReason)
	}
	for _, end := range ends {
		if end != "" {
			h.finish = append(h.finish, end)
		}
	}
}

// tell tells OpenTelemetry of the round.
func (r *round) tell(took time.Duration) {
	e := telemetry.Exchange{
		Surface: string(r.surface.dialect), Address: r.req.Host, Header: r.req.Header, Began: r.started, Ended: r.started.Add(took), By: r.tenant(),
	}
	if host, _, err := net.SplitHostPort(r.req.Host); err == nil {
		e.Address = host
	}
	if r.err != nil {
		wrong := openai.AsError(r.err)
		e.Failed, e.Fault = codeLabel(wrong.Code), wrong.Status >= 500
	}
	if r.wire != nil {
		e.Asked = r.asked()
	}
	if r.decision.Action != "" {
		e.Route = r.routed()
	}
	if r.talk.id != (session.ID{}) {
		e.Conversation = hex.EncodeToString(r.talk.id[:])
	}
	if o := &r.outcome; o.RoundID != "" {
		e.Cost, e.CostStatus = o.Cost.Dollars(), string(o.CostStatus)
		e.Attempts = r.called()
	}
	r.g.o.Tracing.Tell(&e)
}

// asked are the parameters of the request.
func (r *round) asked() *telemetry.Asked {
	a := &telemetry.Asked{Model: r.wire.Model, MaxTokens: r.wire.MaxTokens, Stream: r.wire.Stream}
	sent := func(name string, into any) { // what is not of its type is the vendor's to refuse
		if raw := r.wire.Sent(name); raw != nil {
			_ = json.Unmarshal(raw, into)
		}
	}
	sent("temperature", &a.Temperature)
	sent("top_p", &a.TopP)
	sent("seed", &a.Seed)
	if raw := r.wire.Sent("stop"); len(raw) > 0 && raw[0] == '"' {
		a.Stop = make([]string, 1)
		sent("stop", &a.Stop[0])
	} else {
		sent("stop", &a.Stop)
	}
	return a
}

// routed is the decision.
func (r *round) routed() *telemetry.Route {
	d := &r.decision
	t := &telemetry.Route{
		From: r.started.Add(r.deciding), ID: string(r.id), Reason: string(d.Reason), Strategy: d.Strategy, Policy: d.Policy, Version: d.RouterVersion,
		Propensity: d.Propensity, Explored: d.Explored, Candidates: len(d.Case.Candidates),
	}
	t.To = t.From.Add(r.decided)
	for i := range d.Case.Candidates {
		c := &d.Case.Candidates[i]
		if c.Filter != policy.Eligible {
			t.Filtered++
		}
		if c.Arm == d.Action {
			t.ExpectedQuality, t.ExpectedCost = c.Quality, c.CostUSD
		}
	}
	return t
}

// called are the attempts. The one whose answer was served carries what came of it.
func (r *round) called() []telemetry.Call {
	o := &r.outcome
	calls := make([]telemetry.Call, len(o.Attempts))
	served := -1
	for i := range o.Attempts {
		a := &o.Attempts[i]
		calls[i] = telemetry.Call{
			Provider: a.Arm.Provider(), Model: a.Arm.Model(), Address: r.live.Hosts[a.Arm.Provider()], Began: a.StartedAt,
			Took: time.Duration(a.TotalMS * float64(time.Millisecond)), Failed: a.ErrorClass, Cost: a.Cost.Dollars(),
		}
		if a.FirstTokenMS != nil {
			calls[i].FirstContent = time.Duration(*a.FirstTokenMS * float64(time.Millisecond))
		}
		switch {
		case a.Outcome == telemetry.Cancelled:
			calls[i].Failed = telemetry.Cancelled
		case a.ErrorClass != "" && a.HTTPStatus >= 400:
			calls[i].Failed = strconv.Itoa(a.HTTPStatus)
		}
		if a.Arm == o.Served {
			served = i
		}
	}
	if served >= 0 {
		u := o.Usage
		calls[served].Answer = &telemetry.Answered{
			ID: r.heard.id, Finish: r.heard.finish, Told: o.Status == datasets.Completed && !r.guessed, Tokens: tokensOf(u),
		}
	}
	return calls
}
