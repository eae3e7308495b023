package main

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/telemetry/otlp"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/keyring"
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
	// catalog is all that is known, with the configuration laid over it; priced is when a price that is served changes next.
	catalog *catalog.Catalog
	priced  time.Time
	// skipped is what the configured file of facts has no place for.
	skipped []catalog.Skipped
	// patience is that for the arms which have their own.
	patience map[catalog.ArmID]upstream.Patience
	// limits are those of the arms that have some: their models', and their providers'.
	limits map[catalog.ArmID][]upstream.Limit
	// made remembers of what each provider was made.
	made map[string][]vendorOptions
}

// assemble lists the arms of every provider that has a key in the environment or stands in the configuration, at the
// prices of the day. Without any it is the simulated arms. A provider that an earlier fleet has made of the same
// options keeps its connections.
func assemble(c *config, getenv func(string) string, now time.Time, before *fleet) (*fleet, error) {
	known, err := catalog.Default()
	if err != nil {
		return nil, err
	}
	f := &fleet{
		providers: map[string]upstream.Provider{}, secrets: append(c.secrets(), otlp.Secrets(getenv)...), made: map[string][]vendorOptions{},
		patience: map[catalog.ArmID]upstream.Patience{}, limits: map[catalog.ArmID][]upstream.Limit{},
	}
	if known, f.skipped, err = c.catalog(known); err != nil {
		return nil, err
	}
	f.catalog = known.On(now)
	configured := withVendors(c.Providers, getenv)
	var unknown []string
	for i := range configured {
		if i >= len(c.Providers) && !f.knows(configured[i].Name) {
			unknown = append(unknown, configured[i].Name)
			continue // a key alone says nothing of models that the catalog does not know either
		}
		if err := f.add(&configured[i], before); err != nil {
			return nil, err
		}
	}
	if len(configured) == 0 {
		if err := f.simulate(before); err != nil {
			return nil, err
		}
	}
	if len(f.arms) == 0 {
		return nil, fmt.Errorf("no model to serve: the catalog has none of %s; name some under `models:` of a provider", strings.Join(unknown, ", "))
	}
	for _, v := range catalog.Providers() {
		for i := range f.arms {
			if f.arms[i].ID.Provider() == v.Name {
				f.arms[i].OutputCap = v.OutputCap
			}
		}
	}
	f.declare(configured)
	f.priced = f.catalog.NextChange(now, f.arms)
	all := catalog.New(f.arms)
	f.arms, f.version = all.Arms(), all.Version()
	return f, nil
}

// setUp takes for the arms that a configured model is how they are to be asked.
func (f *fleet) setUp(m *modelConfig, arms []catalog.Arm) {
	own := m.Patience.patience()
	for i := range arms {
		a := &arms[i]
		a.Priority, a.Weight = m.Priority, m.Weight
		f.limit(a.ID, a.ID.Provider()+"/"+m.Name, &m.Limits)
		if own != (upstream.Patience{}) {
			f.patience[a.ID] = own
		}
	}
}

// declare writes into every arm what its provider promises of what it is sent, and what may be sent there.
func (f *fleet) declare(configured []providerConfig) {
	for i := range f.arms {
		a := &f.arms[i]
		p := slices.IndexFunc(configured, func(p providerConfig) bool { return p.Name == a.ID.Provider() })
		switch {
		case p < 0: // simulated
		case configured[p].ZDR:
			a.Data = catalog.ZeroRetention
		case configured[p].DataCollection == "deny":
			a.Data = catalog.NoCollection
		}
		if p >= 0 {
			f.limit(a.ID, configured[p].Name, &configured[p].Limits)
		}
	}
}

// hosts are where the providers are reached.
func (f *fleet) hosts() map[string]string {
	all := map[string]string{}
	for name, options := range f.made {
		if u, err := url.Parse(options[0].baseURL); err == nil && u.Hostname() != "" {
			all[name] = u.Hostname()
		}
	}
	return all
}

// withVendors adds the vendors whose key is in the environment, and what the catalog knows of those that are configured.
func withVendors(configured []providerConfig, getenv func(string) string) []providerConfig {
	all := slices.Clone(configured)
	for i := range all {
		all[i].firstKey()
	}
	for _, v := range catalog.Providers() {
		keys := keysOf(getenv, v.KeyVars)
		i := slices.IndexFunc(all, func(p providerConfig) bool { return p.Name == v.Name })
		if i < 0 {
			p := providerConfig{Name: v.Name, Type: v.Protocol(), BaseURL: v.BaseURL, APIKeys: keys}
			p.firstKey()
			if p.fromEnvironment(getenv) {
				all = append(all, p)
			}
			continue
		}
		if all[i].BaseURL == "" {
			all[i].BaseURL = cmp.Or(ollama(v.Name, getenv), v.BaseURL)
		}
		if all[i].Type == "" {
			all[i].Type = v.Protocol()
		}
		if all[i].APIKey == "" {
			all[i].APIKeys = keys
			all[i].firstKey()
		}
		all[i].fromEnvironment(getenv)
	}
	for i := range all {
		if p := &all[i]; p.Type == catalog.ProtocolAzure {
			if u, err := url.Parse(p.BaseURL); err == nil && strings.Trim(u.Path, "/") == "" { // as Azure's pages show it
				p.BaseURL = azureBase(strings.TrimSuffix(p.BaseURL, "/"), p.APIVersion)
			}
		}
	}
	return all
}

