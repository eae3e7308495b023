package telemetry

import (
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Buckets of the histograms. Upstream times run from an answer in memory to the default deadline of a request; our own
// part is three orders of magnitude below.
var (
	requestBuckets  = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	overheadBuckets = []float64{25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3}
	decisionBuckets = []float64{5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 5e-3, 25e-3}
	shareBuckets    = []float64{.1, .2, .3, .4, .5, .6, .7, .8, .9, .95, 1}
	regretBuckets   = []float64{0, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}
	tokenBuckets    = []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .15, .25, .5, 1}
)

// Metrics is every metric that serving feeds. Its methods may be called from any goroutine. Labels come from bounded
// sets only: an arm's children are made by Arm, which is for arms of the catalog and never for a name that a client sent.
type Metrics struct {
	registry *prometheus.Registry
	// tenants says that what is asked and spent is told apart by organization and team.
	tenants  bool
	versions versions

	requests   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	overhead   *prometheus.HistogramVec
	inFlight   *prometheus.GaugeVec
	upstream   *prometheus.CounterVec
	upstreamS  *prometheus.HistogramVec
	ttft       *prometheus.HistogramVec
	perToken   *prometheus.HistogramVec
	answers    [3]prometheus.Counter
	failovers  *family[failure, prometheus.Counter]
	retries    *family[failure, prometheus.Counter]
	switches   *prometheus.CounterVec
	hedges     *prometheus.CounterVec
	decisions  *prometheus.CounterVec
	decisionS  prometheus.Histogram
	filtered   *family[string, prometheus.Counter]
	regret     *family[string, prometheus.Observer]
	verdicts   *family[verdict, prometheus.Counter]
	explored   prometheus.Counter
	routerCost prometheus.Counter
	estimated  *family[estimate, prometheus.Counter]
	quality    *prometheus.HistogramVec
	feedback   *prometheus.HistogramVec
	reference  prometheus.Counter
	router     *prometheus.GaugeVec
	promoted   [2]prometheus.Counter
	rolledBack prometheus.Counter
	build      *prometheus.GaugeVec
	tokens     *prometheus.CounterVec
	cost       *prometheus.CounterVec
	unpriced   *prometheus.CounterVec
	rejections *prometheus.CounterVec
	segments   prometheus.Counter
	config     prometheus.Gauge
	novelty    *prometheus.GaugeVec
	drift      *prometheus.GaugeVec
	shifting   prometheus.Gauge
}

// NewMetrics registers the metrics with reg, or with a registry of its own where reg is nil. It panics where reg
// already holds them.
func NewMetrics(reg *prometheus.Registry) *Metrics { return newMetrics(reg, false) }

// NewTenantMetrics is NewMetrics with the labels org and team on requests, tokens and costs, and scope_id on budgets: as many
// more series as there are teams.
func NewTenantMetrics(reg *prometheus.Registry) *Metrics { return newMetrics(reg, true) }

func newMetrics(reg *prometheus.Registry, tenants bool) *Metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &Metrics{registry: reg, tenants: tenants}
	m.registerRequests()
	m.registerRouting()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *Metrics) registerRequests() {
	m.requests = m.counters("requests_total", "Requests answered.", m.names("surface", "status_class", "code", "strategy")...)
	m.duration = m.histograms("request_duration_seconds", "Whole requests, as the client saw them.", requestBuckets, "surface", "stream")
	m.overhead = m.histograms("overhead_seconds", "Our own part of a request, without the waits for providers and for the client.", overheadBuckets, "surface")
	m.inFlight = m.gauges("requests_in_flight", "Requests being answered.", "surface")
	m.upstream = m.counters("upstream_requests_total", "Attempts at an arm.", "provider", "model", "outcome")
	m.upstreamS = m.histograms("upstream_duration_seconds", "Whole attempts.", requestBuckets, "provider", "model")
	m.ttft = m.histograms("time_to_first_token_seconds", "From dispatch to the first content of a stream.", requestBuckets, "provider", "model")
	m.perToken = m.histograms("time_per_output_token_seconds", "Pace of streams after the first content.", tokenBuckets, "provider", "model")
	answers := m.counters("answers_total", "Requests that reached a provider, by how they were answered.", "how")
	for how := range m.answers {
		m.answers[how] = answers.WithLabelValues(Answer(how).String())
	}
	m.failovers = m.failures("failovers_total", "Attempts given up for another arm.")
	m.retries = m.failures("retries_total", "Attempts made again at the same arm.")
	m.switches = m.counters("key_switches_total", "Calls that went on with another key of the same provider.", "provider", "error_class")
	m.hedges = m.counters("hedges_total", "Second calls beside one that was slow to begin, by whether they answered.", "provider", "result")
	m.tokens = m.counters("tokens_total", "Tokens by the kind that they are charged as, which do not overlap; estimated where the provider did not tell.", m.names("provider", "model", "kind")...)
	m.cost = m.counters("cost_usd_total", "Settled cost in US dollars.", m.names("provider", "model", "status")...)
	m.unpriced = m.counters("unpriced_requests_total", "Requests served by an arm without a price.", "provider", "model")
	estimated := m.counters("usage_estimated_total", "Usages that the provider did not tell, by why.", "provider", "cause")
	m.estimated = newFamily(func(e estimate) prometheus.Counter { return estimated.WithLabelValues(e.provider, string(e.cause)) })
	m.rejections = m.counters("budget_rejections_total", "Requests refused for want of budget.", "reason")
}

