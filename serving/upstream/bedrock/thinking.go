package bedrock

import (
	"strconv"
	"strings"
)

// This file asks for thinking. Converse has no field for it: each maker's models have one of their own.

// Budgets in tokens that stand for an effort, for models that want one.
const (
	budgetLow    = 1024
	budgetMedium = 8192
	budgetHigh   = 24576
)

func (e *encoder) thinking() error {
	want := &e.r.Reasoning
	if want.Effort == "" && want.Budget == 0 || e.model == "" {
		return nil
	}
	effort := want.Effort
	if effort == "minimal" {
		effort = "low"
	}
	switch {
	case strings.Contains(e.model, "anthropic.claude"):
		return e.claude(effort)
	case strings.Contains(e.model, "amazon.nova-2") && want.Budget == 0:
		if effort != "none" {
			e.open(`"additionalModelRequestFields":{"reasoningConfig":{"type":"enabled","maxReasoningEffort":"`, effort, `"}},`)
		}
		return nil
	case strings.Contains(e.model, "openai.gpt") && want.Budget == 0 && effort != "none":
		e.open(`"additionalModelRequestFields":{"reasoning_effort":"`, effort, `"},`)
		return nil
	}
	return e.r.Unable(want.Param, "Converse has no field by which this model would know")
}

// claude asks Anthropic's models: older ones by a budget, newer ones by an effort.
func (e *encoder) claude(effort string) error {
	want := &e.r.Reasoning
	if effort == "none" {
		return nil
	}
	if !budgeted(e.model) {
		if want.Budget > 0 {
			return e.r.Unable(want.Param, "it thinks by effort, not by tokens")
		}
		e.open(`"additionalModelRequestFields":{"thinking":{"type":"adaptive"},"output_config":{"effort":"`, effort, `"}},`)
		return nil
	}
	const least = 1024 // what the models take, which must be less than the cap on the answer
	limit := e.r.MaxTokens
	if limit > 0 && limit <= least {
		return e.r.Unable(want.Param, "with max_tokens of "+strconv.Itoa(limit)+" there is no room for thinking, which takes more than 1024")
	}
	budget := want.Budget
	if budget == 0 {
		budget = map[string]int{"low": budgetLow, "medium": budgetMedium, "high": budgetHigh}[effort]
		if limit > 0 {
			budget = max(min(budget, limit/2), least)
		}
	}
	e.open(`"additionalModelRequestFields":{"thinking":{"type":"enabled","budget_tokens":`, strconv.Itoa(budget), `}},`)
	return nil
}

// budgeted reports whether one of Anthropic's models is of those before efforts. All that came after have efforts.
func budgeted(model string) bool {
	for _, old := range [...]string{"claude-3", "claude-opus-4-2", "claude-opus-4-1", "claude-opus-4-5", "claude-sonnet-4-2", "claude-sonnet-4-5", "claude-haiku-4-5"} {
		if strings.Contains(model, "anthropic."+old) {
			return true
		}
	}
	return false
}
