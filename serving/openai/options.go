package openai

import (
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Limits of what a request may say about its own routing.
const (
	// ListMax bounds every list, NameMax every model name, pattern and other name in bytes.
	ListMax = 64
	NameMax = 256
	// SessionIDMax bounds a session id, TagsMax the tags, TagMax the key and value of one tag, in bytes.
	SessionIDMax = 128
	TagsMax      = 16
	TagMax       = 256
)

// Choice is a yes or no that may also be left open, so that a lower level can decide.
type Choice int8

// The choices.
const (
	Unset Choice = iota
	Yes
	No
)

// Or is the choice as a bool, with def where nobody chose.
func (c Choice) Or(def bool) bool {
	if c == Unset {
		return def
	}
	return c == Yes
}

func choose(yes bool) Choice {
	if yes {
		return Yes
	}
	return No
}

// Options is what the request itself says about its routing: the tradewind object, the x-tradewind headers and the
// OpenRouter fields, already merged by precedence. The zero value asks for nothing.
//
// Everything here was accepted, so everything here must be enforced or refused by whoever serves the request; gates,
// policy and hedge need a permission or a configuration that this package cannot see.
type Options struct {
	Strategy Strategy
	// QualityFloor is the plain floor, 0 when there is none. Reference and Epsilon are the relative form, "" when there
	// is none. Both may be set, one by the body and one by a header; then both apply.
	QualityFloor float64
	Reference    string
	Epsilon      float64
	// MaxCost and MaxLatency are the strictest caps given, 0 when there is none.
	MaxCost    catalog.Nanodollars
	MaxLatency time.Duration
	// Allow holds one list of globs for each level that gave one: an arm must match a glob of every list. Deny wins.
	Allow [][]string
	Deny  []string
	// Models are candidates in order of preference, after the model field.
	Models   []string
	Fallback Choice
	Explore  Choice
	Hedge    Choice
	Explain  Choice
	// Attempts is the most attempts at the request, 0 where it says nothing.
	Attempts int
	// Provider is what it says of providers; nil where it says nothing.
	Provider *Preferences
	// Tradeoff is a dial from 0, quality alone, to 10, cost alone; nil where the request does not turn it.
	Tradeoff *float64
	// Session is the key that makes a conversation sticky, "" when the client gave none.
	Session string
	// SessionShared says that the key is a prompt_cache_key, which names a prefix: many conversations may have it.
	SessionShared bool
	Tags          map[string]string
	Gates         []string
	Policy        string
	// Timeout is the client's deadline for the whole request, 0 when there is none.
	Timeout time.Duration
	// EndUser comes from a header and overrides the body's user.
	EndUser string
	// Log is "full", "features", "none" or "". It may only reduce what is stored.
	Log string
}

// Allowed reports whether the request's own allow and deny lists let the arm through.
func (o *Options) Allowed(arm catalog.ArmID) bool {
	for _, list := range o.Allow {
		if !arm.MatchesAny(list) {
			return false
		}
	}
	if p := o.Provider; p != nil && p.Alone && !slices.Contains(p.Order, arm.Provider()) {
		return false
	}
	return !arm.MatchesAny(o.Deny)
}

// validGlobs refuses a glob that would silently name nothing.
func validGlobs(param string, globs []string) error {
	for _, g := range globs {
		if catalog.ValidateGlob(g) != nil {
			return badParam(param, "has %.64q, in which a star is the only wildcard", g)
		}
	}
	return nil
}

// The merge functions implement "constraints add up, the strictest wins".

func (o *Options) capCost(n catalog.Nanodollars) {
	if o.MaxCost == 0 || n < o.MaxCost {
		o.MaxCost = n
	}
}

func (o *Options) capLatency(d time.Duration) {
	if o.MaxLatency == 0 || d < o.MaxLatency {
		o.MaxLatency = d
	}
}

func (o *Options) floorReference(param, model string, epsilon float64) error {
	if o.Reference != "" && o.Reference != model {
		return badParam(param, "names another reference (%.64q) than the request's other quality floor", model)
	}
	if o.Reference == "" || epsilon < o.Epsilon {
		o.Epsilon = epsilon
	}
	o.Reference = model
	return nil
}
