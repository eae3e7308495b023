package serving_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving"
)

// TestKeeper: at its start and every hour, an hour is merged once it is over and dropped once it is too old, and a failure
// is logged and tried again.
func TestKeeper(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log := must(datasets.OpenLog(filepath.Join(t.TempDir(), "log"), datasets.LogOptions{}))(t)
		n := 0
		seal := func() {
			n++
			id := datasets.RoundID(fmt.Sprintf("rnd_%d", n))
			now := time.Now()
			must(log.Seal([]datasets.Round{{Decision: datasets.Decision{RoundID: id, At: now}, Outcome: datasets.Outcome{RoundID: id, At: now}}}))(t)
		}
		parts := func(when string, want int) {
			t.Helper()
			if got := len(log.Parts()); got != want {
				t.Errorf("%s: %d parts, want %d", when, got, want)
			}
		}
		seal()
		seal()
		time.Sleep(2 * time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		var said strings.Builder
		var done sync.WaitGroup
		k := &serving.Keeper{Log: log, RetentionDays: 2, Logger: slog.New(slog.NewTextHandler(&said, nil))}
		done.Go(func() { k.Run(ctx) })
		synctest.Wait()
		parts("after the start", 1)
		seal()
		seal()
		time.Sleep(time.Minute)
		synctest.Wait()
		parts("in the open hour", 3)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		parts("when it is over", 2)
		time.Sleep(3 * 24 * time.Hour)
		synctest.Wait()
		parts("after three days", 0)
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		cancel()
		done.Wait()
		for _, want := range []string{"merged=2 into=1", "dropped=", "compacting the log failed; it is tried again", "the log is closed"} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("the keeper did not say %q:\n%s", want, said.String())
			}
		}
	})
}
