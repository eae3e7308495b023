package serving_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// places is how many requests the gateway of these tests answers at once. Its vendor takes a second for each while it has
// no more than that, and longer the more it has beyond: what is let in beyond capacity delays everybody.
const places = 64

// crowded is such a gateway, with keys of organizations a and b.
func crowded(t testing.TB, bound int) *world {
	var mu sync.Mutex
	running := 0
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		running += n
	}
	begun := func(context.Context, catalog.ArmID) func() {
		count(1)
		return func() { count(-1) }
	}
	p := &paced{begun: begun, wait: func(catalog.ArmID) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Second * time.Duration(max(running, places)) / places
	}}
	usd := 1000.0
	s := setup{
		options: serving.Options{MetricsOpen: true, Capacity: must(quota.NewCapacity(quota.CapacityOptions{Requests: bound, BodyBytes: 1 << 30}))(t)},
		auth: governance.Options{Keys: []governance.KeyConfig{
			{Key: keyA, Org: "a", RequestsPerMinute: 600, Budget: governance.BudgetConfig{MonthUSD: &usd}}, {Key: keyB, Org: "b"}, {Key: keyMate, Org: "c"},
		}},
		providers: map[string]upstream.Provider{},
		journal:   journal.Options{SyncEvery: 10 * time.Second}, // virtual time waits for the disk
	}
	for _, a := range threeArms() {
		s.providers[a.ID.Provider()] = p
	}
	return newWorld(t, s)
}

// sent is one request of a load and what became of it.
type sent struct {
	at, took time.Duration
	answer   *answer
}

// load sends requests of a key at a rate a second for so long, at times drawn from the seed, and gives up on each after ten
// seconds, as clients do.
func (w *world) load(key string, rate float64, length time.Duration, seed uint64) (all []*sent) {
	rng, begun := rand.New(rand.NewPCG(seed, 1)), time.Now()
	var running sync.WaitGroup
	for next := time.Duration(0); ; {
		next += time.Duration(rng.ExpFloat64() / rate * float64(time.Second))
		if next > length {
			break
		}
		time.Sleep(next - time.Since(begun))
		s := &sent{at: next}
		all = append(all, s)
		body := ask("one/cheap", fmt.Sprintf(`,"max_tokens":%d`, 10+rng.IntN(90)))
		running.Go(func() {
			ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
			defer cancel()
			start := time.Now()
			s.answer = w.doReader(ctx, "POST", "/v1/chat/completions", strings.NewReader(body), bearer(key)...)
			s.took = time.Since(start)
		})
	}
	running.Wait()
	return all
}

// phase is a part of a load: answers a second, the 99th percentile of their time, and the share that was refused.
type phase struct {
	goodput float64
	p99     time.Duration
	refused float64
}

func (w *world) phase(all []*sent, from, to time.Duration) (p phase) {
	w.Helper()
	var took []time.Duration
	refused, n := 0, 0
	for _, s := range all {
		if s.at < from || s.at >= to {
			continue
		}
		switch n++; {
		case s.answer.status == http.StatusOK:
			took = append(took, s.took)
		case s.answer.status == http.StatusServiceUnavailable:
			refused++
			if s.answer.wantError(503, openai.Overloaded); s.took > 10*time.Millisecond || s.answer.header.Get("Retry-After") != "1" || s.answer.get("error.tradewind.reason") != "overloaded_requests" {
				w.Fatalf("refused after %v with %v %s", s.took, s.answer.header, s.answer.body)
			}
		}
	}
	slices.Sort(took)
	if len(took) > 0 {
		p.p99 = took[len(took)*99/100]
	}
	return phase{float64(len(took)) / (to - from).Seconds(), p.p99, float64(refused) / float64(n)}
}

