package governance

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

const (
	keyA = "sk-tw-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	keyB = "sk-tw-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB" // all but the last character are equal
)

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func usd(v float64) *float64 { return &v }

func TestAuthenticate(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	db := Digest(keyB)
	a, err := New(Options{Now: func() time.Time { return now }, Keys: []KeyConfig{
		{Key: keyA, Team: "a"}, {SHA256: hex.EncodeToString(db[:]), Team: "b"},
		{Key: "sk-tw-expired-expired", ExpiresAt: now}, {Key: "sk-tw-expires-later", ExpiresAt: now.Add(1), Team: "c"},
		{Key: "sk-tw-disabled-disabled", Disabled: true},
	}})
	if err != nil || a.Open() {
		t.Fatalf("New: %v, open %v", err, a.Open())
	}
	for name, c := range map[string]struct {
		h    http.Header
		team string
		err  error
	}{
		"bearer":             {header("Authorization", "Bearer "+keyA), "a", nil},
		"scheme in any case": {header("authorization", "bearer  "+keyB), "b", nil},
		"x-api-key":          {header("x-api-key", keyB), "b", nil},
		"both, equal":        {header("Authorization", "Bearer "+keyA, "x-api-key", keyA), "a", nil},
		"both, different":    {header("Authorization", "Bearer "+keyA, "x-api-key", keyB), "", ErrBadKey},
		"header twice":       {header("x-api-key", keyA, "x-api-key", keyB), "", ErrBadKey},
		"none":               {header(), "", ErrNoKey},
		"empty":              {header("Authorization", "Bearer ", "x-api-key", ""), "", ErrNoKey},
		"basic":              {header("Authorization", "Basic "+keyA), "", ErrBadKey},
		"bare":               {header("Authorization", keyA), "", ErrBadKey},
		"shared prefix":      {header("x-api-key", keyA[:len(keyA)-1]+"C"), "", ErrBadKey},
		"cut":                {header("x-api-key", keyA[:20]), "", ErrBadKey},
		"longer":             {header("x-api-key", keyA+"x"), "", ErrBadKey},
		"case":               {header("x-api-key", strings.ToLower(keyA)), "", ErrBadKey},
		"the digest itself":  {header("x-api-key", hex.EncodeToString(db[:])), "", ErrBadKey},
		"very long":          {header("x-api-key", strings.Repeat("x", KeyMaxBytes+1)), "", ErrBadKey},
		"expired":            {header("x-api-key", "sk-tw-expired-expired"), "", ErrExpired},
		"expires later":      {header("x-api-key", "sk-tw-expires-later"), "c", nil},
		"disabled":           {header("x-api-key", "sk-tw-disabled-disabled"), "", ErrExpired},
	} {
		p, err := a.Authenticate(c.h)
		if !errors.Is(err, c.err) || (err == nil) != (p != nil) || (p != nil && p.Team != c.team) {
			t.Errorf("%s: %+v, %v, want team %q, %v", name, p, err, c.team, c.err)
		}
	}
	if got := len(a.Principals()); got != 5 {
		t.Errorf("%d principals, want 5", got)
	}
}

func TestNoKeysIsLocal(t *testing.T) {
	a, err := New(Options{})
	if err != nil || !a.Open() {
		t.Fatalf("New: %v, open %v, want open", err, a.Open())
	}
	for _, h := range []http.Header{header(), header("Authorization", "Bearer whatever"), header("Authorization", "Basic x")} {
		if p, err := a.Authenticate(h); err != nil || p.KeyID != Local || p != a.Principals()[0] {
			t.Errorf("Authenticate(%v) = %+v, %v, want the local principal", h, p, err)
		}
	}
}

// A browser on this machine asks for whatever page it shows, and says of which. Without keys only pages of this machine may.
func TestNoKeysAndPages(t *testing.T) {
	open, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	keyed, err := New(Options{Keys: []KeyConfig{{Key: keyA}}})
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]error{
		"": nil, "http://localhost:3000": nil, "http://127.0.0.1": nil, "https://[::1]:8443": nil, "chrome-extension://abcdef": nil,
		"https://evil.example": ErrForeignPage, "http://evil.example:8080": ErrForeignPage, "http://192.168.1.7:8080": ErrForeignPage,
		"http://localhost.evil.example": ErrForeignPage, "null": ErrForeignPage, "http://": ErrForeignPage, "http://127.0.0.1.evil.example": ErrForeignPage,
		"https://localhost@evil.example": ErrForeignPage, "::": ErrForeignPage,
	} {
		h := header("Origin", origin)
		if _, err := open.Authenticate(h); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", origin, err, want)
		}
		h.Set("X-Api-Key", keyA)
		if _, err := keyed.Authenticate(h); err != nil {
			t.Errorf("%q with a key: %v", origin, err)
		}
	}
}

