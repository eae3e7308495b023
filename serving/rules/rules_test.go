package rules

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/session"
)

func arms() []catalog.Arm {
	return []catalog.Arm{{ID: "one/small"}, {ID: "two/large", Capabilities: catalog.Reasoning}, {ID: "two/small"}}
}

// ann is of team o/t; her key and the owners above it name what a test says.
func ann(key, team, org governance.Level) *governance.Principal {
	key.Place, team.Place, org.Place = []any{"keys", 0}, []any{"teams", 0}, []any{"orgs", 0}
	return &governance.Principal{Name: "ann", Org: "o", Team: "t", KeyID: "a", Levels: [3]governance.Level{key, team, org}}
}

func options(p *governance.Principal) Options {
	return Options{Arms: arms(), Principals: []*governance.Principal{p}, Serves: func(name string) bool { return name == "one/small" || name == "pair" }}
}

func must(t testing.TB, o Options) *Set {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func no() *bool { return new(bool) }

func share(x float64) *float64 { return &x }

func quality(i int) float64 { return .9 + float64(i)/100 }

func perRequest(usd float64) governance.TargetConfig {
	return governance.TargetConfig{Cost: governance.CostConfig{Amount: usd, Per: governance.PerRequest}}
}

// TestPolicyTargets: the cost targets of all policies in force count, each once, and of the rest of two policies the first's.
func TestPolicyTargets(t *testing.T) {
	p := ann(governance.Level{Policy: "cheap"}, governance.Level{Policy: "kept"}, governance.Level{Policy: "thrift", Quality: .7})
	o := options(p)
	o.Policies = map[string]PolicyConfig{
		"cheap": {Target: perRequest(.01)}, "kept": {Target: governance.TargetConfig{Quality: .95}, Effort: "low"}, "thrift": {Target: perRequest(.02), Effort: "high"},
		"unused": {Target: perRequest(.03)},
	}
	s, d := must(t, o), Demands{}
	if got := s.Paced(); len(got) != 3 || got[0].Owner != "cheap" || got[1].Owner != "thrift" || got[2].Owner != "unused" {
		t.Errorf("got cost targets %+v", got)
	}
	for range 2 { // the second time with memory of the first
		s.For(&d, &Request{Principal: p, Policy: "thrift"})
		if len(d.Paced) != 2 || d.Paced[0] != s.Paced()[1] || d.Paced[1] != s.Paced()[0] || d.Quality != .95 || d.Effort != "high" {
			t.Errorf("got cost targets %+v, quality %v, effort %s", d.Paced, d.Quality, d.Effort)
		}
	}
}

// TestPrecedence: of a single value the first level that names it counts: the request's policy, the rules in their order, the
// key, its team, its organization, the configuration; and of one level its own word before that of its policy.
func TestPrecedence(t *testing.T) {
	names := []string{"of the request", "of a rule", "of a later rule", "of the key", "of the team", "of the org", "of the config"}
	strategies := []string{"cost", "latency", "balanced", "availability", "balanced", "cost", "latency"}
	efforts := []string{"none", "minimal", "low", "medium", "high", "xhigh", "low"}
	for first := range names {
		for _, own := range []bool{false, true} { // whether the level itself names the strategy, or its policy does
			if own && first == 0 {
				continue // a request's own strategy is no matter of rules
			}
			o := options(nil)
			o.Policies = map[string]PolicyConfig{}
			var levels []governance.Level
			for i := range names {
				p := PolicyConfig{Strategy: strategies[i], Epsilon: share(float64(i) / 10), Effort: efforts[i], Target: governance.TargetConfig{Quality: quality(i)}}
				l := governance.Level{Policy: names[i]}
				if own && i == first {
					p.Strategy, l.Strategy = strategies[(i+1)%len(strategies)], strategies[i]
					if i > 2 { // a rule has no target but its policy's
						p.Target.Quality, l.Quality = 1, quality(i)
					}
				}
				if i < first {
					l = governance.Level{}
				}
				o.Policies[names[i]] = p
				levels = append(levels, l)
			}
			p := ann(levels[3], levels[4], levels[5])
			o.Principals, o.Default = []*governance.Principal{p}, levels[6]
			for _, l := range levels[1:3] {
				if l.Policy != "" {
					o.Rules = append(o.Rules, Config{Strategy: l.Strategy, Policy: l.Policy})
				}
			}
			var d Demands
			must(t, o).For(&d, &Request{Principal: p, Policy: levels[0].Policy})
			if d.Policy != names[first] || string(d.Strategy) != strategies[first] || *d.Epsilon != float64(first)/10 || d.Effort != efforts[first] || d.Quality != quality(first) {
				t.Errorf("from %s on (own %v): policy %q, strategy %s, epsilon %v, effort %s, quality %v", names[first], own, d.Policy, d.Strategy, *d.Epsilon, d.Effort, d.Quality)
			}
		}
	}
}

// TestConstraintsAddUp: nobody widens what another level has narrowed, whatever the order.
func TestConstraintsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := ann(governance.Level{}, governance.Level{}, governance.Level{})
		o := options(p)
		o.Policies = map[string]PolicyConfig{}
		caps := rapid.SampledFrom([]float64{0, .5, 1, 2})
		globs := rapid.SliceOfN(rapid.SampledFrom([]string{"one/*", "two/*", "small", "*large", "two/small"}), 0, 2)
		var used []PolicyConfig
		for i := range rapid.IntRange(1, 5).Draw(t, "levels") {
			c := PolicyConfig{
				Floor: rapid.Float64Range(0, 1).Draw(t, "floor"), MaxCostUSD: caps.Draw(t, "cost"), MaxLatencyMS: caps.Draw(t, "latency"),
				Allow: globs.Draw(t, "allow"), Deny: globs.Draw(t, "deny"), Explore: rapid.SampledFrom([]*bool{nil, no(), new(true)}).Draw(t, "explore"),
			}
			name := fmt.Sprint(i)
			o.Policies[name] = c
			used = append(used, c)
			switch i {
			case 0:
				o.Default.Policy = name
			case 1, 2, 3:
				p.Levels[i-1].Policy = name
			default:
				o.Rules = append(o.Rules, Config{Policy: name})
			}
		}
		var d Demands
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		s.For(&d, &Request{Principal: p})
		for _, c := range used {
			if d.Floor < c.Floor || c.MaxCostUSD > 0 && (d.MaxCostUSD == 0 || d.MaxCostUSD > c.MaxCostUSD) ||
				c.MaxLatencyMS > 0 && (d.MaxLatencyMS == 0 || d.MaxLatencyMS > c.MaxLatencyMS) || c.Explore != nil && !*c.Explore && d.Explore {
				t.Fatalf("%+v is wider than %+v", d, c)
			}
		}
		for i, a := range arms() {
			want := slices.ContainsFunc(used, func(c PolicyConfig) bool {
				return a.ID.MatchesAny(c.Deny) || len(c.Allow) > 0 && !a.ID.MatchesAny(c.Allow)
			})
			if got := d.Barred(i); got != want {
				t.Fatalf("%s is barred %v, want %v", a.ID, got, want)
			}
		}
	})
}

