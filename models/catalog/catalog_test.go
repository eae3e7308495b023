package catalog

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefault(t *testing.T) {
	c, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	arms := c.Arms()
	providers, usable := map[string]int{}, 0
	for i, a := range arms {
		if i > 0 && arms[i-1].ID >= a.ID {
			t.Errorf("%s comes after %s", a.ID, arms[i-1].ID)
		}
		v := c.Evidence(a.ID)
		if !a.Prices.Known || a.Simulated || (a.Tier == TierUnknown) == (a.Mode == ModeChat) || a.AsOf == "" || len(v.Sources) == 0 {
			t.Errorf("%+v is not fit to serve", a)
		}
		if a.Prices.Input == 0 || a.Prices.Output == 0 {
			t.Errorf("%s: prices %+v", a.ID, a.Prices)
		}
		if a.Disputed != (len(v.Disputed) > 0) {
			t.Errorf("%s: disputed %v, evidence %v", a.ID, a.Disputed, v)
		}
		if !a.Deprecated {
			providers[a.ID.Provider()]++
			usable++
		}
	}
	if usable < 250 || len(providers) < 12 {
		t.Errorf("%d arms of %d providers, want 250 of 12", usable, len(providers))
	}
	for _, p := range Providers() {
		if p.Name == "ollama" { // on one's own machine, without a key, and with the models that one has pulled
			continue
		}
		own := p.Protocol() == ProtocolAzure || p.Protocol() == ProtocolBedrock || p.Protocol() == ProtocolVertex // which have no address for all
		if !strings.HasPrefix(p.BaseURL, "https://") && !own || strings.HasSuffix(p.BaseURL, "/") || len(p.KeyVars) == 0 && p.Protocol() != ProtocolVertex {
			t.Errorf("provider %+v", p)
		}
		if providers[p.Name] == 0 && p.Name != "openrouter" && p.Name != "perplexity" {
			t.Errorf("no arm of %s", p.Name)
		}
	}
}

// The bundled file is what Write writes, and it names the licences of its sources.
func TestDefaultIsInItsOwnForm(t *testing.T) {
	c, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Notice []string }
	if err := json.Unmarshal(bundled, &file); err != nil || len(file.Notice) == 0 {
		t.Fatalf("notice %q, %v", file.Notice, err)
	}
	var b strings.Builder
	if err := c.Write(&b, file.Notice); err != nil || b.String() != string(bundled) {
		t.Errorf("catalog.json is not what Write makes of it (%v): write it with tradewind catalog import", err)
	}
	notice, err := os.ReadFile("NOTICE")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range c.Arms() {
		for _, source := range c.Evidence(a.ID).Sources {
			if !strings.Contains(string(notice), source+": Copyright (c)") {
				t.Fatalf("NOTICE has no notice of %s, a source of %s", source, a.ID)
			}
		}
	}
}

// Facts that were checked by hand against the source's own table of spot checks.
func TestDefaultFacts(t *testing.T) {
	c, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	on, next := c.On(now), c.NextChange(now, c.Arms())
	for _, tt := range []struct {
		id               ArmID
		in, out, read    Picodollars
		guessed          Kinds
		above, step      int64
		disputed         bool
		write, write1h   Picodollars
		audio, afterJan1 Picodollars
	}{
		{id: "openai/gpt-5.4", in: 2_500_000, out: 15_000_000, read: 250_000, above: 272_000, step: 5_000_000},
		{id: "openai/gpt-5-mini", in: 250_000, out: 2_000_000, read: 25_000, disputed: true},
		{id: "anthropic/claude-opus-4-8", in: 5_000_000, out: 25_000_000, read: 500_000, write: 6_250_000, write1h: 10_000_000},
		{id: "anthropic/claude-sonnet-5", in: 3_000_000, out: 15_000_000, read: 300_000, write: 3_750_000, write1h: 6_000_000},
		{id: "google/gemini-2.5-flash", in: 300_000, out: 2_500_000, read: 30_000, audio: 1_000_000},
		{id: "deepseek/deepseek-v4-pro", in: 435_000, out: 870_000, read: 3_625},
		{id: "minimax/MiniMax-M2.7", in: 300_000, out: 1_200_000, read: 60_000, disputed: true},
		{id: "groq/llama-3.3-70b-versatile", in: 590_000, out: 790_000, read: 590_000, guessed: KindCacheRead},
		{id: "xai/grok-4.3", in: 1_250_000, out: 2_500_000, read: 200_000, above: 200_000, step: 2_500_000, disputed: true},
		{id: "google/gemini-3.6-flash", in: 750_000, out: 3_750_000, read: 75_000, disputed: true, afterJan1: 1_500_000},
	} {
		a, ok := on.Lookup(tt.id)
		if !ok {
			t.Errorf("%s is not there", tt.id)
			continue
		}
		p := &a.Prices
		if p.Input != tt.in || p.Output != tt.out || p.CacheRead != tt.read || p.Guessed&KindCacheRead != tt.guessed || a.Disputed != tt.disputed {
			t.Errorf("%s: %+v, disputed %v", tt.id, p.Rates, a.Disputed)
		}
		if p.Steps[0].Above != tt.above || int64(p.Steps[0].Input) != tt.step {
			t.Errorf("%s: step %+v", tt.id, p.Steps[0])
		}
		if tt.write != 0 && (p.CacheWrite != tt.write || p.CacheWrite1h != tt.write1h) || tt.audio != 0 && p.AudioInput != tt.audio {
			t.Errorf("%s: cache write %d, 1h %d, audio %d", tt.id, p.CacheWrite, p.CacheWrite1h, p.AudioInput)
		}
		then := c.On(next)
		if b, _ := then.Lookup(tt.id); tt.afterJan1 != 0 && b.Prices.Input != tt.afterJan1 {
			t.Errorf("%s: %d from %s on", tt.id, b.Prices.Input, next)
		}
	}
	if want := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC); next != want {
		t.Errorf("the next change is on %v, want %v", next, want)
	}
	if _, ok := c.Lookup("openai/gpt-9"); ok {
		t.Error("found an arm that is not there")
	}
}

