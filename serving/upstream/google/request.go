package google

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream/chatform"
)

// This file says chat requests in Google's dialect.

// vendor is what errors call the other side.
const vendor = "Gemini"

// stopMax is the most stop sequences that the API takes, choicesMax the most answers.
const (
	stopMax    = 5
	choicesMax = 8
)

// settingNames are Google's names of chat's settings.
var settingNames = map[string]string{
	"temperature": "temperature", "top_p": "topP", "top_k": "topK", "seed": "seed",
	"presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty",
}

// encode says a chat request to a model, and reports whether of its calls only the first is wanted, which it cannot be told.
// The error is an *openai.Error where no model can be told, and an *upstream.Error of class Unsayable where this one cannot. An
// empty model stands for any. Without ids calls and their results are told apart by their order, as models do on Vertex AI that
// are older than Gemini 3: it refuses ids there.
func encode(body []byte, model string, ids bool) (out []byte, single bool, err error) {
	r, err := chatform.Parse(body, vendor)
	if err != nil {
		return nil, false, err
	}
	e := &encoder{r: r, model: model, ids: ids, out: append(make([]byte, 0, len(body)+512), '{')}
	if len(r.System) > 0 {
		e.open(`"systemInstruction":{"parts":[`)
		if err := e.parts(r.System); err != nil {
			return nil, false, err
		}
		e.close(`]}`)
	}
	for _, step := range [...]func() error{e.contents, e.tools, e.config} {
		if err := step(); err != nil {
			return nil, false, err
		}
	}
	return e.end('}'), r.NoParallel, nil
}

// encoder appends JSON. Every value is followed by a comma, which the end of what holds it takes back.
type encoder struct {
	r     *chatform.Request
	model string
	ids   bool
	out   []byte
}

func (e *encoder) open(s string) { e.out = append(e.out, s...) }

// close ends a list or object.
func (e *encoder) close(s string) {
	if e.out[len(e.out)-1] == ',' {
		e.out = e.out[:len(e.out)-1]
	}
	e.out = append(append(e.out, s...), ',')
}

func (e *encoder) end(c byte) []byte {
	e.close(string(c))
	return e.out[:len(e.out)-1]
}

// member appends a member whose value is valid JSON.
func (e *encoder) member(name string, value []byte) {
	e.out = append(append(append(openai.AppendText(e.out, name), ':'), value...), ',')
}

func (e *encoder) text(name, value string) {
	e.out = append(openai.AppendText(append(openai.AppendText(e.out, name), ':'), value), ',')
}

func (e *encoder) integer(name string, n int) {
	e.out = append(strconv.AppendInt(append(openai.AppendText(e.out, name), ':'), int64(n), 10), ',')
}

func (e *encoder) id(id []byte) {
	if e.ids {
		e.member("id", id)
	}
}

// contents says the conversation. What tools answered is a content of its own, because Gemini counts its parts against
// the calls before it.
func (e *encoder) contents() error {
	e.open(`"contents":[`)
	for i := range e.r.Turns {
		t := &e.r.Turns[i]
		if len(t.Results) > 0 {
			if !e.ids && i > 0 {
				inOrder(t.Results, e.r.Turns[i-1].Calls)
			}
			e.open(`{"role":"user","parts":[`)
			for j := range t.Results {
				if err := e.result(&t.Results[j]); err != nil {
					return err
				}
			}
			e.close(`]}`)
		}
		if len(t.Parts)+len(t.Calls) == 0 {
			continue // nothing was said
		}
		role := "user"
		if t.Assistant {
			role = "model"
		}
		e.open(`{"role":"` + role + `","parts":[`)
		if t.Thought != nil {
			e.open(`{"text":` + string(t.Thought) + `,"thought":true},`)
		}
		if err := e.parts(t.Parts); err != nil {
			return err
		}
		e.calls(t.Calls)
		e.close(`]}`)
	}
	e.close(`]`)
	return nil
}

// inOrder puts results into the order of their calls, by which alone a model without ids tells two calls of one tool apart.
func inOrder(results []chatform.Result, calls []chatform.Call) {
	at := func(r chatform.Result) int {
		return slices.IndexFunc(calls, func(c chatform.Call) bool { return bytes.Equal(c.ID, r.ID) })
	}
	slices.SortStableFunc(results, func(a, b chatform.Result) int { return cmp.Compare(at(a), at(b)) })
}

