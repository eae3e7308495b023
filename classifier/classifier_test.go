package classifier

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// madeUp is a valid model with random parameters: its estimates mean nothing and exercise everything.
func madeUp(arms, tasks, buckets int) *Model {
	rng := rand.New(rand.NewPCG(1, 2))
	m := &Model{Router: Router{
		Format: FormatVersion, SpecDigest: features.DefaultSpec().Digest(), Temperature: 0.8, Spread: 0.85,
		Score: Stack{0.5, 0.4, 0.1}, Quality: Stack{0.5, 0.5, 0}, Tokens: TokenStack{0.5, 0.5},
		Targets: []Target{{Strategy: "quality", Target: 1}, {Strategy: "balanced", Target: 0.99, Lambda: 30, Certified: true}},
		Shift:   Shift{Task: 0.9, Targets: []Target{{Strategy: "quality", Target: 1}}},
	}}
	for j := range arms {
		m.Router.Arms = append(m.Router.Arms, catalog.ArmID(fmt.Sprintf("vendor/arm-%d", j)))
	}
	for k := range tasks {
		m.Router.Tasks = append(m.Router.Tasks, fmt.Sprintf("task %d", k))
	}
	m.Router.Fallback, m.Router.Reference, m.Router.Shift.Anchor = m.Router.Arms[arms-1], m.Router.Arms, m.Router.Arms[0]
	limit := 2 * features.DefaultSpec().Buckets
	for b := range limit {
		if len(m.Weights.Buckets) < buckets && b%(limit/buckets) == 0 {
			m.Weights.Buckets = append(m.Weights.Buckets, uint16(b))
			m.Weights.IDF = append(m.Weights.IDF, 1+rng.Float32()*5)
		}
	}
	m.Weights.Cells = make([]int8, len(m.Weights.Buckets)*m.Outputs())
	for i := range m.Weights.Cells {
		m.Weights.Cells[i] = int8(rng.IntN(255) - 127)
	}
	m.Tables.Length.Rows, m.Tables.TokenSlope.Rows = 3, 1 // list sets the rest of the shapes
	for _, n := range m.list() {
		*n.table = NewTable(n.rows, n.cols)
		for i := range n.table.Data {
			n.table.Data[i] = rng.Float64() / 10
		}
	}
	copy(m.Tables.Edges.Data, []float64{50, 200})
	for j := range arms {
		m.Tables.Mean.Data[j] = 0.3 + 0.4*rng.Float64()
		m.Tables.PlattA.Data[j], m.Tables.TokenMean.Data[j] = 1, 5
		m.Tables.TokenLow.Data[j], m.Tables.TokenHigh.Data[j], m.Tables.Smear.Data[j], m.Tables.Upper.Data[j] = 1, 9, 1.2, 2
	}
	return m
}

// ready puts a made-up model to work, golden rows included.
func ready(t testing.TB, m *Model) *Classifier {
	t.Helper()
	c, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	m.Golden = c.NewGolden(nil)
	return c
}

const question = "Write a Go function that merges two sorted lists of integers and returns the median; explain why it is O(log n)."

// TestGather holds the integer sums to the plain floating-point ones.
func TestGather(t *testing.T) {
	m := madeUp(10, 16, 20000)
	c := ready(t, m)
	var x features.Context
	c.extractor.Extract(&x, features.NewPrompt(question))
	s := newScratch(m)
	c.weigh(s, &x)
	c.gather(s)
	if len(s.fixed) < 50 {
		t.Fatalf("got %d kept features, want more", len(s.fixed))
	}
	norm := 0.0
	for _, v := range s.fixed {
		norm += float64(v) * float64(v) / fixedPoint / fixedPoint
	}
	if math.Abs(norm-1) > 1e-3 {
		t.Errorf("got squared length %v, want 1", norm)
	}
	for o := range m.Outputs() {
		want := 0.0
		for i, v := range s.fixed {
			row := s.rows[i] / c.packed.words
			want += float64(v) / fixedPoint * float64(m.Weights.Cells[row*m.Outputs()+o])
		}
		if got := s.out[o]; math.Abs(got-want) > 1e-9 {
			t.Fatalf("output %d: got %v, want %v", o, got, want)
		}
	}
}

