// Package reward says what an answer was worth: it joins a log's rounds with their feedback and makes scored rows of
// them, one arm a prompt, each with the propensities it was drawn with.
//
// What cannot be scored is counted by its reason and never guessed: a missing feedback is not a zero, a client that
// left said nothing. The package does not train and does not estimate the value of a policy (package trainer), and it
// never reads more of a round than its decision and outcome.
package reward

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// SourcesMax is the number of sources that a Spec may weigh.
const SourcesMax = 64

// Source is one origin of feedback and what its word counts.
type Source struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
}

// Spec is the definition of quality: the weighted mean of the last scores of the named sources, over those that spoke.
// Rows of two Specs must not be mixed, hence the digest. The zero value is not a Spec; see DefaultSpec.
type Spec struct {
	Version int      `json:"version"`
	Sources []Source `json:"sources"`
	// Within is how long after its round a feedback still counts.
	Within time.Duration `json:"within_ns"`
}

// DefaultSpec takes every source that the API accepts. A judge counts half: it likes long and familiar answers.
func DefaultSpec() Spec {
	return Spec{
		Version: 1, Within: 30 * 24 * time.Hour,
		Sources: []Source{{"user", 1}, {"check", 1}, {"system", 1}, {"judge", 0.5}},
	}
}

// Validate reports a Spec that defines nothing.
func (s *Spec) Validate() error {
	if s.Version != 1 || s.Within <= 0 {
		return fmt.Errorf("reward: spec of version %d with feedback within %v: want version 1 and more than 0", s.Version, s.Within)
	}
	if len(s.Sources) == 0 || len(s.Sources) > SourcesMax {
		return fmt.Errorf("reward: spec has %d sources: want 1 to %d", len(s.Sources), SourcesMax)
	}
	seen := map[string]bool{}
	for _, source := range s.Sources {
		if seen[source.Name] || !(source.Weight > 0) || math.IsInf(source.Weight, 0) {
			return fmt.Errorf("reward: source %q with weight %v: want one of its name and a weight above 0", source.Name, source.Weight)
		}
		seen[source.Name] = true
	}
	return nil
}

// Digest names the Spec: the SHA-256, in hex, of its JSON with the fields in the order of the struct.
func (s *Spec) Digest() string {
	b, err := json.Marshal(s)
	if err != nil { // a struct of numbers and strings always marshals; Validate keeps infinities out
		panic(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// index is the place of a source, or −1.
func (s *Spec) index(name string) int {
	for k := range s.Sources {
		if s.Sources[k].Name == name {
			return k
		}
	}
	return -1
}
