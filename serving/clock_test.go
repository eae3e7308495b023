package serving_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// The tests of this file are P19: clocks that are up to five minutes off and step back, in whatever zone the machine stands.

// skew is how far such a clock is off at most.
const skew = 5 * time.Minute

// clock is virtual time, wrong by offset, told in some zone. Like a clock that was set it knows no monotonic time.
type clock struct{ offset, zone atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Now().Round(0).Add(time.Duration(c.offset.Load())).In(time.FixedZone("", int(c.zone.Load())))
}

// set makes the clock wrong by another amount, and moves the machine to another zone, as a change of daylight saving does.
func (c *clock) set(rng *rand.Rand) {
	c.offset.Store(rng.Int64N(int64(2*skew)) - int64(skew))
	c.zone.Store(int64(3600 * (rng.IntN(27) - 12)))
}

func clocked(t testing.TB, c *clock, budget governance.BudgetConfig, rpm int) *world {
	return newWorld(t, setup{
		now: c.now, journal: journal.Options{SyncEvery: 24 * time.Hour},
		auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Budget: budget, RequestsPerMinute: rpm}}},
	})
}

// almanac keeps the sums of a key by a calendar of its own, from the latest time that anybody has read from the clock.
type almanac struct {
	latest int64 // in seconds
	// windows are the day, week and month that run, spent and resets what was spent in them and how many there were.
	windows [3]int64
	spent   [3]catalog.Nanodollars
	resets  [3]int
	// months are the days on which they end.
	months []int64
}

// newAlmanac begins at the first of January of 2000, which was a Saturday and a leap year's.
func newAlmanac(years int) *almanac {
	a := &almanac{windows: [3]int64{-1, -1, -1}}
	day := int64(10957) // of the first of January of 2000, from 1970
	for year := 2000; year < 2000+years; year++ {
		for m, n := range [...]int64{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31} {
			if m == 1 && year%4 == 0 {
				n++
			}
			day += n
			a.months = append(a.months, day)
		}
	}
	return a
}

// see begins the windows that have begun by now, and counts them.
func (a *almanac) see(now time.Time) {
	a.latest = max(a.latest, now.Unix())
	day := a.latest / 86400
	month := slices.IndexFunc(a.months, func(end int64) bool { return day < end })
	for i, window := range [...]int64{day, (day + 3) / 7, int64(month)} { // the first of January of 1970 was a Thursday
		if a.windows[i] != window {
			a.windows[i], a.spent[i] = window, 0
			a.resets[i]++
		}
	}
}

// TestWindowsResetOnce: over more than a year, leap day included, each budget window begins anew once, at midnight in UTC by
// the first clock that has got there, whatever the clock does after. What the log says in its order gives the same sums.
func TestWindowsResetOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng, c, usd := rand.New(rand.NewPCG(19, 1)), &clock{}, 1e6
		w := clocked(t, c, governance.BudgetConfig{DayUSD: &usd, WeekUSD: &usd, MonthUSD: &usd, TotalUSD: &usd}, 0)
		id, a := w.auth.Principals()[0].KeyID, newAlmanac(3)
		a.see(c.now())
		var order []datasets.RoundID
		for range 3000 {
			if rng.IntN(3) == 0 { // around midnight much can go wrong
				tomorrow := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
				time.Sleep(max(0, time.Until(tomorrow)+time.Duration(rng.Int64N(int64(4*skew)))-2*skew))
			} else {
				time.Sleep(time.Duration(rng.Int64N(int64(5 * time.Hour))))
			}
			if c.set(rng); rng.IntN(2) == 0 {
				answer := w.chat(ask("one/cheap", fmt.Sprintf(`,"max_tokens":%d`, 1+rng.IntN(99))), bearer(keyA)...).wantOK()
				a.see(c.now())
				for i := range a.spent {
					a.spent[i] += must(catalog.ParseDollars(answer.header.Get("X-Tradewind-Cost-Usd")))(t)
				}
				order = append(order, answer.round())
			}
			for i, window := range []ledger.Window{ledger.Day, ledger.Week, ledger.Month} {
				b := must(w.books.Balance(t.Context(), ledger.Account("key", id, window)))(t)
				if a.see(c.now()); b.Settled != a.spent[i] {
					t.Fatalf("%s of %s: settled %s, want %s", window, c.now(), b.Settled, a.spent[i])
				}
			}
		}
		if a.resets[0] < 366 || a.resets[2] < 13 {
			t.Fatalf("only %v windows of a day, a week and a month have begun", a.resets)
		}
		var sums ledger.Sums
		for i, r := range w.rounds() {
			if r.Decision.RoundID != order[i] {
				t.Fatalf("round %d of the log is %s, want %s: it is ordered by its sequence, not by the clock", i, r.Decision.RoundID, order[i])
			}
			sums.Settle("key", id, r.Outcome.At, r.Outcome.Cost)
		}
		for i, window := range []ledger.Window{ledger.Day, ledger.Week, ledger.Month} {
			if got := sums.Of(ledger.Account("key", id, window)); got.Settled != a.spent[i] && got.Until.After(c.now()) {
				t.Errorf("%s by the log: %s, want %s", window, got.Settled, a.spent[i])
			}
		}
	})
}

