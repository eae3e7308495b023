package serving_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/simulated"
	"github.com/tradewind-llm/tradewind/trainer"
)

// peers cost the same and are of one tier, so that nothing is held back and all are explored.
func peers(n int) []catalog.Arm {
	arms := make([]catalog.Arm, n)
	for i := range arms {
		arms[i] = threeArms()[0]
		arms[i].ID = catalog.ArmID(fmt.Sprintf("peer/%c", 'a'+i))
	}
	return arms
}

// TestExploration: over many rounds the arms serve as often as their propensities say (χ² with two degrees of freedom;
// 18.4 is passed by chance once in ten thousand seeds, and the seed is fixed).
func TestExploration(t *testing.T) {
	const rounds, epsilon = 3000, 0.3
	rng := rand.New(rand.NewPCG(7, 7))
	w := newWorld(t, setup{
		arms: peers(3), providers: map[string]upstream.Provider{"peer": must(simulated.New(simulated.Options{Instant: true}))(t)},
		options: serving.Options{Settings: serving.Settings{Epsilon: epsilon}, Uniform: rng.Float64},
	})
	for range rounds {
		w.chat(ask("auto", `,"max_tokens":1`)).wantOK()
	}
	count, expected, explored := map[catalog.ArmID]float64{}, map[catalog.ArmID]float64{}, 0
	for _, r := range w.rounds() {
		d := &r.Decision
		checkReplay(t, d)
		count[d.Action]++
		for i, p := range d.Propensities {
			expected[d.Case.Candidates[i].Arm] += p
		}
		if d.Explored != (d.Reason == datasets.Explored) || d.Explored != (d.Action != "peer/a") {
			t.Fatalf("action %s, explored %v, reason %s", d.Action, d.Explored, d.Reason)
		}
		if d.Explored {
			explored++
		}
	}
	chi := 0.0
	for arm, e := range expected {
		chi += (count[arm] - e) * (count[arm] - e) / e
	}
	if want := rounds * (1 - epsilon + epsilon/3); math.Abs(expected["peer/a"]-want) > 1e-6 || chi > 18.4 || explored == 0 {
		t.Errorf("counts %v, expected %v (best %v), χ² %.1f", count, expected, want, chi)
	}
}

// checkReplay: the logged case, read back from the journal, gives the logged propensities to the last bit (P23), and its
// estimates are the rounded ones.
func checkReplay(t *testing.T, d *datasets.Decision) {
	t.Helper()
	var p policy.Distribution
	policy.Router{}.Propose(&p, &d.Case)
	i := slices.IndexFunc(d.Case.Candidates, func(c policy.Candidate) bool { return c.Arm == d.Action })
	sum := 0.0
	for _, x := range d.Propensities {
		sum += x
	}
	for _, c := range d.Case.Candidates {
		for _, x := range []float64{c.Quality, c.QualityErr, c.Score, c.Gap, c.GapErr, c.OutputTokens, 1000 * c.CostUSD} {
			if text := strconv.FormatFloat(x, 'f', 6, 64); math.Abs(must(strconv.ParseFloat(text, 64))(t)-x) > 1e-12*max(1, math.Abs(x)) {
				t.Fatalf("round %s: an estimate of %s is %v: more than six decimals", d.RoundID, c.Arm, x)
			}
		}
	}
	if !slices.Equal(p.P, d.Propensities) || p.P[i] != d.Propensity || math.Abs(sum-1) > 1e-12 {
		t.Fatalf("round %s: replayed %v, logged %v of %v", d.RoundID, p.P, d.Propensity, d.Propensities)
	}
}

// TestMayNotExplore: who says so is served the best, whatever the draw.
func TestMayNotExplore(t *testing.T) {
	w := newWorld(t, setup{
		arms: peers(3), providers: map[string]upstream.Provider{"peer": &vendor{}},
		options: serving.Options{Settings: serving.Settings{Epsilon: 0.9}, Uniform: func() float64 { return 0.999 }},
	})
	for body, want := range map[string]string{
		ask("auto", ""): "peer/c explored",
		ask("auto", `,"tradewind":{"explore":false}`):     "peer/a predicted",
		ask("auto:availability", ""):                      "peer/a predicted",
		ask("peer/b", ""):                                 "peer/b pinned",
		ask("auto", `,"tradewind":{"models":["peer/b"]}`): "peer/b only_candidate",
		ask("auto", `,"tradewind":{"deny":["peer/c"]}`):   "peer/b explored",
	} {
		a := w.chat(body).wantOK()
		if got := a.header.Get("X-Tradewind-Model") + " " + a.header.Get("X-Tradewind-Reason"); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
		d, _ := w.outcome(a)
		checkReplay(t, d)
	}
}

