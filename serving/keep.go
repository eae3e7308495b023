package serving

import (
	"context"
	"log/slog"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
)

// Keeper compacts the sealed log and drops what is older than its owner wants to keep, beside requests and sealing: it
// shares no lock with a request, holds the log's for the moment of a manifest line, and takes half of one core at most; with
// Merge set, only of what nobody else wants.
type Keeper struct {
	Log *datasets.Log
	// RetentionDays is how long sealed rounds and feedback are kept; 0 is for ever.
	RetentionDays int
	// Every is the time between two passes; zero is an hour. The first is made at once.
	Every  time.Duration
	Logger *slog.Logger
	// Merge is datasets.CompactOptions.Merge.
	Merge func(context.Context, datasets.MergeJob) (datasets.Prepared, error)
}

// Run keeps the log until the context ends.
func (k *Keeper) Run(ctx context.Context) {
	every := k.Every
	if every == 0 {
		every = time.Hour
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		c, err := k.Log.Compact(ctx, datasets.CompactOptions{RetentionDays: k.RetentionDays, Gentle: true, Merge: k.Merge})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			k.Logger.Error("compacting the log failed; it is tried again", "error", err)
		}
		if c.Merged+c.Dropped > 0 {
			k.Logger.Info("compacted the log", "merged", c.Merged, "into", c.Into, "dropped", c.Dropped, "parts", c.Parts)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