// TestGatherNearOverflow checks the bound in gather's comment at the largest weights and the most counts.
func TestGatherNearOverflow(t *testing.T) {
	m := madeUp(2, 2, 32768)
	for i := range m.Weights.Cells {
		m.Weights.Cells[i] = 127
	}
	for i := range m.Weights.IDF {
		m.Weights.IDF[i] = 1
	}
	c := ready(t, m)
	x := features.Context{Counts: make([]features.Count, 32768)}
	for b := range x.Counts {
		x.Counts[b] = features.Count{Bucket: uint16(b), N: 1}
	}
	s := newScratch(m)
	c.weigh(s, &x)
	c.gather(s)
	total := 0.0
	for _, v := range s.fixed {
		total += float64(v) / fixedPoint
	}
	if got, want := s.out[0], 127*total; math.Abs(got-want) > 1e-6 {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEstimatesAreSane(t *testing.T) {
	c := ready(t, madeUp(7, 5, 20000))
	for _, text := range []string{"", "hi", question, strings.Repeat("long ", 5000), "\xff\xfe", "\x00"} {
		var x features.Context
		var e policy.Estimates
		c.extractor.Extract(&x, features.NewPrompt(text))
		c.Estimate(&e, &x)
		for j := range e.Quality {
			if q := e.Quality[j]; !(q >= 0 && q <= 1) {
				t.Errorf("%.20q: quality %v", text, q)
			}
			for _, v := range []float64{e.QualityErr[j], e.GapErr[j]} {
				if !(v >= 0 && v < 2) {
					t.Errorf("%.20q: standard error %v", text, v)
				}
			}
			if lo, hi := e.OutputTokens[j], e.OutputTokens90[j]; !(lo > 0 && hi > lo && hi < 1e6) {
				t.Errorf("%.20q: tokens %v, 0.9 quantile %v", text, lo, hi)
			}
			if math.IsNaN(e.Score[j] + e.Gap[j]) {
				t.Errorf("%.20q: score %v, gap %v", text, e.Score[j], e.Gap[j])
			}
		}
		if f := c.Fallback(); e.Gap[f] != 0 || e.GapErr[f] != 0 {
			t.Errorf("the fallback's gap to itself is %v ± %v", e.Gap[f], e.GapErr[f])
		}
		if !(e.Complexity >= 0 && e.Complexity <= 1) {
			t.Errorf("complexity %v", e.Complexity)
		}
	}
}

// TestShifted: under shifting traffic the score is the task mix's, and no arm stands above the anchor where the mix is not
// to be followed.
func TestShifted(t *testing.T) {
	m := madeUp(6, 4, 5000)
	m.Tables.Mean.Data[0] = 0.4 // the anchor's: sometimes above, sometimes below
	hold := ready(t, m)
	bold := *m
	bold.Router.Shift.Follow = true
	follow := ready(t, &bold)
	above := 0
	rapid.Check(t, func(t *rapid.T) {
		var x features.Context
		hold.extractor.Extract(&x, features.NewPrompt(rapid.StringN(0, 200, 800).Draw(t, "text")))
		var mix, held policy.Estimates
		var q Parts
		hold.Estimate(&held, &x)
		follow.Estimate(&mix, &x)
		hold.Parts(&q, &x)
		for j, mean := range m.Tables.Mean.Data {
			if want := mean + m.Router.Spread*m.Router.Shift.Task*(q.Task[j]-mean); math.Abs(mix.Shifted[j]-want) > 1e-12 {
				t.Fatalf("arm %d: got %v, want the task mix's %v", j, mix.Shifted[j], want)
			}
			switch {
			case j == 0 || mix.Shifted[j] < mix.Shifted[0]-below:
				if held.Shifted[j] != mix.Shifted[j] {
					t.Fatalf("arm %d: got %v, want what the mix says, %v", j, held.Shifted[j], mix.Shifted[j])
				}
			default:
				above++
				if !(held.Shifted[j] < held.Shifted[0]) {
					t.Fatalf("arm %d stands at %v, the anchor at %v", j, held.Shifted[j], held.Shifted[0])
				}
			}
		}
	})
	if above == 0 {
		t.Error("the mix never puts an arm above the anchor: the test shows nothing")
	}
}

func TestBucketsOutOfRangeAreIgnored(t *testing.T) {
	c := ready(t, madeUp(3, 2, 1000))
	var with, without policy.Estimates
	c.Estimate(&without, &features.Context{Counts: []features.Count{{Bucket: 32, N: 1}}})
	c.Estimate(&with, &features.Context{Counts: []features.Count{{Bucket: 32, N: 1}, {Bucket: math.MaxUint16, N: 9}}})
	if !slices.Equal(with.Score, without.Score) {
		t.Errorf("got %v, want %v", with.Score, without.Score)
	}
}

func TestEstimateFromManyGoroutines(t *testing.T) {
	c := ready(t, madeUp(10, 16, 20000))
	if err := c.Replay(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := c.Replay(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestEstimateAllocatesNothing(t *testing.T) {
	c := ready(t, madeUp(10, 16, 20000))
	p := features.NewPrompt(question)
	var x features.Context
	var e policy.Estimates
	decide := func() {
		c.extractor.Extract(&x, p)
		c.Estimate(&e, &x)
	}
	decide()
	least := math.Inf(1) // of several: a collection, and the race detector at random, empty the pools
	for range 50 {
		least = min(least, testing.AllocsPerRun(1, decide))
	}
	if least > 0 {
		t.Errorf("got %v allocations, want 0", least)
	}
}

func TestSectionsRoundTrip(t *testing.T) {
	m := madeUp(4, 3, 500)
	ready(t, m)
	first, err := m.Sections()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := again.Sections()
	if err != nil {
		t.Fatal(err)
	}
	for name := range first {
		if string(first[name]) != string(second[name]) {
			t.Errorf("section %q changed on the way", name)
		}
	}
	c, err := New(again)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Replay(); err != nil {
		t.Error(err)
	}
}

// TestDamagedSections cuts and flips sections that nobody hashed: Parse must refuse or return a model that validates,
// and golden rows must catch what changes an estimate by much. It must never panic.
func TestDamagedSections(t *testing.T) {
	m := madeUp(3, 2, 40)
	ready(t, m)
	good, err := m.Sections()
	if err != nil {
		t.Fatal(err)
	}
	for name, section := range good {
		if name == SectionTokenizer {
			continue // empty here; package tokenizer fuzzes its own
		}
		for cut := 0; cut < len(section); cut += 1 + len(section)/97 {
			bad := maps.Clone(good)
			bad[name] = section[:cut]
			if _, err := Parse(bad); err == nil && strings.TrimSpace(string(section[cut:])) != "" {
				t.Errorf("%s cut at %d of %d: accepted", name, cut, len(section))
			}
		}
		for at := 0; at < len(section); at += 1 + len(section)/211 {
			for bit := range 8 {
				bad := maps.Clone(good)
				bad[name] = slices.Clone(section)
				bad[name][at] ^= 1 << bit
				if m, err := Parse(bad); err == nil {
					if c, err := New(m); err == nil {
						_ = c.Replay()
					}
				}
			}
		}
	}
}

func TestContradictionsAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Model){
		"format":             func(m *Model) { m.Router.Format++ },
		"spec":               func(m *Model) { m.Router.SpecDigest = "0" },
		"no arms":            func(m *Model) { m.Router.Arms = nil },
		"an arm twice":       func(m *Model) { m.Router.Arms[0] = m.Router.Arms[1] },
		"an arm too many":    func(m *Model) { m.Router.Arms = append(m.Router.Arms, "x/y") },
		"fallback":           func(m *Model) { m.Router.Fallback = "x/y" },
		"anchor":             func(m *Model) { m.Router.Shift.Anchor = "x/y" },
		"a slope missing":    func(m *Model) { m.Tables.TokenSlope = NewTable(1, 4) },
		"NaN gain":           func(m *Model) { m.Router.Shift.Gain = math.NaN() },
		"too many targets":   func(m *Model) { m.Router.Shift.Targets = make([]Target, targetsMax+1) },
		"reference":          func(m *Model) { m.Router.Reference = nil },
		"NaN temperature":    func(m *Model) { m.Router.Temperature = math.NaN() },
		"zero temperature":   func(m *Model) { m.Router.Temperature = 0 },
		"negative stack":     func(m *Model) { m.Router.Score.Task = -1 },
		"infinite lambda":    func(m *Model) { m.Router.Targets[0].Lambda = math.Inf(1) },
		"NaN in a table":     func(m *Model) { m.Tables.Task.Data[0] = math.NaN() },
		"Inf in a table":     func(m *Model) { m.Tables.Dense.Data[0] = math.Inf(1) },
		"a row missing":      func(m *Model) { m.Tables.Gap.Data = m.Tables.Gap.Data[1:] },
		"swapped dimensions": func(m *Model) { m.Tables.Task.Rows, m.Tables.Task.Cols = m.Tables.Task.Cols, m.Tables.Task.Rows },
		"negative variance":  func(m *Model) { m.Tables.GapVar.Data[0] = -1 },
		"edges":              func(m *Model) { m.Tables.Edges.Data[1] = m.Tables.Edges.Data[0] },
		"token range":        func(m *Model) { m.Tables.TokenHigh.Data[0] = 700 },
		"buckets":            func(m *Model) { m.Weights.Buckets[1] = m.Weights.Buckets[0] },
		"a bucket too large": func(m *Model) { m.Weights.Buckets[len(m.Weights.Buckets)-1] = math.MaxUint16 },
		"idf":                func(m *Model) { m.Weights.IDF[0] = float32(math.NaN()) },
		"weight":             func(m *Model) { m.Weights.Cells[0] = math.MinInt8 },
		"weights missing":    func(m *Model) { m.Weights.Cells = m.Weights.Cells[1:] },
	} {
		m := madeUp(4, 3, 50)
		spoil(m)
		if _, err := New(m); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got error %v, want ErrInvalid", name, err)
		}
	}
}

// TestOpen writes an artifact and opens it, then opens ones whose sections are whole and wrong.
func TestOpen(t *testing.T) {
	m := madeUp(4, 3, 500)
	ready(t, m)
	write := func(change func(s map[string][]byte)) string {
		sections, err := m.Sections()
		if err != nil {
			t.Fatal(err)
		}
		change(sections)
		dir := filepath.Join(t.TempDir(), "artifact")
		if _, err := models.Write(dir, sections, models.Provenance{}); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	c, err := Open(write(func(map[string][]byte) {}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Arms(), m.Router.Arms; !slices.Equal(got, want) || c.Digest() == "" {
		t.Errorf("got arms %v of %q, want %v", got, c.Digest(), want)
	}
	if target, ok := c.Target("balanced", policy.KnownMix); !ok || target.Lambda != 30 || !target.Certified {
		t.Errorf("got target %+v", target)
	}
	for name, change := range map[string]func(s map[string][]byte){
		"a changed weight":    func(s map[string][]byte) { b := s[SectionWeights]; clear(b[len(b)-len(m.Weights.Cells):]) },
		"no golden rows":      func(s map[string][]byte) { s[SectionGolden] = []byte("[]") },
		"a section missing":   func(s map[string][]byte) { delete(s, SectionTables) },
		"swapped sections":    func(s map[string][]byte) { s[SectionTables], s[SectionWeights] = s[SectionWeights], s[SectionTables] },
		"a rubbish tokenizer": func(s map[string][]byte) { s[SectionTokenizer] = []byte("{}") },
	} {
		if _, err := Open(write(change)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got error %v, want ErrInvalid", name, err)
		}
	}
}

// stride is the step through n places that TRADEWIND_TEST_SCALE asks for: 1 at scale 1, and by default (0.01) every
// hundredth place or so. It is odd, so that all eight bits of a byte have their turn.
func stride(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TRADEWIND_TEST_SCALE")
	if text == "" {
		return 101
	}
	scale, err := strconv.ParseFloat(text, 64)
	if err != nil || scale <= 0 {
		t.Fatalf("TRADEWIND_TEST_SCALE is %q, want a number above 0", text)
	}
	return max(1, int(math.Round(1/scale))) | 1
}

// TestDamagedArtifact flips every bit of every file of an artifact and cuts it to every length, by default a sample of
// both: Open must refuse all of it.
func TestDamagedArtifact(t *testing.T) {
	m := madeUp(2, 2, 20)
	ready(t, m)
	sections, err := m.Sections()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "artifact")
	if _, err := models.Write(dir, sections, models.Provenance{}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != len(sections)+1 {
		t.Fatalf("files %q, %v", files, err)
	}
	step, flips, cuts := stride(t), 0, 0
	for _, file := range files {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		try := func(what string, at int, bad []byte) {
			if err := os.WriteFile(file, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir); !errors.Is(err, models.ErrCorrupt) && !errors.Is(err, models.ErrNewerFormat) {
				t.Errorf("%s %s at %d: error %v, want one that says damaged or newer", filepath.Base(file), what, at, err)
			}
		}
		bad := slices.Clone(good)
		for bit := 0; bit < 8*len(good); bit += step {
			bad[bit/8] ^= 1 << (bit % 8)
			try("flipped", bit, bad)
			bad[bit/8], flips = good[bit/8], flips+1
		}
		for at := 0; at < len(good); at += step {
			try("cut", at, good[:at])
			cuts++
		}
		if err := os.WriteFile(file, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir); err != nil {
		t.Errorf("restored: %v", err)
	}
	t.Logf("%d flipped bits and %d cuts, all refused", flips, cuts)
}

// TestGoldenRowsAreExact: a row that differs by more than rounding is seen.
func TestGoldenRowsAreExact(t *testing.T) {
	c := ready(t, madeUp(3, 2, 100))
	first := &c.model.Golden[0].Want.Quality[0]
	for off, ok := range map[float64]bool{0: true, 1e-13: true, 1e-11: false} {
		was := *first
		*first += off
		if err := c.Replay(); (err == nil) != ok {
			t.Errorf("off by %v: %v, want it taken %v", off, err, ok)
		}
		*first = was
	}
}

func FuzzParse(f *testing.F) {
	m := madeUp(2, 2, 20)
	ready(f, m)
	good, err := m.Sections()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[SectionRouter], good[SectionWeights], good[SectionTables], good[SectionGolden])
	f.Fuzz(func(t *testing.T, router, weights, tables, golden []byte) {
		m, err := Parse(map[string][]byte{
			SectionRouter: router, SectionWeights: weights, SectionTables: tables, SectionGolden: golden, SectionTokenizer: nil,
		})
		if err != nil {
			return
		}
		c, err := New(m)
		if err != nil {
			t.Fatalf("Parse accepted what New refuses: %v", err)
		}
		var e policy.Estimates
		c.Estimate(&e, &features.Context{Counts: []features.Count{{Bucket: 1, N: 1}, {Bucket: 20000, N: 3}}})
		for j := range e.Score {
			if math.IsNaN(e.Score[j] + e.Quality[j] + e.OutputTokens90[j] + e.GapErr[j]) {
				t.Fatalf("arm %d: an estimate is NaN: %+v", j, e)
			}
		}
	})
}

// prompt200 is a prompt of about 200 tokens.
const prompt200 = `Our warehouse keeps 1,240 pallets in three halls. Hall A is cooled and may hold at most 35 % of all goods; hall B is
dry and has room for 500; whatever is left goes to hall C, which costs 2.40 euros a pallet and day.

Please do the following:
1. Work out the cheapest plan for one week when hall A costs 4.10 and hall B 1.95 euros.
2. Explain in two or three sentences which limit is binding, and why a small change of the price in C would not matter.
3. Write a Python function plan(pallets, prices, limits) that returns a dict such as {"A": 0, "B": 500, "C": 740} and
   raises ValueError where no plan exists. Use no third-party package.
4. Give two unit tests, one for an empty warehouse and one where every hall is full.

Answer in Markdown, with the code in one block. If something is unclear, say what you assumed instead of asking.`

func BenchmarkDecision(b *testing.B) {
	for _, arms := range []int{10, 200} {
		c := ready(b, madeUp(arms, 16, 20000))
		p := features.NewPrompt(prompt200)
		var x features.Context
		var e policy.Estimates
		b.Run(fmt.Sprintf("arms=%d/whole", arms), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.extractor.Extract(&x, p)
				c.Estimate(&e, &x)
			}
			b.ReportMetric(float64(len(x.Counts)), "counts")
		})
		b.Run(fmt.Sprintf("arms=%d/estimate", arms), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Estimate(&e, &x)
			}
		})
	}
}
