package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

type dataCmd struct {
	Import   importCmd   `cmd:"" help:"Turn CSV or JSON lines into an outcome table."`
	Inspect  inspectCmd  `cmd:"" help:"Show what is in a table, a sealed part or a log."`
	Verify   verifyCmd   `cmd:"" help:"Check every part of a log against its manifest."`
	Compact  compactCmd  `cmd:"" help:"Merge the parts of a log that no server writes, and drop old ones."`
	Simulate simulateCmd `cmd:"" help:"Write an outcome table of the simulated world, where the truth is known."`
}

type importCmd struct {
	From      string            `arg:"" help:"CSV or JSON lines: a file, a folder or a glob."`
	To        string            `arg:"" help:"Parquet file to write."`
	Rename    map[string]string `help:"Columns to rename, such as --rename question=prompt." placeholder:"FROM=TO;..."`
	Overwrite bool              `help:"Replace the file if it exists."`
	JSON      bool              `help:"Print the summary as JSON."`
}

// Run imports.
func (c *importCmd) Run(ctx context.Context, m *Main) error {
	p := newProgress(m.Stderr)
	defer p.Done()
	sum, err := datasets.Import(ctx, c.From, c.To, datasets.ImportOptions{
		Rename: c.Rename, Overwrite: c.Overwrite, Progress: func(done, total int64) { p.Set("importing", done, total) },
	})
	if err != nil {
		return err
	}
	p.Done()
	if c.JSON {
		return writeJSON(m.Stdout, sum)
	}
	_, err = fmt.Fprintf(m.Stdout, "%s: %d rows, %d prompts, %d arms; cost unknown in %d rows\n", c.To, sum.Rows, sum.Prompts, sum.Arms, sum.UnknownCosts)
	return err
}

type inspectCmd struct {
	Path string `arg:"" help:"A table, a sealed part, or a log folder."`
	JSON bool   `help:"Print as JSON."`
}

// Run inspects.
func (c *inspectCmd) Run(ctx context.Context, m *Main) error {
	i, err := datasets.Inspect(ctx, c.Path)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(m.Stdout, i)
	}
	return i.WriteText(m.Stdout)
}

type verifyCmd struct {
	Dir string `arg:"" help:"Log folder (in the data directory: log)." type:"existingdir"`
}

