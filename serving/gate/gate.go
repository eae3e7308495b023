// Package gate checks an answer before it is served: the pure checks of datasets/reward, regular expressions, an HTTP
// webhook, a command. All of them are what the operator has configured; a request may name one and can never bring one.
//
// A gate gives a verdict and nothing else. Whether a rejected answer is served, refused or asked for again at another arm
// is a Plan's to say and package serving's to do. A gate that crashes, takes too long or answers with something that is no
// verdict has the verdict "error": it holds nobody up past its deadline, and its answer never counts as checked.
package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
)

// Limits of gates.
const (
	// GatesMax is the number of gates that may be configured and that one request may pass.
	GatesMax = 64
	// TimeoutDefault and TimeoutMax are how long a webhook or a command may take.
	TimeoutDefault = 5 * time.Second
	TimeoutMax     = time.Minute
	// patternMax bounds a regular expression in bytes. RE2's time is its size times the text's.
	patternMax = 4096
	// reasonMax bounds what is logged of a reason.
	reasonMax = 200
)

// Config is one gate as the operator writes it: a name, and exactly one of the others.
type Config struct {
	Name string `yaml:"name" json:"name"`
	// Check is one of the program's own: not_empty, not_truncated, not_refused, tool_call (every call fits the schema that
	// the request declares), response_format (the answer fits the request's own), json.
	Check string `yaml:"check" json:"check,omitempty" enum:"not_empty,not_truncated,not_refused,tool_call,response_format,json" doc:"One of the program's own checks."`
	// Schema is a JSON Schema that the whole answer must fit.
	Schema any `yaml:"schema" json:"schema,omitempty" doc:"A JSON Schema that the whole answer must fit."`
	// Require is a regular expression that must match the answer's text, Reject one that must not.
	Require string         `yaml:"require" json:"require,omitempty" doc:"A regular expression that must match the answer."`
	Reject  string         `yaml:"reject" json:"reject,omitempty" doc:"A regular expression that must not match the answer."`
	Webhook *WebhookConfig `yaml:"webhook" json:"webhook,omitempty" doc:"An address that judges answers."`
	Command *CommandConfig `yaml:"command" json:"command,omitempty" doc:"A program on this machine that judges answers."`
}

// check is a reason against an answer, or none; an error is no verdict.
type check func(ctx context.Context, s *Subject) (why string, err error)

// gate is a Config made ready.
type gate struct {
	name string
	// rank orders gates by what they cost: what is computed here comes before what is asked of others.
	rank  int
	check check
}

// checks are the program's own, by their names.
var checks = map[string]check{
	"not_empty":     each(func(_ *Subject, a *reward.Answer) (string, error) { return a.Empty(), nil }),
	"not_truncated": each(func(_ *Subject, a *reward.Answer) (string, error) { return a.Truncated(), nil }),
	"not_refused":   each(func(_ *Subject, a *reward.Answer) (string, error) { return a.Refused(), nil }),
	"tool_call": each(func(s *Subject, a *reward.Answer) (string, error) {
		tools, err := s.tools()
		if err != nil {
			return "", err
		}
		return tools.Check(a)
	}),
	"response_format": each(func(s *Subject, a *reward.Answer) (string, error) {
		schema, err := s.schema()
		if err != nil || schema == nil || len(a.Calls) > 0 { // a call of a tool has its own schema
			return "", err
		}
		return schema.Check(a.Text)
	}),
}

// each makes a check of all choices of one choice's: the client gets every one of them.
func each(one func(*Subject, *reward.Answer) (string, error)) check {
	return func(_ context.Context, s *Subject) (string, error) {
		for i := range s.Answers {
			if why, err := one(s, &s.Answers[i]); why != "" || err != nil {
				return why, err
			}
		}
		return "", nil
	}
}

