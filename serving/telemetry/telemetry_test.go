package telemetry

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"
)

const canary = "canary/k3y+Value=äé9031"

// leaks returns the form of the canary that out tells, or "".
func leaks(out string) string {
	h := hex.EncodeToString([]byte(canary))
	for _, form := range []string{
		canary, canary[:prefixMin], h[:16], strings.ToUpper(h)[:16], url.QueryEscape(canary)[:prefixMin+2],
		base64.StdEncoding.EncodeToString([]byte(canary))[:11], lowerEscapes(url.QueryEscape(canary))[:prefixMin+2],
		base64.StdEncoding.EncodeToString([]byte("_" + canary))[2:12], base64.StdEncoding.EncodeToString([]byte("__" + canary))[3:13], fmt.Sprint([]byte(canary))[:12],
	} {
		if strings.Contains(out, form) {
			return form
		}
	}
	return ""
}

func TestSecretIsNeverShown(t *testing.T) {
	type config struct {
		Key  Secret            `json:"key" yaml:"key"`
		Keys map[string]Secret `json:"keys" yaml:"keys"`
		Ptr  *Secret           `json:"ptr" yaml:"ptr"`
	}
	key := Secret(canary)
	c := config{Key: key, Keys: map[string]Secret{"a": key}, Ptr: &key}
	for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X % x %d %c %U %10s %-10.3s %t %e") {
		for _, v := range []any{key, []Secret{key}, [1]Secret{key}, struct{ K Secret }{key}, config{Key: key}, &struct{ K Secret }{key}} {
			if out := fmt.Sprintf(verb, v); leaks(out) != "" || !strings.Contains(out, Redacted) {
				t.Errorf("fmt %s of %T = %q, want %s and nothing of the secret", verb, v, out, Redacted)
			}
		}
	}
	j, err := json.Marshal(c)
	if err != nil || leaks(string(j)) != "" {
		t.Errorf("json = %s, %v", j, err)
	}
	y, err := yaml.Marshal(struct {
		Key  Secret   `yaml:"key"`
		Keys []Secret `yaml:"keys"`
		Ptr  *Secret  `yaml:"ptr"`
	}{key, []Secret{key}, &key})
	if err != nil || leaks(string(y)) != "" || strings.Count(string(y), Redacted) != 3 {
		t.Errorf("yaml = %s, %v", y, err)
	}
	for name, h := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"json": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		var out bytes.Buffer
		slog.New(h(&out)).Info("start", "key", key, "config", c, slog.Group("g", "k", key))
		if f := leaks(out.String()); f != "" {
			t.Errorf("slog %s tells %q: %s", name, f, out.String())
		}
	}
	if got := key.Reveal(); got != canary {
		t.Errorf("Reveal = %q, want the secret", got)
	}
}

func TestSecretIsReadFromConfig(t *testing.T) {
	var c struct {
		Key Secret `json:"key" yaml:"key"`
	}
	if err := yaml.Unmarshal([]byte("key: abc"), &c); err != nil || c.Key.Reveal() != "abc" {
		t.Errorf("yaml: %q, %v, want abc", c.Key.Reveal(), err)
	}
	if err := json.Unmarshal([]byte(`{"key":"def"}`), &c); err != nil || c.Key.Reveal() != "def" {
		t.Errorf("json: %q, %v, want def", c.Key.Reveal(), err)
	}
}

type stringer struct{ key string }

func (s stringer) String() string { return "stringer " + s.key }

