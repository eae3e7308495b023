package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/trainer"
)

const (
	// newArmDraws is how often the scores of a new arm are drawn.
	newArmDraws = 20
	// worthMin is the gain in AIQ from all its scores that an arm must have for a share of it to mean anything.
	worthMin = 0.005
)

// newArms measures what every arm would add as a newcomer.
func (e *evalCmd) newArms(ctx context.Context, m *Main, table *datasets.Table, p *progress) error {
	if e.Folds != 0 && e.Folds != trainer.FoldsDefault || e.LeaveTaskOut || len(e.Artifact) > 0 || e.Predictions != "" || e.Out != "" {
		return errors.New("--new-arm trains in five folds of the table and prints: it goes with --data, --arms, --datasets, --seed and --json alone")
	}
	newcomers, err := trainer.Newcomers(ctx, table, trainer.NewcomersOptions{
		Labels: e.NewArm, Draws: newArmDraws,
		Fit: trainer.FitOptions{Seed: e.Seed, Progress: func(stage string, done, total int) { p.Set(stage, int64(done), int64(total)) }},
	})
	if err != nil {
		return err
	}
	p.Done()
	if e.JSON {
		return writeJSON(m.Stdout, newcomers)
	}
	return writeNewcomers(m.Stdout, newcomers, e.NewArm)
}

func writeNewcomers(w io.Writer, newcomers []trainer.Newcomer, labels int) error {
	fmt.Fprintf(w, "What an arm adds to the others' AIQ, when all of its scores are known and when it joins with %d (%d draws).\n\n", labels, newArmDraws)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "arm\tall scores\tmean with %d\tworst draw\tbest draw\tshare\t\n", labels)
	slices.SortStableFunc(newcomers, func(a, b trainer.Newcomer) int { return cmp.Compare(b.Full, a.Full) })
	sum, least, worthy, loss := 0.0, 1.0, 0, 0.0
	for i := range newcomers {
		n := &newcomers[i]
		share := "–"
		if n.Full >= worthMin {
			s := n.Mean() / n.Full
			sum, least, worthy = sum+s, min(least, s), worthy+1
			share = fmt.Sprintf("%.0f %%", 100*s)
		} else {
			loss = min(loss, n.Mean())
		}
		fmt.Fprintf(table, "%s\t%+.4f\t%+.4f\t%+.4f\t%+.4f\t%s\t\n", n.Arm, n.Full, n.Mean(), slices.Min(n.Gains), slices.Max(n.Gains), share)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if worthy > 0 {
		fmt.Fprintf(w, "\n%d arms add at least %.3f: they get %.0f %% of it on average, the least of them %.0f %%.\n", worthy, worthMin, 100*sum/float64(worthy), 100*least)
	}
	_, err := fmt.Fprintf(w, "The others cost %.4f at most, in the mean over draws.\n", -loss)
	return err
}
