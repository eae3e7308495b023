package serving_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// pricedArm asks another prime number of picodollars for each kind of token, so that no two mixtures cost the same.
func pricedArm(id catalog.ArmID, guessed catalog.Kinds) catalog.Arm {
	rates := catalog.Rates{
		Input: 1_000_003, CacheRead: 100_003, CacheWrite: 1_250_009, CacheWrite1h: 2_000_003, AudioInput: 7_000_003, ImageInput: 1_100_009,
		Output: 10_000_019, Reasoning: 12_000_017, AudioOutput: 20_000_003, Guessed: guessed,
	}
	return catalog.Arm{ID: id, Tier: catalog.TierLarge, Prices: catalog.Prices{Known: true, Rates: rates, Request: 1_234_567}}
}

// TestCostsAgree: the cost in the answer, in the header, in the decision, in the log and in the ledger is one number, for
// every kind of token and every way to report it, streamed or not. Pains 14 (BerriAI/litellm#30816) and 23 (#33772).
func TestCostsAgree(t *testing.T) {
	for name, usage := range map[string]string{
		"plain":      `{"prompt_tokens":11,"completion_tokens":7}`,
		"cached":     `{"prompt_tokens":1000,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":900}}`,
		"written":    `{"prompt_tokens":1000,"completion_tokens":7,"cache_creation_input_tokens":900,"cache_creation":{"ephemeral_5m_input_tokens":400,"ephemeral_1h_input_tokens":500}}`,
		"reasoning":  `{"prompt_tokens":11,"completion_tokens":70,"completion_tokens_details":{"reasoning_tokens":63}}`,
		"audio":      `{"prompt_tokens":110,"completion_tokens":70,"prompt_tokens_details":{"audio_tokens":100},"completion_tokens_details":{"audio_tokens":60}}`,
		"images":     `{"prompt_tokens":110,"completion_tokens":7,"prompt_tokens_details":{"image_tokens":100}}`,
		"everything": `{"prompt_tokens":1000,"completion_tokens":500,"prompt_tokens_details":{"cached_tokens":101,"cache_write_tokens":103,"audio_tokens":107,"image_tokens":109},"cache_creation":{"ephemeral_1h_input_tokens":51},"completion_tokens_details":{"reasoning_tokens":201,"audio_tokens":203}}`,
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stream %v", name, stream), func(t *testing.T) { costsAgree(t, usage, stream) })
		}
	}
}

func costsAgree(t *testing.T, usage string, stream bool) {
	arm := pricedArm("one/all", 0)
	w := newWorld(t, setup{arms: []catalog.Arm{arm}})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		if stream {
			return &script{events: []string{delta("391"), finish, `{"id":"c1","object":"chat.completion.chunk","choices":[],"usage":` + usage + `}`, "[DONE]"}}, nil
		}
		return &script{events: []string{whole("391", usage)}}, nil
	})
	more, body := "", ""
	if stream {
		more = `,"stream":true,"stream_options":{"include_usage":true}`
	}
	a := w.chat(ask("one/all", more)).wantOK()
	if body = a.body; stream {
		events := a.events()
		body = events[len(events)-2]
	}
	d := w.do("GET", "/v1/decisions/"+string(a.round()), "")
	_, o := w.outcome(a)
	want, err := arm.Prices.Cost(o.Usage)
	if err != nil || o.Usage.Output+o.Usage.Reasoning+o.Usage.AudioOutput == 0 {
		t.Fatalf("usage %+v: %v", o.Usage, err)
	}
	got := []string{fmt.Sprint(dig(t, body, "usage.cost")), fmt.Sprint(d.get("cost_usd")), o.Cost.String()}
	if !stream { // a stream has its cost only once its headers are gone
		got = append(got, a.header.Get("X-Tradewind-Cost-Usd"))
	}
	for i, cost := range got {
		if cost != want.String() {
			t.Errorf("cost %d is %s, want %s", i, cost, want)
		}
	}
	if o.CostStatus != datasets.CostFinal || d.get("cost_status") != "final" || dig(t, body, "usage.cost_details.request") != "0.001234567" {
		t.Errorf("cost status %s, decision %s, answer %s", o.CostStatus, d.body, body)
	}
	// The ledger is compared with the log when the world ends.
}

// A request that fails has its cost too, where an attempt may have been billed: it stands in the header of the error as in
// the decision and the log.
func TestFailuresTellTheirCost(t *testing.T) {
	for name, tt := range map[string]struct {
		arm  catalog.Arm
		play func(int, *upstream.Request) (*script, error)
		free bool
	}{
		"refused": {pricedArm("one/all", 0), func(int, *upstream.Request) (*script, error) {
			return nil, &upstream.Error{Class: upstream.Server, Status: 500}
		}, true},
		"billed": {pricedArm("one/all", 0), func(int, *upstream.Request) (*script, error) {
			return nil, &upstream.Error{Class: upstream.BadAnswer, Status: 200}
		}, false},
		"unpriced": {catalog.Arm{ID: "one/all", Tier: catalog.TierLarge}, func(int, *upstream.Request) (*script, error) {
			return nil, &upstream.Error{Class: upstream.BadAnswer, Status: 200}
		}, true},
	} {
		w := newWorld(t, setup{arms: []catalog.Arm{tt.arm}})
		w.vendor.play(tt.play)
		a := w.chat(ask("one/all", ""))
		_, o := w.outcome(a)
		want := o.Cost.String()
		if o.CostStatus == datasets.CostUnpriced {
			want = "unpriced"
		}
		if got := a.header.Get("X-Tradewind-Cost-Usd"); a.status < 500 || got != want || (o.Cost == 0) != tt.free {
			t.Errorf("%s: %d, cost %q, want %q", name, a.status, got, want)
		}
	}
}