const head = `{"format":2,"arms":[`

func parse(arms ...string) (*Catalog, error) {
	return Parse(strings.NewReader(head + strings.Join(arms, ",") + "]}"))
}

func TestParse(t *testing.T) {
	c, err := parse(`{"id":"p/free","in":"0","out":"0","free":true}`,
		`{"id":"p/a/b:1","in":"0.1","out":"0.4","context":1000,"max_output":10,"can":["tools","reasoning"],"base":"x/y","quantization":"fp8","as_of":"2026-01-31","disputed":{"out":{"a":"0.4","b":"0.5"}}}`,
		`{"id":"p/unpriced","tier":"large","deprecated":true}`)
	if err != nil {
		t.Fatal(err)
	}
	want := []Arm{
		{ID: "p/a/b:1", BaseModel: "x/y", ContextTokens: 1000, MaxOutputTokens: 10, Capabilities: Tools | Reasoning, Tier: TierSmall, Disputed: true, Quantization: "fp8",
			AsOf: "2026-01-31", Prices: Flat(100_000, 400_000)},
		{ID: "p/free", Prices: Prices{Known: true}},
		{ID: "p/unpriced", Tier: TierLarge, Deprecated: true},
	}
	if got := c.Arms(); !slices.Equal(got, want) {
		t.Errorf("Arms() = %+v\nwant %+v", got, want)
	}
	comesBack(t, c)
	if got := want[0].Capabilities.String(); got != "tools,reasoning" {
		t.Errorf("capabilities are %q", got)
	}
}

