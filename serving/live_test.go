package serving_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// settings are those of a world, for a test to change.
func (w *world) settings(arms []catalog.Arm, auth governance.Options) serving.Settings {
	w.Helper()
	w.auth = must(governance.New(auth))(w)
	providers := map[string]upstream.Provider{}
	for _, a := range arms {
		providers[a.ID.Provider()] = w.vendor
	}
	return serving.Settings{
		Arms: arms, Router: must(serving.NewRouter(arms, nil))(w), Auth: w.auth, Pool: must(upstream.New(upstream.Options{Providers: providers}))(w),
	}
}

// A reload changes who may ask, what is served and what may be spent, from the next request on.
func TestReload(t *testing.T) {
	w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA}}}})
	w.chat(ask("one/cheap", ""), bearer(keyA)...).wantOK()
	w.chat(ask("one/cheap", ""), bearer(keyB)...).wantError(401, "invalid_api_key")
	nothing := 0.0
	if err := w.Reload(t.Context(), w.settings(threeArms()[1:], governance.Options{Keys: []governance.KeyConfig{
		{Key: keyA}, {Key: keyB, Budget: governance.BudgetConfig{DayUSD: &nothing}},
	}})); err != nil {
		t.Fatal(err)
	}
	w.chat(ask("one/cheap", ""), bearer(keyA)...).wantError(404, "model_not_found")
	w.chat(ask("two/middle", ""), bearer(keyA)...).wantOK()
	w.chat(ask("two/middle", ""), bearer(keyB)...).wantError(429, "insufficient_quota")
	if list := w.do("GET", "/v1/models", "", bearer(keyA)...).body; strings.Contains(list, "one/cheap") || !strings.Contains(list, "three/dear") {
		t.Errorf("models %s", list)
	}
}

// fullBooks refuse to open an account, as a ledger does that is full.
type fullBooks struct {
	ledger.Books
	after int
}

func (b *fullBooks) SetLimit(ctx context.Context, id ledger.AccountID, l ledger.Limit) error {
	if b.after--; b.after == 0 {
		return errScripted
	}
	return b.Books.SetLimit(ctx, id, l)
}

// What fails in the middle leaves everything as it was, the caps among it.
func TestReloadIsUndone(t *testing.T) {
	rich, poor := 100.0, 0.0
	auth := func(usd *float64) governance.Options {
		return governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Budget: governance.BudgetConfig{TotalUSD: usd}}, {Key: keyB, Budget: governance.BudgetConfig{TotalUSD: usd}}}}
	}
	w := newWorld(t, setup{auth: auth(&rich)})
	before := w.auth
	books := &fullBooks{Books: w.books}
	o := serving.Options{Settings: w.settings(threeArms(), auth(&rich)), Ledger: w.books, Books: books, Journal: w.journal, Metrics: w.metrics, Quota: must(quota.New(quota.Options{}))(t)}
	g := must(serving.New(o))(t)
	w.Gateway, w.handler = g, g.Handler()
	books.after = 3 // the caps of the first key are poor by then
	if err := g.Reload(t.Context(), w.settings(threeArms()[1:], auth(&poor))); !errors.Is(err, errScripted) {
		t.Fatalf("Reload: %v", err)
	}
	w.auth = before
	for _, key := range []string{keyA, keyB} {
		w.chat(ask("one/cheap", ""), bearer(key)...).wantOK()
	}
}