// trained is a router that has learned a small simulated world; it is trained once for all tests.
var trained = sync.OnceValues(func() (learned, error) { return trainedOn(trainingRows) })

func trainedOn(rows int) (learned, error) {
	world, err := simulate.New(simulate.Options{Seed: 3, Arms: 3})
	if err != nil {
		return learned{}, err
	}
	dir, err := os.MkdirTemp("", "tradewind-serving-")
	if err != nil {
		return learned{}, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "artifact")
	if _, err := trainer.Run(context.Background(), trainer.Options{Data: world.Table(rows), Out: out, Seed: 1}); err != nil {
		return learned{}, err
	}
	c, err := classifier.Open(out)
	return learned{world, c}, err
}

const trainingRows = 500

type learned struct {
	world      *simulate.World
	classifier *classifier.Classifier
}

// TestStrategies on prompts that the router never saw: a dearer dollar never buys a dearer arm, and the decision says
// what it stands on.
func TestStrategies(t *testing.T) {
	l := must(trained())(t)
	arms := l.world.Arms()
	router := must(serving.NewRouter(arms, l.classifier))(t)
	provider := must(simulated.New(simulated.Options{Instant: true}))(t)
	w := newWorld(t, setup{arms: arms, router: router, providers: map[string]upstream.Provider{arms[0].ID.Provider(): provider}})
	if len(router.Unmeasured()) != 0 || router.Version() == "" {
		t.Fatalf("unmeasured %v, version %q", router.Unmeasured(), router.Version())
	}
	forecast := map[string]float64{}
	for i := range 100 {
		text, of := must(json.Marshal(l.world.Sample(int64(trainingRows+i)).Text))(t), map[string]float64{}
		for _, strategy := range []string{"cost", "balanced", "quality", "latency", "availability"} {
			a := w.chat(fmt.Sprintf(`{"model":"auto:%s","max_tokens":5,"messages":[{"role":"user","content":%s}]}`, strategy, text)).wantOK()
			d, _ := w.outcome(a)
			checkReplay(t, d)
			if a.header.Get("X-Tradewind-Router-Version") != router.Version() || d.Strategy != strategy || len(d.Features) == 0 || d.Prompt == "" {
				t.Fatalf("headers %v, decision %+v", a.header, d)
			}
			if want := strategy != "latency"; d.Certified != want {
				t.Fatalf("%s: certified %v, want %v", strategy, d.Certified, want)
			}
			j := slices.IndexFunc(d.Case.Candidates, func(c policy.Candidate) bool { return c.Arm == d.Action })
			of[strategy] = d.Case.Candidates[j].CostUSD
			forecast[strategy] += of[strategy]
		}
		if of["cost"] > of["balanced"] || of["balanced"] > of["quality"] {
			t.Errorf("prompt %d: forecast cost by strategy %v", i, of)
		}
	}
	if !(forecast["cost"] < forecast["quality"]) {
		t.Errorf("the strategies make no difference: %v", forecast)
	}
}

// TestShiftingTraffic: the operator's setting decides by the score for shifting traffic, claims no certificate, and says so.
func TestShiftingTraffic(t *testing.T) {
	l := must(trained())(t)
	arms := l.world.Arms()
	router := must(serving.NewRouter(arms, l.classifier))(t)
	provider := must(simulated.New(simulated.Options{Instant: true}))(t)
	w := newWorld(t, setup{
		arms: arms, router: router, options: serving.Options{Settings: serving.Settings{Traffic: policy.Shifting}},
		providers: map[string]upstream.Provider{arms[0].ID.Provider(): provider},
	})
	differ := false
	for i := range 30 {
		text := must(json.Marshal(l.world.Sample(int64(trainingRows + i)).Text))(t)
		d, _ := w.outcome(w.chat(fmt.Sprintf(`{"model":"auto","max_tokens":5,"messages":[{"role":"user","content":%s}]}`, text)).wantOK())
		checkReplay(t, d)
		if d.Certified || d.Policy != "router, shifting traffic" {
			t.Fatalf("certified %v, policy %q", d.Certified, d.Policy)
		}
		var x features.Context
		var e policy.Estimates
		if err := x.Parse(d.Features); err != nil {
			t.Fatal(err)
		}
		l.classifier.Estimate(&e, &x)
		for j := range e.Shifted {
			got := d.Case.Candidates[slices.IndexFunc(d.Case.Candidates, func(c policy.Candidate) bool { return c.Arm == l.classifier.Arms()[j] })].Score
			if math.Abs(got-e.Shifted[j]) > 1e-6 {
				t.Fatalf("prompt %d, arm %d: score %v, want %v", i, j, got, e.Shifted[j])
			}
			differ = differ || math.Abs(e.Shifted[j]-e.Score[j]) > 1e-3
		}
	}
	if !differ {
		t.Error("both settings have the same scores here: the test shows nothing")
	}
}

