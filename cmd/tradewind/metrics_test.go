package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metric is one row of what is promised: a name without its prefix, a type, and labels in the order of their names. Labels
// after a "+" come with metrics.tenant_labels alone.
var promisedMetrics = []struct{ name, kind, labels string }{
	{"requests_total", "COUNTER", "code status_class strategy surface +org team"},
	{"request_duration_seconds", "HISTOGRAM", "stream surface"},
	{"overhead_seconds", "HISTOGRAM", "surface"},
	{"requests_in_flight", "GAUGE", "surface"},
	{"upstream_requests_total", "COUNTER", "model outcome provider"},
	{"upstream_duration_seconds", "HISTOGRAM", "model provider"},
	{"time_to_first_token_seconds", "HISTOGRAM", "model provider"},
	{"time_per_output_token_seconds", "HISTOGRAM", "model provider"},
	{"answers_total", "COUNTER", "how"},
	{"failovers_total", "COUNTER", "error_class provider"},
	{"retries_total", "COUNTER", "error_class provider"},
	{"key_switches_total", "COUNTER", "error_class provider"},
	{"bad_keys", "GAUGE", "provider"},
	{"hedges_total", "COUNTER", "provider result"},
	{"upstream_health", "GAUGE", "model provider"},
	{"breaker_state", "GAUGE", "model provider"},
	{"decisions_total", "COUNTER", "model reason router_version strategy"},
	{"decision_duration_seconds", "HISTOGRAM", ""},
	{"candidates_filtered_total", "COUNTER", "filter"},
	{"exploration_spend_usd_total", "COUNTER", ""},
	{"router_cost_usd_total", "COUNTER", ""},
	{"predicted_quality", "HISTOGRAM", "model"},
	{"feedback_score", "HISTOGRAM", "model source"},
	{"reference_cost_usd_total", "COUNTER", ""},
	{"estimated_regret", "HISTOGRAM", "strategy"},
	{"gate_verdicts_total", "COUNTER", "gate verdict"},
	{"router_info", "GAUGE", "stage version"},
	{"router_promotions_total", "COUNTER", "result"},
	{"router_rollbacks_total", "COUNTER", "cause"},
	{"traffic_shifting", "GAUGE", ""},
	{"tokens_total", "COUNTER", "kind model provider +org team"},
	{"cost_usd_total", "COUNTER", "model provider status +org team"},
	{"unpriced_requests_total", "COUNTER", "model provider"},
	{"usage_estimated_total", "COUNTER", "cause provider"},
	{"price_age_seconds", "GAUGE", "provider"},
	{"budget_limit_usd", "GAUGE", "scope window +scope_id"},
	{"budget_spent_usd", "GAUGE", "scope window +scope_id"},
	{"budget_held_usd", "GAUGE", "scope window +scope_id"},
	{"budget_rejections_total", "COUNTER", "reason"},
	{"budget_holds", "GAUGE", "scope"},
	{"budget_leaked_holds_total", "COUNTER", "scope"},
	{"idempotency_keys", "GAUGE", ""},
	{"idempotency_bytes", "GAUGE", ""},
	{"idempotency_requests_total", "COUNTER", "result"},
	{"log_bytes", "GAUGE", ""},
	{"log_segments_waiting", "GAUGE", ""},
	{"log_segments_written_total", "COUNTER", ""},
	{"config_last_reload_successful", "GAUGE", ""},
	{"build_info", "GAUGE", "go_version version"},
}

// moody is a vendor whose models each have a way of their own to go wrong.
func moody(t *testing.T) *httptest.Server {
	t.Helper()
	answers := map[string]func(http.ResponseWriter, *http.Request){
		"bad": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) },
		"slow": func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Second):
			}
		},
		"mute": func(w http.ResponseWriter, _ *http.Request) {
			answer, _, _ := strings.Cut(vendorAnswer, `,"usage"`)
			_, _ = io.WriteString(w, answer+"}")
		},
	}
	v := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model  string
			Stream bool
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		w.Header().Set("Content-Type", "application/json")
		switch answer := answers[body.Model]; {
		case r.Header.Get("Authorization") == "Bearer sk-lab-refused-0123456789":
			w.WriteHeader(http.StatusUnauthorized)
		case answer != nil:
			answer(w, r)
		case body.Stream:
			w.Header().Set("Content-Type", "text/event-stream")
			for range 3 {
				_, _ = io.WriteString(w, `data: {"id":"c1","choices":[{"index":0,"delta":{"content":"a"}}]}`+"\n\n")
			}
			_, _ = io.WriteString(w, `data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n"+
				`data: {"id":"c1","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3}}`+"\n\ndata: [DONE]\n\n")
		default:
			_, _ = io.WriteString(w, vendorAnswer)
		}
	}))
	t.Cleanup(v.Close)
	return v
}