func (m *Metrics) registerRouting() {
	m.decisions = m.counters("decisions_total", "Decisions by the arm drawn.", "model", "reason", "strategy", "router_version")
	decision := m.histograms("decision_duration_seconds", "Features, estimates, constraints and the draw.", decisionBuckets)
	m.decisionS = decision.WithLabelValues().(prometheus.Histogram)
	filtered := m.counters("candidates_filtered_total", "Candidates out of the running.", "filter")
	m.filtered = newFamily(func(f string) prometheus.Counter { return filtered.WithLabelValues(f) })
	regret := m.histograms("estimated_regret", "Best estimate among the eligible less that of the arm drawn.", regretBuckets, "strategy")
	m.regret = newFamily(func(s string) prometheus.Observer { return regret.WithLabelValues(s) })
	verdicts := m.counters("gate_verdicts_total", "What gates said of answers.", "gate", "verdict")
	m.verdicts = newFamily(func(v verdict) prometheus.Counter { return verdicts.WithLabelValues(v.gate, v.verdict) })
	m.explored = m.counters("exploration_spend_usd_total", "Settled cost in US dollars of the requests that explored.").WithLabelValues()
	m.routerCost = m.counters("router_cost_usd_total",
		"Settled cost in US dollars of all attempts but those that answered: failures, hedges, answers that gates rejected.").WithLabelValues()
	m.quality = m.histograms("predicted_quality", "Estimated quality of the arm drawn.", shareBuckets, "model")
	m.feedback = m.histograms("feedback_score", "Scores that came back.", shareBuckets, "model", "source")
	m.reference = m.counters("reference_cost_usd_total",
		"Expected cost in US dollars of the same requests at the fallback arm.").WithLabelValues()
	m.router = m.gauges("router_info", "1 for the artifact of a stage.", "version", "stage")
	promoted := m.counters("router_promotions_total", "Promoted artifacts that a running server took into service or refused.", "result")
	m.promoted = [2]prometheus.Counter{promoted.WithLabelValues("taken"), promoted.WithLabelValues("refused")}
	m.rolledBack = m.counters("router_rollbacks_total", "Routers taken into service that had been there before the one that they displace.", "cause").WithLabelValues("operator")
	m.build = m.gauges("build_info", "1 for the running program.", "version", "go_version")
	m.config = m.gauges("config_last_reload_successful", "1 where the configuration was taken the last time that it was read.").WithLabelValues()
	m.drift = m.gauges("feature_drift", "How far the last prompts are from those of training by the group of features, as population stability index; absent before there are enough.", "feature_group")
	m.novelty = m.gauges("traffic_novelty", "How unlike those of training the last window of prompts was, in standard errors; absent before the first.")
	m.shifting = m.gauges("traffic_shifting", "1 where the setting for shifting traffic is in force.").WithLabelValues()
	m.segments = m.counters("log_segments_written_total", "Journal segments closed.").WithLabelValues()
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tradewind_" + name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tradewind_" + name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tradewind_" + name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) failures(name, help string) *family[failure, prometheus.Counter] {
	v := m.counters(name, help, "provider", "error_class")
	return newFamily(func(f failure) prometheus.Counter { return v.WithLabelValues(f.provider, f.class) })
}

