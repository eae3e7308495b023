package serving_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/gate"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/idempotency"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// readOn are options under which the first arm's provider is read on without its clients.
func readOn() serving.Options {
	return serving.Options{Settings: serving.Settings{ReadOn: map[string]bool{"one": true}}}
}

// patient is a pool that waits for a silent vendor for longer than anything here lasts.
var patient = upstream.Options{FirstTokenTimeout: 9 * time.Minute, ChunkTimeout: 9 * time.Minute}

// meteredVendor bills every call that it takes to the end, whoever listens.
type meteredVendor struct {
	random *rand.Rand
	// last is the bill of the last call.
	last catalog.Nanodollars
}

// answer says some pieces in the request's dialect, 10 ms apart, and then what they cost at the prices of one/cheap.
func (m *meteredVendor) answer(_ int, r *upstream.Request) (*script, error) {
	pieces, in, out := 1+m.random.IntN(40), 1+m.random.IntN(2000), 1+m.random.IntN(900)
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d}}`, in, out)
	m.last = catalog.Nanodollars(1000*in + 2000*out)
	s, chat := &script{}, r.Dialect == openai.Chat
	for i := range pieces {
		if piece := fmt.Sprintf(" piece %d", i); chat {
			s.events = append(s.events, delta(piece))
		} else {
			s.events = append(s.events, text(piece))
		}
	}
	switch {
	case r.Stream && chat:
		s.events = append(s.events, finish, `{"id":"c","object":"chat.completion.chunk","created":5,"model":"x","choices":[],`+usage, "[DONE]")
	case r.Stream:
		s.events = append(s.events, textFinish, `{"id":"c","object":"text_completion","created":5,"model":"x","choices":[],`+usage, "[DONE]")
	case chat:
		s.events = []string{whole("391", strings.TrimSuffix(strings.TrimPrefix(usage, `"usage":`), "}"))}
	default:
		s.events = []string{`{"id":"c","object":"text_completion","created":5,"model":"x","choices":[{"text":"391","index":0,"finish_reason":"stop"}],` + usage}
	}
	pause := 10 * time.Millisecond
	if !r.Stream {
		pause *= time.Duration(pieces)
	}
	s.before = s.pause(pause)
	return s, nil
}

// pause waits before each event, until the call is cancelled.
func (s *script) pause(d time.Duration) func(int) {
	return func(int) {
		select {
		case <-time.After(d):
		case <-s.ctx.Done():
			s.events, s.err = nil, s.ctx.Err()
		}
	}
}

// leaves asks on any surface and leaves after a while.
func (w *world) leaves(after time.Duration, path, body string, header ...string) *answer {
	ctx, leave := context.WithCancel(w.Context())
	defer leave()
	timer := time.AfterFunc(after, leave)
	defer timer.Stop()
	return w.doReader(ctx, "POST", path, strings.NewReader(body), header...)
}

// everywhere are a request for one/cheap on each surface that has text.
var everywhere = [...][2]string{
	{"/v1/chat/completions", `{"model":"one/cheap",` + question}, {"/v1/completions", `{"model":"one/cheap","prompt":"What is 17 times 23?"`},
	{"/v1/messages", `{"model":"one/cheap","max_tokens":900,` + question}, {"/v1/responses", `{"model":"one/cheap","input":"What is 17 times 23?"`},
}

// TestCutsAreReadOn is P9a for vendors that bill to the end: over 1,000 clients that leave anywhere (at TRADEWIND_TEST_SCALE=1),
// what is settled is the vendor's own figure, to the last nanodollar, and the round is censored all the same. The same clients at a
// gateway that cancels such a vendor's calls show that the test can tell.
func TestCutsAreReadOn(t *testing.T) {
	cuts := max(100, int(1000*testScale()))
	for name, o := range map[string]serving.Options{"drained": readOn(), "cancelled": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, setup{options: o})
				random := rand.New(rand.NewPCG(1, 2))
				m := &meteredVendor{random: random}
				w.vendor.play(m.answer)
				var billed, settled catalog.Nanodollars
				left, whole := 0, 0
				for i := 0; left < cuts; i++ {
					at, body := everywhere[i%len(everywhere)], `}`
					if random.IntN(4) > 0 {
						body = `,"stream":true}`
					}
					a := w.leaves(time.Duration(random.IntN(400))*time.Millisecond+time.Microsecond, at[0], at[1]+body)
					_, o := w.outcome(a)
					switch o.Status {
					case datasets.ClientGone:
						left++
						billed, settled = billed+m.last, settled+o.Cost
					case datasets.Completed:
						whole++
					default:
						t.Fatalf("the round ended as %s: %+v", o.Status, o)
					}
					if name == "drained" && (o.Cost != m.last || o.CostStatus != datasets.CostFinal || len(o.Attempts) != 1 || o.Attempts[0].Outcome != "ok") {
						t.Fatalf("%s%s: %s billed, outcome %+v", at[0], body, m.last, o)
					}
				}
				off := math.Abs(float64(settled)/float64(billed) - 1)
				t.Logf("%d clients left and %d stayed: %s billed for those who left, %s settled", left, whole, billed, settled)
				if name == "drained" && off != 0 || name == "cancelled" && off < 0.01 {
					t.Errorf("%s billed and %s settled, %.2f %% off", billed, settled, 100*off)
				}
			})
		})
	}
}

// TestReadOnTellsNobody: what a vendor says after the client has gone is written nowhere, whether the client closed its
// connection or only takes nothing more.
func TestReadOnTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := readOn()
		o.KeepAlive = 15 * time.Second
		w := newWorld(t, setup{options: o})
		m := &meteredVendor{random: rand.New(rand.NewPCG(3, 4))}
		w.vendor.play(func(call int, r *upstream.Request) (*script, error) {
			s, err := m.answer(call, r)
			s.events = append([]string{delta("a"), delta("b"), delta("c"), delta("d")}, s.events...)
			pause, silent := s.pause(10*time.Millisecond), s.pause(40*time.Second)
			s.before = func(i int) {
				if pause(i); i == 4 { // long enough to be kept alive for
					silent(i)
				}
			}
			return s, err
		})
		a := w.leaves(25*time.Millisecond, "/v1/chat/completions", ask("one/cheap", `,"stream":true`))
		if strings.Contains(a.body, `"c"`) || strings.Contains(a.body, ": tradewind") || !strings.Contains(a.body, `"b"`) {
			t.Errorf("a client that left after two pieces was written %s", a.body)
		}
		rec := &failingWriter{httptest.NewRecorder(), 2}
		w.handler.ServeHTTP(rec, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(ask("one/cheap", `,"stream":true`))))
		if rec.left != -1 {
			t.Errorf("a client that took two pieces was written to %d times more", -rec.left)
		}
		for _, r := range w.rounds() {
			if o := r.Outcome; o.Status != datasets.ClientGone || o.Error != "client_gone" || o.CostStatus != datasets.CostFinal || o.Cost == 0 {
				t.Errorf("outcome %+v", o)
			}
		}
	})
}

// Only so many requests go on without their clients, those under a key and those that are read on together. The one beyond is
// cancelled at once.
func TestReadOnMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := keyedWorld(t, setup{options: readOn(), pool: patient}, idempotency.Options{})
		for pass := range 2 { // the second time all places are free again
			begun, letGo := w.slow()
			ctx, leave := context.WithCancel(t.Context())
			var clients sync.WaitGroup
			for i := range aloneMax {
				var header []string
				if i%2 == 0 {
					header = []string{"Idempotency-Key", fmt.Sprintf("%d/%d", pass, i)}
				}
				clients.Go(func() {
					w.doReader(ctx, "POST", "/v1/chat/completions", strings.NewReader(ask("one/cheap", `,"stream":true`)), header...)
				})
				<-begun
			}
			leave()
			synctest.Wait()
			start := time.Now()
			a := w.leaves(time.Second, "/v1/chat/completions", ask("one/cheap", `,"stream":true`))
			<-begun
			if _, o := w.outcome(a); time.Since(start) != time.Second || o.Status != datasets.ClientGone || o.CostStatus != datasets.CostEstimated {
				t.Errorf("one more ended after %v: %+v", time.Since(start), o)
			}
			letGo()
			clients.Wait()
		}
		gone, final := 0, 0
		for _, r := range w.rounds() {
			switch o := r.Outcome; {
			case o.Status == datasets.Completed: // under a key
			case o.CostStatus == datasets.CostFinal:
				final++
			default:
				gone++
			}
		}
		if final != aloneMax || gone != 2 || len(w.vendor.called()) != aloneMax+1 {
			t.Errorf("%d were read on and %d cancelled; want %d and 2", final, gone, aloneMax)
		}
	})
}

// endless says these events and then nothing until it is cancelled, or breaks off after twelve seconds.
func endless(breaks bool, events ...string) *script {
	s := &script{events: events}
	s.before = func(i int) {
		switch {
		case i <= len(events):
			return
		case breaks:
			time.Sleep(12 * time.Second)
			s.err = fails(upstream.Cut, 0)
		default:
			<-s.ctx.Done()
			s.err = context.Cause(s.ctx)
		}
		s.events = nil // also those that a script has which has none
	}
	return s
}

// TestReadOnEnds: a minute after the client has left, at the request's own deadline, at the end of a shutdown, or because
// the vendor breaks off. What came is settled, once, and the vendor hears of it.
func TestReadOnEnds(t *testing.T) {
	const left = 5 * time.Second
	for name, tt := range map[string]struct {
		timeout string
		cut     time.Duration // when the shutdown ends, 0 is never
		breaks  bool
		want    time.Duration
	}{
		"a minute":                     {want: left + time.Minute},
		"deadline":                     {timeout: "20000", want: 20 * time.Second},
		"shutdown":                     {cut: 30 * time.Second, want: 30 * time.Second},
		"broken off":                   {breaks: true, want: 12 * time.Second},
		"shut before":                  {cut: 2 * time.Second, want: 2 * time.Second}, // the client is there and is told
		"shut before, at any provider": {cut: 2 * time.Second, want: 2 * time.Second},
	} {
		for stage, more := range map[string]string{"whole": "", "before the first piece": `,"stream":true`, "mid-stream": `,"stream":true`} {
			t.Run(name+" "+stage, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					options := readOn()
					if name == "shut before, at any provider" {
						options = serving.Options{}
					}
					w := newWorld(t, setup{options: options, pool: patient, unaudited: tt.cut == tt.want && tt.cut < left}) // there unknown is right
					w.vendor.play(func(int, *upstream.Request) (*script, error) {
						if stage == "mid-stream" {
							return endless(tt.breaks, delta("a"), delta("b"), delta("c")), nil
						}
						return endless(tt.breaks), nil
					})
					ctx, end := context.WithCancelCause(t.Context())
					time.AfterFunc(left, func() { end(nil) })
					if tt.cut > 0 {
						time.AfterFunc(tt.cut, func() { // as the program does
							end(serving.ErrDrained)
							w.Cut()
						})
					}
					var header []string
					if tt.timeout != "" {
						header = []string{"X-Tradewind-Timeout-Ms", tt.timeout}
					}
					start := time.Now()
					a := w.doReader(ctx, "POST", "/v1/chat/completions", strings.NewReader(ask("one/cheap", more)), header...)
					if took := time.Since(start); took != tt.want {
						t.Errorf("it ended after %v, want %v", took, tt.want)
					}
					_, o := w.outcome(a)
					status, code := datasets.ClientGone, openai.ClientGone
					if tt.cut == tt.want && tt.cut < left {
						status, code = datasets.Unknown, openai.NoHealthyUpstream
					}
					if o.Status != status || o.Cost == 0 || o.CostStatus != datasets.CostEstimated || o.Error != string(code) || len(o.Attempts) != 1 {
						t.Errorf("outcome %+v", o)
					}
					if stage == "mid-stream" && o.Usage.Output != 3 {
						t.Errorf("three tokens were streamed: %+v", o.Usage)
					}
					if n := len(w.rounds()); n != 1 || len(w.vendor.called()) != 1 {
						t.Errorf("%d rounds, %d calls", n, len(w.vendor.called()))
					}
				})
			})
		}
	}
}

// TestNothingIsBegunForNobody: a client that has gone has its call read on and no other made, wherever it left.
func TestNothingIsBegunForNobody(t *testing.T) {
	for name, tt := range map[string]struct {
		model string
		// vendor is what each call comes to, after a while.
		vendor func(arm catalog.ArmID) error
		left   time.Duration
		want   time.Duration
		cost   bool
	}{
		"another provider is cancelled":      {"two/middle", nil, time.Second, time.Second, true},
		"in backoff":                         {"one/cheap", func(catalog.ArmID) error { return fails(upstream.Server, 503) }, 3*time.Second + 100*time.Millisecond, 3*time.Second + 100*time.Millisecond, false},
		"a call fails after its client left": {"auto", func(catalog.ArmID) error { return fails(upstream.Server, 503) }, time.Second, 3 * time.Second, false},
		"before a hedge":                     {"auto", nil, time.Second, 3 * time.Second, true},
		"beside a hedge":                     {"auto", nil, 2500 * time.Millisecond, 3 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &paced{wait: func(catalog.ArmID) time.Duration { return 3 * time.Second }, fail: tt.vendor}
				s := setup{options: readOn(), providers: map[string]upstream.Provider{}, auth: governance.Options{Keys: []governance.KeyConfig{{
					Key: keyA, Hedge: &governance.HedgeConfig{AfterMS: 2000, MaxShare: new(1.0)},
				}}}}
				for _, a := range threeArms() {
					s.providers[a.ID.Provider()] = p
				}
				w := newWorld(t, s)
				more, calls := "", 1
				if strings.HasSuffix(name, "a hedge") {
					more = wantsHedge
				}
				if name == "beside a hedge" {
					calls = 2
				}
				start := time.Now()
				a := w.leaves(tt.left, "/v1/chat/completions", ask(tt.model, more), bearer(keyA)...)
				if took := time.Since(start); took != tt.want {
					t.Errorf("it ended after %v, want %v", took, tt.want)
				}
				_, o := w.outcome(a)
				if n := len(p.called()); n != calls || o.Status != datasets.ClientGone || (o.Cost > 0) != tt.cost || len(o.Attempts) != calls {
					t.Errorf("%d calls, outcome %+v", n, o)
				}
				if last := o.Attempts[len(o.Attempts)-1]; tt.want == 3*time.Second && tt.cost && (o.Served != "one/cheap" || last.Outcome != "ok" || last.Cost != 7*1000+3*2000) {
					t.Errorf("the call that was read on: %+v", o)
				}
			})
		})
	}
}

// TestReadOnUnderGates: an answer that came for nobody is paid for and not judged.
func TestReadOnUnderGates(t *testing.T) {
	for _, more := range []string{"", `,"stream":true`} {
		for _, streams := range []string{"after", "buffer"} {
			w := gated(t, gate.PolicyConfig{Streams: streams}, setup{options: readOn()})
			ctx, leave := context.WithCancel(t.Context())
			w.vendor.play(func(int, *upstream.Request) (*script, error) {
				return &script{before: func(i int) {
					if i == 1 {
						leave()
					}
				}}, nil
			})
			a := w.doReader(ctx, "POST", "/v1/chat/completions", strings.NewReader(ask("one/cheap", more)))
			_, o := w.outcome(a)
			if o.Status != datasets.ClientGone || o.CostStatus != datasets.CostFinal || o.Cost != 7*1000+3*2000 || len(o.Attempts) != 1 || len(o.Attempts[0].Verdicts) != 0 {
				t.Errorf("%s, judged %s: outcome %+v", more, streams, o)
			}
		}
	}
}
