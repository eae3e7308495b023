package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Answer is an answer whose first content has arrived. It must be closed. It is for one goroutine.
type Answer struct {
	pool    *Pool
	plan    *Plan
	arm     *catalog.Arm
	dialect openai.Dialect
	live    *state
	// output are the tokens of the answer, as far as they are known.
	output  float64
	started time.Time
	ttft    time.Duration

	ctx    context.Context
	cancel context.CancelCauseFunc
	stop   context.CancelFunc
	expire context.CancelFunc // of the deadline of a call that goes beyond its client, else nil
	timer  *time.Timer
	pause  time.Duration // that the arm may make between two events
	req    *Request
	source Stream

	prelude  []Event
	first    Event
	failed   []Attempt
	attempt  Attempt
	counted  counted
	hasFirst bool
	ended    bool
	closed   bool
}

// input are the tokens of the prompt.
func (a *Answer) input() float64 { return float64(a.plan.InputTokens) }

// Served is the arm that answers.
func (a *Answer) Served() *catalog.Arm { return a.arm }

// Dialect is the one that the events are in: the client's, or chat.
func (a *Answer) Dialect() openai.Dialect { return a.dialect }

// Header is a header of the vendor's answer, "" where there is none.
func (a *Answer) Header(name string) string {
	if h, ok := a.source.(Headed); ok {
		return h.Header(name)
	}
	return ""
}

// Hedged reports whether the answer is that of a second call which was quicker than the first.
func (a *Answer) Hedged() bool {
	return a.attempt.Hedge && a.failed[0].Cancelled
}

// TTFT is the time from the start of the attempt that answers to its first content; for an answer that is not streamed
// it is the time of the whole.
func (a *Answer) TTFT() time.Duration { return a.ttft }

// Attempts are all attempts, the one that answers last. They are final once the answer is closed.
func (a *Answer) Attempts() []Attempt {
	return append(a.failed[:len(a.failed):len(a.failed)], a.attempt)
}

// Next returns the next event, also those that came before the first content. It returns io.EOF after a complete
// answer. Any other error is an *Error, or the context's own where the client has gone; nothing follows it.
func (a *Answer) Next() (Event, error) {
	if len(a.prelude) > 0 {
		ev := a.prelude[0]
		a.prelude = a.prelude[1:]
		return ev, nil
	}
	if a.hasFirst {
		a.hasFirst = false
		a.count(&a.first)
		return a.first, nil
	}
	if a.ended {
		return Event{}, io.EOF
	}
	a.timer.Reset(a.pause)
	ev, err := a.source.Next()
	a.timer.Stop()
	if err == nil && ev.Kind.Has(openai.HasError) {
		err = ClassifyObject(ev.ErrorObject(), nil)
	}
	switch {
	case err == nil:
		a.count(&ev)
		return ev, nil
	case err == io.EOF:
		a.end(nil)
		return Event{}, io.EOF
	case a.clientGone():
		a.end(nil)
		return Event{}, context.Cause(a.ctx)
	}
	e := a.explain(err)
	a.end(e)
	return Event{}, e
}

// count notes the tokens of the answer. Where the vendor tells none they are guessed, of a whole answer only.
func (a *Answer) count(ev *Event) {
	if ev.Kind.Has(openai.HasUsage) {
		if u := ev.Usage(); u.Known {
			a.output = float64(u.Output)
		}
	} else if !a.plan.Stream {
		a.output = float64(len(ev.Data)) / 4
	}
}

// Buffered reports whether the next event is here, so that Next does not wait for it.
func (a *Answer) Buffered() bool {
	if len(a.prelude) > 0 || a.hasFirst || a.ended {
		return true
	}
	b, ok := a.source.(Buffered)
	return ok && b.Buffered()
}

func (a *Answer) clientGone() bool {
	cause := context.Cause(a.ctx)
	return cause != nil && cause != errStalled && cause != errDeadline
}

// ranItsCourse reports whether the arm had all the time it was due: neither the client nor its deadline ended the call.
func (a *Answer) ranItsCourse() bool {
	cause := context.Cause(a.ctx)
	return cause == nil || cause == errStalled
}

