package anthropic

import (
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file says chat's conversation in Messages.

// messages appends the system's text and the messages. Results of tools and what the user says after them become one
// message, because Messages wants all results of a turn together.
func (e *encoder) messages(v openai.Value) error {
	t := &turns{}
	err := v.Elements("messages", func(i int, v openai.Value) error { return t.message(openai.Path("messages", i, ""), v) })
	if err != nil {
		return err
	}
	t.flush()
	if len(t.system) > 0 {
		e.out = append(append(append(e.out, `"system":[`...), t.system...), ']', ',')
	}
	e.out = append(append(append(e.out, `"messages":[`...), t.out...), ']', ',')
	return nil
}

// turns gathers messages.
type turns struct {
	system, out []byte
	// role and blocks are of the message that is being gathered; results says that it holds nothing but results of tools.
	role    string
	blocks  []byte
	results bool
	// plain is the content as it was sent, where it is one text and nothing else.
	plain openai.Value
}

func (t *turns) flush() {
	if len(t.blocks) > 0 {
		if len(t.out) > 0 {
			t.out = append(t.out, ',')
		}
		t.out = openai.AppendText(append(t.out, `{"role":`...), t.role)
		if t.plain != nil {
			t.out = append(append(append(t.out, `,"content":`...), t.plain...), '}')
		} else {
			t.out = append(append(append(t.out, `,"content":[`...), t.blocks...), ']', '}')
		}
	}
	t.role, t.blocks, t.results, t.plain = "", nil, false, nil
}

// add appends a block to the message that is being gathered.
func (t *turns) add(block ...string) {
	if len(t.blocks) > 0 {
		t.blocks = append(t.blocks, ',')
	}
	for _, s := range block {
		t.blocks = append(t.blocks, s...)
	}
}

func (t *turns) message(param string, v openai.Value) error {
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	role, err := fields.Get("role").Text(param + ".role")
	if err != nil {
		return err
	}
	known := []string{"role", "content", "cache_control"}
	switch role {
	case "system", "developer":
		if len(t.out) > 0 || t.role != "" {
			return unsayable(param, "the system speaks before everybody else")
		}
		before := len(t.system)
		t.system, err = appendBlocks(t.system, param+".content", fields.Get("content"), false)
		if mark := markOf(fields); mark != nil && len(t.system) > before {
			t.system = append(append(append(t.system[:len(t.system)-1], `,"cache_control":`...), mark...), '}')
		}
	case "user":
		if !t.results {
			t.flush()
		}
		t.results, t.role = false, "user"
		err = t.content(param+".content", fields)
	case "assistant":
		t.flush()
		t.role = "assistant"
		known = append(known, "tool_calls", "refusal", "annotations", "reasoning_content", "reasoning", "reasoning_details", "provider_specific_fields") // thoughts that nobody signed are left out
		if err = t.thoughts(param+".reasoning_details", openai.Details(fields)); err == nil {
			err = t.content(param+".content", fields)
		}
		if err == nil {
			err = t.said(param, fields)
		}
	case "tool":
		if !t.results {
			t.flush()
		}
		t.results, t.role = true, "user"
		known = append(known, "tool_call_id", "name") // whose call it was is known by its id
		err = t.result(param, fields)
	default:
		err = unsayable(param+".role", "they know system, user, assistant and tool")
	}
	for _, f := range fields {
		if err == nil && !contains(known, f.Name) && !f.Value.Empty() {
			err = unsayable(param+"."+f.Name, "Messages has no such field")
		}
	}
	return err
}

// content adds the content of a user or the assistant. A mark on the message is one on its last block.
func (t *turns) content(param string, fields openai.Fields) error {
	v, before := fields.Get("content"), len(t.blocks)
	blocks, err := appendBlocks(t.blocks, param, v, true)
	t.blocks = blocks
	if before == 0 && v.IsText() && !v.Empty() {
		t.plain = v
	} else if len(t.blocks) > 0 {
		t.plain = nil
	}
	if mark := markOf(fields); mark != nil && len(t.blocks) > before {
		t.blocks, t.plain = append(append(append(t.blocks[:len(t.blocks)-1], `,"cache_control":`...), mark...), '}'), nil
	}
	return err
}

// markOf is the mark of a message for its last block, nil where the last part of its content has one of its own.
func markOf(fields openai.Fields) openai.Value {
	mark, content := fields.Get("cache_control"), fields.Get("content")
	if mark == nil || !content.IsArray() {
		return mark
	}
	own := false
	_ = content.Elements("", func(_ int, v openai.Value) error { // what is no part was refused before
		part, err := v.Fields("")
		own = err == nil && part.Get("cache_control") != nil
		return nil
	})
	if own {
		return nil
	}
	return mark
}

// thoughts adds those of the assistant that Anthropic has signed or encrypted, wherever it was asked. All others it would
// refuse, and they are left out.
func (t *turns) thoughts(param string, v openai.Value) error {
	if v.Empty() {
		return nil
	}
	return v.Elements(param, func(i int, v openai.Value) error {
		at := openai.Path(param, i, "")
		fields, err := v.Fields(at)
		if err != nil {
			return err
		}
		text, signature, data := fields.Get("text"), fields.Get("signature"), fields.Get("data")
		for _, s := range [...]openai.Value{text, signature, data} {
			if s != nil && !s.IsText() {
				return openai.BadParam(at, "must hold strings")
			}
		}
		switch {
		case !openai.ClaudesThought(fields):
		case !signature.Empty() && text != nil:
			t.add(`{"type":"thinking","thinking":`, string(text), `,"signature":`, string(signature), `}`)
		case !data.Empty():
			t.add(`{"type":"redacted_thinking","data":`, string(data), `}`)
		}
		return nil
	})
}

// said adds what an assistant has beside its content.
func (t *turns) said(param string, fields openai.Fields) error {
	if v := fields.Get("refusal"); v != nil && !v.Empty() {
		t.plain = nil
		t.add(`{"type":"text","text":`, string(v), `}`)
	}
	calls := fields.Get("tool_calls")
	if calls.Empty() {
		return nil
	}
	t.plain = nil
	return calls.Elements(param+".tool_calls", func(i int, v openai.Value) error {
		at := openai.Path(param+".tool_calls", i, "")
		call, err := v.Fields(at)
		if err != nil {
			return err
		}
		f, err := call.Get("function").Fields(at + ".function")
		if err != nil {
			return err
		}
		id, err := call.Get("id").Text(at + ".id")
		if err != nil {
			return err
		}
		if _, err := f.Get("name").Text(at + ".function.name"); err != nil {
			return err
		}
		input, err := arguments(at+".function.arguments", f.Get("arguments"))
		if err != nil {
			return err
		}
		t.add(`{"type":"tool_use","id":`, string(openai.AppendText(nil, openai.PlainID(id))), `,"name":`, string(f.Get("name")), `,"input":`, string(input), `}`)
		return nil
	})
}

// arguments is the object that a call's arguments hold as text.
func arguments(param string, v openai.Value) (openai.Value, error) {
	text, err := v.Text(param)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(text) == "" {
		return openai.Value("{}"), nil
	}
	input, err := openai.ParseValue([]byte(text), openai.DecodeOptions{})
	if err != nil || !input.IsObject() {
		return nil, unsayable(param, "it is not a JSON object")
	}
	return input, nil
}

func (t *turns) result(param string, fields openai.Fields) error {
	id, err := fields.Get("tool_call_id").Text(param + ".tool_call_id")
	if err != nil {
		return err
	}
	t.add(`{"type":"tool_result","tool_use_id":`, string(openai.AppendText(nil, openai.PlainID(id))))
	content := fields.Get("content")
	switch {
	case content.IsText():
		t.blocks = append(append(t.blocks, `,"content":`...), content...)
	case content != nil:
		blocks, err := appendBlocks(nil, param+".content", content, true)
		if err != nil {
			return err
		}
		t.blocks = append(append(append(t.blocks, `,"content":[`...), blocks...), ']')
	}
	if mark := fields.Get("cache_control"); mark != nil {
		t.blocks = append(append(t.blocks, `,"cache_control":`...), mark...)
	}
	t.blocks = append(t.blocks, '}')
	return nil
}

// appendBlocks appends the parts of a content as blocks, with commas between them. Empty texts say nothing, and Messages
// refuses them.
func appendBlocks(dst []byte, param string, v openai.Value, media bool) ([]byte, error) {
	if v == nil || v.IsText() {
		if v.Empty() {
			return dst, nil
		}
		return append(append(append(comma(dst), `{"type":"text","text":`...), v...), '}'), nil
	}
	err := v.Elements(param, func(i int, v openai.Value) error {
		at := openai.Path(param, i, "")
		fields, err := v.Fields(at)
		if err != nil {
			return err
		}
		block, err := partBlock(at, fields, media)
		if err == nil && block != nil {
			dst = append(comma(dst), block...)
		}
		return err
	})
	return dst, err
}

func comma(dst []byte) []byte {
	if len(dst) > 0 {
		return append(dst, ',')
	}
	return dst
}

// partBlock is the block of one part, nil where it says nothing.
func partBlock(param string, fields openai.Fields, media bool) (block []byte, err error) {
	kind, err := fields.Get("type").Text(param + ".type")
	if err != nil {
		return nil, err
	}
	known := []string{"type", "cache_control", kind}
	switch {
	case kind == "text" || kind == "refusal":
		text := fields.Get(kind)
		if _, err := text.Text(param + "." + kind); err != nil {
			return nil, err
		}
		if text.Empty() {
			return nil, nil
		}
		known = append(known, "annotations")
		block = append(append([]byte(`{"type":"text","text":`), text...), '}')
	case kind == "image_url" && media:
		block, err = imageBlock(param, fields.Get("image_url"))
	case kind == "file" && media:
		block, err = fileBlock(param, fields.Get("file"))
	default:
		err = unsayable(param+".type", "they read text, images and PDF files")
	}
	for _, f := range fields {
		if err == nil && !contains(known, f.Name) && !f.Value.Empty() {
			err = unsayable(param+"."+f.Name, "Messages has no such field")
		}
	}
	if mark := fields.Get("cache_control"); err == nil && mark != nil {
		block = append(append(append(block[:len(block)-1], `,"cache_control":`...), mark...), '}')
	}
	return block, err
}

// dataURL splits data:TYPE;base64,DATA.
func dataURL(s string) (media, data string, ok bool) {
	rest, ok := strings.CutPrefix(s, "data:")
	if !ok {
		return "", "", false
	}
	media, data, ok = strings.Cut(rest, ";base64,")
	return media, data, ok
}

func imageBlock(param string, v openai.Value) ([]byte, error) {
	fields, err := v.Fields(param + ".image_url")
	if err != nil {
		return nil, err
	}
	address, err := fields.Get("url").Text(param + ".image_url.url")
	if err != nil {
		return nil, err
	}
	if detail := string(fields.Get("detail")); detail != "" && detail != `"auto"` {
		return nil, unsayable(param+".image_url.detail", "they choose it themselves")
	}
	if media, data, ok := dataURL(address); ok {
		return appendSource([]byte(`{"type":"image","source":`), media, data), nil
	}
	if strings.HasPrefix(address, "data:") {
		return nil, unsayable(param+".image_url.url", "data must be in base64")
	}
	return append(openai.AppendText([]byte(`{"type":"image","source":{"type":"url","url":`), address), '}', '}'), nil
}

func appendSource(dst []byte, media, data string) []byte {
	dst = openai.AppendText(append(dst, `{"type":"base64","media_type":`...), media)
	return append(openai.AppendText(append(dst, `,"data":`...), data), '}', '}')
}

func fileBlock(param string, v openai.Value) ([]byte, error) {
	fields, err := v.Fields(param + ".file")
	if err != nil {
		return nil, err
	}
	data, _ := fields.Get("file_data").Text(param + ".file.file_data") // a file that is kept elsewhere has none
	media, data, ok := dataURL(data)
	if !ok || media != "application/pdf" {
		return nil, unsayable(param+".file", "it must hold a PDF as data:application/pdf;base64")
	}
	block := appendSource([]byte(`{"type":"document","source":`), media, data)
	if name := fields.Get("filename"); name != nil && string(name) != `"document.pdf"` {
		block = append(append(append(block[:len(block)-1], `,"title":`...), name...), '}')
	}
	return block, nil
}
