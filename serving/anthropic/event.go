package anthropic

import (
	"errors"
	"strconv"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Reader tells what the events of one answer in Messages hold. The usage comes in two parts, input at the start and
// output at the end; the Reader puts them together.
type Reader struct {
	usage   openai.Usage
	content bool
}

// errNotMessages says that something is no event or answer of the dialect.
var errNotMessages = errors.New("anthropic: not a JSON object of the Messages API")

// Event reads the payload of one event of a stream and keeps it. Events of kinds that it does not know have no Kind.
func (r *Reader) Event(data []byte) (openai.Chunk, error) {
	c := openai.Chunk{Data: data}
	fields, err := object(data)
	if err != nil {
		return c, err
	}
	if c.Name, err = fields.Get("type").Text("type"); err != nil {
		return c, errNotMessages
	}
	switch c.Name {
	case "message_start":
		message, err := fields.Get("message").Fields("message")
		if err != nil {
			return c, errNotMessages
		}
		r.count(message.Get("usage"))
		c.Counted = r.usage
	case "content_block_start":
		block, err := fields.Get("content_block").Fields("content_block")
		if err != nil {
			return c, errNotMessages
		}
		if string(block.Get("type")) != `"text"` && string(block.Get("type")) != `"thinking"` || !block.Get("text").Empty() {
			c.Kind = openai.HasContent
		}
	case "content_block_delta":
		delta, err := fields.Get("delta").Fields("delta")
		if err != nil {
			return c, errNotMessages
		}
		if !saysNothing(delta) {
			c.Kind = openai.HasContent
		}
	case "message_delta":
		if err := r.end(&c, fields); err != nil {
			return c, err
		}
	case "message_stop":
		c.Kind = openai.IsDone
	case "error":
		c.Kind = openai.HasError
	}
	r.content = r.content || c.Kind.Has(openai.HasContent)
	return c, nil
}

// object reads the members of a text that must be one JSON object.
func object(data []byte) (openai.Fields, error) {
	v, err := openai.ParseValue(data, openai.DecodeOptions{BodyMax: len(data)})
	if err != nil || !v.IsObject() {
		return nil, errNotMessages
	}
	fields, err := v.Fields("")
	if err != nil {
		return nil, errNotMessages
	}
	return fields, nil
}

func saysNothing(delta openai.Fields) bool {
	for _, f := range delta {
		if f.Name != "type" && !f.Value.Empty() {
			return false
		}
	}
	return true
}

// end reads message_delta: why the answer ended and what it used. An answer that ended for a reason of its own is an
// answer, if an empty one: a model may have nothing more to say.
func (r *Reader) end(c *openai.Chunk, fields openai.Fields) error {
	delta, err := fields.Get("delta").Fields("delta")
	if err != nil {
		return errNotMessages
	}
	if delta.Get("stop_reason") != nil {
		if c.Kind |= openai.HasFinish; !r.content {
			c.Kind |= openai.HasContent
		}
	}
	if r.count(fields.Get("usage")) {
		c.Kind |= openai.HasUsage
	}
	c.Counted = r.usage
	c.Counted.Known = c.Kind.Has(openai.HasUsage)
	return nil
}

// Whole reads an answer that is not streamed.
func (r *Reader) Whole(body []byte) (openai.Chunk, error) {
	c := openai.Chunk{Data: body, Kind: openai.IsDone}
	fields, err := object(body)
	if err != nil {
		return c, err
	}
	switch string(fields.Get("type")) {
	case `"error"`:
		c.Kind = openai.HasError
		return c, nil
	case `"message"`:
	default:
		return c, errNotMessages
	}
	c.Name = "message"
	if fields.Get("stop_reason") != nil {
		c.Kind |= openai.HasFinish | openai.HasContent
	}
	if !fields.Get("content").Empty() {
		c.Kind |= openai.HasContent
	}
	if r.count(fields.Get("usage")) {
		c.Kind |= openai.HasUsage
	}
	c.Counted = r.usage
	c.Counted.Known = c.Kind.Has(openai.HasUsage)
	return c, nil
}

// ErrorObject is the error of an event or answer that HasError, nil where it has none.
func ErrorObject(data []byte) []byte {
	fields, err := object(data)
	if err != nil {
		return nil
	}
	return fields.Get("error")
}

// count takes what a usage object tells over into the usage, and reports whether it tells what came out. Counts that are
// missing stay as they were.
func (r *Reader) count(v openai.Value) bool {
	fields, err := v.Fields("usage")
	if err != nil {
		return false
	}
	u := &r.usage
	plain := u.Input - u.CacheRead - u.CacheWrite
	told := false
	for _, f := range fields {
		switch f.Name {
		case "input_tokens":
			number(f.Value, &plain)
		case "cache_read_input_tokens":
			number(f.Value, &u.CacheRead)
		case "cache_creation_input_tokens":
			number(f.Value, &u.CacheWrite)
		case "cache_creation":
			inner(f.Value, "ephemeral_1h_input_tokens", &u.CacheWrite1h)
		case "output_tokens":
			told = number(f.Value, &u.Output)
		case "output_tokens_details":
			inner(f.Value, "thinking_tokens", &u.Reasoning)
		}
	}
	u.Input = plain + u.CacheRead + u.CacheWrite
	return told
}

func inner(v openai.Value, name string, to *int64) {
	if fields, err := v.Fields(name); err == nil {
		number(fields.Get(name), to)
	}
}

// tokensMax is the most tokens that a usage may tell.
const tokensMax = 1 << 40

func number(v openai.Value, to *int64) bool {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 0 || n >= tokensMax {
		return false
	}
	*to = n
	return true
}
