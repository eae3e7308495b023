package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/trainer"
)

// tableFlags choose an outcome table.
type tableFlags struct {
	Data     string   `required:"" help:"Outcome table: a .parquet, .csv or .jsonl file, a folder or a glob. Train also takes the folder of a round log."`
	Arms     []string `help:"Globs over the arms to use; default all." placeholder:"GLOB,..."`
	Datasets []string `help:"Globs over the dataset column; default all." placeholder:"GLOB,..."`
}

// filter is what the flags keep of a table, in words; empty is all.
func (t *tableFlags) filter() string {
	var parts []string
	if len(t.Arms) > 0 {
		parts = append(parts, "arms "+strings.Join(t.Arms, ", "))
	}
	if len(t.Datasets) > 0 {
		parts = append(parts, "datasets "+strings.Join(t.Datasets, ", "))
	}
	return strings.Join(parts, "; ")
}

// read reads the table, or where promptsMax is not 0 a sample of so many of its prompts.
func (t *tableFlags) read(ctx context.Context, p *progress, promptsMax int) (*datasets.Table, error) {
	table, err := datasets.ReadTable(ctx, t.Data, datasets.ReadOptions{
		Arms: t.Arms, Datasets: t.Datasets, PromptsMax: promptsMax, Progress: func(done, total int64) { p.Set("reading", done, total) },
	})
	if err != nil {
		return nil, err
	}
	return table, nil
}

type trainCmd struct {
	tableFlags `embed:""`
	tierFlags  `embed:""`
	Notices    []string `name:"notice" sep:"none" help:"Licence or origin of the data, to travel with the artifact; may be given several times."`
	Prior      string   `help:"With a round log as --data: an outcome table that counts where the log says little, and fades as it grows."`
	Out        string   `required:"" help:"Folder of the new artifact; it must not exist." type:"path"`
	Seed       int64    `help:"Seed; equal data and seed give an equal artifact." default:"0"`
	JSON       bool     `help:"Print the summary as JSON."`
}

// trainGCPercent keeps the peak close to what a fit holds: blocks of numbers that take a collector no time, and little
// garbage between them. What is read before is smaller, and full of pointers.
const trainGCPercent = 25

// Run trains one router.
func (t *trainCmd) Run(ctx context.Context, m *Main) error {
	if _, err := os.Lstat(t.Out); err == nil {
		return fmt.Errorf("%s exists; an artifact is never overwritten, choose another --out", t.Out)
	}
	p := newProgress(m.Stderr)
	defer p.Done()
	options := trainer.Options{
		Out: t.Out, Seed: t.Seed, Program: "tradewind " + version(), Now: time.Now(),
		Command: shellLine(m.Args), Filter: t.filter(), Notices: t.Notices,
		Progress: func(stage string, done, total int) { p.Set(stage, int64(done), int64(total)) },
	}
	if err := t.source(ctx, p, &options); err != nil {
		return err
	}
	if m.Getenv("GOGC") == "" {
		debug.SetGCPercent(trainGCPercent)
	}
	summary, err := trainer.Run(ctx, options)
	if err != nil {
		return err
	}
	p.Done()
	if t.JSON {
		return writeJSON(m.Stdout, summary)
	}
	return summary.WriteText(m.Stdout)
}

// shellLine is the command line as a shell takes it.
func shellLine(args []string) string {
	line := "tradewind"
	for _, a := range args {
		if strings.ContainsAny(a, " *?[];<>|&$`\"\\") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		line += " " + a
	}
	return line
}

// source reads what --data stands for, an outcome table or a round log, and the prior beside a log.
func (t *trainCmd) source(ctx context.Context, p *progress, o *trainer.Options) (err error) {
	o.Data, err = t.read(ctx, p, trainer.PromptsMax)
	if !errors.Is(err, datasets.ErrIsLog) {
		if err == nil && t.Prior != "" {
			return fmt.Errorf("--prior goes with a round log, and %s is an outcome table: give both tables as --data", t.Data)
		}
		if err == nil && len(t.Tiers) > 0 {
			o.Tiers, err = t.of(o.Data)
		}
		return err
	}
	if len(t.Arms)+len(t.Datasets) > 0 {
		return errors.New("--arms and --datasets choose rows of a table; a round log is taken whole")
	}
	l, err := datasets.OpenLog(t.Data, datasets.LogOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	p.Set("joining rounds and feedback", 0, 0)
	if o.Log, err = reward.Apply(ctx, l, reward.Options{RoundsMax: trainer.PromptsMax}); err != nil {
		return err
	}
	o.Log.Table.Name = filepath.Base(t.Data)
	if t.Prior != "" {
		prior := tableFlags{Data: t.Prior}
		o.Prior, err = prior.read(ctx, p, trainer.PromptsMax)
	}
	return err
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// demonstrationPrompts is the size of the table that the demonstration router learns from.
const demonstrationPrompts = 3000

// trainDemonstration gives the simulated arms a router that knows them: trained in the simulated world, once for a data
// directory.
func trainDemonstration(ctx context.Context, m *Main, registry *models.Registry) error {
	world, err := simulate.New(simulate.Options{Arms: 3})
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "tradewind-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	p := newProgress(m.Stderr)
	defer p.Done()
	dir := filepath.Join(scratch, "artifact")
	_, err = trainer.Run(ctx, trainer.Options{
		Data: world.Table(demonstrationPrompts), Out: dir, Program: "tradewind " + version(), Now: time.Now(),
		Progress: func(stage string, done, total int) {
			p.Set("learning the simulated world: "+stage, int64(done), int64(total))
		},
	})
	if err != nil {
		return err
	}
	digest, err := registry.Add(dir)
	if err != nil {
		return err
	}
	return registry.Promote(digest, loadable)
}

// loadable accepts an artifact that opens, golden rows included.
func loadable(dir string) error {
	_, err := classifier.Open(dir)
	return err
}
