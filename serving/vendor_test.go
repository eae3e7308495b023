package serving_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/openaicompat"
)

// TestDecisionComesFirst: when a vendor is called, the journal already holds the decision and the ledger the money.
func TestDecisionComesFirst(t *testing.T) {
	w := newWorld(t, setup{})
	checked := 0
	w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
		decisions, held := bytes.Count(journalBytes(t, w.dir), []byte(`"action":"one/cheap"`)), w.books.Open()["key"]
		if checked++; decisions != 1 || held != 1 {
			t.Errorf("call %d: %d decisions, %d holds, want one of each", call, decisions, held)
		}
		if call == 1 {
			return nil, fails(upstream.Server, 503)
		}
		return &script{}, nil
	})
	w.chat(ask("auto", "")).wantOK()
	if checked != 2 {
		t.Errorf("%d calls, want 2", checked)
	}
}

// journalBytes is all that the journal has given to the operating system.
func journalBytes(t *testing.T, dir string) []byte {
	t.Helper()
	var all []byte
	files := must(os.ReadDir(dir))(t)
	for _, f := range files {
		all = append(all, must(os.ReadFile(filepath.Join(dir, f.Name())))(t)...)
	}
	return all
}

// badVendors are servers that do everything wrong, over real connections.
func badVendors() map[string]http.HandlerFunc {
	text := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	return map[string]http.HandlerFunc{
		"resets": func(w http.ResponseWriter, r *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		},
		"stalls":         func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
		"500":            text(500, "text/html", "<html>oops</html>"),
		"503":            text(503, "application/json", `{"error":{"message":"overloaded"}}`),
		"429":            text(429, "application/json", `{"error":{"message":"slow down"}}`),
		"401":            text(401, "application/json", `{"error":{"message":"Incorrect API key provided: sk-123"}}`),
		"404":            text(404, "application/json", `{"error":{"code":"model_not_found","message":"no such model"}}`),
		"rubbish":        text(200, "application/json", "what?"),
		"HTML":           text(200, "text/html", "<html>sign in</html>"),
		"empty 200":      text(200, "application/json", ""),
		"empty object":   text(200, "application/json", "{}"),
		"empty stream":   text(200, "text/event-stream", "data: [DONE]\n\n"),
		"error in a 200": text(200, "application/json", `{"error":{"message":"no capacity","code":503}}`),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"refuses":         nil, // nobody listens
		"error in stream": text(200, "text/event-stream", "data: {\"error\":{\"message\":\"no capacity\",\"code\":503}}\n\n"),
	}
}

// TestBadVendor: with a healthy arm beside the bad one the client notices nothing (P5); without one it gets an error of
// the table. Whole answers and streams alike, and in the end nothing is held.
func TestBadVendor(t *testing.T) {
	for name, handler := range badVendors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(handler)
			if handler == nil {
				server.Close()
			}
			defer server.Close()
			bad := must(openaicompat.New(openaicompat.Options{BaseURL: server.URL}))(t)
			good := &vendor{}
			for _, more := range []string{"", `,"stream":true`} {
				w := newWorld(t, setup{ // of its own, for the second request would leave the bad arm alone
					providers: map[string]upstream.Provider{"one": bad, "two": good, "three": good},
					pool:      upstream.Options{FirstTokenTimeout: 100 * time.Millisecond, AnswerTimeout: 100 * time.Millisecond},
				})
				a := w.chat(ask("auto", more)).wantOK()
				if a.header.Get("X-Tradewind-Fallback-From") != "one/cheap" || a.header.Get("X-Tradewind-Reason") != "fallback" || a.header.Get("X-Tradewind-Model") == "one/cheap" {
					t.Errorf("headers %v", a.header)
				}
				d, o := w.outcome(a)
				if d.Action != "one/cheap" || o.Served == d.Action || o.Status != datasets.Completed || len(o.Attempts) != 2 {
					t.Errorf("decision %+v\noutcome %+v", d, o)
				}
				a = w.chat(ask("one/cheap", more+`,"tradewind":{"fallback":false}`), "X-Tradewind-Timeout-Ms", "300")
				wantVendorError(a, name)
				if _, o := w.outcome(a); o.Status != datasets.Failed || o.Error == "" || len(o.Attempts) != 1 || o.Served != "" {
					t.Errorf("outcome %+v", o)
				}
				if strings.Contains(a.body, "sk-123") || strings.Contains(a.body, "127.0.0.1") {
					t.Errorf("the answer tells what is not the client's: %s", a.body)
				}
			}
		})
	}
}

