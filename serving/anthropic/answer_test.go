package anthropic

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

// played is a source of given payloads in chat.
type played struct {
	payloads []string
	whole    bool
	err      error
}

func (p *played) Next() (openai.Chunk, error) {
	if len(p.payloads) == 0 {
		if p.err != nil {
			return openai.Chunk{}, p.err
		}
		return openai.Chunk{}, io.EOF
	}
	c, err := openai.ParseChunk([]byte(p.payloads[0]))
	p.payloads = p.payloads[1:]
	if p.whole {
		c.Kind |= openai.IsDone
	}
	return c, err
}

func drain(t testing.TB, s Source) (all []openai.Chunk) {
	t.Helper()
	for {
		c, err := s.Next()
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
	return `{"id":"c1","created":1,"model":"m","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + finish + `}]}`
}

// TestTranslator: the events of each kind of answer, in the published order.
func TestTranslator(t *testing.T) {
	call := func(members string) string { return choice(`{"tool_calls":[{`+members+`}]}`, "null") }
	const usage = `{"id":"c1","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":20}}}`
	for name, tt := range map[string]struct {
		payloads []string
		want     string
	}{
		"text": {[]string{choice(`{"role":"assistant","content":""}`, "null"), choice(`{"content":"a"}`, "null"), choice(`{"content":"b"}`, "null"), choice(`{}`, `"stop"`), usage, "[DONE]"},
			`start text(0) a b stop(0) end_turn{10 0 20 7}`},
		"length":        {[]string{choice(`{"content":"a"}`, `"length"`), usage}, `start text(0) a stop(0) max_tokens{10 0 20 7}`},
		"no usage":      {[]string{choice(`{"content":"a"}`, `"content_filter"`)}, `start text(0) a stop(0) refusal{0 0 0 0}`},
		"reasoning":     {[]string{choice(`{"reasoning_content":"r","reasoning":"r"}`, "null"), choice(`{"reasoning":"s"}`, "null"), choice(`{"content":"a"}`, `"stop"`)}, `start thinking(0) r s stop(0) text(1) a stop(1) end_turn{0 0 0 0}`},
		"parts":         {[]string{choice(`{"content":[{"type":"thinking","thinking":[{"type":"text","text":"r"}]},{"type":"text","text":"a"}]}`, `"stop"`)}, `start thinking(0) r stop(0) text(1) a stop(1) end_turn{0 0 0 0}`},
		"refusal":       {[]string{choice(`{"refusal":"no"}`, `"stop"`)}, `start text(0) no stop(0) refusal{0 0 0 0}`},
		"cut call":      {[]string{call(`"index":0,"id":"t1","function":{"name":"f","arguments":"{\"a\":"}`), choice(`{}`, `"length"`)}, `start f.t1(0) {"a": stop(0) max_tokens{0 0 0 0}`},
		"calls":         {[]string{choice(`{"content":"so"}`, "null"), call(`"index":0,"id":"t1","function":{"name":"f","arguments":""}`), call(`"index":0,"function":{"arguments":"{\"a\""}`), call(`"index":0,"function":{"arguments":":1}"}`), call(`"index":1,"id":"t2","function":{"name":"g","arguments":"{}"}`), choice(`{}`, `"tool_calls"`)}, `start text(0) so stop(0) f.t1(1) {"a" :1} stop(1) g.t2(2) {} stop(2) tool_use{0 0 0 0}`},
		"calls at once": {[]string{choice(`{"tool_calls":[{"id":"t1","function":{"name":"f","arguments":"{}"}},{"id":"t2","function":{"name":"f","arguments":"{}"}}]}`, `"stop"`)}, `start f.t1(0) {} stop(0) f.t2(1) {} stop(1) tool_use{0 0 0 0}`},
		"one index":     {[]string{call(`"index":0,"id":"t1","function":{"name":"f","arguments":"{}"}`), call(`"index":0,"id":"t2","function":{"name":"g","arguments":"{}"}`), choice(`{}`, `"tool_calls"`)}, `start f.t1(0) {} stop(0) g.t2(1) {} stop(1) tool_use{0 0 0 0}`},
		"no id":         {[]string{call(`"index":0,"function":{"name":"f","arguments":"{}"}`), choice(`{}`, `"tool_calls"`)}, `start f.toolu_c1_0(0) {} stop(0) tool_use{0 0 0 0}`},
		"odd id":        {[]string{call(`"index":0,"id":"functions.f:0","function":{"name":"f","arguments":"{}"}`), choice(`{}`, `"tool_calls"`)}, `start f.` + openai.PlainID("functions.f:0") + `(0) {} stop(0) tool_use{0 0 0 0}`},
		"second choice": {[]string{`{"id":"c1","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"},{"index":1,"delta":{"content":"b"}}]}`}, `start text(0) a stop(0) end_turn{0 0 0 0}`},
	} {
		var got []string
		for _, c := range drain(t, NewTranslator(&played{payloads: tt.payloads}, true, 5)) {
			got = append(got, short(t, c.Data))
		}
		if text := strings.Join(got, " "); text != tt.want+" end" {
			t.Errorf("%s:\ngot  %s\nwant %s end", name, text, tt.want)
		}
	}
	for name, payloads := range map[string][]string{
		"a part that is new": {choice(`{"content":[{"type":"video"}]}`, "null")},
		"a call goes on":     {call(`"index":0,"id":"t1","function":{"name":"f","arguments":"{"}`), call(`"index":1,"id":"t2","function":{"name":"f","arguments":"{}"}`), call(`"index":0,"function":{"arguments":"}"}`)},
		"a wild number":      {call(`"index":99999,"function":{"name":"f"}`)},
	} {
		tr := NewTranslator(&played{payloads: payloads}, true, 5)
		var err error
		for err == nil {
			_, err = tr.Next()
		}
		if err == io.EOF || openai.AsError(err).Code != openai.UpstreamFailed {
			t.Errorf("%s: got %v, want a failure", name, err)
		}
	}
	broken := errors.New("broken")
	tr := NewTranslator(&played{payloads: []string{choice(`{"content":"a"}`, "null")}, err: broken}, true, 5)
	var err error
	for err == nil {
		_, err = tr.Next()
	}
	if err != broken {
		t.Errorf("got %v, want the source's own error", err)
	}
}

// short is an event in a few characters.
func short(t *testing.T, data []byte) string {
	t.Helper()
	var e struct {
		Type, ID     string
		Index        int
		ContentBlock struct{ Type, ID, Name string } `json:"content_block"`
		Delta        struct {
			Text, Thinking string
			Partial        string `json:"partial_json"`
			Stop           string `json:"stop_reason"`
		}
		Usage struct {
			Input  int `json:"input_tokens"`
			Write  int `json:"cache_creation_input_tokens"`
			Read   int `json:"cache_read_input_tokens"`
			Output int `json:"output_tokens"`
		}
	}
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	switch e.Type {
	case "message_start":
		return "start"
	case "content_block_start":
		if e.ContentBlock.Type == "tool_use" {
			return e.ContentBlock.Name + "." + e.ContentBlock.ID + "(" + strconv.Itoa(e.Index) + ")"
		}
		return e.ContentBlock.Type + "(" + strconv.Itoa(e.Index) + ")"
	case "content_block_delta":
		return e.Delta.Text + e.Delta.Thinking + e.Delta.Partial
	case "content_block_stop":
		return "stop(" + strconv.Itoa(e.Index) + ")"
	case "message_delta":
		u := e.Usage
		return e.Delta.Stop + "{" + strings.Join([]string{strconv.Itoa(u.Input), strconv.Itoa(u.Write), strconv.Itoa(u.Read), strconv.Itoa(u.Output)}, " ") + "}"
	}
	return "end"
}

// answer draws what a chat model may say: reasoning, text, calls.
func answer(t *rapid.T) (obj, string) {
	text := func(label string) string { return anyText.Draw(t, label) }
	m := obj{"role": "assistant", "content": text("content")}
	finish := rapid.SampledFrom([]string{"stop", "length", "content_filter"}).Draw(t, "finish")
	if rapid.Bool().Draw(t, "reasons") {
		m["reasoning_content"] = text("reasoning")
	}
	if rapid.Bool().Draw(t, "calls") {
		finish = "tool_calls"
		var calls []any
		for i := range rapid.IntRange(1, 3).Draw(t, "calls") {
			arguments, _ := json.Marshal(obj{"a": text("argument")})
			calls = append(calls, obj{"id": "t" + strconv.Itoa(i), "type": "function", "function": obj{"name": "f", "arguments": string(arguments)}})
		}
		if m["tool_calls"] = calls; rapid.Bool().Draw(t, "silent") {
			m["content"] = nil
		}
	}
	return m, finish
}

// chop cuts a text into pieces as a stream does.
func chop(t *rapid.T, s string) (pieces []string) {
	runes := []rune(s)
	for len(runes) > 0 {
		n := rapid.IntRange(1, len(runes)).Draw(t, "piece")
		pieces, runes = append(pieces, string(runes[:n])), runes[n:]
	}
	return pieces
}

// TestAnswersThereAndBack: an answer in chat comes back from Messages as it was, whole and streamed, in whatever pieces.
func TestAnswersThereAndBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, finish := answer(rt)
		const usage = `{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":2}}`
		body, err := json.Marshal(obj{"id": "c1", "object": "chat.completion", "model": "m", "choices": []any{obj{"index": 0, "message": m, "finish_reason": finish}}, "usage": json.RawMessage(usage)})
		if err != nil {
			rt.Fatal(err)
		}
		whole := drain(t, &once{NewTranslator(&played{payloads: []string{string(body)}, whole: true}, false, 0), false})[0]
		var r Reader
		read, err := r.Whole(whole.Data)
		if err != nil || read.Counted != whole.Usage() || read.Kind != whole.Kind {
			rt.Fatalf("%v: read %b %+v, said %b %+v", err, read.Kind, read.Counted, whole.Kind, whole.Usage())
		}
		back, err := (&ChatWriter{}).Whole(&read)
		if err != nil {
			rt.Fatal(err)
		}
		if got := messageOf(rt, back.Data); !reflect.DeepEqual(got["message"], plain(rt, m)) || got["finish_reason"] != finish || back.Usage() != whole.Usage() {
			rt.Fatalf("got %v, want %v and %s", got, m, finish)
		}
		streamed := assemble(rt, chat(rt, t, drain(t, NewTranslator(&played{payloads: stream(rt, m, finish, usage)}, true, 0))))
		if !reflect.DeepEqual(streamed["message"], plain(rt, m)) || streamed["finish_reason"] != finish {
			rt.Fatalf("streamed %v, want %v and %s", streamed, m, finish)
		}
	})
}