// TestMatching: a rule matches where every list that it has names the request.
func TestMatching(t *testing.T) {
	request := func(f func(*Request)) *Request {
		q := &Request{Principal: ann(governance.Level{}, governance.Level{}, governance.Level{}), Tags: map[string]string{"task": "title", "empty": ""}, Header: http.Header{"X-App": {"batch-7"}}}
		if f != nil {
			f(q)
		}
		return q
	}
	stranger := func(q *Request) { q.Principal = &governance.Principal{KeyID: "b"} }
	for _, tt := range []struct {
		rule Config
		set  func(*Request)
		want bool
	}{
		{Config{}, nil, true},
		{Config{Keys: []string{"bob", "ann"}}, nil, true},
		{Config{Keys: []string{"bob"}}, nil, false},
		{Config{Keys: []string{"ann"}}, stranger, false},
		{Config{Teams: []string{"o/t"}}, nil, true},
		{Config{Teams: []string{"t"}}, nil, false},
		{Config{Orgs: []string{"o"}}, nil, true},
		{Config{Orgs: []string{"o"}}, stranger, false},
		{Config{Tags: map[string]string{"task": "title"}}, nil, true},
		{Config{Tags: map[string]string{"task": "ti*"}}, nil, true},
		{Config{Tags: map[string]string{"task": "ti"}}, nil, false},
		{Config{Tags: map[string]string{"empty": "*"}}, nil, true},
		{Config{Tags: map[string]string{"none": "*"}}, nil, false},
		{Config{Headers: map[string]string{"x-app": "batch-*"}}, nil, true},
		{Config{Headers: map[string]string{"x-app": "online"}}, nil, false},
		{Config{Headers: map[string]string{"x-none": "*"}}, nil, false},
		{Config{Keys: []string{"ann"}, Tags: map[string]string{"task": "title"}, Headers: map[string]string{"X-App": "*"}}, nil, true},
		{Config{Keys: []string{"ann"}, Tags: map[string]string{"task": "other"}}, nil, false},
	} {
		rule := ready(tt.rule)
		if got := rule.matches(request(tt.set)); got != tt.want {
			t.Errorf("%+v: matches %v, want %v", tt.rule, got, tt.want)
		}
	}
}

