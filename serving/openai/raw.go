package openai

// Raw is the value of one of OpenAI's own fields as it was sent, nil where the request does not have it.
func (r *Request) Raw(name string) []byte {
	for _, m := range r.members {
		if m.field != fOther && fieldNames[m.field] == name {
			return m.value.of(r.body)
		}
	}
	return nil
}
