package datasets

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// partRow is a round as it lies in a sealed part: the columns of the outcome table first, so that one query reads
// both, then those of the round log. Columns above the line are derived and never read back. Money is there twice:
// cost_usd for people and queries, *_nanousd for the books.
type partRow struct {
	PromptID     string   `parquet:"prompt_id"`
	Dataset      string   `parquet:"dataset,dict"`
	Split        string   `parquet:"split,dict"`
	Prompt       string   `parquet:"prompt"`
	Model        string   `parquet:"model,dict"`
	Score        *float64 `parquet:"score,optional"`
	CostUSD      *float64 `parquet:"cost_usd,optional"`
	InputTokens  *int32   `parquet:"input_tokens,optional"`
	OutputTokens *int32   `parquet:"output_tokens,optional"`
	LatencyMS    *float64 `parquet:"latency_ms,optional"`
	Eligible     []string `parquet:"eligible,list" parquet-element:",dict"`

	RoundID        string        `parquet:"round_id"`
	At             int64         `parquet:"at,timestamp(microsecond)"`
	RequestID      string        `parquet:"request_id"`
	Org            string        `parquet:"org,dict"`
	Team           string        `parquet:"team,dict"`
	KeyID          string        `parquet:"key_id,dict"`
	Conversation   string        `parquet:"conversation"`
	DrawID         string        `parquet:"draw_id"`
	Requested      string        `parquet:"requested,dict"`
	Policy         string        `parquet:"policy,dict"`
	RouterVersion  string        `parquet:"router_version,dict"`
	CatalogVersion string        `parquet:"catalog_version,dict"`
	Strategy       string        `parquet:"strategy,dict"`
	Certified      bool          `parquet:"certified"`
	Complexity     float64       `parquet:"complexity"`
	Estimates      []estimateRow `parquet:"estimates,list"`
	Case           string        `parquet:"case,json"`
	Propensities   []float64     `parquet:"propensities,list"`
	Action         string        `parquet:"action,dict"`
	Propensity     float64       `parquet:"propensity"`
	Explored       bool          `parquet:"explored"`
	Reason         string        `parquet:"reason,dict"`
	Gates          []string      `parquet:"gates,list" parquet-element:",dict"`
	HoldNanoUSD    int64         `parquet:"hold_nanousd"`
	InputEstimate  int64         `parquet:"input_tokens_estimate"`
	Needs          []string      `parquet:"needs,list" parquet-element:",dict"`
	Stream         bool          `parquet:"stream"`
	EndUser        string        `parquet:"end_user,dict"`
	Tags           string        `parquet:"tags,json,dict"`
	Features       []byte        `parquet:"features"`
	SpecDigest     string        `parquet:"spec_digest,dict"`

	EndedAt      int64         `parquet:"ended_at,timestamp(microsecond)"`
	Status       string        `parquet:"status,dict"`
	Served       string        `parquet:"served,dict"`
	ServedReason string        `parquet:"served_reason,dict"`
	Attempts     []attemptRow  `parquet:"attempts,list"`
	Usage        catalog.Usage `parquet:"usage"`
	CostNanoUSD  int64         `parquet:"cost_nanousd"`
	CostStatus   string        `parquet:"cost_status,dict"`
	Error        string        `parquet:"error,dict"`
	TTFTMS       *float64      `parquet:"ttft_ms,optional"`
	RoundMS      float64       `parquet:"round_ms"`
	OverheadMS   float64       `parquet:"overhead_ms"`
}

// estimateRow is what the classifier said of one candidate.
type estimateRow struct {
	Model        string  `parquet:"model,dict"`
	Quality      float64 `parquet:"quality"`
	QualityErr   float64 `parquet:"quality_err"`
	OutputTokens float64 `parquet:"output_tokens"`
}

type attemptRow struct {
	Model        string        `parquet:"model,dict"`
	StartedAt    int64         `parquet:"started_at,timestamp(microsecond)"`
	Outcome      string        `parquet:"outcome,dict"`
	HTTPStatus   int64         `parquet:"http_status"`
	ErrorClass   string        `parquet:"error_class,dict"`
	FirstTokenMS *float64      `parquet:"first_token_ms,optional"`
	TotalMS      float64       `parquet:"total_ms"`
	CostNanoUSD  int64         `parquet:"cost_nanousd"`
	Verdicts     []GateVerdict `parquet:"gate_verdicts,list"`
}

