package serving_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/idempotency"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// keyedWorld is a gateway that remembers idempotency keys.
func keyedWorld(t testing.TB, s setup, o idempotency.Options) *world {
	t.Helper()
	dir := t.TempDir()
	store := must(idempotency.Open(dir, o))(t)
	s.options.Idempotency = store
	w := newWorld(t, s)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files { // a file of answers is no place to look for what clients use as keys
			if text, _ := os.ReadFile(f); strings.Contains(string(text), "secret-key") {
				t.Errorf("%s holds a client's key", f)
			}
		}
	})
	return w
}

// keyed is a request under a key.
func (w *world) keyed(path, body, key string, header ...string) *answer {
	w.Helper()
	return w.do("POST", path, body, append(header, "Idempotency-Key", key)...)
}

// wantReplay checks that b is what a was, told again.
func (a *answer) wantReplay(b *answer) {
	a.Helper()
	if b.status != a.status || b.body != a.body || b.header.Get("X-Tradewind-Idempotent-Replay") != "true" || a.header.Get("X-Tradewind-Idempotent-Replay") != "" {
		a.Errorf("first %d %.200s, again %d %.200s with %v", a.status, a.body, b.status, b.body, b.header)
	}
	for _, name := range []string{"Content-Type", "Cache-Control", "X-Tradewind-Decision-Id", "X-Tradewind-Model", "X-Tradewind-Provider", "X-Tradewind-Cost-Usd", "X-Tradewind-Attempts", "X-Tradewind-Reason"} {
		if got, want := b.header.Get(name), a.header.Get(name); got != want {
			a.Errorf("%s: first %q, again %q", name, want, got)
		}
	}
}

func TestKeyOnEverySurface(t *testing.T) {
	for path, body := range map[string]string{
		"/v1/chat/completions": ask("auto", "%s"), "/v1/responses": asked("auto", "%s"), "/v1/messages": message("auto", "%s"),
	} {
		for _, stream := range []string{"", `,"stream":true`} {
			t.Run(path+stream, func(t *testing.T) {
				w := keyedWorld(t, setup{}, idempotency.Options{})
				body := fmt.Sprintf(body, stream)
				first := w.keyed(path, body, "secret-key", "X-Request-Id", "mine").wantOK()
				again := w.keyed(path, body, "secret-key", "X-Request-Id", "other").wantOK()
				first.wantReplay(again)
				if again.header.Get("X-Request-Id") != "other" || len(w.vendor.called()) != 1 || len(w.rounds()) != 1 {
					t.Errorf("headers %v, %d calls", again.header, len(w.vendor.called()))
				}
				if w.keyed(path, body, "secret-key-2").wantOK(); len(w.vendor.called()) != 2 {
					t.Error("another key is another request")
				}
			})
		}
	}
}

func TestKeyConflicts(t *testing.T) {
	w := keyedWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA}, {Key: keyB}}}}, idempotency.Options{AnswerMax: 400})
	const path = "/v1/chat/completions"
	for _, key := range []string{"", "a b", "\x01", "é", strings.Repeat("k", 256)} {
		if a := w.keyed(path, ask("auto", ""), key, bearer(keyA)...); a.get("error.param") != "Idempotency-Key" {
			a.wantError(400, openai.InvalidRequest)
		}
	}
	twice := httptest.NewRequest("POST", path, strings.NewReader(ask("auto", "")))
	twice.Header = http.Header{"Idempotency-Key": {"a", "b"}, "Authorization": {"Bearer " + keyA}}
	rec := httptest.NewRecorder()
	if w.handler.ServeHTTP(rec, twice); rec.Code != 400 {
		t.Errorf("two keys: %d", rec.Code)
	}
	long := strings.Repeat("k", 255)
	first := w.keyed(path, ask("auto", ""), long, bearer(keyA)...).wantOK()
	for _, a := range []*answer{
		w.keyed(path, ask("auto", " "), long, bearer(keyA)...), w.keyed("/v1/responses", asked("auto", ""), long, bearer(keyA)...),
	} {
		a.wantError(409, openai.IdempotencyMismatch)
		if a.header.Get("X-Should-Retry") != "false" || strings.Contains(a.body, string(first.round())) {
			t.Errorf("headers %v, body %s", a.header, a.body)
		}
	}
	if a := w.keyed(path, ask("auto", ""), long, bearer(keyB)...).wantOK(); a.header.Get("X-Tradewind-Idempotent-Replay") != "" || a.round() == first.round() {
		t.Error("the same key of another API key is another request")
	}
	large := w.keyed(path, ask("auto", `,"stream":true`), "large", bearer(keyA)...).wantOK()
	a := w.keyed(path, ask("auto", `,"stream":true`), "large", bearer(keyA)...)
	a.wantError(409, openai.AnswerNotKept)
	if len(large.body) <= 400 || a.get("error.tradewind.reason") != "answer_too_large" || a.get("error.tradewind.first_decision_id") != string(large.round()) || a.header.Get("X-Should-Retry") != "false" {
		t.Errorf("after %d bytes: headers %v, body %s", len(large.body), a.header, a.body)
	}
}

