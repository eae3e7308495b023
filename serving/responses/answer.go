package responses

import (
	"encoding/json"
	"strconv"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Writer writes one answer, whose events are of this dialect, for a client: the model that answered, what it cost, and
// the decision where it was asked for. The zero value needs Served.
type Writer struct {
	// Served is the arm that answers; it replaces the model.
	Served catalog.ArmID

	// last is the event that ends the answer, held back until the cost is known; response is the answer as it was last seen.
	last     openai.Value
	name     string
	response openai.Value
	sequence int
}

// AppendWhole appends the body of an answer that is not streamed.
func (w *Writer) AppendWhole(dst []byte, c *openai.Chunk, f openai.Final) ([]byte, error) {
	v, err := openai.ParseValue(c.Data, openai.DecodeOptions{BodyMax: len(c.Data)})
	if err != nil {
		return nil, err
	}
	return append(dst, w.final(v, f)...), nil
}

// final is an answer with all that is known at its end.
func (w *Writer) final(response openai.Value, f openai.Final) openai.Value {
	fields, err := response.Fields("response")
	if err != nil {
		return response
	}
	response = w.named(response)
	response = openai.AppendReplaced(nil, response, "usage", openai.AppendUsage(nil, fields.Get("usage"), f, appendCounts))
	if f.Explain != nil {
		response = openai.AppendReplaced(nil, response, "tradewind", f.Explain)
	}
	return response
}

func (w *Writer) named(response openai.Value) openai.Value {
	return openai.AppendReplaced(nil, response, "model", openai.AppendText(nil, string(w.Served)))
}

// AppendEvent appends what the client gets for one event, nothing where it must wait for the end.
func (w *Writer) AppendEvent(dst []byte, c *openai.Chunk) []byte {
	fields, err := object(c.Data)
	if err != nil {
		return dst
	}
	if n, err := fields.Get("sequence_number").Integer("sequence_number", 0, openai.OutputMax); err == nil {
		w.sequence = n + 1
	}
	response := fields.Get("response")
	switch {
	case c.Kind.Has(openai.IsDone):
		w.last, w.name, w.response = append(openai.Value(nil), c.Data...), c.Name, append(openai.Value(nil), response...)
		return dst
	case response.IsObject():
		response = w.named(response)
		w.response = response
		return openai.AppendNamed(dst, c.Name, openai.AppendReplaced(nil, c.Data, "response", response))
	}
	return openai.AppendNamed(dst, c.Name, c.Data)
}

// AppendEnd appends the end of a stream: the answer with its cost, or the error that it broke off with.
func (w *Writer) AppendEnd(dst []byte, f openai.Final, e *openai.Error) []byte {
	if e == nil {
		return openai.AppendNamed(dst, w.name, openai.AppendReplaced(nil, w.last, "response", w.final(w.response, f)))
	}
	failure := appendFailure(nil, e)
	dst = openai.AppendNamed(dst, "error", openai.AppendReplaced(nil, openai.AppendReplaced(nil, failure, "type", []byte(`"error"`)), "sequence_number", w.next()))
	response := w.response
	if !response.IsObject() {
		response = openai.Value(`{"object":"response","output":[]}`)
	}
	response = openai.AppendReplaced(nil, openai.AppendReplaced(nil, w.named(response), "status", []byte(`"failed"`)), "error", failure)
	last := openai.AppendReplaced([]byte(nil), openai.Value(`{"type":"response.failed"}`), "sequence_number", w.next())
	return openai.AppendNamed(dst, "response.failed", openai.AppendReplaced(nil, last, "response", response))
}

func (w *Writer) next() []byte {
	w.sequence++
	return strconv.AppendInt(nil, int64(w.sequence-1), 10)
}

// appendFailure appends the error of a failed answer.
func appendFailure(dst []byte, e *openai.Error) []byte {
	body, err := json.Marshal(struct {
		Code    openai.Code `json:"code"`
		Message string      `json:"message"`
		Param   *string     `json:"param"`
	}{e.Code, e.Message, nil})
	if err != nil { // cannot happen: strings always marshal
		body = []byte(`{"code":"internal_error","message":"internal error"}`)
	}
	return append(dst, body...)
}

// appendCounts appends the members of a usage object, without braces.
func appendCounts(dst []byte, u openai.Usage) []byte {
	dst = strconv.AppendInt(append(dst, `"input_tokens":`...), u.Input, 10)
	dst = strconv.AppendInt(append(dst, `,"input_tokens_details":{"cached_tokens":`...), u.CacheRead, 10)
	if u.CacheWrite > 0 {
		dst = strconv.AppendInt(append(dst, `,"cache_write_tokens":`...), u.CacheWrite, 10)
	}
	dst = strconv.AppendInt(append(dst, `},"output_tokens":`...), u.Output, 10)
	dst = strconv.AppendInt(append(dst, `,"output_tokens_details":{"reasoning_tokens":`...), u.Reasoning, 10)
	return strconv.AppendInt(append(dst, `},"total_tokens":`...), u.Input+u.Output, 10)
}
