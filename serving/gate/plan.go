package gate

import (
	"fmt"
	"slices"

	"github.com/tradewind-llm/tradewind/serving/governance"
)

// EscalationsMax is the number of further arms that may be asked after the first.
const EscalationsMax = 2

// PolicyConfig attaches gates to requests. It applies where each of the lists that are given names the request: with none
// it applies to all. A tag is the client's word, so what must be checked hangs on a key, a team or an organization.
type PolicyConfig struct {
	Gates []string `yaml:"gates" json:"gates" doc:"Names of gates; all must pass."`
	// Keys are names of keys, Teams are "org/team".
	Keys  []string          `yaml:"keys" json:"keys,omitempty" doc:"Names of keys."`
	Teams []string          `yaml:"teams" json:"teams,omitempty" doc:"Teams, each as org/team."`
	Orgs  []string          `yaml:"orgs" json:"orgs,omitempty"`
	Tags  map[string]string `yaml:"tags" json:"tags,omitempty" doc:"Tags that the request must have. They are the client's word."`
	// OnError says what an answer counts as which a gate could not judge: "closed", also where it is empty, is not passed,
	// "open" is passed.
	OnError string `yaml:"on_error" json:"on_error,omitempty" enum:"closed,open" doc:"Whether an answer that a gate could not judge counts as passed (open) or not (closed, the default)."`
	// Exhausted says what becomes of an answer that did not pass where nobody else is worth asking: "serve", also where it is
	// empty, or "refuse".
	Exhausted string `yaml:"exhausted" json:"exhausted,omitempty" enum:"serve,refuse" doc:"What becomes of an answer that did not pass where nobody else is worth asking; serve by default."`
	// Streams says when a stream is judged: "after", also where it is empty, has the client see it as it comes and logs the
	// verdict; "buffer" holds it back until it has passed.
	Streams string `yaml:"streams" json:"streams,omitempty" enum:"after,buffer" doc:"after, the default: a stream is served as it comes and its verdict logged. buffer: it is held back until it has passed."`
	// Escalations is the number of further arms that may be asked, at most EscalationsMax; nil is that.
	Escalations *int `yaml:"escalations" json:"escalations,omitempty" doc:"How many further models may be asked, 0 to 2; 2 by default."`
}

// Options are the gates and what they are attached to. The zero value has none.
type Options struct {
	Gates    []Config
	Policies []PolicyConfig
}

// Validate reports gates that cannot be and policies that name what is not there.
func (o *Options) Validate() error {
	_, err := New(*o)
	return err
}

// Set is all gates of a configuration. It is immutable and may be used from any goroutine; nil has no gates.
type Set struct {
	gates    map[string]*gate
	policies []PolicyConfig
}

// New makes the gates ready.
func New(o Options) (*Set, error) {
	if len(o.Gates) > GatesMax || len(o.Policies) > 1000 {
		return nil, fmt.Errorf("gate: %d gates and %d policies are more than %d and 1,000", len(o.Gates), len(o.Policies), GatesMax)
	}
	s := &Set{gates: map[string]*gate{}, policies: o.Policies}
	for i := range o.Gates {
		g, err := newGate(&o.Gates[i])
		if err != nil {
			return nil, err
		}
		if s.gates[g.name] != nil {
			return nil, fmt.Errorf("gate: %s stands twice", g.name)
		}
		s.gates[g.name] = g
	}
	for i := range o.Policies {
		if err := s.valid(&o.Policies[i]); err != nil {
			return nil, fmt.Errorf("gate: policy %d: %w", i+1, err)
		}
	}
	return s, nil
}

func (s *Set) valid(p *PolicyConfig) error {
	if len(p.Gates) == 0 {
		return fmt.Errorf("it names no gates")
	}
	for _, name := range p.Gates {
		if s.gates[name] == nil {
			return fmt.Errorf("there is no gate %q", name)
		}
	}
	for _, v := range []struct{ field, value, def, other string }{
		{"on_error", p.OnError, "closed", "open"}, {"exhausted", p.Exhausted, "serve", "refuse"}, {"streams", p.Streams, "after", "buffer"},
	} {
		if v.value != "" && v.value != v.def && v.value != v.other {
			return fmt.Errorf("%s %q is neither %s nor %s", v.field, v.value, v.def, v.other)
		}
	}
	if n := p.Escalations; n != nil && (*n < 0 || *n > EscalationsMax) {
		return fmt.Errorf("%d escalations are not from 0 to %d", *n, EscalationsMax)
	}
	return nil
}

// Plan is what one request's answer must pass, and what follows where it does not.
type Plan struct {
	gates []*gate
	open  bool
	// Refuse says that an answer which did not pass is not served, Buffer that a stream is held back until it has.
	Refuse, Buffer bool
	// Escalations is the number of further arms that may be asked.
	Escalations int
}

// Names are the plan's gates, in the order in which they are asked.
func (p *Plan) Names() []string {
	names := make([]string, len(p.gates))
	for i, g := range p.gates {
		names[i] = g.name
	}
	return names
}

// UnknownError says that a request names a gate which is not configured.
type UnknownError struct{ Name string }

// Error names the gate.
func (e *UnknownError) Error() string { return fmt.Sprintf("gate: there is no gate %.64q", e.Name) }

// For is the plan of a request: the gates of every policy that applies, and those that the request adds by their names;
// nil where there are none. Of policies that differ the strictest counts. Gates that a request adds where no policy
// applies are under the defaults of PolicyConfig.
func (s *Set) For(p *governance.Principal, tags map[string]string, named []string) (*Plan, error) {
	if s == nil {
		if len(named) > 0 {
			return nil, &UnknownError{named[0]}
		}
		return nil, nil
	}
	var plan *Plan
	for i := range s.policies {
		if c := &s.policies[i]; c.applies(p, tags) {
			if plan == nil {
				plan = &Plan{Escalations: EscalationsMax, open: true}
			}
			plan.join(s, c)
		}
	}
	for _, name := range named {
		if s.gates[name] == nil {
			return nil, &UnknownError{name}
		}
		if plan == nil {
			plan = &Plan{Escalations: EscalationsMax}
		}
		plan.add(s, name)
	}
	if plan != nil {
		byRank(plan.gates)
	}
	return plan, nil
}

// join adds a policy; of two that differ the stricter counts.
func (p *Plan) join(s *Set, c *PolicyConfig) {
	for _, name := range c.Gates {
		p.add(s, name)
	}
	p.open = p.open && c.OnError == "open"
	p.Refuse = p.Refuse || c.Exhausted == "refuse"
	p.Buffer = p.Buffer || c.Streams == "buffer"
	if c.Escalations != nil {
		p.Escalations = min(p.Escalations, *c.Escalations)
	}
}

func (p *Plan) add(s *Set, name string) {
	if g := s.gates[name]; !slices.Contains(p.gates, g) {
		p.gates = append(p.gates, g)
	}
}

func (c *PolicyConfig) applies(p *governance.Principal, tags map[string]string) bool {
	for k, v := range c.Tags {
		if got, tagged := tags[k]; !tagged || got != v {
			return false
		}
	}
	return (len(c.Keys) == 0 || p.Name != "" && slices.Contains(c.Keys, p.Name)) &&
		(len(c.Teams) == 0 || p.Team != "" && slices.Contains(c.Teams, governance.TeamOwner(p.Org, p.Team))) &&
		(len(c.Orgs) == 0 || p.Org != "" && slices.Contains(c.Orgs, p.Org))
}
