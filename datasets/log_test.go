package datasets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/tradewind-llm/tradewind/datasets/columnar"
	"github.com/tradewind-llm/tradewind/datasets/disk"
	"pgregory.net/rapid"
)

func TestRoundsSurviveSealing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rounds := rapid.SliceOfN(rapid.Custom(genRound), 1, 4).Draw(t, "rounds")
		l, err := OpenLog(tempDir(t), LogOptions{})
		if err != nil {
			t.Fatal(err)
		}
		parts, err := l.Seal(rounds)
		if err != nil {
			t.Fatal(err)
		}
		got, err := allRounds(l)
		if err != nil {
			t.Fatal(err)
		}
		hour := func(r Round) time.Time { return r.Decision.At.Truncate(time.Hour) }
		want := slices.Clone(rounds)
		slices.SortStableFunc(want, func(a, b Round) int { return hour(a).Compare(hour(b)) })
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nwant %+v", got, want)
		}
		hours := map[time.Time]bool{}
		for i, r := range got {
			hours[hour(r)] = true
			for k, c := range r.Decision.Case.Candidates {
				w := want[i].Decision.Case.Candidates[k]
				if math.Float64bits(c.Score) != math.Float64bits(w.Score) || math.Float64bits(c.Quality) != math.Float64bits(w.Quality) {
					t.Fatalf("candidate %d: got %v %v, want %v %v to the bit", k, c.Score, c.Quality, w.Score, w.Quality)
				}
			}
		}
		if len(parts) != len(hours) {
			t.Fatalf("got %d parts for %d hours", len(parts), len(hours))
		}
	})
}

func TestFeedbackSurvivesSealing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		feedback := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Feedback {
			f := Feedback{RoundID: RoundID(rapid.SampledFrom([]string{"r1", "r2"}).Draw(t, "id")), Source: rapid.SampledFrom([]string{"judge", "user"}).Draw(t, "source"),
				Score: genFinite(t), Label: rapid.StringN(0, 5, -1).Draw(t, "label"), Comment: rapid.StringN(0, 5, -1).Draw(t, "comment"), KeyID: "k", At: genAt(t).Truncate(time.Hour)}
			if rapid.Bool().Draw(t, "metrics") {
				f.Metrics = map[string]float64{rapid.StringN(0, 5, -1).Draw(t, "metric"): genFinite(t)}
			}
			return f
		}), 1, 8).Draw(t, "feedback")
		l, err := OpenLog(tempDir(t), LogOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.SealFeedback(feedback); err != nil {
			t.Fatal(err)
		}
		var got []Feedback
		if err := l.Feedback(context.Background(), func(b []Feedback) error { got = append(got, b...); return nil }); err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(feedback)
		slices.SortStableFunc(want, func(a, b Feedback) int { return a.At.Compare(b.At) })
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nwant %+v", got, want)
		}
		last := map[string]Feedback{}
		for _, f := range want {
			last[string(f.RoundID)+f.Source] = f
		}
		byRound, err := l.LastFeedback(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, all := range byRound {
			for _, f := range all {
				n++
				if !reflect.DeepEqual(f, last[string(f.RoundID)+f.Source]) {
					t.Fatalf("got %+v, want %+v", f, last[string(f.RoundID)+f.Source])
				}
			}
		}
		if n != len(last) {
			t.Fatalf("got %d values, want %d", n, len(last))
		}
	})
}

// TestLongPrompts: what a gateway takes it can seal, and read again.
func TestLongPrompts(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	rounds := sampleRounds(5)
	for i := range rounds {
		rounds[i].Decision.Prompt = fmt.Sprint(i) + strings.Repeat("x", i*1_000_000)
		rounds[i].Decision.Tags = map[string]string{"long": strings.Repeat("y", 50_000)}
		rounds[i].Decision.Features = bytes.Repeat([]byte{byte(i)}, 100_000)
	}
	if _, err := l.Seal(rounds); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := l.Rounds(t.Context(), func(batch []Round) error {
		for i := range batch {
			if batch[i].Decision.Prompt != rounds[n].Decision.Prompt {
				t.Errorf("round %d came back with %d bytes", n, len(batch[i].Decision.Prompt))
			}
			n++
		}
		return nil
	}); err != nil || n != len(rounds) {
		t.Errorf("%d rounds and %v, want %d", n, err, len(rounds))
	}
}