// TestFirstPin: of several rules that match and pin the first counts, and the constraints of all.
func TestFirstPin(t *testing.T) {
	p := ann(governance.Level{}, governance.Level{}, governance.Level{})
	o := options(p)
	o.Rules = []Config{{Deny: []string{"two/large"}}, {Pin: "pair"}, {Pin: "one/small", Allow: []string{"small"}, Strategy: "quality"}}
	var d Demands
	must(t, o).For(&d, &Request{Principal: p})
	if d.Pin != "pair" || d.Strategy != openai.StrategyQuality || d.Policy != "" || d.Barred(0) || !d.Barred(1) || d.Barred(2) {
		t.Errorf("%+v", d)
	}
}

// TestSplit: every part has its share of the conversations, each conversation stays with its part, and two splits are
// independent of each other.
func TestSplit(t *testing.T) {
	const conversations = 20_000
	p := ann(governance.Level{Policy: "ab"}, governance.Level{Policy: "cd"}, governance.Level{})
	o := options(p)
	o.Policies = map[string]PolicyConfig{
		"a": {Strategy: "cost"}, "b": {Strategy: "quality"}, "c": {}, "d": {Explore: no()},
		"ab": {Split: []ShareConfig{{"a", 90}, {"b", 10}}}, "cd": {Split: []ShareConfig{{"c", 50}, {"d", 50}}},
	}
	s := must(t, o)
	count := map[string]float64{}
	for i := range conversations {
		q := &Request{Principal: p, Conversation: session.Named("k", fmt.Sprint(i))}
		var d, again Demands
		s.For(&d, q)
		s.For(&again, q)
		if again.Policy != d.Policy || again.Explore != d.Explore {
			t.Fatal("a conversation changed its part")
		}
		count[d.Policy]++
		if !d.Explore {
			count[d.Policy+"d"]++
		}
	}
	for name, want := range map[string]float64{"a": .9, "b": .1, "ad": .45, "bd": .05} {
		if got := count[name] / conversations; math.Abs(got-want) > 4*math.Sqrt(want*(1-want)/conversations) {
			t.Errorf("part %s has %v of the conversations, want %v", name, got, want)
		}
	}
}

