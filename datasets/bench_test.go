package datasets

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets/columnar"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// rate reports rows a second.
func rate(b *testing.B, rows int) {
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkReadTable(b *testing.B) {
	rows := bigRows(10_000, 10)
	path := filepath.Join(b.TempDir(), "t.parquet")
	writeTable(b, path, rows)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadTable(context.Background(), path, ReadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	rate(b, len(rows))
}

// BenchmarkReadMillion reports the memory that reading 1,000,000 rows leaves the process with.
func BenchmarkReadMillion(b *testing.B) {
	path := filepath.Join(b.TempDir(), "t.parquet")
	w, err := CreateTable(path)
	if err != nil {
		b.Fatal(err)
	}
	rows := bigRows(100_000, 10)
	if err := w.Write(rows); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	rows = nil
	runtime.GC()
	for b.Loop() {
		if _, err := ReadTable(context.Background(), path, ReadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	rate(b, 1_000_000)
}

// BenchmarkReadSample keeps a tenth of a table's prompts.
func BenchmarkReadSample(b *testing.B) {
	rows := bigRows(10_000, 10)
	path := filepath.Join(b.TempDir(), "t.parquet")
	writeTable(b, path, rows)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadTable(context.Background(), path, ReadOptions{PromptsMax: 1000}); err != nil {
			b.Fatal(err)
		}
	}
	rate(b, len(rows))
}

func BenchmarkReadCSV(b *testing.B) {
	rows := bigRows(2_000, 10)
	path := filepath.Join(b.TempDir(), "t.csv")
	writeFile(b, path, csvOf(rows))
	for b.Loop() {
		if _, err := ReadTable(context.Background(), path, ReadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	rate(b, len(rows))
}

// BenchmarkReadBench reads a real table; see TRADEWIND_DATA.
func BenchmarkReadBench(b *testing.B) {
	dir := os.Getenv("TRADEWIND_DATA")
	if dir == "" {
		b.Skip("TRADEWIND_DATA does not name the folder of the benchmark tables")
	}
	rows := 0
	for b.Loop() {
		t, err := ReadTable(context.Background(), filepath.Join(dir, "api-mix", "train.parquet"), ReadOptions{})
		if err != nil {
			b.Fatal(err)
		}
		rows = len(t.Score)
	}
	rate(b, rows)
}

func BenchmarkWriteTable(b *testing.B) {
	rows := bigRows(10_000, 10)
	path := filepath.Join(b.TempDir(), "t.parquet")
	b.ReportAllocs()
	for b.Loop() {
		writeTable(b, path, rows)
	}
	rate(b, len(rows))
}

// busyRounds are rounds as a gateway with ten arms logs them.
func busyRounds(n int) []Round {
	rng := rand.New(rand.NewPCG(5, 6))
	rounds := sampleRounds(n)
	for i := range rounds {
		d, o := &rounds[i].Decision, &rounds[i].Outcome
		millionths := func() float64 { return float64(rng.IntN(1e6)) / 1e6 }
		d.Case, d.Propensities = policy.Case{Explore: true, Epsilon: 0.02, Lambda: 12.5, Pinned: -1, Reference: -1}, nil
		for j := range 10 {
			d.Case.Candidates = append(d.Case.Candidates, policy.Candidate{
				Arm: catalog.ArmID(fmt.Sprintf("vendor/model-%d", j)), Quality: millionths(), QualityErr: millionths(), Score: millionths(), Gap: millionths(),
				GapErr: millionths(), OutputTokens: float64(rng.IntN(1000)), CostUSD: millionths(), CostUpperUSD: millionths(), Priced: true,
				LatencyMS: 1000 * millionths(), LatencyP90MS: 2000 * millionths(), Availability: 1,
			})
			d.Propensities = append(d.Propensities, millionths())
		}
		d.RequestID, d.Org, d.Team, d.KeyID, d.Requested, d.RouterVersion = fmt.Sprintf("req-%d", rng.Uint64()), "acme", "a", "key-1", "auto", "tw1-0"
		d.Features = make([]byte, 300)
		for k := range d.Features {
			d.Features[k] = byte(rng.IntN(50))
		}
		ms := 1000 * millionths()
		o.TTFTMS = &ms
		o.Attempts = []Attempt{{Arm: d.Case.Candidates[0].Arm, StartedAt: d.At, Outcome: "ok", HTTPStatus: 200, FirstTokenMS: &ms, TotalMS: 2 * ms, Cost: o.Cost}}
		for _, at := range []*time.Time{&d.At, &o.At, &o.Attempts[0].StartedAt} {
			*at = at.Truncate(time.Microsecond)
		}
	}
	return rounds
}

// BenchmarkSeal seals what a journal segment of 8 MiB holds. CPU time is that of all threads, the collector's too, which
// tells more than the wall's on a machine that others use.
func BenchmarkSeal(b *testing.B) {
	rounds := busyRounds(1800)
	l := openLog(b, b.TempDir())
	used := cpuTime(b)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range rounds { // other rounds, or there is nothing to do
			rounds[i].Decision.RoundID = RoundID(fmt.Sprintf("rnd_%d_%d", n, i))
			rounds[i].Outcome.RoundID = rounds[i].Decision.RoundID
		}
		n++
		if _, err := l.Seal(rounds); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime(b)-used).Microseconds())/float64(n*len(rounds)), "cpu-µs/round")
	rate(b, len(rounds))
}

// BenchmarkCompact merges four parts of an hour.
func BenchmarkCompact(b *testing.B) {
	rounds := busyRounds(1800)
	used := time.Duration(0)
	for b.Loop() {
		b.StopTimer()
		l := openLog(b, b.TempDir())
		for part := range slices.Chunk(rounds, 450) {
			if _, err := l.Seal(part); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		before := cpuTime(b)
		if c := mustCompact(b, l, CompactOptions{Now: dayAfter}); c.Into != 1 {
			b.Fatalf("got %+v", c)
		}
		used += cpuTime(b) - before
	}
	b.ReportMetric(float64(used.Microseconds())/float64(b.N*len(rounds)), "cpu-µs/round")
	rate(b, len(rounds))
}

func cpuTime(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func BenchmarkLog(b *testing.B) {
	rounds := sampleRounds(1800)
	l := openLog(b, b.TempDir())
	if _, err := l.Seal(rounds); err != nil {
		b.Fatal(err)
	}
	b.Run("Rounds", func(b *testing.B) {
		for b.Loop() {
			if _, err := allRounds(l); err != nil {
				b.Fatal(err)
			}
		}
		rate(b, len(rounds))
	})
	b.Run("Columns", func(b *testing.B) {
		for b.Loop() {
			if err := l.Columns(context.Background(), []string{"model", "cost_usd"}, func(*columnar.Batch) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
		rate(b, len(rounds))
	})
}
