package datasets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/datasets/disk"
)

// dayAfter is when every hour of sampleRounds is long closed.
var dayAfter = time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)

// shatter seals rounds one part each, and a feedback for each as well.
func shatter(t testing.TB, l *Log, rounds []Round) {
	t.Helper()
	for i := range rounds {
		d := &rounds[i].Decision
		_, err := l.Seal(rounds[i : i+1])
		if err == nil {
			_, err = l.SealFeedback([]Feedback{{RoundID: d.RoundID, Source: "user", Score: float64(i), At: d.At.Add(time.Second)}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// glob is what someone reads who knows no manifest: all rounds of rounds/**/*.parquet.
func glob(t interface {
	Helper()
	Fatal(...any)
}, dir string) (ids []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "rounds", "*", "*", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		rows, err := parquet.ReadFile[struct {
			RoundID string `parquet:"round_id"`
		}](name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			ids = append(ids, r.RoundID)
		}
	}
	return ids
}

func idsOf(rounds []Round) (ids []string) {
	for i := range rounds {
		ids = append(ids, string(rounds[i].Decision.RoundID))
	}
	return ids
}

func mustCompact(t testing.TB, l *Log, o CompactOptions) Compaction {
	t.Helper()
	c, err := l.Compact(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCompact(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	rounds := sampleRounds(6)
	for i := range rounds[4:] {
		rounds[4+i].Decision.At = dayAfter.Add(time.Duration(1+i) * time.Minute) // an hour that is open
	}
	shatter(t, l, rounds)
	before, err := OpenLog(dir, LogOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	feedback, err := before.LastFeedback(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var told []int64
	c := mustCompact(t, l, CompactOptions{Now: dayAfter.Add(5 * time.Minute), Progress: func(done, total int64) { told = append(told, done, total) }})
	if want := (Compaction{Parts: 6, Merged: 8, MergedRows: 8, Into: 2}); c != want || !slices.Equal(told[len(told)-2:], []int64{8, 8}) {
		t.Errorf("got %+v, want %+v; told %v", c, want, told)
	}
	if n := l.Superseded(); n != 8 {
		t.Errorf("%d lines are superseded, want 8", n)
	}
	if left, err := l.Leftovers(); err != nil || len(left) != 8 || !strings.HasSuffix(left[0], ".parquet.old") {
		t.Errorf("got leftovers %v, %v, want the 8 old files", left, err)
	}
	for name, log := range map[string]*Log{"the writer": l, "one opened before": before} {
		if got, err := allRounds(log); err != nil || !reflect.DeepEqual(got, rounds) {
			t.Errorf("%s reads %d rounds, %v, want all in their order", name, len(got), err)
		}
		if got, err := log.LastFeedback(context.Background()); err != nil || !reflect.DeepEqual(got, feedback) {
			t.Errorf("%s reads feedback %v, %v, want %v", name, got, err, feedback)
		}
		if err := log.Verify(context.Background()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := glob(t, dir); !slices.Equal(got, idsOf(rounds)) {
		t.Errorf("a glob sees %v, want each round once", got)
	}
	if c := mustCompact(t, l, CompactOptions{Now: dayAfter.Add(5 * time.Minute)}); c != (Compaction{Parts: 6, Removed: 8}) {
		t.Errorf("the next pass: %+v, want 8 files removed and nothing else", c)
	}
	if left, err := l.Leftovers(); err != nil || len(left) != 0 {
		t.Errorf("got leftovers %v, %v", left, err)
	}
	if _, err := allRounds(before); !errors.Is(err, ErrStale) {
		t.Errorf("a reader two passes late: got %v, want %v", err, ErrStale)
	}
	if err := before.Verify(context.Background()); !errors.Is(err, ErrStale) {
		t.Errorf("a check two passes late: got %v, want %v", err, ErrStale)
	}
	manifest := readFile(t, dir, manifestName)
	shatter(t, l, rounds) // a journal that does not know of it
	if again := readFile(t, dir, manifestName); !slices.Equal(again, manifest) {
		t.Errorf("sealing again what was compacted added lines:\n%s", again[len(manifest):])
	}
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	rounds := sampleRounds(4)
	for i := range rounds {
		rounds[i].Decision.At = rounds[i].Decision.At.AddDate(0, 0, i)
	}
	shatter(t, l, rounds)
	now := rounds[1].Decision.At.AddDate(0, 0, 30)
	c := mustCompact(t, l, CompactOptions{Now: now, RetentionDays: 30})
	if want := (Compaction{Parts: 6, Dropped: 2, DroppedRows: 2}); c != want {
		t.Errorf("got %+v, want %+v: what is 30 days old stays", c, want)
	}
	if got, err := allRounds(l); err != nil || !reflect.DeepEqual(got, rounds[1:]) {
		t.Errorf("got %d rounds, %v, want the last three", len(got), err)
	}
	if got := glob(t, dir); !slices.Equal(got, idsOf(rounds[1:])) {
		t.Errorf("a glob sees %v", got)
	}
	mustCompact(t, l, CompactOptions{Now: now, RetentionDays: 30})
	if _, err := os.Stat(filepath.Join(dir, "rounds", "dt=2026-01-02")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of the day that was dropped: %v", err)
	}
	manifest := readFile(t, dir, manifestName)
	shatter(t, l, rounds[:1])
	if again := readFile(t, dir, manifestName); !slices.Equal(again, manifest) {
		t.Error("sealing again what was dropped brought it back")
	}
	if c := mustCompact(t, l, CompactOptions{Now: now.AddDate(90, 0, 0)}); c.Dropped != 0 {
		t.Errorf("without a retention: %+v", c)
	}
	for _, days := range []int{-1, RetentionDaysMax + 1} {
		if _, err := l.Compact(context.Background(), CompactOptions{RetentionDays: days}); err == nil {
			t.Errorf("a retention of %d days was taken", days)
		}
	}
	l.Close()
	if l = openLog(t, dir); len(l.Parts()) != 6 {
		t.Errorf("opened again: %d parts, want 6", len(l.Parts()))
	}
}

func TestRunsOf(t *testing.T) {
	hour := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	parts := func(kind Kind, h int, rows ...int64) (all []Part) {
		for _, n := range rows {
			at := hour.Add(time.Duration(h) * time.Hour)
			all = append(all, Part{Kind: kind, Rows: n, MinAt: at, MaxAt: at.Add(59 * time.Minute)})
		}
		return all
	}
	for name, c := range map[string]struct {
		parts []Part
		want  []int
	}{
		"one part":         {parts(KindRounds, 0, 5), nil},
		"at the limit":     {parts(KindRounds, 0, PartRowsMax-1, 1), []int{2}},
		"one row past it":  {parts(KindRounds, 0, PartRowsMax, 1), nil},
		"then the rest":    {parts(KindRounds, 0, 60_000, 60_000, 40_000, 1, 2), []int{2, 2}},
		"many":             {parts(KindRounds, 0, make([]int64, ReplacesMax+3)...), []int{ReplacesMax, 3}},
		"two hours":        {append(parts(KindRounds, 0, 1, 1), parts(KindRounds, 1, 1, 1)...), []int{2, 2}},
		"two kinds":        {append(parts(KindRounds, 0, 1), parts(KindFeedback, 0, 1)...), nil},
		"an hour not over": {append(parts(KindRounds, 1, 1, 1), parts(KindRounds, 2, 1, 1)...), []int{2}},
	} {
		var got []int
		for _, run := range runsOf(c.parts, hour.Add(2*time.Hour), nil) {
			got = append(got, len(run))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got runs of %v, want %v", name, got, c.want)
		}
	}
}

// TestManifestRefuses: a line that supersedes what it may not is damage.
func TestManifestRefuses(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	part := func(kind Kind, name string, h int, rows int64, replaces ...int64) Part {
		at := at.Add(time.Duration(h) * time.Hour)
		return Part{Kind: kind, Path: string(kind) + "/" + name + ".parquet", SHA256: sumHex([]byte(name)), Bytes: 1, Rows: rows, MinAt: at, MaxAt: at, Replaces: replaces}
	}
	lines := []Part{
		part(KindRounds, "a", 0, 1), part(KindRounds, "b", 0, 1), part(KindRounds, "c", 0, 1), part(KindRounds, "d", 0, 1), // 1 to 4
		part(KindRounds, "e", 1, 1), part(KindFeedback, "f", 0, 1), // 5, 6
		part(KindRounds, "cd", 0, 2, 3, 4), {Kind: KindRounds, Replaces: []int64{5}}, // 7, 8
	}
	for want, p := range map[string]Part{
		"":                            part(KindRounds, "x", 0, 4, 1, 2, 7),
		"line 9, which is not there":  part(KindRounds, "x", 0, 2, 2, 9),
		"line 0, which is not there":  part(KindRounds, "x", 0, 2, 2, 0),
		"line 3, which stands for no": part(KindRounds, "x", 0, 2, 2, 3),
		"line 5, which stands for no": {Kind: KindRounds, Replaces: []int64{5}},
		"line 6, which is of kind":    part(KindRounds, "x", 0, 3, 1, 2, 6),
		"do not follow each other":    part(KindRounds, "x", 0, 3, 1, 7),
		"lines [2 1] do not follow":   part(KindRounds, "x", 0, 2, 2, 1),
		"lines [1 1] do not follow":   part(KindRounds, "x", 0, 2, 1, 1),
		"lines [1 2] do not follow":   part(KindRounds, "x", 1, 2, 1, 2), // another hour
		"it holds 3 rows":             part(KindRounds, "x", 0, 3, 1, 2),
		"vouched for rounds/c":        part(KindRounds, "c", 0, 1),
		"neither a file nor":          {Kind: KindRounds},
		"neither a file nor lines":    {Kind: KindRounds, Rows: 1, Replaces: []int64{1}},
		"are not in order":            {Kind: KindRounds, Replaces: []int64{2, 1}},
		"replaces 257 lines":          part(KindRounds, "x", 0, 2, make([]int64, ReplacesMax+1)...),
		"bytes, rows or times":        {Kind: KindRounds, Path: "rounds/x.parquet", SHA256: sumHex(nil), Replaces: []int64{1, 2}},
	} {
		m := manifestOf(t, slices.Clone(lines)...)
		err := m.check(&p)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestManifestOrder: a merged part stands where its sources stood, before what was sealed after them.
func TestManifestOrder(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	part := func(name string, rows int64, replaces ...int64) Part {
		return Part{Kind: KindRounds, Path: "rounds/" + name, SHA256: sumHex(nil), Bytes: 1, Rows: rows, MinAt: at, MaxAt: at, Replaces: replaces}
	}
	m := manifestOf(t, part("a", 1), part("b", 1), part("c", 1), part("d", 1), part("ab", 2, 1, 2), part("e", 1), part("abc", 3, 5, 3))
	var names []string
	for _, p := range m.parts() {
		names = append(names, strings.TrimPrefix(p.Path, "rounds/"))
	}
	if want := []string{"abc", "d", "e"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

// TestManifestLineMax: the longest line that can be asked for fits, at the last number there is.
func TestManifestLineMax(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 0, 0, 999_999_000, time.UTC)
	p := Part{Kind: KindFeedback, MinAt: at, MaxAt: at, Rows: PartRowsMax, Bytes: math.MaxInt64, SHA256: sumHex(nil), Seq: PartsMax, Prev: sumHex(nil)}
	p.Path = folderOf(p.Kind, at) + fmt.Sprintf("/%s-%.16s.parquet", at.Format("0405.000000"), p.SHA256)
	for range ReplacesMax {
		p.Replaces = append(p.Replaces, PartsMax-1)
	}
	line, err := json.Marshal(p)
	if err != nil || len(line) > manifestLineMax || len(line) < manifestLineMax/2 {
		t.Errorf("the longest line has %d bytes (%v), at most %d can be read", len(line), err, manifestLineMax)
	}
}

// TestCompactKilled kills the process at every operation of a pass, opens the log again and finishes: nothing is lost,
// nothing is there twice, for readers of the manifest and for those who read the folder.
func TestCompactKilled(t *testing.T) {
	rounds := sampleRounds(6)
	for i := range rounds[:2] {
		rounds[i].Decision.At = rounds[i].Decision.At.AddDate(0, 0, -40)
	}
	o := CompactOptions{Now: dayAfter, RetentionDays: 30}
	sealed := t.TempDir()
	l := openLog(t, sealed)
	shatter(t, l, rounds)
	l.Close()
	for n := 0; ; n++ {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(sealed)); err != nil {
			t.Fatal(err)
		}
		m := &mortal{left: math.MaxInt}
		l, err := OpenLog(dir, LogOptions{FS: m})
		if err != nil {
			t.Fatal(err)
		}
		m.left = n
		_, err = l.Compact(context.Background(), o)
		l.Close()
		if !m.dead {
			if err != nil || n < 40 {
				t.Errorf("the pass has %d operations, %v", n, err)
			}
			break
		}
		reader, err := OpenLog(dir, LogOptions{ReadOnly: true}) // before anything is repaired
		if err != nil {
			t.Fatalf("killed at %d: %v", n, err)
		}
		if got, err := allRounds(reader); err != nil || !reflect.DeepEqual(got[len(got)-4:], rounds[2:]) {
			t.Fatalf("killed at %d: a reader sees %v, %v", n, idsOf(got), err)
		}
		if l, err = OpenLog(dir, LogOptions{FS: &mortal{left: math.MaxInt}}); err != nil {
			t.Fatalf("killed at %d: %v", n, err)
		}
		got, err := allRounds(l)
		if seen := glob(t, dir); err != nil || !slices.Equal(seen, idsOf(got)) {
			t.Fatalf("killed at %d and opened: a glob sees %v, the log %v, %v", n, seen, idsOf(got), err)
		}
		mustCompact(t, l, o)
		mustCompact(t, l, o)
		if got, err := allRounds(l); err != nil || !reflect.DeepEqual(got, rounds[2:]) || !slices.Equal(glob(t, dir), idsOf(got)) {
			t.Fatalf("killed at %d and finished: got %v, %v", n, idsOf(got), err)
		}
		if files, err := l.files(); err != nil || len(files) != 2 || len(l.Parts()) != 2 {
			t.Fatalf("killed at %d and finished: files %v, %v", n, files, err)
		}
		l.Close()
	}
}

// TestCompactAnything: random logs, passes and kills. The model is the lists of rows in the order of their sealing, an
// hour each.
func TestCompactAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &compactWorld{T: t, dir: tempDir(t), rounds: map[int64][]Round{}, feedback: map[int64][]Feedback{}, now: time.UnixMicro(1_700_050_000_000_000)}
		w.open()
		defer func() { w.l.Close() }()
		for range rapid.IntRange(1, 3).Draw(t, "days") {
			for range rapid.IntRange(0, 3).Draw(t, "batches") {
				w.seal(t)
			}
			w.compact(t)
			w.check(t)
		}
	})
}

type compactWorld struct {
	*rapid.T
	dir      string
	m        *mortal
	l        *Log
	n        int
	now      time.Time
	rounds   map[int64][]Round
	feedback map[int64][]Feedback
}

// open starts the next process.
func (w *compactWorld) open() {
	if w.l != nil {
		w.l.Close()
	}
	w.m = &mortal{left: math.MaxInt}
	l, err := OpenLog(w.dir, LogOptions{FS: w.m})
	if err != nil {
		w.Fatal(err)
	}
	w.l = l
}

// survive does something until it is done: killed, the next process does it again.
func (w *compactWorld) survive(t *rapid.T, do func() error) {
	if rapid.Bool().Draw(t, "killed") {
		w.m.left = rapid.IntRange(0, 150).Draw(t, "after")
	}
	err := do()
	if w.m.dead {
		w.open()
		err = do()
	}
	w.m.left = math.MaxInt
	if err != nil {
		t.Fatal(err)
	}
}

func hourAt(at time.Time) int64 { return at.Truncate(time.Hour).Unix() }

func (w *compactWorld) seal(t *rapid.T) {
	rounds := rapid.SliceOfN(rapid.Custom(genRound), 1, 3).Draw(t, "rounds")
	for i := range rounds {
		w.n++
		id := RoundID(fmt.Sprintf("rnd_%d", w.n)) // two equal batches would be one
		rounds[i].Decision.RoundID, rounds[i].Outcome.RoundID = id, id
	}
	feedback := make([]Feedback, rapid.IntRange(0, 3).Draw(t, "feedback"))
	for i := range feedback {
		feedback[i] = Feedback{RoundID: RoundID(fmt.Sprintf("rnd_%d", rapid.IntRange(1, w.n).Draw(t, "of"))), Source: rapid.SampledFrom([]string{"judge", "user"}).Draw(t, "source"),
			Score: float64(w.n), At: genAt(t).Truncate(time.Hour), Comment: fmt.Sprintf("%d.%d", w.n, i)}
	}
	w.survive(t, func() error {
		_, err := w.l.Seal(rounds)
		_, err2 := w.l.SealFeedback(feedback)
		return errors.Join(err, err2)
	})
	for _, r := range rounds {
		w.rounds[hourAt(r.Decision.At)] = append(w.rounds[hourAt(r.Decision.At)], r)
	}
	for _, f := range feedback {
		w.feedback[hourAt(f.At)] = append(w.feedback[hourAt(f.At)], f)
	}
}

func (w *compactWorld) compact(t *rapid.T) {
	w.survive(t, func() error {
		_, err := w.l.Compact(context.Background(), CompactOptions{Now: w.now})
		return err
	})
	if parts := w.l.Parts(); len(parts) != len(w.rounds)+len(w.feedback) {
		t.Fatalf("%d parts for %d hours of rounds and %d of feedback", len(parts), len(w.rounds), len(w.feedback))
	}
}

func inOrder[T any](hours map[int64][]T) (all []T) {
	for _, h := range slices.Sorted(maps.Keys(hours)) {
		all = append(all, hours[h]...)
	}
	return all
}

func (w *compactWorld) check(t *rapid.T) {
	l, err := OpenLog(w.dir, LogOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	rounds, err := allRounds(l)
	if want := inOrder(w.rounds); err != nil || !reflect.DeepEqual(rounds, want) {
		t.Fatalf("got %v, %v\nwant %v", idsOf(rounds), err, idsOf(want))
	}
	var feedback []Feedback
	err = l.Feedback(context.Background(), func(b []Feedback) error { feedback = append(feedback, b...); return nil })
	if want := inOrder(w.feedback); err != nil || !reflect.DeepEqual(feedback, want) {
		t.Fatalf("got %v, %v\nwant %v", feedback, err, want)
	}
	if seen := glob(t, w.dir); len(seen) != len(rounds) {
		t.Fatalf("a glob sees %v of %v", seen, idsOf(rounds))
	}
	if err := l.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestCompactBesideOthers: sealing and reading go on while the log is compacted again and again. Every reader sees all
// that was sealed when it opened, once, or is told to open again.
func TestCompactBesideOthers(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	ctx, stop := context.WithCancel(t.Context())
	compacted := make(chan error)
	go func() {
		for ctx.Err() == nil {
			if _, err := l.Compact(ctx, CompactOptions{Now: dayAfter}); err != nil && ctx.Err() == nil {
				compacted <- err
				return
			}
		}
		compacted <- nil
	}()
	rounds := sampleRounds(60)
	read, stale := 0, 0
	for i := range rounds {
		if _, err := l.Seal(rounds[i : i+1]); err != nil {
			t.Fatal(err)
		}
		reader, err := OpenLog(dir, LogOptions{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		got, err := allRounds(reader)
		switch {
		case errors.Is(err, ErrStale):
			stale++
		case err != nil || !slices.Equal(idsOf(got), idsOf(rounds[:i+1])):
			t.Fatalf("after %d rounds: got %v, %v", i+1, idsOf(got), err)
		default:
			read++
		}
	}
	stop()
	if err := <-compacted; err != nil {
		t.Fatal(err)
	}
	if read == 0 || l.Superseded() == 0 {
		t.Errorf("%d readings went through, %d lines were superseded: nothing was tested", read, l.Superseded())
	}
	t.Logf("%d readings, %d too late; %d lines superseded", read, stale, l.Superseded())
}

// TestCompactInDoubt: the line of a merge is on the disk although the disk said that it is not. No later pass may take the
// merged part away: the next process reads that line.
func TestCompactInDoubt(t *testing.T) {
	dir, d := t.TempDir(), &doubtful{}
	l, err := OpenLog(dir, LogOptions{FS: d})
	if err != nil {
		t.Fatal(err)
	}
	rounds := sampleRounds(3)
	shatter(t, l, rounds)
	d.on = true
	cut, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 2 { // the second pass would tidy up and come no further
		if _, err := l.Compact(cut, CompactOptions{Now: dayAfter}); err == nil {
			t.Error("the pass went through")
		}
		cancel()
	}
	if got, err := allRounds(l); err != nil || !reflect.DeepEqual(got, rounds) {
		t.Errorf("got %d rounds, %v, want what there was", len(got), err)
	}
	l.Close()
	l = openLog(t, dir)
	if n := l.Superseded(); n != 3 {
		t.Errorf("%d lines are superseded, want the 3 of the line in doubt", n)
	}
	for range 2 {
		mustCompact(t, l, CompactOptions{Now: dayAfter})
		if got, err := allRounds(l); err != nil || !reflect.DeepEqual(got, rounds) || !slices.Equal(glob(t, dir), idsOf(rounds)) {
			t.Errorf("opened again: got %d rounds, %v", len(got), err)
		}
	}
}

// TestCompactDamaged: a source that is not as it was sealed stops its own hour only, and is not papered over.
func TestCompactDamaged(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	rounds := sampleRounds(6)
	for i := range rounds[3:] {
		rounds[3+i].Decision.At = rounds[3+i].Decision.At.Add(time.Hour)
	}
	shatter(t, l, rounds)
	bad := l.Parts()[1]
	b := readFile(t, l.file(&bad))
	b[100] ^= 1
	writeFile(t, l.file(&bad), b)
	c, err := l.Compact(context.Background(), CompactOptions{Now: dayAfter})
	var verify *VerifyError
	if !errors.As(err, &verify) || verify.Path != bad.Path || c.Merged != 9 || c.Into != 3 {
		t.Errorf("got %+v, %v, want a VerifyError of %s and the other three merged", c, err, bad.Path)
	}
	if err := l.Verify(context.Background()); !errors.As(err, &verify) || verify.Path != bad.Path {
		t.Errorf("afterwards: got %v, want a VerifyError of %s", err, bad.Path)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*", "*", "*"+arriving)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestCompactNewer: a part with columns that this program does not know is left to the program that does.
func TestCompactNewer(t *testing.T) {
	l := openLog(t, t.TempDir())
	type newer struct {
		feedbackRow
		More string `parquet:"more"`
	}
	at := func(r *newer) int64 { return r.At }
	for i := range 2 {
		row := newer{feedbackRow{RoundID: "r", Metrics: "null", Score: float64(i), At: 1.7e15}, "x"}
		if _, err := l.seal(func(name string) ([]Prepared, error) {
			return prepareRows(l, name, KindFeedback, []newer{row}, []newer{row}, at, func(got, _, want *newer, _ bool) bool { return *got == *want })
		}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := l.Compact(context.Background(), CompactOptions{Now: dayAfter})
	if err == nil || !strings.Contains(err.Error(), "column more is unknown") || c.Merged != 0 {
		t.Errorf("got %+v, %v", c, err)
	}
}

// TestReadBack is the broken twin. A disk flips a bit on its way: the real sealer and the real compaction refuse, keep
// what there was, and succeed once the disk does. The twin leaves the reading back out, vouches for what nobody can read,
// and the audit finds it.
func TestReadBack(t *testing.T) {
	dir, d := t.TempDir(), &flipping{}
	l, err := OpenLog(dir, LogOptions{FS: d})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rounds := sampleRounds(6)
	shatter(t, l, rounds[:4])
	manifest := readFile(t, dir, manifestName)
	d.on = true
	if _, err := l.Seal(rounds[4:]); err == nil || !strings.Contains(err.Error(), "reading back") {
		t.Errorf("sealing: got %v", err)
	}
	if _, err := l.Compact(context.Background(), CompactOptions{Now: dayAfter}); err == nil || !strings.Contains(err.Error(), "reading back") {
		t.Errorf("compacting: got %v", err)
	}
	if got, err := allRounds(l); err != nil || !reflect.DeepEqual(got, rounds[:4]) || !slices.Equal(readFile(t, dir, manifestName), manifest) {
		t.Errorf("got %d rounds, %v, or another manifest: want what there was", len(got), err)
	}
	d.on = false
	if _, err := l.Seal(rounds[4:]); err != nil {
		t.Fatal(err)
	}
	mustCompact(t, l, CompactOptions{Now: dayAfter})
	if got, err := allRounds(l); err != nil || !reflect.DeepEqual(got, rounds) || !slices.Equal(glob(t, dir), idsOf(rounds)) {
		t.Errorf("got %d rounds, %v, want 6 once the disk is well", len(got), err)
	}
	if err := l.Verify(context.Background()); err != nil {
		t.Errorf("the audit of the real one: %v", err)
	}
	d.on = true
	twin := carelessSeal(t, l, sampleRounds(7)[6:])
	var verify *VerifyError
	if err := l.Verify(context.Background()); !errors.As(err, &verify) || verify.Path != twin.Path {
		t.Errorf("the audit of the twin: got %v, want a VerifyError of %s", err, twin.Path)
	}
}

// carelessSeal is Seal without its readBack and without a look at what it adopts.
func carelessSeal(t *testing.T, l *Log, rounds []Round) Part {
	t.Helper()
	rows := make([]partRow, len(rounds))
	p := Part{Kind: KindRounds, Rows: int64(len(rounds)), MinAt: rounds[0].Decision.At, MaxAt: rounds[0].Decision.At}
	w, err := createPart[partRow](l, "careless.tmp", &l.sealing)
	for i := range rounds {
		if err == nil {
			rows[i], err = flatten(&rounds[i], new([]byte))
		}
	}
	if err == nil {
		err = w.write(rows)
	}
	if err == nil {
		err = w.close(&p)
	}
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(l.file(&p)), 0o700), l.install("careless.tmp", l.file(&p)))
	}
	if err == nil {
		p, err = l.m.append(disk.OS{}, filepath.Join(l.dir, manifestName), p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}
