// Package governance knows who asks: organizations, teams and keys, what each may do and what it may spend.
//
// It authenticates from the headers alone, before a body is read, and hands out a Principal. It does not count: money
// is the ledger's, rates and concurrency are quota's, and how a refusal looks on the wire is serving's.
package governance

import (
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Permission is one thing that a key may do beyond asking for answers.
type Permission string

// The permissions.
const (
	// PolicyOverride lets a request name the policy or router version that decides.
	PolicyOverride Permission = "policy:override"
)

// LogLevel says what may be kept of a request. Money is always kept.
type LogLevel string

// The levels, from the most to the least. Full keeps text, Features only what was extracted from it, None neither.
const (
	LogFull     LogLevel = "full"
	LogFeatures LogLevel = "features"
	LogNone     LogLevel = "none"
)

// Strictest returns the level that keeps less; an unknown one counts as None. A request may lower its level this way
// and never raise it.
func (l LogLevel) Strictest(other LogLevel) LogLevel {
	if l == LogNone || other == LogNone || !l.valid() || !other.valid() {
		return LogNone
	}
	if l == LogFeatures || other == LogFeatures {
		return LogFeatures
	}
	return LogFull
}

func (l LogLevel) valid() bool { return l == LogFull || l == LogFeatures || l == LogNone }

// Budget is a cap of one level of the chain: scope "key", "team" or "org", the owner's name, and a window "day",
// "week", "month" or "total".
type Budget struct {
	Scope  string
	Owner  string
	Window string
	Amount catalog.Nanodollars
}

// Limits are rates and concurrency; zero is no limit.
type Limits struct {
	RequestsPerMinute int
	TokensPerMinute   int
	Concurrent        int
}

// Caps are per-request limits of a key; zero is none. The strictest of all levels applies.
type Caps struct {
	MaxCostUSD   float64
	MaxLatencyMS float64
}

// Level is what one level of the chain names for its requests: a strategy, a share of quality to keep (0 is none), and a
// policy whose name package rules knows.
type Level struct {
	// Place is where it stands in the configuration.
	Place    []any
	Strategy string
	Policy   string
	Quality  float64
}

// Principal is who asks. It is shared between requests and never changed.
type Principal struct {
	Org  string
	Team string
	// KeyID is the beginning of the key's digest in hex. It identifies the key and gives nothing away.
	KeyID string
	// Name is what the configuration calls the key, often nothing. It is no identity.
	Name        string
	Permissions []Permission
	// Levels are the key's own, its team's and its organization's. What the first names is in force.
	Levels [3]Level
	// Floor is the least quality of an arm, 0 is off.
	Floor float64
	Caps  Caps
	// Allow and Deny are globs over "provider/model"; an empty Allow allows everything, Deny wins.
	Allow []string
	Deny  []string
	// Explore overrides the configuration's; nil leaves it.
	Explore  *bool
	LogLevel LogLevel
	// Budgets are those of the whole chain, from the key up.
	Budgets []Budget
	Limits  Limits
	// Hedge is nil where the key may not hedge.
	Hedge *Hedge
	// Targets are the cost targets of the chain, the key's first.
	Targets []Target
	// ExpiresAt is the end of the key; zero is never.
	ExpiresAt time.Time
}

// Local is who asks while no key is configured.
const Local = "local"

// TeamOwner is the team with its organization, as it owns budgets and as rules name it; "" where there is none.
func (p *Principal) TeamOwner() string {
	if p.Team == "" {
		return ""
	}
	return TeamOwner(p.Org, p.Team)
}

// Can reports whether the principal has a permission.
func (p *Principal) Can(x Permission) bool { return slices.Contains(p.Permissions, x) }

// Arm says whether the principal may use an arm, and if not, whether that is because a Deny glob names it.
func (p *Principal) Arm(id catalog.ArmID) (allowed, denied bool) {
	if id.MatchesAny(p.Deny) {
		return false, true
	}
	return len(p.Allow) == 0 || id.MatchesAny(p.Allow), false
}
