package datasets

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"pgregory.net/rapid"
)

// scale is the share of an exhaustive test that runs: 1 is all of it.
func scale(t *testing.T) float64 {
	s := os.Getenv("TRADEWIND_TEST_SCALE")
	if s == "" {
		return 0.01
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v <= 0 || v > 1 {
		t.Fatalf("TRADEWIND_TEST_SCALE is %q, want a number in (0,1]", s)
	}
	return v
}

// damages calls try with truncations and single-bit flips of data: all of them at scale 1, a seeded sample below.
// A sample is weight times the scale.
func damages(t *testing.T, data []byte, weight float64, try func(what string, damaged []byte)) {
	share, rng := scale(t), rand.New(rand.NewPCG(1, 2))
	if share < 1 {
		share *= weight
	}
	tried := 0
	for n := range len(data) {
		if rng.Float64() < share {
			try(fmt.Sprintf("cut to %d bytes", n), data[:n])
			tried++
		}
	}
	damaged := make([]byte, len(data))
	for bit := range 8 * len(data) {
		if rng.Float64() < share {
			copy(damaged, data)
			damaged[bit/8] ^= 1 << (bit % 8)
			try(fmt.Sprintf("bit %d flipped", bit), damaged)
			tried++
		}
	}
	if tried == 0 {
		t.Fatal("no damage was tried")
	}
}

func ptr[T any](v T) *T { return &v }

// tempDir is a folder of its own for each case of a property; t.TempDir would name them all alike.
func tempDir(t interface {
	Fatal(...any)
	Cleanup(func())
}) string {
	dir, err := os.MkdirTemp("", "datasets")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// genRows draws the rows of a valid table, some cells missing, in any order.
func genRows(t *rapid.T) []Row {
	prompts, arms := rapid.IntRange(1, 6).Draw(t, "prompts"), rapid.IntRange(1, 5).Draw(t, "arms")
	var rows []Row
	for i := range prompts {
		p := Row{PromptID: fmt.Sprintf("p%d", i), Dataset: rapid.SampledFrom([]string{"", "math", "löve,\"it\""}).Draw(t, "task"),
			Split: rapid.SampledFrom([]string{"", "test"}).Draw(t, "split"), Prompt: rapid.StringN(0, 50, -1).Draw(t, "text")}
		for j := range arms {
			if len(rows) > 0 && rapid.IntRange(0, 4).Draw(t, "hole") == 0 {
				continue
			}
			row := p
			row.Model = fmt.Sprintf("vendor/arm-%d", j)
			row.Score = rapid.Float64Range(0, 1).Draw(t, "score")
			if rapid.Bool().Draw(t, "priced") {
				row.CostUSD = ptr(rapid.Float64Range(0, 10).Draw(t, "cost"))
				row.InputTokens = ptr(rapid.Int32Range(0, 1<<20).Draw(t, "in"))
			}
			if rapid.Bool().Draw(t, "timed") {
				row.OutputTokens = ptr(rapid.Int32Range(0, 1<<20).Draw(t, "out"))
				row.LatencyMS = ptr(rapid.Float64Range(0, 1e6).Draw(t, "ms"))
			}
			rows = append(rows, row)
		}
	}
	return rapid.Permutation(rows).Draw(t, "order")
}

func writeTable(t testing.TB, path string, rows []Row) {
	t.Helper()
	w, err := CreateTable(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// writeAny writes rows of any struct as Parquet.
func writeAny[T any](t testing.TB, path string, rows ...T) {
	t.Helper()
	if err := parquet.WriteFile(path, rows); err != nil {
		t.Fatal(err)
	}
}

func bigRows(prompts, arms int) []Row {
	rng := rand.New(rand.NewPCG(3, 4))
	rows := make([]Row, 0, prompts*arms)
	for i := range prompts {
		text := make([]byte, 200+rng.IntN(400))
		for k := range text {
			text[k] = "etaoin shrdlu"[rng.IntN(13)]
		}
		for j := range arms {
			rows = append(rows, Row{PromptID: fmt.Sprintf("prompt-%d", i), Dataset: fmt.Sprintf("task-%d", i%10), Prompt: string(text),
				Model: fmt.Sprintf("vendor/model-%d", j), Score: float64(rng.IntN(2)), CostUSD: ptr(rng.Float64() / 100),
				InputTokens: ptr(int32(rng.IntN(500))), OutputTokens: ptr(int32(rng.IntN(500))), LatencyMS: ptr(rng.Float64() * 1000)})
		}
	}
	return rows
}

// at draws an instant as a part can hold it.
func genAt(t *rapid.T) time.Time {
	return time.UnixMicro(rapid.Int64Range(1_700_000_000_000_000, 1_700_020_000_000_000).Draw(t, "at")).UTC()
}

func genFinite(t *rapid.T) float64 {
	return rapid.Float64().Filter(func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }).Draw(t, "float")
}

func genArm(t *rapid.T) catalog.ArmID {
	return catalog.ArmID(rapid.SampledFrom([]string{"", "a/small", "b/large", "ü/ß"}).Draw(t, "arm"))
}

func genCase(t *rapid.T) policy.Case {
	abs := func() float64 { return math.Abs(genFinite(t)) }
	c := policy.Case{
		Fallback: rapid.IntRange(-1, 3).Draw(t, "fallback"), Lambda: genFinite(t), LatencyFirst: rapid.Bool().Draw(t, "lf"),
		Guard:        policy.Guard{On: rapid.Bool().Draw(t, "guard"), Z: genFinite(t), Tolerance: genFinite(t)},
		QualityFloor: abs(), Reference: rapid.IntRange(-1, 3).Draw(t, "ref"), ReferenceGap: abs(), MaxCostUSD: abs(), MaxLatencyMS: abs(),
		Explore: rapid.Bool().Draw(t, "explore"), Epsilon: genFinite(t), Pinned: rapid.IntRange(-1, 3).Draw(t, "pin"),
		FloorReference: rapid.Bool().Draw(t, "fr"), Session: policy.Session{SwitchUSD: abs(), Lambda: abs(), Margin: abs()},
	}
	for range rapid.IntRange(0, 2).Draw(t, "paces") {
		c.Paces = append(c.Paces, policy.Pace{Level: rapid.SampledFrom([]string{"key", "team", "org", "all"}).Draw(t, "level"), Lambda: genFinite(t), Pressure: genFinite(t)})
	}
	for range rapid.IntRange(0, 4).Draw(t, "candidates") {
		c.Candidates = append(c.Candidates, policy.Candidate{
			Arm: genArm(t), Filter: rapid.SampledFrom([]policy.Filter{policy.Eligible, policy.Guarded}).Draw(t, "filter"),
			Quality: genFinite(t), QualityErr: genFinite(t), Score: genFinite(t), Gap: genFinite(t), GapErr: genFinite(t),
			OutputTokens: genFinite(t), CostUSD: genFinite(t), CostUpperUSD: genFinite(t), Priced: rapid.Bool().Draw(t, "priced"),
			LatencyMS: abs(), LatencyP90MS: abs(), Availability: genFinite(t),
		})
	}
	return c
}

func genMaybe(t *rapid.T) *float64 {
	if rapid.Bool().Draw(t, "there") {
		return ptr(genFinite(t))
	}
	return nil
}

func genRound(t *rapid.T) Round {
	text := func(what string) string { return rapid.StringN(0, 8, -1).Draw(t, what) }
	r := Round{
		Decision: Decision{
			RoundID: RoundID("rnd_" + text("id")), At: genAt(t), RequestID: text("request"), Org: text("org"), Team: text("team"),
			KeyID: text("key"), Conversation: text("conversation"), DrawID: RoundID(text("draw")), Requested: text("requested"),
			Policy: text("policy"), RouterVersion: text("router"), CatalogVersion: text("catalog"), Strategy: text("strategy"),
			Certified: rapid.Bool().Draw(t, "certified"), Complexity: genFinite(t), Case: genCase(t), Action: genArm(t),
			Propensity: genFinite(t), Explored: rapid.Bool().Draw(t, "explored"), Reason: Predicted,
			Hold: catalog.Nanodollars(rapid.Int64().Draw(t, "hold")), InputTokens: rapid.Int().Draw(t, "tokens"),
			Stream: rapid.Bool().Draw(t, "stream"), SpecDigest: text("spec"), Prompt: text("prompt"),
		},
		Outcome: Outcome{
			At: genAt(t), Status: rapid.SampledFrom([]Status{Completed, ClientGone, Failed, Unknown}).Draw(t, "status"),
			Served: genArm(t), Reason: Reason(text("reason")), Cost: catalog.Nanodollars(rapid.Int64().Draw(t, "cost")),
			CostStatus: rapid.SampledFrom([]CostStatus{CostFinal, CostUnpriced, CostPending}).Draw(t, "cost status"),
			Usage:      anyUsage(t),
			Error:      text("error"), TTFTMS: genMaybe(t), LatencyMS: genFinite(t), OverheadMS: genFinite(t),
		},
	}
	r.Outcome.RoundID = r.Decision.RoundID
	for range r.Decision.Case.Candidates {
		r.Decision.Propensities = append(r.Decision.Propensities, genFinite(t))
	}
	r.Decision.EndUser = text("end user")
	for range rapid.IntRange(0, 2).Draw(t, "tags") {
		if r.Decision.Tags == nil {
			r.Decision.Tags = map[string]string{}
		}
		r.Decision.Tags[text("tag")] = text("value")
	}
	if b := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "features"); len(b) > 0 {
		r.Decision.Features = b
	}
	for range rapid.IntRange(0, 2).Draw(t, "gates") {
		r.Decision.Gates = append(r.Decision.Gates, text("gate"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "needs") {
		r.Decision.Needs = append(r.Decision.Needs, text("need"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "attempts") {
		r.Outcome.Attempts = append(r.Outcome.Attempts, Attempt{Arm: genArm(t), StartedAt: genAt(t), Outcome: text("outcome"),
			HTTPStatus: rapid.IntRange(0, 599).Draw(t, "http"), ErrorClass: text("class"), FirstTokenMS: genMaybe(t),
			TotalMS: genFinite(t), Cost: catalog.Nanodollars(rapid.Int64().Draw(t, "attempt cost"))})
		for range rapid.IntRange(0, 2).Draw(t, "verdicts") {
			a := &r.Outcome.Attempts[len(r.Outcome.Attempts)-1]
			a.Verdicts = append(a.Verdicts, GateVerdict{Gate: text("gate"), Verdict: Unjudged, Reason: text("why"), TotalMS: genFinite(t)})
		}
	}
	return r
}

func anyUsage(t *rapid.T) (u catalog.Usage) {
	for _, n := range []*int64{&u.Input, &u.CacheRead, &u.CacheWrite, &u.CacheWrite1h, &u.AudioInput, &u.ImageInput, &u.Output, &u.Reasoning, &u.AudioOutput} {
		*n = rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "usage")
	}
	return u
}

// sampleRounds are n plain rounds, a minute apart.
func sampleRounds(n int) []Round {
	start := time.Date(2026, 1, 2, 15, 30, 0, 123456000, time.UTC)
	rounds := make([]Round, n)
	for i := range rounds {
		id := RoundID(fmt.Sprintf("rnd_%06d", i))
		var c policy.Case
		for j := range 3 {
			c.Candidates = append(c.Candidates, policy.Candidate{Arm: catalog.ArmID(fmt.Sprintf("v/arm-%d", j)), Quality: 0.1 + float64(i%7)/10, CostUSD: 0.001 * float64(j+1), Priced: true, Availability: 1})
		}
		rounds[i] = Round{
			Decision: Decision{RoundID: id, DrawID: id, At: start.Add(time.Duration(i) * time.Second), Policy: "mixture", Case: c, Strategy: "auto",
				Propensities: []float64{0.9, 0.05, 0.05}, Action: "v/arm-0", Propensity: 0.9, Explored: i%4 == 0, Reason: Predicted, Prompt: fmt.Sprintf("what is %d?", i)},
			Outcome: Outcome{RoundID: id, At: start.Add(time.Duration(i) * time.Second), Status: Completed, Served: catalog.ArmID(fmt.Sprintf("v/arm-%d", i%2)),
				Cost: catalog.Nanodollars(1000 * (i + 1)), CostStatus: CostFinal, Usage: catalog.Usage{Input: 10, Output: 20}, LatencyMS: 12.5},
		}
	}
	return rounds
}

func openLog(t testing.TB, dir string) *Log {
	t.Helper()
	l, err := OpenLog(dir, LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func allRounds(l *Log) (out []Round, err error) {
	err = l.Rounds(context.Background(), func(batch []Round) error {
		out = append(out, batch...)
		return nil
	})
	return out, err
}

func readFile(t testing.TB, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
