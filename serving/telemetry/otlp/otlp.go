// Package otlp sends traces and metrics to an OpenTelemetry collector, with the official SDK and as the standard OTEL_*
// variables say. It decides on nothing: what is told of a request is package telemetry's, and when it is told serving's.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

// queueMax is how many spans wait for the collector where OTEL_BSP_MAX_QUEUE_SIZE says nothing: the SDK's own figure.
const queueMax = 2048

// FlushMax is how long a server waits at its end for the collector.
const FlushMax = 5 * time.Second

// Options say who sends. Getenv tells whether anything is sent, and how; what the SDK reads of the variables beside that
// (headers, certificates, sampler, batches) it takes from the process's own environment.
type Options struct {
	Getenv  func(string) string
	Version string
	Redact  func(string) string
	// Log is told what the SDK cannot do; nil is the SDK's own way, which is standard error.
	Log *slog.Logger
}

// Enabled reports whether a collector is named.
func Enabled(getenv func(string) string) bool {
	return getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" && !strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true")
}

// secretMin is the length from which a header's value counts as a secret: a word like "prod" is none, and would be cut out of
// every line of the log.
const secretMin = 8

// Secrets are what the variables hold that must not be logged: the values of headers.
func Secrets(getenv func(string) string) (all []telemetry.Secret) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS"} {
		for pair := range strings.SplitSeq(getenv(name), ",") {
			if _, value, ok := strings.Cut(pair, "="); ok && len(strings.TrimSpace(value)) >= secretMin {
				value = strings.TrimSpace(value)
				all = append(all, telemetry.Secret(value))
				if plain, err := url.PathUnescape(value); err == nil && plain != value { // as it is sent
					all = append(all, telemetry.Secret(plain))
				}
			}
		}
	}
	return all
}

// Export is what sends, and the queue before it.
type Export struct {
	Tracing *telemetry.Tracing
	queue   *queue
	close   []func(context.Context) error
}

// Start begins to send.
func Start(ctx context.Context, o Options) (*Export, error) {
	of, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "tradewind"), attribute.String("service.version", o.Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("otlp: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if o.Log != nil {
		otel.SetLogger(logr.FromSlogHandler(o.Log.Handler()))
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { o.Log.Warn("OpenTelemetry", "error", err) }))
	}
	e := &Export{queue: &queue{max: queueMax}}
	if n, err := strconv.Atoi(o.Getenv("OTEL_BSP_MAX_QUEUE_SIZE")); err == nil && n > 0 {
		e.queue.max = int64(n)
	}
	to := telemetry.TracingOptions{Traces: tracenoop.NewTracerProvider(), Metrics: metricnoop.NewMeterProvider(), Redact: o.Redact}
	if o.wants("TRACES") {
		if err := e.traces(ctx, &o, of, &to); err != nil {
			return nil, err
		}
	}
	if o.wants("METRICS") {
		if err := e.metrics(ctx, &o, of, &to); err != nil {
			return nil, errors.Join(err, e.Close(ctx))
		}
	}
	e.Tracing, err = telemetry.NewTracing(to)
	return e, err
}

// wants reports whether a signal is sent.
func (o *Options) wants(signal string) bool {
	return !strings.EqualFold(o.Getenv("OTEL_"+signal+"_EXPORTER"), "none")
}

// grpc reports by which protocol a signal is sent.
func (o *Options) grpc(signal string) (bool, error) {
	protocol := o.Getenv("OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL")
	if protocol == "" {
		protocol = o.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	switch protocol {
	case "", "http/protobuf":
		return false, nil
	case "grpc":
		return true, nil
	}
	return false, fmt.Errorf("otlp: OTEL_EXPORTER_OTLP_PROTOCOL is %q, want http/protobuf or grpc", protocol)
}

func (e *Export) traces(ctx context.Context, o *Options, of *resource.Resource, to *telemetry.TracingOptions) error {
	grpc, err := o.grpc("TRACES")
	if err != nil {
		return err
	}
	client := otlptracehttp.NewClient()
	if grpc {
		client = otlptracegrpc.NewClient()
	}
	exporter, err := otlptrace.New(ctx, client)
	if err != nil {
		return fmt.Errorf("otlp: %w", err)
	}
	e.queue.exporter = exporter
	e.queue.batches = sdktrace.NewBatchSpanProcessor(e.queue, sdktrace.WithMaxQueueSize(int(e.queue.max)))
	p := sdktrace.NewTracerProvider(sdktrace.WithResource(of), sdktrace.WithSpanProcessor(processor{e.queue}))
	to.Traces = p
	e.close = append(e.close, p.Shutdown)
	return nil
}

func (e *Export) metrics(ctx context.Context, o *Options, of *resource.Resource, to *telemetry.TracingOptions) error {
	grpc, err := o.grpc("METRICS")
	if err != nil {
		return err
	}
	var exporter sdkmetric.Exporter
	if grpc {
		exporter, err = otlpmetricgrpc.New(ctx)
	} else {
		exporter, err = otlpmetrichttp.New(ctx)
	}
	if err != nil {
		return fmt.Errorf("otlp: %w", err)
	}
	p := sdkmetric.NewMeterProvider(sdkmetric.WithResource(of), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	to.Metrics = p
	e.close = append(e.close, p.Shutdown)
	return nil
}

// Queue is the queue of spans as it stands.
func (e *Export) Queue() telemetry.Queue {
	return telemetry.Queue{Length: int(e.queue.waiting.Load()), Dropped: e.queue.dropped.Load()}
}

// Close sends what waits, in the time that the context gives.
func (e *Export) Close(ctx context.Context) error {
	var err error
	for _, stop := range e.close {
		err = errors.Join(err, stop(ctx))
	}
	return err
}

// queue stands around the SDK's own, on either side of it: it admits no more spans than fit, so that none is lost without
// being counted, and sees which of them the collector takes.
type queue struct {
	exporter         sdktrace.SpanExporter
	batches          sdktrace.SpanProcessor
	max              int64
	waiting, dropped atomic.Int64
}

// ExportSpans sends a batch.
func (q *queue) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := q.exporter.ExportSpans(ctx, spans)
	q.waiting.Add(-int64(len(spans)))
	if err != nil {
		q.dropped.Add(int64(len(spans)))
	}
	return err
}

// Shutdown ends the exporter.
func (q *queue) Shutdown(ctx context.Context) error { return q.exporter.Shutdown(ctx) }

// processor is the queue's entrance.
type processor struct{ q *queue }

// OnStart does nothing.
func (processor) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd admits a span, or drops it.
func (p processor) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if p.q.waiting.Add(1) > p.q.max {
		p.q.waiting.Add(-1)
		p.q.dropped.Add(1)
		return
	}
	p.q.batches.OnEnd(s)
}

// Shutdown sends what waits. What is left when the time is over is lost, and counted.
func (p processor) Shutdown(ctx context.Context) error {
	err := p.q.batches.Shutdown(ctx)
	if err != nil {
		p.q.dropped.Add(p.q.waiting.Swap(0))
	}
	return err
}

// ForceFlush sends what waits.
func (p processor) ForceFlush(ctx context.Context) error { return p.q.batches.ForceFlush(ctx) }
