package rules

import (
	"cmp"
	"encoding/binary"
	"maps"
	"net/http"
	"slices"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/session"
)

// Request is what of a request the rules look at.
type Request struct {
	Principal *governance.Principal
	Tags      map[string]string
	Header    http.Header
	// Policy is the request's own, which whoever asks must be allowed to name.
	Policy string
	// Conversation is what a split divides by.
	Conversation session.ID
}

// Demands are what all levels together ask of a request. They are reused between requests.
type Demands struct {
	// Policy is the named policy in force, the first of several; "" is none.
	Policy   string
	Strategy openai.Strategy
	// Effort is the reasoning effort to ask with where the request names none, "" where nobody says, and Quality the share of
	// the fallback's quality to keep, 0 likewise.
	Effort  string
	Quality float64
	// Paced are the cost targets of all policies in force.
	Paced []governance.Target
	// Epsilon is nil where nobody names one.
	Epsilon *float64
	// Pin is the model that a rule names, "" where none does.
	Pin string

	Explore      bool
	Floor        float64
	MaxCostUSD   float64
	MaxLatencyMS float64
	barred       [][]bool
}

// Barred reports whether the i-th arm may not serve.
func (d *Demands) Barred(i int) bool {
	for _, b := range d.barred {
		if b[i] {
			return true
		}
	}
	return false
}

// Has reports whether there is a policy of that name.
func (s *Set) Has(policy string) bool { return s.policies[policy] != nil }

// Paced are the cost targets of all policies, in order of their names.
func (s *Set) Paced() (all []governance.Target) {
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		if t := s.policies[name].paced; t.Amount > 0 {
			all = append(all, t)
		}
	}
	return all
}

// For sets d to what is asked of a request.
func (s *Set) For(d *Demands, r *Request) {
	*d = Demands{Explore: true, Paced: d.Paced[:0], barred: d.barred[:0]}
	s.take(d, r, &governance.Level{Policy: r.Policy})
	for i := range s.rules {
		rule := &s.rules[i]
		if !rule.matches(r) {
			continue
		}
		if d.Pin == "" {
			d.Pin = rule.Pin
		}
		d.bar(rule.barred)
		s.take(d, r, &governance.Level{Strategy: rule.Strategy, Policy: rule.Policy})
	}
	for i := range r.Principal.Levels {
		s.take(d, r, &r.Principal.Levels[i])
	}
	s.take(d, r, &s.standing)
}

// take adds a level: its own words, then those of its policy.
func (s *Set) take(d *Demands, r *Request, l *governance.Level) {
	d.Strategy, d.Quality = cmp.Or(d.Strategy, openai.Strategy(l.Strategy)), cmp.Or(d.Quality, l.Quality)
	if l.Policy == "" {
		return
	}
	p := s.policies[l.Policy].pick(r.Conversation)
	d.Policy, d.Strategy = cmp.Or(d.Policy, p.name), cmp.Or(d.Strategy, openai.Strategy(p.Strategy))
	d.Effort, d.Quality = cmp.Or(d.Effort, p.Effort), cmp.Or(d.Quality, p.Target.Quality)
	if p.paced.Amount > 0 && !slices.Contains(d.Paced, p.paced) {
		d.Paced = append(d.Paced, p.paced)
	}
	if d.Epsilon == nil {
		d.Epsilon = p.Epsilon
	}
	d.Explore = d.Explore && (p.Explore == nil || *p.Explore)
	d.Floor = max(d.Floor, p.Floor)
	d.MaxCostUSD = Strictest(d.MaxCostUSD, p.MaxCostUSD)
	d.MaxLatencyMS = Strictest(d.MaxLatencyMS, p.MaxLatencyMS)
	d.bar(p.barred)
}

func (d *Demands) bar(barred []bool) {
	if barred != nil {
		d.barred = append(d.barred, barred)
	}
}

// Strictest is the smaller of two caps of which 0 is none.
func Strictest(a, b float64) float64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// pick is the policy itself, or the part of a split that the conversation falls into: by its digest alone, so every
// replica and every later request says the same, and by the split's name, so that two splits are independent.
func (p *compiled) pick(conversation session.ID) *compiled {
	if len(p.parts) == 0 {
		return p
	}
	id := conversation.Within(p.name)
	place := float64(binary.BigEndian.Uint64(id[:])>>11) / (1 << 53) * 100
	for _, part := range p.parts {
		if place < part.until {
			return part.compiled
		}
	}
	return p.parts[len(p.parts)-1].compiled
}

func (r *rule) matches(q *Request) bool {
	p := q.Principal
	if len(r.Keys) > 0 && (p.Name == "" || !slices.Contains(r.Keys, p.Name)) ||
		len(r.Teams) > 0 && (p.Team == "" || !slices.Contains(r.Teams, p.TeamOwner())) ||
		len(r.Orgs) > 0 && (p.Org == "" || !slices.Contains(r.Orgs, p.Org)) {
		return false
	}
	for _, w := range r.tags {
		if value, tagged := q.Tags[w.name]; !tagged || !catalog.MatchGlob(w.glob, value) {
			return false
		}
	}
	for _, w := range r.headers {
		if values := q.Header[w.name]; len(values) == 0 || !catalog.MatchGlob(w.glob, values[0]) {
			return false
		}
	}
	return true
}
