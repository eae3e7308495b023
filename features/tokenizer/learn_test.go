package tokenizer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// corpus draws n lines of words made of syllables, frequent ones more often.
func corpus(seed uint64, n int) []string {
	r := rand.New(rand.NewPCG(seed, 1))
	syllables := []string{"ka", "to", "mi", "ren", "sol", "ta", "wes", "ion", "per", "un", "li", "gor"}
	lines := make([]string, n)
	for i := range lines {
		var b strings.Builder
		for range 12 {
			for range 1 + r.IntN(3) {
				b.WriteString(syllables[int(float64(len(syllables))*r.Float64()*r.Float64())])
			}
			b.WriteByte(' ')
		}
		lines[i] = b.String()
	}
	return lines
}

func TestLearnIsDeterministic(t *testing.T) {
	lines := corpus(1, 500)
	first, err := Learn(slices.Values(lines), LearnOptions{Size: 400})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		again, err := Learn(slices.Values(lines), LearnOptions{Size: 400})
		if err != nil || !bytes.Equal(first, again) {
			t.Fatalf("Learn differs between runs (%v)", err)
		}
	}
}

func TestLearnFindsFrequentParts(t *testing.T) {
	lines := corpus(2, 500)
	b, err := Learn(slices.Values(lines), LearnOptions{Size: 400})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := New(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Size(); got != 400 {
		t.Errorf("Size = %d, want 400", got)
	}
	for _, w := range []string{"ka", "ren", "##ka", "##ren"} {
		if !slices.Contains(tok.tokens, w) {
			t.Errorf("%q is not in the vocabulary", w)
		}
	}
	text := strings.Join(lines, "\n")
	n := len(tok.Encode(text))
	if bytesPer := float64(len(text)) / float64(n); bytesPer < 3 {
		t.Errorf("%.2f bytes a token on its own corpus, want over 3", bytesPer)
	}
}

func TestLearnRareCharacters(t *testing.T) {
	b, err := Learn(slices.Values([]string{"ⴰⴱⴲ ⴰⴱ ⴰⴱ", "漢字 漢字"}), LearnOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := New(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tok.Decode(tok.Encode("ⴰⴱⴲ 漢字 ABC123 <|>")), "ⴰⴱⴲ 漢 字 abc123 < | >"; got != want {
		t.Errorf("Decode(Encode) = %q, want %q", got, want)
	}
}

func TestLearnNothing(t *testing.T) {
	b, err := Learn(slices.Values([]string(nil)), LearnOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := New(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tok.Decode(tok.Encode("Any ascii text!")), "any ascii text !"; got != want {
		t.Errorf("Decode(Encode) = %q, want %q", got, want)
	}
}

func TestLearnRefuses(t *testing.T) {
	if _, err := Learn(slices.Values([]string{"a"}), LearnOptions{Size: 10}); err == nil {
		t.Error("a size of 10 is accepted")
	}
	if _, err := Learn(slices.Values([]string{"a"}), LearnOptions{MinCount: -1}); err == nil {
		t.Error("a negative minimum count is accepted")
	}
	if _, err := Learn(nil, LearnOptions{}); err == nil {
		t.Error("nil texts are accepted")
	}
}

// TestCountWordsIsBounded floods the counter with distinct words; the frequent ones must survive.
func TestCountWordsIsBounded(t *testing.T) {
	counts := countWords(func(yield func(string) bool) {
		for i := range DistinctMax/100 + 500 {
			var b strings.Builder
			b.WriteString("anchor anchor anchor ")
			for j := range 100 {
				fmt.Fprintf(&b, "w%dx%d ", i, j)
			}
			if !yield(b.String()) {
				return
			}
		}
	})
	if len(counts) > DistinctMax {
		t.Errorf("%d words are kept, at most %d", len(counts), DistinctMax)
	}
	if want := 3 * (DistinctMax/100 + 500); counts["anchor"] != want {
		t.Errorf("anchor was counted %d times, want %d", counts["anchor"], want)
	}
}

func BenchmarkLearn(b *testing.B) {
	lines := corpus(3, 20000)
	n := 0
	for _, l := range lines {
		n += len(l)
	}
	b.SetBytes(int64(n))
	for b.Loop() {
		if _, err := Learn(slices.Values(lines), LearnOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
