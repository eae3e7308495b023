package reward

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/columnar"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

const (
	// RoundsMax is the number of scored rounds that are kept; of more, a sample by the hash of their draws is.
	RoundsMax = 200_000
	// heldShare times as many rounds are held that somebody spoke of. Where fewer than a quarter of those can be scored,
	// the sample is smaller than it might be.
	heldShare = 4
)

// Options say how a log is scored. The zero value is DefaultSpec and the rule of the API for who may see a round.
type Options struct {
	Spec Spec
	// RoundsMax is the number of scored rounds that are kept, RoundsMax where zero.
	RoundsMax int
}

// Validate reports options that cannot be honoured.
func (o *Options) Validate() error {
	if o.RoundsMax < 0 {
		return fmt.Errorf("reward: at most %d rounds: want 0 or more", o.RoundsMax)
	}
	if o.Spec.Version == 0 && o.Spec.Sources == nil {
		return nil
	}
	return o.Spec.Validate()
}

// Result is a log as scored rows: a table in which one arm of every prompt was observed.
type Result struct {
	// Table has one prompt a scored round, named by the round's id and grouped by its draw, in the order of the log.
	Table *datasets.Table
	// Propensity has the table's cells: the probability with which the arm was drawn in the prompt's case. It is 0 for
	// an arm that was not eligible. Rounds of a sticky session have the propensities of the draw that opened it.
	Propensity []float64
	// Estimate has the table's cells: the quality that the router of that day expected of the arm from the prompt, without
	// what it knew of the team; NaN where the arm was not eligible or nothing was estimated.
	Estimate []float64
	// Team is whose each prompt was.
	Team []Team
	// Spec made the scores.
	Spec   Spec
	Counts Counts
}

// Apply scores a log in bounded memory. It reads the feedback twice and the rounds twice: who was spoken of, which of
// these rounds come first by the hash of their draws, what was said of those, and the rounds themselves. It holds nine
// bytes a feedback, the words on a multiple of RoundsMax rounds with their draws, and the scored rows. What it keeps is
// what it would of all scored rounds, and Counts say what was passed over.
func Apply(ctx context.Context, l *datasets.Log, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Spec.Version == 0 {
		o.Spec = DefaultSpec()
	}
	j := newJoin(o.Spec, cmp.Or(o.RoundsMax, RoundsMax))
	head := l.Head()
	for _, pass := range []func(context.Context, *datasets.Log) error{j.census, j.index, j.listen, j.score} {
		if err := pass(ctx, l); err != nil {
			return nil, fmt.Errorf("reward: %w", err)
		}
	}
	out := j.result()
	out.Table.SHA256 = head // the chain's last link vouches for all before it
	return out, nil
}

// Team is a team of an organization; both are empty where the key belonged to nobody.
type Team struct{ Org, Team string }

// draw is the distribution that fixed the arm of one or more rounds.
type draw struct {
	action     catalog.ArmID
	arms       []catalog.ArmID
	propensity []float64
}

// word is one feedback on its way to its round.
type word struct {
	source int
	score  float64
	key    string
	at     time.Time
}

// row is one scored round.
type row struct {
	prompt        datasets.Prompt
	key           uint64 // of the draw
	team          Team
	arm           catalog.ArmID
	score         float64
	cost          catalog.Nanodollars
	input, output float32
	latency       float32

	draw           *draw
	believed       []belief
	used, replaced int
}

type join struct {
	spec   Spec
	digest string
	max    int
	heard  heard
	held   holding
	teams  map[string]Team            // of keys that asked for something
	draws  map[datasets.RoundID]*draw // that opened sessions which are held
	seen   map[datasets.RoundID]bool  // rounds that are held or drew for such
	names  map[string]string          // of arms and keys, once each
	rows   []row
	counts Counts
}

func newJoin(s Spec, max int) *join {
	return &join{
		spec: s, digest: features.DefaultSpec().Digest(), max: max,
		held:  holding{max: heldShare * max, at: map[datasets.RoundID]int32{}},
		teams: map[string]Team{}, draws: map[datasets.RoundID]*draw{}, seen: map[datasets.RoundID]bool{}, names: map[string]string{},
		counts: Counts{Dropped: map[Reason]int{}, FeedbackDropped: map[Reason]int{}},
	}
}

