package serving_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// anyAsk draws a request: a strategy, and demands that filter in every way there is.
func anyAsk(t testing.TB, l learned, rng *rand.Rand, i int) string {
	arms := l.world.Arms()
	one := func(of ...string) string { return of[rng.IntN(len(of))] }
	model := one("auto", "auto:cost", "auto:quality", "auto:latency", "auto:availability", "auto:balanced", string(arms[rng.IntN(len(arms))].ID))
	more := one("", `"quality_floor":0.6`, `"quality_floor":0.99`, `"max_cost_usd":0.002`, `"max_cost_usd":0.02`, `"max_latency_ms":1`, `"explore":false`,
		`"quality_floor":{"reference":"`+string(arms[0].ID)+`","epsilon":0.02}`, `"deny":["`+string(arms[2].ID)+`"]`, `"session_id":"one"`, `"session_id":"two"`)
	text := must(json.Marshal(l.world.Sample(int64(trainingRows + i)).Text))(t)
	return fmt.Sprintf(`{"model":%q,"stream":%v,"max_tokens":%d,"messages":[{"role":"user","content":%s}],"tradewind":{%s}}`,
		model, rng.IntN(3) == 0, 50+rng.IntN(400), text, more)
}

// TestReplayGivesTheSame: over many rounds of every kind a replay without a change, or with the strategy that was in force, gives
// the action, the reason, the weights and every propensity to the last bit: from the journal, from the journal of a process
// before, and from the sealed log.
func TestReplayGivesTheSame(t *testing.T) {
	l := must(trained())(t)
	rng := rand.New(rand.NewPCG(8, 9))
	sealed := must(datasets.OpenLog(filepath.Join(t.TempDir(), "log"), datasets.LogOptions{}))(t)
	defer sealed.Close()
	w := newWorld(t, setup{
		arms: l.world.Arms(), router: must(serving.NewRouter(l.world.Arms(), l.classifier))(t),
		providers: map[string]upstream.Provider{l.world.Arms()[0].ID.Provider(): instant{}},
		options: serving.Options{
			Settings: serving.Settings{Epsilon: 0.3, Target: governance.TargetConfig{Cost: governance.CostConfig{Amount: 0.001, Per: governance.PerRequest}}},
			Uniform:  rng.Float64, Sealed: sealed,
		},
		unaudited: true, // the sealer takes the journal away
	})
	var rounds []datasets.RoundID
	shown, reasons, filters := map[datasets.RoundID]string{}, map[datasets.Reason]int{}, map[policy.Filter]int{}
	for i := range 400 {
		a := w.chat(anyAsk(t, l, rng, i))
		d, _, found := w.journal.Recent(a.round())
		if !found {
			continue // nobody could serve it
		}
		rounds = append(rounds, d.RoundID)
		shown[d.RoundID] = w.do("GET", "/v1/decisions/"+string(d.RoundID), "").wantOK().body
		reasons[d.Reason]++
		for _, c := range d.Case.Candidates {
			filters[c.Filter]++
		}
	}
	for _, want := range []datasets.Reason{datasets.Predicted, datasets.Explored, datasets.Pinned, datasets.OnlyCandidate, datasets.FloorReference, datasets.Sticky} {
		if reasons[want] == 0 {
			t.Errorf("no round was %s: %v", want, reasons)
		}
	}
	for _, want := range []policy.Filter{policy.QualityFloor, policy.MaxCost, policy.Guarded, policy.Denied, policy.NotAllowed} {
		if filters[want] == 0 {
			t.Errorf("no arm was filtered by %s: %v", want, filters)
		}
	}
	pressed := replaysTheSame(w, "from the journal", rounds, shown)
	sealer := &serving.Sealer{Journal: w.journal, Log: sealed, Logger: slog.New(slog.DiscardHandler)}
	if err := sealer.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	again := newWorld(t, setup{
		arms: l.world.Arms(), router: must(serving.NewRouter(l.world.Arms(), l.classifier))(t), options: serving.Options{Sealed: sealed}, unaudited: true,
	})
	w.Gateway, w.handler = again.Gateway, again.handler                                         // a process that has seen none of it
	rounds = slices.DeleteFunc(rounds, func(datasets.RoundID) bool { return rng.IntN(10) > 0 }) // it takes a while
	replaysTheSame(w, "from the sealed log", rounds, shown)
	if pressed == 0 {
		t.Error("no round was under the pressure of a cost target")
	}
}

