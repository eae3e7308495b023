package serving_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/rules"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// levels are all places where a strategy may stand, the first of which counts. Each is set alone by its function.
var levels = []struct {
	name string
	set  func(s openai.Strategy, l *levelled)
}{
	{"body", func(s openai.Strategy, l *levelled) { l.body += `,"tradewind":{"strategy":"` + string(s) + `"}` }},
	{"header", func(s openai.Strategy, l *levelled) {
		l.header = append(l.header, "X-Tradewind-Strategy", string(s))
	}},
	{"suffix", func(s openai.Strategy, l *levelled) { l.model = "auto:" + string(s) }},
	{"OpenRouter", func(_ openai.Strategy, l *levelled) { l.body += `,"provider":{"sort":"price"}` }},
	{"policy of the request", func(s openai.Strategy, l *levelled) {
		l.header = append(l.header, "X-Tradewind-Policy", l.policy(s))
	}},
	{"rule", func(s openai.Strategy, l *levelled) {
		l.options.Rules = append(l.options.Rules, rules.Config{Strategy: string(s)})
	}},
	{"policy of a rule", func(s openai.Strategy, l *levelled) {
		l.options.Rules = append(l.options.Rules, rules.Config{Policy: l.policy(s)})
	}},
	{"key", func(s openai.Strategy, l *levelled) { l.auth.Keys[0].Strategy = string(s) }},
	{"policy of the key", func(s openai.Strategy, l *levelled) { l.auth.Keys[0].Policy = l.policy(s) }},
	{"team", func(s openai.Strategy, l *levelled) { l.auth.Teams[0].Strategy = string(s) }},
	{"policy of the team", func(s openai.Strategy, l *levelled) { l.auth.Teams[0].Policy = l.policy(s) }},
	{"organization", func(s openai.Strategy, l *levelled) { l.auth.Orgs[0].Strategy = string(s) }},
	{"policy of the organization", func(s openai.Strategy, l *levelled) { l.auth.Orgs[0].Policy = l.policy(s) }},
	{"configuration", func(s openai.Strategy, l *levelled) { l.options.Strategy = s }},
	{"policy of the configuration", func(s openai.Strategy, l *levelled) { l.options.DefaultPolicy = l.policy(s) }},
}

// levelled is a gateway and a request on their way to a strategy at some levels.
type levelled struct {
	setup
	model, body string
	header      []string
}

func (l *levelled) policy(s openai.Strategy) string {
	name := fmt.Sprintf("p%d", len(l.options.Policies))
	l.options.Policies[name] = rules.PolicyConfig{Strategy: string(s)}
	return name
}

// TestPrecedence: what a request says wins over what its key says, that over its team, and so on down; within a request the
// body wins over a header, that over the suffix, that over OpenRouter's fields. Every level wins over the next one below it
// that says something else.
func TestPrecedence(t *testing.T) {
	for first := range len(levels) + 1 {
		l := &levelled{model: "auto"}
		l.auth = governance.Options{
			Keys:  []governance.KeyConfig{{Name: "ann", Key: keyA, Org: "o", Team: "t", Permissions: []governance.Permission{governance.PolicyOverride}}},
			Teams: []governance.OwnerConfig{{Name: "t", Org: "o"}}, Orgs: []governance.OwnerConfig{{Name: "o"}},
		}
		l.options.Policies = map[string]rules.PolicyConfig{}
		want, name := openai.StrategyBalanced, "nobody"
		if first < len(levels) {
			want, name = openai.StrategyCost, levels[first].name // the only one that OpenRouter's price can mean
			levels[first].set(want, l)
			for i, lower := range levels[first+1:] {
				if others := []openai.Strategy{"quality", "latency"}; lower.name != "OpenRouter" {
					lower.set(others[i%2], l)
				}
			}
		}
		a := newWorld(t, l.setup).chat(ask(l.model, l.body), append(l.header, bearer(keyA)...)...).wantOK()
		if got := a.header.Get("X-Tradewind-Strategy"); got != string(want) {
			t.Errorf("%s says %s, and those below it something else: strategy %s", name, want, got)
		}
	}
}

// operated is a gateway of three equal arms with rules and policies, for keys ann (of o/t) and bob, who may override.
func operated(t testing.TB, u float64, s serving.Settings) *world {
	s.Epsilon = .9
	return newWorld(t, setup{
		arms: peers(3), options: serving.Options{Settings: s, Uniform: func() float64 { return u }},
		auth: governance.Options{
			Keys: []governance.KeyConfig{
				{Name: "ann", Key: keyA, Org: "o", Team: "t", Policy: "annual"},
				{Name: "bob", Key: keyB, Org: "o", Team: "u", Permissions: []governance.Permission{governance.PolicyOverride}},
			},
			Teams: []governance.OwnerConfig{{Name: "t", Org: "o", Policy: "team"}},
		},
	})
}

