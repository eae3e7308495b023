// Package bedrock calls Amazon Bedrock's Converse API, whole and streamed.
//
// Requests are said in Converse and answers in chat. What Converse cannot be told (DESIGN.md of chatform lists it) is a field that
// Lacks names, or an error of class Unsayable where only some models cannot be told it; nothing is dropped. Requests are
// signed, and streams are framed, by Amazon's own SDK; of it no client is used, because a call is a POST like any other. It
// makes one attempt a call and leaves everything else to upstream.Pool.
package bedrock

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/httpclient"
)

// Options configure a Provider. With the zero value everything is what Amazon's SDK finds: in the environment, in the
// shared configuration, or in the role that the machine has.
type Options struct {
	// Region is where the models run, such as us-east-1.
	Region string
	// Token is a Bedrock API key. It is sent as a bearer token, and nothing is signed.
	Token telemetry.Secret
	// AccessKey, SecretKey and SessionToken sign requests; the last is empty for keys that do not expire.
	AccessKey    string
	SecretKey    telemetry.Secret
	SessionToken telemetry.Secret
	// BaseURL is the address of Bedrock's runtime; empty is the region's own.
	BaseURL string
	// AllowPrivate, ConnectTimeout and AnswerMax are those of httpclient.Options. A private endpoint has a private address.
	AllowPrivate   bool
	ConnectTimeout time.Duration
	AnswerMax      int
}

// Validate refuses what cannot be called.
func (o *Options) Validate() error {
	if (o.AccessKey == "") != (o.SecretKey == "") {
		return errors.New("bedrock: an access key and its secret go together")
	}
	if strings.ContainsFunc(o.Region, func(c rune) bool { return c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') }) {
		return errors.New("bedrock: a region is written like us-east-1")
	}
	return nil
}

// Provider is Bedrock in one region. It is safe for concurrent use.
type Provider struct {
	o           Options
	client      *httpclient.Client
	credentials aws.CredentialsProvider
	signer      *v4.Signer
	// profiled are the models that were found to be served through an inference profile only.
	profiled sync.Map
}

// New makes a provider. Close frees its idle connections.
func New(o Options) (*Provider, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	p := &Provider{o: o, signer: v4.NewSigner()}
	if err := p.identify(); err != nil {
		return nil, err
	}
	if p.o.BaseURL == "" {
		p.o.BaseURL = "https://bedrock-runtime." + p.o.Region + ".amazonaws.com"
	}
	secret := p.o.Token
	if secret == "" {
		secret = p.o.SecretKey
	}
	var err error
	p.client, err = httpclient.New(httpclient.Options{
		BaseURL: p.o.BaseURL, Key: secret, Secrets: []telemetry.Secret{p.o.SessionToken}, AllowPrivate: o.AllowPrivate, ConnectTimeout: o.ConnectTimeout, AnswerMax: o.AnswerMax,
	})
	return p, err
}

// identify finds out who calls, and from where.
func (p *Provider) identify() error {
	o := &p.o
	if o.AccessKey != "" {
		known := aws.Credentials{AccessKeyID: o.AccessKey, SecretAccessKey: o.SecretKey.Reveal(), SessionToken: o.SessionToken.Reveal()}
		p.credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return known, nil })
	}
	if o.Region != "" && (o.Token != "" || p.credentials != nil) {
		return nil
	}
	found, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		return errors.New("bedrock: Amazon's shared configuration cannot be read") // its error may quote the file
	}
	if o.Region == "" {
		o.Region = found.Region
	}
	if p.credentials == nil {
		p.credentials = found.Credentials
	}
	if o.Region == "" {
		return errors.New("bedrock: no region is known; set AWS_REGION or name one")
	}
	return o.Validate()
}

// Close frees idle connections.
func (p *Provider) Close() error { return p.client.Close() }

// Speaks reports that clients have no dialect in common with the vendor.
func (p *Provider) Speaks(openai.Dialect) bool { return false }

// Lacks names what of a chat request no model can be told in Converse.
func (p *Provider) Lacks(chat []byte) string {
	_, _, err := encode(chat, "")
	return upstream.Lacking(err)
}

