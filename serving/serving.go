// Package serving is the gateway: the path of a request from a key to an answer, and nothing else.
//
// Read (*Gateway).serve: it is the path on one screen, station by station. Everything a station needs is another
// package's work (who asks: governance; what is asked: openai; what to expect: classifier; which arm: policy; the money:
// ledger; the log: journal; the vendor: upstream). It does not train, evaluate or hold configuration.
package serving

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// Options are the parts of a gateway. Those without a remark are required.
type Options struct {
	// Arms are what may be served, in catalog order.
	Arms           []catalog.Arm
	CatalogVersion string
	Router         *Router
	Pool           *upstream.Pool
	Auth           *governance.Authenticator
	Quota          *quota.Quota
	Ledger         ledger.Store
	// Books answers what is left of a budget; it is the ledger's other side.
	Books   ledger.Books
	Journal *journal.Journal
	Metrics *telemetry.Metrics
	// MetricsOpen serves /metrics on the main listener.
	MetricsOpen bool
	// Gates check answers before they are served; nil has none.
	Gates *gate.Set
	// Log takes what is worth a person's eye; nil is silent.
	Log *slog.Logger

	// Policy decides; nil is policy.Router.
	Policy policy.Policy
	// Strategy is in force where neither request nor key says anything; empty is balanced.
	Strategy openai.Strategy
	// Traffic is what the router may expect of prompts; empty is policy.KnownMix.
	Traffic policy.Traffic
	// Epsilon is the share of a round's probability that is spread evenly over the eligible arms. Zero explores nothing.
	Epsilon float64
	// OutputTokensMax caps an answer where the request does not; it is sent upstream and bounds the hold. Zero is 4,096.
	OutputTokensMax int
	// BodyMax bounds a request's body; zero is openai.BodyMax.
	BodyMax int
	// Now is the clock and Uniform draws from [0,1); nil is the real ones.
	Now     func() time.Time
	Uniform func() float64
}

// Validate reports what is missing or out of range.
func (o *Options) Validate() error {
	for name, missing := range map[string]bool{
		"Arms": len(o.Arms) == 0, "Router": o.Router == nil, "Pool": o.Pool == nil, "Auth": o.Auth == nil, "Quota": o.Quota == nil,
		"Ledger": o.Ledger == nil, "Books": o.Books == nil, "Journal": o.Journal == nil, "Metrics": o.Metrics == nil,
	} {
		if missing {
			return fmt.Errorf("serving: Options.%s is required", name)
		}
	}
	if o.Epsilon < 0 || o.Epsilon > 1 {
		return fmt.Errorf("serving: Epsilon is %v, want a share between 0 and 1", o.Epsilon)
	}
	if o.Strategy != "" && !o.Strategy.Known() {
		return fmt.Errorf("serving: strategy %q is unknown", o.Strategy)
	}
	if !o.Traffic.Known() {
		return fmt.Errorf("serving: traffic %q is unknown", o.Traffic)
	}
	return nil
}

// Gateway serves requests. Its methods may be called from any goroutine.
type Gateway struct {
	o       Options
	router  atomic.Pointer[Router]
	surface *telemetry.Surface
	meters  map[catalog.ArmID]*telemetry.Arm
	catalog *catalog.Catalog
	chains  map[*governance.Principal][]ledger.AccountID
	rounds  sync.Pool
	started time.Time
	closing atomic.Bool
}

// New makes a gateway.
func New(o Options) (*Gateway, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Policy == nil {
		o.Policy = policy.Router{}
	}
	if o.Strategy == "" {
		o.Strategy = openai.StrategyBalanced
	}
	if o.OutputTokensMax == 0 {
		o.OutputTokensMax = 4096
	}
	if o.BodyMax == 0 {
		o.BodyMax = openai.BodyMax
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Uniform == nil {
		o.Uniform = rand.Float64
	}
	g := &Gateway{o: o, surface: o.Metrics.Surface("chat"), meters: map[catalog.ArmID]*telemetry.Arm{}, catalog: catalog.New(o.Arms), started: o.Now()}
	for i := range o.Arms {
		id := o.Arms[i].ID
		g.meters[id] = o.Metrics.Arm(id.Provider(), id.Model())
	}
	g.rounds.New = func() any { return new(round) }
	if err := g.openBudgets(context.Background()); err != nil {
		return nil, err
	}
	g.SetRouter(o.Router)
	return g, nil
}

// SetRouter puts a router into service. Requests that have begun keep the one they began with.
func (g *Gateway) SetRouter(r *Router) {
	g.router.Store(r)
	g.o.Metrics.SetRouter(r.version, "live")
}

// Drain turns readiness off, so that a load balancer sends nothing new. Requests are still served.
func (g *Gateway) Drain() { g.closing.Store(true) }

// serve is the path of one request. An error before dispatch refuses it; what was begun is ended by (*round).end.
func (g *Gateway) serve(r *round) error {
	if err := r.authenticate(); err != nil { // from the headers alone: a stranger cannot fill memory
		return err
	}
	if err := r.decode(); err != nil { // the whole body, before anything waits: only then does a disconnect cancel
		return err
	}
	if err := r.admit(); err != nil { // rate and concurrency
		return err
	}
	r.extract()                         // features of the last user turn, then the rest
	if err := r.propose(); err != nil { // estimates → case → distribution
		return err
	}
	r.draw()                         // the action and its propensity
	if err := r.hold(); err != nil { // the most that the action and its fallbacks can cost
		return err
	}
	if err := r.journalDecision(); err != nil { // before any upstream byte
		return err
	}
	answer, err := r.dispatch() // attempts until the first content; after it no more switching
	if err != nil {
		return err
	}
	if r.heldBack() { // until the gates have spoken; what they reject may be asked of another arm
		return r.climb(answer)
	}
	if r.wire.Stream {
		return r.relayStream(answer)
	}
	return r.relayWhole(answer)
}

// chat answers POST /v1/chat/completions.
func (g *Gateway) chat(w http.ResponseWriter, req *http.Request) {
	g.surface.Begin()
	r := g.begin(w, req)
	defer r.end() // settles or releases, journals the outcome, answers what failed, contains a panic
	r.err = g.serve(r)
}