// TestWhole: what an answer that is not streamed says beside its texts and calls.
func TestWhole(t *testing.T) {
	for name, tt := range map[string]struct{ message, finish, usage, want string }{
		"refusal":  {`"content":null,"refusal":"no"`, "stop", ``, `"content":[{"type":"text","text":"no"}],"stop_reason":"refusal","stop_sequence":null,"usage":{}`},
		"odd id":   {`"content":null,"tool_calls":[{"id":"functions.f:0","type":"function","function":{"name":"f","arguments":"{}"}}]`, "tool_calls", ``, `"content":[{"type":"tool_use","id":"` + openai.PlainID("functions.f:0") + `","name":"f","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{}`},
		"cut call": {`"content":"a","tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\":"}}]`, "length", ``, `"content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t1","name":"f","input":{}}],"stop_reason":"max_tokens","stop_sequence":null,"usage":{}`},
		"counts": {`"content":"a"`, "stop", `,"usage":{"prompt_tokens":20,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":3},"cache_creation":{"ephemeral_1h_input_tokens":2},"completion_tokens_details":{"reasoning_tokens":7}}`,
			`"content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":13,"cache_creation_input_tokens":3,"cache_creation":{"ephemeral_5m_input_tokens":1,"ephemeral_1h_input_tokens":2},"cache_read_input_tokens":4,"output_tokens":9,"output_tokens_details":{"thinking_tokens":7}}`},
	} {
		body := `{"id":"c1","choices":[{"index":0,"message":{"role":"assistant",` + tt.message + `},"finish_reason":"` + tt.finish + `"}]` + tt.usage + `}`
		c, err := NewTranslator(&played{payloads: []string{body}, whole: true}, false, 0).Next()
		if want := `{"id":"msg_c1","type":"message","role":"assistant","model":"",` + tt.want + `}`; err != nil || string(c.Data) != want {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, c.Data, want)
		}
	}
	cut := `{"id":"c1","choices":[{"index":0,"message":{"tool_calls":[{"id":"t1","function":{"name":"f","arguments":"{"}}]},"finish_reason":"tool_calls"}]}`
	if c, err := NewTranslator(&played{payloads: []string{cut}, whole: true}, false, 0).Next(); openai.AsError(err).Code != openai.UpstreamFailed {
		t.Errorf("got %s and %v, want a failure: nothing was cut", c.Data, err)
	}
}

