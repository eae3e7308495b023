package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

var at = time.Date(2026, 5, 4, 3, 2, 1, 987654321, time.UTC)

// decision is one of the size that ten arms make.
func decision(i int) *datasets.Decision {
	d := &datasets.Decision{
		RoundID: datasets.RoundID(fmt.Sprintf("rnd_%026d", i)), At: at, RequestID: "req_01J", Org: "acme", Team: "ml",
		KeyID: "0123456789abcdef", Requested: "auto", Policy: "mix", RouterVersion: "tw1-0123456789abcdef0123456789abcdef",
		Strategy: "balanced", Complexity: 0.4321987654, Action: "openai/arm-3", Propensity: 0.9125, Reason: datasets.Predicted,
		Hold: catalog.Nanodollars(1000 + i), InputTokens: 321, Tags: map[string]string{"task": "<b>&\u2028"}, Features: make([]byte, 400),
		Case: policy.Case{Fallback: 3, Lambda: 12.5, Reference: -1, Pinned: -1, Explore: true, Epsilon: 0.05},
	}
	for a := range 10 {
		x := float64(a+1)/7 + float64(i%1000)/1e6
		d.Case.Candidates = append(d.Case.Candidates, policy.Candidate{
			Arm: catalog.ArmID(fmt.Sprintf("openai/arm-%d", a)), Quality: x / 3, QualityErr: x / 31, Score: x / 3.1, Gap: x/9 - 0.1,
			GapErr: x / 77, OutputTokens: 301.25 * x, CostUSD: x / 1e3, CostUpperUSD: x / 3e2, Priced: true, LatencyMS: 812.5, Availability: 1,
		})
		d.Propensities = append(d.Propensities, x/10)
	}
	return d
}

func outcome(i int) *datasets.Outcome {
	ttft := 12.75
	return &datasets.Outcome{
		RoundID: decision(i).RoundID, At: at, Status: datasets.Completed, Served: "openai/arm-3", CostStatus: datasets.CostFinal,
		Usage: catalog.Usage{Input: 321, Output: 99}, Cost: 900, TTFTMS: &ttft, LatencyMS: 431.5, OverheadMS: 0.21,
		Attempts: []datasets.Attempt{{Arm: "openai/arm-3", StartedAt: at, Outcome: "completed", HTTPStatus: 200, FirstTokenMS: &ttft, TotalMS: 430, Cost: 900}},
	}
}

func open(t testing.TB, dir string, o Options) *Journal {
	t.Helper()
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, j *Journal, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		check(t, j.AppendDecision(context.Background(), decision(i)))
		check(t, j.AppendOutcome(context.Background(), outcome(i)))
	}
}

// rounded makes the estimates what serving makes of them before it decides.
func rounded(d *datasets.Decision) *datasets.Decision {
	for i := range d.Case.Candidates {
		c := &d.Case.Candidates[i]
		for _, x := range []*float64{&c.Quality, &c.QualityErr, &c.Score, &c.Gap, &c.GapErr, &c.OutputTokens} {
			*x = math.RoundToEven(*x*1e6) / 1e6
		}
		for _, usd := range []*float64{&c.CostUSD, &c.CostUpperUSD} {
			*usd = math.RoundToEven(*usd*1e9) / 1e9
		}
	}
	return d
}

// sealed seals everything and returns it.
func sealed(t testing.TB, j *Journal) []Batch {
	t.Helper()
	var all []Batch
	check(t, j.Rotate())
	check(t, j.Seal(context.Background(), reading(func(b Batch) error {
		all = append(all, b)
		return nil
	})))
	return all
}

// reading seals by reading.
func reading(seal func(Batch) error) func(context.Context, Closed) (bool, error) {
	return func(_ context.Context, c Closed) (bool, error) {
		b, err := c.Read()
		if err == nil {
			err = seal(b)
		}
		return b.Damaged+b.Orphans > 0, err
	}
}

func rounds(batches []Batch) map[datasets.RoundID]datasets.Status {
	found := map[datasets.RoundID]datasets.Status{}
	for _, b := range batches {
		for _, r := range b.Rounds {
			if _, twice := found[r.Decision.RoundID]; twice || r.Decision.RoundID != r.Outcome.RoundID {
				return nil
			}
			found[r.Decision.RoundID] = r.Outcome.Status
		}
	}
	return found
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	check(t, err)
	return names
}

