package trainer

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/models"
)

// TestSampledTable: a table that was sampled while it was read makes the router that the sample of the whole makes, and
// what is said of it is said of the whole.
func TestSampledTable(t *testing.T) {
	const prompts, sample = 400, 120
	path := filepath.Join(t.TempDir(), "t.parquet")
	w, err := datasets.CreateTable(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range world(t, simulate.Options{Seed: 2, Arms: 3}).Rows(0, prompts) {
		if err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := datasets.ReadTable(context.Background(), path, datasets.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sampled, err := datasets.ReadTable(context.Background(), path, datasets.ReadOptions{PromptsMax: sample})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := run(t, whole.Subset(whole.InHashOrder(sample)))
	out := filepath.Join(t.TempDir(), "artifact")
	got, err := Run(context.Background(), Options{Data: sampled, Out: out, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != want.Digest {
		t.Errorf("a sample taken while reading makes %s, one of the whole %s", got.Digest, want.Digest)
	}
	if got.Prompts != prompts || got.Rows != 3*prompts || got.Fitted != sample || got.FittedRows != 3*sample || got.Estimated {
		t.Errorf("got %d prompts, %d rows, fitted %d and %d", got.Prompts, got.Rows, got.Fitted, got.FittedRows)
	}
	var text bytes.Buffer
	if err := got.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Trained on 120 prompts, 360 scores", "a sample, by the hash of their ids, of 400 prompts and 1200 scores"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the summary lacks %q:\n%s", want, &text)
		}
	}
	a, err := models.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	if s := a.Manifest().Provenance.Sources[0]; s.Prompts != prompts || s.Rows != 3*prompts || s.SHA256 != whole.SHA256 {
		t.Errorf("got provenance %+v, want that of the whole", s)
	}
}
