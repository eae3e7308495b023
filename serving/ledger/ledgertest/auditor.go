package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

var (
	accountIDs = []ledger.AccountID{"user:u@total", "key:k@day", "team:t@week", "org:o@month"}
	windows    = []ledger.Window{ledger.Total, ledger.Day, ledger.Week, ledger.Month}
	amounts    = rapid.Custom(func(t *rapid.T) catalog.Nanodollars {
		return catalog.Nanodollars(rapid.Int64Range(0, 300).Draw(t, "amount"))
	})
)

// auditor keeps its own books, the slow and obvious way: every settlement is kept, and each balance is summed anew.
type auditor struct {
	now      time.Time
	limits   map[ledger.AccountID]ledger.Limit
	period   map[ledger.AccountID]string
	open     map[ledger.HoldID]entry
	postings []posting
	ids      []ledger.HoldID
}

type entry struct {
	chain   []ledger.AccountID
	amount  catalog.Nanodollars
	expires time.Time
}

type posting struct {
	account        ledger.AccountID
	period         string
	actual, excess catalog.Nanodollars
}

func newAuditor() *auditor {
	return &auditor{
		now:    time.Date(2026, 12, 28, 12, 0, 0, 0, time.UTC),
		limits: map[ledger.AccountID]ledger.Limit{}, period: map[ledger.AccountID]string{}, open: map[ledger.HoldID]entry{},
	}
}

// name tells which period of the account's window it is: the latest ever seen, since time does not run back for books.
func (a *auditor) name(id ledger.AccountID) string {
	t, now := a.now.UTC(), ""
	switch a.limits[id].Window {
	case ledger.Day:
		now = t.Format("day 2006-01-02")
	case ledger.Month:
		now = t.Format("month 2006-01")
	case ledger.Week:
		year, week := t.ISOWeek()
		now = fmt.Sprintf("week %04d-%02d", year, week)
	}
	if now > a.period[id] {
		a.period[id] = now
	}
	return a.period[id]
}

func (a *auditor) balance(id ledger.AccountID) (settled, held, excess catalog.Nanodollars) {
	period := a.name(id)
	for _, p := range a.postings {
		if p.account == id && p.period == period {
			settled, excess = settled+p.actual, excess+p.excess
		}
	}
	for _, e := range a.open {
		for _, other := range e.chain {
			if other == id {
				held += e.amount
			}
		}
	}
	return settled, held, excess
}

func (a *auditor) limit(t *rapid.T, l Ledger, id ledger.AccountID, limit ledger.Limit) {
	if err := l.SetLimit(context.Background(), id, limit); err != nil {
		t.Fatalf("SetLimit(%s, %+v): %v", id, limit, err)
	}
	a.name(id)
	if a.limits[id].Window != limit.Window {
		kept := a.postings[:0]
		for _, p := range a.postings {
			if p.account != id {
				kept = append(kept, p)
			}
		}
		a.postings, a.period[id] = kept, ""
	}
	a.limits[id] = limit
	a.name(id)
}

