// Package httpclient makes one HTTP call to one configured vendor, and reads what comes back.
//
// It connects to that address and nowhere else: no redirect is followed, and no answer of a name server can lead it into
// a private network. What it reads is bounded, and no error tells a key. It knows no vendor's protocol: paths, headers
// and what an event means are those of the providers that use it.
package httpclient

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
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
	// writeBuffer takes a request of usual size whole: in Go's 4 KiB a longer one is written in pieces, and copied once more.
	writeBuffer = 32 << 10
	// drainMax and drainTime bound what is read after the end of an answer so that its connection can be used again.
	drainMax = 4 << 10
	// wholeFirst is the most memory that is taken for a body before it comes.
	wholeFirst = 256 << 10
	drainTime  = 50 * time.Millisecond
)

// Options configure a Client. BaseURL is required.
type Options struct {
	// BaseURL is the address up to and with the version, such as https://api.openai.com/v1.
	BaseURL string
	// Key must stand in no error. Whoever makes the headers sends it.
	Key telemetry.Secret
	// Secrets are further ones that are sent, or stand in the base URL.
	Secrets []telemetry.Secret
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
		return errors.New("httpclient: the base URL cannot be parsed") // its text may hold a key
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("httpclient: the base URL must be http(s)://host/…")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("httpclient: the base URL must have no user, query or fragment; the key goes into its own field")
	}
	if o.ConnectTimeout < 0 || o.AnswerMax < 0 {
		return errors.New("httpclient: limits must not be negative")
	}
	return nil
}

// Client is one vendor's address. It is safe for concurrent use.
type Client struct {
	o         Options
	base      *url.URL
	transport *http.Transport
	redactor  atomic.Pointer[telemetry.Redactor]
}

// New makes a client. Close frees its idle connections.
func New(o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 5 * time.Second
	}
	if o.AnswerMax == 0 {
		o.AnswerMax = AnswerMax
	}
	u, err := url.Parse(strings.TrimSuffix(o.BaseURL, "/"))
	if err != nil {
		return nil, errors.New("httpclient: the base URL cannot be parsed")
	}
	c := &Client{o: o, base: u, transport: &http.Transport{
		DialContext:            Dialer(u.Hostname(), o.AllowPrivate, o.ConnectTimeout).DialContext,
		TLSHandshakeTimeout:    o.ConnectTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // a compressed stream arrives in lumps
		MaxIdleConns:           idleConnsMax,
		MaxIdleConnsPerHost:    idleConnsMax,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: headersMax,
		WriteBufferSize:        writeBuffer,
	}}
	c.SetSecrets()
	return c, nil
}

// SetSecrets replaces the secrets that are known beside those of the options, for a vendor whose tokens change.
func (c *Client) SetSecrets(more ...telemetry.Secret) {
	c.redactor.Store(telemetry.NewRedactor(slices.Concat([]telemetry.Secret{c.o.Key}, c.o.Secrets, more)...))
}

// HTTP is for a library that makes its own calls to the same address: it connects as this client does and follows no
// redirect.
func (c *Client) HTTP(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport: c.transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close frees idle connections.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// Redact removes the secret from a vendor's words.
func (c *Client) Redact(s string) string { return c.redactor.Load().Redact(s) }

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
var errPrivate = errors.New("httpclient: the host resolves to a private address, which is not allowed for it")

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

// Call is one call. The header has what authenticates it; the rest is added.
type Call struct {
	// Path follows the base URL, such as /chat/completions; what is not plain in it is escaped already. Query follows the
	// path, where there is one.
	Path, Query string
	Header      http.Header
	Body        []byte
	Stream      bool
	// AnswerMax is the limit of this answer where it is not the client's.
	AnswerMax int
	// Frames is the type of a stream's content where that is no server-sent events; Body then gives its bytes.
	Frames string
	// Sign adds to a request that is otherwise complete what proves who sends it. It may be nil.
	Sign func(*http.Request) error
	// Refused makes the error of a refusal; nil is upstream.Classify.
	Refused func(status int, h http.Header, body []byte) *upstream.Error
}

// events is the type of the stream's content.
func (c *Call) events() string { return cmp.Or(c.Frames, "text/event-stream") }

// Post makes the call. What is no answer with status 200 and a type that was asked for is an *upstream.Error.
func (c *Client) Post(ctx context.Context, call *Call) (*Answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	h := call.Header
	h["Content-Type"] = []string{"application/json"}
	h["User-Agent"] = []string{"tradewind"}
	h["Accept"] = []string{"application/json"}
	if call.Stream {
		h["Accept"] = []string{call.events()}
	}
	target, err := c.target(call)
	if err != nil {
		cancel()
		return nil, err
	}
	req := (&http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(call.Body)), ContentLength: int64(len(call.Body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(call.Body)), nil },
	}).WithContext(ctx)
	if call.Sign != nil {
		if err := call.Sign(req); err != nil {
			cancel()
			return nil, err
		}
	}
	// RoundTrip and not Client.Do: a redirect is an answer like any other, and nothing follows it.
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, connectError(err)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyMax)) // what arrived is all there is to say
		resp.Body.Close()
		cancel()
		if call.Refused != nil {
			return nil, call.Refused(resp.StatusCode, resp.Header, body)
		}
		return nil, upstream.Classify(resp.StatusCode, resp.Header, body, time.Now(), c.Redact)
	}
	a := &Answer{
		client: c, body: resp.Body, cancel: cancel, streamed: call.Stream, header: resp.Header, length: resp.ContentLength,
		max: cmp.Or(call.AnswerMax, c.o.AnswerMax),
	}
	isEvents := strings.HasPrefix(resp.Header.Get("Content-Type"), call.events())
	if call.Stream && (isEvents || resp.Header.Get("Content-Type") == "") {
		a.events = openai.NewScanner(resp.Body, a.max)
	} else if call.Stream || isEvents {
		_ = a.Close()
		return nil, BadAnswer("the provider sent content of type %.100q", c.Redact(resp.Header.Get("Content-Type")))
	}
	return a, nil
}

