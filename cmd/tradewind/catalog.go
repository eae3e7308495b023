package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

type catalogCmd struct {
	List   catalogListCmd   `cmd:"" help:"List the arms, their prices in US dollars per million tokens and how old those are."`
	Show   catalogShowCmd   `cmd:"" help:"Show all that is known of one arm, and what its sources disagree on."`
	Import catalogImportCmd `cmd:"" help:"Turn a public price list into a catalog file, on standard output."`
}

// catalogSource is where the commands take their facts from: what the program carries, under a file, under the
// configuration.
type catalogSource struct {
	File   string `help:"A catalog file or public price list over the one that the program carries." type:"path"`
	Config string `help:"Configuration whose catalog and models are laid over it." type:"path"`
}

func (c *catalogSource) open(m *Main) (*catalog.Catalog, error) {
	known, err := catalog.Default()
	if err != nil {
		return nil, err
	}
	known = known.With(catalog.Simulated())
	if c.File != "" {
		if known, _, err = overFile(known, c.File); err != nil {
			return nil, err
		}
	}
	if c.Config != "" {
		loaded, err := loadConfig(c.Config, m.Getenv, func(*config) {})
		if err != nil {
			return nil, err
		}
		if known, _, err = loaded.catalog(known); err != nil {
			return nil, err
		}
	}
	return known.On(time.Now()), nil
}

