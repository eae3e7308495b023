package servingtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// mood is how a vendor fares for a spell.
type mood int

const (
	fine mood = iota
	slow
	// From here on nothing is answered.
	refuses
	failing
	limited
	unauthorized
	empty
	rubbish
	silent
	// The last breaks off after the first content, which nothing can hide from the client.
	cut
	moods
)

// spell is a mood up to an instant after the world began.
type spell struct {
	until time.Duration
	mood  mood
}

// forecast is the weather at one vendor until the day is over.
func (w *world) forecast(well bool) (out []spell) {
	switch {
	case w.kind == storm:
		return []spell{{day, refuses + mood(w.random.IntN(int(cut-refuses)))}}
	case w.kind == budget || w.kind == oneWell && well:
		return nil
	}
	worst := moods
	if w.kind == oneWell {
		worst = cut
	}
	for at := time.Duration(0); at < day; {
		at += time.Duration(1+w.random.IntN(15)) * time.Second
		m := fine
		if w.random.IntN(3) > 0 {
			m = slow + mood(w.random.IntN(int(worst-slow)))
		}
		out = append(out, spell{at, m})
	}
	return out
}

// mood is what a vendor's is now.
func (w *world) mood(id catalog.ArmID) mood {
	at := time.Since(w.began)
	for _, s := range w.weather[id] {
		if at < s.until {
			return s.mood
		}
	}
	return fine
}

// call is what a vendor knows of one call.
type call struct {
	nonce, number int
	arm           catalog.ArmID
	at            time.Time
	// gone is when it was cancelled, zero where it was not. all says that it said all that it had to say, and was asked for no more.
	gone time.Time
	all  bool
	// well says that it was taken, and that nothing but the gateway ends it early.
	well          bool
	input, output int64
}

// vendors plays all of them, and remembers who asked what.
type vendors struct {
	world *world

	mu    sync.Mutex
	calls []*call
}

// nonceMark stands before the number of the request in its text, and endMark behind it.
const nonceMark, endMark = "request number ", " of this world"

// outputTokens is what an answer has; requests ask for no more.
const outputTokens = 100

// Stream implements upstream.Provider: one call to one vendor.
func (v *vendors) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // the gateway is dead, or its client
	}
	_, after, _ := bytes.Cut(r.Body, []byte(nonceMark))
	text, _, _ := bytes.Cut(after, []byte(endMark))
	nonce, err := strconv.Atoi(string(text))
	if err != nil {
		panic(fmt.Sprintf("a vendor was asked what no client asks: %s", r.Body))
	}
	c := &call{nonce: nonce, arm: r.Arm.ID, at: time.Now(), input: int64(len(r.Body) / 8), output: outputTokens}
	v.mu.Lock()
	c.number = len(v.calls)
	v.calls = append(v.calls, c)
	dies := len(v.calls) == v.world.dieAt
	v.mu.Unlock()
	if dies {
		v.world.dying.Go(v.world.die)
		time.Sleep(time.Microsecond) // dead before it answers
	}
	context.AfterFunc(ctx, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		c.gone = time.Now()
	})
	return v.answer(ctx, c, r.Stream)
}

// answer is how the vendor's mood lets it answer.
func (v *vendors) answer(ctx context.Context, c *call, streams bool) (upstream.Stream, error) {
	random := rand.New(rand.NewPCG(v.world.seed, uint64(1000+c.nonce)))
	s := &stream{vendors: v, call: c, ctx: ctx, pause: time.Duration(random.IntN(300)) * time.Millisecond, left: 1 + random.IntN(5), stream: streams}
	m := v.world.mood(c.arm)
	switch m {
	case fine:
		c.well = true
	case slow:
		c.well = true
		s.pause *= 10
	case refuses:
		return nil, &upstream.Error{Class: upstream.Connect, Message: "connection refused"}
	case failing:
		if err := wait(ctx, s.pause); err != nil {
			return nil, err
		}
		return nil, &upstream.Error{Class: upstream.Server, Status: 500, Message: "internal error"}
	case limited:
		return nil, &upstream.Error{Class: upstream.RateLimited, Status: 429, Message: "slow down", RetryAfter: time.Second}
	case unauthorized:
		return nil, &upstream.Error{Class: upstream.Auth, Status: 401, Message: "who are you"}
	default:
		s.mood = m
	}
	return s, nil
}

// wait sleeps, unless the call ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stream is an answer. Each piece of it says which call it is of, and the how manyth.
type stream struct {
	vendors *vendors
	call    *call
	ctx     context.Context
	mood    mood
	pause   time.Duration
	stream  bool
	left    int
	said    int
	ending  int
	ended   bool
}

func (s *stream) Next() (upstream.Event, error) {
	if s.ended { // as of a provider's: who has said that this is all is not waited for
		return upstream.Event{}, io.EOF
	}
	pause := s.pause
	if s.mood == silent {
		pause = time.Hour
	}
	if err := wait(s.ctx, pause); err != nil {
		return upstream.Event{}, err
	}
	text, err := s.next()
	if err != nil {
		return upstream.Event{}, err
	}
	e, err := openai.ParseChunk([]byte(text))
	if err != nil {
		return upstream.Event{}, &upstream.Error{Class: upstream.BadAnswer, Message: "rubbish", Err: err}
	}
	if !s.stream {
		e.Kind |= openai.IsDone
	}
	return e, nil
}

// next is what comes next on the wire.
func (s *stream) next() (string, error) {
	const head = `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[`
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d}}`, s.call.input, s.call.output)
	switch {
	case s.mood == rubbish:
		return "<html>busy</html>", nil
	case s.mood == empty:
		return "", &upstream.Error{Class: upstream.BadAnswer, Message: "an empty answer"}
	case s.mood == cut && s.said > 0:
		return "", &upstream.Error{Class: upstream.Cut, Message: "it broke off"}
	case !s.stream:
		s.said = 1
		s.all()
		return `{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"` + s.piece(0) +
			`"},"finish_reason":"stop"}],` + usage, nil
	case s.left > 0:
		s.left--
		s.said++
		return head + `{"index":0,"delta":{"content":"` + s.piece(s.said-1) + `"},"finish_reason":null}]}`, nil
	}
	s.ending++
	switch s.ending {
	case 1:
		return head + `{"index":0,"delta":{},"finish_reason":"stop"}]}`, nil
	case 2:
		return head + `],` + usage, nil
	}
	s.all()
	return "[DONE]", nil
}

func (s *stream) piece(i int) string { return fmt.Sprintf("%d:%d;", s.call.number, i) }

// all notes that the vendor has said everything.
func (s *stream) all() {
	s.vendors.mu.Lock()
	defer s.vendors.mu.Unlock()
	s.call.all, s.ended = true, true
}

// Close implements upstream.Stream. The call ends with its context.
func (s *stream) Close() error { return nil }
