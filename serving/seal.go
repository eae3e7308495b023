package serving

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
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
		if err := s.seal(ctx, rotate); err != nil && ctx.Err() == nil {
			s.Logger.Error("sealing the log failed; it is tried again", "error", err)
		}
	}
}

// Finish rotates once more and seals everything; call it when no request is open.
func (s *Sealer) Finish(ctx context.Context) error { return s.seal(ctx, true) }

func (s *Sealer) seal(ctx context.Context, rotate bool) error {
	if rotate {
		if err := s.Journal.Rotate(); err != nil {
			return err
		}
	}
	return s.Journal.Seal(ctx, func(_ context.Context, b journal.Batch) error {
		if s.Books != nil { // first, so that a segment which the log refuses does not hold up the books of the next
			err := s.Books.Advance(b.Through, func(sums *ledger.Sums) { bookRounds(sums, b.Rounds) })
			if err != nil {
				return fmt.Errorf("serving: booking segment %s: %w", b.ID, err)
			}
		}
		if b.Orphans > 0 || b.Damaged > 0 {
			s.Logger.Error("a journal segment is damaged", "segment", b.ID, "orphans", b.Orphans, "damaged_bytes", b.Damaged)
		}
		var errs error
		if len(b.Rounds) > 0 {
			_, err := s.Log.Seal(b.Rounds)
			errs = errors.Join(errs, err)
		}
		if len(b.Feedback) > 0 && errs == nil {
			_, err := s.Log.SealFeedback(b.Feedback)
			errs = errors.Join(errs, err)
		}
		if errs != nil {
			return fmt.Errorf("serving: sealing segment %s: %w", b.ID, errs)
		}
		if s.Sealed != nil {
			s.Sealed()
		}
		return nil
	})
}

// Opening is what every owner had spent when the journal was opened: the checkpoint, and the rounds behind it, those among
// them that a crash cut off at their hold.
func Opening(c *ledger.Checkpoint, j *journal.Journal) (ledger.Sums, error) {
	sums := c.Sums()
	err := j.Replay(func(b journal.Batch) error {
		if b.Through > c.Through() {
			bookRounds(&sums, b.Rounds)
		}
		return nil
	})
	if err != nil {
		return ledger.Sums{}, fmt.Errorf("serving: rebuilding the ledger: %w", err)
	}
	return sums, nil
}

// bookRounds books rounds on their owners, who stand in the decision: no account needs to be journaled.
func bookRounds(sums *ledger.Sums, rounds []datasets.Round) {
	for i := range rounds {
		d, o := &rounds[i].Decision, &rounds[i].Outcome
		sums.Settle("key", d.KeyID, o.At, o.Cost)
		if d.Team != "" {
			sums.Settle("team", governance.TeamOwner(d.Org, d.Team), o.At, o.Cost)
		}
		if d.Org != "" {
			sums.Settle("org", d.Org, o.At, o.Cost)
		}
	}
}