// replaysTheSame shows and replays rounds, and counts those that were under the pressure of a cost target.
func replaysTheSame(w *world, where string, rounds []datasets.RoundID, shown map[datasets.RoundID]string) (pressed int) {
	w.Helper()
	for _, id := range rounds {
		if got := w.do("GET", "/v1/decisions/"+string(id), "").wantOK().body; got != shown[id] {
			w.Fatalf("%s: decision\n%s\nwas shown as\n%s", where, got, shown[id])
		}
		var was serving.Explanation
		unmarshal(w, shown[id], &was)
		for _, body := range []string{"", "{}", fmt.Sprintf(`{"strategy":%q}`, was.Strategy), fmt.Sprintf(`{"policy":%q}`, was.RouterVersion)} {
			var is serving.Explanation
			unmarshal(w, w.do("POST", "/v1/decisions/"+string(id)+"/replay", body).wantOK().body, &is)
			if !is.DryRun || is.Served != nil || is.Weights != was.Weights || !slices.EqualFunc(is.Candidates, was.Candidates, sameCandidate) {
				w.Fatalf("%s: replay with %s\n%+v\nwant\n%+v", where, body, is, was)
			}
			drawn := !strings.Contains(body, "strategy") // else it is the best that is shown
			if drawn && (is.Action != was.Action || is.Propensity != was.Propensity || is.Explored != was.Explored || is.Reason != was.Reason || is.Sentence == "") {
				w.Fatalf("%s: replay with %s: %s with %v, was %s with %v", where, body, is.Action, is.Propensity, was.Action, was.Propensity)
			}
		}
		if was.BudgetPressure != nil {
			pressed++
		}
	}
	return pressed
}

func unmarshal(t testing.TB, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
}

func sameCandidate(a, b serving.Candidate) bool {
	return a.Model == b.Model && a.Filter == b.Filter && a.Propensity == b.Propensity && a.Score == b.Score
}

// TestReplayWithAChange: other weights and another strategy move the choice the way they say, and certify nothing that they
// cannot.
func TestReplayWithAChange(t *testing.T) {
	l := must(trained())(t)
	w := newWorld(t, setup{
		arms: l.world.Arms(), router: must(serving.NewRouter(l.world.Arms(), l.classifier))(t),
		providers: map[string]upstream.Provider{l.world.Arms()[0].ID.Provider(): instant{}},
	})
	differ := 0
	for i := range 50 {
		text := must(json.Marshal(l.world.Sample(int64(trainingRows + i)).Text))(t)
		id := w.chat(fmt.Sprintf(`{"model":"auto:balanced","messages":[{"role":"user","content":%s}]}`, text)).wantOK().round()
		replay := func(body string) (e serving.Explanation) {
			unmarshal(t, w.do("POST", "/v1/decisions/"+string(id)+"/replay", body).wantOK().body, &e)
			if e.ID != id {
				t.Fatalf("%s is replayed as %s", id, e.ID)
			}
			return e
		}
		cost := func(e serving.Explanation) float64 {
			for _, c := range e.Candidates {
				if c.Model == e.Action {
					return *c.CostUSD
				}
			}
			return -1
		}
		cheap, dear := replay(`{"weights":{"quality":1,"cost":1000000}}`), replay(`{"weights":{"quality":2,"cost":0}}`)
		if cheap.Certified || cheap.Weights.Cost != 1e6 || dear.Weights.Cost != 0 || cost(cheap) > cost(dear) {
			t.Errorf("at a million a dollar %s, for nothing %s: %+v %+v", cheap.Action, dear.Action, cheap.Weights, dear.Weights)
		}
		quality, thrift := replay(`{"strategy":"quality"}`), replay(`{"strategy":"cost"}`)
		if quality.Strategy != "quality" || thrift.Weights.Cost == 0 || cost(thrift) > cost(quality) {
			t.Errorf("for quality %s, for cost %s", quality.Action, thrift.Action)
		}
		if f := replay(`{"weights":{"latency":1}}`); f.Weights != (serving.Weights{Latency: 1}) {
			t.Errorf("latency: %+v", f.Weights)
		}
		if cost(cheap) != cost(dear) {
			differ++
		}
	}
	if differ == 0 {
		t.Error("no choice depends on the weights: the test shows nothing")
	}
}

