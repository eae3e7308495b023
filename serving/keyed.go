package serving

import (
	"errors"
	"net/http"
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
	// inProgressRetry is what a retry is told to wait while the first request runs: nobody knows when it ends.
	inProgressRetry = time.Second
)

// keyed is what a round under an idempotency key has beside others.
type keyed struct {
	*parted
	claim    *idempotency.Claim
	recorder *idempotency.Recorder
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
		return true, r.answerAgain(answer)
	}
	r.outlive(store, claim)
	return false, nil
}

// outlive parts the round from its client: it is recorded, and does not end when the client does.
func (r *round) outlive(store *idempotency.Store, claim *idempotency.Claim) {
	k := &keyed{parted: r.g.part(r.req.Context(), 0), claim: claim}
	k.recorder = store.NewRecorder(r.w, k.goesOn)
	r.keyed, r.w, r.req = k, k.recorder, r.req.WithContext(k.ctx)
}

// finish lets go of what the request has, whatever became of it.
func (k *keyed) finish() {
	if k == nil {
		return
	}
	k.parted.finish()
	k.recorder.Release()
	_ = k.claim.End(&idempotency.Answer{Lost: idempotency.Interrupted}) // where a panic kept the round from ending it
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

// answerAgain gives the client what the first request was answered. Its headers name the first decision, and an error is one
// again, for those who count.
func (r *round) answerAgain(a *idempotency.Answer) (err error) {
	r.head()
	h := r.w.Header()
	for name, values := range a.Header {
		h[name] = values
	}
	h.Set("X-Tradewind-Idempotent-Replay", "true")
	if a.Status >= http.StatusBadRequest { // it was charged, and every retry would be told the same
		h.Set("X-Should-Retry", "false")
		if c := openai.Code(h.Get("X-Tradewind-Error")); c.Known() {
			err = openai.NewError(c, "the first request under this idempotency key was answered so")
		}
	}
	r.wrote, r.status = true, a.Status
	r.w.WriteHeader(a.Status)
	if r.wire.Stream {
		newOutlet(r.w).send(a.Body)
		return err
	}
	_, _ = r.w.Write(a.Body) // it will be there for the next retry too
	return err
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
