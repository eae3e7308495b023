package openai

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/models/catalog"
)

func price(usd string) *catalog.PerMTok {
	p, err := catalog.ParsePerMillion(usd)
	if err != nil {
		panic(err)
	}
	return (*catalog.PerMTok)(&p)
}

// TestProvider: what is said of providers, in either dialect, comes to the same.
func TestProvider(t *testing.T) {
	call := catalog.Nanodollars(5e6)
	for body, want := range map[string]Options{
		`"provider":{"order":["b","a"]}`: {Provider: &Preferences{Order: []string{"b", "a"}}},
		`"provider":{"allow_fallbacks":false,"order":["b","a"]}`: {
			Provider: &Preferences{Order: []string{"b", "a"}, Alone: true}, Fallback: No,
		},
		`"provider":{"order":["b"],"only":["a","b"],"ignore":["c"],"allow_fallbacks":true}`: {
			Provider: &Preferences{Order: []string{"b"}}, Allow: [][]string{{"a/*", "b/*"}}, Deny: []string{"c/*"},
		},
		`"provider":{"order":[],"max_price":null,"zdr":false,"data_collection":"allow","require_parameters":false}`: {},
		`"provider":{"data_collection":"deny"}`:                {Provider: &Preferences{Data: catalog.NoCollection}},
		`"provider":{"data_collection":"deny","zdr":true}`:     {Provider: &Preferences{Data: catalog.ZeroRetention}},
		`"provider":{"quantizations":["fp8","bf16"]}`:          {Provider: &Preferences{Quantizations: []string{"fp8", "bf16"}}},
		`"provider":{"max_price":{"prompt":1,"request":null}}`: {Provider: &Preferences{MaxPrice: MaxPrice{Prompt: price("1")}}},
		`"provider":{"max_price":{"prompt":"0.25","completion":15e-1,"request":"0.005"}}`: {
			Provider: &Preferences{MaxPrice: MaxPrice{price("0.25"), price("1.5"), &call}},
		},
		`"provider":{"preferred_max_latency":2.5,"preferred_min_throughput":{"p90":20,"p75":30,"p50":null}}`: {
			Provider: &Preferences{MaxLatency: Preferred{P50: 2.5}, MinThroughput: Preferred{P90: 20}},
		},
		`"provider":{"preferred_max_latency":{"p50":1,"p99":4}}`: {Provider: &Preferences{MaxLatency: Preferred{1, 4}}},
		`"providerOptions":{"gateway":{"order":["b","a"],"only":["a","b"]}}`: {
			Provider: &Preferences{Order: []string{"b", "a"}}, Allow: [][]string{{"a/*", "b/*"}},
		},
		`"providerOptions":{"gateway":{"order":["a"],"only":["a","b"]}},"provider":{"order":["b"],"only":["b","c"]}`: {
			Provider: &Preferences{Order: []string{"b"}}, Allow: [][]string{{"a/*", "b/*"}, {"b/*", "c/*"}},
		},
		`"provider":{"order":["b"]},"providerOptions":{"gateway":{"order":["a"]}}`: {Provider: &Preferences{Order: []string{"b"}}},
		`"providerOptions":{"gateway":null}`:                                       {},
		`"num_retries":0`:                                                          {Attempts: 1},
		`"num_retries":2`:                                                          {Attempts: 3},
		`"num_retries":null`:                                                       {},
	} {
		r := decode(t, `{"model":"auto",`+messages+`,`+body+`}`)
		if !reflect.DeepEqual(r.Tradewind, want) {
			t.Errorf("%s\ngot  %+v, %+v\nwant %+v, %+v", body, r.Tradewind, r.Tradewind.Provider, want, want.Provider)
		}
		if sent := string(r.AppendUpstream(nil, Upstream{Model: "m"})); sent != `{"model":"m",`+messages+`}` {
			t.Errorf("%s is handed on: %s", body, sent)
		}
	}
}

// TestThroughput: tokens per second are asked for by the lowest of the levels, so any other strategy takes their place.
func TestThroughput(t *testing.T) {
	for body, want := range map[string]bool{
		`"model":"auto","provider":{"sort":"throughput"}`:             true,
		`"model":"auto","providerOptions":{"gateway":{"sort":"tps"}}`: true,
		`"model":"a/b:nitro"`:                                                                true,
		`"model":"auto:nitro"`:                                                               true,
		`"model":"auto","provider":{"sort":"latency"}`:                                       false,
		`"model":"auto","providerOptions":{"gateway":{"sort":"ttft"}}`:                       false,
		`"model":"auto:latency","provider":{"sort":"throughput"}`:                            false,
		`"model":"auto","provider":{"sort":"throughput"},"tradewind":{"strategy":"latency"}`: false,
		`"model":"auto","providerOptions":{"gateway":{"sort":"cost"}}`:                       false,
	} {
		r := decode(t, `{`+body+`,`+messages+`}`)
		cost := strings.Contains(body, `"cost"`)
		if r.Throughput() != want || (r.Strategy() == StrategyLatency) == cost {
			t.Errorf("%s: %v, %s", body, r.Throughput(), r.Strategy())
		}
	}
}

