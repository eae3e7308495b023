package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

const (
	// probeTimeout bounds the question to one provider, probeBytesMax its answer.
	probeTimeout  = 10 * time.Second
	probeBytesMax = 4 << 20
	// skewMax is how far this clock may be from a provider's.
	skewMax = time.Minute
	// diskLow and diskShort are the free space below which a data directory is worth a warning and below which it fails.
	diskLow   = 2 << 30
	diskShort = 100 << 20
)

type doctorCmd struct {
	Config  string `help:"Configuration file; TRADEWIND_CONFIG." type:"path"`
	DataDir string `help:"Where the journal, the log and the routers live." type:"path"`
	Offline bool   `help:"Ask no provider."`
	JSON    bool   `help:"Print as JSON."`
}

// level says how bad a finding is.
type level string

const (
	levelOK   level = "ok"
	levelWarn level = "warn"
	levelFail level = "fail"
)

// finding is what one check found, and what to do next where that is something.
type finding struct {
	Check   string `json:"check"`
	Level   level  `json:"level"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
}

// examination gathers findings.
type examination struct {
	findings []finding
	getenv   func(string) string
	now      time.Time
}

func (x *examination) add(check string, l level, next, format string, args ...any) {
	x.findings = append(x.findings, finding{Check: check, Level: l, Next: next, Message: fmt.Sprintf(format, args...)})
}

// Run examines. The exit code is 1 where something fails.
func (d *doctorCmd) Run(ctx context.Context, m *Main) error {
	x := &examination{getenv: m.Getenv, now: time.Now()}
	c, f := x.configuration(d)
	if f != nil {
		x.keys(c)
		if !d.Offline {
			x.providers(ctx, withVendors(c.Providers, m.Getenv))
		}
		x.facts(f)
		x.promises(f)
		x.droppers(f)
	}
	if c != nil {
		x.disk(c.DataDir)
		x.lock(c.DataDir)
		x.books(ctx, c.DataDir)
		x.router(c)
		x.dial(ctx, c.DataDir)
	}
	return x.report(m.Stdout, d.JSON)
}

func (x *examination) report(w io.Writer, asJSON bool) error {
	failed := 0
	for _, f := range x.findings {
		if f.Level == levelFail {
			failed++
		}
	}
	if asJSON {
		if err := writeJSON(w, x.findings); err != nil {
			return err
		}
	} else {
		for _, f := range x.findings {
			place := ""
			if f.Line > 0 {
				place = fmt.Sprintf("line %d: ", f.Line)
			}
			fmt.Fprintf(w, "%-4s  %-9s %s%s\n", f.Level, f.Check, place, f.Message)
			if f.Next != "" {
				fmt.Fprintf(w, "%16s→ %s\n", "", f.Next)
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d findings keep it from serving well", failed, len(x.findings))
	}
	return nil
}

// configuration reads the file and makes of it all that serving would, but serves nothing.
func (x *examination) configuration(d *doctorCmd) (*config, *fleet) {
	c, err := loadConfig(d.Config, x.getenv, func(c *config) {
		if d.DataDir != "" {
			c.DataDir = d.DataDir
		}
	})
	var mistakes problems
	switch {
	case errors.As(err, &mistakes):
		x.mistakes(mistakes)
		return nil, nil
	case err != nil:
		x.add("config", levelFail, "correct the file; tradewind config schema lists every key", "%v", err)
		return nil, nil
	}
	f, err := assemble(c, x.getenv, x.now, nil)
	if err == nil {
		_, _, err = (&inService{}).prepare(c, f)
	}
	if errors.As(err, &mistakes) {
		x.mistakes(mistakes)
		return c, nil
	}
	if err != nil {
		x.add("config", levelFail, "correct the file", "%v", err)
		return c, nil
	}
	if f.simulated {
		for _, name := range unnamed(x.getenv) {
			x.add("config", levelWarn, "name them under `models:` of it in a configuration", "%s is not served: nobody knows which models it has", name)
		}
		x.add("config", levelWarn, "set a provider's key, such as OPENAI_API_KEY", "no provider is configured: three simulated models are served")
	} else {
		x.add("config", levelOK, "", "%d models of %d providers, %d keys", len(f.arms), len(f.providers), len(c.Keys))
		if named := f.unrouted(); len(named) > 0 {
			x.add("config", levelOK, "", "%d of them serve only who names them, on /v1/embeddings or /v1/completions: %s", len(named), some(named))
		}
	}
	return c, f
}

func (x *examination) mistakes(all problems) {
	for _, p := range all {
		x.findings = append(x.findings, finding{"config", levelFail, p.Line, p.Text, "correct the file; tradewind config schema lists every key"})
	}
}

// unrouted are the arms that are not for chat, each with what it is for.
func (f *fleet) unrouted() (arms []string) {
	for i := range f.arms {
		if a := &f.arms[i]; a.Mode != catalog.ModeChat {
			arms = append(arms, fmt.Sprintf("%s (%s)", a.ID, a.Mode))
		}
	}
	return arms
}

// keys looks at who may ask.
func (x *examination) keys(c *config) {
	if len(c.Keys) == 0 {
		x.add("keys", levelOK, "", "no key is configured: everybody on this machine may ask, and nobody else")
	}
	for i, k := range c.Keys {
		name := k.Name
		if name == "" {
			name = strconv.Itoa(i + 1)
		}
		switch {
		case k.Disabled:
			x.add("keys", levelWarn, "", "key %s is disabled", name)
		case !k.ExpiresAt.IsZero() && k.ExpiresAt.Before(x.now):
			x.add("keys", levelWarn, "give it a later expires_at, or remove it", "key %s has expired", name)
		case k.Budget == (governance.BudgetConfig{}):
			x.add("keys", levelOK, "", "key %s has no budget of its own", name)
		}
	}
}

// providers asks each provider for its models: that shows whether it can be reached, takes the key, and agrees on the time.
func (x *examination) providers(ctx context.Context, all []providerConfig) {
	client := &http.Client{Timeout: probeTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	all = keyByKey(all)
	for i := range all {
		p := &all[i]
		if p.Type == catalog.ProtocolBedrock { // its runtime lists no models, and who may call is Amazon's to say
			x.add("providers", levelOK, "", "%s is not asked before the first request", p.Name)
			continue
		}
		if p.Type == catalog.ProtocolVertex {
			x.vertex(ctx, p)
			continue
		}
		if p.APIKey == "" {
			x.add("providers", levelWarn, "set api_key, unless it asks for none", "%s has no key", p.Name)
		}
		req, err := http.NewRequestWithContext(ctx, "GET", strings.TrimSuffix(p.BaseURL, "/")+"/models", nil)
		if err != nil {
			x.add("providers", levelFail, "correct its base_url", "%s cannot be asked", p.Name)
			continue
		}
		p.authorize(req.Header)
		resp, err := client.Do(req)
		if err != nil {
			x.add("providers", levelFail, "check its base_url, the network and the proxy", "%s cannot be reached at %s: %v", p.Name, p.BaseURL, errors.Unwrap(err))
			continue
		}
		x.answered(p, resp)
		_ = resp.Body.Close()
	}
}

// vertex asks for a token: Vertex AI lists no models, but who may not have one need not ask it.
func (x *examination) vertex(ctx context.Context, p *providerConfig) {
	account, err := p.account()
	if err != nil {
		x.add("providers", levelFail, "correct its credentials_file", "%s: %v", p.Name, err)
		return
	}
	o := p.options()[0]
	o.account = account
	v, err := o.vertex()
	if err == nil {
		defer v.Close()
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		err = v.Authorize(ctx)
	}
	if err != nil {
		x.add("providers", levelFail, "look whether the service account and its key still exist, and at the network", "%s: %v", p.Name, err)
		return
	}
	x.add("providers", levelOK, "", "Google gives %s a token for %s; Vertex AI is not asked before the first request", account.Email, p.Name)
}

// keyByKey lists a provider once for each of its keys.
func keyByKey(all []providerConfig) (each []providerConfig) {
	for _, p := range all {
		n := 1 + len(p.APIKeys)
		for i, key := range append([]telemetry.Secret{p.APIKey}, p.APIKeys...) {
			one := p
			if one.APIKey, one.APIKeys = key, nil; n > 1 {
				one.Name = fmt.Sprintf("%s (key %d of %d)", p.Name, i+1, n)
			}
			each = append(each, one)
		}
	}
	return each
}

func (x *examination) answered(p *providerConfig, resp *http.Response) {
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		x.add("providers", levelFail, "replace its key", "%s refuses the key (%d)", p.Name, resp.StatusCode)
	case resp.StatusCode >= 500:
		x.add("providers", levelWarn, "ask its status page", "%s answers %d", p.Name, resp.StatusCode)
	case resp.StatusCode == http.StatusOK:
		takes := " and takes the key"
		if p.APIKey == "" {
			takes = ""
		}
		x.add("providers", levelOK, "", "%s answers%s", p.Name, takes)
		x.lists(p, resp.Body)
	default:
		x.add("providers", levelOK, "", "%s can be reached; it lists no models (%d)", p.Name, resp.StatusCode)
	}
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	if skew := time.Since(at); skew.Abs() > skewMax {
		x.add("clock", levelWarn, "synchronize this machine's clock: budgets and expiry follow it", "this clock is %s from that of %s", skew.Round(time.Second), p.Name)
	}
}

// lists compares the models that are configured with those that the provider lists.
func (x *examination) lists(p *providerConfig, body io.Reader) {
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if json.NewDecoder(io.LimitReader(body, probeBytesMax)).Decode(&list) != nil || len(list.Data) == 0 {
		return
	}
	for i := range p.Models {
		name := p.Models[i].Name
		if !slices.ContainsFunc(list.Data, func(m struct {
			ID string `json:"id"`
		}) bool {
			return m.ID == name
		}) {
			x.add("providers", levelWarn, "compare its name with the provider's list", "%s does not list %s", p.Name, name)
		}
	}
}

// facts looks at what is known of the arms that are served. Pains 25 and 26: what is unknown, disputed or old is told.
func (x *examination) facts(f *fleet) {
	if f.simulated {
		return
	}
	var stale, undated, unpriced, disputed, uncached, ending []string
	oldest := 0
	for i := range f.arms {
		a := &f.arms[i]
		id := string(a.ID)
		days, dated := a.Age(x.now)
		note := func(list *[]string, is bool) {
			if is {
				*list = append(*list, id)
			}
		}
		note(&unpriced, !a.Prices.Known)
		free := a.Prices.Input == 0 && a.Prices.Output == 0 && a.Prices.Request == 0
		note(&undated, a.Prices.Known && !dated && !free)
		note(&stale, a.Prices.Known && days > catalog.StaleDays)
		note(&disputed, a.Disputed)
		note(&uncached, a.Prices.Known && a.Mode == catalog.ModeChat && a.Prices.Guessed&catalog.KindCacheRead != 0)
		oldest = max(oldest, days)
		if ends, err := time.Parse(time.DateOnly, f.catalog.Evidence(a.ID).Ends); err == nil {
			note(&ending, ends.Before(x.now.AddDate(0, 1, 0)))
		}
	}
	for _, l := range [...]struct {
		arms          []string
		message, next string
	}{
		{unpriced, "%d models have no price: they are refused under a budget, and their calls cost null", "set input_usd_per_mtok and output_usd_per_mtok, or free: true"},
		{stale, "the prices of %d models are older than " + strconv.Itoa(catalog.StaleDays) + " days, the oldest " + strconv.Itoa(oldest), "compare them with the provider's page and set as_of, or lay a newer list over them with catalog:"},
		{undated, "nobody says how old the prices of %d models are", "set as_of to the day on which you checked them"},
		{disputed, "the sources differ on %d models", "tradewind catalog show says on what"},
		{uncached, "%d models have no price for cached input: it costs the full one, and is an estimate", "set cache_read_usd_per_mtok"},
		{ending, "%d models end within a month or have ended", "name their successors"},
	} {
		if n := len(l.arms); n > 0 {
			x.add("catalog", levelWarn, l.next, l.message+": %s", n, some(l.arms))
		}
	}
	var left []string
	for _, s := range f.skipped {
		left = append(left, s.ID+" "+s.Reason)
	}
	if len(left) > 0 {
		x.add("catalog", levelOK, "", "%d entries of the catalog file are left out: %s", len(left), some(left))
	}
	if !f.priced.IsZero() {
		x.add("catalog", levelOK, "", "the next dated change of a price is on %s, and is taken then", f.priced.Format(time.DateOnly))
	}
}

// promises lists the providers that are declared to keep what requests may ask for.
func (x *examination) promises(f *fleet) {
	for _, promise := range [...]struct {
		asked string
		is    catalog.DataPolicy
	}{{"data_collection: deny", catalog.NoCollection}, {"zdr", catalog.ZeroRetention}} {
		var may []string
		for i := range f.arms {
			if p := f.arms[i].ID.Provider(); f.arms[i].Data.Has(promise.is) && !slices.Contains(may, p) {
				may = append(may, p)
			}
		}
		if len(may) > 0 {
			x.add("config", levelOK, "", "requests with provider.%s go to %s alone", promise.asked, some(may))
		}
	}
}

// some names a few.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// disk looks at the space where the data directory is, or would be.
func (x *examination) disk(dir string) {
	existing, err := filepath.Abs(dir)
	for err == nil {
		if _, statErr := os.Stat(existing); statErr == nil || existing == filepath.Dir(existing) {
			break
		}
		existing = filepath.Dir(existing)
	}
	var s unix.Statfs_t
	if err == nil {
		err = unix.Statfs(existing, &s)
	}
	if err == nil {
		err = unix.Access(existing, unix.W_OK)
	}
	if err != nil {
		x.add("disk", levelFail, "choose another with data_dir, or let this user write there", "%s cannot be written: %v", dir, err)
		return
	}
	free := int64(s.Bavail) * s.Bsize
	message := fmt.Sprintf("%s has %d MiB free", dir, free>>20)
	switch {
	case free < diskShort:
		x.add("disk", levelFail, "free some space, or shorten log.retention_days: a full disk refuses requests", "%s", message)
	case free < diskLow:
		x.add("disk", levelWarn, "free some space, or shorten log.retention_days: a full disk refuses requests", "%s", message)
	default:
		x.add("disk", levelOK, "", "%s", message)
	}
}

// lock looks whether a server has the data directory, without taking it from one that starts.
func (x *examination) lock(dir string) {
	f, err := os.Open(filepath.Join(dir, "journal", "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		x.add("lock", levelOK, "", "no server has used %s", dir)
		return
	}
	if err != nil {
		x.add("lock", levelFail, "let this user read it", "%v", err)
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		x.add("lock", levelOK, "", "no server uses %s now", dir)
		return
	}
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0)
	x.add("lock", levelWarn, "another server needs another data_dir; this one can be reloaded", "process %s serves from %s", strings.TrimSpace(string(text[:n])), dir)
}

// router looks whether the trained router can be used.
func (x *examination) router(c *config) {
	dir := c.Router.Artifact
	if dir == "" {
		dir = filepath.Join(c.DataDir, "models")
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			x.add("router", levelOK, "tradewind train --help", "no router is trained yet: the default one goes by the tiers of the models, and certifies nothing")
			return
		}
	}
	artifact, err := models.Resolve(dir)
	if errors.Is(err, models.ErrNotPromoted) {
		x.add("router", levelOK, "tradewind models promote --help", "no router is promoted yet: the default one goes by the tiers of the models, and certifies nothing")
		return
	}
	var opened *classifier.Classifier
	if err == nil {
		opened, err = classifier.Open(artifact)
	}
	if err != nil {
		x.add("router", levelFail, "tradewind models verify, then promote another", "the router cannot be used: %v", err)
		return
	}
	x.add("router", levelOK, "", "%s replays its golden rows", opened.Digest())
}