func TestHandlerRedacts(t *testing.T) {
	type hidden struct{ key string }
	for name, log := range map[string]func(*slog.Logger){
		"message":   func(l *slog.Logger) { l.Info("got " + canary + " from env") },
		"attribute": func(l *slog.Logger) { l.Info("x", "url", "https://h/?key="+canary) },
		"escaped":   func(l *slog.Logger) { l.Info("x", "url", "https://h/?key="+url.QueryEscape(canary)) },
		"hex":       func(l *slog.Logger) { l.Info("x", "v", hex.EncodeToString([]byte(canary))) },
		"base64":    func(l *slog.Logger) { l.Info("x", "v", base64.StdEncoding.EncodeToString([]byte(canary))) },
		"base64 of more": func(l *slog.Logger) {
			l.Info("x", "v", base64.StdEncoding.EncodeToString([]byte("Bearer "+canary+"!")))
		},
		"base64 behind 2":  func(l *slog.Logger) { l.Info("x", "v", base64.URLEncoding.EncodeToString([]byte("a:"+canary+"!"))) },
		"lower escapes":    func(l *slog.Logger) { l.Info("x", "v", lowerEscapes(url.QueryEscape(canary))) },
		"prefix":           func(l *slog.Logger) { l.Info("x", "v", "Incorrect key: "+canary[:10]+"*****") },
		"error":            func(l *slog.Logger) { l.Info("x", "err", fmt.Errorf("dial: %w", errors.New(canary))) },
		"stringer":         func(l *slog.Logger) { l.Info("x", "v", stringer{canary}) },
		"bytes":            func(l *slog.Logger) { l.Info("x", "v", []byte(canary)) },
		"struct":           func(l *slog.Logger) { l.Info("x", "v", struct{ A, B string }{"a", canary}) },
		"unexported field": func(l *slog.Logger) { l.Info("x", "v", struct{ h hidden }{hidden{string(Secret(canary))}}) },
		"unmarshalable":    func(l *slog.Logger) { l.Info("x", "v", map[any]any{canary: make(chan int)}) },
		"group":            func(l *slog.Logger) { l.Info("x", slog.Group("g", slog.Group("h", "v", canary))) },
		"with":             func(l *slog.Logger) { l.With("v", canary).WithGroup("g").Info("x", "w", canary) },
		"map key":          func(l *slog.Logger) { l.Info("x", "v", map[Secret]int{canary: 1}) },
		"header":           func(l *slog.Logger) { l.Info("x", "Authorization", "opaque "+canary) },
		"header value": func(l *slog.Logger) {
			l.Info("x", "headers", map[string][]string{"Authorization": {"Bearer " + canary}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var plain, clean bytes.Buffer
			log(slog.New(slog.NewTextHandler(&plain, nil)))
			log(slog.New(NewHandler(slog.NewTextHandler(&clean, nil), Secret(canary))))
			if f := leaks(clean.String()); f != "" {
				t.Errorf("told %q: %s", f, clean.String())
			}
			if name != "unexported field" && !strings.Contains(clean.String(), Redacted) {
				t.Errorf("nothing was redacted in %s (without the handler: %s)", clean.String(), plain.String())
			}
		})
	}
}

func TestHandlerKeepsTheRest(t *testing.T) {
	var out bytes.Buffer
	l := slog.New(NewHandler(slog.NewJSONHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}), Secret(canary), Secret("")))
	l.With("a", 1).WithGroup("g").Info("hello", "n", 2, "d", time.Second, "ok", true, "input_tokens", 7, "x_api_key", "x", "refresh_token", "x")
	want := `{"level":"INFO","msg":"hello","a":1,"g":{"n":2,"d":1000000000,"ok":true,"input_tokens":7,"x_api_key":"[redacted]","refresh_token":"[redacted]"}}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRedactUnknownKeys(t *testing.T) {
	r := NewRedactor()
	for in, want := range map[string]string{
		"authorization: Bearer abcdefgh12":     "authorization: [redacted]",
		"key sk-tw-0123456789abcdef is bad":    "key [redacted] is bad",
		"token ya29.c+/tK8wQx is bad":          "token [redacted] is bad",
		"Bearer of bad news":                   "Bearer of bad news",
		"ask-me-anything-about-anything-else.": "ask-me-anything-about-anything-else.",
		"plain":                                "plain",
	} {
		if got := r.Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestPlaceholders: what stands where no key is asked for is an ordinary word.
func TestPlaceholders(t *testing.T) {
	const text = "none of ollama's models is EMPTY: k2, mock2"
	if got := NewRedactor("none", "EMPTY", "ollama", "k2", "x").Redact(text); got != text {
		t.Errorf("got %q, want it whole", got)
	}
}

func TestRedactProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringN(prefixMin, 60, -1).Draw(t, "secret")
		before, after := rapid.String().Draw(t, "before"), rapid.String().Draw(t, "after")
		got := NewRedactor(Secret(secret)).Redact(before + secret + after)
		if strings.Contains(strings.ReplaceAll(got, Redacted, ""), secret) && !strings.Contains(before+after, secret[:1]) {
			t.Fatalf("Redact left %q in %q", secret, got)
		}
		if !strings.Contains(got, Redacted) {
			t.Fatalf("Redact(%q) = %q, want %s in it", before+secret+after, got, Redacted)
		}
	})
}

func TestMetrics(t *testing.T) {
	m := NewMetrics(nil)
	s := m.Surface("chat")
	s.Begin()
	s.Begin()
	s.End(Done{Status: 429, Code: "insufficient_quota", Strategy: "balanced", Stream: true, Duration: time.Second, Overhead: time.Millisecond})
	m.SetRouter("tw1-0", "live")
	a := m.Arm("openai", "gpt-x")
	a.Attempted("completed", 2*time.Second, time.Second)
	a.Attempted("timeout", time.Second, 0)
	a.Drawn("predicted", "balanced", "tw1-0", 0.75)
	a.Used(Tokens{Input: 10, Output: 5, Reasoning: 3}, Tenant{})
	a.Charged(1_500_000_000, false, Tenant{})
	a.Charged(-5, true, Tenant{})
	a.Unpriced()
	a.Scored("user", 1)
	a.Scored("whatever a client writes", 0)
	m.Answered(Failover)
	m.FailedOver("openai", "timeout")
	m.Filtered("max_cost", 3)
	m.Decided(30*time.Microsecond, 2_000_000_000)
	m.BudgetRejected("budget_exceeded_key")
	m.SegmentWritten()
	m.SetRouter("tw1-1", "live")
	m.RouterTaken()
	m.SetBuild("v0")
	m.WatchHolds(func() map[string]Holds { return map[string]Holds{"key": {Open: 4, Leaked: 1}} })

	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	body := rec.Body.String()
	for _, want := range []string{
		`tradewind_requests_total{code="insufficient_quota",status_class="4xx",strategy="balanced",surface="chat"} 1`,
		`tradewind_requests_in_flight{surface="chat"} 1`,
		`tradewind_request_duration_seconds_count{stream="true",surface="chat"} 1`,
		`tradewind_overhead_seconds_sum{surface="chat"} 0.001`,
		`tradewind_upstream_requests_total{model="gpt-x",outcome="timeout",provider="openai"} 1`,
		`tradewind_upstream_duration_seconds_count{model="gpt-x",provider="openai"} 2`,
		`tradewind_time_to_first_token_seconds_count{model="gpt-x",provider="openai"} 1`,
		`tradewind_decisions_total{model="openai/gpt-x",reason="predicted",router_version="tw1-0",strategy="balanced"} 1`,
		`tradewind_predicted_quality_sum{model="openai/gpt-x"} 0.75`,
		`tradewind_tokens_total{kind="input",model="gpt-x",provider="openai"} 10`,
		`tradewind_tokens_total{kind="reasoning",model="gpt-x",provider="openai"} 3`,
		`tradewind_cost_usd_total{model="gpt-x",provider="openai",status="final"} 1.5`,
		`tradewind_cost_usd_total{model="gpt-x",provider="openai",status="estimated"} 0`,
		`tradewind_unpriced_requests_total{model="gpt-x",provider="openai"} 1`,
		`tradewind_feedback_score_count{model="openai/gpt-x",source="other"} 1`,
		`tradewind_answers_total{how="failover"} 1`,
		`tradewind_answers_total{how="first_try"} 0`,
		`tradewind_failovers_total{error_class="timeout",provider="openai"} 1`,
		`tradewind_candidates_filtered_total{filter="max_cost"} 3`,
		`tradewind_decision_duration_seconds_count 1`,
		`tradewind_reference_cost_usd_total 2`,
		`tradewind_budget_rejections_total{reason="budget_exceeded_key"} 1`,
		`tradewind_log_segments_written_total 1`,
		`tradewind_router_info{stage="live",version="tw1-1"} 1`,
		`tradewind_router_promotions_total{result="refused"} 0`,
		`tradewind_router_promotions_total{result="taken"} 1`,
		`tradewind_build_info{go_version="`,
		`tradewind_budget_holds{scope="key"} 4`,
		`go_goroutines`,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(body, `version="tw1-0",stage`) || strings.Contains(body, `router_info{stage="live",version="tw1-0"}`) {
		t.Error("the artifact before still has a router_info row")
	}
}

