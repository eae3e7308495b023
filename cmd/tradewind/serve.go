package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tradewind-llm/tradewind/classifier"
	"github.com/tradewind-llm/tradewind/models/catalog"
	"github.com/tradewind-llm/tradewind/serving"
	"github.com/tradewind-llm/tradewind/serving/aside"
	"github.com/tradewind-llm/tradewind/serving/idempotency"
	"github.com/tradewind-llm/tradewind/serving/journal"
	"github.com/tradewind-llm/tradewind/serving/ledger"
	"github.com/tradewind-llm/tradewind/serving/quota"
	"github.com/tradewind-llm/tradewind/serving/telemetry"
	"github.com/tradewind-llm/tradewind/serving/telemetry/otlp"
)

const (
	// drainFor is how long open requests may go on after SIGTERM, where nothing is configured, and tellFor how long those
	// that are ended then have to tell their clients.
	drainFor = 30 * time.Second
	tellFor  = 5 * time.Second
	// headerBytesMax bounds a request's header block.
	headerBytesMax = 64 << 10
	// memoryLimit is where the garbage collector stops being lazy. It is soft: what is alive may be more.
	memoryLimit = 512 << 20
	// spareProcs is how many more goroutines may run at once than there are cores where requests wait for the disk.
	spareProcs = 2
	// epsilonDefault is the share of traffic that explores where nothing is configured.
	epsilonDefault = 0.02
)

type serveCmd struct {
	Config   string `help:"Configuration file (YAML); TRADEWIND_CONFIG." type:"path"`
	Listen   string `help:"Address to listen on; default 127.0.0.1:8080."`
	Artifact string `help:"Trained router: an artifact or a registry; default is the promoted one of the data directory." type:"path"`
	DataDir  string `help:"Where the journal, the log and the routers live; default tradewind-data." type:"path"`
}

// Help lists the variables, which no flag stands for.
func (*serveCmd) Help() string {
	var s strings.Builder
	s.WriteString("Providers whose key is in the environment are served with the models that the catalog has of them, and further keys of one in NAME_2, NAME_3 and so on:\n\n")
	known, err := catalog.Default()
	for _, v := range catalog.Providers() {
		if len(v.KeyVars) == 0 {
			continue
		}
		fmt.Fprintf(&s, "  %-15s %s", v.Name, strings.Join(v.KeyVars, " or "))
		if f := (fleet{catalog: known}); v.Protocol() == catalog.ProtocolAzure || err == nil && !f.knows(v.Name) {
			s.WriteString(" (its models have to be named in the configuration)")
		}
		s.WriteByte('\n')
	}
	s.WriteString(`
Amazon Bedrock also takes AWS_REGION, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN where it is configured; Azure AZURE_API_BASE and AZURE_API_VERSION, and ollama OLLAMA_BASE_URL. Gemini on Vertex AI (google-vertex) is served where GOOGLE_APPLICATION_CREDENTIALS names the file of a service account's key and GOOGLE_VERTEX_LOCATION says where; GOOGLE_VERTEX_PROJECT is the account's own unless it is set. Any other OpenAI-compatible endpoint is one of providers in the configuration.

TRADEWIND_CONFIG, TRADEWIND_LISTEN (or PORT) and TRADEWIND_DATA_DIR stand for the flags; TRADEWIND_LOG_LEVEL is DEBUG, INFO, WARN or ERROR. With OTEL_EXPORTER_OTLP_ENDPOINT every request is a trace.`)
	return s.String()
}

// server is everything that runs, in the order in which it is taken down.
type server struct {
	*stores
	http    *http.Server
	gateway *serving.Gateway
	keeper  *serving.Keeper
	export  *otlp.Export
	log     *slog.Logger
	// notice and drain are the waits of a shutdown; cut ends the requests that are open after them.
	notice, drain time.Duration
	cut           context.CancelCauseFunc
	// hurry, once closed, ends those waits.
	hurry <-chan struct{}
	// watch follows the registry; nil where an artifact was named that is in none.
	watch func(context.Context)
	// current is the configuration in service, hangup what tells it to be read again.
	current   *inService
	hangup    <-chan os.Signal
	pollEvery time.Duration
}

