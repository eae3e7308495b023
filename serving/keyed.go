package serving

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/idempotency"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file is a request under an idempotency key. It is charged once: whoever comes with the key again gets what the first
// got, or is told why not. So its vendor's call outlives its client, within the request's own deadline, and the retry finds
// the answer. DESIGN.md of package idempotency says what becomes of a key at every end.

const (
	idempotencyHeader = "Idempotency-Key"
	// aloneMax bounds the requests that go on without their clients. Beyond it a client that leaves ends its request, key or
	// not.
	aloneMax = 64
	// inProgressRetry is what a retry is told to wait while the first request runs: nobody knows when it ends.
	inProgressRetry = time.Second
)

// keyed is what a round under an idempotency key has beside others.
type keyed struct {
	g        *Gateway
	claim    *idempotency.Claim
	recorder *idempotency.Recorder
	cancel   context.CancelCauseFunc
	stops    [2]func() bool

	mu sync.Mutex
	// left says that the client has gone, alone that the request goes on without it, over that it has ended.
	left, alone, over bool
}

// claimKey takes the request's idempotency key. Where it is known, the request is answered here: it reports true, or an error.
func (r *round) claimKey() (answered bool, err error) {
	store := r.g.o.Idempotency
	sent, present := r.req.Header[idempotencyHeader]
	if !present || store == nil {
		return false, nil
	}
	if len(sent) != 1 || !idempotency.ValidKey(sent[0]) {
		e := openai.NewError(openai.InvalidRequest, "%s must be one value of 1 to %d visible ASCII characters", idempotencyHeader, idempotency.KeyMax)
		e.Param = idempotencyHeader
		return false, e
	}
	digest := idempotency.DigestOf(r.surface.path, r.body.Bytes())
	claim, answer, err := store.Begin(r.principal.KeyID, sent[0], digest, string(r.id))
	switch {
	case err != nil:
		return false, keyError(err)
	case answer != nil:
		r.answerAgain(answer)
		return true, nil
	}
	r.outlive(store, claim)
	return false, nil
}

// outlive parts the round from its client: it is recorded, and does not end when the client does.
func (r *round) outlive(store *idempotency.Store, claim *idempotency.Claim) {
	client := r.req.Context()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(client))
	k := &keyed{g: r.g, claim: claim, cancel: cancel}
	k.recorder = store.NewRecorder(r.w, k.goesOn)
	r.keyed, r.w, r.req = k, k.recorder, r.req.WithContext(ctx)
	k.stops[0] = context.AfterFunc(client, func() {
		if context.Cause(client) == ErrDrained {
			cancel(ErrDrained)
			return
		}
		k.goesOn()
	})
	k.stops[1] = context.AfterFunc(r.g.life, func() { cancel(ErrDrained) })
}

// goesOn notes that the client has gone, and reports whether the request goes on. Where it does not it is cancelled.
func (k *keyed) goesOn() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.left && !k.over {
		k.left = true
		if k.alone = k.g.alone.Add(1) <= aloneMax; !k.alone {
			k.g.alone.Add(-1)
			k.cancel(context.Canceled)
		}
	}
	return k.alone
}

// hasLeft reports whether the client has gone.
func (k *keyed) hasLeft() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.left
}

// finish lets go of what the request has, whatever became of it.
func (k *keyed) finish() {
	if k == nil {
		return
	}
	for _, stop := range k.stops {
		stop()
	}
	k.mu.Lock()
	if k.over = true; k.alone {
		k.g.alone.Add(-1)
	}
	k.mu.Unlock()
	k.recorder.Release()
	_ = k.claim.End(&idempotency.Answer{Lost: idempotency.Interrupted}) // where a panic kept the round from ending it
	k.cancel(nil)
}

// commitKey writes the key down, before the decision: from here on no other request is charged under it. For a client that
// has gone by now nothing is begun.
func (r *round) commitKey() error {
	k := r.keyed
	if k == nil {
		return nil
	}
	if k.hasLeft() {
		return openai.NewError(openai.ClientGone, "the client has gone")
	}
	if err := k.claim.Commit(); err != nil {
		r.g.complain("an idempotency key was not written", "round", r.id, "error", err)
		e := openai.NewError(openai.StoreUnavailable, "the idempotency key cannot be written; nothing was sent and nothing spent")
		e.RetryAfter = time.Second
		return e
	}
	return nil
}

// keepAnswer ends the claim with what the client got, or would have got.
func (r *round) keepAnswer() {
	k := r.keyed
	if k == nil {
		return
	}
	answer := k.recorder.Answer()
	switch o := &r.outcome; {
	case !r.recorded || o.Status != datasets.Completed && o.Cost == 0 && o.CostStatus == datasets.CostFinal:
		answer = nil // no vendor has billed it: a retry runs
	case o.Status == datasets.ClientGone || o.Status == datasets.Unknown:
		answer.Lost = idempotency.Interrupted
	}
	if err := k.claim.End(answer); err != nil {
		r.g.complain("an answer was not kept under its idempotency key", "round", r.id, "error", err)
	}
}

// answerAgain gives the client what the first request was answered. Its headers name the first decision.
func (r *round) answerAgain(a *idempotency.Answer) {
	r.head()
	h := r.w.Header()
	for name, values := range a.Header {
		h[name] = values
	}
	h.Set("X-Tradewind-Idempotent-Replay", "true")
	if a.Status >= http.StatusBadRequest { // it was charged, and every retry would be told the same
		h.Set("X-Should-Retry", "false")
	}
	r.wrote, r.status = true, a.Status
	r.w.WriteHeader(a.Status)
	if r.wire.Stream {
		newOutlet(r.w).send(a.Body)
		return
	}
	_, _ = r.w.Write(a.Body) // it will be there for the next retry too
}

// keyError is the wire's error of a key that cannot be taken.
func keyError(err error) error {
	var conflict *idempotency.ConflictError
	if !errors.As(err, &conflict) {
		e := openai.NewError(openai.Overloaded, "too many requests with idempotency keys are open")
		e.RetryAfter, e.Reason = time.Second, "overloaded_keys"
		return e
	}
	var e *openai.Error
	switch conflict.Reason {
	case idempotency.Mismatch:
		return openai.NewError(openai.IdempotencyMismatch, "another request was sent under this idempotency key")
	case idempotency.InProgress:
		e = openai.NewError(openai.InProgress, "the first request under this idempotency key is still running")
		e.RetryAfter = inProgressRetry
	default:
		e = openai.NewError(openai.AnswerNotKept, "the first request under this idempotency key may have been charged, and its answer cannot be given again; another key runs it anew")
		e.Reason = string(conflict.Reason)
	}
	e.Extra = map[string]any{"first_decision_id": conflict.Round}
	return e
}
