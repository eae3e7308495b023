package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// chunkMax bounds what is folded at a time, so that memory does not grow with the text.
const chunkMax = 4 << 10

// class sorts the ASCII bytes, fold lower-cases them and turns controls into spaces.
const (
	space = iota
	letter
	mark
)

var class, fold = asciiTables()

func asciiTables() (class, fold [utf8.RuneSelf]byte) {
	for c := range byte(utf8.RuneSelf) {
		fold[c] = c
		switch {
		case c <= ' ' || c == 0x7f:
			class[c], fold[c] = space, ' '
		case 'A' <= c && c <= 'Z':
			class[c], fold[c] = letter, c+'a'-'A'
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			class[c] = letter
		default:
			class[c] = mark
		}
	}
	return class, fold
}

// Fold appends text to dst in the form that words are cut from: invalid bytes replaced by U+FFFD, format characters
// (zero-width, bidirectional) dropped, NFKC, lower case, every control and space a plain space. ASCII text keeps its
// length and costs no allocation beyond dst; other text may grow, at most elevenfold (U+FDFA).
func Fold(dst []byte, text string) []byte {
	at := len(dst)
	dst = append(dst, text...)
	for i, c := range dst[at:] {
		if c >= utf8.RuneSelf {
			return foldUnicode(dst[:at], text)
		}
		dst[at+i] = fold[c]
	}
	return dst
}

func foldUnicode(dst []byte, text string) []byte {
	at := len(dst)
	for _, r := range text { // an invalid byte arrives as U+FFFD
		if r < utf8.RuneSelf || !unicode.Is(unicode.Cf, r) {
			dst = utf8.AppendRune(dst, r)
		}
	}
	dst = compose(dst, at)
	// Composition first, since compatibility forms hide capitals; then once more, since small letters have
	// compositions that their capitals lack (h with a line below).
	src := string(dst[at:])
	dst = dst[:at]
	for _, r := range src {
		switch {
		case r < utf8.RuneSelf:
			dst = append(dst, fold[r])
		case r == 'İ': // the one letter whose small form is two runes; unicode.ToLower drops the dot
			dst = append(dst, "i\u0307"...)
		case unicode.IsSpace(r) || unicode.IsControl(r):
			dst = append(dst, ' ')
		default:
			dst = utf8.AppendRune(dst, unicode.ToLower(r))
		}
	}
	return compose(dst, at)
}

// compose brings dst[at:] into NFKC.
func compose(dst []byte, at int) []byte {
	if norm.NFKC.IsNormal(dst[at:]) {
		return dst
	}
	return append(dst[:at], norm.NFKC.Bytes(dst[at:])...)
}

// Next cuts the first word off folded text: a run of letters, digits and combining marks, or a single other character.
// Characters of scripts written without spaces (Han, Kana, Thai …) stand alone too. The word is empty at the end.
func Next(folded []byte) (word, rest []byte) {
	i := 0
	for i < len(folded) && folded[i] <= ' ' {
		i++
	}
	j := i
	for j < len(folded) {
		c, n := folded[j], 1
		if c < utf8.RuneSelf {
			if class[c] != letter {
				break
			}
		} else {
			var r rune
			if r, n = utf8.DecodeRune(folded[j:]); !joins(r) {
				break
			}
		}
		j += n
	}
	if j == i && i < len(folded) {
		_, n := utf8.DecodeRune(folded[i:])
		j += n
	}
	return folded[i:j], folded[j:]
}

// joins reports whether a rune beyond ASCII continues a word.
func joins(r rune) bool {
	if !unicode.In(r, unicode.L, unicode.N, unicode.M) {
		return false
	}
	return r < 0x0e00 || !unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao,
		unicode.Khmer, unicode.Myanmar)
}

// Normalize is the form of text that Decode gives back: its folded words with one space between them.
func Normalize(text string) string {
	var b strings.Builder
	eachWord(text, func(w []byte) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.Write(w)
	})
	return b.String()
}

// eachWord calls f for every word of text, in order, in memory that does not grow with it. f must not keep the word.
func eachWord(text string, f func(word []byte)) {
	var buf []byte
	for len(text) > 0 {
		chunk := text[:chunkEnd(text)]
		text = text[len(chunk):]
		buf = Fold(buf[:0], chunk)
		for w, rest := Next(buf); len(w) > 0; w, rest = Next(rest) {
			f(w)
		}
	}
}

// chunkEnd is where to cut a long text: after white space in the last quarter of the chunk, else before a rune.
func chunkEnd(text string) int {
	if len(text) <= chunkMax {
		return len(text)
	}
	if i := strings.LastIndexAny(text[chunkMax*3/4:chunkMax], " \n\t"); i >= 0 {
		return chunkMax*3/4 + i + 1
	}
	return Boundary(text, chunkMax)
}

// Boundary is the largest offset up to i at which a character of text begins, so that cutting there splits none. Bytes
// that form no character are cut anywhere.
func Boundary(text string, i int) int {
	for j := i; j >= 0 && j > i-utf8.UTFMax; j-- {
		if j == len(text) || utf8.RuneStart(text[j]) {
			return j
		}
	}
	return i
}
