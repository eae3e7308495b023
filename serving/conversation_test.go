package serving_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/session"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// draws is a gateway with three equal arms that explores almost always. The test says what it draws: the first arm is
// the best one, and u near 1 is the last.
func draws(t testing.TB, u *float64, more ...func(*setup)) *world {
	s := setup{arms: peers(3), options: serving.Options{Settings: serving.Settings{Epsilon: .9}, Uniform: func() float64 { return *u }}}
	for _, f := range more {
		f(&s)
	}
	return newWorld(t, s)
}

// chosen is the model that answered and the reason.
func (a *answer) chosen() string {
	a.Helper()
	a.wantOK()
	return a.header.Get("X-Tradewind-Model") + " " + a.header.Get("X-Tradewind-Reason")
}

// turns is a request of these turns, the user's and the assistant's in turn.
func turns(more string, texts ...string) string {
	var all []string
	for i, text := range texts {
		all = append(all, fmt.Sprintf(`{"role":%q,"content":%q}`, []string{"user", "assistant"}[i%2], text))
	}
	return `{"model":"auto"` + more + `,"messages":[` + strings.Join(all, ",") + `]}`
}

// TestNamedSession: whatever names it, the second request of a session stays with the arm that the first one drew, and is
// of its draw.
func TestNamedSession(t *testing.T) {
	for _, tt := range []struct{ header, more string }{
		{"X-Tradewind-Session-Id", ""}, {"X-Session-Id", ""}, {"X-Claude-Code-Session-Id", ""},
		{"", `,"tradewind":{"session_id":"s"}`}, {"", `,"session_id":"s"`},
	} {
		u := .999
		w := draws(t, &u)
		var header []string
		if tt.header != "" {
			header = []string{tt.header, "s"}
		}
		w.do("POST", "/v1/route", turns(tt.more, "one"), header...).wantOK() // opens nothing
		first := w.chat(turns(tt.more, "one"), header...)
		u = .5
		dry := w.do("POST", "/v1/route", turns(tt.more, "two"), header...).wantOK()
		if dry.get("reason") != "sticky" || dry.get("action") != "peer/c" || dry.get("session.previous_model") != "peer/c" {
			t.Errorf("%v: a dry run says %s", tt, dry.body)
		}
		second := w.chat(turns(tt.more, "two"), header...)
		third := w.chat(turns(tt.more, "three"), header...)
		if a, b, c := first.chosen(), second.chosen(), third.chosen(); a != "peer/c explored" || b != "peer/c sticky" || c != b {
			t.Errorf("%v: %s, then %s, then %s", tt, a, b, c)
		}
		d, _ := w.outcome(third)
		if checkReplay(t, d); d.DrawID != first.round() || d.Propensity != 1 || d.Certified {
			t.Errorf("%v: draw %s of %s with propensity %v", tt, d.DrawID, first.round(), d.Propensity)
		}
		if other := w.chat(turns("", "one")).chosen(); other == "peer/c sticky" {
			t.Errorf("%v: a request without it is %s", tt, other)
		}
	}
}

// TestUnnamedSession: without a name only what goes on where it ended is of a session. The same question again, and many
// conversations under one cache key, are draws of their own.
func TestUnnamedSession(t *testing.T) {
	u := .999
	w := draws(t, &u)
	for _, tt := range []struct {
		u    float64
		body string
		want string
	}{
		{.999, turns("", "hello"), "peer/c explored"},
		{.5, turns("", "hello"), "peer/b explored"},
		{.999, turns("", "hello"), "peer/c explored"},
		{.5, turns("", "hello", "hi", "more"), "peer/c sticky"},
		{.5, turns("", "hello", "hi", "more", "yes", "and more"), "peer/c sticky"},
		{.5, turns("", "hello", "hi", "more"), "peer/b explored"},             // asked again
		{.999, turns("", "hello", "hi", "something else"), "peer/c explored"}, // another example of one task
		{.999, turns(`,"prompt_cache_key":"k"`, "one"), "peer/c explored"},
		{.5, turns(`,"prompt_cache_key":"k"`, "two"), "peer/b explored"},
		{.5, turns(`,"prompt_cache_key":"k"`, "one", "1", "more"), "peer/c sticky"},
	} {
		u = tt.u
		if got := w.chat(tt.body).chosen(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.body, got, tt.want)
		}
	}
}

// TestExplorationGoesOn: a service that sends one template explores as often as it would without sessions.
func TestExplorationGoesOn(t *testing.T) {
	step, u := 0.0, 0.0
	w := draws(t, &u)
	explored := 0
	for range 100 {
		step += .01
		u = step - .005
		if strings.HasSuffix(w.chat(turns(`,"prompt_cache_key":"service"`, "classify this", "spam", "and this")).chosen(), "explored") {
			explored++
		}
	}
	if explored != 60 { // two thirds of nine tenths
		t.Errorf("%d of 100 rounds explored, want 60", explored)
	}
}

