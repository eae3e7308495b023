// Package session remembers which arm a conversation is with, for as long as leaving it would cost something.
//
// It names conversations, tells a request that continues one from a request that only begins like it, and keeps a bounded
// table of their arms. It does not decide: whether the arm is worth staying with is package classifier/policy's, from
// what is known here. It stores no text and no id that a client sent, only digests.
package session

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

const (
	// Warm is how long a vendor is taken to keep a prompt in its cache after it was last read. Most say five minutes.
	Warm = 5 * time.Minute
	// cachedMin is the shortest prompt that vendors cache by themselves.
	cachedMin = 1024
	// beginMax is how many bytes of the beginning and of the end of a text stand for it in a digest.
	beginMax = 4 << 10
)

// ID is the digest that a conversation goes by. It is scoped to the API key: two keys never share a session.
type ID [16]byte

// String is the id in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Named is the session that a client calls by a name.
func Named(keyID, name string) ID {
	var room [512]byte // on the stack
	return digest(appendText(appendText(append(room[:0], 'n'), keyID), name))
}

// Begun is the conversation that begins with the system prompt and the first user message of these turns. A name that
// conversations share, such as a prompt's cache key, goes into it. Of long texts the two ends count, and the length: the
// work is bounded, and what two conversations could share by that is an arm. scratch is memory that is reused.
func Begun(scratch []byte, keyID, shared string, turns []features.Turn) (ID, []byte) {
	b := appendText(appendText(append(scratch[:0], 'b'), keyID), shared)
	for i := range turns {
		t := &turns[i]
		if t.Role == features.System || t.Role == features.User {
			b = appendText(append(b, byte(t.Role)), t.Text)
		}
		if t.Role == features.User || len(b) > 8*beginMax {
			break
		}
	}
	return digest(b), b
}

func digest(b []byte) (id ID) {
	sum := sha256.Sum256(b)
	copy(id[:], sum[:])
	return id
}

// appendText appends a text so that where it ends is part of it.
func appendText(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	if len(s) > 2*beginMax {
		b, s = append(b, s[:beginMax]...), s[len(s)-beginMax:]
	}
	return append(b, s...)
}

// Within is the session in a narrower sense: of the requests that choose in one scope, such as a group of arms. Those that
// name no scope have the session itself.
func (id ID) Within(scope string) ID {
	if scope == "" {
		return id
	}
	b := append(make([]byte, 0, 512), id[:]...)
	return digest(appendText(b, scope))
}

// State is where a conversation stands.
type State struct {
	Arm catalog.ArmID
	// Draw is the round whose draw fixed the arm: the unit of off-policy evaluation.
	Draw datasets.RoundID
	// Cached are the tokens of the conversation that the arm's vendor has in its cache, for a while after Used, the time of
	// its last request.
	Cached int
	Used   time.Time
	// last tells the request after it from others that begin alike.
	last mark
}

// mark is the length of a request, and its last turn.
type mark struct {
	turns int
	hash  uint64
}

// CachedAt is what is left of the cache.
func (s *State) CachedAt(now time.Time) int {
	if now.Sub(s.Used) > Warm {
		return 0
	}
	return s.Cached
}

// Cached is how many tokens of a request the vendor has in its cache once it has answered. One that charges for writing
// caches what the client marked, and tells. The others cache every long prompt by themselves, and tell only on the next
// request.
func Cached(p *catalog.Prices, u catalog.Usage) int {
	if at := p.At(u); at.CacheWrite > at.Input {
		return int(u.CacheRead + u.CacheWrite + u.CacheWrite1h)
	}
	if n := u.InputTokens(); n >= cachedMin {
		return int(n)
	}
	return 0
}

// Mark notes what the request of a round was, so that the next can be recognized.
func (t *Table) Mark(s *State, turns []features.Turn) {
	s.last = mark{len(turns), t.hash(turns[len(turns)-1])}
}

// Continues reports whether turns go on where the last request of the session ended: they are more, and where that ended
// they have what it ended with. A request that only begins alike (the same question asked again, another example of one
// task) continues nothing.
func (t *Table) Continues(s *State, turns []features.Turn) bool {
	n := s.last.turns
	return n > 0 && len(turns) > n && t.hash(turns[n-1]) == s.last.hash
}

func (t *Table) hash(turn features.Turn) uint64 {
	return maphash.String(t.seed, turn.Text) + uint64(turn.Role)
}
