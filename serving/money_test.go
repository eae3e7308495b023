package serving_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// budget is one key with so many dollars, in all.
func budget(usd float64) governance.Options {
	return governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Budget: governance.BudgetConfig{TotalUSD: &usd}}}}
}

// bound is the most that ask(model, max_tokens 100) can cost at the arm, taken from the decision object.
func bound(w *world, model string) catalog.Nanodollars {
	w.Helper()
	a := w.do("POST", "/v1/route", ask(model, `,"max_tokens":100`), bearer(keyA)...).wantOK()
	for _, c := range a.get("candidates").([]any) {
		if m := c.(map[string]any); m["model"] == model {
			return must(catalog.ParseDollars(fmt.Sprint(m["cost_upper_usd"])))(w)
		}
	}
	w.Fatalf("%s is no candidate in %s", model, a.body)
	return 0
}

// boundOf asks a gateway without a budget.
func boundOf(t *testing.T, model string) catalog.Nanodollars {
	t.Helper()
	return bound(newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA}}}}), model)
}

// TestParallelBudget: 200 at once against a budget for ten. All ten are accepted, none more, and afterwards what is left
// can be spent to the last nanodollar.
func TestParallelBudget(t *testing.T) {
	one := boundOf(t, "one/cheap")
	w := newWorld(t, setup{auth: budget((10 * one).Dollars())})
	arrived, release := make(chan struct{}, 200), make(chan struct{})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		arrived <- struct{}{}
		<-release
		return &script{}, nil
	})
	open := sync.OnceFunc(func() { close(release) })
	defer time.AfterFunc(20*time.Second, open).Stop() // a gateway that lets an eleventh in must fail, not hang
	var served, refused atomic.Int64
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			a := w.chat(ask("one/cheap", `,"max_tokens":100`), bearer(keyA)...)
			switch {
			case a.status == 200:
				served.Add(1)
			case a.status == 429 && a.get("error.code") == "insufficient_quota" && a.header.Get("X-Should-Retry") == "false":
				if refused.Add(1) == 190 {
					open() // the ten wait inside the vendor until all others are refused
				}
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	all.Wait()
	if served.Load() != 10 || refused.Load() != 190 || len(arrived) != 10 {
		t.Errorf("%d served, %d refused, %d reached the vendor; want 10, 190, 10", served.Load(), refused.Load(), len(arrived))
	}
	w.vendor.play(nil)
	w.chat(ask("one/cheap", `,"max_tokens":100`), bearer(keyA)...).wantOK()
}

// TestBudgetGone: the refusal has all the numbers, on each level, and nothing of it is held.
func TestBudgetGone(t *testing.T) {
	one := boundOf(t, "one/cheap")
	usd := dollars((one - 1).Dollars())
	d := governance.Digest(keyA)
	for scope, tt := range map[string]struct {
		auth  governance.Options
		owner string
	}{
		"key":  {governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Budget: governance.BudgetConfig{DayUSD: usd}}}}, governance.KeyID(d)},
		"team": {governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Org: "acme", Team: "ml"}}, Teams: []governance.OwnerConfig{{Org: "acme", Name: "ml", Budget: governance.BudgetConfig{DayUSD: usd}}}}, "acme/ml"},
		"org":  {governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Org: "acme"}}, Orgs: []governance.OwnerConfig{{Name: "acme", Budget: governance.BudgetConfig{DayUSD: usd}}}}, "acme"},
	} {
		w := newWorld(t, setup{auth: tt.auth})
		for _, path := range []string{"/v1/chat/completions", "/v1/route"} {
			for _, model := range []string{"auto", "one/cheap"} {
				a := w.do("POST", path, ask(model, `,"max_tokens":100`), bearer(keyA)...)
				a.wantError(http.StatusTooManyRequests, openai.InsufficientQuota)
				for name, want := range map[string]string{
					"reason": "budget_exceeded_" + scope, "scope": scope, "scope_id": tt.owner, "limit_usd": (one - 1).String(),
					"spent_usd": "0", "held_usd": "0", "needed_usd": one.String(),
				} {
					if got := a.get("error.tradewind." + name); got != want {
						t.Errorf("%s %s: %s is %v, want %s", scope, path, name, got, want)
					}
				}
				if says, _ := a.get("error.message").(string); !strings.Contains(says, "does not carry this request: 0 spent") {
					t.Errorf("%s", says)
				}
				if a.get("error.tradewind.resets_at") == nil || a.get("error.type") != "insufficient_quota" || a.header.Get("X-Should-Retry") != "false" {
					t.Errorf("%s: %v %s", scope, a.header, a.body)
				}
				if path != "/v1/route" && a.header.Get("X-Tradewind-Budget-Remaining-Usd") != (one-1).String() {
					t.Errorf("remaining %q", a.header.Get("X-Tradewind-Budget-Remaining-Usd"))
				}
			}
		}
		if n := len(w.rounds()) + len(w.vendor.called()); n != 0 {
			t.Errorf("%d rounds or calls of requests that were refused", n)
		}
	}
}