// TestThoughtsReturn: a client of chat that gives a message back as it got it gives Claude its thoughts back, streamed or whole.
func TestThoughtsReturn(t *testing.T) {
	const content = `[{"type":"thinking","thinking":"h\nm","signature":"c2ln"},{"type":"redacted_thinking","data":"c2VjcmV0"},{"type":"thinking","thinking":"","signature":"b20="},{"type":"text","text":"ho"}]`
	var events []openai.Chunk
	var r Reader
	var w ChatWriter
	for _, payload := range []string{
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"h\n"}}`, `{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}`, `{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"c2VjcmV0"}}`, `{"type":"content_block_stop","index":1}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"thinking","thinking":"","signature":""}}`, // not shown, but signed
		`{"type":"content_block_delta","index":2,"delta":{"type":"signature_delta","signature":"b20="}}`, `{"type":"content_block_stop","index":2}`,
		`{"type":"content_block_start","index":3,"content_block":{"type":"text","text":"ho"}}`, `{"type":"content_block_stop","index":3}`,
	} {
		c, err := r.Event([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		said, err := w.Event(&c)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, said...)
	}
	var details []any
	for _, ev := range events {
		delta := parsed(t, ev.Data).(obj)["choices"].([]any)[0].(obj)["delta"].(obj)
		if list, ok := delta["reasoning_details"].([]any); ok {
			details = append(details, list...)
		}
	}
	c, err := r.Whole([]byte(`{"id":"msg_1","type":"message","role":"assistant","content":` + content + `,"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}}`))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := w.Whole(&c)
	if err != nil {
		t.Fatal(err)
	}
	message := parsed(t, whole.Data).(obj)["choices"].([]any)[0].(obj)["message"].(obj)
	if !reflect.DeepEqual(details, message["reasoning_details"]) {
		t.Errorf("streamed %v\nwhole    %v", details, message["reasoning_details"])
	}
	back, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	out, err := FromChat([]byte(`{"model":"m","messages":[{"role":"user","content":"hi"},`+string(back)+`,{"role":"user","content":"so?"}]}`), 9)
	if want := `{"role":"assistant","content":` + content + `}`; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: the request is %s, want %s in it", err, out, want)
	}
}

