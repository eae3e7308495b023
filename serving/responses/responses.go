// Package responses is the wire of OpenAI's Responses API, in terms of that of its chat API.
//
// It says requests in chat and answers in chat in Responses, for clients of Responses at vendors that know only chat; at
// a vendor that speaks Responses both are passed on as they are. Nothing of a request is dropped: what chat cannot say is
// named, and only vendors that speak the dialect are asked. Left out are wishes about how an answer is shown or kept that
// change nothing of what a model says: summaries of reasoning, encrypted reasoning, stream options, metadata; and the phase of an
// earlier message, which one maker's models read. It holds no state, makes no choice and calls nobody.
package responses

import (
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// topFields are the fields of a request that are read here.
var topFields = []string{
	"model", "input", "instructions", "stream", "max_output_tokens", "temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls",
	"reasoning", "text", "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier", "store",
	"previous_response_id", "conversation", "background", "include", "truncation", "top_logprobs", "max_tool_calls", "prompt", "stream_options",
	"client_metadata",
}

// Decode reads a Responses request. Every failure is an *openai.Error.
func Decode(body []byte, o openai.DecodeOptions) (*openai.Spoken, error) {
	fields, err := openai.ParseFields(body, o)
	if err != nil {
		return nil, err
	}
	d := &decoder{
		Spoken: &openai.Spoken{Dialect: openai.Responses, Fields: fields, CapField: "max_output_tokens", Known: topFields},
		out:    append(make([]byte, 0, len(body)+len(body)/4+256), '{'),
	}
	for _, name := range [...]string{"model", "input"} {
		if fields.Get(name) == nil && (name != "input" || fields.Get("prompt") == nil) {
			return nil, openai.Missing(name, fields.Unread(topFields))
		}
	}
	for _, f := range fields {
		if err := openai.CheckName(f.Name, topFields); err != nil {
			return nil, err
		}
		switch {
		case openai.IsRouting(f.Name):
			d.member(f.Name, f.Value)
		case fields.Get(f.Name) != nil:
			if err := d.field(f.Name, f.Value); err != nil {
				return nil, err
			}
		}
	}
	if err := d.conversation(fields.Get("instructions"), fields.Get("input")); err != nil {
		return nil, err
	}
	d.out[len(d.out)-1] = '}'
	d.Chat = d.out
	return d.Spoken, nil
}

// decoder says a Responses request in chat.
type decoder struct {
	*openai.Spoken
	out []byte
}

// member appends a member whose value is JSON already.
func (d *decoder) member(name string, value []byte) {
	d.out = append(append(append(openai.AppendText(d.out, name), ':'), value...), ',')
}

// native keeps a field that chat cannot say, so that its length counts.
func (d *decoder) native(name string, v openai.Value) {
	if d.OnlyNative(name); !openai.Dispensable(name) {
		d.member("responses."+name, v)
	}
}

func (d *decoder) field(name string, v openai.Value) (err error) {
	switch name {
	case "model", "stream", "temperature", "top_p", "user", "prompt_cache_key", "service_tier":
		d.member(name, v)
	case "parallel_tool_calls":
		if d.tooled() {
			d.member(name, v)
		}
	case "max_output_tokens":
		if _, err = v.Integer(name, 1, openai.OutputMax); err == nil {
			d.member("max_tokens", v)
		}
	case "input", "instructions": // the conversation, read at the end
	case "tools":
		err = d.tools(v)
	case "tool_choice":
		err = d.toolChoice(v)
	case "reasoning":
		err = d.reasoning(v)
	case "text":
		err = d.text(v)
	case "include":
		err = d.include(v)
	case "metadata":
		d.out = openai.AppendTags(d.out, v)
	case "safety_identifier", "prompt_cache_retention", "stream_options", "max_tool_calls", "client_metadata":
	case "truncation":
		if string(v) != `"disabled"` {
			d.OnlyNative(name)
		}
	case "store", "background":
		var on bool
		if on, err = v.Bool(name); on {
			d.OnlyNative(name)
			d.Nowhere = d.Nowhere || name == "background" // an answer that comes later is one that nobody here could bill
		}
	case "previous_response_id", "conversation", "prompt":
		if id, _ := v.Text(name); strings.HasPrefix(id, ownResponse) {
			return openai.BadParam(name, "is %.64q, which nobody keeps; send the whole conversation as input", id)
		}
		d.Stateful = true
		d.native(name, v)
	default:
		if !v.Empty() {
			d.native(name, v)
		}
	}
	return err
}

func (d *decoder) include(v openai.Value) error {
	return v.Elements("include", func(i int, v openai.Value) error {
		if string(v) != `"reasoning.encrypted_content"` {
			d.OnlyNative(openai.Path("include", i, ""))
		}
		return nil
	})
}

func (d *decoder) reasoning(v openai.Value) error {
	fields, err := v.Fields("reasoning")
	if err != nil {
		return err
	}
	for _, f := range fields {
		switch {
		case fields.Get(f.Name) == nil, f.Name == "summary", f.Name == "generate_summary":
		case f.Name == "effort":
			if _, err := f.Value.Text("reasoning.effort"); err != nil {
				return err
			}
			d.member("reasoning_effort", f.Value)
		case !f.Value.Empty():
			d.OnlyNative("reasoning." + f.Name)
		}
	}
	return nil
}

func (d *decoder) text(v openai.Value) error {
	fields, err := v.Fields("text")
	if err != nil {
		return err
	}
	for _, f := range fields {
		switch {
		case fields.Get(f.Name) == nil:
		case f.Name == "verbosity":
			if string(f.Value) != `"medium"` {
				d.member("verbosity", f.Value)
			}
		case f.Name == "format":
			if err := d.format(f.Value); err != nil {
				return err
			}
		default:
			d.OnlyNative("text." + f.Name)
		}
	}
	return nil
}

func (d *decoder) format(v openai.Value) error {
	fields, err := v.Fields("text.format")
	if err != nil {
		return err
	}
	switch kind := string(fields.Get("type")); kind {
	case `"text"`:
	case `"json_object"`:
		d.member("response_format", []byte(`{"type":"json_object"}`))
	case `"json_schema"`:
		d.out = append(d.out, `"response_format":{"type":"json_schema","json_schema":{`...)
		for _, f := range fields {
			if f.Name != "type" && fields.Get(f.Name) != nil {
				d.member(f.Name, f.Value)
			}
		}
		if d.out[len(d.out)-1] == ',' {
			d.out = d.out[:len(d.out)-1]
		}
		d.out = append(d.out, `}},`...)
	default:
		d.OnlyNative("text.format.type")
	}
	return nil
}

// atClient are the kinds of tools, beside functions, that the client runs. All others run at the provider, which bills
// them by more than a bound on tokens bounds.
func atClient(kind string) bool {
	return kind == "custom" || kind == "local_shell" || kind == "apply_patch" || strings.HasPrefix(kind, "computer")
}

// group reads the tools of a namespace, which clients run if they run all of it.
func (d *decoder) group(param string, v openai.Value) error {
	return v.Elements(param, func(i int, v openai.Value) error {
		at := openai.Path(param, i, "")
		fields, err := v.Fields(at)
		if err != nil {
			return err
		}
		kind, err := fields.Get("type").Text(at + ".type")
		if err == nil && kind != "function" && kind != "custom" {
			err = atProvider(at+".type", kind)
		}
		return err
	})
}

// atProvider is the refusal of a tool that the provider runs.
func atProvider(param, kind string) error {
	return openai.BadParam(param, "is %.64q, which runs at the provider and costs what nothing here could bound; it is not supported", kind)
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
	kind, err := fields.Get("type").Text(param + ".type")
	if err != nil {
		return err
	}
	if kind != "function" {
		switch {
		case kind == "namespace":
			err = d.group(param+".tools", fields.Get("tools"))
		case kind == "tool_search" && string(fields.Get("execution")) == `"client"`:
		case !atClient(kind):
			err = atProvider(param+".type", kind)
		}
		if err != nil {
			return err
		}
		d.OnlyNative(param + ".type")
		d.out = append(d.out, v...)
		return nil
	}
	if _, err := fields.Get("name").Text(param + ".name"); err != nil {
		return err
	}
	d.out = append(d.out, `{"type":"function","function":{`...)
	for _, f := range fields {
		switch {
		case fields.Get(f.Name) == nil, f.Name == "type":
		case f.Name == "name", f.Name == "description", f.Name == "parameters", f.Name == "strict":
			d.member(f.Name, f.Value)
		case !f.Value.Empty():
			d.OnlyNative(param + "." + f.Name)
		}
	}
	d.out = append(d.out[:len(d.out)-1], `}}`...)
	return nil
}

// tooled reports whether the request has tools. Without any, Responses takes what is said about their calls, and vendors of
// chat and of Messages refuse it.
func (d *decoder) tooled() bool { return !d.Fields.Get("tools").Empty() }

func (d *decoder) toolChoice(v openai.Value) error {
	if s := string(v); !d.tooled() && (s == `"auto"` || s == `"none"`) {
		return nil
	}
	if v.IsText() {
		d.member("tool_choice", v)
		return nil
	}
	fields, err := v.Fields("tool_choice")
	if err != nil {
		return err
	}
	name := fields.Get("name")
	if string(fields.Get("type")) != `"function"` || !name.IsText() {
		d.native("tool_choice", v)
		return nil
	}
	d.out = append(append(append(d.out, `"tool_choice":{"type":"function","function":{"name":`...), name...), `}},`...)
	return nil
}
