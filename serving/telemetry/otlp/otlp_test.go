package otlp

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/tradewind-llm/tradewind/serving/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spans and metrics are a collector's services.
type spans struct {
	tracepb.UnimplementedTraceServiceServer
	n atomic.Int64
}

func (s *spans) Export(_ context.Context, r *tracepb.ExportTraceServiceRequest) (*tracepb.ExportTraceServiceResponse, error) {
	for _, rs := range r.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			s.n.Add(int64(len(ss.Spans)))
		}
	}
	return &tracepb.ExportTraceServiceResponse{}, nil
}

type points struct {
	metricspb.UnimplementedMetricsServiceServer
	n atomic.Int64
}

func (p *points) Export(_ context.Context, r *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	for _, rm := range r.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			p.n.Add(int64(len(sm.Metrics)))
		}
	}
	return &metricspb.ExportMetricsServiceResponse{}, nil
}

// TestVariables: what the standard variables turn off is not sent, what they leave on is; over gRPC, since everything else is
// tested over HTTP.
func TestVariables(t *testing.T) {
	for name, test := range map[string]struct {
		env           map[string]string
		spans, points int64
	}{
		"both":        {nil, 1, 2},
		"no traces":   {map[string]string{"OTEL_TRACES_EXPORTER": "none"}, 0, 2},
		"no metrics":  {map[string]string{"OTEL_METRICS_EXPORTER": "none"}, 1, 0},
		"no sampling": {map[string]string{"OTEL_TRACES_SAMPLER": "always_off"}, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var s spans
			var p points
			server := grpc.NewServer()
			tracepb.RegisterTraceServiceServer(server, &s)
			metricspb.RegisterMetricsServiceServer(server, &p)
			go func() { _ = server.Serve(l) }()
			defer server.Stop()
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
			for name, v := range test.env {
				t.Setenv(name, v)
			}
			if !Enabled(os.Getenv) {
				t.Fatal("not enabled")
			}
			e, err := Start(t.Context(), Options{Getenv: os.Getenv})
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			e.Tracing.Tell(&telemetry.Exchange{Surface: "chat", Began: now, Ended: now.Add(time.Second), Attempts: []telemetry.Call{}})
			e.Tracing.Tell(&telemetry.Exchange{Surface: "embeddings", Began: now, Ended: now, Attempts: []telemetry.Call{{Provider: "azure", Began: now}}})
			if err := e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if q := e.Queue(); q.Length != 0 || q.Dropped != 0 {
				t.Errorf("the queue has %+v", q)
			}
			if want := 3 * test.spans; s.n.Load() != want || p.n.Load() != test.points {
				t.Errorf("%d spans and %d metrics came, want %d and %d", s.n.Load(), p.n.Load(), want, test.points)
			}
		})
	}
	for name, off := range map[string]map[string]string{
		"no address": {"OTEL_SERVICE_NAME": "x"}, "disabled": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
	} {
		if Enabled(func(n string) string { return off[n] }) {
			t.Errorf("%s: enabled", name)
		}
	}
}

func TestSecrets(t *testing.T) {
	got := Secrets(func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer abc=, x-team = t ,x-key=0123456789 "}[name]
	})
	if len(got) != 2 || got[0].Reveal() != "Bearer abc=" || got[1].Reveal() != "0123456789" {
		t.Errorf("%d secrets", len(got))
	}
}
