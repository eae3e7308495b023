package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"

	"github.com/tradewind-llm/tradewind/serving/speed"
)

// benchPartCommand is the command of benchPartCmd.
const benchPartCommand = "bench-part"

// benchArms is how many models the measured gateway chooses among.
const benchArms = 10

// benchKey is the key of the measured gateway, which nobody else can reach.
const benchKey = "sk-tw-bench-0123456789abcdef"

type benchCmd struct {
	Seconds float64 `help:"About how long it takes, 1 to 3600; longer is steadier." default:"45"`
	Dir     string  `help:"Where the gateway keeps its journal meanwhile, so that a disk of choice is measured; default the system's folder of temporary files." type:"existingdir"`
	Profile string  `help:"Write a CPU profile of the gateway to this file, for go tool pprof." type:"path"`
	JSON    bool    `help:"Print as JSON."`
}

// Help is what the flags do not say.
func (*benchCmd) Help() string {
	return `It starts a made-up vendor, a bare reverse proxy (Go's own httputil.ReverseProxy, with pooled buffers and 512 idle connections) and this gateway with everything switched on: keys, budgets held and settled along key, team and organization, limits, the router over ten models, the journal on disk, metrics. Both proxies are driven in turns, round after round. Nothing leaves the machine and no vendor is called.

Read the ratios. A time moves with the processor and with what else runs; how many times a bare proxy's it is hardly does, and so it can be compared with the goals, between machines, and with other gateways. The bare proxy decides nothing, holds no money and writes nothing down: it is the least that any proxy in Go costs.

CPU a request: processor time of the proxy alone, from a closed loop of 64 clients. Requests a second: the same loop. Added: the median wait that the proxy adds to asking the vendor directly, when it has time (500 requests or 50 streams a second). CPU a chunk: from streams without pauses. A gateway that is asked rarely takes longer each time, so what is added at 50 streams a second does not compare with what is added at 500 requests a second. Memory: the peak of the run, router included. Start: from the start of the process to its first answer. Lost or short: answers that did not come, or are not what the vendor said; any is an error. What a child process of the gateway does later, sealing the journal, is not in its CPU.

On Linux with two processors or more the proxies get one for themselves. The range in brackets is that of the rounds: where it is wide the machine was busy, and a longer run (--seconds) on a quieter one says more.`
}

// Run measures and prints.
func (b *benchCmd) Run(ctx context.Context, m *Main) (err error) {
	if m.Self == "" {
		return errors.New("bench starts this program again, and does not know where it is")
	}
	dir, err := os.MkdirTemp(b.Dir, "tradewind-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := benchProgress{newProgress(m.Stderr), m.Stderr}
	report, err := speed.Run(ctx, speed.Options{
		Header: "Authorization: Bearer " + benchKey, Seconds: b.Seconds, Progress: p.set,
		Command: func(part speed.Part, vendor string) (*exec.Cmd, error) { return b.command(m, dir, part, vendor) },
	})
	p.bar.Done()
	if err != nil {
		return err
	}
	if b.JSON {
		err = writeJSON(m.Stdout, report)
	} else {
		err = report.WriteText(m.Stdout)
	}
	if err == nil && report.Lost > 0 {
		err = fmt.Errorf("%d answers were lost or short", report.Lost)
	}
	return err
}

// benchProgress shows a bar to those who look at one, and a line to all others.
type benchProgress struct {
	bar *progress
	w   io.Writer
}

func (p benchProgress) set(what string, done, total int) {
	if p.bar == nil {
		fmt.Fprintf(p.w, "%d/%d %s\n", done+1, total, what)
		return
	}
	p.bar.Set("measuring", int64(done), int64(total))
}

// command makes the process of a part. Of the environment it keeps what is Go's and the system's: a vendor's key in it must
// not bring further models.
func (b *benchCmd) command(m *Main, dir string, part speed.Part, vendor string) (*exec.Cmd, error) {
	args := []string{benchPartCommand, string(part), vendor}
	if part == speed.VendorPart {
		args = args[:2]
	}
	if part == speed.GatewayPart {
		own, err := os.MkdirTemp(dir, "gateway-")
		if err != nil {
			return nil, err
		}
		args = append(args, own)
		if b.Profile != "" {
			args = append(args, "--profile", b.Profile)
		}
	}
	cmd := exec.Command(m.Self, args...)
	cmd.Stderr = m.Stderr
	cmd.Env = []string{"TRADEWIND_LOG_LEVEL=ERROR"} // that a full load makes models slow is no news here
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "GO") || name == "PATH" || name == "TMPDIR" || name == "HOME" {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd, nil
}

// benchPartCmd is a child of bench.
type benchPartCmd struct {
	Part    speed.Part `arg:"" enum:"vendor,bare,gateway"`
	Vendor  string     `arg:"" optional:""`
	Dir     string     `arg:"" optional:""`
	Profile string
}

// Run is one of the parts, until its input ends.
func (b *benchPartCmd) Run(ctx context.Context, m *Main) error {
	switch b.Part {
	case speed.VendorPart:
		return speed.Vendor(m.Stdin, m.Stdout)
	case speed.BarePart:
		return speed.Bare(m.Stdin, m.Stdout, b.Vendor)
	}
	return b.gateway(ctx, m)
}

// gateway serves as serve does, with everything switched on.
func (b *benchPartCmd) gateway(ctx context.Context, m *Main) (err error) {
	if b.Profile != "" {
		f, err := os.Create(b.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	file := filepath.Join(b.Dir, "tradewind.yaml")
	if err := os.WriteFile(file, []byte(benchConfig(b.Vendor)), 0o600); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	attended := make(chan error, 1)
	served := *m
	served.Stdout = io.Discard // what serve greets with is for people
	served.Ready = func(addr string) {
		go func() {
			attended <- speed.Attend(m.Stdin, m.Stdout, addr)
			stop()
		}()
	}
	s := serveCmd{Config: file, Listen: "127.0.0.1:0", DataDir: filepath.Join(b.Dir, "data")}
	if err := s.Run(ctx, &served); err != nil {
		return err
	}
	return <-attended
}

// benchConfig switches on what costs a request something.
func benchConfig(vendor string) string {
	var c strings.Builder
	fmt.Fprintf(&c, `providers:
- {name: bench, type: openai, base_url: "http://%s/v1", api_key: sk-bench-vendor-0123456789, models: [`, vendor)
	for i := range benchArms {
		tier := []string{"small", "medium", "large", "frontier"}[i*4/benchArms]
		fmt.Fprintf(&c, "\n  {name: m%d, tier: %s, context_tokens: 128000, input_usd_per_mtok: %d, output_usd_per_mtok: %d},", i, tier, i+1, 4*(i+1))
	}
	c.WriteString(`]}
keys: [{name: bench, key: ` + benchKey + `, org: o, team: t, rpm: 100000000, tpm: 1000000000, concurrent: 4096, budget_usd: {total: 100000000, month: 100000000}}]
teams: [{name: t, org: o, budget_usd: {total: 100000000}}]
orgs: [{name: o, budget_usd: {total: 100000000}}]
routing: {strategy: balanced}
`)
	return c.String()
}
