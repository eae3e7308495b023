// Package classifier estimates what every arm would make of a prompt: its quality, its lead over the fallback arm, the
// length of its answer, and how hard the prompt is.
//
// It holds a trained router (a Model) in the form that answers fastest, opens one from an artifact and replays the
// artifact's golden rows before it lets anything be decided. It does not choose an arm, which is classifier/policy,
// does not know prices, which are in models/catalog, and does not train, which is trainer.
package classifier

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/features/tokenizer"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Classifier is a router at work. It is immutable and safe for concurrent use.
type Classifier struct {
	model     *Model
	digest    models.Digest
	extractor *features.Extractor
	packed    packed
	scratch   sync.Pool

	arms, tasks int
	fallback    int
	anchor      int
	reference   []int
	// active lists the dense inputs that are switched on.
	active []int
}

// Open reads the artifact in dir, verifies and validates it and replays its golden rows. Whatever is wrong with it is
// an error and never a classifier that estimates something else.
func Open(dir string) (*Classifier, error) {
	a, err := models.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("classifier: opening %s: %w", dir, err)
	}
	c, err := FromArtifact(a)
	if err != nil {
		return nil, fmt.Errorf("classifier: opening %s: %w", dir, err)
	}
	return c, nil
}

// Default is the router that the program carries. Its arms are tiers.
func Default() (*Classifier, error) { return standard() }

// standard is opened once: every configuration that is loaded has the same.
var standard = sync.OnceValues(func() (*Classifier, error) {
	a, err := models.Default()
	if err != nil {
		return nil, fmt.Errorf("classifier: %w", err)
	}
	return FromArtifact(a)
})

// FromArtifact is Open for an artifact that was read and verified already.
func FromArtifact(a *models.Artifact) (*Classifier, error) {
	sections := map[string][]byte{}
	for _, s := range a.Manifest().Sections {
		b, err := a.Section(s.Name)
		if err != nil {
			return nil, err
		}
		sections[s.Name] = b
	}
	m, err := Parse(sections)
	if err != nil {
		return nil, err
	}
	c, err := New(m)
	if err != nil {
		return nil, err
	}
	if err := c.Replay(); err != nil {
		return nil, err
	}
	c.digest = a.Digest()
	return c, nil
}

// New puts a model to work. The model must not change afterwards. Its golden rows are not replayed.
func New(m *Model) (*Classifier, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	var tok *tokenizer.Tokenizer
	if len(m.Tokenizer) > 0 {
		var err error
		if tok, err = tokenizer.New(m.Tokenizer); err != nil {
			return nil, fmt.Errorf("%w: section %q: %w", ErrInvalid, SectionTokenizer, err)
		}
	}
	extractor, err := features.New(features.DefaultSpec(), tok)
	if err != nil {
		return nil, fmt.Errorf("classifier: %w", err)
	}
	c := &Classifier{
		model: m, extractor: extractor, packed: pack(m),
		arms: len(m.Router.Arms), tasks: len(m.Router.Tasks), fallback: slices.Index(m.Router.Arms, m.Router.Fallback),
		anchor: slices.Index(m.Router.Arms, m.Router.Shift.Anchor),
	}
	for _, a := range m.Router.Reference {
		c.reference = append(c.reference, slices.Index(m.Router.Arms, a))
	}
	for i, s := range m.Tables.DenseScale.Data {
		if s > 0 {
			c.active = append(c.active, i)
		}
	}
	c.scratch.New = func() any { return newScratch(m) }
	return c, nil
}

// Arms are the arms that are estimated, in the order of policy.Estimates. The caller must not change them.
func (c *Classifier) Arms() []catalog.ArmID { return c.model.Router.Arms }

// Fallback is the index of the fallback arm in Arms.
func (c *Classifier) Fallback() int { return c.fallback }

// Digest names the artifact; it is empty for a classifier that was not opened from one.
func (c *Classifier) Digest() models.Digest { return c.digest }

// Extractor is the one that the model was trained with.
func (c *Classifier) Extractor() *features.Extractor { return c.extractor }

// Targets are the prices of a dollar that were fitted for the strategies, on the score of a setting. The caller must not
// change them.
func (c *Classifier) Targets(t policy.Traffic) []Target {
	if t == policy.Shifting {
		return c.model.Router.Shift.Targets
	}
	return c.model.Router.Targets
}

// Target returns what was fitted for a strategy ("quality", "balanced", "cost").
func (c *Classifier) Target(strategy string, t policy.Traffic) (Target, bool) {
	targets := c.Targets(t)
	i := slices.IndexFunc(targets, func(t Target) bool { return t.Strategy == strategy })
	if i < 0 {
		return Target{}, false
	}
	return targets[i], true
}

// Keeping returns the target that keeps at least a share of the fallback's quality, the least of those that training knows.
// The second result is false where it knows none so strict.
func (c *Classifier) Keeping(share float64, t policy.Traffic) (least Target, ok bool) {
	for _, t := range c.Targets(t) {
		if t.Target >= share && (!ok || t.Target < least.Target) {
			least, ok = t, true
		}
	}
	return least, ok
}

// Model is what the classifier was made of, to look at and not to change.
func (c *Classifier) Model() *Model { return c.model }

// KnowsTokens reports whether the length of arm j's answers was seen in training; without it OutputTokens is 0.
func (c *Classifier) KnowsTokens(j int) bool { return c.model.Tables.Smear.Data[j] > 0 }

// packed holds the weights as rows of 8-byte words, biased to be positive, so that one multiplication serves two
// outputs (see gather).
type packed struct {
	rowOf []uint16 // row + 1 of a bucket, 0 where it was dropped
	words int      // words a row
	cells []uint64
}

const bias = 128

func pack(m *Model) packed {
	outputs := m.Outputs()
	p := packed{rowOf: make([]uint16, 2*features.DefaultSpec().Buckets), words: (outputs + 7) / 8}
	p.cells = make([]uint64, len(m.Weights.Buckets)*p.words)
	row := make([]byte, 8*p.words)
	for i, b := range m.Weights.Buckets {
		p.rowOf[b] = uint16(i + 1)
		for o, w := range m.Weights.Cells[i*outputs : (i+1)*outputs] {
			row[o] = byte(int(w) + bias)
		}
		for k := range p.words {
			p.cells[i*p.words+k] = binary.LittleEndian.Uint64(row[8*k:])
		}
	}
	return p
}
