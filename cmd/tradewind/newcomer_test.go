package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving"
)

// TestNewcomer is the first session of somebody who has Go and no key: serve, ask, stream, ask why, give feedback, look
// at the log.
func TestNewcomer(t *testing.T) {
	s := start(t, nil) // nothing is configured: the demonstration router is trained here
	intro := s.stdout.String()
	contains(t, "the start-up text", intro, "simulated arms", "\ncurl ", "http://"+s.addr+"/v1/chat/completions", `"model": "auto"`)
	if first, _, _ := strings.Cut(intro, "\n"); !strings.Contains(first, "no provider key is set") || !strings.Contains(first, "simulated") {
		t.Errorf("the first line is %q, want it to say that the arms are simulated for want of a key", first)
	}

	r := s.call("POST", "/v1/chat/completions", "", ask("auto", "What is 17 times 23?", ""))
	var whole completion
	r.want(t, 200, &whole)
	if !whole.Simulated || !strings.HasPrefix(whole.Model, "sim/") || !strings.Contains(whole.Choices[0].Message.Content, "simulated") {
		t.Errorf("the answer does not say that it is simulated: %s", r.body)
	}
	if whole.Usage == nil || whole.Usage.CompletionTokens == 0 || whole.Usage.Cost == nil || *whole.Usage.Cost <= 0 {
		t.Errorf("usage is %s, want tokens and a cost above zero", r.body)
	}
	id := r.header.Get("X-Tradewind-Decision-Id")
	if got := r.header.Get("X-Tradewind-Model"); got != whole.Model || !strings.HasPrefix(id, "rnd_") {
		t.Errorf("headers name model %q and decision %q, want %q and rnd_…", got, id, whole.Model)
	}

	text, streamID := s.stream(t)
	if !strings.Contains(text, "simulated") {
		t.Errorf("the stream is %q, want it to say that it is simulated", text)
	}
	checkWhy(t, s, id, whole)
	checkRoute(t, s)
	checkModels(t, s)

	s.call("POST", "/v1/feedback", "", `{"decision_id":"`+id+`","score":1}`).want(t, 202, nil)
	s.call("POST", "/v1/feedback", "", `{"decision_id":"`+id+`","score":0.25,"label":"meh"}`).want(t, 202, nil)
	s.call("POST", "/v1/feedback", "", `{"decision_id":"`+id+`","score":2}`).want(t, 400, nil)
	checkMetrics(t, s)
	s.stop()
	checkLog(t, s, id, streamID)
}

// stream asks for a stream and puts it together.
func (s *service) stream(t *testing.T) (text, id string) {
	t.Helper()
	r := s.call("POST", "/v1/chat/completions", "", ask("auto", "Tell me a story.", `,"stream":true,"stream_options":{"include_usage":true}`))
	if got := r.header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("content type %q, want an event stream: %s", got, r.body)
	}
	var chunks, usages int
	var last string
	for lines := bufio.NewScanner(bytes.NewReader(r.body)); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if last = data; data == "[DONE]" {
			continue
		}
		var c completion
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatalf("chunk %q: %v", data, err)
		}
		chunks++
		for _, choice := range c.Choices {
			text += choice.Delta.Content
		}
		if c.Usage != nil {
			usages++
		}
	}
	if last != "[DONE]" || chunks < 3 || usages != 1 {
		t.Errorf("%d chunks, %d with usage, the last line %q; want several, one, [DONE]", chunks, usages, last)
	}
	return text, r.header.Get("X-Tradewind-Decision-Id")
}

func checkWhy(t *testing.T, s *service, id string, answer completion) {
	t.Helper()
	var e serving.Explanation
	s.call("GET", "/v1/decisions/"+id, "", "").want(t, 200, &e)
	if string(e.ID) != id || e.Served == nil || string(*e.Served) != answer.Model || e.Status != datasets.Completed || len(e.Candidates) != 3 {
		t.Errorf("the decision is %+v, want round %s, served by %s among 3 candidates", e, id, answer.Model)
	}
	sum := 0.0
	for _, c := range e.Candidates {
		sum += c.Propensity
	}
	if sum < 1-1e-9 || sum > 1+1e-9 || e.Propensity <= 0 {
		t.Errorf("propensities sum to %v and the action's is %v, want 1 and more than 0", sum, e.Propensity)
	}
	if !strings.Contains(e.Sentence, string(e.Action)) {
		t.Errorf("the sentence %q does not name %s", e.Sentence, e.Action)
	}
	if e.Cost == nil || e.Cost.Dollars() != *answer.Usage.Cost {
		t.Errorf("the decision's cost is %v, the answer's %v", e.Cost, *answer.Usage.Cost)
	}
	s.call("GET", "/v1/decisions/rnd_01ARZ3NDEKTSV4RRFFQ69G5FAV", "", "").want(t, 404, nil)
}

