package datasets

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestInHashOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOf(rapid.Uint64Range(0, 5)).Draw(t, "keys")
		n := rapid.IntRange(0, 10).Draw(t, "n")
		type placed struct {
			key uint64
			at  int
		}
		var all []placed
		for i, k := range keys {
			all = append(all, placed{k, i})
		}
		slices.SortFunc(all, func(a, b placed) int { return cmp.Or(cmp.Compare(a.key, b.key), a.at-b.at) })
		got := InHashOrder(keys, n)
		if len(got) != min(n, len(all)) {
			t.Fatalf("got %d places of %d, want %d", len(got), len(all), n)
		}
		for k, i := range got {
			if i != all[k].at {
				t.Fatalf("got %v, want the order of %v", got, all)
			}
		}
	})
	// The second eight bytes of the SHA-256 of "abc", FIPS 180-2.
	if got, want := HashKey("abc"), uint64(0x414140de5dae2223); got != want {
		t.Errorf("got key %x, want %x", got, want)
	}
}

// genMany draws the rows of a table of many small prompts: together, arm by arm, or in any order.
func genMany(t *rapid.T) []Row {
	prompts, arms := rapid.IntRange(1, 40).Draw(t, "prompts"), rapid.IntRange(1, 4).Draw(t, "arms")
	var rows []Row
	for i := range prompts {
		for j := range arms {
			if i > 0 && rapid.IntRange(0, 3).Draw(t, "hole") == 0 {
				continue
			}
			rows = append(rows, Row{PromptID: fmt.Sprintf("p%d", i), Dataset: fmt.Sprintf("task-%d", i%3), Prompt: strings.Repeat("x", i),
				Model: fmt.Sprintf("arm-%d", j), Score: float64(len(rows)%7) / 7, InputTokens: ptr(int32(len(rows)))})
		}
	}
	switch rapid.SampledFrom([]string{"together", "by arm", "any"}).Draw(t, "order") {
	case "by arm":
		slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.Model, b.Model) })
	case "any":
		rows = rapid.Permutation(rows).Draw(t, "rows")
	}
	return rows
}

// TestSampleWhileReading: what is read with PromptsMax is the sample of what is read without, errors included.
func TestSampleWhileReading(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		rows, dir := genMany(t), tempDir(t)
		half := rapid.IntRange(0, len(rows)-1).Draw(t, "half")
		for name, part := range map[string][]Row{"a.csv": rows[:half], "b.csv": rows[half:]} {
			if len(part) > 0 {
				if err := os.WriteFile(filepath.Join(dir, name), csvOf(part), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		o := ReadOptions{
			Arms:     rapid.SampledFrom([][]string{nil, {"arm-[01]"}, {"arm-0", "arm-3"}}).Draw(t, "arms"),
			Datasets: rapid.SampledFrom([][]string{nil, {"task-[01]"}, {"task-2"}}).Draw(t, "tasks"),
		}
		whole, wholeErr := ReadTable(ctx, dir, o)
		o.PromptsMax = rapid.IntRange(1, 20).Draw(t, "max")
		got, err := ReadTable(ctx, dir, o)
		if wholeErr != nil || err != nil {
			if fmt.Sprint(err) != fmt.Sprint(wholeErr) {
				t.Fatalf("got %v, want %v", err, wholeErr)
			}
			return
		}
		if len(whole.Prompts) <= o.PromptsMax {
			if !sameTable(got, whole) || got.SampledFrom != nil {
				t.Fatal("a table that fits is not read as it is")
			}
			return
		}
		want := whole.Subset(whole.InHashOrder(o.PromptsMax))
		if !sameTable(got, want) || got.SHA256 != whole.SHA256 {
			t.Fatalf("got prompts %v of %v, want %v of %v", got.Prompts, got.Arms, want.Prompts, want.Arms)
		}
		from, truth := got.Source(), whole.Source()
		if from.Rows != truth.Rows {
			t.Fatalf("got %d rows, want %d", from.Rows, truth.Rows)
		}
		if !from.Estimated && stand(rows) && from.Prompts != truth.Prompts {
			t.Fatalf("got %d prompts that were counted, want %d", from.Prompts, truth.Prompts)
		}
		if from.Estimated && stand(rows) {
			t.Fatal("prompts whose rows stand together were not counted")
		}
	})
}

// stand reports whether the rows of every prompt stand together.
func stand(rows []Row) bool {
	seen := map[string]bool{}
	for i, r := range rows {
		if i > 0 && rows[i-1].PromptID != r.PromptID && seen[r.PromptID] {
			return false
		}
		seen[r.PromptID] = true
	}
	return true
}

// TestSampleEstimatesPrompts: a file for every arm, so that every prompt is met as often as there are arms.
func TestSampleEstimatesPrompts(t *testing.T) {
	rows, dir := bigRows(2000, 4), t.TempDir()
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(a.Model, b.Model) })
	path := filepath.Join(dir, "t.parquet")
	writeTable(t, path, rows)
	got, err := ReadTable(context.Background(), path, ReadOptions{PromptsMax: 100})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Origin{Rows: 8000, Prompts: 2000, Estimated: true}); got.Source() != want || len(got.Prompts) != 100 {
		t.Errorf("got %d prompts from %+v, want %+v", len(got.Prompts), got.Source(), want)
	}
}