func TestRoundTrip(t *testing.T) {
	for _, mode := range []Sync{"", Write, Always} {
		t.Run(string(mode), func(t *testing.T) {
			dir := t.TempDir()
			closed := 0
			j := open(t, dir, Options{Sync: mode, Closed: func() { closed++ }})
			check(t, j.AppendDecision(context.Background(), decision(1)))
			if d, o, ok := j.Recent(decision(1).RoundID); !ok || o != nil || !reflect.DeepEqual(d, decision(1)) {
				t.Errorf("Recent of an open round = %+v, %v, %v", d, o, ok)
			}
			check(t, j.AppendOutcome(context.Background(), outcome(1)))
			fb := datasets.Feedback{RoundID: "rnd_old", Source: "user", Score: 0.5, Metrics: map[string]float64{"bleu": 0.25}, At: at}
			check(t, j.AppendFeedback(context.Background(), &fb))
			if d, o, ok := j.Recent(decision(1).RoundID); !ok || !reflect.DeepEqual(o, outcome(1)) || !reflect.DeepEqual(d, decision(1)) {
				t.Errorf("Recent of an ended round = %+v, %+v, %v", d, o, ok)
			}
			got := sealed(t, j)
			want := []Batch{{ID: "00000000000000000001", Through: 3, Rounds: []datasets.Round{{Decision: *decision(1), Outcome: *outcome(1)}}, Feedback: []datasets.Feedback{fb}}}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("sealed %+v\nwant %+v", got, want)
			}
			if _, o, ok := j.Recent(decision(1).RoundID); !ok || o == nil {
				t.Error("a sealed round is no longer recent")
			}
			if again := sealed(t, j); len(again) != 0 || closed != 1 || len(segments(t, dir)) != 1 {
				t.Errorf("after sealing: %d more batches, %d closed, files %v", len(again), closed, segments(t, dir))
			}
		})
	}
}

func TestStates(t *testing.T) {
	ctx := context.Background()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	dir := t.TempDir()
	j := open(t, dir, Options{OpenMax: 2, RecentMax: 2})
	nan := decision(9)
	nan.Complexity = zero() / zero()
	huge := decision(9)
	huge.Prompt = strings.Repeat("x", frame.PayloadMax)
	check(t, j.AppendDecision(ctx, decision(1)))
	check(t, j.AppendDecision(ctx, decision(2)))
	for name, c := range map[string]struct{ err, want error }{
		"decision twice":     {j.AppendDecision(ctx, decision(1)), ErrState},
		"decision without":   {j.AppendDecision(ctx, &datasets.Decision{}), ErrState},
		"too many open":      {j.AppendDecision(ctx, decision(3)), ErrBusy},
		"outcome without":    {j.AppendOutcome(ctx, outcome(7)), ErrState},
		"client has left":    {j.AppendDecision(gone, decision(3)), context.Canceled},
		"feedback cancelled": {j.AppendFeedback(gone, &datasets.Feedback{}), context.Canceled},
		"too large":          {j.AppendDecision(ctx, huge), ErrTooLarge},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if err := j.AppendDecision(ctx, nan); err == nil {
		t.Error("a decision with NaN was written")
	}
	check(t, j.AppendOutcome(gone, outcome(1))) // what happened is written whoever has left
	if err := j.AppendOutcome(ctx, outcome(1)); !errors.Is(err, ErrState) {
		t.Errorf("second outcome: %v, want ErrState", err)
	}
	check(t, j.AppendDecision(ctx, decision(3)))
	if _, _, ok := j.Recent(decision(1).RoundID); ok {
		t.Error("round 1 is still recent, past RecentMax")
	}
	if _, _, ok := j.Recent(decision(2).RoundID); !ok {
		t.Error("round 2 is not recent")
	}
	check(t, j.Close())
	check(t, j.Close())
	for name, err := range map[string]error{
		"append": j.AppendDecision(ctx, decision(4)), "rotate": j.Rotate(), "seal": j.Seal(ctx, nil),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	for _, o := range []Options{{Sync: "never"}, {RecentMax: -1}} {
		if _, err := Open(dir, o); err == nil {
			t.Errorf("Open accepted %+v", o)
		}
	}
}

func zero() float64 { return 0 }

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	var locked *LockedError
	if _, err := Open(dir, Options{}); !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second Open: %v, want a LockedError with pid %d", err, os.Getpid())
	}
	check(t, j.Close())
	open(t, dir, Options{})
}

