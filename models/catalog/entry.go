package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Entry is one arm as somebody states it: a catalog file, a public price list, an operator's configuration. What is nil
// or absent is unknown and never 0. Arm turns it into what the program works with.
type Entry struct {
	ID string `json:"id"`
	// Mode is "completion" or "embedding"; "chat", or nothing, is for chat.
	Mode Mode `json:"mode,omitempty"`
	EntryRates
	// Request is asked once a call, in US dollars.
	Request *Nanodollars `json:"request,omitempty"`
	Free    bool         `json:"free,omitempty"`
	Steps   []EntryStep  `json:"steps,omitempty"`
	// Changes are prices that hold from a day on.
	Changes   []EntryChange `json:"changes,omitempty"`
	Context   *int          `json:"context,omitempty"`
	MaxInput  *int          `json:"max_input,omitempty"`
	MaxOutput *int          `json:"max_output,omitempty"`
	Can       []string      `json:"can,omitempty"`
	Cannot    []string      `json:"cannot,omitempty"`
	Base      string        `json:"base,omitempty"`
	// Quantization is one of Quantizations.
	Quantization string `json:"quantization,omitempty"`
	Tier         Tier   `json:"tier,omitempty"`
	Deprecated   bool   `json:"deprecated,omitempty"`
	// Released and Ends are the days on which the model came out and on which its provider ends it.
	Released string   `json:"released,omitempty"`
	Ends     string   `json:"ends,omitempty"`
	AsOf     string   `json:"as_of,omitempty"`
	Sources  []string `json:"sources,omitempty"`
	// Disputed holds, by field, what each source says where they differ.
	Disputed map[string]map[string]string `json:"disputed,omitempty"`
}

// EntryRates are prices of a token, in US dollars per million of them.
type EntryRates struct {
	In           *PerMTok `json:"in,omitempty"`
	Out          *PerMTok `json:"out,omitempty"`
	CacheRead    *PerMTok `json:"cache_read,omitempty"`
	CacheWrite   *PerMTok `json:"cache_write,omitempty"`
	CacheWrite1h *PerMTok `json:"cache_write_1h,omitempty"`
	AudioIn      *PerMTok `json:"audio_in,omitempty"`
	AudioOut     *PerMTok `json:"audio_out,omitempty"`
	ImageIn      *PerMTok `json:"image_in,omitempty"`
	Reasoning    *PerMTok `json:"reasoning,omitempty"`
}

// EntryStep is a price step: rates for calls with more input tokens than Above.
type EntryStep struct {
	Above int64 `json:"above"`
	EntryRates
}

// EntryChange is all prices of an arm from a day (YYYY-MM-DD) on.
type EntryChange struct {
	From string `json:"from"`
	EntryRates
	Steps []EntryStep `json:"steps,omitempty"`
}

// PerMTok is a price of a token that is written in US dollars per million tokens: exact, with at most six decimals.
type PerMTok Picodollars

// String writes the price in US dollars per million tokens.
func (p PerMTok) String() string { return Nanodollars(p * 1000).String() }

// MarshalText writes what UnmarshalText reads.
func (p PerMTok) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a decimal number.
func (p *PerMTok) UnmarshalText(b []byte) error {
	v, err := ParsePerMillion(string(b))
	*p = PerMTok(v)
	return err
}

// UnmarshalJSON reads a decimal number, quoted or not. One with an exponent is rounded half to even.
func (p *PerMTok) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		return p.UnmarshalText([]byte(s))
	}
	if p.UnmarshalText(b) == nil {
		return nil
	}
	usd, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("%.40q is not a price", b)
	}
	v, err := PerMillion(usd)
	*p = PerMTok(v)
	return err
}

// Change is what an arm costs from a day on.
type Change struct {
	From   string
	Prices Prices
}

