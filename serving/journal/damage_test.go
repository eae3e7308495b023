package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk"
	"github.com/tradewind-llm/tradewind/datasets/disk/frame"
)

// small is a segment of short frames, and the payload of each by its sequence.
func small() ([]byte, map[uint64]string) {
	b, payloads := []byte(magic), map[uint64]string{}
	for i := range uint64(7) {
		payload := []byte(`{"round_id":"rnd_` + string(rune('a'+i)) + `","x":"` + string(bytes.Repeat([]byte{'x'}, int(i*5))) + `"}`)
		payloads[i+1] = string(payload)
		b = frame.Append(b, KindFeedback, i+1, payload, frame.Sum(payload))
	}
	return b, payloads
}

// read scans a segment and fails on a frame that was not written, or out of order.
func read(t testing.TB, segment []byte, payloads map[uint64]string) (frames int, s *frame.Scanner) {
	t.Helper()
	s = frame.NewScanner(segment, magic, kinds, 1)
	last, bytesRead := uint64(0), 0
	for f, ok := s.Next(); ok; f, ok = s.Next() {
		if f.Sequence <= last || payloads[f.Sequence] != string(f.Payload) || f.Kind != KindFeedback {
			t.Fatalf("frame %d after %d came back as %q, written %q", f.Sequence, last, f.Payload, payloads[f.Sequence])
		}
		last, frames, bytesRead = f.Sequence, frames+1, bytesRead+frame.HeaderSize+len(f.Payload)
	}
	if head := min(len(segment), len(magic)); bytesRead+s.Torn+s.Damaged < len(segment)-head || bytesRead+s.Torn+s.Damaged > len(segment) {
		t.Fatalf("%d bytes read, %d torn, %d damaged of %d: some are not accounted for", bytesRead, s.Torn, s.Damaged, len(segment))
	}
	return frames, s
}

func TestEveryTruncation(t *testing.T) {
	segment, payloads := small()
	whole, end := 0, len(magic)
	for cut := range len(segment) + 1 {
		for whole < len(payloads) && end+frame.HeaderSize+len(payloads[uint64(whole+1)]) <= cut {
			end += frame.HeaderSize + len(payloads[uint64(whole+1)])
			whole++
		}
		wantTorn := cut - end
		if cut < len(magic) {
			wantTorn = cut
		}
		if got, s := read(t, segment[:cut], payloads); got != whole || s.Torn != wantTorn || s.Damaged != 0 {
			t.Errorf("cut at %d: %d frames, %d torn, %d damaged, want %d frames and %d torn", cut, got, s.Torn, s.Damaged, whole, wantTorn)
		}
	}
}

// One flipped bit costs the frame it is in and no other.
func TestEveryBitFlip(t *testing.T) {
	segment, payloads := small()
	for bit := range len(segment) * 8 {
		segment[bit/8] ^= 1 << (bit % 8)
		want := len(payloads) - 1
		if bit/8 < len(magic) {
			want++
		}
		if got, s := read(t, segment, payloads); got != want || s.Damaged+s.Torn == 0 {
			t.Errorf("bit %d: %d frames, %d damaged, %d torn, want %d frames and the damage told", bit, got, s.Damaged, s.Torn, want)
		}
		segment[bit/8] ^= 1 << (bit % 8)
	}
}

// After a power loss a block in the middle may be missing while later ones reached the disk.
func TestEveryHole(t *testing.T) {
	segment, payloads := small()
	for from := len(magic); from < len(segment); from += 3 {
		for to := from + 1; to < len(segment); to += 7 {
			holed := bytes.Clone(segment)
			clear(holed[from:to])
			want, off := 0, len(magic)
			for i := range uint64(len(payloads)) {
				end := off + frame.HeaderSize + len(payloads[i+1])
				if end <= from || off >= to {
					want++
				}
				off = end
			}
			if got, _ := read(t, holed, payloads); got < want {
				t.Errorf("hole %d to %d: %d frames, want at least the %d it does not touch", from, to, got, want)
			}
		}
	}
}

