// Package aside does the heavy half of sealing and of compaction in a child process that yields to everything else: inside
// the gateway its garbage and its share of the processors made one request in a hundred wait several times as long.
//
// A child holds no lock and decides nothing. It writes files under a name that is its own alone, and its parent believes no
// more of them than it sees. Nor is it needed: what a child cannot do, its parent does itself.
package aside

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/serving"
)

const (
	// format is the version of what is said below. A program that was replaced while it ran may start its successor.
	format = 1
	// RequestMax is the length of what a parent says to its child.
	RequestMax = 1 << 20
	// ReplyMax is the length of what a child says to its parent.
	ReplyMax = 16 << 20
	// complaintMax is how much of a child's standard error is kept.
	complaintMax = 4 << 10
	// patience is how long a child may take; where requests take all there is, it waits for most of that.
	patience = 10 * time.Minute
)

// request is one line of JSON on the child's standard input, which then stays open for as long as its parent lives.
type request struct {
	Format int                `json:"format"`
	Seal   *serving.SealJob   `json:"seal,omitempty"`
	Merge  *datasets.MergeJob `json:"merge,omitempty"`
}

// reply is what the child prints.
type reply struct {
	Sealed *serving.Prepared  `json:"sealed,omitempty"`
	Merged *datasets.Prepared `json:"merged,omitempty"`
	Error  string             `json:"error,omitempty"`
}

// Parent starts children.
type Parent struct {
	// Path is the program that calls Child, Args its arguments, its name as the first.
	Path string
	Args []string
	// Env is the child's environment. It needs none, and is not to know the secrets of its parent's.
	Env []string
	// Logger is told once that children fail; nil is slog's default.
	Logger *slog.Logger

	warned sync.Once
}

// Seal does a job for a serving.Sealer.
func (p *Parent) Seal(ctx context.Context, j serving.SealJob) (serving.Prepared, error) {
	r, err := p.ask(ctx, request{Format: format, Seal: &j})
	if err == nil && r.Sealed == nil {
		err = errors.New("aside: the child did something else")
	}
	if err != nil {
		p.warn(ctx, err)
		return serving.Prepared{}, err
	}
	return *r.Sealed, nil
}

// Merge does a job for a serving.Keeper.
func (p *Parent) Merge(ctx context.Context, j datasets.MergeJob) (datasets.Prepared, error) {
	r, err := p.ask(ctx, request{Format: format, Merge: &j})
	if err == nil && r.Merged == nil {
		err = errors.New("aside: the child did something else")
	}
	if err != nil {
		p.warn(ctx, err)
		return datasets.Prepared{}, err
	}
	return *r.Merged, nil
}

func (p *Parent) warn(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // it was told to stop
	}
	p.warned.Do(func() {
		log := p.Logger
		if log == nil {
			log = slog.Default()
		}
		log.Warn("a child process that seals or compacts the log failed; the work is done in this process, where requests may wait for it", "error", err)
	})
}

// ask runs one child for one request. When it returns the child is gone.
func (p *Parent) ask(ctx context.Context, q request) (r reply, err error) {
	text, err := json.Marshal(q)
	if err != nil {
		return r, fmt.Errorf("aside: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	complaint := &head{max: complaintMax}
	cmd := exec.CommandContext(ctx, p.Path)
	cmd.Args = p.Args
	// One processor is enough, and garbage is cheaper left lying than collected: a job is short.
	cmd.Env = append([]string{"GOMAXPROCS=1", "GOGC=400", "GOMEMLIMIT=512MiB"}, p.Env...)
	cmd.Stderr = complaint
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for its parent
	in, err := cmd.StdinPipe()
	if err != nil {
		return r, fmt.Errorf("aside: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return r, fmt.Errorf("aside: starting a child: %w", errors.Join(err, in.Close()))
	}
	if q.Seal == nil || !q.Seal.Urgent {
		yield(cmd.Process.Pid)
	}
	_, wrote := in.Write(append(text, '\n'))
	answer, read := io.ReadAll(io.LimitReader(out, ReplyMax+1))
	if len(answer) > ReplyMax {
		read = fmt.Errorf("its reply is longer than %d bytes", ReplyMax)
		cancel()
	}
	err = errors.Join(cmd.Wait(), wrote, read)
	if err == nil {
		r, err = parseReply(answer)
	}
	if err != nil {
		return reply{}, fmt.Errorf("aside: child: %w: %s", err, bytes.TrimSpace(complaint.b))
	}
	return r, nil
}

func parseReply(text []byte) (r reply, err error) {
	if err := strict(text, &r); err != nil {
		return reply{}, fmt.Errorf("its reply: %w", err)
	}
	if r.Error != "" {
		return reply{}, errors.New(r.Error)
	}
	return r, nil
}

func strict(text []byte, v any) error {
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	return in.Decode(v)
}

// head keeps the beginning of what is written to it.
type head struct {
	b   []byte
	max int
}

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), h.max-len(h.b))]...)
	return len(p), nil
}

// Child reads a request, does it and prints what came of it. Where its parent dies before, nobody waits for the rest: orphaned
// is called, which should end the process.
func Child(ctx context.Context, stdin io.Reader, stdout io.Writer, orphaned func()) error {
	in := bufio.NewReaderSize(stdin, RequestMax)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("aside: reading the request: %w", err)
	}
	q, err := parseRequest(line)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in) // nothing more is ever said
		q.discard()
		orphaned()
	}()
	text, err := json.Marshal(q.do(ctx))
	if err == nil {
		_, err = stdout.Write(text)
	}
	if err != nil {
		q.discard()
		return fmt.Errorf("aside: replying: %w", err)
	}
	return nil
}

func parseRequest(text []byte) (q request, err error) {
	if err := strict(text, &q); err != nil {
		return q, fmt.Errorf("aside: reading the request: %w", err)
	}
	if q.Format != format || (q.Seal == nil) == (q.Merge == nil) {
		return q, fmt.Errorf("aside: a request of format %d, this program knows %d: another program asked", q.Format, format)
	}
	return q, nil
}

func (q *request) do(ctx context.Context) (r reply) {
	var err error
	if q.Seal != nil {
		r.Sealed = new(serving.Prepared)
		*r.Sealed, err = q.Seal.Do()
	} else {
		r.Merged = new(datasets.Prepared)
		*r.Merged, err = q.Merge.Do(ctx)
	}
	if err != nil {
		return reply{Error: err.Error()}
	}
	return r
}

// discard removes what a job that nobody waits for has written.
func (q *request) discard() {
	if q.Seal != nil {
		datasets.Discard(q.Seal.Log, q.Seal.Name)
	} else {
		datasets.Discard(q.Merge.Log, q.Merge.Name)
	}
}
