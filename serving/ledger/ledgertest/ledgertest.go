// Package ledgertest is what every ledger must pass: a state machine beside an auditor that keeps its own books, and
// bursts of parallel calls against one budget.
//
// It shares no arithmetic with any ledger. It holds no test of its own kind of store; see the tests beside each.
package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// Ledger is a whole ledger: both of its interfaces.
type Ledger interface {
	ledger.Store
	ledger.Books
}

// Open makes an empty ledger that reads the time from now.
type Open func(t rapid.TB, now func() time.Time) Ledger

// check is one part of the suite. It takes rapid's TB so that the suite can be run against ledgers that must fail it.
type check struct {
	name string
	run  func(t rapid.TB, open Open)
}

func checks() []check {
	return []check{
		{"Sequences", checkSequences}, {"Parallel", checkParallel}, {"ParallelChains", checkParallelChains},
		{"Edges", checkEdges}, {"Windows", checkWindows},
	}
}

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) { c.run(t, open) })
	}
}

// checkSequences plays random histories and compares every answer and every balance with the auditor's.
func checkSequences(t rapid.TB, open Open) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newAuditor()
		l := open(rt, func() time.Time { return a.now })
		for i, id := range accountIDs {
			a.limit(rt, l, id, ledger.Limit{Set: i > 0, Amount: 500, Window: windows[i%len(windows)]})
		}
		rt.Repeat(map[string]func(*rapid.T){
			"hold":    func(rt *rapid.T) { a.hold(rt, l) },
			"settle":  func(rt *rapid.T) { a.end(rt, l, true) },
			"release": func(rt *rapid.T) { a.end(rt, l, false) },
			"expire":  func(rt *rapid.T) { a.expire(rt, l) },
			"limit": func(rt *rapid.T) {
				a.limit(rt, l, rapid.SampledFrom(accountIDs).Draw(rt, "account"), ledger.Limit{
					Set: rapid.Bool().Draw(rt, "set"), Amount: amounts.Draw(rt, "cap") * 5, Window: rapid.SampledFrom(windows).Draw(rt, "window"),
				})
			},
			"time": func(rt *rapid.T) {
				a.now = a.now.Add(time.Duration(rapid.IntRange(-600, 60*60*50).Draw(rt, "seconds")) * time.Second)
			},
			"": func(rt *rapid.T) { a.compare(rt, l) },
		})
	})
}

// checkParallel sends 200 calls at once against a budget that fits ten.
func checkParallel(t rapid.TB, open Open) {
	const calls, fit, price = 200, 10, 100
	ctx := context.Background()
	l := open(t, time.Now)
	id := ledger.Account("key", "k", ledger.Total)
	must(t, l.SetLimit(ctx, id, ledger.Limit{Set: true, Amount: fit * price, Window: ledger.Total}))
	var accepted, unexpected atomic.Int64
	together(calls, func(i int) {
		switch err := l.Hold(ctx, ledger.HoldID(fmt.Sprint("rnd_", i)), []ledger.AccountID{id}, price, time.Now().Add(time.Hour)); {
		case err == nil:
			accepted.Add(1)
		case !errors.As(err, new(*ledger.InsufficientError)):
			unexpected.Add(1)
		}
	})
	if got := accepted.Load(); got != fit {
		t.Errorf("%d of %d parallel holds were accepted, want %d: no more than fit, and no fewer", got, calls, fit)
	}
	if n := unexpected.Load(); n > 0 {
		t.Errorf("%d holds were refused for another reason than the budget", n)
	}
	b, err := l.Balance(ctx, id)
	must(t, err)
	if b.Held != fit*price || b.Settled != 0 || b.Remaining() != 0 {
		t.Errorf("balance after the burst = %+v, want %d held", b, fit*price)
	}
}

