package tokenizer

import (
	"bytes"
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"unicode/utf8"
)

// Limits of learning.
const (
	// LearnTextMax bounds the bytes that are read; what comes later is ignored.
	LearnTextMax = 1 << 30
	// DistinctMax bounds the words kept while counting. At the limit the rarest are forgotten.
	DistinctMax = 1 << 18
	// alphabetMax bounds the single characters of a vocabulary; rarer ones are unknown.
	alphabetMax = 2048
)

// LearnOptions shape a vocabulary. The zero value works.
type LearnOptions struct {
	// Size is the number of tokens, the unknown token and the alphabet included; 0 is 8192. The alphabet is never
	// cut below ASCII, and a small corpus may yield fewer tokens.
	Size int
	// MinCount is how often a pair must occur to be merged; 0 is 2.
	MinCount int
}

// Validate reports options that cannot be honoured.
func (o LearnOptions) Validate() error {
	if o.Size != 0 && (o.Size < 256 || o.Size > VocabMax) {
		return fmt.Errorf("tokenizer: learning a vocabulary of %d tokens: want 256 to %d", o.Size, VocabMax)
	}
	if o.MinCount < 0 {
		return fmt.Errorf("tokenizer: learning with a minimum count of %d: want 0 or more", o.MinCount)
	}
	return nil
}

// Learn makes a WordPiece vocabulary of texts and returns it as a tokenizer.json that New, sugarme/tokenizer and
// Hugging Face's tokenizers read. Words are split into characters and the most frequent adjacent pair is merged until
// the vocabulary is full (byte-pair encoding, Sennrich et al. 2016, over characters with ## continuations). Equal
// texts in equal order give equal bytes.
func Learn(texts iter.Seq[string], o LearnOptions) ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if texts == nil {
		return nil, errors.New("tokenizer: learning from nil texts")
	}
	l := newLearner(countWords(texts), cmp.Or(o.Size, 8192))
	l.merge(cmp.Or(o.MinCount, 2))
	return l.json()
}

// countWords counts the words of texts, in memory bounded by DistinctMax.
func countWords(texts iter.Seq[string]) map[string]int {
	counts, floor, left := map[string]int{}, 1, LearnTextMax
	cells := map[string]*int{} // a pointer a word spares the allocation of a key for every occurrence
	for text := range texts {
		text = text[:min(len(text), left)]
		left -= len(text)
		eachWord(text, func(w []byte) {
			if n := cells[string(w)]; n != nil {
				*n++
			} else if len(w) <= WordMax {
				one := 1
				cells[string(w)] = &one
			}
		})
		for ; len(cells) > DistinctMax; floor++ {
			maps.DeleteFunc(cells, func(_ string, n *int) bool { return *n <= floor })
		}
		if left == 0 {
			break
		}
	}
	for w, n := range cells {
		counts[w] = *n
	}
	return counts
}

// pair is two neighbouring tokens.
type pair struct{ a, b int32 }

// learner merges pairs of tokens inside words. Only pairs whose entry in the heap agrees with counts are live.
type learner struct {
	size   int
	tokens []string
	ids    map[string]int32
	words  [][]int32
	n      []int
	counts map[pair]int
	where  map[pair][]int32
	queue  pairHeap
}

func newLearner(counts map[string]int, size int) *learner {
	l := &learner{size: size, ids: map[string]int32{}, counts: map[pair]int{}, where: map[pair][]int32{}}
	l.alphabet(counts)
	words := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for _, w := range words {
		if ids := l.spell(w); len(ids) > 1 {
			i := int32(len(l.words))
			l.words, l.n = append(l.words, ids), append(l.n, counts[w])
			for j := range ids[1:] {
				l.count(pair{ids[j], ids[j+1]}, counts[w], i)
			}
		}
	}
	for p, n := range l.counts {
		l.queue = append(l.queue, queued{p, n})
	}
	heap.Init(&l.queue) // the order of equal counts is by id, so the map's order does not show
	return l
}

// alphabet adds the unknown token and the characters: all of printable ASCII, then the most frequent others.
func (l *learner) alphabet(counts map[string]int) {
	l.add("[UNK]")
	seen := map[rune]int{}
	for w, n := range counts {
		for _, r := range w {
			seen[r] += n
		}
	}
	both := func(s string) {
		l.add(s)
		l.add(prefix + s)
	}
	for c := byte('!'); c < 0x7f; c++ {
		switch class[c] {
		case mark:
			l.add(string(c))
		case letter:
			if fold[c] == c {
				both(string(c))
			}
		}
		delete(seen, rune(c))
	}
	others := slices.SortedFunc(maps.Keys(seen), func(a, b rune) int {
		return cmp.Or(cmp.Compare(seen[b], seen[a]), cmp.Compare(a, b))
	})
	for _, r := range others[:min(len(others), alphabetMax, l.size/4)] {
		if joins(r) {
			both(string(r))
		} else {
			l.add(string(r))
		}
	}
}