// TestBudgetStatus: who wants it is told 402, and everything else of the refusal stays.
func TestBudgetStatus(t *testing.T) {
	w := newWorld(t, setup{auth: budget(0), options: serving.Options{Settings: serving.Settings{BudgetStatus: http.StatusPaymentRequired}}})
	a := w.chat(ask("auto", ""), bearer(keyA)...)
	a.wantError(http.StatusPaymentRequired, openai.InsufficientQuota)
	if a.get("error.tradewind.reason") != "budget_exceeded_key" || a.header.Get("X-Should-Retry") != "false" {
		t.Errorf("%v %s", a.header, a.body)
	}
	w.messages(message("auto", ""), "X-Api-Key", keyA).wantAnthropicError(http.StatusPaymentRequired, "billing_error")
	if err := (&serving.Settings{BudgetStatus: 418}).Validate(); err == nil {
		t.Error("418 was accepted")
	}
}

// TestBudgetIsTheKeysOwn: that a model which the key may not use would be cheap enough is no reason to serve or to
// promise anything.
func TestBudgetIsTheKeysOwn(t *testing.T) {
	middle := boundOf(t, "two/middle")
	usd := (middle - 1).Dollars() // carries one/cheap, which is denied
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Deny: []string{"one/*"}, Budget: governance.BudgetConfig{TotalUSD: &usd}}}}})
	a := w.chat(ask("auto", `,"max_tokens":100`), bearer(keyA)...)
	a.wantError(429, openai.InsufficientQuota)
	if got := a.get("error.tradewind.needed_usd"); got != middle.String() {
		t.Errorf("needed %v, want %s", got, middle)
	}
}

// TestBudgetNarrowsTheChoice: while money is left for the action it is served, without the stand-ins that it cannot
// carry.
func TestBudgetNarrowsTheChoice(t *testing.T) {
	w := newWorld(t, setup{auth: budget(boundOf(t, "one/cheap").Dollars())})
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.Server, 500) })
	a := w.chat(ask("auto", `,"max_tokens":100`), bearer(keyA)...)
	a.wantError(502, openai.UpstreamFailed)
	if got := fmt.Sprint(w.vendor.called()); got != "[one/cheap one/cheap]" {
		t.Errorf("called %s: the dearer arms do not fit the budget", got)
	}
	d, _ := w.outcome(a)
	if d.Hold != bound(w, "one/cheap") {
		t.Errorf("hold %s", d.Hold)
	}
}

// TestSecondHold: after an attempt that may have been billed the next one has its own hold, and the client pays, sees
// and finds everywhere the sum of both.
func TestSecondHold(t *testing.T) {
	w := newWorld(t, setup{auth: budget(1)})
	var held catalog.Nanodollars
	key := ledger.Account("key", w.auth.Principals()[0].KeyID, ledger.Total)
	w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
		if held := w.books.Open()["key"]; held != call {
			t.Errorf("call %d with %d holds", call, held)
		}
		if call == 1 {
			return nil, fails(upstream.BadAnswer, 200)
		}
		held = must(w.books.Balance(context.Background(), key))(t).Held // what a crash would cost here
		return &script{}, nil
	})
	a := w.chat(ask("auto", `,"tradewind":{"explain":true}`), bearer(keyA)...).wantOK()
	d, o := w.outcome(a)
	if d.Hold != held || len(d.Features) == 0 {
		t.Errorf("the journal has a hold of %s and %d bytes of features, want %s, which is held, and the features again", d.Hold, len(d.Features), held)
	}
	own := o.Attempts[1].Cost
	if o.CostStatus != datasets.CostEstimated || o.Attempts[0].Cost == 0 || own == 0 || o.Cost != own+o.Attempts[0].Cost {
		t.Errorf("outcome %+v", o)
	}
	b := must(w.books.Balance(context.Background(), key))(t)
	for where, got := range map[string]any{
		"header": a.header.Get("X-Tradewind-Cost-Usd"), "usage": a.get("usage.cost"), "explained": a.get("tradewind.cost_usd"), "ledger": b.Settled.String(),
		"decision": w.do("GET", "/v1/decisions/"+string(a.round()), "", bearer(keyA)...).get("cost_usd"),
	} {
		if got != o.Cost.String() {
			t.Errorf("%s says %v, want %s", where, got, o.Cost)
		}
	}
	if got := a.get("usage.cost_details.router"); got != o.Attempts[0].Cost.String() {
		t.Errorf("the failed attempt stands as %v in the details, want %s", got, o.Attempts[0].Cost)
	}
}

