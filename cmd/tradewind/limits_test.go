package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// limitedModels has two providers of one model, of which the dearer one is asked first. An answer here uses 30 tokens, which
// takes half an hour where one a minute is allowed, so the time that the test takes does not matter.
const limitedModels = `
providers:
  - {name: one, type: openai, base_url: VENDOR, api_key: "${LAB_KEY}", models: [
      {name: m, priority: 1, limits: {tpm: 1}, supports: [reasoning], efforts: [high], input_usd_per_mtok: 9, output_usd_per_mtok: 90}]}
  - {name: two, type: openai, base_url: VENDOR, api_key: "${LAB_KEY}", limits: {tpm: 1, rpm: 1000}, models: [
      {name: m, priority: 2, input_usd_per_mtok: 1, output_usd_per_mtok: 10}, {name: n, input_usd_per_mtok: 1, output_usd_per_mtok: 10}]}
`

// TestLimitsAreConfigured: what models and providers may be sent, and who is asked first, is in the file, and a reload goes on
// counting. A model is one, whatever the effort, and a provider is all of its models.
func TestLimitsAreConfigured(t *testing.T) {
	r := startReloading(t, limitedModels, pollEvery)
	answers := func(want ...string) {
		t.Helper()
		for i := 0; i < len(want); i += 2 {
			a := r.call("POST", "/v1/chat/completions", "", ask(want[i], "hi", ""))
			if want[i+1] == "" && (a.status != 429 || !strings.Contains(string(a.body), "upstream_rate_limited")) || a.header.Get("X-Tradewind-Model") != want[i+1] {
				t.Errorf("%s: %d, by %q, want %q: %s", want[i], a.status, a.header.Get("X-Tradewind-Model"), want[i+1], a.body)
			}
		}
	}
	answers("m", "one/m", "m", "two/m", "one/m#high", "", "two/n", "", "m", "")
	reload := func(text string) {
		t.Helper()
		reloads := func() string { return fmt.Sprint(strings.Count(r.stderr.String(), "the configuration is in service")) }
		before := reloads()
		r.put(t, text)
		until(t, "whether it is in service", true, func() string { return fmt.Sprint(reloads() != before) })
	}
	reload(strings.Replace(limitedModels, "limits: {tpm: 1}", "limits: {tpm: 2}", 1))
	answers("one/m", "", "two/m", "")
	reload(strings.Replace(limitedModels, "limits: {tpm: 1}", "limits: {rpm: 9}", 1))
	answers("one/m#high", "one/m#high", "m", "one/m", "two/n", "")
}

func TestLimitsOfArms(t *testing.T) {
	e := env{"LAB_KEY": "sk-lab-0123456789"}
	c := &config{}
	text := strings.ReplaceAll(limitedModels, "VENDOR", "http://127.0.0.1:1/v1")
	if err := parseConfig(c, []byte(text), e.get); err != nil {
		t.Fatal(err)
	}
	f, err := assemble(c, e.get, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	one, two := upstream.Limit{Name: "one/m", Tokens: 1}, upstream.Limit{Name: "two", Requests: 1000, Tokens: 1}
	want := map[catalog.ArmID][]upstream.Limit{"one/m": {one}, "one/m#high": {one}, "two/m": {two}, "two/n": {two}}
	if !reflect.DeepEqual(f.limits, want) {
		t.Errorf("%+v, want %+v", f.limits, want)
	}
	for right, wrong := range map[string]string{
		"limits: {tpm: 1}": "limits: {tpm: -1}", "limits: {tpm: 1, rpm: 1000}": "limits: {rpm: 2000000000}", "priority: 1": "priority: 1001", "priority: 2": "priority: -1", "{name: n,": "{name: n, weight: -1,",
	} {
		c := &config{Listen: "127.0.0.1:1"}
		if err := parseConfig(c, []byte(strings.Replace(text, right, wrong, 1)), e.get); err != nil {
			t.Fatal(err)
		}
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), ", want ") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
