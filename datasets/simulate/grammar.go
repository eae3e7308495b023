package simulate

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// grammarText holds the rules that prompts are written by; its head explains the notation.
//
//go:embed grammar.txt
var grammarText string

// textMax is the longest prompt that is written; no rule of ours comes near it.
const textMax = 16 << 10

// numbers are the bounds of {n} by level.
var numbers = [Levels][2]int{{12, 40}, {31, 99}, {120, 480}, {310, 2400}, {1100, 9800}, {6100, 98000}}

// grammar is a list of rules, each of which uses only rules above it, so that none can call itself.
type grammar struct {
	names map[string]int
	rules []rule
}

// rule is a list of alternatives.
type rule []alternative

type alternative []piece

// piece is a part of an alternative: literal text, or a slot to be filled.
type piece struct {
	kind kind
	// text is the literal, or what stands between repetitions.
	text string
	rule int
	// name is the letter that a slot's text is kept under or recalled by; 0 is none.
	name byte
	// upper says that the slot's text begins with a capital.
	upper  bool
	lo, hi int
}

type kind uint8

const (
	literal kind = iota
	fill         // one alternative of a rule
	more         // 1 + level times, no alternative twice
	some         // 1 + level/2 times, likewise
	graded       // the alternative that the level picks
	recall       // what was kept under a letter
	between      // a number of a range
	sized        // a number that grows with the level
)

// compile reads a grammar.
func compile(text string) (*grammar, error) {
	g := &grammar{names: map[string]int{}}
	var name, body string
	flush := func() error {
		if name == "" {
			return nil
		}
		if _, twice := g.names[name]; twice {
			return fmt.Errorf("rule %s stands twice", name)
		}
		var r rule
		for part := range strings.SplitSeq(body, "|") {
			a, err := g.alternative(part)
			if err != nil {
				return fmt.Errorf("rule %s: %w", name, err)
			}
			r = append(r, a)
		}
		g.names[name], g.rules = len(g.rules), append(g.rules, r)
		return nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == ' ':
			body += " " + strings.TrimSpace(line)
		default:
			if err := flush(); err != nil {
				return nil, err
			}
			before, after, found := strings.Cut(line, ":")
			if !found || before == "" {
				return nil, fmt.Errorf("line %q has no rule's name", line)
			}
			name, body = before, after
		}
	}
	return g, flush()
}

// unescape gives text its line breaks, braces and kept blanks.
var unescape = strings.NewReplacer(`\n`, "\n", `\s`, " ", "[[", "{", "]]", "}")

// alternative splits "text {slot} text" into its pieces.
func (g *grammar) alternative(text string) (alternative, error) {
	var out alternative
	for text = strings.TrimSpace(text); text != ""; {
		before, after, found := strings.Cut(text, "{")
		if before != "" {
			out = append(out, piece{text: unescape.Replace(before)})
		}
		if !found {
			return out, nil
		}
		slot, rest, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("{%s is not closed", slot)
		}
		p, err := g.slot(slot)
		if err != nil {
			return nil, err
		}
		out, text = append(out, p), rest
	}
	return out, nil
}

// slot reads what stands between braces.
func (g *grammar) slot(s string) (piece, error) {
	if s == "n" {
		return piece{kind: sized}, nil
	}
	if len(s) == 1 && s[0] >= 'A' && s[0] <= 'Z' {
		return piece{kind: recall, name: s[0]}, nil
	}
	if lo, hi, found := strings.Cut(s, "-"); found {
		if a, err := strconv.Atoi(lo); err == nil {
			b, err := strconv.Atoi(hi)
			if err != nil || b < a {
				return piece{}, fmt.Errorf("{%s} is not a range of numbers", s)
			}
			return piece{kind: between, lo: a, hi: b}, nil
		}
	}
	p := piece{kind: fill}
	s, p.upper = strings.CutPrefix(s, "^")
	if len(s) > 2 && s[1] == ':' && s[0] >= 'A' && s[0] <= 'Z' {
		p.name, s = s[0], s[2:]
	}
	if i := strings.IndexAny(s, "+*@"); i >= 0 {
		p.kind = map[byte]kind{'+': more, '*': some, '@': graded}[s[i]]
		if p.text = unescape.Replace(s[i+1:]); p.text == "" {
			p.text = " "
		}
		s = s[:i]
	}
	i, known := g.names[s]
	if !known {
		return piece{}, fmt.Errorf("{%s}: no rule of this name stands above", s)
	}
	switch n := len(g.rules[i]); {
	case p.kind == graded && n != Levels:
		return piece{}, fmt.Errorf("{%s@}: %d alternatives for %d levels", s, n, Levels)
	case n > 64:
		return piece{}, fmt.Errorf("{%s}: %d alternatives: want at most 64", s, n)
	}
	p.rule = i
	return p, nil
}

// writer writes one prompt.
type writer struct {
	*grammar
	r     *rand.Rand
	level int
	out   []byte
	kept  ['Z' + 1][2]int
}

// write makes a prompt by the rule of the given name.
func (g *grammar) write(r *rand.Rand, name string, level int) string {
	w := writer{grammar: g, r: r, level: level, out: make([]byte, 0, 1024)}
	w.fill(g.names[name])
	return string(w.out)
}

func (w *writer) fill(i int) { w.alternative(w.rules[i][w.r.IntN(len(w.rules[i]))]) }

// repeat fills a slot several times and takes no alternative twice, as long as there are others.
func (w *writer) repeat(p *piece, times int) {
	r, used := w.rules[p.rule], uint64(0)
	for k := range times {
		if k > 0 {
			w.out = append(w.out, p.text...)
		}
		i := w.r.IntN(len(r))
		for k < len(r) && used>>i&1 == 1 {
			i = w.r.IntN(len(r))
		}
		used |= 1 << i
		w.alternative(r[i])
	}
}

func (w *writer) alternative(a alternative) {
	for i := range a {
		p := &a[i]
		start := len(w.out)
		if start > textMax {
			return
		}
		switch p.kind {
		case literal:
			w.out = append(w.out, p.text...)
		case fill:
			w.fill(p.rule)
		case more:
			w.repeat(p, 1+w.level)
		case some:
			w.repeat(p, 1+w.level/2)
		case graded:
			w.alternative(w.rules[p.rule][w.level])
		case recall:
			kept := w.kept[p.name]
			if kept[0] == kept[1] {
				panic("simulate: the grammar recalls {" + string(rune(p.name)) + "} before it keeps it")
			}
			w.out = append(w.out, w.out[kept[0]:kept[1]]...)
		case between:
			w.out = strconv.AppendInt(w.out, int64(p.lo+w.r.IntN(p.hi-p.lo+1)), 10)
		case sized:
			lo, hi := numbers[w.level][0], numbers[w.level][1]
			w.out = strconv.AppendInt(w.out, int64(lo+w.r.IntN(hi-lo+1)), 10)
		}
		if p.upper && start < len(w.out) && 'a' <= w.out[start] && w.out[start] <= 'z' {
			w.out[start] -= 'a' - 'A'
		}
		if p.kind != recall && p.name != 0 {
			w.kept[p.name] = [2]int{start, len(w.out)}
		}
	}
}