// Run serves until the context ends, then drains, seals and closes.
func (s *serveCmd) Run(ctx context.Context, m *Main) error {
	c, err := s.config(m)
	if err != nil {
		return err
	}
	tune(m.Getenv, c)
	f, err := assemble(c, m.Getenv, time.Now(), nil)
	if err != nil {
		return err
	}
	srv, intro, err := build(ctx, m, c, f)
	if err != nil {
		return err
	}
	srv.current.load = func() (*config, error) { return s.config(m) }
	defer func() { _ = srv.stores.Close() }()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; choose another address with --listen", c.Listen, err)
	}
	if f.simulated {
		for _, name := range unnamed(m.Getenv) {
			intro = append([]string{name + " is not served: nobody knows which models it has; name them under `models:` of it in a configuration"}, intro...)
		}
		intro = append([]string{"no provider key is set: serving three simulated arms whose answers are made up (set OPENAI_API_KEY or another, see tradewind serve --help)"}, intro...)
	}
	greet(m.Stdout, listener.Addr().String(), intro, len(c.Keys) > 0)
	if m.Ready != nil {
		m.Ready(listener.Addr().String())
	}
	return srv.run(ctx, listener)
}

func (s *serveCmd) config(m *Main) (*config, error) {
	c, err := loadConfig(s.Config, m.Getenv, func(c *config) {
		if s.Listen != "" {
			c.Listen = s.Listen
		}
		if s.DataDir != "" {
			c.DataDir = s.DataDir
		}
		if s.Artifact != "" {
			c.Router.Artifact = s.Artifact
		}
	})
	return c, err
}

// tune trades some memory for less garbage collection, since what a gateway allocates dies young. Where every request waits for
// an fsync it keeps processors of the scheduler in reserve: one whose goroutine waits for a disk is missed for milliseconds
// before the scheduler takes it away. Elsewhere they would only cost: with one to spare each goroutine that becomes ready wakes
// a thread.
func tune(getenv func(string) string, c *config) {
	if journal.Sync(c.Journal.Sync) == journal.Always && getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS()
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spareProcs)
	}
	if getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

func newLogger(w io.Writer, getenv func(string) string, secrets []telemetry.Secret) *telemetry.Handler {
	level := slog.LevelInfo
	if err := level.UnmarshalText([]byte(getenv("TRADEWIND_LOG_LEVEL"))); err != nil {
		level = slog.LevelInfo
	}
	return telemetry.NewHandler(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}), secrets...)
}

