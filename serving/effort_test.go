package serving_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/rules"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// TestEfforts (pain 34: mnfst/llm-gateway#1661, #2117): a model with an effort is an arm of its own, asked
// under the model's name with that effort. What a request says itself is honoured: it goes to the plain arm, or to that of its own effort.
func TestEfforts(t *testing.T) {
	arms := peers(2)
	arms[0].Capabilities |= catalog.Reasoning
	arms[1] = arms[0].WithEffort("high")
	arms = append(arms, arms[0].WithEffort("low")) // peer/a, peer/a#high, peer/a#low
	for _, tt := range []struct {
		name, body string
		want       string // model and reason, and what the vendor is asked with; or an error
	}{
		{"it is explored", ask("auto", ""), `peer/a#low explored "low"`},
		{"its own name", ask("peer/a#high", ""), `peer/a#high pinned "high"`},
		{"the plain name is the plain arm", ask("a", ""), `peer/a pinned ""`},
		{"null is nothing said", ask("auto", `,"reasoning_effort":null`), `peer/a#low explored "low"`},
		{"the same effort", ask("auto", `,"reasoning_effort":"high"`), `peer/a#high explored "high"`},
		{"another effort", ask("auto", `,"reasoning_effort":"medium"`), `peer/a only_candidate "medium"`},
		{"an effort in tokens", ask("auto", `,"reasoning":{"max_tokens":200}`), `peer/a only_candidate ""`},
		{"another than the name's", ask("peer/a#high", `,"reasoning_effort":"low"`), "400 no_candidate reasoning_effort"},
		{"all but the plain", ask("auto", `,"tradewind":{"allow":["*#*"]}`), `peer/a#low explored "low"`},
	} {
		w := newWorld(t, setup{arms: arms, options: serving.Options{Settings: serving.Settings{Epsilon: .9}, Uniform: func() float64 { return .999 }}})
		a := w.chat(tt.body)
		if a.status != 200 {
			if got := fmt.Sprint(a.status, " ", a.get("error.code"), " ", a.get("error.param")); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
			continue
		}
		body := w.vendor.calls[0].body
		effort, _ := dig(t, body, "reasoning_effort").(string)
		if got := fmt.Sprintf("%s %q", a.chosen(), effort); got != tt.want || dig(t, body, "model") != "a" {
			t.Errorf("%s: %s asked with %s, want %s", tt.name, got, body, tt.want)
		}
		d, o := w.outcome(a)
		if string(o.Served) != a.header.Get("X-Tradewind-Model") || d.Case.Candidates[1].CostUSD != d.Case.Candidates[0].CostUSD {
			t.Errorf("%s: served %s, at %v and %v", tt.name, o.Served, d.Case.Candidates[0].CostUSD, d.Case.Candidates[1].CostUSD)
		}
	}
}

// polyglot is a vendor that speaks every dialect.
type polyglot struct{ *vendor }

func (polyglot) Speaks(openai.Dialect) bool { return true }
func (polyglot) Lacks([]byte) string        { return "" }

// TestEffortIsSaidInChat: an arm with an effort is asked in chat, whatever the client and its provider speak.
func TestEffortIsSaidInChat(t *testing.T) {
	arms := peers(1)
	arms[0].Capabilities |= catalog.Reasoning
	arms = []catalog.Arm{arms[0].WithEffort("high")}
	v := &vendor{}
	w := newWorld(t, setup{arms: arms, providers: map[string]upstream.Provider{"peer": polyglot{v}}})
	a := w.do("POST", "/v1/messages", `{"model":"auto","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}`).wantOK()
	if body := v.calls[0].body; dig(t, body, "reasoning_effort") != "high" || a.get("type") != "message" {
		t.Errorf("asked with %s, answered %s", body, a.body)
	}
	a = w.do("POST", "/v1/messages", `{"model":"auto","max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":2000},"messages":[{"role":"user","content":"hi"}]}`)
	if message, _ := a.get("error.message").(string); a.status != 400 || !strings.Contains(message, "reasoning_effort") || len(v.called()) != 1 {
		t.Errorf("with an effort of its own: %d %s, %d calls", a.status, a.body, len(v.called()))
	}
}

