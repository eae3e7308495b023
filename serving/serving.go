// Package serving is the gateway: the path of a request from a key to an answer, and nothing else.
//
// Read (*Gateway).serve: it is the path on one screen, station by station. Everything a station needs is another
// package's work (who asks: governance; what is asked: openai; what to expect: classifier; which arm: policy; the money:
// ledger; the log: journal; the vendor: upstream). It does not train, evaluate or hold configuration.
package serving

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/idempotency"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/session"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

// Options are the parts of a gateway. Those without a remark are required.
type Options struct {
	// Settings are what it begins with; Reload replaces them.
	Settings
	Quota *quota.Quota
	// Capacity bounds the requests of the whole process; nil is one with its defaults.
	Capacity *quota.Capacity
	Ledger   ledger.Store
	// Books answers what is left of a budget; it is the ledger's other side.
	Books   ledger.Books
	Journal *journal.Journal
	Metrics *telemetry.Metrics
	// Sealed is where decisions are found that the journal has no more; nil is nowhere.
	Sealed *datasets.Log
	// Tracing is told of every request at its end; nil is off.
	Tracing *telemetry.Tracing
	// Idempotency remembers what was answered under clients' idempotency keys; with nil the header is not looked at.
	Idempotency *idempotency.Store
	// MetricsOpen serves /metrics on the main listener.
	MetricsOpen bool
	// Log takes what is worth a person's eye; nil is silent.
	Log *slog.Logger

	// Redact removes secrets from what a client is told of an error; nil removes none.
	Redact func(string) string

	// Sessions say how conversations are remembered.
	Sessions session.Options
	// Policy decides; nil is policy.Router.
	Policy policy.Policy
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
		"Quota": o.Quota == nil, "Ledger": o.Ledger == nil, "Books": o.Books == nil, "Journal": o.Journal == nil, "Metrics": o.Metrics == nil,
	} {
		if missing {
			return fmt.Errorf("serving: Options.%s is required", name)
		}
	}
	return o.Settings.Validate()
}

// Gateway serves requests. Its methods may be called from any goroutine.
type Gateway struct {
	o        Options
	sessions *session.Table
	live     atomic.Pointer[live]
	swap     sync.Mutex // one replacement of live at a time
	surfaces map[openai.Dialect]*served
	rounds   sync.Pool
	hedges   hedgeShares
	started  time.Time
	closing  atomic.Bool
	// unwritten is when a decision could last not be journaled, in Unix nanoseconds; 0 since one could.
	unwritten atomic.Int64
	finding   chan struct{}
	dial      dial
	// alone are the requests that go on without their clients, life ends them.
	alone   atomic.Int64
	life    context.Context
	endLife context.CancelCauseFunc
	// complained and overspent are the seconds of the last complaint, and of the last word on a call that cost more than its hold.
	complained, overspent atomic.Int64
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
	if o.OutputTokensMax == 0 {
		o.OutputTokensMax = 4096
	}
	if o.BodyMax == 0 {
		o.BodyMax = openai.BodyMax
	}
	if o.Redact == nil {
		o.Redact = func(s string) string { return s }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Uniform == nil {
		o.Uniform = rand.Float64
	}
	if o.Capacity == nil {
		o.Capacity, _ = quota.NewCapacity(quota.CapacityOptions{}) // the defaults are valid
	}
	sessions, err := session.NewTable(o.Sessions)
	if err != nil {
		return nil, err
	}
	g := &Gateway{o: o, sessions: sessions, surfaces: map[openai.Dialect]*served{}, started: o.Now(), finding: make(chan struct{}, findMax)}
	for _, s := range surfaces() {
		g.surfaces[s.dialect] = &served{s, o.Metrics.Surface(string(s.dialect))}
	}
	g.life, g.endLife = context.WithCancelCause(context.Background())
	g.rounds.New = func() any { return new(round) }
	if err := g.Reload(context.Background(), o.Settings); err != nil {
		return nil, err
	}
	return g, nil
}

// Drain turns readiness off, so that a load balancer sends nothing new. Requests are still served.
func (g *Gateway) Drain() { g.closing.Store(true) }

// ErrDrained is the cause with which requests are ended that are still open when a drain has lasted long enough. Their
// clients are there, and are told; what was streamed is settled.
var ErrDrained = errors.New("serving: the drain is over")

// Cut ends, with ErrDrained, the requests that go on without their clients, and which no connection's end reaches.
func (g *Gateway) Cut() { g.endLife(ErrDrained) }

// serve is the path of one request. An error before dispatch refuses it; what was begun is ended by (*round).end.
func (g *Gateway) serve(r *round) error {
	if err := r.authenticate(); err != nil { // from the headers alone: a stranger cannot fill memory
		return err
	}
	if err := r.enter(); err != nil { // a place in the process for it and its body, or a refusal at once
		return err
	}
	if err := r.decode(); err != nil { // the whole body, before anything waits: only then does a disconnect cancel
		return err
	}
	if answered, err := r.claimKey(); answered || err != nil { // what is known under an idempotency key is not asked again
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
	if err := r.commitKey(); err != nil { // an idempotency key, before the decision that it is charged with
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

// answer answers one request of a surface.
func (g *Gateway) answer(s *served, w http.ResponseWriter, req *http.Request) {
	s.meter.Begin()
	r := g.begin(s, w, req)
	defer r.end() // settles or releases, journals the outcome, answers what failed, contains a panic
	r.err = g.serve(r)
}
