package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/sugarme/tokenizer/pretrained"
	"pgregory.net/rapid"
)

// golden is a vocabulary of our own texts and what Hugging Face's Rust tokenizer made of it.
type golden struct {
	Tokenizer json.RawMessage `json:"tokenizer"`
	Cases     []struct {
		Text string `json:"text"`
		IDs  []int  `json:"ids"`
	} `json:"cases"`
}

func readGolden(tb testing.TB) (golden, *Tokenizer) {
	tb.Helper()
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		tb.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		tb.Fatal(err)
	}
	tok, err := New(g.Tokenizer)
	if err != nil {
		tb.Fatal(err)
	}
	return g, tok
}

func TestEncodeEqualsRust(t *testing.T) {
	g, tok := readGolden(t)
	if len(g.Cases) < 40 {
		t.Fatalf("%d golden cases, want at least 40", len(g.Cases))
	}
	for _, c := range g.Cases {
		for range 2 { // the second time from the cache
			if got := tok.Encode(c.Text); !slices.Equal(got, c.IDs) {
				t.Errorf("Encode(%q) = %v, want %v (%q)", c.Text, got, c.IDs, tok.Decode(c.IDs))
			}
		}
	}
}

func TestSugarmeReadsLearned(t *testing.T) {
	g, tok := readGolden(t)
	theirs, err := pretrained.FromReader(bytes.NewReader(g.Tokenizer))
	if err != nil {
		t.Fatal(err)
	}
	theirs.WithNormalizer(nil)
	for _, text := range []string{"the harbour master writes down the tide", "which of the boats left before the storm ?"} {
		e, err := theirs.EncodeSingle(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode(text); !slices.Equal(got, e.Ids) {
			t.Errorf("Encode(%q) = %v, sugarme has %v", text, got, e.Ids)
		}
	}
}

func TestNormalize(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{" \t\r\n ", ""},
		{"Hello,  World!", "hello , world !"},
		{"x_1 = 3.5", "x _ 1 = 3 . 5"},
		{"ＦＵＬＬ\u3000width", "full width"},
		{"e\u0301\u200b\u00ad", "é"},
		{"\xff\xfeok", "� � ok"},
		{"İI", "i\u0307i"},
		{"H\u0331", "ẖ"},
		{"船は出る", "船 は 出 る"},
		{"a\x00b\x7fc\u0085d", "a b c d"},
		{"👍🏽", "👍 🏽"},
	} {
		if got := Normalize(c.text); got != c.want {
			t.Errorf("Normalize(%q) = %q, want %q", c.text, got, c.want)
		}
		if got := Normalize(c.want); got != c.want {
			t.Errorf("Normalize(%q) = %q, want it unchanged", c.want, got)
		}
	}
}

func TestDecodeEncodeIsNormalize(t *testing.T) {
	_, tok := readGolden(t)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("abcXYZ 019 .,;:!?(){}[]\"'#_\\\n\téÖßпГ"))).Draw(t, "text")
		for w := range strings.FieldsSeq(Normalize(text)) {
			if len(w) > WordMax {
				t.Skip("longer than WordMax")
			}
		}
		ids := tok.Encode(text)
		if slices.Contains(ids, int(tok.unk)) {
			t.Skip("outside the vocabulary")
		}
		if got, want := tok.Decode(ids), Normalize(text); got != want {
			t.Fatalf("Decode(Encode(%q)) = %q, want %q", text, got, want)
		}
	})
}

func TestCount(t *testing.T) {
	_, tok := readGolden(t)
	for _, text := range []string{"", "the harbour", "The boats LEFT before the storm; why?", "für schöne Öle"} {
		if got, ok := tok.Count(text); got != len(tok.Encode(text)) || !ok {
			t.Errorf("Count(%q) = %d, %v, want %d, true", text, got, ok, len(tok.Encode(text)))
		}
	}
	// Outside the vocabulary a word counts by its bytes, not as one token.
	if got, _ := tok.Count(strings.Repeat("ⴰ", 12)); got != 12 {
		t.Errorf("Count of 12 unknown letters of 3 bytes = %d, want 12", got)
	}
	// A text beyond TextMax counts in proportion.
	line := "the boats left before the storm. "
	one, _ := tok.Count(line)
	n := 2*TextMax/len(line) + 1
	got, _ := tok.Count(strings.Repeat(line, n))
	if want := n * one; got < want*99/100 || got > want*101/100 {
		t.Errorf("Count of %d lines = %d, want about %d", n, got, want)
	}
}

