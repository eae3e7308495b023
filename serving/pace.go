package serving

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// This file keeps levels to their cost targets. What was spent is the ledger's; what is to come is forecast from the
// requests of late. It is state of one process, and bounded: a level has one pacer of fixed size.

const (
	// paceRequests is the window of a target for the average request.
	paceRequests = 200
	// paceStep is the weight of the newest request in what requests of late would cost.
	paceStep = 0.005
	// paceSlots is how many times a window of the calendar is the time over which the rate of requests is taken.
	paceSlots = 24
)

// A pacer chooses among paceLen prices of a dollar, paceDecade a decade. At the last the cheapest arm serves that may.
const (
	paceDecade = 3
	paceLen    = 2 + 8*paceDecade
)

// pacer paces one level.
type pacer struct {
	target governance.Target
	// account is the level's in the window of the target, "" where that is for the average request.
	account ledger.AccountID
	lambdas [paceLen]float64

	mu sync.Mutex
	// n counts requests, up to what a decaying mean needs to know; mean and square are of what they would cost at each price.
	n            int
	mean, square [paceLen]float64
	// open is what requests under way are forecast to cost.
	open float64
	// arrived is a decaying count of requests, and last when the last of them came; since is when the pacer began.
	arrived     float64
	last, since time.Time
	// done and spent are of the window, where it is one of requests.
	done  int
	spent float64
}

func newPacer(t governance.Target, now time.Time) *pacer {
	p := &pacer{target: t, lambdas: [paceLen]float64(policy.Lambdas(paceDecade)), since: now, last: now}
	if t.Per != governance.PerRequest {
		p.account = ledger.Account(poolScope(t.Scope), t.Owner, ledger.Window(t.Per))
	}
	return p
}

// poolScope is the ledger's name of a scope: what everybody spends together is a pool.
func poolScope(scope string) string {
	if scope == governance.All {
		return "pool"
	}
	return scope
}

// ask says what the target asks of a request now. balance is that of the account.
func (p *pacer) ask(now time.Time, balance *ledger.Balance) policy.Pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	var curve [paceLen]policy.CostPoint
	for j := range curve {
		spread := math.Sqrt(max(0, p.square[j]-p.mean[j]*p.mean[j]))
		curve[j] = policy.CostPoint{Lambda: p.lambdas[j], CostUSD: p.mean[j], SpreadUSD: spread}
		if j > 0 {
			curve[j].CostUSD = min(curve[j].CostUSD, curve[j-1].CostUSD)
		}
	}
	pace := policy.Pace{Level: p.target.Scope}
	if p.n == 0 {
		return pace
	}
	pacer, spent, done := policy.Pacer{Curve: curve[:], BudgetUSD: p.target.Amount.Dollars()}, p.open, 0
	if p.account == "" {
		pacer.BudgetUSD *= paceRequests
		pacer.Requests = paceRequests
		if p.done < paceRequests { // else the next window begins
			spent, done = spent+p.spent, p.done
		}
	} else {
		pacer.Requests, spent = p.toCome(now, balance.ResetsAt), spent+balance.Settled.Dollars()
	}
	pace.Lambda = pacer.Lambda(spent, done)
	j := slices.Index(p.lambdas[:], pace.Lambda)
	if most := curve[0].CostUSD - curve[paceLen-1].CostUSD; most > 0 {
		pace.Pressure = math.Round(1e3*(curve[0].CostUSD-curve[j].CostUSD)/most) / 1e3
	}
	return pace
}

// toCome forecasts how many requests are still to come in a window, at the rate of late, and at least the one that asks.
func (p *pacer) toCome(now, end time.Time) int {
	left := end.Sub(now).Seconds()
	slot := p.slot()
	seen := now.Sub(p.since).Seconds()
	share := 1 - math.Exp(-seen/slot) // of the slot that has been seen
	rate := p.arrived * math.Exp(-now.Sub(p.last).Seconds()/slot) / (slot * max(share, 1e-9))
	return 1 + int(min(max(rate*left, 0), 1e9))
}

