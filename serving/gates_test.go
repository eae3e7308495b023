package serving_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// tiered are three arms of rising tiers and prices.
func tiered() []catalog.Arm {
	arms := threeArms()
	arms[0].Tier, arms[1].Tier, arms[2].Tier = catalog.TierSmall, catalog.TierMedium, catalog.TierFrontier
	return arms
}

// gated is a world under one policy with a gate that wants the text to begin with "good", and further gates to be named.
func gated(t testing.TB, p gate.PolicyConfig, s setup, more ...gate.Config) *world {
	t.Helper()
	if p.Gates == nil {
		p.Gates = []string{"good"}
	}
	o := gate.Options{Gates: append([]gate.Config{{Name: "good", Require: "^good"}, {Name: "whole", Check: "not_truncated"}}, more...), Policies: []gate.PolicyConfig{p}}
	s.options.Gates = must(gate.New(o))(t)
	if s.arms == nil {
		s.arms = tiered()
	}
	s.options.Policy = cheapFirst{}
	return newWorld(t, s)
}

// cheapFirst is a policy that draws the first arm with a chance of six in ten, and here always.
type cheapFirst struct{}

func (cheapFirst) Propose(d *policy.Distribution, _ *policy.Case) {
	d.P, d.Best = append(d.P[:0], .6, .2, .2), 0
}

// says makes vendors answer by arm: each text with 7 tokens in and 3 out.
func says(w *world, texts map[catalog.ArmID]string) {
	w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
		text, ok := texts[r.Arm.ID]
		if !ok {
			return nil, fails(upstream.Server, 500)
		}
		if r.Stream {
			s := &script{}
			for _, c := range text {
				s.events = append(s.events, delta(string(c)))
			}
			s.events = append(s.events, finish, usageChunk, "[DONE]")
			return s, nil
		}
		return &script{events: []string{whole(text, `{"prompt_tokens":7,"completion_tokens":3}`)}}, nil
	})
}

