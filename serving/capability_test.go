package serving_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

// Pain 31 (workweave/router PR#233, #234): where the router chooses, a request reaches no arm that lacks what it needs or
// of which nobody knows that it has it.
func TestCapabilitiesFilter(t *testing.T) {
	price := catalog.Flat(1_000_000, 2_000_000)
	for filter, tt := range map[string]struct {
		need catalog.Capability
		more string
	}{
		"no_tools":       {catalog.Tools, question + `,"tools":[{"type":"function","function":{"name":"f"}}]`},
		"no_json_schema": {catalog.JSONSchema, question + `,"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{}}}`},
		"no_vision":      {catalog.Vision, `"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]`},
		"no_audio":       {catalog.AudioInput, `"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"","format":"wav"}}]}]`},
		"no_pdf":         {catalog.PDF, `"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"x"}}]}]`},
		"no_reasoning":   {catalog.Reasoning, question + `,"reasoning_effort":"high"`},
	} {
		w := newWorld(t, setup{arms: []catalog.Arm{
			{ID: "one/able", Tier: catalog.TierSmall, Capabilities: tt.need, Prices: price},
			{ID: "two/unable", Tier: catalog.TierFrontier, Capabilities: catalog.AllCapabilities &^ tt.need, Prices: catalog.Flat(1, 1)},
		}})
		for _, strategy := range []string{"auto", "auto:quality", "auto:cost"} {
			a := w.chat(`{"model":"` + strategy + `",` + tt.more + `}`).wantOK()
			if a.header.Get("X-Tradewind-Model") != "one/able" {
				t.Errorf("%s: %s is answered by %s", filter, strategy, a.header.Get("X-Tradewind-Model"))
			}
			d := w.do("GET", "/v1/decisions/"+string(a.round()), "")
			if got := d.get("candidates").([]any)[1].(map[string]any)["filter"]; got != filter {
				t.Errorf("%s: filtered as %v", filter, got)
			}
		}
	}
}

// Pain 32 (BerriAI/litellm#31557, #10793): no arm is chosen whose window is too small for the prompt, a margin, and the
// answer asked for; and where none is large enough the error says how large the largest is.
func TestWindowsFilter(t *testing.T) {
	arm := func(id catalog.ArmID, window, input int) catalog.Arm {
		return catalog.Arm{ID: id, Tier: catalog.TierLarge, ContextTokens: window, MaxInputTokens: input, Prices: catalog.Flat(1_000_000, 2_000_000)}
	}
	w := newWorld(t, setup{arms: []catalog.Arm{arm("one/small", 300, 0), arm("two/narrow", 100_000, 300), arm("three/large", 3000, 0)}})
	prompt := func(words int, more string) string {
		return `{"model":"auto","messages":[{"role":"user","content":"` + strings.Repeat("word ", words) + `"}]` + more + `}`
	}
	for _, tt := range []struct {
		words int
		more  string
		want  string
	}{
		{10, `,"tradewind":{"allow":["one/*"]}`, "one/small"}, {400, "", "three/large"}, {10, `,"max_tokens":2000,"tradewind":{"deny":["two/*"]}`, "three/large"},
	} {
		if a := w.chat(prompt(tt.words, tt.more)).wantOK(); a.header.Get("X-Tradewind-Model") != tt.want {
			t.Errorf("%d words%s: answered by %s, want %s", tt.words, tt.more, a.header.Get("X-Tradewind-Model"), tt.want)
		}
	}
	a := w.chat(prompt(20_000, ""))
	a.wantError(400, "context_length_exceeded")
	if !strings.Contains(fmt.Sprint(a.get("error.message")), "100000") {
		t.Errorf("the error does not say how large the largest window is: %s", a.body)
	}
}