func checkRoute(t *testing.T, s *service) {
	t.Helper()
	var e serving.Explanation
	s.call("POST", "/v1/route", "", ask("auto:quality", "Prove it.", "")).want(t, 200, &e)
	if !e.DryRun || e.Served != nil || e.Strategy != "quality" || e.Action == "" {
		t.Errorf("route answers %+v, want a dry run under quality that served nobody", e)
	}
}

func checkModels(t *testing.T, s *service) {
	t.Helper()
	var list struct {
		Data []struct {
			ID        string
			Tradewind struct{ Router, Simulated bool }
		}
	}
	s.call("GET", "/v1/models", "", "").want(t, 200, &list)
	arms := 0
	for _, m := range list.Data {
		switch {
		case strings.HasPrefix(m.ID, "auto"):
			if !m.Tradewind.Router || m.Tradewind.Simulated {
				t.Errorf("%s is marked %+v, want as a router", m.ID, m.Tradewind)
			}
		case !m.Tradewind.Simulated:
			t.Errorf("%s is not marked as simulated", m.ID)
		default:
			arms++
		}
	}
	if arms != 3 {
		t.Errorf("%d simulated arms are listed, want 3", arms)
	}
}

// checkMetrics reads the metrics as Prometheus does: two chats and nothing else were requests of the chat surface.
func checkMetrics(t *testing.T, s *service) {
	t.Helper()
	r := s.call("GET", "/metrics", "", "")
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(r.body))
	if err != nil {
		t.Fatalf("Prometheus could not read the metrics: %v", err)
	}
	for name, want := range map[string]float64{"tradewind_requests_total": 2, "tradewind_decisions_total": 2, "tradewind_budget_holds": 0} {
		got := -1.0
		if f := families[name]; f != nil {
			got = 0
			for _, m := range f.GetMetric() {
				got += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		if got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func checkLog(t *testing.T, s *service, ids ...string) {
	t.Helper()
	dir := filepath.Join(s.data, "log")
	text := run(t, "data", "inspect", dir)
	contains(t, "inspect", text, "rounds        2\n", "feedback      1\n", "completed       2\n", "as it was sealed", "0.2500")
	contains(t, "verify", run(t, "data", "verify", dir), "2 parts, 4 rows, all as they were sealed")
	var in datasets.Inspection
	if err := json.Unmarshal([]byte(run(t, "data", "inspect", "--json", dir)), &in); err != nil {
		t.Fatal(err)
	}
	if in.Rows != 2 || in.Feedback != 1 || in.UnknownCosts != 0 {
		t.Errorf("inspect finds %d rounds, %d feedback, %d unknown costs; want 2, 1, 0", in.Rows, in.Feedback, in.UnknownCosts)
	}
	sealed := rounds(t, s.data)
	for i, id := range ids {
		if string(sealed[i].Decision.RoundID) != id {
			t.Errorf("round %d of the log is %s, want %s", i, sealed[i].Decision.RoundID, id)
		}
	}
}

// rounds reads every sealed round of a data directory.
func rounds(t *testing.T, data string) []datasets.Round {
	t.Helper()
	log, err := datasets.OpenLog(filepath.Join(data, "log"), datasets.LogOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var all []datasets.Round
	err = log.Rounds(t.Context(), func(batch []datasets.Round) error {
		all = append(all, batch...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRefusesOpenAddress(t *testing.T) {
	_, artifact := shared(t)
	_, stderr, code := command(t, nil, "", "serve", "--listen", "0.0.0.0:0", "--data-dir", t.TempDir())
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	contains(t, "the refusal", stderr, "0.0.0.0:0", "without a key", "keys:", "echo sk-tw-$(openssl rand")

	s := start(t, nil, "--artifact", artifact)
	_, stderr, code = command(t, nil, "", "serve", "--listen", "127.0.0.1:0", "--data-dir", s.data, "--artifact", artifact)
	if code != 1 {
		t.Errorf("a second process on one data directory: exit code %d, want 1", code)
	}
	contains(t, "the refusal", stderr, s.data, fmt.Sprintf("in use by process %d;", os.Getpid()), "--data-dir")
	s.call("GET", "/readyz", "", "").want(t, 200, nil)
}
