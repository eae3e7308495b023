package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tradewind-llm/tradewind/features"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"pgregory.net/rapid"
)

const messages = `"messages":[{"role":"user","content":"hi"}]`

func decode(t *testing.T, body string) *Request {
	t.Helper()
	r, err := Decode([]byte(body), DecodeOptions{})
	if err != nil {
		t.Fatalf("Decode(%s): %v", body, err)
	}
	return r
}

func TestDecode(t *testing.T) {
	r := decode(t, ` {"model": "auto:cost", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 10,
		"max_completion_tokens": 20, "n": 2, "user": "u1", "seed": 1,
		"tools": [{"type": "function"}, {"type":"function"}], "tool_choice": "auto", "reasoning_effort": "low",
		"response_format": {"type": "json_schema", "json_schema": {}},
		"messages": [
			{"role": "system", "content": "be\tkind"},
			{"content": [{"text": "wh\u00e4t \ud83d\ude00", "type": "text"}, {"type": "image_url", "image_url": {"url": "data:xxxx"}},
				{"type": "text", "text": "is it?"}], "role": "user"},
			{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]},
			{"role": "tool", "tool_call_id": "1", "content": "42"}]} `)
	if !r.Stream || !r.IncludeUsage || r.MaxTokens != 20 || r.N != 2 || r.User != "u1" {
		t.Errorf("got stream %v, usage %v, max %d, n %d, user %q", r.Stream, r.IncludeUsage, r.MaxTokens, r.N, r.User)
	}
	if want := (Target{Auto: true, Strategy: StrategyCost}); r.Target != want {
		t.Errorf("target: got %+v, want %+v", r.Target, want)
	}
	if want := catalog.Tools | catalog.JSONSchema | catalog.Vision | catalog.Reasoning; r.Needs != want {
		t.Errorf("needs: got %b, want %b", r.Needs, want)
	}
	want := features.Prompt{
		Turns: []features.Turn{
			{Role: features.System, Text: "be\tkind"}, {Role: features.User, Text: "whät 😀\nis it?"},
			{Role: features.Assistant}, {Role: features.Tool, Text: "42"},
		},
		Tools: 2, ToolBytes: len(`[{"type": "function"}, {"type":"function"}]`), JSONFormat: true, Attachments: 1,
	}
	if !reflect.DeepEqual(r.Prompt, want) {
		t.Errorf("prompt: got %+v, want %+v", r.Prompt, want)
	}
}

func TestDecodeNulls(t *testing.T) {
	r := decode(t, `{"model":"a/b",`+messages+`,"stream":null,"stream_options":null,"max_tokens":null,"n":null,"tools":null,
		"response_format":null,"user":null,"tradewind":null,"models":null,"reasoning_effort":null}`)
	if r.Stream || r.MaxTokens != 0 || r.N != 1 || r.Needs != 0 || r.User != "" {
		t.Errorf("null must be absent: %+v", r)
	}
}

// TestEffort: what a request says of reasoning, in every way in which it can.
func TestEffort(t *testing.T) {
	for more, want := range map[string]string{
		``: "", `,"reasoning_effort":null`: "", `,"reasoning_effort":"high"`: "high", `,"reasoning_effort":"none"`: NoEffort,
		`,"reasoning":{}`: "", `,"reasoning":{"effort":"low"}`: "low", `,"reasoning":{"effort":null}`: "", `,"reasoning":{"effort":"none"}`: NoEffort,
		`,"reasoning":{"enabled":false}`: NoEffort, `,"reasoning":{"enabled":true}`: "", `,"reasoning":{"max_tokens":5}`: OtherEffort,
		`,"reasoning":{"max_tokens":5,"effort":"low"}`: "low", `,"reasoning":{"effort":"low"},"reasoning_effort":"high"`: "high",
		`,"reasoning_effort":"high","reasoning":{"effort":"low"}`: "high",
	} {
		r := decode(t, `{"model":"auto",`+messages+more+`}`)
		if reasons := r.Needs.Has(catalog.Reasoning); r.Effort != want || want == NoEffort && reasons || want != "" && want != NoEffort && !reasons {
			t.Errorf("%s: effort %q, reasons %v; want %q", more, r.Effort, reasons, want)
		}
	}
}

