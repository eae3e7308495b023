package serving

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// holdExpires is how long a hold may live: the longest request and a minute.
const holdExpires = 11 * time.Minute

// hold is one hold of a round. A second one is taken before an attempt that follows one which may have been billed.
type hold struct {
	id     ledger.HoldID
	amount catalog.Nanodollars
}

// chain lists the accounts of a principal: its own sum, every budget from the key up, and every window of a cost target.
func (l *live) chain(p *governance.Principal) []ledger.AccountID {
	accounts := []ledger.AccountID{ledger.Account("key", p.KeyID, ledger.Total)}
	for _, b := range p.Budgets {
		if a := account(b); a != accounts[0] {
			accounts = append(accounts, a)
		}
	}
	for _, paced := range l.paced[p] {
		if paced.account != "" && !slices.Contains(accounts, paced.account) {
			accounts = append(accounts, paced.account)
		}
	}
	return accounts
}

func account(b governance.Budget) ledger.AccountID {
	return ledger.Account(b.Scope, b.Owner, ledger.Window(b.Window))
}

// openBudgets tells the ledger the caps of every principal before its first request.
func (g *Gateway) openBudgets(ctx context.Context, l *live) error {
	for _, p := range l.Auth.Principals() {
		if err := g.o.Books.SetLimit(ctx, l.chains[p][0], ledger.Limit{Window: ledger.Total}); err != nil {
			return fmt.Errorf("serving: account of key %s: %w", p.KeyID, err)
		}
		for _, b := range p.Budgets {
			limit := ledger.Limit{Set: true, Amount: b.Amount, Window: ledger.Window(b.Window)}
			if err := g.o.Books.SetLimit(ctx, account(b), limit); err != nil {
				return fmt.Errorf("serving: budget of %s %s: %w", b.Scope, b.Owner, err)
			}
		}
	}
	return g.openTargets(ctx, l)
}

// openTargets opens the accounts of cost targets that no budget caps, so that they count.
func (g *Gateway) openTargets(ctx context.Context, l *live) error {
	capped := map[ledger.AccountID]bool{}
	for _, p := range l.Auth.Principals() {
		for _, b := range p.Budgets {
			capped[account(b)] = true
		}
	}
	for _, p := range l.pacers {
		if p.account == "" || capped[p.account] {
			continue
		}
		if err := g.o.Books.SetLimit(ctx, p.account, ledger.Limit{Window: ledger.Window(p.target.Per)}); err != nil {
			return fmt.Errorf("serving: target of %s %s: %w", p.target.Scope, p.target.Owner, err)
		}
	}
	return nil
}

// expireEvery is how often forgotten holds are looked for.
const expireEvery = time.Second

// ExpireHolds settles, until the context ends, holds whose request never ended them.
func (g *Gateway) ExpireHolds(ctx context.Context) {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if n, err := g.o.Books.Expire(ctx, g.o.Now()); err != nil && ctx.Err() == nil {
				g.o.Log.Error("expiring holds failed", "error", err)
			} else if n > 0 {
				g.o.Log.Warn("holds expired and were settled at their amount", "holds", n)
			}
		}
	}
}

// limited reports whether any budget applies.
func (r *round) limited() bool { return len(r.principal.Budgets) > 0 }

// remaining looks for the tightest budget of the chain and what it still carries.
func (r *round) remaining() error {
	r.left = math.MaxInt64
	for _, b := range r.principal.Budgets {
		id := account(b)
		balance, err := r.g.o.Books.Balance(r.req.Context(), id)
		if err != nil {
			return storeError(err)
		}
		if left := balance.Remaining(); left < r.left {
			r.left, r.tightest = left, ledger.InsufficientError{
				Scope: b.Scope, AccountID: id, Limit: balance.Limit.Amount, Spent: balance.Settled, Held: balance.Held, ResetsAt: balance.ResetsAt,
			}
		}
	}
	return nil
}

// hold sets aside the most that the action and its stand-ins can cost, on the whole chain or not at all. Stand-ins that
// the budget cannot carry are dropped rather than the request.
func (r *round) hold() error {
	own, err := r.upper(r.plan[0])
	if err != nil {
		return err
	}
	amount, kept := own, r.plan[:1]
	for _, arm := range r.plan[1:] {
		bound, err := r.upper(arm)
		if err != nil || r.limited() && (bound > r.left || !arm.Prices.Known) {
			continue
		}
		kept, amount = append(kept, arm), max(amount, bound)
	}
	r.plan, r.decision.Hold = kept, amount
	err = r.takeHold(ledger.HoldID(r.id), amount)
	if err != nil && amount > own { // others were quicker: what is left may still carry the action alone
		r.plan, r.decision.Hold = r.plan[:1], own
		err = r.takeHold(ledger.HoldID(r.id), own)
	}
	return err
}

// upper is the most that one attempt at an arm can cost; an unpriced arm holds nothing.
func (r *round) upper(arm *catalog.Arm) (catalog.Nanodollars, error) {
	if !arm.Prices.Known {
		return 0, nil
	}
	bound, err := r.bound(arm)
	if err != nil {
		return 0, openai.NewError(openai.InvalidRequest, "the request could cost more than any amount that can be held")
	}
	return bound, nil
}

func (r *round) takeHold(id ledger.HoldID, amount catalog.Nanodollars) error {
	if err := r.addHold(id, amount); err != nil {
		return r.moneyError(err)
	}
	return nil
}

// addHold is takeHold with the ledger's own error.
func (r *round) addHold(id ledger.HoldID, amount catalog.Nanodollars) error {
	err := r.g.o.Ledger.Hold(r.req.Context(), id, r.live.chains[r.principal], amount, r.g.o.Now().Add(holdExpires))
	if err == nil {
		r.holds = append(r.holds, hold{id, amount})
	}
	return err
}