type failure struct{ provider, class string }

type verdict struct{ gate, verdict string }

// names adds the labels of a tenant where they are wanted, and labels their values.
func (m *Metrics) names(labels ...string) []string {
	if m.tenants {
		return append(labels, "org", "team")
	}
	return labels
}

func (m *Metrics) labels(t Tenant, values ...string) []string {
	if m.tenants {
		return append(values, t.Org, t.Team)
	}
	return values
}

// Handler serves the metrics in Prometheus' text form.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Surface holds the children of one API surface ("chat", "messages", …). Make it once, at start.
type Surface struct {
	m            *Metrics
	requests     *family[answered, prometheus.Counter]
	inFlight     prometheus.Gauge
	overhead     prometheus.Observer
	whole, parts prometheus.Observer
}

// Surface resolves the children of a surface.
func (m *Metrics) Surface(name string) *Surface {
	return &Surface{
		requests: newFamily(func(a answered) prometheus.Counter {
			return m.requests.WithLabelValues(m.labels(a.by, name, a.class, a.code, a.strategy)...)
		}),
		m: m, inFlight: m.inFlight.WithLabelValues(name), overhead: m.overhead.WithLabelValues(name),
		whole: m.duration.WithLabelValues(name, "false"), parts: m.duration.WithLabelValues(name, "true"),
	}
}

// Begin counts a request in.
func (s *Surface) Begin() { s.inFlight.Inc() }

// Done is what is known of a request at its end.
type Done struct {
	Status int
	// Code is the error's code of the wire's table, empty on success.
	Code     string
	Strategy string
	Stream   bool
	Duration time.Duration
	Overhead time.Duration
	By       Tenant
}

// answered are the labels of a request beside its surface.
type answered struct {
	class, code, strategy string
	by                    Tenant
}

// End counts a request out.
func (s *Surface) End(d Done) {
	s.inFlight.Dec()
	if !s.m.tenants {
		d.By = Tenant{}
	}
	s.requests.of(answered{statusClass(d.Status), d.Code, d.Strategy, d.By}).Inc()
	if d.Stream {
		s.parts.Observe(d.Duration.Seconds())
	} else {
		s.whole.Observe(d.Duration.Seconds())
	}
	s.overhead.Observe(d.Overhead.Seconds())
}

func statusClass(status int) string {
	switch status / 100 {
	case 2:
		return "2xx"
	case 3:
		return "3xx"
	case 4:
		return "4xx"
	case 5:
		return "5xx"
	}
	return "other"
}

// Answer says how a request that reached a provider ended.
type Answer int

// The ways to be answered.
const (
	FirstTry Answer = iota
	Failover
	Failed
)

// String is the label's value.
func (a Answer) String() string {
	switch a {
	case FirstTry:
		return "first_try"
	case Failover:
		return "failover"
	case Failed:
		return "failed"
	}
	return "Answer(" + strconv.Itoa(int(a)) + ")"
}

// Answered counts how a request ended.
func (m *Metrics) Answered(how Answer) { m.answers[how].Inc() }

// FailedOver counts an attempt at provider that was given up for another arm. The class is one of the failover table's.
func (m *Metrics) FailedOver(provider, errorClass string) {
	m.failovers.of(failure{provider, errorClass}).Inc()
}

// Retried counts an attempt that was made again at the same arm.
func (m *Metrics) Retried(provider, errorClass string) {
	m.retries.of(failure{provider, errorClass}).Inc()
}

// KeySwitched counts a call that went on with another key of the provider.
func (m *Metrics) KeySwitched(provider, errorClass string) {
	m.switches.WithLabelValues(provider, errorClass).Inc()
}

// HedgeResult is how a second call ended.
type HedgeResult string

// The results. A hedge is lost where it did not answer, and cancelled where the client left both calls.
const (
	HedgeWon       HedgeResult = "won"
	HedgeLost      HedgeResult = "lost"
	HedgeCancelled HedgeResult = "cancelled"
)

// Hedged counts a second call.
func (m *Metrics) Hedged(provider string, r HedgeResult) {
	m.hedges.WithLabelValues(provider, string(r)).Inc()
}