// newGate checks a gate's configuration and makes it ready.
func newGate(c *Config) (*gate, error) {
	if c.Name == "" || len(c.Name) > 64 || strings.ContainsAny(c.Name, ", \t\r\n") {
		return nil, fmt.Errorf("gate: the name %q must have 1 to 64 bytes and no comma or space", c.Name)
	}
	g := &gate{name: c.Name}
	kinds := 0
	for _, k := range []struct {
		set  bool
		rank int
		make func() (check, error)
	}{
		{c.Check != "", 0, func() (check, error) { return ownCheck(c.Check) }},
		{c.Schema != nil, 1, func() (check, error) { return schemaCheck(c.Schema) }},
		{c.Require != "", 1, func() (check, error) { return patternCheck(c.Require, true) }},
		{c.Reject != "", 1, func() (check, error) { return patternCheck(c.Reject, false) }},
		{c.Webhook != nil, 2, func() (check, error) { return newWebhook(c.Name, c.Webhook) }},
		{c.Command != nil, 2, func() (check, error) { return newCommand(c.Name, c.Command) }},
	} {
		if !k.set {
			continue
		}
		kinds++
		var err error
		if g.check, err = k.make(); err != nil {
			return nil, fmt.Errorf("gate: %s: %w", c.Name, err)
		}
		g.rank = k.rank
	}
	if kinds != 1 {
		return nil, fmt.Errorf("gate: %s has %d of check, schema, require, reject, webhook and command, want one", c.Name, kinds)
	}
	return g, nil
}

func ownCheck(name string) (check, error) {
	if name == "json" {
		return schemaCheck(true)
	}
	if c := checks[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("check %q is none of not_empty, not_truncated, not_refused, tool_call, response_format, json", name)
}

func patternCheck(pattern string, wanted bool) (check, error) {
	if len(pattern) > patternMax {
		return nil, fmt.Errorf("a pattern of %d bytes is longer than %d", len(pattern), patternMax)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return each(func(_ *Subject, a *reward.Answer) (string, error) {
		switch {
		case len(a.Text) > reward.AnswerBytesMax:
			return "", errTooLarge
		case re.MatchString(a.Text) == wanted:
			return "", nil
		case wanted:
			return "the pattern does not match", nil
		}
		return "the pattern matches", nil
	}), nil
}

var errTooLarge = errors.New("the answer is larger than what is checked")

// judge asks one gate. It contains whatever the gate does.
func (g *gate) judge(ctx context.Context, s *Subject) (v datasets.GateVerdict) {
	begun := time.Now()
	defer func() {
		if p := recover(); p != nil {
			v = datasets.GateVerdict{Gate: g.name, Verdict: datasets.Unjudged, Reason: "the gate crashed"}
		}
		v.TotalMS = float64(time.Since(begun)) / float64(time.Millisecond)
	}()
	v = datasets.GateVerdict{Gate: g.name, Verdict: datasets.Passed}
	why, err := "", s.Err
	if err == nil {
		why, err = g.check(ctx, s)
	}
	switch {
	case err != nil:
		v.Verdict, v.Reason = datasets.Unjudged, clip(err.Error())
	case why != "":
		v.Verdict, v.Reason = datasets.Rejected, clip(why)
	}
	return v
}

// clip keeps a reason short and printable.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s)
	if len(s) > reasonMax {
		s = strings.ToValidUTF8(s[:reasonMax], "")
	}
	return strings.TrimSpace(s)
}

// Judge asks the plan's gates about an answer, the cheapest first, until one speaks against it. It reports whether the
// answer passes, which under OnError "open" it does past a gate that could not tell.
func (p *Plan) Judge(ctx context.Context, s *Subject) (passed bool, verdicts []datasets.GateVerdict) {
	for _, g := range p.gates {
		v := g.judge(ctx, s)
		verdicts = append(verdicts, v)
		if v.Verdict == datasets.Rejected || v.Verdict == datasets.Unjudged && !p.open {
			return false, verdicts
		}
	}
	return true, verdicts
}

// byRank orders gates for a plan; the operator's order stays where the cost is alike.
func byRank(gates []*gate) {
	slices.SortStableFunc(gates, func(a, b *gate) int { return cmp.Compare(a.rank, b.rank) })
}
