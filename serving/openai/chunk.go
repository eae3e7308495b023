package openai

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Kind says what an event of a vendor's answer carries. An event may carry several things.
type Kind uint8

// The kinds.
const (
	// HasContent: text, reasoning, a tool call or another part of the answer itself; after it no arm may be switched. An
	// answer that ended because of its length or a filter counts too: it is an answer, if an empty one (IsEmpty).
	HasContent Kind = 1 << iota
	// HasUsage: a usage object that is not null.
	HasUsage
	// HasFinish: a finish_reason that is not null.
	HasFinish
	// HasError: an error instead of, or in the middle of, an answer.
	HasError
	// IsDone: the end of the answer: the [DONE] event, or the one event of an answer that is not streamed.
	IsDone
	// IsEmpty: it has content by its end alone, and no text of it.
	IsEmpty
)

// Has reports whether k has all of what.
func (k Kind) Has(what Kind) bool { return k&what == what }

// Chunk is one event of an answer, a chat.completion.chunk or a whole chat.completion, and where its parts lie in Data.
// An event of another dialect has a Name where that has names, and its usage in Counted.
type Chunk struct {
	Data    []byte
	Kind    Kind
	Name    string
	Counted Usage
	// Said are the bytes of text in the event, as far as it is plainly text; 0 where it has another form.
	Said int

	// counted says that Counted was read from the usage, and mute that there is a usage which says nothing.
	counted, mute      bool
	id, created, model span
	choices, usage     span
	err                span
}

// Usage is the usage that the event carries, if any.
func (c *Chunk) Usage() Usage {
	if c.usage.there() && !c.counted {
		c.Counted, c.counted = ParseUsage(c.usage.of(c.Data)), true
	}
	return c.Counted
}

// ErrorObject is the event's error as the vendor wrote it, nil when there is none.
func (c *Chunk) ErrorObject() []byte {
	if !c.err.there() {
		return nil
	}
	return c.err.of(c.Data)
}

// ParseChunk reads an event's payload in one pass and keeps data. What is not a JSON object is an error.
func ParseChunk(data []byte) (Chunk, error) {
	c := Chunk{Data: data}
	if string(data) == "[DONE]" {
		c.Kind = IsDone
		return c, nil
	}
	if !utf8.Valid(data) {
		return c, errors.New("openai: event is not UTF-8")
	}
	s := &scanner{b: data, depthMax: DepthMax}
	if err := s.document(func() error { return c.top(s) }); err != nil {
		return c, fmt.Errorf("openai: event is not a JSON object: %w", err)
	}
	if c.usage.there() {
		c.Kind |= HasUsage
	}
	if c.err.there() {
		c.Kind |= HasError
	}
	if c.Kind.Has(HasContent) {
		c.Kind &^= IsEmpty
	} else if c.Kind.Has(IsEmpty) {
		c.Kind |= HasContent
	}
	return c, nil
}

func (c *Chunk) top(s *scanner) error {
	return s.walk(false, func(key []byte) (err error) {
		switch string(key) {
		case "id":
			c.id, err = s.value()
		case "created":
			c.created, err = s.value()
		case "model":
			c.model, err = s.value()
		case "usage":
			var v span
			if v, err = s.value(); err == nil && v.isObject(s.b) {
				c.usage = v
			} else {
				c.mute = true
			}
		case "error":
			var v span
			if v, err = s.value(); err == nil && !v.isNull(s.b) {
				c.err = v
			}
		case "data": // of embeddings
			var v span
			if v, err = s.value(); err == nil && nonEmpty(s.b, v) {
				c.Kind |= HasContent
			}
		case "choices":
			c.choices.from = s.i
			if !s.at('[') {
				return s.skip()
			}
			err = s.elements(func(int) error { return c.choice(s) })
			c.choices.to = s.i
		default:
			err = s.skip()
		}
		return err
	})
}

func (c *Chunk) choice(s *scanner) error {
	if !s.at('{') {
		return s.skip()
	}
	return s.walk(false, func(key []byte) error {
		switch string(key) {
		case "delta", "message":
			if s.at('{') {
				return c.delta(s)
			}
			return s.skip()
		case "finish_reason":
			v, err := s.value()
			if err == nil && nonEmpty(s.b, v) {
				switch c.Kind |= HasFinish; string(v.of(s.b)) {
				case `"length"`, `"content_filter"`:
					c.Kind |= IsEmpty // unless there is more
				}
			}
			return err
		case "text":
			v, err := s.value()
			if nonEmpty(s.b, v) {
				c.says(s.b, v)
			}
			return err
		case "usage": // Moonshot puts it here
			v, err := s.value()
			if err == nil && v.isObject(s.b) && !c.usage.there() {
				c.usage = v
			}
			return err
		}
		return s.skip()
	})
}

// delta takes any member that says something for content, apart from those known to be about the message and not of it:
// a vendor's new kind of content must not look like an empty answer.
func (c *Chunk) delta(s *scanner) error {
	return s.walk(false, func(key []byte) error {
		v, err := s.value()
		switch string(key) {
		case "role", "name", "annotations", "provider_specific_fields":
			return err
		}
		if err == nil && nonEmpty(s.b, v) {
			c.says(s.b, v)
		}
		return err
	})
}

// says notes content and, where it is text, how long it is: some write any character that is not ASCII as six bytes.
func (c *Chunk) says(b []byte, v span) {
	c.Kind |= HasContent
	if text := v.of(b); text[0] == '"' {
		c.Said += len(text) - 2 - 4*bytes.Count(text, []byte(`\u`))
	}
}
