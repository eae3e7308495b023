package openai

import (
	"strconv"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Usage is what a vendor says a call used. Known tells an explicit zero from a vendor that said nothing.
type Usage struct {
	// Known says that the vendor gave both input and output.
	Known bool
	// Input is all input tokens. The cached ones, audio and images are parts of it; CacheWrite1h is a part of CacheWrite.
	Input        int64
	CacheRead    int64
	CacheWrite   int64
	CacheWrite1h int64
	AudioInput   int64
	ImageInput   int64
	// Output is all output tokens. Reasoning and audio are parts of it.
	Output      int64
	Reasoning   int64
	AudioOutput int64
}

// Catalog splits the counts by the price that applies to each. Parts that are more than their whole are cut to it.
func (u Usage) Catalog() catalog.Usage {
	rest := u.Input
	part := func(n int64) int64 {
		n = min(n, rest)
		rest -= n
		return n
	}
	var c catalog.Usage
	c.CacheRead = part(u.CacheRead)
	c.CacheWrite = part(u.CacheWrite)
	c.CacheWrite1h = min(u.CacheWrite1h, c.CacheWrite)
	c.CacheWrite -= c.CacheWrite1h
	c.AudioInput, c.ImageInput = part(u.AudioInput), part(u.ImageInput)
	c.Input, rest = rest, u.Output
	c.Reasoning, c.AudioOutput = part(u.Reasoning), part(u.AudioOutput)
	c.Output = rest
	return c
}

// ParseUsage reads a usage object. Counts that are missing, negative or no integers are not known; a usage without
// both prompt_tokens and completion_tokens is not known as a whole. One of embeddings has no output to tell: all of its total is
// input.
func ParseUsage(raw []byte) Usage {
	p := usageParser{raw: raw, s: &scanner{b: raw, depthMax: DepthMax}, in: -1, out: -1, total: -1}
	err := p.s.document(func() error { return p.s.walk(false, p.member) })
	if p.out < 0 && p.total == p.in {
		p.out = 0
	}
	if err != nil || p.in < 0 || p.out < 0 {
		return Usage{}
	}
	p.reconcile()
	p.u.Known, p.u.Input, p.u.Output = true, p.in, p.out
	return p.u
}

type usageParser struct {
	raw []byte
	s   *scanner
	u   Usage
	// in, out and total are -1 where the vendor did not say.
	in, out, total int64
}

func (p *usageParser) member(key []byte) error {
	switch string(key) {
	case "prompt_tokens":
		return p.count(&p.in)
	case "completion_tokens":
		return p.count(&p.out)
	case "total_tokens":
		return p.count(&p.total)
	case "prompt_tokens_details":
		return p.details(p.inputDetail)
	case "completion_tokens_details":
		return p.details(p.outputDetail)
	case "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens": // DeepSeek, Moonshot, Anthropic
		return p.count(&p.u.CacheRead)
	case "cache_creation_input_tokens":
		return p.count(&p.u.CacheWrite)
	case "cache_creation":
		return p.details(p.lifetime)
	}
	return p.s.skip()
}

func (p *usageParser) inputDetail(key []byte) error {
	switch string(key) {
	case "cached_tokens":
		return p.count(&p.u.CacheRead)
	case "cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens":
		return p.count(&p.u.CacheWrite)
	case "audio_tokens":
		return p.count(&p.u.AudioInput)
	case "image_tokens":
		return p.count(&p.u.ImageInput)
	}
	return p.s.skip()
}

func (p *usageParser) outputDetail(key []byte) error {
	switch string(key) {
	case "reasoning_tokens":
		return p.count(&p.u.Reasoning)
	case "audio_tokens":
		return p.count(&p.u.AudioOutput)
	}
	return p.s.skip()
}

// lifetime reads Anthropic's split of what was written to the cache by how long it is kept.
func (p *usageParser) lifetime(key []byte) error {
	if string(key) == "ephemeral_1h_input_tokens" {
		return p.count(&p.u.CacheWrite1h)
	}
	return p.s.skip()
}

func (p *usageParser) details(member func([]byte) error) error {
	if !p.s.at('{') {
		return p.s.skip()
	}
	return p.s.walk(false, member)
}

func (p *usageParser) count(dst *int64) error {
	v, err := p.s.value()
	if n, bad := strconv.ParseInt(string(v.of(p.raw)), 10, 64); bad == nil && n >= 0 && n < 1<<40 {
		*dst = n
	}
	return err
}

// reconcile makes wholes of counts that leave a part out. A vendor's own total gives it away: xAI leaves reasoning out of
// completion_tokens, Google does too and does not name it, and some copies of Anthropic's count leave the cache out of
// prompt_tokens.
func (p *usageParser) reconcile() {
	switch missing, cached := p.total-p.in-p.out, p.u.CacheRead+p.u.CacheWrite; {
	case missing <= 0:
	case missing == p.u.Reasoning:
		p.out += missing
	case missing == cached:
		p.in += missing
	case p.u.Reasoning == 0:
		p.u.Reasoning = missing
		p.out += missing
	}
}

// Cost is what a call costs, as it stands in usage.cost and usage.cost_details.
type Cost struct {
	// Priced is false where the catalog has no price; then the cost is null.
	Priced bool
	Total  catalog.Nanodollars
	// Input and Output hold audio, images and reasoning, CacheWrite both lifetimes.
	Input      catalog.Nanodollars
	Output     catalog.Nanodollars
	CacheRead  catalog.Nanodollars
	CacheWrite catalog.Nanodollars
	// Request is what was asked for the call itself.
	Request catalog.Nanodollars
	// Router is what routing itself cost; it is part of Total.
	Router catalog.Nanodollars
}

// Price computes the cost of a call. Total is rounded up once, so the parts, each rounded up, may add up to more by
// some nanodollars.
func Price(p *catalog.Prices, u catalog.Usage) (Cost, error) {
	if !p.Known {
		return Cost{}, nil
	}
	c := Cost{Priced: true, Request: p.Request}
	var err error
	if c.Total, err = p.Cost(u); err != nil {
		return Cost{}, err
	}
	at := p.At(u) // a step is reached by the whole request, so the parts are priced at the same rates
	for _, part := range [...]struct {
		dst *catalog.Nanodollars
		u   catalog.Usage
	}{
		{&c.Input, catalog.Usage{Input: u.Input, AudioInput: u.AudioInput, ImageInput: u.ImageInput}},
		{&c.Output, catalog.Usage{Output: u.Output, Reasoning: u.Reasoning, AudioOutput: u.AudioOutput}},
		{&c.CacheRead, catalog.Usage{CacheRead: u.CacheRead}},
		{&c.CacheWrite, catalog.Usage{CacheWrite: u.CacheWrite, CacheWrite1h: u.CacheWrite1h}},
	} {
		if *part.dst, err = at.Cost(part.u); err != nil {
			return Cost{}, err
		}
	}
	return c, nil
}

// Append appends the members cost and cost_details, without braces.
func (c *Cost) Append(dst []byte) []byte {
	if !c.Priced {
		return append(dst, `"cost":null,"cost_details":null`...)
	}
	dst = c.Total.AppendText(append(dst, `"cost":`...))
	dst = c.Input.AppendText(append(dst, `,"cost_details":{"input":`...))
	dst = c.Output.AppendText(append(dst, `,"output":`...))
	dst = c.CacheRead.AppendText(append(dst, `,"cache_read":`...))
	dst = c.CacheWrite.AppendText(append(dst, `,"cache_write":`...))
	if c.Request > 0 {
		dst = c.Request.AppendText(append(dst, `,"request":`...))
	}
	dst = c.Router.AppendText(append(dst, `,"router":`...))
	return append(dst, `,"currency":"USD"}`...)
}
