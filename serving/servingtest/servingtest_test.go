package servingtest

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// TestSeeds runs worlds: 100,000 of them at TRADEWIND_TEST_SCALE=1.
func TestSeeds(t *testing.T) {
	scale := 0.003
	if testing.Short() {
		scale = 0.0005
	}
	if s, err := strconv.ParseFloat(os.Getenv("TRADEWIND_TEST_SCALE"), 64); err == nil {
		scale = s
	}
	worlds, first := uint64(100_000*scale), uint64(0)
	if s, err := strconv.ParseUint(os.Getenv("TRADEWIND_TEST_SEED"), 10, 64); err == nil {
		first, worlds = s, 1
	}
	const shards = 4
	var done atomic.Uint64
	t.Run("shards", func(t *testing.T) {
		for shard := range uint64(shards) {
			t.Run(strconv.FormatUint(shard, 10), func(t *testing.T) {
				t.Parallel()
				for seed := first + shard; seed < first+worlds; seed += shards {
					if err := Run(t, seed, ""); err != nil {
						t.Error(err)
					}
					done.Add(1)
				}
			})
		}
	})
	if !t.Failed() {
		t.Logf("%d worlds, and the auditor has nothing to say", done.Load())
	}
}

// TestFoundOnce runs the worlds again in which the auditor had something to say once: that a stream was cut between what a vendor
// said last and the end of its connection.
func TestFoundOnce(t *testing.T) {
	for _, seed := range []uint64{80846} {
		if err := Run(t, seed, ""); err != nil {
			t.Error(err)
		}
	}
}

// TestTwins breaks one station after the other: the auditor catches each within a few worlds, and for what is wrong with it.
func TestTwins(t *testing.T) {
	for twin, want := range map[Twin]string{
		CheckThenAct: "has spent", BodyUnread: "heard of it", LateDecision: "the log has 0 rounds", OwnBreaker: "all has been well for minutes",
		OwnRetries: "was tried 9 times", Splicing: "no one call said that", CutShort: "bills to the end",
	} {
		t.Run(string(twin), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(400) {
				if err := Run(t, seed, twin); err != nil && strings.Contains(err.Error(), want) {
					return
				}
			}
			t.Error("nobody notices")
		})
	}
}
