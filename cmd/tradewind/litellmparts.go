package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/upstream/google"
)

// entry is a model as it stands under its provider.
type entry struct{ yaml.MapSlice }

func (e *entry) set(key string, value any) {
	e.MapSlice = append(e.MapSlice, yaml.MapItem{Key: key, Value: value})
}

// overrides is the entry of a model: its name alone, or what the list says of it, sending included, and what the catalog says of
// the model that facts is, nil where there is none.
func (i *litellmImport) overrides(m *litellmModel, name string, facts *catalog.Arm, sending yaml.MapSlice) any {
	info := &m.Info
	e := entry{yaml.MapSlice{{Key: "name", Value: name}}}
	if facts == nil {
		facts = &catalog.Arm{}
	}
	if facts.BaseModel != "" {
		e.set("base_model", facts.BaseModel)
	}
	if facts.Tier != catalog.TierUnknown {
		e.set("tier", string(facts.Tier))
	}
	if n := cmp.Or(info.MaxInput, facts.ContextTokens); n > 0 {
		e.set("context_tokens", n)
	}
	if n := cmp.Or(info.MaxOutput, facts.MaxOutputTokens); n > 0 {
		e.set("max_output_tokens", n)
	}
	if mode := cmp.Or(info.Mode, string(facts.Mode)); mode == string(catalog.ModeEmbedding) {
		e.set("mode", mode)
	}
	if m.Params.DropParams != nil {
		e.set("drop_params", *m.Params.DropParams)
	}
	i.prices(m, &e, facts)
	supports := yaml.MapSlice{}
	for _, c := range [...]struct {
		has  *bool
		name catalog.Capability
	}{
		{info.Tools, catalog.Tools}, {info.Vision, catalog.Vision}, {info.Schema, catalog.JSONSchema}, {info.Audio, catalog.AudioInput},
		{info.PDF, catalog.PDF}, {info.Reasoning, catalog.Reasoning},
	} {
		if c.has != nil {
			supports = append(supports, yaml.MapItem{Key: c.name.String(), Value: *c.has})
		} else if facts.Capabilities.Has(c.name) {
			supports = append(supports, yaml.MapItem{Key: c.name.String(), Value: true})
		}
	}
	if len(supports) > 0 {
		e.set("supports", supports)
	}
	e.MapSlice = append(e.MapSlice, sending...)
	if len(e.MapSlice) == 1 {
		return name
	}
	return e.MapSlice
}

// sending is what a deployment may be sent, in which turn, and how long it is waited for.
func (i *litellmImport) sending(m *litellmModel) yaml.MapSlice {
	p, e, limits := &m.Params, entry{}, entry{}
	for _, n := range [...]struct {
		of     *entry
		theirs string
		ours   string
		value  *int
		most   int
	}{{&limits, "rpm", "rpm", p.RPM, limitMax}, {&limits, "tpm", "tpm", p.TPM, limitMax}, {&e, "order", "priority", p.Order, catalog.PriorityMax}} {
		if n.value != nil && *n.value >= 1 && *n.value <= n.most {
			n.of.set(n.ours, *n.value)
		} else if n.value != nil {
			i.leave("model %s: %s %d: it must be 1 to %d", m.Name, n.theirs, *n.value, n.most)
		}
	}
	if len(limits.MapSlice) > 0 {
		e.set("limits", limits.MapSlice)
	}
	if t := p.Timeout; t != nil && *t > 0 && *t <= patienceMax {
		e.set("answer_seconds", *t)
	} else if t != nil {
		i.leave("model %s: timeout %v: it must be above 0 and at most %d seconds", m.Name, *t, patienceMax)
	}
	if w := p.Weight; w != nil && *w >= 0 && *w <= catalog.WeightMax {
		e.set("weight", *w)
	} else if w != nil {
		i.leave("model %s: weight %v: it must be a number from 0 to %d", m.Name, *w, catalog.WeightMax)
	}
	return e.MapSlice
}

// everything takes all models of a vendor at once, and what is said of them: limits, which are theirs together here too.
func (i *litellmImport) everything(m *litellmModel, p *importedProvider, sending yaml.MapSlice) {
	if len(i.listed(p)) == 0 {
		i.leave("model %s (%s): all models of %s, which nobody has a list of: name them one by one", m.Name, m.Params.Model, p.name)
		return
	}
	if m.Name != "*" && m.Name != m.Params.Model {
		i.leave("model %s: the name; the models of %s keep their own", m.Name, p.name)
	}
	p.all = true
	for _, item := range sending {
		if limits, ok := item.Value.(yaml.MapSlice); ok {
			p.limits = limits
		} else {
			i.leave("model %s: %v of all models of a provider at once", m.Name, item.Key)
		}
	}
}

