package serving

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/rules"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// Settings are what may be replaced while requests are served. Those without a remark are required.
type Settings struct {
	// Arms are what may be served, in catalog order; those that are not for chat only by name.
	Arms           []catalog.Arm
	CatalogVersion string
	// Router routes over Arms.
	Router *Router
	Pool   *upstream.Pool
	Auth   *governance.Authenticator
	// Hosts are where providers are reached, by their names, for traces.
	Hosts map[string]string
	// ReadOn are the providers whose answers are read to their end when the client has gone, by their names: they bill to the end
	// whoever listens, and only the end tells what it costs.
	ReadOn map[string]bool
	// Aliases are further names of models: each stands for one or several arms, by their ids or by the provider's name.
	// They are resolved once, so an alias of an alias is an error. As auto/<alias> the router chooses among them.
	Aliases map[string][]string
	// Fallbacks are the models that stand in for a named one, in order, where the request lists none.
	Fallbacks map[string][]string
	// Gates check answers before they are served; nil has none.
	Gates *gate.Set
	// Policies are demands by name, Rules single requests out.
	Policies map[string]rules.PolicyConfig
	Rules    []rules.Config
	// Strategy is in force where neither request nor rule nor key nor its owners say anything, and then that of DefaultPolicy, which
	// applies to everybody; where neither is set it is balanced.
	Strategy      openai.Strategy
	DefaultPolicy string
	// Traffic is what the router may expect of prompts; empty is policy.KnownMix. With AutoTraffic the prompts say it.
	Traffic policy.Traffic
	// Target is everybody's: its cost is that of all requests together.
	Target governance.TargetConfig
	// KeepAlive is how long a stream may be silent before its client gets a comment; 0 never sends one.
	KeepAlive time.Duration
	// BudgetStatus is the HTTP status of a refusal for want of budget: 429, which is OpenAI's, where it is 0, or 402.
	BudgetStatus int
	// DebugHeaders hands on what the vendor that answered says of its rate limits.
	DebugHeaders bool
	// Epsilon is the share of a round's probability that is spread evenly over the eligible arms. Zero explores nothing.
	Epsilon float64
}

// Validate reports what is missing or out of range.
func (s *Settings) Validate() error {
	for name, missing := range map[string]bool{"Arms": len(s.Arms) == 0, "Router": s.Router == nil, "Pool": s.Pool == nil, "Auth": s.Auth == nil} {
		if missing {
			return fmt.Errorf("serving: Settings.%s is required", name)
		}
	}
	if !(s.Epsilon >= 0 && s.Epsilon <= 1) {
		return fmt.Errorf("serving: Epsilon is %v, want a share between 0 and 1", s.Epsilon)
	}
	if b := s.BudgetStatus; b != 0 && b != http.StatusTooManyRequests && b != http.StatusPaymentRequired {
		return fmt.Errorf("serving: BudgetStatus is %d, want 429 or 402", b)
	}
	if s.Strategy != "" && !s.Strategy.Known() {
		return fmt.Errorf("serving: strategy %q is unknown", s.Strategy)
	}
	if !s.Traffic.Known() && s.Traffic != AutoTraffic {
		return fmt.Errorf("serving: traffic %q is unknown", s.Traffic)
	}
	if _, _, err := s.Target.Target(governance.All, governance.All); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	var wrong rules.Problems
	if _, err := s.ruled(); err != nil && !errors.As(err, &wrong) {
		return err
	}
	if wrong = append(wrong, s.names()...); len(wrong) > 0 {
		return fmt.Errorf("serving: %w", wrong)
	}
	return nil
}