// Stream makes one call. A model that Bedrock serves through inference profiles only is called once more by the profile of
// the region's own part of the world, which the provider remembers: the first call was not one that the model saw.
func (p *Provider) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	model := r.Arm.Model()
	body, asked, err := encode(r.Body, model)
	if err != nil {
		var unable *upstream.Error
		if errors.As(err, &unable) {
			return nil, unable
		}
		e := openai.AsError(err)
		return nil, &upstream.Error{Class: upstream.BadRequest, Status: e.Status, Message: e.Message, Param: e.Param, Code: string(e.Code)}
	}
	profile := profileOf(p.o.Region, model)
	_, profiled := p.profiled.Load(model)
	name := model
	if profiled {
		name = profile
	}
	a, err := p.call(ctx, r, name, body)
	if wantsProfile(err) && !profiled && profile != "" {
		if a, err = p.call(ctx, r, profile, body); err == nil {
			p.profiled.Store(model, true)
		}
	}
	if err != nil {
		return nil, err
	}
	s := &stream{p: p, answer: a}
	if a.Streamed() {
		s.frames = newFrames(a.Body(), p.client.AnswerMax())
	}
	s.reader.hidden, s.reader.w.OneCall = asked.Reasoning.Hidden, asked.NoParallel
	s.reader.w.Created, s.reader.w.Model = time.Now().Unix(), model
	s.reader.w.ID = "bedrock-" + a.Header("X-Amzn-Requestid")
	return s, nil
}

func (p *Provider) call(ctx context.Context, r *upstream.Request, model string, body []byte) (*httpclient.Answer, error) {
	call := &httpclient.Call{
		Path: "/model/" + strings.ReplaceAll(url.PathEscape(model), ":", "%3A") + "/converse", Header: p.header(r), Body: body, Stream: r.Stream,
		Frames: "application/vnd.amazon.eventstream", Refused: p.refused,
	}
	if r.Stream {
		call.Path += "-stream"
	}
	if p.o.Token == "" {
		call.Sign = func(req *http.Request) error { return p.sign(req, body) }
	}
	return p.client.Post(ctx, call)
}

func (p *Provider) header(r *upstream.Request) http.Header {
	h := make(http.Header, len(r.Header)+8)
	for name, values := range r.Header {
		if name = http.CanonicalHeaderKey(name); !strings.HasPrefix(name, "X-Amz") {
			h[name] = values
		}
	}
	delete(h, "Authorization")
	if token := p.o.Token.Reveal(); token != "" {
		h["Authorization"] = []string{"Bearer " + token}
	}
	return h
}

// parts are the parts of the world that inference profiles keep to, and the regions that lie in them.
var parts = [...]struct{ region, prefix string }{
	{"us-gov-", "us-gov."}, {"us-", "us."}, {"eu-", "eu."}, {"ap-northeast-1", "jp."}, {"ap-northeast-3", "jp."},
	{"ap-southeast-2", "au."}, {"ap-southeast-4", "au."}, {"ap-", "apac."},
}

// profileOf is the inference profile of a model in the region's part of the world, "" where none is known or the name
// is one already. It never leaves that part: where a prompt may go is the operator's to say.
func profileOf(region, model string) string {
	if strings.HasPrefix(model, "arn:") || strings.HasPrefix(model, "global.") {
		return ""
	}
	for _, part := range parts {
		if strings.HasPrefix(model, part.prefix) {
			return ""
		}
	}
	for _, part := range parts {
		if strings.HasPrefix(region, part.region) {
			return part.prefix + model
		}
	}
	return ""
}

// stream is one answer.
type stream struct {
	p      *Provider
	answer *httpclient.Answer
	frames *frames // nil for an answer that is not streamed
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
		if s.frames != nil {
			err = s.event()
		} else {
			err = s.whole()
		}
		if errors.Is(err, errNotConverse) {
			err = httpclient.BadAnswer("the answer is not one of the Converse API")
		}
		if err != nil {
			return upstream.Event{}, err
		}
	}
	ev := s.queue[0]
	s.queue = s.queue[1:]
	return ev, nil
}

func (s *stream) event() error {
	f, err := s.frames.next()
	switch {
	case err == io.EOF && s.reader.ended:
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
	case f.kind == "exception" || f.kind == "error":
		return s.p.inBand(&f)
	case f.kind != "event":
		return errNotConverse
	}
	s.queue, err = s.reader.event(f.name, f.payload)
	s.began = s.began || len(s.queue) > 0
	return err
}

func (s *stream) whole() error {
	body, err := s.answer.Whole()
	if err != nil {
		return err
	}
	c, err := s.reader.whole(body)
	if err != nil {
		return err
	}
	s.done = true
	s.answer.Complete()
	s.queue = []upstream.Event{c}
	return nil
}

// Close ends the call.
func (s *stream) Close() error { return s.answer.Close() }
