package evals

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/evals/bench"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// world is a table of four tasks. Each arm but the dear last one is good at some tasks, and names try to be markup.
func world(n int) *datasets.Table {
	rng := rand.New(rand.NewPCG(1, 2))
	t := datasets.NewTable([]catalog.ArmID{"sim/cheap", "sim/<script>alert(1)</script>", "sim/strong|est"}, n)
	t.Name, t.SHA256 = "world", "c0ffee"
	for i := range n {
		task := rng.IntN(4)
		t.Prompts[i] = datasets.Prompt{ID: fmt.Sprintf("p%d", i), Dataset: fmt.Sprintf("task_%d", task), Text: strings.Repeat("x", 1+rng.IntN(300))}
		for j, right := range []float64{[]float64{.9, .8, .2, .1}[task], []float64{.1, .3, .8, .4}[task], .85} {
			at := t.At(i, j)
			t.Score[at] = 0
			if rng.Float64() < right {
				t.Score[at] = 1
			}
			t.Cost[at] = catalog.Nanodollars([]int{20_000, 90_000, 1_000_000}[j] + rng.IntN(10_000))
			t.Output[at] = float32(10 + rng.IntN(90))
		}
	}
	return t
}

// router knows the tasks if it is able, and guesses otherwise.
func router(t *datasets.Table, name string, able bool) bench.Predictions {
	rng := rand.New(rand.NewPCG(3, 4))
	p := bench.NewPredictions(name, t.Arms, len(t.Prompts))
	for i := range t.Prompts {
		task := int(t.Prompts[i].Dataset[5] - '0')
		for j, q := range []float64{[]float64{.9, .8, .2, .1}[task], []float64{.1, .3, .8, .4}[task], .85} {
			if !able {
				q = rng.Float64()
			}
			at := t.At(i, j)
			p.Score[at], p.Quality[at], p.CostUSD[at], p.Tokens[at] = q, q, t.Cost[at].Dollars(), 50
		}
	}
	return *p
}