func verdicts(o *datasets.Outcome) string {
	var out []string
	for _, a := range o.Attempts {
		s := string(a.Arm) + ":" + a.Outcome
		for _, v := range a.Verdicts {
			s += ":" + v.Gate + "=" + string(v.Verdict)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

const explained = `,"tradewind":{"explain":true}`

// TestGatesInMessages: gates hold whatever dialect the client speaks, whole, streamed and held back.
func TestGatesInMessages(t *testing.T) {
	for _, more := range []string{"", `,"stream":true`} {
		w := gated(t, gate.PolicyConfig{Streams: "buffer"}, setup{})
		says(w, map[catalog.ArmID]string{"one/cheap": "bad", "three/dear": "good 3"})
		a := w.messages(message("auto", more)).wantOK()
		if a.header.Get("X-Tradewind-Model") != "three/dear" || !strings.Contains(strings.ReplaceAll(a.body, `"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`, ""), "good 3") || strings.Contains(a.body, "bad") {
			t.Errorf("%q: got %s\n%v", more, a.body, a.header)
		}
		if more != "" {
			if names, _ := a.named(); names[0] != "message_start" || names[len(names)-1] != "message_stop" {
				t.Errorf("events %v", names)
			}
		} else if dig(a, a.body, "type") != "message" {
			t.Errorf("got %s", a.body)
		}
		if _, o := w.outcome(a); o.Reason != datasets.Escalated || verdicts(o) != "one/cheap:ok:good=fail three/dear:ok:good=pass" {
			t.Errorf("outcome %s %s", o.Reason, verdicts(o))
		}
	}
}

// TestEscalates: what passes is served, what does not is asked again of a better arm, with the money of all of it in every
// place that shows money.
func TestEscalates(t *testing.T) {
	for name, tt := range map[string]struct {
		texts    map[catalog.ArmID]string
		policy   gate.PolicyConfig
		reason   datasets.Reason
		served   catalog.ArmID
		verdicts string
		text     string
	}{
		"passes": {
			texts:  map[catalog.ArmID]string{"one/cheap": "good"},
			reason: datasets.OnlyCandidate, served: "one/cheap", verdicts: "one/cheap:ok:good=pass", text: "good",
		},
		"escalates": {
			texts:  map[catalog.ArmID]string{"one/cheap": "bad", "three/dear": "good 3"},
			reason: datasets.Escalated, served: "three/dear", verdicts: "one/cheap:ok:good=fail three/dear:ok:good=pass", text: "good 3",
		},
		"twice": {
			texts:  map[catalog.ArmID]string{"one/cheap": "bad", "three/dear": "bad", "two/middle": "good 2"},
			reason: datasets.Escalated, served: "two/middle", verdicts: "one/cheap:ok:good=fail three/dear:ok:good=fail two/middle:ok:good=pass", text: "good 2",
		},
		"none": {
			texts:  map[catalog.ArmID]string{"one/cheap": "bad 1", "three/dear": "bad 3", "two/middle": "bad 2"},
			reason: datasets.GateFailed, served: "two/middle", verdicts: "one/cheap:ok:good=fail three/dear:ok:good=fail two/middle:ok:good=fail", text: "bad 2",
		},
		"one step": {
			texts: map[catalog.ArmID]string{"one/cheap": "bad 1", "three/dear": "bad 3"}, policy: gate.PolicyConfig{Escalations: new(1)},
			reason: datasets.GateFailed, served: "three/dear", verdicts: "one/cheap:ok:good=fail three/dear:ok:good=fail", text: "bad 3",
		},
		"no step": {
			texts: map[catalog.ArmID]string{"one/cheap": "bad 1"}, policy: gate.PolicyConfig{Escalations: new(0)},
			reason: datasets.GateFailed, served: "one/cheap", verdicts: "one/cheap:ok:good=fail", text: "bad 1",
		},
		"a vendor that fails takes a step and loses nothing": {
			texts:  map[catalog.ArmID]string{"one/cheap": "bad 1", "two/middle": "good 2"},
			reason: datasets.Escalated, served: "two/middle", verdicts: "one/cheap:ok:good=fail three/dear:failed three/dear:failed two/middle:ok:good=pass", text: "good 2",
		},
		"all vendors fail but the first": {
			texts:  map[catalog.ArmID]string{"one/cheap": "bad 1"},
			reason: datasets.GateFailed, served: "one/cheap", verdicts: "one/cheap:ok:good=fail three/dear:failed three/dear:failed two/middle:failed two/middle:failed", text: "bad 1",
		},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprint(name, stream), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tt.policy.Streams = "buffer"
					w := gated(t, tt.policy, setup{})
					says(w, tt.texts)
					a := w.chat(ask("auto", fmt.Sprintf(`,"stream":%v,"stream_options":{"include_usage":true}`+explained, stream))).wantOK()
					d, o := w.outcome(a)
					if got := verdicts(o); got != tt.verdicts || o.Served != tt.served || d.Action != "one/cheap" || d.Propensity == 1 {
						t.Errorf("%s, served %s, action %s (%v), want %s", got, o.Served, d.Action, d.Propensity, tt.verdicts)
					}
					shown := w.do("GET", "/v1/decisions/"+string(a.round()), "")
					if got := shown.get("reason"); got != string(tt.reason) || a.header.Get("X-Tradewind-Reason") != string(tt.reason) || a.header.Get("X-Tradewind-Model") != string(tt.served) {
						t.Errorf("reason %v, headers %v, want %s of %s", got, a.header, tt.reason, tt.served)
					}
					if got := a.header.Get("X-Tradewind-Attempts"); got != fmt.Sprint(len(o.Attempts)) || fmt.Sprint(d.Gates) != "[good]" {
						t.Errorf("%s attempts, gates %v", got, d.Gates)
					}
					wantLadderCost(t, w, a, o, tt.text, stream)
				})
			})
		}
	}
}

// wantLadderCost compares every place that shows the cost of a round, and what was said.
func wantLadderCost(t *testing.T, w *world, a *answer, o *datasets.Outcome, text string, stream bool) {
	t.Helper()
	body, said := a.body, ""
	if stream {
		events := a.events()
		body, said = events[len(events)-2], a.text()
	} else {
		said = fmt.Sprint(a.get("choices"))
	}
	if !strings.Contains(said, text) {
		t.Errorf("said %q, want %q", said, text)
	}
	b := must(w.books.Balance(context.Background(), ledger.Account("key", governance.Local, ledger.Total)))(t)
	want, router := o.Cost, catalog.Nanodollars(0)
	for _, at := range o.Attempts {
		if at.Arm != o.Served {
			router += at.Cost
		}
	}
	for where, got := range map[string]any{
		"usage": dig(t, body, "usage.cost"), "explained": dig(t, body, "tradewind.cost_usd"), "ledger": b.Settled.String(),
	} {
		if got != want.String() {
			t.Errorf("%s says %v, want %s", where, got, want)
		}
	}
	if got := dig(t, body, "usage.cost_details.router"); got != router.String() {
		t.Errorf("routing cost %v, want %s", got, router)
	}
}

