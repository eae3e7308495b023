package main

import (
	"cmp"
	"fmt"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// limitsConfig is what a model or a provider may be sent.
type limitsConfig struct {
	RPM int `yaml:"rpm" nonzero:"" doc:"The most requests a minute, failed attempts included."`
	TPM int `yaml:"tpm" nonzero:"" doc:"The most tokens a minute, of prompts and answers together. A prompt counts when it is sent, its answer when it has come."`
}

// limitMax bounds a limit: more than anybody serves in a minute.
const limitMax = 1_000_000_000

func (l *limitsConfig) validate(where string) error {
	for _, limit := range [...]struct {
		name string
		n    int
	}{{"rpm", l.RPM}, {"tpm", l.TPM}} {
		if limit.n < 0 || limit.n > limitMax {
			return fmt.Errorf("config: %s: limits.%s is %d, want 1 to %d", where, limit.name, limit.n, limitMax)
		}
	}
	return nil
}

// limit keeps an arm within the limits that are configured under a name. What is reached with another effort is the same model.
func (f *fleet) limit(arm catalog.ArmID, name string, l *limitsConfig) {
	if *l != (limitsConfig{}) {
		f.limits[arm] = append(f.limits[arm], upstream.Limit{Name: name, Requests: l.RPM, Tokens: l.TPM})
	}
}

// validate checks what is said of a model of a provider.
func (m *modelConfig) validate(provider string) error {
	where := "provider " + provider + ": model " + m.Name
	if m.Priority < 0 || m.Priority > catalog.PriorityMax {
		return fmt.Errorf("config: %s: priority is %d, want 1 to %d", where, m.Priority, catalog.PriorityMax)
	}
	if !(m.Weight >= 0 && m.Weight <= catalog.WeightMax) {
		return fmt.Errorf("config: %s: weight is %v, want a number from 0 to %d", where, m.Weight, catalog.WeightMax)
	}
	return cmp.Or(m.Limits.validate(where), m.Patience.validate(where), m.Params.validate(where))
}
