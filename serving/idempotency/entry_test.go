package idempotency

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets/disk/disktest"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
)

// FuzzEntry: no bytes make the parser panic or give more than is allowed, and what it takes it writes and reads again alike.
func FuzzEntry(f *testing.F) {
	r := &record{name: DigestOf("a", []byte("k")), digest: DigestOf("/p", []byte("b")), owner: &owner{id: "a"}, round: "rnd_1", at: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
	f.Add(entryOf(r, nil).append(nil))
	f.Add(entryOf(r, &Answer{Lost: TooLarge}).append(nil))
	s := &Store{}
	whole := entryOf(r, &Answer{Status: 200, Header: http.Header{"Content-Type": {"x"}}})
	whole.deflated = s.deflate([]byte(strings.Repeat("hello ", 99)))
	f.Add(whole.append(nil))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		const most = 1000
		e, err := parse(payload)
		if err != nil {
			return
		}
		a, err := answerIn(payload, most)
		if err != nil {
			return
		}
		if len(a.Body) > most {
			t.Fatalf("a body of %d bytes, at most %d", len(a.Body), most)
		}
		e.deflated = s.deflate(a.Body)
		again := e.append(nil)
		e2, err := parse(again)
		if err != nil {
			t.Fatalf("%v in %q, which was written of %q", err, again, payload)
		}
		a2, err := answerIn(again, most)
		if err != nil || !bytes.Equal(a.Body, a2.Body) || a.Status != a2.Status || !maps.EqualFunc(a.Header, a2.Header, slices.Equal) {
			t.Fatalf("%+v became %+v, %v", a, a2, err)
		}
		e.deflated, e2.deflated, e.Header, e2.Header = nil, nil, nil, nil
		if !e.At.Equal(e2.At) {
			t.Fatalf("%v became %v", e.At, e2.At)
		}
		e.At = e2.At
		if !reflect.DeepEqual(e, e2) {
			t.Fatalf("%+v became %+v", e, e2)
		}
	})
}

// FuzzOpen: whatever stands in the folder, a store opens, and what it then takes it keeps.
func FuzzOpen(f *testing.F) {
	r := &record{name: DigestOf("a", []byte("k")), owner: &owner{id: "a"}, round: "rnd_1", at: time.Now()}
	file := []byte(magic)
	for i, a := range []*Answer{nil, said("hello"), {Lost: TooLarge}, nil} {
		payload := entryOf(r, a).append(nil)
		file = frame.Append(file, []frame.Kind{kindBegun, kindAnswered, kindLost, kindForgotten}[i], uint64(i+1), payload, frame.Sum(payload))
		f.Add(slices.Clone(file))
	}
	f.Add([]byte("TWIDEM"))
	f.Fuzz(func(t *testing.T, file []byte) {
		b := &bench{T: t, disk: disktest.New(), now: time.Now(), o: Options{SegmentMaxBytes: 500}}
		p := b.disk.Process()
		if err := p.MkdirAll("/data/keys", 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := p.OpenFile("/data/keys/00000000000000000001.answers", 0x42, 0o600) // O_RDWR|O_CREATE
		if err != nil {
			t.Fatal(err)
		}
		_, _ = out.Write(file)
		_ = out.Close()
		b.start()
		defer func() { _ = b.Store.Close() }()
		b.end("new owner", "new key", "x", "hello")
		b.again()
		b.want("new owner", "new key", "x", "hello")
	})
}

// Every cut of a file at any byte leaves a store that opens, in which a key that was answered is never free.
func TestCutAnywhere(t *testing.T) {
	b := newBench(t, Options{})
	b.end("a", "k", "x", "hello")
	on := b.names[nameOf("a", "k")].on
	file := make([]byte, on.off+int64(on.n))
	if _, err := on.seg.f.ReadAt(file, 0); err != nil {
		t.Fatal(err)
	}
	begun, _ := frame.Parse(file[len(magic):])
	end := len(magic) + begun.End()
	for cut := range file {
		c := newBench(t, Options{})
		out, err := c.process.OpenFile("/data/keys/00000000000000000001.answers", 0x42, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = out.Write(file[:cut])
		_ = out.Close()
		c.again()
		c.want("a", "k", "x", map[bool]string{true: "answer_interrupted"}[cut >= end])
	}
}

// TestPowerLoss: with Sync a key whose Commit has returned outlives the power, and so does one that was taken back, or the
// other way round where nobody was told.
func TestPowerLoss(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t, Options{Sync: true, SegmentMaxBytes: 700})
		committed := map[string]bool{}
		for i := range 30 {
			key := string(rune('a' + i))
			c := b.begin("o", key, "x")
			if i == 20 {
				b.process.DieAt(1 + random.IntN(40))
			}
			if c.Commit() != nil {
				break
			}
			switch random.IntN(3) {
			case 0:
				_ = c.End(nil)
			case 1:
				committed[key] = true
				_ = c.End(said("answer " + key))
			default:
				committed[key] = true
			}
		}
		b.process.Kill()
		_ = b.Store.Close()
		b.disk.PowerLoss(random, []float64{0, 0.5, 1}[random.IntN(3)])
		b.start()
		for key := range committed {
			c, _, err := b.Begin("o", key, DigestOf("/path", []byte("x")), "")
			if c != nil || err != nil && !strings.Contains(err.Error(), string(Interrupted)) {
				t.Errorf("seed %d: %s was charged, and after the power it is %v, %v", seed, key, c, err)
			}
		}
		_ = b.Store.Close()
	}
}
