package reward

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"pgregory.net/rapid"
)

// sealed is a log in a folder of its own.
func sealed(t interface {
	Fatal(...any)
	Cleanup(func())
}, rounds []datasets.Round, feedback []datasets.Feedback) *datasets.Log {
	dir, err := os.MkdirTemp("", "reward")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := datasets.OpenLog(dir, datasets.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Seal(rounds); err != nil {
		t.Fatal(err)
	}
	if _, err := l.SealFeedback(feedback); err != nil {
		t.Fatal(err)
	}
	return l
}

// genLog draws a log with sticky sessions, duplicates, refused rounds and feedback of all kinds.
func genLog(t *rapid.T) (rounds []datasets.Round, feedback []datasets.Feedback) {
	sessions := rapid.IntRange(1, 40).Draw(t, "sessions")
	for s := range sessions {
		opener := fmt.Sprintf("rnd_%03d", s)
		for k := range rapid.SampledFrom([]int{1, 1, 1, 3, 6}).Draw(t, "length") {
			id := opener
			if k > 0 {
				id = fmt.Sprintf("%s-%d", opener, k)
			}
			status := rapid.SampledFrom([]datasets.Status{datasets.Completed, datasets.Completed, datasets.Completed, datasets.ClientGone}).Draw(t, "status")
			rounds = append(rounds, round(id, func(r *datasets.Round) {
				r.Outcome.Status, r.Decision.DrawID = status, datasets.RoundID(opener)
				r.Decision.At = begin.Add(time.Duration(len(rounds)) * time.Second)
				if k > 0 {
					r.Decision.Case.Candidates = []policy.Candidate{{Arm: "b", Quality: 0.5}}
					r.Decision.Propensities, r.Decision.Propensity = []float64{1}, 1
				}
			}))
			for range rapid.SampledFrom([]int{0, 1, 1, 2}).Draw(t, "words") {
				f := say(id, rapid.SampledFrom([]string{"user", "judge", "gossip"}).Draw(t, "source"), rapid.Float64Range(0, 1).Draw(t, "score"))
				f.KeyID = rapid.SampledFrom([]string{"k1", "k1", "k9"}).Draw(t, "key")
				f.At = f.At.Add(time.Duration(len(feedback)) * time.Second)
				feedback = append(feedback, f)
			}
		}
	}
	if rapid.Bool().Draw(t, "twice") {
		rounds = append(rounds, rounds[rapid.IntRange(0, len(rounds)-1).Draw(t, "which")])
	}
	return rounds, append(feedback, say("rnd_elsewhere", "user", 1))
}

// said is what a result says of one round, by the names of its arms.
func said(r *Result, i int) string {
	cells := map[catalog.ArmID][3]float64{}
	for j, a := range r.Table.Arms {
		at := r.Table.At(i, j)
		if p := r.Propensity[at]; p > 0 {
			cells[a] = [3]float64{float64(r.Table.Score[at]), p, r.Estimate[at]}
		}
	}
	return fmt.Sprint(r.Table.Prompts[i], cells)
}

// TestBoundedJoin: a log that is larger than what is held gives the rows that sampling the whole join gives.
func TestBoundedJoin(t *testing.T) {
	cut, short := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		rounds, feedback := genLog(t)
		l := sealed(t, rounds, feedback)
		whole, err := Apply(context.Background(), l, Options{})
		if err != nil {
			t.Fatal(err)
		}
		most := rapid.IntRange(1, 12).Draw(t, "max")
		got, err := Apply(context.Background(), l, Options{RoundsMax: most})
		if err != nil {
			t.Fatal(err)
		}
		checkCounts(t, &got.Counts, &whole.Counts)
		kept := len(got.Table.Prompts)
		if got.Counts.Dropped[NotSampled] > 0 {
			cut++
		}
		if kept < min(most, len(whole.Table.Prompts)) {
			short++
			if got.Counts.Dropped[NotSampled] == 0 || got.Counts.Scored > kept {
				t.Fatalf("got %d rows of %d at most, although %d are there: %+v", kept, most, len(whole.Table.Prompts), got.Counts)
			}
		}
		want := whole.Table.Prompts
		keys := make([]uint64, len(want))
		for i := range want {
			keys[i] = datasets.HashKey(want[i].Group)
		}
		sample := datasets.InHashOrder(keys, kept)
		slices.Sort(sample)
		for k, i := range sample {
			if said(got, k) != said(whole, i) {
				t.Fatalf("row %d: got %s, want %s", k, said(got, k), said(whole, i))
			}
		}
	})
	if t.Logf("%d logs were cut, %d of them short of rows", cut, short); cut == 0 || short > cut/2 {
		t.Error("the logs were not what this test is about")
	}
}

// checkCounts holds counts to their sums, and to the counts of the whole log where they claim to be exact.
func checkCounts(t *rapid.T, got, whole *Counts) {
	dropped, unused := 0, 0
	for _, n := range got.Dropped {
		dropped += n
	}
	for _, n := range got.FeedbackDropped {
		unused += n
	}
	if got.Rounds != got.Scored+dropped || got.Feedback != got.FeedbackUsed+unused || got.Rounds != whole.Rounds || got.Feedback != whole.Feedback {
		t.Fatalf("got counts %+v of %+v", got, whole)
	}
	for _, r := range []Reason{OtherSource, OutOfRange, NoRound} {
		if got.FeedbackDropped[r] != whole.FeedbackDropped[r] {
			t.Fatalf("got %d feedback under %s, want %d", got.FeedbackDropped[r], r, whole.FeedbackDropped[r])
		}
	}
	if lost := whole.Scored - got.Scored; lost > got.Dropped[NotSampled] {
		t.Fatalf("%d scored rounds are missing, %d were not sampled", lost, got.Dropped[NotSampled])
	}
}

// TestJoinIsBounded: what is held of a log of ten times the rounds is hardly more.
func TestJoinIsBounded(t *testing.T) {
	const n = 150
	live := func() int64 {
		for range 6 { // pools and finalizers of the readers let go one by one
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	take := func(most, rounds int) int64 {
		var all []datasets.Round
		var feedback []datasets.Feedback
		for i := range rounds {
			id := fmt.Sprintf("rnd_%05d", i)
			all = append(all, round(id, func(r *datasets.Round) { r.Decision.DrawID = datasets.RoundID(fmt.Sprintf("rnd_%05d", i/3*3)) }))
			feedback = append(feedback, say(id, "user", 1))
		}
		l := sealed(t, all, feedback)
		all, feedback = nil, nil
		j := newJoin(DefaultSpec(), most)
		for _, pass := range []func(context.Context, *datasets.Log) error{j.census, j.index, j.listen, j.score} {
			if err := pass(context.Background(), l); err != nil {
				t.Fatal(err)
			}
		}
		with := live()
		if len(j.rows) != min(most, rounds) {
			t.Fatalf("got %d rows", len(j.rows))
		}
		j = nil
		return with - live()
	}
	once, tenfold, all := take(n, n*heldShare), take(n, 10*n*heldShare), take(math.MaxInt32, 10*n*heldShare)
	t.Logf("%d rounds: %d bytes; a sample of ten times as many: %d; all of those: %d", n*heldShare, once, tenfold, all)
	if tenfold > 2*once {
		t.Errorf("a log of ten times the rounds takes %d bytes, more than twice the %d", tenfold, once)
	}
	if all < 6*once {
		t.Errorf("unbounded, %d rounds take %d bytes and ten times as many %d: the test is blind", n*heldShare, once, all)
	}
}
