package chatform

import (
	"strconv"
	"strings"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// This file says answers in chat.

// Piece is something that an answer says.
type Piece struct {
	// Choice is the number of the answer, where several were asked for.
	Choice int
	// Text and Thought are JSON strings, nil where there is none.
	Text, Thought openai.Value
	Call          *CallPiece
	// Details is a list of signed thoughts, in OpenRouter's form, nil where there is none.
	Details []byte
}

// CallPiece begins a call, or goes on with its arguments where it has no ID.
type CallPiece struct {
	Index     int
	ID, Name  string
	Arguments string
	// Signature is Google's, a JSON string; nil where there is none.
	Signature openai.Value
}

// Writer says the pieces of one answer in chat.
type Writer struct {
	ID, Model string
	// Created is the time of the answer in seconds.
	Created int64
	// OneCall leaves out every call but the first of a choice, for clients that want one at a time.
	OneCall bool

	// begun are the choices that have said who speaks.
	begun []bool
}

func (w *Writer) head(dst []byte, object string) []byte {
	dst = openai.AppendText(append(dst, `{"id":`...), w.ID)
	dst = openai.AppendText(append(dst, `,"object":`...), object)
	dst = strconv.AppendInt(append(dst, `,"created":`...), w.Created, 10)
	return openai.AppendText(append(dst, `,"model":`...), w.Model)
}

// Start says who speaks in a choice, once.
func (w *Writer) Start(dst []openai.Chunk, choice int) []openai.Chunk {
	for len(w.begun) <= choice {
		w.begun = append(w.begun, false)
	}
	if w.begun[choice] {
		return dst
	}
	w.begun[choice] = true
	return append(dst, w.chunk(choice, []byte(`{"role":"assistant","content":""}`), ""))
}

// Piece appends the events that say a piece of a stream.
func (w *Writer) Piece(dst []openai.Chunk, p *Piece) []openai.Chunk {
	delta := []byte{'{'}
	if !p.Text.Empty() {
		delta = append(append(append(delta, `"content":`...), p.Text...), ',')
	}
	if !p.Thought.Empty() {
		delta = append(append(append(delta, `"reasoning_content":`...), p.Thought...), ',')
	}
	if p.Details != nil {
		delta = append(append(append(delta, `"reasoning_details":`...), p.Details...), ',')
	}
	if p.Call != nil && !(w.OneCall && p.Call.Index > 0) {
		delta = append(p.Call.append(append(delta, `"tool_calls":[`...), true), `],`...)
	}
	if len(delta) == 1 {
		return dst
	}
	delta[len(delta)-1] = '}'
	return append(w.Start(dst, p.Choice), w.chunk(p.Choice, delta, ""))
}

func (c *CallPiece) append(dst []byte, stream bool) []byte {
	dst = append(dst, '{')
	if stream {
		dst = append(strconv.AppendInt(append(dst, `"index":`...), int64(c.Index), 10), ',')
	}
	if c.ID != "" {
		dst = openai.AppendText(append(dst, `"id":`...), c.ID)
		dst = openai.AppendText(append(dst, `,"type":"function","function":{"name":`...), c.Name)
		dst = append(dst, ',')
	} else {
		dst = append(dst, `"function":{`...)
	}
	dst = append(openai.AppendText(append(dst, `"arguments":`...), c.Arguments), '}')
	if c.Signature != nil {
		dst = append(append(append(dst, `,"extra_content":{"google":{"thought_signature":`...), c.Signature...), '}', '}')
	}
	return append(dst, '}')
}

// Finish appends the event that says why a choice ended.
func (w *Writer) Finish(dst []openai.Chunk, choice int, reason string) []openai.Chunk {
	return append(w.Start(dst, choice), w.chunk(choice, []byte(`{}`), reason))
}

// chunk is one chunk of a stream.
func (w *Writer) chunk(choice int, delta []byte, finish string) openai.Chunk {
	data := append(w.head(make([]byte, 0, len(delta)+len(w.ID)+len(w.Model)+160), "chat.completion.chunk"), `,"choices":[{"index":`...)
	data = append(strconv.AppendInt(data, int64(choice), 10), `,"delta":`...)
	data = append(append(data, delta...), `,"finish_reason":`...)
	if finish == "" {
		data = append(data, "null"...)
	} else {
		data = openai.AppendText(data, finish)
	}
	return parsed(append(data, `}]}`...))
}

// parsed reads what this package has written, which is valid by its making.
func parsed(data []byte) openai.Chunk {
	c, err := openai.ParseChunk(data)
	if err != nil {
		return openai.Chunk{Data: data}
	}
	return c
}

// End appends the events that end a stream: what it used, where that is known, and the mark of its end.
func (w *Writer) End(dst []openai.Chunk, u openai.Usage) []openai.Chunk {
	if u.Known {
		data := append(w.head(nil, "chat.completion.chunk"), `,"choices":[],"usage":`...)
		dst = append(dst, parsed(append(appendUsage(data, u), '}')))
	}
	return append(dst, openai.Chunk{Data: []byte("[DONE]"), Kind: openai.IsDone})
}

// appendUsage appends a usage object of chat. Counts of 0 that not every vendor has are left out.
func appendUsage(dst []byte, u openai.Usage) []byte {
	dst = strconv.AppendInt(append(dst, `{"prompt_tokens":`...), u.Input, 10)
	dst = strconv.AppendInt(append(dst, `,"completion_tokens":`...), u.Output, 10)
	dst = strconv.AppendInt(append(dst, `,"total_tokens":`...), u.Input+u.Output, 10)
	dst = strconv.AppendInt(append(dst, `,"prompt_tokens_details":{"cached_tokens":`...), u.CacheRead, 10)
	dst = appendCount(dst, `,"cache_write_tokens":`, u.CacheWrite)
	dst = appendCount(dst, `,"audio_tokens":`, u.AudioInput)
	dst = append(appendCount(dst, `,"image_tokens":`, u.ImageInput), '}')
	if u.CacheWrite1h > 0 {
		dst = append(appendCount(dst, `,"cache_creation":{"ephemeral_1h_input_tokens":`, u.CacheWrite1h), '}')
	}
	dst = strconv.AppendInt(append(dst, `,"completion_tokens_details":{"reasoning_tokens":`...), u.Reasoning, 10)
	return append(appendCount(dst, `,"audio_tokens":`, u.AudioOutput), '}', '}')
}

func appendCount(dst []byte, name string, n int64) []byte {
	if n == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, name...), n, 10)
}