func inSession(id string) []string { return []string{"X-Tradewind-Session-Id", id} }

// TestSessionFollowsWhoeverServed: the session moves with a failover, leaves an arm that is filtered, and is forgotten
// where nobody answered.
func TestSessionFollowsWhoeverServed(t *testing.T) {
	u := .999
	w := draws(t, &u)
	first := w.chat(turns("", "one"), inSession("s")...)
	w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
		if r.Arm.ID == "peer/c" {
			return nil, fails(upstream.ModelGone, 404)
		}
		return &script{}, nil
	})
	failed := w.chat(turns("", "two"), inSession("s")...)
	if got := failed.chosen(); got != "peer/a fallback" {
		t.Fatalf("the arm failed: %s", got)
	}
	moved := w.chat(turns("", "three"), inSession("s")...)
	if got := moved.chosen(); got != "peer/a sticky" {
		t.Errorf("after a failover: %s", got)
	}
	if d, _ := w.outcome(moved); d.DrawID != first.round() {
		t.Errorf("after a failover the draw is %s, want %s, whose action this arm is not", d.DrawID, first.round())
	}
	w.vendor.play(nil)
	u = .5
	left := w.chat(turns(`,"tradewind":{"deny":["peer/a"],"explore":false}`, "four"), inSession("s")...)
	if got := left.chosen(); got != "peer/b only_candidate" {
		t.Errorf("the arm is denied and another has failed: %s", got)
	}
	if d, _ := w.outcome(left); d.DrawID != left.round() {
		t.Errorf("a session that was left has the draw %s, want its own", d.DrawID)
	}
	if got := w.chat(turns("", "five"), inSession("s")...).chosen(); got != "peer/b sticky" {
		t.Errorf("after it was left: %s", got)
	}
	w.vendor.play(func(int, *upstream.Request) (*script, error) { return nil, fails(upstream.BadRequest, 400) })
	w.chat(turns("", "one"), inSession("fails")...).wantError(400, openai.InvalidRequest)
	w.vendor.play(nil)
	if got := w.chat(turns("", "two"), inSession("fails")...).chosen(); strings.HasSuffix(got, "sticky") {
		t.Errorf("nobody had answered, and yet %s", got)
	}
}

// TestSessionOpensBeforeTheAnswer: of requests that a client sends at once all have the arm that the first one drew, and a
// slow answer brings back no arm that was left meanwhile.
func TestSessionOpensBeforeTheAnswer(t *testing.T) {
	u := .999
	w := draws(t, &u)
	asked, release := make(chan struct{}), make(chan struct{})
	w.vendor.play(func(call int, _ *upstream.Request) (*script, error) {
		if call == 1 {
			close(asked)
			<-release
		}
		return &script{}, nil
	})
	first := make(chan *answer)
	go func() { first <- w.chat(turns("", "one"), inSession("s")...) }()
	<-asked
	if got := w.chat(turns("", "two"), inSession("s")...).chosen(); got != "peer/c sticky" {
		t.Errorf("while the first is answered: %s", got)
	}
	if got := w.chat(turns(`,"tradewind":{"deny":["peer/c"],"explore":false}`, "three"), inSession("s")...).chosen(); got != "peer/a predicted" {
		t.Errorf("where its arm is denied: %s", got)
	}
	close(release)
	if got := (<-first).chosen(); got != "peer/c explored" {
		t.Errorf("the first: %s", got)
	}
	if got := w.chat(turns("", "four"), inSession("s")...).chosen(); got != "peer/a sticky" {
		t.Errorf("after a slow answer: %s", got)
	}
}

// TestSwitchCost: what leaving costs is what the vendor has in its cache, at its own prices, while it is warm.
func TestSwitchCost(t *testing.T) {
	u, now := .999, time.Now()
	w := draws(t, &u, func(s *setup) { s.options.Now = func() time.Time { return now } })
	w.vendor.play(func(int, *upstream.Request) (*script, error) {
		return &script{events: []string{whole("yes", `{"prompt_tokens":3000,"completion_tokens":3}`)}}, nil
	})
	long := strings.Repeat("word ", 4000)
	shown := func(a *answer) (sticky, previous, usd any) {
		e := w.do("GET", "/v1/decisions/"+string(a.round()), "").wantOK()
		return e.get("session.sticky"), e.get("session.previous_model"), e.get("session.switch_cost_usd")
	}
	if sticky, _, _ := shown(w.chat(turns("", long), inSession("s")...)); sticky != nil {
		t.Error("the first request has a session to stay with")
	}
	now = now.Add(time.Minute)
	// A million tokens cost a dollar, and read from the cache a tenth.
	if sticky, previous, usd := shown(w.chat(turns("", long), inSession("s")...)); sticky != true || previous != "peer/c" || usd != "0.0027" {
		t.Errorf("sticky %v, previously %v, for %v USD", sticky, previous, usd)
	}
	if _, _, usd := shown(w.chat(turns("", "short"), inSession("s")...)); usd != "9e-7" {
		t.Errorf("a request of one token loses %v USD", usd)
	}
	w.chat(turns("", long), inSession("s")...)
	now = now.Add(session.Warm + time.Second)
	if sticky, _, usd := shown(w.chat(turns("", long), inSession("s")...)); sticky != true || usd != "0" {
		t.Errorf("with a cold cache: sticky %v for %v USD", sticky, usd)
	}
	now = now.Add(31 * time.Minute)
	if sticky, _, _ := shown(w.chat(turns("", long), inSession("s")...)); sticky != nil {
		t.Errorf("after half an hour: sticky %v", sticky)
	}
}

