package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Skipped is an entry of a public list that has no place in a catalog, and why.
type Skipped struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// Read reads a catalog in any of three forms: Tradewind's own (see Parse); a list of facts, one object for each provider
// and model, with prices in US dollars per million tokens; and a price map by the name of the model, with prices in US
// dollars a token, as LiteLLM keeps it. Entries of a public list that are for neither chat nor embeddings are skipped and named.
func Read(r io.Reader) (*Catalog, []Skipped, error) {
	b, err := readAll(r)
	if err != nil {
		return nil, nil, err
	}
	if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && trimmed[0] == '[' {
		return parseFacts(b)
	}
	var head map[string]json.RawMessage
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, nil, fmt.Errorf("catalog: not JSON: %w", err)
	}
	if _, own := head["format"]; own {
		c, err := parseOwn(b)
		return c, nil, err
	}
	return parsePriceMap(head)
}

// fact is one object of a list of facts.
type fact struct {
	Provider string `json:"provider"`
	ID       string `json:"id"`
	Mode     Mode   `json:"mode"`
	Free     bool   `json:"free"`
	factRates
	Tiers        []factStep                 `json:"tiers"`
	Schedule     []factChange               `json:"price_schedule"`
	Context      *int                       `json:"context_tokens"`
	MaxInput     *int                       `json:"max_input_tokens"`
	MaxOutput    *int                       `json:"max_output_tokens"`
	Supports     map[string]*bool           `json:"supports"`
	Base         *string                    `json:"base_model"`
	OpenWeights  *bool                      `json:"open_weights"`
	Released     *string                    `json:"release_date"`
	Deprecated   bool                       `json:"deprecated"`
	DeprecatedOn *string                    `json:"deprecated_on"`
	AsOf         *string                    `json:"as_of"`
	Sources      []string                   `json:"sources"`
	Disputed     map[string]json.RawMessage `json:"disputed"`
}

type factRates struct {
	In           *PerMTok `json:"input_usd_per_mtok"`
	Out          *PerMTok `json:"output_usd_per_mtok"`
	CacheRead    *PerMTok `json:"cache_read_usd_per_mtok"`
	CacheWrite   *PerMTok `json:"cache_write_usd_per_mtok"`
	CacheWrite1h *PerMTok `json:"cache_write_1h_usd_per_mtok"`
	AudioIn      *PerMTok `json:"audio_input_usd_per_mtok"`
	AudioOut     *PerMTok `json:"audio_output_usd_per_mtok"`
}

type factStep struct {
	Above int64 `json:"above_input_tokens"`
	factRates
}

type factChange struct {
	From string `json:"from"`
	factRates
	Tiers []factStep `json:"tiers"`
}

func (r *factRates) entry() EntryRates {
	return EntryRates{In: r.In, Out: r.Out, CacheRead: r.CacheRead, CacheWrite: r.CacheWrite, CacheWrite1h: r.CacheWrite1h, AudioIn: r.AudioIn, AudioOut: r.AudioOut}
}

func factSteps(tiers []factStep) (steps []EntryStep) {
	for i := range tiers {
		steps = append(steps, EntryStep{Above: tiers[i].Above, EntryRates: tiers[i].entry()})
	}
	return steps
}

func parseFacts(b []byte) (*Catalog, []Skipped, error) {
	var raw []json.RawMessage
	if err := strict(b, &raw); err != nil {
		return nil, nil, fmt.Errorf("catalog: %w", err)
	}
	if len(raw) > ArmsMax {
		return nil, nil, fmt.Errorf("catalog: %d arms, at most %d", len(raw), ArmsMax)
	}
	var all builder
	var skipped []Skipped
	for i := range raw {
		var f fact
		err := strict(raw[i], &f)
		if err == nil && f.Mode != "chat" && f.Mode != ModeEmbedding {
			skipped = append(skipped, Skipped{f.Provider + "/" + f.ID, "is for " + string(f.Mode) + ", not chat or embeddings"})
			continue
		}
		if err == nil {
			err = all.add(f.entry())
		}
		if err != nil {
			return nil, nil, fmt.Errorf("catalog: entry %d (%.80q): %w", i+1, f.Provider+"/"+f.ID, err)
		}
	}
	return build(all.arms, all.evidence), skipped, nil
}

