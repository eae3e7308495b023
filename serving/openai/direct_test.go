package openai

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestDecodeDirect: what may be billed of requests that are passed through, and what the vendor gets.
func TestDecodeDirect(t *testing.T) {
	u := Upstream{Model: "m", MaxOutput: 100, ForceUsage: true}
	for _, tt := range []struct {
		decode func([]byte, DecodeOptions) (*Request, error)
		body   string
		// input is the bound of input tokens, n the answers and most the tokens of each.
		input     int64
		n, most   int
		u         Upstream
		forwarded string
	}{
		{DecodeEmbeddings, `{"model":"a/b","input":"h\u00e9llo","dimensions":256,"encoding_format":"base64","user":"u","tradewind":{"tags":{"a":"b"}},"models":null}`,
			6 + 4 + int64(len(`"base64"`)), 1, 0, Upstream{Model: "m"}, `{"model":"m","input":"h\u00e9llo","dimensions":256,"encoding_format":"base64","user":"u"}`},
		{DecodeEmbeddings, `{"input":["one","three"],"model":"b"}`, 8 + 2*4, 1, 0, Upstream{Model: "m"}, `{"input":["one","three"],"model":"m"}`},
		{DecodeEmbeddings, `{"model":"b","input":[1, 20, 300]}`, 3 + 4, 1, 0, Upstream{Model: "m"}, `{"model":"m","input":[1, 20, 300]}`},
		{DecodeEmbeddings, `{"model":"b","input":[[1,2],[3]]}`, 3 + 2*4, 1, 0, Upstream{Model: "m"}, `{"model":"m","input":[[1,2],[3]]}`},
		// What another form reads is only passed on here.
		{DecodeEmbeddings, `{"model":"b","input":"","messages":7,"Stream":[true],"prompt":"four"}`, 4 + int64(len(`[true]"four"`)), 1, 0, Upstream{Model: "m"}, `{"model":"m","input":"","messages":7,"Stream":[true],"prompt":"four"}`},
		{DecodeCompletions, `{"model":"b","prompt":"hi"}`, 2 + 4, 1, 16, u, `{"model":"m","prompt":"hi","max_tokens":16}`},
		{DecodeCompletions, `{"model":"b","prompt":"hi","max_tokens":null,"suffix":"end","echo":true}`, 2 + 4 + 5, 1, 16, u, `{"model":"m","prompt":"hi","suffix":"end","echo":true,"max_tokens":16}`},
		{DecodeCompletions, `{"model":"b","prompt":["a","b","c"],"max_tokens":900,"n":2,"best_of":3,"stream":true}`, 3 + 12, 9, 900, u,
			`{"model":"m","prompt":["a","b","c"],"max_tokens":100,"n":2,"best_of":3,"stream":true,"stream_options":{"include_usage":true}}`},
		{DecodeCompletions, `{"model":"b","prompt":[5],"max_completion_tokens":7,"n":4}`, 1 + 4, 4, 7, u, `{"model":"m","prompt":[5],"max_completion_tokens":7,"n":4}`},
	} {
		r, err := tt.decode([]byte(tt.body), DecodeOptions{})
		if err != nil {
			t.Errorf("%s: %v", tt.body, err)
			continue
		}
		if r.InputBound() != tt.input || r.N != tt.n || r.MaxTokens != tt.most || r.Plain() {
			t.Errorf("%s: at most %d in, %d answers of %d; want %d, %d, %d", tt.body, r.InputBound(), r.N, r.MaxTokens, tt.input, tt.n, tt.most)
		}
		if got := string(r.AppendUpstream(nil, tt.u)); got != tt.forwarded {
			t.Errorf("%s\ngot  %s\nwant %s", tt.body, got, tt.forwarded)
		}
	}
}