// end books how the attempt ended. A client that has gone says nothing about the arm.
func (a *Answer) end(e *Error) {
	if a.ended {
		return
	}
	a.ended = true
	a.attempt.Err = e
	a.attempt.Total = time.Since(a.started)
	switch {
	case e != nil:
		a.attempt.Billed = true
		a.blame(e)
	case !a.clientGone():
		a.live.succeeded(a.pool.o.Now())
		if a.output > 0 && a.live.complete(a.attempt.Total, a.input(), a.output, a.plan.Stream) {
			a.pool.degrade(a.live, a.plan.Candidates, false)
		}
		a.pool.tell(a.arm.ID, a.live, nil)
	}
}

// blame counts a failure of the arm, if it had the time it was due.
func (a *Answer) blame(e *Error) {
	if !a.ranItsCourse() {
		return
	}
	if a.live.failed(e, a.pool.o.Now()) {
		a.pool.degrade(a.live, a.plan.Candidates, true)
	}
	a.pool.tell(a.arm.ID, a.live, e)
}

// Close ends the call. Closing an answer before its end cancels the vendor's work.
func (a *Answer) Close() error {
	if a.closed {
		return nil
	}
	a.closed = true
	if !a.ended {
		a.ended = true
		a.attempt.Total = time.Since(a.started)
		a.cancel(context.Canceled)
	}
	a.release()
	a.stop()
	return nil
}

// release frees the attempt's connection and timer.
func (a *Answer) release() {
	a.timer.Stop()
	if a.source != nil {
		_ = a.source.Close() // the call is over; what its connection says now changes nothing
	}
	a.cancel(context.Canceled)
	if a.expire != nil {
		a.expire()
	}
}

// explain makes an *Error of whatever ended a call.
func (a *Answer) explain(err error) *Error {
	switch cause := context.Cause(a.ctx); {
	case cause == errStalled:
		return &Error{Class: TimedOut, Message: "the provider did not answer in time", Err: err}
	case cause == errDeadline:
		return &Error{Class: TimedOut, Message: "the request's deadline passed", Err: errors.Join(errDeadline, err)}
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return &Error{Class: TimedOut, Message: "the connection timed out", Err: err}
	}
	return &Error{Class: Connect, Message: "the provider could not be reached", Err: err}
}

// Failure is a request that nobody answered.
type Failure struct {
	Attempts []Attempt
	// Cause is context.Canceled where the client has gone, the deadline's error where that passed, and nil otherwise.
	Cause error
	// RetryAfter is when the first arm is worth another try, where none could be tried now. Limited says that arms were not
	// tried because they have no room under limits of our own.
	RetryAfter time.Duration
	Limited    bool
}

// Error names the cause or the last attempt's error.
func (f *Failure) Error() string {
	if f.Cause != nil {
		return f.Cause.Error()
	}
	if e := f.Last(); e != nil {
		return e.Error()
	}
	return "upstream: no candidate"
}

// Unwrap gives the cause, so that errors.Is(err, context.Canceled) tells a client that has gone.
func (f *Failure) Unwrap() error { return f.Cause }

// Last is the error of the last attempt, nil where none was made.
func (f *Failure) Last() *Error {
	if len(f.Attempts) == 0 {
		return nil
	}
	return f.Attempts[len(f.Attempts)-1].Err
}

// Wire is the error that the client gets.
func (f *Failure) Wire() *openai.Error {
	last := f.Last()
	var e *openai.Error
	switch {
	case f.Cause != nil:
		e = openai.NewError(openai.Timeout, "the request's deadline passed before any provider answered")
	case last == nil && f.Limited:
		e = openai.NewError(openai.UpstreamRateLimited, "what may be sent to the providers in a minute is used up")
		e.RetryAfter = f.RetryAfter
		return e
	case last == nil:
		e = openai.NewError(openai.NoHealthyUpstream, "no provider is available")
		e.RetryAfter = f.RetryAfter
		return e
	case last.Class == BadRequest || last.Class == ContentPolicy || last.Class == ContextLength || f.all(Unsayable):
		return last.Wire()
	case f.all(RateLimited):
		e = openai.NewError(openai.UpstreamRateLimited, "every provider is rate-limited")
		e.RetryAfter = f.shortestWait()
	default:
		e = openai.NewError(openai.UpstreamFailed, "no provider answered: %s", last.Wire().Message)
		if f.providers() >= 2 {
			e.ShouldRetry = openai.No
		}
	}
	e.Extra = map[string]any{"attempts": WireAttempts(f.Attempts)}
	return e
}

