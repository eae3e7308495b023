// Command tradewind is the one binary: it serves the gateway, trains routers, compares them, and shows what is in a
// log, a registry and the catalog.
//
// Only this package knows flags, environment variables and the configuration file; it composes the other packages'
// Options and wires what one needs of another. It holds no logic of routing, learning or serving.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	hurry := make(chan struct{})
	go untilSignaled(stop, hurry)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	m := Main{Hangup: hangup, Hurry: hurry, Args: os.Args[1:], Getenv: os.Getenv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Self: self()}
	os.Exit(m.Run(ctx))
}

// sameSignal is how long a further signal is taken for the first: a terminal and a wrapper around the program may both send one.
const sameSignal = time.Second

// untilSignaled stops the program at the first signal, and hurries it at a later one.
func untilSignaled(stop func(), hurry chan<- struct{}) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	<-signals
	first := time.Now()
	stop()
	for range signals {
		if time.Since(first) > sameSignal {
			close(hurry)
			return
		}
	}
}

// Main is the program with everything it takes from its surroundings, so that tests start the very same thing.
type Main struct {
	Args           []string
	Getenv         func(string) string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Self is the file of the program, which serve starts again to seal and compact aside; where it is empty serve does that
	// itself.
	Self string
	// Ready, where set, is called with the address once serve accepts connections.
	Ready func(addr string)
	// Hangup, where set, tells serve to read its configuration again.
	Hangup <-chan os.Signal
	// Hurry, where set and closed, ends at once the requests that a shutdown waits for.
	Hurry <-chan struct{}
	// PollEvery is how often serve looks for a newly promoted router and a changed configuration; zero is a second.
	PollEvery time.Duration
}

// commands is the command line. Every long flag is a promise; kong reads the tags.
type commands struct {
	Serve   serveCmd     `cmd:"" help:"Serve the OpenAI-compatible endpoint."`
	Train   trainCmd     `cmd:"" help:"Train a router on an outcome table and say whether routing pays."`
	Eval    evalCmd      `cmd:"" help:"Compare routers with the baselines that must always be beaten."`
	Predict predictCmd   `cmd:"" help:"Write what a router predicts for every prompt and arm."`
	Route   routeCmd     `cmd:"" help:"Decide for one prompt on standard input; nothing is called."`
	Replay  replayCmd    `cmd:"" help:"Show a logged decision beside what it would have been under another router, policy or strategy."`
	Data    dataCmd      `cmd:"" help:"Import, inspect, verify, compact and simulate tables and logs."`
	Models  modelsCmd    `cmd:"" help:"Trained routers: list, show, verify, promote, roll back."`
	Catalog catalogCmd   `cmd:"" help:"The arms (LLMs) and their prices."`
	Config  configCmd    `cmd:"" help:"The configuration file: its schema, and importing another gateway's."`
	Doctor  doctorCmd    `cmd:"" help:"Check a configuration and all that it rests on, and say what to do next."`
	Usage   usageCmd     `cmd:"" help:"Say who has spent what, and what is left of every budget."`
	Bench   benchCmd     `cmd:"" help:"Compare this gateway's speed with a bare reverse proxy's, on this machine."`
	Version versionCmd   `cmd:"" help:"Print the version."`
	Aside   asideCmd     `cmd:"" hidden:"" help:"Seal or compact for a server that asks on standard input."`
	Part    benchPartCmd `cmd:"" name:"bench-part" hidden:"" help:"Be one of the processes of bench."`
}

// exitCode is how kong's own exits (after --help) leave Run.
type exitCode int

// Run parses the arguments, runs one command and returns the exit code: 0 fine, 1 failed, 2 wrong usage.
func (m *Main) Run(ctx context.Context) (code int) {
	defer func() {
		if r := recover(); r != nil {
			c, ok := r.(exitCode)
			if !ok {
				panic(r)
			}
			code = int(c)
		}
	}()
	var c commands
	parser, err := kong.New(&c,
		kong.Name("tradewind"),
		kong.Description("Tradewind: a learned router for LLMs behind one OpenAI-compatible endpoint.\n\n"+
			"Start with `tradewind serve`; without provider keys it serves three simulated arms."),
		kong.Writers(m.Stdout, m.Stderr),
		kong.Exit(func(c int) { panic(exitCode(c)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(m),
	)
	if err != nil {
		panic(err) // the tags above are wrong, which every test sees
	}
	args := m.Args
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(m.Stderr, "tradewind: %v\n", err)
		var parseErr *kong.ParseError
		if errors.As(err, &parseErr) && parseErr.Context != nil {
			fmt.Fprintf(m.Stderr, "Run %q for what it takes.\n", strings.Join(strings.Fields("tradewind "+parseErr.Context.Command()+" --help"), " "))
		}
		return 2
	}
	if err := kctx.Run(); err != nil {
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			fmt.Fprintln(m.Stderr, "tradewind: interrupted")
			return 130
		}
		fmt.Fprintf(m.Stderr, "tradewind: %v\n", err)
		return 1
	}
	return 0
}

type versionCmd struct{}

// Run prints the version that the build recorded.
func (*versionCmd) Run(m *Main) error {
	_, err := fmt.Fprintln(m.Stdout, "tradewind", version())
	return err
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	return v
}
