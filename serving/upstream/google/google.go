// Package google calls Google's Gemini models, generateContent and streamGenerateContent, at the Gemini API and on Vertex AI.
//
// Requests are said in Google's dialect and answers in chat. What Gemini cannot be told (DESIGN.md of chatform lists it) is a field
// that Lacks names, or an error of class Unsayable where only some models cannot be told it; nothing is dropped. It makes
// one attempt a call and leaves everything else to upstream.Pool. Vertex AI differs by its address, by tokens that a service
// account gets in place of a key, and by the ids of calls; what other publishers have there is not spoken to.
package google

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/chatform"
	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// Options configure a Provider. Key is sent as x-goog-api-key, never in the address.
type Options = httpclient.Options

// Provider is the Gemini API, or Vertex AI. It is safe for concurrent use.
type Provider struct {
	o        Options
	client   *httpclient.Client
	identity *identity // of Vertex AI, nil elsewhere
}

// New makes a provider of the Gemini API. Close frees its idle connections.
func New(o Options) (*Provider, error) {
	client, err := httpclient.New(o)
	if err != nil {
		return nil, err
	}
	return &Provider{o: o, client: client}, nil
}

// Close frees idle connections.
func (p *Provider) Close() error {
	if p.identity != nil {
		return errors.Join(p.client.Close(), p.identity.Close())
	}
	return p.client.Close()
}

// Speaks reports that clients have no dialect in common with the vendor.
func (p *Provider) Speaks(openai.Dialect) bool { return false }

// Lacks names what of a chat request no Gemini model can be told.
func (p *Provider) Lacks(chat []byte) string {
	_, _, err := encode(chat, "", true)
	return upstream.Lacking(err)
}

// Stream makes one call.
func (p *Provider) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	model := r.Arm.Model()
	body, single, err := encode(r.Body, model, p.identity == nil || !budgeted(model))
	if err != nil {
		var unable *upstream.Error
		if errors.As(err, &unable) {
			return nil, unable
		}
		e := openai.AsError(err)
		return nil, &upstream.Error{Class: upstream.BadRequest, Status: e.Status, Message: e.Message, Param: e.Param, Code: string(e.Code)}
	}
	call := &httpclient.Call{Path: "/models/" + url.PathEscape(model), Body: body, Stream: r.Stream, Refused: p.refused}
	if r.Stream {
		call.Path, call.Query = call.Path+":streamGenerateContent", "alt=sse"
	} else {
		call.Path += ":generateContent"
	}
	a, err := p.post(ctx, r, call)
	if err != nil {
		return nil, err
	}
	s := &stream{p: p, answer: a}
	s.reader.w.Created, s.reader.w.OneCall = time.Now().Unix(), single
	return s, nil
}

// post makes a call with what proves who calls.
func (p *Provider) post(ctx context.Context, r *upstream.Request, call *httpclient.Call) (*httpclient.Answer, error) {
	if p.identity == nil {
		call.Header = header(r)
		if key := p.o.Key.Reveal(); key != "" {
			call.Header["X-Goog-Api-Key"] = []string{key}
		}
		return p.client.Post(ctx, call)
	}
	return p.identity.authorized(ctx, func(token string) (*httpclient.Answer, error) {
		call.Header = header(r)
		call.Header["Authorization"] = []string{"Bearer " + token}
		return p.client.Post(ctx, call)
	})
}

// header is what is passed on of a client's.
func header(r *upstream.Request) http.Header {
	h := make(http.Header, len(r.Header)+4)
	for name, values := range r.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	delete(h, "Authorization")
	delete(h, "X-Goog-Api-Key")
	return h
}

// stream is one answer.
type stream struct {
	p      *Provider
	answer *httpclient.Answer
	reader reader
	queue  []upstream.Event
	began  bool
	done   bool
}

// Next returns the next event.
func (s *stream) Next() (upstream.Event, error) {
	for len(s.queue) == 0 {
		if s.done {
			return upstream.Event{}, io.EOF
		}
		var err error
		if s.answer.Streamed() {
			err = s.event()
		} else {
			err = s.whole()
		}
		if err != nil {
			return upstream.Event{}, s.explain(err)
		}
	}
	ev := s.queue[0]
	s.queue = s.queue[1:]
	return ev, nil
}

// explain makes an *upstream.Error of what ended an answer.
func (s *stream) explain(err error) error {
	var failure *inBand
	switch {
	case errors.As(err, &failure):
		return s.p.inBand(failure.object)
	case errors.Is(err, errNotGoogle):
		return httpclient.BadAnswer("the answer is not one of the generateContent API")
	}
	return err
}

func (s *stream) event() error {
	raw, err := s.answer.Next()
	switch {
	case err == io.EOF && s.reader.complete(): // the end of the connection is the only mark of an answer's end
		s.done = true
		s.answer.Complete()
		s.queue = s.reader.w.End(nil, s.reader.usage)
		return nil
	case err == io.EOF && !s.began:
		return httpclient.BadAnswer("the answer was empty")
	case err == io.EOF:
		return httpclient.Broken(io.ErrUnexpectedEOF)
	case err != nil:
		return err
	}
	to := streamed{w: &s.reader.w}
	if err := s.reader.event(raw.Data, &to); err != nil {
		if raw.Unterminated && errors.Is(err, errNotGoogle) {
			return httpclient.Broken(io.ErrUnexpectedEOF)
		}
		return err
	}
	s.began = s.began || len(to.queue) > 0
	s.queue = to.queue
	return nil
}

func (s *stream) whole() error {
	body, err := s.answer.Whole()
	if err != nil {
		return err
	}
	to := gathered{chatform.Whole{OneCall: s.reader.w.OneCall}}
	if err := s.reader.event(body, &to); err != nil {
		return err
	}
	if !s.reader.complete() {
		return httpclient.BadAnswer("the answer has no end")
	}
	s.done = true
	s.answer.Complete()
	s.queue = []upstream.Event{to.whole.Answer(&s.reader.w, s.reader.usage)}
	return nil
}

// Close ends the call.
func (s *stream) Close() error { return s.answer.Close() }