// TestHoldsEndWhateverTheClockDoes: a hold that nobody ends does not outlive its time by more than the clock is off.
func TestHoldsEndWhateverTheClockDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lives = 11 * time.Minute
		rng, c, usd := rand.New(rand.NewPCG(19, 2)), &clock{}, 1e6
		w := newWorld(t, setup{unaudited: true, now: c.now, auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Budget: governance.BudgetConfig{DayUSD: &usd}}}}})
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { w.ExpireHolds(ctx) })
		chain := []ledger.AccountID{ledger.Account("key", w.auth.Principals()[0].KeyID, ledger.Day)}
		for i := range 50 {
			c.set(rng)
			if err := w.books.Hold(ctx, ledger.HoldID(fmt.Sprint(i)), chain, 5, c.now().Add(lives)); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			for must(w.books.Balance(ctx, chain[0]))(t).Held > 0 {
				if c.set(rng); time.Since(begun) > lives+2*skew+2*time.Second { // it was set from one end to the other
					t.Fatalf("a hold lives on after %v", time.Since(begun))
				}
				time.Sleep(time.Duration(rng.Int64N(int64(time.Minute))))
			}
			if age := time.Since(begun); age < lives-2*skew-time.Second {
				t.Errorf("a hold ended after %v", age)
			}
		}
		cancel()
		done.Wait()
	})
}

// TestClockStepsBack: a clock that is set back five minutes shuts nobody out, and what it stamped before can be scored.
func TestClockStepsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clock{}
		w := clocked(t, c, governance.BudgetConfig{}, 60)
		var last *answer
		for range 60 {
			last = w.chat(ask("one/cheap", ""), bearer(keyA)...).wantOK()
		}
		c.offset.Store(int64(-skew))
		if a := w.chat(ask("one/cheap", ""), bearer(keyA)...); a.status != 429 {
			t.Errorf("a clock that is set back fills the bucket: %d", a.status)
		}
		time.Sleep(2 * time.Second)
		for range 2 {
			w.chat(ask("one/cheap", ""), bearer(keyA)...).wantOK()
		}
		score := func(a *answer) *answer {
			return w.do("POST", "/v1/feedback", `{"decision_id":"`+string(a.round())+`","score":1}`, bearer(keyA)...)
		}
		if a := score(last); a.status != 202 {
			t.Errorf("feedback on an answer of before: %d %s", a.status, a.body)
		}
		c.offset.Store(int64(-2*skew) - int64(time.Minute))
		if a := score(last); a.status != 404 {
			t.Errorf("feedback on an answer from far in the future: %d %s", a.status, a.body)
		}
	})
}
