package responses

import (
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// own stands behind the kind in the ids of what was said here, out of a chat vendor's answer. The vendors of Responses do not
// know them, and nobody keeps what they name.
const (
	own          = "tw_"
	ownReasoning = "rs_" + own
	ownResponse  = "resp_" + own
)

// named reports whether an id is one of ours.
func named(id string) bool {
	_, rest, _ := strings.Cut(id, "_")
	return strings.HasPrefix(rest, own)
}

// reference keeps a reference to an item for the provider that has it.
func (t *turn) reference(param string, v openai.Value, fields openai.Fields) error {
	id, err := fields.Get("id").Text(param + ".id")
	if err != nil {
		return err
	}
	if named(id) {
		return openai.BadParam(param, "refers to %.64q, which nobody keeps; send the item itself, as clients do that ask with store: false", id)
	}
	t.unknown(param, v)
	return nil
}

// conversation appends the messages of chat.
func (d *decoder) conversation(instructions, input openai.Value) error {
	d.out = append(d.out, `"messages":[`...)
	if !instructions.Empty() {
		if !instructions.IsText() {
			return openai.BadParam("instructions", "must be a string")
		}
		d.out = append(append(append(d.out, `{"role":"system","content":`...), instructions...), '}', ',')
	}
	switch {
	case input.IsText():
		d.out = append(append(append(d.out, `{"role":"user","content":`...), input...), '}', ',')
	case input == nil: // a template of the provider holds all of it
		d.out = append(d.out, `{"role":"user","content":""},`...)
	default:
		t := &turn{d: d}
		err := input.Elements("input", func(i int, v openai.Value) error { return t.item(openai.Path("input", i, ""), v) })
		if err != nil {
			return err
		}
		t.flush()
	}
	if d.out[len(d.out)-1] != ',' {
		return openai.BadParam("input", "must not be empty")
	}
	d.out = append(d.out[:len(d.out)-1], ']', ',')
	return nil
}

// turn gathers what the assistant says in several items and chat in one message.
type turn struct {
	d       *decoder
	content []byte
	thought string
	calls   []byte
}

func (t *turn) flush() {
	if t.content == nil && t.calls == nil && t.thought == "" {
		return
	}
	out := append(t.d.out, `{"role":"assistant","content":`...)
	switch {
	case t.content != nil:
		out = append(out, t.content...)
	case t.calls != nil:
		out = append(out, "null"...)
	default:
		out = append(out, `""`...)
	}
	if t.thought != "" {
		out = openai.AppendText(append(out, `,"reasoning_content":`...), t.thought)
	}
	if t.calls != nil {
		out = append(append(append(out, `,"tool_calls":[`...), t.calls...), ']')
	}
	t.d.out = append(out, '}', ',')
	t.content, t.thought, t.calls = nil, "", nil
}

// item says one item of the input.
func (t *turn) item(param string, v openai.Value) error {
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	kind := "message"
	if v := fields.Get("type"); v != nil {
		if kind, err = v.Text(param + ".type"); err != nil {
			return err
		}
	}
	known := []string{"type", "id", "status"}
	switch kind {
	case "message":
		known = append(known, "role", "content", "phase")
		err = t.message(param, fields)
	case "function_call":
		known = append(known, "call_id", "name", "arguments")
		err = t.call(param, fields)
	case "function_call_output":
		known = append(known, "call_id", "output")
		err = t.output(param, fields)
	case "reasoning":
		known = append(known, "summary", "content", "encrypted_content")
		err = t.reasoning(param, v, fields)
	case "item_reference":
		return t.reference(param, v, fields)
	default:
		t.unknown(param, v)
		return nil
	}
	for _, f := range fields {
		if !contains(known, f.Name) && !f.Value.Empty() {
			t.d.OnlyNative(param + "." + f.Name)
		}
	}
	return err
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// unknown keeps an item that chat cannot say as a part that no vendor of chat knows.
func (t *turn) unknown(param string, v openai.Value) {
	t.d.OnlyNative(param)
	t.flush()
	t.d.out = append(append(append(t.d.out, `{"role":"user","content":[{"type":"responses","item":`...), v...), `}]},`...)
}

func (t *turn) message(param string, fields openai.Fields) error {
	role, err := fields.Get("role").Text(param + ".role")
	if err != nil {
		return err
	}
	if role != "user" && role != "assistant" && role != "system" && role != "developer" {
		return openai.BadParam(param+".role", "must be user, assistant, system or developer")
	}
	content, err := t.parts(param+".content", fields.Get("content"))
	if err != nil {
		return err
	}
	if role == "developer" { // the newer name, which fewer vendors know
		role = "system"
	}
	if role != "assistant" {
		t.flush()
		t.d.out = openai.AppendText(append(t.d.out, `{"role":`...), role)
		t.d.out = append(append(append(t.d.out, `,"content":`...), content...), '}', ',')
		return nil
	}
	if t.content != nil || t.calls != nil { // chat has its text before its calls
		t.flush()
	}
	t.content = content
	return nil
}

// parts says a content in chat: a text where it is one text, else a list.
func (t *turn) parts(param string, v openai.Value) ([]byte, error) {
	if v.IsText() {
		return v, nil
	}
	var list [][]byte
	var only openai.Value
	err := v.Elements(param, func(i int, v openai.Value) error {
		at := openai.Path(param, i, "")
		fields, err := v.Fields(at)
		if err != nil {
			return err
		}
		part, text, err := t.part(at, v, fields)
		if only = text; i > 0 {
			only = nil
		}
		list = append(list, part)
		return err
	})
	if err != nil || only != nil {
		return only, err
	}
	out := []byte{'['}
	for i, p := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, p...)
	}
	return append(out, ']'), nil
}

