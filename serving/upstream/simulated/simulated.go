// Package simulated is a provider without a vendor: it answers for the arms of catalog.Simulated, so that routing,
// costs, logs and feedback can be tried before any key is set.
//
// Every answer says that it is made up, in its text and in its body. Text, length and latency depend only on the seed,
// the arm and the conversation; only the time of creation is real. What an answer would be worth is not simulated here; that is the world of package
// datasets' simulation.
package simulated

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// Options configure a Provider. The zero value answers at a natural pace and never fails.
type Options struct {
	// Seed changes all answers.
	Seed uint64
	// Pace multiplies every wait; 0 means 1. Instant removes them.
	Pace    float64
	Instant bool
	// ErrorRate is the share of calls that fail with a 503, StallRate the share that accept the request and then send
	// nothing. Which calls they are depends on the seed and the call's number, not on the prompt.
	ErrorRate float64
	StallRate float64
}

// Validate refuses rates that are no shares.
func (o *Options) Validate() error {
	if !(o.ErrorRate >= 0 && o.StallRate >= 0 && o.ErrorRate+o.StallRate <= 1) {
		return errors.New("simulated: error and stall rates must be shares that add up to at most 1")
	}
	if !(o.Pace >= 0 && o.Pace <= 1000) {
		return errors.New("simulated: pace must be from 0 to 1000")
	}
	return nil
}

// temper is how an arm answers: medians of its waits and of its length.
type temper struct {
	first    time.Duration
	perToken time.Duration
	tokens   float64
}

// temperOf follows the tier: the better the arm, the longer it thinks and speaks.
func temperOf(t catalog.Tier) temper {
	switch t {
	case catalog.TierSmall:
		return temper{60 * time.Millisecond, 2 * time.Millisecond, 60}
	case catalog.TierLarge, catalog.TierFrontier:
		return temper{250 * time.Millisecond, 8 * time.Millisecond, 160}
	default:
		return temper{120 * time.Millisecond, 4 * time.Millisecond, 100}
	}
}

// Provider answers for simulated arms. It is safe for concurrent use.
type Provider struct {
	o      Options
	faults faults
}

// New makes a provider.
func New(o Options) (*Provider, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Pace == 0 {
		o.Pace = 1
	}
	if o.Instant {
		o.Pace = 0
	}
	p := &Provider{o: o}
	p.faults.rng = rand.New(rand.NewPCG(o.Seed, 1))
	return p, nil
}

// Stream makes up one answer.
func (p *Provider) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	req, err := openai.Decode(r.Body, openai.DecodeOptions{})
	if err != nil {
		return nil, &upstream.Error{Class: upstream.BadRequest, Status: http.StatusBadRequest, Message: openai.AsError(err).Message}
	}
	switch p.faults.next(p.o) {
	case failing:
		return nil, &upstream.Error{Class: upstream.Server, Status: http.StatusServiceUnavailable, Message: "simulated failure"}
	case stalling:
		return &stream{ctx: ctx, stalls: true}, nil
	}
	a := p.compose(r.Arm, req)
	a.shape(r.Body)
	a.cap(req.MaxTokens)
	s := &stream{ctx: ctx, wait: a.first, pace: a.perPiece}
	if r.Stream {
		s.events = a.chunks(req.IncludeUsage)
	} else {
		s.wait += time.Duration(len(a.pieces)) * a.perPiece
		s.pace = 0
		s.events = [][]byte{a.whole()}
	}
	s.streamed = r.Stream
	return s, nil
}

// answer is a made-up answer.
type answer struct {
	id       string
	created  int64
	arm      *catalog.Arm
	pieces   []string
	finish   string
	tool     string // the one that is called; the pieces are its arguments
	n        int
	input    int
	output   int
	first    time.Duration
	perPiece time.Duration
}

// compose draws an answer from the seed, the arm and the conversation.
func (p *Provider) compose(arm *catalog.Arm, req *openai.Request) *answer {
	h := fnv.New64a()
	_, _ = io.WriteString(h, string(arm.ID)) // a hash never fails to be written to
	size := 0
	for _, t := range req.Prompt.Turns {
		_, _ = io.WriteString(h, "\x00"+t.Text)
		size += len(t.Text)
	}
	rng := rand.New(rand.NewPCG(p.o.Seed, h.Sum64()))
	lognormal := func(median, sigma float64) float64 { return median * math.Exp(sigma*rng.NormFloat64()) }
	scale := func(d time.Duration, sigma float64) time.Duration {
		return time.Duration(p.o.Pace * lognormal(float64(d), sigma))
	}
	m := temperOf(arm.Tier)
	a := &answer{
		id: fmt.Sprintf("chatcmpl-sim-%016x", h.Sum64()^p.o.Seed), created: time.Now().Unix(), arm: arm, finish: "stop", n: req.N,
		input: size/4 + 4*len(req.Prompt.Turns) + req.Prompt.ToolBytes/4 + 3,
		first: scale(m.first, 0.4), perPiece: scale(m.perToken, 0.2),
	}
	// A longer question gets a longer answer, in the square root as people do.
	tokens := int(min(lognormal(m.tokens, 0.5)*math.Sqrt(1+float64(size)/2000), 4000))
	if req.Prompt.JSONFormat {
		a.pieces = []string{fmt.Sprintf(`{"simulated":true,"model":%q,"note":"No real model was asked."}`, arm.ID)}
	} else {
		a.pieces = words(arm, rng, tokens)
	}
	return a
}

