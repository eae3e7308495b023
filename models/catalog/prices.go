package catalog

import (
	"math"
	"math/bits"
)

// Usage counts the tokens of one call by the price that applies to them. The counts do not overlap: Input holds only
// what none of the other input kinds holds, Output only what neither Reasoning nor AudioOutput does.
type Usage struct {
	Input        int64 `json:"input"`
	CacheRead    int64 `json:"cache_read"`
	CacheWrite   int64 `json:"cache_write"`
	CacheWrite1h int64 `json:"cache_write_1h,omitempty"`
	AudioInput   int64 `json:"audio_input,omitempty"`
	ImageInput   int64 `json:"image_input,omitempty"`
	Output       int64 `json:"output"`
	Reasoning    int64 `json:"reasoning,omitempty"`
	AudioOutput  int64 `json:"audio_output,omitempty"`
}

// InputTokens are all tokens that went in, of every kind.
func (u *Usage) InputTokens() int64 {
	return u.Input + u.CacheRead + u.CacheWrite + u.CacheWrite1h + u.AudioInput + u.ImageInput
}

// OutputTokens are all tokens that came out, of every kind.
func (u *Usage) OutputTokens() int64 { return u.Output + u.Reasoning + u.AudioOutput }

func (u *Usage) counts() [kindsN]int64 {
	return [...]int64{u.Input, u.CacheRead, u.CacheWrite, u.CacheWrite1h, u.AudioInput, u.ImageInput, u.Output, u.Reasoning, u.AudioOutput}
}

// Kinds is a set of the kinds of tokens that are priced.
type Kinds uint16

// The kinds, in the order of Usage. A cache write is kept for five minutes or for an hour.
const (
	KindInput Kinds = 1 << iota
	KindCacheRead
	KindCacheWrite
	KindCacheWrite1h
	KindAudioInput
	KindImageInput
	KindOutput
	KindReasoning
	KindAudioOutput
)

const kindsN = 9

