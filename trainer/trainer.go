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
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Options say what to train and where to.
type Options struct {
	// Data is the outcome table. Instead of it Log may be given, a log's scored rounds, and beside the log Prior: a table
	// that counts where the log says little (see PriorStrength).
	Data  *datasets.Table
	Log   *reward.Result
	Prior *datasets.Table
	// Tiers, where set, names the tier of every arm of Data. What is learned is then what may be expected of arms of a tier
	// (see Tiers), for arms that nobody has scored. Such a router promises nothing, and nothing says whether it pays.
	Tiers func(catalog.ArmID) catalog.Tier
	// Out is the folder that becomes the artifact; it must not exist.
	Out string
	// Seed fixes everything that is random.
	Seed int64
	// Program and Now go into the provenance, which the digest does not cover. Now may be zero.
	Program string
	Now     time.Time
	// Command is what was typed, and Filter what it kept of the table; empty is all.
	Command, Filter string
	// Notices are licences and origins of the data that must travel with the artifact.
	Notices []string
	// Progress, where set, is told of every stage (see FitOptions).
	Progress func(stage string, done, total int)
}

// Validate reports options that cannot be honoured.
func (o *Options) Validate() error {
	if (o.Data == nil) == (o.Log == nil) {
		return errors.New("trainer: want either a table or a log to train on")
	}
	if o.Prior != nil && o.Log == nil {
		return errors.New("trainer: a prior table goes with a log; train on the table itself")
	}
	if o.Log != nil && len(o.Log.Table.Prompts) < PromptsMin {
		return fmt.Errorf("%w: %d scored rounds, want at least %d\n%s", ErrTooSmall, len(o.Log.Table.Prompts), PromptsMin, &o.Log.Counts)
	}
	if o.Tiers != nil && o.Data == nil {
		return errors.New("trainer: tiers go with a table: rounds of a log were seen by the arms that were chosen")
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

	data := o.Data
	if o.Log != nil { // one arm a prompt, and what else is known of the others
		var err error
		if data, fit.seen, err = mix(o.Log, o.Prior); err != nil {
			return nil, err
		}
	} else if o.Tiers != nil {
		var err error
		if data, err = Tiers(o.Data, o.Tiers); err != nil {
			return nil, err
		}
	}
	model, oof, err := Fit(ctx, data, fit) // features, inner folds, stack, calibration, last fit
	if err != nil {
		return nil, err
	}
	fitted := time.Since(begin)

	if o.Tiers != nil {
		model.Router.Novelty = nil // it is for a choice between two settings, and here there is one
	}
	verdict := Verdict{Reason: "what arms of a tier make of a prompt is an expectation, and shows nothing"}
	if o.Tiers == nil {
		if verdict, err = promise(ctx, model, oof, &fit); err != nil {
			return nil, err
		}
	}

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
	return summarize(&o, data, model, oof, verdict, digest, fitted, time.Since(begin)), nil
}

// promise sets the targets and judges whether routing pays.
func promise(ctx context.Context, m *classifier.Model, oof *OOF, fit *FitOptions) (Verdict, error) {
	fit.progress("targets", 0, 1)
	fallback := slices.Index(m.Router.Arms, m.Router.Fallback)
	m.Router.Targets = targets(oof, oof.Score, fallback)
	m.Router.Shift.Targets = targets(oof, oof.Shifted, fallback)
	fit.progress("targets", 1, 1)
	fit.progress("verdict", 0, 1)
	verdict, err := judge(ctx, oof, fit.Seed)
	fit.progress("verdict", 1, 1)
	return verdict, err
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
		if err := read(&contexts[k], c.Extractor(), &o.Table.Prompts[o.Rows[k]]); err != nil {
			return nil, err
		}
	}
	m.Golden = c.NewGolden(contexts)
	sections, err := m.Sections()
	if err != nil {
		return nil, fmt.Errorf("trainer: %w", err)
	}
	return sections, nil
}

func provenance(o *Options) models.Provenance {
	p := models.Provenance{CreatedAt: o.Now, Program: o.Program, Command: o.Command, Seed: o.Seed, Notices: o.Notices}
	add := func(t *datasets.Table, spec string) {
		read := t.Source()
		s := models.Source{Name: t.Name, SHA256: t.SHA256, Rows: read.Rows, Prompts: read.Prompts, Filter: o.Filter, Reward: spec}
		for _, f := range t.Files {
			s.Files = append(s.Files, models.File(f))
		}
		p.Sources = append(p.Sources, s)
	}
	if o.Log == nil {
		add(o.Data, "")
		return p
	}
	add(o.Log.Table, o.Log.Spec.Digest())
	if o.Prior != nil {
		add(o.Prior, "")
	}
	return p
}
