package responses

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/serving/openai"
)

// TestDecode: what each thing is in chat, and what has no words there.
func TestDecode(t *testing.T) {
	item := func(items string) string { return `{"model":"m","input":[` + items + `]}` }
	const call = `{"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{}"}`
	for name, tt := range map[string]struct{ in, chat, native, foreign string }{
		"text":          {`{"model":"m","input":"hi","instructions":"short"}`, `"messages":[{"role":"system","content":"short"},{"role":"user","content":"hi"}]`, "", ""},
		"items":         {item(`{"role":"developer","content":"a"},{"type":"message","role":"user","content":[{"type":"input_text","text":"b"}]}`), `[{"role":"system","content":"a"},{"role":"user","content":"b"}]`, "", ""},
		"image":         {item(`{"role":"user","content":[{"type":"input_text","text":"b"},{"type":"input_image","image_url":"u","detail":"low"}]}`), `[{"type":"text","text":"b"},{"type":"image_url","image_url":{"url":"u","detail":"low"}}]`, "", ""},
		"file":          {item(`{"role":"user","content":[{"type":"input_file","filename":"n","file_data":"d"}]}`), `[{"type":"file","file":{"file_data":"d","filename":"n"}}]`, "", ""},
		"kept file":     {item(`{"role":"user","content":[{"type":"input_file","file_id":"x"}]}`), `"responses"`, "input[0].content[0]", ""},
		"calls":         {item(`{"role":"user","content":"q"},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"so","annotations":[]}]},` + call + `,{"type":"function_call","call_id":"c2","name":"g","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":"1"},{"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"2"}]}`), `{"role":"assistant","content":"so","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c1","content":"1"},{"role":"tool","tool_call_id":"c2","content":"2"}]`, "", ""},
		"image output":  {item(call + `,{"type":"function_call_output","call_id":"c1","output":[{"type":"input_image","image_url":"u"}]}`), `{"role":"tool","tool_call_id":"c1","content":[{"type":"image_url","image_url":{"url":"u"}}]}`, "", ""},
		"own reasoning": {item(`{"type":"reasoning","id":"rs_tw_1","summary":[],"content":[{"type":"reasoning_text","text":"r"}]},` + call), `{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":`, "", "input[0]"},
		"reasoning":     {item(`{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"x"},` + call), `"responses"`, "input[0]", ""},
		"without an id": {item(`{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"r"}],"encrypted_content":null},` + call), `{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":`, "", "input[0]"},
		"sealed":        {item(`{"type":"reasoning","summary":[],"encrypted_content":"x"},` + call), `"responses"`, "input[0]", ""},
		"reference":     {item(`{"type":"item_reference","id":"x"}`), `"responses"`, "input[0]", ""},
		"options":       {`{"model":"m","input":"x","max_output_tokens":9,"temperature":1,"store":false,"truncation":"disabled","include":["reasoning.encrypted_content"],"metadata":{"a":"b"},"stream_options":{}}`, `"max_tokens":9,"temperature":1,"messages"`, "", ""},
		"tools":         {`{"model":"m","input":"x","tools":[{"type":"function","name":"f","description":"d","parameters":{},"strict":true}],"tool_choice":{"type":"function","name":"f"}}`, `"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"f"}}`, "", ""},
		"one call":      {`{"model":"m","input":"x","parallel_tool_calls":false,"tools":[{"type":"function","name":"f"}],"tool_choice":"auto"}`, `{"model":"m","parallel_tool_calls":false,"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto","messages"`, "", ""},
		"no tools":      {`{"model":"m","input":"x","parallel_tool_calls":true,"tools":[],"tool_choice":"auto"}`, `{"model":"m","messages":[{"role":"user","content":"x"}]}`, "", ""},
		"must call":     {`{"model":"m","input":"x","tool_choice":"required"}`, `"tool_choice":"required"`, "", ""},
		"codex":         {`{"model":"m","input":[{"role":"user","content":"a"},{"role":"assistant","content":"b","phase":"commentary"}],"client_metadata":{"x-codex-installation-id":"i"}}`, `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]`, "", ""},
		"namespace":     {`{"model":"m","input":"x","tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"f","parameters":{}},{"type":"custom","name":"g"}]}]}`, `"namespace"`, "tools[0].type", ""},
		"search here":   {`{"model":"m","input":"x","tools":[{"type":"tool_search","execution":"client","parameters":{}}]}`, `"tool_search"`, "tools[0].type", ""},
		"client tool":   {`{"model":"m","input":"x","tools":[{"type":"custom","name":"f"}]}`, `"custom"`, "tools[0].type", ""},
		"reason":        {`{"model":"m","input":"x","reasoning":{"effort":"low","summary":"auto"}}`, `"reasoning_effort":"low"`, "", ""},
		"schema":        {`{"model":"m","input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{},"strict":true},"verbosity":"low"}}`, `"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{},"strict":true}},"verbosity":"low"`, "", ""},
		"json":          {`{"model":"m","input":"x","text":{"format":{"type":"json_object"}}}`, `"response_format":{"type":"json_object"}`, "", ""},
		"state":         {`{"model":"m","input":"x","previous_response_id":"resp_1"}`, `"responses.previous_response_id":"resp_1"`, "previous_response_id", ""},
		"store":         {`{"model":"m","input":"x","store":true}`, `"x"`, "store", ""},
		"later":         {`{"model":"m","input":"x","background":true}`, `"x"`, "background", ""},
		"unknown":       {`{"model":"m","input":"x","n":3}`, `"responses.n":3`, "n", ""},
		"routing":       {`{"model":"m","input":"x","tradewind":{"strategy":"cost"}}`, `"tradewind":{"strategy":"cost"}`, "", ""},
	} {
		s, err := Decode([]byte(tt.in), openai.DecodeOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if wider := map[string]string{"image output": "input[1].output"}[name]; s.WiderOnly != wider {
			t.Errorf("%s: only wider %q, want %q", name, s.WiderOnly, wider)
		}
		if !strings.Contains(string(s.Chat), tt.chat) || s.NativeOnly != tt.native || s.ForeignOnly != tt.foreign || s.Nowhere != (name == "later") || s.Stateful != (name == "state") {
			t.Errorf("%s: only native %q, only foreign %q, nowhere %v, stateful %v, chat\n%s, want %q, %q,\n%s", name, s.NativeOnly, s.ForeignOnly, s.Nowhere, s.Stateful, s.Chat, tt.native, tt.foreign, tt.chat)
		}
		if _, err := openai.Decode(s.Chat, openai.DecodeOptions{}); err != nil {
			t.Errorf("%s: chat does not take it: %v in %s", name, err, s.Chat)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for body, param := range map[string]string{
		`[]`: "the body", `{"input":"x"}`: "model", `{"model":"m"}`: "input", `{"model":"m","input":[]}`: "input", `{"model":"m","input":"x","max_output_tokens":0}`: "max_output_tokens",
		`{"model":"m","input":7}`: "input", `{"model":"m","Input":"y","input":"x"}`: "input", `{"model":"m","input":[{"role":"robot","content":"x"}]}`: "input[0].role",
		`{"model":"m","input":[{"type":"function_call","call_id":"a","name":"f"}]}`: "input[0].arguments", `{"model":"m","input":"x","tools":[{"type":"web_search"}]}`: "tools[0].type",
		`{"model":"m","input":[{"role":"user","content":[{"type":"input_text"}]}]}`: "input[0].content[0].text", `{"model":"m","input":"x","store":"yes"}`: "store",
		`{"model":"m","input":"x","tools":[{"type":"namespace","tools":[{"type":"function"},{"type":"web_search"}]}]}`: "tools[0].tools[1].type", `{"model":"m","input":"x","tools":[{"type":"tool_search"}]}`: "tools[0].type",
		`{"model":"m","input":"x","tools":[{"type":"namespace","tools":{}}]}`: "tools[0].tools",
		// What was said here is kept by nobody, whichever vendor is asked.
		`{"model":"m","input":"x","previous_response_id":"resp_tw_c1"}`: "previous_response_id", `{"model":"m","input":[{"type":"item_reference","id":"msg_tw_c1_0"}]}`: "input[0]",
		`{"model":"m","input":[{"type":"item_reference","id":"rs_tw_c1_0"}]}`: "input[0]", `{"model":"m","input":[{"type":"item_reference"}]}`: "input[0].id",
	} {
		_, err := Decode([]byte(body), openai.DecodeOptions{})
		var e *openai.Error
		if !errors.As(err, &e) || e.Status != 400 || e.Param != param && !strings.Contains(e.Message, param) {
			t.Errorf("%s: got %v, want %s to be refused", body, err, param)
		}
	}
}

// played is a source of given payloads in chat.
type played []string

func (p *played) Next() (openai.Chunk, error) {
	if len(*p) == 0 {
		return openai.Chunk{}, io.EOF
	}
	c, err := openai.ParseChunk([]byte((*p)[0]))
	*p = (*p)[1:]
	return c, err
}

type obj = map[string]any

func parsed(t testing.TB, text []byte) obj {
	t.Helper()
	var v obj
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func events(t testing.TB, payloads []string) (all []openai.Chunk) {
	t.Helper()
	p := played(payloads)
	tr := NewTranslator(&p, true, nil)
	for {
		c, err := tr.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
}

func choice(delta, finish string) string {
	return `{"id":"c1","created":5,"model":"m","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + finish + `}]}`
}

const usageChunk = `{"id":"c1","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":7,"total_tokens":37,"prompt_tokens_details":{"cached_tokens":20},"completion_tokens_details":{"reasoning_tokens":2}}}`

// TestEventOrder: the events of an answer, in the published order, numbered from 0.
func TestEventOrder(t *testing.T) {
	all := events(t, []string{
		choice(`{"role":"assistant","content":""}`, "null"), choice(`{"reasoning_content":"r"}`, "null"), choice(`{"content":"a"}`, "null"), choice(`{"content":"b"}`, "null"),
		choice(`{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":""}}]}`, "null"),
		choice(`{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}`, "null"), choice(`{}`, `"tool_calls"`), usageChunk, "[DONE]",
	})
	want := strings.Fields(`response.created response.in_progress
		response.output_item.added response.content_part.added response.reasoning_text.delta response.reasoning_text.done response.content_part.done response.output_item.done
		response.output_item.added response.content_part.added response.output_text.delta response.output_text.delta response.output_text.done response.content_part.done response.output_item.done
		response.output_item.added response.function_call_arguments.delta response.function_call_arguments.done response.output_item.done
		response.completed`)
	for i, c := range all {
		e := parsed(t, c.Data)
		if i >= len(want) || c.Name != want[i] || e["type"] != want[i] || e["sequence_number"] != float64(i) {
			t.Fatalf("event %d: %s, want %v", i, c.Data, want[min(i, len(want)-1)])
		}
	}
	last := all[len(all)-1]
	response := parsed(t, last.Data)["response"].(obj)
	output := response["output"].([]any)
	if len(all) != len(want) || len(output) != 3 || response["status"] != "completed" || response["id"] != "resp_tw_c1" || response["created_at"] != 5.0 {
		t.Errorf("%d events, last %s", len(all), last.Data)
	}
	if got := output[1].(obj)["content"].([]any)[0].(obj)["text"]; got != "ab" || output[2].(obj)["call_id"] != "t1" || output[2].(obj)["arguments"] != "{}" {
		t.Errorf("output %v", output)
	}
	if u := last.Usage(); u != (openai.Usage{Known: true, Input: 30, CacheRead: 20, Output: 7, Reasoning: 2}) || !last.Kind.Has(openai.IsDone|openai.HasUsage|openai.HasFinish) {
		t.Errorf("usage %+v, kind %b", u, last.Kind)
	}
	for finish, reason := range map[string]string{"length": "max_output_tokens", "content_filter": "content_filter"} {
		all := events(t, []string{choice(`{"content":"a"}`, strconv.Quote(finish))})
		last := all[len(all)-1]
		if d := parsed(t, last.Data)["response"].(obj)["incomplete_details"]; last.Name != "response.incomplete" || !reflect.DeepEqual(d, obj{"reason": reason}) {
			t.Errorf("%s: %s", finish, last.Data)
		}
	}
}

