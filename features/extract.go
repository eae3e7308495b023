package features

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tradewind-llm/tradewind/features/tokenizer"
)

// bytesPerToken is the estimate where nothing was tokenized: tool definitions, and everything without a tokenizer.
const bytesPerToken = 3.7

// Extractor turns prompts into contexts. It is immutable and safe for concurrent use.
type Extractor struct {
	spec    Spec
	tok     *tokenizer.Tokenizer
	shift   uint
	scratch sync.Pool
}

// New makes an extractor. Without a tokenizer it estimates tokens from bytes.
func New(spec Spec, tok *tokenizer.Tokenizer) (*Extractor, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("features: making an extractor: %w", err)
	}
	e := &Extractor{spec: spec, tok: tok, shift: uint(64 - bits.TrailingZeros(uint(spec.Buckets)))}
	e.scratch.New = func() any {
		return &scratch{counts: make([]uint16, 2*spec.Buckets), touched: make([]uint64, 2*spec.Buckets/64)}
	}
	return e, nil
}

// Spec is what the extractor was made of.
func (e *Extractor) Spec() Spec { return e.spec }

// Extract overwrites dst with the features of p. The counts and the first AskFlags flags are those of the last user
// turn and do not depend on anything around it. The work is bounded by the Spec: of the last user turn its head and
// tail are read, of the rest OtherBytes to estimate tokens. For ASCII text it allocates only when dst.Counts grows.
func (e *Extractor) Extract(dst *Context, p *Prompt) {
	s := e.scratch.Get().(*scratch)
	e.extract(s, dst, p)
	e.scratch.Put(s)
}

func (e *Extractor) extract(s *scratch, dst *Context, p *Prompt) {
	s.reset(e)
	ask := e.ask(p)
	text := ""
	if ask >= 0 {
		text = p.Turns[ask].Text
	}
	head, tail := cut(text, e.spec.HeadBytes, e.spec.TailBytes)
	s.read(e, head)
	s.read(e, tail)

	total, toolBytes := 0, min(max(p.ToolBytes, 0), sizeMax)
	for i := range p.Turns {
		total += len(p.Turns[i].Text)
	}
	dst.PromptBytes, dst.Bytes = len(text), total+toolBytes
	askFlags(&dst.Flags, len(text), head, tail, s.words, s.wordBytes)
	conversationFlags(&dst.Flags, p, total-len(text))
	dst.Counts = s.drain(dst.Counts[:0])
	dst.Tokens = scale(s.tokens.N, len(head)+len(tail), len(text)) + e.otherTokens(s, p, ask) + scale(0, 0, toolBytes)
	dst.Degraded = s.tokens.Failed
}

// Ask is the text whose features count: what may be kept of a request so that they can be extracted again.
func (e *Extractor) Ask(p *Prompt) string {
	if i := e.ask(p); i >= 0 {
		return p.Turns[i].Text
	}
	return ""
}

// ask is the turn whose features count: the last user turn that says something, else the last turn that does, else -1.
func (e *Extractor) ask(p *Prompt) int {
	other := -1
	for i := len(p.Turns) - 1; i >= 0; i-- {
		t := &p.Turns[i]
		if t.Role != User && other >= 0 {
			continue
		}
		head, tail := cut(t.Text, e.spec.HeadBytes, e.spec.TailBytes)
		if strings.TrimSpace(head) == "" && strings.TrimSpace(tail) == "" {
			continue
		}
		if t.Role == User {
			return i
		}
		other = i
	}
	return other
}

// otherTokens estimates the tokens of all turns but the ask. The first OtherBytes are counted; what is beyond them has
// the same density.
func (e *Extractor) otherTokens(s *scratch, p *Prompt, ask int) int {
	s.tokens.N = 0
	left, total := e.spec.OtherBytes, 0
	for i := range p.Turns {
		if i == ask {
			continue
		}
		text := p.Turns[i].Text
		total += len(text)
		if left > 0 && text != "" {
			part, _ := cut(text, left, 0)
			left -= len(part)
			s.folded = tokenizer.Fold(s.folded[:0], part)
			for w, rest := tokenizer.Next(s.folded); len(w) > 0; w, rest = tokenizer.Next(rest) {
				s.tokens.Add(w)
			}
		}
	}
	return scale(s.tokens.N, min(e.spec.OtherBytes-left, total), total)
}

// scale extends a count of tokens from the bytes read to all.
func scale(tokens, read, all int) int {
	switch {
	case all <= 0:
		return 0
	case read <= 0:
		return int(math.Ceil(float64(all) / bytesPerToken))
	case read >= all:
		return tokens
	}
	return int(math.Ceil(float64(tokens) * float64(all) / float64(read)))
}

// cut returns a text that fits head and tail together whole, of a longer one the first head and the last tail bytes,
// splitting no character.
func cut(text string, head, tail int) (string, string) {
	if len(text) <= head+tail {
		return text, ""
	}
	t := len(text) - tail
	for end := t + utf8.UTFMax - 1; t < min(end, len(text)) && !utf8.RuneStart(text[t]); {
		t++
	}
	return text[:tokenizer.Boundary(text, head)], text[t:]
}
