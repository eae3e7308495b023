// Package features turns a prompt into the numbers that the classifier reads: raw hashed counts of words and
// characters, and a row of dense flags.
//
// Training and serving share this one implementation and one Spec, whose digest stands in every artifact and every
// logged row. A Spec holds only what code fixes (normalization, n-gram orders, hash, caps, flags); what a corpus
// teaches (document frequencies, vocabulary) belongs to the artifact and is applied after it, so that logged features
// outlive every retraining. The package knows nothing of the wire: serving fills a Prompt from a request, datasets
// fills one from a row.
package features

// Role says who spoke a turn.
type Role uint8

// The roles of a conversation.
const (
	System Role = iota
	User
	Assistant
	Tool
)

// Turn is one message of a conversation. Text may hold any bytes; what is not UTF-8 is replaced.
type Turn struct {
	Role Role
	Text string
}

// Prompt is a request as a router sees it: who said what, and what the answer must be able to do.
type Prompt struct {
	Turns []Turn
	// Tools counts the tool definitions and ToolBytes their JSON.
	Tools     int
	ToolBytes int
	// JSONFormat says that the answer was asked for as JSON (response_format).
	JSONFormat bool
	// Attachments counts images, audio and documents.
	Attachments int
}

// NewPrompt is the prompt of a table's row: one user turn.
func NewPrompt(text string) *Prompt { return &Prompt{Turns: []Turn{{Role: User, Text: text}}} }

// Count is how often a hashed n-gram occurred. Buckets run from 0 to 2·Spec.Buckets−1: the word block first, then the
// character block.
type Count struct {
	Bucket uint16
	N      uint16
}

// Context is what is known of a request before an arm is chosen. It is reused between requests: Extract overwrites it.
type Context struct {
	// Counts are those of the last user turn, sorted by bucket, each bucket once, at most Spec.MaxCounts of them.
	Counts []Count
	// Flags are raw (not yet standardized) values in the order of FlagNames.
	Flags [NumFlags]float32
	// Bytes is the length of all text, PromptBytes that of the last user turn.
	Bytes       int
	PromptBytes int
	// Tokens estimates the input tokens of the whole request, tools included. It is an estimate, not a bound.
	Tokens int
	// Degraded says that the tokenizer failed on a word, so that part of Tokens was estimated from bytes.
	Degraded bool
}
