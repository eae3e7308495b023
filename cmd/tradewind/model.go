package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// modelConfig is one arm: a name, or an object that overrides what the catalog says of it. What is not set stays as the
// catalog has it.
type modelConfig struct {
	Name            string               `yaml:"name" doc:"The provider's own name of the model."`
	Mode            catalog.Mode         `yaml:"mode" enum:"chat,completion,embedding" doc:"What it is asked for; without it, what the catalog says, or chat. Only models for chat are routed: the others serve who names them, on /v1/completions and /v1/embeddings."`
	Tier            catalog.Tier         `yaml:"tier" enum:"small,medium,large,frontier" doc:"How good it is, until something was measured."`
	BaseModel       string               `yaml:"base_model" doc:"Equal for the same weights at several providers."`
	Quantization    string               `yaml:"quantization" enum:"int4,fp4,fp6,int8,fp8,fp16,bf16,fp32" doc:"What the provider has rounded the weights to. Requests with provider.quantizations go to models alone that declare one of theirs."`
	ContextTokens   int                  `yaml:"context_tokens" nonzero:"" doc:"The whole window."`
	MaxInputTokens  int                  `yaml:"max_input_tokens" nonzero:"" doc:"The most that a prompt may hold, where that is less than the window."`
	MaxOutputTokens int                  `yaml:"max_output_tokens" nonzero:"" doc:"The most that one answer may hold."`
	Supports        supportsConfig       `yaml:"supports"`
	Free            bool                 `yaml:"free" doc:"It costs nothing. Without this a price of 0 is refused."`
	Rates           ratesConfig          `yaml:",inline"`
	RequestUSD      *catalog.Nanodollars `yaml:"request_usd" doc:"US dollars asked once a call."`
	Tiers           []stepConfig         `yaml:"tiers" doc:"Price steps: each applies to the whole request once its input is above the bound."`
	Schedule        []changeConfig       `yaml:"price_schedule" doc:"Prices that hold from a day on."`
	AsOf            string               `yaml:"as_of" doc:"The day on which the prices were last checked."`
	Deprecated      *bool                `yaml:"deprecated"`
	Patience        patienceConfig       `yaml:",inline"`
	Params          paramsConfig         `yaml:",inline"`
	Limits          limitsConfig         `yaml:"limits" doc:"What it may be sent. Once that is used up requests go elsewhere; where nothing else may serve them they are refused, with retry-after."`
	Priority        int                  `yaml:"priority" nonzero:"" doc:"Its place among the providers of one model, or among the models of one alias where that is named: 1 is asked first, and who has none last. A request that says what it goes by (provider.order, a sort or a strategy) has its own order."`
	Weight          float64              `yaml:"weight" doc:"How much of what the providers of one model get it is to get, beside the weights of the others, or of the models of one alias where that is named; without one it gets nothing while another has one and can serve. A conversation stays where it is, and a request that says what it goes by is not shared out."`
	Efforts         []effort             `yaml:"efforts" doc:"Reasoning efforts with each of which it is a further model to choose, named as model#effort: none, minimal, low, medium, high, xhigh. A request that names another effort is not sent there."`
}

// effort is one of catalog.Efforts.
type effort string

// UnmarshalText accepts those.
func (e *effort) UnmarshalText(text []byte) error {
	if known := catalog.Efforts(); !slices.Contains(known, string(text)) {
		return fmt.Errorf("effort %.40q is none of %s", text, strings.Join(known, ", "))
	}
	*e = effort(text)
	return nil
}

