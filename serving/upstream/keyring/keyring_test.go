package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/anthropic"
	"github.com/tradewind-llm/tradewind/serving/upstream/bedrock"
	"github.com/tradewind-llm/tradewind/serving/upstream/google"
	"github.com/tradewind-llm/tradewind/serving/upstream/openaicompat"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

// account is a vendor in memory as one key sees it: a budget of calls a minute, and what it says of itself in headers.
type account struct {
	mu sync.Mutex
	// refuse ends calls before an answer, inBand inside of it.
	refuse, inBand *upstream.Error
	// perMinute is enforced, and told in headers, where it is set. window is the minute that left belongs to.
	perMinute, left int
	window          time.Time
	takes           time.Duration
	calls, running  int
	most            int
}

func (a *account) Stream(_ context.Context, _ *upstream.Request) (upstream.Stream, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	if a.refuse != nil {
		return nil, a.refuse
	}
	p := &played{a: a, header: map[string]string{}, err: a.inBand}
	if a.perMinute > 0 {
		now := time.Now()
		if now.Sub(a.window) >= time.Minute {
			a.window, a.left = now.Truncate(time.Minute), a.perMinute
		}
		end := a.window.Add(time.Minute)
		if a.left == 0 {
			return nil, &upstream.Error{Class: upstream.RateLimited, Status: 429, RetryAfter: end.Sub(now)}
		}
		a.left--
		p.header["X-Ratelimit-Limit-Requests"] = fmt.Sprint(a.perMinute)
		p.header["X-Ratelimit-Remaining-Requests"] = fmt.Sprint(a.left)
		p.header["X-Ratelimit-Reset-Requests"] = end.Sub(now).String()
	}
	a.running++
	a.most = max(a.most, a.running)
	return p, nil
}

type played struct {
	a      *account
	header map[string]string
	err    *upstream.Error
	events int
	closed bool
}

func (p *played) Header(name string) string { return p.header[name] }

func (p *played) Next() (upstream.Event, error) {
	time.Sleep(p.a.takes)
	if p.err != nil {
		return upstream.Event{}, p.err
	}
	if p.events++; p.events > 1 {
		return upstream.Event{}, io.EOF
	}
	ev, err := openai.ParseChunk([]byte(`{"choices":[{"delta":{"content":"hello"}}]}`))
	return ev, err
}

func (p *played) Close() error {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	if !p.closed {
		p.closed = true
		p.a.running--
	}
	return nil
}

// world is a ring over accounts, with what it told.
type world struct {
	*Ring
	t        *testing.T
	accounts []*account
	mu       sync.Mutex
	told     []Event
}

func newWorld(t *testing.T, accounts ...*account) *world {
	w := &world{t: t, accounts: accounts}
	var o Options
	for _, a := range accounts {
		o.Keys = append(o.Keys, a)
	}
	ring, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.Ring = ring
	ring.Notify(func(e Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told = append(w.told, e)
	})
	return w
}

