package reward

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/columnar"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// RoundsMax is the number of scored rounds that are kept; of more, a sample by the hash of their draws is.
const RoundsMax = 200_000

// Options say how a log is scored. The zero value is DefaultSpec and the rule of the API for who may see a round.
type Options struct {
	Spec Spec
}

// Validate reports options that cannot be honoured.
func (o *Options) Validate() error {
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
	// Estimate has the table's cells: the quality that the router of that day expected of the arm, NaN where the arm was
	// not eligible or nothing was estimated.
	Estimate []float64
	// Spec made the scores.
	Spec   Spec
	Counts Counts
}

// Apply scores a log. It reads the rounds twice, the feedback once, and holds in memory all feedback, the scored rounds
// up to RoundsMax, and the distributions of sticky draws.
func Apply(ctx context.Context, l *datasets.Log, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Spec.Version == 0 {
		o.Spec = DefaultSpec()
	}
	j := &join{
		spec: o.Spec, digest: features.DefaultSpec().Digest(), teams: map[string]team{}, draws: map[datasets.RoundID]*draw{},
		seen: map[datasets.RoundID]bool{}, counts: Counts{Dropped: map[Reason]int{}, FeedbackDropped: map[Reason]int{}},
	}
	head := l.Head()
	for _, pass := range []func(context.Context, *datasets.Log) error{j.index, j.listen, j.score} {
		if err := pass(ctx, l); err != nil {
			return nil, fmt.Errorf("reward: %w", err)
		}
	}
	out := j.result()
	out.Table.SHA256 = head // the chain's last link vouches for all before it
	return out, nil
}

type team struct{ org, team string }

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
	order         [8]byte
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
	teams  map[string]team // of keys that asked for something
	draws  map[datasets.RoundID]*draw
	words  map[datasets.RoundID][]word
	seen   map[datasets.RoundID]bool // rounds that were spoken of or drew for others
	rows   []row
	counts Counts
}

// index learns the teams of keys and which rounds drew for others, from flat columns alone.
func (j *join) index(ctx context.Context, l *datasets.Log) error {
	return l.Columns(ctx, []string{"key_id", "org", "team", "round_id", "draw_id"}, func(b *columnar.Batch) error {
		c := b.Columns
		for i := range b.Rows {
			if key := c[0].Strings[i]; j.teams[key] == (team{}) {
				j.teams[key] = team{c[1].Strings[i], c[2].Strings[i]}
			}
			if c[3].Strings[i] != c[4].Strings[i] {
				j.draws[datasets.RoundID(c[4].Strings[i])] = nil
			}
		}
		return nil
	})
}

// listen gathers the feedback. It cannot use Log.LastFeedback: a key that may not see a round must not silence one that
// may, so the last word is looked for among those that count.
func (j *join) listen(ctx context.Context, l *datasets.Log) error {
	j.words = map[datasets.RoundID][]word{}
	return l.Feedback(ctx, func(batch []datasets.Feedback) error {
		if j.counts.Feedback += len(batch); j.counts.Feedback > datasets.FeedbackMax {
			return fmt.Errorf("the log holds more than %d rows of feedback", datasets.FeedbackMax)
		}
		for _, f := range batch {
			w := word{source: j.spec.index(f.Source), score: f.Score, key: f.KeyID, at: f.At}
			switch {
			case w.source < 0:
				j.counts.FeedbackDropped[OtherSource]++
			case !(f.Score >= 0 && f.Score <= 1):
				j.counts.FeedbackDropped[OutOfRange]++
			default:
				j.words[f.RoundID] = append(j.words[f.RoundID], w)
			}
		}
		return nil
	})
}

