package serving

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/journal"
)

// Sealer moves closed journal segments into the Parquet log, off the path of requests.
type Sealer struct {
	Journal *journal.Journal
	Log     *datasets.Log
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