const (
	annKey  = "sk-tw-ann-0123456789abcdef"
	poorKey = "sk-tw-poor-0123456789abcdef"
	freeKey = "sk-tw-free-0123456789abcdef"
)

func moodyConfig(t *testing.T, more string) string {
	t.Helper()
	price := "input_usd_per_mtok: 1, output_usd_per_mtok: 10"
	return write(t, "tradewind.yaml", fmt.Sprintf(`
providers:
  - name: lab
    type: openai
    base_url: %s/v1
    api_keys: [sk-lab-refused-0123456789, sk-lab-good-0123456789]
    models: [{name: small, %[2]s}, {name: other, as_of: 2026-01-01, %[2]s}, {name: bad, %[2]s}, {name: slow, %[2]s}, {name: mute, %[2]s}, {name: unpriced}]
aliases: {good: [lab/small, lab/other]}
keys:
  - {name: ann, key: %s, org: acme, team: ml, budget_usd: {day: 5}, hedge: {after_ms: 1, max_share: 1}}
  - {name: poor, key: %s, org: acme, team: ml, budget_usd: {total: 0.000001}}
  - {name: free, key: %s}
teams: [{name: ml, org: acme, budget_usd: {month: 50}}]
orgs: [{name: acme, budget_usd: {month: 500}}]
routing: {epsilon: 1}
gates: [{name: not-empty, check: not_empty}]
%s
`, moodyURL(t), price, annKey, poorKey, freeKey, more))
}

func moodyURL(t *testing.T) string { return moody(t).URL }

// exercise makes a server do everything once that a metric counts.
func exercise(t *testing.T, s *service) {
	t.Helper()
	chat := func(key, model, more string, status int) reply {
		t.Helper()
		r := s.call("POST", "/v1/chat/completions", key, ask(model, "What is 17 times 23?", more))
		if r.status != status {
			t.Fatalf("%s%s: status %d, want %d: %s", model, more, r.status, status, r.body)
		}
		return r
	}
	for range 6 { // of two arms that explore half of the time
		chat(annKey, "auto/good", `,"tradewind":{"gates":["not-empty"]}`, 200)
	}
	chat(annKey, "lab/small", `,"stream":true`, 200)
	chat(annKey, "lab/bad", `,"models":["lab/small"]`, 200)
	chat(annKey, "lab/bad", "", 502)
	chat(annKey, "lab/slow", `,"models":["lab/small"],"tradewind":{"hedge":true}`, 200)
	chat(annKey, "lab/mute", "", 200)
	chat(poorKey, "lab/small", "", 429)
	chat(freeKey, "lab/unpriced", "", 200)
	chat(annKey, "lab/small", `,"tradewind":{"max_cost_usd":0.00000001}`, 400)
	id := chat(annKey, "lab/small", "", 200).header.Get("X-Tradewind-Decision-Id")
	s.call("POST", "/v1/feedback", annKey, `{"decision_id":"`+id+`","score":1}`).want(t, 202, nil)
}

// scrape reads /metrics as Prometheus does.
func scrape(t *testing.T, s *service) map[string]*dto.MetricFamily {
	t.Helper()
	r := s.call("GET", "/metrics", "", "")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(r.body)))
	if err != nil || r.status != 200 {
		t.Fatalf("/metrics: status %d, %v", r.status, err)
	}
	return families
}

func labelNames(m *dto.Metric) []string {
	var names []string
	for _, l := range m.Label {
		names = append(names, l.GetName())
	}
	slices.Sort(names)
	return names
}

// TestMetricsAreThosePromised: every metric is there with its type and its labels, and no other; organizations and teams are
// labels only where somebody wants that, and keys never.
func TestMetricsAreThosePromised(t *testing.T) {
	for _, tenants := range []bool{false, true} {
		t.Run(fmt.Sprintf("tenant labels %v", tenants), func(t *testing.T) {
			s := start(t, nil, "--config", moodyConfig(t, fmt.Sprintf("metrics: {tenant_labels: %v}", tenants)))
			exercise(t, s)
			families := scrape(t, s)
			known := map[string]bool{}
			for _, p := range promisedMetrics {
				known["tradewind_"+p.name] = true
				f := families["tradewind_"+p.name]
				if f == nil {
					t.Errorf("tradewind_%s is missing", p.name)
					continue
				}
				always, also, _ := strings.Cut(p.labels, "+")
				want := strings.Fields(always)
				if tenants {
					want = append(want, strings.Fields(also)...)
				}
				slices.Sort(want)
				if f.GetType().String() != p.kind || f.GetHelp() == "" {
					t.Errorf("tradewind_%s is a %s with the help %q, want a %s", p.name, f.GetType(), f.GetHelp(), p.kind)
				}
				for _, m := range f.Metric {
					if got := labelNames(m); !slices.Equal(got, want) {
						t.Errorf("tradewind_%s has the labels %v, want %v", p.name, got, want)
					}
				}
			}
			for name, f := range families {
				if strings.HasPrefix(name, "tradewind_") && !known[name] {
					t.Errorf("%s is nobody's promise: %v", name, f)
				}
				for _, m := range f.Metric {
					for _, l := range m.Label {
						if v := l.GetValue(); v == "ann" || v == "poor" || strings.Contains(v, "sk-tw") || !tenants && v == "acme" {
							t.Errorf("%s has the label %s=%q", name, l.GetName(), v)
						}
					}
				}
			}
		})
	}
}