// An arm for embeddings has no output, and so no price of one; one for completions has.
func TestModes(t *testing.T) {
	c, err := parse(`{"id":"p/chat","mode":"chat","in":"1","out":"2"}`,
		`{"id":"p/embed","mode":"embedding","in":"0.02","context":8191,"steps":[{"above":9,"in":"1"}],"changes":[{"from":"2026-01-01","in":"0.01"}]}`,
		`{"id":"p/here","mode":"embedding","in":"0","free":true}`, `{"id":"p/say","mode":"completion","in":"1.5","out":"2"}`)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[ArmID]Mode{"p/chat": ModeChat, "p/embed": ModeEmbedding, "p/here": ModeEmbedding, "p/say": ModeCompletion} {
		if a, _ := c.Lookup(id); a.Mode != want || (a.Tier == TierUnknown) == (want == ModeChat) || !a.Prices.Known {
			t.Errorf("%s: %+v", id, a)
		}
	}
	a, _ := c.Lookup("p/embed")
	if cost, err := a.Prices.Cost(Usage{Input: 7}); err != nil || cost != 140 || a.Prices.Guesses(Usage{Input: 7}) {
		t.Errorf("7 tokens cost %s, %v", cost, err)
	}
	if e := c.Entry("p/embed"); e.Out != nil || e.Free || e.Changes[0].Out != nil || e.Steps[0].Out != nil {
		t.Errorf("an output that is not there has a price: %+v", e)
	}
	comesBack(t, c)
	for arm, want := range map[string]string{`{"id":"p/x","mode":"rerank"}`: `"rerank"`, `{"id":"p/x","mode":"completion","in":"1"}`: "one price", `{"id":"p/x","mode":"embedding","out":"1"}`: "one price"} {
		if _, err := parse(arm); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arm, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	many := strings.Repeat(`{},`, ArmsMax) + `{}`
	for _, tt := range []struct{ file, want string }{
		{``, "not JSON"},
		{`{"format":3,"arms":[],"new":1}`, "format 3"},
		{`{"arms":[]}`, "format 0"},
		{`{"format":2,"prices":[]}`, "prices"},
		{head + `]} x`, "JSON"},
		{head + many + `]}`, "at most"},
		{head + `null]}`, "arm 1"},
		{head + `{"id":"gpt-5"}]}`, "provider/model"},
		{head + `{"id":"p/ "}]}`, "provider/model"},
		{head + `{"id":"p/x","prise":"1"}]}`, `"p/x"): json: unknown field "prise"`},
		{head + `{"id":"p/x","in":"1"}]}`, `"p/x"): has one price`},
		{head + `{"id":"p/x","cache_read":"1"}]}`, `"p/x"): has one price`},
		{head + `{"id":"p/x","in":true,"out":"1"}]}`, `"p/x")`},
		{head + `{"id":"p/x","in":"0","out":"1"}]}`, `"free":true`},
		{head + `{"id":"p/x","in":"1","out":"1","cache_read":"0"}]}`, `"free":true`},
		{head + `{"id":"p/x","in":"1","out":"1","steps":[{"above":5,"in":"0","out":"1"}]}]}`, `"free":true`},
		{head + `{"id":"p/x","in":"1","out":"1","steps":[{"above":0,"in":"1","out":"1"}]}]}`, `step above 0`},
		{head + `{"id":"p/x","in":"1","out":"1","steps":[{"above":9,"in":"1","out":"1"},{"above":9,"in":"1","out":"1"}]}]}`, `steps ascend`},
		{head + `{"id":"p/x","in":"1","out":"1","steps":[` + strings.Repeat(`{"above":9,"in":"1","out":"1"},`, StepsMax) + `{}]}]}`, `5 price steps`},
		{head + `{"id":"p/x","in":"1","out":"1","changes":[{"from":"soon","in":"1","out":"1"}]}]}`, `"soon" is not a day`},
		{head + `{"id":"p/x","in":"1","out":"1","changes":[{"in":"1","out":"1"}]}]}`, `no day`},
		{head + `{"id":"p/x","in":"1","out":"1","changes":[{"from":"2026-01-01","in":"1"}]}]}`, `2026-01-01: has one price`},
		{head + `{"id":"p/x","in":"1","out":"1","request":0}]}`, `a call`},
		{head + `{"id":"p/x","in":"1","out":"1","request":1001}]}`, `at most 1000`},
		{head + `{"id":"p/x","can":["tools"],"cannot":["tools"]}]}`, `none in both`},
		{head + `{"id":"p/x","free":true}]}`, "is free"},
		{head + `{"id":"p/x","in":"-1","out":"1"}]}`, "decimal"},
		{head + `{"id":"p/x","context":0}]}`, "context of 0"},
		{head + `{"id":"p/x","can":["fly"]}]}`, `"fly"`},
		{head + `{"id":"p/x","tier":"huge"}]}`, `"huge"`},
		{head + `{"id":"p/x","quantization":"unknown"}]}`, `leave out what is unknown`},
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
	arms[0].Prices.Steps[0].Above = 7
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
		{"gpt5-mini", "azure/gpt-5-mini"}, {"OpenAI/GPT-5-Mini", "openai/gpt-5-mini"}, {"deepsek/deepseek-v4pro", "deepseek/deepseek-v4-pro"},
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
	f.Add([]byte(head + `{"id":"p/x","in":"1","out":"2","steps":[{"above":5,"in":"1","out":"1"}],"can":["tools"],"context":5,"as_of":"2026-01-01"}]}`))
	f.Add([]byte(head + `{"id":"p/free","in":"0","out":"0","free":true},{"id":"p/y","tier":"large"}]}`))
	f.Add([]byte(head + `{"id":"p/e","mode":"embedding","in":"1"},{"id":"p/f","mode":"embedding","in":"0","free":true}]}`))
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
		comesBack(t, c)
	})
}

// comesBack fails where Parse reads anything else than what Write was given.
func comesBack(t *testing.T, c *Catalog) {
	t.Helper()
	var b strings.Builder
	if err := c.Write(&b, nil); err != nil {
		t.Fatal(err)
	}
	back, err := Parse(strings.NewReader(b.String()))
	if err != nil {
		t.Fatalf("Parse refuses what Write wrote: %v\n%s", err, b.String())
	}
	for _, a := range c.Arms() {
		if got, _ := back.Lookup(a.ID); got == nil || *got != a {
			t.Fatalf("%+v came back as %+v", a, got)
		}
		want, got := c.Evidence(a.ID), back.Evidence(a.ID)
		if !slices.Equal(want.Changes, got.Changes) || want.Cannot != got.Cannot || want.Ends != got.Ends || want.Released != got.Released {
			t.Fatalf("the evidence %+v of %s came back as %+v", want, a.ID, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(facts))
	f.Add([]byte(priceMap))
	f.Add([]byte(head + `]}`))
	f.Add([]byte(`[{"provider":"p","id":"m","mode":"chat","disputed":{"a":1}}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _, err := Read(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		comesBack(t, c)
		c.On(time.Unix(1_800_000_000, 0))
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
