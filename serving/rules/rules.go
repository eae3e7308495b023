// Package rules is what an operator says of requests before the router sees them: named policies, rules that single
// requests out, and which of all that is in force for one request.
//
// Every level speaks in turn: the request's own policy, the rules that match it, its key, team and organization, the
// configuration. A single value (a strategy, a share of quality to keep, an effort, a share of exploration, a model to pin) is
// that of the first who names one, and of one level its own word comes before that of its policy. Constraints (models that
// are allowed or denied, floors, caps, cost targets, not to explore) are never overridden: they add up, so that no rule and
// no policy can widen what another has narrowed. For this reason the order of rules matters for values
// and not for constraints. The package knows names of models and nothing of estimates; it decides nothing.
package rules

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Limits of a configuration.
const (
	PoliciesMax = 256
	RulesMax    = 256
	SharesMax   = 16
)

// PolicyConfig is a named policy: what whoever it applies to may not leave, and what holds where nobody says otherwise.
type PolicyConfig struct {
	Strategy string                  `yaml:"strategy" json:"strategy,omitempty" enum:"cost,latency,balanced,availability,quality"`
	Target   governance.TargetConfig `yaml:"target" json:"target,omitzero" doc:"Of quality: that of the first level that names one is in force. Of cost: of the average request under the policy, beside the targets of all levels; it is per request."`
	Effort   string                  `yaml:"effort" json:"effort,omitempty" enum:"none,minimal,low,medium,high,xhigh" doc:"The reasoning effort with which models that reason are asked, where the request leaves the choice to the router and names no effort itself."`
	Epsilon  *float64                `yaml:"epsilon" json:"epsilon,omitempty" doc:"The share of traffic that explores, 0 to 1."`

	Floor        float64  `yaml:"quality_floor" json:"quality_floor,omitempty" doc:"The least estimated quality of a model, 0 to 1."`
	MaxCostUSD   float64  `yaml:"max_cost_usd" json:"max_cost_usd,omitempty" nonzero:"" doc:"The most that one request may cost."`
	MaxLatencyMS float64  `yaml:"max_latency_ms" json:"max_latency_ms,omitempty" nonzero:""`
	Allow        []string `yaml:"allow" json:"allow,omitempty" doc:"Globs over provider/model; without any, all are allowed."`
	Deny         []string `yaml:"deny" json:"deny,omitempty" doc:"Globs over provider/model; they win."`
	Explore      *bool    `yaml:"explore" json:"explore,omitempty" doc:"false: never explore."`

	// Split makes it a name for several others.
	Split []ShareConfig `yaml:"split" json:"split,omitempty" doc:"In place of all else: policies that each take a share of the conversations."`
}

// ShareConfig is one part of a split. A conversation stays with its part.
type ShareConfig struct {
	Policy  string  `yaml:"policy" json:"policy"`
	Percent float64 `yaml:"percent" json:"percent"`
}

// Config is one rule. It matches where each of the lists that are given names the request, so one without any matches
// all. A tag and a header are the client's word: what must hold hangs on a key, a team or an organization.
type Config struct {
	Name    string            `yaml:"name" json:"name,omitempty" doc:"For people."`
	Keys    []string          `yaml:"keys" json:"keys,omitempty" doc:"Names of keys."`
	Teams   []string          `yaml:"teams" json:"teams,omitempty" doc:"Teams, each as org/team."`
	Orgs    []string          `yaml:"orgs" json:"orgs,omitempty"`
	Tags    map[string]string `yaml:"tags" json:"tags,omitempty" doc:"Tags that the request must have; a star in a value stands for any characters."`
	Headers map[string]string `yaml:"headers" json:"headers,omitempty" doc:"Headers that the request must have, likewise."`

	Pin      string   `yaml:"pin" json:"pin,omitempty" doc:"The model of requests that leave the choice to the router, where it can serve them."`
	Strategy string   `yaml:"strategy" json:"strategy,omitempty" enum:"cost,latency,balanced,availability,quality"`
	Policy   string   `yaml:"policy" json:"policy,omitempty" doc:"The name of a policy."`
	Allow    []string `yaml:"allow" json:"allow,omitempty" doc:"Globs over provider/model."`
	Deny     []string `yaml:"deny" json:"deny,omitempty" doc:"Globs over provider/model; they win."`
}

