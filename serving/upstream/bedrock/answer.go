package bedrock

import (
	"errors"
	"strconv"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/chatform"
	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// This file says answers of Converse in chat.

// errNotConverse says that something is no event or answer of the dialect.
var errNotConverse = errors.New("bedrock: not a JSON object of the Converse API")

// Limits of one answer: its calls, and the bytes of a thought that is kept until its signature comes.
const (
	callsMax   = 1024
	thoughtMax = 4 << 20
)

// reader reads an answer.
type reader struct {
	w      chatform.Writer
	hidden bool
	usage  openai.Usage
	calls  int
	ended  bool

	// call says that the open block is a call, argued that its arguments have begun. thought and signature are of the open
	// block, if it is one of thinking.
	call, argued bool
	thought      []byte
	signature    string
}

// object reads the members of a text that must be one JSON object.
func object(data []byte) (openai.Fields, error) {
	v, err := openai.ParseValue(data, openai.DecodeOptions{BodyMax: max(len(data), 1)})
	if err != nil || !v.IsObject() {
		return nil, errNotConverse
	}
	return fieldsOf(v)
}

func fieldsOf(v openai.Value) (openai.Fields, error) {
	fields, err := v.Fields("")
	if err != nil {
		return nil, errNotConverse
	}
	return fields, nil
}

// wrong makes an error of this dialect of one that is about the form of a value.
func wrong(err error) error {
	var e *upstream.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return errNotConverse
}

// event returns the chat events that say one event. Events of kinds that it does not know say nothing.
func (r *reader) event(name string, payload []byte) ([]openai.Chunk, error) {
	fields, err := object(payload)
	if err != nil {
		return nil, err
	}
	switch name {
	case "messageStart":
		return r.w.Start(nil, 0), nil
	case "contentBlockStart":
		return r.blockStart(fields)
	case "contentBlockDelta":
		return r.blockDelta(fields)
	case "contentBlockStop":
		return r.blockStop(), nil
	case "messageStop":
		reason, err := fields.Get("stopReason").Text("")
		if err != nil {
			return nil, errNotConverse
		}
		if reason, err = r.finish(reason); err != nil {
			return nil, err
		}
		return r.w.Finish(nil, 0, reason), nil
	case "metadata":
		r.count(fields.Get("usage"))
	}
	return nil, nil
}

func (r *reader) blockStart(fields openai.Fields) ([]openai.Chunk, error) {
	r.call, r.argued, r.thought, r.signature = false, false, r.thought[:0], ""
	start, err := fieldsOf(fields.Get("start"))
	if err != nil {
		return nil, err
	}
	if use := start.Get("toolUse"); use != nil {
		c, err := r.begin(use)
		if err != nil {
			return nil, err
		}
		r.call = true
		return r.w.Piece(nil, &chatform.Piece{Call: c}), nil
	}
	if !emptyUnion(start) {
		return nil, unsaid(start)
	}
	return nil, nil
}

func emptyUnion(fields openai.Fields) bool {
	for _, f := range fields {
		if fields.Get(f.Name) != nil {
			return false
		}
	}
	return true
}

// unsaid is the error of content that chat has no place for.
func unsaid(union openai.Fields) error {
	name := ""
	if len(union) > 0 {
		name = union[0].Name
	}
	return httpclient.BadAnswer("the answer has a block of kind %.64q, which chat cannot say", name)
}

// begin is the beginning of a call, without its arguments.
func (r *reader) begin(use openai.Value) (*chatform.CallPiece, error) {
	fields, err := fieldsOf(use)
	if err != nil {
		return nil, err
	}
	id, err := fields.Get("toolUseId").Text("")
	if err != nil || r.calls >= callsMax {
		return nil, errNotConverse
	}
	name, err := fields.Get("name").Text("")
	if err != nil {
		return nil, errNotConverse
	}
	r.calls++
	return &chatform.CallPiece{Index: r.calls - 1, ID: id, Name: name}, nil
}

func (r *reader) blockDelta(fields openai.Fields) ([]openai.Chunk, error) {
	delta, err := fieldsOf(fields.Get("delta"))
	if err != nil {
		return nil, err
	}
	switch {
	case delta.Get("text").IsText():
		return r.w.Piece(nil, &chatform.Piece{Text: delta.Get("text")}), nil
	case delta.Get("toolUse") != nil:
		use, err := fieldsOf(delta.Get("toolUse"))
		if err != nil {
			return nil, err
		}
		part, err := use.Get("input").Text("")
		if err != nil || !r.call {
			return nil, errNotConverse
		}
		if part == "" {
			return nil, nil
		}
		r.argued = true
		return r.w.Piece(nil, &chatform.Piece{Call: &chatform.CallPiece{Index: r.calls - 1, Arguments: part}}), nil
	case delta.Get("reasoningContent") != nil:
		return r.thoughtDelta(delta.Get("reasoningContent"))
	case delta.Get("citation") != nil, emptyUnion(delta): // where a text is from; nobody can have asked
		return nil, nil
	}
	return nil, unsaid(delta)
}

// thoughtDelta passes on what can be read, and keeps it until its signature is there.
func (r *reader) thoughtDelta(v openai.Value) ([]openai.Chunk, error) {
	fields, err := fieldsOf(v)
	if err != nil {
		return nil, err
	}
	if signature, err := fields.Get("signature").Text(""); err == nil {
		if r.signature += signature; len(r.signature) > thoughtMax {
			return nil, errNotConverse
		}
	}
	p := chatform.Piece{}
	if data := fields.Get("redactedContent"); data.IsText() {
		p.Details = append(append([]byte(`[{"type":"reasoning.encrypted","data":`), data...), '}', ']')
	}
	if text := fields.Get("text"); text.IsText() && !r.hidden {
		p.Thought = text
	}
	if text, err := fields.Get("text").Text(""); err == nil && len(r.thought)+len(text) <= thoughtMax {
		r.thought = append(r.thought, text...)
	}
	return r.w.Piece(nil, &p), nil
}

// blockStop ends a block: a call without arguments has the empty ones, and a signed thought is told as a whole, because
// its model wants it back that way.
func (r *reader) blockStop() []openai.Chunk {
	p := chatform.Piece{}
	switch {
	case r.call && !r.argued:
		p.Call = &chatform.CallPiece{Index: r.calls - 1, Arguments: "{}"}
	case r.signature != "":
		p.Details = signed(string(r.thought), r.signature)
	}
	r.call, r.argued, r.thought, r.signature = false, false, r.thought[:0], ""
	return r.w.Piece(nil, &p)
}

func signed(thought, signature string) []byte {
	details := openai.AppendText([]byte(`[{"type":"reasoning.text","text":`), thought)
	return append(openai.AppendText(append(details, `,"signature":`...), signature), '}', ']')
}

// finish is chat's name of a stopReason.
func (r *reader) finish(reason string) (string, error) {
	r.ended = true
	switch reason {
	case "max_tokens", "model_context_window_exceeded":
		return "length", nil
	case "guardrail_intervened", "content_filtered", "refusal":
		return "content_filter", nil
	case "malformed_model_output", "malformed_tool_use":
		return "", httpclient.BadAnswer("the model's answer ended with %s", reason)
	}
	if r.calls > 0 {
		return "tool_calls", nil
	}
	return "stop", nil
}

// count takes over the usage. Its input does not hold what was read from caches or written to them.
func (r *reader) count(v openai.Value) {
	fields, err := v.Fields("")
	if err != nil || fields.Get("inputTokens") == nil || fields.Get("outputTokens") == nil {
		return
	}
	u := openai.Usage{Known: true, CacheRead: tokens(fields.Get("cacheReadInputTokens")), CacheWrite: tokens(fields.Get("cacheWriteInputTokens"))}
	u.Input, u.Output = tokens(fields.Get("inputTokens"))+u.CacheRead+u.CacheWrite, tokens(fields.Get("outputTokens"))
	if details := fields.Get("cacheDetails"); details.IsArray() {
		_ = details.Elements("", func(_ int, v openai.Value) error { // what cannot be read is not told apart
			detail, err := v.Fields("")
			if err == nil && string(detail.Get("ttl")) == `"1h"` {
				u.CacheWrite1h += tokens(detail.Get("inputTokens"))
			}
			return err
		})
	}
	r.usage = u
}

// tokensMax is the most tokens that a count may tell.
const tokensMax = 1 << 40

func tokens(v openai.Value) int64 {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 0 || n >= tokensMax {
		return 0
	}
	return n
}

// whole says an answer that is not streamed.
func (r *reader) whole(body []byte) (openai.Chunk, error) {
	fields, err := object(body)
	if err != nil {
		return openai.Chunk{}, err
	}
	output, err := fieldsOf(fields.Get("output"))
	if err != nil {
		return openai.Chunk{}, err
	}
	message, err := fieldsOf(output.Get("message"))
	if err != nil {
		return openai.Chunk{}, err
	}
	all := chatform.Whole{OneCall: r.w.OneCall}
	if content := message.Get("content"); content != nil {
		if err := content.Elements("", func(_ int, v openai.Value) error { return r.block(v, &all) }); err != nil {
			return openai.Chunk{}, wrong(err)
		}
	}
	reason, err := fields.Get("stopReason").Text("")
	if err != nil {
		return openai.Chunk{}, errNotConverse
	}
	if reason, err = r.finish(reason); err != nil {
		return openai.Chunk{}, err
	}
	all.Finish(0, reason)
	r.count(fields.Get("usage"))
	return all.Answer(&r.w, r.usage), nil
}

func (r *reader) block(v openai.Value, all *chatform.Whole) error {
	block, err := fieldsOf(v)
	if err != nil {
		return err
	}
	p := chatform.Piece{}
	switch {
	case block.Get("text").IsText():
		p.Text = block.Get("text")
	case block.Get("toolUse") != nil:
		if p.Call, err = r.begin(block.Get("toolUse")); err != nil {
			return err
		}
		p.Call.Arguments = "{}"
		use, err := fieldsOf(block.Get("toolUse"))
		if err != nil {
			return err
		}
		if input := use.Get("input"); input != nil {
			p.Call.Arguments = string(input)
		}
	case block.Get("reasoningContent") != nil:
		return r.wholeThought(block.Get("reasoningContent"), all)
	case emptyUnion(block):
	default:
		return unsaid(block)
	}
	all.Add(&p)
	return nil
}

func (r *reader) wholeThought(v openai.Value, all *chatform.Whole) error {
	fields, err := fieldsOf(v)
	if err != nil {
		return err
	}
	p := chatform.Piece{}
	if data := fields.Get("redactedContent"); data.IsText() {
		p.Details = append(append([]byte(`[{"type":"reasoning.encrypted","data":`), data...), '}', ']')
	}
	if inner := fields.Get("reasoningText"); inner != nil {
		said, err := fieldsOf(inner)
		if err != nil {
			return err
		}
		text, err := said.Get("text").Text("")
		if err != nil {
			return errNotConverse
		}
		if !r.hidden {
			p.Thought = said.Get("text")
		}
		if signature, err := said.Get("signature").Text(""); err == nil && signature != "" {
			p.Details = signed(text, signature)
		}
	}
	all.Add(&p)
	return nil
}
