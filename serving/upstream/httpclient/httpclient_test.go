package httpclient

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/serving/upstream"
)

func TestRefusePrivate(t *testing.T) {
	tests := map[string]bool{
		"8.8.8.8:443": true, "[2606:4700::1111]:443": true,
		"127.0.0.1:80": false, "10.1.2.3:80": false, "172.16.0.1:80": false, "192.168.1.1:80": false,
		"169.254.169.254:80": false, "100.64.0.1:80": false, "0.0.0.0:80": false, "0.1.2.3:80": false, "224.0.0.1:80": false,
		"255.255.255.255:80": false, "[::1]:80": false, "[::]:80": false, "[fe80::1]:80": false, "[fd00::1]:80": false,
		"[::ffff:10.0.0.1]:80": false, "[::ffff:100.64.0.1]:80": false, "[64:ff9b::a00:1]:80": false, "[2002:a00:1::]:80": false, "nonsense": false,
	}
	for address, want := range tests {
		if got := refusePrivate("tcp", address, nil) == nil; got != want {
			t.Errorf("%s: allowed %v, want %v", address, got, want)
		}
	}
}

// A name that resolves to loopback is refused at dial, although nothing in the address itself says so.
func TestPrivateName(t *testing.T) {
	c, err := New(Options{BaseURL: "http://example.test:1"})
	if err != nil {
		t.Fatal(err)
	}
	if c.transport.DialContext == nil {
		t.Fatal("no dialer")
	}
	_, err = c.transport.DialContext(t.Context(), "tcp", "127.0.0.1:1")
	if !errors.Is(err, errPrivate) {
		t.Errorf("dial: got %v, want %v", err, errPrivate)
	}
	local, err := New(Options{BaseURL: "http://example.test:1", AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = local.transport.DialContext(t.Context(), "tcp", "127.0.0.1:1"); errors.Is(err, errPrivate) {
		t.Error("AllowPrivate did not allow it")
	}
}

// No redirect is followed, by a library's own calls neither: they carry credentials.
func TestLibraryIsNotLedAway(t *testing.T) {
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer attacker.Close()
	vendor := httptest.NewServer(http.RedirectHandler(attacker.URL, http.StatusTemporaryRedirect))
	defer vendor.Close()
	c, err := New(Options{BaseURL: vendor.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.HTTP(time.Minute).Get(vendor.URL)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("got %s, want the redirect itself", resp.Status)
	}
}

// A refusal that never ends is read no further than its limit.
func TestRefusalIsBounded(t *testing.T) {
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(make([]byte, errorBodyMax))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer vendor.Close()
	c, err := New(Options{BaseURL: vendor.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var refused *upstream.Error
	if _, err = c.Post(t.Context(), &Call{Header: http.Header{}}); !errors.As(err, &refused) || refused.Status != http.StatusBadRequest {
		t.Errorf("got %v, want the refusal", err)
	}
}
