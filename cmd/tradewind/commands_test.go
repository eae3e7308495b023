package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/simulate"
	"github.com/tradewind-llm/tradewind/serving"
)

// Each command once, on small inputs, through its arguments alone.

func TestTrain(t *testing.T) {
	table, artifact := shared(t)
	contains(t, "train", fixture.trained, "Trained on "+tablePrompts+" prompts", "best single arm", "sim/strong", "Routing beats single arms here", "Artifact tw1-", artifact)

	_, stderr, code := command(t, nil, "", "train", "--data", table, "--out", artifact)
	if code != 1 || !strings.Contains(stderr, "never overwritten") {
		t.Errorf("training into an existing folder: exit code %d, %q", code, stderr)
	}

	var again struct{ Digest string }
	out := run(t, "train", "--data", table, "--out", filepath.Join(t.TempDir(), "again"), "--seed", "1", "--json")
	if err := json.Unmarshal([]byte(out), &again); err != nil {
		t.Fatal(err)
	}
	if digest := digestOf(t, artifact); again.Digest != digest {
		t.Errorf("equal data and seed give %s and %s", again.Digest, digest)
	}
}

func digestOf(t *testing.T, artifact string) string {
	t.Helper()
	digest, rest, ok := strings.Cut(run(t, "models", "verify", artifact), ":")
	if !ok || !strings.HasPrefix(digest, "tw1-") || !strings.Contains(rest, "golden rows replay") {
		t.Fatalf("verify says %q%q", digest, rest)
	}
	return digest
}

// A table without costs can be learned from; in JSON an unknown cost is null.
func TestTrainWithoutCosts(t *testing.T) {
	var csv strings.Builder
	csv.WriteString("prompt_id,question,model,score\n")
	for i := range 40 {
		id := strings.Repeat("i", i+1)
		for j, arm := range []string{"lab/a", "lab/b"} {
			csv.WriteString(id + ",What is " + id + "?," + arm + "," + []string{"0", "1"}[(i+j)%2] + "\n")
		}
	}
	dir := t.TempDir()
	table := filepath.Join(dir, "t.parquet")
	text := run(t, "data", "import", write(t, "t.csv", csv.String()), table, "--rename", "question=prompt")
	contains(t, "import", text, "80 rows, 40 prompts, 2 arms; cost unknown in 80 rows")
	contains(t, "inspect", run(t, "data", "inspect", table), "unknown costs  80 of 80", "lab/a", "0.5000")

	var s struct {
		Prompts int
		Arms    []map[string]any
	}
	out := run(t, "train", "--data", table, "--out", filepath.Join(dir, "artifact"), "--json")
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if s.Prompts != 40 || len(s.Arms) != 2 {
		t.Fatalf("summary %+v, want 40 prompts and 2 arms", s)
	}
	if cost, ok := s.Arms[0]["mean_cost_usd"]; !ok || cost != nil {
		t.Errorf("arm %v, want a cost that is there and null", s.Arms[0])
	}

	bad := write(t, "bad.csv", "prompt_id,prompt,model,score\np,q,lab/a,2\n")
	_, stderr, code := command(t, nil, "", "data", "import", bad, filepath.Join(dir, "bad.parquet"))
	if code != 1 || !strings.Contains(stderr, "line 2, column score") {
		t.Errorf("a score of 2: exit code %d, %q", code, stderr)
	}
}

func TestSimulate(t *testing.T) {
	table := filepath.Join(t.TempDir(), "w.parquet")
	var c simulate.Ceilings
	if err := json.Unmarshal([]byte(run(t, "data", "simulate", "--out", table, "--prompts", "50", "--seed", "3", "--json")), &c); err != nil {
		t.Fatal(err)
	}
	if c.Features.Quality < c.Single.Quality+0.05 {
		t.Errorf("the best policy on features reaches %.3f, the best single arm %.3f: the world is too easy", c.Features.Quality, c.Single.Quality)
	}
	var in datasets.Inspection
	if err := json.Unmarshal([]byte(run(t, "data", "inspect", table, "--json")), &in); err != nil {
		t.Fatal(err)
	}
	if in.Rows != 300 || in.Prompts != 50 || len(in.Arms) != 6 {
		t.Errorf("the table has %d rows of %d prompts and %d arms, want 300 of 50 and 6", in.Rows, in.Prompts, len(in.Arms))
	}
}

