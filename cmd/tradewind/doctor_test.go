package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// examined runs doctor and returns its findings by check, each as "level: message".
func examined(t *testing.T, e env, args ...string) (map[string]string, int) {
	t.Helper()
	stdout, stderr, code := command(t, e, "", append([]string{"doctor", "--json"}, args...)...)
	var all []finding
	if err := json.Unmarshal([]byte(stdout), &all); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	by := map[string]string{}
	for _, f := range all {
		if f.Check == "" || f.Message == "" || f.Level != levelOK && f.Level != levelWarn && f.Level != levelFail || f.Level == levelFail && f.Next == "" {
			t.Errorf("%+v says too little", f)
		}
		by[f.Check] += string(f.Level) + ": " + f.Message + "\n"
	}
	return by, code
}

func TestDoctorFindsNothing(t *testing.T) {
	by, code := examined(t, nil, "--data-dir", filepath.Join(t.TempDir(), "new"))
	if code != 0 {
		t.Errorf("exit code %d: %v", code, by)
	}
	for check, want := range map[string]string{"config": "warn: no provider is configured", "disk": ": ", "lock": "ok: no server has used", "router": "ok: no router is trained yet", "keys": "ok: no key is configured"} {
		contains(t, check, by[check], want)
	}
	contains(t, "the text", run(t, "doctor", "--data-dir", t.TempDir()), "warn  config", "→ set a provider's key")
}

// Every mistake of the file is a finding with its line, and what to do.
func TestDoctorReadsTheFile(t *testing.T) {
	file := write(t, "tradewind.yaml", "lissen: x\nrouting:\n  stratgy: cost\n")
	stdout, stderr, code := command(t, nil, "", "doctor", "--config", file)
	contains(t, "doctor", stdout, `fail  config    line 1: unknown key "lissen"; did you mean listen?`, "line 3", "tradewind config schema")
	if code != 1 || !strings.Contains(stderr, "2 of 2 findings") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	by, code := examined(t, nil, "--config", write(t, "tradewind.yaml", "aliases: {x: none}\nproviders: [{name: lab, base_url: \"http://127.0.0.1:1/v1\", models: [m]}]\n"))
	if contains(t, "config", by["config"], `alias "x" stands for "none"`); code != 1 {
		t.Error("an alias of nothing is fine")
	}
}

