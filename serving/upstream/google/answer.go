package google

import (
	"errors"
	"strconv"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/chatform"
	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// This file says Google's answers in chat. Every event of a stream has the form of a whole answer.

// errNotGoogle says that something is no event or answer of the dialect.
var errNotGoogle = errors.New("google: not a JSON object of the generateContent API")

// callsMax bounds the calls of one answer.
const callsMax = 1024

// reader reads an answer, event by event.
type reader struct {
	w     chatform.Writer
	usage openai.Usage
	// calls counts those of each choice; ended holds why each choice ended, "" while it has not.
	calls [choicesMax]int
	ended [choicesMax]string
	// seen are the choices that have said anything at all.
	seen int
}

// sink takes what an event holds.
type sink interface {
	piece(p *chatform.Piece)
	finish(choice int, reason string)
}

// event reads one event. Its error is an *upstream.Error where the answer is a refusal or a failure.
func (r *reader) event(data []byte, to sink) error {
	v, err := openai.ParseValue(data, openai.DecodeOptions{BodyMax: max(len(data), 1)})
	if err != nil || !v.IsObject() {
		return errNotGoogle
	}
	fields, err := v.Fields("")
	if err != nil {
		return errNotGoogle
	}
	if refusal := fields.Get("error"); refusal != nil {
		return &inBand{object: refusal}
	}
	if id, err := fields.Get("responseId").Text(""); err == nil && r.w.ID == "" {
		r.w.ID = id
	}
	if model, err := fields.Get("modelVersion").Text(""); err == nil && r.w.Model == "" {
		r.w.Model = model
	}
	if u := fields.Get("usageMetadata"); u != nil {
		r.count(u)
	}
	candidates := fields.Get("candidates")
	if candidates.Empty() {
		return r.blocked(fields.Get("promptFeedback"))
	}
	return wrong(candidates.Elements("candidates", func(i int, v openai.Value) error { return r.candidate(i, v, to) }))
}

// inBand is an answer that is an error.
type inBand struct{ object openai.Value }

func (e *inBand) Error() string { return "google: the answer is an error" }

// blocked is what an event without candidates says: that the prompt was refused, or nothing.
func (r *reader) blocked(v openai.Value) error {
	feedback, err := v.Fields("")
	if err != nil {
		return nil
	}
	reason, err := feedback.Get("blockReason").Text("")
	if err != nil || reason == "BLOCK_REASON_UNSPECIFIED" {
		return nil
	}
	return &upstream.Error{Class: upstream.ContentPolicy, Status: 200, Code: reason, Message: "the provider refused the prompt: " + clip(reason)}
}

// clip bounds a name that a vendor gives.
func clip(s string) string { return s[:min(len(s), 100)] }

func (r *reader) candidate(i int, v openai.Value, to sink) error {
	c, err := v.Fields("")
	if err != nil {
		return errNotGoogle
	}
	if n := c.Get("index"); n != nil {
		if i, err = n.Integer("", 0, choicesMax-1); err != nil {
			return errNotGoogle
		}
	}
	if i >= choicesMax {
		return errNotGoogle
	}
	r.seen = max(r.seen, i+1)
	if content := c.Get("content"); content != nil {
		fields, err := content.Fields("")
		if err != nil {
			return errNotGoogle
		}
		if parts := fields.Get("parts"); parts != nil {
			if err := parts.Elements("", func(_ int, v openai.Value) error { return r.part(i, v, to) }); err != nil {
				return wrong(err)
			}
		}
	}
	reason, err := c.Get("finishReason").Text("")
	if err != nil || reason == "" || reason == "FINISH_REASON_UNSPECIFIED" || r.ended[i] != "" {
		return nil
	}
	if r.ended[i] = reason; failed(reason) {
		return httpclient.BadAnswer("the model's answer ended with %s", clip(reason))
	}
	to.finish(i, finishReason(reason, r.calls[i] > 0))
	return nil
}

// wrong makes an error of this dialect of one that is about the form of a value.
func wrong(err error) error {
	var e *upstream.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return errNotGoogle
}

// failed reports whether a model ended an answer without meaning to.
func failed(reason string) bool {
	switch reason {
	case "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE", "OTHER", "NO_IMAGE", "IMAGE_OTHER":
		return true
	}
	return false
}

// finishReason is chat's name of a finishReason.
func finishReason(reason string, called bool) string {
	switch reason {
	case "MAX_TOKENS":
		return "length"
	case "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION":
		return "content_filter"
	}
	if called {
		return "tool_calls"
	}
	return "stop"
}

// part takes one part of what a candidate says.
func (r *reader) part(choice int, v openai.Value, to sink) error {
	fields, err := v.Fields("")
	if err != nil {
		return errNotGoogle
	}
	p := chatform.Piece{Choice: choice}
	for _, f := range fields {
		switch f.Name {
		case "thought", "thoughtSignature", "partMetadata", "mediaResolution": // about the part, and not of it
		case "text":
			if !f.Value.IsText() {
				return errNotGoogle
			}
			if p.Text = f.Value; string(fields.Get("thought")) == "true" {
				p.Text, p.Thought = nil, f.Value
			}
		case "functionCall":
			if p.Call, err = r.call(choice, f.Value); err != nil {
				return err
			}
			if signature := fields.Get("thoughtSignature"); signature.IsText() {
				p.Call.Signature = signature
			}
		default: // nobody has asked for it
			return httpclient.BadAnswer("the answer has a part of kind %.64q, which chat cannot say", f.Name)
		}
	}
	to.piece(&p)
	return nil
}

// call is a whole call: Gemini does not send them in pieces.
func (r *reader) call(choice int, v openai.Value) (*chatform.CallPiece, error) {
	fields, err := v.Fields("")
	if err != nil {
		return nil, errNotGoogle
	}
	name, err := fields.Get("name").Text("")
	if err != nil {
		return nil, errNotGoogle
	}
	args := fields.Get("args")
	if args == nil {
		args = openai.Value("{}")
	}
	n := r.calls[choice]
	if r.calls[choice]++; n >= callsMax || !args.IsObject() {
		return nil, errNotGoogle
	}
	id, _ := fields.Get("id").Text("") // older models give none
	if id == "" {
		id = "call_" + r.w.ID + "_" + strconv.Itoa(choice) + "_" + strconv.Itoa(n)
	}
	return &chatform.CallPiece{Index: n, ID: id, Name: name, Arguments: string(args)}, nil
}

// complete reports whether every choice that began has ended.
func (r *reader) complete() bool {
	for _, reason := range r.ended[:r.seen] {
		if reason == "" {
			return false
		}
	}
	return r.seen > 0
}

// count takes over the usage, which every event tells anew. Counts of 0 are left out of it.
func (r *reader) count(v openai.Value) {
	fields, err := v.Fields("")
	if err != nil {
		return
	}
	n := func(name string) int64 { return tokens(fields.Get(name)) }
	if fields.Get("promptTokenCount") == nil && fields.Get("totalTokenCount") == nil {
		return
	}
	u := openai.Usage{Known: true, CacheRead: n("cachedContentTokenCount"), Reasoning: n("thoughtsTokenCount")}
	u.Input = n("promptTokenCount") + n("toolUsePromptTokenCount")
	u.Output = n("candidatesTokenCount") + u.Reasoning
	prompt, cached, said := modalities(fields.Get("promptTokensDetails")), modalities(fields.Get("cacheTokensDetails")), modalities(fields.Get("candidatesTokensDetails"))
	u.AudioInput, u.ImageInput = max(prompt["AUDIO"]-cached["AUDIO"], 0), max(prompt["IMAGE"]-cached["IMAGE"], 0)
	u.AudioOutput = said["AUDIO"]
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

// modalities are the counts by the kind of content.
func modalities(v openai.Value) map[string]int64 {
	if !v.IsArray() {
		return nil
	}
	counts := map[string]int64{}
	_ = v.Elements("", func(_ int, v openai.Value) error { // what cannot be read is not counted
		fields, err := v.Fields("")
		if err != nil {
			return err
		}
		switch kind, err := fields.Get("modality").Text(""); {
		case err != nil:
			return err
		case kind == "AUDIO" || kind == "IMAGE":
			counts[kind] += tokens(fields.Get("tokenCount"))
		}
		return nil
	})
	return counts
}

// streamed queues the events that say what is read.
type streamed struct {
	w     *chatform.Writer
	queue []openai.Chunk
}

func (s *streamed) piece(p *chatform.Piece) { s.queue = s.w.Piece(s.queue, p) }
func (s *streamed) finish(choice int, reason string) {
	s.queue = s.w.Finish(s.queue, choice, reason)
}

// gathered gathers a whole answer.
type gathered struct{ whole chatform.Whole }

func (g *gathered) piece(p *chatform.Piece)          { g.whole.Add(p) }
func (g *gathered) finish(choice int, reason string) { g.whole.Finish(choice, reason) }
