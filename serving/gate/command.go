package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// CommandConfig is a program on this machine that judges answers. It gets on its standard input what a webhook is sent,
// and must print what a webhook must answer and exit with 0: a crash, whatever its exit code, is no verdict.
//
// It runs with no environment but Env, in Dir, in a process group of its own that is killed when the command ends and at
// its deadline, under a limit on memory (of each of its processes) and CPU time. That bounds a careless program; it is no
// cage for a hostile one, which has the gateway's user and files. It needs Linux and /bin/sh, which sets the limits on
// itself before it becomes the command.
type CommandConfig struct {
	// Path is absolute. Args are handed over as they are; no shell reads them.
	Path string            `yaml:"path" json:"path" doc:"Absolute; no shell reads it."`
	Args []string          `yaml:"args" json:"args,omitempty"`
	Env  map[string]string `yaml:"env" json:"env,omitempty"`
	// Dir is where it runs; empty is /.
	Dir string `yaml:"dir" json:"dir,omitempty"`
	// TimeoutSeconds bounds it; zero is TimeoutDefault. MemoryMB bounds its memory; zero is MemoryDefaultMB.
	TimeoutSeconds float64 `yaml:"timeout_seconds" json:"timeout_seconds,omitempty" nonzero:"" doc:"The longest wait, at most 60; 5 by default."`
	MemoryMB       int     `yaml:"memory_mb" json:"memory_mb,omitempty" nonzero:"" doc:"The memory that it may have; 512 by default."`
}

// Limits of commands.
const (
	// MemoryDefaultMB and MemoryMaxMB bound a command's memory.
	MemoryDefaultMB = 512
	MemoryMaxMB     = 64 << 10
	// commandsMax is how many commands of one gate run at once; others wait for a place, within their own deadline.
	commandsMax = 8
	// reapMax is how long the pipes of a command that was killed are waited for: one of its children may hold them.
	reapMax = 500 * time.Millisecond
)

type command struct {
	name    string
	argv    []string
	env     []string
	dir     string
	timeout time.Duration
	places  chan struct{}
}

// limits sets limits on the shell and then becomes the command: memory in kilobytes, CPU time in seconds, no core dumps.
const limits = `ulimit -d "$1" && ulimit -t "$2" && ulimit -c 0 && shift 2 && exec "$@"`

func newCommand(name string, c *CommandConfig) (check, error) {
	if !commandsRun {
		return nil, errors.New("commands need Linux: elsewhere nothing bounds their memory")
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	if !filepath.IsAbs(c.Path) || !filepath.IsAbs(dir) {
		return nil, errors.New("the command's path and dir must be absolute")
	}
	timeout, err := seconds(c.TimeoutSeconds)
	if err != nil {
		return nil, err
	}
	memory := c.MemoryMB
	if memory == 0 {
		memory = MemoryDefaultMB
	}
	if memory < 0 || memory > MemoryMaxMB {
		return nil, fmt.Errorf("memory_mb is %d, want more than 0 and at most %d", memory, MemoryMaxMB)
	}
	k := &command{name: name, dir: dir, timeout: timeout, env: []string{}, places: make(chan struct{}, commandsMax)}
	cpu := int(timeout/time.Second) + 1
	k.argv = append([]string{"/bin/sh", "-c", limits, "sh", strconv.Itoa(memory << 10), strconv.Itoa(cpu), c.Path}, c.Args...)
	for key, value := range c.Env {
		k.env = append(k.env, key+"="+value)
	}
	slices.Sort(k.env)
	return k.check, nil
}

// check runs the command once. At the deadline it returns, whatever the command does; the rest is cleared away behind it.
func (k *command) check(ctx context.Context, s *Subject) (string, error) {
	input, err := s.payload(k.name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	select {
	case k.places <- struct{}{}:
	case <-ctx.Done():
		return "", errors.New("too many commands run at once")
	}
	if ctx.Err() != nil { // a place came free because others ran into the same deadline
		<-k.places
		return "", errors.New("too many commands run at once")
	}
	type result struct {
		why string
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-k.places }()
		output := capped{max: verdictMax}
		if err := k.run(ctx, input, &output); err != nil {
			done <- result{err: err}
			return
		}
		why, err := parseVerdict(output.buffer.Bytes())
		done <- result{why, err}
	}()
	select {
	case r := <-done:
		if ctx.Err() != nil && r.err != nil {
			r.err = errTimeout // it was killed
		}
		return r.why, r.err
	case <-ctx.Done():
		return "", errTimeout
	}
}

var errTimeout = errors.New("the command did not end in time")

// capped keeps what fits and refuses more, which closes the pipe of whoever writes it. It does not embed its buffer, whose
// ReadFrom would take everything.
type capped struct {
	buffer bytes.Buffer
	max    int
}

// Write implements io.Writer.
func (c *capped) Write(b []byte) (int, error) {
	if c.buffer.Len()+len(b) > c.max {
		return 0, io.ErrShortBuffer
	}
	return c.buffer.Write(b)
}