func (e *encoder) parts(parts []chatform.Part) error {
	for i := range parts {
		switch p := &parts[i]; {
		case p.Kind == chatform.Text:
			e.open(`{"text":` + string(p.Text) + `},`)
		case p.URL != "":
			return e.r.Unsayable(p.Param+".image_url.url", "it does not fetch what was not sent along")
		default:
			e.inline(p)
		}
	}
	return nil
}

func (e *encoder) inline(p *chatform.Part) {
	e.open(`{"inlineData":{`)
	e.text("mimeType", p.Media)
	e.text("data", p.Data)
	if p.Name != nil {
		e.member("displayName", p.Name)
	}
	e.close(`}}`)
}

// unsigned is what Google documents for calls whose signature is not known, because another model made them or a client
// lost it. Models from Gemini 3 on refuse a conversation that has neither.
const unsigned = `"skip_thought_signature_validator"`

func (e *encoder) calls(calls []chatform.Call) {
	for i := range calls {
		c := &calls[i]
		e.open(`{"functionCall":{`)
		e.id(c.ID)
		e.member("name", c.Name)
		e.member("args", c.Input)
		e.close(`}`)
		if c.Signature != nil {
			e.member("thoughtSignature", c.Signature)
		} else if i == 0 && !budgeted(e.model) {
			e.open(`"thoughtSignature":` + unsigned + `,`)
		}
		e.close(`}`)
	}
}

// result says what a tool answered. Gemini takes an object: one that the text holds, or the text as its output.
func (e *encoder) result(res *chatform.Result) error {
	if res.Name == nil {
		return e.r.Unsayable(res.Param+".tool_call_id", "no call before it has this id")
	}
	e.open(`{"functionResponse":{`)
	e.id(res.ID)
	e.member("name", res.Name)
	var texts []string
	media := 0
	for i := range res.Parts {
		if p := &res.Parts[i]; p.Kind == chatform.Text {
			text, err := p.Text.Text(p.Param)
			if err != nil {
				return err
			}
			texts = append(texts, text)
		} else if media++; p.URL != "" {
			return e.r.Unsayable(p.Param+".image_url.url", "it does not fetch what was not sent along")
		}
	}
	if media > 0 && budgeted(e.model) {
		return e.r.Unable(res.Param+".content", "only later models read more than the text of a tool")
	}
	if object := responseObject(texts); object != nil {
		e.member("response", object)
	} else {
		e.open(`"response":{`)
		e.text("output", strings.Join(texts, "\n"))
		e.close(`}`)
	}
	if media > 0 {
		e.open(`"parts":[`)
		for i := range res.Parts {
			if res.Parts[i].Kind != chatform.Text {
				e.inline(&res.Parts[i])
			}
		}
		e.close(`]`)
	}
	e.close(`}}`)
	return nil
}

// responseObject is the object that a tool's one text holds, nil where it holds none.
func responseObject(texts []string) openai.Value {
	if len(texts) != 1 || !strings.HasPrefix(texts[0], "{") {
		return nil
	}
	v, err := openai.ParseValue([]byte(texts[0]), openai.DecodeOptions{BodyMax: len(texts[0])})
	if err != nil {
		return nil
	}
	if _, err := v.Fields(""); err != nil { // a key stands twice
		return nil
	}
	return v
}

// tools says the functions and how they may be called. Schemas of tools go as they are: Gemini reads JSON Schema.
func (e *encoder) tools() error {
	r := e.r
	if len(r.Tools) == 0 {
		return nil
	}
	strict := false
	e.open(`"tools":[{"functionDeclarations":[`)
	for i := range r.Tools {
		t := &r.Tools[i]
		e.open(`{`)
		e.member("name", t.Name)
		if t.Description != nil {
			e.member("description", t.Description)
		}
		if !t.Schema.Empty() {
			e.member("parametersJsonSchema", t.Schema)
		}
		e.close(`}`)
		strict = strict || t.Strict
	}
	e.close(`]}]`)
	mode := map[string]string{"auto": "AUTO", "none": "NONE", "required": "ANY", "function": "ANY"}[r.ToolChoice.Mode]
	if strict && (mode == "" || mode == "AUTO") {
		mode = "VALIDATED" // AUTO whose calls keep to their schemas
	}
	if mode != "" {
		e.open(`"toolConfig":{"functionCallingConfig":{"mode":"` + mode + `",`)
		if r.ToolChoice.Name != nil {
			e.open(`"allowedFunctionNames":[` + string(r.ToolChoice.Name) + `],`)
		}
		e.close(`}}`)
	}
	return nil
}

