package openai

import (
	"fmt"
	"strings"

	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// This file reads the conversation: roles and text for the router, bytes for the bound, and what the parts need.

func (r *Request) messages(s *scanner) error {
	if !s.at('[') {
		return s.wrong("messages", "an array")
	}
	err := s.elements(func(i int) error {
		if i >= MessagesMax {
			return badParam("messages", "must have at most %d entries", MessagesMax)
		}
		return r.message(s, i)
	})
	if err == nil && len(r.Prompt.Turns) == 0 {
		err = badParam("messages", "must not be empty")
	}
	return err
}

func (r *Request) message(s *scanner, i int) error {
	if !s.at('{') {
		return s.wrong(fmt.Sprintf("messages[%d]", i), "an object")
	}
	role, turn := "", features.Turn{}
	err := s.members(func(key []byte) (err error) {
		switch string(key) {
		case "role":
			role, err = s.text(fmt.Sprintf("messages[%d].role", i), NameMax)
		case "content":
			turn.Text, err = r.content(s, i)
		default:
			// Tool calls, names, reasoning of earlier turns: all of it may be input, none of it tells the task.
			r.special = true
			var v span
			v, err = s.value()
			r.bytesOfRest += int64(v.to - v.from)
		}
		return err
	})
	if err != nil {
		return err
	}
	switch role {
	case "":
		return badParam(fmt.Sprintf("messages[%d].role", i), "is missing")
	case "user":
		turn.Role = features.User
	case "assistant":
		turn.Role = features.Assistant
	case "tool", "function":
		turn.Role = features.Tool
	default: // system, developer, and roles that only one vendor has: never the user's own turn
		turn.Role = features.System
	}
	// What is plain: the system first, then the two others, and nobody says nothing.
	speaks := role == "user" || role == "assistant" || role == "system" && (i == 0 || r.Prompt.Turns[i-1].Role == features.System)
	if !speaks || turn.Text == "" {
		r.special = true
	}
	r.bytesOfText += int64(len(turn.Text))
	r.Prompt.Turns = append(r.Prompt.Turns, turn)
	return nil
}

func (r *Request) content(s *scanner, i int) (string, error) {
	switch {
	case s.null():
		return "", nil
	case s.at('"'):
		raw, _, err := s.str()
		if err != nil {
			return "", err
		}
		return unescape(raw), nil
	case !s.at('['):
		return "", s.wrong(fmt.Sprintf("messages[%d].content", i), "a string or an array of parts")
	}
	r.special = true
	var texts []string
	err := s.elements(func(j int) error {
		if j >= PartsMax {
			return badParam(fmt.Sprintf("messages[%d].content", i), "must have at most %d parts", PartsMax)
		}
		text, err := r.part(s, i, j)
		if text != "" {
			texts = append(texts, text)
		}
		return err
	})
	if len(texts) == 1 {
		return texts[0], err
	}
	return strings.Join(texts, "\n"), err
}

// part reads one part of a message and returns its text, if it has any. The type may stand behind the text.
func (r *Request) part(s *scanner, i, j int) (string, error) {
	param := func(name string) string { return fmt.Sprintf("messages[%d].content[%d]%s", i, j, name) }
	if !s.at('{') {
		return "", s.wrong(param(""), "an object")
	}
	from, kind, hasText, text := s.i, "", false, ""
	err := s.members(func(key []byte) (err error) {
		switch string(key) {
		case "type":
			kind, err = s.text(param(".type"), NameMax)
			return err
		case "text", "refusal":
			if !s.at('"') {
				break
			}
			var raw []byte
			if raw, _, err = s.str(); err == nil && !hasText {
				hasText, text = true, unescape(raw)
			}
			return err
		}
		return s.skip()
	})
	if err != nil {
		return "", err
	}
	switch kind {
	case "":
		return "", badParam(param(".type"), "is missing")
	case "text", "input_text", "output_text", "refusal":
		if !hasText {
			return "", badParam(param(".text"), "must be a string")
		}
		// What else the part holds (annotations, cache marks) is counted as it stands.
		r.bytesOfRest += max(int64(s.i-from-len(text)), 0)
		return text, nil
	case "image_url", "input_image", "image":
		r.Needs |= catalog.Vision
		r.Prompt.Attachments++
	case "input_audio", "audio":
		r.Needs |= catalog.AudioInput
		r.Prompt.Attachments++
	case "file", "input_file", "document":
		r.Needs |= catalog.PDF
		r.Prompt.Attachments++
	case "thinking", "reasoning":
		r.bytesOfRest += int64(s.i - from)
	default: // a kind of part that we do not know has no bound that we could know
		r.Prompt.Attachments++
		r.bytesOfRest += int64(s.i - from)
	}
	return "", nil
}