func rulesAndPolicies() serving.Settings {
	return serving.Settings{
		Aliases:   map[string][]string{"pair": {"peer/a", "peer/b"}},
		Fallbacks: map[string][]string{"peer/b": {"peer/c"}},
		Policies: map[string]rules.PolicyConfig{
			"annual": {Strategy: "cost", Epsilon: new(.3)}, "team": {Deny: []string{"peer/a"}, Strategy: "quality"}, "still": {Explore: new(bool)},
			"costly": {MaxCostUSD: 1e-9},
		},
		Rules: []rules.Config{
			{Name: "titles", Tags: map[string]string{"task": "title"}, Pin: "peer/b"},
			{Name: "pairs", Tags: map[string]string{"task": "pair"}, Pin: "pair"},
			{Name: "batch", Headers: map[string]string{"X-App": "batch-*"}, Policy: "still"},
			{Name: "bob", Keys: []string{"bob"}, Teams: []string{"o/u"}, Deny: []string{"peer/c"}},
			{Name: "cheap", Tags: map[string]string{"task": "cheap"}, Policy: "costly"},
		},
	}
}

// TestRules: who is served what by which rule. The draw is the last arm that may be explored.
func TestRules(t *testing.T) {
	title := `,"tradewind":{"tags":{"task":"title"}}`
	for _, tt := range []struct {
		name, key, body string
		header          []string
		want            string // model and reason, policy, strategy; or an error
	}{
		{"no rule but that of the key", keyB, ask("auto", ""), nil, "peer/b explored, router, balanced"},
		{"a tag", keyB, ask("auto", title), nil, "peer/b rule, router, balanced"},
		{"a tag in a header", keyB, ask("auto:cost", ""), []string{"X-Tradewind-Tags", "task=title"}, "peer/b rule, router, cost"},
		{"a named model is not overruled", keyB, ask("peer/a", title), nil, "peer/a pinned, router, balanced"},
		{"nor is a list", keyB, ask("auto", `,"models":["peer/a"]`+title), nil, "peer/a only_candidate, router, balanced"},
		{"nor a group", keyB, ask("auto/pair", title), nil, "peer/b explored, router, balanced"},
		{"a pin that the request denies", keyB, ask("auto", `,"tradewind":{"deny":["peer/b"],"tags":{"task":"title"}}`), nil, "peer/a only_candidate, router, balanced"},
		{"a pin on several", keyA, ask("auto", `,"tradewind":{"tags":{"task":"pair"}}`), nil, "peer/b only_candidate, annual, cost"},
		{"key and team", keyA, ask("auto", ""), nil, "peer/c explored, annual, cost"},
		{"a header, and never to explore", keyA, ask("auto", ""), []string{"X-App", "batch-1"}, "peer/b predicted, still, cost"},
		{"what the team denies", keyA, ask("peer/a", ""), nil, "403 model_not_allowed"},
		{"what a rule denies", keyB, ask("peer/c", ""), nil, "403 model_not_allowed"},
		{"a cap", keyB, ask("auto", `,"tradewind":{"tags":{"task":"cheap"}}`), nil, "400 no_candidate"},
		{"a policy by request", keyB, ask("auto", `,"tradewind":{"policy":"still"}`), nil, "peer/a predicted, still, balanced"},
		{"which widens nothing", keyB, ask("peer/c", `,"tradewind":{"policy":"still"}`), nil, "403 model_not_allowed"},
		{"and must be there", keyB, ask("auto", `,"tradewind":{"policy":"stil"}`), nil, "400 unsupported_routing_field"},
		{"and permitted", keyA, ask("auto", ""), []string{"X-Tradewind-Policy", "still"}, "403 forbidden"},
	} {
		w := operated(t, .999, rulesAndPolicies())
		a := w.chat(tt.body, append(tt.header, bearer(tt.key)...)...)
		got := fmt.Sprint(a.status, " ", a.get("error.code"))
		if a.status == 200 {
			d, _ := w.outcome(a)
			checkReplay(t, d)
			got = fmt.Sprintf("%s, %s, %s", a.chosen(), d.Policy, d.Strategy)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestPinnedArmFails: the fallbacks of the pinned model stand in, as for a client who had named it.
func TestPinnedArmFails(t *testing.T) {
	w := operated(t, .5, rulesAndPolicies())
	w.vendor.play(outage("peer/b"))
	tagged := `,"tradewind":{"tags":{"task":"title"}}`
	if got := w.chat(ask("auto", tagged), bearer(keyA)...).chosen(); got != "peer/c fallback" {
		t.Errorf("got %s, want the fallback peer/c", got)
	}
	if got := w.vendor.called(); !slices.Contains(got, "peer/b") {
		t.Errorf("called %v, want peer/b first", got)
	}
}

// TestModelsOfAKey: a key is shown what its own policy, its team's and its rules leave it.
func TestModelsOfAKey(t *testing.T) {
	w := operated(t, 0, rulesAndPolicies())
	for key, want := range map[string]string{keyA: "peer/b peer/c", keyB: "peer/a peer/b"} {
		var ids []string
		for _, m := range w.do("GET", "/v1/models", "", bearer(key)...).wantOK().get("data").([]any) {
			if id := m.(map[string]any)["id"].(string); strings.HasPrefix(id, "peer/") {
				ids = append(ids, id)
			}
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("models %s, want %s", got, want)
		}
	}
	if a := w.chat(ask("peer/d", ""), bearer(keyA)...); strings.Contains(a.body, "peer/a") {
		t.Errorf("a model that the team denies is told: %s", a.body)
	}
}

// TestFirstFilter: an arm that several things keep out is told the first of them: who may not, what the request refuses, what
// cannot be said, what the arm cannot do, its window, its price, its cost.
func TestFirstFilter(t *testing.T) {
	reasons := []string{"not_allowed", "denied", "param_unsupported", "no_tools", "context_too_small", "unpriced", "max_cost"}
	var arms []catalog.Arm
	for first := range len(reasons) + 1 { // each arm has all reasons from one on, the last none
		a := threeArms()[0]
		a.ID = catalog.ArmID(fmt.Sprintf("peer/%d", first))
		has := func(reason string) bool { return first <= slices.Index(reasons, reason) }
		if has("param_unsupported") {
			a.Effort = "low"
		}
		if has("no_tools") {
			a.Capabilities = 0
		}
		if has("context_too_small") {
			a.ContextTokens = 5
		}
		if has("unpriced") {
			a.Prices = catalog.Prices{}
		} else if has("max_cost") {
			a.Prices = catalog.Flat(1_000_000_000, 1_000_000_000)
		}
		a.Capabilities |= catalog.Reasoning
		arms = append(arms, a)
	}
	w := newWorld(t, setup{arms: arms, options: serving.Options{Settings: serving.Settings{Rules: []rules.Config{{Deny: []string{"peer/0"}}}}}})
	body := ask("auto", `,"tools":[{"type":"function","function":{"name":"f"}}],"reasoning_effort":"high","tradewind":{"max_cost_usd":0.01,"deny":["peer/0","peer/1"]}`)
	candidates := w.do("POST", "/v1/route", body).wantOK().get("candidates").([]any)
	for i, want := range append(reasons, "") {
		if got, _ := candidates[i].(map[string]any)["filter"].(string); got != want {
			t.Errorf("arm %d is filtered as %q, want %q", i, got, want)
		}
	}
}

// TestSplitStaysWithASession: every request of a session is under the same part, whatever it says.
func TestSplitStaysWithASession(t *testing.T) {
	s := rulesAndPolicies()
	s.Policies["half"] = rules.PolicyConfig{Split: []rules.ShareConfig{{Policy: "still", Percent: 50}, {Policy: "annual", Percent: 50}}}
	s.DefaultPolicy = "half"
	w := operated(t, .5, s)
	of := map[string]map[string]bool{}
	for i := range 40 {
		id := fmt.Sprint(i % 8)
		a := w.chat(turns("", fmt.Sprint("question ", i)), append(inSession(id), bearer(keyB)...)...).wantOK()
		d, _ := w.outcome(a)
		if of[id] == nil {
			of[id] = map[string]bool{}
		}
		of[id][d.Policy] = true
	}
	parts := map[string]int{}
	for id, names := range of {
		if len(names) != 1 {
			t.Errorf("session %s was under %v", id, slices.Collect(maps.Keys(names)))
		}
		for name := range names {
			parts[name]++
		}
	}
	if len(parts) != 2 {
		t.Errorf("eight sessions are under %v", parts)
	}
}

// outage is a vendor one of whose models fails.
func outage(arm catalog.ArmID) func(int, *upstream.Request) (*script, error) {
	return func(_ int, r *upstream.Request) (*script, error) {
		if r.Arm.ID == arm {
			return nil, fails(upstream.Server, 500)
		}
		return &script{}, nil
	}
}
