package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/keyring"
)

// inService is the configuration that is served, and what replaces it: another configuration, the prices of another
// day, or another router. Whatever comes is taken as a whole or not at all (P20), and requests that have begun keep what
// they began with.
type inService struct {
	load    func() (*config, error)
	getenv  func(string) string
	now     func() time.Time
	gateway *serving.Gateway
	metrics *telemetry.Metrics
	log     *slog.Logger
	secrets *telemetry.Handler

	mu      sync.Mutex
	config  *config
	fleet   *fleet
	pool    *upstream.Pool
	trained *classifier.Classifier
	router  *serving.Router
}

// configPoll is how often the configuration's files are looked at: a key that was taken out of them is refused within a
// second.
const configPoll = 400 * time.Millisecond

// prepare makes settings of a configuration, without touching what is in service.
func (s *inService) prepare(c *config, f *fleet) (settings serving.Settings, intro []string, err error) {
	settings = serving.Settings{
		Arms: f.arms, CatalogVersion: f.version, Strategy: openai.Strategy(c.Routing.Strategy), Traffic: policy.Traffic(c.Routing.Traffic),
		Target: c.Routing.Target, Epsilon: epsilonDefault, Aliases: plain(c.Aliases), Hosts: f.hosts(), Fallbacks: plain(c.Fallbacks),
		Policies: c.Policies, Rules: c.Rules, DefaultPolicy: c.Routing.Policy, BudgetStatus: c.BudgetStatus, KeepAlive: c.Streams.keepAlive(),
		ReadOn: c.readOn(), DebugHeaders: c.DebugHeaders,
	}
	if settings.Gates, err = c.gates(); err != nil {
		return settings, nil, err
	}
	if c.Routing.Epsilon != nil {
		settings.Epsilon = *c.Routing.Epsilon
	}
	if settings.Router, intro, err = joined(f, s.trained); err != nil {
		return settings, nil, err
	}
	o := upstream.Options{
		Providers: f.providers, Seed: uint64(time.Now().UnixNano()), MaxAttempts: c.Routing.Attempts,
		RequestTimeout: time.Duration(c.Routing.Timeout * float64(time.Second)), Notify: s.placed,
		Patience: f.patience, Limits: f.limits, FailoverOnPolicy: c.Routing.OnPolicy,
	}
	all := c.Routing.Patience.patience()
	o.FirstTokenTimeout, o.ChunkTimeout, o.AnswerTimeout = all.FirstToken, all.Chunk, all.Answer
	s.watchKeys(f)
	if s.pool == nil {
		settings.Pool, err = upstream.New(o)
	} else {
		settings.Pool, err = s.pool.Renew(o)
	}
	if err != nil {
		return settings, nil, err
	}
	if settings.Auth, err = governance.New(governance.Options{Keys: c.Keys, Orgs: c.Orgs, Teams: c.Teams}); err != nil {
		return settings, nil, err
	}
	return settings, intro, c.located(settings.Validate())
}

// watchKeys has the log and the metrics told of what happens to the providers' keys. A key is a number there.
func (s *inService) watchKeys(f *fleet) {
	for name, p := range f.providers {
		ring, several := p.(*keyring.Ring)
		if !several { // the simulated one has none
			continue
		}
		ring.Notify(func(e keyring.Event) {
			switch {
			case e.Switched:
				s.metrics.KeySwitched(name, string(e.Class))
			case e.Bad:
				s.log.Error("a provider refuses a key; it is left alone", "provider", name, "key", e.Key, "of", e.Of, "status", e.Status)
			default:
				s.log.Info("a provider takes a key again", "provider", name, "key", e.Key, "of", e.Of)
			}
		})
	}
}

// placed has the log told of models that are set behind the others, why, and when they are back.
func (s *inService) placed(c upstream.Change) {
	switch {
	case c.State == upstream.Healthy:
		s.log.Info("a model answers again", "model", string(c.Arm))
	case c.Cause == nil:
		s.log.Warn("a model has become slow; the others go first", "model", string(c.Arm), "for", c.For.Round(time.Second))
	default:
		s.log.Warn("a model fails; the others go first", "model", string(c.Arm), "state", c.State.String(), "for", c.For.Round(time.Second), "error", c.Cause)
	}
}

// badKeys counts the keys of each provider that it refuses.
func (s *inService) badKeys() map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	bad := map[string]float64{}
	for name, p := range s.fleet.providers {
		if ring, ok := p.(*keyring.Ring); ok {
			bad[name] = float64(ring.Bad())
		}
	}
	return bad
}