func TestInputBound(t *testing.T) {
	if got, want := decode(t, `{"model":"auto",`+messages+`,"temperature":0.5}`).InputBound(), int64(2+16); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	tools := `[{"type":"function"}]`
	if got, want := decode(t, `{"model":"auto",`+messages+`,"tools":`+tools+`}`).InputBound(), int64(2+16+512+len(tools)); got != want {
		t.Errorf("with tools: got %d, want %d", got, want)
	}
	prediction := `{"type":"content","content":"abc"}`
	if got, want := decode(t, `{"model":"auto",`+messages+`,"prediction":`+prediction+`}`).InputBound(), int64(2+16+len(prediction)); got != want {
		t.Errorf("text in a field that we do not know: got %d, want %d", got, want)
	}
}

// TestBoundCoversText: whatever the shape of the conversation, no text is left out of the bound.
func TestBoundCoversText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []map[string]any
		text := 0
		for range rapid.IntRange(1, 5).Draw(t, "messages") {
			s := strings.ToValidUTF8(rapid.String().Draw(t, "text"), "")
			m := map[string]any{"role": rapid.SampledFrom([]string{"user", "system", "assistant", "tool", "odd"}).Draw(t, "role")}
			switch rapid.IntRange(0, 3).Draw(t, "shape") {
			case 0:
				m["content"] = s
			case 1:
				m["content"] = []any{map[string]any{"type": "text", "text": s}}
			case 2:
				m["content"], m["tool_calls"] = nil, []any{map[string]any{"function": map[string]any{"arguments": s}}}
			case 3:
				m["content"] = []any{map[string]any{"type": "strange", "words": s}}
			}
			text += len(s)
			list = append(list, m)
		}
		body, err := json.Marshal(map[string]any{"model": "auto", "messages": list})
		if err != nil {
			t.Fatal(err)
		}
		r, err := Decode(body, DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.InputBound(); got < int64(text+16*len(list)) {
			t.Fatalf("bound %d is below the %d bytes of text of %d messages", got, text, len(list))
		}
	})
}