// Names are the names of the kinds in the set, as the catalog file writes them.
func (k Kinds) Names() []string {
	var out []string
	for i, name := range [kindsN]string{"in", "cache_read", "cache_write", "cache_write_1h", "audio_in", "image_in", "out", "reasoning", "audio_out"} {
		if k&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// Rates are what a provider asks for a token of each kind.
type Rates struct {
	Input        Picodollars
	CacheRead    Picodollars
	CacheWrite   Picodollars
	CacheWrite1h Picodollars
	AudioInput   Picodollars
	ImageInput   Picodollars
	Output       Picodollars
	Reasoning    Picodollars
	AudioOutput  Picodollars
	// Guessed are the kinds whose price nobody told, so that another stands in: the full input price for cached tokens,
	// never less. What they cost is an estimate.
	Guessed Kinds
}

func (r *Rates) prices() [kindsN]Picodollars {
	return [...]Picodollars{r.Input, r.CacheRead, r.CacheWrite, r.CacheWrite1h, r.AudioInput, r.ImageInput, r.Output, r.Reasoning, r.AudioOutput}
}

// Step is a price step: a call with more than Above input tokens, cached ones included, is charged at these rates from
// its first token on.
type Step struct {
	Above int64
	Rates
}

// StepsMax is the most price steps that one arm may have.
const StepsMax = 4

// Prices are what a provider asks. Known is false where nobody told: such an arm is unpriced, which is never the same
// as free.
type Prices struct {
	Known bool
	Rates
	// Request is asked once a call, whatever its length.
	Request Nanodollars
	// Steps ascend; the first one whose Above is 0 is not there, nor is any after it.
	Steps [StepsMax]Step
}

// Flat are prices of which only input and output are told; the others are guessed from them.
func Flat(input, output Picodollars) Prices {
	p := Prices{Known: true, Rates: Rates{Input: input, Output: output}}
	p.fill(KindInput | KindOutput)
	return p
}

// fill lets other prices stand in for those that nobody told. Reasoning is billed as output and images as input unless
// somebody says otherwise, so these two are no guesses.
func (r *Rates) fill(told Kinds) {
	for _, f := range [...]struct {
		kind  Kinds
		to    *Picodollars
		from  Picodollars
		guess bool
	}{
		{KindCacheRead, &r.CacheRead, r.Input, true}, {KindCacheWrite, &r.CacheWrite, r.Input, true},
		{KindAudioInput, &r.AudioInput, r.Input, true}, {KindImageInput, &r.ImageInput, r.Input, false},
		{KindReasoning, &r.Reasoning, r.Output, false}, {KindAudioOutput, &r.AudioOutput, r.Output, true},
	} {
		if told&f.kind != 0 {
			continue
		}
		if *f.to = f.from; f.guess {
			r.Guessed |= f.kind
		}
	}
	if told&KindCacheWrite1h == 0 { // whoever keeps it longer asks no less
		r.CacheWrite1h, r.Guessed = max(r.CacheWrite, r.Input), r.Guessed|KindCacheWrite1h
	}
}

// At returns the rates in force for a call of this usage: those of the highest step that its input is above.
func (p *Prices) At(u Usage) *Rates {
	at := &p.Rates
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Above == 0 || !above(u, s.Above) {
			break
		} else {
			at = &s.Rates
		}
	}
	return at
}

// above reports whether the input tokens are more than bound, without a sum that could overflow.
func above(u Usage, bound int64) bool {
	for _, n := range [...]int64{u.Input, u.CacheRead, u.CacheWrite, u.CacheWrite1h, u.AudioInput, u.ImageInput} {
		if n > bound {
			return true
		}
		bound -= max(n, 0)
	}
	return false
}

// Guesses reports whether a call of this usage has tokens whose price is guessed.
func (p *Prices) Guesses(u Usage) bool {
	at := p.At(u)
	for i, n := range u.counts() {
		if n > 0 && at.Guessed&(1<<i) != 0 {
			return true
		}
	}
	return false
}

// Cost sums a call in picodollars and rounds up once. It is ErrUnpriced where no price is known and ErrOverflow where
// the sum does not fit.
func (p *Prices) Cost(u Usage) (Nanodollars, error) {
	if !p.Known {
		return 0, ErrUnpriced
	}
	cost, err := p.At(u).Cost(u)
	if err != nil || p.Request < 0 || cost > math.MaxInt64-p.Request {
		return 0, ErrOverflow
	}
	return cost + p.Request, nil
}

// Cost sums tokens at these rates, whatever their number, in picodollars and rounds up once.
func (r *Rates) Cost(u Usage) (Nanodollars, error) {
	var hi, lo uint64
	counts := u.counts()
	for i, p := range r.prices() {
		n := counts[i]
		if n < 0 || p < 0 {
			return 0, ErrOverflow
		}
		h, l := bits.Mul64(uint64(n), uint64(p))
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		if hi, carry = bits.Add64(hi, h, carry); carry != 0 {
			return 0, ErrOverflow
		}
	}
	if hi >= 1000 {
		return 0, ErrOverflow
	}
	quo, rem := bits.Div64(hi, lo, 1000)
	if rem > 0 {
		quo++
	}
	if quo > math.MaxInt64 {
		return 0, ErrOverflow
	}
	return Nanodollars(quo), nil
}

// Most is the largest that a call can be: the tokens that go in, with audio among them or not, and n answers of at most
// Outputs tokens each.
type Most struct {
	Inputs  int64
	Outputs int64
	N       int64
	Audio   bool
}

// Bound is the most that a call can cost: every token at the dearest rate that may apply to it. Audio comes in only
// where the request holds some, but an arm that can speak may do so unasked.
func (p *Prices) Bound(m Most) (Nanodollars, error) {
	input, output := p.dearest(m.Audio)
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Above > 0 && m.Inputs > s.Above {
			in, out := s.dearest(m.Audio)
			input, output = max(input, in), max(output, out)
		}
	}
	h, total := bits.Mul64(uint64(max(m.Outputs, 0)), uint64(max(m.N, 1)))
	if h != 0 || total > math.MaxInt64 {
		return 0, ErrOverflow
	}
	most := Prices{Known: p.Known, Request: p.Request, Rates: Rates{Input: input, Output: output}}
	return most.Cost(Usage{Input: m.Inputs, Output: int64(total)})
}

// Listed are the prices of a token of text in and out at the dearest step that so many tokens of input may reach, which is
// what a cap on prices is held against. It leaves out what caches, audio and images cost beside.
func (p *Prices) Listed(inputs int64) (input, output Picodollars) {
	input, output = p.Input, max(p.Output, p.Reasoning)
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Above > 0 && inputs > s.Above {
			input, output = max(input, s.Input), max(output, s.Output, s.Reasoning)
		}
	}
	return input, output
}

func (r *Rates) dearest(audio bool) (input, output Picodollars) {
	input = max(r.Input, r.CacheRead, r.CacheWrite, r.CacheWrite1h, r.ImageInput)
	if audio {
		input = max(input, r.AudioInput)
	}
	return input, max(r.Output, r.Reasoning, r.AudioOutput)
}
