package serving_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/anthropic"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/responses"
)

// TestDecodersKeepToTheirMemory is P22: whatever a body of a megabyte is made of, what is kept of it is no more than four times its length
// and a megabyte.
func TestDecodersKeepToTheirMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("one after the other: nothing for the race detector")
	}
	const size = 1 << 20
	fill := func(head, piece, tail string) []byte {
		n := (size - len(head) - len(tail)) / len(piece)
		return []byte(head + strings.Repeat(piece, n) + tail)
	}
	deep := strings.Repeat("[", 60) + strings.Repeat("]", 60) + ","
	shapes := map[string][3]string{
		"one text":          {`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"`, `word `, `"}]}`},
		"escapes":           {`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"`, `\u00e9`, `"}]}`},
		"parts":             {`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":[`, `{"type":"text","text":"` + strings.Repeat("x", 280) + `"},`, `{"type":"text","text":"b"}]}]}`},
		"messages":          {`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"},`, `{"role":"user","content":"` + strings.Repeat("x", 60) + `"},`, `{"role":"user","content":"b"}]}`},
		"tools":             {`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}],"tools":[`, `{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"description":"` + strings.Repeat("x", 120) + `"}}},`, `{"type":"function","function":{"name":"g"}}]}`},
		"an unknown field":  {`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}],"x":[`, `{"a":[1,2.5e3,null,true]},`, `0]}`},
		"brackets":          {`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}],"x":[`, deep, `0]}`},
		"spaces":            {`{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}]`, ` `, `}`},
		"inputs":            {`{"model":"m","input":["a",`, `"` + strings.Repeat("x", 600) + `",`, `"b"]}`},
		"items":             {`{"model":"m","input":[`, `{"role":"user","content":[{"type":"input_text","text":"` + strings.Repeat("x", 60) + `"}]},`, `{"role":"user","content":"b"}]}`},
		"token ids":         {`{"model":"m","input":[1,`, `5,`, `7]}`},
		"not JSON":          {`{"model":"m","messages":`, `{"a":`, ``},
		"an unclosed array": {`{"model":"m","messages":[`, `[`, ``},
	}
	for name, decode := range map[string]func([]byte) (any, error){
		"chat":       func(b []byte) (any, error) { return openai.Decode(b, openai.DecodeOptions{}) },
		"embeddings": func(b []byte) (any, error) { return openai.DecodeEmbeddings(b, openai.DecodeOptions{}) },
		"messages":   func(b []byte) (any, error) { return anthropic.Decode(b, openai.DecodeOptions{}) },
		"responses":  func(b []byte) (any, error) { return responses.Decode(b, openai.DecodeOptions{}) },
	} {
		accepted := 0
		for shape, s := range shapes {
			body := fill(s[0], s[1], s[2])
			before := heap()
			r, err := decode(body)
			held := heap() - before
			runtime.KeepAlive(r)
			runtime.KeepAlive(body)
			if err == nil {
				accepted++
			}
			if most := int64(4*len(body) + 1<<20); held > most {
				t.Errorf("%s of %s: %d bytes hold %d: %v", name, shape, len(body), held, err)
			}
		}
		if accepted == 0 {
			t.Errorf("%s: nothing was read to its end", name)
		}
	}
}

// heap is what is alive.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
