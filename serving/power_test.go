package serving_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk/disktest"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// P2: the power goes at any operation on the disk, and of what was not synced any part is lost. The journal, the log, the
// checkpoint and the sealer are the real ones, on a disk in memory; the auditor keeps its own books by round and shares no
// code with them. What mode write may lose, and when, is tested with the journal, in virtual time.

// audited is what the auditor knows of a round. Places in time are counted in acknowledgements, and 0 is never.
type audited struct {
	seen   bool // by the vendor
	holds  []claim
	cost   claim
	ending bool
	scored int
}

type claim struct {
	amount catalog.Nanodollars
	at     int
}

// twin is a way to be wrong; the zero value is the real thing.
type twin struct {
	unsynced    bool // syncs are left out
	vendorFirst bool // the vendor hears of a round before its decision is on record
	deleteFirst bool // a segment is deleted although its part was not sealed
}

// plant is a data directory on a disk, the process that serves on it, and the auditor.
type plant struct {
	random *rand.Rand
	mode   journal.Sync
	twin   twin
	disk   *disktest.Disk
	books  map[datasets.RoundID]*audited
	order  []datasets.RoundID
	n      int
	// clock counts acknowledgements, closing is the last that gives a segment something to seal, and sealed where closing
	// stood when all was sealed: what came before is synced in any mode.
	clock, closing, sealed int

	process *disktest.Process
	journal *journal.Journal
	log     *datasets.Log
	sums    *ledger.Checkpoint
	sealer  *serving.Sealer
	// died is when the process of the work died, synced the place up to which all was sealed by then, and power says that
	// the power went then or before the next process stood.
	died, synced int
	power        bool
}

// start opens the data directory as the program does.
func (p *plant) start() (err error) {
	p.process.Unsynced = p.twin.unsynced
	if p.journal, err = journal.Open("/data/journal", journal.Options{
		FS: p.process, Sync: p.mode, SegmentMaxBytes: 10_000, SyncEvery: 100 * time.Microsecond,
		After: func() (uint64, error) {
			if p.sums, err = ledger.OpenCheckpoint(p.process, "/data/ledger.json"); err != nil {
				return 0, err
			}
			return p.sums.Through(), nil
		},
	}); err != nil {
		return err
	}
	if p.log, err = datasets.OpenLog("/data/log", datasets.LogOptions{FS: p.process}); err != nil {
		err = errors.Join(err, p.journal.Close())
		p.journal = nil
		return err
	}
	p.sealer = &serving.Sealer{Journal: p.journal, Log: p.log, Books: p.sums, Logger: slog.New(slog.DiscardHandler)}
	return nil
}

func (p *plant) close() error { return errors.Join(p.journal.Close(), p.log.Close()) }