// withEfforts are the arm and those that it is with an effort.
func (m *modelConfig) withEfforts(a *catalog.Arm) ([]catalog.Arm, error) {
	if len(m.Efforts) > 0 && a.Mode != catalog.ModeChat {
		return nil, fmt.Errorf("%s is for mode %s, which has no efforts", a.ID, a.Mode)
	}
	all := []catalog.Arm{*a}
	for i, e := range m.Efforts {
		if e != openai.NoEffort && !a.Capabilities.Has(catalog.Reasoning) {
			return nil, fmt.Errorf("%s does not reason, so it has no efforts; where it does, say `supports: [reasoning]`", a.ID)
		}
		if slices.Contains(m.Efforts[:i], e) {
			return nil, fmt.Errorf("%s has the effort %s twice", a.ID, e)
		}
		all = append(all, a.WithEffort(string(e)))
	}
	return all, nil
}

// ratesConfig are prices in US dollars per million tokens.
type ratesConfig struct {
	InputUSD        *catalog.PerMTok `yaml:"input_usd_per_mtok"`
	OutputUSD       *catalog.PerMTok `yaml:"output_usd_per_mtok"`
	CacheReadUSD    *catalog.PerMTok `yaml:"cache_read_usd_per_mtok" doc:"Without it cached tokens cost the full input price, and their cost is an estimate."`
	CacheWriteUSD   *catalog.PerMTok `yaml:"cache_write_usd_per_mtok"`
	CacheWrite1hUSD *catalog.PerMTok `yaml:"cache_write_1h_usd_per_mtok"`
	AudioInputUSD   *catalog.PerMTok `yaml:"audio_input_usd_per_mtok"`
	AudioOutputUSD  *catalog.PerMTok `yaml:"audio_output_usd_per_mtok"`
	ImageInputUSD   *catalog.PerMTok `yaml:"image_input_usd_per_mtok"`
	ReasoningUSD    *catalog.PerMTok `yaml:"reasoning_usd_per_mtok"`
}

type stepConfig struct {
	Above int64       `yaml:"above_input_tokens"`
	Rates ratesConfig `yaml:",inline"`
}

type changeConfig struct {
	From  string       `yaml:"from" doc:"A day, such as 2027-01-01."`
	Rates ratesConfig  `yaml:",inline"`
	Tiers []stepConfig `yaml:"tiers"`
}

// supportsConfig is what a model can: a list of names, or an object of names that are true or false.
type supportsConfig map[string]bool

// UnmarshalYAML accepts both forms.
func (s *supportsConfig) UnmarshalYAML(unmarshal func(any) error) error {
	var names []string
	if unmarshal(&names) == nil {
		*s = supportsConfig{}
		for _, name := range names {
			(*s)[name] = true
		}
		return nil
	}
	return unmarshal((*map[string]bool)(s))
}

// UnmarshalYAML accepts the short form, a plain name.
func (m *modelConfig) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&m.Name) == nil {
		return nil
	}
	type plain modelConfig
	return unmarshal((*plain)(m))
}

func (r *ratesConfig) entry() catalog.EntryRates {
	return catalog.EntryRates{
		In: r.InputUSD, Out: r.OutputUSD, CacheRead: r.CacheReadUSD, CacheWrite: r.CacheWriteUSD, CacheWrite1h: r.CacheWrite1hUSD,
		AudioIn: r.AudioInputUSD, AudioOut: r.AudioOutputUSD, ImageIn: r.ImageInputUSD, Reasoning: r.ReasoningUSD,
	}
}

func entrySteps(tiers []stepConfig) (steps []catalog.EntryStep) {
	for i := range tiers {
		steps = append(steps, catalog.EntryStep{Above: tiers[i].Above, EntryRates: tiers[i].Rates.entry()})
	}
	return steps
}

