package idempotency

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk/disktest"
)

// bench is a store on a disk in memory, with a clock that is set by hand.
type bench struct {
	*testing.T
	*Store
	o       Options
	disk    *disktest.Disk
	process *disktest.Process
	now     time.Time
}

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{T: t, o: o, disk: disktest.New(), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	b.start()
	t.Cleanup(func() { _ = b.Store.Close() })
	return b
}

func (b *bench) start() {
	b.Helper()
	b.process = b.disk.Process()
	b.o.FS, b.o.Now = b.process, func() time.Time { return b.now }
	var err error
	if b.Store, err = Open("/data/keys", b.o); err != nil {
		b.Fatal(err)
	}
}

// again is a kill and the next process.
func (b *bench) again() {
	b.Helper()
	b.process.Kill()
	_ = b.Store.Close() // ends its timers; the disk refuses it everything
	b.start()
}

func (b *bench) begin(owner, key, body string) *Claim {
	b.Helper()
	c, a, err := b.Begin(owner, key, DigestOf("/path", []byte(body)), "rnd_"+key)
	if c == nil || a != nil || err != nil {
		b.Fatalf("%s of %s: claim %v, answer %v, error %v; want a claim", key, owner, c, a, err)
	}
	return c
}

// end answers a request from its beginning.
func (b *bench) end(owner, key, body, answer string) {
	b.Helper()
	c := b.begin(owner, key, body)
	if err := errors.Join(c.Commit(), c.End(said(answer))); err != nil {
		b.Fatal(err)
	}
}

func said(text string) *Answer {
	return &Answer{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(text)}
}

// want is what a request under a key is told: the text of an answer, or a reason; "" is that it runs.
func (b *bench) want(owner, key, body, want string) {
	b.Helper()
	c, a, err := b.Begin(owner, key, DigestOf("/path", []byte(body)), "rnd_other")
	got := ""
	var conflict *ConflictError
	switch {
	case errors.As(err, &conflict):
		if got = string(conflict.Reason); conflict.Round != "rnd_"+key {
			b.Errorf("%s of %s: the first round is %s", key, owner, conflict.Round)
		}
	case err != nil:
		b.Fatal(err)
	case a != nil:
		got = string(a.Body)
	default:
		_ = c.End(nil)
	}
	if got != want {
		b.Errorf("%s of %s: %.40q, want %.40q", key, owner, got, want)
	}
}

func TestStates(t *testing.T) {
	b := newBench(t, Options{})
	running := b.begin("a", "one", "x")
	b.want("a", "one", "x", "in_progress")
	b.want("a", "one", "y", "idempotency_mismatch")
	b.want("b", "one", "y", "") // another's key is another key
	if err := running.Commit(); err != nil {
		t.Fatal(err)
	}
	b.want("a", "one", "x", "in_progress")
	if err := running.End(said("hello")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.want("a", "one", "x", "hello")
		b.want("a", "one", "y", "idempotency_mismatch")
		b.again()
	}
	free := b.begin("a", "free", "x")
	if err := errors.Join(free.Commit(), free.End(nil)); err != nil { // refused after all, at no cost
		t.Fatal(err)
	}
	b.want("a", "free", "y", "")
	lost := b.begin("a", "lost", "x")
	if err := errors.Join(lost.Commit(), lost.End(&Answer{Lost: TooLarge})); err != nil {
		t.Fatal(err)
	}
	b.want("a", "lost", "x", "answer_too_large")
	cut := b.begin("a", "cut", "x")
	if err := cut.Commit(); err != nil {
		t.Fatal(err)
	}
	early := b.begin("a", "early", "x") // dies before it is dispatched
	b.again()
	_ = early
	b.want("a", "free", "y", "")
	b.want("a", "lost", "x", "answer_too_large")
	b.want("a", "cut", "x", "answer_interrupted")
	b.want("a", "cut", "y", "idempotency_mismatch")
	b.want("a", "early", "x", "")
}

