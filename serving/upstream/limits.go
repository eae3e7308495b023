package upstream

import (
	"errors"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/quota"
)

// This file keeps arms within limits of our own. They are hard, unlike what a vendor's refusals tell of its limits: an arm
// without room is not tried, not even as the last.

// Limit is what may be sent in a minute, to all arms of one name together. What is 0 has no limit.
type Limit struct {
	// Name is that of a model or of a provider. What was sent is counted under it and outlives a change of the limit.
	Name             string
	Requests, Tokens int
}

// Validate refuses a limit without a name, and a negative one.
func (l Limit) Validate() error {
	if l.Name == "" || l.Requests < 0 || l.Tokens < 0 {
		return errors.New("upstream: a limit needs a name and must not be negative")
	}
	return nil
}

func (l Limit) rates() governance.Limits {
	return governance.Limits{RequestsPerMinute: l.Requests, TokensPerMinute: l.Tokens}
}

// Wait is how long an arm's limits would have a request wait whose prompt has so many tokens, 0 where it may be sent now.
func (p *Pool) Wait(arm catalog.ArmID, tokens int) (longest time.Duration) {
	for _, l := range p.o.Limits[arm] {
		longest = max(longest, p.quota.Wait(l.Name, l.rates(), tokens))
	}
	return longest
}

// counted is what was taken for an attempt, one grant for each of the arm's limits. How many attempts run at once is not
// limited, so no grant is released.
type counted []quota.Grant

// admit counts an attempt under all of an arm's limits or, where it must wait, under none. Of what an answer will say nobody
// knows the length: it counts once it is known, and later requests wait it out.
func (p *Pool) admit(arm catalog.ArmID, tokens int) (counted, time.Duration) {
	limits := p.o.Limits[arm]
	if len(limits) == 0 {
		return nil, 0
	}
	taken := make(counted, 0, len(limits))
	for _, l := range limits {
		grant, refusal := p.quota.Admit(l.Name, l.rates(), tokens)
		if refusal != nil {
			taken.cancel()
			return nil, max(refusal.RetryAfter, p.Wait(arm, tokens))
		}
		taken = append(taken, grant)
	}
	return taken, 0
}

// room counts an attempt at an arm, where there is room for one.
func (r *run) room(arm *catalog.Arm) (counted, bool) {
	taken, wait := r.pool.admit(arm.ID, r.plan.InputTokens)
	if wait > 0 && (r.limited == 0 || wait < r.limited) {
		r.limited = wait
	}
	return taken, wait == 0
}

// cancel takes back what was counted for an attempt that is not made.
func (c counted) cancel() {
	for i := range c {
		c[i].Cancel()
	}
}

// correct puts the tokens that were used in the place of the estimate.
func (c counted) correct(tokens int) {
	for i := range c {
		c[i].Correct(tokens)
	}
}

// Used says how many tokens the answer has used, prompt included, for the limits of its arm.
func (a *Answer) Used(tokens int) { a.counted.correct(tokens) }
