package openai

import "slices"

// Spoken is a request that a client made in another dialect than chat: its own bytes, for vendors that speak the dialect,
// and the same in chat form, for routing and for all other vendors.
type Spoken struct {
	Dialect Dialect
	// Fields are the body's own, and CapField is the one of them that caps an answer's tokens.
	Fields   Fields
	CapField string
	// Known are the fields that the dialect has, for hints.
	Known []string
	// Chat is the request in chat form. Where chat cannot say all of it, it holds the rest as parts that no vendor knows,
	// so that its length is counted, and NativeOnly names the first field of those: only a vendor that speaks the dialect
	// may be asked. Of those fields Loose are the dispensable ones, which are not in Chat, and Needed is the first of the others.
	// ForeignOnly names the first field that a vendor of the dialect would refuse because it is another one's.
	Chat        []byte
	NativeOnly  string
	Loose       []string
	Needed      string
	ForeignOnly string
	// WiderOnly names the first field that Chat says in a form which vendors of chat do not take, and others that are asked
	// out of it may, such as an image that a tool answered.
	WiderOnly string
	// Stateful says that the request goes on from a state that the vendor keeps, whose length we do not know.
	Stateful bool
	// Nowhere says that no vendor can be asked, whatever it speaks, because of NativeOnly.
	Nowhere bool

	// marks are the places of Chat where a mark of a cache stands, in order.
	marks []span
}

// AppendMark appends the mark of a cache to Chat as it is written so far, as a further member of an object, and notes where:
// vendors of chat do not know it, and are not sent it.
func (s *Spoken) AppendMark(chat []byte, mark Value) []byte {
	if !mark.IsObject() {
		return chat
	}
	from := len(chat)
	chat = append(append(chat, `,"cache_control":`...), mark...)
	s.marks = append(s.marks, span{from, len(chat)})
	return chat
}

// Decode reads the chat form.
func (s *Spoken) Decode(o DecodeOptions) (*Request, error) {
	r, err := Decode(s.Chat, o)
	if err == nil {
		r.marks = s.marks
	}
	return r, err
}

// OnlyNative notes that chat cannot say a field.
func (s *Spoken) OnlyNative(field string) {
	if s.NativeOnly == "" {
		s.NativeOnly = field
	}
	switch {
	case Dispensable(field):
		s.Loose = append(s.Loose, field)
	case s.Needed == "":
		s.Needed = field
	}
}

// OnlyWider notes that vendors of chat would refuse a field as the chat form has it.
func (s *Spoken) OnlyWider(field string) {
	if s.WiderOnly == "" {
		s.WiderOnly = field
	}
}

// OnlyForeign notes that a vendor of the dialect would refuse a field.
func (s *Spoken) OnlyForeign(field string) {
	if s.ForeignOnly == "" {
		s.ForeignOnly = field
	}
}

// AppendUpstream appends the body for a vendor that speaks the dialect: the client's bytes with the model replaced, the
// fields about routing removed and the cap on output set. Every other value is copied byte for byte.
func (s *Spoken) AppendUpstream(dst []byte, u Upstream) []byte {
	dst = append(dst, '{')
	capped := false
	for _, f := range s.Fields {
		switch {
		case IsRouting(f.Name), slices.Contains(u.Drop, f.Name):
			continue
		case f.Name == "metadata" && Tagged(f.Value) != nil:
			dst = appendMetadata(dst, f.Value)
			continue
		case f.Name == "model":
			dst = appendText(append(dst, `"model":`...), u.Model)
		case f.Name == s.CapField && !f.Value.null():
			n, err := f.Value.Integer(f.Name, 1, OutputMax)
			if err != nil { // it was checked
				n = u.MaxOutput
			}
			dst, capped = appendCap(dst, s.CapField, u.limit(n)), true
			continue
		case f.Name == s.CapField:
			continue
		default:
			dst = append(append(appendText(dst, f.Name), ':'), f.Value...)
		}
		dst = append(dst, ',')
	}
	if !capped && u.MaxOutput > 0 {
		dst = appendCap(dst, s.CapField, u.MaxOutput)
	}
	dst[len(dst)-1] = '}'
	return dst
}
