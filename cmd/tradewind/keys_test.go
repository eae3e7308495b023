package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/upstream/keyring"
)

func TestKeysOfTheEnvironment(t *testing.T) {
	for _, test := range []struct {
		env  env
		want string
	}{
		{env{"MISTRAL_API_KEY": "a", "MISTRAL_API_KEY_2": "b", "MISTRAL_API_KEY_3": "c"}, "mistral: a b c"},
		{env{"MISTRAL_API_KEY": "a", "MISTRAL_API_KEY_3": "c", "MISTRAL_API_KEY_64": "z", "MISTRAL_API_KEY_65": "no"}, "mistral: a c z"},
		{env{"MISTRAL_API_KEY": "a", "MISTRAL_API_KEY_2": "a"}, "mistral: a"},
		{env{"MISTRAL_API_KEY_2": "b"}, ""},
		{env{"GEMINI_API_KEY": "g", "GOOGLE_API_KEY": "h", "GEMINI_API_KEY_2": "i", "GOOGLE_API_KEY_2": "j"}, "google: g i"},
		{env{"AWS_BEARER_TOKEN_BEDROCK": "b", "AWS_BEARER_TOKEN_BEDROCK_2": "c", "AWS_REGION": "us-east-1"}, "amazon-bedrock: b c"},
	} {
		var got string
		for _, p := range withVendors(nil, test.env.get) {
			got += p.Name + ":"
			for _, o := range p.options() {
				got += " " + o.key.Reveal()
			}
		}
		if got != test.want {
			t.Errorf("%v: %q, want %q", test.env, got, test.want)
		}
	}
	for keys, want := range map[string]string{
		"api_keys: [a, b]": "a b", "{api_key: a, api_keys: [b, c]}": "a b c", "api_key: a": "a", "{}": "e f",
		"api_keys: [a, \"\"]": "key 2 is empty, or stands twice", "{api_key: a, api_keys: [b, a]}": "key 3 is empty, or stands twice",
		"api_keys: [" + strings.Repeat("x, ", keyring.KeysMax+1) + "]": "has 65 keys, want at most 64",
	} {
		text := "providers: [{name: mistral, " + strings.Trim(keys, "{}") + "}]"
		file := write(t, "tradewind.yaml", text)
		c, err := loadConfig(file, env{}.get, func(*config) {})
		if err != nil {
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "x, x") {
				t.Errorf("%s: %v, want %s", text, err, want)
			}
			continue
		}
		var got []string
		for _, o := range withVendors(c.Providers, env{"MISTRAL_API_KEY": "e", "MISTRAL_API_KEY_2": "f"}.get)[0].options() {
			got = append(got, o.key.Reveal())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %s", text, got, want)
		}
	}
}

// A key may hedge where its configuration says so, and then with nothing else said.
func TestHedgeIsConfigured(t *testing.T) {
	c, err := loadConfig(write(t, "tradewind.yaml", "keys:\n  - {key: "+gatewayCanary+", hedge: {}}\n  - {key: sk-tw-0123456789abcdef, hedge: {after_ms: 800, max_share: 0.1}}\n  - {key: sk-tw-another-0123456789}\n"), env{}.get, func(*config) {})
	if err != nil {
		t.Fatal(err)
	}
	if k := c.Keys; k[0].Hedge == nil || k[1].Hedge == nil || k[1].Hedge.AfterMS != 800 || *k[1].Hedge.MaxShare != 0.1 || k[2].Hedge != nil {
		t.Errorf("%+v", k)
	}
}

