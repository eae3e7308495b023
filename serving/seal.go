package serving

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// Sealer moves closed journal segments into the Parquet log, off the path of requests.
type Sealer struct {
	Journal *journal.Journal
	Log     *datasets.Log
	// Books sums up what each owner spent before a segment is deleted; nil keeps no books.
	Books *ledger.Checkpoint
	// Every is how often the journal is rotated where its segments do not fill up; zero is 10 minutes.
	Every time.Duration
	// Closed wakes the sealer when a segment was closed; nil is never.
	Closed <-chan struct{}
	Logger *slog.Logger
	// Prepare does a SealJob, as the job's own Do does, in another process, where it cannot slow a request; nil is in this one,
	// and so is what fails there.
	Prepare func(context.Context, SealJob) (Prepared, error)
	// Sealed is told of each segment; nil is nobody.
	Sealed func()
}

// Run seals until the context ends.
func (s *Sealer) Run(ctx context.Context) {
	every := s.Every
	if every == 0 {
		every = 10 * time.Minute
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		rotate := false
		select {
		case <-ctx.Done():
			return
		case <-s.Closed:
		case <-tick.C:
			rotate = true
		}
		if err := s.seal(ctx, rotate, false); err != nil && ctx.Err() == nil {
			s.Logger.Error("sealing the log failed; it is tried again", "error", err)
		}
	}
}

// Seal rotates and seals everything.
func (s *Sealer) Seal(ctx context.Context) error { return s.seal(ctx, true, false) }

// Finish is Seal in haste: it yields to nobody. Call it when no request is open.
func (s *Sealer) Finish(ctx context.Context) error { return s.seal(ctx, true, true) }

func (s *Sealer) seal(ctx context.Context, rotate, urgent bool) error {
	if rotate {
		if err := s.Journal.Rotate(); err != nil {
			return err
		}
	}
	return s.Journal.Seal(ctx, func(ctx context.Context, c journal.Closed) (bool, error) { return s.sealOne(ctx, c, urgent) })
}

// sealOne moves one segment. Its books come first, so that a segment which the log refuses does not hold up those of the
// next.
func (s *Sealer) sealOne(ctx context.Context, c journal.Closed, urgent bool) (damaged bool, err error) {
	var rounds journal.Batch
	job := SealJob{Segment: c.Path, Log: s.Log.Dir(), Name: datasets.TempName(), Urgent: urgent || c.Behind >= urgentBehind}
	p, outside := s.outside(ctx, job)
	if !outside {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if rounds, err = c.Read(); err != nil {
			return false, err
		}
		p = summary(&rounds)
	}
	damaged = p.Orphans > 0 || p.Damaged > 0
	if s.Books != nil && p.Rows > 0 {
		if err := s.Books.Advance(p.Through, func(sums *ledger.Sums) { book(sums, p.Bookings) }); err != nil {
			s.Log.Discard(job.Name)
			return damaged, fmt.Errorf("serving: booking segment %s: %w", c.ID, err)
		}
	}
	if damaged {
		s.Logger.Error("a journal segment is damaged", "segment", c.ID, "orphans", p.Orphans, "damaged_bytes", p.Damaged)
	}
	if outside {
		_, err = s.Log.Adopt(p.Parts)
	} else if _, err = s.Log.Seal(rounds.Rounds); err == nil {
		_, err = s.Log.SealFeedback(rounds.Feedback)
	}
	if err != nil {
		return damaged, fmt.Errorf("serving: sealing segment %s: %w", c.ID, err)
	}
	if s.Sealed != nil && p.Rows > 0 {
		s.Sealed()
	}
	return damaged, nil
}

// outside has the job done in another process, and reports whether it was.
func (s *Sealer) outside(ctx context.Context, j SealJob) (Prepared, bool) {
	if s.Prepare == nil {
		return Prepared{}, false
	}
	p, err := s.Prepare(ctx, j)
	rows := int64(0)
	for i := range p.Parts {
		rows += p.Parts[i].Part.Rows
	}
	if err == nil && rows == int64(p.Rows) {
		return p, true
	}
	s.Log.Discard(j.Name)
	return Prepared{}, false
}

// SealJob is the heavy half of moving one closed segment.
type SealJob struct {
	// Segment is the segment's file, Log the folder of the log, Name what the names of new files in it begin with.
	Segment string `json:"segment"`
	Log     string `json:"log"`
	Name    string `json:"name"`
	// Urgent says that no request waits, or that segments pile up: then requests wait for them rather than fill the disk.
	Urgent bool `json:"urgent"`
}

// urgentBehind is how many more segments wait when sealing becomes urgent.
const urgentBehind = 16

