// Package anthropic calls Anthropic's Messages API.
//
// A request in Messages is passed on as it is, and so are its answers; a request in chat is said in Messages, and its
// answers in chat. It makes one attempt a call and leaves everything else to upstream.Pool.
package anthropic

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/serving/anthropic"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// capDefault caps an answer where a chat request that reached us says nothing; the gateway always says something.
const capDefault = 4096

// Options configure a Provider. Key is sent as x-api-key.
type Options = httpclient.Options

// Provider is Anthropic's API, or a copy of it. It is safe for concurrent use.
type Provider struct {
	o      Options
	client *httpclient.Client
}

// New makes a provider. Close frees its idle connections.
func New(o Options) (*Provider, error) {
	client, err := httpclient.New(o)
	if err != nil {
		return nil, err
	}
	return &Provider{o: o, client: client}, nil
}

// Close frees idle connections.
func (p *Provider) Close() error { return p.client.Close() }

// Speaks reports that the vendor can be asked in Messages.
func (p *Provider) Speaks(d openai.Dialect) bool { return d == openai.Messages }

// Lacks names what of a chat request cannot be said in Messages.
func (p *Provider) Lacks(chat []byte) string {
	return upstream.Lacking(anthropic.Sayable(chat))
}

// Stream makes one call.
func (p *Provider) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	body, chat := r.Body, r.Dialect != openai.Messages
	if chat {
		var err error
		if body, err = anthropic.FromChat(r.Body, capDefault); err != nil {
			e := openai.AsError(err) // what no model can be told has kept it away: another one may be able
			return nil, &upstream.Error{Class: upstream.Unsayable, Status: e.Status, Message: e.Message, Param: e.Param, Code: string(e.Code)}
		}
	}
	a, err := p.client.Post(ctx, &httpclient.Call{Path: "/messages", Header: p.header(r), Body: body, Stream: r.Stream})
	if err != nil {
		return nil, reclass(err)
	}
	s := &stream{p: p, answer: a}
	if chat {
		s.chat = &anthropic.ChatWriter{Created: time.Now().Unix()}
	}
	return s, nil
}

func (p *Provider) header(r *upstream.Request) http.Header {
	h := make(http.Header, len(r.Header)+5)
	for name, values := range r.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	if h.Get("Anthropic-Version") == "" {
		h.Set("Anthropic-Version", anthropic.Version)
	}
	delete(h, "Authorization")
	delete(h, "X-Api-Key")
	if key := p.o.Key.Reveal(); key != "" {
		h["X-Api-Key"] = []string{key}
	}
	return h
}

// reclass corrects the class of refusals whose status says something else here than at other vendors.
func reclass(err error) error {
	var e *upstream.Error
	if errors.As(err, &e) && e.Class == upstream.BadRequest && strings.Contains(strings.ToLower(e.Message), "credit balance is too low") {
		e.Class = upstream.Auth // an account without money is the operator's matter, like a bad key
	}
	return err
}

// statuses are those of the types of error, as they come inside of a stream.
var statuses = map[string]int{
	"invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403, "not_found_error": 404,
	"request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504, "overloaded_error": 529,
}

// inBand is the error of an answer that is one.
func (p *Provider) inBand(data []byte) error {
	e := upstream.ClassifyObject(anthropic.ErrorObject(data), p.client.Redact)
	if status, known := statuses[e.Code]; known {
		e = upstream.Classify(status, nil, data, time.Time{}, p.client.Redact)
	}
	return reclass(e)
}

// stream is one answer.
type stream struct {
	p      *Provider
	answer *httpclient.Answer
	reader anthropic.Reader
	// chat says the events in chat, nil for a client of Messages; queue are those that are said already.
	chat     *anthropic.ChatWriter
	queue    []upstream.Event
	began    bool
	finished bool // a stop_reason was seen
	done     bool
}

// Next returns the next event.
func (s *stream) Next() (upstream.Event, error) {
	for len(s.queue) == 0 {
		if s.done {
			return upstream.Event{}, io.EOF
		}
		ev, err := s.read()
		if err != nil {
			return upstream.Event{}, err
		}
		if ev.Kind.Has(openai.HasError) {
			return upstream.Event{}, s.p.inBand(ev.Data)
		}
		s.began = true
		s.finished = s.finished || ev.Kind.Has(openai.HasFinish)
		if s.done = ev.Kind.Has(openai.IsDone); s.done {
			s.answer.Complete()
		}
		if s.chat == nil {
			return ev, nil
		}
		if err := s.say(&ev); err != nil {
			return upstream.Event{}, httpclient.BadAnswer("the answer is not one of the Messages API: %s", openai.AsError(err).Message)
		}
	}
	ev := s.queue[0]
	s.queue = s.queue[1:]
	return ev, nil
}

// say puts an event into chat.
func (s *stream) say(ev *upstream.Event) error {
	if s.answer.Streamed() {
		events, err := s.chat.Event(ev)
		s.queue = events
		return err
	}
	whole, err := s.chat.Whole(ev)
	s.queue = []upstream.Event{whole}
	return err
}

func (s *stream) read() (upstream.Event, error) {
	if s.answer.Streamed() {
		return s.event()
	}
	body, err := s.answer.Whole()
	if err != nil {
		return upstream.Event{}, err
	}
	ev, err := s.reader.Whole(body)
	if err != nil {
		return upstream.Event{}, httpclient.BadAnswer("the answer is not one of the Messages API")
	}
	return ev, nil
}

func (s *stream) event() (upstream.Event, error) {
	raw, err := s.answer.Next()
	switch {
	case err == io.EOF && s.finished: // all that is missing is the mark of the end
		return upstream.Event{Name: "message_stop", Data: []byte(`{"type":"message_stop"}`), Kind: openai.IsDone}, nil
	case err == io.EOF && !s.began:
		return upstream.Event{}, httpclient.BadAnswer("the answer was empty")
	case err == io.EOF:
		return upstream.Event{}, httpclient.Broken(io.ErrUnexpectedEOF)
	case err != nil:
		return upstream.Event{}, err
	}
	ev, err := s.reader.Event(raw.Data)
	if err != nil && raw.Unterminated {
		return upstream.Event{}, httpclient.Broken(io.ErrUnexpectedEOF)
	}
	if err != nil {
		return upstream.Event{}, httpclient.BadAnswer("an event is not one of the Messages API")
	}
	return ev, nil
}

// Close ends the call.
func (s *stream) Close() error { return s.answer.Close() }

// Header is a header of the answer.
func (s *stream) Header(name string) string { return s.answer.Header(name) }
