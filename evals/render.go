package evals

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	_ "embed"
)

// WriteText writes the report for a terminal: aligned columns, no markup.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Verdict.Text)
	for _, n := range r.Verdict.Notes {
		fmt.Fprintf(&b, "  note: %s\n", n)
	}
	for _, s := range r.sections() {
		fmt.Fprintf(&b, "\n%s\n%s\n", s.Title, strings.Repeat("-", utf8.RuneCountInString(s.Title)))
		for _, line := range s.Lines {
			wrap(&b, line, 100)
		}
		for _, g := range s.Tables {
			g.text(&b)
		}
	}
	return flush(w, b.String())
}

// wrap breaks a sentence at spaces after width runes.
func wrap(b *strings.Builder, line string, width int) {
	at := 0
	for word := range strings.FieldsSeq(line) {
		n := utf8.RuneCountInString(word)
		switch {
		case at == 0:
		case at+1+n > width:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
}

func (g *grid) text(b *strings.Builder) {
	width := make([]int, len(g.Head))
	rows := append([][]string{g.Head}, g.Rows...)
	for _, row := range rows {
		for k, cell := range row {
			width[k] = max(width[k], utf8.RuneCountInString(cell))
		}
	}
	b.WriteByte('\n')
	if g.Caption != "" {
		fmt.Fprintf(b, "%s\n", g.Caption)
	}
	for _, row := range rows {
		var line strings.Builder
		for k, cell := range row {
			pad := strings.Repeat(" ", width[k]-utf8.RuneCountInString(cell))
			if k < g.Left {
				line.WriteString(cell + pad + "  ")
			} else {
				line.WriteString(pad + cell + "  ")
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// WriteMarkdown writes the report as Markdown with pipe tables.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Router report: %s\n\n**%s**\n", escape(r.Header.Table), escape(r.Verdict.Text))
	for _, n := range r.Verdict.Notes {
		fmt.Fprintf(&b, "\n- %s", escape(n))
	}
	for _, s := range r.sections() {
		fmt.Fprintf(&b, "\n\n## %s\n", s.Title)
		for _, line := range s.Lines {
			if len(s.Lines) > 1 {
				line = "- " + line
			} else {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "%s\n", escape(line))
		}
		for _, g := range s.Tables {
			g.markdown(&b)
		}
	}
	return flush(w, b.String())
}

func (g *grid) markdown(b *strings.Builder) {
	b.WriteByte('\n')
	if g.Caption != "" {
		fmt.Fprintf(b, "%s:\n\n", escape(g.Caption))
	}
	line := func(cells []string) {
		for _, c := range cells {
			b.WriteString("| " + escape(c) + " ")
		}
		b.WriteString("|\n")
	}
	line(g.Head)
	for k := range g.Head {
		if k < g.Left {
			b.WriteString("|---")
		} else {
			b.WriteString("|--:")
		}
	}
	b.WriteString("|\n")
	for _, row := range g.Rows {
		line(row)
	}
}

// escape keeps names from the data from becoming markup.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;", "`", "\\`", "\n", " ", "\r", " ").Replace(s)
}

//go:embed report.html
var page string

// WriteHTML writes the report as one page that needs nothing else: style and picture are inside, there is no script.
func (r *Report) WriteHTML(w io.Writer) error {
	tmpl, err := template.New("report").Parse(page)
	if err != nil {
		return fmt.Errorf("evals: writing HTML: %w", err)
	}
	var svg, b bytes.Buffer
	if err := r.WriteSVG(&svg); err != nil {
		return err
	}
	err = tmpl.Execute(&b, struct {
		*Report
		Sections []section
		// SVG is made by this package, with every name from the data escaped.
		SVG template.HTML
	}{r, r.sections(), template.HTML(svg.String())})
	if err != nil {
		return fmt.Errorf("evals: writing HTML: %w", err)
	}
	return flush(w, b.String())
}

// Number reports whether column k holds numbers, Wraps whether it holds sentences.
func (g grid) Number(k int) bool { return k >= g.Left }

// Wraps: see Number.
func (g grid) Wraps(k int) bool { return slices.Contains(g.Wrap, k) }

func flush(w io.Writer, s string) error {
	if _, err := io.WriteString(w, s); err != nil {
		return fmt.Errorf("evals: writing report: %w", err)
	}
	return nil
}