// A process that lives long sees many artifacts; only the first of them are told apart.
func TestVersionsAreBounded(t *testing.T) {
	m := NewMetrics(nil)
	a := m.Arm("openai", "gpt-x")
	for i := range 3 * versionsMax {
		v := fmt.Sprint("tw1-", i)
		m.SetRouter(v, "live")
		a.Drawn("predicted", "balanced", v, 0.5)
	}
	a.Drawn("predicted", "balanced", "tw1-0", 0.5) // rolled back to
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	body := rec.Body.String()
	if got, want := strings.Count(body, "\ntradewind_decisions_total{"), versionsMax+1; got != want {
		t.Errorf("%d versions are told apart, want %d", got, want)
	}
	for _, want := range []string{`router_version="tw1-0",strategy="balanced"} 2`, fmt.Sprintf(`router_version="later",strategy="balanced"} %d`, 2*versionsMax)} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

// Children are found without an allocation, and made once however many ask for them at the same time.
func TestFamily(t *testing.T) {
	var made atomic.Int64
	f := newFamily(func(k verdict) *int { made.Add(1); return new(int) })
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() { f.of(verdict{fmt.Sprint(i % 8), "x"}) })
	}
	wg.Wait()
	if made.Load() != 8 || f.of(verdict{"1", "x"}) == f.of(verdict{"2", "x"}) {
		t.Errorf("%d children were made, want 8", made.Load())
	}
	if n := testing.AllocsPerRun(100, func() { f.of(verdict{"3", "x"}) }); n != 0 {
		t.Errorf("%v allocations a look-up", n)
	}
}

// BenchmarkRequest is every metric of one ordinary request.
func BenchmarkRequest(b *testing.B) {
	m := NewMetrics(nil)
	m.SetRouter("tw1-0", "live")
	s, a := m.Surface("chat"), m.Arm("openai", "gpt-x")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Begin()
			m.Decided(30*time.Microsecond, 1000)
			a.Drawn("predicted", "balanced", "tw1-0", 0.75)
			a.Attempted("completed", time.Second, time.Second)
			a.Used(Tokens{Input: 10, Output: 5}, Tenant{})
			a.Charged(1500, false, Tenant{})
			m.Answered(FirstTry)
			s.End(Done{Status: 200, Strategy: "balanced", Duration: time.Second, Overhead: time.Millisecond})
		}
	})
}