// TestProviderRefuses names the member that cannot be kept, with the nearest that can.
func TestProviderRefuses(t *testing.T) {
	for body, want := range map[string]struct {
		param string
		code  Code
		says  string
	}{
		`"provider":[]`:                                          {"provider", InvalidRequest, "an object"},
		`"provider":{"order":"a"}`:                               {"provider.order", InvalidRequest, "an array"},
		`"provider":{"ordr":["a"]}`:                              {"provider.ordr", UnsupportedRoutingField, `"order"`},
		`"provider":{"enforce_distillable_text":true}`:           {"provider.enforce_distillable_text", UnsupportedRoutingField, "supported"},
		`"provider":{"sort":"speed"}`:                            {"provider.sort", UnsupportedRoutingField, "throughput"},
		`"provider":{"sort":{"by":"price"}}`:                     {"provider.sort", InvalidRequest, "a string"},
		`"provider":{"data_collection":"no"}`:                    {"provider.data_collection", InvalidRequest, "deny"},
		`"provider":{"zdr":"yes"}`:                               {"provider.zdr", InvalidRequest, "a boolean"},
		`"provider":{"quantizations":["fp8","unknown"]}`:         {"provider.quantizations", InvalidRequest, `"unknown"`},
		`"provider":{"quantizations":[]}`:                        {"provider.quantizations", InvalidRequest, "empty"},
		`"provider":{"only":[]}`:                                 {"provider.only", InvalidRequest, "empty"},
		`"providerOptions":{"gateway":{"only":[]}}`:              {"providerOptions.gateway.only", InvalidRequest, "empty"},
		`"tradewind":{"allow":[]}`:                               {"tradewind.allow", InvalidRequest, "empty"},
		`"plugins":[{"id":"auto-router","allowed_models":[]}]`:   {"plugins.allowed_models", InvalidRequest, "empty"},
		`"provider":{"max_price":1}`:                             {"provider.max_price", InvalidRequest, "an object"},
		`"provider":{"max_price":{"image":1}}`:                   {"provider.max_price.image", UnsupportedRoutingField, "supported"},
		`"provider":{"max_price":{"audio":"1"}}`:                 {"provider.max_price.audio", UnsupportedRoutingField, "supported"},
		`"provider":{"max_price":{"promt":1}}`:                   {"provider.max_price.promt", UnsupportedRoutingField, `"prompt"`},
		`"provider":{"max_price":{"prompt":-1}}`:                 {"provider.max_price.prompt", InvalidRequest, "a price"},
		`"provider":{"max_price":{"completion":"a lot"}}`:        {"provider.max_price.completion", InvalidRequest, "a price"},
		`"provider":{"max_price":{"completion":""}}`:             {"provider.max_price.completion", InvalidRequest, "a price"},
		`"provider":{"max_price":{"request":-0.1}}`:              {"provider.max_price.request", InvalidRequest, "a price"},
		`"provider":{"max_price":{"request":true}}`:              {"provider.max_price.request", InvalidRequest, "a number"},
		`"provider":{"preferred_max_latency":"2"}`:               {"provider.preferred_max_latency", InvalidRequest, "a number"},
		`"provider":{"preferred_max_latency":0}`:                 {"provider.preferred_max_latency", InvalidRequest, "above 0"},
		`"provider":{"preferred_min_throughput":{"p95":2}}`:      {"provider.preferred_min_throughput.p95", UnsupportedRoutingField, "did you mean"},
		`"provider":{"preferred_min_throughput":{"p50":"many"}}`: {"provider.preferred_min_throughput.p50", InvalidRequest, "a number"},
		`"providerOptions":7`:                                    {"providerOptions", InvalidRequest, "an object"},
		`"providerOptions":{"openai":{}}`:                        {"providerOptions.openai", UnsupportedRoutingField, "supported"},
		`"providerOptions":{"gatewy":{}}`:                        {"providerOptions.gatewy", UnsupportedRoutingField, `"gateway"`},
		`"providerOptions":{"gateway":[]}`:                       {"providerOptions.gateway", InvalidRequest, "an object"},
		`"providerOptions":{"gateway":{"models":["a"]}}`:         {"providerOptions.gateway.models", UnsupportedRoutingField, "supported"},
		`"providerOptions":{"gateway":{"sort":"price"}}`:         {"providerOptions.gateway.sort", UnsupportedRoutingField, "ttft"},
		`"providerOptions":{"gateway":{"order":[1]}}`:            {"providerOptions.gateway.order[0]", InvalidRequest, "a string"},
		`"num_retries":-1`:                                       {"num_retries", InvalidRequest, "from 0"},
		`"num_retries":1.5`:                                      {"num_retries", InvalidRequest, "an integer"},
		`"num_retries":"2"`:                                      {"num_retries", InvalidRequest, "an integer"},
	} {
		_, err := Decode([]byte(`{"model":"auto",`+messages+`,`+body+`}`), DecodeOptions{})
		var e *Error
		if !errors.As(err, &e) || e.Param != want.param || e.Code != want.code || !strings.Contains(e.Message, want.says) {
			t.Errorf("%s: got %v, want %+v", body, err, want)
		}
	}
}

