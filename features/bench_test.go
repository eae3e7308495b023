package features

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/features/tokenizer"
)

// essay is about 200 tokens of ordinary English, written for this test.
const essay = `Our small harbour town keeps a weather log that goes back ninety years. Every morning somebody writes down
the temperature, the wind and how many boats left before eight o'clock. Last winter the town council asked three
students to find out whether storms have become more frequent since 1960, and they came back with a table of 48 rows,
two charts and a disagreement. One of them says that the counts rise by 0.7 a year; the second says that the station
was moved in 1983 and that nothing can be compared across the move. The third would rather fit a model with a step in
that year and look at what is left. Explain in plain words which of the three is right, what could go wrong with each
approach, and what you would ask the harbour master before you decide. Please answer in no more than four paragraphs,
and finish with a single sentence that the mayor could read aloud at the next meeting.`

// testTokenizer is a vocabulary of our own texts.
func testTokenizer(tb testing.TB) *tokenizer.Tokenizer {
	tb.Helper()
	b, err := tokenizer.Learn(slices.Values(slices.Repeat([]string{essay, harness(), coding}, 3)), tokenizer.LearnOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tok, err := tokenizer.New(b)
	if err != nil {
		tb.Fatal(err)
	}
	return tok
}

func testExtractor(tb testing.TB) *Extractor {
	tb.Helper()
	e, err := New(DefaultSpec(), testTokenizer(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

const coding = "Fix this function:\n```go\nfunc sum(xs []int) (n int) {\n\tfor i := 0; i <= len(xs); i++ {\n\t\tn += xs[i]\n\t}\n\treturn n\n}\n```\nIt panics. Why?"

// harness is the system prompt of an imagined coding agent, about 24 KB.
func harness() string {
	var b strings.Builder
	for i := range 240 {
		fmt.Fprintf(&b, "Rule %d: never edit a file of group %d before you have read it, and say what you changed.\n", i, i%17)
	}
	return b.String()
}

func BenchmarkExtract(b *testing.B) {
	long := strings.Repeat(essay+"\n", 16<<10/len(essay)+1)[:16<<10]
	for _, c := range []struct {
		name string
		p    *Prompt
	}{
		{"200tokens", NewPrompt(essay)},
		{"820bytes", NewPrompt(essay[:820])},
		{"16KB", NewPrompt(long)},
		{"1MB", NewPrompt(strings.Repeat(long, 64))},
		{"harness", &Prompt{Turns: []Turn{{System, harness()}, {User, "good morning"}}, Tools: 30, ToolBytes: 12000}},
		{"chinese", NewPrompt(strings.Repeat("天气变好了，船离开了港口。", 21))},
		{"accents", NewPrompt(strings.ReplaceAll(essay[:820], "e", "é"))},
	} {
		b.Run(c.name, func(b *testing.B) {
			e, dst := testExtractor(b), &Context{}
			e.Extract(dst, c.p)
			b.ReportAllocs()
			for b.Loop() {
				e.Extract(dst, c.p)
			}
			b.ReportMetric(float64(dst.Tokens), "tokens")
			b.ReportMetric(float64(len(dst.Counts)), "counts")
			b.ReportMetric(float64(len(dst.AppendBinary(nil))), "logged-B")
		})
	}
}
