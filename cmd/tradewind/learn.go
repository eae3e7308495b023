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
	"slices"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/evals"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/trainer"
)

// tableFlags choose an outcome table.
type tableFlags struct {
	Data     string   `required:"" help:"Outcome table: a .parquet, .csv or .jsonl file, a folder or a glob. Train also takes the folder of a round log."`
	Arms     []string `help:"Globs over the arms to use; default all." placeholder:"GLOB,..."`
	Datasets []string `help:"Globs over the dataset column; default all." placeholder:"GLOB,..."`
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
	Prior      string `help:"With a round log as --data: an outcome table that counts where the log says little, and fades as it grows."`
	Out        string `required:"" help:"Folder of the new artifact; it must not exist." type:"path"`
	Seed       int64  `help:"Seed; equal data and seed give an equal artifact." default:"0"`
	JSON       bool   `help:"Print the summary as JSON."`
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

// source reads what --data stands for, an outcome table or a round log, and the prior beside a log.
func (t *trainCmd) source(ctx context.Context, p *progress, o *trainer.Options) (err error) {
	o.Data, err = t.read(ctx, p, trainer.PromptsMax)
	if !errors.Is(err, datasets.ErrIsLog) {
		if err == nil && t.Prior != "" {
			return fmt.Errorf("--prior goes with a round log, and %s is an outcome table: give both tables as --data", t.Data)
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

type evalCmd struct {
	tableFlags   `embed:""`
	Artifact     []string `help:"Artifacts or registries to judge on the table." type:"path" placeholder:"DIR,..."`
	Folds        int      `help:"Train inside each of this many folds and judge held-out prompts."`
	LeaveTaskOut bool     `help:"Make one fold of every task: what a router does on tasks it never saw."`
	NewArm       int      `help:"Measure what each arm adds to the others when it joins them with this many scores, over 20 draws, instead." placeholder:"SCORES"`
	Predictions  string   `help:"Judge prediction rows (JSON lines) instead of training." type:"path"`
	Cascade      []string `help:"Price a cascade beside every router whose answers are checked: the share of wrong answers that pass, that of right ones that do not, and where it costs something the dollars of a check. May be repeated." sep:"none" placeholder:"FP,FR[,USD]"`
	Pool         string   `help:"Name of the pool of arms, for the report."`
	Out          string   `help:"Folder for report.html, report.md, report.json and curve.svg." type:"path"`
	JSON         bool     `help:"Print the report as JSON."`
	Seed         int64    `help:"Seed of training and of the bootstrap."`
	Resamples    int      `help:"Bootstrap resamples; default 1,000."`
	Draws        int      `help:"Draws of calibration rows for each quality target; default 300."`
	NoText       bool     `help:"Leave the prompts of example decisions out of the report."`
	Volume       float64  `help:"Tokens a month, for the bill." default:"1e9"`
	InputShare   float64  `help:"Share of them that are prompts." default:"0.25"`
}

// Run compares routers on one table.
func (e *evalCmd) Run(ctx context.Context, m *Main) error {
	p := newProgress(m.Stderr)
	defer p.Done()
	table, err := e.read(ctx, p, 0)
	if err != nil {
		return err
	}
	options := evals.Options{
		Pool: e.Pool, Folds: e.Folds, LeaveTaskOut: e.LeaveTaskOut, Seed: uint64(e.Seed), Resamples: e.Resamples, Draws: e.Draws, NoText: e.NoText,
		Command: "tradewind " + strings.Join(m.Args, " "),
	}
	if options.Price, err = prices(table); err != nil {
		return err
	}
	for _, text := range e.Cascade {
		c, err := evals.ParseChecker(text)
		if err != nil {
			return err
		}
		options.Cascades = append(options.Cascades, c)
	}
	options.Volume = evals.Volume{Tokens: e.Volume, InputShare: e.InputShare}
	if e.NewArm != 0 {
		return e.newArms(ctx, m, table, p)
	}
	if err := e.unseen(table); err != nil {
		return err
	}
	predictions, err := e.predictions(ctx, table, &options, p)
	if err != nil {
		return err
	}
	report, err := evals.Evaluate(ctx, table, predictions, options)
	if err != nil {
		return err
	}
	p.Done()
	if e.Out != "" {
		if err := report.Write(e.Out); err != nil {
			return err
		}
	}
	if e.JSON {
		return writeJSON(m.Stdout, report)
	}
	if err := report.WriteText(m.Stdout); err != nil {
		return err
	}
	if e.Out != "" {
		_, err = fmt.Fprintf(m.Stdout, "\nThe picture and all tables: %s\n", filepath.Join(e.Out, "report.html"))
	}
	return err
}

// prices are those of the catalog, and for an arm that it does not know those that the table's own costs imply.
func prices(table *datasets.Table) (func(catalog.ArmID) (evals.Price, bool), error) {
	c, err := catalog.Default()
	if err != nil {
		return nil, err
	}
	input, output := trainer.ImpliedPrices(table)
	return func(arm catalog.ArmID) (evals.Price, bool) {
		if p, ok := evals.PriceOf(c, arm); ok {
			return p, true
		}
		j := slices.Index(table.Arms, arm)
		return evals.Price{Input: input[j], Output: output[j]}, input[j] == input[j]
	}, nil
}

// unseen refuses to judge a router on the table that it was trained on: every learner shines there.
func (e *evalCmd) unseen(table *datasets.Table) error {
	for _, path := range e.Artifact {
		dir, err := models.Resolve(path)
		if err != nil {
			return err
		}
		a, err := models.Open(dir)
		if err != nil {
			return err
		}
		for _, s := range a.Manifest().Provenance.Sources {
			if s.SHA256 != "" && s.SHA256 == table.SHA256 {
				return fmt.Errorf("%s was trained on this very table: judge it on other prompts, or judge what training makes of the table with --folds 5", a.Digest())
			}
		}
	}
	return nil
}

// predictions gathers what is to be judged: artifacts as they are, rows from a file, or routers trained in each fold.
func (e *evalCmd) predictions(ctx context.Context, table *datasets.Table, o *evals.Options, p *progress) ([]bench.Predictions, error) {
	var all []bench.Predictions
	for _, path := range e.Artifact {
		c, err := openArtifact(path)
		if err != nil {
			return nil, err
		}
		predicted, err := trainer.Predict(ctx, table, c)
		if err != nil {
			return nil, err
		}
		o.Artifacts = append(o.Artifacts, string(c.Digest()))
		all = append(all, predicted...)
	}
	if e.Predictions != "" {
		f, err := os.Open(e.Predictions)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		predicted, err := bench.ReadPredictions(f, table, "predictions")
		if err != nil {
			return nil, err
		}
		all = append(all, *predicted)
	}
	if len(all) > 0 && !e.LeaveTaskOut && e.Folds == 0 {
		return all, nil
	}
	predicted, err := trainer.CrossValidate(ctx, table, trainer.CrossValidateOptions{
		Folds: e.Folds, LeaveTaskOut: e.LeaveTaskOut,
		Fit: trainer.FitOptions{Seed: e.Seed, Progress: func(stage string, done, total int) { p.Set(stage, int64(done), int64(total)) }},
	})
	if err != nil {
		return nil, err
	}
	return append(all, predicted...), nil
}

func openArtifact(path string) (*classifier.Classifier, error) {
	dir, err := models.Resolve(path)
	if err != nil {
		return nil, err
	}
	return classifier.Open(dir)
}

type predictCmd struct {
	tableFlags   `embed:""`
	Artifact     string `help:"Artifact or registry." type:"path"`
	Folds        int    `help:"Train inside each of this many folds and predict held-out prompts, instead of an artifact."`
	LeaveTaskOut bool   `help:"Make one fold of every task, instead of an artifact."`
	Out          string `required:"" help:"File for the rows: .jsonl or .parquet." type:"path"`
	Seed         int64  `help:"Seed of training."`
}

// Run writes the rows from which anyone can recompute a report.
func (c *predictCmd) Run(ctx context.Context, m *Main) error {
	format := bench.Format(strings.TrimPrefix(filepath.Ext(c.Out), "."))
	if format != bench.JSONL && format != bench.Parquet {
		return fmt.Errorf("--out %s must end in .jsonl or .parquet", c.Out)
	}
	if (c.Artifact == "") == (c.Folds == 0 && !c.LeaveTaskOut) {
		return fmt.Errorf("give either --artifact, or --folds N or --leave-task-out to train inside the table")
	}
	p := newProgress(m.Stderr)
	defer p.Done()
	table, err := c.read(ctx, p, 0)
	if err != nil {
		return err
	}
	judge := evalCmd{Folds: c.Folds, LeaveTaskOut: c.LeaveTaskOut, Seed: c.Seed}
	if c.Artifact != "" {
		judge.Artifact = []string{c.Artifact}
	}
	predicted, err := judge.predictions(ctx, table, &evals.Options{}, p)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err := bench.WritePredictions(f, format, table, &predicted[0]); err != nil {
		_ = f.Close()
		_ = os.Remove(c.Out)
		return err
	}
	return f.Close()
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