// TestOverload is P8 in virtual time: load beyond capacity, and then no more than before. minutes is its length.
func TestOverload(t *testing.T) {
	length := max(time.Duration(10*60*testScale())*time.Second, 20*time.Second)
	for _, times := range []float64{2, 5, 10} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := crowded(t, places)
				usual := w.phase(w.load(keyB, places/2, length, 1), 0, length)
				busy := w.phase(w.load(keyB, places, length, 2), time.Second, length)
				over := w.phase(w.load(keyB, times*places, length, 3), time.Second, length)
				after := w.phase(w.load(keyB, places/2, length, 4), min(10*time.Second, length/2), length)
				t.Logf("usual %+v, busy %+v, %v times %+v, after %+v", usual, busy, times, over, after)
				const seldom = 1e-3 // chance brings twice the usual number together now and then
				if usual.refused > seldom || usual.p99 > 1100*time.Millisecond {
					t.Errorf("at half of capacity: %+v", usual)
				}
				if peak := max(busy.goodput, over.goodput); busy.goodput < .9*peak || over.goodput < .9*peak || peak < .85*places {
					t.Errorf("%.1f answers a second at %v times the capacity, %.1f at capacity of %d", over.goodput, times, busy.goodput, places)
				}
				if over.p99 > 2*usual.p99 {
					t.Errorf("p99 of those that were let in %v, %v at half of capacity", over.p99, usual.p99)
				}
				if after.refused > seldom || after.p99 > usual.p99+usual.p99/10 {
					t.Errorf("ten seconds after: %+v, before %+v", after, usual)
				}
			})
		})
	}
}

// TestOverloadSparesOperations: while the gateway is full, those who watch it are answered, and a client of another dialect
// is told in its own words.
func TestOverloadSparesOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := crowded(t, 1)
		var running sync.WaitGroup
		running.Go(func() { w.chat(ask("one/cheap", ""), bearer(keyB)...).wantOK() })
		synctest.Wait()
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/health/liveliness", "/health/readiness"} {
			w.do("GET", path, "").wantOK()
		}
		w.do("GET", "/v1/models", "", bearer(keyB)...).wantOK()
		w.chat(ask("one/cheap", ""), bearer(keyB)...).wantError(503, openai.Overloaded)
		w.do("POST", "/v1/route", ask("one/cheap", ""), bearer(keyB)...).wantError(503, openai.Overloaded)
		messages := `{"model":"one/cheap","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}`
		for _, path := range []string{"/v1/messages", "/v1/messages/count_tokens"} {
			if a := w.do("POST", path, messages, bearer(keyB)...); a.status != 529 || a.get("error.type") != "overloaded_error" || a.header.Get("Retry-After") != "1" {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
		w.chat(ask("one/cheap", "")).wantError(401, openai.InvalidAPIKey)
		if said := w.log.String(); !strings.Contains(said, "limit=capacity.requests used=1 of=1") {
			t.Errorf("the log does not say which limit was hit: %s", said)
		}
		running.Wait()
		for range 3 { // each gives its place back
			w.chat(ask("one/cheap", ""), bearer(keyB)...).wantOK()
			w.chat("{", bearer(keyB)...).wantError(400, openai.InvalidRequest)
			w.do("POST", "/v1/route", ask("one/cheap", ""), bearer(keyB)...).wantOK()
			w.do("POST", "/v1/messages/count_tokens", messages, bearer(keyB)...).wantOK()
		}
	})
}