// index learns the teams of keys, and which rounds to hold and which drew for them, from flat columns alone.
func (j *join) index(ctx context.Context, l *datasets.Log) error {
	err := l.Columns(ctx, []string{"key_id", "org", "team", "round_id", "draw_id"}, func(b *columnar.Batch) error {
		c := b.Columns
		for i := range b.Rows {
			t := Team{c[1].Strings[i], c[2].Strings[i]}
			if key := c[0].Strings[i]; t != (Team{}) && j.teams[key] == (Team{}) {
				j.teams[strings.Clone(key)] = Team{strings.Clone(t.Org), strings.Clone(t.Team)} // a string holds its whole batch
			}
			id := c[3].Strings[i]
			if k, spoken := j.heard.find(datasets.RoundID(id)); spoken {
				j.heard.inLog[k] = true
				j.held.take(id, cmp.Or(c[4].Strings[i], id))
			}
		}
		return nil
	})
	for i := range j.held.rounds {
		if r := &j.held.rounds[i]; r.draw != r.id {
			j.draws[r.draw] = nil
		}
	}
	return err
}

// listen gathers what was said of the rounds that are held. It cannot use Log.LastFeedback: a key that may not see a
// round must not silence one that may, so the last word is looked for among those that count.
func (j *join) listen(ctx context.Context, l *datasets.Log) error {
	return l.Feedback(ctx, func(batch []datasets.Feedback) error {
		for i := range batch {
			f := &batch[i]
			if j.spec.mute(f) != "" {
				continue
			}
			if at, held := j.held.at[f.RoundID]; held {
				r := &j.held.rounds[at]
				r.words = append(r.words, word{source: j.spec.index(f.Source), score: f.Score, key: j.name(f.KeyID), at: f.At})
			} else if k, _ := j.heard.find(f.RoundID); j.heard.inLog[k] {
				j.counts.FeedbackDropped[NotSampled]++
			} else {
				j.counts.FeedbackDropped[NoRound]++
			}
		}
		return nil
	})
}

// name keeps one copy of a name.
func (j *join) name(s string) string {
	if kept, known := j.names[s]; known {
		return kept
	}
	j.names[s] = s
	return s
}

// score reads the rounds and keeps those that can be scored.
func (j *join) score(ctx context.Context, l *datasets.Log) error {
	err := l.Rounds(ctx, func(batch []datasets.Round) error {
		for i := range batch {
			j.take(&batch[i])
		}
		if len(j.rows) > j.max+j.max/4 {
			j.sample()
		}
		return nil
	})
	j.sample()
	j.counts.Kept = len(j.rows)
	return err
}

// take counts one round under a reason or keeps it.
func (j *join) take(r *datasets.Round) {
	d := &r.Decision
	j.counts.Rounds++
	at, held := j.held.at[d.RoundID]
	_, opener := j.draws[d.RoundID]
	if j.seen[d.RoundID] {
		j.counts.Dropped[Duplicate]++
		return
	}
	var p *draw
	if held || opener {
		j.seen[d.RoundID] = true
		p = j.distribution(d)
	}
	if opener {
		j.draws[d.RoundID] = p
	}
	if !held {
		j.counts.Dropped[j.passed(r)]++
		return
	}
	words := j.held.rounds[at].words
	j.held.rounds[at].words = nil
	group := cmp.Or(d.DrawID, d.RoundID)
	if group != d.RoundID {
		p = j.draws[group] // a session begins before it goes on, so its draw was read before; nil where it was not
	}
	out := row{believed: j.believed(d), draw: p, team: Team{j.name(d.Org), j.name(d.Team)}, arm: catalog.ArmID(j.name(string(d.Action))), cost: datasets.Unpriced}
	if reason := j.refuse(r, p); reason != "" {
		j.drop(reason, len(words))
		return
	}
	if reason := j.content(&out, d); reason != "" {
		j.drop(reason, len(words))
		return
	}
	if !j.hear(&out, d, words) {
		j.counts.Dropped[NoFeedback]++
		return // what was said was counted as it was refused
	}
	out.outcome(&r.Outcome)
	if a := rejected(r); a != nil {
		out.score = 0
		out.outcome(&datasets.Outcome{Cost: a.Cost, CostStatus: r.Outcome.CostStatus, LatencyMS: a.TotalMS})
	}
	j.counts.Scored++
	j.counts.FeedbackUsed += out.used
	j.counts.FeedbackDropped[Superseded] += out.replaced
	out.key, out.prompt.ID, out.prompt.Group = datasets.HashKey(string(group)), string(d.RoundID), string(group)
	j.rows = append(j.rows, out)
}