func TestRecoveryEndsOpenRounds(t *testing.T) {
	dir := t.TempDir()
	later := at.Add(time.Hour)
	j := open(t, dir, Options{})
	run(t, j, 0, 3)
	check(t, j.AppendDecision(context.Background(), decision(10)))
	unpriced := decision(11)
	unpriced.Case.Candidates[3].Priced = false
	check(t, j.AppendDecision(context.Background(), unpriced))
	check(t, j.Close())

	for pass := range 2 { // recovering twice is recovering once
		j = open(t, dir, Options{Now: func() time.Time { return later }})
		r := j.Recovered()
		if pass == 1 {
			if len(r.Unknown) != 0 {
				t.Errorf("second recovery ended %d rounds again", len(r.Unknown))
			}
			break
		}
		want := []datasets.Outcome{
			{RoundID: decision(10).RoundID, At: later, Status: datasets.Unknown, Cost: 1010, CostStatus: datasets.CostEstimated},
			{RoundID: decision(11).RoundID, At: later, Status: datasets.Unknown, Cost: 1011, CostStatus: datasets.CostUnpriced},
		}
		if len(r.Unknown) != 2 || !reflect.DeepEqual(r.Unknown[0].Outcome, want[0]) || !reflect.DeepEqual(r.Unknown[1].Outcome, want[1]) {
			t.Errorf("recovered %+v, want %+v", r.Unknown, want)
		}
		if err := j.AppendOutcome(context.Background(), outcome(10)); !errors.Is(err, ErrState) {
			t.Errorf("outcome of a recovered round: %v, want ErrState", err)
		}
		check(t, j.Close())
	}
	got := rounds(sealed(t, j))
	if len(got) != 5 || got[decision(10).RoundID] != datasets.Unknown || got[decision(2).RoundID] != datasets.Completed {
		t.Errorf("sealed %v, want five rounds, two of them unknown", got)
	}
}

// Segments are small here, so rounds stay open over many of them, and each must come out once.
func TestRotationCarriesOpenRounds(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentMaxBytes: 20_000, RecentMax: 7})
	var batches []Batch
	ids := map[string]bool{}
	for i := range 100 {
		check(t, j.AppendDecision(context.Background(), decision(i)))
		if i >= 10 {
			check(t, j.AppendOutcome(context.Background(), outcome(i-10)))
		}
		if i%17 == 0 {
			_ = j.Seal(context.Background(), reading(func(b Batch) error {
				if len(batches)%2 == 0 && !ids[b.ID] {
					ids[b.ID] = true
					return errors.New("sealer is down")
				}
				batches = append(batches, b)
				return nil
			}))
		}
	}
	for i := 90; i < 100; i++ {
		check(t, j.AppendOutcome(context.Background(), outcome(i)))
	}
	batches = append(batches, sealed(t, j)...)
	if got := rounds(batches); len(got) != 100 {
		t.Errorf("%d rounds came out, want 100, each once", len(got))
	}
	if len(batches) < 10 {
		t.Errorf("%d batches, want many: segments are small", len(batches))
	}
	for _, b := range batches {
		if b.Orphans > 0 || b.Damaged > 0 {
			t.Errorf("batch %s: %d orphans, %d damaged bytes", b.ID, b.Orphans, b.Damaged)
		}
	}
	if got := segments(t, dir); len(got) != 1 {
		t.Errorf("files left: %v, want the active one", got)
	}
}

