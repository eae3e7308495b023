package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

var begin = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func turns(texts ...string) []features.Turn {
	var all []features.Turn
	for i, text := range texts {
		all = append(all, features.Turn{Role: []features.Role{features.System, features.User, features.Assistant}[min(i, 1)+max(0, i-1)%2], Text: text})
	}
	return all
}

func id(n int) ID { return Named("key", fmt.Sprint(n)) }

// TestNames: what names a conversation, and what does not.
func TestNames(t *testing.T) {
	begun := func(key, shared string, texts ...string) ID {
		id, _ := Begun(nil, key, shared, turns(texts...))
		return id
	}
	long := strings.Repeat("x", 3*beginMax)
	same := begun("k", "", "system", "question")
	for name, other := range map[string]ID{
		"another key":           begun("l", "", "system", "question"),
		"another system prompt": begun("k", "", "System", "question"),
		"another question":      begun("k", "", "system", "question?"),
		"a cache key":           begun("k", "c", "system", "question"),
		"a name":                Named("k", "system"),
		"another boundary":      begun("k", "", "systemq", "uestion"),
		"a narrower scope":      same.Within("group"),
	} {
		if other == same {
			t.Errorf("%s: the same id", name)
		}
	}
	if begun("k", "", "system", "question", "answer", "more") != same || same.Within("") != same {
		t.Error("the conversation goes on under another id")
	}
	if begun("k", "", long, "question") == begun("k", "", long+"x", "question") || begun("k", "", long+"a", "q") == begun("k", "", long+"b", "q") {
		t.Error("two long prompts have one id")
	}
	if Named("k", "a") == Named("l", "a") || Named("ka", "b") == Named("k", "ab") {
		t.Error("two keys share a session")
	}
}