// What costs nothing is not kept: the retry runs.
func TestKeyOfRefusals(t *testing.T) {
	usd := 0.01
	w := keyedWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{
		{Key: keyA, RequestsPerMinute: 1}, {Key: keyB, Budget: governance.BudgetConfig{TotalUSD: &usd}}, {Key: keyMate},
	}}}, idempotency.Options{})
	const path = "/v1/chat/completions"
	w.keyed(path, ask("auto", ""), "1", bearer(keyA)...).wantOK()
	for range 2 {
		w.keyed(path, ask("auto", ""), "2", bearer(keyA)...).wantError(429, openai.RateLimitExceeded)
		w.keyed(path, ask("auto", `,"max_tokens":1000,"n":100`), "3", bearer(keyB)...).wantError(429, openai.InsufficientQuota)
		w.keyed(path, ask("nobody/has-it", ""), "4", bearer(keyB)...).wantError(404, openai.ModelNotFound)
	}
	w.keyed(path, ask("auto", ""), "1", bearer(keyA)...).wantOK() // a replay takes no place under the rate
	w.keyed(path, ask("auto", ""), "4", bearer(keyB)...).wantOK() // another body: the key was never taken
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.Connect, 0) })
	w.keyed(path, ask("auto", ""), "5", bearer(keyMate)...).wantError(502, openai.UpstreamFailed)
	w.vendor.play(nil)
	if a := w.keyed(path, ask("auto", ""), "5", bearer(keyMate)...).wantOK(); a.header.Get("X-Tradewind-Idempotent-Replay") != "" {
		t.Error("a failure that cost nothing was given again")
	}
}

// A failure that was charged is kept as it is, and says that a retry is of no use.
func TestKeyOfChargedFailures(t *testing.T) {
	for name, c := range map[string]struct {
		script script
		more   string
		status int
	}{
		"a whole answer that breaks off": {script{err: fails(upstream.Cut, 0)}, "", 502},
		"a stream that breaks off":       {script{events: []string{delta("a"), delta("b")}, err: fails(upstream.Cut, 0)}, `,"stream":true`, 200},
		"a panic":                        {script{panicAt: 1}, "", 500},
		"a panic in a stream":            {script{panicAt: 2, events: []string{delta("a"), delta("b")}}, `,"stream":true`, 200},
	} {
		t.Run(name, func(t *testing.T) {
			w := keyedWorld(t, setup{panics: true}, idempotency.Options{})
			w.vendor.play(func(int, *upstream.Request) (*script, error) {
				s := c.script
				return &s, nil
			})
			body := ask("one/cheap", c.more+`,"tradewind":{"fallback":false}`)
			first := w.keyed("/v1/chat/completions", body, "k")
			if first.status != c.status {
				t.Fatalf("%d %s, want %d", first.status, first.body, c.status)
			}
			_, o := w.outcome(first)
			again := w.keyed("/v1/chat/completions", body, "k")
			if o.Cost == 0 {
				t.Fatalf("the failure cost nothing: %+v", o)
			}
			first.wantReplay(again)
			if got := again.header.Get("X-Should-Retry"); (got == "false") != (c.status >= 400) || len(w.vendor.called()) != 1 {
				t.Errorf("x-should-retry %q, %d calls", got, len(w.vendor.called()))
			}
		})
	}
}