// TestGateRefuses: where the policy says so, an answer that passed nothing is not served, and a client is told not to pay
// for it again.
func TestGateRefuses(t *testing.T) {
	w := gated(t, gate.PolicyConfig{Exhausted: "refuse", Streams: "buffer"}, setup{})
	says(w, map[catalog.ArmID]string{"one/cheap": "bad", "two/middle": "bad", "three/dear": "bad"})
	for _, more := range []string{"", `,"stream":true`} {
		a := w.chat(ask("auto", more))
		a.wantError(http.StatusBadGateway, openai.GateFailed)
		_, o := w.outcome(a)
		if a.header.Get("X-Should-Retry") != "false" || len(o.Attempts) != 3 || o.Status != datasets.Failed || o.Error != "gate_failed" || o.Cost == 0 || strings.Contains(a.body, "bad 1") {
			t.Errorf("%v %s\n%+v", a.header, a.body, o)
		}
	}
}

// TestHoldsCoverTheLadder: before each further arm its own hold stands in the ledger and in the journal.
func TestHoldsCoverTheLadder(t *testing.T) {
	w := gated(t, gate.PolicyConfig{}, setup{})
	key := ledger.Account("key", governance.Local, ledger.Total)
	w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
		if n := w.books.Open()["key"]; n != call {
			t.Errorf("call %d at %s with %d holds", call, r.Arm.ID, n)
		}
		held := must(w.books.Balance(context.Background(), key))(t).Held
		if !strings.Contains(string(journalBytes(t, w.dir)), `"hold_usd":`+held.String()) {
			t.Errorf("call %d: %s is held, and the journal does not know it", call, held)
		}
		return &script{events: []string{whole("bad", `{"prompt_tokens":7,"completion_tokens":3}`)}}, nil
	})
	a := w.chat(ask("auto", "")).wantOK()
	d, o := w.outcome(a)
	if len(o.Attempts) != 3 || d.Hold < o.Cost || len(d.Gates) != 1 {
		t.Errorf("decision %+v, outcome %+v", d, o)
	}
}

// TestNoMoneyForTheLadder: without money for a further arm the answer at hand is served, and what it cost is booked.
func TestNoMoneyForTheLadder(t *testing.T) {
	one := boundOf(t, "one/cheap")
	w := gated(t, gate.PolicyConfig{}, setup{auth: budget((one + one/2).Dollars())})
	says(w, map[catalog.ArmID]string{"one/cheap": "bad", "two/middle": "good", "three/dear": "good"})
	a := w.chat(ask("auto", `,"max_tokens":100`), bearer(keyA)...).wantOK()
	if _, o := w.outcome(a); len(o.Attempts) != 1 || o.Reason != datasets.GateFailed || o.Cost == 0 {
		t.Errorf("outcome %+v", o)
	}
}

// TestCapOnTheLadder: max_cost_usd bounds all attempts together.
func TestCapOnTheLadder(t *testing.T) {
	w := gated(t, gate.PolicyConfig{}, setup{})
	says(w, map[catalog.ArmID]string{"one/cheap": "bad", "two/middle": "good", "three/dear": "good"})
	free := w.chat(ask("auto", `,"max_tokens":100`)).wantOK()
	d, o := w.outcome(free)
	if o.Served != "three/dear" {
		t.Fatalf("served %s", o.Served)
	}
	first := o.Attempts[0].Cost
	upper := must(catalog.FromDollars(d.Case.Candidates[2].CostUpperUSD))(t)
	for name, tt := range map[string]struct {
		limit catalog.Nanodollars
		want  catalog.ArmID
	}{"fits": {first + upper, "three/dear"}, "does not": {first + upper - 1, "two/middle"}} {
		a := w.chat(ask("auto", fmt.Sprintf(`,"max_tokens":100,"tradewind":{"max_cost_usd":%s}`, tt.limit))).wantOK()
		if _, o := w.outcome(a); o.Served != tt.want || o.Cost > tt.limit {
			t.Errorf("%s: served %s for %s of %s, want %s", name, o.Served, o.Cost, tt.limit, tt.want)
		}
	}
}

