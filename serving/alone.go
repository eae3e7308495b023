package serving

import (
	"context"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file is how a request outlives its client. One under an idempotency key does so as a whole, for its client will ask
// again. Of any other it is the call at a provider that bills to the end whoever listens: only the end tells what it costs.

const (
	// aloneMax bounds the requests that go on without their clients. Beyond it a client that leaves ends its request, key or
	// not.
	aloneMax = 64
	// readOnMax is how long an answer is read on for its bill alone.
	readOnMax = time.Minute
)

// parted is a context that does not end when its client does.
type parted struct {
	ctx    context.Context
	g      *Gateway
	cancel context.CancelCauseFunc
	stop   func() bool // watching the client
	// most is how long it goes on without its client; 0 is for as long as the request may take.
	most time.Duration

	mu sync.Mutex
	// limit is for how long it goes on without its client, closing is the end of a shutdown.
	limit   *time.Timer
	closing func() bool
	// left says that the client has gone, alone that the request goes on without it, over that it has ended.
	left, alone, over bool
}

// part parts what is done for a client from the client.
func (g *Gateway) part(client context.Context, most time.Duration) *parted {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(client))
	p := &parted{ctx: ctx, g: g, cancel: cancel, most: most}
	p.stop = context.AfterFunc(client, func() {
		if context.Cause(client) == ErrDrained {
			cancel(ErrDrained)
			return
		}
		p.goesOn()
	})
	return p
}

// goesOn notes that the client has gone, and reports whether the request goes on. Where it does not it is cancelled.
func (p *parted) goesOn() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.left && !p.over {
		p.left = true
		if p.alone = p.g.alone.Add(1) <= aloneMax; !p.alone {
			p.g.alone.Add(-1)
			p.cancel(context.Canceled)
			return false
		}
		p.closing = context.AfterFunc(p.g.life, func() { p.cancel(ErrDrained) })
		if p.most > 0 {
			p.limit = time.AfterFunc(p.most, func() { p.cancel(context.Canceled) })
		}
	}
	return p.alone
}

// hasLeft reports whether the client has gone.
func (p *parted) hasLeft() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left
}

// finish lets go of what it has, whatever became of the request.
func (p *parted) finish() {
	if p == nil {
		return
	}
	p.stop()
	p.mu.Lock()
	if p.over = true; p.alone {
		p.g.alone.Add(-1)
		p.closing()
		if p.limit != nil {
			p.limit.Stop()
		}
	}
	p.mu.Unlock()
	p.cancel(nil)
}

// beyond is the context of a call at an arm whose answers are read on without the client, nil for one that ends with it. For
// a client that has gone by now none is begun.
func (r *round) beyond(arm *catalog.Arm) context.Context {
	if !r.live.ReadOn[arm.ID.Provider()] || r.req.Context().Err() != nil {
		return nil
	}
	if r.parted == nil {
		r.parted = r.g.part(r.req.Context(), readOnMax)
	}
	return r.parted.ctx
}

// alone is what lets an answer be read on without the client, nil where it ends with it.
func (r *round) alone(a *upstream.Answer) *parted {
	if !r.live.ReadOn[a.Served().ID.Provider()] {
		return nil
	}
	return r.parted
}

// forNobody reports whether an answer that has come to its end was read on for its bill alone.
func (r *round) forNobody(a *upstream.Answer) bool { return r.alone(a) != nil && r.gone() }

// chargeAlone ends a round whose answer was read to its end after the client had gone. It costs what the vendor says, and
// tells as little of quality as one that was cut.
func (r *round) chargeAlone(a *upstream.Answer, u openai.Usage, seen int) error {
	r.charge(a, u, seen)
	r.outcome.Status = datasets.ClientGone
	return openai.NewError(openai.ClientGone, "the client has gone")
}