func TestSealTwiceAddsNothing(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	first, err := l.Seal(sampleRounds(50))
	if err != nil {
		t.Fatal(err)
	}
	manifest := readFile(t, dir, manifestName)
	l.Close()
	l = openLog(t, dir)
	again, err := l.Seal(sampleRounds(50))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again, first) || !bytes.Equal(readFile(t, dir, manifestName), manifest) {
		t.Errorf("got %+v and another manifest, want %+v", again, first)
	}
	if temps, _ := filepath.Glob(filepath.Join(dir, "rounds", "*", "*", ".*")); len(temps) != 0 {
		t.Errorf("left behind: %v", temps)
	}
	if want := "rounds/dt=2026-01-02/hour=15/3000.123456-" + first[0].SHA256[:16] + ".parquet"; first[0].Path != want {
		t.Errorf("got path %s, want %s", first[0].Path, want)
	}
	if _, err := l.Seal(nil); err != nil {
		t.Errorf("sealing nothing: %v", err)
	}
}

func TestSealRefuses(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	for name, spoil := range map[string]func(*Round){
		"has the outcome of": func(r *Round) { r.Outcome.RoundID = "other" },
		"was decided at":     func(r *Round) { r.Decision.At = time.Time{} },
		"holds the number":   func(r *Round) { r.Decision.Propensities[1] = math.NaN() },
		"its case":           func(r *Round) { r.Decision.Case.Lambda = math.Inf(1) },
	} {
		rounds := sampleRounds(3)
		spoil(&rounds[1])
		if _, err := l.Seal(rounds); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
	if _, err := l.SealFeedback([]Feedback{{RoundID: "r", Score: math.NaN(), At: time.Unix(1.7e9, 0)}}); err == nil {
		t.Error("feedback of NaN was sealed")
	}
	if len(l.Parts()) != 0 {
		t.Errorf("got parts %v, want none", l.Parts())
	}
	var busy *disk.InUseError
	if _, err := OpenLog(dir, LogOptions{}); !errors.As(err, &busy) || busy.PID != os.Getpid() {
		t.Errorf("a second writer: got %v, want an InUseError of process %d", err, os.Getpid())
	}
	writeFile(t, filepath.Join(dir, manifestName), []byte("{}\n")) // by one that knows of no lock
	if _, err := l.Seal(sampleRounds(3)); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a manifest of someone else: got %v", err)
	}
	writeFile(t, filepath.Join(dir, manifestName), nil)
	readOnly, err := OpenLog(dir, LogOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readOnly.Seal(sampleRounds(3)); err == nil {
		t.Error("a read-only log sealed")
	}
	if _, err := readOnly.Compact(context.Background(), CompactOptions{}); err == nil {
		t.Error("a read-only log was compacted")
	}
	l.Close()
	if _, err := l.Seal(sampleRounds(3)); err == nil {
		t.Error("a closed log sealed")
	}
	if _, err := OpenLog(filepath.Join(dir, "absent"), LogOptions{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

// twoParts seals an hour and the next.
func twoParts(t *testing.T, n int) (dir string, l *Log) {
	dir = t.TempDir()
	l = openLog(t, dir)
	rounds := sampleRounds(2 * n)
	for i := range rounds[n:] {
		rounds[n+i].Decision.At = rounds[n+i].Decision.At.Add(time.Hour)
	}
	if parts, err := l.Seal(rounds); err != nil || len(parts) != 2 {
		t.Fatalf("got parts %v, %v", parts, err)
	}
	return dir, l
}

// TestLogDamagedPart is promise P11: whatever happens to the last part, the rows before it are read, the part is named,
// and nothing is read wrongly.
func TestLogDamagedPart(t *testing.T) {
	_, l := twoParts(t, 10)
	last := l.Parts()[1]
	whole := readFile(t, l.file(&last))
	damages(t, whole, 0.1, func(what string, damaged []byte) {
		writeFile(t, l.file(&last), damaged)
		got, err := allRounds(l)
		var verify *VerifyError
		if !errors.As(err, &verify) || verify.Path != last.Path || verify.Line != 2 {
			t.Fatalf("%s: got %v, want a VerifyError of %s", what, err, last.Path)
		}
		if !reflect.DeepEqual(got, sampleRounds(20)[:10]) {
			t.Fatalf("%s: got %d rounds, want the 10 of the part before", what, len(got))
		}
	})
	if err := l.Verify(context.Background()); err == nil {
		t.Error("Verify passed a damaged part")
	}
	var named []string
	l.o.Damaged = func(e *VerifyError) error { named = append(named, e.Path); return nil }
	if got, err := allRounds(l); err != nil || len(got) != 10 || !slices.Equal(named, []string{last.Path}) {
		t.Errorf("skipping: got %d rounds, %v, named %v", len(got), err, named)
	}
	writeFile(t, l.file(&last), whole)
	if err := l.Verify(context.Background()); err != nil {
		t.Errorf("a restored log: %v", err)
	}
}

// TestLogDamagedManifest: every flipped bit and every cut is seen, by the chain, the form, or the parts; but for the
// newest lines cut off whole, which only a Head kept elsewhere can tell.
func TestLogDamagedManifest(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	rounds := sampleRounds(3)
	rounds[0].Decision.At = rounds[0].Decision.At.AddDate(0, 0, -9)
	shatter(t, l, rounds)
	mustCompact(t, l, CompactOptions{Now: dayAfter, RetentionDays: 5})
	if len(l.Parts()) != 2 || l.Superseded() != 6 {
		t.Fatalf("got parts %v: want lines of every kind", l.Parts())
	}
	path := filepath.Join(dir, manifestName)
	whole := readFile(t, path)
	damages(t, whole, 3, func(what string, damaged []byte) {
		writeFile(t, path, damaged)
		got, err := OpenLog(dir, LogOptions{ReadOnly: true})
		if err == nil && (got.Torn() > 0 || len(damaged) < len(whole)) {
			if got.Head() == l.Head() {
				t.Fatalf("%s: the head is unchanged", what)
			}
			return
		}
		if err == nil {
			err = got.Verify(context.Background())
		}
		var verify *VerifyError
		if !errors.As(err, &verify) {
			t.Fatalf("%s: got %v, want a VerifyError", what, err)
		}
	})
	writeFile(t, path, whole)
	l.Close()
	if head := openLog(t, dir).Head(); head != l.Head() || len(head) != 64 {
		t.Errorf("got head %s, want %s", head, l.Head())
	}
}

// TestSealingKeepsNoMemory: what a part needed while it was written, read back and read is let go of.
func TestSealingKeepsNoMemory(t *testing.T) {
	l := openLog(t, t.TempDir())
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const warm, parts = 5, 40
	var before uint64
	for n := range warm + parts {
		if n == warm {
			before = heap()
		}
		rounds := sampleRounds(1)
		rounds[0].Decision.At = rounds[0].Decision.At.Add(time.Duration(n) * time.Second)
		if _, err := l.Seal(rounds); err != nil {
			t.Fatal(err)
		}
		if err := l.Verify(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got, err := allRounds(l); err != nil || len(got) != n+1 {
			t.Fatalf("%d rounds, %v", len(got), err)
		}
	}
	if after := heap(); after > before+50<<20 {
		t.Errorf("%d parts left %d MB behind", parts, (after-before)>>20)
	}
}

// TestLogTornAtItsStart: of a line that a power loss tore, the end may be on the disk and the beginning not. The last line
// alone can be torn; zeros anywhere else are damage.
func TestLogTornAtItsStart(t *testing.T) {
	dir, l := twoParts(t, 3)
	l.Close()
	path := filepath.Join(dir, manifestName)
	whole := readFile(t, path)
	first := bytes.IndexByte(whole, '\n') + 1
	torn := bytes.Clone(whole)
	clear(torn[first : first+100])
	writeFile(t, path, torn)
	l = openLog(t, dir)
	if l.Torn() != int64(len(whole)-first) || len(l.Parts()) != 1 || len(readFile(t, path)) != first {
		t.Errorf("got %d torn bytes, %d parts and a manifest of %d bytes", l.Torn(), len(l.Parts()), len(readFile(t, path)))
	}
	l.Close()
	torn = bytes.Clone(whole)
	clear(torn[:100])
	writeFile(t, path, torn)
	var verify *VerifyError
	if _, err := OpenLog(dir, LogOptions{}); !errors.As(err, &verify) || verify.Line != 1 {
		t.Errorf("zeros in the first line: %v", err)
	}
}

// TestLogCrashes: a crash may cut the manifest's last line anywhere, or come before it was written at all.
func TestLogCrashes(t *testing.T) {
	dir, l := twoParts(t, 3)
	path := filepath.Join(dir, manifestName)
	whole := readFile(t, path)
	first := int64(bytes.IndexByte(whole, '\n') + 1)
	parts := l.Parts()
	l.Close()
	for cut := first; cut < int64(len(whole)); cut += 7 {
		writeFile(t, path, whole[:cut])
		l := openLog(t, dir)
		if l.Torn() != cut-first || len(l.Parts()) != 1 {
			t.Fatalf("cut at %d: got %d torn bytes and %d parts", cut, l.Torn(), len(l.Parts()))
		}
		if orphans, err := l.Orphans(); err != nil || !slices.Equal(orphans, []string{parts[1].Path}) {
			t.Fatalf("cut at %d: got orphans %v, %v", cut, orphans, err)
		}
		if got, err := allRounds(l); err != nil || len(got) != 3 {
			t.Fatalf("cut at %d: got %d rounds, %v", cut, len(got), err)
		}
		again := sampleRounds(6)[3:]
		for i := range again {
			again[i].Decision.At = again[i].Decision.At.Add(time.Hour)
		}
		if _, err := l.Seal(again); err != nil {
			t.Fatal(err)
		}
		if orphans, _ := l.Orphans(); len(orphans) != 0 || !bytes.Equal(readFile(t, path), whole) {
			t.Fatalf("cut at %d: sealing again left orphans %v or another manifest", cut, orphans)
		}
		l.Close()
	}
}

func TestLogSplitsLargeParts(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 100,001 rounds")
	}
	f := make([]Feedback, PartRowsMax+1)
	for i := range f {
		f[i] = Feedback{RoundID: "r", At: time.Unix(1.7e9, 0), Score: float64(i)}
	}
	parts, err := openLog(t, t.TempDir()).SealFeedback(f)
	if err != nil || len(parts) != 2 || parts[0].Rows != PartRowsMax || parts[1].Rows != 1 {
		t.Errorf("got %+v, %v", parts, err)
	}
}

func TestLogColumns(t *testing.T) {
	_, l := twoParts(t, 5)
	want, err := allRounds(l)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = l.Columns(context.Background(), []string{"cost_usd", "model", "score", "at"}, func(b *columnar.Batch) error {
		for i := range b.Rows {
			r := want[n]
			n++
			c := b.Columns
			if c[0].Floats[i] != r.Outcome.Cost.Dollars() || c[1].Strings[i] != string(r.Outcome.Served) || !c[2].Null[i] || c[3].Ints[i] != r.Decision.At.UnixMicro() {
				t.Errorf("row %d: got %v %v %v %v", n, c[0].Floats[i], c[1].Strings[i], c[2].Null[i], c[3].Ints[i])
			}
		}
		return nil
	})
	if err != nil || n != len(want) {
		t.Errorf("got %d rows, %v, want %d", n, err, len(want))
	}
	stop := errors.New("enough")
	if err := l.Columns(context.Background(), []string{"at"}, func(*columnar.Batch) error { return stop }); err != stop {
		t.Errorf("got %v, want the callback's own error", err)
	}
	if err := l.Rounds(context.Background(), func([]Round) error { return stop }); err != stop {
		t.Errorf("got %v, want the callback's own error", err)
	}
}

// TestPartColumns holds the names that other programs rely on.
func TestPartColumns(t *testing.T) {
	names := roundColumns()
	for _, spec := range tableColumns {
		if !slices.Contains(names, spec.name) {
			t.Errorf("a part lacks the outcome table's column %s", spec.name)
		}
	}
	for _, name := range strings.Fields(`round_id at org team key_id conversation draw_id policy router_version strategy complexity eligible
		estimates case propensities action propensity explored reason served status ttft_ms attempts features spec_digest`) {
		if !slices.Contains(names, name) {
			t.Errorf("a part lacks the column %s", name)
		}
	}
	dir, l := twoParts(t, 3)
	path := filepath.Join(dir, l.Parts()[0].Path)
	if _, err := ReadTable(context.Background(), path, ReadOptions{}); err == nil || !strings.Contains(err.Error(), "row 1, column score: it is null") {
		t.Errorf("a part as an outcome table: got %v", err)
	}
	if _, err := ReadTable(context.Background(), dir, ReadOptions{}); !errors.Is(err, ErrIsLog) {
		t.Errorf("a log as an outcome table: got %v, want %v", err, ErrIsLog)
	}
	rows, err := parquet.ReadFile[struct {
		Model    string   `parquet:"model"`
		Cost     *float64 `parquet:"cost_usd,optional"`
		Eligible []string `parquet:"eligible,list"`
	}](path)
	if err != nil || len(rows) != 3 || *rows[1].Cost != 2e-6 || len(rows[1].Eligible) != 3 {
		t.Errorf("got %+v, %v", rows, err)
	}
}

func TestInspect(t *testing.T) {
	ctx := context.Background()
	dir, l := twoParts(t, 6)
	if _, err := l.SealFeedback([]Feedback{{RoundID: "rnd_000000", Source: "user", Score: 0.5, At: sampleRounds(1)[0].Decision.At}}); err != nil {
		t.Fatal(err)
	}
	part := l.Parts()[0]
	copied := filepath.Join(t.TempDir(), "copy.parquet")
	writeFile(t, copied, readFile(t, l.file(&part)))
	table := filepath.Join(t.TempDir(), "t.parquet")
	writeTable(t, table, []Row{{PromptID: "p", Dataset: "math", Prompt: "1+1", Model: "a", Score: 1, CostUSD: ptr(0.25)}, {PromptID: "p", Dataset: "math", Prompt: "1+1", Model: "b"}})
	for _, c := range []struct {
		path, kind string
		rows       int64
		verified   bool
		text       []string
	}{
		{dir, "log", 12, true, []string{"as it was sealed", "parts         3", "explored      25.0 %", "completed", "0.5000", "feedback      1"}},
		{l.file(&part), "part", 6, true, []string{"as it was sealed", part.SHA256, "2026-01-02T15:30:00Z"}},
		{copied, "part", 6, false, []string{"no manifest vouches for it"}},
		{table, "table", 2, false, []string{"unknown costs  1 of 2", "0.250000", "math"}},
	} {
		in, err := Inspect(ctx, c.path)
		if err != nil {
			t.Errorf("%s: %v", c.kind, err)
			continue
		}
		var b strings.Builder
		if err := in.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if in.Kind != c.kind || in.Rows != c.rows || in.Verified != c.verified {
			t.Errorf("got %s with %d rows, verified %v; want %+v", in.Kind, in.Rows, in.Verified, c)
		}
		for _, want := range c.text {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s lacks %q:\n%s", c.kind, want, b.String())
			}
		}
		if _, err := json.Marshal(in); err != nil {
			t.Error(err)
		}
	}
	damaged := readFile(t, l.file(&part))
	damaged[100] ^= 1
	writeFile(t, l.file(&part), damaged)
	var verify *VerifyError
	if _, err := Inspect(ctx, l.file(&part)); !errors.As(err, &verify) {
		t.Errorf("an altered part: got %v, want a VerifyError", err)
	}
	if _, err := Inspect(ctx, dir); !errors.As(err, &verify) {
		t.Errorf("an altered log: got %v, want a VerifyError", err)
	}
}

func ExampleInspection_WriteText() {
	mean := 0.75
	in := Inspection{Path: "t.csv", Kind: "table", Rows: 4, Prompts: 4, Bytes: 1234, UnknownCosts: 4,
		Arms: []ArmSummary{{Arm: "v/small", Rows: 4, Scored: 4, MeanScore: &mean, UnknownCosts: 4}}}
	var b strings.Builder
	if err := in.WriteText(&b); err != nil {
		fmt.Println(err)
	}
	fmt.Print(b.String())
	// Output:
	// table          t.csv
	// bytes          1,234, no manifest vouches for it
	// rows           4
	// prompts        4
	// unknown costs  4 of 4
	//
	//   model    rows   score  USD a call  unknown cost
	//   v/small     4  0.7500           -             4
}

// TestCaseColumn: the column case is what encoding/json makes of a case without what has columns of its own.
func TestCaseColumn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRound(t)
		row, err := flatten(&r, new([]byte))
		if err != nil {
			t.Fatal(err)
		}
		_, _, rest := splitCase(&r.Decision.Case)
		want, err := json.Marshal(rest)
		if err != nil || row.Case != string(want) {
			t.Errorf("got %s, want %s (%v)", row.Case, want, err)
		}
	})
}

