package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/columnar"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/ledger"
)

// This file holds the ledger against the log. A data directory whose files come from two backups looks like any other.

// booksBytesMax is the largest log that doctor reads through for it.
const booksBytesMax = 1 << 30

// noBooks says so where the log holds rounds and no checkpoint says what they cost: a segment is booked before it is sealed, so
// the file was there.
func noBooks(s *serving.Sealer, dir string) []string {
	if s.Books.Through() > 0 || len(s.Log.Parts()) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s is missing, and the log holds rounds: what they cost counts against no budget; unless that is meant, stop, and put it back from a backup", checkpointOf(dir))}
}

func checkpointOf(dir string) string { return filepath.Join(dir, "ledger.json") }

// books compares what each key has spent by the ledger with what its rounds cost by the log. The log is read first, because a
// segment is booked before it is sealed: the ledger never knows less.
func (x *examination) books(ctx context.Context, dir string) {
	log := filepath.Join(dir, "log")
	logged, rounds, err := costs(ctx, log)
	sums, unread := serving.Spent(checkpointOf(dir), filepath.Join(dir, "journal"))
	switch {
	case unread != nil:
		x.add("ledger", levelFail, "nothing is served before it can be read", "%v", unread)
		return
	case errors.Is(err, errLong):
		x.add("ledger", levelOK, "", "the log is %v, and is not held against the ledger", err)
		return
	case !datasets.IsLog(log):
		return
	case err != nil:
		x.add("ledger", levelWarn, "tradewind data verify "+log, "the log cannot be held against the ledger: %v", err)
		return
	}
	var short []string
	all := catalog.Nanodollars(0)
	for _, key := range slices.Sorted(maps.Keys(logged)) {
		spent := sums.Of(ledger.Account("key", key, ledger.Total)).Settled
		if all += logged[key]; logged[key] > spent {
			short = append(short, fmt.Sprintf("%s (%s of %s USD)", key, spent, logged[key]))
		}
	}
	if len(short) > 0 {
		x.add("ledger", levelFail, "put the ledger.json back that belongs to this log, or take what it leaves out off the budgets until they start again",
			"ledger.json knows less than the log of what %d keys have spent: %s", len(short), some(short))
		return
	}
	x.add("ledger", levelOK, "", "it knows what the %d rounds of the log did cost: %s USD", rounds, all)
}

// errLong is a log beyond booksBytesMax.
var errLong = errors.New("larger than a gigabyte")

// costs adds up what the rounds of a log did cost each key.
func costs(ctx context.Context, dir string) (byKey map[string]catalog.Nanodollars, rounds int, err error) {
	l, err := datasets.OpenLog(dir, datasets.LogOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, err
	}
	size := int64(0)
	for _, p := range l.Parts() {
		size += p.Bytes
	}
	if size > booksBytesMax {
		return nil, 0, errLong
	}
	byKey = map[string]catalog.Nanodollars{}
	err = l.Columns(ctx, []string{"key_id", "cost_nanousd"}, func(b *columnar.Batch) error {
		rounds += b.Rows
		for i := range b.Rows {
			key, cost := b.Columns[0].Strings[i], catalog.Nanodollars(b.Columns[1].Ints[i])
			byKey[key] += min(max(0, cost), math.MaxInt64-byKey[key]) // as the ledger adds: what is full stays full
		}
		return nil
	})
	return byKey, rounds, err
}
