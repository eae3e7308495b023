package serving

import (
	"context"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file is what a round tells the metrics, and what they ask of the gateway.

// countAnswer counts how the round ended, for the availability report.
func (r *round) countAnswer() {
	switch o := &r.outcome; {
	case o.Status == datasets.ClientGone, r.blamed():
	case o.Status != datasets.Completed:
		r.g.o.Metrics.Answered(telemetry.Failed)
	case ended(o.Attempts) > 1:
		r.g.o.Metrics.Answered(telemetry.Failover)
	default:
		r.g.o.Metrics.Answered(telemetry.FirstTry)
	}
}

// blamed reports whether the last attempt failed because of the request: no provider would have answered it.
func (r *round) blamed() bool {
	if r.outcome.Status != datasets.Failed || len(r.outcome.Attempts) == 0 {
		return false
	}
	class := upstream.Class(r.outcome.Attempts[len(r.outcome.Attempts)-1].ErrorClass)
	return class != "" && class != upstream.RateLimited && !class.Fault()
}

// ended counts the attempts that came to an end of their own.
func ended(all []datasets.Attempt) (n int) {
	for i := range all {
		if all[i].Outcome != "cancelled" {
			n++
		}
	}
	return n
}

func tokensOf(c catalog.Usage) telemetry.Tokens {
	return telemetry.Tokens{Input: c.Input + c.AudioInput + c.ImageInput, Output: c.Output + c.AudioOutput, CacheRead: c.CacheRead, CacheWrite: c.CacheWrite + c.CacheWrite1h, Reasoning: c.Reasoning}
}

// tenant is who is charged, as metrics may name them.
func (r *round) tenant() telemetry.Tenant {
	if r.principal == nil {
		return telemetry.Tenant{}
	}
	return telemetry.Tenant{Org: r.principal.Org, Team: r.principal.Team}
}

// countFiltered counts the candidates that were filtered, of decisions and of requests that were refused for it.
func (r *round) countFiltered() {
	for i := range r.decision.Case.Candidates {
		if f := r.decision.Case.Candidates[i].Filter; f != policy.Eligible {
			r.g.o.Metrics.Filtered(string(f), 1)
		}
	}
}

// countDraw counts the decision, once it is in the journal, and by how much the best estimate lies above that of the action.
func (r *round) countDraw() {
	m, d := r.g.o.Metrics, &r.decision
	r.countFiltered()
	chosen := r.candidate(d.Action)
	best := chosen.Quality
	for k := range d.Case.Candidates {
		if c := &d.Case.Candidates[k]; c.Filter == policy.Eligible {
			best = max(best, c.Quality)
		}
	}
	if r.surface.direct != nil { // nobody has decided
		return
	}
	r.live.meters[d.Action].Drawn(string(d.Reason), d.Strategy, d.RouterVersion, chosen.Quality)
	m.Regretted(d.Strategy, best-chosen.Quality)
}

// countFailure counts an attempt after which there was another.
func (r *round) countFailure(a *upstream.Attempt, next catalog.ArmID) {
	if a.Arm == next {
		r.g.o.Metrics.Retried(a.Arm.Provider(), string(a.Err.Class))
		return
	}
	r.g.o.Metrics.FailedOver(a.Arm.Provider(), string(a.Err.Class))
}

// countUsage counts a usage that was estimated, and the pace of a stream whose usage was told.
func (r *round) countUsage(meter *telemetry.Arm, a *datasets.Attempt, u openai.Usage) {
	if u.Known {
		c := u.Catalog()
		if n := c.OutputTokens(); r.wire.Stream && a.FirstTokenMS != nil && n > 1 {
			meter.Streamed(time.Duration((a.TotalMS - *a.FirstTokenMS) * float64(time.Millisecond) / float64(n-1)))
		}
		return
	}
	r.guessed = true
	switch r.outcome.Status {
	case datasets.ClientGone:
		meter.Estimated(telemetry.ClientLeft)
	case datasets.Failed:
		meter.Estimated(telemetry.BrokenOff)
	case datasets.Unknown:
		meter.Estimated(telemetry.Drained)
	default:
		meter.Estimated(telemetry.NotTold)
	}
}

// countCost counts what a request cost that explored, and what was spent on all but the attempt that answered.
func (r *round) countCost() {
	o := &r.outcome
	if r.decision.Explored {
		r.g.o.Metrics.Explored(int64(o.Cost))
	}
	answer := catalog.Nanodollars(0)
	for i := range o.Attempts {
		if a := &o.Attempts[i]; o.Served != "" && a.Arm == o.Served {
			answer = a.Cost
		}
	}
	r.g.o.Metrics.RouterCost(int64(o.Cost - answer))
}

// Health is how the arms that are served do, for the metrics.
func (g *Gateway) Health() []telemetry.Health {
	l := g.live.Load()
	all := make([]telemetry.Health, len(l.Arms))
	for i := range l.Arms {
		id := l.Arms[i].ID
		s := l.Pool.Snapshot(id)
		all[i] = telemetry.Health{Provider: id.Provider(), Model: id.Model(), Share: s.Availability}
		switch {
		case s.State == upstream.HalfOpen:
			all[i].Breaker = telemetry.BreakerHalfOpen
		case s.Ejected:
			all[i].Breaker = telemetry.BreakerOpen
		}
	}
	return all
}

// Budgets are all caps as they stand, for the metrics.
func (g *Gateway) Budgets() []telemetry.Budget {
	var all []telemetry.Budget
	seen := map[ledger.AccountID]bool{}
	for _, p := range g.live.Load().Auth.Principals() {
		for _, b := range p.Budgets {
			id := account(b)
			if seen[id] {
				continue
			}
			seen[id] = true
			if s, err := g.o.Books.Balance(context.Background(), id); err == nil {
				all = append(all, telemetry.Budget{
					Scope: b.Scope, Owner: b.Owner, Window: b.Window, Limit: int64(s.Limit.Amount), Spent: int64(s.Settled), Held: int64(s.Held),
				})
			}
		}
	}
	return all
}