// names checks that every alias and fallback names what is served.
func (s *Settings) names() (wrong rules.Problems) {
	problem := func(of, name, format string, args ...any) {
		wrong = append(wrong, rules.Problem{Path: []any{of, name}, Text: fmt.Sprintf(format, args...)})
	}
	for alias, models := range s.Aliases {
		if len(models) == 0 {
			problem("aliases", alias, "alias %q stands for no model", alias)
		}
		for _, m := range models {
			if slices.ContainsFunc(s.Arms, func(a catalog.Arm) bool { return named(&a, m) }) {
				continue
			}
			if s.Aliases[m] != nil { // which would be a circle sooner or later
				problem("aliases", alias, "alias %q stands for %q, which is an alias itself; an alias stands for models", alias, m)
			} else {
				problem("aliases", alias, "alias %q stands for %q, which is not served", alias, m)
			}
		}
	}
	for name, models := range s.Fallbacks {
		for _, m := range append([]string{name}, models...) {
			if !s.chats(m) {
				problem("fallbacks", name, "fallbacks of %q name %q, which is not served in chat", name, m)
			}
		}
	}
	return wrong
}

// chats reports whether a name stands for an arm that is for chat.
func (s *Settings) chats(name string) bool {
	return len(s.Router.matching(name))+len(s.Router.matchingAll(s.Aliases[name])) > 0
}

// live is the settings in force, with what follows from them. A round keeps the one it began with to its end.
type live struct {
	Settings
	traffic *trafficWatch
	meters  map[catalog.ArmID]*telemetry.Arm
	// routers have the arms of each surface: Router, or a directory.
	routers map[openai.Dialect]*Router
	catalog *catalog.Catalog
	chains  map[*governance.Principal][]ledger.AccountID
	rules   *rules.Set
	// pacers are those of all cost targets, paced those of a principal's chain.
	pacers map[governance.Target]*pacer
	paced  map[*governance.Principal][]*pacer
}

// Reload puts other settings into service, all of them or, where it returns an error, none. Requests that have begun
// keep those they began with.
func (g *Gateway) Reload(ctx context.Context, s Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	ruled, err := s.ruled()
	if err != nil {
		return err
	}
	l := &live{Settings: s, rules: ruled, meters: map[catalog.ArmID]*telemetry.Arm{}, catalog: catalog.New(s.Arms), chains: map[*governance.Principal][]ledger.AccountID{}}
	for i := range s.Arms {
		id := s.Arms[i].ID
		l.meters[id] = g.o.Metrics.Arm(id.Provider(), id.Model())
	}
	g.swap.Lock()
	defer g.swap.Unlock()
	if err := g.pace(l, g.live.Load()); err != nil {
		return err
	}
	for _, p := range s.Auth.Principals() {
		l.chains[p] = l.chain(p)
	}
	if err := g.openBudgets(ctx, l); err != nil {
		if before := g.live.Load(); before != nil {
			err = errors.Join(err, g.openBudgets(ctx, before))
		}
		return err
	}
	g.install(l)
	return nil
}

func (g *Gateway) install(l *live) {
	l.routers = make(map[openai.Dialect]*Router, len(g.surfaces))
	for dialect, s := range g.surfaces {
		if l.routers[dialect] = l.Router; s.direct != nil {
			l.routers[dialect] = directory(l.Arms, s.direct.serves...)
		}
	}
	before := g.live.Load()
	if before != nil && before.traffic.setting == l.Traffic && before.traffic.router == l.Router.classifier {
		l.traffic = before.traffic // new prices or keys are no reason to forget what the prompts were like
	} else {
		g.watchTraffic(l)
	}
	g.live.Store(l)
	g.o.Metrics.SetRouter(l.Router.version, "live")
}

// watchTraffic begins anew with what the operator says of the traffic.
func (g *Gateway) watchTraffic(l *live) {
	l.traffic = newTrafficWatch(l.Traffic, l.Router.classifier)
	g.o.Metrics.NoTraffic()
	g.o.Metrics.TrafficShifting(l.traffic.inForce() == policy.Shifting)
	if l.Traffic == AutoTraffic && l.traffic.samples == 0 {
		g.o.Log.Warn("routing.traffic is auto, and the router does not know what is usual in the prompts that it was trained on: it stays with known")
	}
}

// SetRouter puts a router into service. Requests that have begun keep the one they began with.
func (g *Gateway) SetRouter(r *Router) {
	g.swap.Lock()
	defer g.swap.Unlock()
	l := *g.live.Load()
	l.Router = r
	g.install(&l)
}
