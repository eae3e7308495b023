package idempotency

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
)

// The kinds of frames.
const (
	kindBegun     frame.Kind = 1 // before dispatch
	kindAnswered  frame.Kind = 2
	kindLost      frame.Kind = 3 // charged, and the answer cannot be had
	kindForgotten frame.Kind = 4 // nothing was charged
	kinds                    = kindForgotten
)

// errNotWhole says that the bytes of a record are not what was written.
var errNotWhole = errors.New("idempotency: not a whole record")

// entry is the payload of a frame: one line of JSON, for people in trouble, and behind it the body, deflated. Every frame of
// a record says all that is known of it, so each can be lost without the others.
type entry struct {
	Name   Digest      `json:"name"`
	Owner  string      `json:"owner"`
	Digest Digest      `json:"digest"`
	Round  string      `json:"round"`
	At     time.Time   `json:"at"`
	Lost   Reason      `json:"lost,omitempty"`
	Status int         `json:"status,omitempty"`
	Header http.Header `json:"header,omitempty"`

	deflated []byte
}

// MarshalText is the digest in hexadecimal.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("idempotency: a digest of %d characters", len(text))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// entryOf describes a record and, where there is one, its answer but for the body.
func entryOf(r *record, a *Answer) *entry {
	e := &entry{Name: r.name, Owner: r.owner.id, Digest: r.digest, Round: r.round, At: r.at}
	if a == nil {
		return e
	}
	if e.Lost = a.Lost; a.Lost == "" {
		e.Status, e.Header = a.Status, a.Header
	}
	return e
}

// deflate makes a body small.
func (s *Store) deflate(body []byte) []byte {
	if len(body) == 0 {
		return nil
	}
	w, ok := s.deflaters.Get().(*flate.Writer) // it is a megabyte
	if !ok {
		w, _ = flate.NewWriter(nil, flate.BestSpeed) // a level that exists
	}
	defer s.deflaters.Put(w)
	var out bytes.Buffer
	w.Reset(&out)
	_, _ = w.Write(body) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// append appends the payload.
func (e *entry) append(dst []byte) []byte {
	line, err := json.Marshal(e)
	if err != nil { // a year beyond 9999
		panic(fmt.Sprintf("idempotency: %v", err))
	}
	return append(append(append(dst, line...), '\n'), e.deflated...)
}

// parse reads a payload. The body stays deflated, as a part of the payload.
func parse(payload []byte) (*entry, error) {
	line, body, found := bytes.Cut(payload, []byte{'\n'})
	if !found {
		return nil, errNotWhole
	}
	e := &entry{deflated: body}
	if err := json.Unmarshal(line, e); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotWhole, err)
	}
	if e.Name == (Digest{}) || e.Status < 0 || e.Status > 999 || e.At.Year() < 0 || e.At.Year() > 9999 {
		return nil, errNotWhole
	}
	return e, nil
}

// answerIn is the answer in a payload, of at most so many bytes.
func answerIn(payload []byte, most int) (*Answer, error) {
	e, err := parse(payload)
	if err != nil {
		return nil, err
	}
	a := &Answer{Status: e.Status, Header: e.Header}
	if len(e.deflated) > 0 {
		if a.Body, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(e.deflated)), int64(most)+1)); err != nil {
			return nil, err
		}
	}
	if len(a.Body) > most || a.Status < 100 {
		return nil, errNotWhole
	}
	return a, nil
}
