package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// gatedModels is a vendor whose small model answers in prose and whose large one in JSON.
func gatedModels(t *testing.T) string {
	t.Helper()
	v := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Model string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		text := `the answer is 391`
		if body.Model == "large" {
			text = `{\"answer\":391}`
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, strings.Replace(vendorAnswer, `"content":"391"`, `"content":"`+text+`"`, 1))
	}))
	t.Cleanup(v.Close)
	return fmt.Sprintf(`
providers:
  - name: lab
    type: openai
    base_url: %s/v1
    models:
      - {name: small, tier: small, input_usd_per_mtok: 1, output_usd_per_mtok: 10}
      - {name: large, tier: large, input_usd_per_mtok: 10, output_usd_per_mtok: 100}
`, v.URL)
}

// TestGatesOfAConfiguration: a named model whose answer does not pass is followed by the one that the request lists, and
// its whole cost is told; a webhook's token is nowhere to be seen.
func TestGatesOfAConfiguration(t *testing.T) {
	var told string
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told = r.Header.Get("Authorization")
		_, _ = io.WriteString(w, `{"pass":true}`)
	}))
	defer hook.Close()
	file := write(t, "tradewind.yaml", gatedModels(t)+`
keys:
  - {key: sk-tw-aaaaaaaaaaaaaaaaaaaa, name: extraction, org: acme, team: ml}
  - {key: sk-tw-bbbbbbbbbbbbbbbbbbbb, name: chat, org: acme, team: web}
gates:
  - name: answer
    schema: {type: object, required: [answer], properties: {answer: {type: integer, minimum: 1}}}
  - {name: whole, check: not_truncated}
  - name: judge
    webhook: {url: "`+hook.URL+`", bearer: "${HOOK_TOKEN}", timeout_seconds: 5}
gate_policies:
  - {gates: [answer, whole, judge], teams: [acme/ml], on_error: closed, exhausted: refuse}
`)
	s := start(t, env{"TRADEWIND_CONFIG": file, "HOOK_TOKEN": "CANARY-hook-token"})
	const more = `,"models":["lab/large"],"tradewind":{"explain":true}`
	r := s.call("POST", "/v1/chat/completions", "sk-tw-aaaaaaaaaaaaaaaaaaaa", ask("lab/small", "What is 17 times 23?", more))
	var c struct {
		Model     string
		Usage     struct{ Cost float64 }
		Tradewind struct {
			Reason   string
			Gates    []string
			Attempts []struct {
				Verdicts []struct{ Gate, Verdict string } `json:"gate_verdicts"`
			}
		}
	}
	r.want(t, 200, &c)
	// 10 and 20 tokens at 1 and 10 dollars per million, and again at ten times that.
	got := strings.TrimSpace(fmt.Sprintln(c.Model, c.Usage.Cost, c.Tradewind.Reason, c.Tradewind.Gates, c.Tradewind.Attempts))
	if want := "lab/large 0.00231 escalated [whole answer judge] [{[{whole pass} {answer fail}]} {[{whole pass} {answer pass} {judge pass}]}]"; got != want {
		t.Errorf("got  %s\nwant %s\n%s", got, want, r.body)
	}
	if told != "Bearer CANARY-hook-token" || strings.Contains(s.stdout.String()+s.stderr.String(), "CANARY") {
		t.Errorf("the webhook was told %q; output %s", told, s.stderr.String())
	}
	s.call("POST", "/v1/chat/completions", "sk-tw-aaaaaaaaaaaaaaaaaaaa", ask("lab/small", "What is 17 times 23?", "")).want(t, 502, nil)
	s.call("POST", "/v1/chat/completions", "sk-tw-bbbbbbbbbbbbbbbbbbbb", ask("lab/small", "What is 17 times 23?", "")).want(t, 200, nil)
}

func TestGatesConfigBad(t *testing.T) {
	const gates = "gates: [{name: a, check: not_empty}]\n"
	for text, want := range map[string]string{
		"gates: [{name: a}]\n":                                        "want one",
		"gates: [{name: a, check: not_empty, typo: 1}]\n":             `unknown key "typo"`,
		"gates: [{name: a, require: \"(\"}]\n":                        "missing closing )",
		gates + "gate_policies: [{gates: [b]}]\n":                     `there is no gate "b"`,
		gates + "gate_policies: [{gates: [a], keys: [nobody]}]\n":     `no key has the name "nobody"`,
		gates + "gate_policies: [{gates: [a], teams: [nobody]}]\n":    `no key is of team "nobody"`,
		gates + "gate_policies: [{gates: [a], orgs: [nobody]}]\n":     `no key is of organization "nobody"`,
		gates + "gate_policies: [{gates: [a], on_error: shrug}]\n":    "none of closed, open",
		"gates: [{name: a, webhook: {url: \"ftp://example.com\"}}]\n": "must be http(s)",
		"gates: [{name: a, command: {path: check}}]\n":                "must be absolute",
	} {
		file := write(t, "tradewind.yaml", text)
		_, stderr, code := command(t, env{}, "", "serve", "--config", file, "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0")
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d and %q, want %q", text, code, stderr, want)
		}
	}
}