// The same, through Open: whatever the cut, what was whole comes out once and the journal goes on.
func TestRecoveryAtEveryCut(t *testing.T) {
	source := t.TempDir()
	j := open(t, source, Options{})
	for i := range 3 {
		d := &datasets.Decision{RoundID: decision(i).RoundID, At: at}
		check(t, j.AppendDecision(context.Background(), d))
		if i < 2 {
			check(t, j.AppendOutcome(context.Background(), &datasets.Outcome{RoundID: d.RoundID, At: at, Status: datasets.Completed}))
		}
	}
	check(t, j.Close())
	segment, err := os.ReadFile(segments(t, source)[0])
	check(t, err)
	dir := t.TempDir()
	for cut := 0; cut <= len(segment); cut += 41 { // every byte is tried above, where it costs no fsync
		decided, ended := count(segment[:cut])
		name := filepath.Join(dir, "00000000000000000001"+suffix)
		check(t, os.WriteFile(name, segment[:cut], 0o600))
		for pass := range 2 {
			j, err := Open(dir, Options{})
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			r := j.Recovered()
			if want := decided - ended; pass == 0 && len(r.Unknown) != want || pass == 1 && len(r.Unknown) != 0 {
				t.Errorf("cut at %d, pass %d: %d rounds ended, want %d at first and none again", cut, pass, len(r.Unknown), want)
			}
			if pass == 1 {
				batches := sealed(t, j)
				if got := rounds(batches); len(got) != decided {
					t.Errorf("cut at %d: %d rounds sealed, want %d", cut, len(got), decided)
				}
				for _, b := range batches { // a torn end is no damage: it is cut off where it is found
					if b.Damaged > 0 {
						t.Errorf("cut at %d: %d bytes of %s count as damaged", cut, b.Damaged, b.ID)
					}
				}
			}
			check(t, j.Close())
		}
		for _, name := range segments(t, dir) {
			check(t, os.Remove(name))
		}
	}
}

func count(segment []byte) (decided, ended int) {
	s := frame.NewScanner(segment, magic, kinds, 1)
	for f, ok := s.Next(); ok; f, ok = s.Next() {
		if f.Kind == KindDecision {
			decided++
		} else {
			ended++
		}
	}
	return decided, ended
}

func TestDamagedSegmentIsKept(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	run(t, j, 0, 5)
	check(t, j.Close())
	name := segments(t, dir)[0]
	b, err := os.ReadFile(name)
	check(t, err)
	b[len(b)/2] ^= 1
	check(t, os.WriteFile(name, b, 0o600))

	j = open(t, dir, Options{})
	if r := j.Recovered(); r.DamagedBytes == 0 || r.TornBytes != 0 || r.Frames != 9 {
		t.Errorf("recovered %+v, want nine of ten frames and the damage told", r)
	}
	got := rounds(sealed(t, j))
	if len(got) < 4 {
		t.Errorf("%d rounds sealed, want all but the damaged one", len(got))
	}
	if kept, err := os.ReadFile(name + ".damaged"); err != nil || !bytes.Equal(kept, b) {
		t.Errorf("the damaged segment was not kept: %v", err)
	}
}

// sickDisk fails what its switches say.
type sickDisk struct {
	disk.OS
	writes, cuts, syncs atomic.Bool
}

func (d *sickDisk) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	f, err := d.OS.OpenFile(name, flag, perm)
	return &sickFile{f, d}, err
}

type sickFile struct {
	disk.File
	d *sickDisk
}

func (f *sickFile) Write(b []byte) (int, error) {
	if f.d.writes.Load() {
		return 0, syscall.EIO
	}
	return f.File.Write(b)
}

func (f *sickFile) Truncate(size int64) error {
	if f.d.cuts.Load() {
		return syscall.EIO
	}
	return f.File.Truncate(size)
}

func (f *sickFile) Sync() error {
	if f.d.syncs.Load() {
		return syscall.EIO
	}
	return f.File.Sync()
}

// TestBrokenSegmentIsLeft: once a disk is well again the next frame goes to a new segment, whose end is known, whether the old
// one could not be cut or not be synced, and whether it held anything or not.
func TestBrokenSegmentIsLeft(t *testing.T) {
	for _, mode := range []Sync{Write, Always} {
		for first := range 2 {
			t.Run(fmt.Sprintf("%s, after %d rounds", mode, first), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir, d := t.TempDir(), &sickDisk{}
					j := open(t, dir, Options{FS: d, Sync: mode})
					run(t, j, 0, first)
					d.writes.Store(true)
					d.cuts.Store(true)
					if err := j.AppendDecision(t.Context(), decision(1)); !errors.Is(err, ErrUnavailable) {
						t.Errorf("a write that fails: %v, want ErrUnavailable", err)
					}
					d.writes.Store(false)
					d.cuts.Store(false)
					run(t, j, 1, 2)
					time.Sleep(time.Second)
					d.syncs.Store(true)
					err := j.AppendDecision(t.Context(), decision(2))
					time.Sleep(time.Second) // of mode Write the background's fsync fails
					d.syncs.Store(false)
					if mode == Always {
						if !errors.Is(err, ErrUnavailable) {
							t.Errorf("an fsync that fails: %v, want ErrUnavailable", err)
						}
						err = j.AppendDecision(t.Context(), decision(2))
					}
					check(t, err)
					check(t, j.AppendOutcome(t.Context(), outcome(2)))
					if got := segments(t, dir); len(got) != 3 {
						t.Errorf("files %v, want one for each time that the disk was ill", got)
					}
					if got := rounds(sealed(t, j)); len(got) != 2+first {
						t.Errorf("sealed %v, want all rounds", got)
					}
					check(t, j.Close())
				})
			})
		}
	}
}

