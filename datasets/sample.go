package datasets

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// HashKey is the place of an id among all ids: the second eight bytes of its SHA-256 as a big-endian number. Samples
// are taken in the order of their keys: they depend on the ids alone, a sample of a sample is a sample of the whole, and
// folds, which go by other bytes, cut every sample evenly.
func HashKey(id string) uint64 {
	h := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(h[8:16])
}

// InHashOrder are the places of the n smallest keys, or of all: the smallest first, and of equal ones the first.
func InHashOrder(keys []uint64, n int) []int {
	order := places(len(keys))
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(keys[a], keys[b]) })
	return order[:min(n, len(order))]
}

func places(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// InHashOrder are the first n prompts of a table, or all, by the keys of their ids.
func (t *Table) InHashOrder(n int) []int {
	keys := make([]uint64, len(t.Prompts))
	for i := range keys {
		keys[i] = HashKey(t.Prompts[i].ID)
	}
	return InHashOrder(keys, n)
}

// Origin is the size of what was read.
type Origin struct {
	// Rows is the number of rows that the filter wanted, Prompts how many prompts they were of.
	Rows, Prompts int
	// Estimated says that the prompts were not counted. That takes all their ids in memory where the rows of a prompt
	// do not stand together, as is seen by the sampled ones; so the stretches of rows are counted, and divided by their
	// mean number for a sampled prompt.
	Estimated bool
}

// Source is the size of what a table was made of: its own, or that of what it is a sample of.
func (t *Table) Source() Origin {
	if t.SampledFrom != nil {
		return *t.SampledFrom
	}
	o := Origin{Prompts: len(t.Prompts)}
	for _, s := range t.Score {
		if s == s {
			o.Rows++
		}
	}
	return o
}

// sample chooses the prompts that a builder keeps: all where max is 0, else the first max in hash order. It gathers a
// quarter more before it is cut back. The bound only falls, so a prompt that was left out never comes back, and what
// is kept at the end has been since its first row.
type sample struct {
	max       int
	bounded   bool
	bound     uint64 // keys from here on are out: so many smaller ones, or equal ones that came first, are in
	keys      []uint64
	stretches []int32 // of rows of a prompt that stood together
	all       int     // stretches, also of what is out
	rows      int
}

func (s *sample) full() bool { return s.max > 0 && len(s.keys) > s.max+s.max/4 }

// takes reports whether a prompt is in, as far as can be said by now. It must be new.
func (s *sample) takes(id string) bool {
	s.all++
	key := uint64(0)
	if s.max > 0 {
		key = HashKey(id)
	}
	if s.bounded && key >= s.bound {
		return false
	}
	s.keys, s.stretches = append(s.keys, key), append(s.stretches, 1)
	return true
}

// again notes another stretch of a prompt that is in.
func (s *sample) again(i int32) {
	s.all++
	s.stretches[i]++
}

// order are the prompts of the table: all as they came, or those of a sample in hash order.
func (s *sample) order() []int {
	if !s.bounded && (s.max == 0 || len(s.keys) <= s.max) {
		return places(len(s.keys))
	}
	return InHashOrder(s.keys, s.max)
}

// origin is nil where the order is not that of a sample.
func (s *sample) origin(order []int) *Origin {
	if !s.bounded && len(order) == len(s.keys) {
		return nil
	}
	mine := 0
	for _, i := range order {
		mine += int(s.stretches[i])
	}
	return &Origin{Rows: s.rows, Prompts: (s.all*len(order) + mine/2) / mine, Estimated: mine > len(order)}
}

// cut drops what is beyond the sample, prompts and cells, in place.
func (b *builder) cut() {
	s := &b.sample
	kept := InHashOrder(s.keys, s.max)
	s.bounded, s.bound = true, s.keys[kept[len(kept)-1]]
	slices.Sort(kept) // as they came
	to := make([]int32, len(b.prompts))
	for i := range to {
		to[i] = -1
	}
	clear(b.promptIndex)
	for k, i := range kept {
		to[i] = int32(k)
		b.prompts[k], s.keys[k], s.stretches[k] = b.prompts[i], s.keys[i], s.stretches[i]
		b.promptIndex[b.prompts[k].ID] = int32(k)
	}
	clear(b.prompts[len(kept):])
	b.prompts, s.keys, s.stretches = b.prompts[:len(kept)], s.keys[:len(kept)], s.stretches[:len(kept)]
	b.cells = 0
	for _, chunk := range b.chunks {
		for i := range chunk {
			if c := chunk[i]; to[c.prompt] >= 0 {
				c.prompt = to[c.prompt]
				b.chunks[b.cells/cellsInChunk][b.cells%cellsInChunk] = c
				b.cells++
			}
		}
	}
	chunks := (b.cells + cellsInChunk - 1) / cellsInChunk
	clear(b.chunks[chunks:])
	b.chunks = b.chunks[:chunks]
	if left := b.cells % cellsInChunk; left > 0 {
		b.chunks[chunks-1] = b.chunks[chunks-1][:left]
	}
}
