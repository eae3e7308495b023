package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestReplay: a round that a server has served and sealed is shown beside what it would have been: as it was with the same
// router, and otherwise under another router, another strategy and a policy.
func TestReplay(t *testing.T) {
	table, artifact := shared(t)
	other := filepath.Join(t.TempDir(), "other")
	run(t, "train", "--data", table, "--out", other, "--seed", "2", "--arms", "sim/cheap,sim/strong")
	s := start(t, nil, "--artifact", artifact)
	id := s.call("POST", "/v1/chat/completions", "", `{"model":"auto:quality","messages":[{"role":"user","content":"What is 17 times 23?"}]}`).header.Get("X-Tradewind-Decision-Id")
	s.stop()
	e := env{"TRADEWIND_DATA_DIR": s.data}
	replay := func(args ...string) (b bothDecisions) {
		stdout, stderr, code := command(t, e, "", append([]string{"replay", id, "--json"}, args...)...)
		if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != 0 {
			t.Fatalf("replay %v: exit code %d, %v\n%s%s", args, code, err, stdout, stderr)
		}
		return b
	}
	file := write(t, "tradewind.yaml", "router: {artifact: "+artifact+"}\npolicies:\n  plain: {strategy: cost, deny: [sim/strong]}\n")
	for name, b := range map[string]bothDecisions{"its artifact": replay("--artifact", artifact), "the one of the configuration": replay("--config", file)} {
		if b.Logged.ID == "" || b.Logged.Action != b.Replayed.Action || b.Logged.Propensity != b.Replayed.Propensity || b.Logged.RouterVersion != b.Replayed.RouterVersion ||
			b.Logged.Sentence != b.Replayed.Sentence || b.Logged.Served == nil || !b.Replayed.DryRun {
			t.Errorf("with %s: %+v\nand %+v", name, b.Logged, b.Replayed)
		}
	}
	b := replay("--artifact", other)
	if first, second := digestOf(t, artifact), digestOf(t, other); b.Logged.RouterVersion != first || b.Replayed.RouterVersion != second || b.Replayed.Strategy != "quality" {
		t.Errorf("with another artifact: %s became %s, want %s and %s", b.Logged.RouterVersion, b.Replayed.RouterVersion, first, second)
	}
	if was, is := b.Logged.Candidates[1], b.Replayed.Candidates[1]; was.Prior || !is.Prior || was.Quality == is.Quality {
		t.Errorf("an arm that the other router never saw: %+v became %+v", was, is)
	}
	if is := replay("--artifact", "default").Replayed; is.RouterVersion != digestOf(t, "default") || !is.Candidates[0].Prior || is.Certified {
		t.Errorf("with the default router: %+v", is)
	}
	b = replay("--config", file, "--policy", "plain")
	if b.Replayed.Policy != "plain" || b.Replayed.Strategy != "cost" || b.Replayed.Candidates[2].Filter != "not_allowed" || b.Replayed.Action == "sim/strong" {
		t.Errorf("under a policy: %+v", b.Replayed)
	}
	stdout, _, code := command(t, e, "", "replay", id, "--artifact", artifact, "--strategy", "cost")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	contains(t, "replay", stdout, id, "as it was", "as it would be", "quality", "cost", "changed", "sim/cheap", "Now chosen: ")
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{id}, "is in no registry that the configuration names: give --artifact"},
		{[]string{"rnd_01ARZ3NDEKTSV4RRFFQ69G5FAV"}, "are not kept"},
		{[]string{"nonsense"}, `"nonsense" is no decision's id`},
		{[]string{id, "--artifact", artifact, "--strategy", "best"}, "strategy must be one of"},
		{[]string{id, "--artifact", artifact, "--policy", "none"}, `no policy "none" is configured here`},
		{[]string{id, "--log", t.TempDir()}, "log"},
	} {
		if _, stderr, code := command(t, e, "", append([]string{"replay"}, tt.args...)...); code != 1 || !strings.Contains(stderr, tt.says) {
			t.Errorf("replay %v: exit code %d, %q, want %q", tt.args, code, stderr, tt.says)
		}
	}
}
