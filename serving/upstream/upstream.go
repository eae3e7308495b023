// Package upstream calls the vendors: the contract of one vendor's protocol, and the Pool that makes attempts until one
// of them answers.
//
// A Provider makes one attempt and nothing else. Whether another follows, and at which arm, is the Pool's decision, and
// it ends with the first content: after it no arm is ever switched. The package does not choose among arms (that is
// the policy's work; it gets them in order), holds no money, and writes no log.
package upstream

import (
	"context"
	"net/http"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

// Request is one call to one arm.
type Request struct {
	Arm *catalog.Arm
	// Body is the whole body, already spliced for this arm, in Dialect; empty is chat. The events that are wanted are of
	// the same dialect. Another one than chat is asked for only where the provider says that it speaks it.
	Body    []byte
	Dialect openai.Dialect
	Stream  bool
	// Header holds what may be handed on of the client's headers; the caller has made the selection.
	Header http.Header
}

// Event is one event of an answer: the payload of one server-sent event, or the whole body of an answer that is not
// streamed, whose Kind then has IsDone. Its Data is valid until the next call of Next.
type Event = openai.Chunk

// Provider speaks one vendor's protocol. It makes one attempt: retries, hedges and fallbacks belong to the Pool.
//
// Stream returns once the vendor has accepted the request, or an *Error; cancelling the context ends the call at any
// time and reaches the vendor. Implementations are safe for concurrent use.
type Provider interface {
	Stream(ctx context.Context, r *Request) (Stream, error)
}

// Linguist is what a Provider also is whose vendor has another dialect than chat, or others beside it.
type Linguist interface {
	// Speaks reports whether the vendor can be asked in d, and answers in it.
	Speaks(d openai.Dialect) bool
	// Lacks names what of a chat request cannot be said to the vendor, "" where all of it can.
	Lacks(chat []byte) string
}

// Stream is an answer as it arrives.
type Stream interface {
	// Next returns the next event. It returns io.EOF after a complete answer and only then: an answer that breaks off is
	// an *Error of class Cut, what is no answer one of class BadAnswer.
	Next() (Event, error)
	// Close ends the call and frees its connection. It may be called at any time, also twice.
	Close() error
}

// Buffered is what a Stream also is that knows whether its next event is here, so that Next does not wait for it.
type Buffered interface {
	Buffered() bool
}

// Headed is what a Stream also is that came with HTTP headers: vendors tell in them what is left of a key's rate limits.
type Headed interface {
	// Header is a header of the answer, "" where there is none.
	Header(name string) string
}
