package servingtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/disktest"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// Twin is a way to be wrong at one station, each of them one that gateways have been. The auditor must catch every one.
type Twin string

// The zero value is the real thing.
const (
	// CheckThenAct looks at a budget and then spends, in two steps.
	CheckThenAct Twin = "a ledger that checks, then acts"
	// BodyUnread does not read a request to its end, so nobody hears that the client has gone.
	BodyUnread Twin = "a body that is left unread"
	// LateDecision acknowledges a decision before the operating system has it.
	LateDecision Twin = "a vendor that is asked before the decision is on record"
	// OwnBreaker ejects arms by its own hand, the last one too.
	OwnBreaker Twin = "an ejection without a last arm"
	// OwnRetries tries again whatever failed, and again, and keeps no budget.
	OwnRetries Twin = "retries without a budget"
	// CutShort cancels the calls of vendors that bill to the end, and settles what it has heard.
	CutShort Twin = "a bill that nobody waits for"
	// Splicing goes on with another vendor where one breaks off.
	Splicing Twin = "a broken stream that another arm goes on with"
)

func (t Twin) money(o *serving.Options) {
	if t == CheckThenAct {
		b := &checkThenAct{Books: o.Books, store: o.Ledger, caps: map[ledger.AccountID]catalog.Nanodollars{}}
		o.Books, o.Ledger = b, b
	}
}

// checkThenAct keeps the caps to itself and looks at them before it holds.
type checkThenAct struct {
	ledger.Books
	store ledger.Store
	mu    sync.Mutex
	caps  map[ledger.AccountID]catalog.Nanodollars
}

func (c *checkThenAct) SetLimit(ctx context.Context, id ledger.AccountID, l ledger.Limit) error {
	c.mu.Lock()
	if l.Set {
		c.caps[id] = l.Amount
	}
	c.mu.Unlock()
	l.Set = false
	return c.Books.SetLimit(ctx, id, l)
}

func (c *checkThenAct) Balance(ctx context.Context, id ledger.AccountID) (ledger.Balance, error) {
	b, err := c.Books.Balance(ctx, id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit, capped := c.caps[id]; capped {
		b.Limit.Set, b.Limit.Amount = true, limit
	}
	return b, err
}

func (c *checkThenAct) Hold(ctx context.Context, id ledger.HoldID, chain []ledger.AccountID, amount catalog.Nanodollars, expires time.Time) error {
	for _, a := range chain {
		if b, err := c.Balance(ctx, a); err != nil || b.Limit.Set && b.Settled+amount > b.Limit.Amount {
			return errors.Join(err, &ledger.InsufficientError{AccountID: a, Scope: a.Scope(), Limit: b.Limit.Amount, Spent: b.Settled, Held: b.Held, Needed: amount})
		}
	}
	time.Sleep(time.Millisecond)
	return c.store.Hold(ctx, id, chain, amount, expires)
}

func (c *checkThenAct) Settle(ctx context.Context, id ledger.HoldID, actual catalog.Nanodollars) error {
	return c.store.Settle(ctx, id, actual)
}

func (c *checkThenAct) Release(ctx context.Context, id ledger.HoldID) error {
	return c.store.Release(ctx, id)
}

// readOn are the vendors that are drained.
func (t Twin) readOn(toTheEnd map[string]bool) map[string]bool {
	if t == CutShort {
		return nil
	}
	return toTheEnd
}

func (t Twin) handler(h http.Handler) http.Handler {
	if t != BodyUnread {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		most := make([]byte, r.ContentLength-1) // a JSON object ends with a brace, so why read it
		if _, err := io.ReadFull(r.Body, most); err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(append(most, '}')))
		h.ServeHTTP(w, r)
	})
}

func (t Twin) disk(p *disktest.Process) disk.FS {
	if t != LateDecision {
		return p
	}
	return lateDisk{p}
}

// lateDisk writes what is to be appended to a journal a while after it has said so.
type lateDisk struct{ disk.FS }

func (d lateDisk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.Contains(name, "journal") {
		return f, err
	}
	return &lateFile{File: f}, nil
}

type lateFile struct {
	disk.File
	mu    sync.Mutex
	later []byte
}

func (f *lateFile) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.flush(); err != nil {
		return 0, err
	}
	f.later = bytes.Clone(b)
	return len(b), nil
}

func (f *lateFile) flush() error {
	_, err := f.File.Write(f.later)
	f.later = nil
	return err
}

func (f *lateFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.flush(), f.File.Close())
}

func (t Twin) provider(p upstream.Provider) upstream.Provider {
	switch t {
	case OwnBreaker:
		return &ownBreaker{Provider: p}
	case OwnRetries:
		return ownRetries{p}
	case Splicing:
		return splicing{p}
	}
	return p
}

// ownBreaker refuses for an hour what failed three times in a row.
type ownBreaker struct {
	upstream.Provider
	mu     sync.Mutex
	failed int
	until  time.Time
}

func (b *ownBreaker) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	b.mu.Lock()
	shut := time.Now().Before(b.until)
	b.mu.Unlock()
	if shut {
		return nil, &upstream.Error{Class: upstream.Connect, Message: "the circuit is open"}
	}
	s, err := b.Provider.Stream(ctx, r)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed++; err == nil {
		b.failed = 0
	}
	if b.failed >= 3 {
		b.failed, b.until = 0, time.Now().Add(time.Hour)
	}
	return s, err
}

// ownRetries asks three times.
type ownRetries struct{ upstream.Provider }

func (p ownRetries) Stream(ctx context.Context, r *upstream.Request) (s upstream.Stream, err error) {
	for range 3 {
		if s, err = p.Provider.Stream(ctx, r); err == nil {
			break
		}
	}
	return s, err
}

// splicing asks again where an answer breaks off.
type splicing struct{ upstream.Provider }

func (p splicing) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	s, err := p.Provider.Stream(ctx, r)
	if err != nil {
		return nil, err
	}
	return &spliced{Stream: s, again: func() (upstream.Stream, error) { return p.Provider.Stream(ctx, r) }}, nil
}

type spliced struct {
	upstream.Stream
	again func() (upstream.Stream, error)
	tried bool
}

func (s *spliced) Next() (upstream.Event, error) {
	e, err := s.Stream.Next()
	var broken *upstream.Error
	if s.tried || !errors.As(err, &broken) || broken.Class != upstream.Cut {
		return e, err
	}
	s.tried = true
	next, failed := s.again()
	if failed != nil {
		return e, err
	}
	s.Stream = next
	return s.Stream.Next()
}
