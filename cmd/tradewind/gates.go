package main

import (
	"fmt"
	"slices"

	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/governance"
)

// gates makes the configured gates ready; nil where there are none.
func (c *config) gates() (*gate.Set, error) {
	if len(c.Gates) == 0 && len(c.GatePolicies) == 0 {
		return nil, nil
	}
	return gate.New(gate.Options{Gates: c.Gates, Policies: c.GatePolicies})
}

// validateGates also finds policies that hang on nobody: what was to be checked would not be.
func (c *config) validateGates() error {
	if _, err := c.gates(); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	for i, p := range c.GatePolicies {
		for _, name := range p.Keys {
			if !slices.ContainsFunc(c.Keys, func(k governance.KeyConfig) bool { return k.Name == name }) {
				return fmt.Errorf("config: gate_policies[%d]: no key has the name %q", i, name)
			}
		}
		for _, team := range p.Teams {
			if !slices.ContainsFunc(c.Keys, func(k governance.KeyConfig) bool { return governance.TeamOwner(k.Org, k.Team) == team }) {
				return fmt.Errorf("config: gate_policies[%d]: no key is of team %q; a team is written org/team", i, team)
			}
		}
		for _, org := range p.Orgs {
			if !slices.ContainsFunc(c.Keys, func(k governance.KeyConfig) bool { return k.Org == org }) {
				return fmt.Errorf("config: gate_policies[%d]: no key is of organization %q", i, org)
			}
		}
	}
	return nil
}