// target is the address of a call.
func (c *Client) target(call *Call) (*url.URL, error) {
	u := *c.base
	u.RawPath, u.RawQuery = u.EscapedPath()+call.Path, call.Query
	path, err := url.PathUnescape(u.RawPath)
	if err != nil {
		return nil, &upstream.Error{Class: upstream.ModelGone, Message: "the model's name cannot be part of an address", Err: err}
	}
	u.Path = path
	return &u, nil
}

// connectError tells the client no more than that there was no connection; the cause is for the log.
func connectError(err error) error {
	e := &upstream.Error{Class: upstream.Connect, Message: "the provider could not be reached", Err: err}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() && !errors.Is(err, context.Canceled) {
		e.Message = "the connection to the provider timed out"
	}
	return e
}

// BadAnswer is the error of what is no answer.
func BadAnswer(format string, args ...any) *upstream.Error {
	return &upstream.Error{Class: upstream.BadAnswer, Status: http.StatusOK, Message: fmt.Sprintf(format, args...)}
}

// Broken is the error of an answer that broke off.
func Broken(err error) *upstream.Error {
	return &upstream.Error{Class: upstream.Cut, Status: http.StatusOK, Message: "the provider's answer broke off", Err: err}
}

// Answer is one answer: a whole body, or events. It is for one goroutine.
type Answer struct {
	client *Client
	body   io.ReadCloser
	cancel context.CancelFunc
	events *openai.Scanner // nil for an answer that is not streamed
	// streamed says that the answer comes piece by piece.
	streamed bool
	header   http.Header
	length   int64 // of a whole body, -1 where it is not told
	max      int
	done     bool
	closed   bool
}

// Streamed reports whether the answer is read event by event.
func (a *Answer) Streamed() bool { return a.streamed }

// Header is a header of the answer.
func (a *Answer) Header(name string) string { return a.header.Get(name) }

// Body is what the vendor sends, for those whose streams are no server-sent events.
func (a *Answer) Body() io.Reader { return a.body }

// AnswerMax is the limit of a whole body and of each event.
func (c *Client) AnswerMax() int { return c.o.AnswerMax }

// Whole reads a body to its end.
func (a *Answer) Whole() ([]byte, error) {
	var body bytes.Buffer
	if a.length > 0 { // a length is only what the vendor says: memory for more is taken as it comes
		body.Grow(int(min(a.length, wholeFirst)) + bytes.MinRead)
	}
	if _, err := body.ReadFrom(io.LimitReader(a.body, int64(a.max)+1)); err != nil {
		return nil, Broken(err)
	}
	if body.Len() > a.max {
		return nil, BadAnswer("the answer has more than %d bytes", a.max)
	}
	return body.Bytes(), nil
}

// Next reads one event. It returns io.EOF where the connection ended; whether the answer was complete then is for the
// protocol to say.
func (a *Answer) Next() (openai.Event, error) {
	raw, err := a.events.Next()
	switch {
	case err == io.EOF:
		return openai.Event{}, io.EOF
	case errors.Is(err, openai.ErrEventTooLarge):
		return openai.Event{}, BadAnswer("an event has more than %d bytes", a.max)
	case err != nil:
		return openai.Event{}, Broken(err)
	}
	return raw, nil
}

// Buffered reports whether the next event is here.
func (a *Answer) Buffered() bool { return a.events != nil && a.events.Buffered() }

// Complete says that the answer has come to its end, so that its connection can be used again.
func (a *Answer) Complete() { a.done = true }

// Close ends the call. After a complete answer it reads the few bytes that may follow, so that the connection lives on.
func (a *Answer) Close() error {
	if a.closed {
		return nil
	}
	a.closed = true
	if a.done {
		t := time.AfterFunc(drainTime, a.cancel)
		_, _ = io.Copy(io.Discard, io.LimitReader(a.body, drainMax)) // only for the connection's sake
		t.Stop()
	}
	err := a.body.Close()
	a.cancel()
	if err != nil {
		return fmt.Errorf("httpclient: closing an answer: %w", err)
	}
	return nil
}
