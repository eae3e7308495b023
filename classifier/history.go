package classifier

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/tradewind-llm/tradewind/classifier/policy"
)

// HistoryTeamsMax is the most teams whose history a model holds. More could say little each of what a log is learned from.
const HistoryTeamsMax = 256

// Team names a team in a model: 64 bits of a digest, so that an artifact that is handed on does not say whom it was trained
// on. It hides a name from who reads it and not from who guesses it. 0 is nobody's.
type Team uint64

// TeamOf names the team of an organization; either may be empty, and where both are it is nobody's.
func TeamOf(org, team string) Team {
	if org == "" && team == "" {
		return 0
	}
	var room [128]byte
	name := append(append(append(room[:0], org...), 0), team...)
	sum := sha256.Sum256(name)
	return max(1, Team(binary.BigEndian.Uint64(sum[:])))
}

// MarshalText writes 16 hexadecimal digits: a JSON number of 64 bits would be rounded by other readers.
func (t Team) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(t)), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *Team) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil || len(text) != 16 {
		return errors.New("a team is no 16 hexadecimal digits")
	}
	*t = Team(v)
	return nil
}

// Remembers reports whether the model holds the history of any team.
func (c *Classifier) Remembers() bool { return len(c.model.Router.Teams) > 0 }

// Recall adds to the estimates what a team's own outcomes have taught of every arm, and returns it: nil where the model
// holds nothing of that team. Complexity and forecasts of length are not a team's, and Shifted is for prompts unlike those
// that it was learned on.
func (c *Classifier) Recall(e *policy.Estimates, team Team) (history []float64) {
	t, known := slices.BinarySearch(c.model.Router.Teams, team)
	if !known {
		return nil
	}
	history, variance := c.model.Tables.History.Row(t), c.model.Tables.HistoryVar.Row(t)
	for j, d := range history {
		e.Quality[j] = max(0, min(1, e.Quality[j]+d))
		e.Score[j] += d
		e.QualityErr[j] = math.Sqrt(float64(e.QualityErr[j]*e.QualityErr[j]) + variance[j])
		if j != c.fallback {
			e.Gap[j] += d - history[c.fallback]
			e.GapErr[j] = math.Sqrt(float64(e.GapErr[j]*e.GapErr[j]) + variance[j] + variance[c.fallback])
		}
	}
	return history
}

func (r *Router) validateTeams() error {
	if len(r.Teams) > HistoryTeamsMax {
		return fmt.Errorf("the history of %d teams, want at most %d", len(r.Teams), HistoryTeamsMax)
	}
	for t, team := range r.Teams {
		if team == 0 || t > 0 && team <= r.Teams[t-1] {
			return fmt.Errorf("team %d is nobody, or out of order", t)
		}
	}
	return nil
}
