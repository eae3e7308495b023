package serving_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/classifier/policy"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/anthropic"
	"github.com/tradewind-llm/tradewind/serving/upstream/bedrock"
	"github.com/tradewind-llm/tradewind/serving/upstream/google"
	"github.com/tradewind-llm/tradewind/serving/upstream/openaicompat"
)

// babel is a gateway before a server that answers in the dialect of every path, at arms that do without a field (named easy) and
// arms that do not. down are the parts of a path whose vendor is out of order.
func babel(t *testing.T, bodies *[]string, down string) *world {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*bodies = append(*bodies, string(body))
		w.Header().Set("Content-Type", "application/json")
		switch path := r.URL.Path; {
		case down != "" && strings.Contains(path, down):
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasSuffix(path, "/messages"):
			_, _ = io.WriteString(w, claudeWhole)
		case strings.HasSuffix(path, ":generateContent"):
			_, _ = io.WriteString(w, `{"candidates":[{"content":{"role":"model","parts":[{"text":"391"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":3,"totalTokenCount":10}}`)
		case strings.HasSuffix(path, "/converse"):
			_, _ = io.WriteString(w, `{"output":{"message":{"role":"assistant","content":[{"text":"391"}]}},"stopReason":"end_turn","usage":{"inputTokens":7,"outputTokens":3,"totalTokens":10}}`)
		case strings.HasSuffix(path, "/responses"):
			_, _ = io.WriteString(w, `{"id":"resp_1","object":"response","status":"completed","model":"m","output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"391","annotations":[]}]}],"usage":{"input_tokens":7,"output_tokens":3,"total_tokens":10}}`)
		default:
			_, _ = io.WriteString(w, whole("391", `{"prompt_tokens":7,"completion_tokens":3}`))
		}
	}))
	t.Cleanup(server.Close)
	providers := map[string]upstream.Provider{
		"anthropic": must(anthropic.New(anthropic.Options{BaseURL: server.URL + "/v1", Key: "k"}))(t),
		"google":    must(google.New(google.Options{BaseURL: server.URL + "/v1beta", Key: "k"}))(t),
		"amazon":    must(bedrock.New(bedrock.Options{BaseURL: server.URL, Region: "us-east-1", Token: "k"}))(t),
		"openai":    must(openaicompat.New(openaicompat.Options{BaseURL: server.URL + "/v1", Responses: true}))(t),
		"one":       must(openaicompat.New(openaicompat.Options{BaseURL: server.URL + "/one"}))(t),
	}
	var arms []catalog.Arm
	for name, p := range providers {
		t.Cleanup(func() { _ = p.(io.Closer).Close() })
		strict := catalog.Arm{ID: catalog.ArmID(name + "/strict"), Tier: catalog.TierLarge, ContextTokens: 8000, MaxOutputTokens: 1000, Capabilities: catalog.Tools, Prices: catalog.Flat(1_000_000, 2_000_000)}
		if name == "openai" {
			strict.Refuses = "temperature,stop"
		}
		easy := strict
		easy.ID, easy.DropParams = catalog.ArmID(name+"/easy"), true
		arms = append(arms, strict, easy)
	}
	return newWorld(t, setup{arms: arms, providers: providers})
}

const aTool = `,"tools":[{"type":"function","function":{"name":"f"}}]`

