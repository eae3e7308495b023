package reward

import (
	"slices"

	"github.com/tradewind-llm/tradewind/datasets"
)

// rejected is the attempt of the arm that was drawn where a gate rejected its answer and another arm's was served, nil
// elsewhere. Such a round scores 0 for the arm that was drawn, and what people said of it counts only in that they spoke:
// their word is on another arm's answer. To drop it as a fallback would keep of that arm only the answers that passed.
func rejected(r *datasets.Round) *datasets.Attempt {
	if r.Outcome.Served == r.Decision.Action {
		return nil
	}
	for i := range r.Outcome.Attempts {
		a := &r.Outcome.Attempts[i]
		says := func(v datasets.GateVerdict) bool { return v.Verdict == datasets.Rejected }
		if a.Arm == r.Decision.Action && slices.ContainsFunc(a.Verdicts, says) {
			return a
		}
	}
	return nil
}