func TestEval(t *testing.T) {
	trainedOn, artifact := shared(t)
	_, stderr, code := command(t, nil, "", "eval", "--artifact", artifact, "--data", trainedOn)
	if code != 1 || !strings.Contains(stderr, "was trained on this very table") {
		t.Errorf("a router judged on its training table: exit code %d, %s", code, stderr)
	}
	table := unseen(t)
	out := filepath.Join(t.TempDir(), "report")
	text := run(t, "eval", "--artifact", artifact, "--data", table, "--resamples", "20", "--out", out, "--cascade", "0,0", "--cascade", "0.1,0.05,0.0001")
	for _, what := range []string{"Checking beside guessing", "0.1, 0.05 at 0.0001 USD", "best constant", "cheapest constant", "zero router", "length", "oracle", digestOf(t, artifact), "report.html"} {
		contains(t, "eval", text, what)
	}
	for _, name := range []string{"report.html", "report.md", "report.json", "curve.svg"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s was not written: %v", name, err)
		}
	}
	var report struct{ Verdict struct{ Routes bool } }
	folds := run(t, "eval", "--folds", "2", "--data", table, "--resamples", "20", "--json")
	if err := json.Unmarshal([]byte(folds), &report); err != nil || !report.Verdict.Routes {
		t.Errorf("two folds of the simulated world say that routing does not pay: %v", err)
	}
}

// Predictions are the independent check: judged, they give the report of the artifact that made them.
func TestPredict(t *testing.T) {
	_, artifact := shared(t)
	table, rows := unseen(t), filepath.Join(t.TempDir(), "rows.jsonl")
	run(t, "predict", "--artifact", artifact, "--data", table, "--out", rows)
	f, err := os.Open(rows)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var row struct {
			PromptID string `json:"prompt_id"`
			Model    string
			Quality  float64
			CostUSD  float64 `json:"cost_usd"`
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil || row.PromptID == "" || !strings.HasPrefix(row.Model, "sim/") || row.Quality < 0 || row.Quality > 1 || row.CostUSD <= 0 {
			t.Fatalf("row %d is %s (%v)", n, lines.Text(), err)
		}
	}
	if n != 3*400 {
		t.Errorf("%d rows, want 1,200", n)
	}
	measured := func(args ...string) string {
		text := run(t, append([]string{"eval", "--data", table, "--resamples", "20"}, args...)...)
		_, after, ok := strings.Cut(text, "Arms\n----\n")
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "tw1-") || strings.HasPrefix(line, "predictions") {
				_, figures, _ := strings.Cut(line, " ")
				return strings.TrimSpace(figures)
			}
		}
		t.Fatalf("no line of the router (%v): %s%s", ok, after, text)
		return ""
	}
	if got, want := measured("--predictions", rows), measured("--artifact", artifact); got != want {
		t.Errorf("the rows give %s, the artifact %s", got, want)
	}
	for _, args := range [][]string{{"--out", rows}, {"--out", "rows.txt"}, {"--out", filepath.Join(t.TempDir(), "x.jsonl"), "--folds", "2"}} {
		_, stderr, code := command(t, nil, "", append([]string{"predict", "--artifact", artifact, "--data", table}, args...)...)
		if code != 1 || stderr == "" {
			t.Errorf("predict %v: exit code %d, want 1 and a reason", args, code)
		}
	}
}

func TestRoute(t *testing.T) {
	_, artifact := shared(t)
	e := env{"TRADEWIND_DATA_DIR": t.TempDir()}
	stdout, stderr, code := command(t, e, "What is 17 times 23?", "route", "--artifact", artifact)
	arm, sentence, _ := strings.Cut(stdout, "\n")
	if code != 0 || !strings.HasPrefix(arm, "sim/") || !strings.HasPrefix(sentence, "chosen: "+arm+" because ") {
		t.Errorf("route: exit code %d, %q %q", code, stdout, stderr)
	}
	stdout, _, _ = command(t, e, "What is 17 times 23?", "route", "--artifact", artifact, "--explain", "--strategy", "quality", "--quality-floor", "0.99")
	var x serving.Explanation
	if err := json.Unmarshal([]byte(stdout), &x); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	if !x.DryRun || x.Strategy != "quality" || x.Reason != datasets.FloorReference || len(x.Candidates) != 3 {
		t.Errorf("explained %+v, want a dry run under quality where nobody clears the floor", x)
	}
	// Rules hold, but for those of keys: nobody asks with one.
	file := write(t, "tradewind.yaml", "keys: [{name: ann, key: sk-tw-0123456789abcdef}]\nrules:\n  - {keys: [ann], pin: sim/strong}\n  - {pin: sim/middle}\n")
	stdout, stderr, _ = command(t, e, "What is 17 times 23?", "route", "--artifact", artifact, "--config", file)
	if want := "sim/middle\nchosen: sim/middle because a rule names it"; !strings.HasPrefix(stdout, want) {
		t.Errorf("route: %q %q, want %q", stdout, stderr, want)
	}
	if _, stderr, code := command(t, e, "", "route"); code != 1 || !strings.Contains(stderr, "standard input") {
		t.Errorf("no prompt: exit code %d, %q", code, stderr)
	}
	// Without a router the default one decides, over the models that are configured.
	stdout, stderr, code = command(t, e, "What is 17 times 23?", "route", "--config", write(t, "config.yaml", tiered), "--strategy", "cost")
	if code != 0 || !strings.HasPrefix(stdout, "lab/") || !strings.Contains(stdout, "nobody has scored it here") {
		t.Errorf("without a router: exit code %d, %q %q", code, stdout, stderr)
	}
	if stdout, stderr, code = command(t, e, "Hi", "route"); code != 0 || !strings.HasPrefix(stdout, "sim/") {
		t.Errorf("without anything: exit code %d, %q %q", code, stdout, stderr)
	}
}

