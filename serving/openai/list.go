package openai

import (
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// ModelList is the answer of GET /v1/models.
type ModelList struct {
	Object string  `json:"object"`
	Data   []Model `json:"data"`
}

// Model is one entry of it, in OpenAI's shape with our own part under tradewind.
type Model struct {
	ID        string     `json:"id"`
	Object    string     `json:"object"`
	Created   int64      `json:"created"`
	OwnedBy   string     `json:"owned_by"`
	Tradewind *ModelInfo `json:"tradewind,omitempty"`
}

// ModelInfo is what the catalog knows of an arm. What it does not know is null or absent, never zero.
type ModelInfo struct {
	Router          bool         `json:"router,omitempty"`
	Mode            catalog.Mode `json:"mode,omitempty"`
	BaseModel       string       `json:"base_model,omitempty"`
	ContextTokens   int          `json:"context_tokens,omitempty"`
	MaxOutputTokens int          `json:"max_output_tokens,omitempty"`
	Tier            catalog.Tier `json:"tier,omitempty"`
	Prices          *ModelPrices `json:"prices,omitempty"`
	Supports        []string     `json:"supports,omitempty"`
	Simulated       bool         `json:"simulated,omitempty"`
	Deprecated      bool         `json:"deprecated,omitempty"`
	AsOf            string       `json:"as_of,omitempty"`
	// Models are those that an alias stands for.
	Models []string `json:"models,omitempty"`
}

// ModelPrices are in US dollars per million tokens. Those of the cache are null where nobody told them.
type ModelPrices struct {
	Input catalog.Nanodollars `json:"input"`
	// Output is null for embeddings, which have none.
	Output     *catalog.Nanodollars `json:"output"`
	CacheRead  *catalog.Nanodollars `json:"cache_read"`
	CacheWrite *catalog.Nanodollars `json:"cache_write"`
}

var capabilityNames = [...]struct {
	c    catalog.Capability
	name string
}{
	{catalog.Tools, "tools"}, {catalog.JSONSchema, "json_schema"}, {catalog.Vision, "vision"},
	{catalog.AudioInput, "audio_input"}, {catalog.PDF, "pdf"}, {catalog.Reasoning, "reasoning"},
}

// CapabilityNames are the names of the capabilities in c, as they stand in a model's supports and a decision's needs.
func CapabilityNames(c catalog.Capability) []string {
	var names []string
	for _, n := range capabilityNames {
		if c.Has(n.c) {
			names = append(names, n.name)
		}
	}
	return names
}

// AutoNames are the model values that leave the choice to the router, as far as no group has to be configured for them.
func AutoNames() []string {
	names := []string{"auto"}
	for _, s := range [...]Strategy{StrategyCost, StrategyLatency, StrategyBalanced, StrategyAvailability, StrategyQuality} {
		names = append(names, "auto:"+string(s))
	}
	return names
}

// NewModelList lists the auto names and then the arms. OpenAI's clients want a creation time of every model; it is that
// of the catalog.
func NewModelList(arms []catalog.Arm, created time.Time) ModelList {
	l := ModelList{Object: "list", Data: make([]Model, 0, len(arms)+6)}
	for _, name := range AutoNames() {
		l.Data = append(l.Data, Model{ID: name, Object: "model", Created: created.Unix(), OwnedBy: "tradewind", Tradewind: &ModelInfo{Router: true}})
	}
	for i := range arms {
		l.Data = append(l.Data, NewModel(&arms[i], created))
	}
	return l
}

// NewAlias is the entry of a further name of models.
func NewAlias(name string, models []string, created time.Time) Model {
	return Model{ID: name, Object: "model", Created: created.Unix(), OwnedBy: "tradewind", Tradewind: &ModelInfo{Models: models}}
}

// NewModel is the entry of one arm.
func NewModel(a *catalog.Arm, created time.Time) Model {
	info := &ModelInfo{
		Mode: a.Mode, BaseModel: a.BaseModel, ContextTokens: a.ContextTokens, MaxOutputTokens: a.MaxOutputTokens, Tier: a.Tier,
		Supports: CapabilityNames(a.Capabilities), Simulated: a.Simulated, Deprecated: a.Deprecated, AsOf: a.AsOf,
	}
	if p := a.Prices; p.Known {
		// A million tokens at one picodollar a token cost 1,000 nanodollars.
		million := func(p catalog.Picodollars) catalog.Nanodollars { return catalog.Nanodollars(p) * 1000 }
		info.Prices = &ModelPrices{Input: million(p.Input)}
		if out := million(p.Output); a.Mode != catalog.ModeEmbedding {
			info.Prices.Output = &out
		}
		for _, cached := range [...]struct {
			kind  catalog.Kinds
			price catalog.Picodollars
			to    **catalog.Nanodollars
		}{{catalog.KindCacheRead, p.CacheRead, &info.Prices.CacheRead}, {catalog.KindCacheWrite, p.CacheWrite, &info.Prices.CacheWrite}} {
			if n := million(cached.price); p.Guessed&cached.kind == 0 {
				*cached.to = &n
			}
		}
	}
	return Model{ID: string(a.ID), Object: "model", Created: created.Unix(), OwnedBy: a.ID.Provider(), Tradewind: info}
}
