package serving_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/anthropic"
	"github.com/tradewind-llm/tradewind/serving/upstream/bedrock"
	"github.com/tradewind-llm/tradewind/serving/upstream/google"
)

// agentBody is a request as coding agents send it: thirty tools with schemas, a long system prompt, some turns with calls.
func agentBody() []byte {
	var b strings.Builder
	b.WriteString(`{"model":"auto","max_tokens":1000,"tools":[`)
	for i := range 30 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"type":"function","function":{"name":"tool_%d","description":%q,"parameters":{"type":"object","properties":{`, i, strings.Repeat("Does one thing well. ", 40))
		for k := range 8 {
			fmt.Fprintf(&b, `"field_%d":{"type":"string","description":%q},`, k, strings.Repeat("What it is for. ", 6))
		}
		b.WriteString(`"last":{"type":"array","items":{"type":"string","enum":["a","b"]}}},"required":["last"]}}}`)
	}
	fmt.Fprintf(&b, `],"messages":[{"role":"system","content":%q}`, strings.Repeat("You are careful and you say what you do. ", 400))
	for i := range 8 {
		fmt.Fprintf(&b, `,{"role":"user","content":"Look at file %d."},{"role":"assistant","content":null,"tool_calls":[{"id":"c%d","type":"function","function":{"name":"tool_1","arguments":"{\"last\":[\"a\"]}"}}]},{"role":"tool","tool_call_id":"c%d","content":%q},{"role":"assistant","content":"Done."}`,
			i, i, i, strings.Repeat("line of a file\n", 40))
	}
	b.WriteString(`,{"role":"user","content":"Go on."}]}`)
	return []byte(b.String())
}

// lacking is a vendor of another dialect that counts how often it has to try.
type lacking struct {
	*vendor
	field string
	asked *atomic.Int64
}

func (l lacking) Speaks(openai.Dialect) bool { return false }
func (l lacking) Lacks([]byte) string {
	l.asked.Add(1)
	return l.field
}

// TestOnlyThoseInQuestionTry: a provider tries whether it can be told a request only where it may serve it, and then once.
func TestOnlyThoseInQuestionTry(t *testing.T) {
	arms := append(threeArms(), catalog.Arm{ID: "two/other", Tier: catalog.TierLarge, Prices: threeArms()[1].Prices, Capabilities: catalog.Tools})
	more := `,"tools":[{"type":"function","function":{"name":"f"}}]`
	for _, tt := range []struct {
		model, more, field string
		settings           serving.Settings
		one, two           int64 // how often the two providers try
		status             int
	}{
		{"auto", more, "", serving.Settings{}, 1, 1, 200},
		{"auto", "", "", serving.Settings{}, 0, 0, 200},
		{"one/cheap", more, "", serving.Settings{}, 1, 0, 200},
		{"cheap", more, "", serving.Settings{}, 1, 0, 200},
		{"cheap:floor", more, "", serving.Settings{}, 1, 0, 200},
		{"three/dear", more, "", serving.Settings{}, 0, 0, 200},
		{"one/cheap", more + `,"models":["two/middle"]`, "", serving.Settings{}, 1, 1, 200},
		{"three/dear", more, "", serving.Settings{Fallbacks: map[string][]string{"three/dear": {"two/middle"}}}, 1, 1, 200},
		{"mine", more, "", serving.Settings{Aliases: map[string][]string{"mine": {"two/middle", "three/dear"}}}, 1, 1, 200},
		{"one/cheap", more, "tools", serving.Settings{}, 1, 0, 400},
		{"cheap", more, "tools", serving.Settings{}, 1, 0, 400},
	} {
		one, two := lacking{&vendor{}, tt.field, new(atomic.Int64)}, lacking{&vendor{}, tt.field, new(atomic.Int64)}
		w := newWorld(t, setup{arms: arms, providers: map[string]upstream.Provider{"one": one, "two": two, "three": &vendor{}}, options: serving.Options{Settings: tt.settings}})
		a := w.chat(ask(tt.model, tt.more))
		if n, m := one.asked.Load(), two.asked.Load(); a.status != tt.status || n != tt.one || m != tt.two {
			t.Errorf("%s%s: status %d, tried %d and %d times, want %d, %d and %d: %s", tt.model, tt.more, a.status, n, m, tt.status, tt.one, tt.two, a.body)
		}
		if tt.status == 400 && !strings.Contains(a.body, "tools cannot be said to any model") {
			t.Errorf("%s: %s", tt.model, a.body)
		}
	}
}

// BenchmarkLacks is what it costs to ask providers of other dialects than chat whether they can be told an agent's request, and
// beside it what it costs to read the request at all.
func BenchmarkLacks(b *testing.B) {
	body := agentBody()
	b.Run("Decode", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := openai.Decode(body, openai.DecodeOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, p := range map[string]interface{ Lacks([]byte) string }{
		"anthropic": must(anthropic.New(anthropic.Options{BaseURL: "https://x.invalid", Key: "k"}))(b),
		"google":    must(google.New(google.Options{BaseURL: "https://x.invalid", Key: "k"}))(b),
		"bedrock":   must(bedrock.New(bedrock.Options{Region: "eu-central-1", Token: "k"}))(b),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if field := p.Lacks(body); field != "" {
					b.Fatal(field)
				}
			}
		})
	}
}
