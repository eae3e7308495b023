// Package tokenizer counts, encodes and cuts text with a WordPiece vocabulary that was learned from the log and stands
// in the artifact as a standard tokenizer.json. The model is sugarme/tokenizer's; normalizing and cutting into words
// happen here, in front of it, because its own normalizers panic on some valid texts.
//
// A count is an estimate of what a vendor will bill, never a bound. The package knows no prompts and no roles.
package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/sugarme/tokenizer/model"
	"github.com/sugarme/tokenizer/model/wordpiece"
)

// The limits of the package. Text beyond TextMax is counted in proportion and not encoded. A word of more than WordMax
// bytes goes to the model in parts, since its work grows with the square of the length. WorkMax bounds the sum of those
// squares in one count (about a hundred words that are no tokens, 1 ms if none is in the cache); the tokens of further
// such words are estimated from their bytes.
const (
	FileMax   = 16 << 20
	VocabMax  = 1 << 18
	TokenMax  = 256
	TextMax   = 1 << 20
	WordMax   = 48
	WorkMax   = 1 << 14
	cacheBits = 15
)

// unknownBytes is how many bytes of a word outside the vocabulary make a token, for counting.
const unknownBytes = 3

// prefix marks a token that continues a word.
const prefix = "##"

// ErrInvalid says that bytes are not a tokenizer.json that this package reads.
var ErrInvalid = errors.New("tokenizer: invalid tokenizer.json")

// Tokenizer is an immutable vocabulary, safe for concurrent use.
type Tokenizer struct {
	tokens []string
	words  map[string]int32
	// single says which ASCII characters are words of the vocabulary; a quarter of all words are such.
	single [utf8.RuneSelf]bool
	unk    int32
	model  wordpiece.WordPiece
	// cache remembers what the model said of words that are not tokens themselves. It only saves time: an entry
	// never changes a result, so that a lost race costs one more call of the model.
	cache [1 << cacheBits]atomic.Pointer[split]
}

type split struct {
	word string
	ids  []int32
}

// file is the part of a tokenizer.json that matters here.
type file struct {
	Model struct {
		Type     string           `json:"type"`
		Unk      string           `json:"unk_token"`
		Prefix   string           `json:"continuing_subword_prefix"`
		MaxChars int              `json:"max_input_chars_per_word"`
		Vocab    map[string]int32 `json:"vocab"`
	} `json:"model"`
}

// New reads a tokenizer.json with a WordPiece model whose ids run from 0 without a gap. Every error wraps ErrInvalid.
func New(tokenizerJSON []byte) (*Tokenizer, error) {
	if len(tokenizerJSON) > FileMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(tokenizerJSON), FileMax)
	}
	var f file
	if err := json.Unmarshal(tokenizerJSON, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	m := &f.Model
	unk, known := m.Vocab[m.Unk]
	switch {
	case m.Type != "WordPiece":
		return nil, fmt.Errorf("%w: model type %.20q, want WordPiece", ErrInvalid, m.Type)
	case len(m.Vocab) > VocabMax:
		return nil, fmt.Errorf("%w: %d tokens, at most %d", ErrInvalid, len(m.Vocab), VocabMax)
	case !known:
		return nil, fmt.Errorf("%w: unk_token %.20q is not in the vocabulary", ErrInvalid, m.Unk)
	case m.Prefix != prefix:
		return nil, fmt.Errorf("%w: continuing_subword_prefix %.20q, want %s", ErrInvalid, m.Prefix, prefix)
	case m.MaxChars < 1 || m.MaxChars > 1000:
		return nil, fmt.Errorf("%w: max_input_chars_per_word %d, want 1 to 1000", ErrInvalid, m.MaxChars)
	}
	t := &Tokenizer{tokens: make([]string, len(m.Vocab)), words: make(map[string]int32, len(m.Vocab)), unk: unk}
	vocab := make(model.Vocab, len(m.Vocab))
	for token, id := range m.Vocab {
		if len(token) == 0 || len(token) > TokenMax {
			return nil, fmt.Errorf("%w: token %d has %d bytes, want 1 to %d", ErrInvalid, id, len(token), TokenMax)
		}
		if id < 0 || int(id) >= len(t.tokens) || t.tokens[id] != "" {
			return nil, fmt.Errorf("%w: id %d is used twice or leaves a gap", ErrInvalid, id)
		}
		t.tokens[id], vocab[token] = token, int(id)
		if token != m.Unk && utf8.RuneCountInString(token) <= m.MaxChars {
			t.words[token] = id
			if len(token) == 1 && token[0] < utf8.RuneSelf {
				t.single[token[0]] = true
			}
		}
	}
	t.model = wordpiece.NewWordPieceBuilder().Vocab(&vocab).UnkToken(m.Unk).ContinuingSubwordPrefix(prefix).
		MaxInputCharsPerWord(m.MaxChars).Build()
	return t, nil
}

// Size is the number of tokens in the vocabulary.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// Counter counts the tokens of one text word by word. The zero value without a Tokenizer estimates from bytes.
type Counter struct {
	Tokenizer *Tokenizer
	// N is the number of tokens so far.
	N int
	// Failed says that the model panicked or returned an error and that part of N is an estimate from bytes.
	Failed bool
	work   int
}

