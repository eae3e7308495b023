package journal_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving/journal"
)

// P1 at the journal: a process that is killed at any moment has lost nothing that it acknowledged.
//
// The test starts itself as another process, which appends rounds from 64 goroutines and writes each id to a pipe when
// its append has returned. The parent kills it with SIGKILL and audits the files with a reader of its own.

const (
	childEnv = "TRADEWIND_JOURNAL_CHILD"
	writers  = 64
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		child(mode, os.Args[len(os.Args)-1])
		return
	}
	os.Exit(m.Run())
}

// appender is what the child drives: the journal, or the broken twin.
type appender interface {
	AppendDecision(context.Context, *datasets.Decision) error
	AppendOutcome(context.Context, *datasets.Outcome) error
}

// child appends until it is killed.
func child(mode, dir string) {
	j, err := journal.Open(dir, journal.Options{SegmentMaxBytes: 200_000, Sync: journal.Sync(strings.TrimPrefix(mode, "buffered"))})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var a appender = j
	if mode == "buffered" {
		a = &buffered{inner: j}
	}
	var mu sync.Mutex
	acknowledge := func(what byte, id datasets.RoundID) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%c %s\n", what, id) // os.Stdout is unbuffered: one write a line
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := datasets.RoundID(fmt.Sprintf("rnd_%d_%d_%d", os.Getpid(), w, i))
				if err := a.AppendDecision(context.Background(), &datasets.Decision{RoundID: id, Prompt: strings.Repeat("x", 300)}); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				acknowledge('d', id)
				if i%8 == 7 {
					continue // stays open
				}
				if err := a.AppendOutcome(context.Background(), &datasets.Outcome{RoundID: id, Status: datasets.Completed}); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				acknowledge('o', id)
			}
		})
	}
	wg.Wait()
}

// buffered is the broken twin: it acknowledges at once and writes every few milliseconds, as a log with a buffer does.
type buffered struct {
	inner appender
	mu    sync.Mutex
	queue []func()
}

func (b *buffered) later(write func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.queue == nil {
		time.AfterFunc(5*time.Millisecond, func() {
			b.mu.Lock()
			queue := b.queue
			b.queue = nil
			b.mu.Unlock()
			for _, write := range queue {
				write()
			}
		})
	}
	b.queue = append(b.queue, write)
	return nil
}

func (b *buffered) AppendDecision(ctx context.Context, d *datasets.Decision) error {
	return b.later(func() { _ = b.inner.AppendDecision(ctx, d) })
}

func (b *buffered) AppendOutcome(ctx context.Context, o *datasets.Outcome) error {
	return b.later(func() { _ = b.inner.AppendOutcome(ctx, o) })
}

// books are what the auditor knows: what was acknowledged, and what the files hold.
type books struct {
	acked     map[byte]map[string]bool
	decisions map[string]bool
	outcomes  map[string]string
	doubled   int
	// decided and ended count what was acknowledged before earlier kills.
	decided, ended int
}

func newBooks() *books {
	return &books{acked: map[byte]map[string]bool{'d': {}, 'o': {}}, decisions: map[string]bool{}, outcomes: map[string]string{}}
}

// killOnce runs a child for a while, kills it and writes down what it acknowledged.
func (b *books) killOnce(t *testing.T, mode, dir string, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$", dir)
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // a line without its end was not yet acknowledged
		}
		what, id, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if what == "error" {
			t.Errorf("child: %s", id)
			continue
		}
		if n == 0 {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		b.acked[what[0]][id] = true
	}
	_ = cmd.Wait()
}

// readFiles reads all segments, byte by byte as DESIGN.md has them and with nothing of the journal's code.
func (b *books) readFiles(t *testing.T, dir string) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "*.journal"))
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for off := 8; off+17 <= len(data); {
			n := int(binary.LittleEndian.Uint32(data[off:]))
			if off+17+n > len(data) {
				break
			}
			sum := crc32.New(crc32.MakeTable(0x82f63b78))
			sum.Write(data[off+17 : off+17+n])
			sum.Write(data[off : off+13])
			if sum.Sum32() != binary.LittleEndian.Uint32(data[off+13:]) {
				break
			}
			var v map[string]any
			if err := json.Unmarshal(data[off+17:off+17+n], &v); err != nil {
				t.Fatal(err)
			}
			id := v["round_id"].(string)
			switch data[off+4] {
			case 1:
				b.decisions[id] = true
			case 2:
				if b.outcomes[id] != "" {
					b.doubled++
				}
				b.outcomes[id] = v["status"].(string)
			}
			off += 17 + n
		}
	}
}