func TestDoctorAsksProviders(t *testing.T) {
	var status int
	var body, date string
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sk-lab-0123456789" || r.URL.Path != "/v1/models" {
			t.Errorf("asked for %s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		w.Header().Set("Date", date)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer vendor.Close()
	file := write(t, "tradewind.yaml", `providers: [{name: lab, base_url: "`+vendor.URL+`/v1", api_key: sk-lab-0123456789, models: [{name: a, input_usd_per_mtok: 1, output_usd_per_mtok: 2}, b]}]`)
	now, late := time.Now().UTC().Format(http.TimeFormat), time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	for _, tt := range []struct {
		status     int
		body, date string
		check      string
		want       string
		code       int
	}{
		{200, `{"data":[{"id":"a"},{"id":"b"}]}`, now, "providers", "ok: lab answers and takes the key", 0},
		{200, `{"data":[{"id":"a"}]}`, now, "providers", "warn: lab does not list b", 0},
		{200, `not json`, now, "providers", "ok: lab answers", 0},
		{401, `sk-lab-0123456789`, now, "providers", "fail: lab refuses the key (401)", 1},
		{503, ``, now, "providers", "warn: lab answers 503", 0},
		{404, ``, now, "providers", "ok: lab can be reached", 0},
		{200, `{}`, late, "clock", "warn: this clock is 1h0m", 0},
		{200, `{}`, now, "catalog", "warn: 1 models have no price: they are refused under a budget, and their calls cost null: lab/b", 0},
		{200, `{}`, now, "catalog", "1 models have no price for cached input", 0},
		{200, `{}`, now, "catalog", "nobody says how old the prices of 1 models are: lab/a", 0},
	} {
		status, body, date = tt.status, tt.body, tt.date
		by, code := examined(t, nil, "--config", file, "--data-dir", t.TempDir())
		if contains(t, tt.check, by[tt.check], tt.want); code != tt.code {
			t.Errorf("%s: exit code %d", tt.want, code)
		}
		if text := by["providers"]; strings.Contains(text, "sk-lab") {
			t.Errorf("a key is shown: %s", text)
		}
	}
	vendor.Close()
	by, code := examined(t, nil, "--config", file, "--data-dir", t.TempDir())
	if contains(t, "providers", by["providers"], "fail: lab cannot be reached"); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if by, code = examined(t, nil, "--config", file, "--data-dir", t.TempDir(), "--offline"); code != 0 || by["providers"] != "" {
		t.Errorf("--offline: exit code %d, %s", code, by["providers"])
	}
}

// Pains 25 and 26: what is stale, disputed, ending or without a cache price is told.
func TestDoctorKnowsTheAgeOfPrices(t *testing.T) {
	facts := write(t, "facts.json", `{"format":2,"arms":[
{"id":"mistral/old","in":"1","out":"2","as_of":"2020-01-01"},
{"id":"mistral/doubtful","in":"1","out":"2","cache_read":"0.1","as_of":"2999-01-01","disputed":{"in":{"a":"1","b":"2"}}},
{"id":"mistral/ending","in":"1","out":"2","as_of":"2999-01-01","ends":"2020-01-01"},
{"id":"mistral/later","in":"1","out":"2","as_of":"2999-01-01","changes":[{"from":"2998-01-01","in":"2","out":"3"}]}]}`)
	file := write(t, "tradewind.yaml", "catalog: "+facts+"\nproviders: [{name: mistral, api_key: sk-0123456789, models: [old, doubtful, ending, later]}]\n")
	by, _ := examined(t, nil, "--config", file, "--offline", "--data-dir", t.TempDir())
	contains(t, "catalog", by["catalog"], "the prices of 1 models are older than 60 days", "mistral/old", "the sources differ on 1 models: mistral/doubtful",
		"1 models end within a month or have ended: mistral/ending", "ok: the next dated change of a price is on ")
}

// What an operator's file has no place for is told, never dropped silently.
func TestDoctorTellsWhatTheCatalogFileLacks(t *testing.T) {
	prices := write(t, "prices.json", `{"mistral/m":{"litellm_provider":"mistral","mode":"chat","input_cost_per_token":1e-06,"output_cost_per_token":2e-06},
"mistral/half":{"litellm_provider":"mistral","mode":"chat","input_cost_per_token":1e-06}}`)
	file := write(t, "tradewind.yaml", "catalog: "+prices+"\nproviders: [{name: mistral, api_key: sk-0123456789, models: [m]}]\n")
	by, _ := examined(t, nil, "--config", file, "--offline", "--data-dir", t.TempDir())
	contains(t, "catalog", by["catalog"], "1 entries of the catalog file are left out: mistral/half has one price without the other")
}

func TestDoctorSeesARunningServer(t *testing.T) {
	s := start(t, nil)
	by, code := examined(t, nil, "--data-dir", s.data, "--offline")
	if contains(t, "lock", by["lock"], "warn: process", "serves from"); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.stop()
	if by, _ = examined(t, nil, "--data-dir", s.data, "--offline"); !strings.Contains(by["lock"], "ok: no server uses") {
		t.Errorf("after it has stopped: %s", by["lock"])
	}
	contains(t, "router", by["router"], "ok: tw1-", "replays its golden rows")
	damaged, err := filepath.Glob(filepath.Join(s.data, "models", "tw1-*", "weights.bin"))
	if err != nil || len(damaged) == 0 {
		t.Fatal("no artifact to damage", err)
	}
	if err := os.Chmod(damaged[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(damaged[0], 10); err != nil {
		t.Fatal(err)
	}
	if by, code = examined(t, nil, "--data-dir", s.data, "--offline"); code != 1 || !strings.Contains(by["router"], "fail: the router cannot be used") {
		t.Errorf("a damaged router: exit code %d, %s", code, by["router"])
	}
}
