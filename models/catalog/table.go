package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// Catalog is a set of arms by name. It never changes, so that many requests may read one while another takes its
// place. The zero value is empty.
type Catalog struct {
	arms     []Arm
	index    map[ArmID]int
	evidence map[ArmID]Evidence
	version  string
}

// Evidence is what is known of an arm beside what requests need: where the facts come from and what will change.
type Evidence struct {
	// Sources agree with the prices; Disputed holds, by field, what each source says where they differ.
	Sources  []string
	Disputed map[string]map[string]string
	// Released is the day or month on which the model came out, Ends the day on which its provider ends it.
	Released string
	Ends     string
	// Cannot are the capabilities that the arm is known to lack. What is neither there nor in Arm.Capabilities is unknown.
	Cannot Capability
	// Changes are prices that hold from a day on, in order. Those whose day has come are in the arm already once On was
	// asked.
	Changes []Change
}

// New makes a catalog of the arms given. Where a name is there twice, the last one counts.
func New(arms []Arm) *Catalog { return new(Catalog).With(arms) }

// build takes arms of distinct names.
func build(arms []Arm, evidence map[ArmID]Evidence) *Catalog {
	slices.SortFunc(arms, func(a, b Arm) int { return cmp.Compare(a.ID, b.ID) })
	c := &Catalog{arms: arms, index: make(map[ArmID]int, len(arms)), evidence: evidence}
	h := sha256.New()
	enc := json.NewEncoder(h) // an Arm holds nothing that cannot be encoded
	for i := range arms {
		c.index[arms[i].ID] = i
		_ = enc.Encode(&arms[i])
	}
	c.version = "cat1-" + hex.EncodeToString(h.Sum(nil))[:16]
	return c
}

// Lookup returns an arm, which the caller must not change.
func (c *Catalog) Lookup(id ArmID) (*Arm, bool) {
	i, ok := c.index[id]
	if !ok {
		return nil, false
	}
	return &c.arms[i], true
}

// Arms returns all arms, sorted by name. This is what "catalog order" means.
func (c *Catalog) Arms() []Arm { return slices.Clone(c.arms) }

// Evidence returns what else is known of an arm.
func (c *Catalog) Evidence(id ArmID) Evidence { return c.evidence[id] }

// Version is a digest of all arms: equal facts, equal version.
func (c *Catalog) Version() string { return c.version }

// With returns a catalog in which each of the overrides, taken as it is, has replaced the arm of its name or joined.
func (c *Catalog) With(overrides []Arm) *Catalog {
	merged := make(map[ArmID]Arm, len(c.arms)+len(overrides))
	evidence := make(map[ArmID]Evidence, len(c.evidence))
	maps.Copy(evidence, c.evidence)
	for _, a := range c.arms {
		merged[a.ID] = a
	}
	for _, a := range overrides {
		merged[a.ID] = a
		delete(evidence, a.ID)
	}
	return build(slices.Collect(maps.Values(merged)), evidence)
}

// Over returns a catalog in which the arms of over have replaced those of the same name, with their evidence, or joined.
func (c *Catalog) Over(over *Catalog) *Catalog {
	merged := c.With(over.arms)
	maps.Copy(merged.evidence, over.evidence)
	return merged
}

// On returns the catalog as it is on a day: every price change whose day has come is in force, and what has ended is
// deprecated.
func (c *Catalog) On(now time.Time) *Catalog {
	day, arms := now.UTC().Format(time.DateOnly), slices.Clone(c.arms)
	for i := range arms {
		v := c.evidence[arms[i].ID]
		for _, change := range v.Changes {
			if change.From <= day {
				arms[i].Prices = change.Prices
			}
		}
		if v.Ends != "" && v.Ends <= day {
			arms[i].Deprecated = true
		}
	}
	return build(arms, c.evidence)
}

// NextChange is the next day on which On will say something else of one of the arms; zero where there is none.
func (c *Catalog) NextChange(now time.Time, arms []Arm) time.Time {
	day, next := now.UTC().Format(time.DateOnly), ""
	for i := range arms {
		v := c.evidence[arms[i].ID]
		days := []string{v.Ends}
		for _, change := range v.Changes {
			days = append(days, change.From)
		}
		for _, d := range days {
			if d > day && (next == "" || d < next) {
				next = d
			}
		}
	}
	at, err := time.Parse(time.DateOnly, next)
	if err != nil { // there is none
		return time.Time{}
	}
	return at
}

// What Nearest looks at: a name comes from a client, and the work is its length times the catalog's.
const (
	NearestMax      = 10
	nearestBytesMax = 64
)

// Nearest returns the n arms (at most NearestMax) whose name, with or without its provider, is fewest edits away from
// name, ignoring case: what to suggest where a name is unknown.
func (c *Catalog) Nearest(name string, n int) []ArmID {
	type hit struct {
		id    ArmID
		edits int
	}
	want := fold(name)
	hits := make([]hit, 0, len(c.arms))
	for i := range c.arms {
		id := c.arms[i].ID
		hits = append(hits, hit{id, min(Edits(want, fold(string(id))), Edits(want, fold(id.Model())))})
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(a.edits-b.edits, cmp.Compare(a.id, b.id)) })
	n = min(max(n, 0), len(hits), NearestMax)
	out := make([]ArmID, n)
	for i := range out {
		out[i] = hits[i].id
	}
	return out
}

func fold(s string) string { return strings.ToLower(s[:min(len(s), nearestBytesMax)]) }

// Edits is the Levenshtein distance of two strings in bytes. It takes time in proportion to the product of their lengths,
// so callers shorten what a client sent.
func Edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
