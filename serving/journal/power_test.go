package journal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk/disktest"
	"github.com/tradewind-llm/tradewind/serving/journal"
)

// P2 at the journal, in virtual time: under write a power loss costs what was acknowledged in the last 5 ms and nothing
// before, under always nothing at all. What is left is whole, each outcome with its decision.

const syncWindow = 5 * time.Millisecond

// acks are when decision and outcome of a round were acknowledged.
type acks struct{ decided, ended time.Time }

// lose runs a journal until its process dies in the given operation, takes the power and says what is wrong with the rest.
func lose(random *rand.Rand, mode journal.Sync, every time.Duration, dieAt int) error {
	d := disktest.New()
	p := d.Process()
	p.DieAt(dieAt)
	rounds := map[datasets.RoundID]*acks{}
	j, err := journal.Open("/j", journal.Options{FS: p, Sync: mode, SyncEvery: every, SegmentMaxBytes: 20_000})
	for n := 0; err == nil && n < 200; n++ {
		time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
		id := datasets.RoundID(fmt.Sprintf("rnd_%d", n))
		rounds[id] = &acks{}
		if err = j.AppendDecision(context.Background(), &datasets.Decision{RoundID: id, Hold: 7}); err != nil {
			break
		}
		rounds[id].decided = time.Now()
		ending := datasets.RoundID(fmt.Sprintf("rnd_%d", max(0, n-random.IntN(5)))) // some stay open
		if a := rounds[ending]; a != nil && a.ended.IsZero() {
			if err = j.AppendOutcome(context.Background(), &datasets.Outcome{RoundID: ending, Status: datasets.Completed}); err == nil {
				a.ended = time.Now()
			}
		}
	}
	died := p.DiedAt()
	if died.IsZero() {
		died = time.Now()
	}
	if j != nil {
		_ = j.Close()
	}
	if random.IntN(2) == 0 { // the machine goes on, and the next process builds on what this one has not synced
		p.Kill()
		next, err := journal.Open("/j", journal.Options{FS: d.Process(), Sync: mode})
		if err != nil {
			return err
		}
		time.Sleep(2 * syncWindow)
		died = time.Now()
		defer next.Close()
	}
	d.PowerLoss(random, []float64{0, 0.5, 1}[random.IntN(3)])
	if j, err = journal.Open("/j", journal.Options{FS: d.Process()}); err != nil {
		return err
	}
	defer j.Close()
	left := map[datasets.RoundID]datasets.Status{}
	err = j.Replay(func(b journal.Batch) error {
		for _, r := range b.Rounds {
			if left[r.Decision.RoundID] != "" || r.Decision.Hold != 7 || rounds[r.Decision.RoundID] == nil {
				return fmt.Errorf("%s twice, or not as it was written", r.Decision.RoundID)
			}
			left[r.Decision.RoundID] = r.Outcome.Status
		}
		return nil
	})
	if err != nil {
		return err
	}
	safe := func(at time.Time) bool {
		return !at.IsZero() && (mode == journal.Always || died.Sub(at) > syncWindow)
	}
	for id, a := range rounds {
		switch status := left[id]; {
		case safe(a.decided) && status == "":
			return fmt.Errorf("%s, decided %v before the power went, is lost", id, died.Sub(a.decided))
		case safe(a.ended) && status != datasets.Completed:
			return fmt.Errorf("%s, ended %v before the power went, is %q", id, died.Sub(a.ended), status)
		}
	}
	return nil
}

func TestPowerLoss(t *testing.T) {
	for _, mode := range []journal.Sync{journal.Write, journal.Always} {
		for seed := range uint64(max(100, 40_000*scale())) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 3))
				if err := lose(random, mode, 0, 1+random.IntN(600)); err != nil {
					t.Fatalf("seed %d, mode %s: %v", seed, mode, err)
				}
			})
		}
	}
}

// A journal that syncs four times as seldom as it says must be seen to lose more.
func TestPowerLossCatchesALateSync(t *testing.T) {
	for seed := range uint64(200) {
		caught := false
		synctest.Test(t, func(*testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			caught = lose(random, journal.Write, 4*syncWindow, 1+random.IntN(600)) != nil
		})
		if caught {
			return
		}
	}
	t.Error("200 losses of a journal that syncs too late, and nothing was missed")
}