// config says how to answer.
func (e *encoder) config() error {
	r := e.r
	e.open(`"generationConfig":{`)
	for _, f := range r.Settings {
		e.member(settingNames[f.Name], f.Value)
	}
	if r.MaxTokens > 0 {
		e.integer("maxOutputTokens", r.MaxTokens)
	}
	if r.N > choicesMax {
		return r.Unsayable("n", "it gives at most "+strconv.Itoa(choicesMax)+" answers")
	}
	if r.N > 1 {
		e.integer("candidateCount", r.N)
	}
	if len(r.Stop) > stopMax {
		return r.Unsayable("stop", "it takes at most "+strconv.Itoa(stopMax))
	}
	if len(r.Stop) > 0 {
		e.open(`"stopSequences":[`)
		for _, s := range r.Stop {
			e.out = append(append(e.out, s...), ',')
		}
		e.close(`]`)
	}
	if r.Format.JSON {
		e.text("responseMimeType", "application/json")
	}
	if r.Format.Schema != nil {
		e.open(`"responseJsonSchema":`)
		s := &schema{r: r, out: e.out}
		if err := s.append("response_format.json_schema.schema", r.Format.Schema); err != nil {
			return err
		}
		e.out = append(s.out, ',')
	}
	if err := e.thinking(); err != nil {
		return err
	}
	e.close(`}`)
	return nil
}

// Budgets in tokens that stand for an effort, for models that want one; they are those of Google's own OpenAI surface.
const (
	budgetLow    = 1024
	budgetMedium = 8192
	budgetHigh   = 24576
	// budgetLeast is what every model takes.
	budgetLeast = 512
)

// budgeted reports whether a model is one of those before efforts. All that came after have efforts.
func budgeted(model string) bool {
	return strings.HasPrefix(model, "gemini-2") || strings.HasPrefix(model, "gemini-1") || strings.HasPrefix(model, "gemini-robotics-er-1")
}

// thinking says how much to think. Without being asked for it Gemini thinks as it sees fit, and tells nothing of it.
func (e *encoder) thinking() error {
	want := &e.r.Reasoning
	if want.Effort == "" && want.Budget == 0 {
		return nil
	}
	off := want.Effort == "none"
	if off && (!budgeted(e.model) || strings.Contains(e.model, "pro")) && e.model != "" {
		return e.r.Unable(want.Param, "it cannot but think")
	}
	e.open(`"thinkingConfig":{`)
	switch {
	case off:
		e.integer("thinkingBudget", 0)
	case want.Budget > 0:
		e.integer("thinkingBudget", want.Budget)
	case budgeted(e.model):
		budget := map[string]int{"minimal": budgetLow, "low": budgetLow, "medium": budgetMedium, "high": budgetHigh}[want.Effort]
		if limit := e.r.MaxTokens; limit > 0 { // thoughts count against the cap: half of it is left to the answer
			budget = max(min(budget, limit/2), budgetLeast)
		}
		e.integer("thinkingBudget", budget)
	default:
		e.text("thinkingLevel", level(e.model, want.Effort))
	}
	if !off && !want.Hidden {
		e.open(`"includeThoughts":true,`)
	}
	e.close(`}`)
	return nil
}

// level is the effort that a model knows. Pro models know no least one, and the first of them no middle one.
func level(model, effort string) string {
	switch pro := strings.Contains(model, "pro"); {
	case pro && effort == "minimal":
		return "low"
	case strings.HasPrefix(model, "gemini-3-pro") && effort == "medium":
		return "high"
	}
	return effort
}