// TestLadderKeepsToItsName: a named model is not rerouted because it failed a gate, a request without fallback is asked
// once, and a list is followed in its order.
func TestLadderKeepsToItsName(t *testing.T) {
	for more, want := range map[string]string{
		"":                                    "[one/cheap]",
		`,"tradewind":{"fallback":false}`:     "[one/cheap]",
		`,"models":["two/middle"]`:            "[one/cheap two/middle]",
		`,"models":["two/middle"]` + `,"n":1`: "[one/cheap two/middle]",
	} {
		w := gated(t, gate.PolicyConfig{}, setup{})
		says(w, map[catalog.ArmID]string{"one/cheap": "bad", "two/middle": "bad", "three/dear": "good"})
		w.chat(ask("one/cheap", more)).wantOK()
		if got := fmt.Sprint(w.vendor.called()); got != want {
			t.Errorf("%s: called %s, want %s", more, got, want)
		}
	}
}

// TestStreamJudgedAfterwards: without buffering the client has the stream as it comes, and the log the verdict.
func TestStreamJudgedAfterwards(t *testing.T) {
	w := gated(t, gate.PolicyConfig{}, setup{})
	for text, want := range map[string]string{"good": "one/cheap:ok:good=pass", "bad": "one/cheap:ok:good=fail"} {
		says(w, map[catalog.ArmID]string{"one/cheap": text})
		a := w.chat(ask("auto", `,"stream":true`)).wantOK()
		_, o := w.outcome(a)
		if a.text() != text || verdicts(o) != want || (o.Reason == datasets.GateFailed) != (text == "bad") || o.Status != datasets.Completed {
			t.Errorf("%q, outcome %+v", a.text(), o)
		}
	}
}

// TestRequestNamesGates: by name and in no other way (P14). What it brings of its own is refused, and nobody is called.
func TestRequestNamesGates(t *testing.T) {
	var called atomic.Int64
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	defer attacker.Close()
	w := gated(t, gate.PolicyConfig{Keys: []string{"nobody"}}, setup{})
	says(w, map[catalog.ArmID]string{"one/cheap": "bad", "three/dear": "good"})
	a := w.chat(ask("auto", `,"tradewind":{"gates":["good"]}`)).wantOK()
	if d, o := w.outcome(a); o.Served != "three/dear" || fmt.Sprint(d.Gates) != "[good]" {
		t.Errorf("gates %v, served %s", d.Gates, o.Served)
	}
	if d, _ := w.outcome(w.chat(ask("auto", "")).wantOK()); d.Gates != nil {
		t.Errorf("gates %v of a policy for somebody else", d.Gates)
	}
	w.vendor.play(nil)
	for _, gates := range []string{
		`["` + attacker.URL + `"]`, `["unknown"]`, `[{"name":"x","webhook":{"url":"` + attacker.URL + `"}}]`, `[{"name":"x","command":{"path":"/bin/true"}}]`,
		`["/bin/true"]`, `["^.*$"]`, `{"url":"` + attacker.URL + `"}`,
	} {
		if a := w.chat(ask("auto", `,"tradewind":{"gates":`+gates+`}`)); a.status != http.StatusBadRequest {
			t.Errorf("%s: got %d %s", gates, a.status, a.body)
		}
	}
	if called.Load() != 0 || len(w.vendor.called()) != 0 {
		t.Errorf("%d calls of an attacker's address, %d of vendors", called.Load(), len(w.vendor.called()))
	}
}

// TestGateDeadline: a webhook that hangs costs its own time and no more, inside the request's deadline, and is an error.
func TestGateDeadline(t *testing.T) {
	hang := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer hang.Close()
	hook := gate.Config{Name: "hook", Webhook: &gate.WebhookConfig{URL: hang.URL, TimeoutSeconds: 0.05}}
	for onError, want := range map[string]string{
		"open":   "one/cheap:ok:hook=error",
		"closed": "one/cheap:ok:hook=error three/dear:ok:hook=error two/middle:ok:hook=error",
	} {
		w := gated(t, gate.PolicyConfig{Gates: []string{"hook"}, OnError: onError}, setup{}, hook)
		says(w, map[catalog.ArmID]string{"one/cheap": "good", "two/middle": "good", "three/dear": "good"})
		a := w.chat(ask("auto", "")).wantOK()
		_, o := w.outcome(a)
		if verdicts(o) != want || (o.Reason == datasets.GateFailed) != (onError == "closed") {
			t.Errorf("%s: %s, reason %q", onError, verdicts(o), o.Reason)
		}
	}
	slow := hook
	slow.Webhook = &gate.WebhookConfig{URL: hang.URL, TimeoutSeconds: 60}
	w := gated(t, gate.PolicyConfig{Gates: []string{"hook"}}, setup{}, slow)
	says(w, map[catalog.ArmID]string{"one/cheap": "good"})
	a := w.chat(ask("auto", ""), "X-Tradewind-Timeout-Ms", "100").wantOK()
	if _, o := w.outcome(a); verdicts(o) != "one/cheap:ok:hook=error" || o.LatencyMS > 30_000 {
		t.Errorf("%s after %v ms", verdicts(o), o.LatencyMS)
	}
}

