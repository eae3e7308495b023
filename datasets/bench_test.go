package datasets

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets/columnar"
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

func BenchmarkSeal(b *testing.B) {
	rounds := sampleRounds(1800)
	for b.Loop() {
		if _, err := openLog(b, b.TempDir()).Seal(rounds); err != nil {
			b.Fatal(err)
		}
	}
	rate(b, len(rounds))
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