// checkParallelChains runs whole calls over a shared organization and two teams, and watches the sums from outside.
func checkParallelChains(t rapid.TB, open Open) {
	const workers, rounds, orgCap = 16, 60, 3000
	ctx := context.Background()
	l := open(t, time.Now)
	org := ledger.Account("org", "o", ledger.Month)
	teams := []ledger.AccountID{ledger.Account("team", "a", ledger.Day), ledger.Account("team", "b", ledger.Day)}
	must(t, l.SetLimit(ctx, org, ledger.Limit{Set: true, Amount: orgCap, Window: ledger.Month}))
	for _, id := range teams {
		must(t, l.SetLimit(ctx, id, ledger.Limit{Set: true, Amount: orgCap * 2 / 3, Window: ledger.Day}))
	}
	var spent [2]atomic.Int64
	var over, wrong atomic.Int64
	together(workers, func(w int) {
		team := w % 2
		for i := range rounds {
			id := ledger.HoldID(fmt.Sprintf("rnd_%d_%d", w, i))
			amount := catalog.Nanodollars(5 + (w*7+i)%11)
			err := l.Hold(ctx, id, []ledger.AccountID{teams[team], org}, amount, time.Now().Add(time.Hour))
			if b, berr := l.Balance(ctx, org); berr != nil || b.Settled+b.Held > orgCap {
				over.Add(1)
			}
			if err != nil {
				if !errors.As(err, new(*ledger.InsufficientError)) {
					wrong.Add(1)
				}
				continue
			}
			if i%5 == 0 {
				err = l.Release(ctx, id)
			} else {
				spent[team].Add(int64(amount) - 1)
				err = l.Settle(ctx, id, amount-1)
			}
			if err != nil || !errors.Is(l.Settle(ctx, id, amount), ledger.ErrNoHold) {
				wrong.Add(1)
			}
		}
	})
	if n := over.Load(); n > 0 {
		t.Errorf("settled + held of the organization was seen above its cap %d times", n)
	}
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d calls got an answer they should not", n)
	}
	sum := spent[0].Load() + spent[1].Load()
	for i, id := range []ledger.AccountID{teams[0], teams[1], org} {
		want := sum
		if i < 2 {
			want = spent[i].Load()
		}
		if b, err := l.Balance(ctx, id); err != nil || int64(b.Settled) != want || b.Held != 0 || b.Excess != 0 {
			t.Errorf("%s = %+v, %v, want %d settled and nothing held", id, b, err, want)
		}
	}
}

// checkEdges asks for what must be refused and looks that nothing has changed.
func checkEdges(t rapid.TB, open Open) {
	ctx := context.Background()
	now := time.Date(2026, 3, 31, 23, 0, 0, 0, time.UTC)
	l := open(t, func() time.Time { return now })
	id, free := ledger.Account("key", "k", ledger.Day), ledger.Account("org", "o", ledger.Total)
	must(t, l.SetLimit(ctx, id, ledger.Limit{Set: true, Amount: 100, Window: ledger.Day}))
	must(t, l.SetLimit(ctx, free, ledger.Limit{}))
	later := now.Add(time.Hour)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"negative hold":     {l.Hold(ctx, "a", []ledger.AccountID{id}, -1, later), ledger.ErrInvalid},
		"no id":             {l.Hold(ctx, "", []ledger.AccountID{id}, 1, later), ledger.ErrInvalid},
		"account twice":     {l.Hold(ctx, "a", []ledger.AccountID{id, free, id}, 1, later), ledger.ErrInvalid},
		"unknown account":   {l.Hold(ctx, "a", []ledger.AccountID{id, "key:nobody@day"}, 1, later), ledger.ErrNoAccount},
		"client has left":   {l.Hold(gone, "a", []ledger.AccountID{id}, 1, later), context.Canceled},
		"overflow":          {overflow(ctx, l, free, later), catalog.ErrOverflow},
		"settle of nothing": {l.Settle(ctx, "nothing", 1), ledger.ErrNoHold},
		"negative settle":   {l.Settle(ctx, "nothing", -1), ledger.ErrInvalid},
		"release nothing":   {l.Release(ctx, "nothing"), ledger.ErrNoHold},
		"negative limit":    {anyError(l.SetLimit(ctx, id, ledger.Limit{Set: true, Amount: -1})), errAny},
		"unknown window":    {anyError(l.SetLimit(ctx, id, ledger.Limit{Set: true, Window: "hour"})), errAny},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	var short *ledger.InsufficientError
	must(t, l.Hold(ctx, "b", []ledger.AccountID{free, id}, 60, later))
	if err := l.Hold(ctx, "c", []ledger.AccountID{free, id}, 41, later); !errors.As(err, &short) {
		t.Fatalf("a hold of 41 beside 60 of 100: %v, want an InsufficientError", err)
	}
	want := ledger.InsufficientError{Scope: "key", AccountID: id, Limit: 100, Held: 60, Needed: 41, ResetsAt: later}
	if *short != want {
		t.Errorf("refused with %+v, want %+v", *short, want)
	}
	must(t, l.Hold(ctx, "c", []ledger.AccountID{free, id}, 40, later))
	must(t, l.Settle(ctx, "b", 75))
	if err := l.Hold(ctx, "b", []ledger.AccountID{free}, 1, later); !errors.Is(err, ledger.ErrDuplicate) {
		t.Errorf("a hold under the id of a settled one: %v, want ErrDuplicate", err)
	}
	if b, err := l.Balance(ctx, id); err != nil || b.Settled != 75 || b.Held != 40 || b.Excess != 15 || b.Remaining() != 0 {
		t.Errorf("after a settlement above its hold: %+v, %v, want 75 settled, 15 of them excess, 40 held", b, err)
	}
	if b, err := l.Balance(ctx, free); err != nil || b.Settled != 75 || b.Held != math.MaxInt64-1000+40 {
		t.Errorf("the account without a cap: %+v, %v", b, err)
	}
}

