// Package speed compares a gateway with the least that a proxy can do, on the machine at hand: it starts a made-up vendor,
// a bare net/http/httputil reverse proxy and the gateway, each as a process of its own, drives them in turns, and says how
// many times the bare proxy's CPU, waits and memory the gateway takes.
//
// It knows the protocol that it drives and nothing of what the gateway does behind it. Times move with the machine and with
// what else runs on it; ratios of one run hardly do, so a run is what its goals are held against. It is no load test: it
// loads nothing but what it has started itself.
package speed

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"time"
)

// Part is one of the processes of a run.
type Part string

// The processes of a run. Each calls the function of its name here; the gateway is whatever calls Attend.
const (
	VendorPart  Part = "vendor"
	BarePart    Part = "bare"
	GatewayPart Part = "gateway"
)

// Limits of a run.
const (
	// SecondsMin and SecondsMax bound how long it measures.
	SecondsMin, SecondsMax = 1, 3600
	// roundSeconds is about how long a round takes, roundsMax how many there are at most: then they grow longer.
	roundSeconds, roundsMax = 9, 9
	// startsMax is how often a process is started to see how long that takes.
	startsMax = 5
	// warmShare is the part of each measurement before the clock runs.
	warmShare = 4
)

// Options configure a run. Command is required.
type Options struct {
	// Command makes the process of a part. What stands before the vendor is given its address; what it needs beside that
	// address, such as a folder, is new for each call. Standard input and output are Run's.
	Command func(part Part, vendor string) (*exec.Cmd, error)
	// Header is sent with every request, such as "Authorization: Bearer …".
	Header string
	// Seconds is how long the run may take (45).
	Seconds float64
	// Progress, where set, is told what is measured, and which of how many measurements it is.
	Progress func(what string, done, total int)
}

// Validate refuses what cannot be run.
func (o *Options) Validate() error {
	if o.Command == nil {
		return errors.New("speed: no command is given")
	}
	if s := o.Seconds; s != 0 && !(s >= SecondsMin && s <= SecondsMax) {
		return fmt.Errorf("speed: %v seconds, want %d to %d", s, SecondsMin, SecondsMax)
	}
	return nil
}

// scenario is one way to drive a target.
type scenario struct {
	name string
	load load
	// direct says that the vendor is also asked without anything between, so that what is added can be told.
	direct bool
}

// scenarios are the ways to drive. The rates are low for any machine: what is added is asked of a process that has time.
func scenarios() []scenario {
	const small, large = 700, 16 << 10
	return []scenario{
		{name: "closed loop", load: load{prompt: small, conns: 64}},
		{name: "closed loop, 16 KB", load: load{prompt: large, conns: 64}},
		{name: "500 requests a second", load: load{prompt: small, conns: 64, rate: 500}, direct: true},
		{name: "50 streams a second", load: load{prompt: small, conns: 64, rate: 50, stream: true}, direct: true},
		{name: "streams without pause", load: load{prompt: small, conns: 16, stream: true, rush: true}},
	}
}

// The places in what scenarios lists.
const (
	closedSmall = iota
	closedLarge
	fixedRate
	slowStreams
	fastStreams
)

// target is what is driven: the vendor itself, or what stands before it.
type target struct {
	part Part
	*process
}

// run is a run on its way.
type run struct {
	o       Options
	cores   cores
	vendor  *process
	window  time.Duration
	done    int
	total   int
	results map[Part][][]sample // by scenario, then round
	starts  map[Part][]time.Duration
	lost    map[Part]int
	answers map[Part]int
	why     error // of the first answer that was lost
}

// Run measures. It ends every process that it started.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Seconds == 0 {
		o.Seconds = 45
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	r := &run{
		o: o, results: map[Part][][]sample{}, starts: map[Part][]time.Duration{}, lost: map[Part]int{}, answers: map[Part]int{},
	}
	r.cores = divide()
	defer r.cores.keepTo(r.cores.rest)()
	rounds := min(max(int(o.Seconds)/roundSeconds, 1), roundsMax)
	runs := 0
	for _, s := range scenarios() {
		if runs += 2; s.direct {
			runs++
		}
	}
	starts := min(rounds, startsMax)
	r.total = rounds*runs + 2*starts
	r.window = time.Duration(o.Seconds * float64(time.Second) * warmShare / (warmShare + 1) * .93 / float64(rounds*runs))

	if r.vendor, err = r.start(ctx, VendorPart); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.vendor.close()) }()
	targets := []target{{VendorPart, r.vendor}}
	for i := range starts {
		for _, part := range []Part{BarePart, GatewayPart} {
			p, err := r.timeStart(ctx, part)
			if err != nil {
				return nil, err
			}
			if i == starts-1 {
				defer func() { _ = p.close() }() // all is measured; a failure to end shows in lost answers or not at all
				targets = append(targets, target{part, p})
			} else if err := p.close(); err != nil {
				return nil, err
			}
		}
	}
	for round := range rounds {
		if err := r.round(ctx, round, targets); err != nil {
			return nil, err
		}
	}
	return r.report(targets, rounds)
}

// timeStart starts a process and waits for its first answer.
func (r *run) timeStart(ctx context.Context, part Part) (*process, error) {
	r.tell(string(part) + ": start")
	begin := time.Now()
	p, err := r.start(ctx, part)
	if err != nil {
		return nil, err
	}
	l := scenarios()[closedSmall].load
	if err := r.once(p, &l); err != nil {
		return nil, errors.Join(fmt.Errorf("speed: the first answer of the %s: %w", part, err), p.close())
	}
	r.starts[part] = append(r.starts[part], time.Since(begin))
	return p, nil
}

// round drives every target once in every way. Every second one goes the other way round, so that a machine that slows
// down or speeds up favours nobody.
func (r *run) round(ctx context.Context, round int, targets []target) error {
	order := slices.Clone(targets)
	if round%2 == 1 {
		slices.Reverse(order)
	}
	for i, s := range scenarios() {
		for _, t := range order {
			if t.part == VendorPart && !s.direct {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			r.tell(string(t.part) + ": " + s.name)
			got, err := r.drive(ctx, t.process, &s.load)
			if err != nil {
				return fmt.Errorf("speed: %s, %s: %w", t.part, s.name, err)
			}
			if r.results[t.part] == nil {
				r.results[t.part] = make([][]sample, len(scenarios()))
			}
			r.results[t.part][i] = append(r.results[t.part][i], got)
			r.lost[t.part] += got.lost
			r.answers[t.part] += got.sent - got.lost
			if r.why == nil && got.err != nil {
				r.why = fmt.Errorf("%s, %s: %w", t.part, s.name, got.err)
			}
		}
	}
	return nil
}

func (r *run) tell(what string) {
	r.o.Progress(what, r.done, r.total)
	r.done++
}

// machine says what a run ran on.
func (r *run) machine() string {
	text := fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, r.cores.all)
	if r.cores.one.Count() > 0 {
		return text + "; the proxies run on one, the vendor and the clients on the others"
	}
	return text + "; proxies, vendor and clients share them, which brings requests/s closer together than they are"
}