func TestPrincipal(t *testing.T) {
	explore := false
	a, err := New(Options{
		Keys: []KeyConfig{{
			Key: keyA, Org: "acme", Team: "ml", Budget: BudgetConfig{DayUSD: usd(0), TotalUSD: usd(1.5)}, Explore: &explore,
			Permissions: []Permission{PolicyOverride}, Allow: []string{"openai/*", "claude-*"}, Deny: []string{"*/*-pro", "fireworks-ai/*"}, RequestsPerMinute: 7,
		}},
		Orgs:  []OwnerConfig{{Name: "acme", Budget: BudgetConfig{MonthUSD: usd(100)}}, {Name: "other", Budget: BudgetConfig{MonthUSD: usd(1)}}},
		Teams: []OwnerConfig{{Name: "ml", Org: "acme", Budget: BudgetConfig{WeekUSD: usd(20)}}, {Name: "ml", Org: "other", Budget: BudgetConfig{WeekUSD: usd(2)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := a.Principals()[0]
	d := Digest(keyA)
	id := hex.EncodeToString(d[:8])
	want := []Budget{
		{"key", id, "day", 0}, {"key", id, "total", 1_500_000_000}, {"team", "acme/ml", "week", 20_000_000_000}, {"org", "acme", "month", 100_000_000_000},
	}
	if fmt.Sprint(p.Budgets) != fmt.Sprint(want) || p.KeyID != id {
		t.Errorf("budgets %v of key %s, want %v", p.Budgets, p.KeyID, want)
	}
	if !p.Can(PolicyOverride) || p.Can("other") || p.LogLevel != LogFeatures || *p.Explore || p.Limits.RequestsPerMinute != 7 {
		t.Errorf("principal %+v", p)
	}
	for arm, want := range map[catalog.ArmID][2]bool{
		"openai/gpt-5":        {true, false},
		"openai/gpt-5-pro":    {false, true},
		"anthropic/claude-x":  {true, false},
		"google/gemini":       {false, false},
		"mirror/openai/gpt-5": {false, false},
		// A vendor's own names may have slashes, and what is denied to a provider is denied to all of it.
		"fireworks-ai/accounts/fireworks/models/claude-x": {false, true},
	} {
		if allowed, denied := p.Arm(arm); allowed != want[0] || denied != want[1] {
			t.Errorf("Arm(%s) = %v, %v, want %v", arm, allowed, denied, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	empty := Digest("")
	for name, o := range map[string]Options{
		"no key":           {Keys: []KeyConfig{{Name: "k"}}},
		"key and digest":   {Keys: []KeyConfig{{Name: "k", Key: keyA, SHA256: strings.Repeat("0", 64)}}},
		"spaces":           {Keys: []KeyConfig{{Name: "k", Key: keyA + "\n"}}},
		"only spaces":      {Keys: []KeyConfig{{Name: "k", Key: "                    "}}},
		"short":            {Keys: []KeyConfig{{Name: "k", Key: "canary-canary!!"}}},
		"long":             {Keys: []KeyConfig{{Name: "k", Key: telemetry.Secret(strings.Repeat("x", KeyMaxBytes+1))}}},
		"digest too short": {Keys: []KeyConfig{{Name: "k", SHA256: "00"}}},
		"digest not hex":   {Keys: []KeyConfig{{Name: "k", SHA256: strings.Repeat("z", 64)}}},
		"digest of empty":  {Keys: []KeyConfig{{Name: "k", SHA256: hex.EncodeToString(empty[:])}}},
		"twice":            {Keys: []KeyConfig{{Key: keyA}, {Name: "k", Key: keyA}}},
		"log":              {Keys: []KeyConfig{{Name: "k", Key: keyA, Log: "all"}}},
		"permission":       {Keys: []KeyConfig{{Name: "k", Key: keyA, Permissions: []Permission{"root"}}}},
		"glob":             {Keys: []KeyConfig{{Name: "k", Key: keyA, Deny: []string{"[a"}}}},
		"empty glob":       {Keys: []KeyConfig{{Name: "k", Key: keyA, Allow: []string{""}}}},
		"floor":            {Keys: []KeyConfig{{Name: "k", Key: keyA, Floor: 1.5}}},
		"negative rate":    {Keys: []KeyConfig{{Name: "k", Key: keyA, Concurrent: -1}}},
		"negative budget":  {Keys: []KeyConfig{{Name: "k", Key: keyA, Budget: BudgetConfig{DayUSD: usd(-1)}}}},
		"endless budget":   {Keys: []KeyConfig{{Name: "k", Key: keyA, Budget: BudgetConfig{DayUSD: usd(1e300)}}}},
		"team budget":      {Teams: []OwnerConfig{{Name: "k", Budget: BudgetConfig{DayUSD: usd(-1)}}}},
		"org twice":        {Orgs: []OwnerConfig{{Name: "k"}, {Name: "k"}}},
		"team's org":       {Teams: []OwnerConfig{{Name: "k", Org: "a/b"}}},
		"slash in a team":  {Keys: []KeyConfig{{Name: "k", Key: keyA, Org: "a", Team: "b/c"}}},
		"org without name": {Orgs: []OwnerConfig{{}}},
		"org with a slash": {Orgs: []OwnerConfig{{Name: "k/l"}}},
	} {
		_, err := New(o)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if strings.Contains(err.Error(), keyA[:12]) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error tells the key: %v", name, err)
		}
	}
}

func TestLogLevelOnlyFalls(t *testing.T) {
	rank := map[LogLevel]int{LogNone: 0, LogFeatures: 1, LogFull: 2}
	for a, ra := range rank {
		for b, rb := range rank {
			if got := a.Strictest(b); rank[got] != min(ra, rb) {
				t.Errorf("%s and %s = %s", a, b, got)
			}
		}
		if got := a.Strictest("everything"); got != LogNone {
			t.Errorf("%s and an unknown level = %s, want none", a, got)
		}
	}
}

func TestNewKey(t *testing.T) {
	form := regexp.MustCompile(`^sk-tw-[A-Za-z0-9_-]{43}$`)
	seen := map[string]bool{}
	for range 100 {
		k := NewKey()
		if !form.MatchString(k.Reveal()) || seen[k.Reveal()] {
			t.Errorf("NewKey has the wrong form or came twice")
		}
		seen[k.Reveal()] = true
		if _, err := New(Options{Keys: []KeyConfig{{Key: k}}}); err != nil {
			t.Errorf("a new key is refused: %v", err)
		}
	}
}

// Identity is exact: whatever is sent, it is accepted only if it is a configured key to the last byte.
func TestIdentityIsExact(t *testing.T) {
	a, err := New(Options{Keys: []KeyConfig{{Key: keyA, Team: keyA}, {Key: keyB, Team: keyB}}})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		sent := []byte(rapid.SampledFrom([]string{keyA, keyB, ""}).Draw(t, "key") + rapid.StringN(0, 3, -1).Draw(t, "tail"))
		if n := len(sent); n > 0 && rapid.Bool().Draw(t, "change") {
			sent[rapid.IntRange(0, n-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		p, err := a.Authenticate(http.Header{"X-Api-Key": {string(sent)}})
		known := string(sent) == keyA || string(sent) == keyB
		if (err == nil) != known || (known && p.Team != string(sent)) {
			t.Fatalf("Authenticate(%q) = %+v, %v", sent, p, err)
		}
	})
}

func FuzzAuthenticate(f *testing.F) {
	a, err := New(Options{Keys: []KeyConfig{{Key: keyA}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("Bearer "+keyA, "")
	f.Add("", keyA)
	f.Fuzz(func(t *testing.T, authorization, apiKey string) {
		_, err := a.Authenticate(http.Header{"Authorization": {authorization}, "X-Api-Key": {apiKey}})
		if err == nil && !strings.Contains(authorization+apiKey, keyA) {
			t.Errorf("accepted %q, %q", authorization, apiKey)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	a, _ := New(Options{Keys: []KeyConfig{{Key: keyA}}})
	h := header("Authorization", "Bearer "+keyA)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(h); err != nil {
			b.Fatal(err)
		}
	}
}
