package keyring

import (
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// allowance is what a key may still do at an arm. It takes no lock: what is read is a hint about which key to ask first, and
// the vendor has the last word.
type allowance struct {
	// aside is until when the key is not used here, in Unix nanoseconds.
	aside atomic.Int64
	// told is what the vendor said last; calls and tokens count all that was sent since the beginning.
	told          atomic.Pointer[told]
	calls, tokens atomic.Int64
}

func (a *allowance) set(until time.Time) { a.aside.Store(until.UnixNano()) }

// told is what an answer's headers say is left, and what had been sent when its call began: all that was sent since comes
// off, because the vendor may not have counted it.
type told struct {
	requests, tokens        meter
	callsBefore, tokensPast int64
}

// meter is one limit. Without a limit it says nothing.
type meter struct {
	limit, left float64
	resets      time.Time
}

// fits reports whether so much can be sent.
func (m meter) fits(sent int64, now time.Time) bool {
	return m.limit <= 0 || !now.Before(m.resets) || float64(sent) <= m.left
}

// share is the part of the limit that is left once so much was sent, from 0 to 1.
func (m meter) share(sent int64, now time.Time) float64 {
	if m.limit <= 0 || !now.Before(m.resets) {
		return 1
	}
	return min(max(m.left-float64(sent), 0)/m.limit, 1)
}

// mark is how much had been sent when a call began, itself included.
type mark struct{ calls, tokens int64 }

func (a *allowance) begin(tokens int64) mark {
	return mark{a.calls.Add(1), a.tokens.Add(tokens)}
}

// share is the least part of a limit that is left, and whether one more call fits into all of them.
func (a *allowance) share(tokens int64, now time.Time) (share float64, fits bool) {
	t := a.told.Load()
	if t == nil {
		return 1, true
	}
	calls, sent := a.calls.Load()-t.callsBefore, a.tokens.Load()-t.tokensPast
	return min(t.requests.share(calls, now), t.tokens.share(sent, now)), t.requests.fits(calls+1, now) && t.tokens.fits(sent+tokens, now)
}

// heard takes what an answer's headers say, in OpenAI's form or Anthropic's.
func (a *allowance) heard(s upstream.Stream, m mark, now time.Time) {
	h, ok := s.(upstream.Headed)
	if !ok {
		return
	}
	t := &told{callsBefore: m.calls, tokensPast: m.tokens}
	t.requests = readMeter(h, now, "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests")
	t.tokens = readMeter(h, now, "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens")
	if t.requests.limit == 0 && t.tokens.limit == 0 {
		t.requests = readMeter(h, now, "Anthropic-Ratelimit-Requests-Limit", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset")
		t.tokens = readMeter(h, now, "Anthropic-Ratelimit-Tokens-Limit", "Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset")
	}
	if t.requests.limit > 0 || t.tokens.limit > 0 {
		a.told.Store(t)
	}
}

func readMeter(h upstream.Headed, now time.Time, limit, left, reset string) (m meter) {
	text := h.Header(limit)
	if text == "" {
		return meter{}
	}
	var errLimit, errLeft error
	m.limit, errLimit = strconv.ParseFloat(text, 64)
	m.left, errLeft = strconv.ParseFloat(h.Header(left), 64)
	if errLimit != nil || errLeft != nil || !(m.limit > 0 && m.limit <= math.MaxInt64) || !(m.left >= 0) {
		return meter{}
	}
	m.resets = now.Add(untilReset(h.Header(reset), now))
	return m
}

// Bounds of what a vendor may say of a limit's end; resetUnknown is taken where it says nothing.
const (
	resetMax     = time.Hour
	resetUnknown = time.Second
)

// untilReset reads the time until a limit is whole again: a duration such as 6m0s, an instant, or seconds.
func untilReset(text string, now time.Time) time.Duration {
	d := resetUnknown
	if len(text) > 64 {
		return d
	}
	if t, err := time.ParseDuration(text); err == nil {
		d = t
	} else if at, err := time.Parse(time.RFC3339, text); err == nil {
		d = at.Sub(now)
	} else if s, err := strconv.ParseFloat(text, 64); err == nil && s >= 0 && s < resetMax.Seconds() {
		d = time.Duration(s * float64(time.Second))
	}
	return min(max(d, 0), resetMax)
}
