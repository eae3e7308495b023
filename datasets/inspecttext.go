package datasets

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
)

// WriteText writes the inspection for people: a few lines of facts, then one aligned table of arms and one of tasks.
func (in *Inspection) WriteText(w io.Writer) error {
	var b bytes.Buffer
	facts := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(facts, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	fact(in.Kind, "%s", in.Path)
	in.writeFacts(fact)
	facts.Flush()
	in.writeArms(&b)
	writeCounts(&b, "status", "rounds", in.Statuses)
	if len(in.Tasks) > 1 || len(in.Tasks) == 1 && in.Tasks[0].Name != "" {
		writeCounts(&b, "dataset", "prompts", in.Tasks)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (in *Inspection) writeFacts(fact func(name, format string, args ...any)) {
	if in.SHA256 != "" {
		fact("sha256", "%s", in.SHA256)
	}
	state := "no manifest vouches for it"
	if in.Verified {
		state = "as it was sealed"
	}
	fact("bytes", "%s, %s", thousands(in.Bytes), state)
	if in.Kind == "log" {
		fact("parts", "%s", thousands(int64(in.Parts)))
	}
	if in.Superseded > 0 {
		fact("superseded", "%s", thousands(in.Superseded))
	}
	for _, name := range in.Leftovers {
		fact("leftover", "%s (superseded, to be removed)", name)
	}
	for _, name := range in.Orphans {
		fact("orphan", "%s (not in the manifest, not read)", name)
	}
	rows := "rows"
	if in.Kind != "table" {
		rows = "rounds"
	}
	fact(rows, "%s", thousands(in.Rows))
	if in.Kind == "table" {
		fact("prompts", "%s", thousands(in.Prompts))
	}
	if in.From != nil {
		fact("time", "%s to %s", in.From.Format(time.RFC3339), in.To.Format(time.RFC3339))
	}
	if in.Explored != nil {
		fact("explored", "%.1f %%", 100**in.Explored)
	}
	if in.Feedback > 0 {
		fact("feedback", "%s", thousands(in.Feedback))
	}
	if s := in.PromptBytes; s != nil {
		fact("prompt bytes", "median %s, 95 %% %s, max %s", thousands(int64(s.Median)), thousands(int64(s.P95)), thousands(int64(s.Max)))
	}
	if in.UnknownCosts > 0 {
		fact("unknown costs", "%s of %s", thousands(in.UnknownCosts), thousands(in.Rows))
	}
}

func (in *Inspection) writeArms(b *bytes.Buffer) {
	names := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	width := len("model")
	for _, a := range in.Arms {
		width = max(width, len(armName(a)))
	}
	fmt.Fprintf(names, "\n%-*s\trows\tscore\tUSD a call\tunknown cost\t\n", width, "model")
	for _, a := range in.Arms {
		score, cost := "-", "-"
		if a.MeanScore != nil {
			score = fmt.Sprintf("%.4f", *a.MeanScore)
		}
		if a.MeanCostUSD != nil {
			cost = fmt.Sprintf("%.6f", *a.MeanCostUSD)
		}
		fmt.Fprintf(names, "%-*s\t%s\t%s\t%s\t%s\t\n", width, armName(a), thousands(a.Rows), score, cost, thousands(a.UnknownCosts))
	}
	names.Flush()
}

func armName(a ArmSummary) string {
	if a.Arm == "" {
		return "(none served)"
	}
	return printable(string(a.Arm))
}

func writeCounts(b *bytes.Buffer, name, unit string, counts []Count) {
	if len(counts) == 0 {
		return
	}
	width := len(name)
	for _, c := range counts {
		width = max(width, len(printable(c.Name)))
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n%-*s\t%s\t\n", width, name, unit)
	for _, c := range counts {
		fmt.Fprintf(w, "%-*s\t%s\t\n", width, printable(c.Name), thousands(c.N))
	}
	w.Flush()
}

// printable keeps a file's names from moving the cursor of a terminal.
func printable(s string) string {
	if q := strconv.Quote(s); len(q) != len(s)+2 {
		return q
	}
	return s
}

// thousands groups the digits of a count.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
