package openai

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Final is what is known once an answer has ended.
type Final struct {
	// Cost goes into the usage. Nil leaves the usage as the vendor wrote it.
	Cost *Cost
	// Estimate replaces a usage that the vendor did not send; it is marked as estimated.
	Estimate Usage
	// Explain is the decision object as JSON, nil where the client did not ask for it.
	Explain []byte
}

// AppendAnswer appends a whole answer (not streamed) with the model that answered, the cost in its usage and the
// decision, all spliced into the vendor's bytes.
func AppendAnswer(dst []byte, c *Chunk, served catalog.ArmID, f Final) ([]byte, error) {
	s := &scanner{b: c.Data, depthMax: DepthMax}
	hasModel, hasUsage := false, false
	dst = append(dst, '{')
	err := s.document(func() error {
		return s.walk(false, func(key []byte) error {
			from := s.key
			v, err := s.value()
			if err != nil {
				return err
			}
			switch {
			case string(key) == "model" && hasModel, string(key) == "usage" && hasUsage, string(key) == "tradewind" && f.Explain != nil:
				return nil
			case string(key) == "model":
				dst, hasModel = append(appendText(append(dst, `"model":`...), string(served)), ','), true
			case string(key) == "usage" && (f.Cost != nil || f.Estimate.Known):
				dst, hasUsage = append(dst, `"usage":`...), true
				dst = append(appendUsage(dst, v.of(c.Data), f), ',')
			default:
				dst = append(append(dst, c.Data[from.from:v.to]...), ',')
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if !hasModel {
		dst = append(appendText(append(dst, `"model":`...), string(served)), ',')
	}
	if !hasUsage && (f.Cost != nil || f.Estimate.Known) {
		dst = append(appendUsage(append(dst, `"usage":`...), nil, f), ',')
	}
	if f.Explain != nil {
		dst = append(append(append(dst, `"tradewind":`...), f.Explain...), ',')
	}
	dst[len(dst)-1] = '}'
	return dst, nil
}

// appendUsage copies a usage object with the cost added. Where there is none it writes the estimate, and where there is
// none of that either null: unknown is never zero.
func appendUsage(dst, raw []byte, f Final) []byte {
	start := len(dst)
	dst = append(dst, '{')
	if known := ParseUsage(raw).Known; !known && f.Estimate.Known {
		dst = appendEstimate(dst, f.Estimate)
	} else if !known && len(bytes.TrimSpace(raw)) <= len("null") {
		return append(dst[:start], "null"...)
	} else {
		s := &scanner{b: raw, depthMax: DepthMax}
		err := s.document(func() error {
			return s.walk(false, func(key []byte) error {
				from := s.key
				v, err := s.value()
				switch string(key) {
				case "cost", "cost_details":
					if f.Cost != nil {
						return err
					}
				case "tradewind_estimated":
					return err
				}
				dst = append(append(dst, raw[from.from:v.to]...), ',')
				return err
			})
		})
		if err != nil {
			return append(dst[:start], "null"...)
		}
	}
	if f.Cost != nil {
		dst = append(f.Cost.Append(dst), ',')
	}
	if dst[len(dst)-1] == '{' {
		return append(dst, '}')
	}
	dst[len(dst)-1] = '}'
	return dst
}

func appendEstimate(dst []byte, u Usage) []byte {
	dst = strconv.AppendInt(append(dst, `"prompt_tokens":`...), u.Input, 10)
	dst = strconv.AppendInt(append(dst, `,"completion_tokens":`...), u.Output, 10)
	dst = strconv.AppendInt(append(dst, `,"total_tokens":`...), u.Input+u.Output, 10)
	return append(dst, `,"tradewind_estimated":true,`...)
}

// Rewriter turns the chunks of a vendor's stream into those of the client. Whatever way the vendor reports usage (an
// extra chunk, the last delta, both, none), the client gets it once, in one extra chunk at the end and only if it asked.
type Rewriter struct {
	// Served is the arm that answers; it replaces the model of every chunk.
	Served catalog.ArmID
	// IncludeUsage says that the client asked for usage.
	IncludeUsage bool
	// Completions says that the chunks are those of a completion of a text, and not of chat.
	Completions bool

	id, created []byte
	rawUsage    []byte
	usage       Usage
}

// Usage is what the vendor has reported so far; the last report wins.
func (w *Rewriter) Usage() Usage { return w.usage }

// AppendChunk appends the payload for the client, or nothing where the chunk held only usage. It must see every chunk
// that has data, and not the [DONE] event.
func (w *Rewriter) AppendChunk(dst []byte, c *Chunk) []byte {
	if w.id == nil && c.id.there() {
		w.id = bytes.Clone(c.id.of(c.Data))
		w.created = bytes.Clone(c.created.of(c.Data))
	}
	if c.usage.there() {
		if u := c.Usage(); u.Known || !w.usage.Known {
			w.usage, w.rawUsage = u, append(w.rawUsage[:0], c.usage.of(c.Data)...)
		}
		if c.Kind&(HasContent|HasFinish|HasError) == 0 && !c.hasChoices() {
			return dst
		}
	}
	type edit struct {
		at   span
		text []byte
	}
	var buf [nameBuffer]byte
	model := edit{c.model, appendText(buf[:0], string(w.Served))}
	if open := bytes.IndexByte(c.Data, '{'); !c.model.there() && c.choices.there() { // so the object is not empty
		text := appendText(append(make([]byte, 0, nameBuffer), `"model":`...), string(w.Served))
		model = edit{span{open + 1, open + 1}, append(text, ',')}
	}
	edits := [2]edit{model, {c.usage, []byte("null")}}
	if c.usage.there() && c.usage.from < model.at.from {
		edits[0], edits[1] = edits[1], edits[0]
	}
	from := 0
	for _, e := range edits {
		if e.at.there() {
			dst = append(append(dst, c.Data[from:e.at.from]...), e.text...)
			from = e.at.to
		}
	}
	dst = append(dst, c.Data[from:]...)
	if w.IncludeUsage && !c.usage.there() && !c.mute && c.choices.there() { // clients that asked for usage look for it in every chunk
		dst = append(dst[:bytes.LastIndexByte(dst, '}')], `,"usage":null}`...)
	}
	return dst
}

// StreamWriter is a Rewriter that frames what it writes.
type StreamWriter struct{ Rewriter }

// AppendWhole appends the body of an answer that is not streamed.
func (w *StreamWriter) AppendWhole(dst []byte, c *Chunk, f Final) ([]byte, error) {
	return AppendAnswer(dst, c, w.Served, f)
}

// AppendEvent appends what the client gets for one event, or nothing.
func (w *StreamWriter) AppendEvent(dst []byte, c *Chunk) []byte {
	if c.Kind.Has(IsDone) && len(c.Data) <= len("[DONE]") {
		return dst
	}
	start := len(dst)
	dst = append(dst, "data: "...)
	payload := len(dst)
	if dst = w.AppendChunk(dst, c); len(dst) == payload {
		return dst[:start]
	}
	return append(dst, "\n\n"...)
}

// AppendEnd appends the end of a stream: complete, or broken off by an error.
func (w *StreamWriter) AppendEnd(dst []byte, f Final, e *Error) []byte {
	if e != nil {
		return AppendDone(AppendEvent(dst, w.AppendFailure(nil, e)))
	}
	if last := w.AppendLast(nil, f); len(last) > 0 {
		dst = AppendEvent(dst, last)
	}
	return AppendDone(dst)
}

// nameBuffer holds a quoted model name of ordinary length without an allocation.
const nameBuffer = 128

func (c *Chunk) hasChoices() bool { return nonEmpty(c.Data, c.choices) }

// head appends the members that every chunk has, without the choices.
func (w *Rewriter) head(dst []byte) []byte {
	id := w.id
	if id == nil {
		id = []byte("null")
	}
	dst = append(append(dst, `{"id":`...), id...)
	if w.Completions {
		dst = append(dst, `,"object":"text_completion"`...)
	} else {
		dst = append(dst, `,"object":"chat.completion.chunk"`...)
	}
	if len(w.created) > 0 {
		dst = append(append(dst, `,"created":`...), w.created...)
	}
	return appendText(append(dst, `,"model":`...), string(w.Served))
}

// AppendLast appends the payload of the extra chunk before [DONE]: usage with its cost if the client asked for usage,
// the decision if it asked for that, or nothing if it asked for neither.
func (w *Rewriter) AppendLast(dst []byte, f Final) []byte {
	if !w.IncludeUsage && f.Explain == nil {
		return dst
	}
	dst = append(w.head(dst), `,"choices":[]`...)
	if w.IncludeUsage {
		dst = appendUsage(append(dst, `,"usage":`...), w.rawUsage, f)
	}
	if f.Explain != nil {
		dst = append(append(dst, `,"tradewind":`...), f.Explain...)
	}
	return append(dst, '}')
}

// AppendFailure appends the payload that tells a client of a failure after the first byte; [DONE] follows it.
func (w *Rewriter) AppendFailure(dst []byte, e *Error) []byte {
	dst = append(w.head(dst), `,"error":`...)
	body, err := json.Marshal(struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    Code   `json:"code"`
	}{e.Message, e.Type, e.Code})
	if err != nil { // cannot happen: three strings always marshal
		body = []byte("{}")
	}
	nothing := `"delta":{}`
	if w.Completions {
		nothing = `"text":""`
	}
	return append(append(append(append(dst, body...), `,"choices":[{"index":0,`...), nothing...), `,"finish_reason":"error"}]}`...)
}