// overFile lays a file over a catalog, and names what of the file has no place in it.
func overFile(known *catalog.Catalog, file string) (*catalog.Catalog, []catalog.Skipped, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	over, skipped, err := catalog.Read(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return known.Over(over), skipped, nil
}

type catalogListCmd struct {
	catalogSource `embed:""`
	Filter        string   `arg:"" optional:"" help:"Part of an arm's id, or a glob such as 'openai/*'."`
	Provider      []string `help:"Only these providers." placeholder:"NAME,..."`
	Can           []string `help:"Only arms known to have all of these: tools, json_schema, vision, audio_input, pdf, reasoning." placeholder:"NAME,..."`
	MinContext    int      `help:"Only arms with at least this window." placeholder:"TOKENS"`
	MaxInput      string   `help:"Only arms whose input costs at most this." placeholder:"USD"`
	MaxOutput     string   `help:"Only arms whose output costs at most this." placeholder:"USD"`
	MaxAge        int      `help:"Only arms whose price was confirmed within so many days." placeholder:"DAYS"`
	Stale         bool     `help:"Only arms whose price is older than 60 days, or of unknown age."`
	Disputed      bool     `help:"Only arms on which the sources differ."`
	Unpriced      bool     `help:"Only arms without a price."`
	NoCachePrice  bool     `help:"Only arms without a price for cached input, which then costs the full one."`
	Deprecated    bool     `help:"Also arms that are retired or announced to be."`
	JSON          bool     `help:"Print as JSON."`
}

// Run lists the catalog.
func (c *catalogListCmd) Run(m *Main) error {
	all, err := c.open(m)
	if err != nil {
		return err
	}
	keep, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	arms := slices.DeleteFunc(all.Arms(), func(a catalog.Arm) bool { return !keep(&a) })
	if c.JSON {
		views := []armView{} // none is [], not null
		for i := range arms {
			views = append(views, viewArm(all, &arms[i]))
		}
		return writeJSON(m.Stdout, views)
	}
	t := tabwriter.NewWriter(m.Stdout, 2, 8, 2, ' ', 0)
	fmt.Fprintln(t, "MODEL\tINPUT\tOUTPUT\tCACHED\tWINDOW\tTIER\tCAN\tPRICE AGE\t")
	for i := range arms {
		a := &arms[i]
		input, output, cached := "-", "-", "-"
		if p := &a.Prices; p.Known {
			if input = perMillion(p.Input); a.Mode != catalog.ModeEmbedding {
				output = perMillion(p.Output)
			}
			if p.Guessed&catalog.KindCacheRead == 0 {
				cached = perMillion(p.CacheRead)
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", a.ID, input, output, cached, orDash(a.ContextTokens), a.Tier, cmp.Or(a.Capabilities.String(), string(a.Mode)), priceAge(a))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	providers := map[string]bool{}
	for i := range arms {
		providers[arms[i].ID.Provider()] = true
	}
	_, err = fmt.Fprintf(m.Stdout, "%d arms of %d providers\n", len(arms), len(providers))
	return err
}

// filter builds one test out of the flags. What an arm is not known to be, it is not.
func (c *catalogListCmd) filter(now time.Time) (func(*catalog.Arm) bool, error) {
	var need catalog.Capability
	for _, name := range c.Can {
		capability := catalog.ParseCapability(name)
		if capability == 0 {
			return nil, fmt.Errorf("--can %s is none of %s", name, catalog.AllCapabilities)
		}
		need |= capability
	}
	var caps [2]catalog.Picodollars
	for i, text := range [...]string{c.MaxInput, c.MaxOutput} {
		if text == "" {
			caps[i] = 1 << 62
			continue
		}
		var err error
		if caps[i], err = catalog.ParsePerMillion(text); err != nil {
			return nil, err
		}
	}
	priced := c.MaxInput != "" || c.MaxOutput != ""
	return func(a *catalog.Arm) bool {
		days, dated := a.Age(now)
		p := &a.Prices
		return (strings.Contains(string(a.ID), c.Filter) || a.ID.Matches(c.Filter)) &&
			(len(c.Provider) == 0 || slices.Contains(c.Provider, a.ID.Provider())) &&
			a.Capabilities.Has(need) && a.ContextTokens >= c.MinContext &&
			(!priced || p.Known && p.Input <= caps[0] && p.Output <= caps[1]) &&
			(c.MaxAge == 0 || dated && days <= c.MaxAge) && (!c.Stale || !dated && !a.Simulated || days > catalog.StaleDays) &&
			(!c.Disputed || a.Disputed) && (!c.Unpriced || !p.Known) && (!c.NoCachePrice || p.Known && a.Mode == catalog.ModeChat && p.Guessed&catalog.KindCacheRead != 0) &&
			(c.Deprecated || !a.Deprecated)
	}, nil
}

func perMillion(p catalog.Picodollars) string { return catalog.PerMTok(p).String() }

func orDash(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// priceAge is how old an arm's price is, and what else makes it doubtful.
func priceAge(a *catalog.Arm) string {
	days, dated := a.Age(time.Now())
	note := fmt.Sprintf("%d days", days)
	if !dated {
		note = "unknown"
	}
	for _, doubt := range [...]struct {
		name string
		is   bool
	}{{"disputed", a.Disputed}, {"deprecated", a.Deprecated}, {"unpriced", !a.Prices.Known}, {"simulated", a.Simulated}} {
		if doubt.is {
			note += ", " + doubt.name
		}
	}
	return note
}

// armView is an arm as the commands show it: its entry, and what follows from it.
type armView struct {
	*catalog.Entry
	Tier catalog.Tier `json:"tier"`
	// AgeDays is the age of the price; null where nobody knows.
	AgeDays *int `json:"age_days"`
	// Unknown are the capabilities of which nobody said whether the arm has them. They count as absent.
	Unknown []string `json:"unknown,omitempty"`
	// Guessed are the kinds of tokens without a price of their own: another stands in, and the cost is an estimate.
	Guessed   []string `json:"guessed,omitempty"`
	Unpriced  bool     `json:"unpriced,omitempty"`
	Simulated bool     `json:"simulated,omitempty"`
}

// guessed are the kinds of tokens that the arm may use and nobody priced.
func guessed(a *catalog.Arm, r *catalog.Rates) catalog.Kinds {
	kinds := r.Guessed &^ (catalog.KindAudioOutput | catalog.KindOutput) // embeddings have none
	if !a.Capabilities.Has(catalog.AudioInput) {
		kinds &^= catalog.KindAudioInput
	}
	return kinds
}

func viewArm(c *catalog.Catalog, a *catalog.Arm) armView {
	v := armView{
		Entry: c.Entry(a.ID), Tier: a.Tier, Unpriced: !a.Prices.Known, Simulated: a.Simulated, Guessed: guessed(a, &a.Prices.Rates).Names(),
		Unknown: (catalog.AllCapabilities &^ a.Capabilities &^ c.Evidence(a.ID).Cannot).Names(),
	}
	if days, dated := a.Age(time.Now()); dated {
		v.AgeDays = &days
	}
	return v
}

type catalogShowCmd struct {
	catalogSource `embed:""`
	ID            string `arg:"" help:"Arm, provider/model."`
	JSON          bool   `help:"Print as JSON."`
}

// Run shows one arm.
func (c *catalogShowCmd) Run(m *Main) error {
	all, err := c.open(m)
	if err != nil {
		return err
	}
	a, ok := all.Lookup(catalog.ArmID(c.ID))
	if !ok {
		return fmt.Errorf("the catalog has no %s; the nearest are %s", c.ID, join(all.Nearest(c.ID, 3)))
	}
	if c.JSON {
		return writeJSON(m.Stdout, viewArm(all, a))
	}
	return showArm(m.Stdout, viewArm(all, a), a)
}

func showArm(w io.Writer, v armView, a *catalog.Arm) error {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	line("model", "%s", v.ID)
	line("price", "%s", priceLine(a, &a.Prices.Rates))
	if a.Prices.Request > 0 {
		line("", "and %s USD a call", a.Prices.Request)
	}
	for i := range a.Prices.Steps {
		if s := &a.Prices.Steps[i]; s.Above > 0 {
			line("", "above %d input tokens: %s", s.Above, priceLine(a, &s.Rates))
		}
	}
	for i := range v.Changes {
		line("", "from %s: in %s, out %s", v.Changes[i].From, v.Changes[i].In, v.Changes[i].Out)
	}
	line("price age", "%s (as of %s, from %s)", priceAge(a), known(v.AsOf), known(strings.Join(v.Sources, ", ")))
	line("window", "%s tokens, input at most %s, output at most %s", orDash(a.ContextTokens), orDash(a.MaxInputTokens), orDash(a.MaxOutputTokens))
	line("can", "%s", known(strings.Join(v.Can, ", ")))
	line("cannot", "%s", strings.Join(v.Cannot, ", "))
	if len(v.Unknown) > 0 {
		line("unknown", "%s; what is unknown counts as absent", strings.Join(v.Unknown, ", "))
	}
	line("mode", "%s", cmp.Or(string(a.Mode), "chat"))
	line("tier", "%s", known(string(a.Tier)))
	line("weights", "%s, quantization %s", known(a.BaseModel), known(a.Quantization))
	line("released", "%s, ends %s", known(v.Released), known(v.Ends))
	for _, field := range slices.Sorted(maps.Keys(v.Disputed)) {
		for _, source := range slices.Sorted(maps.Keys(v.Disputed[field])) {
			line("disputed", "%s is %s by %s", field, v.Disputed[field][source], known(source))
		}
	}
	return t.Flush()
}

func known(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// priceLine lists what somebody told, in US dollars per million tokens, and names what is guessed.
func priceLine(a *catalog.Arm, r *catalog.Rates) string {
	if !a.Prices.Known {
		return "unknown: it is not served under a budget, and its calls cost null"
	}
	parts := []string{"in " + perMillion(r.Input)}
	if a.Mode != catalog.ModeEmbedding {
		parts = append(parts, "out "+perMillion(r.Output))
	}
	for _, p := range [...]struct {
		kind  catalog.Kinds
		price catalog.Picodollars
		plain catalog.Picodollars
	}{
		{catalog.KindCacheRead, r.CacheRead, -1}, {catalog.KindCacheWrite, r.CacheWrite, -1}, {catalog.KindCacheWrite1h, r.CacheWrite1h, -1},
		{catalog.KindAudioInput, r.AudioInput, -1}, {catalog.KindAudioOutput, r.AudioOutput, -1},
		{catalog.KindImageInput, r.ImageInput, r.Input}, {catalog.KindReasoning, r.Reasoning, r.Output},
	} {
		if r.Guessed&p.kind == 0 && p.price != p.plain {
			parts = append(parts, p.kind.Names()[0]+" "+perMillion(p.price))
		}
	}
	line := strings.Join(parts, ", ") + " USD per million tokens"
	if kinds := guessed(a, r); kinds != 0 {
		line += "; guessed: " + strings.Join(kinds.Names(), ", ")
	}
	return line
}

type catalogImportCmd struct {
	From   string   `arg:"" help:"A list of facts (JSON array), or a price map as LiteLLM keeps it." type:"path"`
	Skip   []string `help:"Arms to leave out." placeholder:"GLOB,..."`
	Notice []string `help:"Lines of the file's notice: where the facts come from and under which licence." sep:"none"`
}

// Run imports. What was left out is listed on standard error, never dropped silently.
func (c *catalogImportCmd) Run(m *Main) error {
	f, err := os.Open(c.From)
	if err != nil {
		return err
	}
	defer f.Close()
	all, skipped, err := catalog.Read(f)
	if err != nil {
		return fmt.Errorf("%s: %w", c.From, err)
	}
	for _, glob := range c.Skip {
		if err := catalog.ValidateGlob(glob); err != nil {
			return err
		}
	}
	var entries []*catalog.Entry
	for _, a := range all.Arms() {
		if a.ID.MatchesAny(c.Skip) {
			skipped = append(skipped, catalog.Skipped{ID: string(a.ID), Reason: "is named by --skip"})
			continue
		}
		entries = append(entries, all.Entry(a.ID))
	}
	if len(entries) == 0 {
		return errors.New("no arm is left")
	}
	kept, err := catalog.FromEntries(entries)
	if err != nil {
		return err
	}
	for _, s := range skipped {
		fmt.Fprintf(m.Stderr, "left out: %s %s\n", s.ID, s.Reason)
	}
	fmt.Fprintf(m.Stderr, "%d arms, %d left out\n", len(entries), len(skipped))
	return kept.Write(m.Stdout, c.Notice)
}