// TestLadderDeadline: the request's deadline is for all attempts together, and an answer at hand is served when it passes.
func TestLadderDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := gated(t, gate.PolicyConfig{}, setup{})
		w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
			if call == 1 {
				time.Sleep(time.Second)
				return &script{events: []string{whole("bad", `{"prompt_tokens":7,"completion_tokens":3}`)}}, nil
			}
			return &script{stallAt: 1}, nil
		})
		begin := time.Now()
		a := w.chat(ask("auto", ""), "X-Tradewind-Timeout-Ms", "5000").wantOK()
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("took %v, want five seconds", took)
		}
		_, o := w.outcome(a)
		if got := a.get("usage.cost_details.router"); got != o.Attempts[1].Cost.String() || a.header.Get("X-Tradewind-Cost-Usd") != o.Cost.String() {
			t.Errorf("told %v of routing and %s in all, want %s and %s", got, a.header.Get("X-Tradewind-Cost-Usd"), o.Attempts[1].Cost, o.Cost)
		}
		if verdicts(o) != "one/cheap:ok:good=fail three/dear:failed" || o.Reason != datasets.GateFailed || o.Attempts[1].Cost == 0 || o.CostStatus != datasets.CostEstimated {
			t.Errorf("%s %+v", verdicts(o), o)
		}
	})
}

// TestLadderAttempts: five at most, whoever fails and how.
func TestLadderAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		arms := peers(8)
		for i := range arms {
			arms[i].ID = catalog.ArmID(fmt.Sprintf("p%d/m", i))
		}
		w := gated(t, gate.PolicyConfig{}, setup{arms: arms})
		w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
			switch call {
			case 3:
				return &script{events: []string{whole("bad", `{"prompt_tokens":7,"completion_tokens":3}`)}}, nil
			case 4:
				return nil, fails(upstream.TimedOut, 0) // which is not tried again
			}
			return nil, fails(upstream.Server, 500)
		})
		_, o := w.outcome(w.chat(ask("auto", "")).wantOK())
		if n := len(w.vendor.called()); n != 5 || len(o.Attempts) != 5 || o.Reason != datasets.GateFailed {
			t.Errorf("%d calls: %s", n, verdicts(o))
		}
	})
}

// TestClientLeavesTheLadder: while a gate thinks or a further arm answers, a client that leaves ends the round as censored,
// and everything that was billed is booked.
func TestClientLeavesTheLadder(t *testing.T) {
	for name, stall := range map[string]bool{"in a gate": false, "in a further attempt": true} {
		ctx, cancel := context.WithCancel(t.Context())
		hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if !stall {
				cancel()
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, `{"pass":false}`)
		}))
		w := gated(t, gate.PolicyConfig{Gates: []string{"hook"}}, setup{}, gate.Config{Name: "hook", Webhook: &gate.WebhookConfig{URL: hook.URL}})
		w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
			if call == 2 {
				cancel()
				return &script{stallAt: 1}, nil
			}
			return &script{}, nil
		})
		a := w.doReader(ctx, "POST", "/v1/chat/completions", strings.NewReader(ask("auto", "")))
		_, o := w.outcome(a)
		if o.Status != datasets.ClientGone || o.Cost == 0 || stall && (len(o.Attempts) != 2 || o.Attempts[1].Cost == 0) {
			t.Errorf("%s: %+v", name, o)
		}
		cancel()
		hook.Close()
	}
}

// TestPanicInTheLadder: a panic in a further attempt books what may have been billed and is told as an error.
func TestPanicInTheLadder(t *testing.T) {
	w := gated(t, gate.PolicyConfig{}, setup{panics: true})
	w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
		if call == 2 {
			return &script{panicAt: 1}, nil
		}
		return &script{events: []string{whole("bad", `{"prompt_tokens":7,"completion_tokens":3}`)}}, nil
	})
	a := w.chat(ask("auto", ""))
	a.wantError(500, openai.InternalError)
	d, o := w.outcome(a)
	forecast := must(catalog.FromDollars(d.Case.Candidates[2].CostUSD))(t)
	if first := o.Attempts[0].Cost; o.Cost != first+forecast || o.CostStatus != datasets.CostEstimated {
		t.Errorf("cost %s, want %s for the first and %s for the one that was under way", o.Cost, first, forecast)
	}
}

