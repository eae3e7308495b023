// Package evals writes the report that says whether a router is worth having: one value, Report, from an outcome table
// and held-out predictions, as HTML, Markdown, text and JSON.
//
// The numbers come from evals/bench and nothing is typed in by hand. The package does not train and does not predict;
// package trainer and the command line bring the predictions.
package evals

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// foldsDefault is the number of folds where Options says nothing, FoldsMax the most there may be.
const (
	foldsDefault = 5
	FoldsMax     = 100
)

// Options say what to report. The zero value works: all arms that are predicted, five folds, 1,000 resamples, seed 0.
type Options struct {
	// Arms is the pool; nil takes the table's arms that some router predicts.
	Arms []catalog.ArmID
	// Pool names the pool for people, such as "chat+API".
	Pool string
	// Folds is the number of folds that baselines are fitted and operating points are chosen on. It is used only where
	// the predictions bring no folds of their own.
	Folds int
	// LeaveTaskOut says that the folds of the predictions are tasks; where they bring none, it makes folds of tasks.
	LeaveTaskOut bool
	Seed         uint64
	Resamples    int
	Workers      int
	// Price says what an arm costs, for the bill; nil makes none. Volume is the month's traffic; zero is a billion tokens, a
	// quarter of them prompts.
	Price  func(catalog.ArmID) (Price, bool)
	Volume Volume
	// NoText leaves out the decisions that are shown with their prompts.
	NoText bool
	// Draws is how often calibration rows are drawn for each quality target; 0 is 300.
	Draws int
	// Cascades are checkers to price a verified cascade with, beside every router judged.
	Cascades []bench.Checker
	// Pairs are pairs of arms, the strong one first, to report APGR and CPT for; a table of two arms always has one.
	Pairs [][2]catalog.ArmID
	// Prices names the price sheet, Artifacts the digests judged, Command the command line. They are printed as they are.
	Prices    string
	Artifacts []string
	Command   string
}

// Validate checks the options.
func (o *Options) Validate() error {
	if o.Folds < 0 || o.Folds == 1 || o.Folds > FoldsMax {
		return fmt.Errorf("evals: %d folds are not between 2 and %d", o.Folds, FoldsMax)
	}
	if v := o.Volume; v.Tokens < 0 || !(v.InputShare >= 0 && v.InputShare <= 1) {
		return fmt.Errorf("evals: %v tokens with a share of %v prompts cannot be", v.Tokens, v.InputShare)
	}
	if len(o.Cascades) > CascadesMax {
		return fmt.Errorf("evals: %d checkers are more than %d", len(o.Cascades), CascadesMax)
	}
	for _, c := range o.Cascades {
		if err := c.Validate(); err != nil {
			return err
		}
	}
	draws := bench.GuaranteeOptions{Draws: o.Draws}
	return errors.Join(o.bootstrap().Validate(), draws.Validate())
}

func (o *Options) bootstrap() bench.BootstrapOptions {
	return bench.BootstrapOptions{Resamples: o.Resamples, Seed: o.Seed, Workers: o.Workers}
}

// Num is a number that may be unknown: NaN and infinities are null in JSON and a dash for people.
type Num float64