// TestKeyOfAPanicAtTheEnd: where even the end of a request panics, a retry is not told to wait for it.
func TestKeyOfAPanicAtTheEnd(t *testing.T) {
	w := keyedWorld(t, setup{unaudited: true, panics: true, ledger: &brokenLedger{settle: func() { panic("scripted") }}}, idempotency.Options{})
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return &script{err: fails(upstream.Cut, 0)}, nil })
	body := ask("one/cheap", `,"tradewind":{"fallback":false}`)
	if a := w.keyed("/v1/chat/completions", body, "k"); a.status != 500 {
		t.Fatalf("%d %s, want the panic", a.status, a.body)
	}
	w.keyed("/v1/chat/completions", body, "k").wantError(409, openai.AnswerNotKept)
}

// slow makes the vendor wait, before a whole answer or the second event of a stream, until it is let go or cancelled.
func (w *world) slow() (begun chan struct{}, letGo func()) {
	begun, gate := make(chan struct{}, 100), make(chan struct{})
	w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
		s, at := &script{events: []string{whole("391", `{"prompt_tokens":7,"completion_tokens":3}`)}}, 1
		if r.Stream {
			at, s.events = 2, []string{delta("3"), delta("9"), delta("1"), finish, usageChunk, "[DONE]"}
		}
		s.before = func(i int) {
			if i != at {
				return
			}
			begun <- struct{}{}
			select {
			case <-gate:
			case <-s.ctx.Done():
				s.events, s.err = nil, s.ctx.Err()
			}
		}
		return s, nil
	})
	return begun, sync.OnceFunc(func() { close(gate) })
}

// The vendor's call outlives a client that goes, and the retry finds the answer: one call, one settlement.
func TestKeyOutlivesItsClient(t *testing.T) {
	for _, more := range []string{"", `,"stream":true`} {
		synctest.Test(t, func(t *testing.T) {
			w := keyedWorld(t, setup{}, idempotency.Options{})
			begun, letGo := w.slow()
			const path = "/v1/chat/completions"
			ctx, leave := context.WithCancel(t.Context())
			var first sync.WaitGroup
			first.Go(func() { w.doReader(ctx, "POST", path, strings.NewReader(ask("auto", more)), "Idempotency-Key", "k") })
			<-begun
			a := w.keyed(path, ask("auto", more), "k")
			a.wantError(409, openai.InProgress)
			if a.header.Get("X-Should-Retry") != "true" || a.header.Get("Retry-After") != "1" {
				t.Errorf("headers %v", a.header)
			}
			leave()
			synctest.Wait()
			w.keyed(path, ask("auto", more), "k").wantError(409, openai.InProgress)
			letGo()
			first.Wait()
			b := w.keyed(path, ask("auto", more), "k").wantOK()
			if b.header.Get("X-Tradewind-Idempotent-Replay") != "true" || !strings.Contains(b.body, "391") && b.text() != "391" {
				t.Errorf("headers %v, body %s", b.header, b.body)
			}
			if rounds := w.rounds(); len(rounds) != 1 || rounds[0].Outcome.Status != datasets.Completed || len(w.vendor.called()) != 1 {
				t.Errorf("%d calls, rounds %+v", len(w.vendor.called()), rounds)
			}
		})
	}
}

// aloneMax is the gateway's own.
const aloneMax = 64

