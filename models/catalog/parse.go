package catalog

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Format is the version of the catalog file that Parse reads and Write writes.
const Format = 2

// What a catalog file may hold. Beyond any of these it is refused.
const (
	FileBytesMax = 16 << 20
	ArmsMax      = 10_000
	IDBytesMax   = 256
	TokensMax    = 1 << 30
	NamesMax     = 64
	// RequestMax is the most that an arm may ask for a call itself: a thousand dollars.
	RequestMax Nanodollars = 1000e9
)

// bundled holds the facts of catalog.json. NOTICE, beside it, has the licences of its sources.
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

// Parse reads a catalog file in Tradewind's own form: {"format":2,"notice":[…],"arms":[…]}, one Entry an arm. It is
// strict: an unknown field, an arm twice, a price of 0 without "free":true and one price without the other are errors
// that name the entry. A missing cache price is the input price; an arm without any price is unpriced; an arm without
// a tier gets that of DefaultTier.
func Parse(r io.Reader) (*Catalog, error) {
	b, err := readAll(r)
	if err != nil {
		return nil, err
	}
	return parseOwn(b)
}

func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, FileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("catalog: reading: %w", err)
	}
	if len(b) > FileBytesMax {
		return nil, fmt.Errorf("catalog: file is larger than %d bytes", FileBytesMax)
	}
	return b, nil
}

func parseOwn(b []byte) (*Catalog, error) {
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
	var all builder
	for i, raw := range file.Arms {
		var e Entry
		err := strict(raw, &e)
		if err == nil {
			err = all.add(&e)
		}
		if err != nil {
			return nil, fmt.Errorf("catalog: arm %d (%.80q): %w", i+1, e.ID, err)
		}
	}
	return build(all.arms, all.evidence), nil
}

// FromEntries makes a catalog of entries of distinct names.
func FromEntries(entries []*Entry) (*Catalog, error) {
	var all builder
	for _, e := range entries {
		if err := all.add(e); err != nil {
			return nil, fmt.Errorf("catalog: %.80q: %w", e.ID, err)
		}
	}
	return build(all.arms, all.evidence), nil
}

// builder gathers arms of distinct names.
type builder struct {
	arms     []Arm
	evidence map[ArmID]Evidence
}

func (b *builder) add(e *Entry) error {
	a, v, err := e.Arm()
	if err != nil {
		return err
	}
	if _, twice := b.evidence[a.ID]; twice {
		return errors.New("is there twice")
	}
	if b.evidence == nil {
		b.evidence = map[ArmID]Evidence{}
	}
	b.arms, b.evidence[a.ID] = append(b.arms, a), v
	return nil
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

// Write writes the catalog as Parse reads it, one arm a line, so that a change of a price is a change of a line.
func (c *Catalog) Write(w io.Writer, notice []string) error {
	head, err := json.Marshal(notice)
	if err != nil {
		return err
	}
	out := lineWriter{w: w}
	out.print("{\"format\":%d,\n\"notice\":%s,\n\"arms\":[", Format, head)
	for i := range c.arms {
		line, err := json.Marshal(c.Entry(c.arms[i].ID))
		if err != nil {
			return err
		}
		sep := ","
		if i == 0 {
			sep = ""
		}
		out.print("%s\n%s", sep, line)
	}
	out.print("\n]}\n")
	return out.err
}

// lineWriter remembers the first error of many writes.
type lineWriter struct {
	w   io.Writer
	err error
}

func (b *lineWriter) print(format string, args ...any) {
	if b.err == nil {
		_, b.err = fmt.Fprintf(b.w, format, args...)
	}
}

// Entry is the arm as a file states it; nil where there is none of the name.
func (c *Catalog) Entry(id ArmID) *Entry {
	a, ok := c.Lookup(id)
	if !ok {
		return nil
	}
	v := c.evidence[id]
	e := &Entry{
		ID: string(id), Mode: a.Mode, Base: a.BaseModel, Deprecated: a.Deprecated, AsOf: a.AsOf, Quantization: a.Quantization, Can: a.Capabilities.Names(), Cannot: v.Cannot.Names(),
		Released: v.Released, Ends: v.Ends, Sources: v.Sources, Disputed: v.Disputed,
		Context: known(a.ContextTokens), MaxInput: known(a.MaxInputTokens), MaxOutput: known(a.MaxOutputTokens),
	}
	if a.Tier != DefaultTier(&a.Prices) {
		e.Tier = a.Tier
	}
	if !a.Prices.Known {
		return e
	}
	p := &a.Prices
	e.EntryRates, e.Steps, e.Free = p.entry(), p.entrySteps(), p.free()
	if p.Request > 0 {
		e.Request = &p.Request
	}
	for i := range v.Changes {
		p := &v.Changes[i].Prices
		e.Free = e.Free || p.free()
		e.Changes = append(e.Changes, EntryChange{From: v.Changes[i].From, EntryRates: p.entry(), Steps: p.entrySteps()})
	}
	return e
}

func known(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

// free reports whether some price is 0, which was meant.
func (p *Prices) free() bool {
	for _, s := range append([]Step{{Above: 1, Rates: p.Rates}}, p.Steps[:]...) {
		prices := s.prices()
		if s.Above > 0 && slices.Contains(prices[:], 0) {
			return true
		}
	}
	return false
}

func (p *Prices) entrySteps() (steps []EntryStep) {
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Above > 0 {
			steps = append(steps, EntryStep{Above: s.Above, EntryRates: s.entry()})
		}
	}
	return steps
}

// entry lists the rates that somebody told. Where one equals what stands in for it, nothing is lost by leaving it out.
func (r *Rates) entry() EntryRates {
	var e EntryRates
	prices := r.prices()
	stood := Rates{Input: r.Input, Output: r.Output, CacheWrite: r.CacheWrite}
	stood.fill(KindInput | KindOutput)
	for i, to := range e.all() {
		kind := Kinds(1 << i)
		unpriced := kind == KindImageInput && r.ImageInput == stood.ImageInput || kind == KindReasoning && r.Reasoning == stood.Reasoning
		if price := PerMTok(prices[i]); r.Guessed&kind == 0 && !unpriced {
			*to = &price
		}
	}
	return e
}
