package openai

import "strings"

// This file reads metadata.tags, by which LiteLLM's clients tag a request. Metadata is the client's own and the vendor's to judge:
// what is no list of tags stays where it is, and is no error.

// metadata reads the client's metadata, of which only tags are for us.
func (r *Request) metadata(s *scanner) error {
	if !s.at('{') {
		return s.wrong("metadata", "an object")
	}
	return s.members(func(key []byte) error {
		v, err := s.value()
		if err == nil && string(key) == metadataTags {
			r.metadataTags = tagsIn(v.of(s.b))
		}
		return err
	})
}

const metadataTags = "tags"

// tagsIn reads tags: an object of strings, a list of "key=value", "key:value" or "key" alone, which is then true, or such a list
// as text with commas. It is nil where the value is none of these.
func tagsIn(v Value) map[string]string {
	tags := map[string]string{}
	add := func(key string, v Value) error {
		text, err := v.Text(key)
		if err == nil {
			err = addTag(tags, key, key, text)
		}
		return err
	}
	var err error
	switch {
	case v.IsObject():
		var fields Fields
		fields, err = v.Fields(metadataTags)
		for i := 0; err == nil && i < len(fields); i++ {
			err = add(fields[i].Name, fields[i].Value)
		}
	case v.IsArray():
		err = v.Elements(metadataTags, func(_ int, v Value) error {
			tag, err := v.Text(metadataTags)
			if err == nil {
				err = addPair(tags, tag)
			}
			return err
		})
	case v.IsText():
		var list string
		list, err = v.Text(metadataTags)
		for tag := range strings.SplitSeq(list, ",") {
			if err == nil {
				err = addPair(tags, strings.TrimSpace(tag))
			}
		}
	}
	if err != nil || len(tags) == 0 {
		return nil
	}
	return tags
}

func addPair(tags map[string]string, tag string) error {
	key, value := tag, "true"
	if i := strings.IndexAny(tag, "=:"); i >= 0 {
		key, value = tag[:i], tag[i+1:]
	}
	return addTag(tags, metadataTags, key, value)
}

// Tagged are the tags that metadata has, as they stand there; nil where it has none.
func Tagged(metadata Value) Value {
	fields, err := metadata.Fields("metadata")
	if v := fields.Get(metadataTags); err == nil && tagsIn(v) != nil {
		return v
	}
	return nil
}

// AppendTags appends the tags of metadata to a chat request, as a member with its comma.
func AppendTags(dst []byte, metadata Value) []byte {
	if tags := Tagged(metadata); tags != nil {
		dst = append(append(append(dst, `"metadata":{"`+metadataTags+`":`...), tags...), `},`...)
	}
	return dst
}

// appendMetadata appends metadata without its tags, as a member with its comma, or nothing where it has nothing else.
func appendMetadata(dst []byte, metadata Value) []byte {
	fields, err := metadata.Fields("metadata")
	if err != nil || len(fields) <= 1 { // it was read before
		return dst
	}
	dst = append(dst, `"metadata":{`...)
	for _, f := range fields {
		if f.Name != metadataTags {
			dst = append(append(append(appendText(dst, f.Name), ':'), f.Value...), ',')
		}
	}
	dst[len(dst)-1] = '}'
	return append(dst, ',')
}