func (l *learner) add(token string) int32 {
	id, known := l.ids[token]
	if !known {
		id = int32(len(l.tokens))
		l.tokens, l.ids[token] = append(l.tokens, token), id
	}
	return id
}

// spell splits a word into the tokens of its characters; it is nil where one is not in the alphabet.
func (l *learner) spell(word string) []int32 {
	ids := make([]int32, 0, len(word))
	for i, r := range word {
		s := string(r)
		if i > 0 {
			s = prefix + s
		}
		id, known := l.ids[s]
		if !known {
			return nil
		}
		ids = append(ids, id)
	}
	return ids
}

// count adds n occurrences of p in word i; n may be negative.
func (l *learner) count(p pair, n int, i int32) {
	l.counts[p] += n
	if n > 0 {
		if at := l.where[p]; len(at) == 0 || at[len(at)-1] != i {
			l.where[p] = append(at, i)
		}
	}
}

// merge joins the most frequent pair until the vocabulary is full or no pair occurs often enough.
func (l *learner) merge(minCount int) {
	for len(l.tokens) < l.size && len(l.queue) > 0 {
		top := heap.Pop(&l.queue).(queued)
		if n := l.counts[top.pair]; n != top.n {
			if n >= minCount {
				heap.Push(&l.queue, queued{top.pair, n})
			}
			continue
		}
		if top.n < minCount {
			return
		}
		l.join(top.pair)
	}
}

// join replaces p by one token in every word that holds it and brings the counts of its neighbours up to date.
func (l *learner) join(p pair) {
	id := l.add(l.tokens[p.a] + l.tokens[p.b][len(prefix):])
	where := l.where[p]
	delete(l.where, p)
	touched := map[pair]bool{}
	for _, i := range where {
		word := l.words[i]
		for j := 0; j+1 < len(word); j++ {
			if word[j] != p.a || word[j+1] != p.b {
				continue
			}
			if j > 0 {
				l.count(pair{word[j-1], p.a}, -l.n[i], i)
				l.count(pair{word[j-1], id}, l.n[i], i)
				touched[pair{word[j-1], id}] = true
			}
			if j+2 < len(word) {
				l.count(pair{p.b, word[j+2]}, -l.n[i], i)
				l.count(pair{id, word[j+2]}, l.n[i], i)
				touched[pair{id, word[j+2]}] = true
			}
			word[j] = id
			word = slices.Delete(word, j+1, j+2)
		}
		l.words[i] = word
	}
	delete(l.counts, p)
	for q := range touched {
		heap.Push(&l.queue, queued{q, l.counts[q]})
	}
}

// jsonHead and jsonTail surround the vocabulary in a tokenizer.json. The normalizer and the pre-tokenizer say for other
// programs what Fold and Next do here.
const (
	jsonHead = `{"version":"1.0","truncation":null,"padding":null,` +
		`"added_tokens":[],` + // so that no text can spell the unknown token
		`"normalizer":{"type":"Sequence","normalizers":[` +
		`{"type":"Replace","pattern":{"Regex":"\\p{Cf}"},"content":""},{"type":"NFKC"},` +
		`{"type":"Replace","pattern":{"Regex":"\\p{Cc}"},"content":" "},{"type":"Lowercase"},{"type":"NFKC"}]},` +
		`"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},` +
		`{"type":"Split","pattern":{"Regex":"[^\\p{L}\\p{N}\\p{M}]|\\p{Han}|\\p{Hiragana}|\\p{Katakana}|\\p{Thai}|\\p{Lao}|\\p{Khmer}|\\p{Myanmar}"},` +
		`"behavior":"Isolated","invert":false}]},` +
		`"post_processor":null,"decoder":{"type":"WordPiece","prefix":"##","cleanup":false},` +
		`"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{`
	jsonTail = "}}}\n"
)

func (l *learner) json() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(jsonHead)
	for id, token := range l.tokens {
		if !utf8.ValidString(token) || len(token) > TokenMax {
			return nil, fmt.Errorf("tokenizer: learned an impossible token %q", token)
		}
		key, err := json.Marshal(token)
		if err != nil {
			return nil, fmt.Errorf("tokenizer: writing token %q: %w", token, err)
		}
		if id > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s:%d", key, id)
	}
	b.WriteString(jsonTail)
	return b.Bytes(), nil
}

// queued is a pair with the count that it had when it was pushed.
type queued struct {
	pair
	n int
}

// pairHeap has the most frequent pair on top; equal counts go by id.
type pairHeap []queued

func (h pairHeap) Len() int      { return len(h) }
func (h pairHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h pairHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[j].n, h[i].n), cmp.Compare(h[i].a, h[j].a), cmp.Compare(h[i].b, h[j].b)) < 0
}
func (h *pairHeap) Push(x any) { *h = append(*h, x.(queued)) }
func (h *pairHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
