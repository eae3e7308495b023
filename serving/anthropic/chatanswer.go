package anthropic

import (
	"strconv"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// ChatWriter says an answer in Messages in chat, for clients of chat at Anthropic's arms.
type ChatWriter struct {
	// Created is the time of the answer in seconds, which Messages does not tell.
	Created int64

	id, model string
	calls     int
	// tool says that the open block is a call, argued that its arguments have begun.
	tool, argued bool
	usage        openai.Usage
	// thought and signature are of the open block, if it is one of thinking.
	thought   []byte
	signature string
}

// thoughtMax bounds a thought that is kept until its signature comes, and the signature.
const thoughtMax = 4 << 20

// finishReason is chat's name of a stop_reason.
func finishReason(stop string) string {
	switch stop {
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	case "refusal":
		return "content_filter"
	}
	return "stop"
}

// Event returns the chat events that say one event in Messages, which a Reader has read. What a client of chat cannot
// have asked for is an error.
func (w *ChatWriter) Event(c *openai.Chunk) ([]openai.Chunk, error) {
	fields, err := object(c.Data)
	if err != nil {
		return nil, err
	}
	switch c.Name {
	case "message_start":
		message, err := fields.Get("message").Fields("message")
		if err != nil {
			return nil, errNotMessages
		}
		w.id, _ = message.Get("id").Text("id") // one without an id stays without
		w.model, _ = message.Get("model").Text("model")
		w.usage = c.Counted
		out, err := w.chunks(`{"role":"assistant","content":""}`, "null")
		if err == nil {
			out[0].Counted = c.Counted
		}
		return out, err
	case "content_block_start":
		return w.blockStart(fields)
	case "content_block_delta":
		return w.blockDelta(fields)
	case "content_block_stop":
		switch {
		case w.tool && !w.argued: // a call without arguments
			return w.call(`"function":{"arguments":"{}"}`)
		case w.signature != "": // its maker wants the thought back as a whole
			return w.chunks(`{"reasoning_details":[`+signed(string(w.thought), w.signature)+`]}`, "null")
		}
	case "message_delta":
		w.usage = c.Counted
		delta, err := fields.Get("delta").Fields("delta")
		if err != nil || !c.Kind.Has(openai.HasFinish) {
			return nil, err
		}
		stop, err := delta.Get("stop_reason").Text("stop_reason")
		if err != nil {
			return nil, errNotMessages
		}
		out, err := w.chunks(`{}`, strconv.Quote(finishReason(stop)))
		out[0].Kind |= c.Kind & openai.HasContent
		return out, err
	case "message_stop":
		return w.done()
	}
	return nil, nil
}

// done ends the stream, with its usage.
func (w *ChatWriter) done() ([]openai.Chunk, error) {
	end := openai.Chunk{Data: []byte("[DONE]"), Kind: openai.IsDone}
	if !w.usage.Known {
		return []openai.Chunk{end}, nil
	}
	data := append(w.head(nil, "chat.completion.chunk"), `,"choices":[],"usage":`...)
	c, err := openai.ParseChunk(append(appendChatUsage(data, w.usage), '}'))
	return []openai.Chunk{c, end}, err
}

func (w *ChatWriter) head(dst []byte, object string) []byte {
	dst = openai.AppendText(append(dst, `{"id":`...), w.id)
	dst = openai.AppendText(append(dst, `,"object":`...), object)
	dst = strconv.AppendInt(append(dst, `,"created":`...), w.Created, 10)
	return openai.AppendText(append(dst, `,"model":`...), w.model)
}

// chunks is one chunk with a delta.
func (w *ChatWriter) chunks(delta, finish string) ([]openai.Chunk, error) {
	data := append(w.head(nil, "chat.completion.chunk"), `,"choices":[{"index":0,"delta":`...)
	data = append(append(append(append(data, delta...), `,"finish_reason":`...), finish...), '}', ']', '}')
	c, err := openai.ParseChunk(data)
	return []openai.Chunk{c}, err
}

func (w *ChatWriter) blockStart(fields openai.Fields) ([]openai.Chunk, error) {
	block, err := fields.Get("content_block").Fields("content_block")
	if err != nil {
		return nil, errNotMessages
	}
	w.tool, w.argued, w.thought, w.signature = false, false, w.thought[:0], ""
	switch string(block.Get("type")) {
	case `"text"`:
		return w.text("content", block.Get("text"))
	case `"thinking"`:
		if err := w.think(block); err != nil {
			return nil, err
		}
		return w.text("reasoning_content", block.Get("thinking"))
	case `"redacted_thinking"`: // only its maker can read it
		return w.chunks(`{"reasoning_details":[`+encrypted(block.Get("data"))+`]}`, "null")
	case `"tool_use"`:
		w.tool = true
		w.calls++
		return w.call(`"id":` + string(block.Get("id")) + `,"type":"function","function":{"name":` + string(block.Get("name")) + `,"arguments":""}`)
	}
	return nil, openai.Unsayable("it has a block of type %.64s", block.Get("type"))
}

func (w *ChatWriter) call(members string) ([]openai.Chunk, error) {
	return w.chunks(`{"tool_calls":[{"index":`+strconv.Itoa(w.calls-1)+`,`+members+`}]}`, "null")
}

func (w *ChatWriter) text(field string, v openai.Value) ([]openai.Chunk, error) {
	if v.Empty() || !v.IsText() {
		return nil, nil
	}
	return w.chunks(`{"`+field+`":`+string(v)+`}`, "null")
}

func (w *ChatWriter) blockDelta(fields openai.Fields) ([]openai.Chunk, error) {
	delta, err := fields.Get("delta").Fields("delta")
	if err != nil {
		return nil, errNotMessages
	}
	switch string(delta.Get("type")) {
	case `"text_delta"`:
		return w.text("content", delta.Get("text"))
	case `"thinking_delta"`, `"signature_delta"`:
		if err := w.think(delta); err != nil {
			return nil, err
		}
		return w.text("reasoning_content", delta.Get("thinking"))
	case `"input_json_delta"`:
		if part := delta.Get("partial_json"); w.tool && part.IsText() && !part.Empty() {
			w.argued = true
			return w.call(`"function":{"arguments":` + string(part) + `}`)
		}
	}
	return nil, nil // a citation
}

// think keeps a thought until its block ends, and its signature.
func (w *ChatWriter) think(piece openai.Fields) error {
	text, _ := piece.Get("thinking").Text("") // a signature comes without a text
	signature, _ := piece.Get("signature").Text("")
	if len(w.thought)+len(text) > thoughtMax || len(w.signature)+len(signature) > thoughtMax {
		return openai.Unsayable("a thought has more than %d bytes", thoughtMax)
	}
	w.thought, w.signature = append(w.thought, text...), w.signature+signature
	return nil
}

// signed and encrypted are thoughts as only their maker can read them, in OpenRouter's form, for clients that give an
// assistant's message back as they got it.
func signed(thought, signature string) string {
	detail := openai.AppendText([]byte(`{"type":"reasoning.text","text":`), thought)
	return string(append(openai.AppendText(append(detail, `,"signature":`...), signature), '}'))
}

func encrypted(data openai.Value) string {
	if !data.IsText() {
		data = openai.Value(`""`)
	}
	return `{"type":"reasoning.encrypted","data":` + string(data) + `}`
}

// appendChatUsage appends a usage object of chat.
func appendChatUsage(dst []byte, u openai.Usage) []byte {
	dst = strconv.AppendInt(append(dst, `{"prompt_tokens":`...), u.Input, 10)
	dst = strconv.AppendInt(append(dst, `,"completion_tokens":`...), u.Output, 10)
	dst = strconv.AppendInt(append(dst, `,"total_tokens":`...), u.Input+u.Output, 10)
	dst = strconv.AppendInt(append(dst, `,"prompt_tokens_details":{"cached_tokens":`...), u.CacheRead, 10)
	dst = strconv.AppendInt(append(dst, `,"cache_write_tokens":`...), u.CacheWrite, 10)
	dst = append(dst, '}')
	if u.CacheWrite1h > 0 {
		dst = append(strconv.AppendInt(append(dst, `,"cache_creation":{"ephemeral_1h_input_tokens":`...), u.CacheWrite1h, 10), '}')
	}
	if u.Reasoning > 0 {
		dst = append(strconv.AppendInt(append(dst, `,"completion_tokens_details":{"reasoning_tokens":`...), u.Reasoning, 10), '}')
	}
	return append(dst, '}')
}

// Whole says an answer that is not streamed in chat.
func (w *ChatWriter) Whole(c *openai.Chunk) (openai.Chunk, error) {
	fields, err := object(c.Data)
	if err != nil {
		return openai.Chunk{}, err
	}
	w.id, _ = fields.Get("id").Text("id") // one without an id stays without
	w.model, _ = fields.Get("model").Text("model")
	var m wholeMessage
	if err := fields.Get("content").Elements("content", func(_ int, v openai.Value) error { return m.block(v) }); err != nil {
		return openai.Chunk{}, err
	}
	data := m.append(append(w.head(nil, "chat.completion"), `,"choices":[{"index":0,"message":`...))
	stop, _ := fields.Get("stop_reason").Text("stop_reason")
	data = append(openai.AppendText(append(data, `,"finish_reason":`...), finishReason(stop)), '}', ']')
	if c.Counted.Known {
		data = appendChatUsage(append(data, `,"usage":`...), c.Counted)
	}
	out, err := openai.ParseChunk(append(data, '}'))
	out.Kind |= openai.IsDone | c.Kind&openai.HasContent
	return out, err
}

// wholeMessage gathers the blocks of an answer. Calls and details are lists without their brackets.
type wholeMessage struct {
	text, thought  string
	calls, details []byte
}

func (m *wholeMessage) block(v openai.Value) error {
	block, err := v.Fields("content")
	if err != nil {
		return errNotMessages
	}
	switch string(block.Get("type")) {
	case `"text"`:
		text, err := block.Get("text").Text("text")
		m.text += text
		return err
	case `"thinking"`:
		text, err := block.Get("thinking").Text("thinking")
		if m.thought += text; err != nil {
			return err
		}
		if signature, _ := block.Get("signature").Text(""); signature != "" { // copies of the API sign nothing
			m.details = append(comma(m.details), signed(text, signature)...)
		}
	case `"redacted_thinking"`: // only its maker can read it
		m.details = append(comma(m.details), encrypted(block.Get("data"))...)
	case `"tool_use"`:
		input := block.Get("input")
		if input == nil {
			input = openai.Value("{}")
		}
		m.calls = append(append(comma(m.calls), `{"id":`...), block.Get("id")...)
		m.calls = append(append(m.calls, `,"type":"function","function":{"name":`...), block.Get("name")...)
		m.calls = append(openai.AppendText(append(m.calls, `,"arguments":`...), string(input)), '}', '}')
	default:
		return openai.Unsayable("it has a block of type %.64s", block.Get("type"))
	}
	return nil
}

func (m *wholeMessage) append(dst []byte) []byte {
	dst = append(dst, `{"role":"assistant","content":`...)
	if m.text == "" && m.calls != nil {
		dst = append(dst, "null"...)
	} else {
		dst = openai.AppendText(dst, m.text)
	}
	if m.thought != "" {
		dst = openai.AppendText(append(dst, `,"reasoning_content":`...), m.thought)
	}
	if m.details != nil {
		dst = append(append(append(dst, `,"reasoning_details":[`...), m.details...), ']')
	}
	if m.calls != nil {
		dst = append(append(append(dst, `,"tool_calls":[`...), m.calls...), ']')
	}
	return append(dst, '}')
}
