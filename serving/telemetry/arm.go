package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Arm holds the children of one arm, resolved once when the catalog is read.
type Arm struct {
	m               *Metrics
	provider, model string
	attempts        *family[string, prometheus.Counter]
	decisions       *family[drawn, prometheus.Counter]
	spent           *family[Tenant, *spent]
	feedback        *family[string, prometheus.Observer]
	duration, ttft  prometheus.Observer
	perToken        prometheus.Observer
	quality         prometheus.Observer
	unpriced        prometheus.Counter
}

// Tenant is who is charged. Without tenant labels all are one.
type Tenant struct{ Org, Team string }

// drawn are the labels of a decision beside its arm.
type drawn struct{ reason, strategy, version string }

// spent is what one tenant used of an arm.
type spent struct {
	tokens          [5]prometheus.Counter
	final, estimate prometheus.Counter
}

// Arm resolves the children of an arm: its provider, and the provider's name of the model. Call it for arms of the
// catalog only, since every call with a new name makes new series.
func (m *Metrics) Arm(provider, model string) *Arm {
	name := provider + "/" + model
	return &Arm{
		m: m, provider: provider, model: model,
		attempts: newFamily(func(outcome string) prometheus.Counter { return m.upstream.WithLabelValues(provider, model, outcome) }),
		decisions: newFamily(func(d drawn) prometheus.Counter {
			return m.decisions.WithLabelValues(name, d.reason, d.strategy, d.version)
		}),
		spent:    newFamily(func(t Tenant) *spent { return m.spentBy(provider, model, t) }),
		feedback: newFamily(func(source string) prometheus.Observer { return m.feedback.WithLabelValues(name, source) }),
		duration: m.upstreamS.WithLabelValues(provider, model), ttft: m.ttft.WithLabelValues(provider, model),
		perToken: m.perToken.WithLabelValues(provider, model), quality: m.quality.WithLabelValues(name),
		unpriced: m.unpriced.WithLabelValues(provider, model),
	}
}

func (m *Metrics) spentBy(provider, model string, t Tenant) *spent {
	labels := func(more string) []string { return m.labels(t, provider, model, more) }
	s := &spent{final: m.cost.WithLabelValues(labels("final")...), estimate: m.cost.WithLabelValues(labels("estimated")...)}
	for i, kind := range []string{"input", "output", "cache_read", "cache_write", "reasoning"} {
		s.tokens[i] = m.tokens.WithLabelValues(labels(kind)...)
	}
	return s
}

// of finds what a tenant used.
func (a *Arm) of(t Tenant) *spent {
	if !a.m.tenants {
		t = Tenant{}
	}
	return a.spent.of(t)
}

// Attempted counts an attempt; outcome is the log's ("ok", "failed", "cancelled"). A first token time of zero means that none
// arrived, or that nobody could see when it did because the answer was not streamed.
func (a *Arm) Attempted(outcome string, took, firstToken time.Duration) {
	a.attempts.of(outcome).Inc()
	a.duration.Observe(took.Seconds())
	if firstToken > 0 {
		a.ttft.Observe(firstToken.Seconds())
	}
}

// Streamed records the pace of a stream after its first content.
func (a *Arm) Streamed(perToken time.Duration) { a.perToken.Observe(perToken.Seconds()) }

// Drawn counts a decision for this arm and the quality that was expected of it.
func (a *Arm) Drawn(reason, strategy, routerVersion string, quality float64) {
	a.decisions.of(drawn{reason, strategy, a.m.versions.label(routerVersion)}).Inc()
	a.quality.Observe(quality)
}

// Tokens is what one call used, by the kind that it is charged as, as in the log. The kinds do not overlap, so that their sum
// counts no token twice.
type Tokens struct {
	Input, Output, CacheRead, CacheWrite, Reasoning int64
}

// In are all tokens that went in, Out all that came out: OpenTelemetry's conventions count the kinds as parts of these.
func (t *Tokens) In() int64 { return t.Input + t.CacheRead + t.CacheWrite }

// Out is described at In.
func (t *Tokens) Out() int64 { return t.Output + t.Reasoning }

// Used counts tokens.
func (a *Arm) Used(t Tokens, by Tenant) {
	counters := &a.of(by).tokens
	for i, n := range [...]int64{t.Input, t.Output, t.CacheRead, t.CacheWrite, t.Reasoning} {
		if n > 0 {
			counters[i].Add(float64(n))
		}
	}
}

// Charged counts a settled cost; estimated says that the provider did not tell and we reckoned.
func (a *Arm) Charged(nanodollars int64, estimated bool, to Tenant) {
	if estimated {
		a.of(to).estimate.Add(dollars(nanodollars))
		return
	}
	a.of(to).final.Add(dollars(nanodollars))
}

// Estimated counts a usage that the provider did not tell.
func (a *Arm) Estimated(cause Cause) { a.m.estimated.of(estimate{a.provider, cause}).Inc() }

// Cause is why a usage is an estimate.
type Cause string

// The causes: the answer came without a usage, it broke off, the client left it, the server did, or the attempt failed and may
// have been billed.
const (
	NotTold       Cause = "not_told"
	BrokenOff     Cause = "broken_off"
	ClientLeft    Cause = "client_gone"
	Drained       Cause = "drained"
	FailedAttempt Cause = "failed_attempt"
)

type estimate struct {
	provider string
	cause    Cause
}

// Unpriced counts a request that was served without a known price.
func (a *Arm) Unpriced() { a.unpriced.Inc() }

// Scored counts feedback on an answer of this arm. Sources other than user, check, judge and system become "other",
// because clients name them.
func (a *Arm) Scored(source string, score float64) {
	switch source {
	case "user", "check", "judge", "system":
	default:
		source = "other"
	}
	a.feedback.of(source).Observe(score)
}
