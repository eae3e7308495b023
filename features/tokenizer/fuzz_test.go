package tokenizer

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzNew(f *testing.F) {
	f.Add([]byte(`{"model":{"type":"WordPiece","unk_token":"u","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{"u":0,"a":1,"##a":2}}}`))
	f.Add([]byte(`{"model":{"type":"WordPiece","vocab":{"":1e9}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tok, err := New(b)
		if err != nil {
			return
		}
		ids := tok.Encode("aaa Aaé ## u \xff")
		for _, id := range ids {
			if id < 0 || id >= tok.Size() {
				t.Fatalf("id %d of %d", id, tok.Size())
			}
		}
		tok.Decode(append(ids, -1, 1<<40))
	})
}

func FuzzText(f *testing.F) {
	g, tok := readGolden(f)
	for _, c := range g.Cases {
		f.Add(c.Text, 5)
	}
	f.Add("\xf0\x9f\x98", 1)
	f.Add(strings.Repeat("é\u0301", 100), 3)
	f.Add(strings.Repeat("ﷺ", 2000), 3)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		ids := tok.Encode(text)
		if again := tok.Encode(text); !slices.Equal(ids, again) {
			t.Fatalf("Encode differs: %v, %v", ids, again)
		}
		n, ok := tok.Count(text)
		if !ok {
			t.Fatal("the model failed")
		}
		if n < 0 || n > 12*len(text) {
			t.Fatalf("%d tokens of %d bytes", n, len(text))
		}
		norm := Normalize(text)
		if !utf8.ValidString(norm) {
			t.Fatalf("Normalize gives invalid UTF-8: %q", norm)
		}
		if len(text) < chunkMax/16 && Normalize(norm) != norm {
			t.Fatalf("Normalize(%q) = %q is not stable: %q", text, norm, Normalize(norm))
		}
		long := slices.ContainsFunc(strings.Fields(norm), func(w string) bool { return len(w) > WordMax })
		if !long && !slices.Contains(ids, int(tok.unk)) && tok.Decode(ids) != norm {
			t.Fatalf("Decode(Encode(%q)) = %q, want %q", text, tok.Decode(ids), norm)
		}
		if cut := tok.Cut(text, limit); !strings.HasPrefix(text, cut) {
			t.Fatalf("Cut is no prefix: %q", cut)
		}
	})
}
