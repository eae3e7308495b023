package datasets

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"pgregory.net/rapid"
)

// tableOf is the plain way to a table: what ReadTable must give for rows.
func tableOf(rows []Row) *Table {
	var arms []catalog.ArmID
	var prompts []Prompt
	arm, prompt := map[string]int{}, map[string]int{}
	for _, r := range rows {
		if _, ok := arm[r.Model]; !ok {
			arm[r.Model] = len(arms)
			arms = append(arms, catalog.ArmID(r.Model))
		}
		if _, ok := prompt[r.PromptID]; !ok {
			prompt[r.PromptID] = len(prompts)
			prompts = append(prompts, Prompt{ID: r.PromptID, Dataset: r.Dataset, Split: r.Split, Text: r.Prompt})
		}
	}
	t := NewTable(arms, len(prompts))
	t.Prompts = prompts
	for _, r := range rows {
		k := t.At(prompt[r.PromptID], arm[r.Model])
		t.Score[k] = float32(r.Score)
		if r.CostUSD != nil {
			t.Cost[k], _ = catalog.FromDollars(*r.CostUSD)
		}
		if r.InputTokens != nil {
			t.Input[k] = float32(*r.InputTokens)
		}
		if r.OutputTokens != nil {
			t.Output[k] = float32(*r.OutputTokens)
		}
		if r.LatencyMS != nil {
			t.Latency[k] = float32(*r.LatencyMS)
		}
	}
	return t
}

