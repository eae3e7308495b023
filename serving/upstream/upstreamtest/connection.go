package upstreamtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tradewind-llm/tradewind/serving/openai"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// This file tests what happens to the connection: cuts, stalls, cancellation, redirects, reuse.

// cuts ends the connection after every byte of a stream: no cut may pass for a complete answer, but for one after the
// event that tells why the answer ended, where only the mark of its end is missing.
func (s *suite) cuts(t *testing.T) {
	text := s.v.start + s.v.hello + s.v.end
	complete := strings.Index(text, s.v.last) + len(s.v.last)
	var at atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := at.Load()
		w.Header().Set("Content-Type", s.v.streamed())
		_, _ = io.WriteString(w, text[:n])
		w.(http.Flusher).Flush()
		if n%2 == 0 {
			panic(http.ErrAbortHandler) // a cut in the middle of the transfer; the others end it cleanly
		}
	}))
	defer server.Close()
	p := s.provider(server.URL)
	for cut := range len(text) {
		at.Store(int64(cut))
		events, err := s.read(t.Context(), p, true)
		if cut < complete && err == nil {
			t.Fatalf("a stream cut at byte %d of %d passed for a complete answer of %d events", cut, len(text), len(events))
		}
		if err != nil {
			var e *upstream.Error
			if !errors.As(err, &e) || !e.Class.Fault() {
				t.Fatalf("cut at byte %d: got %v, want the provider's fault", cut, err)
			}
		}
		for _, ev := range events {
			if s.native() && !strings.Contains(text, "data: "+ev.data+"\n\n") {
				t.Fatalf("cut at byte %d: an event was made up: %s", cut, ev.data)
			}
		}
	}
}

// native reports whether the provider is asked in the vendor's own dialect, so that nothing is said anew.
func (s *suite) native() bool {
	switch s.v {
	case messagesVendor:
		return s.asked == openai.Messages
	case geminiVendor, converseVendor:
		return false
	}
	return true
}

// stall: the caller's deadline ends a wait, before and after the headers.
func (s *suite) stall(t *testing.T) {
	for _, prefix := range []string{"", s.v.start} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if prefix != "" {
				w.Header().Set("Content-Type", s.v.streamed())
				_, _ = io.WriteString(w, prefix)
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		_, err := s.read(ctx, s.provider(server.URL), true)
		if err == nil || time.Since(start) > 5*time.Second {
			t.Errorf("a stalled stream ended with %v after %v, want an error at the deadline", err, time.Since(start))
		}
		cancel()
		server.Close()
	}
}

// cancel: the vendor learns within 50 ms that nobody waits any more. The limit is wide enough here for a busy machine.
func (s *suite) cancel(t *testing.T) {
	gone := make(chan time.Time, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", s.v.streamed())
		_, _ = io.WriteString(w, s.v.start+s.v.hello)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		gone <- time.Now()
	}))
	defer server.Close()
	p := s.provider(server.URL)
	best := time.Hour
	for range 5 { // the best of five is the vendor's path; the others may be this machine's
		ctx, cancel := context.WithCancel(t.Context())
		answer, err := p.Stream(ctx, s.request(true))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := answer.Next(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		cancel()
		select {
		case at := <-gone:
			best = min(best, at.Sub(start))
		case <-time.After(5 * time.Second):
			t.Fatal("the vendor was never told")
		}
		if err := answer.Close(); err != nil {
			t.Error(err)
		}
		_ = answer.Close() // twice is allowed
	}
	if best > 50*time.Millisecond {
		t.Errorf("the vendor was told after %v at best, want 50ms", best)
	}
}

// redirect: no other host gets to see the request, let alone the key.
func (s *suite) redirect(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, with authorization %q", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		_, err := s.ask(t, true, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/v1"+s.v.path, status)
		})
		wantClass(t, err, upstream.BadAnswer)
	}
}

func (s *suite) reuse(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", s.v.streamed())
		_, _ = io.Copy(w, bytes.NewReader([]byte(s.v.start+s.v.hello+s.v.end)))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	p := s.provider(server.URL)
	for range 10 {
		if _, err := s.read(t.Context(), p, true); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n > 2 {
		t.Errorf("10 calls one after the other took %d connections, want them used again", n)
	}
}