// roundColumns are the names of a part's top-level columns.
func roundColumns() []string {
	var names []string
	for _, field := range parquet.SchemaOf(partRow{}).Fields() {
		names = append(names, field.Name())
	}
	return names
}

// sealable is the round as a part can hold it, and as it will be read back: instants in UTC at whole microseconds,
// empty slices and maps nil. It refuses what JSON could not have carried through the journal either.
func sealable(r *Round) (Round, error) {
	d, o := r.Decision, r.Outcome
	if d.RoundID == "" || d.RoundID != o.RoundID {
		return Round{}, fmt.Errorf("round %q has the outcome of %q", d.RoundID, o.RoundID)
	}
	if y := d.At.UTC().Year(); y < 2000 || y > 2199 {
		return Round{}, fmt.Errorf("round %q was decided at %v", d.RoundID, d.At)
	}
	d.At, o.At = microsecond(d.At), microsecond(o.At)
	d.Case.Candidates, d.Propensities, d.Features = nilIfEmpty(d.Case.Candidates), nilIfEmpty(d.Propensities), nilIfEmpty(d.Features)
	if len(d.Tags) == 0 {
		d.Tags = nil
	}
	d.Gates, d.Needs = nilIfEmpty(d.Gates), nilIfEmpty(d.Needs)
	o.Attempts = slices.Clone(nilIfEmpty(o.Attempts))
	floats := []float64{d.Complexity, d.Propensity, o.LatencyMS, o.OverheadMS, deref(o.TTFTMS)}
	floats = append(floats, d.Propensities...)
	for _, c := range d.Case.Candidates {
		floats = append(floats, c.Quality, c.QualityErr, c.OutputTokens)
	}
	for i := range o.Attempts {
		a := &o.Attempts[i]
		a.StartedAt, a.Verdicts = microsecond(a.StartedAt), nilIfEmpty(a.Verdicts)
		floats = append(floats, a.TotalMS, deref(a.FirstTokenMS))
		for _, v := range a.Verdicts {
			floats = append(floats, v.TotalMS)
		}
	}
	for _, f := range floats {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return Round{}, fmt.Errorf("round %q holds the number %v", d.RoundID, f)
		}
	}
	return Round{Decision: d, Outcome: o}, nil
}

func microsecond(t time.Time) time.Time { return fromMicros(t.UnixMicro()) }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

func nilIfEmpty[S ~[]E, E any](s S) S {
	if len(s) == 0 {
		return nil
	}
	return s
}

func deref(p *float64) float64 {
	if p == nil {
		return 0
	}
	return *p
}

// flatten lays a sealable round out in columns. scratch is room for its JSON.
func flatten(r *Round, scratch *[]byte) (partRow, error) {
	d, o := &r.Decision, &r.Outcome
	estimates, eligible, rest := splitCase(&d.Case)
	caseJSON, err := appendCase((*scratch)[:0], &rest)
	*scratch = caseJSON
	if err != nil {
		return partRow{}, fmt.Errorf("round %q: its case: %w", d.RoundID, err)
	}
	tags := []byte("null")
	if d.Tags != nil {
		if tags, err = json.Marshal(d.Tags); err != nil {
			return partRow{}, fmt.Errorf("round %q: its tags: %w", d.RoundID, err)
		}
	}
	row := partRow{
		PromptID: string(d.RoundID), Prompt: d.Prompt, Model: string(o.Served), Eligible: eligible,
		RoundID: string(d.RoundID), At: d.At.UnixMicro(), RequestID: d.RequestID, Org: d.Org, Team: d.Team, KeyID: d.KeyID,
		Conversation: d.Conversation, DrawID: string(d.DrawID), Requested: d.Requested, Policy: d.Policy,
		RouterVersion: d.RouterVersion, CatalogVersion: d.CatalogVersion, Strategy: d.Strategy, Certified: d.Certified,
		Complexity: d.Complexity, Estimates: estimates, Case: string(caseJSON), Propensities: d.Propensities,
		Action: string(d.Action), Propensity: d.Propensity, Explored: d.Explored, Reason: string(d.Reason),
		Gates: d.Gates, HoldNanoUSD: int64(d.Hold), InputEstimate: int64(d.InputTokens), Needs: d.Needs, Stream: d.Stream, EndUser: d.EndUser, Tags: string(tags),
		Features: d.Features, SpecDigest: d.SpecDigest,
		EndedAt: o.At.UnixMicro(), Status: string(o.Status), Served: string(o.Served), ServedReason: string(o.Reason),
		Usage: o.Usage, CostNanoUSD: int64(o.Cost), CostStatus: string(o.CostStatus), Error: o.Error,
		TTFTMS: o.TTFTMS, RoundMS: o.LatencyMS, OverheadMS: o.OverheadMS,
	}
	for _, a := range o.Attempts {
		row.Attempts = append(row.Attempts, attemptRow{
			Model: string(a.Arm), StartedAt: a.StartedAt.UnixMicro(), Outcome: a.Outcome, HTTPStatus: int64(a.HTTPStatus),
			ErrorClass: a.ErrorClass, FirstTokenMS: a.FirstTokenMS, TotalMS: a.TotalMS, CostNanoUSD: int64(a.Cost),
			Verdicts: a.Verdicts,
		})
	}
	row.derive(o)
	return row, nil
}