// ask makes one call to its end.
func (w *world) ask(arm catalog.ArmID) error {
	s, err := w.Stream(w.t.Context(), &upstream.Request{Arm: &catalog.Arm{ID: arm}, Body: []byte("{}")})
	if err != nil {
		return err
	}
	for err == nil {
		_, err = s.Next()
	}
	if e := s.Close(); e != nil {
		w.t.Error(e)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func (w *world) calls() (n []int) {
	for _, a := range w.accounts {
		n = append(n, a.calls)
		if a.running != 0 {
			w.t.Errorf("%d streams are open, want none", a.running)
		}
	}
	for i, k := range w.keys {
		if busy := k.running.Load(); busy != 0 {
			w.t.Errorf("key %d counts %d calls at rest", i+1, busy)
		}
	}
	return n
}

func refusal(class upstream.Class, status int) *upstream.Error {
	return &upstream.Error{Class: class, Status: status, Message: "no"}
}

// TestRefusals: what a refusal of the first key leads to, before an answer and inside of one.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		name string
		err  *upstream.Error
		// switched says that another key answers, bad that the first is bad for every arm.
		switched, bad bool
	}{
		{"rate limit", refusal(upstream.RateLimited, 429), true, false},
		{"bad key", refusal(upstream.Auth, 401), true, true},
		{"no money", refusal(upstream.Auth, 402), true, true},
		{"not allowed this model", refusal(upstream.Auth, 403), true, false},
		{"server", refusal(upstream.Server, 500), false, false},
		{"bad request", refusal(upstream.BadRequest, 400), false, false},
	} {
		for _, inBand := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in an answer %v", test.name, inBand), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					first := &account{refuse: test.err}
					if inBand {
						first = &account{inBand: test.err}
					}
					w := newWorld(t, first, &account{})
					w.turn.Store(1) // the first key's
					var failed int
					for range 4 {
						if err := w.ask("v/m"); err != nil {
							failed++
						}
					}
					if test.switched {
						if got := w.calls(); failed != 0 || first.calls != 1 || got[1] != 4 {
							t.Errorf("%d failed after %v calls, want none and the first key asked once", failed, got)
						}
					} else if failed == 0 || len(w.told) > 0 {
						t.Errorf("%d failed, told %v: this is not the key's fault", failed, w.told)
					}
					if got := w.Bad() == 1; got != test.bad {
						t.Errorf("bad %v, want %v", got, test.bad)
					}
					before := first.calls
					for range 2 {
						_ = w.ask("v/other")
					}
					if test.switched && (first.calls == before) != test.bad {
						t.Errorf("another arm: %d calls by the first key, want some %v", first.calls-before, !test.bad)
					}
				})
			})
		}
	}
}

// TestRetryAfterIsKept: a key whose vendor asks for patience rests for as long as it says, within bounds.
func TestRetryAfterIsKept(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{0: limitedMin, 20 * time.Second: 20 * time.Second, time.Hour: limitedMax} {
		synctest.Test(t, func(t *testing.T) {
			first := &account{refuse: refusal(upstream.RateLimited, 429)}
			first.refuse.RetryAfter = asked
			w := newWorld(t, first, &account{})
			start := time.Now()
			for first.calls < 2 {
				if err := w.ask("v/m"); err != nil {
					t.Fatal(err)
				}
				if first.calls == 0 {
					start = time.Now()
				}
				time.Sleep(50 * time.Millisecond)
			}
			if got := time.Since(start).Round(time.Second); got != want {
				t.Errorf("asked to wait %v it rested for %v, want %v", asked, got, want)
			}
		})
	}
}

// TestAllKeysGone: a request asks every key at most once, and one where all are known to be set aside.
func TestAllKeysGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := func(after time.Duration) *account {
			return &account{refuse: &upstream.Error{Class: upstream.RateLimited, Status: 429, RetryAfter: after}}
		}
		w := newWorld(t, limited(20*time.Second), &account{refuse: refusal(upstream.Auth, 401)}, limited(5*time.Second))
		var e *upstream.Error
		if err := w.ask("v/m"); !errors.As(err, &e) || e.Class != upstream.RateLimited || e.RetryAfter != 5*time.Second {
			t.Errorf("got %v, want a rate limit until the first key is free in 5s", err)
		}
		if got := w.calls(); !slices.Equal(got, []int{1, 1, 1}) {
			t.Errorf("calls %v, want one by each key", got)
		}
		for range 10 {
			if w.ask("v/m") == nil {
				t.Fatal("answered")
			}
		}
		if got := w.calls(); got[0]+got[1]+got[2] != 13 {
			t.Errorf("calls %v, want one a request while all are set aside", got)
		}
		bad := newWorld(t, &account{refuse: refusal(upstream.Auth, 401)}, &account{refuse: refusal(upstream.Auth, 401)})
		if err := bad.ask("v/m"); !errors.As(err, &e) || e.Class != upstream.Auth {
			t.Errorf("got %v, want the refusal of the keys", err)
		}
	})
}