// What is asked once a call stands in the forecast that arms are compared by, and in what the client is told to expect.
func TestRequestPriceIsForecast(t *testing.T) {
	dear := catalog.Arm{ID: "one/fee", Tier: catalog.TierLarge, Prices: catalog.Flat(1_000_000, 2_000_000)}
	dear.Prices.Request = 5_000_000
	w := newWorld(t, setup{arms: []catalog.Arm{dear, {ID: "two/plain", Tier: catalog.TierLarge, Prices: catalog.Flat(1_500_000, 3_000_000)}}})
	if a := w.chat(ask("auto", "")).wantOK(); a.header.Get("X-Tradewind-Model") != "two/plain" {
		t.Errorf("answered by %s, which asks half a cent a call", a.header.Get("X-Tradewind-Model"))
	}
	d := w.do("POST", "/v1/route", ask("one/fee", "")).wantOK()
	for _, name := range []string{"cost_usd", "cost_upper_usd"} {
		usd := must(catalog.ParseDollars(fmt.Sprint(d.get("candidates").([]any)[0].(map[string]any)[name])))(t)
		if usd <= dear.Prices.Request {
			t.Errorf("%s is %s, less than the fee", name, usd)
		}
	}
}

// Pain 25 (headroomlabs-ai/headroom#3032): cached tokens without a price of their own cost the full one and are an estimate.
func TestGuessedPricesAreEstimates(t *testing.T) {
	w := newWorld(t, setup{arms: []catalog.Arm{{ID: "one/flat", Tier: catalog.TierLarge, Prices: catalog.Flat(1_000_000, 2_000_000)}}})
	for usage, want := range map[string]string{
		`{"prompt_tokens":10,"completion_tokens":5}`:                                             "0.00002 final",
		`{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":8}}`: "0.00002 estimated",
	} {
		w.vendor.play(func(int, *upstream.Request) (*script, error) {
			return &script{events: []string{whole("391", usage)}}, nil
		})
		a := w.chat(ask("one/flat", "")).wantOK()
		d := w.do("GET", "/v1/decisions/"+string(a.round()), "")
		if got := fmt.Sprint(d.get("cost_usd"), " ", d.get("cost_status")); got != want {
			t.Errorf("%s: %s, want %s", usage, got, want)
		}
	}
}

// Pain 8 (BerriAI/litellm PR#27509): under a budget an arm without a price is refused, never booked at 0; without one its
// cost is null. Pain 31 (workweave/router PR#233): what is unknown of an arm counts as absent.
func TestUnknownIsNeverZero(t *testing.T) {
	unpriced := []catalog.Arm{{ID: "one/unpriced", Tier: catalog.TierLarge}}
	w := newWorld(t, setup{arms: unpriced})
	a := w.chat(ask("one/unpriced", "")).wantOK()
	if a.header.Get("X-Tradewind-Cost-Usd") != "unpriced" || !strings.Contains(a.body, `"cost":null`) {
		t.Errorf("cost %s in %s", a.header.Get("X-Tradewind-Cost-Usd"), a.body)
	}
	w.chat(ask("auto", `,"tools":[{"type":"function","function":{"name":"f"}}]`)).wantError(400, "no_candidate")
	w = newWorld(t, setup{arms: unpriced, auth: budget(1)})
	a = w.chat(ask("one/unpriced", ""), bearer(keyA)...)
	a.wantError(429, "insufficient_quota")
	if a.get("error.tradewind.reason") != "budget_unpriced" {
		t.Errorf("refused for %s", a.body)
	}
}

// Pain 15 (QuantumNous/new-api#4168, #7241): a stream's usage is counted once, wherever the vendor puts it, and what is
// missing is estimated and marked. Pain 12 (BerriAI/litellm#37992): an explicit zero is not missing.
func TestStreamUsageIsCountedOnce(t *testing.T) {
	const usage = `"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}`
	withUsage := strings.TrimSuffix(finish, "}") + "," + usage + "}"
	for name, tt := range map[string]struct {
		events []string
		want   string
	}{
		"an extra chunk":        {[]string{delta("391"), finish, usageChunk, "[DONE]"}, "0.000013 final"},
		"on the last delta":     {[]string{delta("391"), withUsage, "[DONE]"}, "0.000013 final"},
		"both":                  {[]string{delta("391"), withUsage, usageChunk, "[DONE]"}, "0.000013 final"},
		"on every chunk":        {[]string{strings.TrimSuffix(delta("391"), "}") + `,"usage":{"prompt_tokens":7,"completion_tokens":1}}`, withUsage, "[DONE]"}, "0.000013 final"},
		"null, then at the end": {[]string{strings.TrimSuffix(delta("391"), "}") + `,"usage":null}`, finish, usageChunk, "[DONE]"}, "0.000013 final"},
		"zero":                  {[]string{delta("391"), finish, `{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, "[DONE]"}, "0 final"},
	} {
		w := newWorld(t, setup{})
		w.vendor.play(func(int, *upstream.Request) (*script, error) { return &script{events: slices.Clone(tt.events)}, nil })
		a := w.chat(ask("one/cheap", `,"stream":true,"stream_options":{"include_usage":true}`)).wantOK()
		_, o := w.outcome(a)
		if got := fmt.Sprint(o.Cost, " ", o.CostStatus); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
		if n := strings.Count(a.body, `"cost":`); n != 1 {
			t.Errorf("%s: the cost stands there %d times: %s", name, n, a.body)
		}
	}
}