// MarshalJSON writes null for what is not a number.
func (n Num) MarshalJSON() ([]byte, error) {
	if !n.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads null as NaN.
func (n *Num) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Num(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

// Known reports whether n is a finite number.
func (n Num) Known() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// Interval is a value with its 95 % bootstrap interval over prompts.
type Interval struct {
	Value Num `json:"value"`
	Low   Num `json:"low"`
	High  Num `json:"high"`
}

func interval(e bench.Estimate) Interval { return Interval{Num(e.Value), Num(e.Low), Num(e.High)} }

// Report is everything that is known about routers on one table. All its forms are written from this value.
type Report struct {
	Verdict Verdict `json:"verdict"`
	Header  Header  `json:"header"`
	// Arms are the constants of the pool, best first.
	Arms []ArmRow `json:"arms"`
	// Routers are the baselines, then the routers judged, then the oracle.
	Routers     []Row            `json:"routers"`
	Pairs       []PairRow        `json:"pairs,omitempty"`
	Tasks       []TaskRow        `json:"tasks"`
	Unseen      []UnseenRow      `json:"unseen,omitempty"`
	Calibration []CalibrationRow `json:"calibration,omitempty"`
	Tokens      []TokensRow      `json:"tokens,omitempty"`
	// Guarantees and Pacing are what quality targets and cost targets came to.
	Guarantees []GuaranteeRow `json:"guarantees,omitempty"`
	Pacing     []PacingRow    `json:"pacing,omitempty"`
	// Cascades are the routers with their answers checked.
	Cascades []CascadeRow `json:"cascades,omitempty"`
	Bill     []BillRow    `json:"bill,omitempty"`
	Examples []Example    `json:"examples,omitempty"`
	Curves   []Curve      `json:"curves,omitempty"`
}

// Verdict is the first sentence of a report.
type Verdict struct {
	Routes bool   `json:"routes"`
	Router string `json:"router,omitempty"`
	// Tasks are those to route where the whole is not worth routing.
	Tasks []string `json:"tasks,omitempty"`
	Text  string   `json:"text"`
	// Notes say what the sentence leaves out: no gain over length, folds of tasks, prompts left out.
	Notes []string `json:"notes,omitempty"`
}

// Header says what was measured on what.
type Header struct {
	Table        string          `json:"table"`
	SHA256       string          `json:"sha256,omitempty"`
	Prompts      int             `json:"prompts"`
	Tasks        int             `json:"tasks"`
	Pool         string          `json:"pool,omitempty"`
	Arms         []catalog.ArmID `json:"arms"`
	Left         bench.Left      `json:"left"`
	UnknownCosts Num             `json:"unknown_cost_share"`
	Priced       bool            `json:"priced"`
	Folds        int             `json:"folds"`
	LeaveTaskOut bool            `json:"leave_task_out,omitempty"`
	Seed         uint64          `json:"seed"`
	Resamples    int             `json:"resamples"`
	Prices       string          `json:"prices,omitempty"`
	Volume       Volume          `json:"volume,omitzero"`
	Artifacts    []string        `json:"artifacts,omitempty"`
	Command      string          `json:"command,omitempty"`
}

// Curve is a router's line in the picture: its configurations from the best to the cheapest.
type Curve struct {
	Name   string        `json:"name"`
	Kind   Kind          `json:"kind"`
	Points []bench.Point `json:"points"`
}

// Evaluate judges predictions on a table. Predictions are of the table's prompts in its order and held out (see
// bench.Predictions); with none the report is of the baselines alone.
func Evaluate(ctx context.Context, table *datasets.Table, preds []bench.Predictions, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s, err := newStudy(table, preds, &o)
	if err != nil {
		return nil, err
	}
	if err := s.bootstrap(ctx); err != nil {
		return nil, err
	}
	r := &Report{Header: s.header(table), Arms: s.arms(), Routers: s.rows()}
	if r.Pairs, err = s.pairs(); err != nil {
		return nil, err
	}
	if r.Guarantees, err = s.guarantees(ctx); err != nil {
		return nil, err
	}
	if r.Pacing, err = s.pacing(); err != nil {
		return nil, err
	}
	if r.Cascades, err = s.cascades(ctx); err != nil {
		return nil, err
	}
	r.Bill = s.bill(r)
	if !o.NoText {
		r.Examples = s.examples(table)
	}
	r.Tasks, r.Calibration, r.Tokens, r.Curves = s.tasks(), s.calibration(), s.tokens(), s.curves()
	r.Unseen = s.unseen(r.Tasks)
	r.summarize()
	r.Verdict = verdict(r)
	return r, nil
}

// Write writes report.json, report.md, report.html and, where costs are known, curve.svg into a folder, which is made if
// it is missing.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("evals: writing report: %w", err)
	}
	var js, md, html, svg bytes.Buffer
	enc := json.NewEncoder(&js)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("evals: writing report: %w", err)
	}
	if err := r.WriteMarkdown(&md); err != nil {
		return err
	}
	if err := r.WriteHTML(&html); err != nil {
		return err
	}
	if err := r.WriteSVG(&svg); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"report.json", js.Bytes()}, {"report.md", md.Bytes()}, {"report.html", html.Bytes()}, {"curve.svg", svg.Bytes()}} {
		if len(f.data) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil {
			return fmt.Errorf("evals: writing report: %w", err)
		}
	}
	return nil
}