// score reads the rounds and keeps those that can be scored.
func (j *join) score(ctx context.Context, l *datasets.Log) error {
	err := l.Rounds(ctx, func(batch []datasets.Round) error {
		for i := range batch {
			j.take(&batch[i])
		}
		if len(j.rows) > 2*RoundsMax {
			j.sample()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(j.rows) > RoundsMax {
		j.sample()
	}
	j.counts.Kept = len(j.rows)
	for _, words := range j.words {
		j.counts.FeedbackDropped[NoRound] += len(words)
	}
	return nil
}

// take counts one round under a reason or keeps it.
func (j *join) take(r *datasets.Round) {
	d := &r.Decision
	j.counts.Rounds++
	words, spoken := j.words[d.RoundID]
	_, opener := j.draws[d.RoundID]
	if j.seen[d.RoundID] {
		j.counts.Dropped[Duplicate]++
		return
	}
	if spoken || opener {
		j.seen[d.RoundID] = true
		delete(j.words, d.RoundID)
	}
	p := distribution(d)
	if opener {
		j.draws[d.RoundID] = p
	}
	group := cmp.Or(d.DrawID, d.RoundID)
	if group != d.RoundID {
		p = j.draws[group] // a session begins before it goes on, so its draw was read before; nil where it was not
	}
	out := row{believed: believed(d), draw: p, arm: d.Action, cost: datasets.Unpriced}
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
	j.counts.Scored++
	j.counts.FeedbackUsed += out.used
	j.counts.FeedbackDropped[Superseded] += out.replaced
	sum := sha256.Sum256([]byte(group))
	out.order, out.prompt.ID, out.prompt.Group = [8]byte(sum[:8]), string(d.RoundID), string(group)
	j.rows = append(j.rows, out)
}

func (j *join) drop(reason Reason, words int) {
	j.counts.Dropped[reason]++
	j.counts.FeedbackDropped[RoundDropped] += words
}

// refuse is the reason why the outcome or the propensity of a round is of no use, or empty.
func (j *join) refuse(r *datasets.Round, p *draw) Reason {
	switch r.Outcome.Status {
	case datasets.Completed:
	case datasets.Refused:
		return Refused
	case datasets.Failed:
		return Failed
	case datasets.ClientGone:
		return ClientGone
	default:
		return Unknown
	}
	if p == nil {
		return NoPropensity
	}
	if r.Outcome.Served != r.Decision.Action || p.action != r.Decision.Action {
		return Fallback
	}
	return ""
}

// distribution is what the action was drawn from, or nil where the log does not say it exactly.
func distribution(d *datasets.Decision) *draw {
	if len(d.Propensities) != len(d.Case.Candidates) {
		return nil
	}
	p := &draw{action: d.Action}
	total, found := 0.0, false
	for i, v := range d.Propensities {
		if !(v >= 0 && v <= 1) {
			return nil
		}
		if v == 0 {
			continue
		}
		arm := d.Case.Candidates[i].Arm
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
func believed(d *datasets.Decision) []belief {
	var out []belief
	any := false
	for i := range d.Case.Candidates {
		a := &d.Case.Candidates[i]
		if !a.Prior && a.Quality >= 0 && a.Quality <= 1 {
			out = append(out, belief{a.Arm, a.Quality})
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
	return known && t.team != "" && t == team{d.Org, d.Team}
}

// outcome copies what the served arm took. Zero usage is unknown, as in a sealed part.
func (out *row) outcome(o *datasets.Outcome) {
	if o.CostStatus == datasets.CostFinal || o.CostStatus == datasets.CostEstimated {
		out.cost = o.Cost
	}
	nan := float32(math.NaN())
	out.input, out.output, out.latency = nan, nan, nan
	if o.Usage != (catalog.Usage{}) {
		out.input = float32(o.Usage.Input + o.Usage.CacheRead + o.Usage.CacheWrite)
		out.output = float32(o.Usage.Output)
	}
	if o.LatencyMS > 0 {
		out.latency = float32(o.LatencyMS)
	}
}

// sample keeps RoundsMax rounds by the hash of their draws, in the order of the log.
func (j *join) sample() {
	order := make([]int, len(j.rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return slices.Compare(j.rows[a].order[:], j.rows[b].order[:]) })
	order = order[:RoundsMax]
	slices.Sort(order)
	kept := make([]row, len(order))
	for k, i := range order {
		kept[k] = j.rows[i]
	}
	j.rows = kept
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