// Run verifies a log.
func (c *verifyCmd) Run(ctx context.Context, m *Main) error {
	log, err := datasets.OpenLog(c.Dir, datasets.LogOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	if err := log.Verify(ctx); err != nil {
		return err
	}
	rows, parts := int64(0), log.Parts()
	for i := range parts {
		rows += parts[i].Rows
	}
	leftovers, err := log.Leftovers()
	if err != nil {
		return err
	}
	orphans, err := log.Orphans()
	if err != nil {
		return err
	}
	fmt.Fprintf(m.Stdout, "%s: %d parts, %d rows, all as they were sealed; %d superseded; head %s\n", c.Dir, len(parts), rows, log.Superseded(), log.Head())
	for _, name := range leftovers {
		fmt.Fprintf(m.Stdout, "leftover: %s (superseded, the next pass or the next start of the server removes it)\n", name)
	}
	for _, name := range orphans {
		fmt.Fprintf(m.Stdout, "orphan: %s (no manifest vouches for it, nobody reads it)\n", name)
	}
	return nil
}

type simulateCmd struct {
	Out       string `required:"" help:"Parquet file to write." type:"path"`
	Prompts   int64  `help:"Number of prompts." default:"10000"`
	NumArms   int    `name:"arms" help:"Number of arms; 3 are those that serve without keys." default:"6"`
	Seed      uint64 `help:"Seed of the world." default:"0"`
	Unlabeled bool   `help:"Leave the dataset column empty, as a log does."`
	JSON      bool   `help:"Print the ceilings as JSON."`
}

// simulateBatch is the number of prompts between two writes.
const simulateBatch = 512

// Run writes a simulated table and prints what can be won in that world.
func (c *simulateCmd) Run(ctx context.Context, m *Main) error {
	w, err := simulate.New(simulate.Options{Seed: int64(c.Seed), Arms: c.NumArms, Unlabelled: c.Unlabeled})
	if err != nil {
		return err
	}
	p := newProgress(m.Stderr)
	defer p.Done()
	if err := c.write(ctx, w, p); err != nil {
		return err
	}
	ceilings, err := w.Ceilings(max(simulate.CeilingsMin, int(min(c.Prompts, 20_000))))
	if err != nil {
		return err
	}
	p.Done()
	if c.JSON {
		return writeJSON(m.Stdout, ceilings)
	}
	return writeCeilings(m.Stdout, w, &ceilings, c)
}

func (c *simulateCmd) write(ctx context.Context, w *simulate.World, p *progress) error {
	out, err := datasets.CreateTable(c.Out)
	if err != nil {
		return err
	}
	var rows []datasets.Row
	n := int64(0)
	for _, r := range w.Rows(0, c.Prompts) {
		rows = append(rows, r...)
		if n++; n%simulateBatch != 0 && n < c.Prompts {
			continue
		}
		if err := errors.Join(ctx.Err(), out.Write(rows)); err != nil {
			out.Abort()
			return err
		}
		rows = rows[:0]
		p.Set("simulating", n, c.Prompts)
	}
	return out.Close()
}

func writeCeilings(w io.Writer, world *simulate.World, c *simulate.Ceilings, cmd *simulateCmd) error {
	fmt.Fprintf(w, "%s: %d prompts x %d arms, seed %d. What can be won there (true quality, US dollars a request):\n\n", cmd.Out, cmd.Prompts, len(world.Arms()), cmd.Seed)
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', tabwriter.AlignRight)
	row := func(name string, x simulate.Ceiling) { fmt.Fprintf(t, "%s\t%.4f\t%s\t\n", name, x.Quality, x.Cost) }
	for i, a := range world.Arms() {
		row(string(a.ID), c.Arms[i])
	}
	row("best single arm", c.Single)
	row("length rule", c.Length)
	row("best on features", c.Features)
	row("best on the hidden truth", c.Hidden)
	row("oracle of the draws", c.Oracle)
	return t.Flush()
}

type modelsCmd struct {
	List     modelsListCmd     `cmd:"" help:"List the artifacts of a registry."`
	Show     modelsShowCmd     `cmd:"" help:"Show an artifact: arms, targets, training data."`
	Verify   modelsVerifyCmd   `cmd:"" help:"Verify an artifact and replay its golden rows."`
	Add      modelsAddCmd      `cmd:"" help:"Copy an artifact into a registry."`
	Promote  modelsPromoteCmd  `cmd:"" help:"Make a registered artifact the one that serves."`
	Rollback modelsRollbackCmd `cmd:"" help:"Promote the artifact that served before."`
}

type registryFlag struct {
	Registry string `help:"Folder of the registry." default:"tradewind-data/models" type:"path"`
}

type modelsListCmd struct {
	registryFlag `embed:""`
	JSON         bool `help:"Print as JSON."`
}

// Run lists a registry.
func (c *modelsListCmd) Run(m *Main) error {
	registry, err := models.OpenRegistry(c.Registry)
	if err != nil {
		return err
	}
	entries, err := registry.List()
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(m.Stdout, entries)
	}
	if len(entries) == 0 {
		_, err = fmt.Fprintf(m.Stdout, "%s is empty; train a router and add it: tradewind train, tradewind models add\n", c.Registry)
		return err
	}
	t := tabwriter.NewWriter(m.Stdout, 2, 8, 2, ' ', 0)
	for _, e := range entries {
		mark := " "
		if e.Promoted {
			mark = "*"
		}
		state := e.Manifest.Provenance.CreatedAt.Format(time.RFC3339)
		if e.Err != nil {
			state = e.Err.Error()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", mark, e.Digest, state)
	}
	return t.Flush()
}

type artifactArg struct {
	Artifact string `arg:"" help:"Artifact, registry (then the promoted one), or default: the router that this program carries."`
}

// defaultArtifact names the router that the program carries, wherever an artifact is asked for.
const defaultArtifact = "default"

// findArtifact opens what a path stands for: an artifact, a registry's promoted one, or the default.
func findArtifact(path string) (*models.Artifact, error) {
	if path == defaultArtifact {
		return models.Default()
	}
	dir, err := models.Resolve(path)
	if err != nil {
		return nil, err
	}
	return models.Open(dir)
}

// openArtifact puts it to work, once its golden rows were replayed.
func openArtifact(path string) (*classifier.Classifier, error) {
	a, err := findArtifact(path)
	if err != nil {
		return nil, err
	}
	return classifier.FromArtifact(a)
}

type modelsShowCmd struct {
	artifactArg `embed:""`
	JSON        bool `help:"Print as JSON."`
}

// Run shows an artifact.
func (c *modelsShowCmd) Run(m *Main) error {
	a, err := findArtifact(c.Artifact)
	if err != nil {
		return err
	}
	opened, err := classifier.FromArtifact(a)
	if err != nil {
		return err
	}
	router := opened.Model().Router
	if c.JSON {
		return writeJSON(m.Stdout, struct {
			Manifest models.Manifest   `json:"manifest"`
			Router   classifier.Router `json:"router"`
		}{a.Manifest(), router})
	}
	w := m.Stdout
	fmt.Fprintf(w, "%s, made %s by %s\n", a.Digest(), a.Manifest().Provenance.CreatedAt.Format(time.RFC3339), a.Manifest().Provenance.Program)
	fmt.Fprintf(w, "arms      %d: %s\nfallback  %s\n", len(router.Arms), join(router.Arms), router.Fallback)
	for _, t := range router.Targets {
		if t.Strategy == "" {
			continue // prices for targets that somebody may set
		}
		fmt.Fprintf(w, "strategy  %-9s keeps %.0f %% of the fallback's quality at λ = %.4g per dollar, certified: %v\n", t.Strategy, 100*t.Target, t.Lambda, t.Certified)
	}
	fmt.Fprintf(w, "novelty   %s\n", noveltyLine(opened.NoveltySamples()))
	for _, s := range a.Manifest().Provenance.Sources {
		fmt.Fprintf(w, "trained   on %s: %d rows of %d prompts%s\n", s.Name, s.Rows, s.Prompts, fileDigest(s.SHA256))
		for _, f := range s.Files {
			fmt.Fprintf(w, "  file    %s%s\n", f.Name, fileDigest(f.SHA256))
		}
		if s.Filter != "" {
			fmt.Fprintf(w, "  kept    %s\n", s.Filter)
		}
	}
	for _, n := range a.Manifest().Provenance.Notices {
		fmt.Fprintf(w, "notice    %s\n", n)
	}
	if command := a.Manifest().Provenance.Command; command != "" {
		fmt.Fprintf(w, "made by   %s\n", command)
	}
	return nil
}

// noveltyLine says whether an artifact can tell that traffic is unlike what it was trained on.
func noveltyLine(samples int) string {
	if samples == 0 {
		return "no reference: it cannot tell whether traffic is unlike its training data"
	}
	return fmt.Sprintf("measured against %d held-out prompts (routing.traffic: auto)", samples)
}

// fileDigest names a file's digest; a table that was made up has none.
func fileDigest(sha256 string) string {
	if sha256 == "" {
		return ""
	}
	return ", SHA-256 " + sha256
}

func join(ids []catalog.ArmID) string {
	var s []string
	for _, id := range ids {
		s = append(s, string(id))
	}
	return strings.Join(s, ", ")
}

type modelsVerifyCmd struct {
	artifactArg `embed:""`
}

// Run verifies an artifact.
func (c *modelsVerifyCmd) Run(m *Main) error {
	opened, err := openArtifact(c.Artifact)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(m.Stdout, "%s: every section is as it was written and %d golden rows replay\n", opened.Digest(), len(opened.Model().Golden))
	return err
}

type modelsAddCmd struct {
	registryFlag `embed:""`
	artifactArg  `embed:""`
	Promote      bool `help:"Promote it as well."`
}

// Run adds an artifact to a registry.
func (c *modelsAddCmd) Run(m *Main) error {
	registry, err := models.OpenRegistry(c.Registry)
	if err != nil {
		return err
	}
	d, err := registry.Add(c.Artifact)
	if err != nil {
		return err
	}
	if c.Promote {
		if err := registry.Promote(d, loadable); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(m.Stdout, d)
	return err
}

type modelsPromoteCmd struct {
	registryFlag `embed:""`
	Digest       string `arg:"" help:"Digest of a registered artifact."`
}

// Run promotes.
func (c *modelsPromoteCmd) Run(m *Main) error {
	registry, err := models.OpenRegistry(c.Registry)
	if err != nil {
		return err
	}
	if err := registry.Promote(models.Digest(c.Digest), loadable); err != nil {
		return err
	}
	_, err = fmt.Fprintf(m.Stdout, "%s is promoted; a running server takes it within a second\n", c.Digest)
	return err
}

type modelsRollbackCmd struct {
	registryFlag `embed:""`
}

// Run goes back to the artifact before.
func (c *modelsRollbackCmd) Run(m *Main) error {
	registry, err := models.OpenRegistry(c.Registry)
	if err != nil {
		return err
	}
	if err := registry.Rollback(loadable); err != nil {
		return err
	}
	d, err := registry.Promoted()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(m.Stdout, "%s is promoted again; a running server takes it within a second\n", d)
	return err
}
