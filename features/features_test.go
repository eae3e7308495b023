package features

import (
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/tradewind-llm/tradewind/features/tokenizer"
)

// goldenDigest changes only with Spec.Version: whatever changes it makes every logged row and every artifact foreign.
const goldenDigest = "a4da2683837e7a217a981bab3a34c1fabf5dbf6793ac7fd030cd38024bbdd72b"

func TestSpecDigest(t *testing.T) {
	if got := DefaultSpec().Digest(); got != goldenDigest {
		t.Errorf("digest of the default spec = %s, want %s", got, goldenDigest)
	}
	s := DefaultSpec()
	s.TailBytes++
	if s.Digest() == goldenDigest {
		t.Error("another size has the same digest")
	}
}

// TestGoldenCounts pins normalization, n-grams and hash: the same text has the same features on every machine and in
// every release with this Spec.
func TestGoldenCounts(t *testing.T) {
	e, err := New(DefaultSpec(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		n    int
		want uint32
	}{
		{"", 0, 0x0},
		{"good morning", 23, 0x0e8f31ca},
		{essay, 1073, 0x240123aa},
		{coding, 166, 0x1e1904c7},
		{"Größe ＡＢＣ 船 e\u0301t\u00e9 👍 Ω\xff", 32, 0x18bdf1fd},
	} {
		got := extract(e, NewPrompt(c.text))
		h := crc32.NewIEEE()
		for _, k := range got.Counts {
			fmt.Fprintf(h, "%d:%d ", k.Bucket, k.N)
		}
		if len(got.Counts) != c.n || h.Sum32() != c.want {
			t.Errorf("%.20q: %d counts with checksum %#x, want %d with %#x", c.text, len(got.Counts), h.Sum32(), c.n, c.want)
		}
	}
}

func extract(e *Extractor, p *Prompt) *Context {
	c := &Context{}
	e.Extract(c, p)
	return c
}

// check holds what every context promises.
func check(tb testing.TB, spec Spec, c *Context) {
	tb.Helper()
	if len(c.Counts) > spec.MaxCounts {
		tb.Errorf("%d counts, at most %d", len(c.Counts), spec.MaxCounts)
	}
	for i, k := range c.Counts {
		if k.N == 0 || int(k.Bucket) >= 2*spec.Buckets || i > 0 && k.Bucket <= c.Counts[i-1].Bucket {
			tb.Fatalf("count %d is %+v after %+v", i, k, c.Counts[max(i-1, 0)])
		}
	}
	for i, f := range c.Flags {
		if v := float64(f); math.IsNaN(v) || v < 0 || v > 64 {
			tb.Errorf("flag %s = %v", FlagNames()[i], f)
		}
	}
	if c.Tokens < 0 || c.PromptBytes < 0 || c.Bytes < c.PromptBytes || c.Degraded {
		tb.Errorf("tokens %d, bytes %d of %d, degraded %v", c.Tokens, c.PromptBytes, c.Bytes, c.Degraded)
	}
	b := c.AppendBinary(nil)
	if len(b) > MaxEncodedBytes {
		tb.Errorf("compact form of %d bytes, at most %d", len(b), MaxEncodedBytes)
	}
}

// TestHarness is the row of pains.md that gave this package its shape: an agent's long system prompt, its tools and
// the steps so far must not drown what the user said.
func TestHarness(t *testing.T) {
	e := testExtractor(t)
	alone := extract(e, NewPrompt("good morning"))
	for name, p := range map[string]*Prompt{
		"system and tools": {Turns: []Turn{{System, harness()}, {User, "good morning"}}, Tools: 30, ToolBytes: 18000},
		"steps before":     {Turns: []Turn{{System, harness()}, {User, coding}, {Assistant, essay}, {Tool, essay}, {User, "good morning"}}},
		"tool after":       {Turns: []Turn{{User, "good morning"}, {Assistant, "calling a tool"}, {Tool, harness()}}, JSONFormat: true},
		"empty after":      {Turns: []Turn{{User, "good morning"}, {User, " \n\t"}, {User, ""}}, Attachments: 2},
	} {
		got := extract(e, p)
		check(t, e.spec, got)
		if !slices.Equal(got.Counts, alone.Counts) {
			t.Errorf("%s: counts differ from those of the turn alone", name)
		}
		for i := range AskFlags {
			if got.Flags[i] != alone.Flags[i] && name != "empty after" {
				t.Errorf("%s: flag %s = %v, alone %v", name, FlagNames()[i], got.Flags[i], alone.Flags[i])
			}
		}
		if got.PromptBytes != len("good morning") {
			t.Errorf("%s: PromptBytes = %d, want %d", name, got.PromptBytes, len("good morning"))
		}
		if slices.Equal(got.Flags[AskFlags:], alone.Flags[AskFlags:]) {
			t.Errorf("%s: no flag shows the conversation", name)
		}
	}
}

func TestAsk(t *testing.T) {
	e := testExtractor(t)
	for _, c := range []struct {
		name  string
		turns []Turn
		want  int
	}{
		{"none", nil, -1},
		{"all blank", []Turn{{User, ""}, {System, " "}}, -1},
		{"last user", []Turn{{User, "a"}, {Assistant, "b"}, {User, "c"}, {Tool, "d"}}, 2},
		{"blank user last", []Turn{{User, "a"}, {Assistant, "b"}, {User, "\n"}}, 0},
		{"no user", []Turn{{System, "a"}, {Assistant, "b"}, {Assistant, ""}}, 1},
	} {
		if got := e.ask(&Prompt{Turns: c.turns}); got != c.want {
			t.Errorf("%s: ask = %d, want %d", c.name, got, c.want)
		}
		// What is kept of a request gives the same counts when they are extracted again.
		var then, again Context
		e.Extract(&then, &Prompt{Turns: c.turns})
		e.Extract(&again, NewPrompt(e.Ask(&Prompt{Turns: c.turns})))
		if !reflect.DeepEqual(then.Counts, again.Counts) {
			t.Errorf("%s: the kept text has other features than the request", c.name)
		}
	}
}

func TestFlags(t *testing.T) {
	e := testExtractor(t)
	text := "Pick ONE, ok?\n(A) $5\n(B) \\pi\nC. x+y=2;\n\nTools: [{\"type\": \"string\"}]"
	f := extract(e, &Prompt{
		Turns: []Turn{{System, "12345"}, {User, text}}, Tools: 1, ToolBytes: 9, JSONFormat: true, Attachments: 3,
	}).Flags
	n, size := func(n int) float32 { return float32(math.Log1p(float64(n))) }, float32(len(text))
	words := len(strings.Fields(tokenizer.Normalize(text)))
	letters := len(strings.ReplaceAll(tokenizer.Normalize(text), " ", ""))
	for i, want := range map[int]float32{
		flagBytes: n(len(text)), flagWords: n(words), flagLines: n(5), flagLongestLine: n(27), flagLastLine: n(27),
		flagDigits: 2 / size, flagUpper: 8 / size, flagNonASCII: 0, flagBackslashes: n(1), flagDollars: n(1),
		flagQuestion: n(1), flagOptions: n(3), flagCode: n(5), flagOperators: n(2), flagJSONTypes: n(1),
		flagMeanWord: float32(letters) / float32(words), flagBeforeTools: n(strings.Index(text, "Tools:")),
		flagTurns: n(2), flagOtherBytes: n(5), flagSystemBytes: n(5), flagTools: n(1), flagToolBytes: n(9),
		flagJSONFormat: 1, flagAttachments: n(3),
	} {
		if f[i] != want {
			t.Errorf("%s = %v, want %v", FlagNames()[i], f[i], want)
		}
	}
}

// TestNumberOfGrams counts by arithmetic: w words have w unigrams and w − 1 bigrams, and a word of n > 1 characters has,
// padded, n 3-grams and n − 1 4-grams.
func TestNumberOfGrams(t *testing.T) {
	e := testExtractor(t)
	for _, text := range []string{"a", "ab", "good morning, étienne", "船 x1", essay, coding} {
		words, want := strings.Fields(tokenizer.Normalize(text)), [2]int{}
		want[0] = 2*len(words) - 1
		for _, w := range words {
			if n := utf8.RuneCountInString(w); n > 1 {
				want[1] += 2*n - 1
			}
		}
		got := [2]int{}
		for _, k := range extract(e, NewPrompt(text)).Counts {
			got[int(k.Bucket)/e.spec.Buckets] += int(k.N)
		}
		if got != want {
			t.Errorf("%.20q: %v n-grams of words and of characters, want %v", text, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text, head, tail string
	}{
		{"", "", ""},
		{"0123456789", "0123456789", ""},
		{"0123456789a", "012345", "789a"},
		{"01234é678é9a", "01234", "é9a"},
		{"éééééééé", "ééé", "éé"},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff", "\xff\xff\xff\xff"},
	} {
		head, tail := cut(c.text, 6, 4)
		if head != c.head || tail != c.tail {
			t.Errorf("cut(%q) = %q, %q, want %q, %q", c.text, head, tail, c.head, c.tail)
		}
	}
}

// TestSharedForms: what a reader sees as the same text has the same counts, and one odd character changes little.
func TestSharedForms(t *testing.T) {
	e := testExtractor(t)
	want := extract(e, NewPrompt("The café of the harbour")).Counts
	for _, text := range []string{"the CAFE\u0301 of  the\tharbour", "ｔｈｅ café of the harbour\u200b"} {
		if got := extract(e, NewPrompt(text)).Counts; !slices.Equal(got, want) {
			t.Errorf("counts of %q differ", text)
		}
	}
	ascii, accent := extract(e, NewPrompt(essay)).Counts, extract(e, NewPrompt(essay+" é")).Counts
	if extra := len(accent) - len(ascii); extra < 1 || extra > 2 {
		t.Errorf("one more character changes the number of counts by %d, want 1 or 2", extra)
	}
}

func TestCaps(t *testing.T) {
	e := testExtractor(t)
	s := e.spec
	middle := func(m string) *Prompt {
		return NewPrompt(strings.Repeat("a b ", s.HeadBytes/4) + strings.Repeat(m, 1<<14) + strings.Repeat(" c d", s.TailBytes/4))
	}
	a, b := extract(e, middle("one1")), extract(e, middle("two2"))
	if !reflect.DeepEqual(a, b) {
		t.Error("text between head and tail shows in the features")
	}
	if a.PromptBytes != s.HeadBytes+s.TailBytes+4<<14 {
		t.Errorf("PromptBytes = %d", a.PromptBytes)
	}
	// A word beyond WordBytes is one feature, whatever it says.
	x, y := strings.Repeat("x", s.WordBytes+1), strings.Repeat("y", 2*s.WordBytes)
	if got, other := extract(e, NewPrompt(x)).Counts, extract(e, NewPrompt(y)).Counts; len(got) != 1 || !slices.Equal(got, other) {
		t.Errorf("long words have the counts %v and %v, want one that is the same", got, other)
	}
	s.MaxCounts = 10
	small, err := New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := extract(small, NewPrompt(essay))
	check(t, s, c)
	if len(c.Counts) != 10 {
		t.Errorf("%d counts, want 10", len(c.Counts))
	}
}

func TestTokens(t *testing.T) {
	tok := testTokenizer(t)
	e, err := New(DefaultSpec(), tok)
	if err != nil {
		t.Fatal(err)
	}
	exact, _ := tok.Count(essay)
	if got := extract(e, NewPrompt(essay)).Tokens; got != exact {
		t.Errorf("Tokens = %d, want %d", got, exact)
	}
	system, _ := tok.Count(harness())
	p := &Prompt{Turns: []Turn{{System, harness()}, {User, essay}}, ToolBytes: 3700}
	if got, want := extract(e, p).Tokens, exact+system+1000; got < want*9/10 || got > want*11/10 {
		t.Errorf("Tokens of a harness = %d, want about %d", got, want)
	}
	long := strings.Repeat(essay+"\n", 100)
	if got, want := extract(e, NewPrompt(long)).Tokens, 100*exact; got < want*9/10 || got > want*11/10 {
		t.Errorf("Tokens of a long turn = %d, want about %d", got, want)
	}
	bare, err := New(DefaultSpec(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := extract(bare, NewPrompt(essay)).Tokens; got < exact*3/4 || got > exact*2 {
		t.Errorf("Tokens without a tokenizer = %d, want near %d", got, exact)
	}
}

func TestExtractDoesNotAllocate(t *testing.T) {
	e := testExtractor(t)
	c, s := &Context{}, e.scratch.Get().(*scratch) // not through the pool, which the race detector empties at random
	p := &Prompt{Turns: []Turn{{System, harness()}, {User, essay}}, Tools: 2}
	e.extract(s, c, p)
	if n := testing.AllocsPerRun(100, func() { e.extract(s, c, p) }); n != 0 {
		t.Errorf("%v allocations an extraction, want 0", n)
	}
}

func TestConcurrentExtract(t *testing.T) {
	e := testExtractor(t)
	texts := []string{essay, coding, "good morning", harness(), "Größe 船"}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			fresh, c := testExtractor(t), &Context{}
			for j := range 50 {
				p := NewPrompt(texts[(i+j)%len(texts)])
				e.Extract(c, p)
				if want := extract(fresh, p); !reflect.DeepEqual(c, want) && len(c.Counts)+len(want.Counts) > 0 {
					t.Errorf("context of %.20q differs when shared", p.Turns[0].Text)
				}
			}
		})
	}
	wg.Wait()
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"version":     func(s *Spec) { s.Version++ },
		"hash":        func(s *Spec) { s.Hash = "md5" },
		"grams":       func(s *Spec) { s.CharGrams[1] = 5 },
		"flags":       func(s *Spec) { s.Flags[0] = "x" },
		"buckets":     func(s *Spec) { s.Buckets = 1000 },
		"more":        func(s *Spec) { s.Buckets = 2 * BucketsMax },
		"word bytes":  func(s *Spec) { s.WordBytes = 0 },
		"counts":      func(s *Spec) { s.MaxCounts = 0 },
		"head":        func(s *Spec) { s.HeadBytes = readMax + 1 },
		"tail":        func(s *Spec) { s.TailBytes = -1 },
		"other bytes": func(s *Spec) { s.OtherBytes = -1 },
	} {
		s := DefaultSpec()
		change(&s)
		if _, err := New(s, nil); err == nil {
			t.Errorf("%s: New accepts the spec", name)
		}
	}
}