// TestCutItem: the item in which an answer was cut off is incomplete, and those before it are not.
func TestCutItem(t *testing.T) {
	all := events(t, []string{choice(`{"content":"a"}`, "null"), choice(`{"tool_calls":[{"index":0,"id":"t1","function":{"name":"f","arguments":"{"}}]}`, `"length"`)})
	var got []any
	for _, c := range all {
		if c.Name == "response.output_item.done" {
			got = append(got, parsed(t, c.Data)["item"].(obj)["status"])
		}
	}
	if want := []any{"completed", "incomplete"}; !reflect.DeepEqual(got, want) {
		t.Errorf("items are %v, want %v", got, want)
	}
}

// TestSources: what an answer says about where its text comes from stands in the part, streamed and whole.
func TestSources(t *testing.T) {
	const chat, want = `[{"type":"url_citation","url_citation":{"start_index":0,"end_index":2,"url":"https://a.example","title":"A"}},{"type":"file_citation"}]`, `{"type":"url_citation","start_index":0,"end_index":2,"url":"https://a.example","title":"A"}`
	all := events(t, []string{choice(`{"content":"ab"}`, "null"), choice(`{"annotations":`+chat+`}`, "null"), choice(`{}`, `"stop"`)})
	added := 0
	for _, c := range all {
		if c.Name == "response.output_text.annotation.added" {
			added++
			if e := parsed(t, c.Data); e["annotation_index"] != 0.0 || !reflect.DeepEqual(e["annotation"], any(parsed(t, []byte(want)))) {
				t.Errorf("the event is %s", c.Data)
			}
		}
	}
	p := played{`{"id":"c1","choices":[{"index":0,"message":{"content":"ab","annotations":` + chat + `},"finish_reason":"stop"}]}`}
	whole, err := NewTranslator(&p, false, nil).Next()
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{all[len(all)-1].Data, whole.Data} {
		if !strings.Contains(string(data), `"text":"ab","annotations":[`+want+`],`) {
			t.Errorf("the answer is %s, want %s in it", data, want)
		}
	}
	if added != 1 {
		t.Errorf("%d annotations were added, want 1", added)
	}
}