// Arm reads the entry and checks it: an unknown capability, a price of 0 that is not meant, one price without the other
// and a date that is none are errors.
func (e *Entry) Arm() (Arm, Evidence, error) {
	a := Arm{ID: ArmID(e.ID), BaseModel: e.Base, Deprecated: e.Deprecated, AsOf: e.AsOf, Tier: e.Tier, Disputed: len(e.Disputed) > 0, Quantization: e.Quantization}
	v := Evidence{Sources: e.Sources, Disputed: e.Disputed, Released: e.Released, Ends: e.Ends}
	if err := a.ID.Validate(); err != nil {
		return Arm{}, v, err
	}
	switch a.Mode = e.Mode; a.Mode {
	case "chat":
		a.Mode = ModeChat
	case ModeChat, ModeCompletion, ModeEmbedding:
	default:
		return Arm{}, v, fmt.Errorf("mode %.40q is none of chat, completion, embedding", e.Mode)
	}
	if err := cmp.Or(e.bounded(), e.days()); err != nil {
		return Arm{}, v, err
	}
	for _, limit := range [...]struct {
		name string
		from *int
		to   *int
	}{{"context", e.Context, &a.ContextTokens}, {"max_input", e.MaxInput, &a.MaxInputTokens}, {"max_output", e.MaxOutput, &a.MaxOutputTokens}} {
		if limit.from == nil {
			continue
		}
		if *limit.from < 1 || *limit.from > TokensMax {
			return Arm{}, v, fmt.Errorf("%s of %d tokens; leave out what is unknown", limit.name, *limit.from)
		}
		*limit.to = *limit.from
	}
	var err error
	if a.Capabilities, err = capabilities(e.Can); err != nil {
		return Arm{}, v, err
	}
	if v.Cannot, err = capabilities(e.Cannot); err != nil || a.Capabilities&v.Cannot != 0 {
		return Arm{}, v, errors.Join(err, errors.New("can and cannot hold capabilities, and none in both"))
	}
	if a.Prices, err = e.prices(); err != nil {
		return Arm{}, v, err
	}
	if v.Changes, err = e.changes(); err != nil {
		return Arm{}, v, err
	}
	if a.Tier == TierUnknown && a.Mode == ModeChat {
		a.Tier = DefaultTier(&a.Prices)
	}
	if !slices.Contains([]Tier{TierUnknown, TierSmall, TierMedium, TierLarge, TierFrontier}, a.Tier) {
		return Arm{}, v, fmt.Errorf("tier %.40q is none of small, medium, large, frontier", a.Tier)
	}
	return a, v, nil
}

// bounded refuses an entry that would take more memory than any arm needs, and a word that is none of a few.
func (e *Entry) bounded() error {
	names := len(e.Can) + len(e.Cannot) + len(e.Sources) + len(e.Disputed) + len(e.Steps) + len(e.Changes)
	for _, bySource := range e.Disputed {
		names += len(bySource)
	}
	if len(e.Base) > IDBytesMax || names > NamesMax {
		return errors.New("has more text than an entry may")
	}
	if q := e.Quantization; q != "" && !slices.Contains(Quantizations(), q) {
		return fmt.Errorf("quantization %.40q is none of %s; leave out what is unknown", q, strings.Join(Quantizations(), ", "))
	}
	return nil
}

func (e *Entry) days() error {
	days := []struct{ name, day string }{{"as_of", e.AsOf}, {"ends", e.Ends}}
	if e.Released != "" && !isMonth(e.Released) {
		days = append(days, struct{ name, day string }{"released", e.Released})
	}
	for i := range e.Changes {
		if e.Changes[i].From == "" {
			return errors.New("a price change has no day from which it holds")
		}
		days = append(days, struct{ name, day string }{"from", e.Changes[i].From})
	}
	for _, d := range days {
		if _, err := time.Parse(time.DateOnly, d.day); d.day != "" && err != nil {
			return fmt.Errorf("%s %.40q is not a day, such as 2026-12-31", d.name, d.day)
		}
	}
	return nil
}

// isMonth accepts a release of which only the month is known.
func isMonth(s string) bool {
	_, err := time.Parse("2006-01", s)
	return err == nil
}

func capabilities(names []string) (set Capability, err error) {
	for _, name := range names {
		c := ParseCapability(name)
		if c == 0 {
			return 0, fmt.Errorf("capability %.40q is none of %s", name, strings.ReplaceAll(AllCapabilities.String(), ",", ", "))
		}
		set |= c
	}
	return set, nil
}

// Validate reports whether id is "provider/model" without spaces and of a sane length.
func (id ArmID) Validate() error {
	provider, model, ok := strings.Cut(string(id), "/")
	strange := strings.ContainsFunc(string(id), func(r rune) bool { return r <= ' ' || r > '~' })
	if !ok || provider == "" || model == "" || len(id) > IDBytesMax || strange {
		return errors.New(`an arm is named "provider/model", in ASCII without spaces`)
	}
	return nil
}

