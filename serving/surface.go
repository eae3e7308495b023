package serving

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/anthropic"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/responses"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

// surface is one dialect of clients, and all in which two of them differ: how a body is read, how an answer and an error
// are written. The path of a request between them is the same.
type surface struct {
	dialect openai.Dialect
	path    string
	// decode reads a body. It gives the chat form alone, or what the client said with the chat form in it.
	decode func(body []byte, o openai.DecodeOptions) (*openai.Request, *openai.Spoken, error)
	// translate says the events of an answer in chat in the dialect; nil for chat itself.
	translate func(r *round, a source) source
	writer    func(r *round, served catalog.ArmID) writer
	fail      func(w http.ResponseWriter, e *openai.Error, requestID, decisionID string)
	// headers are those of the client that a vendor of the dialect is handed.
	headers []string
	// direct says that whoever the client names is asked, in its own words; nil where the router has a say.
	direct *direct
}

// source is an answer, event by event. It ends with io.EOF.
type source interface {
	Next() (openai.Chunk, error)
}

// writer writes one answer in the client's dialect, from events of that dialect.
type writer interface {
	// AppendWhole appends the body of an answer that is not streamed.
	AppendWhole(dst []byte, c *openai.Chunk, f openai.Final) ([]byte, error)
	// AppendEvent appends what the client gets for one event of a stream, which may be nothing.
	AppendEvent(dst []byte, c *openai.Chunk) []byte
	// AppendEnd appends the end of a stream: complete, or broken off by an error.
	AppendEnd(dst []byte, f openai.Final, e *openai.Error) []byte
}

// surfaces lists the dialects that clients may speak.
func surfaces() []*surface {
	return []*surface{{
		dialect: openai.Chat, path: "/v1/chat/completions", fail: openai.WriteError,
		decode: plain(openai.Decode),
		writer: func(r *round, served catalog.ArmID) writer {
			w := &openai.StreamWriter{}
			if w.Served = served; r.wire != nil {
				w.IncludeUsage = r.wire.IncludeUsage
			}
			return w
		},
	}, {
		dialect: openai.Messages, path: "/v1/messages", fail: anthropic.WriteError, headers: []string{"Anthropic-Version", "Anthropic-Beta"},
		decode: spoken(anthropic.Decode),
		translate: func(r *round, a source) source {
			return anthropic.NewTranslator(a, r.wire.Stream, r.context.Tokens)
		},
		writer: func(r *round, served catalog.ArmID) writer {
			return &anthropic.Writer{Served: served, RequestID: r.requestID}
		},
	}, {
		dialect: openai.Responses, path: "/v1/responses", fail: openai.WriteError,
		decode: spoken(responses.Decode),
		translate: func(r *round, a source) source {
			return responses.NewTranslator(a, r.wire.Stream, r.spoken.Fields)
		},
		writer: func(r *round, served catalog.ArmID) writer { return &responses.Writer{Served: served} },
	}, completions(), embeddings()}
}

// plain makes a surface's decoder of one whose form vendors are asked in as it stands.
func plain(decode func([]byte, openai.DecodeOptions) (*openai.Request, error)) func([]byte, openai.DecodeOptions) (*openai.Request, *openai.Spoken, error) {
	return func(body []byte, o openai.DecodeOptions) (*openai.Request, *openai.Spoken, error) {
		r, err := decode(body, o)
		return r, nil, err
	}
}

// saidMore is how much longer a request may be in chat than it was: escapes, and names for what chat has no place for.
const saidMore, saidDeeper = 4, 16

// spoken makes a surface's decoder of one that says a dialect in chat.
func spoken(decode func([]byte, openai.DecodeOptions) (*openai.Spoken, error)) func([]byte, openai.DecodeOptions) (*openai.Request, *openai.Spoken, error) {
	return func(body []byte, o openai.DecodeOptions) (*openai.Request, *openai.Spoken, error) {
		said, err := decode(body, o)
		if err != nil {
			return nil, nil, err
		}
		chat, err := said.Decode(openai.DecodeOptions{BodyMax: saidMore * max(o.BodyMax, openai.BodyMax), DepthMax: openai.DepthMax + saidDeeper})
		return chat, said, err
	}
}

