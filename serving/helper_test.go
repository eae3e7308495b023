package serving_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/aside"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// asideArg makes the test binary the child of package aside.
const asideArg = "aside"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == asideArg {
		if err := aside.Child(context.Background(), os.Stdin, os.Stdout, func() { os.Exit(1) }); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if upstream := os.Getenv(bareUpstream); upstream != "" {
		bareProxy(upstream)
		return
	}
	goleak.VerifyTestMain(m)
}

// bubble is synctest.Test for what reads Parquet: the decoders that are kept for the next reader belong to the bubble that
// they were made in, so none of them may be left behind.
func bubble(t *testing.T, test func(*testing.T)) {
	synctest.Test(t, test)
	runtime.GC()
	runtime.GC() // the first one only sets aside what is pooled
}

// threeArms are of one tier and stand at three providers. Without an artifact the cheapest is the fallback and serves;
// the guard holds the others back, and they stand in where it fails.
func threeArms() []catalog.Arm {
	arm := func(id catalog.ArmID, in, out catalog.Picodollars) catalog.Arm {
		return catalog.Arm{
			ID: id, Tier: catalog.TierLarge, ContextTokens: 8000, MaxOutputTokens: 1000, Capabilities: catalog.Tools,
			Prices: catalog.Prices{Known: true, Rates: catalog.Rates{Input: in, Output: out, CacheRead: in / 10, CacheWrite: in}},
		}
	}
	return []catalog.Arm{arm("one/cheap", 1_000_000, 2_000_000), arm("two/middle", 2_000_000, 4_000_000), arm("three/dear", 3_000_000, 9_000_000)}
}

const (
	keyA     = "sk-tw-aaaaaaaaaaaaaaaaaaaa"
	keyB     = "sk-tw-bbbbbbbbbbbbbbbbbbbb"
	keyMate  = "sk-tw-mmmmmmmmmmmmmmmmmmmm"
	question = `"messages":[{"role":"user","content":"What is 17 times 23?"}]`
)

// ask is a request for a model, with further members such as `,"stream":true`.
func ask(model, more string) string { return `{"model":"` + model + `",` + question + more + `}` }

// world is a gateway with everything real behind it except the vendors.
type world struct {
	testing.TB
	*serving.Gateway
	handler  http.Handler
	vendor   *vendor
	journal  *journal.Journal
	dir      string
	books    *ledger.Memory
	auth     *governance.Authenticator
	capacity *quota.Capacity
	metrics  *telemetry.Metrics
	log      *syncBuffer
	seen     []datasets.Round
}

// setup says what differs from threeArms, one scripted vendor and no keys.
type setup struct {
	arms      []catalog.Arm
	router    *serving.Router
	providers map[string]upstream.Provider
	pool      upstream.Options
	auth      governance.Options
	options   serving.Options
	ledger    ledger.Store
	journal   journal.Options
	// now is the clock of all parts, nil the real one.
	now func() time.Time
	// unaudited leaves out the last check, for tests that break the books on purpose.
	unaudited bool
	// panics says that requests are to.
	panics bool
}