// TestContinues: only what goes on where the last request ended continues it.
func TestContinues(t *testing.T) {
	table, err := NewTable(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if table.Continues(&s, turns("s", "q", "a")) {
		t.Error("a session that had no request is continued")
	}
	table.Mark(&s, turns("s", "q"))
	for _, tt := range []struct {
		name  string
		turns []features.Turn
		want  bool
	}{
		{"the answer and a further question", turns("s", "q", "a", "more"), true},
		{"the same again", turns("s", "q"), false},
		{"another question", turns("s", "r", "a", "more"), false},
		{"fewer", turns("s"), false},
		{"another role says it", []features.Turn{{Role: features.System, Text: "s"}, {Role: features.Tool, Text: "q"}, {Text: "a"}}, false},
	} {
		if got := table.Continues(&s, tt.turns); got != tt.want {
			t.Errorf("%s: continues %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestExpiry: a session lives as long after its last use as is configured, and not longer for being looked at.
func TestExpiry(t *testing.T) {
	table, err := NewTable(Options{Idle: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	table.Open(id(1), State{Arm: "p/a", Draw: "r1", Used: begin, Cached: 7})
	for _, tt := range []struct {
		after time.Duration
		want  bool
	}{{59 * time.Second, true}, {time.Minute, true}, {time.Minute + 1, false}, {0, false}} {
		if _, got := table.Get(id(1), begin.Add(tt.after)); got != tt.want {
			t.Errorf("after %v: %v, want %v", tt.after, got, tt.want)
		}
	}
	s := State{Cached: 9, Used: begin}
	if s.CachedAt(begin.Add(Warm)) != 9 || s.CachedAt(begin.Add(Warm+1)) != 0 {
		t.Error("the cache is not warm for as long as vendors keep it")
	}
	for _, o := range []Options{{Idle: -1}, {Max: -1}} {
		if _, err := NewTable(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// TestOneRequestConversationsMakeRoom: a flood of conversations of one request does not drive out one that goes on.
func TestOneRequestConversationsMakeRoom(t *testing.T) {
	const most = 2 * shards
	table, err := NewTable(Options{Max: most})
	if err != nil {
		t.Fatal(err)
	}
	open := func(n int) { table.Open(id(n), State{Draw: datasets.RoundID(fmt.Sprint(n)), Used: begin}) }
	open(0)
	table.Follow(id(0), State{Draw: "0", Arm: "p/a", Used: begin}, true)
	for n := 1; n < 100*most; n++ {
		open(n)
	}
	if n := table.Len(); n != most {
		t.Errorf("%d sessions, want %d", n, most)
	}
	if s, ok := table.Get(id(0), begin); !ok || s.Arm != "p/a" {
		t.Errorf("the session that went on is %+v, %v", s, ok)
	}
	for n := range 100 * most {
		table.Follow(id(n), State{Draw: "x", Used: begin}, true)
	}
	if n := table.Len(); n != most {
		t.Errorf("%d sessions that went on, want %d", n, most)
	}
}

// TestTable against a map without limits: what is there is what was written last by whom it belongs to.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, err := NewTable(Options{Idle: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]State{}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			n, draw := rapid.IntRange(0, 3).Draw(t, "id"), datasets.RoundID(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "draw"))
			s := State{Draw: draw, Cached: step, Used: begin}
			known, found := want[n]
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				table.Open(id(n), s)
				want[n] = s
			case 1:
				table.Follow(id(n), s, rapid.Bool().Draw(t, "followed"))
				if !found || known.Draw == draw {
					want[n] = s
				}
			case 2:
				table.Close(id(n), draw)
				if known.Draw == draw {
					delete(want, n)
				}
			}
			for k := range 4 {
				got, ok := table.Get(id(k), begin)
				if w, found := want[k]; ok != found || got != w {
					t.Fatalf("session %d is %+v, %v; want %+v, %v", k, got, ok, w, found)
				}
			}
		}
		if table.Len() != len(want) {
			t.Fatalf("%d sessions, want %d", table.Len(), len(want))
		}
	})
}

// TestCached: one that charges for writing tells what it has; the others have every long prompt.
func TestCached(t *testing.T) {
	plain, marked := catalog.Flat(1000, 4000), catalog.Flat(1000, 4000)
	plain.CacheRead, marked.CacheRead, marked.CacheWrite = 100, 100, 1250
	for _, tt := range []struct {
		name   string
		prices *catalog.Prices
		usage  catalog.Usage
		want   int
	}{
		{"short", &plain, catalog.Usage{Input: 1023, Output: 500}, 0},
		{"long", &plain, catalog.Usage{Input: 1000, CacheRead: 24, Output: 500}, 1024},
		{"marked by nobody", &marked, catalog.Usage{Input: 50_000}, 0},
		{"marked", &marked, catalog.Usage{Input: 10, CacheRead: 4000, CacheWrite: 500, CacheWrite1h: 60}, 4560},
	} {
		if got := Cached(tt.prices, tt.usage); got != tt.want {
			t.Errorf("%s: %d tokens, want %d", tt.name, got, tt.want)
		}
	}
}

// FuzzBegun: whatever a client sends has a name, and its last turns change nothing of it.
func FuzzBegun(f *testing.F) {
	f.Add("key", "", "you are", "what is", "more")
	f.Fuzz(func(t *testing.T, key, shared, system, user, more string) {
		a, scratch := Begun(nil, key, shared, turns(system, user))
		b, _ := Begun(scratch, key, shared, turns(system, user, "answer", more))
		if a != b {
			t.Fatal("the conversation goes on under another id")
		}
		if len(scratch) > 20*beginMax {
			t.Fatalf("%d bytes were digested", len(scratch))
		}
	})
}

// BenchmarkHit is what a request of a session that goes on takes of the table, with many at a time.
func BenchmarkHit(b *testing.B) {
	table, err := NewTable(Options{})
	if err != nil {
		b.Fatal(err)
	}
	t := turns("You are a careful assistant.", "What is 17 times 23?", "391", "And 18 times 23?")
	ids := make([]ID, 1024)
	for i := range ids {
		ids[i] = id(i)
		s := State{Arm: "p/a", Draw: "r", Used: begin}
		table.Mark(&s, t[:2])
		table.Open(ids[i], s)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var scratch []byte
		for i := 0; pb.Next(); i++ {
			_, scratch = Begun(scratch, "key", "", t)
			s, ok := table.Get(ids[i%1024], begin)
			if !ok || !table.Continues(&s, t) && s.last.turns != len(t) {
				b.Error("not found")
				return
			}
			table.Mark(&s, t)
			table.Follow(ids[i%1024], s, true)
		}
	})
}