// TestAutoTraffic: prompts of the mix that the router was trained on leave the setting alone, prompts unlike it change it,
// and the way back is found. Requests that name an arm are not counted.
func TestAutoTraffic(t *testing.T) {
	l := must(trained())(t)
	arms := l.world.Arms()
	router := must(serving.NewRouter(arms, l.classifier))(t)
	w := newWorld(t, setup{
		arms: arms, router: router, providers: map[string]upstream.Provider{arms[0].ID.Provider(): instant{}},
		options: serving.Options{Settings: serving.Settings{Traffic: serving.AutoTraffic}},
	})
	at := trainingRows
	known := func() string { at++; return l.world.Sample(int64(at)).Text }
	strange := func() string { at++; return fmt.Sprintf("Welcher Wind weht am Abend Nr. %d an der Küste?", at) }
	for _, step := range []struct {
		model, policy string
		prompt        func() string
		windows       int
		changes       int
		drift         string // of the mix of tasks, which is compared every four windows
	}{
		{"auto", "router", known, 2, 0, ""},
		{string(arms[0].ID), "router", strange, 2, 0, ""},
		{"auto", "router", strange, 1, 0, ""},
		{"auto", "router, shifting traffic", strange, 1, 1, "far"},
		{"auto", "router, shifting traffic", known, 3, 1, "far"},
		{"auto", "router", known, 1, 2, "near"},
	} {
		for range step.windows * classifier.NoveltyWindow {
			w.chat(fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%s}]}`, step.model, must(json.Marshal(step.prompt()))(t))).wantOK()
		}
		d, _ := w.outcome(w.chat(ask(string(arms[0].ID), "")).wantOK())
		checkReplay(t, d)
		rec := httptest.NewRecorder()
		w.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
		gauge := "tradewind_traffic_shifting 0\n"
		if step.policy != "router" {
			gauge = "tradewind_traffic_shifting 1\n"
		}
		changes := strings.Count(w.log.String(), "that the router was trained on")
		if d.Policy != step.policy || changes != step.changes || !strings.Contains(rec.Body.String(), gauge) || !strings.Contains(rec.Body.String(), "\ntradewind_traffic_novelty ") {
			t.Fatalf("%+v: policy %q after %d changes, want %s\n%s", step, d.Policy, changes, gauge, w.log)
		}
		drift := ""
		if _, value, ok := strings.Cut(rec.Body.String(), `tradewind_feature_drift{feature_group="task"} `); ok {
			value, _, _ = strings.Cut(value, "\n")
			if drift = "near"; must(strconv.ParseFloat(value, 64))(t) > 0.25 {
				drift = "far"
			}
		}
		if drift != step.drift {
			t.Errorf("%+v: the drift is %q\n%s", step, drift, rec.Body)
		}
	}
	for _, r := range w.rounds() {
		checkReplay(t, &r.Decision)
	}
	// Another router measures otherwise, so it begins anew, and one that measures nothing says so.
	w.SetRouter(must(serving.NewRouter(arms, nil))(t))
	if !strings.Contains(w.log.String(), "it stays with known") {
		t.Error("auto without a reference is silent")
	}
}

// TestUnmeasuredArmsWait: an arm that the artifact never saw serves when it is named, not when the router chooses.
func TestUnmeasuredArmsWait(t *testing.T) {
	l := must(trained())(t)
	arms := append(l.world.Arms(), catalog.Arm{ID: "new/frontier", Tier: catalog.TierFrontier, Prices: threeArms()[2].Prices})
	router := must(serving.NewRouter(arms, l.classifier))(t)
	w := newWorld(t, setup{arms: arms, router: router})
	if got := fmt.Sprint(router.Unmeasured()); got != "[new/frontier]" {
		t.Fatalf("unmeasured %s", got)
	}
	for _, strategy := range []string{"quality", "balanced", "cost", "availability"} {
		a := w.chat(ask("auto:"+strategy, "")).wantOK()
		if d, _ := w.outcome(a); d.Action == "new/frontier" || d.Case.Candidates[3].Filter != policy.Guarded {
			t.Errorf("%s: an arm of unknown quality was chosen or might have been: %+v", strategy, d.Case.Candidates[3])
		}
	}
	if a := w.chat(ask("auto", `,"tradewind":{"deny":["sim/*"]}`)).wantOK(); a.header.Get("X-Tradewind-Model") != "new/frontier" {
		t.Error("with nothing better left, the unmeasured arm must serve")
	}
	if a := w.chat(ask("new/frontier", "")).wantOK(); a.header.Get("X-Tradewind-Model") != "new/frontier" {
		t.Error("a named arm did not serve")
	}
	// A new router takes over between two requests.
	w.SetRouter(must(serving.NewRouter(arms, nil))(t))
	a := w.chat(ask("auto:quality", "")).wantOK()
	if got, want := a.header.Get("X-Tradewind-Router-Version"), string(must(classifier.Default())(t).Digest()); got != want {
		t.Errorf("router version %q, want the default one's, %q", got, want)
	}
}

// TestLogLevels: a key reaches no journal, log, metric or answer (P13), and text only a journal that may
// hold it.
func TestLogLevels(t *testing.T) {
	for _, tt := range []struct {
		key, header    string
		features, text bool
	}{
		{"full", "", true, true}, {"full", "features", true, false}, {"full", "none", false, false},
		{"features", "full", true, false}, {"none", "full", false, false}, {"", "full", true, false},
	} {
		w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Log: governance.LogLevel(tt.key)}}}})
		header := bearer(keyA)
		if tt.header != "" {
			header = append(header, "X-Tradewind-Log", tt.header)
		}
		user := map[bool]string{true: "bob"}[tt.features]
		d, _ := w.outcome(w.chat(ask("auto", `,"user":"bob"`), header...).wantOK())
		if d.EndUser != user {
			t.Errorf("key %q, header %q: the end user is %q, want %q", tt.key, tt.header, d.EndUser, user)
		}
		if (len(d.Features) > 0) != tt.features || (d.Prompt != "") != tt.text {
			t.Errorf("key %q, header %q: %d bytes of features, prompt %q", tt.key, tt.header, len(d.Features), d.Prompt)
		}
		journal, rec := string(journalBytes(t, w.dir)), httptest.NewRecorder()
		w.metrics.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
		if strings.Contains(journal, "17 times") != tt.text {
			t.Errorf("key %q, header %q: the journal's text is wrong", tt.key, tt.header)
		}
		for place, text := range map[string]string{"journal": journal, "log": w.log.String(), "metrics": rec.Body.String()} {
			if strings.Contains(text, keyA[:14]) {
				t.Errorf("the key stands in the %s", place)
			}
		}
	}
}

// TestEndUser: the header names whom a request is for, or else the body's field does.
func TestEndUser(t *testing.T) {
	w := newWorld(t, setup{})
	eve := []string{"X-Tradewind-End-User", "eve"}
	for want, a := range map[string]*answer{
		"": w.chat(ask("auto", "")), "bob": w.chat(ask("auto", `,"user":"bob"`)), "eve": w.chat(ask("auto", `,"user":"bob"`), eve...),
		"ann": w.messages(message("auto", `,"metadata":{"user_id":"ann"}`)),
	} {
		if d, _ := w.outcome(a.wantOK()); d.EndUser != want {
			t.Errorf("the log says it was for %q, want %q", d.EndUser, want)
		}
	}
	w.chat(ask("auto", ""), "X-Tradewind-End-User", strings.Repeat("x", openai.UserMax+1)).wantError(400, openai.InvalidRequest)
}

// TestConcurrentRounds: rounds share pooled memory; none may see another's.
func TestConcurrentRounds(t *testing.T) {
	w := newWorld(t, setup{options: serving.Options{Settings: serving.Settings{Epsilon: 0.2}, Uniform: rand.Float64}, arms: peers(3)})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 100 {
				tag, more := fmt.Sprintf("%d-%d", i, n), ""
				if n%2 == 0 {
					more = `,"stream":true`
				}
				a := w.chat(ask("auto", more+`,"tradewind":{"tags":{"who":"`+tag+`"},"explain":true}`), "X-Request-Id", tag)
				d, o := w.outcome(a)
				served := a.header.Get("X-Tradewind-Model") // another than the action where a busy machine made an arm look slow
				if a.header.Get("X-Request-Id") != tag || d.RequestID != tag || d.Tags["who"] != tag || string(o.Served) != served || !strings.Contains(a.body, `"request_id":"`+tag+`"`) {
					t.Errorf("%s: %v %+v", tag, a.header, d)
				}
			}
		})
	}
	all.Wait()
	if n := len(w.rounds()); n != 800 {
		t.Errorf("%d rounds, want 800", n)
	}
}