// TestSampleChecks: every row is checked; that rows agree is checked where their prompt is in the sample.
func TestSampleChecks(t *testing.T) {
	dir := t.TempDir()
	rows := bigRows(200, 2)
	keys := make([]uint64, 200)
	for i := range keys {
		keys[i] = HashKey(rows[2*i].PromptID)
	}
	order := InHashOrder(keys, len(keys))
	in, out := rows[2*order[0]], rows[2*order[len(order)-1]]
	other := func(r Row, spoil func(*Row)) Row {
		r.Model = "another"
		spoil(&r)
		return r
	}
	for name, c := range map[string]struct {
		row  Row
		want string
	}{
		"twice in":   {in, "twice"},
		"twice out":  {out, ""},
		"text in":    {other(in, func(r *Row) { r.Prompt = "another" }), "two different values"},
		"text out":   {other(out, func(r *Row) { r.Prompt = "another" }), ""},
		"score out":  {other(out, func(r *Row) { r.Score = 2 }), "not in [0,1]"},
		"id out":     {other(out, func(r *Row) { r.PromptID = "\xff" }), "not UTF-8"},
		"model glob": {other(out, func(*Row) {}), ""}, // an arm that only a prompt outside of the sample has is still an arm
	} {
		path := filepath.Join(dir, name+".csv")
		writeFile(t, path, csvOf(append(slices.Clone(rows), c.row)))
		got, err := ReadTable(context.Background(), path, ReadOptions{PromptsMax: 10, Arms: []string{"vendor/*", "anothe?"}})
		if strings.HasPrefix(name, "twice") {
			got, err = ReadTable(context.Background(), path, ReadOptions{PromptsMax: 10})
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if name == "model glob" && len(got.Arms) != 3 {
			t.Errorf("%s: got arms %v, want three", name, got.Arms)
		}
		if err != nil && c.row.Score <= 1 && !strings.Contains(err.Error(), path+": line 402") {
			t.Errorf("%s: got %v, want it to name line 402", name, err)
		}
	}
	if _, err := ReadTable(context.Background(), dir, ReadOptions{PromptsMax: -1}); err == nil {
		t.Error("a sample of −1 prompts: got no error")
	}
}

// held is the live heap that a builder takes up which has read so many prompts of 5 arms.
func held(t *testing.T, max, prompts int) int64 {
	t.Helper()
	live := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	b := newBuilder(nil, nil)
	b.sample.max = max
	b.startFile("made up", false)
	var r record
	text := strings.Repeat("x", 300)
	for i := range prompts {
		for j := range 5 {
			row := Row{PromptID: fmt.Sprintf("prompt-%d", i), Prompt: text, Model: fmt.Sprintf("arm-%d", j)}
			r.fromRow(&row)
			if column, problem := b.add(&r, 1); problem != "" {
				t.Fatal(column, problem)
			}
		}
	}
	with := live()
	got, err := b.table()
	if err != nil {
		t.Fatal(err)
	}
	if max > 0 && len(got.Prompts) != max || got.Source().Prompts != prompts {
		t.Fatalf("got %d prompts of %+v", len(got.Prompts), got.Source())
	}
	b, got = nil, nil
	return with - live()
}

// TestSampleIsBounded: reading ten times the sample holds no more than a sample and what is gathered beyond it.
func TestSampleIsBounded(t *testing.T) {
	const n = 4000
	once, tenfold, all := held(t, n, n), held(t, n, 10*n), held(t, 0, 10*n)
	t.Logf("%d prompts: %d bytes; a sample of them from %d: %d; all of those: %d", n, once, 10*n, tenfold, all)
	if tenfold > 2*once {
		t.Errorf("a sample from %d prompts holds %d bytes, more than twice the %d of the sample", 10*n, tenfold, once)
	}
	if all < 6*once { // else the test measures nothing
		t.Errorf("%d prompts hold %d bytes, and %d hold %d: the test is blind", 10*n, all, n, once)
	}
}

// TestOriginOfWholeTable: a table that is nobody's sample is its own origin.
func TestOriginOfWholeTable(t *testing.T) {
	table := tableOf(bigRows(7, 3)[1:])
	if got, want := table.Source(), (Origin{Rows: 20, Prompts: 7}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