func wantVendorError(a *answer, name string) {
	a.Helper()
	switch name {
	case "429":
		a.wantError(429, openai.UpstreamRateLimited)
	case "stalls":
		if a.status != 504 && a.status != 502 {
			a.Errorf("got %d %s", a.status, a.body)
		}
	default:
		a.wantError(502, openai.UpstreamFailed)
	}
}

// TestStall: sixty seconds of silence, and then the next arm, exactly.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{})
		w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
			if call == 1 {
				return &script{stallAt: 1}, nil
			}
			return &script{}, nil
		})
		begin := time.Now()
		a := w.chat(ask("auto", `,"stream":true`)).wantOK()
		if took := time.Since(begin); took != time.Minute || a.text() != "391" {
			t.Errorf("%q after %v, want the whole answer after a minute", a.text(), took)
		}
		_, o := w.outcome(a)
		if o.Attempts[0].Cost == 0 || o.Attempts[0].ErrorClass != "timeout" || o.CostStatus != datasets.CostEstimated {
			t.Errorf("a vendor that stalls may bill: %+v", o)
		}
	})
}

// TestDeadline: the client's own.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{})
		w.vendor.play(func(int, *upstream.Request) (*script, error) { return &script{stallAt: 1}, nil })
		begin := time.Now()
		a := w.chat(ask("auto", ""), "X-Tradewind-Timeout-Ms", "1500")
		a.wantError(http.StatusGatewayTimeout, openai.Timeout)
		if took := time.Since(begin); took != 1500*time.Millisecond || a.header.Get("X-Tradewind-Attempts") != "1" {
			t.Errorf("after %v with headers %v", took, a.header)
		}
		if _, o := w.outcome(a); o.Cost == 0 || o.CostStatus != datasets.CostEstimated || o.Error != "timeout" {
			t.Errorf("outcome %+v", o)
		}
		// In the middle of a stream there is no status left to say it with.
		w.vendor.play(func(int, *upstream.Request) (*script, error) {
			return &script{events: []string{delta("3"), delta("9")}, stallAt: 2}, nil
		})
		a = w.chat(ask("auto", `,"stream":true`), "X-Tradewind-Timeout-Ms", "1500").wantOK()
		if events := a.events(); a.text() != "3" || dig(t, events[len(events)-2], "error.code") != "timeout" || events[len(events)-1] != "[DONE]" {
			t.Errorf("events %q", events)
		}
	})
}

// TestCutStream cuts before every event (P5a): before the first content the next arm answers in full, after it the
// client gets what came, an error event and the end. Never two answers, and what was streamed is paid for. Pains 16
// (BerriAI/litellm#27967) and 17 (#29808).
func TestCutStream(t *testing.T) {
	hush := strings.NewReplacer("broken", "[redacted]", "scripted", "[redacted]").Replace
	events := []string{`{"id":"answer-1","choices":[{"index":0,"delta":{"role":"assistant"}}]}`, delta("a"), delta("b"), delta("c"), finish, usageChunk}
	for cut := 0; cut <= len(events); cut++ {
		for name, err := range map[string]error{"cut": fails(upstream.Cut, 0), "error event": nil} {
			w := newWorld(t, setup{options: serving.Options{Redact: hush}})
			w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
				if call > 1 {
					return &script{}, nil
				}
				s := &script{events: append([]string(nil), events[:cut]...), err: err}
				if err == nil {
					s.events = append(s.events, `{"error":{"message":"broken","code":500}}`)
				}
				return s, nil
			})
			a := w.chat(ask("auto", `,"stream":true`)).wantOK()
			got := a.events()
			_, o := w.outcome(a)
			if cut <= 1 { // only the role came
				if a.text() != "391" || len(w.vendor.called()) != 2 || o.Status != datasets.Completed {
					t.Errorf("%s at %d: %q of %v", name, cut, a.text(), w.vendor.called())
				}
				continue
			}
			want := "abc"[:min(cut-1, 3)]
			last := got[len(got)-2]
			if a.text() != want || len(w.vendor.called()) != 1 || got[len(got)-1] != "[DONE]" ||
				dig(t, last, "error.code") != "upstream_failed" || !strings.Contains(last, `"finish_reason":"error"`) || !strings.Contains(last, "[redacted]") || dig(t, last, "id") != "answer-1" {
				t.Errorf("%s at %d: %q after %v, events %q", name, cut, a.text(), w.vendor.called(), got)
			}
			if o.Status != datasets.Failed || o.CostStatus != datasets.CostEstimated || o.Usage.Output != int64(len(want)) || o.Cost == 0 {
				t.Errorf("%s at %d: outcome %+v", name, cut, o)
			}
		}
	}
}