// TestDroppedParams: an arm whose operator wants that is asked without what it cannot be told, where the answer stays what it is;
// and the client hears of it.
func TestDroppedParams(t *testing.T) {
	const chat, messages, responses = "/v1/chat/completions", "/v1/messages", "/v1/responses"
	for _, tt := range []struct {
		path, model, more string
		dropped           string // or, of a request that is refused, the field that is to blame
		sent              string // what is left
	}{
		{chat, "anthropic/easy", `,"seed":1,"top_k":3,"frequency_penalty":0.5,"logit_bias":{"5":1},"user":"u"`, "seed,frequency_penalty,logit_bias", `"top_k":3`},
		{chat, "anthropic/easy", `,"temperature":1.5,"top_p":0.5`, "temperature", `"top_p":0.5`},
		{chat, "anthropic/easy", `,"temperature":0.5`, "", `"temperature":0.5`},
		{chat, "anthropic/easy", `,"\u0073eed":1`, "seed", `"messages"`},
		{chat, "anthropic/easy", `,"service_tier":"flex","verbosity":"low","prediction":{"type":"content","content":"x"}`, "service_tier,verbosity,prediction", `"messages"`},
		{chat, "anthropic/strict", `,"seed":1`, "400 seed", ""},
		{chat, "anthropic/easy", `,"seed":1,"n":2`, "400 n", ""},
		{chat, "anthropic/easy", `,"seed":1,"logprobs":true`, "400 logprobs", ""},
		{chat, "anthropic/easy", `,"response_format":{"type":"json_object"}`, "400 response_format", ""},
		{chat, "google/easy", aTool + `,"verbosity":"low","seed":1,"logit_bias":{"5":1}`, "verbosity,logit_bias", `"seed":1`},
		{chat, "google/easy", `,"stop":["1","2","3","4","5","6"]`, "400 stop", ""},
		{chat, "google/strict", aTool + `,"verbosity":"low"`, "400 verbosity", ""},
		{chat, "google/strict", aTool + `,"parallel_tool_calls":false`, "", `"functionDeclarations"`}, // its answer is cut to one call
		{chat, "amazon/easy", `,"seed":1,"temperature":1.5,"top_p":0.5,"presence_penalty":1`, "seed,temperature,presence_penalty", `"topP":0.5`},
		{chat, "amazon/strict", `,"seed":1`, "400 seed", ""},
		// What a vendor of OpenAI's protocol does not take is what was declared.
		{chat, "openai/easy", `,"temperature":0.5,"seed":1`, "temperature", `"seed":1`},
		{chat, "openai/easy", `,"temperature":null,"seed":1`, "", `"seed":1`},
		{chat, "openai/easy", `,"temperature":0.5,"stop":"x"`, "400 stop", ""},
		{chat, "openai/strict", `,"temperature":0.5`, "400 temperature", ""},
		// The client's word outranks the operator's leave.
		{chat, "openai/easy", `,"temperature":0.5,"provider":{"require_parameters":true}`, "400 temperature", ""},
		{chat, "anthropic/easy", `,"seed":1,"provider":{"require_parameters":true}`, "400 seed", ""},
		{messages, "openai/easy", `,"max_tokens":9,"top_k":3,"provider":{"require_parameters":true}`, "400 top_k", ""},
		{responses, "openai/easy", `,"temperature":0.5,"provider":{"require_parameters":true}`, "400 temperature", ""},
		{chat, "openai/easy", `,"temperature":0.5,"provider":{"require_parameters":false}`, "temperature", `"messages"`},
		{chat, "one/easy", `,"temperature":0.5,"seed":1`, "", `"temperature":0.5,"seed":1`},
		{messages, "openai/easy", `,"max_tokens":9,"top_k":3,"temperature":0.5,"top_p":0.4`, "temperature,top_k", `"top_p":0.4`},
		{messages, "openai/strict", `,"max_tokens":9,"top_k":3`, "400 top_k", ""},
		{messages, "openai/easy", `,"max_tokens":9,"top_k":3,"mystery":1`, "400 mystery", ""},
		{messages, "anthropic/easy", `,"max_tokens":9,"top_k":3`, "", `"top_k":3`},
		{messages, "amazon/easy", `,"max_tokens":9,"top_k":3,"service_tier":"fast"`, "top_k,service_tier", `"maxTokens":9`},
		{responses, "openai/easy", `,"temperature":0.5,"top_p":0.4`, "temperature", `"top_p":0.4`},
		{responses, "anthropic/easy", `,"temperature":1.5,"top_p":0.4,"text":{"verbosity":"low"}`, "temperature,verbosity", `"top_p":0.4`},
		{responses, "anthropic/easy", `,"top_logprobs":3`, "400 top_logprobs", ""},
	} {
		var bodies []string
		w := babel(t, &bodies, "")
		body := ask(tt.model, tt.more)
		if tt.path == responses {
			body = asked(tt.model, tt.more)
		}
		a := w.do("POST", tt.path, body)
		if field, refused := strings.CutPrefix(tt.dropped, "400 "); refused {
			if a.status != 400 || !strings.Contains(a.body, field+" cannot be said") || len(bodies) > 0 {
				t.Errorf("%s %s: %d %s", tt.model, tt.more, a.status, a.body)
			}
			continue
		}
		if a.wantOK(); len(bodies) != 1 || a.header.Get("X-Tradewind-Dropped-Params") != tt.dropped || !strings.Contains(bodies[0], tt.sent) {
			t.Errorf("%s %s: dropped %q of %v, want %q and %s", tt.model, tt.more, a.header.Get("X-Tradewind-Dropped-Params"), bodies, tt.dropped, tt.sent)
			continue
		}
		for _, field := range strings.Split(tt.dropped, ",") {
			if field != "" && strings.Contains(bodies[0], `"`+field+`"`) {
				t.Errorf("%s %s: the vendor was sent %s", tt.model, tt.more, bodies[0])
			}
		}
	}
}

// TestDroppedForOneArm: only the arm that cannot be told a field is asked without it, and what the client hears is about the arm
// that answered.
func TestDroppedForOneArm(t *testing.T) {
	for _, tt := range []struct{ first, second, dropped string }{
		{"anthropic/easy", "one/strict", ""}, {"one/strict", "anthropic/easy", "seed"}, {"google/easy", "amazon/easy", "seed"},
	} {
		down := map[string]string{"anthropic/easy": "messages", "one/strict": "/one/", "google/easy": "generate"}[tt.first]
		var bodies []string
		w := babel(t, &bodies, down)
		a := w.chat(ask(tt.first, fmt.Sprintf(`,"seed":17,"models":[%q]`, tt.second))).wantOK()
		if got := a.header.Get("X-Tradewind-Dropped-Params"); got != tt.dropped || a.header.Get("X-Tradewind-Model") != tt.second || len(bodies) != 2 {
			t.Errorf("%s, then %s: %s dropped %q, want %q, of %v", tt.first, tt.second, a.header.Get("X-Tradewind-Model"), got, tt.dropped, bodies)
			continue
		}
		knows := []string{"one/strict", "google/easy"}
		for i, arm := range []string{tt.first, tt.second} {
			if strings.Contains(bodies[i], `"seed":17`) != slices.Contains(knows, arm) {
				t.Errorf("%s was sent %s", arm, bodies[i])
			}
		}
	}
	// Where the router chooses, whoever can be told all of it and whoever does without may serve; a dry run says the same.
	var bodies []string
	w := babel(t, &bodies, "")
	body := ask("auto", `,"seed":17,"tradewind":{"explore":false}`)
	w.shownAlike(w.chat(body).wantOK(), body, map[catalog.ArmID]policy.Filter{
		"anthropic/strict": "param_unsupported", "amazon/strict": "param_unsupported", "anthropic/easy": "", "amazon/easy": "", "one/strict": "", "google/strict": "",
	})
}