func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	w := &world{TB: t, vendor: &vendor{}, log: &syncBuffer{}}
	if s.arms == nil {
		s.arms = threeArms()
	}
	if s.router == nil {
		s.router = must(serving.NewRouter(s.arms, nil))(t)
	}
	s.pool.Providers = s.providers
	if s.providers == nil {
		s.pool.Providers = map[string]upstream.Provider{}
		for _, a := range s.arms {
			s.pool.Providers[a.ID.Provider()] = w.vendor
		}
	}
	if s.now != nil {
		s.auth.Now, s.journal.Now, s.pool.Now, s.options.Now = s.now, s.now, s.now, s.now
	}
	w.auth = must(governance.New(s.auth))(t)
	w.books = must(ledger.NewMemory(ledger.Options{Now: s.now}))(t)
	w.dir = t.TempDir()
	w.journal = must(journal.Open(w.dir, s.journal))(t)
	w.metrics = telemetry.NewMetrics(nil)
	o := s.options
	o.Arms, o.Router, o.Auth, o.Books, o.Journal, o.Metrics = s.arms, s.router, w.auth, w.books, w.journal, w.metrics
	o.Pool, o.Quota = must(upstream.New(s.pool))(t), must(quota.New(quota.Options{Now: s.now}))(t)
	if o.Ledger = s.ledger; o.Ledger == nil {
		o.Ledger = w.books
	} else if f, ok := s.ledger.(*brokenLedger); ok {
		f.Store = w.books
	}
	if o.Capacity == nil {
		o.Capacity = must(quota.NewCapacity(quota.CapacityOptions{}))(t)
	}
	w.capacity = o.Capacity
	o.Log = slog.New(slog.NewTextHandler(w.log, nil))
	if o.Uniform == nil {
		o.Uniform = func() float64 { return 0.5 }
	}
	w.Gateway = must(serving.New(o))(t)
	w.handler = w.Handler()
	t.Cleanup(func() {
		if !s.unaudited {
			w.audit()
		}
		if _, what, found := strings.Cut(w.log.String(), "panic in a request"); found && !s.panics {
			t.Errorf("a request panicked: %.500s", what)
		}
		if err := w.journal.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// audit checks the books of a gateway that has come to rest: nothing is held or open, each round that a vendor heard of has one
// decision and one outcome, and what the ledger has booked is what the outcomes cost.
func (w *world) audit() {
	w.Helper()
	rounds := w.rounds()
	var spent, settled catalog.Nanodollars
	known := map[datasets.RoundID]bool{}
	for _, r := range rounds {
		if known[r.Decision.RoundID] {
			w.Errorf("round %s was journaled twice", r.Decision.RoundID)
		}
		known[r.Decision.RoundID] = true
		spent += r.Outcome.Cost
		if r.Outcome.Status == "" || r.Outcome.Status == datasets.Unknown || r.Outcome.CostStatus == "" {
			w.Errorf("round %s ended with status %q, cost status %q", r.Decision.RoundID, r.Outcome.Status, r.Outcome.CostStatus)
		}
		var parts catalog.Nanodollars
		for _, a := range r.Outcome.Attempts {
			parts += a.Cost
		}
		if parts != r.Outcome.Cost && r.Outcome.Error != string(openai.InternalError) {
			w.Errorf("round %s cost %s, its attempts %s", r.Decision.RoundID, r.Outcome.Cost, parts)
		}
	}
	for _, p := range w.auth.Principals() {
		b := must(w.books.Balance(context.Background(), ledger.Account("key", p.KeyID, ledger.Total)))(w)
		settled += b.Settled
		if b.Held != 0 {
			w.Errorf("key %s: %s USD are held at rest", p.KeyID, b.Held)
		}
	}
	for scope, n := range w.books.Open() {
		if n != 0 {
			w.Errorf("%d open holds of scope %s at rest", n, scope)
		}
	}
	for end := time.Now().Add(time.Minute); w.vendor.open.Load() != 0 && time.Now().Before(end); { // an outrun call ends beside its request
		time.Sleep(time.Millisecond)
	}
	if n := w.vendor.open.Load(); n != 0 {
		w.Errorf("%d of the vendor's answers are open at rest", n)
	}
	if requests, bytes := w.capacity.Open(); requests != 0 || bytes != 0 {
		w.Errorf("%d requests and %d bytes have a place at rest", requests, bytes)
	}
	if spent != settled {
		w.Errorf("outcomes cost %s USD, the ledger settled %s", spent, settled)
	}
}

// rounds seals the journal and returns all that it ever held.
func (w *world) rounds() []datasets.Round {
	w.Helper()
	if err := w.journal.Rotate(); err != nil {
		w.Fatal(err)
	}
	err := w.journal.Seal(context.Background(), func(_ context.Context, c journal.Closed) (bool, error) {
		b, err := c.Read()
		if b.Orphans+b.Damaged > 0 {
			w.Errorf("segment %s: %d orphans, %d damaged bytes", b.ID, b.Orphans, b.Damaged)
		}
		w.seen = append(w.seen, b.Rounds...)
		return false, err
	})
	if err != nil {
		w.Fatal(err)
	}
	return w.seen
}

// answer is what a client got.
type answer struct {
	testing.TB
	status int
	header http.Header
	body   string
}

// do sends a request; header holds names and values in turn.
func (w *world) do(method, path, body string, header ...string) *answer {
	w.Helper()
	return w.doReader(context.Background(), method, path, strings.NewReader(body), header...)
}

func (w *world) doReader(ctx context.Context, method, path string, body io.Reader, header ...string) *answer {
	w.Helper()
	req := httptest.NewRequestWithContext(ctx, method, path, body)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	return &answer{w, rec.Code, rec.Header(), rec.Body.String()}
}

func (w *world) chat(body string, header ...string) *answer {
	w.Helper()
	return w.do("POST", "/v1/chat/completions", body, header...)
}

func bearer(key string) []string { return []string{"Authorization", "Bearer " + key} }

// get finds a value in the body by a path such as "error.tradewind.reason"; nil where there is none.
func (a *answer) get(path string) any {
	a.Helper()
	return dig(a, a.body, path)
}

func dig(t testing.TB, text, path string) any {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v in %.300s", err, text)
	}
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	return v
}

// wantError checks status, code and the whole shape of an error.
func (a *answer) wantError(status int, code openai.Code) {
	a.Helper()
	if a.status != status || a.get("error.code") != string(code) {
		a.Errorf("got %d %.400s, want %d %s", a.status, a.body, status, code)
		return
	}
	if text, _ := a.get("error.message").(string); text == "" {
		a.Errorf("an error without a message: %s", a.body)
	}
	var shape struct {
		Error map[string]json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal([]byte(a.body), &shape); err != nil {
		a.Fatal(err)
	}
	for _, name := range []string{"message", "type", "param", "code", "tradewind"} {
		if shape.Error[name] == nil {
			a.Errorf("the error has no %s: %s", name, a.body)
		}
	}
	if got := a.get("error.tradewind.request_id"); got != a.header.Get("X-Request-Id") || got == "" {
		a.Errorf("request id %v in the body, %q in the header", got, a.header.Get("X-Request-Id"))
	}
	if a.get("error.tradewind.reason") == nil || a.header.Get("Content-Type") != "application/json" {
		a.Errorf("content type %q, body %s", a.header.Get("Content-Type"), a.body)
	}
}

func (a *answer) wantOK() *answer {
	a.Helper()
	if a.status != http.StatusOK {
		a.Fatalf("got %d %.400s, want 200", a.status, a.body)
	}
	return a
}

// events are the payloads of a stream.
func (a *answer) events() []string {
	a.Helper()
	var out []string
	for e := range strings.SplitSeq(strings.TrimSuffix(a.body, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(e, "data: ")
		if !ok {
			a.Fatalf("not an event: %q", e)
		}
		out = append(out, data)
	}
	return out
}

// text is what a stream said.
func (a *answer) text() string {
	a.Helper()
	var s strings.Builder
	for _, e := range a.events() {
		var c struct {
			Choices []struct {
				Delta struct{ Content string }
			}
		}
		if e != "[DONE]" && json.Unmarshal([]byte(e), &c) == nil && len(c.Choices) > 0 {
			s.WriteString(c.Choices[0].Delta.Content)
		}
	}
	return s.String()
}

func (a *answer) round() datasets.RoundID {
	return datasets.RoundID(a.header.Get("X-Tradewind-Decision-Id"))
}

// outcome is the journaled one of an answer, and its decision.
func (w *world) outcome(a *answer) (*datasets.Decision, *datasets.Outcome) {
	w.Helper()
	d, o, found := w.journal.Recent(a.round())
	if !found || o == nil {
		w.Fatalf("round %q: found %v, outcome %v", a.round(), found, o)
	}
	return d, o
}

// vendor plays a script. Without one it answers "391" and 7 tokens in, 3 out.
type vendor struct {
	mu     sync.Mutex
	script func(call int, r *upstream.Request) (*script, error)
	calls  []vendorCall
	// open counts answers that were not closed.
	open atomic.Int64
}

type vendorCall struct {
	arm  catalog.ArmID
	body string
}

// script is one answer: events, then an error (io.EOF where it is nil).
type script struct {
	events []string
	err    error
	// stallAt is the event before which the vendor falls silent until it is cancelled; 0 is never, 1 the first.
	stallAt int
	// panicAt is the event before which the vendor's code panics.
	panicAt   int
	cancelled chan struct{}
	// before is called before each event, counted from 1.
	before func(i int)

	ctx    context.Context
	next   int
	stream bool
	close  func() // nil where nobody counts what is open
}

func (v *vendor) Stream(ctx context.Context, r *upstream.Request) (upstream.Stream, error) {
	v.mu.Lock()
	n := len(v.calls) + 1
	v.calls = append(v.calls, vendorCall{arm: r.Arm.ID, body: string(r.Body)})
	f := v.script
	v.mu.Unlock()
	s := &script{}
	if f != nil {
		var err error
		if s, err = f(n, r); err != nil {
			return nil, err
		}
	}
	if s.events == nil && s.err == nil && s.stallAt == 0 && s.panicAt == 0 {
		switch {
		case r.Dialect == openai.Embeddings:
			s.events = []string{vectors}
		case r.Dialect == openai.Completions && r.Stream:
			s.events = []string{text("3"), text("91"), textFinish, textUsage, "[DONE]"}
		case r.Dialect == openai.Completions:
			s.events = []string{textWhole}
		case r.Stream:
			s.events = []string{delta("3"), delta("9"), delta("1"), finish, usageChunk, "[DONE]"}
		default:
			s.events = []string{whole("391", `{"prompt_tokens":7,"completion_tokens":3}`)}
		}
	}
	v.open.Add(1)
	s.ctx, s.stream, s.close = ctx, r.Stream, sync.OnceFunc(func() { v.open.Add(-1) })
	return s, nil
}

// Speaks and Lacks make it one of OpenAI's protocol.
func (v *vendor) Speaks(d openai.Dialect) bool {
	return d == openai.Chat || d == openai.Completions || d == openai.Embeddings
}

func (v *vendor) Lacks([]byte) string { return "" }

func (v *vendor) play(f func(call int, r *upstream.Request) (*script, error)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.script, v.calls = f, nil
}

func (v *vendor) called() []catalog.ArmID {
	v.mu.Lock()
	defer v.mu.Unlock()
	var arms []catalog.ArmID
	for _, c := range v.calls {
		arms = append(arms, c.arm)
	}
	return arms
}

func (s *script) Next() (upstream.Event, error) {
	s.next++
	if s.before != nil {
		s.before(s.next)
	}
	if s.next == s.panicAt {
		panic("the vendor's code has a bug")
	}
	if s.next == s.stallAt {
		<-s.ctx.Done()
		if s.cancelled != nil {
			close(s.cancelled)
		}
		return upstream.Event{}, s.ctx.Err()
	}
	if len(s.events) == 0 {
		if s.err != nil {
			return upstream.Event{}, s.err
		}
		return upstream.Event{}, io.EOF
	}
	data := []byte(s.events[0])
	s.events = s.events[1:]
	ev, err := openai.ParseChunk(data)
	if err != nil {
		return upstream.Event{}, &upstream.Error{Class: upstream.BadAnswer, Message: "rubbish", Err: err}
	}
	if !s.stream {
		ev.Kind |= openai.IsDone
	}
	return ev, nil
}

func (s *script) Close() error {
	if s.close != nil {
		s.close()
	}
	return nil
}

func whole(text, usage string) string {
	return `{"id":"answer-1","object":"chat.completion","model":"x","choices":[{"index":0,"message":{"role":"assistant","content":"` + text + `"},"finish_reason":"stop"}],"usage":` + usage + `}`
}

func delta(text string) string {
	return `{"id":"answer-1","object":"chat.completion.chunk","created":5,"model":"x","choices":[{"index":0,"delta":{"content":"` + text + `"},"finish_reason":null}]}`
}

const (
	finish     = `{"id":"answer-1","object":"chat.completion.chunk","created":5,"model":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	usageChunk = `{"id":"answer-1","object":"chat.completion.chunk","created":5,"model":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}`
)

func fails(class upstream.Class, status int) error {
	return &upstream.Error{Class: class, Status: status, Message: "scripted " + string(class)}
}

// syncBuffer is a log that tests may read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// brokenLedger fails or panics where it is told to.
type brokenLedger struct {
	ledger.Store
	hold   func() error
	settle func()
}

func (b *brokenLedger) Hold(ctx context.Context, id ledger.HoldID, chain []ledger.AccountID, n catalog.Nanodollars, at time.Time) error {
	if b.hold != nil {
		if err := b.hold(); err != nil {
			return err
		}
	}
	return b.Store.Hold(ctx, id, chain, n, at)
}

func (b *brokenLedger) Settle(ctx context.Context, id ledger.HoldID, n catalog.Nanodollars) error {
	if b.settle != nil {
		b.settle()
	}
	return b.Store.Settle(ctx, id, n)
}

var errScripted = errors.New("scripted")