// sameTable compares all but the name and the digest, NaN being equal to NaN.
func sameTable(got, want *Table) bool {
	same := func(a, b []float32) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if math.Float32bits(a[i]) != math.Float32bits(b[i]) && (a[i] == a[i] || b[i] == b[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(got.Arms, want.Arms) && reflect.DeepEqual(got.Prompts, want.Prompts) && reflect.DeepEqual(got.Cost, want.Cost) &&
		same(got.Score, want.Score) && same(got.Input, want.Input) && same(got.Output, want.Output) && same(got.Latency, want.Latency)
}

func number64[T int32 | float64](p *T) string {
	if p == nil {
		return ""
	}
	return strconv.FormatFloat(float64(*p), 'g', -1, 64)
}

func csvOf(rows []Row) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Write([]string{"prompt_id", "dataset", "split", "prompt", "model", "score", "cost_usd", "input_tokens", "output_tokens", "latency_ms"})
	for _, r := range rows {
		w.Write([]string{r.PromptID, r.Dataset, r.Split, r.Prompt, r.Model, number64(&r.Score), number64(r.CostUSD),
			number64(r.InputTokens), number64(r.OutputTokens), number64(r.LatencyMS)})
	}
	w.Flush()
	return b.Bytes()
}

func jsonlOf(rows []Row) []byte {
	var b bytes.Buffer
	for _, r := range rows {
		line, _ := json.Marshal(map[string]any{"id": r.PromptID, "dataset": r.Dataset, "split": r.Split, "prompt": r.Prompt, "model": r.Model,
			"score": r.Score, "cost_usd": r.CostUSD, "input_tokens": r.InputTokens, "output_tokens": r.OutputTokens, "latency_ms": r.LatencyMS})
		b.Write(append(line, '\n'))
	}
	return b.Bytes()
}

func TestTableSurvivesEveryFormat(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		rows, dir := genRows(t), tempDir(t)
		for i := range rows {
			rows[i].Prompt = strings.ReplaceAll(rows[i].Prompt, "\r", " ") // a CSV reader turns \r\n into \n
		}
		want := tableOf(rows)
		w, err := CreateTable(filepath.Join(dir, "a.parquet"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Write(rows), w.Close(), os.WriteFile(filepath.Join(dir, "b.csv"), csvOf(rows), 0o600),
			os.WriteFile(filepath.Join(dir, "c.jsonl"), jsonlOf(rows), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := Import(ctx, filepath.Join(dir, "b.csv"), filepath.Join(dir, "d.parquet"), ImportOptions{}); err != nil {
			t.Fatal(err)
		}
		sum, err := Import(ctx, filepath.Join(dir, "c.jsonl"), filepath.Join(dir, "e.parquet"), ImportOptions{Rename: map[string]string{"id": "prompt_id"}})
		if err != nil {
			t.Fatal(err)
		}
		if sum.Rows != int64(len(rows)) || sum.Arms != len(want.Arms) || sum.Prompts != len(want.Prompts) {
			t.Fatalf("got %+v for %d rows", sum, len(rows))
		}
		for _, name := range []string{"a.parquet", "b.csv", "d.parquet", "e.parquet"} {
			got, err := ReadTable(ctx, filepath.Join(dir, name), ReadOptions{})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !sameTable(got, want) {
				t.Fatalf("%s: got %+v, want %+v", name, got, want)
			}
		}
	})
}

func TestReadTableFolderAndFilters(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	rows := bigRows(30, 4)
	writeTable(t, filepath.Join(dir, "a.parquet"), rows[:50])
	writeFile(t, filepath.Join(dir, "b.csv"), csvOf(rows[50:]))
	writeFile(t, filepath.Join(dir, "notes.txt"), []byte("no table"))
	var done, total int64
	got, err := ReadTable(ctx, dir, ReadOptions{Progress: func(d, n int64) {
		if d < done || d > n {
			t.Errorf("progress went from %d to %d of %d", done, d, n)
		}
		done, total = d, n
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !sameTable(got, tableOf(rows)) || len(got.SHA256) != 64 {
		t.Error("a folder's files do not make one table")
	}
	if done != total || total == 0 {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	got, err = ReadTable(ctx, filepath.Join(dir, "?.*"), ReadOptions{Arms: []string{"vendor/model-3", "*/model-1"}, Datasets: []string{"task-[12]"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Prompts) != 6 || !reflect.DeepEqual(got.Arms, []catalog.ArmID{"vendor/model-1", "vendor/model-3"}) {
		t.Errorf("got %d prompts and arms %v", len(got.Prompts), got.Arms)
	}
	for want, o := range map[string]ReadOptions{
		`no model of the table matches "*/gpt"`: {Arms: []string{"vendor/*", "*/gpt"}},
		"none of the table's 120 rows matches":  {Datasets: []string{"nothing"}},
		`glob "[" is`:                           {Arms: []string{"["}},
	} {
		_, err := ReadTable(ctx, dir, o)
		if want == `glob "[" is` {
			want = `glob "["`
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := ReadTable(canceled, dir, ReadOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// plain is a table with everything required and nothing more.
type plain struct {
	PromptID string  `parquet:"prompt_id"`
	Prompt   string  `parquet:"prompt"`
	Model    string  `parquet:"model"`
	Score    float64 `parquet:"score"`
}

func TestReadTableRefusesParquet(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name+".parquet") }
	badParquet(t, file)
	for name, want := range map[string]string{
		"unknown":  `column "extra" is unknown`,
		"missing":  `column "prompt" is missing`,
		"mistyped": `column "input_tokens": want int32, got STRING`,
		"list":     `column "dataset": want string, got repeated STRING`,
		"null":     "row 1, column score: it is null",
		"twice":    `row 3, column model: prompt_id "p1" has model "a/b" twice`,
		"texts":    `row 2, column prompt: prompt_id "p1" stands with two different values`,
		"above":    "row 2, column score: 1.01 is not in [0,1]",
		"below":    "row 1, column score: -0.1 is not in [0,1]",
		"nan":      "row 3, column score: NaN is not in [0,1]",
		"noid":     "row 1, column prompt_id: it is empty",
		"utf8":     "row 1, column prompt_id: it is not UTF-8",
		"norows":   "holds no rows",
		"cost":     "row 1, column cost_usd: -1 is not a number from 0 on",
		"dear":     "row 1, column cost_usd: +Inf is not",
		"tokens":   "row 1, column output_tokens: -3 is not",
		"empty":    "the file is empty",
		"text":     "it is not a Parquet file",
		"cut":      "is cut off",
	} {
		_, err := ReadTable(context.Background(), file(name), ReadOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file(name)) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

// badParquet writes one file for each way in which a table can be wrong.
func badParquet(t *testing.T, file func(name string) string) {
	t.Helper()
	ok := plain{"p1", "text", "a/b", 1}
	writeAny(t, file("unknown"), struct {
		plain
		Extra int32 `parquet:"extra"`
	}{ok, 1})
	writeAny(t, file("missing"), struct {
		PromptID string `parquet:"prompt_id"`
		Model    string `parquet:"model"`
	}{"p", "m"})
	writeAny(t, file("mistyped"), struct {
		plain
		InputTokens string `parquet:"input_tokens"`
	}{ok, "12"})
	writeAny(t, file("list"), struct {
		plain
		Dataset []string `parquet:"dataset"`
	}{ok, []string{"x"}})
	writeAny(t, file("null"), struct {
		PromptID *string  `parquet:"prompt_id,optional"`
		Prompt   *string  `parquet:"prompt,optional"`
		Model    *string  `parquet:"model,optional"`
		Score    *float64 `parquet:"score,optional"`
	}{ptr("p"), ptr("t"), ptr("m"), nil})
	writeAny(t, file("twice"), ok, plain{"p1", "text", "a/c", 0}, ok)
	writeAny(t, file("texts"), ok, plain{"p1", "other", "a/c", 0})
	writeAny(t, file("above"), ok, plain{"p2", "text", "a/b", 1.01})
	writeAny(t, file("below"), plain{"p2", "text", "a/b", -0.1})
	writeAny(t, file("nan"), ok, ok, plain{"p2", "text", "a/b", math.NaN()})
	writeAny(t, file("noid"), plain{"", "text", "a/b", 1})
	writeAny(t, file("utf8"), plain{"p\xff", "text", "a/b", 1})
	writeAny[plain](t, file("norows"))
	writeTable(t, file("cost"), []Row{{PromptID: "p", Model: "m"}})
	type priced struct {
		plain
		CostUSD float64 `parquet:"cost_usd"`
	}
	writeAny(t, file("cost"), priced{ok, -1})
	writeAny(t, file("dear"), priced{ok, math.Inf(1)})
	writeAny(t, file("tokens"), struct {
		plain
		OutputTokens int32 `parquet:"output_tokens"`
	}{ok, -3})
	writeFile(t, file("empty"), nil)
	writeFile(t, file("text"), []byte("prompt_id,prompt\n"))
	cut := readFile(t, file("twice"))
	writeFile(t, file("cut"), cut[:len(cut)-5])
}

func TestReadTableRefusesText(t *testing.T) {
	dir := t.TempDir()
	head := "prompt_id,prompt,model,score,cost_usd,input_tokens\n"
	for i, c := range []struct{ name, text, want string }{
		{"a.csv", "", "the file is empty"},
		{"a.csv", head, "holds no rows"},
		{"a.csv", "prompt_id,prompt,model\n", "line 1, column score: it is missing"},
		{"a.csv", head + "p,t,m,1,,\np,t,m2,high,,\n", `line 3, column score: "high" is not a number`},
		{"a.csv", head + "p,\"two\nlines\",m,1,,\np,t,m2,2,,\n", "line 4, column score: 2 is not in [0,1]"},
		{"a.csv", head + "p,t,m,1,,1.5\n", `line 2, column input_tokens: "1.5" is not an int32`},
		{"a.csv", head + "p,t,m,1,nan,1\n", "line 2, column cost_usd: NaN is not"},
		{"a.csv", head + "p,t,m,1\n", "line 2: byte 1: wrong number of fields"},
		{"a.csv", head + "p,t\"x,m,1,,\n", "line 2: byte 4"},
		{"a.csv", head + "p,t,m,1,,\np,t,m,1,,\n", `line 3, column model: prompt_id "p" has model "m" twice`},
		{"a.csv", "prompt_id,prompt,model,score,score\n", "column score: it stands there twice"},
		{"a.csv", "prompt_id,prompt,model,score,Score\n", `line 1: column "Score" is unknown`},
		{"a.jsonl", "\n\n", "the file is empty"},
		{"a.jsonl", `{"prompt_id":"p","prompt":"t","model":"m"}`, "line 1, column score: it is missing"},
		{"a.jsonl", `{"prompt_id":"p","prompt":"t","model":"m","score":"1"}`, "line 1, column score: want double, got string"},
		{"a.jsonl", `{"prompt_id":7,"prompt":"t","model":"m","score":1}`, "line 1, column prompt_id: want string, got number"},
		{"a.jsonl", `{"prompt_id":["p"],"prompt":"t","model":"m","score":1}`, "column prompt_id: want string, got object or array"},
		{"a.jsonl", `{"prompt_id":"p","prompt":"t","model":"m","score":null}`, "column score: it is null"},
		{"a.jsonl", "\n" + `{"prompt_id":"p","prompt":"t","model":"m","score":1,"x":2}`, `line 2: byte 56: column "x" is unknown`},
		{"a.jsonl", `{"score":1,"score":1}`, "column score: it stands there twice"},
		{"a.jsonl", `{"score":1`, "line 1: byte 11"},
		{"a.jsonl", `[]`, "line 1: want an object"},
		{"a.jsonl", "{\"prompt_id\":\"\xff\"}", "line 1: it is not UTF-8"},
		{"a.jsonl", `{"prompt_id":"p","prompt":"t","model":"m","score":1}{}`, "something follows the object"},
		{"a.jsonl", `{"prompt_id":"p","prompt":"t","model":"m","score":1e999}`, `"1e999" is not a number`},
		{"a.txt", "x", "must end in .parquet, .csv or .jsonl"},
	} {
		path := filepath.Join(dir, fmt.Sprintf("%d%s", i, c.name))
		writeFile(t, path, []byte(c.text))
		_, err := ReadTable(context.Background(), path, ReadOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v, want %q", c.text, err, c.want)
		}
	}
	for _, path := range []string{filepath.Join(dir, "absent.csv"), filepath.Join(dir, "absent*.csv")} {
		if _, err := ReadTable(context.Background(), path, ReadOptions{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestReadTableLongRecord(t *testing.T) {
	const most = 10_000
	take := func(*record, int64) (string, string) { return "", "" }
	s := textSource{name: "long", lineMax: most, take: take}
	// The CSV reader's buffer of 4096 bytes is let through on top.
	for n, wantErr := range map[int]bool{most - 100: false, most + 4096: true} {
		text := strings.Repeat("x", n)
		err := s.readCSV(context.Background(), strings.NewReader("prompt_id,prompt,model,score\np,\""+text+"\",m,1\n"))
		if errors.Is(err, errRecordTooLong) != wantErr || (err != nil) != wantErr {
			t.Errorf("CSV with %d bytes: got %v", n, err)
		}
		err = s.readJSONL(context.Background(), strings.NewReader(`{"prompt_id":"p","model":"m","score":1,"prompt":"`+text+`"}`))
		if (err != nil) != wantErr || wantErr && !strings.Contains(err.Error(), "longer than") {
			t.Errorf("JSONL with %d bytes: got %v", n, err)
		}
	}
}

// TestReadTableDamaged is promise P11 for files that nobody vouches for: an error or some table, and no panic.
func TestReadTableDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table.parquet")
	writeTable(t, path, bigRows(20, 3))
	whole := readFile(t, path)
	kept := 0
	damages(t, whole, 0.5, func(what string, damaged []byte) {
		writeFile(t, path, damaged)
		got, err := ReadTable(context.Background(), path, ReadOptions{})
		if err == nil {
			kept++
		}
		if err == nil && (len(got.Score) != len(got.Arms)*len(got.Prompts) || len(damaged) < len(whole)) {
			t.Fatalf("%s: got a table of %d prompts and %d arms", what, len(got.Prompts), len(got.Arms))
		}
	})
	t.Logf("%d damaged files still read as tables", kept)
}

func TestTableWriter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.parquet")
	w, err := CreateTable(path)
	if err != nil {
		t.Fatal(err)
	}
	var row *RowError
	if err := w.Write([]Row{{PromptID: "p", Model: "m"}, {PromptID: "p", Model: "m2", Score: 2}}); !errors.As(err, &row) || row.Row != 2 || row.Column != "score" {
		t.Fatalf("got %v, want a RowError of row 2", err)
	}
	if err := w.Close(); !errors.As(err, &row) {
		t.Errorf("Close after a refused row: got %v", err)
	}
	w, _ = CreateTable(path)
	w.Write([]Row{{PromptID: "p", Model: "m"}})
	w.Abort()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("after Abort %v is left", left)
	}
	writeFile(t, filepath.Join(dir, "in.csv"), []byte("prompt_id,prompt,model,score\np,t,m,2\n"))
	if _, err := Import(context.Background(), filepath.Join(dir, "in.csv"), path, ImportOptions{}); !errors.As(err, &row) || !row.Line || row.Row != 2 {
		t.Errorf("got %v, want a RowError of line 2", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("a failed import left a file")
	}
	writeTable(t, path, []Row{{PromptID: "p", Model: "m"}})
	if _, err := Import(context.Background(), filepath.Join(dir, "in.csv"), path, ImportOptions{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v, want %v", err, os.ErrExist)
	}
}