// Only so many requests go on without their clients. One more ends with its client, and its key says so.
func TestKeysAloneMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keyedWorld(t, setup{}, idempotency.Options{})
		begun, letGo := w.slow()
		const path = "/v1/chat/completions"
		ctx, leave := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for i := range aloneMax + 1 {
			clients.Go(func() {
				w.doReader(ctx, "POST", path, strings.NewReader(ask("auto", "")), "Idempotency-Key", fmt.Sprint(i))
			})
			<-begun
		}
		leave()
		synctest.Wait()
		letGo()
		clients.Wait()
		answered, cut := 0, 0
		for i := range aloneMax + 1 {
			switch a := w.keyed(path, ask("auto", ""), fmt.Sprint(i)); {
			case a.status == 200:
				answered++
			case a.get("error.tradewind.reason") == "answer_interrupted":
				cut++
			}
		}
		if answered != aloneMax || cut != 1 || len(w.vendor.called()) != aloneMax+1 {
			t.Errorf("%d answered, %d cut, %d calls; want %d, 1, %d", answered, cut, len(w.vendor.called()), aloneMax, aloneMax+1)
		}
		begun, letGo = w.slow() // all places are free again
		ctx, leave = context.WithCancel(t.Context())
		clients.Go(func() { w.doReader(ctx, "POST", path, strings.NewReader(ask("auto", "")), "Idempotency-Key", "again") })
		<-begun
		leave()
		synctest.Wait()
		letGo()
		clients.Wait()
		w.keyed(path, ask("auto", ""), "again").wantOK()
	})
}

// The request's own deadline holds without its client too, and so does the end of a drain.
func TestKeyAloneEnds(t *testing.T) {
	for name, end := range map[string]func(*world){
		"deadline": func(*world) { time.Sleep(5 * time.Second) }, "drain": func(w *world) { w.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := keyedWorld(t, setup{unaudited: true}, idempotency.Options{})
				begun, letGo := w.slow()
				defer letGo()
				ctx, leave := context.WithCancel(t.Context())
				var client sync.WaitGroup
				body := ask("one/cheap", `,"tradewind":{"fallback":false}`)
				client.Go(func() {
					w.doReader(ctx, "POST", "/v1/chat/completions", strings.NewReader(body), "Idempotency-Key", "k", "X-Tradewind-Timeout-Ms", "4000")
				})
				<-begun
				leave()
				synctest.Wait()
				end(w)
				client.Wait()
				a := w.keyed("/v1/chat/completions", body, "k")
				switch name {
				case "deadline":
					if a.status != 504 || a.get("error.code") != string(openai.Timeout) || a.header.Get("X-Tradewind-Idempotent-Replay") != "true" {
						t.Errorf("%d %s, want the first request's timeout", a.status, a.body)
					}
				default:
					a.wantError(409, openai.AnswerNotKept)
				}
				if len(w.vendor.called()) != 1 {
					t.Errorf("%d calls", len(w.vendor.called()))
				}
			})
		})
	}
}

// A key that cannot be written down refuses the request before anybody is asked.
func TestKeyUnwritten(t *testing.T) {
	store := must(idempotency.Open(t.TempDir(), idempotency.Options{}))(t)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, setup{options: serving.Options{Idempotency: store}})
	w.keyed("/v1/chat/completions", ask("auto", ""), "k").wantError(503, openai.StoreUnavailable)
	if n := len(w.vendor.called()); n != 0 {
		t.Errorf("%d calls", n)
	}
	w.chat(ask("auto", "")).wantOK()
}

// BenchmarkKey is a request without the header where no keys are remembered and where they are, which must not differ, one
// with a new key each time, and a replay.
func BenchmarkKey(b *testing.B) {
	for _, c := range []struct {
		name string
		keep bool
		key  func(i int) string
	}{
		{"off", false, nil}, {"no-header", true, nil},
		{"new-key", true, func(i int) string { return fmt.Sprint(i) }}, {"replay", true, func(int) string { return "k" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var keys *idempotency.Store
			if c.keep {
				keys = must(idempotency.Open(b.TempDir(), idempotency.Options{}))(b)
				b.Cleanup(func() { _ = keys.Close() })
			}
			w, body := tenArmsWith(b, "", serving.Options{Idempotency: keys})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				req := httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(body))
				if c.key != nil {
					req.Header.Set("Idempotency-Key", c.key(i))
				}
				w.handler.ServeHTTP(&sink{http.Header{}}, req)
			}
		})
	}
}
