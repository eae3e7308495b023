// Package catalog knows the arms: the LLMs a router may choose among, with their prices, limits and capabilities.
//
// It is the leaf that everything else stands on: reward, evals, ledger and upstream all need a price, so nothing here
// imports another package of the project. It is not a registry of trained routers; that is package models.
package catalog

import (
	"strings"
	"time"
)

// ArmID names one LLM at one provider, written "provider/model", such as "openai/gpt-5-mini".
type ArmID string

// Provider returns the part before the first slash, or "" where there is none.
func (id ArmID) Provider() string {
	provider, _, found := strings.Cut(string(id), "/")
	if !found {
		return ""
	}
	return provider
}

// Model returns the provider's own name of the LLM: the part after the first slash, or all of it where there is none.
func (id ArmID) Model() string {
	if _, model, found := strings.Cut(string(id), "/"); found {
		return model
	}
	return string(id)
}

// Capability is one thing that a request may need of an arm. What is not known to be there counts as absent.
type Capability uint16

// The capabilities that requests are filtered on.
const (
	Tools Capability = 1 << iota
	JSONSchema
	Vision
	AudioInput
	PDF
	Reasoning
)

// Has reports whether c holds every capability of need.
func (c Capability) Has(need Capability) bool { return c&need == need }

// AllCapabilities is the set of all that is known.
const AllCapabilities = Tools | JSONSchema | Vision | AudioInput | PDF | Reasoning

// Names lists the capabilities as the catalog file does.
func (c Capability) Names() []string {
	var out []string
	for i, name := range [...]string{"tools", "json_schema", "vision", "audio_input", "pdf", "reasoning"} {
		if c.Has(1 << i) {
			out = append(out, name)
		}
	}
	return out
}

// String is the names, separated by commas.
func (c Capability) String() string { return strings.Join(c.Names(), ",") }

// Tier is an operator's or the catalog's plain statement of how good an arm is, the prior of an arm nobody measured.
type Tier string

// The tiers, from the least able to the most.
const (
	TierUnknown  Tier = ""
	TierSmall    Tier = "small"
	TierMedium   Tier = "medium"
	TierLarge    Tier = "large"
	TierFrontier Tier = "frontier"
)

// Tiers are those that say something, from the least able to the most.
func Tiers() []Tier { return []Tier{TierSmall, TierMedium, TierLarge, TierFrontier} }

// Arm is the name under which a router knows what may be expected of any arm of a tier.
func (t Tier) Arm() ArmID { return ArmID("tier/" + string(t)) }

// Mode is what an arm is asked for. Only those for chat are routed; the others serve who names them.
type Mode string

// The modes. Most arms are for chat, so that it needs no word.
const (
	ModeChat       Mode = ""
	ModeCompletion Mode = "completion"
	ModeEmbedding  Mode = "embedding"
)

// Arm is one LLM at one provider: what it is called, what it can do and what it costs.
type Arm struct {
	ID   ArmID
	Mode Mode `json:",omitempty"`
	// BaseModel is equal for the same weights at several providers; empty where unknown.
	BaseModel string
	// ContextTokens is the whole window, MaxInputTokens the most a prompt may hold where that is less, MaxOutputTokens
	// the most one answer may hold; zero is unknown.
	ContextTokens   int
	MaxInputTokens  int
	MaxOutputTokens int
	// OutputCap is the vendor's name for the cap on an answer's tokens; empty is whatever the client calls it.
	OutputCap    string
	Capabilities Capability
	// Effort is the reasoning effort that the arm is asked with, and the end of its id after a #; empty leaves it to the
	// client. The same LLM with another effort is another arm: it answers, costs and is learned about otherwise.
	Effort string `json:",omitempty"`
	Tier   Tier
	// Quantization is what the provider has rounded the weights to, one of Quantizations; empty where nobody told.
	Quantization string `json:",omitempty"`
	// Data is what the provider is declared to do with what it is sent.
	Data DataPolicy `json:",omitempty"`
	// Refuses are the fields of a request that the arm does not take, as far as an operator has said so: their names with
	// commas between them, so that arms can be compared. DropParams says that a field which the arm cannot be told is left out
	// where that may be, instead of keeping the arm from the request.
	Refuses    string `json:",omitempty"`
	DropParams bool   `json:",omitempty"`
	// Priority is the operator's order of the providers of one model: 1 to PriorityMax, the lowest first; 0, which is none, last.
	Priority int `json:",omitempty"`
	// Weight is how much of what the providers of one model get this one is to get, beside the weights of the others: 0 to WeightMax.
	Weight float64 `json:",omitempty"`

	Prices Prices
	// Simulated marks an arm whose answers are made up by this program.
	Simulated  bool
	Deprecated bool
	// Disputed says that the catalog's sources differ on something about the arm; Catalog.Evidence names it.
	Disputed bool
	// AsOf is the day (YYYY-MM-DD) on which the prices were last confirmed; empty where unknown.
	AsOf string
}

// PriorityMax is the highest number, and so the last place, that a Priority may name.
const PriorityMax = 1000

// WeightMax is the largest Weight.
const WeightMax = 1_000_000

// Model is the provider's own name of the LLM, which an effort is no part of.
func (a *Arm) Model() string {
	if a.Effort == "" {
		return a.ID.Model()
	}
	return strings.TrimSuffix(a.ID.Model(), "#"+a.Effort)
}

// WithEffort is the arm asked with a reasoning effort.
func (a *Arm) WithEffort(effort string) Arm {
	b := *a
	b.ID, b.Effort = ArmID(string(a.ID)+"#"+effort), effort
	return b
}

// Efforts are the reasoning efforts that providers know, from the least to the most.
func Efforts() []string { return []string{"none", "minimal", "low", "medium", "high", "xhigh"} }

// Quantizations are the forms that weights are served in, from the fewest bits to the most.
func Quantizations() []string {
	return []string{"int4", "fp4", "fp6", "int8", "fp8", "fp16", "bf16", "fp32"}
}

// DataPolicy is what a provider promises of what it is sent. What nobody has declared counts as not promised.
type DataPolicy uint8

// The promises. Who keeps nothing collects nothing either, so that ZeroRetention comes with NoCollection.
const (
	NoCollection  DataPolicy = 1
	ZeroRetention DataPolicy = 1<<1 | NoCollection
)

// Has reports whether all that is asked for is promised.
func (p DataPolicy) Has(asked DataPolicy) bool { return p&asked == asked }

// StaleDays is the age beyond which a price should be checked before anything rests on it.
const StaleDays = 60

// Age is the number of days since the arm's prices were last confirmed, and whether anybody knows.
func (a *Arm) Age(now time.Time) (days int, known bool) {
	asOf, err := time.Parse(time.DateOnly, a.AsOf)
	if err != nil {
		return 0, false
	}
	return int(now.UTC().Sub(asOf) / (24 * time.Hour)), true
}
