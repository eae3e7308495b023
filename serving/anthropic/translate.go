package anthropic

import (
	"io"
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Source is an answer in chat, event by event. It ends with io.EOF.
type Source interface {
	Next() (openai.Chunk, error)
}

// Translator says an answer in chat in Messages, event by event. It is a Source itself.
type Translator struct {
	source Source
	stream bool
	// input is an estimate of the input tokens, for the start of a stream, when the vendor has told nothing yet.
	input int

	queue []openai.Chunk
	ended bool
	id    string
	usage openai.Usage
	stop  string
	// block is the number of the next block; open is the kind of the one that is open, "" where none is.
	block int
	open  string
	// call and calls tell the call that is open and how many there were, by the numbers of the vendor.
	call   int
	callID string
	calls  map[int]bool
}

// NewTranslator makes a translator of one answer.
func NewTranslator(source Source, stream bool, input int) *Translator {
	return &Translator{source: source, stream: stream, input: input, calls: map[int]bool{}}
}

// Next returns the next event in Messages. The errors are the source's, or an *openai.Error where what the vendor sent
// cannot be said.
func (t *Translator) Next() (openai.Chunk, error) {
	for len(t.queue) == 0 {
		if t.ended {
			return openai.Chunk{}, io.EOF
		}
		c, err := t.source.Next()
		switch {
		case err == io.EOF && t.stream:
			t.ended = true
			t.end()
			continue
		case err != nil:
			return openai.Chunk{}, err
		case !t.stream:
			return t.whole(&c)
		case string(c.Data) == "[DONE]":
			continue
		}
		if err := t.chunk(&c); err != nil {
			return openai.Chunk{}, err
		}
	}
	c := t.queue[0]
	t.queue = t.queue[1:]
	return c, nil
}

func unsaid(format string, args ...any) error {
	return openai.NewError(openai.UpstreamFailed, "the provider's answer cannot be said in this dialect: "+format, args...)
}

// emit queues an event.
func (t *Translator) emit(kind openai.Kind, name string, data []byte) {
	t.queue = append(t.queue, openai.Chunk{Data: data, Kind: kind, Name: name})
}

func (t *Translator) chunk(c *openai.Chunk) error {
	fields, err := object(c.Data)
	if err != nil {
		return unsaid("an event is not a JSON object")
	}
	if t.id == "" {
		t.start(fields)
	}
	if c.Kind.Has(openai.HasUsage) {
		if u := c.Usage(); u.Known || !t.usage.Known {
			t.usage = u
		}
	}
	choices := fields.Get("choices")
	if !choices.IsArray() {
		return nil
	}
	return choices.Elements("choices", func(i int, v openai.Value) error {
		choice, err := v.Fields("choice")
		if err != nil || i > 0 {
			return nil // one answer was asked for
		}
		if reason := choice.Get("finish_reason"); reason.IsText() && !reason.Empty() {
			t.stop, _ = reason.Text("finish_reason") // it is a string
		}
		delta, err := choice.Get("delta").Fields("delta")
		if err != nil {
			return nil
		}
		return t.said(delta)
	})
}

// start begins the message. The input is an estimate until the end tells it.
func (t *Translator) start(fields openai.Fields) {
	t.id = messageID(fields)
	data := openai.AppendText([]byte(`{"type":"message_start","message":{"id":`), t.id)
	data = append(data, `,"type":"message","role":"assistant","model":"","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":`...)
	data = strconv.AppendInt(data, int64(t.input), 10)
	t.emit(0, "message_start", append(data, `,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1,"tradewind_estimated":true}}}`...))
}

func messageID(fields openai.Fields) string {
	id, err := fields.Get("id").Text("id")
	if err != nil || id == "" {
		id = "unknown"
	}
	if strings.HasPrefix(id, "msg_") {
		return id
	}
	return "msg_" + id
}

// said takes what a delta says: reasoning, text, calls of tools.
func (t *Translator) said(delta openai.Fields) error {
	err := pieces(delta, func(kind, text string) {
		if text == "" {
			return
		}
		field, empty := "text", `{"type":"text","text":""}`
		if kind == "thinking" {
			field, empty = "thinking", `{"type":"thinking","thinking":"","signature":""}`
		}
		if t.open != kind {
			t.begin(kind, []byte(empty), 0)
		}
		t.delta(field+"_delta", field, text)
	})
	if calls := delta.Get("tool_calls"); err == nil && !calls.Empty() {
		err = calls.Elements("tool_calls", func(i int, v openai.Value) error { return t.toolCall(i, v) })
	}
	return err
}

// pieces hands out the reasoning and text of a message or delta. Kinds are "thinking" and "text".
func pieces(m openai.Fields, fn func(kind, text string)) error {
	for _, name := range [...]string{"reasoning_content", "reasoning", "content", "refusal"} {
		v := m.Get(name)
		if name == "reasoning" && m.Get("reasoning_content") != nil {
			continue // some vendors say it under both names
		}
		switch {
		case v.IsText():
			text, err := v.Text(name)
			if err != nil {
				return unsaid("%s", name)
			}
			if strings.HasPrefix(name, "reasoning") {
				fn("thinking", text)
			} else {
				fn("text", text)
			}
		case v.IsArray() && name == "content":
			if err := contentParts(v, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// contentParts reads a content that is a list, as Mistral's reasoning models send it.
func contentParts(v openai.Value, fn func(kind, text string)) error {
	return v.Elements("content", func(i int, v openai.Value) error {
		part, err := v.Fields("content")
		if err != nil {
			return unsaid("its content has something that is no part")
		}
		switch kind := string(part.Get("type")); {
		case kind == `"thinking"` && part.Get("thinking").IsArray():
			return contentParts(part.Get("thinking"), func(_, text string) { fn("thinking", text) })
		case kind == `"text"` || kind == `"thinking"`:
			name := strings.Trim(kind, `"`)
			text, err := part.Get(name).Text(name)
			if err != nil {
				return unsaid("its content has a part without a text")
			}
			fn(name, text)
			return nil
		}
		return unsaid("its content has a part of type %.64s", part.Get("type"))
	})
}

// begin closes the block that is open and opens one.
func (t *Translator) begin(kind string, block []byte, k openai.Kind) {
	t.close()
	data := strconv.AppendInt([]byte(`{"type":"content_block_start","index":`), int64(t.block), 10)
	t.emit(k, "content_block_start", append(append(append(data, `,"content_block":`...), block...), '}'))
	t.open = kind
}

func (t *Translator) close() {
	if t.open == "" {
		return
	}
	data := strconv.AppendInt([]byte(`{"type":"content_block_stop","index":`), int64(t.block), 10)
	t.emit(0, "content_block_stop", append(data, '}'))
	t.open = ""
	t.block++
}

func (t *Translator) delta(kind, field, text string) {
	data := strconv.AppendInt([]byte(`{"type":"content_block_delta","index":`), int64(t.block), 10)
	data = openai.AppendText(append(data, `,"delta":{"type":`...), kind)
	data = openai.AppendText(append(openai.AppendText(append(data, ','), field), ':'), text)
	t.emit(openai.HasContent, "content_block_delta", append(data, '}', '}'))
}

// callsMax bounds the calls of one answer.
const callsMax = 1024

func (t *Translator) toolCall(i int, v openai.Value) error {
	call, err := v.Fields("tool_calls")
	if err != nil {
		return unsaid("a call is not an object")
	}
	n := i
	if index := call.Get("index"); index != nil {
		if n, err = index.Integer("index", 0, callsMax); err != nil {
			return unsaid("a call has the number %.20s", index)
		}
	}
	f, err := call.Get("function").Fields("function")
	if err != nil {
		return nil // a custom tool's; none was offered
	}
	id, _ := call.Get("id").Text("id") // not there in the later pieces of a call
	if t.open != "tool" || t.call != n || id != "" && id != t.callID {
		if t.calls[n] && (id == "" || t.call == n && id == t.callID) {
			return unsaid("a call goes on after another one began")
		}
		if len(t.calls) >= callsMax {
			return unsaid("more than %d calls", callsMax)
		}
		t.call, t.callID, t.calls[n] = n, id, true
		if id == "" {
			id = "toolu_" + strings.TrimPrefix(t.id, "msg_") + "_" + strconv.Itoa(n)
		}
		name, _ := f.Get("name").Text("name") // a call without a name is the model's mistake, and stays one
		block := openai.AppendText([]byte(`{"type":"tool_use","id":`), id)
		block = openai.AppendText(append(block, `,"name":`...), name)
		t.begin("tool", append(block, `,"input":{}}`...), openai.HasContent)
	}
	if text, err := f.Get("arguments").Text("arguments"); err == nil && text != "" {
		t.delta("input_json_delta", "partial_json", text)
	}
	return nil
}

// end queues what ends the message.
func (t *Translator) end() {
	if t.id == "" {
		return
	}
	t.close()
	data := openai.AppendText([]byte(`{"type":"message_delta","delta":{"stop_reason":`), stopReason(t.stop, len(t.calls) > 0))
	data = append(data, `,"stop_sequence":null},"usage":{`...)
	kind := openai.HasFinish | openai.HasContent
	if t.usage.Known {
		data, kind = appendCounts(data, t.usage), kind|openai.HasUsage
	} else {
		data = append(data, `"output_tokens":0`...) // replaced by an estimate
	}
	t.emit(kind, "message_delta", append(data, '}', '}'))
	t.queue[len(t.queue)-1].Counted = t.usage
	t.emit(openai.IsDone, "message_stop", []byte(`{"type":"message_stop"}`))
}

// stopReason is Anthropic's name of a finish_reason. Some vendors say "stop" where they mean that a tool is called.
func stopReason(finish string, called bool) string {
	switch finish {
	case "length":
		return "max_tokens"
	case "content_filter":
		return "refusal"
	case "tool_calls", "function_call":
		return "tool_use"
	}
	if called {
		return "tool_use"
	}
	return "end_turn"
}

// whole says an answer that is not streamed.
func (t *Translator) whole(c *openai.Chunk) (openai.Chunk, error) {
	data, err := message(c)
	return openai.Chunk{Data: data, Kind: c.Kind, Name: "message", Counted: c.Usage()}, err
}

func message(c *openai.Chunk) ([]byte, error) {
	fields, err := object(c.Data)
	if err != nil {
		return nil, unsaid("it is not a JSON object")
	}
	var m openai.Fields
	finish := ""
	if choices := fields.Get("choices"); choices.IsArray() {
		err = choices.Elements("choices", func(i int, v openai.Value) error {
			choice, err := v.Fields("choice")
			if err != nil || i > 0 {
				return err
			}
			finish, _ = choice.Get("finish_reason").Text("finish_reason") // null while an answer has not ended
			m, err = choice.Get("message").Fields("message")
			return err
		})
	}
	if err != nil {
		return nil, unsaid("its choices are none")
	}
	blocks, called, err := blocksOf(m)
	if err != nil {
		return nil, err
	}
	data := openai.AppendText([]byte(`{"id":`), messageID(fields))
	data = append(append(append(data, `,"type":"message","role":"assistant","model":"","content":[`...), blocks...), ']')
	data = openai.AppendText(append(data, `,"stop_reason":`...), stopReason(finish, called))
	data = append(data, `,"stop_sequence":null,"usage":{`...)
	if u := c.Usage(); u.Known {
		data = appendCounts(data, u)
	}
	return append(data, '}', '}'), nil
}

// blocksOf are the blocks of a chat message, with commas between them.
func blocksOf(m openai.Fields) (blocks []byte, called bool, err error) {
	err = pieces(m, func(kind, text string) {
		switch {
		case text == "":
		case kind == "thinking":
			blocks = append(openai.AppendText(append(comma(blocks), `{"type":"thinking","thinking":`...), text), `,"signature":""}`...)
		default:
			blocks = append(openai.AppendText(append(comma(blocks), `{"type":"text","text":`...), text), '}')
		}
	})
	calls := m.Get("tool_calls")
	if err != nil || calls.Empty() {
		return blocks, false, err
	}
	err = calls.Elements("tool_calls", func(i int, v openai.Value) error {
		call, err := v.Fields("tool_calls")
		if err != nil {
			return unsaid("a call is not an object")
		}
		f, err := call.Get("function").Fields("function")
		if err != nil {
			return unsaid("a call is none of a function")
		}
		input, err := arguments("arguments", f.Get("arguments"))
		if err != nil {
			return unsaid("a tool is called with arguments that are not a JSON object")
		}
		id, _ := call.Get("id").Text("id") // some vendors give none
		if id == "" {
			id = "toolu_" + strconv.Itoa(i)
		}
		name, _ := f.Get("name").Text("name") // a call without a name is the model's mistake, and stays one
		blocks = openai.AppendText(append(comma(blocks), `{"type":"tool_use","id":`...), id)
		blocks = openai.AppendText(append(blocks, `,"name":`...), name)
		blocks = append(append(append(blocks, `,"input":`...), input...), '}')
		called = true
		return nil
	})
	return blocks, called, err
}
