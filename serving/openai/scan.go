package openai

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// keysMax bounds the members of one object that is checked for duplicate keys; the check is quadratic.
const keysMax = 256

// span is a range of bytes in the text that was scanned. The zero span is "not there".
type span struct{ from, to int }

func (s span) there() bool            { return s.to > 0 }
func (s span) of(b []byte) []byte     { return b[s.from:s.to] }
func (s span) isNull(b []byte) bool   { return s.to-s.from == 4 && b[s.from] == 'n' }
func (s span) isObject(b []byte) bool { return s.there() && b[s.from] == '{' }

// syntaxError says where JSON text goes wrong.
type syntaxError struct {
	offset int
	what   string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.what, e.offset) }

// scanner walks JSON text once, from left to right, and never goes back. It accepts nothing that encoding/json refuses.
// Its methods leave i on the first byte after what they read.
type scanner struct {
	b        []byte
	i        int
	depth    int
	depthMax int
	// key is where the key of the member now handed to a callback lies, quotes included.
	key span
	// keys holds the keys of the open objects that are checked for duplicates, innermost last.
	keys [][]byte
}

func (s *scanner) fail(what string) error {
	if s.i >= len(s.b) {
		what = "unexpected end"
	}
	return &syntaxError{s.i, what}
}

func (s *scanner) at(c byte) bool { return s.i < len(s.b) && s.b[s.i] == c }

func (s *scanner) ws() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\n', '\t', '\r':
			s.i++
		default:
			return
		}
	}
}

// document reads one value that must fill the whole text.
func (s *scanner) document(value func() error) error {
	s.ws()
	if err := value(); err != nil {
		return err
	}
	if s.ws(); s.i < len(s.b) {
		return s.fail("text after the end of the JSON value")
	}
	return nil
}

const ones, highs = 0x0101010101010101, 0x8080808080808080

// special has the high bit of a byte set where w holds a quote, a backslash or a control character. Bits above the
// lowest one may be false alarms; the lowest never is.
func special(w uint64) uint64 {
	q, e := w^(ones*'"'), w^(ones*'\\')
	return ((q-ones)&^q | (e-ones)&^e | (w-ones*0x20)&^w) & highs
}

// str reads the string that starts at i and returns what stands between its quotes, escapes left as they are.
func (s *scanner) str() (raw []byte, escaped bool, err error) {
	b, from := s.b, s.i+1
	for i := from; ; {
		for i+8 <= len(b) {
			if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
			i++
		}
		if s.i = i; i >= len(b) || b[i] < 0x20 {
			return nil, false, s.fail("control character in a string")
		}
		if b[i] == '"' {
			s.i++
			return b[from:i], escaped, nil
		}
		n := escapeLen(b[i:])
		if n == 0 {
			return nil, false, s.fail("invalid escape in a string")
		}
		i, escaped = i+n, true
	}
}

// escapeLen is the length of the escape at the start of b, or 0 where it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) >= 6 && hex4(b[2:6]) >= 0 {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}

// unescape is the text of a valid raw string. Half surrogates become U+FFFD, as in encoding/json.
func unescape(raw []byte) string {
	i := bytes.IndexByte(raw, '\\')
	if i < 0 {
		return string(raw)
	}
	var out strings.Builder
	out.Grow(len(raw))
	for ; i >= 0; i = bytes.IndexByte(raw, '\\') {
		out.Write(raw[:i])
		c := raw[i+1]
		if c != 'u' {
			out.WriteByte(unescaped[c])
			raw = raw[i+2:]
			continue
		}
		r := hex4(raw[i+2:])
		raw = raw[i+6:]
		if utf16.IsSurrogate(r) {
			low := rune(utf8.RuneError)
			if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
				low = hex4(raw[2:])
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				raw = raw[6:]
			}
		}
		out.WriteRune(r)
	}
	out.Write(raw)
	return out.String()
}