// TestNothingLeaks: what is about routing goes to no vendor, in none of the forms of a body.
func TestNothingLeaks(t *testing.T) {
	said := `,"provider":{"order":["a"],"zdr":true},"providerOptions":{"gateway":{"only":["a"]}},"num_retries":1,"fallbacks":["b"],"session_id":"s"}`
	for name, r := range map[string]func() (*Request, error){
		"completions": func() (*Request, error) {
			return DecodeCompletions([]byte(`{"model":"m","prompt":"hi"`+said), DecodeOptions{})
		},
		"embeddings": func() (*Request, error) {
			return DecodeEmbeddings([]byte(`{"model":"m","input":"hi"`+said), DecodeOptions{})
		},
		"chat": func() (*Request, error) { return Decode([]byte(`{"model":"m",`+messages+said), DecodeOptions{}) },
	} {
		r, err := r()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sent, err := ParseFields(r.AppendUpstream(nil, Upstream{Model: "m"}), DecodeOptions{})
		if err != nil || len(sent) < 2 || slices.ContainsFunc(sent, func(f Field) bool { return IsRouting(f.Name) }) {
			t.Errorf("%s sends %v, %v", name, sent, err)
		}
		if p := r.Tradewind.Provider; p == nil || p.Data != catalog.ZeroRetention || r.Tradewind.Attempts != 2 {
			t.Errorf("%s: %+v", name, r.Tradewind)
		}
	}
}

// TestPrecedence: of what may be said in several places the tradewind object counts first, then the header, then the fields of
// other dialects, in whatever order they stand.
func TestPrecedence(t *testing.T) {
	const yes, no = `"tradewind":{"fallback":true}`, `"tradewind":{"fallback":false}`
	for _, tt := range []struct {
		body   []string // members, in either order
		header string
		want   string // whether others may answer and whether provider a may; the models; the strategy
	}{
		{nil, "", "unset a [] "},
		{[]string{`"disable_fallbacks":true`}, "", "no a [] "},
		{[]string{`"disable_fallbacks":true`}, "true", "yes a [] "},
		{[]string{`"disable_fallbacks":true`, yes}, "", "yes a [] "},
		{[]string{`"disable_fallbacks":true`, yes}, "false", "yes a [] "},
		{[]string{`"disable_fallbacks":true`, no}, "true", "no a [] "},
		{[]string{`"disable_fallbacks":false`}, "false", "no a [] "},
		{[]string{`"disable_fallbacks":false`, `"provider":{"allow_fallbacks":false}`}, "", "no a [] "},
		{[]string{`"disable_fallbacks":true`, `"provider":{"allow_fallbacks":true}`}, "", "no a [] "},
		{[]string{`"provider":{"allow_fallbacks":false}`}, "true", "yes a [] "},
		{[]string{`"provider":{"allow_fallbacks":true}`}, "false", "no a [] "},
		{[]string{`"provider":{"allow_fallbacks":false,"order":["b"]}`}, "", "no - [] "},
		{[]string{`"provider":{"allow_fallbacks":false,"order":["b"]}`}, "false", "no - [] "},
		{[]string{`"provider":{"allow_fallbacks":false,"order":["b"]}`}, "true", "yes a [] "},
		{[]string{`"provider":{"allow_fallbacks":false,"order":["b"]}`, yes}, "false", "yes a [] "},
		{[]string{`"provider":{"allow_fallbacks":false,"order":["b"]}`, no}, "true", "no - [] "},
		{[]string{`"provider":{"allow_fallbacks":false,"only":["b"]}`}, "true", "yes - [] "}, // a constraint is not overruled
		{[]string{`"models":["m"]`, `"fallbacks":["f"]`}, "", "unset a [m] "},
		{[]string{`"models":[]`, `"fallbacks":["f"]`}, "", "unset a [f] "},
		{[]string{`"models":["m"]`, `"tradewind":{"models":["t"]}`}, "", "unset a [t] "},
		{[]string{`"models":["m"]`, `"tradewind":{"models":[]}`}, "", "unset a [] "},
		{[]string{`"fallbacks":["f"]`, `"tradewind":{"models":null}`}, "", "unset a [f] "},
		{[]string{`"provider":{"sort":"price"}`, `"providerOptions":{"gateway":{"sort":"tps"}}`}, "", "unset a [] cost"},
	} {
		for range 2 {
			r := decode(t, "{"+strings.Join(append([]string{`"model":"auto"`, messages}, tt.body...), ",")+"}")
			h := http.Header{}
			if tt.header != "" {
				h.Set("X-Tradewind-Fallback", tt.header)
			}
			if err := ApplyHeaders(r, h); err != nil {
				t.Fatal(err)
			}
			a := map[bool]string{true: "a", false: "-"}[r.Tradewind.Allowed("a/m")]
			said := map[Choice]string{Unset: "unset", Yes: "yes", No: "no"}[r.Tradewind.Fallback]
			if got := fmt.Sprintf("%s %s %v %s", said, a, r.Tradewind.Models, r.Strategy()); got != tt.want || !r.Tradewind.Allowed("b/m") {
				t.Errorf("%v with header %q: %s, want %s", tt.body, tt.header, got, tt.want)
			}
			slices.Reverse(tt.body)
		}
	}
}