func evaluate(t testing.TB, tab *datasets.Table, o Options, preds ...bench.Predictions) *Report {
	t.Helper()
	if o.Resamples == 0 {
		o.Resamples = 100
	}
	if o.Draws == 0 {
		o.Draws = 10
	}
	r, err := Evaluate(t.Context(), tab, preds, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func row(t testing.TB, r *Report, name string) *Row {
	t.Helper()
	for i := range r.Routers {
		if r.Routers[i].Name == name {
			return &r.Routers[i]
		}
	}
	t.Fatalf("the report has no row %q", name)
	return nil
}

func TestVerdict(t *testing.T) {
	tab := world(1200)
	good, bad := router(tab, "good", true), router(tab, "bad", false)
	r := evaluate(t, tab, Options{}, bad, good)
	if !r.Verdict.Routes || r.Verdict.Router != "good" || !strings.HasPrefix(r.Verdict.Text, "routes: good beats every mix of constants") {
		t.Errorf("verdict = %+v, want that good routes", r.Verdict)
	}
	if g, b := row(t, r, "good"), row(t, r, "bad"); !(g.Gain.Low > 0 && b.Gain.High < 0 && g.OverLength.Low > 0) {
		t.Errorf("gain of good %+v, of bad %+v", g.Gain, b.Gain)
	}
	r = evaluate(t, tab, Options{}, bad)
	if r.Verdict.Routes || !strings.HasPrefix(r.Verdict.Text, "do not route: no router beats the constant sim/strong|est here") {
		t.Errorf("verdict = %+v, want that nothing routes", r.Verdict)
	}
	if r = evaluate(t, tab, Options{}); r.Verdict.Routes || !strings.HasPrefix(r.Verdict.Text, "no router was judged") {
		t.Errorf("verdict without a router = %+v", r.Verdict)
	}
}

// TestVerdictByTask: a router that is good on one task and bad on the others is worth that task.
func TestVerdictByTask(t *testing.T) {
	tab := world(1600)
	for i := range tab.Prompts { // on task_0 the cheap arm is perfect, and the router knows; elsewhere it throws dice
		if tab.Prompts[i].Dataset == "task_0" {
			tab.Score[tab.At(i, 0)] = 1
		}
	}
	bad, good := router(tab, "half", false), router(tab, "good", true)
	for i := range tab.Prompts {
		if tab.Prompts[i].Dataset == "task_0" {
			copy(bad.Score[3*i:3*i+3], good.Score[3*i:3*i+3])
		}
	}
	r := evaluate(t, tab, Options{}, bad)
	if r.Verdict.Routes || len(r.Verdict.Tasks) != 1 || !strings.HasPrefix(r.Verdict.Text, "route only these tasks: task_0; ") {
		t.Errorf("verdict = %+v", r.Verdict)
	}
}

// TestBill holds the example that everybody can check: a billion tokens, a quarter of them prompts, at 5 and 25 dollars a
// million are 20,000 dollars; and a router's bill lies between those of its arms.
func TestBill(t *testing.T) {
	tab := world(1200)
	prices := map[catalog.ArmID]Price{tab.Arms[0]: {Input: 1, Output: 1}, tab.Arms[1]: {Input: 1, Output: 2}, tab.Arms[2]: {Input: 5, Output: 25}}
	o := Options{Draws: 20, Price: func(a catalog.ArmID) (Price, bool) { p, ok := prices[a]; return p, ok }}
	r := evaluate(t, tab, o, router(tab, "good", true))
	if r.Bill[0].Name != "sim/strong|est" || r.Bill[0].USD != 20_000 || r.Bill[0].Relative != 1 || len(r.Bill) != 6 {
		t.Fatalf("got %+v", r.Bill)
	}
	for _, b := range r.Bill[3:] {
		if b.Kind != KindRouter || !(b.USD >= 1000 && b.USD < 20_000) || b.Relative < b.Target {
			t.Errorf("got %+v", b)
		}
	}
	delete(prices, tab.Arms[0])
	for _, b := range evaluate(t, tab, o, router(tab, "good", true)).Bill {
		if b.Name == "sim/cheap" && b.USD.Known() {
			t.Errorf("an arm without a price costs %v", b.USD)
		}
	}
	if thousands(1234567) != "1,234,567" || thousands(999) != "999" || thousands(0) != "0" {
		t.Error(thousands(1234567), thousands(999), thousands(0))
	}
}

// TestExamples: every kind is shown, they say what is in the table, and NoText keeps prompts out of every form.
func TestExamples(t *testing.T) {
	tab := world(1200)
	for i := range tab.Prompts {
		tab.Prompts[i].Text = "secret " + tab.Prompts[i].Text + " question"
	}
	r := evaluate(t, tab, Options{}, router(tab, "good", true))
	kinds := map[string]int{}
	for _, e := range r.Examples {
		kinds[e.What]++
		if (e.Arm == e.Best) != (e.What == "stays") || e.Router != "good" || !strings.HasSuffix(e.Prompt, "question") || len([]rune(e.Prompt)) > exampleTextMax+1 {
			t.Errorf("got %+v", e)
		}
	}
	for _, kind := range kindsOfExample {
		if kinds[kind] != examplesOfKind {
			t.Errorf("%d examples of %q", kinds[kind], kind)
		}
	}
	var page bytes.Buffer
	if err := evaluate(t, tab, Options{NoText: true}, router(tab, "good", true)).WriteHTML(&page); err != nil || strings.Contains(page.String(), "question") {
		t.Errorf("prompts in a report without text, %v", err)
	}
}

func TestWithoutCosts(t *testing.T) {
	tab := world(1200)
	for k := range tab.Cost {
		tab.Cost[k] = datasets.Unpriced
	}
	good := router(tab, "good", true)
	good.CostUSD = nil
	r := evaluate(t, tab, Options{}, good)
	if !r.Verdict.Routes || !strings.Contains(r.Verdict.Text, "scores higher than the constant") || r.Header.UnknownCosts != 1 {
		t.Errorf("verdict = %+v, unknown costs %v", r.Verdict, r.Header.UnknownCosts)
	}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "curve.svg")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a curve was drawn without costs: %v", err)
	}
}

