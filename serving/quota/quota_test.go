package quota

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/serving/governance"
)

func quota(t testing.TB, o Options) *Quota {
	t.Helper()
	q, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestRequestsPerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, l := quota(t, Options{}), governance.Limits{RequestsPerMinute: 6}
		for i := range 6 {
			g, r := q.Admit("k", l, 0)
			if r != nil || g.Requests.Remaining != 5-i || g.Requests.Limit != 6 {
				t.Fatalf("request %d: %+v, %+v", i, g.Requests, r)
			}
			g.Release()
		}
		_, r := q.Admit("k", l, 0)
		if r == nil || r.Kind != Requests || r.Limit != 6 || r.Remaining != 0 || r.RetryAfter != 10*time.Second || r.Requests.Reset != time.Minute {
			t.Fatalf("seventh request: %+v, want a refusal for 10 s", r)
		}
		if _, other := q.Admit("other", l, 0); other != nil {
			t.Errorf("another key was refused: %+v", other)
		}
		time.Sleep(r.RetryAfter - time.Millisecond)
		if _, r := q.Admit("k", l, 0); r == nil || r.RetryAfter != time.Millisecond {
			t.Errorf("a millisecond early: %+v, want a refusal for 1 ms", r)
		}
		time.Sleep(time.Millisecond)
		if _, r := q.Admit("k", l, 0); r != nil {
			t.Errorf("after RetryAfter: %+v, want admitted", r)
		}
		time.Sleep(time.Hour)
		if g, r := q.Admit("k", l, 0); r != nil || g.Requests.Remaining != 5 {
			t.Errorf("after an hour: %+v, %+v, want a full bucket and no more", g.Requests, r)
		}
	})
}

func TestTokensPerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, l := quota(t, Options{}), governance.Limits{TokensPerMinute: 600, RequestsPerMinute: 100}
		g, r := q.Admit("k", l, 500)
		if r != nil || g.Tokens.Remaining != 100 {
			t.Fatalf("first: %+v, %+v", g.Tokens, r)
		}
		if _, r := q.Admit("k", l, 200); r == nil || r.Kind != Tokens || r.RetryAfter != 10*time.Second || r.Requests.Remaining != 99 {
			t.Errorf("200 of 100 left: %+v, want a refusal for 10 s that took no request", r)
		}
		g.Correct(50)
		g.Correct(50) // saying it again changes nothing
		if g, r := q.Admit("k", l, 550); r != nil || g.Tokens.Remaining != 0 {
			t.Errorf("550 after the correction: %+v, %+v, want admitted", g.Tokens, r)
		}
		time.Sleep(time.Minute)
		if _, r := q.Admit("k", l, 1800); r != nil {
			t.Errorf("a request beyond the whole bucket: %+v, want it to pass a full one", r)
		}
		if _, r := q.Admit("k", l, 1); r == nil || r.RetryAfter != 2*time.Minute+100*time.Millisecond {
			t.Errorf("in debt: %+v, want a refusal until the debt is paid", r)
		}
	})
}

func TestConcurrent(t *testing.T) {
	q, l := quota(t, Options{}), governance.Limits{Concurrent: 10}
	var admitted atomic.Int32
	var wg sync.WaitGroup
	grants := make([]Grant, 200)
	for i := range grants {
		wg.Go(func() {
			g, r := q.Admit("k", l, 0)
			if r == nil {
				admitted.Add(1)
			} else if r.Kind != Concurrent || r.Limit != 10 || r.RetryAfter <= 0 {
				t.Errorf("refusal %+v", r)
			}
			grants[i] = g
		})
	}
	wg.Wait()
	if got := admitted.Load(); got != 10 {
		t.Errorf("%d of 200 admitted at once, want 10", got)
	}
	for i := range grants {
		grants[i].Release()
		grants[i].Release()
	}
	for range 10 {
		if _, r := q.Admit("k", l, 0); r != nil {
			t.Errorf("after all were released: %+v", r)
		}
	}
	if _, r := q.Admit("k", l, 0); r == nil {
		t.Error("a double release let an eleventh in")
	}
}

func TestNoLimitsIsFree(t *testing.T) {
	q := quota(t, Options{KeysMax: 1})
	if n := testing.AllocsPerRun(100, func() {
		g, r := q.Admit("k", governance.Limits{}, 1000)
		if r != nil {
			t.Error(r)
		}
		g.Correct(5)
		g.Release()
	}); n != 0 {
		t.Errorf("%v allocations for a key without limits, want 0", n)
	}
	l := governance.Limits{Concurrent: 5}
	if _, r := q.Admit("a", l, 0); r != nil {
		t.Errorf("first key: %+v", r)
	}
	if _, r := q.Admit("b", l, 0); r == nil || r.Kind != Keys {
		t.Errorf("a key past KeysMax: %+v, want a refusal", r)
	}
	if _, err := New(Options{KeysMax: -1}); err == nil {
		t.Error("a negative limit was accepted")
	}
}

func TestChangedLimitAndClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	q := quota(t, Options{Now: func() time.Time { return now }})
	for range 8 {
		q.Admit("k", governance.Limits{RequestsPerMinute: 10}, 0)
	}
	if g, r := q.Admit("k", governance.Limits{RequestsPerMinute: 20}, 0); r != nil || g.Requests.Remaining != 11 {
		t.Errorf("after a raise: %+v, %+v, want 11 left of 20", g.Requests, r)
	}
	if _, r := q.Admit("k", governance.Limits{RequestsPerMinute: 5}, 0); r == nil {
		t.Error("after a cut below what was used: admitted")
	}
	now = now.Add(-time.Hour)
	if _, r := q.Admit("k", governance.Limits{RequestsPerMinute: 5}, 0); r == nil {
		t.Error("a clock that steps back filled the bucket")
	}
	l := governance.Limits{RequestsPerMinute: 2}
	q.Admit("other", l, 0)
	now = now.Add(-time.Hour)
	if _, r := q.Admit("other", l, 0); r != nil {
		t.Errorf("a clock that steps back emptied the bucket: %+v", r)
	}
	now = now.Add(30 * time.Second)
	if _, r := q.Admit("other", l, 0); r != nil {
		t.Errorf("time does not go on from where the clock stands: %+v", r)
	}
}

// TestALaterLimitBeginsFull: what was sent while a rate had no limit is no debt of one that is set later.
func TestALaterLimitBeginsFull(t *testing.T) {
	q, both := quota(t, Options{}), governance.Limits{RequestsPerMinute: 10, TokensPerMinute: 10}
	for range 100 {
		q.Admit("r", governance.Limits{RequestsPerMinute: 1000}, 50)
		q.Admit("t", governance.Limits{TokensPerMinute: 1000}, 5)
	}
	if g, r := q.Admit("r", both, 5); r != nil && r.Kind == Tokens || r == nil && g.Tokens.Remaining != 5 {
		t.Errorf("%+v, %+v: tokens that nobody counted are owed", g.Tokens, r)
	}
	if _, r := q.Admit("t", both, 0); r != nil && r.Kind == Requests {
		t.Errorf("%+v: requests that nobody counted are owed", r)
	}
}

// TestWaitAndCancel: asking how long to wait takes nothing, and what was not sent after all is given back, once.
func TestWaitAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, l := quota(t, Options{}), governance.Limits{RequestsPerMinute: 2, TokensPerMinute: 600}
		if w := q.Wait("k", l, 5000); w != 0 {
			t.Errorf("nothing was sent, and the wait is %v", w)
		}
		g, _ := q.Admit("k", l, 400)
		for tokens, want := range map[int]time.Duration{0: 0, 200: 0, 300: 10 * time.Second} {
			for range 2 {
				if w := q.Wait("k", l, tokens); w != want {
					t.Errorf("%d of 200 tokens left: %v, want %v", tokens, w, want)
				}
			}
		}
		q.Admit("k", l, 0)
		if w := q.Wait("k", l, 300); w != 30*time.Second {
			t.Errorf("both are short, and the wait is %v, want the longer of 30 s and 10 s", w)
		}
		g.Cancel()
		g.Cancel()
		g.Correct(5000)
		if w := q.Wait("k", l, 600); w != 0 {
			t.Errorf("after the first was taken back: %v", w)
		}
		if g, r := q.Admit("k", l, 1); r != nil || g.Requests.Remaining != 0 || g.Tokens.Remaining != 599 {
			t.Errorf("%+v, %+v, want one request and all tokens left before it", g, r)
		}
	})
}

// Whatever is sent, no more than two minutes' worth passes in any minute, and a client that waits as told is admitted.
func TestRateProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		q, err := New(Options{Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		l := governance.Limits{RequestsPerMinute: rapid.IntRange(1, 100).Draw(t, "rpm"), TokensPerMinute: rapid.IntRange(1, 1000).Draw(t, "tpm")}
		start := now
		requests, tokens := 0, 0
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			n := rapid.IntRange(0, l.TokensPerMinute).Draw(t, "tokens")
			_, r := q.Admit("k", l, n)
			if r != nil && rapid.Bool().Draw(t, "patient") {
				now = now.Add(r.RetryAfter)
				if _, again := q.Admit("k", l, n); again != nil && again.Kind == r.Kind {
					t.Fatalf("refused with %+v, waited, refused again with %+v", r, again)
				} else if again == nil {
					r = nil
				}
			}
			if r == nil {
				requests, tokens = requests+1, tokens+n
			}
			minutes := now.Sub(start).Minutes() + 1
			if float64(requests) > float64(l.RequestsPerMinute)*minutes+1e-3 || float64(tokens) > float64(l.TokensPerMinute)*minutes+1e-3 {
				t.Fatalf("%d requests and %d tokens passed in %.3f minutes of %+v", requests, tokens, minutes-1, l)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
		}
	})
}

func BenchmarkAdmit(b *testing.B) {
	q, l := quota(b, Options{}), governance.Limits{RequestsPerMinute: 1 << 30, TokensPerMinute: 1 << 30, Concurrent: 1000}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			g, r := q.Admit("k", l, 10)
			if r != nil {
				b.Error(r)
			}
			g.Correct(9)
			g.Release()
		}
	})
}
