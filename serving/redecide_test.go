package serving_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/rules"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// otherwise is a gateway, and how it replays a round that it served under one router while another is in service.
func otherwise(t *testing.T, l learned) (w *world, was, is *serving.Router, settings serving.Settings) {
	arms := l.world.Arms()
	was = must(serving.NewRouter(arms, l.classifier))(t)
	is = must(serving.NewRouter(arms, remembering(t, l, "acme", "one", (l.classifier.Fallback()+1)%len(arms), .1)))(t)
	settings = serving.Settings{Epsilon: .2, Policies: map[string]rules.PolicyConfig{
		"thrift": {Strategy: "cost", MaxCostUSD: .004, Epsilon: new(float64)}, "kept": {Strategy: "cost", Target: governance.TargetConfig{Quality: .9}},
		"fine": {Strategy: "quality", Floor: .3, Deny: []string{string(arms[0].ID)}}, "split": {Split: []rules.ShareConfig{{Policy: "fine", Percent: 40}, {Policy: "thrift", Percent: 60}}},
	}}
	w = newWorld(t, setup{
		arms: arms, router: was, providers: map[string]upstream.Provider{arms[0].ID.Provider(): instant{}},
		auth: governance.Options{Keys: []governance.KeyConfig{
			{Key: keyA, Org: "acme", Team: "one", Permissions: []governance.Permission{governance.PolicyOverride}},
			{Key: keyB, Org: "acme", Permissions: []governance.Permission{governance.PolicyOverride}, Target: governance.TargetConfig{Quality: .95}},
		}},
		options: serving.Options{Settings: settings},
	})
	return w, was, is, settings
}

// TestReplayUnderAnother: a round that is replayed under another router, a named policy, another strategy or all of these is the
// decision that a gateway with that router makes of the same request under that policy and strategy, to the last bit.
func TestReplayUnderAnother(t *testing.T) {
	l := must(trained())(t)
	w, _, is, _ := otherwise(t, l)
	type request struct{ id, key, text, strategy string }
	var rounds []request
	for i := range 12 {
		r := request{"", []string{keyA, keyB}[i%2], string(must(json.Marshal(l.world.Sample(int64(trainingRows + i)).Text))(t)), []string{"cost", "balanced", "quality"}[i%3]}
		r.id = string(w.chat(fmt.Sprintf(`{"model":"auto:%s","messages":[{"role":"user","content":%s}],"tradewind":{"session_id":"s%d"}}`, r.strategy, r.text, i), bearer(r.key)...).wantOK().round())
		rounds = append(rounds, r)
	}
	w.SetRouter(is)
	own := map[string]string{"thrift": "cost", "kept": "cost", "fine": "quality"} // strategies of policies
	moved := 0
	for i, r := range rounds {
		replay := func(change map[string]string) (e serving.Explanation) {
			unmarshal(t, w.do("POST", "/v1/decisions/"+r.id+"/replay", string(must(json.Marshal(change))(t)), bearer(r.key)...).wantOK().body, &e)
			return e
		}
		route := func(strategy, session, policy string) (e serving.Explanation) {
			unmarshal(t, w.do("POST", "/v1/route", fmt.Sprintf(`{"model":"auto:%s","messages":[{"role":"user","content":%s}],"tradewind":{"session_id":%q%s}}`,
				strategy, r.text, session, policy), bearer(r.key)...).wantOK().body, &e)
			return e
		}
		was := replay(nil)
		for _, strategy := range []string{"", "cost", "quality"} {
			for _, policy := range []string{"", "thrift", "kept", "fine"} {
				change, demand := map[string]string{"router": is.Version(), "policy": policy, "strategy": strategy}, ""
				if policy != "" {
					demand = fmt.Sprintf(`,"policy":%q`, policy)
				}
				got, want := replay(change), route(cmp.Or(strategy, own[policy], r.strategy), "fresh", demand)
				if got.RouterVersion != is.Version() || got.Action != want.Action || got.Strategy != want.Strategy || got.Weights != want.Weights || got.Policy != want.Policy ||
					got.Complexity != want.Complexity || got.Certified != want.Certified || !slices.EqualFunc(got.Candidates, want.Candidates, func(a, b serving.Candidate) bool {
					return sameCandidate(a, b) && a.Quality == b.Quality && a.QualityLower == b.QualityLower && a.History == b.History && *a.CostUSD == *b.CostUSD
				}) {
					t.Errorf("%s, which was %s, as %v:\n%+v\nwant\n%+v", r.id, r.strategy, change, got, want)
				}
				if got.Action != was.Action {
					moved++
				}
			}
		}
		split := map[string]string{"router": is.Version(), "policy": "split"} // whose part goes by the conversation
		if got, want := replay(split), route("cost", fmt.Sprintf("s%d", i), `,"policy":"split"`); got.Policy != want.Policy || own[got.Policy] == "" {
			t.Errorf("%s is replayed under part %q of a split, its conversation is under %q", r.id, got.Policy, want.Policy)
		}
	}
	if moved == 0 {
		t.Error("no replay moves a choice: the test shows nothing")
	}
}