// derive fills the outcome table's nullable columns: null is what nobody knows.
func (row *partRow) derive(o *Outcome) {
	if o.CostStatus == CostFinal || o.CostStatus == CostEstimated {
		usd := o.Cost.Dollars()
		row.CostUSD = &usd
	}
	if o.Usage != (catalog.Usage{}) {
		row.InputTokens = tokenCount(o.Usage.InputTokens())
		row.OutputTokens = tokenCount(o.Usage.OutputTokens())
	}
	if o.LatencyMS > 0 {
		ms := o.LatencyMS
		row.LatencyMS = &ms
	}
}

func tokenCount(n int64) *int32 {
	if n < 0 || n > math.MaxInt32 {
		return nil
	}
	v := int32(n)
	return &v
}

// splitCase takes out of a case what has columns of its own. The rest is the case itself with those fields empty, not
// a type beside it: a field that is added to policy.Case is logged from its first day.
func splitCase(c *policy.Case) (estimates []estimateRow, eligible []string, rest policy.Case) {
	rest = *c
	rest.Candidates = slices.Clone(c.Candidates)
	for i := range rest.Candidates {
		a := &rest.Candidates[i]
		estimates = append(estimates, estimateRow{string(a.Arm), a.Quality, a.QualityErr, a.OutputTokens})
		if a.Filter == policy.Eligible {
			eligible = append(eligible, string(a.Arm))
		}
		a.Arm, a.Quality, a.QualityErr, a.OutputTokens = "", 0, 0, 0
	}
	return estimates, eligible, rest
}

// says reports whether a row that was read back is the row that was written, and says what the round does. The columns
// that hold JSON, most of a round, are compared as text; decoded is asked for now and then, and compares those too as what
// a reader will make of them.
func (row *partRow) says(wrote *partRow, want *Round, decoded bool) bool {
	if row.Case != wrote.Case || row.Tags != wrote.Tags || !slices.Equal(row.Estimates, wrote.Estimates) || !slices.Equal(row.Eligible, wrote.Eligible) {
		return false
	}
	if decoded {
		r, err := row.round()
		return err == nil && reflect.DeepEqual(r, *want)
	}
	flat := *want
	flat.Decision.Case, flat.Decision.Tags = policy.Case{}, nil
	return reflect.DeepEqual(row.flat(), flat)
}

// round is the inverse of flatten.
func (row *partRow) round() (Round, error) {
	r := row.flat()
	d := &r.Decision
	if err := parseCase(&d.Case, []byte(row.Case)); err != nil {
		return r, fmt.Errorf("round %q: column case: %w", row.RoundID, err)
	}
	if len(d.Case.Candidates) != len(row.Estimates) {
		return r, fmt.Errorf("round %q: %d candidates and %d estimates", row.RoundID, len(d.Case.Candidates), len(row.Estimates))
	}
	for i, e := range row.Estimates {
		a := &d.Case.Candidates[i]
		a.Arm, a.Quality, a.QualityErr, a.OutputTokens = catalog.ArmID(e.Model), e.Quality, e.QualityErr, e.OutputTokens
	}
	if row.Tags != "null" {
		if err := json.Unmarshal([]byte(row.Tags), &d.Tags); err != nil {
			return r, fmt.Errorf("round %q: column tags: %w", row.RoundID, err)
		}
	}
	return r, nil
}