// TestSessionsAreApart: of two keys, and of what a request names.
func TestSessionsAreApart(t *testing.T) {
	u := .999
	w := draws(t, &u, func(s *setup) {
		s.auth = governance.Options{Keys: []governance.KeyConfig{{Key: keyA, Log: governance.LogFull}, {Key: keyB}}}
		s.options.Aliases = map[string][]string{"pair": {"peer/a", "peer/b"}}
	})
	a, b := append(inSession("s"), bearer(keyA)...), append(inSession("s"), bearer(keyB)...)
	first := w.chat(turns("", "one"), a...)
	u = .5
	for _, tt := range []struct {
		name, body string
		header     []string
		want       string
	}{
		{"another key", turns("", "one"), b, "peer/b explored"},
		{"a named model", ask("peer/a", ""), a, "peer/a pinned"},
		{"its session is where it was", turns("", "two"), a, "peer/c sticky"},
		{"a group", ask("auto/pair", `,"tradewind":{"explore":false}`), a, "peer/a predicted"},
		{"the group's own session", ask("auto/pair", ""), a, "peer/a sticky"},
		{"and the first", turns("", "three"), a, "peer/c sticky"},
	} {
		if got := w.chat(tt.body, tt.header...).chosen(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	rounds, conversations := w.rounds(), map[string]int{}
	for _, r := range rounds {
		conversations[r.Decision.Conversation]++
	}
	if d, _ := w.outcome(first); len(d.Conversation) != 32 || conversations[d.Conversation] != 6 || len(conversations) != 2 {
		t.Errorf("conversations %v, want one of 6 rounds and one of another key", conversations)
	}
	private := w.chat(turns("", "one"), append(a, "X-Tradewind-Log", "none")...)
	if d, _ := w.outcome(private); d.Conversation != "" || d.Reason != datasets.Sticky {
		t.Errorf("a round of which nothing is kept has the conversation %q, reason %s", d.Conversation, d.Reason)
	}
}

// TestSessionsKeepTheCache (pain 35: OpenRouterTeam/ai-sdk-provider#499): in ten conversations of twelve turns with vendors
// that cache what they have read, almost all of what can be cached is, and it costs as much less. Where every turn is a
// session of its own they go from model to model.
func TestSessionsKeepTheCache(t *testing.T) {
	const conversations, length = 10, 12
	run := func(sessions bool) (cached, cost float64) {
		rng := rand.New(rand.NewPCG(1, 2))
		u := 0.0
		w := draws(t, &u, func(s *setup) {
			for i := range s.arms {
				s.arms[i].ContextTokens = 0
			}
		})
		read := map[catalog.ArmID]int{} // of the conversation that goes on
		w.vendor.play(func(_ int, r *upstream.Request) (*script, error) {
			tokens := len(r.Body) / 4
			usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":%d}}`, tokens, read[r.Arm.ID])
			read[r.Arm.ID] = tokens
			return &script{events: []string{whole("yes", usage)}}, nil
		})
		total, hit := 0.0, 0.0
		for c := range conversations {
			clear(read)
			said := []string{fmt.Sprint(c, strings.Repeat(" word", 2000))}
			for turn := range length {
				u = rng.Float64()
				id := fmt.Sprint(c)
				if !sessions {
					id += fmt.Sprint("/", turn)
				}
				_, o := w.outcome(w.chat(turns("", said...), inSession(id)...).wantOK())
				total, hit, cost = total+float64(o.Usage.InputTokens()), hit+float64(o.Usage.CacheRead), cost+o.Cost.Dollars()
				said = append(said, "yes", strings.Repeat("more ", 100))
			}
		}
		return hit / total, cost
	}
	cached, cost := run(true)
	without, dear := run(false)
	t.Logf("cached %.0f %% of all input, and %.0f %% without sessions; %.4f USD and %.4f", 100*cached, 100*without, cost, dear)
	if cached < .85 || cached < without+.15 || cost > .8*dear {
		t.Errorf("cached %.2f of all input, and %.2f without sessions; %v USD and %v", cached, without, cost, dear)
	}
}
