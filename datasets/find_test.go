package datasets

import (
	"context"
	"os"
	"reflect"
	"testing"
	"time"
)

// TestFind: every sealed round is found by its id and its millisecond, also behind the first row group of a part and after the
// parts were compacted, and what was never sealed is not.
func TestFind(t *testing.T) {
	ctx, l := context.Background(), openLog(t, t.TempDir())
	rounds := sampleRounds(partGroupRows + 500)
	for i := range rounds { // more than a group in an hour, and several to a millisecond
		rounds[i].Decision.At = rounds[0].Decision.At.Truncate(time.Hour).Add(time.Duration(i/3) * time.Millisecond)
	}
	half := len(rounds) - 200
	for _, batch := range [][]Round{rounds[:half], rounds[half:]} {
		if _, err := l.Seal(batch); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		for _, i := range []int{0, 1, 2, 3, partGroupRows - 1, partGroupRows, half - 1, half, len(rounds) - 1} {
			want := &rounds[i]
			from := want.Decision.At.Truncate(time.Millisecond)
			got, ok, err := l.Find(ctx, want.Decision.RoundID, from, from.Add(time.Millisecond))
			if err != nil || !ok || !reflect.DeepEqual(got, *want) {
				t.Errorf("round %d: found %v, error %v\n%+v\nwant\n%+v", i, ok, err, got, *want)
			}
			if _, ok, err := l.Find(ctx, "rnd_never", from, from.Add(time.Millisecond)); ok || err != nil {
				t.Errorf("a round that never was: found %v, error %v", ok, err)
			}
			if _, ok, err := l.Find(ctx, want.Decision.RoundID, from.Add(time.Hour), from.Add(2*time.Hour)); ok || err != nil {
				t.Errorf("a round of another hour: found %v, error %v", ok, err)
			}
		}
	}
	check()
	if c, err := l.Compact(ctx, CompactOptions{}); err != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	check()
	for _, p := range l.Parts() {
		path := l.file(&p)
		b := readFile(t, path)
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok, err := l.Find(ctx, rounds[0].Decision.RoundID, rounds[0].Decision.At, rounds[0].Decision.At.Add(time.Millisecond)); ok || err == nil {
		t.Errorf("in a damaged part: found %v, error %v", ok, err)
	}
}

// TestLatest: the newest rounds of all parts, wherever they were sealed.
func TestLatest(t *testing.T) {
	ctx, l := context.Background(), openLog(t, t.TempDir())
	rounds := sampleRounds(9000) // of three hours
	for _, batch := range [][]Round{rounds[6000:], rounds[:3000], rounds[3000:6000]} {
		if _, err := l.Seal(batch); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{1, 10, 4000, 9000, 20000} {
		got, err := l.Latest(ctx, n)
		want := rounds[max(0, len(rounds)-n):]
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("the last %d: got %d, error %v", n, len(got), err)
		}
	}
	if got, err := openLog(t, t.TempDir()).Latest(ctx, 5); err != nil || len(got) != 0 {
		t.Errorf("of an empty log: %d, %v", len(got), err)
	}
}