// TestRaiseHold: the last hold counts, over a rotation, in a sealed round and for a round that a crash cuts off.
func TestRaiseHold(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	j := open(t, dir, Options{RecentMax: 10})
	raise := func(i int, hold catalog.Nanodollars) error {
		d := decision(i)
		d.Hold = hold
		return j.RaiseHold(ctx, d)
	}
	if err := raise(1, 5); !errors.Is(err, ErrState) {
		t.Errorf("a hold of a round that never began: %v, want ErrState", err)
	}
	for i := 1; i <= 2; i++ {
		check(t, j.AppendDecision(ctx, decision(i)))
		check(t, raise(i, 7))
		run(t, j, 10*i, 10*i+2)
		check(t, j.Rotate())
		check(t, raise(i, 9))
	}
	if d, _, ok := j.Recent(decision(1).RoundID); !ok || d.Hold != 9 {
		t.Errorf("Recent shows %+v, want a hold of 9", d)
	}
	check(t, j.AppendOutcome(ctx, outcome(1)))
	if err := raise(1, 11); !errors.Is(err, ErrState) {
		t.Errorf("a hold of a round that has ended: %v, want ErrState", err)
	}
	check(t, j.Close())
	j = open(t, dir, Options{})
	if u := j.Recovered().Unknown; len(u) != 1 || u[0].Outcome.Cost != 9 {
		t.Errorf("the crash cost %+v, want 9 for one round", u)
	}
	raised := 0
	for _, b := range sealed(t, j) {
		for _, r := range b.Rounds {
			if r.Decision.Hold == 9 {
				raised++
			}
		}
	}
	if raised != 2 {
		t.Errorf("%d rounds were sealed with a hold of 9, want both that were raised", raised)
	}
}

// A crash between sealing and deleting hands the same batch over again, under the same ID.
func TestSealingAgainIsTheSame(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentMaxBytes: 50_000})
	run(t, j, 0, 40)
	check(t, j.AppendDecision(context.Background(), decision(50)))
	down := errors.New("down")
	collect := func(j *Journal) map[string]Batch {
		got := map[string]Batch{}
		if err := j.Seal(context.Background(), reading(func(b Batch) error { got[b.ID] = b; return down })); !errors.Is(err, down) {
			t.Errorf("Seal = %v, want the sealer's error", err)
		}
		return got
	}
	before := collect(j)
	check(t, j.Close())
	after := collect(open(t, dir, Options{}))
	if len(before) < 3 {
		t.Fatalf("%d batches, want several", len(before))
	}
	for id, b := range before {
		if !reflect.DeepEqual(after[id], b) {
			t.Errorf("batch %s changed over a restart", id)
		}
	}
}

// smallDisk fails every write from the moment it is full, having written half of it.
type smallDisk struct {
	disk.OS
	full atomic.Bool
}

func (d *smallDisk) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	f, err := d.OS.OpenFile(name, flag, perm)
	return &smallFile{f, d}, err
}

type smallFile struct {
	disk.File
	d *smallDisk
}

func (f *smallFile) Write(b []byte) (int, error) {
	if !f.d.full.Load() {
		return f.File.Write(b)
	}
	n, _ := f.File.Write(b[:len(b)/2])
	return n, &os.PathError{Op: "write", Err: syscall.ENOSPC}
}

func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	d := &smallDisk{}
	j := open(t, dir, Options{FS: d, SegmentMaxBytes: 30_000})
	run(t, j, 0, 5)
	check(t, j.AppendDecision(ctx, decision(5)))
	check(t, j.AppendDecision(ctx, decision(6)))
	check(t, j.AppendFeedback(ctx, &datasets.Feedback{RoundID: "rnd_0"}))
	d.full.Store(true)
	for i := 7; i < 30; i++ { // past the segment's size, so that a new one is tried as well
		if err := j.AppendDecision(ctx, decision(i)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("decision on a full disk: %v, want ErrUnavailable and ENOSPC", err)
		}
	}
	if err := j.RaiseHold(ctx, decision(6)); !errors.Is(err, ErrUnavailable) { // its round stays open
		t.Errorf("a larger hold on a full disk: %v, want ErrUnavailable", err)
	}
	if err := j.AppendOutcome(ctx, outcome(5)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("outcome on a full disk: %v, want ErrUnavailable", err)
	}
	if err := j.AppendOutcome(ctx, outcome(5)); !errors.Is(err, ErrState) {
		t.Errorf("the outcome again: %v, want ErrState, since the first is owed", err)
	}
	if err := j.Rotate(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Rotate on a full disk: %v, want ErrUnavailable", err)
	}
	d.full.Store(false)
	run(t, j, 7, 30)
	if _, o, ok := j.Recent(outcome(5).RoundID); !ok || o == nil {
		t.Error("the owed outcome was not written once there was space")
	}
	check(t, j.AppendOutcome(ctx, outcome(6)))
	batches := sealed(t, j)
	got := rounds(batches)
	if len(got) != 30 {
		t.Errorf("%d rounds, want 30", len(got))
	}
	for _, b := range batches {
		if b.Damaged > 0 || b.Orphans > 0 {
			t.Errorf("batch %s: %d damaged bytes, %d orphans, want nothing torn", b.ID, b.Damaged, b.Orphans)
		}
	}
}