// TestTagsPrecedence: the tags of the body are those of the request, and a header's only where the body has none.
func TestTagsPrecedence(t *testing.T) {
	for body, want := range map[string]string{
		``:                                "map[h:1]",
		`,"tradewind":{"tags":{"b":"2"}}`: "map[b:2]",
		`,"tradewind":{"tags":null}`:      "map[h:1]",
		`,"metadata":{"tags":["m"]}`:      "map[h:1]",
	} {
		r := decode(t, `{"model":"auto",`+messages+body+`}`)
		if err := ApplyHeaders(r, http.Header{"X-Tradewind-Tags": {"h=1"}}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(r.Tradewind.Tags); got != want {
			t.Errorf("%s: tags %s, want %s", body, got, want)
		}
	}
}

// TestMetadataTags: what is a list of tags tags the request and is not handed on, in any dialect; what is none is the vendor's.
func TestMetadataTags(t *testing.T) {
	for metadata, want := range map[string]string{
		`{"tags":["job:nightly","team=blue","plain"]}`: "map[job:nightly plain:true team:blue] -",
		`{"a":"1","tags":{"k":"v"},"b":"2"}`:           `map[k:v] {"a":"1","b":"2"}`,
		`{"tags":"job=nightly, plain","user_id":"u"}`:  `map[job:nightly plain:true] {"user_id":"u"}`,
		`{"tags":[1]}`:          `map[] {"tags":[1]}`,
		`{"tags":{"k":{}}}`:     `map[] {"tags":{"k":{}}}`,
		`{"tags":null,"a":"1"}`: `map[] {"tags":null,"a":"1"}`,
		`{"tags":""}`:           `map[] {"tags":""}`,
		`{"tags":"` + strings.Repeat("k", TagMax+1) + `"}`:     `map[] {"tags":"` + strings.Repeat("k", TagMax+1) + `"}`,
		`{"tags":"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"}`: `map[] {"tags":"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"}`,
		`{}`: `map[] {}`,
	} {
		r := decode(t, `{"model":"auto",`+messages+`,"metadata":`+metadata+`}`)
		if err := ApplyHeaders(r, http.Header{}); err != nil {
			t.Fatal(err)
		}
		for name, body := range map[string][]byte{
			"chat":  r.AppendUpstream(nil, Upstream{Model: "m"}),
			"other": (&Spoken{Fields: Fields{{"model", Value(`"auto"`)}, {"metadata", Value(metadata)}}}).AppendUpstream(nil, Upstream{Model: "m"}),
		} {
			fields, err := ParseFields(body, DecodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			handed := "-"
			if v := fields.Get("metadata"); v != nil {
				handed = string(v)
			}
			if got := fmt.Sprint(r.Tradewind.Tags) + " " + handed; got != want {
				t.Errorf("%s, %s: %s, want %s", name, metadata, got, want)
			}
		}
	}
}
