// Package anthropic is the wire of Anthropic's Messages API, beside that of OpenAI's chat API and in its terms.
//
// It says requests and answers of the one dialect in the other, both ways, for clients of either at vendors of either.
// Nothing of a request is dropped: what the other dialect cannot say is named, and whoever serves the request asks only
// those who can be told all of it. Left out are marks that say nothing to a model and change no answer but what it costs
// or how it arrives: cache_control where chat has no place for it, eager_input_streaming, and context_management, which only
// shortens; and, of chat's earlier answers, reasoning that Anthropic has not signed and would refuse. It holds no state, makes no
// choice and calls nobody; a body for a vendor of the same dialect is the client's own.
package anthropic

import (
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Version is the anthropic-version that is asked for where the client names none.
const Version = "2023-06-01"

// topFields are the fields of a request that are read here.
var topFields = []string{
	"model", "messages", "max_tokens", "system", "stream", "temperature", "top_p", "top_k", "stop_sequences", "tools", "tool_choice",
	"thinking", "output_config", "metadata", "service_tier", "container", "mcp_servers", "cache_control", "context_management",
	"inference_geo", "speed", "diagnostics", "thread",
}

// Decode reads a Messages request. Every failure is an *openai.Error.
func Decode(body []byte, o openai.DecodeOptions) (*openai.Spoken, error) {
	return decode(body, o, true)
}

// DecodeCount reads the body of a token count, which is a request without max_tokens.
func DecodeCount(body []byte, o openai.DecodeOptions) (*openai.Spoken, error) {
	return decode(body, o, false)
}

func decode(body []byte, o openai.DecodeOptions, capped bool) (*openai.Spoken, error) {
	fields, err := openai.ParseFields(body, o)
	if err != nil {
		return nil, err
	}
	d := &decoder{Spoken: &openai.Spoken{Dialect: openai.Messages, Fields: fields, CapField: "max_tokens", Known: topFields}, out: append(make([]byte, 0, len(body)+len(body)/4+256), '{')}
	if err := d.top(fields); err != nil {
		return nil, err
	}
	for _, name := range []string{"model", "messages", "max_tokens"} {
		if fields.Get(name) == nil && (capped || name != "max_tokens") {
			return nil, openai.Missing(name, fields.Unread(topFields))
		}
	}
	d.out[len(d.out)-1] = '}'
	d.Chat = d.out
	return d.Spoken, nil
}

// decoder says a Messages request in chat.
type decoder struct {
	*openai.Spoken
	out []byte
	// effort is what thinking and output_config come to.
	effort, budget string
	thinkingOff    bool
}

// member appends a member whose value is JSON already.
func (d *decoder) member(name string, value []byte) {
	d.out = append(append(append(openai.AppendText(d.out, name), ':'), value...), ',')
}

func (d *decoder) text(name, value string) {
	d.out = append(openai.AppendText(append(openai.AppendText(d.out, name), ':'), value), ',')
}

func (d *decoder) top(fields openai.Fields) error {
	for _, f := range fields {
		if err := openai.CheckName(f.Name, topFields); err != nil {
			return err
		}
		if openai.IsRouting(f.Name) {
			d.member(f.Name, f.Value)
			continue
		}
		if err := d.field(f.Name, f.Value, fields); err != nil {
			return err
		}
	}
	effort := d.effort
	switch {
	case d.thinkingOff && effort != "":
		d.OnlyNative("output_config.effort")
	case effort == "":
		effort = d.budget
	}
	if effort != "" && !d.thinkingOff {
		d.text("reasoning_effort", effort)
	}
	return nil
}

// field says one field of the body. What is null is absent.
func (d *decoder) field(name string, v openai.Value, all openai.Fields) (err error) {
	if all.Get(name) == nil && name != "model" && name != "messages" {
		return nil
	}
	switch name {
	case "model", "stream", "temperature", "top_p":
		d.member(name, v)
	case "max_tokens":
		if _, err = v.Integer(name, 1, openai.OutputMax); err == nil {
			d.member(name, v)
		}
	case "messages":
		err = d.conversation(all.Get("system"), v)
	case "system": // it stands before the messages
	case "stop_sequences":
		if err = d.texts(name, v); err == nil && !v.Empty() {
			d.member("stop", v)
		}
	case "tools":
		err = d.tools(v)
	case "tool_choice":
		err = d.toolChoice(v)
	case "thinking":
		err = d.thinking(v)
	case "output_config":
		err = d.outputConfig(v)
	case "metadata":
		err = d.metadata(v)
	case "service_tier":
		err = d.serviceTier(v)
	case "cache_control", "context_management": // they say nothing to a model
	case "inference_geo", "speed":
		err = d.plainPrice(name, v)
	case "container", "mcp_servers":
		if !v.Empty() {
			err = openai.BadParam(name, "runs tools at the provider, whose tokens nothing here could bound; it is not supported")
		}
	case "thread":
		refusal := openai.BadParam(name, "would keep the conversation at one provider, out of the router's sight; send all of it without thread")
		refusal.Reason = threadRefused
		err = refusal
	default:
		if d.OnlyNative(name); !openai.Dispensable(name) {
			d.member("anthropic."+name, v) // so that its length counts
		}
	}
	return err
}

func (d *decoder) texts(param string, v openai.Value) error {
	return v.Elements(param, func(i int, v openai.Value) error {
		_, err := v.Text(openai.Path(param, i, ""))
		return err
	})
}

// plainPrice refuses what multiplies the price by a factor that the catalog does not know.
func (d *decoder) plainPrice(name string, v openai.Value) error {
	text, err := v.Text(name)
	if err == nil && text != "global" && text != "standard" {
		err = openai.BadParam(name, "can only be left at its default: nothing here knows the price of %.64q", text)
	}
	return err
}

func (d *decoder) metadata(v openai.Value) error {
	fields, err := v.Fields("metadata")
	if err != nil {
		return err
	}
	for _, f := range fields {
		if fields.Get(f.Name) == nil {
			continue
		}
		if f.Name == "tags" && openai.Tagged(v) != nil {
			d.out = openai.AppendTags(d.out, v)
			continue
		}
		if f.Name != "user_id" {
			d.OnlyNative("metadata." + f.Name)
			continue
		}
		user, err := f.Value.Text("metadata.user_id")
		if err != nil {
			return err
		}
		if len(user) > openai.UserMax {
			return openai.BadParam("metadata.user_id", "must be at most %d bytes long", openai.UserMax)
		}
		d.text("user", user)
	}
	return nil
}

func (d *decoder) serviceTier(v openai.Value) error {
	tier, err := v.Text("service_tier")
	switch {
	case err != nil:
		return err
	case tier == "standard_only":
		d.text("service_tier", "default")
	case tier == "auto":
	default:
		d.OnlyNative("service_tier")
	}
	return nil
}

// Budgets of thinking, in tokens, that the three efforts of chat stand for.
const (
	budgetLow    = 2048
	budgetMedium = 8192
	budgetHigh   = 24576
)

func (d *decoder) thinking(v openai.Value) error {
	fields, err := v.Fields("thinking")
	if err != nil {
		return err
	}
	kind, err := fields.Get("type").Text("thinking.type")
	if err != nil {
		return err
	}
	switch kind {
	case "disabled":
		d.thinkingOff = true
	case "adaptive": // the model decides, as it does where chat says nothing
	case "enabled":
		n, err := fields.Get("budget_tokens").Integer("thinking.budget_tokens", 1, openai.OutputMax)
		if err != nil {
			return err
		}
		switch {
		case n <= 2*budgetLow:
			d.budget = "low"
		case n <= 2*budgetMedium:
			d.budget = "medium"
		default:
			d.budget = "high"
		}
	default:
		d.OnlyNative("thinking.type")
	}
	for _, f := range fields {
		if f.Name != "type" && f.Name != "budget_tokens" && f.Name != "display" && !f.Value.Empty() {
			d.OnlyNative("thinking." + f.Name)
		}
	}
	return nil
}

func (d *decoder) outputConfig(v openai.Value) error {
	fields, err := v.Fields("output_config")
	if err != nil {
		return err
	}
	for _, f := range fields {
		switch {
		case fields.Get(f.Name) == nil:
		case f.Name == "effort":
			if d.effort, err = f.Value.Text("output_config.effort"); err != nil {
				return err
			}
			switch d.effort {
			case "low", "medium", "high":
			case "xhigh", "max": // the most that chat can ask of every vendor
				d.effort = "high"
			default:
				d.OnlyNative("output_config.effort")
			}
		case f.Name == "format":
			if err := d.format(f.Value); err != nil {
				return err
			}
		default:
			d.OnlyNative("output_config." + f.Name)
		}
	}
	return nil
}

func (d *decoder) format(v openai.Value) error {
	fields, err := v.Fields("output_config.format")
	if err != nil {
		return err
	}
	kind, err := fields.Get("type").Text("output_config.format.type")
	if err != nil {
		return err
	}
	schema := fields.Get("schema")
	if kind != "json_schema" || !schema.IsObject() {
		d.OnlyNative("output_config.format")
		return nil
	}
	d.out = append(d.out, `"response_format":{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":`...)
	d.out = append(append(d.out, schema...), `}},`...)
	return nil
}

// atProvider are tools that the provider runs by itself, and bills by more than a bound on tokens bounds.
func atProvider(kind string) bool {
	for _, own := range [...]string{"bash_", "text_editor_", "computer_", "memory_"} { // these the client runs
		if strings.HasPrefix(kind, own) {
			return false
		}
	}
	return true
}

func (d *decoder) tools(v openai.Value) error {
	if v.Empty() && v.IsArray() {
		return nil
	}
	d.out = append(d.out, `"tools":[`...)
	err := v.Elements("tools", func(i int, v openai.Value) error {
		if i > 0 {
			d.out = append(d.out, ',')
		}
		return d.tool(openai.Path("tools", i, ""), v)
	})
	d.out = append(d.out, `],`...)
	return err
}

func (d *decoder) tool(param string, v openai.Value) error {
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	if kind := fields.Get("type"); kind != nil {
		name, err := kind.Text(param + ".type")
		if err != nil {
			return err
		}
		if name != "custom" {
			if atProvider(name) {
				return openai.BadParam(param+".type", "is %.64q, which runs at the provider and costs what nothing here could bound; it is not supported", name)
			}
			d.OnlyNative(param + ".type")
			d.out = append(d.out, v...)
			return nil
		}
	}
	if _, err := fields.Get("name").Text(param + ".name"); err != nil {
		return err
	}
	schema := fields.Get("input_schema")
	if !schema.IsObject() {
		return openai.BadParam(param+".input_schema", "must be an object")
	}
	d.out = append(append(d.out, `{"type":"function","function":{"name":`...), fields.Get("name")...)
	for _, f := range fields {
		switch {
		case fields.Get(f.Name) == nil, f.Name == "type", f.Name == "name", f.Name == "cache_control", f.Name == "eager_input_streaming":
		case f.Name == "description", f.Name == "strict":
			d.out = append(append(append(append(d.out, ',', '"'), f.Name...), `":`...), f.Value...)
		case f.Name == "input_schema":
			d.out = append(append(d.out, `,"parameters":`...), schema...)
		case f.Value.Empty():
		default:
			d.OnlyNative(param + "." + f.Name)
		}
	}
	d.out = append(d.AppendMark(append(d.out, '}'), fields.Get("cache_control")), '}')
	return nil
}

func (d *decoder) toolChoice(v openai.Value) error {
	fields, err := v.Fields("tool_choice")
	if err != nil {
		return err
	}
	kind, err := fields.Get("type").Text("tool_choice.type")
	if err != nil {
		return err
	}
	switch kind {
	case "auto", "none":
		d.text("tool_choice", kind)
	case "any":
		d.text("tool_choice", "required")
	case "tool":
		if _, err := fields.Get("name").Text("tool_choice.name"); err != nil {
			return err
		}
		d.out = append(append(append(d.out, `"tool_choice":{"type":"function","function":{"name":`...), fields.Get("name")...), `}},`...)
	default:
		d.OnlyNative("tool_choice.type")
	}
	if off := fields.Get("disable_parallel_tool_use"); off != nil {
		yes, err := off.Bool("tool_choice.disable_parallel_tool_use")
		if err != nil {
			return err
		}
		if yes {
			d.member("parallel_tool_calls", []byte("false"))
		}
	}
	return nil
}
