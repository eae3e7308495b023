package responses

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

// answerMax bounds the text of an answer: the events at the end of an item repeat all of it.
const answerMax = 32 << 20

// Translator says an answer in chat in Responses, event by event. It is a Source itself.
type Translator struct {
	source Source
	stream bool
	asked  openai.Fields

	queue []openai.Chunk
	ended bool
	// head is the answer's id and time, as members; id is the id without its prefix.
	id       string
	created  int64
	sequence int
	usage    openai.Usage
	stop     string
	size     int

	// items are those that are complete, with commas between them; n is how many.
	items []byte
	n     int
	// open is the kind of the item that is open, "" where none is, with what it holds so far.
	open  openai.Piece
	text  strings.Builder
	call  openai.Call
	calls openai.CallOrder
	// sources are the annotations of the open text, as a list without its brackets, and cited is how many there are.
	sources []byte
	cited   int
}

// callPiece is an item that is a call of a function.
const callPiece openai.Piece = "function_call"

// NewTranslator makes a translator of one answer to a request.
func NewTranslator(source Source, stream bool, asked openai.Fields) *Translator {
	return &Translator{source: source, stream: stream, asked: asked}
}

// Next returns the next event in Responses. The errors are the source's, or an *openai.Error where what the vendor sent
// cannot be said.
func (t *Translator) Next() (openai.Chunk, error) {
	for len(t.queue) == 0 {
		if t.ended {
			return openai.Chunk{}, io.EOF
		}
		c, err := t.source.Next()
		switch {
		case err == io.EOF && t.stream:
			if t.ended = true; t.id != "" {
				t.end()
			}
			continue
		case err != nil:
			return openai.Chunk{}, err
		case string(c.Data) == "[DONE]":
			continue
		}
		if err := t.chunk(&c); err != nil {
			return openai.Chunk{Counted: c.Usage()}, err
		}
		if !t.stream {
			t.queue, t.ended = nil, true
			t.close(t.status())
			return openai.Chunk{Data: t.response(t.status(), true), Name: "response", Kind: c.Kind, Counted: t.usage}, nil
		}
	}
	c := t.queue[0]
	t.queue = t.queue[1:]
	return c, nil
}

