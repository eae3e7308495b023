package anthropic

import (
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file says the conversation in chat: Messages has blocks of many kinds in messages of two roles, chat has messages
// of many roles with few kinds of parts.

// conversation appends the messages, the system's first.
func (d *decoder) conversation(system, messages openai.Value) error {
	d.out = append(d.out, `"messages":[`...)
	if system != nil && !system.Empty() {
		c := content{d: d, param: "system"}
		if err := c.read(system); err != nil {
			return err
		}
		if len(c.parts) > 0 {
			d.out = append(append(c.appendContent(append(d.out, `{"role":"system",`...)), '}'), ',')
		}
	}
	err := messages.Elements("messages", func(i int, v openai.Value) error { return d.message(openai.Path("messages", i, ""), v) })
	if err != nil {
		return err
	}
	if d.out[len(d.out)-1] == ',' {
		d.out = d.out[:len(d.out)-1]
	} else {
		return openai.BadParam("messages", "must not be empty")
	}
	d.out = append(d.out, `],`...)
	return nil
}

func (d *decoder) message(param string, v openai.Value) error {
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	role, err := fields.Get("role").Text(param + ".role")
	if err != nil {
		return err
	}
	if role != "user" && role != "assistant" && role != "system" {
		return openai.BadParam(param+".role", "must be user, assistant or system")
	}
	for _, f := range fields {
		if f.Name != "role" && f.Name != "content" && !f.Value.Empty() {
			d.OnlyNative(param + "." + f.Name)
		}
	}
	c := content{d: d, param: param + ".content", role: role}
	if err := c.read(fields.Get("content")); err != nil {
		return err
	}
	c.flush()
	return nil
}

// content gathers the blocks of one message until a chat message can be made of them.
type content struct {
	d     *decoder
	param string
	role  string
	// parts are chat's parts of the message, plain says that there is one text and no more.
	parts [][]byte
	plain []byte
	calls []byte
	// thought is reasoning that no vendor has signed.
	thought string
	// marks are those of a cache, by the part that they stand at.
	marks []openai.Value
}

// mark is the mark at a part, nil where there is none.
func (c *content) mark(part int) openai.Value {
	if part < len(c.marks) {
		return c.marks[part]
	}
	return nil
}

// read takes a string or a list of blocks.
func (c *content) read(v openai.Value) error {
	if v.IsText() {
		if !v.Empty() {
			c.addText(v)
		}
		return nil
	}
	if !v.IsArray() {
		return openai.BadParam(c.param, "must be a string or an array of blocks")
	}
	return v.Elements(c.param, func(i int, v openai.Value) error {
		if i >= openai.PartsMax {
			return openai.BadParam(c.param, "must have at most %d blocks", openai.PartsMax)
		}
		return c.block(openai.Path(c.param, i, ""), v)
	})
}

// block takes one block.
func (c *content) block(param string, v openai.Value) error {
	fields, err := v.Fields(param)
	if err != nil {
		return err
	}
	kind, err := fields.Get("type").Text(param + ".type")
	if err != nil {
		return err
	}
	var known []string
	switch kind {
	case "text":
		known, err = []string{"text"}, c.textBlock(param, fields)
	case "image":
		known, err = []string{"source"}, c.image(param, v, fields)
	case "document":
		known, err = []string{"source", "title", "context"}, c.document(param, v, fields)
	case "tool_use":
		known, err = []string{"id", "name", "input"}, c.toolUse(param, fields)
	case "tool_result":
		known, err = []string{"tool_use_id", "content", "is_error"}, c.toolResult(param, fields)
	case "thinking":
		known, err = []string{"thinking", "signature"}, c.thinking(param, v, fields)
	default:
		c.nativeOnly(param, v)
		return nil
	}
	if mark := fields.Get("cache_control"); mark != nil && len(c.parts) > 0 && kind != "tool_use" && kind != "tool_result" {
		c.marks = append(c.marks, make([]openai.Value, len(c.parts)-len(c.marks))...)
		c.marks[len(c.parts)-1] = mark
	}
	for _, f := range fields {
		if !contains(known, f.Name) && f.Name != "type" && f.Name != "cache_control" && !f.Value.Empty() && !directCaller(f) {
			c.d.OnlyNative(param + "." + f.Name)
		}
	}
	return err
}

// directCaller is the caller of a tool that the model itself has called.
func directCaller(f openai.Field) bool {
	if f.Name != "caller" {
		return false
	}
	fields, err := f.Value.Fields("caller")
	return err == nil && len(fields) == 1 && string(fields.Get("type")) == `"direct"`
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// nativeOnly keeps a block as a part that no chat vendor knows, so that its length counts.
func (c *content) nativeOnly(param string, v openai.Value) {
	c.d.OnlyNative(param)
	c.plain = nil
	c.parts = append(c.parts, append(append([]byte(`{"type":"anthropic","block":`), v...), '}'))
}

// addText adds a text, a JSON string.
func (c *content) addText(text openai.Value) {
	c.plain = nil
	if len(c.parts) == 0 {
		c.plain = text
	}
	c.parts = append(c.parts, append(append([]byte(`{"type":"text","text":`), text...), '}'))
}

func (c *content) textBlock(param string, fields openai.Fields) error {
	if _, err := fields.Get("text").Text(param + ".text"); err != nil {
		return err
	}
	if c.calls != nil { // chat has its text before its calls
		c.d.OnlyNative(param)
	}
	if text := fields.Get("text"); !text.Empty() { // an empty one says nothing, and Anthropic refuses it
		c.addText(text)
	}
	return nil
}

// source reads the source of an image or document: its kind, media type and data or address.
func source(param string, fields openai.Fields) (kind, media, data string, err error) {
	s, err := fields.Get("source").Fields(param + ".source")
	if err != nil {
		return "", "", "", err
	}
	if kind, err = s.Get("type").Text(param + ".source.type"); err != nil {
		return "", "", "", err
	}
	switch kind {
	case "base64", "text":
		if media, err = s.Get("media_type").Text(param + ".source.media_type"); err == nil {
			data, err = s.Get("data").Text(param + ".source.data")
		}
	case "url":
		data, err = s.Get("url").Text(param + ".source.url")
	}
	return kind, media, data, err
}

func (c *content) image(param string, v openai.Value, fields openai.Fields) error {
	kind, media, data, err := source(param, fields)
	if err != nil {
		return err
	}
	switch kind {
	case "base64":
		data = "data:" + media + ";base64," + data
	case "url":
	default:
		c.nativeOnly(param, v)
		return nil
	}
	c.plain = nil
	c.parts = append(c.parts, append(openai.AppendText([]byte(`{"type":"image_url","image_url":{"url":`), data), '}', '}'))
	return nil
}

// document says a PDF as a file and a plain text as text, its title and context before it.
func (c *content) document(param string, v openai.Value, fields openai.Fields) error {
	kind, media, data, err := source(param, fields)
	if err != nil {
		return err
	}
	var before []openai.Value
	name := openai.Value(`"document.pdf"`)
	for _, f := range [...]string{"title", "context"} {
		said := fields.Get(f)
		if said == nil {
			continue
		}
		if _, err := said.Text(param + "." + f); err != nil {
			return err
		}
		if f == "title" && kind == "base64" && !said.Empty() {
			name = said
		} else if !said.Empty() {
			before = append(before, said)
		}
	}
	switch {
	case kind == "base64" && media == "application/pdf", kind == "text" && media == "text/plain":
	default:
		c.nativeOnly(param, v)
		return nil
	}
	for _, text := range before {
		c.addText(text)
	}
	if kind == "text" {
		c.addText(openai.AppendText(nil, data))
		return nil
	}
	c.plain = nil
	part := append(append([]byte(`{"type":"file","file":{"filename":`), name...), `,"file_data":`...)
	c.parts = append(c.parts, append(openai.AppendText(part, "data:application/pdf;base64,"+data), '}', '}'))
	return nil
}

func (c *content) toolUse(param string, fields openai.Fields) error {
	for _, name := range [...]string{"id", "name"} {
		if _, err := fields.Get(name).Text(param + "." + name); err != nil {
			return err
		}
	}
	input := fields.Get("input")
	if !input.IsObject() {
		return openai.BadParam(param+".input", "must be an object")
	}
	if c.role != "assistant" {
		return openai.BadParam(param, "tool_use can only stand in a message of the assistant")
	}
	if c.calls != nil {
		c.calls = append(c.calls, ',')
	}
	c.calls = append(append(append(c.calls, `{"id":`...), fields.Get("id")...), `,"type":"function","function":{"name":`...)
	c.calls = append(append(c.calls, fields.Get("name")...), `,"arguments":`...)
	c.calls = append(openai.AppendText(c.calls, string(input)), '}', '}')
	return nil
}

// errorMark stands before the result of a tool that failed; chat has no flag for it.
const errorMark = "Error: "

// toolResult makes a chat message of its own.
func (c *content) toolResult(param string, fields openai.Fields) error {
	if _, err := fields.Get("tool_use_id").Text(param + ".tool_use_id"); err != nil {
		return err
	}
	if c.role != "user" {
		return openai.BadParam(param, "tool_result can only stand in a message of the user")
	}
	failed := false
	if v := fields.Get("is_error"); v != nil {
		var err error
		if failed, err = v.Bool(param + ".is_error"); err != nil {
			return err
		}
	}
	inner := content{d: c.d, param: param + ".content", role: "tool"}
	if v := fields.Get("content"); v != nil {
		if err := inner.read(v); err != nil {
			return err
		}
	}
	for i, p := range inner.parts {
		if !isTextPart(p) {
			c.d.OnlyWider(openai.Path(inner.param, i, "")) // a tool of chat answers in text
		}
	}
	switch {
	case failed && len(inner.parts) == 0:
		inner.addText(openai.AppendText(nil, errorMark))
	case failed && inner.plain != nil:
		text, err := openai.Value(inner.plain).Text(inner.param)
		if err != nil {
			return err
		}
		inner.plain = openai.AppendText(nil, errorMark+text)
	case failed:
		inner.parts = append([][]byte{append(openai.AppendText([]byte(`{"type":"text","text":`), errorMark), '}')}, inner.parts...)
	}
	c.flush()
	c.d.out = append(append(append(c.d.out, `{"role":"tool","tool_call_id":`...), fields.Get("tool_use_id")...), ',')
	mark := fields.Get("cache_control")
	for _, inside := range inner.marks { // of a result there is one place to mark
		if mark == nil {
			mark = inside
		}
	}
	inner.marks = nil
	c.d.out = append(c.d.AppendMark(inner.appendContent(c.d.out), mark), '}', ',')
	return nil
}

func isTextPart(p []byte) bool { return len(p) > 14 && string(p[:14]) == `{"type":"text"` }

// thinking keeps what a vendor has signed for the vendor; what nobody signed is reasoning of a chat model.
func (c *content) thinking(param string, v openai.Value, fields openai.Fields) error {
	text, err := fields.Get("thinking").Text(param + ".thinking")
	if err != nil {
		return err
	}
	if s := fields.Get("signature"); s != nil && !s.Empty() {
		c.nativeOnly(param, v)
		return nil
	}
	c.d.OnlyForeign(param)
	if c.thought != "" {
		c.thought += "\n"
	}
	c.thought += text
	return nil
}

// appendContent appends the member "content".
func (c *content) appendContent(dst []byte) []byte {
	dst = append(dst, `"content":`...)
	switch {
	case len(c.parts) == 0 && c.calls != nil:
		return append(dst, "null"...)
	case len(c.parts) == 0:
		return append(dst, `""`...)
	case c.plain != nil: // the mark stands at the message
		return c.d.AppendMark(append(dst, c.plain...), c.mark(0))
	}
	dst = append(dst, '[')
	for i, p := range c.parts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(c.d.AppendMark(append(dst, p[:len(p)-1]...), c.mark(i)), '}')
	}
	return append(dst, ']')
}

// flush appends what was gathered as a chat message, if anything was.
func (c *content) flush() {
	if len(c.parts) == 0 && c.calls == nil && c.thought == "" {
		return
	}
	dst := openai.AppendText(append(c.d.out, `{"role":`...), c.role)
	dst = c.appendContent(append(dst, ','))
	if c.thought != "" {
		dst = openai.AppendText(append(dst, `,"reasoning_content":`...), c.thought)
	}
	if c.calls != nil {
		dst = append(append(append(dst, `,"tool_calls":[`...), c.calls...), ']')
	}
	c.d.out = append(dst, '}', ',')
	c.parts, c.plain, c.calls, c.thought, c.marks = nil, nil, nil, "", nil
}
