package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Gauges that are read from what they show whenever somebody looks, so that no request keeps them.

// Holds is what a ledger holds of one scope.
type Holds struct {
	Open int
	// Leaked is how many have expired since the start because nobody ended them.
	Leaked int
}

// WatchHolds shows the open and the leaked holds by scope.
func (m *Metrics) WatchHolds(read func() map[string]Holds) {
	open := desc("budget_holds", "Open holds.", "scope")
	leaked := desc("budget_leaked_holds_total", "Holds that nobody ended; they were settled at their amount.", "scope")
	m.watch(func(ch chan<- prometheus.Metric) {
		for scope, h := range read() {
			ch <- prometheus.MustNewConstMetric(open, prometheus.GaugeValue, float64(h.Open), scope)
			ch <- prometheus.MustNewConstMetric(leaked, prometheus.CounterValue, float64(h.Leaked), scope)
		}
	}, open, leaked)
}

// Budget is a cap as it stands, in nanodollars.
type Budget struct {
	Scope, Owner, Window string
	Limit, Spent, Held   int64
}

// WatchBudgets shows all budgets, summed by scope and window: sums over windows would count a dollar twice. With tenant labels
// those of organizations and teams stand apart. A key is never a label.
func (m *Metrics) WatchBudgets(read func() []Budget) {
	labels := []string{"scope", "window"}
	if m.tenants {
		labels = append(labels, "scope_id")
	}
	limit := desc("budget_limit_usd", "Budgets in US dollars.", labels...)
	spent := desc("budget_spent_usd", "What is settled in the window that runs, in US dollars.", labels...)
	held := desc("budget_held_usd", "What open holds keep of budgets, in US dollars.", labels...)
	m.watch(func(ch chan<- prometheus.Metric) {
		type place struct{ scope, window, id string }
		sums := map[place][3]float64{}
		for _, b := range read() {
			at := place{scope: b.Scope, window: b.Window}
			if m.tenants && (b.Scope == "org" || b.Scope == "team") {
				at.id = b.Owner
			}
			s := sums[at]
			sums[at] = [3]float64{s[0] + dollars(b.Limit), s[1] + dollars(b.Spent), s[2] + dollars(b.Held)}
		}
		for at, s := range sums {
			values := []string{at.scope, at.window, at.id}[:len(labels)]
			for i, d := range []*prometheus.Desc{limit, spent, held} {
				ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, s[i], values...)
			}
		}
	}, limit, spent, held)
}

// Breaker is the place of an arm in the order of a request.
type Breaker int

// The states. An open arm stands behind all others, a half-open one is tried by one request.
const (
	BreakerClosed Breaker = iota
	BreakerHalfOpen
	BreakerOpen
)

// Health is how an arm does.
type Health struct {
	Provider, Model string
	// Share is the recent share of attempts that succeeded.
	Share   float64
	Breaker Breaker
}

// WatchHealth shows how arms do.
func (m *Metrics) WatchHealth(read func() []Health) {
	share := desc("upstream_health", "Recent share of attempts that succeeded, 0 to 1.", "provider", "model")
	state := desc("breaker_state", "0 closed, 1 half-open, 2 open.", "provider", "model")
	m.watch(func(ch chan<- prometheus.Metric) {
		for _, h := range read() {
			ch <- prometheus.MustNewConstMetric(share, prometheus.GaugeValue, h.Share, h.Provider, h.Model)
			ch <- prometheus.MustNewConstMetric(state, prometheus.GaugeValue, float64(h.Breaker), h.Provider, h.Model)
		}
	}, share, state)
}

// WatchPriceAges shows the age of each provider's oldest price in seconds.
func (m *Metrics) WatchPriceAges(read func() map[string]float64) {
	m.watchBy("provider", read, "price_age_seconds", "Age of the oldest price that is served.")
}

// WatchBadKeys shows how many keys each provider refuses.
func (m *Metrics) WatchBadKeys(read func() map[string]float64) {
	m.watchBy("provider", read, "bad_keys", "Keys that the provider refuses.")
}

// WatchLog shows the bytes of the sealed log, and how many closed segments wait to be sealed.
func (m *Metrics) WatchLog(read func() (bytes int64, waiting int)) {
	size := desc("log_bytes", "Bytes of the sealed log.")
	queue := desc("log_segments_waiting", "Closed journal segments that are not sealed yet.")
	m.watch(func(ch chan<- prometheus.Metric) {
		bytes, waiting := read()
		ch <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(bytes))
		ch <- prometheus.MustNewConstMetric(queue, prometheus.GaugeValue, float64(waiting))
	}, size, queue)
}

// Keys are the idempotency keys that are remembered.
type Keys struct {
	Kept    int
	Bytes   int64
	Results map[string]int64
}

// WatchKeys shows the idempotency keys, and what requests with one came to: first, replayed, or why it had no answer.
func (m *Metrics) WatchKeys(read func() Keys) {
	kept := desc("idempotency_keys", "Idempotency keys that are remembered.")
	size := desc("idempotency_bytes", "Answers that are kept under them, as they stand on the disk.")
	requests := desc("idempotency_requests_total", "Requests with an idempotency key, by what they came to.", "result")
	m.watch(func(ch chan<- prometheus.Metric) {
		k := read()
		ch <- prometheus.MustNewConstMetric(kept, prometheus.GaugeValue, float64(k.Kept))
		ch <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(k.Bytes))
		for result, n := range k.Results {
			ch <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(n), result)
		}
	}, kept, size, requests)
}

// Queue is a bounded queue of what may be lost.
type Queue struct {
	Length  int
	Dropped int64
}

// WatchQueues shows the queues of a kind ("trace") that is dropped rather than waited for. Decisions and money never are.
func (m *Metrics) WatchQueues(read func() map[string]Queue) {
	length := desc("log_queue_length", "What waits to be written or exported.", "kind")
	dropped := desc("log_dropped_total", "What was dropped because its queue was full or its reader was away.", "kind")
	m.watch(func(ch chan<- prometheus.Metric) {
		for kind, q := range read() {
			ch <- prometheus.MustNewConstMetric(length, prometheus.GaugeValue, float64(q.Length), kind)
			ch <- prometheus.MustNewConstMetric(dropped, prometheus.CounterValue, float64(q.Dropped), kind)
		}
	}, length, dropped)
}

func (m *Metrics) watchBy(label string, read func() map[string]float64, name, help string) {
	d := desc(name, help, label)
	m.watch(func(ch chan<- prometheus.Metric) {
		for value, v := range read() {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, value)
		}
	}, d)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tradewind_"+name, help, labels, nil)
}

func (m *Metrics) watch(collect func(chan<- prometheus.Metric), descs ...*prometheus.Desc) {
	m.registry.MustRegister(&watched{descs, collect})
}

// watched is asked for its values when it is collected.
type watched struct {
	descs   []*prometheus.Desc
	collect func(chan<- prometheus.Metric)
}

// Describe implements prometheus.Collector.
func (w *watched) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range w.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (w *watched) Collect(ch chan<- prometheus.Metric) { w.collect(ch) }