// TestBodiesAreBounded: bodies that together are larger than what is set aside for them are refused, told of or not, and
// what they took is free again.
func TestBodiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		capacity := must(quota.NewCapacity(quota.CapacityOptions{BodyBytes: 8 << 20}))(t)
		p := &paced{wait: func(catalog.ArmID) time.Duration { return time.Second }}
		w := newWorld(t, setup{options: serving.Options{Capacity: capacity}, providers: map[string]upstream.Provider{"one": p, "two": p, "three": p}})
		large := ask("one/cheap", `,"x":"`+strings.Repeat("x", 1<<20)+`"`)
		for _, told := range []bool{true, false} {
			served, refused := 0, 0
			var mu sync.Mutex
			var all sync.WaitGroup
			for range 40 {
				all.Go(func() {
					var a *answer
					if told {
						a = w.chat(large)
					} else {
						a = w.doReader(t.Context(), "POST", "/v1/chat/completions", struct{ *bytes.Buffer }{bytes.NewBufferString(large)})
					}
					mu.Lock()
					defer mu.Unlock()
					if _, used := capacity.Open(); used > 8<<20 {
						t.Errorf("bodies of %d bytes are in flight", used)
					}
					if a.status == 200 {
						served++
					} else if a.wantError(503, openai.Overloaded); a.get("error.tradewind.reason") == "overloaded_bodies" {
						refused++
					}
				})
			}
			all.Wait()
			if served < 4 || served > 8 || served+refused != 40 {
				t.Errorf("told %v: %d served and %d refused of 40 with room for 8", told, served, refused)
			}
			if said := w.log.String(); !strings.Contains(said, "limit=capacity.body_mib") || !strings.Contains(said, "of=8") {
				t.Errorf("the log does not say which limit was hit: %s", said)
			}
			if n, bytes := capacity.Open(); n != 0 || bytes != 0 {
				t.Errorf("%d requests and %d bytes in use at rest", n, bytes)
			}
		}
	})
}

// TestRoomIsSharedByOrganizations: an organization has no more room for having more keys.
func TestRoomIsSharedByOrganizations(t *testing.T) {
	capacity := must(quota.NewCapacity(quota.CapacityOptions{Requests: 10}))(t)
	w := newWorld(t, setup{options: serving.Options{Capacity: capacity}, auth: governance.Options{Keys: []governance.KeyConfig{
		{Key: keyA, Org: "acme"}, {Key: keyMate, Org: "acme"}, {Key: keyB},
	}}})
	for range 9 {
		place := must(capacity.Enter("acme", 0))(t)
		defer place.Leave()
	}
	for _, key := range []string{keyA, keyMate} {
		w.chat(ask("auto", ""), bearer(key)...).wantError(503, openai.Overloaded)
	}
	w.chat(ask("auto", ""), bearer(keyB)...).wantOK()
}

// TestTenantsDoNotInterfere is P18: what a sends has the same answers, limits and times whether or not b sends a hundred
// times as much, also what is wrong, beyond its rate, or given up.
func TestTenantsDoNotInterfere(t *testing.T) {
	length := max(time.Duration(60*60*testScale())*time.Second, 30*time.Second)
	trace := func(t *testing.T, beside bool) (seen []string) {
		synctest.Test(t, func(t *testing.T) {
			w := crowded(t, places)
			var others sync.WaitGroup
			if beside {
				others.Go(func() { w.load(keyB, 200, length, 5) })
				others.Go(func() {
					for range int(length / (100 * time.Millisecond)) {
						w.chat(ask("nothing/here", ""), bearer(keyMate)...).wantError(404, openai.ModelNotFound)
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
			for _, s := range w.load(keyA, 2, length, 6) {
				h := s.answer.header
				seen = append(seen, fmt.Sprint(s.at, s.took.Round(time.Millisecond), s.answer.status, h["X-Ratelimit-Remaining-Requests"], h["X-Ratelimit-Reset-Requests"], h["X-Tradewind-Budget-Remaining-Usd"], h["X-Tradewind-Model"], h["X-Tradewind-Cost-Usd"], s.answer.body))
			}
			others.Wait()
			synctest.Wait()
			if beside && w.count(datasets.Completed) < 1000 {
				t.Errorf("only %d requests were answered: b did not send much", w.count(datasets.Completed))
			}
		})
		return seen
	}
	alone, beside := trace(t, false), trace(t, true)
	if len(alone) < 40 || !reflect.DeepEqual(alone, beside) {
		for i := range min(len(alone), len(beside)) {
			if alone[i] != beside[i] {
				t.Fatalf("request %d of %d: alone\n%s\nbeside another\n%s", i, len(alone), alone[i], beside[i])
			}
		}
		t.Fatalf("%d requests alone, %d beside another", len(alone), len(beside))
	}
}

// count counts the rounds that ended in a status.
func (w *world) count(s datasets.Status) (n int) {
	for _, r := range w.rounds() {
		if r.Outcome.Status == s {
			n++
		}
	}
	return n
}
