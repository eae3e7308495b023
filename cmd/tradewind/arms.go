package main

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/openaicompat"
	"github.com/tradewind-llm/tradewind/serving/upstream/simulated"
)

// fleet is what is served: the arms, who speaks for them, and the secrets that must not be logged.
type fleet struct {
	arms      []catalog.Arm
	version   string
	providers map[string]upstream.Provider
	secrets   []telemetry.Secret
	// simulated says that no provider is configured and the arms are made up.
	simulated bool
}

// assemble lists the arms of every provider that has a key in the environment or stands in the configuration. Without
// any it is the simulated arms.
func assemble(c *config, getenv func(string) string) (*fleet, error) {
	known, err := catalog.Default()
	if err != nil {
		return nil, err
	}
	f := &fleet{providers: map[string]upstream.Provider{}, secrets: c.secrets()}
	configured := slices.Clone(c.Providers)
	for _, v := range catalog.Providers() {
		key := firstSet(getenv, v.KeyVars)
		i := slices.IndexFunc(configured, func(p providerConfig) bool { return p.Name == v.Name })
		switch {
		case i < 0 && key != "":
			configured = append(configured, providerConfig{Name: v.Name, BaseURL: v.BaseURL, APIKey: key})
		case i >= 0 && configured[i].BaseURL == "":
			configured[i].BaseURL = v.BaseURL
			fallthrough
		case i >= 0 && configured[i].APIKey == "":
			if configured[i].APIKey == "" {
				configured[i].APIKey = key
			}
		}
	}
	for _, p := range configured {
		if err := f.add(p, known); err != nil {
			return nil, err
		}
	}
	if len(configured) == 0 {
		if err := f.simulate(); err != nil {
			return nil, err
		}
	}
	if len(f.arms) == 0 {
		return nil, fmt.Errorf("no model to serve: name some under `models:` of a provider")
	}
	for _, v := range catalog.Providers() {
		for i := range f.arms {
			if f.arms[i].ID.Provider() == v.Name {
				f.arms[i].OutputCap = v.OutputCap
			}
		}
	}
	all := catalog.New(f.arms)
	f.arms, f.version = all.Arms(), all.Version()
	return f, nil
}

func firstSet(getenv func(string) string, names []string) telemetry.Secret {
	for _, n := range names {
		if v := getenv(n); v != "" {
			return telemetry.Secret(v)
		}
	}
	return ""
}

func (f *fleet) simulate() error {
	p, err := simulated.New(simulated.Options{Seed: 1})
	if err != nil {
		return err
	}
	f.simulated, f.arms, f.providers["sim"] = true, catalog.Simulated(), p
	return nil
}

// add makes one provider and lists its arms: those that are configured, else what the catalog has of that vendor.
func (f *fleet) add(p providerConfig, known *catalog.Catalog) error {
	provider, err := openaicompat.New(openaicompat.Options{
		BaseURL: p.BaseURL, Key: p.APIKey, Header: http.Header{}, AllowPrivate: p.AllowPrivate,
	})
	if err != nil {
		return fmt.Errorf("provider %s: %w", p.Name, err)
	}
	f.providers[p.Name] = provider
	f.secrets = append(f.secrets, p.APIKey)
	for _, m := range p.Models {
		arm, err := m.arm(p.Name, known)
		if err != nil {
			return fmt.Errorf("provider %s: model %s: %w", p.Name, m.Name, err)
		}
		f.arms = append(f.arms, arm)
	}
	if len(p.Models) > 0 {
		return nil
	}
	n := len(f.arms)
	for _, a := range known.Arms() {
		if a.ID.Provider() == p.Name && !a.Deprecated && a.Prices.Known {
			f.arms = append(f.arms, a)
		}
	}
	if len(f.arms) == n {
		return fmt.Errorf("provider %s: the catalog knows no model of it; list some under `models:`", p.Name)
	}
	return nil
}

// arm is the catalog's arm of that name with the overrides of the configuration, or a new one.
func (m *modelConfig) arm(provider string, known *catalog.Catalog) (catalog.Arm, error) {
	id := catalog.ArmID(provider + "/" + m.Name)
	if err := id.Validate(); err != nil {
		return catalog.Arm{}, err
	}
	a := catalog.Arm{ID: id}
	if found, ok := known.Lookup(id); ok {
		a = *found
	}
	if m.Tier != "" {
		a.Tier = m.Tier
	}
	if m.ContextTokens > 0 {
		a.ContextTokens = m.ContextTokens
	}
	if m.MaxOutputTokens > 0 {
		a.MaxOutputTokens = m.MaxOutputTokens
	}
	for _, s := range m.Supports {
		c := catalog.ParseCapability(s)
		if c == 0 {
			return a, fmt.Errorf("supports %q is none of tools, json_schema, vision, audio_input, pdf, reasoning", s)
		}
		a.Capabilities |= c
	}
	if err := m.price(&a.Prices); err != nil {
		return a, err
	}
	if a.Tier == "" && a.Prices.Known {
		a.Tier = catalog.DefaultTier(&a.Prices)
	}
	return a, nil
}

// price overrides the catalog's prices. A price of zero must be meant.
func (m *modelConfig) price(p *catalog.Prices) error {
	if m.Free {
		*p = catalog.Prices{Known: true}
		return nil
	}
	if m.InputUSD == nil && m.OutputUSD == nil {
		return nil
	}
	if m.InputUSD == nil || m.OutputUSD == nil || *m.InputUSD == 0 && *m.OutputUSD == 0 {
		return fmt.Errorf("a price needs input_usd_per_mtok and output_usd_per_mtok above zero; say `free: true` for a model that costs nothing")
	}
	input, err := catalog.PerMillion(*m.InputUSD)
	if err != nil {
		return err
	}
	output, err := catalog.PerMillion(*m.OutputUSD)
	if err != nil {
		return err
	}
	read := input // an unknown cache price is the full one, never less
	if m.CacheReadUSD != nil {
		if read, err = catalog.PerMillion(*m.CacheReadUSD); err != nil {
			return err
		}
	}
	*p = catalog.Prices{Known: true, Input: input, Output: output, CacheRead: read, CacheWrite: input}
	return nil
}