// Prepared is what comes of a SealJob: parts that wait for their line in the manifest, and what the segment says otherwise.
type Prepared struct {
	Parts []datasets.Prepared `json:"parts"`
	// Rows counts rounds and feedback together, Bookings are what the rounds cost.
	Rows     int       `json:"rows"`
	Bookings []Booking `json:"bookings"`
	// Through, Orphans and Damaged are the journal.Batch's.
	Through uint64 `json:"through"`
	Orphans int    `json:"orphans"`
	Damaged int    `json:"damaged"`
}

// Do reads the segment and prepares its parts. It takes no lock and changes nothing but files of that name.
func (j SealJob) Do() (Prepared, error) {
	b, err := journal.ReadClosed(j.Segment)
	if err != nil {
		return Prepared{}, err
	}
	p := summary(&b)
	p.Parts, err = datasets.Prepare(j.Log, j.Name, b.Rounds, b.Feedback)
	return p, err
}

// summary is all that a segment says but its rows.
func summary(b *journal.Batch) Prepared {
	return Prepared{
		Rows: len(b.Rounds) + len(b.Feedback), Bookings: bookings(b.Rounds), Through: b.Through, Orphans: b.Orphans, Damaged: b.Damaged,
	}
}

// Opening is what every owner had spent when the journal was opened: the checkpoint, and the rounds behind it, those among
// them that a crash cut off at their hold.
func Opening(c *ledger.Checkpoint, j *journal.Journal) (ledger.Sums, error) {
	sums, err := behind(c, j.Replay)
	if err != nil {
		return ledger.Sums{}, fmt.Errorf("serving: rebuilding the ledger: %w", err)
	}
	return sums, nil
}

// Spent is what every owner has settled by now, read beside a server that may be at work: from the file of its checkpoint
// and the folder of its journal. Requests that have not ended are not in it.
func Spent(checkpoint, dir string) (ledger.Sums, error) {
	for try := 0; ; try++ {
		before, err := ledger.OpenCheckpoint(nil, checkpoint)
		if err != nil {
			return ledger.Sums{}, err
		}
		sums, err := behind(before, func(fn func(journal.Batch) error) error { return journal.Peek(dir, fn) })
		after, again := ledger.OpenCheckpoint(nil, checkpoint)
		if again != nil {
			return ledger.Sums{}, again
		}
		// A segment that was sealed meanwhile would be missed or counted twice.
		if after.Through() == before.Through() && !errors.Is(err, fs.ErrNotExist) || try == spentTries {
			return sums, err
		}
	}
}

// spentTries is how often Spent begins anew where segments are sealed under its hands.
const spentTries = 10

// behind adds to a checkpoint's sums the rounds of a journal that it does not know.
func behind(c *ledger.Checkpoint, replay func(func(journal.Batch) error) error) (ledger.Sums, error) {
	sums := c.Sums()
	err := replay(func(b journal.Batch) error {
		if b.Through > c.Through() {
			book(&sums, bookings(b.Rounds))
		}
		return nil
	})
	return sums, err
}

// Booking is what rounds cost whoever asked for them: some that follow each other and ended on one day.
type Booking struct {
	Key  string              `json:"key"`
	Team string              `json:"team,omitempty"`
	Org  string              `json:"org,omitempty"`
	At   time.Time           `json:"at"`
	Cost catalog.Nanodollars `json:"cost_usd"`
}

// bookings adds up what rounds cost their owners, who stand in the decision: no account needs to be journaled. To book them
// gives the same sums as to book round by round, because no window ends within a day and days keep their order: a round
// that comes late, from before a window that runs, is counted in the one that runs.
func bookings(rounds []datasets.Round) []Booking {
	type owners struct{ key, team, org string }
	var all []Booking
	var day time.Time
	at := map[owners]int{}
	for i := range rounds {
		d, o := &rounds[i].Decision, &rounds[i].Outcome
		if start, _ := ledger.Day.Bounds(o.At); !start.Equal(day) {
			day = start
			clear(at)
		}
		who := owners{d.KeyID, d.Team, d.Org}
		n, ok := at[who]
		if !ok {
			n = len(all)
			at[who] = n
			all = append(all, Booking{Key: d.KeyID, Team: d.Team, Org: d.Org, At: o.At})
		}
		sum := &all[n].Cost
		*sum += min(max(0, o.Cost), math.MaxInt64-*sum) // as ledger.Sums does: what is full stays full
	}
	return all
}

func book(sums *ledger.Sums, all []Booking) {
	for _, b := range all {
		sums.Settle("key", b.Key, b.At, b.Cost)
		if b.Team != "" {
			sums.Settle("team", governance.TeamOwner(b.Org, b.Team), b.At, b.Cost)
		}
		if b.Org != "" {
			sums.Settle("org", b.Org, b.At, b.Cost)
		}
		sums.Settle(poolScope(governance.All), governance.All, b.At, b.Cost)
	}
}
