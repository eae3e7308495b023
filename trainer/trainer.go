// Package trainer makes a router: it reads an outcome table, fits the classifier, calibrates it, judges whether routing
// beats the best single arm at all, and writes the artifact.
//
// One run stands in Run, on one screen. Cross-validation is the same fit over folds. Equal tables and seeds give equal
// artifacts, to the last bit, at any number of processors. The package does not serve, does not compare routers (that
// is evals) and does not decide when to train (that is trainer/schedule).
package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models"
)

// Options say what to train and where to.
type Options struct {
	// Data is the outcome table.
	Data *datasets.Table
	// Out is the folder that becomes the artifact; it must not exist.
	Out string
	// Seed fixes everything that is random.
	Seed int64
	// Program and Now go into the provenance, which the digest does not cover. Now may be zero.
	Program string
	Now     time.Time
	// Notices are licences and origins of the data that must travel with the artifact.
	Notices []string
	// Progress, where set, is told of every stage (see FitOptions).
	Progress func(stage string, done, total int)
}

// Validate reports options that cannot be honoured.
func (o *Options) Validate() error {
	if o.Data == nil {
		return errors.New("trainer: no table to train on")
	}
	if o.Out == "" {
		return errors.New("trainer: no folder to write the artifact to")
	}
	return nil
}

// Run is one training run: fit, calibrate, judge, golden rows, write.
func Run(ctx context.Context, o Options) (*Summary, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	begin := time.Now()
	fit := FitOptions{Seed: o.Seed, Progress: o.Progress}

	model, oof, err := Fit(ctx, o.Data, fit) // features, inner folds, stack, calibration, last fit
	if err != nil {
		return nil, err
	}
	fitted := time.Since(begin)

	fit.progress("targets", 0, 1)
	fallback := slices.Index(model.Router.Arms, model.Router.Fallback)
	model.Router.Targets = targets(oof, fallback)
	fit.progress("targets", 1, 1)

	fit.progress("verdict", 0, 1)
	verdict, err := judge(ctx, oof, o.Seed)
	if err != nil {
		return nil, err
	}
	fit.progress("verdict", 1, 1)

	sections, err := withGolden(model, oof)
	if err != nil {
		return nil, err
	}
	digest, err := models.Write(o.Out, sections, provenance(&o))
	if err != nil {
		return nil, fmt.Errorf("trainer: %w", err)
	}
	if _, err := classifier.Open(o.Out); err != nil { // what was written is what serving will read
		return nil, fmt.Errorf("trainer: opening what was written: %w", err)
	}
	return summarize(&o, model, oof, verdict, digest, fitted, time.Since(begin)), nil
}

// goldenRows is the number of training prompts whose features, never their text, are golden rows.
const goldenRows = 8

// withGolden adds golden rows to a model and encodes it.
func withGolden(m *classifier.Model, o *OOF) (map[string][]byte, error) {
	c, err := classifier.New(m)
	if err != nil {
		return nil, fmt.Errorf("trainer: %w", err)
	}
	contexts := make([]features.Context, min(goldenRows, len(o.Rows)))
	for k := range contexts {
		c.Extractor().Extract(&contexts[k], features.NewPrompt(o.Table.Prompts[o.Rows[k]].Text))
	}
	m.Golden = c.NewGolden(contexts)
	sections, err := m.Sections()
	if err != nil {
		return nil, fmt.Errorf("trainer: %w", err)
	}
	return sections, nil
}

func provenance(o *Options) models.Provenance {
	return models.Provenance{
		CreatedAt: o.Now, Program: o.Program, Seed: o.Seed, Notices: o.Notices,
		Sources: []models.Source{{Name: o.Data.Name, SHA256: o.Data.SHA256, Rows: cells(o.Data), Prompts: len(o.Data.Prompts)}},
	}
}
