package bench

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

func TestPair(t *testing.T) {
	tab := world(20, 10, 2)
	for i := range 10 {
		tab.Score[tab.At(i, 0)], tab.Score[tab.At(i, 1)] = 0, 0
		if i < 4 {
			tab.Score[tab.At(i, 1)] = 1 // the strong arm is right on four prompts, the weak one on none
		}
	}
	m := matrixOf(t, tab)
	p := NewPredictions("knows", m.Arms, 10)
	for i := range 10 {
		p.Score[2*i+1] = -float64(i) // ranks the prompts by id
	}
	got, err := NewPair(m, p, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "PGR at 2 tenths", got.PGR[2], .5, 1e-12)
	near(t, "APGR", got.APGR, 0.1*(.125+.375+.625+.875+6), 1e-12)
	near(t, "CPT50", got.CPT50, .2, 1e-12)
	near(t, "CPT80", got.CPT80, .32, 1e-12)
	if _, err := NewPair(m, p, 0, 1); err == nil {
		t.Error("the weak arm was taken for the strong one")
	}
	// With no predicted gain the prompts stand in the order of their ids: p0 p1 p2 p3 first, so the same.
	flat, err := NewPair(m, NewPredictions("flat", m.Arms, 10), 1, 0)
	if err != nil || flat.PGR != got.PGR {
		t.Errorf("ties are not in the order of ids: %v, %v", flat, err)
	}
}

func TestCalibrate(t *testing.T) {
	m := matrixOf(t, world(21, 3000, 1))
	rng := rand.New(rand.NewPCG(3, 3))
	honest, bold := NewPredictions("honest", m.Arms, m.N()), NewPredictions("bold", m.Arms, m.N())
	for i := range m.N() {
		q := rng.Float64()
		m.Score[i] = 0
		if rng.Float64() < q {
			m.Score[i] = 1
		}
		honest.Quality[i], bold.Quality[i] = q, min(1, q+.1)
	}
	h, b := Calibrate(m, honest, 0, 1), Calibrate(m, bold, 0, 1)
	near(t, "excess of an honest predictor", h.Excess, 0, .01)
	near(t, "chance of 3,000 prompts", h.Chance, .02, .01)
	near(t, "Brier of an honest predictor", h.Brier, 1./6, .01)
	if b.Excess < .05 {
		t.Errorf("excess of a predictor that adds .1 is %v", b.Excess)
	}
	n := 0
	for _, bin := range h.Bins {
		n += bin.Count
	}
	if len(h.Bins) != 15 || n != m.N() || h.Bins[3].Count != m.N()/15 {
		t.Errorf("bins %v do not split %d prompts evenly", h.Bins, m.N())
	}
	honest.Quality[5] = math.NaN()
	if got := Calibrate(m, honest, 0, 1); got != nil {
		t.Errorf("calibration with a missing quality = %v, want none", got)
	}
}

func TestTokensRMSE(t *testing.T) {
	m := matrixOf(t, world(22, 30, 2))
	p := NewPredictions("doubles", m.Arms, m.N())
	for k, v := range m.Tokens {
		p.Tokens[k] = 2 * v
	}
	p.Tokens[3] = math.NaN()
	rmse, n := TokensRMSE(m, p, 1)
	near(t, "error of a factor of two", rmse, math.Ln2, 1e-12)
	if n != 29 {
		t.Errorf("%d prompts count, want 29", n)
	}
}

