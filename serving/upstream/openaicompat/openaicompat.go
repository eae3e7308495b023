// Package openaicompat calls vendors that speak OpenAI's chat API: OpenAI itself and the many that copy it.
//
// One Provider is one vendor: an address and a key. Those that speak the Responses API too can be asked in it, and all of
// them for completions and embeddings. It makes one attempt a call and leaves everything else to upstream.Pool.
package openaicompat

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/responses"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// Options configure a Provider. BaseURL is required.
type Options struct {
	// BaseURL is the address up to and with the version, such as https://api.openai.com/v1.
	BaseURL string
	// Key is sent as a bearer token; empty sends none.
	Key telemetry.Secret
	// Header is sent with every call, for vendors that want an organization or a project named.
	Header http.Header
	// Responses says that the vendor speaks the Responses API beside chat.
	Responses bool
	// Azure sends the key as api-key. Its dated API, chosen by an APIVersion, has the model's name in the path: BaseURL ends
	// in /openai then, and in /openai/v1 otherwise.
	Azure      bool
	APIVersion string
	// AllowPrivate, ConnectTimeout and AnswerMax are those of httpclient.Options.
	AllowPrivate   bool
	ConnectTimeout time.Duration
	AnswerMax      int
}

func (o *Options) client() httpclient.Options {
	return httpclient.Options{BaseURL: o.BaseURL, Key: o.Key, AllowPrivate: o.AllowPrivate, ConnectTimeout: o.ConnectTimeout, AnswerMax: o.AnswerMax}
}

// Validate refuses what cannot be called.
func (o *Options) Validate() error {
	c := o.client()
	return c.Validate()
}

// Provider is one vendor. It is safe for concurrent use.
type Provider struct {
	o      Options
	client *httpclient.Client
}

// New makes a provider. Close frees its idle connections.
func New(o Options) (*Provider, error) {
	client, err := httpclient.New(o.client())
	if err != nil {
		return nil, err
	}
	return &Provider{o: o, client: client}, nil
}

// Close frees idle connections.
func (p *Provider) Close() error { return p.client.Close() }

// Speaks reports whether the vendor can be asked in a dialect.
func (p *Provider) Speaks(d openai.Dialect) bool {
	switch d {
	case openai.Chat, openai.Completions, openai.Embeddings:
		return true
	}
	return d == openai.Responses && p.o.Responses
}

// Lacks is empty: chat is what the vendor speaks.
func (p *Provider) Lacks([]byte) string { return "" }

// vectorsMax bounds an answer of vectors: 2,048 of 3,072 numbers with 22 digits and signs each have 132 MiB.
const vectorsMax = 144 << 20

// Stream makes one call.
func (p *Provider) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	s := &stream{p: p}
	call := &httpclient.Call{Path: "/chat/completions", Header: p.header(r), Body: r.Body, Stream: r.Stream}
	switch r.Dialect {
	case openai.Responses:
		call.Path, s.reader = "/responses", &responses.Reader{}
	case openai.Completions:
		call.Path = "/completions"
	case openai.Embeddings:
		call.Path, call.AnswerMax = "/embeddings", vectorsMax
	}
	if p.o.APIVersion != "" {
		call.Path = "/deployments/" + url.PathEscape(r.Arm.Model()) + call.Path
		call.Query = "api-version=" + url.QueryEscape(p.o.APIVersion)
	}
	a, err := p.client.Post(ctx, call)
	if e := (*upstream.Error)(nil); r.Dialect == openai.Completions && errors.As(err, &e) && (e.Class == upstream.ModelGone || e.Status == http.StatusNotImplemented) {
		e.Class = upstream.Unsayable // most models are for chat alone, and so are some vendors; they are none the worse for it
	}
	if err != nil {
		return nil, err
	}
	s.answer = a
	return s, nil
}

func (p *Provider) header(r *upstream.Request) http.Header {
	h := make(http.Header, len(r.Header)+len(p.o.Header)+4)
	for _, from := range [...]http.Header{r.Header, p.o.Header} {
		for name, values := range from {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	delete(h, "Authorization")
	switch key := p.o.Key.Reveal(); {
	case key == "":
	case p.o.Azure:
		h["Api-Key"] = []string{key}
	default:
		h["Authorization"] = []string{"Bearer " + key}
	}
	return h
}

// stream is one answer.
type stream struct {
	p        *Provider
	answer   *httpclient.Answer
	reader   *responses.Reader // nil for chat
	began    bool
	finished bool // a finish_reason was seen
	done     bool
}

// Next returns the next event.
func (s *stream) Next() (upstream.Event, error) {
	if s.done {
		return upstream.Event{}, io.EOF
	}
	var ev upstream.Event
	var err error
	if s.answer.Streamed() {
		ev, err = s.event()
	} else {
		ev, err = s.whole()
	}
	if err != nil {
		return upstream.Event{}, err
	}
	if ev.Kind.Has(openai.HasError) {
		object := ev.ErrorObject()
		if s.reader != nil {
			object = responses.ErrorObject(ev.Data)
		}
		return upstream.Event{}, upstream.ClassifyObject(object, s.p.client.Redact)
	}
	s.began = true
	s.finished = s.finished || ev.Kind.Has(openai.HasFinish)
	if s.done = ev.Kind.Has(openai.IsDone); s.done {
		s.answer.Complete()
	}
	return ev, nil
}

func (s *stream) whole() (upstream.Event, error) {
	body, err := s.answer.Whole()
	if err != nil {
		return upstream.Event{}, err
	}
	if s.reader != nil {
		ev, err := s.reader.Whole(body)
		if err != nil {
			return ev, httpclient.BadAnswer("the answer is not one of the Responses API")
		}
		return ev, nil
	}
	ev, err := openai.ParseChunk(body)
	if err != nil || ev.Kind == openai.IsDone {
		return upstream.Event{}, httpclient.BadAnswer("the answer is not a JSON object")
	}
	ev.Kind |= openai.IsDone
	return ev, nil
}

func (s *stream) event() (upstream.Event, error) {
	raw, err := s.answer.Next()
	switch {
	case err == io.EOF && s.finished: // some vendors leave [DONE] out
		s.done = true
		s.answer.Complete()
		return upstream.Event{}, io.EOF
	case err == io.EOF && !s.began:
		return upstream.Event{}, httpclient.BadAnswer("the answer was empty")
	case err == io.EOF:
		return upstream.Event{}, httpclient.Broken(io.ErrUnexpectedEOF)
	case err != nil:
		return upstream.Event{}, err
	}
	ev, err := s.parse(raw.Data)
	if err != nil && raw.Unterminated {
		return upstream.Event{}, httpclient.Broken(io.ErrUnexpectedEOF)
	}
	if err != nil {
		return upstream.Event{}, httpclient.BadAnswer("an event is not a JSON object")
	}
	return ev, nil
}

func (s *stream) parse(data []byte) (upstream.Event, error) {
	if s.reader != nil {
		return s.reader.Event(data)
	}
	return openai.ParseChunk(data)
}

// Buffered reports whether the next event is here.
func (s *stream) Buffered() bool { return s.done || s.answer.Buffered() }

// Close ends the call.
func (s *stream) Close() error { return s.answer.Close() }

// Header is a header of the answer.
func (s *stream) Header(name string) string { return s.answer.Header(name) }
