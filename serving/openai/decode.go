// Package openai is the wire of OpenAI's chat API: requests in, answers, streams and errors out.
//
// A request is read in one strict pass over its bytes and is never turned into structs and back: what routing needs is
// taken out, and the body for a vendor is spliced from the same bytes, so that fields this package has never heard of
// arrive as they were sent. It is strict about what it uses (duplicate keys, wrong types, unknown members of the
// tradewind object) and indifferent to the rest. It holds no state, makes no choice and calls nobody: choosing is
// package serving's work and calling is package upstream's.
package openai

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Defaults and limits of a request's body.
const (
	// BodyMax and DepthMax are the defaults of DecodeOptions.
	BodyMax  = 32 << 20
	DepthMax = 64
	// MessagesMax bounds the conversation, PartsMax the parts of one message, ToolsMax the tools, AnswersMax is the
	// most answers (n) that one request may ask for, OutputMax the most output tokens.
	MessagesMax = 16384
	PartsMax    = 4096
	ToolsMax    = 4096
	AnswersMax  = 128
	OutputMax   = 1 << 30
	// UserMax bounds the user field in bytes.
	UserMax = 1024
)

// DecodeOptions limits what Decode accepts. The zero value is the default.
type DecodeOptions struct {
	BodyMax  int
	DepthMax int
}

// Validate refuses negative limits.
func (o DecodeOptions) Validate() error {
	if o.BodyMax < 0 || o.DepthMax < 0 {
		return errors.New("openai: limits of a body must not be negative")
	}
	return nil
}

// admit fills in the defaults and checks what can be told without parsing.
func (o *DecodeOptions) admit(body []byte) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.BodyMax == 0 {
		o.BodyMax = BodyMax
	}
	if o.DepthMax == 0 {
		o.DepthMax = DepthMax
	}
	if len(body) == 0 {
		return NewError(InvalidRequest, "the body is empty; a JSON object was expected")
	}
	if len(body) > o.BodyMax {
		return NewError(RequestTooLarge, "the body has more than %d bytes", o.BodyMax)
	}
	if bytes.HasPrefix(body, []byte("\ufeff")) {
		return NewError(InvalidRequest, "the body begins with a byte order mark; JSON begins without one")
	}
	if !utf8.Valid(body) {
		return NewError(InvalidRequest, "the body is not valid UTF-8")
	}
	return nil
}

// Request is a chat request, or one that is passed through. It refers to the body it was decoded from, which must not change while it is in use.
type Request struct {
	// Model is the model value as sent and Target what it asks for.
	Model  string
	Target Target
	Stream bool
	// IncludeUsage says that the client asked for the usage of a stream.
	IncludeUsage bool
	// MaxTokens is the client's own cap on output tokens, the larger one where both fields were sent, 0 when there is none.
	MaxTokens int
	// N is the number of answers asked for, at least 1.
	N int
	// Needs are the capabilities that an arm must have.
	Needs catalog.Capability
	// Effort is the reasoning effort that the client asks for, OtherEffort where it says it in another way, "" where it says
	// nothing.
	Effort string
	Prompt features.Prompt
	User   string
	// Tradewind is what the request says about its own routing.
	Tradewind Options

	body    []byte
	members []member
	store   [24]member
	// strategy is what OpenRouter's provider.sort asked for, the lowest precedence that a request has, and throughput says that
	// it was for tokens per second.
	strategy   Strategy
	throughput bool
	sessions   sessions
	fallbacks  fallbacks
	// metadataTags are the tags of the client's metadata, nil where it has none.
	metadataTags map[string]string
	// marks are the places of the body, in order, that only vendors who keep a cache on demand are sent.
	marks []span
	// ownModels says that the tradewind object has a list of models, and be it empty.
	ownModels    bool
	includeUsage span
	bytesOfText  int64
	bytesOfRest  int64
	// inputs, inputTokens and bestOf are of a request that is passed through.
	inputs, bestOf int
	inputTokens    int64
	seen           uint64
	// special is set by whatever makes a request more than texts by turns.
	special bool
}