func (a *auditor) hold(t *rapid.T, l Ledger) {
	id := ledger.HoldID(fmt.Sprintf("rnd_%d", rapid.IntRange(0, 30).Draw(t, "id")))
	e := entry{amount: amounts.Draw(t, "amount")}
	for _, account := range rapid.Permutation(accountIDs).Draw(t, "chain")[:rapid.IntRange(0, len(accountIDs)).Draw(t, "length")] {
		e.chain = append(e.chain, account)
	}
	if len(e.chain) > 0 && rapid.Bool().Draw(t, "edge") { // exactly what is left of one account, or one more
		settled, held, _ := a.balance(e.chain[0])
		left := a.limits[e.chain[0]].Amount - settled - held
		e.amount = max(0, left) + catalog.Nanodollars(rapid.IntRange(0, 1).Draw(t, "more"))
	}
	e.expires = a.now.Add(time.Duration(rapid.IntRange(0, 7200).Draw(t, "seconds")) * time.Second)

	used := false
	for _, other := range a.ids {
		used = used || other == id
	}
	var refusedBy ledger.AccountID
	for _, account := range e.chain {
		settled, held, _ := a.balance(account)
		if limit := a.limits[account]; limit.Set && settled+held+e.amount > limit.Amount && refusedBy == "" {
			refusedBy = account
		}
	}
	err := l.Hold(context.Background(), id, e.chain, e.amount, e.expires)
	var short *ledger.InsufficientError
	switch {
	case used:
		if !errors.Is(err, ledger.ErrDuplicate) {
			t.Fatalf("Hold(%s) again: %v, want ErrDuplicate", id, err)
		}
	case refusedBy != "":
		settled, held, _ := a.balance(refusedBy)
		if !errors.As(err, &short) || short.AccountID != refusedBy || short.Scope != refusedBy.Scope() || short.Spent != settled ||
			short.Held != held || short.Needed != e.amount || short.Limit != a.limits[refusedBy].Amount {
			t.Fatalf("Hold(%v, %s) = %v, want a refusal by %s with %s spent and %s held", e.chain, e.amount, err, refusedBy, settled, held)
		}
	case err != nil:
		t.Fatalf("Hold(%v, %s) = %v, but it fits everywhere", e.chain, e.amount, err)
	default:
		a.open[id] = e
		a.ids = append(a.ids, id)
	}
}

func (a *auditor) end(t *rapid.T, l Ledger, settle bool) {
	id := ledger.HoldID(fmt.Sprintf("rnd_%d", rapid.IntRange(0, 30).Draw(t, "id")))
	if open := a.openIDs(); len(open) > 0 && rapid.IntRange(0, 3).Draw(t, "hit") > 0 {
		id = rapid.SampledFrom(open).Draw(t, "open id")
	}
	actual, err := catalog.Nanodollars(0), error(nil)
	if settle {
		actual = amounts.Draw(t, "actual")
		err = l.Settle(context.Background(), id, actual)
	} else {
		err = l.Release(context.Background(), id)
	}
	if _, found := a.open[id]; !found {
		if !errors.Is(err, ledger.ErrNoHold) {
			t.Fatalf("ending %s, which is not open: %v, want ErrNoHold", id, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("ending %s: %v", id, err)
	}
	a.post(id, actual)
}

func (a *auditor) expire(t *rapid.T, l Ledger) {
	got, err := l.Expire(context.Background(), a.now)
	want := 0
	for _, id := range a.openIDs() {
		if e := a.open[id]; !e.expires.After(a.now) {
			a.post(id, e.amount)
			want++
		}
	}
	if err != nil || got != want {
		t.Fatalf("Expire = %d, %v, want %d", got, err, want)
	}
}

// openIDs lists the open holds in the order in which they were made, so that a history can be played again.
func (a *auditor) openIDs() []ledger.HoldID {
	var open []ledger.HoldID
	for _, id := range a.ids {
		if _, found := a.open[id]; found {
			open = append(open, id)
		}
	}
	return open
}

func (a *auditor) post(id ledger.HoldID, actual catalog.Nanodollars) {
	e := a.open[id]
	delete(a.open, id)
	for _, account := range e.chain {
		a.postings = append(a.postings, posting{account, a.name(account), actual, max(0, actual-e.amount)})
	}
}

func (a *auditor) compare(t *rapid.T, l Ledger) {
	for _, id := range accountIDs {
		settled, held, excess := a.balance(id)
		b, err := l.Balance(context.Background(), id)
		if err != nil || b.Settled != settled || b.Held != held || b.Excess != excess || b.Limit != a.limits[id] {
			t.Fatalf("Balance(%s) = %+v, %v, want %s settled, %s held, %s excess under %+v", id, b, err, settled, held, excess, a.limits[id])
		}
	}
}
