package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/models"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// P10 from outside: a running server takes what is promoted, and never what is damaged.

// pollEvery is how often the servers of these tests look at the pointer.
const pollEvery = 3 * time.Millisecond

// quick is a configuration whose vendor answers in milliseconds, so that many requests meet a swap. Its models carry the
// names of the simulated arms, which the artifacts know.
func quick(t *testing.T) string {
	t.Helper()
	a := &auditor{seen: map[string]int{}, answered: map[string]bool{}}
	vendor := httptest.NewServer(http.HandlerFunc(a.vendor))
	t.Cleanup(vendor.Close)
	var models strings.Builder
	for _, name := range []string{"sim/cheap", "sim/middle", "sim/strong"} {
		fmt.Fprintf(&models, "      - {name: %s, context_tokens: 8000, max_output_tokens: 1000, input_usd_per_mtok: 1, output_usd_per_mtok: 10}\n", name)
	}
	return write(t, "config.yaml", "providers:\n  - name: lab\n    type: openai\n    base_url: "+vendor.URL+
		"/v1\n    api_key: sk-lab-0123456789\n    allow_private: true\n    models:\n"+models.String())
}

// follow serves from a registry.
func follow(t *testing.T, registry string) *service {
	t.Helper()
	return startMain(t, Main{Getenv: env(nil).get, PollEvery: pollEvery}, "--config", quick(t), "--artifact", registry)
}

// metric returns the rest of the line of /metrics that begins with prefix.
func (s *service) metric(prefix string) string {
	s.t.Helper()
	r := s.call("GET", "/metrics", "", "")
	for line := range strings.Lines(string(r.body)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(rest)
		}
	}
	s.t.Fatalf("/metrics lacks %s", prefix)
	return ""
}

func (s *service) promotions(result string) string {
	return s.metric(`tradewind_router_promotions_total{result="` + result + `"}`)
}

func (s *service) live() models.Digest {
	version, _, _ := strings.Cut(s.metric(`tradewind_router_info{stage="live",version="`), `"`)
	return models.Digest(version)
}

// until waits for a metric to have a value.
func until(t *testing.T, what string, want any, got func() string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(pollEvery) {
		last := got()
		if last == fmt.Sprint(want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is %s after a minute, want %v", what, last, want)
		}
	}
}

// crowd is the clients that send requests while routers change.
type crowd struct {
	s       *service
	good    []models.Digest
	stop    atomic.Bool
	work    sync.WaitGroup
	mu      sync.Mutex
	answers map[models.Digest]int
	errs    []string
}

func (c *crowd) begin(n int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for i := range n {
		c.work.Go(func() {
			for k := 0; !c.stop.Load(); k++ {
				version, err := c.ask(client, k%2 == 0, fmt.Sprintf("What is %d times %d?", i, k))
				c.mu.Lock()
				if c.answers[version]++; err != nil {
					c.errs = append(c.errs, err.Error())
				}
				c.mu.Unlock()
			}
		})
	}
}

// ask sends a request and reads its answer to the end.
func (c *crowd) ask(client *http.Client, stream bool, prompt string) (models.Digest, error) {
	more, end := `,"max_tokens":4`, "}"
	if stream {
		more, end = more+`,"stream":true`, "[DONE]"
	}
	req, err := http.NewRequestWithContext(context.Background(), "POST", c.s.url("/v1/chat/completions"), strings.NewReader(ask("auto", prompt, more)))
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	version := models.Digest(resp.Header.Get("X-Tradewind-Router-Version"))
	switch {
	case err != nil:
		return version, err
	case resp.StatusCode != http.StatusOK || !bytes.HasSuffix(bytes.TrimSpace(body), []byte(end)):
		return version, fmt.Errorf("status %d: %s", resp.StatusCode, body)
	case !slices.Contains(c.good, version):
		return version, fmt.Errorf("answered by router %q, want one of %q", version, c.good)
	}
	return version, nil
}

