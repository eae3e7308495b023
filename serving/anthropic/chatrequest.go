package anthropic

import (
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file says chat requests in Messages, for clients of chat at Anthropic's arms.

// ignored are chat's fields that say nothing to a model: how the answer arrives, where it is kept, how caches find it.
var ignored = []string{"stream_options", "store", "metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "usage"}

// FromChat says a chat request in Messages. The error is an *openai.Error that names the first field that cannot be said.
// A request without a cap on its answer gets capDefault, because Messages must have one.
func FromChat(body []byte, capDefault int) ([]byte, error) { return fromChat(body, capDefault, false) }

// Sayable is the error of a chat request that no model can be told in Messages, nil where at least one can.
func Sayable(body []byte) error {
	_, err := fromChat(body, openai.OutputMax, true)
	return err
}

func fromChat(body []byte, capDefault int, anyModel bool) ([]byte, error) {
	fields, err := openai.ParseFields(body, openai.DecodeOptions{})
	if err != nil {
		return nil, err
	}
	e := &encoder{out: append(make([]byte, 0, len(body)+256), '{'), limit: capDefault, model: string(fields.Get("model")), anyModel: anyModel}
	for _, name := range [...]string{"max_tokens", "max_completion_tokens"} {
		if n := fields.Get(name); n != nil {
			if e.limit, err = n.Integer(name, 1, openai.OutputMax); err != nil {
				return nil, err
			}
		}
	}
	for _, f := range fields {
		if fields.Get(f.Name) == nil || openai.IsRouting(f.Name) {
			continue
		}
		if err := e.field(f.Name, f.Value, fields); err != nil {
			return nil, err
		}
	}
	if len(e.outputConfig) > 0 {
		e.out = append(append(append(e.out, `"output_config":{`...), e.outputConfig[:len(e.outputConfig)-1]...), '}', ',')
	}
	e.out = append(strconv.AppendInt(append(e.out, `"max_tokens":`...), int64(e.limit), 10), '}')
	return e.out, nil
}

// unsayable is the refusal of what Messages has no place for.
func unsayable(param, why string) error {
	return openai.BadParam(param, "cannot be said to Anthropic's models: %s", why)
}

// encoder says a chat request in Messages.
type encoder struct {
	out          []byte
	limit        int
	model        string
	outputConfig []byte
	// anyModel says that it is enough if one model can be told, whichever the request names.
	anyModel bool
}

func (e *encoder) member(name string, value []byte) {
	e.out = append(append(append(openai.AppendText(e.out, name), ':'), value...), ',')
}

func (e *encoder) field(name string, v openai.Value, all openai.Fields) error {
	switch name {
	case "model", "stream", "top_p", "top_k":
		e.member(name, v)
	case "temperature":
		if n, err := strconv.ParseFloat(string(v), 64); err != nil || n > 1 {
			return unsayable(name, "it ends at 1")
		}
		e.member(name, v)
	case "max_tokens", "max_completion_tokens": // read before
	case "messages":
		return e.messages(v)
	case "stop":
		if v.IsText() {
			v = append(append(openai.Value{'['}, v...), ']')
		}
		e.member("stop_sequences", v)
	case "tools":
		return e.tools(v)
	case "tool_choice":
		return e.toolChoice(v, all.Get("parallel_tool_calls"))
	case "parallel_tool_calls":
		if string(v) == "false" && all.Get("tool_choice") == nil && !all.Get("tools").Empty() {
			e.out = append(e.out, `"tool_choice":{"type":"auto","disable_parallel_tool_use":true},`...)
		}
	case "reasoning_effort":
		return e.effort(name, v, "")
	case "reasoning":
		return e.reasoning(v)
	case "response_format":
		return e.format(v)
	case "user":
		e.out = append(append(append(e.out, `"metadata":{"user_id":`...), v...), `},`...)
	case "service_tier":
		switch string(v) {
		case `"auto"`:
		case `"default"`:
			e.out = append(e.out, `"service_tier":"standard_only",`...)
		default:
			return unsayable(name, "they have no such tier")
		}
	case "n":
		if string(v) != "1" {
			return unsayable(name, "they give one answer")
		}
	case "modalities":
		if string(v) != `["text"]` {
			return unsayable(name, "they answer in text")
		}
	default:
		if !contains(ignored, name) && (!v.Empty() || openai.SaysByItself(name)) {
			return unsayable(name, "Messages has no such field")
		}
	}
	return nil
}

// effort asks for thinking. Older models want a budget in tokens, newer ones an effort. display is a member that says
// how much of it is shown.
func (e *encoder) effort(param string, v openai.Value, display string) error {
	effort, err := v.Text(param)
	if err != nil {
		return err
	}
	budget := 0
	switch effort {
	case "none":
		return nil
	case "minimal", "low":
		effort, budget = "low", budgetLow
	case "medium":
		budget = budgetMedium
	case "high", "xhigh":
		effort, budget = "high", budgetHigh
	default:
		return unsayable(param, "they know low, medium and high")
	}
	if !budgeted(e.model) {
		e.out = append(append(append(e.out, `"thinking":{"type":"adaptive"`...), display...), '}', ',')
		e.outputConfig = append(append(append(e.outputConfig, `"effort":"`...), effort...), '"', ',')
		return nil
	}
	return e.budget(param, max(min(budget, e.limit/2), budgetLeast), display)
}

// budgetLeast is the least budget that the API takes. It must be less than max_tokens.
const budgetLeast = 1024

// budget asks for thinking of so many tokens.
func (e *encoder) budget(param string, n int, display string) error {
	switch {
	case e.anyModel: // only some are asked by it
		return nil
	case !budgeted(e.model):
		return unsayable(param, "it thinks by effort, not by tokens")
	case n < budgetLeast || n >= e.limit:
		return unsayable(param, "thinking takes at least "+strconv.Itoa(budgetLeast)+" tokens and less than max_tokens, which is "+strconv.Itoa(e.limit))
	}
	e.out = strconv.AppendInt(append(e.out, `"thinking":{"type":"enabled","budget_tokens":`...), int64(n), 10)
	e.out = append(append(e.out, display...), '}', ',')
	return nil
}

// budgeted reports whether a model is one of those before efforts. All that came after the last of them have efforts.
func budgeted(model string) bool {
	model = strings.Trim(model, `"`)
	for _, old := range [...]string{
		"claude-3", "claude-opus-4-2", "claude-opus-4-0", "claude-opus-4-1", "claude-opus-4-5", "claude-sonnet-4-2", "claude-sonnet-4-0",
		"claude-sonnet-4-5", "claude-haiku-4-5",
	} {
		if strings.HasPrefix(model, old) {
			return true
		}
	}
	return false
}

// reasoning reads the object form of the effort.
func (e *encoder) reasoning(v openai.Value) error {
	fields, err := v.Fields("reasoning")
	if err != nil {
		return err
	}
	display := ""
	for _, f := range fields {
		switch param := "reasoning." + f.Name; {
		case fields.Get(f.Name) == nil, f.Name == "effort", f.Name == "enabled", f.Name == "max_tokens":
		case f.Name == "exclude":
			hidden, err := f.Value.Bool(param)
			if err != nil {
				return err
			}
			if hidden {
				display = `,"display":"omitted"`
			}
		case !f.Value.Empty():
			return unsayable(param, "Messages has no such field")
		}
	}
	effort, tokens := fields.Get("effort"), fields.Get("max_tokens")
	switch enabled := string(fields.Get("enabled")); {
	case enabled == "false":
		return nil
	case tokens != nil:
		n, err := tokens.Integer("reasoning.max_tokens", 1, openai.OutputMax)
		if err != nil {
			return err
		}
		return e.budget("reasoning.max_tokens", n, display)
	case effort != nil:
		return e.effort("reasoning.effort", effort, display)
	}
	return e.effort("reasoning", openai.Value(`"medium"`), display)
}

func (e *encoder) format(v openai.Value) error {
	fields, err := v.Fields("response_format")
	if err != nil {
		return err
	}
	switch string(fields.Get("type")) {
	case `"text"`:
		return nil
	case `"json_schema"`:
		inner, err := fields.Get("json_schema").Fields("response_format.json_schema")
		if err != nil {
			return err
		}
		if schema := inner.Get("schema"); schema.IsObject() {
			e.outputConfig = append(append(append(e.outputConfig, `"format":{"type":"json_schema","schema":`...), schema...), '}', ',')
			return nil
		}
	}
	return unsayable("response_format", "they keep to a schema or to none")
}

func (e *encoder) tools(v openai.Value) error {
	if v.Empty() {
		return nil
	}
	e.out = append(e.out, `"tools":[`...)
	err := v.Elements("tools", func(i int, v openai.Value) error {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		return e.tool(openai.Path("tools", i, ""), v)
	})
	e.out = append(e.out, `],`...)
	return err
}

func (e *encoder) tool(param string, v openai.Value) error {
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	if string(fields.Get("type")) != `"function"` {
		return unsayable(param+".type", "only functions are tools of every vendor")
	}
	f, err := fields.Get("function").Fields(param + ".function")
	if err != nil {
		return err
	}
	if _, err := f.Get("name").Text(param + ".function.name"); err != nil {
		return err
	}
	schema := f.Get("parameters")
	if schema.Empty() {
		schema = openai.Value(`{"type":"object","properties":{}}`)
	}
	e.out = append(append(e.out, `{"name":`...), f.Get("name")...)
	e.out = append(append(e.out, `,"input_schema":`...), schema...)
	for _, m := range f {
		switch {
		case f.Get(m.Name) == nil, m.Name == "name", m.Name == "parameters":
		case m.Name == "description", m.Name == "strict":
			e.out = append(append(append(append(e.out, ',', '"'), m.Name...), `":`...), m.Value...)
		case !m.Value.Empty():
			return unsayable(param+".function."+m.Name, "Messages has no such field")
		}
	}
	if mark := fields.Get("cache_control"); mark != nil {
		e.out = append(append(e.out, `,"cache_control":`...), mark...)
	}
	e.out = append(e.out, '}')
	return nil
}

func (e *encoder) toolChoice(v, parallel openai.Value) error {
	kind := ""
	switch {
	case string(v) == `"auto"`, string(v) == `"none"`:
		kind = string(v)
	case string(v) == `"required"`:
		kind = `"any"`
	case v.IsObject():
		fields, err := v.Fields("tool_choice")
		if err != nil {
			return err
		}
		f, err := fields.Get("function").Fields("tool_choice.function")
		if err != nil {
			return err
		}
		if _, err := f.Get("name").Text("tool_choice.function.name"); err != nil {
			return err
		}
		kind = `"tool","name":` + string(f.Get("name"))
	default:
		return unsayable("tool_choice", "it must be none, auto, required or a function")
	}
	e.out = append(append(e.out, `"tool_choice":{"type":`...), kind...)
	if string(parallel) == "false" && kind != `"none"` {
		e.out = append(e.out, `,"disable_parallel_tool_use":true`...)
	}
	e.out = append(e.out, `},`...)
	return nil
}