// flat is the round but for what stands in JSON: its case and its tags.
func (row *partRow) flat() Round {
	r := Round{
		Decision: Decision{
			RoundID: RoundID(row.RoundID), At: fromMicros(row.At), RequestID: row.RequestID, Org: row.Org, Team: row.Team,
			KeyID: row.KeyID, Conversation: row.Conversation, DrawID: RoundID(row.DrawID), Requested: row.Requested,
			Policy: row.Policy, RouterVersion: row.RouterVersion, CatalogVersion: row.CatalogVersion, Strategy: row.Strategy,
			Certified: row.Certified, Complexity: row.Complexity, Propensities: nilIfEmpty(row.Propensities),
			Action: catalog.ArmID(row.Action), Propensity: row.Propensity, Explored: row.Explored, Reason: Reason(row.Reason),
			Gates: nilIfEmpty(row.Gates), Hold: catalog.Nanodollars(row.HoldNanoUSD), InputTokens: int(row.InputEstimate), Needs: nilIfEmpty(row.Needs), Stream: row.Stream, EndUser: row.EndUser,
			Features: nilIfEmpty(row.Features), SpecDigest: row.SpecDigest, Prompt: row.Prompt,
		},
		Outcome: Outcome{
			RoundID: RoundID(row.RoundID), At: fromMicros(row.EndedAt), Status: Status(row.Status),
			Served: catalog.ArmID(row.Served), Reason: Reason(row.ServedReason), Usage: row.Usage,
			Cost: catalog.Nanodollars(row.CostNanoUSD), CostStatus: CostStatus(row.CostStatus), Error: row.Error,
			TTFTMS: row.TTFTMS, LatencyMS: row.RoundMS, OverheadMS: row.OverheadMS,
		},
	}
	for _, a := range row.Attempts {
		r.Outcome.Attempts = append(r.Outcome.Attempts, Attempt{
			Arm: catalog.ArmID(a.Model), StartedAt: fromMicros(a.StartedAt), Outcome: a.Outcome, HTTPStatus: int(a.HTTPStatus),
			ErrorClass: a.ErrorClass, FirstTokenMS: a.FirstTokenMS, TotalMS: a.TotalMS, Cost: catalog.Nanodollars(a.CostNanoUSD),
			Verdicts: nilIfEmpty(a.Verdicts),
		})
	}
	return r
}

// feedbackRow is a Feedback as it lies in a sealed part.
type feedbackRow struct {
	RoundID string  `parquet:"round_id"`
	Source  string  `parquet:"source,dict"`
	Score   float64 `parquet:"score"`
	Label   string  `parquet:"label"`
	Comment string  `parquet:"comment"`
	Metrics string  `parquet:"metrics,json"`
	KeyID   string  `parquet:"key_id"`
	At      int64   `parquet:"at,timestamp(microsecond)"`
}

// sealableFeedback is to a Feedback what sealable is to a Round.
func sealableFeedback(f Feedback) (Feedback, error) {
	if f.RoundID == "" || math.IsNaN(f.Score) || math.IsInf(f.Score, 0) {
		return f, fmt.Errorf("feedback on round %q with score %v", f.RoundID, f.Score)
	}
	if y := f.At.UTC().Year(); y < 2000 || y > 2199 {
		return f, fmt.Errorf("feedback on round %q was given at %v", f.RoundID, f.At)
	}
	f.At = microsecond(f.At)
	if len(f.Metrics) == 0 {
		f.Metrics = nil
	}
	return f, nil
}

func flattenFeedback(f *Feedback) (feedbackRow, error) {
	metrics, err := json.Marshal(f.Metrics)
	if err != nil {
		return feedbackRow{}, fmt.Errorf("feedback on round %q: its metrics: %w", f.RoundID, err)
	}
	return feedbackRow{string(f.RoundID), f.Source, f.Score, f.Label, f.Comment, string(metrics), f.KeyID, f.At.UnixMicro()}, nil
}

// says is to a Feedback what partRow's is to a Round; there is so little of it that it is always decoded.
func (row *feedbackRow) says(_ *feedbackRow, want *Feedback, _ bool) bool {
	f, err := row.feedback()
	return err == nil && reflect.DeepEqual(f, *want)
}

func (row *feedbackRow) feedback() (Feedback, error) {
	f := Feedback{RoundID: RoundID(row.RoundID), Source: row.Source, Score: row.Score, Label: row.Label,
		Comment: row.Comment, KeyID: row.KeyID, At: fromMicros(row.At)}
	if err := json.Unmarshal([]byte(row.Metrics), &f.Metrics); err != nil {
		return f, fmt.Errorf("feedback on round %q: column metrics: %w", row.RoundID, err)
	}
	return f, nil
}
