package openai

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// This file hands parts of a body to those who say in another dialect what it says. They get the bytes as they stand,
// one level at a time, so that a body of many small values costs no more memory than it is long.

// Dialect is a form in which clients ask and vendors answer.
type Dialect string

// The dialects. Chat is the one that every arm can be asked in.
const (
	Chat      Dialect = "chat"
	Messages  Dialect = "messages"
	Responses Dialect = "responses"
	// These two are passed through, to vendors that speak them too.
	Completions Dialect = "completions"
	Embeddings  Dialect = "embeddings"
)

// Value is one JSON value as it stands in a text that was found to be valid. Nil is a value that is not there.
type Value []byte

// Field is a member of an object.
type Field struct {
	Name  string
	Value Value
}

// Fields are the members of an object, in their order.
type Fields []Field

// Get is the value of a field, nil where it is not there or null.
func (f Fields) Get(name string) Value {
	for i := range f {
		if f[i].Name == name {
			if f[i].Value.null() {
				return nil
			}
			return f[i].Value
		}
	}
	return nil
}

// ParseValue checks that text is one JSON value within the limits and returns it. Every failure is an *Error.
func ParseValue(text []byte, o DecodeOptions) (Value, error) {
	if err := o.admit(text); err != nil {
		return nil, err
	}
	var v span
	s := &scanner{b: text, depthMax: o.DepthMax}
	err := s.document(func() (err error) {
		v, err = s.value()
		return err
	})
	if err != nil {
		return nil, notJSON(err)
	}
	return v.of(text), nil
}

// ParseFields checks that text is one JSON object within the limits and returns its fields. Every failure is an *Error.
func ParseFields(text []byte, o DecodeOptions) (Fields, error) {
	v, err := ParseValue(text, o)
	if err != nil {
		return nil, err
	}
	if !v.IsObject() {
		return nil, NewError(InvalidRequest, "the body must be a JSON object")
	}
	return v.Fields("the body")
}

// Unread are the names of the fields that are none of known and say nothing of routing.
func (f Fields) Unread(known []string) []string {
	var names []string
	for i := range f {
		if !slices.Contains(known, f[i].Name) && !IsRouting(f[i].Name) {
			names = append(names, f[i].Name)
		}
	}
	return names
}

// notJSON makes an *Error of what a scanner says.
func notJSON(err error) error {
	var bad *syntaxError
	if errors.As(err, &bad) {
		return NewError(InvalidRequest, "the body is not a valid JSON object: %v", bad)
	}
	return err
}

// Fields reads an object and refuses duplicate keys. The param names it in the error.
func (v Value) Fields(param string) (Fields, error) {
	s := &scanner{b: v, depthMax: DepthMax + 1}
	if !s.at('{') {
		return nil, s.wrong(param, "an object")
	}
	fields := make(Fields, 0, 8)
	err := s.members(func(key []byte) error {
		at, err := s.value()
		fields = append(fields, Field{string(key), at.of(v)})
		return err
	})
	if err != nil {
		return nil, notJSON(err)
	}
	return fields, nil
}

// Elements reads an array of at most PartsMax values.
func (v Value) Elements(param string, fn func(i int, v Value) error) error {
	s := &scanner{b: v, depthMax: DepthMax + 1}
	if !s.at('[') {
		return s.wrong(param, "an array")
	}
	return s.elements(func(i int) error {
		if i >= MessagesMax {
			return BadParam(param, "must have at most %d entries", MessagesMax)
		}
		at, err := s.value()
		if err != nil {
			return err
		}
		return fn(i, at.of(v))
	})
}

// Text reads a string.
func (v Value) Text(param string) (string, error) {
	s := &scanner{b: v, depthMax: DepthMax}
	return s.text(param, len(v))
}

// Integer reads an integer.
func (v Value) Integer(param string, low, high int) (int, error) {
	s := &scanner{b: v, depthMax: DepthMax}
	return s.integer(param, low, high)
}

// Bool reads a boolean.
func (v Value) Bool(param string) (bool, error) {
	s := &scanner{b: v, depthMax: DepthMax}
	return s.boolean(param)
}

// IsText reports whether the value is a string.
func (v Value) IsText() bool { return len(v) > 0 && v[0] == '"' }

// IsObject reports whether the value is an object.
func (v Value) IsObject() bool { return len(v) > 0 && v[0] == '{' }

// IsArray reports whether the value is an array.
func (v Value) IsArray() bool { return len(v) > 0 && v[0] == '[' }

// Empty reports whether the value says nothing: it is not there, null, false, zero, or without content.
func (v Value) Empty() bool {
	if len(v) == 0 || v.null() || string(v) == "false" {
		return true
	}
	switch v[0] {
	case '"':
		return len(v) == 2
	case '{', '[':
		return len(bytes.TrimSpace(v[1:len(v)-1])) == 0
	}
	n, err := strconv.ParseFloat(string(v), 64)
	return err == nil && n == 0
}

func (v Value) null() bool { return string(v) == "null" }

// AppendText appends s as a JSON string.
func AppendText(dst []byte, s string) []byte { return appendText(dst, s) }

// AppendReplaced appends an object with the value of one member replaced, or added where it had none.
func AppendReplaced(dst []byte, object Value, name string, with []byte) []byte {
	s := &scanner{b: object, depthMax: DepthMax + 1}
	start, done := len(dst), false
	dst = append(dst, '{')
	err := s.walk(false, func(key []byte) error {
		from := s.key.from
		at, err := s.value()
		if string(key) != name {
			dst = append(append(dst, object[from:at.to]...), ',')
		} else if !done {
			dst, done = append(append(append(appendText(dst, name), ':'), with...), ','), true
		}
		return err
	})
	if err != nil { // it was checked before
		return append(dst[:start], object...)
	}
	if !done {
		dst = append(append(append(appendText(dst, name), ':'), with...), ',')
	}
	dst[len(dst)-1] = '}'
	return dst
}

// BadParam is the refusal of one field of a request.
func BadParam(param, format string, args ...any) *Error { return badParam(param, format, args...) }

// IsRouting reports whether a field of a body is about routing; such fields are the same in every dialect and never
// reach a vendor.
func IsRouting(name string) bool {
	for f := fTradewind; int(f) < len(fieldNames); f++ {
		if fieldNames[f] == name {
			return true
		}
	}
	return false
}

// CheckName refuses a key that differs from one of the names only in case: a vendor that reads keys without regard to
// case would obey it where we did not. So it does one that was meant to be "tradewind".
func CheckName(key string, names []string) error {
	for _, name := range names {
		if key != name && bytes.EqualFold([]byte(key), []byte(name)) {
			return badParam(name, "must be spelled in lower case (%.64q was sent)", key)
		}
	}
	return misspelled([]byte(key))
}

// Path is the name of an element, as errors say it: Path("messages", 2, "content") is messages[2].content.
func Path(array string, i int, field string) string {
	if field == "" {
		return fmt.Sprintf("%s[%d]", array, i)
	}
	return fmt.Sprintf("%s[%d].%s", array, i, field)
}

// Raw is the value of one of OpenAI's own fields as it was sent, nil where the request does not have it.
func (r *Request) Raw(name string) []byte {
	for _, m := range r.members {
		if m.field != fOther && fieldNames[m.field] == name {
			return m.value.of(r.body)
		}
	}
	return nil
}

// Sent is the value of a member that Decode does not read, as it was sent; nil where the request does not have it.
func (r *Request) Sent(name string) []byte {
	for _, m := range r.members {
		if m.field == fOther && string(m.key.of(r.body)) == `"`+name+`"` {
			return m.value.of(r.body)
		}
	}
	return nil
}
