// Package openaicompat calls vendors that speak OpenAI's chat API: OpenAI itself and the many that copy it.
//
// One Provider is one vendor: an address, a key, a pool of connections. It connects to that address and nowhere else:
// no redirect is followed, and no answer of a name server can lead it into a private network. It makes one attempt a
// call and leaves everything else to upstream.Pool.
package openaicompat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// Limits of what is read of a vendor's answer.
const (
	// AnswerMax is the default limit of a whole body and of one event.
	AnswerMax = 32 << 20
	// errorBodyMax bounds the body of a refusal, headersMax the headers of any answer.
	errorBodyMax = 64 << 10
	headersMax   = 64 << 10
	idleConnsMax = 512
	// drainMax and drainTime bound what is read after the end of an answer so that its connection can be used again.
	drainMax  = 4 << 10
	drainTime = 50 * time.Millisecond
)

// Options configure a Provider. BaseURL is required.
type Options struct {
	// BaseURL is the address up to and with the version, such as https://api.openai.com/v1.
	BaseURL string
	// Key is sent as a bearer token; empty sends none.
	Key telemetry.Secret
	// Header is sent with every call, for vendors that want an organization or a project named.
	Header http.Header
	// AllowPrivate lets a host name resolve to loopback, private and link-local addresses. An address or "localhost" in
	// BaseURL itself needs no leave: whoever wrote it meant it.
	AllowPrivate bool
	// ConnectTimeout bounds dialling and the TLS handshake, each (5 s).
	ConnectTimeout time.Duration
	// AnswerMax bounds a whole body, and each event of a stream (32 MiB).
	AnswerMax int
}

// Validate refuses what cannot be called.
func (o *Options) Validate() error {
	u, err := url.Parse(o.BaseURL)
	if err != nil {
		return errors.New("openaicompat: the base URL cannot be parsed") // its text may hold a key
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("openaicompat: the base URL must be http(s)://host/…")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("openaicompat: the base URL must have no user, query or fragment; the key goes into its own field")
	}
	if o.ConnectTimeout < 0 || o.AnswerMax < 0 {
		return errors.New("openaicompat: limits must not be negative")
	}
	return nil
}

// Provider is one vendor. It is safe for concurrent use.
type Provider struct {
	o         Options
	url       *url.URL
	transport *http.Transport
	redactor  *telemetry.Redactor
}

// New makes a provider. Close frees its idle connections.
func New(o Options) (*Provider, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 5 * time.Second
	}
	if o.AnswerMax == 0 {
		o.AnswerMax = AnswerMax
	}
	u, err := url.Parse(strings.TrimSuffix(o.BaseURL, "/") + "/chat/completions")
	if err != nil {
		return nil, errors.New("openaicompat: the base URL cannot be parsed")
	}
	return &Provider{o: o, url: u, redactor: telemetry.NewRedactor(o.Key), transport: &http.Transport{
		DialContext:            Dialer(u.Hostname(), o.AllowPrivate, o.ConnectTimeout).DialContext,
		TLSHandshakeTimeout:    o.ConnectTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // a compressed stream arrives in lumps
		MaxIdleConns:           idleConnsMax,
		MaxIdleConnsPerHost:    idleConnsMax,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: headersMax,
	}}, nil
}

// Close frees idle connections.
func (p *Provider) Close() error {
	p.transport.CloseIdleConnections()
	return nil
}

// Dialer connects to a configured host. No answer of a name server leads it into a private network, unless that is allowed
// or the host is itself an address or localhost.
func Dialer(host string, allowPrivate bool, timeout time.Duration) *net.Dialer {
	d := &net.Dialer{Timeout: timeout}
	if !allowPrivate && !isLocalName(host) {
		d.Control = refusePrivate
	}
	return d
}

// isLocalName reports whether the configured host is itself an address or localhost.
func isLocalName(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// errPrivate is what a dial to a private address ends with.
var errPrivate = errors.New("openaicompat: the host resolves to a private address, which is not allowed for it")

// Blocks that netip has no method for: shared address space (RFC 6598), "this network", and the prefixes by which
// IPv6 reaches IPv4 addresses (RFC 6052, RFC 3056), private ones included.
var refused = [...]netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
}

// refusePrivate runs after the name was resolved, on the very address that is about to be connected to, so a second
// answer of the name server cannot slip past it.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return errPrivate
	}
	a := ap.Addr().Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return errPrivate
	}
	for _, block := range refused {
		if block.Contains(a) {
			return errPrivate
		}
	}
	return nil
}

// Stream makes one call.
func (p *Provider) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	req := (&http.Request{
		Method: http.MethodPost, URL: p.url, Host: p.url.Host, Header: p.header(r),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(r.Body)), ContentLength: int64(len(r.Body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil },
	}).WithContext(ctx)
	// RoundTrip and not Client.Do: a redirect is an answer like any other, and nothing follows it.
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, p.connectError(err)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyMax)) // what arrived is all there is to say
		resp.Body.Close()
		cancel()
		return nil, upstream.Classify(resp.StatusCode, resp.Header, body, time.Now(), p.redactor.Redact)
	}
	s := &stream{p: p, body: resp.Body, cancel: cancel}
	isEvents := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
	if r.Stream && (isEvents || resp.Header.Get("Content-Type") == "") {
		s.events = openai.NewScanner(resp.Body, p.o.AnswerMax)
	} else if r.Stream || isEvents {
		_ = s.Close()
		return nil, badAnswer("the provider sent content of type %.100q", p.redactor.Redact(resp.Header.Get("Content-Type")))
	}
	return s, nil
}

