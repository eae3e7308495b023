package reward

import (
	"fmt"
	"strings"
)

// Reason says why a round was not scored, or why a feedback was not used.
type Reason string

// The reasons of rounds, in the order in which they are looked for: a round is counted under the first that holds.
const (
	// Duplicate is a round whose id was seen before.
	Duplicate Reason = "duplicate"
	// Refused, Failed, ClientGone and Unknown are the outcome's status. The last two are censored: whoever left, or was
	// cut off by a crash, judged nothing.
	Refused    Reason = "refused"
	Failed     Reason = "failed"
	ClientGone Reason = "client_gone"
	Unknown    Reason = "unknown"
	// NoPropensity is a round without a logged distribution over its candidates, or whose draw is not in the log.
	NoPropensity Reason = "no_propensity"
	// Fallback is a round that another arm served than the one that was drawn, and not because a gate rejected that one's
	// answer. The propensity belongs to the one and the
	// answer to the other, and the probability that the first fails is not known: no weight is right, so it has none.
	Fallback Reason = "fallback"
	// NoContent is a round of which neither features of this program's Spec nor text were kept; OtherSpec one of which
	// only features of another Spec were.
	NoContent Reason = "no_content"
	OtherSpec Reason = "other_spec"
	// BadFeatures is a round whose logged features do not parse.
	BadFeatures Reason = "bad_features"
	// NoFeedback is a round that nobody scored, or nobody who may. Of one that nobody scored only the status is looked at
	// before.
	NoFeedback Reason = "no_feedback"
	// NotSampled is a round, or a feedback for one, that was passed over because the log holds more rounds with feedback
	// than are looked at: it comes after those by the hash of its draw.
	NotSampled Reason = "not_sampled"
)

// The reasons of feedback.
const (
	// NoRound is a feedback for a round that the log does not hold.
	NoRound Reason = "no_round"
	// Forbidden is a feedback of a key that may not see the round.
	Forbidden Reason = "forbidden"
	// OtherSource is a feedback of a source that the Spec does not name, OutOfRange one outside [0,1], and OutOfTime one
	// from before its round or from later than the Spec takes.
	OtherSource Reason = "other_source"
	OutOfRange  Reason = "out_of_range"
	OutOfTime   Reason = "out_of_time"
	// Superseded is a feedback after which the same source changed its mind.
	Superseded Reason = "superseded"
	// RoundDropped is a feedback for a round that was dropped for another reason.
	RoundDropped Reason = "round_dropped"
)

var (
	roundReasons    = [...]Reason{Duplicate, Refused, Failed, ClientGone, Unknown, NoPropensity, Fallback, NoContent, OtherSpec, BadFeatures, NoFeedback, NotSampled}
	feedbackReasons = [...]Reason{NoRound, Forbidden, OtherSource, OutOfRange, OutOfTime, Superseded, RoundDropped, NotSampled}
)

// Counts account for every round and every feedback of a log: Rounds is Scored plus all of Dropped, and Feedback is
// FeedbackUsed plus all of FeedbackDropped.
type Counts struct {
	Rounds  int            `json:"rounds"`
	Scored  int            `json:"scored"`
	Dropped map[Reason]int `json:"dropped"`
	// Kept is Scored, or less where more rounds were scored than RoundsMax: then a sample by hash. All else is exact, but
	// nobody looked at what is counted under NotSampled.
	Kept            int            `json:"kept"`
	Feedback        int            `json:"feedback"`
	FeedbackUsed    int            `json:"feedback_used"`
	FeedbackDropped map[Reason]int `json:"feedback_dropped"`
}

// String says it in two lines for people.
func (c *Counts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Log: %d rounds, %d scored", c.Rounds, c.Scored)
	list(&b, roundReasons[:], c.Dropped)
	if c.Kept < c.Scored {
		fmt.Fprintf(&b, "; a sample of %d was kept", c.Kept)
	}
	fmt.Fprintf(&b, "\n     %d feedback, %d used", c.Feedback, c.FeedbackUsed)
	list(&b, feedbackReasons[:], c.FeedbackDropped)
	return b.String()
}

func list(b *strings.Builder, reasons []Reason, n map[Reason]int) {
	sep := "; not used: "
	for _, r := range reasons {
		if n[r] > 0 {
			fmt.Fprintf(b, "%s%s %d", sep, r, n[r])
			sep = ", "
		}
	}
}