// refusals are bodies, the field that the error must name, and its code.
var refusals = []struct {
	body, param string
	code        Code
}{
	{``, "", InvalidRequest},
	{`[]`, "", InvalidRequest},
	{`{"model":"auto"`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"deny":["gpt-?"]}}`, "tradewind.deny", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"allow":["[a-z]*/x"]}}`, "tradewind.allow", InvalidRequest},
	{`{"model":"auto",` + messages + `}x`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"x":01}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"x":+1}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"x":1.}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"x":nul}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"x":"\x"}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"x":"` + "\n" + `"}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"x":"` + "\xff" + `"}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"model":"b"}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"mod\u0065l":"b"}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"Model":"b"}`, "model", InvalidRequest},
	{`{"model":"auto",` + messages + `,"ſtream":true}`, "stream", InvalidRequest},
	{`{"model":"auto",` + messages + `,"x":1,"x":2}`, "", InvalidRequest},
	{`{"model":"auto","messages":[{"role":"user","role":"system","content":"a"}]}`, "", InvalidRequest},
	{`{"model":"auto","messages":[{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}]}`, "", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"explain":true,"explain":false}}`, "", InvalidRequest},
	{`{` + messages + `}`, "model", InvalidRequest},
	{`{"model":"",` + messages + `}`, "model", InvalidRequest},
	{`{"model":null,` + messages + `}`, "model", InvalidRequest},
	{`{"model":7,` + messages + `}`, "model", InvalidRequest},
	{`{"model":"` + strings.Repeat("m", NameMax+1) + `",` + messages + `}`, "model", InvalidRequest},
	{`{"model":"auto"}`, "messages", InvalidRequest},
	{`{"model":"auto","messages":[]}`, "messages", InvalidRequest},
	{`{"model":"auto","messages":null}`, "messages", InvalidRequest},
	{`{"model":"auto","messages":"hi"}`, "messages", InvalidRequest},
	{`{"model":"auto","messages":[{"role":"user","content":"a"},7]}`, "messages[1]", InvalidRequest},
	{`{"model":"auto","messages":[{"content":"a"}]}`, "messages[0].role", InvalidRequest},
	{`{"model":"auto","messages":[{"role":"user","content":7}]}`, "messages[0].content", InvalidRequest},
	{`{"model":"auto","messages":[{"role":"user","content":[{"text":"a"}]}]}`, "messages[0].content[0].type", InvalidRequest},
	{`{"model":"auto","messages":[{"role":"user","content":[{"type":"text"}]}]}`, "messages[0].content[0].text", InvalidRequest},
	{`{"model":"auto",` + messages + `,"stream":"yes"}`, "stream", InvalidRequest},
	{`{"model":"auto",` + messages + `,"max_tokens":0}`, "max_tokens", InvalidRequest},
	{`{"model":"auto",` + messages + `,"max_tokens":1e3}`, "max_tokens", InvalidRequest},
	{`{"model":"auto",` + messages + `,"max_tokens":99999999999999999999}`, "max_tokens", InvalidRequest},
	{`{"model":"auto",` + messages + `,"n":129}`, "n", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tools":{}}`, "tools", InvalidRequest},
	{`{"model":"auto",` + messages + `,"response_format":{}}`, "response_format.type", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"max_cost":1}}`, "tradewind.max_cost", InvalidTradewindField},
	{`{"model":"auto",` + messages + `,"tradewind":{"max_cost_usd":"1"}}`, "tradewind.max_cost_usd", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"max_cost_usd":0}}`, "tradewind.max_cost_usd", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"max_latency_ms":1.5}}`, "tradewind.max_latency_ms", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"quality_floor":1.1}}`, "tradewind.quality_floor", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"quality_floor":{"epsilon":0.1}}}`, "tradewind.quality_floor.reference", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"strategy":"cheap"}}`, "tradewind.strategy", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"allow":["a",""]}}`, "tradewind.allow[1]", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":{"tags":{"a":1}}}`, "tradewind.tags.a", InvalidRequest},
	{`{"model":"auto",` + messages + `,"tradewind":7}`, "tradewind", InvalidRequest},
	{`{"model":"auto",` + messages + `,"plugins":[{"id":"web"}]}`, "plugins", UnsupportedRoutingField},
	{`{"model":"auto",` + messages + `,"plugins":[{"id":"auto-router","max_price":1}]}`, "plugins.max_price", UnsupportedRoutingField},
	{`{"model":"auto",` + messages + `,"plugins":[{"cost_quality_tradeoff":3}]}`, "plugins", UnsupportedRoutingField},
	{`{"model":"auto",` + messages + `,"plugins":[{"id":"auto-router","cost_quality_tradeoff":10.5}]}`, "plugins.cost_quality_tradeoff", InvalidRequest},
	{`{"model":"auto",` + messages + `,"plugins":[{"id":"auto-router","cost_quality_tradeoff":"5"}]}`, "plugins.cost_quality_tradeoff", InvalidRequest},
	{`{"model":"auto",` + messages + `,"plugins":[{"id":"auto-router","allowed_models":["a","?"]}]}`, "plugins.allowed_models", InvalidRequest},
	{`{"model":"auto",` + messages + `,"plugins":["auto-router"]}`, "plugins", InvalidRequest},
	{`{"model":"auto",` + messages + `,"plugins":{}}`, "plugins", InvalidRequest},
	{`{"model":"auto",` + messages + `,"route":"x"}`, "route", UnsupportedRoutingField},
}

func TestDecodeRefuses(t *testing.T) {
	for _, test := range refusals {
		_, err := Decode([]byte(test.body), DecodeOptions{})
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.120s: got %v, want an *Error", test.body, err)
		} else if e.Code != test.code || e.Param != test.param || e.Status != 400 || e.Message == "" {
			t.Errorf("%.120s: got %d %s %q (%s), want 400 %s %q", test.body, e.Status, e.Code, e.Param, e.Message, test.code, test.param)
		}
	}
	_, err := Decode(make([]byte, 11), DecodeOptions{BodyMax: 10})
	if e := AsError(err); e.Code != RequestTooLarge || e.Status != 413 {
		t.Errorf("11 bytes with a limit of 10: got %v", err)
	}
}