// listed are the models that a provider has without naming them.
func (i *litellmImport) listed(p *importedProvider) (names []string) {
	c := providerConfig{Type: (&catalog.Provider{Name: p.vendor}).Protocol()}
	for _, a := range i.known.Arms() {
		if a.ID.Provider() == p.name && !a.Deprecated && a.Prices.Known && c.refuses(&a) == "" {
			names = append(names, a.ID.Model())
		}
	}
	return names
}

// modelList is what stands under `models:` of a provider, nil where it has what the catalog has of it and nothing more is said.
func (i *litellmImport) modelList(p *importedProvider) (models []any) {
	more := !p.all
	listed := i.listed(p)
	for _, m := range p.models {
		name, plain := m.Value.(string)
		more = more || !plain || !slices.Contains(listed, name)
		models = append(models, m.Value)
	}
	if !more {
		return nil
	}
	if p.all {
		i.leave("models of %s to come: beside what is said of some, those that the catalog has today are named one by one", p.name)
		for _, name := range listed {
			if !p.has(name) {
				models = append(models, name)
			}
		}
	}
	return models
}

// prices sets those of the list, else those of the catalog.
func (i *litellmImport) prices(m *litellmModel, e *entry, facts *catalog.Arm) {
	info := &m.Info
	in, out := cmp.Or(info.Price.In, m.Params.Price.In), cmp.Or(info.Price.Out, m.Params.Price.Out)
	embeds := info.Mode == string(catalog.ModeEmbedding)
	if embeds {
		out = nil
	}
	switch {
	case in == nil && out == nil:
		i.catalogPrices(m, e, facts)
	case in == nil || out == nil && !embeds:
		i.leave("model %s: a price of input or output without the other", m.Name)
	case *in == 0 && (embeds || *out == 0):
		e.set("free", true)
	default:
		for _, p := range [...]struct {
			key string
			usd *float64
		}{
			{"input_usd_per_mtok", in}, {"output_usd_per_mtok", out}, {"cache_read_usd_per_mtok", cmp.Or(info.Price.CacheRead, m.Params.Price.CacheRead)},
			{"cache_write_usd_per_mtok", cmp.Or(info.Price.CacheWrite, m.Params.Price.CacheWrite)},
		} {
			if p.usd == nil {
				continue
			}
			price, err := catalog.PerMillion(*p.usd * 1e6)
			if err != nil || price == 0 {
				i.leave("model %s: %s of %v USD a token", m.Name, p.key, *p.usd)
				continue
			}
			e.set(p.key, yamlNumber(catalog.PerMTok(price).String()))
		}
	}
}

// facts are what the catalog says of a deployment that is not the vendor's own: LiteLLM prices it by the name of the model. It
// is nil where the provider's name brings them anyhow, and where nobody knows the model.
func (i *litellmImport) facts(m *litellmModel, theirs, provider, name string) *catalog.Arm {
	if _, known := i.known.Lookup(catalog.ArmID(provider + "/" + name)); known {
		return nil
	}
	names := []string{catalog.ForeignProvider(theirs) + "/" + name}
	if vendor, base, ok := strings.Cut(m.Info.BaseModel, "/"); ok {
		names = []string{catalog.ForeignProvider(vendor) + "/" + base, "openai/" + base}
	} else if m.Info.BaseModel != "" {
		names = []string{catalog.ForeignProvider(theirs) + "/" + m.Info.BaseModel, "openai/" + m.Info.BaseModel}
	}
	for _, id := range names {
		if a, known := i.known.Lookup(catalog.ArmID(id)); known {
			return a
		}
	}
	return nil
}

// catalogPrices sets prices that stand in for those that the list leaves to LiteLLM, and says so.
func (i *litellmImport) catalogPrices(m *litellmModel, e *entry, facts *catalog.Arm) {
	p := &facts.Prices
	switch {
	case !p.Known:
		return
	case p.Steps[0].Above > 0:
		i.leave("model %s: its price, which for %s has steps", m.Name, facts.ID)
		return
	}
	i.leave("model %s: it has no price of its own, and that of %s in the catalog stands in for it", m.Name, facts.ID)
	for _, price := range [...]struct {
		key  string
		kind catalog.Kinds
		usd  catalog.Picodollars
	}{
		{"input_usd_per_mtok", catalog.KindInput, p.Input}, {"output_usd_per_mtok", catalog.KindOutput, p.Output},
		{"cache_read_usd_per_mtok", catalog.KindCacheRead, p.CacheRead}, {"cache_write_usd_per_mtok", catalog.KindCacheWrite, p.CacheWrite},
	} {
		if price.usd > 0 && p.Guessed&price.kind == 0 {
			e.set(price.key, yamlNumber(catalog.PerMTok(price.usd).String()))
		}
	}
	if facts.AsOf != "" {
		e.set("as_of", facts.AsOf)
	}
}