// Wire is the error as a client may see it: the vendor's own words where the request was at fault, and no more than
// the class where the vendor or its key was.
func (e *Error) Wire() *openai.Error {
	var out *openai.Error
	switch e.Class {
	case BadRequest, Unsayable:
		out = openai.NewError(openai.InvalidRequest, "%s", e.Message)
		if out.Param = e.Param; e.Code != "" {
			out.Code = openai.Code(e.Code)
		}
		if e.Status >= 400 && e.Status < 500 {
			out.Status = e.Status
		}
	case ContextLength:
		out = openai.NewError(openai.ContextLengthExceeded, "%s", e.Message)
	case ContentPolicy:
		out = openai.NewError(openai.ContentFilter, "%s", e.Message)
	case RateLimited:
		out = openai.NewError(openai.UpstreamRateLimited, "the provider is rate-limited")
		out.RetryAfter = e.RetryAfter
	case Auth:
		out = openai.NewError(openai.UpstreamFailed, "the provider refused the gateway's credentials")
	case ModelGone:
		out = openai.NewError(openai.UpstreamFailed, "the provider does not know the model")
	case TimedOut:
		if out = openai.NewError(openai.UpstreamFailed, "%s", e.Message); errors.Is(e.Err, errDeadline) { // it is the client's own, or ours
			out = openai.NewError(openai.Timeout, "%s", e.Message)
		}
	default:
		out = openai.NewError(openai.UpstreamFailed, "%s", e.Message)
	}
	return out
}

// WireAttempt is an attempt as it stands in decisions and errors.
type WireAttempt struct {
	Model      catalog.ArmID `json:"model"`
	StartedAt  time.Time     `json:"started_at"`
	Outcome    string        `json:"outcome"`
	HTTPStatus int           `json:"http_status,omitempty"`
	ErrorClass Class         `json:"error_class,omitempty"`
	TotalMS    float64       `json:"total_ms"`
}

// WireAttempts are the attempts as a client may see them.
func WireAttempts(attempts []Attempt) []WireAttempt {
	out := make([]WireAttempt, len(attempts))
	for i, a := range attempts {
		out[i] = WireAttempt{Model: a.Arm, StartedAt: a.StartedAt, Outcome: a.Outcome(), TotalMS: float64(a.Total) / float64(time.Millisecond)}
		if a.Err != nil {
			out[i].HTTPStatus, out[i].ErrorClass = a.Err.Status, a.Err.Class
		} else if !a.Cancelled {
			out[i].HTTPStatus = http.StatusOK
		}
	}
	return out
}

// Outcome is "ok", "failed" or "cancelled".
func (a *Attempt) Outcome() string {
	switch {
	case a.Cancelled:
		return "cancelled"
	case a.Err != nil:
		return "failed"
	}
	return "ok"
}

// all reports whether every attempt failed in this way.
func (f *Failure) all(c Class) bool {
	for _, a := range f.Attempts {
		if a.Err == nil || a.Err.Class != c {
			return false
		}
	}
	return true
}

func (f *Failure) shortestWait() time.Duration {
	var shortest time.Duration
	if f.Limited {
		shortest = f.RetryAfter
	}
	for _, a := range f.Attempts {
		if a.Err == nil {
			continue
		}
		if w := a.Err.RetryAfter; w > 0 && (shortest == 0 || w < shortest) {
			shortest = w
		}
	}
	return shortest
}

func (f *Failure) providers() int {
	seen := map[string]bool{}
	for _, a := range f.Attempts {
		seen[a.Arm.Provider()] = true
	}
	return len(seen)
}