// TestProblems: every mistake is told with its place.
func TestProblems(t *testing.T) {
	one := func(c PolicyConfig) Options {
		o := options(ann(governance.Level{}, governance.Level{}, governance.Level{}))
		o.Policies = map[string]PolicyConfig{"p": c, "q": {}}
		return o
	}
	rule := func(c Config) Options {
		o := one(PolicyConfig{})
		o.Rules = []Config{{Pin: "one/small"}, c}
		return o
	}
	level := func(i int, l governance.Level) Options {
		o := one(PolicyConfig{})
		o.Principals[0].Levels[i].Strategy, o.Principals[0].Levels[i].Policy = l.Strategy, l.Policy
		o.Principals = append(o.Principals, o.Principals[0]) // another key of the same owners
		return o
	}
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{one(PolicyConfig{Strategy: "best"}), `policies.p.strategy: strategy "best" is unknown`},
		{one(PolicyConfig{Epsilon: share(1.5)}), `policies.p.epsilon: 1.5 is no share from 0 to 1`},
		{one(PolicyConfig{Floor: math.NaN()}), `policies.p.quality_floor: NaN is no share from 0 to 1`},
		{one(PolicyConfig{Allow: []string{"one/smal"}}), `policies.p.allow: it allows no model that is served; policies.p.allow[0]: "one/smal" is not served`},
		{one(PolicyConfig{Deny: []string{"gone/*", "gone/model"}}), `policies.p.deny[1]: "gone/model" is not served`},
		{one(PolicyConfig{Allow: []string{"three/*"}}), `policies.p.allow: it allows no model that is served`},
		{one(PolicyConfig{Deny: []string{"a?"}}), `policies.p.deny[0]: catalog: "a?" is not a glob over provider/model; a star is its only wildcard`},
		{one(PolicyConfig{Split: []ShareConfig{{"q", 50}}}), `policies.p.split: 1 parts of 50 % in all; they are at most 16 and 100 %`},
		{one(PolicyConfig{Split: []ShareConfig{{"q", 50}, {"none", 50}}}), `policies.p.split[1]: there is no policy "none"`},
		{one(PolicyConfig{Split: []ShareConfig{{"q", 90}, {"p", 10}}}), `policies.p.split[1]: policy "p" is a split itself`},
		{one(PolicyConfig{Floor: .5, Split: []ShareConfig{{"q", 100}}}), `policies.p.split: a policy with a split says nothing else: its parts do`},
		{one(PolicyConfig{Effort: "low", Split: []ShareConfig{{"q", 100}}}), `policies.p.split: a policy with a split says nothing else: its parts do`},
		{one(PolicyConfig{Target: perRequest(1), Split: []ShareConfig{{"q", 100}}}), `policies.p.split: a policy with a split says nothing else: its parts do`},
		{one(PolicyConfig{Effort: "hihg"}), `policies.p.effort: effort "hihg" is none of none, minimal, low, medium, high, xhigh`},
		{one(PolicyConfig{Effort: "low", Deny: []string{"two/large"}}), `policies.p.effort: no model that it allows reasons, or may be asked with effort low`},
		{one(PolicyConfig{Target: governance.TargetConfig{Quality: 1.5}}), `policies.p.target: target: quality is 1.5, want a share of more than 0 and at most 1`},
		{one(PolicyConfig{Target: governance.TargetConfig{Quality: .5, Cost: perRequest(1).Cost}}), `policies.p.target: target: it is of quality or of cost; the other belongs to another level`},
		{one(PolicyConfig{Target: governance.TargetConfig{Cost: governance.CostConfig{Amount: 1, Per: governance.PerDay}}}), `policies.p.target: the money of a day is that of a key, a team or an organization; a policy has no account, and its target is per request`},
		{one(PolicyConfig{Strategy: "quality", Target: governance.TargetConfig{Quality: .9}}), `policies.p.target: strategy quality keeps all of the quality, and has no figure that a target could replace`},
		{one(PolicyConfig{Strategy: "latency", Target: perRequest(1)}), `policies.p.target: strategy latency asks for time, and a target of cost would move nothing`},
		{rule(Config{Keys: []string{"ann"}}), `rules[1]: it does nothing`},
		{rule(Config{Strategy: "cost", Keys: []string{"ann", "bob"}}), `rules[1].keys[1]: no key has the name "bob"`},
		{rule(Config{Strategy: "cost", Teams: []string{"t"}}), `rules[1].teams[0]: no key is of team "t"; a team is written org/team`},
		{rule(Config{Strategy: "cost", Orgs: []string{"other"}}), `rules[1].orgs[0]: no key is of organization "other"`},
		{rule(Config{Strategy: "cost", Headers: map[string]string{"authorization": "*"}}), `rules[1].headers.authorization: a rule does not look at secrets; name the key under keys`},
		{rule(Config{Pin: "gone/model"}), `rules[1].pin: "gone/model" is not served`},
		{rule(Config{Policy: "none"}), `rules[1].policy: there is no policy "none"`},
		{rule(Config{Strategy: "fast"}), `rules[1].strategy: strategy "fast" is unknown`},
		{level(0, governance.Level{Policy: "none"}), `keys[0].policy: there is no policy "none"`},
		{level(1, governance.Level{Strategy: "best"}), `teams[0].strategy: strategy "best" is unknown`},
		{level(2, governance.Level{Policy: "none"}), `orgs[0].policy: there is no policy "none"`},
	} {
		_, err := New(tt.o)
		var problems Problems
		if !errors.As(err, &problems) || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
	if _, err := New(Options{Rules: make([]Config, RulesMax+1)}); err == nil {
		t.Error("too many rules were taken")
	}
}

// FuzzMatch: what a client sends cannot break a rule, and a star alone takes everything.
func FuzzMatch(f *testing.F) {
	f.Add("batch-*", "batch-7")
	f.Add("*a*b", "xaxb")
	f.Fuzz(func(t *testing.T, glob, value string) {
		q := &Request{Principal: &governance.Principal{}, Tags: map[string]string{"k": value}}
		rule := ready(Config{Tags: map[string]string{"k": glob}})
		matched := rule.matches(q)
		if !strings.Contains(glob, "*") && matched != (glob == value) || glob == "*" && !matched {
			t.Errorf("%q matches %q: %v", glob, value, matched)
		}
	})
}

// BenchmarkFor is what the rules of a large configuration cost a request.
func BenchmarkFor(b *testing.B) {
	p := ann(governance.Level{Policy: "a"}, governance.Level{Policy: "ab"}, governance.Level{})
	o := options(p)
	o.Policies = map[string]PolicyConfig{"a": {Allow: []string{"two/*", "one/*"}}, "b": {Strategy: "cost"}, "ab": {Split: []ShareConfig{{"a", 50}, {"b", 50}}}}
	for i := range 50 {
		o.Rules = append(o.Rules, Config{Keys: []string{"ann"}, Tags: map[string]string{"task": fmt.Sprint(i)}, Policy: "b"})
	}
	s, d := must(b, o), Demands{}
	q := &Request{Principal: p, Tags: map[string]string{"task": "49"}, Conversation: session.Named("k", "c")}
	b.ReportAllocs()
	for b.Loop() {
		if s.For(&d, q); d.Policy != "b" {
			b.Fatal("the rule did not match")
		}
	}
}