// part says one part in chat; text is its text, where it is one.
func (t *turn) part(param string, v openai.Value, fields openai.Fields) (part []byte, text openai.Value, err error) {
	kind, err := fields.Get("type").Text(param + ".type")
	if err != nil {
		return nil, nil, err
	}
	known := []string{"type", "annotations", "logprobs"}
	switch kind {
	case "input_text", "output_text", "text", "refusal":
		name := "text"
		if kind == "refusal" {
			name = "refusal"
		}
		known = append(known, name)
		if text = fields.Get(name); !text.IsText() {
			return nil, nil, openai.BadParam(param+"."+name, "must be a string")
		}
		part = append(append([]byte(`{"type":"text","text":`), text...), '}')
	case "input_image":
		known = append(known, "image_url", "detail")
		address := fields.Get("image_url")
		if !address.IsText() {
			break
		}
		part = append(append([]byte(`{"type":"image_url","image_url":{"url":`), address...), '}', '}')
		if detail := fields.Get("detail"); detail != nil && string(detail) != `"auto"` {
			part = append(append(append(part[:len(part)-2], `,"detail":`...), detail...), '}', '}')
		}
	case "input_file":
		known = append(known, "file_data", "filename")
		data := fields.Get("file_data")
		if !data.IsText() {
			break
		}
		part = append([]byte(`{"type":"file","file":{"file_data":`), data...)
		if name := fields.Get("filename"); name != nil {
			part = append(append(part, `,"filename":`...), name...)
		}
		part = append(part, '}', '}')
	case "input_audio":
		known = append(known, "input_audio")
		part = append(append([]byte(`{"type":"input_audio","input_audio":`), fields.Get("input_audio")...), '}')
	}
	if part == nil || string(part) == `{"type":"input_audio","input_audio":}` {
		t.d.OnlyNative(param)
		return append(append([]byte(`{"type":"responses","part":`), v...), '}'), nil, nil
	}
	for _, f := range fields {
		if !contains(known, f.Name) && !f.Value.Empty() {
			t.d.OnlyNative(param + "." + f.Name)
		}
	}
	return part, text, nil
}

func (t *turn) call(param string, fields openai.Fields) error {
	for _, name := range [...]string{"call_id", "name", "arguments"} {
		if !fields.Get(name).IsText() {
			return openai.BadParam(param+"."+name, "must be a string")
		}
	}
	if t.calls != nil {
		t.calls = append(t.calls, ',')
	}
	t.calls = append(append(append(t.calls, `{"id":`...), fields.Get("call_id")...), `,"type":"function","function":{"name":`...)
	t.calls = append(append(append(t.calls, fields.Get("name")...), `,"arguments":`...), fields.Get("arguments")...)
	t.calls = append(t.calls, '}', '}')
	return nil
}

func (t *turn) output(param string, fields openai.Fields) error {
	id, output := fields.Get("call_id"), fields.Get("output")
	if !id.IsText() {
		return openai.BadParam(param+".call_id", "must be a string")
	}
	t.flush()
	content, err := t.parts(param+".output", output)
	if err != nil {
		return err
	}
	if strings.Contains(string(content), `"type":"image_url"`) || strings.Contains(string(content), `"type":"file"`) {
		t.d.OnlyWider(param + ".output") // a tool of chat answers in text
	}
	t.d.out = append(append(append(t.d.out, `{"role":"tool","tool_call_id":`...), id...), `,"content":`...)
	t.d.out = append(append(t.d.out, content...), '}', ',')
	return nil
}

// reasoning keeps a provider's own for the provider; what was said here goes back to chat. Codex sends items back without
// their ids: one that no provider could find or decrypt is not a provider's.
func (t *turn) reasoning(param string, v openai.Value, fields openai.Fields) error {
	id, _ := fields.Get("id").Text("id")
	if !strings.HasPrefix(id, ownReasoning) && (id != "" || !fields.Get("encrypted_content").Empty()) {
		t.unknown(param, v)
		return nil
	}
	t.d.OnlyForeign(param)
	if t.content != nil || t.calls != nil {
		t.flush()
	}
	for _, name := range [...]string{"summary", "content"} {
		list := fields.Get(name)
		if list == nil {
			continue
		}
		err := list.Elements(param+"."+name, func(i int, v openai.Value) error {
			part, err := v.Fields(openai.Path(param+"."+name, i, ""))
			if err != nil {
				return err
			}
			text, err := part.Get("text").Text(openai.Path(param+"."+name, i, "text"))
			t.thought += text
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
