package serving_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// bareUpstream in the environment makes the test binary a bare reverse proxy to that address until its input ends.
const bareUpstream = "TRADEWIND_BARE_UPSTREAM"

func bareProxy(upstream string) {
	to, err := url.Parse(upstream)
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 512}
	proxy.BufferPool = copyBuffers{&sync.Pool{New: func() any { return make([]byte, 32<<10) }}}
	go func() { panic(http.Serve(l, proxy)) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

type copyBuffers struct{ *sync.Pool }

func (b copyBuffers) Get() []byte  { return b.Pool.Get().([]byte) }
func (b copyBuffers) Put(p []byte) { b.Pool.Put(p) }

// BenchmarkBareProxy is the yardstick of a machine: the CPU that net/http's own reverse proxy, in a process of its own,
// spends on one request of BenchmarkChat, with 64 at a time. Figures in µs move with the machine, their ratios to this
// one hardly do.
func BenchmarkBareProxy(b *testing.B) {
	const callers = 64
	_, body := tenArms(b, "")
	answer := strings.Repeat("x", 1024)
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, answer)
	}))
	defer vendor.Close()
	proxy := exec.Command(must(os.Executable())(b))
	proxy.Env = append(os.Environ(), bareUpstream+"="+vendor.URL)
	proxy.Stderr = os.Stderr
	stdin, stdout := must(proxy.StdinPipe())(b), must(proxy.StdoutPipe())(b)
	if err := proxy.Start(); err != nil {
		b.Fatal(err)
	}
	address := strings.TrimSpace(must(bufio.NewReader(stdout).ReadString('\n'))(b))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	b.ResetTimer()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < b.N; i += callers {
				r, err := client.Post("http://"+address+"/v1/chat/completions", "application/json", strings.NewReader(body))
				if err == nil {
					_, err = io.Copy(io.Discard, r.Body)
					err = errors.Join(err, r.Body.Close())
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	if err := errors.Join(stdin.Close(), proxy.Wait()); err != nil {
		b.Fatal(err)
	}
	spent := proxy.ProcessState.UserTime() + proxy.ProcessState.SystemTime()
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "cpu-ns/op")
}
