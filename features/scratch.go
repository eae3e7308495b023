package features

import (
	"math"
	"math/bits"
	"unicode/utf8"

	"github.com/tradewind-llm/tradewind/features/tokenizer"
)

// scratch is the memory of one extraction: a counter for every bucket, and a bit for every counter that is not zero,
// so that the counts come out sorted and only what was touched is cleared.
type scratch struct {
	counts  []uint16
	touched []uint64
	left    int // distinct buckets that may still be added

	seed      uint64
	shift     uint
	chars     uint32 // first bucket of the character block
	wordMax   int
	tokens    tokenizer.Counter
	folded    []byte
	words     int
	wordBytes int
}

// Multipliers of the hash, odd and with well mixed bits: those of wyhash and of SplitMix64.
const (
	mulA = 0xa0761d6478bd642f
	mulB = 0xe7037ed1a0b428db
	mulC = 0xbf58476d1ce4e5b9
)

// longWord is the one feature of every word beyond Spec.WordBytes.
const longWord = 0x1d8e4e27c47d124f

func (s *scratch) reset(e *Extractor) {
	s.seed, s.shift, s.chars, s.wordMax = e.spec.Seed, e.shift, uint32(e.spec.Buckets), e.spec.WordBytes
	s.left, s.words, s.wordBytes = e.spec.MaxCounts, 0, 0
	s.tokens = tokenizer.Counter{Tokenizer: e.tok}
}

// mix scrambles a key: the upper bits of the result depend on every bit of it.
func mix(k uint64) uint64 {
	k *= mulA
	return (k ^ k>>32) * mulB
}

// bump counts one occurrence in a bucket. Counters stop at their largest value, and new buckets at Spec.MaxCounts.
func (s *scratch) bump(bucket uint32) {
	n := s.counts[bucket]
	if n == 0 {
		if s.left == 0 {
			return
		}
		s.left--
		s.touched[bucket>>6] |= 1 << (bucket & 63)
	}
	if n < math.MaxUint16 {
		s.counts[bucket] = n + 1
	}
}

// read counts the n-grams and the tokens of a piece of text.
func (s *scratch) read(e *Extractor, text string) {
	s.folded = tokenizer.Fold(s.folded[:0], text)
	var last uint64
	for w, rest := tokenizer.Next(s.folded); len(w) > 0; w, rest = tokenizer.Next(rest) {
		s.words++
		s.wordBytes += min(len(w), s.wordMax)
		s.tokens.Add(w)
		h := s.hash(w)
		s.bump(uint32(h >> s.shift))
		if last != 0 {
			s.bump(uint32(mix(h^last*mulC) >> s.shift))
		}
		last = h
	}
}

// hash counts the characters of a word and returns the word's own hash.
func (s *scratch) hash(word []byte) uint64 {
	if len(word) > s.wordMax {
		return mix(longWord ^ s.seed)
	}
	// window holds the last four characters, sixteen bits each, so that sliding it costs a shift. A word is padded
	// with one space on either side; words of one character have no n-grams that the word block does not have.
	h, window, n := s.seed, uint64(' '), 1
	if len(word) == 1 {
		return mix((h ^ uint64(word[0])) * mulC)
	}
	for i := 0; i < len(word); n++ {
		r, size := rune(word[i]), 1
		if r >= utf8.RuneSelf {
			if r, size = utf8.DecodeRune(word[i:]); size == len(word) {
				return mix((h ^ uint64(r)) * mulC)
			}
		}
		i += size
		h = (h ^ uint64(r)) * mulC
		window = window<<16 | uint64(uint16(r^r>>16))
		s.grams(window, n)
	}
	s.grams(window<<16|' ', n)
	return mix(h)
}

// grams counts the 3-gram and the 4-gram that end at the n-th character of a padded word, counted from 0.
func (s *scratch) grams(window uint64, n int) {
	if n >= 2 {
		s.bump(s.chars + uint32(mix(window<<16^s.seed)>>s.shift))
	}
	if n >= 3 {
		s.bump(s.chars + uint32(mix(window^s.seed)>>s.shift))
	}
}

// drain appends the counts in the order of their buckets and clears the scratch.
func (s *scratch) drain(dst []Count) []Count {
	for i, word := range s.touched {
		if word == 0 {
			continue
		}
		s.touched[i] = 0
		for ; word != 0; word &= word - 1 {
			b := i<<6 | bits.TrailingZeros64(word)
			dst = append(dst, Count{Bucket: uint16(b), N: s.counts[b]})
			s.counts[b] = 0
		}
	}
	return dst
}