func (j *join) drop(reason Reason, words int) {
	j.counts.Dropped[reason]++
	j.counts.FeedbackDropped[RoundDropped] += words
}

// passed is the reason why a round that is not held is passed over.
func (j *join) passed(r *datasets.Round) Reason {
	if reason := ended(r.Outcome.Status); reason != "" {
		return reason
	}
	if j.held.bounded {
		if _, spoken := j.heard.find(r.Decision.RoundID); spoken {
			return NotSampled
		}
	}
	return NoFeedback
}

// ended is the reason why a round that did not end well is of no use, or empty.
func ended(s datasets.Status) Reason {
	switch s {
	case datasets.Completed:
		return ""
	case datasets.Refused:
		return Refused
	case datasets.Failed:
		return Failed
	case datasets.ClientGone:
		return ClientGone
	}
	return Unknown
}

// refuse is the reason why the outcome or the propensity of a round is of no use, or empty.
func (j *join) refuse(r *datasets.Round, p *draw) Reason {
	if reason := ended(r.Outcome.Status); reason != "" {
		return reason
	}
	if p == nil {
		return NoPropensity
	}
	if r.Outcome.Served != r.Decision.Action && rejected(r) == nil || p.action != r.Decision.Action {
		return Fallback
	}
	return ""
}

// distribution is what the action was drawn from, or nil where the log does not say it exactly.
func (j *join) distribution(d *datasets.Decision) *draw {
	if len(d.Propensities) != len(d.Case.Candidates) {
		return nil
	}
	p := &draw{action: catalog.ArmID(j.name(string(d.Action)))}
	total, found := 0.0, false
	for i, v := range d.Propensities {
		if !(v >= 0 && v <= 1) {
			return nil
		}
		if v == 0 {
			continue
		}
		arm := catalog.ArmID(j.name(string(d.Case.Candidates[i].Arm)))
		total += v
		found = found || arm == d.Action && v == d.Propensity
		p.arms, p.propensity = append(p.arms, arm), append(p.propensity, v)
	}
	if !found || math.Abs(total-1) > 1e-6 {
		return nil
	}
	return p
}

// belief is what the router of the day expected of an arm.
type belief struct {
	arm     catalog.ArmID
	quality float64
}

// believed are the estimates of a case. A prior is no estimate: nobody had measured anything. There are none where every
// one is 0, which no classifier says.
func (j *join) believed(d *datasets.Decision) []belief {
	var out []belief
	any := false
	for i := range d.Case.Candidates {
		a := &d.Case.Candidates[i]
		if !a.Prior && a.Quality >= 0 && a.Quality <= 1 {
			out = append(out, belief{catalog.ArmID(j.name(string(a.Arm))), max(0, min(1, a.Quality-a.History))})
			any = any || a.Quality > 0
		}
	}
	if !any {
		return nil
	}
	return out
}

// content keeps the features where they are of this program's Spec, and the text beside them.
func (j *join) content(out *row, d *datasets.Decision) Reason {
	out.prompt.Text = d.Prompt
	switch {
	case len(d.Features) > 0 && d.SpecDigest == j.digest:
		var x features.Context
		if x.Parse(d.Features) != nil {
			return BadFeatures
		}
		out.prompt.Features = string(d.Features)
	case d.Prompt != "":
	case len(d.Features) > 0:
		return OtherSpec
	default:
		return NoContent
	}
	return ""
}