// once ends a source after its first event.
type once struct {
	Source
	done bool
}

func (o *once) Next() (openai.Chunk, error) {
	if o.done {
		return openai.Chunk{}, io.EOF
	}
	o.done = true
	return o.Source.Next()
}

func plain(t *rapid.T, v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, text)
}

func messageOf(t *rapid.T, body []byte) obj {
	return parsed(t, body).(obj)["choices"].([]any)[0].(obj)
}

// stream is an answer in chat, chopped.
func stream(t *rapid.T, m obj, finish, usage string) []string {
	encode := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	out := []string{choice(`{"role":"assistant","content":""}`, "null")}
	for _, name := range []string{"reasoning_content", "content"} {
		if text, ok := m[name].(string); ok {
			for _, p := range chop(t, text) {
				out = append(out, choice(encode(obj{name: p}), "null"))
			}
		}
	}
	calls, _ := m["tool_calls"].([]any)
	for i, c := range calls {
		f := c.(obj)["function"].(obj)
		out = append(out, choice(encode(obj{"tool_calls": []any{obj{"index": i, "id": c.(obj)["id"], "type": "function", "function": obj{"name": f["name"], "arguments": ""}}}}), "null"))
		for _, p := range chop(t, f["arguments"].(string)) {
			out = append(out, choice(encode(obj{"tool_calls": []any{obj{"index": i, "function": obj{"arguments": p}}}}), "null"))
		}
	}
	return append(out, choice(`{}`, strconv.Quote(finish)), `{"id":"c1","choices":[],"usage":`+usage+`}`, "[DONE]")
}