// TestNoMoneyForASecondHold: the request ends, and what the first attempt may cost is not forgotten.
// TestCapIsSent: what bounds the hold bounds the answer, whatever the client says or leaves out.
func TestCapIsSent(t *testing.T) {
	for _, tt := range []struct {
		path, body string
		most       int // the operator's
		want       string
	}{
		{"/v1/chat/completions", ask("one/cheap", ""), 0, "1000"}, // the arm's
		{"/v1/chat/completions", ask("one/cheap", ""), 50, "50"},
		{"/v1/chat/completions", ask("one/cheap", `,"max_tokens":7`), 50, "7"},
		{"/v1/chat/completions", ask("one/cheap", `,"max_tokens":5000`), 0, "1000"},
		{"/v1/messages", ask("one/cheap", `,"max_tokens":5000`), 0, "1000"},
		{"/v1/responses", `{"model":"one/cheap","input":"hi"}`, 50, "50"},
	} {
		w := newWorld(t, setup{options: serving.Options{OutputTokensMax: tt.most}})
		w.do("POST", tt.path, tt.body).wantOK()
		if sent := w.vendor.calls[0].body; dig(t, sent, "max_tokens") != tt.want {
			t.Errorf("%s of %s: the vendor was sent %s, want a cap of %s", tt.body, tt.path, sent, tt.want)
		}
	}
}

// TestMoneyGoneMeanwhile: where others were quicker and what is left carries the action alone, no dearer arm stands in for it.
func TestMoneyGoneMeanwhile(t *testing.T) {
	books := &brokenLedger{}
	w := newWorld(t, setup{auth: budget(boundOf(t, "three/dear").Dollars()), ledger: books})
	dearer := bound(w, "three/dear") - bound(w, "one/cheap")
	chain := []ledger.AccountID{ledger.Account("key", w.auth.Principals()[0].KeyID, ledger.Total)}
	first := true
	books.hold = func() (err error) { // between the choice and the hold
		if first {
			err = w.books.Hold(t.Context(), "another", chain, dearer, time.Now().Add(time.Hour))
		}
		first = false
		return err
	}
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.Auth, 401) })
	a := w.chat(ask("auto", `,"max_tokens":100`), bearer(keyA)...)
	a.wantError(502, openai.UpstreamFailed)
	if d, _ := w.outcome(a); d.Hold != bound(w, "one/cheap") || len(w.vendor.called()) != 1 {
		t.Errorf("held %s, called %v", d.Hold, w.vendor.called())
	}
	if err := w.books.Release(t.Context(), "another"); err != nil {
		t.Error(err)
	}
}

func TestNoMoneyForASecondHold(t *testing.T) {
	w := newWorld(t, setup{auth: budget(boundOf(t, "three/dear").Dollars())})
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.TimedOut, 0) })
	a := w.chat(ask("auto", `,"max_tokens":100`), bearer(keyA)...)
	a.wantError(429, openai.InsufficientQuota)
	d, o := w.outcome(a)
	if len(w.vendor.called()) != 1 || len(o.Attempts) != 1 || o.Cost == 0 || o.Cost > d.Hold || o.Status != datasets.Failed || o.Error != "insufficient_quota" {
		t.Errorf("called %v, outcome %+v", w.vendor.called(), o)
	}
}