var unescaped = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// number reads a number by the grammar of RFC 8259.
func (s *scanner) number() error {
	if s.at('-') {
		s.i++
	}
	switch {
	case s.at('0'):
		s.i++
	case !s.digits():
		return s.fail("invalid number")
	}
	if s.at('.') {
		if s.i++; !s.digits() {
			return s.fail("invalid number")
		}
	}
	if s.at('e') || s.at('E') {
		if s.i++; s.at('+') || s.at('-') {
			s.i++
		}
		if !s.digits() {
			return s.fail("invalid number")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > from
}

func (s *scanner) literal(word string) error {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return s.fail("invalid literal")
	}
	s.i += len(word)
	return nil
}

// skip reads any value and checks its syntax.
func (s *scanner) skip() error {
	if s.i >= len(s.b) {
		return s.fail("")
	}
	switch c := s.b[s.i]; c {
	case '"':
		_, _, err := s.str()
		return err
	case '{':
		return s.walk(false, func([]byte) error { return s.skip() })
	case '[':
		return s.elements(func(int) error { return s.skip() })
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		if c != '-' && (c < '0' || c > '9') {
			return s.fail("unexpected character")
		}
		return s.number()
	}
}

// value reads any value and returns where it lies.
func (s *scanner) value() (span, error) {
	from := s.i
	err := s.skip()
	return span{from, s.i}, err
}

// members reads an object and refuses duplicate keys, compared as text and not as bytes ("a" is "\u0061"). The callback
// gets each key and must read the value.
func (s *scanner) members(fn func(key []byte) error) error { return s.walk(true, fn) }

func (s *scanner) walk(strict bool, fn func(key []byte) error) error {
	if err := s.open('{', "an object was expected"); err != nil {
		return err
	}
	base := len(s.keys)
	for n := 0; ; n++ {
		if s.ws(); n == 0 && s.at('}') {
			break
		}
		if !s.at('"') {
			return s.fail("a key was expected")
		}
		from := s.i
		key, escaped, err := s.str()
		if err != nil {
			return err
		}
		if strict {
			if key, err = s.unique(base, key, escaped); err != nil {
				return err
			}
		}
		at := span{from, s.i}
		if s.ws(); !s.at(':') {
			return s.fail("a colon was expected")
		}
		s.i++
		s.ws()
		s.key = at
		if err := fn(key); err != nil {
			return err
		}
		if s.ws(); !s.at(',') {
			break
		}
		s.i++
	}
	s.keys = s.keys[:base]
	return s.close('}')
}

// unique keeps the key and refuses one that the open object already has.
func (s *scanner) unique(base int, key []byte, escaped bool) ([]byte, error) {
	if escaped {
		key = []byte(unescape(key))
	}
	if len(s.keys)-base >= keysMax {
		return nil, s.fail("too many members in an object")
	}
	for _, k := range s.keys[base:] {
		if bytes.Equal(k, key) {
			return nil, s.fail(fmt.Sprintf("duplicate key %.64q", key))
		}
	}
	s.keys = append(s.keys, key)
	return key, nil
}

// elements reads an array. The callback gets each index and must read the value.
func (s *scanner) elements(fn func(i int) error) error {
	if err := s.open('[', "an array was expected"); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if s.ws(); n == 0 && s.at(']') {
			break
		}
		if err := fn(n); err != nil {
			return err
		}
		if s.ws(); !s.at(',') {
			break
		}
		s.i++
	}
	return s.close(']')
}

func (s *scanner) open(c byte, what string) error {
	if !s.at(c) {
		return s.fail(what)
	}
	if s.depth++; s.depth > s.depthMax {
		return s.fail("nesting too deep")
	}
	s.i++
	return nil
}

func (s *scanner) close(c byte) error {
	if !s.at(c) {
		return s.fail("a comma or the end of the object or array was expected")
	}
	s.depth--
	s.i++
	return nil
}

// nonEmpty reports whether the value at v says something: a string, array or object that holds anything.
func nonEmpty(b []byte, v span) bool {
	if !v.there() || v.to-v.from <= 2 {
		return false
	}
	switch b[v.from] {
	case '"':
		return true
	case '[', '{':
		return len(bytes.TrimSpace(b[v.from+1:v.to-1])) > 0
	}
	return false
}
