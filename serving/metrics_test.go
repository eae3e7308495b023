package serving_test

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/serving/idempotency"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// counted is the value of a sample of /metrics, "" where it is not there.
func (w *world) counted(sample string) string {
	w.Helper()
	rec := httptest.NewRecorder()
	w.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(rec.Body.String()) {
		if value, ok := strings.CutPrefix(line, "tradewind_"+sample+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (w *world) wantCounted(what, sample, want string) {
	w.Helper()
	if got := w.counted(sample); got != want {
		w.Errorf("%s: tradewind_%s is %q, want %q", what, sample, got, want)
	}
}

// TestKindsOfTokensAgreeWithTheLog: the counters are the sums of what the log says, kind by kind, and no token is in two.
func TestKindsOfTokensAgreeWithTheLog(t *testing.T) {
	w := newWorld(t, setup{})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{whole("391", `{"prompt_tokens":100,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":60},"completion_tokens_details":{"reasoning_tokens":30}}`)}}, nil
	})
	_, o := w.outcome(w.chat(ask("one/cheap", "")).wantOK())
	if u := o.Usage; u.Input != 40 || u.CacheRead != 60 || u.Output != 20 || u.Reasoning != 30 {
		t.Fatalf("the log has %+v", u)
	}
	for kind, want := range map[string]string{"input": "40", "cache_read": "60", "output": "20", "reasoning": "30", "cache_write": "0"} {
		w.wantCounted("one request", `tokens_total{kind="`+kind+`",model="cheap",provider="one"}`, want)
	}
}

// TestOnlyStreamsHaveAFirstToken: an answer that comes whole does not say when its first token was there.
func TestOnlyStreamsHaveAFirstToken(t *testing.T) {
	w := newWorld(t, setup{})
	sample := `time_to_first_token_seconds_count{model="cheap",provider="one"}`
	w.chat(ask("one/cheap", "")).wantOK()
	w.wantCounted("a whole answer", sample, "0")
	w.chat(ask("one/cheap", `,"stream":true`)).wantOK()
	w.wantCounted("a stream", sample, "1")
}

// TestFiltersOfRefusalsAreCounted: where no candidate is left the filters are counted, once, and of a dry run never.
func TestFiltersOfRefusalsAreCounted(t *testing.T) {
	w := newWorld(t, setup{})
	body := ask("auto", `,"tradewind":{"max_cost_usd":0.000000001}`)
	w.do("POST", "/v1/route", body).wantError(400, "no_candidate")
	w.wantCounted("a dry run", `candidates_filtered_total{filter="max_cost"}`, "")
	w.chat(body).wantError(400, "no_candidate")
	w.wantCounted("a refusal", `candidates_filtered_total{filter="max_cost"}`, "3")
}

// TestBudgetRejectionsAreRefusals: what is counted is requests that were refused for want of budget, each once: no dry run, and
// no request that was served after all.
func TestBudgetRejectionsAreRefusals(t *testing.T) {
	sample := `budget_rejections_total{reason="budget_exceeded_key"}`
	w := newWorld(t, setup{auth: budget(1e-9)})
	w.do("POST", "/v1/route", ask("auto", ""), bearer(keyA)...).wantError(429, "insufficient_quota")
	w.wantCounted("a dry run", sample, "")
	w.chat(ask("auto", ""), bearer(keyA)...).wantError(429, "insufficient_quota")
	w.wantCounted("a refusal", sample, "1")

	for refusals, status := range []int{0: 200, 1: 200, 2: 429} { // the second hold is for the action alone
		n := 0
		w := newWorld(t, setup{auth: budget(1), ledger: &brokenLedger{hold: func() error {
			if n++; n <= refusals {
				return &ledger.InsufficientError{Scope: "key"}
			}
			return nil
		}}})
		if a := w.chat(ask("auto", ""), bearer(keyA)...); a.status != status {
			t.Fatalf("%d refused holds: %d %s", refusals, a.status, a.body)
		}
		want := ""
		if status == 429 {
			want = "1"
		}
		w.wantCounted("holds that others were quicker to take", sample, want)
	}
}

