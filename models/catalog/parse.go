package catalog

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Format is the version of the catalog file that Parse reads.
const Format = 1

// What a catalog file may hold. Beyond any of these it is refused.
const (
	FileBytesMax = 16 << 20
	ArmsMax      = 10_000
	IDBytesMax   = 256
	TokensMax    = 1 << 30
	NamesMax     = 32
)

// bundled holds the facts of catalog.json, whose notice names the sources and their licences.
//
//go:embed catalog.json
var bundled []byte

// Default returns the catalog that the program carries.
func Default() (*Catalog, error) {
	c, err := Parse(bytes.NewReader(bundled))
	if err != nil {
		return nil, fmt.Errorf("catalog: the bundled file: %w", err)
	}
	return c, nil
}

// entry is one arm as the file writes it. Prices are decimal strings in US dollars per million tokens; what is absent
// is unknown and never 0.
type entry struct {
	ID         string   `json:"id"`
	In         *string  `json:"in"`
	Out        *string  `json:"out"`
	CacheRead  *string  `json:"cache_read"`
	CacheWrite *string  `json:"cache_write"`
	Step       *step    `json:"step"`
	Free       bool     `json:"free"`
	Context    *int     `json:"context"`
	MaxInput   *int     `json:"max_input"`
	MaxOutput  *int     `json:"max_output"`
	Can        []string `json:"can"`
	Base       string   `json:"base"`
	Tier       Tier     `json:"tier"`
	Deprecated bool     `json:"deprecated"`
	AsOf       string   `json:"as_of"`
	Sources    []string `json:"sources"`
	Disputed   []string `json:"disputed"`
}

type step struct {
	Above      int64   `json:"above"`
	In         *string `json:"in"`
	Out        *string `json:"out"`
	CacheRead  *string `json:"cache_read"`
	CacheWrite *string `json:"cache_write"`
}

// Parse reads a catalog file in Tradewind's own form: {"format":1,"notice":[…],"arms":[…]}, one object an arm. It is
// strict: an unknown field, an arm twice, a price of 0 without "free":true and one price without the other are errors
// that name the entry. A missing cache price is the input price; an arm without any price is unpriced; an arm without
// a tier gets that of DefaultTier.
func Parse(r io.Reader) (*Catalog, error) {
	b, err := io.ReadAll(io.LimitReader(r, FileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("catalog: reading: %w", err)
	}
	if len(b) > FileBytesMax {
		return nil, fmt.Errorf("catalog: file is larger than %d bytes", FileBytesMax)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("catalog: not JSON: %w", err)
	}
	if head.Format != Format {
		return nil, fmt.Errorf("catalog: format %d, this program reads %d", head.Format, Format)
	}
	var file struct {
		Format int               `json:"format"`
		Notice []string          `json:"notice"`
		Arms   []json.RawMessage `json:"arms"`
	}
	if err := strict(b, &file); err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	if len(file.Arms) > ArmsMax {
		return nil, fmt.Errorf("catalog: %d arms, at most %d", len(file.Arms), ArmsMax)
	}
	return parseArms(file.Arms)
}

func parseArms(raw []json.RawMessage) (*Catalog, error) {
	arms := make([]Arm, 0, len(raw))
	evidence := make(map[ArmID]Evidence, len(raw))
	for i, b := range raw {
		var e entry
		err := strict(b, &e)
		var a Arm
		if err == nil {
			a, err = e.arm()
		}
		if _, twice := evidence[a.ID]; err == nil && twice {
			err = errors.New("is there twice")
		}
		if err != nil {
			return nil, fmt.Errorf("catalog: arm %d (%.80q): %w", i+1, e.ID, err)
		}
		arms = append(arms, a)
		evidence[a.ID] = Evidence{Sources: e.Sources, Disputed: e.Disputed}
	}
	return build(arms, evidence), nil
}

// strict decodes one JSON value and nothing after it.
func strict(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the file goes on after its end")
	}
	return nil
}

// arm checks an entry and converts it.
func (e *entry) arm() (Arm, error) {
	a := Arm{ID: ArmID(e.ID), BaseModel: e.Base, Deprecated: e.Deprecated, AsOf: e.AsOf, Tier: e.Tier, Disputed: len(e.Disputed) > 0}
	if err := a.ID.Validate(); err != nil {
		return Arm{}, err
	}
	if len(e.Base) > IDBytesMax || len(e.Can)+len(e.Sources)+len(e.Disputed) > NamesMax {
		return Arm{}, errors.New("has more text than an entry may")
	}
	if _, err := time.Parse(time.DateOnly, e.AsOf); e.AsOf != "" && err != nil {
		return Arm{}, fmt.Errorf("as_of %.40q is not a day", e.AsOf)
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
			return Arm{}, fmt.Errorf("%s of %d tokens; leave out what is unknown", limit.name, *limit.from)
		}
		*limit.to = *limit.from
	}
	for _, name := range e.Can {
		c := ParseCapability(name)
		if c == 0 {
			return Arm{}, fmt.Errorf("capability %.40q is not known", name)
		}
		a.Capabilities |= c
	}
	prices, err := e.prices()
	if err != nil {
		return Arm{}, err
	}
	a.Prices = prices
	if a.Tier == TierUnknown {
		a.Tier = DefaultTier(&a.Prices)
	}
	if !slices.Contains([]Tier{TierUnknown, TierSmall, TierMedium, TierLarge, TierFrontier}, a.Tier) {
		return Arm{}, fmt.Errorf("tier %.40q is not known", a.Tier)
	}
	return a, nil
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

func (e *entry) prices() (Prices, error) {
	if e.In == nil && e.Out == nil && e.CacheRead == nil && e.CacheWrite == nil && e.Step == nil {
		if e.Free {
			return Prices{}, errors.New("is free, but no price of 0 says of what")
		}
		return Prices{}, nil
	}
	base, err := rates(e.Free, e.In, e.Out, e.CacheRead, e.CacheWrite)
	if err != nil {
		return Prices{}, err
	}
	p := Prices{Known: true, Input: base.Input, Output: base.Output, CacheRead: base.CacheRead, CacheWrite: base.CacheWrite}
	if e.Step == nil {
		return p, nil
	}
	if p.Step, err = rates(e.Free, e.Step.In, e.Step.Out, e.Step.CacheRead, e.Step.CacheWrite); err != nil {
		return Prices{}, fmt.Errorf("price step: %w", err)
	}
	if p.Step.Above = e.Step.Above; p.Step.Above < 1 || p.Step.Above > TokensMax {
		return Prices{}, fmt.Errorf("price step above %d tokens", p.Step.Above)
	}
	return p, nil
}

// rates reads four prices, the last two of which may be missing.
func rates(free bool, in, out, cacheRead, cacheWrite *string) (Step, error) {
	if in == nil || out == nil {
		return Step{}, errors.New("has one price without the other: in and out go together")
	}
	if cacheRead == nil {
		cacheRead = in
	}
	if cacheWrite == nil {
		cacheWrite = in
	}
	var s Step
	for _, price := range [...]struct {
		from *string
		to   *Picodollars
	}{{in, &s.Input}, {out, &s.Output}, {cacheRead, &s.CacheRead}, {cacheWrite, &s.CacheWrite}} {
		p, err := ParsePerMillion(*price.from)
		if err != nil {
			return Step{}, err
		}
		if p == 0 && !free {
			return Step{}, errors.New(`has a price of 0 without "free":true`)
		}
		*price.to = p
	}
	return s, nil
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