// againHold is asked before each attempt: where the last one may have been billed, a further hold covers the next. If
// there is no money for it the request ends there, with what the attempts so far did cost.
func (r *round) againHold(_ *catalog.Arm, failed []upstream.Attempt) error {
	if len(failed) == 0 {
		return nil
	}
	billed, amount := failed[len(failed)-1].Billed, r.holds[len(r.holds)-1].amount
	if r.hedged { // what is held may be used up whichever of the two was billed
		billed = slices.ContainsFunc(failed, func(a upstream.Attempt) bool { return a.Billed })
		amount = r.holds[0].amount
	}
	if !billed {
		return nil
	}
	err := r.furtherHold(amount)
	if err != nil {
		r.attempts(failed, "")
	}
	return err
}

// furtherHold takes another hold of the round and writes it down, before a vendor is asked again.
func (r *round) furtherHold(amount catalog.Nanodollars) error {
	err := r.takeHold(ledger.HoldID(fmt.Sprintf("%s/%d", r.id, len(r.holds)+1)), amount)
	if err == nil {
		r.decision.Hold += amount // what a crash would cost from here on
		err = r.journalHold()
	}
	return err
}

// settle books the cost over the round's holds, in order; what they cannot carry goes to the last, because it is spent.
func (r *round) settle(total catalog.Nanodollars) {
	r.spent(total)
	ctx := context.WithoutCancel(r.req.Context()) // what is spent is booked, whoever has left
	for i, h := range r.holds {
		part := total
		if i < len(r.holds)-1 {
			part = min(total, h.amount)
		}
		if part > h.amount {
			r.exceeded(part - h.amount)
		}
		total -= part
		var err error
		if part == 0 {
			err = r.g.o.Ledger.Release(ctx, h.id)
		} else {
			err = r.g.o.Ledger.Settle(ctx, h.id, part)
		}
		if err != nil {
			r.g.o.Log.Error("a hold was not settled; it will expire at its amount", "round", r.id, "error", err)
		}
	}
	r.holds = r.holds[:0]
}

// moneyError is the wire's error of a hold that was refused.
func (r *round) moneyError(err error) error {
	var short *ledger.InsufficientError
	if !errors.As(err, &short) {
		return storeError(err)
	}
	e := openai.NewError(openai.InsufficientQuota, "the %s's budget of %s USD does not carry this request: %s spent, %s held, %s needed",
		short.Scope, short.Limit, short.Spent, short.Held, short.Needed)
	return r.budgetError(e, "budget_exceeded_"+short.Scope, short)
}

// budgetError completes the refusal of a request for a budget's sake.
func (r *round) budgetError(e *openai.Error, reason string, short *ledger.InsufficientError) error {
	e.Status, e.Reason, e.Extra = cmp.Or(r.live.BudgetStatus, e.Status), reason, budgetExtra(short)
	return e
}

// budgetExtra are the numbers of a budget that refuses.
func budgetExtra(short *ledger.InsufficientError) map[string]any {
	all := map[string]any{
		"scope": short.Scope, "scope_id": short.AccountID.Owner(), "limit_usd": short.Limit, "spent_usd": short.Spent,
		"held_usd": short.Held, "needed_usd": short.Needed,
	}
	if !short.ResetsAt.IsZero() {
		all["resets_at"] = short.ResetsAt
	}
	return all
}

// budgetGone explains a request that the budget kept from every arm, with the numbers that it was decided on: what the
// cheapest of those arms needs is more than was left.
func (r *round) budgetGone() error {
	short := r.tightest
	short.Needed = math.MaxInt64
	for i, a := range r.decision.Case.Candidates {
		if bound, err := r.upper(&r.router.arms[i]); err == nil && a.Filter == policy.Budget {
			short.Needed = min(short.Needed, bound)
		}
	}
	return r.moneyError(&short)
}

// unpricedOnly refuses a request that only arms without a price could serve: they never count as free.
func (r *round) unpricedOnly() error {
	e := openai.NewError(openai.InsufficientQuota, "there is a budget, and no model with a known price can serve this request")
	err := r.budgetError(e, "budget_unpriced", &r.tightest)
	e.Extra["needed_usd"] = nil // nobody knows
	return err
}

func storeError(err error) error {
	if errors.Is(err, ledger.ErrFull) {
		e := openai.NewError(openai.Overloaded, "too many requests are open")
		e.RetryAfter = time.Second
		return e
	}
	e := openai.NewError(openai.StoreUnavailable, "the books cannot be written; nothing was spent")
	e.RetryAfter = time.Second
	return e
}

// forecast is the expected cost of the request at an arm, never more than what is held for it.
func (r *round) forecast(arm *catalog.Arm) catalog.Nanodollars {
	c := r.candidate(arm.ID)
	n, err := catalog.FromDollars(min(c.CostUSD, c.CostUpperUSD))
	if err != nil || !arm.Prices.Known {
		return 0
	}
	return n
}

// costOf is what a call did cost, and how sure that is.
func costOf(arm *catalog.Arm, u openai.Usage) (openai.Cost, datasets.CostStatus) {
	if !arm.Prices.Known {
		return openai.Cost{}, datasets.CostUnpriced
	}
	cost, err := openai.Price(&arm.Prices, u.Catalog())
	if err != nil { // a usage beyond all bounds
		return openai.Cost{}, datasets.CostUnpriced
	}
	if !u.Known || arm.Prices.Guesses(u.Catalog()) {
		return cost, datasets.CostEstimated
	}
	return cost, datasets.CostFinal
}