var errAny = errors.New("any error")

func anyError(err error) error {
	if err != nil {
		return errAny
	}
	return nil
}

// overflow leaves one enormous hold open and asks for one more.
func overflow(ctx context.Context, l Ledger, id ledger.AccountID, later time.Time) error {
	if err := l.Hold(ctx, "huge", []ledger.AccountID{id}, math.MaxInt64-1000, later); err != nil {
		return err
	}
	return l.Hold(ctx, "more", []ledger.AccountID{id}, 1001, later)
}

// checkWindows walks over the ends of a day, a week and a month, back over them, and on.
func checkWindows(t rapid.TB, open Open) {
	ctx := context.Background()
	now := time.Date(2028, 2, 28, 23, 59, 0, 0, time.FixedZone("far east", 9*3600)) // 14:59 UTC on a Monday
	l := open(t, func() time.Time { return now })
	for w, want := range map[ledger.Window]string{
		ledger.Day: "2028-02-29", ledger.Week: "2028-03-06", ledger.Month: "2028-03-01", ledger.Total: "0001-01-01",
	} {
		id := ledger.Account("key", "k", w)
		must(t, l.SetLimit(ctx, id, ledger.Limit{Set: true, Amount: 10, Window: w}))
		if b, _ := l.Balance(ctx, id); b.ResetsAt.UTC().Format(time.RFC3339) != want+"T00:00:00Z" {
			t.Errorf("%s resets at %v, want %s", w, b.ResetsAt, want)
		}
	}
	day := []ledger.AccountID{ledger.Account("key", "k", ledger.Day)}
	n := 0
	spend := func() error {
		n++
		id := ledger.HoldID(fmt.Sprint("w", n))
		if err := l.Hold(ctx, id, day, 10, now.Add(time.Hour)); err != nil {
			return err
		}
		return l.Settle(ctx, id, 10)
	}
	steps := []struct {
		at string
		ok bool
	}{
		{"2028-02-28T15:00:00Z", true}, {"2028-02-28T23:59:59Z", false}, {"2028-02-29T00:00:00Z", true},
		{"2028-02-28T23:59:00Z", false}, // the clock steps back: the day before is over
		{"2028-02-29T12:00:00Z", false}, {"2028-03-01T00:00:00Z", true}, {"2028-03-09T00:00:00Z", true},
	}
	for _, s := range steps {
		now, _ = time.Parse(time.RFC3339, s.at)
		must(t, l.SetLimit(ctx, day[0], ledger.Limit{Set: true, Amount: 10, Window: ledger.Day})) // a reload changes nothing
		if err := spend(); (err == nil) != s.ok {
			t.Errorf("spending a day's budget at %s: %v, want accepted %v", s.at, err, s.ok)
		}
	}
	must(t, l.SetLimit(ctx, day[0], ledger.Limit{Set: true, Amount: 20, Window: ledger.Day}))
	must(t, l.Hold(ctx, "over midnight", day, 10, now.Add(time.Hour)))
	now = now.Add(24 * time.Hour)
	if b, _ := l.Balance(ctx, day[0]); b.Held != 10 || b.Settled != 0 {
		t.Errorf("after midnight: %+v, want the open hold and nothing settled", b)
	}
	if got, err := l.Expire(ctx, now); got != 1 || err != nil {
		t.Errorf("Expire = %d, %v, want 1", got, err)
	}
	if b, _ := l.Balance(ctx, day[0]); b.Held != 0 || b.Settled != 10 {
		t.Errorf("after expiry: %+v, want the hold settled at its amount", b)
	}
}

func together(n int, call func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			call(i)
		})
	}
	close(start)
	wg.Wait()
}

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
