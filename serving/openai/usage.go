package openai

import (
	"strconv"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Usage is what a vendor says a call used. Known tells an explicit zero from a vendor that said nothing.
type Usage struct {
	// Known says that the vendor gave both input and output.
	Known bool
	// Input is all input tokens, cached ones included. CacheRead and CacheWrite are parts of it.
	Input      int64
	CacheRead  int64
	CacheWrite int64
	// Output is all output tokens. Reasoning is a part of it.
	Output    int64
	Reasoning int64
}

// Catalog splits the counts by the price that applies to each.
func (u Usage) Catalog() catalog.Usage {
	read := min(u.CacheRead, u.Input)
	write := min(u.CacheWrite, u.Input-read)
	return catalog.Usage{Input: u.Input - read - write, CacheRead: read, CacheWrite: write, Output: u.Output}
}

// ParseUsage reads a usage object. Counts that are missing, negative or no integers are not known; a usage without
// both prompt_tokens and completion_tokens is not known as a whole.
func ParseUsage(raw []byte) Usage {
	u, in, out, total := Usage{}, int64(-1), int64(-1), int64(-1)
	s := &scanner{b: raw, depthMax: DepthMax}
	count := func(dst *int64) error {
		v, err := s.value()
		if n, bad := strconv.ParseInt(string(v.of(raw)), 10, 64); bad == nil && n >= 0 && n < 1<<40 {
			*dst = n
		}
		return err
	}
	details := func(name string, dst *int64) error {
		if !s.at('{') {
			return s.skip()
		}
		return s.walk(false, func(key []byte) error {
			switch string(key) {
			case name:
				return count(dst)
			case "cache_write_tokens", "cache_creation_tokens":
				return count(&u.CacheWrite)
			}
			return s.skip()
		})
	}
	err := s.document(func() error {
		return s.walk(false, func(key []byte) error {
			switch string(key) {
			case "prompt_tokens":
				return count(&in)
			case "completion_tokens":
				return count(&out)
			case "total_tokens":
				return count(&total)
			case "prompt_tokens_details":
				return details("cached_tokens", &u.CacheRead)
			case "completion_tokens_details":
				return details("reasoning_tokens", &u.Reasoning)
			case "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens": // DeepSeek, Moonshot, Anthropic
				return count(&u.CacheRead)
			case "cache_creation_input_tokens":
				return count(&u.CacheWrite)
			}
			return s.skip()
		})
	})
	if err != nil || in < 0 || out < 0 {
		return Usage{}
	}
	// Some vendors (xAI) leave reasoning out of completion_tokens; their own total gives it away.
	if u.Reasoning > 0 && total == in+out+u.Reasoning {
		out += u.Reasoning
	}
	u.Known, u.Input, u.Output = true, in, out
	return u
}

// Cost is what a call costs, as it stands in usage.cost and usage.cost_details.
type Cost struct {
	// Priced is false where the catalog has no price; then the cost is null.
	Priced     bool
	Total      catalog.Nanodollars
	Input      catalog.Nanodollars
	Output     catalog.Nanodollars
	CacheRead  catalog.Nanodollars
	CacheWrite catalog.Nanodollars
	// Router is what routing itself cost; it is part of Total.
	Router catalog.Nanodollars
}

// Price computes the cost of a call. Total is rounded up once, so the parts, each rounded up, may add up to more by
// some nanodollars.
func Price(p *catalog.Prices, u catalog.Usage) (Cost, error) {
	if !p.Known {
		return Cost{}, nil
	}
	c := Cost{Priced: true}
	at := p.At(u) // a step is reached by the whole request, so the parts are priced at the same rates
	for _, part := range [...]struct {
		dst *catalog.Nanodollars
		u   catalog.Usage
	}{
		{&c.Total, u}, {&c.Input, catalog.Usage{Input: u.Input}}, {&c.Output, catalog.Usage{Output: u.Output}},
		{&c.CacheRead, catalog.Usage{CacheRead: u.CacheRead}}, {&c.CacheWrite, catalog.Usage{CacheWrite: u.CacheWrite}},
	} {
		var err error
		if *part.dst, err = at.Cost(part.u); err != nil {
			return Cost{}, err
		}
	}
	return c, nil
}

// append appends the members cost and cost_details, without braces.
func (c *Cost) append(dst []byte) []byte {
	if !c.Priced {
		return append(dst, `"cost":null,"cost_details":null`...)
	}
	dst = c.Total.AppendText(append(dst, `"cost":`...))
	dst = c.Input.AppendText(append(dst, `,"cost_details":{"input":`...))
	dst = c.Output.AppendText(append(dst, `,"output":`...))
	dst = c.CacheRead.AppendText(append(dst, `,"cache_read":`...))
	dst = c.CacheWrite.AppendText(append(dst, `,"cache_write":`...))
	dst = c.Router.AppendText(append(dst, `,"router":`...))
	return append(dst, `,"currency":"USD"}`...)
}