// forwarded are the headers of the client that a vendor of its own dialect is handed, where they are not absurd.
func (s *surface) forwarded(from http.Header) http.Header {
	var to http.Header
	for _, name := range s.headers {
		if v := strings.Join(from.Values(name), ","); v != "" && len(v) <= headerValueMax {
			if to == nil {
				to = make(http.Header, len(s.headers))
			}
			to[name] = []string{headerValue(v)}
		}
	}
	return to
}

// headerValueMax bounds a header that is handed on.
const headerValueMax = 1 << 10

// failing is how errors are told on a path that belongs to no round.
func (g *Gateway) failing(path string) func(http.ResponseWriter, *openai.Error, string, string) {
	path = strings.TrimPrefix(path, "/v1")
	path = strings.TrimPrefix(path, "/v1") // a doubled prefix is a common mistake
	if path == "/messages" || strings.HasPrefix(path, "/messages/") {
		return anthropic.WriteError
	}
	return openai.WriteError
}

// served is a surface with its metrics.
type served struct {
	*surface
	meter *telemetry.Surface
}

// unsaid is the filter of an arm that cannot be told all of the request, and the field that is to blame.
func (r *round) unsaid(a *catalog.Arm) (policy.Filter, string) {
	if r.surface.direct != nil {
		if a.Effort == "" && r.live.Pool.Speaks(a.ID, r.surface.dialect) { // of which only chat has any
			return policy.Eligible, ""
		}
		return policy.Dialect, ""
	}
	if asked := cmp.Or(r.wire.Effort, r.effort); a.Effort != "" && asked != "" && asked != a.Effort { // what the client says is honoured
		return policy.ParamUnsupported, "reasoning_effort"
	}
	native := r.native(a)
	if s := r.spoken; s != nil {
		only := s.NativeOnly
		if r.drops(a) {
			only = s.Needed
		}
		switch {
		case s.Nowhere, !native && only != "", s.Stateful && a.ContextTokens == 0: // or nothing bounds its input
			return policy.Dialect, cmp.Or(only, s.NativeOnly)
		case !native && s.WiderOnly != "" && !r.live.Pool.Retells(a.ID.Provider()):
			return policy.Dialect, s.WiderOnly
		case native && s.ForeignOnly != "":
			return policy.Dialect, s.ForeignOnly
		}
	}
	if field := r.refused(a); field != "" {
		return policy.ParamUnsupported, field
	}
	if native || r.wire.Plain() || !r.inQuestion(a) {
		return policy.Eligible, ""
	}
	if field := r.lackOf(a).field; field != "" {
		return policy.ParamUnsupported, field
	}
	return policy.Eligible, ""
}

// native reports whether an arm is asked in the client's own dialect, where that is not chat.
func (r *round) native(a *catalog.Arm) bool {
	s := r.spoken
	return s != nil && r.gates == nil && r.effort == "" && a.Effort == "" && r.live.Pool.Speaks(a.ID, s.Dialect)
}

// inQuestion reports whether an arm may serve the request at all. Where the client names a model that nothing stands in for, only
// the arms of that name do, and no other provider has to try whether it can be told the request: for an agent's that costs more
// than reading it.
func (r *round) inQuestion(a *catalog.Arm) bool {
	t, l := &r.wire.Target, r.live
	if t.Auto || r.pinned || len(r.wire.Tradewind.Models) > 0 || l.Fallbacks[t.Name] != nil || l.Aliases[t.Name] != nil || l.Aliases[t.Base] != nil {
		return true
	}
	return named(a, t.Name) || t.Base != "" && named(a, t.Base)
}
