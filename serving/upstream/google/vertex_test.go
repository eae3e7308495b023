package google

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving/upstream"
	"github.com/tradewind-llm/tradewind/serving/upstream/upstreamtest"
)

// onVertex is a provider of Vertex AI at an address, for the account of a file.
func onVertex(t *testing.T, baseURL string, file []byte) *Provider {
	t.Helper()
	account, err := ParseAccount(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewVertex(VertexOptions{Location: "europe-west4", Account: account, BaseURL: baseURL + "/v1/"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestVertexConformance(t *testing.T) {
	upstreamtest.RunVertex(t, func(baseURL string, account []byte) upstream.Provider { return onVertex(t, baseURL, account) })
}

func TestVertexAddress(t *testing.T) {
	for _, test := range []struct {
		o    VertexOptions
		want string
	}{
		{VertexOptions{Location: "europe-west4"}, "https://europe-west4-aiplatform.googleapis.com/v1/projects/own/locations/europe-west4/publishers/google"},
		{VertexOptions{Location: "global", Project: "p"}, "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google"},
		{VertexOptions{Location: "eu"}, "https://aiplatform.eu.rep.googleapis.com/v1/projects/own/locations/eu/publishers/google"},
		{VertexOptions{Location: "us", BaseURL: "https://vertex.example/v1beta1/"}, "https://vertex.example/v1beta1/projects/own/locations/us/publishers/google"},
	} {
		test.o.Account.Project = "own"
		if got := test.o.base(); got != test.want {
			t.Errorf("%+v: %s, want %s", test.o, got, test.want)
		}
	}
}

// vertex is a vendor that takes some tokens, and remembers which it was sent and where.
type vertex struct {
	*httptest.Server
	mu   sync.Mutex
	saw  []string
	last string // the last body
}

func newVertex(t *testing.T, takes func(token string) bool) *vertex {
	v := &vertex{}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		body, _ := io.ReadAll(r.Body)
		v.mu.Lock()
		v.saw, v.last = append(v.saw, r.URL.Path+" "+token), string(body)
		v.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if !takes(token) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"error":{"code":401,"message":"Request had invalid authentication credentials: %s","status":"UNAUTHENTICATED"}}`, token)
			return
		}
		_, _ = io.WriteString(w, `{"candidates":[{"content":{"parts":[{"text":"hello"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,"totalTokenCount":2}}`)
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *vertex) tokens() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.Join(v.saw, "\n")
}

// call makes one call to its end.
func call(ctx context.Context, p *Provider, body string) error {
	s, err := p.Stream(ctx, &upstream.Request{Arm: &catalog.Arm{ID: "google-vertex/gemini-2.5-flash"}, Body: []byte(body)})
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		if _, err = s.Next(); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

const hi = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`

// numbered gives token-1, token-2 and so on.
func numbered(seconds int) func(int) (int, string) {
	return func(n int) (int, string) {
		return http.StatusOK, upstreamtest.Token(fmt.Sprintf("token-%d-0123456789", n), seconds)
	}
}

const vertexPath = "/v1/projects/our-project/locations/europe-west4/publishers/google/models/gemini-2.5-flash:generateContent"

// One token is good for every call until it ends or is refused; then there is the next.
func TestTokens(t *testing.T) {
	all := func(string) bool { return true }
	for name, test := range map[string]struct {
		seconds int
		takes   func(token string) bool
		saw     []int // the token of each call that the vendor saw
		fetched int
		fails   bool
	}{
		"kept":           {3600, all, []int{1, 1, 1}, 1, false},
		"without an end": {0, all, []int{1, 1, 1}, 1, false},
		"at its end":     {1, all, []int{1, 2, 3}, 3, false},
		"revoked":        {3600, func(token string) bool { return !strings.HasPrefix(token, "token-1-") }, []int{1, 2, 2, 2}, 2, false},
		"never taken":    {3600, func(string) bool { return false }, []int{1, 2, 2, 3, 3, 4}, 4, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := upstreamtest.NewTokenHost(t, numbered(test.seconds))
			v := newVertex(t, test.takes)
			p := onVertex(t, v.URL, h.Account())
			for range 3 {
				err := call(t.Context(), p, hi)
				if (err != nil) != test.fails {
					t.Fatal(err)
				}
				var e *upstream.Error
				if test.fails && (!errors.As(err, &e) || e.Class != upstream.Auth || e.Status != 401 || strings.Contains(fmt.Sprintf("%+v", *e), "token-")) {
					t.Errorf("got %+v, want one of class auth that tells no token", e)
				}
			}
			want := ""
			for _, n := range test.saw {
				want += fmt.Sprintf("%s token-%d-0123456789\n", vertexPath, n)
			}
			if got := v.tokens() + "\n"; got != want || h.Asked() != test.fetched {
				t.Errorf("%d tokens were fetched, want %d; the vendor saw\n%swant\n%s", h.Asked(), test.fetched, got, want)
			}
		})
	}
}

// The next token is fetched before the one in use ends, and no call waits for it.
func TestTokenAhead(t *testing.T) {
	release := make(chan struct{})
	h := upstreamtest.NewTokenHost(t, func(n int) (int, string) {
		if n == 2 {
			<-release
		}
		return numbered(60)(n)
	})
	v := newVertex(t, func(string) bool { return true })
	p := onVertex(t, v.URL, h.Account())
	for range 5 {
		if err := call(t.Context(), p, hi); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	if saw := v.tokens(); strings.Count(saw, "token-1-") != 5 {
		t.Errorf("the vendor saw %s", saw)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(v.tokens(), "token-2-"); time.Sleep(time.Millisecond) {
		if err := call(t.Context(), p, hi); err != nil || time.Now().After(end) {
			t.Fatalf("the second token is never used: %v", err)
		}
	}
}

// Whoever comes while a token is on its way waits for that one, and no longer than he likes.
func TestTokenIsFetchedOnce(t *testing.T) {
	release := make(chan struct{})
	h := upstreamtest.NewTokenHost(t, func(n int) (int, string) {
		<-release
		return numbered(3600)(n)
	})
	p := onVertex(t, newVertex(t, func(string) bool { return true }).URL, h.Account())
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := call(gone, p, hi); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left got %v", err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := call(t.Context(), p, hi); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	all.Wait()
	if n := h.Asked(); n != 1 {
		t.Errorf("%d tokens were fetched, want 1", n)
	}
}

func TestTokenIsRefused(t *testing.T) {
	v := newVertex(t, func(string) bool { return true })
	for name, test := range map[string]struct {
		status int
		body   string
		want   upstream.Class
		says   string
	}{
		"no such account": {400, `{"error":"invalid_grant","error_description":"Invalid grant: account not found"}`, upstream.Auth, "(invalid_grant: Invalid grant: account not found)"},
		"not a word":      {401, `{"error":"invalid_client","error_description":"of eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIs"}`, upstream.Auth, "no token"},
		"no JSON":         {403, `<html>`, upstream.Auth, "no token"},
		"too many":        {429, `{}`, upstream.RateLimited, "no token"},
		"down":            {503, ``, upstream.Server, "no token"},
		"no answer":       {200, `<html>`, upstream.Connect, "no answer"},
		"empty":           {200, `{}`, upstream.BadAnswer, "without a token"},
		"elsewhere":       {302, ``, upstream.Auth, "no token"},
	} {
		t.Run(name, func(t *testing.T) {
			h := upstreamtest.NewTokenHost(t, func(int) (int, string) { return test.status, test.body })
			err := call(t.Context(), onVertex(t, v.URL, h.Account()), hi)
			var e *upstream.Error
			if !errors.As(err, &e) || e.Class != test.want || !strings.Contains(e.Message, test.says) || strings.Contains(e.Message, "eyJ") {
				t.Errorf("got %v, want %s: %s", err, test.want, test.says)
			}
		})
	}
	h := upstreamtest.NewTokenHost(t, numbered(3600))
	file := h.Account()
	h.Close()
	var e *upstream.Error
	if err := call(t.Context(), onVertex(t, v.URL, file), hi); !errors.As(err, &e) || e.Class != upstream.Connect {
		t.Errorf("without a token host: %v", err)
	}
	if saw := v.tokens(); saw != "" {
		t.Errorf("the vendor was called without a token: %s", saw)
	}
}

// A file of credentials does not say where we connect: only to Google, and to the host that is configured.
func TestVertexRefuses(t *testing.T) {
	h := upstreamtest.NewTokenHost(t, numbered(3600))
	good, err := ParseAccount(h.Account())
	if err != nil {
		t.Fatal(err)
	}
	at := func(url string) Account { a := good; a.TokenURL = url; return a }
	for name, test := range map[string]struct {
		o    VertexOptions
		want string
	}{
		"no location":     {VertexOptions{Account: good}, "GOOGLE_VERTEX_LOCATION"},
		"a path":          {VertexOptions{Account: good, Location: "../.."}, "GOOGLE_VERTEX_LOCATION"},
		"a bad project":   {VertexOptions{Account: good, Location: "eu", Project: "a/b"}, "GOOGLE_VERTEX_PROJECT"},
		"no account":      {VertexOptions{Location: "eu", Project: "p"}, "needs the key of a service account"},
		"elsewhere":       {VertexOptions{Location: "eu", Account: good}, `at "127.0.0.1"`},
		"like Google":     {VertexOptions{Location: "eu", Account: at("https://oauth2.googleapis.com.evil.example/token")}, "neither Google's"},
		"not encrypted":   {VertexOptions{Location: "eu", Account: at("http://oauth2.googleapis.com/token")}, "neither Google's"},
		"another port":    {VertexOptions{Location: "eu", Account: at("https://oauth2.googleapis.com:8443/token")}, "neither Google's"},
		"no address":      {VertexOptions{Location: "eu", Account: at("token")}, "cannot be parsed"},
		"not as the base": {VertexOptions{Location: "eu", Account: good, BaseURL: "https://vertex.example/v1"}, "neither Google's"},
	} {
		if _, err := NewVertex(test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	for _, url := range []string{"https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"} {
		p, err := NewVertex(VertexOptions{Location: "eu", Account: at(url)})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		p.Close()
	}
	if h.Asked() != 0 {
		t.Error("a token was fetched before the first call")
	}
}

func TestParseAccount(t *testing.T) {
	file := upstreamtest.NewTokenHost(t, numbered(1)).Account()
	var fields map[string]string
	if err := json.Unmarshal(file, &fields); err != nil {
		t.Fatal(err)
	}
	with := func(name, value string) []byte {
		changed := map[string]string{}
		for k, v := range fields {
			changed[k] = v
		}
		changed[name] = value
		text, _ := json.Marshal(changed)
		return text
	}
	for name, test := range map[string]struct {
		text []byte
		want string
	}{
		"good":             {file, ""},
		"Google's host":    {with("token_uri", ""), ""},
		"somebody's own":   {with("type", "authorized_user"), `"authorized_user"`},
		"a workload":       {with("type", "external_account"), `"external_account"`},
		"another universe": {with("universe_domain", "cloud.example"), `"cloud.example"`},
		"no key":           {with("private_key", "MIIEvQIBADAN"), "private_key"},
		"a broken key":     {with("private_key", strings.Replace(fields["private_key"], "A", "B", 5)), "private_key"},
		"nobody":           {with("client_email", ""), "client_email"},
		"a key alone":      {[]byte(fields["private_key"]), "not the JSON"},
		"empty":            {nil, "not the JSON"},
		"too long":         {make([]byte, accountBytesMax+1), "more than"},
	} {
		a, err := ParseAccount(test.text)
		if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "MIIE")) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if err == nil && (a.Project != "our-project" || a.TokenURL == "" || !strings.Contains(a.Key.Reveal(), "PRIVATE KEY") || strings.Contains(fmt.Sprintf("%+v", a), "MIIE")) {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// FuzzParseAccount looks for panics, for errors that quote the key, and for accounts that nobody could sign for. None of its seeds
// has a good key: to check one takes seconds in a program that is made for fuzzing.
func FuzzParseAccount(f *testing.F) {
	for _, more := range []string{"", `,"token_uri":"https://oauth2.googleapis.com/token"`, `,"universe_domain":"x"`, `,"project_id":5`} {
		f.Add([]byte(`{"type":"service_account","client_email":"a","private_key":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"` + more + `}`))
	}
	f.Add([]byte(`{"type":"authorized_user","refresh_token":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAccount(text)
		if err == nil && (!isRSA(a.Key.Reveal()) || a.Email == "" || a.TokenURL == "") {
			t.Errorf("%q became %+v", text, a)
		}
		var file struct {
			Key string `json:"private_key"`
		}
		if err != nil && json.Unmarshal(text, &file) == nil && len(file.Key) > 40 && strings.Contains(err.Error(), file.Key) { // no longer words are quoted
			t.Errorf("%q: %v", text, err)
		}
	})
}

// Vertex AI refuses the ids of calls with models before Gemini 3, which go by their order.
func TestIDsOnVertex(t *testing.T) {
	const talk = `{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"so"}]}`
	h := upstreamtest.NewTokenHost(t, numbered(3600))
	v := newVertex(t, func(string) bool { return true })
	vertex := onVertex(t, v.URL, h.Account())
	gemini, err := New(Options{BaseURL: v.URL, Key: upstreamtest.Key})
	if err != nil {
		t.Fatal(err)
	}
	defer gemini.Close()
	for _, test := range []struct {
		p     *Provider
		model string
		want  int
	}{{vertex, "gemini-2.5-flash", 0}, {vertex, "gemini-3.5-flash", 2}, {gemini, "gemini-2.5-flash", 2}} {
		s, err := test.p.Stream(t.Context(), &upstream.Request{Arm: &catalog.Arm{ID: catalog.ArmID("x/" + test.model)}, Body: []byte(talk)})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := strings.Count(v.last, `"id":"c"`); got != test.want {
			t.Errorf("%s: %s has %d ids, want %d", test.model, v.last, got, test.want)
		}
	}
}

// TestResultsInOrder: two calls of one tool are told apart by their order alone where there are no ids, so their results
// come in it, however the client sent them.
func TestResultsInOrder(t *testing.T) {
	const talk = `{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},` +
		`{"role":"tool","tool_call_id":"b","content":"second"},{"role":"tool","tool_call_id":"a","content":"first"}]}`
	const want = `{"functionResponse":{"name":"f","response":{"output":"first"}}},{"functionResponse":{"name":"f","response":{"output":"second"}}}`
	if body, _, err := encode([]byte(talk), "gemini-2.5-flash", false); err != nil || !strings.Contains(string(body), want) {
		t.Errorf("%v: the request is %s, want %s in it", err, body, want)
	}
}
