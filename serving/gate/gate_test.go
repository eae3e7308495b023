package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/reward"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const tools = `"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","required":["city"]}}}]`

// request decodes a chat request with further members.
func request(t testing.TB, more string) *openai.Request {
	t.Helper()
	if more != "" {
		more = "," + more
	}
	r, err := openai.Decode([]byte(`{"model":"auto","messages":[{"role":"user","content":"What is 17 times 23?"}]`+more+`}`), openai.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// asked is an answer to a request.
func asked(t testing.TB, more string, answers ...reward.Answer) *Subject {
	return &Subject{RoundID: "rnd_1", Model: "a/m", Request: request(t, more), Answers: answers}
}

// judge makes one gate of a configuration and asks it.
func judge(t testing.TB, c Config, s *Subject) datasets.GateVerdict {
	t.Helper()
	c.Name = "g"
	g, err := newGate(&c)
	if err != nil {
		t.Fatal(err)
	}
	return g.judge(t.Context(), s)
}

func TestGates(t *testing.T) {
	text := func(s string) reward.Answer { return reward.Answer{Text: s, Finish: "stop"} }
	call := func(arguments string) reward.Answer {
		return reward.Answer{Finish: "tool_calls", Calls: []reward.Call{{Name: "weather", Arguments: arguments}}}
	}
	format := `"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","required":["a"]}}}`
	for name, tt := range map[string]struct {
		gate    Config
		subject *Subject
		want    datasets.Verdict
		why     string
	}{
		"not empty":               {Config{Check: "not_empty"}, asked(t, "", text("391")), datasets.Passed, ""},
		"empty":                   {Config{Check: "not_empty"}, asked(t, "", text(" ")), datasets.Rejected, "empty"},
		"one of two is empty":     {Config{Check: "not_empty"}, asked(t, "", text("391"), text("")), datasets.Rejected, "empty"},
		"truncated":               {Config{Check: "not_truncated"}, asked(t, "", reward.Answer{Text: "3", Finish: "length"}), datasets.Rejected, "cut off"},
		"refused":                 {Config{Check: "not_refused"}, asked(t, "", reward.Answer{Refusal: "no"}), datasets.Rejected, "refused"},
		"tool call":               {Config{Check: "tool_call"}, asked(t, tools, call(`{"city":"Oslo"}`)), datasets.Passed, ""},
		"wrong tool call":         {Config{Check: "tool_call"}, asked(t, tools, call(`{"town":"Oslo"}`)), datasets.Rejected, "required"},
		"no tool call":            {Config{Check: "tool_call"}, asked(t, tools, text("391")), datasets.Passed, ""},
		"no tool call, demanded":  {Config{Check: "tool_call"}, asked(t, tools+`,"tool_choice":"required"`, text("391")), datasets.Rejected, "demands"},
		"json":                    {Config{Check: "json"}, asked(t, "", text(`[1]`)), datasets.Passed, ""},
		"no json":                 {Config{Check: "json"}, asked(t, "", text(`one`)), datasets.Rejected, "JSON"},
		"response format":         {Config{Check: "response_format"}, asked(t, format, text(`{"a":1}`)), datasets.Passed, ""},
		"wrong response format":   {Config{Check: "response_format"}, asked(t, format, text(`{"b":1}`)), datasets.Rejected, "required"},
		"no response format":      {Config{Check: "response_format"}, asked(t, "", text(`b`)), datasets.Passed, ""},
		"json object":             {Config{Check: "response_format"}, asked(t, `"response_format":{"type":"json_object"}`, text(`[1]`)), datasets.Rejected, "type"},
		"format, but a tool call": {Config{Check: "response_format"}, asked(t, format+","+tools, call(`{}`)), datasets.Passed, ""},
		"a schema that fetches":   {Config{Check: "response_format"}, asked(t, strings.Replace(format, `"required":["a"]`, `"$ref":"http://127.0.0.1/x"`, 1), text(`{}`)), datasets.Unjudged, ""},
		"own schema":              {Config{Schema: map[string]any{"type": "object", "minProperties": uint64(1)}}, asked(t, "", text(`{}`)), datasets.Rejected, "minProperties"},
		"own schema, exhausted":   {Config{Schema: map[string]any{"type": "array"}}, asked(t, "", text("1e1000000000")), datasets.Unjudged, ""},
		"required pattern":        {Config{Require: `\d+`}, asked(t, "", text("it is 391")), datasets.Passed, ""},
		"required, missing":       {Config{Require: `\d+`}, asked(t, "", text("it is many")), datasets.Rejected, "does not match"},
		"rejected pattern":        {Config{Reject: `(?i)^i'm sorry`}, asked(t, "", text("I'm sorry, but no")), datasets.Rejected, "matches"},
		"rejected, missing":       {Config{Reject: `(?i)^i'm sorry`}, asked(t, "", text("391")), datasets.Passed, ""},
		"unreadable answer":       {Config{Check: "not_empty"}, &Subject{Err: errUnread}, datasets.Unjudged, "form"},
	} {
		v := judge(t, tt.gate, tt.subject)
		if v.Verdict != tt.want || !strings.Contains(v.Reason, tt.why) || (v.Verdict == datasets.Passed) != (v.Reason == "") || v.Gate != "g" {
			t.Errorf("%s: %+v, want %s because %q", name, v, tt.want, tt.why)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	good := Config{Name: "g", Check: "not_empty"}
	for name, o := range map[string]Options{
		"no name":             {Gates: []Config{{Check: "not_empty"}}},
		"a name with a comma": {Gates: []Config{{Name: "a,b", Check: "not_empty"}}},
		"nothing":             {Gates: []Config{{Name: "g"}}},
		"two kinds":           {Gates: []Config{{Name: "g", Check: "not_empty", Require: "a"}}},
		"unknown check":       {Gates: []Config{{Name: "g", Check: "not_bad"}}},
		"bad pattern":         {Gates: []Config{{Name: "g", Require: "("}}},
		"long pattern":        {Gates: []Config{{Name: "g", Reject: strings.Repeat("a", patternMax+1)}}},
		"bad schema":          {Gates: []Config{{Name: "g", Schema: map[string]any{"type": "whole"}}}},
		"twice":               {Gates: []Config{good, good}},
		"no address":          {Gates: []Config{{Name: "g", Webhook: &WebhookConfig{}}}},
		"another scheme":      {Gates: []Config{{Name: "g", Webhook: &WebhookConfig{URL: "file:///etc/passwd"}}}},
		"a user in the url":   {Gates: []Config{{Name: "g", Webhook: &WebhookConfig{URL: "https://a:b@example.com/"}}}},
		"for ever":            {Gates: []Config{{Name: "g", Webhook: &WebhookConfig{URL: "https://example.com/", TimeoutSeconds: 61}}}},
		"a relative command":  {Gates: []Config{{Name: "g", Command: &CommandConfig{Path: "check.sh"}}}},
		"too much memory":     {Gates: []Config{{Name: "g", Command: &CommandConfig{Path: "/bin/true", MemoryMB: MemoryMaxMB + 1}}}},
		"too many":            {Gates: make([]Config, GatesMax+1)},
		"policy of nothing":   {Gates: []Config{good}, Policies: []PolicyConfig{{}}},
		"unknown gate":        {Gates: []Config{good}, Policies: []PolicyConfig{{Gates: []string{"h"}}}},
		"unknown word":        {Gates: []Config{good}, Policies: []PolicyConfig{{Gates: []string{"g"}, OnError: "maybe"}}},
		"three steps":         {Gates: []Config{good}, Policies: []PolicyConfig{{Gates: []string{"g"}, Escalations: new(3)}}},
	} {
		if o.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
	o := Options{Gates: []Config{good}, Policies: []PolicyConfig{{Gates: []string{"g"}, OnError: "open", Exhausted: "refuse", Streams: "buffer", Escalations: new(0)}}}
	if err := o.Validate(); err != nil {
		t.Error(err)
	}
}

// TestPlans: who passes through which gates, and of two policies the stricter counts.
func TestPlans(t *testing.T) {
	s, err := New(Options{
		Gates: []Config{{Name: "hook", Webhook: &WebhookConfig{URL: "http://127.0.0.1:1/"}}, {Name: "digits", Require: `\d`}, {Name: "whole", Check: "not_truncated"}},
		Policies: []PolicyConfig{
			{Gates: []string{"hook", "whole"}, Keys: []string{"ci"}, OnError: "open"},
			{Gates: []string{"digits"}, Teams: []string{"acme/ml"}, Exhausted: "refuse", Escalations: new(1)},
			{Gates: []string{"whole"}, Tags: map[string]string{"kind": "extract", "lang": "en"}, Streams: "buffer"},
			{Gates: []string{"digits"}, Orgs: []string{"bank"}, Keys: []string{"ci"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	show := func(p *Plan) string {
		if p == nil {
			return "none"
		}
		return fmt.Sprintf("%v open %v refuse %v buffer %v escalations %d", p.Names(), p.open, p.Refuse, p.Buffer, p.Escalations)
	}
	for name, tt := range map[string]struct {
		who   governance.Principal
		tags  map[string]string
		named []string
		want  string
	}{
		"nobody":                {governance.Principal{Org: "x", Team: "y"}, nil, nil, "none"},
		"a key":                 {governance.Principal{Name: "ci"}, nil, nil, "[whole hook] open true refuse false buffer false escalations 2"},
		"a team":                {governance.Principal{Org: "acme", Team: "ml"}, nil, nil, "[digits] open false refuse true buffer false escalations 1"},
		"its namesake":          {governance.Principal{Org: "other", Team: "ml"}, nil, nil, "none"},
		"both":                  {governance.Principal{Name: "ci", Org: "acme", Team: "ml"}, nil, nil, "[whole digits hook] open false refuse true buffer false escalations 1"},
		"tags":                  {governance.Principal{}, map[string]string{"kind": "extract", "lang": "en", "x": "y"}, nil, "[whole] open false refuse false buffer true escalations 2"},
		"half of the tags":      {governance.Principal{}, map[string]string{"kind": "extract"}, nil, "none"},
		"a key of that org":     {governance.Principal{Name: "ci", Org: "bank"}, nil, nil, "[whole digits hook] open false refuse false buffer false escalations 2"},
		"named":                 {governance.Principal{}, nil, []string{"whole"}, "[whole] open false refuse false buffer false escalations 2"},
		"named beside a policy": {governance.Principal{Name: "ci"}, nil, []string{"digits", "digits"}, "[whole digits hook] open true refuse false buffer false escalations 2"},
	} {
		p, err := s.For(&tt.who, tt.tags, tt.named)
		if got := show(p); got != tt.want || err != nil {
			t.Errorf("%s: %s, %v, want %s", name, got, err, tt.want)
		}
	}
	for _, set := range []*Set{s, nil} {
		if _, err := set.For(&governance.Principal{}, nil, []string{"x"}); err == nil {
			t.Error("a gate that is not configured was taken")
		}
	}
}

// TestPlanStops: the cheap gates speak first, the first that speaks against the answer ends it, and what a gate that could
// not tell counts as is the policy's to say.
func TestPlanStops(t *testing.T) {
	told := func(name string, v datasets.Verdict) *gate {
		return &gate{name: name, check: func(context.Context, *Subject) (string, error) {
			switch v {
			case datasets.Rejected:
				return "no", nil
			case datasets.Unjudged:
				panic("a bug")
			}
			return "", nil
		}}
	}
	pass, fail, crash := told("p", datasets.Passed), told("f", datasets.Rejected), told("c", datasets.Unjudged)
	for name, tt := range map[string]struct {
		gates  []*gate
		open   bool
		passed bool
		want   string
	}{
		"all pass":      {[]*gate{pass, pass}, false, true, "p=pass p=pass"},
		"one fails":     {[]*gate{pass, fail, pass}, true, false, "p=pass f=fail"},
		"crash, closed": {[]*gate{crash, pass}, false, false, "c=error"},
		"crash, open":   {[]*gate{crash, pass}, true, true, "c=error p=pass"},
		"open and fail": {[]*gate{crash, fail}, true, false, "c=error f=fail"},
	} {
		passed, verdicts := (&Plan{gates: tt.gates, open: tt.open}).Judge(t.Context(), &Subject{})
		var got []string
		for _, v := range verdicts {
			got = append(got, v.Gate+"="+string(v.Verdict))
		}
		if passed != tt.passed || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, %v, want %v, %s", name, passed, got, tt.passed, tt.want)
		}
	}
}

// TestVerdictTakesTime: how long a gate thought is logged.
func TestVerdictTakesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{name: "slow", check: func(context.Context, *Subject) (string, error) { time.Sleep(3 * time.Second); return "", nil }}
		if v := g.judge(t.Context(), &Subject{}); v.TotalMS != 3000 {
			t.Errorf("%v ms, want 3000", v.TotalMS)
		}
	})
}

func TestCollector(t *testing.T) {
	for name, tt := range map[string]struct {
		events []string
		want   string
		failed bool
	}{
		"whole":       {[]string{`{"choices":[{"index":0,"message":{"role":"assistant","content":"391"},"finish_reason":"stop"}]}`}, `[{391  stop []}]`, false},
		"stream":      {[]string{`{"choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}`, `{"choices":[{"index":0,"delta":{"content":"39"}}]}`, `{"choices":[{"index":0,"delta":{"content":"1"}}]}`, `{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}`, `{"choices":[],"usage":{}}`, `[DONE]`}, `[{391  length []}]`, false},
		"two choices": {[]string{`{"choices":[{"index":1,"delta":{"content":"b"}},{"index":0,"delta":{"content":"a"}}]}`}, `[{a   []} {b   []}]`, false},
		"tool calls":  {[]string{`{"choices":[{"index":0,"message":{"content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}},{"id":"2","function":{"name":"g","arguments":"[]"}}]},"finish_reason":"tool_calls"}]}`}, `[{  tool_calls [{f {}} {g []}]}]`, false},
		"tool deltas": {[]string{`{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}}]}`, `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}}]}`, `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]}`}, `[{   [{f {"a":1}}]}]`, false},
		"older call":  {[]string{`{"choices":[{"message":{"function_call":{"name":"f","arguments":"{}"}}}]}`}, `[{   [{f {}}]}]`, false},
		"parts":       {[]string{`{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]}`}, `[{ab   []}]`, false},
		"refusal":     {[]string{`{"choices":[{"message":{"content":null,"refusal":"no"}}]}`}, `[{ no  []}]`, false},
		"text":        {[]string{`{"choices":[{"text":"391","finish_reason":"stop"}]}`}, `[{391  stop []}]`, false},
		"no choice":   {[]string{`{"choices":[]}`}, ``, true},
		"no list":     {[]string{`{"choices":{"a":1}}`}, ``, true},
		"a number":    {[]string{`{"choices":[{"message":{"content":391}}]}`}, ``, true},
		"far index":   {[]string{`{"choices":[{"index":4000000,"delta":{"content":"b"}}]}`}, ``, true},
		"far call":    {[]string{`{"choices":[{"delta":{"tool_calls":[{"index":4000000,"function":{"name":"f"}}]}}]}`}, ``, true},
		"too long":    {[]string{`{"choices":[{"message":{"content":"` + strings.Repeat("a", reward.AnswerBytesMax+1) + `"}}]}`}, ``, true},
	} {
		var c Collector
		for _, e := range tt.events {
			chunk, err := openai.ParseChunk([]byte(e))
			if err != nil {
				t.Fatal(err)
			}
			c.Add(&chunk)
		}
		answers, err := c.Answers()
		if got := fmt.Sprint(answers); (err != nil) != tt.failed || !tt.failed && got != tt.want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, tt.want)
		}
	}
}

// FuzzCollector: whatever a vendor sends, there is an answer or an error, within the limits.
func FuzzCollector(f *testing.F) {
	f.Add(`{"choices":[{"index":0,"delta":{"content":"a","tool_calls":[{"index":1,"function":{"name":"f","arguments":"{}"}}]}}]}`, `{"choices":[{"message":{"content":[{"text":"b"}]}}]}`)
	f.Fuzz(func(t *testing.T, one, two string) {
		var c Collector
		for _, e := range []string{one, two, one} {
			c.Add(&openai.Chunk{Data: []byte(e)})
		}
		answers, err := c.Answers()
		if err == nil && (len(answers) == 0 || len(answers) > openai.AnswersMax) {
			t.Errorf("%d answers", len(answers))
		}
		size := 0
		for _, a := range answers {
			size += len(a.Text) + len(a.Refusal)
		}
		if size > reward.AnswerBytesMax {
			t.Errorf("%d bytes", size)
		}
	})
}

// FuzzVerdict: only a boolean is a verdict, and a reason is short and printable.
func FuzzVerdict(f *testing.F) {
	for _, seed := range []string{`{"pass":true}`, `{"pass":false,"reason":"no"}`, `{"pass":"yes"}`, `{"pass":1}`, `null`, `[]`, `{"pass":false,"reason":5}`, "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		why, err := parseVerdict([]byte(text))
		var v map[string]any
		if err == nil && (json.Unmarshal([]byte(text), &v) != nil) {
			t.Errorf("%q is a verdict", text)
		}
		if s := clip(why); len(s) > reasonMax || strings.ContainsAny(s, "\x00\n\r\x1b") {
			t.Errorf("reason %q", s)
		}
	})
}
