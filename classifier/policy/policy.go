// Package policy turns estimates into a distribution over arms: constraints, the guard, the objective under a target,
// and exploration with exact propensities.
//
// The same value decides online and is evaluated offline; there is no second implementation to drift. Nothing here
// holds state or reads a clock: all that a choice may depend on is a field of Case, and the Case is journaled. It does
// not estimate (package classifier) and it does not know requests (package serving).
package policy

import "github.com/tradewind-llm/tradewind/models/catalog"

// Estimates is what the classifier predicts of every arm of its artifact, in the artifact's order. The slices are
// reused between requests and all have one element an arm.
type Estimates struct {
	// Quality is the calibrated estimate in [0,1], for people, floors and guarantees.
	Quality []float64
	// QualityErr is its standard error.
	QualityErr []float64
	// Score is what decisions compare: the same estimate shrunk and centred, in units of quality.
	Score []float64
	// Shifted takes Score's place where traffic is unlike what the router was trained on: it rests on the part that survives
	// that, and on nothing at all where training could not show that it does. It costs gain on known traffic.
	Shifted []float64
	// Gap is the estimated quality of the arm minus that of the artifact's fallback arm, and GapErr its standard error.
	Gap    []float64
	GapErr []float64
	// OutputTokens is the expected length of an answer, OutputTokens90 its 0.9 quantile.
	OutputTokens   []float64
	OutputTokens90 []float64
	// Complexity is one minus the mean estimated quality over the artifact's reference arms.
	Complexity float64
	// Novelty is how much less clear the prompt's task is than usual, in standard deviations; 0 where the artifact knows
	// nothing of what is usual. It decides nothing by itself: it means something over many prompts.
	Novelty float64 `json:",omitzero"`
	// Task is the likeliest task of the prompt, by its place in the artifact.
	Task int `json:"-"`
}

// Traffic says what a router may expect of the prompts it gets.
type Traffic string

// The two settings. KnownMix, also where nothing is said, is traffic like the training rows; Shifting is traffic that
// brings tasks nobody trained on.
const (
	KnownMix Traffic = "known"
	Shifting Traffic = "shifting"
)

// Known reports whether t is a setting, or empty.
func (t Traffic) Known() bool { return t == "" || t == KnownMix || t == Shifting }

// ScoreFor is the score that decides under a setting.
func (e *Estimates) ScoreFor(t Traffic) []float64 {
	if t == Shifting {
		return e.Shifted
	}
	return e.Score
}

// Resize makes every slice n long, keeping memory where it can.
func (e *Estimates) Resize(n int) {
	for _, s := range []*[]float64{&e.Quality, &e.QualityErr, &e.Score, &e.Shifted, &e.Gap, &e.GapErr, &e.OutputTokens, &e.OutputTokens90} {
		if cap(*s) < n {
			*s = make([]float64, n)
		}
		*s = (*s)[:n]
	}
}

// Filter says why an arm is out of the running; the empty Filter means that it is eligible.
type Filter string

// The filters, as they stand in a decision on the wire.
const (
	Eligible         Filter = ""
	NotAllowed       Filter = "not_allowed"
	Denied           Filter = "denied"
	ContextTooSmall  Filter = "context_too_small"
	NoTools          Filter = "no_tools"
	NoVision         Filter = "no_vision"
	NoJSONSchema     Filter = "no_json_schema"
	NoAudio          Filter = "no_audio"
	NoPDF            Filter = "no_pdf"
	NoReasoning      Filter = "no_reasoning"
	ParamUnsupported Filter = "param_unsupported"
	Quantized        Filter = "quantization"
	DataPolicy       Filter = "data_policy"
	MaxCost          Filter = "max_cost"
	MaxLatency       Filter = "max_latency"
	QualityFloor     Filter = "quality_floor"
	Guarded          Filter = "guard"
	Budget           Filter = "budget"
	Unpriced         Filter = "unpriced"
	Unhealthy        Filter = "unhealthy"
	RateLimited      Filter = "rate_limited"
	Retired          Filter = "retired"
	Dialect          Filter = "dialect"
	// Ordered is an arm that is not drawn because the request, or else the operator, puts another provider of the same choice
	// before it. It stands in where that one fails.
	Ordered Filter = "order"
)

