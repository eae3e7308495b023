package serving_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// pipes is a listener whose connections are pipes in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, open := <-p; open {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// TestBodyThatDoesNotCome: a body may pause for a minute and take ten; then the connection is closed, whether anybody waits
// for the body or not, and a request whose body came slowly is served for as long as its answer takes.
func TestBodyThatDoesNotCome(t *testing.T) {
	head := "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n"
	body := ask("auto", `,"stream":true`)
	for name, tt := range map[string]struct {
		path, key string
		piece     int           // bytes of the body at once, 0 for none at all
		pause     time.Duration // before each
		ends      time.Duration // 0 where the request is served
		status    int
	}{
		"nothing comes":            {"/v1/chat/completions", keyA, 0, 0, time.Minute, 400},
		"it comes slowly":          {"/v1/chat/completions", keyA, 20, 50 * time.Second, 0, 200},
		"it comes for ever":        {"/v1/chat/completions", keyA, 1, 50 * time.Second, 10 * time.Minute, 400},
		"a stranger's, unread":     {"/v1/chat/completions", keyB, 0, 0, time.Minute, 401},
		"to a path that is none":   {"/v1/nothing", keyA, 0, 0, time.Minute, 404},
		"feedback that never ends": {"/v1/feedback", keyA, 0, 0, time.Minute, 400},
		"a count that never ends":  {"/v1/messages/count_tokens", keyA, 0, 0, time.Minute, 400},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, setup{auth: governance.Options{Keys: []governance.KeyConfig{{Key: keyA}}}})
			w.vendor.play(func(int, *upstream.Request) (*script, error) {
				return &script{before: func(int) { time.Sleep(40 * time.Second) }}, nil // three times, longer than a body may pause
			})
			listener := make(pipes)
			server := &http.Server{Handler: w.handler}
			go func() { _ = server.Serve(listener) }()
			ours, theirs := net.Pipe()
			listener <- theirs
			begun := time.Now()
			var sending sync.WaitGroup
			sending.Go(func() {
				fmt.Fprintf(ours, head, tt.path, tt.key, len(body))
				for rest := body; tt.piece > 0 && rest != ""; {
					time.Sleep(tt.pause)
					n := min(tt.piece, len(rest))
					if _, err := io.WriteString(ours, rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			})
			resp, err := http.ReadResponse(bufio.NewReader(ours), nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			text, err := io.ReadAll(resp.Body)
			took := time.Since(begun).Round(time.Second)
			if err != nil || resp.StatusCode != tt.status || tt.ends > 0 && took != tt.ends {
				t.Errorf("%s: %d after %v, %v %s; want %d after %v", name, resp.StatusCode, took, err, text, tt.status, tt.ends)
			}
			if open := resp.Close; open != (tt.ends > 0) {
				t.Errorf("%s: the connection is closed: %v", name, open)
			}
			if tt.status == 200 && !strings.Contains(string(text), "[DONE]") {
				t.Errorf("%s: the answer was cut: %s", name, text)
			}
			if tt.status == 400 && !strings.Contains(string(text), "did not come") {
				t.Errorf("%s: %s", name, text)
			}
			_ = ours.Close()
			sending.Wait()
			close(listener)
			if err := server.Shutdown(context.Background()); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
}
