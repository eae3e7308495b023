package serving_test

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// remembering is the trained router with the history of one team: the arm with this index is better for it by so much.
func remembering(t testing.TB, l learned, org, team string, arm int, by float64) *classifier.Classifier {
	t.Helper()
	m := l.classifier.Model().Clone()
	m.Router.Teams = []classifier.Team{classifier.TeamOf(org, team)}
	m.Tables.History, m.Tables.HistoryVar = classifier.NewTable(1, len(m.Router.Arms)), classifier.NewTable(1, len(m.Router.Arms))
	m.Tables.History.Data[arm], m.Tables.HistoryVar.Data[arm] = by, 1e-4
	dir := filepath.Join(t.TempDir(), "artifact")
	must(models.Write(dir, must(m.Sections())(t), models.Provenance{}))(t)
	return must(classifier.Open(dir))(t)
}

// TestHistoryOfATeam: what a team's outcomes have taught moves its own decisions, stands in the decision as what it added,
// is journaled and replayed to the last bit, and leaves others where they were.
func TestHistoryOfATeam(t *testing.T) {
	l := must(trained())(t)
	arms := l.world.Arms()
	keys := governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Org: "acme", Team: "one"}, {Key: keyB, Org: "acme", Team: "two"}}}
	newGateway := func(c *classifier.Classifier) *world {
		return newWorld(t, setup{
			arms: arms, auth: keys, router: must(serving.NewRouter(arms, c))(t),
			providers: map[string]upstream.Provider{arms[0].ID.Provider(): instant{}},
		})
	}
	j := (l.classifier.Fallback() + 1) % len(arms)
	favourite := l.classifier.Arms()[j]
	plain, with := newGateway(l.classifier), newGateway(remembering(t, l, "acme", "one", j, .2))
	moved, chosen := 0, map[string]int{}
	for i := range 40 {
		text := must(json.Marshal(l.world.Sample(int64(trainingRows + i)).Text))(t)
		body := fmt.Sprintf(`{"model":"auto:quality","messages":[{"role":"user","content":%s}]}`, text)
		decide := func(w *world, key string) (e serving.Explanation) {
			a := w.chat(body, bearer(key)...).wantOK()
			d, _ := w.outcome(a)
			checkReplay(t, d)
			unmarshal(t, w.do("GET", "/v1/decisions/"+string(a.round()), "", bearer(key)...).wantOK().body, &e)
			var again serving.Explanation
			unmarshal(t, w.do("POST", "/v1/decisions/"+string(a.round())+"/replay", "", bearer(key)...).wantOK().body, &again)
			if again.Action != e.Action || !slices.EqualFunc(again.Candidates, e.Candidates, sameCandidate) {
				t.Fatalf("replayed as %+v, was %+v", again, e)
			}
			return e
		}
		was, own, other := decide(plain, keyA), decide(with, keyA), decide(with, keyB)
		for k, c := range own.Candidates {
			before, want := was.Candidates[k], 0.0
			if c.Model == favourite {
				want = .2
			}
			if c.History != want || math.Abs(c.Score-before.Score-want) > 2e-6 || math.Abs(c.Quality-min(1, before.Quality+want)) > 2e-6 {
				t.Fatalf("%s: history %v, score %v, quality %v; without history %+v", c.Model, c.History, c.Score, c.Quality, before)
			}
		}
		if !slices.EqualFunc(other.Candidates, was.Candidates, sameCandidate) || other.Candidates[j].History != 0 {
			t.Fatalf("another team is served %+v, without history %+v", other.Candidates, was.Candidates)
		}
		if own.Action != was.Action {
			moved++
		}
		chosen[string(own.Action)]++
	}
	if moved == 0 || chosen[string(catalog.ArmID(favourite))] == 0 {
		t.Errorf("history moves %d choices of 40: %v", moved, chosen)
	}
}
