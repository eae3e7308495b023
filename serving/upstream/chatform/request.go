// Package chatform takes chat requests apart for vendors of another dialect, and says their answers in chat.
//
// It holds what such vendors have in common, and not what any of them can be told: a field that Parse knows and a vendor
// does not is for that vendor's package to refuse, by the field's name. What Parse does not know it refuses itself, so
// that nothing is ever dropped. Only what says nothing to a model (metadata, where an answer is kept, marks of other
// vendors' caches) may be passed over.
package chatform

import (
	"net/http"
	"slices"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// Request is a chat request taken apart. Its values lie in the body that it was parsed from.
type Request struct {
	System     []Part
	Turns      []Turn
	Tools      []Tool
	ToolChoice ToolChoice
	// NoParallel says that the client wants one call at a time. Where a vendor cannot be told, its answer is cut to the first.
	NoParallel bool
	// MaxTokens is the cap on the answer's tokens, 0 where there is none.
	MaxTokens int
	N         int
	Stop      []openai.Value
	Reasoning Reasoning
	Format    Format
	// Settings are the numbers that steer sampling, under chat's names: temperature, top_p, top_k, seed,
	// presence_penalty, frequency_penalty.
	Settings openai.Fields

	to    string
	names map[string]openai.Value
}

// Reasoning is how much thinking the client asks for.
type Reasoning struct {
	// Effort is none, minimal, low, medium or high; empty where nothing was asked.
	Effort string
	// Budget is a number of tokens, 0 where none was given.
	Budget int
	// Hidden says that the thoughts are not wanted in the answer.
	Hidden bool
	// Param is the field that asked.
	Param string
}

// Format is the form that an answer must have.
type Format struct {
	// JSON says that the answer is JSON; Schema is what it must keep to, nil where only JSON is asked for.
	JSON              bool
	Schema            openai.Value
	Name, Description openai.Value
}

// Tool is a function that may be called.
type Tool struct {
	Name, Description, Schema openai.Value
	Strict                    bool
	Mark                      Mark
	Param                     string
}

// ToolChoice says whether a tool must be called.
type ToolChoice struct {
	// Mode is empty, auto, none, required, or function, with the Name of the one that must be called.
	Mode string
	Name openai.Value
}

// settings are the fields that Parse hands on as they are.
var settings = []string{"temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty"}

// ignored are chat's fields that say nothing to a model: how the answer arrives, where it is kept, who asks, how caches
// find it.
var ignored = []string{
	"model", "stream", "stream_options", "store", "metadata", "user", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "usage",
}

// Parse takes a chat request apart. to names the vendor in errors, as in "cannot be said to Gemini". Every error is an
// *openai.Error that names the first field that cannot be said.
func Parse(body []byte, to string) (*Request, error) {
	fields, err := openai.ParseFields(body, openai.DecodeOptions{BodyMax: max(len(body), 1)})
	if err != nil {
		return nil, err
	}
	r := &Request{N: 1, to: to, names: map[string]openai.Value{}}
	for _, f := range fields {
		if fields.Get(f.Name) == nil || openai.IsRouting(f.Name) {
			continue
		}
		if err := r.field(f.Name, f.Value); err != nil {
			return nil, err
		}
	}
	if len(r.Turns) == 0 {
		return nil, r.Unsayable("messages", "somebody must speak beside the system")
	}
	return r, nil
}

// Unsayable is the refusal of what the vendor cannot be told.
func (r *Request) Unsayable(param, why string) error {
	return openai.BadParam(param, "cannot be said to %s: %s", r.to, why)
}

// Unable is the refusal of what one model of the vendor cannot be told, and another may.
func (r *Request) Unable(param, why string) error {
	return &upstream.Error{Class: upstream.Unsayable, Status: http.StatusBadRequest, Message: openai.AsError(r.Unsayable(param, why)).Message, Param: param}
}

func (r *Request) field(name string, v openai.Value) (err error) {
	switch name {
	case "messages":
		return r.messages(v)
	case "max_tokens", "max_completion_tokens":
		var n int
		n, err = v.Integer(name, 1, openai.OutputMax)
		r.MaxTokens = max(r.MaxTokens, n)
	case "n":
		r.N, err = v.Integer(name, 1, openai.AnswersMax)
	case "stop":
		err = r.stop(v)
	case "tools":
		err = r.tools(v)
	case "tool_choice":
		err = r.toolChoice(v)
	case "parallel_tool_calls":
		var parallel bool
		parallel, err = v.Bool(name)
		r.NoParallel = !parallel
	case "reasoning_effort":
		err = r.effort(name, v)
	case "reasoning":
		err = r.reasoning(v)
	case "response_format":
		err = r.format(v)
	case "service_tier":
		if string(v) != `"auto"` && string(v) != `"default"` {
			err = r.Unsayable(name, "it has no such tier")
		}
	case "modalities":
		if string(v) != `["text"]` {
			err = r.Unsayable(name, "it answers in text")
		}
	default:
		switch {
		case slices.Contains(settings, name):
			r.Settings = append(r.Settings, openai.Field{Name: name, Value: v})
		case !slices.Contains(ignored, name) && (!v.Empty() || openai.SaysByItself(name)):
			err = r.Unsayable(name, "it has no such field")
		}
	}
	return err
}

func (r *Request) stop(v openai.Value) error {
	if v.IsText() {
		r.Stop = append(r.Stop, v)
		return nil
	}
	return v.Elements("stop", func(i int, v openai.Value) error {
		r.Stop = append(r.Stop, v)
		return isText(v, openai.Path("stop", i, ""))
	})
}

func (r *Request) effort(param string, v openai.Value) error {
	effort, err := v.Text(param)
	if err != nil {
		return err
	}
	switch effort {
	case "none", "minimal", "low", "medium", "high":
	case "xhigh":
		effort = "high"
	default:
		return r.Unsayable(param, "it must be none, minimal, low, medium or high")
	}
	r.Reasoning.Effort, r.Reasoning.Param = effort, param
	return nil
}

// reasoning reads the object form of the effort.
func (r *Request) reasoning(v openai.Value) error {
	fields, err := v.Fields("reasoning")
	if err != nil {
		return err
	}
	want := &r.Reasoning
	for _, f := range fields {
		param := "reasoning." + f.Name
		switch {
		case fields.Get(f.Name) == nil:
		case f.Name == "effort":
			err = r.effort(param, f.Value)
		case f.Name == "max_tokens":
			want.Budget, err = f.Value.Integer(param, 1, openai.OutputMax)
			want.Param = param
		case f.Name == "exclude":
			want.Hidden, err = f.Value.Bool(param)
		case f.Name == "enabled":
			_, err = f.Value.Bool(param)
		case !f.Value.Empty():
			err = r.Unsayable(param, "it has no such field")
		}
		if err != nil {
			return err
		}
	}
	switch enabled := string(fields.Get("enabled")); {
	case enabled == "false":
		*want = Reasoning{Effort: "none", Param: "reasoning.enabled"}
	case want.Effort == "" && want.Budget == 0 && (enabled == "true" || len(fields) == 0):
		want.Effort, want.Param = "medium", "reasoning"
	}
	return nil
}

func (r *Request) format(v openai.Value) error {
	fields, err := v.Fields("response_format")
	if err != nil {
		return err
	}
	switch string(fields.Get("type")) {
	case `"text"`:
		return nil
	case `"json_object"`:
		r.Format.JSON = true
		return nil
	case `"json_schema"`:
		inner, err := fields.Get("json_schema").Fields("response_format.json_schema")
		if err != nil {
			return err
		}
		r.Format = Format{JSON: true, Schema: inner.Get("schema"), Name: inner.Get("name"), Description: inner.Get("description")}
		if r.Format.Schema != nil && !r.Format.Schema.IsObject() {
			return openai.BadParam("response_format.json_schema.schema", "must be an object")
		}
		return r.only("response_format.json_schema", inner, "name", "description", "schema", "strict")
	}
	return r.Unsayable("response_format.type", "it must be text, json_object or json_schema")
}

// only refuses every field that says something and is none of the known.
func (r *Request) only(param string, fields openai.Fields, known ...string) error {
	for _, f := range fields {
		if !slices.Contains(known, f.Name) && !f.Value.Empty() {
			return r.Unsayable(param+"."+f.Name, "it has no such field")
		}
	}
	return nil
}

func (r *Request) tools(v openai.Value) error {
	return v.Elements("tools", func(i int, v openai.Value) error {
		param := openai.Path("tools", i, "")
		fields, err := v.Fields(param)
		if err != nil {
			return err
		}
		if string(fields.Get("type")) != `"function"` {
			return r.Unsayable(param+".type", "only functions are tools of every vendor")
		}
		f, err := fields.Get("function").Fields(param + ".function")
		if err != nil {
			return err
		}
		t := Tool{Name: f.Get("name"), Description: f.Get("description"), Schema: f.Get("parameters"), Param: param}
		for _, text := range []openai.Field{{Name: "name", Value: t.Name}, {Name: "description", Value: t.Description}} {
			if err := isText(text.Value, param+".function."+text.Name); err != nil && (text.Value != nil || text.Name == "name") {
				return err
			}
		}
		if t.Schema != nil && !t.Schema.IsObject() {
			return openai.BadParam(param+".function.parameters", "must be an object")
		}
		if strict := f.Get("strict"); strict != nil {
			if t.Strict, err = strict.Bool(param + ".function.strict"); err != nil {
				return err
			}
		}
		if err := r.only(param+".function", f, "name", "description", "parameters", "strict"); err != nil {
			return err
		}
		if t.Mark, err = r.mark(param, fields); err != nil {
			return err
		}
		r.Tools = append(r.Tools, t)
		return r.only(param, fields, "type", "function", "cache_control")
	})
}

func (r *Request) toolChoice(v openai.Value) error {
	switch s := string(v); {
	case s == `"auto"`, s == `"none"`, s == `"required"`:
		r.ToolChoice.Mode = s[1 : len(s)-1]
		return nil
	case v.IsObject():
		fields, err := v.Fields("tool_choice")
		if err != nil {
			return err
		}
		if string(fields.Get("type")) != `"function"` {
			break
		}
		f, err := fields.Get("function").Fields("tool_choice.function")
		if err != nil {
			return err
		}
		r.ToolChoice = ToolChoice{Mode: "function", Name: f.Get("name")}
		return isText(r.ToolChoice.Name, "tool_choice.function.name")
	}
	return r.Unsayable("tool_choice", "it must be none, auto, required or a function")
}