// TestBadKeyIsProbed: a bad key is left alone, tried once a while, told of once, and back in use when it works.
func TestBadKeyIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := &account{refuse: refusal(upstream.Auth, 401)}
		w := newWorld(t, first, &account{})
		for range 40 * 60 { // forty minutes
			if err := w.ask("v/m"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if first.calls != 4 {
			t.Errorf("%d calls by the bad key in forty minutes, want one in ten", first.calls)
		}
		first.refuse = nil
		time.Sleep(badFor)
		for range 10 {
			if err := w.ask("v/m"); err != nil {
				t.Fatal(err)
			}
		}
		var said []Event
		for _, e := range w.told {
			if !e.Switched {
				said = append(said, e)
			}
		}
		want := []Event{{Key: 1, Of: 2, Class: upstream.Auth, Status: 401, Bad: true}, {Key: 1, Of: 2}}
		if !slices.Equal(said, want) || w.Bad() != 0 || first.calls < 8 {
			t.Errorf("told %v after %d calls, want %v", said, first.calls, want)
		}
		first.refuse = refusal(upstream.Auth, 401)
		for w.Bad() == 0 {
			_ = w.ask("v/m")
		}
		before := first.calls
		if w.Forgive(); w.ask("v/m") != nil || w.ask("v/m") != nil || first.calls != before+1 {
			t.Errorf("%d calls by a key that was forgiven, want 1", first.calls-before)
		}
	})
}

// TestBeforeTheLimit: keys that tell what is left are passed over before they refuse, also where many calls run at once
// and no answer has told the new figure yet.
func TestBeforeTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		small := &account{perMinute: 50, takes: 3 * time.Second}
		large := &account{perMinute: 500, takes: 3 * time.Second}
		w := newWorld(t, small, large)
		for range 2 { // each key tells of itself
			if err := w.ask("v/m"); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 {
			time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)))
			_ = w.ask("v/m")
			_ = w.ask("v/m")
			small.calls, large.calls = 0, 0
			var wg sync.WaitGroup
			for range 400 {
				time.Sleep(100 * time.Millisecond)
				wg.Go(func() {
					if err := w.ask("v/m"); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if small.calls > 50 || small.calls < 25 {
				t.Errorf("%d calls by a key that may make 50, beside %d by one that may make 500", small.calls, large.calls)
			}
		}
		for _, e := range w.told {
			t.Errorf("told %+v, want keys passed over before they refuse", e)
			break
		}
	})
}