// Options are the policies and rules, and what they may name. The zero value has none.
type Options struct {
	Policies map[string]PolicyConfig
	Rules    []Config
	// Default is what applies to everybody: the strategy and policy of the configuration.
	Default governance.Level

	// Arms are what is served, in the order in which Demands are asked for them, and Serves tells of any name of a model.
	Arms       []catalog.Arm
	Serves     func(name string) bool
	Principals []*governance.Principal
}

// Validate reports every Problem there is.
func (o *Options) Validate() error {
	_, err := New(*o)
	return err
}

// Problem is one mistake, with the place in the configuration: names of keys and indices of lists.
type Problem struct {
	Path []any
	Text string
}

// Problems are all mistakes of a configuration.
type Problems []Problem

// Error lists them.
func (p Problems) Error() string {
	var all []string
	for _, x := range p {
		place := ""
		for _, step := range x.Path {
			if i, ok := step.(int); ok {
				place += fmt.Sprintf("[%d]", i)
			} else {
				place = strings.TrimPrefix(fmt.Sprintf("%s.%v", place, step), ".")
			}
		}
		all = append(all, place+": "+x.Text)
	}
	return strings.Join(all, "; ")
}

// Set is the policies and rules of a configuration, ready to be asked. It is immutable.
type Set struct {
	policies map[string]*compiled
	rules    []rule
	standing governance.Level
}

// compiled is a policy, with what its lists say of every arm.
type compiled struct {
	PolicyConfig
	name   string
	barred []bool
	parts  []part
	// paced is its cost target; it has no amount where there is none.
	paced governance.Target
}

// part takes the conversations whose place in [0,100) is below until and in no part before it.
type part struct {
	until float64
	*compiled
}

type rule struct {
	Config
	tags, headers []wanted
	barred        []bool
}

// wanted is a tag or header that a request must have.
type wanted struct{ name, glob string }

func list(m map[string]string, key func(string) string) (all []wanted) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, wanted{key(name), m[name]})
	}
	return all
}

// ready is a rule in the form in which it is matched.
func ready(c Config) rule {
	return rule{Config: c, tags: list(c.Tags, strings.Clone), headers: list(c.Headers, http.CanonicalHeaderKey)}
}

// builder gathers what is wrong while it makes a Set.
type builder struct {
	Options
	wrong Problems
}

func (b *builder) problem(path []any, format string, args ...any) {
	b.wrong = append(b.wrong, Problem{slices.Clone(path), fmt.Sprintf(format, args...)})
}

// New makes a set ready, or returns Problems.
func New(o Options) (*Set, error) {
	b := &builder{Options: o}
	s := &Set{policies: map[string]*compiled{}, standing: o.Default}
	if len(o.Policies) > PoliciesMax || len(o.Rules) > RulesMax {
		return nil, Problems{{[]any{"rules"}, fmt.Sprintf("%d policies and %d rules are more than %d and %d", len(o.Policies), len(o.Rules), PoliciesMax, RulesMax)}}
	}
	for name := range o.Policies {
		s.policies[name] = b.policy(name)
	}
	for name := range o.Policies {
		b.split(s, s.policies[name])
	}
	for i := range o.Rules {
		s.rules = append(s.rules, b.rule(s, i))
	}
	b.level(s, o.Default.Place, o.Default)
	for _, p := range o.Principals {
		for _, l := range p.Levels {
			b.level(s, l.Place, l)
		}
	}
	if len(b.wrong) > 0 {
		slices.SortStableFunc(b.wrong, func(x, y Problem) int { return strings.Compare(fmt.Sprint(x.Path...), fmt.Sprint(y.Path...)) })
		return nil, slices.CompactFunc(b.wrong, func(x, y Problem) bool { return x.Text == y.Text && slices.Equal(x.Path, y.Path) })
	}
	return s, nil
}