// pieceBytes is about what a token of JSON has.
const pieceBytes = 4

// shape gives the answer the form that the request asks for: a value for its schema, or a call of the tool that must be
// called.
func (a *answer) shape(body []byte) {
	tool, schema := form(body)
	if schema == nil {
		return
	}
	a.tool, a.pieces = tool, nil
	text := instance(schema)
	for ; len(text) > pieceBytes; text = text[pieceBytes:] {
		a.pieces = append(a.pieces, text[:pieceBytes])
	}
	if a.pieces = append(a.pieces, text); tool != "" {
		a.finish = "tool_calls"
	}
}

// cap cuts the answer where the arm or the request has it end.
func (a *answer) cap(asked int) {
	limit := a.arm.MaxOutputTokens
	if asked > 0 && (limit == 0 || asked < limit) {
		limit = asked
	}
	if limit > 0 && len(a.pieces) > limit {
		a.pieces, a.finish = a.pieces[:limit], "length"
	}
	a.output = len(a.pieces) * a.n
}

// filler is what an answer is made of after its first sentence.
var filler = strings.Fields("the wind turns and the harbour waits while a small ship takes its course past the light " +
	"and over the bar where deep water runs under a clear sky with time enough for every sail to fill")

// words are the pieces of a text, one for each token: who answers, that nobody was asked, and filler.
func words(arm *catalog.Arm, rng *rand.Rand, tokens int) []string {
	out := strings.SplitAfter(fmt.Sprintf("This is a simulated answer from %s: no real model was asked.", arm.ID), " ")
	for len(out) < tokens {
		out = append(out, " "+filler[rng.IntN(len(filler))])
	}
	return out
}

// Marks of an answer that nobody gave.
const fingerprint = "simulated"

type message struct {
	Role    string `json:"role,omitempty"`
	Content string `json:"content"`
	Calls   []call `json:"tool_calls,omitempty"`
}

type call struct {
	Index    int    `json:"index"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// say puts some of the answer into a message: text, or arguments of the call, which its first part names.
func (a *answer) say(text string, first bool) message {
	if a.tool == "" {
		return message{Content: text}
	}
	c := call{}
	if c.Function.Arguments = text; first {
		c.ID, c.Type, c.Function.Name = "call_"+a.id, "function", a.tool
	}
	return message{Calls: []call{c}}
}

type choice struct {
	Index        int      `json:"index"`
	Message      *message `json:"message,omitempty"`
	Delta        *message `json:"delta,omitempty"`
	FinishReason *string  `json:"finish_reason"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

type completion struct {
	ID                string   `json:"id"`
	Object            string   `json:"object"`
	Created           int64    `json:"created"`
	Model             string   `json:"model"`
	SystemFingerprint string   `json:"system_fingerprint"`
	Simulated         bool     `json:"simulated"`
	Choices           []choice `json:"choices"`
	Usage             *usage   `json:"usage,omitempty"`
}

func (a *answer) envelope(object string) *completion {
	return &completion{
		ID: a.id, Object: object, Created: a.created, Model: a.arm.Model(), SystemFingerprint: fingerprint, Simulated: true, Choices: []choice{},
	}
}

func (a *answer) usage() *usage {
	return &usage{PromptTokens: a.input, CompletionTokens: a.output, TotalTokens: a.input + a.output}
}

func encode(c *completion) []byte {
	body, err := json.Marshal(c)
	if err != nil { // cannot happen: plain fields only
		return []byte("{}")
	}
	return body
}

func (a *answer) whole() []byte {
	c := a.envelope("chat.completion")
	for i := range a.n {
		m := a.say(strings.Join(a.pieces, ""), true)
		m.Role = "assistant"
		c.Choices = append(c.Choices, choice{Index: i, Message: &m, FinishReason: &a.finish})
	}
	c.Usage = a.usage()
	return encode(c)
}

// chunks are the payloads of the stream, [DONE] included.
func (a *answer) chunks(withUsage bool) [][]byte {
	one := func(index int, d message, finish *string) []byte {
		c := a.envelope("chat.completion.chunk")
		c.Choices = []choice{{Index: index, Delta: &d, FinishReason: finish}}
		return encode(c)
	}
	var out [][]byte
	for i := range a.n {
		out = append(out, one(i, message{Role: "assistant"}, nil))
		for k, piece := range a.pieces {
			out = append(out, one(i, a.say(piece, k == 0), nil))
		}
		out = append(out, one(i, message{}, &a.finish))
	}
	if withUsage {
		c := a.envelope("chat.completion.chunk")
		c.Usage = a.usage()
		out = append(out, encode(c))
	}
	return append(out, []byte("[DONE]"))
}
