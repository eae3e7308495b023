package datasets

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// temps lists what is being prepared in a log's folder.
func temps(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestAdopt: what another process prepared, and said in JSON, becomes what Seal would have made of it.
func TestAdopt(t *testing.T) {
	rounds, feedback := sampleRounds(20), []Feedback{{RoundID: "r", Source: "user", Score: 1, At: sampleRounds(1)[0].Decision.At}}
	here, there := openLog(t, t.TempDir()), openLog(t, t.TempDir())
	want, err := here.Seal(rounds)
	if err != nil {
		t.Fatal(err)
	}
	more, err := here.SealFeedback(feedback)
	if err != nil {
		t.Fatal(err)
	}
	for again := range 2 {
		ready, err := Prepare(there.Dir(), TempName(), rounds, feedback)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(ready)
		ready = nil
		if err = errors.Join(err, json.Unmarshal(text, &ready)); err != nil {
			t.Fatal(err)
		}
		got, err := there.Adopt(ready)
		if err != nil || !reflect.DeepEqual(got, append(slices.Clone(want), more...)) {
			t.Errorf("time %d: got %+v, %v, want %+v and %+v", again, got, err, want, more)
		}
	}
	if here.Head() != there.Head() || len(temps(t, there.Dir())) > 0 {
		t.Errorf("the manifests differ, or %v was left", temps(t, there.Dir()))
	}
}

// TestAdoptBelievesNothing: a child that lies is found out, and the log is what it was.
func TestAdoptBelievesNothing(t *testing.T) {
	for want, lie := range map[string]func(p *Prepared){
		"it was altered":   func(p *Prepared) { p.Part.SHA256 = strings.Repeat("0", 64); p.Part.Path = p.Part.place() },
		"no name of":       func(p *Prepared) { p.Temp = manifestName },
		"not its own":      func(p *Prepared) { p.Part.Path = "rounds/elsewhere.parquet" },
		"is unknown":       func(p *Prepared) { p.Part.Kind = "rumours"; p.Part.Path = p.Part.place() },
		"make no sense":    func(p *Prepared) { p.Part.Rows = PartRowsMax + 1 },
		"no such file":     func(p *Prepared) { p.Temp = TempName() + tempSuffix },
		"not one of its k": func(p *Prepared) { p.Part.Kind = "../rounds"; p.Part.Path = p.Part.place() },
	} {
		dir := t.TempDir()
		l := openLog(t, dir)
		name := TempName()
		ready, err := Prepare(dir, name, sampleRounds(3), nil)
		if err != nil {
			t.Fatal(err)
		}
		lie(&ready[0])
		if parts, err := l.Adopt(ready); err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "is unknown") || len(parts) > 0 {
			t.Errorf("got %v, %v, want %q", parts, err, want)
		}
		l.Discard(name)
		if orphans, err := l.Orphans(); err != nil || len(orphans) > 0 || len(l.Parts()) > 0 || len(temps(t, dir)) > 0 {
			t.Errorf("%s: left %v, %v, %v", want, orphans, l.Parts(), temps(t, dir))
		}
		if _, err := l.Seal(sampleRounds(3)); err != nil {
			t.Errorf("%s: the truth afterwards: %v", want, err)
		}
	}
}

// TestOpenSweeps: what a process that was killed had prepared goes when the log is next opened for writing, and before that
// under its own name alone.
func TestOpenSweeps(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	mine, other := TempName(), TempName()
	for _, name := range []string{mine, other} {
		if _, err := Prepare(dir, name, sampleRounds(3), nil); err != nil {
			t.Fatal(err)
		}
	}
	l.Discard("") // is nobody's
	Discard(dir, mine)
	if left := temps(t, dir); len(left) != 1 || !strings.Contains(left[0], other) {
		t.Errorf("left %v, want what %s stands for", left, other)
	}
	l.Close()
	if _, err := OpenLog(dir, LogOptions{ReadOnly: true}); err != nil || len(temps(t, dir)) != 1 {
		t.Errorf("a reader removed something: %v", err)
	}
	openLog(t, dir)
	if left := temps(t, dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestCompactAside: a merge in another process gives the same bytes, and one that fails is made here.
func TestCompactAside(t *testing.T) {
	rounds := sampleRounds(9)
	var heads []string
	for name, merge := range map[string]func(context.Context, MergeJob) (Prepared, error){
		"here": nil,
		"there": func(ctx context.Context, j MergeJob) (Prepared, error) {
			return j.Do(ctx)
		},
		"nowhere": func(_ context.Context, j MergeJob) (Prepared, error) {
			err := os.WriteFile(filepath.Join(j.Log, j.Name+tempSuffix), []byte("half"), 0o600)
			return Prepared{}, errors.Join(err, errors.New("killed"))
		},
	} {
		dir := t.TempDir()
		l := openLog(t, dir)
		shatter(t, l, rounds)
		told := int64(0)
		c, err := l.Compact(context.Background(), CompactOptions{Now: dayAfter, Merge: merge, Progress: func(done, _ int64) { told = done }})
		if err != nil || c.Merged != 18 || told != 18 || len(temps(t, dir)) > 0 {
			t.Errorf("%s: %+v, %v, %d rows told of, %v left", name, c, err, told, temps(t, dir))
		}
		if got, err := allRounds(l); err != nil || !reflect.DeepEqual(got, rounds) {
			t.Errorf("%s: got %d rounds, %v", name, len(got), err)
		}
		heads = append(heads, l.Head())
	}
	if len(slices.Compact(heads)) != 1 {
		t.Errorf("the manifests differ: %v", heads)
	}
	if _, err := (MergeJob{}).Do(context.Background()); err == nil {
		t.Error("nothing was merged")
	}
}