func TestNearestFieldIsNamed(t *testing.T) {
	_, err := Decode([]byte(`{"model":"auto",`+messages+`,"tradewind":{"quality_flor":0.5}}`), DecodeOptions{})
	if err == nil || !strings.Contains(err.Error(), `"quality_floor"`) {
		t.Errorf("got %v, want a hint at quality_floor", err)
	}
}

func TestTradewindObject(t *testing.T) {
	r := decode(t, `{"model":"auto:quality",`+messages+`,"session_id":"low","prompt_cache_key":"lower","tradewind":{"strategy":"cost",
		"quality_floor":0.7,"max_cost_usd":0.01,"max_latency_ms":1500,"allow":["openai/*"],"deny":["*/x"],"models":["a/b"],
		"fallback":false,"explore":false,"hedge":true,"session_id":"s","tags":{"team":"blue"},"gates":["g"],"explain":true,"policy":null},
		"models":["c/d"],"provider":{"only":["openai","groq"],"ignore":["x"],"sort":"latency","allow_fallbacks":true}}`)
	h := http.Header{}
	for k, v := range map[string]string{
		"x-tradewind-strategy": "latency", "x-tradewind-quality-floor": "reference=a/b;epsilon=0.05", "x-tradewind-max-cost-usd": "0.002",
		"x-tradewind-max-latency-ms": "2000", "x-tradewind-allow": "*/gpt-*, groq/*", "x-tradewind-deny": "y/*", "x-tradewind-explain": "false",
		"x-tradewind-timeout-ms": "5000", "x-tradewind-end-user": "eve", "x-tradewind-log": "none", "x-tradewind-policy": "p2",
		"X-Session-Id": "other", "x-tradewind-tags": "a=b",
	} {
		h.Set(k, v)
	}
	if err := ApplyHeaders(r, h); err != nil {
		t.Fatal(err)
	}
	want := Options{
		Strategy: StrategyCost, QualityFloor: 0.7, Reference: "a/b", Epsilon: 0.05, MaxCost: 2_000_000, MaxLatency: 1500 * time.Millisecond,
		Allow: [][]string{{"openai/*"}, {"openai/*", "groq/*"}, {"*/gpt-*", "groq/*"}}, Deny: []string{"*/x", "x/*", "y/*"},
		Models: []string{"a/b"}, Fallback: No, Explore: No, Hedge: Yes, Explain: Yes, Session: "s",
		Tags: map[string]string{"team": "blue"}, Gates: []string{"g"}, Policy: "p2", Timeout: 5 * time.Second, EndUser: "eve", Log: "none",
	}
	if !reflect.DeepEqual(r.Tradewind, want) {
		t.Errorf("got  %+v\nwant %+v", r.Tradewind, want)
	}
	for arm, allowed := range map[catalog.ArmID]bool{"openai/gpt-5": true, "openai/o3": false, "groq/llama": false, "y/gpt-1": false} {
		if got := r.Tradewind.Allowed(arm); got != allowed {
			t.Errorf("%s: allowed %v, want %v", arm, got, allowed)
		}
	}
}

func TestStrategyPrecedence(t *testing.T) {
	tests := []struct {
		body, header string
		want         Strategy
	}{
		{`"model":"auto:quality","provider":{"sort":"price"},"tradewind":{"strategy":"latency"}`, "availability", StrategyLatency},
		{`"model":"auto:quality","provider":{"sort":"price"}`, "availability", StrategyAvailability},
		{`"model":"auto:quality","provider":{"sort":"price"}`, "", StrategyQuality},
		{`"model":"auto","provider":{"sort":"price"}`, "", StrategyCost},
		{`"model":"auto"`, "", StrategyNone},
	}
	for _, test := range tests {
		r := decode(t, "{"+test.body+","+messages+"}")
		h := http.Header{}
		if test.header != "" {
			h.Set("X-Tradewind-Strategy", test.header)
		}
		if err := ApplyHeaders(r, h); err != nil {
			t.Fatal(err)
		}
		if got := r.Strategy(); got != test.want {
			t.Errorf("%s with header %q: got %q, want %q", test.body, test.header, got, test.want)
		}
	}
}