// TestReplayRefusals: what cannot be made anew says so, and who may not see a decision finds none.
func TestReplayRefusals(t *testing.T) {
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{
		{Key: keyA, Org: "a", Team: "one"}, {Key: keyMate, Org: "a", Team: "one"}, {Key: keyB, Org: "a", Team: "two"},
	}}})
	kept := w.chat(ask("auto", ""), bearer(keyA)...).wantOK().round()
	bare := w.chat(ask("auto", ""), append(bearer(keyA), "X-Tradewind-Log", "none")...).wantOK().round()
	for _, tt := range []struct {
		key    string
		id     datasets.RoundID
		body   string
		status int
		code   openai.Code
	}{
		{keyA, bare, "", http.StatusGone, openai.NotReplayable},
		{keyB, kept, "", http.StatusNotFound, openai.NotFound},
		{keyA, "rnd_01ARZ3NDEKTSV4RRFFQ69G5FAV", "", http.StatusNotFound, openai.NotFound},
		{keyA, "nonsense", "", http.StatusNotFound, openai.NotFound},
		{keyA, kept, `{"stratgy":"cost"}`, http.StatusBadRequest, openai.InvalidRequest},
		{keyA, kept, `{"strategy":"cheapest"}`, http.StatusBadRequest, openai.InvalidRequest},
		{keyA, kept, `{"strategy":"cost","weights":{"quality":1}}`, http.StatusBadRequest, openai.InvalidRequest},
		{keyA, kept, `{"weights":{"cost":1}}`, http.StatusBadRequest, openai.InvalidRequest},
		{keyA, kept, `{"weights":{"quality":-1}}`, http.StatusBadRequest, openai.InvalidRequest},
		{keyA, kept, `{"weights":{"quality":1,"latency":1}}`, http.StatusBadRequest, openai.InvalidRequest},
		{keyA, kept, `{"weights":{"quality":1e-320,"cost":1e300}}`, http.StatusBadRequest, openai.InvalidRequest},
		{keyA, kept, `{} {}`, http.StatusBadRequest, openai.InvalidRequest},
		{keyA, kept, `{"policy":"another"}`, http.StatusBadRequest, openai.UnsupportedRoutingField},
		{keyA, kept, strings.Repeat(" ", 5000), http.StatusRequestEntityTooLarge, openai.RequestTooLarge},
	} {
		w.do("POST", "/v1/decisions/"+string(tt.id)+"/replay", tt.body, bearer(tt.key)...).wantError(tt.status, tt.code)
	}
	w.do("POST", "/v1/decisions/"+string(kept)+"/replay", "", bearer(keyMate)...).wantOK()
	// Another router is in service: what only the first knows is gone, and what stands in the case is not.
	l := must(trained())(t)
	w.SetRouter(must(serving.NewRouter(threeArms(), l.classifier))(t))
	w.do("POST", "/v1/decisions/"+string(kept)+"/replay", `{"strategy":"cost"}`, bearer(keyA)...).wantError(http.StatusGone, openai.NotReplayable)
	w.do("POST", "/v1/decisions/"+string(kept)+"/replay", `{"weights":{"quality":1}}`, bearer(keyA)...).wantOK()
	if n := len(w.vendor.called()); n != 2 {
		t.Errorf("a replay called a vendor: %d calls", n)
	}
}