func (p *Provider) header(r *upstream.Request) http.Header {
	h := make(http.Header, len(r.Header)+len(p.o.Header)+4)
	for _, from := range [...]http.Header{r.Header, p.o.Header} {
		for name, values := range from {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	h["Content-Type"] = []string{"application/json"}
	h["User-Agent"] = []string{"tradewind"}
	h["Accept"] = []string{"application/json"}
	if r.Stream {
		h["Accept"] = []string{"text/event-stream"}
	}
	delete(h, "Authorization")
	if key := p.o.Key.Reveal(); key != "" {
		h["Authorization"] = []string{"Bearer " + key}
	}
	return h
}

// connectError tells the client no more than that there was no connection; the cause, for the log, is free of the key.
func (p *Provider) connectError(err error) error {
	e := &upstream.Error{Class: upstream.Connect, Message: "the provider could not be reached", Err: err}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() && !errors.Is(err, context.Canceled) {
		e.Message = "the connection to the provider timed out"
	}
	return e
}

func badAnswer(format string, args ...any) *upstream.Error {
	return &upstream.Error{Class: upstream.BadAnswer, Status: http.StatusOK, Message: fmt.Sprintf(format, args...)}
}

// stream is one answer.
type stream struct {
	p        *Provider
	body     io.ReadCloser
	cancel   context.CancelFunc
	events   *openai.Scanner // nil for an answer that is not streamed
	began    bool
	finished bool // a finish_reason was seen
	done     bool
	closed   bool
}

// Next returns the next event.
func (s *stream) Next() (upstream.Event, error) {
	if s.done {
		return upstream.Event{}, io.EOF
	}
	var ev upstream.Event
	var err error
	if s.events == nil {
		ev, err = s.whole()
	} else {
		ev, err = s.event()
	}
	if err != nil {
		return upstream.Event{}, err
	}
	if ev.Kind.Has(openai.HasError) {
		return upstream.Event{}, upstream.ClassifyObject(ev.ErrorObject(), s.p.redactor.Redact)
	}
	s.began = true
	s.finished = s.finished || ev.Kind.Has(openai.HasFinish)
	s.done = ev.Kind.Has(openai.IsDone)
	return ev, nil
}

func (s *stream) whole() (upstream.Event, error) {
	body, err := io.ReadAll(io.LimitReader(s.body, int64(s.p.o.AnswerMax)+1))
	if err != nil {
		return upstream.Event{}, s.broken(err)
	}
	if len(body) > s.p.o.AnswerMax {
		return upstream.Event{}, badAnswer("the answer has more than %d bytes", s.p.o.AnswerMax)
	}
	ev, err := openai.ParseChunk(body)
	if err != nil || ev.Kind == openai.IsDone {
		return upstream.Event{}, badAnswer("the answer is not a JSON object")
	}
	ev.Kind |= openai.IsDone
	return ev, nil
}

func (s *stream) event() (upstream.Event, error) {
	raw, err := s.events.Next()
	switch {
	case err == io.EOF && s.finished: // some vendors leave [DONE] out
		s.done = true
		return upstream.Event{}, io.EOF
	case err == io.EOF && !s.began:
		return upstream.Event{}, badAnswer("the answer was empty")
	case err == io.EOF:
		return upstream.Event{}, s.broken(io.ErrUnexpectedEOF)
	case errors.Is(err, openai.ErrEventTooLarge):
		return upstream.Event{}, badAnswer("an event has more than %d bytes", s.p.o.AnswerMax)
	case err != nil:
		return upstream.Event{}, s.broken(err)
	}
	ev, err := openai.ParseChunk(raw.Data)
	if err != nil && raw.Unterminated {
		return upstream.Event{}, s.broken(io.ErrUnexpectedEOF)
	}
	if err != nil {
		return upstream.Event{}, badAnswer("an event is not a JSON object")
	}
	return ev, nil
}

// broken is an answer that broke off.
func (s *stream) broken(err error) error {
	return &upstream.Error{Class: upstream.Cut, Status: http.StatusOK, Message: "the provider's answer broke off", Err: err}
}

// Close ends the call. After a complete answer it reads the few bytes that may follow, so that the connection lives on.
func (s *stream) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.done {
		t := time.AfterFunc(drainTime, s.cancel)
		_, _ = io.Copy(io.Discard, io.LimitReader(s.body, drainMax)) // only for the connection's sake
		t.Stop()
	}
	err := s.body.Close()
	s.cancel()
	if err != nil {
		return fmt.Errorf("openaicompat: closing an answer: %w", err)
	}
	return nil
}
