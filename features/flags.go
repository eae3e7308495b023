package features

import (
	"math"
	"strings"
)

// NumFlags is the number of dense flags, AskFlags how many of them, the first, describe the last user turn alone.
const (
	NumFlags = 24
	AskFlags = 17
)

// The flags. Sizes and counts are ln(1 + n), shares are of the bytes that were read, switches are 0 or 1.
const (
	flagBytes = iota
	flagWords
	flagLines
	flagLongestLine
	flagLastLine
	flagDigits
	flagUpper
	flagNonASCII
	flagBackslashes
	flagDollars
	flagQuestion
	flagOptions
	flagCode
	flagOperators
	flagJSONTypes
	flagMeanWord
	flagBeforeTools
	flagTurns
	flagOtherBytes
	flagSystemBytes
	flagTools
	flagToolBytes
	flagJSONFormat
	flagAttachments
)

// FlagNames names the flags in the order of Context.Flags. It is part of the Spec: a changed meaning needs a changed
// name.
func FlagNames() [NumFlags]string {
	return [NumFlags]string{
		"log_bytes", "log_words", "log_lines", "log_longest_line", "log_last_line", "digit_share", "upper_share",
		"non_ascii_share", "log_backslashes", "log_dollars", "log_question_marks", "log_option_markers",
		"log_code_marks", "log_operators", "log_json_types", "mean_word_bytes", "log_bytes_before_tools",
		"log_turns", "log_other_bytes", "log_system_bytes", "log_tools", "log_tool_bytes", "json_format",
		"log_attachments",
	}
}

// The kinds of bytes that flags count; kindOther is every other one.
const (
	kindOther = iota
	kindDigit
	kindUpper
	kindHigh
	kindBackslash
	kindDollar
	kindQuestion
	kindCode
	kindOperator
	kindNewline
	numKinds
)

var kinds = kindTable()

func kindTable() (t [256]byte) {
	for c := '0'; c <= '9'; c++ {
		t[c] = kindDigit
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = kindUpper
	}
	for c := 0x80; c < len(t); c++ {
		t[c] = kindHigh
	}
	for _, c := range []byte("{}[];_`#") {
		t[c] = kindCode
	}
	for _, c := range []byte("+-*/=<>%^&|~") {
		t[c] = kindOperator
	}
	t['\\'], t['$'], t['?'], t['\n'] = kindBackslash, kindDollar, kindQuestion, kindNewline
	return t
}

// toolMarks begin a list of tools inside a prompt.
var toolMarks = [...]string{"Functions: ", "Tools: ", `[{"`, `{"name"`}

// log1p is ln(1 + n) of a count.
func log1p(n int) float32 { return float32(math.Log1p(float64(n))) }

// askFlags fills the flags of the last user turn: size is its length, head and tail the parts that are read, words
// and wordBytes what was found in them.
func askFlags(f *[NumFlags]float32, size int, head, tail string, words, wordBytes int) {
	var n [numKinds]int
	lines := lineStats{}
	for _, part := range [2]string{head, tail} {
		for i := 0; i < len(part); i++ {
			n[kinds[part[i]]&15]++
		}
		lines.add(part)
	}
	read := float32(max(len(head)+len(tail), 1))
	f[flagBytes] = log1p(size)
	f[flagWords] = log1p(words)
	f[flagLines] = log1p(lines.n)
	f[flagLongestLine] = log1p(lines.longest)
	f[flagLastLine] = log1p(lines.last)
	f[flagDigits] = float32(n[kindDigit]) / read
	f[flagUpper] = float32(n[kindUpper]) / read
	f[flagNonASCII] = float32(n[kindHigh]) / read
	f[flagBackslashes] = log1p(n[kindBackslash])
	f[flagDollars] = log1p(n[kindDollar])
	f[flagQuestion] = log1p(n[kindQuestion])
	f[flagOptions] = log1p(lines.options)
	f[flagCode] = log1p(n[kindCode])
	f[flagOperators] = log1p(n[kindOperator])
	f[flagJSONTypes] = log1p(strings.Count(head, `"type"`) + strings.Count(tail, `"type"`))
	f[flagMeanWord] = float32(wordBytes) / float32(max(words, 1))
	before := size
	for _, mark := range toolMarks {
		if i := strings.Index(head, mark); i >= 0 {
			before, head = i, head[:i]
		}
	}
	f[flagBeforeTools] = log1p(before)
}

// lineStats are the lines of a text, added part by part.
type lineStats struct{ n, longest, last, options int }

func (s *lineStats) add(part string) {
	for len(part) > 0 {
		line, rest, _ := strings.Cut(part, "\n")
		part = rest
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		s.n++
		s.longest, s.last = max(s.longest, len(line)), len(line)
		if isOption(line) {
			s.options++
		}
	}
}

// isOption reports whether a line looks like a choice of a multiple-choice question: "A. ", "(b) ", "3) ".
func isOption(line string) bool {
	line = strings.TrimPrefix(line, "(")
	if len(line) < 3 || line[1] != '.' && line[1] != ')' || line[2] != ' ' {
		return false
	}
	c := line[0] | 0x20
	return 'a' <= c && c <= 'j' || '0' <= c && c <= '9'
}

// conversationFlags fills the flags of everything but the last user turn; other is the length of all other turns.
func conversationFlags(f *[NumFlags]float32, p *Prompt, other int) {
	system := 0
	for i := range p.Turns {
		if p.Turns[i].Role == System {
			system += len(p.Turns[i].Text)
		}
	}
	f[flagTurns] = log1p(len(p.Turns))
	f[flagOtherBytes] = log1p(other)
	f[flagSystemBytes] = log1p(system)
	f[flagTools] = log1p(max(p.Tools, 0))
	f[flagToolBytes] = log1p(max(p.ToolBytes, 0))
	f[flagJSONFormat] = 0
	if p.JSONFormat {
		f[flagJSONFormat] = 1
	}
	f[flagAttachments] = log1p(max(p.Attachments, 0))
}