// hear sets the score to the weighted mean of the last word of every source, and reports whether there is one.
func (j *join) hear(out *row, d *datasets.Decision, words []word) bool {
	last := make([]*word, len(j.spec.Sources))
	for i := range words {
		w := &words[i]
		age := w.at.Sub(d.At)
		switch {
		case !j.maySee(w.key, d):
			j.counts.FeedbackDropped[Forbidden]++
		case age < -time.Minute || age > j.spec.Within: // some clock is ahead, but not by more
			j.counts.FeedbackDropped[OutOfTime]++
		case last[w.source] != nil && w.at.Before(last[w.source].at):
			out.replaced++
		default:
			if last[w.source] != nil {
				out.replaced++
			}
			last[w.source] = w
		}
	}
	total, weight := 0.0, 0.0
	for k, w := range last {
		if w != nil {
			total, weight = total+j.spec.Sources[k].Weight*w.score, weight+j.spec.Sources[k].Weight
			out.used++
		}
	}
	out.score = total / weight
	return weight > 0
}

// maySee is the rule of the API: a key sees its own rounds and those of its team. Feedback without a key is the
// server's own.
func (j *join) maySee(key string, d *datasets.Decision) bool {
	if key == "" || key == d.KeyID {
		return true
	}
	t, known := j.teams[key]
	return known && t.Team != "" && t == Team{d.Org, d.Team}
}

// outcome copies what the served arm took. Zero usage is unknown, as in a sealed part.
func (out *row) outcome(o *datasets.Outcome) {
	if o.CostStatus == datasets.CostFinal || o.CostStatus == datasets.CostEstimated {
		out.cost = o.Cost
	}
	nan := float32(math.NaN())
	out.input, out.output, out.latency = nan, nan, nan
	if o.Usage != (catalog.Usage{}) {
		out.input = float32(o.Usage.InputTokens())
		out.output = float32(o.Usage.OutputTokens())
	}
	if o.LatencyMS > 0 {
		out.latency = float32(o.LatencyMS)
	}
}

// sample keeps the first rounds by the hash of their draws, in the order of the log.
func (j *join) sample() {
	j.rows = firstByKey(j.rows, j.max, func(r *row) uint64 { return r.key })
}

// result lays the rows out as a table. Its arms are those that served, in the order in which the log names them.
func (j *join) result() *Result {
	served, index := map[catalog.ArmID]bool{}, map[catalog.ArmID]int{}
	for i := range j.rows {
		served[j.rows[i].arm] = true
	}
	var arms []catalog.ArmID
	for i := range j.rows {
		for _, a := range j.rows[i].draw.arms {
			if _, known := index[a]; !known && served[a] {
				index[a] = len(arms)
				arms = append(arms, a)
			}
		}
	}
	out := &Result{Table: datasets.NewTable(arms, len(j.rows)), Spec: j.spec, Counts: j.counts}
	out.Propensity = make([]float64, len(out.Table.Score))
	out.Estimate = make([]float64, len(out.Table.Score))
	for at := range out.Estimate {
		out.Estimate[at] = math.NaN()
	}
	t := out.Table
	for i := range j.rows {
		r := &j.rows[i]
		t.Prompts[i] = r.prompt
		out.Team = append(out.Team, r.team)
		at := t.At(i, index[r.arm])
		t.Score[at], t.Cost[at], t.Latency[at] = float32(r.score), r.cost, r.latency
		t.Input[at], t.Output[at] = r.input, r.output
		for k, a := range r.draw.arms {
			if n, known := index[a]; known {
				out.Propensity[t.At(i, n)] = r.draw.propensity[k]
			}
		}
		for _, b := range r.believed {
			if n, known := index[b.arm]; known && out.Propensity[t.At(i, n)] > 0 {
				out.Estimate[t.At(i, n)] = b.quality
			}
		}
	}
	return out
}