// TestEffortOfAPolicy: a policy's effort is asked of models that reason, where the router chooses and the request says nothing;
// arms of another effort do not serve it, and those that do not reason are asked as ever.
func TestEffortOfAPolicy(t *testing.T) {
	arms := peers(2)
	arms[0].Capabilities |= catalog.Reasoning
	arms = append(arms, arms[0].WithEffort("high"), arms[0].WithEffort("low")) // peer/a, peer/b, peer/a#high, peer/a#low
	for _, tt := range []struct {
		name, body string
		want       string // the model and what the vendor is asked with
	}{
		{"its own effort", ask("auto", `,"tradewind":{"policy":"low"}`), `peer/a#low "low"`},
		{"no arm has it", ask("auto", `,"tradewind":{"policy":"medium","allow":["peer/a*"]}`), `peer/a "medium"`},
		{"an arm that does not reason", ask("auto", `,"tradewind":{"policy":"low","allow":["peer/b"]}`), `peer/b ""`},
		{"the request says another", ask("auto", `,"reasoning_effort":"high","tradewind":{"policy":"low"}`), `peer/a#high "high"`},
		{"a named model", ask("peer/a", `,"tradewind":{"policy":"low"}`), `peer/a ""`},
		{"a named effort", ask("peer/a#high", `,"tradewind":{"policy":"low"}`), `peer/a#high "high"`},
		{"no policy", ask("auto", `,"tradewind":{"deny":["*#*","peer/b"]}`), `peer/a ""`},
		{"the first of two", ask("auto", `,"tradewind":{"policy":"plain","allow":["peer/a*"],"deny":["*#*"]}`), `peer/a "minimal"`},
	} {
		w := newWorld(t, setup{arms: arms, options: serving.Options{
			Settings: serving.Settings{
				Epsilon: .9,
				Policies: map[string]rules.PolicyConfig{
					"low": {Effort: "low"}, "medium": {Effort: "medium"}, "plain": {Strategy: "cost"}, "default": {Effort: "minimal"},
				},
			},
			Uniform: func() float64 { return .999 },
		}})
		if tt.name == "the first of two" {
			s := w.settings(arms, governance.Options{})
			s.Policies, s.DefaultPolicy, s.Epsilon = map[string]rules.PolicyConfig{"plain": {Strategy: "cost"}, "default": {Effort: "minimal"}}, "default", .9
			if err := w.Reload(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		a := w.chat(tt.body).wantOK()
		effort, _ := dig(t, w.vendor.calls[0].body, "reasoning_effort").(string)
		if got := fmt.Sprintf("%s %q", a.header.Get("X-Tradewind-Model"), effort); got != tt.want {
			t.Errorf("%s: asked %s, want %s", tt.name, got, tt.want)
		}
		d, _ := w.outcome(a)
		checkReplay(t, d)
	}
}

// TestEffortOfAPolicyInOtherDialects: it is said in chat, and what chat cannot say goes before it.
func TestEffortOfAPolicyInOtherDialects(t *testing.T) {
	arms := peers(1)
	arms[0].Capabilities |= catalog.Reasoning
	v := &vendor{}
	w := newWorld(t, setup{arms: arms, providers: map[string]upstream.Provider{"peer": polyglot{v}}, options: serving.Options{Settings: serving.Settings{
		Policies: map[string]rules.PolicyConfig{"low": {Effort: "low"}}, DefaultPolicy: "low",
	}}})
	w.do("POST", "/v1/messages", `{"model":"auto","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}`).wantOK()
	if body := v.calls[0].body; dig(t, body, "reasoning_effort") != "low" {
		t.Errorf("asked with %s", body)
	}
	w.do("POST", "/v1/messages", `{"model":"auto","max_tokens":50,"top_k":3,"messages":[{"role":"user","content":"hi"}]}`)
	if body := v.calls[1].body; dig(t, body, "top_k") == nil || dig(t, body, "reasoning_effort") != nil {
		t.Errorf("asked with %s", body)
	}
}