// TestUnpriced: an arm without a price never counts as free. Under a budget it is refused, without one it serves and
// its cost is null.
func TestUnpriced(t *testing.T) {
	arms := append(threeArms(), catalog.Arm{ID: "four/unpriced", Tier: catalog.TierLarge})
	w := newWorld(t, setup{arms: arms})
	a := w.chat(ask("four/unpriced", "")).wantOK()
	if a.header.Get("X-Tradewind-Cost-Usd") != "unpriced" || !strings.Contains(a.body, `"cost":null`) {
		t.Errorf("%v %s", a.header, a.body)
	}
	shown := w.do("GET", "/v1/decisions/"+string(a.round()), "").wantOK()
	if shown.get("cost_status") != "unpriced" || shown.get("cost_usd") != nil {
		t.Errorf("decision %s", shown.body)
	}
	w = newWorld(t, setup{arms: arms, auth: budget(1)})
	a = w.chat(ask("four/unpriced", ""), bearer(keyA)...)
	a.wantError(429, openai.InsufficientQuota)
	if got := a.get("error.tradewind.reason"); got != "budget_unpriced" || a.header.Get("X-Should-Retry") != "false" {
		t.Errorf("reason %v", got)
	}
	for name, want := range map[string]any{"scope": "key", "limit_usd": "1", "spent_usd": "0", "held_usd": "0", "needed_usd": nil} {
		if got := a.get("error.tradewind." + name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// TestStoreAway: without the books nothing is served.
func TestStoreAway(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		code openai.Code
	}{"away": {errScripted, openai.StoreUnavailable}, "full": {ledger.ErrFull, openai.Overloaded}} {
		w := newWorld(t, setup{ledger: &brokenLedger{hold: func() error { return tt.err }}})
		a := w.chat(ask("auto", ""))
		a.wantError(503, tt.code)
		if a.header.Get("Retry-After") == "" || len(w.vendor.called()) != 0 || strings.Contains(a.body, "scripted") {
			t.Errorf("%s: %v %s, %d calls", name, a.header, a.body, len(w.vendor.called()))
		}
	}
}

// TestJournalAway: a decision that cannot be written is not acted upon, and its hold is released.
func TestJournalAway(t *testing.T) {
	w := newWorld(t, setup{unaudited: true})
	if err := w.journal.Close(); err != nil {
		t.Fatal(err)
	}
	a := w.chat(ask("auto", ""))
	a.wantError(503, openai.StoreUnavailable)
	if n := w.books.Open()["key"]; n != 0 || len(w.vendor.called()) != 0 {
		t.Errorf("%d holds, %d calls", n, len(w.vendor.called()))
	}
	w.do("POST", "/v1/feedback", `{"decision_id":"`+string(a.round())+`","score":1}`).wantError(503, openai.StoreUnavailable)
}

// TestOutcomeAway: what a vendor has done is paid and served whether or not it can be written down.
func TestOutcomeAway(t *testing.T) {
	w := newWorld(t, setup{unaudited: true})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{before: func(int) { _ = w.journal.Close() }}, nil
	})
	a := w.chat(ask("auto", "")).wantOK()
	b := must(w.books.Balance(t.Context(), ledger.Account("key", governance.Local, ledger.Total)))(t)
	if b.Held != 0 || b.Settled == 0 || b.Settled.String() != a.header.Get("X-Tradewind-Cost-Usd") || !strings.Contains(w.log.String(), "an outcome was not journaled") {
		t.Errorf("balance %+v, headers %v, log %s", b, a.header, w.log)
	}
}

// TestMoreThanTheHold: a vendor that counts more than the bound is paid, and the excess is known.
func TestMoreThanTheHold(t *testing.T) {
	w := newWorld(t, setup{})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{whole("x", `{"prompt_tokens":1000000,"completion_tokens":1000000}`)}}, nil
	})
	if a := w.chat(ask("auto", "")).wantOK(); a.header.Get("X-Tradewind-Cost-Usd") != "3" {
		t.Errorf("cost %q", a.header.Get("X-Tradewind-Cost-Usd"))
	}
	b := must(w.books.Balance(context.Background(), ledger.Account("key", governance.Local, ledger.Total)))(t)
	if said := w.log.String(); !strings.Contains(said, "a request cost more than was held for it") || !strings.Contains(said, "over="+b.Excess.String()) {
		t.Errorf("the excess of %s is not in the log: %s", b.Excess, said)
	}
	if b.Settled.String() != "3" || b.Excess == 0 || b.Excess >= b.Settled {
		t.Errorf("balance %+v", b)
	}
}

// TestTokenRatesCountTheAnswer: the estimate at admission is corrected by what was used.
func TestTokenRatesCountTheAnswer(t *testing.T) {
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, TokensPerMinute: 100_000}}}})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{whole("x", `{"prompt_tokens":10000,"completion_tokens":40000}`)}}, nil
	})
	w.chat(ask("auto", ""), bearer(keyA)...).wantOK()
	var left int
	if _, err := fmt.Sscan(w.chat(ask("auto", ""), bearer(keyA)...).wantOK().header.Get("X-Ratelimit-Remaining-Tokens"), &left); err != nil || left > 60_000 { // six seconds bring 10,000 back
		t.Errorf("%d tokens left of 100,000 after 50,000 were used (%v)", left, err)
	}
}

// TestExpiry: a hold that nobody ended is settled at its amount by the gateway's own loop.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{unaudited: true})
		account := ledger.Account("key", governance.Local, ledger.Total)
		if err := w.books.Hold(t.Context(), "forgotten", []ledger.AccountID{account}, 5, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { w.ExpireHolds(ctx) })
		time.Sleep(59 * time.Second)
		if b := must(w.books.Balance(ctx, account))(t); b.Held != 5 {
			t.Errorf("before its time: %+v", b)
		}
		time.Sleep(3 * time.Second)
		if b := must(w.books.Balance(ctx, account))(t); b.Held != 0 || b.Settled != 5 {
			t.Errorf("after it: %+v", b)
		}
		cancel()
		done.Wait()
	})
}
