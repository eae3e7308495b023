package catalog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestDefault(t *testing.T) {
	c, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	arms := c.Arms()
	if len(arms) < 150 {
		t.Fatalf("%d arms", len(arms))
	}
	vendors := map[string]int{}
	for _, p := range Providers() {
		if !strings.HasPrefix(p.BaseURL, "https://") || strings.HasSuffix(p.BaseURL, "/") || len(p.KeyVars) == 0 {
			t.Errorf("provider %+v", p)
		}
		vendors[p.Name] = 0
	}
	for i, a := range arms {
		if i > 0 && arms[i-1].ID >= a.ID {
			t.Errorf("%s comes after %s", a.ID, arms[i-1].ID)
		}
		if _, known := vendors[a.ID.Provider()]; !known {
			t.Errorf("%s: nobody knows this provider", a.ID)
		}
		vendors[a.ID.Provider()]++
		if !a.Prices.Known || a.Deprecated || a.Simulated || a.Tier == TierUnknown || a.AsOf == "" || len(c.Evidence(a.ID).Sources) == 0 {
			t.Errorf("%+v is not fit to serve", a)
		}
		if a.Prices.Input == 0 || a.Prices.Output == 0 || a.Prices.CacheRead > a.Prices.Input {
			t.Errorf("%s: prices %+v", a.ID, a.Prices)
		}
		if a.Disputed != (len(c.Evidence(a.ID).Disputed) > 0) {
			t.Errorf("%s: disputed %v, evidence %v", a.ID, a.Disputed, c.Evidence(a.ID))
		}
	}
	for name, n := range vendors {
		if n == 0 && name != "openrouter" {
			t.Errorf("no arm of %s", name)
		}
	}
}

// Facts that were checked by hand against the source's own table of spot checks.
func TestDefaultFacts(t *testing.T) {
	c, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		id   ArmID
		want Prices
	}{
		{"openai/gpt-5-mini", Prices{Known: true, Input: 250_000, Output: 2_000_000, CacheRead: 25_000, CacheWrite: 250_000}},
		{"deepseek/deepseek-v4-pro", Prices{Known: true, Input: 435_000, Output: 870_000, CacheRead: 3_625, CacheWrite: 435_000}},
		{"groq/llama-3.3-70b-versatile", Prices{Known: true, Input: 590_000, Output: 790_000, CacheRead: 590_000, CacheWrite: 590_000}},
		{"xai/grok-4.3", Prices{Known: true, Input: 1_250_000, Output: 2_500_000, CacheRead: 200_000, CacheWrite: 1_250_000,
			Step: Step{Above: 200_000, Input: 2_500_000, Output: 5_000_000, CacheRead: 400_000, CacheWrite: 2_500_000}}},
	} {
		a, ok := c.Lookup(tt.id)
		if !ok || a.Prices != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", tt.id, a, ok, tt.want)
		}
	}
	if _, ok := c.Lookup("openai/gpt-9"); ok {
		t.Error("found an arm that is not there")
	}
}

const head = `{"format":1,"arms":[`

func parse(arms ...string) (*Catalog, error) {
	return Parse(strings.NewReader(head + strings.Join(arms, ",") + "]}"))
}

func TestParse(t *testing.T) {
	c, err := parse(`{"id":"p/free","in":"0","out":"0","free":true}`,
		`{"id":"p/a/b:1","in":"0.1","out":"0.4","context":1000,"max_output":10,"can":["tools","reasoning"],"base":"x/y","as_of":"2026-01-31","disputed":["out"]}`,
		`{"id":"p/unpriced","tier":"large","deprecated":true}`)
	if err != nil {
		t.Fatal(err)
	}
	want := []Arm{
		{ID: "p/a/b:1", BaseModel: "x/y", ContextTokens: 1000, MaxOutputTokens: 10, Capabilities: Tools | Reasoning, Tier: TierSmall, Disputed: true,
			AsOf: "2026-01-31", Prices: Prices{Known: true, Input: 100_000, Output: 400_000, CacheRead: 100_000, CacheWrite: 100_000}},
		{ID: "p/free", Prices: Prices{Known: true}},
		{ID: "p/unpriced", Tier: TierLarge, Deprecated: true},
	}
	if got := c.Arms(); !slices.Equal(got, want) {
		t.Errorf("Arms() = %+v\nwant %+v", got, want)
	}
	if got := want[0].Capabilities.String(); got != "tools,reasoning" {
		t.Errorf("capabilities are %q", got)
	}
}