func TestStreamUsage(t *testing.T) {
	w := newWorld(t, setup{})
	a := w.chat(ask("auto", `,"stream":true,"stream_options":{"include_usage":true}`)).wantOK()
	events := a.events()
	last := events[len(events)-2]
	if a.text() != "391" || dig(t, last, "usage.cost") != "0.000013" || fmt.Sprint(dig(t, last, "choices")) != "[]" || dig(t, last, "model") != "one/cheap" {
		t.Errorf("events %q", events)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no", "X-Tradewind-Cost-Usd": "",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if a.header.Get("X-Tradewind-Cost-Estimate-Usd") == "" {
		t.Error("no estimate of the cost")
	}
	if a := w.chat(ask("auto", `,"stream":true`)).wantOK(); strings.Contains(a.body, `"usage"`) || a.text() != "391" {
		t.Errorf("usage without being asked for: %s", a.body)
	}
	// A vendor that tells no usage: it is counted, and marked.
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{delta("a"), delta("b"), finish}}, nil
	})
	a = w.chat(ask("auto", `,"stream":true,"stream_options":{"include_usage":true}`)).wantOK()
	last = a.events()[len(a.events())-2]
	_, o := w.outcome(a)
	if dig(t, last, "usage.tradewind_estimated") != true || dig(t, last, "usage.completion_tokens") != "2" || dig(t, last, "usage.cost") != o.Cost.String() || o.CostStatus != datasets.CostEstimated {
		t.Errorf("chunk %s, outcome %+v", last, o)
	}
	// An explicit zero is a value.
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{whole("x", `{"prompt_tokens":0,"completion_tokens":0}`)}}, nil
	})
	if a := w.chat(ask("auto", "")).wantOK(); a.header.Get("X-Tradewind-Cost-Usd") != "0" || a.get("usage.cost") != "0" || a.get("usage.tradewind_estimated") != nil {
		t.Errorf("%v %s", a.header, a.body)
	}
}