// forgiveKeys has keys that were refused tried again.
func (f *fleet) forgiveKeys() {
	for _, p := range f.providers {
		if ring, ok := p.(*keyring.Ring); ok {
			ring.Forgive()
		}
	}
}

func plain(lists map[string]nameList) map[string][]string {
	out := map[string][]string{}
	for name, l := range lists {
		out[name] = l
	}
	return out
}

// took remembers what is in service now.
func (s *inService) took(c *config, f *fleet, settings *serving.Settings) {
	s.config, s.fleet, s.pool, s.router = c, f, settings.Pool, settings.Router
}

// reload takes the configuration as it now stands on disk and returns the fingerprint of what it has read.
func (s *inService) reload(ctx context.Context, cause string) (seen string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.load()
	if err == nil {
		err = s.config.restartFor(c)
	}
	if err == nil {
		err = s.take(ctx, c)
	}
	s.metrics.ConfigReloaded(err == nil)
	if err != nil {
		s.config.files = c.files // what it lacks may come
		s.log.Error("the configuration is not taken; the one before stays in service", "cause", cause, "error", err)
		return c.sum
	}
	s.fleet.forgiveKeys()
	s.log.Info("the configuration is in service", "cause", cause, "models", len(s.fleet.arms), "keys", len(c.Keys), "catalog", s.fleet.version)
	return c.sum
}

// reprice takes the prices of the day for the configuration that is in service.
func (s *inService) reprice(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fleet.priced.IsZero() || s.now().Before(s.fleet.priced) {
		return
	}
	if err := s.take(ctx, s.config); err != nil {
		s.fleet.priced = s.now().Add(time.Hour) // and then again
		s.log.Error("prices that change today are not in force", "error", err)
		return
	}
	s.log.Info("prices that change today are in force", "catalog", s.fleet.version)
}

func (s *inService) take(ctx context.Context, c *config) error {
	f, err := assemble(c, s.getenv, s.now(), s.fleet)
	if err != nil {
		return err
	}
	settings, _, err := s.prepare(c, f)
	if err != nil {
		return err
	}
	s.secrets.SetSecrets(append(f.secrets, s.fleet.secrets...)...) // requests with the old ones may go on
	if err := s.gateway.Reload(ctx, settings); err != nil {
		return err
	}
	s.took(c, f, &settings)
	return nil
}

// restartFor names what a running server cannot change. A configuration that would change it is refused as a whole:
// half of it in service would be a state that no file describes.
func (c *config) restartFor(next *config) error {
	var names []string
	old, new := reflect.ValueOf(*c), reflect.ValueOf(*next)
	for i := range old.NumField() {
		f := old.Type().Field(i)
		if _, restart := f.Tag.Lookup("restart"); restart && !reflect.DeepEqual(old.Field(i).Interface(), new.Field(i).Interface()) {
			names = append(names, f.Tag.Get("yaml"))
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("%s cannot be changed while serving: restart, or put it back", strings.Join(names, ", "))
	}
	return nil
}

// watch reloads on every signal, once a file that the configuration was read from has changed, and on the day on which a
// price does. A file counts as changed once it looks the same twice in a row: one that is being written is not half read.
func (s *inService) watch(ctx context.Context, hangup <-chan os.Signal, every time.Duration) {
	if every == 0 {
		every = configPoll
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	s.mu.Lock()
	taken := s.config.sum
	s.mu.Unlock()
	last := taken
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			taken = s.reload(ctx, "signal")
		case <-tick.C:
			s.reprice(ctx)
			s.mu.Lock()
			files := s.config.files
			s.mu.Unlock()
			now := fingerprint(files)
			if now != taken && now == last {
				taken = s.reload(ctx, "file changed")
			}
			last = now
		}
	}
}

// priceAges are the ages in seconds of the oldest price of each provider.
func (s *inService) priceAges() map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ages := map[string]float64{}
	for i := range s.fleet.arms {
		a := &s.fleet.arms[i]
		if days, dated := a.Age(s.now()); dated {
			ages[a.ID.Provider()] = max(ages[a.ID.Provider()], float64(days)*24*3600)
		}
	}
	return ages
}

// fingerprint changes when one of the files does: when it is written, replaced, or comes or goes.
func fingerprint(files []string) string {
	var b strings.Builder
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", file, err)
			continue
		}
		fmt.Fprintf(&b, "%s: %d bytes, %d\n", file, info.Size(), info.ModTime().UnixNano())
	}
	return b.String()
}