func TestModels(t *testing.T) {
	table, artifact := shared(t)
	other := filepath.Join(t.TempDir(), "other")
	run(t, "train", "--data", table, "--out", other, "--seed", "2", "--arms", "sim/cheap,sim/strong")
	registry := filepath.Join(t.TempDir(), "models")
	first, second := digestOf(t, artifact), digestOf(t, other)
	in := func(command string, args ...string) string {
		return run(t, append([]string{"models", command, "--registry", registry}, args...)...)
	}
	contains(t, "an empty registry", in("list"), "is empty")
	contains(t, "add", in("add", artifact, "--promote"), first)
	contains(t, "add", in("add", other), second)
	contains(t, "list", in("list"), "*  "+first, "   "+second)
	contains(t, "promote", in("promote", second), second+" is promoted")
	contains(t, "show", run(t, "models", "show", registry), second, "arms      2: sim/cheap, sim/strong", "fallback  sim/strong", "novelty   measured against ", "world.parquet")
	contains(t, "rollback", in("rollback"), first+" is promoted again")
	contains(t, "list", in("list"), "*  "+first)
	if digest := digestOf(t, registry); digest != first {
		t.Errorf("the registry stands for %s, want the promoted %s", digest, first)
	}

	// One altered byte, and it is neither verified nor promoted.
	weights := filepath.Join(registry, second, "weights.bin")
	b, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(weights, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(weights, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"models", "verify", filepath.Join(registry, second)}, {"models", "promote", "--registry", registry, second}} {
		if _, stderr, code := command(t, nil, "", args...); code != 1 || !strings.Contains(stderr, "weights.bin") {
			t.Errorf("%v of an altered artifact: exit code %d, %q", args, code, stderr)
		}
	}
	contains(t, "list", in("list"), "*  "+first)
}

func TestUsage(t *testing.T) {
	commands := []string{
		"", "serve", "train", "eval", "predict", "route", "replay", "data", "data import", "data inspect", "data verify", "data compact", "data simulate",
		"models", "models list", "models show", "models verify", "models add", "models promote", "models rollback",
		"catalog", "catalog list", "catalog show", "catalog import", "config", "config schema", "config import", "doctor", "version",
	}
	for _, c := range commands {
		stdout, stderr, code := command(t, nil, "", append(strings.Fields(c), "--help")...)
		if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "Usage: tradewind "+c) {
			t.Errorf("%s --help: exit code %d, %q %q", c, code, stdout, stderr)
		}
		_, stderr, code = command(t, nil, "", append(strings.Fields(c), "--bogus")...)
		hint := strings.Join(append(append([]string{`Run "tradewind`}, strings.Fields(c)...), `--help"`), " ")
		if code != 2 || !strings.Contains(stderr, "--bogus") || !strings.Contains(stderr, hint) {
			t.Errorf("%s --bogus: exit code %d, %q, want 2 and %q", c, code, stderr, hint)
		}
	}
	for _, args := range [][]string{{"train"}, {"data", "import"}, {"bogus"}, {"eval", "--data", "x", "--folds", "many"}} {
		if _, stderr, code := command(t, nil, "", args...); code != 2 || !strings.Contains(stderr, "--help") {
			t.Errorf("%v: exit code %d, %q, want 2 and a hint", args, code, stderr)
		}
	}
	if stdout, _, code := command(t, nil, ""); code != 0 || !strings.Contains(stdout, "Commands:") {
		t.Errorf("without arguments: exit code %d, %q, want the help", code, stdout)
	}
	contains(t, "version", run(t, "version"), "tradewind ")
}
