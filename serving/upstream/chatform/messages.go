package chatform

import (
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file takes the conversation apart.

// Turn is what one side says before the other does. Messages of the same side that follow each other are one turn.
type Turn struct {
	Assistant bool
	// Results are those of tools, and stand before the Parts.
	Results []Result
	Parts   []Part
	// Thoughts are an assistant's, in the parts that their maker signed, and as plain text. They stand before the Parts.
	Thoughts []Thought
	Thought  openai.Value
	// Calls of tools stand after the Parts.
	Calls []Call
}

// Kind is what a part is.
type Kind int

// The kinds of parts.
const (
	Text Kind = iota
	Image
	Audio
	File
)

// Mark asks a vendor that caches on demand to keep what stands before it: "" is no mark, otherwise it is how long, "5m"
// where the client did not say.
type Mark string

// Part is a piece of a message.
type Part struct {
	Kind Kind
	// Text is a JSON string as it was sent.
	Text openai.Value
	// Media is the type of Data, which is in base64; URL is where an image lies that was not sent along.
	Media, Data, URL string
	// Name is a file's name, nil where it has none.
	Name  openai.Value
	Mark  Mark
	Param string
}

// Call is a call of a tool that an assistant made.
type Call struct {
	ID, Name openai.Value
	// Input is the object of its arguments.
	Input openai.Value
	// Signature is Google's, nil where there is none.
	Signature openai.Value
	Param     string
}

// Result is what a tool answered.
type Result struct {
	ID openai.Value
	// Name is that of the tool, nil where no call has this ID.
	Name  openai.Value
	Parts []Part
	Mark  Mark
	Param string
}

// Thought is a part of an assistant's thinking as its maker has signed or encrypted it, which is how a model that thinks
// between calls of tools wants it back.
type Thought struct {
	// Text and Signature are of a part that can be read, Data is one that cannot.
	Text, Signature, Data openai.Value
}

func (r *Request) messages(v openai.Value) error {
	return v.Elements("messages", func(i int, v openai.Value) error {
		param := openai.Path("messages", i, "")
		fields, err := v.Fields(param)
		if err != nil {
			return err
		}
		role, err := fields.Get("role").Text(param + ".role")
		if err != nil {
			return err
		}
		switch role {
		case "system", "developer":
			if len(r.Turns) > 0 {
				return r.Unsayable(param, "the system speaks before everybody else")
			}
			if r.System, err = r.parts(r.System, param, fields, false); err == nil {
				err = r.only(param, fields, "role", "content", "cache_control")
			}
		case "user":
			err = r.user(param, fields)
		case "assistant":
			err = r.assistant(param, fields)
		case "tool":
			err = r.result(param, fields)
		default:
			err = r.Unsayable(param+".role", "it knows system, user, assistant and tool")
		}
		return err
	})
}

// turn is the turn that a message of that side belongs to.
func (r *Request) turn(assistant, fits bool) *Turn {
	if n := len(r.Turns); n > 0 && r.Turns[n-1].Assistant == assistant && fits {
		return &r.Turns[n-1]
	}
	r.Turns = append(r.Turns, Turn{Assistant: assistant})
	return &r.Turns[len(r.Turns)-1]
}

func (r *Request) last() Turn {
	if len(r.Turns) == 0 {
		return Turn{}
	}
	return r.Turns[len(r.Turns)-1]
}

func (r *Request) user(param string, fields openai.Fields) (err error) {
	t := r.turn(false, true)
	if t.Parts, err = r.parts(t.Parts, param, fields, true); err != nil {
		return err
	}
	return r.only(param, fields, "role", "content", "cache_control")
}

func (r *Request) assistant(param string, fields openai.Fields) (err error) {
	t := r.turn(true, len(r.last().Calls) == 0)
	for _, name := range [...]string{"reasoning_content", "reasoning"} {
		if v := fields.Get(name); v.IsText() && !v.Empty() {
			t.Thought = v
		}
	}
	if v := openai.Details(fields); !v.Empty() {
		if err := r.details(t, param+".reasoning_details", v); err != nil {
			return err
		}
	}
	if t.Parts, err = r.parts(t.Parts, param, fields, false); err != nil {
		return err
	}
	if v := fields.Get("refusal"); !v.Empty() {
		if err := isText(v, param+".refusal"); err != nil {
			return err
		}
		t.Parts = append(t.Parts, Part{Text: v, Param: param + ".refusal"})
	}
	if v := fields.Get("tool_calls"); !v.Empty() {
		err := v.Elements(param+".tool_calls", func(i int, v openai.Value) error {
			c, err := r.call(openai.Path(param+".tool_calls", i, ""), v)
			t.Calls = append(t.Calls, c)
			return err
		})
		if err != nil {
			return err
		}
	}
	return r.only(param, fields, "role", "content", "cache_control", "tool_calls", "refusal", "annotations", "reasoning_content", "reasoning", "reasoning_details",
		"provider_specific_fields")
}

// isText refuses what is no string, without making a copy of what is one.
func isText(v openai.Value, param string) error {
	if v.IsText() {
		return nil
	}
	_, err := v.Text(param)
	return err
}

// details reads thoughts in the form that OpenRouter gave them. Those of another maker than Claude's nobody here can read.
func (r *Request) details(t *Turn, param string, v openai.Value) error {
	return v.Elements(param, func(i int, v openai.Value) error {
		fields, err := v.Fields(openai.Path(param, i, ""))
		if err != nil {
			return err
		}
		d := Thought{Text: fields.Get("text"), Signature: fields.Get("signature"), Data: fields.Get("data")}
		for _, text := range [...]openai.Value{d.Text, d.Signature, d.Data} {
			if text != nil && !text.IsText() {
				return openai.BadParam(openai.Path(param, i, ""), "must hold strings")
			}
		}
		if openai.ClaudesThought(fields) {
			t.Thoughts = append(t.Thoughts, d)
		}
		return nil
	})
}

func (r *Request) call(param string, v openai.Value) (Call, error) {
	fields, err := v.Fields(param)
	if err != nil {
		return Call{}, err
	}
	f, err := fields.Get("function").Fields(param + ".function")
	if err != nil {
		return Call{}, err
	}
	c := Call{ID: fields.Get("id"), Name: f.Get("name"), Param: param}
	id, err := c.ID.Text(param + ".id")
	if err != nil {
		return c, err
	}
	if err := isText(c.Name, param+".function.name"); err != nil {
		return c, err
	}
	r.names[id] = c.Name
	if c.Input, err = r.arguments(param+".function.arguments", f.Get("arguments")); err != nil {
		return c, err
	}
	if extra, err := fields.Get("extra_content").Fields(""); err == nil {
		if google, err := extra.Get("google").Fields(""); err == nil && google.Get("thought_signature").IsText() {
			c.Signature = google.Get("thought_signature")
		}
	}
	return c, r.only(param, fields, "id", "type", "function", "index", "extra_content")
}

// arguments is the object that a call's arguments hold as text.
func (r *Request) arguments(param string, v openai.Value) (openai.Value, error) {
	text, err := v.Text(param)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(text) == "" {
		return openai.Value("{}"), nil
	}
	input, err := openai.ParseValue([]byte(text), openai.DecodeOptions{})
	if err != nil || !input.IsObject() {
		return nil, r.Unsayable(param, "it is not a JSON object")
	}
	return input, nil
}

func (r *Request) result(param string, fields openai.Fields) error {
	t := r.turn(false, len(r.last().Parts) == 0)
	res := Result{ID: fields.Get("tool_call_id"), Param: param}
	id, err := res.ID.Text(param + ".tool_call_id")
	if err != nil {
		return err
	}
	res.Name = r.names[id]
	if res.Parts, err = r.parts(nil, param, fields, true); err != nil {
		return err
	}
	if n := len(res.Parts); n > 0 { // the mark stands after the result, not in it
		res.Mark, res.Parts[n-1].Mark = res.Parts[n-1].Mark, ""
	}
	t.Results = append(t.Results, res)
	return r.only(param, fields, "role", "content", "tool_call_id", "cache_control", "name")
}

// parts appends a message's content. Empty texts say nothing, and vendors refuse them. A mark on the message is one on
// its last part.
func (r *Request) parts(dst []Part, param string, fields openai.Fields, media bool) ([]Part, error) {
	from, v := len(dst), fields.Get("content")
	switch {
	case v == nil:
	case v.IsText():
		if !v.Empty() {
			dst = append(dst, Part{Text: v, Param: param + ".content"})
		}
	default:
		err := v.Elements(param+".content", func(i int, v openai.Value) error {
			p, err := r.part(openai.Path(param+".content", i, ""), v, media)
			if err == nil && !(p.Kind == Text && p.Text.Empty()) {
				dst = append(dst, p)
			}
			return err
		})
		if err != nil {
			return dst, err
		}
	}
	mark, err := r.mark(param, fields)
	if mark != "" && len(dst) > from {
		dst[len(dst)-1].Mark = mark
	}
	return dst, err
}

func (r *Request) mark(param string, fields openai.Fields) (Mark, error) {
	v := fields.Get("cache_control")
	if v == nil {
		return "", nil
	}
	inner, err := v.Fields(param + ".cache_control")
	if err != nil {
		return "", err
	}
	switch string(inner.Get("ttl")) {
	case "", `"5m"`:
		return "5m", nil
	case `"1h"`:
		return "1h", nil
	}
	return "", r.Unsayable(param+".cache_control.ttl", "it must be 5m or 1h")
}

func (r *Request) part(param string, v openai.Value, media bool) (Part, error) {
	fields, err := v.Fields(param)
	if err != nil {
		return Part{}, err
	}
	kind, err := fields.Get("type").Text(param + ".type")
	if err != nil {
		return Part{}, err
	}
	p := Part{Param: param}
	switch {
	case kind == "text" || kind == "refusal":
		p.Text = fields.Get(kind)
		err = isText(p.Text, param+"."+kind)
	case kind == "image_url" && media:
		err = r.image(&p, fields.Get(kind))
	case kind == "input_audio" && media:
		err = r.audio(&p, fields.Get(kind))
	case kind == "file" && media:
		err = r.file(&p, fields.Get(kind))
	default:
		err = r.Unsayable(param+".type", "it reads text, and of users images, audio and files")
	}
	if err != nil {
		return p, err
	}
	if p.Mark, err = r.mark(param, fields); err != nil {
		return p, err
	}
	return p, r.only(param, fields, "type", "cache_control", "annotations", kind)
}

// dataURL splits data:TYPE;base64,DATA.
func dataURL(s string) (media, data string, ok bool) {
	rest, ok := strings.CutPrefix(s, "data:")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ";base64,")
}