// end stops the clients and returns the number of answers.
func (c *crowd) end(t *testing.T) int {
	t.Helper()
	c.stop.Store(true)
	c.work.Wait()
	n := 0
	for _, k := range c.answers {
		n += k
	}
	for _, e := range c.errs[:min(len(c.errs), 5)] {
		t.Error(e)
	}
	if len(c.errs) > 0 || n == 0 {
		t.Errorf("%d client errors in %d requests, want none in some", len(c.errs), n)
	}
	return n
}

// vandal puts damaged artifacts into a registry, behind its back.
type vandal struct {
	*testing.T
	dir      string
	rng      *rand.Rand
	sections map[string][]byte // of a good artifact that no good one is named after
}

func newVandal(t *testing.T, registry, artifact string) *vandal {
	t.Helper()
	a, err := models.Open(artifact)
	if err != nil {
		t.Fatal(err)
	}
	v := &vandal{T: t, dir: registry, rng: rand.New(rand.NewPCG(3, 10)), sections: map[string][]byte{}}
	for _, s := range a.Manifest().Sections {
		b, err := a.Section(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		v.sections[s.Name] = slices.Clone(b)
	}
	v.sections[classifier.SectionRouter] = append(v.sections[classifier.SectionRouter], '\n')
	return v
}

// write makes an artifact of sections under its own name, in place of what stood there.
func (v *vandal) write(sections map[string][]byte) (models.Digest, string) {
	v.Helper()
	temp := filepath.Join(v.TempDir(), "artifact")
	d, err := models.Write(temp, sections, models.Provenance{})
	dir := filepath.Join(v.dir, string(d))
	if err := errors.Join(err, os.RemoveAll(dir), os.Rename(temp, dir)); err != nil {
		v.Fatal(err)
	}
	return d, dir
}

// point promotes d as models.Promote would, were it not to try d first.
func (v *vandal) point(d, previous models.Digest) {
	v.Helper()
	temp := filepath.Join(v.dir, ".pointer")
	err := os.WriteFile(temp, []byte(string(d)+"\n"+string(previous)+"\n"), 0o600)
	if err := errors.Join(err, os.Rename(temp, filepath.Join(v.dir, "promoted"))); err != nil {
		v.Fatal(err)
	}
}

// damage is one way to spoil an artifact: its files, under a manifest that knows better, or its sections, under a
// manifest that vouches for them.
type damage struct {
	name     string
	files    func(v *vandal, dir string) error
	sections func(v *vandal, s map[string][]byte)
}

// anyFile is one of an artifact's files, at random.
func (v *vandal) anyFile(dir string) (path string, text []byte) {
	v.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(all) < 2 {
		v.Fatalf("files %q, %v", all, err)
	}
	path = all[v.rng.IntN(len(all))]
	if text, err = os.ReadFile(path); err != nil {
		v.Fatal(err)
	}
	return path, text
}

// router changes router.json.
func router(change func(r *classifier.Router)) func(v *vandal, s map[string][]byte) {
	return func(v *vandal, s map[string][]byte) {
		var r classifier.Router
		err := json.Unmarshal(s[classifier.SectionRouter], &r)
		change(&r)
		text, again := json.Marshal(r)
		if err := errors.Join(err, again); err != nil {
			v.Fatal(err)
		}
		s[classifier.SectionRouter] = text
	}
}

func damages() []damage {
	return []damage{
		{name: "a bit flipped", files: func(v *vandal, dir string) error {
			path, text := v.anyFile(dir)
			text[v.rng.IntN(len(text))] ^= 1 << v.rng.IntN(8)
			return os.WriteFile(path, text, 0o600)
		}},
		{name: "cut", files: func(v *vandal, dir string) error {
			path, text := v.anyFile(dir)
			return os.Truncate(path, v.rng.Int64N(int64(len(text))))
		}},
		{name: "a file missing", files: func(v *vandal, dir string) error {
			path, _ := v.anyFile(dir)
			return os.Remove(path)
		}},
		{name: "files swapped", files: func(v *vandal, dir string) error {
			a, b, c := filepath.Join(dir, classifier.SectionTables), filepath.Join(dir, classifier.SectionWeights), filepath.Join(v.TempDir(), "c")
			return errors.Join(os.Rename(a, c), os.Rename(b, a), os.Rename(c, b))
		}},
		{name: "gone", files: func(_ *vandal, dir string) error { return os.RemoveAll(dir) }},
		{name: "under another's name", files: func(v *vandal, dir string) error {
			s := maps.Clone(v.sections)
			s[classifier.SectionRouter] = append(slices.Clone(s[classifier.SectionRouter]), '\n')
			_, other := v.write(s)
			return errors.Join(os.RemoveAll(dir), os.Rename(other, dir))
		}},
		{name: "sections swapped", sections: func(_ *vandal, s map[string][]byte) {
			s[classifier.SectionTables], s[classifier.SectionWeights] = s[classifier.SectionWeights], s[classifier.SectionTables]
		}},
		{name: "NaN", sections: func(_ *vandal, s map[string][]byte) {
			b := slices.Clone(s[classifier.SectionTables])
			binary.LittleEndian.PutUint64(b[len(b)-8:], math.Float64bits(math.NaN()))
			s[classifier.SectionTables] = b
		}},
		{name: "wrong dimensions", sections: func(_ *vandal, s map[string][]byte) {
			b := slices.Clone(s[classifier.SectionWeights])
			b[12]++ // outputs
			s[classifier.SectionWeights] = b
		}},
		{name: "other weights", sections: func(_ *vandal, s map[string][]byte) {
			b := slices.Clone(s[classifier.SectionWeights])
			clear(b[len(b)/2:])
			s[classifier.SectionWeights] = b
		}},
		{name: "an arm too many", sections: router(func(r *classifier.Router) { r.Arms = append(r.Arms, "sim/other") })},
		{name: "unknown arms", sections: router(func(r *classifier.Router) { // else whole: its golden rows replay
			for _, ids := range [][]catalog.ArmID{r.Arms, r.Reference} {
				for i := range ids {
					ids[i] = "nobody/" + ids[i]
				}
			}
			r.Fallback = "nobody/" + r.Fallback
		})},
		{name: "other features", sections: router(func(r *classifier.Router) { r.SpecDigest = strings.Repeat("0", len(r.SpecDigest)) })},
		{name: "a newer format", sections: router(func(r *classifier.Router) { r.Format++ })},
	}
}

// spoil puts an artifact with this damage into the registry and returns its name.
func (v *vandal) spoil(d damage) models.Digest {
	v.Helper()
	s := maps.Clone(v.sections)
	if d.sections != nil {
		d.sections(v, s)
	}
	name, dir := v.write(s)
	if d.files != nil {
		if err := d.files(v, dir); err != nil {
			v.Fatalf("%s: %v", d.name, err)
		}
	}
	return name
}

// goodPair is a registry with two good artifacts, the first of which is promoted.
func goodPair(t *testing.T) (registry string, good []models.Digest) {
	t.Helper()
	table, artifact := shared(t)
	registry = filepath.Join(t.TempDir(), "registry")
	other := filepath.Join(t.TempDir(), "other")
	run(t, "train", "--data", table, "--out", other, "--seed", "2")
	for i, dir := range []string{artifact, other} {
		args := []string{"models", "add", "--registry", registry, dir}
		if i == 0 {
			args = append(args, "--promote")
		}
		good = append(good, models.Digest(strings.TrimSpace(run(t, args...))))
	}
	if good[0] == good[1] {
		t.Fatal("the two artifacts are one")
	}
	return registry, good
}

// TestSwapsUnderLoad moves the pointer to and fro between two routers and, after each, to a damaged one, while 32
// clients send requests.
func TestSwapsUnderLoad(t *testing.T) {
	swaps := scaled(t, 1000, len(damages()))
	dir, good := goodPair(t)
	registry, err := models.OpenRegistry(dir)
	if err != nil {
		t.Fatal(err)
	}
	v := newVandal(t, dir, filepath.Join(dir, string(good[0])))
	s := follow(t, dir)
	c := &crowd{s: s, good: good, answers: map[models.Digest]int{}}
	c.begin(32)
	begun := time.Now()
	for i := 1; i <= swaps; i++ {
		now := good[i%2]
		if err := registry.Promote(now, func(string) error { return nil }); err != nil {
			t.Fatal(err)
		}
		until(t, "routers taken", i, func() string { return s.promotions("taken") })
		d := damages()[i%len(damages())]
		bad := v.spoil(d)
		v.point(bad, now)
		until(t, "routers refused ("+d.name+")", i, func() string { return s.promotions("refused") })
		if got := s.live(); got != now {
			t.Fatalf("%s: router %s is in service, want %s", d.name, got, now)
		}
		if i%2 == 0 { // the operator's way out; else the next promotion comes while the pointer is bad
			if err := registry.Rollback(func(string) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	took := time.Since(begun)
	answers := c.end(t)
	last := good[swaps%2]
	if got := s.call("POST", "/v1/chat/completions", "", ask("auto", "hi", "")).header.Get("X-Tradewind-Router-Version"); got != string(last) {
		t.Errorf("after the last swap router %s answers, want %s", got, last)
	}
	if log := s.stderr.String(); strings.Count(log, "cannot be used; the one in service stays") != swaps {
		t.Errorf("the log does not tell of %d refusals:\n%.2000s", swaps, log)
	}
	t.Logf("%d swaps and %d damaged artifacts of %d kinds in %v; %d requests, %d errors; answered by %v",
		swaps, swaps, len(damages()), took.Round(time.Millisecond), answers, len(c.errs), c.answers)
}

// TestRunningServerFollowsTheCommands is the same as an operator sees it.
func TestRunningServerFollowsTheCommands(t *testing.T) {
	dir, good := goodPair(t)
	s := follow(t, dir)
	live := func() string { return string(s.live()) }
	until(t, "the router in service", good[0], live)
	contains(t, "promote", run(t, "models", "promote", "--registry", dir, string(good[1])), string(good[1]), "within a second")
	until(t, "the router in service", good[1], live)
	contains(t, "rollback", run(t, "models", "rollback", "--registry", dir), string(good[0]), "within a second")
	until(t, "the router in service", good[0], live)
	until(t, "rollbacks", 1, func() string { return s.metric(`tradewind_router_rollbacks_total{cause="operator"}`) })

	bad := newVandal(t, dir, filepath.Join(dir, string(good[0])))
	name := bad.spoil(damages()[0])
	bad.point(name, good[0])
	until(t, "routers refused", 1, func() string { return s.promotions("refused") })
	contains(t, "the log", s.stderr.String(), "promoted="+string(name), "in_service="+string(good[0]))
	if got := s.live(); got != good[0] {
		t.Errorf("router %s is in service, want %s", got, good[0])
	}
}

// TestOneArtifactIsNotWatched: who names an artifact gets that one, whatever lies around it.
func TestOneArtifactIsNotWatched(t *testing.T) {
	dir, good := goodPair(t)
	s := startMain(t, Main{Getenv: env(nil).get, PollEvery: pollEvery}, "--artifact", filepath.Join(dir, string(good[0])))
	run(t, "models", "promote", "--registry", dir, string(good[1]))
	time.Sleep(20 * pollEvery)
	if got := s.live(); got != good[0] {
		t.Errorf("router %s is in service, want %s, which was named", got, good[0])
	}
}

// TestFirstPromotionNeedsNoRestart: real arms begin with the default router and take the first one that is promoted.
func TestFirstPromotionNeedsNoRestart(t *testing.T) {
	_, artifact := shared(t)
	config := write(t, "config.yaml", "providers:\n  - name: lab\n    type: openai\n    base_url: http://127.0.0.1:9\n    allow_private: true\n"+
		"    models: [sim/cheap, sim/strong]\n")
	s := startMain(t, Main{Getenv: env(nil).get, PollEvery: pollEvery}, "--config", config)
	standard, err := models.Default()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.live(); got != standard.Digest() {
		t.Fatalf("router %s is in service before any was promoted, want the default %s", got, standard.Digest())
	}
	d := strings.TrimSpace(run(t, "models", "add", "--registry", filepath.Join(s.data, "models"), "--promote", artifact))
	until(t, "the router in service", d, func() string { return string(s.live()) })
}