// factCapabilities are the names of capabilities in a list of facts. Prompt caching is there too; what it costs says as
// much.
var factCapabilities = map[string]Capability{
	"vision": Vision, "tools": Tools, "json_schema": JSONSchema, "reasoning": Reasoning, "audio_in": AudioInput, "pdf": PDF,
}

func (f *fact) entry() *Entry {
	e := &Entry{
		ID: f.Provider + "/" + f.ID, Mode: f.Mode, EntryRates: f.factRates.entry(), Free: f.Free, Steps: factSteps(f.Tiers),
		Context: f.Context, MaxInput: f.MaxInput, MaxOutput: f.MaxOutput, Deprecated: f.Deprecated, Sources: f.Sources,
		Base: text(f.Base), Released: text(f.Released), Ends: text(f.DeprecatedOn), AsOf: text(f.AsOf),
	}
	var can, cannot Capability
	for name, has := range f.Supports {
		if has != nil && *has {
			can |= factCapabilities[name]
		} else if has != nil {
			cannot |= factCapabilities[name]
		}
	}
	e.Can, e.Cannot = can.Names(), cannot.Names()
	for i := range f.Schedule {
		c := &f.Schedule[i]
		e.Changes = append(e.Changes, EntryChange{From: c.From, EntryRates: c.entry(), Steps: factSteps(c.Tiers)})
	}
	if e.Mode == ModeEmbedding { // such lists have the length of the vector there
		e.Out, e.MaxOutput = nil, nil
	}
	for field, said := range f.Disputed {
		var bySource map[string]json.RawMessage
		if json.Unmarshal(said, &bySource) != nil {
			bySource = map[string]json.RawMessage{"": said}
		}
		if e.Disputed == nil {
			e.Disputed = map[string]map[string]string{}
		}
		values := map[string]string{}
		for source, value := range bySource {
			values[source] = strings.Trim(string(value), `"`)
		}
		e.Disputed[strings.TrimSuffix(field, "_usd_per_mtok")] = values
	}
	return e
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// priceMapProviders are the names of providers in a price map where ours differ.
var priceMapProviders = map[string]string{
	"gemini": "google", "vertex_ai": "google-vertex", "vertex_ai_beta": "google-vertex", "bedrock": "amazon-bedrock", "bedrock_converse": "amazon-bedrock",
	"together_ai": "togetherai", "fireworks_ai": "fireworks-ai", "cohere_chat": "cohere", "dashscope": "alibaba", "moonshot": "moonshotai",
}

// ForeignProvider is our name of a provider that a public list calls name. Variants of one provider ("vertex_ai-…") are
// that provider.
func ForeignProvider(name string) string {
	if ours, ok := priceMapProviders[name]; ok {
		return ours
	}
	if before, _, ok := strings.Cut(name, "-"); ok && priceMapProviders[before] != "" {
		return priceMapProviders[before]
	}
	return name
}

// parsePriceMap reads a map from the name of a model to what is known of it. Such maps are kept by many hands, so an
// entry that cannot be read is skipped and named, rather than the map.
func parsePriceMap(m map[string]json.RawMessage) (*Catalog, []Skipped, error) {
	if len(m) > ArmsMax {
		return nil, nil, fmt.Errorf("catalog: %d arms, at most %d", len(m), ArmsMax)
	}
	var all builder
	var skipped []Skipped
	for _, name := range slices.Sorted(maps.Keys(m)) {
		e, err := priceMapEntry(name, m[name])
		if err == nil {
			err = all.add(e)
		}
		if err != nil {
			skipped = append(skipped, Skipped{name, err.Error()})
		}
	}
	if len(all.arms) == 0 {
		return nil, skipped, errors.New("catalog: neither a catalog file, nor a list of facts, nor a price map")
	}
	return build(all.arms, all.evidence), skipped, nil
}

// priceMapFields are the fields of a price map whose values have the form of an Entry's.
type priceMapFields struct {
	Provider  string   `json:"litellm_provider"`
	Mode      Mode     `json:"mode"`
	Window    *int     `json:"max_input_tokens"`
	MaxOutput *int     `json:"max_output_tokens"`
	Ends      string   `json:"deprecation_date"`
	Request   *float64 `json:"input_cost_per_request"`

	Tools     *bool `json:"supports_function_calling"`
	Vision    *bool `json:"supports_vision"`
	Schema    *bool `json:"supports_response_schema"`
	Audio     *bool `json:"supports_audio_input"`
	PDF       *bool `json:"supports_pdf_input"`
	Reasoning *bool `json:"supports_reasoning"`
}

func priceMapEntry(name string, raw json.RawMessage) (*Entry, error) {
	var f priceMapFields
	var fields map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(raw, &fields), json.Unmarshal(raw, &f)); err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if f.Mode != "chat" && f.Mode != ModeEmbedding {
		return nil, fmt.Errorf("is for %q, not chat or embeddings", f.Mode)
	}
	if f.Provider == "" {
		return nil, errors.New("names no provider")
	}
	if prefix, rest, ok := strings.Cut(name, "/"); ok && (prefix == f.Provider || ForeignProvider(prefix) == ForeignProvider(f.Provider)) {
		name = rest
	}
	e := &Entry{ID: ForeignProvider(f.Provider) + "/" + name, Mode: f.Mode, MaxOutput: f.MaxOutput, Context: f.Window, Ends: f.Ends}
	if e.Mode == ModeEmbedding {
		e.MaxOutput = nil
	}
	var can, cannot Capability
	for _, c := range [...]struct {
		has *bool
		is  Capability
	}{{f.Tools, Tools}, {f.Vision, Vision}, {f.Schema, JSONSchema}, {f.Audio, AudioInput}, {f.PDF, PDF}, {f.Reasoning, Reasoning}} {
		if c.has != nil && *c.has {
			can |= c.is
		} else if c.has != nil {
			cannot |= c.is
		}
	}
	e.Can, e.Cannot = can.Names(), cannot.Names()
	if f.Request != nil && *f.Request > 0 {
		n, err := FromDollars(*f.Request)
		if err != nil {
			return nil, err
		}
		e.Request = &n
	}
	return e, e.priceMapRates(fields)
}