// TestDecisionsAreThoseOfTheLog: a draw that came to nothing, because its money could not be held, is no decision and
// expects nothing.
func TestDecisionsAreThoseOfTheLog(t *testing.T) {
	fail := true
	w := newWorld(t, setup{ledger: &brokenLedger{hold: func() error {
		if fail {
			return errScripted
		}
		return nil
	}}})
	sample := `predicted_quality_count{model="one/cheap"}`
	w.chat(ask("one/cheap", "")).wantError(503, "store_unavailable")
	w.wantCounted("a draw without a hold", sample, "0")
	fail = false
	w.chat(ask("one/cheap", "")).wantOK()
	w.wantCounted("a decision", sample, "1")
}

// TestReplayedErrorsAreErrors: an error that is told again under an idempotency key counts under its code.
func TestReplayedErrorsAreErrors(t *testing.T) {
	w := keyedWorld(t, setup{}, idempotency.Options{})
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return &script{err: fails(upstream.Cut, 0)}, nil })
	for range 2 {
		if a := w.keyed("/v1/chat/completions", ask("one/cheap", `,"tradewind":{"fallback":false}`), "k"); a.status != 502 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	w.wantCounted("an error told again", `requests_total{code="upstream_failed",status_class="5xx",strategy="",surface="chat"}`, "1")
	w.wantCounted("an error told again", `requests_total{code="",status_class="5xx",strategy="",surface="chat"}`, "")
}

// slowBody is a body that takes two seconds of a clock to come.
type slowBody struct {
	io.Reader
	now *time.Time
}

func (b slowBody) Read(p []byte) (int, error) {
	*b.now = b.now.Add(2 * time.Second)
	return b.Reader.Read(p)
}

// slowTaker is a client that takes its time, on a clock, for a whole answer or for every piece of a stream.
type slowTaker struct {
	*httptest.ResponseRecorder
	now          *time.Time
	whole, piece time.Duration
}

func (s slowTaker) Write(b []byte) (int, error) {
	*s.now = s.now.Add(s.whole)
	return s.ResponseRecorder.Write(b)
}

func (s slowTaker) Flush() { *s.now = s.now.Add(s.piece) }

// TestOverheadIsOurOwn: the waits for a client's body, and until it has taken a stream, are the client's.
func TestOverheadIsOurOwn(t *testing.T) {
	now := time.Unix(1e9, 0)
	w := newWorld(t, setup{now: func() time.Time { return now }})
	a := w.doReader(t.Context(), "POST", "/v1/chat/completions", slowBody{strings.NewReader(ask("auto", "")), &now}).wantOK()
	if got := a.header.Get("X-Tradewind-Overhead-Ms"); got != "0.000" {
		t.Errorf("the overhead is %s ms", got)
	}
	_, o := w.outcome(a)
	if o.OverheadMS != 0 || o.LatencyMS < 2000 {
		t.Errorf("overhead %v of %v ms", o.OverheadMS, o.LatencyMS)
	}
	for _, to := range []slowTaker{{whole: time.Second}, {piece: time.Second}} {
		to.ResponseRecorder, to.now = httptest.NewRecorder(), &now
		more := map[bool]string{true: `,"stream":true`}[to.piece > 0]
		w.handler.ServeHTTP(to, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(ask("auto", more))))
		if _, o = w.outcome(&answer{w, to.Code, to.Header(), to.Body.String()}); o.OverheadMS != 0 {
			t.Errorf("%s: overhead %v of %v ms", more, o.OverheadMS, o.LatencyMS)
		}
	}
	w.wantCounted("clients that take their time", `overhead_seconds_sum{surface="chat"}`, "0")
}