// TestMetricsTellTheTruth: what was counted is what happened.
func TestMetricsTellTheTruth(t *testing.T) {
	s := start(t, nil, "--config", moodyConfig(t, "metrics: {tenant_labels: true}"))
	exercise(t, s)
	text := string(s.call("GET", "/metrics", "", "").body)
	for _, want := range []string{
		`tradewind_failovers_total{error_class="server",provider="lab"} 1`,
		`tradewind_retries_total{error_class="server",provider="lab"} 1`,
		`tradewind_hedges_total{provider="lab",result="won"} 1`,
		`tradewind_usage_estimated_total{cause="not_told",provider="lab"} 1`,
		`tradewind_unpriced_requests_total{model="unpriced",provider="lab"} 1`,
		`tradewind_time_per_output_token_seconds_count{model="small",provider="lab"} 1`,
		`tradewind_gate_verdicts_total{gate="not-empty",verdict="pass"} 6`,
		`tradewind_budget_limit_usd{scope="key",scope_id="",window="day"} 5`,
		`tradewind_budget_limit_usd{scope="org",scope_id="acme",window="month"} 500`,
		`tradewind_budget_held_usd{scope="org",scope_id="acme",window="month"} 0`,
		`tradewind_budget_holds{scope="key"} 0`,
		`tradewind_budget_leaked_holds_total{scope="key"} 0`,
		`tradewind_upstream_health{model="small",provider="lab"} 1`,
		`tradewind_breaker_state{model="small",provider="lab"} 0`,
		`tradewind_feedback_score_count{model="lab/small",source="user"} 1`,
		`tradewind_bad_keys{provider="lab"} 1`,
		`tradewind_requests_in_flight{surface="chat"} 0`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	families := scrape(t, s)
	value := func(name string, labels ...string) (sum float64) {
		for _, m := range families["tradewind_"+name].Metric {
			has := 0
			for _, l := range m.Label {
				if slices.Contains(labels, l.GetName()+"="+l.GetValue()) {
					has++
				}
			}
			if has == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		return sum
	}
	if org, all := value("budget_spent_usd", "scope=org"), value("cost_usd_total", "org=acme"); org == 0 || fmt.Sprintf("%.9f", org) != fmt.Sprintf("%.9f", all) {
		t.Errorf("the organization spent %v of its budget, and its requests cost %v", org, all)
	}
	// The two attempts at lab/bad cost nothing, because a refusal is not billed; the call that was outrun may be.
	if beside := value("router_cost_usd_total"); beside <= 0 || beside >= value("cost_usd_total") {
		t.Errorf("routing cost %v of %v", beside, value("cost_usd_total"))
	}
	if answered, all := value("answers_total"), value("decisions_total"); answered == 0 || answered > all {
		t.Errorf("%v answers of %v rounds", answered, all)
	}
	if explored, all := value("exploration_spend_usd_total"), value("decisions_total", "reason=explored"); (explored > 0) != (all > 0) {
		t.Errorf("%v rounds explored, for %v USD", all, explored)
	}
}

// TestMetricsAreBounded: whatever clients write makes no new series.
func TestMetricsAreBounded(t *testing.T) {
	s := start(t, nil, "--config", moodyConfig(t, "metrics: {tenant_labels: true}"))
	exercise(t, s)
	attack := func(seed int) {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		word := func() string { return fmt.Sprintf("w%d", rng.Uint64()) }
		for i := range 40 {
			model := []string{word(), "lab/" + word(), "auto/" + word(), "auto:" + word(), "lab/small", "auto/good"}[i%6]
			s.call("POST", []string{"/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/" + word()}[i%4], []string{annKey, freeKey, "sk-tw-" + word()}[i%3],
				ask(model, word(), fmt.Sprintf(`,"user":%q,"metadata":{"tags":[%q]},"tradewind":{"session_id":%q,"strategy":%q,"tags":{%q:%q}}`,
					word(), word(), word(), []string{word(), "cost"}[i%2], word(), word())))
			s.call("POST", "/v1/feedback", annKey, fmt.Sprintf(`{"decision_id":%q,"score":1,"source":%q}`, word(), word()))
			s.call("PROPFIND", "/"+word(), word(), word())
		}
	}
	count := func() (series int) {
		for _, f := range scrape(t, s) {
			series += len(f.Metric)
		}
		return series
	}
	attack(1)
	attack(1)
	before := count()
	for seed := range 5 {
		attack(seed + 2)
	}
	if after := count(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}