// Filtered counts n candidates that a filter took out.
func (m *Metrics) Filtered(filter string, n int) { m.filtered.of(filter).Add(float64(n)) }

// Regretted records by how much the best estimate among the eligible arms lies above that of the arm drawn.
func (m *Metrics) Regretted(strategy string, by float64) { m.regret.of(strategy).Observe(by) }

// Judged counts what a gate said. Gates come from the configuration.
func (m *Metrics) Judged(gate, said string) { m.verdicts.of(verdict{gate, said}).Inc() }

// Explored counts what a request cost that explored.
func (m *Metrics) Explored(nanodollars int64) { m.explored.Add(dollars(nanodollars)) }

// RouterCost counts what a request cost beside the attempt that answered.
func (m *Metrics) RouterCost(nanodollars int64) { m.routerCost.Add(dollars(nanodollars)) }

// Decided records one decision's time and the reference cost of its request in nanodollars.
func (m *Metrics) Decided(took time.Duration, referenceNanodollars int64) {
	m.decisionS.Observe(took.Seconds())
	m.reference.Add(dollars(referenceNanodollars))
}

// BudgetRejected counts a refusal; the reason is the wire's, such as "budget_exceeded_key".
func (m *Metrics) BudgetRejected(reason string) { m.rejections.WithLabelValues(reason).Inc() }

// SegmentWritten counts a closed journal segment.
func (m *Metrics) SegmentWritten() { m.segments.Inc() }

// SetRouter names the artifact of a stage ("live", "canary", "shadow") in place of the one before.
func (m *Metrics) SetRouter(version, stage string) {
	m.versions.add(version)
	m.router.DeletePartialMatch(prometheus.Labels{"stage": stage})
	m.router.WithLabelValues(version, stage).Set(1)
}

// RouterTaken counts a promoted artifact that was put into service.
func (m *Metrics) RouterTaken() { m.promoted[0].Inc() }

// RouterRolledBack counts one that an operator has brought back.
func (m *Metrics) RouterRolledBack() { m.rolledBack.Inc() }

// RouterRefused counts a promoted artifact that could not be used; the one before serves on.
func (m *Metrics) RouterRefused() { m.promoted[1].Inc() }

// TrafficNovelty shows the z of the last window of prompts.
func (m *Metrics) TrafficNovelty(z float64) { m.novelty.WithLabelValues().Set(z) }

// TaskDrift shows how far the mix of tasks is from that of training.
func (m *Metrics) TaskDrift(psi float64) { m.drift.WithLabelValues("task").Set(psi) }

// NoTraffic forgets what the prompts were like: another router measures otherwise.
func (m *Metrics) NoTraffic() {
	m.novelty.Reset()
	m.drift.Reset()
}

// TrafficShifting says whether the setting for shifting traffic is in force.
func (m *Metrics) TrafficShifting(shifting bool) {
	m.shifting.Set(0)
	if shifting {
		m.shifting.Set(1)
	}
}

// ConfigReloaded says whether the configuration was taken the last time that it was read.
func (m *Metrics) ConfigReloaded(taken bool) {
	m.config.Set(0)
	if taken {
		m.config.Set(1)
	}
}

// SetBuild names the running program.
func (m *Metrics) SetBuild(version string) {
	m.build.Reset()
	m.build.WithLabelValues(version, runtime.Version()).Set(1)
}

// dollars turns nanodollars into what a chart shows; books never see it. Counters do not go down, so less than nothing
// is nothing.
func dollars(nano int64) float64 { return float64(max(nano, 0)) / 1e9 }

// versionsMax bounds the artifacts that decisions are counted by. A process may see a new one every hour for a year.
const versionsMax = 16

// versions are the artifacts that were in service.
type versions struct{ named atomic.Pointer[[]string] }

func (v *versions) all() []string {
	if p := v.named.Load(); p != nil {
		return *p
	}
	return nil
}

// add is for one goroutine at a time.
func (v *versions) add(version string) {
	named := v.all()
	if len(named) < versionsMax && !slices.Contains(named, version) {
		named = append(slices.Clone(named), version)
		v.named.Store(&named)
	}
}

// label is a version's, or "later" where too many came before it.
func (v *versions) label(version string) string {
	if version == "" || slices.Contains(v.all(), version) {
		return version
	}
	return "later"
}
