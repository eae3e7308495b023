package idempotency

import (
	"cmp"
	"fmt"
)

// Claim is a key in the hands of the one request that may be charged under it. One goroutine uses it.
type Claim struct {
	s *Store
	r *record
	// committed says that the file may know of it, ended that nothing more is to come.
	committed, ended bool
}

// Commit writes the key down. Only then may a vendor hear of the request: whatever happens to this process, no other
// will run it again.
func (c *Claim) Commit() error {
	payload := entryOf(c.r, nil).append(nil)
	c.committed = true
	c.s.mu.Lock()
	err := c.s.put(c.r, kindBegun, payload)
	wait := c.s.written()
	c.s.mu.Unlock()
	if err == nil && c.s.o.Sync {
		err = wait.sync()
	}
	if err != nil {
		return fmt.Errorf("idempotency: writing a key: %w", err)
	}
	return nil
}

// End says what became of the request. Nil is nothing that was charged: the key is forgotten, and a retry runs. On an
// error the key is remembered and its answer is not.
func (c *Claim) End(a *Answer) error {
	if c.ended {
		return nil
	}
	c.ended = true
	if a == nil {
		return c.forget()
	}
	s, r, kind := c.s, c.r, kindLost
	reason := a.Lost
	if reason == "" {
		kind = kindAnswered
	}
	e := entryOf(r, a)
	if kind == kindAnswered {
		e.deflated = s.deflate(a.Body)
	}
	payload := e.append(nil)
	if kind == kindAnswered && int64(len(payload)) > s.o.BytesMax {
		kind, reason, payload = kindLost, TooLarge, entryOf(r, &Answer{Lost: TooLarge}).append(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[r.name] != r {
		return nil // a clock that leapt ahead has expired it
	}
	r.reason = reason
	var err error
	if kind == kindAnswered {
		err = s.makeRoom(int64(len(payload)))
	}
	if err == nil {
		err = s.put(r, kind, payload)
	}
	if err != nil {
		r.state, r.reason = lost, cmp.Or(reason, Unwritten)
		return fmt.Errorf("idempotency: writing the answer of round %s: %w", r.round, err)
	}
	return nil
}

// forget takes the key back.
func (c *Claim) forget() error {
	s := c.s
	payload := []byte(nil)
	if c.committed {
		payload = entryOf(c.r, nil).append(nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if c.committed { // even where Commit failed: some of it may be on the disk
		_, err = s.append(kindForgotten, payload)
	}
	if s.names[c.r.name] == c.r {
		s.remove(c.r)
	}
	if err != nil {
		return fmt.Errorf("idempotency: forgetting a key: %w", err)
	}
	return nil
}