// lost counts what was acknowledged and is not in the files.
func (b *books) lost() (lost int) {
	for id := range b.acked['d'] {
		if !b.decisions[id] {
			lost++
		}
	}
	for id := range b.acked['o'] {
		if b.outcomes[id] != "completed" {
			lost++
		}
	}
	return lost
}

func scale() float64 {
	s, err := strconv.ParseFloat(os.Getenv("TRADEWIND_TEST_SCALE"), 64)
	if err != nil {
		return 0.01
	}
	return s
}

func TestKillLosesNothing(t *testing.T) {
	kills := max(4, int(math.Round(1000*scale())))
	for _, mode := range []string{"write", "always"} {
		t.Run(mode, func(t *testing.T) {
			dir, b := t.TempDir(), newBooks()
			random := rand.New(rand.NewPCG(1, 2))
			recovered, torn := 0, 0
			for k := range kills / 2 {
				b.killOnce(t, mode, dir, time.Duration(random.IntN(40))*time.Millisecond)
				b.readFiles(t, dir)
				if n := b.lost(); n > 0 {
					t.Fatalf("kill %d: %d acknowledged frames are lost", k, n)
				}
				j, err := journal.Open(dir, journal.Options{})
				if err != nil {
					t.Fatal(err)
				}
				recovered += len(j.Recovered().Unknown)
				if j.Recovered().TornBytes > 0 {
					torn++
				}
				// From here on the sealed batches are the books: every decision comes out once, with one outcome.
				sealed := map[string]string{}
				if err := j.Rotate(); err != nil {
					t.Fatal(err)
				}
				err = j.Seal(context.Background(), func(_ context.Context, c journal.Closed) (bool, error) {
					batch, err := c.Read()
					for _, r := range batch.Rounds {
						if sealed[string(r.Decision.RoundID)] != "" {
							b.doubled++
						}
						sealed[string(r.Decision.RoundID)] = string(r.Outcome.Status)
					}
					return false, err
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				b.settle(t, sealed)
			}
			if b.doubled > 0 {
				t.Errorf("%d rounds ended twice", b.doubled)
			}
			if b.decided == 0 || recovered == 0 {
				t.Error("the children acknowledged nothing, or left nothing open: this tested nothing")
			}
			t.Logf("%d kills, %d decisions and %d outcomes acknowledged, 0 lost, %d rounds recovered, %d torn tails",
				kills/2, b.decided, b.ended, recovered, torn)
		})
	}
}

// settle compares what was sealed with what the files held before recovery, and starts new books for the next kill.
func (b *books) settle(t *testing.T, sealed map[string]string) {
	t.Helper()
	for id := range b.decisions {
		want := "unknown"
		if b.outcomes[id] != "" {
			want = b.outcomes[id]
		}
		if sealed[id] != want {
			t.Fatalf("round %s was sealed as %q, want %q", id, sealed[id], want)
		}
	}
	if len(sealed) != len(b.decisions) {
		t.Fatalf("%d rounds sealed, %d decided", len(sealed), len(b.decisions))
	}
	ended, doubled := b.ended+len(b.acked['o']), b.doubled
	decided := b.decided + len(b.acked['d'])
	*b = *newBooks() // all is sealed and deleted
	b.decided, b.ended, b.doubled = decided, ended, doubled
}

// The auditor must see what a journal with a buffer loses, or the test above says nothing.
func TestAuditorCatchesBufferedTwin(t *testing.T) {
	for range 5 {
		dir, b := t.TempDir(), newBooks()
		b.killOnce(t, "buffered", dir, 20*time.Millisecond)
		b.readFiles(t, dir)
		if b.lost() > 0 {
			return
		}
	}
	t.Error("five kills of a journal that acknowledges before it writes, and the auditor saw no loss")
}

func TestSecondProcessIsTold(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^$", dir)
	cmd.Env = append(os.Environ(), childEnv+"=write")
	out, err := cmd.Output()
	if want := fmt.Sprintf("process %d", os.Getpid()); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("second process: %v, %q, want it to fail and name %q", err, out, want)
	}
}