func TestDecodeDirectRefuses(t *testing.T) {
	list := func(one string, n int) string { return "[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]" }
	for _, tt := range []struct{ input, want string }{
		{`null`, "string or an array, not null"}, {`7`, "not a number"}, {`{"a":1}`, "not an object"}, {`[]`, "must not be empty"}, {`[[]]`, "[0] must not be empty"},
		{`[1,"a"]`, "token ids, not a string"}, {`["a",1]`, "[1] must be a string or an array of token ids, not a number"}, {`[[1],"a",{}]`, "[2] must be"},
		{`[[1,"a"]]`, "token ids, not a string"}, {`[[[1]]]`, "not an array"}, {`[1.5]`, `"1.5" among`}, {`[-1]`, `"-1" among`}, {`[01]`, "not a valid JSON object"},
		{`[1`, "not a valid JSON object"}, {`["a`, "unexpected end"}, {`[true]`, "not a boolean"},
		{list(`"a"`, InputsMax+1), "at most 2048 texts"}, {list(`[1]`, InputsMax+1), "at most 2048 texts"}, {list("1", InputTokensMax+1), "at most 1048576 token ids"},
	} {
		for name, decode := range map[string]func([]byte, DecodeOptions) (*Request, error){"input": DecodeEmbeddings, "prompt": DecodeCompletions} {
			_, err := decode([]byte(`{"model":"m","`+name+`":`+tt.input+`}`), DecodeOptions{})
			if e := AsError(err); err == nil || e.Status != 400 || !strings.Contains(e.Message, tt.want) || !strings.Contains(tt.want, "JSON") && !strings.Contains(tt.want, "end") && !strings.HasPrefix(e.Param, name) {
				t.Errorf("%s %.40s: %v (%s), want %q", name, tt.input, err, e.Param, tt.want)
			}
		}
	}
	for _, at := range []string{list(`"a"`, InputsMax), list(`[1]`, InputsMax), list("1", InputTokensMax)} {
		if _, err := DecodeEmbeddings([]byte(`{"model":"m","input":`+at+`}`), DecodeOptions{}); err != nil {
			t.Errorf("at the limit: %v", err)
		}
	}
	for body, param := range map[string]string{`{"input":"x"}`: "model", `{"model":"m"}`: "input", `{"model":"m","Input":"x"}`: "input", `{"model":"m","input":"x","tradewind":{"x":1}}`: "tradewind.x"} {
		if _, err := DecodeEmbeddings([]byte(body), DecodeOptions{}); AsError(err).Param != param {
			t.Errorf("%s: %v", body, err)
		}
	}
	for more, param := range map[string]string{`"n":0`: "n", `"best_of":129`: "best_of", `"max_tokens":0`: "max_tokens", `"stream":1`: "stream"} {
		if _, err := DecodeCompletions([]byte(`{"model":"m","prompt":"x",`+more+`}`), DecodeOptions{}); AsError(err).Param != param {
			t.Errorf("%s: %v", more, err)
		}
	}
}

// A chat request may hold what the other forms are asked in, which is only passed on.
func TestChatKnowsNoInput(t *testing.T) {
	r := decode(t, `{"model":"m","input":[{}],"Prompt":7,"best_of":"x",`+messages+`}`)
	if got, want := string(r.AppendUpstream(nil, Upstream{Model: "m"})), `{"model":"m","input":[{}],"Prompt":7,"best_of":"x",`+messages+`}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzDecodeDirect(f *testing.F) {
	f.Add([]byte(`{"model":"m","input":["h\u00e9",""],"prompt":[[1,2],[30]],"n":2,"best_of":3,"stream":true}`))
	f.Add([]byte(`{"model":"m","input":[1,2,3],"prompt":"x","max_tokens":7,"tradewind":{"allow":["*"]},"dimensions":9}`))
	f.Add([]byte(`{"model":"auto","input":"x","prompt":["a",[1]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 1<<16 {
			return
		}
		for name, decode := range map[string]func([]byte, DecodeOptions) (*Request, error){"input": DecodeEmbeddings, "prompt": DecodeCompletions} {
			r, err := decode(body, DecodeOptions{})
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || !utf8.ValidString(e.Message) {
					t.Fatalf("error %v is not for the wire", err)
				}
				continue
			}
			var want, got map[string]json.RawMessage
			if err := json.Unmarshal(body, &want); err != nil {
				t.Fatalf("accepted what encoding/json refuses: %v", err)
			}
			texts, ids, inputs := counted(t, want[name])
			if r.inputs != inputs || r.inputTokens != ids || r.bytesOfText != texts || r.InputBound() < texts+ids {
				t.Fatalf("%s: %d inputs of %d bytes and %d ids, want %d, %d, %d", body, r.inputs, r.bytesOfText, r.inputTokens, inputs, texts, ids)
			}
			sent := r.AppendUpstream(nil, Upstream{Model: "vendor-model", MaxOutput: r.MaxTokens, ForceUsage: true})
			if err := json.Unmarshal(sent, &got); err != nil || string(got["model"]) != `"vendor-model"` {
				t.Fatalf("AppendUpstream wrote %s: %v", sent, err)
			}
			if g, w := without(got, ours...), without(want, ours...); !reflect.DeepEqual(g, w) {
				t.Fatalf("other fields: got %v, want %v", g, w)
			}
		}
	})
}

// counted are the bytes, the token ids and the number of the inputs, as encoding/json reads them.
func counted(t *testing.T, raw []byte) (texts, ids int64, inputs int) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	list, ok := v.([]any)
	if _, flat := append(list, nil)[0].(float64); !ok || flat {
		list = []any{v}
	}
	for _, one := range list {
		switch one := one.(type) {
		case string:
			texts += int64(len(one))
		case []any:
			ids += int64(len(one))
		default:
			t.Fatalf("%v was accepted", one)
		}
	}
	return texts, ids, len(list)
}
