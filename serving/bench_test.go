package serving_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/aside"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/rules"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// sink is a client that reads nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Flush()                      {}

// instant answers every call with the same events.
type instant struct{}

func (instant) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	s := &script{ctx: ctx, stream: r.Stream, events: wholeEvents}
	if r.Stream {
		s.events = streamEvents
	}
	return s, nil
}

var (
	wholeEvents  = []string{whole("391", `{"prompt_tokens":7,"completion_tokens":3}`)}
	streamEvents = []string{delta("3"), delta("9"), delta("1"), finish, usageChunk, "[DONE]"}
)

// tenArms is a gateway with ten arms of ten providers that answer at once, and a request of 0.7 kB.
func tenArms(b *testing.B, more string) (*world, string) {
	return tenArmsWith(b, more, serving.Options{})
}

func tenArmsWith(b *testing.B, more string, o serving.Options) (*world, string) {
	prompt := strings.Repeat("Explain how a sail drives a boat against the wind, and why. ", 11)
	arms := peers(10)
	providers := map[string]upstream.Provider{}
	for i := range arms {
		arms[i].ID = catalog.ArmID(string(rune('a'+i)) + "/model")
		providers[arms[i].ID.Provider()] = instant{}
	}
	o.Epsilon = 0.05
	w := newWorld(b, setup{arms: arms, providers: providers, options: o, unaudited: true})
	return w, `{"model":"auto","messages":[{"role":"user","content":"` + prompt + `"}]` + more + `}`
}

// send is one request from the handler down and back.
func (w *world) send(body string) {
	w.handler.ServeHTTP(&sink{http.Header{}}, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(body)))
}

// BenchmarkChat is one request from the handler down and back: ten arms of ten providers, a prompt of 0.7 kB, the
// journal on disk, a vendor that answers at once.
func BenchmarkChat(b *testing.B) {
	for name, more := range map[string]string{"whole": "", "stream": `,"stream":true`} {
		b.Run(name, func(b *testing.B) {
			w, body := tenArms(b, more)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				w.send(body)
			}
		})
	}
}

// BenchmarkChatCold is the same with nothing of it in the processor's caches, as after a pause in which others have used them.
// The time is wall_ns/op; that of ns/op includes what empties the caches.
func BenchmarkChatCold(b *testing.B) {
	w, body := tenArms(b, "")
	others := make([]byte, 96<<20)
	var wall time.Duration
	for b.Loop() {
		for i := 0; i < len(others); i += 64 {
			others[i]++
		}
		begun := time.Now()
		w.send(body)
		wall += time.Since(begun)
	}
	b.ReportMetric(float64(wall.Nanoseconds())/float64(b.N), "wall_ns/op")
}

// BenchmarkDecision is what a decision takes: features, estimates, rules, the session, and the policy, as the metric has it.
// "plain" has neither rules nor a session to follow; "operated" has fifty rules, three levels of policies, and a
// conversation that goes on.
func BenchmarkDecision(b *testing.B) {
	for _, n := range []int{10, 200} {
		for _, operated := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/%s", n, map[bool]string{false: "plain", true: "operated"}[operated]), func(b *testing.B) {
				w, body := manyArms(b, n, operated)
				w.send(body)
				before, rounds := w.decisions()
				for b.Loop() {
					w.send(body)
				}
				after, done := w.decisions()
				b.ReportMetric((after-before)*1e6/(done-rounds), "us-to-decide/op")
			})
		}
	}
}

// decisions are the seconds that decisions have taken in all, and their number.
func (w *world) decisions() (seconds, count float64) {
	rec := httptest.NewRecorder()
	w.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(rec.Body.String()) {
		for name, to := range map[string]*float64{"tradewind_decision_duration_seconds_sum ": &seconds, "tradewind_decision_duration_seconds_count ": &count} {
			if value, ok := strings.CutPrefix(line, name); ok {
				*to = must(strconv.ParseFloat(strings.TrimSpace(value), 64))(w)
			}
		}
	}
	return seconds, count
}

// manyArms is a gateway with n equal arms and a request to it.
func manyArms(b *testing.B, n int, operated bool) (*world, string) {
	s := setup{arms: peers(n), providers: map[string]upstream.Provider{"peer": instant{}}, unaudited: true}
	for i := range s.arms {
		s.arms[i].ID = catalog.ArmID(fmt.Sprintf("peer/%03d", i))
	}
	s.options.Settings = serving.Settings{Epsilon: .05}
	body := strings.Repeat("Explain how a sail drives a boat against the wind, and why. ", 11)
	if !operated {
		return newWorld(b, s), turns("", body)
	}
	o := &s.options.Settings
	o.Policies = map[string]rules.PolicyConfig{"all": {Deny: []string{"other/*"}}, "team": {Allow: []string{"peer/*", "lab/*"}}, "last": {Epsilon: new(.1)}}
	o.DefaultPolicy = "all"
	for i := range 50 {
		o.Rules = append(o.Rules, rules.Config{Tags: map[string]string{"task": fmt.Sprint(i)}, Headers: map[string]string{"Content-Type": "*"}, Policy: "last"})
	}
	o.Rules = append(o.Rules, rules.Config{Policy: "team"})
	return newWorld(b, s), turns(`,"tradewind":{"session_id":"s","tags":{"task":"49"}}`, body)
}

