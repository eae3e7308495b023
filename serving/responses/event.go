package responses

import (
	"errors"
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// errNotResponses says that something is no event or answer of the dialect.
var errNotResponses = errors.New("responses: not a JSON object of the Responses API")

// Reader tells what the events of one answer in Responses hold.
type Reader struct{ content bool }

// object reads the members of a text that must be one JSON object.
func object(data []byte) (openai.Fields, error) {
	v, err := openai.ParseValue(data, openai.DecodeOptions{BodyMax: len(data)})
	if err != nil || !v.IsObject() {
		return nil, errNotResponses
	}
	fields, err := v.Fields("")
	if err != nil {
		return nil, errNotResponses
	}
	return fields, nil
}

// Event reads the payload of one event of a stream and keeps it. Events of kinds that it does not know have no Kind.
func (r *Reader) Event(data []byte) (openai.Chunk, error) {
	c := openai.Chunk{Data: data}
	fields, err := object(data)
	if err != nil {
		return c, err
	}
	if c.Name, err = fields.Get("type").Text("type"); err != nil {
		return c, errNotResponses
	}
	switch c.Name {
	case "response.completed", "response.incomplete":
		response, err := fields.Get("response").Fields("response")
		if err != nil {
			return c, errNotResponses
		}
		r.end(&c, response)
	case "response.failed", "error":
		c.Kind = openai.HasError
	case "response.output_item.added":
		if item, err := fields.Get("item").Fields("item"); err == nil && strings.HasSuffix(strings.Trim(string(item.Get("type")), `"`), "_call") {
			c.Kind = openai.HasContent
		}
	default:
		if strings.HasSuffix(c.Name, ".delta") && !fields.Get("delta").Empty() {
			c.Kind = openai.HasContent
		}
	}
	r.content = r.content || c.Kind.Has(openai.HasContent)
	return c, nil
}

// end reads the answer that stands in the last event. One that is incomplete is an answer, if an empty one.
func (r *Reader) end(c *openai.Chunk, response openai.Fields) {
	c.Kind = openai.HasFinish | openai.IsDone
	if !r.content && (!response.Get("output").Empty() || string(response.Get("status")) == `"incomplete"`) {
		c.Kind |= openai.HasContent
	}
	if c.Counted = usage(response.Get("usage")); c.Counted.Known {
		c.Kind |= openai.HasUsage
	}
}

// Whole reads an answer that is not streamed.
func (r *Reader) Whole(body []byte) (openai.Chunk, error) {
	c := openai.Chunk{Data: body, Name: "response", Kind: openai.IsDone}
	fields, err := object(body)
	if err != nil {
		return c, err
	}
	switch string(fields.Get("status")) {
	case `"completed"`, `"incomplete"`:
		r.end(&c, fields)
	default:
		if fields.Get("error").Empty() && string(fields.Get("status")) != `"failed"` {
			return c, errNotResponses
		}
		c.Kind = openai.HasError
	}
	return c, nil
}

// ErrorObject is the error of an event or answer that HasError, nil where it has none.
func ErrorObject(data []byte) []byte {
	fields, err := object(data)
	if err != nil {
		return nil
	}
	if response, err := fields.Get("response").Fields("response"); err == nil {
		fields = response
	}
	if e := fields.Get("error"); e != nil {
		return e
	}
	if fields.Get("message") != nil { // the event named error is the object itself
		return data
	}
	return nil
}

// usage reads a usage object. Without input and output it is not known.
func usage(v openai.Value) (u openai.Usage) {
	fields, err := v.Fields("usage")
	if err != nil {
		return u
	}
	in, out := number(fields.Get("input_tokens"), &u.Input), number(fields.Get("output_tokens"), &u.Output)
	if details, err := fields.Get("input_tokens_details").Fields("input_tokens_details"); err == nil {
		number(details.Get("cached_tokens"), &u.CacheRead)
		number(details.Get("cache_write_tokens"), &u.CacheWrite)
	}
	if details, err := fields.Get("output_tokens_details").Fields("output_tokens_details"); err == nil {
		number(details.Get("reasoning_tokens"), &u.Reasoning)
	}
	u.Known = in && out
	return u
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