// TestReadBackSees: whatever differs between a row that was written and the one that is read, in any column that a reader
// uses, is seen, whether the row is one of those that are decoded or not.
func TestReadBackSees(t *testing.T) {
	derived := []string{"PromptID", "Dataset", "Split", "Model", "Score", "CostUSD", "InputTokens", "OutputTokens", "LatencyMS"}
	round := busyRounds(1)[0]
	round.Decision.Tags, round.Decision.Gates = map[string]string{"a": "b"}, []string{"whole"}
	round.Decision.Needs, round.Decision.EndUser = []string{"tools"}, "bob"
	round.Outcome.Attempts[0].Verdicts = []GateVerdict{{Gate: "whole", Verdict: Passed}}
	wrote, err := flatten(&round, new([]byte))
	if err != nil || !wrote.says(&wrote, &round, false) || !wrote.says(&wrote, &round, true) {
		t.Fatalf("a row does not say what was written (%v)", err)
	}
	for i := range reflect.TypeFor[partRow]().NumField() {
		name := reflect.TypeFor[partRow]().Field(i).Name
		if slices.Contains(derived, name) {
			continue
		}
		got := wrote
		alter(t, reflect.ValueOf(&got).Elem().Field(i))
		for _, decoded := range []bool{false, true} {
			if got.says(&wrote, &round, decoded) {
				t.Errorf("column %s differs and nobody sees it (decoded %v)", name, decoded)
			}
		}
	}
}

// alter changes a value and nothing that it shares with another.
func alter(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + " ")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint8:
		v.SetUint(v.Uint() + 1)
	case reflect.Float64:
		v.SetFloat(v.Float() + 1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Struct:
		alter(t, v.Field(v.NumField()-1))
	case reflect.Slice:
		if v.Len() == 0 {
			t.Fatal("nothing to alter")
		}
		v.Set(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v))
		alter(t, v.Index(v.Len()-1))
	default:
		t.Fatalf("no way to alter a %s", v.Kind())
	}
}
