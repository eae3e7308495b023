package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/evals"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/trainer"
)

type evalCmd struct {
	tableFlags   `embed:""`
	tierFlags    `embed:""`
	Artifact     []string `help:"Artifacts or registries to judge on the table; default is the router that this program carries." placeholder:"DIR,..."`
	Folds        int      `help:"Train inside each of this many folds and judge held-out prompts."`
	LeaveTaskOut bool     `help:"Make one fold of every task: what a router does on tasks it never saw."`
	NewArm       int      `help:"Measure what each arm adds to the others when it joins them with this many scores, over 20 draws, instead." placeholder:"SCORES"`
	Availability bool     `help:"Say how often the requests of a round log were answered, by model and provider, instead."`
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
	if e.Availability {
		return e.availability(ctx, m)
	}
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

// availability reads a round log, also one that a server is writing.
func (e *evalCmd) availability(ctx context.Context, m *Main) error {
	l, err := datasets.OpenLog(e.Data, datasets.LogOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	a, err := evals.MeasureAvailability(ctx, l)
	if err != nil {
		return err
	}
	if e.JSON {
		return writeJSON(m.Stdout, a)
	}
	return a.WriteText(m.Stdout)
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
		a, err := findArtifact(path)
		if err != nil {
			return err
		}
		for _, s := range a.Manifest().Provenance.Sources {
			whole := s.SHA256 != "" && s.SHA256 == table.SHA256
			part := func(f models.File) bool { return f.SHA256 == table.SHA256 }
			if whole || slices.ContainsFunc(s.Files, part) {
				return fmt.Errorf("%s was trained on this very table: judge it on other prompts, or judge what training makes of the table with --folds 5", a.Digest())
			}
		}
	}
	return nil
}

// predictions gathers what is to be judged: artifacts as they are, rows from a file, or routers trained in each fold.
func (e *evalCmd) predictions(ctx context.Context, table *datasets.Table, o *evals.Options, p *progress) ([]bench.Predictions, error) {
	var all []bench.Predictions
	tier, err := e.of(table)
	if err != nil {
		return nil, err
	}
	for _, path := range e.Artifact {
		c, err := openArtifact(path)
		if err != nil {
			return nil, err
		}
		predicted, err := trainer.Predict(ctx, table, c, tier)
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

type predictCmd struct {
	tableFlags   `embed:""`
	Artifact     string `help:"Artifact, registry or default."`
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