// field is a top-level field that Decode reads; all others are kept and not read.
type field uint8

const (
	fOther field = iota
	fModel
	fMessages
	fStream
	fStreamOptions
	fMaxTokens
	fMaxCompletionTokens
	fN
	fTools
	fFunctions
	fToolChoice
	fResponseFormat
	fReasoningEffort
	fReasoning
	fUser
	fMetadata
	fCacheKey
	fInput
	fPrompt
	fBestOf
	// Fields from here on are about routing and never reach a vendor.
	fTradewind
	fModels
	fRoute
	fProvider
	fSessionID
	fFallbacks
	fDisableFallbacks
	fNumRetries
	fPlugins
	fTransforms
	fUsage
	fProviderOptions
)

var fieldNames = [...]string{
	fOther: "", fModel: "model", fMessages: "messages", fStream: "stream", fStreamOptions: "stream_options",
	fMaxTokens: "max_tokens", fMaxCompletionTokens: "max_completion_tokens", fN: "n", fTools: "tools",
	fFunctions: "functions", fToolChoice: "tool_choice", fResponseFormat: "response_format",
	fReasoningEffort: "reasoning_effort", fReasoning: "reasoning", fUser: "user", fMetadata: "metadata",
	fCacheKey: "prompt_cache_key", fInput: "input", fPrompt: "prompt", fBestOf: "best_of", fTradewind: "tradewind", fModels: "models", fRoute: "route",
	fProvider: "provider", fSessionID: "session_id", fFallbacks: "fallbacks",
	fDisableFallbacks: "disable_fallbacks", fNumRetries: "num_retries", fPlugins: "plugins",
	fTransforms: "transforms", fUsage: "usage", fProviderOptions: "providerOptions",
}

// form is the set of fields that are read of a body. Those about routing are read of all.
type form uint64

const (
	routingForm     = ^form(1<<fTradewind - 1)
	chatForm        = ^form(1<<fInput | 1<<fPrompt | 1<<fBestOf)
	embeddingsForm  = routingForm | 1<<fModel | 1<<fInput | 1<<fUser
	completionsForm = routingForm | 1<<fModel | 1<<fPrompt | 1<<fStream | 1<<fStreamOptions | 1<<fMaxTokens | 1<<fMaxCompletionTokens | 1<<fN | 1<<fBestOf | 1<<fUser
)

// fieldOf finds a key among the fields. A key that differs from one only in case is refused: a vendor that reads keys
// without regard to case would obey it where we did not. So is one that was meant to be ours.
func (fields form) fieldOf(key []byte) (field, error) {
	ascii := isASCII(key)
	for f := fModel; int(f) < len(fieldNames); f++ {
		if name := fieldNames[f]; fields&(1<<f) != 0 && (len(key) == len(name) || !ascii) {
			if string(key) == name {
				return f, nil
			}
			if bytes.EqualFold(key, []byte(name)) {
				return 0, badParam(name, "must be spelled in lower case (%.64q was sent)", key)
			}
		}
	}
	return fOther, misspelled(key)
}