// BenchmarkBooks is what journal and ledger cost a request, with 64 at a time: hold, decision, settlement, outcome.
func BenchmarkBooks(b *testing.B) {
	const callers = 64
	w, body := tenArms(b, "")
	w.send(body)
	one := w.rounds()[0]
	ctx, chain := context.Background(), []ledger.AccountID{}
	for _, scope := range []string{"key", "team", "org"} {
		id := ledger.Account(scope, "bench", ledger.Month)
		if chain = append(chain, id); w.books.SetLimit(ctx, id, ledger.Limit{Set: true, Amount: 1 << 60, Window: ledger.Month}) != nil {
			b.Fatal("no account")
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			d, o := one.Decision, one.Outcome
			for i := c; i < b.N; i += callers {
				d.RoundID = datasets.RoundID(fmt.Sprintf("rnd_%026d", i))
				o.RoundID = d.RoundID
				id := ledger.HoldID(d.RoundID)
				err := errors.Join(
					w.books.Hold(ctx, id, chain, d.Hold, time.Now().Add(time.Minute)), w.journal.AppendDecision(ctx, &d),
					w.books.Settle(ctx, id, o.Cost), w.journal.AppendOutcome(ctx, &o))
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSealing compares the waits of requests while segments are sealed with those while none are, in turns and in one
// run: 800 requests a second on a clock of their own, so that a request that comes late counts as late. Garbage
// collection is set as serve sets it. "aside" is what serve does, "inside" what it would cost without a child.
func BenchmarkSealing(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	child := &aside.Parent{Path: self, Args: []string{self, asideArg}}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	b.Run("aside", func(b *testing.B) { sealing(b, child.Seal) })
	b.Run("inside", func(b *testing.B) { sealing(b, nil) })
}

func sealing(b *testing.B, prepare func(context.Context, serving.SealJob) (serving.Prepared, error)) {
	w, body := tenArms(b, "")
	log := must(datasets.OpenLog(filepath.Join(b.TempDir(), "log"), datasets.LogOptions{}))(b)
	books := must(ledger.OpenCheckpoint(nil, filepath.Join(b.TempDir(), "ledger.json")))(b)
	sealer := &serving.Sealer{Journal: w.journal, Log: log, Books: books, Logger: slog.New(slog.DiscardHandler), Prepare: prepare}
	fill := func() { // what a busy minute leaves to seal
		for range 2000 {
			w.send(body)
		}
		time.Sleep(300 * time.Millisecond) // what that left to the disk is no part of either
	}
	var without, during []time.Duration
	var took time.Duration
	for b.Loop() {
		fill()
		without = append(without, w.waits(body, time.Second, func() {})...)
		during = append(during, w.waits(body, 0, func() {
			begin := time.Now()
			if err := sealer.Seal(context.Background()); err != nil {
				b.Error(err)
			}
			took += time.Since(begin)
		})...)
	}
	for name, waits := range map[string][]time.Duration{"without": without, "during": during} {
		slices.Sort(waits)
		b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "p50-us-"+name)
		b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "p99-us-"+name)
	}
	b.ReportMetric(float64(during[len(during)*99/100])/float64(without[len(without)*99/100]), "p99-ratio")
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms-to-seal")
	b.ReportMetric(float64(len(during)), "requests-during")
}

// waits sends requests while work is done, for at least the time given, and says how long each took from when it was due.
func (w *world) waits(body string, atLeast time.Duration, work func()) (all []time.Duration) {
	const callers, every = 8, 10 * time.Millisecond
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := make(chan struct{})
	for c := range callers {
		wg.Go(func() {
			due := time.Now().Add(time.Duration(c) * every / callers)
			for ; ; due = due.Add(every) {
				select {
				case <-done:
					return
				case <-time.After(time.Until(due)):
				}
				w.send(body)
				took := time.Since(due)
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
			}
		})
	}
	begin := time.Now()
	work()
	time.Sleep(atLeast - time.Since(begin))
	close(done)
	wg.Wait()
	return all
}
