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
}

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

// Event returns the chat events that say one event in Messages, which a Reader has read. Signatures and marks have no
// place in chat; what a client of chat cannot have asked for is an error.
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
		if w.tool && !w.argued { // a call without arguments
			return w.call(`"function":{"arguments":"{}"}`)
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
	w.tool, w.argued = false, false
	switch string(block.Get("type")) {
	case `"text"`:
		return w.text("content", block.Get("text"))
	case `"thinking"`:
		return w.text("reasoning_content", block.Get("thinking"))
	case `"redacted_thinking"`: // only its maker can read it
		return nil, nil
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
	case `"thinking_delta"`:
		return w.text("reasoning_content", delta.Get("thinking"))
	case `"input_json_delta"`:
		if part := delta.Get("partial_json"); w.tool && part.IsText() && !part.Empty() {
			w.argued = true
			return w.call(`"function":{"arguments":` + string(part) + `}`)
		}
	}
	return nil, nil // a signature or a citation
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
	var text, thought string
	var calls []byte
	err = fields.Get("content").Elements("content", func(i int, v openai.Value) error {
		block, err := v.Fields("content")
		if err != nil {
			return errNotMessages
		}
		switch kind := string(block.Get("type")); kind {
		case `"text"`, `"thinking"`:
			name, to := "text", &text
			if kind == `"thinking"` {
				name, to = "thinking", &thought
			}
			s, err := block.Get(name).Text(name)
			*to += s
			return err
		case `"redacted_thinking"`: // only its maker can read it
		case `"tool_use"`:
			input := block.Get("input")
			if input == nil {
				input = openai.Value("{}")
			}
			calls = append(append(comma(calls), `{"id":`...), block.Get("id")...)
			calls = append(append(calls, `,"type":"function","function":{"name":`...), block.Get("name")...)
			calls = append(openai.AppendText(append(calls, `,"arguments":`...), string(input)), '}', '}')
		default:
			return openai.Unsayable("it has a block of type %.64s", block.Get("type"))
		}
		return nil
	})
	if err != nil {
		return openai.Chunk{}, err
	}
	data := append(w.head(nil, "chat.completion"), `,"choices":[{"index":0,"message":{"role":"assistant","content":`...)
	if text == "" && calls != nil {
		data = append(data, "null"...)
	} else {
		data = openai.AppendText(data, text)
	}
	if thought != "" {
		data = openai.AppendText(append(data, `,"reasoning_content":`...), thought)
	}
	if calls != nil {
		data = append(append(append(data, `,"tool_calls":[`...), calls...), ']')
	}
	stop, _ := fields.Get("stop_reason").Text("stop_reason")
	data = append(openai.AppendText(append(data, `},"finish_reason":`...), finishReason(stop)), '}', ']')
	if c.Counted.Known {
		data = appendChatUsage(append(data, `,"usage":`...), c.Counted)
	}
	out, err := openai.ParseChunk(append(data, '}'))
	out.Kind |= openai.IsDone | c.Kind&openai.HasContent
	return out, err
}