func TestSessionOrder(t *testing.T) {
	sources := []struct{ header, body string }{
		{"X-Tradewind-Session-Id", ""}, {"", `"tradewind":{"session_id":"1"}`}, {"X-Session-Id", ""},
		{"X-Claude-Code-Session-Id", ""}, {"", `"session_id":"4"`}, {"", `"prompt_cache_key":"5"`},
	}
	for first := range sources {
		body, h := `{"model":"auto",`+messages, http.Header{}
		for i, s := range sources[first:] {
			if s.header != "" {
				h.Set(s.header, fmt.Sprint(first+i))
			} else {
				body += "," + s.body
			}
		}
		r := decode(t, body+"}")
		if err := ApplyHeaders(r, h); err != nil {
			t.Fatal(err)
		}
		if got, want := r.Tradewind.Session, fmt.Sprint(first); got != want {
			t.Errorf("with sources from %d on: got session %q, want %q", first, got, want)
		}
		if got, want := r.Tradewind.SessionShared, first == len(sources)-1; got != want {
			t.Errorf("with sources from %d on: shared %v, want %v", first, got, want)
		}
	}
}

func TestHeadersRefused(t *testing.T) {
	for name, value := range map[string]string{
		"x-tradewind-max-cost": "1", "x-tradewind-max-cost-usd": "NaN", "x-tradewind-strategy": "best", "x-tradewind-quality-floor": "reference=;epsilon=0.1",
		"x-tradewind-explore": "1", "x-tradewind-tags": "a", "x-tradewind-log": "all", "x-tradewind-timeout-ms": "0", "x-tradewind-allow": "a,,b", "x-tradewind-deny": "gpt-?",
		"x-tradewind-session-id": strings.Repeat("s", SessionIDMax+1),
	} {
		r := decode(t, `{"model":"auto",`+messages+`}`)
		h := http.Header{}
		h.Set(name, value)
		if e := AsError(ApplyHeaders(r, h)); e.Status != 400 || e.Param != name {
			t.Errorf("%s: %s: got %d with param %q, want 400 naming the header", name, value, e.Status, e.Param)
		}
	}
	r := decode(t, `{"model":"auto",`+messages+`}`)
	h := http.Header{"X-Tradewind-Max-Cost-Usd": {"1", "2"}}
	if e := AsError(ApplyHeaders(r, h)); e.Status != 400 {
		t.Errorf("a repeated single value: got %v, want 400", e)
	}
}

// without removes the fields that the gateway keeps for itself and those it sets.
func without(m map[string]json.RawMessage, names ...string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = string(v)
	}
	for _, n := range names {
		delete(out, n)
	}
	return out
}