// emit queues an event; members are those after its type and number, with their comma.
func (t *Translator) emit(kind openai.Kind, name, members string) {
	data := openai.AppendText([]byte(`{"type":`), name)
	data = strconv.AppendInt(append(data, `,"sequence_number":`...), int64(t.sequence), 10)
	t.sequence++
	t.queue = append(t.queue, openai.Chunk{Data: append(append(data, members...), '}'), Kind: kind, Name: name})
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

// start begins the answer.
func (t *Translator) start(fields openai.Fields) {
	if t.id, _ = fields.Get("id").Text("id"); t.id == "" { // some vendors give none
		t.id = "unknown"
	}
	t.id = strings.TrimPrefix(t.id, "resp_")
	number(fields.Get("created"), &t.created)
	response := `,"response":` + string(t.response("in_progress", false))
	t.emit(0, "response.created", response)
	t.emit(0, "response.in_progress", response)
}

// said takes what a delta or a message says.
func (t *Translator) said(delta openai.Fields) error {
	err := openai.Pieces(delta, func(kind openai.Piece, text string) {
		if text == "" {
			return
		}
		if t.open != kind {
			t.begin(kind)
		}
		t.size += len(text)
		t.text.WriteString(text)
		t.emit(openai.HasContent, deltaNames[kind], t.place()+`,"delta":`+quoted(text)+logprobs(kind))
	})
	if list := delta.Get("annotations"); err == nil && t.open == openai.Text && list.IsArray() {
		err = list.Elements("annotations", t.cite)
	}
	if err == nil {
		err = openai.Calls(delta, t.toolCall)
	}
	if err == nil && t.size > answerMax {
		err = openai.Unsayable("its text has more than %d bytes", answerMax)
	}
	return err
}

// cite says where the open text comes from: chat has the members of the annotation in an object of their own.
func (t *Translator) cite(_ int, v openai.Value) error {
	fields, err := v.Fields("annotations")
	if err != nil {
		return openai.Unsayable("an annotation is not an object")
	}
	source, err := fields.Get("url_citation").Fields("url_citation")
	if err != nil {
		return nil // of a kind that is not known
	}
	one := []byte(`{"type":"url_citation"`)
	for _, f := range source {
		if f.Name != "type" {
			one = append(append(openai.AppendText(append(one, ','), f.Name), ':'), f.Value...)
		}
	}
	one = append(one, '}')
	t.emit(0, "response.output_text.annotation.added", t.place()+`,"annotation_index":`+strconv.Itoa(t.cited)+`,"annotation":`+string(one))
	if t.cited++; t.cited > 1 {
		t.sources = append(t.sources, ',')
	}
	t.sources = append(t.sources, one...)
	t.size += len(one)
	return nil
}

func (t *Translator) toolCall(c openai.Call) error {
	begins, err := t.calls.Begins(&c, t.open == callPiece)
	if err != nil {
		return err
	}
	if begins {
		t.close("completed")
		if t.call = c; c.ID == "" {
			t.call.ID = "call_" + t.id + "_" + strconv.Itoa(t.n)
		}
		t.call.Arguments = ""
		t.open = callPiece
		t.emit(openai.HasContent, "response.output_item.added", `,"output_index":`+strconv.Itoa(t.n)+`,"item":`+t.item("in_progress"))
	}
	if c.Arguments != "" {
		t.size += len(c.Arguments)
		t.text.WriteString(c.Arguments)
		t.emit(openai.HasContent, "response.function_call_arguments.delta", t.itemPlace()+`,"delta":`+quoted(c.Arguments))
	}
	return nil
}

// deltaNames and doneNames are the events of the pieces of an item.
var (
	deltaNames = map[openai.Piece]string{openai.Text: "response.output_text.delta", openai.Refusal: "response.refusal.delta", openai.Reasoning: "response.reasoning_text.delta"}
	doneNames  = map[openai.Piece]string{openai.Text: "response.output_text.done", openai.Refusal: "response.refusal.done", openai.Reasoning: "response.reasoning_text.done"}
)

func quoted(s string) string { return string(openai.AppendText(nil, s)) }

// logprobs are a member that the events of a text must have.
func logprobs(kind openai.Piece) string {
	if kind == openai.Text {
		return `,"logprobs":[]`
	}
	return ""
}

func (t *Translator) itemID() string {
	prefix := "msg_" + own
	switch t.open {
	case openai.Reasoning:
		prefix = ownReasoning
	case callPiece:
		prefix = "fc_" + own
	}
	return prefix + t.id + "_" + strconv.Itoa(t.n)
}

func (t *Translator) itemPlace() string {
	return `,"item_id":` + quoted(t.itemID()) + `,"output_index":` + strconv.Itoa(t.n)
}

// place names the part of the item that is open; each item here has one.
func (t *Translator) place() string { return t.itemPlace() + `,"content_index":0` }

// part is the part of the open item, with its text or, while it begins, without.
func (t *Translator) part(text string) string {
	switch t.open {
	case openai.Refusal:
		return `{"type":"refusal","refusal":` + quoted(text) + `}`
	case openai.Reasoning:
		return `{"type":"reasoning_text","text":` + quoted(text) + `}`
	}
	return `{"type":"output_text","text":` + quoted(text) + `,"annotations":[` + string(t.sources) + `],"logprobs":[]}`
}

// item is the open item.
func (t *Translator) item(status string) string {
	head := `{"id":` + quoted(t.itemID())
	content := ""
	if status != "in_progress" && t.open != callPiece {
		content = t.part(t.text.String())
	}
	switch t.open {
	case callPiece:
		arguments := ""
		if status != "in_progress" {
			arguments = t.text.String()
		}
		return head + `,"type":"function_call","status":"` + status + `","call_id":` + quoted(t.call.ID) + `,"name":` + quoted(t.call.Name) + `,"arguments":` + quoted(arguments) + `}`
	case openai.Reasoning:
		return head + `,"type":"reasoning","summary":[],"content":[` + content + `]}`
	}
	return head + `,"type":"message","status":"` + status + `","role":"assistant","content":[` + content + `]}`
}

// begin closes the item that is open and opens one.
func (t *Translator) begin(kind openai.Piece) {
	t.close("completed")
	t.open = kind
	t.emit(0, "response.output_item.added", `,"output_index":`+strconv.Itoa(t.n)+`,"item":`+t.item("in_progress"))
	t.emit(0, "response.content_part.added", t.place()+`,"part":`+t.part(""))
}

// close ends the item that is open, and repeats all of it as the dialect wants. The last one of an answer that is
// incomplete is incomplete too: a call that was cut off is none to run.
func (t *Translator) close(status string) {
	if t.open == "" {
		return
	}
	text := quoted(t.text.String())
	switch t.open {
	case callPiece:
		t.emit(0, "response.function_call_arguments.done", t.itemPlace()+`,"name":`+quoted(t.call.Name)+`,"arguments":`+text)
	default:
		field := "text"
		if t.open == openai.Refusal {
			field = "refusal"
		}
		t.emit(0, doneNames[t.open], t.place()+`,"`+field+`":`+text+logprobs(t.open))
		t.emit(0, "response.content_part.done", t.place()+`,"part":`+t.part(t.text.String()))
	}
	item := t.item(status)
	t.emit(0, "response.output_item.done", `,"output_index":`+strconv.Itoa(t.n)+`,"item":`+item)
	if t.n > 0 {
		t.items = append(t.items, ',')
	}
	t.items = append(t.items, item...)
	t.n++
	t.open, t.sources, t.cited = "", nil, 0
	t.text.Reset()
}

// end queues what ends the answer.
func (t *Translator) end() {
	kind, status := openai.HasFinish|openai.IsDone, t.status()
	t.close(status)
	if t.usage.Known {
		kind |= openai.HasUsage
	}
	t.emit(kind, "response."+status, `,"response":`+string(t.response(status, true)))
	t.queue[len(t.queue)-1].Counted = t.usage
}

func (t *Translator) status() string {
	if t.stop == "length" || t.stop == "content_filter" {
		return "incomplete"
	}
	return "completed"
}

// echoed are the fields of a request that stand in its answer, with what they are where they were not sent.
var echoed = []struct{ name, none string }{
	{"instructions", "null"}, {"max_output_tokens", "null"}, {"metadata", "{}"}, {"parallel_tool_calls", "true"}, {"reasoning", `{"effort":null,"summary":null}`},
	{"temperature", "null"}, {"text", `{"format":{"type":"text"}}`}, {"tool_choice", `"auto"`}, {"tools", "[]"}, {"top_p", "null"}, {"user", "null"},
}

// response is the answer as it stands.
func (t *Translator) response(status string, final bool) []byte {
	dst := openai.AppendText([]byte(`{"id":`), ownResponse+t.id)
	dst = strconv.AppendInt(append(dst, `,"object":"response","created_at":`...), t.created, 10)
	dst = append(append(append(dst, `,"status":"`...), status...), `","background":false,"error":null,"incomplete_details":`...)
	switch {
	case status != "incomplete":
		dst = append(dst, "null"...)
	case t.stop == "length":
		dst = append(dst, `{"reason":"max_output_tokens"}`...)
	default:
		dst = append(dst, `{"reason":"content_filter"}`...)
	}
	for _, e := range echoed {
		value := []byte(t.asked.Get(e.name))
		if value == nil {
			value = []byte(e.none)
		}
		dst = append(append(append(append(append(dst, `,"`...), e.name...), '"'), ':'), value...)
	}
	dst = append(append(append(dst, `,"model":"","output":[`...), t.items...), `],"previous_response_id":null,"store":false,"truncation":"disabled","usage":`...)
	if !final || !t.usage.Known {
		return append(dst, `null}`...)
	}
	return append(appendCounts(append(dst, '{'), t.usage), '}', '}')
}