// TestReplayerRefuses: what another router cannot read, or nobody knows, is said so.
func TestReplayerRefuses(t *testing.T) {
	l := must(trained())(t)
	w, was, is, settings := otherwise(t, l)
	d, _ := w.outcome(w.chat(ask("auto", ""), bearer(keyA)...).wantOK())
	settings.Arms, settings.Router, settings.Auth = l.world.Arms(), is, w.auth
	replayer := must(serving.NewReplayer(&settings))(t)
	if e, err := replayer.Replay(d, serving.Change{}); err != nil || e.Action != d.Action || e.RouterVersion != was.Version() {
		t.Fatalf("with nothing changed: %+v, %v", e, err)
	}
	before := string(must(json.Marshal(d))(t))
	if e, err := replayer.Replay(d, serving.Change{Router: is.Version()}); err != nil || e.RouterVersion != is.Version() {
		t.Fatalf("under the other router: %+v, %v", e, err)
	}
	if after := string(must(json.Marshal(d))(t)); after != before {
		t.Errorf("a replay has changed what was logged:\n%s\nto\n%s", before, after)
	}
	one := settings
	one.Router = was
	_, err := must(serving.NewReplayer(&one))(t).Replay(d, serving.Change{Policy: "nobodys"})
	if err == nil || strings.Count(err.Error(), was.Version()) != 1 {
		t.Errorf("with one router: %v, want it named once", err)
	}
	for _, tt := range []struct {
		name  string
		spoil func(d *datasets.Decision)
		want  serving.Change
		says  string
	}{
		{"another version of features", func(d *datasets.Decision) { d.SpecDigest = "fs0-other" }, serving.Change{Router: is.Version()}, "features of version fs0-other, and the router " + is.Version() + " reads those of version " + d.SpecDigest},
		{"damaged features", func(d *datasets.Decision) { d.Features = d.Features[:len(d.Features)/2] }, serving.Change{Router: is.Version()}, "cannot be read"},
		{"no features", func(d *datasets.Decision) { d.Features = nil }, serving.Change{Router: is.Version()}, "nothing of the request was kept"},
		{"a router that is gone", func(*datasets.Decision) {}, serving.Change{Router: "tw1-gone"}, `the router "tw1-gone" is not in service`},
		{"a strategy of a router that is gone", func(*datasets.Decision) {}, serving.Change{Strategy: "cost"}, "is not in service any more"},
		{"a policy that nobody knows", func(*datasets.Decision) {}, serving.Change{Policy: "none"}, `no policy "none" is configured here`},
	} {
		spoiled := *d
		tt.spoil(&spoiled)
		if _, err := replayer.Replay(&spoiled, tt.want); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.says)
		}
	}
}