// misspelled refuses a key that is all but "tradewind": no vendor has such a field, and the constraints in it would be lost.
func misspelled(key []byte) error {
	own := fieldNames[fTradewind]
	if head, tail := []byte(own[:4]), []byte(own[6:]); !bytes.HasPrefix(key, head) && !bytes.HasSuffix(key, tail) || len(key) > 2*len(own) {
		return nil
	}
	if name := string(key); name != own && catalog.Edits(name, own) <= 2 {
		e := NewError(InvalidTradewindField, "%q is not a field; did you mean %q?", name, own)
		e.Param = name
		return e
	}
	return nil
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// member is one top-level member of the body.
type member struct {
	key, value span
	field      field
}

// NoEffort is a client's word for no reasoning, OtherEffort stands for one that has no word, such as a number of tokens.
const (
	NoEffort    = "none"
	OtherEffort = "other"
)

// Decode reads a whole body in one pass. Every failure is an *Error. What it accepts is valid JSON to encoding/json.
func Decode(body []byte, o DecodeOptions) (*Request, error) {
	return decodeForm(body, o, chatForm, fMessages)
}

// decodeForm reads a body of a form, which must have a model and what is asked of it.
func decodeForm(body []byte, o DecodeOptions, fields form, asked field) (*Request, error) {
	if err := o.admit(body); err != nil {
		return nil, err
	}
	r := &Request{body: body, N: 1}
	r.members = r.store[:0]
	s := &scanner{b: body, depthMax: o.DepthMax}
	if err := s.document(func() error { return r.top(s, fields) }); err != nil {
		return nil, notJSON(err)
	}
	for _, f := range [...]field{fModel, asked} {
		if r.seen&(1<<f) == 0 {
			return nil, Missing(fieldNames[f], r.unread())
		}
	}
	r.Target = ParseModel(r.Model)
	r.session(r.sessions.tradewind, r.sessions.body)
	r.fallback()
	return r, nil
}

// unread are the names of the fields that are only passed on.
func (r *Request) unread() []string {
	var names []string
	for _, m := range r.members {
		if m.field == fOther {
			names = append(names, string(m.key.of(r.body)[1:m.key.to-m.key.from-1]))
		}
	}
	return names
}

func (r *Request) top(s *scanner, fields form) error {
	return s.members(func(key []byte) error {
		m := member{key: s.key}
		var err error
		if m.field, err = fields.fieldOf(key); err != nil {
			return err
		}
		m.value.from = s.i
		if m.field == fOther {
			err = r.other(s, key)
		} else if r.seen |= 1 << m.field; m.field < fTradewind {
			err = r.standard(s, m.field)
		} else {
			err = r.routing(s, m.field)
		}
		m.value.to = s.i
		r.members = append(r.members, m)
		return err
	})
}

// other reads a field that is only passed on. Unless it is a plain number or switch it may hold text that the vendor
// bills as input (predictions, search options), so its bytes count toward the bound.
func (r *Request) other(s *scanner, key []byte) error {
	topP, temperature := string(key) == "top_p", string(key) == "temperature"
	v, err := s.value()
	if err != nil {
		return err
	}
	text := v.of(s.b)
	if !(topP && text[0] >= '0' && text[0] <= '9' || temperature && (text[0] == '0' || string(text) == "1")) {
		r.special = true
	}
	if text[0] == '"' || text[0] == '{' || text[0] == '[' {
		r.bytesOfRest += int64(len(text))
	}
	return nil
}

// standard reads one of OpenAI's own fields.
func (r *Request) standard(s *scanner, f field) (err error) {
	name := fieldNames[f]
	switch f {
	case fModel:
		if r.Model, err = s.text(name, NameMax); err == nil && r.Model == "" {
			err = badParam(name, "must not be empty")
		}
		return err
	case fMessages:
		return r.messages(s)
	case fInput, fPrompt:
		return r.readInputs(s, name)
	}
	if s.null() {
		return nil
	}
	switch f {
	case fStream, fStreamOptions, fMaxTokens, fMaxCompletionTokens, fUser:
	default:
		r.special = true
	}
	switch f {
	case fStream:
		r.Stream, err = s.boolean(name)
	case fStreamOptions:
		err = r.streamOptions(s)
	case fMaxTokens, fMaxCompletionTokens:
		var n int
		n, err = s.integer(name, 1, OutputMax)
		r.MaxTokens = max(r.MaxTokens, n)
	case fN:
		r.N, err = s.integer(name, 1, AnswersMax)
	case fBestOf:
		r.bestOf, err = s.integer(name, 1, AnswersMax)
	case fTools, fFunctions:
		err = r.tools(s, name)
	case fToolChoice:
		if !s.at('"') && !s.at('{') {
			return s.wrong(name, "a string or an object")
		}
		err = s.skip()
	case fResponseFormat:
		err = r.responseFormat(s)
	case fReasoningEffort:
		if r.Effort, err = s.text(name, NameMax); r.Effort != NoEffort {
			r.Needs |= catalog.Reasoning
		}
	case fReasoning:
		err = r.reasoning(s)
	case fUser:
		r.User, err = s.text(name, UserMax)
	case fMetadata:
		err = r.metadata(s)
	case fCacheKey:
		r.sessions.cacheKey, err = s.text(name, UserMax)
	}
	return err
}

func (r *Request) streamOptions(s *scanner) error {
	if !s.at('{') {
		return s.wrong("stream_options", "an object")
	}
	return s.members(func(key []byte) (err error) {
		if string(key) != "include_usage" {
			return s.skip()
		}
		r.includeUsage.from = s.i
		if !s.null() {
			r.IncludeUsage, err = s.boolean("stream_options.include_usage")
		}
		r.includeUsage.to = s.i
		return err
	})
}

func (r *Request) tools(s *scanner, name string) error {
	if !s.at('[') {
		return s.wrong(name, "an array")
	}
	from, n := s.i, 0
	err := s.elements(func(i int) error {
		if n = i + 1; n > ToolsMax {
			return badParam(name, "must have at most %d entries", ToolsMax)
		}
		if !s.at('{') {
			return s.wrong(fmt.Sprintf("%s[%d]", name, i), "an object")
		}
		return s.skip()
	})
	if n > 0 {
		r.Needs |= catalog.Tools
		r.Prompt.Tools += n
		r.Prompt.ToolBytes += s.i - from
	}
	return err
}

func (r *Request) responseFormat(s *scanner) error {
	if !s.at('{') {
		return s.wrong("response_format", "an object")
	}
	from, kind := s.i, ""
	err := s.members(func(key []byte) (err error) {
		if string(key) == "type" {
			kind, err = s.text("response_format.type", NameMax)
			return err
		}
		return s.skip()
	})
	if err != nil {
		return err
	}
	switch r.bytesOfRest += int64(s.i - from); kind {
	case "":
		return badParam("response_format.type", "is missing")
	case "json_schema":
		r.Needs |= catalog.JSONSchema
		r.Prompt.JSONFormat = true
	case "json_object":
		r.Prompt.JSONFormat = true
	}
	return nil
}

// reasoning reads the object form of reasoning_effort; it asks for reasoning unless it switches it off.
func (r *Request) reasoning(s *scanner) error {
	if !s.at('{') {
		return s.wrong("reasoning", "an object")
	}
	wanted, effort := true, ""
	err := s.members(func(key []byte) error {
		v, err := s.value()
		switch text := string(v.of(s.b)); string(key) {
		case "effort":
			if effort = strings.Trim(text, `"`); text == "null" {
				effort = ""
			}
			wanted = wanted && effort != NoEffort
		case "enabled":
			wanted = wanted && text != "false"
		case "max_tokens":
			effort = firstOf(effort, OtherEffort)
		}
		return err
	})
	if wanted {
		r.Needs |= catalog.Reasoning
	} else {
		effort = NoEffort
	}
	r.Effort = firstOf(r.Effort, effort)
	return err
}

// Plain reports that the request is texts by turns, the user's last, with the settings that all vendors have. Every vendor
// can be told it, so nobody has to try.
func (r *Request) Plain() bool {
	return !r.special && r.Prompt.Turns[len(r.Prompt.Turns)-1].Role == features.User
}

// Body is what the request was decoded from.
func (r *Request) Body() []byte { return r.body }

// Estimates of what InputBound cannot know from bytes.
const (
	tokensPerMessage    = 16
	tokensWithTools     = 512
	tokensPerAttachment = 4096
)

// InputBound is an upper bound of the input tokens: a byte-level vocabulary has at most one token a byte, so it is the
// bytes of all text, tools and schemas, and a margin for each message. Attachments have no bound in bytes; with them
// (Prompt.Attachments > 0) it is only an estimate.
func (r *Request) InputBound() int64 {
	n := r.bytesOfText + r.bytesOfRest + int64(r.Prompt.ToolBytes) + tokensPerAttachment*int64(r.Prompt.Attachments)
	n += tokensPerMessage*int64(len(r.Prompt.Turns)) + r.inputTokens + tokensPerInput*int64(r.inputs)
	if r.Prompt.Tools > 0 {
		n += tokensWithTools
	}
	return n
}
