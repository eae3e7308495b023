package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Arm holds the children of one arm, resolved once when the catalog is read.
type Arm struct {
	m               *Metrics
	provider, model string
	duration, ttft  prometheus.Observer
	quality         prometheus.Observer
	tokens          [5]prometheus.Counter
	final, estimate prometheus.Counter
	unpriced        prometheus.Counter
}

// Arm resolves the children of an arm: its provider, and the provider's name of the model. Call it for arms of the
// catalog only, since every call with a new name makes new series.
func (m *Metrics) Arm(provider, model string) *Arm {
	a := &Arm{
		m: m, provider: provider, model: model,
		duration: m.upstreamS.WithLabelValues(provider, model), ttft: m.ttft.WithLabelValues(provider, model),
		quality: m.quality.WithLabelValues(provider + "/" + model),
		final:   m.cost.WithLabelValues(provider, model, "final"), estimate: m.cost.WithLabelValues(provider, model, "estimated"),
		unpriced: m.unpriced.WithLabelValues(provider, model),
	}
	for i, kind := range []string{"input", "output", "cache_read", "cache_write", "reasoning"} {
		a.tokens[i] = m.tokens.WithLabelValues(provider, model, kind)
	}
	return a
}

// Attempted counts an attempt; outcome is the attempt's ("completed", "timeout", …). A first token time of zero means
// that no content arrived.
func (a *Arm) Attempted(outcome string, took, firstToken time.Duration) {
	a.m.upstream.WithLabelValues(a.provider, a.model, outcome).Inc()
	a.duration.Observe(took.Seconds())
	if firstToken > 0 {
		a.ttft.Observe(firstToken.Seconds())
	}
}

// Drawn counts a decision for this arm and the quality that was expected of it.
func (a *Arm) Drawn(reason, strategy, routerVersion string, quality float64) {
	a.m.decisions.WithLabelValues(a.provider+"/"+a.model, reason, strategy, routerVersion).Inc()
	a.quality.Observe(quality)
}

// Tokens is what one call used. Reasoning tokens are part of the output and are counted beside it.
type Tokens struct {
	Input, Output, CacheRead, CacheWrite, Reasoning int64
}

// Used counts tokens.
func (a *Arm) Used(t Tokens) {
	for i, n := range [...]int64{t.Input, t.Output, t.CacheRead, t.CacheWrite, t.Reasoning} {
		if n > 0 {
			a.tokens[i].Add(float64(n))
		}
	}
}

// Charged counts a settled cost; estimated says that the provider did not tell and we reckoned.
func (a *Arm) Charged(nanodollars int64, estimated bool) {
	if estimated {
		a.estimate.Add(dollars(nanodollars))
		return
	}
	a.final.Add(dollars(nanodollars))
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
	a.m.feedback.WithLabelValues(a.provider+"/"+a.model, source).Observe(score)
}

// WatchHolds registers the gauge of open holds. The function is asked at every scrape and returns the open holds of
// WatchHolds shows how many holds are open, by scope, whenever somebody looks.
func (m *Metrics) WatchHolds(open func() map[string]int) {
	m.watch("budget_holds", "Open holds.", "scope", func() map[string]float64 {
		out := map[string]float64{}
		for scope, n := range open() {
			out[scope] = float64(n)
		}
		return out
	})
}

// WatchPriceAges shows the age of each provider's oldest price in seconds, whenever somebody looks.
func (m *Metrics) WatchPriceAges(ages func() map[string]float64) {
	m.watch("price_age_seconds", "Age of the oldest price that is served.", "provider", ages)
}

// WatchBadKeys shows how many keys each provider refuses, whenever somebody looks.
func (m *Metrics) WatchBadKeys(bad func() map[string]float64) {
	m.watch("bad_keys", "Keys that the provider refuses.", "provider", bad)
}

func (m *Metrics) watch(name, help, label string, read func() map[string]float64) {
	m.registry.MustRegister(&watched{read: read, desc: prometheus.NewDesc("tradewind_"+name, help, []string{label}, nil)})
}

// watched is a gauge that is asked for its values when it is collected.
type watched struct {
	read func() map[string]float64
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (w *watched) Describe(ch chan<- *prometheus.Desc) { ch <- w.desc }

// Collect implements prometheus.Collector.
func (w *watched) Collect(ch chan<- prometheus.Metric) {
	for label, v := range w.read() {
		ch <- prometheus.MustNewConstMetric(w.desc, prometheus.GaugeValue, v, label)
	}
}
