package gate

import (
	"encoding/json"
	"fmt"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// payloadMax bounds what is sent to a webhook or a command.
const payloadMax = 8 << 20

// Subject is an answer under judgement, with what it answers. It is for one goroutine.
type Subject struct {
	RoundID datasets.RoundID
	Model   catalog.ArmID
	Request *openai.Request
	Answers []reward.Answer
	// Err says that the answer could not be read, so that no gate can tell anything of it.
	Err error

	declared *reward.Tools
	wanted   *reward.Schema
}

// tools are those that the request declares.
func (s *Subject) tools() (_ *reward.Tools, err error) {
	if s.declared == nil {
		tools := s.Request.Raw("tools")
		if tools == nil {
			tools = s.Request.Raw("functions")
		}
		s.declared, err = reward.ParseTools(tools, s.Request.Raw("tool_choice"))
	}
	return s.declared, err
}

// schema is that of the request's response format, one that takes every value where it only asks for JSON, and nil where
// it asks for nothing.
func (s *Subject) schema() (*reward.Schema, error) {
	if s.wanted != nil {
		return s.wanted, nil
	}
	raw, asked, err := reward.ResponseSchema(s.Request.Raw("response_format"))
	if err != nil || !asked {
		return nil, err
	}
	if len(raw) == 0 {
		raw = json.RawMessage(`{"type":"object"}`) // what json_object promises
	}
	s.wanted, err = reward.CompileSchema(raw)
	return s.wanted, err
}

// schemaCheck makes a check of the operator's own schema, as YAML has it.
func schemaCheck(v any) (check, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("the schema is not JSON: %w", err)
	}
	schema, err := reward.CompileSchema(raw)
	if err != nil {
		return nil, err
	}
	return each(func(_ *Subject, a *reward.Answer) (string, error) { return schema.Check(a.Text) }), nil
}

// payload is what a webhook or a command is told: the question as it was sent, and what the model said.
func (s *Subject) payload(gate string) ([]byte, error) {
	type call struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	}
	type answer struct {
		Text    string `json:"text"`
		Refusal string `json:"refusal,omitempty"`
		Finish  string `json:"finish_reason"`
		Calls   []call `json:"tool_calls,omitempty"`
	}
	out := struct {
		Gate    string                     `json:"gate"`
		RoundID datasets.RoundID           `json:"round_id"`
		Model   catalog.ArmID              `json:"model"`
		Request map[string]json.RawMessage `json:"request"`
		Answers []answer                   `json:"answers"`
	}{gate, s.RoundID, s.Model, map[string]json.RawMessage{}, []answer{}}
	size := 0
	for _, name := range []string{"messages", "tools", "functions", "tool_choice", "response_format"} {
		if raw := s.Request.Raw(name); raw != nil {
			out.Request[name] = raw
			size += len(raw)
		}
	}
	for i := range s.Answers {
		a := &s.Answers[i]
		size += len(a.Text)
		to := answer{Text: a.Text, Refusal: a.Refusal, Finish: a.Finish}
		for _, c := range a.Calls {
			to.Calls = append(to.Calls, call(c))
			size += len(c.Arguments)
		}
		out.Answers = append(out.Answers, to)
	}
	if size > payloadMax {
		return nil, errTooLarge
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("the answer cannot be sent: %w", err)
	}
	return b, nil
}