// yamlNumber is a number that is written as it stands.
type yamlNumber string

// MarshalYAML writes the digits.
func (n yamlNumber) MarshalYAML() ([]byte, error) { return []byte(n), nil }

// vertex says why a deployment on Vertex AI cannot be carried over, "" where it can or is none. For others it forgets what
// only Vertex AI reads.
func (i *litellmImport) vertex(m *litellmModel, theirs, name string) string {
	place := &m.Params.Vertex
	if catalog.ForeignProvider(theirs) != "google-vertex" {
		*place = vertexPlace{}
		return ""
	}
	if name != "*" && !google.OnVertex(name) {
		return "it is another publisher's: on Vertex AI only Google's Gemini models are spoken to"
	}
	if strings.HasPrefix(strings.TrimSpace(place.Credentials), "{") {
		place.Credentials = ""
		i.leave("model %s: vertex_credentials, which hold the key itself: write it to a file and name that under credentials_file", m.Name)
	}
	if place.Location == "" {
		i.leave("model %s: a location of its own, which it does not name: without GOOGLE_VERTEX_LOCATION or location nothing is called", m.Name)
	}
	return ""
}

// bedrockWay is vertex for Amazon Bedrock: LiteLLM writes the way to a model, such as converse/, before its name.
func bedrockWay(m *litellmModel, theirs string, name *string) string {
	if catalog.ForeignProvider(theirs) != "amazon-bedrock" {
		m.Params.AWS = awsPlace{}
		return ""
	}
	*name = strings.TrimPrefix(*name, "converse/")
	if way, _, ok := strings.Cut(*name, "/"); ok && !strings.HasPrefix(*name, "arn:") {
		return way + "/ is no way to it here: on Bedrock the Converse API alone is spoken, in the provider's region"
	}
	return ""
}

// providerList are the providers with their models. drop is whether they may be asked without a parameter, nil where nobody says.
func (i *litellmImport) providerList(drop *bool) (list []yaml.MapSlice) {
	for _, p := range i.providers {
		if !p.all && len(p.models) == 0 {
			continue
		}
		item := entry{yaml.MapSlice{{Key: "name", Value: p.name}}}
		for _, said := range [...]struct{ key, value string }{
			{"type", p.kind}, {"base_url", p.base}, {"api_key", p.key},
			{"project", p.vertex.Project}, {"location", p.vertex.Location}, {"credentials_file", p.vertex.Credentials}, {"region", p.aws.Region},
			{"access_key_id", p.aws.AccessKey}, {"secret_access_key", p.aws.SecretKey}, {"session_token", p.aws.SessionToken},
		} {
			if said.value != "" {
				item.set(said.key, said.value)
			}
		}
		if drop != nil {
			item.set("drop_params", *drop)
		}
		if len(p.limits) > 0 {
			item.set("limits", p.limits)
		}
		if models := i.modelList(p); models != nil {
			item.set("models", models)
		}
		list = append(list, item.MapSlice)
	}
	return list
}