// Add counts a folded word, as Next returns it. What it adds does not depend on anything counted before by others: a
// word that stands in the cache uses up the same allowance as one that does not.
func (c *Counter) Add(word []byte) {
	t := c.Tokenizer
	if t == nil {
		c.N += estimate(word)
		return
	}
	if len(word) == 1 && word[0] < utf8.RuneSelf && t.single[word[0]] {
		c.N++
		return
	}
	if _, ok := t.words[string(word)]; ok && len(word) <= WordMax {
		c.N++
		return
	}
	for len(word) > 0 {
		part := word[:partEnd(word)]
		word = word[len(part):]
		if c.work += len(part) * len(part); c.work > WorkMax {
			c.N += estimate(part)
			continue
		}
		ids, ok := t.split(part)
		if !ok {
			c.Failed = true
		}
		if !ok || len(ids) == 1 && ids[0] == t.unk {
			c.N += estimate(part)
		} else {
			c.N += len(ids)
		}
	}
}

func estimate(word []byte) int { return (len(word) + unknownBytes - 1) / unknownBytes }

// Count estimates how many tokens text has: exactly those of Encode where every word is within the vocabulary and
// WorkMax is not reached, otherwise near them. ok is false where the model failed on a word.
func (t *Tokenizer) Count(text string) (n int, ok bool) {
	c := Counter{Tokenizer: t}
	head := text[:textEnd(text)]
	eachWord(head, c.Add)
	if len(head) < len(text) {
		c.N = int(float64(c.N) * float64(len(text)) / float64(len(head)))
	}
	return c.N, !c.Failed
}

// Encode returns the ids of the tokens of the first TextMax bytes of text. A word outside the vocabulary is one
// unknown token.
func (t *Tokenizer) Encode(text string) []int {
	var ids []int
	eachWord(text[:textEnd(text)], func(word []byte) {
		for len(word) > 0 {
			part := word[:partEnd(word)]
			word = word[len(part):]
			if id, ok := t.words[string(part)]; ok {
				ids = append(ids, int(id))
				continue
			}
			split, ok := t.split(part)
			if !ok {
				split = []int32{t.unk}
			}
			for _, id := range split {
				ids = append(ids, int(id))
			}
		}
	})
	return ids
}

// Decode is the text of ids. Decode(Encode(x)) is Normalize(x) where every word of x is within the vocabulary and at
// most WordMax bytes long. An id that does not exist reads as the unknown token.
func (t *Tokenizer) Decode(ids []int) string {
	var b strings.Builder
	for _, id := range ids {
		if id < 0 || id >= len(t.tokens) {
			id = int(t.unk)
		}
		tail, continues := strings.CutPrefix(t.tokens[id], prefix)
		if !continues && b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(tail)
	}
	return b.String()
}

// Cut returns a prefix of text of at most maxTokens tokens by Count and of at most TextMax bytes. It ends with a word,
// except inside one of more than WordMax bytes, and is as long as a binary search over the word ends finds.
func (t *Tokenizer) Cut(text string, maxTokens int) string {
	fits := func(end int) bool { n, _ := t.Count(text[:end]); return n <= maxTokens }
	best, low, high := 0, 0, textEnd(text)
	if fits(high) {
		return text[:high]
	}
	for high-low > 1 {
		mid := low + (high-low)/2
		if end := wordEnd(text, mid); fits(end) {
			best, low = max(best, end), mid
		} else {
			high = mid
		}
	}
	return text[:best]
}

// wordEnd is the offset of the first white space from i on, or the boundary before i where none is near.
func wordEnd(text string, i int) int {
	if n := strings.IndexAny(text[i:min(i+WordMax, len(text))], " \n\t"); n >= 0 {
		return i + n
	}
	return Boundary(text, i)
}

// split asks the cache, then the model, for the tokens of a word. ok is false where the model failed.
func (t *Tokenizer) split(word []byte) (ids []int32, ok bool) {
	h := uint64(14695981039346656037) // FNV-1a, and a multiplication so that the upper bits know all of it
	for _, c := range word {
		h = (h ^ uint64(c)) * 1099511628211
	}
	first := (h ^ h>>32) * 0x9e3779b97f4a7c15 >> (64 - cacheBits)
	for _, i := range [2]uint64{first, first ^ 1} {
		if s := t.cache[i].Load(); s != nil && s.word == string(word) {
			return s.ids, true
		}
	}
	s := &split{word: string(word)}
	if s.ids, ok = t.ask(s.word); !ok {
		return nil, false
	}
	if t.cache[first].Load() != nil {
		first ^= 1
	}
	t.cache[first].Store(s)
	return s.ids, true
}

// ask calls the library, behind the only recover of the package.
func (t *Tokenizer) ask(word string) (ids []int32, ok bool) {
	defer func() {
		if recover() != nil {
			ids, ok = nil, false
		}
	}()
	tokens, err := t.model.Tokenize(word)
	if err != nil || len(tokens) == 0 {
		return nil, false
	}
	ids = make([]int32, len(tokens))
	for i, tok := range tokens {
		ids[i] = int32(tok.Id)
	}
	return ids, true
}

// partEnd is how much of a word goes to the model at once.
func partEnd(word []byte) int {
	if len(word) <= WordMax {
		return len(word)
	}
	end := WordMax
	for end > WordMax-utf8.UTFMax && !utf8.RuneStart(word[end]) {
		end--
	}
	return end
}

// textEnd is how much of a text is read.
func textEnd(text string) int {
	if len(text) <= TextMax {
		return len(text)
	}
	return Boundary(text, TextMax)
}
