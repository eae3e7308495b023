package datasets

import (
	"time"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// This file is the dictionary: what a decision, an outcome, a round and a feedback are. Everything that is journaled,
// sealed, shown or trained on is one of them.

// RoundID names one client request from admission to its terminal event, "rnd_" and a ULID. It is also the hold's id.
type RoundID string

// Instant is t as the log keeps it: in UTC and whole microseconds, which every reader of Parquet understands. Times are
// cut before they are journaled, so that journal and sealed part agree.
func Instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Reason says in one token why an arm was chosen.
type Reason string

// The reasons, as they stand in the x-tradewind-reason header.
const (
	Predicted      Reason = "predicted"
	Explored       Reason = "explored"
	Sticky         Reason = "sticky"
	Pinned         Reason = "pinned"
	Ruled          Reason = "rule"
	FellBack       Reason = "fallback"
	FloorReference Reason = "floor_reference"
	OnlyCandidate  Reason = "only_candidate"
	RouterOff      Reason = "router_off"
	// Escalated is an answer of another arm than the one drawn, whose own did not pass a gate. GateFailed is an answer
	// that passed none: nobody better was left to ask.
	Escalated  Reason = "escalated"
	GateFailed Reason = "gate_failed"
	// Hedged is an answer of an arm that was asked beside the one drawn and was quicker.
	Hedged Reason = "hedged"
)

// Status is how a round ended.
type Status string

// The terminal states. Unknown is written by recovery for a round that a crash cut off. Refused is a round that never
// reached a vendor. ClientGone and Unknown are censored: they say nothing about quality.
const (
	Completed  Status = "completed"
	ClientGone Status = "client_gone"
	Failed     Status = "failed"
	Refused    Status = "refused"
	Unknown    Status = "unknown"
)

// Decision is the choice, journaled before any upstream byte.
type Decision struct {
	RoundID   RoundID   `json:"round_id"`
	At        time.Time `json:"at"`
	RequestID string    `json:"request_id,omitempty"`

	Org          string  `json:"org,omitempty"`
	Team         string  `json:"team,omitempty"`
	KeyID        string  `json:"key_id,omitempty"`
	Conversation string  `json:"conversation,omitempty"`
	DrawID       RoundID `json:"draw_id"`

	Requested      string  `json:"requested"`
	Policy         string  `json:"policy"`
	RouterVersion  string  `json:"router_version,omitempty"`
	CatalogVersion string  `json:"catalog_version,omitempty"`
	Strategy       string  `json:"strategy"`
	Certified      bool    `json:"certified"`
	Complexity     float64 `json:"complexity"`

	Case         policy.Case   `json:"case"`
	Propensities []float64     `json:"propensities"`
	Action       catalog.ArmID `json:"action"`
	Propensity   float64       `json:"propensity"`
	Explored     bool          `json:"explored"`
	Reason       Reason        `json:"reason"`

	// Gates are the names of the gates that the answer must pass. With them the ladder is the action: the propensity is
	// that of the first arm, and what was served, and at what cost, followed from it.
	Gates []string `json:"gates,omitempty"`

	// Hold is the amount set aside before dispatch.
	Hold        catalog.Nanodollars `json:"hold_usd"`
	InputTokens int                 `json:"input_tokens"`
	// Needs are the capabilities that the request asks of an arm, by the catalog's names.
	Needs  []string `json:"needs,omitempty"`
	Stream bool     `json:"stream,omitempty"`

	// EndUser is the client's own name of whom it asks for, empty where nothing of the request may be kept.
	EndUser string `json:"end_user,omitempty"`
	// Tags are the client's own labels.
	Tags map[string]string `json:"tags,omitempty"`
	// Features are the extracted features in the compact form of features.Context, SpecDigest the code they came from.
	Features   []byte `json:"features,omitempty"`
	SpecDigest string `json:"spec_digest,omitempty"`
	// Prompt is the last user turn, only where the tenant allows text to be kept.
	Prompt string `json:"prompt,omitempty"`
}

// CostStatus says how sure a cost is.
type CostStatus string

// The states of a cost.
const (
	CostFinal     CostStatus = "final"
	CostEstimated CostStatus = "estimated"
	CostUnpriced  CostStatus = "unpriced"
	CostPending   CostStatus = "pending"
)

// Attempt is one call to one arm.
type Attempt struct {
	Arm        catalog.ArmID `json:"model"`
	StartedAt  time.Time     `json:"started_at"`
	Outcome    string        `json:"outcome"`
	HTTPStatus int           `json:"http_status,omitempty"`
	ErrorClass string        `json:"error_class,omitempty"`
	// FirstTokenMS is nil where no content arrived.
	FirstTokenMS *float64            `json:"first_token_ms"`
	TotalMS      float64             `json:"total_ms"`
	Cost         catalog.Nanodollars `json:"cost_usd"`
	// Verdicts are what gates said of the answer, in the order in which they were asked.
	Verdicts []GateVerdict `json:"gate_verdicts,omitempty"`
}

// Verdict is what a gate says of an answer.
type Verdict string

// The verdicts. Unjudged is a gate that could not tell: it crashed, took too long, or did not answer as it should.
const (
	Passed   Verdict = "pass"
	Rejected Verdict = "fail"
	Unjudged Verdict = "error"
)

// GateVerdict is one gate's word on one answer. The reason says what was wrong and quotes nothing.
type GateVerdict struct {
	Gate    string  `json:"gate" parquet:"gate,dict"`
	Verdict Verdict `json:"verdict" parquet:"verdict,dict"`
	Reason  string  `json:"reason,omitempty" parquet:"reason"`
	TotalMS float64 `json:"total_ms" parquet:"total_ms"`
}

// Outcome is what came of a decision: exactly one for each round.
type Outcome struct {
	RoundID RoundID       `json:"round_id"`
	At      time.Time     `json:"at"`
	Status  Status        `json:"status"`
	Served  catalog.ArmID `json:"served,omitempty"`
	// Reason replaces the decision's where the answer came from elsewhere (fallback).
	Reason     Reason              `json:"reason,omitempty"`
	Attempts   []Attempt           `json:"attempts,omitempty"`
	Usage      catalog.Usage       `json:"usage"`
	Cost       catalog.Nanodollars `json:"cost_usd"`
	CostStatus CostStatus          `json:"cost_status"`
	// Error is the error's code (see the wire's table), empty on success.
	Error  string   `json:"error,omitempty"`
	TTFTMS *float64 `json:"ttft_ms,omitempty"`
	// LatencyMS is the whole round as the client saw it, OverheadMS our own part.
	LatencyMS  float64 `json:"latency_ms"`
	OverheadMS float64 `json:"overhead_ms"`
}

// Feedback is a score that came later, from a user, a check or a judge. The last value for a round and a source wins.
type Feedback struct {
	RoundID RoundID            `json:"round_id" parquet:"round_id"`
	Source  string             `json:"source" parquet:"source,dict"`
	Score   float64            `json:"score" parquet:"score"`
	Label   string             `json:"label,omitempty" parquet:"label"`
	Comment string             `json:"comment,omitempty" parquet:"comment"`
	Metrics map[string]float64 `json:"metrics,omitempty" parquet:"metrics,json"`
	KeyID   string             `json:"key_id,omitempty" parquet:"key_id"`
	At      time.Time          `json:"at" parquet:"at,timestamp(microsecond)"`
}

// Round is a decision joined with its outcome, as a sealed part holds it.
type Round struct {
	Decision Decision
	Outcome  Outcome
}