// TestLadderMoney: whatever vendors and gates do, and many at once under a budget, every attempt that was billed is settled
// once: the audit of newWorld compares ledger, outcomes and attempts, and no more is spent than the budget.
func TestLadderMoney(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) { ladderMoney(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func ladderMoney(t *testing.T, random *rand.Rand) {

	usd := 0.001 + 0.05*random.Float64()
	refuse, streams := []string{"serve", "refuse"}[random.IntN(2)], []string{"after", "buffer"}[random.IntN(2)]
	w := gated(t, gate.PolicyConfig{Exhausted: refuse, Streams: streams},
		setup{auth: budget(usd), pool: upstream.Options{AnswerTimeout: 20 * time.Millisecond, FirstTokenTimeout: 20 * time.Millisecond}})
	kinds := make([]int, 1+random.IntN(12))
	for i := range kinds {
		kinds[i] = random.IntN(6)
	}
	var next atomic.Int64
	w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
		n := next.Add(1)
		text := []string{"good", "bad"}[kinds[int(n)%len(kinds)]%2]
		switch kinds[int(n)%len(kinds)] {
		case 2:
			return nil, fails(upstream.BadAnswer, 200)
		case 3:
			return nil, fails(upstream.BadRequest, 400)
		case 4:
			if r.Stream {
				return &script{events: []string{delta("b")}, err: fails(upstream.Cut, 0)}, nil
			}
		}
		usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d}`, 5+n%7, 1+n%3)
		if r.Stream {
			return &script{events: []string{delta(text), finish, `{"choices":[],"usage":` + usage + `}`, "[DONE]"}}, nil
		}
		return &script{events: []string{whole(text, usage)}}, nil
	})
	var all sync.WaitGroup
	for i := range 12 {
		stream := i%2 == 0
		all.Go(func() {
			w.chat(ask("auto", fmt.Sprintf(`,"max_tokens":50,"stream":%v`, stream)), bearer(keyA)...)
		})
	}
	all.Wait()
	b := must(w.books.Balance(context.Background(), ledger.Account("key", w.auth.Principals()[0].KeyID, ledger.Total)))(t)
	if limit := must(catalog.FromDollars(usd))(t); b.Settled > limit || b.Held != 0 || b.Excess != 0 {
		t.Fatalf("settled %s of %s, held %s, excess %s", b.Settled, limit, b.Held, b.Excess)
	}
	rounds := w.rounds()
	for i := range rounds {
		o := &rounds[i].Outcome
		answered := slices.ContainsFunc(o.Attempts, func(a datasets.Attempt) bool { return a.Outcome == "ok" })
		judged := slices.ContainsFunc(o.Attempts, func(a datasets.Attempt) bool { return len(a.Verdicts) > 0 })
		if len(o.Attempts) > 5 || answered && o.Status == datasets.Completed && !judged {
			t.Fatalf("%s: %d attempts: %s", o.RoundID, len(o.Attempts), verdicts(o))
		}
	}
}

// TestUngatedAllocatesNothingMore: gates that are configured for others cost a request a look at the policies.
func TestUngatedAllocatesNothingMore(t *testing.T) {
	set := must(gate.New(gate.Options{Gates: []gate.Config{{Name: "good", Require: "^good"}}, Policies: []gate.PolicyConfig{{Gates: []string{"good"}, Keys: []string{"x"}}}}))(t)
	p := &governance.Principal{Org: "a", Team: "b"}
	if n := testing.AllocsPerRun(100, func() {
		if plan, err := set.For(p, nil, nil); plan != nil || err != nil {
			t.Fatal("a plan for somebody else")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestDryRunShowsGates: the decision object says what an answer would have to pass.
func TestDryRunShowsGates(t *testing.T) {
	w := gated(t, gate.PolicyConfig{}, setup{})
	a := w.do("POST", "/v1/route", ask("auto", `,"tradewind":{"gates":["whole"]}`)).wantOK()
	var e serving.Explanation
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || fmt.Sprint(e.Gates) != "[whole good]" {
		t.Errorf("gates %v (%v)", e.Gates, err)
	}
}