func TestCountDoesNotDependOnCache(t *testing.T) {
	g, warm := readGolden(t)
	var b strings.Builder
	for i := range WorkMax / 50 {
		fmt.Fprintf(&b, "boat%dtide%d ", i*7919, i)
	}
	first, _ := warm.Count(b.String())
	warm.Encode(b.String())
	second, _ := warm.Count(b.String())
	cold, err := New(g.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	third, _ := cold.Count(b.String())
	if first != second || first != third {
		t.Errorf("Count = %d, with a warm cache %d, in a new tokenizer %d", first, second, third)
	}
}

func TestCut(t *testing.T) {
	_, tok := readGolden(t)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 200, -1).Draw(t, "text")
		limit := rapid.IntRange(0, 60).Draw(t, "limit")
		got := tok.Cut(text, limit)
		n, _ := tok.Count(got)
		if !strings.HasPrefix(text, got) || n > limit && got != "" {
			t.Fatalf("Cut(%q, %d) = %q of %d tokens", text, limit, got, n)
		}
		if utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Fatalf("Cut(%q, %d) = %q splits a character", text, limit, got)
		}
		if all, _ := tok.Count(text); all <= limit && got != text {
			t.Fatalf("Cut(%q, %d) = %q, want all of it", text, limit, got)
		}
	})
	if got := strings.TrimSpace(tok.Cut("the boats left", 2)); got != "the boats" {
		t.Errorf("Cut to two tokens = %q, want %q", got, "the boats")
	}
}

// TestModelFailure breaks the model on purpose: counting goes on from bytes and says so.
func TestModelFailure(t *testing.T) {
	_, tok := readGolden(t)
	broken := &Tokenizer{tokens: tok.tokens, words: tok.words, unk: tok.unk} // its model has no vocabulary and panics or errs
	if got, ok := broken.Count("zzyzx the"); ok || got != 3 {
		t.Errorf("Count = %d, %v, want 3, false", got, ok)
	}
	if got := broken.Encode("zzyzx"); !slices.Equal(got, []int{int(tok.unk)}) {
		t.Errorf("Encode = %v, want the unknown token", got)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct{ name, json string }{
		{"empty", ""},
		{"no object", "[]"},
		{"other model", `{"model":{"type":"BPE","unk_token":"u","vocab":{"u":0}}}`},
		{"no unknown token", `{"model":{"type":"WordPiece","unk_token":"x","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"u":0}}}`},
		{"gap", `{"model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"u":0,"a":2}}}`},
		{"twice", `{"model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"u":0,"a":1,"b":1}}}`},
		{"negative", `{"model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"u":-1}}}`},
		{"prefix", `{"model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"@@","max_input_chars_per_word":100,"vocab":{"u":0}}}`},
		{"word length", `{"model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"##","max_input_chars_per_word":0,"vocab":{"u":0}}}`},
		{"empty token", `{"model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"u":0,"":1}}}`},
		{"long token", `{"model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"u":0,"` + strings.Repeat("a", TokenMax+1) + `":1}}}`},
		{"too large", strings.Repeat(" ", FileMax+1)},
	} {
		if _, err := New([]byte(c.json)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: New: %v, want ErrInvalid", c.name, err)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	_, tok := readGolden(t)
	text := strings.Repeat("unseen harbourmasters overlook stormproofed boathouses ", 20)
	want := tok.Encode(text)
	_, fresh := readGolden(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := fresh.Encode(text); !slices.Equal(got, want) {
				t.Errorf("concurrent Encode differs")
			}
		})
	}
	wg.Wait()
}

func BenchmarkCount(b *testing.B) {
	_, tok := readGolden(b)
	text := strings.Repeat("the boats left before the storm, and the harbour master writes it down. ", 12)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		tok.Count(text)
	}
}

// BenchmarkUnseenWord is a word that is not in the cache: the price of the library's model.
func BenchmarkUnseenWord(b *testing.B) {
	_, tok := readGolden(b)
	b.ReportAllocs()
	for b.Loop() {
		tok.ask("boathouses")
	}
}