// Whole gathers the pieces of an answer that is not streamed.
type Whole struct {
	// OneCall is that of a Writer.
	OneCall bool

	choices []message
}

type message struct {
	text, thought  strings.Builder
	calls, details []byte
	called         bool
	finish         string
}

func (a *Whole) at(choice int) *message {
	for len(a.choices) <= choice {
		a.choices = append(a.choices, message{})
	}
	return &a.choices[choice]
}

// Add takes a piece. A call must be whole.
func (a *Whole) Add(p *Piece) {
	m := a.at(p.Choice)
	if text, err := p.Text.Text(""); err == nil {
		m.text.WriteString(text)
	}
	if text, err := p.Thought.Text(""); err == nil {
		m.thought.WriteString(text)
	}
	if len(p.Details) > 2 { // the brackets of two lists become one
		if m.details = append(m.details, ','); len(m.details) == 1 {
			m.details[0] = '['
		}
		m.details = append(m.details, p.Details[1:len(p.Details)-1]...)
	}
	if p.Call != nil && !(a.OneCall && p.Call.Index > 0) {
		if m.calls = append(m.calls, ','); len(m.calls) == 1 {
			m.calls[0] = '['
		}
		m.calls, m.called = p.Call.append(m.calls, false), true
	}
}

// Finish notes why a choice ended.
func (a *Whole) Finish(choice int, reason string) { a.at(choice).finish = reason }

// Answer is the answer in chat.
func (a *Whole) Answer(w *Writer, u openai.Usage) openai.Chunk {
	data := append(w.head(nil, "chat.completion"), `,"choices":[`...)
	for i := range a.choices {
		m := &a.choices[i]
		if i > 0 {
			data = append(data, ',')
		}
		data = append(strconv.AppendInt(append(data, `{"index":`...), int64(i), 10), `,"message":{"role":"assistant","content":`...)
		if m.text.Len() == 0 && m.called {
			data = append(data, "null"...)
		} else {
			data = openai.AppendText(data, m.text.String())
		}
		if m.thought.Len() > 0 {
			data = openai.AppendText(append(data, `,"reasoning_content":`...), m.thought.String())
		}
		if m.details != nil {
			data = append(append(append(data, `,"reasoning_details":`...), m.details...), ']')
		}
		if m.called {
			data = append(append(append(data, `,"tool_calls":`...), m.calls...), ']')
		}
		data = append(openai.AppendText(append(data, `},"finish_reason":`...), m.finish), '}')
	}
	data = append(data, ']')
	if u.Known {
		data = appendUsage(append(data, `,"usage":`...), u)
	}
	c := parsed(append(data, '}'))
	c.Kind |= openai.IsDone
	return c
}
