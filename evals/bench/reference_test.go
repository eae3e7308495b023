package bench

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// chatAPI is the pool of mmlu-pro that the reference figures are for.
var chatAPI = []catalog.ArmID{
	"gemini-1.5-pro-002", "gemini-1.5-flash-002", "jamba-1.5-large",
	"Meta-Llama-3_1-70B-Instruct", "Meta-Llama-3_1-8B-Instruct", "mathstral-7B", "Qwen1.5-72B-Chat", "Qwen1.5-7B-Chat",
	"Mixtral-8x7B-Instruct-v0.1", "Phi-3-mini-4k-instruct", "c4ai-command-r-v01", "Mistral-7B-Instruct-v0.2", "Yi-6b-Chat",
}

// referenceTable reads an outcome table for the tests, or skips where the data are absent.
func referenceTable(t testing.TB, name string) *datasets.Table {
	t.Helper()
	dir := os.Getenv("TRADEWIND_DATA")
	if dir == "" {
		t.Skip("TRADEWIND_DATA is not set: the reference tables are not part of the repository")
	}
	path := filepath.Join(dir, name, "train.parquet")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the reference table is absent: %v", err)
	}
	table, err := datasets.ReadTable(t.Context(), path, datasets.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func near(t testing.TB, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s = %.6f, want %.6f within %g", what, got, want, tolerance)
	}
}

// TestReferenceBaselines recomputes what was measured on the public tables with the same definitions in another
// language: AIQ of the baselines, and the operating points of the length router.
func TestReferenceBaselines(t *testing.T) {
	for _, c := range []struct {
		table                                string
		arms                                 []catalog.ArmID
		zero, length, label, oracle          float64
		scoreT100, costT100, score95, cost95 float64
	}{
		{"routerbench-subset", nil, 0.818278, .8335, .8451, .9742, 99.8, 98, 95.3, 54},
		{"api-mix", nil, 0.844584, .8536, .8630, .9437, 100.3, 61, 95.5, 4.4},
		{"mmlu-pro", chatAPI, 0.673692, .6825, .6928, .9153, 100.3, 91, 96.3, 42},
	} {
		t.Run(c.table, func(t *testing.T) {
			tab := referenceTable(t, c.table)
			m, err := NewMatrix(tab, c.arms, Folds(tab, 5))
			if err != nil {
				t.Fatal(err)
			}
			b, err := NewBaselines(m)
			if err != nil {
				t.Fatal(err)
			}
			measure := func(p *Predictions) (*Trace, Measures) {
				tr, err := NewTrace(m, p)
				if err != nil {
					t.Fatal(err)
				}
				return tr, Measure(m.Constants(nil), tr.Curve(nil))
			}
			length, ofLength := measure(b.Length)
			_, ofLabel := measure(b.Label)
			_, ofOracle := measure(b.Oracle)
			near(t, "zero router AIQ", ofLength.Zero, c.zero, 1e-6)
			near(t, "length AIQ", ofLength.AIQ, c.length, 5e-4)
			near(t, "label AIQ", ofLabel.AIQ, c.label, 5e-4)
			near(t, "oracle AIQ", ofOracle.AIQ, c.oracle, 5e-4)
			t100, t95 := length.Operate(1), length.Operate(0.95)
			near(t, "length t100 score", 100*t100.RelScore, c.scoreT100, .3)
			near(t, "length t100 cost", 100*t100.RelCost, c.costT100, 2)
			near(t, "length t95 score", 100*t95.RelScore, c.score95, .3)
			near(t, "length t95 cost", 100*t95.RelCost, c.cost95, 2)
		})
	}
}

// TestReferencePair recomputes the length router between two arms.
func TestReferencePair(t *testing.T) {
	for _, c := range []struct {
		table, strong, weak string
		apgr, cpt50, cpt80  float64
	}{
		{"mmlu-pro", "gemini-1.5-pro-002", "gemini-1.5-flash-002", .648, 29, 67},
		{"api-mix", "claude-3-5-sonnet-20240620", "claude-3-haiku-20240307", .599, 36, 69},
	} {
		t.Run(c.table, func(t *testing.T) {
			tab := referenceTable(t, c.table)
			m, err := NewMatrix(tab, []catalog.ArmID{catalog.ArmID(c.strong), catalog.ArmID(c.weak)}, Folds(tab, 5))
			if err != nil {
				t.Fatal(err)
			}
			b, err := NewBaselines(m)
			if err != nil {
				t.Fatal(err)
			}
			p, err := NewPair(m, b.Length, 0, 1)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "APGR", p.APGR, c.apgr, .001)
			near(t, "CPT50", 100*p.CPT50, c.cpt50, .6)
			near(t, "CPT80", 100*p.CPT80, c.cpt80, .6)
		})
	}
}

// TestReferenceTokens recomputes the log-token errors of the arm mean, of length and of the task label on api-mix.
func TestReferenceTokens(t *testing.T) {
	tab := referenceTable(t, "api-mix")
	m, err := NewMatrix(tab, nil, Folds(tab, 5))
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBaselines(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p    *Predictions
		want float64
	}{{b.Constants, 1.070}, {b.Length, .875}, {b.Label, .450}} {
		mean := 0.0
		for j := range m.Arms {
			rmse, _ := TokensRMSE(m, c.p, j)
			mean += rmse / float64(len(m.Arms))
		}
		near(t, "log-token error of "+c.p.Name, mean, c.want, .005)
	}
}

// TestReferenceQuality recomputes what the baselines score where no cost is known.
func TestReferenceQuality(t *testing.T) {
	tab := referenceTable(t, "uiuc-llmrouter")
	m := matrixOf(t, tab)
	b := baselinesOf(t, m)
	for _, c := range []struct {
		p    *Predictions
		want float64
	}{{b.Constants, .6196}, {b.Length, .6086}, {b.Label, .6642}, {b.Oracle, .7978}} {
		near(t, "score of "+c.p.Name, traceOf(t, m, c.p).Curve(nil)[0].Score, c.want, 5e-4)
	}
}
