package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

type replayCmd struct {
	ID       string `arg:"" help:"A decision's id, rnd_…; it stands in the header x-tradewind-decision-id of the answer."`
	Log      string `help:"Folder of the round log; default is that of the data directory." type:"path"`
	Artifact string `help:"Artifact, registry (then the promoted one), or default: the router to decide anew; without one the router that decided."`
	Strategy string `help:"cost, latency, balanced, availability or quality, in place of the one that was in force."`
	Policy   string `help:"Named policy of the configuration that the request would have named."`
	Config   string `help:"Configuration file." type:"path"`
	JSON     bool   `help:"Print both decisions as JSON."`
}

// bothDecisions are a round as it was logged and as it would have been.
type bothDecisions struct {
	Logged   *serving.Explanation `json:"logged"`
	Replayed *serving.Explanation `json:"replayed"`
}

// Run shows a logged decision beside what it would have been. Nothing is called and nothing is written.
func (c *replayCmd) Run(ctx context.Context, m *Main) error {
	conf, err := loadConfig(c.Config, m.Getenv, func(conf *config) { conf.Listen = "127.0.0.1:0" }) // nobody listens
	if err != nil {
		return err
	}
	round, err := c.find(ctx, cmp.Or(c.Log, filepath.Join(conf.DataDir, "log")))
	if err != nil {
		return err
	}
	trained, err := c.router(conf, models.Digest(round.Decision.RouterVersion))
	if err != nil {
		return err
	}
	replayer, err := replayerOf(m, conf, trained)
	if err != nil {
		return err
	}
	change := serving.Change{Strategy: openai.Strategy(c.Strategy), Policy: c.Policy, Router: replayer.Router.Version()}
	both := bothDecisions{Logged: serving.Explain(&round.Decision, &round.Outcome)}
	if both.Replayed, err = replayer.Replay(&round.Decision, change); err != nil {
		return fmt.Errorf("%s cannot be replayed: %w", c.ID, err)
	}
	if c.JSON {
		return writeJSON(m.Stdout, both)
	}
	return both.writeText(m.Stdout)
}

// find looks the round up in the sealed log. Its id says when it was.
func (c *replayCmd) find(ctx context.Context, dir string) (*datasets.Round, error) {
	text, ok := strings.CutPrefix(c.ID, "rnd_")
	id, err := ulid.ParseStrict(text)
	if !ok || err != nil {
		return nil, fmt.Errorf("%q is no decision's id", c.ID)
	}
	l, err := datasets.OpenLog(dir, datasets.LogOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	made := ulid.Time(id.Time())
	r, found, err := l.Find(ctx, datasets.RoundID(c.ID), made, made.Add(time.Millisecond))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("%s is not in the log %s; what a server has decided within the last minutes is not sealed yet, and POST /v1/decisions/%s/replay asks the server itself; requests that were refused before a model was chosen are not kept", c.ID, dir, c.ID)
	}
	return &r, nil
}

// router opens the router to decide anew, nil for the default one: the one that was asked for, else the one that decided.
func (c *replayCmd) router(conf *config, decided models.Digest) (*classifier.Classifier, error) {
	standard, err := models.Default()
	if err != nil {
		return nil, err
	}
	if c.Artifact == defaultArtifact || c.Artifact == "" && decided == standard.Digest() {
		return nil, nil
	}
	if c.Artifact != "" {
		return openArtifact(c.Artifact)
	}
	places := []string{conf.Router.Artifact, filepath.Join(conf.DataDir, "models", string(decided))}
	if places[0] != "" {
		places = append(places, filepath.Join(places[0], string(decided)))
	}
	for _, place := range places {
		if place == "" {
			continue
		}
		if a, err := findArtifact(place); err == nil && a.Digest() == decided {
			return classifier.FromArtifact(a)
		}
	}
	return nil, fmt.Errorf("the router %s, which decided, is in no registry that the configuration names: give --artifact", decided)
}

// replayerOf decides over the arms, policies and rules of a configuration.
func replayerOf(m *Main, conf *config, trained *classifier.Classifier) (*serving.Replayer, error) {
	f, err := assemble(conf, m.Getenv, time.Now(), nil)
	if err != nil {
		return nil, err
	}
	current := &inService{getenv: m.Getenv, now: time.Now, log: slog.New(slog.DiscardHandler), trained: trained}
	settings, _, err := current.prepare(conf, f)
	if err != nil {
		return nil, err
	}
	// The round's models may be served no longer, so a router that knows none of today's is not left aside.
	if settings.Router, err = serving.NewRouter(f.arms, trained); err != nil {
		return nil, err
	}
	return serving.NewReplayer(&settings)
}

// writeText shows the two side by side: what decided, what was chosen, and every arm.
func (b *bothDecisions) writeText(w io.Writer) error {
	was, is := b.Logged, b.Replayed
	fmt.Fprintf(w, "%s, decided %s\n\n", was.ID, was.CreatedAt.Format(time.DateTime))
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	line := func(name, was, is string) {
		mark := ""
		if was != is {
			mark = "changed"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, was, is, mark)
	}
	fmt.Fprintln(t, "\tas it was\tas it would be\t")
	line("router", was.RouterVersion, is.RouterVersion)
	line("policy", was.Policy, is.Policy)
	line("strategy", was.Strategy, is.Strategy)
	line("price of a dollar", number(was.Weights.Cost), number(is.Weights.Cost))
	line("model", string(was.Action), string(is.Action))
	line("reason", string(was.Reason), string(is.Reason))
	line("propensity", number(was.Propensity), number(is.Propensity))
	a, z := chosen(was), chosen(is)
	line("expected quality", number(a.Quality), number(z.Quality))
	line("expected dollars", dollarsOf(a.CostUSD), dollarsOf(z.CostUSD))
	fmt.Fprintln(t)
	fmt.Fprintln(t, "model\tquality\tscore\tdollars\tpropensity\tfilter")
	for i := range min(len(was.Candidates), len(is.Candidates)) {
		a, z := &was.Candidates[i], &is.Candidates[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Model, arrow(number(a.Quality), number(z.Quality)), arrow(number(a.Score), number(z.Score)),
			arrow(dollarsOf(a.CostUSD), dollarsOf(z.CostUSD)), arrow(number(a.Propensity), number(z.Propensity)), arrow(string(a.Filter), string(z.Filter)))
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "Now %s\n", is.Sentence)
	return err
}

// chosen is the candidate that a decision is for.
func chosen(e *serving.Explanation) serving.Candidate {
	for i := range e.Candidates {
		if e.Candidates[i].Model == e.Action {
			return e.Candidates[i]
		}
	}
	return serving.Candidate{}
}

func arrow(was, is string) string {
	if was == is {
		return cmp.Or(was, "-")
	}
	return cmp.Or(was, "-") + " → " + cmp.Or(is, "-")
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

func dollarsOf(usd *float64) string {
	if usd == nil {
		return "unpriced"
	}
	return number(*usd)
}