func (e *Entry) prices() (Prices, error) {
	if e.EntryRates == (EntryRates{}) && e.Request == nil && len(e.Steps) == 0 {
		if e.Free {
			return Prices{}, errors.New("is free, but no price of 0 says of what")
		}
		return Prices{}, nil
	}
	return prices(&e.EntryRates, e.Request, e.Steps, e.priced())
}

func (e *Entry) changes() ([]Change, error) {
	var all []Change
	for i := range e.Changes {
		c := &e.Changes[i]
		p, err := prices(&c.EntryRates, e.Request, c.Steps, e.priced())
		if err != nil {
			return nil, fmt.Errorf("price change from %s: %w", c.From, err)
		}
		all = append(all, Change{c.From, p})
	}
	slices.SortStableFunc(all, func(a, b Change) int { return strings.Compare(a.From, b.From) })
	return all, nil
}

// priced is what an entry says of all its prices.
type priced struct {
	// free says that a price of 0 is meant, silent that there is no output, and so no price of one.
	free, silent bool
}

func (e *Entry) priced() priced { return priced{e.Free, e.Mode == ModeEmbedding} }

func prices(r *EntryRates, request *Nanodollars, steps []EntryStep, as priced) (Prices, error) {
	p := Prices{Known: true}
	var err error
	if p.Rates, err = r.rates(as); err != nil {
		return Prices{}, err
	}
	if request != nil {
		if p.Request = *request; p.Request < 0 || p.Request > RequestMax || p.Request == 0 && !as.free {
			return Prices{}, fmt.Errorf("has a price a call of %s USD, want more than 0 and at most %s", p.Request, RequestMax)
		}
	}
	if len(steps) > StepsMax {
		return Prices{}, fmt.Errorf("has %d price steps, at most %d are read", len(steps), StepsMax)
	}
	for i := range steps {
		s := Step{Above: steps[i].Above}
		if s.Rates, err = steps[i].rates(as); err != nil {
			return Prices{}, fmt.Errorf("price step above %d: %w", s.Above, err)
		}
		if s.Above < 1 || s.Above > TokensMax || i > 0 && s.Above <= p.Steps[i-1].Above {
			return Prices{}, fmt.Errorf("price step above %d tokens: steps ascend from 1", s.Above)
		}
		p.Steps[i] = s
	}
	return p, nil
}

func (r *EntryRates) all() [kindsN]**PerMTok {
	return [...]**PerMTok{&r.In, &r.CacheRead, &r.CacheWrite, &r.CacheWrite1h, &r.AudioIn, &r.ImageIn, &r.Out, &r.Reasoning, &r.AudioOut}
}

// rates takes what is told; other prices stand in for the rest.
func (r *EntryRates) rates(as priced) (Rates, error) {
	if r.In == nil || r.Out == nil && !as.silent {
		return Rates{}, errors.New("has one price without the other: in and out go together")
	}
	var out Rates
	var told Kinds
	if r.Out == nil {
		out.Output, out.Guessed, told = Picodollars(*r.In), KindOutput, KindOutput
	}
	to := [...]*Picodollars{&out.Input, &out.CacheRead, &out.CacheWrite, &out.CacheWrite1h, &out.AudioInput, &out.ImageInput, &out.Output, &out.Reasoning, &out.AudioOutput}
	for i, from := range r.all() {
		if *from == nil {
			continue
		}
		if *to[i] = Picodollars(**from); *to[i] == 0 && !as.free {
			return Rates{}, errors.New(`has a price of 0 without "free":true`)
		}
		told |= 1 << i
	}
	out.fill(told)
	if as.free {
		out.Guessed = 0
	}
	return out, nil
}

// DefaultTier guesses how good an arm is from what its provider asks for a million output tokens: under 0.50 USD
// small, under 3 medium, under 10 large, else frontier. It is a prior for an arm that nobody measured and no more than
// that; an unpriced or free arm has none.
func DefaultTier(p *Prices) Tier {
	switch {
	case !p.Known || p.Output == 0:
		return TierUnknown
	case p.Output < 500_000:
		return TierSmall
	case p.Output < 3_000_000:
		return TierMedium
	case p.Output < 10_000_000:
		return TierLarge
	}
	return TierFrontier
}

// ParseCapability reads a name that Capability.String writes; 0 where it is none.
func ParseCapability(name string) Capability {
	for c := Tools; c <= Reasoning; c <<= 1 {
		if c.String() == name {
			return c
		}
	}
	return 0
}