// entry is the catalog's entry of that name with the overrides of the configuration, or a new one.
func (m *modelConfig) entry(provider string, known *catalog.Catalog) (*catalog.Entry, error) {
	id := catalog.ArmID(provider + "/" + m.Name)
	if err := id.Validate(); err != nil {
		return nil, err
	}
	e := known.Entry(id)
	if e == nil {
		e = &catalog.Entry{ID: string(id)}
	}
	if m.Mode != "" {
		e.Mode = m.Mode
	}
	if m.Tier != "" {
		e.Tier = m.Tier
	}
	e.Base, e.Quantization = cmp.Or(m.BaseModel, e.Base), cmp.Or(m.Quantization, e.Quantization)
	for _, limit := range [...]struct {
		to   **int
		from *int
	}{{&e.Context, &m.ContextTokens}, {&e.MaxInput, &m.MaxInputTokens}, {&e.MaxOutput, &m.MaxOutputTokens}} {
		if *limit.from != 0 {
			*limit.to = limit.from
		}
	}
	if m.Deprecated != nil {
		e.Deprecated, e.Ends = *m.Deprecated, ""
	}
	if err := m.capabilities(e); err != nil {
		return nil, err
	}
	return e, m.price(e)
}

func (m *modelConfig) capabilities(e *catalog.Entry) error {
	var can, cannot catalog.Capability
	for name, has := range m.Supports {
		c := catalog.ParseCapability(name)
		switch {
		case c == 0:
			return fmt.Errorf("supports %q is none of %s", name, strings.Join(catalog.AllCapabilities.Names(), ", "))
		case has:
			can |= c
		default:
			cannot |= c
		}
	}
	for _, name := range e.Can {
		can |= catalog.ParseCapability(name) &^ cannot
	}
	for _, name := range e.Cannot {
		cannot |= catalog.ParseCapability(name) &^ can
	}
	e.Can, e.Cannot = can.Names(), cannot.Names()
	return nil
}

// price overrides the catalog's prices. A price of input and output replaces all that the catalog says of prices; other
// prices replace only themselves. Either way the catalog's dated changes are dropped: what an operator sets, holds.
func (m *modelConfig) price(e *catalog.Entry) error {
	rates := m.Rates.entry()
	if rates == (catalog.EntryRates{}) && m.RequestUSD == nil && len(m.Tiers) == 0 && len(m.Schedule) == 0 && !m.Free {
		if m.AsOf != "" { // somebody has checked what the catalog says
			e.AsOf = m.AsOf
		}
		return nil
	}
	in, out := rates.In, rates.Out
	if e.Mode == catalog.ModeEmbedding && out == nil { // it has no output
		out = in
	}
	if (in == nil) != (out == nil) || in != nil && !m.Free && *in == 0 && *out == 0 {
		return errors.New("a price needs input_usd_per_mtok and output_usd_per_mtok above zero, of embeddings the first alone; say `free: true` for a model that costs nothing")
	}
	e.Changes, e.Disputed, e.Sources, e.AsOf = nil, nil, []string{"configuration"}, m.AsOf
	if m.Free && rates.In == nil {
		rates.In, rates.Out = new(catalog.PerMTok), new(catalog.PerMTok)
	}
	if e.Free = m.Free; rates.In != nil {
		e.EntryRates, e.Steps, e.Request = rates, nil, nil
	} else {
		for _, p := range [...]struct{ to, from **catalog.PerMTok }{
			{&e.CacheRead, &rates.CacheRead}, {&e.CacheWrite, &rates.CacheWrite}, {&e.CacheWrite1h, &rates.CacheWrite1h},
			{&e.AudioIn, &rates.AudioIn}, {&e.AudioOut, &rates.AudioOut}, {&e.ImageIn, &rates.ImageIn}, {&e.Reasoning, &rates.Reasoning},
		} {
			if *p.from != nil {
				*p.to = *p.from
			}
		}
	}
	if m.RequestUSD != nil {
		e.Request = m.RequestUSD
	}
	if len(m.Tiers) > 0 {
		e.Steps = entrySteps(m.Tiers)
	}
	for i := range m.Schedule {
		c := &m.Schedule[i]
		e.Changes = append(e.Changes, catalog.EntryChange{From: c.From, EntryRates: c.Rates.entry(), Steps: entrySteps(c.Tiers)})
	}
	return nil
}