func TestAppendUpstream(t *testing.T) {
	body := `{ "model" : "auto", ` + messages + `, "tradewind": {"explain":true}, "models":["a/b"], "x": [1, 2.50,  "ä\u00e4"], "metadata":{"a":"b"},
		"stream":true, "stream_options" : {"include_obfuscation": false , "include_usage": false}, "session_id":"s" }`
	tests := []struct {
		body, want string
		u          Upstream
	}{
		{body, `{"model":"small",` + messages + `,"x": [1, 2.50,  "ä\u00e4"],"metadata":{"a":"b"},"stream":true,"stream_options":{"include_obfuscation": false , "include_usage": true},"max_tokens":100}`,
			Upstream{Model: "small", MaxOutput: 100, ForceUsage: true}},
		{body, `{"model":"small",` + messages + `,"x": [1, 2.50,  "ä\u00e4"],"stream":true,"stream_options" : {"include_obfuscation": false , "include_usage": false}}`,
			Upstream{Model: "small", Drop: []string{"metadata", "top_p"}}},
		{`{` + messages + `,"mod\u0065l":"auto","stream":true}`, `{` + messages + `,"model":"a\"b","stream":true,"stream_options":{"include_usage":true}}`,
			Upstream{Model: `a"b`, ForceUsage: true}},
		{`{"model":"auto",` + messages + `,"stream":true,"stream_options":{}}`, `{"model":"m",` + messages + `,"stream":true,"stream_options":{"include_usage":true}}`,
			Upstream{Model: "m", ForceUsage: true}},
		{`{"model":"auto",` + messages + `,"stream":true,"stream_options":{"a":1}}`, `{"model":"m",` + messages + `,"stream":true,"stream_options":{"include_usage":true,"a":1}}`,
			Upstream{Model: "m", ForceUsage: true}},
		{`{"model":"auto",` + messages + `,"max_completion_tokens":50}`, `{"model":"m",` + messages + `,"max_completion_tokens":50}`, Upstream{Model: "m", MaxOutput: 100}},
		{`{"model":"auto",` + messages + `,"max_completion_tokens":500}`, `{"model":"m",` + messages + `,"max_completion_tokens":100}`, Upstream{Model: "m", MaxOutput: 100}},
		{`{"model":"auto",` + messages + `,"max_tokens":null}`, `{"model":"m",` + messages + `,"max_completion_tokens":100}`, Upstream{Model: "m", MaxOutput: 100, MaxTokensField: "max_completion_tokens"}},
		{`{"max_tokens":7,"max_completion_tokens":9,"model":"auto",` + messages + `}`, `{"max_completion_tokens":9,"model":"m",` + messages + `}`, Upstream{Model: "m", MaxTokensField: "max_completion_tokens"}},
		{`{"max_tokens":7,"max_completion_tokens":900,"model":"auto",` + messages + `}`, `{"max_tokens":7,"max_completion_tokens":100,"model":"m",` + messages + `}`, Upstream{Model: "m", MaxOutput: 100}},
		{`{"model":"auto",` + messages + `}`, `{"model":"m",` + messages + `,"reasoning_effort":"high"}`, Upstream{Model: "m", Effort: "high"}},
		{`{"reasoning_effort":null,"reasoning":{"effort":"high"},"model":"auto",` + messages + `}`, `{"model":"m",` + messages + `,"reasoning_effort":"high"}`, Upstream{Model: "m", Effort: "high"}},
		{`{"reasoning_effort":"low","model":"auto",` + messages + `}`, `{"reasoning_effort":"low","model":"m",` + messages + `}`, Upstream{Model: "m"}},
	}
	for _, test := range tests {
		got := decode(t, test.body).AppendUpstream([]byte("kept"), test.u)
		got, ok := bytes.CutPrefix(got, []byte("kept"))
		if !ok || string(got) != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.body, got, test.want)
		}
		if !json.Valid(got) {
			t.Errorf("not JSON: %s", got)
		}
	}
}

