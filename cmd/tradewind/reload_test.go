package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
)

// reloading is a server whose configuration the test rewrites.
type reloading struct {
	*service
	vendor *vendor
	file   string
	hangup chan os.Signal
}

func startReloading(t *testing.T, text string, poll time.Duration) *reloading {
	t.Helper()
	return startReloadingWith(t, env{"LAB_KEY": "sk-lab-0123456789"}, text, poll)
}

func startReloadingWith(t *testing.T, e env, text string, poll time.Duration) *reloading {
	t.Helper()
	r := &reloading{vendor: newVendor(t), file: filepath.Join(t.TempDir(), "tradewind.yaml"), hangup: make(chan os.Signal)}
	r.put(t, text)
	r.service = startMain(t, Main{Getenv: e.get, Hangup: r.hangup, PollEvery: poll}, "--config", r.file)
	return r
}

// put writes the configuration as editors and Kubernetes do: beside it, and then in its place. VENDOR stands for the
// vendor's address.
func (r *reloading) put(t *testing.T, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, "VENDOR", r.vendor.URL+"/v1")
	err := os.WriteFile(r.file+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(r.file+".new", r.file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// models are the names that GET /v1/models lists besides the auto names and the aliases.
func (r *reloading) models(t *testing.T, key string) string {
	t.Helper()
	var list struct{ Data []struct{ ID string } }
	r.call("GET", "/v1/models", key, "").want(t, 200, &list)
	var ids []string
	for _, m := range list.Data {
		if strings.Contains(m.ID, "/") {
			ids = append(ids, m.ID)
		}
	}
	return strings.Join(ids, " ")
}

const (
	oneModel = `
providers:
  - {name: lab, base_url: VENDOR, api_key: "${LAB_KEY}", models: [{name: small, tier: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
`
	twoModels = `
providers:
  - {name: lab, base_url: VENDOR, api_key: "${LAB_KEY}", models: [{name: small, tier: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10},
      {name: new, tier: frontier, input_usd_per_mtok: 2, output_usd_per_mtok: 20, supports: [tools]}]}
aliases: {fast: lab/small, both: [lab/small, lab/new]}
`
)

// A new model is one entry and a reload away, and is routed to the same day from its declared tier.
func TestReloadBringsANewModel(t *testing.T) {
	r := startReloading(t, oneModel, pollEvery)
	r.call("POST", "/v1/chat/completions", "", ask("lab/new", "hi", "")).want(t, 404, nil)
	r.put(t, twoModels)
	until(t, "the list of models", "lab/new lab/small", func() string { return r.models(t, "") })
	var c completion
	r.call("POST", "/v1/chat/completions", "", ask("auto:quality", "hi", "")).want(t, 200, &c)
	if c.Model != "lab/new" {
		t.Errorf("auto:quality is answered by %s, want the new model of the highest tier", c.Model)
	}
	r.call("POST", "/v1/chat/completions", "", ask("auto", "hi", `,"tools":[{"type":"function","function":{"name":"f"}}]`)).want(t, 200, &c)
	if c.Model != "lab/new" {
		t.Errorf("a request with tools is answered by %s, want the one model that can", c.Model)
	}
	for name, want := range map[string]string{"fast": "lab/small", "auto/fast": "lab/small", "auto/both:quality": "lab/new"} {
		reply := r.call("POST", "/v1/chat/completions", "", ask(name, "hi", ""))
		if reply.want(t, 200, &c); c.Model != want {
			t.Errorf("%s is answered by %s, want %s", name, c.Model, want)
		}
	}
	r.call("POST", "/v1/chat/completions", "", ask("auto/none", "hi", "")).want(t, 404, nil)
}

// P20: a bad file changes nothing, says why with the line, and the metric tells; what needs a restart is named.
func TestReloadIsAllOrNothing(t *testing.T) {
	const key = "keys: [{key: sk-tw-0123456789abcdef, budget_usd: {day: 1}}]\n"
	r := startReloading(t, oneModel+key, pollEvery)
	metric := func() string { return r.metric("tradewind_config_last_reload_successful ") }
	if metric() != "1" {
		t.Errorf("the metric is %q before any reload", metric())
	}
	for _, tt := range []struct{ text, want string }{
		{twoModels + "keys: [{key: sk-tw-0123456789abcdef, budgets: 5}]\n", `unknown key \"budgets\"; did you mean budget_usd?`},
		{twoModels + "keys: [{key: short}]\n", "not between 16 and 512 bytes"},
		{twoModels + key + "listen: 127.0.0.1:1\ndata_dir: elsewhere\n" + "journal: {sync: always}\n", "journal cannot be changed while serving"},
		{strings.ReplaceAll(twoModels, "[lab/small, lab/new]", "lab/none") + key, `alias \"both\" stands for \"lab/none\", which is not served`},
		{"providers: [\n", "line 1"},
		{twoModels + "${", "line 6"},
	} {
		before := strings.Count(r.stderr.String(), "is not taken")
		r.put(t, tt.text)
		until(t, "the number of refusals", fmt.Sprint(before+1), func() string { return fmt.Sprint(strings.Count(r.stderr.String(), "is not taken")) })
		contains(t, "the log", r.stderr.String(), tt.want)
		if metric() != "0" || r.models(t, "sk-tw-0123456789abcdef") != "lab/small" {
			t.Errorf("%s: metric %s, models %s, after a file that is not taken", tt.want, metric(), r.models(t, "sk-tw-0123456789abcdef"))
		}
	}
	if strings.Contains(r.stderr.String(), "0123456789abcdef") {
		t.Error("the log shows a key")
	}
	r.put(t, twoModels+key)
	r.hangup <- syscall.SIGHUP
	until(t, "the metric", "1", metric)
	if got := r.models(t, "sk-tw-0123456789abcdef"); got != "lab/new lab/small" {
		t.Errorf("models %s after the good file", got)
	}
}

// A request that has begun keeps what it began with, even where its model is gone when it ends.
func TestReloadLeavesRequestsAlone(t *testing.T) {
	r := startReloading(t, twoModels, pollEvery)
	reached, release := make(chan struct{}), make(chan struct{})
	r.vendor.refuse = func(w http.ResponseWriter, _ *http.Request) {
		close(reached)
		<-release
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(vendorAnswer))
	}
	answer := make(chan reply)
	go func() { answer <- r.call("POST", "/v1/chat/completions", "", ask("lab/new", "hi", "")) }()
	<-reached
	r.put(t, strings.ReplaceAll(oneModel, "output_usd_per_mtok: 10", "output_usd_per_mtok: 99"))
	until(t, "the list of models", "lab/small", func() string { return r.models(t, "") })
	close(release)
	got := <-answer
	if cost := got.header.Get("X-Tradewind-Cost-Usd"); got.status != 200 || cost != "0.00042" { // 10 × 2 + 20 × 20 dollars per million
		t.Errorf("status %d, cost %s: %s", got.status, cost, got.body)
	}
}

// P20: reloads under load, every other one invalid. No client sees an error, and every answer is of a model that some
// file had.
func TestReloadUnderLoad(t *testing.T) {
	r := startReloading(t, oneModel, time.Hour) // the signal alone reloads
	drained := make(chan struct{})
	go func() { // the test's vendor remembers its calls
		defer close(drained)
		for range r.vendor.calls {
		}
	}()
	var stop atomic.Bool
	var served, failed atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for !stop.Load() {
				resp, err := http.Post(r.url("/v1/chat/completions"), "application/json", strings.NewReader(ask("auto", "hi", "")))
				if err != nil || resp.StatusCode != 200 {
					failed.Add(1)
					continue
				}
				served.Add(1)
				_ = resp.Body.Close()
			}
		})
	}
	n := scaled(t, 1000, 20)
	for i := range n {
		text := []string{oneModel, twoModels + "nonsense: 1\n", twoModels, "providers: {\n"}[i%4]
		r.put(t, text)
		r.hangup <- syscall.SIGHUP
		until(t, "the number of reloads", i+1, func() string {
			return fmt.Sprint(strings.Count(r.stderr.String(), "the configuration is"))
		})
	}
	stop.Store(true)
	clients.Wait()
	r.stop()
	close(r.vendor.calls)
	<-drained
	taken, refused := strings.Count(r.stderr.String(), "the configuration is in service"), strings.Count(r.stderr.String(), "is not taken")
	if failed.Load() > 0 || served.Load() == 0 || taken != n/2 || refused != n/2 {
		t.Errorf("%d served, %d failed; %d reloads taken and %d refused of %d", served.Load(), failed.Load(), taken, refused, n)
	}
	t.Logf("%d reloads taken, %d refused, %d requests, %d errors", taken, refused, served.Load(), failed.Load())
}