// build wires the gateway. What it says in intro is for the person who started it.
func build(ctx context.Context, m *Main, c *config, f *fleet) (*server, []string, error) {
	trained, registry, err := openRouter(ctx, m, c, f)
	if err != nil {
		return nil, nil, err
	}
	handler := newLogger(m.Stderr, m.Getenv, f.secrets)
	log := slog.New(handler)
	current := &inService{getenv: m.Getenv, now: time.Now, log: log, secrets: handler, trained: trained}
	settings, intro, err := current.prepare(c, f)
	if err != nil {
		return nil, nil, err
	}
	limits, err := quota.New(quota.Options{})
	if err != nil {
		return nil, nil, err
	}
	capacity, err := quota.NewCapacity(c.Capacity.options())
	if err != nil {
		return nil, nil, err
	}
	metrics := newMetrics(c)
	held, err := openStores(c, log, metrics)
	if err != nil {
		return nil, nil, err
	}
	sealer := held.sealer
	if n := len(sealer.Journal.Recovered().Unknown); n > 0 {
		intro = append(intro, fmt.Sprintf("recovered the log of a process that was killed: %d rounds were open and are closed as unknown", n))
	}
	intro = append(intro, noBooks(sealer, c.DataDir)...)
	export, err := startExport(ctx, m, handler, log, metrics)
	if err != nil {
		return nil, nil, errors.Join(err, held.Close())
	}
	g, err := serving.New(serving.Options{
		Settings: settings, Quota: limits, Capacity: capacity, Ledger: held.books, Books: held.books, Sessions: c.Sessions.options(),
		Journal: sealer.Journal, Sealed: sealer.Log, Idempotency: held.keys, Metrics: metrics, MetricsOpen: loopback(c.Listen) || c.Metrics.Public,
		Log: log, Tracing: export.Tracing, Redact: handler.Redact,
	})
	if err != nil {
		return nil, nil, errors.Join(err, held.Close())
	}
	current.gateway, current.metrics = g, metrics
	current.took(c, f, &settings)
	metrics.ConfigReloaded(true)
	watchAll(metrics, current, held)
	srv := &server{stores: held, export: export, gateway: g, log: log, current: current, hangup: m.Hangup, hurry: m.Hurry, pollEvery: m.PollEvery}
	srv.keep(m, c)
	if registry != nil {
		w := &routerWatch{current: current, metrics: metrics, log: log, every: m.PollEvery}
		if trained != nil {
			w.promoted = trained.Digest()
		}
		srv.watch = func(ctx context.Context) { w.run(ctx, registry) }
	}
	srv.notice, srv.drain = c.Shutdown.waits()
	srv.listens(log)
	return srv, intro, nil
}