func TestForms(t *testing.T) {
	tab := world(600)
	tab.Score[tab.At(3, 0)] = tab.Score[tab.At(3, 0)] * float32(nan())
	r := evaluate(t, tab, Options{
		Pool: "three", Artifacts: []string{"tw1-abc"}, Command: "tradewind eval --data <x>",
		Pairs: [][2]catalog.ArmID{{"sim/strong|est", "sim/cheap"}},
	}, router(tab, "good", true))
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	page, md := read("report.html"), read("report.md")
	for form, s := range map[string]string{"HTML": page, "Markdown": md, "text": text.String()} {
		for _, want := range []string{"routes: good", "c0ffee", "tw1-abc", "1 of 600 prompts were left out", "own − zero", "task label", "oracle", "t95", "APGR", "excess"} {
			if !strings.Contains(strings.ReplaceAll(s, `\`, ""), want) {
				t.Errorf("%s does not say %q", form, want)
			}
		}
		if strings.Contains(s, "NaN") || strings.Contains(s, "Inf") || strings.Contains(s, "%!") {
			t.Errorf("%s shows a number that is none", form)
		}
	}
	for _, never := range []string{"<script", "http://", "https://", "<link"} {
		if strings.Contains(strings.ReplaceAll(page, "http://www.w3.org/2000/svg", ""), never) {
			t.Errorf("the page holds %q", never)
		}
	}
	if strings.Contains(md, "<script") {
		t.Error("the Markdown holds markup from the data")
	}
	for dec := xml.NewDecoder(strings.NewReader(read("curve.svg"))); ; {
		if _, err := dec.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("curve.svg is not XML: %v", err)
		}
	}
	var back Report
	if err := json.Unmarshal([]byte(read("report.json")), &back); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := back.WriteText(&again); err != nil || again.String() != text.String() {
		t.Errorf("the report read back from JSON says something else (%v)", err)
	}
}

// Every arm has its label, and no two labels lie on each other.
func TestLabels(t *testing.T) {
	r := evaluate(t, world(300), Options{})
	c := newCanvas(r)
	c.arms(r.Arms)
	if got := strings.Count(c.String(), `class="arm"`); got != len(r.Arms) {
		t.Errorf("%d labels for %d arms", got, len(r.Arms))
	}
	labels := c.taken[len(r.Arms):]
	for a := range labels {
		for b := range a {
			if labels[a].meets(labels[b]) {
				t.Errorf("labels %v and %v overlap", labels[a], labels[b])
			}
		}
	}
}

func TestSameInputSameReport(t *testing.T) {
	tab := world(300)
	var first string
	for workers := 1; workers <= 3; workers++ {
		var b bytes.Buffer
		if err := evaluate(t, tab, Options{Seed: 9, Workers: workers}, router(tab, "good", true)).WriteHTML(&b); err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = b.String()
		}
		if b.String() != first {
			t.Errorf("%d workers write another report than one", workers)
		}
	}
}

func TestLeaveTaskOut(t *testing.T) {
	tab := world(600)
	r := evaluate(t, tab, Options{LeaveTaskOut: true}, router(tab, "good", true))
	if r.Header.Folds != 4 || len(r.Tasks) != 4 {
		t.Errorf("%d folds and %d task rows, want 4 and 4", r.Header.Folds, len(r.Tasks))
	}
	// A task that was never seen has no label: the baseline is the constant of the other tasks.
	label, constant := row(t, r, "task label"), row(t, r, "best constant")
	if label.Score != constant.Score {
		t.Errorf("label scores %v, the best constant %v", label.Score, constant.Score)
	}
}

// TestUnseen: a router that always takes the best constant of the other tasks neither leads nor deviates, one that knows
// the tasks leads, and one that guesses is named with the tasks where it is worse.
func TestUnseen(t *testing.T) {
	tab := world(1200)
	constant := router(tab, "constant", true)
	for at := range constant.Score {
		constant.Score[at] = float64(at % len(tab.Arms)) // the last arm is the best of any three tasks
	}
	r := evaluate(t, tab, Options{LeaveTaskOut: true}, constant, router(tab, "good", true), router(tab, "bad", false))
	if len(r.Unseen) != 3 {
		t.Fatalf("got rows %+v, want one a router", r.Unseen)
	}
	still, good, bad := &r.Unseen[0], &r.Unseen[1], &r.Unseen[2]
	if still.Lead.Value != 0 || still.Deviates != 0 || still.Worse != nil {
		t.Errorf("the constant: %+v", still)
	}
	if !(good.Lead.Low > 0) || !(good.Deviates > .2 && good.Deviates < .3) || good.Worse != nil {
		t.Errorf("good: %+v, want it to lead on the one task of four where another arm is better", good)
	}
	if !(bad.Lead.High < 0) || bad.Deviates < .5 || len(bad.Worse) != 4 {
		t.Errorf("bad: %+v", bad)
	}
	if r := evaluate(t, tab, Options{}, constant); r.Unseen != nil {
		t.Errorf("folds by hash: got %+v, want nothing about unseen tasks", r.Unseen)
	}
}

// TestMeansOverArms holds the rows' means to what stands arm by arm.
func TestMeansOverArms(t *testing.T) {
	tab := world(600)
	r := evaluate(t, tab, Options{}, router(tab, "good", true), router(tab, "bad", false))
	for _, name := range []string{"good", "bad"} {
		excess, rmse := Num(0), Num(0)
		for _, c := range r.Calibration {
			if c.Router == name {
				excess += c.Excess / 3
			}
		}
		for _, k := range r.Tokens {
			if k.Router == name {
				rmse += k.RMSE / 3
			}
		}
		if w := row(t, r, name); excess == 0 || math.Abs(float64(w.ECEExcess-excess)) > 1e-12 || math.Abs(float64(w.TokensRMSE-rmse)) > 1e-12 {
			t.Errorf("%s: got means %v and %v, want %v and %v", name, w.ECEExcess, w.TokensRMSE, excess, rmse)
		}
	}
	if w := row(t, r, "best constant"); w.ECEExcess.Known() {
		t.Errorf("a constant has the calibration %v", w.ECEExcess)
	}
}

func TestEvaluateErrors(t *testing.T) {
	tab := world(60)
	short := router(tab, "short", true)
	short.Score = short.Score[1:]
	for name, c := range map[string]struct {
		o    Options
		pred bench.Predictions
	}{
		"one fold":     {Options{Folds: 1}, router(tab, "x", true)},
		"resamples":    {Options{Resamples: -1}, router(tab, "x", true)},
		"shape":        {Options{}, short},
		"unknown arm":  {Options{Arms: []catalog.ArmID{"a/b"}}, router(tab, "x", true)},
		"unknown pair": {Options{Resamples: 10, Pairs: [][2]catalog.ArmID{{"a/b", "sim/cheap"}}}, router(tab, "x", true)},
	} {
		if _, err := Evaluate(t.Context(), tab, []bench.Predictions{c.pred}, c.o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestCascades: a checker that passes everything is the router itself; a perfect one is worth more; and both stand in every
// form of the report.
func TestCascades(t *testing.T) {
	tab := world(400)
	r := evaluate(t, tab, Options{Cascades: []bench.Checker{{FalsePass: 1}, {}, {FalseReject: 1, CostUSD: .01}}}, router(tab, "able", true))
	if len(r.Cascades) != 4 || r.Cascades[0].Checker != nil {
		t.Fatalf("%d rows, want the router and three checkers", len(r.Cascades))
	}
	blind, perfect, useless := r.Cascades[1], r.Cascades[2], r.Cascades[3]
	if math.Abs(float64(blind.OverGuess.Value)) > 1e-9 || !(perfect.OverGuess.Low > 0) || !(useless.OverGuess.High < 0) || !(perfect.RelCost.Value < r.Cascades[0].RelCost.Value) {
		t.Errorf("blind %+v\nperfect %+v\nuseless %+v", blind, perfect, useless)
	}
	if k := row(t, r, "able"); r.Cascades[0].Own != k.Own || r.Cascades[0].RelScore != k.T100.RelScore {
		t.Errorf("the router beside the cascades is %+v, alone %+v", r.Cascades[0], k)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "Checking beside guessing") || !strings.Contains(text.String(), "1, 0") {
		t.Errorf("%v %s", err, text.String())
	}
	for name, c := range map[string]string{"one number": "0.1", "four": "1,1,1,1", "a word": "0.1,few", "too much": "0.1,2", "negative": "0,0,-1", "NaN": "NaN,0"} {
		if _, err := ParseChecker(c); err == nil {
			t.Errorf("%s: %q was taken", name, c)
		}
	}
	if c, err := ParseChecker("0.1, 0.05,0.0001"); err != nil || c != (bench.Checker{FalsePass: .1, FalseReject: .05, CostUSD: .0001}) {
		t.Errorf("%+v, %v", c, err)
	}
	bad := Options{Cascades: []bench.Checker{{FalsePass: 2}}}
	if bad.Validate() == nil {
		t.Error("a checker that cannot be was taken")
	}
}