func (b *builder) policy(name string) *compiled {
	p := &compiled{PolicyConfig: b.Policies[name], name: name}
	at := []any{"policies", name}
	if name == "" || len(name) > openai.NameMax {
		b.problem(at, "a policy has a name of at most %d bytes", openai.NameMax)
	}
	if len(p.Split) > 0 {
		return p
	}
	b.strategy(at, p.Strategy)
	p.barred = b.lists(at, p.Allow, p.Deny)
	b.target(at, p)
	b.effort(at, p)
	if e := p.Epsilon; e != nil && !(*e >= 0 && *e <= 1) {
		b.problem(append(at, "epsilon"), "%v is no share from 0 to 1", *e)
	}
	if !(p.Floor >= 0 && p.Floor <= 1) {
		b.problem(append(at, "quality_floor"), "%v is no share from 0 to 1", p.Floor)
	}
	for name, limit := range map[string]float64{"max_cost_usd": p.MaxCostUSD, "max_latency_ms": p.MaxLatencyMS} {
		if !(limit >= 0) || math.IsInf(limit, 0) {
			b.problem(append(at, name), "%v is no limit; it must be above 0", limit)
		}
	}
	return p
}

// target refuses one that its strategy would not look at.
func (b *builder) target(at []any, p *compiled) {
	at = append(at, "target")
	t, set, err := p.Target.Target("policy", p.name)
	switch s := openai.Strategy(p.Strategy); {
	case err != nil:
		b.problem(at, "%v", err)
	case set && t.Amount == 0 && s == openai.StrategyQuality:
		b.problem(at, "strategy quality keeps all of the quality, and has no figure that a target could replace")
	case set && t.Amount > 0 && s == openai.StrategyLatency:
		b.problem(at, "strategy latency asks for time, and a target of cost would move nothing")
	case set && t.Amount > 0 && t.Per != governance.PerRequest:
		b.problem(at, "the money of a %s is that of a key, a team or an organization; a policy has no account, and its target is per request", t.Per)
	case set && t.Amount > 0:
		p.paced = t
	}
}

// effort refuses one with which no model could be asked.
func (b *builder) effort(at []any, p *compiled) {
	if p.Effort == "" {
		return
	}
	if at = append(at, "effort"); !slices.Contains(catalog.Efforts(), p.Effort) {
		b.problem(at, "effort %q is none of %s", p.Effort, strings.Join(catalog.Efforts(), ", "))
		return
	}
	for i := range b.Arms {
		if a := &b.Arms[i]; (p.barred == nil || !p.barred[i]) && a.Capabilities.Has(catalog.Reasoning) && (a.Effort == "" || a.Effort == p.Effort) {
			return
		}
	}
	b.problem(at, "no model that it allows reasons, or may be asked with effort %s", p.Effort)
}

// split resolves the parts of a policy that has any.
func (b *builder) split(s *Set, p *compiled) {
	if len(p.Split) == 0 {
		return
	}
	at := []any{"policies", p.name, "split"}
	own := p.PolicyConfig
	if own.Split = nil; own.Strategy != "" || own.Target != (governance.TargetConfig{}) || own.Effort != "" || own.Epsilon != nil || own.Floor != 0 || own.MaxCostUSD != 0 || own.MaxLatencyMS != 0 ||
		own.Allow != nil || own.Deny != nil || own.Explore != nil {
		b.problem(at, "a policy with a split says nothing else: its parts do")
	}
	until := 0.0
	for i, share := range p.Split {
		to := s.policies[share.Policy]
		switch {
		case to == nil:
			b.problem(append(at, i), "there is no policy %q", share.Policy)
		case len(to.Split) > 0:
			b.problem(append(at, i), "policy %q is a split itself", share.Policy)
		case !(share.Percent > 0 && share.Percent <= 100):
			b.problem(append(at, i), "%v is no percentage", share.Percent)
		}
		until += share.Percent
		p.parts = append(p.parts, part{until, to})
	}
	if math.Abs(until-100) > 1e-6 || len(p.Split) > SharesMax {
		b.problem(at, "%d parts of %v %% in all; they are at most %d and 100 %%", len(p.Split), until, SharesMax)
	}
	p.parts[len(p.parts)-1].until = 100
}