// priceMapRates reads every price a token, and those above a number of input tokens. A price of 0 in such a map means
// free or unknown, and nobody can tell which: it is unknown.
func (e *Entry) priceMapRates(fields map[string]json.RawMessage) error {
	steps := map[int64]*EntryRates{}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		kind, above, ok := priceMapKind(field)
		if !ok {
			continue
		}
		var usd float64
		if err := json.Unmarshal(fields[field], &usd); err != nil || usd == 0 {
			continue
		}
		pico := math.RoundToEven(usd * 1e12)
		if !(pico > 0 && pico <= 1e12) {
			return fmt.Errorf("%s of %v USD a token is out of range", field, usd)
		}
		rates := &e.EntryRates
		if above > 0 {
			if steps[above] == nil {
				steps[above] = &EntryRates{}
			}
			rates = steps[above]
		}
		p := PerMTok(pico)
		for i, to := range rates.all() {
			if kind == 1<<i {
				*to = &p
			}
		}
	}
	below := &EntryRates{In: e.In, Out: e.Out}
	for _, above := range slices.Sorted(maps.Keys(steps)) {
		s := steps[above]
		before := below.all()
		for i, to := range s.all() { // what is asked above 128k tokens is asked above 256k too, where nothing else is said
			if *to == nil {
				*to = *before[i]
			}
		}
		below = s
		e.Steps = append(e.Steps, EntryStep{above, *s})
	}
	return nil
}

// priceMapKind tells which price a field of a price map holds: its kind, and the input tokens above which it applies.
func priceMapKind(field string) (kind Kinds, above int64, ok bool) {
	name, bound, stepped := strings.Cut(field, "_above_")
	if stepped && bound == "1hr" { // a lifetime of the cache, not a number of tokens
		name, stepped = field, false
	}
	if stepped {
		digits, unit := strings.CutSuffix(bound, "k_tokens")
		n, err := strconv.ParseInt(digits, 10, 32)
		if !unit || err != nil {
			return 0, 0, false
		}
		above = n * 1000
	}
	switch name {
	case "input_cost_per_token":
		kind = KindInput
	case "output_cost_per_token":
		kind = KindOutput
	case "cache_read_input_token_cost", "input_cost_per_token_cache_hit":
		kind = KindCacheRead
	case "cache_creation_input_token_cost":
		kind = KindCacheWrite
	case "cache_creation_input_token_cost_above_1hr":
		kind = KindCacheWrite1h
	case "input_cost_per_audio_token":
		kind = KindAudioInput
	case "output_cost_per_audio_token":
		kind = KindAudioOutput
	case "input_cost_per_image_token":
		kind = KindImageInput
	case "output_cost_per_reasoning_token":
		kind = KindReasoning
	default:
		return 0, 0, false
	}
	return kind, above, true
}