// aliases are the names of the list that are no model's own, and those of the router.
func (i *litellmImport) aliases(in *litellmConfig) (aliases yaml.MapSlice) {
	for _, name := range i.names {
		arms := i.arms[name]
		if len(arms) == 1 && arms[0] == name {
			continue
		}
		aliases = append(aliases, yaml.MapItem{Key: name, Value: arms})
	}
	for _, alias := range sortedKeys(in.Router.Aliases) {
		target := in.Router.Aliases[alias].Model
		if in.Router.Aliases[alias].Hidden {
			i.leave("alias %s: hidden; GET /v1/models shows it", alias)
		}
		switch {
		case i.arms[target] == nil:
			i.leave("alias %s: %s is not in the model_list, or was left out", alias, target)
		case i.arms[alias] != nil:
			i.leave("alias %s: it is a name of the model_list as well", alias)
		default:
			aliases = append(aliases, yaml.MapItem{Key: alias, Value: i.arms[target]})
		}
	}
	return aliases
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// fallback takes both kinds of fallbacks: Tradewind itself tries only larger windows once one was too small.
func (i *litellmImport) fallback(in *litellmConfig) {
	for _, list := range [][]map[string][]string{in.Router.Fallbacks, in.Settings.Fallbacks, in.Router.WindowFallback, in.Settings.WindowFallback} {
		for _, group := range list {
			for _, name := range sortedKeys(group) {
				if i.arms[name] == nil {
					i.leave("fallbacks of %s: it is not in the model_list, or was left out", name)
					continue
				}
				for _, to := range group[name] {
					if i.direct[name] || i.direct[to] {
						i.leave("fallback %s of %s: only models for chat stand in for one another", to, name)
					} else if i.arms[to] == nil {
						i.leave("fallback %s of %s: it is not in the model_list, or was left out", to, name)
					} else if !slices.Contains(i.fallbacks[name], to) {
						i.fallbacks[name] = append(i.fallbacks[name], to)
					}
				}
			}
		}
	}
}

func (i *litellmImport) routing(in *litellmConfig) (routing yaml.MapSlice) {
	switch s := in.Router.Strategy; s {
	case "":
	case "latency-based-routing":
		routing = append(routing, yaml.MapItem{Key: "strategy", Value: "latency"})
	case "cost-based-routing":
		routing = append(routing, yaml.MapItem{Key: "strategy", Value: "cost"})
	default:
		routing = append(routing, yaml.MapItem{Key: "strategy", Value: "availability"})
		i.leave("router_settings.routing_strategy %s: availability stands in for it", s)
	}
	if a, b := in.Router.Retries, in.Settings.Retries; a != nil && b != nil && *a != *b {
		i.leave("litellm_settings.num_retries %d: router_settings has another, which holds", *b)
	}
	if a, b := in.Router.Timeout, in.Settings.Timeout; a != nil && b != nil && *a != *b {
		i.leave("litellm_settings.request_timeout %v: router_settings has another, which holds", *b)
	}
	if n := cmp.Or(in.Router.Retries, in.Settings.Retries); n != nil {
		attempts := min(max(*n, 0)+1, 3)
		routing = append(routing, yaml.MapItem{Key: "attempts", Value: attempts})
		if attempts != *n+1 {
			i.leave("num_retries %d: at most 3 attempts are made, all models together", *n)
		}
	}
	if t := cmp.Or(in.Router.Timeout, in.Settings.Timeout); t != nil {
		seconds := min(*t, 3600)
		if seconds > 0 {
			routing = append(routing, yaml.MapItem{Key: "timeout_seconds", Value: seconds})
		}
		if seconds != *t || seconds <= 0 {
			i.leave("timeout %v: it must be above 0 and at most 3600 seconds", *t)
		}
	}
	return routing
}

// importedOrg owns the budget of a whole configuration.
const importedOrg = "imported"

// keys makes the master key a key of an organization that has the budget. LiteLLM keeps its other keys in its database.
func (i *litellmImport) keys(in *litellmConfig) (doc yaml.MapSlice) {
	master := in.General.MasterKey
	if short := !strings.HasPrefix(master, "os.environ/") && len(master) < 16; short {
		if master != "" {
			i.leave("general_settings.master_key: it is shorter than 16 characters; make one that nobody guesses")
		}
		if in.Settings.MaxBudget != nil {
			i.leave("litellm_settings.max_budget: a budget needs a key, and there is no master_key that will do")
		}
		return nil
	}
	budget := i.budget(in)
	key := yaml.MapSlice{{Key: "name", Value: "master"}, {Key: "key", Value: master}}
	if budget != nil {
		key = append(key, yaml.MapItem{Key: "org", Value: importedOrg})
		doc = append(doc, yaml.MapItem{Key: "orgs", Value: []any{yaml.MapSlice{{Key: "name", Value: importedOrg}, {Key: "budget_usd", Value: budget}}}})
	}
	return append(doc, yaml.MapItem{Key: "keys", Value: []any{key}})
}

func (i *litellmImport) budget(in *litellmConfig) yaml.MapSlice {
	s := &in.Settings
	if s.MaxBudget == nil {
		return nil
	}
	window := map[string]string{"": "total", "1d": "day", "24h": "day", "7d": "week", "30d": "month", "1mo": "month"}[s.BudgetDuration]
	if window == "" {
		i.leave("litellm_settings.max_budget: a budget is for a day, a week, a month or in total, not for %s", s.BudgetDuration)
		return nil
	}
	if s.BudgetDuration != "" {
		i.leave("litellm_settings.budget_duration %s: the %s of the calendar stands in for it", s.BudgetDuration, window)
	}
	return yaml.MapSlice{{Key: window, Value: yamlNumber(fmt.Sprint(*s.MaxBudget))}}
}
