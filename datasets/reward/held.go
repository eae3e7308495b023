package reward

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tradewind-llm/tradewind/datasets"
)

// heard is the set of rounds that somebody spoke of, by the hash of their ids: nine bytes a feedback. Should two ids have
// one hash, a round is held in vain and nothing else is wrong.
type heard struct {
	keys  []uint64 // sorted, once all are there
	inLog []bool   // which of them the log holds
}

func (h *heard) sort() {
	slices.Sort(h.keys)
	h.keys = slices.Compact(h.keys)
	h.inLog = make([]bool, len(h.keys))
}

// find is the place of a round, or of where it would stand, and whether it is there.
func (h *heard) find(id datasets.RoundID) (int, bool) {
	return slices.BinarySearch(h.keys, datasets.HashKey(string(id)))
}

// census counts the feedback and learns which rounds were spoken of.
func (j *join) census(ctx context.Context, l *datasets.Log) error {
	err := l.Feedback(ctx, func(batch []datasets.Feedback) error {
		if j.counts.Feedback += len(batch); j.counts.Feedback > datasets.FeedbackMax {
			return fmt.Errorf("the log holds more than %d rows of feedback", datasets.FeedbackMax)
		}
		for i := range batch {
			if reason := j.spec.mute(&batch[i]); reason != "" {
				j.counts.FeedbackDropped[reason]++
				continue
			}
			j.heard.keys = append(j.heard.keys, datasets.HashKey(string(batch[i].RoundID)))
		}
		return nil
	})
	j.heard.sort()
	return err
}

// mute is the reason why a feedback says nothing of any round, or empty.
func (s *Spec) mute(f *datasets.Feedback) Reason {
	if s.index(f.Source) < 0 {
		return OtherSource
	}
	if !(f.Score >= 0 && f.Score <= 1) {
		return OutOfRange
	}
	return ""
}

// held is a round that somebody spoke of, until it is read.
type held struct {
	id, draw datasets.RoundID
	key      uint64 // of the draw
	words    []word
}

// holding are the rounds that somebody spoke of: all of them, or of more than max the first by the keys of their draws,
// and of one draw by their order in the log. Then the bound has fallen, and what is beyond it never comes back.
type holding struct {
	max     int
	bounded bool
	bound   uint64 // keys from here on are out
	rounds  []held // in the order of the log
	at      map[datasets.RoundID]int32
}

// take holds a round, if it is none of a bounded many that have others before them. The strings are copied.
func (h *holding) take(id, draw string) {
	key := datasets.HashKey(draw)
	if h.bounded && key >= h.bound {
		return
	}
	if _, twice := h.at[datasets.RoundID(id)]; twice {
		return
	}
	if len(h.rounds) > h.max+h.max/4 {
		h.cut()
		h.take(id, draw)
		return
	}
	r := held{id: datasets.RoundID(strings.Clone(id)), key: key}
	if r.draw = r.id; draw != id {
		r.draw = datasets.RoundID(strings.Clone(draw))
	}
	h.at[r.id] = int32(len(h.rounds))
	h.rounds = append(h.rounds, r)
}

func (h *holding) cut() {
	h.rounds = firstByKey(h.rounds, h.max, func(r *held) uint64 { return r.key })
	h.bounded, h.bound = true, 0
	clear(h.at)
	for i := range h.rounds {
		h.bound = max(h.bound, h.rounds[i].key)
		h.at[h.rounds[i].id] = int32(i)
	}
}

// firstByKey keeps the first n in hash order, in place and in the order in which they stand.
func firstByKey[T any](all []T, n int, key func(*T) uint64) []T {
	keys := make([]uint64, len(all))
	for i := range keys {
		keys[i] = key(&all[i])
	}
	kept := datasets.InHashOrder(keys, n)
	slices.Sort(kept)
	for k, i := range kept {
		all[k] = all[i]
	}
	clear(all[len(kept):])
	return all[:len(kept)]
}