func TestOwedOutcomesAreWrittenAtClose(t *testing.T) {
	dir := t.TempDir()
	d := &smallDisk{}
	j := open(t, dir, Options{FS: d})
	check(t, j.AppendDecision(context.Background(), decision(1)))
	d.full.Store(true)
	if err := j.AppendOutcome(context.Background(), outcome(1)); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	d.full.Store(false)
	check(t, j.Close())
	j = open(t, dir, Options{})
	if r := j.Recovered(); len(r.Unknown) != 0 || r.TornBytes != 0 {
		t.Errorf("recovered %+v, want nothing open and nothing torn", r)
	}
}

func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentMaxBytes: 200_000, RecentMax: 50})
	const writers, each = 16, 30
	var wg sync.WaitGroup
	var mu sync.Mutex
	var batches []Batch
	collect := func(b Batch) error {
		mu.Lock()
		defer mu.Unlock()
		batches = append(batches, b)
		return nil
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				n := w*1000 + i
				if err := j.AppendDecision(context.Background(), decision(n)); err != nil {
					t.Error(err)
				}
				j.Recent(decision(n - 1).RoundID)
				if err := j.AppendOutcome(context.Background(), outcome(n)); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := errors.Join(j.Rotate(), j.Seal(context.Background(), reading(collect))); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	batches = append(batches, sealed(t, j)...)
	if got := rounds(batches); len(got) != writers*each {
		t.Errorf("%d rounds, want %d", len(got), writers*each)
	}
}

// BenchmarkAppend is one decision and its outcome (ten arms, 64 writers); one op is both.
func BenchmarkAppend(b *testing.B) {
	for _, mode := range []Sync{Write, Always} {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", mode, writers), func(b *testing.B) {
				j := open(b, b.TempDir(), Options{Sync: mode})
				d, o := rounded(decision(0)), outcome(0)
				b.ReportAllocs()
				var wg sync.WaitGroup
				var before, after syscall.Rusage
				_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
				for w := range writers {
					wg.Go(func() {
						d, o := *d, *o
						for i := w; i < b.N; i += writers {
							id := datasets.RoundID(fmt.Sprintf("rnd_%026d", i))
							d.RoundID, o.RoundID = id, id
							if err := errors.Join(j.AppendDecision(context.Background(), &d), j.AppendOutcome(context.Background(), &o)); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
				cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
				b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	d, o := rounded(decision(0)), outcome(0)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = d.AppendJSON(buf[:0])
		buf, _ = o.AppendJSON(buf)
		b.SetBytes(int64(len(buf)))
	}
}

// TestReplay: a start is told every round of the folder, in order, the rounds that a crash cut off among them; sequences
// grow from segment to segment and go on behind what the caller has covered.
func TestReplay(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentMaxBytes: 20_000})
	run(t, j, 0, 20)
	check(t, j.AppendDecision(context.Background(), decision(50)))
	check(t, j.Close())
	j = open(t, dir, Options{After: func() (uint64, error) { return 900, nil }})
	var through []uint64
	var all []Batch
	check(t, j.Replay(func(b Batch) error {
		all, through = append(all, b), append(through, b.Through)
		return nil
	}))
	found := rounds(all)
	if len(found) != 21 || found[decision(50).RoundID] != datasets.Unknown || found[decision(7).RoundID] != datasets.Completed {
		t.Errorf("replayed %v, want 20 completed and one unknown", found)
	}
	if last := through[len(through)-1]; !slices.IsSorted(through) || len(through) < 3 || last != 902 {
		t.Errorf("sequences %v, want them in order, the last two behind 900", through)
	}
	down := errors.New("down")
	if err := j.Replay(func(Batch) error { return down }); !errors.Is(err, down) {
		t.Errorf("Replay = %v, want the caller's error", err)
	}
	if _, err := Open(t.TempDir(), Options{After: func() (uint64, error) { return 0, down }}); !errors.Is(err, down) {
		t.Errorf("Open = %v, want the error of After", err)
	}
}