// TestUsage: what was written to a cache is told apart, where something was.
func TestUsage(t *testing.T) {
	for counts, want := range map[openai.Usage]string{
		{Input: 9, CacheRead: 4, Output: 5, Reasoning: 2}:                `"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":14`,
		{Input: 9, CacheRead: 4, CacheWrite: 3, Output: 5, Reasoning: 2}: `"input_tokens":9,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":3},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":14`,
	} {
		if got := string(appendCounts(nil, counts)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestStreamIsTheWhole: the items of a stream, in whatever pieces it came, are those of the same answer that is not
// streamed, and each item's last event repeats it.
func TestStreamIsTheWhole(t *testing.T) {
	anyText := rapid.StringMatching(`[a-z ä"\\\n<]{1,12}`)
	rapid.Check(t, func(rt *rapid.T) {
		m, payloads := obj{"role": "assistant", "content": nil}, []string{}
		say := func(delta obj) {
			text, err := json.Marshal(delta)
			if err != nil {
				rt.Fatal(err)
			}
			payloads = append(payloads, choice(string(text), "null"))
		}
		for _, name := range []string{"reasoning_content", "content", "refusal"} {
			if rapid.Bool().Draw(rt, name) {
				text := anyText.Draw(rt, name)
				m[name] = text
				for _, r := range text {
					say(obj{name: string(r)})
				}
			}
		}
		var calls []any
		for i := range rapid.IntRange(0, 3).Draw(rt, "calls") {
			text, id := anyText.Draw(rt, "arguments"), "t"+strconv.Itoa(i)
			calls = append(calls, obj{"id": id, "type": "function", "function": obj{"name": "f", "arguments": text}})
			say(obj{"tool_calls": []any{obj{"index": i, "id": id, "function": obj{"name": "f", "arguments": ""}}}})
			for _, r := range text {
				say(obj{"tool_calls": []any{obj{"index": i, "function": obj{"arguments": string(r)}}}})
			}
		}
		m["tool_calls"] = calls
		body, err := json.Marshal(obj{"id": "c1", "created": 5, "model": "m", "choices": []any{obj{"index": 0, "message": m, "finish_reason": "stop"}}})
		if err != nil {
			rt.Fatal(err)
		}
		p := played{string(body)}
		whole, err := NewTranslator(&p, false, nil).Next()
		if err != nil {
			rt.Fatal(err)
		}
		all := events(t, append(payloads, choice(`{}`, `"stop"`)))
		var items []any
		for _, c := range all {
			if c.Name == "response.output_item.done" {
				items = append(items, parsed(t, c.Data)["item"])
			}
		}
		want := parsed(t, whole.Data)
		got := parsed(t, all[len(all)-1].Data)["response"]
		if !reflect.DeepEqual(got, any(want)) {
			rt.Fatalf("streamed %v\nwhole %v", got, want)
		}
		if output, _ := want["output"].([]any); !reflect.DeepEqual(items, output) && len(items)+len(output) > 0 {
			rt.Fatalf("items %v\noutput %v", items, output)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"model":"m","instructions":"s","input":[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"u"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"x"},{"type":"reasoning","id":"rs_tw_","summary":[{"text":"r"}]}],"tools":[{"type":"function","name":"f"}],"text":{"format":{"type":"json_schema","name":"n"}}}`))
	f.Add([]byte(`{"model":"m","prompt":{"id":"x"},"conversation":"c","background":true,"tradewind":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := Decode(body, openai.DecodeOptions{})
		if err != nil {
			if openai.AsError(err).Status >= 500 {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if !json.Valid(s.Chat) || len(s.Chat) > 8*len(body)+1024 {
			t.Fatalf("%q: %d bytes of chat: %s", body, len(s.Chat), s.Chat)
		}
		native := s.AppendUpstream(nil, openai.Upstream{Model: "x", MaxOutput: 5})
		fields, err := openai.ParseFields(native, openai.DecodeOptions{})
		if err != nil {
			t.Fatalf("%q: for a vendor of the dialect: %s", body, native)
		}
		for _, f := range s.Fields { // byte for byte, but for the model, the cap and what is about routing
			if f.Name != "model" && f.Name != s.CapField && !openai.IsRouting(f.Name) && string(fields.Get(f.Name)) != string(s.Fields.Get(f.Name)) {
				t.Fatalf("%q: %s is %s for a vendor of the dialect", body, f.Name, fields.Get(f.Name))
			}
		}
		if _, err := openai.Decode(s.Chat, openai.DecodeOptions{BodyMax: 1 << 30, DepthMax: 128}); err != nil && openai.AsError(err).Status >= 500 {
			t.Fatalf("%q: %v", body, err)
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"type":"response.created","sequence_number":0,"response":{"id":"r","model":"m"}}` + "\n" + `{"type":"response.output_item.added","item":{"type":"function_call"}}` + "\n" + `{"type":"response.completed","response":{"status":"completed","output":[1],"usage":{"input_tokens":1,"output_tokens":2}}}`))
	f.Add([]byte(choice(`{"content":"a","tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{"}}]}`, `"stop"`) + "\n" + usageChunk))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r Reader
		var w Writer
		var out []byte
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			if c, err := r.Event(line); err == nil && !c.Kind.Has(openai.HasError) {
				out = w.AppendEvent(out, &c)
			}
			if c, err := r.Whole(line); err == nil {
				if body, err := w.AppendWhole(nil, &c, openai.Final{Explain: []byte("{}")}); err == nil && !json.Valid(body) {
					t.Fatalf("%q: not JSON: %s", line, body)
				}
			}
		}
		out = w.AppendEnd(out, openai.Final{}, openai.NewError(openai.UpstreamFailed, "x"))
		for e := range bytes.SplitSeq(bytes.TrimSpace(out), []byte("\n\n")) {
			if _, data, ok := bytes.Cut(e, []byte("data: ")); !ok || !json.Valid(data) {
				t.Fatalf("%q: not an event: %q", text, e)
			}
		}
		for _, stream := range []bool{true, false} {
			p := played(strings.Split(string(text), "\n"))
			tr := NewTranslator(&p, stream, nil)
			for range 10 * len(text) {
				c, err := tr.Next()
				if err != nil {
					break
				}
				if !json.Valid(c.Data) {
					t.Fatalf("%q: not JSON: %s", text, c.Data)
				}
			}
		}
	})
}