// work is a day of one process: rounds begin, have their holds raised, end and are scored, and now and then all is sealed.
func (p *plant) work(steps int) error {
	ctx := context.Background()
	for range steps {
		switch k := p.random.IntN(20); {
		case k < 9:
			if err := p.decide(ctx); err != nil {
				return err
			}
		case k < 16:
			if err := p.end(ctx); err != nil {
				return err
			}
		case k < 17:
			if err := p.raise(ctx); err != nil {
				return err
			}
		case k < 19:
			if err := p.score(ctx); err != nil {
				return err
			}
		default:
			if err := p.seal(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *plant) seal(ctx context.Context) error {
	if !p.twin.deleteFirst {
		err := p.sealer.Finish(ctx)
		if err == nil {
			p.sealed = p.closing
		}
		if err == nil && p.random.IntN(2) == 0 { // a few hours later, as far as the log knows
			_, err = p.log.Compact(ctx, datasets.CompactOptions{Now: time.Now().Add(3 * time.Hour)})
		}
		return err
	}
	return errors.Join(p.journal.Rotate(), p.journal.Seal(ctx, func(context.Context, journal.Closed) (bool, error) { return false, nil }))
}

// now is the place of an acknowledgement.
func (p *plant) now() int {
	p.clock++
	return p.clock
}

func (p *plant) decision(id datasets.RoundID, hold catalog.Nanodollars) *datasets.Decision {
	return &datasets.Decision{
		RoundID: id, DrawID: id, At: datasets.Instant(time.Now()), KeyID: "k", Org: "o", Hold: hold, Action: "a/b", Propensity: 1,
		Propensities: []float64{}, Prompt: strings.Repeat(string(id)+" ", 8),
	}
}

func (p *plant) decide(ctx context.Context) error {
	p.n++
	id := datasets.RoundID(fmt.Sprintf("rnd_%d", p.n))
	a := &audited{seen: p.twin.vendorFirst, holds: []claim{{amount: catalog.Nanodollars(1000 + p.n)}}}
	p.books[id], p.order = a, append(p.order, id)
	if err := p.journal.AppendDecision(ctx, p.decision(id, a.holds[0].amount)); err != nil {
		return err
	}
	a.holds[0].at, a.seen = p.now(), true
	return nil
}

// open picks a round that was decided and not ended.
func (p *plant) open() (datasets.RoundID, *audited) {
	for range 8 {
		if len(p.order) == 0 {
			break
		}
		id := p.order[p.random.IntN(len(p.order))]
		if a := p.books[id]; !a.ending {
			return id, a
		}
	}
	return "", nil
}

func (p *plant) raise(ctx context.Context) error {
	id, a := p.open()
	if a == nil {
		return nil
	}
	more := claim{amount: a.holds[len(a.holds)-1].amount + 100}
	a.holds = append(a.holds, more)
	if err := p.journal.RaiseHold(ctx, p.decision(id, more.amount)); err != nil {
		return err
	}
	a.holds[len(a.holds)-1].at = p.now()
	return nil
}

func (p *plant) end(ctx context.Context) error {
	id, a := p.open()
	if a == nil {
		return nil
	}
	a.ending, a.cost.amount = true, catalog.Nanodollars(1+p.random.IntN(900))
	o := &datasets.Outcome{RoundID: id, At: datasets.Instant(time.Now()), Status: datasets.Completed, Served: "a/b", Cost: a.cost.amount, CostStatus: datasets.CostFinal}
	if err := p.journal.AppendOutcome(ctx, o); err != nil {
		return err
	}
	a.cost.at = p.now()
	p.closing = p.clock
	return nil
}

func (p *plant) score(ctx context.Context) error {
	if len(p.order) == 0 {
		return nil
	}
	id := p.order[p.random.IntN(len(p.order))]
	if err := p.journal.AppendFeedback(ctx, &datasets.Feedback{RoundID: id, Source: "user", Score: 1, At: datasets.Instant(time.Now())}); err != nil {
		return err
	}
	if p.closing = p.now(); p.books[id].scored == 0 {
		p.books[id].scored = p.clock
	}
	return nil
}

// crash ends the process, by a kill or by the power, and starts the next; that one may die while it recovers.
func (p *plant) crash() error {
	p.died, p.synced, p.power, p.order = p.clock, p.sealed, false, nil
	for deaths := 0; ; deaths++ {
		p.process.Kill()
		if p.journal != nil {
			_ = p.close() // ends its goroutine; the disk refuses it everything
			p.journal = nil
		}
		if p.random.IntN(4) > 0 {
			p.power = true
			p.disk.PowerLoss(p.random, []float64{0, 0.5, 0.9, 1}[p.random.IntN(4)])
		}
		p.process = p.disk.Process()
		if deaths < 2 && p.random.IntN(3) == 0 {
			p.process.DieAt(1 + p.random.IntN(20))
		}
		switch err := p.start(); {
		case err == nil:
			return nil
		case !p.process.Dead():
			return fmt.Errorf("the next process does not start: %w", err)
		}
	}
}

// safe reports whether what was acknowledged at an instant had to survive.
func (p *plant) safe(at int) bool {
	return at > 0 && (p.mode == journal.Always || !p.power || at > p.died || at <= p.synced)
}

// live is one life of the plant: work until the power or a kill ends it, recovery, some more work, a clean end, and the
// audit. It returns what the auditor has to say.
func (p *plant) live(dieAt int) error {
	p.process.DieAt(dieAt)
	err := p.start()
	if err == nil {
		err = p.work(50)
	}
	if err != nil && !p.process.Dead() {
		return err
	}
	if err := p.crash(); err != nil {
		return err
	}
	before := p.n
	opening, err := p.again()
	if err == nil {
		err = p.work(10)
	}
	if err == nil {
		err = p.sealer.Finish(context.Background())
	}
	if p.journal != nil {
		err = errors.Join(err, p.close())
	}
	if p.process.Dead() { // it was told to, and had started all the same
		return nil
	}
	p.process = p.disk.Process()
	if err = errors.Join(err, p.start()); err != nil {
		return err
	}
	defer p.close()
	if err := p.sealer.Finish(context.Background()); err != nil { // what was open at the end
		return err
	}
	return p.audit(before, opening)
}

// again recovers once more, which must change nothing, and says what the ledger begins with.
func (p *plant) again() (catalog.Nanodollars, error) {
	key := ledger.Account("key", "k", ledger.Total)
	first, err := serving.Opening(p.sums, p.journal)
	if err = errors.Join(err, p.close()); err == nil {
		err = p.start()
	}
	if err != nil {
		return 0, err
	}
	second, err := serving.Opening(p.sums, p.journal)
	if err != nil {
		return 0, err
	}
	if r := p.journal.Recovered(); len(r.Unknown) > 0 || r.TornBytes > 0 || first.Of(key) != second.Of(key) {
		return 0, fmt.Errorf("the second recovery found %d open rounds and %d torn bytes and %v where the first had %v",
			len(r.Unknown), r.TornBytes, second.Of(key), first.Of(key))
	}
	return second.Of(key).Settled, nil
}

// audit compares the sealed log with the books: every round that must be there is, once, whole, with the outcome that was
// acknowledged; nothing else is; and the ledger has what the rounds cost, then and now.
func (p *plant) audit(before int, opening catalog.Nanodollars) error {
	ctx := context.Background()
	found, cost, old := map[datasets.RoundID]bool{}, catalog.Nanodollars(0), catalog.Nanodollars(0)
	err := p.log.Rounds(ctx, func(rounds []datasets.Round) error {
		for i := range rounds {
			r := &rounds[i]
			id := r.Decision.RoundID
			a := p.books[id]
			if a == nil || found[id] {
				return fmt.Errorf("%s stands in the log and nobody asked for it, or twice", id)
			}
			found[id] = true
			if err := p.judge(a, r); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			cost += r.Outcome.Cost
			if n, _ := strconv.Atoi(strings.TrimPrefix(string(id), "rnd_")); n <= before {
				old += r.Outcome.Cost
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	feedback, err := p.log.LastFeedback(ctx)
	if err != nil {
		return err
	}
	for id, a := range p.books {
		if decided := a.holds[0].at; !found[id] && a.seen && (decided == 0 || p.safe(decided)) {
			return fmt.Errorf("%s was seen by the vendor and is not in the log", id)
		}
		if p.safe(a.scored) && len(feedback[id]) == 0 {
			return fmt.Errorf("the feedback on %s is lost", id)
		}
	}
	sums := p.sums.Sums()
	if got := sums.Of(ledger.Account("key", "k", ledger.Total)).Settled; got != cost || opening != old {
		return fmt.Errorf("the ledger has %s settled and began with %s; the rounds cost %s, the old ones %s", got, opening, cost, old)
	}
	orphans, err := p.log.Orphans()
	if len(orphans) > 0 {
		err = fmt.Errorf("files that no line vouches for: %v", orphans)
	}
	return errors.Join(err, p.log.Verify(ctx))
}

// judge compares one round with what is known of it.
func (p *plant) judge(a *audited, r *datasets.Round) error {
	allowed := map[catalog.Nanodollars]bool{}
	for _, h := range a.holds {
		if p.safe(h.at) {
			clear(allowed)
		}
		allowed[h.amount] = true
	}
	id := r.Decision.RoundID
	switch o := &r.Outcome; {
	case r.Decision.Prompt != p.decision(id, 0).Prompt || o.RoundID != id:
		return errors.New("it is not what was written")
	case !allowed[r.Decision.Hold]:
		return fmt.Errorf("its hold is %s, want one of %v", r.Decision.Hold, allowed)
	case o.Status == datasets.Completed && (!a.ending || o.Cost != a.cost.amount):
		return fmt.Errorf("it cost %s, and ended at %s", o.Cost, a.cost.amount)
	case o.Status == datasets.Unknown && (p.safe(a.cost.at) || o.Cost != r.Decision.Hold):
		return fmt.Errorf("it is unknown at %s with a hold of %s, though it ended: %v", o.Cost, r.Decision.Hold, a.cost)
	case o.Status != datasets.Completed && o.Status != datasets.Unknown:
		return fmt.Errorf("it is %s", o.Status)
	}
	return nil
}

// point is one crash: what is done, when the power goes and what is lost follow from the seed.
func point(seed uint64, mode journal.Sync, w twin) error {
	random := rand.New(rand.NewPCG(seed, 2))
	d := disktest.New()
	p := &plant{random: random, mode: mode, twin: w, disk: d, books: map[datasets.RoundID]*audited{}, process: d.Process()}
	return p.live(1 + random.IntN(200))
}

// testScale is TRADEWIND_TEST_SCALE, 0.01 where it is not set.
func testScale() float64 {
	if s, err := strconv.ParseFloat(os.Getenv("TRADEWIND_TEST_SCALE"), 64); err == nil {
		return s
	}
	return 0.01
}

func TestPowerLoss(t *testing.T) {
	points := uint64(20_000 * testScale())
	if testing.Short() { // under the race detector, which looks at how and not at what
		points /= 4
	}
	const shards = 4
	var done atomic.Uint64
	t.Run("shards", func(t *testing.T) {
		for shard := range uint64(shards) {
			t.Run(strconv.FormatUint(shard, 10), func(t *testing.T) {
				t.Parallel()
				for seed := shard; seed < points; seed += shards {
					mode := []journal.Sync{journal.Write, journal.Always}[seed/shards%2]
					if err := point(seed, mode, twin{}); err != nil {
						t.Fatalf("seed %d, mode %s: %v", seed, mode, err)
					}
					done.Add(1)
				}
			})
		}
	})
	t.Logf("%d crashes, nothing lost that was promised", done.Load())
}

// The auditor must see what a wrong program loses, or the test above says nothing.
func TestPowerLossCatchesTwins(t *testing.T) {
	for name, w := range map[string]twin{
		"an fsync left out under always":              {unsynced: true},
		"the vendor is called before the decision":    {vendorFirst: true},
		"a segment is deleted before its part stands": {deleteFirst: true},
	} {
		caught := error(nil)
		for seed := uint64(0); seed < 100 && caught == nil; seed++ {
			caught = point(seed, journal.Always, w)
		}
		if caught == nil {
			t.Errorf("%s: 100 crashes, and the auditor saw nothing", name)
		} else {
			t.Logf("%s: %v", name, caught)
		}
	}
}