func TestAnswersComeBackWhole(t *testing.T) {
	b := newBench(t, Options{})
	want := said(strings.Repeat("data: {\"a\":1}\n\n", 10_000))
	want.Header["X-Tradewind-Model"], want.Status = []string{"lab/small"}, 502
	c := b.begin("a", "k", "x")
	if err := errors.Join(c.Commit(), c.End(want)); err != nil {
		t.Fatal(err)
	}
	if b.bytes > 4000 {
		t.Errorf("%d repeated bytes take %d on the disk", len(want.Body), b.bytes)
	}
	b.again()
	_, got, err := b.Begin("a", "k", DigestOf("/path", []byte("x")), "")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A key is kept for AgeMax from its first request, to the instant, and the disk forgets it too.
func TestAge(t *testing.T) {
	b := newBench(t, Options{})
	b.end("a", "k", "x", "hello")
	b.now = b.now.Add(24*time.Hour - 1)
	b.want("a", "k", "x", "hello")
	b.again()
	b.want("a", "k", "x", "hello")
	b.now = b.now.Add(1)
	b.want("a", "k", "y", "")
	b.again()
	b.want("a", "k", "y", "")
	b.end("a", "k", "z", "again")
	b.now = b.now.Add(25 * time.Hour)
	b.sweep()
	b.end("b", "k2", "z", "other") // written to the file that the sweep began
	b.sweep()
	if len(b.segments) != 1 || len(b.owners) != 1 || b.bytes != b.live || b.bytes == 0 {
		t.Errorf("%d files, %d owners, %d bytes, %d live: what has expired is still there", len(b.segments), len(b.owners), b.bytes, b.live)
	}
}

// A claim whose end never came, as when its request panicked at the end, does not run for ever.
// TestLateEnd: a request that ends when its key is another's, because the clock has leapt ahead, changes nothing of it.
func TestLateEnd(t *testing.T) {
	for name, end := range map[string]*Answer{"forgotten": nil, "answered": said("hello"), "lost": {Lost: TooLarge}} {
		b := newBench(t, Options{})
		late, _, err := b.Begin("a", name, DigestOf("/path", nil), "rnd_late")
		if err = errors.Join(err, late.Commit()); err != nil {
			t.Fatal(err)
		}
		b.now = b.now.Add(25 * time.Hour)
		next := b.begin("a", name, "y")
		if err := errors.Join(next.Commit(), late.End(end)); err != nil {
			t.Fatal(err)
		}
		b.want("a", name, "y", "in_progress")
		b.again()
		b.want("a", name, "y", "answer_interrupted")
	}
}

func TestRunMax(t *testing.T) {
	b := newBench(t, Options{RunMax: time.Minute})
	b.begin("a", "k", "x")
	b.now = b.now.Add(time.Minute)
	b.want("a", "k", "x", "in_progress")
	b.now = b.now.Add(1)
	b.want("a", "k", "x", "answer_interrupted")
}

// At KeysMax whoever has most loses the oldest; others lose nothing.
func TestKeysMax(t *testing.T) {
	b := newBench(t, Options{KeysMax: 5})
	b.end("quiet", "q", "x", "quiet")
	for i := range 4 {
		b.end("loud", fmt.Sprint(i), "x", "answer")
	}
	b.want("loud", "0", "x", "answer")
	b.end("loud", "4", "x", "answer")
	b.want("loud", "1", "x", "answer")
	b.again()
	b.want("quiet", "q", "x", "quiet")
	if len(b.names) != 5 {
		t.Errorf("%d keys, want 5", len(b.names))
	}
	full := newBench(t, Options{KeysMax: 2})
	one := full.begin("a", "1", "x")
	full.begin("b", "2", "x")
	if _, _, err := full.Begin("c", "3", Digest{}, ""); !errors.Is(err, ErrFull) {
		t.Errorf("all keys are under way, and one more gives %v", err)
	}
	_ = one.End(nil)
	full.begin("c", "3", "x")
}

// At BytesMax whoever has most bytes loses the oldest answer and no key.
func TestBytesMax(t *testing.T) {
	b := newBench(t, Options{BytesMax: 2000})
	b.end("quiet", "q", "x", "quiet")
	for i := range 20 {
		b.end("loud", fmt.Sprint(i), "x", "answer "+fmt.Sprint(i))
		if b.bytes > 2000 {
			t.Fatalf("%d bytes of answers, at most 2000", b.bytes)
		}
	}
	b.want("quiet", "q", "x", "quiet")
	for range 2 {
		b.want("loud", "0", "x", "answer_dropped")
		b.want("loud", "0", "y", "idempotency_mismatch")
		b.want("loud", "19", "x", "answer 19")
		b.again()
	}
	noise := make([]byte, 3000) // does not shrink
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	b.end("loud", "huge", "x", string(noise))
	b.want("loud", "huge", "x", "answer_too_large")
	b.want("loud", "19", "x", "answer 19")
}

// The folder stays within twice what stands and two files, whatever comes and goes, and loses nothing on the way.
func TestClean(t *testing.T) {
	b := newBench(t, Options{SegmentMaxBytes: 2000, KeysMax: 30})
	keep := b.begin("keep", "keep", "x")
	_ = keep.Commit()
	b.end("keep", "answered", "x", "kept")
	for i := range 2000 {
		key := fmt.Sprint(i)
		switch c := b.begin("a", key, "x"); i % 3 {
		case 0:
			_ = errors.Join(c.Commit(), c.End(nil))
			b.want("a", key, "y", "")
		default:
			_ = errors.Join(c.Commit(), c.End(said("answer "+key)))
		}
		if limit := 2*b.live + 3*2000 + 1000; b.size > limit {
			t.Fatalf("after %d requests the files have %d bytes, live are %d", i, b.size, b.live)
		}
		if i%400 == 399 {
			b.again()
			b.want("keep", "keep", "x", "answer_interrupted")
			b.want("keep", "answered", "x", "kept")
			b.want("a", key, "x", map[bool]string{true: "answer " + key}[i%3 != 0])
		}
	}
	for first, g := 0, b.segments; first < len(g); first++ {
		if g[first].live < 0 {
			t.Errorf("a file has %d live bytes", g[first].live)
		}
	}
}

// What the disk has lost is still known as charged.
func TestDamage(t *testing.T) {
	b := newBench(t, Options{SegmentMaxBytes: 1000})
	b.end("a", "k", "x", "hello")
	f, err := b.process.OpenFile(b.segments[0].path, 1, 0) // O_WRONLY
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(b.names[nameOf("a", "k")].on.off+30, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	b.want("a", "k", "x", "answer_damaged")
	for i := range 50 { // until that file is cleaned
		c := b.begin("a", fmt.Sprint(i), "x")
		_ = errors.Join(c.Commit(), c.End(nil))
	}
	b.want("a", "k", "x", "answer_damaged")
	if b.segments[0].first == 1 {
		t.Error("the damaged file was not cleaned")
	}
	b.again()
	b.want("a", "k", "x", "answer_damaged")
}

// A disk that refuses a key refuses the request; one that refuses the answer costs the answer and nothing else.
func TestDiskRefuses(t *testing.T) {
	b := newBench(t, Options{})
	c := b.begin("a", "k", "x")
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	b.process.Kill()
	if err := c.End(said("hello")); err == nil {
		t.Error("a dead disk took an answer")
	}
	b.want("a", "k", "x", "answer_unwritten")
	d := b.begin("a", "other", "x")
	if d.Commit() == nil {
		t.Error("a dead disk took a key")
	}
	if d.End(nil) == nil {
		t.Error("a dead disk took a key back")
	}
	b.want("a", "other", "x", "")
	b.again()
	b.want("a", "k", "x", "answer_interrupted")
}

func TestRecorder(t *testing.T) {
	b := newBench(t, Options{AnswerMax: 10, OpenBytesMax: 15})
	stays := func() bool { return true }
	client := httptest.NewRecorder()
	client.Header().Set("X-Tradewind-Model", "m")
	client.Header().Set("X-Request-Id", "mine")
	r := b.NewRecorder(client, stays)
	for _, s := range []string{"01234", "56789"} {
		if n, err := r.Write([]byte(s)); n != 5 || err != nil {
			t.Fatal(n, err)
		}
	}
	a := r.Answer()
	if string(a.Body) != "0123456789" || a.Status != 200 || a.Lost != "" || !reflect.DeepEqual(a.Header, http.Header{"X-Tradewind-Model": {"m"}}) {
		t.Errorf("recorded %+v", a)
	}
	other := b.NewRecorder(httptest.NewRecorder(), stays)
	_, _ = other.Write([]byte("012345")) // ten and six are more than is kept at once
	if other.Answer().Lost != TooLarge || len(other.Answer().Body) != 0 {
		t.Errorf("beyond OpenBytesMax: %+v", other.Answer())
	}
	_, _ = r.Write([]byte("x"))
	if r.Answer().Lost != TooLarge || client.Body.String() != "0123456789x" {
		t.Errorf("beyond AnswerMax: %+v, the client has %q", r.Answer(), client.Body)
	}
	if n := b.recording.Load(); n != 0 {
		t.Errorf("%d bytes are still reserved", n)
	}
	gone := b.NewRecorder(deaf{}, stays)
	if n, err := gone.Write([]byte("abc")); n != 3 || err != nil || gone.FlushError() != nil || string(gone.Answer().Body) != "abc" {
		t.Errorf("without the client: %d %v %+v", n, err, gone.Answer())
	}
	gone.Release()
	ends := b.NewRecorder(deaf{}, func() bool { return false })
	if _, err := ends.Write([]byte("abc")); err == nil {
		t.Error("a request that does not go on wrote to nobody")
	}
}

// deaf is a client that has gone.
type deaf struct{}

func (deaf) Header() http.Header       { return http.Header{} }
func (deaf) WriteHeader(int)           {}
func (deaf) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestValidKey(t *testing.T) {
	for key, want := range map[string]bool{
		"": false, "a": true, "!~": true, "a b": false, "a\tb": false, "é": false, "\x7f": false,
		strings.Repeat("k", KeyMax): true, strings.Repeat("k", KeyMax+1): false,
	} {
		if got := ValidKey(key); got != want {
			t.Errorf("%.20q: %v, want %v", key, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	if _, err := Open("/x", Options{KeysMax: -1}); err == nil {
		t.Error("a negative limit was taken")
	}
}