// TestClientGone leaves at each stage over a real connection (P9): the vendor is cancelled at once and the round is
// settled, not lost. Pains 11 (BerriAI/litellm#14457) and 13 (#17364): whoever leaves pays for what was said, once, and the
// vendor says no more.
func TestClientGone(t *testing.T) {
	for name, tt := range map[string]struct {
		script script
		body   string
		output bool
		path   string
	}{
		"before the first byte":    {script{stallAt: 1}, ask("auto", `,"stream":true`), false, "/v1/chat/completions"},
		"whole answer":             {script{stallAt: 1}, ask("auto", ""), false, "/v1/chat/completions"},
		"mid-stream":               {script{stallAt: 3, events: []string{delta("a"), delta("b")}}, ask("auto", `,"stream":true`), true, "/v1/chat/completions"},
		"after a large body":       {script{stallAt: 1}, ask("auto", `,"x":"`+strings.Repeat("x", 1<<20)+`"`), false, "/v1/chat/completions"},
		"a completion, whole":      {script{stallAt: 1}, `{"model":"one/cheap","prompt":"hi"}`, false, "/v1/completions"},
		"a completion, mid-stream": {script{stallAt: 3, events: []string{text("a"), text("b")}}, `{"model":"one/cheap","prompt":"hi","stream":true}`, true, "/v1/completions"},
		"embeddings":               {script{stallAt: 1}, `{"model":"embed","input":["hi","there"]}`, false, "/v1/embeddings"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{arms: append(roomy(), directArms()...)})
			cancelled, waiting := make(chan struct{}), make(chan struct{})
			w.vendor.play(func(int, *upstream.Request) (*script, error) {
				s := tt.script
				s.cancelled = cancelled
				s.before = func(i int) {
					if i == s.stallAt {
						close(waiting)
					}
				}
				return &s, nil
			})
			served := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				defer close(served)
				w.handler.ServeHTTP(rw, r)
			}))
			defer server.Close()
			conn := must(net.Dial("tcp", server.Listener.Addr().String()))(t)
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", tt.path, len(tt.body), tt.body)
			<-waiting
			if tt.output {
				if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
					t.Fatalf("%q, %v", line, err)
				}
			}
			begin := time.Now()
			_ = conn.Close()
			<-cancelled
			if took := time.Since(begin); took > 30*time.Second { // before any limit of ours ends the call; the benchmark has the time
				t.Errorf("cancelled after %v", took)
			}
			<-served
			rounds := w.rounds()
			o := rounds[0].Outcome
			if len(rounds) != 1 || o.Status != datasets.ClientGone || o.Cost == 0 || o.CostStatus != datasets.CostEstimated || o.Error != "client_gone" {
				t.Errorf("%d rounds, outcome %+v", len(rounds), o)
			}
			if tt.output && (o.Served != "one/cheap" || o.Usage.Output != 2) {
				t.Errorf("two tokens were streamed: %+v", o)
			}
			if n := len(w.vendor.called()); n != 1 {
				t.Errorf("%d calls for nobody", n)
			}
		})
	}
}

// roomy are arms with a window for large bodies.
func roomy() []catalog.Arm {
	arms := threeArms()
	for i := range arms {
		arms[i].ContextTokens = 1 << 30
	}
	return arms
}

// TestClientGoneInBackoff leaves between two attempts: the failed one cost nothing, so nothing is charged.
func TestClientGoneInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, setup{})
		ctx, cancel := context.WithCancel(t.Context())
		w.vendor.play(func(int, *upstream.Request) (*script, error) {
			time.AfterFunc(100*time.Millisecond, cancel)
			return nil, fails(upstream.Server, 503)
		})
		w.doReader(ctx, "POST", "/v1/chat/completions", strings.NewReader(ask("one/cheap", "")))
		rounds := w.rounds()
		if o := rounds[0].Outcome; len(rounds) != 1 || o.Status != datasets.ClientGone || o.Cost != 0 || len(o.Attempts) != 1 || len(w.vendor.called()) != 1 {
			t.Errorf("%d rounds, outcome %+v", len(rounds), o)
		}
	})
}

// failingWriter is a client that stops taking data after some writes.
type failingWriter struct {
	*httptest.ResponseRecorder
	left int
}

func (f *failingWriter) Write(b []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, io.ErrClosedPipe
	}
	return f.ResponseRecorder.Write(b)
}

func TestWriteFails(t *testing.T) {
	w := newWorld(t, setup{})
	rec := &failingWriter{httptest.NewRecorder(), 2}
	w.handler.ServeHTTP(rec, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(ask("auto", `,"stream":true`))))
	if o := w.rounds()[0].Outcome; o.Status != datasets.ClientGone || o.Usage.Output != 3 || o.Cost == 0 {
		t.Errorf("outcome %+v", o)
	}
}

// TestUsersErrorIsReturnedAsItIs: no failover, nothing charged, and the arm is not to blame.
func TestUsersErrorIsReturnedAsItIs(t *testing.T) {
	w := newWorld(t, setup{})
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return nil, &upstream.Error{Class: upstream.BadRequest, Status: 422, Code: "weird_vendor_code", Param: "top_p", Message: "top_p must be positive"}
	})
	for range 10 {
		a := w.chat(ask("auto", ""))
		a.wantError(422, "weird_vendor_code")
		if _, o := w.outcome(a); a.get("error.message") != "top_p must be positive" || o.Cost != 0 || len(o.Attempts) != 1 {
			t.Errorf("%s, outcome %+v", a.body, o)
		}
	}
	rec := httptest.NewRecorder()
	w.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if strings.Contains(rec.Body.String(), "weird_vendor_code") {
		t.Error("a vendor chose the value of a label")
	}
	w.vendor.play(nil)
	if a := w.chat(ask("auto", "")).wantOK(); a.header.Get("X-Tradewind-Model") != "one/cheap" {
		t.Error("the arm was ejected for the client's mistakes")
	}
}