func (r *Request) image(p *Part, v openai.Value) error {
	param := p.Param + ".image_url"
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	address, err := fields.Get("url").Text(param + ".url")
	if err != nil {
		return err
	}
	if detail := string(fields.Get("detail")); detail != "" && detail != `"auto"` {
		return r.Unsayable(param+".detail", "it chooses it itself")
	}
	p.Kind = Image
	var ok bool
	if p.Media, p.Data, ok = dataURL(address); !ok {
		if p.URL = address; strings.HasPrefix(address, "data:") {
			return r.Unsayable(param+".url", "data must be in base64")
		}
	}
	return r.only(param, fields, "url", "detail")
}

func (r *Request) audio(p *Part, v openai.Value) error {
	param := p.Param + ".input_audio"
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	format, err := fields.Get("format").Text(param + ".format")
	if err != nil {
		return err
	}
	p.Kind, p.Media = Audio, "audio/"+format
	if p.Data, err = fields.Get("data").Text(param + ".data"); err != nil {
		return err
	}
	return r.only(param, fields, "format", "data")
}

func (r *Request) file(p *Part, v openai.Value) error {
	param := p.Param + ".file"
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	data, _ := fields.Get("file_data").Text(param + ".file_data") // a file that is kept elsewhere has none
	p.Kind, p.Name = File, fields.Get("filename")
	var ok bool
	if p.Media, p.Data, ok = dataURL(data); !ok {
		return r.Unsayable(param, "it must hold its data as data:TYPE;base64")
	}
	if p.Name != nil {
		if err := isText(p.Name, param+".filename"); err != nil {
			return err
		}
	}
	return r.only(param, fields, "file_data", "filename")
}