var ours = []string{
	"model", "tradewind", "models", "route", "provider", "session_id", "fallbacks", "disable_fallbacks", "num_retries", "plugins",
	"transforms", "usage", "providerOptions", "max_tokens", "max_completion_tokens", "stream_options",
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"model":"auto",` + messages + `,"tools":[],"x":{"a":[1,-0.5e+7,"\ud83d\ude00",null,true]}}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":[{"type":"text","text":"\u00e9"}]}],"mod\u0065l":"a\/b","max_tokens":7,"stream":true}`))
	f.Add([]byte(`{"model":"auto:cost",` + messages + `,"tradewind":{"quality_floor":{"reference":"a","epsilon":0},"allow":["*"]},"stream_options":{"include_usage":null}}`))
	f.Add([]byte(`{"model":"a/b:nitro",` + messages + `,"provider":{"order":["a"],"only":["a","b"],"ignore":["c"],"allow_fallbacks":false,"sort":"throughput","quantizations":["fp8"]},"num_retries":2}`))
	f.Add([]byte(`{"model":"auto",` + messages + `,"provider":{"data_collection":"deny","zdr":true,"max_price":{"prompt":1,"completion":"2.5e-1","request":0.01},"preferred_max_latency":{"p50":1,"p99":9},"preferred_min_throughput":30}}`))
	f.Add([]byte(`{"model":"auto",` + messages + `,"metadata":{"tags":["a:b","c"],"d":"e"}}`))
	f.Add([]byte(`{"model":"auto",` + messages + `,"providerOptions":{"gateway":{"order":["b"],"only":["b"],"sort":"tps"}},"fallbacks":["m"],"disable_fallbacks":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 1<<16 {
			return
		}
		r, err := Decode(body, DecodeOptions{})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || !utf8.ValidString(e.Message) {
				t.Fatalf("error %v is not for the wire", err)
			}
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		checkAgainst(t, r, body)
		sent := r.AppendUpstream(nil, Upstream{Model: "vendor-model", MaxOutput: 64, ForceUsage: true})
		var got map[string]json.RawMessage
		if err := json.Unmarshal(sent, &got); err != nil {
			t.Fatalf("AppendUpstream wrote no JSON: %v\n%s", err, sent)
		}
		if string(got["model"]) != `"vendor-model"` {
			t.Fatalf("model sent: %s", got["model"])
		}
		for name := range got {
			if IsRouting(name) {
				t.Fatalf("%s was handed on", name)
			}
		}
		if r.metadataTags != nil {
			checkMetadata(t, got, want)
		}
		if g, w := without(got, ours...), without(want, ours...); !reflect.DeepEqual(g, w) {
			t.Fatalf("other fields: got %v, want %v", g, w)
		}
		rest, err := ParseFields(r.Without(dispensable), DecodeOptions{})
		if err != nil {
			t.Fatalf("Without wrote no JSON: %v", err)
		}
		for _, f := range rest {
			if Dispensable(f.Name) {
				t.Fatalf("%s was not left out", f.Name)
			}
			delete(want, f.Name)
		}
		for name := range without(want, slices.Concat(ours, dispensable)...) {
			t.Fatalf("%s was left out", name)
		}
		again, err := Decode(sent, DecodeOptions{})
		if err != nil {
			t.Fatalf("what is sent does not decode: %v\n%s", err, sent)
		}
		if again.MaxTokens > 64 || again.MaxTokens == 0 || r.Stream && !again.IncludeUsage {
			t.Fatalf("sent max %d, usage %v", again.MaxTokens, again.IncludeUsage)
		}
	})
}

// checkMetadata compares what is handed on of metadata that has tags, and takes it out.
func checkMetadata(t *testing.T, got, want map[string]json.RawMessage) {
	var g, w map[string]json.RawMessage
	_ = json.Unmarshal(got["metadata"], &g)
	_ = json.Unmarshal(want["metadata"], &w)
	if g, w := without(g), without(w, "tags"); !maps.Equal(g, w) {
		t.Fatalf("metadata: got %v, want %v", g, w)
	}
	delete(got, "metadata")
	delete(want, "metadata")
}

// checkAgainst compares what was taken with what encoding/json reads.
func checkAgainst(t *testing.T, r *Request, body []byte) {
	var want map[string]any // a struct would match keys without regard to case
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber() // a number that is only passed on may be beyond any float
	if err := dec.Decode(&want); err != nil {
		t.Fatalf("encoding/json reads the body differently: %v", err)
	}
	user, _ := want["user"].(string)
	stream, _ := want["stream"].(bool)
	n, err := strconv.Atoi(fmt.Sprint(want["n"]))
	if err != nil {
		n = 1
	}
	if r.Model != want["model"] || r.Stream != stream || r.User != user || r.N != n {
		t.Fatalf("got %q %v %q %d, want %v", r.Model, r.Stream, r.User, r.N, want)
	}
	turns := want["messages"].([]any)
	if len(r.Prompt.Turns) != len(turns) {
		t.Fatalf("got %d turns, want %d", len(r.Prompt.Turns), len(turns))
	}
	for i, turn := range turns {
		if s, ok := turn.(map[string]any)["content"].(string); ok && r.Prompt.Turns[i].Text != s {
			t.Fatalf("turn %d: got %q, want %q", i, r.Prompt.Turns[i].Text, s)
		}
	}
}

func prompt(size int) []byte {
	text := strings.Repeat("The quick brown fox said \\\"hello\\\" to the lazy dog.\\n", size/54+1)
	return []byte(`{"model":"auto","messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":"` + text +
		`"}],"temperature":0.7,"max_tokens":256,"stream":true,"stream_options":{"include_usage":true},"tradewind":{"strategy":"cost"}}`)
}

func BenchmarkDecodeSplice(b *testing.B) {
	for _, size := range []int{700, 16 << 10} {
		body := prompt(size)
		dst := make([]byte, 0, 2*len(body))
		b.Run(fmt.Sprintf("%d", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				r, err := Decode(body, DecodeOptions{})
				if err != nil {
					b.Fatal(err)
				}
				dst = r.AppendUpstream(dst[:0], Upstream{Model: "gpt-5-mini", MaxOutput: 1024, ForceUsage: true})
			}
		})
	}
}