func (b *builder) rule(s *Set, i int) rule {
	r := ready(b.Rules[i])
	at := []any{"rules", i}
	if r.Pin == "" && r.Strategy == "" && r.Policy == "" && len(r.Allow)+len(r.Deny) == 0 {
		b.problem(at, "it does nothing")
	}
	b.whom(at, &r)
	b.strategy(at, r.Strategy)
	if r.Policy != "" && s.policies[r.Policy] == nil {
		b.problem(append(at, "policy"), "there is no policy %q", r.Policy)
	}
	if r.Pin != "" && (b.Serves == nil || !b.Serves(r.Pin)) {
		b.problem(append(at, "pin"), "%q is not served", r.Pin)
	}
	r.barred = b.lists(at, r.Allow, r.Deny)
	return r
}

// whom refuses a rule that can match nobody.
func (b *builder) whom(at []any, r *rule) {
	for _, list := range [...]struct {
		field, missing string
		names          []string
		of             func(*governance.Principal) string
	}{
		{"keys", "no key has the name %q", r.Keys, func(p *governance.Principal) string { return p.Name }},
		{"teams", "no key is of team %q; a team is written org/team", r.Teams, func(p *governance.Principal) string { return p.TeamOwner() }},
		{"orgs", "no key is of organization %q", r.Orgs, func(p *governance.Principal) string { return p.Org }},
	} {
		for i, name := range list.names {
			if name == "" || !slices.ContainsFunc(b.Principals, func(p *governance.Principal) bool { return list.of(p) == name }) {
				b.problem(append(at, list.field, i), list.missing, name)
			}
		}
	}
	for name := range r.Headers {
		switch http.CanonicalHeaderKey(name) {
		case "Authorization", "X-Api-Key", "Cookie":
			b.problem(append(at, "headers", name), "a rule does not look at secrets; name the key under keys")
		case "":
			b.problem(append(at, "headers"), "a header has a name")
		}
	}
}

func (b *builder) strategy(at []any, s string) {
	if s != "" && !openai.Strategy(s).Known() {
		b.problem(append(at, "strategy"), "strategy %q is unknown", s)
	}
}

func (b *builder) level(s *Set, at []any, l governance.Level) {
	b.strategy(at, l.Strategy)
	if l.Policy != "" && s.policies[l.Policy] == nil {
		b.problem(append(at, "policy"), "there is no policy %q", l.Policy)
	}
}

// lists says of every arm whether the two lists keep it out. A name without a star must be served: it is a typo, or a
// model that is served no longer. A list of what is allowed must leave something.
func (b *builder) lists(at []any, allow, deny []string) (barred []bool) {
	if len(allow)+len(deny) == 0 {
		return nil
	}
	for field, list := range map[string][]string{"allow": allow, "deny": deny} {
		found := false
		for i, glob := range list {
			if err := catalog.ValidateGlob(glob); err != nil {
				b.problem(append(at, field, i), "%v", err)
				continue
			}
			named := slices.ContainsFunc(b.Arms, func(a catalog.Arm) bool { return a.ID.Matches(glob) })
			if found = found || named; !named && !strings.Contains(glob, "*") {
				b.problem(append(at, field, i), "%q is not served", glob)
			}
		}
		if field == "allow" && len(list) > 0 && !found {
			b.problem(append(at, field), "it allows no model that is served")
		}
	}
	barred = make([]bool, len(b.Arms))
	for i := range b.Arms {
		id := b.Arms[i].ID
		barred[i] = id.MatchesAny(deny) || len(allow) > 0 && !id.MatchesAny(allow)
	}
	return barred
}