func TestSealStopsWithItsContext(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	run(t, j, 0, 1)
	check(t, j.Rotate())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := j.Seal(ctx, reading(func(Batch) error { t.Error("called"); return nil })); !errors.Is(err, context.Canceled) {
		t.Errorf("Seal = %v, want Canceled", err)
	}
}

// FuzzScanner looks for panics, for frames that run out of the segment, and for bytes that are read twice.
func FuzzScanner(f *testing.F) {
	segment, _ := small()
	f.Add(segment, uint64(1))
	f.Add(segment[:50], uint64(1))
	f.Add([]byte(magic), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, first uint64) {
		s := frame.NewScanner(b, magic, kinds, first)
		end, n := 0, 0
		for fr, ok := s.Next(); ok; fr, ok = s.Next() {
			if fr.Offset < end || fr.End() > len(b) || fr.Kind < KindDecision || fr.Kind > KindFeedback {
				t.Fatalf("frame %d at %d..%d after %d of %d", fr.Sequence, fr.Offset, fr.End(), end, len(b))
			}
			again := frame.Append(nil, fr.Kind, fr.Sequence, fr.Payload, frame.Sum(fr.Payload))
			if !bytes.Equal(again, b[fr.Offset:fr.End()]) {
				t.Fatalf("frame %d is not what its bytes say", fr.Sequence)
			}
			_, _ = roundID(fr.Payload)
			end, n = fr.End(), n+len(again)
		}
		if n+s.Damaged+s.Torn > len(b) {
			t.Fatalf("%d read, %d damaged, %d torn of %d", n, s.Damaged, s.Torn, len(b))
		}
	})
}

// counted counts the files of a folder that are open.
type counted struct {
	disk.OS
	open atomic.Int64
}

type countedFile struct {
	disk.File
	open *atomic.Int64
}

func (c *counted) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := c.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	return &countedFile{f, &c.open}, nil
}

func (f *countedFile) Close() error {
	err := f.File.Close()
	if err == nil {
		f.open.Add(-1)
	}
	return err
}

// TestWaitingTakesNoDescriptors: segments that wait to be sealed, of this process and of one before it, are not open unless
// recent rounds are read from them, and are sealed and deleted all the same.
func TestWaitingTakesNoDescriptors(t *testing.T) {
	dir, o := t.TempDir(), Options{SegmentMaxBytes: 16 << 10, RecentMax: 5}
	for from := 0; from < 400; from += 200 {
		files := &counted{}
		o.FS = files
		j := open(t, dir, o)
		run(t, j, from, from+200)
		if waiting, n := j.Waiting(), files.open.Load(); waiting < 20 || n < 1 || n > 4 {
			t.Errorf("%d segments wait, and %d are open", waiting, n)
		}
		if _, _, ok := j.Recent(decision(from + 199).RoundID); !ok {
			t.Error("a recent round is not found")
		}
		check(t, j.Close())
		if n := files.open.Load(); n != 0 {
			t.Errorf("%d are open after the end", n)
		}
	}
	j, rounds := open(t, dir, o), 0
	check(t, j.Rotate())
	check(t, j.Seal(t.Context(), func(_ context.Context, c Closed) (bool, error) {
		b, err := c.Read()
		rounds += len(b.Rounds)
		return false, err
	}))
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+suffix)); rounds != 400 || len(left) != 1 {
		t.Errorf("%d rounds are sealed, and %v is left", rounds, left)
	}
}

// What another version of the program has written is no damage: nobody cuts it off, renames it or serves as if it were not
// there.
func TestSegmentOfAnotherVersion(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	run(t, j, 0, 3)
	check(t, j.Close())
	path := segments(t, dir)[0]
	whole, err := os.ReadFile(path)
	check(t, err)
	later := append([]byte("TWJRNL2\n"), bytes.Repeat([]byte("frames of another form "), 20)...)
	check(t, os.WriteFile(path, later, 0o600))
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("opened a journal of another version: %v", err)
	}
	if err := Peek(dir, func(Batch) error { return nil }); err == nil {
		t.Error("peeked into a journal of another version")
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, later) || len(segments(t, dir)) != 1 {
		t.Errorf("the segment was touched: %d bytes of %d, %v, %v", len(got), len(later), segments(t, dir), err)
	}
	whole[len(magic)-2] = '2' // with frames of ours behind it this is a flipped bit
	check(t, os.WriteFile(path, whole, 0o600))
	j = open(t, dir, Options{})
	if r := j.Recovered(); r.Frames != 6 || r.DamagedBytes != len(magic) {
		t.Errorf("behind a damaged magic: %+v, want its 6 frames", r)
	}
	check(t, j.Close())
}
