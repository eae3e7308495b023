package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk"
)

type compactCmd struct {
	Dir           string `arg:"" help:"Log folder (in the data directory: log)." type:"existingdir"`
	RetentionDays int    `help:"Drop the parts whose newest row is older; 0 keeps all." default:"0"`
	JSON          bool   `help:"Print what was done as JSON."`
}

// Run compacts a log.
func (c *compactCmd) Run(ctx context.Context, m *Main) (err error) {
	if !datasets.IsLog(c.Dir) {
		return fmt.Errorf("%s is no log: it holds no manifest.jsonl", c.Dir)
	}
	log, err := openLogAlone(c.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	p := newProgress(m.Stderr)
	defer p.Done()
	done, err := log.Compact(ctx, datasets.CompactOptions{
		RetentionDays: c.RetentionDays, Progress: func(done, total int64) { p.Set("merging", done, total) },
	})
	if err != nil {
		return err
	}
	p.Done()
	if c.JSON {
		return writeJSON(m.Stdout, done)
	}
	_, err = fmt.Fprintf(m.Stdout, "%s: %d parts; %d were merged into %d, %d dropped (%d rows); %d files that were superseded before are removed\n",
		c.Dir, done.Parts, done.Merged, done.Into, done.Dropped, done.DroppedRows, done.Removed)
	return err
}

// openLogAlone opens a log for writing, which one process may do at a time.
func openLogAlone(dir string) (*datasets.Log, error) {
	log, err := datasets.OpenLog(dir, datasets.LogOptions{})
	var busy *disk.InUseError
	if errors.As(err, &busy) {
		return nil, fmt.Errorf("the log %s is in use by process %d; a server compacts its own, so there is nothing to do, or stop it first", dir, busy.PID)
	}
	return log, err
}