// Candidate is one arm in a case: its estimates, its price for this request and its live state.
type Candidate struct {
	Arm    catalog.ArmID `json:"arm"`
	Filter Filter        `json:"filter,omitempty"`
	// Prior says that nothing measured stands behind the estimates: they are those of the arm's declared tier.
	Prior bool `json:"prior,omitempty"`
	// Sticky says that the conversation is with this arm; at most one candidate is.
	Sticky bool `json:"sticky,omitempty"`
	// Choice, where it is not 0, is what the candidates have in common that are one choice to whoever asks, such as one model
	// at several providers. Of those only the ones of the lowest Turn may be drawn.
	Choice int `json:"choice,omitempty"`
	Turn   int `json:"turn,omitempty"`
	// Weight is how much of what its choice gets this candidate gets, beside the weights of the others; 0 is nothing where any
	// has one.
	Weight float64 `json:"weight,omitempty"`

	Quality    float64 `json:"quality"`
	QualityErr float64 `json:"quality_err"`
	Score      float64 `json:"score"`
	Gap        float64 `json:"gap"`
	GapErr     float64 `json:"gap_err"`
	// History is what the team's own outcomes have added to Quality, Score and Gap; 0 where they have taught nothing.
	History float64 `json:"history,omitempty"`

	OutputTokens float64 `json:"output_tokens"`
	// CostUSD is the forecast, CostUpperUSD the worst case that a hold must cover. Priced is false where the catalog
	// has no price: then both are meaningless and only an operator who allows unpriced arms lets it through.
	CostUSD      float64 `json:"cost_usd"`
	CostUpperUSD float64 `json:"cost_upper_usd"`
	Priced       bool    `json:"priced"`

	// LatencyMS is the predicted p50 and LatencyP90MS the p90 (first token for streams, whole answer otherwise); 0 is
	// unknown. Where tokens per second are asked for, LatencyMS is of a whole answer, of one length for all. Availability is
	// the live success rate in [0,1].
	LatencyMS    float64 `json:"latency_ms,omitempty"`
	LatencyP90MS float64 `json:"latency_p90_ms,omitempty"`
	Availability float64 `json:"availability"`
}

// Guard keeps deviations from the fallback arm honest. A cheaper arm may serve only where Gap − Z·GapErr ≥ −Tolerance,
// a dearer one only where Gap − Z·GapErr > 0. Where latency comes first all count as cheaper: time is what is bought.
type Guard struct {
	On        bool    `json:"on"`
	Z         float64 `json:"z"`
	Tolerance float64 `json:"tolerance"`
}

// Session is what leaving the arm costs that a conversation is with; zero where there is none, or nothing to lose.
type Session struct {
	// SwitchUSD is the prompt cache that is lost. Lambda is the least price of a dollar at which it counts: where quality
	// is all that is asked for, a cache is still worth more than nothing.
	SwitchUSD float64 `json:"switch_usd"`
	Lambda    float64 `json:"lambda"`
	// Margin is a gain in quality that cannot be told from noise. Every turn has estimates of its own, and without it a
	// conversation with nothing to lose would change hands on their errors.
	Margin float64 `json:"margin"`
}

// Case is all that a choice may depend on. Plain values: it is journaled whole, and the same policy given the same
// Case proposes the same distribution, to the last bit.
type Case struct {
	// Candidates holds every arm considered, filtered ones with the reason, in catalog order.
	Candidates []Candidate `json:"candidates"`
	// Fallback is the index of the fallback arm, or -1 where it is not among the candidates.
	Fallback int `json:"fallback"`
	// Lambda is the price of a dollar: quality that one US dollar must buy. Zero asks for the best.
	Lambda float64 `json:"lambda"`
	// LatencyFirst asks for the fastest of the eligible arms instead of the best score.
	LatencyFirst bool `json:"latency_first,omitempty"`
	// AvailabilityFirst asks for the highest live success rate, and for the best objective among equals.
	AvailabilityFirst bool  `json:"availability_first,omitempty"`
	Guard             Guard `json:"guard"`
	// MeasuredFirst holds arms with a Prior back while one that was measured is eligible: no certificate covers a prior,
	// and priors and estimates are not on one scale.
	MeasuredFirst bool `json:"measured_first,omitempty"`
	// QualityFloor removes arms whose Quality − QualityErr is below it; 0 is off. Reference and ReferenceGap are the
	// relative form: arms more than ReferenceGap below candidate Reference go. Reference is -1 where it is off.
	QualityFloor float64 `json:"quality_floor,omitempty"`
	Reference    int     `json:"reference"`
	ReferenceGap float64 `json:"reference_gap,omitempty"`
	// MaxCostUSD and MaxLatencyMS are caps on worst-case cost and predicted p90; 0 is off.
	MaxCostUSD   float64 `json:"max_cost_usd,omitempty"`
	MaxLatencyMS float64 `json:"max_latency_ms,omitempty"`
	// Explore says that this round may explore, and Epsilon the share of its probability spread evenly.
	Explore bool    `json:"explore"`
	Epsilon float64 `json:"epsilon"`
	// Pinned is the index of the only arm that may be chosen (a concrete model name, a rule, a sticky session), or -1.
	Pinned int `json:"pinned"`
	// Session is the cost of leaving the sticky candidate.
	Session Session `json:"session,omitzero"`
	// Paces are the cost targets that have raised Lambda above what the strategy asks, or might have.
	Paces []Pace `json:"paces,omitempty"`
	// FloorReference says that Constrain found no arm above the floor and let the reference arm serve.
	FloorReference bool `json:"floor_reference,omitempty"`
}

// Distribution is a policy's choice before the coin is tossed: P[i] is the propensity of the case's i-th candidate.
// Filtered candidates have 0. The slice is reused between requests.
type Distribution struct {
	P []float64
	// Best is the index with the highest objective, the one that is served when nothing is explored. Where its choice is shared out
	// by weights, it is the one of the choice with the most.
	Best int
}

// Policy maps a case that Constrain has seen to a distribution over its eligible candidates. It holds no state and
// reads no clock. With nothing eligible every P is 0 and Best is -1.
type Policy interface {
	Propose(dst *Distribution, c *Case)
}