// knows reports whether the catalog has an arm of a provider that can be served.
func (f *fleet) knows(provider string) bool {
	return slices.ContainsFunc(f.catalog.Arms(), func(a catalog.Arm) bool { return a.ID.Provider() == provider && !a.Deprecated && a.Prices.Known })
}

// catalog lays the configuration's file of facts, and then its models, over what is known.
func (c *config) catalog(known *catalog.Catalog) (_ *catalog.Catalog, skipped []catalog.Skipped, err error) {
	if c.Catalog != "" {
		if known, skipped, err = overFile(known, c.Catalog); err != nil {
			return nil, nil, fmt.Errorf("catalog: %w", err)
		}
	}
	var entries []*catalog.Entry
	for _, p := range c.Providers {
		for i := range p.Models {
			e, err := p.Models[i].entry(p.Name, known)
			if err != nil {
				return nil, nil, fmt.Errorf("provider %s: model %s: %w", p.Name, p.Models[i].Name, err)
			}
			entries = append(entries, e)
		}
	}
	over, err := catalog.FromEntries(entries)
	if err != nil {
		return nil, nil, fmt.Errorf("providers: %w", err)
	}
	return known.Over(over), skipped, nil
}

// keysOf are the keys in the environment: the first of the names that is set, and those whose names go on with _2, _3 and
// so on. One that is taken out leaves a gap, and those after it count all the same.
func keysOf(getenv func(string) string, names []string) (keys []telemetry.Secret) {
	for _, name := range names {
		first := getenv(name)
		if first == "" {
			continue
		}
		keys = append(keys, telemetry.Secret(first))
		for i := 2; i <= keyring.KeysMax; i++ {
			if key := telemetry.Secret(getenv(fmt.Sprintf("%s_%d", name, i))); key != "" && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
		break
	}
	return keys
}

func (f *fleet) simulate(before *fleet) error {
	f.simulated, f.arms = true, catalog.Simulated()
	if before != nil && before.simulated {
		f.providers = before.providers
		return nil
	}
	p, err := simulated.New(simulated.Options{Seed: 1})
	f.providers["sim"] = p
	return err
}

// add makes one provider and lists its arms: those that are configured, else what the catalog has of that vendor.
func (f *fleet) add(p *providerConfig, before *fleet) error {
	o := p.options()
	account, err := p.account()
	if err != nil {
		return fmt.Errorf("provider %s: %w", p.Name, err)
	}
	for i := range o {
		o[i].account = account
	}
	f.secrets = slices.Concat(f.secrets, []telemetry.Secret{p.APIKey, p.SecretAccessKey, p.SessionToken}, p.APIKeys, account.Secrets())
	f.made[p.Name] = o
	if before != nil && before.providers[p.Name] != nil && slices.Equal(before.made[p.Name], o) {
		f.providers[p.Name] = before.providers[p.Name]
	} else {
		ring, err := ringOf(o)
		if err != nil {
			return fmt.Errorf("provider %s: %w", p.Name, err)
		}
		f.providers[p.Name] = ring
	}
	for _, m := range p.Models {
		if arm, ok := f.catalog.Lookup(catalog.ArmID(p.Name + "/" + m.Name)); ok { // c.catalog put it there
			if why := p.refuses(arm); why != "" {
				return fmt.Errorf("provider %s: model %s %s", p.Name, m.Name, why)
			}
			arms, err := m.withEfforts(arm)
			if err != nil {
				return fmt.Errorf("provider %s: %w", p.Name, err)
			}
			p.declare(arms, &m)
			f.setUp(&m, arms)
			f.arms = append(f.arms, arms...)
		}
	}
	if len(p.Models) > 0 {
		return nil
	}
	n := len(f.arms)
	for _, a := range f.catalog.Arms() {
		if a.ID.Provider() == p.Name && !a.Deprecated && a.Prices.Known && p.refuses(&a) == "" {
			f.arms = append(f.arms, a)
		}
	}
	p.declare(f.arms[n:], nil)
	if len(f.arms) == n {
		return fmt.Errorf("provider %s: the catalog knows no model of it; list some under `models:`", p.Name)
	}
	return nil
}
