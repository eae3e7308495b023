package speed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// idleMax is how many idle connections a bare proxy keeps. Go's default of 2 would double its CPU and flatter the gateway.
const idleMax = 512

// closeMax is how long a process may take to end once its input has.
const closeMax = 20 * time.Second

// usage is what a process has used so far.
type usage struct {
	CPU  time.Duration `json:"cpu_ns"`
	Peak int64         `json:"peak_bytes"` // of resident memory
}

// process is a started part.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr string
	end  sync.Once
}

// start starts a part and waits until it listens.
func (r *run) start(ctx context.Context, part Part) (*process, error) {
	vendor := ""
	if r.vendor != nil {
		vendor = r.vendor.addr
	}
	cmd, err := r.o.Command(part, vendor)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	on := r.cores.one
	if part == VendorPart {
		on = r.cores.rest
	}
	if err := r.cores.start(cmd, on); err != nil {
		return nil, fmt.Errorf("speed: the %s does not start: %w", part, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	p.out = bufio.NewReader(out)
	line, err := p.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("speed: the %s does not listen: %w", part, err), p.close())
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

// used asks a process what it has used.
func (p *process) used() (u usage, err error) {
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		return u, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return u, err
	}
	return u, json.Unmarshal(line, &u)
}

// close ends a process: its input ends, and it has some time to follow.
func (p *process) close() (err error) {
	p.end.Do(func() {
		timer := time.AfterFunc(closeMax, func() { _ = p.cmd.Process.Kill() })
		defer timer.Stop()
		_ = p.in.Close() // it may have ended by itself
		err = p.cmd.Wait()
	})
	return err
}

// Attend tells whoever started this process where it listens, and at each line of input what it has used. It returns when
// the input ends, which is when the process should.
func Attend(in io.Reader, out io.Writer, addr string) error {
	if _, err := fmt.Fprintln(out, addr); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		u, err := used()
		if err != nil {
			return err
		}
		line, err := json.Marshal(u)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// Bare is the bare proxy before a vendor.
func Bare(in io.Reader, out io.Writer, vendor string) error {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: vendor})
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: idleMax}
	proxy.BufferPool = copyBuffers{&sync.Pool{New: func() any { return make([]byte, 32<<10) }}}
	return serve(in, out, proxy)
}

type copyBuffers struct{ *sync.Pool }

func (b copyBuffers) Get() []byte  { return b.Pool.Get().([]byte) }
func (b copyBuffers) Put(p []byte) { b.Pool.Put(p) }

// serve serves until the input ends.
func serve(in io.Reader, out io.Writer, h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- http.Serve(l, h) }()
	attended := make(chan error, 1)
	go func() { attended <- Attend(in, out, l.Addr().String()) }()
	select {
	case err = <-failed:
	case err = <-attended:
	}
	return err
}
