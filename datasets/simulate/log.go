package simulate

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
)

// RoundsOptions choose a log of a world: what would have been served, and what was seen of it.
type RoundsOptions struct {
	// From is the number of the first prompt and N how many there are, one a round.
	From, N int64
	// Policy draws the arms, policy.Router where nil, and Epsilon is the share of its probability spread evenly.
	Policy  policy.Policy
	Epsilon float64
	// Lambda is the price of a dollar.
	Lambda float64
	// Estimate is what the incumbent router thinks of a prompt, an element an arm of the world. It must be set.
	Estimate func(dst *policy.Estimates, text string)
	// Feedback is the share of rounds that somebody scores, all where zero. The scores come up to 30 days late.
	Feedback float64
	// Begin is when the first round was decided; a round follows every second. Zero is the start of 2026.
	Begin time.Time
	// Features, where set, is kept with its Spec's digest in place of the text, as for a tenant that stores no text.
	Features   func(text string) []byte
	SpecDigest string
}

// Validate reports a log that nobody could have written.
func (o *RoundsOptions) Validate() error {
	if o.From < 0 || o.N < 0 {
		return fmt.Errorf("simulate: %d rounds from %d on: want 0 or more", o.N, o.From)
	}
	if o.Epsilon < 0 || o.Epsilon > 1 || o.Feedback < 0 || o.Feedback > 1 {
		return fmt.Errorf("simulate: rounds with epsilon %v and feedback %v: want 0 to 1", o.Epsilon, o.Feedback)
	}
	if o.Estimate == nil {
		return errors.New("simulate: rounds need the estimates of an incumbent")
	}
	return nil
}

// Logged is one round and the feedback that came for it, nil where none did.
type Logged struct {
	Round    datasets.Round
	Feedback *datasets.Feedback
}

// roundsStart is the time of the first round of a log that names none, in seconds since 1970.
const roundsStart = 1767225600

// Rounds yields the log that a server of this world would have sealed: every arm drawn from what the policy proposed,
// with exactly the propensities that it was drawn with, and the outcome of that arm alone. Equal options give equal
// logs.
func (w *World) Rounds(o RoundsOptions) (iter.Seq[Logged], error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Policy == nil {
		o.Policy = policy.Router{}
	}
	if o.Feedback == 0 {
		o.Feedback = 1
	}
	if o.Begin.IsZero() {
		o.Begin = time.Unix(roundsStart, 0)
	}
	return func(yield func(Logged) bool) {
		var e policy.Estimates
		var p policy.Distribution
		for i := o.From; i < o.From+o.N; i++ {
			if !yield(w.logged(&o, i, &e, &p)) {
				return
			}
		}
	}, nil
}

// logged plays one round.
func (w *World) logged(o *RoundsOptions, i int64, e *policy.Estimates, p *policy.Distribution) Logged {
	t := w.Sample(i)
	r := source(uint64(w.options.Seed), uint64(i), 1<<33) // beyond the purposes of arms
	at := datasets.Instant(o.Begin.Add(time.Duration(i-o.From) * time.Second))
	o.Estimate(e, t.Text)
	d := datasets.Decision{
		RoundID: datasets.RoundID("rnd_" + t.ID), DrawID: datasets.RoundID("rnd_" + t.ID), At: at, KeyID: "sim", Org: "sim", Team: "sim",
		Requested: "tradewind/auto", Policy: "router", Strategy: "quality", Complexity: e.Complexity, Case: w.weigh(o, &t, e), Prompt: t.Text,
	}
	if o.Features != nil {
		d.Prompt, d.Features, d.SpecDigest = "", o.Features(t.Text), o.SpecDigest
	}
	o.Policy.Propose(p, &d.Case)
	arm := policy.Draw(p, r.Float64())
	d.Propensities, d.Propensity = append([]float64(nil), p.P...), p.P[arm]
	d.Action, d.Explored, d.Reason = w.arms[arm].ID, arm != p.Best, datasets.Predicted
	if d.Explored {
		d.Reason = datasets.Explored
	}
	made := w.Outcome(&t, arm)
	out := datasets.Outcome{
		RoundID: d.RoundID, At: at.Add(time.Duration(made.LatencyMS) * time.Millisecond), Status: datasets.Completed, Served: d.Action,
		Cost: made.Cost, CostStatus: datasets.CostFinal, LatencyMS: made.LatencyMS,
	}
	out.Usage.Input, out.Usage.Output = int64(made.InputTokens), int64(made.OutputTokens)
	logged := Logged{Round: datasets.Round{Decision: d, Outcome: out}}
	if r.Float64() < o.Feedback {
		const latest = 30 * 24 * time.Hour
		logged.Feedback = &datasets.Feedback{
			RoundID: d.RoundID, Source: "user", Score: made.Score, KeyID: d.KeyID,
			At: datasets.Instant(at.Add(time.Duration(r.Float64() * r.Float64() * float64(latest)))),
		}
	}
	return logged
}

// weigh is the case that the incumbent saw: all arms eligible, priced by its own forecast of their length.
func (w *World) weigh(o *RoundsOptions, t *Task, e *policy.Estimates) policy.Case {
	c := policy.Case{Fallback: -1, Reference: -1, Pinned: -1, Lambda: o.Lambda, Explore: o.Epsilon > 0, Epsilon: o.Epsilon}
	input := float64((len(t.Text)+tokenBytes-1)/tokenBytes + wrapTokens)
	for a := range w.arms {
		prices := w.arms[a].Prices
		c.Candidates = append(c.Candidates, policy.Candidate{
			Arm: w.arms[a].ID, Quality: e.Quality[a], QualityErr: e.QualityErr[a], Score: e.Score[a], Gap: e.Gap[a], GapErr: e.GapErr[a],
			OutputTokens: e.OutputTokens[a], Priced: true, Availability: 1,
			CostUSD: (input*float64(prices.Input) + e.OutputTokens[a]*float64(prices.Output)) / 1e12,
		})
	}
	return c
}