func TestParseRefuses(t *testing.T) {
	many := strings.Repeat(`{},`, ArmsMax) + `{}`
	for _, tt := range []struct{ file, want string }{
		{``, "not JSON"},
		{`{"format":2,"arms":[],"new":1}`, "format 2"},
		{`{"arms":[]}`, "format 0"},
		{`{"format":1,"prices":[]}`, "prices"},
		{head + `]} x`, "JSON"},
		{head + many + `]}`, "at most"},
		{head + `null]}`, "arm 1"},
		{head + `{"id":"gpt-5"}]}`, "provider/model"},
		{head + `{"id":"p/ "}]}`, "provider/model"},
		{head + `{"id":"p/x","prise":"1"}]}`, `"p/x"): json: unknown field "prise"`},
		{head + `{"id":"p/x","in":"1"}]}`, `"p/x"): has one price`},
		{head + `{"id":"p/x","cache_read":"1"}]}`, `"p/x"): has one price`},
		{head + `{"id":"p/x","in":0.5,"out":"1"}]}`, `"p/x")`},
		{head + `{"id":"p/x","in":"0","out":"1"}]}`, `"free":true`},
		{head + `{"id":"p/x","in":"1","out":"1","cache_read":"0"}]}`, `"free":true`},
		{head + `{"id":"p/x","in":"1","out":"1","step":{"above":5,"in":"0","out":"1"}}]}`, `"free":true`},
		{head + `{"id":"p/x","in":"1","out":"1","step":{"above":0,"in":"1","out":"1"}}]}`, `step above 0`},
		{head + `{"id":"p/x","free":true}]}`, "is free"},
		{head + `{"id":"p/x","in":"-1","out":"1"}]}`, "decimal"},
		{head + `{"id":"p/x","context":0}]}`, "context of 0"},
		{head + `{"id":"p/x","can":["fly"]}]}`, `"fly"`},
		{head + `{"id":"p/x","tier":"huge"}]}`, `"huge"`},
		{head + `{"id":"p/x","as_of":"2026-02-30"}]}`, "not a day"},
		{head + `{"id":"p/x"},{"id":"p/y"},{"id":"p/x"}]}`, `arm 3 ("p/x"): is there twice`},
	} {
		if _, err := Parse(strings.NewReader(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.80s: %v, want an error with %q", tt.file, err, tt.want)
		}
	}
	if _, err := Parse(strings.NewReader(strings.Repeat(" ", FileBytesMax+1))); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestWith(t *testing.T) {
	base, err := parse(`{"id":"p/a","in":"1","out":"2","sources":["s"]}`, `{"id":"p/b","in":"1","out":"2","sources":["s"]}`)
	if err != nil {
		t.Fatal(err)
	}
	version := base.Version()
	over := base.With([]Arm{{ID: "p/b", Tier: TierLarge}, {ID: "p/0"}, {ID: "p/0", Tier: TierSmall}})
	want := []Arm{{ID: "p/0", Tier: TierSmall}, base.Arms()[0], {ID: "p/b", Tier: TierLarge}}
	if got := over.Arms(); !slices.Equal(got, want) {
		t.Errorf("Arms() = %+v\nwant %+v", got, want)
	}
	if over.Evidence("p/a").Sources == nil || over.Evidence("p/b").Sources != nil {
		t.Error("evidence of an override is not dropped, or that of another arm is")
	}
	if b, _ := base.Lookup("p/b"); base.Version() != version || b.Tier == TierLarge || base.Evidence("p/b").Sources == nil || len(base.Arms()) != 2 {
		t.Error("With changed the catalog that it was called on")
	}
	if over.Version() == version || base.With(nil).Version() != version {
		t.Errorf("versions %s, %s, %s", version, over.Version(), base.With(nil).Version())
	}
	arms := over.Arms()
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(arms), func(i, j int) { arms[i], arms[j] = arms[j], arms[i] })
	if got := New(arms).Version(); got != over.Version() {
		t.Errorf("version %s of the same arms in another order, want %s", got, over.Version())
	}
	arms[0].Prices.Step.Above = 7
	if New(arms).Version() == over.Version() {
		t.Error("version does not depend on the price step")
	}
}

func TestNearest(t *testing.T) {
	c, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		want ArmID
	}{
		{"gpt5-mini", "openai/gpt-5-mini"}, {"OpenAI/GPT-5-Mini", "openai/gpt-5-mini"}, {"deepseek-v4pro", "deepseek/deepseek-v4-pro"},
		{"mistral/mistral-large-lates", "mistral/mistral-large-latest"},
	} {
		if got := c.Nearest(tt.name, 3); len(got) != 3 || got[0] != tt.want {
			t.Errorf("Nearest(%q) = %q, want %q first", tt.name, got, tt.want)
		}
	}
	for _, tt := range []struct{ n, want int }{{-1, 0}, {0, 0}, {1, 1}, {1000, NearestMax}} {
		if got := len(c.Nearest(strings.Repeat("\xffx", 1000), tt.n)); got != tt.want {
			t.Errorf("%d names for n = %d, want %d", got, tt.n, tt.want)
		}
	}
	if got := new(Catalog).Nearest("x", 3); len(got) != 0 {
		t.Errorf("an empty catalog suggests %q", got)
	}
}

func TestEdits(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"abc", "abc", 0}, {"ab", "ba", 2}} {
		if got := Edits(tt.a, tt.b); got != tt.want {
			t.Errorf("Edits(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestSimulatedArmsArePriced(t *testing.T) {
	for _, a := range Simulated() {
		if err := a.ID.Validate(); err != nil || !a.Simulated || !a.Prices.Known || a.Prices.CacheRead != a.Prices.Input {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + `{"id":"p/x","in":"1","out":"2","step":{"above":5,"in":"1","out":"1"},"can":["tools"],"context":5,"as_of":"2026-01-01"}]}`))
	f.Add([]byte(head + `{"id":"p/free","in":"0","out":"0","free":true},{"id":"p/y","tier":"large"}]}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		for _, a := range c.Arms() {
			if a.ID.Validate() != nil || a.ContextTokens < 0 || a.Prices.Input < 0 || (!a.Prices.Known && a.Prices != Prices{}) {
				t.Errorf("accepted %+v", a)
			}
			if got, ok := c.Lookup(a.ID); !ok || *got != a {
				t.Errorf("Lookup(%s) = %+v, %v", a.ID, got, ok)
			}
		}
	})
}

func BenchmarkNearest(b *testing.B) {
	c, err := Default()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.Nearest("openai/gpt-5-minimal", 3)
	}
}

func ExampleCatalog_Nearest() {
	c := New(Simulated())
	fmt.Println(c.Nearest("cheep", 1))
	// Output: [sim/cheap]
}