// TestBalance: keys that say nothing share what runs at once.
func TestBalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &account{takes: time.Second}, &account{takes: 3 * time.Second}, &account{takes: 2 * time.Second})
		var wg sync.WaitGroup
		for range 400 {
			time.Sleep(20 * time.Millisecond)
			wg.Go(func() {
				if err := w.ask("v/m"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.calls()
		for i, a := range w.accounts {
			if most := w.accounts[(i+1)%3].most; a.most > most+most/5+1 {
				t.Errorf("key %d ran %d calls at once, another %d", i+1, a.most, most)
			}
		}
	})
}

// TestConformance: with a key that was refused beside a good one, a vendor of any dialect does all that one with a single
// key does.
func TestConformance(t *testing.T) {
	dead := func() upstream.Provider { return &account{refuse: refusal(upstream.Auth, 401)} }
	ring := func(good upstream.Provider, err error) upstream.Provider {
		if err != nil {
			t.Fatal(err)
		}
		r, err := New(Options{Keys: []upstream.Provider{dead(), good}})
		if err != nil {
			t.Fatal(err)
		}
		r.keys[0].bad.Store(time.Now().Add(time.Hour).UnixNano())
		return r
	}
	const key = upstreamtest.Key
	t.Run("chat", func(t *testing.T) {
		upstreamtest.Run(t, func(url string) upstream.Provider {
			return ring(openaicompat.New(openaicompat.Options{BaseURL: url + "/v1", Key: key}))
		})
	})
	t.Run("responses", func(t *testing.T) {
		upstreamtest.RunResponses(t, func(url string) upstream.Provider {
			return ring(openaicompat.New(openaicompat.Options{BaseURL: url + "/v1", Key: key, Responses: true}))
		})
	})
	t.Run("messages", func(t *testing.T) {
		upstreamtest.RunMessages(t, func(url string) upstream.Provider {
			return ring(anthropic.New(anthropic.Options{BaseURL: url + "/v1", Key: key}))
		})
	})
	t.Run("gemini", func(t *testing.T) {
		upstreamtest.RunGemini(t, func(url string) upstream.Provider { return ring(google.New(google.Options{BaseURL: url, Key: key})) })
	})
	t.Run("converse", func(t *testing.T) {
		upstreamtest.RunConverse(t, func(url string) upstream.Provider {
			return ring(bedrock.New(bedrock.Options{BaseURL: url, Region: "us-east-1", Token: key}))
		})
	})
}

func TestHeaders(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"1s": time.Second, "6m0s": 6 * time.Minute, "120ms": 120 * time.Millisecond, "30": 30 * time.Second, "2.5": 2500 * time.Millisecond,
		"2026-01-02T03:05:05Z": time.Minute, "2026-01-02T03:00:00Z": 0, "200h": resetMax, "-3s": 0, "": resetUnknown, "soon": resetUnknown, "NaN": resetUnknown,
	} {
		if got := untilReset(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	for _, form := range []map[string]string{
		{"X-Ratelimit-Limit-Tokens": "1000", "X-Ratelimit-Remaining-Tokens": "100", "X-Ratelimit-Reset-Tokens": "6s"},
		{"Anthropic-Ratelimit-Tokens-Limit": "1000", "Anthropic-Ratelimit-Tokens-Remaining": "100", "Anthropic-Ratelimit-Tokens-Reset": "2026-01-02T03:04:11Z"},
	} {
		var a allowance
		a.heard(&played{header: form}, a.begin(50), now)
		a.begin(40)
		for _, test := range []struct {
			tokens int64
			at     time.Duration
			share  float64
			fits   bool
		}{{60, 0, .06, true}, {61, 0, .06, false}, {61, 6 * time.Second, 1, true}} {
			if share, fits := a.share(test.tokens, now.Add(test.at)); share != test.share || fits != test.fits {
				t.Errorf("%v: %d more tokens after %v: %v, %v, want %v, %v", form, test.tokens, test.at, share, fits, test.share, test.fits)
			}
		}
	}
	for _, bad := range []string{"", "x", "-1", "NaN", "1e400"} {
		if m := readMeter(&played{header: map[string]string{"l": bad, "r": bad}}, now, "l", "r", "t"); m.limit != 0 {
			t.Errorf("%q: %+v, want nothing", bad, m)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add("100", "99", "6m0s")
	f.Add("1e3", "0", "2026-01-02T03:04:05Z")
	f.Fuzz(func(t *testing.T, limit, left, reset string) {
		now := time.Unix(1_700_000_000, 0)
		m := readMeter(&played{header: map[string]string{"l": limit, "r": left, "t": reset}}, now, "l", "r", "t")
		if s := m.share(1, now); !(s >= 0 && s <= 1) || s > 0 && !m.fits(1, now) || m.resets.After(now.Add(resetMax)) {
			t.Errorf("%q, %q, %q: share %v of %+v", limit, left, reset, s, m)
		}
	})
}

func TestOptions(t *testing.T) {
	for _, n := range []int{0, 1, KeysMax, KeysMax + 1} {
		o := Options{Keys: slices.Repeat([]upstream.Provider{&account{}}, n)}
		if err := o.Validate(); (err == nil) != (n >= 1 && n <= KeysMax) {
			t.Errorf("%d keys: %v", n, err)
		} else if err != nil && !strings.Contains(err.Error(), fmt.Sprint(KeysMax)) {
			t.Errorf("%v does not tell the limit", err)
		}
	}
}
