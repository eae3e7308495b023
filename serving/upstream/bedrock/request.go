package bedrock

import (
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream/chatform"
)

// This file says chat requests in Converse.

// vendor is what errors call the other side.
const vendor = "Bedrock"

// encode says a chat request to a model. The request as it was read says what the answer is to leave out. The error is an
// *openai.Error where no model can be told, and an *upstream.Error of class Unsayable where this one cannot. An empty
// model stands for any.
func encode(body []byte, model string) (out []byte, r *chatform.Request, err error) {
	r, err = chatform.Parse(body, vendor)
	if err != nil {
		return nil, nil, err
	}
	e := &encoder{r: r, model: model, out: append(make([]byte, 0, len(body)+512), '{')}
	for _, step := range [...]func() error{e.system, e.messages, e.settings, e.tools, e.format, e.thinking} {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	e.close(`}`)
	return e.out[:len(e.out)-1], r, nil
}

// encoder appends JSON. Every value is followed by a comma, which the end of what holds it takes back.
type encoder struct {
	r     *chatform.Request
	model string
	out   []byte
	// files counts the documents, whose names must differ.
	files int
}

func (e *encoder) open(s ...string) {
	for _, s := range s {
		e.out = append(e.out, s...)
	}
}

// close ends a list or object.
func (e *encoder) close(s string) {
	if e.out[len(e.out)-1] == ',' {
		e.out = e.out[:len(e.out)-1]
	}
	e.out = append(append(e.out, s...), ',')
}

func (e *encoder) text(name, value string) {
	e.out = append(openai.AppendText(append(openai.AppendText(e.out, name), ':'), value), ',')
}

// mark asks for a cache point, where the model has any.
func (e *encoder) mark(m chatform.Mark) {
	switch {
	case m == "", !caches(e.model):
	case m == "5m", strings.Contains(e.model, "amazon.nova"): // which knows no other
		e.open(`{"cachePoint":{"type":"default"}},`)
	default:
		e.open(`{"cachePoint":{"type":"default","ttl":"`, string(m), `"}},`)
	}
}

// caches reports whether a model keeps a cache at the points that it is told: Nova, and Claude since 3.5 Haiku. The others
// refuse a request that has any.
func caches(model string) bool {
	_, claude, ok := strings.Cut(model, "anthropic.claude-")
	if !ok {
		return strings.Contains(model, "amazon.nova")
	}
	for _, old := range [...]string{"instant", "v2", "3-haiku", "3-sonnet", "3-opus", "3-5-sonnet"} {
		if strings.HasPrefix(claude, old) {
			return false
		}
	}
	return true
}

func (e *encoder) system() error {
	if len(e.r.System) == 0 {
		return nil
	}
	e.open(`"system":[`)
	err := e.parts(e.r.System)
	e.close(`]`)
	return err
}

func (e *encoder) messages() error {
	e.open(`"messages":[`)
	tools := false
	for i := range e.r.Turns {
		t := &e.r.Turns[i]
		if len(t.Results)+len(t.Parts)+len(t.Calls) == 0 {
			continue // nothing was said
		}
		role := "user"
		if t.Assistant {
			role = "assistant"
		}
		e.open(`{"role":"`, role, `","content":[`)
		if err := e.turn(t); err != nil {
			return err
		}
		e.close(`]}`)
		tools = tools || len(t.Results)+len(t.Calls) > 0
	}
	e.close(`]`)
	if tools && len(e.r.Tools) == 0 {
		return e.r.Unsayable("tools", "it wants them as long as the conversation has calls of any")
	}
	if tools && e.r.ToolChoice.Mode == "none" {
		return e.r.Unsayable("tool_choice", "it cannot be kept from calling again what was called before")
	}
	return nil
}

func (e *encoder) turn(t *chatform.Turn) error {
	for i := range t.Results {
		if err := e.result(&t.Results[i]); err != nil {
			return err
		}
	}
	e.thoughts(t.Thoughts)
	if err := e.parts(t.Parts); err != nil {
		return err
	}
	for i := range t.Calls {
		c := &t.Calls[i]
		e.open(`{"toolUse":{"toolUseId":`)
		if err := e.id(c.Param+".id", c.ID); err != nil {
			return err
		}
		e.open(`,"name":`, string(c.Name), `,"input":`, string(c.Input), `}},`)
	}
	return nil
}

// thoughts says what Claude signed, to Claude. An unsigned thought is input to no model here: their makers refuse or ignore it.
func (e *encoder) thoughts(thoughts []chatform.Thought) {
	if !strings.Contains(e.model, "anthropic.claude") {
		return
	}
	for _, t := range thoughts {
		switch {
		case t.Signature != nil && t.Text != nil:
			e.open(`{"reasoningContent":{"reasoningText":{"text":`, string(t.Text), `,"signature":`, string(t.Signature), `}}},`)
		case t.Data != nil:
			e.open(`{"reasoningContent":{"redactedContent":`, string(t.Data), `}},`)
		}
	}
}

// id says the id of a call, in the few characters that Converse takes.
func (e *encoder) id(param string, v openai.Value) error {
	id, err := v.Text(param)
	if err == nil {
		e.out = openai.AppendText(e.out, openai.PlainID(id))
	}
	return err
}

func (e *encoder) result(res *chatform.Result) error {
	e.open(`{"toolResult":{"toolUseId":`)
	if err := e.id(res.Param+".tool_call_id", res.ID); err != nil {
		return err
	}
	e.open(`,"content":[`)
	if err := e.parts(res.Parts); err != nil {
		return err
	}
	e.close(`]}}`)
	e.mark(res.Mark)
	return nil
}

// Formats by the type of the content.
var (
	imageFormats = map[string]string{"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
	audioFormats = map[string]string{"audio/wav": "wav", "audio/mp3": "mp3", "audio/flac": "flac", "audio/ogg": "ogg", "audio/opus": "opus", "audio/aac": "aac"}
	fileFormats  = map[string]string{
		"application/pdf": "pdf", "text/csv": "csv", "text/html": "html", "text/plain": "txt", "text/markdown": "md",
		"application/msword": "doc", "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
		"application/vnd.ms-excel": "xls", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
	}
)

func (e *encoder) parts(parts []chatform.Part) error {
	for i := range parts {
		p := &parts[i]
		kind, format := "", ""
		switch p.Kind {
		case chatform.Text:
			e.open(`{"text":`, string(p.Text), `},`)
			e.mark(p.Mark)
			continue
		case chatform.Image:
			kind, format = "image", imageFormats[p.Media]
		case chatform.Audio:
			kind, format = "audio", audioFormats[p.Media]
		case chatform.File:
			kind, format = "document", fileFormats[p.Media]
		}
		if p.URL != "" {
			return e.r.Unsayable(p.Param+".image_url.url", "it does not fetch what was not sent along")
		}
		if format == "" {
			return e.r.Unsayable(p.Param, "it reads no "+kind+" of type "+p.Media[:min(len(p.Media), 64)])
		}
		e.open(`{"`, kind, `":{"format":"`, format, `",`)
		if kind == "document" {
			if err := e.name(p); err != nil {
				return err
			}
		}
		e.open(`"source":{`)
		e.text("bytes", p.Data)
		e.close(`}}}`)
		e.mark(p.Mark)
	}
	return nil
}

// name says a document's name in the characters that Converse takes, and numbers it, because names must differ.
func (e *encoder) name(p *chatform.Part) error {
	name := "document"
	if p.Name != nil {
		var err error
		if name, err = p.Name.Text(p.Param + ".file.filename"); err != nil {
			return err
		}
	}
	const nameMax = 180
	clean := make([]byte, 0, len(name)+8)
	for i := 0; i < len(name) && len(clean) < nameMax; i++ {
		if c := name[i]; c == '-' || c == '(' || c == ')' || c == '[' || c == ']' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
			clean = append(clean, c)
		} else if len(clean) > 0 && clean[len(clean)-1] != ' ' {
			clean = append(clean, ' ')
		}
	}
	if e.files++; e.files > 1 || len(clean) == 0 {
		clean = strconv.AppendInt(append(clean, " ("...), int64(e.files), 10)
		clean = append(clean, ')')
	}
	e.text("name", strings.TrimSpace(string(clean)))
	return nil
}

// settings says how to answer.
func (e *encoder) settings() error {
	r := e.r
	if r.N > 1 {
		return r.Unsayable("n", "it gives one answer")
	}
	e.open(`"inferenceConfig":{`)
	if r.MaxTokens > 0 {
		e.open(`"maxTokens":`, strconv.Itoa(r.MaxTokens), `,`)
	}
	for _, f := range r.Settings {
		switch f.Name {
		case "temperature":
			if n, err := strconv.ParseFloat(string(f.Value), 64); err != nil || n > 1 {
				return r.Unsayable(f.Name, "it ends at 1")
			}
			e.open(`"temperature":`, string(f.Value), `,`)
		case "top_p":
			e.open(`"topP":`, string(f.Value), `,`)
		default:
			if f.Name == "seed" || !f.Value.Empty() {
				return r.Unsayable(f.Name, "Converse has no such field")
			}
		}
	}
	if len(r.Stop) > 0 {
		e.open(`"stopSequences":[`)
		for _, s := range r.Stop {
			e.open(string(s), `,`)
		}
		e.close(`]`)
	}
	e.close(`}`)
	return nil
}

func (e *encoder) tools() error {
	r := e.r
	if len(r.Tools) == 0 || r.ToolChoice.Mode == "none" { // a tool that must not be called need not be known
		return nil
	}
	e.open(`"toolConfig":{"tools":[`)
	for i := range r.Tools {
		t := &r.Tools[i]
		e.open(`{"toolSpec":{"name":`, string(t.Name), `,`)
		if !t.Description.Empty() {
			e.open(`"description":`, string(t.Description), `,`)
		}
		schema := t.Schema
		if schema.Empty() {
			schema = openai.Value(`{"type":"object","properties":{}}`)
		}
		e.open(`"inputSchema":{"json":`, string(schema), `},`)
		if t.Strict {
			e.open(`"strict":true,`)
		}
		e.close(`}}`)
		e.mark(t.Mark)
	}
	e.close(`]`)
	switch r.ToolChoice.Mode {
	case "auto":
		e.open(`"toolChoice":{"auto":{}},`)
	case "required":
		e.open(`"toolChoice":{"any":{}},`)
	case "function":
		e.open(`"toolChoice":{"tool":{"name":`, string(r.ToolChoice.Name), `}},`)
	}
	e.close(`}`)
	return nil
}

// format asks for an answer that keeps to a schema. Bedrock refuses a schema that it cannot keep to.
func (e *encoder) format() error {
	f := &e.r.Format
	if !f.JSON {
		return nil
	}
	if f.Schema == nil {
		return e.r.Unsayable("response_format", "it keeps to a schema or to none")
	}
	e.open(`"outputConfig":{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{`)
	e.text("schema", string(f.Schema))
	for _, m := range [...]openai.Field{{Name: "name", Value: f.Name}, {Name: "description", Value: f.Description}} {
		if m.Value.IsText() && !m.Value.Empty() {
			e.open(`"`, m.Name, `":`, string(m.Value), `,`)
		}
	}
	e.close(`}}}}`)
	return nil
}
