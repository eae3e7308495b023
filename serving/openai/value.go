package openai

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// This file reads single values of the types that the request's fields have. Every wrong type is an *Error that names
// the field; null is absent wherever OpenAI's own API allows it.

// wrong is the refusal of the value at i.
func (s *scanner) wrong(param, want string) error {
	got := "nothing"
	if s.i < len(s.b) {
		switch s.b[s.i] {
		case '"':
			got = "a string"
		case '{':
			got = "an object"
		case '[':
			got = "an array"
		case 't', 'f':
			got = "a boolean"
		case 'n':
			got = "null"
		default:
			got = "a number"
		}
	}
	return badParam(param, "must be %s, not %s", want, got)
}

// null reads a null if there is one.
func (s *scanner) null() bool {
	if s.at('n') && s.literal("null") == nil {
		return true
	}
	return false
}

// text reads a string of at most limit bytes.
func (s *scanner) text(param string, limit int) (string, error) {
	if !s.at('"') {
		return "", s.wrong(param, "a string")
	}
	raw, _, err := s.str()
	if err != nil {
		return "", err
	}
	if len(raw) > limit {
		return "", badParam(param, "must be at most %d bytes long", limit)
	}
	return unescape(raw), nil
}

func (s *scanner) boolean(param string) (bool, error) {
	switch {
	case s.at('t'):
		return true, s.literal("true")
	case s.at('f'):
		return false, s.literal("false")
	}
	return false, s.wrong(param, "a boolean")
}

func (s *scanner) choice(param string) (Choice, error) {
	yes, err := s.boolean(param)
	if err != nil {
		return Unset, err
	}
	return choose(yes), nil
}

func (s *scanner) raw(param, want string) (string, error) {
	if s.i >= len(s.b) || s.b[s.i] != '-' && (s.b[s.i] < '0' || s.b[s.i] > '9') {
		return "", s.wrong(param, want)
	}
	from := s.i
	err := s.number()
	return string(s.b[from:s.i]), err
}

func (s *scanner) integer(param string, low, high int) (int, error) {
	lit, err := s.raw(param, "an integer")
	if err != nil {
		return 0, err
	}
	return parseInteger(param, lit, low, high)
}

func (s *scanner) real(param string) (string, error) { return s.raw(param, "a number") }

// texts reads a list of strings.
func (s *scanner) texts(param string) ([]string, error) {
	if !s.at('[') {
		return nil, s.wrong(param, "an array of strings")
	}
	var out []string
	err := s.elements(func(i int) error {
		if i >= ListMax {
			return badParam(param, "must have at most %d entries", ListMax)
		}
		at := fmt.Sprintf("%s[%d]", param, i)
		v, err := s.text(at, NameMax)
		if err == nil && v == "" {
			err = badParam(at, "must not be empty")
		}
		out = append(out, v)
		return err
	})
	return out, err
}

// someTexts reads a list of what is allowed. An empty one would allow nothing, which nobody asks for.
func (s *scanner) someTexts(param string) ([]string, error) {
	list, err := s.texts(param)
	if err == nil && len(list) == 0 {
		err = badParam(param, "must not be empty")
	}
	return list, err
}

func parseInteger(param, lit string, low, high int) (int, error) {
	n, err := strconv.Atoi(lit)
	if err != nil || n < low || n > high {
		return 0, badParam(param, "must be an integer from %d to %d", low, high)
	}
	return n, nil
}

// parseShare reads a number in [0,1].
func parseShare(param, lit string) (float64, error) {
	v, err := strconv.ParseFloat(lit, 64)
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, badParam(param, "must be a number from 0 to 1")
	}
	return v, nil
}

// parseCap reads a positive amount of dollars. Zero is refused, since it would read as "no cap" further on.
func parseCap(param, lit string) (catalog.Nanodollars, error) {
	v, err := strconv.ParseFloat(lit, 64)
	if err == nil {
		var n catalog.Nanodollars
		if n, err = catalog.FromDollars(v); err == nil && n > 0 {
			return n, nil
		}
	}
	return 0, badParam(param, "must be an amount in US dollars above 0")
}

// appendText appends s as a JSON string.
func appendText(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // cannot happen: strings always marshal
				return append(dst, `""`...)
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