func TestReloadRefuses(t *testing.T) {
	w := newWorld(t, setup{})
	for name, change := range map[string]func(*serving.Settings){
		"Arms is required":       func(s *serving.Settings) { s.Arms = nil },
		"Pool is required":       func(s *serving.Settings) { s.Pool = nil },
		"Epsilon":                func(s *serving.Settings) { s.Epsilon = 2 },
		"strategy":               func(s *serving.Settings) { s.Strategy = "best" },
		"traffic":                func(s *serving.Settings) { s.Traffic = "calm" },
		"which is not served":    func(s *serving.Settings) { s.Aliases = map[string][]string{"a": {"one/cheap", "no/such"}} },
		"stands for no model":    func(s *serving.Settings) { s.Aliases = map[string][]string{"a": {}} },
		`alias "b" stands for`:   func(s *serving.Settings) { s.Aliases = map[string][]string{"a": {"cheap"}, "b": {"a"}} },
		`fallbacks of "no/such"`: func(s *serving.Settings) { s.Fallbacks = map[string][]string{"no/such": {"cheap"}} },
		`fallbacks of "cheap"`:   func(s *serving.Settings) { s.Fallbacks = map[string][]string{"cheap": {"gone"}} },
	} {
		s := w.settings(threeArms()[:2], governance.Options{})
		change(&s)
		if err := w.Reload(t.Context(), s); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.chat(ask("three/dear", "")).wantOK() // what was there before
}

func TestAliasesAndFallbacks(t *testing.T) {
	w := newWorld(t, setup{})
	s := w.settings(threeArms(), governance.Options{})
	s.Aliases = map[string][]string{"gpt": {"two/middle"}, "any": {"dear", "two/middle"}, "one/cheap": {"three/dear"}}
	s.Fallbacks = map[string][]string{"gpt": {"any"}, "one/cheap": {"two/middle", "three/dear"}}
	if err := w.Reload(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"gpt": "two/middle", "auto/gpt": "two/middle", "auto/any:cost": "two/middle", "one/cheap": "one/cheap", "any": "two/middle"} {
		if a := w.chat(ask(name, "")).wantOK(); a.header.Get("X-Tradewind-Model") != want {
			t.Errorf("%s is answered by %s, want %s", name, a.header.Get("X-Tradewind-Model"), want)
		}
	}
	w.chat(ask("auto/none", "")).wantError(404, "model_not_found")
	for _, tt := range []struct {
		model, more string
		want        []catalog.ArmID
	}{
		{"gpt", "", []catalog.ArmID{"two/middle", "three/dear"}},
		{"one/cheap", "", []catalog.ArmID{"one/cheap", "two/middle", "three/dear"}},
		{"one/cheap", `,"models":["three/dear"]`, []catalog.ArmID{"one/cheap", "three/dear"}}, // the request's own list counts
		{"one/cheap", `,"tradewind":{"fallback":false}`, []catalog.ArmID{"one/cheap"}},        // pain 18 (BerriAI/litellm#19077)
	} {
		w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.TimedOut, 504) })
		w.chat(ask(tt.model, tt.more))
		if got := w.vendor.called(); !slices.Equal(got, tt.want) {
			t.Errorf("%s%s: called %v, want %v", tt.model, tt.more, got, tt.want)
		}
	}
}

// TestNoFallbackAnywhere is pain 18 (BerriAI/litellm#19077): with fallback off exactly one call is made, on every surface, streamed
// or not, however it is said, and also where fallbacks are configured and the failure is one that is tried again.
func TestNoFallbackAnywhere(t *testing.T) {
	w := newWorld(t, setup{arms: append(threeArms(), directArms()...)})
	s := w.settings(append(threeArms(), directArms()...), governance.Options{})
	s.Fallbacks = map[string][]string{"one/cheap": {"two/middle", "three/dear"}}
	if err := w.Reload(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string]string{
		"/v1/chat/completions": ask("one/cheap", ""), "/v1/messages": ask("one/cheap", `,"max_tokens":5`), "/v1/responses": `{"model":"one/cheap","input":"hi"}`,
		"/v1/completions": `{"model":"one/cheap","prompt":"hi"}`, "/v1/embeddings": `{"model":"embed","input":"hi"}`,
	} {
		for _, off := range []string{`,"tradewind":{"fallback":false}}`, `,"disable_fallbacks":true}`, `,"provider":{"allow_fallbacks":false}}`} {
			for _, stream := range []string{"", `,"stream":true`} {
				if path == "/v1/embeddings" && stream != "" {
					continue
				}
				for _, err := range []error{fails(upstream.Server, 503), fails(upstream.TimedOut, 504), fails(upstream.RateLimited, 429)} {
					w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, err })
					a := w.do("POST", path, strings.TrimSuffix(body, "}")+stream+off)
					if n := len(w.vendor.called()); n != 1 || a.status < 400 {
						t.Errorf("%s%s%s with %v: %d calls, status %d, %s", path, stream, off, err, n, a.status, a.body)
					}
				}
			}
		}
	}
}

// A pool that is renewed knows what the one before has seen.
func TestRenewedPoolRemembers(t *testing.T) {
	w := newWorld(t, setup{arms: threeArms()[:1]})
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.TimedOut, 504) })
	s := w.settings(threeArms()[:1], governance.Options{})
	if err := w.Reload(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		w.chat(ask("one/cheap", ""))
	}
	frozen := time.Now()
	clock := upstream.Options{Now: func() time.Time { return frozen }} // failures are forgiven as time passes
	before, renewed := must(s.Pool.Renew(clock))(t), must(s.Pool.Renew(clock))(t)
	if was, is := before.Snapshot("one/cheap"), renewed.Snapshot("one/cheap"); was.Attempts == 0 || was != is {
		t.Errorf("%+v became %+v", was, is)
	}
	if _, err := s.Pool.Renew(upstream.Options{MaxAttempts: -1}); err == nil {
		t.Error("nonsense is renewed")
	}
}