func (p *pacer) slot() float64 {
	if p.target.Per == governance.PerMonth {
		return 31 * 24 * 3600 / paceSlots
	}
	return 24 * 3600 / paceSlots
}

// began counts a request with what it would cost at each price, and what it is forecast to cost as it was decided.
func (p *pacer) began(now time.Time, costs *[paceLen]float64, forecast float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n = min(p.n+1, int(1/paceStep))
	for j, c := range costs {
		p.mean[j] += (c - p.mean[j]) / float64(p.n)
		p.square[j] += (c*c - p.square[j]) / float64(p.n)
	}
	if p.done++; p.done > paceRequests {
		p.done, p.spent = 1, 0
	}
	if p.account != "" {
		p.arrived = p.arrived*math.Exp(-now.Sub(p.last).Seconds()/p.slot()) + 1
		p.last = now
	}
	p.open += forecast
}

// ended books what a request did cost. What ends after its window of requests counts in the next.
func (p *pacer) ended(forecast, cost float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = max(0, p.open-forecast)
	p.spent += cost
}

// pace gives every cost target its pacer. Those of targets that stay keep what they have learned.
func (g *Gateway) pace(l, before *live) error {
	l.pacers, l.paced = map[governance.Target]*pacer{}, map[*governance.Principal][]*pacer{}
	now := g.o.Now()
	of := func(t governance.Target) *pacer {
		if l.pacers[t] == nil && before != nil {
			l.pacers[t] = before.pacers[t]
		}
		if l.pacers[t] == nil {
			l.pacers[t] = newPacer(t, now)
		}
		return l.pacers[t]
	}
	everybody, _, err := l.Target.Target(governance.All, governance.All)
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	for _, p := range l.Auth.Principals() {
		for _, t := range p.Targets {
			l.paced[p] = append(l.paced[p], of(t))
		}
		if everybody.Amount > 0 {
			l.paced[p] = append(l.paced[p], of(everybody))
		}
	}
	for _, t := range l.rules.Paced() {
		of(t)
	}
	return nil
}

// pace asks the cost targets of the chain and of the policies in force, and raises the price of a dollar where they ask for
// more than the strategy.
func (r *round) pace(c *policy.Case) error {
	if !r.sits() {
		return nil
	}
	now := r.g.o.Now()
	for _, p := range r.pacers {
		var balance ledger.Balance
		if p.account != "" {
			var err error
			if balance, err = r.g.o.Books.Balance(r.req.Context(), p.account); err != nil {
				return storeError(err)
			}
		}
		if pace := p.ask(now, &balance); pace.Lambda > 0 {
			c.Paces = append(c.Paces, pace)
		}
	}
	if c.Hurry() {
		r.decision.Certified = false
	}
	return nil
}

// promised is what a round under cost targets has told its pacers.
type promised struct {
	paced    []*pacer
	forecast float64
}

// spend tells the pacers of a round that was decided. What is passed through is no round that they could steer; what it costs
// is in the ledger's balance.
func (r *round) spend(i int) {
	if len(r.pacers) == 0 || r.surface.direct != nil {
		return
	}
	var costs [paceLen]float64
	lambdas := r.pacers[0].lambdas
	policy.Spending(costs[:], &r.decision.Case, r.wanted.lambda, r.wanted.guard, lambdas[:], &r.weighed)
	r.promised = promised{r.pacers, r.decision.Case.Candidates[i].CostUSD}
	for _, p := range r.pacers {
		p.began(r.started, &costs, r.promised.forecast)
	}
}

// spent tells them what it did cost.
func (r *round) spent(total catalog.Nanodollars) {
	for _, p := range r.promised.paced {
		p.ended(r.promised.forecast, total.Dollars())
	}
	r.promised = promised{}
}
