package servingtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/tradewind-llm/tradewind/datasets"
	"github.com/tradewind-llm/tradewind/datasets/disk/disktest"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/governance"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/upstream"
)

// gateway is one process, and the one that follows it on the same data directory.
type gateway struct {
	world   *world
	dir     string
	process *disktest.Process
	// failed is why the process after a death did not start.
	failed error

	mu     sync.Mutex
	client *http.Transport

	journal *journal.Journal
	books   *ledger.Memory
	sums    *ledger.Checkpoint // once all is sealed
	auth    *governance.Authenticator
	gate    *serving.Gateway
	server  *http.Server
	cancel  context.CancelFunc
	work    sync.WaitGroup
}

// start does what the program does when it starts.
func (g *gateway) start(ctx context.Context) error {
	if err := g.open(); err != nil {
		return err
	}
	settings, err := g.settings()
	if err != nil {
		return err
	}
	limits, err := quota.New(quota.Options{})
	if err != nil {
		return err
	}
	o := serving.Options{
		Settings: settings, Quota: limits, Ledger: g.books, Books: g.books, Journal: g.journal, Metrics: telemetry.NewMetrics(nil),
		Uniform: rand.New(rand.NewPCG(g.world.seed, 5)).Float64,
	}
	o.Uniform = locked(o.Uniform)
	g.world.twin.money(&o)
	gate, err := serving.New(o)
	if err != nil {
		return err
	}
	g.gate = gate
	ctx, g.cancel = context.WithCancel(ctx)
	g.server = &http.Server{Handler: g.world.twin.handler(gate.Handler()), BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	wires := newNetwork()
	g.work.Go(func() { gate.ExpireHolds(ctx) })
	g.work.Go(func() { _ = g.server.Serve(wires) })
	g.mu.Lock()
	defer g.mu.Unlock()
	g.client = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return wires.dial(ctx) }}
	return nil
}

// locked makes draws safe for concurrent use.
func locked(uniform func() float64) func() float64 {
	var mu sync.Mutex
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return uniform()
	}
}

// open opens the data directory.
func (g *gateway) open() error {
	var sums *ledger.Checkpoint
	var err error
	if g.journal, err = journal.Open(g.dir+"/journal", journal.Options{
		FS: g.world.twin.disk(g.process), Sync: g.world.sync(), SegmentMaxBytes: 100_000,
		After: func() (uint64, error) {
			if sums, err = ledger.OpenCheckpoint(g.process, g.dir+"/ledger.json"); err != nil {
				return 0, err
			}
			return sums.Through(), nil
		},
	}); err != nil {
		return err
	}
	opening, err := serving.Opening(sums, g.journal)
	if err != nil {
		return err
	}
	if g.books = g.world.shared; g.books != nil {
		return nil
	}
	if g.books, err = ledger.NewMemory(ledger.Options{Opening: opening}); err == nil && g.world.several() > 1 {
		g.world.shared = g.books
	}
	return err
}

// settings are the configuration.
func (g *gateway) settings() (s serving.Settings, err error) {
	w := g.world
	o := governance.Options{}
	for _, k := range w.keys {
		c := governance.KeyConfig{Key: telemetry.Secret(k.secret), Org: "o", Log: governance.LogFull}
		if k.cap > 0 {
			usd := k.cap.Dollars()
			c.Budget.TotalUSD = &usd
		}
		o.Keys = append(o.Keys, c)
	}
	if g.auth, err = governance.New(o); err != nil {
		return s, err
	}
	providers := map[string]upstream.Provider{}
	for i := range w.arms {
		providers[w.arms[i].ID.Provider()] = w.twin.provider(w.vendors)
	}
	pool, err := upstream.New(upstream.Options{
		Providers: providers, FirstTokenTimeout: stall, ChunkTimeout: stall, AnswerTimeout: 2 * stall, RequestTimeout: longest, Seed: w.seed,
	})
	if err != nil {
		return s, err
	}
	router, err := serving.NewRouter(w.arms, nil)
	return serving.Settings{Arms: w.arms, Router: router, Pool: pool, Auth: g.auth, Epsilon: 0.1, ReadOn: w.twin.readOn(w.toTheEnd)}, err
}

// transport is how clients reach the process that runs now.
func (g *gateway) transport() *http.Transport {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.client
}

// kill ends the process as SIGKILL does: it writes nothing more, its connections are cut.
func (g *gateway) kill() {
	g.process.Kill()
	g.cancel()
	g.gate.Cut() // what would go on without its client
	_ = g.server.Close()
	g.transport().CloseIdleConnections()
	g.work.Wait()
	_ = g.journal.Close() // ends its goroutine; the disk refuses it everything
}

// stop ends the process as SIGTERM does, with nobody asking any more.
func (g *gateway) stop(ctx context.Context) error {
	if g.failed != nil {
		return fmt.Errorf("the process after a death does not start: %w", g.failed)
	}
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	g.transport().CloseIdleConnections()
	err := g.server.Shutdown(waiting)
	g.cancel()
	g.work.Wait()
	return errors.Join(err, g.journal.Close())
}

// seal moves what the journal has into the log, as the next process does.
func (g *gateway) seal(ctx context.Context) (err error) {
	g.process = g.world.disk.Process()
	log, err := datasets.OpenLog(g.dir+"/log", datasets.LogOptions{FS: g.process})
	if err != nil {
		return err
	}
	var sums *ledger.Checkpoint
	j, err := journal.Open(g.dir+"/journal", journal.Options{FS: g.process, After: func() (uint64, error) {
		if sums, err = ledger.OpenCheckpoint(g.process, g.dir+"/ledger.json"); err != nil {
			return 0, err
		}
		return sums.Through(), nil
	}})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	g.sums = sums
	s := &serving.Sealer{Journal: j, Log: log, Books: sums, Logger: slog.New(slog.DiscardHandler)}
	return errors.Join(s.Finish(ctx), j.Close(), log.Verify(ctx), log.Close())
}
