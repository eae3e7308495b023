package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// paramsConfig is what becomes of the parameters of a request that a model does not take.
type paramsConfig struct {
	Drop        *bool    `yaml:"drop_params" doc:"Ask it without a parameter that it does not take, where the answer stays of the same form (temperature, top_p, seed, penalties, logit_bias, parallel_tool_calls, verbosity, service_tier, user and the like). Otherwise, and for any other parameter, it does not serve the request. A model's word counts before its provider's."`
	Unsupported []string `yaml:"unsupported_params" doc:"Parameters that it does not take, such as temperature; of a provider, those that none of its models takes. Where the protocol itself has no place for one, that is known."`
}

// always are fields that every request has.
var always = []string{"model", "messages", "input"}

func (p *paramsConfig) validate(where string) error {
	if len(p.Unsupported) > openai.ListMax {
		return fmt.Errorf("config: %s: unsupported_params has %d names, want at most %d", where, len(p.Unsupported), openai.ListMax)
	}
	for _, name := range p.Unsupported {
		if name == "" || strings.Contains(name, ",") || slices.Contains(always, name) || openai.IsRouting(name) {
			return fmt.Errorf("config: %s: unsupported_params has %q, which is no parameter that a request may do without", where, name)
		}
	}
	return nil
}

// declare writes into arms of the provider what they take; m is the model that they are, nil where the catalog lists them.
func (p *providerConfig) declare(arms []catalog.Arm, m *modelConfig) {
	drop, refuses := p.Params.Drop, slices.Clone(p.Params.Unsupported)
	if m != nil {
		drop, refuses = cmp.Or(m.Params.Drop, drop), append(refuses, m.Params.Unsupported...)
	}
	slices.Sort(refuses)
	names := strings.Join(slices.Compact(refuses), ",")
	for i := range arms {
		arms[i].Refuses, arms[i].DropParams = names, drop != nil && *drop
	}
}

// droppers says which models are asked without what they do not take.
func (x *examination) droppers(f *fleet) {
	var all []string
	for i := range f.arms {
		if f.arms[i].DropParams {
			all = append(all, string(f.arms[i].ID))
		}
	}
	if len(all) > 0 {
		x.add("config", levelOK, "", "asked without the parameters that they do not take: %s", some(all))
	}
}
