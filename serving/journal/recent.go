package journal

import (
	"encoding/json"

	"github.com/tradewind-llm/tradewind/datasets"
)

// recent finds the frames of the last rounds. It keeps places and not the rounds themselves: a decision of 200 arms is
// 50 kB of JSON, and the file system has it in its cache already. It belongs to Journal.mu.
type recent struct {
	max    int
	rounds map[datasets.RoundID]*recentRound
	ring   []datasets.RoundID
	next   int
}

type recentRound struct{ decision, outcome location }

func (r *recent) decided(id datasets.RoundID, at location) {
	if r.max == 0 {
		return
	}
	if round := r.rounds[id]; round != nil { // written again
		at.seg.refs++
		round.decision.seg.unref()
		round.decision = at
		return
	}
	if len(r.ring) < r.max {
		r.ring = append(r.ring, id)
	} else {
		r.drop(r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % r.max
	}
	at.seg.refs++
	r.rounds[id] = &recentRound{decision: at}
}

func (r *recent) ended(id datasets.RoundID, at location) {
	if round := r.rounds[id]; round != nil && round.outcome.seg == nil {
		at.seg.refs++
		round.outcome = at
	}
}

func (r *recent) drop(id datasets.RoundID) {
	round := r.rounds[id]
	delete(r.rounds, id)
	for _, at := range []location{round.decision, round.outcome} {
		if at.seg != nil {
			at.seg.unref()
		}
	}
}

func (r *recent) close() {
	for id := range r.rounds {
		r.drop(id)
	}
}

// retire closes the descriptor of a segment that is not written to any more, now or with its last reader.
func (s *segment) retire() {
	s.retired = true
	s.refs++
	s.unref()
}

func (s *segment) unref() {
	s.refs--
	if s.refs == 0 && s.retired {
		_ = s.f.Close()
	}
}

// Recent returns one of the last RecentMax rounds; its outcome is nil while it is open. Older rounds, and those that
// were sealed before this process began, are found in the sealed log alone.
func (j *Journal) Recent(id datasets.RoundID) (*datasets.Decision, *datasets.Outcome, bool) {
	j.mu.Lock()
	found := j.recent.rounds[id]
	if found == nil || j.closed {
		j.mu.Unlock()
		return nil, nil, false
	}
	at := *found
	for _, l := range []location{at.decision, at.outcome} {
		if l.seg != nil {
			l.seg.refs++
			defer func() {
				j.mu.Lock()
				l.seg.unref()
				j.mu.Unlock()
			}()
		}
	}
	j.mu.Unlock()

	var d datasets.Decision
	if !decode(at.decision, &d) {
		return nil, nil, false
	}
	var o datasets.Outcome
	if at.outcome.seg == nil || !decode(at.outcome, &o) {
		return &d, nil, true
	}
	return &d, &o, true
}

func decode(at location, v any) bool {
	payload, err := at.read()
	return err == nil && json.Unmarshal(payload, v) == nil
}