// chat says events of Messages in chat.
func chat(rt *rapid.T, t *testing.T, events []openai.Chunk) (out []openai.Chunk) {
	var r Reader
	var w ChatWriter
	for _, e := range events {
		c, err := r.Event(e.Data)
		if err != nil || c.Name != e.Name {
			rt.Fatalf("%v: %s is %q, said to be %q", err, e.Data, c.Name, e.Name)
		}
		chunks, err := w.Event(&c)
		if err != nil {
			rt.Fatal(err)
		}
		out = append(out, chunks...)
	}
	return out
}

// assemble puts a stream together again.
func assemble(t *rapid.T, chunks []openai.Chunk) obj {
	m, finish := obj{"role": "assistant", "content": ""}, ""
	var calls []any
	for _, c := range chunks {
		if string(c.Data) == "[DONE]" {
			continue
		}
		choices := parsed(t, c.Data).(obj)["choices"].([]any)
		if len(choices) == 0 {
			continue
		}
		one := choices[0].(obj)
		if s, ok := one["finish_reason"].(string); ok {
			finish = s
		}
		delta := one["delta"].(obj)
		for _, name := range []string{"content", "reasoning_content"} {
			if s, ok := delta[name].(string); ok && s != "" {
				before, _ := m[name].(string)
				m[name] = before + s
			}
		}
		pieces, _ := delta["tool_calls"].([]any)
		for _, v := range pieces {
			call := v.(obj)
			f := call["function"].(obj)
			if i := int(call["index"].(float64)); i == len(calls) {
				calls = append(calls, call)
				delete(call, "index")
			} else {
				to := calls[i].(obj)["function"].(obj)
				to["arguments"] = to["arguments"].(string) + f["arguments"].(string)
			}
		}
	}
	if calls != nil {
		if m["tool_calls"] = calls; m["content"] == "" {
			m["content"] = nil
		}
	}
	return obj{"message": m, "finish_reason": finish}
}

// FuzzEvents feeds streams of both dialects, line by line, to all that reads and writes them.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"type":"message_start","message":{"id":"m","usage":{"input_tokens":1,"cache_creation":{"ephemeral_1h_input_tokens":2}}}}` + "\n" + `{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f"}}` + "\n" + `{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}` + "\n" + `{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":3}}` + "\n" + `{"type":"message_stop"}`))
	f.Add([]byte(choice(`{"content":"a","tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{"}}]}`, `"stop"`) + "\n" + `{"type":"message","content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t","name":"f","input":{}}],"stop_reason":"end_turn","usage":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r Reader
		var w Writer
		var cw ChatWriter
		var out []byte
		lines := bytes.Split(text, []byte("\n"))
		for _, line := range lines {
			if c, err := r.Event(line); err == nil {
				out = w.AppendEvent(out, &c)
				chunks, err := cw.Event(&c)
				for _, c := range chunks {
					if err == nil && string(c.Data) != "[DONE]" && !json.Valid(c.Data) {
						t.Fatalf("%q: not JSON: %s", line, c.Data)
					}
				}
			}
			if c, err := r.Whole(line); err == nil {
				body, err := w.AppendWhole(nil, &c, openai.Final{Explain: []byte("{}")})
				if err == nil && !json.Valid(body) {
					t.Fatalf("%q: not JSON: %s", line, body)
				}
				if c, err := cw.Whole(&c); err == nil && !json.Valid(c.Data) {
					t.Fatalf("%q: not JSON: %s", line, c.Data)
				}
			}
			if c, err := openai.ParseChunk(line); err == nil {
				if body, err := message(&c); err == nil && !json.Valid(body) {
					t.Fatalf("%q: not JSON: %s", line, body)
				}
			}
		}
		out = w.AppendEnd(out, openai.Final{}, nil)
		for e := range bytes.SplitSeq(bytes.TrimSpace(out), []byte("\n\n")) {
			if _, data, ok := bytes.Cut(e, []byte("data: ")); !ok || !json.Valid(data) {
				t.Fatalf("%q: not an event: %q", text, e)
			}
		}
		tr := NewTranslator(&played{payloads: strings.Split(string(text), "\n")}, true, 1)
		for range 10 * len(text) {
			c, err := tr.Next()
			if err != nil {
				return
			}
			if !json.Valid(c.Data) {
				t.Fatalf("%q: not JSON: %s", text, c.Data)
			}
		}
	})
}