// TestTwoAnswers: a vendor whose code sends a second whole answer has a bug, and its client is still there.
func TestTwoAnswers(t *testing.T) {
	w := newWorld(t, setup{})
	answer := whole("x", `{"prompt_tokens":1,"completion_tokens":1}`)
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return &script{events: []string{answer, answer}}, nil })
	a := w.chat(ask("auto", ""))
	a.wantError(502, openai.UpstreamFailed)
	if _, o := w.outcome(a); o.Status != datasets.Failed || o.Cost == 0 {
		t.Errorf("outcome %+v", o)
	}
}

// panicking is the router with a bug.
type panicking struct{ once func() }

func (p panicking) Propose(dst *policy.Distribution, c *policy.Case) {
	p.once()
	policy.Router{}.Propose(dst, c)
}

// TestPanics puts a panic into each stage (P26): the request fails with 500, its money is accounted for, the next one
// and those beside it go on.
func TestPanics(t *testing.T) {
	var fired atomic.Bool
	once := func() {
		if fired.CompareAndSwap(false, true) {
			panic("scripted")
		}
	}
	for name, s := range map[string]setup{
		"policy":       {options: serving.Options{Policy: panicking{once}}},
		"draw":         {options: serving.Options{Uniform: func() float64 { once(); return 0.5 }}},
		"hold":         {ledger: &brokenLedger{hold: func() error { once(); return nil }}},
		"provider":     {},
		"whole answer": {},
		"stream":       {},
	} {
		fired.Store(false)
		s.panics = true
		w := newWorld(t, s)
		more := ""
		w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
			switch {
			case call > 1:
			case name == "provider":
				once()
			case name == "whole answer":
				return &script{panicAt: 1}, nil
			case name == "stream":
				return &script{events: []string{delta("a")}, panicAt: 2}, nil
			}
			return &script{}, nil
		})
		if name == "stream" {
			more = `,"stream":true`
		}
		a := w.chat(ask("auto", more))
		if name == "stream" {
			if events := a.events(); len(events) != 3 || dig(t, events[1], "error.code") != "internal_error" || events[2] != "[DONE]" {
				t.Errorf("%s: %q", name, events)
			}
		} else {
			a.wantError(500, openai.InternalError)
		}
		if rounds := w.rounds(); (name != "policy" && name != "draw" && name != "hold") && (len(rounds) != 1 || rounds[0].Outcome.Status != datasets.Failed || rounds[0].Outcome.Cost == 0) {
			t.Errorf("%s: %+v", name, rounds)
		}
		if !strings.Contains(w.log.String(), "panic in a request") {
			t.Errorf("%s: the log is silent: %s", name, w.log)
		}
		if strings.Contains(a.body, "scripted") || strings.Contains(a.body, "has a bug") {
			t.Errorf("%s: the client is told %s", name, a.body)
		}
		w.chat(ask("auto", more)).wantOK()
	}
}

// TestPanicWhileSettling: a bug in the books costs one request its end, and no money: the hold expires at its amount.
func TestPanicWhileSettling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fired := false
		w := newWorld(t, setup{unaudited: true, panics: true, ledger: &brokenLedger{settle: func() {
			if !fired {
				fired = true
				panic("scripted")
			}
		}}})
		w.chat(ask("auto", ""))
		w.chat(ask("auto", "")).wantOK()
		if w.books.Open()["key"] != 1 || !strings.Contains(w.log.String(), "scripted") {
			t.Errorf("%v open holds, log %s", w.books.Open(), w.log)
		}
		if n, err := w.books.Expire(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
			t.Errorf("%d holds expired, %v", n, err)
		}
	})
}