// Of three keys one is refused and one is at its limit. No client notices; the operator is told, by a number; a reload has
// the key tried again.
func TestSeveralKeys(t *testing.T) {
	keys := []string{providerCanary, "sk-lab-limited-0123456789", "sk-lab-good-0123456789"}
	r := startReloadingWith(t, env{"A": keys[0], "B": keys[1], "C": keys[2]}, strings.Replace(oneModel, `api_key: "${LAB_KEY}"`, `api_keys: ["${A}", "${B}", "${C}"]`, 1), pollEvery)
	refuse := true
	r.vendor.refuse = func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch key := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "); {
		case key == keys[0] && refuse:
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"error":{"message":"Incorrect API key provided: %s"}}`, key)
		case key == keys[1]:
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"error":{"message":"slow down"}}`)
		default:
			_, _ = io.WriteString(w, vendorAnswer)
		}
	}
	ask30 := func() (calls [3]int) {
		for range 30 {
			r.call("POST", "/v1/chat/completions", "", ask("lab/small", "hi", "")).want(t, 200, nil)
			for len(r.vendor.calls) > 0 {
				calls[slices.Index(keys, (<-r.vendor.calls).key)]++
			}
		}
		return calls
	}
	if got := ask30(); got != [3]int{1, 1, 30} {
		t.Errorf("calls by key: %v, want the first two asked once", got)
	}
	metrics := string(r.call("GET", "/metrics", "", "").body)
	contains(t, "the metrics", metrics, `tradewind_bad_keys{provider="lab"} 1`, `tradewind_key_switches_total{error_class="auth",provider="lab"} 1`,
		`tradewind_key_switches_total{error_class="rate_limited",provider="lab"} 1`, `tradewind_answers_total{how="first_try"} 30`)
	contains(t, "the log", r.stderr.String(), "a provider refuses a key", "provider=lab key=1 of=3 status=401")
	noSecrets(t, "the metrics", []byte(metrics))
	refuse = false
	r.hangup <- nil
	until(t, "a reload", true, func() string {
		return fmt.Sprint(strings.Contains(r.stderr.String(), "the configuration is in service"))
	})
	if got := ask30(); got[0] < 10 || got[1] != 1 {
		t.Errorf("calls by key after a reload: %v, want the first two tried again", got)
	}
	r.stop()
	noSecrets(t, "standard error", []byte(r.stderr.String()))
	noSecretsInFiles(t, r.data)
}

func TestDoctorAsksWithEveryKey(t *testing.T) {
	v := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sk-lab-good-0123456789" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer v.Close()
	file := write(t, "tradewind.yaml", `providers: [{name: lab, base_url: "`+v.URL+`/v1", api_keys: [sk-lab-good-0123456789, sk-lab-bad-0123456789], models: [m]}]`)
	by, code := examined(t, nil, "--config", file, "--data-dir", t.TempDir())
	if contains(t, "providers", by["providers"], "ok: lab (key 1 of 2) answers", "fail: lab (key 2 of 2) refuses the key (401)"); code != 1 || strings.Contains(by["providers"], "sk-lab") {
		t.Errorf("exit code %d, %s", code, by["providers"])
	}
}

// What is remembered of idempotency keys is configured within bounds: never for less than the day that clients are promised.
func TestIdempotencyIsConfigured(t *testing.T) {
	for text, want := range map[string]string{
		"{hours: 23}": "idempotency.hours is 23", "{hours: 721}": "idempotency.hours is 721", "{hours: .nan}": "hours: a number is wanted",
		"{keys: 999}": "idempotency.keys is 999", "{keys: -1}": "idempotency.keys is -1", "{keys: 5000001}": "idempotency.keys is 5000001",
		"{answers_mib: 15}": "idempotency.answers_mib is 15", "{answers_mib: 1048577}": "idempotency.answers_mib is 1048577",
		"{hours: 24, keys: 1000, answers_mib: 16}": "", "{hours: 720, keys: 5000000, answers_mib: 1048576}": "", "{hour: 24}": "hour",
	} {
		c, err := loadConfig(write(t, "tradewind.yaml", "idempotency: "+text), env{}.get, func(*config) {})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if o := c.Idempotency.options(journal.Always); err == nil && (o.AgeMax.Hours() != c.Idempotency.Hours || o.KeysMax != c.Idempotency.Keys || o.BytesMax>>20 != int64(c.Idempotency.AnswersMiB) || !o.Sync) {
			t.Errorf("%s became %+v", text, o)
		}
	}
}

// What the process may do at once is configured within bounds, and enforced.
func TestCapacityIsConfigured(t *testing.T) {
	for text, want := range map[string]string{
		"{requests: -1}": "capacity.requests is -1", "{requests: 50001}": "capacity.requests is 50001", "{body_mib: 63}": "capacity.body_mib is 63", "{requests: 50000, body_mib: 64}": "",
	} {
		_, err := loadConfig(write(t, "tradewind.yaml", "capacity: "+text), env{}.get, func(*config) {})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	v := newVendor(t)
	begun, finish := make(chan bool), make(chan bool)
	v.refuse = func(w http.ResponseWriter, _ *http.Request) {
		begun <- true
		<-finish
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, vendorAnswer)
	}
	s := start(t, env{"LAB_KEY": "sk-lab-0123456789"}, "--config", write(t, "tradewind.yaml", "capacity: {requests: 1}"+v.provider()))
	first := make(chan reply)
	go func() { first <- s.call("POST", "/v1/chat/completions", "", ask("lab/small", "hi", "")) }()
	<-begun
	s.call("POST", "/v1/chat/completions", "", ask("lab/small", "hi", "")).want(t, 503, nil)
	s.call("GET", "/readyz", "", "").want(t, 200, nil)
	close(finish)
	if r := <-first; r.status != 200 {
		t.Errorf("the one that had a place: %d %s", r.status, r.body)
	}
}
