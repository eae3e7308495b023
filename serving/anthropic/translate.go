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
	calls openai.CallOrder
	// refused says that what the model said was a refusal.
	refused bool
}

// NewTranslator makes a translator of one answer.
func NewTranslator(source Source, stream bool, input int) *Translator {
	return &Translator{source: source, stream: stream, input: input}
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

// emit queues an event.
func (t *Translator) emit(kind openai.Kind, name string, data []byte) {
	t.queue = append(t.queue, openai.Chunk{Data: data, Kind: kind, Name: name})
}

func (t *Translator) chunk(c *openai.Chunk) error {
	fields, err := object(c.Data)
	if err != nil {
		return openai.Unsayable("an event is not a JSON object")
	}
	if t.id == "" {
		t.start(fields)
	}
	if c.Kind.Has(openai.HasUsage) {
		if u := c.Usage(); u.Known || !t.usage.Known {
			t.usage = u
		}
	}
	said, stop, err := openai.FirstChoice(fields)
	if stop != "" {
		t.stop = stop
	}
	if err != nil || said == nil {
		return err
	}
	return t.said(said)
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
	err := openai.Pieces(delta, func(kind openai.Piece, text string) {
		if text == "" {
			return
		}
		t.refused = t.refused || kind == openai.Refusal
		field, empty := "text", `{"type":"text","text":""}`
		if kind == openai.Reasoning {
			field, empty = "thinking", `{"type":"thinking","thinking":"","signature":""}`
		}
		if t.open != field {
			t.begin(field, []byte(empty), 0)
		}
		t.delta(field+"_delta", field, text)
	})
	if err != nil {
		return err
	}
	return openai.Calls(delta, t.toolCall)
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

func (t *Translator) toolCall(c openai.Call) error {
	begins, err := t.calls.Begins(&c, t.open == "tool")
	if err != nil {
		return err
	}
	if begins {
		if c.ID == "" {
			c.ID = "toolu_" + strings.TrimPrefix(t.id, "msg_") + "_" + strconv.Itoa(c.Index)
		}
		block := openai.AppendText([]byte(`{"type":"tool_use","id":`), openai.PlainID(c.ID)) // it may go to Anthropic next
		block = openai.AppendText(append(block, `,"name":`...), c.Name)
		t.begin("tool", append(block, `,"input":{}}`...), openai.HasContent)
	}
	if c.Arguments != "" {
		t.delta("input_json_delta", "partial_json", c.Arguments)
	}
	return nil
}

// end queues what ends the message.
func (t *Translator) end() {
	if t.id == "" {
		return
	}
	t.close()
	data := openai.AppendText([]byte(`{"type":"message_delta","delta":{"stop_reason":`), stopReason(t.stop, t.calls.Began(), t.refused))
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

// stopReason is Anthropic's name of a finish_reason. Some vendors say "stop" where they mean that a tool is called, and chat
// says it of a refusal, which a client that wants JSON must know.
func stopReason(finish string, called, refused bool) string {
	switch finish {
	case "length":
		return "max_tokens"
	case "content_filter":
		return "refusal"
	case "tool_calls", "function_call":
		return "tool_use"
	}
	switch {
	case called:
		return "tool_use"
	case refused:
		return "refusal"
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
		return nil, openai.Unsayable("it is not a JSON object")
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
		return nil, openai.Unsayable("its choices are none")
	}
	b := blocks{cut: finish == "length"}
	if err := b.of(m); err != nil {
		return nil, err
	}
	data := openai.AppendText([]byte(`{"id":`), messageID(fields))
	data = append(append(append(data, `,"type":"message","role":"assistant","model":"","content":[`...), b.list...), ']')
	data = openai.AppendText(append(data, `,"stop_reason":`...), stopReason(finish, b.called, b.refused))
	data = append(data, `,"stop_sequence":null,"usage":{`...)
	if u := c.Usage(); u.Known {
		data = appendCounts(data, u)
	}
	return append(data, '}', '}'), nil
}

// blocks are those of a chat message, as a list without its brackets.
type blocks struct {
	list            []byte
	called, refused bool
	// cut says that the answer reached the cap on its tokens.
	cut bool
}

func (b *blocks) of(m openai.Fields) error {
	err := openai.Pieces(m, func(kind openai.Piece, text string) {
		switch {
		case text == "":
		case kind == openai.Reasoning:
			b.list = append(openai.AppendText(append(comma(b.list), `{"type":"thinking","thinking":`...), text), `,"signature":""}`...)
		default:
			b.refused = b.refused || kind == openai.Refusal
			b.list = append(openai.AppendText(append(comma(b.list), `{"type":"text","text":`...), text), '}')
		}
	})
	if err != nil {
		return err
	}
	return openai.Calls(m, b.call)
}

// call adds a call. One that was cut off has arguments that are no object: as at Anthropic its block stands there, and the
// stop_reason says that it is not whole.
func (b *blocks) call(c openai.Call) error {
	input, err := arguments("arguments", openai.AppendText(nil, c.Arguments))
	switch {
	case err != nil && b.cut:
		input = openai.Value("{}")
	case err != nil:
		return openai.Unsayable("a tool is called with arguments that are not a JSON object")
	}
	if c.ID == "" {
		c.ID = "toolu_" + strconv.Itoa(c.Index)
	}
	b.list = openai.AppendText(append(comma(b.list), `{"type":"tool_use","id":`...), openai.PlainID(c.ID)) // it may go to Anthropic next
	b.list = openai.AppendText(append(b.list, `,"name":`...), c.Name)
	b.list = append(append(append(b.list, `,"input":`...), input...), '}')
	b.called = true
	return nil
}