// listens makes the HTTP server of the main listener.
func (s *server) listens(log *slog.Logger) {
	requests, cut := context.WithCancelCause(context.Background())
	s.cut = cut
	s.http = &http.Server{
		BaseContext: func(net.Listener) context.Context { return requests },
		Handler:     s.gateway.Handler(), MaxHeaderBytes: headerBytesMax, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// keep has the log kept, and the heavy part of that and of sealing done by a child process where there may be one.
func (s *server) keep(m *Main, c *config) {
	s.keeper = &serving.Keeper{Log: s.sealer.Log, RetentionDays: c.Log.RetentionDays, Logger: s.log}
	if m.Self != "" {
		child := &aside.Parent{Path: m.Self, Args: []string{"tradewind", asideCommand}, Logger: s.log}
		s.sealer.Prepare, s.keeper.Merge = child.Seal, child.Merge
	}
}

func newMetrics(c *config) *telemetry.Metrics {
	m := telemetry.NewMetrics(nil)
	if c.Metrics.TenantLabels {
		m = telemetry.NewTenantMetrics(nil)
	}
	m.SetBuild(version())
	return m
}

// startExport sends traces and metrics where the environment names a collector.
func startExport(ctx context.Context, m *Main, secrets *telemetry.Handler, log *slog.Logger, metrics *telemetry.Metrics) (*otlp.Export, error) {
	if !otlp.Enabled(m.Getenv) {
		return &otlp.Export{}, nil
	}
	e, err := otlp.Start(ctx, otlp.Options{Getenv: m.Getenv, Version: version(), Redact: secrets.Redact, Log: log})
	if err != nil {
		return nil, err
	}
	metrics.WatchQueues(func() map[string]telemetry.Queue { return map[string]telemetry.Queue{"trace": e.Queue()} })
	return e, nil
}

// watchAll registers the gauges that are read when somebody looks.
func watchAll(m *telemetry.Metrics, s *inService, open *stores) {
	m.WatchPriceAges(s.priceAges)
	m.WatchBadKeys(s.badKeys)
	m.WatchHealth(s.gateway.Health)
	m.WatchBudgets(s.gateway.Budgets)
	m.WatchHolds(func() map[string]telemetry.Holds {
		all := map[string]telemetry.Holds{}
		for scope, h := range open.books.Holds() {
			all[scope] = telemetry.Holds(h)
		}
		return all
	})
	m.WatchLog(func() (bytes int64, waiting int) {
		for _, p := range open.sealer.Log.Parts() {
			bytes += p.Bytes
		}
		return bytes, open.sealer.Journal.Waiting()
	})
	m.WatchKeys(func() telemetry.Keys {
		st := open.keys.Stats()
		return telemetry.Keys{Kept: st.Keys, Bytes: st.Bytes, Results: st.Results}
	})
}

// stores are what of the data directory is open.
type stores struct {
	sealer *serving.Sealer
	books  *ledger.Memory
	keys   *idempotency.Store
}

// openStores opens them in the order in which they rest on each other.
func openStores(c *config, log *slog.Logger, metrics *telemetry.Metrics) (*stores, error) {
	sealer, err := openLog(c, log, metrics)
	if err != nil {
		return nil, err
	}
	s := &stores{sealer: sealer}
	if s.books, err = openBooks(sealer); err == nil {
		// under the journal's lock
		s.keys, err = idempotency.Open(filepath.Join(c.DataDir, "idempotency"), c.Idempotency.options(journal.Sync(c.Journal.Sync)))
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close lets the next process have the data directory.
func (s *stores) Close() error {
	var err error
	if s.keys != nil {
		err = s.keys.Close()
	}
	return errors.Join(err, s.sealer.Log.Close(), s.sealer.Journal.Close())
}

// openBooks rebuilds the ledger from its checkpoint and the journal.
func openBooks(s *serving.Sealer) (*ledger.Memory, error) {
	opening, err := serving.Opening(s.Books, s.Journal)
	if err != nil {
		return nil, err
	}
	return ledger.NewMemory(ledger.Options{Opening: opening})
}

// openLog opens the journal, the checkpoint of the ledger and the sealed log. The checkpoint is read under the journal's
// lock, so that no other process writes it.
func openLog(c *config, log *slog.Logger, metrics *telemetry.Metrics) (*serving.Sealer, error) {
	closed := make(chan struct{}, 1)
	var books *ledger.Checkpoint
	j, err := journal.Open(filepath.Join(c.DataDir, "journal"), journal.Options{
		Sync: journal.Sync(c.Journal.Sync), SegmentMaxBytes: c.Journal.SegmentBytes,
		After: func() (after uint64, err error) {
			if books, err = ledger.OpenCheckpoint(nil, checkpointOf(c.DataDir)); err != nil {
				return 0, err
			}
			return books.Through(), nil
		},
		Closed: func() {
			select {
			case closed <- struct{}{}:
			default: // one wake-up is enough
			}
		},
	})
	if err != nil {
		return nil, unusable(c.DataDir, err)
	}
	sealed, err := openLogAlone(filepath.Join(c.DataDir, "log"))
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return &serving.Sealer{Journal: j, Log: sealed, Books: books, Closed: closed, Logger: log, Sealed: metrics.SegmentWritten}, nil
}

// unusable says what to do about a data directory that another process has, or that this one may not write.
func unusable(dir string, err error) error {
	var busy *journal.LockedError
	switch {
	case errors.As(err, &busy):
		return fmt.Errorf("the data directory %s is in use by process %d; stop it, or choose another with --data-dir", dir, busy.PID)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the data directory %s cannot be used: %w; let this user read and write there, or choose another with --data-dir", dir, err)
	}
	return err
}

// joined puts a trained router together with the arms that are served. One that knows none of them, such as the
// demonstration router once a provider's key is set, is left aside.
func joined(f *fleet, trained *classifier.Classifier) (*serving.Router, []string, error) {
	r, err := serving.NewRouter(f.arms, trained)
	if err != nil {
		return nil, nil, err
	}
	if trained == nil || !r.KnowsNone() {
		return r, describeRouter(r, trained), nil
	}
	if r, err = serving.NewRouter(f.arms, nil); err != nil {
		return nil, nil, err
	}
	aside := fmt.Sprintf("the promoted router %s knows none of the served models and is not used", trained.Digest())
	return r, append([]string{aside}, describeRouter(r, nil)...), nil
}

func describeRouter(r *serving.Router, trained *classifier.Classifier) []string {
	if trained == nil {
		return []string{fmt.Sprintf("no router is trained yet: the default one (%s) goes by the tiers of the models, and certifies nothing; fallback %s (see: tradewind models show default, tradewind train --help)", r.Version(), r.Fallback())}
	}
	lines := []string{fmt.Sprintf("router %s, fallback %s", r.Version(), r.Fallback())}
	if n := len(r.Unmeasured()); n > 0 {
		lines = append(lines, fmt.Sprintf("%d of the served models were not in its training data; they serve when named", n))
	}
	return lines
}

// greet tells the person at the terminal what is served and what to type next.
func greet(w io.Writer, addr string, intro []string, keys bool) {
	for _, line := range intro {
		fmt.Fprintln(w, line)
	}
	auth := ""
	if keys {
		auth = " \\\n  -H 'Authorization: Bearer '\"$TRADEWIND_KEY\""
	}
	fmt.Fprintf(w, "listening on http://%s/v1 (models: GET /v1/models, metrics: GET /metrics). Try:\n\n", addr)
	fmt.Fprintf(w, "curl -i http://%s/v1/chat/completions%s \\\n  -H 'Content-Type: application/json' \\\n", addr, auth)
	fmt.Fprintf(w, "  -d '{\"model\": \"auto\", \"messages\": [{\"role\": \"user\", \"content\": \"What is 17 times 23?\"}]}'\n\n")
}

// shutdown drains: readiness goes first, then the listener, and open requests may finish. Those that do not in time are
// told why they end. A second signal ends the waits, not the telling.
func (s *server) shutdown(failed <-chan error) error {
	s.log.Info("shutting down once open requests have ended; a second signal ends them", "notice", s.notice, "drain", s.drain)
	s.gateway.Drain()
	hurried, hurry := context.WithCancel(context.Background())
	defer hurry()
	go func() {
		select {
		case <-s.hurry:
			hurry()
		case <-hurried.Done():
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-time.After(s.notice):
	case <-hurried.Done():
	}
	for _, w := range [...]struct {
		within context.Context
		wait   time.Duration
	}{{hurried, s.drain}, {context.Background(), tellFor}} {
		ctx, cancel := context.WithTimeout(w.within, w.wait)
		err := s.http.Shutdown(ctx)
		cancel()
		if err == nil {
			return nil
		}
		s.log.Warn("requests were still open at the end of the drain", "error", err)
		s.cut(serving.ErrDrained)
		s.gateway.Cut()
	}
	return s.http.Close()
}

// run serves until the context ends, shuts down, and seals the log.
func (s *server) run(ctx context.Context, l net.Listener) error {
	background, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { s.sealer.Run(background) })
	work.Go(func() { s.keeper.Run(background) })
	work.Go(func() { s.gateway.ExpireHolds(background) })
	work.Go(func() { s.keys.Run(background) })
	work.Go(func() { s.current.watch(background, s.hangup, s.pollEvery) })
	if s.watch != nil {
		work.Go(func() { s.watch(background) })
	}
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(l) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		err = s.shutdown(failed)
	}
	stop()
	work.Wait()
	flush, cancel := context.WithTimeout(context.Background(), otlp.FlushMax)
	defer cancel()
	if err := s.export.Close(flush); err != nil {
		s.log.Warn("the last spans were not sent", "error", err)
	}
	if sealErr := s.sealer.Finish(context.Background()); sealErr != nil {
		err = errors.Join(err, fmt.Errorf("sealing the log at shutdown: %w", sealErr))
	}
	return err
}
