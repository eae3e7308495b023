package features

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Spec is everything about the features that code fixes. It is written into every artifact and, as its digest, beside
// every logged row: features of two Specs must not be mixed. Only the sizes may be chosen; the rest says which
// algorithm wrote the features, and New refuses what it does not implement.
type Spec struct {
	Version int `json:"version"`
	// Normalization names the folding of package tokenizer, Hash the hash of n-grams.
	Normalization string `json:"normalization"`
	Hash          string `json:"hash"`
	Seed          uint64 `json:"seed"`
	// Buckets is the size of a block, a power of two; words have one block and characters the other.
	Buckets int `json:"buckets"`
	// WordGrams and CharGrams are the shortest and the longest n-gram of a block.
	WordGrams [2]int `json:"word_grams"`
	CharGrams [2]int `json:"char_grams"`
	// WordBytes is the length from which on a word is one feature whatever it says.
	WordBytes int `json:"word_bytes"`
	// MaxCounts bounds the distinct buckets of a prompt; those that come first in the text stay.
	MaxCounts int `json:"max_counts"`
	// HeadBytes and TailBytes are read of the last user turn, OtherBytes of all other turns together.
	HeadBytes  int `json:"head_bytes"`
	TailBytes  int `json:"tail_bytes"`
	OtherBytes int `json:"other_bytes"`
	// Flags are the names of the dense flags.
	Flags [NumFlags]string `json:"flags"`
}

// The largest sizes that a Spec may ask for. Two blocks of BucketsMax fit the uint16 of a Count.
const (
	BucketsMax = 1 << 15
	readMax    = 1 << 20
)

// DefaultSpec is the Spec that this code implements, in the sizes of the measured recipe.
func DefaultSpec() Spec {
	return Spec{
		Version:       1,
		Normalization: "nfkc-lower-1",
		Hash:          "mul64-1",
		Seed:          0x9e3779b97f4a7c15,
		Buckets:       1 << 14,
		WordGrams:     [2]int{1, 2},
		CharGrams:     [2]int{3, 4},
		// A longer word is noise (base64, hashes): it is one feature, and its characters are none.
		WordBytes: 48,
		MaxCounts: 4096,
		// The last user turn is read from both ends: the task stands first, the question often last. 99 in 100 prompts
		// of the public tables are shorter than both together.
		HeadBytes: 2560,
		TailBytes: 1536,
		// The rest of the conversation is read only to estimate its tokens.
		OtherBytes: 1024,
		Flags:      FlagNames(),
	}
}

// Dim is the number of buckets of both blocks: Count.Bucket is below it.
func (s Spec) Dim() int { return 2 * s.Buckets }

// Digest names the Spec: the SHA-256, in hex, of its JSON with the fields in the order of the struct.
func (s Spec) Digest() string {
	b, err := json.Marshal(s)
	if err != nil { // a struct of numbers and strings always marshals
		panic(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Validate reports a Spec that this code does not implement.
func (s Spec) Validate() error {
	want := DefaultSpec()
	fixed := s
	fixed.Seed, fixed.Buckets, fixed.WordBytes, fixed.MaxCounts = want.Seed, want.Buckets, want.WordBytes, want.MaxCounts
	fixed.HeadBytes, fixed.TailBytes, fixed.OtherBytes = want.HeadBytes, want.TailBytes, want.OtherBytes
	if fixed != want {
		return fmt.Errorf("features: the spec (version %d, digest %.12s) is not one that this program implements", s.Version, s.Digest())
	}
	if s.Buckets < 64 || s.Buckets > BucketsMax || s.Buckets&(s.Buckets-1) != 0 {
		return fmt.Errorf("features: spec has %d buckets: want a power of two from 64 to %d", s.Buckets, BucketsMax)
	}
	if s.WordBytes < 4 || s.WordBytes > 1024 {
		return fmt.Errorf("features: spec has words of %d bytes: want 4 to 1024", s.WordBytes)
	}
	if s.MaxCounts < 1 || s.MaxCounts > 2*s.Buckets {
		return fmt.Errorf("features: spec has %d counts: want 1 to %d", s.MaxCounts, 2*s.Buckets)
	}
	if s.HeadBytes < 64 || s.TailBytes < 0 || s.OtherBytes < 0 || max(s.HeadBytes, s.TailBytes, s.OtherBytes) > readMax {
		return fmt.Errorf("features: spec reads %d, %d and %d bytes: want 64, 0 and 0 to %d", s.HeadBytes, s.TailBytes, s.OtherBytes, readMax)
	}
	return nil
}
