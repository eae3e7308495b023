package idempotency

import "errors"

// Results of Begin beside the reasons of a conflict.
const (
	resultFirst    = "first"
	resultReplayed = "replayed"
	resultFull     = "overloaded"
)

// results are all that a request with a key can come to.
var results = [...]string{
	resultFirst, resultReplayed, resultFull, string(InProgress), string(Mismatch), string(Interrupted), string(TooLarge), string(Dropped),
	string(Unwritten), string(Damaged),
}

// Stats are what a store holds, and what requests with keys came to since it was opened.
type Stats struct {
	Keys    int
	Bytes   int64 // of the answers that are kept, as they stand on the disk
	Results map[string]int64
}

// Stats reads them.
func (s *Store) Stats() Stats {
	st := Stats{Results: make(map[string]int64, len(results))}
	for i, name := range results {
		st.Results[name] = s.results[i].Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Keys, st.Bytes = len(s.names), s.bytes
	return st
}

// count notes what a request came to.
func (s *Store) count(a *Answer, err error) {
	result := resultFirst
	var conflict *ConflictError
	switch {
	case errors.As(err, &conflict):
		result = string(conflict.Reason)
	case err != nil:
		result = resultFull
	case a != nil:
		result = resultReplayed
	}
	for i, name := range results {
		if name == result {
			s.results[i].Add(1)
		}
	}
}