// A real process takes a real signal, which ends a program that does not ask for it.
func TestHangup(t *testing.T) {
	r := &reloading{vendor: newVendor(t), file: filepath.Join(t.TempDir(), "tradewind.yaml")}
	r.put(t, oneModel)
	p := launch(t, filepath.Join(t.TempDir(), "data"), r.file)
	defer func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if err := p.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	r.service = &service{t: t, addr: p.addr}
	r.put(t, twoModels)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the list of models", "lab/new lab/small", func() string { return r.models(t, "") })
}

// Pain 26 (BerriAI/litellm PR#33796): a price that changes on a day is charged from that day on, in a server that runs on.
func TestPricesChangeOnTheirDay(t *testing.T) {
	c := &config{}
	text := `providers: [{name: lab, base_url: "http://127.0.0.1:1/v1", models: [{name: m, input_usd_per_mtok: 1, output_usd_per_mtok: 2,
  price_schedule: [{from: 2027-01-01, input_usd_per_mtok: 3, output_usd_per_mtok: 4}]}]}]`
	if err := parseConfig(c, []byte(text), env{}.get); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	f, err := assemble(c, env{}.get, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	later, err := assemble(c, env{}.get, f.priced, f)
	if err != nil {
		t.Fatal(err)
	}
	if f.arms[0].Prices.Input != catalog.Picodollars(1_000_000) || later.arms[0].Prices.Input != 3_000_000 || !f.priced.Equal(now.Add(time.Second)) || !later.priced.IsZero() && later.priced.Before(f.priced) {
		t.Errorf("%+v until %s, then %+v", f.arms[0].Prices, f.priced, later.arms[0].Prices)
	}
	if f.version == later.version {
		t.Error("the catalog's version does not tell the prices apart")
	}
	if f.providers["lab"] != later.providers["lab"] {
		t.Error("a provider that did not change has lost its connections")
	}
}

// P9a, and hot: a provider with on_disconnect: drain is read to its end when the client goes, and the round costs what it says;
// after a reload without the word its calls are cancelled again.
func TestReloadDrain(t *testing.T) {
	r := startReloading(t, strings.Replace(oneModel, "name: lab,", "name: lab, on_disconnect: drain,", 1), pollEvery)
	ended := make(chan bool, 1)
	events := 250 // half a second: the client's leaving comes as news, and as writes that fail
	r.vendor.refuse = func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range events {
			_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}`+"\n\n")
			w.(http.Flusher).Flush()
			select {
			case <-req.Context().Done():
				ended <- false
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
		_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n"+
			`data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":250,"total_tokens":260}}`+"\n\ndata: [DONE]\n\n")
		ended <- true
	}
	leave := func() bool {
		resp, err := http.Post(r.url("/v1/chat/completions"), "application/json", strings.NewReader(ask("lab/small", "hi", `,"stream":true`)))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = resp.Body.Read(make([]byte, 1))
		resp.Body.Close()
		return <-ended
	}
	if !leave() {
		t.Error("a call of a provider that is drained was cancelled")
	}
	r.put(t, oneModel)
	until(t, "the number of reloads", 1, func() string {
		return fmt.Sprint(strings.Count(r.stderr.String(), "the configuration is"))
	})
	events *= 100 // however late a busy machine hears that the client has gone
	if leave() {
		t.Error("after the reload a call outlived its client")
	}
	r.stop()
	all := rounds(t, r.data)
	if len(all) != 2 {
		t.Fatalf("%d rounds", len(all))
	}
	for i, final := range []bool{true, false} {
		o := all[i].Outcome
		if o.Status != datasets.ClientGone || (o.CostStatus == datasets.CostFinal) != final || final != (o.Cost == 10*1000+250*10_000) {
			t.Errorf("round %d: %+v", i, o)
		}
	}
}