func TestPredictionRows(t *testing.T) {
	tab := world(23, 40, 3)
	p := NewPredictions("router", []catalog.ArmID{"sim/arm0", "sim/arm2"}, 40)
	rng := rand.New(rand.NewPCG(5, 5))
	for k := range p.Score {
		p.Score[k], p.Quality[k], p.CostUSD[k], p.Tokens[k] = rng.NormFloat64(), rng.Float64(), rng.Float64()/1e4, 300*rng.Float64()
	}
	p.Fold = Folds(tab, 5)
	var jsonl, pq bytes.Buffer
	if err := WritePredictions(&jsonl, JSONL, tab, p); err != nil {
		t.Fatal(err)
	}
	got, err := ReadPredictions(&jsonl, tab, "router")
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2][]float64{"score": {got.Score, p.Score}, "quality": {got.Quality, p.Quality}, "cost": {got.CostUSD, p.CostUSD}, "tokens": {got.Tokens, p.Tokens}} {
		for k := range pair[1] {
			if pair[0][k] != pair[1][k] {
				t.Fatalf("%s %d came back as %v, want %v", name, k, pair[0][k], pair[1][k])
			}
		}
	}
	if len(got.Arms) != 2 || got.Arms[1] != "sim/arm2" || got.Fold[7] != p.Fold[7] {
		t.Errorf("arms %v, fold %d", got.Arms, got.Fold[7])
	}
	if err := WritePredictions(&pq, Parquet, tab, p); err != nil {
		t.Fatal(err)
	}
	rows, err := parquet.Read[PredictionRow](bytes.NewReader(pq.Bytes()), int64(pq.Len()))
	if err != nil || len(rows) != 80 || *rows[3].Quality != p.Quality[3] || rows[3].Model != "sim/arm2" {
		t.Errorf("parquet: %d rows, %v", len(rows), err)
	}
	if err := WritePredictions(&pq, "csv", tab, p); err == nil {
		t.Error("an unknown format was written")
	}
}

func TestReadPredictionsErrors(t *testing.T) {
	tab := world(24, 4, 2)
	row := func(rest string) string { return `{"prompt_id":"p1","model":"sim/arm1"` + rest + "}\n" }
	for name, c := range map[string][2]string{
		"broken":          {"{", "line 1"},
		"unknown field":   {row(`,"quality":1,"qualty":1`), "qualty"},
		"unknown prompt":  {`{"prompt_id":"p9","model":"sim/arm1","quality":1}`, `prompt "p9"`},
		"unknown model":   {`{"prompt_id":"p1","model":"m","quality":1}`, `model "m"`},
		"twice":           {row(`,"quality":1`) + row(`,"quality":1`), "line 2"},
		"no value":        {row(`,"cost_usd":1`), "needs a quality or a score"},
		"quality above 1": {row(`,"quality":1.5`), "not in [0,1]"},
		"negative cost":   {row(`,"quality":1,"cost_usd":-1`), "negative"},
		"negative tokens": {row(`,"quality":1,"output_tokens":-1`), "negative"},
		"some folds":      {row(`,"quality":1,"fold":0`), "all or none"},
		"fold range":      {row(`,"quality":1,"fold":9`), "fold 9"},
		"two folds":       {row(`,"quality":1,"fold":0`) + `{"prompt_id":"p1","model":"sim/arm0","quality":1,"fold":1}`, "folds 0 and 1"},
		"two objects":     {strings.TrimSpace(row(`,"quality":1`)) + row(`,"quality":1`), "more than one"},
		"long line":       {strings.Repeat(" ", PredictionLineMax+1), "bytes"},
		"empty":           {"\n\n", "no rows"},
	} {
		if _, err := ReadPredictions(strings.NewReader(c[0]), tab, "x"); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: error = %v, want one that says %q", name, err, c[1])
		}
	}
}

// What is read without an error can be judged or is refused with one, and reads back the same.
func FuzzReadPredictions(f *testing.F) {
	f.Add([]byte(`{"prompt_id":"p1","model":"sim/arm1","quality":0.5,"cost_usd":1e-5,"score":-3}`))
	f.Add([]byte("{\"prompt_id\":\"p0\",\"model\":\"sim/arm0\",\"score\":1,\"fold\":2}\n\n{"))
	tab := world(25, 6, 2)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ReadPredictions(bytes.NewReader(data), tab, "fuzz")
		if err != nil {
			return
		}
		if err := p.Validate(len(tab.Prompts)); err != nil {
			t.Fatalf("read but not valid: %v", err)
		}
		var out bytes.Buffer
		if err := WritePredictions(&out, JSONL, tab, p); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPredictions(&out, tab, "again"); err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
	})
}
